/* Opening a model: folder or converted file -> config -> architecture -> weights in one block ->
 * tokenizer, and what `crank info` tells of it. */
#include "runtime/model.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "memory.h"
#include "runtime/cache.h"
#include "runtime/devices.h"
#include "runtime/reader.h"
#include "runtime/tokenize.h"

const char *crank_version(void)
{
    return CRANK_VERSION;
}

void model_forward(const crank_model *m, ops_context *ctx, float *out)
{
    if (m->arch->forward != NULL) {
        m->arch->forward(m, ctx, out);
    } else {
        model_forward_encoder(m, ctx, out);
    }
}

static ops_tensor take_step(ops_context *ctx, const readout_step *step, ops_tensor x)
{
    const unsigned both = OPS_USE_VALUE | OPS_USE_OPERAND;
    if (step->linear.n != 0) {
        ops_tensor y = ops_new(ctx, x.rows, step->linear.n, both);
        ops_linear_act(ctx, &y, &x, &step->linear, step->activation);
        if (step->residual.n != 0) {
            ops_tensor wider = ops_new(ctx, x.rows, step->linear.n, OPS_USE_VALUE);
            ops_linear_act(ctx, &wider, &x, &step->residual, OPS_IDENTITY);
            x = wider;
        }
        if (step->adds) {
            ops_add_norm(ctx, &y, &y, &x, &step->norm);
            return y;
        }
        x = y;
    }
    if (step->norm.kind != OPS_NORM_NONE) ops_norm_rows(ctx, &x, &x, &step->norm);
    return x;
}

void model_forward_encoder(const crank_model *m, ops_context *ctx, float *out)
{
    ops_tensor x = encoder_forward(&m->encoder, ctx);
    const readout *r = &m->readout;
    if (r->kind != READOUT_TOKENS && !m->encoder.first_row_only) {
        unsigned uses = r->n_steps > 0 ? OPS_USE_VALUE | OPS_USE_OPERAND : OPS_USE_VALUE;
        ops_tensor pooled = ops_new(ctx, ctx->batch.n_sequences, x.cols, uses);
        ops_pool(ctx, &pooled, &x, r->pool);
        x = pooled;
    }
    for (int i = 0; i < r->n_steps; i++) x = take_step(ctx, &r->steps[i], x);
    if (r->kind == READOUT_HEAD) {
        ops_head_logits(ctx, out, &x, &r->head);
    } else {
        ops_vectors(ctx, out, &x, r->normalize);
    }
}

/* ---- dtype and layout ---- */

static crank_status choose_dtype(model_reader *r, crank_error *error)
{
    crank_model *m = r->model;
    const ops_layout *file_layout = r->file_layout;
    crank_dtype asked = r->options->dtype;
    if (asked != CRANK_DTYPE_AUTO) {
        m->dtype = device_dtype(asked);
    } else if (file_layout != NULL && m->backend->layout(m->device, file_layout->dtype) != NULL) {
        m->dtype = file_layout->dtype;
    } else {
        m->dtype = m->backend->best_dtype(m->device);
    }
    m->layout = m->backend->layout(m->device, m->dtype);
    CRANK_CHECK(m->layout != NULL, UNSUPPORTED, error,
                "%s does not compute in %s on this machine; --dtype auto takes %s",
                m->backend->name, ops_dtypes[m->dtype].name,
                ops_dtypes[m->backend->best_dtype(m->device)].name);
    return CRANK_OK;
}

static crank_status copy_text(char **out, const char *text, crank_error *error)
{
    *out = NULL;
    if (text == NULL || text[0] == '\0') return CRANK_OK;
    *out = mem_strdup(text);
    CRANK_CHECK(*out != NULL, OUT_OF_MEMORY, error, "no memory");
    return CRANK_OK;
}

/* ---- tokenizer ---- */

