/* The ops that walk rows: embedding, norms, gathers, pool, broadcast, and the two that end a
 * forward pass: head and vectors. */
#include "kernels/ref/steps.h"

#include <math.h>

#include "weights/dtype.h"

/* out[j] (+)= table[row][j], widened exactly. */
static void add_lookup(float *out, const ops_lookup *table, int32_t row)
{
    size_t start = (size_t)row * (size_t)table->cols;
    const float *f32 = (const float *)table->data + start;
    const uint16_t *bits = (const uint16_t *)table->data + start;
    switch (table->dtype) {
    case OPS_BF16:
        for (int32_t j = 0; j < table->cols; j++) out[j] += dtype_f32_from_bf16(bits[j]);
        break;
    case OPS_F16:
        for (int32_t j = 0; j < table->cols; j++) out[j] += dtype_f32_from_f16(bits[j]);
        break;
    default: ref_add(out, f32, table->cols); break;
    }
}

typedef struct rows_job {
    const ops_context *ctx;
    const ops_tensor *out, *x, *y;
    const ops_embedding *embedding;
    const ops_norm *norm;
    const ops_head *head;
    const float *row;
    ops_pool_kind kind;
    bool normalize;
    float *floats;  /* logits or vectors */
    float *scratch; /* [workers, scratch_floats] */
    size_t scratch_floats;
} rows_job;

static void embed_rows(const void *context, int worker, int32_t begin, int32_t end)
{
    (void)worker;
    const rows_job *job = context;
    const ops_embedding *e = job->embedding;
    const ops_batch *batch = &job->ctx->batch;
    for (int32_t t = begin; t < end; t++) {
        float *out = ref_row(job->out, t);
        ref_zero(out, job->out->cols);
        if (e->word.data != NULL) add_lookup(out, &e->word, batch->ids[t]);
        if (e->type.data != NULL) add_lookup(out, &e->type, batch->types[t]);
        if (e->position.data != NULL) add_lookup(out, &e->position, batch->positions[t]);
        ref_norm_row(out, out, job->out->cols, &e->norm);
    }
}

void ref_embed_norm(ops_context *ctx, ops_tensor *out, const ops_embedding *e)
{
    if (ctx->dry) return;
    rows_job job = {.ctx = ctx, .out = out, .embedding = e};
    ref_split(ctx, out->rows, embed_rows, &job);
}

static void norm_rows(const void *context, int worker, int32_t begin, int32_t end)
{
    (void)worker;
    const rows_job *job = context;
    for (int32_t t = begin; t < end; t++) {
        ref_norm_row(ref_row(job->out, t), ref_row(job->x, t), job->x->cols, job->norm);
    }
}

void ref_norm(ops_context *ctx, ops_tensor *out, const ops_tensor *x, const ops_norm *norm)
{
    if (ctx->dry) return;
    rows_job job = {.out = out, .x = x, .norm = norm};
    ref_split(ctx, out->rows, norm_rows, &job);
}

/* x + y is made in out, element by element, so that out may be either. */
static void add_norm_rows(const void *context, int worker, int32_t begin, int32_t end)
{
    (void)worker;
    const rows_job *job = context;
    int32_t width = job->x->cols;
    for (int32_t t = begin; t < end; t++) {
        float *out = ref_row(job->out, t);
        const float *x = ref_row(job->x, t), *y = ref_row(job->y, t);
        for (int32_t j = 0; j < width; j++) out[j] = x[j] + y[j];
        ref_norm_row(out, out, width, job->norm);
    }
}

void ref_add_norm(ops_context *ctx, ops_tensor *out, const ops_tensor *x, const ops_tensor *y,
                  const ops_norm *norm)
{
    if (ctx->dry) return;
    rows_job job = {.out = out, .x = x, .y = y, .norm = norm};
    ref_split(ctx, out->rows, add_norm_rows, &job);
}

/* Items are sequences. */
static void around_rows(const void *context, int worker, int32_t begin, int32_t end)
{
    (void)worker;
    const rows_job *job = context;
    const int32_t *starts = job->ctx->batch.starts;
    int32_t width = job->x->cols, n = job->out->cols / width;
    for (int32_t b = begin; b < end; b++) {
        for (int32_t t = starts[b]; t < starts[b + 1]; t++) {
            float *out = ref_row(job->out, t);
            for (int32_t i = 0; i < n; i++, out += width) {
                int32_t from = t + i - n / 2;
                if (from < starts[b] || from >= starts[b + 1]) {
                    ref_zero(out, width);
                } else {
                    ref_copy(out, ref_row(job->x, from), width);
                }
            }
        }
    }
}

void ref_gather_around(ops_context *ctx, ops_tensor *out, const ops_tensor *x)
{
    if (ctx->dry) return;
    rows_job job = {.ctx = ctx, .out = out, .x = x};
    ref_split(ctx, ctx->batch.n_sequences, around_rows, &job);
}

