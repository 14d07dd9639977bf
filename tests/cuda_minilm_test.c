/* Trained weights at real size through the CUDA engine: all-MiniLM-L6-v2 under the fixed random
 * head of the golden folder minilm-l6-real, all 8 pairs at once and in the golden order.
 *
 * Needs what a fresh clone does not have: the weights that ./run setup fetches to .cache/minilm,
 * and
 * ../shared/golden. Where either is missing, the test says that it was skipped. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crank.h"
#include "support/cuda_library.h"
#include "support/golden.h"
#include "support/process.h"

#define FOLDER CRANK_BINARY_DIR "/minilm-l6-real"

enum { PAIRS = 8, TOKENS = 67 };

/* The model's folder is made once and stays in the build. */
static bool model_made(const char *golden_folder)
{
    if (access(CRANK_SOURCE_DIR "/.cache/minilm/model.safetensors", R_OK) != 0) {
        printf("SKIPPED: minilm-l6-real: no .cache/minilm (./run setup fetches it)\n");
        return false;
    }
    if (access(FOLDER "/config.json", R_OK) == 0) return true;
    char head[600];
    snprintf(head, sizeof head, "%s/head.safetensors", golden_folder);
    const char *argv[] = {"/usr/bin/env",
                          "python3",
                          CRANK_SOURCE_DIR "/tests/tools/assemble_minilm.py",
                          CRANK_SOURCE_DIR "/.cache/minilm",
                          head,
                          FOLDER,
                          NULL};
    process_result result = process_run(argv, NULL, 0);
    cr_assert_eq(result.exit_code, 0, "%s", result.err);
    process_free(&result);
    return true;
}

typedef struct pairs {
    int32_t ids[PAIRS * TOKENS], types[PAIRS * TOKENS];
    size_t starts[PAIRS + 1];
    float *expected;
} pairs;

static void read_pairs(pairs *p, golden *g)
{
    int64_t n, width;
    int32_t *ids = golden_i32(g, "input_ids", &n, &width);
    int32_t *mask = golden_i32(g, "attention_mask", NULL, NULL);
    int32_t *types = golden_i32(g, "token_type_ids", NULL, NULL);
    cr_assert(n == PAIRS && width == TOKENS);
    size_t at = 0;
    for (int64_t i = 0; i < PAIRS; i++) {
        p->starts[i] = at;
        for (int64_t j = 0; j < TOKENS && mask[i * TOKENS + j] != 0; j++, at++) {
            p->ids[at] = ids[i * TOKENS + j];
            p->types[at] = types[i * TOKENS + j];
        }
    }
    p->starts[PAIRS] = at;
    p->expected = golden_f32(g, "logits", NULL, NULL);
    free(ids);
    free(mask);
    free(types);
}

static void check(const pairs *p, crank_dtype type, const char *name, double tolerance,
                  bool same_order)
{
    crank_model_options options = {.size = sizeof options,
                                   .device = CRANK_DEVICE_CUDA,
                                   .dtype = type,
                                   .cuda_library = cuda_library()};
    crank_session_options session_options = {.size = sizeof session_options, .n_threads = 1};
    crank_model *model = NULL;
    crank_session *session = NULL;
    crank_error error = {0};
    float logits[PAIRS], alone;
    cr_assert_eq(crank_model_open(&model, FOLDER, &options, &error), CRANK_OK, "%s", error.message);
    cr_assert_eq(crank_session_open(&session, model, &session_options, &error), CRANK_OK, "%s",
                 error.message);
    cr_assert_eq(
        crank_score_tokens(session, p->ids, p->types, p->starts, PAIRS, logits, NULL, &error),
        CRANK_OK, "%s", error.message);
    double worst = 0;
    for (int i = 0; i < PAIRS; i++)
        worst = fmax(worst, fabs((double)logits[i] - (double)p->expected[i]));
    printf("minilm-l6-real %s: max |logit - f32| %.2e, allowed %.2e\n", name, worst, tolerance);
    cr_expect(worst <= tolerance, "%s: %g > %g", name, worst, tolerance);
    for (int i = 0; i < PAIRS && same_order; i++) {
        for (int j = 0; j < PAIRS; j++)
            cr_expect_eq(logits[i] < logits[j], p->expected[i] < p->expected[j],
                         "%s: pairs %d and %d change places", name, i, j);
    }
    /* The last pair by itself: the same bits. */
    size_t starts[] = {0, p->starts[PAIRS] - p->starts[PAIRS - 1]};
    cr_assert_eq(crank_score_tokens(session, p->ids + p->starts[PAIRS - 1],
                                    p->types + p->starts[PAIRS - 1], starts, 1, &alone, NULL,
                                    &error),
                 CRANK_OK, "%s", error.message);
    cr_expect(memcmp(&alone, &logits[PAIRS - 1], sizeof alone) == 0, "%s: %.9g alone, %.9g", name,
              (double)alone, (double)logits[PAIRS - 1]);
    crank_session_close(session);
    crank_model_close(model);
}

Test(cuda_minilm, trained_weights_score_as_in_f32, .timeout = 900)
{
    golden g;
    static pairs p;
    if (cuda_skipped("minilm-l6-real")) return;
#ifdef __SANITIZE_ADDRESS__
    printf(
        "SKIPPED: minilm-l6-real: minutes here; cuda_engine runs the same code on small models\n");
    return;
#endif
    if (!golden_open(&g, "minilm-l6-real")) return; /* says so */
    if (model_made(g.dir)) {
        read_pairs(&p, &g);
        check(&p, CRANK_DTYPE_F16, "f16", 2e-2, true);
        check(&p, CRANK_DTYPE_BF16, "bf16", 6e-2, false);
        check(&p, CRANK_DTYPE_INT8, "int8", 2e-1, false);
        free(p.expected);
        cr_assert_eq(cuda_reports(), 0);
    }
    golden_close(&g);
}
