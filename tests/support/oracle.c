/* Values are doubles in the workspace; a linear's blob is the weight as it comes, [n, k] f32, then
 * the bias. The folded attention is computed unfolded: K and V are made for every row. */
#include "support/oracle.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "weights/dtype.h"

static double *row_of(const ops_tensor *t, int32_t row)
{
    double *rows = t->value != NULL ? t->value : t->operand;
    return rows + (size_t)row * (size_t)t->cols;
}

/* ---- steps -------------------------------------------------------------------------------------
 */

static double activate(double x, ops_activation act)
{
    switch (act) {
    case OPS_GELU: return 0.5 * x * erfc(-x / sqrt(2.0));
    case OPS_GELU_TANH:
        return x / (1.0 + exp(-2.0 * 0.79788456080286535588 * (x + 0.044715 * x * x * x)));
    case OPS_RELU: return fmax(x, 0.0);
    case OPS_TANH: return tanh(x);
    case OPS_SILU: return x / (1.0 + exp(-x));
    default: return x;
    }
}

static void normalise(double *out, const double *x, int32_t n, const ops_norm *norm)
{
    double sum = 0, squares = 0;
    for (int32_t j = 0; j < n; j++) sum += x[j];
    for (int32_t j = 0; j < n; j++) squares += x[j] * x[j];
    double mean = norm->kind == OPS_NORM_LAYER ? sum / n : 0;
    double variance = 0;
    for (int32_t j = 0; j < n; j++) variance += (x[j] - mean) * (x[j] - mean) / n;
    if (norm->kind == OPS_NORM_RMS) variance = squares / n;
    for (int32_t j = 0; j < n; j++) {
        if (norm->kind == OPS_NORM_NONE) {
            out[j] = x[j];
            continue;
        }
        out[j] = (x[j] - mean) / sqrt(variance + (double)norm->epsilon) * (double)norm->gamma[j];
        if (norm->kind == OPS_NORM_LAYER && norm->beta != NULL) out[j] += (double)norm->beta[j];
    }
}

/* y[i] = W x + b, row i of the linear. */
static double linear_output(const ops_linear *w, const double *x, int32_t i)
{
    const float *weight = (const float *)w->blob + (size_t)i * (size_t)w->k;
    const float *bias = (const float *)w->blob + (size_t)w->n * (size_t)w->k;
    double y = (double)bias[i];
    for (int32_t j = 0; j < w->k; j++) y += (double)weight[j] * x[j];
    return y;
}

/* ---- ops ---------------------------------------------------------------------------------------
 */

static double lookup(const ops_lookup *table, int32_t row, int32_t column)
{
    if (table->data == NULL) return 0;
    size_t i = (size_t)row * (size_t)table->cols + (size_t)column;
    if (table->dtype == OPS_BF16)
        return (double)dtype_f32_from_bf16(((const uint16_t *)table->data)[i]);
    if (table->dtype == OPS_F16)
        return (double)dtype_f32_from_f16(((const uint16_t *)table->data)[i]);
    return (double)((const float *)table->data)[i];
}

static void embed_norm(ops_context *ctx, ops_tensor *out, const ops_embedding *e)
{
    if (ctx->dry) return;
    for (int32_t t = 0; t < out->rows; t++) {
        double *x = row_of(out, t);
        for (int32_t j = 0; j < out->cols; j++) {
            x[j] = lookup(&e->word, ctx->batch.ids[t], j);
            if (e->type.data != NULL) x[j] += lookup(&e->type, ctx->batch.types[t], j);
            if (e->position.data != NULL) x[j] += lookup(&e->position, ctx->batch.positions[t], j);
        }
        normalise(x, x, out->cols, &e->norm);
    }
}

static void linear(ops_context *ctx, ops_tensor *out, const ops_tensor *x, const ops_linear *w,
                   ops_activation act)
{
    if (ctx->dry) return;
    for (int32_t t = 0; t < out->rows; t++) {
        for (int32_t i = 0; i < out->cols; i++) {
            double y = activate(linear_output(w, row_of(x, t), i), act);
            if (w->gated) y *= linear_output(w, row_of(x, t), out->cols + i);
            row_of(out, t)[i] = y;
        }
    }
}

