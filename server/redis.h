/* The optional shared tier of the score cache: Redis, asked by several servers. It may vanish at
 * any time: every failure is a miss and a counter, never an error to a client, and after one the
 * server does not ask again for a second. Values are the 16 bytes of a score_value and a checksum.
 */
#ifndef CRANK_SERVER_REDIS_H
#define CRANK_SERVER_REDIS_H

#include <stddef.h>

#include "crank_status.h"
#include "server/metrics.h"
#include "server/scores.h"

typedef struct redis redis;

/* address: HOST:PORT or the path of a socket. Connecting happens later, as needed. call_ms: a call
 * that takes longer has failed.
 * Fails: INVALID_ARGUMENT, UNSUPPORTED (built without hiredis), OUT_OF_MEMORY. */
crank_status redis_open(redis **out, const char *address, size_t call_ms, metrics *m,
                        crank_error *error);
void redis_close(redis *r);
/* found[i] is set where values[i] was filled. A call each 256 keys at most. */
void redis_get(redis *r, const score_key *keys, size_t n, score_value *values, char *found);
/* Handed to a thread of its own; dropped when that one is behind. */
void redis_put(redis *r, const score_key *keys, size_t n, const score_value *values);

#endif
