/* ELECTRA (Clark et al. 2020): BERT's encoder after embeddings that may be narrower (projected up
 * after their norm); the head is dense, gelu and out_proj on the first token, no pooler. */
#include "runtime/model.h"

enum {
    WORD,
    POSITION,
    TYPE,
    EMBEDDING_G,
    EMBEDDING_B,
    Q_W,
    Q_B,
    K_W,
    K_B,
    V_W,
    V_B,
    O_W,
    O_B,
    ATTN_G,
    ATTN_B,
    FFN_IN_W,
    FFN_IN_B,
    FFN_OUT_W,
    FFN_OUT_B,
    FFN_G,
    FFN_B,
    PROJECT_W,
    PROJECT_B,
    DENSE_W,
    DENSE_B,
    OUT_W,
    OUT_B,
    N_FIELDS
};
enum { WITH_HEAD = 1, WITH_PROJECTION = 2 };

static const bind_row rows[] = {
    {WORD, "@embeddings.word_embeddings.weight", "V,E", 0, 0},
    {POSITION, "@embeddings.position_embeddings.weight", "P,E", 0, 0},
    {TYPE, "@embeddings.token_type_embeddings.weight", "T,E", 0, 0},
    {EMBEDDING_G, "@embeddings.LayerNorm.weight", "E", 0, 0},
    {EMBEDDING_B, "@embeddings.LayerNorm.bias", "E", 0, 0},
    {Q_W, "@encoder.layer.%d.attention.self.query.weight", "D,D", 0, 0},
    {Q_B, "@encoder.layer.%d.attention.self.query.bias", "D", 0, 0},
    {K_W, "@encoder.layer.%d.attention.self.key.weight", "D,D", 0, 0},
    {K_B, "@encoder.layer.%d.attention.self.key.bias", "D", 0, 0},
    {V_W, "@encoder.layer.%d.attention.self.value.weight", "D,D", 0, 0},
    {V_B, "@encoder.layer.%d.attention.self.value.bias", "D", 0, 0},
    {O_W, "@encoder.layer.%d.attention.output.dense.weight", "D,D", 0, 0},
    {O_B, "@encoder.layer.%d.attention.output.dense.bias", "D", 0, 0},
    {ATTN_G, "@encoder.layer.%d.attention.output.LayerNorm.weight", "D", 0, 0},
    {ATTN_B, "@encoder.layer.%d.attention.output.LayerNorm.bias", "D", 0, 0},
    {FFN_IN_W, "@encoder.layer.%d.intermediate.dense.weight", "F,D", 0, 0},
    {FFN_IN_B, "@encoder.layer.%d.intermediate.dense.bias", "F", 0, 0},
    {FFN_OUT_W, "@encoder.layer.%d.output.dense.weight", "D,F", 0, 0},
    {FFN_OUT_B, "@encoder.layer.%d.output.dense.bias", "D", 0, 0},
    {FFN_G, "@encoder.layer.%d.output.LayerNorm.weight", "D", 0, 0},
    {FFN_B, "@encoder.layer.%d.output.LayerNorm.bias", "D", 0, 0},
    {PROJECT_W, "@embeddings_project.weight", "D,E", 0, WITH_PROJECTION},
    {PROJECT_B, "@embeddings_project.bias", "D", 0, WITH_PROJECTION},
    {DENSE_W, "classifier.dense.weight", "D,D", 0, WITH_HEAD},
    {DENSE_B, "classifier.dense.bias", "D", 0, WITH_HEAD},
    {OUT_W, "classifier.out_proj.weight", "N,D", 0, WITH_HEAD},
    {OUT_B, "classifier.out_proj.bias", "N", 0, WITH_HEAD},
};
static const bind_table with_head = {rows, sizeof rows / sizeof rows[0], N_FIELDS, "electra.|",
                                     "discriminator_predictions.*"};
static const bind_table without_head = {rows, sizeof rows / sizeof rows[0], N_FIELDS, "electra.|",
                                        "discriminator_predictions.*|classifier.*"};

static const bind_table *table(const model_reader *r, unsigned *conditions)
{
    bool vectors = model_wants_vectors(r);
    *conditions = vectors ? 0 : WITH_HEAD;
    if (r->dims.size['E'] != r->dims.size['D']) *conditions |= WITH_PROJECTION;
    return vectors ? &without_head : &with_head;
}

static crank_status configure(model_reader *r, crank_error *error)
{
    CRANK_TRY(model_sizes(r, error));
    encoder *e = &r->model->encoder;
    int32_t embedding;
    CRANK_TRY(config_int_or(r->config, "embedding_size", 1, 16384, e->width, &embedding, error));
    r->dims.size['E'] = embedding;
    return model_activation(r->config, "hidden_act", "gelu", &e->activation, error);
}

static crank_status declare(model_reader *r, crank_error *error)
{
    crank_model *m = r->model;
    encoder *e = &m->encoder;
    double epsilon;
    CRANK_TRY(config_number_or(r->config, "layer_norm_eps", 0, 1, 1e-12, &epsilon, error));
    bool vectors = model_wants_vectors(r);
    if (vectors) CRANK_TRY(model_vector_readout(r, error));
    e->first_row_only = m->readout.pool == OPS_POOL_FIRST;
    static const embedding_fields embedding = {WORD, POSITION, TYPE, EMBEDDING_G, EMBEDDING_B};
    int32_t embedding_width = (int32_t)r->dims.size['E'];
    model_embeddings(r, &embedding, embedding_width, OPS_NORM_LAYER, (float)epsilon);
    if (embedding_width != e->width) {
        store_linear_spec project = {.name = "embeddings_project",
                                     .layer = -1,
                                     .rows = e->width,
                                     .cols = embedding_width,
                                     .n_parts = 1,
                                     .weights = {PROJECT_W},
                                     .biases = {PROJECT_B}};
        store_linear(&r->store, &e->project, &project);
    }
    static const layer_fields layer = {.q = Q_W,
                                       .q_bias = Q_B,
                                       .k = K_W,
                                       .k_bias = K_B,
                                       .v = V_W,
                                       .v_bias = V_B,
                                       .out = O_W,
                                       .out_bias = O_B,
                                       .attn_gamma = ATTN_G,
                                       .attn_beta = ATTN_B,
                                       .ffn_in = FFN_IN_W,
                                       .ffn_in_bias = FFN_IN_B,
                                       .gate = -1,
                                       .ffn_out = FFN_OUT_W,
                                       .ffn_out_bias = FFN_OUT_B,
                                       .ffn_gamma = FFN_G,
                                       .ffn_beta = FFN_B};
    for (int l = 0; l < e->n_layers; l++) {
        model_plain_attention(r, l);
        model_layer(r, l, &layer, OPS_NORM_LAYER, (float)epsilon);
    }
    if (vectors) return CRANK_OK;
    static const head_fields head = {.dense = DENSE_W,
                                     .dense_bias = DENSE_B,
                                     .activation = OPS_GELU,
                                     .norm = -1,
                                     .norm_bias = -1,
                                     .out = OUT_W,
                                     .out_bias = OUT_B};
    model_head(r, &head, e->width, (int32_t)r->dims.size['N']);
    return CRANK_OK;
}

static const char *const model_types[] = {"electra", NULL};
const architecture architecture_electra = {
    .model_types = model_types, .configure = configure, .table = table, .declare = declare};
