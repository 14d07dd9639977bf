/* The panel16 layouts: what every level's tiles read, so that a converted file serves any CPU.
 *
 *   bias   [N16] f32
 *   scale  [N16] f32, sums [N16] 2 x s16    int8 only
 *   panels [N16 / 16][steps][16][4 bytes]
 *
 * N16: n up to whole panels (an even number of them, so that the size does not depend on `gated`).
 * steps: k in units of 4 bytes (1 f32, 2 bf16, 4 int8); what is past k or n is zero.
 * A gated weight's panels alternate between 16 activated outputs and their 16 gates, which makes
 * act(u) * g an epilogue of one pass.
 * int8: q = round_to_even(w * (127 / max|w|)) per output, scale = max|w| / 127. The sum of
 * an output's q takes the activations' zero point away again; it is kept as low + 128 high, so that
 * one pairwise product of 16-bit numbers multiplies it. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

static int32_t steps_of(int32_t k, ops_dtype dtype)
{
    int32_t per_step = CPU_STEP_BYTES / ops_dtypes[dtype].bytes;
    return (k + per_step - 1) / per_step;
}

static size_t padded_outputs(int32_t n)
{
    return ((size_t)n + 2 * CPU_PANEL - 1) / (2 * CPU_PANEL) * (2 * CPU_PANEL);
}

static size_t header_bytes(int32_t n, ops_dtype dtype)
{
    return padded_outputs(n) * (dtype == OPS_INT8 ? 12 : 4);
}

static size_t blob_bytes(int32_t n, int32_t k, ops_dtype dtype)
{
    return header_bytes(n, dtype) + padded_outputs(n) * (size_t)steps_of(k, dtype) * CPU_STEP_BYTES;
}

/* Where output `row` of the caller's weight stands in panel order. */
static size_t place_of(int32_t row, int32_t n, bool gated)
{
    if (!gated) return (size_t)row;
    int32_t half = n / 2, gate = row >= half;
    int32_t i = gate ? row - half : row;
    return (size_t)(i / CPU_PANEL) * 2 * CPU_PANEL + (size_t)(gate * CPU_PANEL + i % CPU_PANEL);
}

cpu_weight cpu_weight_open(const ops_linear *w)
{
    ops_dtype dtype = w->layout->dtype;
    size_t padded = padded_outputs(w->n);
    const uint8_t *blob = w->blob;
    cpu_weight opened = {
        .bias = (const float *)blob,
        .panels = blob + header_bytes(w->n, dtype),
        .n_panels = w->gated ? 2 * ((w->n / 2 + CPU_PANEL - 1) / CPU_PANEL)
                             : (w->n + CPU_PANEL - 1) / CPU_PANEL,
        .steps = steps_of(w->k, dtype),
    };
    opened.panel_bytes = (size_t)opened.steps * CPU_PANEL * CPU_STEP_BYTES;
    if (dtype == OPS_INT8) {
        opened.scale = (const float *)(blob + padded * 4);
        opened.sums = (const int16_t *)(blob + padded * 8);
    }
    return opened;
}

