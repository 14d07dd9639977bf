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

void server_trim(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}
