/* Attention for one query row per sequence (the row that the head reads, in the last layer), in two
 * forms: over K and V, and with both projections folded away (ops.h, ops_fold).
 *
 * All sums in f32. Their order depends on the sequence's length and the model's widths alone. */
#include "kernels/cuda/rows.cuh"

namespace crank
{

enum { ROWS_THREADS = 128, ATTEND_THREADS = 256 };

/* Maximum over a block of threads; `scratch` holds a float per warp. Ends with a barrier. */
__device__ __forceinline__ float block_max(float v, float *scratch)
{
    v = warp_max(v);
    if ((threadIdx.x & 31) == 0) scratch[threadIdx.x >> 5] = v;
    __syncthreads();
    v = scratch[0];
    for (int w = 1; w < static_cast<int>(blockDim.x >> 5); w++) v = fmaxf(v, scratch[w]);
    __syncthreads();
    return v;
}

/* Sum over a block: lanes by a butterfly, then warps in order. Ends with a barrier. */
__device__ __forceinline__ float block_sum(float v, float *scratch)
{
    v = warp_sum(v);
    if ((threadIdx.x & 31) == 0) scratch[threadIdx.x >> 5] = v;
    __syncthreads();
    v = scratch[0];
    for (int w = 1; w < static_cast<int>(blockDim.x >> 5); w++) v += scratch[w];
    __syncthreads();
    return v;
}

/* out[b, h] = softmax_j(q[b, h] . k_j * scale + bias) v_j; the query is the sequence's first row.
 * Grid: (H, B), block: 128 threads. Shared: q [128], scores [max_keys], partial outputs [256], 4.
 * Scores: a thread a key, columns in order. Values: thread = (column pair, key group); groups of
 * keys are added in order at the end. Limit: memory, one read of the head's K and V. */
template <class T> __device__ __forceinline__ void attention_rows(const attention_rows_args &a)
{
    extern __shared__ __align__(16) unsigned char rows_shared[];
    begin_after();
    const int b = blockIdx.y, h = blockIdx.x, tid = threadIdx.x, width = a.head_width;
    if (b >= count_of(a.n_rows)) return;
    const int start = a.starts[b], length = a.starts[b + 1] - start;
    int keys = a.key_counts != nullptr ? a.key_counts[b] : length;
    if (a.window > 0) keys = min(keys, a.window + 1);

    float *q = reinterpret_cast<float *>(rows_shared);
    float *scores = q + 128, *partial = scores + a.max_keys, *scratch = partial + 256;
    const uint16_t *query =
        static_cast<const uint16_t *>(a.q) + static_cast<size_t>(b) * a.q_ld + h * width;
    const uint16_t *key =
        static_cast<const uint16_t *>(a.kv) + static_cast<size_t>(start) * a.kv_ld + h * width;
    const uint16_t *value = key + a.n_heads * width;
    if (tid < width) q[tid] = load16<T>(query + tid);
    __syncthreads();

    float largest = -INFINITY;
    for (int j = tid; j < keys; j += ROWS_THREADS) {
        const uint16_t *kj = key + static_cast<size_t>(j) * a.kv_ld;
        float sum = 0.0f;
        if (a.cos == nullptr) {
            for (int d = 0; d < width; d++) sum += q[d] * load16<T>(kj + d);
        } else {
            /* The query stands at position 0, where the rotation is the identity. */
            const int half = width / 2;
            for (int d = 0; d < half; d++) {
                const float c = __ldg(a.cos + static_cast<size_t>(j) * half + d);
                const float s = __ldg(a.sin + static_cast<size_t>(j) * half + d);
                const float lo = load16<T>(kj + d), hi = load16<T>(kj + d + half);
                sum += q[d] * (lo * c - hi * s) + q[d + half] * (hi * c + lo * s);
            }
            if (width & 1) sum += q[width - 1] * load16<T>(kj + width - 1);
        }
        if (a.relative_index != nullptr) {
            const size_t bucket =
                static_cast<size_t>(a.relative_index[a.relative_span - 1 - j]) * a.n_heads * width +
                h * width;
            for (int d = 0; d < width && a.relative_key != nullptr; d++)
                sum += q[d] * __ldg(a.relative_key + bucket + d);
            for (int d = 0; d < width && a.relative_query != nullptr; d++)
                sum += load16<T>(kj + d) * __ldg(a.relative_query + bucket + d);
        }
        sum *= a.scale;
        if (a.distance_bias != nullptr)
            sum += __ldg(a.distance_bias + static_cast<size_t>(h) * (2 * a.distance_span - 1) + j +
                         a.distance_span - 1);
        scores[j] = sum;
        largest = fmaxf(largest, sum);
    }
    largest = block_max(largest, scratch);
    float sum = 0.0f;
    for (int j = tid; j < keys; j += ROWS_THREADS) {
        const float p = exp2_fast((scores[j] - largest) * 1.4426950408889634f);
        scores[j] = p;
        sum += p;
    }
    sum = block_sum(sum, scratch);

    const int pairs = (width + 1) / 2;
    const int lanes = pairs <= 16 ? 16 : pairs <= 32 ? 32 : 64; /* threads a key group has */
    const int pair = tid % lanes, group = tid / lanes, groups = ROWS_THREADS / lanes;
    float2 o = make_float2(0.0f, 0.0f);
    if (pair < pairs) {
        for (int j = group; j < keys; j += groups) {
            const uint16_t *vj = value + static_cast<size_t>(j) * a.kv_ld + 2 * pair;
            o.x += scores[j] * load16<T>(vj);
            if (2 * pair + 1 < width) o.y += scores[j] * load16<T>(vj + 1);
        }
    }
    partial[2 * tid] = o.x, partial[2 * tid + 1] = o.y;
    __syncthreads();
    uint16_t *out = static_cast<uint16_t *>(a.out) + static_cast<size_t>(b) * a.out_ld;
    if (tid < width) {
        float total = 0.0f;
        for (int i = 0; i < groups; i++) total += partial[2 * (i * lanes + tid / 2) + (tid & 1)];
        total = sum > 0.0f ? total / sum : 0.0f;
        out[h * width + tid] = static_cast<uint16_t>(T::pack(total, 0.0f));
    }
    if (h == a.n_heads - 1)
        for (int c = a.n_heads * width + tid; c < a.out_ld; c += ROWS_THREADS) out[c] = 0;
}

/* u[b, h, d] = sum_i q[b, h, i] Wk[h * K + i, d], i in order.
 * Grid: (ceil(D / 256), H, ceil(B / 4)), block: 256 threads, a thread one column of 4 sequences.
 * Shared: q [4][128]. Limit: L2, Wk read once per 4 sequences. */
template <class T> __device__ __forceinline__ void fold_query(const fold_args &a)
{
    __shared__ float q[4][128];
    begin_after();
    const int rows = count_of(a.n_rows), b0 = blockIdx.z * 4, h = blockIdx.y, width = a.head_width;
    if (b0 >= rows) return;
    for (int i = threadIdx.x; i < 4 * width; i += 256) {
        const int r = i / width, c = i % width;
        q[r][c] = b0 + r < rows ? load16<T>(static_cast<const uint16_t *>(a.q) +
                                            static_cast<size_t>(b0 + r) * a.q_ld + h * width + c)
                                : 0.0f;
    }
    __syncthreads();
    const int d = blockIdx.x * 256 + threadIdx.x;
    if (d >= a.d) return;
    float u[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    const float *w = a.key + static_cast<size_t>(h) * width * a.d + d;
    for (int i = 0; i < width; i++) {
        const float v = __ldg(w + static_cast<size_t>(i) * a.d);
#pragma unroll
        for (int r = 0; r < 4; r++) u[r] += q[r][i] * v;
    }
#pragma unroll
    for (int r = 0; r < 4; r++)
        if (b0 + r < rows) a.u[(static_cast<size_t>(b0 + r) * a.n_heads + h) * a.d + d] = u[r];
}

/* c[b, h] = sum_j p_j x_j, p = softmax_j(x_j . u[b, h] * scale + bias).
 * Grid: (ceil(H / HEADS), B), block: 256 threads. Shared: u [HEADS][D], scores [HEADS][max_keys].
 * Scores: a warp a key, each lane over its columns in order, butterfly. Softmax: a warp a head.
 * Context: a thread two columns, keys in order. Limit: memory, two reads of x per HEADS heads, the
 * second from L2. */
template <class T, int HEADS> __device__ __forceinline__ void fold_attend(const fold_args &a)
{
    extern __shared__ __align__(16) unsigned char fold_shared[];
    begin_after();
    const int b = blockIdx.y, h0 = blockIdx.x * HEADS, lane = threadIdx.x & 31;
    const int warp = threadIdx.x >> 5, warps = ATTEND_THREADS / 32;
    if (b >= count_of(a.n_rows)) return;
    const int start = a.starts[b], length = a.starts[b + 1] - start;
    int keys = a.key_counts != nullptr ? a.key_counts[b] : length;
    if (a.window > 0) keys = min(keys, a.window + 1);
    const int heads = min(HEADS, a.n_heads - h0);

    float *u = reinterpret_cast<float *>(fold_shared);
    float *scores = u + HEADS * a.d;
    float *sums = scores + HEADS * a.max_keys;
    const float *u_from = a.u + (static_cast<size_t>(b) * a.n_heads + h0) * a.d;
    for (int i = threadIdx.x; i < HEADS * a.d; i += ATTEND_THREADS)
        u[i] = i < heads * a.d ? u_from[i] : 0.0f;
    __syncthreads();

    const uint32_t *x = reinterpret_cast<const uint32_t *>(static_cast<const uint16_t *>(a.x) +
                                                           static_cast<size_t>(start) * a.x_ld);
    for (int j = warp; j < keys; j += warps) {
        float sum[HEADS];
#pragma unroll
        for (int h = 0; h < HEADS; h++) sum[h] = 0.0f;
        for (int c = lane; 2 * c < a.d; c += 32) {
            const float2 v = T::unpack(x[static_cast<size_t>(j) * (a.x_ld / 2) + c]);
            const bool second = 2 * c + 1 < a.d;
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
                sum[h] += v.x * u[h * a.d + 2 * c];
                if (second) sum[h] += v.y * u[h * a.d + 2 * c + 1];
            }
        }
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            float score = warp_sum(sum[h]) * a.scale;
            if (a.distance_bias != nullptr && h < heads)
                score += __ldg(a.distance_bias +
                               static_cast<size_t>(h0 + h) * (2 * a.distance_span - 1) + j +
                               a.distance_span - 1);
            if (lane == 0) scores[h * a.max_keys + j] = score;
        }
    }
    __syncthreads();
    for (int h = warp; h < HEADS; h += warps) {
        float *s = scores + h * a.max_keys, largest = -INFINITY, sum = 0.0f;
        for (int j = lane; j < keys; j += 32) largest = fmaxf(largest, s[j]);
        largest = warp_max(largest);
        for (int j = lane; j < keys; j += 32) {
            const float p = exp2_fast((s[j] - largest) * 1.4426950408889634f);
            s[j] = p;
            sum += p;
        }
        sum = warp_sum(sum);
        if (lane == 0) sums[h] = sum;
    }
    __syncthreads();
    for (int c = threadIdx.x; 2 * c < a.d; c += ATTEND_THREADS) {
        float2 o[HEADS];
#pragma unroll
        for (int h = 0; h < HEADS; h++) o[h] = make_float2(0.0f, 0.0f);
        for (int j = 0; j < keys; j++) {
            const float2 v = T::unpack(x[static_cast<size_t>(j) * (a.x_ld / 2) + c]);
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
                const float p = scores[h * a.max_keys + j];
                o[h].x += p * v.x, o[h].y += p * v.y;
            }
        }
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            if (h >= heads) continue;
            const float inverse = keys > 0 ? 1.0f / sums[h] : 0.0f;
            float *to = a.c + (static_cast<size_t>(b) * a.n_heads + h0 + h) * a.d + 2 * c;
            to[0] = o[h].x * inverse;
            if (2 * c + 1 < a.d) to[1] = o[h].y * inverse;
        }
    }
}

