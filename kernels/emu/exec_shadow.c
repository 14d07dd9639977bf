/* One access to the shadow of shared memory; check.h has the rules. Compiled per instruction set of
 * the host like the arithmetic. */
#include "kernels/emu/check.h"
#include "kernels/emu/exec_lanes.h"

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

/* bytes is a constant where this is inlined, so the loops become a few vector instructions. */
static inline void access_bytes(shared_shadow *s, shared_access access, uint32_t address,
                                uint32_t bytes, uint32_t thread, uint32_t warp_epoch,
                                shared_finding *found)
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

static void shadow_access(shared_shadow *s, shared_access access, uint32_t address, uint32_t bytes,
                          uint32_t thread, uint32_t warp_epoch, shared_finding *found)
{
    switch (bytes) {
    case 16: access_bytes(s, access, address, 16, thread, warp_epoch, found); break;
    case 8: access_bytes(s, access, address, 8, thread, warp_epoch, found); break;
    case 4: access_bytes(s, access, address, 4, thread, warp_epoch, found); break;
    default: access_bytes(s, access, address, bytes, thread, warp_epoch, found);
    }
}

extern const shadow_access_function EMU_ISA_NAME(emu_shadow_access);
const shadow_access_function EMU_ISA_NAME(emu_shadow_access) = shadow_access;
