/* What stands after the encoder in folders that sentence-transformers wrote as a list of modules: a
 * pooling (bi-encoders), a head of Dense and LayerNorm modules (the ettin rerankers), or a
 * projection of every token (ColBERT, PyLate's and Stanford's). */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "memory.h"
#include "runtime/model.h"
#include "runtime/reader.h"
#include "runtime/tokenize.h"

static bool is_stanford_colbert(const model_reader *r)
{
    const json_t *list = json_object_get(config_root(r->config), "architectures");
    const char *first = json_string_value(json_array_get(list, 0));
    return first != NULL && strcmp(first, "HF_ColBERT") == 0;
}

static bool is_pylate_colbert(const model_reader *r)
{
    const json_t *settings = config_root(r->settings);
    const char *type = json_string_value(json_object_get(settings, "model_type"));
    if (type != NULL && strcmp(type, "ColBERT") == 0) return true;
    return json_object_get(settings, "query_length") != NULL &&
           json_object_get(settings, "document_length") != NULL;
}

static int first_after_pooling(const sentence_config *s)
{
    for (int i = 0; i < s->n_modules; i++) {
        if (s->modules[i].type == SENTENCE_POOLING) return i + 1;
    }
    return s->n_modules;
}

/* Dense modules are a head where they say so, or stand in a cross-encoder; else they make vectors
 * of vectors. */
static bool has_score_head(const sentence_config *s)
{
    for (int i = first_after_pooling(s); i < s->n_modules; i++) {
        if (s->modules[i].type != SENTENCE_DENSE) continue;
        if (s->is_cross_encoder || s->modules[i].gives_scores) return true;
    }
    return false;
}

readout_source model_readout_source(const model_reader *r)
{
    const sentence_config *s = &r->sentence;
    if (r->bi_encoder) return SOURCE_POOLING;
    if (is_stanford_colbert(r) || is_pylate_colbert(r)) return SOURCE_TOKENS;
    if (has_score_head(s)) return SOURCE_MODULES;
    if (s->is_cross_encoder || s->pooling == SENTENCE_POOL_NONE) return SOURCE_HEAD;
    return SOURCE_POOLING;
}

bool model_wants_vectors(const model_reader *r)
{
    return model_readout_source(r) != SOURCE_HEAD;
}

/* ---- pooling ---- */

static crank_status choose_pooling(model_reader *r, const char **text, crank_error *error)
{
    static const struct {
        sentence_pooling from;
        ops_pool_kind to;
    } poolings[] = {
        {SENTENCE_POOL_NONE, OPS_POOL_MEAN}, /* sentence-transformers' own default */
        {SENTENCE_POOL_CLS, OPS_POOL_FIRST},
        {SENTENCE_POOL_MEAN, OPS_POOL_MEAN},
        {SENTENCE_POOL_MAX, OPS_POOL_MAX},
        {SENTENCE_POOL_LAST, OPS_POOL_LAST},
        {SENTENCE_POOL_MEAN_SQRT_LEN, OPS_POOL_MEAN_SQRT},
        {SENTENCE_POOL_WEIGHTED_MEAN, OPS_POOL_WEIGHTED},
    };
    for (size_t i = 0; i < sizeof poolings / sizeof poolings[0]; i++) {
        if (poolings[i].from != r->sentence.pooling) continue;
        r->model->readout.pool = poolings[i].to;
        *text = ops_pool_names[poolings[i].to];
        return CRANK_OK;
    }
    return status_fail(error, CRANK_UNSUPPORTED,
                       "1_Pooling/config.json: expected mean, cls or max pooling, found another");
}

/* ---- module files ---- */

/* The weights in PATH of module i, opened once; closed by reader_close. */
static crank_status module_file(model_reader *r, int i, const safetensors **file,
                                crank_error *error)
{
    char path[4096];
    *file = NULL;
    if (r->converted) return CRANK_OK;
    int n = snprintf(path, sizeof path, "%s/%s", r->source.dir, r->sentence.modules[i].path);
    CRANK_CHECK(n > 0 && (size_t)n < sizeof path, MODEL, error, "a module's path is too long");
    if (r->module_files[i] == NULL)
        CRANK_TRY(safetensors_open_model(&r->module_files[i], path, error));
    *file = r->module_files[i];
    return CRANK_OK;
}

