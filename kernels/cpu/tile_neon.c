/* The AArch64 tiles: one panel (four registers of 4 outputs) by rows: f32 5 rows (20 accumulators,
 * 4 weights, 1 activation of 32 registers), bf16 4 (odd and even halves of the weights), int8 4.
 * int8 activations are kept as q - 128 (CPU_INT8_S8): where the CPU has it, SDOT sums four
 * products a lane; elsewhere SMULL and SADALP do, in halves. The same order of sums as everywhere.
 */
#if defined(__aarch64__)
#include <arm_neon.h>
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

static inline float32x4_t start(const cpu_tile *t, int32_t p, int q)
{
    return t->bias != NULL ? vld1q_f32(t->bias + 16 * p + 4 * q) : vdupq_n_f32(0.0f);
}

#define FOR_ROWS(block, many)                                                                      \
    for (int32_t p = 0; p < t->panels; p++) {                                                      \
        int32_t row = 0;                                                                           \
        for (; row + (many) <= t->rows; row += (many)) block(t, row, p, many);                     \
        for (; row < t->rows; row++) block(t, row, p, 1);                                          \
    }

/* ---- f32 --------------------------------------------------------------------------------------
 */

static inline __attribute__((always_inline)) void f32_block(const cpu_tile *t, int32_t row,
                                                            int32_t p, const int n)
{
    const char *w = panel_of(t, p);
    float32x4_t acc[5][4];
#pragma GCC unroll 5
    for (int r = 0; r < n; r++) {
#pragma GCC unroll 4
        for (int q = 0; q < 4; q++) acc[r][q] = start(t, p, q);
    }
    for (int32_t s = 0; s < t->steps; s++, w += t->w_step) {
        float32x4_t b[4];
#pragma GCC unroll 4
        for (int q = 0; q < 4; q++) b[q] = vld1q_f32((const float *)w + 4 * q);
#pragma GCC unroll 5
        for (int r = 0; r < n; r++) {
            float32x4_t x = vld1q_dup_f32((const float *)row_of(t, row + r) + s);
#pragma GCC unroll 4
            for (int q = 0; q < 4; q++) acc[r][q] = vfmaq_f32(acc[r][q], b[q], x);
        }
    }
#pragma GCC unroll 5
    for (int r = 0; r < n; r++) {
#pragma GCC unroll 4
        for (int q = 0; q < 4; q++) vst1q_f32(output_of(t, row + r, p) + 4 * q, acc[r][q]);
    }
}

void cpu_tile_f32_neon(const cpu_tile *t)
{
    FOR_ROWS(f32_block, 5)
}

/* ---- bf16 -------------------------------------------------------------------------------------
 */

static inline __attribute__((always_inline)) float32x4_t odd(uint32x4_t pairs)
{
    return vreinterpretq_f32_u32(vandq_u32(pairs, vdupq_n_u32(0xffff0000u)));
}

static inline __attribute__((always_inline)) float32x4_t even(uint32x4_t pairs)
{
    return vreinterpretq_f32_u32(vshlq_n_u32(pairs, 16));
}

