#include "weights/sentence_config.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "memory.h"
#include "weights/file.h"

#define SETTINGS_FILE "config_sentence_transformers.json"
#define MODULES_FILE "modules.json"

/* sentence-transformers tries them in this order, in the Transformer module's folder. */
static const char *const transformer_files[] = {
    "sentence_bert_config.json",       "sentence_roberta_config.json",
    "sentence_distilbert_config.json", "sentence_camembert_config.json",
    "sentence_albert_config.json",     "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
};
enum { N_TRANSFORMER_FILES = sizeof transformer_files / sizeof transformer_files[0] };

/* ---- activation
 * ----------------------------------------------------------------------------------*/

static const char *last_component(const char *dotted)
{
    const char *dot = strrchr(dotted, '.');
    return dot != NULL ? dot + 1 : dotted;
}

/* True when `name` decides; a name outside torch leaves a warning. */
static int take_activation(sentence_config *s, const char *name, const char *source)
{
    if (strncmp(name, "torch.", 6) != 0) {
        snprintf(s->warning, sizeof s->warning,
                 "%s names the activation \"%.80s\", which is not torch's and is ignored", source,
                 name);
        return 0;
    }
    const char *class = last_component(name);
    s->activation = strcmp(class, "Sigmoid") == 0    ? SENTENCE_ACTIVATION_SIGMOID
                    : strcmp(class, "Identity") == 0 ? SENTENCE_ACTIVATION_IDENTITY
                                                     : SENTENCE_ACTIVATION_OTHER;
    s->activation_name = name;
    s->activation_source = source;
    return 1;
}

static crank_status read_activation(sentence_config *s, const config *main, crank_error *error)
{
    const char *name;
    s->activation = SENTENCE_ACTIVATION_DEFAULT;
    s->activation_source = "default";
    CRANK_TRY(config_string_or(s->settings, "activation_fn", NULL, &name, error));
    if (name != NULL && take_activation(s, name, SETTINGS_FILE ": activation_fn")) {
        if (s->module_list == NULL) {
            snprintf(s->warning, sizeof s->warning,
                     "%s is honoured, though sentence-transformers reads it only beside a %s",
                     s->activation_source, MODULES_FILE);
        }
        return CRANK_OK;
    }
    const json_t *group = json_object_get(config_root(main), "sentence_transformers");
    CRANK_CHECK(group == NULL || json_is_null(group) || json_is_object(group), MODEL, error,
                "%s: sentence_transformers is not an object", config_name(main));
    if (json_object_get(group, "activation_fn") != NULL) {
        CRANK_TRY(
            config_string_or(main, "sentence_transformers.activation_fn", NULL, &name, error));
        if (name != NULL) {
            take_activation(s, name, "config.json: sentence_transformers.activation_fn");
        }
        return CRANK_OK;
    }
    CRANK_TRY(config_string_or(main, "sbert_ce_default_activation_function", NULL, &name, error));
    if (name != NULL) {
        take_activation(s, name, "config.json: sbert_ce_default_activation_function");
    }
    return CRANK_OK;
}

/* ---- modules
 * -------------------------------------------------------------------------------------*/

static crank_status module_string(const config *list, const json_t *entry, size_t index,
                                  const char *key, const char **out, crank_error *error)
{
    const json_t *value = json_object_get(entry, key);
    CRANK_CHECK(json_is_string(value), MODEL, error, "%s: module %zu: %s is %s", config_name(list),
                index, key, value == NULL ? "missing" : "not a string");
    *out = json_string_value(value);
    return CRANK_OK;
}

static crank_status read_modules(sentence_config *s, const config_source *source,
                                 crank_error *error)
{
    static const struct {
        const char *class;
        sentence_module_type type;
    } known[] = {
        {"Transformer", SENTENCE_TRANSFORMER},
        {"Pooling", SENTENCE_POOLING},
        {"Dense", SENTENCE_DENSE},
        {"LayerNorm", SENTENCE_LAYER_NORM},
        {"Normalize", SENTENCE_NORMALIZE},
        {"LogitScore", SENTENCE_LOGIT_SCORE},
    };
    enum { N_KNOWN = sizeof known / sizeof known[0] };
    const json_t *list = config_root(s->module_list);
    size_t n = json_array_size(list);
    CRANK_CHECK(n <= SENTENCE_MAX_MODULES, UNSUPPORTED, error,
                "%s: lists %zu modules, at most %d are supported", config_name(s->module_list), n,
                SENTENCE_MAX_MODULES);
    for (size_t i = 0; i < n; i++) {
        const json_t *entry = json_array_get(list, i);
        sentence_module *module = &s->modules[i];
        const char *type = NULL;
        CRANK_TRY(module_string(s->module_list, entry, i, "type", &type, error));
        CRANK_TRY(module_string(s->module_list, entry, i, "name", &module->name, error));
        CRANK_TRY(module_string(s->module_list, entry, i, "path", &module->path, error));
        size_t k = 0;
        while (k < N_KNOWN && strcmp(known[k].class, last_component(type)) != 0) k++;
        CRANK_CHECK(k < N_KNOWN, UNSUPPORTED, error, "%s: module %zu: type \"%s\" is not supported",
                    config_name(s->module_list), i, type);
        module->type = known[k].type;
        /* Normalize has no files and its folder is often not shipped. */
        CRANK_CHECK(module->path[0] == '\0' || file_is_plain(module->path), MODEL, error,
                    "%s: module %zu: path \"%s\" is not a plain path in the folder",
                    config_name(s->module_list), i, module->path);
        char *path = NULL;
        if (source->file == NULL && module->path[0] != '\0') {
            path = file_join(source->dir, module->path);
            CRANK_CHECK(path != NULL, OUT_OF_MEMORY, error, "%s: no memory for its path",
                        module->path);
        }
        crank_status status = CRANK_OK;
        if (path != NULL && file_exists(path)) {
            status = file_check_inside(source->dir, module->path, error);
        }
        mem_free(path);
        CRANK_TRY(status);
        if (module->type == SENTENCE_NORMALIZE) s->normalize = i + 1 == n;
    }
    s->n_modules = (int)n;
    return CRANK_OK;
}

