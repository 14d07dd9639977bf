/* Attention, a head of a sequence at a time: keys and values are packed into panels in the cache
 * once, then blocks of query rows go scores -> softmax (f32) -> context, all with the linears'
 * tiles (the keys are a weight [S, K], the values one [K, S]). In bf16 and int8 models the products
 * are bf16 pairs: int8 would lose small probabilities, f32 costs twice the time.
 *
 * Keys outside a row's window or key count get probability 0, and blocks of keys that no row of a
 * block sees are not computed: adding their exact zeros would change no bit.
 *
 * Threads share (sequence, head, part of the rows); each worker has scratch of its own. */
#include "kernels/cpu/cpu.h"

/* Query rows that share scores: two tiles of 9, so that scores of 512 keys stay in 36 KB. */
#define QUERY_ROWS 18

typedef struct attention_job {
    const ops_context *ctx;
    const cpu_level *level;
    const ops_attention *a;
    bool half;              /* products in bf16 */
    const float *q, *k, *v; /* head 0, row 0 of the batch (q: of its tensor) */
    size_t q_ld, kv_ld;
    bool one_query; /* q has one row a sequence */
    int32_t max_queries;
    cpu_context out;
    int32_t parts; /* of a head's query rows */
    uint8_t *scratch;
    size_t scratch_bytes; /* of one worker */
} attention_job;

/* One worker's scratch, by offset; the sizes depend on the longest sequence alone. */
typedef struct attention_scratch {
    void *keys;
    void *values; /* bf16 */
    void *queries;
    float *rotated_keys;
    float *scores;
    uint16_t *probabilities; /* bf16 */
    float *context;
    float *inverse;
    float *query_table, *key_table; /* relative terms: [S, n_buckets] */
    void *table_panels;
} attention_scratch;

typedef struct taker {
    uint8_t *base;
    size_t used;
} taker;

static void *take(taker *t, size_t bytes)
{
    void *p = (void *)((uintptr_t)t->base + t->used);
    t->used += (bytes + 63) / 64 * 64;
    return p;
}

static int32_t steps_of(bool half, int32_t width)
{
    return half ? (width + 1) / 2 : width;
}

/* Rows of the query scratch: the keys pass through it too (prepare_relative). */
static int32_t query_rows(const attention_job *job)
{
    return job->max_queries > QUERY_ROWS ? job->max_queries : QUERY_ROWS;
}

static attention_scratch lay_out(const attention_job *job, uint8_t *base, size_t *bytes)
{
    const ops_attention *a = job->a;
    size_t longest = (size_t)cpu_round_up(job->ctx->batch.max_tokens, CPU_PANEL);
    size_t queries = (size_t)query_rows(job);
    size_t width = (size_t)cpu_round_up(a->head_width, CPU_PANEL);
    taker t = {.base = base};
    attention_scratch s = {0};
    s.keys = take(&t, longest * width * sizeof(float));
    if (job->half) s.values = take(&t, (longest + 2) * width * sizeof(uint16_t));
    s.queries = take(&t, queries * cpu_stride(a->head_width, sizeof(float)));
    if (a->rope.cos != NULL) {
        s.rotated_keys = take(&t, longest * cpu_stride(a->head_width, sizeof(float)));
    }
    s.scores = take(&t, QUERY_ROWS * cpu_stride((int32_t)longest, sizeof(float)));
    if (job->half) {
        s.probabilities = take(&t, QUERY_ROWS * cpu_stride((int32_t)longest, sizeof(uint16_t)));
    }
    s.context = take(&t, QUERY_ROWS * cpu_stride(a->head_width, sizeof(float)));
    s.inverse = take(&t, QUERY_ROWS * sizeof(float));
    if (a->relative.index != NULL) {
        size_t table = cpu_stride(a->relative.n_buckets, sizeof(float));
        size_t buckets = (size_t)cpu_round_up(a->relative.n_buckets, CPU_PANEL);
        s.query_table = take(&t, QUERY_ROWS * table);
        s.key_table = take(&t, longest * table);
        s.table_panels = take(&t, 2 * buckets * width * sizeof(float));
    }
    *bytes = t.used;
    return s;
}

static void run_tile(const attention_job *job, cpu_tile *t)
{
    job->level->tile[job->half ? OPS_BF16 : OPS_F32].run(t);
}

/* What a head's row blocks need. */
typedef struct head_state {
    attention_scratch s;
    const void *queries; /* tile operand, row 0 = the first query of the sequence */
    size_t query_stride; /* bytes */
    const float *values; /* f32: rows in place */
    int32_t n_keys, head;
    size_t table_ld;
    size_t table_panel_bytes;
} head_state;

