#include <stddef.h>

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/layout.h"

/* cuBLASLt's form of a linear; false: it has none (int8, gates). */
static bool matmul_of(const ops_context *ctx, matmul_linear *l, cuda_kernel_kind kind,
                      const ops_linear *w, ops_activation act)
{
    if (ctx->dtype == OPS_INT8 || kind == KERNEL_GEMM_GATED) return false;
    cuda_linear_parts p = cuda_linear_at(ctx->dtype, w->n, w->k, false);
    *l = (matmul_linear){.kind = kind == KERNEL_GEMM_RESIDUAL ? MATMUL_RESIDUAL
                                 : act == OPS_IDENTITY        ? MATMUL_BIAS
                                 : act == OPS_GELU_TANH       ? MATMUL_GELU_TANH
                                                              : MATMUL_PLAIN,
                         .dtype = ctx->dtype,
                         .n = p.rows,
                         .k = ARGS_LD(w->k),
                         .blob = w->blob,
                         .bias = (const float *)((uintptr_t)w->blob + p.bias)};
    return true;
}

static void bias_act(ops_context *ctx, void *rows, const float *sums, int32_t n_rows,
                     const matmul_linear *l, ops_activation act)
{
    bias_act_args args = {.n_rows = cuda_rows(ctx, n_rows),
                          .ld = l->n,
                          .activation = (int32_t)act,
                          .bias = l->bias,
                          .sums = sums,
                          .rows = rows};
    cuda_launch(ctx, cuda_find(KERNEL_BIAS_ACT, ctx->dtype, 0),
                (uint32_t)cuda_grid_rows(ctx, n_rows), (uint32_t)((l->n + 1023) / 1024), 1, 256, 0,
                &args, sizeof args);
}

/* The GEMM by cuBLASLt, where matmul.h says so; a dry run decides that and takes the workspace. */
static bool matmul(ops_context *ctx, const matmul_linear *l, void *rows, const ops_tensor *x,
                   const void *residual, ops_activation act)
{
    cuda_device *d = ctx->device;
    if (ctx->dry) {
        crank_error error = {0};
        crank_status status = cuda_matmul_plan(d, l, x->rows, &error);
        if (status != CRANK_OK) ops_fail(ctx, status, "%s", error.message);
    }
    cu_address bias;
    const matmul_shape *s = cuda_matmul_find(d, l, x->rows, &bias);
    if (s == NULL || ctx->failure != CRANK_OK) return false;
    size_t mark = ops_mark(ctx);
    void *workspace = s->workspace_bytes > 0 ? ops_take(ctx, s->workspace_bytes) : NULL;
    int32_t all = matmul_rows(x->rows);
    bool plain = l->kind == MATMUL_PLAIN;
    size_t element = plain ? sizeof(float) : 2;
    void *sums = plain ? ops_take(ctx, (size_t)all * (size_t)l->n * element) : rows;
    if (ctx->failure != CRANK_OK) return true;
    for (int32_t row = 0; row < all && !ctx->dry;) {
        int32_t piece = matmul_piece(all, all - row);
        size_t x_at = (size_t)row * (size_t)l->k * 2, out_at = (size_t)row * (size_t)l->n * element;
        matmul_call c = {.problem = {.kind = (int32_t)l->kind,
                                     .dtype = (int32_t)l->dtype,
                                     .rows = piece,
                                     .n = l->n,
                                     .k = l->k,
                                     .x_ld = l->k,
                                     .w_ld = (l->k + 63) / 64 * 64,
                                     .out_ld = l->n},
                         .algorithm = s->algorithm,
                         .workspace_bytes = s->workspace_bytes,
                         .x = (const uint8_t *)x->operand + x_at,
                         .w = l->blob,
                         .bias = (const void *)(uintptr_t)bias,
                         .out = (uint8_t *)sums + out_at,
                         .workspace = workspace};
        if (residual != NULL) c.residual = (const uint8_t *)residual + out_at;
        cuda_matmul_call(ctx, &c);
        row += piece;
    }
    if (plain && !ctx->dry) bias_act(ctx, rows, sums, x->rows, l, act);
    ops_release(ctx, mark);
    return true;
}

/* A GEMM's arguments. rows: where its 16-bit results go. */
static gemm_args args_of(const ops_context *ctx, void *rows, const ops_tensor *x,
                         const ops_linear *w, const void *residual, ops_activation act,
                         int32_t out_cols)
{
    cuda_linear_parts p = cuda_linear_at(ctx->dtype, w->n, w->k, w->gated);
    const uint8_t *blob = w->blob;
    int32_t element = ctx->dtype == OPS_INT8 ? 1 : 2;
    gemm_args args = {.n_rows = cuda_rows(ctx, x->rows),
                      .n = p.rows,
                      .k_tiles = p.row_bytes / 128,
                      .x_bytes = ARGS_LD(x->cols) * element,
                      .w_bytes = p.row_bytes,
                      .out_ld = ARGS_LD(out_cols),
                      .activation = (int32_t)act,
                      .x = x->operand,
                      .w = blob,
                      .bias = (const float *)(uintptr_t)(blob + p.bias),
                      .residual = residual,
                      .out = rows};
    if (ctx->dtype == OPS_INT8) {
        args.x_scale = x->scale;
        args.x_zero = cuda_zeros(x);
        args.w_scale = (const float *)(uintptr_t)(blob + p.scales);
        args.w_sums = (const int32_t *)(uintptr_t)(blob + p.sums);
    }
    return args;
}

