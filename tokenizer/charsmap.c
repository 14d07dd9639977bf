/* Normaliser "Precompiled": sentencepiece's compiled character map (NFKC and the like), applied as
 * Hugging Face does.
 *
 * The map is a darts-clone double array (u32 units) and a blob of NUL-terminated replacements. A
 * unit holds a label (low byte and bit 31), has_leaf (bit 8) and an offset; from unit index p the
 * byte c leads to p ^ c, then to p ^ offset; with has_leaf, the unit there is the value: an index
 * into the blob. Taken per extended grapheme cluster: a cluster of fewer than 6 bytes of which some
 * prefix is in the map is replaced whole by the shortest such prefix's replacement; otherwise each
 * of its characters is looked up alone, and stays if it is not there.
 *
 * Invariants (charsmap_check): the blob ends in NUL and is UTF-8, so that a replacement at any
 * index inside ends inside. Every index into the units is compared with their number on the way,
 * and each step eats a byte of text, so a trie with loops costs nothing. A value that points into
 * the middle of a character counts as no match.
 *
 * Source: github.com/s-yata/darts-clone (unit layout), facts from tokenizers 0.23.3. */
#include "tokenizer/charsmap.h"

#include <string.h>

#include "memory.h"
#include "tokenizer/graphemes.h"
#include "tokenizer/json.h"
#include "tokenizer/steps.h"

/* Clusters from this length on are looked up character by character. */
#define CLUSTER_LIMIT_BYTES 6

typedef struct charsmap_header {
    uint32_t n_units, blob_bytes;
    uint32_t root; /* the offset in unit 0 */
    uint32_t unused;
    uint64_t same[2]; /* bit c: the ASCII character c stands for itself when it is alone */
} charsmap_header;

typedef struct charsmap {
    const uint32_t *units;
    const char *blob;
    const charsmap_header *header;
} charsmap;

static inline uint32_t unit_offset(uint32_t unit)
{
    return (unit >> 10) << ((unit & 0x200) >> 6);
}

/* The replacement of the shortest prefix of text that the map knows, or NULL. */
static inline const char *find(const charsmap *map, const uint8_t *text, size_t bytes)
{
    uint32_t at = map->header->root, n_units = map->header->n_units;
    for (size_t i = 0; i < bytes; i++) {
        uint32_t c = text[i];
        at ^= c;
        if (c == 0 || at >= n_units) return NULL;
        uint32_t unit = map->units[at];
        if ((unit & 0x800000FFu) != c) return NULL;
        at ^= unit_offset(unit);
        if ((unit & 0x100) != 0) {
            if (at >= n_units) return NULL;
            uint32_t value = map->units[at] & 0x7FFFFFFFu;
            if (value >= map->header->blob_bytes) return NULL;
            const char *found = map->blob + value;
            return ((uint8_t)found[0] & 0xC0) == 0x80 ? NULL : found;
        }
    }
    return NULL;
}

static charsmap view(tok_section payload)
{
    const charsmap_header *header = (const charsmap_header *)payload.at;
    const uint32_t *units = (const uint32_t *)(header + 1);
    charsmap map = {units, (const char *)(units + header->n_units), header};
    return map;
}

/* ---- compile ---------------------------------------------------------------------------------*/

/* Follows every path from the root once: each state is an index before the byte is added. The
 * explicit stack holds each state at most once, so a looping trie ends as well. */
static crank_status check_reachable(const uint32_t *units, uint32_t n_units, uint32_t blob_bytes,
                                    const char *where, crank_error *error)
{
    crank_status status = CRANK_OK;
    uint8_t *seen = mem_zero(n_units, 1);
    uint32_t *stack = mem_array(n_units, sizeof *stack);
    CRANK_CHECK_GOTO(seen != NULL && stack != NULL, OUT_OF_MEMORY, error, "%s: no memory", where);
    size_t depth = 0;
    uint32_t root = unit_offset(units[0]);
    CRANK_CHECK_GOTO(root < n_units, FORMAT, error, "%s: the root leads to unit %u of %u", where,
                     root, n_units);
    stack[depth++] = root;
    seen[root] = 1;
    while (depth > 0) {
        uint32_t state = stack[--depth];
        for (uint32_t c = 1; c < 256; c++) {
            uint32_t at = state ^ c;
            if (at >= n_units || (units[at] & 0x800000FFu) != c) continue;
            uint32_t next = at ^ unit_offset(units[at]);
            CRANK_CHECK_GOTO(next < n_units, FORMAT, error, "%s: unit %u leads to unit %u of %u",
                             where, at, next, n_units);
            if ((units[at] & 0x100) != 0) {
                uint32_t value = units[next] & 0x7FFFFFFFu;
                CRANK_CHECK_GOTO(value < blob_bytes, FORMAT, error,
                                 "%s: unit %u points to replacement %u of %u bytes", where, next,
                                 value, blob_bytes);
            } else if (seen[next] == 0) {
                seen[next] = 1;
                stack[depth++] = next;
            }
        }
    }
out:
    mem_free(stack);
    mem_free(seen);
    return status;
}

