/* gemm.cuh for bf16. */
#include "kernels/cuda/gemm.cuh"

GEMM_KERNELS(GEMM_KERNEL, bf16, bf16)
GEMM_NORM_KERNELS(GEMM_NORM_KERNEL, bf16, bf16)
