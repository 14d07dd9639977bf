#include "support/ops_cases.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "support/ops_list.h"

/* ---- one side ----------------------------------------------------------------------------------
 */

/* A backend with a case's weights in its memory. */
typedef struct side {
    const ops_backend *backend;
    void *device;
    ops_dtype dtype;
    const ops_layout *layout;
    uint8_t *stage; /* host copy of the block; NULL while measuring */
    uint8_t *block; /* the backend's memory */
    size_t used;
    size_t blob_offset[MAX_LINEARS];
    case_parts parts;
} side;

/* Room in the block, 64-byte aligned, a gap of NaN behind it. */
static size_t reserve(side *s, size_t bytes)
{
    size_t offset = s->used;
    s->used += (bytes + 63) / 64 * 64 + 64;
    return offset;
}

static const void *put(side *s, const void *data, size_t bytes)
{
    if (data == NULL) return NULL;
    size_t offset = reserve(s, bytes);
    if (s->stage != NULL) memcpy(s->stage + offset, data, bytes);
    return (const void *)((uintptr_t)s->block + offset);
}

static const float *put_floats(side *s, const float *data, int64_t n)
{
    return put(s, data, (size_t)n * sizeof(float));
}

static void put_lookup(side *s, ops_lookup *out, const ops_lookup *in)
{
    *out = *in;
    out->data =
        put(s, in->data, (size_t)in->rows * (size_t)in->cols * (size_t)ops_dtypes[in->dtype].bytes);
}

static void put_norm(side *s, ops_norm *out, const ops_norm *in)
{
    *out = *in;
    out->gamma = put_floats(s, in->gamma, in->width);
    out->beta = put_floats(s, in->beta, in->width);
}

static void put_parts(side *s, const material *m)
{
    const case_parts *in = &m->parts;
    case_parts *out = &s->parts;
    s->used = 0;
    *out = *in;
    for (int i = 0; i < MAX_INPUTS; i++) put_lookup(s, &out->input[i], &in->input[i]);
    put_lookup(s, &out->embedding.word, &in->embedding.word);
    put_lookup(s, &out->embedding.type, &in->embedding.type);
    put_lookup(s, &out->embedding.position, &in->embedding.position);
    put_norm(s, &out->embedding.norm, &in->embedding.norm);
    for (int i = 0; i < 4; i++) put_norm(s, &out->norm[i], &in->norm[i]);
    for (int i = 0; i < m->n_linears; i++) {
        const host_linear *l = &m->linears[i];
        size_t offset = s->blob_offset[i] = reserve(s, s->layout->linear_bytes(l->n, l->k));
        if (s->stage != NULL) {
            s->layout->linear_pack(s->stage + offset, l->weight, l->bias, l->n, l->k, l->gated);
        }
        out->linear[i] = (ops_linear){(const void *)((uintptr_t)s->block + offset), l->n, l->k,
                                      l->gated, s->layout};
    }
    const ops_attention *a = &in->attention;
    int64_t width = (int64_t)a->n_heads * a->head_width, half = a->head_width / 2;
    out->attention.distance_bias =
        put_floats(s, a->distance_bias, (int64_t)a->n_heads * (2 * a->distance_span - 1));
    out->attention.rope.cos = put_floats(s, a->rope.cos, a->rope.positions * half);
    out->attention.rope.sin = put_floats(s, a->rope.sin, a->rope.positions * half);
    out->attention.relative.key = put_floats(s, a->relative.key, a->relative.n_buckets * width);
    out->attention.relative.query = put_floats(s, a->relative.query, a->relative.n_buckets * width);
    out->attention.relative.index =
        put(s, a->relative.index, (size_t)m->index_entries * sizeof(int32_t));
    int64_t fold = (int64_t)in->fold.n * in->fold.d;
    out->fold.key = put_floats(s, in->fold.key, fold);
    out->fold.value = put_floats(s, in->fold.value, fold);
    out->fold.value_bias = put_floats(s, in->fold.value_bias, in->fold.n);
    int64_t inner = in->head.dense != NULL ? in->head.d_dense : in->head.d_in;
    out->head.dense = put_floats(s, in->head.dense, inner * in->head.d_in);
    out->head.dense_bias = put_floats(s, in->head.dense_bias, inner);
    put_norm(s, &out->head.norm, &in->head.norm);
    out->head.out = put_floats(s, in->head.out, in->head.labels * inner);
    out->head.out_bias = put_floats(s, in->head.out_bias, in->head.labels);
    out->row = put_floats(s, in->row, m->c.k);
}

