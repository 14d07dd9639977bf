/* The ops of kernels/: the reference against double-precision formulas, then every backend, dtype
 * and instruction set of support/ops_table.c against the reference, all over the cases of
 * support/ops_cases.c. OPS_ONLY=part-of-a-name runs the cases with that name. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/ops_cases.h"

/* Under a sanitizer the big shapes cost minutes and show nothing that the small ones do not. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MAX_MFLOP 12
#else
#define MAX_MFLOP 0
#endif

/* The digests of the first row of a backend that promised equal bits in a dtype. */
typedef struct promise {
    const ops_backend *backend;
    uint64_t digests[OPS_CASES_MAX];
} promise;

static void check_bits(const ops_subject *subject, const ops_report *report)
{
    static promise promises[OPS_N_DTYPES];
    promise *first = &promises[subject->dtype];
    if (!(subject->same_bits & 1u << subject->dtype)) return;
    if (first->backend != subject->backend) {
        first->backend = subject->backend;
        memcpy(first->digests, report->digests, sizeof first->digests);
        return;
    }
    for (int i = 0; i < report->n_cases; i++) {
        cr_expect_eq(report->digests[i], first->digests[i], "%s %s %s: other bits in %s",
                     subject->backend->name, subject->options.isa, ops_dtypes[subject->dtype].name,
                     report->names[i]);
    }
}

static void run(const ops_subject *subject)
{
    static ops_report report;
    crank_error error = {0};
    const char *isa = subject->options.isa != NULL ? subject->options.isa : "default";
    const char *dtype = ops_dtypes[subject->dtype].name;
    crank_status status = ops_cases_run(subject, &report, &error);
    if (status == CRANK_UNSUPPORTED) {
        printf("skipped: %s %s %s: %s\n", subject->backend->name, isa, dtype, error.message);
        return;
    }
    cr_assert_eq(status, CRANK_OK, "%s", error.message);
    printf("%s %s %s against %s: %d cases, %d skipped; worst error over tolerance: %s\n",
           subject->backend->name, isa, dtype, subject->expected->name, report.n_cases,
           report.n_skipped, report.worst);
    cr_assert_eq(report.n_failed, 0, "%d of %d cases fail:\n%s", report.n_failed, report.n_cases,
                 report.failures);
    cr_assert_gt(report.n_cases - report.n_skipped, 0);
    check_bits(subject, &report);
}

Test(ops, every_backend_keeps_the_contract)
{
    for (size_t i = 0; i < n_ops_table; i++) {
        for (int dtype = 0; dtype < OPS_N_DTYPES; dtype++) {
            ops_subject subject = ops_table[i];
            subject.dtype = (ops_dtype)dtype;
            subject.max_mflop = MAX_MFLOP;
            subject.only = getenv("OPS_ONLY");
            run(&subject);
        }
    }
}

Test(ops, layouts_come_back_and_stay_inside_their_blobs)
{
    static ops_report report;
    ops_cases_layouts(&report);
    cr_assert_eq(report.n_failed, 0, "%s", report.failures);
}

/* ---- the contract, as kernels/ops.c checks it --------------------------------------------------
 */

#define BLOCK_BYTES 4096

static crank_status open_context(ops_context *ctx)
{
    *ctx = (ops_context){.backend = &ops_backend_ref, .dtype = OPS_F32};
    return ops_backend_ref.context_open(ctx, BLOCK_BYTES, NULL);
}

Test(ops, a_broken_contract_is_an_internal_error_that_sticks)
{
    static const int32_t starts[] = {0, 2};
    const ops_batch batch = {.n_sequences = 1, .n_tokens = 2, .max_tokens = 2, .starts = starts};
    ops_context ctx;
    crank_error error = {0};
    cr_assert_eq(open_context(&ctx), CRANK_OK);
    ops_begin(&ctx, &batch);
    ops_tensor x = ops_new(&ctx, 2, 8, OPS_USE_VALUE), out = ops_new(&ctx, 2, 4, OPS_USE_VALUE);
    ops_norm none = {0};
    ops_norm_rows(&ctx, &out, &x, &none); /* 4 columns of 8 */
    cr_assert_eq(ctx.failure, CRANK_INTERNAL);
    ops_pool(&ctx, &out, &x, OPS_POOL_MEAN); /* does nothing now */
    cr_assert_eq(ops_end(&ctx, &error), CRANK_INTERNAL);
    cr_assert_str_eq(error.message, "norm: shapes or uses break the contract");
    ops_begin(&ctx, &batch); /* a new batch starts clean */
    cr_assert_eq(ops_end(&ctx, &error), CRANK_OK);
    ops_backend_ref.context_close(&ctx);
}

