/* T5 as a ranker (Raffel et al. 2020; Nogueira et al. 2020): a pre-norm encoder (RMS norms, one
 * table of distance biases for all layers, scores without 1/sqrt(K), no linear biases), and one
 * decode step from the constant start token; or the encoder alone under a head or a pooling. The
 * step is cheap: self-attention over one key is O V x, and in cross-attention one query per head
 * lets K and V fold away. Only the answers' rows of the vocabulary matrix are read. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "memory.h"
#include "runtime/model.h"

/* clang-format off */
enum {
    WORD, BIAS, Q_W, K_W, V_W, O_W, ATTN_G, FFN_IN_W, GATE_W, FFN_OUT_W, FFN_G, FINAL_G,
    SELF_V, SELF_O, SELF_G, CROSS_Q, CROSS_K, CROSS_V, CROSS_O, CROSS_G,
    D_FFN_IN, D_GATE, D_FFN_OUT, D_FFN_G, D_FINAL_G, LM_HEAD,
    HEAD_W, HEAD_B,
    N_FIELDS
};
/* clang-format on */
enum {
    WITH_HEAD = BIND_WITH_HEAD,
    WITH_DECODER = 2,
    GATED = 4,
    PLAIN = 8,
    SHARED_BIAS = 16,
    OWN_BIAS = 32,
};

#define E "encoder.block.%d.layer."
#define D "decoder.block.%d.layer."
static const bind_row rows[] = {
    {WORD, "shared.weight|encoder.embed_tokens.weight", "V,D", 0, 0},
    {BIAS, "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", "B,H", 0,
     SHARED_BIAS},
    {BIAS, E "0.SelfAttention.relative_attention_bias.weight", "B,H", 0, OWN_BIAS},
    {Q_W, E "0.SelfAttention.q.weight", "I,D", 0, 0},
    {K_W, E "0.SelfAttention.k.weight", "I,D", 0, 0},
    {V_W, E "0.SelfAttention.v.weight", "I,D", 0, 0},
    {O_W, E "0.SelfAttention.o.weight", "D,I", 0, 0},
    {ATTN_G, E "0.layer_norm.weight", "D", 0, 0},
    {FFN_IN_W, E "1.DenseReluDense.wi.weight", "F,D", 0, PLAIN},
    {FFN_IN_W, E "1.DenseReluDense.wi_0.weight", "F,D", 0, GATED},
    {GATE_W, E "1.DenseReluDense.wi_1.weight", "F,D", 0, GATED},
    {FFN_OUT_W, E "1.DenseReluDense.wo.weight", "D,F", 0, 0},
    {FFN_G, E "1.layer_norm.weight", "D", 0, 0},
    {FINAL_G, "encoder.final_layer_norm.weight", "D", 0, 0},
    {SELF_V, D "0.SelfAttention.v.weight", "I,D", BIND_SECOND_STACK, WITH_DECODER},
    {SELF_O, D "0.SelfAttention.o.weight", "D,I", BIND_SECOND_STACK, WITH_DECODER},
    {SELF_G, D "0.layer_norm.weight", "D", BIND_SECOND_STACK, WITH_DECODER},
    {CROSS_Q, D "1.EncDecAttention.q.weight", "I,D", BIND_SECOND_STACK, WITH_DECODER},
    {CROSS_K, D "1.EncDecAttention.k.weight", "I,D", BIND_SECOND_STACK, WITH_DECODER},
    {CROSS_V, D "1.EncDecAttention.v.weight", "I,D", BIND_SECOND_STACK, WITH_DECODER},
    {CROSS_O, D "1.EncDecAttention.o.weight", "D,I", BIND_SECOND_STACK, WITH_DECODER},
    {CROSS_G, D "1.layer_norm.weight", "D", BIND_SECOND_STACK, WITH_DECODER},
    {D_FFN_IN, D "2.DenseReluDense.wi.weight", "F,D", BIND_SECOND_STACK, PLAIN | WITH_DECODER},
    {D_FFN_IN, D "2.DenseReluDense.wi_0.weight", "F,D", BIND_SECOND_STACK, GATED | WITH_DECODER},
    {D_GATE, D "2.DenseReluDense.wi_1.weight", "F,D", BIND_SECOND_STACK, GATED | WITH_DECODER},
    {D_FFN_OUT, D "2.DenseReluDense.wo.weight", "D,F", BIND_SECOND_STACK, WITH_DECODER},
    {D_FFN_G, D "2.layer_norm.weight", "D", BIND_SECOND_STACK, WITH_DECODER},
    {D_FINAL_G, "decoder.final_layer_norm.weight", "D", 0, WITH_DECODER},
    {LM_HEAD, "lm_head.weight", "V,D", BIND_OPTIONAL, WITH_DECODER},
    {HEAD_W, "classifier.weight|score.weight|dense.weight|head.weight", "N,D", 0, WITH_HEAD},
    {HEAD_B, "classifier.bias|score.bias|dense.bias|head.bias", "N", BIND_OPTIONAL, WITH_HEAD},
};
#undef E
#undef D
/* The decoder's q, k and bias table of a one-token self-attention have no effect on it. */
static const bind_table names = {
    .rows = rows,
    .n_rows = sizeof rows / sizeof rows[0],
    .n_fields = N_FIELDS,
    .ignore = "decoder.block.*SelfAttention.q.weight|decoder.block.*SelfAttention.k.weight|"
              "decoder.block.*relative_attention_bias.weight|encoder.embed_tokens.weight|"
              "decoder.embed_tokens.weight"};

