#include "server/tokens.h"

#include "runtime/tokenize.h"

#define BYTES_PER_TOKEN 8 /* of the first look; more is read when it was too little */
#define MARGIN 16         /* ids behind the cut that the end of a look may have spoilt */

static unsigned flags_of(int specials_as_text)
{
    return specials_as_text ? TOK_SPECIALS_AS_TEXT : TOK_DEFAULT;
}

/* The longest beginning of at most so many bytes that ends between characters. */
static size_t beginning(crank_text text, size_t bytes)
{
    if (bytes >= text.bytes) return text.bytes;
    while (bytes > 0 && ((unsigned char)text.data[bytes] & 0xC0) == 0x80) bytes--;
    return bytes;
}

static crank_status cut_locked(crank_tokenizer *t, crank_text *text, size_t most, unsigned flags,
                               int *cut, crank_error *error)
{
    size_t look = most < text->bytes / BYTES_PER_TOKEN ? most * BYTES_PER_TOKEN + 64 : text->bytes;
    for (;; look *= 2) {
        size_t bytes = beginning(*text, look);
        t->first.n = t->second.n = 0;
        CRANK_TRY(tok_encode_offsets(t->tok, t->scratch, text->data, bytes, flags, &t->first,
                                     &t->second, error));
        int whole = bytes == text->bytes;
        if (t->first.n > most && (whole || t->first.n >= most + MARGIN)) {
            size_t end = (size_t)t->second.ids[2 * most - 1];
            *cut = end < text->bytes;
            if (*cut) text->bytes = end;
            return CRANK_OK;
        }
        if (whole) return CRANK_OK;
    }
}

crank_status tokens_cut(const crank_tokenizer *shared, crank_text *text, size_t most,
                        int specials_as_text, int *cut, crank_error *error)
{
    crank_tokenizer *t = (crank_tokenizer *)(uintptr_t)shared; /* scratch behind the lock */
    *cut = 0;
    if (text->bytes <= most) return CRANK_OK; /* a token has a byte at least */
    pthread_mutex_lock(&t->lock);
    crank_status status = cut_locked(t, text, most, flags_of(specials_as_text), cut, error);
    pthread_mutex_unlock(&t->lock);
    return status;
}

crank_status tokens_plain(const crank_tokenizer *shared, crank_text text,
                          void (*visit)(void *user, size_t i, int32_t id), void *user,
                          crank_error *error)
{
    crank_tokenizer *t = (crank_tokenizer *)(uintptr_t)shared;
    pthread_mutex_lock(&t->lock);
    t->first.n = 0;
    crank_status status = tok_encode(t->tok, t->scratch, text.bytes > 0 ? text.data : "",
                                     text.bytes, TOK_DEFAULT, SIZE_MAX, &t->first, error);
    for (size_t i = 0; status == CRANK_OK && i < t->first.n; i++) visit(user, i, t->first.ids[i]);
    pthread_mutex_unlock(&t->lock);
    return status;
}

static void count_id(void *user, size_t i, int32_t id)
{
    (void)i, (void)id;
    ++*(size_t *)user;
}

crank_status tokens_of_windows(const crank_tokenizer *shared, crank_text query, size_t max_length,
                               size_t overlap, size_t n, size_t *tokens, crank_error *error)
{
    size_t n_query = 0;
    CRANK_TRY(tokens_plain(shared, query, count_id, &n_query, error));
    size_t added = (size_t)tokenizer_info(shared->tok)->n_added_pair;
    size_t room = max_length > added + 2 ? max_length - added : 2;
    size_t share = room - (n_query < room / 2 ? n_query : room / 2);
    if (overlap == 0) overlap = share / 4;
    size_t step = overlap < share ? share - overlap : 1;
    *tokens = share + (n - 1) * step;
    return CRANK_OK;
}
