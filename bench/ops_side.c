#include "bench/ops_side.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/output.h"

const char *const bench_op_names[] = {
    "linear",
    "linear_residual_norm",
    "attention",
    "attention_rows",
    "attention_rows_folded",
    "embed_norm",
    "norm",
    "add_norm",
    "gather_first",
    "gather_around",
    "pool",
    "broadcast",
    "head",
    "vectors",
};

const bench_case bench_cases[] = {
    {BENCH_LINEAR, 1, 128, 1152, 384, 0, OPS_IDENTITY, false, "MiniLM qkv"},
    {BENCH_LINEAR, 1, 128, 1536, 384, 0, OPS_GELU, false, "MiniLM ffn"},
    {BENCH_LINEAR, 1, 1, 1536, 384, 0, OPS_GELU, false, "MiniLM ffn, head row"},
    {BENCH_LINEAR, 1, 128, 512, 128, 0, OPS_GELU, false, "TinyBERT-L2 ffn"},
    {BENCH_LINEAR, 1, 128, 1200, 312, 0, OPS_GELU, false, "TinyBERT-L4 ffn"},
    {BENCH_LINEAR, 1, 128, 768, 768, 0, OPS_IDENTITY, false, "BERT-base"},
    {BENCH_LINEAR, 1, 128, 2304, 768, 0, OPS_IDENTITY, false, "BERT-base qkv"},
    {BENCH_LINEAR, 1, 128, 3072, 768, 0, OPS_GELU, false, "BERT-base ffn"},
    {BENCH_LINEAR, 1, 128, 1024, 1024, 0, OPS_IDENTITY, false, "BERT-large"},
    {BENCH_LINEAR, 1, 128, 3072, 1024, 0, OPS_IDENTITY, false, "BERT-large qkv"},
    {BENCH_LINEAR, 1, 128, 4096, 1024, 0, OPS_GELU, false, "BERT-large ffn"},
    {BENCH_LINEAR, 1, 128, 2304, 768, 0, OPS_GELU, true, "ModernBERT ffn"},
    {BENCH_RESIDUAL, 1, 128, 384, 384, 0, OPS_IDENTITY, false, "MiniLM out"},
    {BENCH_RESIDUAL, 1, 128, 384, 1536, 0, OPS_IDENTITY, false, "MiniLM ffn"},
    {BENCH_RESIDUAL, 1, 128, 768, 768, 0, OPS_IDENTITY, false, "BERT-base out"},
    {BENCH_RESIDUAL, 1, 128, 768, 3072, 0, OPS_IDENTITY, false, "BERT-base ffn"},
    {BENCH_RESIDUAL, 1, 128, 1024, 1024, 0, OPS_IDENTITY, false, "BERT-large out"},
    {BENCH_RESIDUAL, 1, 128, 1024, 4096, 0, OPS_IDENTITY, false, "BERT-large ffn"},
    {BENCH_ATTENTION, 1, 128, 0, 32, 12, OPS_IDENTITY, false, "MiniLM"},
    {BENCH_ATTENTION, 1, 512, 0, 32, 12, OPS_IDENTITY, false, "MiniLM, long"},
    {BENCH_ATTENTION, 1, 128, 0, 64, 12, OPS_IDENTITY, false, "BERT-base"},
    {BENCH_ATTENTION, 1, 128, 0, 64, 16, OPS_IDENTITY, false, "BERT-large"},
    {BENCH_ATTENTION, 1, 128, 0, 26, 12, OPS_IDENTITY, false, "TinyBERT-L4"},
    {BENCH_ROWS, 1, 128, 0, 32, 12, OPS_IDENTITY, false, "MiniLM head rows"},
    {BENCH_FOLDED, 1, 128, 0, 32, 12, OPS_IDENTITY, false, "MiniLM head rows"},
    {BENCH_FOLDED, 1, 128, 0, 64, 12, OPS_IDENTITY, false, "BERT-base head rows"},
    {BENCH_FOLDED, 1, 128, 0, 64, 16, OPS_IDENTITY, false, "BERT-large head rows"},
    {BENCH_EMBED, 1, 128, 0, 384, 0, OPS_IDENTITY, false, "MiniLM"},
    {BENCH_EMBED, 1, 128, 0, 768, 0, OPS_IDENTITY, false, "BERT-base"},
    {BENCH_EMBED, 1, 128, 0, 1024, 0, OPS_IDENTITY, false, "BERT-large"},
    {BENCH_NORM, 1, 128, 0, 384, 0, OPS_IDENTITY, false, "384 wide"},
    {BENCH_NORM, 1, 128, 0, 768, 0, OPS_IDENTITY, false, "ModernBERT"},
    {BENCH_GATHER, 8, 16, 0, 384, 0, OPS_IDENTITY, false, "8 short sequences"},
    {BENCH_ADD_NORM, 1, 128, 0, 1536, 0, OPS_IDENTITY, false, "DeBERTa-v2-xlarge"},
    {BENCH_AROUND, 1, 128, 3, 1536, 0, OPS_IDENTITY, false, "DeBERTa-v2-xlarge"},
    {BENCH_POOL, 1, 128, 0, 384, 0, OPS_IDENTITY, false, "mean of 128 rows"},
    {BENCH_BROADCAST, 1, 128, 0, 768, 0, OPS_IDENTITY, false, "T5 start"},
    {BENCH_HEAD, 1, 1, 1, 384, 0, OPS_TANH, false, "MiniLM"},
    {BENCH_HEAD, 1, 1, 1, 768, 0, OPS_TANH, false, "BERT-base"},
    {BENCH_HEAD, 1, 1, 1, 1024, 0, OPS_TANH, false, "BERT-large"},
    {BENCH_VECTORS, 1, 128, 0, 384, 0, OPS_IDENTITY, false, "unit vectors"},
};
const size_t n_bench_cases = sizeof bench_cases / sizeof bench_cases[0];

