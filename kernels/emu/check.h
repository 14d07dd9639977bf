/* What the emulator checks: the list of findings, and the shadow of a block's shared memory.
 *
 * Data structure: two 32-bit stamps for every byte of the shared window, of the last write and of
 * the last read:
 *     bits 31..20 block epoch   advanced by every barrier of the block; never 0 once written
 *     bits 19..12 warp epoch    advanced by bar.warp.sync of that warp
 *     bit  11     writes: by an atomic; reads: by more than one warp
 *     bit  10     writes: a cp.async is in flight; reads: by more than one lane of the warp
 *     bits  9..0  thread
 * Two accesses conflict when one is a write, the threads differ, the block epochs are equal, and
 * they are not in one warp with a newer warp epoch. Shuffles, votes and mma do not order memory and
 * therefore advance nothing. A byte is initialised when it has been written since the block began
 * (its write stamp's block epoch is at least the block's first), so a new block costs nothing.
 *
 * Invariant: epochs only grow within a worker; when one runs out, all stamps are cleared. */
#ifndef CRANK_EMU_CHECK_H
#define CRANK_EMU_CHECK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/emu/emu.h"
#include "kernels/emu/ptx.h"

#define REPORTS_KEPT 1000

typedef struct reporter {
    pthread_mutex_t lock;
    emu_report *reports; /* REPORTS_KEPT of them, allocated on the first */
    size_t n_reports;
    atomic_uint found; /* all EMU_CHECK_ bits since it was last cleared */
    uint32_t verbose;
} reporter;

void reporter_open(reporter *r);
void reporter_close(reporter *r);
void reporter_clear(reporter *r);
/* Adds a finding, or counts it when an equal one is there (check, kernel, PTX line, text of host
 * findings). */
void reporter_add(reporter *r, const emu_report *found);
/* A finding of a driver call. */
void reporter_host(reporter *r, uint32_t check, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define STAMP_EPOCH(stamp) ((stamp) >> 20)
#define STAMP_WARP_EPOCH(stamp) (((stamp) >> 12) & 0xffu)
#define STAMP_THREAD(stamp) ((stamp)&0x3ffu)
#define STAMP_MANY_WARPS 0x800u
#define STAMP_MANY_LANES 0x400u
#define STAMP_ATOMIC 0x800u
#define STAMP_IN_FLIGHT 0x400u
#define LAST_EPOCH 0xfffu
#define LAST_WARP_EPOCH 0xffu

struct shared_shadow;
struct shared_finding;

typedef enum shared_access {
    ACCESS_READ,
    ACCESS_WRITE,
    ACCESS_ATOMIC,
    ACCESS_ASYNC_ISSUE,
    ACCESS_ASYNC_DONE
} shared_access;

/* Records an access of bytes at address (inside the window) by a thread and says what is wrong with
 * it. */
typedef void (*shadow_access_function)(struct shared_shadow *s, shared_access access,
                                       uint32_t address, uint32_t bytes, uint32_t thread,
                                       uint32_t warp_epoch, struct shared_finding *found);

typedef struct shared_shadow {
    shadow_access_function access;
    uint32_t *written, *read; /* SHARED_WINDOW_BYTES each */
    uint32_t epoch, first_epoch;
    uint32_t dirty_from, dirty_to; /* the bytes with stamps */
} shared_shadow;

/* What an access found: a bit mask of EMU_CHECK_..., with the other thread of a race. */
typedef struct shared_finding {
    uint32_t checks;
    uint32_t other;   /* thread */
    int other_wrote;  /* the earlier access of the race was a write */
    uint32_t address; /* the byte */
} shared_finding;

crank_status shared_shadow_open(shared_shadow *s, crank_error *error);
void shared_shadow_close(shared_shadow *s);
void shared_shadow_begin_block(shared_shadow *s);
void shared_shadow_barrier(shared_shadow *s);
/* A warp's epoch ran out: its stamps of this block epoch become old ones. */
void shared_shadow_age_warp(shared_shadow *s, uint32_t index);
#endif
