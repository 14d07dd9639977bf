/* The scheduler: which lanes of which warp of which block run next. See exec.h for the state.
 *
 * Reconvergence: the lanes with the lowest program counter run until they reach the next higher
 * one among the warp's other lanes (limit), where both go on together. */
#include "kernels/emu/exec_run.h"

#include <stdatomic.h>
#include <string.h>

#include "memory.h"

/* What one CPU thread keeps between blocks and launches. */
typedef struct worker {
    block block;
    size_t register_capacity, local_capacity;
    shared_shadow shadow;
    int has_shadow;
    insn_count *counts;
    uint32_t count_capacity;
    uint32_t (*owned)[2];
    uint32_t owned_capacity;
    run_end end;
} worker;

struct executor {
    worker *workers;
    int n_workers;
    team *team;
};

/* ---- one warp ---------------------------------------------------------------------------------
 */

static uint32_t lanes_at(const warp *w, uint32_t among, uint32_t pc)
{
    uint32_t lanes = 0;
    for (uint32_t m = among; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        if (w->pc[l] == pc) lanes |= 1u << l;
    }
    return lanes;
}

static uint32_t lowest_pc(const warp *w, uint32_t among)
{
    uint32_t lowest = UINT32_MAX;
    for (uint32_t m = among; m; m &= m - 1) {
        uint32_t pc = w->pc[__builtin_ctz(m)];
        if (pc < lowest) lowest = pc;
    }
    return lowest;
}

static void set_pc(warp *w, uint32_t lanes, uint32_t pc)
{
    for (uint32_t m = lanes; m; m &= m - 1) w->pc[__builtin_ctz(m)] = pc;
}

/* The lanes among `here` that name the same member mask as their lowest lane. */
static uint32_t same_members(const warp *w, const insn *in, uint32_t here, uint32_t *members)
{
    if (in->kind == KIND_SYNC_ALL) {
        *members = FULL_WARP;
        return here;
    }
    const uint32_t *row = ROW(uint32_t, in->aux);
    *members = row[__builtin_ctz(here)];
    uint32_t same = 0;
    for (uint32_t m = here; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        if (row[l] == *members) same |= 1u << l;
    }
    return same;
}

static void run_group(warp *w, const insn *in, uint32_t group, uint32_t members, uint32_t pc)
{
    uint32_t strangers = group & ~members;
    if (strangers && (w->block->launch->checks & EMU_CHECK_WARP_SYNC))
        exec_report(w, in, __builtin_ctz(strangers), EMU_CHECK_WARP_SYNC, 0, UINT32_MAX,
                    "the lane is not in its own member mask 0x%x", members);
    in->fn(w, in, group);
    w->waiting &= ~group;
    set_pc(w, group, pc + 1);
}

/* Lanes `mask` reach a warp-synchronous instruction; runs it for every complete group, parks the
 * others. */
static void arrive_sync(warp *w, const insn *in, uint32_t mask, uint32_t pc)
{
    set_pc(w, mask, pc);
    uint32_t here = mask | lanes_at(w, w->waiting, pc);
    while (here) {
        uint32_t members, group = same_members(w, in, here, &members);
        uint32_t required = in->kind == KIND_SYNC_ALL ? FULL_WARP : members & w->live;
        if ((required & ~group) == 0)
            run_group(w, in, group, members, pc);
        else
            w->waiting |= group;
        here &= ~group;
    }
}

