/* What T5-base's one decode step costs beside its encoder at 256 tokens a pair (runtime/arch/t5.c:
 * the step reads no token, so self-attention is a value and cross-attention is folded).
 *
 * The step reads every weight of twelve layers for a handful of rows and is bound by memory: each
 * layer has weights of its own here, 4 sequences a micro-batch as the runtime makes them (1,024
 * tokens). The encoder is bound by arithmetic: one layer over all rows, times twelve, on weights
 * that take turns. Both are timed in turns, so that what else runs on the machine meets both.
 *
 * The program is first run on one layer and 16 tokens and compared with the reference, which
 * computes with the subject's rounded weights. Layers hold the same numbers: time does not depend
 * on them. */
#include "bench/decoder_step.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/samples.h"
#include "cli/output.h"
#include "clock.h"

enum { D = 768, HEADS = 12, HEAD_WIDTH = 64, F = 3072, LAYERS = 12, WORDS = 64 };
enum { SEQUENCES = 4, TOKENS = 256, CHECK_SEQUENCES = 2, CHECK_TOKENS = 8 };
enum { MATRIX_QKV, MATRIX_SQUARE, MATRIX_IN, MATRIX_OUT, N_MATRICES };
static const int32_t shapes[N_MATRICES][2] = {{3 * D, D}, {D, D}, {F, D}, {D, F}};

/* Seeded numbers that every layer shares. */
typedef struct numbers {
    float *matrices[N_MATRICES];
    float *table, *gamma, *distances;
} numbers;

typedef struct layer {
    ops_linear qkv, out;                         /* encoder */
    ops_linear self_v, self_o, cross_q, cross_o; /* decoder */
    ops_linear ffn_in, ffn_out;                  /* both */
    float *fold;                                 /* decoder: keys, then values */
} layer;

/* One side: weights, a batch, and the tensors that its runs share. */
typedef struct side {
    ops_context ctx;
    const numbers *n;
    int n_layers;
    layer encoder[LAYERS], decoder[LAYERS];
    void *block;
    int32_t *arrays;
    ops_batch batch;
    ops_tensor states, x, h, qkv, context, inner; /* encoder, [T, ..] */
    ops_tensor y, g, v, q, inside;                /* decoder, [B, ..] */
} side;

static float *random_numbers(size_t n, float scale, uint64_t *state)
{
    float *out = cli_alloc(n, sizeof *out);
    for (size_t i = 0; i < n; i++) {
        out[i] = ((float)(samples_random(state) >> 40) / 8388608.0f - 1.0f) * scale;
    }
    return out;
}

static numbers numbers_make(void)
{
    uint64_t state = 5;
    numbers n;
    for (int i = 0; i < N_MATRICES; i++) {
        size_t k = (size_t)shapes[i][1];
        n.matrices[i] = random_numbers((size_t)shapes[i][0] * k, 1.7f / sqrtf((float)k), &state);
    }
    n.table = random_numbers((size_t)WORDS * D, 1.7f, &state);
    n.gamma = random_numbers(D, 1.0f, &state);
    n.distances = random_numbers((size_t)HEADS * (2 * TOKENS - 1), 1.0f, &state);
    return n;
}

static void numbers_free(numbers *n)
{
    for (int i = 0; i < N_MATRICES; i++) free(n->matrices[i]);
    free(n->table);
    free(n->gamma);
    free(n->distances);
}

/* ---- weights ---- */

/* The linears of a side in order: called once to measure, once to pack. at: NULL to measure. */
static size_t place(side *s, uint8_t *at)
{
    const ops_layout *layout = s->ctx.backend->layout(s->ctx.device, s->ctx.dtype);
    size_t used = 0;
    for (int l = 0; l < s->n_layers; l++) {
        layer *e = &s->encoder[l], *d = &s->decoder[l];
        const struct {
            ops_linear *to;
            int matrix;
        } linears[] = {
            {&e->qkv, MATRIX_QKV},        {&e->out, MATRIX_SQUARE},     {&e->ffn_in, MATRIX_IN},
            {&e->ffn_out, MATRIX_OUT},    {&d->self_v, MATRIX_SQUARE},  {&d->self_o, MATRIX_SQUARE},
            {&d->cross_q, MATRIX_SQUARE}, {&d->cross_o, MATRIX_SQUARE}, {&d->ffn_in, MATRIX_IN},
            {&d->ffn_out, MATRIX_OUT},
        };
        for (size_t i = 0; i < sizeof linears / sizeof linears[0]; i++) {
            int32_t n = shapes[linears[i].matrix][0], k = shapes[linears[i].matrix][1];
            if (at != NULL) {
                layout->linear_pack(at + used, s->n->matrices[linears[i].matrix], NULL, n, k,
                                    false);
                *linears[i].to = (ops_linear){at + used, n, k, false, layout};
            }
            used += layout->linear_bytes(n, k);
        }
        if (at != NULL) {
            d->fold = (float *)(void *)(at + used);
            for (size_t i = 0; i < 2 * (size_t)D * D; i++)
                d->fold[i] = s->n->matrices[MATRIX_SQUARE][i % ((size_t)D * D)];
        }
        used += 2 * sizeof(float) * D * D;
    }
    return used;
}

