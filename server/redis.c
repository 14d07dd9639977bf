#include "server/redis.h"

#include <stdio.h>
#include <string.h>

#include "server/alloc.h"
#include "server/clock.h"

#ifdef CRANK_REDIS

#include <errno.h>
#include <hiredis/hiredis.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/time.h>
#include <xxhash.h>

#define ALL_CALLS_US 20000    /* of all calls of a request: 10,000 documents are 40 */
#define REST_US 1000000       /* after a failure */
#define QUEUE_LIMIT 65536     /* values waiting to be written */
#define BATCH 256             /* keys of one MGET or MSET */
#define KEEP_SECONDS "604800" /* a week */

typedef struct stored { /* as written: 20 bytes and a checksum of key and value */
    score_value value;
    uint32_t check;
} stored;

typedef struct put {
    score_key key;
    score_value value;
} put;

/* One connection for reads (any HTTP thread, behind a lock) and one for the writer's thread. */
struct redis {
    char host[256];
    int port;             /* 0: host is a socket's path */
    struct timeval limit; /* of one call; a slower Redis is as good as none */
    metrics *metrics;
    pthread_mutex_t read_lock;
    redisContext *reader;
    int64_t read_rest_us; /* nobody asks before this time */
    pthread_mutex_t lock;
    pthread_cond_t work;
    put *puts; /* [QUEUE_LIMIT] ring */
    size_t first, n;
    int stopping, started;
    pthread_t writer;
};

static uint32_t check_of(score_key key, const score_value *value)
{
    struct {
        score_key key;
        score_value value;
    } covered = {key, *value};
    return (uint32_t)XXH3_64bits(&covered, sizeof covered);
}

static redisContext *connect_to(const redis *r)
{
    redisContext *c = r->port != 0 ? redisConnectWithTimeout(r->host, r->port, r->limit)
                                   : redisConnectUnixWithTimeout(r->host, r->limit);
    if (c == NULL) return NULL;
    if (c->err == 0 && redisSetTimeout(c, r->limit) == REDIS_OK) return c;
    redisFree(c);
    return NULL;
}

/* Counts the failure, drops the connection, rests. */
static void give_up(redis *r, redisContext **c, int64_t *rest_us)
{
    METRICS_ADD(r->metrics->redis_errors, 1);
    if (*c != NULL) redisFree(*c);
    *c = NULL;
    *rest_us = server_clock_us() + REST_US;
}

static void key_bytes(char out[23], score_key key)
{
    memcpy(out, "crank:1", 7);
    memcpy(out + 7, &key.high, 8);
    memcpy(out + 15, &key.low, 8);
}

static int read_batch(redis *r, const score_key *keys, size_t n, score_value *values, char *found)
{
    static const char command[] = "MGET";
    char names[BATCH][23];
    const char *arguments[BATCH + 1] = {command};
    size_t lengths[BATCH + 1] = {4};
    for (size_t i = 0; i < n; i++) {
        key_bytes(names[i], keys[i]);
        arguments[i + 1] = names[i];
        lengths[i + 1] = sizeof names[i];
    }
    redisReply *reply = redisCommandArgv(r->reader, (int)n + 1, arguments, lengths);
    int good = reply != NULL && reply->type == REDIS_REPLY_ARRAY && reply->elements == n;
    for (size_t i = 0; good && i < n; i++) {
        const redisReply *item = reply->element[i];
        stored got;
        if (item->type != REDIS_REPLY_STRING || item->len != sizeof got) continue;
        memcpy(&got, item->str, sizeof got);
        if (got.check != check_of(keys[i], &got.value)) continue; /* somebody else's: a miss */
        values[i] = got.value;
        found[i] = 1;
    }
    if (reply != NULL) freeReplyObject(reply);
    return good;
}

void redis_get(redis *r, const score_key *keys, size_t n, score_value *values, char *found)
{
    if (pthread_mutex_trylock(&r->read_lock) != 0) return; /* busy: computing is quicker */
    if (server_clock_us() >= r->read_rest_us) {
        if (r->reader == NULL) r->reader = connect_to(r);
        int good = r->reader != NULL;
        /* An HTTP thread waits here: what a slow Redis has not said by then is computed. */
        int64_t end = server_clock_us() + ALL_CALLS_US;
        for (size_t at = 0; good && at < n && server_clock_us() < end; at += BATCH)
            good =
                read_batch(r, keys + at, n - at < BATCH ? n - at : BATCH, values + at, found + at);
        if (!good) give_up(r, &r->reader, &r->read_rest_us);
        size_t hits = 0;
        for (size_t i = 0; i < n; i++) hits += (size_t)found[i];
        METRICS_ADD(r->metrics->redis_hits, hits);
        METRICS_ADD(r->metrics->redis_misses, n - hits);
    }
    pthread_mutex_unlock(&r->read_lock);
}

