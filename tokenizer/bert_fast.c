/* Almost all work of a BERT tokenizer is English text, so the path is built around a word of plain
 * ASCII letters and digits: sixteen bytes are loaded, lowered and classified at once; the word's
 * first eight bytes go from the register into the vocabulary's hash; nothing is written but its id.
 * Whatever is not that simple is collected in a buffer, character by character through the tables
 * of unicode.h, up to the same classified boundary: a combining mark may follow an ASCII letter, so
 * a word never ends merely because ASCII does.
 *
 * Invariants: `at` is the next byte to read; the word in hand is buffer[0, n) of `chars` characters
 * and began at text offset `word_start`; everything before word_start has become ids. Characters
 * whose order NFD may change and that survive it (83 of them, none in a BERT vocabulary) are left
 * to the general path: it encodes from word_start to the next ASCII white space, where both paths
 * agree that a word ends.
 *
 * Exactly equal to the general path; tests compare the two on every code point and on random
 * texts. */
#include "tokenizer/bert_fast.h"

#include "tokenizer/encode.h"
#include "tokenizer/normalize.h"
#include "tokenizer/unicode.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum { BLOCK = 16 };

typedef struct word_state {
    const bert_fast *fast;
    encoding *e;
    uint8_t *buffer; /* room for 4 * max_chars bytes, a block and WORDPIECE_PADDING */
    size_t n, chars;
    size_t limit; /* bytes that buffer keeps; a word that reaches it is unknown already */
} word_state;

/* load_block: sixteen bytes, lowered if the pipeline lowers, go to out, the first eight also to
 * *eight; returns how many of them, from the first, are ASCII letters or digits. */

#if defined(__SSE2__)

static inline __m128i in_range(__m128i v, char first, char last)
{
    return _mm_and_si128(_mm_cmpgt_epi8(v, _mm_set1_epi8((char)(first - 1))),
                         _mm_cmplt_epi8(v, _mm_set1_epi8((char)(last + 1))));
}

static inline unsigned load_block(const uint8_t *at, unsigned lower_bit, uint8_t *out,
                                  uint64_t *eight)
{
    __m128i v = _mm_loadu_si128((const __m128i *)at);
    __m128i bit = _mm_set1_epi8(0x20), folded = _mm_or_si128(v, bit);
    __m128i letter = in_range(folded, 'a', 'z');
    /* Bytes above 0x7F are negative and in no range. Folding changes '@'..'_' alone. */
    unsigned known = (unsigned)_mm_movemask_epi8(_mm_or_si128(letter, in_range(v, '0', '9')));
    __m128i low = _mm_or_si128(v, _mm_and_si128(letter, _mm_set1_epi8((char)lower_bit)));
    _mm_storeu_si128((__m128i *)out, low);
    _mm_storel_epi64((__m128i *)eight, low);
    return (unsigned)__builtin_ctz(~known);
}

#else

static inline unsigned load_block(const uint8_t *at, unsigned lower_bit, uint8_t *out,
                                  uint64_t *eight)
{
    unsigned run = BLOCK;
    for (unsigned i = BLOCK; i-- > 0;) {
        unsigned c = at[i], folded = c | 0x20;
        bool letter = folded - 'a' < 26u;
        if (!letter && c - '0' >= 10u) run = i;
        out[i] = (uint8_t)(letter ? c | lower_bit : c);
    }
    memcpy(eight, out, sizeof *eight);
    return run;
}

#endif

void bert_fast_open(bert_fast *out, const tok_image *image, uint32_t flags)
{
    memset(out, 0, sizeof *out);
    out->wp = wordpiece_of(image);
    out->flags = flags;
    for (unsigned c = 0; c < 256; c++) {
        unsigned uni = c < 128 ? uni_flags(c) : 0;
        bool clean = (flags & BERT_CLEAN_TEXT) != 0;
        if (c >= 128)
            out->class[c] = BERT_BYTE_WIDE;
        else if (clean && (uni & UNI_DROP) != 0)
            out->class[c] = BERT_BYTE_DROP;
        else if ((uni & UNI_SPACE) != 0)
            out->class[c] = BERT_BYTE_SPACE;
        else if ((uni & UNI_PUNCT) != 0)
            out->class[c] = BERT_BYTE_PUNCT;
        if (c >= 128) continue;
        out->lower[c] =
            (uint8_t)((flags & BERT_LOWERCASE) != 0 && c >= 'A' && c <= 'Z' ? c + 0x20 : c);
        uint8_t padded[1 + WORDPIECE_PADDING] = {(uint8_t)c};
        int32_t id = wordpiece_find(&out->wp, padded, 1, c, 0);
        out->alone_id[c] = id >= 0 && out->wp.max_chars >= 1 ? id : out->wp.unk_id;
    }
}

/* ---- words
 * ---------------------------------------------------------------------------------------- */

