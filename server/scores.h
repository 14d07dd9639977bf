/* Scores of texts seen before, asked before anything is tokenised: key = 128-bit hash of (model and
 * settings, query bytes, document bytes). Behind it the engine's own cache (crank_cache) knows
 * pairs by their token ids.
 *
 * Sharded, set-associative, least recently used of a set goes first; every entry is checksummed,
 * and a damaged one is a miss. */
#ifndef CRANK_SERVER_SCORES_H
#define CRANK_SERVER_SCORES_H

#include <stddef.h>
#include <stdint.h>

#include "crank.h"

typedef struct score_key {
    uint64_t high, low;
} score_key;

typedef struct score_value {
    float logit;
    uint32_t tokens, window_start, window_bytes;
} score_value;

typedef struct scores scores;

/* NULL: no memory. capacity_bytes: at least 64 KiB. */
scores *scores_open(size_t capacity_bytes);
void scores_close(scores *s);

/* The seed of keys under these settings, a plain array of numbers. */
score_key scores_seed(const uint64_t *settings, size_t n);
/* A query is hashed once for all its documents. seed: of the model and its settings. */
score_key scores_query_key(score_key seed, crank_text query);
score_key scores_pair_key(score_key query, crank_text document);

int scores_get(scores *s, score_key key, score_value *value);
void scores_put(scores *s, score_key key, const score_value *value);

typedef struct scores_counts {
    uint64_t entries, evictions, damaged;
} scores_counts;
void scores_count(scores *s, scores_counts *counts);

#endif
