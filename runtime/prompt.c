#include "runtime/prompt.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"

const char *const prompt_reduction_names[PROMPT_N_REDUCTIONS] = {"logit", "diff", "log_softmax",
                                                                 "probability", "expectation"};

#define TRUE_FALSE                                                                                 \
    "\xE2\x96\x81true,\xE2\x96\x81"                                                                \
    "false"
#define YES_NO "\xE2\x96\x81yes,\xE2\x96\x81no"

/* More particular rows first. */
static const prompt_scheme schemes[] = {
    {"t5", "duot5", "Query: {q} Document0: {a} Document1: {b} Relevant:", TRUE_FALSE,
     PROMPT_PROBABILITY},
    {"t5", "duo-t5", "Query: {q} Document0: {a} Document1: {b} Relevant:", TRUE_FALSE,
     PROMPT_PROBABILITY},
    {"t5", "rankt5", "Query: {q} Document: {d}", "<extra_id_10>", PROMPT_LOGIT},
    {"t5", "rank-t5", "Query: {q} Document: {d}", "<extra_id_10>", PROMPT_LOGIT},
    {"mt5", NULL, "Query: {q} Document: {d} Relevant:", YES_NO, PROMPT_LOG_SOFTMAX},
    {"t5", NULL, "Query: {q} Document: {d} Relevant:", TRUE_FALSE, PROMPT_LOG_SOFTMAX},
    {"umt5", NULL, "Query: {q} Document: {d} Relevant:", YES_NO, PROMPT_LOG_SOFTMAX},
};

static bool contains(const char *text, const char *part)
{
    size_t n = strlen(part);
    for (; *text != '\0'; text++) {
        size_t i = 0;
        while (i < n && tolower((unsigned char)text[i]) == part[i]) i++;
        if (i == n) return true;
    }
    return false;
}

const prompt_scheme *prompt_scheme_find(const char *model_type, const char *model_name)
{
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        if (strcmp(schemes[i].model_type, model_type) != 0) continue;
        if (schemes[i].name == NULL || contains(model_name, schemes[i].name)) return &schemes[i];
    }
    return NULL;
}

/* ---- templates ---- */

static crank_status add_part(prompt *p, prompt_slot slot, int32_t first, int32_t n,
                             crank_error *error)
{
    CRANK_CHECK(p->n_parts < PROMPT_MAX_PARTS, INVALID_ARGUMENT, error,
                "prompt: expected at most %d parts", PROMPT_MAX_PARTS);
    p->parts[p->n_parts++] = (struct prompt_part){slot, first, n};
    if (slot == PROMPT_TEXT) p->n_fixed += n;
    return CRANK_OK;
}

static crank_status add_literal(prompt *p, const char *text, size_t bytes, const tokenizer *tok,
                                tok_scratch *scratch, crank_error *error)
{
    size_t before = p->ids.n;
    CRANK_TRY(tok_encode(tok, scratch, text, bytes, TOK_DEFAULT, SIZE_MAX, &p->ids, error));
    if (p->ids.n == before) return CRANK_OK; /* white space alone */
    return add_part(p, PROMPT_TEXT, (int32_t)before, (int32_t)(p->ids.n - before), error);
}

static crank_status compile_parts(prompt *p, const char *text, const tokenizer *tok,
                                  tok_scratch *scratch, crank_error *error)
{
    static const char letters[] = {0, 'q', 'd', 'b'};
    unsigned seen = 0;
    const char *at = text;
    while (*at != '\0') {
        const char *open = strchr(at, '{');
        size_t literal = open != NULL ? (size_t)(open - at) : strlen(at);
        CRANK_TRY(add_literal(p, at, literal, tok, scratch, error));
        at += literal;
        if (open == NULL) break;
        char letter = at[1];
        prompt_slot slot = letter == 'a' ? PROMPT_DOCUMENT : PROMPT_TEXT;
        for (int s = PROMPT_QUERY; s <= PROMPT_SECOND; s++) {
            if (letters[s] == letter) slot = (prompt_slot)s;
        }
        CRANK_CHECK(slot != PROMPT_TEXT && at[2] == '}', INVALID_ARGUMENT, error,
                    "prompt: expected {q}, {d}, {a} or {b} at \"%.16s\"", at);
        CRANK_CHECK(!(seen & 1u << slot), INVALID_ARGUMENT, error, "prompt: {%c} stands twice",
                    letter);
        seen |= 1u << slot;
        CRANK_TRY(add_part(p, slot, 0, 0, error));
        at += 3;
    }
    CRANK_CHECK((seen & 1u << PROMPT_QUERY) && (seen & 1u << PROMPT_DOCUMENT), INVALID_ARGUMENT,
                error, "prompt: expected {q} and {d} (or {a} and {b}) in \"%.64s\"", text);
    p->duo = (seen & 1u << PROMPT_SECOND) != 0;
    return CRANK_OK;
}

