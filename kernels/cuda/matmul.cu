/* What cuBLASLt needs around it: the bias and activation that follow its plain GEMM (its own GELU
 * is the tanh form), and the check of its rows at load.
 *
 * bias_act: bytes of one activation tensor in and out, bound by memory. The value comes in rounded
 * to 16 bits once more than in the own GEMM's epilogue; bias and activation are f32.
 *
 * rows_spread, rows_compare: row i of a test is base row (5 i + i / 16) mod 16, so every base row
 * comes at every place of a tile and in every tile. Bits are compared, not numbers. */
#include "kernels/cuda/activations.cuh"
#include "kernels/cuda/args.h"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/rows.cuh"

namespace crank
{

/* Grid: (rows, ceil(ld / 2048)), block: 256; a thread 8 columns. */
template <class T> __device__ __forceinline__ void bias_act(const bias_act_args &a)
{
    begin_after();
    const int row = blockIdx.x, column = (blockIdx.y * 256 + threadIdx.x) * 8;
    if (row >= count_of(a.n_rows) || column >= a.ld) return;
    uint4 *at = reinterpret_cast<uint4 *>(static_cast<uint16_t *>(a.rows) +
                                          static_cast<size_t>(row) * a.ld + column);
    float v[8], bias[8];
    unpack8<T>(v, *at);
    load8_f32(bias, a.bias + column, 8, true);
#pragma unroll
    for (int i = 0; i < 8; i += 2) {
        const float2 y =
            activate(make_float2(v[i] + bias[i], v[i + 1] + bias[i + 1]), a.activation);
        v[i] = y.x, v[i + 1] = y.y;
    }
    *at = pack8<T>(v);
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
