#include "support/ops_programs.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weights/dtype.h"

/* ---- random weights ----------------------------------------------------------------------------
 */

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9E3779B97F4A7C15u); /* splitmix64 (Steele et al. 2014) */
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* About normal, mean 0 and variance 1: the sum of four uniform numbers. */
static float next_normal(uint64_t *state)
{
    uint64_t bits = next_random(state);
    float sum = 0.0f;
    for (int i = 0; i < 4; i++) sum += (float)((bits >> (16 * i)) & 0xFFFF) / 65536.0f - 0.5f;
    return sum * 1.7320508f;
}

static void *must(void *pointer)
{
    if (pointer == NULL) {
        fprintf(stderr, "op tests: out of memory\n");
        abort();
    }
    return pointer;
}

void *material_take(material *m, size_t bytes)
{
    if ((size_t)m->n_allocations == sizeof m->allocations / sizeof m->allocations[0]) must(NULL);
    return m->allocations[m->n_allocations++] = must(calloc(1, bytes + 1));
}

static float *random_floats(material *m, size_t n, float center, float spread, uint64_t *state)
{
    float *values = material_take(m, n * sizeof *values);
    for (size_t i = 0; i < n; i++) values[i] = center + spread * next_normal(state);
    return values;
}

static void add_linear(material *m, int32_t n, int32_t k, bool gated, uint64_t *state)
{
    host_linear *l = &m->linears[m->n_linears++];
    *l = (host_linear){.n = n, .k = k, .gated = gated};
    l->weight = random_floats(m, (size_t)n * (size_t)k, 0.0f, 1.0f / sqrtf((float)k), state);
    if (!m->c.no_bias) l->bias = random_floats(m, (size_t)n, 0.0f, 0.3f, state);
}

static ops_norm make_norm(material *m, ops_norm_kind kind, int32_t width, uint64_t *state)
{
    if (kind == OPS_NORM_NONE) return (ops_norm){.width = width};
    ops_norm norm = {.kind = kind, .width = width, .epsilon = 1e-5f};
    norm.gamma = random_floats(m, (size_t)width, 1.0f, 0.2f, state);
    if (kind == OPS_NORM_LAYER && !m->c.no_bias)
        norm.beta = random_floats(m, (size_t)width, 0.0f, 0.2f, state);
    return norm;
}

/* Rows of zeros are legal inputs and the edge of every quantisation: row 3 is one. */
static void add_input(material *m, int slot, int32_t cols, uint64_t *state)
{
    float amplitude = m->c.amplitude != 0.0f ? m->c.amplitude : 1.0f;
    float *rows = random_floats(m, (size_t)m->n_rows * (size_t)cols, 0.0f, amplitude, state);
    if (m->n_rows > 3) memset(rows + 3 * (size_t)cols, 0, (size_t)cols * sizeof *rows);
    m->parts.input[slot] = (ops_lookup){rows, m->n_rows, cols, OPS_F32};
}

static ops_lookup make_table(material *m, int32_t rows, int32_t cols, ops_dtype type,
                             uint64_t *state)
{
    size_t n = (size_t)rows * (size_t)cols;
    float *values = random_floats(m, n, 0.0f, 1.0f, state);
    ops_lookup table = {values, rows, cols, type};
    if (type == OPS_F32) return table;
    uint16_t *bits = material_take(m, n * sizeof *bits);
    for (size_t i = 0; i < n; i++) {
        bits[i] = type == OPS_BF16 ? dtype_bf16_from_f32(values[i]) : dtype_f16_from_f32(values[i]);
    }
    table.data = bits;
    return table;
}

