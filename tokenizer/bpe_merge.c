/* The merging of one word: repeatedly the pair of lowest rank, the leftmost of equals, until no
 * neighbours have a rank. Short words keep the ranks of all pairs in an array and look for the
 * smallest; long ones keep them in a heap over a linked list, so that a megabyte without a space is
 * n log n. Both do the same merges in the same order.
 *
 * A heap entry is rank * 2^32 + position: the order wanted. An entry is stale when the pair at its
 * position has another rank by now; each merge makes at most two entries and uses one up, so 2n
 * places suffice. Source: Sennrich et al. 2016. */
#include <string.h>

#include "tokenizer/bpe.h"
#include "utf8.h"

uint32_t bpe_word_hash(const uint8_t *word, size_t bytes)
{
    uint64_t h = bytes * 0x9E3779B97F4A7C15u, part;
    for (; bytes >= 8; word += 8, bytes -= 8) {
        memcpy(&part, word, 8);
        h = bpe_mix(h ^ part);
    }
    part = 0;
    for (size_t i = 0; i < bytes; i++) part |= (uint64_t)word[i] << 8 * i;
    return (uint32_t)bpe_mix(h ^ part);
}

uint32_t bpe_find_word(const bpe_view *v, const uint8_t *word, size_t bytes)
{
    if (bytes > v->header->longest_word) return BPE_NONE;
    uint32_t hash = bpe_word_hash(word, bytes);
    uint32_t mask = ((uint32_t)1 << v->header->word_bits) - 1;
    for (uint32_t i = hash & mask;; i = (i + 1) & mask) {
        const bpe_word *w = &v->words[i];
        if (w->id == BPE_NONE) return BPE_NONE;
        if (w->hash == hash && w->bytes == bytes && memcmp(v->bytes + w->offset, word, bytes) == 0)
            return w->id;
    }
}

static uint32_t find_char(const bpe_view *v, uint32_t c)
{
    uint32_t mask = ((uint32_t)1 << v->header->char_bits) - 1;
    for (uint32_t i = bpe_pair_hash(0, c) & mask;; i = (i + 1) & mask) {
        if (v->chars[i].id == BPE_NONE || v->chars[i].code_point == c) return v->chars[i].id;
    }
}

/* The first symbols: bytes, or characters with their fallbacks. Unknown characters wait in
 * `pending` until a known one follows, which is also where Hugging Face puts them. */
static size_t first_symbols(const bpe_view *v, const uint8_t *word, size_t bytes, bpe_symbol *out)
{
    const bpe_header *h = v->header;
    size_t n = 0;
    bool pending = false;
    uint32_t pending_start = 0;
    for (size_t i = 0; i < bytes;) {
        size_t width = 1;
        uint32_t id;
        if ((h->flags & BPE_BYTE_LEVEL) != 0) {
            id = h->byte_id[word[i]];
        } else {
            uint32_t c;
            int w = utf8_decode(word + i, bytes - i, &c);
            width = (size_t)(w < 0 ? -w : w);
            id = find_char(v, c);
        }
        if (id != BPE_NONE) {
            if (pending) {
                out[n].id = h->unk;
                out[n++].start = pending_start;
                pending = false;
            }
            out[n].id = id;
            out[n++].start = (uint32_t)i;
        } else {
            bool fall_back = (h->flags & BPE_BYTE_FALLBACK) != 0;
            for (size_t k = 0; k < width && fall_back; k++)
                fall_back = h->byte_id[word[i + k]] != BPE_NONE;
            for (size_t k = 0; k < width && fall_back; k++) {
                out[n].id = h->byte_id[word[i + k]];
                out[n++].start = (uint32_t)i;
            }
            if (!fall_back && h->unk != BPE_NONE) {
                if (pending && (h->flags & BPE_FUSE_UNK) == 0) {
                    out[n].id = h->unk;
                    out[n++].start = pending_start;
                    pending = false;
                }
                if (!pending) pending_start = (uint32_t)i;
                pending = true;
            }
        }
        i += width;
    }
    if (pending) {
        out[n].id = h->unk;
        out[n++].start = pending_start;
    }
    return n;
}

typedef struct pair {
    uint32_t rank, id;
} pair;

static inline pair find_pair(const bpe_view *v, uint32_t left, uint32_t right)
{
    const bpe_merge *m = bpe_find_merge(v, left, right);
    pair p = {m != NULL ? m->rank : BPE_NONE, m != NULL ? m->id : 0};
    return p;
}

