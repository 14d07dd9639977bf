#include "server/scheduler.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "server/alloc.h"
#include "server/clock.h"
#include "server/cost.h"

#define MAX_SLICES 256
#define MAX_WORKERS 64
#define LEAST_BATCH_TOKENS 512
#define START_TOKENS_PER_BYTE 0.28
#define LEARNING 0.1

typedef struct worker {
    scheduler *s;
    crank_session *session;
    crank_session *lost; /* the session before, when the spare one is in use */
    pthread_t thread;
    int started;
    crank_pair *pairs; /* [capacity], and beside them: */
    float *logits;
    uint32_t *tokens;
    crank_result *results; /* whole mode */
    crank_text *documents;
    size_t capacity;
} worker;

struct scheduler {
    scheduler_options options;
    const crank_model *model;
    size_t model_max_length;
    size_t labels;
    int whole;    /* jobs go one by one through crank_rank: windows, duo, late interaction */
    int per_pair; /* a pair's score does not depend on its companions */
    int failed;
    pthread_mutex_t lock;
    pthread_cond_t work;
    job *first, *last; /* by key */
    size_t jobs, pairs, bytes, tokens;
    size_t waiting; /* pairs not yet taken */
    cost_model cost;
    double tokens_per_byte;
    int stopping;
    worker workers[MAX_WORKERS];
    int n_workers;
};

/* A part of a job in a batch. */
typedef struct slice {
    job *j;
    size_t first, n, tokens;
    size_t scored; /* n, or 0 when there is nothing (left) to score */
} slice;

typedef struct batch {
    scheduler *s;
    slice slices[MAX_SLICES];
    size_t n_slices, n_pairs, tokens, max_length;
    int unscored;    /* its jobs are: they would spoil what a batch's time says of tokens */
    size_t n_scored; /* pairs of all slices that go to the model */
    crank_usage usage;
} batch;

/* ---- estimates --------------------------------------------------------------------------------
 */

static size_t estimate(const scheduler *s, const job *j, const crank_pair *pair)
{
    double bytes = (double)pair->query.bytes + (double)pair->document.bytes;
    double tokens = 4 + bytes * s->tokens_per_byte;
    if (j->unscored) return (size_t)tokens;
    if (s->options.score.truncation == CRANK_WINDOW) return (size_t)(tokens * 1.4);
    size_t most = j->max_length != 0 ? j->max_length : s->model_max_length;
    return tokens < (double)most ? (size_t)tokens : most;
}

static void measure_job(const scheduler *s, job *j)
{
    j->bytes = 0;
    j->tokens = 0;
    for (size_t i = 0; i < j->n; i++) {
        j->bytes += j->pairs[i].document.bytes;
        j->tokens += estimate(s, j, &j->pairs[i]);
    }
    if (j->n > 0) j->bytes += j->pairs[0].query.bytes;
}

/* ---- queue ------------------------------------------------------------------------------------
 */

static void link_job(scheduler *s, job *j)
{
    job *after = s->last;
    while (after != NULL && after->key > j->key) after = after->before;
    j->before = after;
    j->next = after != NULL ? after->next : s->first;
    if (j->next != NULL)
        j->next->before = j;
    else
        s->last = j;
    if (after != NULL)
        after->next = j;
    else
        s->first = j;
    j->queued = 1;
    s->waiting += j->n - j->taken;
}

static void unlink_job(scheduler *s, job *j)
{
    if (!j->queued) return;
    if (j->before != NULL)
        j->before->next = j->next;
    else
        s->first = j->next;
    if (j->next != NULL)
        j->next->before = j->before;
    else
        s->last = j->before;
    j->queued = 0;
    s->waiting -= j->n - j->taken;
}

/* A cancelled job keeps its place only for what a batch holds of it. */
static void release_untaken(scheduler *s, job *j)
{
    size_t tokens = j->tokens - j->flight_tokens;
    j->released = j->n - j->taken;
    s->pairs -= j->released;
    j->tokens -= tokens;
    s->tokens -= tokens;
}

