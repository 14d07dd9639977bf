/* What architectures share when they read a config and declare weights (see model.h). */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "memory.h"
#include "runtime/model.h"
#include "runtime/positions.h"
#include "runtime/reader.h"
#include "runtime/tokenize.h"

crank_status model_add_layers(crank_model *m, int32_t n_layers, crank_error *error)
{
    mem_free(m->encoder.layers);
    m->encoder.layers = mem_zero((size_t)n_layers, sizeof *m->encoder.layers);
    CRANK_CHECK(m->encoder.layers != NULL, OUT_OF_MEMORY, error, "no memory for %d layers",
                n_layers);
    m->encoder.n_layers = n_layers;
    return CRANK_OK;
}

/* What would change every layer and no family here has. */
static crank_status refuse_variants(const config *c, crank_error *error)
{
    int causal;
    CRANK_TRY(config_bool_or(c, "is_decoder", 0, &causal, error));
    CRANK_CHECK(!causal, UNSUPPORTED, error, "%s: is_decoder is true, expected an encoder",
                config_name(c));
    const json_t *pruned = json_object_get(config_root(c), "pruned_heads");
    CRANK_CHECK(json_object_size(pruned) == 0, UNSUPPORTED, error,
                "%s: pruned_heads is not empty: expected whole layers", config_name(c));
    const json_t *quantised = json_object_get(config_root(c), "quantization_config");
    CRANK_CHECK(!json_is_object(quantised), UNSUPPORTED, error,
                "%s: quantization_config: expected weights in F32, F16 or BF16 (crank convert "
                "quantises)",
                config_name(c));
    return CRANK_OK;
}

crank_status model_plain_rope(const model_reader *r, const char *keys, crank_error *error)
{
    const config *c = r->config;
    int32_t width = r->model->encoder.head_width;
    const char *kind;
    CRANK_CHECK(width % 2 == 0, MODEL, error, "%s: rotary heads need an even width, found %d",
                config_name(c), width);
    CRANK_TRY(config_string_or(c, keys, "default", &kind, error));
    CRANK_CHECK(strcmp(kind, "default") == 0, UNSUPPORTED, error,
                "%s: %s is \"%s\", expected default", config_name(c), keys, kind);
    return CRANK_OK;
}

crank_status model_sizes(model_reader *r, crank_error *error)
{
    encoder *e = &r->model->encoder;
    token_rules *tokens = &r->model->tokens;
    const config *c = r->config;
    int32_t layers, positions;
    const char *position_kind;
    CRANK_TRY(refuse_variants(c, error));
    CRANK_TRY(
        config_int(c, "num_hidden_layers|n_layers|num_layers|n_layer", 1, 256, &layers, error));
    CRANK_TRY(config_int(c, "hidden_size|dim|d_model|n_embd", 1, 16384, &e->width, error));
    CRANK_TRY(
        config_int(c, "num_attention_heads|n_heads|num_heads|n_head", 1, 1024, &e->heads, error));
    CRANK_TRY(
        config_int(c, "intermediate_size|hidden_dim|d_ff|n_inner", 1, 65536, &e->ffn_width, error));
    CRANK_TRY(config_int(c, "vocab_size", 1, 1 << 24, &tokens->vocab_size, error));
    CRANK_TRY(config_int_or(c, "max_position_embeddings", 8, 1 << 20, 512, &positions, error));
    CRANK_TRY(config_int_or(c, "type_vocab_size", 0, 1024, 0, &tokens->n_types, error));
    CRANK_TRY(config_string_or(c, "position_embedding_type", "absolute", &position_kind, error));
    CRANK_CHECK(strcmp(position_kind, "absolute") == 0 || strcmp(position_kind, "rope") == 0,
                UNSUPPORTED, error,
                "%s: position_embedding_type is \"%s\", expected absolute or rope", config_name(c),
                position_kind);
    CRANK_TRY(
        config_int_or(c, "head_dim|d_kv", 1, 1024, e->width / e->heads, &e->head_width, error));
    CRANK_CHECK(config_has(c, "head_dim|d_kv") || e->width % e->heads == 0, MODEL, error,
                "%s: hidden_size %d is not a multiple of num_attention_heads %d", config_name(c),
                e->width, e->heads);
    CRANK_CHECK(e->head_width >= 1 && e->head_width <= 256, UNSUPPORTED, error,
                "%s: heads of width %d, expected 1 to 256", config_name(c), e->head_width);
    tokens->max_tokens = positions;
    tokens->pad_id = -1;
    r->dims.size['V'] = tokens->vocab_size;
    r->dims.size['D'] = e->width;
    r->dims.size['F'] = e->ffn_width;
    r->dims.size['P'] = positions;
    r->dims.size['T'] = tokens->n_types;
    r->dims.size['I'] = (int64_t)e->heads * e->head_width;
    return model_add_layers(r->model, layers, error);
}

