#define _DEFAULT_SOURCE
/* What benchmarks on a GPU stand on (kernels/cuda/lab.h), on the emulator or on a GPU: the path
 * that times ops and measures peaks, and the dry run of ./run gpu, which goes through all of its
 * steps with the emulator as the device. Times of an emulator mean nothing; that they come is the
 * test. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kernels/cuda/image.h"
#include "kernels/cuda/lab.h"
#include "kernels/ops.h"
#include "support/cuda_library.h"
#include "support/process.h"

/* A context with one norm of 16 rows on its list. */
typedef struct bench_context {
    ops_context ctx;
    void *weights;
    ops_tensor x, y;
    ops_norm norm;
} bench_context;

enum { WIDTH = 64, ROWS = 16 };

static void record(bench_context *b)
{
    ops_norm_rows(&b->ctx, &b->y, &b->x, &b->norm);
}

static void context_open(bench_context *b)
{
    crank_error error = {0};
    const ops_device_options options = {.library_path = cuda_library()};
    const ops_backend *backend = &ops_backend_cuda;
    *b = (bench_context){.ctx = {.backend = backend, .dtype = OPS_F16}};
    cr_assert_eq(backend->open(&b->ctx.device, &options, &error), CRANK_OK, "%s", error.message);
    static float ones[WIDTH];
    for (int i = 0; i < WIDTH; i++) ones[i] = 1;
    cr_assert_eq(backend->memory_open(b->ctx.device, &b->weights, sizeof ones, &error), CRANK_OK);
    cr_assert_eq(backend->memory_write(b->ctx.device, b->weights, ones, sizeof ones, &error),
                 CRANK_OK);
    b->norm = (ops_norm){OPS_NORM_LAYER, WIDTH, 1e-6f, b->weights, NULL};
    int32_t ids[ROWS] = {0};
    static const int32_t starts[] = {0, ROWS};
    ops_batch batch = {.n_sequences = 1,
                       .n_tokens = ROWS,
                       .max_tokens = ROWS,
                       .ids = ids,
                       .types = ids,
                       .positions = ids,
                       .starts = starts};
    for (int dry = 1; dry >= 0; dry--) {
        b->ctx.dry = dry;
        size_t bytes = b->ctx.workspace.peak;
        if (!dry)
            cr_assert_eq(backend->context_open(&b->ctx, bytes, &error), CRANK_OK, "%s",
                         error.message);
        ops_begin(&b->ctx, &batch);
        b->x = ops_new(&b->ctx, ROWS, WIDTH, OPS_USE_VALUE);
        b->y = ops_new(&b->ctx, ROWS, WIDTH, OPS_USE_VALUE);
        ops_broadcast(&b->ctx, &b->x, b->weights);
        record(b);
        cr_assert_eq(ops_end(&b->ctx, &error), CRANK_OK, "%s", error.message);
    }
}

static void context_close(bench_context *b)
{
    b->ctx.backend->context_close(&b->ctx);
    b->ctx.backend->memory_close(b->ctx.device, b->weights);
    b->ctx.backend->close(b->ctx.device);
}

Test(cuda_lab, what_is_on_the_list_is_timed)
{
    bench_context b;
    crank_error error = {0};
    cuda_lab_times times;
    char names[128];
    if (cuda_skipped("what_is_on_the_list_is_timed")) return;
    context_open(&b);
    record(&b);
    record(&b);
    cuda_lab_kernels(&b.ctx, names, sizeof names);
    cr_expect_str_eq(names, "norm_warp_per_row_f16_512");
    cr_assert_eq(cuda_lab_time(&b.ctx, 3, &times, &error), CRANK_OK, "%s", error.message);
    cr_expect_eq(times.rounds, 3 * CUDA_LAB_ROUNDS);
    cr_expect(times.median_us >= times.best_us && times.best_us >= 0);
    /* Nothing is left to time. */
    cr_expect_eq(cuda_lab_time(&b.ctx, 3, &times, &error), CRANK_INTERNAL);
    record(&b);
    cr_expect_eq(cuda_lab_run(&b.ctx, &error), CRANK_OK, "%s", error.message);
    record(&b);
    cuda_lab_drop(&b.ctx);
    cuda_lab_kernels(&b.ctx, names, sizeof names);
    cr_expect_str_empty(names);
    context_close(&b);
    cr_assert_eq(cuda_reports(), 0);
}

