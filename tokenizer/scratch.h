/* A thread's working memory, inside. */
#ifndef CRANK_TOKENIZER_SCRATCH_H
#define CRANK_TOKENIZER_SCRATCH_H

#include "tokenizer/model.h"
#include "tokenizer/steps.h"

struct tok_scratch {
    tok_text text[2];   /* a piece before and after a normaliser step */
    tok_words words[2]; /* a piece before and after a pre-tokeniser step */
    tok_ids spans;      /* of one word */
    struct {
        void *at;
        size_t bytes;
    } slot[TOK_SCRATCH_SLOTS];
};

/* An empty text with room for about `bytes`, which may grow up to `limit`. */
void tok_text_begin(tok_text *t, bool want_spans, size_t limit);
void tok_words_begin(tok_words *w, bool want_spans, size_t limit);

#endif
