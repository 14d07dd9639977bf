/* The vocabulary every model shares: the spelling of each id, a hash from spelling to id, and a
 * flag per id that says "special token". Section VOCABULARY of the image.
 *
 * While compiling, a model gives its entries to vocab_put (in any order, ids may have holes), the
 * added tokens follow, and vocab_write lays the section out. Spellings are those of tokenizer.json:
 * "##ing", "\u2581the", or byte-level characters ("\u0120the"), each UTF-8 by length. */
#ifndef CRANK_TOKENIZER_VOCAB_H
#define CRANK_TOKENIZER_VOCAB_H

#include "tokenizer/image.h"

typedef struct vocab_builder vocab_builder;

crank_status vocab_builder_open(vocab_builder **out, crank_error *error);
void vocab_builder_close(vocab_builder *v);

/* Adds an entry. Fails: FORMAT (id negative, above TOK_MAX_ID or taken by another spelling; more
 * than TOK_MAX_VOCABULARY entries; spelling longer than TOK_MAX_TOKEN_BYTES), OUT_OF_MEMORY.
 * A spelling that is there already moves to the new id and its old id becomes a hole, which is what
 * vocab.txt wants; readers of JSON, where that is an error, ask vocab_builder_id first. */
crank_status vocab_put(vocab_builder *v, const char *text, size_t bytes, int64_t id,
                       crank_error *error);
/* The id of a spelling, or -1. */
int32_t vocab_builder_id(const vocab_builder *v, const char *text, size_t bytes);
/* The spelling of an id, or NULL; valid until the next vocab_put. */
const char *vocab_builder_text(const vocab_builder *v, int32_t id, size_t *bytes);
int32_t vocab_builder_size(const vocab_builder *v); /* highest id + 1 */
void vocab_set_special(vocab_builder *v, int32_t id);
crank_status vocab_write(vocab_builder *v, image_builder *b, crank_error *error);

crank_status vocab_check(const tok_image *image, crank_error *error);
int32_t vocab_size(const tok_image *image);                               /* highest id + 1 */
int32_t vocab_id(const tok_image *image, const void *text, size_t bytes); /* -1: unknown */
/* NULL: outside the vocabulary or a hole. Not NUL-terminated. */
const char *vocab_text(const tok_image *image, int32_t id, size_t *bytes);
/* Is this id an added token marked special? Models that can reach such an id from plain text
 * (Unigram) skip it under TOK_SPECIALS_AS_TEXT. */
bool vocab_is_special(const tok_image *image, int32_t id);

#endif
