/* crank bench ops: every op in every dtype on every instruction set of this CPU, at the shapes of
 * published models. A case is first computed on the reference backend and compared; one that is
 * wrong is reported and not timed. Then it runs again and again for a while: the median and the
 * best time, GFLOP/s or GB/s, and the share of this core's peak measured in the same run.
 *
 * Both sides run the same program over the same tables: inputs are filled by looking random rows
 * up, which works on any backend. The reference computes with the subject's own rounded weights. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/peaks.h"
#include "cli/bench.h"
#include "cli/options.h"
#include "cli/output.h"
#include "clock.h"
#include "team.h"

typedef enum bench_op {
    BENCH_LINEAR,
    BENCH_RESIDUAL,
    BENCH_ATTENTION,
    BENCH_ROWS,
    BENCH_FOLDED,
    BENCH_EMBED,
    BENCH_NORM,
    BENCH_GATHER,
    BENCH_POOL,
    BENCH_BROADCAST,
    BENCH_HEAD,
    BENCH_VECTORS
} bench_op;

static const char *const op_names[] = {
    "linear",
    "linear_residual_norm",
    "attention",
    "attention_rows",
    "attention_rows_folded",
    "embed_norm",
    "norm",
    "gather_first",
    "pool",
    "broadcast",
    "head",
    "vectors",
};

/* B sequences of S tokens. linear: k inputs, n outputs; attention: H heads of K; else k columns. */
typedef struct bench_case {
    bench_op op;
    int32_t b, s, n, k, heads;
    ops_activation act;
    bool gated;
    const char *model; /* whose shape it is */
} bench_case;

static const bench_case cases[] = {
    {BENCH_LINEAR, 1, 128, 1152, 384, 0, OPS_IDENTITY, false, "MiniLM qkv"},
    {BENCH_LINEAR, 1, 128, 1536, 384, 0, OPS_GELU, false, "MiniLM ffn"},
    {BENCH_LINEAR, 1, 1, 1536, 384, 0, OPS_GELU, false, "MiniLM ffn, head row"},
    {BENCH_LINEAR, 1, 128, 768, 768, 0, OPS_IDENTITY, false, "BERT-base"},
    {BENCH_LINEAR, 1, 128, 3072, 768, 0, OPS_GELU, false, "BERT-base ffn"},
    {BENCH_LINEAR, 1, 128, 1024, 1024, 0, OPS_IDENTITY, false, "BERT-large"},
    {BENCH_LINEAR, 1, 128, 4096, 1024, 0, OPS_GELU, false, "BERT-large ffn"},
    {BENCH_LINEAR, 1, 128, 2304, 768, 0, OPS_GELU, true, "ModernBERT ffn"},
    {BENCH_RESIDUAL, 1, 128, 384, 384, 0, OPS_IDENTITY, false, "MiniLM out"},
    {BENCH_RESIDUAL, 1, 128, 384, 1536, 0, OPS_IDENTITY, false, "MiniLM ffn"},
    {BENCH_RESIDUAL, 1, 128, 768, 3072, 0, OPS_IDENTITY, false, "BERT-base ffn"},
    {BENCH_RESIDUAL, 1, 128, 1024, 4096, 0, OPS_IDENTITY, false, "BERT-large ffn"},
    {BENCH_ATTENTION, 1, 128, 0, 32, 12, OPS_IDENTITY, false, "MiniLM"},
    {BENCH_ATTENTION, 1, 512, 0, 32, 12, OPS_IDENTITY, false, "MiniLM, long"},
    {BENCH_ATTENTION, 1, 128, 0, 64, 12, OPS_IDENTITY, false, "BERT-base"},
    {BENCH_ATTENTION, 1, 128, 0, 64, 16, OPS_IDENTITY, false, "BERT-large"},
    {BENCH_ATTENTION, 1, 128, 0, 26, 12, OPS_IDENTITY, false, "TinyBERT-L4"},
    {BENCH_ROWS, 1, 128, 0, 32, 12, OPS_IDENTITY, false, "MiniLM head rows"},
    {BENCH_FOLDED, 1, 128, 0, 32, 12, OPS_IDENTITY, false, "MiniLM head rows"},
    {BENCH_FOLDED, 1, 128, 0, 64, 12, OPS_IDENTITY, false, "BERT-base head rows"},
    {BENCH_EMBED, 1, 128, 0, 384, 0, OPS_IDENTITY, false, "MiniLM"},
    {BENCH_EMBED, 1, 128, 0, 768, 0, OPS_IDENTITY, false, "BERT-base"},
    {BENCH_NORM, 1, 128, 0, 384, 0, OPS_IDENTITY, false, "384 wide"},
    {BENCH_NORM, 1, 128, 0, 768, 0, OPS_IDENTITY, false, "ModernBERT"},
    {BENCH_GATHER, 8, 16, 0, 384, 0, OPS_IDENTITY, false, "8 short sequences"},
    {BENCH_POOL, 1, 128, 0, 384, 0, OPS_IDENTITY, false, "mean of 128 rows"},
    {BENCH_BROADCAST, 1, 128, 0, 768, 0, OPS_IDENTITY, false, "T5 start"},
    {BENCH_HEAD, 1, 1, 1, 384, 0, OPS_TANH, false, "MiniLM"},
    {BENCH_HEAD, 1, 1, 1, 768, 0, OPS_TANH, false, "BERT-base"},
    {BENCH_VECTORS, 1, 128, 0, 384, 0, OPS_IDENTITY, false, "unit vectors"},
};
#define N_CASES (sizeof cases / sizeof cases[0])

