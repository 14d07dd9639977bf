#define _DEFAULT_SOURCE /* posix_memalign */
/* int8 GEMMs on the GPU give the integer sums that the CPU's give.
 *
 * Weights and activations are whole numbers whose scales come out as exactly 1, so the CPU's f32
 * results are the sums themselves. The GPU's results are f16, too short to hold them; so its linear
 * gets minus the CPU's sum of one row as bias, and that row must come out as exactly zero. A bias
 * that is off by one must give one. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/ops.h"
#include "support/cuda_library.h"

enum { T = 9, N = 70 };

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* x: rows over 0..255 and over -128..127 in turns (zero points 0 and 128), w: -127..127; each row
 * reaches both ends of its range. */
static void fill(float *x, float *w, int32_t k)
{
    uint32_t state = 5;
    for (int t = 0; t < T; t++) {
        int low = t % 2 == 0 ? 0 : -128;
        for (int i = 0; i < k; i++) x[t * k + i] = (float)(low + (int)(next_random(&state) % 256));
        x[t * k] = (float)low;
        x[t * k + k - 1] = (float)(low + 255);
    }
    for (int i = 0; i < N * k; i++) w[i] = (float)((int)(next_random(&state) % 255) - 127);
    for (int n = 0; n < N; n++) w[n * k + n % k] = 127;
}

typedef struct machine {
    const ops_backend *backend;
    void *device;
} machine;

static machine machine_open(const ops_backend *backend, const char *library, const char *variant)
{
    machine m = {.backend = backend};
    crank_error error = {0};
    const ops_device_options options = {.library_path = library, .isa = variant};
    cr_assert_eq(backend->open(&m.device, &options, &error), CRANK_OK, "%s", error.message);
    return m;
}

static void *place(const machine *m, const void *data, size_t bytes)
{
    void *block;
    crank_error error = {0};
    cr_assert_eq(m->backend->memory_open(m->device, &block, bytes, &error), CRANK_OK, "%s",
                 error.message);
    cr_assert_eq(m->backend->memory_write(m->device, block, data, bytes, &error), CRANK_OK, "%s",
                 error.message);
    return block;
}

/* out: [T, N] = x W^T + bias in int8. */
static void multiply(const machine *m, float *out, const float *x, const float *w,
                     const float *bias, int32_t k)
{
    const ops_backend *backend = m->backend;
    const ops_layout *layout = backend->layout(m->device, OPS_INT8);
    size_t bytes = layout->linear_bytes(N, k);
    void *packed = NULL;
    cr_assert_eq(posix_memalign(&packed, 64, bytes), 0);
    layout->linear_pack(packed, w, bias, N, k, false);
    void *blob = place(m, packed, bytes);
    void *table = place(m, x, (size_t)T * (size_t)k * sizeof *x);
    free(packed);
    ops_linear linear = {blob, N, k, false, layout};
    ops_embedding rows = {.word = {table, T, k, OPS_F32}};
    int32_t ids[T], zeros[T] = {0};
    static const int32_t starts[] = {0, T};
    for (int32_t t = 0; t < T; t++) ids[t] = t;
    ops_batch batch = {.n_sequences = 1,
                       .n_tokens = T,
                       .max_tokens = T,
                       .ids = ids,
                       .types = zeros,
                       .positions = zeros,
                       .starts = starts};
    ops_context ctx = {.backend = backend, .device = m->device, .dtype = OPS_INT8};
    crank_error error = {0};
    for (int dry = 1; dry >= 0; dry--) {
        size_t peak = ctx.workspace.peak;
        ctx.dry = dry;
        if (!dry)
            cr_assert_eq(backend->context_open(&ctx, peak, &error), CRANK_OK, "%s", error.message);
        ops_begin(&ctx, &batch);
        ops_tensor a = ops_new(&ctx, T, k, OPS_USE_OPERAND);
        ops_embed_norm(&ctx, &a, &rows);
        ops_tensor y = ops_new(&ctx, T, N, OPS_USE_VALUE);
        ops_linear_act(&ctx, &y, &a, &linear, OPS_IDENTITY);
        if (!dry) backend->read_f32(&ctx, out, &y);
        cr_assert_eq(ops_end(&ctx, &error), CRANK_OK, "%s", error.message);
    }
    backend->context_close(&ctx);
    backend->memory_close(m->device, table);
    backend->memory_close(m->device, blob);
}

static void compare(int32_t k, const char *variant)
{
    size_t n_x = (size_t)T * (size_t)k, n_w = (size_t)N * (size_t)k;
    float *x = malloc(n_x * sizeof *x), *w = malloc(n_w * sizeof *w);
    static float sums[T * N], found[T * N], bias[N];
    fill(x, w, k);
    machine cpu = machine_open(&ops_backend_cpu, NULL, NULL);
    machine gpu = machine_open(&ops_backend_cuda, cuda_library(), variant);
    for (int n = 0; n < N; n++) bias[n] = 0;
    multiply(&cpu, sums, x, w, bias, k);
    for (int t = 0; t < T; t++) { /* the scales are 1 indeed: the sums are those of the numbers */
        for (int n = 0; n < N; n++) {
            double exact = 0;
            for (int i = 0; i < k; i++)
                exact += (double)x[t * k + i] * (double)w[(size_t)n * (size_t)k + (size_t)i];
            cr_assert_eq((double)sums[t * N + n], exact, "K %d row %d output %d on the CPU", k, t,
                         n);
        }
    }
    for (int t = 0; t < T; t++) {
        for (int n = 0; n < N; n++) bias[n] = -sums[t * N + n];
        bias[t] += 1;
        multiply(&gpu, found, x, w, bias, k);
        for (int n = 0; n < N; n++)
            cr_expect_eq(found[t * N + n], n == t ? 1.0f : 0.0f,
                         "K %d row %d output %d: %g away from the CPU's sum of %.0f", k, t, n,
                         (double)found[t * N + n], (double)sums[t * N + n]);
    }
    gpu.backend->close(gpu.device);
    cpu.backend->close(cpu.device);
    free(x);
    free(w);
}

Test(cuda_int8, sums_are_the_cpus_sums, .timeout = 900)
{
    static const int32_t widths[] = {7, 64, 130, 384, 1536};
    if (cuda_skipped("sums_are_the_cpus_sums")) return;
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) compare(widths[i], NULL);
    cr_assert_eq(cuda_reports(), 0);
}

Test(cuda_int8, sums_are_equal_in_every_tile, .timeout = 900)
{
    static const char *const tiles[] = {"_16x32_", "_16x64_",  "_32x64_",
                                        "_64x64_", "_128x64_", "_128x128_"};
    if (cuda_skipped("sums_are_equal_in_every_tile")) return;
    for (size_t i = 0; i < sizeof tiles / sizeof tiles[0]; i++) compare(130, tiles[i]);
    cr_assert_eq(cuda_reports(), 0);
}
