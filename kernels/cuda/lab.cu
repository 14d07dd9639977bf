/* What this GPU can do at most through the instructions that the kernels use: mma.sync on
 * registers, and 16-byte copies. Benchmarks alone launch these. */
#include "kernels/cuda/args.h"
#include "kernels/cuda/ptx.cuh"

namespace crank
{

/* An iteration is 8 independent mma, which hide each other's latency. The sum is stored only when
 * it is a number that it will not be: what is computed must not be optimised away. */
template <class T> __device__ __forceinline__ void peak_mma(const peak_args &a)
{
    typedef typename mma<T>::accumulator acc;
    acc c[8][4];
    uint32_t fa[4], fb[2];
#pragma unroll
    for (int i = 0; i < 4; i++) fa[i] = threadIdx.x * 4 + i;
    fb[0] = threadIdx.x, fb[1] = blockIdx.x;
#pragma unroll
    for (int i = 0; i < 8; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) c[i][j] = 0;
#pragma unroll 1
    for (int n = 0; n < a.iterations; n++)
#pragma unroll
        for (int i = 0; i < 8; i++) mma<T>::run(c[i], fa, fb[0], fb[1]);
    acc sum = 0;
#pragma unroll
    for (int i = 0; i < 8; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) sum += c[i][j];
    if (sum == static_cast<acc>(-12345)) static_cast<int32_t *>(a.target)[0] = 1;
}

} // namespace crank

#define PEAK_MMA(name, type)                                                                       \
    extern "C" __global__ void __launch_bounds__(256)                                              \
        peak_mma_##name(const __grid_constant__ peak_args a)                                       \
    {                                                                                              \
        crank::peak_mma<crank::type>(a);                                                           \
    }
PEAK_MMA(f16, f16)
PEAK_MMA(bf16, bf16)
PEAK_MMA(int8, int8)

/* Grid-stride copy, four loads in flight a thread. */
extern "C" __global__ void __launch_bounds__(256) peak_copy(const __grid_constant__ peak_args a)
{
    const uint4 *from = static_cast<const uint4 *>(a.source);
    uint4 *to = static_cast<uint4 *>(a.target);
    const int stride = gridDim.x * blockDim.x;
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    for (; i + 3 * stride < a.n_vectors; i += 4 * stride) {
        const uint4 v0 = from[i], v1 = from[i + stride], v2 = from[i + 2 * stride],
                    v3 = from[i + 3 * stride];
        to[i] = v0, to[i + stride] = v1, to[i + 2 * stride] = v2, to[i + 3 * stride] = v3;
    }
    for (; i < a.n_vectors; i += stride) to[i] = from[i];
}
