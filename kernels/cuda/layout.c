#include "kernels/cuda/layout.h"

#include <math.h>
#include <string.h>

#include "weights/dtype.h"

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

cuda_linear_parts cuda_linear_at(ops_dtype type, int32_t n, int32_t k, bool gated)
{
    size_t element = type == OPS_INT8 ? 1 : 2;
    size_t rows = gated ? 2 * round_up((size_t)n / 2, 16) : round_up((size_t)n, 16);
    size_t row_bytes = round_up((size_t)k * element, 128);
    cuda_linear_parts p = {.rows = (int32_t)rows, .row_bytes = (int32_t)row_bytes};
    size_t at = rows * row_bytes; /* a multiple of 64 */
    if (type == OPS_INT8) {
        p.scales = at;
        p.sums = at + rows * sizeof(float);
        at += rows * (sizeof(float) + sizeof(int32_t));
    }
    p.bias = at;
    p.bytes = round_up(at + rows * sizeof(float), 64);
    return p;
}

/* The stored row of weight row r; the blob's row for padding rows is never asked. */
static int32_t place(int32_t r, int32_t n, bool gated)
{
    if (!gated) return r;
    int32_t f = n / 2, gate = r >= f, i = gate ? r - f : r;
    return i / 8 * 16 + gate * 8 + i % 8;
}

/* The largest blob of the two: linear_bytes is not told whether a weight is gated. */
static size_t blob_bytes(ops_dtype type, int32_t n, int32_t k)
{
    size_t plain = cuda_linear_at(type, n, k, false).bytes;
    size_t gated = n % 2 == 0 ? cuda_linear_at(type, n, k, true).bytes : 0;
    return plain > gated ? plain : gated;
}

static void pack_row(uint8_t *to, float *scale, int32_t *sum, const float *w, int32_t k,
                     ops_dtype type)
{
    uint16_t *half = (uint16_t *)(void *)to;
    if (type == OPS_INT8) {
        float largest = 0.0f;
        for (int32_t j = 0; j < k; j++) largest = fmaxf(largest, fabsf(w[j]));
        float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
        if (!(inverse <= 0x1p127f)) inverse = 0.0f; /* weights of 1e-37: as good as none */
        *scale = inverse > 0.0f ? largest / 127.0f : 0.0f;
        for (int32_t j = 0; j < k; j++) {
            float q = rintf(w[j] * inverse);
            int8_t code = (int8_t)(q > 127.0f ? 127.0f : q < -127.0f ? -127.0f : q);
            ((int8_t *)to)[j] = code;
            *sum += code;
        }
    } else if (type == OPS_F16) {
        for (int32_t j = 0; j < k; j++) half[j] = dtype_f16_from_f32(w[j]);
    } else {
        for (int32_t j = 0; j < k; j++) half[j] = dtype_bf16_from_f32(w[j]);
    }
}

static void pack(void *blob, const float *weight, const float *bias, int32_t n, int32_t k,
                 bool gated, ops_dtype type)
{
    cuda_linear_parts p = cuda_linear_at(type, n, k, gated);
    uint8_t *base = blob;
    float *scales = (float *)(void *)(base + p.scales), *biases = (float *)(void *)(base + p.bias);
    int32_t *sums = (int32_t *)(void *)(base + p.sums);
    memset(base, 0, blob_bytes(type, n, k));
    for (int32_t r = 0; r < n; r++) {
        size_t at = (size_t)place(r, n, gated);
        pack_row(base + at * (size_t)p.row_bytes, &scales[at], &sums[at],
                 weight + (size_t)r * (size_t)k, k, type);
        if (bias != NULL) biases[at] = bias[r];
    }
}

static void unpack(float *weight, float *bias, const void *blob, int32_t n, int32_t k, bool gated,
                   ops_dtype type)
{
    cuda_linear_parts p = cuda_linear_at(type, n, k, gated);
    const uint8_t *base = blob;
    const float *scales = (const float *)(const void *)(base + p.scales);
    const float *biases = (const float *)(const void *)(base + p.bias);
    for (int32_t r = 0; r < n; r++) {
        size_t at = (size_t)place(r, n, gated);
        const uint8_t *row = base + at * (size_t)p.row_bytes;
        const uint16_t *half = (const uint16_t *)(const void *)row;
        float *to = weight + (size_t)r * (size_t)k;
        for (int32_t j = 0; j < k; j++) {
            to[j] = type == OPS_INT8  ? (float)((const int8_t *)row)[j] * scales[at]
                    : type == OPS_F16 ? dtype_f32_from_f16(half[j])
                                      : dtype_f32_from_bf16(half[j]);
        }
        bias[r] = biases[at];
    }
}

#define LAYOUT(suffix, text, id, table)                                                            \
    static size_t bytes_##suffix(int32_t n, int32_t k)                                             \
    {                                                                                              \
        return blob_bytes(id, n, k);                                                               \
    }                                                                                              \
    static void pack_##suffix(void *blob, const float *weight, const float *bias, int32_t n,       \
                              int32_t k, bool gated)                                               \
    {                                                                                              \
        pack(blob, weight, bias, n, k, gated, id);                                                 \
    }                                                                                              \
    static void unpack_##suffix(float *weight, float *bias, const void *blob, int32_t n,           \
                                int32_t k, bool gated)                                             \
    {                                                                                              \
        unpack(weight, bias, blob, n, k, gated, id);                                               \
    }                                                                                              \
    const ops_layout cuda_layout_##suffix = {                                                      \
        .name = text,                                                                              \
        .dtype = id,                                                                               \
        .linear_bytes = bytes_##suffix,                                                            \
        .linear_pack = pack_##suffix,                                                              \
        .linear_unpack = unpack_##suffix,                                                          \
        .table_dtype = table,                                                                      \
    };

LAYOUT(f16, "row-f16", OPS_F16, OPS_F16)
LAYOUT(bf16, "row-bf16", OPS_BF16, OPS_BF16)
LAYOUT(int8, "row-int8", OPS_INT8, OPS_F16)