/* table[r, b] = x_r . rows_b of the relative table, b < n_buckets. */
static void fill_table(const attention_job *job, const head_state *h, float *table, const void *x,
                       size_t x_stride, int32_t rows, int which)
{
    const ops_attention *a = job->a;
    cpu_tile t = {
        .c = table,
        .ldc = h->table_ld,
        .a = x,
        .a_stride = x_stride,
        .w = (const uint8_t *)h->s.table_panels + (size_t)which * h->table_panel_bytes,
        .w_panel = (size_t)steps_of(job->half, a->head_width) * 64,
        .w_step = 64,
        .steps = steps_of(job->half, a->head_width),
        .rows = rows,
        .panels = cpu_round_up(a->relative.n_buckets, CPU_PANEL) / CPU_PANEL,
    };
    run_tile(job, &t);
}

/* The tables of this head: PK packed for the query blocks to come, Kk . PQ computed at once. */
static void prepare_relative(const attention_job *job, head_state *h, const float *keys,
                             size_t keys_ld)
{
    const ops_attention *a = job->a;
    const ops_relative *rel = &a->relative;
    size_t ld = (size_t)a->n_heads * (size_t)a->head_width;
    size_t column = (size_t)h->head * (size_t)a->head_width;
    const cpu_rows *rows = job->level->rows;
    h->table_ld = cpu_stride_floats(rel->n_buckets);
    h->table_panel_bytes = (size_t)cpu_round_up(rel->n_buckets, CPU_PANEL) *
                           (size_t)cpu_round_up(a->head_width, CPU_PANEL) * sizeof(float);
    uint8_t *panels = h->s.table_panels;
    if (rel->key != NULL) {
        rows->pack_keys(panels, rel->key + column, ld, rel->n_buckets, a->head_width, job->half);
    }
    if (rel->query == NULL) return;
    rows->pack_keys(panels + h->table_panel_bytes, rel->query + column, ld, rel->n_buckets,
                    a->head_width, job->half);
    /* The keys stand as rows in the query scratch until the queries themselves are converted. */
    const void *x = keys;
    size_t stride = keys_ld * sizeof(float);
    for (int32_t r = 0; r < h->n_keys; r += query_rows(job)) {
        int32_t n = h->n_keys - r < query_rows(job) ? h->n_keys - r : query_rows(job);
        if (job->half) {
            stride = cpu_stride(a->head_width, sizeof(float));
            rows->to_half(h->s.queries, stride / sizeof(uint16_t), keys + (size_t)r * keys_ld,
                          keys_ld, n, a->head_width);
            x = h->s.queries;
        } else {
            x = keys + (size_t)r * keys_ld;
        }
        fill_table(job, h, h->s.key_table + (size_t)r * h->table_ld, x, stride, n, 1);
    }
}

/* Packs keys, values and queries [first, first + n) of one head. */
static head_state prepare_head(const attention_job *job, attention_scratch s, int32_t sequence,
                               int32_t head, int32_t first, int32_t n)
{
    const ops_attention *a = job->a;
    const ops_batch *batch = &job->ctx->batch;
    const cpu_rows *rows = job->level->rows;
    int32_t start = batch->starts[sequence], length = batch->starts[sequence + 1] - start;
    size_t column = (size_t)head * (size_t)a->head_width;
    head_state h = {.s = s, .head = head, .n_keys = length};
    if (batch->key_counts != NULL) h.n_keys = batch->key_counts[sequence];
    const float *k = job->k + (size_t)start * job->kv_ld + column;
    size_t k_ld = job->kv_ld;
    size_t width_ld = cpu_stride_floats(a->head_width);
    if (a->rope.cos != NULL) {
        rows->rotate(s.rotated_keys, width_ld, k, k_ld, h.n_keys, 0, a->head_width, &a->rope);
        k = s.rotated_keys;
        k_ld = width_ld;
    }
    rows->pack_keys(s.keys, k, k_ld, h.n_keys, a->head_width, job->half);
    if (a->relative.index != NULL) prepare_relative(job, &h, k, k_ld);
    h.values = job->v + (size_t)start * job->kv_ld + column;
    if (job->half) {
        rows->pack_values(s.values, h.values, job->kv_ld, h.n_keys, a->head_width);
    }
    size_t q_row = (size_t)(job->one_query ? sequence : start + first);
    const float *q = job->q + q_row * job->q_ld + column;
    size_t q_ld = job->q_ld;
    if (a->rope.cos != NULL && !job->one_query) { /* position 0 is no rotation */
        rows->rotate(s.queries, width_ld, q, q_ld, n, first, a->head_width, &a->rope);
        q = s.queries;
        q_ld = width_ld;
    }
    h.queries = q;
    h.query_stride = q_ld * sizeof(float);
    if (job->half) { /* in place after a rotation: a row's bf16 end before its f32 do */
        rows->to_half(s.queries, width_ld * 2, q, q_ld, n, a->head_width);
        h.queries = s.queries;
        h.query_stride = width_ld * sizeof(float);
    }
    return h;
}