crank_status model_positions_after_pad(model_reader *r, int32_t pad_id, crank_error *error)
{
    token_rules *tokens = &r->model->tokens;
    tokens->pad_id = pad_id;
    tokens->first_position = pad_id + 1;
    tokens->max_tokens -= tokens->first_position;
    CRANK_CHECK(tokens->max_tokens >= 1, MODEL, error,
                "%s: max_position_embeddings leaves no position after pad id %d",
                config_name(r->config), pad_id);
    return CRANK_OK;
}

bool model_activation_named(const char *name, ops_activation *activation)
{
    static const struct {
        const char *name;
        ops_activation activation;
    } names[] = {
        {"gelu", OPS_GELU},           {"gelu_python", OPS_GELU},
        {"gelu_new", OPS_GELU_TANH},  {"gelu_pytorch_tanh", OPS_GELU_TANH},
        {"gelu_fast", OPS_GELU_TANH}, {"relu", OPS_RELU},
        {"tanh", OPS_TANH},           {"silu", OPS_SILU},
        {"swish", OPS_SILU},          {"linear", OPS_IDENTITY},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(names[i].name, name) != 0) continue;
        *activation = names[i].activation;
        return true;
    }
    return false;
}

crank_status model_activation(const config *c, const char *keys, const char *fallback,
                              ops_activation *activation, crank_error *error)
{
    const char *name;
    CRANK_TRY(config_string_or(c, keys, fallback, &name, error));
    if (model_activation_named(name, activation)) return CRANK_OK;
    return status_fail(error, CRANK_UNSUPPORTED,
                       "%s: %s is \"%s\", expected gelu, gelu_new, relu, tanh or silu",
                       config_name(c), keys, name);
}

void model_norm(model_reader *r, ops_norm *norm, ops_norm_kind kind, const char *name, int layer,
                int gamma, int beta, int32_t width, float epsilon)
{
    char gamma_name[STORE_NAME_BYTES], beta_name[STORE_NAME_BYTES];
    snprintf(gamma_name, sizeof gamma_name, "%s.gamma", name);
    snprintf(beta_name, sizeof beta_name, "%s.beta", name);
    *norm = (ops_norm){.kind = kind, .width = width, .epsilon = epsilon};
    store_floats(&r->store, &norm->gamma, gamma_name, layer, gamma, 0, width, 1, false);
    store_floats(&r->store, &norm->beta, beta_name, layer, beta, 0, width, 1, false);
}

void model_embeddings(model_reader *r, const embedding_fields *f, int32_t width, ops_norm_kind norm,
                      float epsilon)
{
    ops_embedding *embedding = &r->model->encoder.embedding;
    const token_rules *tokens = &r->model->tokens;
    store_lookup(&r->store, &embedding->word, "word", f->word, tokens->vocab_size, width);
    if (f->position >= 0) {
        store_lookup(&r->store, &embedding->position, "position", f->position,
                     (int32_t)r->dims.size['P'], width);
    }
    if (f->type >= 0 && tokens->n_types > 0) {
        store_lookup(&r->store, &embedding->type, "type", f->type, tokens->n_types, width);
    }
    model_norm(r, &embedding->norm, norm, "embedding_norm", -1, f->gamma, f->beta, width, epsilon);
}

