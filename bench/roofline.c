#include "bench/roofline.h"

#include <math.h>
#include <string.h>

#define MULTIPROCESSORS 132
#define CYCLES_PER_US 1755.0
#define GAP_US 1.3
#define FLOOR_US 2.0
#define L2_BYTES_PER_US 5.5e6
#define CUBLASLT_FLOPS_PER_US (0.66 * 989e6)
#define MMA_PER_CYCLE (0.62 * 989e6 / 4096 / MULTIPROCESSORS / CYCLES_PER_US)

roofline roofline_predict(const emu_counters *c)
{
    if (c->launches == 0) return (roofline){0, "nothing"};
    double launches = (double)c->launches;
    if (strcmp(c->kernel, "cublasLtMatmul") == 0) {
        double us = (double)c->flops / launches / CUBLASLT_FLOPS_PER_US;
        return us > FLOOR_US ? (roofline){launches * (GAP_US + us), "tensor"}
                             : (roofline){launches * (GAP_US + FLOOR_US), "floor"};
    }
    double blocks = (double)c->blocks / launches;
    /* What the busiest multiprocessor does, of one launch. */
    double share = ceil(blocks / MULTIPROCESSORS) / blocks / launches;
    double mma = (double)(c->mma_f16 + c->mma_bf16 + c->mma_s8 + c->mma_other);
    double issue = (double)c->total_warp_instructions;
    double special = (double)c->warp_instructions[EMU_CLASS_special];
    double shared = (double)(c->shared_read_bytes + c->shared_written_bytes) / 128 +
                    (double)c->shared_extra_wavefronts;
    const struct {
        const char *name;
        double us;
    } bounds[] = {
        {"floor", FLOOR_US},
        {"tensor", mma * share / MMA_PER_CYCLE / CYCLES_PER_US},
        {"issue", issue * share / 4 / CYCLES_PER_US},
        {"special", special * share * 2 / CYCLES_PER_US},
        {"shared", shared * share / CYCLES_PER_US},
        {"memory", (double)c->global_sectors / launches * 32 / L2_BYTES_PER_US},
    };
    roofline best = {0, "floor"};
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        if (bounds[i].us <= best.us) continue;
        best.us = bounds[i].us;
        best.bound = bounds[i].name;
    }
    best.us = launches * (GAP_US + best.us);
    return best;
}
