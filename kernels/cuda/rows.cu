/* Kernels whose unit is a row and whose limit is memory: embedding gather, norm (with gather of
 * first rows, broadcast and quantisation as special sources), gather of neighbours, pooling, L2-normalised vectors, and
 * the copy of a batch's integers. */
#include "kernels/cuda/catalog.h"
#include "kernels/cuda/rows.cuh"

namespace crank
{

/* v += 8 columns, from `column` on, of row `index` of a [*, cols] table in one of three types. */
__device__ __forceinline__ void add_table8(float (&v)[8], const void *table, int type, int index,
                                           int column, int cols, bool whole)
{
    if (table == nullptr) return;
    const size_t at = static_cast<size_t>(index) * cols + column;
    float w[8];
    if (type == ARGS_F32)
        load8_f32(w, static_cast<const float *>(table) + at, cols - column, whole);
    else if (type == ARGS_F16)
        load8_16<f16>(w, static_cast<const uint16_t *>(table) + at, cols - column, whole);
    else
        load8_16<bf16>(w, static_cast<const uint16_t *>(table) + at, cols - column, whole);
#pragma unroll
    for (int j = 0; j < 8; j++) v[j] += w[j];
}

/* The three ids of token t and the sum of their rows. */
struct embedding {
    const embed_args &a;
    int word, type, position;
    __device__ __forceinline__ embedding(const embed_args &args, int t)
        : a(args), word(args.ids[t]), type(args.type != nullptr ? args.types[t] : 0),
          position(args.position != nullptr ? args.positions[t] : 0)
    {
    }
    __device__ __forceinline__ void operator()(int chunk, float (&v)[8]) const
    {
        zero8(v);
        if (chunk * 8 >= a.cols) return;
        add_table8(v, a.word, a.table_type, word, chunk * 8, a.cols, a.vectors != 0);
        add_table8(v, a.type, a.table_type, type, chunk * 8, a.cols, a.vectors != 0);
        add_table8(v, a.position, a.table_type, position, chunk * 8, a.cols, a.vectors != 0);
    }
};

/* out[t] = norm(word[ids[t]] + type[types[t]] + position[positions[t]])
 * Grid: ceil(T / 4), block: 4 warps, a warp a row, in NV chunks a lane (0: any width). Added in f32
 * in that order.
 * Limit: memory, (3 table rows + 1 row) * 2 bytes a column. */
template <class T, int NV> __device__ __forceinline__ void embed_norm(const embed_args &a)
{
    begin_after();
    const int t = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
    if (t >= count_of(a.n_rows)) return;
    const embedding e(a, t);
    if constexpr (NV == 0) {
        finish_wide_row<T>(e, a.norm, a.out, t, a.cols, a.vectors != 0);
    } else {
        row<NV> r;
#pragma unroll
        for (int i = 0; i < NV; i++) e((threadIdx.x & 31) + 32 * i, r.v[i]);
        norm_row(r, a.cols, a.norm, a.vectors != 0);
        store_row<T>(r, a.out, t, a.cols);
    }
}

/* out[i] = norm(source[rows[i]] + other[i]), other perhaps absent, or norm(constant).
 * Grid: ceil(rows / 4), block: 4 warps, a warp a row; the row stays in registers between the two
 * passes of the statistics. Limit: memory, one read and one write of the row (plus its int8 form).
 */
template <class T, int NV> __device__ __forceinline__ void norm_rows(const row_args &a)
{
    begin_after();
    const int i = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
    if (i >= count_of(a.n_rows)) return;
    const int cols = a.cols;
    const bool whole = a.vectors != 0;
    const uint4 *source = reinterpret_cast<const uint4 *>(
        static_cast<const uint16_t *>(a.source) +
        static_cast<size_t>(a.rows != nullptr ? a.rows[i] : i) * ARGS_LD(cols));
    const uint4 *other =
        a.other == nullptr
            ? nullptr
            : reinterpret_cast<const uint4 *>(static_cast<const uint16_t *>(a.other) +
                                              static_cast<size_t>(i) * ARGS_LD(cols));
    auto load = [&](int chunk, float(&v)[8]) {
        if (a.constant != nullptr)
            load8_f32(v, a.constant + chunk * 8, cols - chunk * 8, whole);
        else if (chunk * 8 < cols)
            unpack8<T>(v, source[chunk]);
        else
            zero8(v);
        if (other == nullptr || chunk * 8 >= cols) return;
        float w[8];
        unpack8<T>(w, other[chunk]);
#pragma unroll
        for (int j = 0; j < 8; j++) v[j] += w[j];
    };
    if constexpr (NV == 0) {
        finish_wide_row<T>(load, a.norm, a.out, i, cols, whole);
    } else {
        row<NV> r;
#pragma unroll
        for (int k = 0; k < NV; k++) load((threadIdx.x & 31) + 32 * k, r.v[k]);
        norm_row(r, cols, a.norm, whole);
        store_row<T>(r, a.out, i, cols);
    }
}

/* operand, scale, zero of row i = int8 form of x[i]; any width (FFN rows are wide), so the row is
 * read twice and kept by the L1 cache instead of registers. Grid: ceil(rows / 4), block: 4 warps, a
 * warp a row. Limit: memory. */
template <class T> __device__ __forceinline__ void quantise_rows(const row_args &a)
{
    begin_after();
    const int i = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5), lane = threadIdx.x & 31;
    if (i >= count_of(a.n_rows)) return;
    const int ld = ARGS_LD(a.cols);
    const uint4 *p = reinterpret_cast<const uint4 *>(static_cast<const uint16_t *>(a.source) +
                                                     static_cast<size_t>(i) * ld);
    float v[8];
    codes code;
    for (int c = lane; c * 8 < ld; c += 32) {
        unpack8<T>(v, p[c]);
        code.include(v);
    }
    code.finish();
    uint2 *q = reinterpret_cast<uint2 *>(a.out.operand + static_cast<size_t>(i) * ld);
    for (int c = lane; c * 8 < ld; c += 32) {
        unpack8<T>(v, p[c]);
        q[c] = code.encode(v);
    }
    code.store(a.out, i);
}