void model_plain_attention(model_reader *r, int l)
{
    encoder *e = &r->model->encoder;
    e->layers[l].attention = (ops_attention){.n_heads = e->heads,
                                             .head_width = e->head_width,
                                             .scale = 1.0f / sqrtf((float)e->head_width)};
}

/* qkv for all rows; or, where the head reads first rows only, a query, with K and V folded into it
 * when the scores are a plain q.k plus distance biases. */
static void declare_projections(model_reader *r, int l, const layer_fields *f)
{
    encoder *e = &r->model->encoder;
    encoder_layer *layer = &e->layers[l];
    store *s = &r->store;
    int32_t inner = e->heads * e->head_width, width = e->width;
    if (!e->first_row_only || l != e->n_layers - 1) {
        store_linear_spec spec = {.name = "qkv",
                                  .layer = l,
                                  .rows = 3 * inner,
                                  .cols = width,
                                  .n_parts = f->fused_qkv ? 1 : 3,
                                  .weights = {f->q, f->k, f->v},
                                  .biases = {f->q_bias, f->k_bias, f->v_bias}};
        store_linear(s, &layer->qkv, &spec);
        return;
    }
    bool fused = f->fused_qkv;
    store_linear_spec query = {.name = "query",
                               .layer = l,
                               .rows = inner,
                               .cols = width,
                               .n_parts = 1,
                               .weights = {f->q},
                               .biases = {f->q_bias},
                               .source_rows = fused ? 3 * inner : 0};
    store_linear(s, &layer->query, &query);
    if (layer->attention.rope.positions == 0 && layer->attention.relative.span == 0) {
        layer->fold = (ops_fold){.n = inner, .d = width};
        store_floats(s, &layer->fold.key, "fold.key", l, fused ? f->q : f->k, fused ? inner : 0,
                     inner, width, false);
        store_floats(s, &layer->fold.value, "fold.value", l, fused ? f->q : f->v,
                     fused ? 2 * inner : 0, inner, width, true);
        store_floats(s, &layer->fold.value_bias, "fold.value_bias", l,
                     fused ? f->q_bias : f->v_bias, fused ? 2 * inner : 0, inner, 1, false);
        return;
    }
    store_linear_spec kv = {.name = "kv",
                            .layer = l,
                            .rows = 2 * inner,
                            .cols = width,
                            .n_parts = fused ? 1 : 2,
                            .weights = {fused ? f->q : f->k, f->v},
                            .biases = {fused ? f->q_bias : f->k_bias, f->v_bias},
                            .first_row = inner,
                            .source_rows = fused ? 3 * inner : 0};
    store_linear(s, &layer->kv, &kv);
}

void model_layer(model_reader *r, int l, const layer_fields *f, ops_norm_kind norm, float epsilon)
{
    encoder *e = &r->model->encoder;
    encoder_layer *layer = &e->layers[l];
    declare_projections(r, l, f);
    store_linear_spec out = {.name = "out",
                             .layer = l,
                             .rows = e->width,
                             .cols = e->heads * e->head_width,
                             .n_parts = 1,
                             .weights = {f->out},
                             .biases = {f->out_bias}};
    store_linear(&r->store, &layer->out, &out);
    model_norm(r, &layer->attn_norm, f->attn_gamma >= 0 ? norm : OPS_NORM_NONE, "attn_norm", l,
               f->attn_gamma, f->attn_beta, e->width, epsilon);
    store_linear_spec in = {.name = "ffn_in",
                            .layer = l,
                            .cols = e->width,
                            .rows = f->gated ? 2 * e->ffn_width : e->ffn_width,
                            .n_parts = f->gate >= 0 ? 2 : 1,
                            .weights = {f->ffn_in, f->gate},
                            .biases = {f->ffn_in_bias, -1},
                            .gated = f->gated,
                            .swap_halves = f->gate_first};
    store_linear(&r->store, &layer->ffn_in, &in);
    store_linear_spec ffn_out = {.name = "ffn_out",
                                 .layer = l,
                                 .rows = e->width,
                                 .cols = e->ffn_width,
                                 .n_parts = 1,
                                 .weights = {f->ffn_out},
                                 .biases = {f->ffn_out_bias}};
    store_linear(&r->store, &layer->ffn_out, &ffn_out);
    model_norm(r, &layer->ffn_norm, norm, "ffn_norm", l, f->ffn_gamma, f->ffn_beta, e->width,
               epsilon);
}