/* ---- weights and tables -----------------------------------------------------------------------
 */

#define TABLE_ROWS 1024

typedef struct weights {
    float *linear, *bias, *gamma, *table, *fold_key, *fold_value;
    int32_t table_cols;
} weights;

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

static weights make_weights(const bench_case *c)
{
    uint32_t state = 12345;
    size_t d = (size_t)width_of(c), k = (size_t)c->k, n = (size_t)c->n;
    bool head = c->op == BENCH_HEAD, folded = c->op == BENCH_FOLDED;
    size_t cols = c->op == BENCH_ATTENTION ? 3 * d : c->op == BENCH_ROWS ? 2 * d : d;
    if (n > cols) cols = n;
    weights w = {.table_cols = (int32_t)cols};
    size_t dense = head ? k * k : n * k;
    w.linear = random_floats(dense, 1.7f / sqrtf((float)k), &state);
    w.bias = random_floats(n + k, 0.1f, &state);
    w.gamma = random_floats(n + d, 1.0f, &state);
    w.table = random_floats(TABLE_ROWS * cols, 1.7f, &state);
    w.fold_key = random_floats(folded ? d * d : 0, 1.7f / sqrtf((float)d), &state);
    w.fold_value = random_floats(folded ? d * d : 0, 1.7f / sqrtf((float)d), &state);
    return w;
}

static void free_weights(weights *w)
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

typedef struct side {
    const bench_case *c;
    const weights *w;
    ops_context ctx;
    void *blob;
    ops_linear linear;
    ops_norm norm;
    ops_batch batch;
    int32_t *arrays;
    ops_tensor x, q, residual, out;
    float *host; /* logits or vectors */
} side;

static void fill(side *s, ops_tensor *t)
{
    ops_embedding e = {.word = {s->w->table, TABLE_ROWS, t->cols, OPS_F32}};
    ops_embed_norm(&s->ctx, t, &e);
}

static bool per_sequence(bench_op op)
{
    return op == BENCH_ROWS || op == BENCH_FOLDED || op == BENCH_GATHER || op == BENCH_POOL;
}