crank_status prompt_compile(prompt *p, const char *text, const tokenizer *tok, crank_error *error)
{
    *p = (prompt){.eos_id = tokenizer_info(tok)->eos_id};
    if (p->eos_id < 0) p->eos_id = 1; /* T5's own, where the tokenizer does not name it */
    tok_scratch *scratch = NULL;
    crank_status status = tok_scratch_open(&scratch, error);
    if (status == CRANK_OK) status = compile_parts(p, text, tok, scratch, error);
    tok_scratch_close(scratch);
    p->n_fixed++;
    if (status != CRANK_OK) prompt_free(p);
    return status;
}

void prompt_free(prompt *p)
{
    tok_ids_free(&p->ids);
    *p = (prompt){0};
}

/* How much of each side stays: documents give way first, both alike; then the query. */
static void cut(const prompt *p, size_t room, size_t *n_query, size_t *n_document, size_t *n_second)
{
    if (*n_query > room) *n_query = room;
    size_t left = room - *n_query;
    if (!p->duo) {
        if (*n_document > left) *n_document = left;
        *n_second = 0;
        return;
    }
    if (*n_document + *n_second <= left) return;
    size_t half = left / 2;
    if (*n_document <= half) {
        *n_second = left - *n_document;
    } else if (*n_second <= half) {
        *n_document = left - *n_second;
    } else {
        *n_document = left - half;
        *n_second = half;
    }
}

static size_t append(int32_t *ids, size_t at, const int32_t *from, size_t n)
{
    if (n > 0) memcpy(ids + at, from, n * sizeof *ids);
    return at + n;
}

size_t prompt_fill(const prompt *p, int32_t *ids, size_t max_length, const int32_t *query,
                   size_t n_query, const int32_t *document, size_t n_document,
                   const int32_t *second, size_t n_second)
{
    cut(p, max_length - (size_t)p->n_fixed, &n_query, &n_document, &n_second);
    size_t n = 0;
    for (int i = 0; i < p->n_parts; i++) {
        const struct prompt_part *part = &p->parts[i];
        switch (part->slot) {
        case PROMPT_TEXT: n = append(ids, n, p->ids.ids + part->first, (size_t)part->n); break;
        case PROMPT_QUERY: n = append(ids, n, query, n_query); break;
        case PROMPT_DOCUMENT: n = append(ids, n, document, n_document); break;
        case PROMPT_SECOND: n = append(ids, n, second, n_second); break;
        }
    }
    ids[n++] = p->eos_id;
    return n;
}

/* ---- answers ---- */

crank_status prompt_answers(int32_t ids[PROMPT_MAX_ANSWERS], int *n, const char *answers,
                            const tokenizer *tok, int32_t vocab_size, crank_error *error)
{
    *n = 0;
    for (const char *at = answers; *at != '\0';) {
        const char *comma = strchr(at, ',');
        size_t bytes = comma != NULL ? (size_t)(comma - at) : strlen(at);
        CRANK_CHECK(*n < PROMPT_MAX_ANSWERS, INVALID_ARGUMENT, error,
                    "answers: expected at most %d tokens", PROMPT_MAX_ANSWERS);
        int32_t id = -1;
        if (bytes > 1 && at[0] == '#') {
            char *end;
            long number = strtol(at + 1, &end, 10);
            if (end == at + bytes && number >= 0 && number < vocab_size) id = (int32_t)number;
        } else if (tok != NULL) {
            id = tokenizer_token_id(tok, at, bytes);
        }
        CRANK_CHECK(id >= 0 && id < vocab_size, INVALID_ARGUMENT, error,
                    "answers: \"%.*s\" is not in the vocabulary of %d (a token as it is spelled "
                    "there, or #id)",
                    (int)(bytes < 64 ? bytes : 64), at, vocab_size);
        ids[(*n)++] = id;
        at += comma != NULL ? bytes + 1 : bytes;
    }
    CRANK_CHECK(*n > 0, INVALID_ARGUMENT, error, "answers: expected at least one token");
    return CRANK_OK;
}

float prompt_reduce(prompt_reduction reduction, const float *logits, int n)
{
    if (reduction == PROMPT_LOGIT) return logits[0];
    if (reduction == PROMPT_DIFFERENCE) return n > 1 ? logits[0] - logits[1] : logits[0];
    float most = logits[0];
    for (int i = 1; i < n; i++) most = logits[i] > most ? logits[i] : most;
    float sum = 0.0f, weighted = 0.0f;
    for (int i = 0; i < n; i++) {
        float share = expf(logits[i] - most);
        sum += share;
        weighted += (float)i * share;
    }
    if (reduction == PROMPT_EXPECTATION) return weighted / sum;
    float log_share = logits[0] - most - logf(sum);
    return reduction == PROMPT_PROBABILITY ? expf(log_share) : log_share;
}
