/* One call of the library on a session: its options, its texts, and their ids. Scoring, ranking and
 * late interaction stand on it. */
#ifndef CRANK_RUNTIME_CALL_H
#define CRANK_RUNTIME_CALL_H

#include "runtime/session.h"

#define MAX_DUO_DOCUMENTS 200

/* Texts at a constant distance: pairs' queries, pairs' documents, or a plain array. stride 0: all
 * the same text. */
typedef struct text_list {
    const crank_text *first;
    size_t stride_bytes;
} text_list;

/* An encoded text: ids [n] in worker `pool`'s ids from `at` on. */
typedef struct encoded {
    uint32_t pool;
    size_t at, n;
} encoded;
const crank_text *text_at(text_list list, size_t i);

typedef struct unit {
    size_t pair;           /* whose it is; bi-encoders: the text's number */
    size_t same_as;        /* the first equal unit, or itself */
    uint32_t window_first; /* ids of the document before this window */
    bool cached;
} unit;

/* Everything that one call needs to know; arrays are the session's. */
typedef struct call {
    crank_session *s;
    crank_score_options options;
    size_t max_length;
    unsigned tok_flags;
    text_list queries, documents;
    size_t n;         /* pairs */
    size_t *query_of; /* [n]: index into encoded of pair i's query */
    encoded *texts;   /* distinct queries, then documents */
    size_t n_queries;
    unit *units;
    pack_sequence *sequences; /* [n_units], then compacted to what runs */
    size_t n_units;
    float *outputs; /* [n_units, width] */
    crank_usage usage;
    int64_t started_us;
} call;

/* Reads the options and checks them against the model. */
crank_status call_open(call *c, crank_session *s, const crank_score_options *options,
                       crank_error *error);
tok_truncation call_truncation(const call *c);
/* Fills texts and query_of: each query once (one that repeats its predecessor is not encoded
 * again), then the documents, side by side on the team. alone: texts stand alone, not in a pair. */
crank_status call_encode_pairs(call *c, bool alone, crank_error *error);
/* Encodes n texts into c->texts: no queries. */
crank_status call_encode_texts(call *c, text_list list, size_t n, crank_error *error);
/* Encodes one query, prompt before it, into c->texts[0]. */
crank_status call_encode_query(call *c, crank_text query, crank_error *error);
const int32_t *call_ids(const call *c, const encoded *e);
/* The activation that the options ask for. */
crank_activation call_activation(const call *c);
/* Best score first, ties by index; in place, allocates nothing. */
void call_sort(crank_result *results, size_t n);
/* Copies what was counted. usage may be NULL. */
void call_finish(const call *c, crank_usage *usage);

#endif
