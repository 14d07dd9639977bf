/* The WordPiece model: greedy longest match from the left; a word with a part that no piece
 * matches, or of more than max_input_chars_per_word characters, is one unknown token (Hugging Face
 * tokenizers, models/wordpiece; facts: the earlier pieces of such a word are thrown away). */
#include "tokenizer/wordpiece.h"

#include "memory.h"
#include "tokenizer/json.h"
#include "utf8.h"

enum { MAX_RUN = 512, MAX_SEEDS = 16, MAX_CHARS = 10000 };

static wordpiece view(const uint8_t *at, const wordpiece_header *h)
{
    wordpiece wp = {.seed = {wordpiece_seed(h->seed, 0), wordpiece_seed(h->seed, 1)},
                    .slot_mask = h->n_slots - 1,
                    .n_masks = h->n_masks,
                    .longest = h->longest,
                    .max_chars = h->max_chars,
                    .unk_id = (int32_t)h->unk_id};
    at += sizeof *h;
    wp.slot = (const wordpiece_slot *)at;
    at += (size_t)h->n_slots * sizeof(wordpiece_slot);
    wp.tail_at = (const uint32_t *)at;
    at += (size_t)h->n_slots * sizeof(uint32_t);
    wp.mask = (const uint32_t *)at;
    at += (size_t)h->n_masks * sizeof(uint32_t);
    wp.short_mask = at;
    wp.tail = at + 512;
    return wp;
}

wordpiece wordpiece_of(const tok_image *image)
{
    wordpiece_header h;
    memcpy(&h, image->section[TOK_SECTION_MODEL].at, sizeof h);
    return view(image->section[TOK_SECTION_MODEL].at, &h);
}

size_t wordpiece_longest(const wordpiece *wp, const uint8_t *word, size_t bytes,
                         unsigned continuation, int32_t *id)
{
    uint64_t eight = wordpiece_load(word);
    if (bytes >= 3) {
        uint32_t lengths =
            wp->mask[wordpiece_mask_index(eight, wp->seed[continuation], wp->n_masks)];
        if (bytes < 32) {
            lengths &= (1u << bytes) - 1;
        } else if (lengths >> 31 != 0) {
            for (size_t n = bytes < wp->longest ? bytes : wp->longest; n >= 32; n--) {
                *id = wordpiece_find(wp, word, n, eight, continuation);
                if (*id >= 0) return n;
            }
        }
        lengths &= 0x7FFFFFFF;
        while (lengths != 0) {
            unsigned n = 32 - (unsigned)__builtin_clz(lengths);
            *id = wordpiece_find(wp, word, n, wordpiece_low(eight, n), continuation);
            if (*id >= 0) return n;
            lengths &= ~(1u << (n - 1));
        }
    }
    unsigned shorts = wp->short_mask[continuation * 256 + word[0]];
    for (unsigned n = 2; n >= 1; n--) {
        if (n > bytes || (shorts >> (n - 1) & 1) == 0) continue;
        *id = wordpiece_find(wp, word, n, wordpiece_low(eight, n), continuation);
        if (*id >= 0) return n;
    }
    return 0;
}

static crank_status encode_word(const tok_image *image, tok_scratch *scratch, const uint8_t *word,
                                size_t bytes, unsigned flags, size_t max_ids, tok_ids *out,
                                tok_ids *spans, crank_error *error)
{
    (void)flags, (void)max_ids;
    wordpiece wp = wordpiece_of(image);
    size_t chars = 0;
    if (bytes <= 4 * (size_t)wp.max_chars)
        for (size_t i = 0; i < bytes; i++) chars += (word[i] & 0xC0) != 0x80;
    else
        chars = SIZE_MAX;
    if (chars > wp.max_chars) return tok_ids_push(out, spans, wp.unk_id, 0, bytes, error);

    uint8_t *padded = tok_scratch_take(scratch, 0, bytes + WORDPIECE_PADDING);
    CRANK_CHECK(padded != NULL, OUT_OF_MEMORY, error, "wordpiece: out of memory");
    memcpy(padded, word, bytes);
    memset(padded + bytes, 0, WORDPIECE_PADDING);
    size_t n_before = out->n, n_spans = spans != NULL ? spans->n : 0;
    for (size_t at = 0; at < bytes;) {
        int32_t id;
        size_t n = wordpiece_longest(&wp, padded + at, bytes - at, at > 0, &id);
        if (n == 0) {
            out->n = n_before;
            if (spans != NULL) spans->n = n_spans;
            return tok_ids_push(out, spans, wp.unk_id, 0, bytes, error);
        }
        CRANK_TRY(tok_ids_push(out, spans, id, at, at + n, error));
        at += n;
    }
    return CRANK_OK;
}

/* ---- compiling ----------------------------------------------------------------------------------
 */

typedef struct builder {
    wordpiece_header h;
    wordpiece_slot *slots;
    uint32_t *tail_at, *masks;
    uint8_t short_mask[512];
    char *tail;
    size_t tail_bytes;
    uint8_t *padded; /* one piece with zeros behind it, as the hash wants it */
} builder;

