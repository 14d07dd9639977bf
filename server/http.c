/* Connections and requests on libmicrohttpd: what it lets through too easily is refused here (the
 * gate), what it does not time is timed here (the reaper), what it does not notice is noticed here
 * (clients that leave while suspended). */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <microhttpd.h>
#include <netdb.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/alloc.h"
#include "server/body.h"
#include "server/clock.h"
#include "server/server.h"

#define MAX_HEADERS 128
#define REAPER_MS 20
#define TRIM_US 1000000 /* memory is given back once in such a time, at most */
#define SEND_LIMIT_US 60000000
#define LAST_HANDSHAKES_US 50000 /* a round trip to a client, about */
#define FIRST_BODY_BYTES 4096
#define READ_NOW_BYTES 65536 /* bodies up to here are read even when the queue is full */

/* ---- connections ------------------------------------------------------------------------------
 */

static void set_phase(connection *c, phase to)
{
    if (c == NULL) return;
    pthread_mutex_lock(&c->s->lock);
    c->phase = to;
    c->since_us = server_clock_us();
    pthread_mutex_unlock(&c->s->lock);
}

static void open_connection(server *s, struct MHD_Connection *mhd, void **slot)
{
    connection *c = server_zero(1, sizeof *c);
    *slot = c;
    if (c == NULL) return;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    *c = (connection){.s = s, .mhd = mhd, .fd = info != NULL ? info->connect_fd : -1};
    METRICS_ADD(s->metrics.connections_opened, 1);
    pthread_mutex_lock(&s->lock);
    c->phase = PHASE_HEADERS;
    c->since_us = server_clock_us();
    c->next = s->connections;
    if (c->next != NULL) c->next->before = c;
    s->connections = c;
    s->n_connections++;
    pthread_mutex_unlock(&s->lock);
}

static void close_connection(connection *c)
{
    if (c == NULL) return;
    server *s = c->s;
    METRICS_ADD(s->metrics.connections_closed, 1);
    pthread_mutex_lock(&s->lock);
    if (c->next != NULL) c->next->before = c->before;
    if (c->before != NULL)
        c->before->next = c->next;
    else
        s->connections = c->next;
    s->n_connections--;
    pthread_mutex_unlock(&s->lock);
    server_free(c);
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **slot,
                          enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        open_connection(cls, mhd, slot);
    } else {
        close_connection(*slot);
        *slot = NULL;
    }
}

static connection *connection_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info != NULL ? info->socket_context : NULL;
}

/* ---- requests ---------------------------------------------------------------------------------
 */

/* A request begins when its first line is there. The pointer becomes *slot of the handler. */
static void *on_request_line(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    server *s = cls;
    connection *c = connection_of(mhd);
    request *r = c != NULL ? server_zero(1, sizeof *r) : NULL;
    if (r == NULL) return NULL;
    r->s = s;
    r->c = c;
    r->arrived_us = server_clock_us();
    /* What the gate looks at: the path as it was sent. */
    size_t bytes = strlen(uri);
    r->path = server_alloc(bytes + 1, 1);
    if (r->path != NULL) memcpy(r->path, uri, bytes + 1);
    long busy = atomic_fetch_add(&s->busy, 1) + 1;
    if (busy > atomic_load_explicit(&s->most_busy, memory_order_relaxed))
        atomic_store_explicit(&s->most_busy, busy, memory_order_relaxed);
    pthread_mutex_lock(&s->lock);
    c->r = r;
    if (c->phase == PHASE_IDLE) { /* the 5 s of a first request count from its connection */
        c->phase = PHASE_HEADERS;
        c->since_us = r->arrived_us;
    }
    pthread_mutex_unlock(&s->lock);
    return r;
}

