/* The Unigram model: section MODEL of the image and the best cut of one word. unigram_compile.c
 * writes the section, unigram_trie.c builds its trie, unigram.c checks it and encodes.
 *
 * Section: unigram_header; scores[n_ids] (double); units[n_units], a double array.
 *
 * The trie: a state is a base; byte c leads to unit base ^ c, which is a child if it carries the
 * label c, and then holds the child's own base and, if a piece ends there, that piece. Bases of
 * different states differ, so that a label is proof enough. Base 0 is the state without children:
 * in units 0..255 no label fits.
 *
 * Invariants (unigram_check): n_units is a multiple of 256 and every base is below it, so base ^ c
 * stays inside; every piece is an id below n_ids; scores are finite. Nothing else is needed to walk
 * safely: a walk eats one byte a step and at most `longest` bytes. */
#ifndef CRANK_TOKENIZER_UNIGRAM_H
#define CRANK_TOKENIZER_UNIGRAM_H

#include "tokenizer/image.h"

#define UNIGRAM_NONE UINT32_MAX
#define UNIGRAM_MAX_UNITS (1u << 24) /* a base has 24 bits */

typedef struct unigram_unit {
    uint32_t link;  /* base << 8 | label */
    uint32_t piece; /* 0: no piece ends here; else (id + 1) with the flags below */
} unigram_unit;

enum {
    /* As a word of its own the piece is its own best cut: found out while compiling. */
    UNIGRAM_WHOLE = 1u << 31,
    UNIGRAM_ID = (1u << 25) - 1,
};

typedef struct unigram_header {
    uint32_t n_units, n_ids;
    uint32_t root;    /* base of the root */
    uint32_t longest; /* bytes of the longest piece */
    uint32_t unk;
    uint32_t byte_fallback; /* all 256 byte pieces need not exist; byte_id says which do */
    double unk_score;       /* lowest score - 10 */
    uint32_t byte_id[256];  /* piece <0xNN>, or UNIGRAM_NONE */
} unigram_header;

typedef struct unigram_view {
    const unigram_header *header;
    const double *scores;
    const unigram_unit *units;
} unigram_view;

/* Which pieces a walk may use: all, or all but special tokens (special: one bit per id). */
typedef struct unigram_hidden {
    const void *context;
    bool (*is_hidden)(const void *context, uint32_t id); /* NULL: nothing is hidden */
} unigram_hidden;

/* Where the best cut up to some byte comes from. */
typedef struct unigram_node {
    double score;
    uint32_t start; /* UNIGRAM_NONE: nothing ends here yet */
    uint32_t id;
} unigram_node;

/* The piece that is all of text, or UNIGRAM_NONE. */
uint32_t unigram_find(const unigram_view *v, const uint8_t *text, size_t bytes,
                      unigram_hidden hidden);

/* The best cut of a word, 1 <= bytes < 2^32 - 1: fills nodes [bytes + 1]; follow `start` back from
 * nodes[bytes]. Work: bytes times the longest piece. Ties: the earlier start wins. */
void unigram_best_cut(const unigram_view *v, const uint8_t *word, size_t bytes,
                      unigram_hidden hidden, unigram_node *nodes);

#endif