static crank_status compute_rope(void *argument, void *values, size_t n, crank_error *error)
{
    (void)n;
    (void)error;
    const struct rope_request *q = argument;
    positions_rope(values, q->sine, q->positions, q->width, q->theta, q->divisor);
    return CRANK_OK;
}

void model_rope(model_reader *r, rope_table *rope, const char *name, double theta, double divisor)
{
    int32_t positions = r->model->tokens.max_tokens, width = r->model->encoder.head_width;
    size_t n = (size_t)positions * (size_t)(width / 2);
    for (int sine = 0; sine < 2; sine++) {
        char full[STORE_NAME_BYTES];
        snprintf(full, sizeof full, "%s.%s", name, sine ? "sin" : "cos");
        rope->requests[sine] = (struct rope_request){positions, width, theta, divisor, sine != 0};
        store_computed_floats(&r->store, sine ? &rope->sines : &rope->cosines, full, -1, n,
                              compute_rope, &rope->requests[sine]);
    }
}

static crank_status compute_distance_bias(void *argument, void *values, size_t n,
                                          crank_error *error)
{
    const distance_bias_request *q = argument;
    float *bias = values, *table = mem_array((size_t)q->table->elements, sizeof *table);
    CRANK_CHECK(table != NULL, OUT_OF_MEMORY, error, "no memory for %s", q->table->name);
    crank_status status = safetensors_read_f32(q->file, q->table, table, error);
    size_t distances = n / (size_t)q->heads;
    for (size_t d = 0; status == CRANK_OK && d < distances; d++) {
        int32_t bucket =
            positions_t5_bucket((int32_t)d - (q->span - 1), true, q->n_buckets, q->max_distance);
        for (int32_t h = 0; h < q->heads; h++) {
            bias[(size_t)h * distances + d] = table[bucket * q->heads + h];
        }
    }
    mem_free(table);
    return status;
}

void model_distance_bias(model_reader *r, const float **bias, const char *name, int layer,
                         int field, distance_bias_request *request)
{
    if (!r->converted) request->table = bind_get(&r->bound, field, layer >= 0 ? layer : 0);
    request->file = r->file;
    size_t n = (size_t)request->heads * (size_t)(2 * request->span - 1);
    store_computed_floats(&r->store, bias, name, layer, n, compute_distance_bias, request);
}

static crank_status find_reduction(const char *name, prompt_reduction *reduction,
                                   crank_error *error)
{
    for (int i = 0; i < PROMPT_N_REDUCTIONS; i++) {
        if (strcmp(prompt_reduction_names[i], name) != 0) continue;
        *reduction = (prompt_reduction)i;
        return CRANK_OK;
    }
    return status_fail(error, CRANK_INVALID_ARGUMENT,
                       "reduction: expected logit, diff, log_softmax, probability or "
                       "expectation, found \"%s\"",
                       name);
}

static const char *first_of(const char *a, const char *b, const char *c)
{
    return a != NULL ? a : b != NULL ? b : c;
}