/* Query rows [row, row + n) of the sequence; `at` is row's place among the prepared ones. */
static void attend(const attention_job *job, const head_state *h, int32_t row, int32_t at,
                   int32_t n, size_t out_row)
{
    const ops_attention *a = job->a;
    const attention_scratch *s = &h->s;
    int32_t low = 0, high = h->n_keys;
    if (a->window > 0) {
        if (row - a->window > 0) low = (row - a->window) / CPU_PANEL * CPU_PANEL;
        if (row + n + a->window < high) high = row + n + a->window;
    }
    int32_t end = cpu_round_up(high, CPU_PANEL);
    if (low >= end) low = end - CPU_PANEL; /* all masked: queries beyond the keys' window */
    int32_t steps = steps_of(job->half, a->head_width);
    size_t scores_ld = cpu_stride_floats(job->ctx->batch.max_tokens);
    size_t half_ld = cpu_stride(job->ctx->batch.max_tokens, sizeof(uint16_t)) / sizeof(uint16_t);
    const uint8_t *queries = (const uint8_t *)h->queries + (size_t)at * h->query_stride;
    cpu_tile score = {
        .c = s->scores,
        .ldc = scores_ld,
        .a = queries,
        .a_stride = h->query_stride,
        .w = (const uint8_t *)s->keys + (size_t)(low / CPU_PANEL) * (size_t)steps * 64,
        .w_panel = (size_t)steps * 64,
        .w_step = 64,
        .steps = steps,
        .rows = n,
        .panels = (end - low) / CPU_PANEL,
    };
    run_tile(job, &score);
    if (a->relative.index != NULL) {
        cpu_relative relative = {
            .scores = s->scores,
            .ld = scores_ld,
            .query_table = a->relative.key != NULL ? s->query_table : NULL,
            .key_table = a->relative.query != NULL ? s->key_table : NULL,
            .table_ld = h->table_ld,
            .index = a->relative.index + (a->relative.span - 1),
            .rows = n,
            .first_query = row,
            .first_key = low,
            .end_key = high,
        };
        if (relative.query_table != NULL) {
            fill_table(job, h, s->query_table, queries, h->query_stride, n, 0);
        }
        job->level->rows->relative(&relative);
    }
    cpu_softmax softmax = {
        .scores = s->scores,
        .ld = scores_ld,
        .half = job->half ? s->probabilities : NULL,
        .half_ld = half_ld,
        .inverse = s->inverse,
        .rows = n,
        .first_query = row,
        .first_key = low,
        .end_key = end,
        .n_keys = h->n_keys,
        .window = a->window,
        .scale = a->scale,
    };
    if (a->distance_bias != NULL) {
        size_t reach = 2 * (size_t)a->distance_span - 1;
        softmax.bias = a->distance_bias + (size_t)h->head * reach + (a->distance_span - 1);
    }
    job->level->rows->softmax(&softmax);
    cpu_tile context = {
        .c = s->context,
        .ldc = cpu_stride_floats(a->head_width),
        .rows = n,
        .panels = cpu_round_up(a->head_width, CPU_PANEL) / CPU_PANEL,
    };
    if (job->half) {
        context.a = s->probabilities;
        context.a_stride = half_ld * sizeof(uint16_t);
        context.steps = (high + 1) / 2 - low / 2;
        context.w = (const uint8_t *)s->values + (size_t)(low / 2) * 64;
        context.w_panel = (size_t)((h->n_keys + 1) / 2) * 64;
        context.w_step = 64;
    } else {
        context.a = s->scores;
        context.a_stride = scores_ld * sizeof(float);
        context.steps = high - low;
        context.w = h->values + (size_t)low * job->kv_ld;
        context.w_panel = CPU_PANEL * sizeof(float);
        context.w_step = job->kv_ld * sizeof(float);
    }
    run_tile(job, &context);
    size_t column = (size_t)h->head * (size_t)a->head_width;
    const cpu_context *out = &job->out;
    float *value = out->value != NULL ? out->value + out_row * out->value_ld + column : NULL;
    uint16_t *half = out->half != NULL ? out->half + out_row * out->half_ld + column : NULL;
    job->level->rows->scale_rows(value, out->value_ld, half, out->half_ld, s->context, context.ldc,
                                 s->inverse, n, a->head_width);
}

