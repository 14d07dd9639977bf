/* cp.async and the matrix loads and stores of shared memory.
 *
 * cp.async: the destination is filled with 0xFF when the copy is issued and written when the thread
 * waits for its group, which is as late as the hardware may be. Source: PTX ISA 9.0, 9.7.9.25,
 * 9.7.15.5.15. */
#include <string.h>

#include "kernels/emu/exec_access.h"
#include "memory.h"

/* ---- cp.async ---------------------------------------------------------------------------------
 */

/* Whether `bytes` bytes (any number) can be read at a global address; the host pointer. */
static const uint8_t *read_pieces(warp *w, const insn *in, int lane, uint64_t address,
                                  uint32_t bytes)
{
    const uint8_t *first = NULL;
    int readable = 1;
    while (bytes) {
        uint32_t piece = 1u << (31 - __builtin_clz(bytes));
        const uint8_t *p = access_global(w, in, lane, address, piece, 1, 0);
        if (p == NULL) readable = 0;
        if (first == NULL) first = p;
        address += piece;
        bytes -= piece;
    }
    return readable ? first : NULL;
}

/* r[0] shared address + imm, r[1] global address + aux, r[2] source bytes with INSN_ZERO_FILL. */
void exec_cp_async(warp *w, const insn *in, uint32_t mask)
{
    block *b = w->block;
    if (w->n_copies == w->copy_capacity) {
        uint32_t capacity = w->copy_capacity ? w->copy_capacity * 2 : 64;
        async_copy *bigger = mem_resize(w->copies, capacity, sizeof *bigger);
        if (bigger == NULL) {
            b->trapped = TRAPPED_BY_MEMORY;
            return;
        }
        w->copies = bigger;
        w->copy_capacity = capacity;
    }
    lane_access to, from;
    access_addresses(w, in, in->r[0], in->imm, mask, &to);
    insn source = *in; /* the other side's address form */
    source.flags &= (uint8_t)~INSN_ADDRESS32;
    source.space = SPACE_GLOBAL;
    access_addresses(w, &source, in->r[1], (int64_t)(int32_t)in->aux, mask, &from);
    uint32_t bytes[WARP_LANES], whole = 0;
    for (int l = 0; l < WARP_LANES; l++) bytes[l] = in->size;
    if (in->flags & INSN_ZERO_FILL) {
        const uint32_t *row = ROW(uint32_t, in->r[2]);
        for (int l = 0; l < WARP_LANES; l++) /* more than the size is undefined */
            bytes[l] = row[l] < in->size ? row[l] : in->size;
    }
    for (int l = 0; l < WARP_LANES; l++) whole |= (uint32_t)(bytes[l] == in->size) << l;
    whole &= mask;
    uint32_t moved = lane_count(whole) * in->size;
    if (whole == mask) {
        access_resolve(w, &source, mask, in->size, ACCESS_READ, &from);
    } else {
        for (uint32_t m = mask; m; m &= m - 1) {
            int l = __builtin_ctz(m);
            if ((from.address[l] & (in->size - 1u)) != 0 &&
                (b->launch->checks & EMU_CHECK_GLOBAL_ALIGN))
                exec_report(w, in, l, EMU_CHECK_GLOBAL_ALIGN, from.address[l], UINT32_MAX,
                            "cp.async of %u bytes from a misaligned address", in->size);
            from.pointer[l] =
                (uint8_t *)(uintptr_t)read_pieces(w, in, l, from.address[l], bytes[l]);
            if (!(whole >> l & 1)) moved += bytes[l];
            if (bytes[l]) from.global |= 1u << l;
        }
    }
    access_resolve(w, in, mask, in->size, ACCESS_ASYNC_ISSUE, &to);
    async_copy *c = &w->copies[w->n_copies];
    c->in = in;
    c->mask = 0;
    for (uint32_t m = mask; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        if (to.pointer[l] == NULL) continue;
        memset(to.pointer[l], 0xff, in->size);
        c->mask |= 1u << l;
        c->destination[l] = (uint32_t)to.address[l];
        c->source[l] = from.pointer[l];
        c->bytes[l] = bytes[l];
        c->group[l] = w->groups[l];
    }
    if (c->mask) w->n_copies++;
    insn_count *count = access_counter(w, in);
    count->bytes += moved;
    if (!b->launch->count_memory) return;
    if (from.global) {
        /* Lanes that read nothing repeat one that does. */
        uint64_t active = from.address[__builtin_ctz(from.global)];
        for (int l = 0; l < WARP_LANES; l++)
            if (!(from.global >> l & 1)) from.address[l] = active;
        count->amount += access_sectors(from.address, from.global, in->size);
    }
    if (to.shared) count->extra += access_extra_wavefronts(to.address, to.shared, in->size);
}

