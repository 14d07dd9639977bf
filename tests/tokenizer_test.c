/* The tokenizer's contract apart from golden data: the fused path equals the general one, early
 * stops and truncation are exact, images survive copying, reading folders. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/model_golden.h"
#include "support/small_tokenizer.h"
#include "support/tokenizer_files.h"
#include "tokenizer/inside.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/unicode.h"
#include "utf8.h"

static uint64_t random_state = 20261124;

static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % n);
}

static tokenizer *open_text(const char *json)
{
    tokenizer *tok;
    crank_error error = {0};
    cr_assert(test_open_tokenizer_text(&tok, json, &error) == CRANK_OK, "%s", error.message);
    return tok;
}

static tok_scratch *open_scratch(void)
{
    tok_scratch *scratch;
    cr_assert(tok_scratch_open(&scratch, NULL) == CRANK_OK);
    return scratch;
}

static void encode(const tokenizer *tok, tok_scratch *scratch, const char *text, size_t bytes,
                   size_t max_ids, tok_ids *out)
{
    crank_error error = {0};
    out->n = 0;
    cr_assert(tok_encode(tok, scratch, text, bytes, TOK_DEFAULT, max_ids, out, &error) == CRANK_OK,
              "%s", error.message);
}

/* "3 5 8" for the ids of a text. */
static const char *ids_of(const tokenizer *tok, const char *text, size_t bytes, unsigned flags)
{
    static char shown[4096];
    tok_ids ids = {0};
    tok_scratch *scratch = open_scratch();
    cr_assert(tok_encode(tok, scratch, text, bytes, flags, SIZE_MAX, &ids, NULL) == CRANK_OK);
    size_t n = 0;
    shown[0] = 0;
    for (size_t i = 0; i < ids.n && n < sizeof shown - 16; i++)
        n += (size_t)sprintf(shown + n, "%s%d", i > 0 ? " " : "", ids.ids[i]);
    tok_ids_free(&ids);
    tok_scratch_close(scratch);
    return shown;
}

#define EXPECT_IDS(tok, text, want)                                                                \
    do {                                                                                           \
        const char *got_ = ids_of(tok, text, sizeof text - 1, TOK_DEFAULT);                        \
        cr_expect(strcmp(got_, want) == 0, "%s: got %s, want %s", text, got_, want);               \
    } while (0)

/* ---- fused against general
 * ------------------------------------------------------------------------ */

/* A vocabulary in which every character with any property is a piece, first and later, so that ids
 * tell what became of each. */
static tokenizer *all_characters(const char *normalizer_flags)
{
    size_t capacity = 1 << 24, n = 0;
    char *json = malloc(capacity);
    n += (size_t)sprintf(json + n,
                         "{\"added_tokens\":[{\"id\":0,\"content\":\"[SEP]\",\"special\":true}],"
                         "\"normalizer\":{\"type\":\"BertNormalizer\"%s},"
                         "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
                         "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\","
                         "\"vocab\":{\"[SEP]\":0,\"[UNK]\":1,\"ab\":2,\"aba\":3,\"##bab\":4",
                         normalizer_flags);
    uint32_t id = 5;
    for (uint32_t c = 1; c < 0x110000; c++) {
        if (c >= 0xD800 && c < 0xE000) continue;
        const uni_record *r = uni_lookup(c);
        if (c > 0x250 && (r->flags & (unsigned)~UNI_WORD) == 0 && r->ccc == 0 && c % 97 != 0)
            continue;
        if (c >= 0x20000 && c % 31 != 0) continue;
        char utf16[16];
        if (c < 0x10000)
            sprintf(utf16, "\\u%04x", c);
        else
            sprintf(utf16, "\\u%04x\\u%04x", 0xD800 + ((c - 0x10000) >> 10), 0xDC00 + (c & 0x3FF));
        n += (size_t)sprintf(json + n, ",\"%s\":%u,\"##%s\":%u", utf16, id, utf16, id + 1);
        id += 2;
        cr_assert(n < capacity - 100);
    }
    sprintf(json + n, "}}}");
    tokenizer *tok = open_text(json);
    free(json);
    cr_assert(tok->bert != NULL);
    return tok;
}

