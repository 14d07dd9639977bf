/* Hostile tokenizer files and images, and memory that runs out: each gives its message, none a
 * crash. Under sanitizers this is the test that matters. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "support/model_golden.h"
#include "support/small_tokenizer.h"
#include "support/tokenizer_files.h"
#include "tokenizer/image.h"
#include "tokenizer/tokenizer.h"

/* ---- tokenizer.json
 * ---------------------------------------------------------------------------------- */

#define ADDED(x) SMALL_JSON(x, SMALL_NORMALIZER, SMALL_PRETOKENIZER, SMALL_TEMPLATE, SMALL_MODEL)
#define NORMALIZER(x) SMALL_JSON(SMALL_ADDED, x, SMALL_PRETOKENIZER, SMALL_TEMPLATE, SMALL_MODEL)
#define PRETOKENIZER(x) SMALL_JSON(SMALL_ADDED, SMALL_NORMALIZER, x, SMALL_TEMPLATE, SMALL_MODEL)
#define POST(x) SMALL_JSON(SMALL_ADDED, SMALL_NORMALIZER, SMALL_PRETOKENIZER, x, SMALL_MODEL)
#define MODEL(x) SMALL_JSON("[]", SMALL_NORMALIZER, SMALL_PRETOKENIZER, "null", x)
#define TEN(x) x x x x x x x x x x

