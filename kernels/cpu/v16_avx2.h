/* Sixteen f32 lanes on AVX2, FMA and F16C, as two registers. See v16_avx512.h for what each
 * function promises. */
#ifndef CRANK_KERNELS_CPU_V16_AVX2_H
#define CRANK_KERNELS_CPU_V16_AVX2_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

typedef struct v16 {
    __m256 lo, hi;
} v16;

#define V16_EACH(call_lo, call_hi)                                                                 \
    return (v16)                                                                                   \
    {                                                                                              \
        call_lo, call_hi                                                                           \
    }

static inline v16 v_set(float x)
{
    V16_EACH(_mm256_set1_ps(x), _mm256_set1_ps(x));
}
static inline v16 v_zero(void)
{
    V16_EACH(_mm256_setzero_ps(), _mm256_setzero_ps());
}
static inline v16 v_load(const float *p)
{
    V16_EACH(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8));
}

static inline void v_store(float *p, v16 a)
{
    _mm256_storeu_ps(p, a.lo);
    _mm256_storeu_ps(p + 8, a.hi);
}

#define V16_BINARY(name, op)                                                                       \
    static inline v16 name(v16 a, v16 b)                                                           \
    {                                                                                              \
        V16_EACH(op(a.lo, b.lo), op(a.hi, b.hi));                                                  \
    }
V16_BINARY(v_add, _mm256_add_ps)
V16_BINARY(v_sub, _mm256_sub_ps)
V16_BINARY(v_mul, _mm256_mul_ps)
V16_BINARY(v_div, _mm256_div_ps)
V16_BINARY(v_max, _mm256_max_ps)
V16_BINARY(v_min, _mm256_min_ps)
#undef V16_BINARY

static inline v16 v_abs(v16 a)
{
    __m256 sign = _mm256_set1_ps(-0.0f);
    V16_EACH(_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi));
}

static inline v16 v_fma(v16 a, v16 b, v16 c)
{
    V16_EACH(_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi));
}

static inline __m256i v_lanes_below(int32_t n) /* lane < n */
{
    __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lanes);
}

static inline v16 v_load_n(const float *p, int32_t n)
{
    if (n >= 16) return v_load(p);
    if (n <= 8) V16_EACH(_mm256_maskload_ps(p, v_lanes_below(n)), _mm256_setzero_ps());
    V16_EACH(_mm256_loadu_ps(p), _mm256_maskload_ps(p + 8, v_lanes_below(n - 8)));
}

static inline void v_store_n(float *p, v16 a, int32_t n)
{
    if (n <= 8) {
        _mm256_maskstore_ps(p, v_lanes_below(n), a.lo);
        return;
    }
    _mm256_storeu_ps(p, a.lo);
    _mm256_maskstore_ps(p + 8, v_lanes_below(n - 8), a.hi);
}

static inline v16 v_keep(v16 a, int32_t low, int32_t high, v16 fill)
{
    __m256i m0 = _mm256_andnot_si256(v_lanes_below(low), v_lanes_below(high));
    __m256i m1 = _mm256_andnot_si256(v_lanes_below(low - 8), v_lanes_below(high - 8));
    V16_EACH(_mm256_blendv_ps(fill.lo, a.lo, _mm256_castsi256_ps(m0)),
             _mm256_blendv_ps(fill.hi, a.hi, _mm256_castsi256_ps(m1)));
}

static inline v16 v_where_less(v16 a, v16 b, v16 x, v16 y)
{
    V16_EACH(_mm256_blendv_ps(y.lo, x.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
             _mm256_blendv_ps(y.hi, x.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ)));
}

static inline v16 v_copysign(v16 a, v16 b)
{
    __m256 sign = _mm256_set1_ps(-0.0f);
    V16_EACH(_mm256_or_ps(_mm256_andnot_ps(sign, a.lo), _mm256_and_ps(sign, b.lo)),
             _mm256_or_ps(_mm256_andnot_ps(sign, a.hi), _mm256_and_ps(sign, b.hi)));
}

