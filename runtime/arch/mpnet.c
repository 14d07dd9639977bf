/* MPNet (Song et al. 2020): BERT's encoder with one table of T5-like relative biases for all
 * layers, positions from 2 on whatever the pad id, no token types, and RoBERTa's head. */
#include "memory.h"
#include "runtime/arch/bert_like.h"

static const bind_row rows[] = {
    {WORD, "@embeddings.word_embeddings.weight", "V,D", 0, 0},
    {POSITION, "@embeddings.position_embeddings.weight", "P,D", 0, 0},
    {EMBEDDING_G, "@embeddings.LayerNorm.weight", "D", 0, 0},
    {EMBEDDING_B, "@embeddings.LayerNorm.bias", "D", 0, 0},
    {Q_W, "@encoder.layer.%d.attention.attn.q.weight", "D,D", 0, 0},
    {Q_B, "@encoder.layer.%d.attention.attn.q.bias", "D", 0, 0},
    {K_W, "@encoder.layer.%d.attention.attn.k.weight", "D,D", 0, 0},
    {K_B, "@encoder.layer.%d.attention.attn.k.bias", "D", 0, 0},
    {V_W, "@encoder.layer.%d.attention.attn.v.weight", "D,D", 0, 0},
    {V_B, "@encoder.layer.%d.attention.attn.v.bias", "D", 0, 0},
    {O_W, "@encoder.layer.%d.attention.attn.o.weight", "D,D", 0, 0},
    {O_B, "@encoder.layer.%d.attention.attn.o.bias", "D", 0, 0},
    {ATTN_G, "@encoder.layer.%d.attention.LayerNorm.weight", "D", 0, 0},
    {ATTN_B, "@encoder.layer.%d.attention.LayerNorm.bias", "D", 0, 0},
    {FFN_IN_W, "@encoder.layer.%d.intermediate.dense.weight", "F,D", 0, 0},
    {FFN_IN_B, "@encoder.layer.%d.intermediate.dense.bias", "F", 0, 0},
    {FFN_OUT_W, "@encoder.layer.%d.output.dense.weight", "D,F", 0, 0},
    {FFN_OUT_B, "@encoder.layer.%d.output.dense.bias", "D", 0, 0},
    {FFN_G, "@encoder.layer.%d.output.LayerNorm.weight", "D", 0, 0},
    {FFN_B, "@encoder.layer.%d.output.LayerNorm.bias", "D", 0, 0},
    {EXTRA, "@encoder.relative_attention_bias.weight", "B,H", 0, 0},
    {DENSE_W, "classifier.dense.weight", "D,D", 0, WITH_HEAD},
    {DENSE_B, "classifier.dense.bias", "D", 0, WITH_HEAD},
    {OUT_W, "classifier.out_proj.weight", "N,D", 0, WITH_HEAD},
    {OUT_B, "classifier.out_proj.bias", "N", 0, WITH_HEAD},
};
static const bind_table with_head = {rows, N_ROWS(rows), BERT_LIKE_FIELDS, "mpnet.|",
                                     "lm_head.*|*pooler.*"};
static const bind_table without_head = {rows, N_ROWS(rows), BERT_LIKE_FIELDS, "mpnet.|",
                                        "lm_head.*|*pooler.*|classifier.*"};

static const bind_table *table(const model_reader *r, unsigned *conditions)
{
    *conditions = bert_like_conditions(r);
    return *conditions & WITH_HEAD ? &with_head : &without_head;
}

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

static void close_family(crank_model *m)
{
    mem_free(m->family);
}

static const char *const model_types[] = {"mpnet", NULL};
const architecture architecture_mpnet = {.model_types = model_types,
                                         .configure = configure,
                                         .table = table,
                                         .declare = declare,
                                         .share = share,
                                         .close = close_family};
