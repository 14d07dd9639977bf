/* DistilBERT (Sanh et al. 2019): BERT's encoder under other names and without token types; the head
 * is pre_classifier, relu and classifier on the first token. */
#include "runtime/model.h"

enum {
    WORD,
    POSITION,
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
    PRE_W,
    PRE_B,
    CLASSIFIER_W,
    CLASSIFIER_B,
    N_FIELDS
};
enum { WITH_HEAD = 1 };

static const bind_row rows[] = {
    {WORD, "@embeddings.word_embeddings.weight", "V,D", 0, 0},
    {POSITION, "@embeddings.position_embeddings.weight", "P,D", 0, 0},
    {EMBEDDING_G, "@embeddings.LayerNorm.weight", "D", 0, 0},
    {EMBEDDING_B, "@embeddings.LayerNorm.bias", "D", 0, 0},
    {Q_W, "@transformer.layer.%d.attention.q_lin.weight", "D,D", 0, 0},
    {Q_B, "@transformer.layer.%d.attention.q_lin.bias", "D", 0, 0},
    {K_W, "@transformer.layer.%d.attention.k_lin.weight", "D,D", 0, 0},
    {K_B, "@transformer.layer.%d.attention.k_lin.bias", "D", 0, 0},
    {V_W, "@transformer.layer.%d.attention.v_lin.weight", "D,D", 0, 0},
    {V_B, "@transformer.layer.%d.attention.v_lin.bias", "D", 0, 0},
    {O_W, "@transformer.layer.%d.attention.out_lin.weight", "D,D", 0, 0},
    {O_B, "@transformer.layer.%d.attention.out_lin.bias", "D", 0, 0},
    {ATTN_G, "@transformer.layer.%d.sa_layer_norm.weight", "D", 0, 0},
    {ATTN_B, "@transformer.layer.%d.sa_layer_norm.bias", "D", 0, 0},
    {FFN_IN_W, "@transformer.layer.%d.ffn.lin1.weight", "F,D", 0, 0},
    {FFN_IN_B, "@transformer.layer.%d.ffn.lin1.bias", "F", 0, 0},
    {FFN_OUT_W, "@transformer.layer.%d.ffn.lin2.weight", "D,F", 0, 0},
    {FFN_OUT_B, "@transformer.layer.%d.ffn.lin2.bias", "D", 0, 0},
    {FFN_G, "@transformer.layer.%d.output_layer_norm.weight", "D", 0, 0},
    {FFN_B, "@transformer.layer.%d.output_layer_norm.bias", "D", 0, 0},
    {PRE_W, "pre_classifier.weight", "D,D", 0, WITH_HEAD},
    {PRE_B, "pre_classifier.bias", "D", 0, WITH_HEAD},
    {CLASSIFIER_W, "classifier.weight", "N,D", 0, WITH_HEAD},
    {CLASSIFIER_B, "classifier.bias", "N", 0, WITH_HEAD},
};
static const bind_table with_head = {rows, sizeof rows / sizeof rows[0], N_FIELDS, "distilbert.|",
                                     "vocab_*"};
static const bind_table without_head = {rows, sizeof rows / sizeof rows[0], N_FIELDS,
                                        "distilbert.|", "vocab_*|pre_classifier.*|classifier.*"};

static const bind_table *table(const model_reader *r, unsigned *conditions)
{
    bool vectors = model_wants_vectors(r);
    *conditions = vectors ? 0 : WITH_HEAD;
    return vectors ? &without_head : &with_head;
}

static crank_status configure(model_reader *r, crank_error *error)
{
    CRANK_TRY(model_sizes(r, error));
    r->model->tokens.n_types = 0;
    encoder *e = &r->model->encoder;
    return model_activation(r->config, "activation", "gelu", &e->activation, error);
}

static crank_status declare(model_reader *r, crank_error *error)
{
    crank_model *m = r->model;
    encoder *e = &m->encoder;
    const float epsilon = 1e-12f; /* fixed in the library, not in the config */
    bool vectors = model_wants_vectors(r);
    if (vectors) CRANK_TRY(model_vector_readout(r, error));
    e->trace_projection = true;
    e->first_row_only = m->readout.pool == OPS_POOL_FIRST;
    static const embedding_fields embedding = {WORD, POSITION, -1, EMBEDDING_G, EMBEDDING_B};
    model_embeddings(r, &embedding, e->width, OPS_NORM_LAYER, epsilon);
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
        model_layer(r, l, &layer, OPS_NORM_LAYER, epsilon);
    }
    if (vectors) return CRANK_OK;
    static const head_fields head = {.dense = PRE_W,
                                     .dense_bias = PRE_B,
                                     .activation = OPS_RELU,
                                     .norm = -1,
                                     .norm_bias = -1,
                                     .out = CLASSIFIER_W,
                                     .out_bias = CLASSIFIER_B};
    model_head(r, &head, e->width, (int32_t)r->dims.size['N']);
    return CRANK_OK;
}

static const char *const model_types[] = {"distilbert", NULL};
const architecture architecture_distilbert = {
    .model_types = model_types, .configure = configure, .table = table, .declare = declare};
