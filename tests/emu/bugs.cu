// Kernels with one planted bug each, and their clean twins. emu_bugs_test.c knows which check must
// find which. All take (in, out, n); blocks have 128 threads.
#include <stdint.h>

typedef uint32_t u32;
#define KERNEL extern "C" __global__ void __launch_bounds__(128)
#define FULL 0xffffffffu

__device__ __forceinline__ u32 shared_address(const void *p)
{
    return (u32)__cvta_generic_to_shared(p);
}
__device__ __forceinline__ void copy16(float *to, const float *from)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from)
                 : "memory");
}
__device__ __forceinline__ void commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int N> __device__ __forceinline__ void wait_group()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// ---- two-stage pipeline ------------------------------------------------------------------------
// Tiles of 512 floats pass through two buffers; each thread adds up four values that another thread
// of another warp copied. n tiles.
enum { CLEAN, LAX_WAIT, NO_BARRIER_AFTER_WAIT, NO_BARRIER_BEFORE_REUSE, IN_FLIGHT_AT_EXIT };

template <int BUG> __device__ __forceinline__ void pipeline(const float *in, float *out, int n)
{
    __shared__ __align__(16) float stage[2][512];
    int t = threadIdx.x;
    float sum = 0;
    copy16(&stage[0][4 * t], in + 4 * t);
    commit();
    for (int i = 0; i < n; i++) {
        if (i + 1 < n) copy16(&stage[(i + 1) & 1][4 * t], in + (i + 1) * 512 + 4 * t);
        commit();
        wait_group<BUG == LAX_WAIT ? 2 : 1>();
        if (BUG != NO_BARRIER_AFTER_WAIT) __syncthreads();
        int other = (t + 64) & 127;
        for (int k = 0; k < 4; k++) sum += stage[i & 1][4 * other + k];
        if (BUG != NO_BARRIER_BEFORE_REUSE) __syncthreads();
    }
    if (BUG == IN_FLIGHT_AT_EXIT) {
        copy16(&stage[0][4 * t], in + 4 * t);
        commit();
    } else {
        wait_group<0>();
    }
    out[t] = sum;
}
KERNEL pipeline_clean(const float *in, float *out, int n)
{
    pipeline<CLEAN>(in, out, n);
}
KERNEL pipeline_lax_wait(const float *in, float *out, int n)
{
    pipeline<LAX_WAIT>(in, out, n);
}
KERNEL pipeline_no_barrier_after_wait(const float *in, float *out, int n)
{
    pipeline<NO_BARRIER_AFTER_WAIT>(in, out, n);
}
KERNEL pipeline_no_barrier_before_reuse(const float *in, float *out, int n)
{
    pipeline<NO_BARRIER_BEFORE_REUSE>(in, out, n);
}
KERNEL pipeline_in_flight_at_exit(const float *in, float *out, int n)
{
    pipeline<IN_FLIGHT_AT_EXIT>(in, out, n);
}
KERNEL copy_never_awaited(const float *in, float *out, int n)
{
    __shared__ __align__(16) float tile[512];
    int t = threadIdx.x;
    copy16(&tile[4 * t], in + 4 * t);
    commit();
    out[t] = tile[4 * t] + n;
    wait_group<0>();
}