static const struct {
    const char *name, *json;
    crank_status status;
    const char *message; /* a part of it */
} cases[] = {
    {"empty file", "", CRANK_FORMAT, "tokenizer.json: line 1"},
    {"not JSON", "{\"a\":", CRANK_FORMAT, "tokenizer.json: line 1"},
    {"JSON but no object", "[1, 2]", CRANK_FORMAT, "expected a JSON object"},
    {"bytes after the end", "{} x", CRANK_FORMAT, "something follows the value"},
    {"invalid UTF-8", "{\"a\": \"\xff\"}", CRANK_FORMAT, "tokenizer.json: line 1"},
    {"lone surrogate", "{\"a\": \"\\ud800\"}", CRANK_FORMAT, "tokenizer.json: line 1"},
    {"deep nesting", TEN(TEN(TEN(TEN("[")))), CRANK_FORMAT, "nested deeper than 127 levels"},
    {"duplicate key", "{\"model\": {}, \"model\": {}}", CRANK_FORMAT, "stands there twice"},
    {"no model", "{}", CRANK_FORMAT, "model: missing"},
    {"model is a list", "{\"model\": []}", CRANK_FORMAT,
     "model: expected an object, found an array"},
    {"unknown model", MODEL("{\"type\":\"WordLevel\",\"vocab\":{}}"), CRANK_UNSUPPORTED,
     "model.type: \"WordLevel\""},
    {"no vocabulary", MODEL("{\"type\":\"WordPiece\"}"), CRANK_FORMAT, "model.vocab: missing"},
    {"vocabulary is a list", MODEL("{\"type\":\"WordPiece\",\"vocab\":[]}"), CRANK_FORMAT,
     "model.vocab: expected an object"},
    {"empty vocabulary", MODEL("{\"type\":\"WordPiece\",\"vocab\":{}}"), CRANK_FORMAT,
     "model.vocab: empty"},
    {"same token twice", MODEL("{\"type\":\"WordPiece\",\"vocab\":{\"a\":0,\"a\":1}}"),
     CRANK_FORMAT, "stands there twice"},
    {"same id twice", MODEL("{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":0,\"a\":0}}"),
     CRANK_FORMAT, "id 0 belongs to \"[UNK]\" and to \"a\""},
    {"negative id", MODEL("{\"type\":\"WordPiece\",\"vocab\":{\"a\":-1}}"), CRANK_FORMAT,
     "id -1 is no integer in 0..16777215"},
    {"huge id", MODEL("{\"type\":\"WordPiece\",\"vocab\":{\"a\":16777216}}"), CRANK_FORMAT,
     "no integer in 0..16777215"},
    {"id beyond 64 bits", MODEL("{\"type\":\"WordPiece\",\"vocab\":{\"a\":99999999999999999999}}"),
     CRANK_FORMAT, "no integer in 0..16777215"},
    {"fractional id", MODEL("{\"type\":\"WordPiece\",\"vocab\":{\"a\":1.5}}"), CRANK_FORMAT,
     "id 1.5 is no integer"},
    {"id is a string", MODEL("{\"type\":\"WordPiece\",\"vocab\":{\"a\":\"1\"}}"), CRANK_FORMAT,
     "id is no integer"},
    {"unknown token missing", MODEL("{\"type\":\"WordPiece\",\"vocab\":{\"a\":0}}"), CRANK_FORMAT,
     "\"[UNK]\" is not in the vocabulary"},
    {"negative word length",
     MODEL("{\"type\":\"WordPiece\",\"max_input_chars_per_word\":-1,\"vocab\":{\"[UNK]\":0}}"),
     CRANK_UNSUPPORTED, "max_input_chars_per_word: -1"},
    {"huge word length",
     MODEL(
         "{\"type\":\"WordPiece\",\"max_input_chars_per_word\":100000000,\"vocab\":{\"[UNK]\":0}}"),
     CRANK_UNSUPPORTED, "max_input_chars_per_word: 100000000"},
    {"prefix is a number",
     MODEL("{\"type\":\"WordPiece\",\"continuing_subword_prefix\":3,\"vocab\":{\"[UNK]\":0}}"),
     CRANK_FORMAT, "continuing_subword_prefix: expected a string, found a number"},
    {"unknown normaliser", NORMALIZER("{\"type\":\"Magic\"}"), CRANK_UNSUPPORTED,
     "normalizer: \"Magic\""},
    {"normaliser without type", NORMALIZER("{}"), CRANK_FORMAT, "normalizer.type: missing"},
    {"normaliser is a string", NORMALIZER("\"NFC\""), CRANK_FORMAT,
     "normalizer: expected an object, found a string"},
    {"flag is no boolean", NORMALIZER("{\"type\":\"BertNormalizer\",\"lowercase\":1}"),
     CRANK_FORMAT, "lowercase: expected a boolean, found a number"},
    {"sequence without list", NORMALIZER("{\"type\":\"Sequence\"}"), CRANK_FORMAT,
     "normalizer.normalizers: missing"},
    {"sequence of nothing sensible", NORMALIZER("{\"type\":\"Sequence\",\"normalizers\":[3]}"),
     CRANK_FORMAT, "normalizer: expected an object"},
    {"sequences in sequences",
     NORMALIZER(TEN("{\"type\":\"Sequence\",\"normalizers\":[") TEN(
         "{\"type\":\"Sequence\",\"normalizers\":[") "{\"type\":\"NFC\"}" TEN("]}") TEN("]}")),
     CRANK_LIMIT, "nested more than 16 deep"},
    {"too many steps",
     NORMALIZER("{\"type\":\"Sequence\",\"normalizers\":[" TEN("{\"type\":\"NFC\"},")
                    TEN("{\"type\":\"NFC\"},") TEN("{\"type\":\"NFC\"},")
                        TEN("{\"type\":\"NFC\"},") "{\"type\":\"NFC\"}]}"),
     CRANK_LIMIT, "more than 32 steps"},
    {"prepend without text", NORMALIZER("{\"type\":\"Prepend\"}"), CRANK_FORMAT, "Prepend.prepend"},
    {"replace without pattern", NORMALIZER("{\"type\":\"Replace\",\"content\":\"x\"}"),
     CRANK_FORMAT, "pattern"},
    {"unknown pre-tokeniser", PRETOKENIZER("{\"type\":\"UnicodeScripts\"}"), CRANK_UNSUPPORTED,
     "pre_tokenizer: \"UnicodeScripts\""},
    {"unknown behavior", PRETOKENIZER("{\"type\":\"Punctuation\",\"behavior\":\"Eaten\"}"),
     CRANK_UNSUPPORTED, "behavior: \"Eaten\""},
    {"unknown scheme", PRETOKENIZER("{\"type\":\"Metaspace\",\"prepend_scheme\":\"maybe\"}"),
     CRANK_UNSUPPORTED, "prepend_scheme: \"maybe\""},
    {"replacement of two characters",
     PRETOKENIZER("{\"type\":\"Metaspace\",\"replacement\":\"ab\"}"), CRANK_FORMAT,
     "Metaspace.replacement: must be one character"},
    {"contradicting prefix",
     PRETOKENIZER(
         "{\"type\":\"Metaspace\",\"add_prefix_space\":false,\"prepend_scheme\":\"first\"}"),
     CRANK_FORMAT, "add_prefix_space is false"},
    {"delimiter missing", PRETOKENIZER("{\"type\":\"CharDelimiterSplit\"}"), CRANK_FORMAT,
     "delimiter: must be one character"},
    {"added tokens are an object", ADDED("{}"), CRANK_FORMAT,
     "added_tokens: expected an array, found an object"},
    {"added token is a string", ADDED("[\"x\"]"), CRANK_FORMAT,
     "added_tokens[0]: expected an object"},
    {"added token without text", ADDED("[{\"id\":0}]"), CRANK_FORMAT,
     "added_tokens[0].content: missing"},
    {"added token without id", ADDED("[{\"content\":\"x\"}]"), CRANK_FORMAT, "added_tokens[0].id"},
    {"added token with another id", ADDED("[{\"id\":7,\"content\":\"[SEP]\"}]"), CRANK_FORMAT,
     "\"[SEP]\" has id 7 here and 3 in the vocabulary"},
    {"added token on a taken id", ADDED("[{\"id\":3,\"content\":\"[X]\"}]"), CRANK_FORMAT,
     "id 3 belongs to \"[SEP]\" and to \"[X]\""},
    {"added token of a kilobyte and more",
     ADDED("[{\"id\":99,\"content\":\"" TEN(TEN("0123456789ab")) "\"}]"), CRANK_LIMIT,
     "1200 bytes, limit 1024"},
    {"added token beyond the ids", ADDED("[{\"id\":16777216,\"content\":\"x\"}]"), CRANK_FORMAT,
     "outside 0..16777215"},
    {"unknown post-processor", POST("{\"type\":\"Stamp\"}"), CRANK_UNSUPPORTED,
     "post_processor: \"Stamp\""},
    {"template without A",
     POST("{\"type\":\"TemplateProcessing\",\"single\":[],\"pair\":[],"
          "\"special_tokens\":{}}"),
     CRANK_OK, ""},
    {"template with A twice",
     POST(
         "{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"A\"}},{\"Sequence\":"
         "{\"id\":\"A\"}}],\"pair\":[],\"special_tokens\":{}}"),
     CRANK_FORMAT, "single template must hold A once"},
    {"template with an unknown token",
     POST("{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"[X]\"}}],"
          "\"pair\":[],\"special_tokens\":{}}"),
     CRANK_FORMAT, "special_tokens: \"[X]\" is missing"},
    {"template with an id outside the vocabulary",
     POST("{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",3],\"cls\":[\"[CLS]\",2000]}"),
     CRANK_FORMAT, "id 2000 is not in the vocabulary"},
    {"template with a negative type",
     POST("{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"A\",\"type_id\":-1}"
          "}],"
          "\"pair\":[],\"special_tokens\":{}}"),
     CRANK_FORMAT, "type_id -1"},
    {"two templates",
     POST("{\"type\":\"Sequence\",\"processors\":[" SMALL_TEMPLATE "," SMALL_TEMPLATE "]}"),
     CRANK_UNSUPPORTED, "two processors that add tokens"},
    {"sep is no pair", POST("{\"type\":\"RobertaProcessing\",\"sep\":3,\"cls\":[\"[CLS]\",2]}"),
     CRANK_FORMAT, "post_processor.sep: expected an array, found a number"},
};

