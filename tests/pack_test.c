/* Properties of the planner over random lengths: every sequence once, longest first, budgets held,
 * and how many batches run side by side. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/pack.h"

enum { MOST = 600 };

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

typedef struct plan {
    int32_t lengths[MOST], longest;
    uint32_t order[MOST], counts[8192];
    pack_batch batches[MOST];
    size_t n, n_batches;
    int32_t budget, max_sequences;
} plan;

static void make_plan(plan *p, uint32_t seed)
{
    uint32_t state = seed;
    p->n = next_random(&state) % MOST;
    p->budget = 1 + (int32_t)(next_random(&state) % 700);
    p->max_sequences = 1 + (int32_t)(next_random(&state) % 40);
    int32_t most = 1 + (int32_t)(next_random(&state) % 600);
    for (size_t i = 0; i < p->n; i++)
        p->lengths[i] = 1 + (int32_t)(next_random(&state) % (uint32_t)most);
    p->n_batches =
        pack_plan(p->order, p->batches, p->counts, p->lengths, p->n, p->budget, p->max_sequences);
}

Test(pack, every_sequence_is_in_one_batch_within_the_budgets)
{
    static plan p;
    for (uint32_t seed = 1; seed <= 400; seed++) {
        make_plan(&p, seed);
        static int seen[MOST];
        memset(seen, 0, sizeof seen);
        size_t at = 0;
        for (size_t b = 0; b < p.n_batches; b++) {
            const pack_batch *batch = &p.batches[b];
            cr_assert_eq(batch->first, at, "seed %u: batches follow each other", seed);
            cr_assert_gt(batch->n_sequences, 0);
            cr_assert_leq(batch->n_sequences, p.max_sequences);
            int32_t tokens = 0;
            for (int32_t i = 0; i < batch->n_sequences; i++, at++) {
                uint32_t sequence = p.order[at];
                cr_assert_lt(sequence, p.n);
                cr_assert_eq(seen[sequence]++, 0, "seed %u: sequence %u twice", seed, sequence);
                tokens += p.lengths[sequence];
                if (i == 0) cr_assert_eq(batch->max_tokens, p.lengths[sequence]);
                if (at == 0) continue;
                uint32_t before = p.order[at - 1];
                cr_assert(p.lengths[before] > p.lengths[sequence] ||
                              (p.lengths[before] == p.lengths[sequence] && before < sequence),
                          "seed %u: longest first, ties by index", seed);
            }
            cr_assert_eq(batch->n_tokens, tokens);
            cr_assert(tokens <= p.budget || batch->n_sequences == 1,
                      "seed %u: %d tokens in %d sequences, budget %d", seed, tokens,
                      batch->n_sequences, p.budget);
        }
        cr_assert_eq(at, p.n, "seed %u", seed);
    }
}

Test(pack, few_batches_leave_no_worker_waiting)
{
    static const struct {
        size_t n;
        int workers;
        size_t side_by_side;
    } cases[] = {{0, 2, 0},   {1, 2, 0}, {2, 2, 2},     {3, 2, 2},     {4, 2, 4},
                 {5, 2, 4},   {1, 1, 1}, {7, 1, 7},     {9, 8, 8},     {16, 8, 16},
                 {17, 8, 16}, {7, 8, 7}, {100, 2, 100}, {101, 2, 101}, {20, 16, 16}};
    pack_batch batches[128];
    int64_t loads[16];
    for (size_t i = 0; i < 128; i++) batches[i] = (pack_batch){.n_sequences = 1, .n_tokens = 512};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        size_t k = pack_side_by_side(batches, cases[c].n, loads, cases[c].workers);
        cr_expect_eq(k, cases[c].side_by_side, "%zu batches, %d workers: %zu", cases[c].n,
                     cases[c].workers, k);
    }
}

Test(pack, the_plan_side_by_side_is_never_out_of_range)
{
    static plan p;
    int64_t loads[24];
    for (uint32_t seed = 1; seed <= 400; seed++) {
        make_plan(&p, seed);
        int workers = 1 + (int)(seed % 24);
        size_t k = pack_side_by_side(p.batches, p.n_batches, loads, workers);
        cr_assert_leq(k, p.n_batches);
        if (workers == 1 || p.n_batches >= 16 * (size_t)workers) cr_assert_eq(k, p.n_batches);
    }
}