/* Nothing of this warp can move but by giving up on the missing lanes. */
static void force_sync(warp *w)
{
    block *b = w->block;
    uint32_t pc = lowest_pc(w, w->waiting);
    const insn *in = &b->launch->function->code[pc];
    uint32_t here = lanes_at(w, w->waiting, pc), members;
    uint32_t group = same_members(w, in, here, &members);
    uint32_t missing = members & ~group;
    if (b->launch->checks & EMU_CHECK_WARP_SYNC)
        exec_report(w, in, __builtin_ctz(group), EMU_CHECK_WARP_SYNC, 0, UINT32_MAX,
                    "warp-synchronous instruction for lanes 0x%08x, of which 0x%08x are elsewhere "
                    "(0x%08x have exited, 0x%08x wait at a barrier)",
                    members, missing, missing & ~w->live, missing & w->at_barrier);
    /* An mma or ldmatrix without all of its lanes has no meaning: it is left out. */
    if (in->kind == KIND_SYNC_ALL) {
        w->waiting &= ~group;
        set_pc(w, group, pc + 1);
    } else {
        run_group(w, in, group, members, pc);
    }
}

/* ---- barriers ---------------------------------------------------------------------------------
 */

static void release_barrier(block *b, uint32_t id)
{
    const insn *code = b->launch->function->code;
    const uint32_t n_warps = b->launch->n_warps;
    uint32_t votes = 0, all = 1;
    int reduces = 0;
    for (uint32_t i = 0; i < n_warps; i++) {
        warp *w = &b->warps[i];
        for (uint32_t m = w->at_barrier; m; m &= m - 1) {
            int l = __builtin_ctz(m);
            const insn *in = &code[w->pc[l]];
            if (w->barrier[l] != id || !(in->aux & BARRIER_REDUCE)) continue;
            uint32_t p = *ROW(uint32_t, in->r[3]) >> l & 1;
            votes += p;
            all &= p;
            reduces = 1;
        }
    }
    for (uint32_t i = 0; i < n_warps; i++) {
        warp *w = &b->warps[i];
        for (uint32_t m = w->at_barrier; m; m &= m - 1) {
            int l = __builtin_ctz(m);
            if (w->barrier[l] != id) continue;
            const insn *in = &code[w->pc[l]];
            if (reduces && (in->aux & BARRIER_REDUCE)) {
                uint32_t *row = ROW(uint32_t, in->r[2]);
                uint32_t yes = in->count == 1 ? all : votes != 0;
                if (in->count == 0)
                    row[l] = votes;
                else
                    *row = (*row & ~(1u << l)) | yes << l;
            }
            w->at_barrier &= ~(1u << l);
            w->pc[l]++;
        }
        w->epoch = 0;
    }
    memset(&b->barriers[id], 0, sizeof b->barriers[id]);
    if (b->shadow != NULL) shared_shadow_barrier(b->shadow);
}

static void arrive_barrier(warp *w, const insn *in, uint32_t mask, uint32_t pc)
{
    block *b = w->block;
    int first = __builtin_ctz(mask);
    uint32_t id = ROW(uint32_t, in->r[0])[first] % N_BARRIERS;
    barrier *bar = &b->barriers[id];
    uint32_t expected = in->aux & BARRIER_COUNTED ? ROW(uint32_t, in->r[1])[first] : 0;
    if (bar->arrived == 0) {
        bar->pc = pc;
        bar->expected = expected;
    } else if (bar->pc != pc && expected == 0 && (b->launch->checks & EMU_CHECK_BARRIER)) {
        exec_report(w, in, first, EMU_CHECK_BARRIER, id, UINT32_MAX,
                    "threads of a block meet at two different barriers, the other at PTX line %u",
                    b->launch->function->code[bar->pc].line);
    }
    bar->arrived += lane_count(mask);
    if (in->aux & BARRIER_ARRIVE) {
        set_pc(w, mask, pc + 1);
    } else {
        set_pc(w, mask, pc);
        w->at_barrier |= mask;
        for (uint32_t m = mask; m; m &= m - 1) w->barrier[__builtin_ctz(m)] = (uint8_t)id;
    }
    if (bar->arrived < (bar->expected ? bar->expected : b->live_threads)) return;
    if (bar->expected == 0 && bar->arrived < b->launch->n_threads &&
        (b->launch->checks & EMU_CHECK_BARRIER))
        exec_report(w, in, first, EMU_CHECK_BARRIER, id, UINT32_MAX,
                    "%u of the block's %u threads arrive, the others have exited", bar->arrived,
                    b->launch->n_threads);
    release_barrier(b, id);
}

