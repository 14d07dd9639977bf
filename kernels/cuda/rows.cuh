/* One row in one warp: load, normalise, store. Shared by every kernel that finishes whole rows, so
 * that a row has the same bits whichever kernel made it.
 *
 * Ownership: a row is cut into chunks of 8 columns; lane l holds chunks l, l+32, ... in f32
 * registers (NV of them: columns <= 256 * NV). Sums: each lane adds its columns in order, then the
 * lanes are added by a butterfly (xor 16, 8, 4, 2, 1): an order that depends on the width alone.
 * Columns past the end hold 0 and are stored as 0 up to ARGS_LD. */
#ifndef CRANK_CUDA_ROWS_CUH
#define CRANK_CUDA_ROWS_CUH

#include "kernels/cuda/args.h"
#include "kernels/cuda/ptx.cuh"

namespace crank
{

enum { NORM_NONE = 0, NORM_LAYER = 1, NORM_RMS = 2 };

template <int NV> struct row {
    float v[NV][8];
};

__device__ __forceinline__ void zero8(float (&v)[8])
{
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = 0.0f;
}

/* v[i] = p[i] for i < n (n may be <= 0), else 0. For weights only: __ldg may be moved above the
 * wait for the kernel before (begin_after), and must not see memory that a kernel writes. whole:
 * 16-byte loads are legal and n is 0 or 8. */
__device__ __forceinline__ void load8_f32(float (&v)[8], const float *p, int n, bool whole)
{
    zero8(v);
    if (whole && n >= 8) {
        float4 a = __ldg(reinterpret_cast<const float4 *>(p));
        float4 b = __ldg(reinterpret_cast<const float4 *>(p) + 1);
        v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
        v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (i < n) v[i] = __ldg(p + i);
    }
}

template <class T> __device__ __forceinline__ void unpack8(float (&v)[8], uint4 u)
{
    float2 a = T::unpack(u.x), b = T::unpack(u.y), c = T::unpack(u.z), d = T::unpack(u.w);
    v[0] = a.x, v[1] = a.y, v[2] = b.x, v[3] = b.y;
    v[4] = c.x, v[5] = c.y, v[6] = d.x, v[7] = d.y;
}

template <class T> __device__ __forceinline__ uint4 pack8(const float (&v)[8])
{
    return make_uint4(T::pack(v[0], v[1]), T::pack(v[2], v[3]), T::pack(v[4], v[5]),
                      T::pack(v[6], v[7]));
}

/* The same from 16-bit numbers in memory that is read-only for the kernel (tables). */
template <class T>
__device__ __forceinline__ void load8_16(float (&v)[8], const uint16_t *p, int n, bool whole)
{
    zero8(v);
    if (whole && n >= 8) {
        unpack8<T>(v, __ldg(reinterpret_cast<const uint4 *>(p)));
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (i < n) v[i] = load16<T>(p + i);
    }
}

/* A row of an activation tensor: its padding columns are there and zero. */
template <class T, int NV>
__device__ __forceinline__ void load_row(row<NV> &r, const void *tensor, int index, int cols)
{
    const int lane = threadIdx.x & 31, ld = ARGS_LD(cols);
    const uint4 *p = reinterpret_cast<const uint4 *>(static_cast<const uint16_t *>(tensor) +
                                                     static_cast<size_t>(index) * ld);
#pragma unroll
    for (int i = 0; i < NV; i++) {
        int chunk = lane + 32 * i;
        if (chunk * 8 < cols)
            unpack8<T>(r.v[i], p[chunk]);
        else
            zero8(r.v[i]);
    }
}

template <int NV>
__device__ __forceinline__ void norm_row(row<NV> &r, int cols, const norm_args &norm, bool whole)
{
    if (norm.kind == NORM_NONE) return;
    const int lane = threadIdx.x & 31;
    float mean = 0.0f, sum = 0.0f;
    if (norm.kind == NORM_LAYER) {
#pragma unroll
        for (int i = 0; i < NV; i++)
#pragma unroll
            for (int j = 0; j < 8; j++) sum += r.v[i][j];
        mean = warp_sum(sum) / static_cast<float>(cols);
        sum = 0.0f;
    }
#pragma unroll
    for (int i = 0; i < NV; i++) {
        int left = cols - (lane + 32 * i) * 8;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            float d = r.v[i][j] - mean;
            if (j < left) sum += d * d;
        }
    }
    const float scale = 1.0f / sqrtf(warp_sum(sum) / static_cast<float>(cols) + norm.epsilon);
#pragma unroll
    for (int i = 0; i < NV; i++) {
        int column = (lane + 32 * i) * 8, left = cols - column;
        if (left <= 0) continue;
        float gamma[8], beta[8];
        load8_f32(gamma, norm.gamma + column, left, whole);
        zero8(beta);
        if (norm.beta != nullptr) load8_f32(beta, norm.beta + column, left, whole);
#pragma unroll
        for (int j = 0; j < 8; j++) /* gamma and beta are 0 past the end, and so is the result */
            r.v[i][j] = (r.v[i][j] - mean) * scale * gamma[j] + beta[j];
    }
}

/* int8: the row's range [low, high], which includes 0, on 256 codes: q = round to nearest even of
 * x * 255 / (high - low), plus the zero point. Symmetric codes would lose half of them wherever a
 * row leans to one side (after GELU, after a norm with an outlier). The same steps as
 * kernels/cpu's, so equal rows become equal codes. */
