/* The general path of one text: cut at raw added tokens, normalise each piece, cut at normalised
 * added tokens, pre-tokenise, encode each word. Any tokenizer runs on it; bert_fast.c takes over
 * for the BERT pipeline when nobody asks for offsets. */
#include "tokenizer/encode.h"

#include <string.h>

/* Texts may grow on their way, but not without bound: NFKC's worst is 11 times. */
static size_t growth_limit(size_t bytes)
{
    return bytes <= (SIZE_MAX - 65536) / 64 ? bytes * 64 + 65536 : SIZE_MAX;
}

static crank_status text_status(const tok_text *text, crank_error *error)
{
    if (text->failed == CRANK_OK) return CRANK_OK;
    if (text->failed == CRANK_LIMIT)
        return status_fail(error, CRANK_LIMIT,
                           "the tokenizer's steps would make the text more than 64 times longer");
    return status_fail(error, CRANK_OUT_OF_MEMORY, "tokenizer: out of memory");
}

void normalizers_run(const normalizer_step *steps, int n, tok_text **text, tok_text **spare)
{
    for (int i = 0; i < n && (*text)->failed == CRANK_OK; i++) {
        tok_text *in = *text, *out = *spare;
        tok_text_begin(out, in->want_spans, in->limit);
        steps[i].row->apply(steps[i].payload, in, out);
        *text = out;
        *spare = in;
    }
}

/* text[start, end) as valid UTF-8: each maximal bad part becomes one U+FFFD. */
static void push_valid(tok_text *out, const uint8_t *text, size_t start, size_t end)
{
    size_t i = start;
    while (i < end && out->failed == CRANK_OK) {
        size_t n = utf8_valid_prefix(text + i, end - i);
        if (!out->want_spans) {
            tok_text_push(out, text + i, n, (tok_span){0, 0});
            i += n;
        } else {
            for (size_t stop = i + n; i < stop;) {
                uint32_t c;
                size_t width = (size_t)utf8_decode(text + i, stop - i, &c);
                tok_text_push(out, text + i, width, (tok_span){(uint32_t)i, (uint32_t)(i + width)});
                i += width;
            }
        }
        if (i < end) {
            uint32_t c;
            size_t bad = (size_t)-utf8_decode(text + i, end - i, &c);
            tok_text_push_char(out, c, (tok_span){(uint32_t)i, (uint32_t)(i + bad)});
            i += bad;
        }
    }
}

static crank_status push_token(encoding *e, int32_t id, size_t start, size_t end)
{
    return tok_ids_push(e->out, e->offsets, id, start, end, e->error);
}

/* Turns spans within word into offsets of the caller's text. */
static crank_status encode_word(encoding *e, const tok_text *text, const tok_word *word)
{
    const uint8_t *at = text->bytes + word->start;
    size_t bytes = word->end - word->start;
    if (e->offsets == NULL)
        return e->tok->model->encode_word(&e->tok->image, e->scratch, at, bytes, e->flags,
                                          e->max_ids, e->out, NULL, e->error);
    tok_ids *spans = &e->scratch->spans;
    spans->n = 0;
    CRANK_TRY(e->tok->model->encode_word(&e->tok->image, e->scratch, at, bytes, e->flags,
                                         e->max_ids, e->out, spans, e->error));
    for (size_t i = 0; i + 1 < spans->n; i += 2) {
        size_t start = word->start + (size_t)spans->ids[i];
        size_t end = word->start + (size_t)spans->ids[i + 1];
        tok_span span = start < end ? tok_text_span(text, start, end) : (tok_span){0, 0};
        CRANK_TRY(tok_ids_push(e->offsets, NULL, (int32_t)span.start, 0, 0, e->error));
        CRANK_TRY(tok_ids_push(e->offsets, NULL, (int32_t)span.end, 0, 0, e->error));
    }
    return CRANK_OK;
}

/* One normalised piece without added tokens: pre-tokenise and encode. */
static crank_status encode_words(encoding *e, const tok_text *text, size_t start, size_t end)
{
    if (start == end) return CRANK_OK;
    const tokenizer *tok = e->tok;
    tok_words *words = &e->scratch->words[0], *spare = &e->scratch->words[1];
    tok_words_begin(words, text->want_spans, text->limit);
    tok_text_copy(&words->text, text, start, end);
    tok_words_push(words, 0);
    for (int i = 0; i < tok->n_pretokenizers && words->text.failed == CRANK_OK; i++) {
        tok_words_begin(spare, text->want_spans, text->limit);
        tok->pretokenizers[i].row->apply(tok->pretokenizers[i].payload, words, spare);
        tok_words *swap = words;
        words = spare;
        spare = swap;
    }
    CRANK_TRY(text_status(&words->text, e->error));
    for (size_t i = 0; i < words->n && e->out->n <= e->max_ids; i++)
        CRANK_TRY(encode_word(e, &words->text, &words->words[i]));
    return CRANK_OK;
}

