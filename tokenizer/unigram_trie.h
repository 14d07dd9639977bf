/* Builds the double array of unigram.h from a list of pieces. */
#ifndef CRANK_TOKENIZER_UNIGRAM_TRIE_H
#define CRANK_TOKENIZER_UNIGRAM_TRIE_H

#include "tokenizer/unigram.h"

typedef struct unigram_key {
    const uint8_t *text; /* borrowed */
    uint32_t bytes, id;
} unigram_key;

/* Sorts keys (distinct, none empty) and gives the units (mem_free) and the root's base. Time: about
 * linear in the bytes of all keys. Fails: LIMIT (more than UNIGRAM_MAX_UNITS), OUT_OF_MEMORY. */
crank_status unigram_trie_build(unigram_key *keys, size_t n, unigram_unit **units,
                                uint32_t *n_units, uint32_t *root, crank_error *error);

#endif
