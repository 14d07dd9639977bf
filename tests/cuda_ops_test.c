/* The CUDA kernels, run by the emulator (kernels/emu) with every check on, or by a GPU
 * (support/cuda_library.h): the op cases of support/ops_cases.c in each dtype, and the same bits
 * whichever variant computes them. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "support/cuda_library.h"
#include "support/ops_cases.h"

static void run(ops_report *report, ops_dtype dtype, const char *variant, double max_mflop,
                const char *only)
{
    crank_error error = {0};
    ops_subject subject = {.backend = &ops_backend_cuda,
                           .options = {.library_path = cuda_library(), .isa = variant},
                           .dtype = dtype,
                           .expected = &ops_backend_ref,
                           .max_mflop = max_mflop,
                           .only = only};
    crank_status status = ops_cases_run(&subject, report, &error);
    cr_assert_eq(status, CRANK_OK, "%s", error.message);
    printf("cuda %s %s: %d cases, %d skipped; worst error over tolerance: %s\n",
           ops_dtypes[dtype].name, variant != NULL ? variant : "", report->n_cases,
           report->n_skipped, report->worst);
    cr_assert_eq(report->n_failed, 0, "%d of %d cases fail:\n%s", report->n_failed, report->n_cases,
                 report->failures);
    cr_assert_gt(report->n_cases - report->n_skipped, 0);
    cr_assert_eq(cuda_reports(), 0);
}

static void run_dtype(ops_dtype dtype)
{
    static ops_report report;
    if (cuda_skipped(ops_dtypes[dtype].name)) return;
    run(&report, dtype, NULL, 0, getenv("OPS_ONLY"));
}

Test(cuda_ops, f16_cases, .timeout = 900)
{
    run_dtype(OPS_F16);
}

Test(cuda_ops, bf16_cases, .timeout = 900)
{
    run_dtype(OPS_BF16);
}

Test(cuda_ops, int8_cases, .timeout = 900)
{
    run_dtype(OPS_INT8);
}

/* Every variant must give the bits that the chosen one gives: that is what lets the choice depend
 * on the size of a batch. */
static void compare_variants(const char *const *variants, size_t n, ops_dtype dtype,
                             double max_mflop, const char *only)
{
    static ops_report chosen, forced;
    run(&chosen, dtype, NULL, max_mflop, only);
    for (size_t v = 0; v < n; v++) {
        run(&forced, dtype, variants[v], max_mflop, only);
        for (int i = 0; i < chosen.n_cases; i++) {
            cr_expect_eq(chosen.digests[i], forced.digests[i], "%s %s %s: other bits",
                         ops_dtypes[dtype].name, variants[v], chosen.names[i]);
        }
    }
}

Test(cuda_ops, gemm_tiles_give_equal_bits, .timeout = 900)
{
    static const char *const tiles[] = {"_16x32_",  "_16x64_",   "_32x64_",  "_64x64_",
                                        "_128x64_", "_128x128_", "_16x384_", "_32x384_"};
    if (cuda_skipped("gemm_tiles_give_equal_bits")) return;
    static const ops_dtype dtypes[] = {OPS_F16, OPS_BF16, OPS_INT8};
    for (int i = 0; i < 3; i++) compare_variants(tiles, 8, dtypes[i], 0.9, "linear");
}

/* Every activation and odd width that a linear may have, through cuBLASLt. */
Test(cuda_ops, cublaslt_cases, .timeout = 600)
{
    static ops_report report;
    if (cuda_skipped("cublaslt_cases")) return;
    run(&report, OPS_F16, "cublaslt", 0.15, "linear");
    run(&report, OPS_BF16, "cublaslt", 0.15, "linear");
}

Test(cuda_ops, attention_tiles_give_equal_bits, .timeout = 900)
{
    static const char *const tiles[] = {"query16", "query64"};
    if (cuda_skipped("attention_tiles_give_equal_bits")) return;
    compare_variants(tiles, 2, OPS_F16, 0, "attention B");
}
