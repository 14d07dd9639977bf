/* The pre-tokeniser steps of pretokenize.c; the table is in steps.c. */
#ifndef CRANK_TOKENIZER_PRETOKENIZE_H
#define CRANK_TOKENIZER_PRETOKENIZE_H

#include "tokenizer/steps.h"

extern const tok_pretokenizer tok_pretokenizer_bert, tok_pretokenizer_whitespace_split,
    tok_pretokenizer_whitespace, tok_pretokenizer_punctuation, tok_pretokenizer_metaspace,
    tok_pretokenizer_char_delimiter, tok_pretokenizer_digits;

/* Does this Metaspace step ask whether a word begins the text (prepend_scheme "first")? */
bool tok_metaspace_asks_start(tok_section payload);

/* What becomes of the parts of a word that a pattern matches. */
typedef enum tok_behavior {
    TOK_REMOVED = 0,
    TOK_ISOLATED,
    TOK_MERGED_WITH_PREVIOUS,
    TOK_MERGED_WITH_NEXT,
    TOK_CONTIGUOUS,
} tok_behavior;

/* "Removed", "Isolated", ... under `key`; `absent` when it is not there. */
crank_status tok_behavior_parse(const json_t *step, const char *where, const char *key,
                                tok_behavior absent, tok_behavior *out, crank_error *error);

/* Cuts one word of `in` into words of `out`: the caller gives its parts from left to right, matched
 * or not, each as a range of in->text; parts that do not follow each other are an error of the
 * caller. */
typedef struct tok_splitter {
    const tok_words *in;
    tok_words *out;
    tok_behavior behavior;
    bool pending, last_matched; /* [start, end) waits, may be joined by the next part */
    size_t start, end;
} tok_splitter;

void tok_split_begin(tok_splitter *s, const tok_words *in, tok_words *out, tok_behavior behavior);
void tok_split_part(tok_splitter *s, size_t start, size_t end, bool matched);
void tok_split_finish(tok_splitter *s);

#endif