Test(cuda_lab, peaks_are_measured)
{
    bench_context b;
    crank_error error = {0};
    cuda_lab_peaks peaks;
    if (cuda_skipped("peaks_are_measured")) return;
    context_open(&b);
    crank_status status = cuda_lab_measure_peaks(&b.ctx, true, &peaks, &error);
    cr_assert_eq(status, CRANK_OK, "%s", error.message);
    cr_expect(peaks.gbps > 0 && peaks.gflops[OPS_F16] > 0 && peaks.gflops[OPS_BF16] > 0 &&
              peaks.gflops[OPS_INT8] > 0 && peaks.gflops[OPS_F32] == 0);
    context_close(&b);
    cr_assert_eq(cuda_reports(), 0);
}

/* Code for all targets and the PTX: with -DCRANK_CUDA_TARGETS=all it is 5 MB. */
Test(cuda_lab, the_kernels_embedded_in_the_library_are_at_most_10_mb)
{
    size_t bytes = 0;
    if (cuda_skipped("the_kernels_embedded_in_the_library_are_at_most_10_mb")) return;
    for (const cuda_image *image = cuda_images; image->name != NULL; image++) {
        bytes += (size_t)(image->ptx_end - image->ptx);
        if (image->cubins != NULL) bytes += (size_t)(image->cubins_end - image->cubins);
    }
    cr_expect(bytes > 0 && bytes <= 10 * 1000 * 1000, "%zu bytes", bytes);
}

/* A script in compute-sanitizer's place: it takes the same arguments, keeps the tool's name, and
 * runs the program or, when `finds` is not empty, reports an error as that tool. The results of the
 * step's commands: passed, failed. */
static void sanitize_with(const char *finds, int *passed, int *failed, char tools[512])
{
    char folder[512], script[600], path[700], text[2048];
    process_make_folder(folder);
    snprintf(script, sizeof script, "%s/sanitizer", folder);
    int bytes =
        snprintf(text, sizeof text,
                 "#!/bin/sh\n"
                 "test \"$1 $3 $4 $5 $6\" = '--tool --error-exitcode 9 --target-processes all' "
                 "|| exit 64\n"
                 "echo \"$2\" >>'%s/tools'\n"
                 "test \"$2\" = '%s' && exit 9\n"
                 "shift 6\n"
                 "exec \"$@\"\n",
                 folder, finds);
    process_write_file(script, text, (size_t)bytes);
    cr_assert_eq(chmod(script, 0755), 0);
    const char *argv[] = {"/usr/bin/env",   "python3",      CRANK_SOURCE_DIR "/bench/gpu",
                          "--library",      cuda_library(), "--build",
                          CRANK_BINARY_DIR, "--out",        folder,
                          "--quick",        "--steps",      "sanitize",
                          "--sanitizer",    script,         NULL};
    process_result result = process_run(argv, NULL, 0);
    cr_expect_eq(result.exit_code, finds[0] != 0, "%s%s", result.out, result.err);
    process_free(&result);
    snprintf(path, sizeof path, "%s/gpu.json", folder);
    json_error_t why;
    json_t *report = json_load_file(path, 0, &why), *row;
    cr_assert_not_null(report, "%s: %s", path, why.text);
    size_t i;
    *passed = *failed = 0;
    json_array_foreach(json_object_get(report, "steps"), i, row)
    {
        const char *end = json_string_value(json_object_get(row, "result"));
        *passed += strcmp(end, "passed") == 0;
        *failed += strcmp(end, "failed") == 0;
    }
    json_decref(report);
    snprintf(path, sizeof path, "%s/tools", folder);
    char *ran = process_read_file(path, NULL);
    snprintf(tools, 512, "%s", ran != NULL ? ran : "");
    free(ran);
    process_remove_folder(folder);
}