static inline __attribute__((always_inline)) void bf16_block(const cpu_tile *t, int32_t row,
                                                             int32_t p, const int n)
{
    const char *w = panel_of(t, p);
    float32x4_t acc[4][4];
#pragma GCC unroll 4
    for (int r = 0; r < n; r++) {
#pragma GCC unroll 4
        for (int q = 0; q < 4; q++) acc[r][q] = start(t, p, q);
    }
    for (int32_t s = 0; s < t->steps; s++, w += t->w_step) {
        float32x4_t b_odd[4], b_even[4];
#pragma GCC unroll 4
        for (int q = 0; q < 4; q++) {
            uint32x4_t b = vld1q_u32((const uint32_t *)w + 4 * q);
            b_odd[q] = odd(b);
            b_even[q] = even(b);
        }
#pragma GCC unroll 4
        for (int r = 0; r < n; r++) {
            uint32_t pair;
            memcpy(&pair, row_of(t, row + r) + 4 * (size_t)s, sizeof pair);
            uint32x4_t x = vdupq_n_u32(pair);
#pragma GCC unroll 4
            for (int q = 0; q < 4; q++) acc[r][q] = vfmaq_f32(acc[r][q], b_odd[q], odd(x));
#pragma GCC unroll 4
            for (int q = 0; q < 4; q++) acc[r][q] = vfmaq_f32(acc[r][q], b_even[q], even(x));
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < n; r++) {
#pragma GCC unroll 4
        for (int q = 0; q < 4; q++) vst1q_f32(output_of(t, row + r, p) + 4 * q, acc[r][q]);
    }
}

void cpu_tile_bf16_neon(const cpu_tile *t)
{
    FOR_ROWS(bf16_block, 4)
}

/* ---- int8 -------------------------------------------------------------------------------------
 */

/* One step of 4 outputs: acc + 4 products a lane. */
static inline __attribute__((always_inline)) int32x4_t dot_plain(int32x4_t acc, int8x16_t w,
                                                                 int8x16_t x)
{
    int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(x));
    int16x8_t high = vmull_high_s8(w, x);
    return vaddq_s32(acc, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
}

__attribute__((target("arch=armv8.2-a+dotprod"))) static inline int32x4_t
dot_sdot(int32x4_t acc, int8x16_t w, int8x16_t x)
{
    __asm__("sdot %0.4s, %1.16b, %2.16b" : "+w"(acc) : "w"(w), "w"(x));
    return acc;
}

/* The zero point: a holds q - 128, so (128 - zero) times the weights' sum is missing. */
#define INT8_TILE(name, attributes, dot)                                                           \
    attributes static void name##_block(const cpu_tile *t, int32_t row, int32_t p, int n)          \
    {                                                                                              \
        const char *w = panel_of(t, p);                                                            \
        int32x4_t acc[4][4];                                                                       \
        for (int r = 0; r < n; r++) {                                                              \
            for (int q = 0; q < 4; q++) {                                                          \
                int16x4x2_t sums = vld2_s16(t->w_sums + 32 * p + 8 * q);                           \
                int32x4_t sum = vaddq_s32(vmovl_s16(sums.val[0]), vshll_n_s16(sums.val[1], 7));    \
                acc[r][q] = vmulq_n_s32(sum, t->a_zero[row + r]);                                  \
            }                                                                                      \
        }                                                                                          \
        for (int32_t s = 0; s < t->steps; s++, w += t->w_step) {                                   \
            int8x16_t b[4];                                                                        \
            for (int q = 0; q < 4; q++) b[q] = vld1q_s8((const int8_t *)w + 16 * q);               \
            for (int r = 0; r < n; r++) {                                                          \
                int32_t four;                                                                      \
                memcpy(&four, row_of(t, row + r) + 4 * (size_t)s, sizeof four);                    \
                int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(four));                             \
                for (int q = 0; q < 4; q++) acc[r][q] = dot(acc[r][q], b[q], x);                   \
            }                                                                                      \
        }                                                                                          \
        for (int r = 0; r < n; r++) {                                                              \
            float32x4_t row_scale = vdupq_n_f32(t->a_scale[row + r]);                              \
            for (int q = 0; q < 4; q++) {                                                          \
                size_t at = 16 * (size_t)p + 4 * (size_t)q;                                        \
                float32x4_t y = vmulq_f32(vcvtq_f32_s32(acc[r][q]), vld1q_f32(t->w_scale + at));   \
                y = vfmaq_f32(vld1q_f32(t->bias + at), y, row_scale);                              \
                vst1q_f32(output_of(t, row + r, p) + 4 * q, y);                                    \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
    attributes static void name##_four(const cpu_tile *t, int32_t row, int32_t p, int n)           \
    {                                                                                              \
        (void)n;                                                                                   \
        name##_block(t, row, p, 4);                                                                \
    }                                                                                              \
    attributes void name(const cpu_tile *t)                                                        \
    {                                                                                              \
        for (int32_t p = 0; p < t->panels; p++) {                                                  \
            int32_t row = 0;                                                                       \
            for (; row + 4 <= t->rows; row += 4) name##_four(t, row, p, 4);                        \
            for (; row < t->rows; row++) name##_block(t, row, p, 1);                               \
        }                                                                                          \
    }

INT8_TILE(cpu_tile_int8_neon, , dot_plain)
INT8_TILE(cpu_tile_int8_neon_dotprod, __attribute__((target("arch=armv8.2-a+dotprod"))), dot_sdot)
#else
typedef int cpu_not_this_machine;
#endif