static void builder_close(builder *t)
{
    mem_free(t->slots);
    mem_free(t->tail_at);
    mem_free(t->masks);
    mem_free(t->tail);
    mem_free(t->padded);
}

/* false: the run of occupied slots is too long, try another seed. */
static bool put_piece(builder *t, const char *text, size_t bytes, uint32_t id,
                      unsigned continuation)
{
    uint8_t *padded = t->padded;
    memcpy(padded, text, bytes);
    memset(padded + bytes, 0, WORDPIECE_PADDING);
    uint64_t seed = wordpiece_seed(t->h.seed, continuation);
    uint64_t first = wordpiece_low(wordpiece_load(padded), bytes);
    uint32_t i = (uint32_t)wordpiece_hash(padded, bytes, first, seed) & (t->h.n_slots - 1);
    for (int run = 0; t->slots[i].bytes != 0; run++) {
        if (run == MAX_RUN) return false;
        i = (i + 1) & (t->h.n_slots - 1);
    }
    t->slots[i] = (wordpiece_slot){first, id, (uint16_t)bytes, (uint16_t)continuation};
    if (bytes > 8) {
        t->tail_at[i] = (uint32_t)t->tail_bytes;
        memcpy(t->tail + t->tail_bytes, text + 8, bytes - 8);
        t->tail_bytes += bytes - 8;
    }
    if (bytes <= 2)
        t->short_mask[continuation * 256 + padded[0]] |= (uint8_t)(1u << (bytes - 1));
    else
        t->masks[wordpiece_mask_index(first, seed, t->h.n_masks)] |=
            1u << (bytes < 32 ? bytes - 1 : 31);
    if (bytes > t->h.longest) t->h.longest = (uint32_t)bytes;
    return true;
}

static bool put_all(builder *t, const vocab_builder *v, const char *prefix, size_t prefix_bytes)
{
    for (int32_t id = 0; id < vocab_builder_size(v); id++) {
        size_t bytes;
        const char *text = vocab_builder_text(v, id, &bytes);
        if (text == NULL || bytes == 0) continue;
        if (!put_piece(t, text, bytes, (uint32_t)id, 0)) return false;
        if (bytes > prefix_bytes && memcmp(text, prefix, prefix_bytes) == 0 &&
            !put_piece(t, text + prefix_bytes, bytes - prefix_bytes, (uint32_t)id, 1))
            return false;
    }
    return true;
}

static crank_status build(builder *t, const vocab_builder *v, const char *prefix,
                          size_t prefix_bytes, crank_error *error)
{
    size_t pieces = 0, tail = 0;
    for (int32_t id = 0; id < vocab_builder_size(v); id++) {
        size_t bytes;
        if (vocab_builder_text(v, id, &bytes) == NULL) continue;
        pieces += 2;
        tail += 2 * bytes;
    }
    CRANK_CHECK(tail <= UINT32_MAX, LIMIT, error, "model.vocab: more than 4 GiB of text");
    unsigned bits = 4;
    while (((size_t)1 << bits) < pieces) bits++;
    t->h.n_slots = 1u << bits;
    t->h.n_masks = bits > 10 ? t->h.n_slots >> 4 : 64;
    t->slots = mem_array(t->h.n_slots, sizeof *t->slots);
    t->tail_at = mem_array(t->h.n_slots, sizeof *t->tail_at);
    t->masks = mem_array(t->h.n_masks, sizeof *t->masks);
    t->tail = mem_alloc(tail);
    t->padded = mem_alloc(TOK_MAX_TOKEN_BYTES + WORDPIECE_PADDING);
    CRANK_CHECK(t->slots && t->tail_at && t->masks && t->tail && t->padded, OUT_OF_MEMORY, error,
                "model.vocab: out of memory for %zu pieces", pieces / 2);
    for (t->h.seed = 0; t->h.seed < MAX_SEEDS; t->h.seed++) {
        memset(t->slots, 0, t->h.n_slots * sizeof *t->slots);
        memset(t->tail_at, 0, t->h.n_slots * sizeof *t->tail_at);
        memset(t->masks, 0, t->h.n_masks * sizeof *t->masks);
        memset(t->short_mask, 0, sizeof t->short_mask);
        t->tail_bytes = 0;
        t->h.longest = 0;
        if (put_all(t, v, prefix, prefix_bytes)) return CRANK_OK;
    }
    return status_fail(error, CRANK_LIMIT, "model.vocab: its pieces collide under every hash");
}

static crank_status read_vocabulary(const json_t *model, vocab_builder *v, crank_error *error)
{
    const json_t *vocab;
    CRANK_TRY(tok_json_object(model, "model", "vocab", true, &vocab, error));
    CRANK_CHECK(json_object_size(vocab) > 0, FORMAT, error, "model.vocab: empty");
    const char *text;
    json_t *id;
    json_object_foreach((json_t *)vocab, text, id)
    {
        CRANK_CHECK(json_is_number(id), FORMAT, error, "model.vocab.\"%.60s\": id is no integer",
                    text);
        double number = json_number_value(id);
        CRANK_CHECK(number >= 0 && number <= TOK_MAX_ID && number == (double)(int64_t)number,
                    FORMAT, error, "model.vocab.\"%.60s\": id %g is no integer in 0..%d", text,
                    number, TOK_MAX_ID);
        CRANK_TRY(vocab_put(v, text, strlen(text), (int64_t)number, error));
    }
    return CRANK_OK;
}