/* Threads have exited: barriers that wait for the whole block may be complete without them. */
static void barriers_after_exit(warp *w, const insn *in)
{
    block *b = w->block;
    if (b->live_threads == 0) return;
    for (uint32_t id = 0; id < N_BARRIERS; id++) {
        const barrier *bar = &b->barriers[id];
        if (bar->arrived == 0 || bar->expected != 0 || bar->arrived < b->live_threads) continue;
        if (b->launch->checks & EMU_CHECK_BARRIER)
            exec_report(w, in, 0, EMU_CHECK_BARRIER, id, UINT32_MAX,
                        "%u threads have exited while %u wait at the barrier at PTX line %u",
                        b->launch->n_threads - b->live_threads, bar->arrived,
                        b->launch->function->code[bar->pc].line);
        release_barrier(b, id);
    }
}

/* No warp can move: every thread waits for one that will not come. */
static void force_barriers(block *b)
{
    for (uint32_t i = 0; i < b->launch->n_warps; i++) {
        warp *w = &b->warps[i];
        if (w->at_barrier == 0) continue;
        int l = __builtin_ctz(w->at_barrier);
        uint32_t id = w->barrier[l];
        const barrier *bar = &b->barriers[id];
        if (b->launch->checks & EMU_CHECK_BARRIER)
            exec_report(w, &b->launch->function->code[w->pc[l]], l, EMU_CHECK_BARRIER, id,
                        UINT32_MAX, "barrier %u is never complete: %u of %u threads arrive", id,
                        bar->arrived, bar->expected ? bar->expected : b->live_threads);
        release_barrier(b, id);
        return;
    }
}

/* ---- the loop ---------------------------------------------------------------------------------
 */

static int indexed_branch(warp *w, const insn *in, uint32_t mask)
{
    const ptx_table *t = &w->block->launch->function->tables[in->target];
    const uint32_t *row = ROW(uint32_t, in->r[0]);
    for (uint32_t m = mask; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        if (row[l] >= t->n) return 0;
        w->pc[l] = t->targets[row[l]];
    }
    return 1;
}

static int all_equal(const uint32_t *row, uint32_t value)
{
    uint32_t differ = 0;
    for (int l = 0; l < WARP_LANES; l++) differ |= row[l] ^ value;
    return differ == 0;
}

