/* The normaliser steps that any tokenizer may list: Unicode normal forms, Lowercase, StripAccents,
 * Strip, Replace, Prepend. Each reads valid UTF-8 and writes valid UTF-8, one pass, linear time.
 *
 * Based on: Unicode Standard Annex 15; Hugging Face tokenizers' normalizers, whose tables are those
 * of unicode.h (9.0 for the normal forms, so characters younger than that pass unchanged). */
#include "tokenizer/normalize.h"

#include "tokenizer/json.h"
#include "tokenizer/unicode.h"

/* ---- canonical order --------------------------------------------------------------------------
 */

/* What Hugging Face's offsets say after a sort: a mark that came out of a decomposition shares the
 * place of the character before it, the others take the places of the run's original marks in
 * order. Here: spans of the former are set to `inserted` before the sort ... */
static const tok_span inserted = {UINT32_MAX, UINT32_MAX};

static bool same_span(tok_span a, tok_span b)
{
    return a.start == b.start && a.end == b.end;
}

static size_t char_width(const tok_text *t, size_t at)
{
    uint32_t c;
    return (size_t)utf8_decode(t->bytes + at, t->n - at, &c);
}

static void set_span(tok_text *t, size_t at, size_t width, tok_span span)
{
    for (size_t k = 0; k < width; k++) t->spans[at + k] = span;
}

static void mark_inserted(tok_text *out, size_t run, size_t end)
{
    tok_span before = run > 0 ? out->spans[run - 1] : inserted;
    for (size_t i = run, width; i < end; i += width) {
        width = char_width(out, i);
        tok_span span = out->spans[i];
        if (same_span(span, before)) set_span(out, i, width, inserted);
        before = span;
    }
}

/* ... and given their places after it: out[run, end) is the run as it was, out[end, n) sorted. */
static void place_sorted(tok_text *out, size_t run, size_t end)
{
    tok_span last = run > 0 ? out->spans[run - 1] : (tok_span){0, 0};
    for (size_t i = end, place = run, width; i < out->n; i += width) {
        width = char_width(out, i);
        if (!same_span(out->spans[i], inserted)) {
            while (same_span(out->spans[place], inserted)) place += char_width(out, place);
            last = out->spans[place];
            place += char_width(out, place);
        }
        set_span(out, i, width, last);
    }
}

/* Sorts out[run, end) by combining class, keeping equal classes in place: one pass per class that
 * occurs (at most 55 exist), gathered behind the text and moved back, so a run of a million marks
 * stays linear. */
static void sort_run(tok_text *out, size_t run)
{
    size_t end = out->n;
    bool seen[256] = {false};
    uint32_t c;
    for (size_t i = run; i < end;) {
        i += (size_t)utf8_decode(out->bytes + i, end - i, &c);
        seen[uni_lookup(c)->ccc] = true;
    }
    if (!tok_text_reserve(out, end - run)) return;
    if (out->want_spans) mark_inserted(out, run, end);
    for (unsigned class = 1; class < 256; class ++) {
        if (!seen[class]) continue;
        for (size_t i = run, width; i < end; i += width) {
            width = (size_t)utf8_decode(out->bytes + i, end - i, &c);
            if (uni_lookup(c)->ccc == class) tok_text_copy(out, out, i, i + width);
        }
    }
    if (out->want_spans) {
        place_sorted(out, run, end);
        memmove(out->spans + run, out->spans + end, (end - run) * sizeof(tok_span));
    }
    memmove(out->bytes + run, out->bytes + end, end - run);
    out->n = end;
}

void tok_order_finish(tok_order *order, tok_text *out)
{
    if (order->unsorted && out->failed == CRANK_OK) sort_run(out, order->run);
    order->unsorted = false;
    order->highest = 0;
}

