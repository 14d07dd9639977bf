/* WordPiece, inside: section MODEL and the greedy match, shared by the model's encode_word and by
 * the fused BERT path (bert_fast.c).
 *
 * Data structure: one hash table for whole pieces, keyed on (continuation or not, bytes), a slot of
 * 16 bytes: the first eight bytes of the piece, its id, its length; the rest of longer pieces is
 * compared apart. In front of it stand two tables of piece lengths, so that the greedy search asks
 * the hash only for lengths that some piece with these first three bytes has: most words cost one
 * probe, most pieces of a split word one or two.
 *
 * Invariants (wordpiece_check): every id inside the vocabulary; at least one empty slot per
 * MAX_RUN; tail offsets inside the tail; n_slots and n_masks powers of two. */
#ifndef CRANK_TOKENIZER_WORDPIECE_H
#define CRANK_TOKENIZER_WORDPIECE_H

#include <string.h>

#include "tokenizer/model.h"

/* Bytes that must be readable behind a word given to wordpiece_match. */
#define WORDPIECE_PADDING 8

typedef struct wordpiece_slot {
    uint64_t first; /* bytes 0..7, zeros behind the end */
    uint32_t id;
    uint16_t bytes;        /* 0: empty */
    uint16_t continuation; /* 0 or 1 */
} wordpiece_slot;

typedef struct wordpiece_header {
    uint32_t unk_id, max_chars;
    uint32_t n_slots, n_masks; /* powers of two */
    uint32_t longest;          /* piece, bytes */
    uint32_t seed;
    uint32_t tail_bytes, zero;
} wordpiece_header;

/* Pointers into a checked section. */
typedef struct wordpiece {
    const wordpiece_slot *slot;
    const uint32_t *tail_at; /* [n_slots] where bytes 8.. of a longer piece lie in tail */
    const uint32_t *mask;    /* [n_masks] bit L-1: a piece of L >= 3 bytes; bit 31: of 32 or more */
    const uint8_t *short_mask; /* [2][256] bit L-1: a piece of L <= 2 bytes with this first byte */
    const uint8_t *tail;
    uint64_t seed[2]; /* of first pieces, of continuations */
    uint32_t slot_mask, n_masks;
    uint32_t longest, max_chars;
    int32_t unk_id;
} wordpiece;

wordpiece wordpiece_of(const tok_image *image);

static inline uint64_t wordpiece_load(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

/* Two unrelated 64-bit seeds from the section's one. */
static inline uint64_t wordpiece_seed(uint32_t seed, unsigned continuation)
{
    return ((uint64_t)seed * 2 + continuation + 1) * 0xD6E8FEB86659FD93u;
}

/* The low `bytes` bytes (0..8) of a little-endian word. */
static inline uint64_t wordpiece_low(uint64_t word, size_t bytes)
{
    return bytes >= 8 ? word : word & (((uint64_t)1 << (bytes * 8)) - 1);
}

/* Multiply and fold: one instruction pair mixes every bit of x into every bit of the result. */
static inline uint64_t wordpiece_mix(uint64_t x)
{
    __extension__ typedef unsigned __int128 wide;
    wide product = (wide)x * 0x9E3779B97F4A7C15u;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Where the lengths of pieces with these first three bytes stand in `mask`. seed: of the kind of
 * piece, see wordpiece.seed. */
static inline uint32_t wordpiece_mask_index(uint64_t first, uint64_t seed, uint32_t n_masks)
{
    return (uint32_t)wordpiece_mix((first & 0xFFFFFF) ^ seed) & (n_masks - 1);
}

/* word: `bytes` bytes, WORDPIECE_PADDING readable behind them; first: its first eight bytes, zeros
 * behind its end. */
static inline uint64_t wordpiece_hash(const uint8_t *word, size_t bytes, uint64_t first,
                                      uint64_t seed)
{
    uint64_t h = wordpiece_mix(first ^ seed);
    for (size_t i = 8; i < bytes; i += 8)
        h = wordpiece_mix(h ^ wordpiece_low(wordpiece_load(word + i), bytes - i));
    return h;
}

/* The id of a whole piece, or -1. first: its first eight bytes, zeros behind its end. */
static inline int32_t wordpiece_find(const wordpiece *wp, const uint8_t *word, size_t bytes,
                                     uint64_t first, unsigned continuation)
{
    uint64_t h = wordpiece_hash(word, bytes, first, wp->seed[continuation]);
    for (uint32_t i = (uint32_t)h & wp->slot_mask;; i = (i + 1) & wp->slot_mask) {
        const wordpiece_slot *s = &wp->slot[i];
        if (s->first == first && s->bytes == bytes && s->continuation == continuation &&
            (bytes <= 8 || memcmp(wp->tail + wp->tail_at[i], word + 8, bytes - 8) == 0))
            return (int32_t)s->id;
        if (s->bytes == 0) return -1;
    }
}

/* The longest piece that starts word[0, bytes), bytes >= 1: returns its length and *id, or 0. */
size_t wordpiece_longest(const wordpiece *wp, const uint8_t *word, size_t bytes,
                         unsigned continuation, int32_t *id);

#endif
