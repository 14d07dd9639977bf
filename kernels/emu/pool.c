#include "kernels/emu/pool.h"

#include <stdint.h>
#include <string.h>

#include "memory.h"

struct pool_chunk {
    pool_chunk *next;
    size_t bytes;
};

#define POOL_CHUNK (256u * 1024u)
#define POOL_HEADER 64u

void *pool_take(pool *p, size_t count, size_t size)
{
    if (size != 0 && count > (SIZE_MAX / 2) / size) return NULL;
    size_t bytes = (count * size + 15) & ~(size_t)15;
    if (bytes == 0) bytes = 16;
    if (p->capacity - p->used < bytes) {
        size_t room = bytes > POOL_CHUNK ? bytes : POOL_CHUNK;
        pool_chunk *chunk = mem_alloc(POOL_HEADER + room);
        if (chunk == NULL) return NULL;
        chunk->next = p->chunks;
        chunk->bytes = room;
        p->chunks = chunk;
        p->used = 0;
        p->capacity = room;
    }
    void *taken = (char *)p->chunks + POOL_HEADER + p->used;
    p->used += bytes;
    memset(taken, 0, bytes);
    return taken;
}

char *pool_text(pool *p, const char *text, size_t bytes)
{
    char *copy = pool_take(p, bytes + 1, 1);
    if (copy != NULL) memcpy(copy, text, bytes);
    return copy;
}

void pool_free(pool *p)
{
    while (p->chunks != NULL) {
        pool_chunk *next = p->chunks->next;
        mem_free(p->chunks);
        p->chunks = next;
    }
    p->used = p->capacity = 0;
}

int pool_grow(pool *p, void **array, size_t *capacity, size_t count, size_t size)
{
    if (count < *capacity) return 1;
    size_t more = *capacity ? *capacity * 2 : 16;
    void *bigger = pool_take(p, more, size);
    if (bigger == NULL) return 0;
    if (count) memcpy(bigger, *array, count * size);
    *array = bigger;
    *capacity = more;
    return 1;
}