void tok_order_push(tok_order *order, tok_text *out, uint32_t c, uint8_t ccc, tok_span span)
{
    if (ccc == 0) {
        if (order->highest != 0) tok_order_finish(order, out);
    } else {
        if (order->highest == 0) order->run = out->n;
        if (ccc < order->highest)
            order->unsorted = true;
        else
            order->highest = ccc;
    }
    tok_text_push_char(out, c, span);
}

/* ---- NFC NFD NFKC NFKD ------------------------------------------------------------------------
 */

/* The length of the longest prefix of in[at, n) that the form leaves alone whatever stands around
 * it: everything before the last character that has no bit of `changes` and no combining class. */
static size_t inert_prefix(const tok_text *in, size_t at, unsigned changes)
{
    size_t i = at, safe = at;
    while (i < in->n) {
        if (in->bytes[i] < 0x80) {
            safe = i++;
            continue;
        }
        uint32_t c;
        size_t width = (size_t)utf8_decode(in->bytes + i, in->n - i, &c);
        const uni_record *r = uni_lookup(c);
        if ((r->flags & changes) != 0 || r->ccc != 0) return safe - at;
        safe = i;
        i += width;
    }
    return in->n - at;
}

static void decompose(const tok_text *in, tok_text *out, bool compatibility)
{
    unsigned changes = UNI_NFD | (compatibility ? UNI_NFKD : 0u);
    uint32_t parts[UNI_MAX_DECOMPOSITION], c;
    tok_order order = {0};
    for (size_t i = 0, width; i < in->n; i += width) {
        if (in->bytes[i] < 0x80) {
            size_t n = inert_prefix(in, i, changes);
            if (n > 0) {
                tok_order_finish(&order, out);
                tok_text_copy(out, in, i, i + n);
                width = n;
                continue;
            }
        }
        width = (size_t)utf8_decode(in->bytes + i, in->n - i, &c);
        const uni_record *r = uni_lookup(c);
        tok_span span = tok_text_span(in, i, i + width);
        if ((r->flags & changes) == 0) {
            tok_order_push(&order, out, c, r->ccc, span);
            continue;
        }
        int n = compatibility ? uni_nfkd(c, parts) : uni_nfd(c, parts);
        for (int k = 0; k < n; k++)
            tok_order_push(&order, out, parts[k], uni_lookup(parts[k])->ccc, span);
    }
    tok_order_finish(&order, out);
}

/* Composes a decomposed text in place. A composite is never longer than its two parts together, so
 * the write position never passes the read position; marks between starter and joined mark move by
 * the difference, at most three times per starter (the deepest composites have four parts). */
static void compose(tok_text *t)
{
    size_t w = 0, starter_at = 0, starter_end = 0;
    uint32_t starter = 0, c;
    bool have_starter = false;
    uint8_t last = 0; /* class of the character before, 0 right after the starter */
    for (size_t r = 0, width; r < t->n; r += width) {
        width = (size_t)utf8_decode(t->bytes + r, t->n - r, &c);
        const uni_record *record = uni_lookup(c);
        bool adjacent = w == starter_end;
        uint32_t whole = 0;
        if (have_starter && (record->flags & UNI_SECOND) != 0 &&
            (adjacent || (last != 0 && last < record->ccc)))
            whole = uni_compose(starter, c);
        if (whole != 0) {
            uint8_t utf8[4];
            size_t n = (size_t)utf8_encode(whole, utf8), old = starter_end - starter_at;
            memmove(t->bytes + starter_at + n, t->bytes + starter_end, w - starter_end);
            memcpy(t->bytes + starter_at, utf8, n);
            if (t->want_spans) {
                tok_span span = t->spans[starter_at]; /* not the mark's: as Hugging Face has it */
                memmove(t->spans + starter_at + n, t->spans + starter_end,
                        (w - starter_end) * sizeof(tok_span));
                for (size_t i = 0; i < n; i++) t->spans[starter_at + i] = span;
            }
            w = w - old + n;
            starter_end = starter_at + n;
            starter = whole;
            continue;
        }
        memmove(t->bytes + w, t->bytes + r, width);
        if (t->want_spans) memmove(t->spans + w, t->spans + r, width * sizeof(tok_span));
        if (record->ccc == 0) {
            have_starter = true;
            starter = c;
            starter_at = w;
            starter_end = w + width;
        }
        last = record->ccc;
        w += width;
    }
    t->n = w;
}

