#include "tokenizer/added.h"

#include <stdlib.h>
#include <string.h>

#include "tokenizer/unicode.h"
#include "utf8.h"

typedef struct added_header {
    uint32_t n, text_bytes;
} added_header;

/* ---- compiling ----------------------------------------------------------------------------------
 */

static int by_bytes(const void *a, const void *b)
{
    const added_source *x = a, *y = b;
    if (x->normalized != y->normalized) return x->normalized ? 1 : -1;
    size_t shared = x->bytes < y->bytes ? x->bytes : y->bytes;
    int order = shared > 0 ? memcmp(x->text, y->text, shared) : 0;
    if (order != 0) return order;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id; /* of equal texts the search sees the lowest id */
}

crank_status added_write(added_source *tokens, size_t n, image_builder *b, crank_error *error)
{
    qsort(tokens, n, sizeof *tokens, by_bytes);
    CRANK_TRY(image_open_section(b, TOK_SECTION_ADDED, error));
    size_t head = image_put(b, NULL, 2 * sizeof(added_header));
    added_header headers[2] = {{0, 0}, {0, 0}};
    for (int set = 0; set < 2; set++) {
        uint32_t at = 0;
        for (size_t i = 0; i < n; i++) {
            if (tokens[i].normalized != (set == 1)) continue;
            added_entry e = {at, (uint32_t)tokens[i].bytes, tokens[i].id, tokens[i].flags};
            image_put(b, &e, sizeof e);
            at += e.bytes;
            headers[set].n++;
        }
        headers[set].text_bytes = at;
    }
    for (int set = 0; set < 2; set++)
        for (size_t i = 0; i < n; i++)
            if (tokens[i].normalized == (set == 1)) image_put(b, tokens[i].text, tokens[i].bytes);
    void *patch = image_at(b, head);
    if (patch != NULL) memcpy(patch, headers, sizeof headers);
    return image_close_section(b, error);
}

/* ---- checking
 * ------------------------------------------------------------------------------------ */

static crank_status check_set(added_set *set, const uint8_t *entries, const uint8_t *text,
                              added_header h, int32_t n_ids, crank_error *error)
{
    memset(set, 0, sizeof *set);
    set->entries = (const added_entry *)entries;
    set->n = h.n;
    set->text = text;
    set->only_byte = -1;
    int n_begin = 0;
    for (uint32_t i = 0; i < h.n; i++) {
        const added_entry *e = &set->entries[i];
        CRANK_CHECK(e->bytes >= 1 && e->bytes <= ADDED_MAX_BYTES && e->at <= h.text_bytes &&
                        e->bytes <= h.text_bytes - e->at && e->id >= 0 && e->id < n_ids,
                    FORMAT, error, "tokenizer image: added token %u is damaged", i);
        uint8_t first = text[e->at];
        if (!set->can_begin[first]) n_begin++;
        set->can_begin[first] = 1;
        set->only_byte = n_begin == 1 ? first : -1;
    }
    return CRANK_OK;
}

crank_status added_check(const tok_image *image, int32_t n_ids, added_tokens *out,
                         crank_error *error)
{
    tok_section s = image->section[TOK_SECTION_ADDED];
    added_header h[2];
    CRANK_CHECK(s.bytes >= sizeof h, FORMAT, error, "tokenizer image: added tokens cut short");
    memcpy(h, s.at, sizeof h);
    uint64_t entries = ((uint64_t)h[0].n + h[1].n) * sizeof(added_entry);
    CRANK_CHECK(s.bytes == sizeof h + entries + h[0].text_bytes + (uint64_t)h[1].text_bytes, FORMAT,
                error, "tokenizer image: added tokens of %zu bytes", s.bytes);
    const uint8_t *at = s.at + sizeof h, *text = at + entries;
    CRANK_TRY(check_set(&out->raw, at, text, h[0], n_ids, error));
    return check_set(&out->normalized, at + h[0].n * sizeof(added_entry), text + h[0].text_bytes,
                     h[1], n_ids, error);
}

/* ---- searching
 * ----------------------------------------------------------------------------------- */

/* The first entry of [low, high), all of which share `depth` bytes, whose next byte is >= c (> c
 * with after = 1); an entry of exactly `depth` bytes comes before all. */
static uint32_t bound(const added_set *set, uint32_t low, uint32_t high, size_t depth, unsigned c,
                      unsigned after)
{
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const added_entry *e = &set->entries[middle];
        bool before = e->bytes <= depth || set->text[e->at + depth] < c + after;
        if (before)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static const added_entry *longest_at(const added_set *set, const uint8_t *text, size_t bytes)
{
    const added_entry *best = NULL;
    uint32_t low = 0, high = set->n;
    for (size_t depth = 0; depth < bytes && low < high; depth++) {
        unsigned c = text[depth];
        low = bound(set, low, high, depth, c, 0);
        high = bound(set, low, high, depth, c, 1);
        if (low < high && set->entries[low].bytes == depth + 1) best = &set->entries[low];
    }
    return best;
}

static unsigned flags_before(const uint8_t *text, size_t at, size_t *start)
{
    size_t i = at - 1;
    while (i > 0 && at - i < 4 && (text[i] & 0xC0) == 0x80) i--;
    uint32_t c;
    int width = utf8_decode(text + i, at - i, &c);
    if (width != (int)(at - i)) { /* a bad byte: U+FFFD, neither space nor word */
        *start = at - 1;
        return uni_flags(UTF8_REPLACEMENT);
    }
    *start = i;
    return uni_flags(c);
}

static unsigned flags_after(const uint8_t *text, size_t bytes, size_t at, size_t *end)
{
    uint32_t c;
    int width = utf8_decode(text + at, bytes - at, &c);
    *end = at + (size_t)(width < 0 ? -width : width);
    return uni_flags(c);
}

bool added_find(const added_set *set, const uint8_t *text, size_t bytes, size_t from, size_t until,
                size_t taken, bool specials_as_text, added_match *out)
{
    if (set->n == 0) return false;
    for (size_t i = from; i < until; i++) {
        if (set->only_byte >= 0) {
            const uint8_t *hit = memchr(text + i, set->only_byte, until - i);
            if (hit == NULL) return false;
            i = (size_t)(hit - text);
        } else if (!set->can_begin[text[i]]) {
            continue;
        }
        const added_entry *e = longest_at(set, text + i, bytes - i);
        if (e == NULL) continue;
        size_t start = i, end = i + e->bytes, edge;
        out->from = end;
        /* A match that is turned down still uses up its text, as in Hugging Face's scan. */
        if (specials_as_text && (e->flags & ADDED_SPECIAL) != 0) {
            i = end - 1;
            continue;
        }
        if ((e->flags & ADDED_SINGLE_WORD) != 0 &&
            ((start > 0 && (flags_before(text, start, &edge) & UNI_WORD) != 0) ||
             (end < bytes && (flags_after(text, bytes, end, &edge) & UNI_WORD) != 0))) {
            i = end - 1;
            continue;
        }
        if ((e->flags & ADDED_LSTRIP) != 0)
            while (start > taken && (flags_before(text, start, &edge) & UNI_SPACE) != 0)
                start = edge > taken ? edge : taken;
        if ((e->flags & ADDED_RSTRIP) != 0)
            while (end < bytes && (flags_after(text, bytes, end, &edge) & UNI_SPACE) != 0)
                end = edge;
        out->start = start;
        out->end = end;
        out->id = e->id;
        return true;
    }
    return false;
}
