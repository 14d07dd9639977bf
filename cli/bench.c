/* crank bench WHAT: dispatches to the benchmarks that this build has. */
#include <stdio.h>
#include <string.h>

#include "cli/bench.h"
#include "cli/options.h"

static const cli_command *const benchmarks[] = {
#ifdef CRANK_BENCH_OPS
    &bench_ops_command,
#endif
#ifdef CRANK_BENCH_TABLE
    &bench_table_command,
#endif
#ifdef CRANK_BENCH_LATENCY
    &bench_latency_command,
#endif
#ifdef CRANK_BENCH_LOAD
    &bench_load_command,
#endif
    NULL,
};

static cli_exit run(const cli_command *self, int argc, char **argv)
{
    const char *names[8] = {NULL};
    size_t n = 0;
    for (; benchmarks[n]; n++) {
        const char *space = strchr(benchmarks[n]->name, ' ');
        names[n] = space ? space + 1 : benchmarks[n]->name;
        if (argc > 1 && strcmp(argv[1], names[n]) == 0)
            return benchmarks[n]->run(benchmarks[n], argc - 1, argv + 1);
    }
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        printf("usage: crank bench %s\n\n%s\n\nbenchmarks:\n", self->synopsis, self->summary);
        for (size_t i = 0; i < n; i++) printf("  %-10s %s\n", names[i], benchmarks[i]->summary);
        printf("\nexample:\n%s\n", self->example);
        return CLI_OK;
    }
    if (argc < 2) return options_misuse(self, "usage: crank bench %s", self->synopsis);
    const char *nearest = options_nearest(argv[1], names, n);
    return options_misuse(self, "no benchmark '%s'%s%s%s", argv[1],
                          nearest ? "; did you mean " : "", nearest ? nearest : "",
                          nearest ? "?" : "");
}

const cli_command bench_command = {
    .name = "bench",
    .summary = "Measures kernels, models and servers; each prints its share of the machine's peak.",
    .synopsis = "ops | table | latency | load [options]",
    .example = "  crank bench table --shape minilm-l6 --tokens 128 --json\n"
               "  crank bench ops --help",
    .run = run,
};
