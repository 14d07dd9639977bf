/* The table of dialects; choosing a row; order of results. Source of the shapes: the public sources
 * and API pages of each system. */
#include "server/dialects.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "server/dialect_write.h"

#define VLLM_ONLY                                                                                  \
    (HAS(TRUNCATE_PROMPT_TOKENS) | HAS(USE_ACTIVATION) | HAS(MAX_TOKENS_PER_QUERY) |               \
     HAS(TRUNCATION_SIDE) | HAS(REQUEST_ID) | HAS(USER))

/* On a shared path the first row with a claimed key wins; without any, the first row whose
 * documents key is there. Scores: TEI, Infinity, Cohere, Jina and Voyage give numbers in 0..1
 * whatever the model's own activation; NIM and llama.cpp give the logit; vLLM the model's own. */
const dialect dialects[] = {
    {"tei",
     {"/rerank", "/reranking", "/v1/rerank", NULL},
     HAS(TEXTS),
     HAS(TEXTS),
     0,
     0,
     AS_SIGMOID,
     write_tei,
     error_tei},
    {"infinity",
     {"/rerank", NULL},
     HAS(DOCUMENTS),
     HAS(RETURN_DOCUMENTS) | HAS(RAW_SCORES),
     0,
     0,
     AS_SIGMOID,
     write_infinity,
     error_openai},
    {"voyage",
     {"/v1/rerank", NULL},
     HAS(DOCUMENTS),
     HAS(TOP_K) | HAS(TRUNCATION),
     0,
     0,
     AS_SIGMOID,
     write_voyage,
     error_detail},
    {"vllm",
     {"/rerank", "/v1/rerank", "/v2/rerank", NULL},
     HAS(DOCUMENTS),
     VLLM_ONLY,
     1,
     0,
     AS_MODEL,
     write_vllm,
     error_openai},
    {"cohere-v1",
     {"/v1/rerank", NULL},
     HAS(DOCUMENTS),
     HAS(RANK_FIELDS) | HAS(MAX_CHUNKS_PER_DOC),
     0,
     0,
     AS_SIGMOID,
     write_cohere,
     error_cohere},
    {"jina", {"/v1/rerank", NULL}, HAS(DOCUMENTS), 0, 1, 0, AS_SIGMOID, write_jina, error_detail},
    {"cohere-v2",
     {"/v2/rerank", NULL},
     HAS(DOCUMENTS),
     0,
     0,
     0,
     AS_SIGMOID,
     write_cohere,
     error_cohere},
    {"llama.cpp",
     {"/reranking", "/rerank", "/v1/rerank", NULL},
     HAS(DOCUMENTS),
     0,
     0,
     0,
     AS_IDENTITY,
     write_llama,
     error_llama},
    {"nim", {"/v1/ranking", NULL}, HAS(PASSAGES), 0, 0, 0, AS_IDENTITY, write_nim, error_nim},
    {"vllm-score",
     {"/score", "/v1/score", NULL},
     HAS(TEXT_2) | HAS(DOCUMENTS),
     0,
     0,
     1,
     AS_MODEL,
     write_score,
     error_openai},
};

const size_t n_dialects = sizeof dialects / sizeof dialects[0];

static int serves(const dialect *d, const char *path)
{
    for (size_t i = 0; d->paths[i] != NULL; i++)
        if (strcmp(d->paths[i], path) == 0) return 1;
    return 0;
}

const dialect *dialect_named(const char *name)
{
    for (size_t i = 0; i < n_dialects; i++)
        if (strcmp(dialects[i].name, name) == 0) return &dialects[i];
    return NULL;
}

/* Whose words errors are in, while only the path is known. */
static const struct {
    const char *path, *dialect;
} path_owners[] = {
    {"/rerank", "tei"},          {"/v1/rerank", "cohere-v1"}, {"/v2/rerank", "cohere-v2"},
    {"/reranking", "llama.cpp"}, {"/v1/ranking", "nim"},      {"/score", "vllm-score"},
    {"/v1/score", "vllm-score"},
};

const dialect *dialect_of_path(const char *path)
{
    for (size_t i = 0; i < sizeof path_owners / sizeof path_owners[0]; i++)
        if (strcmp(path_owners[i].path, path) == 0) return dialect_named(path_owners[i].dialect);
    return NULL;
}

static int mentions(const char *words, const char *word)
{
    size_t n = strlen(word);
    for (; *words; words++)
        if (strncasecmp(words, word, n) == 0) return 1;
    return 0;
}

const dialect *dialect_choose(const char *path, const dialect *fixed, const dialect_fields *fields,
                              const char *client)
{
    const dialect *owner = dialect_of_path(path);
    int scores = owner != NULL && owner->keeps_order;
    if (fixed != NULL && !scores) return fixed;
    if (strcmp(path, "/v1/rerank") == 0 && client != NULL && mentions(client, "cohere"))
        return dialect_named("cohere-v1");
    uint32_t present = fields->present;
    if (present & HAS(TOP_N)) present &= ~HAS(TRUNCATION); /* Jina's, not Voyage's (top_k) */
    for (size_t i = 0; i < n_dialects; i++)
        if (serves(&dialects[i], path) && (present & dialects[i].claims)) return &dialects[i];
    if (strcmp(path, "/rerank") == 0 && (fields->present & HAS(DOCUMENTS)))
        return dialect_named("vllm"); /* its answer holds llama.cpp's */
    if (strcmp(path, "/v1/rerank") == 0) return dialect_named("jina");
    return owner;
}

static int best_first(const void *left, const void *right)
{
    const dialect_scored *a = left, *b = right;
    if (a->score != b->score) return a->score < b->score ? 1 : -1;
    return a->index < b->index ? -1 : a->index > b->index;
}

size_t dialect_order(dialect_scored *results, size_t n, const dialect *d,
                     const dialect_request *request)
{
    if (!d->keeps_order) qsort(results, n, sizeof *results, best_first);
    return request->top_n != 0 && request->top_n < n ? request->top_n : n;
}

/* ---- faults ---- */

static const struct {
    const char *name, *tei_type, *openai_type;
    int status, tei_status;
} faults[] = {
#define DIALECT_FAULT_ROW(name, word, status, tei, type, openai) {word, type, openai, status, tei},
    DIALECT_FAULTS(DIALECT_FAULT_ROW)
#undef DIALECT_FAULT_ROW
};

dialect_fault dialect_fault_of(int gate_status)
{
    switch (gate_status) {
    case 411: return FAULT_LENGTH;
    case 413: return FAULT_BODY;
    case 414: return FAULT_URI;
    case 415: return FAULT_ENCODING;
    case 431: return FAULT_HEADERS;
    default: return FAULT_FRAMING;
    }
}

const char *dialect_fault_name(dialect_fault fault)
{
    return faults[fault].name;
}

int dialect_status(const dialect *d, dialect_fault fault)
{
    int tei = d == NULL || d->write_error == error_tei;
    return tei ? faults[fault].tei_status : faults[fault].status;
}

void dialect_write_error(text *out, const dialect *d, dialect_fault fault, const char *message)
{
    int status = dialect_status(d, fault);
    if (d == NULL)
        error_tei(out, status, fault, message);
    else
        d->write_error(out, status, fault, message);
}

const char *dialect_tei_type(dialect_fault fault)
{
    return faults[fault].tei_type;
}

const char *dialect_openai_type(dialect_fault fault)
{
    return faults[fault].openai_type;
}
