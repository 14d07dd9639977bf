/* DeBERTa-v2 and -v3 (He et al. 2021): no absolute positions; every layer's scores add content to
 * position and position to content terms over log-bucketed distances. Both projections of the
 * relative embeddings depend on weights only and are made at load. The large v2 models add a
 * convolution of the embeddings to the first layer's output; it runs as a linear over neighbouring
 * rows. The head is the context pooler (dense, gelu) and a classifier on the first token. */
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "memory.h"
#include "runtime/arch/bert_like.h"
#include "runtime/positions.h"

enum {
    RELATIVE = EXTRA,
    RELATIVE_G = EXTRA_2,
    RELATIVE_B = EXTRA_3,
    POSITION_KEY_W = BERT_LIKE_FIELDS, /* v1's and some v2's: projections of their own */
    POSITION_KEY_B,
    POSITION_QUERY_W,
    POSITION_QUERY_B,
    CONVOLUTION_W,
    CONVOLUTION_B,
    CONVOLUTION_NORM_G,
    CONVOLUTION_NORM_B,
    N_FIELDS
};
enum {
    WITH_RELATIVE = 8,
    WITH_NORM = 16,
    WITH_POSITIONS = 32,
    OWN_KEY = 64,
    OWN_QUERY = 128,
    WITH_CONVOLUTION = 256,
};

/* clang-format off */
static const bind_row rows[] = {
    {WORD, "@embeddings.word_embeddings.weight", "V,E", 0, 0},
    {POSITION, "@embeddings.position_embeddings.weight", "P,E", 0, WITH_POSITIONS},
    {TYPE, "@embeddings.token_type_embeddings.weight", "T,E", 0, WITH_TYPES},
    NORM(EMBEDDING, "@embeddings.LayerNorm", "D"),
    {PROJECT_W, "@embeddings.embed_proj.weight", "D,E", 0, WITH_PROJECTION},
    {RELATIVE, "@encoder.rel_embeddings.weight", "R,D", 0, WITH_RELATIVE},
    {RELATIVE_G, "@encoder.LayerNorm.weight", "D", 0, WITH_NORM | WITH_RELATIVE},
    {RELATIVE_B, "@encoder.LayerNorm.bias", "D", 0, WITH_NORM | WITH_RELATIVE},
    LINEAR_WHEN(CONVOLUTION, "@encoder.conv.conv", "D", "C,W", WITH_CONVOLUTION),
    {CONVOLUTION_NORM_G, "@encoder.conv.LayerNorm.weight", "D", 0, WITH_CONVOLUTION},
    {CONVOLUTION_NORM_B, "@encoder.conv.LayerNorm.bias", "D", 0, WITH_CONVOLUTION},
    LINEAR(Q, BERT_SELF "query_proj", "D", "D"),
    LINEAR(K, BERT_SELF "key_proj", "D", "D"),
    LINEAR(V, BERT_SELF "value_proj", "D", "D"),
    LINEAR_WHEN(POSITION_KEY, BERT_SELF "pos_key_proj", "D", "D", OWN_KEY),
    LINEAR_WHEN(POSITION_QUERY, BERT_SELF "pos_query_proj", "D", "D", OWN_QUERY),
    BERT_ATTENTION_OUT,
    BERT_FFN,
    POOLER_HEAD("pooler.dense"),
};
/* clang-format on */
static const bind_table names = {
    .rows = rows,
    .n_rows = N_ROWS(rows),
    .n_fields = N_FIELDS,
    .prefixes = "deberta.|",
    .ignore = "lm_predictions.*|mask_predictions.*|cls.*|*encoder.LayerNorm.*",
    .head = UNUSED_HEAD};

/* What is computed from the weights at load, one request per layer and side. */
typedef struct projection {
    const model_reader *reader;
    int weight, bias, layer;
} projection;

typedef struct family {
    int32_t buckets; /* half the rows of the relative table: position_buckets, or every distance */
    int32_t max_position;
    bool relative;     /* any term over distances */
    bool by_logarithm; /* distances fall into buckets; else each has its row, up to the last */
    bool own_projections, positions;
    bool norm, content_to_position, position_to_content;
    ops_activation pooler;
    float epsilon;
    int32_t kernel, groups; /* of the convolution; kernel 0: none */
    ops_activation convolution_activation;
    projection *projections; /* [2 * L] */
    const int32_t *index;    /* [2*S - 1], shared */
    int32_t span;
} family;