static crank_status open_tokenizer(model_reader *r, const uint8_t *host_data, crank_error *error)
{
    crank_model *m = r->model;
    m->text_tokenizer = r->text_tokenizer;
    m->tok_missing = r->tokenizer_missing;
    r->text_tokenizer = NULL;
    r->tokenizer_missing = NULL;
    if (r->converted) {
        crank_error reason = {0};
        crank_status status =
            tokenize_open_converted(&m->text_tokenizer, r->file, host_data, &reason);
        if (status == CRANK_IO) return copy_text(&m->tok_missing, reason.message, error);
        if (status != CRANK_OK && error != NULL) *error = reason;
        CRANK_TRY(status);
    }
    if (m->text_tokenizer == NULL) return CRANK_OK;
    m->tok = m->text_tokenizer->tok;
    if (m->late.present) return model_late_tokens(r, m->tok, error);
    if (!m->ranker.present) return CRANK_OK;
    CRANK_TRY(prompt_compile(&m->ranker.prompt, m->prompt, m->tok, error));
    CRANK_CHECK(m->ranker.prompt.n_fixed + 2 <= m->tokens.max_tokens, INVALID_ARGUMENT, error,
                "prompt: its %d tokens leave no room in %d", m->ranker.prompt.n_fixed,
                m->tokens.max_tokens);
    return CRANK_OK;
}

static crank_status check_tokenizer(const model_reader *r, crank_error *error)
{
    const crank_model *m = r->model;
    if (m->tok == NULL) return CRANK_OK;
    const tok_info *info = tokenizer_info(m->tok);
    CRANK_CHECK(info->vocab_size <= m->tokens.vocab_size, MODEL, error,
                "%s: the tokenizer has ids up to %d, the word table %d rows", info->source,
                info->vocab_size - 1, m->tokens.vocab_size);
    return CRANK_OK;
}

/* ---- lengths and activation ---- */

/* sentence-transformers: the tokenizer's model_max_length, and no more than the position table; for
 * bi-encoders sentence_bert_config.json's max_seq_length comes first. */
static void choose_max_length(model_reader *r)
{
    crank_model *m = r->model;
    size_t usable = (size_t)m->tokens.max_tokens;
    m->max_length = usable;
    const char *source = "the model's positions";
    int64_t asked = m->tok != NULL ? tokenizer_info(m->tok)->model_max_length : 0;
    if (asked > 0 && (size_t)asked < m->max_length) {
        m->max_length = (size_t)asked;
        source = "tokenizer_config.json model_max_length";
    }
    int32_t sentence = r->sentence.max_seq_length;
    if (sentence > 0 && (size_t)sentence < usable) {
        m->max_length = (size_t)sentence;
        source = "sentence_bert_config.json max_seq_length";
    }
    if (m->late.present) { /* a Transformer module's max_seq_length is what it was last used with */
        const late_interaction *late = &m->late;
        m->max_length =
            (size_t)(late->query_length > late->document_length ? late->query_length
                                                                : late->document_length);
        source = "the longer of query and document length";
    }
    snprintf(m->max_length_source, sizeof m->max_length_source, "%s", source);
}

/* MaxSim runs on the host, whatever the encoder ran on, with the CPU's instruction set. */
static void choose_maxsim(model_reader *r)
{
    crank_model *m = r->model;
    if (m->backend == &ops_backend_ref) {
        m->late.kernel = maxsim_kernel_for("ref");
    } else {
        bool named = m->backend == &ops_backend_cpu;
        m->late.kernel = maxsim_kernel_for_level(named ? r->options->isa : NULL);
    }
}

static crank_status choose_activation(model_reader *r, crank_error *error)
{
    crank_model *m = r->model;
    const sentence_config *s = &r->sentence;
    static const struct {
        const char *suffix;
        crank_activation activation;
    } known[] = {{"Identity", CRANK_ACTIVATION_IDENTITY},
                 {"Sigmoid", CRANK_ACTIVATION_SIGMOID},
                 {"Tanh", CRANK_ACTIVATION_TANH},
                 {"Softmax", CRANK_ACTIVATION_SOFTMAX}};
    snprintf(m->activation_source, sizeof m->activation_source, "%s", s->activation_source);
    m->activation = CRANK_ACTIVATION_IDENTITY;
    if (m->readout.kind != READOUT_HEAD) {
        snprintf(m->activation_source, sizeof m->activation_source, "vectors have none");
    } else if (m->ranker.present && m->ranker.head) {
        snprintf(m->activation_source, sizeof m->activation_source,
                 "the head's output is the score");
    } else if (m->ranker.present) {
        snprintf(m->activation_source, sizeof m->activation_source, "the answers' %s is the score",
                 prompt_reduction_names[m->ranker.reduction]);
    } else if (s->activation == SENTENCE_ACTIVATION_IDENTITY) {
        m->activation = CRANK_ACTIVATION_IDENTITY;
    } else if (s->activation == SENTENCE_ACTIVATION_SIGMOID) {
        m->activation = CRANK_ACTIVATION_SIGMOID;
    } else if (s->activation == SENTENCE_ACTIVATION_DEFAULT) {
        snprintf(m->activation_source, sizeof m->activation_source,
                 "sentence-transformers' default for %d label%s", m->readout.width,
                 m->readout.width == 1 ? "" : "s");
        if (m->readout.width == 1) m->activation = CRANK_ACTIVATION_SIGMOID;
    } else {
        size_t n = strlen(s->activation_name);
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
            size_t suffix = strlen(known[i].suffix);
            if (n >= suffix && strcmp(s->activation_name + n - suffix, known[i].suffix) == 0) {
                m->activation = known[i].activation;
                return CRANK_OK;
            }
        }
        return status_fail(error, CRANK_UNSUPPORTED,
                           "%s names \"%s\", expected Identity, Sigmoid, Tanh or Softmax",
                           s->activation_source, s->activation_name);
    }
    return CRANK_OK;
}