Test(tokenizer_hostile, files_give_their_message)
{
    size_t n = sizeof cases / sizeof *cases, failing = 0;
    for (size_t i = 0; i < n; i++) {
        tokenizer *tok = NULL;
        crank_error error = {0};
        crank_status status = test_open_tokenizer_text(&tok, cases[i].json, &error);
        cr_expect(status == cases[i].status, "%s: status %d, not %d: %s", cases[i].name, status,
                  cases[i].status, error.message);
        cr_expect(strstr(error.message, cases[i].message) != NULL, "%s: \"%s\" lacks \"%s\"",
                  cases[i].name, error.message, cases[i].message);
        cr_expect((tok == NULL) == (status != CRANK_OK));
        failing += status != CRANK_OK;
        tokenizer_close(tok);
    }
    cr_expect(failing >= 50);
}

static void expect_folder(const char *const files[][2], size_t n, crank_status want,
                          const char *message)
{
    char *folder = test_make_folder(), path[4096];
    for (size_t i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i][0]);
        test_write_file(path, files[i][1], strlen(files[i][1]));
    }
    tokenizer *tok = NULL;
    crank_error error = {0};
    crank_status status = tokenizer_open(&tok, folder, &error);
    cr_expect(status == want && strstr(error.message, message) != NULL, "%d, \"%s\" lacks \"%s\"",
              status, error.message, message);
    cr_expect(strstr(error.message, folder) != NULL, "\"%s\" does not name the folder",
              error.message);
    tokenizer_close(tok);
    test_remove_folder(folder);
}

