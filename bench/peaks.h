/* What this core can do at most, measured by loops that touch nothing but registers (arithmetic)
 * or a buffer of the second-level cache (bandwidth), in the same run as what is compared to it. */
#ifndef CRANK_BENCH_PEAKS_H
#define CRANK_BENCH_PEAKS_H

#include "kernels/ops.h"

typedef struct peaks {
    double gflops[OPS_N_DTYPES]; /* multiply-adds count two; of one thread; 0: not known */
    double gbps;                 /* reading and writing, cache-resident */
} peaks;

/* The peak of instruction set `isa` (a level's name) in each dtype: of the instructions that the
 * level's kernels use. Takes about 0.1 s; takes the better of *p and what it measures, so that it
 * can be called again to catch a quiet moment. p starts zeroed. */
void peaks_measure(peaks *p, const char *isa);

/* The same of a whole GPU: mma.sync on registers, copies of its memory. */
crank_status peaks_measure_gpu(peaks *p, int ordinal, const char *library, crank_error *error);

#endif