int32_t model_labels(const crank_model *m)
{
    if (m->readout.kind != READOUT_HEAD || m->ranker.n_answers > 0) return 1;
    return m->readout.width;
}

/* ---- info ---- */

static crank_status fill_info(model_reader *r, crank_error *error)
{
    crank_model *m = r->model;
    const encoder *e = &m->encoder;
    static const char *const activation_names[] = {"model", "identity", "sigmoid", "tanh",
                                                   "softmax"};
    const tok_info *tok = m->tok != NULL ? tokenizer_info(m->tok) : NULL;
    CRANK_TRY(copy_text(&m->tokenizer_warning, tok != NULL ? tok->warning : NULL, error));
    CRANK_TRY(copy_text(&m->source_sha256, reader_metadata(r, "crank.source_sha256"), error));
    CRANK_TRY(copy_text(&m->converted_by, reader_metadata(r, "crank.version"), error));
    reader_dtypes(r, m->source_dtypes, sizeof m->source_dtypes);
    m->info = (crank_model_info){
        .size = sizeof m->info,
        .kind = m->readout.kind == READOUT_HEAD     ? CRANK_CROSS_ENCODER
                : m->readout.kind == READOUT_VECTOR ? CRANK_BI_ENCODER
                                                    : CRANK_LATE_INTERACTION,
        .architecture = m->arch->model_types[0],
        .name = m->name,
        .path = m->path,
        .device = m->backend->name,
        .device_description = m->backend->describe(m->device),
        .dtype = ops_dtypes[m->dtype].name,
        .layout = m->layout->name,
        .source_dtypes = m->source_dtypes,
        .n_parameters = r->store.n_parameters,
        .weight_bytes = r->store.bytes,
        .layers = e->n_layers,
        .width = e->width,
        .heads = e->heads,
        .head_width = e->head_width,
        .ffn_width = e->ffn_width,
        .vocab_size = m->tokens.vocab_size,
        .max_positions = m->tokens.max_tokens,
        .labels = model_labels(m),
        .hidden_activation = ops_activation_names[e->activation],
        .pooling = m->readout.kind == READOUT_TOKENS      ? "every token"
                   : m->ranker.present && !m->ranker.head ? "one decode step"
                                                          : ops_pool_names[m->readout.pool],
        .head = m->readout.text,
        .activation = m->activation,
        .activation_name = activation_names[m->activation],
        .activation_source = m->activation_source,
        .tokenizer_model = tok != NULL ? tok->model : NULL,
        .tokenizer_source = tok != NULL ? tok->source : m->tok_missing,
        .tokenizer_warning = m->tokenizer_warning,
        .max_length = (int32_t)m->max_length,
        .max_length_source = m->max_length_source,
        .prompt = m->prompt,
        .source_sha256 = m->source_sha256,
        .converted_by = m->converted_by,
    };
    return CRANK_OK;
}

static void fill_digest(crank_model *m)
{
    size_t bytes = 0;
    cache_model_digest(m, m->info.digest);
    const void *image = m->tok != NULL ? tokenizer_image(m->tok, &bytes) : NULL;
    if (image == NULL) return;
    XXH128_hash_t all = XXH3_128bits_withSeed(image, bytes, m->info.digest[0]);
    m->info.digest[0] = all.high64;
    m->info.digest[1] ^= all.low64;
}

