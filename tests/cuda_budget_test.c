/* A budget for every kernel: what the emulator counts when `crank bench ops` runs MiniLM's shapes.
 * Counters are exact and the same on every machine, so a change that costs more than a tenth fails
 * here before anybody has a GPU to see it. One that saves more than a tenth fails as well, so that
 * the table stays tight: run this test with CRANK_WRITE_BUDGET=1 and commit tests/cuda_budget.tsv,
 * with a line in bench/LOG.md. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/cuda_library.h"
#include "support/process.h"

#define BUDGET CRANK_SOURCE_DIR "/tests/cuda_budget.tsv"

static const char *const counters[] = {"warp_instructions", "mma",
                                       "special",           "flops",
                                       "global_requests",   "global_sectors",
                                       "read_bytes",        "written_bytes",
                                       "shared_requests",   "shared_extra_wavefronts"};
enum { N_COUNTERS = sizeof counters / sizeof counters[0], MAX_ROWS = 400, TOLERANCE = 10 };

typedef struct budget_row {
    char key[200]; /* variant, op, dtype, shape, kernel: tabs between */
    long long counts[N_COUNTERS];
} budget_row;

typedef struct budget {
    budget_row rows[MAX_ROWS];
    int n;
} budget;

static budget found, allowed;

static const char *text_of(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    cr_assert_not_null(text, "no %s", key);
    return text;
}

static void take_line(const char *line, const char *variant)
{
    json_error_t why;
    json_t *row = json_loads(line, 0, &why), *kernel;
    size_t i;
    cr_assert_not_null(row, "%s: %s", why.text, line);
    cr_expect(json_is_true(json_object_get(row, "correct")), "%s", line);
    json_array_foreach(json_object_get(row, "kernels"), i, kernel)
    {
        cr_assert_lt(found.n, MAX_ROWS);
        budget_row *b = &found.rows[found.n++];
        snprintf(b->key, sizeof b->key, "%s\t%s\t%s\t%s\t%s", variant, text_of(row, "op"),
                 text_of(row, "dtype"), text_of(row, "shape"), text_of(kernel, "kernel"));
        for (int c = 0; c < N_COUNTERS; c++)
            b->counts[c] = json_integer_value(json_object_get(kernel, counters[c]));
    }
    json_decref(row);
}

static void run(const char *op, const char *dtype, const char *variant)
{
    const char *argv[20] = {process_crank(), "bench",  "ops",     "--device",
                            "emu",           "--json", "--model", "MiniLM"};
    int n = 8;
    if (op != NULL) argv[n++] = "--op", argv[n++] = op;
    if (dtype != NULL) argv[n++] = "--dtype", argv[n++] = dtype;
    if (variant != NULL) argv[n++] = "--variant", argv[n++] = variant;
    process_result result = process_run(argv, NULL, 0);
    cr_assert_eq(result.exit_code, 0, "%s%s", result.out, result.err);
    for (char *next, *line = strtok_r(result.out, "\n", &next); line != NULL;
         line = strtok_r(NULL, "\n", &next))
        take_line(line, variant != NULL ? variant : "-");
    process_free(&result);
}

static void write_budget(void)
{
    FILE *out = fopen(BUDGET, "w");
    cr_assert_not_null(out);
    fprintf(out, "variant\top\tdtype\tshape\tkernel");
    for (int c = 0; c < N_COUNTERS; c++) fprintf(out, "\t%s", counters[c]);
    fprintf(out, "\n");
    for (int i = 0; i < found.n; i++) {
        fprintf(out, "%s", found.rows[i].key);
        for (int c = 0; c < N_COUNTERS; c++) fprintf(out, "\t%lld", found.rows[i].counts[c]);
        fprintf(out, "\n");
    }
    fclose(out);
}

static void read_budget(void)
{
    char *text = process_read_file(BUDGET, NULL), *next;
    cr_assert_not_null(text, "%s is not there", BUDGET);
    strtok_r(text, "\n", &next); /* names of the columns */
    for (char *line = strtok_r(NULL, "\n", &next); line != NULL;
         line = strtok_r(NULL, "\n", &next)) {
        cr_assert_lt(allowed.n, MAX_ROWS);
        budget_row *b = &allowed.rows[allowed.n++];
        char *at = line;
        for (int tabs = 0; *at != 0 && tabs < 5; at++) tabs += *at == '\t';
        snprintf(b->key, sizeof b->key, "%.*s", (int)(at - line - 1), line);
        for (int c = 0; c < N_COUNTERS; c++) b->counts[c] = strtoll(at, &at, 10);
    }
    free(text);
}

/* 0: within the budget; 1: above it; -1: so far below that the budget says nothing. */
static int judge(long long count, long long limit)
{
    if (count * 100 > limit * (100 + TOLERANCE)) return 1;
    return count * (100 + TOLERANCE) < limit * 100 ? -1 : 0;
}

Test(cuda_budget, no_counter_is_a_tenth_off, .timeout = 900)
{
    static const char *const tiles[] = {"_16x32_", "_16x64_",  "_32x64_",
                                        "_64x64_", "_128x64_", "_128x128_"};
    if (cuda_skipped("no_counter_is_a_tenth_off")) return;
    if (cuda_emulator() == NULL) {
        printf("[SKIP] no_counter_is_a_tenth_off: needs the emulator\n");
        return;
    }
#ifdef __SANITIZE_ADDRESS__
    printf("[SKIP] no_counter_is_a_tenth_off: the same counters as in the release\n");
    return;
#endif
    run(NULL, NULL, NULL);
    for (size_t t = 0; t < sizeof tiles / sizeof tiles[0]; t++) {
        run("linear", "f16", tiles[t]);
        run("linear_residual_norm", "int8", tiles[t]);
    }
    run("linear_residual_norm", "f16", "_16x384_");
    run("linear_residual_norm", "f16", "_32x384_");
    run("linear_residual_norm", "int8", "_32x384_");
    run("attention", "f16", "query16");
    run("attention", "f16", "query64");
    run("linear", "f16", "cublaslt"); /* what goes around it */
    if (getenv("CRANK_WRITE_BUDGET") != NULL) write_budget();
    read_budget();
    cr_expect_eq(found.n, allowed.n, "%d kernels ran, %d have a budget", found.n, allowed.n);
    for (int i = 0; i < found.n && i < allowed.n; i++) {
        const budget_row *f = &found.rows[i], *a = &allowed.rows[i];
        cr_assert_str_eq(f->key, a->key);
        for (int c = 0; c < N_COUNTERS; c++) {
            int verdict = judge(f->counts[c], a->counts[c]);
            cr_expect_eq(verdict, 0, "%s: %s is %lld, %s its budget of %lld", f->key, counters[c],
                         f->counts[c], verdict > 0 ? "above" : "far below", a->counts[c]);
        }
    }
}

Test(cuda_budget, a_tenth_is_what_is_allowed)
{
    cr_expect_eq(judge(100, 100), 0);
    cr_expect_eq(judge(110, 100), 0);
    cr_expect_eq(judge(111, 100), 1);
    cr_expect_eq(judge(90, 100), -1);
    cr_expect_eq(judge(91, 100), 0);
    cr_expect_eq(judge(0, 0), 0);
    cr_expect_eq(judge(1, 0), 1);
}