static crank_status side_place(side *s, const material *m, crank_error *error)
{
    s->stage = s->block = NULL;
    put_parts(s, m);
    size_t bytes = s->used + 64;
    void *block;
    CRANK_TRY(s->backend->memory_open(s->device, &block, bytes, error));
    s->block = block;
    s->stage = aligned_alloc(64, (bytes + 63) / 64 * 64);
    CRANK_CHECK(s->stage != NULL, OUT_OF_MEMORY, error, "no memory for %zu bytes", bytes);
    memset(s->stage, 0xFF, bytes);
    put_parts(s, m);
    return s->backend->memory_write(s->device, s->block, s->stage, bytes, error);
}

static void side_release(side *s)
{
    free(s->stage);
    if (s->block != NULL) s->backend->memory_close(s->device, s->block);
    s->stage = s->block = NULL;
}

/* ---- one run -----------------------------------------------------------------------------------
 */

/* Which sequences of the base batch make up a batch, in which order; who computes. */
typedef struct arrangement {
    const char *name;
    int32_t n;
    const int32_t *order;
    team *team;
    int poison; /* what the workspace holds before: 0xFF is NaN in every float type */
} arrangement;

typedef struct result {
    float *values[MAX_OUTPUTS]; /* [rows, cols], in the arrangement's order */
    int32_t rows[MAX_OUTPUTS];
    case_output outputs[MAX_OUTPUTS];
    int n_outputs;
} result;

static void result_free(result *r)
{
    for (int i = 0; i < MAX_OUTPUTS; i++) free(r->values[i]);
    *r = (result){0};
}

typedef struct batch_arrays {
    ops_batch batch;
    int32_t *memory;
} batch_arrays;

static bool batch_make(batch_arrays *a, const material *m, const arrangement *how)
{
    int32_t n_tokens = 0, longest = 0;
    for (int32_t i = 0; i < how->n; i++) {
        int32_t length = m->starts[how->order[i] + 1] - m->starts[how->order[i]];
        n_tokens += length;
        if (length > longest) longest = length;
    }
    a->memory = malloc((3 * (size_t)n_tokens + 2 * (size_t)how->n + 1) * sizeof(int32_t));
    if (a->memory == NULL) return false;
    int32_t *ids = a->memory, *types = ids + n_tokens, *positions = types + n_tokens;
    int32_t *starts = positions + n_tokens, *keys = starts + how->n + 1;
    int32_t t = 0;
    starts[0] = 0;
    for (int32_t i = 0; i < how->n; i++) {
        int32_t b = how->order[i];
        if (m->key_counts != NULL) keys[i] = m->key_counts[b];
        for (int32_t row = m->starts[b]; row < m->starts[b + 1]; row++, t++) {
            ids[t] = m->ids[row];
            types[t] = m->types[row];
            positions[t] = m->positions[row];
        }
        starts[i + 1] = t;
    }
    a->batch = (ops_batch){how->n, n_tokens,  longest, ids,
                           types,  positions, starts,  m->key_counts != NULL ? keys : NULL};
    return true;
}

#define HOST_GUARD 16
#define HOST_GUARD_BITS 0x7FC12345u /* a NaN that no arithmetic makes */

static bool all_nan(const float *values, int n)
{
    for (int i = 0; i < n; i++) {
        if (!isnan(values[i])) return false;
    }
    return true;
}