/* PATH/FILE into name; PATH may be "". */
static crank_status join_name(char name[512], const char *path, const char *file,
                              crank_error *error)
{
    int used = snprintf(name, 512, "%s%s%s", path, path[0] != '\0' ? "/" : "", file);
    CRANK_CHECK(used > 0 && used < 512, MODEL, error, "modules.json: path \"%s\" is too long",
                path);
    return CRANK_OK;
}

/* ---- pooling
 * -------------------------------------------------------------------------------------*/

static const struct {
    const char *name, *legacy_flag; /* in the order in which sentence-transformers joins them */
    sentence_pooling pooling;
} poolings[] = {
    {"cls", "pooling_mode_cls_token", SENTENCE_POOL_CLS},
    {"max", "pooling_mode_max_tokens", SENTENCE_POOL_MAX},
    {"mean", "pooling_mode_mean_tokens", SENTENCE_POOL_MEAN},
    {"mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens", SENTENCE_POOL_MEAN_SQRT_LEN},
    {"weightedmean", "pooling_mode_weightedmean_tokens", SENTENCE_POOL_WEIGHTED_MEAN},
    {"lasttoken", "pooling_mode_lasttoken", SENTENCE_POOL_LAST},
};
enum { N_POOLINGS = sizeof poolings / sizeof poolings[0] };

/* New style: "pooling_mode": "mean", or a list of such names. */
static crank_status read_named_pooling(sentence_config *s, const config *c, crank_error *error)
{
    const json_t *value = json_object_get(config_root(c), "pooling_mode");
    CRANK_CHECK(!json_is_array(value) || json_array_size(value) == 1, UNSUPPORTED, error,
                "%s: pooling_mode lists %zu modes, one is supported", config_name(c),
                json_array_size(value));
    if (json_is_array(value)) value = json_array_get(value, 0);
    CRANK_CHECK(json_is_string(value), MODEL, error,
                "%s: pooling_mode is neither a string nor a list of one", config_name(c));
    for (int i = 0; i < N_POOLINGS; i++) {
        if (strcmp(json_string_value(value), poolings[i].name) == 0) {
            s->pooling = poolings[i].pooling;
            return CRANK_OK;
        }
    }
    return status_fail(error, CRANK_UNSUPPORTED, "%s: pooling_mode \"%.60s\" is not supported",
                       config_name(c), json_string_value(value));
}

/* Old style: one flag each; none set means mean. */
static crank_status read_flagged_pooling(sentence_config *s, const config *c, crank_error *error)
{
    s->pooling = SENTENCE_POOL_MEAN;
    for (int i = 0, found = 0; i < N_POOLINGS; i++) {
        int set;
        CRANK_TRY(config_bool_or(c, poolings[i].legacy_flag, 0, &set, error));
        if (!set) continue;
        CRANK_CHECK(!found++, UNSUPPORTED, error,
                    "%s: more than one pooling_mode is set, one is "
                    "supported",
                    config_name(c));
        s->pooling = poolings[i].pooling;
    }
    return CRANK_OK;
}

static crank_status read_pooling(sentence_config *s, const config_source *source,
                                 const sentence_module *module, crank_error *error)
{
    char name[512];
    config *c;
    CRANK_TRY(join_name(name, module->path, "config.json", error));
    CRANK_TRY(config_open(&c, source, name, error));
    crank_status status = config_has(c, "pooling_mode") ? read_named_pooling(s, c, error)
                                                        : read_flagged_pooling(s, c, error);
    if (status == CRANK_OK) {
        status = config_int_or(c, "embedding_dimension|word_embedding_dimension", 1, 1 << 20, 0,
                               &s->pooling_width, error);
    }
    int include = 1;
    if (status == CRANK_OK) status = config_bool_or(c, "include_prompt", 1, &include, error);
    s->without_prompt = !include;
    config_close(c);
    return status;
}

