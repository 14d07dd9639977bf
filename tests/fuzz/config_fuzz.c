/* JSON and configs from hostile bytes. A text is read by jsontext_tree and by jansson's own parser,
 * which must agree but for their documented differences. Then the input, cut at each 0xFF, becomes
 * the small files of a model folder (as a converted file carries them), and everything that reads
 * them runs. */
#define _GNU_SOURCE
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "jsontext.h"
#include "weights/sentence_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* What jansson takes and we do not, or the other way round. */
static int differs_by_design(const char *text, size_t size, const json_error_t *reason)
{
    size_t depth = 0, deepest = 0, digits = 0, longest = 0;
    for (size_t i = 0; i < size; i++) { /* strings count too: too large an estimate is fine */
        depth += text[i] == '[' || text[i] == '{';
        if (depth > deepest) deepest = depth;
        digits = text[i] >= '0' && text[i] <= '9' ? digits + 1 : 0;
        if (digits > longest) longest = digits;
    }
    return deepest > JSONTEXT_MAX_DEPTH || longest > 300 || memchr(text, '\0', size) != NULL ||
           json_error_code(reason) == json_error_numeric_overflow;
}

static void compare_parsers(const char *text, size_t size)
{
    static const jsontext_limits limits = {.flags = JSONTEXT_NUL};
    json_error_t reason;
    crank_error error = {0};
    json_t *ours, *theirs;
    memset(&reason, 0, sizeof reason);
    crank_status status = jsontext_tree(&ours, "fuzz", text, size, &limits, &error);
    theirs =
        json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &reason);
    REQUIRE((status == CRANK_OK) == (ours != NULL));
    REQUIRE((status == CRANK_OK) == (error.message[0] == '\0'));
    if (!differs_by_design(text, size, &reason)) {
        REQUIRE((ours != NULL) == (theirs != NULL));
        REQUIRE(ours == NULL || json_equal(ours, theirs));
    }
    json_decref(ours);
    json_decref(theirs);
}

static void read_config(const char *text, size_t size)
{
    static const char *const words[] = {"gelu", "relu"};
    crank_error error = {0};
    config *c;
    int32_t n;
    int64_t wide;
    double number;
    int which;
    const char *string;
    if (config_parse(&c, "config.json", text, size, &error) != CRANK_OK) return;
    if (config_int(c, "hidden_size|dim", 1, 65536, &n, &error) == CRANK_OK) {
        REQUIRE(n >= 1 && n <= 65536);
    }
    if (config_int64_or(c, "a.b|n", -5, INT64_MAX, -7, &wide, &error) == CRANK_OK) {
        REQUIRE(wide >= -5 || wide == -7);
    }
    if (config_number_or(c, "e", 0, 1, 2, &number, &error) == CRANK_OK) {
        REQUIRE(number >= 0 && number <= 2);
    }
    if (config_choice(c, "hidden_act", words, 2, &which, &error) == CRANK_OK) {
        REQUIRE(which == 0 || which == 1);
    }
    config_bool_or(c, "flag", 0, &which, &error);
    config_string_or(c, "model_type", NULL, &string, &error);
    if (config_label_count(c, &n, &error) == CRANK_OK && n > 0) {
        config_label(c, 0);
        config_label(c, n);
    }
    config_close(c);
}

/* ---- a folder's files ------------------------------------------------------------------------*/

static const char *const names[] = {"config.json", "config_sentence_transformers.json",
                                    "modules.json", "1_Pooling/config.json",
                                    "sentence_bert_config.json"};
enum { N_NAMES = sizeof names / sizeof names[0] };

/* The texts as metadata of a safetensors file in memory; bytes that metadata cannot hold become
 * blanks (compare_parsers has seen them as they are). */
static int write_folder(const char *path, const char *text, size_t size)
{
    crank_error error;
    st_writer *w;
    if (st_writer_open(&w, path, 0, &error) != CRANK_OK) return 0;
    int ok = 1;
    for (int i = 0; i < N_NAMES && size > 0; i++) {
        const char *cut = memchr(text, '\xFF', size);
        size_t bytes = cut != NULL ? (size_t)(cut - text) : size;
        char key[64], *copy = calloc(bytes + 1, 1);
        REQUIRE(copy != NULL);
        for (size_t b = 0; b < bytes; b++) copy[b] = text[b] != '\0' ? text[b] : ' ';
        snprintf(key, sizeof key, CONFIG_METADATA_PREFIX "%s", names[i]);
        if (bytes > 0) ok &= st_writer_metadata(w, key, copy, &error) == CRANK_OK;
        free(copy);
        text += bytes + (cut != NULL);
        size -= bytes + (cut != NULL);
    }
    ok &= st_writer_commit(w, &error) == CRANK_OK;
    st_writer_close(w);
    return ok;
}

static void read_folder(const char *text, size_t size)
{
    static char path[64];
    if (path[0] == '\0') snprintf(path, sizeof path, "/dev/shm/crank-fuzz-%ld", (long)getpid());
    crank_error error = {0};
    safetensors *st;
    config *c = NULL;
    sentence_config s;
    if (!write_folder(path, text, size)) return; /* not UTF-8 */
    REQUIRE(safetensors_open(&st, path, &error) == CRANK_OK);
    unlink(path);
    config_source source = {.file = st};
    config_open_optional(&c, &source, "config.json", &error);
    error.message[0] = '\0';
    crank_status status = sentence_config_read(&s, &source, c, &error);
    REQUIRE((status == CRANK_OK) == (error.message[0] == '\0'));
    if (status == CRANK_OK) {
        REQUIRE(s.activation_source != NULL && s.n_modules <= SENTENCE_MAX_MODULES);
        REQUIRE((s.activation == SENTENCE_ACTIVATION_DEFAULT) == (s.activation_name == NULL));
        REQUIRE(s.default_prompt_name == NULL || s.default_prompt != NULL);
        for (int i = 0; i < s.n_modules; i++) REQUIRE(s.modules[i].path[0] != '/');
    }
    sentence_config_free(&s);
    config_close(c);
    safetensors_close(st);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    compare_parsers((const char *)data, size);
    read_config((const char *)data, size);
    /* Writing a file is slow: only what has more than one part, or asks for it. */
    if (size > 0 && memchr(data, 0xFF, size) != NULL) read_folder((const char *)data, size);
    return 0;
}