/* Normal forms mostly meet text that is in them already: that part is copied. */
static bool copy_if_inert(const tok_text *in, tok_text *out, unsigned changes)
{
    if (inert_prefix(in, 0, changes) != in->n) return false;
    tok_text_copy(out, in, 0, in->n);
    return true;
}

static void apply_nfd(tok_section payload, const tok_text *in, tok_text *out)
{
    (void)payload;
    if (!copy_if_inert(in, out, UNI_NFD)) decompose(in, out, false);
}

static void apply_nfkd(tok_section payload, const tok_text *in, tok_text *out)
{
    (void)payload;
    if (!copy_if_inert(in, out, UNI_NFD | UNI_NFKD)) decompose(in, out, true);
}

static void apply_nfc(tok_section payload, const tok_text *in, tok_text *out)
{
    (void)payload;
    if (copy_if_inert(in, out, UNI_NFD | UNI_SECOND)) return;
    decompose(in, out, false);
    if (out->failed == CRANK_OK) compose(out);
}

static void apply_nfkc(tok_section payload, const tok_text *in, tok_text *out)
{
    (void)payload;
    if (copy_if_inert(in, out, UNI_NFD | UNI_NFKD | UNI_SECOND)) return;
    decompose(in, out, true);
    if (out->failed == CRANK_OK) compose(out);
}

static crank_status compile_nothing(const json_t *step, image_builder *b, crank_error *error)
{
    (void)step, (void)b, (void)error;
    return CRANK_OK;
}

const tok_normalizer tok_normalizer_nfc = {"NFC", 2, compile_nothing, NULL, apply_nfc};
const tok_normalizer tok_normalizer_nfd = {"NFD", 3, compile_nothing, NULL, apply_nfd};
const tok_normalizer tok_normalizer_nfkc = {"NFKC", 4, compile_nothing, NULL, apply_nfkc};
const tok_normalizer tok_normalizer_nfkd = {"NFKD", 5, compile_nothing, NULL, apply_nfkd};

/* ---- Lowercase, StripAccents, Strip -----------------------------------------------------------
 */

static void apply_lowercase(tok_section payload, const tok_text *in, tok_text *out)
{
    (void)payload;
    for (size_t i = 0, width; i < in->n; i += width) {
        uint32_t c, low[2];
        width = (size_t)utf8_decode(in->bytes + i, in->n - i, &c);
        const uni_record *r = uni_lookup(c);
        if ((r->flags & UNI_LOWER) == 0) {
            tok_text_copy(out, in, i, i + width);
            continue;
        }
        int n = uni_lower(c, r, low);
        for (int k = 0; k < n; k++)
            tok_text_push_char(out, low[k], tok_text_span(in, i, i + width));
    }
}

static void apply_strip_accents(tok_section payload, const tok_text *in, tok_text *out)
{
    (void)payload;
    size_t kept = 0;
    for (size_t i = 0, width; i < in->n; i += width) {
        uint32_t c;
        width = (size_t)utf8_decode(in->bytes + i, in->n - i, &c);
        if ((uni_flags(c) & UNI_MARK) == 0) continue;
        tok_text_copy(out, in, kept, i);
        kept = i + width;
    }
    tok_text_copy(out, in, kept, in->n);
}

const tok_normalizer tok_normalizer_lowercase = {"Lowercase", 6, compile_nothing, NULL,
                                                 apply_lowercase};
const tok_normalizer tok_normalizer_strip_accents = {"StripAccents", 7, compile_nothing, NULL,
                                                     apply_strip_accents};

enum { STRIP_LEFT = 1, STRIP_RIGHT = 2 };

