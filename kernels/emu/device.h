/* Device memory: a window of addresses that the host cannot touch.
 *
 * Data structure: three reservations of the same size. `alias` has no access rights at all and only
 * lends its addresses to device pointers, so a host that dereferences one faults. `backing` holds
 * the bytes. `shadow` holds one state per byte, zero (untouched pages) meaning "never written".
 * Allocations are a sorted table with unmapped space between them; freed addresses are not used
 * again until the window has been walked through, so that stale pointers are found.
 *
 * Pinned host memory lies in the same window: the host's pointer is into backing, the device's into
 * alias, and a kernel may use either (unified addressing). */
#ifndef CRANK_EMU_DEVICE_H
#define CRANK_EMU_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

#define DEVICE_WINDOW (UINT64_C(1) << 38)

enum { SHADOW_UNWRITTEN, SHADOW_WRITTEN, SHADOW_FENCED };

typedef enum allocation_kind {
    ALLOCATION_DEVICE,
    ALLOCATION_HOST,
    ALLOCATION_MODULE
} allocation_kind;

typedef struct allocation {
    uint64_t base, bytes; /* device addresses */
    allocation_kind kind;
} allocation;

typedef struct device {
    uint8_t *alias, *backing, *shadow;
    uint64_t next; /* offset where the search for free addresses begins */
    allocation *allocations;
    size_t n_allocations, capacity;
    uint64_t used_bytes, limit_bytes; /* of ALLOCATION_DEVICE and ALLOCATION_MODULE */
} device;

crank_status window_open(device *d, uint64_t limit_bytes, crank_error *error);
void window_close(device *d);

/* Bytes start as 0xFF (a NaN in every float type) and unwritten; pinned memory counts as written.
 * 256-byte aligned and no more than that, as the driver promises. */
crank_status window_alloc(device *d, uint64_t bytes, allocation_kind kind, uint64_t *address);
int window_free(device *d, uint64_t address); /* 0 when no allocation starts there */

/* The allocation that holds address, or NULL. */
const allocation *window_find(const device *d, uint64_t address);

/* Canonical address: a pinned allocation's host address becomes its device address. */
static inline uint64_t window_canonical(const device *d, uint64_t address)
{
    uint64_t offset = address - (uint64_t)(uintptr_t)d->backing;
    return offset < DEVICE_WINDOW ? (uint64_t)(uintptr_t)d->alias + offset : address;
}

static inline uint8_t *window_bytes(const device *d, uint64_t address)
{
    return d->backing + (address - (uint64_t)(uintptr_t)d->alias);
}

static inline uint8_t *window_shadow(const device *d, uint64_t address)
{
    return d->shadow + (address - (uint64_t)(uintptr_t)d->alias);
}

/* Whether [address, address + bytes) lies in one allocation. */
int window_holds(const device *d, uint64_t address, uint64_t bytes);

#endif