/* A sequence without tokens (none comes from the packer) gives zeros. */
static void pool_rows(const void *context, int worker, int32_t begin, int32_t end)
{
    (void)worker;
    const rows_job *job = context;
    int32_t width = job->x->cols;
    for (int32_t b = begin; b < end; b++) {
        int32_t first = job->ctx->batch.starts[b], last = job->ctx->batch.starts[b + 1];
        float *out = ref_row(job->out, b);
        ref_zero(out, width);
        if (first == last) continue;
        float n = (float)(last - first), by = n;
        if (job->kind == OPS_POOL_MEAN_SQRT) by = sqrtf(n);
        if (job->kind == OPS_POOL_WEIGHTED) by = n * (n + 1.0f) / 2.0f;
        switch (job->kind) {
        case OPS_POOL_MEAN:
        case OPS_POOL_MEAN_SQRT:
            for (int32_t t = first; t < last; t++) ref_add(out, ref_row(job->x, t), width);
            for (int32_t j = 0; j < width; j++) out[j] /= by;
            continue;
        case OPS_POOL_WEIGHTED:
            for (int32_t t = first; t < last; t++) {
                ref_axpy(out, (float)(t - first + 1), ref_row(job->x, t), width);
            }
            for (int32_t j = 0; j < width; j++) out[j] /= by;
            continue;
        case OPS_POOL_LAST: first = last - 1; break;
        default: break;
        }
        ref_copy(out, ref_row(job->x, first), width);
        for (int32_t t = first + 1; job->kind == OPS_POOL_MAX && t < last; t++) {
            const float *x = ref_row(job->x, t);
            for (int32_t j = 0; j < width; j++) out[j] = x[j] > out[j] ? x[j] : out[j];
        }
    }
}

void ref_pool(ops_context *ctx, ops_tensor *out, const ops_tensor *x, ops_pool_kind kind)
{
    if (ctx->dry) return;
    rows_job job = {.ctx = ctx, .out = out, .x = x, .kind = kind};
    ref_split(ctx, out->rows, pool_rows, &job);
}

void ref_gather_first(ops_context *ctx, ops_tensor *out, const ops_tensor *x)
{
    ref_pool(ctx, out, x, OPS_POOL_FIRST);
}

void ref_broadcast(ops_context *ctx, ops_tensor *out, const float *row)
{
    if (ctx->dry) return;
    for (int32_t t = 0; t < out->rows; t++) ref_copy(ref_row(out, t), row, out->cols);
}

/* out[i] = (w[i] . x) + bias[i]; w: [n, k]. */
static void dense(float *out, const float *x, const float *w, const float *bias, int32_t n,
                  int32_t k)
{
    for (int32_t i = 0; i < n; i++) {
        out[i] = ref_dot(w + (size_t)i * (size_t)k, x, k) + (bias != NULL ? bias[i] : 0.0f);
    }
}

static void head_rows(const void *context, int worker, int32_t begin, int32_t end)
{
    const rows_job *job = context;
    const ops_head *head = job->head;
    float *inner = job->scratch + (size_t)worker * job->scratch_floats;
    int32_t width = head->dense != NULL ? head->d_dense : head->d_in;
    for (int32_t b = begin; b < end; b++) {
        const float *x = ref_row(job->x, b);
        if (head->dense != NULL) {
            dense(inner, x, head->dense, head->dense_bias, head->d_dense, head->d_in);
        } else {
            ref_copy(inner, x, width);
        }
        ref_activate(inner, width, head->activation);
        ref_norm_row(inner, inner, width, &head->norm);
        dense(job->floats + (size_t)b * (size_t)head->labels, inner, head->out, head->out_bias,
              head->labels, width);
    }
}

void ref_head(ops_context *ctx, float *logits, const ops_tensor *x, const ops_head *head)
{
    int32_t width = head->dense != NULL ? head->d_dense : head->d_in;
    rows_job job = {.x = x, .head = head, .floats = logits};
    job.scratch_floats = ((size_t)width + 15) / 16 * 16; /* workers share no cache line */
    size_t mark = ops_mark(ctx);
    job.scratch = ops_take(ctx, job.scratch_floats * (size_t)team_size(ctx->team) * sizeof(float));
    if (!ctx->dry && job.scratch != NULL) ref_split(ctx, x->rows, head_rows, &job);
    ops_release(ctx, mark);
}

static void vector_rows(const void *context, int worker, int32_t begin, int32_t end)
{
    (void)worker;
    const rows_job *job = context;
    int32_t width = job->x->cols;
    for (int32_t b = begin; b < end; b++) {
        const float *x = ref_row(job->x, b);
        float *out = job->floats + (size_t)b * (size_t)width;
        float length = job->normalize ? sqrtf(ref_dot(x, x, width)) : 1.0f;
        if (length < 1e-12f) length = 1e-12f;
        for (int32_t j = 0; j < width; j++) out[j] = x[j] / length;
    }
}

void ref_vectors(ops_context *ctx, float *vectors, const ops_tensor *x, bool normalize)
{
    if (ctx->dry) return;
    rows_job job = {.x = x, .floats = vectors, .normalize = normalize};
    ref_split(ctx, x->rows, vector_rows, &job);
}
