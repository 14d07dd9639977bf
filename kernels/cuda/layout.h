/* The layouts that the CUDA kernels read: "row-f16", "row-bf16", "row-int8".
 *
 * A blob holds W as [rows, bytes]: rows = n rounded up to 16, bytes = k elements rounded up to 128
 * bytes, zeros in the padding, k contiguous; then, int8 only, the scales [rows] f32 and the sums of
 * each row's weights [rows] i32; then the bias [rows] f32, each part on a 64-byte boundary.
 * A gated weight [2F, D] (F activated rows, then F gate rows) is stored in alternating groups of 8:
 * rows 16i .. 16i+7 are activated rows 8i .., rows 16i+8 .. 16i+15 their gates, with F rounded up
 * to 16: one thread of the GEMM then holds an element and its gate. int8: scale = max|w| / 127 per
 * row, q = round to nearest even of w * (127 / max|w|). */
#ifndef CRANK_CUDA_LAYOUT_H
#define CRANK_CUDA_LAYOUT_H

#include "kernels/ops.h"

extern const ops_layout cuda_layout_f16, cuda_layout_bf16, cuda_layout_int8;

/* Where the parts of a blob lie. */
typedef struct cuda_linear_parts {
    int32_t rows, row_bytes;
    size_t scales, sums, bias, bytes; /* offsets, and the blob's size; scales, sums: int8 only */
} cuda_linear_parts;

cuda_linear_parts cuda_linear_at(ops_dtype dtype, int32_t n, int32_t k, bool gated);

#endif