// ---- shared memory -----------------------------------------------------------------------------
KERNEL shared_clean(const float *in, float *out, int n)
{
    __shared__ float tile[128];
    __shared__ float warps[4];
    int t = threadIdx.x;
    tile[t] = in[t];
    __syncthreads();
    float v = tile[127 - t] * n;
    for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(FULL, v, o);
    if (t % 32 == 0) warps[t / 32] = v;
    __syncthreads();
    out[t] = warps[0] + warps[1] + warps[2] + warps[3] + tile[t];
}
KERNEL shared_no_barrier_after_store(const float *in, float *out, int n)
{
    __shared__ float tile[128];
    int t = threadIdx.x;
    tile[t] = in[t] * n;
    out[t] = tile[127 - t];
}
KERNEL shared_two_writers(const float *in, float *out, int n)
{
    __shared__ float last;
    int t = threadIdx.x;
    if (t % 32 == 0) last = in[t] * n;
    __syncthreads();
    out[t] = last;
}
KERNEL shared_no_syncwarp(const float *in, float *out, int n)
{
    __shared__ float tile[128];
    int t = threadIdx.x;
    tile[t] = in[t] * n;
    asm volatile("" ::: "memory");
    out[t] = tile[t ^ 1];
}
KERNEL shared_syncwarp(const float *in, float *out, int n)
{
    __shared__ float tile[128];
    int t = threadIdx.x;
    tile[t] = in[t] * n;
    __syncwarp();
    out[t] = tile[t ^ 1];
}
// A shuffle is no barrier for memory.
KERNEL shared_shuffle_is_no_barrier(const float *in, float *out, int n)
{
    __shared__ float tile[128];
    int t = threadIdx.x;
    tile[t] = in[t] * n;
    float v = __shfl_xor_sync(FULL, in[t], 1);
    asm volatile("" ::: "memory");
    out[t] = tile[t ^ 1] + v;
}
KERNEL shared_static_past_end(const float *in, float *out, int n)
{
    __shared__ float tile[128];
    int t = threadIdx.x;
    tile[t + (t >= 127 ? n : 0)] = in[t];
    __syncthreads();
    out[t] = tile[t & 63];
}
KERNEL shared_dynamic_past_end(const float *in, float *out, int n)
{
    extern __shared__ __align__(16) float dynamic[];
    int t = threadIdx.x;
    for (int i = t; i < 128 + n; i += 128) dynamic[i] = in[t];
    __syncthreads();
    out[t] = dynamic[127 - t];
}
KERNEL shared_unwritten(const float *in, float *out, int n)
{
    __shared__ float tile[128];
    int t = threadIdx.x;
    if (t < 128 - n) tile[t] = in[t];
    __syncthreads();
    out[t] = tile[127 - t];
}
KERNEL shared_misaligned(const float *in, float *out, int n)
{
    __shared__ __align__(16) float tile[512 + 8];
    int t = threadIdx.x;
    float x = in[t];
    asm volatile("st.shared.v4.f32 [%0], {%1,%1,%1,%1};" ::"r"(shared_address(tile + 4 * t) + 4 * n),
                 "f"(x)
                 : "memory");
    __syncthreads();
    out[t] = tile[508 - 4 * t + n];
}
KERNEL ldmatrix_misaligned(const float *in, float *out, int n)
{
    __shared__ __align__(16) float tile[512 + 8];
    int t = threadIdx.x;
    for (int i = t; i < 512 + 8; i += 128) tile[i] = in[t];
    __syncthreads();
    u32 a, b;
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(a), "=r"(b)
                 : "r"(shared_address(tile) + (t & 15) * 16 + 8 * n)
                 : "memory");
    out[t] = __uint_as_float(a ^ b);
}

// ---- global memory -----------------------------------------------------------------------------
KERNEL global_clean(const float *in, float *out, int n)
{
    int t = threadIdx.x;
    float4 v = ((const float4 *)in)[t];
    out[t] = v.x + v.y + v.z + v.w + n;
}
KERNEL global_write_past_end(const float *in, float *out, int n)
{
    int t = threadIdx.x;
    out[t + (t == 127 ? n : 0)] = in[t];
}
KERNEL global_read_past_end(const float *in, float *out, int n)
{
    int t = threadIdx.x;
    out[t] = in[t * n];
}
KERNEL global_misaligned(const float *in, float *out, int n)
{
    int t = threadIdx.x;
    float4 v = *(const float4 *)(in + 4 * t + n);
    out[t] = v.x + v.y;
}
KERNEL global_unwritten(const float *in, float *out, int n)
{
    int t = threadIdx.x;
    out[t] = in[t] + out[t + n];
}
KERNEL copy_misaligned(const float *in, float *out, int n)
{
    __shared__ __align__(16) float tile[512];
    int t = threadIdx.x;
    copy16(&tile[4 * t], in + 4 * t + n);
    commit();
    wait_group<0>();
    out[t] = tile[4 * t];
}
KERNEL local_past_end(const float *in, float *out, int n)
{
    float kept[4];
    int t = threadIdx.x;
    for (int i = 0; i < 4; i++) kept[(i * n) & 3] = in[t] + i;
    float v;
    asm volatile("{.reg .u64 a; cvta.to.local.u64 a, %1; ld.local.f32 %0, [a+400];}"
                 : "=f"(v)
                 : "l"(kept)
                 : "memory");
    out[t] = v + kept[n & 3];
}

