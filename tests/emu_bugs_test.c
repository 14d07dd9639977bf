/* Planted bugs: every check of the emulator finds the bug it is there for, names its line, and
 * finds nothing in the clean twin. The same loop then turns that one check off and sees the bug go
 * by unnoticed: what caught it was the check and nothing else, so a check that stops working fails
 * here. Kernels: tests/emu/bugs.cu. */
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
    uint32_t also; /* checks that see what the bug leads to, beside the one that names it */
} bug;

static const bug bugs[] = {
    {"pipeline_clean", 0, 5, 0, 0},
    {"pipeline_lax_wait", EMU_CHECK_ASYNC, 5, 0, 0},
    {"pipeline_no_barrier_after_wait", EMU_CHECK_SHARED_RACE, 5, 0,
     EMU_CHECK_SHARED_INIT | EMU_CHECK_ASYNC},
    {"pipeline_no_barrier_before_reuse", EMU_CHECK_SHARED_RACE, 5, 0, EMU_CHECK_ASYNC},
    {"pipeline_in_flight_at_exit", EMU_CHECK_ASYNC_EXIT, 5, 0, 0},
    {"copy_never_awaited", EMU_CHECK_ASYNC, 1, 0, 0},
    {"shared_clean", 0, 2, 0, 0},
    {"shared_syncwarp", 0, 2, 0, 0},
    {"shared_no_barrier_after_store", EMU_CHECK_SHARED_RACE, 2, 0, EMU_CHECK_SHARED_INIT},
    {"shared_two_writers", EMU_CHECK_SHARED_RACE, 2, 0, 0},
    {"shared_no_syncwarp", EMU_CHECK_SHARED_RACE, 2, 0, 0},
    {"shared_shuffle_is_no_barrier", EMU_CHECK_SHARED_RACE, 2, 0, 0},
    {"shared_static_past_end", EMU_CHECK_SHARED_BOUNDS, 1, 0, 0},
    {"shared_dynamic_past_end", 0, 0, 512, 0},
    {"shared_dynamic_past_end", EMU_CHECK_SHARED_BOUNDS, 1, 512, 0},
    {"shared_unwritten", EMU_CHECK_SHARED_INIT, 1, 0, 0},
    {"shared_misaligned", EMU_CHECK_SHARED_ALIGN, 1, 0, 0},
    {"ldmatrix_misaligned", EMU_CHECK_SHARED_ALIGN, 1, 0, 0},
    {"global_clean", 0, 1, 0, 0},
    {"global_write_past_end", EMU_CHECK_GLOBAL_BOUNDS, 1, 0, 0},
    {"global_read_past_end", EMU_CHECK_GLOBAL_BOUNDS, 1000, 0, 0},
    {"global_misaligned", EMU_CHECK_GLOBAL_ALIGN, 1, 0, 0},
    {"copy_misaligned", EMU_CHECK_GLOBAL_ALIGN, 1, 0, 0},
    {"global_unwritten", EMU_CHECK_GLOBAL_INIT, 0, 0, 0},
    {"local_past_end", EMU_CHECK_LOCAL, 1, 0, 0},
    {"shuffle_divergent", 0, 32, 0, 0},
    {"shuffle_divergent", EMU_CHECK_WARP_SYNC, 16, 0, 0},
    {"shuffle_from_absent_lane", EMU_CHECK_WARP_SYNC, 16, 0, 0},
    {"product_clean", 0, 1, 0, 0},
    {"mma_divergent", 0, 32, 0, 0},
    {"mma_divergent", EMU_CHECK_WARP_SYNC, 16, 0, 0},
    {"barrier_divergent", 0, 128, 0, 0},
    {"barrier_divergent", EMU_CHECK_BARRIER, 96, 0, 0},
    {"barrier_after_exit", EMU_CHECK_BARRIER, 96, 0, 0},
    {"barrier_two_places", EMU_CHECK_BARRIER, 64, 0, 0},
};
#define N_BUGS (sizeof bugs / sizeof bugs[0])

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
    if (found == UINT32_MAX)
        fprintf(stderr, "SKIPPED: built without nvcc, no tests/emu/*.cu kernels\n");
    return found == UINT32_MAX;
}

Test(emu_bugs, each_check_finds_its_bug_and_names_the_line)
{
    for (size_t i = 0; i < N_BUGS; i++)
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
                cr_expect_eq(found & ~(bugs[i].check | bugs[i].also), 0,
                             "%s: 0x%x found beside it, schedule %u", bugs[i].kernel, found,
                             schedule);
                cr_expect_neq(result, 0, "%s: the launch succeeds", bugs[i].kernel);
                cr_expect(has_line, "%s: no source line", bugs[i].kernel);
            }
        }
}

Test(emu_bugs, each_bug_goes_by_unnoticed_when_its_check_is_off)
{
    int n_planted = 0;
    for (size_t i = 0; i < N_BUGS; i++) {
        const bug *b = &bugs[i];
        if (b->check == 0) continue;
        for (uint32_t schedule = EMU_FORWARD; schedule <= EMU_RANDOM; schedule++) {
            int result, has_line;
            uint32_t off = EMU_CHECK_ALL & ~(b->check | b->also);
            uint32_t found = run_bug(b, off, schedule, &result, &has_line);
            if (is_skipped(found)) return;
            cr_expect_eq(found, 0, "%s: 0x%x found without its check, schedule %u", b->kernel,
                         found, schedule);
            cr_expect_eq(result, 0, "%s: error %d without its check", b->kernel, result);
        }
        n_planted++;
    }
    cr_expect_geq(n_planted, 12);
}

