/* Section VOCABULARY: header, offset[n + 1] into text, state[n], slot[n_slots], text.
 *
 * slot holds id + 1, 0 for an empty one; open addressing, linear probing, at most half full.
 * Hostile spellings could be chosen to collide, so a run of occupied slots is bounded by
 * MAX_RUN: the builder changes the seed until that holds, the check verifies it. */
#include "tokenizer/vocab.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "memory.h"

enum { PRESENT = 1, SPECIAL = 2, MAX_RUN = 512, MAX_SEEDS = 16 };
#define MAX_TEXT_BYTES ((size_t)1 << 30)

typedef struct vocab_header {
    uint32_t n_ids, n_slots; /* n_slots: a power of two */
    uint32_t seed, zero;
    uint64_t text_bytes;
} vocab_header;

struct vocab_builder {
    char *text;
    size_t text_bytes, text_capacity;
    struct entry {
        uint32_t at, bytes;
        uint8_t state;
    } * entries; /* by id */
    size_t n_ids, ids_capacity, n_present;
    uint32_t *slots; /* id + 1 */
    size_t n_slots;
    uint32_t seed;
};

static size_t slot_of(const void *text, size_t bytes, uint32_t seed, size_t n_slots)
{
    return XXH3_64bits_withSeed(text, bytes, seed) & (n_slots - 1);
}

crank_status vocab_builder_open(vocab_builder **out, crank_error *error)
{
    vocab_builder *v = mem_zero(1, sizeof *v);
    *out = v;
    CRANK_CHECK(v != NULL, OUT_OF_MEMORY, error, "vocabulary: out of memory");
    return CRANK_OK;
}

void vocab_builder_close(vocab_builder *v)
{
    if (v == NULL) return;
    mem_free(v->text);
    mem_free(v->entries);
    mem_free(v->slots);
    mem_free(v);
}

/* The slot of a spelling: occupied by it, or the empty one where it belongs; SIZE_MAX after MAX_RUN
 * occupied ones. */
static size_t find_slot(const vocab_builder *v, const char *text, size_t bytes)
{
    size_t slot = slot_of(text, bytes, v->seed, v->n_slots);
    for (int run = 0; run < MAX_RUN; run++) {
        uint32_t id = v->slots[slot];
        if (id == 0) return slot;
        const struct entry *e = &v->entries[id - 1];
        if (e->bytes == bytes && memcmp(v->text + e->at, text, bytes) == 0) return slot;
        slot = (slot + 1) & (v->n_slots - 1);
    }
    return SIZE_MAX;
}

/* Fills the slots again with n_slots and a seed under which no probe is longer than MAX_RUN. */
static crank_status rehash(vocab_builder *v, size_t n_slots, crank_error *error)
{
    uint32_t *slots = mem_zero(n_slots, sizeof *slots);
    CRANK_CHECK(slots != NULL, OUT_OF_MEMORY, error, "vocabulary: out of memory");
    mem_free(v->slots);
    v->slots = slots;
    v->n_slots = n_slots;
    for (int attempt = 0; attempt < MAX_SEEDS; attempt++) {
        size_t id = 0;
        for (; id < v->n_ids; id++) {
            const struct entry *e = &v->entries[id];
            if (!(e->state & PRESENT)) continue;
            size_t slot = find_slot(v, v->text + e->at, e->bytes);
            if (slot == SIZE_MAX) break;
            slots[slot] = (uint32_t)id + 1;
        }
        if (id == v->n_ids) return CRANK_OK;
        memset(slots, 0, n_slots * sizeof *slots);
        v->seed++;
    }
    return status_fail(error, CRANK_LIMIT, "vocabulary: its spellings collide under every hash");
}

static crank_status grow_ids(vocab_builder *v, size_t n, crank_error *error)
{
    if (n > v->ids_capacity) {
        size_t capacity = v->ids_capacity * 2 > n ? v->ids_capacity * 2 : n + 1024;
        struct entry *grown = mem_resize(v->entries, capacity, sizeof *grown);
        CRANK_CHECK(grown != NULL, OUT_OF_MEMORY, error, "vocabulary: out of memory");
        memset(grown + v->ids_capacity, 0, (capacity - v->ids_capacity) * sizeof *grown);
        v->entries = grown;
        v->ids_capacity = capacity;
    }
    if (n > v->n_ids) v->n_ids = n;
    return CRANK_OK;
}

