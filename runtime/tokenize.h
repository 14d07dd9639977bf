/* The public tokenizer: a tokenizer, the memory it stands in, and one scratch behind a lock, so
 * that threads may share it. (Sessions have scratches of their own and never take this lock.) */
#ifndef CRANK_RUNTIME_TOKENIZE_H
#define CRANK_RUNTIME_TOKENIZE_H

#include <pthread.h>

#include "crank.h"
#include "tokenizer/tokenizer.h"
#include "weights/safetensors.h"

struct crank_tokenizer {
    tokenizer *tok;
    void *image; /* owned bytes, NULL when they belong to a model's block or to tok */
    tok_scratch *scratch;
    tok_ids first, second; /* reused */
    pthread_mutex_t lock;
};

/* Fails with IO when there is no tokenizer (names what was looked for). */
crank_status tokenize_open_folder(crank_tokenizer **out, const char *dir, crank_error *error);
/* host_data: the file's data section in memory that outlives the tokenizer, or NULL (then read). */
crank_status tokenize_open_converted(crank_tokenizer **out, const safetensors *file,
                                     const uint8_t *host_data, crank_error *error);

#endif
