/* The row kernels for AVX2, FMA and F16C. */
#if defined(__AVX2__)
#include "kernels/cpu/v16_avx2.h"

#include "kernels/cpu/rows_body.h"
#else
typedef int cpu_not_this_machine;
#endif