/* True when the guard still holds what the workspace was filled with. */
static bool guard_holds(ops_context *ctx, void *at, int poison)
{
    if (ctx->backend->host_memory) {
        for (int i = 0; i < GUARD_BYTES; i++) {
            if (((const uint8_t *)at)[i] != poison) return false;
        }
        return true;
    }
    /* Device memory is seen through read_f32 only. A row of 64 f32 or 64 16-bit values starting
     * here stays inside the guard, and NaN bits are NaN in both. */
    if (poison != 0xFF) return true;
    float values[GUARD_BYTES / 4];
    ops_tensor t = {.rows = 1, .cols = GUARD_BYTES / 4, .uses = OPS_USE_VALUE, .value = at};
    ctx->backend->read_f32(ctx, values, &t);
    return all_nan(values, GUARD_BYTES / 4);
}

static crank_status poison_workspace(ops_context *ctx, size_t bytes, int poison, crank_error *error)
{
    uint8_t *fill = malloc(bytes);
    CRANK_CHECK(fill != NULL, OUT_OF_MEMORY, error, "no memory for %zu bytes", bytes);
    memset(fill, poison, bytes);
    crank_status status =
        ctx->backend->memory_write(ctx->device, ctx->workspace.base, fill, bytes, error);
    free(fill);
    return status;
}

static crank_status check_guards(case_run *run, int poison, void *behind, crank_error *error)
{
    for (int i = 0; i < run->n_guards; i++) {
        CRANK_CHECK(guard_holds(run->ctx, run->guards[i], poison), INTERNAL, error,
                    "guard band %d was written to", i);
    }
    CRANK_CHECK(guard_holds(run->ctx, behind, poison), INTERNAL, error,
                "memory behind the workspace was written to");
    return CRANK_OK;
}

/* Reads what the program left behind. Host outputs are read after ops_end by the caller. */
static crank_status read_outputs(case_run *run, result *r, crank_error *error)
{
    r->n_outputs = run->n_outputs;
    for (int i = 0; i < run->n_outputs; i++) {
        const case_output *o = &run->outputs[i];
        r->outputs[i] = *o;
        r->rows[i] = o->per_sequence ? run->ctx->batch.n_sequences : run->ctx->batch.n_tokens;
        size_t n = (size_t)r->rows[i] * (size_t)o->cols;
        r->values[i] = malloc((n + 1) * sizeof(float));
        CRANK_CHECK(r->values[i] != NULL, OUT_OF_MEMORY, error, "no memory for outputs");
        if (o->host == NULL && run->ctx->failure == CRANK_OK)
            run->ctx->backend->read_f32(run->ctx, r->values[i], &o->tensor);
    }
    return CRANK_OK;
}

static crank_status run_in_context(case_run *run, const ops_batch *batch, int poison,
                                   size_t workspace_bytes, result *r, crank_error *error)
{
    ops_context *ctx = run->ctx;
    CRANK_TRY(poison_workspace(ctx, workspace_bytes + GUARD_BYTES, poison, error));
    ctx->workspace.capacity = workspace_bytes;
    ops_begin(ctx, batch);
    case_kinds[run->m->c.kind].program(run);
    crank_status status = ctx->failure == CRANK_OK ? read_outputs(run, r, error) : CRANK_OK;
    if (status == CRANK_OK && ctx->failure == CRANK_OK)
        status = check_guards(run, poison, ctx->workspace.base + workspace_bytes, error);
    CRANK_TRY(ops_end(ctx, error));
    CRANK_TRY(status);
    CRANK_CHECK(ctx->workspace.peak == workspace_bytes, INTERNAL, error,
                "the run took %zu bytes of workspace, its dry run %zu", ctx->workspace.peak,
                workspace_bytes);
    return CRANK_OK;
}

