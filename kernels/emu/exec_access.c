#include "kernels/emu/exec_access.h"

#include <string.h>

/* ---- counting ---------------------------------------------------------------------------------
 */

insn_count *access_counter(warp *w, const insn *in)
{
    block *b = w->block;
    return &b->counts[in - b->launch->function->code];
}

uint32_t access_sectors(const uint64_t *address, uint32_t mask, uint32_t bytes)
{
    /* Inactive lanes repeat an active address, so the whole row can be looked at. */
    uint64_t first = UINT64_MAX, last = 0;
    for (int l = 0; l < WARP_LANES; l++) {
        first = address[l] < first ? address[l] : first;
        last = address[l] > last ? address[l] : last;
    }
    first /= 32;
    if ((last + bytes - 1) / 32 - first < 64) {
        uint64_t seen = 0;
        for (int l = 0; l < WARP_LANES; l++) {
            seen |= UINT64_C(1) << (address[l] / 32 - first);
            seen |= UINT64_C(1) << ((address[l] + bytes - 1) / 32 - first);
        }
        return lane_count((uint32_t)seen) + lane_count((uint32_t)(seen >> 32));
    }
    uint64_t sectors[2 * WARP_LANES];
    uint32_t n = 0;
    for (uint32_t m = mask; m; m &= m - 1) {
        uint64_t a = address[__builtin_ctz(m)];
        for (uint64_t s = a / 32; s <= (a + bytes - 1) / 32; s++) {
            uint32_t i = 0;
            while (i < n && sectors[i] != s) i++;
            if (i == n && n < 2 * WARP_LANES) sectors[n++] = s;
        }
    }
    return n;
}

/* Wavefronts beyond the first of lanes from .. to, which the hardware takes together. */
static uint32_t extra_of_group(const uint64_t *address, uint32_t mask, uint32_t bytes,
                               uint32_t from, uint32_t to)
{
    uint32_t words[32][8], n[32] = {0};
    uint32_t most = 1;
    uint32_t per_lane = bytes > 4 ? bytes / 4 : 1;
    for (uint32_t l = from; l < to; l++) {
        if (!(mask >> l & 1)) continue;
        for (uint32_t e = 0; e < per_lane; e++) {
            uint32_t word = (uint32_t)(address[l] / 4) + e, bank = word & 31, i = 0;
            uint32_t kept = n[bank] < 8 ? n[bank] : 8;
            while (i < kept && words[bank][i] != word) i++;
            if (i < kept) continue;
            if (n[bank] < 8) words[bank][n[bank]] = word;
            if (++n[bank] > most) most = n[bank];
        }
    }
    return most - 1;
}

/* 32 lanes of up to 4 bytes go together, 16 of 8, 8 of 16. */
uint32_t access_extra_wavefronts(const uint64_t *address, uint32_t mask, uint32_t bytes)
{
    uint32_t lanes = bytes <= 4 ? 32 : bytes == 8 ? 16 : 8;
    uint32_t unit = bytes <= 4 ? 4 : bytes, extra = 0;
    for (uint32_t from = 0; from < WARP_LANES; from += lanes) {
        /* Pieces that all fall into different places of the 128 bytes of banks do not conflict. */
        uint32_t places = 0, group = 0;
        for (uint32_t l = from; l < from + lanes; l++) {
            uint32_t on = mask >> l & 1;
            places |= on << (address[l] / unit % (128 / unit));
            group += on;
        }
        if (lane_count(places) == group) continue;
        extra += extra_of_group(address, mask, bytes, from, from + lanes);
    }
    return extra;
}

void access_count(warp *w, const insn *in, const lane_access *a, uint32_t bytes)
{
    insn_count *count = access_counter(w, in);
    count->bytes += (uint64_t)bytes * (lane_count(a->global) + lane_count(a->shared));
    if (!w->block->launch->count_memory) return;
    if (a->global && a->shared) { /* generic addresses of both kinds */
        uint64_t address[WARP_LANES], active = a->address[__builtin_ctz(a->global)];
        for (int l = 0; l < WARP_LANES; l++)
            address[l] = a->global >> l & 1 ? a->address[l] : active;
        count->amount += access_sectors(address, a->global, bytes);
    } else if (a->global) {
        count->amount += access_sectors(a->address, a->global, bytes);
    }
    if (a->shared) count->amount += access_extra_wavefronts(a->address, a->shared, bytes);
}