Test(tokenizer_hostile, folders_give_their_message)
{
    const char *const none[][2] = {{"config.json", "{}"}};
    expect_folder(none, 1, CRANK_IO, "neither tokenizer.json nor vocab.txt");
    const char *const spiece[][2] = {{"spiece.model", "x"}};
    expect_folder(spiece, 1, CRANK_UNSUPPORTED,
                  "spiece.model is there, but neither tokenizer.json");
    const char *const empty[][2] = {{"vocab.txt", ""}};
    expect_folder(empty, 1, CRANK_FORMAT, "vocab.txt: empty");
    const char *const bad[][2] = {{"vocab.txt", "[UNK]\n\xff\n"}};
    expect_folder(bad, 1, CRANK_FORMAT, "vocab.txt: line 2 is not UTF-8");
    const char *const no_cls[][2] = {{"vocab.txt", "[UNK]\n[SEP]\n"}};
    expect_folder(no_cls, 1, CRANK_FORMAT, "\"[CLS]\" (cls_token) is missing");
    const char *const no_unk[][2] = {{"vocab.txt", "[CLS]\n[SEP]\n"}};
    expect_folder(no_unk, 1, CRANK_FORMAT, "\"[UNK]\" is not in the vocabulary");
    const char *const config[][2] = {{"tokenizer.json", SMALL_TOKENIZER},
                                     {"tokenizer_config.json", "{\"model_max_length\":\"long\"}"}};
    expect_folder(config, 2, CRANK_FORMAT, "model_max_length: expected an integer");
    const char *const list[][2] = {{"tokenizer.json", SMALL_TOKENIZER},
                                   {"special_tokens_map.json", "[]"}};
    expect_folder(list, 2, CRANK_FORMAT, "special_tokens_map.json: expected a JSON object");
}

/* ---- images
 * ------------------------------------------------------------------------------------------- */

typedef struct copy {
    void *image;
    size_t bytes;
} copy;

static copy copy_of(const tokenizer *tok)
{
    copy c;
    const void *image = tokenizer_image(tok, &c.bytes);
    c.image = aligned_alloc(64, (c.bytes + 63) / 64 * 64);
    memcpy(c.image, image, c.bytes);
    return c;
}

static tokenizer *open_small(void)
{
    tokenizer *tok;
    crank_error error = {0};
    cr_assert(test_open_tokenizer_text(&tok, SMALL_TOKENIZER, &error) == CRANK_OK, "%s",
              error.message);
    return tok;
}