static void linear_residual_norm(ops_context *ctx, ops_tensor *out, ops_tensor *sum,
                                 const ops_tensor *x, const ops_linear *w,
                                 const ops_tensor *residual, const ops_norm *norm)
{
    if (ctx->dry) return;
    ops_tensor *s = sum != NULL ? sum : out;
    for (int32_t t = 0; t < out->rows; t++) {
        for (int32_t i = 0; i < out->cols; i++) {
            row_of(s, t)[i] = row_of(residual, t)[i] + linear_output(w, row_of(x, t), i);
        }
        normalise(row_of(out, t), row_of(s, t), out->cols, norm);
    }
}

static void norm_rows(ops_context *ctx, ops_tensor *out, const ops_tensor *x, const ops_norm *norm)
{
    for (int32_t t = 0; !ctx->dry && t < out->rows; t++) {
        normalise(row_of(out, t), row_of(x, t), out->cols, norm);
    }
}

/* Coordinate i of a head's vector after the rotation for `position`. */
static double rotated(const double *x, int32_t i, int32_t position, const ops_attention *a)
{
    if (a->rope.cos == NULL) return x[i];
    int32_t half = a->head_width / 2, j = i % half;
    double cosine = (double)a->rope.cos[position * half + j];
    double sine = (double)a->rope.sin[position * half + j];
    return i < half ? x[j] * cosine - x[j + half] * sine : x[j + half] * cosine + x[j] * sine;
}

/* Score of query vector q (at position p) and key vector k (at position j) of one head. */
static double score(const double *q, int32_t p, const double *k, int32_t j, const ops_attention *a,
                    int32_t head)
{
    double s = 0;
    for (int32_t i = 0; i < a->head_width; i++) s += rotated(q, i, p, a) * rotated(k, i, j, a);
    if (a->relative.index != NULL) {
        int32_t c = a->relative.index[p - j + a->relative.span - 1];
        int32_t start = c * a->n_heads * a->head_width + head * a->head_width;
        for (int32_t i = 0; i < a->head_width; i++) {
            if (a->relative.key != NULL) s += q[i] * (double)a->relative.key[start + i];
            if (a->relative.query != NULL) s += k[i] * (double)a->relative.query[start + i];
        }
    }
    s *= (double)a->scale;
    if (a->distance_bias != NULL) {
        int32_t width = 2 * a->distance_span - 1;
        s += (double)a->distance_bias[head * width + j - p + a->distance_span - 1];
    }
    return s;
}

/* out[i] = sum over the visible keys of softmax(score) * value; keys and values: [length, stride].
 */
static void attend(double *out, const double *q, int32_t p, const double *keys,
                   const double *values, size_t stride, int32_t length, const ops_attention *a,
                   int32_t head)
{
    double largest = -INFINITY, total = 0;
    for (int32_t i = 0; i < a->head_width; i++) out[i] = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int32_t j = 0; j < length; j++) {
            if (a->window > 0 && abs(p - j) > a->window) continue;
            double s = score(q, p, keys + (size_t)j * stride, j, a, head);
            if (pass == 0) {
                largest = fmax(largest, s);
                continue;
            }
            double weight = exp(s - largest);
            total += weight;
            for (int32_t i = 0; i < a->head_width; i++) {
                out[i] += weight * values[(size_t)j * stride + (size_t)i];
            }
        }
    }
    for (int32_t i = 0; total > 0 && i < a->head_width; i++) out[i] /= total;
}

static int32_t keys_of(const ops_batch *batch, int32_t b)
{
    return batch->key_counts != NULL ? batch->key_counts[b]
                                     : batch->starts[b + 1] - batch->starts[b];
}