static void make_embedding(material *m, uint64_t *state)
{
    const ops_case *c = &m->c;
    ops_embedding *e = &m->parts.embedding;
    e->word = make_table(m, 50, c->k, c->table_dtype, state);
    if (!c->no_bias) { /* "no_bias" stands for a model without types and positions */
        e->type = make_table(m, 2, c->k, c->table_dtype, state);
        e->position = make_table(m, m->longest + 2, c->k, c->table_dtype, state);
    }
    e->norm = make_norm(m, c->norm, c->k, state);
    for (int32_t r = 0; r < m->n_rows; r++) {
        m->ids[r] = (int32_t)(next_random(state) % 50);
        m->types[r] = (int32_t)(next_random(state) % 2);
    }
}

#define RELATIVE_BUCKETS 24

static void make_attention(material *m, uint64_t *state)
{
    const ops_case *c = &m->c;
    ops_attention *a = &m->parts.attention;
    int32_t width = c->heads * c->head_width, reach = m->longest + 3;
    *a = (ops_attention){.n_heads = c->heads, .head_width = c->head_width, .window = c->window};
    a->scale = 1.0f / sqrtf((float)c->head_width * (c->relative != 0 ? 3.0f : 1.0f));
    if (c->distance_bias) {
        size_t n = (size_t)c->heads * (size_t)(2 * reach - 1);
        a->distance_bias = random_floats(m, n, 0.0f, 1.0f, state);
        a->distance_span = reach;
    }
    if (c->rope) {
        int32_t half = c->head_width / 2;
        float *tables = material_take(m, 2 * (size_t)reach * (size_t)half * sizeof(float));
        a->rope = (ops_rope){tables, tables + reach * half, reach};
        for (int32_t i = 0; i < reach * half; i++) {
            double angle = (i / half) * pow(10000.0, -2.0 * (i % half) / c->head_width);
            tables[i] = (float)cos(angle);
            tables[reach * half + i] = (float)sin(angle);
        }
    }
    if (c->relative != 0) {
        size_t n = RELATIVE_BUCKETS * (size_t)width;
        int32_t *index = material_take(m, (size_t)(2 * reach - 1) * sizeof *index);
        for (int32_t d = 1 - reach; d < reach; d++) {
            int32_t bucket = d + RELATIVE_BUCKETS / 2;
            if (bucket < 0) bucket = 0;
            if (bucket >= RELATIVE_BUCKETS) bucket = RELATIVE_BUCKETS - 1;
            index[d + reach - 1] = bucket;
        }
        m->index_entries = 2 * reach - 1;
        a->relative = (ops_relative){.index = index, .n_buckets = RELATIVE_BUCKETS, .span = reach};
        if (c->relative & RELATIVE_KEY) a->relative.key = random_floats(m, n, 0.0f, 1.0f, state);
        if (c->relative & RELATIVE_QUERY)
            a->relative.query = random_floats(m, n, 0.0f, 1.0f, state);
    }
}

static void make_fold(material *m, int32_t d, uint64_t *state)
{
    int32_t n = m->c.heads * m->c.head_width;
    float spread = 1.0f / sqrtf((float)d);
    size_t entries = (size_t)n * (size_t)d;
    m->parts.fold = (ops_fold){.n = n, .d = d};
    m->parts.fold.key = random_floats(m, entries, 0.0f, spread, state);
    m->parts.fold.value = random_floats(m, entries, 0.0f, spread, state);
    if (!m->c.no_bias) m->parts.fold.value_bias = random_floats(m, (size_t)n, 0.0f, 0.3f, state);
}

static void make_head(material *m, int32_t d_in, uint64_t *state)
{
    const ops_case *c = &m->c;
    int32_t width = c->d_dense > 0 ? c->d_dense : d_in;
    ops_head *head = &m->parts.head;
    *head = (ops_head){.activation = c->act, .d_in = d_in, .labels = c->labels};
    if (c->d_dense > 0) {
        size_t n = (size_t)width * (size_t)d_in;
        head->d_dense = width;
        head->dense = random_floats(m, n, 0.0f, 1.0f / sqrtf((float)d_in), state);
        if (!c->no_bias) head->dense_bias = random_floats(m, (size_t)width, 0.0f, 0.3f, state);
    }
    head->norm = make_norm(m, c->kind == CASE_HEAD ? c->norm : OPS_NORM_NONE, width, state);
    head->out = random_floats(m, (size_t)c->labels * (size_t)width, 0.0f,
                              1.0f / sqrtf((float)width), state);
    if (!c->no_bias) head->out_bias = random_floats(m, (size_t)c->labels, 0.0f, 0.3f, state);
}

