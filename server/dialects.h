/* The dialects of re-ranking over HTTP as a table: which paths and body shapes a dialect claims,
 * how its request is read, how its answer and its errors are written.
 *
 *     body -> dialect_fields (keys to values) -> dialect_choose -> dialect_read -> pairs
 *     -> scheduler -> dialect_order (activation, order, top_n) -> dialect_write
 *
 * A new dialect is one row and its writer. Pure: no connection, no model; fuzzed as it is. */
#ifndef CRANK_SERVER_DIALECTS_H
#define CRANK_SERVER_DIALECTS_H

#include "crank.h"
#include "server/body.h"
#include "server/text.h"

/* ---- faults: what can go wrong with a request, in the words of each dialect ---- */

/* X(name, word of logs and metrics, status, status in TEI, TEI's error_type, OpenAI's type) */
#define DIALECT_FAULTS(X)                                                                          \
    X(NONE, "ok", 200, 200, "", "")                                                                \
    X(SYNTAX, "syntax", 400, 400, "Validation", "invalid_request_error")                           \
    X(SHAPE, "shape", 400, 422, "Validation", "invalid_request_error")                             \
    X(EMPTY, "empty", 400, 400, "Empty", "invalid_request_error")                                  \
    X(TOO_MANY, "too_many", 400, 413, "Validation", "invalid_request_error")                       \
    X(TOO_LONG, "too_long", 400, 413, "Validation", "invalid_request_error")                       \
    X(FRAMING, "framing", 400, 400, "Validation", "invalid_request_error")                         \
    X(KEY, "key", 401, 401, "Unauthorized", "authentication_error")                                \
    X(ROUTE, "route", 404, 404, "NotFound", "not_found_error")                                     \
    X(MODEL, "model", 404, 404, "Validation", "not_found_error")                                   \
    X(METHOD, "method", 405, 405, "Validation", "invalid_request_error")                           \
    X(SLOW_BODY, "slow_body", 408, 408, "Validation", "timeout_error")                             \
    X(LENGTH, "length", 411, 411, "Validation", "invalid_request_error")                           \
    X(BODY, "body", 413, 413, "Validation", "invalid_request_error")                               \
    X(URI, "uri", 414, 414, "Validation", "invalid_request_error")                                 \
    X(ENCODING, "encoding", 415, 415, "Validation", "invalid_request_error")                       \
    X(HEADERS, "headers", 431, 431, "Validation", "invalid_request_error")                         \
    X(OVERLOADED, "overloaded", 429, 429, "Overloaded", "rate_limit_error")                        \
    X(BACKEND, "backend", 500, 500, "Backend", "internal_server_error")                            \
    X(MEMORY, "memory", 503, 503, "Unhealthy", "service_unavailable_error")                        \
    X(UNHEALTHY, "unhealthy", 503, 503, "Unhealthy", "service_unavailable_error")                  \
    X(LATE, "late", 504, 504, "Overloaded", "timeout_error")

typedef enum dialect_fault {
#define DIALECT_FAULT_ENUM(name, word, status, tei, type, openai) FAULT_##name,
    DIALECT_FAULTS(DIALECT_FAULT_ENUM)
#undef DIALECT_FAULT_ENUM
        N_DIALECT_FAULTS
} dialect_fault;

/* The fault that the gate's status means. */
dialect_fault dialect_fault_of(int gate_status);
const char *dialect_fault_name(dialect_fault fault);

/* ---- fields ---- */

/* X(name, key): every key that some dialect knows. */
#define DIALECT_KEYS(X)                                                                            \
    X(QUERY, "query")                                                                              \
    X(TEXTS, "texts")                                                                              \
    X(DOCUMENTS, "documents")                                                                      \
    X(PASSAGES, "passages")                                                                        \
    X(MODEL, "model")                                                                              \
    X(TOP_N, "top_n")                                                                              \
    X(TOP_K, "top_k")                                                                              \
    X(RETURN_DOCUMENTS, "return_documents")                                                        \
    X(RETURN_TEXT, "return_text")                                                                  \
    X(RETURN_WINDOW, "return_window")                                                              \
    X(RAW_SCORES, "raw_scores")                                                                    \
    X(TRUNCATE, "truncate")                                                                        \
    X(TRUNCATION, "truncation")                                                                    \
    X(TRUNCATION_DIRECTION, "truncation_direction")                                                \
    X(TRUNCATION_SIDE, "truncation_side")                                                          \
    X(MAX_TOKENS_PER_DOC, "max_tokens_per_doc")                                                    \
    X(MAX_TOKENS_PER_QUERY, "max_tokens_per_query")                                                \
    X(TRUNCATE_PROMPT_TOKENS, "truncate_prompt_tokens")                                            \
    X(USE_ACTIVATION, "use_activation")                                                            \
    X(USER, "user")                                                                                \
    X(REQUEST_ID, "request_id")                                                                    \
    X(PRIORITY, "priority")                                                                        \
    X(RANK_FIELDS, "rank_fields")                                                                  \
    X(MAX_CHUNKS_PER_DOC, "max_chunks_per_doc")                                                    \
    X(TEXT_1, "text_1")                                                                            \
    X(TEXT_2, "text_2")                                                                            \
    X(QUERIES, "queries")                                                                          \
    X(INPUTS, "inputs")                                                                            \
    X(ADD_SPECIAL_TOKENS, "add_special_tokens")

