/* Warp-synchronous instructions: shuffles, votes, match, redux, movmatrix, bar.warp.sync. The
 * scheduler calls them with exactly the lanes that take part. Source: PTX ISA 9.0, 9.7.9.6,
 * 9.7.13. */
#include <string.h>

#include "kernels/emu/exec.h"

static inline void set_predicate(warp *w, uint32_t place, uint32_t mask, uint32_t bits)
{
    uint32_t *p = ROW(uint32_t, place);
    *p = (*p & ~mask) | (bits & mask);
}

static inline uint32_t predicate(const warp *w, uint32_t place)
{
    return *(const uint32_t *)(const void *)(w->regs + place);
}

/* r: d, p, a, b, c, membermask. Modes as in the ISA's pseudocode. */
typedef enum shuffle_mode { SHUFFLE_UP, SHUFFLE_DOWN, SHUFFLE_BFLY, SHUFFLE_IDX } shuffle_mode;

static inline void shuffle(warp *w, const insn *in, uint32_t mask, shuffle_mode mode)
{
    uint32_t source[WARP_LANES], out[WARP_LANES], inside = 0;
    memcpy(source, ROW(uint32_t, in->r[2]), sizeof source);
    const uint32_t *b = ROW(uint32_t, in->r[3]), *c = ROW(uint32_t, in->r[4]);
    for (int l = 0; l < WARP_LANES; l++) {
        out[l] = 0;
        if (!(mask >> l & 1)) continue;
        int32_t lane = l, delta = (int32_t)(b[l] & 31), clamp = (int32_t)(c[l] & 31);
        int32_t segment = (int32_t)(c[l] >> 8 & 31);
        int32_t most = (lane & segment) | (clamp & ~segment), least = lane & segment, from;
        int ok;
        switch (mode) {
        case SHUFFLE_UP:
            from = lane - delta;
            ok = from >= most;
            break;
        case SHUFFLE_DOWN:
            from = lane + delta;
            ok = from <= most;
            break;
        case SHUFFLE_BFLY:
            from = lane ^ delta;
            ok = from <= most;
            break;
        default: from = least | (delta & ~segment); ok = from <= most;
        }
        if (!ok) from = lane;
        if (!(mask >> from & 1) && (w->block->launch->checks & EMU_CHECK_WARP_SYNC))
            exec_report(w, in, l, EMU_CHECK_WARP_SYNC, 0, UINT32_MAX,
                        "shuffle reads lane %d, which does not take part", from);
        out[l] = mask >> from & 1 ? source[from] : 0xffffffffu;
        inside |= (uint32_t)ok << l;
    }
    uint32_t *d = ROW(uint32_t, in->r[0]);
    for (int l = 0; l < WARP_LANES; l++)
        if (mask >> l & 1) d[l] = out[l];
    set_predicate(w, in->r[1], mask, inside);
}
#define SHUFFLE(name, mode)                                                                        \
    static void name(warp *w, const insn *in, uint32_t mask)                                       \
    {                                                                                              \
        shuffle(w, in, mask, mode);                                                                \
    }
SHUFFLE(shuffle_up, SHUFFLE_UP)
SHUFFLE(shuffle_down, SHUFFLE_DOWN)
SHUFFLE(shuffle_bfly, SHUFFLE_BFLY)
SHUFFLE(shuffle_idx, SHUFFLE_IDX)

#define VOTE(name, expression)                                                                     \
    static void name(warp *w, const insn *in, uint32_t mask)                                       \
    {                                                                                              \
        uint32_t p = predicate(w, in->r[1]) & mask;                                                \
        set_predicate(w, in->r[0], mask, (expression) ? ~0u : 0);                                  \
    }
VOTE(vote_all, p == mask)
VOTE(vote_any, p != 0)
VOTE(vote_uni, p == 0 || p == mask)

static void store_all(warp *w, uint32_t place, uint32_t mask, uint32_t value)
{
    uint32_t *d = ROW(uint32_t, place);
    for (int l = 0; l < WARP_LANES; l++)
        if (mask >> l & 1) d[l] = value;
}
static void vote_ballot(warp *w, const insn *in, uint32_t mask)
{
    store_all(w, in->r[0], mask, predicate(w, in->r[1]) & mask);
}
static void active_mask(warp *w, const insn *in, uint32_t mask)
{
    store_all(w, in->r[0], mask, mask);
}
/* elect.sync d|p, membermask: the lowest lane is the leader. */
static void elect(warp *w, const insn *in, uint32_t mask)
{
    uint32_t leader = mask & (0 - mask);
    store_all(w, in->r[0], mask, (uint32_t)__builtin_ctz(mask));
    set_predicate(w, in->r[1], mask, leader);
}

#define MATCH(name, U)                                                                             \
    static void name##_any(warp *w, const insn *in, uint32_t mask)                                 \
    {                                                                                              \
        U a[WARP_LANES];                                                                           \
        memcpy(a, ROW(U, in->r[1]), sizeof a);                                                     \
        uint32_t *d = ROW(uint32_t, in->r[0]);                                                     \
        for (int l = 0; l < WARP_LANES; l++) {                                                     \
            if (!(mask >> l & 1)) continue;                                                        \
            uint32_t same = 0;                                                                     \
            for (int k = 0; k < WARP_LANES; k++) same |= (uint32_t)(a[k] == a[l]) << k;            \
            d[l] = same & mask;                                                                    \
        }                                                                                          \
    }                                                                                              \
    static void name##_all(warp *w, const insn *in, uint32_t mask)                                 \
    {                                                                                              \
        const U *a = ROW(U, in->r[2]);                                                             \
        int first = __builtin_ctz(mask), same = 1;                                                 \
        for (int l = 0; l < WARP_LANES; l++)                                                       \
            if (mask >> l & 1) same &= a[l] == a[first];                                           \
        store_all(w, in->r[0], mask, same ? mask : 0);                                             \
        set_predicate(w, in->r[1], mask, same ? ~0u : 0);                                          \
    }