#define TABLE_ROWS 1024

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

bench_weights bench_weights_make(const bench_case *c)
{
    uint32_t state = 12345;
    size_t d = (size_t)width_of(c), k = (size_t)c->k, n = (size_t)c->n;
    bool head = c->op == BENCH_HEAD, folded = c->op == BENCH_FOLDED;
    size_t cols = c->op == BENCH_ATTENTION ? 3 * d : c->op == BENCH_ROWS ? 2 * d : d;
    if (n > cols) cols = n;
    bench_weights w = {.n_linear = head ? k * k : n * k,
                       .n_bias = n + k,
                       .n_gamma = n + d,
                       .n_table = TABLE_ROWS * cols,
                       .n_fold = folded ? d * d : 0,
                       .table_cols = (int32_t)cols};
    w.linear = random_floats(w.n_linear, 1.7f / sqrtf((float)k), &state);
    w.bias = random_floats(w.n_bias, 0.1f, &state);
    w.gamma = random_floats(w.n_gamma, 1.0f, &state);
    w.table = random_floats(w.n_table, 1.7f, &state);
    w.fold_key = random_floats(w.n_fold, 1.7f / sqrtf((float)d), &state);
    w.fold_value = random_floats(w.n_fold, 1.7f / sqrtf((float)d), &state);
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
}

/* ---- one side ---------------------------------------------------------------------------------
 */

static void fill(bench_side *s, ops_tensor *t)
{
    ops_embedding e = {.word = {s->w->table, TABLE_ROWS, t->cols, OPS_F32}};
    ops_embed_norm(&s->ctx, t, &e);
}

static bool per_sequence(bench_op op)
{
    return op == BENCH_ROWS || op == BENCH_FOLDED || op == BENCH_GATHER || op == BENCH_POOL;
}

/* Takes and fills the tensors, the same for every run. */
static void prepare(bench_side *s)
{
    const bench_case *c = s->c;
    ops_context *ctx = &s->ctx;
    int32_t rows = c->b * c->s, d = width_of(c);
    bool matrix = c->op == BENCH_LINEAR || c->op == BENCH_RESIDUAL;
    int32_t inputs = matrix                     ? c->k
                     : c->op == BENCH_ATTENTION ? 3 * d
                     : c->op == BENCH_ROWS      ? 2 * d
                                                : d;
    s->x = ops_new(ctx, rows, inputs, matrix ? OPS_USE_OPERAND : OPS_USE_VALUE);
    fill(s, &s->x);
    if (c->op == BENCH_RESIDUAL || c->op == BENCH_ADD_NORM) {
        s->residual = ops_new(ctx, rows, matrix ? c->n : d, OPS_USE_VALUE);
        fill(s, &s->residual);
    }
    if (c->op == BENCH_ROWS || c->op == BENCH_FOLDED) {
        ops_tensor all = ops_new(ctx, rows, d, OPS_USE_VALUE);
        fill(s, &all);
        s->q = ops_new(ctx, c->b, d, OPS_USE_VALUE);
        ops_gather_first(ctx, &s->q, &all);
    }
    unsigned both = OPS_USE_VALUE | OPS_USE_OPERAND;
    int32_t columns = matrix ? columns_of(c) : c->op == BENCH_AROUND ? c->n * d : d;
    s->out = ops_new(ctx, per_sequence(c->op) ? c->b : rows, columns, both);
}