Test(ops, a_workspace_that_is_too_small_is_an_internal_error)
{
    const ops_batch batch = {0};
    ops_context ctx;
    crank_error error = {0};
    cr_assert_eq(open_context(&ctx), CRANK_OK);
    ops_begin(&ctx, &batch);
    ops_new(&ctx, 16, 64, OPS_USE_VALUE); /* all of it */
    cr_assert_eq(ctx.failure, CRANK_OK);
    cr_assert_null(ops_take(&ctx, 1));
    cr_assert_null(ops_take(&ctx, SIZE_MAX));
    cr_assert_eq(ops_end(&ctx, &error), CRANK_INTERNAL);
    cr_assert_str_eq(error.message, "workspace of 4096 bytes is too small: 4096 used, 1 wanted");
    ops_backend_ref.context_close(&ctx);
}

typedef struct traced {
    int calls;
    float first;
    char name[32];
} traced;

static void on_trace(void *user, const char *name, const float *rows, int32_t n_rows,
                     int32_t n_cols)
{
    traced *t = user;
    t->calls++;
    t->first = rows[0];
    cr_expect(n_rows == 2 && n_cols == 8);
    snprintf(t->name, sizeof t->name, "%s", name);
}

Test(ops, a_trace_gives_the_rows_in_f32)
{
    const ops_batch batch = {0};
    float rows[16], row[8] = {0.25f};
    traced seen = {0};
    const ops_tracer tracer = {on_trace, &seen, rows, 16};
    ops_context ctx;
    cr_assert_eq(open_context(&ctx), CRANK_OK);
    ops_begin(&ctx, &batch);
    ops_tensor x = ops_new(&ctx, 2, 8, OPS_USE_VALUE), big = ops_new(&ctx, 3, 8, OPS_USE_VALUE);
    ops_broadcast(&ctx, &x, row);
    ops_trace(&ctx, &x, "layer.%d", 3); /* no tracer: nothing */
    ctx.tracer = &tracer;
    ops_trace(&ctx, &x, "layer.%d", 3);
    ops_trace(&ctx, &big, "too big for the tracer's rows");
    cr_assert_eq(ops_end(&ctx, NULL), CRANK_OK);
    cr_assert_eq(seen.calls, 1);
    cr_assert_eq(seen.first, 0.25f);
    cr_assert_str_eq(seen.name, "layer.3");
    ops_backend_ref.context_close(&ctx);
}

Test(ops, the_reference_refuses_an_instruction_set)
{
    void *device;
    crank_error error = {0};
    const ops_device_options options = {.isa = "avx9"};
    cr_assert_eq(ops_backend_ref.open(&device, &options, &error), CRANK_UNSUPPORTED);
    cr_assert_str_eq(error.message,
                     "the reference runs plain C only: expected isa \"portable\", found \"avx9\"");
}

/* ---- planted bugs ------------------------------------------------------------------------------
 * The cases must catch what they were written for: each wrapper below is the reference with one
 * bug, and the run over the named cases has to fail with the named message. */

static float *rows_of(const ops_tensor *t)
{
    return t->value != NULL ? t->value : t->operand;
}

static void linear_forgets_last_column(ops_context *ctx, ops_tensor *out, const ops_tensor *x,
                                       const ops_linear *w, ops_activation act)
{
    float kept[2048];
    bool remember = !ctx->dry && out->rows > 0 && out->rows <= 2048;
    for (int32_t t = 0; remember && t < out->rows; t++)
        kept[t] = rows_of(out)[(t + 1) * out->cols - 1];
    ops_backend_ref.linear(ctx, out, x, w, act);
    for (int32_t t = 0; remember && t < out->rows; t++)
        rows_of(out)[(t + 1) * out->cols - 1] = kept[t];
}

static void linear_writes_behind_its_rows(ops_context *ctx, ops_tensor *out, const ops_tensor *x,
                                          const ops_linear *w, ops_activation act)
{
    ops_backend_ref.linear(ctx, out, x, w, act);
    if (!ctx->dry) rows_of(out)[(size_t)out->rows * (size_t)out->cols + 16] = 0.0f;
}