/* Opens an image and, when it opens, uses everything in it. Returns whether it opened. */
static bool use_image(const void *image, size_t bytes, tok_scratch *scratch, tok_ids *ids)
{
    static const char text[] =
        "Hello retrieval [SEP] zz aba\xc3\xa9 \xe4\xb8\xad transformers  [MASK]!";
    tokenizer *tok;
    crank_error error = {0};
    crank_status status = tokenizer_from_image(&tok, image, bytes, &error);
    if (status != CRANK_OK) {
        cr_assert(error.message[0] != 0 && status == error.status);
        return false;
    }
    ids->n = 0;
    tok_encode(tok, scratch, text, sizeof text - 1, TOK_DEFAULT, SIZE_MAX, ids, &error);
    tok_encode(tok, scratch, text, sizeof text - 1, TOK_SPECIALS_AS_TEXT, 3, ids, &error);
    tok_ids offsets = {0};
    tok_encode_offsets(tok, scratch, text, sizeof text - 1, TOK_DEFAULT, ids, &offsets, &error);
    tok_ids_free(&offsets);
    int32_t *out = malloc((2 * ids->n + 600) * sizeof *out),
            *types = malloc((2 * ids->n + 600) * sizeof *types);
    size_t n = tok_pair_fill(tok, ids->ids, ids->n, ids->ids, ids->n, out, types);
    cr_assert(n == 2 * ids->n + (size_t)tokenizer_info(tok)->n_added_pair);
    for (int32_t id = 0; id < tokenizer_info(tok)->vocab_size; id++) {
        size_t token_bytes;
        const char *token = tokenizer_token_text(tok, id, &token_bytes);
        if (token != NULL) tokenizer_token_id(tok, token, token_bytes);
    }
    for (size_t i = 0; i < n; i++)
        cr_assert(out[i] >= 0 && out[i] < tokenizer_info(tok)->vocab_size);
    free(out);
    free(types);
    tokenizer_close(tok);
    return true;
}

Test(tokenizer_hostile, every_byte_of_an_image_changed)
{
    tokenizer *tok = open_small();
    copy c = copy_of(tok);
    tok_scratch *scratch;
    tok_ids ids = {0};
    cr_assert(tok_scratch_open(&scratch, NULL) == CRANK_OK);
    cr_assert(use_image(c.image, c.bytes, scratch, &ids));
    size_t opened = 0;
    static const uint8_t changes[] = {0x01, 0x80, 0xFF};
    for (size_t i = 0; i < c.bytes; i++) {
        for (size_t k = 0; k < sizeof changes; k++) {
            ((uint8_t *)c.image)[i] ^= changes[k];
            opened += use_image(c.image, c.bytes, scratch, &ids);
            ((uint8_t *)c.image)[i] ^= changes[k];
        }
    }
    fprintf(stderr, "%zu of %zu damaged images opened\n", opened, c.bytes * sizeof changes);
    tok_ids_free(&ids);
    tok_scratch_close(scratch);
    free(c.image);
    tokenizer_close(tok);
}

Test(tokenizer_hostile, truncated_and_extended_images)
{
    tokenizer *tok = open_small();
    copy c = copy_of(tok);
    tok_scratch *scratch;
    tok_ids ids = {0};
    cr_assert(tok_scratch_open(&scratch, NULL) == CRANK_OK);
    for (size_t n = 0; n < c.bytes; n += n < 400 ? 1 : 97) {
        /* A block of its own, so that a sanitizer sees the end. */
        void *part = aligned_alloc(8, (n + 8) / 8 * 8);
        memcpy(part, c.image, n);
        cr_assert(!use_image(part, n, scratch, &ids), "%zu of %zu bytes open", n, c.bytes);
        free(part);
    }
    crank_error error = {0};
    tokenizer *none;
    uint8_t *odd = aligned_alloc(8, 64);
    cr_expect(tokenizer_from_image(&none, odd + 1, 8, &error) == CRANK_INVALID_ARGUMENT);
    free(odd);
    tok_ids_free(&ids);
    tok_scratch_close(scratch);
    free(c.image);
    tokenizer_close(tok);
}

