/* DistilBERT (Sanh et al. 2019): BERT's encoder under other names and without token types. The head
 * is pre_classifier, relu and classifier on the first token. The norms' epsilon is fixed. */
#include "runtime/arch/bert_like.h"

/* clang-format off */
static const bind_row rows[] = {
    EMBEDDINGS("D"),
    LINEAR(Q, "@transformer.layer.%d.attention.q_lin", "D", "D"),
    LINEAR(K, "@transformer.layer.%d.attention.k_lin", "D", "D"),
    LINEAR(V, "@transformer.layer.%d.attention.v_lin", "D", "D"),
    LINEAR(O, "@transformer.layer.%d.attention.out_lin", "D", "D"),
    NORM(ATTN, "@transformer.layer.%d.sa_layer_norm", "D"),
    LINEAR(FFN_IN, "@transformer.layer.%d.ffn.lin1", "F", "D"),
    LINEAR(FFN_OUT, "@transformer.layer.%d.ffn.lin2", "D", "F"),
    NORM(FFN, "@transformer.layer.%d.output_layer_norm", "D"),
    POOLER_HEAD("pre_classifier"),
};
/* clang-format on */
static const bind_table names = {.rows = rows,
                                 .n_rows = N_ROWS(rows),
                                 .n_fields = BERT_LIKE_FIELDS,
                                 .prefixes = "distilbert.|",
                                 .ignore = "vocab_*",
                                 .head = "pre_classifier.*|" UNUSED_HEAD};

static crank_status configure(model_reader *r, crank_error *error)
{
    CRANK_TRY(model_sizes(r, error));
    r->model->tokens.n_types = 0;
    r->model->encoder.trace_projection = true;
    return model_activation(r->config, "activation", "gelu", &r->model->encoder.activation, error);
}

static crank_status declare(model_reader *r, crank_error *error)
{
    return bert_like_declare(r, OPS_RELU, error);
}

static const char *const model_types[] = {"distilbert", NULL};
const architecture architecture_distilbert = {.model_types = model_types,
                                              .configure = configure,
                                              .names = &names,
                                              .conditions = bert_like_conditions,
                                              .declare = declare};