void redis_put(redis *r, const score_key *keys, size_t n, const score_value *values)
{
    pthread_mutex_lock(&r->lock);
    for (size_t i = 0; i < n && r->n < QUEUE_LIMIT; i++)
        r->puts[(r->first + r->n++) % QUEUE_LIMIT] = (put){keys[i], values[i]};
    pthread_cond_signal(&r->work);
    pthread_mutex_unlock(&r->lock);
}

static int write_batch(redisContext *c, const put *puts, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char name[23];
        stored value = {puts[i].value, check_of(puts[i].key, &puts[i].value)};
        key_bytes(name, puts[i].key);
        if (redisAppendCommand(c, "SET %b %b EX " KEEP_SECONDS, name, sizeof name, &value,
                               sizeof value) != REDIS_OK)
            return 0;
    }
    int good = 1;
    for (size_t i = 0; i < n; i++) {
        void *reply = NULL;
        if (redisGetReply(c, &reply) != REDIS_OK || reply == NULL) return 0;
        good &= ((redisReply *)reply)->type != REDIS_REPLY_ERROR;
        freeReplyObject(reply);
    }
    return good;
}

static void *write_all(void *argument)
{
    redis *r = argument;
    redisContext *c = NULL;
    int64_t rest_us = 0;
    pthread_mutex_lock(&r->lock);
    while (!r->stopping) {
        if (r->n == 0) {
            pthread_cond_wait(&r->work, &r->lock);
            continue;
        }
        put taken[BATCH];
        size_t n = r->n < BATCH ? r->n : BATCH;
        for (size_t i = 0; i < n; i++) taken[i] = r->puts[(r->first + i) % QUEUE_LIMIT];
        r->first = (r->first + n) % QUEUE_LIMIT;
        r->n -= n;
        pthread_mutex_unlock(&r->lock);
        if (server_clock_us() >= rest_us) { /* while Redis is away, values are dropped */
            if (c == NULL) c = connect_to(r);
            if (c == NULL || !write_batch(c, taken, n)) give_up(r, &c, &rest_us);
        }
        pthread_mutex_lock(&r->lock);
    }
    pthread_mutex_unlock(&r->lock);
    if (c != NULL) redisFree(c);
    return NULL;
}

static crank_status fail(crank_error *error, crank_status status, const char *message)
{
    error->status = status;
    snprintf(error->message, sizeof error->message, "--redis: %s", message);
    return status;
}

crank_status redis_open(redis **out, const char *address, size_t call_ms, metrics *m,
                        crank_error *error)
{
    *out = NULL;
    redis *r = server_zero(1, sizeof *r);
    if (r != NULL) r->puts = server_alloc(QUEUE_LIMIT, sizeof *r->puts);
    if (r == NULL || r->puts == NULL) {
        server_free(r);
        return fail(error, CRANK_OUT_OF_MEMORY, "no memory");
    }
    const char *colon = strrchr(address, ':');
    size_t bytes = address[0] != '/' && colon != NULL ? (size_t)(colon - address) : strlen(address);
    if (bytes == 0 || bytes >= sizeof r->host) {
        server_free(r->puts);
        server_free(r);
        return fail(error, CRANK_INVALID_ARGUMENT, "expected HOST:PORT or the path of a socket");
    }
    memcpy(r->host, address, bytes);
    if (address[0] != '/') r->port = colon != NULL ? atoi(colon + 1) : 6379;
    r->limit = (struct timeval){(time_t)(call_ms / 1000), (suseconds_t)(call_ms % 1000 * 1000)};
    r->metrics = m;
    pthread_mutex_init(&r->read_lock, NULL);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->work, NULL);
    r->started = pthread_create(&r->writer, NULL, write_all, r) == 0;
    *out = r;
    return CRANK_OK;
}

void redis_close(redis *r)
{
    if (r == NULL) return;
    pthread_mutex_lock(&r->lock);
    r->stopping = 1;
    pthread_cond_signal(&r->work);
    pthread_mutex_unlock(&r->lock);
    if (r->started) pthread_join(r->writer, NULL);
    if (r->reader != NULL) redisFree(r->reader);
    pthread_cond_destroy(&r->work);
    pthread_mutex_destroy(&r->lock);
    pthread_mutex_destroy(&r->read_lock);
    server_free(r->puts);
    server_free(r);
}

#else

crank_status redis_open(redis **out, const char *address, size_t call_ms, metrics *m,
                        crank_error *error)
{
    (void)address, (void)call_ms, (void)m;
    *out = NULL;
    error->status = CRANK_UNSUPPORTED;
    snprintf(error->message, sizeof error->message, "--redis: this build has no hiredis");
    return CRANK_UNSUPPORTED;
}

void redis_close(redis *r)
{
    (void)r;
}

void redis_get(redis *r, const score_key *keys, size_t n, score_value *values, char *found)
{
    (void)r, (void)keys, (void)n, (void)values, (void)found;
}

void redis_put(redis *r, const score_key *keys, size_t n, const score_value *values)
{
    (void)r, (void)keys, (void)n, (void)values;
}

#endif
