/* ModernBERT (Warner et al. 2024), also Ettin and gte-reranker-modernbert: pre-norm layers with
 * rotary attention, global every third layer and windowed between, a gated FFN, mostly no biases.
 * The head is dense (gelu), norm and classifier on the first token or on the mean of all. */
#include <jansson.h>
#include <string.h>

#include "memory.h"
#include "runtime/model.h"

enum {
    WORD,
    EMBEDDING_G,
    QKV_W,
    O_W,
    ATTN_G,
    FFN_IN_W,
    FFN_OUT_W,
    FFN_G,
    FINAL_G,
    DENSE_W,
    DENSE_B,
    NORM_G,
    CLASSIFIER_W,
    CLASSIFIER_B,
    EMBEDDING_B,
    QKV_B,
    O_B,
    ATTN_B,
    FFN_IN_B,
    FFN_OUT_B,
    FFN_B,
    FINAL_B,
    NORM_B,
    N_FIELDS
};
enum { WITH_HEAD = BIND_WITH_HEAD, ATTENTION_BIAS = 2, MLP_BIAS = 4, NORM_BIAS = 8 };

static const bind_row rows[] = {
    {WORD, "@embeddings.tok_embeddings.weight", "V,D", 0, 0},
    {EMBEDDING_G, "@embeddings.norm.weight", "D", 0, 0},
    {QKV_W, "@layers.%d.attn.Wqkv.weight", "3D,D", 0, 0},
    {O_W, "@layers.%d.attn.Wo.weight", "D,D", 0, 0},
    {ATTN_G, "@layers.%d.attn_norm.weight", "D", BIND_NOT_FIRST_LAYER, 0},
    {FFN_IN_W, "@layers.%d.mlp.Wi.weight", "2F,D", 0, 0},
    {FFN_OUT_W, "@layers.%d.mlp.Wo.weight", "D,F", 0, 0},
    {FFN_G, "@layers.%d.mlp_norm.weight", "D", 0, 0},
    {FINAL_G, "@final_norm.weight", "D", 0, 0},
    {DENSE_W, "head.dense.weight", "D,D", 0, WITH_HEAD},
    {DENSE_B, "head.dense.bias", "D", BIND_OPTIONAL, WITH_HEAD},
    {NORM_G, "head.norm.weight", "D", 0, WITH_HEAD},
    {CLASSIFIER_W, "classifier.weight", "N,D", 0, WITH_HEAD},
    {CLASSIFIER_B, "classifier.bias", "N", 0, WITH_HEAD},
    {EMBEDDING_B, "@embeddings.norm.bias", "D", 0, NORM_BIAS},
    {QKV_B, "@layers.%d.attn.Wqkv.bias", "3D", 0, ATTENTION_BIAS},
    {O_B, "@layers.%d.attn.Wo.bias", "D", 0, ATTENTION_BIAS},
    {ATTN_B, "@layers.%d.attn_norm.bias", "D", BIND_NOT_FIRST_LAYER, NORM_BIAS},
    {FFN_IN_B, "@layers.%d.mlp.Wi.bias", "2F", 0, MLP_BIAS},
    {FFN_OUT_B, "@layers.%d.mlp.Wo.bias", "D", 0, MLP_BIAS},
    {FFN_B, "@layers.%d.mlp_norm.bias", "D", 0, NORM_BIAS},
    {FINAL_B, "@final_norm.bias", "D", 0, NORM_BIAS},
    {NORM_B, "head.norm.bias", "D", 0, WITH_HEAD | NORM_BIAS},
};
static const bind_table names = {.rows = rows,
                                 .n_rows = sizeof rows / sizeof rows[0],
                                 .n_fields = N_FIELDS,
                                 .prefixes = "model.|",
                                 .ignore = "decoder.*",
                                 .head = "head.*|classifier.*|linear.weight"};

enum { GLOBAL, LOCAL, N_SPANS };

typedef struct family {
    bool local[256]; /* of each layer */
    int32_t window;
    unsigned biases; /* ATTENTION_BIAS, MLP_BIAS, NORM_BIAS */
    double theta[N_SPANS];
    rope_table rope[N_SPANS];
} family;

static unsigned conditions(const model_reader *r)
{
    const family *f = r->model->family;
    return f->biases | (model_wants_vectors(r) ? 0 : WITH_HEAD);
}

/* transformers 5 lists layer_types; before, every n-th layer from 0 on was global. */
static crank_status read_layer_types(model_reader *r, family *f, crank_error *error)
{
    int32_t every, n_layers = r->model->encoder.n_layers;
    CRANK_TRY(config_int_or(r->config, "global_attn_every_n_layers", 1, 256, 3, &every, error));
    const json_t *list = json_object_get(config_root(r->config), "layer_types");
    CRANK_CHECK(list == NULL || json_is_null(list) || json_array_size(list) == (size_t)n_layers,
                MODEL, error, "%s: layer_types: expected %d entries, found %zu",
                config_name(r->config), n_layers, json_array_size(list));
    for (int l = 0; l < n_layers; l++) {
        f->local[l] = l % every != 0;
        const char *type = json_string_value(json_array_get(list, (size_t)l));
        if (json_array_size(list) == 0) continue;
        f->local[l] = type != NULL && strcmp(type, "sliding_attention") == 0;
        CRANK_CHECK(f->local[l] || (type != NULL && strcmp(type, "full_attention") == 0),
                    UNSUPPORTED, error,
                    "%s: layer_types[%d] is \"%s\", expected full_attention or sliding_attention",
                    config_name(r->config), l, type != NULL ? type : "no string");
    }
    return CRANK_OK;
}

