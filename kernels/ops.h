/* The contract of every op: what a forward pass may ask, what every backend must answer.
 *
 * A forward pass (runtime/encoder.c, runtime/arch) is written once, in terms of the fused ops
 * below, and runs on any backend: ref (plain C, fp32, the specification), cpu (packed micro-kernels
 * chosen by CPUID), cuda (hand-written kernels). A fused op's reference is the composition of the
 * unfused steps in its equation.
 *
 * Letters: B sequences (pairs), T packed tokens, S longest sequence, D width, H heads, K head
 * width, F FFN width, V vocabulary, L layers, N outputs of a linear. Matrices are row-major.
 * Destination first.
 *
 * Data structures:
 *   ops_batch     packed sequences: ids, types, positions, row starts. No padding rows exist.
 *   ops_tensor    an activation matrix in whatever forms its readers need (see ops_use).
 *   ops_linear    a weight matrix and its bias in a backend's own layout (ops_layout).
 *   ops_context   one thread's (or one stream's) execution state: backend, workspace, batch.
 *
 * Invariants every backend keeps:
 *   - Row independence: a row of an output depends on that row's inputs (attention: on its own
 *     sequence) and on nothing else: not on T, B, the row's place or the number of threads. The
 * order of every sum is a function of the weight's shape and the sequence's length alone. This is
 * what makes a pair's score the same bits in any batch.
 *   - T may be 0; outputs never alias inputs unless a line below allows it.
 *   - Nothing allocates; scratch comes from the context's workspace. A dry run (ctx->dry) takes the
 *     same scratch and touches no data: that is how a session learns what to reserve.
 *   - The only failures are DEVICE (a GPU fault), UNSUPPORTED and INTERNAL (workspace too small,
 *     a bug): everything else was checked when the model was loaded. */
#ifndef CRANK_KERNELS_OPS_H
#define CRANK_KERNELS_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "status.h"
#include "team.h"

/* ---- numbers ----------------------------------------------------------------------------------
 */

/* Compute dtypes. X(enum, name, bytes of a stored weight, |logit - fp32 golden| allowed on the tiny
 * golden models). INT8: weights symmetric per output channel, activations per token with a zero
 * point (CPU: first rows of sequences in two codes, kernels/cpu/cpu.h). */
#define OPS_DTYPE_LIST(X)                                                                          \
    X(OPS_F32, "f32", 4, 2e-5)                                                                     \
    X(OPS_BF16, "bf16", 2, 4e-2)                                                                   \
    X(OPS_F16, "f16", 2, 5e-3)                                                                     \
    X(OPS_INT8, "int8", 1, 1e-1)

typedef enum ops_dtype {
#define OPS_DTYPE_ENUM(name, text, bytes, tolerance) name,
    OPS_DTYPE_LIST(OPS_DTYPE_ENUM)
#undef OPS_DTYPE_ENUM
        OPS_N_DTYPES
} ops_dtype;

typedef struct ops_dtype_row {
    const char *name;
    int bytes;
    double logit_tolerance;
} ops_dtype_row;
extern const ops_dtype_row ops_dtypes[OPS_N_DTYPES];

typedef enum ops_activation {
    OPS_IDENTITY = 0,
    OPS_GELU,      /* x * Phi(x), erf form */
    OPS_GELU_TANH, /* 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) */
    OPS_RELU,
    OPS_TANH,
    OPS_SILU, /* x * sigmoid(x) */
    OPS_N_ACTIVATIONS
} ops_activation;
extern const char *const ops_activation_names[OPS_N_ACTIVATIONS];

/* ---- weights ----------------------------------------------------------------------------------
 */

/* How a weight lies in memory: a pure function of (rows n, columns k), position-independent,
 * 64-byte aligned, so that `crank convert` can store it and opening is one read. A layout belongs
 * to the folder that defines it; backends name the one they want per dtype (ops_backend.layout),
 * and a file in another layout is unpacked to fp32 and packed again.
 *
 * A linear's blob holds the weight, the scales (int8) and the bias: everything the op needs.
 * gated: the weight is [2F, D], first the F rows whose output is activated, then the F gate rows.
 */
