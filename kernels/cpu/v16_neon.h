/* Sixteen f32 lanes on AArch64 Advanced SIMD, as four registers. See v16_avx512.h for what each
 * function promises. */
#ifndef CRANK_KERNELS_CPU_V16_NEON_H
#define CRANK_KERNELS_CPU_V16_NEON_H

#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

typedef struct v16 {
    float32x4_t q[4];
} v16;

#define V16_EACH(expression)                                                                       \
    v16 out_;                                                                                      \
    for (int i = 0; i < 4; i++) out_.q[i] = (expression);                                          \
    return out_

static inline v16 v_set(float x)
{
    V16_EACH(vdupq_n_f32(x));
}
static inline v16 v_zero(void)
{
    V16_EACH(vdupq_n_f32(0.0f));
}
static inline v16 v_load(const float *p)
{
    V16_EACH(vld1q_f32(p + 4 * i));
}
static inline v16 v_add(v16 a, v16 b)
{
    V16_EACH(vaddq_f32(a.q[i], b.q[i]));
}
static inline v16 v_sub(v16 a, v16 b)
{
    V16_EACH(vsubq_f32(a.q[i], b.q[i]));
}
static inline v16 v_mul(v16 a, v16 b)
{
    V16_EACH(vmulq_f32(a.q[i], b.q[i]));
}
static inline v16 v_div(v16 a, v16 b)
{
    V16_EACH(vdivq_f32(a.q[i], b.q[i]));
}
static inline v16 v_max(v16 a, v16 b)
{
    V16_EACH(vmaxq_f32(a.q[i], b.q[i]));
}
static inline v16 v_min(v16 a, v16 b)
{
    V16_EACH(vminq_f32(a.q[i], b.q[i]));
}
static inline v16 v_abs(v16 a)
{
    V16_EACH(vabsq_f32(a.q[i]));
}
static inline v16 v_fma(v16 a, v16 b, v16 c)
{
    V16_EACH(vfmaq_f32(c.q[i], a.q[i], b.q[i]));
}

static inline void v_store(float *p, v16 a)
{
    for (int i = 0; i < 4; i++) vst1q_f32(p + 4 * i, a.q[i]);
}

static inline v16 v_load_n(const float *p, int32_t n)
{
    float all[16] = {0};
    if (n >= 16) return v_load(p);
    memcpy(all, p, (size_t)n * sizeof *p);
    return v_load(all);
}

static inline void v_store_n(float *p, v16 a, int32_t n)
{
    float all[16];
    v_store(all, a);
    memcpy(p, all, (size_t)n * sizeof *p);
}

static inline v16 v_keep(v16 a, int32_t low, int32_t high, v16 fill)
{
    const int32_t first[4] = {0, 1, 2, 3};
    int32x4_t lane = vld1q_s32(first), from = vdupq_n_s32(low), to = vdupq_n_s32(high);
    V16_EACH(vbslq_f32(vandq_u32(vcgeq_s32(vaddq_s32(lane, vdupq_n_s32(4 * i)), from),
                                 vcltq_s32(vaddq_s32(lane, vdupq_n_s32(4 * i)), to)),
                       a.q[i], fill.q[i]));
}

static inline v16 v_where_less(v16 a, v16 b, v16 x, v16 y)
{
    V16_EACH(vbslq_f32(vcltq_f32(a.q[i], b.q[i]), x.q[i], y.q[i]));
}

static inline v16 v_copysign(v16 a, v16 b)
{
    V16_EACH(vbslq_f32(vdupq_n_u32(0x80000000u), b.q[i], a.q[i]));
}

static inline v16 v_scale_exponent(v16 p, v16 t)
{
    V16_EACH(vreinterpretq_f32_s32(
        vaddq_s32(vreinterpretq_s32_f32(p.q[i]), vshlq_n_s32(vreinterpretq_s32_f32(t.q[i]), 23))));
}

static inline float v_sum(v16 a)
{
    float32x4_t b = vaddq_f32(vaddq_f32(a.q[0], a.q[2]), vaddq_f32(a.q[1], a.q[3]));
    float32x2_t c = vadd_f32(vget_low_f32(b), vget_high_f32(b));
    return vget_lane_f32(c, 0) + vget_lane_f32(c, 1);
}

static inline float v_largest(v16 a)
{
    return vmaxvq_f32(vmaxq_f32(vmaxq_f32(a.q[0], a.q[1]), vmaxq_f32(a.q[2], a.q[3])));
}

static inline uint16x4_t v_bits_bf16_4(float32x4_t a)
{
    uint32x4_t bits = vreinterpretq_u32_f32(a);
    uint32x4_t small = vcltq_f32(vabsq_f32(a), vdupq_n_f32(0x1p-56f));
    uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    uint32x4_t rounded = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd);
    return vshrn_n_u32(vbicq_u32(rounded, small), 16);
}

static inline void v_store_bf16(uint16_t *p, v16 a)
{
    for (int i = 0; i < 4; i++) vst1_u16(p + 4 * i, v_bits_bf16_4(a.q[i]));
}

static inline void v_store_bf16_n(uint16_t *p, v16 a, int32_t n)
{
    uint16_t all[16];
    v_store_bf16(all, a);
    memcpy(p, all, (size_t)n * sizeof *p);
}

static inline void v_store_pairs(uint16_t *p, v16 a, v16 b)
{
    for (int i = 0; i < 4; i++) {
        uint16x4x2_t pairs = {{v_bits_bf16_4(a.q[i]), v_bits_bf16_4(b.q[i])}};
        vst2_u16(p + 8 * i, pairs);
    }
}

static inline v16 v_load_bf16_n(const uint16_t *p, int32_t n)
{
    uint16_t all[16] = {0};
    memcpy(all, p, (size_t)n * sizeof *p);
    V16_EACH(vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(all + 4 * i), 16)));
}

static inline v16 v_load_f16_n(const uint16_t *p, int32_t n)
{
    uint16_t all[16] = {0};
    memcpy(all, p, (size_t)n * sizeof *p);
    V16_EACH(vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(all + 4 * i))));
}

/* Codes 0..255, rounded to nearest even. */
static inline int16x8_t v_codes_s16(v16 a, int half)
{
    return vcombine_s16(vmovn_s32(vcvtnq_s32_f32(a.q[2 * half])),
                        vmovn_s32(vcvtnq_s32_f32(a.q[2 * half + 1])));
}

static inline uint8x16_t v_codes(v16 a)
{
    return vcombine_u8(vmovn_u16(vreinterpretq_u16_s16(v_codes_s16(a, 0))),
                       vmovn_u16(vreinterpretq_u16_s16(v_codes_s16(a, 1))));
}

static inline void v_store_u8(uint8_t *p, v16 a)
{
    vst1q_u8(p, v_codes(a));
}

static inline void v_store_s8(int8_t *p, v16 a)
{
    vst1q_s8(p, vreinterpretq_s8_u8(veorq_u8(v_codes(a), vdupq_n_u8(0x80))));
}

static inline void v_store_s16(int16_t *p, v16 a, int32_t zero)
{
    for (int half = 0; half < 2; half++) {
        vst1q_s16(p + 8 * half, vsubq_s16(v_codes_s16(a, half), vdupq_n_s16((int16_t)zero)));
    }
}

#include "kernels/cpu/v16_by_lane.h"

#define V16_ISA neon

#endif