static void attention(ops_context *ctx, ops_tensor *out, const ops_tensor *qkv,
                      const ops_attention *a)
{
    const ops_batch *batch = &ctx->batch;
    int32_t width = a->n_heads * a->head_width;
    for (int32_t b = 0; !ctx->dry && b < batch->n_sequences; b++) {
        for (int32_t t = batch->starts[b]; t < batch->starts[b + 1]; t++) {
            for (int32_t h = 0; h < a->n_heads; h++) {
                const double *first = row_of(qkv, batch->starts[b]) + h * a->head_width;
                attend(row_of(out, t) + h * a->head_width, row_of(qkv, t) + h * a->head_width,
                       t - batch->starts[b], first + width, first + 2 * width, (size_t)qkv->cols,
                       keys_of(batch, b), a, h);
            }
        }
    }
}

static void attention_rows(ops_context *ctx, ops_tensor *out, const ops_tensor *q,
                           const ops_tensor *kv, const ops_attention *a)
{
    const ops_batch *batch = &ctx->batch;
    int32_t width = a->n_heads * a->head_width;
    for (int32_t b = 0; !ctx->dry && b < batch->n_sequences; b++) {
        for (int32_t h = 0; h < a->n_heads; h++) {
            const double *first = row_of(kv, batch->starts[b]) + h * a->head_width;
            attend(row_of(out, b) + h * a->head_width, row_of(q, b) + h * a->head_width, 0, first,
                   first + width, (size_t)kv->cols, keys_of(batch, b), a, h);
        }
    }
}

static void attention_rows_folded(ops_context *ctx, ops_tensor *out, const ops_tensor *q,
                                  const ops_tensor *x, const ops_fold *fold, const ops_attention *a)
{
    const ops_batch *batch = &ctx->batch;
    int32_t width = a->n_heads * a->head_width;
    size_t mark = ops_mark(ctx);
    double *kv = ops_take(ctx, (size_t)batch->max_tokens * 2 * (size_t)width * sizeof *kv);
    for (int32_t b = 0; !ctx->dry && b < batch->n_sequences; b++) {
        int32_t first = batch->starts[b], length = batch->starts[b + 1] - first;
        for (int32_t j = 0; j < length; j++) {
            const double *row = row_of(x, first + j);
            for (int32_t i = 0; i < width; i++) {
                double key = 0, value = 0;
                for (int32_t d = 0; d < fold->d; d++) {
                    key += (double)fold->key[(size_t)i * (size_t)fold->d + (size_t)d] * row[d];
                    value += (double)fold->value[(size_t)d * (size_t)width + (size_t)i] * row[d];
                }
                if (fold->value_bias != NULL) value += (double)fold->value_bias[i];
                kv[j * 2 * width + i] = key;
                kv[j * 2 * width + width + i] = value;
            }
        }
        for (int32_t h = 0; h < a->n_heads; h++) {
            const double *keys = kv + h * a->head_width;
            attend(row_of(out, b) + h * a->head_width, row_of(q, b) + h * a->head_width, 0, keys,
                   keys + width, 2 * (size_t)width, keys_of(batch, b), a, h);
        }
    }
    ops_release(ctx, mark);
}

static void pool(ops_context *ctx, ops_tensor *out, const ops_tensor *x, ops_pool_kind kind)
{
    for (int32_t b = 0; !ctx->dry && b < out->rows; b++) {
        int32_t first = ctx->batch.starts[b], end = ctx->batch.starts[b + 1];
        for (int32_t j = 0; j < out->cols; j++) {
            double sum = 0, weighted = 0, weights = 0, largest = -INFINITY, n = end - first;
            for (int32_t t = first; t < end; t++) {
                double weight = t - first + 1;
                sum += row_of(x, t)[j];
                weighted += weight * row_of(x, t)[j];
                weights += weight;
                largest = fmax(largest, row_of(x, t)[j]);
            }
            const double pooled[OPS_N_POOL_KINDS] = {
                [OPS_POOL_FIRST] = row_of(x, first)[j],
                [OPS_POOL_MEAN] = sum / n,
                [OPS_POOL_MAX] = largest,
                [OPS_POOL_LAST] = row_of(x, end - 1)[j],
                [OPS_POOL_MEAN_SQRT] = sum / sqrt(n),
                [OPS_POOL_WEIGHTED] = weighted / weights,
            };
            row_of(out, b)[j] = pooled[kind];
        }
    }
}

