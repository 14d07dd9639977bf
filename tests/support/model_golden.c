#include "support/model_golden.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/tokenizer_files.h"

crank_status test_open_tokenizer_text(tokenizer **out, const char *json, crank_error *error)
{
    char *folder = test_make_folder(), path[4096];
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    test_write_file(path, json, strlen(json));
    crank_status status = tokenizer_open(out, folder, error);
    test_remove_folder(folder);
    return status;
}

tokenizer *test_open_tokenizer(const char *name)
{
    char file[256];
    size_t bytes;
    snprintf(file, sizeof file, "%s.json.gz", name);
    char *text = test_read_file(test_tokenizer_fixture(file), &bytes);
    tokenizer *tok = NULL;
    crank_error error = {0};
    if (text == NULL || test_open_tokenizer_text(&tok, text, &error) != CRANK_OK) {
        fprintf(stderr, "%s: %s\n", file, text == NULL ? "missing" : error.message);
        abort();
    }
    free(text);
    return tok;
}

typedef struct context {
    const tokenizer *tok;
    tok_scratch *scratch;
    tok_ids ids[2], offsets;
    int32_t *full, *types;
    size_t capacity;
    model_golden result;
} context;

static void differs(context *c, size_t number, const char *what)
{
    if (c->result.different++ == 0)
        snprintf(c->result.first, sizeof c->result.first, "row %zu: %.400s", number, what);
}

static void room(context *c, size_t n)
{
    if (n <= c->capacity) return;
    c->capacity = 2 * n;
    c->full = realloc(c->full, c->capacity * sizeof *c->full);
    c->types = realloc(c->types, c->capacity * sizeof *c->types);
    if (c->full == NULL || c->types == NULL) abort();
}

static bool equal(const json_t *want, const int32_t *got, size_t n)
{
    bool same = json_array_size(want) == n;
    for (size_t i = 0; same && i < n; i++)
        same = json_integer_value(json_array_get(want, i)) == got[i];
    return same;
}

static void text_row(const json_t *row, size_t number, void *context_pointer)
{
    context *c = context_pointer;
    crank_error error = {0};
    size_t bytes;
    char *text = test_row_text(row, "text", &bytes);
    for (int with_offsets = 0; with_offsets < 2; with_offsets++) {
        tok_ids *ids = &c->ids[0];
        ids->n = c->offsets.n = 0;
        crank_status status =
            with_offsets == 0
                ? tok_encode(c->tok, c->scratch, text, bytes, TOK_DEFAULT, SIZE_MAX, ids, &error)
                : tok_encode_offsets(c->tok, c->scratch, text, bytes, TOK_DEFAULT, ids, &c->offsets,
                                     &error);
        c->result.texts++;
        if (status != CRANK_OK) {
            differs(c, number, error.message);
            continue;
        }
        room(c, ids->n + 8);
        size_t n = tok_pair_fill(c->tok, ids->ids, ids->n, NULL, 0, c->full, c->types);
        if (!equal(json_object_get(row, "ids"), c->full, n))
            differs(c, number, json_string_value(json_object_get(row, "kind")));
        if (with_offsets == 0) continue;
        bool sane = c->offsets.n == 2 * ids->n;
        for (size_t i = 0; sane && i < c->offsets.n; i += 2)
            sane = c->offsets.ids[i] >= 0 && c->offsets.ids[i] <= c->offsets.ids[i + 1] &&
                   (size_t)c->offsets.ids[i + 1] <= bytes;
        if (!sane) differs(c, number, "offsets outside the text");
    }
    free(text);
}

