/* RoBERTa (Liu et al. 2019), XLM-RoBERTa and CamemBERT: BERT's encoder with positions that start
 * after the pad id. The head is dense, tanh and out_proj on the first token. */
#include "runtime/arch/bert_like.h"

/* clang-format off */
static const bind_row rows[] = {
    EMBEDDINGS("D"),
    TOKEN_TYPES("D"),
    BERT_QKV,
    BERT_ATTENTION_OUT,
    BERT_FFN,
    DENSE_HEAD,
};
/* clang-format on */
static const bind_table names = {.rows = rows,
                                 .n_rows = N_ROWS(rows),
                                 .n_fields = BERT_LIKE_FIELDS,
                                 .prefixes = "roberta.|",
                                 .ignore = "lm_head.*|*pooler.*",
                                 .head = UNUSED_HEAD};

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
    return bert_like_declare(r, OPS_TANH, error);
}

static const char *const model_types[] = {"roberta", "xlm-roberta", "camembert", NULL};
const architecture architecture_roberta = {.model_types = model_types,
                                           .configure = configure,
                                           .names = &names,
                                           .conditions = bert_like_conditions,
                                           .declare = declare};
