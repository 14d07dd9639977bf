#include "support/ops_list.h"

#include <stdio.h>
#include <stdlib.h>

static const int32_t tail_rows[] = {0, 1, 7, 16, 48, 129};
#define N_TAILS 6

static const int32_t none[] = {-1}, one[] = {1, -1}, seven[] = {7, -1}, sixteen[] = {16, -1},
                     long_one[] = {512, -1}, ragged[] = {5, 1, 17, 64, 33, 2, -1},
                     longer[] = {129, 3, 128, 48, 16, 1, -1}, mixed[] = {300, 7, 257, -1};
static const int32_t *const length_sets[] = {none,   one,    seven, sixteen,
                                             ragged, longer, mixed, long_one};
#define N_LENGTH_SETS 8

static void add(ops_case_list *list, ops_case c)
{
    if (list->n == OPS_CASES_MAX) abort();
    list->cases[list->n++] = c;
}

static void add_linears(ops_case_list *list)
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

static void add_rows(ops_case_list *list)
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

static void add_heads(ops_case_list *list)
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
static void add_attention(ops_case_list *list, ops_case c)
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

static void add_attentions(ops_case_list *list)
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

static void add_layers(ops_case_list *list)
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
static void add_around(ops_case_list *list)
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

void ops_case_name(char *out, size_t bytes, const ops_case *c, const material *m)
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

void ops_list_cases(ops_case_list *list)
{
    add_linears(list);
    add_rows(list);
    add_heads(list);
    add_attentions(list);
    add_layers(list);
    add_around(list);
}