/* Takes and fills the tensors, the same for every run. */
static void prepare(side *s)
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
    if (c->op == BENCH_RESIDUAL) {
        s->residual = ops_new(ctx, rows, c->n, OPS_USE_VALUE);
        fill(s, &s->residual);
    }
    if (c->op == BENCH_ROWS || c->op == BENCH_FOLDED) {
        ops_tensor all = ops_new(ctx, rows, d, OPS_USE_VALUE);
        fill(s, &all);
        s->q = ops_new(ctx, c->b, d, OPS_USE_VALUE);
        ops_gather_first(ctx, &s->q, &all);
    }
    unsigned both = OPS_USE_VALUE | OPS_USE_OPERAND;
    s->out = ops_new(ctx, per_sequence(c->op) ? c->b : rows, matrix ? columns_of(c) : d, both);
}

static void run_op(side *s)
{
    const bench_case *c = s->c;
    ops_context *ctx = &s->ctx;
    const weights *w = s->w;
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
    case BENCH_GATHER: ops_gather_first(ctx, &s->out, &s->x); break;
    case BENCH_POOL: ops_pool(ctx, &s->out, &s->x, OPS_POOL_MEAN); break;
    case BENCH_BROADCAST: ops_broadcast(ctx, &s->out, w->table); break;
    case BENCH_HEAD: ops_head_logits(ctx, s->host, &s->x, &head); break;
    case BENCH_VECTORS: ops_vectors(ctx, s->host, &s->x, true); break;
    }
}

