/* Loads, stores, atomics, cp.async and ldmatrix: every address is resolved to a host pointer by the
 * rules of its space, checked on the way, and counted.
 *
 * cp.async: the destination is filled with 0xFF when the copy is issued and written when the thread
 * waits for its group, which is as late as the hardware may be. Source: PTX ISA 9.0, 9.7.9. */
#include <string.h>

#include "kernels/emu/exec.h"
#include "kernels/emu/half.h"
#include "memory.h"

/* ---- counting ---------------------------------------------------------------------------------
 */

typedef struct request {
    uint64_t address[WARP_LANES];
    uint32_t mask;
} request;

static insn_count *count_of(warp *w, const insn *in)
{
    block *b = w->block;
    return &b->counts[in - b->launch->function->code];
}

static void count_sectors(warp *w, const insn *in, const request *q, uint32_t bytes)
{
    /* 32-byte sectors; nearly always all of them lie within 64 of each other. */
    uint64_t first = UINT64_MAX, last = 0;
    for (uint32_t m = q->mask; m; m &= m - 1) {
        uint64_t a = q->address[__builtin_ctz(m)];
        if (a < first) first = a;
        if (a > last) last = a;
    }
    insn_count *count = count_of(w, in);
    first /= 32;
    if ((last + bytes - 1) / 32 - first < 64) {
        uint64_t seen = 0;
        for (uint32_t m = q->mask; m; m &= m - 1) {
            uint64_t a = q->address[__builtin_ctz(m)];
            for (uint64_t s = a / 32; s <= (a + bytes - 1) / 32; s++)
                seen |= UINT64_C(1) << (s - first);
        }
        count->amount += (uint64_t)__builtin_popcountll(seen);
        return;
    }
    uint64_t sectors[2 * WARP_LANES];
    uint32_t n = 0;
    for (uint32_t m = q->mask; m; m &= m - 1) {
        uint64_t a = q->address[__builtin_ctz(m)];
        for (uint64_t s = a / 32; s <= (a + bytes - 1) / 32; s++) {
            uint32_t i = 0;
            while (i < n && sectors[i] != s) i++;
            if (i == n && n < 2 * WARP_LANES) sectors[n++] = s;
        }
    }
    count->amount += n;
}

/* Wavefronts beyond the first of each group of lanes: 32 lanes of up to 4 bytes, 16 of 8, 8 of 16.
 */
static uint32_t extra_wavefronts(const request *q, uint32_t bytes, uint32_t from, uint32_t to)
{
    uint32_t words[32][8], n[32] = {0};
    uint32_t most = 1;
    uint32_t per_lane = bytes > 4 ? bytes / 4 : 1;
    for (uint32_t l = from; l < to; l++) {
        if (!(q->mask >> l & 1)) continue;
        for (uint32_t e = 0; e < per_lane; e++) {
            uint32_t word = (uint32_t)(q->address[l] / 4) + e, bank = word & 31, i = 0;
            uint32_t kept = n[bank] < 8 ? n[bank] : 8;
            while (i < kept && words[bank][i] != word) i++;
            if (i < kept) continue;
            if (n[bank] < 8) words[bank][n[bank]] = word;
            if (++n[bank] > most) most = n[bank];
        }
    }
    return most - 1;
}

static void count_wavefronts(warp *w, const insn *in, const request *q, uint32_t bytes)
{
    uint32_t lanes = bytes <= 4 ? 32 : bytes == 8 ? 16 : 8;
    uint32_t extra = 0;
    for (uint32_t from = 0; from < WARP_LANES; from += lanes)
        extra += extra_wavefronts(q, bytes, from, from + lanes);
    count_of(w, in)->amount += extra;
}

