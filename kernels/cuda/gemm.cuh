/* out = epilogue(x W^T + bias): one family of tensor-core kernels for f16, bf16 and int8.
 *
 * x: [rows, k], W: [n, k], both with contiguous k, so both are loaded the same way: the tile step
 * is 128 bytes of k (64 16-bit or 128 8-bit numbers), cut into 8 chunks of 16 bytes that lie
 * XOR-swizzled in shared memory. A step is 4 mma steps of 32 bytes; f16, bf16 and s8 differ in the
 * instruction alone.
 *
 * Grid: (ceil(n / BN), ceil(rows / BM)); block: WM * WN warps, each owning a (BM/WM) x (BN/WN)
 * part of the tile in registers. Shared memory: STAGES * (BM + BN) * 128 bytes, a ring that
 * cp.async fills STAGES-1 steps ahead; one barrier a step. After the last step the next ring slot
 * is the staging area of the epilogue: results are packed there and leave in 16-byte rows; the
 * residual comes in through it, as one more "step" of the pipeline.
 * A tile that spans whole rows (EPILOGUE_norm) normalises them there, a warp a row, as rows.cuh
 * does it from memory; the sums themselves leave only if they are wanted.
 *
 * Order of sums: every element is summed over k in mma steps of 32 bytes, first to last, into one
 * f32 (int8: int32, exact) accumulator. That does not depend on BM, BN, warps or stages, so the
 * host may choose any tile for any number of rows without changing a bit.
 *
 * Rows past the count and k past x's row are filled with zeros on load; W is padded with zeros.
 * Limit: tensor throughput for rows >= ~1k, the L2 cache below.
 * Based on: the multistage pipeline of CUTLASS 2.x (Kerr et al.), own code. */
#ifndef CRANK_CUDA_GEMM_CUH
#define CRANK_CUDA_GEMM_CUH

#include "kernels/cuda/activations.cuh"
#include "kernels/cuda/args.h"
#include "kernels/cuda/catalog.h"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/rows.cuh"

