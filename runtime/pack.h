/* Packing variable-length sequences into micro-batches without a padding row.
 *
 * pack_plan sorts by length (longest first, ties by index: neighbours in a batch are alike, and the
 * longest work starts first) and cuts by token budget; pack_fill writes one batch's ids, types,
 * positions and row starts. The plan is the only thing that knows where a sequence went: `order`
 * leads back to the caller's order. */
#ifndef CRANK_RUNTIME_PACK_H
#define CRANK_RUNTIME_PACK_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/ops.h"
#include "runtime/model.h"

typedef struct pack_batch {
    uint32_t first; /* sequences order[first] .. order[first + n_sequences - 1] */
    int32_t n_sequences, n_tokens, max_tokens;
} pack_batch;

/* order: [n]; batches: [n]; counts: [max(lengths) + 2] scratch. lengths: 1 or more each. A sequence
 * longer than the budget is a batch of its own. Returns the number of batches. */
size_t pack_plan(uint32_t *order, pack_batch *batches, uint32_t *counts, const int32_t *lengths,
                 size_t n, int32_t budget_tokens, int32_t max_sequences);

/* How many of the batches run side by side, one a worker, taken in order; the rest follow one at a
 * time, each split by rows over all workers, so that nobody waits while the last ones end: 3 equal
 * batches on 2 workers take 2 batches' time side by side and 1.6 with the third split. Splitting
 * costs a little, so all run side by side when there are many. loads: [n_workers] scratch. */
size_t pack_side_by_side(const pack_batch *batches, size_t n, int64_t *loads, int n_workers);

/* A sequence before packing: one or two runs of ids with the template around them, or ready ids. */
typedef struct pack_sequence {
    const int32_t *ids1, *ids2; /* ids2 NULL: a single text */
    int32_t n1, n2;             /* kept ids of each */
    int32_t length;             /* template tokens included */
    const int32_t *types;       /* ready ids: their types, or NULL for zeros */
    int ready;                  /* ids1 is the whole sequence, template tokens included */
    int32_t n_keys;             /* late interaction: attention sees the first n_keys; 0: all */
    uint32_t label;             /* the caller's number for it, for messages */
} pack_sequence;

/* Host arrays of one batch; ids, types, positions: [n_tokens]; starts: [n_sequences + 1]. */
typedef struct pack_arrays {
    int32_t *ids, *types, *positions, *starts, *key_counts; /* key_counts: [n_sequences] */
} pack_arrays;

void pack_fill(pack_arrays *arrays, const pack_batch *batch, const uint32_t *order,
               const pack_sequence *sequences, const tokenizer *tok, const token_rules *rules);

#endif
