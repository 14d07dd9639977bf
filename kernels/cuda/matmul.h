/* Which linears go through cuBLASLt, decided when a session is opened and never by what a batch
 * holds in a way that could change a bit.
 *
 * A shape is (kind, dtype, n, k). Its algorithm is asked for once, for a fixed number of rows, and
 * kept for every number of rows. Before it is used the GPU proves, for every number of rows that
 * the engine will ever call it with, that a row's bits do not depend on that number nor on the
 * row's place (matmul_proof.c). What follows depends on the policy:
 *   AUTO      sm_90 and later, from MATMUL_FROM_ROWS rows on, and only where the proof was against
 *             the own GEMM's bits: either of the two may then compute a row, so the choice may
 *             depend on the size of a batch.
 *   CUBLASLT  every number of rows: the bits are cuBLASLt's, whatever the batch.
 *   OWN       never.
 * Whatever is missing or refused leaves the own GEMM, and cuda_matmul_notes says why.
 *
 * Invariants: a shape that has been accepted stays accepted with its algorithm; decisions are a
 * function of device, library, policy and shape alone, not of sessions, batches or their order. */
#ifndef CRANK_CUDA_MATMUL_H
#define CRANK_CUDA_MATMUL_H

#include <pthread.h>
#include <stdatomic.h>

#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/driver_abi.h"

struct cuda_device;

#define MATMUL_SHAPES 64
#define MATMUL_FROM_ROWS 2048 /* below, latency decides, and there the own small tiles are good */
#define MATMUL_STEP 512       /* from MATMUL_FROM_ROWS on, rows are a multiple of this */
#define MATMUL_MOST_ROWS 6144 /* of one call; more rows are several calls */
#define MATMUL_WORKSPACE_BYTES ((size_t)4 << 20)

typedef enum matmul_policy { MATMUL_AUTO, MATMUL_OWN, MATMUL_CUBLASLT } matmul_policy;

typedef struct matmul_shape {
    int32_t kind, dtype, n, k;
    lt_algorithm algorithm;
    size_t workspace_bytes; /* most that any number of rows needs */
    _Atomic int accepted;   /* algorithm and workspace_bytes are final */
    char refused[192];      /* why not; "" while accepted */
} matmul_shape;

/* A linear's bias in 16 bits, as cuBLASLt's epilogue wants it. */
typedef struct matmul_bias {
    const void *blob; /* the linear's; NULL: free slot */
    cu_address address;
    size_t bytes;
    int exact; /* no element changed by rounding */
} matmul_bias;

typedef struct matmul_plan {
    matmul_policy policy;
    char path[512];       /* of the library; "": as the loader finds it */
    pthread_mutex_t lock; /* of all below, but for what atomics publish */
    cublaslt lt;
    int opened;        /* 1: tried */
    char missing[256]; /* why lt is not there; "" while it is */
    matmul_shape shapes[MATMUL_SHAPES];
    _Atomic int n_shapes;
    matmul_bias *biases; /* open addressing by blob; a power of two of slots */
    size_t n_biases, bias_slots;
} matmul_plan;

/* The policy that ops_device_options.isa asks for: "cublaslt", "own"; any other text forces own
 * tiles, NULL is AUTO. */
matmul_policy matmul_policy_of(const char *forced);

/* Opening and closing of a device. CUBLASLT opens the library at once; AUTO when it is wanted. */
void cuda_matmul_open(struct cuda_device *d, const char *forced, const char *path);
void cuda_matmul_close(struct cuda_device *d);
/* The biases of linears in this block of weights are not needed any more. */
void cuda_matmul_forget(struct cuda_device *d, const void *block, size_t bytes);

/* Opens the library if nobody has; true when it is there. */
bool cuda_matmul_present(struct cuda_device *d);

/* What a linear is to cuBLASLt. */
typedef struct matmul_linear {
    matmul_kind kind;
    ops_dtype dtype;   /* F16 or BF16 */
    int32_t n, k;      /* padded as rows in memory are */
    const void *blob;  /* identifies it */
    const float *bias; /* [n] in device memory */
} matmul_linear;

/* From a dry run: decides l's shape, if `rows` could be given to cuBLASLt, and makes its bias.
 * Refusals are no failures. Fails: OUT_OF_MEMORY, DEVICE (a lost GPU). */
crank_status cuda_matmul_plan(struct cuda_device *d, const matmul_linear *l, int32_t rows,
                              crank_error *error);
/* The shape through which this many rows go, and the bias (0 for MATMUL_PLAIN); NULL: the own
 * GEMM. */
const matmul_shape *cuda_matmul_find(struct cuda_device *d, const matmul_linear *l, int32_t rows,
                                     cu_address *bias);

/* The number of rows that calls compute for `rows`: a bucket, or a multiple of MATMUL_STEP. */
int32_t matmul_rows(int32_t rows);
/* Rows of the next call when `left` (of matmul_rows) are left of `all`. */
int32_t matmul_piece(int32_t all, int32_t left);

/* "GEMM: ...", or "" when nothing is to say. */
void cuda_matmul_notes(struct cuda_device *d, char *text, size_t bytes);

/* matmul_proof.c: chooses s->algorithm and proves it; against_own: the bits must be the own GEMM's,
 * and rows below MATMUL_FROM_ROWS do not matter. Fills s->refused when it may not be used. */
crank_status matmul_prove(struct cuda_device *d, matmul_shape *s, bool against_own,
                          crank_error *error);

#endif