#define CONSUMER_ROWS 24 /* outputs of the linear that reads an op's OPERAND form */

static void make_parts(material *m, uint64_t *state)
{
    const ops_case *c = &m->c;
    int32_t width = c->heads * c->head_width;
    switch (c->kind) {
    case CASE_EMBED:
        make_embedding(m, state);
        add_linear(m, CONSUMER_ROWS, c->k, false, state);
        break;
    case CASE_LINEAR:
        add_input(m, 0, c->k, state);
        add_linear(m, c->n, c->k, c->gated, state);
        break;
    case CASE_RESIDUAL:
        add_input(m, 0, c->k, state);
        add_input(m, 1, c->n, state);
        add_linear(m, c->n, c->k, false, state);
        m->parts.norm[0] = make_norm(m, c->norm, c->n, state);
        add_linear(m, CONSUMER_ROWS, c->n, false, state);
        break;
    case CASE_NORM:
        add_input(m, 0, c->k, state);
        m->parts.norm[0] = make_norm(m, c->norm, c->k, state);
        add_linear(m, CONSUMER_ROWS, c->k, false, state);
        break;
    case CASE_ATTENTION:
        add_input(m, 0, 3 * width, state);
        make_attention(m, state);
        add_linear(m, CONSUMER_ROWS, width, false, state);
        break;
    case CASE_ATTENTION_ROWS:
        add_input(m, 0, width, state);
        add_input(m, 1, 2 * width, state);
        make_attention(m, state);
        add_linear(m, CONSUMER_ROWS, width, false, state);
        break;
    case CASE_FOLDED:
        add_input(m, 0, width, state);
        add_input(m, 1, c->k, state);
        make_attention(m, state);
        make_fold(m, c->k, state);
        add_linear(m, CONSUMER_ROWS, width, false, state);
        break;
    case CASE_ADD_NORM:
        add_input(m, 0, c->k, state);
        add_input(m, 1, c->k, state);
        m->parts.norm[0] = make_norm(m, c->norm, c->k, state);
        add_linear(m, CONSUMER_ROWS, c->k, false, state);
        break;
    case CASE_AROUND:
        add_input(m, 0, c->k, state);
        add_linear(m, CONSUMER_ROWS, c->k * c->n, false, state);
        break;
    case CASE_GATHER:
        add_input(m, 0, c->k, state);
        add_linear(m, CONSUMER_ROWS, c->k, false, state);
        break;
    case CASE_BROADCAST:
        m->parts.row = random_floats(m, (size_t)c->k, 0.0f, 1.0f, state);
        add_linear(m, CONSUMER_ROWS, c->k, false, state);
        break;
    case CASE_HEAD:
        add_input(m, 0, c->k, state);
        make_head(m, c->k, state);
        break;
    case CASE_LAYER:
        add_input(m, 0, width, state);
        make_attention(m, state);
        add_linear(m, 3 * width, width, false, state);
        add_linear(m, width, width, false, state);
        add_linear(m, c->n, width, false, state);
        add_linear(m, width, c->n, false, state);
        add_linear(m, width, width, false, state);
        make_fold(m, width, state);
        m->parts.norm[0] = make_norm(m, OPS_NORM_LAYER, width, state);
        m->parts.norm[1] = make_norm(m, OPS_NORM_LAYER, width, state);
        make_head(m, width, state);
        break;
    case CASE_LAYER_PRENORM:
        add_input(m, 0, c->k, state);
        make_attention(m, state);
        add_linear(m, 3 * width, c->k, false, state);
        add_linear(m, c->k, width, false, state);
        add_linear(m, 2 * c->n, c->k, true, state);
        add_linear(m, c->k, c->n, false, state);
        for (int i = 0; i < 3; i++) m->parts.norm[i] = make_norm(m, c->norm, c->k, state);
        break;
    default: add_input(m, 0, c->k, state); break;
    }
}