/* ---- one lane ---------------------------------------------------------------------------------
 */

static const char *what(const insn *in)
{
    switch (in->class) {
    case CLASS_ST_GLOBAL:
    case CLASS_ST_SHARED: return "write";
    case CLASS_ATOMIC: return "atomic";
    case CLASS_LDMATRIX: return "ldmatrix";
    case CLASS_CP_ASYNC: return "cp.async";
    default: return "read";
    }
}

uint8_t *access_global(warp *w, const insn *in, int lane, uint64_t address, uint32_t bytes,
                       int reads, int writes)
{
    block *b = w->block;
    const launch *grid = b->launch;
    device *memory = grid->memory;
    if (bytes == 0) return NULL;
    if (!(b->last.bytes >= bytes && address - b->last.base <= b->last.bytes - bytes)) {
        address = window_canonical(memory, address);
        const allocation *a = window_find(memory, address);
        if (a == NULL || a->bytes < bytes || address - a->base > a->bytes - bytes) {
            if (grid->checks & EMU_CHECK_GLOBAL_BOUNDS)
                exec_report(w, in, lane, EMU_CHECK_GLOBAL_BOUNDS, address, UINT32_MAX,
                            a ? "%s of %u bytes ends outside its allocation"
                              : "%s of %u bytes outside every allocation",
                            what(in), bytes);
            return NULL;
        }
        b->last = *a;
    }
    if ((address & (bytes - 1)) != 0 && (grid->checks & EMU_CHECK_GLOBAL_ALIGN) &&
        (bytes & (bytes - 1)) == 0)
        exec_report(w, in, lane, EMU_CHECK_GLOBAL_ALIGN, address, UINT32_MAX,
                    "%s of %u bytes is misaligned", what(in), bytes);
    uint8_t *state = window_shadow(memory, address);
    uint8_t all = 0xff, any = 0;
    for (uint32_t i = 0; i < bytes; i++) {
        all &= state[i];
        any |= state[i];
    }
    if (all != SHADOW_WRITTEN || any != SHADOW_WRITTEN) {
        if (any & SHADOW_FENCED) {
            if (grid->checks & EMU_CHECK_GLOBAL_BOUNDS)
                exec_report(w, in, lane, EMU_CHECK_GLOBAL_BOUNDS, address, UINT32_MAX,
                            "%s of %u bytes in a fenced range", what(in), bytes);
            return NULL;
        }
        if (reads && (grid->checks & EMU_CHECK_GLOBAL_INIT))
            exec_report(w, in, lane, EMU_CHECK_GLOBAL_INIT, address, UINT32_MAX,
                        "%s of %u bytes that nothing has written", what(in), bytes);
        if (writes) memset(state, SHADOW_WRITTEN, bytes);
    }
    return window_bytes(memory, address);
}

void access_report_shared(warp *w, const insn *in, int lane, const shared_finding *found)
{
    uint32_t checks = found->checks & w->block->launch->checks;
    if (checks & EMU_CHECK_ASYNC)
        exec_report(w, in, lane, EMU_CHECK_ASYNC, found->address, UINT32_MAX,
                    "%s of shared memory that a cp.async may still be writing", what(in));
    if (checks & EMU_CHECK_SHARED_INIT)
        exec_report(w, in, lane, EMU_CHECK_SHARED_INIT, found->address, UINT32_MAX,
                    "%s of shared memory that nothing has written", what(in));
    if (checks & EMU_CHECK_SHARED_RACE)
        exec_report(w, in, lane, EMU_CHECK_SHARED_RACE, found->address, found->other,
                    "%s after %s by thread %u without a barrier between", what(in),
                    found->other_wrote ? "write" : "read", found->other);
}

#define SHARED_CHECKS (EMU_CHECK_ASYNC | EMU_CHECK_SHARED_INIT | EMU_CHECK_SHARED_RACE)

