/* Encoding one text, inside: what the general path and the fused BERT path share. */
#ifndef CRANK_TOKENIZER_ENCODE_H
#define CRANK_TOKENIZER_ENCODE_H

#include "tokenizer/inside.h"
#include "tokenizer/scratch.h"

/* What does not change while one text is encoded. */
typedef struct encoding {
    const tokenizer *tok;
    tok_scratch *scratch;
    const uint8_t *text;
    size_t bytes;
    unsigned flags;
    size_t max_ids;
    tok_ids *out, *offsets; /* offsets NULL: not wanted */
    crank_error *error;
} encoding;

/* text[start, end) holds no raw added token: normalise, cut at normalised ones, pre-tokenise,
 * encode. Stops early once out holds more than max_ids ids. */
crank_status encode_piece(encoding *e, size_t start, size_t end);

/* The same for a tokenizer with tok->bert, in one pass and without offsets. */
crank_status encode_piece_bert(encoding *e, size_t start, size_t end);

#endif
