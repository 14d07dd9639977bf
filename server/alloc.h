/* The server's allocations: plain malloc behind one door, so that a test can fail the n-th one and
 * see a 503 for that request and nothing worse. */
#ifndef CRANK_SERVER_ALLOC_H
#define CRANK_SERVER_ALLOC_H

#include <stddef.h>

/* n * size bytes, uninitialised or zeroed; NULL when they cannot be had (or n * size overflows). */
void *server_alloc(size_t n, size_t size);
void *server_zero(size_t n, size_t size);
/* NULL on failure; old stays as it was. */
void *server_grow(void *old, size_t n, size_t size);
void server_free(void *memory);
/* Gives free pages back to the system, which malloc keeps: after a peak. */
void server_trim(void);

/* Tests: the n-th allocation from now (0: the next) fails, and only that one; negative: none. */
void server_fail_nth(long n);

#endif
