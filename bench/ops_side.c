#include "bench/ops_side.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/output.h"

const bench_case bench_cases[] = {
    {OPS_KIND_LINEAR, 1, 128, 1152, 384, 0, OPS_IDENTITY, false, .model = "MiniLM qkv"},
    {OPS_KIND_LINEAR, 1, 128, 1536, 384, 0, OPS_GELU, false, .model = "MiniLM ffn"},
    {OPS_KIND_LINEAR, 1, 1, 1536, 384, 0, OPS_GELU, false, .model = "MiniLM ffn, head row"},
    {OPS_KIND_LINEAR, 1, 128, 512, 128, 0, OPS_GELU, false, .model = "TinyBERT-L2 ffn"},
    {OPS_KIND_LINEAR, 1, 128, 1200, 312, 0, OPS_GELU, false, .model = "TinyBERT-L4 ffn"},
    {OPS_KIND_LINEAR, 1, 128, 768, 768, 0, OPS_IDENTITY, false, .model = "BERT-base"},
    {OPS_KIND_LINEAR, 1, 128, 2304, 768, 0, OPS_IDENTITY, false, .model = "BERT-base qkv"},
    {OPS_KIND_LINEAR, 1, 128, 3072, 768, 0, OPS_GELU, false, .model = "BERT-base ffn"},
    {OPS_KIND_LINEAR, 1, 128, 1024, 1024, 0, OPS_IDENTITY, false, .model = "BERT-large"},
    {OPS_KIND_LINEAR, 1, 128, 3072, 1024, 0, OPS_IDENTITY, false, .model = "BERT-large qkv"},
    {OPS_KIND_LINEAR, 1, 128, 4096, 1024, 0, OPS_GELU, false, .model = "BERT-large ffn"},
    {OPS_KIND_LINEAR, 1, 128, 2304, 768, 0, OPS_GELU, true, .model = "ModernBERT ffn"},
    {OPS_KIND_LINEAR_RESIDUAL_NORM, 1, 128, 384, 384, 0, OPS_IDENTITY, false, .model = "MiniLM out",
     OPS_NORM_LAYER},
    {OPS_KIND_LINEAR_RESIDUAL_NORM, 1, 128, 384, 1536, 0, OPS_IDENTITY, false,
     .model = "MiniLM ffn", OPS_NORM_LAYER},
    {OPS_KIND_LINEAR_RESIDUAL_NORM, 1, 128, 768, 768, 0, OPS_IDENTITY, false,
     .model = "BERT-base out", OPS_NORM_LAYER},
    {OPS_KIND_LINEAR_RESIDUAL_NORM, 1, 128, 768, 3072, 0, OPS_IDENTITY, false,
     .model = "BERT-base ffn", OPS_NORM_LAYER},
    {OPS_KIND_LINEAR_RESIDUAL_NORM, 1, 128, 1024, 1024, 0, OPS_IDENTITY, false,
     .model = "BERT-large out", OPS_NORM_LAYER},
    {OPS_KIND_LINEAR_RESIDUAL_NORM, 1, 128, 1024, 4096, 0, OPS_IDENTITY, false,
     .model = "BERT-large ffn", OPS_NORM_LAYER},
    {OPS_KIND_ATTENTION, 1, 128, 0, 32, 12, OPS_IDENTITY, false, .model = "MiniLM"},
    {OPS_KIND_ATTENTION, 1, 512, 0, 32, 12, OPS_IDENTITY, false, .model = "MiniLM, long"},
    {OPS_KIND_ATTENTION, 1, 128, 0, 64, 12, OPS_IDENTITY, false, .model = "BERT-base"},
    {OPS_KIND_ATTENTION, 1, 128, 0, 64, 16, OPS_IDENTITY, false, .model = "BERT-large"},
    {OPS_KIND_ATTENTION, 1, 128, 0, 26, 12, OPS_IDENTITY, false, .model = "TinyBERT-L4"},
    {OPS_KIND_ATTENTION_ROWS, 1, 128, 0, 32, 12, OPS_IDENTITY, false, .model = "MiniLM head rows"},
    {OPS_KIND_ATTENTION_ROWS_FOLDED, 1, 128, 0, 32, 12, OPS_IDENTITY, false,
     .model = "MiniLM head rows"},
    {OPS_KIND_ATTENTION_ROWS_FOLDED, 1, 128, 0, 64, 12, OPS_IDENTITY, false,
     .model = "BERT-base head rows"},
    {OPS_KIND_ATTENTION_ROWS_FOLDED, 1, 128, 0, 64, 16, OPS_IDENTITY, false,
     .model = "BERT-large head rows"},
    {OPS_KIND_EMBED_NORM, 1, 128, 0, 384, 0, OPS_IDENTITY, false, .model = "MiniLM",
     .norm = OPS_NORM_LAYER},
    {OPS_KIND_EMBED_NORM, 1, 128, 0, 768, 0, OPS_IDENTITY, false, .model = "BERT-base",
     .norm = OPS_NORM_LAYER},
    {OPS_KIND_EMBED_NORM, 1, 128, 0, 1024, 0, OPS_IDENTITY, false, .model = "BERT-large",
     .norm = OPS_NORM_LAYER},
    {OPS_KIND_NORM, 1, 128, 0, 384, 0, OPS_IDENTITY, false, .model = "384 wide",
     .norm = OPS_NORM_LAYER},
    {OPS_KIND_NORM, 1, 128, 0, 768, 0, OPS_IDENTITY, false, .model = "ModernBERT",
     .norm = OPS_NORM_LAYER},
    {OPS_KIND_GATHER_FIRST, 8, 16, 0, 384, 0, OPS_IDENTITY, false, .model = "8 short sequences"},
    {OPS_KIND_ADD_NORM, 1, 128, 0, 1536, 0, OPS_IDENTITY, false, .model = "DeBERTa-v2-xlarge",
     .norm = OPS_NORM_LAYER},
    {OPS_KIND_GATHER_AROUND, 1, 128, 3, 1536, 0, OPS_IDENTITY, false, .model = "DeBERTa-v2-xlarge"},
    {OPS_KIND_POOL, 1, 128, 0, 384, 0, OPS_IDENTITY, false, .model = "mean of 128 rows",
     .pool = OPS_POOL_MEAN},
    {OPS_KIND_BROADCAST, 1, 128, 0, 768, 0, OPS_IDENTITY, false, .model = "T5 start"},
    {OPS_KIND_HEAD, 1, 1, 1, 384, 0, OPS_TANH, false, .model = "MiniLM"},
    {OPS_KIND_HEAD, 1, 1, 1, 768, 0, OPS_TANH, false, .model = "BERT-base"},
    {OPS_KIND_HEAD, 1, 1, 1, 1024, 0, OPS_TANH, false, .model = "BERT-large"},
    {OPS_KIND_VECTORS, 1, 128, 0, 384, 0, OPS_IDENTITY, false, .model = "unit vectors"},
};
const size_t n_bench_cases = sizeof bench_cases / sizeof bench_cases[0];