static void launch(ops_context *ctx, int kernel, int32_t rows, int32_t n, const void *args,
                   size_t args_bytes)
{
    const cuda_kernel *k = &cuda_kernels[kernel];
    cuda_launch(ctx, kernel, (uint32_t)((n + k->tile_n - 1) / k->tile_n),
                (uint32_t)((rows + k->tile_m - 1) / k->tile_m), 1, (uint32_t)k->threads,
                (uint32_t)k->shared_bytes, args, args_bytes);
}

/* rows = epilogue(x W^T + bias): one GEMM launch, or cuBLASLt. */
static void gemm(ops_context *ctx, cuda_kernel_kind kind, void *rows, const ops_tensor *x,
                 const ops_linear *w, const void *residual, ops_activation act, int32_t out_cols)
{
    matmul_linear l;
    if (ctx->failure != CRANK_OK || x->rows == 0) return;
    if (matmul_of(ctx, &l, kind, w, act) && matmul(ctx, &l, rows, x, residual, act)) return;
    if (ctx->dry) return;
    const cuda_device *d = ctx->device;
    gemm_args args = args_of(ctx, rows, x, w, residual, act, out_cols);
    int32_t grid_rows = cuda_grid_rows(ctx, x->rows);
    int kernel = cuda_find_gemm(kind, ctx->dtype, grid_rows, args.n, args.k_tiles, d->n_sms, d->sm,
                                d->forced);
    launch(ctx, kernel, grid_rows, args.n, &args, sizeof args);
}

/* GEMM, residual and norm in one launch; false: another way is taken. sum NULL: not wanted. */
static bool gemm_norm(ops_context *ctx, const ops_tensor *out, void *sum, const ops_tensor *x,
                      const ops_linear *w, const void *residual, const ops_norm *norm)
{
    cuda_device *d = ctx->device;
    matmul_linear l;
    cu_address bias;
    if (ctx->failure != CRANK_OK || x->rows == 0 || ctx->dry) return false;
    if (matmul_of(ctx, &l, KERNEL_GEMM_RESIDUAL, w, OPS_IDENTITY) &&
        cuda_matmul_find(d, &l, x->rows, &bias) != NULL)
        return false;
    gemm_args args = args_of(ctx, sum, x, w, residual, OPS_IDENTITY, w->n);
    int32_t grid_rows = cuda_grid_rows(ctx, x->rows);
    int kernel = cuda_find_gemm_norm(ctx->dtype, grid_rows, args.n, args.k_tiles, d->n_sms, d->sm,
                                     d->shared_bytes, d->forced);
    if (kernel < 0) return false;
    cuda_finish finish = cuda_finish_of(ctx, out, norm);
    gemm_norm_args both = {.gemm = args,
                           .cols = out->cols,
                           .vectors = finish.vectors,
                           .norm = finish.norm,
                           .out = finish.out};
    launch(ctx, kernel, grid_rows, args.n, &both, sizeof both);
    return true;
}

void cuda_linear(ops_context *ctx, ops_tensor *out, const ops_tensor *x, const ops_linear *w,
                 ops_activation act)
{
    cuda_kernel_kind kind = w->gated              ? KERNEL_GEMM_GATED
                            : act == OPS_IDENTITY ? KERNEL_GEMM_BIAS
                            : act == OPS_GELU     ? KERNEL_GEMM_GELU
                                                  : KERNEL_GEMM_ACT;
    size_t mark = ops_mark(ctx);
    void *rows = cuda_row_target(ctx, out);
    gemm(ctx, kind, rows, x, w, NULL, act, out->cols);
    cuda_quantise(ctx, out, rows);
    ops_release(ctx, mark);
}

/* GEMM with bias and residual in its epilogue, then a norm of whole rows, in one kernel or two. The
 * sum between them is rounded to 16 bits once, whichever kernels carry it. */
void cuda_linear_residual_norm(ops_context *ctx, ops_tensor *out, ops_tensor *sum,
                               const ops_tensor *x, const ops_linear *w, const ops_tensor *residual,
                               const ops_norm *norm)
{
    size_t mark = ops_mark(ctx);
    ops_tensor scratch = {.rows = out->rows, .cols = out->cols, .uses = OPS_USE_VALUE};
    void *wanted = sum != NULL ? sum->value : NULL;
    if (sum == NULL) { /* taken whichever kernels run: a dry run does not know the batch */
        cuda_tensor(ctx, &scratch);
        sum = &scratch;
    }
    if (!gemm_norm(ctx, out, wanted, x, w, residual->value, norm)) {
        gemm(ctx, KERNEL_GEMM_RESIDUAL, sum->value, x, w, residual->value, OPS_IDENTITY, w->n);
        cuda_norm(ctx, out, sum, norm);
    }
    ops_release(ctx, mark);
}