struct codes {
    float low, high;
    __device__ __forceinline__ codes() : low(0.0f), high(0.0f) {}
    __device__ __forceinline__ void include(const float (&v)[8])
    {
#pragma unroll
        for (int i = 0; i < 8; i++) low = fminf(low, v[i]), high = fmaxf(high, v[i]);
    }
    __device__ __forceinline__ void finish()
    {
        low = -warp_max(-low);
        high = warp_max(high);
    }
    __device__ __forceinline__ float inverse() const
    {
        const float range = high - low, by = range > 0.0f ? 255.0f / range : 0.0f;
        return by <= 1.7014118e38f ? by : 0.0f; /* a row of 1e-37: as good as zeros */
    }
    __device__ __forceinline__ float zero() const
    {
        return rintf(-low * inverse());
    }
    __device__ __forceinline__ uint2 encode(const float (&v)[8]) const
    {
        const float by = inverse(), shift = zero();
        uint32_t q[2] = {0, 0};
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const float code = fminf(fmaxf(fmaf(v[i], by, shift), 0.0f), 255.0f);
            q[i >> 2] |= static_cast<uint32_t>(__float2int_rn(code)) << (8 * (i & 3));
        }
        return make_uint2(q[0], q[1]);
    }
    __device__ __forceinline__ void store(const row_output &out, int index) const
    {
        if ((threadIdx.x & 31) != 0) return;
        out.scale[index] = inverse() > 0.0f ? (high - low) / 255.0f : 0.0f;
        out.zero[index] = static_cast<int32_t>(zero());
    }
};

template <int NV>
__device__ __forceinline__ void quantise_row(const row<NV> &r, const row_output &out, int index,
                                             int cols)
{
    const int lane = threadIdx.x & 31, ld = ARGS_LD(cols);
    codes c;
#pragma unroll
    for (int i = 0; i < NV; i++) c.include(r.v[i]);
    c.finish();
    uint2 *p = reinterpret_cast<uint2 *>(out.operand + static_cast<size_t>(index) * ld);
#pragma unroll
    for (int i = 0; i < NV; i++) {
        int chunk = lane + 32 * i;
        if (chunk * 8 < ld) p[chunk] = c.encode(r.v[i]);
    }
    c.store(out, index);
}

template <class T, int NV>
__device__ __forceinline__ void store_row(const row<NV> &r, const row_output &out, int index,
                                          int cols)
{
    const int lane = threadIdx.x & 31, ld = ARGS_LD(cols);
    if (out.value != nullptr) {
        uint4 *p = reinterpret_cast<uint4 *>(static_cast<uint16_t *>(out.value) +
                                             static_cast<size_t>(index) * ld);
#pragma unroll
        for (int i = 0; i < NV; i++) {
            int chunk = lane + 32 * i;
            if (chunk * 8 < ld) p[chunk] = pack8<T>(r.v[i]);
        }
    }
    if (out.operand != nullptr) quantise_row(r, out, index, cols);
}

/* The same for rows of any width: load(chunk, v) gives 8 columns, as often as asked, and the row is
 * read up to four times (L1 keeps it) instead of being held in registers. Same bits. */
template <class T, class Load>
__device__ __forceinline__ void finish_wide_row(const Load &load, const norm_args &norm,
                                                const row_output &out, int index, int cols,
                                                bool whole)
{
    const int lane = threadIdx.x & 31, ld = ARGS_LD(cols);
    float mean = 0.0f, scale = 1.0f, sum = 0.0f, v[8];
    if (norm.kind == NORM_LAYER) {
        for (int c = lane; c * 8 < cols; c += 32) {
            load(c, v);
#pragma unroll
            for (int j = 0; j < 8; j++) sum += v[j];
        }
        mean = warp_sum(sum) / static_cast<float>(cols);
        sum = 0.0f;
    }
    if (norm.kind != NORM_NONE) {
        for (int c = lane; c * 8 < cols; c += 32) {
            load(c, v);
#pragma unroll
            for (int j = 0; j < 8; j++) {
                float d = v[j] - mean;
                if (c * 8 + j < cols) sum += d * d;
            }
        }
        scale = 1.0f / sqrtf(warp_sum(sum) / static_cast<float>(cols) + norm.epsilon);
    }
    auto normed = [&](int c) {
        zero8(v);
        if (c * 8 >= cols) return;
        load(c, v);
        if (norm.kind == NORM_NONE) return;
        float gamma[8], beta[8];
        load8_f32(gamma, norm.gamma + c * 8, cols - c * 8, whole);
        zero8(beta);
        if (norm.beta != nullptr) load8_f32(beta, norm.beta + c * 8, cols - c * 8, whole);
#pragma unroll
        for (int j = 0; j < 8; j++) v[j] = (v[j] - mean) * scale * gamma[j] + beta[j];
    };
    codes code;
    if (out.operand != nullptr) {
        for (int c = lane; c * 8 < cols; c += 32) {
            normed(c);
            code.include(v);
        }
        code.finish();
        code.store(out, index);
    }
    for (int c = lane; c * 8 < ld; c += 32) {
        const size_t at = static_cast<size_t>(index) * ld + c * 8;
        normed(c);
        if (out.operand != nullptr) *reinterpret_cast<uint2 *>(out.operand + at) = code.encode(v);
        if (out.value != nullptr)
            *reinterpret_cast<uint4 *>(static_cast<uint16_t *>(out.value) + at) = pack8<T>(v);
    }
}

__device__ __forceinline__ int count_of(const row_count &n)
{
    return n.device != nullptr ? *n.device : n.value;
}

} // namespace crank

#endif