crank_status crank_model_describe(const crank_model *model, crank_model_info *info,
                                  crank_error *error)
{
    CRANK_CHECK(model != NULL && info != NULL, INVALID_ARGUMENT, error,
                "crank_model_describe: model and info must not be NULL");
    size_t size = info->size;
    CRANK_CHECK(size >= sizeof(size_t) && size <= sizeof *info, INVALID_ARGUMENT, error,
                "crank_model_info.size: expected at most %zu, found %zu", sizeof *info, size);
    memcpy(info, &model->info, size);
    info->size = size;
    return CRANK_OK;
}

void crank_model_notes(const crank_model *model, char *text, size_t bytes)
{
    if (text == NULL || bytes == 0) return;
    text[0] = 0;
    if (model != NULL && model->backend->notes != NULL)
        model->backend->notes(model->device, text, bytes);
}

/* ---- open and close ---- */

static crank_status load_weights(model_reader *r, const uint8_t **host_data, crank_error *error)
{
    crank_model *m = r->model;
    int threads = r->options->load_threads;
    team *packers = NULL;
    crank_status status = CRANK_OK;
    if (r->file_layout != m->layout && threads != 1) {
        CRANK_TRY_GOTO(team_open(&packers, threads, 0, error));
    }
    status = store_load(&r->store, m->backend, m->device, packers, &m->block, host_data, error);
    memcpy(m->weights_digest, r->store.digest, sizeof m->weights_digest);
out:
    team_close(packers);
    return status;
}

crank_status crank_model_open(crank_model **model, const char *path,
                              const crank_model_options *options, crank_error *error)
{
    CRANK_CHECK(model != NULL && path != NULL, INVALID_ARGUMENT, error,
                "crank_model_open: model and path must not be NULL");
    *model = NULL;
    crank_model_options settings;
    CRANK_TRY(options_read(&settings, sizeof settings, options, "crank_model_options", error));
    crank_model *m = mem_zero(1, sizeof *m);
    CRANK_CHECK(m != NULL, OUT_OF_MEMORY, error, "no memory for a model");
    model_reader r = {.model = m, .options = &settings};
    const uint8_t *host_data = NULL;
    crank_status status;
    CRANK_TRY_GOTO(copy_text(&m->path, path, error));
    CRANK_TRY_GOTO(reader_open(&r, path, error));
    CRANK_TRY_GOTO(copy_text(&m->name, reader_name(&r), error));
    CRANK_TRY_GOTO(device_open(&settings, &m->backend, &m->device, error));
    CRANK_TRY_GOTO(choose_dtype(&r, error));
    CRANK_TRY_GOTO(reader_declare(&r, m->layout, error));
    CRANK_TRY_GOTO(load_weights(&r, &host_data, error));
    if (m->arch->share != NULL) m->arch->share(m);
    CRANK_TRY_GOTO(open_tokenizer(&r, host_data, error));
    CRANK_TRY_GOTO(check_tokenizer(&r, error));
    choose_max_length(&r);
    choose_maxsim(&r);
    CRANK_TRY_GOTO(choose_activation(&r, error));
    if (!m->ranker.present) {
        CRANK_TRY_GOTO(copy_text(&m->prompt, r.sentence.default_prompt, error));
    }
    CRANK_TRY_GOTO(fill_info(&r, error));
    fill_digest(m);
    *model = m;
    m = NULL;
out:
    reader_close(&r);
    crank_model_close(m);
    return status;
}

void crank_model_close(crank_model *m)
{
    if (m == NULL) return;
    if (m->arch != NULL && m->arch->close != NULL) m->arch->close(m);
    mem_free(m->family);
    crank_tokenizer_close(m->text_tokenizer);
    prompt_free(&m->ranker.prompt);
    if (m->block != NULL) m->backend->memory_close(m->device, m->block);
    if (m->device != NULL) m->backend->close(m->device);
    mem_free(m->encoder.layers);
    mem_free(m->tok_missing);
    mem_free(m->prompt);
    mem_free(m->path);
    mem_free(m->name);
    mem_free(m->tokenizer_warning);
    mem_free(m->source_sha256);
    mem_free(m->converted_by);
    mem_free(m);
}

const crank_tokenizer *crank_model_tokenizer(const crank_model *model)
{
    return model != NULL ? model->text_tokenizer : NULL;
}