static inline crank_status push(encoding *e, int32_t id)
{
    tok_ids *out = e->out;
    if (__builtin_expect(out->n < out->capacity, 1)) {
        out->ids[out->n++] = id;
        return CRANK_OK;
    }
    return tok_ids_push(out, NULL, id, 0, 0, e->error);
}

/* A word that is no piece as a whole. */
static crank_status split_word(encoding *e, const wordpiece *wp, const uint8_t *word, size_t bytes)
{
    size_t before = e->out->n;
    for (size_t at = 0; at < bytes;) {
        int32_t id;
        size_t n = wordpiece_longest(wp, word + at, bytes - at, at > 0, &id);
        if (n == 0) {
            e->out->n = before;
            return push(e, wp->unk_id);
        }
        CRANK_TRY(push(e, id));
        at += n;
    }
    return CRANK_OK;
}

/* Ends the word in the buffer. */
static crank_status end_word(word_state *s)
{
    if (s->n == 0) return CRANK_OK;
    const wordpiece *wp = &s->fast->wp;
    size_t n = s->n, chars = s->chars;
    s->n = s->chars = 0;
    if (chars > wp->max_chars) return push(s->e, wp->unk_id);
    memset(s->buffer + n, 0, WORDPIECE_PADDING);
    return split_word(s->e, wp, s->buffer, n);
}

/* Appends a character to the word; past the limit only the count goes on. */
static inline void append(word_state *s, const uint8_t *utf8, size_t width)
{
    if (s->n < s->limit) {
        memcpy(s->buffer + s->n, utf8, width);
        s->n += width;
    }
    s->chars++;
}

static crank_status alone(word_state *s, const uint8_t *utf8, size_t width)
{
    CRANK_TRY(end_word(s));
    append(s, utf8, width);
    return end_word(s);
}

/* ---- characters outside ASCII
 * ---------------------------------------------------------------------- */

/* One character after cleaning, CJK and NFD: strips, lowers, appends or ends. hard: the general
 * path must take the word. */
static crank_status take_decomposed(word_state *s, uint32_t c, bool *hard, size_t *boundary,
                                    size_t after)
{
    const uni_record *r = uni_lookup(c);
    uint32_t flags = s->fast->flags, low[2] = {c, 0};
    if ((flags & BERT_STRIP_ACCENTS) != 0) {
        if ((r->flags & UNI_MN) != 0) return CRANK_OK;
        if (r->ccc != 0) {
            *hard = true;
            return CRANK_OK;
        }
    }
    int n = (flags & BERT_LOWERCASE) != 0 ? uni_lower(c, r, low) : 1;
    for (int k = 0; k < n; k++) {
        uint8_t utf8[4];
        size_t width = (size_t)utf8_encode(low[k], utf8);
        unsigned class = uni_flags(low[k]) & (UNI_SPACE | UNI_PUNCT);
        if (class == 0) {
            append(s, utf8, width);
            continue;
        }
        *boundary = after;
        if ((class & UNI_SPACE) != 0)
            CRANK_TRY(end_word(s));
        else
            CRANK_TRY(alone(s, utf8, width));
    }
    return CRANK_OK;
}

/* The character at text[at): *next is behind it; *boundary moves there when it ends a word. */
static crank_status take_wide(word_state *s, size_t at, size_t end, size_t *next, bool *hard,
                              size_t *boundary)
{
    uint32_t c, parts[UNI_MAX_DECOMPOSITION], flags = s->fast->flags;
    const uint8_t *text = s->e->text;
    int width = utf8_decode(text + at, end - at, &c);
    *next = at + (size_t)(width < 0 ? -width : width);
    unsigned uni = uni_flags(c);
    if ((flags & BERT_CLEAN_TEXT) != 0 && (uni & UNI_DROP) != 0) return CRANK_OK;
    /* Most characters are only part of their word. */
    if ((uni &
         (UNI_CLEAN_SPACE | UNI_SPACE | UNI_PUNCT | UNI_CJK | UNI_MN | UNI_NFD | UNI_LOWER)) == 0 &&
        uni_lookup(c)->ccc == 0) {
        uint8_t utf8[4];
        append(s, utf8, (size_t)utf8_encode(c, utf8));
        return CRANK_OK;
    }
    if ((flags & BERT_CLEAN_TEXT) != 0 && (uni & UNI_CLEAN_SPACE) != 0) {
        *boundary = *next;
        return end_word(s);
    }
    bool cjk = (flags & BERT_CJK) != 0 && (uni & UNI_CJK) != 0;
    if (cjk) {
        CRANK_TRY(end_word(s));
        *boundary = at;
    }
    int n = 1;
    parts[0] = c;
    if ((flags & BERT_STRIP_ACCENTS) != 0 && (uni & UNI_NFD) != 0) n = uni_nfd(c, parts);
    /* Ask before anything is taken: the general path starts again at the word's beginning. */
    for (int k = 0; k < n && (flags & BERT_STRIP_ACCENTS) != 0; k++) {
        const uni_record *r = uni_lookup(parts[k]);
        if ((r->flags & UNI_MN) == 0 && r->ccc != 0) *hard = true;
    }
    if (*hard) return CRANK_OK;
    for (int k = 0; k < n; k++) CRANK_TRY(take_decomposed(s, parts[k], hard, boundary, *next));
    if (cjk) {
        CRANK_TRY(end_word(s));
        *boundary = *next;
    }
    return CRANK_OK;
}

