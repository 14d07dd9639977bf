#include "server/scores.h"

#include <pthread.h>
#include <string.h>
#include <xxhash.h>

#include "server/alloc.h"

#define N_SHARDS 16
#define WAYS 8

typedef struct entry {
    score_key key;
    score_value value;
    uint32_t last_used; /* the shard's clock; wraps harmlessly */
    uint32_t check;     /* 0: empty */
} entry;

typedef struct shard {
    pthread_mutex_t lock;
    uint32_t clock;
    scores_counts counts;
} shard;

struct scores {
    size_t sets; /* a shard */
    entry *entries;
    shard shards[N_SHARDS];
};

scores *scores_open(size_t capacity_bytes)
{
    scores *s = server_zero(1, sizeof *s);
    if (s == NULL) return NULL;
    s->sets = capacity_bytes / (sizeof(entry) * WAYS * N_SHARDS);
    if (s->sets < 1) s->sets = 1;
    s->entries = server_zero(s->sets * WAYS * N_SHARDS, sizeof(entry));
    if (s->entries == NULL) {
        server_free(s);
        return NULL;
    }
    for (int i = 0; i < N_SHARDS; i++) pthread_mutex_init(&s->shards[i].lock, NULL);
    return s;
}

void scores_close(scores *s)
{
    if (s == NULL) return;
    for (int i = 0; i < N_SHARDS; i++) pthread_mutex_destroy(&s->shards[i].lock);
    server_free(s->entries);
    server_free(s);
}

static score_key key_of(XXH128_hash_t hash)
{
    return (score_key){hash.high64, hash.low64};
}

/* Each text is hashed by itself, so that bytes cannot move from one to the other unnoticed. */
static score_key chain(score_key before, crank_text text)
{
    XXH128_hash_t own = XXH3_128bits(text.bytes > 0 ? text.data : "", text.bytes);
    uint64_t parts[4] = {before.high, before.low, own.high64, own.low64};
    return key_of(XXH3_128bits(parts, sizeof parts));
}

score_key scores_seed(const uint64_t *settings, size_t n)
{
    return key_of(XXH3_128bits(settings, n * sizeof *settings));
}

score_key scores_query_key(score_key seed, crank_text query)
{
    return chain(seed, query);
}

score_key scores_pair_key(score_key query, crank_text document)
{
    return chain(query, document);
}

static uint32_t check_of(const entry *e)
{
    struct {
        score_key key;
        score_value value;
    } covered = {e->key, e->value};
    uint32_t sum = (uint32_t)XXH3_64bits(&covered, sizeof covered);
    return sum != 0 ? sum : 1;
}

static int same(const entry *e, score_key key)
{
    return e->check != 0 && e->key.high == key.high && e->key.low == key.low;
}

static entry *set_of(scores *s, score_key key, shard **owner)
{
    size_t i = key.high % N_SHARDS;
    *owner = &s->shards[i];
    return s->entries + (i * s->sets + key.low % s->sets) * WAYS;
}

int scores_get(scores *s, score_key key, score_value *value)
{
    shard *owner;
    entry *set = set_of(s, key, &owner);
    int found = 0;
    pthread_mutex_lock(&owner->lock);
    for (int i = 0; i < WAYS && !found; i++) {
        if (!same(&set[i], key)) continue;
        if (set[i].check != check_of(&set[i])) {
            set[i].check = 0;
            owner->counts.damaged++;
            owner->counts.entries--;
            break;
        }
        *value = set[i].value;
        set[i].last_used = ++owner->clock;
        found = 1;
    }
    pthread_mutex_unlock(&owner->lock);
    return found;
}

void scores_put(scores *s, score_key key, const score_value *value)
{
    shard *owner;
    entry *set = set_of(s, key, &owner), *victim = set;
    pthread_mutex_lock(&owner->lock);
    for (int i = 0; i < WAYS; i++) {
        if (set[i].check == 0 || same(&set[i], key)) {
            victim = &set[i];
            break;
        }
        if (owner->clock - set[i].last_used > owner->clock - victim->last_used) victim = &set[i];
    }
    if (victim->check == 0)
        owner->counts.entries++;
    else if (!same(victim, key))
        owner->counts.evictions++;
    *victim = (entry){.key = key, .value = *value, .last_used = ++owner->clock};
    victim->check = check_of(victim);
    pthread_mutex_unlock(&owner->lock);
}

void scores_count(scores *s, scores_counts *counts)
{
    memset(counts, 0, sizeof *counts);
    for (int i = 0; i < N_SHARDS; i++) {
        pthread_mutex_lock(&s->shards[i].lock);
        counts->entries += s->shards[i].counts.entries;
        counts->evictions += s->shards[i].counts.evictions;
        counts->damaged += s->shards[i].counts.damaged;
        pthread_mutex_unlock(&s->shards[i].lock);
    }
}
