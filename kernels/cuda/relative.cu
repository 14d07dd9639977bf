/* DeBERTa's disentangled attention, first half: the products of every token's query with every
 * relative key, and of every token's key with every relative query, per head:
 *   q_terms[t, h, b] = Q[t, h] . PK[b, h]        k_terms[t, h, b] = K[t, h] . PQ[b, h]
 * Attention then only looks two numbers up per score (attention.cuh), instead of taking two more
 * products of head width for each.
 *
 * Grid: (ceil(buckets / 64), ceil(T / 64), 2 * group: first the q terms of each head, then the k
 * terms), block: 4 warps, each 32 x 32 of a 64 x 64 tile. Shared: a tile of tokens and a tile of
 * buckets, HD columns each; f32 buckets are rounded to the value type on the way in. Sums in f32
 * over the head width in steps of 16, stored as f16 (for bf16 models too: scores need the digits).
 * Limit: memory, the tables themselves: 2 * buckets * 2 bytes per token and head.
 * Based on: He et al. 2021 (DeBERTa), eq. 4 and algorithm 1. */
#include "kernels/cuda/catalog.h"
#include "kernels/cuda/rows.cuh"

namespace crank
{

template <class T, int HD> __device__ __forceinline__ void relative_terms(const relative_args &a)
{
    constexpr int ROW = HD * 2, CHUNKS = HD / 8;
    __shared__ __align__(128) unsigned char tiles[2 * 64 * ROW];
    begin_after();
    const int rows = count_of(a.n_rows), t0 = blockIdx.y * 64, b0 = blockIdx.x * 64;
    const bool keys = static_cast<int>(blockIdx.z) >= a.group;
    const int local = blockIdx.z % a.group, head = a.first_head + local;
    const float *buckets = keys ? a.query : a.key;
    if (t0 >= rows || buckets == nullptr) return;
    const int width = a.n_heads * a.head_width;
    const uint16_t *x =
        static_cast<const uint16_t *>(a.qkv) + (keys ? width : 0) + head * a.head_width;
    const uint32_t x_tile = shared_address(tiles), p_tile = x_tile + 64 * ROW;
    for (int i = threadIdx.x; i < 64 * CHUNKS; i += 128) {
        const int r = i / CHUNKS, c = i % CHUNKS, left = a.head_width - c * 8;
        float v[8];
        zero8(v);
        if (t0 + r < rows && left > 0) {
            const uint16_t *from = x + static_cast<size_t>(t0 + r) * a.qkv_ld + c * 8;
            if (a.vectors)
                unpack8<T>(v, *reinterpret_cast<const uint4 *>(from));
            else
#pragma unroll
                for (int j = 0; j < 8; j++)
                    if (j < left) v[j] = load16<T>(from + j);
        }
        store_shared(x_tile + swizzled<ROW>(r, c), pack8<T>(v));
        zero8(v);
        if (b0 + r < a.n_buckets && left > 0)
            load8_f32(v,
                      buckets + static_cast<size_t>(b0 + r) * width + head * a.head_width + c * 8,
                      left, a.vectors != 0);
        store_shared(p_tile + swizzled<ROW>(r, c), pack8<T>(v));
    }
    __syncthreads();

    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    const int warp_m = (warp & 1) * 32, warp_n = (warp >> 1) * 32;
    float c[2][4][4];
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) c[i][j][e] = 0.0f;
#pragma unroll
    for (int s = 0; s < HD / 16; s++) {
        uint32_t fa[2][4], fb[2][4];
#pragma unroll
        for (int i = 0; i < 2; i++)
            ldmatrix_x4(fa[i],
                        x_tile + swizzled<ROW>(warp_m + i * 16 + (lane & 15), 2 * s + (lane >> 4)));
#pragma unroll
        for (int j = 0; j < 2; j++)
            ldmatrix_x4(fb[j],
                        p_tile + swizzled<ROW>(warp_n + j * 16 + (lane & 7) + ((lane >> 4) << 3),
                                               2 * s + ((lane >> 3) & 1)));
#pragma unroll
        for (int i = 0; i < 2; i++)
#pragma unroll
            for (int j = 0; j < 2; j++) {
                mma<T>::run(c[i][2 * j], fa[i], fb[j][0], fb[j][1]);
                mma<T>::run(c[i][2 * j + 1], fa[i], fb[j][2], fb[j][3]);
            }
    }
    uint16_t *out = static_cast<uint16_t *>(keys ? a.k_terms : a.q_terms);
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int token = t0 + warp_m + i * 16 + half * 8 + g;
            if (token >= rows) continue;
            uint16_t *to = out + (static_cast<size_t>(token) * a.group + local) * a.ld;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int bucket = b0 + warp_n + j * 8 + 2 * t;
                if (bucket < a.ld)
                    *reinterpret_cast<uint32_t *>(to + bucket) =
                        f16::pack(c[i][j][2 * half], c[i][j][2 * half + 1]);
            }
        }
}

} // namespace crank

#define RELATIVE_KERNEL(hd, type)                                                                  \
    extern "C" __global__ void __launch_bounds__(128)                                              \
        relative_terms_##type##_##hd(const __grid_constant__ relative_args a)                      \
    {                                                                                              \
        crank::relative_terms<crank::type, hd>(a);                                                 \
    }
ATTENTION_WIDTHS(RELATIVE_KERNEL, f16)
ATTENTION_WIDTHS(RELATIVE_KERNEL, bf16)
