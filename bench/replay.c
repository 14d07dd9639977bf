/* crank bench ops --capture and --replay: a batch of real work, and what its ops cost on a device
 * (capture.h says what a capture is).
 *
 * A replay runs every op alone, on random numbers, at the captured lengths. Its first sequences are
 * compared with the reference, the whole batch with their bits (rows of a batch do not depend on
 * each other), and then it is timed, or counted on the emulator. Shares are of the sum over the
 * ops, each as often as the forward pass has it: what happens between ops is not in it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/capture.h"
#include "bench/ops_bench.h"
#include "cli/model.h"
#include "cli/output.h"
#include "cli/records.h"

/* Pairs that are planned together: what crank score takes at once. */
#define PLANNED_PAIRS 8192
/* What of a batch is compared with the reference, which is slow. */
#define CHECKED_TOKENS 128

/* ---- capture ----------------------------------------------------------------------------------
 */

static cli_exit plan_pairs(const bench_job *job, opened_model *opened, const crank_pair *pairs,
                           size_t n, capture *c)
{
    size_t labels = opened->info.labels > 1 ? (size_t)opened->info.labels : 1;
    crank_score_options options = {.size = sizeof options, .max_length = job->max_length};
    crank_error error = {0};
    capture_watch watch;
    float *logits = cli_alloc(n * labels, sizeof *logits);
    capture_start(&watch, c, opened->session);
    crank_status status =
        crank_score(opened->session, pairs, n, &options, logits, NULL, NULL, &error);
    crank_status taken = capture_stop(&watch, status == CRANK_OK ? &error : NULL);
    free(logits);
    return status != CRANK_OK || taken != CRANK_OK ? cli_fail_status(&error, 0) : CLI_OK;
}

static cli_exit read_pairs(const char *path, store *keep, crank_pair **pairs, size_t *n)
{
    records in;
    size_t capacity = 0;
    cli_exit code = records_open(&in, path, FORMAT_AUTO);
    while (code == CLI_OK && *n < PLANNED_PAIRS) {
        crank_text query, document;
        code = records_next_pair(&in, &query, &document);
        if (code != CLI_OK || query.data == NULL) break;
        *pairs = cli_append(*pairs, *n, &capacity, sizeof **pairs);
        (*pairs)[*n].query = store_text(keep, query.data, query.bytes);
        (*pairs)[(*n)++].document = store_text(keep, document.data, document.bytes);
    }
    records_close(&in);
    if (code == CLI_OK && *n == 0) return cli_fail(CLI_USAGE, "%s: no pairs", path);
    return code;
}

/* "batch 1 of 7: 5102 tokens in 31 sequences of 45 to 512" */
static void say_batch(FILE *to, const capture *c)
{
    int32_t shortest = c->lengths[0];
    for (int32_t b = 1; b < c->n_sequences; b++) {
        if (c->lengths[b] < shortest) shortest = c->lengths[b];
    }
    put_plain(to, c->model, strlen(c->model));
    fprintf(to, ", batch %d of %d: %d tokens in %d sequences of %d to %d, %s on ", c->batch,
            c->n_batches, c->n_tokens, c->n_sequences, shortest, c->longest,
            ops_dtypes[c->dtype].name);
    put_plain(to, c->device, strlen(c->device));
}

static cli_exit write_capture(const bench_job *job, const capture *c)
{
    output *out;
    cli_exit code = output_open(&out, job->capture);
    if (code != CLI_OK) return code;
    capture_write(output_stream(out), c);
    code = output_commit(out);
    if (code != CLI_OK) return code;
    int64_t ops = 0;
    for (size_t i = 0; i < c->n_ops; i++) ops += c->ops[i].count;
    if (strcmp(job->capture, "-") == 0) return CLI_OK;
    printf("%s: ", job->capture);
    say_batch(stdout, c);
    printf("; %lld ops, %zu of them different\n", (long long)ops, c->n_ops);
    return CLI_OK;
}