static void give_back(scheduler *s, job *j)
{
    if (!j->admitted) return;
    j->admitted = 0;
    s->jobs--;
    s->pairs -= j->n - j->finished - j->released;
    s->tokens -= j->tokens;
    s->bytes -= j->bytes;
}

admission scheduler_admit(scheduler *s, job *j)
{
    int64_t now = server_clock_us();
    admission answer = ADMITTED;
    pthread_mutex_lock(&s->lock);
    measure_job(s, j);
    const scheduler_options *o = &s->options;
    double own = cost_of(&s->cost, (double)j->tokens);
    double wait = s->cost.slope * (double)s->tokens / (double)s->n_workers;
    /* An idle server takes any request that is within the limits of one body. */
    if (s->jobs > 0 &&
        (s->pairs + j->n > o->queue_pairs || s->tokens + j->tokens > o->queue_tokens ||
         s->bytes + j->bytes > o->queue_bytes || wait > (double)o->queue_us))
        answer = REFUSED_FULL;
    else if (j->deadline_us != 0 &&
             (now >= j->deadline_us ||
              (s->jobs > 0 && (double)now + wait + own > (double)j->deadline_us)))
        answer = REFUSED_LATE;
    if (answer == ADMITTED) {
        j->arrived_us = now;
        j->key = now + (int64_t)(2 * own) + j->delay_us;
        if (j->deadline_us != 0 && j->deadline_us - (int64_t)own < j->key)
            j->key = j->deadline_us - (int64_t)own;
        j->outcome = j->cancelled = JOB_PENDING;
        j->taken = j->finished = j->in_flight = j->flight_tokens = j->released = 0;
        j->tokenize_us = j->queue_us = j->compute_us = 0;
        j->queued = j->spare = 0;
        j->admitted = 1;
        s->jobs++;
        s->pairs += j->n;
        s->tokens += j->tokens;
        s->bytes += j->bytes;
    }
    pthread_mutex_unlock(&s->lock);
    return answer;
}

int scheduler_full(scheduler *s, size_t bytes)
{
    pthread_mutex_lock(&s->lock);
    const scheduler_options *o = &s->options;
    double wait = s->cost.slope * (double)s->tokens / (double)s->n_workers;
    int full = s->jobs > 0 && (s->pairs >= o->queue_pairs || s->tokens >= o->queue_tokens ||
                               s->bytes + bytes > o->queue_bytes || wait > (double)o->queue_us);
    pthread_mutex_unlock(&s->lock);
    return full;
}

void scheduler_enqueue(scheduler *s, job *j)
{
    int refused = 0;
    pthread_mutex_lock(&s->lock);
    if (s->failed || s->stopping || j->cancelled != JOB_PENDING) {
        refused = 1;
        if (j->cancelled == JOB_PENDING) {
            j->error.status = CRANK_DEVICE;
            snprintf(j->error.message, sizeof j->error.message, "the device failed");
        }
        j->outcome = j->cancelled != JOB_PENDING ? j->cancelled : JOB_FAILED;
        give_back(s, j);
    } else {
        link_job(s, j);
        pthread_cond_signal(&s->work);
    }
    pthread_mutex_unlock(&s->lock);
    if (refused) j->done(j);
}

static int cancel_locked(scheduler *s, job *j, job_outcome outcome)
{
    if (!j->admitted || j->cancelled != JOB_PENDING) return 0;
    j->cancelled = outcome;
    int was_queued = j->queued;
    unlink_job(s, j);
    if (j->in_flight > 0) {
        if (was_queued) release_untaken(s, j);
        return 0;
    }
    if (!was_queued) return 0;
    j->outcome = outcome;
    give_back(s, j);
    return 1;
}

int scheduler_cancel(scheduler *s, job *j, job_outcome outcome)
{
    pthread_mutex_lock(&s->lock);
    int over = cancel_locked(s, j, outcome);
    pthread_mutex_unlock(&s->lock);
    return over;
}

