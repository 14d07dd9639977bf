#include <stddef.h>

#include "kernels/cuda/kernels.h"

#define ROWS_PER_BLOCK 4

ops_dtype cuda_value_dtype(const ops_context *ctx)
{
    return ctx->dtype == OPS_BF16 ? OPS_BF16 : OPS_F16;
}

static uint32_t blocks(int32_t n, int32_t per_block)
{
    return (uint32_t)((n + per_block - 1) / per_block);
}

static row_output output_of(const ops_context *ctx, const ops_tensor *t)
{
    row_output out = {.value = t->value};
    if (ctx->dtype != OPS_INT8 || t->operand == NULL) return out;
    out.operand = t->operand;
    out.scale = t->scale;
    out.zero = cuda_zeros(t);
    return out;
}

static norm_args norm_of(const ops_norm *norm)
{
    return (norm_args){norm->gamma, norm->beta, norm->epsilon, (int32_t)norm->kind};
}

/* True when rows of f32 and table rows may be read in pieces of 16 bytes: whole chunks of 8, every
 * array on a 16-byte boundary. */
static bool whole_vectors(int32_t cols, const void *const *arrays, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if ((uintptr_t)arrays[i] % 16 != 0) return false;
    }
    return cols % 8 == 0;
}

void cuda_embed_norm(ops_context *ctx, ops_tensor *out, const ops_embedding *e)
{
    int kernel = cuda_find(KERNEL_EMBED, cuda_value_dtype(ctx), out->cols);
    if (ctx->dry || ctx->failure != CRANK_OK || out->rows == 0) return;
    static const int32_t types[OPS_N_DTYPES] = {
        [OPS_F32] = ARGS_F32, [OPS_F16] = ARGS_F16, [OPS_BF16] = ARGS_BF16};
    const void *arrays[] = {e->word.data, e->type.data, e->position.data, e->norm.gamma,
                            e->norm.beta};
    embed_args args = {.n_rows = cuda_rows(ctx, out->rows),
                       .cols = out->cols,
                       .vectors = whole_vectors(out->cols, arrays, 5),
                       .ids = ctx->batch.ids,
                       .types = ctx->batch.types,
                       .positions = ctx->batch.positions,
                       .word = e->word.data,
                       .type = e->type.data,
                       .position = e->position.data,
                       .table_type = types[e->word.dtype],
                       .norm = norm_of(&e->norm),
                       .out = output_of(ctx, out)};
    cuda_launch(ctx, kernel, blocks(cuda_grid_rows(ctx, out->rows), ROWS_PER_BLOCK), 1, 1,
                ROWS_PER_BLOCK * 32, 0, &args, sizeof args);
}

/* out[i] = norm(source[rows[i]] + other[i]) in out's forms; or of a constant row. */
static void make_rows(ops_context *ctx, const ops_tensor *out, const void *source,
                      const void *other, const int32_t *rows, const float *constant,
                      const ops_norm *norm)
{
    int kernel = cuda_find(KERNEL_NORM, cuda_value_dtype(ctx), out->cols);
    if (ctx->dry || ctx->failure != CRANK_OK || out->rows == 0) return;
    static const ops_norm none = {.kind = OPS_NORM_NONE};
    if (norm == NULL) norm = &none;
    const void *arrays[] = {constant, norm->gamma, norm->beta};
    row_args args = {.n_rows = cuda_rows(ctx, out->rows),
                     .cols = out->cols,
                     .vectors = whole_vectors(out->cols, arrays, 3),
                     .rows = rows,
                     .source = source,
                     .other = other,
                     .constant = constant,
                     .norm = norm_of(norm),
                     .out = output_of(ctx, out)};
    cuda_launch(ctx, kernel, blocks(cuda_grid_rows(ctx, out->rows), ROWS_PER_BLOCK), 1, 1,
                ROWS_PER_BLOCK * 32, 0, &args, sizeof args);
}

cuda_finish cuda_finish_of(const ops_context *ctx, const ops_tensor *out, const ops_norm *norm)
{
    const void *arrays[] = {norm->gamma, norm->beta};
    return (cuda_finish){norm_of(norm), output_of(ctx, out), whole_vectors(out->cols, arrays, 2)};
}

void cuda_norm(ops_context *ctx, ops_tensor *out, const ops_tensor *x, const ops_norm *norm)
{
    make_rows(ctx, out, x->value, NULL, NULL, NULL, norm);
}

void cuda_add_norm(ops_context *ctx, ops_tensor *out, const ops_tensor *x, const ops_tensor *y,
                   const ops_norm *norm)
{
    make_rows(ctx, out, x->value, y->value, NULL, NULL, norm);
}

void cuda_gather_first(ops_context *ctx, ops_tensor *out, const ops_tensor *x)
{
    make_rows(ctx, out, x->value, NULL, ctx->batch.starts, NULL, NULL);
}

void cuda_broadcast(ops_context *ctx, ops_tensor *out, const float *row)
{
    make_rows(ctx, out, NULL, NULL, NULL, row, NULL);
}

void *cuda_row_target(ops_context *ctx, const ops_tensor *out)
{
    if (out->value != NULL || ctx->failure != CRANK_OK) return out->value;
    if (ctx->dtype != OPS_INT8) return out->operand;
    return ops_take(ctx, (size_t)cuda_bucket(out->rows) * (size_t)ARGS_LD(out->cols) * 2);
}

