/* attention.cuh for bf16. */
#include "kernels/cuda/attention.cuh"

ATTENTION_WIDTHS(ATTENTION_KERNEL, bf16)