int scheduler_expire(scheduler *s, job *j, int64_t now_us)
{
    if (j->deadline_us == 0 || now_us < j->deadline_us) return 0;
    return scheduler_cancel(s, j, JOB_LATE);
}

/* ---- batches ----------------------------------------------------------------------------------
 */

static size_t budget(const scheduler *s)
{
    double most = (double)s->options.batch_tokens;
    if (s->cost.slope > 0) {
        double timely = ((double)s->options.batch_us - s->cost.fixed) / s->cost.slope;
        if (timely < most) most = timely;
    }
    return most > LEAST_BATCH_TOKENS ? (size_t)most : LEAST_BATCH_TOKENS;
}

static void take_slice(scheduler *s, batch *b, job *j, size_t most_tokens, size_t most_pairs)
{
    slice part = {.j = j, .first = j->taken};
    while (part.first + part.n < j->n && b->n_pairs + part.n < most_pairs) {
        size_t tokens = estimate(s, j, &j->pairs[part.first + part.n]);
        int any = b->n_pairs + part.n > 0;
        if (!s->whole && any && b->tokens + part.tokens + tokens > most_tokens) break;
        part.tokens += tokens;
        part.n++;
    }
    if (part.n == 0) return;
    b->n_pairs += part.n;
    b->tokens += part.tokens;
    size_t left = j->tokens - j->flight_tokens;
    if (part.tokens > left) part.tokens = left; /* the estimate has changed since admission */
    j->flight_tokens += part.tokens;
    b->slices[b->n_slices++] = part;
    if (j->taken + part.n == j->n) unlink_job(s, j); /* while its untaken pairs are counted */
    if (j->queued) s->waiting -= part.n;
    j->taken += part.n;
    j->in_flight += part.n;
}

/* Fills b in the queue's order; jobs that are too late by now leave: they are chained to *late. */
static void gather(scheduler *s, batch *b, size_t most_pairs, job **late)
{
    int64_t now = server_clock_us();
    size_t most = budget(s);
    for (job *j = s->first, *next; j != NULL && b->n_slices < MAX_SLICES; j = next) {
        next = j->next;
        if (j->deadline_us != 0 && now >= j->deadline_us) {
            if (cancel_locked(s, j, JOB_LATE)) {
                j->next = *late;
                *late = j;
            }
            continue;
        }
        if (b->n_slices == 0) {
            b->max_length = j->max_length;
            b->unscored = j->unscored;
        }
        if (j->max_length != b->max_length || j->unscored != b->unscored) continue;
        if (b->n_slices > 0 && (s->whole || b->tokens >= most || b->n_pairs >= most_pairs)) break;
        take_slice(s, b, j, most, s->whole ? j->n : most_pairs);
    }
}

static int make_room(worker *w, size_t n)
{
    if (n <= w->capacity) return 1;
    size_t capacity = w->capacity > 0 ? w->capacity : 256;
    while (capacity < n) capacity *= 2;
    void *pairs = server_grow(w->pairs, capacity, sizeof *w->pairs);
    if (pairs != NULL) w->pairs = pairs;
    void *logits = server_grow(w->logits, capacity, w->s->labels * sizeof *w->logits);
    if (logits != NULL) w->logits = logits;
    void *tokens = server_grow(w->tokens, capacity, sizeof *w->tokens);
    if (tokens != NULL) w->tokens = tokens;
    void *results = server_grow(w->results, capacity, sizeof *w->results);
    if (results != NULL) w->results = results;
    void *documents = server_grow(w->documents, capacity, sizeof *w->documents);
    if (documents != NULL) w->documents = documents;
    if (!pairs || !logits || !tokens || !results || !documents) return 0;
    w->capacity = capacity;
    return 1;
}

static void add_usage(crank_usage *sum, const crank_usage *usage)
{
    sum->pairs += usage->pairs;
    sum->computed_pairs += usage->computed_pairs;
    sum->tokens += usage->tokens;
    sum->computed_tokens += usage->computed_tokens;
    sum->cache_hits += usage->cache_hits;
    sum->tokenize_us += usage->tokenize_us;
    sum->compute_us += usage->compute_us;
    sum->total_us += usage->total_us;
}

