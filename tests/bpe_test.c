/* Byte-pair encoding and the words it is given: golden rows of two small trained tokenizers, merges
 * against an obvious reference, GPT-2's words by hand against the expression engine, hostile files
 * and images. Expected ids and words were computed with Hugging Face tokenizers 0.23.3. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "memory.h"
#include "support/model_golden.h"
#include "support/tokenizer_files.h"
#include "tokenizer/words_regex.h"
#include "utf8.h"

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* ---- golden rows -----------------------------------------------------------------------------*/

static void golden(const char *name)
{
    tokenizer *tok = test_open_tokenizer(name);
    model_golden g = test_model_golden(tok, name);
    cr_expect(g.different == 0, "%s: %zu of %zu texts and %zu pairs differ, first %s", name,
              g.different, g.texts, g.pairs, g.first);
    cr_expect(g.texts >= 400 && g.pairs >= 60);
    size_t bytes;
    const void *image = tokenizer_image(tok, &bytes);
    void *copy = aligned_alloc(64, (bytes + 63) / 64 * 64);
    memcpy(copy, image, bytes);
    tokenizer *again;
    crank_error error = {0};
    cr_assert(tokenizer_from_image(&again, copy, bytes, &error) == CRANK_OK, "%s", error.message);
    g = test_model_golden(again, name);
    cr_expect(g.different == 0, "%s from its image: first %s", name, g.first);
    tokenizer_close(again);
    free(copy);
    tokenizer_close(tok);
}

Test(bpe, golden_roberta)
{
    golden("bpe/roberta");
}

Test(bpe, golden_modernbert)
{
    golden("bpe/modernbert");
}

/* ---- small models ----------------------------------------------------------------------------*/

static void encode(const tokenizer *tok, const char *text, size_t bytes, tok_ids *ids)
{
    tok_scratch *scratch;
    crank_error error = {0};
    cr_assert(tok_scratch_open(&scratch, &error) == CRANK_OK);
    ids->n = 0;
    cr_assert(tok_encode(tok, scratch, text, bytes, TOK_DEFAULT, SIZE_MAX, ids, &error) == CRANK_OK,
              "%s", error.message);
    tok_scratch_close(scratch);
}

static bool encodes_to(const tokenizer *tok, const char *text, const char *want)
{
    tok_ids ids = {0};
    char got[1024] = "";
    encode(tok, text, strlen(text), &ids);
    for (size_t i = 0; i < ids.n; i++) {
        size_t used = strlen(got);
        snprintf(got + used, sizeof got - used, "%s%d", i > 0 ? " " : "", ids.ids[i]);
    }
    tok_ids_free(&ids);
    if (strcmp(got, want) != 0) fprintf(stderr, "\"%s\": got %s, want %s\n", text, got, want);
    return strcmp(got, want) == 0;
}

