#include "runtime/call.h"

#include <string.h>

#include "clock.h"
#include "runtime/reader.h"

const crank_text *text_at(text_list list, size_t i)
{
    return (const crank_text *)(const void *)((const char *)list.first + i * list.stride_bytes);
}

/* ---- options ---- */

crank_status call_open(call *c, crank_session *s, const crank_score_options *options,
                       crank_error *error)
{
    *c = (call){.s = s, .started_us = clock_us()};
    const crank_model *m = s->model;
    CRANK_TRY(options_read(&c->options, sizeof c->options, options, "crank_score_options", error));
    CRANK_CHECK(m->tok != NULL, MODEL, error, "%s: texts cannot be scored without a tokenizer: %s",
                m->path, m->tok_missing != NULL ? m->tok_missing : "the converted file has none");
    c->max_length = c->options.max_length != 0 ? c->options.max_length : m->max_length;
    size_t most = (size_t)m->tokens.max_tokens;
    CRANK_CHECK(c->max_length <= most, INVALID_ARGUMENT, error,
                "max_length: expected at most %zu (the model's positions), found %zu", most,
                c->max_length);
    if (c->options.specials_as_text) c->tok_flags = TOK_SPECIALS_AS_TEXT;
    CRANK_CHECK(c->options.activation >= CRANK_ACTIVATION_MODEL &&
                    c->options.activation <= CRANK_ACTIVATION_SOFTMAX,
                INVALID_ARGUMENT, error, "activation: unknown number %d",
                (int)c->options.activation);
    CRANK_CHECK(
        c->options.truncation >= CRANK_LONGEST_FIRST && c->options.truncation <= CRANK_WINDOW,
        INVALID_ARGUMENT, error, "truncation: unknown number %d", (int)c->options.truncation);
    return CRANK_OK;
}

tok_truncation call_truncation(const call *c)
{
    return c->options.truncation == CRANK_LONGEST_FIRST ? TOK_LONGEST_FIRST : TOK_ONLY_SECOND;
}

/* ---- encoding ---- */

typedef struct encode_job {
    call *c;
    text_list list;
    size_t n;
    encoded *out;
    const size_t *query_of; /* of the document; NULL while queries are encoded */
    bool alone;             /* texts stand alone (bi-encoders) */
    atomic_int failed;
    pthread_mutex_t lock;
    crank_status status;
    crank_error error;
} encode_job;

#define TEXTS_PER_TURN 8

static size_t useful_ids(const encode_job *job, size_t i)
{
    const call *c = job->c;
    const tokenizer *tok = c->s->model->tok;
    if (job->alone) {
        size_t added = (size_t)tokenizer_info(tok)->n_added_single;
        return c->max_length > added ? c->max_length - added : 1;
    }
    if (c->s->model->ranker.present) return c->max_length;
    if (c->options.truncation == CRANK_WINDOW) return SIZE_MAX;
    size_t known = SIZE_MAX;
    if (job->query_of != NULL) known = c->texts[job->query_of[i]].n;
    return tok_max_useful(tok, known, c->max_length, call_truncation(c));
}

static crank_status encode_one(encode_job *job, worker *w, uint32_t pool, size_t i,
                               crank_error *error)
{
    const crank_text *text = text_at(job->list, i);
    CRANK_CHECK(text->data != NULL || text->bytes == 0, INVALID_ARGUMENT, error,
                "text %zu: data is NULL but bytes is %zu", i, text->bytes);
    encoded *out = &job->out[i];
    out->pool = pool;
    out->at = w->ids.n;
    size_t useful = useful_ids(job, i);
    size_t stop = useful >= SIZE_MAX - w->ids.n ? SIZE_MAX : w->ids.n + useful;
    CRANK_TRY(tok_encode(job->c->s->model->tok, w->scratch, text->data != NULL ? text->data : "",
                         text->bytes, job->c->tok_flags, stop, &w->ids, error));
    out->n = w->ids.n - out->at;
    return CRANK_OK;
}

/* Turns are dealt, not taken: each worker's pool is as long as in the last call with these texts,
 * so that a warm session allocates nothing whoever is fast today. */
static void encode_texts(void *context, int number, int n_workers)
{
    encode_job *job = context;
    worker *w = &job->c->s->workers[number];
    size_t stride = (size_t)n_workers * TEXTS_PER_TURN;
    for (size_t first = (size_t)number * TEXTS_PER_TURN; first < job->n; first += stride) {
        if (atomic_load(&job->failed)) break;
        size_t end = first + TEXTS_PER_TURN < job->n ? first + TEXTS_PER_TURN : job->n;
        for (size_t i = first; i < end; i++) {
            crank_error error = {0};
            crank_status status = encode_one(job, w, (uint32_t)number, i, &error);
            if (status == CRANK_OK) continue;
            pthread_mutex_lock(&job->lock);
            if (job->status == CRANK_OK) {
                job->status = status;
                job->error = error;
            }
            pthread_mutex_unlock(&job->lock);
            atomic_store(&job->failed, 1);
            return;
        }
    }
}

