/* The fused BERT path: BertNormalizer + BertPreTokenizer + WordPiece in one pass over the text. */
#ifndef CRANK_TOKENIZER_BERT_FAST_H
#define CRANK_TOKENIZER_BERT_FAST_H

#include "tokenizer/wordpiece.h"

/* What an ASCII byte is to the pipeline. */
enum {
    BERT_BYTE_WORD = 0, /* part of a word */
    BERT_BYTE_SPACE,    /* ends a word */
    BERT_BYTE_PUNCT,    /* a word of its own */
    BERT_BYTE_DROP,     /* nothing: clean_text removes it */
    BERT_BYTE_WIDE,     /* not ASCII: look at the character */
};

/* Made when a tokenizer is opened, from its normaliser's flags and its vocabulary. */
typedef struct bert_fast {
    wordpiece wp;
    uint32_t flags; /* BERT_CLEAN_TEXT ... of normalize.h */
    uint8_t class[256];
    uint8_t lower[128];    /* lowercase if the normaliser lowers */
    int32_t alone_id[128]; /* the id of an ASCII character that is a word of its own */
} bert_fast;

void bert_fast_open(bert_fast *out, const tok_image *image, uint32_t flags);

#endif