/* out[b, n] = sum_d Wv^T[d, n] c[b, h(n), d] + bias[n].
 * Grid: (ceil(H * K / 32), ceil(B / 4)), block: 32 columns x 8 parts of D. Every part in order of
 * d, then the parts in order. Shared: sums [8][4][32]. Limit: L2, Wv read once per 4 sequences. */
template <class T> __device__ __forceinline__ void fold_value(const fold_args &a)
{
    __shared__ float partial[8][4][32];
    begin_after();
    const int rows = count_of(a.n_rows), b0 = blockIdx.y * 4;
    if (b0 >= rows) return;
    const int column = threadIdx.x & 31, part = threadIdx.x >> 5, width = a.n_heads * a.head_width;
    const int n = blockIdx.x * 32 + column, step = (a.d + 7) / 8;
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (n < width) {
        const int h = n / a.head_width, end = min(a.d, (part + 1) * step);
        const float *c[4];
#pragma unroll
        for (int r = 0; r < 4; r++) /* sequences past the end repeat the last one */
            c[r] = a.c + (static_cast<size_t>(min(b0 + r, rows - 1)) * a.n_heads + h) * a.d;
        for (int d = part * step; d < end; d++) {
            const float w = __ldg(a.value + static_cast<size_t>(d) * width + n);
#pragma unroll
            for (int r = 0; r < 4; r++) sum[r] += w * c[r][d];
        }
    }
#pragma unroll
    for (int r = 0; r < 4; r++) partial[part][r][column] = sum[r];
    __syncthreads();
    const int b = b0 + part;
    if (part >= 4 || b >= rows) return;
    /* Probabilities sum to 1, which is what lets the bias through, unless there is no key. */
    const bool keys = a.key_counts != nullptr ? a.key_counts[b] > 0 : a.starts[b + 1] > a.starts[b];
    uint16_t *out = static_cast<uint16_t *>(a.out) + static_cast<size_t>(b) * a.out_ld;
    if (n < width) {
        float total = 0.0f;
#pragma unroll
        for (int i = 0; i < 8; i++) total += partial[i][part][column];
        if (a.value_bias != nullptr) total += __ldg(a.value_bias + n);
        out[n] = static_cast<uint16_t>(T::pack(keys ? total : 0.0f, 0.0f));
    } else if (n < a.out_ld) {
        out[n] = 0;
    }
}

} // namespace crank

using namespace crank;

#define TYPE_KERNELS(type)                                                                         \
    extern "C" __global__ void __launch_bounds__(128)                                              \
        attention_rows_##type(const __grid_constant__ attention_rows_args a)                       \
    {                                                                                              \
        attention_rows<type>(a);                                                                   \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(256)                                              \
        fold_query_##type(const __grid_constant__ fold_args a)                                     \
    {                                                                                              \
        fold_query<type>(a);                                                                       \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(256, 4)                                           \
        fold_attend_##type##_4(const __grid_constant__ fold_args a)                                \
    {                                                                                              \
        fold_attend<type, 4>(a);                                                                   \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(256)                                              \
        fold_attend_##type##_1(const __grid_constant__ fold_args a)                                \
    {                                                                                              \
        fold_attend<type, 1>(a);                                                                   \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(256)                                              \
        fold_value_##type(const __grid_constant__ fold_args a)                                     \
    {                                                                                              \
        fold_value<type>(a);                                                                       \
    }

TYPE_KERNELS(f16)
TYPE_KERNELS(bf16)
