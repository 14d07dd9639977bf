/* What ops_cases.c and ops_programs.c share: the description of a case, its random weights, and the
 * programs, which are written once over kernels/ops.h and run on either side. */
#ifndef CRANK_TESTS_OPS_PROGRAMS_H
#define CRANK_TESTS_OPS_PROGRAMS_H

#include "kernels/ops.h"

typedef enum case_kind {
    CASE_EMBED,
    CASE_LINEAR,
    CASE_RESIDUAL,
    CASE_NORM,
    CASE_ATTENTION,
    CASE_ATTENTION_ROWS,
    CASE_FOLDED,
    CASE_ADD_NORM,
    CASE_GATHER,
    CASE_AROUND,
    CASE_POOL,
    CASE_BROADCAST,
    CASE_HEAD,
    CASE_VECTORS,
    CASE_LAYER,         /* a post-norm layer, then a last layer of head rows only, folded */
    CASE_LAYER_PRENORM, /* pre-norm with a gated FFN, the sum carried in place, mean pooling */
    CASE_KINDS
} case_kind;

typedef enum case_alias {
    ALIAS_NONE,
    ALIAS_OUT,          /* out is the residual (or x, for a norm) */
    ALIAS_SUM_SEPARATE, /* sum asked for */
    ALIAS_SUM_RESIDUAL, /* sum asked for and it is the residual (add_norm: out is y) */
} case_alias;

#define RELATIVE_KEY 1
#define RELATIVE_QUERY 2

/* One case; zero means off or the default. Lengths: of the sequences, ended by -1. */
typedef struct ops_case {
    case_kind kind;
    const int32_t *lengths;
    int32_t n_rows; /* instead of lengths: so many sequences of one token */
    int32_t n, k;   /* linear; k: also the width of norm, pool, ...; n: rows of gather_around */
    ops_activation act;
    bool gated, no_bias;
    ops_norm_kind norm;
    case_alias alias;
    int32_t heads, head_width;
    int32_t window, relative;
    bool key_counts, distance_bias, rope;
    ops_dtype table_dtype;
    ops_pool_kind pool;
    int32_t labels, d_dense;
    bool normalize;
    float amplitude; /* of the inputs; 0: 1 */
    double slack;    /* times the tolerance; 0: 1 */
    bool f32_only;   /* where lower precision makes the case meaningless */
} ops_case;

#define MAX_LINEARS 8
#define MAX_INPUTS 2
#define MAX_OUTPUTS 3

typedef struct host_linear {
    float *weight, *bias; /* bias NULL: none */
    int32_t n, k;
    bool gated;
} host_linear;

/* A case's weights: with host pointers as made, with a backend's pointers once placed. */
typedef struct case_parts {
    ops_lookup input[MAX_INPUTS]; /* row r of the base batch gets row r of it */
    ops_embedding embedding;
    ops_linear linear[MAX_LINEARS];
    ops_norm norm[4];
    ops_attention attention;
    ops_fold fold;
    ops_head head;
    const float *row;
} case_parts;

/* Sequences of the base batch and everything random about a case. Released by material_free. */
typedef struct material {
    ops_case c;
    int32_t n_sequences, n_rows, longest;
    int32_t *starts;                  /* [n_sequences + 1] */
    int32_t *key_counts;              /* [n_sequences] or NULL */
    int32_t *ids, *types, *positions; /* [n_rows] */
    int32_t index_entries, n_linears;
    host_linear linears[MAX_LINEARS];
    case_parts parts; /* linear[] unused */
    void *allocations[64];
    int n_allocations;
} material;

void material_make(material *m, const ops_case *c, uint64_t seed);
void *material_take(material *m, size_t bytes); /* freed with the material */
void material_free(material *m);
double material_mflop(const material *m);

/* An output of a program: a tensor to be read or host floats; per token or per sequence. */
typedef struct case_output {
    ops_tensor tensor;
    float *host; /* NULL: the tensor */
    int32_t cols;
    bool per_sequence;
    case_kind kind; /* whose tolerance it must keep */
} case_output;

#define GUARD_BYTES 256
#define MAX_GUARDS 64

/* One execution of a case on one side. */
typedef struct case_run {
    ops_context *ctx;
    const material *m;
    const case_parts *parts;     /* placed */
    float *captured[MAX_INPUTS]; /* where the inputs are read back to; NULL: not */
    float *host_out;             /* for ops that write host memory: [sequences, host_cols] */
    case_output outputs[MAX_OUTPUTS];
    int n_outputs;
    void *guards[MAX_GUARDS]; /* GUARD_BYTES each, in the workspace */
    int n_guards;
} case_run;

typedef void (*case_program)(case_run *run);
typedef struct case_kind_row {
    const char *name;
    case_program program;
    double tolerance[OPS_N_DTYPES]; /* |found - expected| <= tolerance * (rms + |expected|) */
} case_kind_row;
extern const case_kind_row case_kinds[CASE_KINDS];

#endif
