/* The unfused steps that every reference op is composed of.
 *
 * All of them work on f32 in host memory and share one rule, which is the specification's order of
 * accumulation: a sum starts at +0 and takes its terms in ascending index order, each product
 * rounded before it is added (the build forbids contraction). A sum over a row therefore never
 * depends on what lies beside it. */
#ifndef CRANK_KERNELS_REF_STEPS_H
#define CRANK_KERNELS_REF_STEPS_H

#include "kernels/ops.h"

/* The f32 rows of a tensor: this backend has one form, which serves as value and as operand. */
static inline float *ref_rows(const ops_tensor *t)
{
    return t->value != NULL ? t->value : t->operand;
}

static inline float *ref_row(const ops_tensor *t, int32_t row)
{
    return ref_rows(t) + (size_t)row * (size_t)t->cols;
}

/* out[j] = 0. */
void ref_zero(float *out, int32_t n);
/* out[j] = x[j]; out may equal x. */
void ref_copy(float *out, const float *x, int32_t n);
/* out[j] += x[j]. */
void ref_add(float *out, const float *x, int32_t n);
/* out[j] += a * x[j]. */
void ref_axpy(float *out, float a, const float *x, int32_t n);
/* sum over j of a[j] * b[j]. */
float ref_dot(const float *a, const float *b, int32_t n);
/* x[j] = act(x[j]); erf, exp and tanh are libm's. */
void ref_activate(float *x, int32_t n, ops_activation act);
/* out = norm(x), width norm->width (NONE: n); out may equal x. The mean is a sum divided by the
 * width; the variance is the mean of the squared differences from it. */
void ref_norm_row(float *out, const float *x, int32_t n, const ops_norm *norm);
/* x[j] = exp(x[j] - max x) / sum of them. Nothing for n = 0. */
void ref_softmax(float *x, int32_t n);

/* Splits items 0..n-1 into one contiguous range per worker of ctx->team and calls work for each
 * range that is not empty; on the calling thread without a team. */
typedef void (*ref_work)(const void *job, int worker, int32_t begin, int32_t end);
void ref_split(ops_context *ctx, int32_t n, ref_work work, const void *job);

/* The ops (kernels/ops.h says what each computes). */
void ref_embed_norm(ops_context *ctx, ops_tensor *out, const ops_embedding *e);
void ref_linear(ops_context *ctx, ops_tensor *out, const ops_tensor *x, const ops_linear *w,
                ops_activation act);
void ref_linear_residual_norm(ops_context *ctx, ops_tensor *out, ops_tensor *sum,
                              const ops_tensor *x, const ops_linear *w, const ops_tensor *residual,
                              const ops_norm *norm);
void ref_norm(ops_context *ctx, ops_tensor *out, const ops_tensor *x, const ops_norm *norm);
void ref_attention(ops_context *ctx, ops_tensor *out, const ops_tensor *qkv,
                   const ops_attention *a);
void ref_attention_rows(ops_context *ctx, ops_tensor *out, const ops_tensor *q,
                        const ops_tensor *kv, const ops_attention *a);
void ref_attention_rows_folded(ops_context *ctx, ops_tensor *out, const ops_tensor *q,
                               const ops_tensor *x, const ops_fold *fold, const ops_attention *a);
void ref_add_norm(ops_context *ctx, ops_tensor *out, const ops_tensor *x, const ops_tensor *y,
                  const ops_norm *norm);
void ref_gather_around(ops_context *ctx, ops_tensor *out, const ops_tensor *x);
void ref_gather_first(ops_context *ctx, ops_tensor *out, const ops_tensor *x);
void ref_pool(ops_context *ctx, ops_tensor *out, const ops_tensor *x, ops_pool_kind kind);
void ref_broadcast(ops_context *ctx, ops_tensor *out, const float *row);
void ref_head(ops_context *ctx, float *logits, const ops_tensor *x, const ops_head *head);
void ref_vectors(ops_context *ctx, float *vectors, const ops_tensor *x, bool normalize);

#endif
