/* The BPE model: row, check and encoding of one word. Layout in bpe.h. */
#include "tokenizer/bpe.h"

#include <string.h>

#include "tokenizer/bpe_compile.h"
#include "tokenizer/model.h"

static bpe_view view(const uint8_t *at)
{
    const bpe_header *h = (const bpe_header *)at;
    bpe_view v = {.header = h, .merges = (const bpe_merge *)(h + 1)};
    v.words = (const bpe_word *)(v.merges + ((size_t)1 << h->merge_bits));
    v.chars = (const bpe_char *)(v.words + ((size_t)1 << h->word_bits));
    v.bytes = (const uint8_t *)(v.chars + ((size_t)1 << h->char_bits));
    return v;
}

static crank_status bpe_check(const tok_image *image, crank_error *error)
{
    static const char what[] = "tokenizer image: BPE";
    tok_section s = image->section[TOK_SECTION_MODEL];
    CRANK_CHECK(s.at != NULL && s.bytes >= sizeof(bpe_header), FORMAT, error,
                "%s: a section of %zu bytes", what, s.bytes);
    const bpe_header *h = (const bpe_header *)s.at;
    CRANK_CHECK(h->merge_bits <= BPE_MAX_TABLE_BITS && h->word_bits <= BPE_MAX_TABLE_BITS &&
                    h->char_bits <= BPE_MAX_TABLE_BITS,
                FORMAT, error, "%s: tables of 2^%u, 2^%u and 2^%u places", what, h->merge_bits,
                h->word_bits, h->char_bits);
    uint64_t tables = sizeof *h + ((uint64_t)sizeof(bpe_merge) << h->merge_bits) +
                      ((uint64_t)sizeof(bpe_word) << h->word_bits) +
                      ((uint64_t)sizeof(bpe_char) << h->char_bits);
    CRANK_CHECK(tables <= s.bytes && h->word_bytes == s.bytes - tables, FORMAT, error,
                "%s: tables of %llu bytes and %llu bytes of words in a section of %zu", what,
                (unsigned long long)tables, (unsigned long long)h->word_bytes, s.bytes);
    CRANK_CHECK(((h->flags & BPE_BYTE_LEVEL) != 0) == image->byte_level, FORMAT, error,
                "%s: byte level in the model and not in the pre-tokeniser, or the reverse", what);
    uint32_t n_ids = (uint32_t)vocab_size(image);
    CRANK_CHECK(h->unk < n_ids || h->unk == BPE_NONE, FORMAT, error,
                "%s: the unknown token is %u of %u", what, h->unk, n_ids);
    for (int i = 0; i < 256; i++)
        CRANK_CHECK(h->byte_id[i] < n_ids || h->byte_id[i] == BPE_NONE, FORMAT, error,
                    "%s: byte %d is token %u of %u", what, i, h->byte_id[i], n_ids);

    bpe_view v = view(s.at);
    size_t empty = 0;
    for (size_t i = 0; i < (size_t)1 << h->merge_bits; i++) {
        const bpe_merge *m = &v.merges[i];
        empty += m->rank == BPE_NONE;
        CRANK_CHECK(m->rank == BPE_NONE || m->id < n_ids, FORMAT, error,
                    "%s: a merge gives token %u of %u", what, m->id, n_ids);
    }
    CRANK_CHECK(empty > 0, FORMAT, error, "%s: the table of merges is full", what);
    empty = 0;
    for (size_t i = 0; i < (size_t)1 << h->word_bits; i++) {
        const bpe_word *w = &v.words[i];
        empty += w->id == BPE_NONE;
        CRANK_CHECK(w->id == BPE_NONE || (w->id < n_ids && w->offset <= h->word_bytes &&
                                          w->bytes <= h->word_bytes - w->offset),
                    FORMAT, error, "%s: word %u of %u at %u with %u bytes of %llu", what, w->id,
                    n_ids, w->offset, w->bytes, (unsigned long long)h->word_bytes);
    }
    CRANK_CHECK(empty > 0, FORMAT, error, "%s: the table of words is full", what);
    empty = 0;
    for (size_t i = 0; i < (size_t)1 << h->char_bits; i++) {
        empty += v.chars[i].id == BPE_NONE;
        CRANK_CHECK(v.chars[i].id == BPE_NONE || v.chars[i].id < n_ids, FORMAT, error,
                    "%s: a character is token %u of %u", what, v.chars[i].id, n_ids);
    }
    CRANK_CHECK(empty > 0, FORMAT, error, "%s: the table of characters is full", what);
    return CRANK_OK;
}

static crank_status bpe_encode_word(const tok_image *image, tok_scratch *scratch,
                                    const uint8_t *word, size_t bytes, unsigned flags,
                                    size_t max_ids, tok_ids *out, tok_ids *spans,
                                    crank_error *error)
{
    (void)max_ids; /* the first id of a word is not known before its last merge */
    bpe_view v = view(image->section[TOK_SECTION_MODEL].at);
    uint32_t whole = bpe_find_word(&v, word, bytes);
    if (whole != BPE_NONE &&
        !((flags & TOK_SPECIALS_AS_TEXT) != 0 && vocab_is_special(image, (int32_t)whole)))
        return tok_ids_push(out, spans, (int32_t)whole, 0, bytes, error);

    bpe_symbol few[BPE_SHORT_WORD], *symbols = few;
    void *work = NULL;
    if (bytes > BPE_SHORT_WORD) {
        CRANK_CHECK(bytes < UINT32_MAX, LIMIT, error, "a word of %zu bytes", bytes);
        work = tok_scratch_take(scratch, 0, BPE_WORK_BYTES(bytes));
        symbols = tok_scratch_take(scratch, 1, bytes * sizeof *symbols);
        CRANK_CHECK(work != NULL && symbols != NULL, OUT_OF_MEMORY, error,
                    "no memory for a word of %zu bytes", bytes);
    }
    size_t n = bpe_merge_word(&v, word, bytes, symbols, work);
    for (size_t i = 0; i < n; i++)
        CRANK_TRY(tok_ids_push(out, spans, (int32_t)symbols[i].id, symbols[i].start,
                               i + 1 < n ? symbols[i + 1].start : bytes, error));
    return CRANK_OK;
}

const tok_model tok_model_bpe = {"BPE", "bpe", true, bpe_compile, bpe_check, bpe_encode_word};
