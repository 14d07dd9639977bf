// Kernels as engineers write them: what nvcc makes of their C++ and of cuda_fp16.h and cuda_bf16.h
// must load and run. kernels/emu/README.md measures some of them with crank-emu; numbers are held to
// a reference in the tests of crank's own kernels.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#undef NDEBUG
#include <assert.h>

typedef uint32_t u32;
#define KERNEL extern "C" __global__ void
#define FULL 0xffffffffu

__device__ __forceinline__ u32 shared_address(const void *p)
{
    return (u32)__cvta_generic_to_shared(p);
}
__device__ __forceinline__ float warp_sum(float v)
{
#pragma unroll
    for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(FULL, v, o);
    return v;
}

// ---- rows --------------------------------------------------------------------------------------
// y[t,:] = LayerNorm(x[t,:] + bias) * gamma + beta; a warp a row, 4 rows a block.
KERNEL __launch_bounds__(128) layer_norm(const __half *x, const float *bias, const float *gamma,
                                         const float *beta, __half *y, int rows, int width)
{
    int row = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    const __half *in = x + (size_t)row * width;
    float sum = 0, squares = 0;
    for (int i = lane; i < width; i += 32) sum += __half2float(in[i]) + bias[i];
    float mean = warp_sum(sum) / width;
    for (int i = lane; i < width; i += 32) {
        float d = __half2float(in[i]) + bias[i] - mean;
        squares += d * d;
    }
    float scale = rsqrtf(warp_sum(squares) / width + 1e-12f);
    for (int i = lane; i < width; i += 32)
        y[(size_t)row * width + i] =
            __float2half((__half2float(in[i]) + bias[i] - mean) * scale * gamma[i] + beta[i]);
}
// The same mean by a block, through shared memory.
KERNEL __launch_bounds__(256) block_mean(const float *x, float *y, int width)
{
    __shared__ float parts[8];
    const float *in = x + (size_t)blockIdx.x * width;
    float sum = 0;
    for (int i = threadIdx.x; i < width; i += blockDim.x) sum += in[i];
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x < 32) {
        sum = threadIdx.x < blockDim.x / 32 ? parts[threadIdx.x] : 0;
        sum = warp_sum(sum);
        if (threadIdx.x == 0) y[blockIdx.x] = sum / width;
    }
}
KERNEL gelu(const __nv_bfloat162 *x, __nv_bfloat162 *y, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float2 v = __bfloat1622float2(x[i]);
    v.x = 0.5f * v.x * (1 + erff(v.x * 0.70710678f));
    v.y = 0.5f * v.y * (1 + erff(v.y * 0.70710678f));
    y[i] = __float22bfloat162_rn(v);
}

