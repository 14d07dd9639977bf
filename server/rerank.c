/* Re-ranking requests: body -> pairs -> cache -> scheduler -> answer. */
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/alloc.h"
#include "server/body.h"
#include "server/clock.h"
#include "server/server.h"
#include "status.h"

#define MAX_TIMEOUT_MS 3600000
#define PRIORITY_STEP_US 10000 /* how much later a request may come and still go first, a step */

body_parser *rerank_parser(server *s)
{
    body_parser *parser = pthread_getspecific(s->parser_key);
    if (parser == NULL) {
        parser = body_parser_open();
        if (parser != NULL && pthread_setspecific(s->parser_key, parser) != 0) {
            body_parser_close(parser);
            parser = NULL;
        }
    }
    return parser;
}

int rerank_refuse_syntax(request *r, const char *fallback)
{
    char message[320];
    const char *reason;
    size_t at = body_fault(r->body, r->bytes, &reason);
    if (at == SIZE_MAX)
        snprintf(message, sizeof message, "the body is not JSON: %s", fallback);
    else
        snprintf(message, sizeof message, "the body is not JSON: byte %zu: %s", at, reason);
    return server_refuse(r, FAULT_SYNTAX, message, 0);
}

served_model *rerank_find_model(server *s, const char *name, size_t bytes)
{
    for (size_t i = 0; name != NULL && i < s->n_models; i++)
        if (strlen(s->models[i].name) == bytes && memcmp(s->models[i].name, name, bytes) == 0)
            return &s->models[i];
    /* With one model any name will do: clients send names of their own ("rerank-v3.5"). */
    return s->n_models == 1 || name == NULL ? &s->models[0] : NULL;
}

int rerank_read_deadline(request *r)
{
    uint64_t ms = r->s->settings.deadline_ms;
    const char *asked = server_header(r, "x-request-timeout-ms");
    if (asked != NULL) {
        char *end;
        ms = strtoull(asked, &end, 10);
        if (*asked < '0' || *asked > '9' || *end || ms < 1 || ms > MAX_TIMEOUT_MS) return 0;
    }
    r->deadline_us = ms > 0 ? r->body_us + (int64_t)ms * 1000 : 0;
    return 1;
}

static float score_of(const request *r, float logit)
{
    const crank_model_info *info = &r->model->info;
    dialect_activation how =
        r->s->settings.activation_fixed ? r->s->settings.activation : r->ask.activation;
    /* Cosines and sums of similarities are no logits: a dialect's sigmoid is not for them. */
    if (info->kind != CRANK_CROSS_ENCODER || !r->model->per_pair) how = AS_MODEL;
    switch (how) {
    case AS_IDENTITY: return logit;
    case AS_SIGMOID: return crank_activate(CRANK_ACTIVATION_SIGMOID, logit);
    case AS_MODEL: break;
    }
    return crank_activate(info->activation, logit);
}

static void set_result(request *r, size_t i, const score_value *value)
{
    r->results[i] = (dialect_scored){.index = i,
                                     .logit = value->logit,
                                     .score = score_of(r, value->logit),
                                     .tokens = value->tokens,
                                     .window_start = value->window_start,
                                     .window_bytes = value->window_bytes};
}

static crank_status count_tokens(const request *r, crank_text query, const crank_text *document,
                                 size_t *n, crank_error *error)
{
    crank_encoding encoding = {0};
    crank_tokenize_options options = {.size = sizeof options,
                                      .specials_as_text = r->model->specials_as_text,
                                      .no_template = document == NULL};
    CRANK_TRY(crank_tokenize(crank_model_tokenizer(r->model->model), query, document, &options,
                             &encoding, error));
    *n = encoding.n;
    crank_encoding_free(&encoding);
    return CRANK_OK;
}

/* How many tokens of a document the first max_windows windows beside this query cover: the layout
 * of CRANK_WINDOW. */
static crank_status window_tokens(const request *r, crank_text query, size_t *tokens,
                                  crank_error *error)
{
    static const crank_text nothing = {"", 0};
    size_t length = r->ask.max_length != 0 ? r->ask.max_length : r->model->max_length;
    size_t n = r->ask.max_windows < 1000000 ? r->ask.max_windows : 1000000, own, pair;
    CRANK_TRY(count_tokens(r, query, NULL, &own, error));
    CRANK_TRY(count_tokens(r, query, &nothing, &pair, error));
    size_t added = pair - own;
    size_t room = length > added + 2 ? length - added : 2;
    size_t share = room - (own < room / 2 ? own : room / 2);
    size_t overlap = r->model->window_overlap != 0 ? r->model->window_overlap : share / 4;
    *tokens = share + (n - 1) * (overlap < share ? share - overlap : 1);
    return CRANK_OK;
}