/* Runs the case as arranged. captured: where the inputs are read back to, or NULL. */
static crank_status side_run(const side *s, const material *m, const arrangement *how,
                             float *const *captured, result *r, crank_error *error)
{
    batch_arrays arrays;
    CRANK_CHECK(batch_make(&arrays, m, how), OUT_OF_MEMORY, error, "no memory for a batch");
    int32_t host_cols =
        m->c.kind == CASE_VECTORS || m->c.kind == CASE_LAYER_PRENORM ? m->c.k : m->c.labels;
    size_t n_host = (size_t)how->n * (size_t)host_cols;
    float *host = malloc((n_host + 2 * HOST_GUARD) * sizeof *host);
    crank_status status = CRANK_OK;
    ops_context ctx = {.backend = s->backend, .device = s->device, .dtype = s->dtype};
    case_run dry = {.ctx = &ctx, .m = m, .parts = &s->parts};
    CRANK_CHECK_GOTO(host != NULL, OUT_OF_MEMORY, error, "no memory for outputs");
    const uint32_t guard_bits = HOST_GUARD_BITS;
    for (size_t i = 0; i < n_host + 2 * HOST_GUARD; i++) memcpy(&host[i], &guard_bits, 4);

    ctx.team = how->team;
    ctx.dry = true;
    ops_begin(&ctx, &arrays.batch);
    case_kinds[m->c.kind].program(&dry);
    CRANK_TRY_GOTO(ops_end(&ctx, error));
    size_t workspace_bytes = ctx.workspace.peak;

    ctx = (ops_context){.backend = s->backend, .device = s->device, .dtype = s->dtype};
    ctx.team = how->team;
    CRANK_TRY_GOTO(s->backend->context_open(&ctx, workspace_bytes + GUARD_BYTES, error));
    case_run run = {.ctx = &ctx, .m = m, .parts = &s->parts, .host_out = host + HOST_GUARD};
    for (int i = 0; captured != NULL && i < MAX_INPUTS; i++) run.captured[i] = captured[i];
    status = run_in_context(&run, &arrays.batch, how->poison, workspace_bytes, r, error);
    s->backend->context_close(&ctx);
    if (status != CRANK_OK) goto out;
    for (size_t i = 0; i < HOST_GUARD; i++) {
        CRANK_CHECK_GOTO(memcmp(&host[i], &guard_bits, 4) == 0 &&
                             memcmp(&host[HOST_GUARD + n_host + i], &guard_bits, 4) == 0,
                         INTERNAL, error, "memory beside the host output was written to");
    }
    for (int i = 0; i < r->n_outputs; i++) {
        if (r->outputs[i].host == NULL || n_host == 0) continue;
        memcpy(r->values[i], host + HOST_GUARD, n_host * sizeof *host);
    }
out:
    free(host);
    free(arrays.memory);
    return status;
}

/* ---- comparisons -------------------------------------------------------------------------------
 */

static crank_status compare(const result *found, const result *expected, const material *m,
                            ops_dtype dtype, double *worst, crank_error *error)
{
    for (int o = 0; o < found->n_outputs; o++) {
        const case_output *out = &found->outputs[o];
        size_t n = (size_t)found->rows[o] * (size_t)out->cols;
        double squares = 0;
        for (size_t i = 0; i < n; i++) {
            squares += (double)expected->values[o][i] * (double)expected->values[o][i];
        }
        double rms = n > 0 ? sqrt(squares / (double)n) : 0;
        double tolerance = case_kinds[out->kind].tolerance[dtype];
        if (m->c.slack != 0) tolerance *= m->c.slack;
        for (size_t i = 0; i < n; i++) {
            double e = (double)expected->values[o][i], f = (double)found->values[o][i];
            double allowed = tolerance * (rms + fabs(e)), difference = fabs(f - e);
            CRANK_CHECK(difference <= allowed, NUMERIC, error,
                        "output %d row %zu column %zu: expected %.9g, found %.9g (off by %.2g, "
                        "allowed %.2g)",
                        o, i / (size_t)out->cols, i % (size_t)out->cols, e, f, difference, allowed);
            if (allowed > 0 && difference / allowed > *worst) *worst = difference / allowed;
        }
    }
    return CRANK_OK;
}

/* Every sequence of `how` must have the bits that it had in the base batch. */
static crank_status compare_bits(const result *found, const result *base, const material *m,
                                 const arrangement *how, crank_error *error)
{
    for (int o = 0; o < found->n_outputs; o++) {
        const case_output *out = &found->outputs[o];
        int32_t row = 0;
        for (int32_t i = 0; i < how->n; i++) {
            int32_t b = how->order[i];
            int32_t first = out->per_sequence ? b : m->starts[b];
            int32_t rows = out->per_sequence ? 1 : m->starts[b + 1] - first;
            size_t cols = (size_t)out->cols;
            CRANK_CHECK(memcmp(found->values[o] + (size_t)row * cols,
                               base->values[o] + (size_t)first * cols,
                               (size_t)rows * cols * sizeof(float)) == 0,
                        NUMERIC, error, "%s: output %d of sequence %d has other bits", how->name, o,
                        b);
            row += rows;
        }
    }
    return CRANK_OK;
}

