#include "kernels/emu/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "memory.h"

/* ---- findings ---------------------------------------------------------------------------------
 */

void reporter_open(reporter *r)
{
    memset(r, 0, sizeof *r);
    pthread_mutex_init(&r->lock, NULL);
}

void reporter_close(reporter *r)
{
    mem_free(r->reports);
    pthread_mutex_destroy(&r->lock);
    memset(r, 0, sizeof *r);
}

void reporter_clear(reporter *r)
{
    pthread_mutex_lock(&r->lock);
    r->n_reports = 0;
    pthread_mutex_unlock(&r->lock);
}

static int is_same(const emu_report *a, const emu_report *b)
{
    if (a->check != b->check || a->ptx_line != b->ptx_line || strcmp(a->kernel, b->kernel) != 0)
        return 0;
    return a->ptx_line != 0 || strcmp(a->text, b->text) == 0;
}

void reporter_add(reporter *r, const emu_report *found)
{
    pthread_mutex_lock(&r->lock);
    atomic_fetch_or(&r->found, found->check);
    if (r->reports == NULL) r->reports = mem_array(REPORTS_KEPT, sizeof *r->reports);
    if (r->reports != NULL) {
        size_t i = 0;
        while (i < r->n_reports && !is_same(&r->reports[i], found)) i++;
        if (i < r->n_reports) {
            r->reports[i].count++;
        } else if (i < REPORTS_KEPT) {
            r->reports[i] = *found;
            r->reports[i].count = 1;
            r->n_reports++;
            if (r->verbose) fprintf(stderr, "crank-emu: %s\n", found->text);
        }
    }
    pthread_mutex_unlock(&r->lock);
}

void reporter_host(reporter *r, uint32_t check, const char *format, ...)
{
    emu_report found;
    memset(&found, 0, sizeof found);
    found.check = check;
    found.other_thread = UINT32_MAX;
    int used = snprintf(found.text, sizeof found.text, "%s: ", emu_check_name(check));
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(found.text + used, sizeof found.text - (size_t)used, format, arguments);
    va_end(arguments);
    reporter_add(r, &found);
}

const char *emu_check_name(uint32_t check)
{
    switch (check) {
#define CHECK_NAME(name, bit, word, meaning)                                                       \
    case 1u << (bit): return word;
        EMU_CHECK_LIST(CHECK_NAME)
#undef CHECK_NAME
    default: return "unknown";
    }
}

/* ---- shared memory ----------------------------------------------------------------------------
 */

crank_status shared_shadow_open(shared_shadow *s, crank_error *error)
{
    memset(s, 0, sizeof *s);
    s->written = mem_alloc_aligned(SHARED_WINDOW_BYTES * sizeof *s->written);
    s->read = mem_alloc_aligned(SHARED_WINDOW_BYTES * sizeof *s->read);
    if (s->written == NULL || s->read == NULL) {
        shared_shadow_close(s);
        return status_fail(error, CRANK_OUT_OF_MEMORY, "shadow of shared memory");
    }
    memset(s->written, 0, SHARED_WINDOW_BYTES * sizeof *s->written);
    memset(s->read, 0, SHARED_WINDOW_BYTES * sizeof *s->read);
    s->dirty_from = SHARED_WINDOW_BYTES;
    return CRANK_OK;
}

void shared_shadow_close(shared_shadow *s)
{
    mem_free_aligned(s->written);
    mem_free_aligned(s->read);
    memset(s, 0, sizeof *s);
}

/* All stamps are forgotten; what this block has written stays initialised (epoch 1, thread kept).
 */
static void restart_epochs(shared_shadow *s)
{
    for (uint32_t i = s->dirty_from; i < s->dirty_to; i++) {
        uint32_t stamp = s->written[i];
        s->written[i] = STAMP_EPOCH(stamp) >= s->first_epoch && stamp
                            ? (1u << 20) | (stamp & (STAMP_IN_FLIGHT | 0x3ffu))
                            : 0;
        s->read[i] = 0;
    }
    s->first_epoch = 1;
    s->epoch = 2;
}

void shared_shadow_begin_block(shared_shadow *s)
{
    if (s->epoch + 1 >= LAST_EPOCH) {
        if (s->dirty_from < s->dirty_to) {
            memset(s->written + s->dirty_from, 0, (s->dirty_to - s->dirty_from) * 4u);
            memset(s->read + s->dirty_from, 0, (s->dirty_to - s->dirty_from) * 4u);
        }
        s->dirty_from = SHARED_WINDOW_BYTES;
        s->dirty_to = 0;
        s->epoch = 0;
    }
    s->epoch++;
    s->first_epoch = s->epoch;
}

void shared_shadow_barrier(shared_shadow *s)
{
    if (++s->epoch >= LAST_EPOCH) restart_epochs(s);
}

void shared_shadow_age_warp(shared_shadow *s, uint32_t warp)
{
    for (uint32_t i = s->dirty_from; i < s->dirty_to; i++) {
        if (STAMP_EPOCH(s->written[i]) == s->epoch && STAMP_THREAD(s->written[i]) / 32 == warp)
            s->written[i] &= ~(LAST_WARP_EPOCH << 12);
        if (STAMP_EPOCH(s->read[i]) == s->epoch && STAMP_THREAD(s->read[i]) / 32 == warp)
            s->read[i] &= ~(LAST_WARP_EPOCH << 12);
    }
}