MATCH(match32, uint32_t)
MATCH(match64, uint64_t)

#define REDUX(name, T, initial, expression)                                                        \
    static void name(warp *w, const insn *in, uint32_t mask)                                       \
    {                                                                                              \
        const T *a = ROW(T, in->r[1]);                                                             \
        T sum = initial;                                                                           \
        for (int l = 0; l < WARP_LANES; l++)                                                       \
            if (mask >> l & 1) sum = expression;                                                   \
        store_all(w, in->r[0], mask, (uint32_t)sum);                                               \
    }
REDUX(redux_add, uint32_t, 0, sum + a[l])
REDUX(redux_min_u, uint32_t, UINT32_MAX, a[l] < sum ? a[l] : sum)
REDUX(redux_max_u, uint32_t, 0, a[l] > sum ? a[l] : sum)
REDUX(redux_min_s, int32_t, INT32_MAX, a[l] < sum ? a[l] : sum)
REDUX(redux_max_s, int32_t, INT32_MIN, a[l] > sum ? a[l] : sum)
REDUX(redux_and, uint32_t, UINT32_MAX, sum &a[l])
REDUX(redux_or, uint32_t, 0, sum | a[l])
REDUX(redux_xor, uint32_t, 0, sum ^ a[l])

/* The 8 x 8 matrix that ldmatrix would have given, transposed. */
static void movmatrix(warp *w, const insn *in, uint32_t mask)
{
    (void)mask;
    uint16_t matrix[8][8];
    const uint32_t *s = ROW(uint32_t, in->r[1]);
    for (int l = 0; l < WARP_LANES; l++) {
        matrix[l >> 2][2 * (l & 3)] = (uint16_t)s[l];
        matrix[l >> 2][2 * (l & 3) + 1] = (uint16_t)(s[l] >> 16);
    }
    uint32_t *d = ROW(uint32_t, in->r[0]);
    for (int l = 0; l < WARP_LANES; l++)
        d[l] = matrix[2 * (l & 3)][l >> 2] | (uint32_t)matrix[2 * (l & 3) + 1][l >> 2] << 16;
}

static void warp_barrier(warp *w, const insn *in, uint32_t mask)
{
    (void)in;
    (void)mask;
    if (w->epoch == LAST_WARP_EPOCH) {
        if (w->block->shadow != NULL) shared_shadow_age_warp(w->block->shadow, w->index);
        w->epoch = 0;
    }
    w->epoch++;
}

/* The member mask is always the last operand. */
#define SYNC(name, signature, function)                                                            \
    {name, signature, function, KIND_SYNC_MASK, CLASS_SHUFFLE, 0},

/* clang-format off */
static const op_row rows[] = {
    SYNC("shfl.sync.up.b32", "wP:wwww", shuffle_up)
    SYNC("shfl.sync.down.b32", "wP:wwww", shuffle_down)
    SYNC("shfl.sync.bfly.b32", "wP:wwww", shuffle_bfly)
    SYNC("shfl.sync.idx.b32", "wP:wwww", shuffle_idx)
    SYNC( "vote.sync.all.pred", "p:pw", vote_all)
    SYNC("vote.sync.any.pred", "p:pw", vote_any)
    SYNC("vote.sync.uni.pred", "p:pw", vote_uni)
    SYNC("vote.sync.ballot.b32", "w:pw", vote_ballot)
    SYNC("match.any.sync.b32", "w:ww", match32_any)
    SYNC("match.any.sync.b64", "w:dw", match64_any)
    SYNC("match.all.sync.b32", "wP:ww", match32_all)
    SYNC("match.all.sync.b64", "wP:dw", match64_all)
    SYNC("elect.sync", "wP:w", elect)
    SYNC("redux.sync.add.u32", "w:ww", redux_add)
    SYNC("redux.sync.add.s32", "w:ww", redux_add)
    SYNC("redux.sync.min.u32", "w:ww", redux_min_u)
    SYNC("redux.sync.max.u32", "w:ww", redux_max_u)
    SYNC("redux.sync.min.s32", "w:ww", redux_min_s)
    SYNC("redux.sync.max.s32", "w:ww", redux_max_s)
    SYNC("redux.sync.and.b32", "w:ww", redux_and)
    SYNC("redux.sync.or.b32", "w:ww", redux_or)
    SYNC("redux.sync.xor.b32", "w:ww", redux_xor)
    { "bar.warp.sync", ":w", warp_barrier, KIND_SYNC_MASK, CLASS_BARRIER, 0},
    {"activemask.b32", "w:", active_mask, KIND_PLAIN, CLASS_SHUFFLE, 0},
    {"movmatrix.sync.aligned.m8n8.trans.b16", "w:w", movmatrix, KIND_SYNC_ALL, CLASS_SHUFFLE, 0},
};
/* clang-format on */

extern const op_table emu_warp_ops;
const op_table emu_warp_ops = {rows, sizeof rows / sizeof rows[0]};
