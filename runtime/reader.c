#include "runtime/reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "memory.h"
#include "runtime/tokenize.h"

crank_status options_read(void *out, size_t out_bytes, const void *options, const char *name,
                          crank_error *error)
{
    memset(out, 0, out_bytes);
    if (options == NULL) return CRANK_OK;
    size_t size;
    memcpy(&size, options, sizeof size);
    CRANK_CHECK(size >= sizeof size && size <= out_bytes, INVALID_ARGUMENT, error,
                "%s.size: expected sizeof the struct (%zu), found %zu", name, out_bytes, size);
    memcpy(out, options, size);
    return CRANK_OK;
}

const char *reader_metadata(const model_reader *r, const char *key)
{
    return r->converted ? safetensors_metadata(r->file, key) : NULL;
}

const char *reader_name(const model_reader *r)
{
    const char *kept = reader_metadata(r, "crank.name");
    return kept != NULL ? kept : r->name;
}

/* "dir/", "dir/." and "dir" are all "dir". */
static crank_status last_component(model_reader *r, const char *path, crank_error *error)
{
    size_t n = strlen(path);
    while (n > 1 && (path[n - 1] == '/' || (path[n - 1] == '.' && path[n - 2] == '/'))) n--;
    size_t start = n;
    while (start > 0 && path[start - 1] != '/') start--;
    r->name = mem_strndup(path + start, n - start);
    CRANK_CHECK(r->name != NULL, OUT_OF_MEMORY, error, "no memory");
    return CRANK_OK;
}

static crank_status open_converted(model_reader *r, const char *path, crank_error *error)
{
    CRANK_TRY(safetensors_open(&r->file, path, error));
    const char *format = safetensors_metadata(r->file, "crank.format");
    CRANK_CHECK(format != NULL, MODEL, error,
                "%s: a safetensors file, but not one that crank convert made: give the model's "
                "folder (with config.json) instead",
                path);
    CRANK_CHECK(strcmp(format, READER_FORMAT) == 0, MODEL, error,
                "%s: converted file of format %s, this crank reads format %s: convert it again",
                path, format, READER_FORMAT);
    const char *layout = safetensors_metadata(r->file, "crank.layout");
    r->file_layout = layout != NULL ? ops_layout_by_name(layout) : NULL;
    CRANK_CHECK(r->file_layout != NULL, MODEL, error, "%s: unknown weight layout \"%s\"", path,
                layout != NULL ? layout : "");
    r->converted = true;
    r->source.file = r->file;
    const char *bi_encoder = safetensors_metadata(r->file, "crank.bi_encoder");
    r->bi_encoder = bi_encoder != NULL && strcmp(bi_encoder, "1") == 0;
    return CRANK_OK;
}

crank_status reader_open(model_reader *r, const char *path, crank_error *error)
{
    struct stat at;
    CRANK_CHECK(stat(path, &at) == 0, IO, error,
                "%s: no such model: expected a folder with config.json and model.safetensors, or a "
                "file made by crank convert",
                path);
    CRANK_TRY(last_component(r, path, error));
    r->bi_encoder = r->options->bi_encoder != 0;
    if (S_ISDIR(at.st_mode)) {
        r->source.dir = path;
    } else {
        CRANK_TRY(open_converted(r, path, error));
        r->bi_encoder |= r->options->bi_encoder != 0;
    }
    CRANK_TRY(config_open(&r->config, &r->source, "config.json", error));
    CRANK_TRY(sentence_config_read(&r->sentence, &r->source, r->config, error));
    CRANK_TRY(config_open_optional(&r->settings, &r->source, "artifact.metadata", error));
    if (r->settings == NULL) {
        CRANK_TRY(config_open_optional(&r->settings, &r->source,
                                       "config_sentence_transformers.json", error));
    }
    if (r->source.dir != NULL) CRANK_TRY(safetensors_open_model(&r->file, path, error));
    return CRANK_OK;
}

static crank_status find_architecture(model_reader *r, crank_error *error)
{
    const char *model_type;
    CRANK_TRY(config_string(r->config, "model_type", &model_type, error));
    char known[256] = "";
    for (int i = 0; architectures[i] != NULL; i++) {
        for (const char *const *type = architectures[i]->model_types; *type != NULL; type++) {
            if (strcmp(*type, model_type) == 0) {
                r->model->arch = architectures[i];
                return CRANK_OK;
            }
            size_t used = strlen(known);
            snprintf(known + used, sizeof known - used, "%s%s", used > 0 ? ", " : "", *type);
        }
    }
    return status_fail(error, CRANK_UNSUPPORTED, "%s: model_type is \"%s\", expected one of %s",
                       config_name(r->config), model_type, known);
}