static void log_request(const request *r)
{
    const server *s = r->s;
    if (s->log.form == LOG_NONE) return;
    text line;
    log_begin(&s->log, &line, r->status >= 500 ? "error" : "info", "request");
    log_string(&s->log, &line, "id", r->id);
    log_string(&s->log, &line, "method", r->method);
    log_string(&s->log, &line, "path", r->path != NULL ? r->path : "");
    log_number(&s->log, &line, "status", r->status);
    if (r->dialect != NULL && r->scoring) log_string(&s->log, &line, "dialect", r->dialect->name);
    if (r->fault != FAULT_NONE) log_string(&s->log, &line, "fault", dialect_fault_name(r->fault));
    if (r->model != NULL) {
        log_string(&s->log, &line, "model", r->model->name);
        log_number(&s->log, &line, "pairs", (int64_t)r->ask.n);
        log_number(&s->log, &line, "cached", (int64_t)(r->ask.n - r->n_missing));
        log_number(&s->log, &line, "tokens", (int64_t)r->tokens);
        log_number(&s->log, &line, "tokenize_us", r->work.tokenize_us);
        log_number(&s->log, &line, "queue_us", r->work.queue_us);
        log_number(&s->log, &line, "compute_us", r->work.compute_us);
        if (r->user[0] != '\0') log_string(&s->log, &line, "user", r->user);
    }
    log_number(&s->log, &line, "bytes_in", (int64_t)r->bytes);
    log_number(&s->log, &line, "bytes_out", (int64_t)r->sent_bytes);
    log_number(&s->log, &line, "total_us", server_clock_us() - r->arrived_us);
    log_end(&s->log, &line);
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **slot,
                         enum MHD_RequestTerminationCode code)
{
    (void)mhd, (void)code;
    server *s = cls;
    request *r = *slot;
    *slot = NULL;
    if (r == NULL) return;
    pthread_mutex_lock(&s->lock);
    r->c->r = NULL;
    r->c->phase = PHASE_IDLE;
    r->c->since_us = server_clock_us();
    pthread_mutex_unlock(&s->lock);
    log_request(r);
    rerank_free(r);
    tokenize_free(r);
    server_free(r->body);
    server_free(r->path);
    server_free(r);
    atomic_fetch_sub(&s->busy, 1);
}

const char *server_header(const request *r, const char *name)
{
    return MHD_lookup_connection_value(r->c->mhd, MHD_HEADER_KIND, name);
}

/* ---- answers ----------------------------------------------------------------------------------
 */

