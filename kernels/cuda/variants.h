/* The variant table of the CUDA kernels: which kernels exist, what each is for, and the choice
 * among those that compute the same thing. Data in catalog.h, one row a kernel. */
#ifndef CRANK_CUDA_VARIANTS_H
#define CRANK_CUDA_VARIANTS_H

#include <stdint.h>

#include "kernels/ops.h"

typedef enum cuda_kernel_kind {
    KERNEL_BATCH_COPY,
    KERNEL_EMBED,
    KERNEL_NORM,
    KERNEL_QUANTISE,
    KERNEL_AROUND,
    KERNEL_POOL,
    KERNEL_VECTORS,
    KERNEL_GEMM_BIAS,
    KERNEL_GEMM_GELU,
    KERNEL_GEMM_ACT,
    KERNEL_GEMM_GATED,
    KERNEL_GEMM_RESIDUAL,
    KERNEL_GEMM_NORM,
    KERNEL_BIAS_ACT,
    KERNEL_ROWS_SPREAD,
    KERNEL_ROWS_COMPARE,
    KERNEL_ATTENTION,
    KERNEL_ATTENTION_GENERAL,
    KERNEL_RELATIVE_TERMS,
    KERNEL_ATTENTION_ROWS,
    KERNEL_FOLD_QUERY,
    KERNEL_FOLD_ATTEND,
    KERNEL_FOLD_VALUE,
    KERNEL_HEAD,
    KERNEL_N_KINDS
} cuda_kernel_kind;

typedef struct cuda_kernel {
    const char *symbol; /* in the fatbin; also the variant's name */
    cuda_kernel_kind kind;
    ops_dtype dtype; /* of the operands (GEMM) or values */
    int32_t limit;   /* widest row, head width or heads a block: what `kind` says; 0: any */
    int32_t tile_m, tile_n, threads, shared_bytes; /* GEMM */
} cuda_kernel;

#define CUDA_KERNELS_MAX 160
extern const cuda_kernel cuda_kernels[];
extern const int cuda_n_kernels;

/* The op of ops.h that a kind serves: "linear", "attention", ... */
const char *cuda_kind_op(cuda_kernel_kind kind);

/* The first row of this kind and dtype whose limit holds `size`; -1 when there is none. */
int cuda_find(cuda_kernel_kind kind, ops_dtype dtype, int32_t size);

/* The tile for a [rows, n] result over k_tiles steps of 128 bytes, on n_sms multiprocessors of
 * compute capability sm, by predicted time (see gemm_cycles in variants.c). Bits do not depend on
 * it. forced: part of a name, "" for none. */
int cuda_find_gemm(cuda_kernel_kind kind, ops_dtype dtype, int32_t rows, int32_t n, int32_t k_tiles,
                   int n_sms, int sm, const char *forced);

/* The same for GEMM, residual and norm in one kernel, blocks of which may have shared_bytes: where
 * that is predicted to be faster than the best GEMM and a norm kernel, or forced. -1: two kernels.
 * Bits do not depend on it. */
int cuda_find_gemm_norm(ops_dtype dtype, int32_t rows, int32_t n, int32_t k_tiles, int n_sms,
                        int sm, int shared_bytes, const char *forced);

#endif
