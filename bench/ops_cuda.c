/* crank bench ops --device cuda|emu: the kernel lab.
 *
 * Every case is first computed and compared with the reference. On a GPU it is then timed as a
 * graph of repetitions between two events, as in production without the host's share, and set
 * against what the GPU reached in the same run with mma.sync on registers or with a copy. On the
 * emulator its kernels' counters are printed, and microseconds predicted from them (roofline.h),
 * labelled so.
 *
 * --pairs N: the same case with N times the sequences; its first sequences must have the bits that
 * they have alone, which is both the check (the reference would take minutes) and the proof that
 * the kernels chosen for the larger batch sum in the same order. */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/ops_bench.h"
#include "bench/roofline.h"
#include "cli/model.h"
#include "cli/output.h"
#include "kernels/cuda/lab.h"

enum { MAX_KERNELS = 8, LAB_REPEATS = 20 };

/* The emulator's own functions; all NULL on a GPU. */
typedef struct emulator {
    void *library;
    void (*defaults)(emu_options *options);
    int (*configure)(const emu_options *options);
    void (*counter_clear)(void);
    size_t (*counter_count)(void);
    int (*counter_get)(size_t index, emu_counters *out);
    const char *(*class_name)(uint32_t class_index);
} emulator;

typedef struct lab {
    bench_job *job;
    emulator emu;
    void *device;
    cuda_lab_peaks peaks;
    bool has_peaks;
} lab;

/* What a case gave. */
typedef struct outcome {
    double error;
    bool correct;
    cuda_lab_times times;
    emu_counters kernels[MAX_KERNELS];
    size_t n_kernels;
    double predicted_us;
    const char *bound; /* of the kernel that takes longest */
    char names[256];
} outcome;

static void find_symbol(void *library, const char *name, void *function)
{
    void *found = dlsym(library, name);
    memcpy(function, &found, sizeof found);
}

static void emulator_open(emulator *e, const char *path)
{
    e->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (e->library == NULL) return;
    find_symbol(e->library, "emu_defaults", &e->defaults);
    find_symbol(e->library, "emu_configure", &e->configure);
    find_symbol(e->library, "emu_counter_clear", &e->counter_clear);
    find_symbol(e->library, "emu_counter_count", &e->counter_count);
    find_symbol(e->library, "emu_counter_get", &e->counter_get);
    find_symbol(e->library, "emu_class_name", &e->class_name);
    /* The machine that times are predicted for: tiles are chosen for it. */
    emu_options options;
    e->defaults(&options);
    options.capability = 90;
    e->configure(&options);
}

/* ---- one case ---------------------------------------------------------------------------------
 */

/* Runs the op once more and reads its kernels' counters. */
static crank_status count(const lab *l, bench_side *s, outcome *o, crank_error *error)
{
    l->emu.counter_clear();
    bench_side_run(s);
    CRANK_TRY(cuda_lab_run(&s->ctx, error));
    size_t n = l->emu.counter_count();
    double longest = 0;
    for (size_t i = 0; i < n && o->n_kernels < MAX_KERNELS; i++) {
        emu_counters *c = &o->kernels[o->n_kernels];
        if (l->emu.counter_get(i, c) != 0 || c->launches == 0) continue;
        o->n_kernels++;
        roofline r = roofline_predict(c);
        o->predicted_us += r.us;
        if (r.us > longest) {
            longest = r.us;
            o->bound = r.bound;
        }
    }
    return CRANK_OK;
}

static crank_status measure(lab *l, bench_side *s, outcome *o, crank_error *error)
{
    bench_side_run(s);
    cuda_lab_kernels(&s->ctx, o->names, sizeof o->names);
    if (l->emu.counter_get != NULL) {
        cuda_lab_drop(&s->ctx);
        return count(l, s, o, error);
    }
    if (l->job->check_only) return cuda_lab_run(&s->ctx, error);
    if (!l->has_peaks) {
        cuda_lab_drop(&s->ctx);
        CRANK_TRY(cuda_lab_measure_peaks(&s->ctx, false, &l->peaks, error));
        l->has_peaks = true;
        bench_side_run(s);
    }
    return cuda_lab_time(&s->ctx, LAB_REPEATS, &o->times, error);
}