typedef enum dialect_key {
#define DIALECT_KEY_ENUM(name, key) KEY_##name,
    DIALECT_KEYS(DIALECT_KEY_ENUM)
#undef DIALECT_KEY_ENUM
        N_DIALECT_KEYS
} dialect_key;

#define HAS(name) (UINT32_C(1) << KEY_##name)

typedef struct dialect_fields {
    uint32_t present; /* bits by key; an explicit null is absent */
    body_value value[N_DIALECT_KEYS];
} dialect_fields;

/* One fault with its sentence; message is cut to fit. */
typedef struct dialect_problem {
    dialect_fault fault;
    char message[256];
} dialect_problem;

/* Splits the outermost object. Fails with SHAPE (no object), SYNTAX (duplicate or too many keys;
 * the message says so, the caller adds the place). */
int dialect_fields_read(dialect_fields *fields, body_value root, dialect_problem *problem);

/* ---- requests ---- */

typedef enum dialect_activation { AS_MODEL, AS_IDENTITY, AS_SIGMOID } dialect_activation;

typedef struct dialect_limits {
    size_t max_documents;
} dialect_limits;

typedef struct dialect_request {
    const char *model; /* name asked for; NULL: none; not NUL-terminated */
    size_t model_bytes;
    crank_pair *pairs; /* [n] */
    size_t n;
    size_t top_n;      /* 0: all */
    size_t max_length; /* 0: the model's */
    dialect_activation activation;
    int return_documents, return_window, refuse_long;
    size_t max_query_tokens, max_document_tokens, max_windows; /* 0: no limit of the request's */
    int priority;          /* -1000..1000; a lower number goes first */
    const char *user, *id; /* as sent, not NUL-terminated; NULL: absent */
    size_t user_bytes, id_bytes;
    char *joined; /* documents made of several fields; owned */
} dialect_request;

typedef struct dialect_scored {
    size_t index;
    float score, logit;
    uint32_t tokens, window_start, window_bytes;
} dialect_scored;

typedef struct dialect_answer {
    const char *model, *id;
    const dialect_request *request;
    const dialect_scored *results; /* [n] in the order of the answer */
    size_t n;
    size_t tokens;   /* of all pairs */
    int64_t created; /* seconds since 1970 */
} dialect_answer;

typedef struct dialect dialect;
struct dialect {
    const char *name;
    const char *paths[5];   /* NULL-terminated */
    uint32_t documents_key; /* HAS(...): which key holds the documents */
    uint32_t claims;        /* any of these keys in a body makes it this dialect's; 0: see order */
    int defaults_to_documents; /* return_documents when it is absent */
    int keeps_order;           /* the answer is in the request's order (score) */
    dialect_activation activation;
    void (*write)(text *out, const dialect_answer *answer);
    void (*write_error)(text *out, int status, dialect_fault fault, const char *message);
};

extern const dialect dialects[];
extern const size_t n_dialects;

/* By name, or NULL. */
const dialect *dialect_named(const char *name);
/* The first dialect whose path this is: for errors before a body is read. NULL: no such path. */
const dialect *dialect_of_path(const char *path);
/* Which dialect a body on this path speaks. fixed: from --dialect, may be NULL. client: the value
 * of X-Client-Name or User-Agent, may be NULL (the Cohere SDK names itself). */
const dialect *dialect_choose(const char *path, const dialect *fixed, const dialect_fields *fields,
                              const char *client);

/* Reads a request; request->pairs is freed by dialect_request_free; texts belong to the body. */
int dialect_read(dialect_request *request, const dialect *d, const dialect_fields *fields,
                 const dialect_limits *limits, dialect_problem *problem);
void dialect_request_free(dialect_request *request);

/* Best first, ties by index (unless keeps_order), cut to top_n; returns how many remain. */
size_t dialect_order(dialect_scored *results, size_t n, const dialect *d,
                     const dialect_request *request);

int dialect_status(const dialect *d, dialect_fault fault);
/* d NULL: the plain form {"error", "error_type"}. */
void dialect_write_error(text *out, const dialect *d, dialect_fault fault, const char *message);

#endif
