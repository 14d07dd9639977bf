/* cuBLASLt in the engine, on the emulator's own: golden models with it forced, the same bits in any
 * batch and graph, mixed with the own GEMM where bits are equal, and the own GEMM whenever the
 * library, an algorithm or the proof of its rows is missing. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crank.h"
#include "kernels/cuda/context.h"
#include "kernels/cuda/matmul.h"
#include "runtime/session.h"
#include "support/cuda_library.h"
#include "support/golden_rows.h"

/* A cuBLASLt of this kind in a GPU of this capability; false, and says so, without an emulator. */
static bool emulate(const char *test, uint32_t kind, uint32_t capability)
{
    if (cuda_skipped(test)) return false;
    const emulator *e = cuda_emulator();
    if (e == NULL) {
        fprintf(stderr, "SKIPPED: %s: needs the emulator\n", test);
        return false;
    }
    emu_options options;
    e->defaults(&options);
    options.cublaslt = kind;
    options.capability = capability;
    /* What such a library refuses is the test, not a finding. */
    if (kind == EMU_LT_WANTS_MORE) options.checks &= ~(uint32_t)EMU_CHECK_HOST;
    cr_assert_eq(e->configure(&options), 0);
    return true;
}

static uint64_t launches_of(const char *kernel)
{
    const emulator *e = cuda_emulator();
    emu_counters c;
    for (size_t i = 0; i < e->counter_count(); i++)
        if (e->counter_get(i, &c) == 0 && strcmp(c.kernel, kernel) == 0) return c.launches;
    return 0;
}

typedef struct opened {
    crank_model *model;
    crank_session *session;
    char notes[512];
} opened;

static crank_status try_open(opened *o, const char *dir, crank_dtype type, const char *isa,
                             const char *library, size_t batch_tokens, crank_error *error)
{
    crank_model_options options = {.size = sizeof options,
                                   .device = CRANK_DEVICE_CUDA,
                                   .dtype = type,
                                   .isa = isa,
                                   .cuda_library = cuda_library(),
                                   .cublaslt_library = library,
                                   .load_threads = 1};
    crank_session_options session = {
        .size = sizeof session, .n_threads = 1, .batch_tokens = batch_tokens};
    *o = (opened){0};
    crank_status status = crank_model_open(&o->model, dir, &options, error);
    if (status == CRANK_OK) status = crank_session_open(&o->session, o->model, &session, error);
    if (status == CRANK_OK) crank_model_notes(o->model, o->notes, sizeof o->notes);
    return status;
}

static opened open_with(const char *dir, crank_dtype type, const char *isa, const char *library,
                        size_t batch_tokens)
{
    opened o;
    crank_error error = {0};
    crank_status status = try_open(&o, dir, type, isa, library, batch_tokens, &error);
    cr_assert_eq(status, CRANK_OK, "%s", error.message);
    return o;
}

static void close_opened(opened *o)
{
    crank_session_close(o->session);
    crank_model_close(o->model);
    *o = (opened){0};
}

static const cuda_stream *stream_of(const opened *o)
{
    return o->session->workers[0].context.stream;
}

static const int in_order[] = {0, 1, 2, 3, 4, 5, 6, 7};
static const crank_dtype dtypes[] = {CRANK_DTYPE_F16, CRANK_DTYPE_BF16};
static const ops_dtype ops_types[] = {OPS_F16, OPS_BF16};

/* A sanitized emulator takes many times as long for the proof: one model and f16 there. */
#ifdef __SANITIZE_ADDRESS__
enum { N_DTYPES = 1, N_MODELS = 1 };
#else
enum { N_DTYPES = 2, N_MODELS = 7 };
#endif

/* ---- forced ------------------------------------------------------------------------------------
 */