/* ---- addresses --------------------------------------------------------------------------------
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

static uint8_t *global_pointer(warp *w, const insn *in, int lane, uint64_t address, uint32_t bytes,
                               int reads, int writes)
{
    block *b = w->block;
    const launch *grid = b->launch;
    device *memory = grid->memory;
    if (bytes == 0) return NULL;
    if (!(b->last.bytes >= bytes && address - b->last.base <= b->last.bytes - bytes)) {
        address = device_canonical(memory, address);
        const allocation *a = device_find(memory, address);
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
    uint8_t *state = device_shadow(memory, address);
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
    return device_bytes(memory, address);
}

static void report_shared(warp *w, const insn *in, int lane, const shared_finding *found)
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

static uint8_t *shared_pointer(warp *w, const insn *in, int lane, uint64_t address, uint32_t bytes,
                               shared_access access)
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
        shared_shadow_access(b->shadow, access, (uint32_t)address, bytes, warp_thread(w, lane),
                             w->epoch, &found);
        if (found.checks & checks) report_shared(w, in, lane, &found);
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

static inline uint64_t lane_address(const warp *w, const insn *in, uint32_t place, int lane)
{
    uint64_t base = in->flags & INSN_ADDRESS32
                        ? ((const uint32_t *)(const void *)(w->regs + place))[lane]
                        : ((const uint64_t *)(const void *)(w->regs + place))[lane];
    return base + (uint64_t)in->imm;
}

/* Which space an address is in, and the address within it. */
static ptx_space space_of(const insn *in, uint64_t *address)
{
    if (in->space != SPACE_GENERIC) return (ptx_space)in->space;
    if (*address - GENERIC_SHARED < GENERIC_WINDOW) {
        *address -= GENERIC_SHARED;
        return SPACE_SHARED;
    }
    if (*address - GENERIC_LOCAL < GENERIC_WINDOW) {
        *address -= GENERIC_LOCAL;
        return SPACE_LOCAL;
    }
    if (*address - GENERIC_PARAM < GENERIC_WINDOW) {
        *address -= GENERIC_PARAM;
        return SPACE_PARAM;
    }
    return SPACE_GLOBAL;
}

static uint8_t *resolve(warp *w, const insn *in, int lane, ptx_space space, uint64_t address,
                        uint32_t bytes, shared_access access)
{
    switch (space) {
    case SPACE_SHARED: return shared_pointer(w, in, lane, address, bytes, access);
    case SPACE_LOCAL: return local_pointer(w, in, lane, address, bytes);
    case SPACE_PARAM: return parameter_pointer(w, in, lane, address, bytes);
    default:
        return global_pointer(w, in, lane, address, bytes, access != ACCESS_WRITE,
                              access != ACCESS_READ);
    }
}

/* Counters of the lanes that went to global and to shared memory. */
typedef struct traffic {
    request global, shared;
} traffic;

static inline void note(traffic *t, ptx_space space, int lane, uint64_t address)
{
    request *q = space == SPACE_SHARED ? &t->shared : &t->global;
    if (space != SPACE_SHARED && space != SPACE_GLOBAL) return;
    q->address[lane] = address;
    q->mask |= 1u << lane;
}

static void count_traffic(warp *w, const insn *in, traffic *t, uint32_t bytes)
{
    insn_count *count = count_of(w, in);
    count->bytes += (uint64_t)bytes * (uint64_t)(__builtin_popcount(t->global.mask) +
                                                 __builtin_popcount(t->shared.mask));
    if (!w->block->launch->count_memory) return;
    if (t->global.mask) count_sectors(w, in, &t->global, bytes);
    if (t->shared.mask) count_wavefronts(w, in, &t->shared, bytes);
}

/* ---- ld, st -----------------------------------------------------------------------------------
 */

static inline void put_element(warp *w, const insn *in, int lane, uint32_t element,
                               const uint8_t *from)
{
    uint8_t *row = w->regs + in->r[element];
    uint64_t value = 0;
    switch (in->size) {
    case 1: value = in->flags & INSN_SIGNED ? (uint64_t)(int64_t)(int8_t)from[0] : from[0]; break;
    case 2: {
        uint16_t x;
        memcpy(&x, from, 2);
        value = in->flags & INSN_SIGNED ? (uint64_t)(int64_t)(int16_t)x : x;
        break;
    }
    case 4: {
        uint32_t x;
        memcpy(&x, from, 4);
        value = in->flags & INSN_SIGNED ? (uint64_t)(int64_t)(int32_t)x : x;
        break;
    }
    default: memcpy(&value, from, 8);
    }
    switch (in->width) {
    case 2: ((uint16_t *)(void *)row)[lane] = (uint16_t)value; break;
    case 4: ((uint32_t *)(void *)row)[lane] = (uint32_t)value; break;
    default: ((uint64_t *)(void *)row)[lane] = value;
    }
}

