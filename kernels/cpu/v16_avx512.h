/* Sixteen f32 lanes on AVX-512: the vocabulary that rows_body.h is written in. Each v16_*.h gives
 * the same functions with the same result bits. */
#ifndef CRANK_KERNELS_CPU_V16_AVX512_H
#define CRANK_KERNELS_CPU_V16_AVX512_H

#include <immintrin.h>
#include <stdint.h>

typedef __m512 v16;

static inline v16 v_zero(void)
{
    return _mm512_setzero_ps();
}
static inline v16 v_set(float x)
{
    return _mm512_set1_ps(x);
}
static inline v16 v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
static inline void v_store(float *p, v16 a)
{
    _mm512_storeu_ps(p, a);
}
static inline v16 v_add(v16 a, v16 b)
{
    return _mm512_add_ps(a, b);
}
static inline v16 v_sub(v16 a, v16 b)
{
    return _mm512_sub_ps(a, b);
}
static inline v16 v_mul(v16 a, v16 b)
{
    return _mm512_mul_ps(a, b);
}
static inline v16 v_div(v16 a, v16 b)
{
    return _mm512_div_ps(a, b);
}
static inline v16 v_max(v16 a, v16 b)
{
    return _mm512_max_ps(a, b);
}
static inline v16 v_min(v16 a, v16 b)
{
    return _mm512_min_ps(a, b);
}
static inline v16 v_abs(v16 a)
{
    return _mm512_abs_ps(a);
}
/* a * b + c, rounded once */
static inline v16 v_fma(v16 a, v16 b, v16 c)
{
    return _mm512_fmadd_ps(a, b, c);
}

static inline __mmask16 v_first(int32_t n)
{
    return (__mmask16)_bzhi_u32(0xffff, (uint32_t)n);
}

/* The first n (0..16) lanes; the others are 0 and their memory is not read or written. */
static inline v16 v_load_n(const float *p, int32_t n)
{
    return _mm512_maskz_loadu_ps(v_first(n), p);
}

static inline void v_store_n(float *p, v16 a, int32_t n)
{
    _mm512_mask_storeu_ps(p, v_first(n), a);
}

/* Lanes low <= l < high of a, the others `fill`; low and high may lie outside 0..16. */
static inline v16 v_keep(v16 a, int32_t low, int32_t high, v16 fill)
{
    low = low < 0 ? 0 : low > 16 ? 16 : low;
    high = high < 0 ? 0 : high > 16 ? 16 : high;
    return _mm512_mask_blend_ps((__mmask16)(v_first(high) & ~(uint32_t)v_first(low)), fill, a);
}

/* Lanes where a < b take x, the others y. */
static inline v16 v_where_less(v16 a, v16 b, v16 x, v16 y)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}

/* |a| with the sign of b. */
static inline v16 v_copysign(v16 a, v16 b)
{
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(
        _mm512_set1_epi32((int)0x80000000u), _mm512_castps_si512(b), _mm512_castps_si512(a), 0xca));
}

/* p * 2^n where t = n + 1.5 * 2^23: n is added to p's exponent. */
static inline v16 v_scale_exponent(v16 p, v16 t)
{
    __m512i n = _mm512_slli_epi32(_mm512_castps_si512(t), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), n));
}

static inline float v_sum4(__m128 a)
{
    a = _mm_add_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_add_ss(a, _mm_shuffle_ps(a, a, 1)));
}

/* Folds by halves: l + (l+8), + (l+4), + (l+2), + (l+1). */
static inline float v_sum(v16 a)
{
    __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    return v_sum4(_mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1)));
}

static inline float v_largest(v16 a)
{
    return _mm512_reduce_max_ps(a);
}

/* Values as bf16: round to nearest even, below 2^-56 to zero. */
static inline __m256i v_bits_bf16(v16 a)
{
    __mmask16 large = _mm512_cmp_ps_mask(_mm512_abs_ps(a), _mm512_set1_ps(0x1p-56f), _CMP_NLT_UQ);
#if defined(__AVX512BF16__)
    return (__m256i)_mm512_maskz_cvtneps_pbh(large, a);
#else
    __m512i bits = _mm512_castps_si512(a);
    __m512i odd = _mm512_and_epi32(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    return _mm512_cvtepi32_epi16(_mm512_maskz_srli_epi32(large, rounded, 16));
#endif
}

static inline void v_store_bf16(uint16_t *p, v16 a)
{
    _mm256_storeu_si256((__m256i *)p, v_bits_bf16(a));
}

static inline void v_store_bf16_n(uint16_t *p, v16 a, int32_t n)
{
    _mm256_mask_storeu_epi16(p, v_first(n), v_bits_bf16(a));
}

static inline v16 v_from_bf16(__m256i h)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

static inline v16 v_load_bf16_n(const uint16_t *p, int32_t n)
{
    return v_from_bf16(_mm256_maskz_loadu_epi16(v_first(n), p));
}

static inline v16 v_load_f16_n(const uint16_t *p, int32_t n)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(v_first(n), p));
}

