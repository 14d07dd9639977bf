/* The hash table of names. */
#include <stdlib.h>
#include <string.h>

#include "cli/names.h"

static uint64_t hash_of(const char *text, size_t bytes)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < bytes; i++) hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3u;
    return hash ^ hash >> 32;
}

/* The slot that holds the name, or the empty one where it belongs. */
static size_t slot_of(const names *map, const char *text, size_t bytes, uint64_t hash)
{
    size_t slot = (size_t)hash & (map->n_slots - 1);
    for (; map->slots[slot]; slot = (slot + 1) & (map->n_slots - 1)) {
        size_t number = map->slots[slot] - 1;
        const char *other = map->texts[number];
        if (map->hashes[number] == hash && strncmp(other, text, bytes) == 0 && !other[bytes]) break;
    }
    return slot;
}

static void grow(names *map)
{
    map->n_slots = map->n_slots ? 2 * map->n_slots : 1024;
    free(map->slots);
    map->slots = cli_alloc(map->n_slots, sizeof *map->slots);
    memset(map->slots, 0, map->n_slots * sizeof *map->slots);
    for (size_t number = 0; number < map->n; number++) {
        size_t slot = (size_t)map->hashes[number] & (map->n_slots - 1);
        while (map->slots[slot]) slot = (slot + 1) & (map->n_slots - 1);
        map->slots[slot] = number + 1;
    }
}

size_t names_add(names *map, const char *text, size_t bytes, int *is_new)
{
    if (2 * map->n >= map->n_slots) grow(map);
    uint64_t hash = hash_of(text, bytes);
    size_t slot = slot_of(map, text, bytes, hash);
    if (is_new) *is_new = map->slots[slot] == 0;
    if (map->slots[slot]) return map->slots[slot] - 1;
    size_t capacity = map->capacity;
    map->texts = cli_append(map->texts, map->n, &capacity, sizeof *map->texts);
    map->hashes = cli_append(map->hashes, map->n, &map->capacity, sizeof *map->hashes);
    map->texts[map->n] = store_string(&map->keep, text, bytes);
    map->hashes[map->n] = hash;
    map->slots[slot] = ++map->n;
    return map->n - 1;
}

size_t names_find(const names *map, const char *text, size_t bytes)
{
    if (map->n == 0) return NAME_NONE;
    size_t slot = slot_of(map, text, bytes, hash_of(text, bytes));
    return map->slots[slot] ? map->slots[slot] - 1 : NAME_NONE;
}

void names_clear(names *map)
{
    store_clear(&map->keep);
    free(map->texts);
    free(map->hashes);
    free(map->slots);
    memset(map, 0, sizeof *map);
}
