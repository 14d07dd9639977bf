/* The scheduler of one model: pairs of many requests wait in one queue, a worker thread with its
 * own session gathers them into batches by tokens, and every request is told when its last pair is
 * scored. Scores do not depend on the batches: the engine promises the same bits in any company.
 *
 * Order: a job's key is min(arrival + 2 * its cost + its delay, deadline - its cost): short
 * requests pass long ones for a bounded time, a lower priority (the delay) waits for a bounded time
 * too, and what must start now to be in time goes first. Cost comes from a model learned from
 * measured batches: us = fixed + slope * tokens.
 *
 * A batch is prepared (see job) and then scored, so that whatever takes time by the length of texts
 * is done here and never by the threads that answer connections.
 *
 * Life of a job: (caller fills it) -> scheduler_admit: counted, or refused -> scheduler_enqueue
 * -> done() from the worker's thread, or scheduler_cancel returns 1. After either the scheduler
 * forgets the job. Invariant: a job's counts are given back exactly once, when it leaves. */
#ifndef CRANK_SERVER_SCHEDULER_H
#define CRANK_SERVER_SCHEDULER_H

#include <stdatomic.h>
#include <stdint.h>

#include "crank.h"
#include "server/metrics.h"
#include "server/scores.h"

typedef struct scheduler scheduler;

typedef enum job_outcome {
    JOB_PENDING,
    JOB_DONE,
    JOB_LATE, /* its deadline passed before it was computed */
    JOB_GONE, /* its client left */
    JOB_FAILED,
} job_outcome;

typedef struct job job;
struct job {
    /* the caller's */
    const crank_pair *pairs; /* [n] what is to be computed; lives until the job is over */
    size_t n;
    size_t max_length;    /* 0: the model's */
    int64_t deadline_us;  /* of server_clock_us; 0: none */
    int64_t delay_us;     /* may be negative: those that come so much later go first */
    score_value *values;  /* [n] out */
    void (*done)(job *j); /* from the worker's thread, no lock held */
    /* What needs a tokenizer before pairs [first, first + n) are scored: a worker calls it, no lock
     * held; it may shorten those pairs. Workers may call it at once for parts that do not overlap.
     * A failure fails the job. NULL: nothing. */
    crank_status (*prepare)(job *j, size_t first, size_t n, crank_error *error);
    int unscored; /* prepare is all: the pairs' documents are not cut, no score is computed */
    void *user;
    /* results */
    job_outcome outcome;
    crank_error error;
    int64_t tokenize_us, queue_us, compute_us;
    int spare; /* some of it was scored by the spare session: not for the cache */
    /* the scheduler's */
    job *next, *before;
    int64_t arrived_us, key;
    size_t bytes, tokens; /* as admitted; tokens are estimated */
    size_t taken, finished, in_flight;
    size_t flight_tokens; /* part of tokens: in a batch now */
    size_t released;      /* pairs given back before the job is over: it was cancelled */
    int queued, admitted;
    job_outcome cancelled; /* what it becomes when its batch is over */
};

typedef struct scheduler_options {
    crank_team *team;
    crank_cache *cache; /* may be NULL */
    metrics *metrics;
    crank_score_options score; /* truncation, specials, window overlap */
    size_t batch_tokens;       /* most tokens of a batch */
    int64_t batch_us;          /* about how long a batch may take */
    size_t queue_tokens, queue_bytes, queue_pairs;
    int64_t queue_us; /* most predicted waiting time at admission */
    int workers;
    void (*failed)(void *user); /* the device is lost; from a worker's thread */
    void *failed_user;
    /* Opens a session on another device, for what is in flight and waiting when the first is lost
     * (nothing new is taken then). NULL, or a failure: those jobs fail. From a worker's thread. */
    crank_status (*spare)(void *user, crank_session **session, crank_error *error);
    void *spare_user;
} scheduler_options;

/* Scores one pair to see what the model can do (and so that the first request is not cold), then
 * starts the workers. */
crank_status scheduler_open(scheduler **out, const crank_model *model,
                            const scheduler_options *options, crank_error *error);
/* Every job must be over. */
void scheduler_close(scheduler *s);

typedef enum admission { ADMITTED, REFUSED_FULL, REFUSED_LATE } admission;
/* Counts the job in, or says why not: the queue is full, or its deadline cannot be met. */
admission scheduler_admit(scheduler *s, job *j);
/* Whether a body of so many bytes would be refused now: asked before it is read. */
int scheduler_full(scheduler *s, size_t bytes);
void scheduler_enqueue(scheduler *s, job *j);
/* 1: the job was waiting, is now over with this outcome, and done() will not be called. 0: a batch
 * holds some of it (it will end with this outcome and done()), or it is over already. */
int scheduler_cancel(scheduler *s, job *j, job_outcome outcome);
/* Cancels a job whose deadline has passed; returns as scheduler_cancel. */
int scheduler_expire(scheduler *s, job *j, int64_t now_us);

typedef struct scheduler_state {
    size_t pairs, tokens, bytes, jobs;
    double backlog_us, us_per_token, us_fixed;
    int whole, per_pair, failed;
} scheduler_state;
void scheduler_describe(scheduler *s, scheduler_state *state);

#endif
