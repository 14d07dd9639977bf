/* Keys are sorted, so that the keys below a state are a range of them; states wait on a stack with
 * their range and depth. To place a state's children, a base is looked for in the newest
 * OPEN_BLOCKS blocks of 256 units; older ones stay as they are, which bounds the search. A block's
 * free units are a bit set, and base ^ label never leaves the block, so a candidate is tried with a
 * handful of bit tests. Source: Aoe 1989; the blocks as in s-yata/darts-clone. */
#include "tokenizer/unigram_trie.h"

#include <string.h>

#include "memory.h"

#define OPEN_BLOCKS 16
#define BLOCK 256

typedef struct bits {
    uint64_t word[BLOCK / 64];
} bits;

static inline bool bit_get(const bits *b, uint32_t i)
{
    return (b->word[i >> 6] >> (i & 63) & 1) != 0;
}

static inline void bit_set(bits *b, uint32_t i)
{
    b->word[i >> 6] |= (uint64_t)1 << (i & 63);
}

typedef struct open_block {
    uint32_t first;      /* unit */
    bits taken, is_base; /* units in use; bases in use */
} open_block;

typedef struct state {
    size_t low, high; /* keys */
    uint32_t depth;
    uint32_t unit; /* of which this state's base is to be written; UNIGRAM_NONE: the root */
} state;

typedef struct builder {
    const unigram_key *keys;
    unigram_unit *units;
    size_t n_units, capacity;
    open_block open[OPEN_BLOCKS];
    size_t n_open;
    state *stack;
    size_t depth, stack_capacity;
    crank_error *error;
} builder;

/* ---- sorting ---------------------------------------------------------------------------------
 * Most significant byte first, in place of a comparison sort: the ranges it makes are the trie's
 * states. Small ranges are insertion sorted. */

static int compare(const unigram_key *a, const unigram_key *b, uint32_t from)
{
    uint32_t n = a->bytes < b->bytes ? a->bytes : b->bytes;
    int order = n > from ? memcmp(a->text + from, b->text + from, n - from) : 0;
    return order != 0 ? order : (a->bytes > b->bytes) - (a->bytes < b->bytes);
}

static void sort_few(unigram_key *keys, size_t n, uint32_t from)
{
    for (size_t i = 1; i < n; i++) {
        unigram_key moving = keys[i];
        size_t k = i;
        for (; k > 0 && compare(&keys[k - 1], &moving, from) > 0; k--) keys[k] = keys[k - 1];
        keys[k] = moving;
    }
}

static crank_status push(builder *t, state s)
{
    if (t->depth == t->stack_capacity) {
        size_t capacity = t->stack_capacity != 0 ? 2 * t->stack_capacity : 256;
        state *stack = mem_resize(t->stack, capacity, sizeof *stack);
        CRANK_CHECK(stack != NULL, OUT_OF_MEMORY, t->error, "model.vocab: no memory for its trie");
        t->stack = stack;
        t->stack_capacity = capacity;
    }
    t->stack[t->depth++] = s;
    return CRANK_OK;
}

/* Bucket of a key at some depth: 0 ends there, else 1 + byte. */
static inline unsigned bucket(const unigram_key *key, uint32_t depth)
{
    return depth < key->bytes ? 1u + key->text[depth] : 0;
}

static crank_status sort_keys(builder *t, unigram_key *keys, size_t n)
{
    unigram_key *moved = mem_array(n, sizeof *moved);
    CRANK_CHECK(moved != NULL, OUT_OF_MEMORY, t->error, "model.vocab: no memory for its trie");
    state all = {0, n, 0, 0};
    crank_status status = push(t, all);
    while (status == CRANK_OK && t->depth > 0) {
        state s = t->stack[--t->depth];
        if (s.high - s.low <= 32) {
            sort_few(keys + s.low, s.high - s.low, s.depth);
            continue;
        }
        size_t end[258] = {0};
        for (size_t i = s.low; i < s.high; i++) end[bucket(&keys[i], s.depth) + 1]++;
        for (unsigned b = 1; b < 258; b++) end[b] += end[b - 1]; /* end[b]: where bucket b begins */
        size_t at[258];
        memcpy(at, end, sizeof at);
        for (size_t i = s.low; i < s.high; i++) moved[at[bucket(&keys[i], s.depth)]++] = keys[i];
        memcpy(keys + s.low, moved, (s.high - s.low) * sizeof *keys);
        for (unsigned b = 1; b < 257 && status == CRANK_OK; b++) {
            state part = {s.low + end[b], s.low + end[b + 1], s.depth + 1, 0};
            if (part.high - part.low > 1) status = push(t, part);
        }
    }
    t->depth = 0;
    mem_free(moved);
    return status;
}

/* ---- placing ---------------------------------------------------------------------------------*/