/* How many tokens of a document the request wants looked at; 0: all. */
static crank_status document_limit(const request *r, crank_text query, size_t *most,
                                   crank_error *error)
{
    size_t tokens = 0;
    *most = r->ask.max_document_tokens;
    /* Of what is cut once there is one chunk. */
    if (!r->model->windows || r->ask.max_windows == 0) return CRANK_OK;
    CRANK_TRY(window_tokens(r, query, &tokens, error));
    if (*most == 0 || tokens < *most) *most = tokens;
    return CRANK_OK;
}

/* truncate=false: a pair that would be cut fails the request. Short texts need the look, too:
 * U+FDFA is three bytes and 18 letters. */
static crank_status check_length(const request *r, size_t k, crank_error *error)
{
    const crank_pair *pair = &r->pairs[k];
    size_t most = r->ask.max_length != 0 ? r->ask.max_length : r->model->max_length, n = 0;
    CRANK_TRY(count_tokens(r, pair->query, &pair->document, &n, error));
    if (n <= most) return CRANK_OK;
    snprintf(error->message, sizeof error->message,
             "text %zu has %zu tokens with the query, the limit is %zu (and truncation is off)",
             r->missing[k], n, most);
    return error->status = CRANK_LIMIT;
}

/* A worker's, before it scores pairs [first, first + n): max_tokens_per_query, max_tokens_per_doc
 * and max_chunks_per_doc make the job's pairs shorter (answers give documents as they came), and
 * truncate=false is looked after. */
static crank_status prepare_pairs(job *j, size_t first, size_t n, crank_error *error)
{
    request *r = j->user;
    const crank_tokenizer *tokenizer = crank_model_tokenizer(r->model->model);
    int as_text = r->model->specials_as_text;
    crank_text before = {NULL, 0}, now = {NULL, 0};
    size_t most = 0;
    for (size_t k = first; k < first + n; k++) {
        crank_pair *pair = &r->pairs[k];
        if (k == first || pair->query.data != before.data || pair->query.bytes != before.bytes) {
            before = now = pair->query;
            if (r->ask.max_query_tokens > 0 && before.bytes > 0)
                CRANK_TRY(crank_cut(tokenizer, before, r->ask.max_query_tokens, as_text, &now.bytes,
                                    error));
            CRANK_TRY(document_limit(r, now, &most, error));
        }
        pair->query = now;
        if (most > 0)
            CRANK_TRY(
                crank_cut(tokenizer, pair->document, most, as_text, &pair->document.bytes, error));
        if (r->ask.refuse_long) CRANK_TRY(check_length(r, k, error));
    }
    return CRANK_OK;
}

/* Limits of a text that are no tighter than the model's of the pair change nothing. */
static void drop_idle_limits(request *r)
{
    dialect_request *ask = &r->ask;
    if (!r->model->windows) {
        ask->max_windows = 0;
        if (ask->max_document_tokens >= r->model->max_length) ask->max_document_tokens = 0;
    }
    if (ask->max_query_tokens >= r->model->max_length) ask->max_query_tokens = 0;
}

static int needs_preparing(const dialect_request *ask)
{
    return ask->max_query_tokens > 0 || ask->max_document_tokens > 0 || ask->max_windows > 0 ||
           ask->refuse_long;
}

static void take_names(request *r)
{
    if (r->ask.id != NULL && server_header(r, "x-request-id") == NULL) {
        memcpy(r->id, r->ask.id, r->ask.id_bytes);
        r->id[r->ask.id_bytes] = '\0';
    }
    size_t n = r->ask.user_bytes < sizeof r->user - 1 ? r->ask.user_bytes : sizeof r->user - 1;
    if (r->ask.user != NULL) memcpy(r->user, r->ask.user, n);
    r->user[n] = '\0';
}

/* Keys are of texts as they came: what a request's limits make of them belongs to the seed. */
static score_key seed_of(const request *r)
{
    const dialect_request *ask = &r->ask;
    uint64_t parts[7] = {r->model->seed.high,       r->model->seed.low,       ask->max_length,
                         ask->max_query_tokens,     ask->max_document_tokens, ask->max_windows,
                         (uint64_t)ask->refuse_long};
    return scores_seed(parts, sizeof parts / sizeof parts[0]);
}