static crank_status check_arrangements(const side *s, const material *m, const result *base,
                                       team *two, crank_error *error)
{
    int32_t n = m->n_sequences;
    int32_t *orders = malloc((4 * (size_t)n + 4) * sizeof *orders);
    CRANK_CHECK(orders != NULL, OUT_OF_MEMORY, error, "no memory for an order");
    int32_t *same = orders, *reversed = same + n, *thinned = reversed + n, n_thinned = 0;
    for (int32_t i = 0; i < n; i++) {
        same[i] = i;
        reversed[i] = n - 1 - i;
    }
    for (int32_t i = 0; i < n; i += 3) { /* every third one, twice */
        thinned[n_thinned++] = i;
        thinned[n_thinned++] = i;
    }
    arrangement list[6] = {{"two threads", n, same, two, 0xFF},
                           {"reversed", n, reversed, NULL, 0x7F},
                           {"thinned out and doubled", n_thinned, thinned, two, 0xFF}};
    int n_list = 3;
    const int32_t picks[] = {0, n / 2, n - 1};
    for (int i = 0; n > 0 && i < 3; i++) {
        if (i > 0 && picks[i] == picks[i - 1]) continue;
        list[n_list++] = (arrangement){"alone", 1, &same[picks[i]], NULL, 0xFF};
    }
    crank_status status = CRANK_OK;
    for (int i = 0; i < n_list && status == CRANK_OK; i++) {
        result r = {0};
        status = side_run(s, m, &list[i], NULL, &r, error);
        if (status == CRANK_OK) status = compare_bits(&r, base, m, &list[i], error);
        if (status != CRANK_OK) status_prefix(error, status, "%s", list[i].name);
        result_free(&r);
    }
    free(orders);
    return status;
}

/* The expected side's material: the subject's weights unpacked, its inputs as it read them. */
static void as_seen_by(material *out, const material *m, const side *s, float *const *captured)
{
    *out = *m;
    for (int i = 0; i < m->n_linears; i++) {
        host_linear *l = &out->linears[i];
        l->weight = material_take(out, (size_t)l->n * (size_t)l->k * sizeof(float));
        l->bias = material_take(out, (size_t)l->n * sizeof(float));
        s->layout->linear_unpack(l->weight, l->bias, s->stage + s->blob_offset[i], l->n, l->k,
                                 l->gated);
    }
    for (int i = 0; i < MAX_INPUTS; i++) {
        if (captured[i] != NULL) out->parts.input[i].data = captured[i];
    }
}

static uint64_t digest(const result *r)
{
    uint64_t hash = 1;
    for (int i = 0; i < r->n_outputs; i++) {
        size_t n = (size_t)r->rows[i] * (size_t)r->outputs[i].cols;
        hash = XXH3_64bits_withSeed(r->values[i], n * sizeof(float), hash);
    }
    return hash;
}

