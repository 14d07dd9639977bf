#define _POSIX_C_SOURCE 200809L
/* A model folder's tokenizer files become an image: tokenizer.json, or vocab.txt made into the same
 * JSON with the settings that transformers' BertTokenizer takes; tokenizer_config.json and
 * special_tokens_map.json name the special tokens, and override the BERT normaliser as transformers
 * does (sentence-transformers follows it; text-embeddings-inference reads tokenizer.json alone). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory.h"
#include "tokenizer/inside.h"
#include "tokenizer/json.h"
#include "utf8.h"

#define MAX_FILE_BYTES ((off_t)1 << 29)
enum { MAX_PATH_BYTES = 4096, MAX_WARNING = 240 };

/* ---- files
 * ---------------------------------------------------------------------------------------- */

/* Reads DIR/NAME; absent: *out NULL and OK. */
static crank_status read_file(const char *dir, const char *name, char **out, size_t *bytes,
                              crank_error *error)
{
    char path[MAX_PATH_BYTES];
    *out = NULL;
    *bytes = 0;
    int length = snprintf(path, sizeof path, "%s/%s", dir, name);
    CRANK_CHECK(length > 0 && (size_t)length < sizeof path, IO, error, "%s: path too long", dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) return CRANK_OK;
    CRANK_CHECK(fd >= 0, IO, error, "%s: %s", path, strerror(errno));

    crank_status status = CRANK_OK;
    struct stat info;
    char *text = NULL;
    size_t got = 0;
    CRANK_CHECK_GOTO(fstat(fd, &info) == 0 && S_ISREG(info.st_mode), IO, error,
                     "%s: not a regular file", path);
    CRANK_CHECK_GOTO(info.st_size <= MAX_FILE_BYTES, LIMIT, error, "%s: %lld bytes, limit %lld",
                     path, (long long)info.st_size, (long long)MAX_FILE_BYTES);
    text = mem_alloc((size_t)info.st_size + 1);
    CRANK_CHECK_GOTO(text != NULL, OUT_OF_MEMORY, error, "%s: out of memory", path);
    while (got < (size_t)info.st_size) {
        ssize_t n = read(fd, text + got, (size_t)info.st_size - got);
        if (n < 0 && errno == EINTR) continue;
        CRANK_CHECK_GOTO(n > 0, IO, error, "%s: %s", path,
                         n == 0 ? "shrank while it was read" : strerror(errno));
        got += (size_t)n;
    }
    text[got] = 0;
    *out = text;
    *bytes = got;
    text = NULL;
out:
    mem_free(text);
    close(fd);
    return status;
}

/* Parses DIR/NAME; absent: *out NULL and OK. */
static crank_status read_json(const char *dir, const char *name, json_t **out, crank_error *error)
{
    char *text;
    size_t bytes;
    *out = NULL;
    CRANK_TRY(read_file(dir, name, &text, &bytes, error));
    if (text == NULL) return CRANK_OK;
    crank_status status = tok_json_parse(out, name, text, bytes, error);
    mem_free(text);
    if (status == CRANK_OK && !json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        status = status_fail(error, CRANK_FORMAT, "%s: expected a JSON object", name);
    }
    return status;
}

/* ---- vocab.txt
 * ------------------------------------------------------------------------------------ */

/* One token per line, its id the line's number. A line ends at LF, a CR before it goes too; the
 * last of equal lines has the token, as in transformers. */