void async_commit(warp *w, uint32_t mask)
{
    for (uint32_t m = mask; m; m &= m - 1) w->groups[__builtin_ctz(m)]++;
}

/* One lane's copy is carried out. */
static void finish_lane(warp *w, async_copy *c, int l)
{
    block *b = w->block;
    uint8_t *to = b->shared + c->destination[l];
    if (c->source[l] != NULL) memcpy(to, c->source[l], c->bytes[l]);
    if (c->bytes[l] < c->in->size) memset(to + c->bytes[l], 0, c->in->size - c->bytes[l]);
    if (b->shadow == NULL) return;
    shared_finding found;
    b->shadow->access(b->shadow, ACCESS_ASYNC_DONE, c->destination[l], c->in->size,
                      warp_thread(w, l), w->epoch, &found);
    if (found.checks & b->launch->checks & EMU_CHECK_SHARED_RACE)
        access_report_shared(w, c->in, l, &found);
}

void async_finish(warp *w, uint32_t mask, const uint32_t *limit)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < w->n_copies; i++) {
        async_copy *c = &w->copies[i];
        for (uint32_t m = c->mask & mask; m; m &= m - 1) {
            int l = __builtin_ctz(m);
            if (c->group[l] >= limit[l]) continue;
            finish_lane(w, c, l);
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

void exec_commit_group(warp *w, const insn *in, uint32_t mask)
{
    (void)in;
    async_commit(w, mask);
}

void exec_wait_group(warp *w, const insn *in, uint32_t mask)
{
    uint32_t limit[WARP_LANES];
    for (int l = 0; l < WARP_LANES; l++)
        limit[l] = w->groups[l] > in->aux ? w->groups[l] - in->aux : 0;
    async_finish(w, mask, limit);
}

void exec_wait_all(warp *w, const insn *in, uint32_t mask)
{
    (void)in;
    uint32_t limit[WARP_LANES];
    for (int l = 0; l < WARP_LANES; l++) limit[l] = UINT32_MAX;
    async_finish(w, mask, limit);
}

/* ---- ldmatrix, stmatrix -----------------------------------------------------------------------
 */

/* The 8 n row addresses, resolved; lanes beyond them do not count. */
static void matrix_rows(warp *w, const insn *in, uint32_t place, shared_access kind, lane_access *a)
{
    uint32_t mask = in->count == 4 ? FULL_WARP : (1u << (8 * in->count)) - 1;
    access_addresses(w, in, place, in->imm, mask, a);
    access_resolve(w, in, mask, 16, kind, a);
    access_counter(w, in)->bytes += 128u * in->count;
    if (w->block->launch->count_memory)
        access_counter(w, in)->amount += access_extra_wavefronts(a->address, mask, 16);
}

/* Matrix i takes the addresses of its eight 16-byte rows from lanes 8 i .. 8 i + 7. Lane l receives
 * elements 2 (l & 3) and the next of row l >> 2, so the register is the matrix as it stands; with
 * .trans, those of column l >> 2. */
void exec_ldmatrix(warp *w, const insn *in, uint32_t mask)
{
    (void)mask;
    lane_access a;
    matrix_rows(w, in, in->r[in->count], ACCESS_READ, &a);
    uint16_t matrices[4][8][8];
    for (int i = 0; i < in->count; i++)
        for (int row = 0; row < 8; row++) {
            const uint8_t *from = a.pointer[8 * i + row];
            if (from != NULL)
                memcpy(matrices[i][row], from, 16);
            else
                memset(matrices[i][row], 0xff, 16);
        }
    for (int i = 0; i < in->count; i++) {
        uint16_t *d = ROW(uint16_t, in->r[i]);
        if (!(in->flags & INSN_TRANS)) {
            memcpy(d, matrices[i], 128);
            continue;
        }
        for (int column = 0; column < 8; column++)
            for (int row = 0; row < 8; row++) d[column * 8 + row] = matrices[i][row][column];
    }
}

/* The reverse: r[0] address, r[1].. fragments. */
void exec_stmatrix(warp *w, const insn *in, uint32_t mask)
{
    (void)mask;
    lane_access a;
    matrix_rows(w, in, in->r[0], ACCESS_WRITE, &a);
    for (int i = 0; i < in->count; i++) {
        uint16_t matrix[8][8];
        const uint16_t *s = ROW(uint16_t, in->r[1 + i]);
        for (int row = 0; row < 8; row++)
            for (int column = 0; column < 8; column++)
                matrix[row][column] =
                    in->flags & INSN_TRANS ? s[column * 8 + row] : s[row * 8 + column];
        for (int row = 0; row < 8; row++)
            if (a.pointer[8 * i + row] != NULL) memcpy(a.pointer[8 * i + row], matrix[row], 16);
    }
}
