/* The server's own structures: what http.c, rerank.c and routes.c share.
 *
 * A request, from end to end: http.c accepts (libmicrohttpd), the gate looks at the headers, the
 * body is collected up to its limit -> rerank.c: JSON, dialect, cache -> the connection is
 * suspended and the pairs go to the model's scheduler -> done() resumes it -> the answer is written
 * in the dialect. routes.c answers everything else.
 *
 * Threads: libmicrohttpd's (one or two, non-blocking), a worker for each model's session, the
 * reaper, and main, which waits for signals. Invariants: a connection's phase changes only under
 * `lock`; while it is WAITING nobody but the scheduler or the reaper may resume it, and exactly one
 * of them does. Lock order: server.lock, then a scheduler's lock. */
#ifndef CRANK_SERVER_SERVER_H
#define CRANK_SERVER_SERVER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "crank.h"
#include "server/dialects.h"
#include "server/gate.h"
#include "server/keys.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/redis.h"
#include "server/scheduler.h"
#include "server/scores.h"

struct MHD_Daemon;
struct MHD_Connection;

#define SERVER_MAX_MODELS 32

typedef struct served_model {
    char *name;
    crank_model *model;
    crank_model_info info;
    scheduler *queue;
    score_key seed; /* of the model and the settings that change scores */
    size_t max_length, window_overlap;
    int per_pair, windows, specials_as_text;
    crank_model *spare; /* on the CPU, opened when the device is lost; NULL before */
} served_model;

typedef struct server_settings {
    const char *host;
    size_t port;
    const dialect *dialect; /* NULL: by the body's shape */
    dialect_activation activation;
    int activation_fixed; /* else the dialect's */
    size_t max_documents, max_body, max_header, max_uri, max_connections;
    size_t deadline_ms, drain_ms, header_ms, body_ms, idle_ms;
    size_t http_threads;
    const char *tls_cert, *tls_key; /* PEM texts */
    int auto_truncate_off;
} server_settings;

typedef struct server server;
typedef struct request request;
typedef struct connection connection;

typedef enum phase {
    PHASE_HEADERS, /* a request line or headers are due */
    PHASE_BODY,
    PHASE_BUSY,    /* in the handler, or resumed and about to be */
    PHASE_WAITING, /* suspended */
    PHASE_ANSWER,  /* being sent */
    PHASE_IDLE,
} phase;

struct connection {
    connection *next, *before;
    server *s;
    struct MHD_Connection *mhd;
    int fd;
    phase phase;
    int64_t since_us; /* of the phase */
    request *r;
    int doomed; /* shut down by the reaper, or a raw answer was sent */
};

struct request {
    server *s;
    connection *c;
    char id[129], user[129];
    char method[16];
    char *path; /* without the query string */
    int started, answered;
    int64_t arrived_us, body_us; /* first byte known; whole body there */
    gate_verdict verdict;
    char *body;
    size_t bytes, capacity;
    /* answer */
    int status;
    size_t sent_bytes;
    dialect_fault fault;
    const dialect *dialect;
    /* re-ranking */
    int scoring;
    served_model *model;
    body_document *document;
    dialect_request ask;
    dialect_scored *results; /* [ask.n] */
    score_key *keys;         /* [ask.n] */
    size_t *missing;         /* [n_missing]: which pairs the job computes */
    crank_pair *pairs;       /* [n_missing] */
    score_value *values;     /* [n_missing] */
    size_t n_missing, tokens;
    int64_t deadline_us; /* 0: none */
    job work;
    int waited;
    int (*finish)(request *r); /* answers when the job is over */
    /* /tokenize */
    text *pieces; /* [n_pieces] what the answer says of each input */
    size_t n_pieces;
    int plain; /* without the template's tokens */
};

struct server {
    server_settings settings;
    served_model models[SERVER_MAX_MODELS];
    size_t n_models;
    crank_team *team;
    crank_cache *cache; /* NULL: none */
    scores *scores;     /* NULL: none */
    redis *redis;       /* NULL: none */
    keys *keys;         /* NULL: no key needed */
    metrics metrics;
    log_writer log;
    struct MHD_Daemon *daemon;
    int listener;
    int shut_listener; /* taken back from the daemon while draining; 0: not yet */
    pthread_mutex_t lock;
    connection *connections;
    size_t n_connections;
    pthread_t reaper;
    atomic_int reaping;
    atomic_int draining, stopping, lost;
    atomic_long busy;      /* requests between their first byte and their end */
    atomic_long most_busy; /* since memory was given back */
    pthread_key_t parser_key;
};

/* ---- http.c ---- */

/* Listens and starts the threads; the models must be open. *port: what was bound. */
crank_status server_start(server *s, unsigned *port, crank_error *error);
/* Ends gracefully: new connections are refused after the drain delay, requests in flight are
 * answered, for at most limit_ms. Returns how many were not. */
long server_drain(server *s, int64_t limit_ms, int (*hurry)(void *), void *user);
void server_stop(server *s);

/* Queue an answer for the request; `body` is taken over. */
int server_answer(request *r, int status, const char *type, text *body);
/* close: also closes the connection. */
int server_refuse(request *r, dialect_fault fault, const char *message, int close);
/* A scheduler's done(): resumes the connection. */
void server_job_done(job *j);
/* The value of a request header, or NULL. */
const char *server_header(const request *r, const char *name);

/* ---- rerank.c ---- */

/* The body is there: answers, or suspends the connection. Returns as libmicrohttpd's handlers. */
int rerank_begin(request *r);
void rerank_free(request *r);
/* Hands work to r->model's scheduler and suspends the connection; finish answers when it is over.
 * Or refuses the request. Of work: pairs, n, prepare and what else is not the request's own. */
int rerank_submit(request *r, const job *work, int (*finish)(request *r));
/* The answer when the job's outcome is not JOB_DONE. */
int rerank_failed(request *r);
/* 0: the header is there, but no whole number of 1 to 3600000. */
int rerank_read_deadline(request *r);
#define RERANK_BAD_DEADLINE "x-request-timeout-ms must be 1 to 3600000"
/* The thread's own; NULL: no memory. */
body_parser *rerank_parser(server *s);
/* 400 with the byte of the fault; fallback: why, when the text is JSON after all. */
int rerank_refuse_syntax(request *r, const char *fallback);
served_model *rerank_find_model(server *s, const char *name, size_t bytes);

/* ---- tokenize.c ---- */

int tokenize_begin(request *r);
void tokenize_free(request *r);

/* ---- routes.c ---- */

typedef struct route {
    const char *path, *method;
    int open; /* needs no key */
    int (*answer)(request *r);
} route;

/* NULL: no such path. *other_method: the path is there, with another method (its name). */
const route *route_find(const char *path, const char *method, const char **other_method);
/* Sends the health of the server; 503 while draining or lost. */
int route_healthy(const server *s);

#endif