static void add_header(struct MHD_Response *response, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void add_header(struct MHD_Response *response, const char *name, const char *format, ...)
{
    char value[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(value, sizeof value, format, arguments);
    va_end(arguments);
    MHD_add_response_header(response, name, value);
}

static void add_timing(struct MHD_Response *response, const request *r)
{
    const job *j = &r->work;
    double total = (double)(server_clock_us() - r->body_us) / 1e3;
    add_header(response, "Server-Timing",
               "tokenize;dur=%.3f, queue;dur=%.3f, compute;dur=%.3f, total;dur=%.3f",
               (double)j->tokenize_us / 1e3, (double)j->queue_us / 1e3, (double)j->compute_us / 1e3,
               total);
    if (r->dialect == NULL || strcmp(r->dialect->name, "tei") != 0) return;
    add_header(response, "x-compute-time", "%lld", (long long)((j->compute_us + 500) / 1000));
    add_header(response, "x-total-time", "%lld", (long long)(total + 0.5));
    add_header(response, "x-queue-time", "%lld", (long long)((j->queue_us + 500) / 1000));
    add_header(response, "x-tokenization-time", "%lld", (long long)((j->tokenize_us + 500) / 1000));
}

/* Predicted time until the queue has room, for clients that can wait less than a second. */
static long retry_ms(const request *r)
{
    double backlog_us = 0;
    for (size_t i = 0; i < r->s->n_models; i++) {
        scheduler_state state;
        scheduler_describe(r->s->models[i].queue, &state);
        if (state.backlog_us > backlog_us) backlog_us = state.backlog_us;
    }
    double ms = backlog_us / 2e3;
    return ms < 20 ? 20 : ms > 1000 ? 1000 : (long)ms;
}

static int send_answer(request *r, int status, const char *type, text *body, int close,
                       const char *allow)
{
    static char memory[] = "{\"error\":\"out of memory\",\"error_type\":\"Unhealthy\"}";
    struct MHD_Response *response;
    r->sent_bytes = body->n;
    if (body->failed) {
        text_free(body);
        status = 503;
        r->fault = FAULT_MEMORY;
        r->sent_bytes = sizeof memory - 1;
        response =
            MHD_create_response_from_buffer(sizeof memory - 1, memory, MHD_RESPMEM_PERSISTENT);
    } else {
        response = MHD_create_response_from_buffer(body->n, body->data, MHD_RESPMEM_MUST_FREE);
        if (response == NULL) text_free(body);
    }
    r->status = status;
    r->answered = 1;
    if (response == NULL) return MHD_NO;
    MHD_add_response_header(response, "Content-Type", type);
    MHD_add_response_header(response, "X-Request-Id", r->id);
    MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (allow != NULL) MHD_add_response_header(response, "Allow", allow);
    if (status == 401) MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    if (status == 429) {
        MHD_add_response_header(response, "Retry-After", "1");
        add_header(response, "retry-after-ms", "%ld", retry_ms(r));
    }
    if (r->scoring) add_timing(response, r);
    if (close || atomic_load(&r->s->draining))
        MHD_add_response_header(response, "Connection", "close");
    METRICS_ADD(r->s->metrics.bytes_out, r->sent_bytes);
    if (r->scoring) {
        metrics_request(&r->s->metrics, r->dialect, r->fault);
        if (status == 200)
            histogram_add_us(&r->s->metrics.request_us, server_clock_us() - r->body_us);
    }
    set_phase(r->c, PHASE_ANSWER);
    int queued = MHD_queue_response(r->c->mhd, (unsigned)status, response);
    MHD_destroy_response(response);
    return queued;
}

int server_answer(request *r, int status, const char *type, text *body)
{
    return send_answer(r, status, type, body, 0, NULL);
}

int server_refuse(request *r, dialect_fault fault, const char *message, int close)
{
    text body = {0};
    r->fault = fault;
    const dialect *d = r->dialect;
    if (d == NULL && r->path != NULL) d = dialect_of_path(r->path);
    r->dialect = d;
    dialect_write_error(&body, d, fault, message);
    return send_answer(r, dialect_status(d, fault), "application/json", &body, close, NULL);
}

/* ---- the handler ------------------------------------------------------------------------------
 */

typedef struct collected {
    gate_header headers[MAX_HEADERS + 1];
    size_t n;
} collected;

static enum MHD_Result collect(void *cls, enum MHD_ValueKind kind, const char *key,
                               size_t key_bytes, const char *value, size_t value_bytes)
{
    (void)kind;
    collected *all = cls;
    if (all->n > MAX_HEADERS) return MHD_NO;
    all->headers[all->n++] =
        (gate_header){key, value != NULL ? value : "", key_bytes, value != NULL ? value_bytes : 0};
    return MHD_YES;
}

static void name_request(request *r)
{
    const char *asked = server_header(r, "x-request-id");
    if (asked != NULL && gate_plain_id(asked, strlen(asked))) {
        memcpy(r->id, asked, strlen(asked) + 1);
        return;
    }
    /* Unique enough without a system call for each: a random start of the process and a counter. */
    static atomic_uint_fast64_t counter;
    static _Atomic uint64_t start;
    uint64_t base = atomic_load(&start);
    if (base == 0) {
        if (getrandom(&base, sizeof base, 0) != (ssize_t)sizeof base) base = 0x9E3779B97F4A7C15u;
        uint64_t none = 0;
        if (!atomic_compare_exchange_strong(&start, &none, base | 1)) base = none;
    }
    uint64_t n = atomic_fetch_add(&counter, 1) + 1;
    snprintf(r->id, sizeof r->id, "%016llx", (unsigned long long)(base + n * 0x9E3779B97F4A7C15u));
}

static int has_key(const request *r)
{
    const char *value = server_header(r, "authorization");
    if (value == NULL) value = server_header(r, "x-api-key");
    return keys_allow(r->s->keys, value);
}

/* Headers are there, the body is not: refuse now what needs no body. */
static int begin(request *r, struct MHD_Connection *mhd, const char *method)
{
    server *s = r->s;
    r->started = 1;
    r->body_us = server_clock_us();
    snprintf(r->method, sizeof r->method, "%s", method);
    set_phase(r->c, PHASE_BODY);
    name_request(r);
    if (r->path == NULL) return server_refuse(r, FAULT_MEMORY, "out of memory", 1);
    collected all = {.n = 0};
    MHD_get_connection_values_n(mhd, MHD_HEADER_KIND, collect, &all);
    gate_limits limits = {s->settings.max_header, s->settings.max_uri, s->settings.max_body,
                          MAX_HEADERS};
    gate_check(&r->verdict, method, r->path, strlen(r->path), all.headers, all.n, &limits);
    char *query = strchr(r->path, '?');
    if (query != NULL) *query = '\0';
    if (r->verdict.status != 0) {
        r->scoring = dialect_of_path(r->path) != NULL;
        return server_refuse(r, dialect_fault_of(r->verdict.status), r->verdict.reason, 1);
    }
    int has_body = r->verdict.chunked || r->verdict.length > 0;
    const char *other = NULL;
    const route *found = route_find(r->path, method, &other);
    if (found == NULL && other == NULL)
        return server_refuse(r, FAULT_ROUTE, "no such path (see /openapi.json)", has_body);
    if (found == NULL) {
        text body = {0};
        r->fault = FAULT_METHOD;
        r->dialect = dialect_of_path(r->path);
        dialect_write_error(&body, r->dialect, FAULT_METHOD, "this path has another method");
        return send_answer(r, 405, "application/json", &body, has_body, other);
    }
    r->scoring = found->answer == rerank_begin;
    if (s->keys != NULL && !found->open && !has_key(r))
        return server_refuse(r, FAULT_KEY, "a valid API key is needed: Authorization: Bearer KEY",
                             has_body);
    if (r->scoring && r->verdict.length > READ_NOW_BYTES) {
        int all_full = 1;
        for (size_t i = 0; i < s->n_models && all_full; i++)
            all_full = scheduler_full(s->models[i].queue, (size_t)r->verdict.length);
        if (all_full) return server_refuse(r, FAULT_OVERLOADED, "the queue is full", 1);
    }
    return MHD_YES;
}

/* libmicrohttpd can answer before a body or behind it, not in the middle; there the answer is put
 * on the wire by hand, and the rest of the body is thrown away until the client stops or time is
 * up. */
static void answer_by_hand(request *r, dialect_fault fault, const char *message)
{
    text body = {0}, all = {0};
    r->fault = fault;
    r->dialect = r->dialect != NULL ? r->dialect : dialect_of_path(r->path);
    r->status = dialect_status(r->dialect, fault);
    r->answered = 1;
    dialect_write_error(&body, r->dialect, fault, message);
    text_printf(&all,
                "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: "
                "%zu\r\nX-Request-Id: %s\r\nConnection: close\r\n\r\n",
                r->status, r->status == 413 ? "Content Too Large" : "Request Timeout", body.n,
                r->id);
    text_put(&all, body.data, body.n);
    if (!all.failed && r->s->settings.tls_cert == NULL) {
        if (send(r->c->fd, all.data, all.n, MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
            r->sent_bytes = body.n;
        shutdown(r->c->fd, SHUT_WR);
    }
    if (r->scoring) metrics_request(&r->s->metrics, r->dialect, fault);
    text_free(&body);
    text_free(&all);
}

static int take_body(request *r, const char *data, size_t bytes)
{
    pthread_mutex_lock(&r->s->lock);
    int ignored = r->answered, doomed = r->c->doomed;
    pthread_mutex_unlock(&r->s->lock);
    if (ignored) return doomed ? MHD_NO : MHD_YES;
    size_t limit = r->s->settings.max_body;
    METRICS_ADD(r->s->metrics.bytes_in, bytes);
    if (bytes > limit - r->bytes) {
        pthread_mutex_lock(&r->s->lock);
        answer_by_hand(r, FAULT_BODY, "the body is larger than the limit");
        pthread_mutex_unlock(&r->s->lock);
        /* Under TLS nothing can be written by hand: the connection just ends. */
        return r->s->settings.tls_cert != NULL ? MHD_NO : MHD_YES;
    }
    size_t needed = r->bytes + bytes + BODY_PADDING;
    if (needed > r->capacity) {
        size_t capacity = r->capacity > 0 ? 2 * r->capacity : FIRST_BODY_BYTES;
        /* A length that was announced is believed only as far as bytes have come. */
        if (capacity < r->verdict.length + BODY_PADDING && r->bytes > 0)
            capacity = r->bytes * 8 < r->verdict.length ? r->bytes * 8
                                                        : (size_t)r->verdict.length + BODY_PADDING;
        if (capacity < needed) capacity = needed;
        if (capacity > limit + BODY_PADDING) capacity = limit + BODY_PADDING;
        char *grown = server_grow(r->body, capacity, 1);
        if (grown == NULL) return MHD_NO;
        r->body = grown;
        r->capacity = capacity;
    }
    memcpy(r->body + r->bytes, data, bytes);
    r->bytes += bytes;
    return MHD_YES;
}

static int complete(request *r)
{
    server *s = r->s;
    pthread_mutex_lock(&s->lock);
    int doomed = r->c->doomed || r->answered;
    if (!doomed) r->c->phase = PHASE_BUSY;
    pthread_mutex_unlock(&s->lock);
    if (doomed) return MHD_NO;
    r->body_us = server_clock_us();
    if (r->body == NULL) { /* so that routes need not think of it */
        r->body = server_zero(1, BODY_PADDING);
        r->capacity = BODY_PADDING;
        if (r->body == NULL) return server_refuse(r, FAULT_MEMORY, "out of memory", 0);
    }
    memset(r->body + r->bytes, 0, BODY_PADDING);
    const char *other;
    const route *found = route_find(r->path, r->method, &other);
    if (found == NULL) return server_refuse(r, FAULT_ROUTE, "no such path", 0);
    return found->answer(r);
}

static enum MHD_Result handle(void *cls, struct MHD_Connection *mhd, const char *url,
                              const char *method, const char *version, const char *data,
                              size_t *bytes, void **slot)
{
    (void)cls, (void)url, (void)version;
    request *r = *slot;
    if (r == NULL) return MHD_NO; /* no memory even for a request: the connection ends */
    if (!r->started) return (enum MHD_Result)begin(r, mhd, method);
    if (*bytes > 0) {
        int taken = take_body(r, data, *bytes);
        *bytes = 0;
        return (enum MHD_Result)taken;
    }
    if (r->waited) {
        r->waited = 0;
        return (enum MHD_Result)r->finish(r);
    }
    return (enum MHD_Result)complete(r);
}

void server_job_done(job *j)
{
    request *r = j->user;
    set_phase(r->c, PHASE_BUSY);
    MHD_resume_connection(r->c->mhd);
}

/* ---- the reaper -------------------------------------------------------------------------------
 */

static void doom(connection *c)
{
    c->doomed = 1;
    METRICS_ADD(c->s->metrics.timeouts, 1);
    shutdown(c->fd, SHUT_RDWR);
}

static void check_time(connection *c, int64_t now)
{
    const server_settings *o = &c->s->settings;
    int64_t age_ms = (now - c->since_us) / 1000;
    if (c->doomed) return;
    switch (c->phase) {
    case PHASE_HEADERS:
        if (age_ms > (int64_t)o->header_ms) doom(c);
        break;
    case PHASE_BODY:
        if (age_ms <= (int64_t)o->body_ms) break;
        if (c->r != NULL && !c->r->answered)
            answer_by_hand(c->r, FAULT_SLOW_BODY, "the body did not come in time");
        doom(c);
        break;
    case PHASE_ANSWER:
        if (now - c->since_us > SEND_LIMIT_US) doom(c);
        break;
    case PHASE_IDLE:
        if (age_ms > (int64_t)o->idle_ms || atomic_load(&c->s->stopping)) doom(c);
        break;
    case PHASE_BUSY:
    case PHASE_WAITING: break;
    }
}

/* One look at all connections. Those whose jobs are over are returned in resumed [n]. */
static size_t look(server *s, struct pollfd *polls, connection **waiting, size_t most,
                   struct MHD_Connection **resumed)
{
    int64_t now = server_clock_us();
    size_t n = 0, n_resumed = 0;
    pthread_mutex_lock(&s->lock);
    for (connection *c = s->connections; c != NULL; c = c->next) {
        check_time(c, now);
        if (c->phase != PHASE_WAITING || n == most) continue;
        polls[n] = (struct pollfd){.fd = c->fd, .events = POLLRDHUP};
        waiting[n++] = c;
    }
    if (n > 0) poll(polls, n, 0);
    for (size_t i = 0; i < n; i++) {
        request *r = waiting[i]->r;
        scheduler *queue = r->model->queue;
        int over = 0;
        if (polls[i].revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) {
            if (r->status != 499) METRICS_ADD(s->metrics.clients_gone, 1);
            r->status = 499;
            over = scheduler_cancel(queue, &r->work, JOB_GONE);
        } else {
            over = scheduler_expire(queue, &r->work, now);
        }
        if (!over) continue;
        waiting[i]->phase = PHASE_BUSY;
        resumed[n_resumed++] = waiting[i]->mhd;
    }
    pthread_mutex_unlock(&s->lock);
    return n_resumed;
}

/* What a peak of requests took stays with malloc: when less than half of the peak is left, what is
 * too much goes back to the system, so that the resident memory is that of the load now and not of
 * the worst moment since the start. */
static int64_t trim(server *s, int64_t due_us)
{
    int64_t now = server_clock_us();
    long busy = atomic_load(&s->busy);
    if (now < due_us || 2 * busy >= atomic_load(&s->most_busy)) return due_us;
    atomic_store(&s->most_busy, busy);
    server_heap_trim();
    return now + TRIM_US;
}

static void *reap(void *argument)
{
    server *s = argument;
    int64_t trim_us = 0;
    size_t most = s->settings.max_connections;
    struct pollfd *polls = server_alloc(most, sizeof *polls);
    connection **waiting = server_alloc(most, sizeof *waiting);
    struct MHD_Connection **resumed = server_alloc(most, sizeof *resumed);
    while (polls != NULL && waiting != NULL && resumed != NULL && s->reaping) {
        size_t n = look(s, polls, waiting, most, resumed);
        for (size_t i = 0; i < n; i++) MHD_resume_connection(resumed[i]);
        trim_us = trim(s, trim_us);
        poll(NULL, 0, REAPER_MS);
    }
    server_free(polls);
    server_free(waiting);
    server_free(resumed);
    return NULL;
}

/* ---- starting and stopping --------------------------------------------------------------------
 */

static crank_status fail(crank_error *error, crank_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static crank_status fail(crank_error *error, crank_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    error->status = status;
    return status;
}

static crank_status bind_listener(server *s, unsigned *port, crank_error *error)
{
    char service[16];
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    snprintf(service, sizeof service, "%zu", s->settings.port);
    int code = getaddrinfo(s->settings.host, service, &hints, &found);
    if (code != 0)
        return fail(error, CRANK_INVALID_ARGUMENT, "--host %s: %s", s->settings.host,
                    gai_strerror(code));
    int fd = -1, one = 1, why = 0;
    for (struct addrinfo *at = found; at != NULL && fd < 0; at = at->ai_next) {
        fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, at->ai_protocol);
        if (fd < 0) continue;
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (bind(fd, at->ai_addr, at->ai_addrlen) != 0 || listen(fd, 1024) != 0) {
            why = errno;
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    if (fd < 0)
        return fail(error, CRANK_INVALID_ARGUMENT, "%s port %zu: %s", s->settings.host,
                    s->settings.port, strerror(why != 0 ? why : errno));
    struct sockaddr_storage bound;
    socklen_t bytes = sizeof bound;
    char number[16] = "0";
    if (getsockname(fd, (struct sockaddr *)&bound, &bytes) == 0)
        getnameinfo((struct sockaddr *)&bound, bytes, NULL, 0, number, sizeof number,
                    NI_NUMERICSERV);
    *port = (unsigned)strtoul(number, NULL, 10);
    s->listener = fd;
    return CRANK_OK;
}

static void close_parser(void *parser)
{
    body_parser_close(parser);
}

static crank_status start_daemon(server *s, crank_error *error)
{
    const server_settings *o = &s->settings;
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC;
    struct MHD_OptionItem tls[] = {
        {MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)(uintptr_t)o->tls_cert},
        {MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)(uintptr_t)o->tls_key},
        {MHD_OPTION_END, 0, NULL},
    };
    struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};
    if (o->tls_cert != NULL) flags |= MHD_USE_TLS;
    unsigned pool = o->http_threads > 1 ? (unsigned)o->http_threads : 0;
    s->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, handle, s, MHD_OPTION_LISTEN_SOCKET, s->listener,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, s, MHD_OPTION_NOTIFY_COMPLETED, on_completed,
        s, MHD_OPTION_URI_LOG_CALLBACK, on_request_line, s, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)o->max_connections, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)(2 * o->max_header + o->max_uri + 16384), MHD_OPTION_CONNECTION_MEMORY_INCREMENT,
        (size_t)16384, MHD_OPTION_CONNECTION_TIMEOUT, 0u, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_THREAD_POOL_SIZE, pool, MHD_OPTION_ARRAY, o->tls_cert != NULL ? tls : none,
        MHD_OPTION_END);
    if (s->daemon == NULL)
        return fail(error, CRANK_INVALID_ARGUMENT, "the HTTP library did not start%s",
                    o->tls_cert != NULL ? " (is the certificate right?)" : "");
    return CRANK_OK;
}

