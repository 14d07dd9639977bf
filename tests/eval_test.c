/* crank eval against figures that trec_eval computed (tests/tools/eval_against_trec_eval.py records
 * them), and what it says of bad files. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/measures.h"
#include "support/process.h"

static process_result eval(const char *qrels, const char *run, const char *level)
{
    const char *argv[] = {process_crank(), "eval", "--json", qrels, run, "--level", level, NULL};
    return process_run(argv, NULL, 0);
}

Test(eval, equals_trec_eval_on_recorded_random_runs)
{
    int n_figures = 0;
    for (int number = 0; number < 8; number++) {
        char folder[512], qrels[600], run[600], path[600];
        snprintf(folder, sizeof folder, "%s/tests/fixtures/eval/%02d", CRANK_SOURCE_DIR, number);
        snprintf(qrels, sizeof qrels, "%s/qrels.txt.gz", folder);
        snprintf(run, sizeof run, "%s/run.txt.gz", folder);
        snprintf(path, sizeof path, "%s/expected.json", folder);
        json_t *expected = json_load_file(path, 0, NULL);
        cr_assert_not_null(expected, "%s", path);
        for (size_t i = 0; i < json_array_size(expected); i++) {
            json_t *want = json_array_get(expected, i);
            char level[16];
            snprintf(level, sizeof level, "%d",
                     (int)json_integer_value(json_object_get(want, "level")));
            process_result result = eval(qrels, run, level);
            cr_assert_eq(result.exit_code, 0, "%s", result.err);
            json_t *got = json_loads(result.out, 0, NULL);
            cr_assert_not_null(got, "%s", result.out);
            for (int m = 0; m < N_MEASURES; m++) {
                double a = json_real_value(json_object_get(want, measure_names[m]));
                double b = json_number_value(json_object_get(got, measure_names[m]));
                cr_expect(fabs(a - b) < 1e-8, "%s level %s %s: %.10g, trec_eval %.10g", folder,
                          level, measure_names[m], b, a);
                n_figures++;
            }
            json_decref(got);
            process_free(&result);
        }
        json_decref(expected);
    }
    cr_assert_eq(n_figures, 8 * 2 * N_MEASURES);
}

/* One query worked by hand. Order by score: d2, then of equal d3 and d1 the later name first. */
Test(eval, figures_of_a_small_run)
{
    char folder[512], qrels[600], run[600];
    process_make_folder(folder);
    snprintf(qrels, sizeof qrels, "%s/q", folder);
    snprintf(run, sizeof run, "%s/r", folder);
    const char *judged = "a 0 d1 2\na 0 d2 0\na 0 d9 1\nmissing 0 d1 1\n";
    const char *found = "a Q0 d1 1 0.5 x\na Q0 d3 2 0.5 x\na Q0 d2 3 0.9 x\nother Q0 d1 1 1 x\n";
    process_write_file(qrels, judged, strlen(judged));
    process_write_file(run, found, strlen(found));
    const char *argv[] = {process_crank(), "eval", "--per-query", qrels, run, NULL};
    process_result result = process_run(argv, NULL, 0);
    double ndcg = (2 / log2(4)) / (2 / log2(2) + 1 / log2(3));
    char want[1024];
    snprintf(want, sizeof want,
             "nDCG@10\ta\t%.4f\nMRR@10\ta\t0.3333\nMAP\ta\t0.1667\nR@10\ta\t0.5000\n"
             "R@100\ta\t0.5000\n"
             "nDCG@10\tmissing\t0.0000\nMRR@10\tmissing\t0.0000\nMAP\tmissing\t0.0000\n"
             "R@10\tmissing\t0.0000\nR@100\tmissing\t0.0000\n"
             "nDCG@10\tall\t%.4f\nMRR@10\tall\t0.1667\nMAP\tall\t0.0833\nR@10\tall\t0.2500\n"
             "R@100\tall\t0.2500\n",
             ndcg, ndcg / 2);
    cr_expect_str_eq(result.out, want);
    cr_expect_eq(result.exit_code, 0);
    cr_expect_not_null(strstr(result.err, "1 of 2 judged queries are not in the run"));
    process_free(&result);
    process_remove_folder(folder);
}

Test(eval, level_zero_leaves_unjudged_documents_irrelevant)
{
    double values[N_MEASURES];
    const long ranked[] = {-9223372036854775807L - 1, 0}, judged[] = {0};
    measures_of_query(values, ranked, 2, judged, 1, 0);
    cr_expect_eq(values[MAP], 0.5);
    cr_expect_eq(values[NDCG_10], 0);
}

Test(eval, bad_lines_name_file_line_and_reason)
{
    static const struct {
        const char *qrels, *run, *message;
    } cases[] = {
        {"a 0 d1\n", "", "q:1: 3 fields where"},
        {"a 0 d1 1\n\na 0 d2 high\n", "", "q:3: the grade is not a whole number: high"},
        {"a 0 d1 1\na 0 d1 2\n", "", "q: query a judges document d1 twice"},
        {"a 0 d1 1\n", "a Q0 d1 1\n", "r:1: 4 fields where"},
        {"a 0 d1 1\n", "a Q0 d1 1 nan x\n", "r:1: the score is not a number: nan"},
        {"a 0 d1 1\n", "a Q0 d1 1 1e x\n", "r:1: the score is not a number: 1e"},
        {"a 0 d1 1\n", "a Q0 d1 1 1 x\na Q0 d2 2 1 x\na Q0 d1 3 1 x\n",
         "r:3: document d1 comes twice for query a"},
        {"", "a Q0 d1 1 1 x\n", "q: no judgements"},
    };
    char folder[512], qrels[600], run[600];
    process_make_folder(folder);
    snprintf(qrels, sizeof qrels, "%s/q", folder);
    snprintf(run, sizeof run, "%s/r", folder);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        process_write_file(qrels, cases[i].qrels, strlen(cases[i].qrels));
        process_write_file(run, cases[i].run, strlen(cases[i].run));
        process_result result = eval(qrels, run, "1");
        cr_expect_eq(result.exit_code, 2, "case %zu", i);
        cr_expect_not_null(strstr(result.err, cases[i].message), "case %zu: %s", i, result.err);
        cr_expect_str_empty(result.out);
        process_free(&result);
    }
    process_remove_folder(folder);
}
