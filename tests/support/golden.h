/* Golden folders for tests: tests/fixtures/golden/NAME first (in every clone), then
 * ../shared/golden/NAME beside the checkout (where there is one). */
#ifndef CRANK_TESTS_GOLDEN_H
#define CRANK_TESTS_GOLDEN_H

#include <stdint.h>

#include "weights/safetensors.h"

typedef struct golden {
    char dir[512];
    safetensors *file; /* its golden.safetensors */
} golden;

/* The path of golden folder `name` into dir[512]; 0 when it is nowhere. name may be any path below
 * golden/, e.g. "tokenizer/wordpiece". */
int golden_find(char dir[512], const char *name);
/* 1 done; 0 the folder is nowhere: says "SKIPPED: golden NAME ..." on stderr, and the test should
 * return. A folder that is there but cannot be read aborts the test. */
int golden_open(golden *g, const char *name);
void golden_close(golden *g);

/* The tensor's elements in malloc'ed memory (free() it), its shape in rows and columns (rank 1:
 * columns 1; higher ranks: rows is the first dimension). rows and cols may be NULL. A tensor that
 * is absent or of another dtype aborts the test; golden_has asks first. */
int golden_has(const golden *g, const char *tensor);
float *golden_f32(const golden *g, const char *tensor, int64_t *rows, int64_t *cols);
double *golden_f64(const golden *g, const char *tensor, int64_t *rows, int64_t *cols);
int32_t *golden_i32(const golden *g, const char *tensor, int64_t *rows, int64_t *cols);

/* The largest |a - b|; NaN when there is one on either side. */
double golden_max_difference(const float *a, const float *b, int64_t n);

#endif
