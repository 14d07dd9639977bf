/* Added tokens: texts that are found before the model sees anything, leftmost and longest first.
 * Section ADDED holds two sets: those looked for in the raw text (normalized: false, the special
 * tokens) and those looked for in the normalised text.
 *
 * Layout: two added_set headers, then per set its entries sorted by their bytes, then the text. A
 * search skips to a byte that can begin a token, then narrows the sorted range byte by byte; the
 * deepest range whose first entry is as long as the prefix read is the longest match. */
#ifndef CRANK_TOKENIZER_ADDED_H
#define CRANK_TOKENIZER_ADDED_H

#include <jansson.h>

#include "tokenizer/image.h"

enum {
    ADDED_SPECIAL = 1,
    ADDED_LSTRIP = 2,
    ADDED_RSTRIP = 4,
    ADDED_SINGLE_WORD = 8,
    ADDED_MAX_BYTES = 1024,
};

typedef struct added_entry {
    uint32_t at, bytes; /* in the set's text */
    int32_t id;
    uint32_t flags;
} added_entry;

/* One set, with pointers into a checked section. */
typedef struct added_set {
    const added_entry *entries;
    uint32_t n;
    const uint8_t *text;
    uint8_t can_begin[256]; /* 1: a token begins with this byte */
    int only_byte;          /* the one byte that any of them begins with, or -1 */
} added_set;

typedef struct added_tokens {
    added_set raw, normalized;
} added_tokens;

/* A match: bytes [start, end) of the text, strips included. from: where the search goes on. */
typedef struct added_match {
    size_t start, end, from;
    int32_t id;
} added_match;

/* The next match that begins at or after `from` and before `until`. taken: bytes before it belong
 * to the match before, lstrip must not reach into them. specials_as_text: special tokens are passed
 * over. Work: linear, times the length of the longest token at most. */
bool added_find(const added_set *set, const uint8_t *text, size_t bytes, size_t from, size_t until,
                size_t taken, bool specials_as_text, added_match *out);

/* One token while compiling. */
typedef struct added_source {
    const char *text; /* as it is searched: normalised already when `normalized` */
    size_t bytes;
    int32_t id;
    uint32_t flags;
    bool normalized;
} added_source;

/* Writes section ADDED; reorders `tokens`. */
crank_status added_write(added_source *tokens, size_t n, image_builder *b, crank_error *error);
/* Checks section ADDED (ids below n_ids) and fills the views. */
crank_status added_check(const tok_image *image, int32_t n_ids, added_tokens *out,
                         crank_error *error);

#endif