void material_make(material *m, const ops_case *c, uint64_t seed)
{
    static const int32_t none[] = {-1};
    uint64_t state = seed;
    *m = (material){.c = *c};
    const int32_t *lengths = c->lengths != NULL ? c->lengths : none;
    m->n_sequences = c->n_rows;
    while (c->lengths != NULL && lengths[m->n_sequences] >= 0) m->n_sequences++;
    m->starts = material_take(m, ((size_t)m->n_sequences + 1) * sizeof(int32_t));
    for (int32_t b = 0; b < m->n_sequences; b++) {
        int32_t length = c->lengths != NULL ? lengths[b] : 1;
        m->starts[b + 1] = m->starts[b] + length;
        if (length > m->longest) m->longest = length;
    }
    m->n_rows = m->starts[m->n_sequences];
    size_t bytes = (size_t)m->n_rows * sizeof(int32_t);
    m->ids = material_take(m, bytes);
    m->types = material_take(m, bytes);
    m->positions = material_take(m, bytes);
    if (c->key_counts) m->key_counts = material_take(m, (size_t)m->n_sequences * sizeof(int32_t));
    for (int32_t b = 0; b < m->n_sequences; b++) {
        int32_t length = m->starts[b + 1] - m->starts[b];
        for (int32_t i = 0; i < length; i++) {
            m->ids[m->starts[b] + i] = m->starts[b] + i;
            m->positions[m->starts[b] + i] = i + 1;
        }
        /* from none of the keys to all of them */
        if (c->key_counts)
            m->key_counts[b] = b == 1 ? 0 : length - (int32_t)(next_random(&state) % 3) % length;
    }
    make_parts(m, &state);
}

void material_free(material *m)
{
    for (int i = 0; i < m->n_allocations; i++) free(m->allocations[i]);
    *m = (material){0};
}

double material_mflop(const material *m)
{
    double flop = 0;
    for (int i = 0; i < m->n_linears; i++) {
        flop += 2.0 * m->n_rows * m->linears[i].n * m->linears[i].k;
    }
    double width = (double)m->c.heads * m->c.head_width;
    for (int32_t b = 0; b < m->n_sequences; b++) {
        double length = m->starts[b + 1] - m->starts[b];
        bool full = m->c.kind == CASE_ATTENTION || m->c.kind >= CASE_LAYER;
        flop += 4.0 * width * length * (full ? length : 1);
    }
    flop += 4.0 * m->n_sequences * m->parts.fold.n * m->parts.fold.d;
    flop += 2.0 * m->n_sequences * m->parts.head.d_in * m->parts.head.d_dense;
    return (flop + 10.0 * m->n_rows * m->c.k) * 1e-6;
}

/* ---- programs ----------------------------------------------------------------------------------
 */

#define BOTH (OPS_USE_VALUE | OPS_USE_OPERAND)

/* Every tensor is taken before the first op runs, so that no op's scratch, which is released behind
 * it, has stood where a guard or an output is. */
static void guard(case_run *run)
{
    void *at = ops_take(run->ctx, GUARD_BYTES);
    if (!run->ctx->dry && at != NULL && run->n_guards < MAX_GUARDS)
        run->guards[run->n_guards++] = at;
}

static ops_tensor fresh(case_run *run, int32_t rows, int32_t cols, unsigned uses)
{
    guard(run);
    ops_tensor t = ops_new(run->ctx, rows, cols, uses);
    guard(run);
    return t;
}

static int32_t tokens(const case_run *run)
{
    return run->ctx->batch.n_tokens;
}

static int32_t sequences(const case_run *run)
{
    return run->ctx->batch.n_sequences;
}