/* Fills results from the caches; what they do not know is listed in `missing`. */
static int look_up(request *r)
{
    server *s = r->s;
    size_t n = r->ask.n;
    r->results = server_alloc(n, sizeof *r->results);
    r->missing = server_alloc(n, sizeof *r->missing);
    r->keys = server_alloc(n, sizeof *r->keys);
    if (r->results == NULL || r->missing == NULL || r->keys == NULL) return 0;
    int cached = (s->scores != NULL || s->redis != NULL) && r->model->per_pair;
    score_key query = {0, 0};
    score_key seed = seed_of(r);
    size_t hits = 0;
    for (size_t i = 0; i < n; i++) {
        const crank_pair *pair = &r->ask.pairs[i];
        if (cached) {
            if (i == 0 || pair->query.data != pair[-1].query.data)
                query = scores_query_key(seed, pair->query);
            r->keys[i] = scores_pair_key(query, pair->document);
        }
        score_value value;
        if (cached && s->scores != NULL && scores_get(s->scores, r->keys[i], &value)) {
            hits++;
            set_result(r, i, &value);
            r->tokens += value.tokens;
        } else {
            r->missing[r->n_missing++] = i;
        }
    }
    if (cached && s->scores != NULL) {
        METRICS_ADD(s->metrics.text_hits, hits);
        METRICS_ADD(s->metrics.text_misses, n - hits);
    }
    return 1;
}

/* The shared tier is asked for what is missing. */
static int ask_redis(request *r)
{
    server *s = r->s;
    if (s->redis == NULL || r->n_missing == 0 || !r->model->per_pair) return 1;
    size_t n = r->n_missing, left = 0;
    score_key *wanted = server_alloc(n, sizeof *wanted);
    score_value *values = server_alloc(n, sizeof *values);
    char *found = server_zero(n, 1);
    if (wanted != NULL && values != NULL && found != NULL) {
        for (size_t k = 0; k < n; k++) wanted[k] = r->keys[r->missing[k]];
        redis_get(s->redis, wanted, n, values, found);
        for (size_t k = 0; k < n; k++) {
            size_t i = r->missing[k];
            if (!found[k]) {
                r->missing[left++] = i;
                continue;
            }
            set_result(r, i, &values[k]);
            r->tokens += values[k].tokens;
            if (s->scores != NULL) scores_put(s->scores, r->keys[i], &values[k]);
        }
        r->n_missing = left;
    }
    server_free(wanted);
    server_free(values);
    server_free(found);
    return 1;
}

static int answer(request *r)
{
    text out = {0};
    size_t n = dialect_order(r->results, r->ask.n, r->dialect, &r->ask);
    dialect_answer answer = {.model = r->model->name,
                             .id = r->id,
                             .request = &r->ask,
                             .results = r->results,
                             .n = n,
                             .tokens = r->tokens,
                             .created = (int64_t)time(NULL)};
    r->dialect->write(&out, &answer);
    METRICS_ADD(r->s->metrics.pairs, r->ask.n);
    METRICS_ADD(r->s->metrics.tokens, r->tokens);
    return server_answer(r, 200, "application/json", &out);
}

int rerank_submit(request *r, const job *work, int (*finish)(request *r))
{
    server *s = r->s;
    r->work = *work;
    r->work.deadline_us = r->deadline_us;
    r->work.done = server_job_done;
    r->work.user = r;
    switch (scheduler_admit(r->model->queue, &r->work)) {
    case REFUSED_FULL: return server_refuse(r, FAULT_OVERLOADED, "the queue is full", 0);
    case REFUSED_LATE:
        return server_refuse(r, FAULT_LATE, "the deadline cannot be met: nothing was computed", 0);
    case ADMITTED: break;
    }
    r->finish = finish;
    r->waited = 1;
    MHD_suspend_connection(r->c->mhd);
    pthread_mutex_lock(&s->lock);
    r->c->phase = PHASE_WAITING;
    pthread_mutex_unlock(&s->lock);
    scheduler_enqueue(r->model->queue, &r->work);
    return MHD_YES;
}

static int finish(request *r);

static int submit(request *r)
{
    size_t n = r->n_missing;
    r->pairs = server_alloc(n, sizeof *r->pairs);
    r->values = server_zero(n, sizeof *r->values);
    if (r->pairs == NULL || r->values == NULL)
        return server_refuse(r, FAULT_MEMORY, "out of memory", 0);
    for (size_t k = 0; k < n; k++) r->pairs[k] = r->ask.pairs[r->missing[k]];
    job work = {.pairs = r->pairs,
                .n = n,
                .max_length = r->ask.max_length,
                .delay_us = (int64_t)r->ask.priority * PRIORITY_STEP_US,
                .values = r->values,
                .prepare = needs_preparing(&r->ask) ? prepare_pairs : NULL};
    return rerank_submit(r, &work, finish);
}

