/* For benchmarks: times what ops have recorded, and measures what the machine can do at most. Not
 * part of scoring. */
#ifndef CRANK_CUDA_LAB_H
#define CRANK_CUDA_LAB_H

#include "kernels/ops.h"

#define CUDA_LAB_ROUNDS 20

typedef struct cuda_lab_times {
    double median_us, best_us;
    int rounds;
} cuda_lab_times;

/* The launches that ops have put on ctx's list since the last ops_end, without running them before:
 * captured `repeats` times in a row as one graph, which is launched CUDA_LAB_ROUNDS times between
 * two events. Microseconds of one repetition. Data stay in the L2 cache where they fit, as in a
 * chain of ops. The list is empty afterwards. Fails: DEVICE. */
crank_status cuda_lab_time(ops_context *ctx, int repeats, cuda_lab_times *times,
                           crank_error *error);

/* Runs what is on the list once and waits. */
crank_status cuda_lab_run(ops_context *ctx, crank_error *error);
/* Forgets what is on the list. */
void cuda_lab_drop(ops_context *ctx);
/* The kernels on the list, in order, equal ones once: "gemm_f16_64x64_gelu+quantise_...". */
void cuda_lab_kernels(const ops_context *ctx, char *text, size_t bytes);

/* Measured: mma.sync from registers, and a copy of memory that does not fit any cache. */
typedef struct cuda_lab_peaks {
    double gflops[OPS_N_DTYPES]; /* F16, BF16, INT8; F32: 0 */
    double gbps;                 /* read and written */
} cuda_lab_peaks;
/* quick: a thousandth of the work, to see that it works at all. */
crank_status cuda_lab_measure_peaks(ops_context *ctx, bool quick, cuda_lab_peaks *peaks,
                                    crank_error *error);

#endif
