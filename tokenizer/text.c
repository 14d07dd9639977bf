/* Growable texts, words and ids, and the scratch that owns a thread's. */
#include "memory.h"
#include "tokenizer/scratch.h"

bool tok_text_reserve(tok_text *t, size_t more)
{
    if (t->failed != CRANK_OK) return false;
    size_t want;
    if (__builtin_add_overflow(t->n, more, &want) || want > t->limit) {
        t->failed = CRANK_LIMIT;
        return false;
    }
    if (want <= t->capacity) return true;
    size_t capacity = t->capacity + t->capacity / 2;
    if (capacity < want) capacity = want + 256;
    uint8_t *bytes = mem_resize(t->bytes, capacity, 1);
    tok_span *spans = NULL;
    if (bytes != NULL) t->bytes = bytes;
    if (bytes != NULL && t->want_spans) {
        spans = mem_resize(t->spans, capacity, sizeof *spans);
        if (spans != NULL) t->spans = spans;
    }
    if (bytes == NULL || (t->want_spans && spans == NULL)) {
        t->failed = CRANK_OUT_OF_MEMORY;
        return false;
    }
    t->capacity = capacity;
    return true;
}

void tok_text_begin(tok_text *t, bool want_spans, size_t limit)
{
    /* Without spans only the bytes grow: the first text that wants them starts from capacity 0. */
    if (want_spans && !t->want_spans) t->capacity = 0;
    t->want_spans = want_spans;
    t->limit = limit;
    tok_text_clear(t);
}

void tok_text_clear(tok_text *t)
{
    t->n = 0;
    t->failed = CRANK_OK;
}

void tok_text_free(tok_text *t)
{
    mem_free(t->bytes);
    mem_free(t->spans);
    memset(t, 0, sizeof *t);
}

void tok_words_begin(tok_words *w, bool want_spans, size_t limit)
{
    tok_text_begin(&w->text, want_spans, limit);
    w->n = 0;
}

void tok_words_push(tok_words *w, size_t start)
{
    if (w->text.n == start || w->text.failed != CRANK_OK) return;
    if (w->n == w->capacity) {
        size_t capacity = w->capacity * 2 + 64;
        tok_word *grown = mem_resize(w->words, capacity, sizeof *grown);
        if (grown == NULL) {
            w->text.failed = CRANK_OUT_OF_MEMORY;
            return;
        }
        w->words = grown;
        w->capacity = capacity;
    }
    w->words[w->n++] = (tok_word){start, w->text.n};
}

crank_status tok_scratch_open(tok_scratch **out, crank_error *error)
{
    *out = mem_zero(1, sizeof **out);
    CRANK_CHECK(*out != NULL, OUT_OF_MEMORY, error, "tokenizer scratch: out of memory");
    return CRANK_OK;
}

void tok_scratch_close(tok_scratch *scratch)
{
    if (scratch == NULL) return;
    for (int i = 0; i < 2; i++) {
        tok_text_free(&scratch->text[i]);
        tok_text_free(&scratch->words[i].text);
        mem_free(scratch->words[i].words);
    }
    tok_ids_free(&scratch->spans);
    for (int i = 0; i < TOK_SCRATCH_SLOTS; i++) mem_free_aligned(scratch->slot[i].at);
    mem_free(scratch);
}

void *tok_scratch_take(tok_scratch *scratch, int slot, size_t bytes)
{
    if (bytes > scratch->slot[slot].bytes || scratch->slot[slot].at == NULL) {
        size_t want = bytes + bytes / 2 + 256;
        if (want < bytes) return NULL;
        void *at = mem_alloc_aligned(want);
        if (at == NULL) return NULL;
        mem_free_aligned(scratch->slot[slot].at);
        scratch->slot[slot].at = at;
        scratch->slot[slot].bytes = want;
    }
    return scratch->slot[slot].at;
}

crank_status tok_ids_reserve(tok_ids *ids, size_t capacity, crank_error *error)
{
    if (capacity <= ids->capacity && ids->ids != NULL) return CRANK_OK;
    int32_t *grown = mem_resize(ids->ids, capacity, sizeof *grown);
    CRANK_CHECK(grown != NULL, OUT_OF_MEMORY, error, "token ids: out of memory for %zu", capacity);
    ids->ids = grown;
    ids->capacity = capacity;
    return CRANK_OK;
}

void tok_ids_free(tok_ids *ids)
{
    mem_free(ids->ids);
    memset(ids, 0, sizeof *ids);
}

static crank_status make_room(tok_ids *ids, size_t more, crank_error *error)
{
    if (ids->capacity - ids->n >= more && ids->ids != NULL) return CRANK_OK;
    return tok_ids_reserve(ids, ids->n + ids->n / 2 + more + 64, error);
}

crank_status tok_ids_push(tok_ids *out, tok_ids *spans, int32_t id, size_t start, size_t end,
                          crank_error *error)
{
    CRANK_TRY(make_room(out, 1, error));
    if (spans != NULL) {
        CRANK_TRY(make_room(spans, 2, error));
        spans->ids[spans->n++] = (int32_t)start;
        spans->ids[spans->n++] = (int32_t)end;
    }
    out->ids[out->n++] = id;
    return CRANK_OK;
}
