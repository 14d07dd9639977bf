/* From tokenizer.json's "model" object of type BPE to section MODEL; see bpe.h for its layout. */
#ifndef CRANK_TOKENIZER_BPE_COMPILE_H
#define CRANK_TOKENIZER_BPE_COMPILE_H

#include <jansson.h>

#include "tokenizer/bpe.h"

#define BPE_MAX_TABLE_BITS 24

/* Reads vocab, merges ("a b" or ["a", "b"]), unk_token, fuse_unk, byte_fallback and ignore_merges.
 * Fails: FORMAT (a merge of unknown tokens, an id out of range, ...), UNSUPPORTED (dropout,
 * continuing_subword_prefix, end_of_word_suffix), LIMIT, OUT_OF_MEMORY. */
crank_status bpe_compile(const json_t *model, image_builder *b, crank_error *error);

#endif