static crank_status vocab_lines(const char *text, size_t bytes, json_t *vocab, crank_error *error)
{
    size_t at = 0;
    for (int64_t line = 0; at < bytes; line++) {
        const char *start = text + at, *end = memchr(start, '\n', bytes - at);
        size_t n = end != NULL ? (size_t)(end - start) : bytes - at;
        at += n + 1;
        if (n > 0 && start[n - 1] == '\r') n--;
        CRANK_CHECK(line < TOK_MAX_VOCABULARY, LIMIT, error, "vocab.txt: more than %d lines",
                    TOK_MAX_VOCABULARY);
        CRANK_CHECK(n <= TOK_MAX_TOKEN_BYTES, LIMIT, error, "vocab.txt: line %lld has %zu bytes",
                    (long long)line + 1, n);
        CRANK_CHECK(utf8_valid_prefix((const uint8_t *)start, n) == n &&
                        memchr(start, 0, n) == NULL,
                    FORMAT, error, "vocab.txt: line %lld is not UTF-8 text", (long long)line + 1);
        char *token = mem_strndup(start, n);
        CRANK_CHECK(token != NULL, OUT_OF_MEMORY, error, "vocab.txt: out of memory");
        int failed = json_object_set_new_nocheck(vocab, token, json_integer(line));
        mem_free(token);
        CRANK_CHECK(failed == 0, OUT_OF_MEMORY, error, "vocab.txt: out of memory");
    }
    CRANK_CHECK(json_object_size(vocab) > 0, FORMAT, error, "vocab.txt: empty");
    return CRANK_OK;
}

/* The special tokens of a BERT vocabulary become added tokens where it has them. */
static int add_special(json_t *list, const json_t *vocab, const char *token)
{
    const json_t *id = json_object_get(vocab, token);
    if (id == NULL) return 0;
    return json_array_append_new(list,
                                 json_pack("{s:I, s:s, s:b, s:b}", "id", json_integer_value(id),
                                           "content", token, "special", 1, "normalized", 0));
}

static bool flag_of(const json_t *config, const char *key, bool absent)
{
    const json_t *value = json_object_get(config, key);
    return json_is_boolean(value) ? json_is_true(value) : absent;
}

/* The tokenizer.json that transformers would write for this vocabulary. */
static crank_status json_of_vocab(const char *text, size_t bytes, const json_t *config,
                                  const tok_settings *settings, json_t **out, crank_error *error)
{
    crank_status status = CRANK_OK;
    json_t *vocab = json_object(), *added = json_array(), *root = NULL;
    CRANK_CHECK_GOTO(vocab != NULL && added != NULL, OUT_OF_MEMORY, error,
                     "vocab.txt: out of memory");
    CRANK_TRY_GOTO(vocab_lines(text, bytes, vocab, error));
    for (int role = TOK_UNK; role <= TOK_MASK; role++)
        CRANK_CHECK_GOTO(add_special(added, vocab, settings->role[role]) == 0, OUT_OF_MEMORY, error,
                         "vocab.txt: out of memory");
    const char *cls = settings->role[TOK_CLS], *sep = settings->role[TOK_SEP];
    const json_t *cls_id = json_object_get(vocab, cls), *sep_id = json_object_get(vocab, sep);
    CRANK_CHECK_GOTO(cls_id != NULL, FORMAT, error, "vocab.txt: \"%.60s\" (cls_token) is missing",
                     cls);
    CRANK_CHECK_GOTO(sep_id != NULL, FORMAT, error, "vocab.txt: \"%.60s\" (sep_token) is missing",
                     sep);
    const json_t *strip = json_object_get(config, "strip_accents");
    root = json_pack(
        "{s:o, s:{s:s, s:b, s:b, s:O?, s:b}, s:{s:s}, s:{s:s, s:[s, I], s:[s, I]},"
        " s:{s:s, s:s, s:O}}",
        "added_tokens", json_incref(added), "normalizer", "type", "BertNormalizer", "clean_text", 1,
        "handle_chinese_chars", flag_of(config, "tokenize_chinese_chars", true), "strip_accents",
        json_is_boolean(strip) ? strip : NULL, "lowercase", flag_of(config, "do_lower_case", true),
        "pre_tokenizer", "type", "BertPreTokenizer", "post_processor", "type", "BertProcessing",
        "sep", sep, json_integer_value(sep_id), "cls", cls, json_integer_value(cls_id), "model",
        "type", "WordPiece", "unk_token", settings->role[TOK_UNK], "vocab", vocab);
    CRANK_CHECK_GOTO(root != NULL, OUT_OF_MEMORY, error, "vocab.txt: out of memory");
    *out = root;
out:
    json_decref(vocab);
    json_decref(added);
    return status;
}