static void add_norm(ops_context *ctx, ops_tensor *out, const ops_tensor *x, const ops_tensor *y,
                     const ops_norm *norm)
{
    for (int32_t t = 0; !ctx->dry && t < out->rows; t++) {
        for (int32_t j = 0; j < out->cols; j++)
            row_of(out, t)[j] = row_of(x, t)[j] + row_of(y, t)[j];
        normalise(row_of(out, t), row_of(out, t), out->cols, norm);
    }
}

static void gather_around(ops_context *ctx, ops_tensor *out, const ops_tensor *x)
{
    const int32_t *starts = ctx->batch.starts;
    int32_t n = out->cols / x->cols;
    for (int32_t b = 0; !ctx->dry && b < ctx->batch.n_sequences; b++) {
        for (int32_t t = starts[b]; t < starts[b + 1]; t++) {
            for (int32_t j = 0; j < out->cols; j++) {
                int32_t from = t + j / x->cols - n / 2;
                bool inside = from >= starts[b] && from < starts[b + 1];
                row_of(out, t)[j] = inside ? row_of(x, from)[j % x->cols] : 0;
            }
        }
    }
}

static void gather_first(ops_context *ctx, ops_tensor *out, const ops_tensor *x)
{
    pool(ctx, out, x, OPS_POOL_FIRST);
}

static void broadcast(ops_context *ctx, ops_tensor *out, const float *row)
{
    for (int32_t t = 0; !ctx->dry && t < out->rows; t++) {
        for (int32_t j = 0; j < out->cols; j++) row_of(out, t)[j] = (double)row[j];
    }
}

static void head(ops_context *ctx, float *logits, const ops_tensor *x, const ops_head *h)
{
    int32_t width = h->dense != NULL ? h->d_dense : h->d_in;
    size_t mark = ops_mark(ctx);
    double *inner = ops_take(ctx, (size_t)width * sizeof *inner);
    for (int32_t b = 0; !ctx->dry && b < x->rows; b++) {
        for (int32_t i = 0; i < width; i++) {
            double y = row_of(x, b)[i % h->d_in];
            if (h->dense != NULL) {
                y = h->dense_bias != NULL ? (double)h->dense_bias[i] : 0;
                for (int32_t j = 0; j < h->d_in; j++) {
                    y +=
                        (double)h->dense[(size_t)i * (size_t)h->d_in + (size_t)j] * row_of(x, b)[j];
                }
            }
            inner[i] = activate(y, h->activation);
        }
        normalise(inner, inner, width, &h->norm);
        for (int32_t label = 0; label < h->labels; label++) {
            double y = h->out_bias != NULL ? (double)h->out_bias[label] : 0;
            for (int32_t i = 0; i < width; i++) y += (double)h->out[label * width + i] * inner[i];
            logits[b * h->labels + label] = (float)y;
        }
    }
    ops_release(ctx, mark);
}

static void vectors(ops_context *ctx, float *out, const ops_tensor *x, bool normalize)
{
    for (int32_t b = 0; !ctx->dry && b < x->rows; b++) {
        double squares = 0;
        for (int32_t j = 0; j < x->cols; j++) squares += row_of(x, b)[j] * row_of(x, b)[j];
        for (int32_t j = 0; j < x->cols; j++) {
            double length = normalize ? fmax(sqrt(squares), 1e-12) : 1;
            out[b * x->cols + j] = (float)(row_of(x, b)[j] / length);
        }
    }
}

/* ---- the table ---------------------------------------------------------------------------------
 */

static size_t linear_bytes(int32_t n, int32_t k)
{
    return (((size_t)n * (size_t)k + (size_t)n) * sizeof(float) + 63) / 64 * 64;
}

static void linear_pack(void *blob, const float *weight, const float *bias, int32_t n, int32_t k,
                        bool gated)
{
    (void)gated;
    memset(blob, 0, linear_bytes(n, k));
    memcpy(blob, weight, (size_t)n * (size_t)k * sizeof(float));
    if (bias != NULL)
        memcpy((float *)blob + (size_t)n * (size_t)k, bias, (size_t)n * sizeof(float));
}

