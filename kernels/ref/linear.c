/* Linears: y = x W^T + b, alone with an activation or a gate, or with the residual and the norm
 * that follow it.
 *
 * The blob holds the weight transposed, [k, n], then the bias [n]. A row of outputs is built by
 * axpy: out[j] = (((0 + x[0] W[0,j]) + x[1] W[1,j]) + ...) + b[j], k ascending for every j, so the
 * compiler vectorises over j and the order of each sum is the plain one. Rows go in blocks, columns
 * in panels and k in steps of four only so that a weight is fetched once per block of rows and a
 * partial sum once per four products: the sequence of additions is untouched. */
#include "kernels/ref/ref.h"
#include "kernels/ref/steps.h"

#include <string.h>

#define ROW_BLOCK 16
#define PANEL 256 /* ROW_BLOCK x PANEL sums and 4 x PANEL weights: 20 KiB, inside a 32 KiB L1 */
#define K_STEP 4

/* ---- layout ------------------------------------------------------------------------------------
 */

static size_t linear_bytes(int32_t n, int32_t k)
{
    size_t bytes = ((size_t)n * (size_t)k + (size_t)n) * sizeof(float);
    return (bytes + 63) / 64 * 64;
}

/* Both directions of the transpose walk tiles of 16 x 16, which stay in L1. */
#define TILE 16

static void transpose(float *out, const float *in, int32_t rows, int32_t cols)
{
    for (int32_t r0 = 0; r0 < rows; r0 += TILE) {
        int32_t r1 = r0 + TILE < rows ? r0 + TILE : rows;
        for (int32_t c0 = 0; c0 < cols; c0 += TILE) {
            int32_t c1 = c0 + TILE < cols ? c0 + TILE : cols;
            for (int32_t r = r0; r < r1; r++) {
                for (int32_t c = c0; c < c1; c++) {
                    out[(size_t)c * (size_t)rows + (size_t)r] =
                        in[(size_t)r * (size_t)cols + (size_t)c];
                }
            }
        }
    }
}

static void linear_pack(void *blob, const float *weight, const float *bias, int32_t n, int32_t k,
                        bool gated)
{
    (void)gated; /* the halves keep their places */
    float *packed_bias = (float *)blob + (size_t)n * (size_t)k;
    transpose(blob, weight, n, k);
    if (bias != NULL) {
        ref_copy(packed_bias, bias, n);
    } else {
        ref_zero(packed_bias, n);
    }
    uint8_t *end = (uint8_t *)(packed_bias + n);
    memset(end, 0,
           (size_t)((uint8_t *)blob + linear_bytes(n, k) - end)); /* files are reproducible */
}

static void linear_unpack(float *weight, float *bias, const void *blob, int32_t n, int32_t k,
                          bool gated)
{
    (void)gated;
    transpose(weight, blob, k, n);
    if (bias != NULL) ref_copy(bias, (const float *)blob + (size_t)n * (size_t)k, n);
}

const ops_layout ref_layout_f32 = {
    .name = "row-f32",
    .dtype = OPS_F32,
    .linear_bytes = linear_bytes,
    .linear_pack = linear_pack,
    .linear_unpack = linear_unpack,
    .table_dtype = OPS_F32,
};

/* ---- the product -------------------------------------------------------------------------------
 */

typedef struct block {
    float sum[ROW_BLOCK][PANEL];
} block;

/* sum[j] = (((sum[j] + x[0] w0[j]) + x[1] w1[j]) + x[2] w2[j]) + x[3] w3[j]; w: 4 rows, n apart. */
static void axpy4(float *restrict sum, const float *x, const float *restrict w, size_t n,
                  int32_t cols)
{
    const float *w0 = w, *w1 = w + n, *w2 = w + 2 * n, *w3 = w + 3 * n;
    float x0 = x[0], x1 = x[1], x2 = x[2], x3 = x[3];
    for (int32_t j = 0; j < cols; j++) {
        float s = sum[j];
        s += x0 * w0[j];
        s += x1 * w1[j];
        s += x2 * w2[j];
        s += x3 * w3[j];
        sum[j] = s;
    }
}