Test(tokenizer_hostile, random_damage_of_every_model)
{
    static const char *const names[] = {"bpe/roberta", "bpe/modernbert", "unigram/deberta",
                                        "unigram/bytefallback"};
    tokenizer *small = open_small();
    test_damaged_images(small, 7, 3000);
    tokenizer_close(small);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        tokenizer *tok = test_open_tokenizer(names[i]);
        test_damaged_images(tok, (unsigned)i, 150);
        tokenizer_close(tok);
    }
}

/* Relocatable: the same bytes elsewhere give the same ids, and compiling twice the same bytes. */
Test(tokenizer_hostile, images_are_deterministic_and_relocatable)
{
    tokenizer *a = open_small(), *b = open_small();
    copy x = copy_of(a), y = copy_of(b);
    cr_assert(x.bytes == y.bytes && memcmp(x.image, y.image, x.bytes) == 0);
    tokenizer_close(a);
    tokenizer_close(b);
    tokenizer *again;
    crank_error error = {0};
    cr_assert(tokenizer_from_image(&again, x.image, x.bytes, &error) == CRANK_OK);
    cr_expect_str_eq(tokenizer_info(again)->source, "converted file");
    size_t bytes;
    cr_expect(tokenizer_image(again, &bytes) == x.image && bytes == x.bytes);
    tokenizer_close(again);
    free(x.image);
    free(y.image);
}

/* ---- hostile texts
 * ------------------------------------------------------------------------------------- */

/* A megabyte of one unit through pipelines that could be made to work hard. */
Test(tokenizer_hostile, megabyte_texts_stay_linear)
{
    static const char *const units[] = {"a",
                                        "\xcc\xa3\xcc\x81",
                                        "[",
                                        "[SE",
                                        "\xe2\x96\x81",
                                        " ",
                                        "\xff",
                                        "\xe1\x84\x80\xe1\x85\xa1",
                                        "a\xcc\x81\xcc\xa3",
                                        "'s",
                                        "\r\n"};
    static const char *const pipelines[] = {
        SMALL_TOKENIZER,
        SMALL_JSON(SMALL_ADDED, "{\"type\":\"NFC\"}", "null", "null", SMALL_MODEL),
        SMALL_JSON(
            "[{\"id\":5,\"content\":\"a\",\"normalized\":true,\"single_word\":true,\"lstrip\":"
            "true,\"rstrip\":true}]",
            "{\"type\":\"NFKC\"}", "{\"type\":\"Metaspace\"}", "null", SMALL_MODEL),
        SMALL_JSON("[]",
                   "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFD\"},{\"type\":"
                   "\"StripAccents\"},{\"type\":\"Strip\"}]}",
                   "{\"type\":\"Whitespace\"}", "null", SMALL_MODEL),
    };
    char *text = malloc(1 << 20);
    for (size_t p = 0; p < sizeof pipelines / sizeof *pipelines; p++) {
        tokenizer *tok;
        crank_error error = {0};
        cr_assert(test_open_tokenizer_text(&tok, pipelines[p], &error) == CRANK_OK, "%s",
                  error.message);
        tok_scratch *scratch;
        tok_ids ids = {0};
        cr_assert(tok_scratch_open(&scratch, NULL) == CRANK_OK);
        for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
            size_t unit = strlen(units[u]), n = (1 << 20) / unit;
            for (size_t i = 0; i < n; i++) memcpy(text + i * unit, units[u], unit);
            ids.n = 0;
            cr_assert(tok_encode(tok, scratch, text, n * unit, TOK_DEFAULT, SIZE_MAX, &ids,
                                 &error) == CRANK_OK,
                      "%s", error.message);
        }
        tok_ids_free(&ids);
        tok_scratch_close(scratch);
        tokenizer_close(tok);
    }
    free(text);
}

