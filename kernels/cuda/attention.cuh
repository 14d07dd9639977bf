/* out = softmax(Q K^T * scale) V for packed sequences of any length: one kernel template.
 *
 * qkv: [T, 3 * H * K] (q | k | v), out: [T, H * K], both 16 bit. A tile is 16 query rows per warp
 * of one sequence and one head.
 *
 * Grid: (query tiles, H); block: 1 or 4 warps (tiles of 16 or 64 rows). The list of tiles comes
 * with the batch. Shared memory: the tile's Q rows, then n_stages stages of stage_rows K rows and
 * as many V rows, each HD columns wide (head widths are padded to 32, 64 or 128 with zeros),
 * 16-byte chunks XOR-swizzled. A sequence of up to 128 keys is one stage: K and V lie in shared
 * memory as a whole and the softmax makes a single pass. Longer ones go in fixed blocks of 128 keys
 * with a running maximum and sum, the next block's copies under this block's mathematics.
 *
 * A warp owns 16 rows: scores of a block in f32 registers (C fragments), which become the A operand
 * of P V without leaving them; O in f32 registers. Keys are skipped in groups of 16.
 *
 * Order of sums: scores over the head width in steps of 16; row maximum and sum: each lane over its
 * columns in order, blocks in order, then the four lanes of a row; O over keys in steps of 16. All
 * of it depends on the row's place in its own sequence and the sequence's length, not on the tile
 * size, the batch or other rows: blocks begin at multiples of 128 of the sequence itself, and a
 * warp skips the blocks that its own 16 rows cannot see.
 *
 * Options in the general template: |q - k| <= window, an additive bias by distance, half-split
 * rotary applied while Q and K are copied, DeBERTa's relative terms looked up in tables that
 * relative.cu has made.
 * Limit: memory (one read of qkv, one write of out) up to ~512 keys.
 * Based on: FlashAttention-2 (Dao 2023), sections 3.1-3.3. */
#ifndef CRANK_CUDA_ATTENTION_CUH
#define CRANK_CUDA_ATTENTION_CUH

#include "kernels/cuda/args.h"
#include "kernels/cuda/catalog.h"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/rows.cuh"

