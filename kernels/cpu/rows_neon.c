/* The row kernels for AArch64. */
#if defined(__aarch64__)
#include "kernels/cpu/v16_neon.h"

#include "kernels/cpu/rows_body.h"
#else
typedef int cpu_not_this_machine;
#endif