static int read_request(request *r, dialect_problem *problem)
{
    server *s = r->s;
    body_parser *parser = rerank_parser(s);
    body_value root;
    body_outcome outcome = parser == NULL
                               ? BODY_NO_MEMORY
                               : body_parse(parser, r->body, r->bytes, &r->document, &root);
    if (outcome == BODY_NO_MEMORY) {
        problem->fault = FAULT_MEMORY;
        snprintf(problem->message, sizeof problem->message, "out of memory");
        return 0;
    }
    if (outcome == BODY_FAULT) {
        problem->fault = FAULT_SYNTAX;
        snprintf(problem->message, sizeof problem->message, "malformed");
        return 0;
    }
    dialect_fields fields;
    if (!dialect_fields_read(&fields, root, problem)) return 0;
    const char *client = server_header(r, "x-client-name");
    if (client == NULL) client = server_header(r, "user-agent");
    r->dialect = dialect_choose(r->path, s->settings.dialect, &fields, client);
    dialect_limits limits = {.max_documents = s->settings.max_documents};
    if (!dialect_read(&r->ask, r->dialect, &fields, &limits, problem)) return 0;
    r->model = rerank_find_model(s, r->ask.model, r->ask.model_bytes);
    if (r->model == NULL) {
        problem->fault = FAULT_MODEL;
        snprintf(problem->message, sizeof problem->message, "no model '%.*s' is served here",
                 (int)(r->ask.model_bytes < 100 ? r->ask.model_bytes : 100), r->ask.model);
        return 0;
    }
    if (r->ask.max_length > r->model->max_length) r->ask.max_length = 0;
    if (r->model->info.labels > 1 && r->model->info.kind == CRANK_CROSS_ENCODER) {
        problem->fault = FAULT_MODEL;
        snprintf(problem->message, sizeof problem->message,
                 "the model has %d labels: re-ranking needs one", r->model->info.labels);
        return 0;
    }
    take_names(r);
    drop_idle_limits(r);
    return 1;
}

int rerank_begin(request *r)
{
    dialect_problem problem = {0};
    r->scoring = 1;
    if (!route_healthy(r->s) && atomic_load(&r->s->lost))
        return server_refuse(r, FAULT_UNHEALTHY, "the device failed", 0);
    if (!read_request(r, &problem)) {
        if (problem.fault == FAULT_SYNTAX) return rerank_refuse_syntax(r, problem.message);
        return server_refuse(r, problem.fault, problem.message, 0);
    }
    if (!rerank_read_deadline(r)) return server_refuse(r, FAULT_SHAPE, RERANK_BAD_DEADLINE, 0);
    if (!look_up(r) || !ask_redis(r)) return server_refuse(r, FAULT_MEMORY, "out of memory", 0);
    return r->n_missing == 0 ? answer(r) : submit(r);
}

static int keep_and_answer(request *r)
{
    server *s = r->s;
    int cached = r->model->per_pair && !r->work.spare;
    for (size_t k = 0; k < r->n_missing; k++) {
        size_t i = r->missing[k];
        set_result(r, i, &r->values[k]);
        r->tokens += r->values[k].tokens;
        if (cached && s->scores != NULL) scores_put(s->scores, r->keys[i], &r->values[k]);
    }
    if (cached && s->redis != NULL) {
        for (size_t k = 0; k < r->n_missing; k++) r->keys[k] = r->keys[r->missing[k]];
        redis_put(s->redis, r->keys, r->n_missing, r->values);
    }
    histogram_add_us(&s->metrics.tokenize_us, r->work.tokenize_us);
    histogram_add_us(&s->metrics.queue_us, r->work.queue_us);
    histogram_add_us(&s->metrics.compute_us, r->work.compute_us);
    return answer(r);
}

int rerank_failed(request *r)
{
    switch (r->work.outcome) {
    case JOB_LATE:
        return server_refuse(r, FAULT_LATE, "the deadline passed before the scores were computed",
                             0);
    case JOB_GONE: r->status = 499; return MHD_NO;
    case JOB_DONE:
    case JOB_FAILED:
    case JOB_PENDING: break;
    }
    switch (r->work.error.status) {
    case CRANK_OUT_OF_MEMORY: return server_refuse(r, FAULT_MEMORY, "out of memory", 0);
    case CRANK_DEVICE: return server_refuse(r, FAULT_UNHEALTHY, r->work.error.message, 0);
    case CRANK_LIMIT: return server_refuse(r, FAULT_TOO_LONG, r->work.error.message, 0);
    case CRANK_INVALID_ARGUMENT: return server_refuse(r, FAULT_SHAPE, r->work.error.message, 0);
    default: return server_refuse(r, FAULT_BACKEND, r->work.error.message, 0);
    }
}

static int finish(request *r)
{
    return r->work.outcome == JOB_DONE ? keep_and_answer(r) : rerank_failed(r);
}

void rerank_free(request *r)
{
    body_document_close(r->document);
    dialect_request_free(&r->ask);
    server_free(r->results);
    server_free(r->keys);
    server_free(r->missing);
    server_free(r->pairs);
    server_free(r->values);
}
