/* The part of cuBLASLt's binary interface that the engine uses, declared as driver_abi.h declares
 * the driver's. abi_check.cu compares it with <cublasLt.h> where that header is installed.
 *
 * Source: cuBLAS 13.0, cublasLt.h, library_types.h, cublas_api.h; the same numbers since 12.0. */
#ifndef CRANK_CUDA_CUBLASLT_ABI_H
#define CRANK_CUDA_CUBLASLT_ABI_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/cuda/driver_abi.h"

/* X(our name, NVIDIA's name, number) */
#define LT_NUMBER_LIST(X)                                                                          \
    X(LT_SUCCESS, CUBLAS_STATUS_SUCCESS, 0)                                                        \
    X(LT_TYPE_F32, CUDA_R_32F, 0)                                                                  \
    X(LT_TYPE_F16, CUDA_R_16F, 2)                                                                  \
    X(LT_TYPE_BF16, CUDA_R_16BF, 14)                                                               \
    X(LT_COMPUTE_F32, CUBLAS_COMPUTE_32F, 68)                                                      \
    X(LT_TRANSPOSE, CUBLAS_OP_T, 1)                                                                \
    X(LT_EPILOGUE_NONE, CUBLASLT_EPILOGUE_DEFAULT, 1)                                              \
    X(LT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_BIAS, 4)                                                 \
    X(LT_EPILOGUE_GELU_TANH_BIAS, CUBLASLT_EPILOGUE_GELU_BIAS, 36)                                 \
    X(LT_DESC_TRANSA, CUBLASLT_MATMUL_DESC_TRANSA, 3)                                              \
    X(LT_DESC_EPILOGUE, CUBLASLT_MATMUL_DESC_EPILOGUE, 7)                                          \
    X(LT_DESC_BIAS_POINTER, CUBLASLT_MATMUL_DESC_BIAS_POINTER, 8)                                  \
    X(LT_PREFERENCE_WORKSPACE_BYTES, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, 1)                  \
    X(LT_PREFERENCE_ALIGNMENT_A, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, 5)                    \
    X(LT_PREFERENCE_ALIGNMENT_D, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, 8)                    \
    X(LT_ALGORITHM_SPLITK, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, 2)                                     \
    X(LT_ALGORITHM_REDUCTION, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, 3)

enum {
#define LT_NUMBER_ENUM(name, theirs, number) name = (number),
    LT_NUMBER_LIST(LT_NUMBER_ENUM)
#undef LT_NUMBER_ENUM
};

typedef struct lt_algorithm {
    uint64_t data[8];
} lt_algorithm;

typedef struct lt_heuristic {
    lt_algorithm algorithm;
    size_t workspace_bytes;
    int state; /* LT_SUCCESS: the algorithm can be used */
    float waves;
    int reserved[4];
} lt_heuristic;

/* X(field, exported symbol, parameters); all but status_text return a status. */
#define LT_CALL_LIST(X)                                                                            \
    X(create, "cublasLtCreate", (void **handle))                                                   \
    X(destroy, "cublasLtDestroy", (void *handle))                                                  \
    X(desc_create, "cublasLtMatmulDescCreate", (void **desc, int compute, int scale))              \
    X(desc_destroy, "cublasLtMatmulDescDestroy", (void *desc))                                     \
    X(desc_set, "cublasLtMatmulDescSetAttribute",                                                  \
      (void *desc, int attribute, const void *value, size_t bytes))                                \
    X(layout_create, "cublasLtMatrixLayoutCreate",                                                 \
      (void **layout, int type, uint64_t rows, uint64_t columns, int64_t ld))                      \
    X(layout_destroy, "cublasLtMatrixLayoutDestroy", (void *layout))                               \
    X(preference_create, "cublasLtMatmulPreferenceCreate", (void **preference))                    \
    X(preference_destroy, "cublasLtMatmulPreferenceDestroy", (void *preference))                   \
    X(preference_set, "cublasLtMatmulPreferenceSetAttribute",                                      \
      (void *preference, int attribute, const void *value, size_t bytes))                          \
    X(heuristic, "cublasLtMatmulAlgoGetHeuristic",                                                 \
      (void *handle, void *desc, void *a, void *b, void *c, void *d, void *preference, int wanted, \
       lt_heuristic *results, int *found))                                                         \
    X(algorithm_check, "cublasLtMatmulAlgoCheck",                                                  \
      (void *handle, void *desc, void *a, void *b, void *c, void *d,                               \
       const lt_algorithm *algorithm, lt_heuristic *result))                                       \
    X(algorithm_get, "cublasLtMatmulAlgoConfigGetAttribute",                                       \
      (const lt_algorithm *algorithm, int attribute, void *value, size_t bytes, size_t *written))  \
    X(matmul, "cublasLtMatmul",                                                                    \
      (void *handle, void *desc, const void *alpha, const void *a, void *layout_a, const void *b,  \
       void *layout_b, const void *beta, const void *c, void *layout_c, void *d, void *layout_d,   \
       const lt_algorithm *algorithm, void *workspace, size_t workspace_bytes, cu_stream stream))

#endif