Test(cuda_lab, the_sanitizers_step_runs_each_tool_and_believes_it, .timeout = 900)
{
    static const char expected[] = "memcheck\nmemcheck\nracecheck\nracecheck\n"
                                   "initcheck\ninitcheck\nsynccheck\nsynccheck\n";
    const char *name = "the_sanitizers_step_runs_each_tool_and_believes_it";
    char tools[512];
    int passed, failed;
    if (cuda_skipped(name)) return;
    if (cuda_emulator() == NULL) {
        printf("[SKIP] %s: needs the emulator\n", name);
        return;
    }
#ifdef __SANITIZE_ADDRESS__
    printf("[SKIP] %s: Python cannot load a sanitized library\n", name);
    return;
#endif
    sanitize_with("", &passed, &failed, tools);
    cr_expect_eq(passed, 8);
    cr_expect_eq(failed, 0);
    cr_expect_str_eq(tools, expected);
    sanitize_with("racecheck", &passed, &failed, tools);
    cr_expect_eq(passed, 6);
    cr_expect_eq(failed, 2);
    cr_expect_str_eq(tools, expected);
}

/* Every step passes or says why it was left out, and the files hold what each step gave. */
Test(cuda_lab, the_dry_run_of_a_gpu_machine_passes, .timeout = 900)
{
    const char *name = "the_dry_run_of_a_gpu_machine_passes";
    char folder[512], out[600], path[700];
    if (cuda_skipped(name)) return;
    if (cuda_emulator() == NULL) {
        printf("[SKIP] %s: needs the emulator\n", name);
        return;
    }
#ifdef __SANITIZE_ADDRESS__
    printf("[SKIP] %s: Python cannot load a sanitized library\n", name);
    return;
#endif
    process_make_folder(folder);
    snprintf(out, sizeof out, "%s/results", folder);
    const char *argv[] = {"/usr/bin/env",   "python3",      CRANK_SOURCE_DIR "/bench/gpu",
                          "--library",      cuda_library(), "--build",
                          CRANK_BINARY_DIR, "--out",        out,
                          "--quick",        "--no-build",   NULL};
    process_result result = process_run(argv, NULL, 0);
    cr_expect_eq(result.exit_code, 0, "%s%s", result.out, result.err);
    process_free(&result);
    snprintf(path, sizeof path, "%s/gpu.json", out);
    json_error_t why;
    json_t *report = json_load_file(path, 0, &why);
    cr_assert_not_null(report, "%s: %s", path, why.text);
    static const char *const steps[] = {"build", "conformance", "parity", "sanitize",
                                        "ops",   "table",       "peers"};
    size_t i;
    json_t *row;
    for (size_t s = 0; s < sizeof steps / sizeof steps[0]; s++) {
        bool seen = false;
        json_array_foreach(json_object_get(report, "steps"), i, row)
        {
            if (strcmp(json_string_value(json_object_get(row, "step")), steps[s]) == 0) seen = true;
        }
        cr_expect(seen, "no step %s", steps[s]);
    }
    cr_expect_eq(json_array_size(json_object_get(report, "table")), 1);
    cr_expect_eq(json_array_size(json_object_get(report, "ops")), 2);
    json_array_foreach(json_object_get(report, "ops"), i, row)
    {
        cr_expect(json_is_true(json_object_get(row, "correct")));
        cr_expect(json_number_value(json_object_get(row, "predicted_us")) > 0);
    }
    json_t *lt = json_array_get(json_object_get(report, "cublaslt"), 0);
    cr_expect_eq(json_array_size(json_object_get(report, "cublaslt")), 1);
    cr_expect(json_is_true(json_object_get(lt, "correct")));
    cr_expect(json_number_value(json_object_get(lt, "predicted_us")) > 0);
    cr_expect_str_eq(json_string_value(json_object_get(lt, "kernel")),
                     "cublaslt_f16_residual+norm_warp_per_row_f16_512");
    json_decref(report);
    snprintf(path, sizeof path, "%s/gpu.md", out);
    char *text = process_read_file(path, NULL);
    cr_assert_not_null(text);
    cr_expect_not_null(strstr(text, "emulator stood in"));
    free(text);
    snprintf(path, sizeof path, "%s/gpu.log", out);
    text = process_read_file(path, NULL);
    cr_assert_not_null(text);
    cr_expect_not_null(strstr(text, "0 FAILED"), "%s", text);
    free(text);
    process_remove_folder(folder);
}
