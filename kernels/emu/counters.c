/* Counters per kernel name, summed from the per-instruction counts of each launch. */
#include <stdio.h>
#include <string.h>

#include "kernels/emu/driver.h"
#include "memory.h"

const char *emu_class_name(uint32_t index)
{
    static const char *const names[] = {
#define CLASS_NAME(name) #name,
        EMU_CLASS_LIST(CLASS_NAME)
#undef CLASS_NAME
    };
    return index < EMU_N_CLASSES ? names[index] : "unknown";
}

_Static_assert((int)EMU_N_CLASSES == (int)N_CLASSES, "emu.h repeats insn_class");
_Static_assert((int)EMU_CLASS_mma == (int)CLASS_MMA && (int)EMU_CLASS_param == (int)CLASS_PARAM,
               "emu.h repeats insn_class");

static void sum(emu_counters *c, const ptx_function *f, const insn_count *counts)
{
    for (uint32_t pc = 0; pc < f->n_code; pc++) {
        const insn *in = &f->code[pc];
        const insn_count *n = &counts[pc];
        if (n->warps == 0 || (in->flags & INSN_HIDDEN)) continue;
        uint64_t lanes = n->lanes;
        c->thread_instructions[in->class] += lanes;
        c->warp_instructions[in->class] += n->warps;
        c->total_thread_instructions += lanes;
        c->total_warp_instructions += n->warps;
        c->flops += in->class == CLASS_MMA ? n->lanes / WARP_LANES * in->flops : lanes * in->flops;
        switch (in->class) {
        case CLASS_MMA:
            if (in->size == MMA_F16)
                c->mma_f16 += n->warps;
            else if (in->size == MMA_BF16)
                c->mma_bf16 += n->warps;
            else if (in->size == MMA_INT8)
                c->mma_s8 += n->warps;
            else
                c->mma_other += n->warps;
            break;
        case CLASS_LD_GLOBAL:
        case CLASS_ST_GLOBAL:
        case CLASS_ATOMIC:
            if (in->space == SPACE_SHARED) {
                c->shared_requests += n->warps;
                c->shared_extra_wavefronts += n->amount;
                c->shared_read_bytes += n->bytes;
                c->shared_written_bytes += n->bytes;
                break;
            }
            c->global_requests += n->warps;
            c->global_sectors += n->amount;
            if (in->class != CLASS_ST_GLOBAL) c->global_read_bytes += n->bytes;
            if (in->class != CLASS_LD_GLOBAL) c->global_written_bytes += n->bytes;
            break;
        case CLASS_CP_ASYNC:
            if (in->size == 0) break; /* commit, wait */
            c->global_requests += n->warps;
            c->global_sectors += n->amount;
            c->global_read_bytes += n->bytes;
            c->shared_requests += n->warps;
            c->shared_extra_wavefronts += n->extra;
            c->shared_written_bytes += lanes * in->size;
            break;
        case CLASS_LD_SHARED:
        case CLASS_LDMATRIX:
            c->shared_requests += n->warps;
            c->shared_extra_wavefronts += n->amount;
            c->shared_read_bytes += n->bytes;
            break;
        case CLASS_ST_SHARED:
            c->shared_requests += n->warps;
            c->shared_extra_wavefronts += n->amount;
            c->shared_written_bytes += n->bytes;
            break;
        default: break;
        }
    }
}

static emu_counters *find(const char *kernel)
{
    driver *d = &emu_driver;
    for (size_t i = 0; i < d->n_counters; i++)
        if (strncmp(d->counters[i].kernel, kernel, sizeof d->counters[i].kernel - 1) == 0)
            return &d->counters[i];
    return NULL;
}

/* The entry of a kernel name, made when it is new; NULL when memory is out. */
static emu_counters *entry(const char *kernel)
{
    driver *d = &emu_driver;
    emu_counters *c = find(kernel);
    if (c != NULL) return c;
    if (d->n_counters == d->counter_capacity) {
        size_t capacity = d->counter_capacity ? d->counter_capacity * 2 : 16;
        emu_counters *bigger = mem_resize(d->counters, capacity, sizeof *bigger);
        if (bigger == NULL) return NULL;
        d->counters = bigger;
        d->counter_capacity = capacity;
    }
    c = &d->counters[d->n_counters++];
    memset(c, 0, sizeof *c);
    snprintf(c->kernel, sizeof c->kernel, "%s", kernel);
    return c;
}

void counters_add_matmul(uint64_t flops, int64_t nanoseconds)
{
    emu_counters *c = entry("cublasLtMatmul");
    if (c == NULL) return;
    c->launches++;
    c->flops += flops;
    c->nanoseconds += (uint64_t)nanoseconds;
}

