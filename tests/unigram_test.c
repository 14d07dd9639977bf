/* Unigram and what its files need: the golden rows of four small trained tokenizers, the trie, the
 * character map and its clusters, hostile files and images. Expected ids were computed with Hugging
 * Face tokenizers 0.23.3. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "memory.h"
#include "support/model_golden.h"
#include "support/tokenizer_files.h"
#include "tokenizer/charsmap.h"
#include "tokenizer/graphemes.h"
#include "tokenizer/json.h"
#include "tokenizer/steps.h"
#include "tokenizer/unigram_trie.h"
#include "tokenizer/vocab.h"
#include "utf8.h"

/* ---- golden rows -----------------------------------------------------------------------------*/

static void golden(const char *name)
{
    tokenizer *tok = test_open_tokenizer(name);
    model_golden g = test_model_golden(tok, name);
    cr_expect(g.different == 0, "%s: %zu of %zu texts and %zu pairs differ, first %s", name,
              g.different, g.texts, g.pairs, g.first);
    cr_expect(g.texts >= 400 && g.pairs >= 60);

    /* The same from a copy of the image, which is what a converted file holds. */
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

Test(unigram, golden_xlmr)
{
    golden("unigram/xlmr");
}

Test(unigram, golden_t5)
{
    golden("unigram/t5");
}

Test(unigram, golden_deberta)
{
    golden("unigram/deberta");
}

Test(unigram, golden_byte_fallback)
{
    golden("unigram/bytefallback");
}

/* ---- small models ----------------------------------------------------------------------------*/

#define MODEL(fields) "{\"added_tokens\": [], \"model\": {\"type\": \"Unigram\", " fields "}}"

static bool encodes_to(const tokenizer *tok, const char *text, unsigned flags, const char *want)
{
    tok_scratch *scratch;
    crank_error error = {0};
    tok_ids ids = {0};
    char got[1024] = "";
    cr_assert(tok_scratch_open(&scratch, &error) == CRANK_OK);
    cr_assert(tok_encode(tok, scratch, text, strlen(text), flags, SIZE_MAX, &ids, &error) ==
                  CRANK_OK,
              "%s", error.message);
    for (size_t i = 0; i < ids.n; i++) {
        size_t used = strlen(got);
        snprintf(got + used, sizeof got - used, "%s%d", i > 0 ? " " : "", ids.ids[i]);
    }
    tok_ids_free(&ids);
    tok_scratch_close(scratch);
    if (strcmp(got, want) != 0) fprintf(stderr, "\"%s\": got %s, want %s\n", text, got, want);
    return strcmp(got, want) == 0;
}

Test(unigram, best_cut_ties_unknowns_and_bytes)
{
#define PIECES                                                                                     \
    "\"unk_id\": 0, \"vocab\": [[\"<unk>\", 0], [\"a\", -1.0], [\"b\", -1.0], [\"ab\", -2.0], "    \
    "[\"abc\", -9.0], [\"ba\", -1.5], [\"<0xC3>\", 0.0], [\"<0xA9>\", 0.0]]"
    static const char *const rows[][3] = {
        /* text, without, with byte fallback */
        {"ab", "3", "3"},       /* a + b scores the same: the longer piece wins */
        {"aba", "1 5", "1 5"},  /* -2.5 against -3 */
        {"abc", "4", "4"},      /* c alone is unknown and costs 19 */
        {"xyab", "0 3", "0 3"}, /* unknown neighbours are one; x has no byte piece */
        {"a\xC3\xA9"
         "b",
         "1 0 2", "1 6 7 2"},
        {"\xC3\xA9x", "0", "0"}, /* joined, and not all bytes exist */
        {"<unk>", "0", "0"},
        {"a<unk>x", "1 0", "1 0"}, /* the spelled-out unknown joins its neighbour */
        {"abab", "1 5 2", "1 5 2"},
        {"", "", ""},
    };
    crank_error error = {0};
    tokenizer *without, *with;
    cr_assert(test_open_tokenizer_text(&without, MODEL(PIECES), &error) == CRANK_OK, "%s",
              error.message);
    cr_assert(test_open_tokenizer_text(&with, MODEL("\"byte_fallback\": true, " PIECES), &error) ==
                  CRANK_OK,
              "%s", error.message);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cr_expect(encodes_to(without, rows[i][0], TOK_DEFAULT, rows[i][1]));
        cr_expect(encodes_to(with, rows[i][0], TOK_DEFAULT, rows[i][2]));
    }
    tokenizer_close(without);
    tokenizer_close(with);
}