/* A module's tensor; its sizes go into dims (0: learned here) or are checked against them. */
static crank_status module_tensor(model_reader *r, const safetensors *file, const char *name,
                                  int rows, int cols, const st_tensor **tensor, crank_error *error)
{
    *tensor = NULL;
    if (file == NULL) return CRANK_OK;
    *tensor = safetensors_find(file, name);
    const char *path = safetensors_file_path(file, 0);
    CRANK_CHECK(*tensor != NULL, MODEL, error, "%s: tensor %s is missing", path, name);
    int letters[2] = {rows, cols};
    int expected_rank = cols != 0 ? 2 : 1;
    CRANK_CHECK((*tensor)->rank == expected_rank, MODEL, error,
                "%s: %s: expected rank %d, found %d", path, name, expected_rank, (*tensor)->rank);
    for (int i = 0; i < expected_rank; i++) {
        int64_t *size = &r->dims.size[letters[i]], found = (*tensor)->shape[i];
        if (*size == 0) *size = found;
        CRANK_CHECK(found == *size && found >= 1 && found <= 65536, MODEL, error,
                    "%s: %s: dimension %d is %lld, expected %lld", path, name, i, (long long)found,
                    (long long)*size);
    }
    return CRANK_OK;
}

/* Of a Dense module. residual: whether its input is added to its output; NULL: it must not be. */
static crank_status module_activation(model_reader *r, int i, ops_activation *activation,
                                      bool *residual, crank_error *error)
{
    static const struct {
        const char *suffix;
        ops_activation activation;
    } known[] = {{"Identity", OPS_IDENTITY},
                 {"GELU", OPS_GELU},
                 {"Tanh", OPS_TANH},
                 {"ReLU", OPS_RELU},
                 {"SiLU", OPS_SILU}};
    char name[512];
    config *c = NULL;
    const char *function = NULL;
    snprintf(name, sizeof name, "%s/config.json", r->sentence.modules[i].path);
    CRANK_TRY(config_open(&c, &r->source, name, error));
    crank_status status = config_string_or(c, "activation_function",
                                           "torch.nn.modules.activation.Tanh", &function, error);
    int adds = 0;
    if (status == CRANK_OK) status = config_bool_or(c, "use_residual", 0, &adds, error);
    if (residual != NULL) *residual = adds != 0;
    if (status == CRANK_OK && adds && residual == NULL) {
        status =
            status_fail(error, CRANK_UNSUPPORTED, "%s: use_residual is true, expected false", name);
    }
    size_t n = status == CRANK_OK ? strlen(function) : 0;
    size_t k = 0;
    for (; status == CRANK_OK && k < sizeof known / sizeof known[0]; k++) {
        size_t suffix = strlen(known[k].suffix);
        if (n < suffix || strcmp(function + n - suffix, known[k].suffix) != 0) continue;
        *activation = known[k].activation;
        break;
    }
    if (status == CRANK_OK && k == sizeof known / sizeof known[0]) {
        status = status_fail(error, CRANK_UNSUPPORTED,
                             "%s: activation_function is \"%s\", expected Identity, GELU, Tanh, "
                             "ReLU or SiLU",
                             name, function);
    }
    config_close(c);
    return status;
}

/* ---- steps from vectors to vectors ---- */

static crank_status dense_width(const model_reader *r, int i, int32_t *width, crank_error *error)
{
    char name[512];
    config *c = NULL;
    snprintf(name, sizeof name, "%s/config.json", r->sentence.modules[i].path);
    CRANK_TRY(config_open(&c, &r->source, name, error));
    crank_status status = config_int(c, "out_features", 1, 65536, width, error);
    config_close(c);
    return status;
}

static crank_status add_dense(model_reader *r, int i, const char *name, int32_t *width,
                              crank_error *error)
{
    readout *out = &r->model->readout;
    readout_step *step = &out->steps[out->n_steps++];
    int32_t wider;
    const safetensors *file;
    const st_tensor *weight, *bias = NULL;
    char full[64];
    CRANK_TRY(dense_width(r, i, &wider, error));
    CRANK_TRY(module_activation(r, i, &step->activation, &step->adds, error));
    CRANK_TRY(module_file(r, i, &file, error));
    r->dims.size['K'] = *width;
    r->dims.size['M'] = wider;
    CRANK_TRY(module_tensor(r, file, "linear.weight", 'M', 'K', &weight, error));
    if (file != NULL && safetensors_find(file, "linear.bias") != NULL) {
        CRANK_TRY(module_tensor(r, file, "linear.bias", 'M', 0, &bias, error));
    }
    snprintf(full, sizeof full, out->n_steps == 1 ? "%s" : "%s.%d", name, out->n_steps - 1);
    store_tensor_linear(&r->store, &step->linear, full, file, weight, bias, wider, *width);
    if (step->adds && wider != *width) {
        CRANK_TRY(module_tensor(r, file, "residual.weight", 'M', 'K', &weight, error));
        snprintf(full, sizeof full, "%s.%d.residual", name, out->n_steps - 1);
        store_tensor_linear(&r->store, &step->residual, full, file, weight, NULL, wider, *width);
    }
    *width = wider;
    return CRANK_OK;
}

