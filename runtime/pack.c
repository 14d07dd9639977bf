#include "runtime/pack.h"

#include <string.h>

/* Counting sort: lengths are small integers, and nothing may allocate here. */
static void sort_longest_first(uint32_t *order, uint32_t *counts, const int32_t *lengths, size_t n)
{
    int32_t longest = 0;
    for (size_t i = 0; i < n; i++) {
        if (lengths[i] > longest) longest = lengths[i];
    }
    memset(counts, 0, ((size_t)longest + 2) * sizeof *counts);
    for (size_t i = 0; i < n; i++) counts[longest - lengths[i] + 1]++;
    for (int32_t l = 0; l <= longest; l++) counts[l + 1] += counts[l];
    for (size_t i = 0; i < n; i++) order[counts[longest - lengths[i]]++] = (uint32_t)i;
}

size_t pack_plan(uint32_t *order, pack_batch *batches, uint32_t *counts, const int32_t *lengths,
                 size_t n, int32_t budget_tokens, int32_t max_sequences)
{
    sort_longest_first(order, counts, lengths, n);
    size_t n_batches = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t length = lengths[order[i]];
        pack_batch *last = n_batches > 0 ? &batches[n_batches - 1] : NULL;
        if (last == NULL || last->n_tokens > budget_tokens - length ||
            last->n_sequences >= max_sequences) {
            last = &batches[n_batches++];
            *last = (pack_batch){.first = (uint32_t)i, .max_tokens = length};
        }
        last->n_sequences++;
        last->n_tokens += length;
    }
    return n_batches;
}

/* RoBERTa's library counts non-pad ids: a pad id inside the text does not advance and sits on row
 * pad_id, which is first_position - 1. */
static void fill_positions(int32_t *positions, const int32_t *ids, int32_t n,
                           const token_rules *rules)
{
    int32_t next = rules->first_position;
    for (int32_t i = 0; i < n; i++) {
        positions[i] = rules->pad_id >= 0 && ids[i] == rules->pad_id ? rules->pad_id : next++;
    }
}

void pack_fill(pack_arrays *arrays, const pack_batch *batch, const uint32_t *order,
               const pack_sequence *sequences, const tokenizer *tok, const token_rules *rules)
{
    int32_t at = 0;
    for (int32_t b = 0; b < batch->n_sequences; b++) {
        const pack_sequence *s = &sequences[order[batch->first + (uint32_t)b]];
        int32_t *ids = arrays->ids + at, *types = arrays->types + at;
        arrays->starts[b] = at;
        arrays->key_counts[b] = s->n_keys > 0 ? s->n_keys : s->length;
        if (s->ready) {
            size_t bytes = (size_t)s->length * sizeof *ids;
            memcpy(ids, s->ids1, bytes);
            if (s->types != NULL) memcpy(types, s->types, bytes);
            if (s->types == NULL) memset(types, 0, bytes);
        } else {
            tok_pair_fill(tok, s->ids1, (size_t)s->n1, s->ids2, (size_t)s->n2, ids, types);
        }
        if (rules->n_types <= 1) memset(types, 0, (size_t)s->length * sizeof *types);
        fill_positions(arrays->positions + at, ids, s->length, rules);
        at += s->length;
    }
    arrays->starts[batch->n_sequences] = at;
}