static void linear_unpack(float *weight, float *bias, const void *blob, int32_t n, int32_t k,
                          bool gated)
{
    (void)gated;
    memcpy(weight, blob, (size_t)n * (size_t)k * sizeof(float));
    if (bias != NULL)
        memcpy(bias, (const float *)blob + (size_t)n * (size_t)k, (size_t)n * sizeof(float));
}

static const ops_layout plain_layout = {.name = "oracle-f32",
                                        .dtype = OPS_F32,
                                        .linear_bytes = linear_bytes,
                                        .linear_pack = linear_pack,
                                        .linear_unpack = linear_unpack,
                                        .table_dtype = OPS_F32};

static crank_status device_open(void **device, const ops_device_options *options,
                                crank_error *error)
{
    (void)options;
    (void)error;
    *device = NULL;
    return CRANK_OK;
}

static void device_close(void *device)
{
    (void)device;
}

static const char *device_describe(const void *device)
{
    (void)device;
    return "double precision, from the equations";
}

static const ops_layout *device_layout(const void *device, ops_dtype type)
{
    (void)device;
    return type == OPS_F32 ? &plain_layout : NULL;
}

static ops_dtype device_best_dtype(const void *device)
{
    (void)device;
    return OPS_F32;
}

static const ops_variant *device_variants(const void *device, size_t *n)
{
    (void)device;
    *n = 0;
    return NULL;
}

static crank_status memory_open(void *device, void **block, size_t bytes, crank_error *error)
{
    (void)device;
    *block = aligned_alloc(64, (bytes + 127) / 64 * 64);
    return *block != NULL ? CRANK_OK : status_fail(error, CRANK_OUT_OF_MEMORY, "no memory");
}

static crank_status memory_write(void *device, void *block, const void *source, size_t bytes,
                                 crank_error *error)
{
    (void)device;
    (void)error;
    memcpy(block, source, bytes);
    return CRANK_OK;
}

static void memory_close(void *device, void *block)
{
    (void)device;
    free(block);
}

static crank_status context_open(ops_context *ctx, size_t bytes, crank_error *error)
{
    void *base;
    CRANK_TRY(memory_open(ctx->device, &base, bytes, error));
    ctx->workspace = (ops_workspace){.base = base, .capacity = bytes};
    return CRANK_OK;
}

static void context_close(ops_context *ctx)
{
    free(ctx->workspace.base);
}

static crank_status begin(ops_context *ctx, const ops_batch *host, crank_error *error)
{
    (void)error;
    ctx->batch = *host;
    return CRANK_OK;
}

static crank_status end(ops_context *ctx, crank_error *error)
{
    (void)ctx;
    (void)error;
    return CRANK_OK;
}

static void tensor(ops_context *ctx, ops_tensor *t)
{
    t->value = ops_take(ctx, (size_t)t->rows * (size_t)t->cols * sizeof(double));
    t->operand = t->value;
}

static void read_f32(ops_context *ctx, float *rows, const ops_tensor *x)
{
    (void)ctx;
    for (int32_t t = 0; t < x->rows; t++) {
        for (int32_t j = 0; j < x->cols; j++) *rows++ = (float)row_of(x, t)[j];
    }
}

const ops_backend oracle_backend = {
    .name = "oracle",
    .host_memory = true,
    .splits_batches = true,
    .open = device_open,
    .close = device_close,
    .describe = device_describe,
    .layout = device_layout,
    .best_dtype = device_best_dtype,
    .variants = device_variants,
    .memory_open = memory_open,
    .memory_write = memory_write,
    .memory_close = memory_close,
    .context_open = context_open,
    .context_close = context_close,
    .begin = begin,
    .end = end,
    .tensor = tensor,
    .read_f32 = read_f32,
    .embed_norm = embed_norm,
    .linear = linear,
    .linear_residual_norm = linear_residual_norm,
    .norm = norm_rows,
    .attention = attention,
    .attention_rows = attention_rows,
    .attention_rows_folded = attention_rows_folded,
    .add_norm = add_norm,
    .gather_first = gather_first,
    .gather_around = gather_around,
    .pool = pool,
    .broadcast = broadcast,
    .head = head,
    .vectors = vectors,
};
