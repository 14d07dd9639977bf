/* crank bench ops: every op in every dtype on every instruction set of this CPU, at the shapes of
 * published models. A case is first computed on the reference backend and compared; one that is
 * wrong is reported and not timed. Then it runs again and again for a while: the median and the
 * best time, GFLOP/s or GB/s, and the share of this core's peak measured in the same run.
 *
 * Both sides run the same program over the same tables: inputs are filled by looking random rows
 * up, which works on any backend. The reference computes with the subject's own rounded weights. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/decoder_step.h"
#include "bench/ops_bench.h"
#include "bench/ops_side.h"
#include "bench/peaks.h"
#include "bench/samples.h"
#include "cli/bench.h"
#include "cli/options.h"
#include "cli/output.h"
#include "clock.h"
#include "team.h"

/* ---- one case ---------------------------------------------------------------------------------
 */

/* Bytes read and written by an op that only moves them. */
static double bytes_of(const bench_case *c, ops_dtype dtype)
{
    double t = c->first_rows ? c->b : bench_tokens(c), b = c->b, d = c->k;
    double operand = dtype == OPS_F32 ? 0 : ops_dtypes[dtype].bytes, forms = 4 + operand;
    switch (c->op) {
    case OPS_KIND_EMBED_NORM: return t * d * (12 + forms);
    case OPS_KIND_NORM: return t * d * (4 + forms);
    case OPS_KIND_ADD_NORM: return t * d * (8 + forms);
    case OPS_KIND_GATHER_AROUND: return t * d * (4 + c->n * forms);
    case OPS_KIND_GATHER_FIRST: return b * d * (4 + forms);
    case OPS_KIND_POOL: return t * d * 4 + b * d * forms;
    case OPS_KIND_BROADCAST: return t * d * (4 + forms);
    case OPS_KIND_VECTORS: return t * d * 8;
    default: return 0;
    }
}

/* What the op multiplies in: attention of an int8 model runs in bf16, the head rows' in f32. */
static ops_dtype arithmetic_of(const bench_case *c, ops_dtype dtype)
{
    if (c->op == OPS_KIND_LINEAR || c->op == OPS_KIND_LINEAR_RESIDUAL_NORM) return dtype;
    if (c->op == OPS_KIND_ATTENTION_ROWS_FOLDED || c->op == OPS_KIND_HEAD || dtype == OPS_F32)
        return OPS_F32;
    return OPS_BF16;
}

#define MAX_SAMPLES 1000

/* Samples of about a millisecond each, for job->milliseconds; fewer than five only of what takes
 * very long. */
static void time_op(const bench_job *job, bench_side *s, bench_outcome *o)
{
    static double samples[MAX_SAMPLES];
    int64_t start = clock_ns();
    bench_side_run(s);
    int64_t once = clock_ns() - start;
    int per_sample = once < 1000000 ? (int)(1000000 / (once + 1)) + 1 : 1;
    int64_t begin = clock_ns(), budget = (int64_t)job->milliseconds * 1000000;
    while (o->runs < MAX_SAMPLES) {
        int64_t spent = clock_ns() - begin;
        if (o->runs > 0 && spent >= (o->runs < 5 ? 20 * budget : budget)) break;
        start = clock_ns();
        for (int i = 0; i < per_sample; i++) bench_side_run(s);
        samples[o->runs++] = (double)(clock_ns() - start) / per_sample / 1e3;
    }
    qsort(samples, (size_t)o->runs, sizeof *samples, samples_by_value);
    o->us = samples[o->runs / 2];
    o->best_us = samples[0];
}