static inline void get_element(const warp *w, const insn *in, int lane, uint32_t place, uint8_t *to)
{
    const uint8_t *row = w->regs + place;
    uint64_t value = in->width == 2   ? ((const uint16_t *)(const void *)row)[lane]
                     : in->width == 4 ? ((const uint32_t *)(const void *)row)[lane]
                                      : ((const uint64_t *)(const void *)row)[lane];
    memcpy(to, &value, in->size);
}

static void load(warp *w, const insn *in, uint32_t mask)
{
    static const uint8_t poison[32] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                       0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                       0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                       0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    const uint32_t bytes = (uint32_t)in->size * in->count;
    const uint32_t place = in->r[in->count];
    traffic t;
    t.global.mask = t.shared.mask = 0;
    /* The addresses first: a destination may be the address register. */
    uint64_t addresses[WARP_LANES];
    for (uint32_t m = mask; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        addresses[l] = lane_address(w, in, place, l);
    }
    for (uint32_t m = mask; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        uint64_t address = addresses[l];
        ptx_space space = space_of(in, &address);
        const uint8_t *from = resolve(w, in, l, space, address, bytes, ACCESS_READ);
        note(&t, space, l, address);
        if (from == NULL) from = poison;
        if (in->size == 4 && in->width == 4) {
            for (uint32_t e = 0; e < in->count; e++)
                memcpy(w->regs + in->r[e] + 4 * l, from + 4 * e, 4);
        } else {
            for (uint32_t e = 0; e < in->count; e++)
                put_element(w, in, l, e, from + (size_t)in->size * e);
        }
    }
    count_traffic(w, in, &t, bytes);
}

/* Kernel parameters at an address known when the code was read: the same for all lanes. */
static void load_parameter(warp *w, const insn *in, uint32_t mask)
{
    const uint8_t *from = w->block->launch->arguments + in->imm;
    for (uint32_t e = 0; e < in->count; e++)
        for (int l = 0; l < WARP_LANES; l++)
            if (mask >> l & 1) put_element(w, in, l, e, from + (size_t)in->size * e);
}

/* r[0] is the address, r[1].. the data. Lanes store in order: of two lanes that write one address
 * in one instruction the last one wins here; on a GPU, either. */
static void store(warp *w, const insn *in, uint32_t mask)
{
    const uint32_t bytes = (uint32_t)in->size * in->count;
    traffic t;
    t.global.mask = t.shared.mask = 0;
    for (uint32_t m = mask; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        uint8_t data[32];
        for (uint32_t e = 0; e < in->count; e++)
            get_element(w, in, l, in->r[1 + e], data + (size_t)in->size * e);
        uint64_t address = lane_address(w, in, in->r[0], l);
        ptx_space space = space_of(in, &address);
        uint8_t *to = resolve(w, in, l, space, address, bytes, ACCESS_WRITE);
        note(&t, space, l, address);
        if (to != NULL) memcpy(to, data, bytes);
    }
    count_traffic(w, in, &t, bytes);
}

/* ---- atomics ----------------------------------------------------------------------------------
 */

static uint16_t half_sum(uint16_t a, uint16_t b, int is_bf16)
{
    return is_bf16 ? float_to_bf16(bf16_to_float(a) + bf16_to_float(b))
                   : float_to_half(half_to_float(a) + half_to_float(b));
}

