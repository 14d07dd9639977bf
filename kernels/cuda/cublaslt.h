/* NVIDIA's cuBLASLt, opened with dlopen when somebody wants it: GEMMs of f16 and bf16 as the engine
 * asks for them, with one algorithm that stays the same for every number of rows. Which GEMM goes
 * through it, and whether it may, is decided in matmul.c. */
#ifndef CRANK_CUDA_CUBLASLT_H
#define CRANK_CUDA_CUBLASLT_H

#include "kernels/cuda/cublaslt_abi.h"
#include "kernels/ops.h"
#include "status.h"

typedef struct cublaslt {
    void *library, *handle;
    int major, minor; /* of cuBLASLt */
    const char *(*status_text)(int status);
    size_t (*get_version)(void);
#define LT_CALL_FIELD(field, symbol, parameters) int(*field) parameters;
    LT_CALL_LIST(LT_CALL_FIELD)
#undef LT_CALL_FIELD
} cublaslt;

/* path NULL: libcublasLt.so.13, else .12, as the loader finds them. The device's primary context
 * must be current. On failure *b is as closed and *error says which library or symbol is missing.
 * Fails: DEVICE. */
crank_status cublaslt_open(cublaslt *b, const char *path, crank_error *error);
void cublaslt_close(cublaslt *b); /* zeroed or closed ones are fine */

/* What is made of x W^T. */
typedef enum matmul_kind {
    MATMUL_BIAS,      /* + bias (16 bit) */
    MATMUL_RESIDUAL,  /* + bias (16 bit) + residual */
    MATMUL_GELU_TANH, /* tanh-GELU(+ bias (16 bit)) */
    MATMUL_PLAIN,     /* nothing, out is f32: bias_act follows */
    MATMUL_N_KINDS
} matmul_kind;

/* out [rows, n] from x [rows, k] and W [n, k], all row-major in dtype (f16 or bf16; out of
 * MATMUL_PLAIN: f32), rows ..._ld elements apart. No padding: goes into the list of launches as it
 * is. */
typedef struct matmul_problem {
    int32_t kind, dtype;
    int32_t rows, n, k;
    int32_t x_ld, w_ld, out_ld; /* the residual's rows are out_ld apart, too */
} matmul_problem;

/* Addresses are of device memory, 64-byte aligned. */
typedef struct matmul_call {
    matmul_problem problem;
    lt_algorithm algorithm;
    uint64_t workspace_bytes;
    const void *x, *w, *bias, *residual; /* bias [n] in dtype */
    void *out, *workspace;
} matmul_call;

/* The heuristic's first algorithm that does not split k (a split's sums are added in an order that
 * depends on the shape) and needs at most workspace_bytes. error names the call that failed. */
crank_status cublaslt_choose(const cublaslt *b, const matmul_call *c, size_t workspace_bytes,
                             lt_algorithm *algorithm, crank_error *error);
/* The workspace that c's algorithm needs for c's rows; fails when it cannot do them. */
crank_status cublaslt_workspace(const cublaslt *b, const matmul_call *c, size_t *bytes,
                                crank_error *error);
/* Enqueues it; legal while the stream is captured. Any thread. */
crank_status cublaslt_run(const cublaslt *b, const matmul_call *c, cu_stream stream,
                          crank_error *error);

#endif