/* Between micro-batches: goes on while somebody still wants a score. */
static int nobody_waits(void *user, size_t done, size_t total)
{
    (void)done, (void)total;
    batch *b = user;
    int wanted = 0;
    pthread_mutex_lock(&b->s->lock);
    for (size_t i = 0; i < b->n_slices && !wanted; i++)
        wanted = b->slices[i].j->cancelled == JOB_PENDING;
    pthread_mutex_unlock(&b->s->lock);
    return !wanted;
}

static int same_query(const crank_pair *a, const crank_pair *b)
{
    return a->query.bytes == b->query.bytes &&
           (a->query.bytes == 0 || memcmp(a->query.data, b->query.data, a->query.bytes) == 0);
}

/* Neighbours with the same query go through crank_rank together. */
static crank_status score_whole(worker *w, batch *b, crank_score_options *options,
                                crank_usage *usage, crank_error *error)
{
    job *j = b->slices[0].j;
    crank_status status = CRANK_OK;
    for (size_t first = 0, n; first < j->n && status == CRANK_OK; first += n) {
        for (n = 0; first + n < j->n && same_query(&j->pairs[first], &j->pairs[first + n]); n++)
            w->documents[n] = j->pairs[first + n].document;
        size_t n_results = 0;
        crank_usage part = {0};
        memset(w->tokens, 0, n * sizeof *w->tokens);
        options->pair_tokens = w->tokens;
        status = crank_rank(w->session, j->pairs[first].query, w->documents, n, options, w->results,
                            &n_results, &part, error);
        add_usage(usage, &part);
        for (size_t i = 0; status == CRANK_OK && i < n_results; i++) {
            const crank_result *r = &w->results[i];
            j->values[first + r->index] =
                (score_value){r->logit, w->tokens[r->index], r->window_start, r->window_bytes};
        }
    }
    return status;
}

/* Scores part [first, first + n) of the batch's pairs into the jobs' values. */
static crank_status score_part(worker *w, batch *b, size_t first, size_t n, crank_error *error)
{
    crank_score_options options = w->s->options.score;
    options.size = sizeof options;
    options.max_length = b->max_length != 0 ? b->max_length : options.max_length;
    options.pair_tokens = w->tokens + first;
    options.progress = nobody_waits;
    options.progress_user = b;
    crank_usage usage = {0};
    if (w->s->whole) {
        crank_status status = score_whole(w, b, &options, &usage, error);
        add_usage(&b->usage, &usage);
        return status;
    }
    size_t labels = w->s->labels;
    crank_status status = crank_score(w->session, w->pairs + first, n, &options,
                                      w->logits + first * labels, NULL, &usage, error);
    add_usage(&b->usage, &usage);
    size_t at = 0;
    for (size_t i = 0; status == CRANK_OK && i < b->n_slices; i++) {
        slice *part = &b->slices[i];
        for (size_t k = 0; k < part->scored; k++, at++) {
            if (at < first || at >= first + n) continue;
            uint32_t bytes = (uint32_t)w->pairs[at].document.bytes;
            part->j->values[part->first + k] =
                (score_value){w->logits[at * labels], w->tokens[at], 0, bytes};
        }
    }
    return status;
}

/* Memory that ran out: both halves once more. */
static crank_status score_pairs(worker *w, batch *b, size_t first, size_t n, crank_error *error)
{
    crank_status status = score_part(w, b, first, n, error);
    if (status != CRANK_OUT_OF_MEMORY || n < 2 || w->s->whole) return status;
    status = score_part(w, b, first, n / 2, error);
    return status == CRANK_OK ? score_part(w, b, first + n / 2, n - n / 2, error) : status;
}

static void fail_job(job *j, const crank_error *error)
{
    if (j->cancelled != JOB_PENDING) return;
    j->cancelled = JOB_FAILED;
    j->error = *error;
}

