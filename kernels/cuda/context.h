/* One stream of batches: what ops record, how it reaches the GPU, and what comes back.
 *
 * Ops do not launch; they append launches to a list (kernel, grid, arguments). At the end of the
 * batch the list is either launched as it is, or, when the very same list has been seen before,
 * replayed as a CUDA graph: two batches of one size bucket make identical lists, because grids,
 * addresses and arguments depend on buckets only and true counts are read from device memory. Equal
 * bytes mean equal work, so nothing else has to be told about graphs; a list that differs in
 * anything is another graph. A GEMM of cuBLASLt is a record like any other.
 *
 * Input: the batch's integers go to mapped pinned memory and are copied by the first kernel.
 * Output: kernels write results straight into mapped pinned memory; end() hands them out.
 *
 * Invariants: one thread at a time; between end() and begin() nothing is in flight, so the pinned
 * buffers may be rewritten; nothing allocates once the buckets in use have been seen twice. */
#ifndef CRANK_CUDA_CONTEXT_H
#define CRANK_CUDA_CONTEXT_H

#include "kernels/cuda/args.h"
#include "kernels/cuda/device.h"
#include "kernels/ops.h"

#define CUDA_LIST_BYTES (256 * 1024) /* launches of one batch: ~200 bytes each */
#define CUDA_GRAPHS 64
#define CUDA_TICKETS 65536
#define CUDA_OUTPUTS 16
#define CUDA_OUTPUT_FLOATS 4096 /* room for results before any has been asked for */

typedef struct cuda_graph {
    uint64_t hash; /* of the list; 0: empty slot */
    uint8_t *list; /* its bytes, NULL while it was seen once only */
    size_t list_bytes;
    cu_graph_exec exec;
    uint64_t last_used; /* batch number */
} cuda_graph;

typedef struct cuda_output {
    float *target;        /* the caller's memory */
    size_t offset, count; /* in floats */
} cuda_output;

typedef struct cuda_stream {
    cu_stream stream;
    uint8_t *list; /* launches not yet issued */
    size_t list_used;
    bool issued; /* part of this batch was launched before its end: no graph */

    int32_t *in; /* mapped pinned memory */
    cu_address in_mapped, in_device;
    size_t in_capacity; /* ints */
    /* Where this batch's arrays lie in it, in ints. */
    size_t ids, types, positions, starts, key_counts, tiles[2], in_used;
    int32_t max_tiles[2]; /* grid sizes for attention tiles of cuda_tile_rows */

    float *out; /* mapped pinned memory */
    cu_address out_mapped;
    size_t out_capacity, out_used; /* floats */
    cuda_output outputs[CUDA_OUTPUTS];
    int n_outputs;

    cu_address tickets; /* CUDA_TICKETS zeros, see head.cu */
    cu_address arena;   /* the context's workspace */
    size_t arena_bytes;

    cuda_graph graphs[CUDA_GRAPHS];
    uint64_t n_batches, n_graph_batches;
} cuda_stream;

/* Query rows of attention's tiles; a list of tiles of each size comes with a batch. */
extern const int32_t cuda_tile_rows[2];

/* Sizes that launches may depend on: 16, 32, 48, 64, 96, 128, 192, ... (two per octave). */
int32_t cuda_bucket(int32_t n);

/* The backend's functions (ops.h). */
crank_status cuda_context_open(ops_context *ctx, size_t workspace_bytes, crank_error *error);
void cuda_context_close(ops_context *ctx);
crank_status cuda_begin(ops_context *ctx, const ops_batch *host, crank_error *error);
crank_status cuda_end(ops_context *ctx, crank_error *error);
void cuda_tensor(ops_context *ctx, ops_tensor *t);
void cuda_read_f32(ops_context *ctx, float *rows, const ops_tensor *x);

/* Appends a GEMM of cuBLASLt; nothing in a dry run or after a failure. */
void cuda_matmul_call(ops_context *ctx, const matmul_call *c);

/* Appends a launch of cuda_kernels[kernel]; nothing in a dry run or after a failure. */
void cuda_launch(ops_context *ctx, int kernel, uint32_t grid_x, uint32_t grid_y, uint32_t grid_z,
                 uint32_t threads, uint32_t shared_bytes, const void *args, size_t args_bytes);

/* Launches the records of a list (context.c says what one is) on the context's stream. */
crank_status cuda_issue(cuda_device *d, cuda_stream *s, const uint8_t *list, size_t bytes,
                        crank_error *error);

/* Launches one kernel now. */
crank_status cuda_issue_kernel(cuda_device *d, cu_stream stream, int kernel, uint32_t grid_x,
                               uint32_t grid_y, uint32_t grid_z, uint32_t threads,
                               uint32_t shared_bytes, const void *args, size_t args_bytes,
                               crank_error *error);

/* The name of the kernel of the record at *at of the list; moves *at behind it. */
const char *cuda_list_next(const cuda_stream *s, size_t *at);

/* Mapped memory for `count` floats that end() will copy to target; NULL after ops_fail. Not for dry
 * runs. */
float *cuda_output_floats(ops_context *ctx, float *target, size_t count);

/* How kernels learn the number of rows: from the batch when it is T or B, else by value. */
row_count cuda_rows(const ops_context *ctx, int32_t rows);
/* The number of rows that grids are made for: the bucket when kernels read the true one. */
int32_t cuda_grid_rows(const ops_context *ctx, int32_t rows);

/* The zero points [rows] of an int8 operand lie behind its scales. */
static inline int32_t *cuda_zeros(const ops_tensor *t)
{
    return (int32_t *)(uintptr_t)((uintptr_t)t->scale +
                                  (size_t)cuda_bucket(t->rows) * sizeof(float));
}

static inline const cuda_stream *cuda_stream_of(const ops_context *ctx)
{
    return ctx->stream;
}

#endif
