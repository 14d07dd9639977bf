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

/* Bits of bench_case.tables. */
enum { BENCH_WORDS = 1, BENCH_TYPES = 2, BENCH_POSITIONS = 4 };
/* Bits of bench_case.relative_terms. */
enum { BENCH_RELATIVE_KEY = 1, BENCH_RELATIVE_QUERY = 2 };

/* B sequences of S tokens. linear: k inputs, n outputs; attention: H heads of K; head: k inputs, n
 * labels; else k columns. What follows `model` is zero but for captured batches (capture.h). */
typedef struct bench_case {
    ops_kind op;
    int32_t b, s, n, k, heads;
    ops_activation act;
    bool gated;
    const char *model; /* whose shape it is */
    ops_norm_kind norm;
    const int32_t *lengths;    /* [b], with s the longest; NULL: s tokens each */
    const int32_t *key_counts; /* [b]; NULL: every token is a key */
    bool first_rows;           /* one row a sequence, where an op also takes one a token */
    bool keeps_sum;            /* linear_residual_norm */
    bool plain_head;           /* no dense layer before the labels */
    unsigned uses;             /* of the result; 0: both */
    int32_t d;                 /* folded: columns of x; head: of the dense layer; 0: as wide as k */
    int32_t table_rows;        /* embed_norm; 0: BENCH_TABLE_ROWS */
    unsigned tables;           /* embed_norm: which are added up; 0: all three */
    ops_pool_kind pool;        /* 0 in the table: mean is set there */
    bool plain_vectors;        /* not divided by their length */
    int32_t window, distance_span, positions; /* ops_attention; positions: of its rotary tables */
    int32_t relative_span, relative_buckets;
    unsigned relative_terms;
} bench_case;
#define BENCH_TABLE_ROWS 1024
extern const bench_case bench_cases[];
extern const size_t n_bench_cases;

/* Seeded random numbers of a case, in host memory. */
typedef struct bench_weights {
    float *linear, *bias, *gamma, *table, *fold_key, *fold_value, *attention;
    size_t n_linear, n_bias, n_gamma, n_table, n_fold, n_attention;
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
    ops_tensor x, q, residual, sum, out;
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

/* What a check found. */
typedef struct bench_check {
    double error; /* from the reference on the side's own rounded weights; see bench_worst_error */
    bool correct;
} bench_check;

/* Opens s, whose ctx is set, on the case `whole` (NULL: on `first`) after checks: the result of
 * `first`, which is the beginning of whole, against the reference (unless s is the reference), and
 * whole's bits against first's. s stays closed when they fail, and after an error. */
crank_status bench_side_open_checked(bench_side *s, const bench_case *first,
                                     const bench_case *whole, const bench_weights *w,
                                     bench_check *check, crank_error *error);

/* The largest |difference| over the root mean square of what is expected; NaN counts as largest. */
double bench_worst_error(const float *found, const float *expected, size_t n);
extern const double bench_tolerance[OPS_N_DTYPES];

/* Rows of the result; tokens of the batch. */
int32_t bench_rows(const bench_case *c);
int32_t bench_tokens(const bench_case *c);
/* The first sequences of a case, at least one and up to `tokens` tokens: what of a large batch is
 * compared with the reference. */
bench_case bench_first_sequences(const bench_case *c, int32_t tokens);

/* Multiply-adds count two; 0: an op that only moves bytes. */
double bench_flops(const bench_case *c);
/* "T 128 n 1152 k 384" */
void bench_shape_text(char *text, size_t bytes, const bench_case *c);

#endif