/* ctx->backend, device, dtype and team are set. linear_weight: what the linear is packed from. */
static crank_status side_open(side *s, const bench_case *c, const weights *w,
                              const float *linear_weight, crank_error *error)
{
    ops_context *ctx = &s->ctx;
    s->c = c;
    s->w = w;
    s->norm = (ops_norm){c->op == BENCH_EMBED || c->op == BENCH_NORM || c->op == BENCH_RESIDUAL
                             ? OPS_NORM_LAYER
                             : OPS_NORM_NONE,
                         c->op == BENCH_RESIDUAL ? c->n : c->k, 1e-6f, w->gamma, w->gamma};
    size_t tokens = (size_t)c->b * (size_t)c->s;
    s->arrays = cli_alloc(3 * tokens + (size_t)c->b + 1, sizeof *s->arrays);
    uint32_t state = 99;
    for (size_t i = 0; i < 3 * tokens; i++) {
        random_float(&state);
        s->arrays[i] = (int32_t)(state >> 8) % TABLE_ROWS;
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
    s->host = cli_alloc(tokens * (size_t)(c->k + c->n), sizeof *s->host);
    if (c->op == BENCH_LINEAR || c->op == BENCH_RESIDUAL) {
        const ops_layout *layout = ctx->backend->layout(ctx->device, ctx->dtype);
        size_t bytes = layout->linear_bytes(c->n, c->k);
        CRANK_TRY(ctx->backend->memory_open(ctx->device, &s->blob, bytes, error));
        layout->linear_pack(s->blob, linear_weight, w->bias, c->n, c->k, c->gated);
        s->linear = (ops_linear){s->blob, c->n, c->k, c->gated, layout};
    }
    ctx->dry = true;
    ops_begin(ctx, &s->batch);
    prepare(s);
    run_op(s);
    CRANK_TRY(ops_end(ctx, error));
    size_t bytes = ctx->workspace.peak;
    ctx->dry = false;
    CRANK_TRY(ctx->backend->context_open(ctx, bytes, error));
    ops_begin(ctx, &s->batch);
    prepare(s);
    run_op(s);
    return ops_end(ctx, error);
}

static void side_close(side *s)
{
    if (s->ctx.workspace.base != NULL) s->ctx.backend->context_close(&s->ctx);
    if (s->blob != NULL) s->ctx.backend->memory_close(s->ctx.device, s->blob);
    free(s->arrays);
    free(s->host);
}

/* The result in f32; *n numbers, the caller's to free. */
static float *read_result(side *s, size_t *n)
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

/* ---- one case ---------------------------------------------------------------------------------
 */

/* |difference| over the root mean square of what is expected, at most. */
static const double tolerance[OPS_N_DTYPES] = {2e-5, 1e-1, 1e-2, 3e-1};

/* Multiply-adds count two; 0: an op that only moves bytes. */
static double flops_of(const bench_case *c)
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

/* Bytes read and written by an op that only moves them. */
static double bytes_of(const bench_case *c, ops_dtype dtype)
{
    double t = (double)c->b * c->s, b = c->b, d = c->k;
    double operand = dtype == OPS_F32 ? 0 : ops_dtypes[dtype].bytes, forms = 4 + operand;
    switch (c->op) {
    case BENCH_EMBED: return t * d * (12 + forms);
    case BENCH_NORM: return t * d * (4 + forms);
    case BENCH_GATHER: return b * d * (4 + forms);
    case BENCH_POOL: return t * d * 4 + b * d * forms;
    case BENCH_BROADCAST: return t * d * (4 + forms);
    case BENCH_VECTORS: return t * d * 8;
    default: return 0;
    }
}

/* What the op multiplies in: attention of an int8 model runs in bf16, the head rows' in f32. */
static ops_dtype arithmetic_of(const bench_case *c, ops_dtype dtype)
{
    if (c->op == BENCH_LINEAR || c->op == BENCH_RESIDUAL) return dtype;
    if (c->op == BENCH_FOLDED || c->op == BENCH_HEAD || dtype == OPS_F32) return OPS_F32;
    return OPS_BF16;
}

typedef struct bench_job {
    int json, threads;
    size_t milliseconds;
    const char *only_op, *only_dtype, *only_isa, *only_kernel;
    peaks peaks;
    team *team;
    int n_wrong;
} bench_job;

typedef struct timing {
    double median_us, best_us;
    int runs;
} timing;

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

#define MAX_SAMPLES 1000

/* Samples of about a millisecond each, for job->milliseconds. */
static timing time_op(const bench_job *job, side *s)
{
    static double samples[MAX_SAMPLES];
    int64_t start = clock_ns();
    run_op(s);
    int64_t once = clock_ns() - start;
    int per_sample = once < 1000000 ? (int)(1000000 / (once + 1)) + 1 : 1;
    int64_t end = clock_ns() + (int64_t)job->milliseconds * 1000000;
    timing t = {0};
    while (t.runs < MAX_SAMPLES && (t.runs < 5 || clock_ns() < end)) {
        start = clock_ns();
        for (int i = 0; i < per_sample; i++) run_op(s);
        samples[t.runs++] = (double)(clock_ns() - start) / per_sample / 1e3;
    }
    qsort(samples, (size_t)t.runs, sizeof *samples, compare_doubles);
    t.median_us = samples[t.runs / 2];
    t.best_us = samples[0];
    return t;
}

static double worst_error(const float *found, const float *expected, size_t n)
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

static void shape_text(char *text, size_t bytes, const bench_case *c)
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

static void print_case(const bench_job *job, const bench_case *c, ops_dtype dtype, const char *isa,
                       const char *kernel, double error, const timing *t)
{
    char shape[64];
    shape_text(shape, sizeof shape, c);
    double flops = flops_of(c), bytes = bytes_of(c, dtype), peak = 0, rate = 0;
    if (t != NULL) {
        rate = (flops > 0 ? flops : bytes) / t->median_us / 1e3;
        peak = flops > 0 ? job->peaks.gflops[arithmetic_of(c, dtype)] * job->threads
                         : job->peaks.gbps * job->threads;
    }
    const char *unit = flops > 0 ? "GFLOP/s" : "GB/s";
    if (job->json) {
        printf("{\"op\":\"%s\",\"dtype\":\"%s\",\"isa\":\"%s\",\"kernel\":", op_names[c->op],
               ops_dtypes[dtype].name, isa);
        json_put_string(stdout, kernel);
        printf(",\"shape\":\"%s\",\"model\":\"%s\",\"threads\":%d,\"correct\":%s,\"error\":", shape,
               c->model, job->threads, t != NULL ? "true" : "false");
        json_put_float(stdout, (float)error);
        if (t != NULL) {
            printf(",\"median_us\":%.2f,\"best_us\":%.2f,\"runs\":%d,\"%s\":%.2f,\"peak\":%.2f",
                   t->median_us, t->best_us, t->runs, flops > 0 ? "gflops" : "gbps", rate, peak);
            if (peak > 0) printf(",\"share\":%.4f", rate / peak);
        }
        puts("}");
    } else if (t == NULL) {
        printf("%-22s %-5s %-12s %-26s WRONG: off by %.2g of the root mean square, not timed\n",
               op_names[c->op], ops_dtypes[dtype].name, isa, shape, error);
    } else {
        printf("%-22s %-5s %-12s %-26s %10.1f us %8.1f %-7s ", op_names[c->op],
               ops_dtypes[dtype].name, isa, shape, t->median_us, rate, unit);
        if (peak > 0) {
            printf("%5.1f %% of %.0f (best %.1f %%)", 100 * rate / peak, peak,
                   100 * rate / peak * t->median_us / t->best_us);
        }
        printf("  %s\n", c->model);
    }
    fflush(stdout);
}

static crank_status run_case(bench_job *job, void *device, const bench_case *c, ops_dtype dtype,
                             const char *isa, const char *kernel, crank_error *error)
{
    weights w = make_weights(c);
    side subject = {
        .ctx = {.backend = &ops_backend_cpu, .device = device, .dtype = dtype, .team = job->team}};
    side reference = {.ctx = {.backend = &ops_backend_ref}};
    float *expected = NULL, *found = NULL, *weight = NULL, *bias = NULL;
    crank_status status = CRANK_OK;
    CRANK_TRY_GOTO(ops_backend_ref.open(&reference.ctx.device, NULL, error));
    CRANK_TRY_GOTO(side_open(&subject, c, &w, w.linear, error));
    size_t n;
    if (subject.blob != NULL) { /* the reference multiplies what the subject kept of the weights */
        weight = cli_alloc((size_t)c->n * (size_t)c->k, sizeof *weight);
        bias = cli_alloc((size_t)c->n, sizeof *bias);
        subject.linear.layout->linear_unpack(weight, bias, subject.blob, c->n, c->k, c->gated);
    }
    CRANK_TRY_GOTO(side_open(&reference, c, &w, weight, error));
    expected = read_result(&reference, &n);
    found = read_result(&subject, &n);
    double off = worst_error(found, expected, n);
    if (!(off <= tolerance[dtype])) {
        job->n_wrong++;
        print_case(job, c, dtype, isa, kernel, off, NULL);
    } else {
        timing t = time_op(job, &subject);
        peaks_measure(&job->peaks, isa);
        print_case(job, c, dtype, isa, kernel, off, &t);
    }
out:
    free(expected);
    free(found);
    free(weight);
    free(bias);
    side_close(&subject);
    side_close(&reference);
    if (reference.ctx.device != NULL) ops_backend_ref.close(reference.ctx.device);
    free_weights(&w);
    return status;
}

/* ---- all of them ------------------------------------------------------------------------------
 */

static bool wanted(const char *only, const char *name)
{
    return only == NULL || strcmp(only, name) == 0;
}

/* The kernel's name in the table of variants. */
static const char *kernel_of(const ops_variant *variants, size_t n, const char *op,
                             const char *dtype, const char *isa)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(variants[i].op, op) == 0 && strcmp(variants[i].dtype, dtype) == 0 &&
            strcmp(variants[i].isa, isa) == 0 && variants[i].available) {
            return variants[i].name;
        }
    }
    return NULL;
}