Test(unigram, a_piece_given_twice_keeps_its_last_place)
{
    tokenizer *tok;
    crank_error error = {0};
    cr_assert(test_open_tokenizer_text(&tok,
                                       MODEL("\"unk_id\": 0, \"vocab\": [[\"<unk>\", 0], [\"a\", "
                                             "-1], [\"b\", -2], [\"a\", -3]]"),
                                       &error) == CRANK_OK,
              "%s", error.message);
    cr_expect(encodes_to(tok, "ab", TOK_DEFAULT, "3 2"));
    tokenizer_close(tok);
}

/* Full-width "</s>" becomes "</s>" in the character map, after added tokens were looked for. */
Test(unigram, specials_as_text_cannot_be_reached_through_the_normaliser)
{
    static const char injected[] = "a \xEF\xBC\x9C/s\xEF\xBC\x9E b", plain[] = "a </s> b";
    tokenizer *tok = test_open_tokenizer("unigram/xlmr");
    int32_t eos = tokenizer_token_id(tok, "</s>", 4);
    tok_scratch *scratch;
    tok_ids ids = {0};
    crank_error error = {0};
    cr_assert(tok_scratch_open(&scratch, &error) == CRANK_OK);
    const char *texts[] = {injected, plain};
    for (int i = 0; i < 2; i++)
        for (unsigned flags = TOK_DEFAULT; flags <= TOK_SPECIALS_AS_TEXT; flags++) {
            ids.n = 0;
            cr_assert(tok_encode(tok, scratch, texts[i], strlen(texts[i]), flags, SIZE_MAX, &ids,
                                 &error) == CRANK_OK);
            bool found = false;
            for (size_t k = 0; k < ids.n; k++) found |= ids.ids[k] == eos;
            cr_expect(found == (flags == TOK_DEFAULT), "text %d, flags %u", i, flags);
        }
    tok_ids_free(&ids);
    tok_scratch_close(scratch);
    tokenizer_close(tok);
}

/* ---- big words -------------------------------------------------------------------------------*/

static void repeated(const char *name, const char *unit, size_t times, size_t n, uint32_t crc)
{
    tokenizer *tok = test_open_tokenizer(name);
    tok_scratch *scratch;
    tok_ids ids = {0};
    crank_error error = {0};
    size_t width = strlen(unit);
    char *text = malloc(width * times);
    for (size_t i = 0; i < times; i++) memcpy(text + i * width, unit, width);
    cr_assert(tok_scratch_open(&scratch, &error) == CRANK_OK);
    cr_assert(tok_encode(tok, scratch, text, width * times, TOK_DEFAULT, SIZE_MAX, &ids, &error) ==
                  CRANK_OK,
              "%s", error.message);
    cr_expect(ids.n == n && (uint32_t)crc32(0, (const uint8_t *)ids.ids,
                                            (unsigned)(ids.n * sizeof *ids.ids)) == crc,
              "%s: \"%s\" %zu times gives %zu ids", name, unit, times, ids.n);
    free(text);
    tok_ids_free(&ids);
    tok_scratch_close(scratch);
    tokenizer_close(tok);
}

Test(unigram, texts_without_a_space, .timeout = 900)
{
    repeated("unigram/bytefallback", "a", 300000, 300000, 0xF01B587Bu);
    repeated("unigram/bytefallback", "\xD0\x96q", 100000, 300001, 0xAC83F366u);
    repeated("unigram/bytefallback", "\xF0\x9F\x98\x80", 50000, 200001, 0x43A5B97Eu);
    repeated("unigram/t5", "a", 300000, 300000, 0x1EEE829Bu);
    repeated("unigram/t5", "\xE4\xB8\x80", 100000, 100001, 0xBA3DFBE7u);
    repeated("unigram/xlmr", "\xC3\xA9\xCC\x81", 100000, 200001, 0xBD99D26Eu);
    repeated("unigram/xlmr", " ", 300000, 0, 0);
    repeated("unigram/deberta", " ", 300000, 0, 0);
}