uint8_t *access_shared(warp *w, const insn *in, int lane, uint64_t address, uint32_t bytes,
                       shared_access kind)
{
    block *b = w->block;
    const uint32_t checks = b->launch->checks;
    if (checks & EMU_CHECK_SHARED_BOUNDS) {
        uint32_t i = 0;
        while (i < b->n_owned && !(address >= b->owned[i][0] && address + bytes <= b->owned[i][1]))
            i++;
        if (i == b->n_owned) {
            exec_report(w, in, lane, EMU_CHECK_SHARED_BOUNDS, address, UINT32_MAX,
                        "%s of %u bytes outside the block's shared arrays", what(in), bytes);
            return NULL;
        }
    }
    if (address > SHARED_WINDOW_BYTES - 16 || address + bytes > SHARED_WINDOW_BYTES) return NULL;
    if ((address & (bytes - 1)) != 0 && (checks & EMU_CHECK_SHARED_ALIGN))
        exec_report(w, in, lane, EMU_CHECK_SHARED_ALIGN, address, UINT32_MAX,
                    "%s of %u bytes is misaligned", what(in), bytes);
    if ((checks & SHARED_CHECKS) && b->shadow != NULL) {
        shared_finding found;
        b->shadow->access(b->shadow, kind, (uint32_t)address, bytes, warp_thread(w, lane), w->epoch,
                          &found);
        if (found.checks & checks) access_report_shared(w, in, lane, &found);
    }
    return b->shared + address;
}

static uint8_t *local_pointer(warp *w, const insn *in, int lane, uint64_t address, uint32_t bytes)
{
    const launch *grid = w->block->launch;
    uint32_t room = grid->function->local_bytes;
    if (room < bytes || address > room - bytes) {
        if (grid->checks & EMU_CHECK_LOCAL)
            exec_report(w, in, lane, EMU_CHECK_LOCAL, address, UINT32_MAX,
                        "%s of %u bytes outside the thread's local memory", what(in), bytes);
        return NULL;
    }
    return w->block->local + (uint64_t)room * warp_thread(w, lane) + address;
}

static uint8_t *parameter_pointer(warp *w, const insn *in, int lane, uint64_t address,
                                  uint32_t bytes)
{
    const launch *grid = w->block->launch;
    uint32_t room = grid->function->parameter_bytes;
    if (room < bytes || address > room - bytes) {
        if (grid->checks & EMU_CHECK_LOCAL)
            exec_report(w, in, lane, EMU_CHECK_LOCAL, address, UINT32_MAX,
                        "%s of %u bytes outside the parameters", what(in), bytes);
        return NULL;
    }
    /* Only loads come here: the decoder refuses st.param. */
    return (uint8_t *)(uintptr_t)grid->arguments + address;
}

/* ---- the warp ---------------------------------------------------------------------------------
 */

void access_addresses(const warp *w, const insn *in, uint32_t place, int64_t offset, uint32_t mask,
                      lane_access *a)
{
    if (in->flags & INSN_ADDRESS32) {
        const uint32_t *row = ROW(uint32_t, place);
        for (int l = 0; l < WARP_LANES; l++) a->address[l] = row[l] + (uint64_t)offset;
    } else {
        const uint64_t *row = ROW(uint64_t, place);
        for (int l = 0; l < WARP_LANES; l++) a->address[l] = row[l] + (uint64_t)offset;
    }
    a->global = a->shared = 0;
    if (mask == FULL_WARP) return;
    uint64_t active = a->address[__builtin_ctz(mask)];
    for (int l = 0; l < WARP_LANES; l++) a->address[l] = mask >> l & 1 ? a->address[l] : active;
}

typedef struct span {
    uint64_t first, last; /* lowest and highest address */
    uint64_t all_bits;    /* of the addresses, or-ed */
} span;

static span span_of(const uint64_t *address)
{
    span s = {UINT64_MAX, 0, 0};
    for (int l = 0; l < WARP_LANES; l++) {
        s.first = address[l] < s.first ? address[l] : s.first;
        s.last = address[l] > s.last ? address[l] : s.last;
        s.all_bits |= address[l];
    }
    return s;
}

/* Whether the states of all lanes' bytes are SHADOW_WRITTEN. */
static int all_written(const uint8_t *state, const uint64_t *address, uint64_t base, uint32_t bytes)
{
    uint64_t bad = 0;
    switch (bytes) {
    case 1:
        for (int l = 0; l < WARP_LANES; l++) bad |= state[address[l] - base] ^ SHADOW_WRITTEN;
        break;
    case 2:
        for (int l = 0; l < WARP_LANES; l++) {
            uint16_t x;
            memcpy(&x, state + (address[l] - base), 2);
            bad |= x ^ 0x0101u;
        }
        break;
    case 4:
        for (int l = 0; l < WARP_LANES; l++) {
            uint32_t x;
            memcpy(&x, state + (address[l] - base), 4);
            bad |= x ^ 0x01010101u;
        }
        break;
    default:
        for (int l = 0; l < WARP_LANES; l++)
            for (uint32_t i = 0; i < bytes; i += 8) {
                uint64_t x;
                memcpy(&x, state + (address[l] - base) + i, 8);
                bad |= x ^ UINT64_C(0x0101010101010101);
            }
    }
    return bad == 0;
}

