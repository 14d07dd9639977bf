/* Text to token ids, exactly as Hugging Face `tokenizers` 0.23.3 does it.
 *
 * A tokenizer is one flat, relocatable image (vocabulary hash, tries, merges, normaliser steps,
 * added tokens, pair template), compiled from a model folder's tokenizer.json, or from vocab.txt
 * and tokenizer_config.json. `crank convert` stores the image in the model file, so that opening a
 * 250,000-token vocabulary is one read and one linear check, no parsing. It is immutable and shared
 * by threads; everything that changes lives in a tok_scratch, one per thread.
 *
 * The path of a pair: tok_encode(query), tok_encode(document) -> tok_pair_lengths (truncation) ->
 * tok_pair_fill (template, type ids). A query is encoded once for all its documents. */
#ifndef CRANK_TOKENIZER_H
#define CRANK_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

typedef struct tokenizer tokenizer;
typedef struct tok_scratch tok_scratch;

/* What a reader of a model folder learns about its tokenizer. Pointers live as long as the
 * tokenizer. */
typedef struct tok_info {
    const char *model;  /* "wordpiece", "bpe", "unigram" */
    const char *source; /* "tokenizer.json", "vocab.txt", "converted file" */
    int32_t vocab_size; /* highest id + 1, added tokens included */
    int32_t unk_id, pad_id, cls_id, sep_id, mask_id, eos_id; /* -1: the file names none */
    int32_t n_added_single, n_added_pair; /* template tokens: BERT 2 and 3, RoBERTa 2 and 4 */
    int64_t model_max_length; /* tokenizer_config.json; 0: absent or the "very large" sentinel */
    const char *warning;      /* e.g. tokenizer_config.json overrides tokenizer.json; NULL: none */
} tok_info;

/* Reads DIR/tokenizer.json, or DIR/vocab.txt with DIR/tokenizer_config.json and
 * DIR/special_tokens_map.json. The file's own truncation and padding settings are run-time state of
 * whoever wrote it and are ignored. tokenizer_config.json's do_lower_case, strip_accents and
 * tokenize_chinese_chars override tokenizer.json's BERT normaliser, as in transformers; tok_info's
 * warning says so. Fails: IO (no tokenizer file: names what was looked for), FORMAT (file, byte
 * offset or key, reason), UNSUPPORTED (names the step), LIMIT, OUT_OF_MEMORY. */
crank_status tokenizer_open(tokenizer **out, const char *dir, crank_error *error);

/* From an image made by tokenizer_image. Copies nothing: `image` must outlive the tokenizer and be
 * 8-byte aligned. The image is untrusted input: everything in it that is followed is checked here.
 */
crank_status tokenizer_from_image(tokenizer **out, const void *image, size_t bytes,
                                  crank_error *error);
const void *tokenizer_image(const tokenizer *tok, size_t *bytes);
void tokenizer_close(tokenizer *tok);
const tok_info *tokenizer_info(const tokenizer *tok);

/* The id of a token given by its text as the vocabulary spells it ("[MASK]", "\u2581true"), or -1.
 */
int32_t tokenizer_token_id(const tokenizer *tok, const char *token, size_t bytes);
/* The vocabulary's spelling of an id; NULL outside the vocabulary. Not NUL-terminated. */
const char *tokenizer_token_text(const tokenizer *tok, int32_t id, size_t *bytes);

/* A thread's working memory; it grows to what the longest text needs and is then reused. */
crank_status tok_scratch_open(tok_scratch **out, crank_error *error);
void tok_scratch_close(tok_scratch *scratch);

/* Growable ids, owned by the caller; zeroed is empty. */
typedef struct tok_ids {
    int32_t *ids;
    size_t n, capacity;
} tok_ids;
crank_status tok_ids_reserve(tok_ids *ids, size_t capacity, crank_error *error);
void tok_ids_free(tok_ids *ids);

typedef enum tok_flags {
    TOK_DEFAULT = 0,
    TOK_SPECIALS_AS_TEXT = 1, /* "[SEP]" in a text is text, not the token */
} tok_flags;

/* Appends the ids of one text, without template tokens, to out. text: UTF-8 by length, NUL allowed,
 * each maximal invalid part read as U+FFFD. Stops early once more than max_ids ids stand in out
 * (SIZE_MAX: never), which is only a saving: callers learn "longer than max_ids", not the true
 * length. Work is linear in bytes (bounded per word). Fails: OUT_OF_MEMORY; LIMIT (a text of more
 * than 2^30 bytes, or one that the tokenizer's steps would make 64 times longer). */
crank_status tok_encode(const tokenizer *tok, tok_scratch *scratch, const char *text, size_t bytes,
                        unsigned flags, size_t max_ids, tok_ids *out, crank_error *error);

/* As tok_encode, but also appends each id's start and end as byte offsets into text, [2 * n]. For
 * tests and tools; slower. offsets->ids holds the pairs. For WordPiece they are Hugging Face's. */
crank_status tok_encode_offsets(const tokenizer *tok, tok_scratch *scratch, const char *text,
                                size_t bytes, unsigned flags, tok_ids *out, tok_ids *offsets,
                                crank_error *error);

typedef enum tok_truncation {
    TOK_LONGEST_FIRST = 0,
    TOK_ONLY_SECOND,
    TOK_ONLY_FIRST,
} tok_truncation;

/* How many ids of each side survive. n1, n2: full lengths (n2 = SIZE_MAX for a single text).
 * max_length counts template tokens too; 0: no limit. Rule: facts of tokenizers 0.23.3,
 * longest_first in constant time. Fails: INVALID_ARGUMENT when max_length is smaller than the
 * template or only_second/only_first would leave that side empty ("no room for the second text").
 */
crank_status tok_pair_lengths(const tokenizer *tok, size_t n1, size_t n2, size_t max_length,
                              tok_truncation truncation, size_t *keep1, size_t *keep2,
                              crank_error *error);

/* How many ids of a side can matter for tok_pair_lengths whatever the other side holds: a safe
 * max_ids for tok_encode. known_n1: the first side's full length when the second is encoded,
 * SIZE_MAX when unknown. Keeps the odd-token rule exact (see tok_pair_lengths). */
size_t tok_max_useful(const tokenizer *tok, size_t known_n1, size_t max_length,
                      tok_truncation truncation);

/* Writes the pair (or the single text: ids2 NULL) with its template tokens; returns the number of
 * tokens written, which is keep1 + keep2 + added. out_ids, out_types: [that many]. */
size_t tok_pair_fill(const tokenizer *tok, const int32_t *ids1, size_t keep1, const int32_t *ids2,
                     size_t keep2, int32_t *out_ids, int32_t *out_types);

#endif