/* Without byte level: symbols are characters. */
Test(bpe, unknown_characters_and_byte_fallback)
{
    static const char *const texts[] = {"ab\xC3\xA9",
                                        "xxa",
                                        "a\xC3\xB6"
                                        "b",
                                        "x\xC3\xB6x",
                                        "xyzab",
                                        "\xC3\xB6\xC3\xBC"};
    static const struct {
        const char *options, *want[6];
    } rows[] = {
        {"\"unk_token\": \"<unk>\"", {"7", "0 0 1", "1 0 2", "0 0 0", "0 0 0 4", "0 0"}},
        {"\"unk_token\": \"<unk>\", \"fuse_unk\": true", {"7", "0 1", "1 0 2", "0", "0 4", "0"}},
        {"\"unk_token\": \"<unk>\", \"byte_fallback\": true",
         {"7", "0 0 1", "1 5 6 2", "5 6 0 0", "0 0 0 4", "5 6 0"}}, /* x waits for the next x */
        {"\"unk_token\": null", {"7", "1", "4", "", "4", ""}},
        {"\"byte_fallback\": true", {"7", "1", "1 5 6 2", "5 6", "4", "5 6"}},
        {"\"unk_token\": \"<unk>\", \"byte_fallback\": true, \"fuse_unk\": true",
         {"7", "0 1", "1 5 6 2", "5 6 0", "0 4", "5 6 0"}},
        {"\"unk_token\": \"<unk>\", \"ignore_merges\": true",
         {"7", "0 0 1", "1 0 2", "0 0 0", "0 0 0 4", "0 0"}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char json[1024];
        tokenizer *tok;
        crank_error error = {0};
        snprintf(
            json, sizeof json,
            "{\"model\": {\"type\": \"BPE\", %s, \"vocab\": {\"<unk>\": 0, \"a\": 1, \"b\": 2, "
            "\"\xC3\xA9\": 3, \"ab\": 4, \"<0xC3>\": 5, \"<0xB6>\": 6, \"ab\xC3\xA9\": 7}, "
            "\"merges\": [\"a b\", \"ab \xC3\xA9\"]}}",
            rows[i].options);
        cr_assert(test_open_tokenizer_text(&tok, json, &error) == CRANK_OK, "%s", error.message);
        for (int k = 0; k < 6; k++)
            cr_expect(encodes_to(tok, texts[k], rows[i].want[k]), "options %s", rows[i].options);
        tokenizer_close(tok);
    }
}

#define BYTE_LEVEL(prefix, regex)                                                                  \
    "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": " prefix                   \
    ", \"use_regex\": " regex "}, "

/* Entries that no merges make are words only under ignore_merges. */
Test(bpe, ignore_merges_and_prefix_space)
{
    static const char *const texts[] = {"ab", " aba", "aba ab", "\nab", "\n\nab"};
    static const char *const want[2][5] = {{"4 2", "4 2 0", "4 2 0 4 2", "4 2", "4 2"},
                                           {"5", "4 2 0", "4 2 0 5", "4 2", "4 2"}};
    for (int ignore = 0; ignore < 2; ignore++) {
        char json[1024];
        tokenizer *tok;
        crank_error error = {0};
        snprintf(json, sizeof json,
                 "{" BYTE_LEVEL("true", "true") "\"model\": {\"type\": \"BPE\", \"ignore_merges\": "
                                                "%s, \"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2, "
                                                "\"aba\": 3, \"\xC4\xA0\": 4, "
                                                "\"\xC4\xA0"
                                                "ab\": 5}, \"merges\": [[\"a\", \"b\"]]}}",
                 ignore ? "true" : "false");
        cr_assert(test_open_tokenizer_text(&tok, json, &error) == CRANK_OK, "%s", error.message);
        for (int k = 0; k < 5; k++) cr_expect(encodes_to(tok, texts[k], want[ignore][k]));
        tokenizer_close(tok);
    }
}

/* ---- merges against the obvious way ----------------------------------------------------------*/

typedef struct toy {
    char token[200][64];
    int n_tokens;
    int left[200], right[200], made[200], n_merges;
} toy;

static int toy_find(const toy *t, const char *text)
{
    for (int i = 0; i < t->n_tokens; i++)
        if (strcmp(t->token[i], text) == 0) return i;
    return -1;
}

/* Three letters, then merges of random tokens in random order: deep, overlapping, some never
 * reached. */
static void toy_make(toy *t, uint32_t *state)
{
    memset(t, 0, sizeof *t);
    for (; t->n_tokens < 3; t->n_tokens++) t->token[t->n_tokens][0] = (char)('a' + t->n_tokens);
    while (t->n_tokens < 60) {
        int a = (int)(next_random(state) % (unsigned)t->n_tokens);
        int b = (int)(next_random(state) % (unsigned)t->n_tokens);
        char joined[128];
        snprintf(joined, sizeof joined, "%s%s", t->token[a], t->token[b]);
        if (strlen(joined) > 12) continue;
        bool known = false;
        for (int i = 0; i < t->n_merges; i++) known |= t->left[i] == a && t->right[i] == b;
        if (known) continue;
        int made = toy_find(t, joined);
        if (made < 0) {
            made = t->n_tokens++;
            memcpy(t->token[made], joined, strlen(joined) + 1);
        }
        t->left[t->n_merges] = a;
        t->right[t->n_merges] = b;
        t->made[t->n_merges++] = made;
    }
    for (int i = t->n_merges - 1; i > 0; i--) { /* ranks in random order */
        int k = (int)(next_random(state) % (unsigned)(i + 1));
        int swap[3] = {t->left[i], t->right[i], t->made[i]};
        t->left[i] = t->left[k], t->right[i] = t->right[k], t->made[i] = t->made[k];
        t->left[k] = swap[0], t->right[k] = swap[1], t->made[k] = swap[2];
    }
}

static size_t toy_encode(const toy *t, const char *text, size_t n, int *ids)
{
    for (size_t i = 0; i < n; i++) ids[i] = text[i] - 'a';
    for (;;) {
        int best = t->n_merges;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++)
            for (int m = 0; m < best; m++)
                if (t->left[m] == ids[i] && t->right[m] == ids[i + 1]) {
                    best = m;
                    at = i;
                }
        if (best == t->n_merges) return n;
        ids[at] = t->made[best];
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
        n--;
    }
}