/* Runs lanes of w until all of them are parked or gone, or the block has taken `stop` steps. */
static void run_warp(block *b, warp *w, uint64_t stop)
{
    const insn *code = b->launch->function->code;
    insn_count *counts = b->counts;
    uint64_t steps = b->steps;
    for (;;) {
        uint32_t ready = w->live & ~(w->waiting | w->at_barrier);
        if (ready == 0) {
            /* Lanes at a barrier may still be let go by other warps; the block decides then. */
            if (w->waiting == 0 || w->at_barrier != 0) break;
            force_sync(w);
            continue;
        }
        if (steps >= stop || b->trapped) break;
        uint32_t pc = lowest_pc(w, ready);
        uint32_t active = lanes_at(w, ready, pc);
        uint32_t limit = lowest_pc(w, ready & ~active);
        for (;;) {
            const insn *in = &code[pc];
            uint32_t mask = active;
            if (in->guarded) {
                uint32_t p = *ROW(uint32_t, in->guard);
                mask &= in->guarded == 1 ? p : ~p;
            }
            counts[pc].warps++;
            counts[pc].lanes += lane_count(mask);
            steps++;
            if (in->kind == KIND_PLAIN) {
                if (mask) in->fn(w, in, mask);
                if (++pc != limit && steps < stop) continue;
                set_pc(w, active, pc);
                break;
            }
            if (mask == 0) { /* nobody branches, waits or exits */
                if (++pc != limit && steps < stop) continue;
                set_pc(w, active, pc);
                break;
            }
            if (in->kind == KIND_BRANCH) {
                if (mask == active) {
                    pc = in->target;
                    if (pc < limit && steps < stop) continue;
                    set_pc(w, active, pc);
                } else {
                    set_pc(w, mask, in->target);
                    set_pc(w, active & ~mask, pc + 1);
                }
                break;
            }
            if (in->kind == KIND_SYNC_ALL && mask == FULL_WARP) {
                in->fn(w, in, FULL_WARP);
                pc++; /* no other lanes: no limit */
                if (steps < stop) continue;
                set_pc(w, active, pc);
                break;
            }
            if (in->kind == KIND_SYNC_MASK && mask == FULL_WARP &&
                all_equal(ROW(uint32_t, in->aux), FULL_WARP)) {
                in->fn(w, in, FULL_WARP);
                pc++;
                if (steps < stop) continue;
                set_pc(w, active, pc);
                break;
            }
            set_pc(w, active & ~mask, pc + 1);
            b->steps = steps;
            switch (in->kind) {
            case KIND_SYNC_ALL:
            case KIND_SYNC_MASK: arrive_sync(w, in, mask, pc); break;
            case KIND_BARRIER: arrive_barrier(w, in, mask, pc); break;
            case KIND_INDEXED:
                if (!indexed_branch(w, in, mask)) b->trapped = TRAPPED_BY_TRAP;
                break;
            case KIND_EXIT:
                set_pc(w, mask, pc);
                async_exit(w, in, mask);
                w->live &= ~mask;
                b->live_threads -= lane_count(mask);
                barriers_after_exit(w, in);
                break;
            default: b->trapped = TRAPPED_BY_TRAP; break;
            }
            break;
        }
    }
    b->steps = steps;
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15)); /* splitmix64 */
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static void fill_specials(block *b)
{
    const launch *l = b->launch;
    const ptx_function *f = l->function;
    uint32_t shared = l->dynamic_shared + f->static_shared;
    for (uint32_t i = 0; i < l->n_warps; i++) {
        warp *w = &b->warps[i];
        for (uint32_t s = 0; s < f->n_specials; s++) {
            uint32_t *row = ROW(uint32_t, f->specials[s].offset);
            for (uint32_t lane = 0; lane < WARP_LANES; lane++) {
                uint32_t thread = i * WARP_LANES + lane, value = 0;
                switch (f->specials[s].which) {
                case SPECIAL_TID_X: value = thread % l->threads[0]; break;
                case SPECIAL_TID_Y: value = thread / l->threads[0] % l->threads[1]; break;
                case SPECIAL_TID_Z: value = thread / l->threads[0] / l->threads[1]; break;
                case SPECIAL_NTID_X:
                case SPECIAL_NTID_Y:
                case SPECIAL_NTID_Z:
                    value = l->threads[f->specials[s].which - SPECIAL_NTID_X];
                    break;
                case SPECIAL_CTAID_X:
                case SPECIAL_CTAID_Y:
                case SPECIAL_CTAID_Z: value = b->id[f->specials[s].which - SPECIAL_CTAID_X]; break;
                case SPECIAL_NCTAID_X:
                case SPECIAL_NCTAID_Y:
                case SPECIAL_NCTAID_Z:
                    value = l->grid[f->specials[s].which - SPECIAL_NCTAID_X];
                    break;
                case SPECIAL_LANEID: value = lane; break;
                case SPECIAL_WARPID: value = i; break;
                case SPECIAL_NWARPID: value = l->n_warps; break;
                case SPECIAL_NSMID:
                case SPECIAL_ONE: value = 1; break;
                case SPECIAL_GRIDID: value = l->grid_id; break;
                case SPECIAL_LANEMASK_EQ: value = 1u << lane; break;
                case SPECIAL_LANEMASK_LT: value = (1u << lane) - 1; break;
                case SPECIAL_LANEMASK_LE: value = 2 * (1u << lane) - 1; break;
                case SPECIAL_LANEMASK_GT: value = ~(2 * (1u << lane) - 1); break;
                case SPECIAL_LANEMASK_GE: value = ~((1u << lane) - 1); break;
                case SPECIAL_DYNAMIC_SMEM: value = l->dynamic_shared; break;
                case SPECIAL_TOTAL_SMEM: value = shared; break;
                default: break;
                }
                row[lane] = value;
            }
        }
    }
}

