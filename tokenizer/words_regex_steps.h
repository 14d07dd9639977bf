/* The steps that stand on words_regex.h; the tables are in steps.c. */
#ifndef CRANK_TOKENIZER_WORDS_REGEX_STEPS_H
#define CRANK_TOKENIZER_WORDS_REGEX_STEPS_H

#include "tokenizer/steps.h"

extern const tok_normalizer tok_normalizer_replace;        /* "Replace" */
extern const tok_pretokenizer tok_pretokenizer_byte_level, /* "ByteLevel" */
    tok_pretokenizer_split;                                /* "Split" */

#endif