enum { POOL_FIRST, POOL_MEAN, POOL_MAX, POOL_LAST, POOL_MEAN_SQRT, POOL_WEIGHTED };

/* out[b] = what ops_pool_kind says of the rows of sequence b, in f32, in row order.
 * Grid: (ceil(ld / 64), B), block: 32 threads, a thread two columns. Limit: memory latency; it runs
 * once per forward. */
template <class T> __device__ __forceinline__ void pool_rows(const pool_args &a)
{
    begin_after();
    const int b = blockIdx.y, column = (blockIdx.x * 32 + threadIdx.x) * 2;
    if (b >= count_of(a.n_rows) || column >= a.ld) return;
    const int end = a.starts[b + 1], first = a.kind == POOL_LAST ? end - 1 : a.starts[b];
    const uint32_t *p =
        reinterpret_cast<const uint32_t *>(static_cast<const uint16_t *>(a.x) + column);
    float2 sum = make_float2(0.0f, 0.0f);
    for (int t = first; t < end; t++) {
        float2 v = T::unpack(p[static_cast<size_t>(t) * (a.ld / 2)]);
        const float by = a.kind == POOL_WEIGHTED ? static_cast<float>(t - first + 1) : 1.0f;
        if (a.kind != POOL_MAX)
            sum.x += v.x * by, sum.y += v.y * by;
        else if (t == first)
            sum = v;
        else
            sum.x = fmaxf(sum.x, v.x), sum.y = fmaxf(sum.y, v.y);
    }
    if (a.kind == POOL_MEAN || a.kind >= POOL_MEAN_SQRT) {
        float n = static_cast<float>(end - first);
        if (a.kind == POOL_MEAN_SQRT) n = sqrtf(n);
        if (a.kind == POOL_WEIGHTED) n = n * (n + 1.0f) / 2.0f;
        sum.x /= n, sum.y /= n;
    }
    reinterpret_cast<uint32_t *>(static_cast<uint16_t *>(a.out) +
                                 static_cast<size_t>(b) * a.ld)[column / 2] = T::pack(sum.x, sum.y);
}

/* out[t] = x[t - n/2] | ... | x[t + n/2], zeros for rows outside of t's sequence.
 * Grid: ceil(T / 4), block: 4 warps, a warp a row: it finds its sequence by bisection of starts.
 * Limit: memory, n reads (from L2) and one write of n rows. */
