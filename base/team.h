/* A team of threads that carries out one parallel region at a time: the caller is worker 0, the
 * other n-1 threads are kept waiting (a short spin, then a futex) so that a region starts in about
 * a microsecond. A team may be shared by sessions: team_run takes its turn.
 *
 * Invariants: worker numbers are 0..n-1, each runs exactly once per region; team_run returns when
 * all are done and their writes are visible to the caller. Nothing allocates after team_open. */
#ifndef CRANK_BASE_TEAM_H
#define CRANK_BASE_TEAM_H

#include "status.h"

typedef struct team team;
typedef void (*team_work)(void *context, int worker, int n_workers);

/* n_threads >= 1 (0: one per processor that this process may use). pin: bind worker i to the i-th
 * allowed processor. */
crank_status team_open(team **out, int n_threads, int pin, crank_error *error);
int team_size(const team *t); /* 1 for NULL: a region then runs on the caller */
void team_run(team *t, team_work work, void *context);
void team_close(team *t); /* NULL is fine */

#endif
