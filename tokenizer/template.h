/* The template: which tokens stand around one text and around a pair, and everybody's type id.
 * Section TEMPLATE: u32 n_single, u32 n_pair, then the items of both. */
#ifndef CRANK_TOKENIZER_TEMPLATE_H
#define CRANK_TOKENIZER_TEMPLATE_H

#include <jansson.h>

#include "tokenizer/vocab.h"

typedef enum tok_item_kind { TOK_ITEM_TOKEN = 0, TOK_ITEM_A = 1, TOK_ITEM_B = 2 } tok_item_kind;

typedef struct tok_item {
    uint32_t kind;
    int32_t id; /* of TOK_ITEM_TOKEN */
    int32_t type;
} tok_item;

/* A checked template: A once in single; A and B once in pair. */
typedef struct tok_template {
    const tok_item *single, *pair;
    uint32_t n_single, n_pair;
} tok_template;

enum { TOK_MAX_TEMPLATE = 256 };

/* post_processor: tokenizer.json's, NULL when there is none (nothing is added, types 0 and 1). */
crank_status template_compile(const json_t *post_processor, image_builder *b, crank_error *error);
crank_status template_check(const tok_image *image, int32_t n_ids, tok_template *out,
                            crank_error *error);

#endif