static uint64_t atomic_result(uint32_t operation, uint64_t old, uint64_t x, uint64_t swap)
{
    switch (operation) {
    case ATOMIC_ADD: return old + x;
    case ATOMIC_MIN_U: return x < old ? x : old;
    case ATOMIC_MAX_U: return x > old ? x : old;
    case ATOMIC_MIN_S32: return (int32_t)x < (int32_t)old ? x : old;
    case ATOMIC_MAX_S32: return (int32_t)x > (int32_t)old ? x : old;
    case ATOMIC_MIN_S64: return (int64_t)x < (int64_t)old ? x : old;
    case ATOMIC_MAX_S64: return (int64_t)x > (int64_t)old ? x : old;
    case ATOMIC_AND: return old & x;
    case ATOMIC_OR: return old | x;
    case ATOMIC_XOR: return old ^ x;
    case ATOMIC_EXCH: return x;
    case ATOMIC_CAS: return old == x ? swap : old;
    case ATOMIC_INC: return old >= x ? 0 : old + 1;
    case ATOMIC_DEC: return old == 0 || old > x ? x : old - 1;
    case ATOMIC_ADD_F32: {
        float a, b;
        uint32_t bits = (uint32_t)old;
        memcpy(&a, &bits, 4);
        bits = (uint32_t)x;
        memcpy(&b, &bits, 4);
        a += b;
        memcpy(&bits, &a, 4);
        return bits;
    }
    case ATOMIC_ADD_F64: {
        double a, b;
        memcpy(&a, &old, 8);
        memcpy(&b, &x, 8);
        a += b;
        memcpy(&old, &a, 8);
        return old;
    }
    case ATOMIC_ADD_F16:
    case ATOMIC_ADD_BF16: return half_sum((uint16_t)old, (uint16_t)x, operation == ATOMIC_ADD_BF16);
    default: /* ATOMIC_ADD_F16X2, ATOMIC_ADD_BF16X2 */
        return half_sum((uint16_t)old, (uint16_t)x, operation == ATOMIC_ADD_BF16X2) |
               (uint64_t)half_sum((uint16_t)(old >> 16), (uint16_t)(x >> 16),
                                  operation == ATOMIC_ADD_BF16X2)
                   << 16;
    }
}

/* r[0] old value (a sink for red), r[1] address, r[2] operand, r[3] the new value of cas. */
static void atomic(warp *w, const insn *in, uint32_t mask)
{
    traffic t;
    t.global.mask = t.shared.mask = 0;
    for (uint32_t m = mask; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        uint64_t x = 0, swap = 0, old = 0;
        get_element(w, in, l, in->r[2], (uint8_t *)&x);
        if (in->aux == ATOMIC_CAS) get_element(w, in, l, in->r[3], (uint8_t *)&swap);
        uint64_t address = lane_address(w, in, in->r[1], l);
        ptx_space space = space_of(in, &address);
        uint8_t *at = resolve(w, in, l, space, address, in->size, ACCESS_ATOMIC);
        note(&t, space, l, address);
        if (at == NULL) continue;
        memcpy(&old, at, in->size);
        uint64_t next = atomic_result(in->aux, old, x, swap);
        memcpy(at, &next, in->size);
        put_element(w, in, l, 0, (const uint8_t *)&old);
    }
    count_traffic(w, in, &t, in->size);
}

/* ---- cp.async ---------------------------------------------------------------------------------
 */

/* r[0] shared address + imm, r[1] global address + aux, r[2] source bytes with INSN_ZERO_FILL. */
static void cp_async(warp *w, const insn *in, uint32_t mask)
{
    if (w->n_copies == w->copy_capacity) {
        uint32_t capacity = w->copy_capacity ? w->copy_capacity * 2 : 64;
        async_copy *bigger = mem_resize(w->copies, capacity, sizeof *bigger);
        if (bigger == NULL) {
            w->block->trapped = TRAPPED_BY_MEMORY;
            return;
        }
        w->copies = bigger;
        w->copy_capacity = capacity;
    }
    async_copy *c = &w->copies[w->n_copies++];
    c->in = in;
    c->mask = 0;
    traffic t;
    t.global.mask = t.shared.mask = 0;
    uint64_t read_bytes = 0;
    for (uint32_t m = mask; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        uint64_t to = in->flags & INSN_ADDRESS32
                          ? ((const uint32_t *)(const void *)(w->regs + in->r[0]))[l]
                          : ((const uint64_t *)(const void *)(w->regs + in->r[0]))[l];
        to += (uint64_t)in->imm;
        uint64_t from = ((const uint64_t *)(const void *)(w->regs + in->r[1]))[l] +
                        (uint64_t)(int64_t)(int32_t)in->aux;
        uint32_t bytes = in->size;
        if (in->flags & INSN_ZERO_FILL) {
            bytes = ((const uint32_t *)(const void *)(w->regs + in->r[2]))[l];
            if (bytes > in->size) bytes = in->size; /* undefined; ptxas does not catch it */
        }
        if ((from & (in->size - 1u)) != 0 && (w->block->launch->checks & EMU_CHECK_GLOBAL_ALIGN))
            exec_report(w, in, l, EMU_CHECK_GLOBAL_ALIGN, from, UINT32_MAX,
                        "cp.async of %u bytes from a misaligned address", in->size);
        /* A partial copy need not be a power of two long: look at its pieces. */
        const uint8_t *source = NULL;
        int readable = 1;
        uint64_t at = from;
        for (uint32_t left = bytes; left;) {
            uint32_t piece = 1u << (31 - __builtin_clz(left));
            const uint8_t *p = global_pointer(w, in, l, at, piece, 1, 0);
            if (p == NULL) readable = 0;
            if (source == NULL) source = p;
            at += piece;
            left -= piece;
        }
        uint8_t *destination = shared_pointer(w, in, l, to, in->size, ACCESS_ASYNC_ISSUE);
        if (destination == NULL) continue;
        memset(destination, 0xff, in->size);
        c->mask |= 1u << l;
        c->destination[l] = (uint32_t)to;
        c->source[l] = (uint64_t)(uintptr_t)(readable ? source : NULL);
        c->bytes[l] = bytes;
        c->group[l] = w->groups[l];
        read_bytes += bytes;
        if (bytes) note(&t, SPACE_GLOBAL, l, from);
        note(&t, SPACE_SHARED, l, to);
    }
    insn_count *count = count_of(w, in);
    count->bytes += read_bytes;
    if (w->block->launch->count_memory) {
        if (t.global.mask) count_sectors(w, in, &t.global, in->size);
        uint64_t sectors = count->amount;
        if (t.shared.mask) count_wavefronts(w, in, &t.shared, in->size);
        count->extra += count->amount - sectors;
        count->amount = sectors;
    }
    if (c->mask == 0) w->n_copies--;
}

