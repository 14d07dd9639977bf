/* T5 rankers as data: a template, answer tokens, and how the answers' logits become one number.
 * monoT5, RankT5, duoT5, yes/no and digit schemes are rows of one table.
 *
 * Truncation: the documents alone are cut, so that the query, the end of the prompt and </s> always
 * survive (pygaggle cuts the whole string and loses "Relevant:"; a batch of one in pyterrier_t5
 * does what is done here). Sources: facts of Nogueira et al. 2020 (monoT5), Pradeep et al. 2021
 * (duoT5), Zhuang et al. 2023 (RankT5). */
#ifndef CRANK_RUNTIME_PROMPT_H
#define CRANK_RUNTIME_PROMPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crank.h"
#include "tokenizer/tokenizer.h"

typedef enum prompt_reduction {
    PROMPT_LOGIT = 0,   /* the first answer's logit */
    PROMPT_DIFFERENCE,  /* first minus second */
    PROMPT_LOG_SOFTMAX, /* log of the first answer's share of all answers' softmax */
    PROMPT_PROBABILITY, /* that share */
    PROMPT_EXPECTATION, /* sum_i i * share_i: answers are the digits 0, 1, ... */
    PROMPT_N_REDUCTIONS
} prompt_reduction;
extern const char *const prompt_reduction_names[PROMPT_N_REDUCTIONS];

#define PROMPT_MAX_ANSWERS 16

/* A known scheme. `name` is looked for in the model's name, case-insensitively; NULL: any. The
 * answer that counts stands first. */
typedef struct prompt_scheme {
    const char *model_type, *name;
    const char *template; /* {q}, {d}; a duo model has {a} and {b} instead of {d} */
    const char *answers;  /* vocabulary spellings or #ids, comma-separated */
    prompt_reduction reduction;
} prompt_scheme;
const prompt_scheme *prompt_scheme_find(const char *model_type, const char *model_name);

typedef enum prompt_slot { PROMPT_TEXT, PROMPT_QUERY, PROMPT_DOCUMENT, PROMPT_SECOND } prompt_slot;

/* A template made ready: literal parts as ids, slots between them. Zeroed is empty. */
#define PROMPT_MAX_PARTS 12
typedef struct prompt {
    struct prompt_part {
        prompt_slot slot;
        int32_t first, n; /* PROMPT_TEXT: ids[first .. first + n) */
    } parts[PROMPT_MAX_PARTS];
    int n_parts;
    tok_ids ids;
    int32_t n_fixed; /* literal ids and the final </s> */
    int32_t eos_id;
    bool duo; /* two documents */
} prompt;

/* Literals are encoded one by one: T5's tokenizer splits at white space first, so that is the same
 * as encoding the filled template. Fails: INVALID_ARGUMENT (an unknown slot, no {q}, no document).
 */
crank_status prompt_compile(prompt *p, const char *text, const tokenizer *tok, crank_error *error);
void prompt_free(prompt *p);

/* ids: room for max_length. Cuts the documents (and, only when they are gone, the query) so that
 * everything fits; returns the number of ids. second: the other document of a duo model. */
size_t prompt_fill(const prompt *p, int32_t *ids, size_t max_length, const int32_t *query,
                   size_t n_query, const int32_t *document, size_t n_document,
                   const int32_t *second, size_t n_second);

/* "▁true,▁false" or "#1176,#6136" to ids. vocab_size bounds #ids. tok may be NULL for #ids.
 * Fails: INVALID_ARGUMENT (names the answer that the vocabulary lacks). */
crank_status prompt_answers(int32_t ids[PROMPT_MAX_ANSWERS], int *n, const char *answers,
                            const tokenizer *tok, int32_t vocab_size, crank_error *error);

/* logits: [n] of the answers, in f32. */
float prompt_reduce(prompt_reduction reduction, const float *logits, int n);

#endif
