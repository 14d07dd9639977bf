#include "runtime/cache.h"

#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "memory.h"
#include "runtime/model.h"

#define N_SHARDS 16
#define SET_WAYS 8

typedef struct entry {
    cache_key key;
    float values[CACHE_MAX_VALUES];
    uint32_t check;     /* 0: empty */
    uint32_t last_used; /* the shard's clock; wraps harmlessly */
} entry;

typedef struct shard {
    pthread_mutex_t lock;
    entry *entries; /* [n_sets][SET_WAYS] */
    uint32_t clock;
    crank_cache_counts counts;
} shard;

struct crank_cache {
    size_t n_sets; /* per shard */
    size_t capacity_bytes;
    entry *memory;
    shard shards[N_SHARDS];
};

crank_status crank_cache_open(crank_cache **out, size_t capacity_bytes, crank_error *error)
{
    CRANK_CHECK(out != NULL, INVALID_ARGUMENT, error, "crank_cache_open: cache must not be NULL");
    *out = NULL;
    size_t set_bytes = (size_t)N_SHARDS * SET_WAYS * sizeof(entry);
    size_t n_sets = capacity_bytes / set_bytes;
    CRANK_CHECK(n_sets >= 1, INVALID_ARGUMENT, error,
                "cache: expected at least %zu bytes, found %zu", set_bytes, capacity_bytes);
    crank_cache *cache = mem_zero(1, sizeof *cache);
    entry *memory = mem_zero(n_sets, set_bytes);
    if (cache == NULL || memory == NULL) {
        mem_free(cache);
        mem_free(memory);
        return status_fail(error, CRANK_OUT_OF_MEMORY, "no memory for a cache of %zu bytes",
                           capacity_bytes);
    }
    cache->n_sets = n_sets;
    cache->capacity_bytes = n_sets * set_bytes;
    cache->memory = memory;
    for (int i = 0; i < N_SHARDS; i++) {
        pthread_mutex_init(&cache->shards[i].lock, NULL);
        cache->shards[i].entries = memory + (size_t)i * n_sets * SET_WAYS;
    }
    *out = cache;
    return CRANK_OK;
}

void crank_cache_close(crank_cache *cache)
{
    if (cache == NULL) return;
    for (int i = 0; i < N_SHARDS; i++) pthread_mutex_destroy(&cache->shards[i].lock);
    mem_free(cache->memory);
    mem_free(cache);
}

static uint32_t checksum(const entry *e)
{
    uint32_t sum = (uint32_t)XXH3_64bits(e, offsetof(entry, check));
    return sum != 0 ? sum : 1;
}

static shard *shard_of(crank_cache *cache, cache_key key, entry **set)
{
    shard *s = &cache->shards[key.high % N_SHARDS];
    *set = s->entries + key.low % cache->n_sets * SET_WAYS;
    return s;
}

static bool same(const entry *e, cache_key key)
{
    return e->check != 0 && e->key.high == key.high && e->key.low == key.low;
}

bool cache_get(crank_cache *cache, cache_key key, float *values, int n)
{
    entry *set;
    shard *s = shard_of(cache, key, &set);
    bool found = false;
    pthread_mutex_lock(&s->lock);
    for (int way = 0; way < SET_WAYS && !found; way++) {
        entry *e = &set[way];
        if (!same(e, key)) continue;
        if (e->check != checksum(e)) {
            e->check = 0;
            s->counts.damaged++;
            s->counts.entries--;
            break;
        }
        memcpy(values, e->values, (size_t)n * sizeof *values);
        e->last_used = ++s->clock;
        found = true;
    }
    if (found) s->counts.hits++;
    if (!found) s->counts.misses++;
    pthread_mutex_unlock(&s->lock);
    return found;
}

void cache_put(crank_cache *cache, cache_key key, const float *values, int n)
{
    entry *set;
    shard *s = shard_of(cache, key, &set);
    pthread_mutex_lock(&s->lock);
    entry *victim = &set[0];
    for (int way = 0; way < SET_WAYS; way++) {
        entry *e = &set[way];
        if (same(e, key) || e->check == 0) {
            victim = e;
            if (e->check != 0) break;
            continue;
        }
        if (victim->check != 0 && s->clock - e->last_used > s->clock - victim->last_used) {
            victim = e;
        }
    }
    if (victim->check == 0) {
        s->counts.entries++;
    } else if (!same(victim, key)) {
        s->counts.evictions++;
    }
    *victim = (entry){.key = key, .last_used = ++s->clock};
    memcpy(victim->values, values, (size_t)n * sizeof *values);
    victim->check = checksum(victim);
    s->counts.insertions++;
    pthread_mutex_unlock(&s->lock);
}

void crank_cache_count(const crank_cache *cache, crank_cache_counts *counts)
{
    *counts = (crank_cache_counts){.capacity_bytes = cache->capacity_bytes};
    for (int i = 0; i < N_SHARDS; i++) {
        shard *s = (shard *)&cache->shards[i]; /* counting locks; it changes nothing */
        pthread_mutex_lock(&s->lock);
        counts->hits += s->counts.hits;
        counts->misses += s->counts.misses;
        counts->insertions += s->counts.insertions;
        counts->evictions += s->counts.evictions;
        counts->damaged += s->counts.damaged;
        counts->entries += s->counts.entries;
        pthread_mutex_unlock(&s->lock);
    }
    counts->bytes = counts->entries * sizeof(entry);
}

void cache_model_digest(const crank_model *m, uint64_t digest[2])
{
    char text[256];
    int n =
        snprintf(text, sizeof text, "%016llx%016llx %s %s %s %s %d %d",
                 (unsigned long long)m->weights_digest[0], (unsigned long long)m->weights_digest[1],
                 m->arch->model_types[0], m->backend->name, m->layout->name,
                 m->backend->describe(m->device), (int)m->readout.kind, (int)m->readout.pool);
    XXH128_hash_t all = XXH3_128bits(text, n > 0 ? (size_t)n : 0);
    digest[0] = all.high64;
    digest[1] = all.low64;
}
