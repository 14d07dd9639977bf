/* What `crank bench ops` was asked for, and its two halves: CPUs (ops_bench.c), GPUs (ops_cuda.c).
 */
#ifndef CRANK_BENCH_OPS_BENCH_H
#define CRANK_BENCH_OPS_BENCH_H

#include "bench/ops_side.h"
#include "bench/peaks.h"
#include "cli/options.h"
#include "team.h"

typedef struct bench_job {
    int json, threads, check_only;
    size_t milliseconds, pairs;
    cli_device device;
    const char *only_op, *only_dtype, *only_isa, *only_model, *variant;
    peaks peaks;
    team *team;
    int n_wrong;
} bench_job;

/* True when the options want this case. */
bool bench_wanted(const bench_job *job, const bench_case *c, const char *dtype);

/* On a GPU or on the emulator. */
cli_exit bench_ops_cuda(bench_job *job);

#endif