static unsigned conditions(const model_reader *r)
{
    const family *f = r->model->family;
    unsigned bits = bert_like_conditions(r);
    if (f->norm) bits |= WITH_NORM;
    if (f->relative) bits |= WITH_RELATIVE;
    if (f->kernel != 0) bits |= WITH_CONVOLUTION;
    if (f->positions) bits |= WITH_POSITIONS;
    if (f->relative && f->own_projections && f->content_to_position) bits |= OWN_KEY;
    if (f->relative && f->own_projections && f->position_to_content) bits |= OWN_QUERY;
    return bits;
}

/* "p2c|c2p", or a list of the two since transformers 5. */
static bool lists_term(const config *c, const char *term)
{
    const json_t *value = json_object_get(config_root(c), "pos_att_type");
    if (json_is_string(value)) return strstr(json_string_value(value), term) != NULL;
    for (size_t i = 0; i < json_array_size(value); i++) {
        const char *item = json_string_value(json_array_get(value, i));
        if (item != NULL && strcmp(item, term) == 0) return true;
    }
    return false;
}

/* Even kernels have no padding that keeps the length; transformers cannot run them either. */
static crank_status read_convolution(const model_reader *r, family *f, crank_error *error)
{
    const config *c = r->config;
    int32_t width = r->model->encoder.width;
    CRANK_TRY(config_int_or(c, "conv_kernel_size", 0, 31, 0, &f->kernel, error));
    if (f->kernel == 0) return CRANK_OK;
    CRANK_CHECK(f->kernel % 2 == 1, UNSUPPORTED, error,
                "%s: conv_kernel_size is %d, expected an odd number", config_name(c), f->kernel);
    CRANK_TRY(config_int_or(c, "conv_groups", 1, width, 1, &f->groups, error));
    CRANK_CHECK(width % f->groups == 0, MODEL, error,
                "%s: hidden_size %d is not a multiple of conv_groups %d", config_name(c), width,
                f->groups);
    return model_activation(c, "conv_act", "tanh", &f->convolution_activation, error);
}

static crank_status read_variant(const model_reader *r, family *f, crank_error *error)
{
    const config *c = r->config;
    int relative, shared, biased;
    int32_t head_width, width = r->model->encoder.head_width;
    CRANK_TRY(config_bool_or(c, "relative_attention", 0, &relative, error));
    CRANK_TRY(config_bool_or(c, "share_att_key", 0, &shared, error));
    CRANK_TRY(config_bool_or(c, "position_biased_input", 1, &biased, error));
    CRANK_TRY(read_convolution(r, f, error));
    CRANK_TRY(config_int_or(c, "attention_head_size", 1, 1024, width, &head_width, error));
    CRANK_CHECK(head_width == width, UNSUPPORTED, error,
                "%s: attention_head_size is %d, expected hidden_size / num_attention_heads (%d)",
                config_name(c), head_width, width);
    f->relative = relative != 0;
    f->own_projections = !shared;
    f->positions = biased != 0;
    f->content_to_position = lists_term(c, "c2p");
    f->position_to_content = lists_term(c, "p2c");
    return CRANK_OK;
}

static crank_status configure(model_reader *r, crank_error *error)
{
    CRANK_TRY(model_sizes(r, error));
    crank_model *m = r->model;
    const config *c = r->config;
    family *f = m->family = mem_zero(1, sizeof *f);
    CRANK_CHECK(f != NULL, OUT_OF_MEMORY, error, "no memory for a model");
    CRANK_TRY(read_variant(r, f, error));
    int32_t embedding, positions = m->tokens.max_tokens;
    const char *norm;
    double epsilon;
    CRANK_TRY(config_int_or(c, "embedding_size", 1, 16384, m->encoder.width, &embedding, error));
    CRANK_TRY(config_int_or(c, "max_relative_positions", -1, 1 << 20, -1, &f->max_position, error));
    if (f->max_position < 1) f->max_position = positions;
    CRANK_TRY(config_int_or(c, "position_buckets", -1, 1 << 16, -1, &f->buckets, error));
    f->by_logarithm = f->buckets > 0;
    if (!f->by_logarithm) f->buckets = f->max_position;
    CRANK_CHECK(!f->by_logarithm || f->buckets >= 4, UNSUPPORTED, error,
                "%s: position_buckets is %d, expected -1 or at least 4", config_name(c),
                f->buckets);
    CRANK_CHECK(!f->by_logarithm || f->max_position > f->buckets / 2 + 1, MODEL, error,
                "%s: max_relative_positions of %d leave no distances for %d position_buckets",
                config_name(c), f->max_position, f->buckets);
    CRANK_TRY(config_string_or(c, "norm_rel_ebd", "none", &norm, error));
    CRANK_TRY(config_number_or(c, "layer_norm_eps", 0, 1, 1e-7, &epsilon, error));
    f->norm = strstr(norm, "layer_norm") != NULL;
    f->epsilon = (float)epsilon;
    f->span = positions;
    CRANK_TRY(model_activation(c, "pooler_hidden_act", "gelu", &f->pooler, error));
    r->dims.size['E'] = embedding;
    if (!f->positions) r->dims.size['P'] = 0;
    r->dims.size['R'] = 2 * (int64_t)f->buckets;
    r->dims.size['W'] = f->kernel;
    if (f->kernel != 0) r->dims.size['C'] = m->encoder.width / f->groups;
    return model_activation(c, "hidden_act", "gelu", &m->encoder.activation, error);
}

