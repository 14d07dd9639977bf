/* A running block: its warps, its shared memory, and what the scheduler knows about each lane.
 *
 * Every lane has its own program counter. The scheduler always runs the lanes with the lowest one
 * until they reach the next lane's, which reconverges nvcc's code without a stack. A lane that
 * waits (at a barrier, or at a warp-synchronous instruction for lanes that are not there yet) is
 * parked. Blocks run one after another on a worker; a worker owns one block structure and reuses
 * it, so nothing is allocated while a kernel runs (the list of open cp.async copies may grow).
 *
 * Invariants: parked lanes are live; waiting and at_barrier are disjoint; pc[] of a lane that runs
 * right now is only written back when the scheduler is asked again. */
#ifndef CRANK_EMU_EXEC_H
#define CRANK_EMU_EXEC_H

#include <stdint.h>

#include "kernels/emu/check.h"
#include "kernels/emu/device.h"
#include "kernels/emu/ptx.h"

enum { TRAPPED_BY_TRAP = 1, TRAPPED_BY_ASSERT, TRAPPED_BY_MEMORY };

#define N_BARRIERS 16
#define MAX_WARPS 32

/* One cp.async instruction in flight: what each lane asked for. */
typedef struct async_copy {
    const insn *in;
    uint32_t mask; /* lanes whose copy has not been done */
    uint32_t destination[WARP_LANES];
    const uint8_t *source[WARP_LANES]; /* NULL: not readable */
    uint32_t bytes[WARP_LANES];        /* to read; the rest of in->size is zeros */
    uint32_t group[WARP_LANES];        /* the lane's open group when it was issued */
} async_copy;

typedef struct warp {
    uint8_t *regs;
    struct block *block;
    uint32_t index;
    uint32_t exists;     /* lanes that are threads of the block */
    uint32_t live;       /* ... and have not exited */
    uint32_t waiting;    /* parked at a warp-synchronous instruction */
    uint32_t at_barrier; /* parked at a barrier */
    uint32_t pc[WARP_LANES];
    uint8_t barrier[WARP_LANES];
    uint32_t carry;              /* of add.cc and the like */
    uint32_t epoch;              /* advanced by bar.warp.sync */
    uint32_t groups[WARP_LANES]; /* cp.async groups committed so far */
    async_copy *copies;
    uint32_t n_copies, copy_capacity;
} warp;

typedef struct barrier {
    uint32_t arrived;  /* threads */
    uint32_t expected; /* 0: all that live */
    uint32_t pc;       /* of the first to arrive */
    uint32_t waiting;  /* of those that arrived, the ones that wait */
} barrier;

/* What a launch counts per instruction, one array a worker. */
typedef struct insn_count {
    uint64_t warps;  /* times a warp issued it */
    uint64_t lanes;  /* lanes that carried it out */
    uint64_t amount; /* global: 32-byte sectors; shared: extra wavefronts */
    uint64_t extra;  /* cp.async: extra wavefronts of its shared side */
    uint64_t bytes;  /* moved, all lanes */
} insn_count;

typedef struct launch {
    const ptx_module *module;
    const ptx_function *function;
    device *memory;
    reporter *reports;
    const uint8_t *arguments;
    uint32_t grid[3], threads[3];
    uint32_t n_threads, n_warps;
    uint32_t dynamic_shared;
    uint32_t checks;  /* CHECK_... */
    int count_memory; /* sectors and wavefronts */
    int schedule;     /* EMU_FORWARD ... */
    uint64_t seed;
    uint64_t step_limit; /* warp instructions a block may take */
    uint32_t grid_id;
} launch;

typedef struct block {
    const launch *launch;
    uint32_t id[3];
    uint64_t number; /* linear */
    warp warps[MAX_WARPS];
    uint8_t *registers;         /* of all warps */
    uint8_t *shared;            /* SHARED_WINDOW_BYTES */
    const uint32_t (*owned)[2]; /* from, to: what of the window the kernel may touch */
    uint32_t n_owned;
    shared_shadow *shadow; /* NULL when nothing of shared memory is checked */
    uint8_t *local;        /* local_bytes a thread */
    barrier barriers[N_BARRIERS];
    uint32_t live_threads;
    insn_count *counts; /* by pc */
    allocation last;    /* the allocation that the last global access hit */
    uint64_t steps;
    uint64_t random;
    int trapped; /* TRAPPED_... */
} block;

