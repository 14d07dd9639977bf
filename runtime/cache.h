/* The score cache: 128-bit keys to a pair's logits, sharded by key, bounded by bytes.
 *
 * A shard is a set-associative table: a key may live in one of SET_WAYS slots of one set, and the
 * least recently used of them makes room. No lists, no allocation after open, one lock per shard.
 * Every entry carries a checksum over key and values: a damaged one is a miss and is counted. */
#ifndef CRANK_RUNTIME_CACHE_H
#define CRANK_RUNTIME_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "crank.h"

#define CACHE_MAX_VALUES 4 /* labels of one entry; models with more are not cached */

typedef struct cache_key {
    uint64_t high, low;
} cache_key;

/* values: [n], n <= CACHE_MAX_VALUES. */
bool cache_get(crank_cache *cache, cache_key key, float *values, int n);
void cache_put(crank_cache *cache, cache_key key, const float *values, int n);

/* Digest of everything a score depends on besides the ids: weights, dtype, layout, device. */
void cache_model_digest(const crank_model *model, uint64_t digest[2]);

#endif