static crank_status compile(const json_t *model, image_builder *b, crank_error *error)
{
    CRANK_TRY(read_vocabulary(model, b->vocabulary, error));
    const char *prefix, *unk;
    size_t prefix_bytes, unk_bytes;
    CRANK_TRY(tok_json_string(model, "model", "continuing_subword_prefix", &prefix, &prefix_bytes,
                              error));
    if (prefix == NULL) {
        prefix = "##";
        prefix_bytes = 2;
    }
    CRANK_TRY(tok_json_string(model, "model", "unk_token", &unk, &unk_bytes, error));
    if (unk == NULL) {
        unk = "[UNK]";
        unk_bytes = 5;
    }
    int64_t max_chars;
    CRANK_TRY(tok_json_int(model, "model", "max_input_chars_per_word", 100, &max_chars, error));
    CRANK_CHECK(max_chars >= 0 && max_chars <= MAX_CHARS, UNSUPPORTED, error,
                "model.max_input_chars_per_word: %lld, expected 0..%d", (long long)max_chars,
                MAX_CHARS);
    int32_t unk_id = vocab_builder_id(b->vocabulary, unk, unk_bytes);
    CRANK_CHECK(unk_id >= 0, FORMAT, error, "model.unk_token: \"%.60s\" is not in the vocabulary",
                unk);

    builder t = {.h = {.unk_id = (uint32_t)unk_id, .max_chars = (uint32_t)max_chars}};
    crank_status status = build(&t, b->vocabulary, prefix, prefix_bytes, error);
    if (status == CRANK_OK) status = image_open_section(b, TOK_SECTION_MODEL, error);
    if (status == CRANK_OK) {
        t.h.tail_bytes = (uint32_t)t.tail_bytes;
        image_put(b, &t.h, sizeof t.h);
        image_put(b, t.slots, t.h.n_slots * sizeof *t.slots);
        image_put(b, t.tail_at, t.h.n_slots * sizeof *t.tail_at);
        image_put(b, t.masks, t.h.n_masks * sizeof *t.masks);
        image_put(b, t.short_mask, sizeof t.short_mask);
        image_put(b, t.tail, t.tail_bytes);
        status = image_close_section(b, error);
    }
    builder_close(&t);
    return status;
}

static crank_status check(const tok_image *image, crank_error *error)
{
    tok_section s = image->section[TOK_SECTION_MODEL];
    wordpiece_header h;
    CRANK_CHECK(s.bytes >= sizeof h, FORMAT, error, "tokenizer image: wordpiece cut short");
    memcpy(&h, s.at, sizeof h);
    CRANK_CHECK(h.n_slots >= 16 && h.n_slots <= 1u << 26 && (h.n_slots & (h.n_slots - 1)) == 0 &&
                    h.n_masks >= 1 && h.n_masks <= 1u << 26 && (h.n_masks & (h.n_masks - 1)) == 0 &&
                    h.max_chars <= MAX_CHARS && h.zero == 0 && h.longest <= TOK_MAX_TOKEN_BYTES,
                FORMAT, error, "tokenizer image: wordpiece header is damaged");
    uint64_t want = sizeof h + (uint64_t)h.n_slots * (sizeof(wordpiece_slot) + 4) +
                    (uint64_t)h.n_masks * 4 + 512 + h.tail_bytes;
    CRANK_CHECK(s.bytes == want, FORMAT, error,
                "tokenizer image: wordpiece of %zu bytes, expected %llu", s.bytes,
                (unsigned long long)want);
    uint32_t n_ids = (uint32_t)vocab_size(image);
    CRANK_CHECK(h.unk_id < n_ids, FORMAT, error, "tokenizer image: unknown token %u of %u",
                h.unk_id, n_ids);
    wordpiece wp = view(s.at, &h);
    uint32_t run = 0;
    for (uint32_t i = 0; i < h.n_slots; i++) {
        const wordpiece_slot *slot = &wp.slot[i];
        bool inside = slot->bytes <= 8 || (uint64_t)wp.tail_at[i] + slot->bytes - 8 <= h.tail_bytes;
        CRANK_CHECK(slot->bytes == 0 || (slot->id < n_ids && inside), FORMAT, error,
                    "tokenizer image: wordpiece slot %u is damaged", i);
        run = slot->bytes == 0 ? 0 : run + 1;
        CRANK_CHECK(run <= 4 * MAX_RUN && run < h.n_slots, FORMAT, error,
                    "tokenizer image: wordpiece hash is full");
    }
    return CRANK_OK;
}

const tok_model tok_model_wordpiece = {"WordPiece", "wordpiece", false,
                                       compile,     check,       encode_word};