void counters_add(const function_object *f, const insn_count *counts, uint64_t n_blocks,
                  int64_t nanoseconds)
{
    driver *d = &emu_driver;
    memset(&d->last, 0, sizeof d->last);
    snprintf(d->last.kernel, sizeof d->last.kernel, "%s", f->ptx->name);
    d->last.launches = 1;
    d->last.blocks = n_blocks;
    d->last.nanoseconds = (uint64_t)nanoseconds;
    sum(&d->last, f->ptx, counts);
    d->has_last = 1;
    emu_counters *c = entry(f->ptx->name);
    if (c == NULL) return;
    c->launches++;
    c->blocks += n_blocks;
    c->nanoseconds += (uint64_t)nanoseconds;
    sum(c, f->ptx, counts);
}

void counters_clear(void)
{
    driver *d = &emu_driver;
    d->n_counters = 0;
    d->has_last = 0;
    for (link *l = d->modules.next; l != &d->modules; l = l->next) {
        module_object *m = LINK_ITEM(module_object, l);
        for (uint32_t i = 0; i < m->ptx->n_functions; i++)
            memset(m->functions[i].counts, 0,
                   m->functions[i].ptx->n_code * sizeof *m->functions[i].counts);
    }
}

/* ---- emu.h ------------------------------------------------------------------------------------
 */

static int give(const emu_counters *c, emu_counters *out)
{
    if (c != NULL) *out = *c;
    return c == NULL;
}

size_t emu_counter_count(void)
{
    driver_enter(NEED_NOTHING);
    size_t n = emu_driver.n_counters;
    driver_leave(ABI_SUCCESS);
    return n;
}

int emu_counter_get(size_t index, emu_counters *out)
{
    driver_enter(NEED_NOTHING);
    int missing = give(index < emu_driver.n_counters ? &emu_driver.counters[index] : NULL, out);
    driver_leave(ABI_SUCCESS);
    return missing;
}

int emu_counter_find(const char *kernel, emu_counters *out)
{
    driver_enter(NEED_NOTHING);
    int missing = give(find(kernel), out);
    driver_leave(ABI_SUCCESS);
    return missing;
}

int emu_counter_last(emu_counters *out)
{
    driver_enter(NEED_NOTHING);
    int missing = give(emu_driver.has_last ? &emu_driver.last : NULL, out);
    driver_leave(ABI_SUCCESS);
    return missing;
}

void emu_counter_clear(void)
{
    driver_enter(NEED_NOTHING);
    counters_clear();
    driver_leave(ABI_SUCCESS);
}

typedef struct hot_line {
    uint32_t loc;
    uint64_t lanes, sectors, extra;
} hot_line;

size_t emu_hot_lines(const char *kernel, size_t n, char *out, size_t bytes)
{
    size_t used = 0;
    if (bytes == 0) return 0;
    out[0] = '\0';
    driver_enter(NEED_NOTHING);
    driver *d = &emu_driver;
    const function_object *f = NULL;
    for (link *l = d->modules.next; l != &d->modules; l = l->next) {
        module_object *m = LINK_ITEM(module_object, l);
        for (uint32_t i = 0; i < m->ptx->n_functions; i++)
            if (strcmp(m->functions[i].ptx->name, kernel) == 0) f = &m->functions[i];
    }
    hot_line *lines = f ? mem_zero(f->ptx->n_locs, sizeof *lines) : NULL;
    if (lines != NULL) {
        uint64_t total = 0;
        for (uint32_t pc = 0; pc < f->ptx->n_code; pc++) {
            const insn *in = &f->ptx->code[pc];
            hot_line *h = &lines[in->loc];
            if (in->flags & INSN_HIDDEN) continue;
            h->lanes += f->counts[pc].lanes;
            total += f->counts[pc].lanes;
            int is_global = in->class == CLASS_LD_GLOBAL || in->class == CLASS_ST_GLOBAL ||
                            in->class == CLASS_CP_ASYNC ||
                            (in->class == CLASS_ATOMIC && in->space != SPACE_SHARED);
            if (is_global)
                h->sectors += f->counts[pc].amount;
            else
                h->extra += f->counts[pc].amount;
            h->extra += f->counts[pc].extra;
        }
        for (size_t k = 0; k < n && total; k++) {
            uint32_t best = 0;
            for (uint32_t i = 0; i < f->ptx->n_locs; i++)
                if (lines[i].lanes > lines[best].lanes) best = i;
            if (lines[best].lanes == 0) break;
            char where[256];
            ptx_describe_loc(f->module->ptx, f->ptx, best, where, sizeof where);
            int wrote = snprintf(out + used, bytes - used, "%5.1f%% %12llu %10llu %8llu %s\n",
                                 100.0 * (double)lines[best].lanes / (double)total,
                                 (unsigned long long)lines[best].lanes,
                                 (unsigned long long)lines[best].sectors,
                                 (unsigned long long)lines[best].extra, where[0] ? where : "?");
            if (wrote < 0 || (size_t)wrote >= bytes - used) {
                out[used] = '\0';
                break;
            }
            used += (size_t)wrote;
            lines[best].lanes = 0;
        }
        mem_free(lines);
    }
    driver_leave(ABI_SUCCESS);
    return used;
}
