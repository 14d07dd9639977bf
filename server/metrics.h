/* What the server counts, and its Prometheus page. Everything is atomic and relaxed: a counter is
 * written by many threads and read by a scrape; no two need to agree to the last request. */
#ifndef CRANK_SERVER_METRICS_H
#define CRANK_SERVER_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

#include "crank.h"
#include "server/dialects.h"
#include "server/text.h"

/* Geometric buckets: bucket i counts values up to low * 1.5^i; the last one the rest. */
#define METRICS_BUCKETS 36

typedef struct histogram {
    atomic_uint_fast64_t buckets[METRICS_BUCKETS + 1];
    atomic_uint_fast64_t sum; /* in the histogram's integer unit */
} histogram;

typedef struct metrics {
    /* microseconds */
    histogram request_us, tokenize_us, queue_us, compute_us;
    /* of batches */
    histogram batch_pairs, batch_tokens;
    atomic_uint_fast64_t requests[12][N_DIALECT_FAULTS]; /* by dialect (last: none) and fault */
    atomic_uint_fast64_t pairs, tokens, computed_pairs, computed_tokens, folded_pairs;
    atomic_uint_fast64_t text_hits, text_misses, redis_hits, redis_misses, redis_errors;
    atomic_uint_fast64_t clients_gone, connections_opened, connections_closed, timeouts;
    atomic_uint_fast64_t bytes_in, bytes_out;
    int64_t started_us;
} metrics;

/* What the page shows besides: read from their owners at the time of a scrape. */
typedef struct metrics_gauges {
    uint64_t queue_pairs, queue_tokens, queue_bytes, queue_requests, connections;
    double backlog_seconds, us_per_token;
    int ready;
    crank_cache_counts cache;
    uint64_t text_entries, text_evictions, text_damaged;
} metrics_gauges;

#define METRICS_ADD(counter, n)                                                                    \
    atomic_fetch_add_explicit(&(counter), (uint_fast64_t)(n), memory_order_relaxed)

void histogram_add_us(histogram *h, int64_t us);
void histogram_add_count(histogram *h, uint64_t count);
void metrics_request(metrics *m, const dialect *d, dialect_fault fault);
void metrics_write(text *out, metrics *m, const metrics_gauges *gauges);

/* Resident memory in bytes; 0 when unknown. */
uint64_t metrics_resident_bytes(void);

#endif