Test(cuda_matmul, goldens_come_out_of_cublaslt, .timeout = 1100)
{
    /* absolute: as in cuda_engine_test.c. Here biases are rounded, too: bert-fp16's in bf16
     * (4.02e-2 for logits up to 1.32) is allowed what logits of that size are. */
    static const struct {
        const char *name;
        bool absolute;
    } models[] = {{"bert-h64", true},   {"electra", true}, {"distilbert", true},
                  {"bert-fp16", false}, {"roberta", true}, {"bert-h96-3labels", false},
                  {"deberta-v2", false}};
    if (!emulate("goldens_come_out_of_cublaslt", EMU_LT_SOUND, 80)) return;
    for (size_t m = 0; m < N_MODELS; m++) {
        golden_rows r;
        if (!golden_rows_open(&r, models[m].name)) continue;
        size_t n = (size_t)(r.n * r.labels);
        float *logits = malloc(n * sizeof *logits);
        double largest = 1.0;
        for (size_t i = 0; i < n; i++) largest = fmax(largest, fabs((double)r.logits[i]));
        for (size_t d = 0; d < N_DTYPES; d++) {
            opened o = open_with(r.g.dir, dtypes[d], "cublaslt", NULL, 0);
            uint64_t before = launches_of("cublasLtMatmul");
            golden_rows_score(o.session, &r, in_order, (int)r.n, logits);
            double tolerance = ops_dtypes[ops_types[d]].logit_tolerance;
            if (!models[m].absolute) tolerance *= largest;
            double worst = golden_max_difference(logits, r.logits, (int64_t)n);
            printf("%s %s: max |logit - f32| %.2e, allowed %.2e; %s\n", models[m].name,
                   ops_dtypes[ops_types[d]].name, worst, tolerance, o.notes);
            cr_expect(worst <= tolerance, "%s %s: %g > %g", models[m].name,
                      ops_dtypes[ops_types[d]].name, worst, tolerance);
            cr_expect_gt(launches_of("cublasLtMatmul"), before);
            cr_expect_not_null(strstr(o.notes, "GEMM: cuBLASLt 13.0 for "), "%s", o.notes);
            cr_expect_null(strchr(o.notes, ';'), "a shape was refused: %s", o.notes);
            close_opened(&o);
        }
        free(logits);
        golden_rows_close(&r);
    }
    cr_assert_eq(cuda_reports(), 0);
}

Test(cuda_matmul, a_row_has_the_same_bits_in_any_batch, .timeout = 1100)
{
    golden_rows r;
    if (!emulate("a_row_has_the_same_bits_in_any_batch", EMU_LT_SOUND, 90) ||
        !golden_rows_open(&r, "bert-h64"))
        return;
    for (size_t d = 0; d < N_DTYPES; d++) {
        float alone[8];
        static const size_t budgets[] = {0, 16, 64, 100};
        opened o = open_with(r.g.dir, dtypes[d], "cublaslt", NULL, 0);
        for (int i = 0; i < 8; i++) golden_rows_score(o.session, &r, &in_order[i], 1, &alone[i]);
        for (size_t b = 0; b < 4; b++) {
            crank_error error = {0};
            crank_session_options session = {
                .size = sizeof session, .n_threads = 1, .batch_tokens = budgets[b]};
            crank_session_close(o.session);
            o.session = NULL;
            cr_assert_eq(crank_session_open(&o.session, o.model, &session, &error), CRANK_OK, "%s",
                         error.message);
            for (int round = 0; round < 5; round++) {
                int order[100], n = 1 + (round * 37 + (int)b) % 100;
                float logits[100];
                for (int i = 0; i < n; i++) order[i] = (i * 5 + round * 3) % 8;
                golden_rows_score(o.session, &r, order, n, logits);
                for (int i = 0; i < n; i++)
                    cr_expect(memcmp(&logits[i], &alone[order[i]], sizeof(float)) == 0,
                              "dtype %zu budget %zu round %d row %d: %.9g alone, %.9g in a batch",
                              d, budgets[b], round, order[i], (double)alone[order[i]],
                              (double)logits[i]);
            }
        }
        close_opened(&o);
    }
    golden_rows_close(&r);
    cr_assert_eq(cuda_reports(), 0);
}

Test(cuda_matmul, it_is_captured_like_any_launch, .timeout = 1100)
{
    golden_rows r;
    float first[8], logits[8];
    if (!emulate("it_is_captured_like_any_launch", EMU_LT_SOUND, 80) ||
        !golden_rows_open(&r, "bert-h64"))
        return;
    opened o = open_with(r.g.dir, CRANK_DTYPE_F16, "cublaslt", NULL, 0);
    golden_rows_score(o.session, &r, in_order, 8, first);
    for (uint64_t pass = 1; pass < 4; pass++) {
        uint64_t before = launches_of("cublasLtMatmul");
        golden_rows_score(o.session, &r, in_order, 8, logits);
        cr_expect_eq(stream_of(&o)->n_graph_batches, pass);
        cr_expect_gt(launches_of("cublasLtMatmul"), before);
        cr_expect_arr_eq(logits, first, sizeof first);
    }
    close_opened(&o);
    golden_rows_close(&r);
    cr_assert_eq(cuda_reports(), 0);
}