typedef struct decoder_layer {
    ops_linear self_v, self_o, cross_q, cross_o, ffn_in, ffn_out;
    ops_fold cross;
    ops_norm self_norm, cross_norm, ffn_norm;
} decoder_layer;

typedef struct family {
    decoder_layer *layers; /* [n_layers] */
    int32_t n_layers;      /* of the decoder */
    ops_norm final_norm;
    ops_attention cross; /* scale 1, no biases */
    const float *start;  /* [D]: the start token's embedding */
    const float *
        *biases; /* [encoder layers] of [H, 2*S - 1]; the first for all unless own_biases */
    distance_bias_request *bias_requests;
    bool gated;
    bool own_biases;   /* UMT5: a table in every encoder layer */
    bool encoder_only; /* RankT5's encoder variant, sentence-t5: no decoder, a head or a pooling */
    float logit_scale;
    struct row_request { /* rows of the vocabulary matrix */
        const model_reader *reader;
        const st_tensor *matrix;
        const int32_t *ids;
        int n; /* 0: all rows */
        float scale;
    } start_request, answer_request;
    int32_t start_id;
} family;

static unsigned conditions(const model_reader *r)
{
    const family *f = r->model->family;
    unsigned bits = (f->gated ? GATED : PLAIN) | (f->own_biases ? OWN_BIAS : SHARED_BIAS);
    if (!f->encoder_only) bits |= WITH_DECODER;
    if (f->encoder_only && !model_wants_vectors(r)) bits |= WITH_HEAD;
    return bits;
}

static crank_status read_ffn(model_reader *r, family *f, crank_error *error)
{
    const char *kind;
    CRANK_TRY(config_string_or(r->config, "feed_forward_proj", "relu", &kind, error));
    ops_activation *activation = &r->model->encoder.activation;
    f->gated = strncmp(kind, "gated-", 6) == 0;
    if (strcmp(kind, "gated-gelu") == 0) kind = "gated-gelu_new"; /* as the library reads it */
    CRANK_CHECK(model_activation_named(f->gated ? kind + 6 : kind, activation), UNSUPPORTED, error,
                "%s: feed_forward_proj is \"%s\", expected relu, gelu, silu or one of them after "
                "\"gated-\"",
                config_name(r->config), kind);
    return CRANK_OK;
}

/* Tied models scale the decoder's output by D^-0.5. The flag decides, not the presence of lm_head;
 * configs of transformers 5 say it under another name. */
