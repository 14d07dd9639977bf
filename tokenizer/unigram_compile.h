/* From tokenizer.json's "model" object of type Unigram to section MODEL; see unigram.h. */
#ifndef CRANK_TOKENIZER_UNIGRAM_COMPILE_H
#define CRANK_TOKENIZER_UNIGRAM_COMPILE_H

#include <jansson.h>

#include "tokenizer/unigram.h"

/* Reads vocab ([["piece", score], ...], the id is the place), unk_id and byte_fallback. A piece
 * that comes twice keeps its last place, as in Hugging Face's map. Fails: FORMAT, UNSUPPORTED (no
 * unk_id), LIMIT, OUT_OF_MEMORY. */
crank_status unigram_compile(const json_t *model, image_builder *b, crank_error *error);

#endif