typedef struct duel {
    const tokenizer *tok;
    tok_scratch *scratch;
    tok_ids fast, general, offsets;
    size_t texts;
} duel;

static void compare(duel *d, const char *text, size_t bytes, const char *what)
{
    crank_error error = {0};
    encode(d->tok, d->scratch, text, bytes, SIZE_MAX, &d->fast);
    d->general.n = d->offsets.n = 0;
    cr_assert(tok_encode_offsets(d->tok, d->scratch, text, bytes, TOK_DEFAULT, &d->general,
                                 &d->offsets, &error) == CRANK_OK);
    bool same =
        d->fast.n == d->general.n &&
        (d->fast.n == 0 || memcmp(d->fast.ids, d->general.ids, d->fast.n * sizeof(int32_t)) == 0);
    cr_assert(same, "%s: fused and general path differ on %zu bytes", what, bytes);
    cr_assert(d->offsets.n == 2 * d->general.n);
    for (size_t i = 0; i < d->offsets.n; i += 2)
        cr_assert(d->offsets.ids[i] >= 0 && d->offsets.ids[i] <= d->offsets.ids[i + 1] &&
                  (size_t)d->offsets.ids[i + 1] <= bytes);
    d->texts++;
}

static size_t random_text(char *out, size_t max_chars)
{
    static const char *const atoms[] = {"[SEP]",
                                        "[",
                                        "]",
                                        "ab",
                                        "aba",
                                        "abab",
                                        " ",
                                        "  ",
                                        ".",
                                        "\xff",
                                        "\xe2",
                                        "\xed\xa0\x80",
                                        "\n",
                                        "\t",
                                        "A",
                                        "\xcc\x81",
                                        "'",
                                        "longword",
                                        "XYZ",
                                        "9",
                                        "\x01",
                                        "\xf0\x9f",
                                        "0123456789abcdefgh"};
    static const uint32_t blocks[][2] = {{0x20, 0x7F},       {0xA0, 0x250},      {0x300, 0x370},
                                         {0x370, 0x530},     {0x8D0, 0x960},     {0x2000, 0x2070},
                                         {0x3000, 0x3100},   {0x302A, 0x3030},   {0x4E00, 0x4F00},
                                         {0xAC00, 0xAD00},   {0xF900, 0xFB00},   {0xFF00, 0x10000},
                                         {0x1D160, 0x1D190}, {0x1E000, 0x1E030}, {0, 0x110000}};
    size_t n = 0, chars = random_below((uint32_t)max_chars) + 1;
    for (size_t i = 0; i < chars; i++) {
        if (random_below(2) == 0) {
            size_t k = random_below(sizeof atoms / sizeof *atoms);
            memcpy(out + n, atoms[k], strlen(atoms[k]));
            n += strlen(atoms[k]);
            continue;
        }
        size_t k = random_below(sizeof blocks / sizeof *blocks);
        uint32_t c = blocks[k][0] + random_below(blocks[k][1] - blocks[k][0]);
        if (c >= 0xD800 && c < 0xE000) c = 'a';
        n += (size_t)utf8_encode(c, (uint8_t *)out + n);
    }
    return n;
}

Test(tokenizer, fused_path_equals_the_general_path)
{
    static const char *const flags[] = {
        "",
        ",\"lowercase\":false",
        ",\"strip_accents\":false",
        ",\"lowercase\":false,\"strip_accents\":true",
        ",\"clean_text\":false",
        ",\"handle_chinese_chars\":false",
        ",\"clean_text\":false,\"handle_chinese_chars\":false,\"strip_accents\":false",
    };
    for (size_t f = 0; f < sizeof flags / sizeof *flags; f++) {
        tokenizer *tok = all_characters(flags[f]);
        duel d = {.tok = tok, .scratch = open_scratch()};
        char text[8192];
        /* Every code point (two of the settings; the others the BMP) between letters and between
         * spaces, 64 to a text. */
        for (uint32_t first = 0; first < (f < 2 ? 0x110000u : 0x10000u); first += 64) {
            size_t n = 0;
            for (uint32_t c = first; c < first + 64; c++) {
                if (c >= 0xD800 && c < 0xE000) continue;
                text[n++] = 'a';
                n += (size_t)utf8_encode(c, (uint8_t *)text + n);
                text[n++] = 'b';
                text[n++] = ' ';
                n += (size_t)utf8_encode(c, (uint8_t *)text + n);
                text[n++] = ' ';
            }
            compare(&d, text, n, flags[f]);
        }
        for (int i = 0; i < 2000; i++) {
            size_t n = random_text(text, i % 10 == 0 ? 200 : 20);
            compare(&d, text, n, flags[f]);
        }
        tok_ids_free(&d.fast);
        tok_ids_free(&d.general);
        tok_ids_free(&d.offsets);
        tok_scratch_close(d.scratch);
        tokenizer_close(tok);
    }
}

