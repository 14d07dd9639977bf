/* Attention over packed sequences: every query row, one row per sequence, and one row with K and V
 * folded away.
 *
 * Per (sequence, head) the keys are copied, rotated where the model is rotary, and turned into
 * [K, S] (the head's width by the sequence's keys), so that a query's row of scores is built by
 * axpy over the head width: score[j] = ((0 + q[0] k[j,0]) + q[1] k[j,1]) + ..., then the relative
 * terms (content to position, position to content), then the scale, then the distance bias. The
 * output is an axpy over the keys in ascending order. A query that no key is left for (key_counts
 * and window can do that) gives a row of zeros. */
#include "kernels/ref/steps.h"

typedef struct attention_job {
    const ops_context *ctx;
    const ops_attention *a;
    const ops_tensor *out;
    const ops_tensor *q;  /* row starts[b] + i for query i, or row b when one_query */
    const ops_tensor *kv; /* keys at column key_column, values at value_column */
    int32_t key_column, value_column;
    bool one_query;
    const ops_fold *fold;
    float *scratch;
    size_t scratch_floats; /* per worker */
} attention_job;

static int32_t key_count(const ops_batch *batch, int32_t b)
{
    int32_t length = batch->starts[b + 1] - batch->starts[b];
    if (batch->key_counts == NULL || batch->key_counts[b] > length) return length;
    return batch->key_counts[b];
}

/* Keys begin..end-1 that query position q sees. */
static void visible(const ops_attention *a, int32_t q, int32_t n_keys, int32_t *begin, int32_t *end)
{
    *begin = a->window > 0 && q - a->window > 0 ? q - a->window : 0;
    *end = a->window > 0 && q + a->window + 1 < n_keys ? q + a->window + 1 : n_keys;
    if (*end < *begin) *end = *begin;
}

static void rotate(float *out, const float *x, const ops_attention *a, int32_t position)
{
    ref_copy(out, x, a->head_width);
    if (a->rope.cos == NULL) return;
    int32_t half = a->head_width / 2;
    const float *cosine = a->rope.cos + (size_t)position * (size_t)half;
    const float *sine = a->rope.sin + (size_t)position * (size_t)half;
    for (int32_t j = 0; j < half; j++) {
        out[j] = x[j] * cosine[j] - x[j + half] * sine[j];
        out[j + half] = x[j + half] * cosine[j] + x[j] * sine[j];
    }
}

/* score[j], j from begin to end: + the relative terms of query q (row position `position`). k: the
 * first key's row of this head, `stride` apart. */
static void add_relative(float *score, const float *q, int32_t position, const float *k,
                         size_t stride, int32_t begin, int32_t end, const ops_attention *a,
                         int32_t head)
{
    const ops_relative *relative = &a->relative;
    size_t width = (size_t)a->n_heads * (size_t)a->head_width;
    size_t offset = (size_t)head * (size_t)a->head_width;
    for (int32_t j = begin; j < end; j++) {
        size_t c = (size_t)relative->index[position - j + relative->span - 1] * width + offset;
        if (relative->key != NULL) score[j] += ref_dot(q, relative->key + c, a->head_width);
        if (relative->query != NULL) {
            score[j] += ref_dot(k + (size_t)j * stride, relative->query + c, a->head_width);
        }
    }
}

/* score[j] = score[j] * scale + distance_bias[head, j - position], then softmax. */
static void finish_scores(float *score, int32_t position, int32_t begin, int32_t end,
                          const ops_attention *a, int32_t head)
{
    for (int32_t j = begin; j < end; j++) score[j] *= a->scale;
    if (a->distance_bias != NULL) {
        const float *bias = a->distance_bias + (size_t)head * (size_t)(2 * a->distance_span - 1);
        for (int32_t j = begin; j < end; j++) {
            score[j] += bias[j - position + a->distance_span - 1];
        }
    }
    ref_softmax(score + begin, end - begin);
}

/* One (sequence, head). scratch: [K, S] keys | [S] scores | 2 rows of K. */
static void attend(const attention_job *job, float *scratch, int32_t b, int32_t head)
{
    const ops_attention *a = job->a;
    const ops_batch *batch = &job->ctx->batch;
    int32_t first = batch->starts[b], length = batch->starts[b + 1] - first;
    int32_t n_keys = key_count(batch, b), width = a->head_width;
    int32_t offset = head * width;
    float *keys = scratch, *score = keys + (size_t)width * (size_t)n_keys, *q = score + n_keys;
    float *key = q + width;
    for (int32_t j = 0; j < n_keys; j++) {
        rotate(key, ref_row(job->kv, first + j) + job->key_column + offset, a, j);
        for (int32_t i = 0; i < width; i++) keys[(size_t)i * (size_t)n_keys + (size_t)j] = key[i];
    }
    int32_t n_queries = job->one_query && length > 0 ? 1 : length;
    for (int32_t position = 0; position < n_queries; position++) {
        int32_t row = job->one_query ? b : first + position;
        int32_t begin, end;
        visible(a, position, n_keys, &begin, &end);
        rotate(q, ref_row(job->q, row) + offset, a, position);
        ref_zero(score + begin, end - begin);
        for (int32_t i = 0; i < width; i++) {
            ref_axpy(score + begin, q[i], keys + (size_t)i * (size_t)n_keys + begin, end - begin);
        }
        if (a->relative.index != NULL) {
            add_relative(score, q, position, ref_row(job->kv, first) + job->key_column + offset,
                         (size_t)job->kv->cols, begin, end, a, head);
        }
        finish_scores(score, position, begin, end, a, head);
        float *out = ref_row(job->out, row) + offset;
        ref_zero(out, width);
        for (int32_t j = begin; j < end; j++) {
            ref_axpy(out, score[j], ref_row(job->kv, first + j) + job->value_column + offset,
                     width);
        }
    }
    if (job->one_query && length == 0) ref_zero(ref_row(job->out, b) + offset, width);
}

