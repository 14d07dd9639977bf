#include "bench/peaks.h"

#include <string.h>

#include "clock.h"

#define SUMS 12 /* independent: more than latency times throughput of any CPU here */
#define ROUNDS 100000

/* The compiler must neither merge nor drop the sums: each passes through an empty asm. */
#define LOOP(type, initial, step, constraint)                                                      \
    type sum[SUMS];                                                                                \
    _Pragma("GCC unroll 12") for (int i = 0; i < SUMS; i++) sum[i] = initial;                      \
    int64_t start = clock_ns();                                                                    \
    for (long n = 0; n < ROUNDS; n++) {                                                            \
        _Pragma("GCC unroll 12") for (int i = 0; i < SUMS; i++)                                    \
        {                                                                                          \
            step;                                                                                  \
            __asm__ volatile("" : "+" constraint(sum[i]));                                         \
        }                                                                                          \
    }                                                                                              \
    int64_t elapsed = clock_ns() - start;                                                          \
    return elapsed > 0 ? (double)SUMS * ROUNDS / (double)elapsed : 0

#if defined(__x86_64__)
#include <immintrin.h>

/* Each returns instructions a nanosecond. */
__attribute__((target("avx512f"))) static double rate_fma512(void)
{
    __m512 a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(1e-3f);
    LOOP(__m512, b, sum[i] = _mm512_fmadd_ps(sum[i], a, b), "v");
}

__attribute__((target("avx512f"))) static double rate_dpbf16(void)
{
    __m512i a = _mm512_set1_epi32(0x3f003f00), b = a;
    LOOP(__m512, _mm512_setzero_ps(),
         __asm__ volatile("vdpbf16ps %2, %1, %0"
                          : "+v"(sum[i])
                          : "v"(a), "v"(b)),
         "v");
}

__attribute__((target("avx512f"))) static double rate_vnni512(void)
{
    __m512i a = _mm512_set1_epi32(0x01020304), b = a;
    LOOP(__m512i, a, __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(sum[i]) : "v"(a), "v"(b)), "v");
}

__attribute__((target("avx512f,avx512bw"))) static double rate_madd512(void)
{
    __m512i a = _mm512_set1_epi32(0x00010002), b = a;
    LOOP(__m512i, a,
         __asm__ volatile(""
                          : "+v"(b)); /* or the product is made once */
         sum[i] = _mm512_add_epi32(sum[i], _mm512_madd_epi16(b, a)), "v");
}

__attribute__((target("avx2,fma"))) static double rate_fma256(void)
{
    __m256 a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(1e-3f);
    LOOP(__m256, b, sum[i] = _mm256_fmadd_ps(sum[i], a, b), "x");
}

__attribute__((target("avx2"))) static double rate_vnni256_vex(void)
{
    __m256i a = _mm256_set1_epi32(0x01020304), b = a;
    LOOP(__m256i, a,
         __asm__ volatile("%{vex%} vpdpbusd %2, %1, %0"
                          : "+x"(sum[i])
                          : "x"(a), "x"(b)),
         "x");
}

__attribute__((target("avx2"))) static double rate_vnni256_evex(void)
{
    __m256i a = _mm256_set1_epi32(0x01020304), b = a;
    LOOP(__m256i, a,
         __asm__ volatile("%{evex%} vpdpbusd %2, %1, %0"
                          : "+x"(sum[i])
                          : "x"(a), "x"(b)),
         "x");
}

__attribute__((target("avx2"))) static double rate_madd256(void)
{
    __m256i a = _mm256_set1_epi32(0x00010002), b = a;
    LOOP(__m256i, a,
         __asm__ volatile(""
                          : "+x"(b));
         sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(b, a)), "x");
}

/* Multiply and add in the smallest vectors: what portable C compiles to here. */
static double rate_mul_add128(void)
{
    __m128 a = _mm_set1_ps(0.5f), b = _mm_set1_ps(1e-3f);
    LOOP(__m128, b, sum[i] = _mm_add_ps(_mm_mul_ps(sum[i], a), b), "x");
}

static void arithmetic(double *gflops, const char *isa)
{
    bool is512 = strncmp(isa, "avx512", 6) == 0, is256 = strncmp(isa, "avx2", 4) == 0;
    if (is512) {
        gflops[OPS_F32] = rate_fma512() * 32;
        gflops[OPS_BF16] = strcmp(isa, "avx512-bf16") == 0 ? rate_dpbf16() * 64 : gflops[OPS_F32];
        gflops[OPS_INT8] = strcmp(isa, "avx512") == 0 ? rate_madd512() * 64 : rate_vnni512() * 128;
    } else if (is256) {
        gflops[OPS_F32] = gflops[OPS_BF16] = rate_fma256() * 16;
        if (strcmp(isa, "avx2") == 0) {
            gflops[OPS_INT8] = rate_madd256() * 32;
        } else {
            bool evex = __builtin_cpu_supports("avx512vnni");
            gflops[OPS_INT8] = (evex ? rate_vnni256_evex() : rate_vnni256_vex()) * 64;
        }
    } else {
        gflops[OPS_F32] = gflops[OPS_BF16] = rate_mul_add128() * 8;
    }
}
#elif defined(__aarch64__)
#include <arm_neon.h>

static double rate_fma(void)
{
    float32x4_t a = vdupq_n_f32(0.5f), b = vdupq_n_f32(1e-3f);
    LOOP(float32x4_t, b, sum[i] = vfmaq_f32(b, sum[i], a), "w");
}

static void arithmetic(double *gflops, const char *isa)
{
    (void)isa;
    gflops[OPS_F32] = gflops[OPS_BF16] = rate_fma() * 8;
}
#else
static void arithmetic(double *gflops, const char *isa)
{
    (void)gflops;
    (void)isa;
}
#endif

/* memcpy between two halves of 256 KB: what passes through a core in and out of its L2. */
static double copy_rate(void)
{
    enum { HALF = 128 << 10, TIMES = 200 };
    static char buffer[2 * HALF];
    memset(buffer, 1, sizeof buffer);
    int64_t start = clock_ns();
    for (int i = 0; i < TIMES; i++) {
        memcpy(buffer + HALF, buffer, HALF);
        __asm__ volatile("" : : "r"(buffer) : "memory");
    }
    int64_t elapsed = clock_ns() - start;
    return elapsed > 0 ? 2.0 * HALF * TIMES / (double)elapsed : 0;
}

static void better(double *best, double now)
{
    if (now > *best) *best = now;
}

void peaks_measure(peaks *p, const char *isa)
{
    for (int i = 0; i < 5; i++) {
        double now[OPS_N_DTYPES] = {0};
        arithmetic(now, isa);
        for (int d = 0; d < OPS_N_DTYPES; d++) better(&p->gflops[d], now[d]);
        better(&p->gbps, copy_rate());
    }
}