Test(tokenizer, long_words_and_windows_equal_the_general_path)
{
    tokenizer *tok = all_characters("");
    duel d = {.tok = tok, .scratch = open_scratch()};
    size_t capacity = 200000;
    char *text = malloc(capacity);
    static const char *const units[] = {
        "a",        "ab ",          "\xc3\xa9", "a\xcc\x81",     "\xe4\xb8\xad", "[SEP]",
        "a[SEP]b ", "\xe3\x80\xaf", " ",        "a\xe3\x80\xaf", "\xff"};
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        size_t unit = strlen(units[u]);
        for (size_t times = 90; times * unit < capacity; times = times * 3 / 2 + 1) {
            for (size_t i = 0; i < times; i++) memcpy(text + i * unit, units[u], unit);
            compare(&d, text, times * unit, units[u]);
        }
    }
    free(text);
    tok_ids_free(&d.fast);
    tok_ids_free(&d.general);
    tok_ids_free(&d.offsets);
    tok_scratch_close(d.scratch);
    tokenizer_close(tok);
}

/* ---- early stop, truncation
 * ------------------------------------------------------------------------ */

Test(tokenizer, early_stop_gives_a_prefix_and_says_longer)
{
    tokenizer *toks[] = {open_text(SMALL_TOKENIZER),
                         all_characters(""),
                         test_open_tokenizer("unigram/xlmr"),
                         test_open_tokenizer("bpe/roberta"),
                         test_open_tokenizer("bpe/modernbert"),
                         test_open_tokenizer("unigram/t5")};
    tok_scratch *scratch = open_scratch();
    tok_ids all = {0}, some = {0};
    char text[65536];
    for (size_t t = 0; t < sizeof toks / sizeof *toks; t++) {
        for (int i = 0; i < 300; i++) {
            size_t n = random_text(text, i % 50 == 0 ? 3000 : 40);
            encode(toks[t], scratch, text, n, SIZE_MAX, &all);
            size_t max_ids = random_below((uint32_t)all.n + 3);
            encode(toks[t], scratch, text, n, max_ids, &some);
            cr_assert(some.n <= all.n);
            cr_assert(some.n == all.n || some.n > max_ids, "stopped at %zu of %zu, max_ids %zu",
                      some.n, all.n, max_ids);
            cr_assert(some.n == 0 || memcmp(some.ids, all.ids, some.n * sizeof(int32_t)) == 0,
                      "tokenizer %zu, text %d", t, i);
        }
        tokenizer_close(toks[t]);
    }
    tok_ids_free(&all);
    tok_ids_free(&some);
    tok_scratch_close(scratch);
}

/* All ways to keep k1 + k2 = m tokens: the most even one wins, the shorter side keeps what it has;
 * a tie goes to the second side unless the first is longer. */
static void brute_force(size_t n1, size_t n2, size_t m, size_t *keep1, size_t *keep2)
{
    size_t best = SIZE_MAX;
    *keep1 = n1;
    *keep2 = n2;
    if (n1 + n2 <= m) return;
    for (size_t k1 = 0; k1 <= n1 && k1 <= m; k1++) {
        size_t k2 = m - k1;
        if (k2 > n2) continue;
        size_t gap = k1 > k2 ? k1 - k2 : k2 - k1;
        bool wanted = n1 > n2 ? k1 > k2 : k2 > k1;
        if (gap > best || (gap == best && !wanted)) continue;
        best = gap;
        *keep1 = k1;
        *keep2 = k2;
    }
}

