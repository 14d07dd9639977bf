/* gemm.cuh for int8: exact int32 sums, scales and bias in f32, f16 results. */
#include "kernels/cuda/gemm.cuh"

GEMM_KERNELS(GEMM_KERNEL, int8, int8)
GEMM_NORM_KERNELS(GEMM_NORM_KERNEL, int8, int8)
