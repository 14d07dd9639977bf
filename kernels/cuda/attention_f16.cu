/* attention.cuh for f16. */
#include "kernels/cuda/attention.cuh"

ATTENTION_WIDTHS(ATTENTION_KERNEL, f16)