Test(tokenizer, longest_first_equals_brute_force)
{
    tokenizer *tok = open_text(SMALL_TOKENIZER);
    for (size_t m = 0; m < 12; m++)
        for (size_t n1 = 0; n1 < 16; n1++)
            for (size_t n2 = 0; n2 < 16; n2++) {
                size_t keep1, keep2, want1, want2;
                cr_assert(tok_pair_lengths(tok, n1, n2, m + 3, TOK_LONGEST_FIRST, &keep1, &keep2,
                                           NULL) == CRANK_OK);
                brute_force(n1, n2, m, &want1, &want2);
                cr_assert(keep1 == want1 && keep2 == want2, "%zu %zu in %zu: %zu %zu, not %zu %zu",
                          n1, n2, m, keep1, keep2, want1, want2);
            }
    tokenizer_close(tok);
}

/* With each side counted no further than tok_max_useful, the result is that of the true lengths. */
Test(tokenizer, useful_lengths_do_not_change_truncation)
{
    tokenizer *tok = open_text(SMALL_TOKENIZER);
    for (int how = TOK_LONGEST_FIRST; how <= TOK_ONLY_FIRST; how++)
        for (size_t max_length = 3; max_length < 16; max_length++)
            for (size_t n1 = 0; n1 < 20; n1++)
                for (size_t n2 = 0; n2 < 20; n2++) {
                    tok_truncation rule = (tok_truncation)how;
                    size_t useful1 = tok_max_useful(tok, SIZE_MAX, max_length, rule);
                    size_t seen1 = n1 > useful1 ? useful1 + 1 : n1;
                    size_t useful2 = tok_max_useful(tok, seen1, max_length, rule);
                    size_t seen2 = n2 > useful2 ? useful2 + 1 : n2;
                    size_t a1 = 0, a2 = 0, b1 = 0, b2 = 0;
                    crank_status a =
                        tok_pair_lengths(tok, n1, n2, max_length, rule, &a1, &a2, NULL);
                    crank_status b =
                        tok_pair_lengths(tok, seen1, seen2, max_length, rule, &b1, &b2, NULL);
                    cr_assert(a == b && (a != CRANK_OK || (a1 == b1 && a2 == b2)),
                              "rule %d, max_length %zu, %zu and %zu tokens: %zu %zu, seen as %zu "
                              "and %zu: %zu %zu",
                              how, max_length, n1, n2, a1, a2, seen1, seen2, b1, b2);
                }
    tokenizer_close(tok);
}

Test(tokenizer, truncation_says_what_is_wrong)
{
    tokenizer *tok = open_text(SMALL_TOKENIZER);
    size_t keep1, keep2;
    crank_error error = {0};
    cr_expect(tok_pair_lengths(tok, 1, 1, 2, TOK_LONGEST_FIRST, &keep1, &keep2, &error) ==
              CRANK_INVALID_ARGUMENT);
    cr_expect(strstr(error.message, "smaller than the 3 tokens") != NULL, "%s", error.message);
    cr_expect(tok_pair_lengths(tok, 9, 5, 10, TOK_ONLY_SECOND, &keep1, &keep2, &error) ==
              CRANK_INVALID_ARGUMENT);
    cr_expect(strstr(error.message, "no room for the second text") != NULL, "%s", error.message);
    cr_expect(tok_pair_lengths(tok, 5, 9, 10, TOK_ONLY_FIRST, &keep1, &keep2, &error) ==
              CRANK_INVALID_ARGUMENT);
    cr_expect(tok_pair_lengths(tok, 9, SIZE_MAX, 5, TOK_ONLY_SECOND, &keep1, &keep2, &error) ==
              CRANK_INVALID_ARGUMENT);
    cr_expect(tok_pair_lengths(tok, 9, SIZE_MAX, 5, TOK_LONGEST_FIRST, &keep1, &keep2, &error) ==
                  CRANK_OK &&
              keep1 == 3);
    cr_expect(tok_pair_lengths(tok, 4, 5, 3, TOK_ONLY_SECOND, &keep1, &keep2, &error) == CRANK_OK &&
              keep1 == 0 && keep2 == 0);
    cr_expect(tok_pair_lengths(tok, SIZE_MAX / 2, SIZE_MAX - 1, 0, TOK_LONGEST_FIRST, &keep1,
                               &keep2, &error) == CRANK_OK);
    cr_expect(tok_pair_lengths(tok, 9, 9, 5, (tok_truncation)7, &keep1, &keep2, &error) ==
              CRANK_INVALID_ARGUMENT);
    tokenizer_close(tok);
}