crank_status charsmap_put(image_builder *b, const uint8_t *map, size_t bytes, const char *where,
                          crank_error *error)
{
    uint32_t trie_bytes = 0;
    CRANK_CHECK(bytes >= 8, FORMAT, error, "%s: %zu bytes are no character map", where, bytes);
    memcpy(&trie_bytes, map, 4);
    CRANK_CHECK(trie_bytes >= 4 && trie_bytes % 4 == 0 && trie_bytes < bytes - 4, FORMAT, error,
                "%s: a trie of %u bytes in a map of %zu", where, trie_bytes, bytes);
    size_t blob_bytes = bytes - 4 - trie_bytes;
    const uint8_t *blob = map + 4 + trie_bytes;
    CRANK_CHECK(blob_bytes <= INT32_MAX, LIMIT, error, "%s: %zu bytes of replacements", where,
                blob_bytes);
    CRANK_CHECK(blob[blob_bytes - 1] == 0, FORMAT, error, "%s: the replacements do not end in NUL",
                where);
    size_t valid = utf8_valid_prefix(blob, blob_bytes);
    CRANK_CHECK(valid == blob_bytes, FORMAT, error,
                "%s: the replacements are not UTF-8 at their byte %zu", where, valid);

    /* Aligned copy: the map comes out of base64 at offset 4 of a byte buffer. */
    uint32_t *units = mem_alloc(trie_bytes);
    CRANK_CHECK(units != NULL, OUT_OF_MEMORY, error, "%s: no memory", where);
    memcpy(units, map + 4, trie_bytes);
    crank_status status =
        check_reachable(units, trie_bytes / 4, (uint32_t)blob_bytes, where, error);
    if (status == CRANK_OK) {
        charsmap_header header = {
            trie_bytes / 4, (uint32_t)blob_bytes, unit_offset(units[0]), 0, {0, 0}};
        charsmap flat = {units, (const char *)blob, &header};
        for (uint8_t c = 0; c < 128; c++)
            if (find(&flat, &c, 1) == NULL) header.same[c >> 6] |= (uint64_t)1 << (c & 63);
        /* CR may begin the cluster CR LF, which is looked up as one. */
        header.same[0] &= ~((uint64_t)1 << '\r');
        image_put(b, &header, sizeof header);
        image_put(b, units, trie_bytes);
        image_put(b, blob, blob_bytes);
    }
    mem_free(units);
    return status;
}