static inline __m256 v_scale_exponent8(__m256 p, __m256 t)
{
    __m256i n = _mm256_slli_epi32(_mm256_castps_si256(t), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), n));
}

static inline v16 v_scale_exponent(v16 p, v16 t)
{
    V16_EACH(v_scale_exponent8(p.lo, t.lo), v_scale_exponent8(p.hi, t.hi));
}

static inline float v_sum(v16 a)
{
    __m256 b = _mm256_add_ps(a.lo, a.hi);
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_shuffle_ps(c, c, 1)));
}

static inline float v_largest(v16 a)
{
    __m256 b = _mm256_max_ps(a.lo, a.hi);
    __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_max_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_shuffle_ps(c, c, 1)));
}

/* bf16 bits in the low half of each 32-bit lane */
static inline __m256i v_bits_bf16_8(__m256 a)
{
    __m256i bits = _mm256_castps_si256(a);
    __m256 size = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
    __m256 large = _mm256_cmp_ps(size, _mm256_set1_ps(0x1p-56f), _CMP_NLT_UQ);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    return _mm256_and_si256(_mm256_srli_epi32(rounded, 16), _mm256_castps_si256(large));
}

static inline __m256i v_bits_bf16(v16 a)
{
    __m256i packed = _mm256_packus_epi32(v_bits_bf16_8(a.lo), v_bits_bf16_8(a.hi));
    return _mm256_permute4x64_epi64(packed, 0xd8);
}

static inline void v_store_bf16(uint16_t *p, v16 a)
{
    _mm256_storeu_si256((__m256i *)p, v_bits_bf16(a));
}

static inline void v_store_bf16_n(uint16_t *p, v16 a, int32_t n)
{
    uint16_t all[16];
    v_store_bf16(all, a);
    memcpy(p, all, (size_t)n * sizeof *p);
}

static inline void v_store_pairs(uint16_t *p, v16 a, v16 b)
{
    __m256i lo = v_bits_bf16_8(a.lo), hi = v_bits_bf16_8(a.hi);
    lo = _mm256_or_si256(lo, _mm256_slli_epi32(v_bits_bf16_8(b.lo), 16));
    hi = _mm256_or_si256(hi, _mm256_slli_epi32(v_bits_bf16_8(b.hi), 16));
    _mm256_storeu_si256((__m256i *)p, lo);
    _mm256_storeu_si256((__m256i *)(p + 16), hi);
}

static inline __m256 v_from_bf16_8(__m128i h)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

static inline v16 v_load_bf16_n(const uint16_t *p, int32_t n)
{
    uint16_t all[16] = {0};
    if (n < 16) p = memcpy(all, p, (size_t)n * sizeof *p);
    V16_EACH(v_from_bf16_8(_mm_loadu_si128((const __m128i *)p)),
             v_from_bf16_8(_mm_loadu_si128((const __m128i *)(p + 8))));
}

static inline v16 v_load_f16_n(const uint16_t *p, int32_t n)
{
    uint16_t all[16] = {0};
    if (n < 16) p = memcpy(all, p, (size_t)n * sizeof *p);
    V16_EACH(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
             _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8))));
}

static inline __m256i v_codes_s16(v16 a)
{
    __m256i q = _mm256_packs_epi32(_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi));
    return _mm256_permute4x64_epi64(q, 0xd8);
}

static inline __m128i v_codes(v16 a)
{
    __m256i q = v_codes_s16(a);
    return _mm_packus_epi16(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
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
    __m256i q = _mm256_sub_epi16(v_codes_s16(a), _mm256_set1_epi16((int16_t)zero));
    _mm256_storeu_si256((__m256i *)p, q);
}

#include "kernels/cpu/v16_by_lane.h"

#define V16_ISA avx2

#endif
