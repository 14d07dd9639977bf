/* The row kernels for AVX-512 with its BF16 conversions. */
#if defined(__AVX512BF16__)
#include "kernels/cpu/v16_avx512.h"

#include "kernels/cpu/rows_body.h"
#else
typedef int cpu_not_this_machine;
#endif