/* Hugging Face's scores are what serde_json makes of the file's digits, not the nearest doubles; a
 * tie between two cuts turns on that. */
Test(unigram, scores_are_read_as_serde_json_reads_them)
{
    static const struct {
        const char *text;
        double want;
    } rows[] = {
        {"-7.3088860511779785", -0x1.d3c4ca0000001p+2},
        {"-7.3190507888793945", -0x1.d46b540000001p+2},
        {"-11.149036290256861", -0x1.64c4e7c112408p+3},
        {"-12.611870728499087", -0x1.939471ec0910ap+3},
        {"-15.009766001297457", -0x1.e05000ca05edbp+3},
        {"-0.1", -0x1.999999999999ap-4},
        {"-1e-5", -0x1.4f8b588e368f1p-17},
        {"-123456789012345678901234.5", -0x1.a249b1f10a06cp+76},
        {"-18446744073709551616.25", -0x1.0000000000000p+64},
        {"-9.00000000000000000000000000001", -0x1.2000000000000p+3},
        {"-1.5E+3", -0x1.7700000000000p+10},
        {"-2.2250738585072011e-308", -0x1.0000000000000p-1022},
        {"-3e-330", -0x0.0p+0},
        {"-0.30000000000000000000000000000000000000000000000000000004", -0x1.3333333333333p-2},
        {"-1.7976931348623157e307", -0x1.9999999999998p+1020},
        {"-123456789012345678e-20", -0x1.43a272d9e0e51p-10},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char json[128];
        json_t *value;
        crank_error error = {0};
        snprintf(json, sizeof json, "[%s]", rows[i].text);
        cr_assert(tok_json_parse(&value, "test", json, strlen(json), &error) == CRANK_OK, "%s",
                  error.message);
        double got = json_real_value(json_array_get(value, 0));
        cr_expect(got == rows[i].want, "%s is read as %a", rows[i].text, got);
        json_decref(value);
    }
    json_t *value = NULL;
    crank_error error = {0};
    cr_expect(tok_json_parse(&value, "test", "[-1.8e308]", 10, &error) == CRANK_FORMAT);
    json_decref(value);
}

/* ---- trie ------------------------------------------------------------------------------------*/

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Random keys over few and over all bytes, NUL included: each is found, what is not a key is not,
 * and no two states share a base. */
Test(unigram, trie_finds_its_keys_and_no_others)
{
    uint32_t state = 7;
    for (int round = 0; round < 60; round++) {
        unsigned letters = round % 3 == 0 ? 2 : round % 3 == 1 ? 5 : 256;
        size_t wanted = 1 + next_random(&state) % 3000, n = 0;
        uint8_t(*text)[12] = calloc(wanted, sizeof *text);
        unigram_key *keys = calloc(wanted, sizeof *keys);
        for (size_t i = 0; i < wanted; i++) {
            uint32_t bytes = 1 + next_random(&state) % 12;
            for (uint32_t k = 0; k < bytes; k++)
                text[n][k] = (uint8_t)(next_random(&state) % letters);
            bool known = false;
            for (size_t k = 0; k < n && !known; k++)
                known = keys[k].bytes == bytes && memcmp(keys[k].text, text[n], bytes) == 0;
            if (known) continue;
            keys[n] = (unigram_key){text[n], bytes, (uint32_t)n};
            n++;
        }
        unigram_header header = {.n_ids = (uint32_t)n, .longest = 12};
        unigram_unit *units;
        crank_error error = {0};
        cr_assert(unigram_trie_build(keys, n, &units, &header.n_units, &header.root, &error) ==
                      CRANK_OK,
                  "%s", error.message);
        unigram_view view = {&header, NULL, units};
        unigram_hidden nothing = {NULL, NULL};
        for (size_t i = 0; i < n; i++) /* sorted by now */
            cr_assert(unigram_find(&view, keys[i].text, keys[i].bytes, nothing) == keys[i].id);
        for (int i = 0; i < 2000; i++) {
            uint8_t other[12];
            uint32_t bytes = 1 + next_random(&state) % 12, found = UNIGRAM_NONE;
            for (uint32_t k = 0; k < bytes; k++)
                other[k] = (uint8_t)(next_random(&state) % letters);
            for (size_t k = 0; k < n; k++)
                if (keys[k].bytes == bytes && memcmp(keys[k].text, other, bytes) == 0)
                    found = keys[k].id;
            cr_assert(unigram_find(&view, other, bytes, nothing) == found);
        }
        uint8_t *used = calloc(header.n_units, 1);
        for (uint32_t i = 256; i < header.n_units; i++) {
            uint32_t base = units[i].link >> 8;
            cr_assert(base < header.n_units && (base == 0 || used[base]++ == 0));
        }
        free(used);
        mem_free(units);
        free(keys);
        free(text);
    }
}