static void print_case(const bench_job *job, const bench_case *c, ops_dtype dtype, const char *isa,
                       const char *kernel, const bench_outcome *o)
{
    char shape[64];
    bench_shape_text(shape, sizeof shape, c);
    double flops = bench_flops(c), bytes = bytes_of(c, dtype), peak = 0, rate = 0;
    if (o->correct) {
        rate = (flops > 0 ? flops : bytes) / o->us / 1e3;
        peak = flops > 0 ? job->peaks.gflops[arithmetic_of(c, dtype)] * job->threads
                         : job->peaks.gbps * job->threads;
    }
    const char *unit = flops > 0 ? "GFLOP/s" : "GB/s";
    if (job->json) {
        printf("{\"op\":\"%s\",\"dtype\":\"%s\",\"isa\":\"%s\",\"kernel\":", ops_kind_names[c->op],
               ops_dtypes[dtype].name, isa);
        json_put_string(stdout, kernel);
        printf(",\"shape\":\"%s\",\"model\":\"%s\",\"threads\":%d,\"correct\":%s,\"error\":", shape,
               c->model, job->threads, o->correct ? "true" : "false");
        json_put_float(stdout, (float)o->error);
        if (o->correct) {
            printf(",\"median_us\":%.2f,\"best_us\":%.2f,\"runs\":%d,\"%s\":%.2f,\"peak\":%.2f",
                   o->us, o->best_us, o->runs, flops > 0 ? "gflops" : "gbps", rate, peak);
            if (peak > 0) printf(",\"share\":%.4f", rate / peak);
        }
        puts("}");
    } else if (!o->correct) {
        printf("%-22s %-5s %-12s %-26s WRONG: off by %.2g of the root mean square, not timed\n",
               ops_kind_names[c->op], ops_dtypes[dtype].name, isa, shape, o->error);
    } else {
        printf("%-22s %-5s %-12s %-26s %10.1f us %8.1f %-7s ", ops_kind_names[c->op],
               ops_dtypes[dtype].name, isa, shape, o->us, rate, unit);
        if (peak > 0) {
            printf("%5.1f %% of %.0f (best %.1f %%)", 100 * rate / peak, peak,
                   100 * rate / peak * o->us / o->best_us);
        }
        printf("  %s\n", c->model);
    }
    fflush(stdout);
}

/* Compares and times a case on the CPU or on the reference itself. */
static crank_status run_host(bench_engine *e, const bench_case *first, const bench_case *whole,
                             ops_dtype dtype, bench_outcome *o, crank_error *error)
{
    const bench_job *job = e->job;
    bench_weights w = bench_weights_make(first);
    bench_side side = {.ctx = {.backend = e->backend,
                               .device = e->device,
                               .dtype = dtype,
                               .team = e->backend == &ops_backend_ref ? NULL : job->team}};
    bench_check check;
    *o = (bench_outcome){.bound = ""};
    crank_status status = bench_side_open_checked(&side, first, whole, &w, &check, error);
    o->correct = check.correct;
    o->error = check.error;
    if (status == CRANK_OK && o->correct) {
        if (job->check_only)
            o->us = o->best_us = 1;
        else
            time_op(job, &side, o);
    }
    bench_side_close(&side);
    bench_weights_free(&w);
    return status;
}

static crank_status run_case(bench_job *job, void *device, const bench_case *c, ops_dtype dtype,
                             const char *isa, const char *kernel, crank_error *error)
{
    bench_engine cpu = {.job = job, .backend = &ops_backend_cpu, .device = device};
    bench_outcome o;
    CRANK_TRY(run_host(&cpu, c, NULL, dtype, &o, error));
    if (o.correct)
        peaks_measure(&job->peaks, isa);
    else
        job->n_wrong++;
    print_case(job, c, dtype, isa, kernel, &o);
    return CRANK_OK;
}

/* ---- all of them ------------------------------------------------------------------------------
 */

static bool equal_or_any(const char *only, const char *name)
{
    return only == NULL || strcmp(only, name) == 0;
}

bool bench_wanted(const bench_job *job, const bench_case *c, const char *dtype)
{
    return equal_or_any(job->only_op, ops_kind_names[c->op]) &&
           equal_or_any(job->only_dtype, dtype) &&
           (job->only_model == NULL || strstr(c->model, job->only_model) != NULL);
}