/* A second model on the same device, and weights that come and go: biases are found by address. */
Test(cuda_matmul, models_come_and_go, .timeout = 1100)
{
    golden_rows r;
    float first[8], logits[8];
    if (!emulate("models_come_and_go", EMU_LT_SOUND, 80) || !golden_rows_open(&r, "bert-h64"))
        return;
    for (int i = 0; i < 2; i++) {
        opened o = open_with(r.g.dir, CRANK_DTYPE_F16, "cublaslt", NULL, 0);
        opened other = open_with(r.g.dir, CRANK_DTYPE_BF16, "cublaslt", NULL, 0);
        golden_rows_score(o.session, &r, in_order, 8, i == 0 ? first : logits);
        if (i > 0) cr_expect_arr_eq(logits, first, sizeof first);
        close_opened(i == 1 ? &o : &other);
        close_opened(i == 1 ? &other : &o);
    }
    golden_rows_close(&r);
    cr_assert_eq(cuda_reports(), 0);
}

/* ---- refused -----------------------------------------------------------------------------------
 */

static void own_logits(const golden_rows *r, crank_dtype type, float logits[8])
{
    opened o = open_with(r->g.dir, type, "own", NULL, 0);
    golden_rows_score(o.session, r, in_order, 8, logits);
    cr_expect_str_empty(o.notes);
    close_opened(&o);
}

Test(cuda_matmul, an_unsound_cublaslt_is_refused_and_the_own_gemm_computes, .timeout = 1100)
{
    static const struct {
        uint32_t kind;
        const char *why;
    } kinds[] = {
        {EMU_LT_ROW_DEPENDENT, "depend on its place or on the number of rows"},
        {EMU_LT_SIZE_DEPENDENT, "depend on its place or on the number of rows (1024)"},
        {EMU_LT_NO_ALGORITHM, "cublasLtMatmulAlgoGetHeuristic: CUBLAS_STATUS_NOT_SUPPORTED"},
        {EMU_LT_SPLIT_ONLY, "k"}, /* one in pieces, or too small a k for that: none */
        {EMU_LT_WANTS_MORE, "cublasLtMatmul: CUBLAS_STATUS_INVALID_VALUE"},
    };
    golden_rows r;
    float expected[8], logits[8];
    if (!emulate("an_unsound_cublaslt_is_refused", EMU_LT_SOUND, 80) ||
        !golden_rows_open(&r, "bert-h64"))
        return;
    for (size_t d = 0; d < N_DTYPES; d++) {
        own_logits(&r, dtypes[d], expected);
        for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
            if (!emulate("an_unsound_cublaslt_is_refused", kinds[k].kind, 80)) return;
            opened o = open_with(r.g.dir, dtypes[d], "cublaslt", NULL, 0);
            uint64_t before = launches_of("cublasLtMatmul");
            golden_rows_score(o.session, &r, in_order, 8, logits);
            printf("%s\n", o.notes);
            cr_expect_not_null(strstr(o.notes, "GEMM: own kernels"), "%s", o.notes);
            cr_expect_not_null(strstr(o.notes, kinds[k].why), "%s", o.notes);
            cr_expect_eq(launches_of("cublasLtMatmul"), before);
            cr_expect_arr_eq(logits, expected, sizeof expected, "kind %u", kinds[k].kind);
            close_opened(&o);
        }
    }
    golden_rows_close(&r);
    cr_assert_eq(cuda_reports(), 0);
}

Test(cuda_matmul, a_missing_library_or_symbol_leaves_the_own_gemm)
{
    static const char *const paths[] = {"/nowhere/libcublasLt.so.13", "libm.so.6"};
    static const char *const why[] = {"cannot open /nowhere/libcublasLt.so.13",
                                      "libm.so.6 has no cublasLtCreate"};
    golden_rows r;
    float expected[8], logits[8];
    if (!emulate("a_missing_library_or_symbol", EMU_LT_SOUND, 80) ||
        !golden_rows_open(&r, "bert-h64"))
        return;
    own_logits(&r, CRANK_DTYPE_F16, expected);
    for (int i = 0; i < 2; i++) {
        opened o = open_with(r.g.dir, CRANK_DTYPE_F16, "cublaslt", paths[i], 0);
        golden_rows_score(o.session, &r, in_order, 8, logits);
        cr_expect_arr_eq(logits, expected, sizeof expected);
        cr_expect_not_null(strstr(o.notes, why[i]), "%s", o.notes);
        close_opened(&o);
    }
    golden_rows_close(&r);
    cr_assert_eq(cuda_reports(), 0);
}

/* ---- by itself ---------------------------------------------------------------------------------
 */

/* 160 rows of about 20 tokens: more than MATMUL_FROM_ROWS tokens, which fit one batch. */
static void score_many(const opened *o, const golden_rows *r, float logits[160])
{
    int order[160];
    for (int i = 0; i < 160; i++) order[i] = 7 - i % 8;
    golden_rows_score(o->session, r, order, 160, logits);
}

