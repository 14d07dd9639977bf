/* GTE "new" (Zhang et al. 2024; gte-multilingual-reranker, snowflake-m-v2): post-norm layers with
 * rotary attention and a gated FFN, no position table. The head is a pooler (dense, tanh) and a
 * classifier on the first token. Tensor names are those of the published files. */
#include <math.h>
#include <string.h>

#include "memory.h"
#include "runtime/arch/bert_like.h"

/* clang-format off */
static const bind_row rows[] = {
    {WORD, "@embeddings.word_embeddings.weight", "V,D", 0, 0},
    {TYPE, "@embeddings.token_type_embeddings.weight", "T,D", 0, WITH_TYPES},
    NORM(EMBEDDING, "@embeddings.LayerNorm", "D"),
    LINEAR(Q, "@encoder.layer.%d.attention.qkv_proj", "3D", "D"),
    LINEAR(O, "@encoder.layer.%d.attention.o_proj", "D", "D"),
    NORM(ATTN, "@encoder.layer.%d.attn_ln", "D"),
    {FFN_IN_W, "@encoder.layer.%d.mlp.up_gate_proj.weight", "2F,D", 0, 0},
    LINEAR(FFN_OUT, "@encoder.layer.%d.mlp.down_proj", "D", "F"),
    NORM(FFN, "@encoder.layer.%d.mlp_ln", "D"),
    POOLER_HEAD("@pooler.dense"),
};
/* clang-format on */
static const bind_table names = {.rows = rows,
                                 .n_rows = N_ROWS(rows),
                                 .n_fields = BERT_LIKE_FIELDS,
                                 .prefixes = "new.|gte.|",
                                 .ignore = "lm_head.*",
                                 .head = UNUSED_HEAD};

typedef struct family {
    rope_table rope; /* first: see bert_like_share_rope */
    double theta, divisor;
} family;

/* What the published code can do besides, and no published re-ranker does. */
static crank_status check_variant(const config *c, crank_error *error)
{
    const char *position, *norm;
    int logn, packed;
    CRANK_TRY(config_string_or(c, "position_embedding_type", "rope", &position, error));
    CRANK_TRY(config_string_or(c, "layer_norm_type", "layer_norm", &norm, error));
    CRANK_TRY(config_bool_or(c, "logn_attention_scale", 0, &logn, error));
    CRANK_TRY(config_bool_or(c, "pack_qkv", 1, &packed, error));
    CRANK_CHECK(strcmp(position, "rope") == 0, UNSUPPORTED, error,
                "%s: position_embedding_type is \"%s\", expected rope", config_name(c), position);
    CRANK_CHECK(strcmp(norm, "layer_norm") == 0, UNSUPPORTED, error,
                "%s: layer_norm_type is \"%s\", expected layer_norm", config_name(c), norm);
    CRANK_CHECK(!logn, UNSUPPORTED, error, "%s: logn_attention_scale is true, expected false",
                config_name(c));
    CRANK_CHECK(packed, UNSUPPORTED, error, "%s: pack_qkv is false, expected true", config_name(c));
    return CRANK_OK;
}

static crank_status configure(model_reader *r, crank_error *error)
{
    CRANK_TRY(model_sizes(r, error));
    crank_model *m = r->model;
    const config *c = r->config;
    family *f = m->family = mem_zero(1, sizeof *f);
    CRANK_CHECK(f != NULL, OUT_OF_MEMORY, error, "no memory for a model");
    r->dims.size['P'] = 0; /* rotary: no table */
    CRANK_TRY(config_number_or(c, "rope_parameters.rope_theta|rope_theta", 1, 1e12, 160000,
                               &f->theta, error));
    /* Scaling as the published code applies it, whatever the length: theta grows by the factor, and
     * every frequency shrinks by factor^(2/K). */
    double factor;
    const char *scaling;
    CRANK_TRY(
        config_string_or(c, "rope_scaling.type|rope_scaling.rope_type", "none", &scaling, error));
    CRANK_TRY(config_number_or(c, "rope_scaling.factor", 1e-3, 1e6, 1, &factor, error));
    CRANK_TRY(model_plain_rope(r, "rope_parameters.rope_type", error));
    CRANK_TRY(check_variant(c, error));
    bool ntk = strcmp(scaling, "ntk") == 0;
    CRANK_CHECK(ntk || strcmp(scaling, "none") == 0 || strcmp(scaling, "default") == 0, UNSUPPORTED,
                error, "%s: rope_scaling.type is \"%s\", expected ntk", config_name(c), scaling);
    f->divisor = ntk ? pow(factor, 2.0 / (double)m->encoder.head_width) : 1;
    if (ntk) f->theta *= factor;
    return model_activation(c, "hidden_act", "gelu", &m->encoder.activation, error);
}

static crank_status declare(model_reader *r, crank_error *error)
{
    family *f = r->model->family;
    float epsilon;
    CRANK_TRY(bert_like_begin(r, 1e-12, PROJECT_NARROW, &epsilon, error));
    model_rope(r, &f->rope, "rope", f->theta, f->divisor);
    /* clang-format off */
    static const layer_fields fields = {
        .q = Q_W, .q_bias = Q_B, .k = -1, .k_bias = -1, .v = -1, .v_bias = -1, .fused_qkv = true,
        .out = O_W, .out_bias = O_B, .attn_gamma = ATTN_G, .attn_beta = ATTN_B,
        .ffn_in = FFN_IN_W, .ffn_in_bias = -1, .gated = true, .gate_first = true, .gate = -1,
        .ffn_out = FFN_OUT_W, .ffn_out_bias = FFN_OUT_B, .ffn_gamma = FFN_G, .ffn_beta = FFN_B};
    /* clang-format on */
    bert_like_rotary_layers(r, &fields, epsilon);
    bert_like_head(r, OPS_TANH);
    return CRANK_OK;
}

static const char *const model_types[] = {"new", "gte", NULL};
const architecture architecture_gte = {.model_types = model_types,
                                       .configure = configure,
                                       .names = &names,
                                       .conditions = bert_like_conditions,
                                       .declare = declare,
                                       .share = bert_like_share_rope};
