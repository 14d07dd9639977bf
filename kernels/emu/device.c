#include "kernels/emu/device.h"

#include <string.h>
#include <sys/mman.h>

#include "memory.h"

#define PAGE 4096u
#define GUARD (64u * 1024u)

crank_status window_open(device *d, uint64_t limit_bytes, crank_error *error)
{
    memset(d, 0, sizeof *d);
    uint8_t **windows[] = {&d->alias, &d->backing, &d->shadow};
    for (int i = 0; i < 3; i++) {
        void *window = mmap(NULL, DEVICE_WINDOW, PROT_NONE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (window == MAP_FAILED) {
            window_close(d);
            return status_fail(error, CRANK_OUT_OF_MEMORY, "256 GiB of addresses cannot be had");
        }
        *windows[i] = window;
    }
    d->limit_bytes = limit_bytes;
    d->next = GUARD;
    return CRANK_OK;
}

void window_close(device *d)
{
    if (d->alias) munmap(d->alias, DEVICE_WINDOW);
    if (d->backing) munmap(d->backing, DEVICE_WINDOW);
    if (d->shadow) munmap(d->shadow, DEVICE_WINDOW);
    mem_free(d->allocations);
    memset(d, 0, sizeof *d);
}

static uint64_t pages_from(const device *d, const allocation *a)
{
    return (a->base - (uint64_t)(uintptr_t)d->alias) / PAGE * PAGE;
}

static uint64_t pages_to(const device *d, const allocation *a)
{
    return (a->base - (uint64_t)(uintptr_t)d->alias + a->bytes + PAGE - 1) / PAGE * PAGE;
}

/* The first allocation that ends behind offset. */
static size_t first_behind(const device *d, uint64_t offset)
{
    size_t low = 0, high = d->n_allocations;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (pages_to(d, &d->allocations[middle]) > offset)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Finds room for `room` bytes and a guard behind them at or after `from`. */
static int find_room(const device *d, uint64_t from, uint64_t room, uint64_t *offset, size_t *index)
{
    size_t i = first_behind(d, from);
    for (;; i++) {
        uint64_t limit =
            i < d->n_allocations ? pages_from(d, &d->allocations[i]) : (uint64_t)DEVICE_WINDOW;
        if (limit >= from && limit - from >= room + GUARD) {
            *offset = from;
            *index = i;
            return 1;
        }
        if (i >= d->n_allocations) return 0;
        from = pages_to(d, &d->allocations[i]) + GUARD;
    }
}

crank_status window_alloc(device *d, uint64_t bytes, allocation_kind kind, uint64_t *address)
{
    if (bytes == 0 || bytes > DEVICE_WINDOW / 2) return CRANK_OUT_OF_MEMORY;
    int on_device = kind != ALLOCATION_HOST;
    if (on_device && (bytes > d->limit_bytes || d->used_bytes > d->limit_bytes - bytes))
        return CRANK_OUT_OF_MEMORY;
    if (d->n_allocations == d->capacity) {
        size_t capacity = d->capacity ? d->capacity * 2 : 64;
        allocation *bigger = mem_resize(d->allocations, capacity, sizeof *bigger);
        if (bigger == NULL) return CRANK_OUT_OF_MEMORY;
        d->allocations = bigger;
        d->capacity = capacity;
    }
    /* The array starts 256 bytes into a page: aligned to 256 and to nothing more. */
    uint64_t room = (256 + bytes + PAGE - 1) / PAGE * PAGE;
    uint64_t offset;
    size_t index;
    if (!find_room(d, d->next, room, &offset, &index) &&
        !find_room(d, GUARD, room, &offset, &index))
        return CRANK_OUT_OF_MEMORY;
    if (mprotect(d->backing + offset, room, PROT_READ | PROT_WRITE) != 0)
        return CRANK_OUT_OF_MEMORY;
    if (mprotect(d->shadow + offset, room, PROT_READ | PROT_WRITE) != 0) {
        mprotect(d->backing + offset, room, PROT_NONE);
        return CRANK_OUT_OF_MEMORY;
    }
    memset(d->backing + offset, 0xFF, room);
    if (kind == ALLOCATION_HOST) memset(d->shadow + offset, SHADOW_WRITTEN, room);
    memmove(&d->allocations[index + 1], &d->allocations[index],
            (d->n_allocations - index) * sizeof *d->allocations);
    d->n_allocations++;
    allocation *a = &d->allocations[index];
    a->base = (uint64_t)(uintptr_t)d->alias + offset + 256;
    a->bytes = bytes;
    a->kind = kind;
    if (on_device) d->used_bytes += bytes;
    d->next = offset + room + GUARD;
    *address = a->base;
    return CRANK_OK;
}

int window_free(device *d, uint64_t address)
{
    const allocation *found = window_find(d, address);
    if (found == NULL || found->base != address) return 0;
    uint64_t from = pages_from(d, found), bytes = pages_to(d, found) - from;
    /* Give the pages back; the addresses stay reserved without access. */
    madvise(d->backing + from, bytes, MADV_DONTNEED);
    madvise(d->shadow + from, bytes, MADV_DONTNEED);
    mprotect(d->backing + from, bytes, PROT_NONE);
    mprotect(d->shadow + from, bytes, PROT_NONE);
    if (found->kind != ALLOCATION_HOST) d->used_bytes -= found->bytes;
    size_t index = (size_t)(found - d->allocations);
    d->n_allocations--;
    memmove(&d->allocations[index], &d->allocations[index + 1],
            (d->n_allocations - index) * sizeof *d->allocations);
    return 1;
}

const allocation *window_find(const device *d, uint64_t address)
{
    size_t low = 0, high = d->n_allocations;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (d->allocations[middle].base + d->allocations[middle].bytes > address)
            high = middle;
        else
            low = middle + 1;
    }
    return low < d->n_allocations && d->allocations[low].base <= address ? &d->allocations[low]
                                                                         : NULL;
}

int window_holds(const device *d, uint64_t address, uint64_t bytes)
{
    const allocation *a = window_find(d, address);
    return a != NULL && bytes <= a->bytes && address - a->base <= a->bytes - bytes;
}