static void fill_constants(block *b)
{
    const ptx_function *f = b->launch->function;
    for (uint32_t i = 0; i < b->launch->n_warps; i++) {
        uint8_t *regs = b->warps[i].regs;
        for (uint32_t c = 0; c < f->n_constants; c++) {
            const ptx_constant *constant = &f->constants[c];
            uint8_t *row = regs + constant->offset;
            uint32_t n = constant->width ? WARP_LANES : 1, width = constant->width;
            if (width == 0) width = 4;
            for (uint32_t lane = 0; lane < n; lane++)
                memcpy(row + lane * width, &constant->bits, width);
        }
    }
}

static run_end run_block(block *b, uint64_t number)
{
    const launch *l = b->launch;
    b->number = number;
    b->id[0] = (uint32_t)(number % l->grid[0]);
    b->id[1] = (uint32_t)(number / l->grid[0] % l->grid[1]);
    b->id[2] = (uint32_t)(number / l->grid[0] / l->grid[1]);
    b->live_threads = l->n_threads;
    b->steps = 0;
    b->trapped = 0;
    b->random = l->seed ^ number * UINT64_C(0x9e3779b97f4a7c15);
    memset(b->barriers, 0, sizeof b->barriers);
    for (uint32_t i = 0; i < b->n_owned; i++)
        memset(b->shared + b->owned[i][0], 0xff, b->owned[i][1] - b->owned[i][0]);
    if (b->shadow != NULL) shared_shadow_begin_block(b->shadow);
    if (l->function->local_bytes)
        memset(b->local, 0xff, (size_t)l->function->local_bytes * l->n_warps * WARP_LANES);
    for (uint32_t i = 0; i < l->n_warps; i++) {
        warp *w = &b->warps[i];
        uint32_t threads = l->n_threads - i * WARP_LANES;
        w->exists = threads >= WARP_LANES ? FULL_WARP : (1u << threads) - 1;
        w->live = w->exists;
        w->waiting = w->at_barrier = 0;
        w->carry = 0;
        w->epoch = 0;
        w->n_copies = 0;
        memset(w->pc, 0, sizeof w->pc);
        memset(w->groups, 0, sizeof w->groups);
    }
    fill_specials(b);
    while (b->live_threads != 0 && !b->trapped) {
        uint64_t before = b->steps;
        if (l->schedule == EMU_RANDOM) {
            /* A random warp, for a random while. A round without progress is told apart below. */
            for (uint32_t i = 0; i < l->n_warps; i++) {
                uint64_t r = next_random(&b->random);
                run_warp(b, &b->warps[r % l->n_warps], b->steps + 1 + (r >> 32) % 64);
            }
            if (b->steps == before)
                for (uint32_t i = 0; i < l->n_warps; i++) run_warp(b, &b->warps[i], b->steps + 1);
        } else {
            for (uint32_t i = 0; i < l->n_warps; i++) {
                uint32_t which = l->schedule == EMU_REVERSE ? l->n_warps - 1 - i : i;
                run_warp(b, &b->warps[which], b->steps + (UINT64_C(1) << 22));
            }
        }
        if (b->steps > l->step_limit) return RUN_STEPS;
        if (b->steps != before || b->live_threads == 0) continue;
        uint32_t i = 0;
        while (i < l->n_warps && b->warps[i].waiting == 0) i++;
        if (i < l->n_warps)
            force_sync(&b->warps[i]);
        else
            force_barriers(b);
    }
    switch (b->trapped) {
    case 0: return RUN_DONE;
    case TRAPPED_BY_ASSERT: return RUN_ASSERT;
    case TRAPPED_BY_MEMORY: return RUN_NO_MEMORY;
    default: return RUN_TRAP;
    }
}