static ops_tensor fresh_input(case_run *run, int slot)
{
    return fresh(run, tokens(run), run->parts->input[slot].cols, BOTH);
}

/* Any matrix comes into a backend as an embedding without a norm. */
static void fill(case_run *run, int slot, ops_tensor *x)
{
    ops_embedding e = {.word = run->parts->input[slot]};
    ops_embed_norm(run->ctx, x, &e);
    if (run->captured[slot] != NULL && !run->ctx->dry && run->ctx->failure == CRANK_OK)
        run->ctx->backend->read_f32(run->ctx, run->captured[slot], x);
}

static void output(case_run *run, const ops_tensor *t, bool per_sequence, case_kind kind)
{
    run->outputs[run->n_outputs++] =
        (case_output){.tensor = *t, .cols = t->cols, .per_sequence = per_sequence, .kind = kind};
}

static void host_output(case_run *run, int32_t cols, case_kind kind)
{
    run->outputs[run->n_outputs++] =
        (case_output){.host = run->host_out, .cols = cols, .per_sequence = true, .kind = kind};
}

/* An op's output has two forms: its VALUE is compared as it is, its OPERAND through `y`, what the
 * last linear makes of it. */
static void output_and_consumed(case_run *run, const ops_tensor *x, ops_tensor *y,
                                bool per_sequence, case_kind kind)
{
    output(run, x, per_sequence, kind);
    ops_linear_act(run->ctx, y, x, &run->parts->linear[run->m->n_linears - 1], OPS_IDENTITY);
    output(run, y, per_sequence, CASE_LINEAR);
}

static void run_embed(case_run *run)
{
    ops_tensor out = fresh(run, tokens(run), run->m->c.k, BOTH);
    ops_tensor y = fresh(run, tokens(run), CONSUMER_ROWS, OPS_USE_VALUE);
    ops_embed_norm(run->ctx, &out, &run->parts->embedding);
    output_and_consumed(run, &out, &y, false, CASE_EMBED);
}

static void run_linear(case_run *run)
{
    const ops_linear *w = &run->parts->linear[0];
    ops_tensor out = fresh(run, tokens(run), w->gated ? w->n / 2 : w->n, BOTH);
    ops_tensor x = fresh_input(run, 0);
    fill(run, 0, &x);
    ops_linear_act(run->ctx, &out, &x, w, run->m->c.act);
    output(run, &out, false, CASE_LINEAR);
}

static void run_residual(case_run *run)
{
    const case_parts *p = run->parts;
    case_alias alias = run->m->c.alias;
    ops_tensor out = fresh(run, tokens(run), run->m->c.n, BOTH);
    ops_tensor sum = fresh(run, tokens(run), run->m->c.n, OPS_USE_VALUE);
    ops_tensor y = fresh(run, tokens(run), CONSUMER_ROWS, OPS_USE_VALUE);
    ops_tensor x = fresh_input(run, 0), residual = fresh_input(run, 1);
    fill(run, 0, &x);
    fill(run, 1, &residual);
    if (alias == ALIAS_OUT) out = residual;
    if (alias == ALIAS_SUM_RESIDUAL) sum = residual;
    bool with_sum = alias == ALIAS_SUM_SEPARATE || alias == ALIAS_SUM_RESIDUAL;
    ops_linear_residual_norm(run->ctx, &out, with_sum ? &sum : NULL, &x, &p->linear[0], &residual,
                             &p->norm[0]);
    if (with_sum) output(run, &sum, false, CASE_RESIDUAL);
    output_and_consumed(run, &out, &y, false, CASE_RESIDUAL);
}

static void run_norm(case_run *run)
{
    ops_tensor out = fresh(run, tokens(run), run->m->c.k, BOTH);
    ops_tensor y = fresh(run, tokens(run), CONSUMER_ROWS, OPS_USE_VALUE);
    ops_tensor x = fresh_input(run, 0);
    fill(run, 0, &x);
    if (run->m->c.alias == ALIAS_OUT) out = x;
    ops_norm_rows(run->ctx, &out, &x, &run->parts->norm[0]);
    output_and_consumed(run, &out, &y, false, CASE_NORM);
}

