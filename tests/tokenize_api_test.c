/* Cutting by tokens, ids without a template, digests of models: what the server asks of the
 * library. */
#define _DEFAULT_SOURCE
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "crank.h"
#include "support/scratch.h"

static char dir[SCRATCH_BYTES];

static crank_model *open_model(const char *folder, const char *shape, uint64_t seed)
{
    crank_error error = {0};
    crank_model *model = NULL;
    crank_model_options options = {.size = sizeof options, .device = CRANK_DEVICE_CPU};
    const char *path = scratch_path(dir, folder);
    cr_assert_eq(crank_synth(shape, path, seed, &error), CRANK_OK, "%s", error.message);
    cr_assert_eq(crank_model_open(&model, path, &options, &error), CRANK_OK, "%s", error.message);
    return model;
}

static size_t cut(const crank_model *model, const char *text, size_t bytes, size_t most)
{
    crank_error error = {0};
    size_t kept = 0;
    crank_status status =
        crank_cut(crank_model_tokenizer(model), (crank_text){text, bytes}, most, 0, &kept, &error);
    cr_assert_eq(status, CRANK_OK, "%s", error.message);
    return kept;
}

Test(cut, ends_behind_the_last_token)
{
    scratch_open(dir);
    crank_model *model = open_model("a", "tinybert-l2", 1);
    static const char text[] = "waaaa wbaaa  wcaaa";
    cr_expect_eq(cut(model, text, 18, 1), 5);
    cr_expect_eq(cut(model, text, 18, 2), 11);
    cr_expect_eq(cut(model, text, 18, 3), 18);
    cr_expect_eq(cut(model, text, 18, 100), 18);
    cr_expect_eq(cut(model, "", 0, 1), 0);
    /* Long texts are looked at only as far as needed, and give the same as short ones. */
    size_t bytes = (size_t)8 << 20;
    char *long_text = malloc(bytes);
    for (size_t i = 0; i < bytes; i++) long_text[i] = "waaaa "[i % 6];
    cr_expect_eq(cut(model, long_text, bytes, 1000), 999 * 6 + 5);
    cr_expect_eq(cut(model, long_text, bytes, 1), 5);
    /* One word without an end is one token; characters of several bytes stay whole. */
    memset(long_text, 'x', bytes);
    cr_expect_eq(cut(model, long_text, 1 << 20, 1), 1 << 20);
    for (size_t i = 0; i + 3 <= 3000; i += 3) memcpy(long_text + i, "\xE6\x97\xA5", 3);
    cr_expect_eq(cut(model, long_text, 3000, 7), 21);
    free(long_text);
    crank_error error = {0};
    size_t kept;
    cr_expect_eq(
        crank_cut(crank_model_tokenizer(model), (crank_text){text, 18}, 0, 0, &kept, &error),
        CRANK_INVALID_ARGUMENT);
    crank_model_close(model);
    scratch_close(dir);
    leak_check();
}

/* A normaliser may make 18 letters of 3 bytes: a text of few bytes can have more tokens. */
Test(cut, a_character_that_becomes_many_tokens)
{
    scratch_open(dir);
    FILE *out = fopen(scratch_path(dir, "tokenizer.json"), "wb");
    gzFile in = gzopen(CRANK_SOURCE_DIR "/tests/fixtures/tokenizer/unigram/xlmr.json.gz", "rb");
    cr_assert(out != NULL && in != NULL);
    char buffer[4096];
    for (int n; (n = gzread(in, buffer, sizeof buffer)) > 0;) fwrite(buffer, 1, (size_t)n, out);
    gzclose(in);
    fclose(out);
    crank_tokenizer *tokenizer = NULL;
    crank_error error = {0};
    cr_assert_eq(crank_tokenizer_open(&tokenizer, dir, &error), CRANK_OK, "%s", error.message);
    crank_text text = {"\xEF\xB7\xBA\xEF\xB7\xBA", 6};
    size_t kept = 0;
    cr_expect_eq(crank_cut(tokenizer, text, 6, 0, &kept, &error), CRANK_OK);
    cr_expect_eq(kept, 3);
    cr_expect_eq(crank_cut(tokenizer, text, 100, 0, &kept, &error), CRANK_OK);
    cr_expect_eq(kept, 6);
    crank_tokenizer_close(tokenizer);
    scratch_close(dir);
    leak_check();
}

Test(tokenize, no_template_gives_the_text_alone)
{
    scratch_open(dir);
    crank_model *model = open_model("a", "tinybert-l2", 1);
    const crank_tokenizer *tokenizer = crank_model_tokenizer(model);
    crank_encoding with = {0}, without = {0};
    crank_error error = {0};
    crank_tokenize_options options = {.size = sizeof options, .no_template = 1};
    crank_text text = {"waaaa wbaaa", 11}, nothing = {"", 0};
    cr_assert_eq(crank_tokenize(tokenizer, text, NULL, NULL, &with, &error), CRANK_OK);
    cr_assert_eq(crank_tokenize(tokenizer, text, NULL, &options, &without, &error), CRANK_OK);
    cr_assert_eq(with.n, 4);
    cr_assert_eq(without.n, 2);
    cr_expect_arr_eq(without.ids, with.ids + 1, 2 * sizeof *with.ids);
    crank_encoding_free(&with);
    crank_encoding_free(&without);
    cr_assert_eq(crank_tokenize(tokenizer, nothing, NULL, &options, &without, &error), CRANK_OK);
    cr_expect_eq(without.n, 0);
    crank_encoding_free(&without);
    cr_expect_eq(crank_tokenize(tokenizer, text, &text, &options, &without, &error),
                 CRANK_INVALID_ARGUMENT);
    crank_model_close(model);
    scratch_close(dir);
    leak_check();
}

Test(digest, is_the_model_and_not_its_place)
{
    scratch_open(dir);
    crank_model *models[3] = {open_model("a", "tinybert-l2", 1), open_model("b", "tinybert-l2", 1),
                              open_model("c", "tinybert-l2", 2)};
    crank_model_info info[3];
    crank_error error = {0};
    for (int i = 0; i < 3; i++) {
        info[i].size = sizeof info[i];
        cr_assert_eq(crank_model_describe(models[i], &info[i], &error), CRANK_OK);
    }
    cr_expect_arr_eq(info[0].digest, info[1].digest, sizeof info[0].digest);
    cr_expect_arr_neq(info[0].digest, info[2].digest, sizeof info[0].digest);
    for (int i = 0; i < 3; i++) crank_model_close(models[i]);
    scratch_close(dir);
    leak_check();
}
