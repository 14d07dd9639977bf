/* Extended grapheme clusters (UAX 29, rules GB3-GB13), as the segmenter inside Hugging Face
 * `tokenizers` cuts them: the Precompiled normaliser looks up whole clusters. The classes are
 * measured from it, see make_graphemes_tables.py. */
#ifndef CRANK_TOKENIZER_GRAPHEMES_H
#define CRANK_TOKENIZER_GRAPHEMES_H

#include <stddef.h>
#include <stdint.h>

/* The length in bytes of the cluster at text; bytes > 0, valid UTF-8, NUL allowed. Two regional
 * indicators (a flag) count as two clusters: nobody here can tell the difference, since a flag is
 * 8 bytes and clusters of 6 and more are treated character by character. */
size_t grapheme_next(const uint8_t *text, size_t bytes);

#endif
