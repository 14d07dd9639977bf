/* The part of cuBLASLt's binary interface that the emulator exports, as cuda_abi.h is for the
 * driver. Source: cuBLAS 13.0, cublasLt.h, library_types.h, cublas_api.h. */
#ifndef CRANK_EMU_CUBLASLT_ABI_H
#define CRANK_EMU_CUBLASLT_ABI_H

#include <stddef.h>
#include <stdint.h>

enum {
    LT_SUCCESS = 0,
    LT_NOT_INITIALIZED = 1,
    LT_ALLOC_FAILED = 3,
    LT_INVALID_VALUE = 7,
    LT_EXECUTION_FAILED = 13,
    LT_NOT_SUPPORTED = 15
};
enum { LT_R_32F = 0, LT_R_16F = 2, LT_R_16BF = 14 };
enum { LT_COMPUTE_32F = 68 };
enum { LT_OP_N = 0, LT_OP_T = 1 };
enum { LT_POINTER_MODE_HOST = 0 };
enum { LT_ORDER_COL = 0 };
enum { LT_EPILOGUE_DEFAULT = 1, LT_EPILOGUE_BIAS = 4, LT_EPILOGUE_GELU_BIAS = 36 };

enum {
    LT_DESC_COMPUTE_TYPE = 0,
    LT_DESC_SCALE_TYPE = 1,
    LT_DESC_POINTER_MODE = 2,
    LT_DESC_TRANSA = 3,
    LT_DESC_TRANSB = 4,
    LT_DESC_TRANSC = 5,
    LT_DESC_EPILOGUE = 7,
    LT_DESC_BIAS_POINTER = 8,
    LT_DESC_BIAS_BATCH_STRIDE = 10,
    LT_DESC_SM_COUNT_TARGET = 15,
    LT_DESC_BIAS_DATA_TYPE = 26
};
enum {
    LT_LAYOUT_TYPE = 0,
    LT_LAYOUT_ORDER = 1,
    LT_LAYOUT_ROWS = 2,
    LT_LAYOUT_COLS = 3,
    LT_LAYOUT_LD = 4,
    LT_LAYOUT_BATCH_COUNT = 5,
    LT_LAYOUT_STRIDED_BATCH_OFFSET = 6
};
enum {
    LT_PREF_SEARCH_MODE = 0,
    LT_PREF_MAX_WORKSPACE_BYTES = 1,
    LT_PREF_REDUCTION_SCHEME_MASK = 3,
    LT_PREF_MIN_ALIGNMENT_A_BYTES = 5,
    LT_PREF_MIN_ALIGNMENT_B_BYTES = 6,
    LT_PREF_MIN_ALIGNMENT_C_BYTES = 7,
    LT_PREF_MIN_ALIGNMENT_D_BYTES = 8,
    LT_PREF_MAX_WAVES_COUNT = 9,
    LT_PREF_IMPL_MASK = 12
};
enum {
    LT_CONFIG_ID = 0,
    LT_CONFIG_TILE_ID = 1,
    LT_CONFIG_SPLITK_NUM = 2,
    LT_CONFIG_REDUCTION_SCHEME = 3,
    LT_CONFIG_CTA_SWIZZLING = 4,
    LT_CONFIG_CUSTOM_OPTION = 5,
    LT_CONFIG_STAGES_ID = 6,
    LT_CONFIG_INNER_SHAPE_ID = 7,
    LT_CONFIG_CLUSTER_SHAPE_ID = 8
};

typedef struct lt_algorithm {
    uint64_t data[8];
} lt_algorithm;

typedef struct lt_heuristic {
    lt_algorithm algorithm;
    size_t workspace_bytes;
    int state;
    float waves;
    int reserved[4];
} lt_heuristic;

#endif
