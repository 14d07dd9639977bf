/* The scheduler with an engine that can lose its device: crank_score is wrapped by the linker. */
#ifdef CRANK_HAVE_SERVER
#define _DEFAULT_SOURCE
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/clock.h"
#include "server/scheduler.h"
#include "support/scratch.h"

static crank_session *lost;   /* this session's device is gone */
static atomic_int calls_left; /* until it is */
static atomic_int told;
static crank_model *model;

crank_status __real_crank_score(crank_session *session, const crank_pair *pairs, size_t n,
                                const crank_score_options *options, float *logits, float *activated,
                                crank_usage *usage, crank_error *error);
crank_status __wrap_crank_score(crank_session *session, const crank_pair *pairs, size_t n,
                                const crank_score_options *options, float *logits, float *activated,
                                crank_usage *usage, crank_error *error);

crank_status __wrap_crank_score(crank_session *session, const crank_pair *pairs, size_t n,
                                const crank_score_options *options, float *logits, float *activated,
                                crank_usage *usage, crank_error *error)
{
    if (lost == NULL && atomic_fetch_sub(&calls_left, 1) <= 0) lost = session;
    if (session == lost) {
        error->status = CRANK_DEVICE;
        snprintf(error->message, sizeof error->message, "an illegal address");
        return CRANK_DEVICE;
    }
    return __real_crank_score(session, pairs, n, options, logits, activated, usage, error);
}

static void count_told(void *user)
{
    (void)user;
    atomic_fetch_add(&told, 1);
}

static crank_status open_spare(void *user, crank_session **session, crank_error *error)
{
    crank_session_options options = {.size = sizeof options, .n_threads = 1};
    if (user != NULL) return error->status = CRANK_OUT_OF_MEMORY;
    return crank_session_open(session, model, &options, error);
}

enum { N_JOBS = 6, N_PAIRS = 40 };

typedef struct waiting {
    job work;
    crank_pair pairs[N_PAIRS];
    score_value values[N_PAIRS];
    char texts[N_PAIRS][64];
    atomic_int over;
} waiting;

static void finish(job *j)
{
    atomic_store(&((waiting *)j->user)->over, 1);
}

static void fill(waiting *w, int n)
{
    for (int i = 0; i < N_PAIRS; i++) {
        snprintf(w->texts[i], sizeof w->texts[i], "w%caaa w%cbaa wcaaa", 'a' + i % 26, 'a' + n);
        w->pairs[i] = (crank_pair){{"wzaaa wyaaa", 11}, {w->texts[i], strlen(w->texts[i])}};
    }
    w->work =
        (job){.pairs = w->pairs, .n = N_PAIRS, .values = w->values, .done = finish, .user = w};
}

static void submit(scheduler *s, waiting *w, int n)
{
    fill(w, n);
    cr_assert_eq(scheduler_admit(s, &w->work), ADMITTED);
    scheduler_enqueue(s, &w->work);
}

static void wait_for(waiting *w)
{
    for (int i = 0; i < 20000 && !atomic_load(&w->over); i++) usleep(1000);
    cr_assert(atomic_load(&w->over));
}

/* A scheduler of the tiny model, with room for everything. */
static scheduler *open_scheduler(const scheduler_options *given, char *dir, metrics **m)
{
    crank_error error = {0};
    scratch_open(dir);
    const char *folder = scratch_path(dir, "model");
    cr_assert_eq(crank_synth("tinybert-l2", folder, 1, &error), CRANK_OK, "%s", error.message);
    crank_model_options cpu = {.size = sizeof cpu, .device = CRANK_DEVICE_CPU};
    cr_assert_eq(crank_model_open(&model, folder, &cpu, &error), CRANK_OK, "%s", error.message);
    *m = calloc(1, sizeof **m);
    scheduler_options options = *given;
    options.metrics = *m;
    options.batch_tokens = 200;
    options.batch_us = 1000000;
    options.queue_tokens = options.queue_bytes = options.queue_pairs = 1 << 20;
    options.queue_us = 60000000;
    options.workers = 1;
    options.failed = count_told;
    scheduler *s = NULL;
    cr_assert_eq(scheduler_open(&s, model, &options, &error), CRANK_OK, "%s", error.message);
    return s;
}

static void close_scheduler(scheduler *s, char *dir, metrics *m)
{
    scheduler_close(s);
    crank_model_close(model);
    free(m);
    scratch_close(dir);
    leak_check();
}

/* Jobs are submitted, the device is lost in the third call. Returns how many were scored. */
static int lose_device_in_the_middle(const scheduler_options *given)
{
    static waiting jobs[N_JOBS], later;
    crank_error error = {0};
    char dir[SCRATCH_BYTES];
    metrics *m = NULL;
    atomic_store(&calls_left, 3); /* the first warms up */
    scheduler *s = open_scheduler(given, dir, &m);
    for (int i = 0; i < N_JOBS; i++) submit(s, &jobs[i], i);
    int scored = 0;
    crank_session *check = NULL;
    crank_session_options one = {.size = sizeof one, .n_threads = 1};
    cr_assert_eq(crank_session_open(&check, model, &one, &error), CRANK_OK);
    for (int i = 0; i < N_JOBS; i++) {
        wait_for(&jobs[i]);
        if (jobs[i].work.outcome != JOB_DONE) {
            cr_expect_eq(jobs[i].work.outcome, JOB_FAILED);
            cr_expect_eq(jobs[i].work.error.status, CRANK_DEVICE);
            continue;
        }
        float logits[N_PAIRS];
        cr_assert_eq(
            __real_crank_score(check, jobs[i].pairs, N_PAIRS, NULL, logits, NULL, NULL, &error),
            CRANK_OK);
        for (int k = 0; k < N_PAIRS; k++) cr_expect_eq(jobs[i].values[k].logit, logits[k]);
        if (i == N_JOBS - 1) cr_expect(jobs[i].work.spare); /* behind the loss */
        scored++;
    }
    cr_expect_eq(atomic_load(&told), 1);
    /* The queue is empty again, and nothing new is taken. */
    scheduler_state state;
    scheduler_describe(s, &state);
    cr_expect_eq(state.pairs, 0);
    cr_expect_eq(state.tokens, 0);
    cr_expect_eq(state.jobs, 0);
    submit(s, &later, 9);
    wait_for(&later);
    cr_expect_eq(later.work.outcome, JOB_FAILED);
    cr_expect_eq(later.work.error.status, CRANK_DEVICE);
    crank_session_close(check);
    close_scheduler(s, dir, m);
    return scored;
}