static crank_status encode_all(call *c, text_list list, size_t n, encoded *out,
                               const size_t *query_of, bool alone, crank_error *error)
{
    encode_job job = {
        .c = c, .list = list, .n = n, .out = out, .query_of = query_of, .alone = alone};
    pthread_mutex_init(&job.lock, NULL);
    if (n > TEXTS_PER_TURN) {
        team_run(c->s->threads, encode_texts, &job);
    } else {
        encode_texts(&job, 0, 1);
    }
    pthread_mutex_destroy(&job.lock);
    if (job.status != CRANK_OK && error != NULL) *error = job.error;
    return job.status;
}

const int32_t *call_ids(const call *c, const encoded *e)
{
    static const int32_t none[1] = {0}; /* a pool that never got an id has no memory */
    const int32_t *pool = c->s->workers[e->pool].ids.ids;
    return pool != NULL ? pool + e->at : none;
}

/* The model's prompt goes before the first text, as plain string concatenation. */
static crank_status add_prompts(call *c, crank_text *distinct, size_t n, crank_error *error)
{
    const char *text = c->s->model->prompt;
    if (text == NULL || c->s->model->ranker.present) return CRANK_OK;
    size_t prompt_bytes = strlen(text), total = 0;
    for (size_t i = 0; i < n; i++) {
        CRANK_CHECK(distinct[i].bytes < SIZE_MAX / 4 - total - prompt_bytes, LIMIT, error,
                    "the queries are too long");
        total += prompt_bytes + distinct[i].bytes;
    }
    CRANK_TRY(growable_reserve(&c->s->prompted, total, 1, error));
    char *at = c->s->prompted.data;
    for (size_t i = 0; i < n; i++) {
        memcpy(at, text, prompt_bytes);
        if (distinct[i].bytes > 0) memcpy(at + prompt_bytes, distinct[i].data, distinct[i].bytes);
        distinct[i] = (crank_text){at, prompt_bytes + distinct[i].bytes};
        at += distinct[i].bytes;
    }
    return CRANK_OK;
}

static bool equal_text(const crank_text *a, const crank_text *b)
{
    return a->bytes == b->bytes &&
           (a->data == b->data || a->bytes == 0 || memcmp(a->data, b->data, a->bytes) == 0);
}

/* Fills texts and query_of: a query that repeats its predecessor is encoded once. */
crank_status call_encode_pairs(call *c, bool alone, crank_error *error)
{
    crank_session *s = c->s;
    for (int i = 0; i < s->n_workers; i++) s->workers[i].ids.n = 0;
    size_t n = c->n;
    CRANK_CHECK(n < UINT32_MAX / 4, LIMIT, error, "%zu pairs in one call, expected fewer", n);
    size_t each = 2 * sizeof(encoded) + sizeof(size_t) + sizeof(crank_text);
    CRANK_TRY(growable_reserve(&s->texts, n, each, error));
    c->texts = s->texts.data;
    c->query_of = (size_t *)(void *)(c->texts + 2 * n);
    crank_text *distinct = (crank_text *)(void *)(c->query_of + n);
    for (size_t i = 0; i < n; i++) {
        const crank_text *query = text_at(c->queries, i);
        bool repeats = i > 0 && equal_text(query, text_at(c->queries, i - 1));
        if (!repeats) distinct[c->n_queries++] = *query;
        c->query_of[i] = c->n_queries - 1;
    }
    CRANK_TRY(add_prompts(c, distinct, c->n_queries, error));
    text_list queries = {distinct, sizeof *distinct};
    CRANK_TRY(encode_all(c, queries, c->n_queries, c->texts, NULL, alone, error));
    return encode_all(c, c->documents, n, c->texts + c->n_queries, c->query_of, alone, error);
}

crank_status call_encode_texts(call *c, text_list list, size_t n, crank_error *error)
{
    crank_session *s = c->s;
    for (int i = 0; i < s->n_workers; i++) s->workers[i].ids.n = 0;
    CRANK_TRY(growable_reserve(&s->texts, n, sizeof(encoded), error));
    c->texts = s->texts.data;
    return encode_all(c, list, n, c->texts, NULL, true, error);
}

crank_status call_encode_query(call *c, crank_text query, crank_error *error)
{
    crank_session *s = c->s;
    for (int i = 0; i < s->n_workers; i++) s->workers[i].ids.n = 0;
    CRANK_TRY(growable_reserve(&s->texts, 1, sizeof(encoded), error));
    c->texts = s->texts.data;
    c->n_queries = 1;
    CRANK_TRY(add_prompts(c, &query, 1, error));
    return encode_all(c, (text_list){&query, 0}, 1, c->texts, NULL, true, error);
}

void call_finish(const call *c, crank_usage *usage)
{
    if (usage == NULL) return;
    *usage = c->usage;
    usage->total_us = clock_us() - c->started_us;
}