crank_status encode_piece(encoding *e, size_t start, size_t end)
{
    const tokenizer *tok = e->tok;
    tok_text *text = &e->scratch->text[0], *spare = &e->scratch->text[1];
    bool want_spans = e->offsets != NULL || (tok->asks_start && start == 0);
    tok_text_begin(text, want_spans, growth_limit(end - start));
    push_valid(text, e->text, start, end);
    normalizers_run(tok->normalizers, tok->n_normalizers, &text, &spare);
    CRANK_TRY(text_status(text, e->error));

    size_t at = 0, from = 0;
    added_match match;
    while (e->out->n <= e->max_ids &&
           added_find(&tok->added.normalized, text->bytes, text->n, from, text->n, at,
                      (e->flags & TOK_SPECIALS_AS_TEXT) != 0, &match)) {
        if (match.start > at) CRANK_TRY(encode_words(e, text, at, match.start));
        if (e->out->n > e->max_ids) return CRANK_OK; /* stopped early, before the token */
        tok_span span = tok_text_span(text, match.start, match.end);
        CRANK_TRY(push_token(e, match.id, span.start, span.end));
        at = match.end;
        from = match.from;
    }
    if (e->out->n > e->max_ids) return CRANK_OK;
    return encode_words(e, text, at, text->n);
}

/* Where a long text may be cut for the BERT path: behind the last ASCII space of the window, else
 * behind the first one after it. */
static size_t window_end(const encoding *e, size_t at)
{
    enum { WINDOW = 1 << 14 };
    if (e->bytes - at <= WINDOW) return e->bytes;
    for (size_t i = at + WINDOW; i > at; i--)
        if (e->text[i - 1] == ' ' || e->text[i - 1] == '\n') return i;
    for (size_t i = at + WINDOW; i < e->bytes; i++)
        if (e->text[i] == ' ' || e->text[i] == '\n') return i + 1;
    return e->bytes;
}

static crank_status encode(encoding *e)
{
    const tokenizer *tok = e->tok;
    CRANK_CHECK(e->bytes <= (size_t)1 << 30, LIMIT, e->error, "a text of %zu bytes, limit 2^30",
                e->bytes);
    bool fast = tok->bert != NULL && e->offsets == NULL;
    bool specials_as_text = (e->flags & TOK_SPECIALS_AS_TEXT) != 0;
    size_t at = 0, from = 0;
    while (at < e->bytes && e->out->n <= e->max_ids) {
        /* The search for added tokens looks no further ahead than the text will be encoded, so that
         * a long text stops early in every respect. */
        size_t end = fast ? window_end(e, at) : e->bytes;
        added_match match;
        bool found =
            added_find(&tok->added.raw, e->text, e->bytes, from, end, at, specials_as_text, &match);
        if (found) end = match.start;
        if (end > at) CRANK_TRY(fast ? encode_piece_bert(e, at, end) : encode_piece(e, at, end));
        if (!found) {
            at = from = end;
            continue;
        }
        if (e->out->n > e->max_ids) break;
        CRANK_TRY(push_token(e, match.id, match.start, match.end));
        at = match.end;
        from = match.from; /* white space that rstrip took may hold a token all the same */
    }
    return CRANK_OK;
}

crank_status tok_encode(const tokenizer *tok, tok_scratch *scratch, const char *text, size_t bytes,
                        unsigned flags, size_t max_ids, tok_ids *out, crank_error *error)
{
    encoding e = {tok, scratch, (const uint8_t *)text, bytes, flags, max_ids, out, NULL, error};
    return encode(&e);
}

crank_status tok_encode_offsets(const tokenizer *tok, tok_scratch *scratch, const char *text,
                                size_t bytes, unsigned flags, tok_ids *out, tok_ids *offsets,
                                crank_error *error)
{
    encoding e = {tok, scratch, (const uint8_t *)text, bytes, flags, SIZE_MAX, out, offsets, error};
    return encode(&e);
}
