/* Weights packed and unpacked in every layout. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/layouts.h"
#include "support/ops_cases.h"
#include "support/ops_programs.h"

/* The largest error that storing in `dtype` may make in a row whose largest weight is `largest`. */
static double rounding(ops_dtype dtype, double value, double largest)
{
    switch (dtype) {
    case OPS_BF16: return fabs(value) / 256;
    case OPS_F16: return fabs(value) / 2048 + 3e-8;
    case OPS_INT8: return largest / 254 * 1.0001;
    default: return 0;
    }
}

static void check_layout(ops_report *report, const ops_layout *layout, int32_t n, int32_t k,
                         bool gated, bool with_bias)
{
    report->n_cases++;
    uint64_t entries = (uint64_t)n * (uint64_t)k;
    size_t bytes = layout->linear_bytes(n, k);
    if (bytes % 64 != 0) {
        ops_report_fail(report, "%s [%d, %d]: %zu bytes is no multiple of 64\n", layout->name, n, k,
                        bytes);
        return;
    }
    ops_case c = {.kind = CASE_LINEAR, .n = n, .k = k, .gated = gated, .no_bias = !with_bias};
    material m;
    material_make(&m, &c, entries);
    const host_linear *l = &m.linears[0];
    uint8_t *blobs = aligned_alloc(64, 2 * (bytes + 64));
    float *weight = material_take(&m, entries * sizeof *weight);
    float *bias = material_take(&m, (size_t)n * sizeof *bias);
    if (blobs == NULL) abort();
    uint8_t *second = blobs + bytes + 64;
    memset(blobs, 0xFF, bytes + 64);
    memset(second, 0x11, bytes + 64);
    layout->linear_pack(blobs, l->weight, l->bias, n, k, gated);
    layout->linear_pack(second, l->weight, l->bias, n, k, gated);
    if (memcmp(blobs, second, bytes) != 0)
        ops_report_fail(report, "%s [%d, %d]: packing twice gives other bytes\n", layout->name, n,
                        k);
    for (size_t i = 0; i < 64; i++) {
        if (blobs[bytes + i] == 0xFF && second[bytes + i] == 0x11) continue;
        ops_report_fail(report, "%s [%d, %d]: packing wrote behind the blob\n", layout->name, n, k);
        break;
    }
    layout->linear_unpack(weight, bias, blobs, n, k, gated);
    for (int32_t r = 0; r < n; r++) {
        double largest = 0;
        for (int32_t j = 0; j < k; j++) {
            largest = fmax(largest, fabs((double)l->weight[(size_t)r * (size_t)k + (size_t)j]));
        }
        bool right = bias[r] == (l->bias != NULL ? l->bias[r] : 0.0f);
        for (int32_t j = 0; j < k; j++) {
            size_t at = (size_t)r * (size_t)k + (size_t)j;
            double value = (double)l->weight[at];
            if (!(fabs((double)weight[at] - value) <= rounding(layout->dtype, value, largest)))
                right = false;
        }
        if (right) continue;
        ops_report_fail(report, "%s [%d, %d]%s: row %d does not come back\n", layout->name, n, k,
                        gated ? " gated" : "", r);
        break;
    }
    free(blobs);
    material_free(&m);
}

void ops_cases_layouts(ops_report *report)
{
    static const int32_t shapes[][2] = {{1, 1},   {7, 5},     {64, 64},    {112, 64},
                                        {33, 17}, {312, 312}, {1200, 312}, {384, 1536}};
    *report = (ops_report){0};
    for (size_t i = 0; ops_layouts[i] != NULL; i++) {
        if (ops_layout_by_name(ops_layouts[i]->name) != ops_layouts[i])
            ops_report_fail(report, "%s: two layouts have this name\n", ops_layouts[i]->name);
        for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
            int32_t n = shapes[s][0], k = shapes[s][1];
            check_layout(report, ops_layouts[i], n, k, false, s % 2 == 0);
            if (n % 2 == 0) check_layout(report, ops_layouts[i], n, k, true, s % 2 == 1);
        }
    }
    if (ops_layout_by_name("no-such-layout") != NULL)
        ops_report_fail(report, "a name that is no layout\n");
}
