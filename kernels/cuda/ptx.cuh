/* The PTX instructions that the kernels are made of, one function each, and conversions between f32
 * and the two 16-bit types.
 *
 * Lane l of a warp: g = l >> 2, t = l & 3. Fragments of mma.m16n8k16 (16-bit) and m16n8k32 (8-bit):
 *   A  a0: row g, bytes 4t..4t+3 of the 32-byte k step    a1: row g+8    a2, a3: the same, bytes
 * 16+4t.. B  b0: column g, bytes 4t..        b1: column g, bytes 16+4t.. C  c0, c1: row g, columns
 * 2t, 2t+1     c2, c3: row g+8 Source: PTX ISA 9.0, sections on mma, ldmatrix, cp.async,
 * griddepcontrol. */
#ifndef CRANK_CUDA_PTX_CUH
#define CRANK_CUDA_PTX_CUH

#include <stdint.h>

namespace crank
{

/* ---- 16-bit types: always two to a register, low half = smaller index ---- */

struct f16 {
    static __device__ __forceinline__ uint32_t pack(float lo, float hi)
    {
        uint32_t d;
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(hi), "f"(lo));
        return d;
    }
    static __device__ __forceinline__ float2 unpack(uint32_t v)
    {
        float2 f;
        asm("{\n\t.reg .b16 l, h;\n\tmov.b32 {l, h}, %2;\n\tcvt.f32.f16 %0, l;\n\tcvt.f32.f16 %1, "
            "h;\n\t}"
            : "=f"(f.x), "=f"(f.y)
            : "r"(v));
        return f;
    }
};

struct bf16 {
    static __device__ __forceinline__ uint32_t pack(float lo, float hi)
    {
        uint32_t d;
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(hi), "f"(lo));
        return d;
    }
    static __device__ __forceinline__ float2 unpack(uint32_t v)
    {
        return make_float2(__uint_as_float(v << 16), __uint_as_float(v & 0xffff0000u));
    }
};

/* The operands of an int8 GEMM: x unsigned with a zero point, W signed. Its values are f16. */
struct int8;

template <class T> struct value_of {
    typedef T type;
};
template <> struct value_of<int8> {
    typedef f16 type;
};

template <class T> __device__ __forceinline__ float load16(const uint16_t *p)
{
    return T::unpack(*p).x;
}

/* ---- tensor cores ---- */

template <class T> struct mma;

template <> struct mma<f16> {
    typedef float accumulator;
    static __device__ __forceinline__ void run(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                               uint32_t b1)
    {
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, "
                     "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
};

template <> struct mma<bf16> {
    typedef float accumulator;
    static __device__ __forceinline__ void run(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                               uint32_t b1)
    {
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, "
                     "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
};

/* |sum| <= 255 * 127 * K stays below 2^31 up to K = 66311, so .satfinite is not needed. */
template <> struct mma<int8> {
    typedef int32_t accumulator;
    static __device__ __forceinline__ void run(int32_t (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                               uint32_t b1)
    {
        asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, "
                     "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                     : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
};

/* ---- shared memory ---- */

__device__ __forceinline__ uint32_t shared_address(const void *p)
{
    return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

/* Matrix i of 8 rows x 16 bytes takes its row addresses from lanes 8i .. 8i+7. */
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&d)[4], uint32_t address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(address)
                 : "memory");
}

__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&d)[4], uint32_t address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(address)
                 : "memory");
}

/* Copies the first `bytes` (0..16) of 16 and fills the rest with zeros; source must be a valid
 * 16-byte aligned address even when bytes is 0. */
__device__ __forceinline__ void cp_async(uint32_t target, const void *source, int bytes)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(source),
                 "r"(bytes)
                 : "memory");
}

__device__ __forceinline__ void cp_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Returns when at most N of this thread's latest groups are open. */
template <int N> __device__ __forceinline__ void cp_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* Chunk (16 bytes) c of row r, for rows of ROW_BYTES: where it lies within the tile, in bytes. Any
 * eight consecutive rows of one chunk, and any eight chunks of consecutive threads, fall into
 * different bank groups. */
template <int ROW_BYTES> __device__ __forceinline__ uint32_t swizzled(int r, int c)
{
    constexpr int shift = ROW_BYTES >= 128 ? 0 : ROW_BYTES == 64 ? 1 : 2;
    constexpr int mask = ROW_BYTES >= 128 ? 7 : ROW_BYTES / 16 - 1;
    return r * ROW_BYTES + ((c ^ ((r >> shift) & mask)) << 4);
}

__device__ __forceinline__ void store_shared(uint32_t address, uint32_t v)
{
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(v) : "memory");
}

__device__ __forceinline__ void store_shared(uint32_t address, uint4 v)
{
    asm volatile("st.shared.v4.b32 [%0], {%1,%2,%3,%4};" ::"r"(address), "r"(v.x), "r"(v.y),
                 "r"(v.z), "r"(v.w)
                 : "memory");
}

__device__ __forceinline__ void store_shared(uint32_t address, float2 v)
{
    asm volatile("st.shared.v2.f32 [%0], {%1,%2};" ::"r"(address), "f"(v.x), "f"(v.y) : "memory");
}

__device__ __forceinline__ float2 load_shared2(uint32_t address)
{
    float2 v;
    asm volatile("ld.shared.v2.f32 {%0,%1}, [%2];"
                 : "=f"(v.x), "=f"(v.y)
                 : "r"(address)
                 : "memory");
    return v;
}

__device__ __forceinline__ uint32_t load_shared(uint32_t address)
{
    uint32_t v;
    asm volatile("ld.shared.b32 %0, [%1];" : "=r"(v) : "r"(address) : "memory");
    return v;
}

__device__ __forceinline__ uint4 load_shared4(uint32_t address)
{
    uint4 v;
    asm volatile("ld.shared.v4.b32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(address)
                 : "memory");
    return v;
}

/* ---- arithmetic ---- */

/* 2^x within 2 units in the last place; 2^-inf = 0. */
__device__ __forceinline__ float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* 1 / x within 1 unit in the last place. */
__device__ __forceinline__ float reciprocal_fast(float x)
{
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float warp_sum(float v)
{
#pragma unroll
    for (int m = 16; m > 0; m >>= 1) v += __shfl_xor_sync(0xffffffffu, v, m);
    return v;
}

__device__ __forceinline__ float warp_max(float v)
{
#pragma unroll
    for (int m = 16; m > 0; m >>= 1) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, m));
    return v;
}

/* ---- programmatic dependent launch ---- */

/* Every kernel calls begin_after() before it touches memory that an earlier kernel writes: it waits
 * for the whole predecessor. Having waited, it lets its own successor be put on the machine. The
 * chain of waits orders all kernels of a stream. Only code for sm_90 and later has it; the host
 * asks for overlapping launches only when such code was loaded. Loads that the compiler may move
 * above the wait (__ldg, const __restrict__) are for weights only. */
__device__ __forceinline__ void begin_after()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

} // namespace crank

#endif
