/* `crank bench ops`, the one case of many ops: T5-base's decode step beside its encoder. */
#ifndef CRANK_BENCH_DECODER_STEP_H
#define CRANK_BENCH_DECODER_STEP_H

#include "bench/ops_bench.h"

/* Checks the step against the reference, times it and a layer of the encoder in turns, and prints
 * what share of the whole encoder the step is. device: of ops_backend_cpu, opened at `isa`. */
crank_status bench_decoder_step(bench_job *job, void *device, ops_dtype dtype, const char *isa,
                                crank_error *error);

#endif