void async_commit(warp *w, uint32_t mask)
{
    for (uint32_t m = mask; m; m &= m - 1) w->groups[__builtin_ctz(m)]++;
}

void async_finish(warp *w, uint32_t mask, const uint32_t *limit)
{
    uint32_t kept = 0;
    block *b = w->block;
    for (uint32_t i = 0; i < w->n_copies; i++) {
        async_copy *c = &w->copies[i];
        for (uint32_t m = c->mask & mask; m; m &= m - 1) {
            int l = __builtin_ctz(m);
            if (c->group[l] >= limit[l]) continue;
            uint8_t *to = b->shared + c->destination[l];
            const uint8_t *from = (const uint8_t *)(uintptr_t)c->source[l];
            if (from != NULL) memcpy(to, from, c->bytes[l]);
            memset(to + c->bytes[l], 0, c->in->size - c->bytes[l]);
            if (b->shadow != NULL) {
                shared_finding found;
                shared_shadow_access(b->shadow, ACCESS_ASYNC_DONE, c->destination[l], c->in->size,
                                     warp_thread(w, l), w->epoch, &found);
                if (found.checks & b->launch->checks & EMU_CHECK_SHARED_RACE)
                    report_shared(w, c->in, l, &found);
            }
            c->mask &= ~(1u << l);
        }
        if (c->mask) {
            if (kept != i) w->copies[kept] = *c;
            kept++;
        }
    }
    w->n_copies = kept;
}

void async_exit(warp *w, const insn *in, uint32_t mask)
{
    uint32_t open = 0;
    for (uint32_t i = 0; i < w->n_copies; i++) open |= w->copies[i].mask & mask;
    if (open && (w->block->launch->checks & EMU_CHECK_ASYNC_EXIT))
        exec_report(w, in, __builtin_ctz(open), EMU_CHECK_ASYNC_EXIT, 0, UINT32_MAX,
                    "thread exits with cp.async copies in flight");
    for (uint32_t i = 0; i < w->n_copies; i++) w->copies[i].mask &= ~mask;
}

static void commit_group(warp *w, const insn *in, uint32_t mask)
{
    (void)in;
    async_commit(w, mask);
}

static void wait_group(warp *w, const insn *in, uint32_t mask)
{
    uint32_t limit[WARP_LANES];
    for (int l = 0; l < WARP_LANES; l++)
        limit[l] = w->groups[l] > in->aux ? w->groups[l] - in->aux : 0;
    async_finish(w, mask, limit);
}

static void wait_all(warp *w, const insn *in, uint32_t mask)
{
    (void)in;
    uint32_t limit[WARP_LANES];
    for (int l = 0; l < WARP_LANES; l++) limit[l] = UINT32_MAX;
    async_finish(w, mask, limit);
}