/* bert-fp16's biases are f16 in the file, so rounding changes none of them. */
Test(cuda_matmul, equal_bits_let_both_compute_one_model, .timeout = 1100)
{
    static const struct {
        uint32_t kind, capability;
        size_t batch_tokens;
        bool used;
        const char *notes; /* what they say; "": nothing */
    } cases[] = {
        {EMU_LT_LIKE_MMA, 90, 0, true, "from 2048 rows on"},
        {EMU_LT_LIKE_MMA, 90, 1024, false, ""}, /* batches are too small to want it */
        {EMU_LT_LIKE_MMA, 80, 0, false, ""},
        {EMU_LT_SOUND, 90, 0, false, "its bits are not those of the own GEMM"},
    };
    static float expected[160], logits[160];
    golden_rows r;
    if (!emulate("equal_bits_let_both_compute_one_model", EMU_LT_SOUND, 80) ||
        !golden_rows_open(&r, "bert-fp16"))
        return;
    opened own = open_with(r.g.dir, CRANK_DTYPE_F16, "own", NULL, 0);
    score_many(&own, &r, expected);
    cr_assert_gt(stream_of(&own)->in_used, 3 * MATMUL_FROM_ROWS, "the batch is too small");
    close_opened(&own);
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        if (!emulate("equal_bits", cases[c].kind, cases[c].capability)) return;
        opened o = open_with(r.g.dir, CRANK_DTYPE_F16, NULL, NULL, cases[c].batch_tokens);
        uint64_t before = launches_of("cublasLtMatmul");
        score_many(&o, &r, logits);
        printf("case %zu: %s\n", c, o.notes);
        cr_expect_eq(launches_of("cublasLtMatmul") > before, cases[c].used, "case %zu", c);
        cr_expect_arr_eq(logits, expected, sizeof expected, "case %zu", c);
        golden_rows_score(o.session, &r, in_order, 8, logits); /* a small batch: the own GEMM */
        for (int i = 0; i < 8; i++)
            cr_expect(memcmp(&logits[i], &expected[7 - i], sizeof(float)) == 0, "case %zu", c);
        if (cases[c].notes[0] == 0)
            cr_expect_str_empty(o.notes);
        else
            cr_expect_not_null(strstr(o.notes, cases[c].notes), "%s", o.notes);
        close_opened(&o);
    }
    golden_rows_close(&r);
    cr_assert_eq(cuda_reports(), 0);
}

/* ---- failures and sizes ------------------------------------------------------------------------
 */

Test(cuda_matmul, any_device_allocation_may_fail, .timeout = 1100)
{
    golden_rows r;
    bool done = false;
    if (!emulate("any_device_allocation_may_fail", EMU_LT_SOUND, 80) ||
        !golden_rows_open(&r, "bert-h64"))
        return;
#ifdef __SANITIZE_ADDRESS__
    printf("[SKIP] any_device_allocation_may_fail: dozens of proofs\n");
    golden_rows_close(&r);
    return;
#endif
    const emulator *e = cuda_emulator();
    for (int64_t nth = 0; nth < 200 && !done; nth++) {
        emu_options options;
        e->defaults(&options);
        options.fail_alloc = nth;
        cr_assert_eq(e->configure(&options), 0);
        crank_error error = {0};
        opened o;
        crank_status status = try_open(&o, r.g.dir, CRANK_DTYPE_F16, "cublaslt", NULL, 64, &error);
        done = status == CRANK_OK;
        cr_expect(done || status == CRANK_OUT_OF_MEMORY, "allocation %ld: %s", (long)nth,
                  error.message);
        close_opened(&o);
    }
    cr_assert(done);
    golden_rows_close(&r);
    cr_assert_eq(cuda_reports(), 0);
}

/* Every call has a number of rows that the proof has seen, and stays within its tensor. */
Test(cuda_matmul, calls_have_proven_sizes)
{
    for (int32_t rows = 1; rows < 40000; rows += rows < 9000 ? 1 : 13) {
        int32_t all = matmul_rows(rows), done = 0;
        cr_assert(all >= rows && all <= cuda_bucket(rows), "%d of %d", all, rows);
        while (done < all) {
            int32_t piece = matmul_piece(all, all - done);
            cr_assert(piece > 0 && piece <= MATMUL_MOST_ROWS && piece <= all - done);
            cr_assert_eq(matmul_rows(piece), piece, "%d of %d", piece, rows);
            done += piece;
        }
    }
}
