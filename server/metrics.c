/* Prometheus text format 0.0.4. The names that begin with te_ are those of Hugging Face's
 * text-embeddings-inference, for dashboards that chart them. */
#include "server/metrics.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/clock.h"

#define GROWTH 1.5
#define LOW_US 15.0 /* TEI's buckets begin there too */
#define LOW_COUNT 1.0

static void add(histogram *h, double value, double low, uint64_t sum)
{
    int i = 0;
    for (double bound = low; i < METRICS_BUCKETS && value > bound; bound *= GROWTH) i++;
    METRICS_ADD(h->buckets[i], 1);
    METRICS_ADD(h->sum, sum);
}

void histogram_add_us(histogram *h, int64_t us)
{
    if (us < 0) us = 0;
    add(h, (double)us, LOW_US, (uint64_t)us);
}

void histogram_add_count(histogram *h, uint64_t count)
{
    add(h, (double)count, LOW_COUNT, count);
}

void metrics_request(metrics *m, const dialect *d, dialect_fault fault)
{
    size_t row = d != NULL ? (size_t)(d - dialects) : n_dialects;
    METRICS_ADD(m->requests[row][fault], 1);
}

static uint64_t get(const atomic_uint_fast64_t *counter)
{
    return (uint64_t)atomic_load_explicit(counter, memory_order_relaxed);
}