static cli_exit run_level(bench_job *job, const char *isa)
{
    static const ops_dtype dtypes[] = {OPS_F32, OPS_BF16, OPS_INT8};
    crank_error error = {0};
    void *device;
    ops_device_options options = {.isa = isa};
    if (ops_backend_cpu.open(&device, &options, &error) != CRANK_OK) {
        return cli_fail_status(&error, 0);
    }
    job->peaks = (peaks){0};
    peaks_measure(&job->peaks, isa);
    size_t n;
    const ops_variant *variants = ops_backend_cpu.variants(device, &n);
    cli_exit code = CLI_OK;
    for (size_t d = 0; d < 3 && code == CLI_OK; d++) {
        const char *dtype = ops_dtypes[dtypes[d]].name;
        for (size_t i = 0; i < N_CASES && code == CLI_OK && !cli_stopped(); i++) {
            const char *op = op_names[cases[i].op];
            const char *kernel = kernel_of(variants, n, op, dtype, isa);
            if (!wanted(job->only_op, op) || !wanted(job->only_dtype, dtype) || kernel == NULL) {
                continue;
            }
            if (run_case(job, device, &cases[i], dtypes[d], isa, kernel, &error) != CRANK_OK) {
                code = cli_fail_status(&error, 0);
            }
        }
    }
    ops_backend_cpu.close(device);
    return code;
}

