/* The tokenizer against what Hugging Face tokenizers 0.23.3 wrote down: every row, or the test
 * fails with the first rows that differ. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "support/tokenizer_files.h"
#include "tokenizer/tokenizer.h"
#include "utf8.h"

#define SKIP_WITHOUT_BERT()                                                                        \
    do {                                                                                           \
        if (test_bert_folder() == NULL) {                                                          \
            fprintf(stderr, "SKIPPED: no BERT vocabulary (./run setup brings it)\n");              \
            cr_skip("no BERT vocabulary");                                                         \
        }                                                                                          \
    } while (0)

typedef struct bench {
    tokenizer *tok;
    tok_scratch *scratch;
    tok_ids ids, offsets, ids2;
    const char *variant;
    size_t rows, different;
} bench;

static void bench_open(bench *b, const char *folder)
{
    crank_error error = {0};
    cr_assert(tokenizer_open(&b->tok, folder, &error) == CRANK_OK, "%s", error.message);
    cr_assert(tok_scratch_open(&b->scratch, &error) == CRANK_OK);
}

static void bench_close(bench *b)
{
    tok_ids_free(&b->ids);
    tok_ids_free(&b->ids2);
    tok_ids_free(&b->offsets);
    tok_scratch_close(b->scratch);
    tokenizer_close(b->tok);
}

static void differs(bench *b, size_t number, const char *what)
{
    if (b->different++ < 5) fprintf(stderr, "row %zu differs: %s\n", number, what);
}

/* The text's ids, with template, against row.ids. */
static bool same_ids(bench *b, const json_t *want, const tok_ids *ids)
{
    size_t added = (size_t)tokenizer_info(b->tok)->n_added_single, n = ids->n + added;
    int32_t *full = calloc(n + 1, sizeof *full), *types = calloc(n + 1, sizeof *types);
    size_t got = tok_pair_fill(b->tok, ids->ids, ids->n, NULL, 0, full, types);
    bool same = got == n && json_array_size(want) == n;
    for (size_t i = 0; same && i < n; i++)
        same = json_integer_value(json_array_get(want, i)) == full[i];
    free(full);
    free(types);
    return same;
}

static bool same_offsets(bench *b, const json_t *want, const char *text, size_t bytes)
{
    size_t n = b->offsets.n;
    if (json_array_size(want) != n + 4) return false;
    /* Golden offsets count code points; ours count bytes. */
    size_t *points = calloc(bytes + 1, sizeof *points), count = 0;
    for (size_t i = 0; i < bytes;) {
        uint32_t c;
        int width = utf8_decode((const uint8_t *)text + i, bytes - i, &c);
        for (int k = 0; k < width; k++) points[i + (size_t)k] = count;
        i += (size_t)width;
        count++;
    }
    points[bytes] = count;
    bool same = true;
    for (size_t i = 0; same && i < n; i++)
        same = (size_t)json_integer_value(json_array_get(want, i + 2)) == points[b->offsets.ids[i]];
    free(points);
    return same;
}

static void text_row(const json_t *row, size_t number, void *context)
{
    bench *b = context;
    crank_error error = {0};
    size_t bytes;
    char *text = test_row_text(row, "text", &bytes);
    const json_t *want = json_object_get(row, "ids"), *off = json_object_get(row, "off");
    b->ids.n = 0;
    cr_assert(tok_encode(b->tok, b->scratch, text, bytes, TOK_DEFAULT, SIZE_MAX, &b->ids, &error) ==
                  CRANK_OK,
              "%s", error.message);
    b->rows++;
    if (!same_ids(b, want, &b->ids))
        differs(b, number, json_string_value(json_object_get(row, "kind")));
    b->ids.n = b->offsets.n = 0;
    cr_assert(tok_encode_offsets(b->tok, b->scratch, text, bytes, TOK_DEFAULT, &b->ids, &b->offsets,
                                 &error) == CRANK_OK,
              "%s", error.message);
    if (!same_ids(b, want, &b->ids)) differs(b, number, "ids of the path with offsets");
    if (off != NULL && !same_offsets(b, off, text, bytes)) differs(b, number, "offsets");
    free(text);
}

