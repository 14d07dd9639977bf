#include "support/ops_cases.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "kernels/layouts.h"
#include "support/ops_programs.h"

/* ---- the cases ---------------------------------------------------------------------------------
 */

static const int32_t tail_rows[] = {0, 1, 7, 16, 48, 129};
#define N_TAILS 6

static const int32_t none[] = {-1}, one[] = {1, -1}, seven[] = {7, -1}, sixteen[] = {16, -1},
                     long_one[] = {512, -1}, ragged[] = {5, 1, 17, 64, 33, 2, -1},
                     longer[] = {129, 3, 128, 48, 16, 1, -1}, mixed[] = {300, 7, 257, -1};
static const int32_t *const length_sets[] = {none,   one,    seven, sixteen,
                                             ragged, longer, mixed, long_one};
#define N_LENGTH_SETS 8

typedef struct case_list {
    ops_case *cases;
    int n;
} case_list;

static void add(case_list *list, ops_case c)
{
    if (list->n == OPS_CASES_MAX) abort();
    list->cases[list->n++] = c;
}

static void add_linears(case_list *list)
{
    static const struct {
        int32_t n, k;
    } shapes[] = {{64, 64},    {112, 64},   {33, 17},    {7, 5},      {1, 3},
                  {128, 112},  {312, 312},  {1200, 312}, {312, 1200}, {384, 384},
                  {1536, 384}, {384, 1536}, {768, 768},  {1024, 1024}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        int32_t n = shapes[s].n, k = shapes[s].k;
        bool big = n * k > 130000;
        for (int t = 0; t < N_TAILS; t++) {
            if (big && t % 2 == 0) continue; /* T 1, 16, 129 */
            add(list, (ops_case){.kind = CASE_LINEAR, .n_rows = tail_rows[t], .n = n, .k = k});
            if (n > 1024 || t == 3) continue;
            static const ops_norm_kind norms[] = {OPS_NORM_LAYER, OPS_NORM_RMS, OPS_NORM_NONE};
            add(list, (ops_case){.kind = CASE_RESIDUAL,
                                 .n_rows = tail_rows[t],
                                 .n = n,
                                 .k = k,
                                 .alias = (case_alias)((t + (int)s) % 4),
                                 .norm = n == 1 ? OPS_NORM_NONE : norms[(s + (size_t)t) % 3]});
        }
    }
    add(list, (ops_case){.kind = CASE_LINEAR, .n_rows = 7, .n = 4096, .k = 1024});
    add(list,
        (ops_case){
            .kind = CASE_RESIDUAL, .n_rows = 7, .n = 1024, .k = 4096, .norm = OPS_NORM_LAYER});
    for (int act = 0; act < OPS_N_ACTIVATIONS; act++) {
        for (int i = 0; i < 4; i++) {
            static const int32_t rows[] = {7, 48, 1, 16};
            static const int32_t widths[] = {112, 96, 34, 1248};
            add(list, (ops_case){.kind = CASE_LINEAR,
                                 .n_rows = rows[i],
                                 .n = widths[i],
                                 .k = i == 3 ? 312 : 64,
                                 .act = (ops_activation)act,
                                 .gated = i % 2 == 1,
                                 .no_bias = i == 1});
        }
        /* Saturation: beyond what exp, erf and tanh can tell from their limits. tanh of a sum of
         * large terms is as exact as the sum, no more. */
        add(list, (ops_case){.kind = CASE_LINEAR,
                             .n_rows = 16,
                             .n = 80,
                             .k = 48,
                             .act = (ops_activation)act,
                             .amplitude = 60.0f,
                             .slack = act == OPS_TANH ? 60 : 1,
                             .f32_only = act == OPS_TANH});
    }
    for (int alias = 0; alias < 4; alias++) {
        for (int norm = 0; norm < 3; norm++) {
            add(list, (ops_case){.kind = CASE_RESIDUAL,
                                 .n_rows = 33,
                                 .n = 384,
                                 .k = 96,
                                 .alias = (case_alias)alias,
                                 .norm = (ops_norm_kind)norm,
                                 .no_bias = alias % 2 == 1});
        }
    }
}