/* ---- tokenizer_config.json, special_tokens_map.json
 * ----------------------------------------------- */

static const char *const role_keys[TOK_ROLES] = {
    [TOK_UNK] = "unk_token", [TOK_PAD] = "pad_token",   [TOK_CLS] = "cls_token",
    [TOK_SEP] = "sep_token", [TOK_MASK] = "mask_token", [TOK_EOS] = "eos_token",
};

/* A token is a string or an object with "content". */
static void read_roles(const json_t *object, tok_settings *settings)
{
    for (int role = 0; role < TOK_ROLES; role++) {
        const json_t *value = json_object_get(object, role_keys[role]);
        if (json_is_object(value)) value = json_object_get(value, "content");
        if (settings->role[role] != NULL || !json_is_string(value)) continue;
        settings->role[role] = json_string_value(value);
        settings->role_bytes[role] = json_string_length(value);
    }
}

static crank_status read_settings(const json_t *config, const json_t *map, bool bert_defaults,
                                  tok_settings *settings, crank_error *error)
{
    static const char *const bert[TOK_ROLES] = {
        [TOK_UNK] = "[UNK]", [TOK_PAD] = "[PAD]",   [TOK_CLS] = "[CLS]",
        [TOK_SEP] = "[SEP]", [TOK_MASK] = "[MASK]", [TOK_EOS] = NULL,
    };
    read_roles(config, settings);
    read_roles(map, settings);
    for (int role = 0; role < TOK_ROLES && bert_defaults; role++) {
        if (settings->role[role] != NULL || bert[role] == NULL) continue;
        settings->role[role] = bert[role];
        settings->role_bytes[role] = strlen(bert[role]);
    }
    int64_t length;
    CRANK_TRY(tok_json_int(config, "tokenizer_config.json", "model_max_length", 0, &length, error));
    /* transformers writes 10^30 for "no limit". */
    settings->model_max_length = length > 0 && length < (int64_t)1 << 40 ? length : 0;
    return CRANK_OK;
}

static json_t *find_bert_normalizer(json_t *normalizer)
{
    const char *type = json_string_value(json_object_get(normalizer, "type"));
    if (type != NULL && strcmp(type, "BertNormalizer") == 0) return normalizer;
    json_t *list = json_object_get(normalizer, "normalizers");
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *step = json_array_get(list, i);
        type = json_string_value(json_object_get(step, "type"));
        if (type != NULL && strcmp(type, "BertNormalizer") == 0) return step;
    }
    return NULL;
}

/* The classes of transformers that leave tokenizer.json as it is. */
static bool plain_class(const json_t *config)
{
    const char *name = json_string_value(json_object_get(config, "tokenizer_class"));
    return name != NULL &&
           (strcmp(name, "PreTrainedTokenizerFast") == 0 ||
            strcmp(name, "PreTrainedTokenizer") == 0 || strcmp(name, "TokenizersBackend") == 0);
}

/* Keys that are there and differ replace those of the BERT normaliser; the warning lists them. */
static crank_status override_bert(json_t *root, const json_t *config, char *warning, size_t size,
                                  crank_error *error)
{
    static const struct {
        const char *config, *normalizer;
        bool absent;
    } keys[] = {{"do_lower_case", "lowercase", true},
                {"strip_accents", "strip_accents", false},
                {"tokenize_chinese_chars", "handle_chinese_chars", true}};
    json_t *bert = find_bert_normalizer(json_object_get(root, "normalizer"));
    if (bert == NULL || config == NULL || plain_class(config)) return CRANK_OK;
    size_t n = 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        json_t *want = json_object_get(config, keys[i].config);
        const json_t *have = json_object_get(bert, keys[i].normalizer);
        if (want == NULL || !(json_is_boolean(want) || json_is_null(want))) continue;
        if (json_is_null(want) && strcmp(keys[i].config, "strip_accents") != 0) continue;
        int is = have == NULL ? (json_is_null(want) ? 2 : keys[i].absent)
                              : (json_is_boolean(have) ? json_is_true(have) : 2);
        if (is == (json_is_boolean(want) ? json_is_true(want) : 2)) continue;
        CRANK_CHECK(json_object_set(bert, keys[i].normalizer, want) == 0, OUT_OF_MEMORY, error,
                    "tokenizer.json: out of memory");
        int wrote = snprintf(warning + n, size - n,
                             "%stokenizer_config.json's %s overrides tokenizer.json's %s",
                             n > 0 ? "; " : "", keys[i].config, keys[i].normalizer);
        if (wrote > 0) n = n + (size_t)wrote < size ? n + (size_t)wrote : size - 1;
    }
    return CRANK_OK;
}