typedef struct ops_layout {
    const char *name; /* stored in converted files: "row-f32", "panel16-int8" */
    ops_dtype dtype;
    /* bytes of the blob of a linear [n, k] with bias; a multiple of 64 */
    size_t (*linear_bytes)(int32_t n, int32_t k);
    /* weight: [n, k] f32; bias: [n] f32 or NULL (zeros are stored). Pure; any thread. */
    void (*linear_pack)(void *blob, const float *weight, const float *bias, int32_t n, int32_t k,
                        bool gated);
    /* the inverse, up to the rounding of the dtype */
    void (*linear_unpack)(float *weight, float *bias, const void *blob, int32_t n, int32_t k,
                          bool gated);
    ops_dtype table_dtype; /* how lookup tables are stored beside it: F32, BF16 or F16, rows of k */
} ops_layout;

/* A prepared linear: y = x W^T + b. Points into the model's weight memory (device memory for cuda).
 */
typedef struct ops_linear {
    const void *blob;
    int32_t n, k; /* W: [n, k] */
    bool gated;   /* y has n/2 columns: act(first half) * second half */
    const ops_layout *layout;
} ops_linear;

/* A table whose rows are looked up by id: [rows, cols], row-major in `dtype`. */
typedef struct ops_lookup {
    const void *data; /* NULL: the model has no such table */
    int32_t rows, cols;
    ops_dtype dtype; /* F32, BF16 or F16 */
} ops_lookup;

typedef enum ops_norm_kind {
    OPS_NORM_NONE = 0, /* the identity */
    OPS_NORM_LAYER, /* (x - mean) / sqrt(var + eps) * gamma + beta, var biased (Ba et al. 2016) */
    OPS_NORM_RMS,   /* x / sqrt(mean(x^2) + eps) * gamma */
} ops_norm_kind;

typedef struct ops_norm {
    ops_norm_kind kind;
    int32_t width;
    float epsilon;
    const float *gamma; /* [width] f32 */
    const float *beta;  /* [width] f32, NULL: zeros */
} ops_norm;

/* ---- activations ------------------------------------------------------------------------------
 */

/* Packed sequences. Sequence b owns rows starts[b] .. starts[b+1]-1. Host memory when the runtime
 * fills it; a backend's `begin` turns it into what its kernels read. */
typedef struct ops_batch {
    int32_t n_sequences, n_tokens, max_tokens; /* B, T, S */
    const int32_t *ids, *types, *positions;    /* [T]; already range-checked */
    const int32_t *starts;                     /* [B + 1] */
    const int32_t *key_counts; /* [B]: attention sees the first key_counts[b] tokens of b only
                                  (ColBERT's [MASK] queries are no keys); NULL: all of them */
} ops_batch;

/* What readers of a tensor will do with it; a backend keeps the forms that serve them (the fp32 or
 * 16-bit value, the quantised operand with its per-row scale, or one form for both). */
typedef enum ops_use {
    OPS_USE_VALUE = 1,   /* residual, norm, attention, pooling, head, trace */
    OPS_USE_OPERAND = 2, /* x of a linear */
} ops_use;

typedef struct ops_tensor {
    int32_t rows, cols;
    unsigned uses; /* ops_use bits */
    void *value;   /* [rows, cols] in the backend's value dtype, NULL without OPS_USE_VALUE */
    void *operand; /* what its GEMM reads; may equal value; NULL without OPS_USE_OPERAND */
    float *scale;  /* [rows] dequantisation factors of operand; NULL unless quantised */
} ops_tensor;

/* ---- op descriptions --------------------------------------------------------------------------
 */

/* x[t] = norm(word[ids[t]] + type[types[t]] + position[positions[t]]); absent tables add nothing.
 */
typedef struct ops_embedding {
    ops_lookup word, type, position; /* cols equal */
    ops_norm norm;
} ops_embedding;

/* Half-split rotary (Su et al. 2021; "rotate_half"): for j < K/2, angle a = p * inv_freq[j]:
 * (x[j], x[j+K/2]) -> (x[j] cos a - x[j+K/2] sin a, x[j+K/2] cos a + x[j] sin a), p = row within
 * its sequence. Tables are made once at load in f32. */
typedef struct ops_rope {
    const float *cos, *sin; /* [positions, K/2] f32; NULL: none */
    int32_t positions;
} ops_rope;

/* DeBERTa's disentangled terms (He et al. 2021, eq. 4), both with the same index:
 * score(q,k) = (Qq.Kk + Qq.PK[c] + Kk.PQ[c]) * scale, c = index[(q - k) + span - 1]. */