// ---- attention ---------------------------------------------------------------------------------
// One block: 64 queries x keys of one head, width 32, in tiles of 64 keys, double-buffered cp.async,
// ldmatrix, mma bf16, online softmax. q, k, v, o: [length, 32]. SWIZZLED 0 leaves the bank conflicts
// in.
__device__ __forceinline__ void copy16(u32 to, const void *from, int bytes)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes)
                 : "memory");
}
__device__ __forceinline__ void ldmatrix4(u32 *r, u32 at)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}
__device__ __forceinline__ void ldmatrix4_trans(u32 *r, u32 at)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}
__device__ __forceinline__ void mma_bf16(float *d, const u32 *a, u32 b0, u32 b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, "
                 "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ u32 pack(float low, float high)
{
    u32 d;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(high), "f"(low));
    return d;
}
// Byte offset of 16-byte chunk c of row r in a tile of 64-byte rows.
template <int SWIZZLED> __device__ __forceinline__ u32 place(int r, int c)
{
    return r * 64 + 16 * (SWIZZLED ? c ^ ((r >> 1) & 3) : c);
}
template <int SWIZZLED>
__device__ __forceinline__ void load_tile(u32 to, const __nv_bfloat16 *from, int first, int length)
{
    for (int i = threadIdx.x; i < 64 * 4; i += 128) {
        int r = i / 4, c = i % 4, row = first + r;
        copy16(to + place<SWIZZLED>(r, c), from + (size_t)(row < length ? row : 0) * 32 + 8 * c,
               row < length ? 16 : 0);
    }
}
template <int SWIZZLED>
__device__ __forceinline__ void attention(const __nv_bfloat16 *q, const __nv_bfloat16 *k,
                                          const __nv_bfloat16 *v, __nv_bfloat16 *o, int length)
{
    __shared__ __align__(128) char tiles[5][64 * 64]; // q, then k and v of two stages
    size_t head = (size_t)blockIdx.y * length * 32;
    q += head, k += head, v += head, o += head;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane >> 2, t = lane & 3;
    u32 base = shared_address(tiles);
    int n_tiles = (length + 63) / 64, first_query = blockIdx.x * 64;
    load_tile<SWIZZLED>(base, q, first_query, length);
    load_tile<SWIZZLED>(base + 4096, k, 0, length);
    load_tile<SWIZZLED>(base + 3 * 4096, v, 0, length);
    asm volatile("cp.async.commit_group;" ::: "memory");
    float out[4][4] = {}, high[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
    const float scale = 0.17677669529f * 1.44269504f;
    u32 qa[2][4];
    for (int tile = 0; tile < n_tiles; tile++) {
        int stage = tile & 1;
        if (tile + 1 < n_tiles) {
            load_tile<SWIZZLED>(base + 4096 * (2 - stage), k, (tile + 1) * 64, length);
            load_tile<SWIZZLED>(base + 4096 * (4 - stage), v, (tile + 1) * 64, length);
        }
        asm volatile("cp.async.commit_group;\n\tcp.async.wait_group 1;" ::: "memory");
        __syncthreads();
        if (tile == 0)
            for (int s = 0; s < 2; s++)
                ldmatrix4(qa[s], base + place<SWIZZLED>(warp * 16 + (lane & 15), 2 * s + (lane >> 4)));
        u32 kt = base + 4096 * (1 + stage), vt = base + 4096 * (3 + stage);
        float s[8][4];
#pragma unroll
        for (int j = 0; j < 8; j++) {
            u32 b[4];
            ldmatrix4(b, kt + place<SWIZZLED>(8 * j + (lane & 7), lane >> 3));
            s[j][0] = s[j][1] = s[j][2] = s[j][3] = 0;
            mma_bf16(s[j], qa[0], b[0], b[1]);
            mma_bf16(s[j], qa[1], b[2], b[3]);
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float most = high[half];
#pragma unroll
            for (int j = 0; j < 8; j++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    int key = tile * 64 + 8 * j + 2 * t + e;
                    float x = key < length ? s[j][2 * half + e] * scale : -INFINITY;
                    s[j][2 * half + e] = x;
                    most = fmaxf(most, x);
                }
            most = fmaxf(most, __shfl_xor_sync(FULL, most, 1));
            most = fmaxf(most, __shfl_xor_sync(FULL, most, 2));
            float shrink = exp2f(high[half] - most);
            high[half] = most;
            sum[half] *= shrink;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                out[j][2 * half] *= shrink;
                out[j][2 * half + 1] *= shrink;
            }
#pragma unroll
            for (int j = 0; j < 8; j++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    float p = exp2f(s[j][2 * half + e] - most);
                    s[j][2 * half + e] = p;
                    sum[half] += p;
                }
        }
#pragma unroll
        for (int step = 0; step < 4; step++) {
            u32 a[4] = {pack(s[2 * step][0], s[2 * step][1]), pack(s[2 * step][2], s[2 * step][3]),
                        pack(s[2 * step + 1][0], s[2 * step + 1][1]),
                        pack(s[2 * step + 1][2], s[2 * step + 1][3])};
#pragma unroll
            for (int pair = 0; pair < 2; pair++) {
                u32 b[4];
                ldmatrix4_trans(
                    b, vt + place<SWIZZLED>(16 * step + (lane & 15), 2 * pair + (lane >> 4)));
                mma_bf16(out[2 * pair], a, b[0], b[1]);
                mma_bf16(out[2 * pair + 1], a, b[2], b[3]);
            }
        }
        __syncthreads();
    }
    for (int half = 0; half < 2; half++) {
        float all = sum[half];
        all += __shfl_xor_sync(FULL, all, 1);
        all += __shfl_xor_sync(FULL, all, 2);
        float inverse = 1.0f / all;
        int row = first_query + warp * 16 + g + 8 * half;
        if (row < length)
            for (int j = 0; j < 4; j++)
                *(u32 *)(o + (size_t)row * 32 + 8 * j + 2 * t) =
                    pack(out[j][2 * half] * inverse, out[j][2 * half + 1] * inverse);
    }
}
KERNEL __launch_bounds__(128) attention_swizzled(const __nv_bfloat16 *q, const __nv_bfloat16 *k,
                                                 const __nv_bfloat16 *v, __nv_bfloat16 *o,
                                                 int length)
{
    attention<1>(q, k, v, o, length);
}
KERNEL __launch_bounds__(128) attention_plain(const __nv_bfloat16 *q, const __nv_bfloat16 *k,
                                              const __nv_bfloat16 *v, __nv_bfloat16 *o, int length)
{
    attention<0>(q, k, v, o, length);
}