static crank_status read_scale(model_reader *r, family *f, crank_error *error)
{
    const config *c = r->config;
    int tied, scaled;
    const char *model_type;
    CRANK_TRY(config_string(c, "model_type", &model_type, error));
    CRANK_TRY(
        config_bool_or(c, "tie_word_embeddings", strcmp(model_type, "mt5") != 0, &tied, error));
    CRANK_TRY(config_bool_or(c, "scale_decoder_outputs", tied, &scaled, error));
    if (strcmp(model_type, "mt5") == 0) scaled = 0;
    f->logit_scale = scaled ? 1.0f / sqrtf((float)r->model->encoder.width) : 1.0f;
    return CRANK_OK;
}

static crank_status configure(model_reader *r, crank_error *error)
{
    CRANK_TRY(model_sizes(r, error));
    crank_model *m = r->model;
    encoder *e = &m->encoder;
    const config *c = r->config;
    family *f = m->family = mem_zero(1, sizeof *f);
    CRANK_CHECK(f != NULL, OUT_OF_MEMORY, error, "no memory for a model");
    const char *model_type;
    int32_t buckets, distance;
    CRANK_TRY(config_string(c, "model_type", &model_type, error));
    f->own_biases = strcmp(model_type, "umt5") == 0;
    const char *sign =
        r->converted ? "layer.0.decoder.self_v" : "decoder.block.0.layer.0.SelfAttention.v.weight";
    f->encoder_only = safetensors_find(r->file, sign) == NULL;
    CRANK_TRY(config_int_or(c, "num_decoder_layers", 1, 256, e->n_layers, &f->n_layers, error));
    f->layers = mem_zero((size_t)f->n_layers, sizeof *f->layers);
    f->biases = mem_zero((size_t)e->n_layers, sizeof *f->biases);
    f->bias_requests = mem_zero((size_t)e->n_layers, sizeof *f->bias_requests);
    CRANK_CHECK(f->layers != NULL && f->biases != NULL && f->bias_requests != NULL, OUT_OF_MEMORY,
                error, "no memory for a model");
    CRANK_TRY(config_int_or(c, "relative_attention_num_buckets", 4, 4096, 32, &buckets, error));
    CRANK_TRY(
        config_int_or(c, "relative_attention_max_distance", 2, 1 << 20, 128, &distance, error));
    CRANK_CHECK(distance > buckets / 4, MODEL, error,
                "%s: relative_attention_max_distance %d leaves no distances for %d buckets",
                config_name(c), distance, buckets);
    CRANK_TRY(config_int_or(c, "n_positions", 8, 1 << 16, 512, &m->tokens.max_tokens, error));
    CRANK_TRY(config_int_or(c, "decoder_start_token_id", 0, m->tokens.vocab_size - 1, 0,
                            &f->start_id, error));
    CRANK_TRY(read_ffn(r, f, error));
    CRANK_TRY(read_scale(r, f, error));
    m->tokens.n_types = 0;
    r->dims.size['B'] = buckets;
    r->dims.size['H'] = e->heads;
    r->dims.size['L'] = f->n_layers;
    for (int l = 0; l < e->n_layers; l++) {
        f->bias_requests[l] = (distance_bias_request){.n_buckets = buckets,
                                                      .max_distance = distance,
                                                      .heads = e->heads,
                                                      .span = m->tokens.max_tokens};
    }
    e->pre_norm = true;
    e->trace_prefix = "encoder.";
    return CRANK_OK;
}

static crank_status compute_rows(void *argument, void *values, size_t n, crank_error *error)
{
    const struct row_request *q = argument;
    size_t width = (size_t)q->reader->model->encoder.width,
           row_bytes = width * dtype_bytes(q->matrix->type);
    float *out = values;
    void *raw = mem_alloc(row_bytes);
    CRANK_CHECK(raw != NULL, OUT_OF_MEMORY, error, "no memory for answers");
    crank_status status = CRANK_OK;
    for (size_t i = 0; status == CRANK_OK && i < n / width; i++) {
        uint64_t row = q->n > 0 ? (uint64_t)q->ids[i] : i;
        status = safetensors_read_range(q->reader->file, q->matrix, row * row_bytes, row_bytes, raw,
                                        error);
        if (status != CRANK_OK) break;
        status = dtype_to_f32(out + i * width, raw, q->matrix->type, width, error);
        for (size_t k = 0; k < width; k++) out[i * width + k] *= q->scale;
    }
    mem_free(raw);
    return status;
}

