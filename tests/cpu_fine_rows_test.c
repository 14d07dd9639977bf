#define _DEFAULT_SOURCE /* posix_memalign */
/* int8 on the CPU keeps the first row of every sequence in two codes: 16 bits where the others have
 * 8, on every instruction set with the same bits, whatever lies beside the sequence.
 *
 * Every row has a value 60 times the others, as trained encoders have in their first token. Weights
 * are whole numbers up to 127, so that theirs come out exact and what is left is the activations'
 * error. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

enum { T = 11, B = 4, K = 130, N = 70 };

/* The third sequence is empty, the last is one token. */
static const int32_t starts[B + 1] = {0, 4, 10, 10, T};
static const bool is_first[T] = {[0] = true, [4] = true, [10] = true};

typedef struct matter {
    float x[T * K], w[N * K], bias[N];
} matter;

static float next_value(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (float)(*state >> 8) / 8388608.0f - 1.0f;
}

static void fill(matter *m)
{
    uint32_t state = 7;
    for (int i = 0; i < T * K; i++) m->x[i] = next_value(&state);
    for (int t = 0; t < T; t++) m->x[t * K + 17 + t] = 60.0f;
    for (int i = 0; i < N * K; i++) m->w[i] = rintf(127.0f * next_value(&state));
    for (int n = 0; n < N; n++) {
        m->w[n * K + n] = 127.0f;
        m->bias[n] = next_value(&state);
    }
}

/* out: [rows, N] of tokens [first, end) as sequences that begin at begins; of their first rows
 * alone with `gathered`. */
static void multiply(float *out, const matter *m, const cpu_level *level, int32_t first,
                     const int32_t *begins, int32_t n_sequences, bool gathered)
{
    const ops_backend *backend = &ops_backend_cpu;
    const ops_device_options options = {.isa = level->name};
    crank_error error = {0};
    void *device, *blob;
    cr_assert_eq(backend->open(&device, &options, &error), CRANK_OK, "%s", error.message);
    const ops_layout *layout = backend->layout(device, OPS_INT8);
    cr_assert_eq(posix_memalign(&blob, 64, layout->linear_bytes(N, K)), 0);
    layout->linear_pack(blob, m->w, m->bias, N, K, false);
    ops_linear linear = {blob, N, K, false, layout};
    int32_t n_tokens = begins[n_sequences], ids[T], zeros[T] = {0};
    for (int32_t t = 0; t < n_tokens; t++) ids[t] = first + t;
    ops_embedding rows = {.word = {m->x, T, K, OPS_F32}};
    ops_batch batch = {.n_sequences = n_sequences,
                       .n_tokens = n_tokens,
                       .max_tokens = n_tokens,
                       .ids = ids,
                       .types = zeros,
                       .positions = zeros,
                       .starts = begins};
    ops_context ctx = {.backend = backend, .device = device, .dtype = OPS_INT8};
    for (int dry = 1; dry >= 0; dry--) {
        size_t peak = ctx.workspace.peak;
        ctx.dry = dry;
        if (!dry) cr_assert_eq(backend->context_open(&ctx, peak, &error), CRANK_OK);
        ops_begin(&ctx, &batch);
        ops_tensor x = ops_new(&ctx, n_tokens, K, OPS_USE_VALUE | OPS_USE_OPERAND);
        ops_embed_norm(&ctx, &x, &rows);
        if (gathered) {
            ops_tensor heads = ops_new(&ctx, n_sequences, K, OPS_USE_OPERAND);
            ops_gather_first(&ctx, &heads, &x);
            x = heads;
        }
        ops_tensor y = ops_new(&ctx, x.rows, N, OPS_USE_VALUE);
        ops_linear_act(&ctx, &y, &x, &linear, OPS_IDENTITY);
        if (!dry) backend->read_f32(&ctx, out, &y);
        cr_assert_eq(ops_end(&ctx, &error), CRANK_OK, "%s", error.message);
    }
    backend->context_close(&ctx);
    backend->close(device);
    free(blob);
}

/* The root mean square of a row's errors. */
static double error_of(const matter *m, const float *y, int t)
{
    double squares = 0;
    for (int n = 0; n < N; n++) {
        double exact = m->bias[n];
        for (int k = 0; k < K; k++) exact += (double)m->x[t * K + k] * (double)m->w[n * K + k];
        squares += (y[n] - exact) * (y[n] - exact);
    }
    return sqrt(squares / N);
}

Test(cpu_fine_rows, first_rows_have_sixteen_bits_on_every_instruction_set)
{
    static matter m;
    static float best[T * N], y[T * N];
    bool compared = false;
    fill(&m);
    for (int i = 0; cpu_levels[i] != NULL; i++) {
        if (!cpu_levels[i]->available()) continue;
        multiply(y, &m, cpu_levels[i], 0, starts, B, false);
        for (int t = 0; t < T; t++) {
            /* steps of 61 / 255 and of a 255th of that; w is uniform to 127 */
            double error = error_of(&m, y + t * N, t);
            double step = is_first[t] ? 61.0 / 255 / 255 : 61.0 / 255;
            double expected = step / sqrt(12.0) * 73 * sqrt((double)K);
            cr_expect(error < 1.5 * expected && (is_first[t] || error > 0.5 * expected),
                      "%s row %d: error %g, expected about %g", cpu_levels[i]->name, t, error,
                      expected);
        }
        if (compared) {
            cr_expect_eq(memcmp(best, y, sizeof y), 0, "%s gives other bits", cpu_levels[i]->name);
        }
        memcpy(best, y, sizeof y);
        compared = true;
    }
    cr_assert(compared);
}

Test(cpu_fine_rows, a_sequence_alone_and_its_first_row_alone_have_the_same_bits)
{
    static matter m;
    static float all[T * N], alone[T * N], heads[B * N];
    static const int32_t one[] = {0, 6}, full[] = {0, 4, 10, T};
    fill(&m);
    for (int i = 0; cpu_levels[i] != NULL; i++) {
        if (!cpu_levels[i]->available()) continue;
        const char *name = cpu_levels[i]->name;
        multiply(all, &m, cpu_levels[i], 0, starts, B, false);
        multiply(alone, &m, cpu_levels[i], 4, one, 1, false);
        cr_expect_eq(memcmp(all + 4 * N, alone, 6 * N * sizeof *all), 0, "%s: alone", name);
        multiply(heads, &m, cpu_levels[i], 0, full, B - 1, true);
        for (int b = 0; b < B - 1; b++) {
            cr_expect_eq(memcmp(all + full[b] * N, heads + b * N, N * sizeof *all), 0,
                         "%s: first row of sequence %d", name, b);
        }
    }
}
