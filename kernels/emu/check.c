#include "kernels/emu/check.h"

#include "kernels/emu/ops.h"

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
    s->access = ops_shadow_access();
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

void shared_shadow_age_warp(shared_shadow *s, uint32_t index)
{
    for (uint32_t i = s->dirty_from; i < s->dirty_to; i++) {
        if (STAMP_EPOCH(s->written[i]) == s->epoch && STAMP_THREAD(s->written[i]) / 32 == index)
            s->written[i] &= ~(LAST_WARP_EPOCH << 12);
        if (STAMP_EPOCH(s->read[i]) == s->epoch && STAMP_THREAD(s->read[i]) / 32 == index)
            s->read[i] &= ~(LAST_WARP_EPOCH << 12);
    }
}
