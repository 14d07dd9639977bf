/* Golden rows of the small trained tokenizers (tests/fixtures/tokenizer/{unigram,bpe}), run through
 * the public interface. */
#ifndef CRANK_TESTS_MODEL_GOLDEN_H
#define CRANK_TESTS_MODEL_GOLDEN_H

#include "tokenizer/tokenizer.h"

/* Opens tests/fixtures/tokenizer/NAME.json.gz as the tokenizer.json of a folder. Aborts on failure.
 */
tokenizer *test_open_tokenizer(const char *name);
/* The same for a text; a failure is the status, with *error filled. */
crank_status test_open_tokenizer_text(tokenizer **out, const char *json, crank_error *error);

typedef struct model_golden {
    size_t texts, pairs; /* cases compared */
    size_t different;
    char first[512]; /* what differed first */
} model_golden;

/* Every row of NAME.texts.jsonl.gz (with and without offsets) and NAME.pairs.jsonl.gz. */
model_golden test_model_golden(const tokenizer *tok, const char *name);

/* Damages images of the tokenizer in `rounds` ways and uses each one that still opens: for
 * sanitizers to watch. Returns how many opened. */
size_t test_damaged_images(const tokenizer *tok, unsigned seed, int rounds);

#endif
