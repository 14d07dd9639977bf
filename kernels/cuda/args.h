/* What kernels are launched with: one plain structure per kernel, passed by value, the same for the
 * C host side and for nvcc. Pointers are device addresses.
 *
 * Invariants: every activation row starts on a 32-byte boundary: row t of a [T, C] tensor lies at
 * t * ARGS_LD(C) elements and columns C .. ARGS_LD(C)-1 are zero. A kernel that writes a tensor
 * writes these zeros too, so that 16-byte loads of whole rows need no masks.
 *
 * Counts that differ from batch to batch are read from device memory (row_count): the arguments
 * of a launch then depend on the size bucket only, and a captured graph serves a whole bucket.
 *
 * Lists of launches are compared byte by byte to find such a graph, so no structure has hidden
 * padding, whose bytes nobody sets: -Wpadded is an error here. `unused` members fill the gaps; an
 * initialiser that does not name them makes them zero. */
#ifndef CRANK_CUDA_ARGS_H
#define CRANK_CUDA_ARGS_H

#include <stdint.h>

#if defined(__GNUC__) && !defined(__CUDACC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic error "-Wpadded"
#endif

/* Elements between two rows of a tensor with `cols` columns. */
#define ARGS_LD(cols) (((cols) + 15) / 16 * 16)

/* rows = device != NULL ? *device : value */
typedef struct row_count {
    const int32_t *device;
    int32_t value, unused;
} row_count;

/* The batch as kernels see it: one block of int32, copied from mapped host memory by batch_copy.
 * Offsets of the arrays behind the header depend on the size buckets only. */
enum {
    BATCH_TOKENS = 0,    /* T */
    BATCH_SEQUENCES = 1, /* B */
    BATCH_TILES = 2,     /* number of attention query tiles, for 16 and for 64 rows a tile */
    BATCH_HEADER = 16    /* ints before the first array */
};

typedef struct copy_args {
    const void *source; /* mapped host memory, 16-byte aligned */
    void *target;
    int32_t n_vectors; /* of 16 bytes */
    int32_t unused;
} copy_args;

/* Element types of lookup tables and activations inside kernels. */
enum { ARGS_F32 = 0, ARGS_F16 = 1, ARGS_BF16 = 2 };

typedef struct norm_args {
    const float *gamma, *beta; /* beta NULL: zeros */
    float epsilon;
    int32_t kind; /* ops_norm_kind */
} norm_args;

/* Where a finished row goes: the 16-bit value, the int8 operand with its scale and zero point, or
 * both. x = scale * (operand - zero). */
typedef struct row_output {
    void *value;
    uint8_t *operand;
    float *scale;
    int32_t *zero;
} row_output;

/* out[i] = norm(source[rows[i]] + other[i]) */
typedef struct row_args {
    row_count n_rows;
    int32_t cols;
    int32_t
        vectors; /* 1: rows of 8 and pointers of 16 bytes everywhere, so 16-byte loads are legal */
    const int32_t *rows;   /* NULL: row i */
    const void *source;    /* [*, ARGS_LD(cols)] 16 bit */
    const void *other;     /* the same; NULL: nothing is added */
    const float *constant; /* [cols]: every row is this one; source is not read */
    norm_args norm;
    row_output out;
} row_args;

typedef struct embed_args {
    row_count n_rows;
    int32_t cols, vectors;
    const int32_t *ids, *types, *positions;
    const void *word, *type, *position; /* tables, NULL: absent */
    int32_t table_type, unused;         /* ARGS_F32 .. */
    norm_args norm;
    row_output out;
} embed_args;

/* out = epilogue(x W^T + bias); see gemm.cuh */
typedef struct gemm_args {
    row_count n_rows;
    int32_t n;          /* rows of w, padded: a multiple of 16 */
    int32_t k_tiles;    /* w's row in steps of 128 bytes */
    int32_t x_bytes;    /* between rows of x, a multiple of 16 */
    int32_t w_bytes;    /* between rows of w, a multiple of 128 */
    int32_t out_ld;     /* elements between rows of out and residual */
    int32_t activation; /* ops_activation */
    const void *x, *w;
    const float *bias; /* [n] */
    /* int8 only, else NULL: of x's rows, of w's rows */
    const float *x_scale, *w_scale;
    const int32_t *x_zero, *w_sums;
    const void *residual;
    void *out;
} gemm_args;

/* The same with a norm of whole rows behind it, in one block's tile. gemm.out: the sums, or NULL */
typedef struct gemm_norm_args {
    gemm_args gemm;
    int32_t cols, vectors; /* of a row; vectors: as in row_args */
    norm_args norm;
    row_output out;
} gemm_norm_args;

/* rows = act(sums + bias): what follows a GEMM of cuBLASLt; see matmul.cu */
typedef struct bias_act_args {
    row_count n_rows;
    int32_t ld;         /* elements of a row, a multiple of 16 */
    int32_t activation; /* ops_activation */
    const float *bias;  /* [ld] */
    const float *sums;  /* [rows, ld] */
    void *rows;         /* [rows, ld] 16 bit */
} bias_act_args;