namespace crank
{

enum { KEY_BLOCK = 128 };

/* Element (row, j) of a head after rotation; row is the place within the sequence. */
template <class T>
__device__ __forceinline__ float rotated(const uint16_t *x, int row, int j, const attention_args &a)
{
    const int half = a.head_width / 2;
    float v = load16<T>(x + j);
    if (a.cos == nullptr || j >= 2 * half) return v;
    const int k = j < half ? j : j - half;
    const float cosine = __ldg(a.cos + static_cast<size_t>(row) * half + k);
    const float sine = __ldg(a.sin + static_cast<size_t>(row) * half + k);
    const float other = load16<T>(x + (j < half ? j + half : j - half));
    return j < half ? v * cosine - other * sine : v * cosine + other * sine;
}

/* Copies rows first .. first + padded - 1 of one head of one of q, k, v into a tile of HD columns;
 * rows from `valid` on are zero. x points at the head's column in the sequence's first row.
 * 16-byte copies are asynchronous; where the head's rows do not allow them, or a rotation is
 * wanted, elements are stored one by one. */
template <class T, int HD, bool GENERAL>
__device__ __forceinline__ void load_head(uint32_t tile, const uint16_t *x, int first, int valid,
                                          int padded, bool rotate, const attention_args &a)
{
    constexpr int CHUNKS = HD / 8;
    const int width = a.head_width;
    if (a.vectors && !(GENERAL && rotate)) {
        const int c = threadIdx.x % CHUNKS, step = blockDim.x / CHUNKS;
        int r = threadIdx.x / CHUNKS;
        const uint16_t *from = x + static_cast<size_t>(first + r) * a.qkv_ld + c * 8;
        if (c * 8 >= width) valid = 0;
        for (; r < padded; r += step, from += step * a.qkv_ld)
            cp_async(tile + swizzled<HD * 2>(r, c), r < valid ? from : x, r < valid ? 16 : 0);
    } else {
        for (int i = threadIdx.x; i < padded * CHUNKS; i += blockDim.x) {
            const int r = i / CHUNKS, c = i % CHUNKS;
            const uint16_t *from = x + static_cast<size_t>(first + r) * a.qkv_ld;
            float v[8];
#pragma unroll
            for (int j = 0; j < 8; j++) {
                v[j] = 0.0f;
                if (r < valid && c * 8 + j < width)
                    v[j] = GENERAL && rotate ? rotated<T>(from, first + r, c * 8 + j, a)
                                             : load16<T>(from + c * 8 + j);
            }
            store_shared(tile + swizzled<HD * 2>(r, c), pack8<T>(v));
        }
    }
}

__device__ __forceinline__ float relative_term(const void *terms, int token, int bucket,
                                               const attention_args &a)
{
    if (terms == nullptr) return 0.0f;
    const size_t row = static_cast<size_t>(token) * gridDim.y + blockIdx.y;
    return load16<f16>(static_cast<const uint16_t *>(terms) + row * a.relative_ld + bucket);
}

/* A score with everything that the options add to it: terms, scale, bias, window. */
__device__ __forceinline__ float with_options(float score, int start, int length, int row, int key,
                                              int keys, int head, const attention_args &a)
{
    const bool inside = key < keys && row < length;
    if (a.relative_index != nullptr && inside) {
        const int bucket = __ldg(a.relative_index + row - key + a.relative_span - 1);
        score += relative_term(a.relative_q, start + row, bucket, a) +
                 relative_term(a.relative_k, start + key, bucket, a);
    }
    score *= a.scale;
    if (a.distance_bias != nullptr && inside)
        score += __ldg(a.distance_bias + static_cast<size_t>(head) * (2 * a.distance_span - 1) +
                       (key - row) + a.distance_span - 1);
    return a.window > 0 && abs(key - row) > a.window ? -INFINITY : score;
}

template <class T, int HD, bool GENERAL>
__device__ __forceinline__ void attention(const attention_args &a)
{
    extern __shared__ __align__(128) unsigned char attention_shared[];
    constexpr int ROW = HD * 2; /* bytes */
    constexpr int KS = HD / 16; /* mma steps over the head width */
    constexpr int ND = HD / 8;  /* n8 tiles of the output */
    constexpr float LOG2E = 1.4426950408889634f;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;

    begin_after();
    if (static_cast<int>(blockIdx.x) >= *a.n_tiles) return;
    const int sequence = a.tiles[2 * blockIdx.x], tile_row = a.tiles[2 * blockIdx.x + 1];
    const int start = a.starts[sequence], length = a.starts[sequence + 1] - start;
    const int keys = a.key_counts != nullptr ? a.key_counts[sequence] : length;
    const int head = a.first_head + blockIdx.y, width = a.n_heads * a.head_width;
    const int tile_rows = static_cast<int>(blockDim.x) / 2; /* 16 per warp */
    const int valid_rows = min(tile_rows, length - tile_row);

    const uint16_t *q = static_cast<const uint16_t *>(a.qkv) +
                        static_cast<size_t>(start) * a.qkv_ld + head * a.head_width;
    const uint32_t q_tile = shared_address(attention_shared);
    const uint32_t stage0 = q_tile + tile_rows * ROW;
    const int stage_bytes = 2 * a.stage_rows * ROW;
    const bool rotate = GENERAL && a.cos != nullptr;

    /* Blocks that some row of the tile, and some row of this warp, can see. */
    int first_block = 0, last_block = (keys - 1) / KEY_BLOCK; /* -1 when there are no keys */
    int warp_first = first_block, warp_last = last_block;
    const int warp_row = tile_row + warp * 16;
    if (GENERAL && a.window > 0) {
        first_block = max(tile_row - a.window, 0) / KEY_BLOCK;
        last_block = min(last_block, (tile_row + valid_rows - 1 + a.window) / KEY_BLOCK);
        warp_first = max(warp_row - a.window, 0) / KEY_BLOCK;
        warp_last = min(last_block, (warp_row + 15 + a.window) / KEY_BLOCK);
    }
    if (warp_row >= length) warp_last = -1; /* nothing to do but to help with the copies */

    auto load_k = [&](int block) {
        const int first = block * KEY_BLOCK, there = min(KEY_BLOCK, keys - first);
        const uint32_t to = stage0 + (a.n_stages == 2 ? (block & 1) * stage_bytes : 0);
        load_head<T, HD, GENERAL>(to, q + width, first, there, (there + 15) & ~15, rotate, a);
        cp_async_commit();
    };
    auto load_v = [&](int block) {
        const int first = block * KEY_BLOCK, there = min(KEY_BLOCK, keys - first);
        const uint32_t to = stage0 + (a.n_stages == 2 ? (block & 1) * stage_bytes : 0);
        load_head<T, HD, GENERAL>(to + a.stage_rows * ROW, q + 2 * width, first, there,
                                  (there + 15) & ~15, false, a);
        cp_async_commit();
    };

    load_head<T, HD, GENERAL>(q_tile, q, tile_row, valid_rows, tile_rows, rotate, a);
    if (first_block <= last_block)
        load_k(first_block);
    else
        cp_async_commit();
    if (first_block <= last_block) load_v(first_block);

    uint32_t fq[KS][4];
    float o[ND][4], row_max[2] = {-INFINITY, -INFINITY}, row_sum[2] = {0.0f, 0.0f};
#pragma unroll
    for (int n = 0; n < ND; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) o[n][e] = 0.0f;
    /* Scores are compared before scaling; the general form adds a bias and must scale first. */
    const float to_log2 = GENERAL ? LOG2E : a.scale * LOG2E;

    for (int block = first_block; block <= last_block; block++) {
        const bool prefetch = a.n_stages == 2 && block < last_block;
        if (prefetch) {
            load_k(block + 1);
            load_v(block + 1);
            cp_async_wait<3>(); /* Q and this block's K are there */
        } else {
            cp_async_wait<1>();
        }
        __syncthreads();
        const uint32_t k_tile = stage0 + (a.n_stages == 2 ? (block & 1) * stage_bytes : 0);
        const uint32_t v_tile = k_tile + a.stage_rows * ROW;
        const int first_key = block * KEY_BLOCK;
        const int groups = (min(KEY_BLOCK, keys - first_key) + 15) / 16;
        const bool mine = block >= warp_first && block <= warp_last;

        float s[KEY_BLOCK / 8][4], shift[2];
        if (mine) {
            if (block == warp_first) {
#pragma unroll
                for (int d = 0; d < KS; d++)
                    ldmatrix_x4(fq[d], q_tile + swizzled<ROW>(warp * 16 + (lane & 15),
                                                              2 * d + (lane >> 4)));
            }
#pragma unroll
            for (int j = 0; j < KEY_BLOCK / 16; j++) {
#pragma unroll
                for (int e = 0; e < 4; e++) s[2 * j][e] = s[2 * j + 1][e] = 0.0f;
                if (j >= groups) continue;
#pragma unroll
                for (int d = 0; d < KS; d++) {
                    uint32_t fk[4];
                    ldmatrix_x4(fk, k_tile + swizzled<ROW>(16 * j + (lane & 7) + ((lane >> 4) << 3),
                                                           2 * d + ((lane >> 3) & 1)));
                    mma<T>::run(s[2 * j], fq[d], fk[0], fk[1]);
                    mma<T>::run(s[2 * j + 1], fq[d], fk[2], fk[3]);
                }
            }
            float block_max[2] = {row_max[0], row_max[1]};
#pragma unroll
            for (int n = 0; n < KEY_BLOCK / 8; n++) {
                if (n >= 2 * groups) continue;
                const int key0 = first_key + n * 8 + 2 * t;
                if (GENERAL) {
#pragma unroll
                    for (int e = 0; e < 4; e++)
                        s[n][e] = with_options(s[n][e], start, length, warp_row + g + (e >> 1) * 8,
                                               key0 + (e & 1), keys, head, a);
                }
                if (n >= 2 * groups - 2) { /* only the last group has keys past the end */
#pragma unroll
                    for (int e = 0; e < 4; e++)
                        if (key0 + (e & 1) >= keys) s[n][e] = -INFINITY;
                }
#pragma unroll
                for (int e = 0; e < 4; e++) block_max[e >> 1] = fmaxf(block_max[e >> 1], s[n][e]);
            }
#pragma unroll
            for (int i = 0; i < 2; i++) {
                block_max[i] = fmaxf(block_max[i], __shfl_xor_sync(0xffffffffu, block_max[i], 1));
                block_max[i] = fmaxf(block_max[i], __shfl_xor_sync(0xffffffffu, block_max[i], 2));
                /* A row that has seen no key yet keeps -inf; shifting by 0 then gives 2^-inf = 0.
                 */
                shift[i] = block_max[i] == -INFINITY ? 0.0f : block_max[i] * to_log2;
            }
            if (block > warp_first) { /* what is there was made with an older maximum */
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const float rescale = exp2_fast(row_max[i] * to_log2 - shift[i]);
                    row_sum[i] *= rescale;
#pragma unroll
                    for (int n = 0; n < ND; n++) {
                        o[n][2 * i] *= rescale;
                        o[n][2 * i + 1] *= rescale;
                    }
                }
            }
            row_max[0] = block_max[0], row_max[1] = block_max[1];
        }

        if (prefetch)
            cp_async_wait<2>();
        else
            cp_async_wait<0>();
        __syncthreads(); /* V is there */
        if (mine) {
            /* 16 keys at a time from scores to probabilities to O: the C fragments of two score
             * tiles are the A fragment of one step. */
#pragma unroll
            for (int j = 0; j < KEY_BLOCK / 16; j++) {
                if (j >= groups) continue;
                uint32_t p[4];
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    float(&c)[4] = s[2 * j + half];
#pragma unroll
                    for (int e = 0; e < 4; e++) {
                        c[e] = exp2_fast(c[e] * to_log2 - shift[e >> 1]);
                        row_sum[e >> 1] += c[e];
                    }
                    p[2 * half] = T::pack(c[0], c[1]);
                    p[2 * half + 1] = T::pack(c[2], c[3]);
                }
#pragma unroll
                for (int d = 0; d < ND / 2; d++) {
                    uint32_t fv[4];
                    ldmatrix_x4_trans(
                        fv, v_tile + swizzled<ROW>(16 * j + (lane & 15), 2 * d + (lane >> 4)));
                    mma<T>::run(o[2 * d], p, fv[0], fv[1]);
                    mma<T>::run(o[2 * d + 1], p, fv[2], fv[3]);
                }
            }
        }
        if (block < last_block) {
            __syncthreads(); /* everybody has read this stage */
            if (a.n_stages == 1) {
                load_k(block + 1);
                load_v(block + 1);
            }
        }
    }
    cp_async_wait<0>();
    if (warp_row >= length) return;

    /* Rows to 16 bits in this warp's own part of the Q tile, then out in 16-byte pieces. */
    float inverse[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        row_sum[i] += __shfl_xor_sync(0xffffffffu, row_sum[i], 1);
        row_sum[i] += __shfl_xor_sync(0xffffffffu, row_sum[i], 2);
        inverse[i] = row_sum[i] > 0.0f ? 1.0f / row_sum[i] : 0.0f;
    }
    __syncwarp();