static crank_status compile_strip(const json_t *step, image_builder *b, crank_error *error)
{
    bool left, right;
    CRANK_TRY(tok_json_bool(step, "normalizer Strip", "strip_left", true, &left, error));
    CRANK_TRY(tok_json_bool(step, "normalizer Strip", "strip_right", true, &right, error));
    image_put_u32(b, (left ? STRIP_LEFT : 0u) | (right ? STRIP_RIGHT : 0u));
    return CRANK_OK;
}

static crank_status check_u32(tok_section payload, crank_error *error)
{
    CRANK_CHECK(payload.bytes == 4, FORMAT, error, "tokenizer image: a step of %zu bytes, not 4",
                payload.bytes);
    return CRANK_OK;
}

static void apply_strip(tok_section payload, const tok_text *in, tok_text *out)
{
    uint32_t sides, c;
    memcpy(&sides, payload.at, sizeof sides);
    size_t start = 0, end = in->n;
    while ((sides & STRIP_LEFT) != 0 && start < end) {
        size_t width = (size_t)utf8_decode(in->bytes + start, end - start, &c);
        if ((uni_flags(c) & UNI_SPACE) == 0) break;
        start += width;
    }
    while ((sides & STRIP_RIGHT) != 0 && end > start) {
        size_t at = end - 1;
        while (at > start && (in->bytes[at] & 0xC0) == 0x80) at--;
        utf8_decode(in->bytes + at, end - at, &c);
        if ((uni_flags(c) & UNI_SPACE) == 0) break;
        end = at;
    }
    tok_text_copy(out, in, start, end);
}

const tok_normalizer tok_normalizer_strip = {"Strip", 8, compile_strip, check_u32, apply_strip};

/* ---- Prepend ----------------------------------------------------------------------------------
 */

static crank_status compile_prepend(const json_t *step, image_builder *b, crank_error *error)
{
    const char *text;
    size_t bytes;
    CRANK_TRY(tok_json_string(step, "normalizer Prepend", "prepend", &text, &bytes, error));
    CRANK_CHECK(text != NULL, FORMAT, error, "normalizer Prepend.prepend: missing");
    CRANK_CHECK(bytes <= 1024, LIMIT, error, "normalizer Prepend.prepend: %zu bytes, limit 1024",
                bytes);
    image_put(b, text, bytes);
    return CRANK_OK;
}

static crank_status check_utf8(tok_section payload, crank_error *error)
{
    CRANK_CHECK(payload.bytes <= 1024 &&
                    utf8_valid_prefix(payload.at, payload.bytes) == payload.bytes,
                FORMAT, error, "tokenizer image: the text of a step is not UTF-8");
    return CRANK_OK;
}

static void apply_prepend(tok_section payload, const tok_text *in, tok_text *out)
{
    if (in->n == 0) return;
    tok_span before = tok_text_span(in, 0, 1);
    before.end = before.start;
    tok_text_push(out, payload.at, payload.bytes, before);
    tok_text_copy(out, in, 0, in->n);
}

const tok_normalizer tok_normalizer_prepend = {"Prepend", 10, compile_prepend, check_utf8,
                                               apply_prepend};

/* ---- Nmt: sentencepiece's cleaning, for tokenizers that carry no character map
 * -------------------- */

static void apply_nmt(tok_section payload, const tok_text *in, tok_text *out)
{
    (void)payload;
    for (size_t i = 0, width; i < in->n; i += width) {
        uint32_t c;
        width = (size_t)utf8_decode(in->bytes + i, in->n - i, &c);
        if ((c >= 1 && c <= 8) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F || c == 0x8F ||
            c == 0x9F)
            continue;
        if (c == 9 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 ||
            (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
            c == 0xFEFF || c == 0xFFFD)
            tok_text_push_char(out, ' ', tok_text_span(in, i, i + width));
        else
            tok_text_copy(out, in, i, i + width);
    }
}

const tok_normalizer tok_normalizer_nmt = {"Nmt", 12, compile_nothing, NULL, apply_nmt};