crank_status vocab_put(vocab_builder *v, const char *text, size_t bytes, int64_t id,
                       crank_error *error)
{
    int shown = bytes < 60 ? (int)bytes : 60;
    CRANK_CHECK(id >= 0 && id <= TOK_MAX_ID, FORMAT, error,
                "vocabulary: id %lld of \"%.*s\" is outside 0..%d", (long long)id, shown, text,
                TOK_MAX_ID);
    CRANK_CHECK(bytes <= TOK_MAX_TOKEN_BYTES, LIMIT, error,
                "vocabulary: token %lld has %zu bytes, the limit is %d", (long long)id, bytes,
                TOK_MAX_TOKEN_BYTES);
    CRANK_CHECK(v->n_present < TOK_MAX_VOCABULARY, LIMIT, error, "vocabulary: more than %d entries",
                TOK_MAX_VOCABULARY);
    CRANK_TRY(grow_ids(v, (size_t)id + 1, error));
    if ((v->n_present + 1) * 2 > v->n_slots)
        CRANK_TRY(rehash(v, v->n_slots == 0 ? 1024 : v->n_slots * 2, error));

    struct entry *e = &v->entries[id];
    if (e->state & PRESENT) {
        bool same = e->bytes == bytes && memcmp(v->text + e->at, text, bytes) == 0;
        CRANK_CHECK(same, FORMAT, error, "vocabulary: id %lld belongs to \"%.*s\" and to \"%.*s\"",
                    (long long)id, e->bytes < 60 ? (int)e->bytes : 60, v->text + e->at, shown,
                    text);
        return CRANK_OK;
    }
    if (v->text == NULL || v->text_capacity - v->text_bytes < bytes) {
        CRANK_CHECK(v->text_bytes + bytes <= MAX_TEXT_BYTES, LIMIT, error,
                    "vocabulary: more than %zu bytes of text", MAX_TEXT_BYTES);
        size_t capacity = v->text_capacity * 2 + bytes + 4096;
        char *grown = mem_resize(v->text, capacity, 1);
        CRANK_CHECK(grown != NULL, OUT_OF_MEMORY, error, "vocabulary: out of memory");
        v->text = grown;
        v->text_capacity = capacity;
    }
    size_t slot = find_slot(v, text, bytes);
    while (slot == SIZE_MAX) {
        v->seed++;
        CRANK_TRY(rehash(v, v->n_slots, error));
        slot = find_slot(v, text, bytes);
    }
    if (v->slots[slot] != 0) { /* the same spelling under another id: that one becomes a hole */
        v->entries[v->slots[slot] - 1].state = 0;
        v->n_present--;
    }
    v->slots[slot] = (uint32_t)id + 1;
    if (bytes > 0) memcpy(v->text + v->text_bytes, text, bytes);
    e->at = (uint32_t)v->text_bytes;
    e->bytes = (uint32_t)bytes;
    e->state = PRESENT;
    v->text_bytes += bytes;
    v->n_present++;
    return CRANK_OK;
}

int32_t vocab_builder_id(const vocab_builder *v, const char *text, size_t bytes)
{
    if (v->n_slots == 0) return -1;
    size_t slot = find_slot(v, text, bytes);
    return slot != SIZE_MAX && v->slots[slot] != 0 ? (int32_t)v->slots[slot] - 1 : -1;
}

const char *vocab_builder_text(const vocab_builder *v, int32_t id, size_t *bytes)
{
    *bytes = 0;
    if (id < 0 || (size_t)id >= v->n_ids || !(v->entries[id].state & PRESENT)) return NULL;
    *bytes = v->entries[id].bytes;
    return v->text + v->entries[id].at;
}

int32_t vocab_builder_size(const vocab_builder *v)
{
    return (int32_t)v->n_ids;
}

void vocab_set_special(vocab_builder *v, int32_t id)
{
    v->entries[id].state |= SPECIAL;
}

crank_status vocab_write(vocab_builder *v, image_builder *b, crank_error *error)
{
    if (v->n_slots == 0) CRANK_TRY(rehash(v, 1024, error));
    vocab_header header = {
        .n_ids = (uint32_t)v->n_ids, .n_slots = (uint32_t)v->n_slots, .seed = v->seed};
    CRANK_TRY(image_open_section(b, TOK_SECTION_VOCABULARY, error));
    size_t head = image_put(b, &header, sizeof header);
    uint32_t at = 0;
    for (size_t id = 0; id < v->n_ids; id++) {
        image_put_u32(b, at);
        if (v->entries[id].state & PRESENT) at += v->entries[id].bytes;
    }
    image_put_u32(b, at);
    for (size_t id = 0; id < v->n_ids; id++) image_put(b, &v->entries[id].state, 1);
    image_align(b, 4);
    image_put(b, v->slots, v->n_slots * sizeof *v->slots);
    for (size_t id = 0; id < v->n_ids; id++)
        if (v->entries[id].state & PRESENT)
            image_put(b, v->text + v->entries[id].at, v->entries[id].bytes);
    header.text_bytes = at;
    void *patch = image_at(b, head);
    if (patch != NULL) memcpy(patch, &header, sizeof header);
    return image_close_section(b, error);
}

