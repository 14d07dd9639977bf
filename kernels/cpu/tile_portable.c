/* The matrix tiles in plain C: a row and a panel at a time, 16 sums that the compiler may keep in
 * whatever registers the machine has. */
#include <string.h>

#include "kernels/cpu/tiles.h"

static const void *row_of(const cpu_tile *t, int32_t r)
{
    return (const char *)t->a + (size_t)r * t->a_stride;
}

static const char *panel_of(const cpu_tile *t, int32_t p)
{
    return (const char *)t->w + (size_t)p * t->w_panel;
}

static void start(float *acc, const cpu_tile *t, int32_t p)
{
    for (int l = 0; l < 16; l++) acc[l] = t->bias != NULL ? t->bias[16 * p + l] : 0.0f;
}

void cpu_tile_f32_portable(const cpu_tile *t)
{
    for (int32_t p = 0; p < t->panels; p++) {
        for (int32_t r = 0; r < t->rows; r++) {
            const float *a = row_of(t, r);
            const char *w = panel_of(t, p);
            float acc[16];
            start(acc, t, p);
            for (int32_t s = 0; s < t->steps; s++, w += t->w_step) {
                const float *b = (const float *)w;
                for (int l = 0; l < 16; l++) acc[l] += a[s] * b[l];
            }
            memcpy(t->c + (size_t)r * t->ldc + 16 * (size_t)p, acc, sizeof acc);
        }
    }
}

static float widen(uint32_t high_bits)
{
    float x;
    memcpy(&x, &high_bits, sizeof x);
    return x;
}

void cpu_tile_bf16_portable(const cpu_tile *t)
{
    for (int32_t p = 0; p < t->panels; p++) {
        for (int32_t r = 0; r < t->rows; r++) {
            const uint32_t *a = row_of(t, r);
            const char *w = panel_of(t, p);
            float acc[16];
            start(acc, t, p);
            for (int32_t s = 0; s < t->steps; s++, w += t->w_step) {
                const uint32_t *b = (const uint32_t *)w;
                float odd = widen(a[s] & 0xffff0000u), even = widen(a[s] << 16);
                for (int l = 0; l < 16; l++) acc[l] += odd * widen(b[l] & 0xffff0000u);
                for (int l = 0; l < 16; l++) acc[l] += even * widen(b[l] << 16);
            }
            memcpy(t->c + (size_t)r * t->ldc + 16 * (size_t)p, acc, sizeof acc);
        }
    }
}

/* Activations in S16. The dequantisation is an FMA like everywhere; the product with a_scale is
 * exact in a double and so is the sum's rounding (see v_fma1). */
#include "kernels/cpu/v16_portable.h"

void cpu_tile_int8_portable(const cpu_tile *t)
{
    for (int32_t p = 0; p < t->panels; p++) {
        for (int32_t r = 0; r < t->rows; r++) {
            const int16_t *a = row_of(t, r);
            const char *w = panel_of(t, p);
            int32_t acc[32] = {0}; /* [16 outputs][even pair, odd pair of a step] */
            for (int32_t s = 0; s < t->steps; s++, w += t->w_step) {
                /* 16-bit arithmetic, which the smallest vector units have: a byte pair splits into
                 * its halves, and two products of at most 127 * 127 still fit. */
                const int16_t *pairs = (const int16_t *)w;
                int16_t low[32], high[32];
                for (int i = 0; i < 32; i += 2) {
                    low[i] = a[4 * s], low[i + 1] = a[4 * s + 2];
                    high[i] = a[4 * s + 1], high[i + 1] = a[4 * s + 3];
                }
                for (int i = 0; i < 32; i++) {
                    int16_t first = (int16_t)((int16_t)((uint16_t)pairs[i] << 8) >> 8);
                    int16_t second = (int16_t)(pairs[i] >> 8);
                    acc[i] += (int16_t)((int16_t)(first * low[i]) + (int16_t)(second * high[i]));
                }
            }
            float *c = t->c + (size_t)r * t->ldc + 16 * (size_t)p;
            for (int l = 0; l < 16; l++) {
                float y = (float)(acc[2 * l] + acc[2 * l + 1]) * t->w_scale[16 * p + l];
                c[l] = v_fma1(y, t->a_scale[r], t->bias[16 * p + l]);
            }
        }
    }
}
