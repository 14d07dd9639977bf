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
    const char *capture, *replay; /* files */
    size_t batch_tokens, max_length;
    peaks peaks;
    team *team;
    int n_wrong;
} bench_job;

/* True when the options want this case. */
bool bench_wanted(const bench_job *job, const bench_case *c, const char *dtype);

/* On a GPU or on the emulator. */
cli_exit bench_ops_cuda(bench_job *job);

/* ---- captured batches (replay.c) ---- */

/* What a case gave on a device. */
typedef struct bench_outcome {
    bool correct;
    double error;
    double us, best_us; /* median and best; with runs 0 us is predicted from counters */
    int runs;           /* 0 as well when nothing was timed: us is 0 then */
    char kernels[256];
    const char *bound; /* emulator: what bounds the longest kernel; its counters: */
    unsigned long long warp_instructions, global_sectors, extra_wavefronts;
} bench_outcome;

/* A device that runs cases. */
typedef struct bench_engine bench_engine;
struct bench_engine {
    bench_job *job;
    const ops_backend *backend;
    void *device;
    void *state; /* of the engine */
    /* Compares `first` with the reference; whole, of which it is the beginning, with its bits;
     * times whole when that is right. whole NULL: first is all. */
    crank_status (*run)(bench_engine *e, const bench_case *first, const bench_case *whole,
                        ops_dtype dtype, bench_outcome *o, crank_error *error);
    void (*close)(bench_engine *e);
};
/* backend: cpu or ref. Closed by e->close, also after a failure. */
cli_exit bench_host_open(bench_engine *e, bench_job *job, const ops_backend *backend);
cli_exit bench_cuda_open(bench_engine *e, bench_job *job);

/* `crank bench ops --capture` and `--replay`. pairs: what crank score reads; "-": stdin. */
cli_exit bench_capture(const bench_job *job, const char *pairs);
cli_exit bench_replay(bench_job *job);

#endif