static void linear(model_reader *r, ops_linear *target, const char *name, int l, int32_t n_rows,
                   int32_t cols, int weight, int gate)
{
    store_linear_spec spec = {.name = name,
                              .layer = l,
                              .rows = n_rows,
                              .cols = cols,
                              .n_parts = gate >= 0 ? 2 : 1,
                              .weights = {weight, gate},
                              .biases = {-1, -1},
                              .gated = gate >= 0};
    store_linear(&r->store, target, &spec);
}

static void declare_decoder_layer(model_reader *r, int l, float eps)
{
    encoder *e = &r->model->encoder;
    family *f = r->model->family;
    decoder_layer *layer = &f->layers[l];
    int32_t width = e->width, inner = e->heads * e->head_width;
    int32_t ffn = e->ffn_width * (f->gated ? 2 : 1);
    model_norm(r, &layer->self_norm, OPS_NORM_RMS, "decoder.self_norm", l, SELF_G, -1, width, eps);
    linear(r, &layer->self_v, "decoder.self_v", l, inner, width, SELF_V, -1);
    linear(r, &layer->self_o, "decoder.self_o", l, width, inner, SELF_O, -1);
    model_norm(r, &layer->cross_norm, OPS_NORM_RMS, "decoder.cross_norm", l, CROSS_G, -1, width,
               eps);
    linear(r, &layer->cross_q, "decoder.cross_q", l, inner, width, CROSS_Q, -1);
    layer->cross = (ops_fold){.n = inner, .d = width};
    store_floats(&r->store, &layer->cross.key, "decoder.cross_key", l, CROSS_K, 0, inner, width,
                 false);
    store_floats(&r->store, &layer->cross.value, "decoder.cross_value", l, CROSS_V, 0, inner, width,
                 true);
    linear(r, &layer->cross_o, "decoder.cross_o", l, width, inner, CROSS_O, -1);
    model_norm(r, &layer->ffn_norm, OPS_NORM_RMS, "decoder.ffn_norm", l, D_FFN_G, -1, width, eps);
    linear(r, &layer->ffn_in, "decoder.ffn_in", l, ffn, width, D_FFN_IN, f->gated ? D_GATE : -1);
    linear(r, &layer->ffn_out, "decoder.ffn_out", l, width, e->ffn_width, D_FFN_OUT, -1);
}

/* logits of the answers only; of the whole vocabulary when nobody says what an answer is. */
static void declare_answers(model_reader *r)
{
    crank_model *m = r->model;
    family *f = m->family;
    int32_t width = m->encoder.width;
    int n = m->ranker.n_answers > 0 ? m->ranker.n_answers : m->tokens.vocab_size;
    if (!r->converted) {
        const st_tensor *shared = bind_get(&r->bound, WORD, 0);
        const st_tensor *head = bind_get(&r->bound, LM_HEAD, 0);
        f->start_request = (struct row_request){r, shared, &f->start_id, 1, 1.0f};
        f->answer_request = (struct row_request){r, head != NULL ? head : shared, m->ranker.answers,
                                                 m->ranker.n_answers, f->logit_scale};
    }
    store_computed_floats(&r->store, &f->start, "decoder.start", -1, (size_t)width, compute_rows,
                          &f->start_request);
    ops_head *head = &m->readout.head;
    *head = (ops_head){.d_in = width, .labels = n};
    store_computed_floats(&r->store, &head->out, "answers", -1, (size_t)n * (size_t)width,
                          compute_rows, &f->answer_request);
    m->readout.kind = READOUT_HEAD;
    m->readout.width = n;
    snprintf(m->readout.text, sizeof m->readout.text, "%s of %d answer token%s",
             prompt_reduction_names[m->ranker.reduction], n, n == 1 ? "" : "s");
}

