/* The row kernels for AVX-512 (F, BW, DQ, VL). */
#if defined(__AVX512F__)
#include "kernels/cpu/v16_avx512.h"

#include "kernels/cpu/rows_body.h"
#else
typedef int cpu_not_this_machine;
#endif
