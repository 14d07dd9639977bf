/* The CPU levels against each other: bf16 and int8 have the same bits on every instruction set,
 * f32 on every one that multiplies and adds in one step. What each level computes is held against
 * the reference in ops_test. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "support/ops_cases.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MAX_MFLOP 12
#else
#define MAX_MFLOP 0
#endif

static ops_report expected, found;

static bool run(const char *isa, ops_dtype dtype, ops_report *report)
{
    ops_subject subject = {.backend = &ops_backend_cpu,
                           .options.isa = isa,
                           .dtype = dtype,
                           .expected = &ops_backend_ref,
                           .max_mflop = MAX_MFLOP};
    crank_error error = {0};
    crank_status status = ops_cases_run(&subject, report, &error);
    cr_assert(status == CRANK_OK || status == CRANK_UNSUPPORTED, "%s", error.message);
    if (status == CRANK_UNSUPPORTED) printf("skipped: %s: %s\n", isa, error.message);
    return status == CRANK_OK;
}

/* Every level that this CPU has against its best one. */
static void compare(ops_dtype dtype, const char *but)
{
    crank_error error = {0};
    void *device;
    cr_assert_eq(ops_backend_cpu.open(&device, NULL, &error), CRANK_OK, "%s", error.message);
    size_t n;
    const ops_variant *variants = ops_backend_cpu.variants(device, &n);
    cr_assert(run(NULL, dtype, &expected));
    const char *last = "";
    for (size_t i = 0; i < n; i++) {
        const char *level = variants[i].isa;
        if (strcmp(level, last) == 0 || variants[i].selected || strcmp(level, but) == 0) continue;
        if (!variants[i].available) continue;
        last = level;
        if (!run(level, dtype, &found)) continue;
        cr_assert_eq(found.n_cases, expected.n_cases);
        for (int c = 0; c < found.n_cases; c++) {
            cr_expect_eq(found.digests[c], expected.digests[c], "%s %s: %s has other bits", level,
                         ops_dtypes[dtype].name, found.names[c]);
        }
        printf("%s %s: the bits of the best level in %d cases\n", level, ops_dtypes[dtype].name,
               found.n_cases);
    }
    ops_backend_cpu.close(device);
}

Test(cpu, int8_bits_are_the_same_on_every_level)
{
    compare(OPS_INT8, "");
}

Test(cpu, bf16_bits_are_the_same_on_every_level)
{
    compare(OPS_BF16, "");
}

Test(cpu, f32_bits_are_the_same_on_every_level_with_fma)
{
    compare(OPS_F32, "portable");
}

Test(cpu, an_unknown_level_is_refused_with_the_names_of_those_there_are)
{
    crank_error error = {0};
    void *device;
    ops_device_options options = {.isa = "sse9"};
    cr_assert_eq(ops_backend_cpu.open(&device, &options, &error), CRANK_UNSUPPORTED);
    cr_assert_not_null(strstr(error.message, "sse9"), "%s", error.message);
    cr_assert_not_null(strstr(error.message, "portable"), "%s", error.message);
}