// ---- int8 --------------------------------------------------------------------------------------
// c[m][n] = sum a[m][k] b[n][k], 16 x 8 a warp, k a multiple of 32.
KERNEL __launch_bounds__(32) gemm_s8(const signed char *a, const signed char *b, int *c, int n, int k)
{
    int lane = threadIdx.x, g = lane >> 2, t = lane & 3, row = blockIdx.y * 16, column = blockIdx.x * 8;
    int d[4] = {0, 0, 0, 0};
    for (int i = 0; i < k; i += 32) {
        const signed char *ar = a + (size_t)(row + g) * k + i + 4 * t, *ar8 = ar + 8 * (size_t)k;
        const signed char *br = b + (size_t)(column + g) * k + i + 4 * t;
        asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, "
                     "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                     : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                     : "r"(*(const int *)ar), "r"(*(const int *)ar8), "r"(*(const int *)(ar + 16)),
                       "r"(*(const int *)(ar8 + 16)), "r"(*(const int *)br),
                       "r"(*(const int *)(br + 16)));
    }
    c[(row + g) * n + column + 2 * t] = d[0];
    c[(row + g) * n + column + 2 * t + 1] = d[1];
    c[(row + g + 8) * n + column + 2 * t] = d[2];
    c[(row + g + 8) * n + column + 2 * t + 1] = d[3];
}
KERNEL gemv_dp4a(const int *a, const int *b, int *c, int k4)
{
    int row = blockIdx.x * blockDim.x + threadIdx.x, sum = 0;
    for (int i = 0; i < k4; i++) sum = __dp4a(a[row * k4 + i], b[i], sum);
    c[row] = sum;
}
// Round to nearest, clamp, four to a word: what a quantising epilogue does.
KERNEL quantise(const float4 *x, char4 *q, float scale, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float4 v = x[i];
    char4 c;
    c.x = (signed char)max(-127, min(127, __float2int_rn(v.x * scale)));
    c.y = (signed char)max(-127, min(127, __float2int_rn(v.y * scale)));
    c.z = (signed char)max(-127, min(127, __float2int_rn(v.z * scale)));
    c.w = (signed char)max(-127, min(127, __float2int_rn(v.w * scale)));
    q[i] = c;
}

// ---- numbers -----------------------------------------------------------------------------------
#define N_MATH 24
KERNEL functions(const float *x, float *y, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float v = x[i], p = fabsf(v) + 1e-3f, *o = y + (size_t)i * N_MATH;
    o[0] = erff(v);
    o[1] = expf(v);
    o[2] = logf(p);
    o[3] = tanhf(v);
    o[4] = sqrtf(p);
    o[5] = sinf(v * 1000);
    o[6] = cosf(v * 1e6f);
    o[7] = powf(p, 1.7f);
    o[8] = log1pf(p);
    o[9] = expm1f(v);
    o[10] = cbrtf(v);
    o[11] = erfcf(v);
    o[12] = fmodf(v, 1.3f);
    o[13] = rintf(v);
    o[14] = roundf(v * 2);
    o[15] = 1 / v;
    o[16] = v / 3.7f;
    o[17] = ldexpf(v, 3);
    o[18] = atan2f(v, 0.3f);
    o[19] = hypotf(v, 2);
    o[20] = (float)exp((double)v);
    o[21] = (float)pow((double)p, 0.3);
    o[22] = (float)tanh((double)v);
    o[23] = (float)log((double)p);
}
#define N_INTEGERS 16
KERNEL integers(const int *x, const long long *y, long long *z, int n)
{
    int i = threadIdx.x, v = x[i];
    u32 u = v;
    long long w = y[i], *o = z + i * N_INTEGERS;
    o[0] = v / n;
    o[1] = v % n;
    o[2] = u / 7u;
    o[3] = u % 1000u;
    o[4] = w / (n + 12345678901ll);
    o[5] = w % 1000003;
    o[6] = __mul64hi(w, w);
    o[7] = (long long)__umulhi(u, u);
    o[8] = __popc(u) + __clz(v) * 100 + __ffs(v) * 10000;
    o[9] = (signed char)v + ((short)v << 1);
    o[10] = __funnelshift_l(u, u * 3, 7);
    o[11] = __byte_perm(u, u * 5, 0x5240);
    o[12] = __usad(u, 77, 5);
    o[13] = (long long)((unsigned long long)w >> (v & 31)) ^ (w << (v & 15));
    o[14] = (long long)(float)w;
    o[15] = (long long)(double)v * n;
}
#define N_HALF 12
KERNEL halves(const __half2 *x, const __half2 *y, __half2 *z)
{
    int i = threadIdx.x;
    __half2 a = x[i], b = y[i], *o = z + i * N_HALF;
    o[0] = __hadd2(a, b);
    o[1] = __hsub2(a, b);
    o[2] = __hmul2(a, b);
    o[3] = __hfma2(a, b, a);
    o[4] = __hmax2(a, b);
    o[5] = __hmin2(a, b);
    o[6] = __hneg2(a);
    o[7] = __habs2(b);
    o[8] = __hgt2(a, b);
    o[9] = __floats2half2_rn(__low2float(a) * 3, __high2float(b));
    o[10] = __halves2half2(__hlt(__low2half(a), __low2half(b)) ? __low2half(a) : __high2half(b),
                           __int2half_rn(i));
    o[11] = h2rint(a);
}

