/* RoBERTa (Liu et al. 2019), XLM-RoBERTa and CamemBERT: BERT's encoder with positions that start
 * after the pad id. The head is dense, tanh and out_proj on the first token. */
#include "runtime/arch/bert_like.h"

static const bind_row rows[] = {
    {WORD, "@embeddings.word_embeddings.weight", "V,D", 0, 0},
    {POSITION, "@embeddings.position_embeddings.weight", "P,D", 0, 0},
    {TYPE, "@embeddings.token_type_embeddings.weight", "T,D", 0, 0},
    {EMBEDDING_G, "@embeddings.LayerNorm.weight", "D", 0, 0},
    {EMBEDDING_B, "@embeddings.LayerNorm.bias", "D", 0, 0},
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
    {DENSE_W, "classifier.dense.weight", "D,D", 0, WITH_HEAD},
    {DENSE_B, "classifier.dense.bias", "D", 0, WITH_HEAD},
    {OUT_W, "classifier.out_proj.weight", "N,D", 0, WITH_HEAD},
    {OUT_B, "classifier.out_proj.bias", "N", 0, WITH_HEAD},
};
static const bind_table with_head = {rows, N_ROWS(rows), BERT_LIKE_FIELDS, "roberta.|",
                                     "lm_head.*|*pooler.*"};
static const bind_table without_head = {rows, N_ROWS(rows), BERT_LIKE_FIELDS, "roberta.|",
                                        "lm_head.*|*pooler.*|classifier.*|linear.weight"};

static const bind_table *table(const model_reader *r, unsigned *conditions)
{
    *conditions = bert_like_conditions(r);
    return *conditions & WITH_HEAD ? &with_head : &without_head;
}

static crank_status configure(model_reader *r, crank_error *error)
{
    CRANK_TRY(model_sizes(r, error));
    int32_t pad_id;
    CRANK_TRY(config_int_or(r->config, "pad_token_id", 0, 1 << 20, 1, &pad_id, error));
    CRANK_TRY(model_positions_after_pad(r, pad_id, error));
    return model_activation(r->config, "hidden_act", "gelu", &r->model->encoder.activation, error);
}

static crank_status declare(model_reader *r, crank_error *error)
{
    float epsilon;
    CRANK_TRY(bert_like_begin(r, 1e-12, PROJECT_NARROW, &epsilon, error));
    bert_like_layers(r, epsilon);
    bert_like_head(r, OPS_TANH);
    return CRANK_OK;
}

static const char *const model_types[] = {"roberta", "xlm-roberta", "camembert", NULL};
const architecture architecture_roberta = {
    .model_types = model_types, .configure = configure, .table = table, .declare = declare};