typedef struct ops_relative {
    const float *key, *query; /* PK, PQ: [n_buckets, H*K] f32; either may be NULL (term absent) */
    const int32_t *index;     /* [2*span - 1]; NULL: no relative terms */
    int32_t n_buckets, span;
} ops_relative;

/* softmax over k of score(q,k) = (Qq.Kk [+ relative terms]) * scale + distance_bias[h, (k - q)
 * + distance_span - 1], keys limited to |q - k| <= window when window > 0. Softmax in f32 with the
 * row's maximum subtracted. */
typedef struct ops_attention {
    int32_t n_heads, head_width;
    float scale;
    int32_t window;
    const float *distance_bias; /* [H, 2*distance_span - 1] f32, NULL: none (T5, MPNet) */
    int32_t distance_span;
    ops_rope rope;
    ops_relative relative;
} ops_attention;

/* K and V projections folded into one query row per sequence: u_h = Wk_h^T q_h;
 * score_j = (x_j . u_h) * scale [+ distance bias]; c_h = sum_j p_j x_j; out_h = Wv_h c_h + bv_h.
 * The key bias cancels in the softmax. Legal without rope and relative terms. */
typedef struct ops_fold {
    const float *key;        /* Wk: [H*K, D] f32, row-major */
    const float *value;      /* Wv^T: [D, H*K] f32 (transposed: outputs are contiguous) */
    const float *value_bias; /* [H*K] f32, NULL: zeros */
    int32_t n, d;            /* H*K, D */
} ops_fold;

/* logits[b] = out(norm(act(dense(x[b])))); dense NULL: norm(act(x[b])). All of it in f32: the
 * head's weights are f32 in every dtype (a thousandth of the work, and they decide the score). */
typedef struct ops_head {
    const float *dense;      /* [d_dense, d_in] f32 row-major, NULL: none */
    const float *dense_bias; /* [d_dense], NULL: zeros */
    ops_activation activation;
    ops_norm norm;
    const float *out;      /* [labels, d_dense or d_in] f32 */
    const float *out_bias; /* [labels], NULL: zeros */
    int32_t d_in, d_dense, labels;
} ops_head;

typedef enum ops_pool_kind {
    OPS_POOL_FIRST = 0, /* row starts[b] */
    OPS_POOL_MEAN,      /* mean over the sequence's rows, f32, in row order */
    OPS_POOL_MAX,
    OPS_POOL_LAST,      /* row starts[b + 1] - 1 */
    OPS_POOL_MEAN_SQRT, /* the sum over the square root of the number of rows */
    OPS_POOL_WEIGHTED,  /* sum over i of i x_i, over the sum of i; i counts rows from 1 */
    OPS_N_POOL_KINDS
} ops_pool_kind;
extern const char *const ops_pool_names[OPS_N_POOL_KINDS];

/* ---- context ----------------------------------------------------------------------------------
 */

typedef struct ops_backend ops_backend;
typedef struct ops_context ops_context;

/* Called by ops_trace with the rows of a named tensor widened to f32. */
typedef void (*ops_trace_fn)(void *user, const char *name, const float *rows, int32_t n_rows,
                             int32_t n_cols);

typedef struct ops_tracer {
    ops_trace_fn call;
    void *user;
    float *rows; /* [capacity] host memory that the rows are widened into */
    size_t capacity;
} ops_tracer;

/* The ops below, by name. X(enum, name) */
#define OPS_KIND_LIST(X)                                                                           \
    X(OPS_KIND_EMBED_NORM, "embed_norm")                                                           \
    X(OPS_KIND_LINEAR, "linear")                                                                   \
    X(OPS_KIND_LINEAR_RESIDUAL_NORM, "linear_residual_norm")                                       \
    X(OPS_KIND_NORM, "norm")                                                                       \
    X(OPS_KIND_ATTENTION, "attention")                                                             \
    X(OPS_KIND_ATTENTION_ROWS, "attention_rows")                                                   \
    X(OPS_KIND_ATTENTION_ROWS_FOLDED, "attention_rows_folded")                                     \
    X(OPS_KIND_ADD_NORM, "add_norm")                                                               \
    X(OPS_KIND_GATHER_FIRST, "gather_first")                                                       \
    X(OPS_KIND_GATHER_AROUND, "gather_around")                                                     \
    X(OPS_KIND_POOL, "pool")                                                                       \
    X(OPS_KIND_BROADCAST, "broadcast")                                                             \
    X(OPS_KIND_HEAD, "head")                                                                       \
    X(OPS_KIND_VECTORS, "vectors")