static void pair_row(const json_t *row, size_t number, void *context_pointer)
{
    context *c = context_pointer;
    crank_error error = {0};
    for (int side = 0; side < 2; side++) {
        size_t bytes;
        char *text = test_row_text(row, side == 0 ? "query" : "doc", &bytes);
        c->ids[side].n = 0;
        if (tok_encode(c->tok, c->scratch, text, bytes, TOK_DEFAULT, SIZE_MAX, &c->ids[side],
                       &error) != CRANK_OK)
            differs(c, number, error.message);
        free(text);
    }
    const json_t *cases = json_object_get(row, "cases");
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *one = json_array_get(cases, i);
        const char *strategy = json_string_value(json_object_get(one, "strategy"));
        size_t keep1, keep2;
        crank_status status = tok_pair_lengths(
            c->tok, c->ids[0].n, c->ids[1].n,
            (size_t)json_integer_value(json_object_get(one, "max_length")),
            strcmp(strategy, "only_second") == 0 ? TOK_ONLY_SECOND : TOK_LONGEST_FIRST, &keep1,
            &keep2, &error);
        c->result.pairs++;
        if (json_object_get(one, "error") != NULL) {
            if (status != CRANK_INVALID_ARGUMENT) differs(c, number, "an error is expected");
            continue;
        }
        if (status != CRANK_OK) {
            differs(c, number, error.message);
            continue;
        }
        static const int32_t none; /* an empty side still is a side */
        room(c, keep1 + keep2 + 8);
        size_t n = tok_pair_fill(c->tok, keep1 > 0 ? c->ids[0].ids : &none, keep1,
                                 keep2 > 0 ? c->ids[1].ids : &none, keep2, c->full, c->types);
        if (!equal(json_object_get(one, "ids"), c->full, n) ||
            !equal(json_object_get(one, "type_ids"), c->types, n))
            differs(c, number, strategy);
    }
}

static void close_context(context *c)
{
    tok_ids_free(&c->ids[0]);
    tok_ids_free(&c->ids[1]);
    tok_ids_free(&c->offsets);
    free(c->full);
    free(c->types);
    tok_scratch_close(c->scratch);
}

model_golden test_model_golden(const tokenizer *tok, const char *name)
{
    context c = {.tok = tok};
    char file[256];
    crank_error error = {0};
    if (tok_scratch_open(&c.scratch, &error) != CRANK_OK) abort();
    snprintf(file, sizeof file, "%s.texts.jsonl.gz", name);
    test_each_row(file, text_row, &c);
    snprintf(file, sizeof file, "%s.pairs.jsonl.gz", name);
    test_each_row(file, pair_row, &c);
    close_context(&c);
    return c.result;
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

size_t test_damaged_images(const tokenizer *tok, unsigned seed, int rounds)
{
    static const char *const texts[] = {
        "The ferry leaves at seven, but the last bus doesn't wait  for it.\n",
        "\xC3\x9C"
        "ber den Fl\xC3\xBCssen e\xCC\x81 \xE4\xBB\x8A\xE5\xA4\xA9 \xF0\x9F\x91\x8D\xE2\x80\x8D"
        "\xF0\x9F\x92\xBB <mask> [MASK] </s>",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "a",
    };
    size_t bytes, opened = 0;
    const void *image = tokenizer_image(tok, &bytes);
    uint8_t *damaged = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (damaged == NULL) abort();
    uint32_t state = seed;
    for (int round = 0; round < rounds; round++) {
        memcpy(damaged, image, bytes);
        size_t n = bytes;
        int flips = 1 + (int)(next_random(&state) % 8);
        for (int i = 0; i < flips; i++) {
            /* Half of the damage where the small, important numbers are. */
            size_t at = ((size_t)next_random(&state) << 16 ^ next_random(&state)) %
                        (next_random(&state) % 2 == 0 ? bytes
                         : bytes < 4096               ? bytes
                                                      : 4096);
            uint8_t values[] = {0, 0xFF, (uint8_t)next_random(&state), (uint8_t)(damaged[at] + 1)};
            damaged[at] = values[next_random(&state) % 4];
        }
        if (next_random(&state) % 16 == 0) n = next_random(&state) % bytes;
        tokenizer *broken;
        crank_error error = {0};
        if (tokenizer_from_image(&broken, damaged, n, &error) != CRANK_OK) continue;
        opened++;
        context c = {.tok = broken};
        if (tok_scratch_open(&c.scratch, &error) != CRANK_OK) abort();
        for (size_t i = 0; i < 2 * (sizeof texts / sizeof *texts); i++) {
            /* Whatever comes back is fine, as long as it comes back. */
            c.ids[0].n = c.offsets.n = 0;
            const char *text = texts[i / 2];
            if (i % 2 == 0)
                tok_encode(broken, c.scratch, text, strlen(text), TOK_SPECIALS_AS_TEXT, SIZE_MAX,
                           &c.ids[0], &error);
            else
                tok_encode_offsets(broken, c.scratch, text, strlen(text), TOK_DEFAULT, &c.ids[0],
                                   &c.offsets, &error);
        }
        close_context(&c);
        tokenizer_close(broken);
    }
    free(damaged);
    return opened;
}