void cuda_quantise(ops_context *ctx, const ops_tensor *out, const void *rows)
{
    if (ctx->dtype != OPS_INT8 || out->operand == NULL || ctx->dry || out->rows == 0) return;
    row_args args = {.n_rows = cuda_rows(ctx, out->rows),
                     .cols = out->cols,
                     .source = rows,
                     .out = output_of(ctx, out)};
    args.out.value = NULL;
    cuda_launch(ctx, cuda_find(KERNEL_QUANTISE, cuda_value_dtype(ctx), 0),
                blocks(cuda_grid_rows(ctx, out->rows), ROWS_PER_BLOCK), 1, 1, ROWS_PER_BLOCK * 32,
                0, &args, sizeof args);
}

void cuda_pool(ops_context *ctx, ops_tensor *out, const ops_tensor *x, ops_pool_kind kind)
{
    if (kind == OPS_POOL_FIRST) {
        cuda_gather_first(ctx, out, x);
        return;
    }
    size_t mark = ops_mark(ctx);
    void *rows = cuda_row_target(ctx, out);
    if (!ctx->dry && ctx->failure == CRANK_OK && out->rows > 0) {
        pool_args args = {.n_rows = cuda_rows(ctx, out->rows),
                          .starts = ctx->batch.starts,
                          .x = x->value,
                          .out = rows,
                          .cols = out->cols,
                          .ld = ARGS_LD(out->cols),
                          .kind = (int32_t)kind};
        cuda_launch(ctx, cuda_find(KERNEL_POOL, cuda_value_dtype(ctx), 0), blocks(args.ld, 64),
                    (uint32_t)cuda_grid_rows(ctx, out->rows), 1, 32, 0, &args, sizeof args);
        cuda_quantise(ctx, out, rows);
    }
    ops_release(ctx, mark);
}

void cuda_gather_around(ops_context *ctx, ops_tensor *out, const ops_tensor *x)
{
    size_t mark = ops_mark(ctx);
    void *rows = cuda_row_target(ctx, out);
    if (!ctx->dry && ctx->failure == CRANK_OK && out->rows > 0) {
        around_args args = {.n_rows = cuda_rows(ctx, out->rows),
                            .n_sequences = cuda_rows(ctx, ctx->batch.n_sequences),
                            .starts = ctx->batch.starts,
                            .x = x->value,
                            .out = rows,
                            .cols = x->cols,
                            .n = out->cols / x->cols,
                            .ld = ARGS_LD(out->cols),
                            .vectors = whole_vectors(x->cols, NULL, 0)};
        cuda_launch(ctx, cuda_find(KERNEL_AROUND, OPS_F32, 0),
                    blocks(cuda_grid_rows(ctx, out->rows), ROWS_PER_BLOCK), 1, 1,
                    ROWS_PER_BLOCK * 32, 0, &args, sizeof args);
        cuda_quantise(ctx, out, rows);
    }
    ops_release(ctx, mark);
}

#define HEAD_ROWS 4
#define HEAD_OUTPUTS 32 /* of a block */

void cuda_head(ops_context *ctx, float *logits, const ops_tensor *x, const ops_head *head)
{
    size_t mark = ops_mark(ctx);
    float *hidden = NULL;
    if (head->dense != NULL)
        hidden =
            ops_take(ctx, (size_t)cuda_bucket(x->rows) * (size_t)head->d_dense * sizeof *hidden);
    uint32_t groups = blocks(cuda_grid_rows(ctx, x->rows), HEAD_ROWS);
    if (!ctx->dry && groups > CUDA_TICKETS)
        ops_fail(ctx, CRANK_UNSUPPORTED,
                 "cuda: the head of %d rows at once is not supported (at "
                 "most %d)",
                 x->rows, CUDA_TICKETS * HEAD_ROWS);
    if (!ctx->dry && ctx->failure == CRANK_OK && x->rows > 0) {
        head_args args = {.n_rows = cuda_rows(ctx, x->rows),
                          .x = x->value,
                          .x_ld = ARGS_LD(x->cols),
                          .d_in = head->d_in,
                          .d_dense = head->d_dense,
                          .labels = head->labels,
                          .activation = (int32_t)head->activation,
                          .dense = head->dense,
                          .dense_bias = head->dense_bias,
                          .norm = norm_of(&head->norm),
                          .out = head->out,
                          .out_bias = head->out_bias,
                          .hidden = hidden,
                          .tickets = (uint32_t *)(uintptr_t)cuda_stream_of(ctx)->tickets};
        size_t count = (size_t)x->rows * (size_t)head->labels;
        args.logits = cuda_output_floats(ctx, logits, count);
        cuda_launch(ctx, cuda_find(KERNEL_HEAD, cuda_value_dtype(ctx), 0),
                    head->dense != NULL ? blocks(head->d_dense, HEAD_OUTPUTS) : 1, groups, 1, 256,
                    (uint32_t)(HEAD_ROWS * head->d_in * (int32_t)sizeof(float)), &args,
                    sizeof args);
    }
    ops_release(ctx, mark);
}

void cuda_write_vectors(ops_context *ctx, float *vectors, const ops_tensor *x, bool normalize)
{
    if (ctx->dry || x->rows == 0) return;
    vectors_args args = {.n_rows = cuda_rows(ctx, x->rows),
                         .x = x->value,
                         .ld = ARGS_LD(x->cols),
                         .cols = x->cols,
                         .normalize = normalize};
    args.vectors = cuda_output_floats(ctx, vectors, (size_t)x->rows * (size_t)x->cols);
    cuda_launch(ctx, cuda_find(KERNEL_VECTORS, cuda_value_dtype(ctx), 0),
                blocks(cuda_grid_rows(ctx, x->rows), ROWS_PER_BLOCK), 1, 1, ROWS_PER_BLOCK * 32, 0,
                &args, sizeof args);
}
