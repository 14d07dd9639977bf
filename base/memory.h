/* Every allocation of the library goes through these, so that a test can fail the n-th one, count
 * them, and prove that the scoring path makes none. Third-party code (jansson) keeps its own
 * allocator unless a test points it here.
 *
 * Arena: one block, bump allocation, reset between batches. A session sizes it once; after that
 * nothing allocates on the scoring path. */
#ifndef CRANK_BASE_MEMORY_H
#define CRANK_BASE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

/* As malloc, calloc, realloc, free, strdup; NULL when memory is out or a test says so. Sizes are
 * checked: mem_array(n, size) and mem_resize fail on overflow. mem_free(NULL) is fine. */
void *mem_alloc(size_t bytes);
void *mem_zero(size_t count, size_t size);
void *mem_array(size_t count, size_t size);
void *mem_resize(void *old, size_t count, size_t size);
void mem_free(void *pointer);
char *mem_strdup(const char *text);
/* Copies `bytes` bytes and adds a NUL. */
char *mem_strndup(const char *text, size_t bytes);

/* 64-byte aligned; huge pages are advised from 2 MiB up. Free with mem_free_aligned. */
void *mem_alloc_aligned(size_t bytes);
void mem_free_aligned(void *pointer);

/* Tests: the allocation with number n from now (0 = the next) fails, and only that one; negative
 * switches it off. Returns the number of allocations since the last call. */
long mem_fail_nth(long n);
/* Allocations since the program began, all threads. */
long mem_allocation_count(void);

#define ARENA_ALIGNMENT 64

typedef struct arena {
    uint8_t *base;
    size_t capacity_bytes;
    size_t used_bytes;
    size_t peak_bytes; /* highest used_bytes since arena_open */
} arena;

crank_status arena_open(arena *a, size_t capacity_bytes, crank_error *error);
/* ARENA_ALIGNMENT-aligned and uninitialised; NULL when it does not fit. */
void *arena_take(arena *a, size_t bytes);
void arena_reset(arena *a);
void arena_close(arena *a); /* zeroed or closed arenas are fine */

#endif