typedef enum ops_kind {
#define OPS_KIND_ENUM(name, text) name,
    OPS_KIND_LIST(OPS_KIND_ENUM)
#undef OPS_KIND_ENUM
        OPS_N_KINDS
} ops_kind;
extern const char *const ops_kind_names[OPS_N_KINDS];

/* One op as a forward pass asked for it. What the op does not take is NULL or zero. */
typedef struct ops_call {
    ops_kind kind;
    const ops_tensor *out; /* NULL: head, vectors */
    const ops_tensor *x;   /* NULL: embed_norm, broadcast */
    const ops_embedding *embedding;
    const ops_linear *linear;
    ops_activation activation;
    const ops_norm *norm;
    bool keeps_sum; /* linear_residual_norm */
    const ops_attention *attention;
    const ops_fold *fold;
    ops_pool_kind pool;
    const ops_head *head;
    bool normalize; /* vectors */
} ops_call;

/* Told of every op before it runs, dry runs included: a forward pass run dry with one says what it
 * is made of (bench/capture.c). */
typedef struct ops_recorder {
    void (*record)(void *user, const ops_call *call);
    void *user;
} ops_recorder;

/* Bump allocator over one block (host or device addresses; never dereferenced here). */
typedef struct ops_workspace {
    uint8_t *base;
    size_t capacity, used, peak;
} ops_workspace;

struct ops_context {
    const ops_backend *backend;
    void *device;    /* what backend->open returned */
    void *stream;    /* backend's own per-context state (cuda: stream, graphs); NULL otherwise */
    team *team;      /* host threads an op may split its rows over; NULL: the calling thread only */
    ops_dtype dtype; /* of the model's linears: decides a tensor's forms */
    bool dry;        /* measure the workspace, compute nothing */
    ops_workspace workspace;
    ops_batch batch;      /* as begun: the arrays that kernels read */
    crank_status failure; /* first failure of an op; later ops do nothing (checked at the end) */
    crank_error error;
    const ops_tracer *tracer; /* NULL: none */
    const char *op;           /* the op under way, by its name in this header; NULL before any */
    int32_t n_ops;            /* begun since ops_begin, to tell one op from the next */
    const ops_recorder *recorder; /* NULL: none */
};

/* 64-byte aligned scratch until the next ops_release below it; NULL sets ctx->failure. In a dry run
 * the pointer is not to be dereferenced. */
void *ops_take(ops_context *ctx, size_t bytes);
size_t ops_mark(const ops_context *ctx);
void ops_release(ops_context *ctx, size_t mark);

/* ---- the ops ----------------------------------------------------------------------------------
 */
/* Forward passes call these; each checks the contract (shapes, uses), then calls the backend. They
 * return nothing: the first failure sticks in ctx->failure and turns the rest into no-ops, so that
 * a forward pass reads as mathematics. */

/* A [rows, cols] tensor from the workspace, uninitialised, in the forms that `uses` asks for. */
ops_tensor ops_new(ops_context *ctx, int32_t rows, int32_t cols, unsigned uses);

/* out: [T, E]. See ops_embedding. */
void ops_embed_norm(ops_context *ctx, ops_tensor *out, const ops_embedding *e);

/* out[t] = act(x[t] W^T + b); gated: out[t] = act(u) * g with [u | g] = x[t] W^T + b.
 * x: [rows, k] with OPERAND; out: [rows, n] or [rows, n/2]. Sums over k in f32 (int8: exact in
 * int32, then scaled by x.scale * weight scale, bias added in f32). */
void ops_linear_act(ops_context *ctx, ops_tensor *out, const ops_tensor *x, const ops_linear *w,
                    ops_activation act);

/* s = x W^T + b + residual;  out = norm(s);  sum = s when sum is not NULL (pre-norm models carry it
 * on as the residual stream). residual, out, sum: [rows, n]; sum may alias residual; out may alias
 * residual when sum is NULL. Statistics in f32. */
void ops_linear_residual_norm(ops_context *ctx, ops_tensor *out, ops_tensor *sum,
                              const ops_tensor *x, const ops_linear *w, const ops_tensor *residual,
                              const ops_norm *norm);