static void add_rows(case_list *list)
{
    static const int32_t widths[] = {64, 128, 312, 384, 768, 1024, 5, 26, 100};
    for (size_t w = 0; w < sizeof widths / sizeof widths[0]; w++) {
        for (int t = 0; t < N_TAILS; t++) {
            if (w > 1 && w < 6 && t % 2 == 0) continue;
            add(list, (ops_case){.kind = CASE_NORM,
                                 .n_rows = tail_rows[t],
                                 .k = widths[w],
                                 .norm = t == 3 ? OPS_NORM_RMS : OPS_NORM_LAYER,
                                 .no_bias = t == 2,
                                 .alias = t % 2 == 1 ? ALIAS_OUT : ALIAS_NONE});
        }
        static const ops_dtype tables[] = {OPS_F32, OPS_BF16, OPS_F16};
        for (int i = 0; i < 3; i++) {
            add(list, (ops_case){.kind = CASE_EMBED,
                                 .lengths = i == 0 ? ragged : seven,
                                 .k = widths[w],
                                 .norm = i == 2 ? OPS_NORM_NONE : OPS_NORM_LAYER,
                                 .no_bias = i == 1,
                                 .table_dtype = tables[(w + (size_t)i) % 3]});
        }
        add(list, (ops_case){.kind = CASE_GATHER, .lengths = ragged, .k = widths[w]});
        for (int pool = 0; pool < 3; pool++) {
            add(list, (ops_case){.kind = CASE_POOL,
                                 .lengths = pool == 2 ? ragged : longer,
                                 .k = widths[w],
                                 .pool = (ops_pool_kind)pool});
        }
        add(list,
            (ops_case){
                .kind = CASE_VECTORS, .lengths = ragged, .k = widths[w], .normalize = w % 2 == 0});
        /* a row of zeros: row 3 */
        add(list, (ops_case){.kind = CASE_VECTORS, .n_rows = 5, .k = widths[w], .normalize = true});
    }
    static const case_kind empty[] = {CASE_EMBED, CASE_GATHER, CASE_POOL, CASE_HEAD, CASE_VECTORS};
    for (int i = 0; i < 5; i++)
        add(list, (ops_case){.kind = empty[i], .lengths = none, .k = 64, .labels = 2});
    for (int t = 0; t < N_TAILS; t++)
        add(list, (ops_case){.kind = CASE_BROADCAST, .n_rows = tail_rows[t], .k = 96});
    add(list, (ops_case){.kind = CASE_NORM, .n_rows = 7, .k = 64, .norm = OPS_NORM_NONE});
    for (int norm = OPS_NORM_LAYER; norm <= OPS_NORM_RMS; norm++) { /* epsilon decides */
        add(list, (ops_case){.kind = CASE_NORM,
                             .n_rows = 7,
                             .k = 64,
                             .norm = (ops_norm_kind)norm,
                             .amplitude = 0.003f});
    }
}