/* Whether an access by thread at warp_epoch is unordered with the write that left this stamp. */
static int unordered_write(uint32_t stamp, uint32_t epoch, uint32_t thread, uint32_t warp_epoch)
{
    uint32_t other = STAMP_THREAD(stamp);
    if (STAMP_EPOCH(stamp) != epoch || other == thread) return 0;
    return other / 32 != thread / 32 || STAMP_WARP_EPOCH(stamp) >= warp_epoch;
}

static int unordered_read(uint32_t stamp, uint32_t epoch, uint32_t thread, uint32_t warp_epoch)
{
    uint32_t other = STAMP_THREAD(stamp);
    if (stamp == 0 || STAMP_EPOCH(stamp) != epoch) return 0;
    if (stamp & STAMP_MANY_WARPS) return 1;
    if (other / 32 != thread / 32) return 1;
    if (STAMP_WARP_EPOCH(stamp) < warp_epoch) return 0;
    return (stamp & STAMP_MANY_LANES) || other != thread;
}

static void check_byte(shared_shadow *s, shared_access access, uint32_t at, uint32_t thread,
                       uint32_t warp_epoch, shared_finding *found)
{
    const uint32_t written = s->written[at];
    uint32_t bad = 0;
    if (access != ACCESS_ASYNC_DONE && (written & STAMP_IN_FLIGHT) &&
        STAMP_EPOCH(written) >= s->first_epoch)
        bad |= EMU_CHECK_ASYNC;
    if (access == ACCESS_READ || access == ACCESS_ATOMIC)
        if (STAMP_EPOCH(written) < s->first_epoch) bad |= EMU_CHECK_SHARED_INIT;
    /* Two atomics are no race. */
    if (unordered_write(written, s->epoch, thread, warp_epoch) &&
        !(access == ACCESS_ATOMIC && (written & STAMP_ATOMIC) && !(written & STAMP_IN_FLIGHT)) &&
        !(bad & EMU_CHECK_ASYNC)) {
        bad |= EMU_CHECK_SHARED_RACE;
        found->other = STAMP_THREAD(written);
        found->other_wrote = 1;
    }
    if (access != ACCESS_READ && unordered_read(s->read[at], s->epoch, thread, warp_epoch)) {
        if (!(bad & EMU_CHECK_SHARED_RACE)) {
            found->other = STAMP_THREAD(s->read[at]);
            found->other_wrote = 0;
        }
        bad |= EMU_CHECK_SHARED_RACE;
    }
    if (bad) {
        if (found->checks == 0) found->address = at;
        found->checks |= bad;
    }
}

static uint32_t read_stamp(const shared_shadow *s, uint32_t old, uint32_t thread,
                           uint32_t warp_epoch)
{
    uint32_t stamp = s->epoch << 20 | warp_epoch << 12 | thread;
    if (old == 0 || STAMP_EPOCH(old) != s->epoch) return stamp;
    uint32_t other = STAMP_THREAD(old);
    if ((old & STAMP_MANY_WARPS) || other / 32 != thread / 32) return stamp | STAMP_MANY_WARPS;
    if (STAMP_WARP_EPOCH(old) == warp_epoch && ((old & STAMP_MANY_LANES) || other != thread))
        return stamp | STAMP_MANY_LANES;
    return stamp;
}

void shared_shadow_access(shared_shadow *s, shared_access access, uint32_t address, uint32_t bytes,
                          uint32_t thread, uint32_t warp_epoch, shared_finding *found)
{
    uint32_t *written = s->written + address, *read = s->read + address;
    /* Nearly always all bytes have the same history: look at the first and compare. */
    uint32_t differ = 0;
    for (uint32_t i = 1; i < bytes; i++) differ |= (written[i] ^ written[0]) | (read[i] ^ read[0]);
    found->checks = 0;
    check_byte(s, access, address, thread, warp_epoch, found);
    if (differ)
        for (uint32_t i = 1; i < bytes; i++)
            check_byte(s, access, address + i, thread, warp_epoch, found);

    if (access == ACCESS_READ) {
        if (!differ) {
            uint32_t stamp = read_stamp(s, read[0], thread, warp_epoch);
            for (uint32_t i = 0; i < bytes; i++) read[i] = stamp;
        } else {
            for (uint32_t i = 0; i < bytes; i++)
                read[i] = read_stamp(s, read[i], thread, warp_epoch);
        }
    } else {
        uint32_t stamp = s->epoch << 20 | warp_epoch << 12 | thread;
        if (access == ACCESS_ATOMIC) stamp |= STAMP_ATOMIC;
        if (access == ACCESS_ASYNC_ISSUE) stamp |= STAMP_IN_FLIGHT;
        for (uint32_t i = 0; i < bytes; i++) written[i] = stamp;
    }
    if (address < s->dirty_from) s->dirty_from = address;
    if (address + bytes > s->dirty_to) s->dirty_to = address + bytes;
}