/* ---- clusters and the character map ----------------------------------------------------------*/

static size_t clusters_as_hugging_face_counts(const uint8_t *text, size_t bytes)
{
    size_t count = 0;
    for (size_t i = 0; i < bytes;) {
        size_t n = grapheme_next(text + i, bytes - i), characters = 0;
        cr_assert(n > 0 && n <= bytes - i);
        for (size_t k = i; k < i + n; k++) characters += (text[k] & 0xC0) != 0x80;
        count += n < 6 ? 1 : characters;
        i += n;
    }
    return count;
}

Test(unigram, clusters_end_where_the_oracle_ends_them)
{
    size_t bytes, rows = 0, different = 0;
    char *file = test_read_file(test_tokenizer_fixture("unigram/clusters.tsv.gz"), &bytes);
    cr_assert(file != NULL);
    for (char *line = strtok(file, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        if (line[0] == '#') continue;
        char *hex = strchr(line, '\t');
        size_t want = strtoul(line, NULL, 10), n = 0;
        uint8_t text[64];
        unsigned byte;
        for (hex++; sscanf(hex, "%2x", &byte) == 1; hex += 2) text[n++] = (uint8_t)byte;
        different += clusters_as_hugging_face_counts(text, n) != want;
        rows++;
    }
    cr_expect(rows == 4000 && different == 0, "%zu of %zu differ", different, rows);
    free(file);
}

/* The 195 ranges that attach themselves to what stands before, for every character of the BMP. */
Test(unigram, marks_attach)
{
    size_t bytes;
    char *file = test_read_file(test_tokenizer_fixture("unigram/attach.tsv.gz"), &bytes);
    uint8_t *attaches = calloc(0x10000, 1);
    cr_assert(file != NULL && attaches != NULL);
    for (char *line = strtok(file, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        unsigned first, last;
        if (sscanf(line, "%x %x", &first, &last) == 2)
            memset(attaches + first, 1, last - first + 1);
    }
    for (uint32_t c = 1; c < 0x10000; c++) {
        if (c >= 0xD800 && c < 0xE000) continue;
        uint8_t text[5] = {'A'};
        size_t n = 1 + (size_t)utf8_encode(c, text + 1);
        cr_assert((grapheme_next(text, n) == n) == (attaches[c] != 0), "U+%04X", c);
    }
    free(attaches);
    free(file);
}

/* A builder whose open section is the place of a payload. */
static void begin_payload(image_builder *b)
{
    crank_error error = {0};
    memset(b, 0, sizeof *b);
    cr_assert(image_builder_open(b, &error) == CRANK_OK);
    cr_assert(image_open_section(b, TOK_SECTION_NORMALIZER, &error) == CRANK_OK);
}

static tok_section payload_of(image_builder *b)
{
    tok_section payload = {image_at(b, 0), image_put(b, NULL, 0)};
    return payload;
}

static void applies(tok_section payload, const char *text, const char *want)
{
    tok_text in = {.limit = SIZE_MAX}, out = {.limit = SIZE_MAX};
    tok_span none = {0, 0};
    tok_text_push(&in, text, strlen(text), none);
    tok_normalizer_charsmap.apply(payload, &in, &out);
    cr_expect(out.n == strlen(want) && (out.n == 0 || memcmp(out.bytes, want, out.n) == 0),
              "\"%s\" becomes \"%.*s\", not \"%s\"", text, (int)out.n, (const char *)out.bytes,
              want);
    tok_text_free(&in);
    tok_text_free(&out);
}

/* The payload of the full NFKC map of unigram/xlmr. */
static tok_section nfkc_map(image_builder *b)
{
    size_t bytes;
    char *text = test_read_file(test_tokenizer_fixture("unigram/xlmr.json.gz"), &bytes);
    json_error_t reason;
    json_t *root = json_loadb(text, bytes, 0, &reason);
    crank_error error = {0};
    begin_payload(b);
    cr_assert(tok_normalizer_charsmap.compile(json_object_get(root, "normalizer"), b, &error) ==
                  CRANK_OK,
              "%s", error.message);
    tok_section map = payload_of(b);
    cr_assert(tok_normalizer_charsmap.check(map, &error) == CRANK_OK, "%s", error.message);
    json_decref(root);
    free(text);
    return map;
}

Test(unigram, character_map_works_on_clusters)
{
    image_builder b;
    tok_section map = nfkc_map(&b);
    applies(map, "plain text stays", "plain text stays");
    applies(map, "a\r\nb\rc\nd\te", "a b c d e");
    applies(map, "A\xCC\x8A", "\xC3\x85");     /* composed */
    applies(map, "\xEF\xBC\xA1\xCC\x81", "A"); /* full width: the accent is lost */
    applies(map, "\xC3\xA0\xCC\x80\xCC\x81", "\xC3\xA0\xCC\x80\xCC\x81"); /* 6 bytes: one by one */
    applies(map, "\xEF\xAC\x81\xCC\x81", "fi");
    applies(map, "\xEF\xBD\xB6\xEF\xBE\x9E", "\xE3\x82\xAB\xE3\x82\x99"); /* not composed */
    applies(map, "\xE0\xB8\xB3", "\xE0\xB9\x8D\xE0\xB8\xB2");
    applies(map,
            "a\xE2\x80\x8B"
            "b\xEF\xBB\xBF",
            "a b ");
    applies(map, "\xC2\xAD", "\xC2\xAD");
    applies(map, "\x01", ""); /* removed */
    image_builder_close(&b);
}

/* Which byte of the input each byte of the output stands for: the truth, but after characters that
 * are removed at the beginning, or behind an inserted one. */
Test(unigram, character_map_keeps_places_as_hugging_face_does)
{
    static const struct {
        const char *text, *want;
        uint32_t starts[8];
    } rows[] = {
        {"x\xE2\x84\xA2y", "xTMy", {0, 1, 1, 4}},
        {"e\xCC\x81\x01"
         "f",
         "\xC3\xA9"
         "f",
         {0, 0, 4}},
        {"\x7F"
         "ab",
         "ab",
         {0, 1}},
        {"a\x7F"
         "b",
         "ab",
         {0, 2}},
        {"\x7F\x7F"
         "a\x01\xE2\x84\xA2\x01"
         "b\r\nc\x01",
         "aTMb c",
         {0, 2, 3, 4, 7, 9}},
    };
    image_builder b;
    tok_section map = nfkc_map(&b);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tok_text in = {.limit = SIZE_MAX, .want_spans = true};
        tok_text out = {.limit = SIZE_MAX, .want_spans = true};
        const char *text = rows[i].text;
        for (uint32_t at = 0; text[at] != 0;) {
            uint32_t c;
            uint32_t width =
                (uint32_t)utf8_decode((const uint8_t *)text + at, strlen(text + at), &c);
            tok_span span = {at, at + width};
            tok_text_push(&in, text + at, width, span);
            at += width;
        }
        tok_normalizer_charsmap.apply(map, &in, &out);
        cr_assert(out.n == strlen(rows[i].want) && memcmp(out.bytes, rows[i].want, out.n) == 0);
        for (size_t k = 0; k < out.n; k++)
            cr_expect(out.spans[k].start == rows[i].starts[k], "row %zu: byte %zu stands at %u", i,
                      k, out.spans[k].start);
        tok_text_free(&in);
        tok_text_free(&out);
    }
    image_builder_close(&b);
}

static void refuses_map(const char *what, const uint32_t *units, uint32_t n_units, uint32_t bytes,
                        const char *blob, size_t blob_bytes, const char *want)
{
    uint8_t map[512];
    image_builder b;
    crank_error error = {0};
    begin_payload(&b);
    memcpy(map, &bytes, 4);
    memcpy(map + 4, units, n_units * 4);
    memcpy(map + 4 + n_units * 4, blob, blob_bytes);
    crank_status status = charsmap_put(&b, map, 4 + n_units * 4 + blob_bytes, "map", &error);
    if (want == NULL)
        cr_expect(status == CRANK_OK, "%s: %s", what, error.message);
    else
        cr_expect(status == CRANK_FORMAT && strstr(error.message, want) != NULL, "%s: %s", what,
                  error.message);
    image_builder_close(&b);
}

Test(unigram, hostile_character_maps_are_refused)
{
    enum { LEAF = 0x100 };
    uint32_t good[128] = {[0] = 0};
    /* 'A' (unit 0x41 from root 0) has its value in unit 0x41 ^ 1. */
    good['A'] = 1u << 10 | LEAF | 'A';
    good['A' ^ 1] = 0x80000000u;
    refuses_map("good", good, 100, 400, "x", 2, NULL);
    refuses_map("no blob", good, 100, 400, "", 0, "a trie of");
    refuses_map("odd trie", good, 100, 401, "x", 2, "a trie of");
    refuses_map("long trie", good, 100, 4000, "x", 2, "a trie of");
    refuses_map("no NUL", good, 100, 400, "xy", 2, "do not end in NUL");
    refuses_map("not UTF-8", good, 100, 400, "\xFF", 2, "not UTF-8");
    good['A' ^ 1] = 0x80000002u;
    refuses_map("value", good, 100, 400, "x", 2, "replacement 2 of 2");
    good['A' ^ 1] = 0x80000000u;
    good['A'] = 500u << 10 | LEAF | 'A';
    refuses_map("leads out", good, 100, 400, "x", 2, "of 100");
    good['A'] = 0u << 10 | 'A'; /* to itself: every byte from there comes back */
    refuses_map("loop", good, 100, 400, "x", 2, NULL);
    good[0] = 200u << 10;
    refuses_map("root", good, 100, 400, "x", 2, "the root");
}

/* ---- hostile files ---------------------------------------------------------------------------*/

Test(unigram, hostile_files_are_refused_by_name)
{
    static const struct {
        const char *json;
        crank_status status;
        const char *want;
    } rows[] = {
        {MODEL("\"unk_id\": 0"), CRANK_FORMAT, "vocab"},
        {MODEL("\"unk_id\": 0, \"vocab\": {}"), CRANK_FORMAT, "vocab"},
        {MODEL("\"unk_id\": 0, \"vocab\": []"), CRANK_FORMAT, "empty"},
        {MODEL("\"unk_id\": 0, \"vocab\": [[\"a\", 0], 5]"), CRANK_FORMAT, "vocab[1]"},
        {MODEL("\"unk_id\": 0, \"vocab\": [[\"a\", 0, 1]]"), CRANK_FORMAT, "vocab[0]"},
        {MODEL("\"unk_id\": 0, \"vocab\": [[\"a\", \"0\"]]"), CRANK_FORMAT, "vocab[0]"},
        {MODEL("\"unk_id\": 0, \"vocab\": [[7, 0]]"), CRANK_FORMAT, "vocab[0]"},
        {MODEL("\"unk_id\": 0, \"vocab\": [[\"a\", NaN]]"), CRANK_FORMAT, "tokenizer.json"},
        {MODEL("\"unk_id\": 0, \"vocab\": [[\"a\", 1e999]]"), CRANK_FORMAT, "tokenizer.json"},
        {MODEL("\"unk_id\": 0, \"vocab\": [[\"a\", -1.7976931348623157e307]]"), CRANK_OK, ""},
        {MODEL("\"unk_id\": 1, \"vocab\": [[\"a\", 0]]"), CRANK_FORMAT, "unk_id"},
        {MODEL("\"unk_id\": -7, \"vocab\": [[\"a\", 0]]"), CRANK_FORMAT, "unk_id"},
        {MODEL("\"unk_id\": null, \"vocab\": [[\"a\", 0]]"), CRANK_UNSUPPORTED, "unk_id"},
        {MODEL("\"unk_id\": 0, \"byte_fallback\": 1, \"vocab\": [[\"a\", 0]]"), CRANK_FORMAT,
         "byte_fallback"},
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

Test(unigram, hostile_normalisers_are_refused_by_name)
{
#define NORMALIZED(normalizer)                                                                     \
    "{\"normalizer\": " normalizer ", \"model\": {\"type\": \"Unigram\", \"unk_id\": 0, "          \
    "\"vocab\": [[\"a\", 0]]}}"
    static const struct {
        const char *json;
        crank_status status;
        const char *want;
    } rows[] = {
        {NORMALIZED("{\"type\": \"Precompiled\"}"), CRANK_FORMAT, "precompiled_charsmap"},
        {NORMALIZED("{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"\"}"), CRANK_FORMAT,
         "base64"},
        {NORMALIZED("{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"AAA\"}"), CRANK_FORMAT,
         "base64"},
        {NORMALIZED("{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"AA*A\"}"),
         CRANK_FORMAT, "character 2"},
        {NORMALIZED("{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"AAAA\"}"),
         CRANK_FORMAT, "no character map"},
        {NORMALIZED("{\"type\": \"Precompiled\", \"precompiled_charsmap\": 5}"), CRANK_FORMAT,
         "precompiled_charsmap"},
        {NORMALIZED("{\"type\": \"Replace\", \"content\": \"x\"}"), CRANK_FORMAT, "pattern"},
        {NORMALIZED("{\"type\": \"Replace\", \"pattern\": {\"Regex\": \"a\"}}"), CRANK_FORMAT,
         "content"},
        {NORMALIZED("{\"type\": \"Replace\", \"content\": \"\", \"pattern\": {\"Regex\": \"\"}}"),
         CRANK_FORMAT, "empty"},
        {NORMALIZED("{\"type\": \"Replace\", \"content\": \"\", \"pattern\": {\"Regex\": \"a*\"}}"),
         CRANK_UNSUPPORTED, "matches the empty text"},
        {NORMALIZED("{\"type\": \"Replace\", \"content\": \"\", \"pattern\": {\"Regex\": \"(a\"}}"),
         CRANK_FORMAT, "not closed"},
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

Test(unigram, damaged_images_open_or_do_not_but_never_misbehave, .timeout = 900)
{
    static const char *const names[] = {"unigram/t5", "unigram/deberta", "unigram/bytefallback"};
    for (size_t i = 0; i < 3; i++) {
        tokenizer *tok = test_open_tokenizer(names[i]);
        size_t opened = test_damaged_images(tok, 1 + (unsigned)i, 400);
        cr_expect(opened > 10 && opened < 400, "%zu of 400 damaged images opened", opened);
        tokenizer_close(tok);
    }
}

Test(unigram, every_allocation_may_fail)
{
    static const char json[] =
        "{\"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"Regex\": \" {2,}\"}, "
        "\"content\": \" \"}, \"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": "
        "\"\xE2\x96\x81\", \"prepend_scheme\": \"always\"}, " /* as MODEL, with steps */
        "\"model\": {\"type\": \"Unigram\", " PIECES "}}";
    char *folder = test_make_folder(), path[4096];
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
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
                tok_encode(tok, scratch, "ab  xyz ba", 10, TOK_DEFAULT, SIZE_MAX, &ids, &error);
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
