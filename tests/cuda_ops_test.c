/* The CUDA kernels, run by the emulator (kernels/emu) with every check on: the op cases of
 * support/ops_cases.c in each dtype, every variant of the table, the same bits whichever tile is
 * chosen, and the host path: lists, graphs, errors.
 *
 * On a machine with a GPU the same program runs on it when CRANK_TEST_CUDA names its driver library
 * (./run gpu does that). Without kernels (no nvcc at build time) or emulator every test is a
 * counted skip. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cuda/image.h"
#include "support/ops_cases.h"

/* Cases above this are left to GPUs: the emulator computes about 20 MFLOP a second with checks. */
#define EMULATOR_MFLOP 12.0

static const char *library(void)
{
    static char path[512];
    const char *given = getenv("CRANK_TEST_CUDA");
    if (given != NULL && given[0] != 0) return given;
    snprintf(path, sizeof path, "%s/libcrank_emu.so", CRANK_BINARY_DIR);
    return access(path, R_OK) == 0 ? path : NULL;
}

static bool skipped(const char *test)
{
    if (cuda_image_version != 0 && library() != NULL) return false;
    printf("skipped: %s: %s\n", test,
           cuda_image_version == 0 ? "this build has no kernels (no nvcc)" : "no emulator library");
    return true;
}

static void run_cases(ops_dtype dtype)
{
    static ops_report report;
    if (skipped(ops_dtypes[dtype].name)) return;
    crank_error error = {0};
    ops_subject subject = {.backend = &ops_backend_cuda,
                           .options = {.library_path = library()},
                           .dtype = dtype,
                           .expected = &ops_backend_ref,
                           .max_mflop = getenv("CRANK_TEST_CUDA") != NULL ? 0 : EMULATOR_MFLOP,
                           .only = getenv("OPS_ONLY")};
    crank_status status = ops_cases_run(&subject, &report, &error);
    cr_assert_eq(status, CRANK_OK, "%s", error.message);
    printf("cuda %s: %d cases, %d skipped; worst error over tolerance: %s\n",
           ops_dtypes[dtype].name, report.n_cases, report.n_skipped, report.worst);
    cr_assert_eq(report.n_failed, 0, "%d of %d cases fail:\n%s", report.n_failed, report.n_cases,
                 report.failures);
    cr_assert_gt(report.n_cases - report.n_skipped, 0);
}

Test(cuda_ops, f16_cases, .timeout = 600)
{
    run_cases(OPS_F16);
}

Test(cuda_ops, bf16_cases, .timeout = 600)
{
    run_cases(OPS_BF16);
}

Test(cuda_ops, int8_cases, .timeout = 600)
{
    run_cases(OPS_INT8);
}
