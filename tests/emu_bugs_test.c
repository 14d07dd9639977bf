/* Planted bugs: every check of the emulator finds the bug it is there for, names its line, and
 * finds nothing in the clean twin; with the check switched off it finds nothing (so a check that
 * stops working fails here). Kernels: tests/emu/bugs.cu. */
#include <criterion/criterion.h>
#include <math.h>
#include <signal.h>

#include "tests/emu/emu_api.h"

#define N_IN 4096
#define N_OUT 128

typedef struct bug {
    const char *kernel;
    uint32_t check; /* 0: clean */
    int n;
    unsigned dynamic_shared;
} bug;

static const bug bugs[] = {
    {"pipeline_clean", 0, 5, 0},
    {"pipeline_lax_wait", EMU_CHECK_ASYNC, 5, 0},
    {"pipeline_no_barrier_after_wait", EMU_CHECK_SHARED_RACE, 5, 0},
    {"pipeline_no_barrier_before_reuse", EMU_CHECK_SHARED_RACE, 5, 0},
    {"pipeline_in_flight_at_exit", EMU_CHECK_ASYNC_EXIT, 5, 0},
    {"copy_never_awaited", EMU_CHECK_ASYNC, 1, 0},
    {"shared_clean", 0, 2, 0},
    {"shared_syncwarp", 0, 2, 0},
    {"shared_no_barrier_after_store", EMU_CHECK_SHARED_RACE, 2, 0},
    {"shared_two_writers", EMU_CHECK_SHARED_RACE, 2, 0},
    {"shared_no_syncwarp", EMU_CHECK_SHARED_RACE, 2, 0},
    {"shared_shuffle_is_no_barrier", EMU_CHECK_SHARED_RACE, 2, 0},
    {"shared_static_past_end", EMU_CHECK_SHARED_BOUNDS, 1, 0},
    {"shared_dynamic_past_end", 0, 0, 512},
    {"shared_dynamic_past_end", EMU_CHECK_SHARED_BOUNDS, 1, 512},
    {"shared_unwritten", EMU_CHECK_SHARED_INIT, 1, 0},
    {"shared_misaligned", EMU_CHECK_SHARED_ALIGN, 1, 0},
    {"ldmatrix_misaligned", EMU_CHECK_SHARED_ALIGN, 1, 0},
    {"global_clean", 0, 1, 0},
    {"global_write_past_end", EMU_CHECK_GLOBAL_BOUNDS, 1, 0},
    {"global_read_past_end", EMU_CHECK_GLOBAL_BOUNDS, 1000, 0},
    {"global_misaligned", EMU_CHECK_GLOBAL_ALIGN, 1, 0},
    {"copy_misaligned", EMU_CHECK_GLOBAL_ALIGN, 1, 0},
    {"global_unwritten", EMU_CHECK_GLOBAL_INIT, 0, 0},
    {"local_past_end", EMU_CHECK_LOCAL, 1, 0},
    {"shuffle_divergent", 0, 32, 0},
    {"shuffle_divergent", EMU_CHECK_WARP_SYNC, 16, 0},
    {"shuffle_from_absent_lane", EMU_CHECK_WARP_SYNC, 16, 0},
    {"product_clean", 0, 1, 0},
    {"mma_divergent", 0, 32, 0},
    {"mma_divergent", EMU_CHECK_WARP_SYNC, 16, 0},
    {"barrier_divergent", 0, 128, 0},
    {"barrier_divergent", EMU_CHECK_BARRIER, 96, 0},
    {"barrier_after_exit", EMU_CHECK_BARRIER, 96, 0},
    {"barrier_two_places", EMU_CHECK_BARRIER, 64, 0},
};