static cli_exit run_levels(bench_job *job)
{
    crank_error error = {0};
    void *device;
    if (ops_backend_cpu.open(&device, NULL, &error) != CRANK_OK) {
        return cli_fail_status(&error, 0);
    }
    size_t n;
    const ops_variant *variants = ops_backend_cpu.variants(device, &n);
    cli_exit code = CLI_OK;
    const char *last = "";
    bool found = false;
    for (size_t i = 0; i < n && code == CLI_OK && !cli_stopped(); i++) {
        const char *isa = variants[i].isa;
        if (!variants[i].available || strcmp(isa, last) == 0) continue;
        last = isa;
        if (!wanted(job->only_isa, isa)) continue;
        found = true;
        code = run_level(job, isa);
    }
    if (code == CLI_OK && !found) {
        code = cli_fail(CLI_DEVICE, "no instruction set '%s' here; see crank info --kernels",
                        job->only_isa);
    }
    ops_backend_cpu.close(device);
    return code;
}

static cli_exit bench_ops(const cli_command *self, int argc, char **argv)
{
    bench_job job = {.milliseconds = 50};
    size_t threads = 1;
    const cli_option options[] = {
        {.name = "op",
         .type = OPTION_TEXT,
         .target = &job.only_op,
         .value = "NAME",
         .help = "one op: linear, attention, ...; all"},
        {.name = "dtype",
         .type = OPTION_TEXT,
         .target = &job.only_dtype,
         .value = "NAME",
         .help = "f32, bf16 or int8; all"},
        {.name = "isa",
         .type = OPTION_TEXT,
         .target = &job.only_isa,
         .value = "NAME",
         .help = "one instruction set of info --kernels; all that this CPU has"},
        {.name = "threads",
         .type = OPTION_COUNT,
         .target = &threads,
         .value = "N",
         .help = "threads that share each op; 1",
         .low = 1,
         .high = 1024},
        {.name = "time",
         .type = OPTION_COUNT,
         .target = &job.milliseconds,
         .value = "MS",
         .help = "milliseconds a case; 50",
         .low = 1,
         .high = 60000},
        {.name = "json", .type = OPTION_FLAG, .target = &job.json, .help = "JSON Lines"},
    };
    cli_arguments arguments;
    cli_exit code = options_parse(self, options, sizeof options / sizeof options[0], argc, argv, 0,
                                  0, &arguments);
    if (code != CLI_PARSED) return code;
    crank_error error = {0};
    job.threads = (int)threads;
    if (job.threads > 1 && team_open(&job.team, job.threads, 0, &error) != CRANK_OK) {
        return cli_fail_status(&error, 0);
    }
    code = run_levels(&job);
    team_close(job.team);
    if (code == CLI_OK && job.n_wrong > 0) {
        code = cli_fail(CLI_ERRORS, "%d cases differ from the reference", job.n_wrong);
    }
    return code;
}

const cli_command bench_ops_command = {
    .name = "bench ops",
    .summary = "Every op x dtype x instruction set x shape: time, rate, share of the peak.",
    .synopsis = "[options]",
    .details = "Results are compared with the reference first; a case that is wrong is not timed "
               "and makes the\nexit code 1. Peaks are measured in the same run by loops that touch "
               "only registers, or only\nthe cache. The share is that of the median time.",
    .example = "  crank bench ops --isa avx2 --dtype int8\n"
               "  crank bench ops --op linear --json",
    .run = bench_ops,
};
