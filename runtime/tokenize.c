#include "runtime/tokenize.h"

#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "memory.h"
#include "runtime/reader.h"

#define BYTES_PER_TOKEN 8 /* of crank_cut's first look; more is read when it was too little */
#define SPOILT_TOKENS 16  /* at the end of a look: what follows may change them */

static crank_status wrap(crank_tokenizer **out, crank_error *error)
{
    crank_tokenizer *t = mem_zero(1, sizeof *t);
    CRANK_CHECK(t != NULL, OUT_OF_MEMORY, error, "no memory for a tokenizer");
    pthread_mutex_init(&t->lock, NULL);
    *out = t;
    crank_status status = tok_scratch_open(&t->scratch, error);
    if (status != CRANK_OK) {
        crank_tokenizer_close(t);
        *out = NULL;
    }
    return status;
}

crank_status tokenize_open_folder(crank_tokenizer **out, const char *dir, crank_error *error)
{
    CRANK_TRY(wrap(out, error));
    crank_status status = tokenizer_open(&(*out)->tok, dir, error);
    if (status != CRANK_OK) {
        crank_tokenizer_close(*out);
        *out = NULL;
    }
    return status;
}

crank_status tokenize_open_converted(crank_tokenizer **out, const safetensors *file,
                                     const uint8_t *host_data, crank_error *error)
{
    *out = NULL;
    const st_tensor *tensor = safetensors_find(file, READER_TOKENIZER_TENSOR);
    CRANK_CHECK(tensor != NULL, IO, error,
                "the model was converted from a folder without tokenizer files");
    CRANK_TRY(wrap(out, error));
    crank_tokenizer *t = *out;
    crank_status status = CRANK_OK;
    const void *image = NULL;
    if (host_data != NULL) {
        image = host_data + (tensor->offset - safetensors_data_start(file, 0));
    } else {
        t->image = mem_alloc_aligned((size_t)tensor->bytes);
        CRANK_CHECK_GOTO(t->image != NULL, OUT_OF_MEMORY, error, "no memory for the tokenizer");
        CRANK_TRY_GOTO(safetensors_read(file, tensor, t->image, error));
        image = t->image;
    }
    CRANK_TRY_GOTO(tokenizer_from_image(&t->tok, image, (size_t)tensor->bytes, error));
out:
    if (status != CRANK_OK) {
        crank_tokenizer_close(t);
        *out = NULL;
    }
    return status;
}

crank_status crank_tokenizer_open(crank_tokenizer **out, const char *path, crank_error *error)
{
    CRANK_CHECK(out != NULL && path != NULL, INVALID_ARGUMENT, error,
                "crank_tokenizer_open: tokenizer and path must not be NULL");
    *out = NULL;
    struct stat at;
    CRANK_CHECK(stat(path, &at) == 0, IO, error, "%s: no such folder or file", path);
    if (S_ISDIR(at.st_mode)) return tokenize_open_folder(out, path, error);
    safetensors *file = NULL;
    CRANK_TRY(safetensors_open(&file, path, error));
    crank_status status = tokenize_open_converted(out, file, NULL, error);
    safetensors_close(file);
    return status;
}

void crank_tokenizer_close(crank_tokenizer *t)
{
    if (t == NULL) return;
    tokenizer_close(t->tok);
    tok_scratch_close(t->scratch);
    tok_ids_free(&t->first);
    tok_ids_free(&t->second);
    mem_free_aligned(t->image);
    pthread_mutex_destroy(&t->lock);
    mem_free(t);
}

static crank_status tokenize(crank_tokenizer *t, crank_text text, const crank_text *document,
                             const crank_tokenize_options *options, crank_encoding *encoding,
                             crank_error *error)
{
    unsigned flags = options->specials_as_text ? TOK_SPECIALS_AS_TEXT : TOK_DEFAULT;
    t->first.n = t->second.n = 0;
    CRANK_TRY(tok_encode(t->tok, t->scratch, text.bytes > 0 ? text.data : "", text.bytes, flags,
                         SIZE_MAX, &t->first, error));
    size_t n2 = SIZE_MAX;
    if (document != NULL) {
        CRANK_TRY(tok_encode(t->tok, t->scratch, document->bytes > 0 ? document->data : "",
                             document->bytes, flags, SIZE_MAX, &t->second, error));
        n2 = t->second.n;
    }
    tok_truncation truncation =
        options->truncation == CRANK_ONLY_SECOND ? TOK_ONLY_SECOND : TOK_LONGEST_FIRST;
    size_t keep1, keep2;
    CRANK_TRY(tok_pair_lengths(t->tok, t->first.n, n2, options->max_length, truncation, &keep1,
                               &keep2, error));
    if (document == NULL) keep2 = 0;
    const tok_info *info = tokenizer_info(t->tok);
    int added = options->no_template ? 0
                : document != NULL   ? info->n_added_pair
                                     : info->n_added_single;
    size_t n = keep1 + keep2 + (size_t)added;
    encoding->ids = mem_array(n, sizeof *encoding->ids);
    encoding->types = mem_array(n, sizeof *encoding->types);
    if (encoding->ids == NULL || encoding->types == NULL) {
        crank_encoding_free(encoding);
        return status_fail(error, CRANK_OUT_OF_MEMORY, "no memory for %zu tokens", n);
    }
    if (options->no_template) {
        if (n > 0) memcpy(encoding->ids, t->first.ids, n * sizeof *encoding->ids);
        if (n > 0) memset(encoding->types, 0, n * sizeof *encoding->types);
        encoding->n = n;
        return CRANK_OK;
    }
    static const int32_t none[1] = {0};
    const int32_t *second = document == NULL ? NULL : t->second.ids != NULL ? t->second.ids : none;
    encoding->n = tok_pair_fill(t->tok, t->first.ids != NULL ? t->first.ids : none, keep1, second,
                                keep2, encoding->ids, encoding->types);
    return CRANK_OK;
}

