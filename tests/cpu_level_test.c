/* Choosing an instruction set by name. What each level computes, and that all of them give the same
 * bits, is in ops_test; other architectures: tests/tools/neon_under_qemu.sh. */
#include <criterion/criterion.h>
#include <string.h>

#include "kernels/ops.h"

Test(cpu, an_unknown_level_is_refused_with_the_names_of_those_there_are)
{
    crank_error error = {0};
    void *device;
    ops_device_options options = {.isa = "sse9"};
    cr_assert_eq(ops_backend_cpu.open(&device, &options, &error), CRANK_UNSUPPORTED);
    cr_assert_not_null(strstr(error.message, "sse9"), "%s", error.message);
    cr_assert_not_null(strstr(error.message, "portable"), "%s", error.message);
}

Test(cpu, every_available_level_can_be_forced_and_is_the_selected_one)
{
    crank_error error = {0};
    void *best, *device;
    cr_assert_eq(ops_backend_cpu.open(&best, NULL, &error), CRANK_OK, "%s", error.message);
    size_t n, n_forced;
    const ops_variant *all = ops_backend_cpu.variants(best, &n);
    for (size_t i = 0; i < n; i++) {
        ops_device_options options = {.isa = all[i].isa};
        crank_status status = ops_backend_cpu.open(&device, &options, &error);
        if (status != CRANK_OK) {
            cr_assert_not(all[i].available, "%s: %s", all[i].isa, error.message);
            continue;
        }
        const ops_variant *forced = ops_backend_cpu.variants(device, &n_forced);
        cr_assert_eq(n_forced, n);
        size_t selected = 0;
        for (size_t v = 0; v < n; v++) {
            if (!forced[v].selected) continue;
            selected++;
            cr_assert_str_eq(forced[v].isa, all[i].isa);
            cr_assert(forced[v].available);
        }
        cr_assert_gt(selected, 0);
        cr_assert_not_null(strstr(ops_backend_cpu.describe(device), all[i].isa));
        ops_backend_cpu.close(device);
    }
    ops_backend_cpu.close(best);
}

Test(cpu, f16_has_no_layout)
{
    void *device;
    cr_assert_eq(ops_backend_cpu.open(&device, NULL, NULL), CRANK_OK);
    cr_assert_null(ops_backend_cpu.layout(device, OPS_F16));
    cr_assert_str_eq(ops_backend_cpu.layout(device, OPS_INT8)->name, "panel16-int8");
    ops_backend_cpu.close(device);
}