/* The device is lost: nothing new is taken from now on, and the owner is told, once. */
static void lose_device(scheduler *s)
{
    pthread_mutex_lock(&s->lock);
    int first = !s->failed;
    s->failed = 1;
    pthread_mutex_unlock(&s->lock);
    if (first && s->options.failed != NULL) s->options.failed(s->options.failed_user);
}

static int take_spare(worker *w, crank_error *error)
{
    crank_session *spare = NULL;
    const scheduler_options *o = &w->s->options;
    if (w->lost != NULL || o->spare == NULL) return 0;
    if (o->spare(o->spare_user, &spare, error) != CRANK_OK) return 0;
    w->lost = w->session;
    w->session = spare;
    return 1;
}

/* Slices whose jobs fail here, or need no score, are left out of what is scored. */
static void prepare_batch(scheduler *s, batch *b)
{
    int64_t start = server_clock_us();
    int any = 0;
    b->n_scored = 0;
    for (size_t i = 0; i < b->n_slices; i++) {
        slice *part = &b->slices[i];
        job *j = part->j;
        crank_error error = {0};
        part->scored = j->unscored ? 0 : part->n;
        if (j->prepare != NULL) {
            any = 1;
            crank_status status = j->prepare(j, part->first, part->n, &error);
            if (status != CRANK_OK) {
                error.status = status;
                part->scored = 0;
                pthread_mutex_lock(&s->lock);
                fail_job(j, &error);
                pthread_mutex_unlock(&s->lock);
            }
        }
        b->n_scored += part->scored;
    }
    if (any) b->usage.tokenize_us += server_clock_us() - start;
}

/* A batch that failed is tried again job by job, so that one bad request does not fail others. */
static void run_batch(worker *w, batch *b)
{
    scheduler *s = w->s;
    crank_error error = {0};
    prepare_batch(s, b);
    if (b->n_scored == 0) return;
    if (!make_room(w, b->n_pairs)) {
        error.status = CRANK_OUT_OF_MEMORY;
        snprintf(error.message, sizeof error.message, "out of memory");
        pthread_mutex_lock(&s->lock);
        for (size_t i = 0; i < b->n_slices; i++) fail_job(b->slices[i].j, &error);
        pthread_mutex_unlock(&s->lock);
        return;
    }
    size_t at = 0;
    for (size_t i = 0; i < b->n_slices; i++) {
        slice *part = &b->slices[i];
        memcpy(w->pairs + at, part->j->pairs + part->first, part->scored * sizeof *w->pairs);
        at += part->scored;
    }
    crank_status status = score_pairs(w, b, 0, b->n_scored, &error);
    if (status == CRANK_DEVICE) {
        crank_error why;
        lose_device(s);
        if (take_spare(w, &why)) status = score_pairs(w, b, 0, b->n_scored, &error);
    }
    at = 0;
    for (size_t i = 0; i < b->n_slices; i++) {
        slice *part = &b->slices[i];
        crank_status own = status;
        int failed = status != CRANK_OK && status != CRANK_CANCELLED;
        if (part->scored == 0) continue;
        if (failed && b->n_slices > 1 && status != CRANK_DEVICE)
            own = score_pairs(w, b, at, part->scored, &error);
        at += part->scored;
        pthread_mutex_lock(&s->lock);
        if (w->lost != NULL) part->j->spare = 1;
        if (own != CRANK_OK && own != CRANK_CANCELLED) fail_job(part->j, &error);
        pthread_mutex_unlock(&s->lock);
    }
}