static void head(text *out, const char *name, const char *type, const char *help)
{
    text_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_counter(text *out, const char *name, const char *help, uint64_t value)
{
    head(out, name, "counter", help);
    text_printf(out, "%s %llu\n", name, (unsigned long long)value);
}

static void put_gauge(text *out, const char *name, const char *help, double value)
{
    head(out, name, "gauge", help);
    text_printf(out, "%s %.9g\n", name, value);
}

/* scale: what one unit of the histogram is in the unit of the page. */
static void put_histogram(text *out, const char *name, const char *help, const histogram *h,
                          double low, double scale)
{
    head(out, name, "histogram", help);
    uint64_t total = 0;
    double bound = low;
    for (int i = 0; i < METRICS_BUCKETS; i++, bound *= GROWTH) {
        total += get(&h->buckets[i]);
        text_printf(out, "%s_bucket{le=\"%.6g\"} %llu\n", name, bound * scale,
                    (unsigned long long)total);
    }
    total += get(&h->buckets[METRICS_BUCKETS]);
    text_printf(out, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.9g\n%s_count %llu\n", name,
                (unsigned long long)total, name, (double)get(&h->sum) * scale, name,
                (unsigned long long)total);
}

uint64_t metrics_resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long size = 0, resident = 0;
    if (file == NULL) return 0;
    if (fscanf(file, "%lu %lu", &size, &resident) != 2) resident = 0;
    fclose(file);
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void put_requests(text *out, metrics *m)
{
    uint64_t all = 0, good = 0;
    head(out, "crank_requests_total", "counter", "Scoring requests by dialect and outcome.");
    for (size_t d = 0; d <= n_dialects; d++) {
        for (int f = 0; f < N_DIALECT_FAULTS; f++) {
            uint64_t n = get(&m->requests[d][f]);
            all += n;
            if (f == FAULT_NONE) good += n;
            if (n == 0) continue;
            text_printf(
                out, "crank_requests_total{dialect=\"%s\",outcome=\"%s\",code=\"%d\"} %llu\n",
                d < n_dialects ? dialects[d].name : "", dialect_fault_name((dialect_fault)f),
                dialect_status(d < n_dialects ? &dialects[d] : NULL, (dialect_fault)f),
                (unsigned long long)n);
        }
    }
    put_counter(out, "te_request_count", "Requests.", all);
    put_counter(out, "te_request_success", "Requests answered with 200.", good);
    head(out, "te_request_failure", "counter", "Requests that failed, by reason.");
    for (int f = FAULT_NONE + 1; f < N_DIALECT_FAULTS; f++) {
        uint64_t n = 0;
        for (size_t d = 0; d <= n_dialects; d++) n += get(&m->requests[d][f]);
        if (n > 0)
            text_printf(out, "te_request_failure{err=\"%s\"} %llu\n",
                        dialect_fault_name((dialect_fault)f), (unsigned long long)n);
    }
}

void metrics_write(text *out, metrics *m, const metrics_gauges *g)
{
    put_requests(out, m);
    static const struct {
        const char *name, *te_name, *help;
    } stages[] = {
        {"crank_request_seconds", "te_request_duration", "From the whole body to the answer."},
        {"crank_tokenize_seconds", "te_request_tokenization_duration", "Tokenising, by request."},
        {"crank_queue_seconds", "te_request_queue_duration", "Waiting for a batch, by request."},
        {"crank_compute_seconds", "te_request_inference_duration", "Computing, by request."},
    };
    const histogram *times[] = {&m->request_us, &m->tokenize_us, &m->queue_us, &m->compute_us};
    for (int i = 0; i < 4; i++) {
        put_histogram(out, stages[i].name, stages[i].help, times[i], LOW_US, 1e-6);
        put_histogram(out, stages[i].te_name, stages[i].help, times[i], LOW_US, 1e-6);
    }
    put_histogram(out, "crank_batch_pairs", "Pairs of a batch.", &m->batch_pairs, LOW_COUNT, 1);
    put_histogram(out, "te_batch_next_size", "Pairs of a batch.", &m->batch_pairs, LOW_COUNT, 1);
    put_histogram(out, "crank_batch_tokens", "Tokens of a batch.", &m->batch_tokens, LOW_COUNT, 1);
    put_histogram(out, "te_batch_next_tokens", "Tokens of a batch.", &m->batch_tokens, LOW_COUNT,
                  1);
    put_counter(out, "crank_pairs_total", "Pairs asked for.", get(&m->pairs));
    put_counter(out, "crank_tokens_total", "Tokens of all pairs asked for.", get(&m->tokens));
    put_counter(out, "crank_computed_pairs_total", "Pairs run through a model.",
                get(&m->computed_pairs));
    put_counter(out, "crank_computed_tokens_total", "Tokens run through a model.",
                get(&m->computed_tokens));
    put_counter(out, "crank_folded_pairs_total", "Pairs equal to another of their request.",
                get(&m->folded_pairs));
    head(out, "crank_cache_hits_total", "counter", "Pairs answered by a cache.");
    text_printf(out,
                "crank_cache_hits_total{tier=\"text\"} %llu\ncrank_cache_hits_total{tier=\"ids\"} "
                "%llu\ncrank_cache_hits_total{tier=\"redis\"} %llu\n",
                (unsigned long long)get(&m->text_hits), (unsigned long long)g->cache.hits,
                (unsigned long long)get(&m->redis_hits));
    head(out, "crank_cache_misses_total", "counter", "Pairs a cache did not know.");
    text_printf(
        out,
        "crank_cache_misses_total{tier=\"text\"} %llu\ncrank_cache_misses_total{tier=\"ids\"}"
        " %llu\ncrank_cache_misses_total{tier=\"redis\"} %llu\n",
        (unsigned long long)get(&m->text_misses), (unsigned long long)g->cache.misses,
        (unsigned long long)get(&m->redis_misses));
    put_counter(out, "crank_cache_evictions_total", "Entries that made room.",
                g->cache.evictions + g->text_evictions);
    put_counter(out, "crank_cache_damaged_total", "Entries whose checksum was wrong (misses).",
                g->cache.damaged + g->text_damaged);
    put_counter(out, "crank_redis_errors_total", "Failed calls to Redis (misses).",
                get(&m->redis_errors));
    put_counter(out, "crank_clients_gone_total", "Requests whose client left.",
                get(&m->clients_gone));
    put_counter(out, "crank_timeouts_total", "Connections closed for slowness.", get(&m->timeouts));
    put_counter(out, "crank_connections_total", "Connections accepted.",
                get(&m->connections_opened));
    put_counter(out, "crank_received_bytes_total", "Bytes of bodies.", get(&m->bytes_in));
    put_counter(out, "crank_sent_bytes_total", "Bytes of answers.", get(&m->bytes_out));
    put_gauge(out, "crank_connections", "Open connections.", (double)g->connections);
    put_gauge(out, "crank_queue_pairs", "Pairs admitted and not yet computed.",
              (double)g->queue_pairs);
    put_gauge(out, "te_queue_size", "Pairs admitted and not yet computed.", (double)g->queue_pairs);
    put_gauge(out, "crank_queue_requests", "Requests waiting.", (double)g->queue_requests);
    put_gauge(out, "crank_queue_tokens", "Tokens admitted, estimated.", (double)g->queue_tokens);
    put_gauge(out, "crank_queue_bytes", "Bytes admitted.", (double)g->queue_bytes);
    put_gauge(out, "crank_backlog_seconds", "Predicted time to compute the queue.",
              g->backlog_seconds);
    put_gauge(out, "crank_cost_us_per_token", "The cost model's slope.", g->us_per_token);
    put_gauge(out, "crank_ready", "1: serving.", g->ready);
    put_gauge(out, "process_resident_memory_bytes", "Resident memory.",
              (double)metrics_resident_bytes());
    put_gauge(out, "crank_uptime_seconds", "Since the start.",
              (double)(server_clock_us() - m->started_us) / 1e6);
}