static void linear_depends_on_its_neighbours(ops_context *ctx, ops_tensor *out, const ops_tensor *x,
                                             const ops_linear *w, ops_activation act)
{
    ops_backend_ref.linear(ctx, out, x, w, act);
    if (!ctx->dry && out->rows > 1) rows_of(out)[0] *= 1.0000001f;
}

static void linear_writes_to_weights(ops_context *ctx, ops_tensor *out, const ops_tensor *x,
                                     const ops_linear *w, ops_activation act)
{
    ops_backend_ref.linear(ctx, out, x, w, act);
    float *blob = (float *)(uintptr_t)w->blob;
    if (!ctx->dry && out->rows > 0) blob[0] = blob[0] * 0.5f;
}

static void linear_takes_scratch_when_wet(ops_context *ctx, ops_tensor *out, const ops_tensor *x,
                                          const ops_linear *w, ops_activation act)
{
    if (!ctx->dry) ops_take(ctx, 64);
    ops_backend_ref.linear(ctx, out, x, w, act);
}

static void attention_sees_all_keys(ops_context *ctx, ops_tensor *out, const ops_tensor *qkv,
                                    const ops_attention *a)
{
    const int32_t *counts = ctx->batch.key_counts;
    ctx->batch.key_counts = NULL;
    ops_backend_ref.attention(ctx, out, qkv, a);
    ctx->batch.key_counts = counts;
}

static void attention_window_excludes_its_edge(ops_context *ctx, ops_tensor *out,
                                               const ops_tensor *qkv, const ops_attention *a)
{
    ops_attention narrower = *a;
    narrower.window--;
    ops_backend_ref.attention(ctx, out, qkv, &narrower);
}

static void norm_forgets_epsilon(ops_context *ctx, ops_tensor *out, const ops_tensor *x,
                                 const ops_norm *norm)
{
    ops_norm other = *norm;
    other.epsilon = 2e-5f;
    ops_backend_ref.norm(ctx, out, x, &other);
}

static void head_writes_behind_its_logits(ops_context *ctx, float *logits, const ops_tensor *x,
                                          const ops_head *head)
{
    ops_backend_ref.head(ctx, logits, x, head);
    if (!ctx->dry) logits[x->rows * head->labels] = 0.0f;
}

Test(ops, planted_bugs_are_caught)
{
    ops_backend broken[9];
    for (int i = 0; i < 9; i++) broken[i] = ops_backend_ref;
    broken[0].linear = linear_forgets_last_column;
    broken[1].linear = linear_writes_behind_its_rows;
    broken[2].linear = linear_depends_on_its_neighbours;
    broken[3].linear = linear_writes_to_weights;
    broken[4].linear = linear_takes_scratch_when_wet;
    broken[5].attention = attention_sees_all_keys;
    broken[6].attention = attention_window_excludes_its_edge;
    broken[7].norm = norm_forgets_epsilon;
    broken[8].head = head_writes_behind_its_logits;
    static const struct {
        const char *cases, *message;
    } expected[] = {
        {"linear B=7 T=7 S=1 n=64 k=64", "nan"},
        {"linear B=7 T=7 S=1 n=64 k=64", "guard band"},
        {"linear B=7 T=7 S=1 n=64 k=64", "has other bits"},
        {"linear B=7 T=7 S=1 n=64 k=64", "other bits"},
        {"linear B=7 T=7 S=1 n=64 k=64", "workspace of"},
        {"attention B=6 T=122 S=64 H=2 K=32 keys", "expected"},
        {"attention B=6 T=122 S=64 H=2 K=32 w=4", "expected"},
        {"norm B=7 T=7 S=1 k=64 norm=1 small", "expected"},
        {"head B=6 T=122 S=64 k=64", "memory beside the host output"},
    };
    static ops_report report;
    for (int i = 0; i < 9; i++) {
        ops_subject subject = {
            .backend = &broken[i], .expected = &ops_backend_ref, .only = expected[i].cases};
        cr_assert_eq(ops_cases_run(&subject, &report, NULL), CRANK_OK);
        cr_expect_gt(report.n_failed, 0, "bug %d passes", i);
        cr_expect_not_null(strstr(report.failures, expected[i].message), "bug %d: %s", i,
                           report.failures);
    }
}