/* Without a decoder: what the folder's modules say, or a linear on the first state (Zhuang et al.
 * 2023, section 4.2) or on the mean. A prompt, where one is given or the name says RankT5, fills
 * one text; otherwise the tokenizer's pair template joins the two. */
static crank_status declare_encoder_readout(model_reader *r, crank_error *error)
{
    crank_model *m = r->model;
    if (model_wants_vectors(r)) return model_vector_readout(r, error);
    const char *pooling;
    CRANK_TRY(config_string_or(r->config, "classifier_pooling", "first", &pooling, error));
    bool mean = strcmp(pooling, "mean") == 0;
    CRANK_CHECK(mean || strcmp(pooling, "first") == 0 || strcmp(pooling, "cls") == 0, UNSUPPORTED,
                error, "%s: classifier_pooling is \"%s\", expected first or mean",
                config_name(r->config), pooling);
    m->readout.pool = mean ? OPS_POOL_MEAN : OPS_POOL_FIRST;
    CRANK_TRY(model_encoder_ranker(r, error));
    return CRANK_OK;
}

static void declare_encoder_head(model_reader *r)
{
    if (model_wants_vectors(r)) return;
    static const head_fields head = {.dense = -1,
                                     .dense_bias = -1,
                                     .norm = -1,
                                     .norm_bias = -1,
                                     .out = HEAD_W,
                                     .out_bias = HEAD_B};
    model_head(r, &head, 0, (int32_t)r->dims.size['N']);
}

/* A decode step reads all of the decoder's weights for one row a sequence: enough sequences a
 * micro-batch make it a matrix product, and cost the encoder nothing (bench/LOG.md). */
#define DECODER_BATCH_TOKENS 1024

static void declare_decoder(model_reader *r, float eps)
{
    crank_model *m = r->model;
    m->cpu_batch_tokens = DECODER_BATCH_TOKENS;
    const encoder *e = &m->encoder;
    family *f = m->family;
    f->cross = (ops_attention){.n_heads = e->heads, .head_width = e->head_width, .scale = 1.0f};
    for (int l = 0; l < f->n_layers; l++) declare_decoder_layer(r, l, eps);
    model_norm(r, &f->final_norm, OPS_NORM_RMS, "decoder.final_norm", -1, D_FINAL_G, -1, e->width,
               eps);
    declare_answers(r);
}

static crank_status declare(model_reader *r, crank_error *error)
{
    crank_model *m = r->model;
    encoder *e = &m->encoder;
    family *f = m->family;
    double value;
    CRANK_TRY(config_number_or(r->config, "layer_norm_epsilon", 0, 1, 1e-6, &value, error));
    float eps = (float)value;
    CRANK_TRY(f->encoder_only ? declare_encoder_readout(r, error) : model_ranker(r, error));
    e->first_row_only = f->encoder_only && m->readout.pool == OPS_POOL_FIRST;
    static const embedding_fields embedding = {WORD, -1, -1, -1, -1};
    model_embeddings(r, &embedding, e->width, OPS_NORM_NONE, eps);
    for (int l = 0; l < (f->own_biases ? e->n_layers : 1); l++) {
        model_distance_bias(r, &f->biases[l], "distance_bias", f->own_biases ? l : -1, BIAS,
                            &f->bias_requests[l]);
    }
    /* clang-format off */
    layer_fields fields = {
        .q = Q_W, .q_bias = -1, .k = K_W, .k_bias = -1, .v = V_W, .v_bias = -1,
        .out = O_W, .out_bias = -1, .attn_gamma = ATTN_G, .attn_beta = -1,
        .ffn_in = FFN_IN_W, .ffn_in_bias = -1, .gated = f->gated, .gate = f->gated ? GATE_W : -1,
        .ffn_out = FFN_OUT_W, .ffn_out_bias = -1, .ffn_gamma = FFN_G, .ffn_beta = -1};
    /* clang-format on */
    for (int l = 0; l < e->n_layers; l++) {
        model_plain_attention(r, l);
        e->layers[l].attention.scale = 1.0f;
        e->layers[l].attention.distance_span = f->bias_requests[l].span;
        model_layer(r, l, &fields, OPS_NORM_RMS, eps);
    }
    model_norm(r, &e->final_norm, OPS_NORM_RMS, "final_norm", -1, FINAL_G, -1, e->width, eps);
    if (f->encoder_only) {
        declare_encoder_head(r);
    } else {
        declare_decoder(r, eps);
    }
    return CRANK_OK;
}