/* whole: NULL, or the larger batch that `first` is the beginning of. */
static crank_status run_case(lab *l, const bench_case *first, const bench_case *whole,
                             ops_dtype dtype, outcome *o, crank_error *error)
{
    bench_weights w = bench_weights_make(first);
    bench_side side = {.ctx = {.backend = &ops_backend_cuda, .device = l->device, .dtype = dtype}};
    bench_check check;
    *o = (outcome){.bound = ""};
    crank_status status = bench_side_open_checked(&side, first, whole, &w, &check, error);
    o->correct = check.correct;
    o->error = check.error;
    if (status == CRANK_OK && o->correct) status = measure(l, &side, o, error);
    bench_side_close(&side);
    bench_weights_free(&w);
    return status;
}

/* ---- printing ----------------------------------------------------------------------------------
 */

/* Bytes that must move at least once: inputs, weights and outputs in their stored types. */
static double least_bytes(const bench_case *c, ops_dtype dtype)
{
    double t = c->first_rows ? c->b : bench_tokens(c), b = c->b, d = c->k;
    double e = ops_dtypes[dtype].bytes;
    double both = dtype == OPS_INT8 ? 3 : 2; /* the result's forms */
    double width = c->heads > 0 ? (double)c->heads * c->k : d;
    switch (c->op) {
    case OPS_KIND_LINEAR:
        return t * d * e + (double)c->n * d * e + t * (c->gated ? c->n / 2 : c->n) * both;
    case OPS_KIND_LINEAR_RESIDUAL_NORM:
        return t * d * e + (double)c->n * d * e + t * c->n * (2 + both);
    case OPS_KIND_ATTENTION: return t * width * (6 + both);
    case OPS_KIND_ATTENTION_ROWS: return t * width * 4 + b * width * (2 + both);
    case OPS_KIND_ATTENTION_ROWS_FOLDED:
        return t * width * 2 + 8 * width * width + b * width * (2 + both);
    case OPS_KIND_EMBED_NORM: return t * d * (12 + both);
    case OPS_KIND_NORM: return t * d * (2 + both);
    case OPS_KIND_ADD_NORM: return t * d * (4 + both);
    case OPS_KIND_GATHER_AROUND: return t * d * (2 + c->n * both);
    case OPS_KIND_GATHER_FIRST: return b * d * (2 + both);
    case OPS_KIND_POOL: return t * d * 2 + b * d * both;
    case OPS_KIND_BROADCAST: return t * d * both;
    case OPS_KIND_HEAD: return t * d * 2 + 4 * (d * d + d * c->n);
    case OPS_KIND_VECTORS: return t * d * 6;
    case OPS_N_KINDS: break;
    }
    return 0;
}

/* Attention of an int8 model multiplies f16; small ops are f32 code bound by memory. */
static bool on_tensor_cores(ops_kind op)
{
    return op == OPS_KIND_LINEAR || op == OPS_KIND_LINEAR_RESIDUAL_NORM || op == OPS_KIND_ATTENTION;
}

static void put_counters(const lab *l, const emu_counters *c)
{
    roofline r = roofline_predict(c);
    double requests = c->global_requests > 0 ? (double)c->global_requests : 1;
    printf("{\"kernel\":\"%s\",\"launches\":%llu,\"blocks\":%llu,\"predicted_us\":%.2f,"
           "\"bound\":\"%s\",\"warp_instructions\":%llu",
           c->kernel, (unsigned long long)c->launches, (unsigned long long)c->blocks, r.us, r.bound,
           (unsigned long long)c->total_warp_instructions);
    for (uint32_t i = 0; i < EMU_N_CLASSES; i++) {
        if (c->warp_instructions[i] != 0)
            printf(",\"%s\":%llu", l->emu.class_name(i),
                   (unsigned long long)c->warp_instructions[i]);
    }
    printf(",\"flops\":%llu,\"global_requests\":%llu,\"global_sectors\":%llu,"
           "\"sectors_per_request\":%.2f,\"read_bytes\":%llu,\"written_bytes\":%llu,"
           "\"shared_requests\":%llu,\"shared_extra_wavefronts\":%llu}",
           (unsigned long long)c->flops, (unsigned long long)c->global_requests,
           (unsigned long long)c->global_sectors, (double)c->global_sectors / requests,
           (unsigned long long)c->global_read_bytes, (unsigned long long)c->global_written_bytes,
           (unsigned long long)c->shared_requests, (unsigned long long)c->shared_extra_wavefronts);
}

