/* Addresses of a warp's lanes -> host pointers, checked and counted: the one way to memory for
 * loads, stores, atomics, cp.async and ldmatrix.
 *
 * The usual case (every lane in the allocation that the last access hit, aligned, everything
 * written before) is tested for the whole warp at once; only when that fails are the lanes looked
 * at one by one, which is where findings are made. */
#ifndef CRANK_EMU_EXEC_ACCESS_H
#define CRANK_EMU_EXEC_ACCESS_H

#include "kernels/emu/exec.h"

typedef struct lane_access {
    uint64_t address[WARP_LANES]; /* in the lane's space; inactive lanes repeat an active one's */
    uint8_t *pointer[WARP_LANES]; /* NULL: refused, or inactive */
    uint32_t global, shared;      /* lanes that went to device and to shared memory, for counting */
} lane_access;

/* Base register + offset, by in->flags; mask is not empty. */
void access_addresses(const warp *w, const insn *in, uint32_t place, int64_t offset, uint32_t mask,
                      lane_access *a);
/* Fills pointer[] for lanes in mask, each for `bytes` bytes (a power of two up to 32) at its
 * address in in->space. */
void access_resolve(warp *w, const insn *in, uint32_t mask, uint32_t bytes, shared_access kind,
                    lane_access *a);
/* The same for one lane and one space, without the short cuts; global takes any number of bytes. */
uint8_t *access_global(warp *w, const insn *in, int lane, uint64_t address, uint32_t bytes,
                       int reads, int writes);
uint8_t *access_shared(warp *w, const insn *in, int lane, uint64_t address, uint32_t bytes,
                       shared_access kind);
void access_report_shared(warp *w, const insn *in, int lane, const shared_finding *found);

/* Sectors, wavefronts and bytes of the lanes in a->global and a->shared. */
void access_count(warp *w, const insn *in, const lane_access *a, uint32_t bytes);
insn_count *access_counter(warp *w, const insn *in);
uint32_t access_sectors(const uint64_t *address, uint32_t mask, uint32_t bytes);
uint32_t access_extra_wavefronts(const uint64_t *address, uint32_t mask, uint32_t bytes);

#endif
