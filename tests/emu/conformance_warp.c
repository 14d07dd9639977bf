/* What the lanes of a warp and the warps of a block do together: shuffles, votes, reductions,
 * barriers, atomics. */
#include <limits.h>

#include "tests/emu/conformance.h"

/* For each lane the lane it reads, or -1: its own value, predicate false. Written out by hand from
 * the manual's definitions of segments and clamps. */
static int shuffle_from(const char *name, int l)
{
    if (strcmp(name, "shfl_up_3") == 0) return l >= 3 ? l - 3 : -1;
    if (strcmp(name, "shfl_up_1_of_8") == 0) return l % 8 ? l - 1 : -1;
    if (strcmp(name, "shfl_down_5") == 0) return l + 5 < 32 ? l + 5 : -1;
    if (strcmp(name, "shfl_down_2_of_16") == 0) return l % 16 + 2 < 16 ? l + 2 : -1;
    if (strcmp(name, "shfl_bfly_9") == 0) return l ^ 9;
    if (strcmp(name, "shfl_bfly_6_of_4") == 0) /* mask 0x1c: segments of 4, 6 crosses them */
        return (l ^ 6) <= (l | 3) ? (l ^ 6) : -1;
    if (strcmp(name, "shfl_idx_7") == 0) return 7;
    if (strcmp(name, "shfl_idx_5_of_8") == 0) return l / 8 * 8 + 5;
    return -1; /* shfl_idx_20_clamp_10: 20 > 10 */
}

static const char *const shuffle_names[] = {
    "shfl_up_3",        "shfl_up_1_of_8", "shfl_down_5",     "shfl_down_2_of_16",   "shfl_bfly_9",
    "shfl_bfly_6_of_4", "shfl_idx_7",     "shfl_idx_5_of_8", "shfl_idx_20_clamp_10"};

static void fill_shuffle(const char *name, run *r)
{
    for (int l = 0; l < 32; l++) r->in[l] = conformance_random();
    for (int l = 0; l < 32; l++) {
        int from = shuffle_from(name, l);
        r->expected[l] = r->in[from < 0 ? l : from];
        r->expected[32 + l] = from >= 0;
    }
    r->n_in = 32;
    r->n_out = 64;
    r->n_threads = 32;
}

static void fill_warp(const char *name, run *r, int variant)
{
    uint32_t all = 0, any = 0, ballot = 0, exclusive = 0, highest = 0, sum = 0;
    int32_t lowest = INT_MAX;
    for (int l = 0; l < 32; l++) {
        r->in[l] = variant == 0 ? 4 : conformance_random() % 5 - 2;
        r->in[32 + l] = variant < 2 ? 1 : conformance_random() % 4;
        int32_t a = (int32_t)r->in[l], b = (int32_t)r->in[32 + l];
        ballot |= (uint32_t)(a > b) << l;
        exclusive ^= r->in[l];
        if (r->in[l] > highest) highest = r->in[l];
        if (a < lowest) lowest = a;
        sum += r->in[l];
    }
    all = ballot == 0xffffffffu;
    any = ballot != 0;
    for (int l = 0; l < 32; l++) {
        uint32_t same = 0;
        for (int k = 0; k < 32; k++) same |= (uint32_t)(r->in[k] == r->in[l]) << k;
        uint32_t e = strcmp(name, "vote_all") == 0        ? all
                     : strcmp(name, "vote_any") == 0      ? any
                     : strcmp(name, "vote_uni") == 0      ? all || !any
                     : strcmp(name, "vote_ballot") == 0   ? ballot
                     : strcmp(name, "match_any") == 0     ? same
                     : strcmp(name, "match_all") == 0     ? (same == 0xffffffffu ? same : 0)
                     : strcmp(name, "redux_add_s32") == 0 ? sum
                     : strcmp(name, "redux_min_s32") == 0 ? (uint32_t)lowest
                     : strcmp(name, "redux_max_u32") == 0 ? highest
                                                          : exclusive;
        r->expected[l] = e;
    }
    r->n_in = 64;
    r->n_out = r->n_threads = 32;
}

static const char *const warp_names[] = {
    "vote_all",  "vote_any",      "vote_uni",      "vote_ballot",   "match_any",
    "match_all", "redux_add_s32", "redux_min_s32", "redux_max_u32", "redux_xor_b32"};

static const char *const block_names[] = {"bar_red_popc", "atom_shared_add", "bar_named"};

static void fill_block(const char *name, run *r)
{
    uint32_t odd = 0, bins[16] = {0};
    for (int i = 0; i < 256; i++) {
        r->in[i] = conformance_random();
        odd += r->in[i] & 1;
        bins[r->in[i] & 15] += r->in[i] >> 8;
    }
    r->n_in = r->n_out = r->n_threads = 256;
    if (strcmp(name, "bar_red_popc") == 0) {
        for (int i = 0; i < 256; i++) r->expected[i] = odd;
    } else if (strcmp(name, "atom_shared_add") == 0) {
        memcpy(r->expected, bins, sizeof bins);
        r->n_out = 16;
    } else {
        for (int i = 0; i < 256; i++) r->expected[i] = i < 128 ? 1 : r->in[i - 128];
    }
}

void conformance_warps(conformance *c)
{
    for (size_t i = 0; i < LENGTH(shuffle_names); i++)
        if (conformance_begins(c, shuffle_names[i])) {
            fill_shuffle(shuffle_names[i], c->run);
            conformance_run(c, shuffle_names[i], EXACT);
        }
    for (size_t i = 0; i < LENGTH(warp_names); i++) {
        if (!conformance_begins(c, warp_names[i])) continue;
        for (int variant = 0; variant < 4; variant++) {
            fill_warp(warp_names[i], c->run, variant);
            if (!conformance_run(c, warp_names[i], EXACT)) break;
        }
    }
    for (size_t i = 0; i < LENGTH(block_names); i++)
        if (conformance_begins(c, block_names[i])) {
            fill_block(block_names[i], c->run);
            conformance_run(c, block_names[i], EXACT);
        }
}