#define FIRST_DIM 'A'
#define LAST_DIM 'Z'

void reader_dims_text(const model_reader *r, char *text, size_t bytes)
{
    size_t used = 0;
    text[0] = '\0';
    for (int letter = FIRST_DIM; letter <= LAST_DIM; letter++) {
        int64_t size = r->dims.size[letter];
        if (size == 0 || used >= bytes) continue;
        used += (size_t)snprintf(text + used, bytes - used, "%s%c=%lld", used > 0 ? " " : "",
                                 letter, (long long)size);
    }
}

/* A converted file keeps what its weights told (the number of labels); the config says the rest. */
static crank_status read_dims(model_reader *r, crank_error *error)
{
    const char *text = reader_metadata(r, "crank.dims");
    CRANK_CHECK(text != NULL, MODEL, error, "converted file: metadata crank.dims is missing");
    while (*text != '\0') {
        char letter = text[0];
        CRANK_CHECK(letter >= FIRST_DIM && letter <= LAST_DIM && text[1] == '=', MODEL, error,
                    "converted file: crank.dims is malformed at \"%.16s\"", text);
        char *end;
        long long size = strtoll(text + 2, &end, 10);
        CRANK_CHECK(end != text + 2 && size > 0 && size <= INT32_MAX, MODEL, error,
                    "converted file: crank.dims is malformed at \"%.16s\"", text);
        if (r->dims.size[(int)letter] == 0) r->dims.size[(int)letter] = size;
        text = *end == ' ' ? end + 1 : end;
        CRANK_CHECK(*end == ' ' || *end == '\0', MODEL, error,
                    "converted file: crank.dims is malformed at \"%.16s\"", end);
    }
    return CRANK_OK;
}

static crank_status check_labels(const model_reader *r, crank_error *error)
{
    const readout *out = &r->model->readout;
    bool classifier = out->kind == READOUT_HEAD && !r->model->ranker.present;
    if (!classifier || r->converted) return CRANK_OK;
    int32_t declared;
    CRANK_TRY(config_label_count(r->config, &declared, error));
    CRANK_CHECK(out->width >= 1 && out->width <= 4096, MODEL, error,
                "the classifier has %d rows, expected 1 to 4096 labels", out->width);
    CRANK_CHECK(declared == 0 || declared == out->width, MODEL, error,
                "%s: id2label has %d labels, the classifier %d rows", config_name(r->config),
                declared, out->width);
    return CRANK_OK;
}

/* Before the weights are declared: a ranker's answers are words of the vocabulary. */
static crank_status open_tokenizer(model_reader *r, crank_error *error)
{
    if (r->converted) return CRANK_OK;
    crank_error reason = {0};
    crank_status status = tokenize_open_folder(&r->text_tokenizer, r->source.dir, &reason);
    if (status == CRANK_IO) {
        /* Weights without a tokenizer are useful to whoever has token ids. */
        r->tokenizer_missing = mem_strdup(reason.message);
        CRANK_CHECK(r->tokenizer_missing != NULL, OUT_OF_MEMORY, error, "no memory");
        return CRANK_OK;
    }
    if (status != CRANK_OK && error != NULL) *error = reason;
    return status;
}

/* A prompt, answers or a reduction for a model that has none would be ignored without a word. */
static crank_status check_ranker_options(const model_reader *r, crank_error *error)
{
    const crank_model_options *o = r->options;
    const ranker *k = &r->model->ranker;
    const char *type = r->model->arch->model_types[0];
    CRANK_CHECK(o->prompt == NULL || k->present, INVALID_ARGUMENT, error,
                "prompt: expected a T5 ranker, this is %s", type);
    CRANK_CHECK((o->answer_tokens == NULL && o->reduction == NULL) || (k->present && !k->head),
                INVALID_ARGUMENT, error, "%s: expected a ranker with a decoder, this is %s",
                o->answer_tokens != NULL ? "answers" : "reduction",
                k->head ? "an encoder with a head" : type);
    return CRANK_OK;
}