/* The kernel's name in the table of variants. */
static const char *kernel_of(const ops_variant *variants, size_t n, const char *op,
                             const char *dtype, const char *isa)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(variants[i].op, op) == 0 && strcmp(variants[i].dtype, dtype) == 0 &&
            strcmp(variants[i].isa, isa) == 0 && variants[i].available) {
            return variants[i].name;
        }
    }
    return NULL;
}

/* The decode step takes 0.8 GB in f32 and, on a slow level, minutes: only when asked for, and on
 * the best level unless another one is named. */
static bool wants_step(const bench_job *job, bool best)
{
    return job->only_op != NULL && strcmp(job->only_op, "decoder_step") == 0 &&
           (best || job->only_isa != NULL);
}

static cli_exit run_level(bench_job *job, const char *isa, bool best)
{
    static const ops_dtype dtypes[] = {OPS_F32, OPS_BF16, OPS_INT8};
    crank_error error = {0};
    void *device;
    ops_device_options options = {.isa = isa};
    if (ops_backend_cpu.open(&device, &options, &error) != CRANK_OK) {
        return cli_fail_status(&error, 0);
    }
    job->peaks = (peaks){0};
    peaks_measure(&job->peaks, isa);
    size_t n;
    const ops_variant *variants = ops_backend_cpu.variants(device, &n);
    cli_exit code = CLI_OK;
    for (size_t d = 0; d < 3 && code == CLI_OK; d++) {
        const char *dtype = ops_dtypes[dtypes[d]].name;
        for (size_t i = 0; i < n_bench_cases && code == CLI_OK && !cli_stopped(); i++) {
            const char *op = ops_kind_names[bench_cases[i].op];
            const char *kernel = kernel_of(variants, n, op, dtype, isa);
            if (!bench_wanted(job, &bench_cases[i], dtype) || kernel == NULL) continue;
            if (run_case(job, device, &bench_cases[i], dtypes[d], isa, kernel, &error) !=
                CRANK_OK) {
                code = cli_fail_status(&error, 0);
            }
        }
    }
    for (size_t d = 0; d < 3 && code == CLI_OK && !cli_stopped(); d++) {
        if (!equal_or_any(job->only_dtype, ops_dtypes[dtypes[d]].name) || !wants_step(job, best))
            continue;
        if (bench_decoder_step(job, device, dtypes[d], isa, &error) != CRANK_OK)
            code = cli_fail_status(&error, 0);
    }
    ops_backend_cpu.close(device);
    return code;
}

/* As run_host, with the kernel's name. */
static crank_status run_named(bench_engine *e, const bench_case *first, const bench_case *whole,
                              ops_dtype dtype, bench_outcome *o, crank_error *error)
{
    size_t n = 0;
    const ops_variant *variants = e->backend->variants(e->device, &n);
    CRANK_TRY(run_host(e, first, whole, dtype, o, error));
    for (size_t i = 0; i < n; i++) {
        if (variants[i].selected && strcmp(variants[i].op, ops_kind_names[first->op]) == 0 &&
            strcmp(variants[i].dtype, ops_dtypes[dtype].name) == 0)
            snprintf(o->kernels, sizeof o->kernels, "%s", variants[i].name);
    }
    return CRANK_OK;
}

static void host_close(bench_engine *e)
{
    if (e->device != NULL) e->backend->close(e->device);
    e->device = NULL;
}

cli_exit bench_host_open(bench_engine *e, bench_job *job, const ops_backend *backend)
{
    crank_error error = {0};
    ops_device_options options = {.isa = job->only_isa};
    *e = (bench_engine){.job = job, .backend = backend, .run = run_named, .close = host_close};
    if (backend->open(&e->device, &options, &error) != CRANK_OK) return cli_fail_status(&error, 0);
    return CLI_OK;
}