static crank_status check_case(side *subject, side *expected, material *m, team *two, double *worst,
                               uint64_t *hash, crank_error *error)
{
    float *captured[MAX_INPUTS] = {0};
    for (int i = 0; i < MAX_INPUTS; i++) {
        if (m->parts.input[i].data == NULL) continue;
        size_t n = (size_t)m->n_rows * (size_t)m->parts.input[i].cols;
        captured[i] = material_take(m, n * sizeof(float));
    }
    int32_t *order = material_take(m, (size_t)m->n_sequences * sizeof *order);
    for (int32_t i = 0; i < m->n_sequences; i++) order[i] = i;
    arrangement base = {"base", m->n_sequences, order, NULL, 0xFF};
    result found = {0}, right = {0};
    crank_status status = CRANK_OK;
    CRANK_TRY_GOTO(side_place(subject, m, error));
    CRANK_TRY_GOTO(side_run(subject, m, &base, captured, &found, error));
    material seen;
    as_seen_by(&seen, m, subject, captured);
    m->n_allocations = seen.n_allocations; /* what `seen` took is freed with m */
    memcpy(m->allocations, seen.allocations, sizeof m->allocations);
    CRANK_TRY_GOTO(side_place(expected, &seen, error));
    CRANK_TRY_GOTO(side_run(expected, &seen, &base, NULL, &right, error));
    CRANK_TRY_GOTO(compare(&found, &right, m, subject->dtype, worst, error));
    CRANK_TRY_GOTO(check_arrangements(subject, m, &found, two, error));
    if (subject->backend->host_memory) {
        CRANK_CHECK_GOTO(memcmp(subject->block, subject->stage, subject->used) == 0, INTERNAL,
                         error, "weights were written to");
    }
    *hash = digest(&found);
out:
    result_free(&found);
    result_free(&right);
    side_release(subject);
    side_release(expected);
    return status;
}

/* ---- all cases ---------------------------------------------------------------------------------
 */

void ops_report_fail(ops_report *report, const char *format, ...)
{
    size_t used = strlen(report->failures);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(report->failures + used, sizeof report->failures - used, format, arguments);
    va_end(arguments);
    report->n_failed++;
}

static crank_status sides_open(const ops_subject *subject, side *s, side *e, crank_error *error)
{
    *s = (side){.backend = subject->backend, .dtype = subject->dtype};
    *e = (side){.backend = subject->expected, .dtype = OPS_F32};
    CRANK_TRY(s->backend->open(&s->device, &subject->options, error));
    s->layout = s->backend->layout(s->device, s->dtype);
    ops_device_options plain = {0};
    crank_status status = s->layout != NULL
                              ? e->backend->open(&e->device, &plain, error)
                              : status_fail(error, CRANK_UNSUPPORTED, "%s does not compute in %s",
                                            s->backend->name, ops_dtypes[s->dtype].name);
    if (status != CRANK_OK) {
        s->backend->close(s->device);
        return status;
    }
    e->layout = e->backend->layout(e->device, OPS_F32);
    return CRANK_OK;
}

static void run_cases(const ops_subject *subject, const ops_case_list *list, side *s, side *e,
                      team *two, ops_report *report)
{
    double worst[CASE_KINDS] = {0};
    for (int i = 0; i < list->n; i++) {
        const ops_case *c = &list->cases[i];
        material m;
        material_make(&m, c, (uint64_t)i + 1);
        ops_case_name(report->names[i], sizeof report->names[i], c, &m);
        crank_error error = {0};
        if ((subject->only != NULL && strstr(report->names[i], subject->only) == NULL) ||
            (subject->max_mflop > 0 && material_mflop(&m) > subject->max_mflop) ||
            (c->f32_only && subject->dtype != OPS_F32)) {
            report->n_skipped++;
        } else if (check_case(s, e, &m, two, &worst[c->kind], &report->digests[i], &error) !=
                   CRANK_OK) {
            ops_report_fail(report, "%s %s %s: %s\n", s->backend->name, ops_dtypes[s->dtype].name,
                            report->names[i], error.message);
        }
        material_free(&m);
    }
    report->n_cases += list->n;
    for (int kind = 0; kind < CASE_KINDS; kind++) {
        size_t used = strlen(report->worst);
        snprintf(report->worst + used, sizeof report->worst - used, "%s%s %.2f",
                 used > 0 ? ", " : "", case_kinds[kind].name, worst[kind]);
    }
}

crank_status ops_cases_run(const ops_subject *subject, ops_report *report, crank_error *error)
{
    side s, e;
    *report = (ops_report){0};
    CRANK_TRY(sides_open(subject, &s, &e, error));
    team *two = NULL;
    ops_case_list *list = calloc(1, sizeof *list);
    crank_status status = team_open(&two, 2, 0, error);
    if (status == CRANK_OK && list != NULL) {
        ops_list_cases(list);
        run_cases(subject, list, &s, &e, two, report);
    }
    free(list);
    team_close(two);
    s.backend->close(s.device);
    e.backend->close(e.device);
    return status;
}
