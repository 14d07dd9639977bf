/* BERT (Devlin et al. 2019) in all its sizes: MiniLM, TinyBERT, BERT-base and -large. The head is
 * the pooler (dense, tanh) and a classifier on the first token. */
#include "runtime/arch/bert_like.h"

/* clang-format off */
static const bind_row rows[] = {
    EMBEDDINGS("D"),
    TOKEN_TYPES("D"),
    BERT_QKV,
    BERT_ATTENTION_OUT,
    BERT_FFN,
    POOLER_HEAD("@pooler.dense"),
};
/* clang-format on */
static const bind_table names = {.rows = rows,
                                 .n_rows = N_ROWS(rows),
                                 .n_fields = BERT_LIKE_FIELDS,
                                 .prefixes = "bert.|",
                                 .ignore = "cls.*",
                                 .head = UNUSED_HEAD};

static crank_status configure(model_reader *r, crank_error *error)
{
    CRANK_TRY(model_sizes(r, error));
    return model_activation(r->config, "hidden_act", "gelu", &r->model->encoder.activation, error);
}

static crank_status declare(model_reader *r, crank_error *error)
{
    return bert_like_declare(r, OPS_TANH, error);
}

static const char *const model_types[] = {"bert", NULL};
const architecture architecture_bert = {.model_types = model_types,
                                        .configure = configure,
                                        .names = &names,
                                        .conditions = bert_like_conditions,
                                        .declare = declare};