void bench_side_run(bench_side *s)
{
    const bench_case *c = s->c;
    ops_context *ctx = &s->ctx;
    const bench_weights *w = s->w;
    ops_attention a = {.n_heads = c->heads, .head_width = c->k, .scale = 1 / sqrtf((float)c->k)};
    ops_lookup table = {w->table, TABLE_ROWS, c->k, OPS_F32};
    ops_embedding e = {.word = table, .type = table, .position = table, .norm = s->norm};
    ops_fold fold = {w->fold_key, w->fold_value, NULL, width_of(c), width_of(c)};
    ops_head head = {.dense = w->linear,
                     .dense_bias = w->bias,
                     .activation = c->act,
                     .out = w->gamma,
                     .d_in = c->k,
                     .d_dense = c->k,
                     .labels = c->n};
    switch (c->op) {
    case BENCH_LINEAR: ops_linear_act(ctx, &s->out, &s->x, &s->linear, c->act); break;
    case BENCH_RESIDUAL:
        ops_linear_residual_norm(ctx, &s->out, NULL, &s->x, &s->linear, &s->residual, &s->norm);
        break;
    case BENCH_ATTENTION: ops_attention_full(ctx, &s->out, &s->x, &a); break;
    case BENCH_ROWS: ops_attention_rows(ctx, &s->out, &s->q, &s->x, &a); break;
    case BENCH_FOLDED: ops_attention_rows_folded(ctx, &s->out, &s->q, &s->x, &fold, &a); break;
    case BENCH_EMBED: ops_embed_norm(ctx, &s->out, &e); break;
    case BENCH_NORM: ops_norm_rows(ctx, &s->out, &s->x, &s->norm); break;
    case BENCH_ADD_NORM: ops_add_norm(ctx, &s->out, &s->x, &s->residual, &s->norm); break;
    case BENCH_AROUND: ops_gather_around(ctx, &s->out, &s->x); break;
    case BENCH_GATHER: ops_gather_first(ctx, &s->out, &s->x); break;
    case BENCH_POOL: ops_pool(ctx, &s->out, &s->x, OPS_POOL_MEAN); break;
    case BENCH_BROADCAST: ops_broadcast(ctx, &s->out, w->table); break;
    case BENCH_HEAD: ops_head_logits(ctx, s->host, &s->x, &head); break;
    case BENCH_VECTORS: ops_vectors(ctx, s->host, &s->x, true); break;
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
    size_t tokens = (size_t)c->b * (size_t)c->s;
    s->arrays = cli_alloc(3 * tokens + (size_t)c->b + 1, sizeof *s->arrays);
    uint32_t state = 99;
    for (size_t i = 0; i < 3 * tokens; i++) {
        random_float(&state);
        s->arrays[i % 3 * tokens + i / 3] = (int32_t)(state >> 8) % TABLE_ROWS;
    }
    int32_t *starts = s->arrays + 3 * tokens;
    for (int32_t b = 0; b <= c->b; b++) starts[b] = b * c->s;
    s->batch = (ops_batch){.n_sequences = c->b,
                           .n_tokens = c->b * c->s,
                           .max_tokens = c->s,
                           .ids = s->arrays,
                           .types = s->arrays + tokens,
                           .positions = s->arrays + 2 * tokens,
                           .starts = starts};
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
    bool normed = c->op == BENCH_EMBED || c->op == BENCH_NORM || c->op == BENCH_ADD_NORM ||
                  c->op == BENCH_RESIDUAL;
    s->norm = (ops_norm){normed ? OPS_NORM_LAYER : OPS_NORM_NONE,
                         c->op == BENCH_RESIDUAL ? c->n : c->k, 1e-6f, s->w->gamma, s->w->gamma};
    if (c->op == BENCH_LINEAR || c->op == BENCH_RESIDUAL)
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
    bool host = s->c->op == BENCH_HEAD || s->c->op == BENCH_VECTORS;
    size_t cols = host ? (size_t)(s->c->op == BENCH_HEAD ? s->c->n : s->c->k) : (size_t)s->out.cols;
    *n = (size_t)s->out.rows * cols;
    float *result = cli_alloc(*n, sizeof *result);
    if (host) {
        memcpy(result, s->host, *n * sizeof *result);
    } else {
        s->ctx.backend->read_f32(&s->ctx, result, &s->out);
    }
    return result;
}

const double bench_tolerance[OPS_N_DTYPES] = {2e-5, 1e-1, 1e-2, 3e-1};

double bench_flops(const bench_case *c)
{
    double t = (double)c->b * c->s, b = c->b, d = width_of(c);
    switch (c->op) {
    case BENCH_LINEAR:
    case BENCH_RESIDUAL: return 2 * t * c->n * c->k;
    case BENCH_ATTENTION: return 4 * t * c->s * d;
    case BENCH_ROWS: return 4 * t * d;
    case BENCH_FOLDED: return b * 4 * d * d + 4 * t * c->heads * d;
    case BENCH_HEAD: return 2 * t * (d * d + d * c->n);
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
    if (c->heads > 0) {
        snprintf(text, bytes, "B %d S %d H %d K %d", c->b, c->s, c->heads, c->k);
    } else if (c->n > 0) {
        snprintf(text, bytes, "T %d n %d k %d%s", c->b * c->s, c->n, c->k,
                 c->gated ? " gated" : "");
    } else {
        snprintf(text, bytes, "T %d D %d", c->b * c->s, c->k);
    }
}
