/* The AVX2 + FMA tiles: one panel (two registers of 8 outputs) by as many rows as 16 registers
 * carry: f32 6, bf16 4 (odd and even halves of the weights), int8 2 (four registers of [4 outputs]
 * [2 halves of a step], see tile_avx512_int8.c). The same order of sums as everywhere. */
#if defined(__AVX2__)
#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/tiles.h"

static inline const char *row_of(const cpu_tile *t, int32_t r)
{
    return (const char *)t->a + (size_t)r * t->a_stride;
}

static inline const char *panel_of(const cpu_tile *t, int32_t p)
{
    return (const char *)t->w + (size_t)p * t->w_panel;
}

static inline float *output_of(const cpu_tile *t, int32_t r, int32_t p)
{
    return t->c + (size_t)r * t->ldc + 16 * (size_t)p;
}

static inline __m256 start(const cpu_tile *t, int32_t p, int half)
{
    return t->bias != NULL ? _mm256_loadu_ps(t->bias + 16 * p + 8 * half) : _mm256_setzero_ps();
}

/* Calls block(t, row, panel, n) with n constant: `many` rows while they last, then 2 and 1. */
#define FOR_ROWS(block, many)                                                                      \
    for (int32_t p = 0; p < t->panels; p++) {                                                      \
        int32_t row = 0;                                                                           \
        for (; row + (many) <= t->rows; row += (many)) block(t, row, p, many);                     \
        for (; row + 2 <= t->rows; row += 2) block(t, row, p, 2);                                  \
        for (; row < t->rows; row++) block(t, row, p, 1);                                          \
    }

/* ---- f32 --------------------------------------------------------------------------------------
 */

static inline __attribute__((always_inline)) void f32_block(const cpu_tile *t, int32_t row,
                                                            int32_t p, const int n)
{
    const char *a = row_of(t, row), *a3 = row_of(t, row + 3), *w = panel_of(t, p);
    const size_t stride = t->a_stride;
    __m256 acc[6][2];
#pragma GCC unroll 6
    for (int r = 0; r < n; r++) {
        acc[r][0] = start(t, p, 0);
        acc[r][1] = start(t, p, 1);
    }
    for (int32_t s = 0; s < t->steps; s++, w += t->w_step, a += 4, a3 += 4) {
        __m256 w0 = _mm256_loadu_ps((const float *)w);
        __m256 w1 = _mm256_loadu_ps((const float *)w + 8);
#pragma GCC unroll 6
        for (int r = 0; r < n; r++) {
            const char *at = r < 3 ? a + (size_t)r * stride : a3 + (size_t)(r - 3) * stride;
            __m256 x = _mm256_broadcast_ss((const float *)at);
            acc[r][0] = _mm256_fmadd_ps(w0, x, acc[r][0]);
            acc[r][1] = _mm256_fmadd_ps(w1, x, acc[r][1]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < n; r++) {
        _mm256_storeu_ps(output_of(t, row + r, p), acc[r][0]);
        _mm256_storeu_ps(output_of(t, row + r, p) + 8, acc[r][1]);
    }
}

void cpu_tile_f32_avx2(const cpu_tile *t)
{
    FOR_ROWS(f32_block, 6)
}

/* ---- bf16 -------------------------------------------------------------------------------------
 */

static inline __attribute__((always_inline)) __m256 odd(__m256i pairs)
{
    return _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32((int)0xffff0000u)));
}

static inline __attribute__((always_inline)) __m256 even(__m256i pairs)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
}

static inline __attribute__((always_inline)) void bf16_block(const cpu_tile *t, int32_t row,
                                                             int32_t p, const int n)
{
    const char *a = row_of(t, row), *w = panel_of(t, p);
    __m256 acc[4][2];
#pragma GCC unroll 4
    for (int r = 0; r < n; r++) {
        acc[r][0] = start(t, p, 0);
        acc[r][1] = start(t, p, 1);
    }
    for (int32_t s = 0; s < t->steps; s++, w += t->w_step, a += 4) {
        __m256i w0 = _mm256_loadu_si256((const __m256i *)w);
        __m256i w1 = _mm256_loadu_si256((const __m256i *)(w + 32));
        __m256 odd0 = odd(w0), odd1 = odd(w1), even0 = even(w0), even1 = even(w1);
#pragma GCC unroll 4
        for (int r = 0; r < n; r++) {
            int32_t pair;
            memcpy(&pair, a + (size_t)r * t->a_stride, sizeof pair);
            __m256i x = _mm256_set1_epi32(pair);
            __m256 x_odd = odd(x), x_even = even(x);
            acc[r][0] = _mm256_fmadd_ps(odd0, x_odd, acc[r][0]);
            acc[r][1] = _mm256_fmadd_ps(odd1, x_odd, acc[r][1]);
            acc[r][0] = _mm256_fmadd_ps(even0, x_even, acc[r][0]);
            acc[r][1] = _mm256_fmadd_ps(even1, x_even, acc[r][1]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < n; r++) {
        _mm256_storeu_ps(output_of(t, row + r, p), acc[r][0]);
        _mm256_storeu_ps(output_of(t, row + r, p) + 8, acc[r][1]);
    }
}

void cpu_tile_bf16_avx2(const cpu_tile *t)
{
    FOR_ROWS(bf16_block, 4)
}

/* ---- int8 -------------------------------------------------------------------------------------
 */

static inline __attribute__((always_inline)) void store_int8(const cpu_tile *t, int32_t row,
                                                             int32_t p, int half, __m256i sum)
{
    size_t at = 16 * (size_t)p + 8 * (size_t)half;
    __m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_loadu_ps(t->w_scale + at));
    y = _mm256_fmadd_ps(y, _mm256_set1_ps(t->a_scale[row]), _mm256_loadu_ps(t->bias + at));
    _mm256_storeu_ps(output_of(t, row, p) + 8 * half, y);
}

/* acc + pairs of w * x. Inline because gcc 12 otherwise moves the products ahead of the sums and
 * spills half of the accumulators. */
static inline __attribute__((always_inline)) __m256i add_products(__m256i acc, __m256i w, __m256i x)
{
    __m256i product;
    __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0"
            : "+x"(acc), "=&x"(product)
            : "x"(w), "x"(x));
    return acc;
}

