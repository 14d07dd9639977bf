/* ALBERT (Lan et al. 2020): narrow embeddings mapped up, then groups of BERT blocks whose weights
 * all layers of a group share. The head is a pooler (tanh) and a classifier on the first token. */
#include "memory.h"
#include "runtime/arch/bert_like.h"

/* clang-format off */
#define BLOCK "@encoder.albert_layer_groups.%g.albert_layers.%j."
static const bind_row rows[] = {
    EMBEDDINGS("E"),
    TOKEN_TYPES("E"),
    LINEAR(PROJECT, "@encoder.embedding_hidden_mapping_in", "D", "E"),
    LINEAR(Q, BLOCK "attention.query", "D", "D"),
    LINEAR(K, BLOCK "attention.key", "D", "D"),
    LINEAR(V, BLOCK "attention.value", "D", "D"),
    LINEAR(O, BLOCK "attention.dense", "D", "D"),
    NORM(ATTN, BLOCK "attention.LayerNorm", "D"),
    LINEAR(FFN_IN, BLOCK "ffn", "F", "D"),
    LINEAR(FFN_OUT, BLOCK "ffn_output", "D", "F"),
    NORM(FFN, BLOCK "full_layer_layer_norm", "D"),
    POOLER_HEAD("@pooler"),
};
/* clang-format on */
static const bind_table names = {.rows = rows,
                                 .n_rows = N_ROWS(rows),
                                 .n_fields = BERT_LIKE_FIELDS,
                                 .prefixes = "albert.|",
                                 .ignore = "predictions.*|sop_classifier.*",
                                 .head = UNUSED_HEAD};

/* Whose weights each layer has: the bind table's layer, group * inner_group_num + place in it. */
#define MAX_LAYERS 1024
typedef struct family {
    int source[MAX_LAYERS];
} family;

static crank_status configure(model_reader *r, crank_error *error)
{
    CRANK_TRY(model_sizes(r, error));
    crank_model *m = r->model;
    const config *c = r->config;
    family *f = m->family = mem_zero(1, sizeof *f);
    CRANK_CHECK(f != NULL, OUT_OF_MEMORY, error, "no memory for a model");
    int32_t embedding, groups, inner, n_layers = m->encoder.n_layers;
    CRANK_TRY(config_int_or(c, "embedding_size", 1, 16384, 128, &embedding, error));
    CRANK_TRY(config_int_or(c, "num_hidden_groups", 1, n_layers, 1, &groups, error));
    CRANK_TRY(config_int_or(c, "inner_group_num", 1, 256, 1, &inner, error));
    CRANK_CHECK(n_layers * inner <= MAX_LAYERS, UNSUPPORTED, error,
                "%s: num_hidden_layers times inner_group_num is %d, expected at most %d",
                config_name(c), n_layers * inner, MAX_LAYERS);
    r->dims.size['E'] = embedding;
    r->dims.size['J'] = inner;
    r->n_bound_layers = groups * inner;
    double in_group = (double)n_layers / (double)groups; /* as the library divides */
    for (int l = 0; l < n_layers; l++) {
        int group = (int)((double)l / in_group);
        for (int j = 0; j < inner; j++) f->source[l * inner + j] = group * inner + j;
    }
    if (inner > 1) CRANK_TRY(model_add_layers(m, n_layers * inner, error));
    return model_activation(r->config, "hidden_act", "gelu_new", &r->model->encoder.activation,
                            error);
}

static int first_use(const family *f, int layer)
{
    int l = 0;
    while (f->source[l] != f->source[layer]) l++;
    return l;
}

static crank_status declare(model_reader *r, crank_error *error)
{
    float epsilon;
    CRANK_TRY(bert_like_begin(r, 1e-12, PROJECT_ALWAYS, &epsilon, error));
    encoder *e = &r->model->encoder;
    const family *f = r->model->family;
    for (int l = 0; l < e->n_layers; l++) {
        model_plain_attention(r, l);
        bool last = l == e->n_layers - 1; /* may read the head's rows only: weights of its own */
        if (first_use(f, l) < l && !last) continue;
        r->store.source_layer = f->source[l];
        bert_like_layer(r, l, epsilon);
    }
    r->store.source_layer = -1;
    bert_like_head(r, OPS_TANH);
    return CRANK_OK;
}

static void share(crank_model *m)
{
    const family *f = m->family;
    for (int l = 1; l < m->encoder.n_layers - 1; l++) {
        m->encoder.layers[l] = m->encoder.layers[first_use(f, l)];
    }
}

static const char *const model_types[] = {"albert", NULL};
const architecture architecture_albert = {.model_types = model_types,
                                          .configure = configure,
                                          .names = &names,
                                          .conditions = bert_like_conditions,
                                          .declare = declare,
                                          .share = share};