Test(tokenizer_hostile, a_step_may_not_blow_up_a_text)
{
    tokenizer *tok;
    crank_error error = {0};
    char json[8192], content[1001];
    memset(content, 'x', 1000);
    content[1000] = 0;
    snprintf(json, sizeof json,
             SMALL_JSON("[]",
                        "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"%s\"}",
                        "null", "null", SMALL_MODEL),
             content);
    crank_status status = test_open_tokenizer_text(&tok, json, &error);
    if (status != CRANK_OK) return; /* refused already */
    tok_scratch *scratch;
    tok_ids ids = {0};
    cr_assert(tok_scratch_open(&scratch, NULL) == CRANK_OK);
    char *text = malloc(100000);
    memset(text, 'a', 100000);
    status = tok_encode(tok, scratch, text, 100000, TOK_DEFAULT, SIZE_MAX, &ids, &error);
    cr_expect(status == CRANK_LIMIT, "%d: %s", status, error.message);
    cr_expect(strstr(error.message, "64 times") != NULL, "%s", error.message);
    free(text);
    tok_ids_free(&ids);
    tok_scratch_close(scratch);
    tokenizer_close(tok);
}

/* ---- memory
 * -------------------------------------------------------------------------------------------- */

/* Opens, encodes on both paths, closes; with the n-th allocation failing. jansson keeps its own
 * allocator: version 2.14 writes through a null pointer when its lexer's buffer cannot grow. */
static crank_status one_life(const char *folder, crank_error *error)
{
    static const char text[] = "Hello \xc3\xa9transformers [SEP] a\xe0\xa3\xa3 b  [MASK] abababab";
    tokenizer *tok = NULL;
    tok_scratch *scratch = NULL;
    tok_ids ids = {0}, offsets = {0};
    crank_status status = tokenizer_open(&tok, folder, error);
    if (status == CRANK_OK) status = tok_scratch_open(&scratch, error);
    if (status == CRANK_OK)
        status =
            tok_encode(tok, scratch, text, sizeof text - 1, TOK_DEFAULT, SIZE_MAX, &ids, error);
    if (status == CRANK_OK)
        status = tok_encode_offsets(tok, scratch, text, sizeof text - 1, TOK_DEFAULT, &ids,
                                    &offsets, error);
    tok_ids_free(&ids);
    tok_ids_free(&offsets);
    tok_scratch_close(scratch);
    tokenizer_close(tok);
    return status;
}

static void fail_each_allocation(const char *const files[][2], size_t n_files, const char *what)
{
    char *folder = test_make_folder(), path[4096];
    for (size_t i = 0; i < n_files; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i][0]);
        test_write_file(path, files[i][1], strlen(files[i][1]));
    }
    long failures = 0;
    for (long n = 0;; n++) {
        crank_error error = {0};
        mem_fail_nth(n);
        crank_status status = one_life(folder, &error);
        long used = mem_fail_nth(-1);
        if (status == CRANK_OK) {
            cr_expect(used <= n, "%s: a failed allocation went unnoticed (%ld of %ld)", what, n,
                      used);
            if (used <= n) break;
            continue;
        }
        failures++;
        cr_expect(status == CRANK_OUT_OF_MEMORY, "%s: allocation %ld: status %d: %s", what, n,
                  status, error.message);
        cr_assert(n < 100000);
    }
    cr_expect(failures > 10, "%s: %ld allocations", what, failures);
    test_remove_folder(folder);
}

Test(tokenizer_hostile, every_allocation_fails_once)
{
    const char *const json[][2] = {{"tokenizer.json", SMALL_TOKENIZER},
                                   {"tokenizer_config.json", "{\"do_lower_case\":false}"}};
    fail_each_allocation(json, 2, "tokenizer.json");
    const char *const vocab[][2] = {{"vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##b\n"}};
    fail_each_allocation(vocab, 1, "vocab.txt");
    const char *const general[][2] = {
        {"tokenizer.json",
         SMALL_JSON("[{\"id\":40,\"content\":\"Hello\",\"normalized\":true}]",
                    "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKC\"},{\"type\":"
                    "\"Lowercase\"}]}",
                    "{\"type\":\"Metaspace\",\"prepend_scheme\":\"first\"}", "null", SMALL_MODEL)}};
    fail_each_allocation(general, 1, "general path");
}
