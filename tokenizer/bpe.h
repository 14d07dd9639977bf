/* Byte-pair encoding: section MODEL of the image, and the merging of one word. bpe_compile.c writes
 * the section from tokenizer.json, bpe.c checks it and encodes, bpe_merge.c merges.
 *
 * Section: bpe_header; merges[1 << merge_bits]; words[1 << word_bits]; chars[1 << char_bits]; the
 * words' bytes. The three tables are hashes with linear probing.
 *
 *   merges  (left, right) -> rank and new symbol
 *   words   the bytes of a whole word -> its one symbol: every entry of the vocabulary that its own
 *           merges put together again (all entries under ignore_merges). Most words of a text end
 *           here. Which entries those are is found out while compiling, by merging each.
 *   chars   without byte level: one character -> symbol
 *
 * Invariants (bpe_check): sizes agree; every table has an empty place, so that probing ends; every
 * symbol is below the vocabulary's size; every word lies in the bytes. */
#ifndef CRANK_TOKENIZER_BPE_H
#define CRANK_TOKENIZER_BPE_H

#include "tokenizer/image.h"

#define BPE_NONE UINT32_MAX

enum {
    BPE_BYTE_LEVEL = 1,    /* words are raw bytes, byte_id gives their symbols */
    BPE_FUSE_UNK = 2,      /* neighbouring unknown characters are one unknown */
    BPE_BYTE_FALLBACK = 4, /* an unknown character becomes <0xNN> symbols (byte_id) if all exist */
};

typedef struct bpe_header {
    uint32_t flags;
    uint32_t unk;          /* BPE_NONE: unknown characters vanish */
    uint32_t longest_word; /* bytes of the longest key in words */
    uint32_t merge_bits, word_bits, char_bits;
    uint64_t word_bytes;
    uint32_t byte_id[256]; /* BPE_NONE: no such symbol */
} bpe_header;

typedef struct bpe_merge {
    uint32_t left, right, rank, id; /* rank BPE_NONE: an empty place */
} bpe_merge;

typedef struct bpe_word {
    uint32_t hash, id, offset, bytes; /* id BPE_NONE: an empty place */
} bpe_word;

typedef struct bpe_char {
    uint32_t code_point, id; /* id BPE_NONE: an empty place */
} bpe_char;

typedef struct bpe_view {
    const bpe_header *header;
    const bpe_merge *merges;
    const bpe_word *words;
    const bpe_char *chars;
    const uint8_t *bytes;
} bpe_view;

static inline uint64_t bpe_mix(uint64_t x)
{
    x *= 0x9E3779B97F4A7C15u;
    return x ^ x >> 32;
}

/* Where probing for a pair or a character begins. */
static inline uint32_t bpe_pair_hash(uint32_t left, uint32_t right)
{
    return (uint32_t)bpe_mix((uint64_t)left << 32 | right);
}

uint32_t bpe_word_hash(const uint8_t *word, size_t bytes);

static inline const bpe_merge *bpe_find_merge(const bpe_view *v, uint32_t left, uint32_t right)
{
    uint32_t mask = ((uint32_t)1 << v->header->merge_bits) - 1;
    for (uint32_t i = bpe_pair_hash(left, right) & mask;; i = (i + 1) & mask) {
        const bpe_merge *m = &v->merges[i];
        if (m->left == left && m->right == right) return m;
        if (m->rank == BPE_NONE) return NULL;
    }
}

/* The symbol of a whole word, or BPE_NONE. */
uint32_t bpe_find_word(const bpe_view *v, const uint8_t *word, size_t bytes);

typedef struct bpe_symbol {
    uint32_t id, start; /* start: byte of the word */
} bpe_symbol;

/* Cuts a word (1 <= bytes < 2^32) into its first symbols and merges them. symbols: [bytes], the
 * result, in order; returns how many. work: BPE_WORK_BYTES(bytes) bytes, 8-byte aligned; not used
 * (may be NULL) for words of up to BPE_SHORT_WORD bytes. O(n log n). */
#define BPE_SHORT_WORD 48
#define BPE_WORK_BYTES(bytes) ((bytes)*32)
size_t bpe_merge_word(const bpe_view *v, const uint8_t *word, size_t bytes, bpe_symbol *symbols,
                      void *work);

#endif