namespace crank
{

/* What happens to a sum before it is stored. */
enum epilogue {
    EPILOGUE_bias,     /* + bias */
    EPILOGUE_gelu,     /* erf-GELU(+ bias) */
    EPILOGUE_act,      /* any other activation(+ bias) */
    EPILOGUE_gated,    /* act(u) * g; W's rows alternate 8 of u, 8 of g */
    EPILOGUE_residual, /* + bias + residual */
    EPILOGUE_norm,     /* the same, then the norm of the row, which lies in one tile */
};

template <class T, int BM_, int BN_, int WM_, int WN_, int STAGES_> struct gemm_shape {
    typedef T type;
    static constexpr int BM = BM_, BN = BN_, WM = WM_, WN = WN_, STAGES = STAGES_;
    static constexpr int THREADS = WM * WN * 32;
    static constexpr int TM = BM / WM, TN = BN / WN; /* of a warp */
    static constexpr int MI = TM / 16, NJ = TN / 8;
    static constexpr int A_BYTES = BM * 128, STAGE_BYTES = (BM + BN) * 128;
    static constexpr int LOAD_ROWS = THREADS / 8; /* rows that one pass of all threads loads */
    static_assert(TM % 16 == 0 && TN % 16 == 0, "a warp's part is made of 16 x 16 blocks");
    static_assert(BM % LOAD_ROWS == 0 && BN % LOAD_ROWS == 0 && LOAD_ROWS % 8 == 0,
                  "whole passes; the swizzle of a thread's rows is the same");
    static_assert(BM * BN * 2 <= STAGE_BYTES, "the staging area is one ring slot");
};

/* One row of x and one column of w, as far as int8 needs them. */
struct quantised {
    float x_scale, w_scale;
    int32_t x_zero, w_sum;
};

/* The sum of one element as f32, bias added. int8: the zero point's share is taken away in
 * integers; the rest in this order, as kernels/cpu has it. */
__device__ __forceinline__ float finish_sum(float sum, const quantised &, float bias)
{
    return sum + bias;
}

__device__ __forceinline__ float finish_sum(int32_t sum, const quantised &q, float bias)
{
    const float exact = static_cast<float>(sum - q.x_zero * q.w_sum);
    return __fmaf_rn(__fmul_rn(exact, q.w_scale), q.x_scale, bias);
}

/* finish(staging): what a whole tile goes through before it leaves (EPILOGUE_norm). */
template <class S, epilogue E, class Finish>
__device__ __forceinline__ void gemm(const gemm_args &a, const Finish &finish_tile)
{
    typedef typename S::type T;
    typedef typename value_of<T>::type V;
    typedef typename mma<T>::accumulator acc;
    constexpr bool INT8 = sizeof(acc) == 4 && static_cast<acc>(0.5f) == 0;
    constexpr bool RESIDUAL = E == EPILOGUE_residual || E == EPILOGUE_norm;
    extern __shared__ __align__(128) unsigned char gemm_shared[];

    const int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
    const int warp_m = warp % S::WM, warp_n = warp / S::WM;
    const int n0 = blockIdx.x * S::BN, m0 = blockIdx.y * S::BM;
    const uint32_t shared = shared_address(gemm_shared);

    begin_after();
    const int rows = count_of(a.n_rows);
    if (m0 >= rows) return;

    /* Loads: thread i brings chunk i % 8 of rows i / 8, + LOAD_ROWS, ... of both tiles. */
    const int load_row = tid >> 3, load_chunk = tid & 7;
    const uint32_t load_at = swizzled<128>(load_row, load_chunk);
    const unsigned char *x_from = static_cast<const unsigned char *>(a.x) + load_chunk * 16;
    const unsigned char *w_from = static_cast<const unsigned char *>(a.w) + load_chunk * 16;

    auto load_step = [&](int step) {
        const uint32_t slot = shared + (step % S::STAGES) * S::STAGE_BYTES + load_at;
        const int k = step * 128;
        const bool in_k = k + load_chunk * 16 < a.x_bytes;
#pragma unroll
        for (int i = 0; i < S::BM / S::LOAD_ROWS; i++) {
            const int row = m0 + load_row + i * S::LOAD_ROWS;
            const bool valid = in_k && row < rows;
            const unsigned char *from =
                valid ? x_from + static_cast<size_t>(row) * a.x_bytes + k : x_from;
            cp_async(slot + i * S::LOAD_ROWS * 128, from, valid ? 16 : 0);
        }
#pragma unroll
        for (int i = 0; i < S::BN / S::LOAD_ROWS; i++) {
            /* Rows past n repeat the last one: their sums are never stored. */
            const int row = min(n0 + load_row + i * S::LOAD_ROWS, a.n - 1);
            cp_async(slot + S::A_BYTES + i * S::LOAD_ROWS * 128,
                     w_from + static_cast<size_t>(row) * a.w_bytes + k, 16);
        }
    };

    /* The output tile, in the slot after the last step. */
    constexpr int OUT_COLUMNS = E == EPILOGUE_gated ? S::BN / 2 : S::BN;
    constexpr int OUT_BYTES = OUT_COLUMNS * 2, OUT_CHUNKS = OUT_BYTES / 16;
    const int out0 = E == EPILOGUE_gated ? n0 / 2 : n0;
    const uint32_t staging = shared + (a.k_tiles % S::STAGES) * S::STAGE_BYTES;

    auto load_residual = [&]() {
        const unsigned char *from = static_cast<const unsigned char *>(a.residual);
        /* Runs once but stands in the main loop's code: unrolled it was most of it. */
#pragma unroll 1
        for (int i = tid; i < S::BM * OUT_CHUNKS; i += S::THREADS) {
            const int r = i / OUT_CHUNKS, c = i % OUT_CHUNKS;
            const int row = m0 + r, column = out0 + c * 8;
            const bool valid = row < rows && column < a.out_ld;
            const size_t at = valid ? (static_cast<size_t>(row) * a.out_ld + column) * 2 : 0;
            cp_async(staging + swizzled<OUT_BYTES>(r, c), from + at, valid ? 16 : 0);
        }
    };

    acc c[S::MI][S::NJ][4];
#pragma unroll
    for (int i = 0; i < S::MI; i++)
#pragma unroll
        for (int j = 0; j < S::NJ; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) c[i][j][e] = 0;

    /* A thread's ldmatrix addresses within a slot; a k step of 32 bytes flips address bits 5, 6. */
    const uint32_t a_at = swizzled<128>(warp_m * S::TM + (lane & 15), lane >> 4);
    const uint32_t b_at =
        S::A_BYTES +
        swizzled<128>(warp_n * S::TN + (lane & 7) + ((lane >> 4) << 3), (lane >> 3) & 1);

#pragma unroll 1
    for (int s = 0; s < S::STAGES - 1; s++) {
        if (s < a.k_tiles)
            load_step(s);
        else if (RESIDUAL && s == a.k_tiles)
            load_residual();
        cp_async_commit();
    }

    for (int step = 0; step < a.k_tiles; step++) {
        cp_async_wait<S::STAGES - 2>();
        __syncthreads();
        const int next = step + S::STAGES - 1;
        if (next < a.k_tiles)
            load_step(next);
        else if (RESIDUAL && next == a.k_tiles)
            load_residual();
        cp_async_commit();

        const uint32_t slot = shared + (step % S::STAGES) * S::STAGE_BYTES;
#pragma unroll
        for (int ks = 0; ks < 4; ks++) {
            uint32_t fa[S::MI][4], fb[S::NJ / 2][4];
#pragma unroll
            for (int i = 0; i < S::MI; i++)
                ldmatrix_x4(fa[i], slot + ((a_at + i * 16 * 128) ^ (ks << 5)));
#pragma unroll
            for (int j = 0; j < S::NJ / 2; j++)
                ldmatrix_x4(fb[j], slot + ((b_at + j * 16 * 128) ^ (ks << 5)));
#pragma unroll
            for (int i = 0; i < S::MI; i++)
#pragma unroll
                for (int j = 0; j < S::NJ / 2; j++) {
                    mma<T>::run(c[i][2 * j], fa[i], fb[j][0], fb[j][1]);
                    mma<T>::run(c[i][2 * j + 1], fa[i], fb[j][2], fb[j][3]);
                }
        }
    }

    cp_async_wait<0>();
    if (RESIDUAL) __syncthreads(); /* everybody's part of the residual is there */

    const int g = lane >> 2, t = lane & 3;
    uint16_t *out = static_cast<uint16_t *>(a.out);

    /* This thread's pair of columns of row block i, half, column block j. */
    auto finish = [&](int i, int half, int j, quantised q) {
        const int column = min(n0 + warp_n * S::TN + j * 8 + 2 * t, a.n - 2);
        const float2 bias = __ldg(reinterpret_cast<const float2 *>(a.bias + column));
        quantised r = q;
        if (INT8) {
            const float2 scale = __ldg(reinterpret_cast<const float2 *>(a.w_scale + column));
            const int2 sums = __ldg(reinterpret_cast<const int2 *>(a.w_sums + column));
            q.w_scale = scale.x, q.w_sum = sums.x;
            r.w_scale = scale.y, r.w_sum = sums.y;
        }
        return make_float2(finish_sum(c[i][j][2 * half], q, bias.x),
                           finish_sum(c[i][j][2 * half + 1], r, bias.y));
    };
    auto row_of = [&](int r) {
        quantised q = {0.0f, 0.0f, 0, 0};
        if (INT8) {
            const int row = min(m0 + r, rows - 1);
            q.x_scale = a.x_scale[row], q.x_zero = a.x_zero[row];
        }
        return q;
    };

    if constexpr (E == EPILOGUE_act || E == EPILOGUE_gated) {
        /* Six activations unrolled over the accumulators would be most of the program's code. The
         * sums go through shared memory in f32 instead, and a rolled loop finishes them. */
        constexpr int ROW = S::BN * 4;
        auto place = [&](int r, int local) {
            return shared + r * ROW + (((local >> 2) ^ ((r & 3) << 1)) << 4) + (local & 3) * 4;
        };
        __syncthreads();
#pragma unroll
        for (int i = 0; i < S::MI; i++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int r = warp_m * S::TM + i * 16 + half * 8 + g;
                const quantised q = row_of(r);
#pragma unroll
                for (int j = 0; j < S::NJ; j++)
                    store_shared(place(r, warp_n * S::TN + j * 8 + 2 * t), finish(i, half, j, q));
            }
        __syncthreads();
        constexpr int PAIRS = OUT_COLUMNS / 2;
#pragma unroll 1
        for (int i = tid; i < S::BM * PAIRS; i += S::THREADS) {
            const int r = i / PAIRS, o = i % PAIRS * 2;
            const int row = m0 + r, column = out0 + o;
            if (row >= rows || column >= a.out_ld) continue;
            const int local = E == EPILOGUE_gated ? (o >> 3) * 16 + (o & 7) : o;
            float2 v = activate(load_shared2(place(r, local)), a.activation);
            if (E == EPILOGUE_gated) {
                const float2 gate = load_shared2(place(r, local + 8));
                v.x *= gate.x, v.y *= gate.y;
            }
            *reinterpret_cast<uint32_t *>(out + static_cast<size_t>(row) * a.out_ld + column) =
                V::pack(v.x, v.y);
        }
    } else {
        /* Sums to 16-bit values in the staging area. The slot was last read STAGES-1 steps ago,
         * before a barrier. */
#pragma unroll
        for (int i = 0; i < S::MI; i++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int r = warp_m * S::TM + i * 16 + half * 8 + g;
                const quantised q = row_of(r);
#pragma unroll
                for (int j = 0; j < S::NJ; j++) {
                    float2 v = finish(i, half, j, q);
                    if (E == EPILOGUE_gelu) v = gelu(v);
                    const uint32_t at =
                        staging + swizzled<OUT_BYTES>(r, (warp_n * S::TN >> 3) + j) + t * 4;
                    if (RESIDUAL) {
                        const float2 residual = V::unpack(load_shared(at));
                        v.x += residual.x, v.y += residual.y;
                    }
                    store_shared(at, V::pack(v.x, v.y));
                }
            }
        }
        __syncthreads();
        if (E == EPILOGUE_norm) {
            finish_tile(staging, m0, rows);
            if (out == nullptr) return;
        }

        for (int i = tid; i < S::BM * OUT_CHUNKS; i += S::THREADS) {
            const int r = i / OUT_CHUNKS, ch = i % OUT_CHUNKS;
            const int row = m0 + r, column = out0 + ch * 8;
            if (row < rows && column < a.out_ld)
                *reinterpret_cast<uint4 *>(out + static_cast<size_t>(row) * a.out_ld + column) =
                    load_shared4(staging + swizzled<OUT_BYTES>(r, ch));
        }
    }
}