static void run_add_norm(case_run *run)
{
    ops_tensor out = fresh(run, tokens(run), run->m->c.k, BOTH);
    ops_tensor y = fresh(run, tokens(run), CONSUMER_ROWS, OPS_USE_VALUE);
    ops_tensor x = fresh_input(run, 0), more = fresh_input(run, 1);
    fill(run, 0, &x);
    fill(run, 1, &more);
    if (run->m->c.alias == ALIAS_OUT) out = x;
    if (run->m->c.alias == ALIAS_SUM_RESIDUAL) out = more;
    ops_add_norm(run->ctx, &out, &x, &more, &run->parts->norm[0]);
    output_and_consumed(run, &out, &y, false, CASE_ADD_NORM);
}

static void run_attention(case_run *run)
{
    const ops_attention *a = &run->parts->attention;
    ops_tensor out = fresh(run, tokens(run), a->n_heads * a->head_width, BOTH);
    ops_tensor y = fresh(run, tokens(run), CONSUMER_ROWS, OPS_USE_VALUE);
    ops_tensor qkv = fresh_input(run, 0);
    fill(run, 0, &qkv);
    ops_attention_full(run->ctx, &out, &qkv, a);
    output_and_consumed(run, &out, &y, false, CASE_ATTENTION);
}

static void run_attention_rows(case_run *run)
{
    const ops_attention *a = &run->parts->attention;
    int32_t width = a->n_heads * a->head_width;
    ops_tensor out = fresh(run, sequences(run), width, BOTH);
    ops_tensor y = fresh(run, sequences(run), CONSUMER_ROWS, OPS_USE_VALUE);
    ops_tensor q = fresh(run, sequences(run), width, OPS_USE_VALUE);
    ops_tensor first = fresh_input(run, 0), other = fresh_input(run, 1);
    fill(run, 0, &first);
    fill(run, 1, &other);
    ops_gather_first(run->ctx, &q, &first);
    if (run->m->c.kind == CASE_FOLDED) {
        ops_attention_rows_folded(run->ctx, &out, &q, &other, &run->parts->fold, a);
    } else {
        ops_attention_rows(run->ctx, &out, &q, &other, a);
    }
    output_and_consumed(run, &out, &y, true, run->m->c.kind);
}

static void run_gather(case_run *run)
{
    ops_tensor out = fresh(run, sequences(run), run->m->c.k, BOTH);
    ops_tensor y = fresh(run, sequences(run), CONSUMER_ROWS, OPS_USE_VALUE);
    ops_tensor x = fresh_input(run, 0);
    fill(run, 0, &x);
    ops_gather_first(run->ctx, &out, &x);
    output_and_consumed(run, &out, &y, true, CASE_GATHER);
}

static void run_around(case_run *run)
{
    int32_t cols = run->m->c.k * run->m->c.n;
    ops_tensor out = fresh(run, tokens(run), cols, BOTH);
    ops_tensor y = fresh(run, tokens(run), CONSUMER_ROWS, OPS_USE_VALUE);
    ops_tensor x = fresh_input(run, 0);
    fill(run, 0, &x);
    ops_gather_around(run->ctx, &out, &x);
    output_and_consumed(run, &out, &y, false, CASE_AROUND);
}

static void run_pool(case_run *run)
{
    ops_tensor out = fresh(run, sequences(run), run->m->c.k, OPS_USE_VALUE);
    ops_tensor x = fresh_input(run, 0);
    fill(run, 0, &x);
    ops_pool(run->ctx, &out, &x, run->m->c.pool);
    output(run, &out, true, CASE_POOL);
}