static crank_status read_dense(sentence_module *module, const config_source *source,
                               crank_error *error)
{
    char name[512];
    config *c;
    const char *output;
    CRANK_TRY(join_name(name, module->path, "config.json", error));
    CRANK_TRY(config_open_optional(&c, source, name, error));
    crank_status status = config_string_or(c, "module_output_name", "", &output, error);
    if (status == CRANK_OK) module->gives_scores = strcmp(output, "scores") == 0;
    config_close(c);
    return status;
}

/* ---- length, case, prompts
 * -----------------------------------------------------------------------*/

static crank_status read_transformer(sentence_config *s, const config_source *source,
                                     const char *path, crank_error *error)
{
    config *c = NULL;
    for (int i = 0; i < N_TRANSFORMER_FILES && c == NULL; i++) {
        char name[512];
        CRANK_TRY(join_name(name, path, transformer_files[i], error));
        CRANK_TRY(config_open_optional(&c, source, name, error));
    }
    crank_status status =
        config_int_or(c, "max_seq_length", 1, INT32_MAX, 0, &s->max_seq_length, error);
    if (status == CRANK_OK) {
        status = config_bool_or(c, "do_lower_case", 0, &s->do_lower_case, error);
    }
    config_close(c);
    return status;
}

static crank_status read_settings(sentence_config *s, crank_error *error)
{
    const char *type;
    const json_t *prompts = json_object_get(config_root(s->settings), "prompts");
    CRANK_TRY(config_string_or(s->settings, "model_type", "", &type, error));
    s->is_cross_encoder = strcmp(type, "CrossEncoder") == 0;
    CRANK_TRY(
        config_string_or(s->settings, "default_prompt_name", NULL, &s->default_prompt_name, error));
    CRANK_CHECK(prompts == NULL || json_is_null(prompts) || json_is_object(prompts), MODEL, error,
                "%s: prompts is not an object", config_name(s->settings));
    if (s->default_prompt_name == NULL) return CRANK_OK;
    s->default_prompt = sentence_prompt(s, s->default_prompt_name);
    CRANK_CHECK(s->default_prompt != NULL, MODEL, error,
                "%s: default_prompt_name is \"%.60s\", which prompts does not have",
                config_name(s->settings), s->default_prompt_name);
    return CRANK_OK;
}

const char *sentence_prompt(const sentence_config *s, const char *name)
{
    const json_t *prompts = json_object_get(config_root(s->settings), "prompts");
    return json_string_value(json_object_get(prompts, name));
}

/* ---- all of it
 * -----------------------------------------------------------------------------------*/

crank_status sentence_config_read(sentence_config *out, const config_source *source,
                                  const config *main, crank_error *error)
{
    const char *transformer_path = "";
    *out = (sentence_config){0};
    CRANK_TRY(config_open_optional(&out->settings, source, SETTINGS_FILE, error));
    CRANK_TRY(config_open_list_optional(&out->module_list, source, MODULES_FILE, error));
    CRANK_TRY(read_activation(out, main, error));
    CRANK_TRY(read_settings(out, error));
    CRANK_TRY(read_modules(out, source, error));
    for (int i = 0; i < out->n_modules; i++) {
        sentence_module *module = &out->modules[i];
        if (module->type == SENTENCE_TRANSFORMER) transformer_path = module->path;
        if (module->type == SENTENCE_DENSE) CRANK_TRY(read_dense(module, source, error));
        if (module->type == SENTENCE_POOLING) CRANK_TRY(read_pooling(out, source, module, error));
    }
    return read_transformer(out, source, transformer_path, error);
}

void sentence_config_free(sentence_config *s)
{
    config_close(s->settings);
    config_close(s->module_list);
    *s = (sentence_config){0};
}

static crank_status copy_one(st_writer *writer, const config_source *source, const char *path,
                             const char *file, crank_error *error)
{
    char name[512], key[600], *text;
    size_t bytes;
    CRANK_TRY(join_name(name, path, file, error));
    CRANK_TRY(config_text(&text, &bytes, source, name, error));
    if (text == NULL) return CRANK_OK;
    snprintf(key, sizeof key, CONFIG_METADATA_PREFIX "%s", name);
    crank_status status = st_writer_metadata(writer, key, text, error);
    mem_free(text);
    return status;
}

crank_status sentence_config_copy(st_writer *writer, const config_source *source,
                                  const sentence_config *s, crank_error *error)
{
    static const char *const files[] = {"config.json", SETTINGS_FILE, MODULES_FILE,
                                        "artifact.metadata"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        CRANK_TRY(copy_one(writer, source, "", files[i], error));
    }
    for (int m = -1; m < s->n_modules; m++) { /* -1: the folder itself */
        const char *path = m < 0 ? "" : s->modules[m].path;
        int done = m >= 0 && path[0] == '\0';
        for (int before = 0; before < m; before++) {
            done |= strcmp(s->modules[before].path, path) == 0;
        }
        if (done) continue;
        for (int i = 0; i < N_TRANSFORMER_FILES; i++) {
            CRANK_TRY(copy_one(writer, source, path, transformer_files[i], error));
        }
        if (path[0] != '\0') CRANK_TRY(copy_one(writer, source, path, "config.json", error));
    }
    return CRANK_OK;
}