/* What a kernel with this epilogue is launched with. */
template <epilogue E> struct gemm_args_of {
    typedef gemm_args args;
};
template <> struct gemm_args_of<EPILOGUE_norm> {
    typedef gemm_norm_args args;
};

struct no_finish {
    __device__ __forceinline__ void operator()(uint32_t, int, int) const {}
};

template <class S, epilogue E> __device__ __forceinline__ void run_gemm(const gemm_args &a)
{
    gemm<S, E>(a, no_finish());
}

/* A warp a row, as rows.cuh has it: the bits of the norm kernel over the same 16-bit sums. */
template <class S, epilogue E> __device__ __forceinline__ void run_gemm(const gemm_norm_args &a)
{
    typedef typename value_of<typename S::type>::type V;
    constexpr int NV = (S::BN + 255) / 256;
    gemm<S, E>(a.gemm, [&](uint32_t staging, int m0, int rows) {
        const int lane = threadIdx.x & 31;
        for (int r = threadIdx.x >> 5; r < S::BM && m0 + r < rows; r += S::THREADS / 32) {
            row<NV> x;
#pragma unroll
            for (int i = 0; i < NV; i++) {
                const int chunk = lane + 32 * i;
                if (chunk * 8 < a.cols)
                    unpack8<V>(x.v[i], load_shared4(staging + swizzled<S::BN * 2>(r, chunk)));
                else
                    zero8(x.v[i]);
            }
            norm_row(x, a.cols, a.norm, a.vectors != 0);
            store_row<V>(x, a.out, m0 + r, a.cols);
        }
    });
}

} // namespace crank

