#include "runtime/arch/bert_like.h"

unsigned bert_like_conditions(const model_reader *r)
{
    unsigned conditions = model_wants_vectors(r) ? 0 : WITH_HEAD;
    int64_t embedding = r->dims.size['E'];
    if (embedding != 0 && embedding != r->dims.size['D']) conditions |= WITH_PROJECTION;
    if (r->model->tokens.n_types > 0) conditions |= WITH_TYPES;
    return conditions;
}

crank_status bert_like_begin(model_reader *r, double default_epsilon, bert_like_projection kind,
                             float *epsilon, crank_error *error)
{
    crank_model *m = r->model;
    encoder *e = &m->encoder;
    double value;
    CRANK_TRY(config_number_or(r->config, "layer_norm_eps", 0, 1, default_epsilon, &value, error));
    *epsilon = (float)value;
    if (model_wants_vectors(r)) CRANK_TRY(model_vector_readout(r, error));
    e->first_row_only = m->readout.pool == OPS_POOL_FIRST;
    int64_t narrow = r->dims.size['E'];
    int32_t width = narrow != 0 ? (int32_t)narrow : e->width;
    embedding_fields embedding = {WORD, POSITION, TYPE, EMBEDDING_G, EMBEDDING_B};
    if (r->dims.size['P'] == 0) embedding.position = -1;
    bool projected = width != e->width || kind == PROJECT_ALWAYS;
    bool norm_later = projected && kind == PROJECT_BEFORE_NORM;
    if (norm_later) embedding.gamma = embedding.beta = -1;
    model_embeddings(r, &embedding, width, norm_later ? OPS_NORM_NONE : OPS_NORM_LAYER, *epsilon);
    if (!projected) return CRANK_OK;
    if (norm_later) {
        model_norm(r, &e->project_norm, OPS_NORM_LAYER, "project_norm", -1, EMBEDDING_G,
                   EMBEDDING_B, e->width, *epsilon);
    }
    store_linear_spec project = {.name = "embeddings_project",
                                 .layer = -1,
                                 .rows = e->width,
                                 .cols = width,
                                 .n_parts = 1,
                                 .weights = {PROJECT_W},
                                 .biases = {PROJECT_B}};
    store_linear(&r->store, &e->project, &project);
    return CRANK_OK;
}

void bert_like_layer(model_reader *r, int l, float epsilon)
{
    /* clang-format off */
    static const layer_fields fields = {
        .q = Q_W, .q_bias = Q_B, .k = K_W, .k_bias = K_B, .v = V_W, .v_bias = V_B,
        .out = O_W, .out_bias = O_B, .attn_gamma = ATTN_G, .attn_beta = ATTN_B,
        .ffn_in = FFN_IN_W, .ffn_in_bias = FFN_IN_B, .gate = -1,
        .ffn_out = FFN_OUT_W, .ffn_out_bias = FFN_OUT_B, .ffn_gamma = FFN_G, .ffn_beta = FFN_B};
    /* clang-format on */
    model_layer(r, l, &fields, OPS_NORM_LAYER, epsilon);
}

void bert_like_layers(model_reader *r, float epsilon)
{
    for (int l = 0; l < r->model->encoder.n_layers; l++) {
        model_plain_attention(r, l);
        bert_like_layer(r, l, epsilon);
    }
}

void bert_like_rotary_layers(model_reader *r, const layer_fields *fields, float epsilon)
{
    encoder *e = &r->model->encoder;
    for (int l = 0; l < e->n_layers; l++) {
        model_plain_attention(r, l);
        e->layers[l].attention.rope.positions = r->model->tokens.max_tokens;
        model_layer(r, l, fields, OPS_NORM_LAYER, epsilon);
    }
}

void bert_like_share_rope(crank_model *m)
{
    const rope_table *rope = m->family;
    for (int l = 0; l < m->encoder.n_layers; l++) {
        m->encoder.layers[l].attention.rope.cos = rope->cosines;
        m->encoder.layers[l].attention.rope.sin = rope->sines;
    }
}

void bert_like_head(model_reader *r, ops_activation activation)
{
    if (model_wants_vectors(r)) return;
    head_fields head = {.dense = DENSE_W,
                        .dense_bias = DENSE_B,
                        .activation = activation,
                        .norm = -1,
                        .norm_bias = -1,
                        .out = OUT_W,
                        .out_bias = OUT_B};
    model_head(r, &head, r->model->encoder.width, (int32_t)r->dims.size['N']);
}

crank_status bert_like_declare(model_reader *r, ops_activation head, crank_error *error)
{
    float epsilon;
    CRANK_TRY(bert_like_begin(r, 1e-12, PROJECT_NARROW, &epsilon, error));
    bert_like_layers(r, epsilon);
    bert_like_head(r, head);
    return CRANK_OK;
}