static crank_status add_norm(model_reader *r, int i, const char *name, int32_t width,
                             crank_error *error)
{
    readout *out = &r->model->readout;
    const safetensors *file;
    const st_tensor *gamma, *beta;
    char full[64];
    bool joins = out->n_steps > 0 && out->steps[out->n_steps - 1].norm.kind == OPS_NORM_NONE;
    ops_norm *norm = &out->steps[joins ? out->n_steps - 1 : out->n_steps++].norm;
    CRANK_TRY(module_file(r, i, &file, error));
    r->dims.size['M'] = width;
    CRANK_TRY(module_tensor(r, file, "norm.weight", 'M', 0, &gamma, error));
    CRANK_TRY(module_tensor(r, file, "norm.bias", 'M', 0, &beta, error));
    *norm = (ops_norm){.kind = OPS_NORM_LAYER, .width = width, .epsilon = 1e-5f};
    snprintf(full, sizeof full, "%s.%d.gamma", name, out->n_steps - 1);
    store_tensor_floats(&r->store, &norm->gamma, full, file, gamma, width, 1);
    snprintf(full, sizeof full, "%s.%d.beta", name, out->n_steps - 1);
    store_tensor_floats(&r->store, &norm->beta, full, file, beta, width, 1);
    return CRANK_OK;
}

/* Modules from `first` on as steps; *width in and out. A Normalize may only end the list. */
static crank_status declare_steps(model_reader *r, int first, const char *name, int32_t *width,
                                  crank_error *error)
{
    const sentence_config *s = &r->sentence;
    for (int i = first; i < s->n_modules; i++) {
        sentence_module_type type = s->modules[i].type;
        bool last = i == s->n_modules - 1;
        CRANK_CHECK(type == SENTENCE_DENSE || type == SENTENCE_LAYER_NORM ||
                        (type == SENTENCE_NORMALIZE && last),
                    UNSUPPORTED, error,
                    "modules.json: module %d (%s) cannot stand here: expected Dense, LayerNorm, or "
                    "Normalize at the end",
                    i, s->modules[i].path);
        if (type == SENTENCE_DENSE) CRANK_TRY(add_dense(r, i, name, width, error));
        if (type == SENTENCE_LAYER_NORM) CRANK_TRY(add_norm(r, i, name, *width, error));
    }
    return CRANK_OK;
}

/* ---- a head of modules ---- */

