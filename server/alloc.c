#include "server/alloc.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

static atomic_long fail_countdown = -1;

void server_fail_nth(long n)
{
    atomic_store(&fail_countdown, n);
}

static int refused(size_t n, size_t size)
{
    if (size != 0 && n > SIZE_MAX / size) return 1;
    if (atomic_load_explicit(&fail_countdown, memory_order_relaxed) < 0) return 0;
    return atomic_fetch_sub(&fail_countdown, 1) == 0;
}

void *server_alloc(size_t n, size_t size)
{
    return refused(n, size) ? NULL : malloc(n * size > 0 ? n * size : 1);
}

void *server_zero(size_t n, size_t size)
{
    return refused(n, size) ? NULL : calloc(n > 0 ? n : 1, size > 0 ? size : 1);
}

void *server_grow(void *old, size_t n, size_t size)
{
    return refused(n, size) ? NULL : realloc(old, n * size > 0 ? n * size : 1);
}

void server_free(void *memory)
{
    free(memory);
}

/* ---- the heap ---- */

#ifdef __GLIBC__

#define BLOCK ((size_t)256 << 10)  /* from here on a buffer is a mapping of its own */
#define RESERVE ((size_t)4 << 20)  /* some 600 small requests at once */
#define KEPT ((size_t)16 << 20)    /* free bytes more than at the start that are no burden */
#define TOP_KEPT ((size_t)8 << 20) /* free bytes at the heap's end that stay there */
#define PAGE 4096

static atomic_size_t free_at_start;

void server_heap_begin(void)
{
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_MMAP_THRESHOLD, (int)BLOCK);
    mallopt(M_TRIM_THRESHOLD, (int)TOP_KEPT);
}

void server_heap_reserve(void)
{
    enum { N = RESERVE / (BLOCK / 2) };
    char *blocks[N];
    for (int i = 0; i < N; i++) {
        blocks[i] = malloc(BLOCK / 2);
        for (size_t at = 0; blocks[i] != NULL && at < BLOCK / 2; at += PAGE)
            ((volatile char *)blocks[i])[at] = 0;
    }
    for (int i = 0; i < N; i++) free(blocks[i]);
    atomic_store(&free_at_start, mallinfo2().fordblks);
}

void server_heap_trim(void)
{
    if (mallinfo2().fordblks > atomic_load(&free_at_start) + KEPT) malloc_trim(0);
}

#else

void server_heap_begin(void) {}
void server_heap_reserve(void) {}
void server_heap_trim(void) {}

#endif