static void pair_row(const json_t *row, size_t number, void *context)
{
    bench *b = context;
    crank_error error = {0};
    size_t bytes;
    b->ids.n = b->ids2.n = 0;
    for (int side = 0; side < 2; side++) {
        char *text = test_row_text(row, side == 0 ? "query" : "doc", &bytes);
        cr_assert(tok_encode(b->tok, b->scratch, text, bytes, TOK_DEFAULT, SIZE_MAX,
                             side == 0 ? &b->ids : &b->ids2, &error) == CRANK_OK);
        free(text);
    }
    const json_t *cases = json_object_get(row, "cases");
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i), *want = json_object_get(c, "ids");
        const json_t *types = json_object_get(c, "type_ids");
        const char *strategy = json_string_value(json_object_get(c, "strategy"));
        tok_truncation how = TOK_LONGEST_FIRST;
        if (strategy != NULL && strcmp(strategy, "only_second") == 0) how = TOK_ONLY_SECOND;
        if (strategy != NULL && strcmp(strategy, "only_first") == 0) how = TOK_ONLY_FIRST;
        size_t max_length = (size_t)json_integer_value(json_object_get(c, "max_length"));
        size_t keep1, keep2;
        crank_status status =
            tok_pair_lengths(b->tok, b->ids.n, b->ids2.n, max_length, how, &keep1, &keep2, &error);
        b->rows++;
        if (json_object_get(c, "error") != NULL) {
            if (status != CRANK_INVALID_ARGUMENT) differs(b, number, "an error is expected");
            continue;
        }
        if (status != CRANK_OK) {
            differs(b, number, error.message);
            continue;
        }
        size_t n = keep1 + keep2 + (size_t)tokenizer_info(b->tok)->n_added_pair;
        int32_t *ids = calloc(n, sizeof *ids), *type = calloc(n, sizeof *type);
        /* An empty side still is a side. */
        static const int32_t none;
        bool same = tok_pair_fill(b->tok, b->ids.ids, keep1, keep2 > 0 ? b->ids2.ids : &none, keep2,
                                  ids, type) == n &&
                    n == json_array_size(want);
        for (size_t k = 0; same && k < n; k++)
            same = json_integer_value(json_array_get(want, k)) == ids[k] &&
                   (types == NULL || json_integer_value(json_array_get(types, k)) == type[k]);
        if (!same) differs(b, number, strategy != NULL ? strategy : "pair");
        free(ids);
        free(type);
    }
}

Test(tokenizer_golden, wordpiece_texts_and_offsets)
{
    SKIP_WITHOUT_BERT();
    bench b = {0};
    bench_open(&b, test_bert_folder());
    test_each_row("wordpiece/texts.jsonl.gz", text_row, &b);
    cr_assert(b.different == 0, "%zu of %zu rows differ", b.different, b.rows);
    cr_assert(b.rows >= 652);
    bench_close(&b);
}

Test(tokenizer_golden, wordpiece_pairs_truncated_and_not)
{
    SKIP_WITHOUT_BERT();
    bench b = {0};
    bench_open(&b, test_bert_folder());
    test_each_row("wordpiece/pairs.jsonl.gz", pair_row, &b);
    cr_assert(b.different == 0, "%zu of %zu cases differ", b.different, b.rows);
    bench_close(&b);
}

/* ---- other settings of the normaliser -----------------------------------------------------------
 */

/* The BERT folder with another normalizer, in a folder of the test's own. */
static char *folder_with_normalizer(const char *normalizer)
{
    char path[4096];
    size_t bytes;
    snprintf(path, sizeof path, "%s/tokenizer.json", test_bert_folder());
    char *text = test_read_file(path, &bytes);
    cr_assert(text != NULL);
    json_error_t reason;
    json_t *root = json_loadb(text, bytes, 0, &reason);
    json_object_set_new(root, "normalizer", json_loads(normalizer, 0, &reason));
    free(text);
    text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    char *folder = test_make_folder();
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    test_write_file(path, text, strlen(text));
    free(text);
    return folder;
}

static void variant_row(const json_t *row, size_t number, void *context)
{
    bench *b = context;
    const char *variant = json_string_value(json_object_get(row, "variant"));
    if (strcmp(variant, b->variant) != 0) return;
    bool specials_as_text = strcmp(variant, "special_as_text") == 0;
    crank_error error = {0};
    size_t bytes;
    char *text = test_row_text(row, "text", &bytes);
    for (int path = 0; path < 2; path++) {
        b->ids.n = b->offsets.n = 0;
        unsigned flags = specials_as_text ? TOK_SPECIALS_AS_TEXT : TOK_DEFAULT;
        crank_status status = path == 0 ? tok_encode(b->tok, b->scratch, text, bytes, flags,
                                                     SIZE_MAX, &b->ids, &error)
                                        : tok_encode_offsets(b->tok, b->scratch, text, bytes, flags,
                                                             &b->ids, &b->offsets, &error);
        cr_assert(status == CRANK_OK, "%s", error.message);
        if (!same_ids(b, json_object_get(row, "ids"), &b->ids)) differs(b, number, variant);
    }
    b->rows++;
    free(text);
}

