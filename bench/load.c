/* crank bench load: an open-loop load on a running server. Requests are sent at the times of a
 * fixed schedule, whatever the answers do, and latency counts from the intended time, so that a
 * server that stalls cannot hide its stall (coordinated omission: Tene, "How NOT to Measure
 * Latency", 2013).
 *
 * One thread, epoll-free: each of C connections is a small state machine under poll(). A request
 * whose time has come waits for a free connection; the wait is part of its latency. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/samples.h"
#include "cli/bench.h"
#include "cli/options.h"
#include "cli/terminal.h"

#define ANSWER_BYTES (1 << 16)
#define CLOSED_LOOP_MOST 50000 /* answers a second that a closed loop keeps the times of */

typedef struct client {
    int fd; /* -1: not connected */
    int busy;
    int64_t intended_us;
    char *ask;
    size_t ask_bytes, sent;
    char answer[ANSWER_BYTES];
    size_t got;
    size_t total; /* of the answer, headers included; 0: not known yet */
} client;

typedef struct load_run {
    const char *host, *path;
    size_t port, rate, seconds, connections, documents, words, distinct, first_seed;
    int json;
    struct sockaddr_storage address;
    socklen_t address_bytes;
    client *clients;
    struct pollfd *polls;
    int64_t *good_us, *refused_us;
    size_t n_good, n_refused, n_failed, n_sent, capacity;
    uint64_t seed;
} load_run;

static uint64_t next_random(load_run *r)
{
    r->seed ^= r->seed << 13;
    r->seed ^= r->seed >> 7;
    r->seed ^= r->seed << 17;
    return r->seed;
}

static cli_exit resolve(load_run *r)
{
    char port[16];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    snprintf(port, sizeof port, "%zu", r->port);
    int code = getaddrinfo(r->host, port, &hints, &found);
    if (code != 0) return cli_fail(CLI_USAGE, "%s: %s", r->host, gai_strerror(code));
    memcpy(&r->address, found->ai_addr, found->ai_addrlen);
    r->address_bytes = found->ai_addrlen;
    freeaddrinfo(found);
    return CLI_OK;
}

static int open_client(load_run *r, client *c)
{
    int one = 1;
    c->fd = socket(r->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&r->address, r->address_bytes) != 0) {
        if (c->fd >= 0) close(c->fd);
        c->fd = -1;
        return 0;
    }
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return 1;
}

/* TEI's dialect. distinct 0: every request is new to the server's cache; else one of so many. */
static void write_request(load_run *r, client *c)
{
    uint64_t state = r->distinct > 0 ? next_random(r) % r->distinct : next_random(r);
    size_t room = 512 + r->documents * (64 + r->words * 8), n = 0;
    char *body = cli_alloc(room, 1);
    n += (size_t)snprintf(body, room, "{\"query\":\"");
    n += samples_words(body + n, 4, &state);
    n += (size_t)snprintf(body + n, room - n, "\",\"texts\":[");
    for (size_t d = 0; d < r->documents; d++) {
        n += (size_t)snprintf(body + n, room - n, d ? ",\"" : "\"");
        n += samples_words(body + n, r->words, &state);
        body[n++] = '"';
    }
    n += (size_t)snprintf(body + n, room - n, "]}");
    free(c->ask);
    c->ask = cli_alloc(n + 256, 1);
    c->ask_bytes = (size_t)snprintf(c->ask, 256,
                                    "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: "
                                    "application/json\r\nContent-Length: %zu\r\n\r\n",
                                    r->path, r->host, n);
    memcpy(c->ask + c->ask_bytes, body, n);
    c->ask_bytes += n;
    c->sent = c->got = c->total = 0;
    free(body);
}

static void finish(load_run *r, client *c, int status)
{
    int64_t us = now_us() - c->intended_us;
    if (r->n_good + r->n_refused < r->capacity) {
        if (status == 200)
            r->good_us[r->n_good++] = us;
        else if (status == 429)
            r->refused_us[r->n_refused++] = us;
    }
    if (status != 200 && status != 429) r->n_failed++;
    c->busy = 0;
}

static void drop(load_run *r, client *c)
{
    close(c->fd);
    c->fd = -1;
    if (c->busy) finish(r, c, 0);
}