/* ---- preparing ---- */

static pthread_t caller;
static atomic_int prepared[N_PAIRS], by_caller;

static crank_status keep_first_word(job *j, size_t first, size_t n, crank_error *error)
{
    (void)error;
    waiting *w = j->user;
    if (pthread_equal(pthread_self(), caller)) atomic_store(&by_caller, 1);
    for (size_t i = first; i < first + n; i++) {
        atomic_fetch_add(&prepared[i], 1);
        w->pairs[i].document.bytes = 5;
    }
    return CRANK_OK;
}

static crank_status refuse_pair_7(job *j, size_t first, size_t n, crank_error *error)
{
    (void)j;
    if (first > 7 || first + n <= 7) return CRANK_OK;
    snprintf(error->message, sizeof error->message, "too long");
    return error->status = CRANK_LIMIT;
}

static void submit_prepared(scheduler *s, waiting *w, int n,
                            crank_status (*prepare)(job *, size_t, size_t, crank_error *),
                            int unscored)
{
    fill(w, n);
    w->work.prepare = prepare;
    w->work.unscored = unscored;
    cr_assert_eq(scheduler_admit(s, &w->work), ADMITTED);
    scheduler_enqueue(s, &w->work);
}

Test(scheduler, workers_prepare_pairs_and_a_failure_is_its_jobs_alone)
{
    static waiting whole, cut, refused, tokens;
    scheduler_options none = {0};
    char dir[SCRATCH_BYTES];
    metrics *m = NULL;
    caller = pthread_self();
    atomic_store(&calls_left, 1 << 30);
    scheduler *s = open_scheduler(&none, dir, &m);
    submit(s, &whole, 1);
    submit_prepared(s, &refused, 1, refuse_pair_7, 0);
    submit_prepared(s, &cut, 1, keep_first_word, 0);
    wait_for(&whole);
    wait_for(&cut);
    wait_for(&refused);
    cr_expect_eq(whole.work.outcome, JOB_DONE);
    cr_expect_eq(cut.work.outcome, JOB_DONE);
    cr_expect_eq(refused.work.outcome, JOB_FAILED);
    cr_expect_eq(refused.work.error.status, CRANK_LIMIT);
    cr_expect_str_eq(refused.work.error.message, "too long");
    /* What is scored is what was left of the text, and no pair is prepared twice. */
    crank_error error = {0};
    crank_session *check = NULL;
    crank_session_options one = {.size = sizeof one, .n_threads = 1};
    cr_assert_eq(crank_session_open(&check, model, &one, &error), CRANK_OK);
    float logits[N_PAIRS];
    fill(&tokens, 1);
    for (int i = 0; i < N_PAIRS; i++) tokens.pairs[i].document.bytes = 5;
    cr_assert_eq(__real_crank_score(check, tokens.pairs, N_PAIRS, NULL, logits, NULL, NULL, &error),
                 CRANK_OK);
    for (int i = 0; i < N_PAIRS; i++) {
        cr_expect_eq(cut.values[i].logit, logits[i]);
        cr_expect_eq(atomic_load(&prepared[i]), 1);
    }
    crank_session_close(check);
    /* A job that is not scored is prepared all the same. */
    uint64_t before = atomic_load(&m->computed_pairs);
    submit_prepared(s, &tokens, 1, keep_first_word, 1);
    wait_for(&tokens);
    cr_expect_eq(tokens.work.outcome, JOB_DONE);
    for (int i = 0; i < N_PAIRS; i++) cr_expect_eq(atomic_load(&prepared[i]), 2);
    cr_expect_eq(atomic_load(&m->computed_pairs), before);
    cr_expect_eq(atomic_load(&by_caller), 0);
    scheduler_state state;
    scheduler_describe(s, &state);
    cr_expect_eq(state.pairs, 0);
    cr_expect_eq(state.tokens, 0);
    cr_expect_eq(state.bytes, 0);
    close_scheduler(s, dir, m);
}

/* ---- a lost device ---- */

Test(scheduler, what_is_in_flight_when_the_device_is_lost_is_scored_by_the_spare)
{
    scheduler_options options = {.spare = open_spare};
    cr_expect_eq(lose_device_in_the_middle(&options), N_JOBS);
}

Test(scheduler, without_a_spare_it_fails)
{
    scheduler_options options = {.spare = NULL};
    cr_expect_lt(lose_device_in_the_middle(&options), N_JOBS);
}

Test(scheduler, a_spare_that_does_not_open_fails_too)
{
    static int broken;
    scheduler_options options = {.spare = open_spare, .spare_user = &broken};
    cr_expect_lt(lose_device_in_the_middle(&options), N_JOBS);
}
#else
#include <criterion/criterion.h>
Test(scheduler, nothing) {}
#endif