Test(tokenizer_golden, wordpiece_variants_of_the_normaliser)
{
    SKIP_WITHOUT_BERT();
    static const char *const variants[][2] = {
        {"cased", "false, \"strip_accents\": null"},
        {"lower_keep_accents", "true, \"strip_accents\": false"},
        {"cased_strip", "false, \"strip_accents\": true"},
        {"no_cjk", "true, \"handle_chinese_chars\": false"},
        {"no_clean", "true, \"clean_text\": false"},
        {"special_as_text", "true"},
    };
    size_t rows = 0;
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        char normalizer[256];
        snprintf(normalizer, sizeof normalizer, "{\"type\": \"BertNormalizer\", \"lowercase\": %s}",
                 variants[i][1]);
        bench b = {.variant = variants[i][0]};
        char *folder = folder_with_normalizer(normalizer);
        bench_open(&b, folder);
        test_each_row("wordpiece/variants.jsonl.gz", variant_row, &b);
        cr_expect(b.different == 0, "%s: %zu of %zu rows differ", b.variant, b.different, b.rows);
        cr_expect(b.rows > 0, "%s: no rows", b.variant);
        rows += b.rows;
        bench_close(&b);
        test_remove_folder(folder);
    }
    cr_assert(rows >= 294);
}

/* ---- a megabyte
 * ----------------------------------------------------------------------------------- */

static uint32_t crc_of_ids(const int32_t *ids, size_t n)
{
    uint32_t crc = (uint32_t)crc32(0, NULL, 0);
    for (size_t i = 0; i < n; i++) {
        uint8_t le[4] = {(uint8_t)ids[i], (uint8_t)(ids[i] >> 8), (uint8_t)(ids[i] >> 16),
                         (uint8_t)(ids[i] >> 24)};
        crc = (uint32_t)crc32(crc, le, 4);
    }
    return crc;
}

static void big_row(const json_t *row, size_t number, void *context)
{
    bench *b = context;
    crank_error error = {0};
    size_t unit_bytes, times = (size_t)json_integer_value(json_object_get(row, "times"));
    char *unit = test_row_text(row, "unit", &unit_bytes);
    char *text = malloc(unit_bytes * times + 1);
    for (size_t i = 0; i < times; i++) memcpy(text + i * unit_bytes, unit, unit_bytes);
    static const struct {
        size_t max_length;
        const char *n, *crc;
    } cases[] = {{0, "n_ids", "crc32"}, {512, "n_ids_512", "crc32_512"}};
    for (size_t i = 0; i < 2; i++) {
        size_t keep1, keep2, max_ids = i == 0 ? SIZE_MAX : 510;
        b->ids.n = 0;
        cr_assert(tok_encode(b->tok, b->scratch, text, unit_bytes * times, TOK_DEFAULT, max_ids,
                             &b->ids, &error) == CRANK_OK,
                  "%s", error.message);
        cr_assert(tok_pair_lengths(b->tok, b->ids.n, SIZE_MAX, cases[i].max_length,
                                   TOK_LONGEST_FIRST, &keep1, &keep2, &error) == CRANK_OK);
        int32_t *full = calloc(keep1 + 2, sizeof *full), *types = calloc(keep1 + 2, sizeof *types);
        size_t n = tok_pair_fill(b->tok, b->ids.ids, keep1, NULL, 0, full, types);
        if (n != (size_t)json_integer_value(json_object_get(row, cases[i].n)) ||
            crc_of_ids(full, n) != json_integer_value(json_object_get(row, cases[i].crc)))
            differs(b, number, cases[i].n);
        free(full);
        free(types);
    }
    b->rows++;
    free(unit);
    free(text);
}

Test(tokenizer_golden, wordpiece_texts_of_a_megabyte)
{
    SKIP_WITHOUT_BERT();
    bench b = {0};
    bench_open(&b, test_bert_folder());
    test_each_row("wordpiece/big.jsonl.gz", big_row, &b);
    cr_assert(b.different == 0 && b.rows == 14, "%zu of %zu rows differ", b.different, b.rows);
    bench_close(&b);
}

/* ---- steps.jsonl: many small pipelines
 * ------------------------------------------------------------- */

typedef struct steps {
    json_t *vocab; /* spelling -> id */
    size_t cases, different, unsupported;
} steps;