__device__ __forceinline__ void around_rows(const around_args &a)
{
    begin_after();
    const int t = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5), lane = threadIdx.x & 31;
    if (t >= count_of(a.n_rows)) return;
    int b = 0, high = count_of(a.n_sequences);
    while (high - b > 1) {
        const int middle = (b + high) / 2;
        if (a.starts[middle] <= t)
            b = middle;
        else
            high = middle;
    }
    const int first = a.starts[b], end = a.starts[b + 1], cols = a.cols;
    const uint16_t *x = static_cast<const uint16_t *>(a.x);
    uint16_t *out = static_cast<uint16_t *>(a.out) + static_cast<size_t>(t) * a.ld;
    auto row_of = [&](int column) { /* NULL: zeros */
        const int from = t + column / cols - a.n / 2;
        const bool there = column < cols * a.n && from >= first && from < end;
        return there ? x + static_cast<size_t>(from) * ARGS_LD(cols) : nullptr;
    };
    if (a.vectors != 0) {
        for (int c = lane * 8; c < a.ld; c += 256) {
            const uint16_t *from = row_of(c);
            *reinterpret_cast<uint4 *>(out + c) =
                from == nullptr ? make_uint4(0, 0, 0, 0)
                                : *reinterpret_cast<const uint4 *>(from + c % cols);
        }
        return;
    }
    for (int c = lane; c < a.ld; c += 32) {
        const uint16_t *from = row_of(c);
        out[c] = from == nullptr ? uint16_t(0) : from[c % cols];
    }
}

/* vectors[i] = x[i] / max(|x[i]|, 1e-12), or x[i]; f32, written across the bus.
 * Grid: ceil(rows / 4), block: 4 warps, a warp a row, two passes over it. */
template <class T> __device__ __forceinline__ void write_vectors(const vectors_args &a)
{
    begin_after();
    const int i = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5), lane = threadIdx.x & 31;
    if (i >= count_of(a.n_rows)) return;
    const uint16_t *p = static_cast<const uint16_t *>(a.x) + static_cast<size_t>(i) * a.ld;
    float scale = 1.0f;
    if (a.normalize) {
        float sum = 0.0f;
        for (int c = lane; c < a.cols; c += 32) {
            float v = load16<T>(p + c);
            sum += v * v;
        }
        scale = fmaxf(sqrtf(warp_sum(sum)), 1e-12f);
    }
    float *out = a.vectors + static_cast<size_t>(i) * a.cols;
    for (int c = lane; c < a.cols; c += 32) out[c] = load16<T>(p + c) / scale;
}

} // namespace crank

using namespace crank;

/* Copies the batch's integers from mapped host memory. Grid: ceil(vectors / 256), block: 256. */
extern "C" __global__ void __launch_bounds__(256) batch_copy(const __grid_constant__ copy_args a)
{
    begin_after();
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i < a.n_vectors)
        static_cast<uint4 *>(a.target)[i] = static_cast<const uint4 *>(a.source)[i];
}

/* 16-bit values move unread: one kernel for both types. */
extern "C" __global__ void __launch_bounds__(128)
    around_warp_per_row(const __grid_constant__ around_args a)
{
    around_rows(a);
}

#define ROW_KERNELS(width, type)                                                                   \
    extern "C" __global__ void __launch_bounds__(128)                                              \
        embed_norm_warp_per_row_##type##_##width(const __grid_constant__ embed_args a)             \
    {                                                                                              \
        embed_norm<type, width / 256>(a);                                                          \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(128)                                              \
        norm_warp_per_row_##type##_##width(const __grid_constant__ row_args a)                     \
    {                                                                                              \
        norm_rows<type, width / 256>(a);                                                           \
    }
ROW_WIDTHS(ROW_KERNELS, f16)
ROW_WIDTHS(ROW_KERNELS, bf16)
ROW_KERNELS(0, f16)
ROW_KERNELS(0, bf16)

#define TYPE_KERNELS(type)                                                                         \
    extern "C" __global__ void __launch_bounds__(128)                                              \
        quantise_warp_per_row_##type(const __grid_constant__ row_args a)                           \
    {                                                                                              \
        quantise_rows<type>(a);                                                                    \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(32)                                               \
        pool_thread_per_pair_##type(const __grid_constant__ pool_args a)                           \
    {                                                                                              \
        pool_rows<type>(a);                                                                        \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(128)                                              \
        vectors_warp_per_row_##type(const __grid_constant__ vectors_args a)                        \
    {                                                                                              \
        write_vectors<type>(a);                                                                    \
    }

TYPE_KERNELS(f16)
TYPE_KERNELS(bf16)
