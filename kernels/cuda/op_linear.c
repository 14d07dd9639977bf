#include <stddef.h>

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/layout.h"

/* rows = epilogue(x W^T + bias): one GEMM launch. */
static void gemm(ops_context *ctx, cuda_kernel_kind kind, void *rows, const ops_tensor *x,
                 const ops_linear *w, const void *residual, ops_activation act, int32_t out_cols)
{
    if (ctx->dry || ctx->failure != CRANK_OK || x->rows == 0) return;
    const cuda_device *d = ctx->device;
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
    int32_t grid_rows = cuda_grid_rows(ctx, x->rows);
    int kernel = cuda_find_gemm(kind, ctx->dtype, grid_rows, p.rows, args.k_tiles, d->n_sms, d->sm,
                                d->forced);
    const cuda_kernel *k = &cuda_kernels[kernel];
    cuda_launch(ctx, kernel, (uint32_t)((p.rows + k->tile_n - 1) / k->tile_n),
                (uint32_t)((grid_rows + k->tile_m - 1) / k->tile_m), 1, (uint32_t)k->threads,
                (uint32_t)k->shared_bytes, &args, sizeof args);
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

/* GEMM with bias and residual in its epilogue, then a norm of whole rows. The sum between them is
 * rounded to 16 bits once, whichever kernels carry it. */
void cuda_linear_residual_norm(ops_context *ctx, ops_tensor *out, ops_tensor *sum,
                               const ops_tensor *x, const ops_linear *w, const ops_tensor *residual,
                               const ops_norm *norm)
{
    size_t mark = ops_mark(ctx);
    ops_tensor scratch = {.rows = out->rows, .cols = out->cols, .uses = OPS_USE_VALUE};
    if (sum == NULL) {
        cuda_tensor(ctx, &scratch);
        sum = &scratch;
    }
    gemm(ctx, KERNEL_GEMM_RESIDUAL, sum->value, x, w, residual->value, OPS_IDENTITY, w->n);
    cuda_norm(ctx, out, sum, norm);
    ops_release(ctx, mark);
}
