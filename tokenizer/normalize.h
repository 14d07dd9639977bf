/* The normaliser steps of normalize.c and normalize_bert.c; the table is in steps.c. */
#ifndef CRANK_TOKENIZER_NORMALIZE_H
#define CRANK_TOKENIZER_NORMALIZE_H

#include "tokenizer/steps.h"

/* BertNormalizer's payload: one uint32_t of these flags, a second one that is 0. */
enum {
    BERT_CLEAN_TEXT = 1,
    BERT_CJK = 2,
    BERT_STRIP_ACCENTS = 4,
    BERT_LOWERCASE = 8,
};

extern const tok_normalizer tok_normalizer_bert; /* "BertNormalizer" */
extern const tok_normalizer tok_normalizer_nfc, tok_normalizer_nfd, tok_normalizer_nfkc,
    tok_normalizer_nfkd, tok_normalizer_lowercase, tok_normalizer_strip_accents,
    tok_normalizer_strip, tok_normalizer_prepend, tok_normalizer_nmt;

/* Characters that pass through canonical ordering: marks wait in out until the next starter, when a
 * run that is not in order of combining class is sorted (stable). Zeroed is the start of a text. */
typedef struct tok_order {
    size_t run; /* where the run of marks begins in out */
    uint8_t highest;
    bool unsorted;
} tok_order;

void tok_order_push(tok_order *order, tok_text *out, uint32_t c, uint8_t ccc, tok_span span);
void tok_order_finish(tok_order *order, tok_text *out);

#endif
