/* Normaliser and pre-tokeniser steps: each is one row in a table, and a tokenizer is a list of
 * them.
 *
 * A step is compiled from its JSON object into a payload (bytes of section NORMALIZER or
 * PRETOKENIZER that belong to it alone, 8-byte aligned), checked once when an image is opened, and
 * applied to one piece of text at a time: the part between two added tokens. "Sequence" is
 * flattened while compiling; a step's row never calls another.
 *
 * Section layout: u32 count, u32 0, then per step {u32 kind, u32 payload bytes} and the payload,
 * padded to 8 bytes. `kind` is the row's number, stored in files and never reused. */
#ifndef CRANK_TOKENIZER_STEPS_H
#define CRANK_TOKENIZER_STEPS_H

#include <jansson.h>
#include <string.h>

#include "tokenizer/image.h"
#include "utf8.h"

/* Bytes [start, end) of the caller's text. */
typedef struct tok_span {
    uint32_t start, end;
} tok_span;

/* A text on its way through the steps: valid UTF-8, NUL allowed. When offsets are wanted, spans[i]
 * says which bytes of the original text byte i stands for (all bytes of a character agree).
 * Running out of memory, or past `limit` bytes, is sticky: pushes become no-ops and the caller of
 * the step sees it in `failed`. Steps only push to out and read in; in and out never overlap. */
typedef struct tok_text {
    uint8_t *bytes;
    size_t n, capacity;
    size_t limit;    /* pushing beyond it fails with LIMIT: a step must not blow up a text */
    tok_span *spans; /* [capacity], or NULL: no offsets wanted */
    bool want_spans;
    crank_status failed; /* CRANK_OK, CRANK_OUT_OF_MEMORY or CRANK_LIMIT */
} tok_text;

/* Makes room for `more` bytes; false: failed is set. */
bool tok_text_reserve(tok_text *t, size_t more);
void tok_text_free(tok_text *t);
void tok_text_clear(tok_text *t);

/* Appends bytes that stand for `span` of the original. */
static inline void tok_text_push(tok_text *t, const void *bytes, size_t n, tok_span span)
{
    if (n == 0 || (t->capacity - t->n < n && !tok_text_reserve(t, n))) return;
    memcpy(t->bytes + t->n, bytes, n);
    if (t->want_spans)
        for (size_t i = 0; i < n; i++) t->spans[t->n + i] = span;
    t->n += n;
}

static inline void tok_text_push_char(tok_text *t, uint32_t code_point, tok_span span)
{
    uint8_t utf8[4];
    tok_text_push(t, utf8, (size_t)utf8_encode(code_point, utf8), span);
}

/* The original bytes behind in[start, end), start < end; zeros when offsets are not wanted. */
static inline tok_span tok_text_span(const tok_text *in, size_t start, size_t end)
{
    tok_span none = {0, 0};
    if (!in->want_spans) return none;
    tok_span span = {in->spans[start].start, in->spans[end - 1].end};
    return span;
}

/* Copies in[start, end) as it is. */
static inline void tok_text_copy(tok_text *out, const tok_text *in, size_t start, size_t end)
{
    size_t n = end - start;
    if (out->capacity - out->n < n && !tok_text_reserve(out, n)) return;
    if (n > 0) memcpy(out->bytes + out->n, in->bytes + start, n);
    if (out->want_spans && n > 0)
        memcpy(out->spans + out->n, in->spans + start, n * sizeof(tok_span));
    out->n += n;
}

/* One normaliser step, e.g.
 *     const tok_normalizer tok_normalizer_charsmap = {"Precompiled", 9, charsmap_compile,
 *                                                     charsmap_check, charsmap_apply}; */
typedef struct tok_normalizer {
    const char *type; /* tokenizer.json's "type" */
    uint32_t kind;
    /* Appends the payload with image_put. Fails: FORMAT, UNSUPPORTED, OUT_OF_MEMORY. */
    crank_status (*compile)(const json_t *step, image_builder *b, crank_error *error);
    /* Verifies a payload against hostile bytes, in linear time. NULL: the payload must be empty. */
    crank_status (*check)(tok_section payload, crank_error *error);
    /* Appends the normalised form of all of `in` to out (empty on entry). Linear time. */
    void (*apply)(tok_section payload, const tok_text *in, tok_text *out);
} tok_normalizer;

/* The words of a piece: ranges of one text, in order, none empty. */
typedef struct tok_word {
    size_t start, end;
} tok_word;

typedef struct tok_words {
    tok_text text;
    tok_word *words;
    size_t n, capacity;
} tok_words;

/* Appends the word that ends at the text's present end and began at `start`; nothing if empty. */
void tok_words_push(tok_words *w, size_t start);

/* One pre-tokeniser step: each word of `in` becomes any number of words of `out`. */
typedef struct tok_pretokenizer {
    const char *type;
    uint32_t kind;
    crank_status (*compile)(const json_t *step, image_builder *b, crank_error *error);
    crank_status (*check)(tok_section payload, crank_error *error);
    void (*apply)(tok_section payload, const tok_words *in, tok_words *out);
} tok_pretokenizer;

/* The tables; NULL: no such step. */
const tok_normalizer *tok_normalizer_find(const char *type);
const tok_normalizer *tok_normalizer_kind(uint32_t kind);
const tok_pretokenizer *tok_pretokenizer_find(const char *type);
const tok_pretokenizer *tok_pretokenizer_kind(uint32_t kind);

/* Steps that live in files of their own. */
extern const tok_normalizer tok_normalizer_charsmap; /* "Precompiled": charsmap.c, kind 9 */

#endif