/* b->sum[r][j] = x[row + r] . W[column + j] + bias[column + j] for a block of rows and a panel of
 * columns. */
static void product(block *b, const ops_tensor *x, int32_t row, int32_t rows, const ops_linear *w,
                    int32_t column, int32_t cols)
{
    const float *weight = (const float *)w->blob + column;
    const float *bias = (const float *)w->blob + (size_t)w->n * (size_t)w->k + column;
    size_t n = (size_t)w->n;
    for (int32_t r = 0; r < rows; r++) ref_zero(b->sum[r], cols);
    int32_t k = 0;
    for (; k + K_STEP <= w->k; k += K_STEP) {
        for (int32_t r = 0; r < rows; r++) {
            axpy4(b->sum[r], ref_row(x, row + r) + k, weight + (size_t)k * n, n, cols);
        }
    }
    for (; k < w->k; k++) {
        for (int32_t r = 0; r < rows; r++) {
            ref_axpy(b->sum[r], ref_row(x, row + r)[k], weight + (size_t)k * n, cols);
        }
    }
    for (int32_t r = 0; r < rows; r++) ref_add(b->sum[r], bias, cols);
}

typedef struct linear_job {
    const ops_tensor *out, *sum, *x, *residual;
    const ops_linear *w;
    ops_activation act;
    const ops_norm *norm;
} linear_job;

static int32_t smaller(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static void linear_rows(const void *job, int worker, int32_t begin, int32_t end)
{
    (void)worker;
    const linear_job *l = job;
    int32_t width = l->out->cols;
    block value, gate;
    for (int32_t row = begin; row < end; row += ROW_BLOCK) {
        int32_t rows = smaller(ROW_BLOCK, end - row);
        for (int32_t column = 0; column < width; column += PANEL) {
            int32_t cols = smaller(PANEL, width - column);
            product(&value, l->x, row, rows, l->w, column, cols);
            if (l->w->gated) product(&gate, l->x, row, rows, l->w, width + column, cols);
            for (int32_t r = 0; r < rows; r++) {
                ref_activate(value.sum[r], cols, l->act);
                if (l->w->gated) {
                    for (int32_t j = 0; j < cols; j++) value.sum[r][j] *= gate.sum[r][j];
                }
                ref_copy(ref_row(l->out, row + r) + column, value.sum[r], cols);
            }
        }
    }
}

void ref_linear(ops_context *ctx, ops_tensor *out, const ops_tensor *x, const ops_linear *w,
                ops_activation act)
{
    if (ctx->dry) return;
    linear_job job = {.out = out, .x = x, .w = w, .act = act};
    ref_split(ctx, out->rows, linear_rows, &job);
}

/* s = (x W^T + b) + residual goes to sum, or to out where nobody wants it; the norm follows. */
static void residual_rows(const void *job, int worker, int32_t begin, int32_t end)
{
    (void)worker;
    const linear_job *l = job;
    int32_t width = l->out->cols;
    block value;
    for (int32_t row = begin; row < end; row += ROW_BLOCK) {
        int32_t rows = smaller(ROW_BLOCK, end - row);
        for (int32_t column = 0; column < width; column += PANEL) {
            int32_t cols = smaller(PANEL, width - column);
            product(&value, l->x, row, rows, l->w, column, cols);
            for (int32_t r = 0; r < rows; r++) {
                ref_add(value.sum[r], ref_row(l->residual, row + r) + column, cols);
                ref_copy(ref_row(l->sum, row + r) + column, value.sum[r], cols);
            }
        }
        for (int32_t r = row; r < row + rows; r++) {
            ref_norm_row(ref_row(l->out, r), ref_row(l->sum, r), width, l->norm);
        }
    }
}

void ref_linear_residual_norm(ops_context *ctx, ops_tensor *out, ops_tensor *sum,
                              const ops_tensor *x, const ops_linear *w, const ops_tensor *residual,
                              const ops_norm *norm)
{
    if (ctx->dry) return;
    linear_job job = {.out = out,
                      .sum = sum != NULL ? sum : out,
                      .x = x,
                      .residual = residual,
                      .w = w,
                      .norm = norm};
    ref_split(ctx, out->rows, residual_rows, &job);
}
