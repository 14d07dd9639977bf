/* The walk through a precompiled character map, for charsmap.c and its fuzzer. */
#ifndef CRANK_TOKENIZER_CHARSMAP_H
#define CRANK_TOKENIZER_CHARSMAP_H

#include "tokenizer/image.h"

/* Writes the payload of a Precompiled step for a charsmap (the bytes behind the base64): u32 length
 * of the trie, the trie, the replacements. `where` names it in messages. Fails: FORMAT (sizes; a
 * reachable unit that leads out of the trie or a value out of the replacements; replacements that
 * are not UTF-8), OUT_OF_MEMORY. */
crank_status charsmap_put(image_builder *b, const uint8_t *map, size_t bytes, const char *where,
                          crank_error *error);

#endif