#pragma unroll
    for (int n = 0; n < ND; n++) {
        store_shared(q_tile + swizzled<ROW>(warp * 16 + g, n) + t * 4,
                     T::pack(o[n][0] * inverse[0], o[n][1] * inverse[0]));
        store_shared(q_tile + swizzled<ROW>(warp * 16 + g + 8, n) + t * 4,
                     T::pack(o[n][2] * inverse[1], o[n][3] * inverse[1]));
    }
    __syncwarp();
    uint16_t *out = static_cast<uint16_t *>(a.out) +
                    static_cast<size_t>(start + warp_row) * a.out_ld + head * a.head_width;
    const int rows = min(16, length - warp_row);
    for (int i = lane; i < 16 * (HD / 8); i += 32) {
        const int r = i / (HD / 8), c = i % (HD / 8);
        if (r >= rows || c * 8 >= a.head_width) continue;
        const uint4 u = load_shared4(q_tile + swizzled<ROW>(warp * 16 + r, c));
        uint16_t *to = out + static_cast<size_t>(r) * a.out_ld + c * 8;
        if (a.vectors) {
            *reinterpret_cast<uint4 *>(to) = u;
        } else {
            const uint32_t w[4] = {u.x, u.y, u.z, u.w};
#pragma unroll
            for (int j = 0; j < 8; j++)
                if (c * 8 + j < a.head_width)
                    to[j] = static_cast<uint16_t>(w[j >> 1] >> (16 * (j & 1)));
        }
    }
    if (head == a.n_heads - 1) { /* the padding columns */
        for (int i = lane; i < 16 * (a.out_ld - width); i += 32) {
            const int r = i / (a.out_ld - width), c = i % (a.out_ld - width);
            if (r < rows) out[static_cast<size_t>(r) * a.out_ld + a.head_width + c] = 0;
        }
    }
}

} // namespace crank

/* Blocks a multiprocessor should hold: what the registers of S, O and Q leave room for. */
#define ATTENTION_BLOCKS_32 4
#define ATTENTION_BLOCKS_64 3
#define ATTENTION_BLOCKS_128 2
#define ATTENTION_BLOCKS_general_32 3
#define ATTENTION_BLOCKS_general_64 2
#define ATTENTION_BLOCKS_general_128 2

#define ATTENTION_KERNEL(hd, type)                                                                 \
    extern "C" __global__ void __launch_bounds__(128, ATTENTION_BLOCKS_##hd)                       \
        attention_mma_##type##_##hd(const __grid_constant__ attention_args a)                      \
    {                                                                                              \
        crank::attention<crank::type, hd, false>(a);                                               \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(128, ATTENTION_BLOCKS_general_##hd)               \
        attention_mma_##type##_##hd##_general(const __grid_constant__ attention_args a)            \
    {                                                                                              \
        crank::attention<crank::type, hd, true>(a);                                                \
    }

#endif