/* Runs one kernel with these checks; what was found, and the error of the launch. */
static uint32_t run_bug(const bug *b, uint32_t checks, uint32_t schedule, int *result,
                        int *has_line)
{
    emulator e;
    emu_options options = {0};
    static float in[N_IN];
    for (int i = 0; i < N_IN; i++) in[i] = (float)(i % 97) - 40;
    cr_assert_eq(gpu_open(&e.g, EMU_LIBRARY), 0);
    options.size = sizeof options;
    options.checks = checks;
    options.schedule = schedule;
    options.fail_alloc = options.fail_launch = -1;
    options.seed = 7;
    cr_assert_eq(emulator_open(&e, &options), 0);
    int loaded = emulator_load(&e, EMU_KERNELS("bugs"));
    cr_assert_neq(loaded, 1);
    if (loaded < 0) return UINT32_MAX;
    gpu_address from, to;
    cr_assert_eq(e.g.cuMemAlloc_v2(&from, sizeof in), 0);
    cr_assert_eq(e.g.cuMemAlloc_v2(&to, N_OUT * sizeof(float)), 0);
    cr_assert_eq(e.g.cuMemcpyHtoD_v2(from, in, sizeof in), 0);
    int n = b->n;
    void *arguments[] = {&from, &to, &n};
    *result = emulator_launch(&e, b->kernel, 1, 128, b->dynamic_shared, NULL, arguments);
    uint32_t found = emulator_found(&e);
    emu_report report;
    *has_line = 1;
    for (size_t i = 0; e.emu_report_get(i, &report) == 0; i++) {
        *has_line &= strstr(report.where, "bugs.cu:") != NULL;
        cr_expect_str_eq(report.kernel, b->kernel);
    }
    if ((b->check == 0 && found) || (b->check && (checks & b->check) && !(found & b->check)))
        emulator_print_reports(&e);
    e.g.cuMemFree_v2(from);
    e.g.cuMemFree_v2(to);
    emulator_close(&e);
    return found;
}

static int is_skipped(uint32_t found)
{
    static int told;
    if (found == UINT32_MAX && !told++)
        fprintf(stderr, "SKIPPED: built without nvcc, no tests/emu/*.cu kernels\n");
    return found == UINT32_MAX;
}

Test(emu_bugs, each_check_finds_its_bug_and_names_the_line)
{
    for (size_t i = 0; i < sizeof bugs / sizeof bugs[0]; i++)
        for (uint32_t schedule = EMU_FORWARD; schedule <= EMU_RANDOM; schedule++) {
            int result, has_line;
            uint32_t found = run_bug(&bugs[i], EMU_CHECK_ALL, schedule, &result, &has_line);
            if (is_skipped(found)) return;
            if (bugs[i].check == 0) {
                cr_expect_eq(found, 0, "%s: false alarm 0x%x", bugs[i].kernel, found);
                cr_expect_eq(result, 0, "%s: error %d", bugs[i].kernel, result);
            } else {
                cr_expect(found & bugs[i].check, "%s: 0x%x not found (0x%x), schedule %u",
                          bugs[i].kernel, bugs[i].check, found, schedule);
                cr_expect_neq(result, 0, "%s: the launch succeeds", bugs[i].kernel);
                cr_expect(has_line, "%s: no source line", bugs[i].kernel);
            }
        }
}

Test(emu_bugs, a_check_that_is_off_finds_nothing)
{
    for (size_t i = 0; i < sizeof bugs / sizeof bugs[0]; i++) {
        int result, has_line;
        uint32_t found =
            run_bug(&bugs[i], EMU_CHECK_ALL & ~bugs[i].check, EMU_FORWARD, &result, &has_line);
        if (is_skipped(found)) return;
        cr_expect_eq(found & bugs[i].check, 0, "%s: reported by a check that is off",
                     bugs[i].kernel);
    }
}

Test(emu_bugs, without_checks_nothing_is_reported_and_nothing_crashes)
{
    for (size_t i = 0; i < sizeof bugs / sizeof bugs[0]; i++) {
        int result, has_line;
        uint32_t found = run_bug(&bugs[i], 0, EMU_FORWARD, &result, &has_line);
        if (is_skipped(found)) return;
        cr_expect_eq(found, 0, "%s: 0x%x", bugs[i].kernel, found);
        cr_expect_eq(result, 0, "%s: error %d", bugs[i].kernel, result);
    }
}