static void make_batch(side *s, int32_t sequences, int32_t tokens)
{
    size_t n = (size_t)sequences * (size_t)tokens;
    s->arrays = cli_alloc(3 * n + (size_t)sequences + 1, sizeof *s->arrays);
    int32_t *starts = s->arrays + 3 * n;
    for (size_t i = 0; i < n; i++) {
        s->arrays[i] = (int32_t)(i * 7 % WORDS);
        s->arrays[n + i] = s->arrays[2 * n + i] = 0;
    }
    for (int32_t b = 0; b <= sequences; b++) starts[b] = b * tokens;
    s->batch = (ops_batch){.n_sequences = sequences,
                           .n_tokens = (int32_t)n,
                           .max_tokens = tokens,
                           .ids = s->arrays,
                           .types = s->arrays + n,
                           .positions = s->arrays + 2 * n,
                           .starts = starts};
}

/* ---- the programs ---- */

static ops_norm rms(const side *s)
{
    return (ops_norm){.kind = OPS_NORM_RMS, .width = D, .epsilon = 1e-6f, .gamma = s->n->gamma};
}

static void prepare(side *s)
{
    const unsigned both = OPS_USE_VALUE | OPS_USE_OPERAND;
    ops_context *ctx = &s->ctx;
    int32_t t = s->batch.n_tokens, b = s->batch.n_sequences;
    ops_embedding words = {.word = {s->n->table, WORDS, D, OPS_F32}};
    s->states = ops_new(ctx, t, D, OPS_USE_VALUE);
    s->x = ops_new(ctx, t, D, OPS_USE_VALUE);
    s->h = ops_new(ctx, t, D, both);
    s->qkv = ops_new(ctx, t, 3 * D, OPS_USE_VALUE);
    s->context = ops_new(ctx, t, D, OPS_USE_OPERAND);
    s->inner = ops_new(ctx, t, F, OPS_USE_OPERAND);
    s->y = ops_new(ctx, b, D, OPS_USE_VALUE);
    s->g = ops_new(ctx, b, D, both);
    s->v = ops_new(ctx, b, D, OPS_USE_OPERAND);
    s->q = ops_new(ctx, b, D, OPS_USE_VALUE);
    s->inside = ops_new(ctx, b, F, OPS_USE_OPERAND);
    ops_embed_norm(ctx, &s->states, &words);
}

static void run_encoder_layer(side *s, int l)
{
    ops_context *ctx = &s->ctx;
    const layer *w = &s->encoder[l];
    const ops_norm norm = rms(s);
    const ops_attention attention = {.n_heads = HEADS,
                                     .head_width = HEAD_WIDTH,
                                     .scale = 0.125f, /* random weights are not scaled as T5's */
                                     .distance_bias = s->n->distances,
                                     .distance_span = TOKENS};
    ops_norm_rows(ctx, &s->h, &s->states, &norm);
    ops_linear_act(ctx, &s->qkv, &s->h, &w->qkv, OPS_IDENTITY);
    ops_attention_full(ctx, &s->context, &s->qkv, &attention);
    ops_linear_residual_norm(ctx, &s->h, &s->x, &s->context, &w->out, &s->states, &norm);
    ops_linear_act(ctx, &s->inner, &s->h, &w->ffn_in, OPS_RELU);
    ops_linear_residual_norm(ctx, &s->h, &s->x, &s->inner, &w->ffn_out, &s->x, &norm);
}