static uint16_t to_bf16(float x)
{
    if (fabsf(x) < 0x1p-56f) return 0; /* cpu.h: no subnormal sums */
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (x != x) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static float from_bf16(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Element (place, kk) of the panels, in elements of the dtype. */
static size_t element_of(size_t place, int32_t kk, int32_t steps, int32_t per_step)
{
    size_t panel = place / CPU_PANEL, lane = place % CPU_PANEL;
    return ((panel * (size_t)steps + (size_t)(kk / per_step)) * CPU_PANEL + lane) *
               (size_t)per_step +
           (size_t)(kk % per_step);
}

static void pack_bias(void *blob, const float *bias, int32_t n, bool gated, float smallest)
{
    float *out = blob;
    for (int32_t row = 0; row < n && bias != NULL; row++) {
        out[place_of(row, n, gated)] = fabsf(bias[row]) < smallest ? 0.0f : bias[row];
    }
}

static void unpack_bias(float *bias, const void *blob, int32_t n, bool gated)
{
    const float *in = blob;
    for (int32_t row = 0; row < n; row++) bias[row] = in[place_of(row, n, gated)];
}

/* ---- f32 --------------------------------------------------------------------------------------
 */

static size_t f32_bytes(int32_t n, int32_t k)
{
    return blob_bytes(n, k, OPS_F32);
}

static void f32_pack(void *blob, const float *weight, const float *bias, int32_t n, int32_t k,
                     bool gated)
{
    memset(blob, 0, f32_bytes(n, k));
    pack_bias(blob, bias, n, gated, 0.0f);
    float *panels = (float *)((uint8_t *)blob + header_bytes(n, OPS_F32));
    for (int32_t row = 0; row < n; row++) {
        float *out = panels + element_of(place_of(row, n, gated), 0, k, 1);
        for (int32_t kk = 0; kk < k; kk++) {
            out[(size_t)kk * CPU_PANEL] = weight[(size_t)row * (size_t)k + (size_t)kk];
        }
    }
}

static void f32_unpack(float *weight, float *bias, const void *blob, int32_t n, int32_t k,
                       bool gated)
{
    unpack_bias(bias, blob, n, gated);
    const float *panels = (const float *)((const uint8_t *)blob + header_bytes(n, OPS_F32));
    for (int32_t row = 0; row < n; row++) {
        const float *in = panels + element_of(place_of(row, n, gated), 0, k, 1);
        for (int32_t kk = 0; kk < k; kk++) {
            weight[(size_t)row * (size_t)k + (size_t)kk] = in[(size_t)kk * CPU_PANEL];
        }
    }
}

const ops_layout cpu_layout_f32 = {
    .name = "panel16-f32",
    .dtype = OPS_F32,
    .linear_bytes = f32_bytes,
    .linear_pack = f32_pack,
    .linear_unpack = f32_unpack,
    .table_dtype = OPS_F32,
};

/* ---- bf16 -------------------------------------------------------------------------------------
 */

static size_t bf16_bytes(int32_t n, int32_t k)
{
    return blob_bytes(n, k, OPS_BF16);
}

static void bf16_pack(void *blob, const float *weight, const float *bias, int32_t n, int32_t k,
                      bool gated)
{
    memset(blob, 0, bf16_bytes(n, k));
    pack_bias(blob, bias, n, gated, 0x1p-100f);
    uint16_t *panels = (uint16_t *)((uint8_t *)blob + header_bytes(n, OPS_BF16));
    int32_t steps = steps_of(k, OPS_BF16);
    for (int32_t row = 0; row < n; row++) {
        size_t place = place_of(row, n, gated);
        for (int32_t kk = 0; kk < k; kk++) {
            panels[element_of(place, kk, steps, 2)] =
                to_bf16(weight[(size_t)row * (size_t)k + (size_t)kk]);
        }
    }
}

static void bf16_unpack(float *weight, float *bias, const void *blob, int32_t n, int32_t k,
                        bool gated)
{
    unpack_bias(bias, blob, n, gated);
    const uint16_t *panels = (const uint16_t *)((const uint8_t *)blob + header_bytes(n, OPS_BF16));
    int32_t steps = steps_of(k, OPS_BF16);
    for (int32_t row = 0; row < n; row++) {
        size_t place = place_of(row, n, gated);
        for (int32_t kk = 0; kk < k; kk++) {
            weight[(size_t)row * (size_t)k + (size_t)kk] =
                from_bf16(panels[element_of(place, kk, steps, 2)]);
        }
    }
}

const ops_layout cpu_layout_bf16 = {
    .name = "panel16-bf16",
    .dtype = OPS_BF16,
    .linear_bytes = bf16_bytes,
    .linear_pack = bf16_pack,
    .linear_unpack = bf16_unpack,
    .table_dtype = OPS_BF16,
};

/* ---- int8 -------------------------------------------------------------------------------------
 */

static size_t int8_bytes(int32_t n, int32_t k)
{
    return blob_bytes(n, k, OPS_INT8);
}

static void int8_pack(void *blob, const float *weight, const float *bias, int32_t n, int32_t k,
                      bool gated)
{
    memset(blob, 0, int8_bytes(n, k));
    pack_bias(blob, bias, n, gated, 0.0f);
    size_t padded = padded_outputs(n);
    float *scales = (float *)((uint8_t *)blob + padded * 4);
    int16_t *sums = (int16_t *)((uint8_t *)blob + padded * 8);
    int8_t *panels = (int8_t *)blob + header_bytes(n, OPS_INT8);
    int32_t steps = steps_of(k, OPS_INT8);
    for (int32_t row = 0; row < n; row++) {
        const float *w = weight + (size_t)row * (size_t)k;
        size_t place = place_of(row, n, gated);
        float largest = 0.0f;
        for (int32_t kk = 0; kk < k; kk++) {
            if (fabsf(w[kk]) > largest) largest = fabsf(w[kk]);
        }
        float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
        if (!(inverse <= 0x1p127f)) inverse = 0.0f; /* weights of 1e-37: as good as none */
        int32_t sum = 0;
        for (int32_t kk = 0; kk < k; kk++) {
            float q = rintf(w[kk] * inverse);
            q = q > 127.0f ? 127.0f : q < -127.0f ? -127.0f : q;
            int8_t stored = q == q ? (int8_t)q : 0;
            panels[element_of(place, kk, steps, 4)] = stored;
            sum += stored;
        }
        scales[place] = inverse > 0.0f ? largest / 127.0f : 0.0f;
        int32_t high =
            (sum + (sum >= 0 ? 64 : -63)) / 128; /* |sum| <= 127 k: high fits to k 32767 */
        sums[2 * place] = (int16_t)(sum - 128 * high);
        sums[2 * place + 1] = (int16_t)high;
    }
}

static void int8_unpack(float *weight, float *bias, const void *blob, int32_t n, int32_t k,
                        bool gated)
{
    unpack_bias(bias, blob, n, gated);
    const float *scales = (const float *)((const uint8_t *)blob + padded_outputs(n) * 4);
    const int8_t *panels = (const int8_t *)blob + header_bytes(n, OPS_INT8);
    int32_t steps = steps_of(k, OPS_INT8);
    for (int32_t row = 0; row < n; row++) {
        size_t place = place_of(row, n, gated);
        for (int32_t kk = 0; kk < k; kk++) {
            weight[(size_t)row * (size_t)k + (size_t)kk] =
                (float)panels[element_of(place, kk, steps, 4)] * scales[place];
        }
    }
}

/* Tables are F16: they are read once per token, and their 11 bits keep the embeddings, which no
 * scale corrects, closer than bf16's 8. */
const ops_layout cpu_layout_int8 = {
    .name = "panel16-int8",
    .dtype = OPS_INT8,
    .linear_bytes = int8_bytes,
    .linear_pack = int8_pack,
    .linear_unpack = int8_unpack,
    .table_dtype = OPS_F16,
};