cli_exit bench_capture(const bench_job *job, const char *path)
{
    model_flags flags = {.path = job->only_model,
                         .device = job->device,
                         .isa = job->only_isa,
                         .threads = (size_t)job->threads,
                         .batch_tokens = job->batch_tokens};
    for (int i = 0; job->only_dtype != NULL && dtype_names[i] != NULL; i++) {
        if (strcmp(dtype_names[i], job->only_dtype) == 0) flags.dtype = i;
    }
    if (job->only_dtype != NULL && flags.dtype == 0)
        return cli_fail(CLI_USAGE, "--dtype: expected f32, bf16, f16 or int8, found %s",
                        job->only_dtype);
    opened_model opened = {0};
    crank_pair *pairs = NULL;
    size_t n = 0;
    store keep = {0};
    capture c = {0};
    cli_exit code = read_pairs(path, &keep, &pairs, &n);
    if (code == CLI_OK) code = model_open(&opened, &flags, 1);
    if (code == CLI_OK) code = plan_pairs(job, &opened, pairs, n, &c);
    if (code == CLI_OK) code = write_capture(job, &c);
    model_close(&opened);
    capture_free(&c);
    store_clear(&keep);
    free(pairs);
    return code;
}

/* ---- replay -----------------------------------------------------------------------------------
 */

/* The device that is asked for, or else the one of the capture. */
static cli_exit choose_device(bench_job *job, const capture *c)
{
    static const struct {
        const char *name;
        crank_device device;
    } devices[] = {
        {"ref", CRANK_DEVICE_REF}, {"cpu", CRANK_DEVICE_CPU}, {"cuda", CRANK_DEVICE_CUDA}};
    for (size_t i = 0; job->device.device == CRANK_DEVICE_AUTO && i < 3; i++) {
        if (strcmp(devices[i].name, c->device) == 0) job->device.device = devices[i].device;
    }
    if (job->device.device == CRANK_DEVICE_AUTO)
        return cli_fail(CLI_USAGE, "%s: device: expected ref, cpu or cuda", job->replay);
    return CLI_OK;
}

static cli_exit choose_dtype(const bench_job *job, const capture *c, const bench_engine *e,
                             ops_dtype *dtype)
{
    *dtype = c->dtype;
    if (job->only_dtype != NULL) {
        int i = 0;
        while (i < OPS_N_DTYPES && strcmp(ops_dtypes[i].name, job->only_dtype) != 0) i++;
        if (i == OPS_N_DTYPES)
            return cli_fail(CLI_USAGE, "--dtype: expected f32, bf16, f16 or int8, found %s",
                            job->only_dtype);
        *dtype = (ops_dtype)i;
    }
    if (e->backend->layout(e->device, *dtype) == NULL)
        return cli_fail(CLI_USAGE, "%s does not compute in %s: name another with --dtype",
                        e->backend->name, ops_dtypes[*dtype].name);
    return CLI_OK;
}

static void print_op(const bench_job *job, const capture_op *op, const bench_outcome *o,
                     double total)
{
    char shape[64];
    bench_shape_text(shape, sizeof shape, &op->c);
    bool counted = o->warp_instructions > 0;
    double sum = o->us * op->count, share = total > 0 ? sum / total : 0;
    double gflops = o->us > 0 ? bench_flops(&op->c) / o->us / 1e3 : 0;
    if (job->json) {
        printf("{\"op\":\"%s\",\"shape\":\"%s\",\"count\":%d,\"correct\":%s,\"error\":",
               ops_kind_names[op->c.op], shape, op->count, o->correct ? "true" : "false");
        json_put_float(stdout, (float)o->error);
        fputs(",\"kernel\":", stdout);
        json_put_string(stdout, o->kernels);
        if (o->runs > 0)
            printf(",\"median_us\":%.3f,\"best_us\":%.3f,\"runs\":%d", o->us, o->best_us, o->runs);
        if (counted)
            printf(",\"predicted_us\":%.3f,\"bound\":\"%s\",\"warp_instructions\":%llu,"
                   "\"global_sectors\":%llu,\"shared_extra_wavefronts\":%llu",
                   o->us, o->bound, o->warp_instructions, o->global_sectors, o->extra_wavefronts);
        printf(",\"flops\":%.0f,\"total_us\":%.3f,\"share\":%.4f}\n", bench_flops(&op->c), sum,
               share);
        return;
    }
    if (!o->correct) {
        printf("%-22s %-34s WRONG: off by %.2g of the root mean square, or other bits in the whole "
               "batch\n",
               ops_kind_names[op->c.op], shape, o->error);
        return;
    }
    printf("%-22s %-34s %3d x %11.1f us %6.1f %%", ops_kind_names[op->c.op], shape, op->count,
           o->us, 100 * share);
    if (gflops > 0) printf(" %9.1f GFLOP/s", gflops);
    if (counted)
        printf("  %s, %llu warp instructions, %llu sectors, %llu extra wavefronts", o->bound,
               o->warp_instructions, o->global_sectors, o->extra_wavefronts);
    printf("  %s\n", o->kernels);
}