/* out = norm(x). out may alias x. */
void ops_norm_rows(ops_context *ctx, ops_tensor *out, const ops_tensor *x, const ops_norm *norm);

/* out: [T, H*K]; qkv: [T, 3*H*K] (q | k | v, VALUE). Rows of ctx->batch; every row attends within
 * its sequence. */
void ops_attention_full(ops_context *ctx, ops_tensor *out, const ops_tensor *qkv,
                        const ops_attention *a);

/* One query row per sequence: out, q: [B, H*K]; kv: [T, 2*H*K] (k | v). The query stands at the
 * sequence's first row (position 0 for window, rope and biases). */
void ops_attention_rows(ops_context *ctx, ops_tensor *out, const ops_tensor *q,
                        const ops_tensor *kv, const ops_attention *a);

/* The same with K and V folded away: x: [T, D] is what K and V would have been made from. */
void ops_attention_rows_folded(ops_context *ctx, ops_tensor *out, const ops_tensor *q,
                               const ops_tensor *x, const ops_fold *fold, const ops_attention *a);

/* out = norm(x + y). out may alias x or y. */
void ops_add_norm(ops_context *ctx, ops_tensor *out, const ops_tensor *x, const ops_tensor *y,
                  const ops_norm *norm);

/* out[b] = x[first row of sequence b]: [B, D], in out's forms. */
void ops_gather_first(ops_context *ctx, ops_tensor *out, const ops_tensor *x);

/* out[t] = x[t - r] | ... | x[t] | ... | x[t + r], rows outside of t's sequence being zeros:
 * [T, (2r + 1) * D], in out's forms. A linear over it is a convolution over positions. */
void ops_gather_around(ops_context *ctx, ops_tensor *out, const ops_tensor *x);

/* out: [B, D] with VALUE. */
void ops_pool(ops_context *ctx, ops_tensor *out, const ops_tensor *x, ops_pool_kind kind);

/* Every row of out becomes `row` ([cols] f32 in weight memory): T5's constant decoder start. */
void ops_broadcast(ops_context *ctx, ops_tensor *out, const float *row);

/* logits: [rows, labels] f32 in host memory, complete after ops_end. x: [rows, d_in] VALUE. */
void ops_head_logits(ops_context *ctx, float *logits, const ops_tensor *x, const ops_head *head);

/* vectors: [rows, D] f32 in host memory, complete after ops_end: x's rows, each divided by
 * max(L2 norm, 1e-12) when normalize (torch's F.normalize). */
void ops_vectors(ops_context *ctx, float *vectors, const ops_tensor *x, bool normalize);

/* Gives x's rows to ctx->tracer under the printf-formatted name; nothing without a tracer. */
void ops_trace(ops_context *ctx, const ops_tensor *x, const char *name, ...)
    __attribute__((format(printf, 3, 4)));

/* Starts a batch: the workspace is empty again, ctx->batch readable by kernels. */
void ops_begin(ops_context *ctx, const ops_batch *host);
/* Waits for the results and returns the first failure (and its message in *error). */
crank_status ops_end(ops_context *ctx, crank_error *error);

/* ---- backends ---------------------------------------------------------------------------------
 */

typedef struct ops_device_options {
    int ordinal;                /* GPU number */
    const char *library_path;   /* cuda: another libcuda (the emulator); NULL: libcuda.so.1 */
    const char *isa;            /* cpu: force a level by name; NULL: the best this CPU has. cuda:
                                   force variants by a part of their name, for tests and bench;
                                   "cublaslt", "own": which GEMM (kernels/cuda/matmul.h) */
    const char *cublaslt_path;  /* cuda: another libcublasLt; NULL: library_path when that is given,
                                   else the system's, if anything asks for it */
    const char *nvtx_path;      /* cuda: ranges around batches and ops for the profiler that this
                                   library is (kernels/cuda/nvtx.h); NULL: none */
    size_t memory_budget_bytes; /* device memory; 0: what is free */
} ops_device_options;

/* One implementation of one op for one dtype and target: what op tests, `info --kernels` and `bench
 * ops` walk. */
typedef struct ops_variant {
    const char *op;    /* "linear", "attention", ... */
    const char *dtype; /* as in OPS_DTYPE_LIST */
    const char *isa;   /* "avx512-vnni", "avx2", "portable", "sm_80", ... */
    const char *name;  /* idea and tile: "tile 9x48" */
    const char *shape; /* when it is taken, in words; "" always */
    bool available;    /* on this machine */
    bool selected;     /* by this device as opened */
} ops_variant;

