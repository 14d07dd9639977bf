/* A session: what one calling thread needs to run a model. Contexts with their workspaces (one per
 * worker where a backend runs micro-batches side by side), the thread team, tokenizer scratch per
 * worker, and growable arrays that keep their size from call to call, so that a warm session
 * allocates nothing. */
#ifndef CRANK_RUNTIME_SESSION_H
#define CRANK_RUNTIME_SESSION_H

#include <pthread.h>
#include <stdatomic.h>

#include "memory.h"
#include "runtime/model.h"
#include "runtime/pack.h"
#include "team.h"

/* Memory that only grows. */
typedef struct growable {
    void *data;
    size_t bytes;
} growable;
/* g->data holds at least count * size bytes; old contents are lost when it grows. */
crank_status growable_reserve(growable *g, size_t count, size_t size, crank_error *error);

typedef struct worker {
    ops_context context;
    pack_arrays arrays;
    growable array_memory;
    growable rows; /* a micro-batch's outputs before they are scattered */
    tok_scratch *scratch;
    tok_ids ids; /* pool: the ids of every text that this worker encoded in this call */
} worker;

struct crank_team {
    team *threads;
};

/* Micro-batches as planned: sequences[order[b->first]] .. are those of batch b. */
typedef struct session_plan {
    const pack_sequence *sequences;
    const uint32_t *order;
    const pack_batch *batches;
    size_t n_batches;
} session_plan;

/* For captures: is told of every plan. Nothing of it runs then, and all outputs are zeros. */
typedef struct session_observer {
    void (*planned)(void *user, const crank_session *s, const session_plan *plan);
    void *user;
} session_observer;

struct crank_session {
    const crank_model *model;
    const session_observer *observer; /* NULL: none */
    team *threads, *owned_threads;
    crank_cache *cache;
    uint64_t cache_seed[2]; /* digest of model and settings */
    int32_t batch_tokens;
    int n_workers;                             /* of the team */
    worker *workers;                           /* [n_workers] */
    int n_contexts;                            /* contexts that are open: n_workers, or 1 */
    int64_t *loads;                            /* [n_contexts] scratch of the planner */
    int32_t reserved_tokens, reserved_longest; /* what workspaces and arrays are sized for */

    growable texts, units, sequences; /* runtime/score.c */
    growable table, outputs, prompted, results;
    growable lengths, order, batches, counts, token_rows; /* runtime/session.c */
};

/* Runs sequences [n] (lengths 1 .. model's max_tokens, ids in range) and writes their rows to
 * outputs: [n, readout.width]; for READOUT_TOKENS rows of all tokens in the caller's order,
 * sequence after sequence. Fails: CANCELLED, NUMERIC (names the sequence), DEVICE, OUT_OF_MEMORY.
 */
crank_status session_run(crank_session *s, const pack_sequence *sequences, size_t n, float *outputs,
                         crank_progress progress, void *progress_user, crank_error *error);

/* Sizes the workspaces for micro-batches of up to the session's budget and sequences of up to
 * `longest` tokens. tracer: NULL, or the one that will be set. */
crank_status session_reserve(crank_session *s, int32_t longest, const ops_tracer *tracer,
                             crank_error *error);

/* The forward pass over a batch, of which starts and counts are read, run dry in ctx: tracer, team
 * and recorder may be set, the rest is zero. ctx->workspace.peak is what it takes. */
crank_status session_run_dry(const crank_session *s, ops_context *ctx, const ops_batch *batch,
                             crank_error *error);

#endif