/* ---- what is made at load ---- */

static void norm_row(float *row, int32_t width, const float *gamma, const float *beta, float eps)
{
    float mean = 0, variance = 0;
    for (int32_t i = 0; i < width; i++) mean += row[i];
    mean /= (float)width;
    for (int32_t i = 0; i < width; i++) variance += (row[i] - mean) * (row[i] - mean);
    float scale = 1.0f / sqrtf(variance / (float)width + eps);
    for (int32_t i = 0; i < width; i++) row[i] = (row[i] - mean) * scale * gamma[i] + beta[i];
}

/* memory: R [n, D], W [D, D], then gamma, beta and bias of D each. */
static crank_status project(const projection *p, float *out, float *memory, crank_error *error)
{
    const model_reader *r = p->reader;
    const family *f = r->model->family;
    int32_t n = 2 * f->buckets, width = r->model->encoder.width;
    float *relative = memory, *weight = relative + (size_t)n * (size_t)width;
    float *gamma = weight + (size_t)width * (size_t)width, *beta = gamma + width;
    float *bias = beta + width;
    CRANK_TRY(safetensors_read_f32(r->file, bind_get(&r->bound, RELATIVE, 0), relative, error));
    CRANK_TRY(
        safetensors_read_f32(r->file, bind_get(&r->bound, p->weight, p->layer), weight, error));
    CRANK_TRY(safetensors_read_f32(r->file, bind_get(&r->bound, p->bias, p->layer), bias, error));
    if (f->norm) {
        CRANK_TRY(safetensors_read_f32(r->file, bind_get(&r->bound, RELATIVE_G, 0), gamma, error));
        CRANK_TRY(safetensors_read_f32(r->file, bind_get(&r->bound, RELATIVE_B, 0), beta, error));
        for (int32_t i = 0; i < n; i++) {
            norm_row(relative + (size_t)i * (size_t)width, width, gamma, beta, f->epsilon);
        }
    }
    /* out = R W^T + b, eight independent partial sums a row so that the compiler can use them. */
    for (int32_t i = 0; i < n; i++) {
        const float *x = relative + (size_t)i * (size_t)width;
        for (int32_t j = 0; j < width; j++) {
            const float *w = weight + (size_t)j * (size_t)width;
            float sums[8] = {0}, rest = 0;
            int32_t k = 0;
            for (; k + 8 <= width; k += 8) {
                for (int32_t lane = 0; lane < 8; lane++) sums[lane] += x[k + lane] * w[k + lane];
            }
            for (; k < width; k++) rest += x[k] * w[k];
            for (int32_t lane = 0; lane < 8; lane++) rest += sums[lane];
            out[(size_t)i * (size_t)width + (size_t)j] = rest + bias[j];
        }
    }
    return CRANK_OK;
}

static crank_status compute_projection(void *argument, void *values, size_t n, crank_error *error)
{
    const projection *p = argument;
    size_t width = (size_t)p->reader->model->encoder.width;
    float *memory = mem_array(n + width * width + 3 * width, sizeof *memory);
    CRANK_CHECK(memory != NULL, OUT_OF_MEMORY, error, "no memory for relative positions");
    crank_status status = project(p, values, memory, error);
    mem_free(memory);
    return status;
}

/* [D, D / groups, kernel] on disk -> [D, kernel * D]: out[o, j * D + i] = w[o, i - first, j] for
 * the inputs i that o's group sees, first being the first of them; zeros for the others. */
static crank_status compute_convolution(void *argument, void *values, size_t n, crank_error *error)
{
    const model_reader *r = argument;
    const family *f = r->model->family;
    size_t width = (size_t)r->model->encoder.width, kernel = (size_t)f->kernel;
    size_t seen = (size_t)r->dims.size['C'];
    float *out = values, *weight = mem_array(width * seen * kernel, sizeof *weight);
    CRANK_CHECK(weight != NULL, OUT_OF_MEMORY, error, "no memory for a convolution");
    crank_status status =
        safetensors_read_f32(r->file, bind_get(&r->bound, CONVOLUTION_W, 0), weight, error);
    for (size_t i = 0; i < n; i++) out[i] = 0.0f;
    for (size_t o = 0; o < width && status == CRANK_OK; o++) {
        size_t first = o / seen * seen; /* as many outputs a group as inputs */
        for (size_t i = 0; i < seen; i++) {
            for (size_t j = 0; j < kernel; j++) {
                out[(o * kernel + j) * width + first + i] = weight[(o * seen + i) * kernel + j];
            }
        }
    }
    mem_free(weight);
    return status;
}