static void run_broadcast(case_run *run)
{
    ops_tensor out = fresh(run, sequences(run), run->m->c.k, BOTH);
    ops_tensor y = fresh(run, sequences(run), CONSUMER_ROWS, OPS_USE_VALUE);
    ops_broadcast(run->ctx, &out, run->parts->row);
    output_and_consumed(run, &out, &y, true, CASE_BROADCAST);
}

static void run_head(case_run *run)
{
    ops_tensor first = fresh(run, sequences(run), run->m->c.k, OPS_USE_VALUE);
    ops_tensor x = fresh_input(run, 0);
    fill(run, 0, &x);
    ops_gather_first(run->ctx, &first, &x);
    ops_head_logits(run->ctx, run->host_out, &first, &run->parts->head);
    host_output(run, run->m->c.labels, CASE_HEAD);
}

static void run_vectors(case_run *run)
{
    ops_tensor first = fresh(run, sequences(run), run->m->c.k, OPS_USE_VALUE);
    ops_tensor x = fresh_input(run, 0);
    fill(run, 0, &x);
    ops_pool(run->ctx, &first, &x, OPS_POOL_FIRST);
    ops_vectors(run->ctx, run->host_out, &first, run->m->c.normalize);
    host_output(run, run->m->c.k, CASE_VECTORS);
}

/* BERT: one whole layer, then the last layer for the head's rows alone. */
static void run_layer(case_run *run)
{
    ops_context *ctx = run->ctx;
    const case_parts *p = run->parts;
    const ops_linear *w = p->linear;
    int32_t t = tokens(run), b = sequences(run), d = w[1].n, f = w[2].n;
    ops_tensor h = fresh(run, t, d, BOTH), qkv = fresh(run, t, 3 * d, OPS_USE_VALUE);
    ops_tensor mixed = fresh(run, t, d, OPS_USE_OPERAND), up = fresh(run, t, f, OPS_USE_OPERAND);
    ops_tensor first = fresh(run, b, d, BOTH), q = fresh(run, b, d, OPS_USE_VALUE);
    ops_tensor context = fresh(run, b, d, OPS_USE_OPERAND), g = fresh(run, b, d, BOTH);
    ops_tensor last_up = fresh(run, b, f, OPS_USE_OPERAND);
    ops_tensor x = fresh_input(run, 0);
    fill(run, 0, &x);
    ops_linear_act(ctx, &qkv, &x, &w[0], OPS_IDENTITY);
    ops_attention_full(ctx, &mixed, &qkv, &p->attention);
    ops_linear_residual_norm(ctx, &h, NULL, &mixed, &w[1], &x, &p->norm[0]);
    ops_linear_act(ctx, &up, &h, &w[2], OPS_GELU);
    ops_linear_residual_norm(ctx, &h, NULL, &up, &w[3], &h, &p->norm[1]);
    output(run, &h, false, CASE_LAYER);

    ops_gather_first(ctx, &first, &h);
    ops_linear_act(ctx, &q, &first, &w[4], OPS_IDENTITY);
    ops_attention_rows_folded(ctx, &context, &q, &h, &p->fold, &p->attention);
    ops_linear_residual_norm(ctx, &g, NULL, &context, &w[1], &first, &p->norm[0]);
    ops_linear_act(ctx, &last_up, &g, &w[2], OPS_GELU);
    ops_linear_residual_norm(ctx, &g, NULL, &last_up, &w[3], &g, &p->norm[1]);
    output(run, &g, true, CASE_LAYER);
    ops_head_logits(ctx, run->host_out, &g, &p->head);
    host_output(run, run->m->c.labels, CASE_LAYER);
}