static void steps_case(steps *s, bench *b, const json_t *c, size_t number, const char *what)
{
    crank_error error = {0};
    size_t bytes, bytes2;
    const json_t *want = json_object_get(c, "ids"), *types = json_object_get(c, "type_ids");
    bool pair = types != NULL, same = true;
    char *text = test_row_text(c, pair ? "query" : "text", &bytes);
    for (int path = 0; path < 2 && same; path++) {
        b->ids.n = b->ids2.n = b->offsets.n = 0;
        crank_status status = path == 0
                                  ? tok_encode(b->tok, b->scratch, text, bytes, TOK_DEFAULT,
                                               SIZE_MAX, &b->ids, &error)
                                  : tok_encode_offsets(b->tok, b->scratch, text, bytes, TOK_DEFAULT,
                                                       &b->ids, &b->offsets, &error);
        cr_assert(status == CRANK_OK, "%s", error.message);
        if (!pair) same = same_ids(b, want, &b->ids);
    }
    if (pair) {
        char *doc = test_row_text(c, "doc", &bytes2);
        cr_assert(tok_encode(b->tok, b->scratch, doc, bytes2, TOK_DEFAULT, SIZE_MAX, &b->ids2,
                             &error) == CRANK_OK);
        int32_t ids[256], type[256];
        static const int32_t none;
        size_t n = tok_pair_fill(b->tok, b->ids.ids, b->ids.n, b->ids2.n > 0 ? b->ids2.ids : &none,
                                 b->ids2.n, ids, type);
        same = n == json_array_size(want);
        for (size_t i = 0; same && i < n; i++)
            same = json_integer_value(json_array_get(want, i)) == ids[i] &&
                   json_integer_value(json_array_get(types, i)) == type[i];
        free(doc);
    }
    s->cases++;
    if (!same && s->different++ < 12) {
        char *shown = json_dumps(c, JSON_COMPACT);
        fprintf(stderr, "tokenizer %zu %s: %s\n  got", number, what, shown);
        for (size_t i = 0; i < b->ids.n; i++) fprintf(stderr, " %d", b->ids.ids[i]);
        fprintf(stderr, "\n");
        free(shown);
    }
    free(text);
}

static void steps_row(const json_t *row, size_t number, void *context)
{
    steps *s = context;
    json_t *list = json_object_get(row, "vocab");
    if (list != NULL) {
        s->vocab = json_object();
        for (size_t i = 0; i < json_array_size(list); i++)
            json_object_set_new(s->vocab, json_string_value(json_array_get(list, i)),
                                json_integer((json_int_t)i));
        return;
    }
    json_t *root = json_object();
    static const char *const parts[] = {"normalizer", "pre_tokenizer", "added_tokens",
                                        "post_processor"};
    for (size_t i = 0; i < 4; i++) json_object_set(root, parts[i], json_object_get(row, parts[i]));
    json_object_set_new(root, "model",
                        json_pack("{s:s, s:s, s:i, s:O}", "type", "WordPiece", "unk_token", "[UNK]",
                                  "max_input_chars_per_word", 1000, "vocab", s->vocab));
    char *text = json_dumps(root, JSON_COMPACT), path[4096], *folder = test_make_folder();
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    test_write_file(path, text, strlen(text));
    free(text);
    json_object_del(root, "model");
    json_object_del(root, "added_tokens");
    char *what = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    bench b = {0};
    crank_error error = {0};
    crank_status status = tokenizer_open(&b.tok, folder, &error);
    if (status == CRANK_UNSUPPORTED) {
        s->unsupported++;
        fprintf(stderr, "tokenizer %zu: %s\n", number, error.message);
    } else {
        cr_assert(status == CRANK_OK, "tokenizer %zu: %s", number, error.message);
        cr_assert(tok_scratch_open(&b.scratch, &error) == CRANK_OK);
        const json_t *cases = json_object_get(row, "cases");
        for (size_t i = 0; i < json_array_size(cases); i++)
            steps_case(s, &b, json_array_get(cases, i), number, what);
    }
    bench_close(&b);
    test_remove_folder(folder);
    free(what);
}

Test(tokenizer_golden, pipelines_of_every_step)
{
    steps s = {0};
    test_each_row("steps.jsonl.gz", steps_row, &s);
    cr_expect(s.unsupported == 0, "%zu tokenizers are unsupported", s.unsupported);
    cr_assert(s.different == 0, "%zu of %zu cases differ", s.different, s.cases);
    cr_assert(s.cases >= 5000);
    json_decref(s.vocab);
}