crank_status model_ranker(model_reader *r, crank_error *error)
{
    crank_model *m = r->model;
    const crank_model_options *o = r->options;
    const char *model_type;
    CRANK_TRY(config_string(r->config, "model_type", &model_type, error));
    const prompt_scheme *known = prompt_scheme_find(model_type, reader_name(r));
    CRANK_CHECK(known != NULL, UNSUPPORTED, error,
                "%s: no ranking scheme is known for model_type \"%s\"", config_name(r->config),
                model_type);
    m->ranker.present = true;
    const char *text = first_of(o->prompt, reader_metadata(r, "crank.prompt"), known->template);
    m->prompt = mem_strdup(text);
    CRANK_CHECK(m->prompt != NULL, OUT_OF_MEMORY, error, "no memory");
    const char *reduction = first_of(o->reduction, reader_metadata(r, "crank.reduction"),
                                     prompt_reduction_names[known->reduction]);
    CRANK_TRY(find_reduction(reduction, &m->ranker.reduction, error));
    const char *kept = reader_metadata(r, "crank.answers");
    CRANK_CHECK(
        !r->converted || o->answer_tokens == NULL ||
            (kept != NULL && strcmp(o->answer_tokens, kept) == 0),
        INVALID_ARGUMENT, error,
        "answers: a converted file holds the rows of its own answers (%s) alone: convert the "
        "folder again with other ones",
        kept != NULL ? kept : "all tokens");
    const char *given = first_of(o->answer_tokens, kept, NULL);
    const tokenizer *tok = r->text_tokenizer != NULL ? r->text_tokenizer->tok : NULL;
    if (given == NULL && tok == NULL) return CRANK_OK;
    return prompt_answers(m->ranker.answers, &m->ranker.n_answers,
                          given != NULL ? given : known->answers, tok, m->tokens.vocab_size, error);
}

crank_status model_encoder_ranker(model_reader *r, crank_error *error)
{
    crank_model *m = r->model;
    const prompt_scheme *known = prompt_scheme_find("t5", reader_name(r));
    const char *by_name = known->reduction == PROMPT_LOGIT ? known->template : NULL;
    const char *text = first_of(r->options->prompt, reader_metadata(r, "crank.prompt"), by_name);
    if (text == NULL) return CRANK_OK;
    CRANK_CHECK(r->dims.size['N'] == 1, UNSUPPORTED, error,
                "%s: the classifier has %lld labels, expected 1 of a ranker with a prompt",
                config_name(r->config), (long long)r->dims.size['N']);
    m->ranker = (ranker){.present = true, .head = true, .n_answers = 1};
    m->prompt = mem_strdup(text);
    CRANK_CHECK(m->prompt != NULL, OUT_OF_MEMORY, error, "no memory");
    return CRANK_OK;
}

void model_head(model_reader *r, const head_fields *f, int32_t d_dense, int32_t labels)
{
    store *s = &r->store;
    readout *out = &r->model->readout;
    int32_t width = r->model->encoder.width;
    out->kind = READOUT_HEAD;
    out->width = labels;
    ops_head *head = &out->head;
    *head = (ops_head){.d_in = width, .labels = labels, .activation = f->activation};
    if (f->dense >= 0) {
        head->d_dense = d_dense;
        store_floats(s, &head->dense, "head.dense", -1, f->dense, 0, d_dense, width, false);
        store_floats(s, &head->dense_bias, "head.dense_bias", -1, f->dense_bias, 0, d_dense, 1,
                     false);
    }
    int32_t inner = f->dense >= 0 ? d_dense : width;
    if (f->norm >= 0) {
        head->norm = (ops_norm){.kind = OPS_NORM_LAYER, .width = inner, .epsilon = f->norm_epsilon};
        store_floats(s, &head->norm.gamma, "head.norm.gamma", -1, f->norm, 0, inner, 1, false);
        store_floats(s, &head->norm.beta, "head.norm.beta", -1, f->norm_bias, 0, inner, 1, false);
    }
    store_floats(s, &head->out, "head.out", -1, f->out, 0, labels, inner, false);
    store_floats(s, &head->out_bias, "head.out_bias", -1, f->out_bias, 0, labels, 1, false);
    snprintf(out->text, sizeof out->text, "%s%s%s%sclassifier", f->dense >= 0 ? "dense " : "",
             f->dense >= 0 ? ops_activation_names[f->activation] : "", f->dense >= 0 ? ", " : "",
             f->norm >= 0 ? "norm, " : "");
}