static void learn(scheduler *s, const batch *b)
{
    if (b->usage.computed_tokens > 0)
        cost_learn(&s->cost, (double)b->usage.computed_tokens,
                   (double)(b->usage.tokenize_us + b->usage.compute_us));
    double bytes = 0;
    for (size_t i = 0; i < b->n_slices; i++) {
        const slice *part = &b->slices[i];
        for (size_t k = 0; k < part->scored; k++)
            bytes += (double)part->j->pairs[part->first + k].document.bytes +
                     (double)part->j->pairs[part->first + k].query.bytes;
    }
    /* Truncated texts say too little about tokens per byte: only short ones teach. */
    double per_pair = (double)b->usage.tokens / (double)(b->n_scored > 0 ? b->n_scored : 1);
    if (bytes > 64 && b->usage.tokens > 0 && per_pair < 0.5 * (double)s->model_max_length) {
        double ratio = (double)b->usage.tokens / bytes;
        if (ratio > 2) ratio = 2;
        s->tokens_per_byte += LEARNING * (ratio - s->tokens_per_byte);
    }
}

/* Takes the slices out of flight; jobs that are over are chained to *over. */
static void settle(scheduler *s, batch *b, job **over)
{
    int64_t now = server_clock_us();
    learn(s, b);
    for (size_t i = 0; i < b->n_slices; i++) {
        slice *part = &b->slices[i];
        job *j = part->j;
        j->in_flight -= part->n;
        j->tokenize_us += b->usage.tokenize_us;
        j->compute_us += b->usage.compute_us;
        if (j->admitted) {
            j->flight_tokens -= part->tokens;
            j->tokens -= part->tokens;
            s->tokens -= part->tokens;
            s->pairs -= part->n;
            j->finished += part->n;
        }
        if (j->cancelled != JOB_PENDING) unlink_job(s, j);
        if (j->in_flight > 0) continue;
        if (j->cancelled != JOB_PENDING)
            j->outcome = j->cancelled;
        else if (j->finished == j->n)
            j->outcome = JOB_DONE;
        else
            continue;
        j->queue_us = now - j->arrived_us - j->tokenize_us - j->compute_us;
        if (j->queue_us < 0) j->queue_us = 0;
        give_back(s, j);
        j->next = *over;
        *over = j;
    }
}

static void count_batch(metrics *m, const batch *b)
{
    if (b->n_scored == 0) return;
    histogram_add_count(&m->batch_pairs, b->n_scored);
    histogram_add_count(&m->batch_tokens, b->usage.tokens);
    METRICS_ADD(m->computed_pairs, b->usage.computed_pairs);
    METRICS_ADD(m->computed_tokens, b->usage.computed_tokens);
    size_t known = b->usage.computed_pairs + b->usage.cache_hits;
    if (b->usage.pairs > known && !b->s->whole)
        METRICS_ADD(m->folded_pairs, b->usage.pairs - known);
}

static void finish_jobs(job *over)
{
    for (job *next; over != NULL; over = next) {
        next = over->next; /* done() may free the job */
        over->done(over);
    }
}

static void *work(void *argument)
{
    worker *w = argument;
    scheduler *s = w->s;
    batch *b = server_alloc(1, sizeof *b);
    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (s->first == NULL && !s->stopping) pthread_cond_wait(&s->work, &s->lock);
        if (s->stopping || b == NULL) break;
        *b = (batch){.s = s};
        job *over = NULL;
        gather(s, b, 4096, &over);
        pthread_mutex_unlock(&s->lock);
        finish_jobs(over);
        over = NULL;
        if (b->n_slices > 0) {
            run_batch(w, b);
            count_batch(s->options.metrics, b);
            pthread_mutex_lock(&s->lock);
            settle(s, b, &over);
            pthread_mutex_unlock(&s->lock);
            finish_jobs(over);
        }
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    server_free(b);
    return NULL;
}

/* ---- opening ----------------------------------------------------------------------------------
 */