static void print_outcome(const lab *l, const bench_case *c, ops_dtype dtype, const outcome *o)
{
    const bench_job *job = l->job;
    bool tensor = on_tensor_cores(c->op), timed = o->times.rounds > 0;
    bool counted = o->n_kernels > 0;
    ops_dtype arithmetic = dtype == OPS_INT8 && c->op == OPS_KIND_ATTENTION ? OPS_F16 : dtype;
    double amount = tensor ? bench_flops(c) : least_bytes(c, dtype);
    double rate = timed ? amount / o->times.median_us / 1e3 : 0;
    double peak = tensor ? l->peaks.gflops[arithmetic] : l->peaks.gbps;
    char shape[64];
    bench_shape_text(shape, sizeof shape, c);
    if (job->json) {
        printf("{\"op\":\"%s\",\"dtype\":\"%s\",\"device\":\"%s\",\"kernel\":\"%s\",\"shape\":"
               "\"%s\",\"model\":\"%s\",\"correct\":%s,\"error\":%.3g",
               ops_kind_names[c->op], ops_dtypes[dtype].name, counted ? "emu" : "cuda", o->names,
               shape, c->model, o->correct ? "true" : "false", o->error);
        if (timed)
            printf(",\"median_us\":%.3f,\"best_us\":%.3f,\"runs\":%d,\"%s\":%.1f,\"peak\":%.1f,"
                   "\"share\":%.4f",
                   o->times.median_us, o->times.best_us, o->times.rounds,
                   tensor ? "gflops" : "gbps", rate, peak, peak > 0 ? rate / peak : 0);
        if (counted) {
            printf(",\"predicted_us\":%.2f,\"bound\":\"%s\",\"kernels\":[", o->predicted_us,
                   o->bound);
            for (size_t i = 0; i < o->n_kernels; i++) {
                if (i > 0) putchar(',');
                put_counters(l, &o->kernels[i]);
            }
            putchar(']');
        }
        puts("}");
    } else if (!o->correct) {
        printf("%-22s %-5s %-26s WRONG: off by %.2g of the root mean square, or other bits in a "
               "larger batch\n",
               ops_kind_names[c->op], ops_dtypes[dtype].name, shape, o->error);
    } else if (timed) {
        printf("%-22s %-5s %-26s %9.2f us %9.1f %-7s %5.1f %% of %.0f  %s  %s\n",
               ops_kind_names[c->op], ops_dtypes[dtype].name, shape, o->times.median_us, rate,
               tensor ? "GFLOP/s" : "GB/s", peak > 0 ? 100 * rate / peak : 0, peak, o->names,
               c->model);
    } else if (counted) {
        unsigned long long warps = 0, sectors = 0, extra = 0;
        for (size_t i = 0; i < o->n_kernels; i++) {
            warps += o->kernels[i].total_warp_instructions;
            sectors += o->kernels[i].global_sectors;
            extra += o->kernels[i].shared_extra_wavefronts;
        }
        printf("%-22s %-5s %-26s predicted %7.1f us (%s)  %8llu warp instructions %8llu sectors "
               "%5llu extra wavefronts  %s  %s\n",
               ops_kind_names[c->op], ops_dtypes[dtype].name, shape, o->predicted_us, o->bound,
               warps, sectors, extra, o->names, c->model);
    } else {
        printf("%-22s %-5s %-26s right, off by %.2g  %s  %s\n", ops_kind_names[c->op],
               ops_dtypes[dtype].name, shape, o->error, o->names, c->model);
    }
    fflush(stdout);
}

/* ---- all of them ------------------------------------------------------------------------------
 */

/* --variant cublaslt is about what it could do: 16-bit linears without gates. */
static bool concerns(const bench_job *job, const bench_case *c, ops_dtype dtype)
{
    if (job->variant == NULL || strcmp(job->variant, "cublaslt") != 0) return true;
    return (c->op == OPS_KIND_LINEAR || c->op == OPS_KIND_LINEAR_RESIDUAL_NORM) && !c->gated &&
           dtype != OPS_INT8;
}

