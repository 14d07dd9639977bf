/* ELECTRA (Clark et al. 2020): BERT's encoder after embeddings that may be narrower, projected up
 * after their norm. The head is dense, gelu and out_proj on the first token; no pooler. */
#include "runtime/arch/bert_like.h"

/* clang-format off */
static const bind_row rows[] = {
    EMBEDDINGS("E"),
    TOKEN_TYPES("E"),
    LINEAR_WHEN(PROJECT, "@embeddings_project", "D", "E", WITH_PROJECTION),
    BERT_QKV,
    BERT_ATTENTION_OUT,
    BERT_FFN,
    DENSE_HEAD,
};
/* clang-format on */
static const bind_table names = {.rows = rows,
                                 .n_rows = N_ROWS(rows),
                                 .n_fields = BERT_LIKE_FIELDS,
                                 .prefixes = "electra.|",
                                 .ignore = "discriminator_predictions.*",
                                 .head = UNUSED_HEAD};

static crank_status configure(model_reader *r, crank_error *error)
{
    CRANK_TRY(model_sizes(r, error));
    int32_t embedding, width = r->model->encoder.width;
    CRANK_TRY(config_int_or(r->config, "embedding_size", 1, 16384, width, &embedding, error));
    r->dims.size['E'] = embedding;
    return model_activation(r->config, "hidden_act", "gelu", &r->model->encoder.activation, error);
}

static crank_status declare(model_reader *r, crank_error *error)
{
    return bert_like_declare(r, OPS_GELU, error);
}

static const char *const model_types[] = {"electra", NULL};
const architecture architecture_electra = {.model_types = model_types,
                                           .configure = configure,
                                           .names = &names,
                                           .conditions = bert_like_conditions,
                                           .declare = declare};