/* One (sequence, head) with u_h = Wk_h^T q_h, c_h = sum_j p_j x_j, out_h = Wv_h c_h + bv_h.
 * scratch: [D] u | [D] c | [S] scores. */
static void attend_folded(const attention_job *job, float *scratch, int32_t b, int32_t head)
{
    const ops_attention *a = job->a;
    const ops_fold *fold = job->fold;
    const ops_batch *batch = &job->ctx->batch;
    int32_t first = batch->starts[b], width = a->head_width, d = fold->d;
    int32_t offset = head * width;
    float *u = scratch, *c = u + d, *score = c + d;
    const float *q = ref_row(job->q, b) + offset;
    float *out = ref_row(job->out, b) + offset;
    ref_zero(out, width);
    int32_t begin, end;
    visible(a, 0, key_count(batch, b), &begin, &end);
    if (begin == end) return;
    ref_zero(u, d);
    for (int32_t i = 0; i < width; i++) {
        ref_axpy(u, q[i], fold->key + (size_t)(offset + i) * (size_t)d, d);
    }
    for (int32_t j = begin; j < end; j++) score[j] = ref_dot(ref_row(job->kv, first + j), u, d);
    finish_scores(score, 0, begin, end, a, head);
    ref_zero(c, d);
    for (int32_t j = begin; j < end; j++) ref_axpy(c, score[j], ref_row(job->kv, first + j), d);
    for (int32_t i = 0; i < d; i++) {
        ref_axpy(out, c[i], fold->value + (size_t)i * (size_t)fold->n + offset, width);
    }
    if (fold->value_bias != NULL) ref_add(out, fold->value_bias + offset, width);
}

/* Items are (sequence, head), heads inner. */
static void attention_items(const void *context, int worker, int32_t begin, int32_t end)
{
    const attention_job *job = context;
    float *scratch = job->scratch + (size_t)worker * job->scratch_floats;
    for (int32_t item = begin; item < end; item++) {
        int32_t b = item / job->a->n_heads, head = item % job->a->n_heads;
        if (job->fold != NULL) {
            attend_folded(job, scratch, b, head);
        } else {
            attend(job, scratch, b, head);
        }
    }
}

static void run(ops_context *ctx, attention_job *job)
{
    size_t longest = (size_t)ctx->batch.max_tokens, width = (size_t)job->a->head_width;
    size_t floats =
        job->fold != NULL ? 2 * (size_t)job->fold->d + longest : (width + 1) * longest + 2 * width;
    job->ctx = ctx;
    job->scratch_floats = (floats + 15) / 16 * 16; /* workers share no cache line */
    size_t mark = ops_mark(ctx);
    job->scratch =
        ops_take(ctx, job->scratch_floats * (size_t)team_size(ctx->team) * sizeof(float));
    if (!ctx->dry && job->scratch != NULL) {
        ref_split(ctx, ctx->batch.n_sequences * job->a->n_heads, attention_items, job);
    }
    ops_release(ctx, mark);
}

void ref_attention(ops_context *ctx, ops_tensor *out, const ops_tensor *qkv, const ops_attention *a)
{
    int32_t width = a->n_heads * a->head_width;
    attention_job job = {
        .a = a, .out = out, .q = qkv, .kv = qkv, .key_column = width, .value_column = 2 * width};
    run(ctx, &job);
}

void ref_attention_rows(ops_context *ctx, ops_tensor *out, const ops_tensor *q,
                        const ops_tensor *kv, const ops_attention *a)
{
    attention_job job = {.a = a,
                         .out = out,
                         .q = q,
                         .kv = kv,
                         .value_column = a->n_heads * a->head_width,
                         .one_query = true};
    run(ctx, &job);
}

void ref_attention_rows_folded(ops_context *ctx, ops_tensor *out, const ops_tensor *q,
                               const ops_tensor *x, const ops_fold *fold, const ops_attention *a)
{
    attention_job job = {.a = a, .out = out, .q = q, .kv = x, .one_query = true, .fold = fold};
    run(ctx, &job);
}
