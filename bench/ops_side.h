/* The cases of `crank bench ops` and one side of a comparison: an op at a published model's shape,
 * on any backend. ops_bench.c times it on a CPU, ops_cuda.c on a GPU or on the emulator.
 *
 * Both sides of a comparison run the same program over the same tables: inputs are filled by
 * looking random rows up, which works on any backend. Token t of a batch has the same inputs
 * whatever the number of sequences, so that a case can be repeated in a larger batch and its rows
 * compared. */
#ifndef CRANK_BENCH_OPS_SIDE_H
#define CRANK_BENCH_OPS_SIDE_H

#include "kernels/ops.h"

typedef enum bench_op {
    BENCH_LINEAR,
    BENCH_RESIDUAL,
    BENCH_ATTENTION,
    BENCH_ROWS,
    BENCH_FOLDED,
    BENCH_EMBED,
    BENCH_NORM,
    BENCH_ADD_NORM,
    BENCH_GATHER,
    BENCH_AROUND,
    BENCH_POOL,
    BENCH_BROADCAST,
    BENCH_HEAD,
    BENCH_VECTORS
} bench_op;
extern const char *const bench_op_names[];

/* B sequences of S tokens. linear: k inputs, n outputs; attention: H heads of K; else k columns. */
typedef struct bench_case {
    bench_op op;
    int32_t b, s, n, k, heads;
    ops_activation act;
    bool gated;
    const char *model; /* whose shape it is */
} bench_case;
extern const bench_case bench_cases[];
extern const size_t n_bench_cases;

/* Seeded random numbers of a case, in host memory. */
typedef struct bench_weights {
    float *linear, *bias, *gamma, *table, *fold_key, *fold_value;
    size_t n_linear, n_bias, n_gamma, n_table, n_fold;
    int32_t table_cols;
} bench_weights;
bench_weights bench_weights_make(const bench_case *c);
void bench_weights_free(bench_weights *w);

typedef struct bench_side {
    const bench_case *c;
    const bench_weights *w; /* where the backend can read them */
    ops_context ctx;
    bench_weights placed; /* addresses in device memory, when the backend has its own */
    void *memory;         /* the block that they lie in */
    void *blob, *packed;  /* the linear where the backend reads it, and its host copy */
    ops_linear linear;
    ops_norm norm;
    ops_batch batch;
    int32_t *arrays;
    ops_tensor x, q, residual, out;
    float *host; /* logits or vectors */
} bench_side;

/* ctx->backend, device, dtype and team are set, all else zero. linear_weight: what the linear is
 * packed from. Runs the op once. Closed by bench_side_close, also after a failure. */
crank_status bench_side_open(bench_side *s, const bench_case *c, const bench_weights *w,
                             const float *linear_weight, crank_error *error);
void bench_side_close(bench_side *s);

/* The op again, on the same tensors. Backends that record (cuda) have it on their list then. */
void bench_side_run(bench_side *s);

/* The linear's weight as the side keeps it, [n, k]; NULL when the op has none. The caller's. */
float *bench_side_unpack(const bench_side *s);
/* The result in f32; *n numbers, the caller's to free. */
float *bench_side_result(bench_side *s, size_t *n);

/* The largest |difference| over the root mean square of what is expected; NaN counts as largest. */
double bench_worst_error(const float *found, const float *expected, size_t n);
extern const double bench_tolerance[OPS_N_DTYPES];

/* Multiply-adds count two; 0: an op that only moves bytes. */
double bench_flops(const bench_case *c);
/* "T 128 n 1152 k 384" */
void bench_shape_text(char *text, size_t bytes, const bench_case *c);

#endif