/* Pairs: lane l of a in the low half, of b in the high half of element l. */
static inline void v_store_pairs(uint16_t *p, v16 a, v16 b)
{
    __m512i low = _mm512_cvtepu16_epi32(v_bits_bf16(a));
    __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32(v_bits_bf16(b)), 16);
    _mm512_storeu_si512(p, _mm512_or_epi32(low, high));
}

/* Codes 0..255, rounded to nearest even, as they are, less 128, less zero. */
static inline __m128i v_codes(v16 a)
{
    return _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a));
}

static inline void v_store_u8(uint8_t *p, v16 a)
{
    _mm_storeu_si128((__m128i *)p, v_codes(a));
}

static inline void v_store_s8(int8_t *p, v16 a)
{
    _mm_storeu_si128((__m128i *)p, _mm_xor_si128(v_codes(a), _mm_set1_epi8((char)0x80)));
}

static inline void v_store_s16(int16_t *p, v16 a, int32_t zero)
{
    __m512i q = _mm512_sub_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(zero));
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(q));
}

/* base[index[l]] for the 16 indexes at `index`, descending in memory: index[0], index[-1], ... */
static inline v16 v_gather_back(const float *base, const int32_t *index, int32_t n)
{
    __m512i reversed = _mm512_setr_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    __mmask16 read = (__mmask16)(0xffffu << (16 - n));
    __m512i i = _mm512_permutexvar_epi32(reversed, _mm512_maskz_loadu_epi32(read, index - 15));
    return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), v_first(n), i, base, 4);
}

/* base[l * stride + index[-l]]: the same, each lane in a row of its own. */
static inline v16 v_gather_back_rows(const float *base, int32_t stride, const int32_t *index,
                                     int32_t n)
{
    __m512i reversed = _mm512_setr_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __mmask16 read = (__mmask16)(0xffffu << (16 - n));
    __m512i i = _mm512_permutexvar_epi32(reversed, _mm512_maskz_loadu_epi32(read, index - 15));
    i = _mm512_add_epi32(i, _mm512_mullo_epi32(lanes, _mm512_set1_epi32(stride)));
    return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), v_first(n), i, base, 4);
}

/* out[c][r] = in[r][c] of 32-bit elements: 16 rows `stride` bytes apart, columns 0..15 -> 16 rows
 * of 64 bytes; rows past n_rows and columns past n_cols are taken as zero. */
static inline void v_transpose(void *out, const void *in, size_t stride, int32_t n_rows,
                               int32_t n_cols)
{
    __m512i a[16], b[16];
    __mmask16 columns = v_first(n_cols);
#pragma GCC unroll 16
    for (int32_t r = 0; r < 16; r++) {
        a[r] = r < n_rows ? _mm512_maskz_loadu_epi32(columns, (const char *)in + (size_t)r * stride)
                          : _mm512_setzero_si512();
    }
#pragma GCC unroll 8
    for (int32_t r = 0; r < 16; r += 2) {
        b[r] = _mm512_unpacklo_epi32(a[r], a[r + 1]);
        b[r + 1] = _mm512_unpackhi_epi32(a[r], a[r + 1]);
    }
#pragma GCC unroll 4
    for (int32_t r = 0; r < 16; r += 4) {
        a[r] = _mm512_unpacklo_epi64(b[r], b[r + 2]);
        a[r + 1] = _mm512_unpackhi_epi64(b[r], b[r + 2]);
        a[r + 2] = _mm512_unpacklo_epi64(b[r + 1], b[r + 3]);
        a[r + 3] = _mm512_unpackhi_epi64(b[r + 1], b[r + 3]);
    }
    /* a[4q + c]: lane group g holds column 4g + c of rows 4q .. 4q+3 */
#pragma GCC unroll 4
    for (int32_t c = 0; c < 4; c++) {
        __m512i low = _mm512_shuffle_i32x4(a[c], a[4 + c], 0x88);  /* groups 0 2 | 0 2 */
        __m512i high = _mm512_shuffle_i32x4(a[c], a[4 + c], 0xdd); /* groups 1 3 | 1 3 */
        __m512i low2 = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0x88);
        __m512i high2 = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0xdd);
        b[c] = _mm512_shuffle_i32x4(low, low2, 0x88);
        b[8 + c] = _mm512_shuffle_i32x4(low, low2, 0xdd);
        b[4 + c] = _mm512_shuffle_i32x4(high, high2, 0x88);
        b[12 + c] = _mm512_shuffle_i32x4(high, high2, 0xdd);
    }
#pragma GCC unroll 16
    for (int32_t r = 0; r < 16; r++) {
        if (r < n_cols) _mm512_storeu_si512((char *)out + (size_t)r * 64, b[r]);
    }
}

#if defined(__AVX512BF16__)
#define V16_ISA avx512_bf16
#else
#define V16_ISA avx512
#endif

#endif
