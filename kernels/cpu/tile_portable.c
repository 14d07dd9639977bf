/* The matrix tiles in plain C: two rows and a panel at a time, 32 sums that the compiler may keep
 * in whatever vector registers the machine has. */
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

static void store(const cpu_tile *t, int32_t r, int32_t p, const float *acc)
{
    memcpy(t->c + (size_t)r * t->ldc + 16 * (size_t)p, acc, 16 * sizeof *acc);
}

static void f32_rows(const cpu_tile *t, int32_t r0, int32_t r1, int32_t p)
{
    const float *a0 = row_of(t, r0), *a1 = row_of(t, r1);
    const char *w = panel_of(t, p);
    float acc0[16], acc1[16];
    start(acc0, t, p);
    start(acc1, t, p);
    for (int32_t s = 0; s < t->steps; s++, w += t->w_step) {
        const float *b = (const float *)w;
        for (int l = 0; l < 16; l++) acc0[l] += a0[s] * b[l];
        for (int l = 0; l < 16; l++) acc1[l] += a1[s] * b[l];
    }
    store(t, r0, p, acc0);
    store(t, r1, p, acc1);
}

/* A single last row goes twice through the pair's code. */
void cpu_tile_f32_portable(const cpu_tile *t)
{
    for (int32_t p = 0; p < t->panels; p++) {
        for (int32_t r = 0; r < t->rows; r += 2) f32_rows(t, r, r + 1 < t->rows ? r + 1 : r, p);
    }
}

static float widen(uint32_t high_bits)
{
    float x;
    memcpy(&x, &high_bits, sizeof x);
    return x;
}

static void bf16_rows(const cpu_tile *t, int32_t r0, int32_t r1, int32_t p)
{
    const uint32_t *a0 = row_of(t, r0), *a1 = row_of(t, r1);
    const char *w = panel_of(t, p);
    float acc0[16], acc1[16];
    start(acc0, t, p);
    start(acc1, t, p);
    for (int32_t s = 0; s < t->steps; s++, w += t->w_step) {
        const uint32_t *b = (const uint32_t *)w;
        float odd[16], even[16];
        for (int l = 0; l < 16; l++) odd[l] = widen(b[l] & 0xffff0000u);
        for (int l = 0; l < 16; l++) even[l] = widen(b[l] << 16);
        float odd0 = widen(a0[s] & 0xffff0000u), even0 = widen(a0[s] << 16);
        float odd1 = widen(a1[s] & 0xffff0000u), even1 = widen(a1[s] << 16);
        for (int l = 0; l < 16; l++) acc0[l] = (acc0[l] + odd0 * odd[l]) + even0 * even[l];
        for (int l = 0; l < 16; l++) acc1[l] = (acc1[l] + odd1 * odd[l]) + even1 * even[l];
    }
    store(t, r0, p, acc0);
    store(t, r1, p, acc1);
}

void cpu_tile_bf16_portable(const cpu_tile *t)
{
    for (int32_t p = 0; p < t->panels; p++) {
        for (int32_t r = 0; r < t->rows; r += 2) bf16_rows(t, r, r + 1 < t->rows ? r + 1 : r, p);
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
                /* 16-bit multiplication, which the smallest vector units have: a byte pair splits
                 * into its halves, and a product of at most 255 * 127 fits. */
                const int16_t *pairs = (const int16_t *)w;
                int16_t low[32], high[32];
                for (int i = 0; i < 32; i += 2) {
                    low[i] = a[4 * s], low[i + 1] = a[4 * s + 2];
                    high[i] = a[4 * s + 1], high[i + 1] = a[4 * s + 3];
                }
                for (int i = 0; i < 32; i++) {
                    int16_t first = (int16_t)((int16_t)((uint16_t)pairs[i] << 8) >> 8);
                    int16_t second = (int16_t)(pairs[i] >> 8);
                    acc[i] += (int16_t)(first * low[i]);
                    acc[i] += (int16_t)(second * high[i]);
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