static void add_heads(case_list *list)
{
    static const struct {
        int32_t d_in, d_dense, labels;
        ops_activation act;
        ops_norm_kind norm;
    } rows[] = {
        {64, 64, 1, OPS_TANH, OPS_NORM_NONE},       {384, 384, 1, OPS_TANH, OPS_NORM_NONE},
        {96, 96, 3, OPS_GELU, OPS_NORM_NONE},       {768, 768, 1, OPS_GELU, OPS_NORM_LAYER},
        {128, 128, 5, OPS_RELU, OPS_NORM_NONE},     {312, 0, 2, OPS_IDENTITY, OPS_NORM_NONE},
        {64, 0, 1, OPS_GELU, OPS_NORM_LAYER},       {1024, 512, 2, OPS_SILU, OPS_NORM_RMS},
        {37, 19, 7, OPS_GELU_TANH, OPS_NORM_LAYER}, {128, 0, 64, OPS_IDENTITY, OPS_NORM_NONE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        add(list, (ops_case){.kind = CASE_HEAD,
                             .lengths = i % 2 == 0 ? ragged : NULL,
                             .n_rows = i % 2 == 0 ? 0 : tail_rows[i % N_TAILS],
                             .k = rows[i].d_in,
                             .d_dense = rows[i].d_dense,
                             .labels = rows[i].labels,
                             .act = rows[i].act,
                             .norm = rows[i].norm,
                             .no_bias = i % 3 == 2});
    }
}

/* Full attention, head rows, and head rows folded where that is legal, over one set of options. */
static void add_attention(case_list *list, ops_case c)
{
    c.kind = CASE_ATTENTION;
    add(list, c);
    c.kind = CASE_ATTENTION_ROWS;
    add(list, c);
    if (c.rope || c.relative != 0) return;
    c.kind = CASE_FOLDED;
    c.k = c.heads * c.head_width;
    add(list, c);
}

static void add_attentions(case_list *list)
{
    static const int32_t widths[] = {16, 26, 32, 64, 128, 5};
    for (int w = 0; w < 6; w++) {
        for (int l = 0; l < N_LENGTH_SETS; l++) {
            if (w > 2 && l > 4) continue;
            ops_case c = {.lengths = length_sets[l],
                          .heads = l > 5 ? 2 : 3,
                          .head_width = widths[w],
                          .key_counts = l == 4 && w % 2 == 1};
            add_attention(list, c);
        }
        ops_case c = {.lengths = ragged, .heads = 2, .head_width = widths[w]};
        ops_case option = c;
        option.window = 4;
        add_attention(list, option);
        option.key_counts = true;
        add_attention(list, option);
        option = c;
        option.key_counts = true;
        add_attention(list, option);
        option = c;
        option.distance_bias = true;
        add_attention(list, option);
        for (int relative = 1; relative <= 3; relative++) {
            option = c;
            option.relative = relative;
            option.key_counts = relative == 2;
            add_attention(list, option);
        }
        if (widths[w] % 2 != 0) continue;
        option = c;
        option.rope = true;
        add_attention(list, option);
        option.lengths = longer;
        option.window = 64;
        add_attention(list, option);
    }
    ops_case wide = {.lengths = mixed, .heads = 1, .head_width = 32, .window = 64};
    add_attention(list, wide);
    wide.distance_bias = true;
    wide.key_counts = true;
    wide.window = 0;
    add_attention(list, wide);
    /* scores of several hundred: the maximum must be subtracted */
    ops_case steep = {.lengths = ragged,
                      .heads = 2,
                      .head_width = 32,
                      .amplitude = 12.0f,
                      .slack = 60,
                      .f32_only = true};
    add_attention(list, steep);
    /* T5: inner width other than D; D as the fold's columns */
    add(list, (ops_case){.kind = CASE_FOLDED,
                         .lengths = longer,
                         .heads = 4,
                         .head_width = 16,
                         .k = 96,
                         .distance_bias = true,
                         .no_bias = true});
    add(list, (ops_case){
                  .kind = CASE_FOLDED, .lengths = ragged, .heads = 12, .head_width = 32, .k = 384});
}

static void add_layers(case_list *list)
{
    static const struct {
        int32_t heads, width, f;
    } models[] = {{4, 16, 112}, {1, 64, 130}, {3, 32, 200}, {12, 26, 1200}, {12, 32, 1536}};
    for (int i = 0; i < 5; i++) {
        add(list, (ops_case){.kind = CASE_LAYER,
                             .lengths = ragged,
                             .heads = models[i].heads,
                             .head_width = models[i].width,
                             .n = models[i].f,
                             .act = OPS_TANH,
                             .d_dense = models[i].heads * models[i].width,
                             .labels = i == 2 ? 3 : 1});
        add(list, (ops_case){.kind = CASE_LAYER_PRENORM,
                             .lengths = i == 3 ? longer : ragged,
                             .heads = models[i].heads,
                             .head_width = models[i].width,
                             .n = models[i].f / 2,
                             .k = i == 1 ? 96 : models[i].heads * models[i].width,
                             .act = i % 2 == 0 ? OPS_GELU : OPS_GELU_TANH,
                             .norm = i % 2 == 0 ? OPS_NORM_LAYER : OPS_NORM_RMS,
                             .rope = i % 2 == 0,
                             .window = i == 0 ? 8 : 0,
                             .distance_bias = i % 2 == 1,
                             .no_bias = true});
    }
    add(list, (ops_case){.kind = CASE_LAYER,
                         .lengths = none,
                         .heads = 4,
                         .head_width = 16,
                         .n = 112,
                         .act = OPS_TANH,
                         .d_dense = 64,
                         .labels = 1});
}

/* What a convolution over positions needs, and the poolings of few models. */
static void add_around(case_list *list)
{
    static const int32_t widths[] = {64, 312, 1536, 5, 26};
    for (size_t w = 0; w < sizeof widths / sizeof widths[0]; w++) {
        for (int alias = 0; alias < 4; alias++) {
            if (alias == ALIAS_SUM_SEPARATE) continue;
            add(list, (ops_case){.kind = CASE_ADD_NORM,
                                 .n_rows = tail_rows[(w + (size_t)alias) % N_TAILS],
                                 .k = widths[w],
                                 .norm = (ops_norm_kind)(alias % 2),
                                 .no_bias = w % 2 == 1,
                                 .alias = (case_alias)alias});
        }
        for (int32_t n = 1; n < 7 && widths[w] < 1000; n += 2) {
            add(list, (ops_case){.kind = CASE_AROUND,
                                 .lengths = n == 5 ? longer : ragged,
                                 .n = n,
                                 .k = widths[w]});
        }
    }
    for (int pool = OPS_POOL_LAST; pool < OPS_N_POOL_KINDS; pool++) {
        for (int w = 0; w < 6; w++) {
            add(list, (ops_case){.kind = CASE_POOL,
                                 .lengths = w % 2 == 0 ? longer : ragged,
                                 .k = w == 5 ? 384 : widths[w],
                                 .pool = (ops_pool_kind)pool});
        }
    }
    add(list, (ops_case){.kind = CASE_ADD_NORM, .n_rows = 7, .k = 128, .norm = OPS_NORM_RMS});
    add(list, (ops_case){.kind = CASE_AROUND, .lengths = none, .n = 3, .k = 64});
}

static void case_name(char *out, size_t bytes, const ops_case *c, const material *m)
{
    int used = snprintf(out, bytes, "%s B=%d T=%d S=%d", case_kinds[c->kind].name, m->n_sequences,
                        m->n_rows, m->longest);
    const struct {
        bool on;
        const char *format;
        int value;
    } parts[] = {
        {c->n != 0, " n=%d", c->n},
        {c->k != 0, " k=%d", c->k},
        {c->heads != 0, " H=%d", c->heads},
        {c->heads != 0, " K=%d", c->head_width},
        {c->act != 0, " act=%d", (int)c->act},
        {c->gated, " gated", 0},
        {c->no_bias, " nobias", 0},
        {c->norm != 0, " norm=%d", (int)c->norm},
        {c->alias != 0, " alias=%d", (int)c->alias},
        {c->window != 0, " w=%d", c->window},
        {c->relative != 0, " rel=%d", c->relative},
        {c->key_counts, " keys", 0},
        {c->distance_bias, " bias", 0},
        {c->rope, " rope", 0},
        {c->table_dtype != 0, " table=%d", (int)c->table_dtype},
        {c->pool != 0, " pool=%d", (int)c->pool},
        {c->labels != 0, " labels=%d", c->labels},
        {c->amplitude > 1.0f, " x%d", (int)c->amplitude},
        {c->amplitude > 0.0f && c->amplitude < 1.0f, " small", 0},
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && used < (int)bytes; i++) {
        if (parts[i].on)
            used += snprintf(out + used, bytes - (size_t)used, parts[i].format, parts[i].value);
    }
}

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

static void __attribute__((format(printf, 2, 3))) fail(ops_report *report, const char *format, ...)
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

static void run_cases(const ops_subject *subject, const case_list *list, side *s, side *e,
                      team *two, ops_report *report)
{
    double worst[CASE_KINDS] = {0};
    for (int i = 0; i < list->n; i++) {
        const ops_case *c = &list->cases[i];
        material m;
        material_make(&m, c, (uint64_t)i + 1);
        case_name(report->names[i], sizeof report->names[i], c, &m);
        crank_error error = {0};
        if ((subject->only != NULL && strstr(report->names[i], subject->only) == NULL) ||
            (subject->max_mflop > 0 && material_mflop(&m) > subject->max_mflop) ||
            (c->f32_only && subject->dtype != OPS_F32)) {
            report->n_skipped++;
        } else if (check_case(s, e, &m, two, &worst[c->kind], &report->digests[i], &error) !=
                   CRANK_OK) {
            fail(report, "%s %s %s: %s\n", s->backend->name, ops_dtypes[s->dtype].name,
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
    case_list list = {.cases = calloc(OPS_CASES_MAX, sizeof(ops_case))};
    crank_status status = team_open(&two, 2, 0, error);
    if (status == CRANK_OK && list.cases != NULL) {
        add_linears(&list);
        add_rows(&list);
        add_heads(&list);
        add_attentions(&list);
        add_layers(&list);
        add_around(&list);
        run_cases(subject, &list, &s, &e, two, report);
    }
    free(list.cases);
    team_close(two);
    s.backend->close(s.device);
    e.backend->close(e.device);
    return status;
}

/* ---- layouts -----------------------------------------------------------------------------------
 */

/* The largest error that storing in `dtype` may make in a row whose largest weight is `largest`. */
static double rounding(ops_dtype dtype, double value, double largest)
{
    switch (dtype) {
    case OPS_BF16: return fabs(value) / 256;
    case OPS_F16: return fabs(value) / 2048 + 3e-8;
    case OPS_INT8: return largest / 254 * 1.0001;
    default: return 0;
    }
}

static void check_layout(ops_report *report, const ops_layout *layout, int32_t n, int32_t k,
                         bool gated, bool with_bias)
{
    report->n_cases++;
    uint64_t entries = (uint64_t)n * (uint64_t)k;
    size_t bytes = layout->linear_bytes(n, k);
    if (bytes % 64 != 0) {
        fail(report, "%s [%d, %d]: %zu bytes is no multiple of 64\n", layout->name, n, k, bytes);
        return;
    }
    ops_case c = {.kind = CASE_LINEAR, .n = n, .k = k, .gated = gated, .no_bias = !with_bias};
    material m;
    material_make(&m, &c, entries);
    const host_linear *l = &m.linears[0];
    uint8_t *blobs = aligned_alloc(64, 2 * (bytes + 64));
    float *weight = material_take(&m, entries * sizeof *weight);
    float *bias = material_take(&m, (size_t)n * sizeof *bias);
    if (blobs == NULL) abort();
    uint8_t *second = blobs + bytes + 64;
    memset(blobs, 0xFF, bytes + 64);
    memset(second, 0x11, bytes + 64);
    layout->linear_pack(blobs, l->weight, l->bias, n, k, gated);
    layout->linear_pack(second, l->weight, l->bias, n, k, gated);
    if (memcmp(blobs, second, bytes) != 0)
        fail(report, "%s [%d, %d]: packing twice gives other bytes\n", layout->name, n, k);
    for (size_t i = 0; i < 64; i++) {
        if (blobs[bytes + i] == 0xFF && second[bytes + i] == 0x11) continue;
        fail(report, "%s [%d, %d]: packing wrote behind the blob\n", layout->name, n, k);
        break;
    }
    layout->linear_unpack(weight, bias, blobs, n, k, gated);
    for (int32_t r = 0; r < n; r++) {
        double largest = 0;
        for (int32_t j = 0; j < k; j++) {
            largest = fmax(largest, fabs((double)l->weight[(size_t)r * (size_t)k + (size_t)j]));
        }
        bool right = bias[r] == (l->bias != NULL ? l->bias[r] : 0.0f);
        for (int32_t j = 0; j < k; j++) {
            size_t at = (size_t)r * (size_t)k + (size_t)j;
            double value = (double)l->weight[at];
            if (!(fabs((double)weight[at] - value) <= rounding(layout->dtype, value, largest)))
                right = false;
        }
        if (right) continue;
        fail(report, "%s [%d, %d]%s: row %d does not come back\n", layout->name, n, k,
             gated ? " gated" : "", r);
        break;
    }
    free(blobs);
    material_free(&m);
}

void ops_cases_layouts(ops_report *report)
{
    static const int32_t shapes[][2] = {{1, 1},   {7, 5},     {64, 64},    {112, 64},
                                        {33, 17}, {312, 312}, {1200, 312}, {384, 1536}};
    *report = (ops_report){0};
    for (size_t i = 0; ops_layouts[i] != NULL; i++) {
        if (ops_layout_by_name(ops_layouts[i]->name) != ops_layouts[i])
            fail(report, "%s: two layouts have this name\n", ops_layouts[i]->name);
        for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
            int32_t n = shapes[s][0], k = shapes[s][1];
            check_layout(report, ops_layouts[i], n, k, false, s % 2 == 0);
            if (n % 2 == 0) check_layout(report, ops_layouts[i], n, k, true, s % 2 == 1);
        }
    }
    if (ops_layout_by_name("no-such-layout") != NULL) fail(report, "a name that is no layout\n");
}
