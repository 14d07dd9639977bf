/* gemm.cuh for f16. */
#include "kernels/cuda/gemm.cuh"

GEMM_KERNELS(GEMM_KERNEL, f16, f16)
GEMM_NORM_KERNELS(GEMM_NORM_KERNEL, f16, f16)