#define GEMM_SHAPE(bm, bn, wm, wn, stages)                                                         \
    namespace crank                                                                                \
    {                                                                                              \
    template <class T> struct gemm_##bm##x##bn : gemm_shape<T, bm, bn, wm, wn, stages> {           \
    };                                                                                             \
    }
GEMM_TILES(GEMM_SHAPE)
#undef GEMM_SHAPE

/* type: of the operands; prefix: its name in the catalog; the rest: more launch bounds */
#define GEMM_ENTRY(bm, bn, name, type, prefix, ...)                                                \
    extern "C" __global__ void __launch_bounds__(                                                  \
        crank::gemm_##bm##x##bn<crank::type>::THREADS __VA_ARGS__)                                 \
        gemm_##prefix##_##bm##x##bn##_##name(                                                      \
            const __grid_constant__ crank::gemm_args_of<crank::EPILOGUE_##name>::args a)           \
    {                                                                                              \
        crank::run_gemm<crank::gemm_##bm##x##bn<crank::type>, crank::EPILOGUE_##name>(a);          \
    }
#define GEMM_KERNEL(bm, bn, name, type, prefix) GEMM_ENTRY(bm, bn, name, type, prefix, )
/* Its ring leaves room for one block a multiprocessor; not told so, ptxas 13.0 spills for sm_120.
 */
#define GEMM_NORM_KERNEL(bm, bn, name, type, prefix) GEMM_ENTRY(bm, bn, name, type, prefix, , 1)

#endif