static void run_decoder_step(side *s)
{
    ops_context *ctx = &s->ctx;
    const ops_norm norm = rms(s);
    const ops_attention cross = {.n_heads = HEADS, .head_width = HEAD_WIDTH, .scale = 0.125f};
    ops_broadcast(ctx, &s->y, s->n->table);
    ops_norm_rows(ctx, &s->g, &s->y, &norm);
    for (int l = 0; l < s->n_layers; l++) {
        const layer *w = &s->decoder[l];
        const ops_fold fold = {.key = w->fold, .value = w->fold + D * D, .n = D, .d = D};
        ops_linear_act(ctx, &s->v, &s->g, &w->self_v, OPS_IDENTITY);
        ops_linear_residual_norm(ctx, &s->g, &s->y, &s->v, &w->self_o, &s->y, &norm);
        ops_linear_act(ctx, &s->q, &s->g, &w->cross_q, OPS_IDENTITY);
        ops_attention_rows_folded(ctx, &s->v, &s->q, &s->states, &fold, &cross);
        ops_linear_residual_norm(ctx, &s->g, &s->y, &s->v, &w->cross_o, &s->y, &norm);
        ops_linear_act(ctx, &s->inside, &s->g, &w->ffn_in, OPS_RELU);
        ops_linear_residual_norm(ctx, &s->g, &s->y, &s->inside, &w->ffn_out, &s->y, &norm);
    }
}

static void run_all(side *s)
{
    prepare(s);
    run_encoder_layer(s, 0);
    run_decoder_step(s);
}

/* ctx's backend, device, dtype and team are set. Runs both programs once. */
static crank_status side_open(side *s, const numbers *n, int n_layers, int32_t sequences,
                              int32_t tokens, crank_error *error)
{
    s->n = n;
    s->n_layers = n_layers;
    make_batch(s, sequences, tokens);
    CRANK_TRY(s->ctx.backend->memory_open(s->ctx.device, &s->block, place(s, NULL), error));
    place(s, s->block);
    s->ctx.dry = true;
    ops_begin(&s->ctx, &s->batch);
    run_all(s);
    CRANK_TRY(ops_end(&s->ctx, error));
    size_t bytes = s->ctx.workspace.peak;
    s->ctx.dry = false;
    CRANK_TRY(s->ctx.backend->context_open(&s->ctx, bytes, error));
    ops_begin(&s->ctx, &s->batch);
    run_all(s);
    return ops_end(&s->ctx, error);
}

static void side_close(side *s)
{
    if (s->ctx.workspace.base != NULL) s->ctx.backend->context_close(&s->ctx);
    if (s->block != NULL) s->ctx.backend->memory_close(s->ctx.device, s->block);
    free(s->arrays);
    *s = (side){0};
}

/* ---- check and time ---- */

/* The weights as the subject rounded them, for the reference. */
static numbers rounded(const side *subject)
{
    numbers n = *subject->n;
    const ops_linear *from[N_MATRICES] = {&subject->encoder[0].qkv, &subject->encoder[0].out,
                                          &subject->encoder[0].ffn_in,
                                          &subject->encoder[0].ffn_out};
    float *bias = cli_alloc(F, sizeof *bias);
    for (int i = 0; i < N_MATRICES; i++) {
        n.matrices[i] =
            cli_alloc((size_t)shapes[i][0] * (size_t)shapes[i][1], sizeof *n.matrices[i]);
        from[i]->layout->linear_unpack(n.matrices[i], bias, from[i]->blob, shapes[i][0],
                                       shapes[i][1], false);
    }
    free(bias);
    return n;
}

static double compare(const side *found, const side *expected)
{
    enum { N = CHECK_SEQUENCES * D };
    static float a[N], b[N];
    found->ctx.backend->read_f32((ops_context *)&found->ctx, a, &found->g);
    expected->ctx.backend->read_f32((ops_context *)&expected->ctx, b, &expected->g);
    return bench_worst_error(a, b, N);
}