/* ---- texts
 * ------------------------------------------------------------------------------------------ */

Test(tokenizer, words_and_special_tokens)
{
    tokenizer *tok = open_text(SMALL_TOKENIZER);
    EXPECT_IDS(tok, "", "");
    EXPECT_IDS(tok, "Hello, WORLD!", "9 14 10 24");
    EXPECT_IDS(tok, "retrieval aba  retrieving", "12 13 5 8 7 12 11");
    EXPECT_IDS(tok, "zzz retrievalx", "1 1");
    EXPECT_IDS(tok, "a[SEP]b [[SEP]] [sep]", "5 3 6 16 3 17 16 18 17");
    EXPECT_IDS(tok, "a   [MASK] b", "5 4 6");
    EXPECT_IDS(tok,
               "a\0b \xff\xfe"
               "a",
               "5 8 5");
    EXPECT_IDS(tok,
               "a\xe4\xb8\xad"
               "b",
               "5 21 6");
    const char *text = "a[SEP]b";
    cr_expect_str_eq(ids_of(tok, text, 7, TOK_SPECIALS_AS_TEXT), "5 16 18 17 6");
    cr_expect(tokenizer_token_id(tok, "##ing", 5) == 11);
    cr_expect(tokenizer_token_id(tok, "nothing", 7) == -1);
    size_t bytes;
    cr_expect(memcmp(tokenizer_token_text(tok, 19, &bytes), "transformers", 12) == 0 &&
              bytes == 12);
    cr_expect(tokenizer_token_text(tok, 29, &bytes) == NULL);
    cr_expect(tokenizer_token_text(tok, -1, &bytes) == NULL);
    const tok_info *info = tokenizer_info(tok);
    cr_expect_str_eq(info->model, "wordpiece");
    cr_expect_str_eq(info->source, "tokenizer.json");
    cr_expect(info->vocab_size == 29 && info->unk_id == 1 && info->pad_id == 0 &&
              info->cls_id == 2 && info->sep_id == 3 && info->mask_id == 4 && info->eos_id == -1);
    cr_expect(info->n_added_single == 2 && info->n_added_pair == 3 && info->model_max_length == 0);
    tokenizer_close(tok);
}

/* ---- folders
 * ---------------------------------------------------------------------------------------- */

static char *folder_of(const char *const files[][2], size_t n)
{
    char *folder = test_make_folder(), path[4096];
    for (size_t i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i][0]);
        test_write_file(path, files[i][1], strlen(files[i][1]));
    }
    return folder;
}

static tokenizer *open_files(const char *const files[][2], size_t n)
{
    char *folder = folder_of(files, n);
    tokenizer *tok;
    crank_error error = {0};
    cr_assert(tokenizer_open(&tok, folder, &error) == CRANK_OK, "%s", error.message);
    test_remove_folder(folder);
    return tok;
}