Test(bpe, merges_as_the_obvious_way_does)
{
    uint32_t state = 11;
    for (int round = 0; round < 40; round++) {
        toy t;
        toy_make(&t, &state);
        char json[16384];
        int used = snprintf(json, sizeof json,
                            "{" BYTE_LEVEL("false", "false") "\"model\": {\"type\": \"BPE\", "
                                                             "\"vocab\": {");
        for (int i = 0; i < t.n_tokens; i++)
            used += snprintf(json + used, sizeof json - (size_t)used, "%s\"%s\": %d",
                             i > 0 ? ", " : "", t.token[i], i);
        used += snprintf(json + used, sizeof json - (size_t)used, "}, \"merges\": [");
        for (int i = 0; i < t.n_merges; i++)
            used += snprintf(json + used, sizeof json - (size_t)used, "%s\"%s %s\"",
                             i > 0 ? ", " : "", t.token[t.left[i]], t.token[t.right[i]]);
        snprintf(json + used, sizeof json - (size_t)used, "]}}");
        tokenizer *tok;
        crank_error error = {0};
        cr_assert(test_open_tokenizer_text(&tok, json, &error) == CRANK_OK, "%s", error.message);
        tok_ids ids = {0};
        for (int k = 0; k < 60; k++) { /* on both sides of what counts as a long word */
            char text[400];
            int want[400];
            size_t n = 1 + next_random(&state) % (k % 2 == 0 ? 48 : 400);
            for (size_t i = 0; i < n; i++) text[i] = (char)('a' + next_random(&state) % 3);
            size_t n_want = toy_encode(&t, text, n, want);
            encode(tok, text, n, &ids);
            cr_assert(ids.n == n_want && memcmp(ids.ids, want, n_want * sizeof *want) == 0,
                      "round %d: \"%.*s\"", round, (int)n, text);
        }
        tok_ids_free(&ids);
        tokenizer_close(tok);
    }
}

static void repeated(const char *name, const char *unit, size_t times, size_t n, uint32_t crc)
{
    tokenizer *tok = test_open_tokenizer(name);
    tok_ids ids = {0};
    size_t width = strlen(unit);
    char *text = malloc(width * times);
    for (size_t i = 0; i < times; i++) memcpy(text + i * width, unit, width);
    encode(tok, text, width * times, &ids);
    cr_expect(ids.n == n && (uint32_t)crc32(0, (const uint8_t *)ids.ids,
                                            (unsigned)(ids.n * sizeof *ids.ids)) == crc,
              "%s: \"%s\" %zu times gives %zu ids", name, unit, times, ids.n);
    free(text);
    tok_ids_free(&ids);
    tokenizer_close(tok);
}

