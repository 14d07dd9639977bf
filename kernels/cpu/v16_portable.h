/* Sixteen f32 lanes in plain C: any machine, the same bits as the vector levels. See v16_avx512.h
 * for what each function promises. */
#ifndef CRANK_KERNELS_CPU_V16_PORTABLE_H
#define CRANK_KERNELS_CPU_V16_PORTABLE_H

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef struct v16 {
    float l[16];
} v16;

#define V16_EACH(expression)                                                                       \
    v16 out_;                                                                                      \
    for (int i = 0; i < 16; i++) out_.l[i] = (expression);                                         \
    return out_

static inline v16 v_set(float x)
{
    V16_EACH(x);
}
static inline v16 v_zero(void)
{
    V16_EACH(0.0f);
}
static inline v16 v_load(const float *p)
{
    V16_EACH(p[i]);
}
static inline void v_store(float *p, v16 a)
{
    memcpy(p, a.l, sizeof a.l);
}
static inline v16 v_add(v16 a, v16 b)
{
    V16_EACH(a.l[i] + b.l[i]);
}
static inline v16 v_sub(v16 a, v16 b)
{
    V16_EACH(a.l[i] - b.l[i]);
}
static inline v16 v_mul(v16 a, v16 b)
{
    V16_EACH(a.l[i] * b.l[i]);
}
static inline v16 v_div(v16 a, v16 b)
{
    V16_EACH(a.l[i] / b.l[i]);
}
static inline v16 v_max(v16 a, v16 b)
{
    V16_EACH(a.l[i] > b.l[i] ? a.l[i] : b.l[i]);
}
static inline v16 v_min(v16 a, v16 b)
{
    V16_EACH(a.l[i] < b.l[i] ? a.l[i] : b.l[i]);
}
static inline v16 v_abs(v16 a)
{
    V16_EACH(fabsf(a.l[i]));
}

/* fmaf without the hardware: the product of two floats is exact in a double. The sum is rounded to
 * odd (Boldo and Melquiond 2008): its error, found by Knuth's TwoSum, says which way an inexact
 * even significand must move, and rounding that to float is rounding the exact sum once. */
static inline float v_fma1(float a, float b, float c)
{
    double product = (double)a * (double)b, addend = c;
    double sum = product + addend;
    double part = sum - product;
    double error = (product - (sum - part)) + (addend - part);
    uint64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    /* towards the error: away from zero when it has the sum's sign. No move: exact, odd, NaN. */
    uint64_t move = (error > 0.0) == (sum > 0.0) ? 1u : UINT64_MAX;
    if ((error > 0.0 || error < 0.0) && !(bits & 1)) bits += move;
    memcpy(&sum, &bits, sizeof bits);
    return (float)sum;
}

static inline v16 v_fma(v16 a, v16 b, v16 c)
{
    V16_EACH(v_fma1(a.l[i], b.l[i], c.l[i]));
}
static inline v16 v_load_n(const float *p, int32_t n)
{
    V16_EACH(i < n ? p[i] : 0.0f);
}

static inline void v_store_n(float *p, v16 a, int32_t n)
{
    memcpy(p, a.l, (size_t)n * sizeof *p);
}

static inline v16 v_keep(v16 a, int32_t low, int32_t high, v16 fill)
{
    V16_EACH(i >= low && i < high ? a.l[i] : fill.l[i]);
}

static inline v16 v_where_less(v16 a, v16 b, v16 x, v16 y)
{
    V16_EACH(a.l[i] < b.l[i] ? x.l[i] : y.l[i]);
}

static inline v16 v_copysign(v16 a, v16 b)
{
    V16_EACH(copysignf(a.l[i], b.l[i]));
}

static inline uint32_t v_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float v_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline v16 v_scale_exponent(v16 p, v16 t)
{
    V16_EACH(v_float(v_bits(p.l[i]) + (v_bits(t.l[i]) << 23)));
}

static inline float v_sum(v16 a)
{
    for (int half = 8; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) a.l[i] += a.l[i + half];
    }
    return a.l[0];
}

static inline float v_largest(v16 a)
{
    float largest = a.l[0];
    for (int i = 1; i < 16; i++) largest = a.l[i] > largest ? a.l[i] : largest;
    return largest;
}

static inline uint16_t v_to_bf16(float x)
{
    uint32_t bits = v_bits(x);
    if (fabsf(x) < 0x1p-56f) return 0;
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline void v_store_bf16_n(uint16_t *p, v16 a, int32_t n)
{
    for (int i = 0; i < n; i++) p[i] = v_to_bf16(a.l[i]);
}

static inline void v_store_bf16(uint16_t *p, v16 a)
{
    v_store_bf16_n(p, a, 16);
}

static inline void v_store_pairs(uint16_t *p, v16 a, v16 b)
{
    for (int i = 0; i < 16; i++) {
        p[2 * i] = v_to_bf16(a.l[i]);
        p[2 * i + 1] = v_to_bf16(b.l[i]);
    }
}

static inline v16 v_load_bf16_n(const uint16_t *p, int32_t n)
{
    V16_EACH(i < n ? v_float((uint32_t)p[i] << 16) : 0.0f);
}

static inline float v_from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 0x3ff;
    if (exponent == 31) return v_float(sign | 0x7f800000u | fraction << 13);
    if (exponent == 0) return copysignf((float)fraction * 0x1p-24f, v_float(sign));
    return v_float(sign | (exponent + 112) << 23 | fraction << 13);
}

static inline v16 v_load_f16_n(const uint16_t *p, int32_t n)
{
    V16_EACH(i < n ? v_from_f16(p[i]) : 0.0f);
}

/* 0 <= x <= 255 (NaN: 0): adding 1.5 * 2^23 rounds to nearest even. */
static inline int32_t v_round(float x)
{
    return x == x ? (int32_t)(v_bits(x + 0x1.8p23f) - v_bits(0x1.8p23f)) : 0;
}

static inline void v_store_u8(uint8_t *p, v16 a)
{
    for (int i = 0; i < 16; i++) p[i] = (uint8_t)v_round(a.l[i]);
}

static inline void v_store_s8(int8_t *p, v16 a)
{
    for (int i = 0; i < 16; i++) p[i] = (int8_t)(v_round(a.l[i]) - 128);
}

static inline void v_store_s16(int16_t *p, v16 a, int32_t zero)
{
    for (int i = 0; i < 16; i++) p[i] = (int16_t)(v_round(a.l[i]) - zero);
}

#include "kernels/cpu/v16_by_lane.h"

#define V16_ISA portable

#endif
