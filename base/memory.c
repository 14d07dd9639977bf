#define _GNU_SOURCE
#include "memory.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static atomic_long allocation_count;
static atomic_long fail_countdown = -1;
static atomic_long count_at_arming;

static int allowed(void)
{
    atomic_fetch_add_explicit(&allocation_count, 1, memory_order_relaxed);
    if (atomic_load_explicit(&fail_countdown, memory_order_relaxed) < 0) return 1;
    return atomic_fetch_sub_explicit(&fail_countdown, 1, memory_order_relaxed) != 0;
}

long mem_fail_nth(long n)
{
    long now = atomic_load(&allocation_count);
    long since = now - atomic_exchange(&count_at_arming, now);
    atomic_store(&fail_countdown, n);
    return since;
}

long mem_allocation_count(void)
{
    return atomic_load(&allocation_count);
}

void *mem_alloc(size_t bytes)
{
    return allowed() ? malloc(bytes != 0 ? bytes : 1) : NULL;
}

void *mem_zero(size_t count, size_t size)
{
    return allowed() ? calloc(count != 0 ? count : 1, size != 0 ? size : 1) : NULL;
}

void *mem_array(size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) return NULL;
    return mem_alloc(bytes);
}

void *mem_resize(void *old, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) return NULL;
    return allowed() ? realloc(old, bytes != 0 ? bytes : 1) : NULL;
}

void mem_free(void *pointer)
{
    free(pointer);
}

char *mem_strndup(const char *text, size_t bytes)
{
    char *copy = bytes == SIZE_MAX ? NULL : mem_alloc(bytes + 1);
    if (copy == NULL) return NULL;
    memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    return copy;
}

char *mem_strdup(const char *text)
{
    return mem_strndup(text, strlen(text));
}

#define HUGE_PAGE_BYTES ((size_t)2 << 20)

void *mem_alloc_aligned(size_t bytes)
{
    if (!allowed() || bytes > SIZE_MAX - HUGE_PAGE_BYTES) return NULL;
    size_t alignment = bytes >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : ARENA_ALIGNMENT;
    size_t rounded = (bytes + ARENA_ALIGNMENT - 1) / ARENA_ALIGNMENT * ARENA_ALIGNMENT;
    void *pointer = NULL;
    if (posix_memalign(&pointer, alignment, rounded != 0 ? rounded : ARENA_ALIGNMENT) != 0) {
        return NULL;
    }
    if (alignment == HUGE_PAGE_BYTES) madvise(pointer, rounded, MADV_HUGEPAGE); /* best effort */
    return pointer;
}

void mem_free_aligned(void *pointer)
{
    free(pointer);
}

crank_status arena_open(arena *a, size_t capacity_bytes, crank_error *error)
{
    *a = (arena){0};
    a->base = mem_alloc_aligned(capacity_bytes);
    CRANK_CHECK(a->base != NULL, OUT_OF_MEMORY, error, "no memory for an arena of %zu bytes",
                capacity_bytes);
    a->capacity_bytes = capacity_bytes;
    return CRANK_OK;
}

void *arena_take(arena *a, size_t bytes)
{
    if (bytes > SIZE_MAX - ARENA_ALIGNMENT) return NULL;
    size_t rounded = (bytes + ARENA_ALIGNMENT - 1) / ARENA_ALIGNMENT * ARENA_ALIGNMENT;
    if (rounded > a->capacity_bytes - a->used_bytes) return NULL;
    void *pointer = a->base + a->used_bytes;
    a->used_bytes += rounded;
    if (a->used_bytes > a->peak_bytes) a->peak_bytes = a->used_bytes;
    return pointer;
}

void arena_reset(arena *a)
{
    a->used_bytes = 0;
}

void arena_close(arena *a)
{
    mem_free_aligned(a->base);
    *a = (arena){0};
}