static void run_layer_prenorm(case_run *run)
{
    ops_context *ctx = run->ctx;
    const case_parts *p = run->parts;
    const ops_linear *w = p->linear;
    int32_t t = tokens(run), d = w[1].n, inner = w[1].k, f = w[3].k;
    ops_tensor n = fresh(run, t, d, OPS_USE_OPERAND), y = fresh(run, t, d, OPS_USE_VALUE);
    ops_tensor qkv = fresh(run, t, 3 * inner, OPS_USE_VALUE);
    ops_tensor mixed = fresh(run, t, inner, OPS_USE_OPERAND);
    ops_tensor up = fresh(run, t, f, OPS_USE_OPERAND);
    ops_tensor pooled = fresh(run, sequences(run), d, OPS_USE_VALUE);
    ops_tensor x = fresh_input(run, 0);
    fill(run, 0, &x);
    ops_norm_rows(ctx, &n, &x, &p->norm[0]);
    ops_linear_act(ctx, &qkv, &n, &w[0], OPS_IDENTITY);
    ops_attention_full(ctx, &mixed, &qkv, &p->attention);
    ops_linear_residual_norm(ctx, &n, &x, &mixed, &w[1], &x, &p->norm[1]);
    ops_linear_act(ctx, &up, &n, &w[2], run->m->c.act);
    ops_linear_residual_norm(ctx, &y, &x, &up, &w[3], &x, &p->norm[2]);
    output(run, &x, false, CASE_LAYER_PRENORM);
    output(run, &y, false, CASE_LAYER_PRENORM);
    ops_pool(ctx, &pooled, &y, OPS_POOL_MEAN);
    ops_vectors(ctx, run->host_out, &pooled, true);
    host_output(run, d, CASE_LAYER_PRENORM);
}

/* Order of the tolerances: f32, bf16, f16, int8. bf16 and f16: operands rounded to 2^-9 and 2^-12
 * of themselves, and values too where a backend keeps them so; int8: operands to a step of
 * max|x| / 127 per row (about 0.03 for these inputs), while values stay f32 or 16 bit. Attention
 * in 16 bits rounds q, k, the probabilities and v: a score off by 2^-9 of several terms moves all
 * the weights of a row whose own scale (the tolerance's) is the mean of many values. */
const case_kind_row case_kinds[CASE_KINDS] = {
    [CASE_EMBED] = {"embed_norm", run_embed, {4e-6, 1.6e-2, 2e-3, 1.6e-2}},
    [CASE_LINEAR] = {"linear", run_linear, {4e-6, 2e-2, 3e-3, 8e-2}},
    [CASE_RESIDUAL] = {"linear_residual_norm", run_residual, {6e-6, 2e-2, 3e-3, 8e-2}},
    [CASE_NORM] = {"norm", run_norm, {4e-6, 1.6e-2, 2e-3, 1.6e-2}},
    [CASE_ATTENTION] = {"attention", run_attention, {6e-6, 6e-2, 8e-3, 6e-2}},
    [CASE_ATTENTION_ROWS] = {"attention_rows", run_attention_rows, {6e-6, 6e-2, 8e-3, 6e-2}},
    [CASE_FOLDED] = {"attention_rows_folded", run_attention_rows, {6e-6, 2e-2, 3e-3, 2e-2}},
    [CASE_ADD_NORM] = {"add_norm", run_add_norm, {4e-6, 1.6e-2, 2e-3, 1.6e-2}},
    [CASE_AROUND] = {"gather_around", run_around, {0, 0, 0, 0}},
    [CASE_GATHER] = {"gather_first", run_gather, {0, 0, 0, 0}},
    [CASE_POOL] = {"pool", run_pool, {4e-6, 8e-3, 1e-3, 8e-3}},
    [CASE_BROADCAST] = {"broadcast", run_broadcast, {0, 8e-3, 1e-3, 8e-3}},
    [CASE_HEAD] = {"head", run_head, {6e-6, 6e-6, 6e-6, 6e-6}},
    [CASE_VECTORS] = {"vectors", run_vectors, {4e-6, 4e-6, 4e-6, 4e-6}},
    [CASE_LAYER] = {"layer", run_layer, {2e-5, 6e-2, 8e-3, 2e-1}},
    [CASE_LAYER_PRENORM] = {"layer_prenorm", run_layer_prenorm, {2e-5, 6e-2, 8e-3, 2e-1}},
};
