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

/* Tests: the n-th allocation from now (0: the next) fails, and only that one; negative: none. */
void server_fail_nth(long n);

/* The heap of a server that runs for months: what a peak of requests took is neither kept for ever
 * nor given back and taken again, page by page, at every small wave.
 *
 * Before models are opened and threads start: one heap for all threads (what one frees another
 * takes; with a heap each, every heap grows to its own thread's worst moment and keeps the holes),
 * and buffers of 256 KiB and more come from the system and go back to it, the advice of huge pages
 * with them (a heap that was so advised becomes resident by 2 MB at a touch). */
void server_heap_begin(void);
/* When everything is open: makes room resident for the requests of usual waves. */
void server_heap_reserve(void);
/* After a peak: gives free pages back to the system, if there are far more than were reserved. */
void server_heap_trim(void);

#endif