crank_status reader_declare(model_reader *r, const ops_layout *layout, crank_error *error)
{
    CRANK_TRY(find_architecture(r, error));
    CRANK_TRY(open_tokenizer(r, error));
    const architecture *arch = r->model->arch;
    CRANK_TRY(arch->configure(r, error));
    if (r->converted) {
        CRANK_TRY(read_dims(r, error));
    } else {
        unsigned conditions = arch->conditions(r);
        int n_layers = r->n_bound_layers > 0 ? r->n_bound_layers : r->model->encoder.n_layers;
        CRANK_TRY(
            bind_open(&r->bound, r->file, arch->names, &r->dims, n_layers, conditions, error));
    }
    store_open(&r->store, r->converted ? NULL : &r->bound, r->file, layout, r->file_layout);
    CRANK_TRY(arch->declare(r, error));
    CRANK_TRY(check_ranker_options(r, error));
    return check_labels(r, error);
}

void reader_dtypes(const model_reader *r, char *text, size_t bytes)
{
    const char *kept = reader_metadata(r, "crank.source_dtypes");
    if (kept != NULL) {
        snprintf(text, bytes, "%s", kept);
        return;
    }
    bool seen[DTYPE_COUNT] = {false};
    text[0] = '\0';
    for (size_t i = 0; i < safetensors_count(r->file); i++) {
        dtype type = safetensors_at(r->file, i)->type;
        if (seen[type] || !dtype_is_float(type)) continue;
        seen[type] = true;
        size_t used = strlen(text);
        snprintf(text + used, bytes - used, "%s%s", used > 0 ? "," : "", dtype_name(type));
    }
}

#define FINGERPRINT_END 4096 /* bytes at either end of a tensor */

static crank_status fingerprint_file(const safetensors *file, XXH128_hash_t *all,
                                     crank_error *error)
{
    char bytes[FINGERPRINT_END];
    for (size_t i = 0; i < safetensors_count(file); i++) {
        const st_tensor *t = safetensors_at(file, i);
        struct {
            XXH128_hash_t before, name, first, last;
            int64_t type, rank, shape[ST_MAX_RANK];
        } part = {.before = *all,
                  .name = XXH3_128bits(t->name, strlen(t->name)),
                  .type = t->type,
                  .rank = t->rank};
        memcpy(part.shape, t->shape, sizeof part.shape);
        size_t n = t->bytes < sizeof bytes ? (size_t)t->bytes : sizeof bytes;
        CRANK_TRY(safetensors_read_range(file, t, 0, n, bytes, error));
        part.first = XXH3_128bits(bytes, n);
        CRANK_TRY(safetensors_read_range(file, t, t->bytes - n, n, bytes, error));
        part.last = XXH3_128bits(bytes, n);
        *all = XXH3_128bits(&part, sizeof part);
    }
    return CRANK_OK;
}

crank_status reader_fingerprint(const model_reader *r, char text[READER_FINGERPRINT_BYTES],
                                crank_error *error)
{
    const char *kept = reader_metadata(r, "crank.fingerprint");
    text[0] = '\0';
    if (r->converted) {
        if (kept != NULL) snprintf(text, READER_FINGERPRINT_BYTES, "%s", kept);
        return CRANK_OK;
    }
    XXH128_hash_t all = {0, 0};
    CRANK_TRY(fingerprint_file(r->file, &all, error));
    for (int i = 0; i < SENTENCE_MAX_MODULES; i++) {
        if (r->module_files[i] != NULL) {
            CRANK_TRY(fingerprint_file(r->module_files[i], &all, error));
        }
    }
    snprintf(text, READER_FINGERPRINT_BYTES, "%016llx%016llx", (unsigned long long)all.high64,
             (unsigned long long)all.low64);
    return CRANK_OK;
}

void reader_close(model_reader *r)
{
    store_close(&r->store);
    bind_close(&r->bound);
    sentence_config_free(&r->sentence);
    config_close(r->config);
    safetensors_close(r->file);
    for (int i = 0; i < SENTENCE_MAX_MODULES; i++) safetensors_close(r->module_files[i]);
    config_close(r->settings);
    crank_tokenizer_close(r->text_tokenizer);
    mem_free(r->tokenizer_missing);
    mem_free(r->name);
}