/* ---- the grid ---------------------------------------------------------------------------------
 */

typedef struct grid_run {
    executor *executor;
    const launch *launch;
    uint64_t n_blocks, stride, start;
    atomic_uint_fast64_t next;
    atomic_int end;
} grid_run;

static int prepare_worker(worker *k, const launch *l)
{
    const ptx_function *f = l->function;
    block *b = &k->block;
    /* At least one line, so that a kernel without registers has an array like any other. */
    size_t registers = ((size_t)f->register_bytes + 64) / 64 * 64;
    if (b->shared == NULL && (b->shared = mem_alloc_aligned(SHARED_WINDOW_BYTES)) == NULL) return 0;
    if (k->register_capacity < registers * l->n_warps) {
        mem_free_aligned(b->registers);
        b->registers = mem_alloc_aligned(registers * l->n_warps);
        k->register_capacity = b->registers ? registers * l->n_warps : 0;
        if (b->registers == NULL) return 0;
    }
    size_t local = (size_t)f->local_bytes * l->n_warps * WARP_LANES;
    if (k->local_capacity < local) {
        mem_free(b->local);
        b->local = mem_alloc(local);
        k->local_capacity = b->local ? local : 0;
        if (b->local == NULL) return 0;
    }
    if (k->count_capacity < f->n_code) {
        mem_free(k->counts);
        k->counts = mem_array(f->n_code, sizeof *k->counts);
        k->count_capacity = k->counts ? f->n_code : 0;
        if (k->counts == NULL) return 0;
    }
    uint32_t n_owned = f->n_shared_used + 1;
    if (k->owned_capacity < n_owned) {
        mem_free(k->owned);
        k->owned = mem_array(n_owned, sizeof *k->owned);
        k->owned_capacity = k->owned ? n_owned : 0;
        if (k->owned == NULL) return 0;
    }
    int shadows =
        (l->checks & (EMU_CHECK_ASYNC | EMU_CHECK_SHARED_INIT | EMU_CHECK_SHARED_RACE)) != 0;
    if (shadows && !k->has_shadow) {
        if (shared_shadow_open(&k->shadow, NULL) != CRANK_OK) return 0;
        k->has_shadow = 1;
    }
    memset(k->counts, 0, f->n_code * sizeof *k->counts);
    memset(b->registers, 0xdb, registers * l->n_warps);
    b->launch = l;
    b->counts = k->counts;
    b->shadow = shadows ? &k->shadow : NULL;
    b->last = (allocation){0};
    b->n_owned = 0;
    if (l->dynamic_shared) {
        k->owned[b->n_owned][0] = SHARED_DYNAMIC_BASE;
        k->owned[b->n_owned++][1] = SHARED_DYNAMIC_BASE + l->dynamic_shared;
    }
    for (uint32_t i = 0; i < f->n_shared_used; i++) {
        k->owned[b->n_owned][0] = f->shared_used[i].offset;
        k->owned[b->n_owned++][1] =
            f->shared_used[i].offset + (uint32_t)f->shared_used[i].variable->bytes;
    }
    b->owned = (const uint32_t(*)[2])k->owned;
    for (uint32_t i = 0; i < l->n_warps; i++) {
        b->warps[i].regs = b->registers + registers * i;
        b->warps[i].block = b;
        b->warps[i].index = i;
    }
    fill_constants(b);
    return 1;
}