/* What the model can do is found out by doing it once; that also warms it up. */
static crank_status probe(scheduler *s, crank_session *session, crank_error *error)
{
    crank_model_info info = {.size = sizeof info};
    crank_status status = crank_model_describe(s->model, &info, error);
    if (status != CRANK_OK) return status;
    s->model_max_length =
        s->options.score.max_length != 0 ? s->options.score.max_length : (size_t)info.max_length;
    s->labels = info.kind == CRANK_CROSS_ENCODER && info.labels > 0 ? (size_t)info.labels : 1;
    crank_pair pair = {{"warm up", 7}, {"the first pair", 14}};
    float logits[64], *logit = s->labels <= 64 ? logits : NULL;
    crank_score_options options = s->options.score;
    options.size = sizeof options;
    int windows = options.truncation == CRANK_WINDOW;
    s->whole = windows;
    s->per_pair = 1;
    if (!s->whole) {
        status = crank_score(session, &pair, 1, &options, logit, NULL, NULL, error);
        if (status != CRANK_INVALID_ARGUMENT && status != CRANK_UNSUPPORTED) return status;
        s->per_pair = 0;
        s->whole = 1;
    }
    crank_text documents[2] = {pair.document, pair.query};
    crank_result results[2];
    size_t n;
    return crank_rank(session, pair.query, documents, 2, &options, results, &n, NULL, error);
}

static crank_status start_workers(scheduler *s, crank_error *error)
{
    crank_session_options session = {
        .size = sizeof session, .team = s->options.team, .cache = s->options.cache};
    int n = s->options.workers < MAX_WORKERS ? s->options.workers : MAX_WORKERS;
    for (int i = 0; i < n; i++) {
        worker *w = &s->workers[i];
        w->s = s;
        crank_status status = crank_session_open(&w->session, s->model, &session, error);
        if (status != CRANK_OK) return status;
        s->n_workers = i + 1;
        if (i == 0) {
            status = probe(s, w->session, error);
            if (status != CRANK_OK) return status;
        }
    }
    for (int i = 0; i < n; i++) {
        worker *w = &s->workers[i];
        w->started = pthread_create(&w->thread, NULL, work, w) == 0;
        if (w->started) continue;
        error->status = CRANK_OUT_OF_MEMORY;
        snprintf(error->message, sizeof error->message, "a worker thread cannot be started");
        return CRANK_OUT_OF_MEMORY;
    }
    return CRANK_OK;
}

crank_status scheduler_open(scheduler **out, const crank_model *model,
                            const scheduler_options *options, crank_error *error)
{
    *out = NULL;
    scheduler *s = server_zero(1, sizeof *s);
    if (s == NULL) {
        error->status = CRANK_OUT_OF_MEMORY;
        snprintf(error->message, sizeof error->message, "no memory for the scheduler");
        return CRANK_OUT_OF_MEMORY;
    }
    s->options = *options;
    s->model = model;
    s->tokens_per_byte = START_TOKENS_PER_BYTE;
    s->n_workers = 1;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->work, NULL);
    crank_status status = start_workers(s, error);
    if (status != CRANK_OK) {
        scheduler_close(s);
        return status;
    }
    *out = s;
    return CRANK_OK;
}

void scheduler_close(scheduler *s)
{
    if (s == NULL) return;
    pthread_mutex_lock(&s->lock);
    s->stopping = 1;
    pthread_cond_broadcast(&s->work);
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < MAX_WORKERS; i++) {
        worker *w = &s->workers[i];
        if (w->started) pthread_join(w->thread, NULL);
        crank_session_close(w->session);
        crank_session_close(w->lost);
        server_free(w->pairs);
        server_free(w->logits);
        server_free(w->tokens);
        server_free(w->results);
        server_free(w->documents);
    }
    pthread_cond_destroy(&s->work);
    pthread_mutex_destroy(&s->lock);
    server_free(s);
}

void scheduler_describe(scheduler *s, scheduler_state *state)
{
    pthread_mutex_lock(&s->lock);
    *state = (scheduler_state){.pairs = s->pairs,
                               .tokens = s->tokens,
                               .bytes = s->bytes,
                               .jobs = s->jobs,
                               .backlog_us = s->cost.slope * (double)s->tokens,
                               .us_per_token = s->cost.slope,
                               .us_fixed = s->cost.fixed,
                               .whole = s->whole,
                               .per_pair = s->per_pair,
                               .failed = s->failed};
    pthread_mutex_unlock(&s->lock);
}
