/* MPNet (Song et al. 2020): BERT's encoder with one table of T5-like relative biases for all
 * layers, positions from 2 on whatever the pad id, no token types, and RoBERTa's head. */
#include "memory.h"
#include "runtime/arch/bert_like.h"

/* clang-format off */
static const bind_row rows[] = {
    EMBEDDINGS("D"),
    LINEAR(Q, "@encoder.layer.%d.attention.attn.q", "D", "D"),
    LINEAR(K, "@encoder.layer.%d.attention.attn.k", "D", "D"),
    LINEAR(V, "@encoder.layer.%d.attention.attn.v", "D", "D"),
    LINEAR(O, "@encoder.layer.%d.attention.attn.o", "D", "D"),
    NORM(ATTN, "@encoder.layer.%d.attention.LayerNorm", "D"),
    BERT_FFN,
    {EXTRA, "@encoder.relative_attention_bias.weight", "B,H", 0, 0},
    DENSE_HEAD,
};
/* clang-format on */
static const bind_table names = {.rows = rows,
                                 .n_rows = N_ROWS(rows),
                                 .n_fields = BERT_LIKE_FIELDS,
                                 .prefixes = "mpnet.|",
                                 .ignore = "lm_head.*|*pooler.*",
                                 .head = UNUSED_HEAD};

/* The library distributes distances over 32 buckets whatever the config says: a longer table has
 * rows that nothing reads. */
#define BUCKETS 32

typedef struct family {
    const float *bias; /* [H, 2*S - 1], shared by all layers */
    distance_bias_request request;
} family;

static crank_status configure(model_reader *r, crank_error *error)
{
    CRANK_TRY(model_sizes(r, error));
    family *f = r->model->family = mem_zero(1, sizeof *f);
    CRANK_CHECK(f != NULL, OUT_OF_MEMORY, error, "no memory for a model");
    CRANK_TRY(model_positions_after_pad(r, 1, error));
    int32_t n_buckets;
    CRANK_TRY(config_int_or(r->config, "relative_attention_num_buckets", BUCKETS, 4096, BUCKETS,
                            &n_buckets, error));
    r->dims.size['B'] = n_buckets;
    r->dims.size['H'] = r->model->encoder.heads;
    r->model->tokens.n_types = 0;
    return model_activation(r->config, "hidden_act", "gelu", &r->model->encoder.activation, error);
}

static crank_status declare(model_reader *r, crank_error *error)
{
    float epsilon;
    CRANK_TRY(bert_like_begin(r, 1e-12, PROJECT_NARROW, &epsilon, error));
    encoder *e = &r->model->encoder;
    family *f = r->model->family;
    int32_t span = r->model->tokens.max_tokens;
    f->request = (distance_bias_request){
        .n_buckets = BUCKETS, .max_distance = 128, .heads = e->heads, .span = span};
    model_distance_bias(r, &f->bias, "distance_bias", -1, EXTRA, &f->request);
    for (int l = 0; l < e->n_layers; l++) {
        model_plain_attention(r, l);
        e->layers[l].attention.distance_span = span;
        bert_like_layer(r, l, epsilon);
    }
    bert_like_head(r, OPS_TANH);
    return CRANK_OK;
}

static void share(crank_model *m)
{
    const family *f = m->family;
    for (int l = 0; l < m->encoder.n_layers; l++) {
        m->encoder.layers[l].attention.distance_bias = f->bias;
    }
}

static const char *const model_types[] = {"mpnet", NULL};
const architecture architecture_mpnet = {.model_types = model_types,
                                         .configure = configure,
                                         .names = &names,
                                         .conditions = bert_like_conditions,
                                         .declare = declare,
                                         .share = share};