static cli_exit run_cases(lab *l)
{
    static const ops_dtype dtypes[] = {OPS_F16, OPS_BF16, OPS_INT8};
    bench_job *job = l->job;
    crank_error error = {0};
    for (size_t d = 0; d < sizeof dtypes / sizeof dtypes[0]; d++) {
        for (size_t i = 0; i < n_bench_cases; i++) {
            outcome o;
            const bench_case *c = &bench_cases[i];
            if (!bench_wanted(job, c, ops_dtypes[dtypes[d]].name)) continue;
            if (!concerns(job, c, dtypes[d])) continue;
            if (cli_stopped()) return CLI_OK;
            bench_case shown = *c;
            shown.b *= (int32_t)job->pairs;
            if (run_case(l, c, job->pairs > 1 ? &shown : NULL, dtypes[d], &o, &error) != CRANK_OK)
                return cli_fail_status(&error, 0);
            if (!o.correct) job->n_wrong++;
            print_outcome(l, &shown, dtypes[d], &o);
        }
    }
    return CLI_OK;
}

static void lab_close(lab *l)
{
    if (l->device != NULL) ops_backend_cuda.close(l->device);
    if (l->emu.library != NULL) dlclose(l->emu.library);
}

/* Closed by lab_close, also after a failure. */
static cli_exit lab_open(lab *l, bench_job *job)
{
    *l = (lab){.job = job};
    char emu_path[PATH_MAX];
    crank_model_options model;
    model_flags flags = {.device = job->device};
    model_options_of(&model, &flags, emu_path);
    if (job->device.emulated) emulator_open(&l->emu, emu_path);
    ops_device_options options = {
        .ordinal = job->device.ordinal, .library_path = model.cuda_library, .isa = job->variant};
    crank_error error = {0};
    if (ops_backend_cuda.open(&l->device, &options, &error) != CRANK_OK)
        return cli_fail_status(&error, 0);
    if (!job->json)
        printf("%s%s\n", ops_backend_cuda.describe(l->device),
               job->device.emulated ? ": counters; microseconds are predicted for an H100, not "
                                      "measured (bench/roofline.h)"
                                    : "");
    return CLI_OK;
}

cli_exit bench_ops_cuda(bench_job *job)
{
    lab l;
    cli_exit code = lab_open(&l, job);
    if (code == CLI_OK) code = run_cases(&l);
    char notes[512] = "";
    if (l.device != NULL) ops_backend_cuda.notes(l.device, notes, sizeof notes);
    if (notes[0] != 0) cli_say("%s", notes);
    lab_close(&l);
    return code;
}

/* ---- as an engine of a replay ------------------------------------------------------------------
 */

static crank_status engine_run(bench_engine *e, const bench_case *first, const bench_case *whole,
                               ops_dtype dtype, bench_outcome *result, crank_error *error)
{
    outcome o;
    CRANK_TRY(run_case(e->state, first, whole, dtype, &o, error));
    bool counted = o.n_kernels > 0;
    *result = (bench_outcome){.correct = o.correct,
                              .error = o.error,
                              .us = counted ? o.predicted_us : o.times.median_us,
                              .best_us = o.times.best_us,
                              .runs = o.times.rounds,
                              .bound = o.bound};
    snprintf(result->kernels, sizeof result->kernels, "%s", o.names);
    for (size_t i = 0; i < o.n_kernels; i++) {
        result->warp_instructions += o.kernels[i].total_warp_instructions;
        result->global_sectors += o.kernels[i].global_sectors;
        result->extra_wavefronts += o.kernels[i].shared_extra_wavefronts;
    }
    return CRANK_OK;
}

static void engine_close(bench_engine *e)
{
    lab_close(e->state);
    free(e->state);
    e->state = NULL;
}

cli_exit bench_cuda_open(bench_engine *e, bench_job *job)
{
    lab *l = cli_alloc(1, sizeof *l);
    cli_exit code = lab_open(l, job);
    *e = (bench_engine){.job = job,
                        .backend = &ops_backend_cuda,
                        .device = l->device,
                        .state = l,
                        .run = engine_run,
                        .close = engine_close};
    return code;
}