static void print_total(const bench_job *job, const capture *c, ops_dtype dtype, double total)
{
    bool predicted = job->device.emulated;
    const char *how = job->check_only ? "checked" : predicted ? "predicted" : "measured";
    const char *device = job->device.device == CRANK_DEVICE_REF   ? "ref"
                         : job->device.device == CRANK_DEVICE_CPU ? "cpu"
                         : predicted                              ? "emu"
                                                                  : "cuda";
    if (job->json) {
        fputs("{\"capture\":", stdout);
        json_put_string(stdout, job->replay);
        fputs(",\"model\":", stdout);
        json_put_string(stdout, c->model);
        printf(",\"device\":\"%s\",\"dtype\":\"%s\",\"threads\":%d,\"sequences\":%d,\"tokens\":%d,"
               "\"how\":\"%s\",\"total_us\":%.3f}\n",
               device, ops_dtypes[dtype].name, job->threads, c->n_sequences, c->n_tokens, how,
               total);
        return;
    }
    if (job->check_only) return;
    printf("all ops, %s on %s in %s: %.1f us, %.2f us a sequence\n", how, device,
           ops_dtypes[dtype].name, total, total / c->n_sequences);
}

static cli_exit run_ops(bench_job *job, bench_engine *e, const capture *c, ops_dtype dtype)
{
    bench_outcome *outcomes = cli_alloc(c->n_ops, sizeof *outcomes);
    double total = 0;
    cli_exit code = CLI_OK;
    for (size_t i = 0; i < c->n_ops && code == CLI_OK; i++) {
        const bench_case *whole = &c->ops[i].c;
        outcomes[i] = (bench_outcome){0};
        if (job->only_op != NULL && strcmp(job->only_op, ops_kind_names[whole->op]) != 0) continue;
        crank_error error = {0};
        bench_case first = bench_first_sequences(whole, CHECKED_TOKENS);
        if (e->run(e, &first, first.b < whole->b ? whole : NULL, dtype, &outcomes[i], &error) !=
            CRANK_OK)
            code = cli_fail_status(&error, 0);
        if (code == CLI_OK && cli_stopped()) code = CLI_ERRORS;
        total += outcomes[i].us * c->ops[i].count;
        job->n_wrong += !outcomes[i].correct;
    }
    for (size_t i = 0; i < c->n_ops && code == CLI_OK; i++) {
        const char *name = ops_kind_names[c->ops[i].c.op];
        if (job->only_op == NULL || strcmp(job->only_op, name) == 0)
            print_op(job, &c->ops[i], &outcomes[i], total);
    }
    if (code == CLI_OK) print_total(job, c, dtype, total);
    free(outcomes);
    return code;
}

cli_exit bench_replay(bench_job *job)
{
    capture c;
    bench_engine e = {0};
    ops_dtype dtype;
    cli_exit code = capture_read(&c, job->replay);
    if (code != CLI_OK) return code;
    code = choose_device(job, &c);
    if (code == CLI_OK) {
        if (!job->json) {
            say_batch(stdout, &c);
            putchar('\n');
        }
        code = job->device.device == CRANK_DEVICE_CUDA ? bench_cuda_open(&e, job)
               : job->device.device == CRANK_DEVICE_CPU
                   ? bench_host_open(&e, job, &ops_backend_cpu)
                   : bench_host_open(&e, job, &ops_backend_ref);
    }
    if (code == CLI_OK) code = choose_dtype(job, &c, &e, &dtype);
    if (code == CLI_OK) code = run_ops(job, &e, &c, dtype);
    if (e.close != NULL) e.close(&e);
    capture_free(&c);
    return code;
}