static size_t merge_short(const bpe_view *v, bpe_symbol *s, size_t n)
{
    uint32_t rank[BPE_SHORT_WORD], id[BPE_SHORT_WORD]; /* of s[i] with s[i + 1] */
    for (size_t i = 0; i + 1 < n; i++) {
        pair p = find_pair(v, s[i].id, s[i + 1].id);
        rank[i] = p.rank;
        id[i] = p.id;
    }
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best]) best = i;
        if (rank[best] == BPE_NONE) break;
        s[best].id = id[best];
        n--;
        for (size_t i = best + 1; i < n; i++) {
            s[i] = s[i + 1];
            rank[i - 1] = rank[i];
            id[i - 1] = id[i];
        }
        /* rank[i - 1] of the right neighbour was moved to its place; two pairs are new. */
        for (size_t i = best > 0 ? best - 1 : 0; i <= best && i + 1 < n; i++) {
            pair p = find_pair(v, s[i].id, s[i + 1].id);
            rank[i] = p.rank;
            id[i] = p.id;
        }
    }
    return n;
}

/* ---- long words ------------------------------------------------------------------------------*/

typedef struct heap {
    uint64_t *entries;
    size_t n;
} heap;

static void sift_down(heap *h, size_t i)
{
    uint64_t moving = h->entries[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= h->n) break;
        if (child + 1 < h->n && h->entries[child + 1] < h->entries[child]) child++;
        if (h->entries[child] >= moving) break;
        h->entries[i] = h->entries[child];
        i = child;
    }
    h->entries[i] = moving;
}

static void heap_push(heap *h, uint64_t entry)
{
    size_t i = h->n++;
    while (i > 0 && h->entries[(i - 1) / 2] > entry) {
        h->entries[i] = h->entries[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    h->entries[i] = entry;
}

static uint64_t heap_pop(heap *h)
{
    uint64_t top = h->entries[0];
    h->entries[0] = h->entries[--h->n];
    if (h->n > 0) sift_down(h, 0);
    return top;
}

typedef struct link {
    uint32_t prev, next; /* BPE_NONE: none */
} link;

static size_t merge_long(const bpe_view *v, bpe_symbol *s, size_t n, void *work)
{
    heap h = {work, 0};                        /* [2 * n] */
    link *links = (link *)(h.entries + 2 * n); /* [n] */
    uint32_t *rank = (uint32_t *)(links + n);  /* [n], of the pair that begins here */
    uint32_t *id = rank + n;                   /* [n] */
    for (size_t i = 0; i < n; i++) {
        links[i].prev = i > 0 ? (uint32_t)(i - 1) : BPE_NONE;
        links[i].next = i + 1 < n ? (uint32_t)(i + 1) : BPE_NONE;
        pair p = {BPE_NONE, 0};
        if (i + 1 < n) p = find_pair(v, s[i].id, s[i + 1].id);
        rank[i] = p.rank;
        id[i] = p.id;
        if (p.rank != BPE_NONE) h.entries[h.n++] = (uint64_t)p.rank << 32 | i;
    }
    for (size_t i = h.n / 2; i-- > 0;) sift_down(&h, i);

    while (h.n > 0) {
        uint64_t top = heap_pop(&h);
        uint32_t at = (uint32_t)top;
        if (rank[at] != (uint32_t)(top >> 32)) continue;
        uint32_t gone = links[at].next, after = links[gone].next;
        s[at].id = id[at];
        rank[gone] = BPE_NONE;
        links[at].next = after;
        if (after != BPE_NONE) links[after].prev = at;
        uint32_t changed[2] = {links[at].prev, at};
        for (int k = 0; k < 2; k++) {
            uint32_t left = changed[k];
            if (left == BPE_NONE) continue;
            uint32_t right = links[left].next;
            pair p = {BPE_NONE, 0};
            if (right != BPE_NONE) p = find_pair(v, s[left].id, s[right].id);
            rank[left] = p.rank;
            id[left] = p.id;
            if (p.rank != BPE_NONE) heap_push(&h, (uint64_t)p.rank << 32 | left);
        }
    }
    size_t kept = 0;
    for (uint32_t i = 0; i != BPE_NONE; i = links[i].next) s[kept++] = s[i];
    return kept;
}

size_t bpe_merge_word(const bpe_view *v, const uint8_t *word, size_t bytes, bpe_symbol *symbols,
                      void *work)
{
    size_t n = first_symbols(v, word, bytes, symbols);
    if (n < 2) return n;
    return n <= BPE_SHORT_WORD ? merge_short(v, symbols, n) : merge_long(v, symbols, n, work);
}