Test(emu_bugs, every_check_has_a_planted_bug)
{
    uint32_t planted = EMU_CHECK_LEAK | EMU_CHECK_HOST; /* the tests of the host's side, below */
    for (size_t i = 0; i < N_BUGS; i++) planted |= bugs[i].check;
    cr_expect_eq(planted, EMU_CHECK_ALL, "0x%x", planted);
}

Test(emu_bugs, without_checks_nothing_is_reported_and_nothing_crashes)
{
    for (size_t i = 0; i < N_BUGS; i++) {
        int result, has_line;
        uint32_t found = run_bug(&bugs[i], 0, EMU_FORWARD, &result, &has_line);
        if (is_skipped(found)) return;
        cr_expect_eq(found, 0, "%s: 0x%x", bugs[i].kernel, found);
        cr_expect_eq(result, 0, "%s: error %d", bugs[i].kernel, result);
    }
}

/* ---- what only values show ---------------------------------------------------------------------
 */

static uint16_t small_half(int value)
{
    static const uint16_t halves[] = {0xc400, 0xc200, 0xc000, 0xbc00, 0,
                                      0x3c00, 0x4000, 0x4200, 0x4400}; /* -4 .. 4 */
    return halves[value + 4];
}

/* The largest difference between a product kernel's result and A times B; -1 when it was skipped.
 */
static double product_error(const char *kernel)
{
    emulator e;
    int a[16][16], b[16][8], n = 1;
    uint16_t in[16 * 16 + 8 * 16];
    float out[16 * 8];
    cr_assert_eq(emulator_open(&e, NULL), 0);
    int loaded = emulator_load(&e, EMU_KERNELS("bugs"));
    cr_assert_neq(loaded, 1);
    if (is_skipped(loaded < 0 ? UINT32_MAX : 0)) return -1;
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 16; k++) {
            a[i][k] = (i * 7 + k * 3 + i * k) % 9 - 4;
            in[i * 16 + k] = small_half(a[i][k]);
            if (i < 8) {
                b[k][i] = (i * 5 + k * 2 + i * k * 3) % 9 - 4;
                in[256 + i * 16 + k] = small_half(b[k][i]);
            }
        }
    gpu_address from, to;
    cr_assert_eq(e.g.cuMemAlloc_v2(&from, sizeof in), 0);
    cr_assert_eq(e.g.cuMemAlloc_v2(&to, sizeof out), 0);
    cr_assert_eq(e.g.cuMemcpyHtoD_v2(from, in, sizeof in), 0);
    void *arguments[] = {&from, &to, &n};
    cr_assert_eq(emulator_launch(&e, kernel, 1, 128, 0, NULL, arguments), 0);
    cr_assert_eq(e.g.cuMemcpyDtoH_v2(out, to, sizeof out), 0);
    cr_expect_eq(emulator_found(&e), 0, "%s: no check is about values", kernel);
    double worst = 0;
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 8; j++) {
            int sum = 0;
            for (int k = 0; k < 16; k++) sum += a[i][k] * b[k][j];
            worst = fmax(worst, fabs((double)out[i * 8 + j] - sum));
        }
    e.g.cuMemFree_v2(from);
    e.g.cuMemFree_v2(to);
    emulator_close(&e);
    return worst;
}

/* Two operands of an mma's asm string in the wrong order are legal code: the result is wrong. */
Test(emu_bugs, swapped_mma_operands_give_a_wrong_product)
{
    double clean = product_error("product_clean");
    if (clean < 0) return;
    cr_expect_eq(clean, 0, "%g", clean);
    double swapped = product_error("product_swapped");
    cr_expect_gt(swapped, 1, "%g", swapped);
}

/* ---- the host's side ---------------------------------------------------------------------------
 */

static void open_with(emulator *e, uint32_t checks)
{
    emu_options options;
    cr_assert_eq(gpu_open(&e->g, EMU_LIBRARY), 0);
    gpu_symbol(e->g.library, "emu_defaults", &e->emu_defaults);
    e->emu_defaults(&options);
    options.checks = checks;
    cr_assert_eq(emulator_open(e, &options), 0);
}

Test(emu_bugs, a_leak_is_found_and_goes_by_when_its_check_is_off)
{
    for (int on = 0; on < 2; on++) {
        emulator e;
        open_with(&e, on ? EMU_CHECK_ALL : EMU_CHECK_ALL & ~EMU_CHECK_LEAK);
        gpu_address kept;
        gpu_handle stream;
        cr_assert_eq(e.g.cuMemAlloc_v2(&kept, 256), 0);
        cr_assert_eq(e.g.cuStreamCreate(&stream, 1), 0);
        emulator_close(&e);
        cr_expect_eq(emulator_found(&e), on ? EMU_CHECK_LEAK : 0);
        cr_expect_eq(e.emu_report_count(), on ? 2 : 0);
    }
}

Test(emu_bugs, a_bad_driver_call_is_found_and_goes_by_when_its_check_is_off)
{
    for (int on = 0; on < 2; on++) {
        emulator e;
        open_with(&e, on ? EMU_CHECK_ALL : EMU_CHECK_ALL & ~EMU_CHECK_HOST);
        gpu_address freed;
        cr_assert_eq(e.g.cuMemAlloc_v2(&freed, 256), 0);
        cr_assert_eq(e.g.cuMemFree_v2(freed), 0);
        cr_expect_eq(e.g.cuMemFree_v2(freed), 1, "a second free is refused either way");
        emulator_close(&e);
        cr_expect_eq(emulator_found(&e), on ? EMU_CHECK_HOST : 0);
    }
}