crank_status crank_tokenize(const crank_tokenizer *shared, crank_text text,
                            const crank_text *document, const crank_tokenize_options *options,
                            crank_encoding *encoding, crank_error *error)
{
    CRANK_CHECK(shared != NULL && encoding != NULL, INVALID_ARGUMENT, error,
                "crank_tokenize: tokenizer and encoding must not be NULL");
    *encoding = (crank_encoding){0};
    crank_tokenize_options settings;
    CRANK_TRY(options_read(&settings, sizeof settings, options, "crank_tokenize_options", error));
    CRANK_CHECK(settings.truncation != CRANK_WINDOW, INVALID_ARGUMENT, error,
                "crank_tokenize: windows are made by crank_rank and crank_score only");
    CRANK_CHECK(!settings.no_template || (document == NULL && settings.max_length == 0),
                INVALID_ARGUMENT, error,
                "crank_tokenize: no_template is for single texts that are not cut");
    crank_tokenizer *t = (crank_tokenizer *)shared; /* scratch behind the lock */
    pthread_mutex_lock(&t->lock);
    crank_status status = tokenize(t, text, document, &settings, encoding, error);
    pthread_mutex_unlock(&t->lock);
    return status;
}

void crank_encoding_free(crank_encoding *encoding)
{
    if (encoding == NULL) return;
    mem_free(encoding->ids);
    mem_free(encoding->types);
    *encoding = (crank_encoding){0};
}

/* ---- cutting ---- */

/* The longest beginning of at most so many bytes that ends between characters. */
static size_t beginning(crank_text text, size_t bytes)
{
    if (bytes >= text.bytes) return text.bytes;
    while (bytes > 0 && ((unsigned char)text.data[bytes] & 0xC0) == 0x80) bytes--;
    return bytes;
}

static crank_status cut(crank_tokenizer *t, crank_text text, size_t most, unsigned flags,
                        size_t *bytes, crank_error *error)
{
    size_t look = most < text.bytes / BYTES_PER_TOKEN ? most * BYTES_PER_TOKEN + 64 : text.bytes;
    for (;; look *= 2) {
        size_t n = beginning(text, look);
        t->first.n = t->second.n = 0;
        CRANK_TRY(tok_encode_offsets(t->tok, t->scratch, text.data, n, flags, &t->first, &t->second,
                                     error));
        int whole = n == text.bytes;
        if (t->first.n > most && (whole || t->first.n >= most + SPOILT_TOKENS)) {
            *bytes = (size_t)t->second.ids[2 * most - 1];
            return CRANK_OK;
        }
        if (whole) return CRANK_OK;
    }
}

crank_status crank_cut(const crank_tokenizer *shared, crank_text text, size_t max_tokens,
                       int specials_as_text, size_t *bytes, crank_error *error)
{
    CRANK_CHECK(shared != NULL && bytes != NULL && max_tokens > 0, INVALID_ARGUMENT, error,
                "crank_cut: tokenizer and bytes must not be NULL, max_tokens not 0");
    CRANK_CHECK(text.data != NULL || text.bytes == 0, INVALID_ARGUMENT, error,
                "crank_cut: data is NULL but bytes is %zu", text.bytes);
    *bytes = text.bytes;
    /* Few bytes say nothing: U+FDFA is 3 of them and becomes 18 letters. */
    if (text.bytes == 0) return CRANK_OK;
    crank_tokenizer *t = (crank_tokenizer *)shared;
    unsigned flags = specials_as_text ? TOK_SPECIALS_AS_TEXT : TOK_DEFAULT;
    pthread_mutex_lock(&t->lock);
    crank_status status = cut(t, text, max_tokens, flags, bytes, error);
    pthread_mutex_unlock(&t->lock);
    return status;
}
