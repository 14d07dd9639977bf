/* NomicBERT (Nussbaum et al. 2024; nomic-embed-text): post-norm layers with rotary attention and a
 * gated FFN, whose activated half is fc12, no position table and usually no biases. The config is
 * the published code's (n_embd, rotary_emb_base) or transformers' (hidden_size, rope_parameters);
 * tensor names are those of the published files. */
#include <string.h>

#include "memory.h"
#include "runtime/arch/bert_like.h"

enum { GATE_W = EXTRA };

#define LAYER "@encoder.layers.%d."

/* clang-format off */
static const bind_row rows[] = {
    {WORD, "@embeddings.word_embeddings.weight", "V,D", 0, 0},
    {TYPE, "@embeddings.token_type_embeddings.weight", "T,D", 0, WITH_TYPES},
    NORM(EMBEDDING, "@emb_ln", "D"),
    {Q_W, LAYER "attn.Wqkv.weight", "3D,D", 0, 0},
    {Q_B, LAYER "attn.Wqkv.bias", "3D", BIND_OPTIONAL, 0},
    {O_W, LAYER "attn.out_proj.weight", "D,D", 0, 0},
    {O_B, LAYER "attn.out_proj.bias", "D", BIND_OPTIONAL, 0},
    NORM(ATTN, LAYER "norm1", "D"),
    {FFN_IN_W, LAYER "mlp.fc12.weight", "F,D", 0, 0},
    {GATE_W, LAYER "mlp.fc11.weight", "F,D", 0, 0},
    {FFN_OUT_W, LAYER "mlp.fc2.weight", "D,F", 0, 0},
    {FFN_OUT_B, LAYER "mlp.fc2.bias", "D", BIND_OPTIONAL, 0},
    NORM(FFN, LAYER "norm2", "D"),
    POOLER_HEAD("@pooler.dense"),
};
/* clang-format on */
static const bind_table names = {.rows = rows,
                                 .n_rows = N_ROWS(rows),
                                 .n_fields = BERT_LIKE_FIELDS,
                                 .prefixes = "nomic_bert.|",
                                 .ignore = "cls.*",
                                 .head = UNUSED_HEAD};

typedef struct family {
    rope_table rope; /* first: see bert_like_share_rope */
    double theta, epsilon;
} family;

/* What the published code can do besides, and the published models do not. */
static crank_status check_variant(const model_reader *r, crank_error *error)
{
    const config *c = r->config;
    static const char *const off[] = {"prenorm",        "causal",       "use_rms_norm",
                                      "parallel_block", "mlp_fc1_bias", "rotary_emb_interleaved"};
    for (size_t i = 0; i < sizeof off / sizeof off[0]; i++) {
        int on;
        CRANK_TRY(config_bool_or(c, off[i], 0, &on, error));
        CRANK_CHECK(!on, UNSUPPORTED, error, "%s: %s is true, expected false", config_name(c),
                    off[i]);
    }
    static const struct {
        const char *key;
        double expected;
    } numbers[] = {
        {"rotary_emb_fraction", 1}, {"rotary_scaling_factor", 0}, {"rotary_emb_scale_base", 0}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        double found;
        CRANK_TRY(config_number_or(c, numbers[i].key, 0, 1e9, numbers[i].expected, &found, error));
        CRANK_CHECK(found == numbers[i].expected, UNSUPPORTED, error, "%s: %s is %g, expected %s",
                    config_name(c), numbers[i].key, found, numbers[i].expected == 1 ? "1" : "none");
    }
    return model_plain_rope(r, "rope_parameters.rope_type", error);
}

static crank_status read_activation(const config *c, ops_activation *activation, crank_error *error)
{
    const char *gated;
    CRANK_TRY(config_string_or(c, "activation_function", "", &gated, error));
    if (strcmp(gated, "swiglu") == 0 || strcmp(gated, "geglu") == 0) {
        *activation = gated[0] == 's' ? OPS_SILU : OPS_GELU;
        return CRANK_OK;
    }
    CRANK_CHECK(gated[0] == '\0', UNSUPPORTED, error,
                "%s: activation_function is \"%s\", expected swiglu or geglu", config_name(c),
                gated);
    return model_activation(c, "hidden_act", "silu", activation, error);
}

static crank_status configure(model_reader *r, crank_error *error)
{
    CRANK_TRY(model_sizes(r, error));
    crank_model *m = r->model;
    const config *c = r->config;
    family *f = m->family = mem_zero(1, sizeof *f);
    CRANK_CHECK(f != NULL, OUT_OF_MEMORY, error, "no memory for a model");
    CRANK_TRY(config_int_or(c, "max_position_embeddings|n_positions", 8, 1 << 20, 2048,
                            &m->tokens.max_tokens, error));
    r->dims.size['P'] = 0; /* rotary: no table */
    CRANK_TRY(config_number_or(c, "rope_parameters.rope_theta|rotary_emb_base", 1, 1e12, 1000,
                               &f->theta, error));
    CRANK_TRY(config_number_or(c, "layer_norm_epsilon", 0, 1, 1e-12, &f->epsilon, error));
    CRANK_TRY(check_variant(r, error));
    return read_activation(c, &m->encoder.activation, error);
}

static crank_status declare(model_reader *r, crank_error *error)
{
    family *f = r->model->family;
    float epsilon;
    CRANK_TRY(bert_like_begin(r, f->epsilon, PROJECT_NARROW, &epsilon, error));
    model_rope(r, &f->rope, "rope", f->theta, 1);
    /* clang-format off */
    static const layer_fields fields = {
        .q = Q_W, .q_bias = Q_B, .k = -1, .k_bias = -1, .v = -1, .v_bias = -1, .fused_qkv = true,
        .out = O_W, .out_bias = O_B, .attn_gamma = ATTN_G, .attn_beta = ATTN_B,
        .ffn_in = FFN_IN_W, .ffn_in_bias = -1, .gated = true, .gate = GATE_W,
        .ffn_out = FFN_OUT_W, .ffn_out_bias = FFN_OUT_B, .ffn_gamma = FFN_G, .ffn_beta = FFN_B};
    /* clang-format on */
    bert_like_rotary_layers(r, &fields, epsilon);
    bert_like_head(r, OPS_TANH);
    return CRANK_OK;
}

static const char *const model_types[] = {"nomic_bert", NULL};
const architecture architecture_nomic = {.model_types = model_types,
                                         .configure = configure,
                                         .names = &names,
                                         .conditions = bert_like_conditions,
                                         .declare = declare,
                                         .share = bert_like_share_rope};