static crank_status add_block(builder *t, open_block **out)
{
    CRANK_CHECK(t->n_units + BLOCK <= UNIGRAM_MAX_UNITS, LIMIT, t->error,
                "model.vocab: its trie has more than %u units", UNIGRAM_MAX_UNITS);
    if (t->n_units + BLOCK > t->capacity) {
        size_t capacity = t->capacity != 0 ? 2 * t->capacity : 64 * BLOCK;
        unigram_unit *units = mem_resize(t->units, capacity, sizeof *units);
        CRANK_CHECK(units != NULL, OUT_OF_MEMORY, t->error, "model.vocab: no memory for its trie");
        t->units = units;
        t->capacity = capacity;
    }
    memset(t->units + t->n_units, 0, BLOCK * sizeof *t->units);
    if (t->n_open == OPEN_BLOCKS) { /* the oldest is the fullest */
        memmove(t->open, t->open + 1, (OPEN_BLOCKS - 1) * sizeof t->open[0]);
        t->n_open--;
    }
    open_block *block = &t->open[t->n_open++];
    memset(block, 0, sizeof *block);
    block->first = (uint32_t)t->n_units;
    t->n_units += BLOCK;
    *out = block;
    return CRANK_OK;
}

/* The lowest base of the block under which all labels are free, or -1. */
static int find_base(const open_block *block, const uint8_t *labels, size_t n)
{
    for (unsigned w = 0; w < BLOCK / 64; w++) {
        uint64_t room = ~block->taken.word[w];
        while (room != 0) {
            uint32_t unit = w * 64 + (uint32_t)__builtin_ctzll(room);
            uint32_t base = unit ^ labels[0];
            room &= room - 1;
            if (bit_get(&block->is_base, base)) continue;
            size_t i = 1;
            while (i < n && !bit_get(&block->taken, base ^ labels[i])) i++;
            if (i == n) return (int)base;
        }
    }
    return -1;
}

static crank_status place(builder *t, const uint8_t *labels, size_t n, uint32_t *base)
{
    open_block *block = NULL;
    int found = -1;
    for (size_t i = 0; i < t->n_open && found < 0; i++) {
        block = &t->open[i];
        found = find_base(block, labels, n);
    }
    if (found < 0) {
        CRANK_TRY(add_block(t, &block));
        found = find_base(block, labels, n);
    }
    bit_set(&block->is_base, (uint32_t)found);
    for (size_t i = 0; i < n; i++) bit_set(&block->taken, (uint32_t)found ^ labels[i]);
    *base = block->first + (uint32_t)found;
    return CRANK_OK;
}

static crank_status expand(builder *t, state s, uint32_t *root)
{
    uint8_t labels[256];
    size_t first[257], n = 0;
    for (size_t i = s.low; i < s.high; i++) {
        uint8_t label = t->keys[i].text[s.depth];
        if (n == 0 || labels[n - 1] != label) {
            labels[n] = label;
            first[n++] = i;
        }
    }
    first[n] = s.high;
    uint32_t base;
    CRANK_TRY(place(t, labels, n, &base));
    if (s.unit == UNIGRAM_NONE)
        *root = base;
    else
        t->units[s.unit].link |= base << 8;
    for (size_t i = 0; i < n; i++) {
        uint32_t unit = base ^ labels[i];
        state child = {first[i], first[i + 1], s.depth + 1, unit};
        t->units[unit].link = labels[i];
        if (t->keys[child.low].bytes == child.depth) /* a key's end sorts before its longer kin */
            t->units[unit].piece = t->keys[child.low++].id + 1;
        if (child.low < child.high) CRANK_TRY(push(t, child));
    }
    return CRANK_OK;
}

crank_status unigram_trie_build(unigram_key *keys, size_t n, unigram_unit **units,
                                uint32_t *n_units, uint32_t *root, crank_error *error)
{
    builder t = {.keys = keys, .error = error};
    crank_status status = CRANK_OK;
    open_block *none;
    *root = 0;
    CRANK_TRY_GOTO(sort_keys(&t, keys, n));
    CRANK_TRY_GOTO(add_block(&t, &none)); /* base 0: the state without children */
    for (uint32_t i = 0; i < BLOCK; i++) t.units[i].link = i ^ 0xFF;
    t.n_open = 0;
    if (n > 0) {
        state all = {0, n, 0, UNIGRAM_NONE};
        CRANK_TRY_GOTO(push(&t, all));
    }
    while (t.depth > 0) CRANK_TRY_GOTO(expand(&t, t.stack[--t.depth], root));
    *units = t.units;
    *n_units = (uint32_t)t.n_units;
    t.units = NULL;
out:
    mem_free(t.units);
    mem_free(t.stack);
    return status;
}