typedef struct view {
    vocab_header header;
    const uint32_t *offset;
    const uint8_t *state;
    const uint32_t *slot;
    const char *text;
} view;

/* Offsets follow from the header alone; check has shown that they lie inside. */
static view view_of(const tok_image *image)
{
    const uint8_t *at = image->section[TOK_SECTION_VOCABULARY].at;
    view v;
    memcpy(&v.header, at, sizeof v.header);
    v.offset = (const uint32_t *)(at + sizeof v.header);
    v.state = (const uint8_t *)(v.offset + v.header.n_ids + 1);
    size_t slots_at = sizeof v.header + 4 * ((size_t)v.header.n_ids + 1) +
                      (((size_t)v.header.n_ids + 3) & ~(size_t)3);
    v.slot = (const uint32_t *)(at + slots_at);
    v.text = (const char *)(v.slot + v.header.n_slots);
    return v;
}

crank_status vocab_check(const tok_image *image, crank_error *error)
{
    tok_section s = image->section[TOK_SECTION_VOCABULARY];
    vocab_header h;
    CRANK_CHECK(s.bytes >= sizeof h, FORMAT, error, "tokenizer image: vocabulary cut short");
    memcpy(&h, s.at, sizeof h);
    CRANK_CHECK(
        h.n_ids <= TOK_MAX_ID + 1u && h.n_slots >= 2 && (h.n_slots & (h.n_slots - 1)) == 0 &&
            h.n_slots <= 4u * TOK_MAX_VOCABULARY && h.text_bytes <= MAX_TEXT_BYTES,
        FORMAT, error, "tokenizer image: vocabulary of %u ids in %u slots", h.n_ids, h.n_slots);
    uint64_t want = sizeof h + 4 * ((uint64_t)h.n_ids + 1) + (((uint64_t)h.n_ids + 3) & ~3ull) +
                    4 * (uint64_t)h.n_slots + h.text_bytes;
    CRANK_CHECK(s.bytes == want, FORMAT, error,
                "tokenizer image: vocabulary of %zu bytes, expected %llu", s.bytes,
                (unsigned long long)want);
    view v = view_of(image);
    for (uint32_t id = 0; id < h.n_ids; id++)
        CRANK_CHECK(v.offset[id] <= v.offset[id + 1] &&
                        v.offset[id + 1] - v.offset[id] <= TOK_MAX_TOKEN_BYTES,
                    FORMAT, error, "tokenizer image: spelling of id %u ends before it begins", id);
    CRANK_CHECK(v.offset[0] == 0 && v.offset[h.n_ids] == h.text_bytes, FORMAT, error,
                "tokenizer image: spellings do not fill their %llu bytes",
                (unsigned long long)h.text_bytes);
    /* Twice around, so that a run across the end counts whole. */
    uint32_t run = 0;
    for (uint32_t i = 0; i < 2 * h.n_slots; i++) {
        uint32_t id = v.slot[i & (h.n_slots - 1)];
        CRANK_CHECK(id <= h.n_ids, FORMAT, error, "tokenizer image: vocabulary slot %u holds id %u",
                    i, id - 1);
        run = id == 0 ? 0 : run + 1;
        CRANK_CHECK(run <= 4 * MAX_RUN, FORMAT, error, "tokenizer image: vocabulary hash is full");
    }
    return CRANK_OK;
}

int32_t vocab_size(const tok_image *image)
{
    return (int32_t)view_of(image).header.n_ids;
}

int32_t vocab_id(const tok_image *image, const void *text, size_t bytes)
{
    view v = view_of(image);
    size_t slot = slot_of(text, bytes, v.header.seed, v.header.n_slots);
    for (uint32_t id; (id = v.slot[slot]) != 0; slot = (slot + 1) & (v.header.n_slots - 1)) {
        uint32_t at = v.offset[id - 1];
        if (v.offset[id] - at == bytes && memcmp(v.text + at, text, bytes) == 0)
            return (int32_t)id - 1;
    }
    return -1;
}

const char *vocab_text(const tok_image *image, int32_t id, size_t *bytes)
{
    view v = view_of(image);
    *bytes = 0;
    if (id < 0 || (uint32_t)id >= v.header.n_ids || !(v.state[id] & PRESENT)) return NULL;
    *bytes = v.offset[id + 1] - v.offset[id];
    return v.text + v.offset[id];
}

bool vocab_is_special(const tok_image *image, int32_t id)
{
    view v = view_of(image);
    return id >= 0 && (uint32_t)id < v.header.n_ids && (v.state[id] & SPECIAL) != 0;
}