Test(bpe, words_of_a_megabyte, .timeout = 900)
{
    repeated("bpe/roberta", "a", 1000000, 1000000, 0x698CE314u);
    repeated("bpe/roberta", "ab", 200000, 200000, 0x4C73268Bu);
    repeated("bpe/roberta", "\xC3\xA9", 200000, 200000, 0xDCD8EFE0u);
    repeated("bpe/roberta", " ", 300000, 75000, 0x7F1AD7C4u);
    repeated("bpe/modernbert", " ", 300000, 37500, 0x1A4FFD7Fu);
    repeated("bpe/roberta", "'", 300000, 300000, 0xA7E83EC7u);
    repeated("bpe/roberta", "the", 100000, 199999, 0x7BA5D81Au);
}

/* ---- words -----------------------------------------------------------------------------------*/

Test(bpe, categories_are_oniguruma_s)
{
    static const char names[][3] = {"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me",
                                    "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi",
                                    "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl",
                                    "Zp", "Cc", "Cf", "Cs", "Co", "Cn", "Cw"};
    size_t bytes;
    char *file = test_read_file(test_tokenizer_fixture("bpe/categories.tsv.gz"), &bytes);
    cr_assert(file != NULL);
    uint32_t c = 0;
    for (char *line = strtok(file, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        unsigned n, want = 0;
        char name[4] = "";
        cr_assert(sscanf(line, "%x %3s", &n, name) == 2, "%s", line);
        while (memcmp(names[want], name, 2) != 0) want++;
        enum words_class class = name[0] == 'L'                                 ? WORDS_LETTER
                                 : name[0] == 'N'                               ? WORDS_NUMBER
                                 : name[0] == 'Z' || memcmp(name, "Cw", 2) == 0 ? WORDS_SPACE
                                                                                : WORDS_OTHER;
        if (name[2] == 'w') want |= WORDS_IN_WORD;
        for (; n > 0; n--, c++) {
            cr_assert(words_value_of(c) == want, "U+%04X is %u", c, words_value_of(c));
            cr_assert(words_class_of(c) == class, "U+%04X is %d", c, words_class_of(c));
        }
    }
    cr_expect(c == 0x110000 && words_class_of(c) == WORDS_OTHER && words_value_of(c) == WORDS_CN);
    free(file);
}

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

static tok_section compiled(image_builder *b, const char *pattern, bool literal)
{
    crank_error error = {0};
    memset(b, 0, sizeof *b);
    cr_assert(image_builder_open(b, &error) == CRANK_OK);
    cr_assert(image_open_section(b, TOK_SECTION_NORMALIZER, &error) == CRANK_OK);
    cr_assert(words_regex_put(b, pattern, strlen(pattern), literal, "test", &error) == CRANK_OK,
              "%s", error.message);
    tok_section program = {image_at(b, 0), image_put(b, NULL, 0)};
    cr_assert(words_regex_check(program, &error) == CRANK_OK, "%s", error.message);
    return program;
}

static size_t random_text(uint32_t *state, uint8_t *text, size_t characters)
{
    static const uint32_t pool[] = {' ',  ' ',  ' ',    '\n',   '\t',    0xA0, 0x3000, 0x85,
                                    '\'', '\'', 's',    't',    'r',     'e',  'v',    'm',
                                    'l',  'd',  'A',    0xE9,   0x4E2D,  '1',  0x661,  0xBD,
                                    '.',  '-',  0x2019, 0x20AC, 0x1F44D, 0,    0x301,  0x378};
    size_t n = 0;
    for (size_t i = 0; i < characters; i++)
        n += (size_t)utf8_encode(pool[next_random(state) % (sizeof pool / sizeof *pool)], text + n);
    return n;
}

/* The scanner by hand and the engine on the written expression cut every text alike, also with the
 * space that add_prefix_space puts before it. */
Test(bpe, words_by_hand_and_by_expression_agree)
{
    image_builder b;
    tok_section program = compiled(&b, GPT2, false);
    uint32_t state = 5;
    for (int round = 0; round < 20000; round++) {
        uint8_t spaced[256] = {' '}, *text = spaced + 1;
        size_t n = random_text(&state, text, 1 + next_random(&state) % 24), work = 0;
        for (size_t at = 0, start, end; at < n; at = end) {
            cr_assert(words_regex_next(program, text, n, at, &start, &end, &work) && start == at);
            cr_assert(words_gpt2_next(text + at, n - at) == end - at, "round %d at %zu", round, at);
        }
        size_t start, end;
        work = 0;
        if (text[0] == ' ') continue;
        cr_assert(words_regex_next(program, spaced, n + 1, 0, &start, &end, &work) && start == 0);
        cr_assert(words_gpt2_first(text, n) == end - 1, "round %d with a space", round);
    }
    image_builder_close(&b);
}

/* Text with every match replaced by '|', which the rows below have from Hugging Face. */
Test(bpe, expressions_match_as_oniguruma_does)
{
    static const char *const rows[][3] = {
        {" {2,}", "a  b   c d ", "a|b|c d "},
        {"\\s{2,}|[\\n\\r\\t]", "a \n b\tc  ", "a|b|c|"},
        {"\\p{N}{1,3}", "12345a6\xC2\xBD", "||a|"},
        {"[a-c]+?b", "aabcbab", "|||"},
        {"(a|ab)(c|bcd)(d*)", "abcd acdd abc", "| | |"},
        {"\\S+(?= )", "ab c  de", "| |  de"},
        {"[^a\\-z]{3}", "bcd-xyzbcd", "|-xyz|"},
        {"x*y|x", "xxxyxxx", "||||"},
        {"(?i:k|s)t", "kt KT \xE2\x84\xAAt \xC5\xBFt", "| KT | |"},
        {"\\u0041|\\x62", "AbaB", "||aB"},
        {".+\\n", "ab\n\ncd", "|\ncd"},
        {"``|''", "``a''b`", "|a|b`"},
        {"a{,2}b", "aaab", "a|"},
        {"(?:ab){2}c?", "abababc", "|abc"},
        {"\\P{L}+", "a1 b", "a|b"},
        {"\\p{^N}", "1a", "1|"},
        {"\\p{Lu}\\p{Ll}+",
         "Abc dEf \xC7"
         "\x85"
         "x \xC3"
         "\x89"
         "a",
         "| d| \xC7"
         "\x85"
         "x |"},
        {"[\\p{P}\\p{S}]+",
         "a+b, \xC2"
         "\xAB"
         "c\xC2"
         "\xBB"
         " \xE2"
         "\x82"
         "\xAC"
         "5 \xC2"
         "\xBF"
         "?",
         "a|b| |c| |5 |"},
        {"[^\\p{L}\\p{M}\\P{Z}]+",
         "a b\xE3"
         "\x80"
         "\x80"
         "c\xC2"
         "\xA0"
         "\xE2"
         "\x80"
         "\xA8"
         "d",
         "a|b|c|d"},
        {"\\w+",
         "foo_bar\xC2"
         "\xB2"
         "-1 na\xC3"
         "\xAF"
         "ve \xE2"
         "\x93"
         "\x90"
         "",
         "|-| | |"},
        {"\\D\\d",
         "a1 \xD9"
         "\xA3"
         "x\xC2"
         "\xB2"
         " 4\xE0"
         "\xA5"
         "\xAB"
         "",
         "||x\xC2"
         "\xB2"
         "|\xE0"
         "\xA5"
         "\xAB"
         ""},
        {"[^\\S\\n]+",
         "a \x09"
         "\x0A"
         "b \xC2"
         "\x85"
         "c",
         "a|\x0A"
         "b|c"},
        {"\\p{^Uppercase_Letter}+", "ABcdE", "AB|E"},
        {"\\P{Mn}\\p{Mn}",
         "e\xCC"
         "\x81"
         "a\xCC"
         "\x81"
         "\xCC"
         "\x82"
         "",
         "||\xCC"
         "\x82"
         ""},
        {"a?+ab|x*+y", "aab xxy ab", "| | ab"},
        {"[a-z]++[0-9]?+", "ab12 c", "|2 |"},
        {"(?i:[skx-z])",
         "kKsSxXyzZ\xC5"
         "\xBF"
         "\xE2"
         "\x84"
         "\xAA"
         "\xC3"
         "\x9F"
         "",
         "|||||||||||\xC3"
         "\x9F"
         ""},
        {"(?i:'s|'re)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\s*[\\r\\n]+|\\s+(?!\\S)", "We'RE  ok \n",
         "|||||"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        image_builder b;
        tok_section program = compiled(&b, rows[i][0], false);
        const uint8_t *text = (const uint8_t *)rows[i][1];
        size_t n = strlen(rows[i][1]), at = 0, start, end, work = 0, used = 0;
        char got[256];
        while (at < n && words_regex_next(program, text, n, at, &start, &end, &work)) {
            memcpy(got + used, text + at, start - at);
            used += start - at;
            got[used++] = '|';
            at = end;
        }
        memcpy(got + used, text + at, n - at);
        used += n - at;
        cr_expect(used == strlen(rows[i][2]) && memcmp(got, rows[i][2], used) == 0,
                  "%s on \"%s\": %.*s", rows[i][0], rows[i][1], (int)used, got);
        image_builder_close(&b);
    }
}

Test(bpe, expressions_beyond_the_subset_are_refused)
{
    static const struct {
        const char *pattern;
        crank_status status;
        const char *want;
    } rows[] = {
        {"", CRANK_FORMAT, "empty"},
        {"a*", CRANK_UNSUPPORTED, "matches the empty text"},
        {"(a*)+b", CRANK_UNSUPPORTED, "a loop over what may be empty"},
        {"(a", CRANK_FORMAT, "not closed"},
        {"a)", CRANK_FORMAT, "a parenthesis too many at byte 1"},
        {"[a", CRANK_FORMAT, "not closed"},
        {"[]a]", CRANK_UNSUPPORTED, "an empty bracket"},
        {"[b-a]", CRANK_FORMAT, "no range"},
        {"a{2", CRANK_FORMAT, "malformed repeat"},
        {"a{3,2}", CRANK_UNSUPPORTED, "m < n"},
        {"a{999}", CRANK_UNSUPPORTED, "a large repeat"},
        {"(?:a{200}){200}", CRANK_UNSUPPORTED, "too large"},
        {"(?:ab)++", CRANK_UNSUPPORTED, "a possessive quantifier after a group at byte 8"},
        {"a{2}+", CRANK_UNSUPPORTED, "a quantifier after a count"},
        {"a+++", CRANK_UNSUPPORTED, "a repeated quantifier"},
        {"^a", CRANK_UNSUPPORTED, "an anchor"},
        {"\\bword", CRANK_UNSUPPORTED, "an unknown escape"},
        {"a\\p{Han}+", CRANK_UNSUPPORTED, "an unknown class \"\\p{Han}\" at byte 1"},
        {"[a\\P{Lx}]", CRANK_UNSUPPORTED, "an unknown class \"\\P{Lx}\" at byte 2"},
        {"\\p{Lu", CRANK_UNSUPPORTED, "an unknown class"},
        {"\\pL", CRANK_UNSUPPORTED, "an unknown class \"\\p\" at byte 0"},
        {"a\\hb", CRANK_UNSUPPORTED, "an unknown escape \"\\h\" at byte 1"},
        {"[\\p{L}&&[^a]]", CRANK_UNSUPPORTED, "an intersection"},
        {"(?<=a)b", CRANK_UNSUPPORTED, "a special group"},
        {"(?=ab)a", CRANK_UNSUPPORTED, "look-ahead beyond"},
        {"(?i:[^a-z])", CRANK_UNSUPPORTED, "a negated bracket without case"},
        {"(?i:[\\d])", CRANK_UNSUPPORTED, "a class without case"},
        {"(?i:[\xC3\xA9])", CRANK_UNSUPPORTED, "a character outside ASCII"},
        {"(?i:ss)", CRANK_UNSUPPORTED, "fold together"},
        {"a\\", CRANK_FORMAT, "a backslash ends"},
        {"\xFF", CRANK_FORMAT, "invalid UTF-8"},
        {"((((((((((((((((((a))))))))))))))))))", CRANK_UNSUPPORTED, "nested too deeply"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        image_builder b;
        crank_error error = {0};
        memset(&b, 0, sizeof b);
        cr_assert(image_builder_open(&b, &error) == CRANK_OK);
        cr_assert(image_open_section(&b, TOK_SECTION_NORMALIZER, &error) == CRANK_OK);
        crank_status status =
            words_regex_put(&b, rows[i].pattern, strlen(rows[i].pattern), false, "test", &error);
        cr_expect(status == rows[i].status && strstr(error.message, rows[i].want) != NULL,
                  "\"%s\": %d %s", rows[i].pattern, status, error.message);
        image_builder_close(&b);
    }
}

/* Each search looks to the end of the text and then matches one character: quadratic, if it were
 * not stopped. */
Test(bpe, an_expression_that_looks_too_far_is_stopped, .timeout = 900)
{
    image_builder b;
    tok_section program = compiled(&b, "a*b|a", false);
    size_t n = 200000, at = 0, start, end, work = 0;
    uint8_t *text = malloc(n);
    memset(text, 'a', n);
    while (words_regex_next(program, text, n, at, &start, &end, &work)) at = end;
    cr_expect(work == SIZE_MAX && at < n);
    free(text);
    image_builder_close(&b);

    tokenizer *tok;
    tok_scratch *scratch;
    tok_ids ids = {0};
    crank_error error = {0};
    cr_assert(test_open_tokenizer_text(
                  &tok,
                  "{\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"a*b|a\"}, "
                  "\"behavior\": \"Isolated\", \"invert\": false}, \"model\": {\"type\": \"BPE\", "
                  "\"vocab\": {\"a\": 0}, \"merges\": []}}",
                  &error) == CRANK_OK,
              "%s", error.message);
    cr_assert(tok_scratch_open(&scratch, &error) == CRANK_OK);
    text = malloc(n);
    memset(text, 'a', n);
    cr_expect(tok_encode(tok, scratch, (char *)text, n, TOK_DEFAULT, SIZE_MAX, &ids, &error) ==
              CRANK_LIMIT);
    free(text);
    tok_ids_free(&ids);
    tok_scratch_close(scratch);
    tokenizer_close(tok);
}

/* ---- hostile files ---------------------------------------------------------------------------*/

Test(bpe, hostile_files_are_refused_by_name)
{
#define MODEL(fields) "{\"model\": {\"type\": \"BPE\", " fields "}}"
#define AB "\"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2}"
    static const struct {
        const char *json;
        crank_status status;
        const char *want;
    } rows[] = {
        {MODEL(AB ", \"merges\": []"), CRANK_OK, ""},
        {MODEL("\"merges\": []"), CRANK_FORMAT, "vocab"},
        {MODEL(AB), CRANK_FORMAT, "merges"},
        {MODEL("\"vocab\": [], \"merges\": []"), CRANK_FORMAT, "vocab"},
        {MODEL("\"vocab\": {\"a\": \"0\"}, \"merges\": []"), CRANK_FORMAT, "vocab[\"a\"]"},
        {MODEL("\"vocab\": {\"a\": 0.5}, \"merges\": []"), CRANK_FORMAT, "vocab[\"a\"]"},
        {MODEL("\"vocab\": {\"a\": -1}, \"merges\": []"), CRANK_FORMAT, "-1"},
        {MODEL("\"vocab\": {\"a\": 99999999}, \"merges\": []"), CRANK_FORMAT, "99999999"},
        {MODEL("\"vocab\": {\"a\": 0, \"b\": 0}, \"merges\": []"), CRANK_FORMAT, "0"},
        {MODEL(AB ", \"merges\": [7]"), CRANK_FORMAT, "merges[0]"},
        {MODEL(AB ", \"merges\": [\"ab\"]"), CRANK_FORMAT, "merges[0]"},
        {MODEL(AB ", \"merges\": [\"a b c\"]"), CRANK_FORMAT, "merges[0]"},
        {MODEL(AB ", \"merges\": [\"a b\", [\"a\"]]"), CRANK_FORMAT, "merges[1]"},
        {MODEL(AB ", \"merges\": [\"a b\", \"a c\"]"), CRANK_FORMAT,
         "merges[1]: \"c\" is not in the vocabulary"},
        {MODEL(AB ", \"merges\": [\"b a\"]"), CRANK_FORMAT,
         "merges[0]: \"ba\" is not in the vocabulary"},
        {MODEL(AB ", \"merges\": [\"#version: 0.2\", \"a b\"]"), CRANK_OK, ""},
        {MODEL(AB ", \"merges\": [], \"unk_token\": \"?\""), CRANK_FORMAT, "unk_token"},
        {MODEL(AB ", \"merges\": [], \"dropout\": 0.1"), CRANK_UNSUPPORTED, "dropout"},
        {MODEL(AB ", \"merges\": [], \"dropout\": 0.0"), CRANK_OK, ""},
        {MODEL(AB ", \"merges\": [], \"end_of_word_suffix\": \"</w>\""), CRANK_UNSUPPORTED,
         "end_of_word_suffix"},
        {MODEL(AB ", \"merges\": [], \"continuing_subword_prefix\": \"##\""), CRANK_UNSUPPORTED,
         "continuing_subword_prefix"},
        {MODEL(AB ", \"merges\": [], \"ignore_merges\": 1"), CRANK_FORMAT, "ignore_merges"},
        {"{" BYTE_LEVEL("false",
                        "true") "\"model\": {\"type\": \"BPE\", \"byte_fallback\": true, " AB
                                ", \"merges\": []}}",
         CRANK_UNSUPPORTED, "byte_fallback"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tokenizer *tok = NULL;
        crank_error error = {0};
        crank_status status = test_open_tokenizer_text(&tok, rows[i].json, &error);
        cr_expect(status == rows[i].status && strstr(error.message, rows[i].want) != NULL,
                  "case %zu: %d %s", i, status, error.message);
        tokenizer_close(tok);
    }
}

Test(bpe, damaged_images_open_or_do_not_but_never_misbehave, .timeout = 900)
{
    static const char *const names[] = {"bpe/roberta", "bpe/modernbert"};
    for (size_t i = 0; i < 2; i++) {
        tokenizer *tok = test_open_tokenizer(names[i]);
        size_t opened = test_damaged_images(tok, 91 + (unsigned)i, 400);
        cr_expect(opened > 10 && opened < 400, "%zu of 400 damaged images opened", opened);
        tokenizer_close(tok);
    }
}

Test(bpe, every_allocation_may_fail)
{
    static const char json[] =
        "{\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", "
        "\"pattern\": {\"Regex\": \"x+\"}, \"behavior\": \"Isolated\", \"invert\": false}, "
        "{\"type\": \"ByteLevel\", \"add_prefix_space\": true}]}, "
        "\"model\": {\"type\": \"BPE\", " AB ", \"merges\": [\"a b\"]}}";
    char *folder = test_make_folder(), path[4096], text[100];
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    memset(text, 'a', sizeof text);
    text[50] = 'b';
    test_write_file(path, json, strlen(json));
    long n = 0;
    for (;; n++) {
        tokenizer *tok = NULL;
        tok_scratch *scratch = NULL;
        tok_ids ids = {0};
        crank_error error = {0};
        mem_fail_nth(n);
        crank_status status = tokenizer_open(&tok, folder, &error);
        if (status == CRANK_OK) status = tok_scratch_open(&scratch, &error);
        if (status == CRANK_OK)
            status =
                tok_encode(tok, scratch, text, sizeof text, TOK_DEFAULT, SIZE_MAX, &ids, &error);
        mem_fail_nth(-1);
        cr_assert(status == CRANK_OK || status == CRANK_OUT_OF_MEMORY, "allocation %ld: %d %s", n,
                  status, error.message);
        tok_ids_free(&ids);
        tok_scratch_close(scratch);
        tokenizer_close(tok);
        if (status == CRANK_OK) break;
    }
    cr_expect(n > 10, "only %ld allocations", n);
    test_remove_folder(folder);
}