/* Rows of 16-bit numbers that repeat ROW_CHECK_ROWS base rows in another order, and the comparison
 * of rows made from them; see matmul.cu */
enum { ROW_CHECK_ROWS = 16 };

typedef struct row_check_args {
    int32_t n_rows;
    int32_t vectors; /* of 16 bytes a row */
    const void *base;
    void *rows;
    uint32_t *n_different;
} row_check_args;

/* see attention.cuh */
typedef struct attention_args {
    const int32_t *starts, *key_counts; /* key_counts NULL: every token is a key */
    const int32_t *tiles;               /* [n_tiles] pairs: sequence, first row within it */
    const int32_t *n_tiles;
    const void *qkv;
    void *out;
    int32_t qkv_ld, out_ld;
    int32_t n_heads, head_width;
    int32_t stage_rows; /* keys a shared-memory stage holds: a multiple of 16, at most 128 */
    int32_t n_stages;   /* 1 or 2 */
    int32_t vectors;    /* 16-byte loads of head rows are legal */
    float scale;
    int32_t window; /* 0: none */
    int32_t distance_span;
    const float *distance_bias;
    const float *cos, *sin;
    const int32_t *relative_index; /* ops_relative; NULL: none */
    /* Q . PK and K . PQ of every token with every bucket, [T, group, relative_ld] f16, for the
     * heads of this launch; NULL: the term is absent. See relative.cu. */
    const void *relative_q, *relative_k;
    int32_t relative_span, relative_ld;
    int32_t first_head; /* of this launch; its heads are gridDim.y */
    int32_t unused;
} attention_args;

/* see relative.cu */
typedef struct relative_args {
    row_count n_rows;
    const void *qkv;
    int32_t qkv_ld, n_heads, head_width, vectors;
    int32_t first_head, group; /* heads first_head .. first_head + group - 1 */
    int32_t n_buckets, ld;
    const float *key, *query; /* [n_buckets, H * K]; NULL: absent */
    void *q_terms, *k_terms;  /* [T, group, ld] f16 */
} relative_args;

/* One query row per sequence; see attention_rows.cuh */
typedef struct attention_rows_args {
    row_count n_rows; /* sequences */
    const int32_t *starts, *key_counts;
    const void *q, *kv;
    void *out;
    int32_t q_ld, kv_ld, out_ld;
    int32_t n_heads, head_width;
    int32_t max_keys; /* room for scores in shared memory */
    float scale;
    int32_t window, distance_span, relative_span;
    const float *distance_bias;
    const float *cos, *sin;
    const int32_t *relative_index; /* ops_relative; NULL: none */
    const float *relative_key, *relative_query;
} attention_rows_args;

/* The folded form in three launches: u = Wk^T q; c = softmax(x u) x; out = Wv c + b. */
typedef struct fold_args {
    row_count n_rows; /* sequences */
    const int32_t *starts, *key_counts;
    const void *q, *x;
    void *out;
    float *u, *c; /* [B, H, D] f32 */
    const float *key, *value, *value_bias;
    int32_t q_ld, x_ld, out_ld;
    int32_t n_heads, head_width, d;
    int32_t max_keys;
    float scale;
    int32_t window, distance_span;
    const float *distance_bias;
} fold_args;

typedef struct pool_args {
    row_count n_rows; /* sequences */
    const int32_t *starts;
    const void *x;
    void *out;
    int32_t cols, ld, kind; /* ops_pool_kind */
    int32_t unused;
} pool_args;

typedef struct around_args {
    row_count n_rows, n_sequences;
    const int32_t *starts;
    const void *x;                /* [T, ARGS_LD(cols)] */
    void *out;                    /* [T, ARGS_LD(cols * n)] */
    int32_t cols, n, ld, vectors; /* ld: of out; vectors: as in row_args */
} around_args;

typedef struct head_args {
    row_count n_rows;
    const void *x;
    int32_t x_ld, d_in, d_dense, labels, activation, unused;
    const float *dense, *dense_bias; /* dense NULL: none */
    norm_args norm;
    const float *out, *out_bias;
    float *hidden;     /* [rows, d_dense] f32 scratch */
    uint32_t *tickets; /* [rows of blocks], zero before and after */
    float *logits;     /* mapped host memory: [rows, labels] */
} head_args;

typedef struct vectors_args {
    row_count n_rows;
    const void *x;
    int32_t ld, cols, normalize, unused;
    float *vectors; /* mapped host memory: [rows, cols] */
} vectors_args;

/* see lab.cu */
typedef struct peak_args {
    const void *source;
    void *target;
    int32_t n_vectors, iterations;
} peak_args;

#if defined(__GNUC__) && !defined(__CUDACC__)
#pragma GCC diagnostic pop
#endif

#endif
