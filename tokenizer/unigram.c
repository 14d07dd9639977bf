/* The Unigram model: row, check, and the encoding of a word (Viterbi). Layout in unigram.h.
 *
 * The best cut maximises the sum of the pieces' scores, in double as the file gives them, added
 * from the left; where no one-character piece matches, an unknown character costs the lowest score
 * minus 10. Unknown neighbours are joined, and what they spell is looked up once more: a piece, or
 * its bytes, or one unknown token. That is Hugging Face's encode_optimized. Source: Kudo 2018. */
#include "tokenizer/unigram.h"

#include <math.h>

#include "tokenizer/model.h"
#include "tokenizer/unigram_compile.h"

static unigram_view view(const uint8_t *at)
{
    const unigram_header *h = (const unigram_header *)at;
    const double *scores = (const double *)(h + 1);
    unigram_view v = {h, scores, (const unigram_unit *)(scores + h->n_ids)};
    return v;
}

static inline bool hides(unigram_hidden hidden, uint32_t id)
{
    return hidden.is_hidden != NULL && hidden.is_hidden(hidden.context, id);
}

static inline size_t character_width(uint8_t lead)
{
    return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

/* The unit that all of text leads to, or NULL. */
static const unigram_unit *walk(const unigram_view *v, const uint8_t *text, size_t bytes)
{
    if (bytes > v->header->longest) return NULL;
    uint32_t base = v->header->root;
    const unigram_unit *unit = NULL;
    for (size_t i = 0; i < bytes; i++) {
        unit = &v->units[base ^ text[i]];
        if ((unit->link & 0xFF) != text[i]) return NULL;
        base = unit->link >> 8;
    }
    return unit;
}

uint32_t unigram_find(const unigram_view *v, const uint8_t *text, size_t bytes,
                      unigram_hidden hidden)
{
    const unigram_unit *unit = walk(v, text, bytes);
    if (unit == NULL || (unit->piece & UNIGRAM_ID) == 0) return UNIGRAM_NONE;
    uint32_t id = (unit->piece & UNIGRAM_ID) - 1;
    return hides(hidden, id) ? UNIGRAM_NONE : id;
}

void unigram_best_cut(const unigram_view *v, const uint8_t *word, size_t bytes,
                      unigram_hidden hidden, unigram_node *nodes)
{
    const unigram_unit *units = v->units;
    for (size_t i = 0; i <= bytes; i++) nodes[i].start = UNIGRAM_NONE;
    nodes[0].score = 0;
    nodes[0].id = 0;
    for (size_t start = 0, width; start < bytes; start += width) {
        width = character_width(word[start]);
        if (width > bytes - start) width = bytes - start;
        double before = nodes[start].score;
        bool single = false;
        size_t end = bytes - start > v->header->longest ? start + v->header->longest : bytes;
        uint32_t base = v->header->root;
        for (size_t at = start; at < end;) {
            const unigram_unit *unit = &units[base ^ word[at]];
            if ((unit->link & 0xFF) != word[at]) break;
            base = unit->link >> 8;
            at++;
            if (unit->piece == 0) continue;
            uint32_t id = (unit->piece & UNIGRAM_ID) - 1;
            if (hides(hidden, id)) continue;
            single |= at == start + width;
            double score = before + v->scores[id];
            if (nodes[at].start == UNIGRAM_NONE || score > nodes[at].score) {
                nodes[at].score = score;
                nodes[at].start = (uint32_t)start;
                nodes[at].id = id;
            }
        }
        unigram_node *next = &nodes[start + width];
        double score = before + v->header->unk_score;
        if (!single && (next->start == UNIGRAM_NONE || score > next->score)) {
            next->score = score;
            next->start = (uint32_t)start;
            next->id = v->header->unk;
        }
    }
}

/* ---- the row ---------------------------------------------------------------------------------*/

static bool is_special(const void *context, uint32_t id)
{
    return vocab_is_special(context, (int32_t)id);
}

/* A run of unknown characters. */
static crank_status push_unknown(const unigram_view *v, unigram_hidden hidden, const uint8_t *word,
                                 size_t start, size_t end, tok_ids *out, tok_ids *spans,
                                 crank_error *error)
{
    uint32_t id = unigram_find(v, word + start, end - start, hidden);
    if (id == UNIGRAM_NONE && v->header->byte_fallback != 0) {
        size_t i = start;
        while (i < end && v->header->byte_id[word[i]] != UNIGRAM_NONE) i++;
        if (i == end) {
            for (i = start; i < end; i++)
                CRANK_TRY(tok_ids_push(out, spans, (int32_t)v->header->byte_id[word[i]], start, end,
                                       error));
            return CRANK_OK;
        }
    }
    if (id == UNIGRAM_NONE) id = v->header->unk;
    return tok_ids_push(out, spans, (int32_t)id, start, end, error);
}

static crank_status unigram_encode_word(const tok_image *image, tok_scratch *scratch,
                                        const uint8_t *word, size_t bytes, unsigned flags,
                                        size_t max_ids, tok_ids *out, tok_ids *spans,
                                        crank_error *error)
{
    unigram_view v = view(image->section[TOK_SECTION_MODEL].at);
    unigram_hidden hidden = {image, (flags & TOK_SPECIALS_AS_TEXT) != 0 ? is_special : NULL};
    const unigram_unit *whole = walk(&v, word, bytes);
    if (whole != NULL && (whole->piece & UNIGRAM_WHOLE) != 0) {
        uint32_t id = (whole->piece & UNIGRAM_ID) - 1;
        if (!hides(hidden, id)) return tok_ids_push(out, spans, (int32_t)id, 0, bytes, error);
    }

    CRANK_CHECK(bytes < UINT32_MAX, LIMIT, error, "a word of %zu bytes", bytes);
    unigram_node *nodes = tok_scratch_take(scratch, 0, (bytes + 1) * sizeof *nodes);
    CRANK_CHECK(nodes != NULL, OUT_OF_MEMORY, error, "no memory for a word of %zu bytes", bytes);
    unigram_best_cut(&v, word, bytes, hidden, nodes);

    /* Turn the links round: node.start becomes the next piece's end, read from the left. */
    uint32_t end = (uint32_t)bytes, next_end = UNIGRAM_NONE, next_id = UNIGRAM_NONE;
    for (;;) {
        unigram_node *node = &nodes[end];
        uint32_t start = end > 0 ? node->start : 0, id = node->id;
        node->start = next_end;
        node->id = next_id;
        if (end == 0) break;
        next_end = end;
        next_id = id;
        end = start;
    }
    for (size_t at = 0; at < bytes && out->n <= max_ids;) {
        size_t piece_end = nodes[at].start;
        uint32_t id = nodes[at].id;
        if (id != v.header->unk) {
            CRANK_TRY(tok_ids_push(out, spans, (int32_t)id, at, piece_end, error));
        } else {
            while (piece_end < bytes && nodes[piece_end].id == v.header->unk)
                piece_end = nodes[piece_end].start;
            CRANK_TRY(push_unknown(&v, hidden, word, at, piece_end, out, spans, error));
        }
        at = piece_end;
    }
    return CRANK_OK;
}

static crank_status unigram_check(const tok_image *image, crank_error *error)
{
    static const char what[] = "tokenizer image: Unigram";
    tok_section s = image->section[TOK_SECTION_MODEL];
    CRANK_CHECK(s.at != NULL && s.bytes >= sizeof(unigram_header), FORMAT, error,
                "%s: a section of %zu bytes", what, s.bytes);
    const unigram_header *h = (const unigram_header *)s.at;
    uint64_t expected = sizeof *h + (uint64_t)h->n_ids * sizeof(double) +
                        (uint64_t)h->n_units * sizeof(unigram_unit);
    CRANK_CHECK(h->n_units >= 256 && h->n_units % 256 == 0 && h->n_units <= UNIGRAM_MAX_UNITS &&
                    expected == s.bytes,
                FORMAT, error, "%s: %u scores and %u units in a section of %zu bytes", what,
                h->n_ids, h->n_units, s.bytes);
    CRANK_CHECK(h->n_ids <= (uint32_t)vocab_size(image) && h->unk < h->n_ids, FORMAT, error,
                "%s: %u scores for %d tokens, the unknown token is %u", what, h->n_ids,
                vocab_size(image), h->unk);
    CRANK_CHECK(h->root < h->n_units && h->longest <= TOK_MAX_TOKEN_BYTES, FORMAT, error,
                "%s: the root is unit %u of %u, the longest piece has %u bytes", what, h->root,
                h->n_units, h->longest);
    CRANK_CHECK(isfinite(h->unk_score), FORMAT, error, "%s: the unknown score is not finite", what);
    for (int i = 0; i < 256; i++)
        CRANK_CHECK(h->byte_id[i] < h->n_ids || h->byte_id[i] == UNIGRAM_NONE, FORMAT, error,
                    "%s: byte %d is token %u of %u", what, i, h->byte_id[i], h->n_ids);
    unigram_view v = view(s.at);
    for (uint32_t i = 0; i < h->n_ids; i++)
        CRANK_CHECK(isfinite(v.scores[i]), FORMAT, error, "%s: the score of token %u is not finite",
                    what, i);
    for (uint32_t i = 0; i < h->n_units; i++) {
        const unigram_unit *unit = &v.units[i];
        CRANK_CHECK(unit->link >> 8 < h->n_units && (unit->piece & UNIGRAM_ID) <= h->n_ids, FORMAT,
                    error, "%s: unit %u leads to unit %u of %u and token %u of %u", what, i,
                    unit->link >> 8, h->n_units, unit->piece & UNIGRAM_ID, h->n_ids);
        CRANK_CHECK(unit->piece == 0 || (unit->piece & UNIGRAM_ID) != 0, FORMAT, error,
                    "%s: unit %u has flags and no token", what, i);
    }
    return CRANK_OK;
}

const tok_model tok_model_unigram = {"Unigram",       "unigram",     false,
                                     unigram_compile, unigram_check, unigram_encode_word};