static int resolve_global(warp *w, uint32_t mask, uint32_t bytes, lane_access *a)
{
    block *b = w->block;
    const device *memory = b->launch->memory;
    span s = span_of(a->address);
    if (s.all_bits & (bytes - 1)) return 0;
    if (!(b->last.bytes >= bytes && s.first - b->last.base <= b->last.bytes - bytes)) {
        const allocation *found = window_find(memory, s.first);
        if (found == NULL) return 0;
        b->last = *found;
        if (b->last.bytes < bytes || s.first - b->last.base > b->last.bytes - bytes) return 0;
    }
    if (s.last - b->last.base > b->last.bytes - bytes) return 0;
    uint64_t alias = (uint64_t)(uintptr_t)memory->alias;
    if (!all_written(memory->shadow, a->address, alias, bytes)) return 0;
    for (int l = 0; l < WARP_LANES; l++) a->pointer[l] = memory->backing + (a->address[l] - alias);
    a->global = mask;
    return 1;
}

static int resolve_shared(warp *w, const insn *in, uint32_t mask, uint32_t bytes,
                          shared_access kind, lane_access *a)
{
    block *b = w->block;
    const uint32_t checks = b->launch->checks;
    span s = span_of(a->address);
    uint32_t i = 0;
    while (i < b->n_owned && !(s.first >= b->owned[i][0] && s.last + bytes <= b->owned[i][1])) i++;
    if (i == b->n_owned || (s.all_bits & (bytes - 1))) return 0;
    for (int l = 0; l < WARP_LANES; l++) a->pointer[l] = b->shared + a->address[l];
    a->shared = mask;
    if (!(checks & SHARED_CHECKS) || b->shadow == NULL) return 1;
    for (uint32_t m = mask; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        shared_finding found;
        b->shadow->access(b->shadow, kind, (uint32_t)a->address[l], bytes, warp_thread(w, l),
                          w->epoch, &found);
        if (found.checks & checks) access_report_shared(w, in, l, &found);
    }
    return 1;
}

/* The space that a generic address lies in; the address becomes one of that space. */
static ptx_space generic_space(uint64_t *address)
{
    static const struct {
        uint64_t window;
        ptx_space space;
    } windows[] = {
        {GENERIC_SHARED, SPACE_SHARED}, {GENERIC_LOCAL, SPACE_LOCAL}, {GENERIC_PARAM, SPACE_PARAM}};
    for (size_t i = 0; i < sizeof windows / sizeof windows[0]; i++)
        if (*address - windows[i].window < GENERIC_WINDOW) {
            *address -= windows[i].window;
            return windows[i].space;
        }
    return SPACE_GLOBAL;
}

static void resolve_lane(warp *w, const insn *in, int l, ptx_space space, uint32_t bytes,
                         shared_access kind, lane_access *a)
{
    switch (space) {
    case SPACE_SHARED:
        a->pointer[l] = access_shared(w, in, l, a->address[l], bytes, kind);
        a->shared |= 1u << l;
        break;
    case SPACE_LOCAL: a->pointer[l] = local_pointer(w, in, l, a->address[l], bytes); break;
    case SPACE_PARAM: a->pointer[l] = parameter_pointer(w, in, l, a->address[l], bytes); break;
    default:
        a->pointer[l] = access_global(w, in, l, a->address[l], bytes, kind != ACCESS_WRITE,
                                      kind != ACCESS_READ);
        a->global |= 1u << l;
    }
}

void access_resolve(warp *w, const insn *in, uint32_t mask, uint32_t bytes, shared_access kind,
                    lane_access *a)
{
    if (in->space == SPACE_GLOBAL && resolve_global(w, mask, bytes, a)) return;
    if (in->space == SPACE_SHARED && resolve_shared(w, in, mask, bytes, kind, a)) return;
    for (uint32_t m = mask; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        ptx_space space = (ptx_space)in->space;
        if (space == SPACE_GENERIC) space = generic_space(&a->address[l]);
        resolve_lane(w, in, l, space, bytes, kind, a);
    }
}