struct ops_backend {
    const char *name;    /* "ref", "cpu", "cuda" */
    bool host_memory;    /* weights are host memory: files are read straight into the block */
    bool splits_batches; /* the runtime runs several contexts at once, one per thread, each with a
                            micro-batch of its own; otherwise one context and batches in turn */

    /* error says which library, file or instruction set is missing and what to do about it. */
    crank_status (*open)(void **device, const ops_device_options *options, crank_error *error);
    void (*close)(void *device);
    /* "AMD EPYC (avx512-vnni)", "NVIDIA H100 80GB HBM3 (sm_90)": for info and -v */
    const char *(*describe)(const void *device);
    /* What was decided since the device was opened, for info and -v, into text ("" nothing); any
     * thread. NULL: there is never anything. */
    void (*notes)(void *device, char *text, size_t bytes);
    /* The layout of this dtype's linears; NULL when the backend cannot compute in it. */
    const ops_layout *(*layout)(const void *device, ops_dtype dtype);
    ops_dtype (*best_dtype)(const void *device); /* what --dtype auto means: fastest faithful one */
    const ops_variant *(*variants)(const void *device, size_t *n);

    /* Weight memory: one block per model. write: host to block (memcpy, or an upload). */
    crank_status (*memory_open)(void *device, void **block, size_t bytes, crank_error *error);
    crank_status (*memory_write)(void *device, void *block, const void *source, size_t bytes,
                                 crank_error *error);
    void (*memory_close)(void *device, void *block);

    /* Per-context state: ctx->workspace (of workspace_bytes, from a dry run) and ctx->stream. */
    crank_status (*context_open)(ops_context *ctx, size_t workspace_bytes, crank_error *error);
    void (*context_close)(ops_context *ctx);
    crank_status (*begin)(ops_context *ctx, const ops_batch *host, crank_error *error);
    crank_status (*end)(ops_context *ctx, crank_error *error);

    /* Fills value/operand/scale from the workspace (ops_take), dry runs included. */
    void (*tensor)(ops_context *ctx, ops_tensor *t);
    /* Synchronous; rows: [x->rows, x->cols] host memory. For traces. */
    void (*read_f32)(ops_context *ctx, float *rows, const ops_tensor *x);

    void (*embed_norm)(ops_context *, ops_tensor *, const ops_embedding *);
    void (*linear)(ops_context *, ops_tensor *, const ops_tensor *, const ops_linear *,
                   ops_activation);
    void (*linear_residual_norm)(ops_context *, ops_tensor *, ops_tensor *, const ops_tensor *,
                                 const ops_linear *, const ops_tensor *, const ops_norm *);
    void (*norm)(ops_context *, ops_tensor *, const ops_tensor *, const ops_norm *);
    void (*attention)(ops_context *, ops_tensor *, const ops_tensor *, const ops_attention *);
    void (*attention_rows)(ops_context *, ops_tensor *, const ops_tensor *, const ops_tensor *,
                           const ops_attention *);
    void (*attention_rows_folded)(ops_context *, ops_tensor *, const ops_tensor *,
                                  const ops_tensor *, const ops_fold *, const ops_attention *);
    void (*gather_first)(ops_context *, ops_tensor *, const ops_tensor *);
    void (*add_norm)(ops_context *, ops_tensor *, const ops_tensor *, const ops_tensor *,
                     const ops_norm *);
    void (*gather_around)(ops_context *, ops_tensor *, const ops_tensor *);
    void (*pool)(ops_context *, ops_tensor *, const ops_tensor *, ops_pool_kind);
    void (*broadcast)(ops_context *, ops_tensor *, const float *);
    void (*head)(ops_context *, float *, const ops_tensor *, const ops_head *);
    void (*vectors)(ops_context *, float *, const ops_tensor *, bool);
};

/* What a backend's op calls when it fails: keeps the first message. */
void ops_fail(ops_context *ctx, crank_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

extern const ops_backend ops_backend_ref;
extern const ops_backend ops_backend_cpu;
extern const ops_backend ops_backend_cuda;

/* NULL when no layout has this name. */
const ops_layout *ops_layout_by_name(const char *name);

#endif