/* ---- weights and tables -----------------------------------------------------------------------
 */

static float random_float(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (float)(*state >> 8) / 8388608.0f - 1.0f;
}

static float *random_floats(size_t n, float scale, uint32_t *state)
{
    float *x = cli_alloc(n > 0 ? n : 1, sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = random_float(state) * scale;
    return x;
}

static int32_t width_of(const bench_case *c)
{
    return c->heads > 0 ? c->heads * c->k : c->k;
}

static int32_t columns_of(const bench_case *c)
{
    return c->gated ? c->n / 2 : c->n;
}

/* Columns of what folded keys and values are made from; of the head's inner row. */
static int32_t inner_of(const bench_case *c)
{
    return c->d > 0 ? c->d : width_of(c);
}

static int32_t table_rows_of(const bench_case *c)
{
    return c->table_rows > 0 ? c->table_rows : BENCH_TABLE_ROWS;
}

int32_t bench_tokens(const bench_case *c)
{
    if (c->lengths == NULL) return c->b * c->s;
    int32_t tokens = 0;
    for (int32_t b = 0; b < c->b; b++) tokens += c->lengths[b];
    return tokens;
}

static bool per_sequence(ops_kind op)
{
    return op == OPS_KIND_ATTENTION_ROWS || op == OPS_KIND_ATTENTION_ROWS_FOLDED ||
           op == OPS_KIND_GATHER_FIRST || op == OPS_KIND_POOL;
}

int32_t bench_rows(const bench_case *c)
{
    return c->first_rows || per_sequence(c->op) ? c->b : bench_tokens(c);
}

bench_case bench_first_sequences(const bench_case *c, int32_t tokens)
{
    bench_case first = *c;
    int32_t used = 0;
    first.b = 0;
    first.s = 0;
    while (first.b < c->b) {
        int32_t length = c->lengths != NULL ? c->lengths[first.b] : c->s;
        if (first.b > 0 && used + length > tokens) break;
        used += length;
        first.b++;
        if (length > first.s) first.s = length;
    }
    return first;
}

/* What an attention reads besides its rows, one array after the other; floats, the index int32. */
typedef struct attention_parts {
    size_t distances, cos, sin, key, query, index, end;
} attention_parts;

static attention_parts parts_of(const bench_case *c)
{
    size_t distances =
        c->distance_span > 0 ? (size_t)c->heads * (2 * (size_t)c->distance_span - 1) : 0;
    size_t angles = (size_t)c->positions * ((size_t)c->k / 2);
    size_t terms = (size_t)c->relative_buckets * (size_t)width_of(c);
    attention_parts p = {.cos = distances};
    p.sin = p.cos + angles;
    p.key = p.sin + angles;
    p.query = p.key + (c->relative_terms & BENCH_RELATIVE_KEY ? terms : 0);
    p.index = p.query + (c->relative_terms & BENCH_RELATIVE_QUERY ? terms : 0);
    p.end = p.index + (c->relative_span > 0 ? 2 * (size_t)c->relative_span - 1 : 0);
    return p;
}

bench_weights bench_weights_make(const bench_case *c)
{
    uint32_t state = 12345;
    size_t d = (size_t)width_of(c), k = (size_t)c->k, n = (size_t)c->n, inner = (size_t)inner_of(c);
    bool head = c->op == OPS_KIND_HEAD, folded = c->op == OPS_KIND_ATTENTION_ROWS_FOLDED;
    size_t cols = c->op == OPS_KIND_ATTENTION        ? 3 * d
                  : c->op == OPS_KIND_ATTENTION_ROWS ? 2 * d
                                                     : d;
    if (n > cols) cols = n;
    if (inner > cols) cols = inner;
    attention_parts parts = parts_of(c);
    bench_weights w = {.n_linear = head ? inner * k : n * k,
                       .n_bias = n + inner,
                       .n_gamma = head ? n * inner + inner : n + d,
                       .n_table = (size_t)table_rows_of(c) * cols,
                       .n_fold = folded ? inner * d : 0,
                       .n_attention = parts.end};
    w.linear = random_floats(w.n_linear, 1.7f / sqrtf((float)k), &state);
    w.bias = random_floats(w.n_bias, 0.1f, &state);
    w.gamma = random_floats(w.n_gamma, 1.0f, &state);
    w.table = random_floats(w.n_table, 1.7f, &state);
    w.fold_key = random_floats(w.n_fold, 1.7f / sqrtf((float)inner), &state);
    w.fold_value = random_floats(w.n_fold, 1.7f / sqrtf((float)inner), &state);
    w.attention = random_floats(w.n_attention, 1.0f, &state);
    /* Angles as models have them: at position 0 none, which backends may rely on. */
    for (size_t i = parts.cos; i < parts.sin; i++) {
        size_t at = i - parts.cos, half = k / 2;
        float angle = (float)(at / half) * powf(1e4f, -(float)(at % half) / (float)half);
        w.attention[i] = cosf(angle);
        w.attention[parts.sin + at] = sinf(angle);
    }
    for (size_t i = parts.index; i < parts.end; i++) {
        int32_t bucket =
            (int32_t)((i - parts.index) * (size_t)c->relative_buckets / (parts.end - parts.index));
        memcpy(&w.attention[i], &bucket, sizeof bucket);
    }
    return w;
}

void bench_weights_free(bench_weights *w)
{
    free(w->linear);
    free(w->bias);
    free(w->gamma);
    free(w->table);
    free(w->fold_key);
    free(w->fold_value);
    free(w->attention);
}

/* ---- one side ---------------------------------------------------------------------------------
 */

static void fill(bench_side *s, ops_tensor *t)
{
    ops_embedding e = {.word = {s->w->table, table_rows_of(s->c), t->cols, OPS_F32}};
    ops_embed_norm(&s->ctx, t, &e);
}

/* A filled tensor: a row a token, or the rows of first tokens. */
static ops_tensor input(bench_side *s, bool first_rows, int32_t cols, unsigned uses)
{
    ops_context *ctx = &s->ctx;
    ops_tensor all = ops_new(ctx, bench_tokens(s->c), cols, first_rows ? OPS_USE_VALUE : uses);
    fill(s, &all);
    if (!first_rows) return all;
    ops_tensor first = ops_new(ctx, s->c->b, cols, uses);
    ops_gather_first(ctx, &first, &all);
    return first;
}

/* Takes and fills the tensors, the same for every run. */
static void prepare(bench_side *s)
{
    const bench_case *c = s->c;
    ops_context *ctx = &s->ctx;
    int32_t d = width_of(c);
    bool matrix = c->op == OPS_KIND_LINEAR || c->op == OPS_KIND_LINEAR_RESIDUAL_NORM;
    int32_t inputs = c->op == OPS_KIND_ATTENTION               ? 3 * d
                     : c->op == OPS_KIND_ATTENTION_ROWS        ? 2 * d
                     : c->op == OPS_KIND_ATTENTION_ROWS_FOLDED ? inner_of(c)
                                                               : c->k;
    s->x = input(s, c->first_rows, inputs, matrix ? OPS_USE_OPERAND : OPS_USE_VALUE);
    if (c->op == OPS_KIND_LINEAR_RESIDUAL_NORM || c->op == OPS_KIND_ADD_NORM) {
        s->residual = input(s, c->first_rows, matrix ? c->n : d, OPS_USE_VALUE);
        if (c->keeps_sum) s->sum = ops_new(ctx, bench_rows(c), c->n, OPS_USE_VALUE);
    }
    if (c->op == OPS_KIND_ATTENTION_ROWS || c->op == OPS_KIND_ATTENTION_ROWS_FOLDED)
        s->q = input(s, true, d, OPS_USE_VALUE);
    unsigned uses = c->uses != 0 ? c->uses : OPS_USE_VALUE | OPS_USE_OPERAND;
    int32_t columns = matrix ? columns_of(c) : c->op == OPS_KIND_GATHER_AROUND ? c->n * d : d;
    s->out = ops_new(ctx, bench_rows(c), columns, uses);
}

static ops_attention attention_of(const bench_side *s)
{
    const bench_case *c = s->c;
    const float *at = s->w->attention;
    attention_parts p = parts_of(c);
    ops_attention a = {.n_heads = c->heads,
                       .head_width = c->k,
                       .scale = 1 / sqrtf((float)c->k),
                       .window = c->window,
                       .distance_span = c->distance_span};
    if (c->distance_span > 0) a.distance_bias = at + p.distances;
    if (c->positions > 0) a.rope = (ops_rope){at + p.cos, at + p.sin, c->positions};
    if (c->relative_span > 0) {
        a.relative = (ops_relative){.index = (const int32_t *)(const void *)(at + p.index),
                                    .n_buckets = c->relative_buckets,
                                    .span = c->relative_span};
        if (c->relative_terms & BENCH_RELATIVE_KEY) a.relative.key = at + p.key;
        if (c->relative_terms & BENCH_RELATIVE_QUERY) a.relative.query = at + p.query;
    }
    return a;
}

void bench_side_run(bench_side *s)
{
    const bench_case *c = s->c;
    ops_context *ctx = &s->ctx;
    const bench_weights *w = s->w;
    ops_attention a = attention_of(s);
    ops_lookup table = {w->table, table_rows_of(c), c->k, OPS_F32};
    unsigned tables = c->tables != 0 ? c->tables : BENCH_WORDS | BENCH_TYPES | BENCH_POSITIONS;
    ops_embedding e = {.word = table, .norm = s->norm};
    if (tables & BENCH_TYPES) e.type = table;
    if (tables & BENCH_POSITIONS) e.position = table;
    int32_t inner = inner_of(c);
    ops_fold fold = {w->fold_key, w->fold_value, NULL, width_of(c), inner};
    ops_head head = {.dense = c->plain_head ? NULL : w->linear,
                     .dense_bias = w->bias,
                     .activation = c->act,
                     .norm = s->norm,
                     .out = w->gamma,
                     .d_in = c->k,
                     .d_dense = inner,
                     .labels = c->n};
    switch (c->op) {
    case OPS_KIND_LINEAR: ops_linear_act(ctx, &s->out, &s->x, &s->linear, c->act); break;
    case OPS_KIND_LINEAR_RESIDUAL_NORM:
        ops_linear_residual_norm(ctx, &s->out, c->keeps_sum ? &s->sum : NULL, &s->x, &s->linear,
                                 &s->residual, &s->norm);
        break;
    case OPS_KIND_ATTENTION: ops_attention_full(ctx, &s->out, &s->x, &a); break;
    case OPS_KIND_ATTENTION_ROWS: ops_attention_rows(ctx, &s->out, &s->q, &s->x, &a); break;
    case OPS_KIND_ATTENTION_ROWS_FOLDED:
        ops_attention_rows_folded(ctx, &s->out, &s->q, &s->x, &fold, &a);
        break;
    case OPS_KIND_EMBED_NORM: ops_embed_norm(ctx, &s->out, &e); break;
    case OPS_KIND_NORM: ops_norm_rows(ctx, &s->out, &s->x, &s->norm); break;
    case OPS_KIND_ADD_NORM: ops_add_norm(ctx, &s->out, &s->x, &s->residual, &s->norm); break;
    case OPS_KIND_GATHER_AROUND: ops_gather_around(ctx, &s->out, &s->x); break;
    case OPS_KIND_GATHER_FIRST: ops_gather_first(ctx, &s->out, &s->x); break;
    case OPS_KIND_POOL: ops_pool(ctx, &s->out, &s->x, c->pool); break;
    case OPS_KIND_BROADCAST: ops_broadcast(ctx, &s->out, w->table); break;
    case OPS_KIND_HEAD: ops_head_logits(ctx, s->host, &s->x, &head); break;
    case OPS_KIND_VECTORS: ops_vectors(ctx, s->host, &s->x, !c->plain_vectors); break;
    case OPS_N_KINDS: break;
    }
}

static size_t placed_bytes(size_t n)
{
    return (n * sizeof(float) + 63) / 64 * 64;
}

/* The weights in one block of device memory. */
static crank_status place(bench_side *s, const bench_weights *w, crank_error *error)
{
    const ops_backend *backend = s->ctx.backend;
    void *device = s->ctx.device;
    const struct {
        const float *from;
        float **to;
        size_t n;
    } parts[] = {
        {w->linear, &s->placed.linear, w->n_linear},
        {w->bias, &s->placed.bias, w->n_bias},
        {w->gamma, &s->placed.gamma, w->n_gamma},
        {w->table, &s->placed.table, w->n_table},
        {w->fold_key, &s->placed.fold_key, w->n_fold},
        {w->fold_value, &s->placed.fold_value, w->n_fold},
        {w->attention, &s->placed.attention, w->n_attention},
    };
    const size_t n_parts = sizeof parts / sizeof parts[0];
    size_t bytes = 0, at = 0;
    for (size_t i = 0; i < n_parts; i++) bytes += placed_bytes(parts[i].n);
    CRANK_TRY(backend->memory_open(device, &s->memory, bytes, error));
    s->placed = *w;
    for (size_t i = 0; i < n_parts; i++) {
        uint8_t *target = (uint8_t *)s->memory + at;
        if (parts[i].n > 0)
            CRANK_TRY(backend->memory_write(device, target, parts[i].from,
                                            parts[i].n * sizeof(float), error));
        *parts[i].to = (float *)(void *)target;
        at += placed_bytes(parts[i].n);
    }
    s->w = &s->placed;
    return CRANK_OK;
}

static crank_status open_linear(bench_side *s, const bench_weights *w, const float *linear_weight,
                                crank_error *error)
{
    const bench_case *c = s->c;
    const ops_backend *backend = s->ctx.backend;
    const ops_layout *layout = backend->layout(s->ctx.device, s->ctx.dtype);
    size_t bytes = layout->linear_bytes(c->n, c->k);
    CRANK_TRY(backend->memory_open(s->ctx.device, &s->blob, bytes, error));
    if (posix_memalign(&s->packed, 64, bytes) != 0)
        return status_fail(error, CRANK_OUT_OF_MEMORY, "no memory for a weight");
    layout->linear_pack(s->packed, linear_weight, w->bias, c->n, c->k, c->gated);
    CRANK_TRY(backend->memory_write(s->ctx.device, s->blob, s->packed, bytes, error));
    s->linear = (ops_linear){s->blob, c->n, c->k, c->gated, layout};
    return CRANK_OK;
}

/* ids, types and positions of token t depend on t alone. */
static void fill_batch(bench_side *s)
{
    const bench_case *c = s->c;
    size_t tokens = (size_t)bench_tokens(c);
    s->arrays = cli_alloc(3 * tokens + (size_t)c->b + 1, sizeof *s->arrays);
    uint32_t state = 99;
    for (size_t i = 0; i < 3 * tokens; i++) {
        random_float(&state);
        s->arrays[i % 3 * tokens + i / 3] = (int32_t)(state >> 8) % table_rows_of(c);
    }
    int32_t *starts = s->arrays + 3 * tokens;
    starts[0] = 0;
    for (int32_t b = 0; b < c->b; b++)
        starts[b + 1] = starts[b] + (c->lengths != NULL ? c->lengths[b] : c->s);
    s->batch = (ops_batch){.n_sequences = c->b,
                           .n_tokens = (int32_t)tokens,
                           .max_tokens = c->s,
                           .ids = s->arrays,
                           .types = s->arrays + tokens,
                           .positions = s->arrays + 2 * tokens,
                           .starts = starts,
                           .key_counts = c->key_counts};
}

crank_status bench_side_open(bench_side *s, const bench_case *c, const bench_weights *w,
                             const float *linear_weight, crank_error *error)
{
    ops_context *ctx = &s->ctx;
    s->c = c;
    s->w = w;
    fill_batch(s);
    s->host = cli_alloc((size_t)s->batch.n_tokens * (size_t)(c->k + c->n), sizeof *s->host);
    if (!ctx->backend->host_memory) CRANK_TRY(place(s, w, error));
    int32_t width = c->op == OPS_KIND_LINEAR_RESIDUAL_NORM     ? c->n
                    : c->op == OPS_KIND_HEAD && !c->plain_head ? inner_of(c)
                                                               : c->k;
    /* An RMS norm has no beta. */
    s->norm = (ops_norm){c->norm, width, 1e-6f, s->w->gamma,
                         c->norm == OPS_NORM_RMS ? NULL : s->w->gamma};
    if (c->op == OPS_KIND_LINEAR || c->op == OPS_KIND_LINEAR_RESIDUAL_NORM)
        CRANK_TRY(open_linear(s, w, linear_weight, error));
    ctx->dry = true;
    ops_begin(ctx, &s->batch);
    prepare(s);
    bench_side_run(s);
    CRANK_TRY(ops_end(ctx, error));
    size_t bytes = ctx->workspace.peak;
    ctx->dry = false;
    CRANK_TRY(ctx->backend->context_open(ctx, bytes, error));
    ops_begin(ctx, &s->batch);
    prepare(s);
    bench_side_run(s);
    return ops_end(ctx, error);
}

void bench_side_close(bench_side *s)
{
    if (s->ctx.workspace.base != NULL) s->ctx.backend->context_close(&s->ctx);
    if (s->blob != NULL) s->ctx.backend->memory_close(s->ctx.device, s->blob);
    if (s->memory != NULL) s->ctx.backend->memory_close(s->ctx.device, s->memory);
    free(s->packed);
    free(s->arrays);
    free(s->host);
}

float *bench_side_unpack(const bench_side *s)
{
    const bench_case *c = s->c;
    if (s->packed == NULL) return NULL;
    float *weight = cli_alloc((size_t)c->n * (size_t)c->k, sizeof *weight);
    float *bias = cli_alloc((size_t)c->n, sizeof *bias);
    s->linear.layout->linear_unpack(weight, bias, s->packed, c->n, c->k, c->gated);
    free(bias);
    return weight;
}

float *bench_side_result(bench_side *s, size_t *n)
{
    bool host = s->c->op == OPS_KIND_HEAD || s->c->op == OPS_KIND_VECTORS;
    size_t cols =
        host ? (size_t)(s->c->op == OPS_KIND_HEAD ? s->c->n : s->c->k) : (size_t)s->out.cols;
    *n = (size_t)s->out.rows * cols;
    float *result = cli_alloc(*n, sizeof *result);
    if (host) {
        memcpy(result, s->host, *n * sizeof *result);
    } else {
        s->ctx.backend->read_f32(&s->ctx, result, &s->out);
    }
    return result;
}

/* How far the side's result is from the reference's on the side's own rounded weights. */
static crank_status error_of(bench_side *subject, const bench_weights *w, double *off,
                             crank_error *error)
{
    bench_side reference = {.ctx = {.backend = &ops_backend_ref}};
    float *weight = bench_side_unpack(subject), *expected = NULL, *found = NULL;
    size_t n;
    crank_status status = CRANK_OK;
    CRANK_TRY_GOTO(ops_backend_ref.open(&reference.ctx.device, NULL, error));
    CRANK_TRY_GOTO(bench_side_open(&reference, subject->c, w, weight, error));
    expected = bench_side_result(&reference, &n);
    found = bench_side_result(subject, &n);
    *off = bench_worst_error(found, expected, n);
out:
    free(expected);
    free(found);
    free(weight);
    bench_side_close(&reference);
    if (reference.ctx.device != NULL) ops_backend_ref.close(reference.ctx.device);
    return status;
}

/* The larger batch's result begins with the bits of the smaller one. */
static bool begins_with(bench_side *large, bench_side *small)
{
    size_t n_large, n;
    float *all = bench_side_result(large, &n_large), *alone = bench_side_result(small, &n);
    bool same = n <= n_large && memcmp(all, alone, n * sizeof *alone) == 0;
    free(all);
    free(alone);
    return same;
}

/* The case with a result that can be read. */
static bench_case readable(const bench_case *c)
{
    bench_case r = *c;
    if (r.uses != 0) r.uses |= OPS_USE_VALUE;
    return r;
}

crank_status bench_side_open_checked(bench_side *s, const bench_case *first,
                                     const bench_case *whole, const bench_weights *w,
                                     bench_check *check, crank_error *error)
{
    const bench_case *wanted = whole != NULL ? whole : first;
    bench_case small = readable(first), large = readable(wanted);
    bench_side one = *s, many = *s;
    crank_status status = CRANK_OK;
    *check = (bench_check){0};
    CRANK_TRY_GOTO(bench_side_open(&one, &small, w, w->linear, error));
    if (s->ctx.backend != &ops_backend_ref) CRANK_TRY_GOTO(error_of(&one, w, &check->error, error));
    check->correct = check->error <= bench_tolerance[s->ctx.dtype];
    if (whole != NULL) {
        CRANK_TRY_GOTO(bench_side_open(&many, &large, w, w->linear, error));
        check->correct = check->correct && begins_with(&many, &one);
    }
    if (!check->correct) goto out;
    if (large.uses == wanted->uses) { /* the one that was checked is it */
        bench_side *checked = whole != NULL ? &many : &one;
        *s = *checked;
        *checked = (bench_side){0};
        s->c = wanted;
        if (s->memory != NULL) s->w = &s->placed;
        goto out;
    }
    bench_side_close(&one);
    bench_side_close(&many);
    one = many = (bench_side){0};
    status = bench_side_open(s, wanted, w, w->linear, error);
out:
    bench_side_close(&one);
    bench_side_close(&many);
    return status;
}

const double bench_tolerance[OPS_N_DTYPES] = {2e-5, 1e-1, 1e-2, 3e-1};

/* Pairs of a query and a key. */
static double scores_of(const bench_case *c)
{
    if (c->lengths == NULL) return (double)c->b * c->s * c->s;
    double scores = 0;
    for (int32_t b = 0; b < c->b; b++) scores += (double)c->lengths[b] * c->lengths[b];
    return scores;
}

double bench_flops(const bench_case *c)
{
    double t = bench_tokens(c), rows = bench_rows(c), d = width_of(c), inner = inner_of(c);
    switch (c->op) {
    case OPS_KIND_LINEAR:
    case OPS_KIND_LINEAR_RESIDUAL_NORM: return 2 * rows * c->n * c->k;
    case OPS_KIND_ATTENTION: return 4 * scores_of(c) * d;
    case OPS_KIND_ATTENTION_ROWS: return 4 * t * d;
    case OPS_KIND_ATTENTION_ROWS_FOLDED: return rows * 4 * d * inner + 4 * t * c->heads * inner;
    case OPS_KIND_HEAD: return 2 * rows * ((c->plain_head ? 0 : inner * c->k) + inner * c->n);
    default: return 0;
    }
}

double bench_worst_error(const float *found, const float *expected, size_t n)
{
    double squares = 0, worst = 0;
    for (size_t i = 0; i < n; i++) squares += (double)expected[i] * (double)expected[i];
    double rms = sqrt(squares / (double)n);
    for (size_t i = 0; i < n; i++) {
        double off = fabs((double)found[i] - (double)expected[i]);
        if (!(off <= worst)) worst = off; /* a NaN is the worst */
    }
    return rms > 0 ? worst / rms : worst;
}

void bench_shape_text(char *text, size_t bytes, const bench_case *c)
{
    int32_t rows = c->first_rows ? c->b : bench_tokens(c);
    if (c->heads > 0 && c->lengths != NULL) {
        snprintf(text, bytes, "B %d T %d S %d H %d K %d", c->b, rows, c->s, c->heads, c->k);
    } else if (c->heads > 0) {
        snprintf(text, bytes, "B %d S %d H %d K %d", c->b, c->s, c->heads, c->k);
    } else if (c->n > 0) {
        snprintf(text, bytes, "T %d n %d k %d%s", rows, c->n, c->k, c->gated ? " gated" : "");
    } else {
        snprintf(text, bytes, "T %d D %d", rows, c->k);
    }
}
