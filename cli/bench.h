/* Benchmarks plug in here: each is a function in bench/ and a row in bench.c, compiled in when
 * bench/sources.cmake defines its macro for target crank. A benchmark has the shape of a command,
 * so that it uses the same options, help and exit codes. */
#ifndef CRANK_CLI_BENCH_H
#define CRANK_CLI_BENCH_H

#include "cli/cli.h"

extern const cli_command bench_ops_command;     /* CRANK_BENCH_OPS; name "bench ops" */
extern const cli_command bench_table_command;   /* CRANK_BENCH_TABLE */
extern const cli_command bench_latency_command; /* CRANK_BENCH_LATENCY */
extern const cli_command bench_load_command;    /* CRANK_BENCH_LOAD */

#endif