/* ---- the pass
 * --------------------------------------------------------------------------------------- */

static bool is_ascii_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r' && c != 0x0B && c != 0x0C);
}

/* Goes on with a word that is not one plain run: collects until a boundary and a little beyond,
 * back to where a new word may begin. *at moves on. */
static crank_status slow_word(word_state *s, size_t *at_io, size_t end)
{
    const bert_fast *fast = s->fast;
    const uint8_t *text = s->e->text;
    unsigned lower_bit = (fast->flags & BERT_LOWERCASE) != 0 ? 0x20 : 0;
    size_t at = *at_io, word_start = at;
    while (at < end) {
        uint8_t c = text[at];
        switch (fast->class[c]) {
        case BERT_BYTE_WORD:
            if (end - at >= BLOCK && s->n + BLOCK <= s->limit) {
                uint64_t eight;
                unsigned run = load_block(text + at, lower_bit, s->buffer + s->n, &eight);
                if (run > 0) {
                    s->n += run;
                    s->chars += run;
                    at += run;
                    break;
                }
            }
            append(s, &fast->lower[c], 1);
            at++;
            break;
        case BERT_BYTE_DROP: at++; break;
        case BERT_BYTE_WIDE: {
            bool hard = false;
            size_t next;
            CRANK_TRY(take_wide(s, at, end, &next, &hard, &word_start));
            if (hard) {
                s->n = s->chars = 0;
                while (next < end && !is_ascii_space(text[next])) next++;
                CRANK_TRY(encode_piece(s->e, word_start, next));
                *at_io = next;
                return CRANK_OK;
            }
            at = next;
            if (s->n == 0 && s->chars == 0 && s->e->out->n > s->e->max_ids) {
                *at_io = at;
                return CRANK_OK;
            }
            break;
        }
        default: /* space or punctuation: the word ends, the caller takes the byte */
            *at_io = at;
            return end_word(s);
        }
    }
    *at_io = at;
    return end_word(s);
}

crank_status encode_piece_bert(encoding *e, size_t start, size_t end)
{
    const bert_fast *fast = e->tok->bert;
    const wordpiece *wp = &fast->wp;
    const uint8_t *text = e->text;
    word_state s = {.fast = fast, .e = e, .limit = 4 * (size_t)wp->max_chars + BLOCK};
    s.buffer = tok_scratch_take(e->scratch, 1, s.limit + BLOCK + WORDPIECE_PADDING);
    CRANK_CHECK(s.buffer != NULL, OUT_OF_MEMORY, e->error, "tokenizer: out of memory");
    unsigned lower_bit = (fast->flags & BERT_LOWERCASE) != 0 ? 0x20 : 0;

    size_t at = start;
    while (at < end && e->out->n <= e->max_ids) {
        uint8_t edge[BLOCK] = {0}; /* the last bytes of a text, so that no load goes beyond it */
        const uint8_t *from = text + at;
        if (end - at < BLOCK) {
            memcpy(edge, from, end - at);
            from = edge;
        }
        uint64_t eight;
        unsigned run = load_block(from, lower_bit, s.buffer, &eight);
        size_t after = at + run;
        unsigned class = after < end ? fast->class[text[after]] : (unsigned)BERT_BYTE_SPACE;
        if (run > 0 && run < BLOCK && (class == BERT_BYTE_SPACE || class == BERT_BYTE_PUNCT)) {
            int32_t id = wordpiece_find(wp, s.buffer, run, wordpiece_low(eight, run), 0);
            if (id >= 0 && run <= wp->max_chars) {
                CRANK_TRY(push(e, id));
            } else {
                s.n = s.chars = run;
                CRANK_TRY(end_word(&s));
            }
        } else if (run > 0 || class == BERT_BYTE_WIDE || class == BERT_BYTE_WORD) {
            after = at;
            CRANK_TRY(slow_word(&s, &after, end));
            if (after >= end || e->out->n > e->max_ids) return CRANK_OK;
            class = fast->class[text[after]];
            if (class != BERT_BYTE_SPACE && class != BERT_BYTE_PUNCT) {
                at = after;
                continue;
            }
        }
        if (after < end && class == BERT_BYTE_PUNCT)
            CRANK_TRY(push(e, fast->alone_id[text[after]]));
        at = after + 1;
    }
    return CRANK_OK;
}