/* Dense (activation), LayerNorm?, Dense to the scores; or the last Dense alone. */
static crank_status declare_module_head(model_reader *r, crank_error *error)
{
    crank_model *m = r->model;
    const sentence_config *s = &r->sentence;
    int dense[2], n_dense = 0, norm = -1;
    for (int i = first_after_pooling(s); i < s->n_modules; i++) {
        sentence_module_type type = s->modules[i].type;
        CRANK_CHECK(type == SENTENCE_DENSE || type == SENTENCE_LAYER_NORM, UNSUPPORTED, error,
                    "modules.json: module %d after the pooling is neither Dense nor LayerNorm", i);
        CRANK_CHECK(type != SENTENCE_DENSE || n_dense < 2, UNSUPPORTED, error,
                    "modules.json: expected at most two Dense modules");
        if (type == SENTENCE_DENSE) dense[n_dense++] = i;
        if (type == SENTENCE_LAYER_NORM) norm = i;
    }
    ops_head *head = &m->readout.head;
    *head = (ops_head){.d_in = m->encoder.width};
    const safetensors *file;
    const st_tensor *tensor;
    int inner = 'D';
    if (n_dense == 2) {
        inner = 'M';
        CRANK_TRY(module_file(r, dense[0], &file, error));
        CRANK_TRY(module_tensor(r, file, "linear.weight", 'M', 'D', &tensor, error));
        head->d_dense = (int32_t)r->dims.size['M'];
        store_tensor_floats(&r->store, &head->dense, "head.dense", file, tensor, head->d_dense,
                            m->encoder.width);
        tensor = file != NULL ? safetensors_find(file, "linear.bias") : NULL;
        store_tensor_floats(&r->store, &head->dense_bias, "head.dense_bias", file, tensor,
                            head->d_dense, 1);
        CRANK_TRY(module_activation(r, dense[0], &head->activation, NULL, error));
    }
    int32_t width = (int32_t)r->dims.size[inner];
    if (norm >= 0) {
        CRANK_TRY(module_file(r, norm, &file, error));
        CRANK_TRY(module_tensor(r, file, "norm.weight", inner, 0, &tensor, error));
        head->norm = (ops_norm){.kind = OPS_NORM_LAYER, .width = width, .epsilon = 1e-5f};
        store_tensor_floats(&r->store, &head->norm.gamma, "head.norm.gamma", file, tensor, width,
                            1);
        CRANK_TRY(module_tensor(r, file, "norm.bias", inner, 0, &tensor, error));
        store_tensor_floats(&r->store, &head->norm.beta, "head.norm.beta", file, tensor, width, 1);
    }
    int last = dense[n_dense - 1];
    ops_activation activation;
    CRANK_TRY(module_activation(r, last, &activation, NULL, error));
    CRANK_CHECK(activation == OPS_IDENTITY, UNSUPPORTED, error,
                "modules.json: the last Dense module has activation %s, expected identity",
                ops_activation_names[activation]);
    CRANK_TRY(module_file(r, last, &file, error));
    CRANK_TRY(module_tensor(r, file, "linear.weight", 'N', inner, &tensor, error));
    head->labels = (int32_t)r->dims.size['N'];
    store_tensor_floats(&r->store, &head->out, "head.out", file, tensor, head->labels, width);
    tensor = file != NULL ? safetensors_find(file, "linear.bias") : NULL;
    store_tensor_floats(&r->store, &head->out_bias, "head.out_bias", file, tensor, head->labels, 1);
    m->readout.kind = READOUT_HEAD;
    m->readout.width = head->labels;
    snprintf(m->readout.text, sizeof m->readout.text, "modules: %s%s%sdense to scores",
             n_dense == 2 ? "dense " : "",
             n_dense == 2 ? ops_activation_names[head->activation] : "",
             norm >= 0      ? ", norm, "
             : n_dense == 2 ? ", "
                            : "");
    return CRANK_OK;
}

/* ---- late interaction ---- */

#define LATE_STEP "late.projection"

/* The id of a token by the first of its spellings that the vocabulary has. */
static int32_t token_of(const tokenizer *tok, const char *a, const char *b)
{
    if (tok == NULL) return -1;
    int32_t id = a != NULL ? tokenizer_token_id(tok, a, strlen(a)) : -1;
    return id >= 0 || b == NULL ? id : tokenizer_token_id(tok, b, strlen(b));
}

static void add_skip(late_interaction *late, const tokenizer *tok, const char *word)
{
    int32_t id = tokenizer_token_id(tok, word, strlen(word));
    if (id >= 0 && late->n_skip < LATE_MAX_SKIP) late->skip[late->n_skip++] = id;
}

static void read_skip_list(late_interaction *late, const model_reader *r, const tokenizer *tok)
{
    const json_t *words = json_object_get(config_root(r->settings), "skiplist_words");
    if (json_is_array(words)) {
        for (size_t i = 0; i < json_array_size(words); i++) {
            const char *word = json_string_value(json_array_get(words, i));
            if (word != NULL) add_skip(late, tok, word);
        }
        return;
    }
    static const char punctuation[] = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";
    for (const char *p = punctuation; *p != '\0'; p++) add_skip(late, tok, (char[]){*p, '\0'});
}

/* Once the tokenizer is there: markers, mask and skip list are tokens of it. */
crank_status model_late_tokens(model_reader *r, const tokenizer *tok, crank_error *error)
{
    late_interaction *late = &r->model->late;
    const char *query, *document;
    CRANK_TRY(
        config_string_or(r->settings, "query_prefix|query_token_id", "[unused0]", &query, error));
    CRANK_TRY(config_string_or(r->settings, "document_prefix|doc_token_id", "[unused1]", &document,
                               error));
    late->query_marker = token_of(tok, query, "[unused0]");
    late->document_marker = token_of(tok, document, "[unused1]");
    late->mask_id = tokenizer_info(tok)->mask_id;
    CRANK_CHECK(late->mask_id >= 0 || !late->expand, MODEL, error,
                "the tokenizer has no mask token to expand queries with");
    read_skip_list(late, r, tok);
    size_t fixed = (size_t)tokenizer_info(tok)->n_added_single + 2;
    CRANK_CHECK((size_t)late->query_length > fixed && (size_t)late->document_length > fixed, MODEL,
                error, "query and document lengths of %d and %d leave no room for text",
                late->query_length, late->document_length);
    return CRANK_OK;
}