/* ---- ldmatrix, stmatrix -----------------------------------------------------------------------
 */

/* Matrix i takes the addresses of its eight 16-byte rows from lanes 8 i .. 8 i + 7. Lane l receives
 * elements 2 (l & 3) and the next of row l >> 2; with .trans, of column l >> 2. */
static void ldmatrix(warp *w, const insn *in, uint32_t mask)
{
    (void)mask;
    uint16_t matrices[4][8][8];
    request q;
    q.mask = 0;
    for (int i = 0; i < in->count; i++)
        for (int row = 0; row < 8; row++) {
            int l = 8 * i + row;
            uint64_t address = lane_address(w, in, in->r[in->count], l);
            ptx_space space = space_of(in, &address);
            const uint8_t *from = NULL;
            if (space == SPACE_SHARED) {
                from = shared_pointer(w, in, l, address, 16, ACCESS_READ);
                q.address[l] = address;
                q.mask |= 1u << l;
            } else if (w->block->launch->checks & EMU_CHECK_SHARED_BOUNDS) {
                exec_report(w, in, l, EMU_CHECK_SHARED_BOUNDS, address, UINT32_MAX,
                            "ldmatrix address is not in shared memory");
            }
            if (from != NULL)
                memcpy(matrices[i][row], from, 16);
            else
                memset(matrices[i][row], 0xff, 16);
        }
    for (int i = 0; i < in->count; i++) {
        uint32_t *d = ROW(uint32_t, in->r[i]);
        for (int l = 0; l < WARP_LANES; l++) {
            int g = l >> 2, t = 2 * (l & 3);
            d[l] = in->flags & INSN_TRANS
                       ? matrices[i][t][g] | (uint32_t)matrices[i][t + 1][g] << 16
                       : matrices[i][g][t] | (uint32_t)matrices[i][g][t + 1] << 16;
        }
    }
    count_of(w, in)->bytes += 128u * in->count;
    if (w->block->launch->count_memory) count_wavefronts(w, in, &q, 16);
}

/* The reverse: r[0] address, r[1].. fragments. */
static void stmatrix(warp *w, const insn *in, uint32_t mask)
{
    (void)mask;
    uint16_t matrices[4][8][8];
    request q;
    q.mask = 0;
    for (int i = 0; i < in->count; i++) {
        const uint32_t *s = ROW(uint32_t, in->r[1 + i]);
        for (int l = 0; l < WARP_LANES; l++) {
            int g = l >> 2, t = 2 * (l & 3);
            if (in->flags & INSN_TRANS) {
                matrices[i][t][g] = (uint16_t)s[l];
                matrices[i][t + 1][g] = (uint16_t)(s[l] >> 16);
            } else {
                matrices[i][g][t] = (uint16_t)s[l];
                matrices[i][g][t + 1] = (uint16_t)(s[l] >> 16);
            }
        }
    }
    for (int i = 0; i < in->count; i++)
        for (int row = 0; row < 8; row++) {
            int l = 8 * i + row;
            uint64_t address = lane_address(w, in, in->r[0], l);
            ptx_space space = space_of(in, &address);
            uint8_t *to = NULL;
            if (space == SPACE_SHARED) {
                to = shared_pointer(w, in, l, address, 16, ACCESS_WRITE);
                q.address[l] = address;
                q.mask |= 1u << l;
            }
            if (to != NULL) memcpy(to, matrices[i][row], 16);
        }
    count_of(w, in)->bytes += 128u * in->count;
    if (w->block->launch->count_memory) count_wavefronts(w, in, &q, 16);
}

const exec_function exec_memory_functions[] = {
    [MEMORY_LOAD] = load,
    [MEMORY_LOAD_PARAMETER] = load_parameter,
    [MEMORY_STORE] = store,
    [MEMORY_ATOMIC] = atomic,
    [MEMORY_CP_ASYNC] = cp_async,
    [MEMORY_COMMIT_GROUP] = commit_group,
    [MEMORY_WAIT_GROUP] = wait_group,
    [MEMORY_WAIT_ALL] = wait_all,
    [MEMORY_LDMATRIX] = ldmatrix,
    [MEMORY_STMATRIX] = stmatrix,
    [MEMORY_PRINT] = exec_print,
    [MEMORY_ASSERT] = exec_assert,
};