/* ---- for the functions that run instructions ------------------------------------------------- */

/* exec_report.c: a finding at one lane. other: the other thread of a race, or UINT32_MAX. */
void exec_report(warp *w, const insn *in, int lane, uint32_t check, uint64_t address,
                 uint32_t other, const char *format, ...) __attribute__((format(printf, 7, 8)));
/* Lanes in a mask; most masks are full, and not every host has an instruction for it. */
static inline uint32_t lane_count(uint32_t mask)
{
    if (mask == FULL_WARP) return WARP_LANES;
    mask -= mask >> 1 & 0x55555555u;
    mask = (mask & 0x33333333u) + (mask >> 2 & 0x33333333u);
    return (((mask + (mask >> 4)) & 0x0f0f0f0fu) * 0x01010101u) >> 24;
}

static inline uint32_t warp_thread(const warp *w, int lane)
{
    return w->index * WARP_LANES + (uint32_t)lane;
}

/* exec_print.c: r[0], r[1], r[2] are offsets of the arguments in local memory. */
void exec_print(warp *w, const insn *in, uint32_t mask);
void exec_assert(warp *w, const insn *in, uint32_t mask);

/* exec_async.c */
void exec_cp_async(warp *w, const insn *in, uint32_t mask);
void exec_commit_group(warp *w, const insn *in, uint32_t mask);
void exec_wait_group(warp *w, const insn *in, uint32_t mask);
void exec_wait_all(warp *w, const insn *in, uint32_t mask);
void exec_ldmatrix(warp *w, const insn *in, uint32_t mask);
void exec_stmatrix(warp *w, const insn *in, uint32_t mask);
void async_commit(warp *w, uint32_t mask);
/* Carries out the copies of lanes in mask whose group is below limit[lane]. */
void async_finish(warp *w, uint32_t mask, const uint32_t *limit);
void async_exit(warp *w, const insn *in, uint32_t mask);

#define ROW(T, place) ((T *)(void *)(w->regs + (place)))

/* Families that the decoder takes apart itself. */
typedef enum memory_function {
    MEMORY_LOAD,
    MEMORY_LOAD_PARAMETER,
    MEMORY_STORE,
    MEMORY_ATOMIC,
    MEMORY_CP_ASYNC,
    MEMORY_COMMIT_GROUP,
    MEMORY_WAIT_GROUP,
    MEMORY_WAIT_ALL,
    MEMORY_LDMATRIX,
    MEMORY_STMATRIX,
    MEMORY_PRINT,
    MEMORY_ASSERT
} memory_function;
extern const exec_function exec_memory_functions[];

/* insn.aux of an atomic. */
typedef enum atomic_operation {
    ATOMIC_ADD,
    ATOMIC_MIN_U,
    ATOMIC_MAX_U,
    ATOMIC_MIN_S32,
    ATOMIC_MAX_S32,
    ATOMIC_MIN_S64,
    ATOMIC_MAX_S64,
    ATOMIC_AND,
    ATOMIC_OR,
    ATOMIC_XOR,
    ATOMIC_EXCH,
    ATOMIC_CAS,
    ATOMIC_INC,
    ATOMIC_DEC,
    ATOMIC_ADD_F32,
    ATOMIC_ADD_F64,
    ATOMIC_ADD_F16,
    ATOMIC_ADD_BF16,
    ATOMIC_ADD_F16X2,
    ATOMIC_ADD_BF16X2
} atomic_operation;

/* insn.size of an mma: its input type. */
enum { MMA_OTHER, MMA_F16, MMA_BF16, MMA_INT8 };

/* The instruction tables, one per instruction set of the host: same rows in the same order. */
typedef struct op_row {
    const char *name;      /* the whole mnemonic */
    const char *signature; /* see ptx_decode.h */
    exec_function fn;
    uint8_t kind, class;
    uint16_t flops; /* a lane, or a warp for mma */
} op_row;

typedef struct op_table {
    const op_row *rows;
    uint32_t n;
} op_table;

#endif