// ---- who takes part ----------------------------------------------------------------------------
KERNEL shuffle_divergent(const float *in, float *out, int n)
{
    int t = threadIdx.x;
    float v = in[t];
    if ((t & 31) < n) v += __shfl_xor_sync(FULL, v, 1);
    out[t] = v;
}
KERNEL shuffle_from_absent_lane(const float *in, float *out, int n)
{
    int t = threadIdx.x;
    float v = in[t];
    if ((t & 31) < n) v += __shfl_sync(0xffff, v, 20);
    out[t] = v;
}
__device__ __forceinline__ void mma(float *d, const u32 *a, const u32 *b)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
                 "{%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void mma_swapped(float *d, const u32 *a, const u32 *b)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%6,%5,%7}, "
                 "{%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// in: A, 16 x 16 halves by rows, then B, 8 x 16 halves by columns; out: 16 x 8 floats, by warp 0.
template <int SWAPPED> __device__ __forceinline__ void product(const float *in, float *out)
{
    const u32 *a_rows = (const u32 *)in, *b_columns = a_rows + 128;
    int l = threadIdx.x & 31, g = l >> 2, t = l & 3;
    u32 a[4] = {a_rows[g * 8 + t], a_rows[(g + 8) * 8 + t], a_rows[g * 8 + t + 4],
                a_rows[(g + 8) * 8 + t + 4]};
    u32 b[2] = {b_columns[g * 8 + t], b_columns[g * 8 + t + 4]};
    float d[4] = {0, 0, 0, 0};
    if (SWAPPED)
        mma_swapped(d, a, b);
    else
        mma(d, a, b);
    if (threadIdx.x < 32) {
        out[g * 8 + 2 * t] = d[0];
        out[g * 8 + 2 * t + 1] = d[1];
        out[(g + 8) * 8 + 2 * t] = d[2];
        out[(g + 8) * 8 + 2 * t + 1] = d[3];
    }
}
KERNEL product_clean(const float *in, float *out, int n)
{
    product<0>(in, out);
}
KERNEL product_swapped(const float *in, float *out, int n)
{
    product<1>(in, out);
}
KERNEL mma_divergent(const float *in, float *out, int n)
{
    int t = threadIdx.x;
    u32 a[4] = {1, 2, 3, 4}, b[2] = {5, 6};
    float d[4] = {in[t], 0, 0, 0};
    if ((t & 31) < n) mma(d, a, b);
    out[t] = d[0];
}
KERNEL barrier_divergent(const float *in, float *out, int n)
{
    int t = threadIdx.x;
    if (t < n) __syncthreads();
    out[t] = in[t];
}
KERNEL barrier_after_exit(const float *in, float *out, int n)
{
    int t = threadIdx.x;
    if (t >= n) return;
    __syncthreads();
    out[t] = in[t];
}
KERNEL barrier_two_places(const float *in, float *out, int n)
{
    int t = threadIdx.x;
    float v = in[t];
    if (t < n) {
        v *= 2;
        asm volatile("bar.sync 0;" ::: "memory");
        v += in[127 - t];
    } else {
        v *= 3;
        asm volatile("bar.sync 0;" ::: "memory");
        v -= in[127 - t];
    }
    out[t] = v;
}
// No bug of its own: out[i] = in[i] + n, over the grid; for tests of the driver.
KERNEL add(const float *in, float *out, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    out[i] = in[i] + n;
}
KERNEL stop(const float *in, float *out, int n)
{
    if (in[threadIdx.x] != in[0] + n) asm volatile("trap;");
    out[threadIdx.x] = 1;
}
// Never ends when n is not 0.
KERNEL spin(const float *in, float *out, int n)
{
    volatile float *v = out;
    while (n && v[0] == in[0]) continue;
    out[threadIdx.x] = 1;
}
