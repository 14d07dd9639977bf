/* The ops of the CUDA backend (ops.h says what each computes): arguments from tensors, a kernel
 * from the variant table, a launch on the context's list. */
#ifndef CRANK_CUDA_KERNELS_H
#define CRANK_CUDA_KERNELS_H

#include "kernels/cuda/args.h"
#include "kernels/cuda/context.h"
#include "kernels/ops.h"

/* op_rows.c */
void cuda_embed_norm(ops_context *ctx, ops_tensor *out, const ops_embedding *e);
void cuda_norm(ops_context *ctx, ops_tensor *out, const ops_tensor *x, const ops_norm *norm);
void cuda_add_norm(ops_context *ctx, ops_tensor *out, const ops_tensor *x, const ops_tensor *y,
                   const ops_norm *norm);
void cuda_gather_around(ops_context *ctx, ops_tensor *out, const ops_tensor *x);
void cuda_gather_first(ops_context *ctx, ops_tensor *out, const ops_tensor *x);
void cuda_pool(ops_context *ctx, ops_tensor *out, const ops_tensor *x, ops_pool_kind kind);
void cuda_broadcast(ops_context *ctx, ops_tensor *out, const float *row);
void cuda_head(ops_context *ctx, float *logits, const ops_tensor *x, const ops_head *head);
void cuda_write_vectors(ops_context *ctx, float *vectors, const ops_tensor *x, bool normalize);

/* op_linear.c */
void cuda_linear(ops_context *ctx, ops_tensor *out, const ops_tensor *x, const ops_linear *w,
                 ops_activation act);
void cuda_linear_residual_norm(ops_context *ctx, ops_tensor *out, ops_tensor *sum,
                               const ops_tensor *x, const ops_linear *w, const ops_tensor *residual,
                               const ops_norm *norm);

/* op_attention.c */
void cuda_attention(ops_context *ctx, ops_tensor *out, const ops_tensor *qkv,
                    const ops_attention *a);
void cuda_attention_rows(ops_context *ctx, ops_tensor *out, const ops_tensor *q,
                         const ops_tensor *kv, const ops_attention *a);
void cuda_attention_rows_folded(ops_context *ctx, ops_tensor *out, const ops_tensor *q,
                                const ops_tensor *x, const ops_fold *fold, const ops_attention *a);

/* ---- shared by them ---- */

/* The type of values inside kernels: f16 or bf16. */
ops_dtype cuda_value_dtype(const ops_context *ctx);

/* Where a kernel that makes 16-bit rows writes: out's value, or scratch when out has only an int8
 * operand; cuda_quantise then makes the operand. */
void *cuda_row_target(ops_context *ctx, const ops_tensor *out);
void cuda_quantise(ops_context *ctx, const ops_tensor *out, const void *rows);

/* What a kernel that finishes whole rows is told of out and its norm. */
typedef struct cuda_finish {
    norm_args norm;
    row_output out;
    int32_t vectors;
} cuda_finish;
cuda_finish cuda_finish_of(const ops_context *ctx, const ops_tensor *out, const ops_norm *norm);

#endif
