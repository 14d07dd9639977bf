/* The Unicode tables and the steps over them, for every code point. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "support/tokenizer_files.h"
#include "tokenizer/normalize.h"
#include "tokenizer/pretokenize.h"
#include "tokenizer/scratch.h"
#include "tokenizer/unicode.h"
#include "utf8.h"

static bool is_surrogate(uint32_t c)
{
    return c >= 0xD800 && c < 0xE000;
}

/* "0061 0301" -> UTF-8; returns the bytes written. */
static size_t spell(const char *hexes, const char *end, uint8_t *out)
{
    size_t n = 0;
    while (hexes < end) {
        char *after;
        uint32_t c = (uint32_t)strtoul(hexes, &after, 16);
        if (after == hexes) break;
        n += (size_t)utf8_encode(c, out + n);
        hexes = after;
    }
    return n;
}

typedef struct front {
    tok_text in, out;
    tok_words words, split;
} front;

/* "a<c>a" through BertNormalizer (all flags) and BertPreTokenizer; the words joined by NUL. */
static size_t uncased_words(front *f, uint32_t c, uint8_t *out)
{
    static const uint32_t all[2] = {15, 0};
    tok_section payload = {(const uint8_t *)all, 4}, none = {NULL, 0};
    uint8_t text[8] = "a";
    size_t n = 1 + (size_t)utf8_encode(c, text + 1);
    text[n++] = 'a';
    tok_text_begin(&f->in, false, 4096);
    tok_text_begin(&f->out, false, 4096);
    tok_text_push(&f->in, text, n, (tok_span){0, 0});
    tok_normalizer_bert.apply(payload, &f->in, &f->out);
    tok_words_begin(&f->words, false, 4096);
    tok_words_begin(&f->split, false, 4096);
    tok_text_copy(&f->words.text, &f->out, 0, f->out.n);
    tok_words_push(&f->words, 0);
    tok_pretokenizer_bert.apply(none, &f->words, &f->split);
    n = 0;
    for (size_t i = 0; i < f->split.n; i++) {
        const tok_word *w = &f->split.words[i];
        memcpy(out + n, f->split.text.bytes + w->start, w->end - w->start);
        n += w->end - w->start;
        out[n++] = 0;
    }
    return n;
}

static size_t expected_words(const char *class, const char *output, uint32_t c, uint8_t *out)
{
    size_t n = 0;
    out[n++] = 'a';
    if (strcmp(class, "space") == 0) out[n++] = 0;
    if (strcmp(class, "split") == 0) out[n++] = 0;
    if (strcmp(output, "=") == 0)
        n += (size_t)utf8_encode(c, out + n);
    else if (strcmp(output, "hangul") == 0) {
        uint32_t s = c - 0xAC00;
        n += (size_t)utf8_encode(0x1100 + s / 588, out + n);
        n += (size_t)utf8_encode(0x1161 + s % 588 / 28, out + n);
        if (s % 28 != 0) n += (size_t)utf8_encode(0x11A7 + s % 28, out + n);
    } else {
        for (const char *part = output; *part != 0;) {
            const char *end = strchr(part, '|');
            if (end == NULL) end = part + strlen(part);
            n += spell(part, end, out + n);
            if (*end == '|') out[n++] = 0;
            part = *end == '|' ? end + 1 : end;
        }
    }
    if (strcmp(class, "split") == 0) out[n++] = 0;
    out[n++] = 'a';
    out[n++] = 0;
    return n;
}

Test(tokenizer_unicode, uncased_front_end_on_every_code_point)
{
    size_t bytes, points = 0, different = 0;
    char *file = test_read_file(test_tokenizer_fixture("wordpiece/uncased.tsv.gz"), &bytes);
    cr_assert(file != NULL);
    front f = {0};
    for (char *line = strtok(file, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        if (line[0] == '#') continue;
        char *tab1 = strchr(line, '\t'), *tab2 = strchr(tab1 + 1, '\t'),
             *tab3 = strchr(tab2 + 1, '\t');
        *tab3 = 0;
        uint32_t first = (uint32_t)strtoul(line, NULL, 16),
                 last = (uint32_t)strtoul(tab1, NULL, 16);
        for (uint32_t c = first; c <= last; c++) {
            if (is_surrogate(c)) continue;
            uint8_t got[256], want[256];
            size_t n = uncased_words(&f, c, got), m = expected_words(tab2 + 1, tab3 + 1, c, want);
            points++;
            if (n == m && memcmp(got, want, n) == 0) continue;
            if (different++ < 5) fprintf(stderr, "U+%04X differs (%s)\n", c, tab2 + 1);
        }
    }
    cr_assert(different == 0, "%zu of %zu code points differ", different, points);
    cr_assert(points == 1112064, "%zu code points", points);
    tok_text_free(&f.in);
    tok_text_free(&f.out);
    tok_text_free(&f.words.text);
    tok_text_free(&f.split.text);
    mem_free(f.words.words);
    mem_free(f.split.words);
    free(file);
}

/* The generated file is what the committed generator makes of the committed data. */
Test(tokenizer_unicode, tables_are_up_to_date)
{
    char command[8192], *folder = test_make_folder();
    if (system("python3 -c pass >/dev/null 2>&1") != 0) {
        fprintf(stderr, "SKIPPED: no python3\n");
        cr_skip("no python3");
    }
    snprintf(command, sizeof command,
             "python3 '%s/tokenizer/make_unicode_tables.py' '%s' '%s/tables.c' 2>/dev/null && "
             "cmp '%s/tables.c' '%s/tokenizer/unicode_tables.c'",
             CRANK_SOURCE_DIR, test_tokenizer_fixture("unicode.tsv.gz"), folder, folder,
             CRANK_SOURCE_DIR);
    cr_assert(system(command) == 0, "run tokenizer/make_unicode_tables.py");
    test_remove_folder(folder);
}

/* What BertNormalizer relies on when it lowers before it sorts, and NFC when it composes in place.
 */
Test(tokenizer_unicode, assumptions_of_the_steps_hold)
{
    for (uint32_t c = 0; c < 0x110000; c++) {
        const uni_record *r = uni_lookup(c);
        cr_assert(r->ccc == 0 || (r->flags & UNI_LOWER) == 0, "U+%04X has a class and a lowercase",
                  c);
        uint32_t parts[UNI_MAX_DECOMPOSITION];
        int n = uni_nfkd(c, parts);
        cr_assert(n >= 1 && n <= UNI_MAX_DECOMPOSITION);
        n = uni_nfd(c, parts);
        cr_assert((n == 1 && parts[0] == c) == ((r->flags & UNI_NFD) == 0), "U+%04X", c);
        if (n < 2 || is_surrogate(c)) continue;
        uint32_t whole = parts[0];
        for (int i = 1; i < n && whole != 0; i++) whole = uni_compose(whole, parts[i]);
        uint8_t utf8[4];
        if (whole == c) {
            int sum = 0;
            for (int i = 0; i < n; i++) sum += utf8_encode(parts[i], utf8);
            cr_assert(utf8_encode(c, utf8) <= sum, "U+%04X is longer than its parts", c);
        }
    }
}