// ---- control -----------------------------------------------------------------------------------
KERNEL branches(const int *x, int *y)
{
    int i = threadIdx.x, v = x[i], r = 0;
    switch (v) {
    case 0: r = 5; break;
    case 1: r = i * 3; break;
    case 2: r = i - 9; break;
    case 3: r = v ^ i; break;
    case 4: r = x[(i + 1) & 31]; break;
    case 5: r = 77; break;
    case 6: r = i << 2; break;
    case 7: r = -i; break;
    case 8: r = i * i; break;
    case 9: r = i / 3; break;
    default: r = 1;
    }
    for (int k = v; k > 0; k--) {
        if (k & 1) continue;
        r += k;
        if (r > 40) break;
    }
    y[i] = r;
}
KERNEL local_array(const int *x, int *y, int n)
{
    int kept[16], sum = 0;
    for (int i = 0; i < 16; i++) kept[i] = i * n;
    for (int i = 0; i < 8; i++) {
        kept[x[i] & 15] += i;
        sum += kept[x[i + 1] & 15];
    }
    y[threadIdx.x] = sum;
}
__noinline__ __device__ int helper(int a, int b)
{
    if (b == 0) return a;
    for (int i = 0; i < b; i++) a = a * 3 + i;
    return a;
}
KERNEL calls(int *x)
{
    int i = threadIdx.x;
    if (i % 3) x[i] = helper(x[i], i % 5) + helper(3, x[0] & 3);
}
struct settings {
    int a[8];
    const int *p;
};
__constant__ int table[8] = {3, 1, 4, 1, 5, 9, 2, 6};
__device__ int counter;
KERNEL parameters(const __grid_constant__ settings s, int *y, int k)
{
    y[threadIdx.x] = s.a[k] + s.a[threadIdx.x & 7] * 10 + s.p[0] + table[threadIdx.x & 7] * 1000;
    atomicAdd(&counter, 1);
}
KERNEL atomics(int *a, u32 *u, float *f, unsigned long long *l)
{
    __shared__ int bins[4];
    int i = threadIdx.x;
    if (i < 4) bins[i] = 0;
    __syncthreads();
    atomicAdd(&bins[i & 3], i);
    __syncthreads();
    if (i < 4) atomicAdd(a + i, bins[i]);
    atomicMax(a + 4, i);
    atomicMin(a + 5, -i);
    atomicAnd(u, ~(1u << (i & 31)));
    atomicOr(u + 1, 1u << (i & 31));
    atomicXor(u + 2, i);
    atomicInc(u + 3, 10);
    atomicDec(u + 4, 7);
    atomicCAS(u + 5, i, i + 1);
    atomicAdd(f, 0.5f);
    atomicAdd(l, 1ull << 33);
    a[8 + blockIdx.x] = __syncthreads_count(i & 1);
    __threadfence();
    if (i == 0 && atomicAdd(a + 6, 1) == (int)gridDim.x - 1) a[7] = 1; // the last block
}
KERNEL print(int n)
{
    if (threadIdx.x == 1) printf("n %d %5.2f %s %c %lld%%\n", n, 1.5, "text", 'x', 1ll << 40);
}
KERNEL check(const int *x)
{
    assert(x[threadIdx.x] < 5);
}
// 32 words apart: 32 sectors a request; and 2-way bank conflicts when step is 2.
KERNEL strided(const float *x, float *y, int step)
{
    __shared__ float tile[32 * 33];
    int i = threadIdx.x;
    tile[i * step] = x[i * 8 * step];
    __syncwarp();
    y[i] = tile[i * step];
}