/* linear.weight in the model's own file. */
static crank_status declare_stanford_projection(model_reader *r, crank_error *error)
{
    crank_model *m = r->model;
    readout *out = &m->readout;
    const safetensors *file = r->converted ? NULL : r->file;
    const st_tensor *weight;
    CRANK_TRY(module_tensor(r, file, "linear.weight", 'M', 'D', &weight, error));
    out->width = (int32_t)r->dims.size['M'];
    store_tensor_linear(&r->store, &out->steps[out->n_steps++].linear, LATE_STEP, file, weight,
                        NULL, out->width, m->encoder.width);
    return CRANK_OK;
}

static crank_status declare_late(model_reader *r, crank_error *error)
{
    crank_model *m = r->model;
    late_interaction *late = &m->late;
    const config *c = r->settings;
    int32_t most = m->tokens.max_tokens;
    bool stanford = is_stanford_colbert(r);
    int expand, attend;
    const char *similarity;
    CRANK_TRY(config_int_or(c, "query_length|query_maxlen", 4, most, most < 32 ? most : 32,
                            &late->query_length, error));
    CRANK_TRY(config_int_or(c, "document_length|doc_maxlen", 4, most,
                            most < 220 ? most
                            : stanford ? 220
                                       : 180,
                            &late->document_length, error));
    CRANK_TRY(config_bool_or(c, "do_query_expansion", 1, &expand, error));
    CRANK_TRY(
        config_bool_or(c, "attend_to_expansion_tokens|attend_to_mask_tokens", 0, &attend, error));
    CRANK_TRY(config_string_or(c, "similarity", "cosine", &similarity, error));
    late->present = true;
    late->expand = expand != 0;
    late->attend_expansion = attend != 0;
    late->l2 = strcmp(similarity, "l2") == 0;
    m->readout.kind = READOUT_TOKENS;
    m->readout.pool = OPS_POOL_MEAN; /* every row is computed */
    m->readout.normalize = true;
    m->readout.width = m->encoder.width;
    if (stanford || r->sentence.n_modules == 0) {
        CRANK_TRY(declare_stanford_projection(r, error));
    } else {
        CRANK_TRY(declare_steps(r, 1, LATE_STEP, &m->readout.width, error));
    }
    snprintf(m->readout.text, sizeof m->readout.text, "%d-wide vectors of every token, MaxSim",
             m->readout.width);
    return reader_fingerprint(r, late->fingerprint, error);
}

crank_status model_vector_readout(model_reader *r, crank_error *error)
{
    readout *out = &r->model->readout;
    const char *pooling = "";
    switch (model_readout_source(r)) {
    case SOURCE_TOKENS: return declare_late(r, error);
    case SOURCE_MODULES:
        CRANK_TRY(choose_pooling(r, &pooling, error));
        return declare_module_head(r, error);
    case SOURCE_HEAD:
    case SOURCE_POOLING: break;
    }
    const sentence_config *s = &r->sentence;
    CRANK_TRY(choose_pooling(r, &pooling, error));
    CRANK_CHECK(!s->without_prompt || s->default_prompt == NULL, UNSUPPORTED, error,
                "1_Pooling/config.json: include_prompt is false, expected true beside the prompt "
                "\"%.60s\"",
                s->default_prompt_name);
    out->kind = READOUT_VECTOR;
    out->width = r->model->encoder.width;
    out->normalize = true; /* scores are cosines, whether or not a Normalize module ends the list */
    int first = first_after_pooling(s);
    if (!has_score_head(s) && s->n_modules > 0)
        CRANK_TRY(declare_steps(r, first, "dense", &out->width, error));
    int used = snprintf(out->text, sizeof out->text, "%s pooling, ", pooling);
    if (out->n_steps > 0) {
        used += snprintf(out->text + used, sizeof out->text - (size_t)used, "%d module%s to %d, ",
                         out->n_steps, out->n_steps == 1 ? "" : "s", out->width);
    }
    snprintf(out->text + used, sizeof out->text - (size_t)used, "L2 norm, cosine");
    return CRANK_OK;
}
