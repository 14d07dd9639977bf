/* Loads, stores and atomics. Source: PTX ISA 9.0, sections 9.7.9 and 9.7.13. */
#include <string.h>

#include "kernels/emu/exec_access.h"
#include "kernels/emu/half.h"

static const uint8_t poison[32] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                   0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                   0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

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
    const uint32_t bytes = (uint32_t)in->size * in->count;
    lane_access a;
    access_addresses(w, in, in->r[in->count], in->imm, mask, &a);
    access_resolve(w, in, mask, bytes, ACCESS_READ, &a);
    if (in->size == 4 && in->width == 4) {
        for (uint32_t m = mask; m; m &= m - 1) {
            int l = __builtin_ctz(m);
            const uint8_t *from = a.pointer[l] ? a.pointer[l] : poison;
            for (uint32_t e = 0; e < in->count; e++)
                memcpy(w->regs + in->r[e] + 4 * l, from + 4 * e, 4);
        }
    } else {
        for (uint32_t m = mask; m; m &= m - 1) {
            int l = __builtin_ctz(m);
            const uint8_t *from = a.pointer[l] ? a.pointer[l] : poison;
            for (uint32_t e = 0; e < in->count; e++)
                put_element(w, in, l, e, from + (size_t)in->size * e);
        }
    }
    access_count(w, in, &a, bytes);
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
    lane_access a;
    access_addresses(w, in, in->r[0], in->imm, mask, &a);
    access_resolve(w, in, mask, bytes, ACCESS_WRITE, &a);
    for (uint32_t m = mask; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        uint8_t *to = a.pointer[l];
        if (to == NULL) continue;
        if (in->size == 4 && in->width == 4) {
            for (uint32_t e = 0; e < in->count; e++)
                memcpy(to + 4 * e, w->regs + in->r[1 + e] + 4 * l, 4);
        } else {
            for (uint32_t e = 0; e < in->count; e++)
                get_element(w, in, l, in->r[1 + e], to + (size_t)in->size * e);
        }
    }
    access_count(w, in, &a, bytes);
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
    lane_access a;
    access_addresses(w, in, in->r[1], in->imm, mask, &a);
    access_resolve(w, in, mask, in->size, ACCESS_ATOMIC, &a);
    for (uint32_t m = mask; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        uint64_t x = 0, swap = 0, old = 0;
        uint8_t *at = a.pointer[l];
        if (at == NULL) continue;
        get_element(w, in, l, in->r[2], (uint8_t *)&x);
        if (in->aux == ATOMIC_CAS) get_element(w, in, l, in->r[3], (uint8_t *)&swap);
        memcpy(&old, at, in->size);
        uint64_t next = atomic_result(in->aux, old, x, swap);
        memcpy(at, &next, in->size);
        put_element(w, in, l, 0, (const uint8_t *)&old);
    }
    access_count(w, in, &a, in->size);
}

const exec_function exec_memory_functions[] = {
    [MEMORY_LOAD] = load,
    [MEMORY_LOAD_PARAMETER] = load_parameter,
    [MEMORY_STORE] = store,
    [MEMORY_ATOMIC] = atomic,
    [MEMORY_CP_ASYNC] = exec_cp_async,
    [MEMORY_COMMIT_GROUP] = exec_commit_group,
    [MEMORY_WAIT_GROUP] = exec_wait_group,
    [MEMORY_WAIT_ALL] = exec_wait_all,
    [MEMORY_LDMATRIX] = exec_ldmatrix,
    [MEMORY_STMATRIX] = exec_stmatrix,
    [MEMORY_PRINT] = exec_print,
    [MEMORY_ASSERT] = exec_assert,
};