static void declare_convolution(model_reader *r, float epsilon)
{
    encoder *e = &r->model->encoder;
    const family *f = r->model->family;
    encoder_convolution *c = &e->convolution;
    c->kernel = f->kernel;
    c->activation = f->convolution_activation;
    store_computed_linear(&r->store, &c->weights, "convolution", e->width, f->kernel * e->width,
                          CONVOLUTION_B, compute_convolution, r);
    model_norm(r, &c->norm, OPS_NORM_LAYER, "convolution_norm", -1, CONVOLUTION_NORM_G,
               CONVOLUTION_NORM_B, e->width, epsilon);
    if (e->n_layers == 1) e->first_row_only = false; /* its output is needed for every row */
}

static crank_status compute_index(void *argument, void *values, size_t n, crank_error *error)
{
    (void)error;
    const family *f = argument;
    int32_t *index = values;
    for (size_t i = 0; i < n; i++) {
        int32_t bucket = (int32_t)i - (f->span - 1);
        if (f->by_logarithm) bucket = positions_deberta_bucket(bucket, f->buckets, f->max_position);
        int32_t row = bucket + f->buckets;
        index[i] = row < 0 ? 0 : row > 2 * f->buckets - 1 ? 2 * f->buckets - 1 : row;
    }
    return CRANK_OK;
}

static void declare_relative(model_reader *r, int l, bool present, bool key)
{
    family *f = r->model->family;
    encoder *e = &r->model->encoder;
    ops_relative *relative = &e->layers[l].attention.relative;
    if (!present) return;
    projection *p = &f->projections[2 * l + key];
    *p = (projection){r, key ? K_W : Q_W, key ? K_B : Q_B, l};
    if (f->own_projections) {
        p->weight = key ? POSITION_KEY_W : POSITION_QUERY_W;
        p->bias = key ? POSITION_KEY_B : POSITION_QUERY_B;
    }
    store_computed_floats(&r->store, key ? &relative->key : &relative->query,
                          key ? "relative.key" : "relative.query", l,
                          2 * (size_t)f->buckets * (size_t)e->width, compute_projection, p);
}

static crank_status declare(model_reader *r, crank_error *error)
{
    encoder *e = &r->model->encoder;
    family *f = r->model->family;
    float epsilon;
    CRANK_TRY(bert_like_begin(r, 1e-7, PROJECT_BEFORE_NORM, &epsilon, error));
    f->projections = mem_zero(2 * (size_t)e->n_layers, sizeof *f->projections);
    CRANK_CHECK(f->projections != NULL, OUT_OF_MEMORY, error, "no memory for a model");
    if (f->kernel != 0) declare_convolution(r, epsilon);
    bool relative = f->relative && (f->content_to_position || f->position_to_content);
    if (relative) {
        store_computed_ints(&r->store, &f->index, "relative.index", -1, 2 * (size_t)f->span - 1,
                            compute_index, f);
    }
    int terms = 1 + f->content_to_position + f->position_to_content;
    for (int l = 0; l < e->n_layers; l++) {
        model_plain_attention(r, l);
        ops_attention *a = &e->layers[l].attention;
        a->scale = 1.0f / sqrtf((float)(e->head_width * terms));
        if (relative) {
            a->relative = (ops_relative){.n_buckets = 2 * f->buckets, .span = f->span};
            declare_relative(r, l, f->content_to_position, true);
            declare_relative(r, l, f->position_to_content, false);
        }
        bert_like_layer(r, l, epsilon);
    }
    bert_like_head(r, f->pooler);
    return CRANK_OK;
}

static void share(crank_model *m)
{
    const family *f = m->family;
    for (int l = 0; l < m->encoder.n_layers; l++) {
        m->encoder.layers[l].attention.relative.index = f->index;
    }
}

static void close_family(crank_model *m)
{
    family *f = m->family;
    if (f != NULL) mem_free(f->projections);
}

static const char *const model_types[] = {"deberta-v2", NULL};
const architecture architecture_deberta = {.model_types = model_types,
                                           .configure = configure,
                                           .names = &names,
                                           .conditions = conditions,
                                           .declare = declare,
                                           .share = share,
                                           .close = close_family};