/* Reads what there is; 1 when the answer is complete. */
static int read_answer(load_run *r, client *c)
{
    for (;;) {
        /* A long answer is counted, not kept, behind its headers. */
        size_t room = c->got < ANSWER_BYTES - 1 ? ANSWER_BYTES - 1 - c->got : 0;
        char rest[4096];
        ssize_t n =
            room > 0 ? recv(c->fd, c->answer + c->got, room, 0) : recv(c->fd, rest, sizeof rest, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
        if (n <= 0) {
            drop(r, c);
            return 0;
        }
        c->got += (size_t)n;
        if (c->total == 0) {
            c->answer[c->got < ANSWER_BYTES ? c->got : ANSWER_BYTES - 1] = '\0';
            char *end = strstr(c->answer, "\r\n\r\n"),
                 *length = strstr(c->answer, "Content-Length: ");
            if (end == NULL) continue;
            if (length == NULL || length > end) {
                drop(r, c);
                return 0;
            }
            c->total = (size_t)(end + 4 - c->answer) + strtoul(length + 16, NULL, 10);
        }
        if (c->got >= c->total) return 1;
    }
}

static void serve_client(load_run *r, client *c, short events)
{
    if (c->sent < c->ask_bytes && (events & POLLOUT)) {
        ssize_t n = send(c->fd, c->ask + c->sent, c->ask_bytes - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            drop(r, c);
            return;
        }
        if (n > 0) c->sent += (size_t)n;
    }
    if (!(events & (POLLIN | POLLHUP | POLLERR)) || !read_answer(r, c)) return;
    int status = (int)strtol(c->answer + 9, NULL, 10);
    int closes = strstr(c->answer, "Connection: close") != NULL;
    finish(r, c, status);
    if (closes) drop(r, c);
}

static void run_schedule(load_run *r)
{
    int64_t start = now_us(), end = start + (int64_t)r->seconds * 1000000;
    double gap_us = r->rate > 0 ? 1e6 / (double)r->rate : 0;
    size_t planned = r->rate > 0 ? r->rate * r->seconds : SIZE_MAX;
    for (;;) {
        int64_t now = now_us();
        size_t busy = 0;
        /* A closed loop ends with its time, a schedule with its last request. */
        if (r->rate == 0 && now >= end) planned = r->n_sent;
        for (size_t i = 0; i < r->connections; i++) {
            client *c = &r->clients[i];
            int64_t due = start + (int64_t)((double)r->n_sent * gap_us);
            if (!c->busy && r->n_sent < planned && due <= now) {
                c->intended_us = r->rate > 0 ? due : now_us();
                r->n_sent++;
                write_request(r, c);
                c->busy = 1;
                if (c->fd < 0 && !open_client(r, c)) finish(r, c, 0);
                if (c->busy) serve_client(r, c, POLLOUT);
            }
            busy += (size_t)c->busy;
            short wanted = c->sent < c->ask_bytes ? POLLIN | POLLOUT : POLLIN;
            r->polls[i] = (struct pollfd){.fd = c->busy ? c->fd : -1, .events = wanted};
        }
        if (cli_stopped() || (busy == 0 && r->n_sent >= planned) || now > end + 60000000) return;
        int64_t due = start + (int64_t)((double)r->n_sent * gap_us);
        int64_t wait = r->n_sent >= planned || busy == r->connections ? 100000 : due - now_us();
        struct timespec pause = {0, wait > 0 ? (wait < 900000 ? wait : 900000) * 1000 : 0};
        if (ppoll(r->polls, r->connections, &pause, NULL) <= 0) continue;
        for (size_t i = 0; i < r->connections; i++)
            if (r->polls[i].revents) serve_client(r, &r->clients[i], r->polls[i].revents);
    }
}

static int64_t quantile(const int64_t *sorted, size_t n, double q)
{
    return n > 0 ? sorted[(size_t)((double)(n - 1) * q)] : 0;
}

static void report(load_run *r, double seconds)
{
    qsort(r->good_us, r->n_good, sizeof *r->good_us, samples_by_time);
    qsort(r->refused_us, r->n_refused, sizeof *r->refused_us, samples_by_time);
    static const double quantiles[] = {0.5, 0.9, 0.99, 0.999};
    static const char *const names[] = {"p50", "p90", "p99", "p999"};
    if (r->json)
        printf("{\"rate\":%zu,\"sent\":%zu,\"ok\":%zu,\"refused\":%zu,\"failed\":%zu,"
               "\"goodput_rps\":%.1f",
               r->rate, r->n_sent, r->n_good, r->n_refused, r->n_failed,
               (double)r->n_good / seconds);
    else
        printf("%zu sent at %zu/s: %zu ok (%.1f/s), %zu refused, %zu failed\n", r->n_sent, r->rate,
               r->n_good, (double)r->n_good / seconds, r->n_refused, r->n_failed);
    for (int kind = 0; kind < 2; kind++) {
        const int64_t *sorted = kind == 0 ? r->good_us : r->refused_us;
        size_t n = kind == 0 ? r->n_good : r->n_refused;
        if (r->json)
            printf(",\"%s_us\":{", kind == 0 ? "ok" : "refused");
        else
            printf("%-8s", kind == 0 ? "ok" : "refused");
        for (int i = 0; i < 4; i++) {
            long long us = (long long)quantile(sorted, n, quantiles[i]);
            if (r->json)
                printf("%s\"%s\":%lld", i ? "," : "", names[i], us);
            else
                printf("  %s %.3f ms", names[i], (double)us / 1e3);
        }
        printf(r->json ? "}" : "\n");
    }
    if (r->json) printf("}\n");
}

static cli_exit run(const cli_command *self, int argc, char **argv)
{
    load_run r = {.host = "127.0.0.1",
                  .path = "/rerank",
                  .port = 8080,
                  .rate = 100,
                  .seconds = 10,
                  .connections = 64,
                  .documents = 10,
                  .words = 30,
                  .first_seed = 1};
    const cli_option options[] = {
        {"host", 0, OPTION_TEXT, &r.host, "NAME", "127.0.0.1", 0, 0, NULL},
        {"port", 0, OPTION_COUNT, &r.port, "N", "8080", 1, 65535, NULL},
        {"path", 0, OPTION_TEXT, &r.path, "PATH", "/rerank (TEI's dialect)", 0, 0, NULL},
        {"rate", 0, OPTION_COUNT, &r.rate, "N",
         "100; requests a second; 0: the next as soon as one is answered (a closed loop)", 0,
         1000000, NULL},
        {"seconds", 0, OPTION_COUNT, &r.seconds, "N", "10", 1, 3600, NULL},
        {"connections", 0, OPTION_COUNT, &r.connections, "N", "64; most requests in flight", 1,
         10000, NULL},
        {"documents", 0, OPTION_COUNT, &r.documents, "N", "10; of a request", 1, 10000, NULL},
        {"words", 0, OPTION_COUNT, &r.words, "N", "30; of a document", 1, 10000, NULL},
        {"distinct", 0, OPTION_COUNT, &r.distinct, "N",
         "so many different requests (the server's cache answers the rest); all differ", 1, 1 << 30,
         NULL},
        {"seed", 0, OPTION_COUNT, &r.first_seed, "N",
         "1; another asks for other texts, which the server's cache has not seen", 1, 1 << 30,
         NULL},
        {"json", 0, OPTION_FLAG, &r.json, NULL, "one JSON object", 0, 0, NULL},
    };
    cli_arguments rest;
    cli_exit code =
        options_parse(self, options, sizeof options / sizeof *options, argc, argv, 0, 0, &rest);
    if (code != CLI_PARSED) return code;
    code = resolve(&r);
    if (code != CLI_OK) return code;
    r.seed = 0x2545F4914F6CDD1Du * (2 * r.first_seed - 1);
    r.capacity = (r.rate > 0 ? r.rate : CLOSED_LOOP_MOST) * r.seconds + 1;
    r.clients = cli_alloc(r.connections, sizeof *r.clients);
    r.polls = cli_alloc(r.connections, sizeof *r.polls);
    r.good_us = cli_alloc(r.capacity, sizeof *r.good_us);
    r.refused_us = cli_alloc(r.capacity, sizeof *r.refused_us);
    memset(r.clients, 0, r.connections * sizeof *r.clients);
    for (size_t i = 0; i < r.connections; i++) r.clients[i].fd = -1;
    client probe = {.fd = -1};
    if (!open_client(&r, &probe)) {
        code = cli_fail(CLI_USAGE, "no server at %s port %zu: %s", r.host, r.port, strerror(errno));
    } else {
        close(probe.fd);
        int64_t start = now_us();
        run_schedule(&r);
        report(&r, (double)(now_us() - start) / 1e6);
        code = r.n_failed > 0 ? CLI_ERRORS : CLI_OK;
    }
    for (size_t i = 0; i < r.connections; i++) {
        if (r.clients[i].fd >= 0) close(r.clients[i].fd);
        free(r.clients[i].ask);
    }
    free(r.clients);
    free(r.polls);
    free(r.good_us);
    free(r.refused_us);
    return code;
}

const cli_command bench_load_command = {
    .name = "bench load",
    .summary = "An open-loop load on a server; latency counts from the intended send time.",
    .synopsis = "[options]",
    .example = "  crank serve -m MODEL --log none &\n"
               "  crank bench load --rate 200 --documents 20 --seconds 30 --json",
    .run = run,
};