static crank_status check(const bench_job *job, void *device, ops_dtype dtype, const numbers *n,
                          double *off, crank_error *error)
{
    side subject = {.ctx = {.backend = &ops_backend_cpu, .device = device, .dtype = dtype}};
    side reference = {.ctx = {.backend = &ops_backend_ref}};
    numbers seen = {0};
    void *opened = NULL;
    crank_status status = CRANK_OK;
    subject.ctx.team = job->team;
    CRANK_TRY_GOTO(ops_backend_ref.open(&opened, NULL, error));
    reference.ctx.device = opened;
    CRANK_TRY_GOTO(side_open(&subject, n, 1, CHECK_SEQUENCES, CHECK_TOKENS, error));
    seen = rounded(&subject);
    CRANK_TRY_GOTO(side_open(&reference, &seen, 1, CHECK_SEQUENCES, CHECK_TOKENS, error));
    /* the fold is f32 on both sides: the same numbers */
    for (size_t i = 0; i < 2 * (size_t)D * D; i++)
        reference.decoder[0].fold[i] = subject.decoder[0].fold[i];
    run_decoder_step(&reference);
    *off = compare(&subject, &reference);
out:
    for (int i = 0; i < N_MATRICES; i++) free(seen.matrices[i]);
    side_close(&subject);
    side_close(&reference);
    if (opened != NULL) ops_backend_ref.close(opened);
    return status;
}

#define MAX_ROUNDS 200

typedef struct medians {
    double encoder_us, step_us; /* of all encoder layers; of the step */
    int rounds;
} medians;

static medians time_turns(const bench_job *job, side *s)
{
    static double encoder[MAX_ROUNDS], step[MAX_ROUNDS];
    medians m = {0};
    int64_t end = clock_ns() + (int64_t)job->milliseconds * 1000000;
    while (m.rounds < MAX_ROUNDS && (m.rounds < 5 || clock_ns() < end)) {
        int64_t start = clock_ns();
        run_encoder_layer(s, m.rounds % LAYERS);
        int64_t middle = clock_ns();
        run_decoder_step(s);
        encoder[m.rounds] = (double)(middle - start) * LAYERS / 1e3;
        step[m.rounds++] = (double)(clock_ns() - middle) / 1e3;
    }
    qsort(encoder, (size_t)m.rounds, sizeof *encoder, samples_by_value);
    qsort(step, (size_t)m.rounds, sizeof *step, samples_by_value);
    m.encoder_us = encoder[m.rounds / 2];
    m.step_us = step[m.rounds / 2];
    return m;
}

static void print(const bench_job *job, ops_dtype dtype, const char *isa, double off,
                  const medians *m)
{
    const char *name = ops_dtypes[dtype].name;
    if (job->json) {
        printf("{\"op\":\"decoder_step\",\"dtype\":\"%s\",\"isa\":\"%s\",\"shape\":\"B %d S %d "
               "L %d\",\"model\":\"T5-base\",\"threads\":%d,\"correct\":%s,\"error\":",
               name, isa, SEQUENCES, TOKENS, LAYERS, job->threads, m != NULL ? "true" : "false");
        json_put_float(stdout, (float)off);
        if (m != NULL)
            printf(",\"median_us\":%.2f,\"encoder_us\":%.2f,\"runs\":%d,\"share_of_encoder\":%.4f",
                   m->step_us, m->encoder_us, m->rounds, m->step_us / m->encoder_us);
        puts("}");
    } else if (m == NULL) {
        printf("%-22s %-5s %-12s WRONG: off by %.2g of the root mean square, not timed\n",
               "decoder_step", name, isa, off);
    } else {
        printf("%-22s %-5s %-12s B %d S %-18d %10.1f us: %.1f %% of the encoder's %.1f us  "
               "T5-base\n",
               "decoder_step", name, isa, SEQUENCES, TOKENS, m->step_us,
               100 * m->step_us / m->encoder_us, m->encoder_us);
    }
    fflush(stdout);
}

crank_status bench_decoder_step(bench_job *job, void *device, ops_dtype dtype, const char *isa,
                                crank_error *error)
{
    numbers n = numbers_make();
    side s = {.ctx = {.backend = &ops_backend_cpu, .device = device, .dtype = dtype}};
    s.ctx.team = job->team;
    double off = 0;
    crank_status status = CRANK_OK;
    CRANK_TRY_GOTO(check(job, device, dtype, &n, &off, error));
    if (off <= bench_tolerance[dtype]) {
        CRANK_TRY_GOTO(side_open(&s, &n, LAYERS, SEQUENCES, TOKENS, error));
        medians m = time_turns(job, &s);
        print(job, dtype, isa, off, &m);
    } else {
        job->n_wrong++;
        print(job, dtype, isa, off, NULL);
    }
out:
    side_close(&s);
    numbers_free(&n);
    return status;
}
