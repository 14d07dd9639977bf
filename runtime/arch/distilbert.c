/* DistilBERT (Sanh et al. 2019): BERT's encoder under other names and without token types. The head
 * is pre_classifier, relu and classifier on the first token. The norms' epsilon is fixed. */
#include "runtime/arch/bert_like.h"

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
    {DENSE_W, "pre_classifier.weight", "D,D", 0, WITH_HEAD},
    {DENSE_B, "pre_classifier.bias", "D", 0, WITH_HEAD},
    {OUT_W, "classifier.weight", "N,D", 0, WITH_HEAD},
    {OUT_B, "classifier.bias", "N", 0, WITH_HEAD},
};
static const bind_table with_head = {rows, N_ROWS(rows), BERT_LIKE_FIELDS, "distilbert.|",
                                     "vocab_*"};
static const bind_table without_head = {rows, N_ROWS(rows), BERT_LIKE_FIELDS, "distilbert.|",
                                        "vocab_*|pre_classifier.*|classifier.*|linear.weight"};

static const bind_table *table(const model_reader *r, unsigned *conditions)
{
    *conditions = bert_like_conditions(r);
    return *conditions & WITH_HEAD ? &with_head : &without_head;
}

static crank_status configure(model_reader *r, crank_error *error)
{
    CRANK_TRY(model_sizes(r, error));
    r->model->tokens.n_types = 0;
    r->model->encoder.trace_projection = true;
    return model_activation(r->config, "activation", "gelu", &r->model->encoder.activation, error);
}

static crank_status declare(model_reader *r, crank_error *error)
{
    float epsilon;
    CRANK_TRY(bert_like_begin(r, 1e-12, PROJECT_NARROW, &epsilon, error));
    bert_like_layers(r, epsilon);
    bert_like_head(r, OPS_RELU);
    return CRANK_OK;
}

static const char *const model_types[] = {"distilbert", NULL};
const architecture architecture_distilbert = {
    .model_types = model_types, .configure = configure, .table = table, .declare = declare};
