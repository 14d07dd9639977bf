/* f16 and bf16 <-> f32, rounding to nearest even, NaN as the hardware writes it (0x7fff). Pure
 * integer code, so that every build gives the same bits; the F16C path gives them faster. */
#ifndef CRANK_EMU_HALF_H
#define CRANK_EMU_HALF_H

#include <stdint.h>
#include <string.h>
#if defined(__F16C__)
#include <immintrin.h>
#endif

static inline float half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = h >> 10 & 0x1fu,
             fraction = h & 0x3ffu;
    uint32_t bits;
    float value;
    if (exponent == 0) { /* zero or subnormal: fraction * 2^-24 is exact */
        value = (float)fraction * 0x1p-24f;
        memcpy(&bits, &value, 4);
        bits |= sign;
    } else if (exponent == 31) {
        bits = sign | 0x7f800000u | fraction << 13;
    } else {
        bits = sign | (exponent + 112) << 23 | fraction << 13;
    }
    memcpy(&value, &bits, 4);
    return value;
}

static inline float bf16_to_float(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static inline uint16_t float_to_half(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    uint32_t sign = bits >> 16 & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return 0x7fff;
    if (bits >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* 65520 and more */
    if (bits < 0x38800000u) { /* below the smallest normal: let the adder round at 2^-24 */
        float magnitude, magic = 0.5f;
        memcpy(&magnitude, &bits, 4);
        magnitude += magic;
        uint32_t rounded;
        memcpy(&rounded, &magnitude, 4);
        return (uint16_t)(sign | (rounded - 0x3f000000u));
    }
    uint32_t odd = bits >> 13 & 1;
    return (uint16_t)(sign | (bits - 0x38000000u + 0xfffu + odd) >> 13);
}

static inline uint16_t float_to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

/* Rows of 32 lanes. */
static inline void halves_to_floats(float *out, const uint16_t *in)
{
#if defined(__F16C__)
    for (int i = 0; i < 32; i += 8)
        _mm256_storeu_ps(out + i,
                         _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(in + i))));
#else
    for (int i = 0; i < 32; i++) out[i] = half_to_float(in[i]);
#endif
}

static inline void floats_to_halves(uint16_t *out, const float *in)
{
#if defined(__F16C__)
    for (int i = 0; i < 32; i += 8) {
        __m256 x = _mm256_loadu_ps(in + i);
        __m128i h = _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        _mm_storeu_si128((__m128i *)(void *)(out + i), h);
    }
    for (int i = 0; i < 32; i++)
        if (in[i] != in[i]) out[i] = 0x7fff;
#else
    for (int i = 0; i < 32; i++) out[i] = float_to_half(in[i]);
#endif
}

static inline void bf16s_to_floats(float *out, const uint16_t *in)
{
    for (int i = 0; i < 32; i++) out[i] = bf16_to_float(in[i]);
}

static inline void floats_to_bf16s(uint16_t *out, const float *in)
{
    for (int i = 0; i < 32; i++) out[i] = float_to_bf16(in[i]);
}

/* x * y + z of 16-bit floats, rounded once. The product is exact in a double; the sum is made odd
 * when it was inexact, so that the second rounding cannot go wrong (Boldo and Melquiond 2008). */
static inline double half_fma_odd(double x, double y, double z)
{
    double product = x * y, sum = product + z;
    double other = sum - product;
    double error = (product - (sum - other)) + (z - other);
    uint64_t bits;
    memcpy(&bits, &sum, 8);
    if (error != 0 && (bits & 1) == 0 && sum - sum == 0) {
        /* Step towards the exact value: away from zero when the error has the sum's sign. */
        bits += (error > 0) == (sum > 0) ? 1 : -1;
        memcpy(&sum, &bits, 8);
    }
    return sum;
}

/* A double to the nearest float, but odd when inexact: the first of two roundings. */
static inline float double_to_float_odd(double value)
{
    float near = (float)value;
    uint32_t bits;
    memcpy(&bits, &near, 4);
    double error = value - (double)near;
    if (error != 0 && (bits & 1) == 0 && near - near == 0) {
        bits += (error > 0) == (near > 0 || (near == 0 && value > 0)) ? 1u : ~0u;
        memcpy(&near, &bits, 4);
    }
    return near;
}

#endif
