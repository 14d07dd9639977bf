/* Predicted time of a kernel on one NVIDIA H100 SXM from what the emulator counted: a roofline, not
 * a measurement. It orders variants and shows what bounds a kernel; caches, clocks and the order of
 * instructions are not in it.
 *
 *   time = gap + max(floor, tensor, issue, special, shared, memory)
 *   gap      1.3 us   between two nodes of a graph
 *   floor    2 us     latency of a body, however small
 *   tensor   mma on the busiest multiprocessor: 62 % of 989 TFLOP/s is what mma.sync reaches on
 *            this chip (1979 for int8), 132 multiprocessors
 *   issue    4 warp instructions a cycle, 1.755 GHz
 *   special  exp, rcp, rsqrt, sqrt: half a warp instruction a cycle
 *   shared   128 bytes a cycle, plus the wavefronts that bank conflicts add
 *   memory   sectors of 32 bytes at 5.5 TB/s of the L2 cache, for operands that stay in it
 *   cublasLtMatmul: 66 % of the tensor peak, all multiprocessors alike; what it moves is not
 * counted
 *
 * The busiest multiprocessor has ceil(blocks / 132) blocks. Sources: NVIDIA's H100 data sheet; the
 * share of mma.sync from arXiv 2402.13499; the L2 rate, gap and floor are estimates. */
#ifndef CRANK_BENCH_ROOFLINE_H
#define CRANK_BENCH_ROOFLINE_H

#include "kernels/emu/emu.h"

typedef struct roofline {
    double us;         /* of all launches counted */
    const char *bound; /* "tensor", "issue", ..., "floor" */
} roofline;

roofline roofline_predict(const emu_counters *c);

#endif