Test(tokenizer, vocab_txt_with_and_without_settings)
{
    const char *const plain[][2] = {
        {"vocab.txt", "[PAD]\r\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##b\nb\na\n\n\xc3\xa9\n"}};
    tokenizer *tok = open_files(plain, 1);
    cr_expect_str_eq(tokenizer_info(tok)->source, "vocab.txt");
    cr_expect(tokenizer_info(tok)->vocab_size == 11);
    EXPECT_IDS(tok, "AB b [SEP]", "8 6 7 3"); /* the last of two equal lines has the token */
    EXPECT_IDS(tok, "\xc3\xa9", "1");         /* lowercase strips accents */
    size_t bytes;
    cr_expect(tokenizer_token_text(tok, 5, &bytes) == NULL);
    cr_expect(tokenizer_token_text(tok, 9, &bytes) != NULL && bytes == 0);
    cr_expect(tokenizer_info(tok)->n_added_pair == 3);
    tokenizer_close(tok);

    const char *const cased[][2] = {
        {"vocab.txt", "<pad>\nUNK\n<s>\n</s>\n[MASK]\nA\nb\n\xc3\xa9\n##\xc3\xa9\n"},
        {"tokenizer_config.json",
         "{\"do_lower_case\":false,\"unk_token\":{\"content\":\"UNK\"},\"cls_token\":\"<s>\","
         "\"model_max_length\":1000000000000000019884624838656}"},
        {"special_tokens_map.json",
         "{\"sep_token\":\"</s>\",\"pad_token\":{\"content\":\"<pad>\"},\"cls_token\":\"b\"}"}};
    tok = open_files(cased, 3);
    EXPECT_IDS(tok, "A a b\xc3\xa9 </s>", "5 1 6 8 3");
    const tok_info *info = tokenizer_info(tok);
    cr_expect(info->unk_id == 1 && info->cls_id == 2 && info->sep_id == 3 && info->pad_id == 0);
    cr_expect(info->model_max_length == 0 && info->warning == NULL);
    tokenizer_close(tok);
}

Test(tokenizer, vocab_txt_equals_tokenizer_json_for_bert)
{
    const char *bert = test_bert_folder();
    if (bert == NULL) {
        fprintf(stderr, "SKIPPED: no BERT vocabulary (./run setup brings it)\n");
        cr_skip("no BERT vocabulary");
    }
    char path[4096];
    size_t bytes, vocab_bytes;
    snprintf(path, sizeof path, "%s/vocab.txt", bert);
    char *vocab = test_read_file(path, &vocab_bytes);
    const char *const files[][2] = {{"vocab.txt", vocab}};
    tokenizer *ours = open_files(files, 1), *theirs;
    cr_assert(tokenizer_open(&theirs, bert, NULL) == CRANK_OK);
    cr_expect(tokenizer_info(ours)->vocab_size == tokenizer_info(theirs)->vocab_size);
    cr_expect(tokenizer_info(theirs)->model_max_length == 512);
    tok_scratch *scratch = open_scratch();
    tok_ids a = {0}, b = {0};
    char text[8192];
    for (int i = 0; i < 500; i++) {
        bytes = random_text(text, 60);
        encode(ours, scratch, text, bytes, SIZE_MAX, &a);
        encode(theirs, scratch, text, bytes, SIZE_MAX, &b);
        cr_assert(a.n == b.n && (a.n == 0 || memcmp(a.ids, b.ids, a.n * sizeof(int32_t)) == 0));
    }
    tok_ids_free(&a);
    tok_ids_free(&b);
    tok_scratch_close(scratch);
    tokenizer_close(ours);
    tokenizer_close(theirs);
    free(vocab);
}

Test(tokenizer, config_overrides_the_bert_normaliser_and_warns)
{
    const char *const files[][2] = {
        {"tokenizer.json", SMALL_TOKENIZER},
        {"tokenizer_config.json",
         "{\"do_lower_case\":false,\"tokenizer_class\":\"BertTokenizer\",\"model_max_length\":77,"
         "\"strip_accents\":null}"}};
    tokenizer *tok = open_files(files, 2);
    EXPECT_IDS(tok, "hello Hello", "9 1");
    cr_assert(tokenizer_info(tok)->warning != NULL);
    cr_expect(strstr(tokenizer_info(tok)->warning, "do_lower_case overrides") != NULL);
    cr_expect(tokenizer_info(tok)->model_max_length == 77);
    tokenizer_close(tok);

    const char *const same[][2] = {{"tokenizer.json", SMALL_TOKENIZER},
                                   {"tokenizer_config.json", "{\"do_lower_case\":true}"}};
    tok = open_files(same, 2);
    cr_expect(tokenizer_info(tok)->warning == NULL);
    tokenizer_close(tok);

    const char *const other[][2] = {
        {"tokenizer.json", SMALL_TOKENIZER},
        {"tokenizer_config.json",
         "{\"do_lower_case\":false,\"tokenizer_class\":\"PreTrainedTokenizerFast\"}"}};
    tok = open_files(other, 2);
    EXPECT_IDS(tok, "Hello", "9");
    tokenizer_close(tok);
}
