/* BertNormalizer as a step of its own: clean_text, handle_chinese_chars, strip_accents, lowercase,
 * in this order (Hugging Face tokenizers, normalizers/bert.rs; what each does to a code point is in
 * the tables of unicode.h). One pass: the only step that looks beyond one character is NFD's
 * canonical order, and stripping marks early does not disturb the order of the others, because a
 * stable sort keeps any subset in place, except that a mark of class 0 ends a run. */
#include "tokenizer/json.h"
#include "tokenizer/normalize.h"
#include "tokenizer/unicode.h"

static crank_status compile_bert(const json_t *step, image_builder *b, crank_error *error)
{
    const char *where = "normalizer BertNormalizer";
    bool clean, cjk, lower, strip;
    CRANK_TRY(tok_json_bool(step, where, "clean_text", true, &clean, error));
    CRANK_TRY(tok_json_bool(step, where, "handle_chinese_chars", true, &cjk, error));
    CRANK_TRY(tok_json_bool(step, where, "lowercase", true, &lower, error));
    CRANK_TRY(tok_json_bool(step, where, "strip_accents", lower, &strip, error));
    image_put_u32(b, (clean ? BERT_CLEAN_TEXT : 0u) | (cjk ? BERT_CJK : 0u) |
                         (strip ? BERT_STRIP_ACCENTS : 0u) | (lower ? BERT_LOWERCASE : 0u));
    return CRANK_OK;
}

static crank_status check_bert(tok_section payload, crank_error *error)
{
    CRANK_CHECK(payload.bytes == 4, FORMAT, error,
                "tokenizer image: BertNormalizer of %zu bytes, not 4", payload.bytes);
    return CRANK_OK;
}

/* What follows NFD for one character: mark or not, lowercase, canonical order. */
static void push_decomposed(uint32_t flags, tok_order *order, tok_text *out, uint32_t c,
                            tok_span span)
{
    const uni_record *r = uni_lookup(c);
    if ((flags & BERT_STRIP_ACCENTS) != 0) {
        if ((r->flags & UNI_MN) != 0 && !out->want_spans) {
            if (r->ccc == 0) tok_order_finish(order, out);
            return;
        }
        /* No character with a combining class has a lowercase, so the order is the same before and
         * after lowering; a test walks all of them. */
        uint32_t low[2] = {c, 0};
        int n = (flags & BERT_LOWERCASE) != 0 ? uni_lower(c, r, low) : 1;
        for (int k = 0; k < n; k++) tok_order_push(order, out, low[k], r->ccc, span);
        return;
    }
    uint32_t low[2] = {c, 0};
    int n = (flags & BERT_LOWERCASE) != 0 ? uni_lower(c, r, low) : 1;
    for (int k = 0; k < n; k++) tok_text_push_char(out, low[k], span);
}

/* Takes the marks out of a text in place. */
static void drop_marks(tok_text *t)
{
    size_t kept = 0;
    for (size_t i = 0, width; i < t->n; i += width) {
        uint32_t c;
        width = (size_t)utf8_decode(t->bytes + i, t->n - i, &c);
        if ((uni_flags(c) & UNI_MN) != 0) continue;
        memmove(t->bytes + kept, t->bytes + i, width);
        memmove(t->spans + kept, t->spans + i, width * sizeof(tok_span));
        kept += width;
    }
    t->n = kept;
}

static void apply_bert(tok_section payload, const tok_text *in, tok_text *out)
{
    uint32_t flags, c, parts[UNI_MAX_DECOMPOSITION];
    memcpy(&flags, payload.at, sizeof flags);
    tok_order order = {0};
    for (size_t i = 0, width; i < in->n; i += width) {
        width = (size_t)utf8_decode(in->bytes + i, in->n - i, &c);
        tok_span span = tok_text_span(in, i, i + width);
        unsigned uni = uni_flags(c);
        if ((flags & BERT_CLEAN_TEXT) != 0) {
            if ((uni & UNI_DROP) != 0) continue;
            if ((uni & UNI_CLEAN_SPACE) != 0) {
                c = ' ';
                uni = uni_flags(c);
            }
        }
        bool pad = (flags & BERT_CJK) != 0 && (uni & UNI_CJK) != 0;
        if (pad) push_decomposed(flags, &order, out, ' ', span);
        if ((flags & BERT_STRIP_ACCENTS) != 0 && (uni & UNI_NFD) != 0) {
            int n = uni_nfd(c, parts);
            for (int k = 0; k < n; k++) push_decomposed(flags, &order, out, parts[k], span);
        } else {
            push_decomposed(flags, &order, out, c, span);
        }
        if (pad) push_decomposed(flags, &order, out, ' ', span);
    }
    tok_order_finish(&order, out);
    /* With offsets the marks go last, because the places that a sort gives depend on all of them.
     */
    if (out->want_spans && (flags & BERT_STRIP_ACCENTS) != 0 && out->failed == CRANK_OK)
        drop_marks(out);
}

const tok_normalizer tok_normalizer_bert = {"BertNormalizer", 1, compile_bert, check_bert,
                                            apply_bert};