static inline __attribute__((always_inline)) void int8_block(const cpu_tile *t, int32_t row,
                                                             int32_t p, const int n)
{
    const char *a = row_of(t, row), *w = panel_of(t, p);
    __m256i acc[2][4];
#pragma GCC unroll 2
    for (int r = 0; r < n; r++) {
#pragma GCC unroll 4
        for (int q = 0; q < 4; q++) acc[r][q] = _mm256_setzero_si256();
    }
    for (int32_t s = 0; s < t->steps; s++, w += t->w_step, a += 8) {
        __m256i x[2];
#pragma GCC unroll 2
        for (int r = 0; r < n; r++) {
            int64_t four;
            memcpy(&four, a + (size_t)r * t->a_stride, sizeof four);
            x[r] = _mm256_set1_epi64x(four);
        }
#pragma GCC unroll 4
        for (int q = 0; q < 4; q++) {
            __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(w + 16 * q)));
#pragma GCC unroll 2
            for (int r = 0; r < n; r++) acc[r][q] = add_products(acc[r][q], wide, x[r]);
        }
    }
#pragma GCC unroll 2
    for (int r = 0; r < n; r++) {
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) { /* VPHADDD pairs within 128-bit lanes: 0 1 4 5 .. */
            __m256i sum = _mm256_hadd_epi32(acc[r][2 * half], acc[r][2 * half + 1]);
            store_int8(t, row + r, p, half, _mm256_permute4x64_epi64(sum, 0xd8));
        }
    }
}

void cpu_tile_int8_avx2(const cpu_tile *t){FOR_ROWS(int8_block, 2)}

/* VPDPBUSD on 8 outputs, in the encoding of AVX-VNNI (VEX, client CPUs since Alder Lake) or of
 * AVX-512 VL. Inline because gcc 12 wraps the intrinsic in copies of the accumulator. */
#define VNNI_TILE(name, encoding, registers)                                                       \
    static inline __attribute__((always_inline)) void name##_block(const cpu_tile *t, int32_t row, \
                                                                   int32_t p, const int n)         \
    {                                                                                              \
        const char *a = row_of(t, row), *a3 = row_of(t, row + 3), *w = panel_of(t, p);             \
        const size_t stride = t->a_stride;                                                         \
        __m256i acc[6][2];                                                                         \
        for (int half = 0; half < 2; half++) {                                                     \
            __m256i sums = _mm256_loadu_si256((const __m256i *)(t->w_sums + 32 * p + 16 * half));  \
            _Pragma("GCC unroll 6") for (int r = 0; r < n; r++) acc[r][half] =                     \
                _mm256_madd_epi16(sums, _mm256_set1_epi32(t->a_zero[row + r]));                    \
        }                                                                                          \
        for (int32_t s = 0; s < t->steps; s++, w += t->w_step, a += 4, a3 += 4) {                  \
            __m256i w0 = _mm256_loadu_si256((const __m256i *)w);                                   \
            __m256i w1 = _mm256_loadu_si256((const __m256i *)(w + 32));                            \
            _Pragma("GCC unroll 6") for (int r = 0; r < n; r++)                                    \
            {                                                                                      \
                const char *at = r < 3 ? a + (size_t)r * stride : a3 + (size_t)(r - 3) * stride;   \
                int32_t four;                                                                      \
                memcpy(&four, at, sizeof four);                                                    \
                __m256i x = _mm256_set1_epi32(four);                                               \
                __asm__(encoding " vpdpbusd %2, %1, %0"                                            \
                        : "+" registers(acc[r][0])                                                 \
                        : registers(x), registers(w0));                                            \
                __asm__(encoding " vpdpbusd %2, %1, %0"                                            \
                        : "+" registers(acc[r][1])                                                 \
                        : registers(x), registers(w1));                                            \
            }                                                                                      \
        }                                                                                          \
        _Pragma("GCC unroll 6") for (int r = 0; r < n; r++)                                        \
        {                                                                                          \
            store_int8(t, row + r, p, 0, acc[r][0]);                                               \
            store_int8(t, row + r, p, 1, acc[r][1]);                                               \
        }                                                                                          \
    }                                                                                              \
    void name(const cpu_tile *t)                                                                   \
    {                                                                                              \
        FOR_ROWS(name##_block, 6)                                                                  \
    }

VNNI_TILE(cpu_tile_int8_avx2_vnni, "%{vex%}", "x")
    VNNI_TILE(cpu_tile_int8_avx512_vnni256, "%{evex%}", "x")
#else
typedef int cpu_not_this_machine;
#endif
