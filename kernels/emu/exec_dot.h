#ifndef CRANK_EMU_EXEC_DOT_H
#define CRANK_EMU_EXEC_DOT_H

#include <stddef.h>

/* out[0..3] = a . b[j], rows of b `stride` floats apart; n a multiple of DOT_MULTIPLE. */
#define DOT_MULTIPLE 16
typedef void (*dot_function)(float *out, const float *a, const float *b, size_t stride, size_t n);

dot_function ops_dot(void); /* the best of this host */

#endif
