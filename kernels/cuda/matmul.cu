/* What cuBLASLt needs around it: the bias and activation that follow its plain GEMM (its own GELU
 * is the tanh form), and the check of its rows at load.
 *
 * bias_act: sums come in f32 and are rounded once, after the activation, as in the own GEMM's
 * epilogue: 6 bytes an element, bound by memory.
 *
 * rows_spread, rows_compare: row i of a test is base row (5 i + i / 16) mod 16, so every base row
 * comes at every place of a tile and in every tile. Bits are compared, not numbers. */
#include "kernels/cuda/activations.cuh"
#include "kernels/cuda/args.h"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/rows.cuh"

namespace crank
{

/* Grid: (rows, ceil(ld / 1024)), block: 256; a thread 4 columns. */
template <class T> __device__ __forceinline__ void bias_act(const bias_act_args &a)
{
    begin_after();
    const int row = blockIdx.x, column = (blockIdx.y * 256 + threadIdx.x) * 4;
    if (row >= count_of(a.n_rows) || column >= a.ld) return;
    const size_t at = static_cast<size_t>(row) * a.ld + column;
    const float4 sum = *reinterpret_cast<const float4 *>(a.sums + at);
    const float4 bias = __ldg(reinterpret_cast<const float4 *>(a.bias + column));
    const float2 low = activate(make_float2(sum.x + bias.x, sum.y + bias.y), a.activation);
    const float2 high = activate(make_float2(sum.z + bias.z, sum.w + bias.w), a.activation);
    *reinterpret_cast<uint2 *>(static_cast<uint16_t *>(a.rows) + at) =
        make_uint2(T::pack(low.x, low.y), T::pack(high.x, high.y));
}

__device__ __forceinline__ int base_row(int i)
{
    return (5 * i + i / ROW_CHECK_ROWS) % ROW_CHECK_ROWS;
}

} // namespace crank

using namespace crank;

extern "C" __global__ void __launch_bounds__(256)
    bias_act_f16(const __grid_constant__ bias_act_args a)
{
    bias_act<f16>(a);
}

extern "C" __global__ void __launch_bounds__(256)
    bias_act_bf16(const __grid_constant__ bias_act_args a)
{
    bias_act<bf16>(a);
}

/* Grid: rows, block: 128. */
extern "C" __global__ void __launch_bounds__(128)
    rows_spread(const __grid_constant__ row_check_args a)
{
    begin_after();
    const int row = blockIdx.x;
    const uint4 *from =
        static_cast<const uint4 *>(a.base) + static_cast<size_t>(base_row(row)) * a.vectors;
    uint4 *to = static_cast<uint4 *>(a.rows) + static_cast<size_t>(row) * a.vectors;
    for (int i = threadIdx.x; i < a.vectors; i += 128) to[i] = from[i];
}

/* The number of vectors that differ is added to *n_different. Grid: rows, block: 128. */
extern "C" __global__ void __launch_bounds__(128)
    rows_compare(const __grid_constant__ row_check_args a)
{
    begin_after();
    const int row = blockIdx.x;
    const uint4 *base =
        static_cast<const uint4 *>(a.base) + static_cast<size_t>(base_row(row)) * a.vectors;
    const uint4 *found = static_cast<const uint4 *>(a.rows) + static_cast<size_t>(row) * a.vectors;
    unsigned different = 0;
    for (int i = threadIdx.x; i < a.vectors; i += 128) {
        const uint4 x = base[i], y = found[i];
        different += x.x != y.x || x.y != y.y || x.z != y.z || x.w != y.w;
    }
    if (different != 0) atomicAdd(a.n_different, different);
}