static void share(crank_model *m)
{
    const family *f = m->family;
    for (int l = 0; l < m->encoder.n_layers; l++) {
        m->encoder.layers[l].attention.distance_bias = f->biases[f->own_biases ? l : 0];
    }
}

/* One decode step for every sequence: y is the residual stream, h = rms(y). */
static void forward(const crank_model *m, ops_context *ctx, float *out)
{
    const family *f = m->family;
    const encoder *e = &m->encoder;
    if (f->encoder_only) {
        model_forward_encoder(m, ctx, out);
        return;
    }
    int32_t n = ctx->batch.n_sequences, inner = e->heads * e->head_width;
    ops_tensor states = encoder_forward(e, ctx);
    ops_tensor y = ops_new(ctx, n, e->width, OPS_USE_VALUE);
    ops_tensor h = ops_new(ctx, n, e->width, OPS_USE_VALUE | OPS_USE_OPERAND);
    ops_tensor v = ops_new(ctx, n, inner, OPS_USE_OPERAND);
    ops_tensor q = ops_new(ctx, n, inner, OPS_USE_VALUE);
    ops_tensor inside = ops_new(ctx, n, e->ffn_width, OPS_USE_OPERAND);
    ops_broadcast(ctx, &y, f->start);
    ops_norm_rows(ctx, &h, &y, &f->layers[0].self_norm);
    for (int l = 0; l < f->n_layers; l++) {
        const decoder_layer *layer = &f->layers[l];
        ops_linear_act(ctx, &v, &h, &layer->self_v, OPS_IDENTITY);
        ops_linear_residual_norm(ctx, &h, &y, &v, &layer->self_o, &y, &layer->cross_norm);
        ops_trace(ctx, &y, "decoder.layer.%d.attention", l);
        ops_linear_act(ctx, &q, &h, &layer->cross_q, OPS_IDENTITY);
        ops_attention_rows_folded(ctx, &v, &q, &states, &layer->cross, &f->cross);
        ops_linear_residual_norm(ctx, &h, &y, &v, &layer->cross_o, &y, &layer->ffn_norm);
        ops_trace(ctx, &y, "decoder.layer.%d.cross_attention", l);
        ops_linear_act(ctx, &inside, &h, &layer->ffn_in, e->activation);
        const ops_norm *next = l + 1 < f->n_layers ? &f->layers[l + 1].self_norm : &f->final_norm;
        ops_linear_residual_norm(ctx, &h, &y, &inside, &layer->ffn_out, &y, next);
        ops_trace(ctx, &y, "decoder.layer.%d", l);
    }
    ops_trace(ctx, &h, "decoder.final_norm");
    ops_head_logits(ctx, out, &h, &m->readout.head);
}

static void close_family(crank_model *m)
{
    family *f = m->family;
    if (f == NULL) return;
    mem_free(f->layers);
    mem_free(f->biases);
    mem_free(f->bias_requests);
}

static const char *const model_types[] = {"t5", "mt5", "umt5", NULL};
const architecture architecture_t5 = {.model_types = model_types,
                                      .configure = configure,
                                      .names = &names,
                                      .conditions = conditions,
                                      .declare = declare,
                                      .share = share,
                                      .forward = forward,
                                      .close = close_family};