static void run_blocks(void *context, int index, int n_workers)
{
    grid_run *run = context;
    worker *k = &run->executor->workers[index];
    (void)n_workers;
    k->end = RUN_DONE;
    for (;;) {
        uint64_t i = atomic_fetch_add(&run->next, 1);
        if (i >= run->n_blocks || atomic_load(&run->end) != RUN_DONE) break;
        uint64_t number = i;
        if (run->launch->schedule == EMU_REVERSE) number = run->n_blocks - 1 - i;
        if (run->launch->schedule == EMU_RANDOM)
            number = (uint64_t)(((__extension__(unsigned __int128) i) * run->stride + run->start) %
                                run->n_blocks);
        run_end end = run_block(&k->block, number);
        if (end != RUN_DONE) atomic_store(&run->end, (int)end);
    }
}

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t r = a % b;
        a = b;
        b = r;
    }
    return a;
}

crank_status executor_open(executor **out, crank_error *error)
{
    *out = mem_zero(1, sizeof **out);
    CRANK_CHECK(*out != NULL, OUT_OF_MEMORY, error, "executor");
    return CRANK_OK;
}

static void worker_close(worker *k)
{
    block *b = &k->block;
    mem_free_aligned(b->shared);
    mem_free_aligned(b->registers);
    mem_free(b->local);
    mem_free(k->counts);
    mem_free(k->owned);
    for (int i = 0; i < MAX_WARPS; i++) mem_free(b->warps[i].copies);
    if (k->has_shadow) shared_shadow_close(&k->shadow);
}

void executor_close(executor *e)
{
    if (e == NULL) return;
    for (int i = 0; i < e->n_workers; i++) worker_close(&e->workers[i]);
    team_close(e->team);
    mem_free(e->workers);
    mem_free(e);
}

static int grow_workers(executor *e, int n)
{
    if (n <= e->n_workers) return 1;
    worker *bigger = mem_zero((size_t)n, sizeof *bigger);
    if (bigger == NULL) return 0;
    if (e->n_workers) memcpy(bigger, e->workers, (size_t)e->n_workers * sizeof *bigger);
    mem_free(e->workers);
    e->workers = bigger;
    e->n_workers = n;
    team_close(e->team);
    e->team = NULL;
    return n == 1 || team_open(&e->team, n, 0, NULL) == CRANK_OK;
}

run_end executor_run(executor *e, const launch *l, int n_threads, insn_count *counts)
{
    grid_run run;
    memset(&run, 0, sizeof run);
    run.executor = e;
    run.launch = l;
    run.n_blocks = (uint64_t)l->grid[0] * l->grid[1] * l->grid[2];
    atomic_init(&run.next, 0);
    atomic_init(&run.end, RUN_DONE);
    if (n_threads < 1 || l->function->needs_order || run.n_blocks == 1) n_threads = 1;
    if (!grow_workers(e, n_threads)) return RUN_NO_MEMORY;
    uint64_t random = l->seed;
    run.stride = run.n_blocks > 2 ? next_random(&random) % run.n_blocks | 1 : 1;
    while (common_divisor(run.stride, run.n_blocks) != 1) run.stride++;
    run.start = next_random(&random) % run.n_blocks;
    int n_prepared = n_threads == 1 ? 1 : e->n_workers;
    for (int i = 0; i < n_prepared; i++)
        if (!prepare_worker(&e->workers[i], l)) return RUN_NO_MEMORY;
    if (n_prepared == 1)
        run_blocks(&run, 0, 1);
    else
        team_run(e->team, run_blocks, &run);
    for (int i = 0; i < n_prepared; i++)
        for (uint32_t pc = 0; pc < l->function->n_code; pc++) {
            const insn_count *c = &e->workers[i].counts[pc];
            counts[pc].warps += c->warps;
            counts[pc].lanes += c->lanes;
            counts[pc].amount += c->amount;
            counts[pc].extra += c->extra;
            counts[pc].bytes += c->bytes;
        }
    return (run_end)atomic_load(&run.end);
}