static cli_exit run_levels(bench_job *job)
{
    crank_error error = {0};
    void *device;
    if (ops_backend_cpu.open(&device, NULL, &error) != CRANK_OK) {
        return cli_fail_status(&error, 0);
    }
    size_t n;
    const ops_variant *variants = ops_backend_cpu.variants(device, &n);
    cli_exit code = CLI_OK;
    const char *last = "";
    bool found = false;
    for (size_t i = 0; i < n && code == CLI_OK && !cli_stopped(); i++) {
        const char *isa = variants[i].isa;
        if (!variants[i].available || strcmp(isa, last) == 0) continue;
        bool best = *last == '\0'; /* the table begins with it */
        last = isa;
        if (!equal_or_any(job->only_isa, isa)) continue;
        found = true;
        code = run_level(job, isa, best);
    }
    if (code == CLI_OK && !found) {
        code = cli_fail(CLI_DEVICE, "no instruction set '%s' here; see crank info --kernels",
                        job->only_isa);
    }
    ops_backend_cpu.close(device);
    return code;
}

static cli_exit bench_ops(const cli_command *self, int argc, char **argv)
{
    bench_job job = {.milliseconds = 50, .pairs = 1, .device = {.device = CRANK_DEVICE_AUTO}};
    size_t threads = 1;
    const cli_option options[] = {
        {.name = "op",
         .type = OPTION_TEXT,
         .target = &job.only_op,
         .value = "NAME",
         .help = "one op: linear, attention, ...; all but decoder_step: T5-base's, as a share of "
                 "its encoder"},
        {.name = "dtype",
         .type = OPTION_TEXT,
         .target = &job.only_dtype,
         .value = "NAME",
         .help = "f32, bf16, f16 or int8; all that the device has"},
        {.name = "model",
         .type = OPTION_TEXT,
         .target = &job.only_model,
         .value = "TEXT",
         .help = "cases whose model contains it: MiniLM, BERT-large, ...; all. With --capture: the "
                 "model's folder or file"},
        {.name = "device",
         .type = OPTION_DEVICE,
         .target = &job.device,
         .value = "DEVICE",
         .help =
             "cpu; cuda, cuda:N; emu: the emulator's counters and predicted times; with --capture "
             "and --replay ref, too; auto: cpu, or where a capture comes from"},
        {.name = "variant",
         .type = OPTION_TEXT,
         .target = &job.variant,
         .value = "NAME",
         .help = "cuda, emu: take kernels whose name contains it (_64x64_), query16, query64, "
                 "cublaslt"},
        {.name = "pairs",
         .type = OPTION_COUNT,
         .target = &job.pairs,
         .value = "N",
         .help = "cuda, emu: N times the sequences of a case; 1",
         .low = 1,
         .high = 1000},
        {.name = "check",
         .type = OPTION_FLAG,
         .target = &job.check_only,
         .help = "cuda, --replay: compare with the reference, time nothing"},
        {.name = "capture",
         .type = OPTION_TEXT,
         .target = &job.capture,
         .value = "FILE",
         .help = "write the largest batch that --model makes of the pairs: lengths and ops"},
        {.name = "batch-tokens",
         .type = OPTION_COUNT,
         .target = &job.batch_tokens,
         .value = "N",
         .help = "--capture: tokens of a batch; what the device takes",
         .low = 1,
         .high = 1 << 20},
        {.name = "max-length",
         .type = OPTION_COUNT,
         .target = &job.max_length,
         .value = "N",
         .help = "--capture: tokens of a pair; the model's",
         .low = 1,
         .high = 1 << 20},
        {.name = "replay",
         .type = OPTION_TEXT,
         .target = &job.replay,
         .value = "FILE",
         .help = "run the ops of a captured batch, at its lengths, and say what share each has"},
        {.name = "isa",
         .type = OPTION_TEXT,
         .target = &job.only_isa,
         .value = "NAME",
         .help = "one instruction set of info --kernels; all that this CPU has"},
        {.name = "threads",
         .type = OPTION_COUNT,
         .target = &threads,
         .value = "N",
         .help = "threads that share each op; 1",
         .low = 1,
         .high = 1024},
        {.name = "time",
         .type = OPTION_COUNT,
         .target = &job.milliseconds,
         .value = "MS",
         .help = "milliseconds a case; 50",
         .low = 1,
         .high = 60000},
        {.name = "json", .type = OPTION_FLAG, .target = &job.json, .help = "JSON Lines"},
    };
    cli_arguments arguments;
    cli_exit code = options_parse(self, options, sizeof options / sizeof options[0], argc, argv, 0,
                                  1, &arguments);
    if (code != CLI_PARSED) return code;
    bool table = job.capture == NULL && job.replay == NULL;
    if (job.capture != NULL && job.replay != NULL)
        return options_misuse(self, "--capture or --replay, not both");
    if (job.capture == NULL && (arguments.n > 0 || job.batch_tokens != 0 || job.max_length != 0))
        return options_misuse(self, "pairs, --batch-tokens and --max-length are for --capture");
    if (job.capture != NULL && job.only_model == NULL)
        return options_misuse(self, "--capture needs --model MODEL");
    if (job.replay != NULL && (job.only_model != NULL || job.pairs != 1))
        return options_misuse(self, "--replay takes no --model and no --pairs");
    if (table && job.device.device == CRANK_DEVICE_AUTO) job.device.device = CRANK_DEVICE_CPU;
    if (table && job.device.device == CRANK_DEVICE_REF)
        return options_misuse(self, "--device takes cpu, cuda, cuda:N or emu here");
    bool on_cpu = job.device.device == CRANK_DEVICE_CPU;
    bool on_gpu = job.device.device == CRANK_DEVICE_CUDA;
    if (table && on_cpu && (job.variant != NULL || job.pairs != 1 || job.check_only))
        return options_misuse(self, "--variant, --pairs and --check need --device cuda or emu");
    if (on_gpu && (job.only_isa != NULL || threads != 1))
        return options_misuse(self, "--isa and --threads need --device cpu");
    job.threads = (int)threads;
    if (job.capture != NULL) return bench_capture(&job, arguments.n > 0 ? arguments.at[0] : "-");
    crank_error error = {0};
    if (job.threads > 1 && team_open(&job.team, job.threads, 0, &error) != CRANK_OK) {
        return cli_fail_status(&error, 0);
    }
    code = job.replay != NULL ? bench_replay(&job)
           : on_cpu           ? run_levels(&job)
                              : bench_ops_cuda(&job);
    team_close(job.team);
    if (code == CLI_OK && job.n_wrong > 0) {
        code = cli_fail(CLI_ERRORS, "%d cases differ from the reference", job.n_wrong);
    }
    return code;
}

const cli_command bench_ops_command = {
    .name = "bench ops",
    .summary = "Every op x dtype x instruction set or GPU x shape: time, rate, share of the peak.",
    .synopsis =
        "[options]\n       crank bench ops --capture FILE --model MODEL [options] [PAIRS|-]\n"
        "       crank bench ops --replay FILE [options]",
    .details = "Results are compared with the reference first; a case that is wrong is not timed "
               "and makes the\nexit code 1. Peaks are measured in the same run by loops that touch "
               "only registers, or only\nthe cache; on a GPU mma.sync on registers and a copy. The "
               "share is that of the median "
               "time. On emu:\ncounters, and times predicted from them for an H100, not measured.",
    .example = "  crank bench ops --isa avx2 --dtype int8\n"
               "  crank bench ops --op decoder_step --isa avx512-bf16\n"
               "  crank bench ops --device emu --model MiniLM --variant _64x64_\n"
               "  crank bench ops --capture batch.json --device emu --model MODEL pairs.tsv\n"
               "  crank bench ops --replay batch.json --device emu --dtype bf16",
    .run = bench_ops,
};