/* ---- opening
 * -------------------------------------------------------------------------------------- */

typedef struct folder {
    json_t *root, *config, *map;
    char *vocab;
    size_t vocab_bytes;
    char warning[MAX_WARNING];
} folder;

/* What a folder has instead of a tokenizer that can be read; NULL: nothing. */
static const char *other_tokenizer(const char *dir)
{
    static const char *const names[] = {"sentencepiece.bpe.model", "spiece.model", "spm.model",
                                        "tokenizer.model", "vocab.json"};
    char path[MAX_PATH_BYTES];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int length = snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        if (length > 0 && (size_t)length < sizeof path && access(path, F_OK) == 0) return names[i];
    }
    return NULL;
}

static crank_status compile_folder(folder *f, const char *dir, void **image, size_t *bytes,
                                   const char **source, crank_error *error)
{
    tok_settings settings = {.model_max_length = 0};
    CRANK_TRY(read_json(dir, "tokenizer_config.json", &f->config, error));
    CRANK_TRY(read_json(dir, "special_tokens_map.json", &f->map, error));
    CRANK_TRY(read_json(dir, "tokenizer.json", &f->root, error));
    *source = "tokenizer.json";
    if (f->root == NULL) {
        *source = "vocab.txt";
        CRANK_TRY(read_file(dir, "vocab.txt", &f->vocab, &f->vocab_bytes, error));
        const char *other = f->vocab == NULL ? other_tokenizer(dir) : NULL;
        CRANK_CHECK(other == NULL, UNSUPPORTED, error,
                    "%s is there, but neither tokenizer.json nor vocab.txt; make the former with "
                    "transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
                    other);
        CRANK_CHECK(f->vocab != NULL, IO, error, "neither tokenizer.json nor vocab.txt is there");
        CRANK_TRY(read_settings(f->config, f->map, true, &settings, error));
        CRANK_TRY(json_of_vocab(f->vocab, f->vocab_bytes, f->config, &settings, &f->root, error));
    } else {
        CRANK_TRY(read_settings(f->config, f->map, false, &settings, error));
        CRANK_TRY(override_bert(f->root, f->config, f->warning, sizeof f->warning, error));
    }
    if (f->warning[0] != 0) settings.warning = f->warning;
    crank_status status = tokenizer_compile(f->root, &settings, image, bytes, error);
    return status == CRANK_OK ? status : status_prefix(error, status, "%s", *source);
}

crank_status tokenizer_open(tokenizer **out, const char *dir, crank_error *error)
{
    *out = NULL;
    folder f;
    memset(&f, 0, sizeof f);
    void *image = NULL;
    size_t bytes = 0;
    const char *source = NULL;
    crank_status status = compile_folder(&f, dir, &image, &bytes, &source, error);
    json_decref(f.root);
    json_decref(f.config);
    json_decref(f.map);
    mem_free(f.vocab);
    if (status == CRANK_OK) status = tokenizer_from_image(out, image, bytes, error);
    if (status != CRANK_OK) {
        mem_free_aligned(image);
        return status_prefix(error, status, "%s", dir);
    }
    (*out)->owned = image;
    (*out)->info.source = source;
    return CRANK_OK;
}