static int base64_value(uint8_t c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* RFC 4648, padded, no white space. out: [bytes / 4 * 3]. */
static crank_status base64_decode(uint8_t *out, size_t *n_out, const char *text, size_t bytes,
                                  const char *where, crank_error *error)
{
    CRANK_CHECK(bytes % 4 == 0 && bytes > 0, FORMAT, error,
                "%s: base64 of %zu characters (not a positive multiple of 4)", where, bytes);
    size_t padding = text[bytes - 1] != '=' ? 0 : text[bytes - 2] != '=' ? 1 : 2;
    size_t n = 0;
    for (size_t i = 0; i < bytes; i += 4) {
        uint32_t word = 0;
        for (size_t k = i; k < i + 4; k++) {
            int value = k >= bytes - padding ? 0 : base64_value((uint8_t)text[k]);
            CRANK_CHECK(value >= 0, FORMAT, error, "%s: character %zu is not base64", where, k);
            word = word << 6 | (uint32_t)value;
        }
        out[n++] = (uint8_t)(word >> 16);
        out[n++] = (uint8_t)(word >> 8);
        out[n++] = (uint8_t)word;
    }
    *n_out = n - padding;
    return CRANK_OK;
}

static crank_status charsmap_compile(const json_t *step, image_builder *b, crank_error *error)
{
    static const char where[] = "normalizer.precompiled_charsmap";
    const char *text;
    size_t bytes, n = 0;
    CRANK_TRY(tok_json_string(step, "normalizer", "precompiled_charsmap", &text, &bytes, error));
    CRANK_CHECK(text != NULL, FORMAT, error, "%s is missing", where);
    uint8_t *map = mem_alloc(bytes / 4 * 3);
    CRANK_CHECK(map != NULL, OUT_OF_MEMORY, error, "%s: no memory for %zu bytes", where, bytes);
    crank_status status = base64_decode(map, &n, text, bytes, where, error);
    if (status == CRANK_OK) status = charsmap_put(b, map, n, where, error);
    mem_free(map);
    return status;
}

/* ---- check and apply -------------------------------------------------------------------------*/

static crank_status charsmap_check(tok_section payload, crank_error *error)
{
    CRANK_CHECK(payload.bytes >= sizeof(charsmap_header), FORMAT, error,
                "tokenizer image: a character map of %zu bytes", payload.bytes);
    const charsmap_header *header = (const charsmap_header *)payload.at;
    uint64_t expected =
        sizeof *header + (uint64_t)header->n_units * 4 + (uint64_t)header->blob_bytes;
    CRANK_CHECK(header->n_units > 0 && header->blob_bytes > 0 && expected == payload.bytes, FORMAT,
                error, "tokenizer image: a character map of %u units and %u bytes in %zu bytes",
                header->n_units, header->blob_bytes, payload.bytes);
    const uint8_t *blob = payload.at + sizeof *header + (size_t)header->n_units * 4;
    CRANK_CHECK(blob[header->blob_bytes - 1] == 0 &&
                    utf8_valid_prefix(blob, header->blob_bytes) == header->blob_bytes,
                FORMAT, error, "tokenizer image: a character map's replacements are not UTF-8");
    return CRANK_OK;
}

static inline size_t character_width(uint8_t lead)
{
    return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

static size_t characters(const uint8_t *text, size_t bytes)
{
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++) n += (text[i] & 0xC0) != 0x80;
    return n;
}

/* What the characters of out stand for, as Hugging Face counts it, which is the truth but where a
 * map removes what nothing stands before. A character takes one of the input's and as many more as
 * its `change` is below 0, or none, and stands where the one before it does, when that is above 0.
 * Of a longer replacement the last characters are so inserted; a shorter one charges its last
 * character, an empty one the character before it, whatever that was. */
typedef struct places {
    const tok_text *in;
    tok_text *out;
    size_t next; /* of in: the next character to take */
    size_t last,
        width; /* of out: the last character, whose change may still change; width 0: none */
    int64_t change;
} places;

static void settle(places *p)
{
    if (p->width == 0 || p->out->failed != CRANK_OK) return;
    const tok_text *in = p->in;
    size_t at = p->change > 0 && p->next > 0 ? p->next - 1 : p->next;
    tok_span span = in->spans[at < in->n ? at : in->n - 1];
    for (int64_t n = 1 - p->change; n > 0 && p->next < in->n; n--)
        p->next += character_width(in->bytes[p->next]);
    for (size_t i = 0; i < p->width; i++) p->out->spans[p->last + i] = span;
    p->width = 0;
}

static void push_counted(places *p, const uint8_t *text, size_t bytes, size_t replaced)
{
    tok_span later = {0, 0};
    size_t left = characters(text, bytes);
    int64_t more = (int64_t)left - (int64_t)replaced;
    for (size_t i = 0, width; i < bytes; i += width, left--) {
        width = character_width(text[i]);
        if (width > bytes - i) width = bytes - i;
        settle(p);
        p->last = p->out->n;
        p->width = width;
        p->change = more > 0 && (int64_t)left <= more;
        tok_text_push(p->out, text + i, width, later);
    }
    if (more < 0) p->change += more;
}

/* Appends what in[start, end) is replaced by. */
static void push_replacement(places *p, size_t start, size_t end, const char *found)
{
    const uint8_t *text = (const uint8_t *)found;
    size_t bytes = strlen(found);
    if (p->out->want_spans)
        push_counted(p, text, bytes, characters(p->in->bytes + start, end - start));
    else
        tok_text_push(p->out, text, bytes, tok_text_span(p->in, start, end));
}

/* Copies in[start, end) as it is. */
static void push_same(places *p, size_t start, size_t end)
{
    if (p->out->want_spans)
        push_counted(p, p->in->bytes + start, end - start,
                     characters(p->in->bytes + start, end - start));
    else
        tok_text_copy(p->out, p->in, start, end);
}

static void charsmap_apply(tok_section payload, const tok_text *in, tok_text *out)
{
    charsmap map = view(payload);
    const uint64_t *same = map.header->same;
    const uint8_t *text = in->bytes;
    size_t n = in->n, i = 0;
    places p = {.in = in, .out = out};
    while (i < n) {
        size_t run = i;
        while (run < n && text[run] < 0x80 && (same[text[run] >> 6] >> (text[run] & 63) & 1) != 0)
            run++;
        /* What follows may attach itself to the last character of the run. */
        if (run > i && run < n && text[run] >= 0x80) run--;
        if (run > i) {
            push_same(&p, i, run);
            i = run;
            if (i == n) break;
        }
        size_t end = i + grapheme_next(text + i, n - i);
        size_t width = character_width(text[i]);
        const char *found = end - i < CLUSTER_LIMIT_BYTES ? find(&map, text + i, end - i) : NULL;
        if (found != NULL) {
            push_replacement(&p, i, end, found);
        } else if (end - i == width && width < CLUSTER_LIMIT_BYTES) {
            push_same(&p, i, end); /* character by character it would fail again */
        } else {
            for (size_t k = i; k < end; k += width) {
                width = character_width(text[k]);
                found = find(&map, text + k, width);
                if (found != NULL)
                    push_replacement(&p, k, k + width, found);
                else
                    push_same(&p, k, k + width);
            }
        }
        i = end;
    }
    settle(&p);
}

const tok_normalizer tok_normalizer_charsmap = {"Precompiled", 9, charsmap_compile, charsmap_check,
                                                charsmap_apply};