crank_status server_start(server *s, unsigned *port, crank_error *error)
{
    s->listener = -1;
    s->metrics.started_us = server_clock_us();
    pthread_mutex_init(&s->lock, NULL);
    if (pthread_key_create(&s->parser_key, close_parser) != 0)
        return fail(error, CRANK_OUT_OF_MEMORY, "no thread keys");
    crank_status status = bind_listener(s, port, error);
    if (status == CRANK_OK) status = start_daemon(s, error);
    if (status != CRANK_OK) return status;
    s->reaping = 1;
    if (pthread_create(&s->reaper, NULL, reap, s) != 0) {
        s->reaping = 0;
        return fail(error, CRANK_OUT_OF_MEMORY, "the reaper's thread cannot be started");
    }
    return CRANK_OK;
}

/* A packet filter on a listener that lets no new handshake begin; those that have begun are still
 * finished. Without it whatever the kernel completes between the last accept and the shutdown would
 * be reset, with a request in it perhaps. Refused by some kernels, which is no more than that. */
static void drop_new_handshakes(int fd)
{
    enum { TCP_FLAGS_AT = 13, TCP_SYN = 2 };
    struct sock_filter code[] = {
        {BPF_LD | BPF_B | BPF_ABS, 0, 0, TCP_FLAGS_AT},
        {BPF_JMP | BPF_JSET | BPF_K, 0, 1, TCP_SYN},
        {BPF_RET | BPF_K, 0, 0, 0},
        {BPF_RET | BPF_K, 0, 0, UINT32_MAX},
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
}

/* Connections that the kernel has accepted, or begun to, are taken before the listener closes. */
static void close_listener(server *s)
{
    int fd = MHD_quiesce_daemon(s->daemon);
    if (fd < 0) return;
    drop_new_handshakes(fd);
    int64_t end = server_clock_us() + LAST_HANDSHAKES_US;
    for (;;) {
        struct sockaddr_storage peer;
        socklen_t bytes = sizeof peer;
        int client = accept4(fd, (struct sockaddr *)&peer, &bytes, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (client >= 0)
            MHD_add_connection(s->daemon, client, (struct sockaddr *)&peer, bytes);
        else if (server_clock_us() >= end)
            break;
        else
            poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 5);
    }
    /* Shut, not closed: the daemon's thread may still take the descriptor out of its epoll set, and
     * libmicrohttpd aborts the program when that fails. From here on the kernel refuses. */
    shutdown(fd, SHUT_RD);
    s->shut_listener = fd;
}

static size_t unfinished(server *s)
{
    size_t n = 0;
    pthread_mutex_lock(&s->lock);
    for (connection *c = s->connections; c != NULL; c = c->next) n += c->phase != PHASE_IDLE;
    pthread_mutex_unlock(&s->lock);
    return n;
}

static void cancel_all(server *s)
{
    struct MHD_Connection *resumed[64];
    for (int more = 1; more;) {
        size_t n = 0;
        more = 0;
        pthread_mutex_lock(&s->lock);
        for (connection *c = s->connections; c != NULL; c = c->next) {
            if (c->phase != PHASE_WAITING) continue;
            if (n == 64) {
                more = 1;
                break;
            }
            if (!scheduler_cancel(c->r->model->queue, &c->r->work, JOB_GONE)) continue;
            c->phase = PHASE_BUSY;
            resumed[n++] = c->mhd;
        }
        pthread_mutex_unlock(&s->lock);
        for (size_t i = 0; i < n; i++) MHD_resume_connection(resumed[i]);
    }
}

static size_t waiting_requests(server *s)
{
    size_t n = 0;
    pthread_mutex_lock(&s->lock);
    for (connection *c = s->connections; c != NULL; c = c->next) n += c->phase == PHASE_WAITING;
    pthread_mutex_unlock(&s->lock);
    return n;
}

long server_drain(server *s, int64_t limit_ms, int (*hurry)(void *), void *user)
{
    int64_t start = server_clock_us(), limit = start + limit_ms * 1000;
    atomic_store(&s->draining, 1);
    /* Load balancers see /health and go elsewhere, while everything is still answered. */
    while (server_clock_us() < start + (int64_t)s->settings.drain_ms * 1000 && !hurry(user))
        poll(NULL, 0, 10);
    close_listener(s);
    /* Idle for two looks of the reaper's length, so that a request in the socket is not missed. */
    int quiet = 0;
    while (quiet < 5 && server_clock_us() < limit && !hurry(user)) {
        quiet = atomic_load(&s->busy) == 0 && unfinished(s) == 0 ? quiet + 1 : 0;
        poll(NULL, 0, 20);
    }
    atomic_store(&s->stopping, 1);
    long left = atomic_load(&s->busy);
    cancel_all(s);
    while (waiting_requests(s) > 0 && server_clock_us() < limit + 5000000) poll(NULL, 0, 5);
    return left;
}

void server_stop(server *s)
{
    if (s->reaping) {
        s->reaping = 0;
        pthread_join(s->reaper, NULL);
    }
    if (s->daemon != NULL) MHD_stop_daemon(s->daemon);
    s->daemon = NULL;
    if (s->shut_listener > 0) close(s->shut_listener); /* until then the daemon's own */
    pthread_mutex_destroy(&s->lock);
    pthread_key_delete(s->parser_key);
}