static void attention_work(void *context, int worker, int n_workers)
{
    const attention_job *job = context;
    const ops_batch *batch = &job->ctx->batch;
    size_t bytes;
    attention_scratch scratch =
        lay_out(job, job->scratch + (size_t)worker * job->scratch_bytes, &bytes);
    int32_t heads = job->a->n_heads, parts = job->parts;
    int32_t items = batch->n_sequences * heads * parts;
    int32_t last = cpu_share(items, worker + 1, n_workers);
    for (int32_t item = cpu_share(items, worker, n_workers); item < last; item++) {
        int32_t part = item % parts, head = item / parts % heads;
        int32_t sequence = item / parts / heads;
        int32_t start = batch->starts[sequence];
        int32_t length = job->one_query ? 1 : batch->starts[sequence + 1] - start;
        int32_t first = cpu_share(length, part, parts), end = cpu_share(length, part + 1, parts);
        if (first == end) continue;
        if (batch->key_counts != NULL && batch->key_counts[sequence] <= 0) {
            size_t row = (size_t)(job->one_query ? sequence : start + first);
            cpu_context_zero(&job->out, row, end - first, (size_t)head * (size_t)job->a->head_width,
                             job->a->head_width);
            continue;
        }
        head_state h = prepare_head(job, scratch, sequence, head, first, end - first);
        int32_t blocks = (end - first + QUERY_ROWS - 1) / QUERY_ROWS;
        for (int32_t i = 0; i < blocks; i++) {
            int32_t row = first + cpu_share(end - first, i, (int)blocks);
            int32_t next = first + cpu_share(end - first, i + 1, (int)blocks);
            size_t out_row = (size_t)(job->one_query ? sequence : start + row);
            attend(job, &h, row, row - first, next - row, out_row);
        }
    }
}

/* Scratch and the run. */
static void run_attention(ops_context *ctx, attention_job *job, ops_tensor *out)
{
    size_t mark = ops_mark(ctx);
    int n_workers = team_size(ctx->team);
    job->half = ctx->dtype != OPS_F32;
    job->out = cpu_context_open(ctx, out);
    job->max_queries = job->one_query ? 1 : ctx->batch.max_tokens;
    int32_t items = ctx->batch.n_sequences * job->a->n_heads;
    job->parts = 1;
    if (n_workers > 1 && items < n_workers && !job->one_query) {
        job->parts = (n_workers + items - 1) / (items > 0 ? items : 1);
        int32_t most = ctx->batch.max_tokens / QUERY_ROWS + 1;
        if (job->parts > most) job->parts = most;
    }
    lay_out(job, NULL, &job->scratch_bytes);
    job->scratch = ops_take(ctx, (size_t)n_workers * job->scratch_bytes);
    if (!ctx->dry && ctx->failure == CRANK_OK && out->rows > 0) {
        team_run(ctx->team, attention_work, job);
        cpu_context_finish(ctx, &job->out);
    }
    ops_release(ctx, mark);
}

void cpu_attention(ops_context *ctx, ops_tensor *out, const ops_tensor *qkv, const ops_attention *a)
{
    size_t width = (size_t)a->n_heads * (size_t)a->head_width;
    attention_job job = {
        .ctx = ctx,
        .level = cpu_level_of(ctx),
        .a = a,
        .q_ld = cpu_stride_floats(qkv->cols),
        .kv_ld = cpu_stride_floats(qkv->cols),
    };
    if (!ctx->dry) {
        job.q = qkv->value;
        job.k = job.q + width;
        job.v = job.k + width;
    }
    run_attention(ctx, &job, out);
}

void cpu_attention_rows(ops_context *ctx, ops_tensor *out, const ops_tensor *q,
                        const ops_tensor *kv, const ops_attention *a)
{
    size_t width = (size_t)a->n_heads * (size_t)a->head_width;
    attention_job job = {
        .ctx = ctx,
        .level = cpu_level_of(ctx),
        .a = a,
        .one_query = true,
        .q_ld = cpu_stride_floats(q->cols),
        .kv_ld = cpu_stride_floats(kv->cols),
    };
    if (!ctx->dry) {
        job.q = q->value;
        job.k = kv->value;
        job.v = job.k + width;
    }
    run_attention(ctx, &job, out);
}