static crank_status configure(model_reader *r, crank_error *error)
{
    CRANK_TRY(model_sizes(r, error));
    crank_model *m = r->model;
    encoder *e = &m->encoder;
    const config *c = r->config;
    family *f = m->family = mem_zero(1, sizeof *f);
    CRANK_CHECK(f != NULL, OUT_OF_MEMORY, error, "no memory for a model");
    CRANK_TRY(model_activation(c, "hidden_activation|hidden_act", "gelu", &e->activation, error));
    CRANK_TRY(read_layer_types(r, f, error));
    int32_t local;
    CRANK_TRY(config_int_or(c, "local_attention", 2, 1 << 20, 128, &local, error));
    f->window = local / 2;
    CRANK_TRY(config_number_or(c, "rope_parameters.full_attention.rope_theta|global_rope_theta", 1,
                               1e12, 160000, &f->theta[GLOBAL], error));
    CRANK_TRY(config_number_or(c, "rope_parameters.sliding_attention.rope_theta|local_rope_theta",
                               1, 1e12, f->theta[GLOBAL], &f->theta[LOCAL], error));
    CRANK_TRY(model_plain_rope(r, "rope_parameters.full_attention.rope_type", error));
    CRANK_TRY(model_plain_rope(r, "rope_parameters.sliding_attention.rope_type", error));
    static const struct {
        const char *key;
        unsigned bit;
    } biases[] = {
        {"attention_bias", ATTENTION_BIAS}, {"mlp_bias", MLP_BIAS}, {"norm_bias", NORM_BIAS}};
    for (size_t i = 0; i < sizeof biases / sizeof biases[0]; i++) {
        int present;
        CRANK_TRY(config_bool_or(c, biases[i].key, 0, &present, error));
        if (present) f->biases |= biases[i].bit;
    }
    e->pre_norm = true;
    e->trace_projection = true;
    m->tokens.n_types = 0;
    return CRANK_OK;
}

static crank_status declare(model_reader *r, crank_error *error)
{
    crank_model *m = r->model;
    encoder *e = &m->encoder;
    family *f = m->family;
    double epsilon;
    const char *pooling;
    CRANK_TRY(config_number_or(r->config, "norm_eps|layer_norm_eps", 0, 1, 1e-5, &epsilon, error));
    CRANK_TRY(config_string_or(r->config, "classifier_pooling", "cls", &pooling, error));
    CRANK_CHECK(strcmp(pooling, "cls") == 0 || strcmp(pooling, "mean") == 0, UNSUPPORTED, error,
                "%s: classifier_pooling is \"%s\", expected cls or mean", config_name(r->config),
                pooling);
    bool vectors = model_wants_vectors(r);
    if (vectors) {
        CRANK_TRY(model_vector_readout(r, error));
    } else {
        m->readout.pool = strcmp(pooling, "mean") == 0 ? OPS_POOL_MEAN : OPS_POOL_FIRST;
    }
    e->first_row_only = m->readout.pool == OPS_POOL_FIRST;
    float eps = (float)epsilon;
    static const embedding_fields embedding = {WORD, -1, -1, EMBEDDING_G, EMBEDDING_B};
    model_embeddings(r, &embedding, e->width, OPS_NORM_LAYER, eps);
    model_rope(r, &f->rope[GLOBAL], "rope.global", f->theta[GLOBAL], 1);
    model_rope(r, &f->rope[LOCAL], "rope.local", f->theta[LOCAL], 1);
    layer_fields layer = {.q = QKV_W,
                          .q_bias = QKV_B,
                          .k = -1,
                          .k_bias = -1,
                          .v = -1,
                          .v_bias = -1,
                          .fused_qkv = true,
                          .out = O_W,
                          .out_bias = O_B,
                          .ffn_in = FFN_IN_W,
                          .ffn_in_bias = FFN_IN_B,
                          .gated = true,
                          .gate = -1,
                          .ffn_out = FFN_OUT_W,
                          .ffn_out_bias = FFN_OUT_B,
                          .ffn_gamma = FFN_G,
                          .ffn_beta = FFN_B};
    for (int l = 0; l < e->n_layers; l++) {
        model_plain_attention(r, l);
        e->layers[l].attention.window = f->local[l] ? f->window : 0;
        e->layers[l].attention.rope.positions = m->tokens.max_tokens;
        layer.attn_gamma = l == 0 ? -1 : ATTN_G; /* the embedding norm stands in for it */
        layer.attn_beta = l == 0 ? -1 : ATTN_B;
        model_layer(r, l, &layer, OPS_NORM_LAYER, eps);
    }
    model_norm(r, &e->final_norm, OPS_NORM_LAYER, "final_norm", -1, FINAL_G, FINAL_B, e->width,
               eps);
    if (vectors) return CRANK_OK;
    head_fields head = {.dense = DENSE_W,
                        .dense_bias = DENSE_B,
                        .norm = NORM_G,
                        .norm_bias = NORM_B,
                        .out = CLASSIFIER_W,
                        .out_bias = CLASSIFIER_B,
                        .norm_epsilon = eps};
    CRANK_TRY(
        model_activation(r->config, "classifier_activation", "gelu", &head.activation, error));
    model_head(r, &head, e->width, (int32_t)r->dims.size['N']);
    return CRANK_OK;
}

static void share(crank_model *m)
{
    const family *f = m->family;
    for (int l = 0; l < m->encoder.n_layers; l++) {
        ops_rope *rope = &m->encoder.layers[l].attention.rope;
        const rope_table *shared = &f->rope[f->local[l] ? LOCAL : GLOBAL];
        rope->cos = shared->cosines;
        rope->sin = shared->sines;
    }
}

static const char *const model_types[] = {"modernbert", NULL};
const architecture architecture_modernbert = {.model_types = model_types,
                                              .configure = configure,
                                              .names = &names,
                                              .conditions = conditions,
                                              .declare = declare,
                                              .share = share};
