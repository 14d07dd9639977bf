/* Inside of the fast CPU path: what the drivers (plain C, linear.c, attention.c, rows.c) ask of the
 * kernels (one set per instruction set), and how activations and weights lie in memory.
 *
 * Path of an op: ops.c -> driver (splits rows over ctx->team, walks blocks) -> kernels of the level
 * that CPUID or options.isa chose. Drivers contain no arithmetic, so a level's numbers come from
 * its kernels alone.
 *
 * Data structures:
 *   panel16 layouts  a linear's weight in panels of 16 outputs (layout.c): the tile reads it as one
 *                    stream; a step is 4 bytes of k (1 f32, 2 bf16, 4 int8) for 16 outputs = 64 B.
 *   activations      rows of cpu_stride() bytes, whole vectors of 16; lanes past cols are zero.
 *   cpu_level        one instruction set: a table of kernels, composed from several files.
 *
 * Invariants (what makes a pair's bits independent of batch, threads and, but for f32, the level):
 *   - An output of a linear is one accumulator that starts at the bias and takes k in ascending
 *     order (f32: one FMA per k; bf16: per pair of k the odd product, then the even one, as
 *     VDPBF16PS does; int8: exact integers). Every tile shape keeps that order.
 *   - Every other sum over a row runs in 16 lanes, lane l taking the elements l, l+16, ..., then
 *     folds by halves (l + l+8, +4, +2, +1), whatever the width of the machine's registers.
 *   - Every fused multiply-add in the source is an FMA on every level (portable: emulated exactly),
 *     nothing else is contracted (-ffp-contract=off); division and square root are IEEE.
 *   - The portable level's f32 tile alone multiplies and adds separately (an emulated FMA there
 *     would be ten times slower): in f32 its bits are its own. bf16 products are exact in f32, so
 *     there FMA or not is the same, and bf16 and int8 give the same bits on every level. Values
 *     below 2^-56 are stored as zero in bf16 (and biases below 2^-100), so that no sum or product
 *     is subnormal: VDPBF16PS flushes those. */
#ifndef CRANK_KERNELS_CPU_CPU_H
#define CRANK_KERNELS_CPU_CPU_H

#include "kernels/cpu/layout.h"
#include "kernels/ops.h"

#define CPU_LANES 16
#define CPU_PANEL 16        /* outputs of a weight panel */
#define CPU_STEP_BYTES 4    /* of k, per output */
#define CPU_STRIPE_PANELS 6 /* outputs that a linear finishes at a time: 96 columns */

static inline int32_t cpu_round_up(int32_t n, int32_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

/* Bytes from row to row of an activation of `cols` elements. Whole lines; never a multiple of 8
 * lines, so that the rows of a tile do not share their sets of the first-level cache. */
static inline size_t cpu_stride(int32_t cols, size_t element_bytes)
{
    size_t bytes = (size_t)cpu_round_up(cols, CPU_PANEL) * element_bytes;
    size_t lines = (bytes + 63) / 64;
    return (lines % 8 == 0 ? lines + 1 : lines) * 64;
}

static inline size_t cpu_stride_floats(int32_t cols)
{
    return cpu_stride(cols, sizeof(float)) / sizeof(float);
}

/* Activations of an int8 linear: x = scale * (q - zero), q in 0..255, per row; zero is whole, so
 * that 0 is exact. Symmetric activations would be a little simpler and lose half of the codes
 * wherever a row leans to one side: after GELU, and after a LayerNorm with an outlier (on
 * minilm-l6-real twice the error of the logits). How a level wants the operand: U8 q, S8 q - 128,
 * S16 q - zero.
 *
 * The first row of each sequence is kept in two codes, q and that of what q leaves over in units of
 * scale / 255: 16 bits together (Dettmers et al. 2022 keep outliers apart for the same reason).
 * Heads read this row, every layer's error of it adds up in the score, and trained encoders park
 * outliers there: in minilm-l6-real one channel of it is near 60 times the median, which leaves the
 * others a handful of codes. Two codes leave a third of the error of the pooled vector, for one row
 * more in every product. */
typedef enum cpu_int8_form { CPU_INT8_U8, CPU_INT8_S8, CPU_INT8_S16 } cpu_int8_form;

/* The second codes of a tensor: row i of them belongs to row cpu_fine_row(f, i). */
typedef struct cpu_fine {
    int32_t n;
    const int32_t *rows; /* ascending; NULL: row i itself */
    uint8_t *operand;    /* [n] rows of the operand's stride */
    float *scale;        /* [n] */
    int32_t *zero;       /* [n] as cpu_zeros_of */
} cpu_fine;

static inline int32_t cpu_fine_row(const cpu_fine *f, int32_t i)
{
    return f->rows != NULL ? f->rows[i] : i;
}

/* The first i whose row is not below `row`. */
static inline int32_t cpu_fine_from(const cpu_fine *f, int32_t row)
{
    int32_t low = 0, high = f->n;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (cpu_fine_row(f, middle) < row) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* The next i of another row (a sequence without tokens begins where its neighbour does). */
static inline int32_t cpu_fine_next(const cpu_fine *f, int32_t i)
{
    int32_t row = cpu_fine_row(f, i);
    do i++;
    while (i < f->n && cpu_fine_row(f, i) == row);
    return i;
}

/* ---- weights ----------------------------------------------------------------------------------
 */

/* A panel16 blob opened. Outputs are in panel order: for a gated linear panel 2p holds 16 activated
 * outputs and panel 2p+1 their 16 gates. */
typedef struct cpu_weight {
    const float *bias;     /* [16 * n_panels] */
    const float *scale;    /* int8: [16 * n_panels] */
    const int16_t *sums;   /* int8: [16 * n_panels][2] sum of an output's weights: low + 128 high */
    const uint8_t *panels; /* [n_panels][steps][16][4 bytes] */
    int32_t n_panels;      /* that hold outputs */
    int32_t steps;         /* 4-byte steps over k */
    size_t panel_bytes;
} cpu_weight;

cpu_weight cpu_weight_open(const ops_linear *w);

/* ---- kernels: matrix tiles --------------------------------------------------------------------
 */

/* c[r, 16p + l] = bias[16p + l] + sum over steps of a[r, step] . w[p, step, l]
 * int8: the sum is that of (a - a_zero[r]) * w in integers; then float(sum) * w_scale[16p + l], and
 * an FMA with a_scale[r] and bias. */
typedef struct cpu_tile {
    float *c;
    size_t ldc; /* floats from row to row */
    const void *a;
    size_t a_stride; /* bytes from row to row; a step is 4 bytes (int8 in S16 form: 8) */
    const void *w;
    size_t w_panel, w_step; /* bytes from panel to panel and from step to step (64 when packed) */
    int32_t steps;
    int32_t rows, panels;
    const float *bias; /* NULL: zeros; of a single row it may be c, which then is added to */
    const float *a_scale, *w_scale;
    const int32_t *a_zero; /* see cpu_zeros_of */
    const int16_t *w_sums;
} cpu_tile;

typedef void (*cpu_tile_fn)(const cpu_tile *t);

/* ---- kernels: rows ----------------------------------------------------------------------------
 */

/* value/half[r, c] = act(src[r, c]), or act(src[r, 32p + l]) * src[r, 32p + 16 + l] when gated.
 * Either destination may be NULL; value may be src when not gated. */
typedef struct cpu_activate {
    const float *src;
    size_t src_ld;
    float *value;
    size_t value_ld;
    uint16_t *half; /* bf16 */
    size_t half_ld;
    int32_t rows, panels; /* panels of 16 outputs */
    ops_activation act;
    bool gated;
    bool coarse; /* the result is rounded to bf16 or int8: GELU within 3e-5 max(1, |x|) will do */
} cpu_activate;

/* Rows that finish keeps in flight. */
#define CPU_FINISH_ROWS 4

/* s = src + residual; sum = s; z = norm(s); value = z, operand = z in bf16 or int8 with scale.
 * Everything but src may be NULL. Pointers are those of row 0. */
typedef struct cpu_finish {
    const float *src;
    size_t src_ld;
    int32_t src_row0; /* the row that src begins with */
    const float *residual;
    size_t residual_ld;
    float *sum;
    size_t sum_ld;
    const ops_norm *norm; /* NULL: the identity */
    float *value;
    size_t value_ld;
    void *operand; /* NULL in f32, where value serves */
    size_t operand_stride;
    ops_dtype operand_dtype; /* BF16 or INT8 */
    cpu_int8_form int8_form;
    float *scale;
    int32_t *zero;
    cpu_fine fine; /* int8: rows with a second code */
    float *row;    /* scratch of CPU_FINISH_ROWS * cpu_stride(cols, 4) bytes, each worker's own */
    int32_t cols;
} cpu_finish;

/* Rows of attention scores to unnormalised probabilities: key k of row r counts when k < n_keys
 * and, with a window, |first_query + r - k| <= window; the others become 0. */
typedef struct cpu_softmax {
    float *scores; /* [rows, ld], column 0 is key first_key (a multiple of 16); probabilities in
                      place unless half */
    size_t ld;
    uint16_t *half; /* [rows, half_ld] bf16 probabilities, NULL: f32 in place */
    size_t half_ld;
    float *inverse; /* [rows] 1 / sum (0 where no key counts) */
    int32_t rows, first_query;
    int32_t first_key, end_key; /* columns, whole vectors */
    int32_t n_keys, window;
    float scale;
    const float *bias; /* bias[k - (first_query + r)] is added after the scale; NULL: none */
} cpu_softmax;

/* scores[r, j] += query_table[r, c] + key_table[j, c] with c = index[q - k] (DeBERTa). */
typedef struct cpu_relative {
    float *scores;
    size_t ld;
    const float *query_table; /* [rows, table_ld], NULL: none */
    const float *key_table;   /* [keys, table_ld] from key 0, NULL: none */
    size_t table_ld;
    const int32_t *index; /* index[0] is distance 0 */
    int32_t rows, first_query, first_key, end_key;
} cpu_relative;

/* One instruction set's row kernels, all made from rows_body.h. */
typedef struct cpu_rows {
    void (*activate)(const cpu_activate *job);
    void (*finish)(const cpu_finish *job, int32_t row0, int32_t row1);
    /* row[0 .. cols) (+)= table row in f32; whole vectors are written, zeros past cols */
    void (*lookup)(float *row, const ops_lookup *table, int32_t id, bool add);
    void (*softmax)(const cpu_softmax *job);
    void (*relative)(const cpu_relative *job);
    /* out (f32 or bf16, exactly `cols` elements a row) = src[r, :] * factor[r] */
    void (*scale_rows)(float *value, size_t value_ld, uint16_t *half, size_t half_ld,
                       const float *src, size_t src_ld, const float *factor, int32_t rows,
                       int32_t cols);
    /* out[i, j] = x_i . w_j + bias[j]; 16 lanes over k, folded by halves. out_ld floats */
    void (*dots)(float *out, size_t out_ld, const float *x, size_t x_ld, int32_t n_x,
                 const float *w, size_t w_ld, int32_t n_w, int32_t k, const float *bias);
    /* out[i, :] = bias + sum over j of coef[i, j] * w[j, :], j ascending */
    void (*combine)(float *out, size_t out_ld, const float *coef, size_t coef_ld, int32_t n_out,
                    const float *w, size_t w_ld, int32_t n_w, int32_t cols, const float *bias);
    /* x[r, :] rotated by position first + r */
    void (*rotate)(float *out, size_t out_ld, const float *x, size_t x_ld, int32_t rows,
                   int32_t first, int32_t width, const ops_rope *rope);
    /* [rows, width] f32 -> A operand in bf16, zeros up to a whole pair (half_ld elements a row) */
    void (*to_half)(uint16_t *half, size_t half_ld, const float *x, size_t x_ld, int32_t rows,
                    int32_t width);
    /* keys [n, width] -> panels [ceil(n/16)][width][16] f32 or [..][ceil(width/2)][16][2] bf16;
     * keys past n are zero */
    void (*pack_keys)(void *panels, const float *keys, size_t ld, int32_t n, int32_t width,
                      bool half);
    /* values [n, width] -> panels [ceil(width/16)][ceil(n/2)][16][2] bf16 */
    void (*pack_values)(uint16_t *panels, const float *values, size_t ld, int32_t n, int32_t width);
    void (*pool)(float *out, const float *x, size_t x_ld, int32_t rows, int32_t cols,
                 ops_pool_kind kind);
    /* out = x / max(|x|, 1e-12) */
    void (*normalize)(float *out, const float *x, int32_t cols);
} cpu_rows;

/* ---- levels -----------------------------------------------------------------------------------
 */

/* One named instruction set. Rows of the table in levels.c, best first. */
typedef struct cpu_level {
    const char *name;
    bool (*available)(void);
    const cpu_rows *rows;
    const char *rows_name; /* for ops_variant */
    struct {
        cpu_tile_fn run;
        const char *name;
    } tile[OPS_N_DTYPES]; /* F32, BF16, INT8 */
    cpu_int8_form int8_form;
    bool fast_bf16; /* bf16 is faster than f32 here: what --dtype auto takes */
} cpu_level;

extern const cpu_level *const cpu_levels[]; /* NULL-terminated, best first */

typedef struct cpu_device {
    const cpu_level *level;
    char text[96];
    size_t n_variants;
    ops_variant *variants;
} cpu_device;

crank_status cpu_variants_open(cpu_device *device, crank_error *error);

static inline const cpu_level *cpu_level_of(const ops_context *ctx)
{
    return ((const cpu_device *)ctx->device)->level;
}

/* ---- drivers ----------------------------------------------------------------------------------
 */

/* Where worker `worker` of n begins when `count` things are split evenly. */
static inline int32_t cpu_share(int32_t count, int worker, int n)
{
    return (int32_t)((int64_t)count * worker / n);
}

/* The zero points of a quantised tensor stand behind its scales: as the pair (-zero, -128 zero) of
 * 16-bit numbers that w_sums is multiplied with (U8), or 128 - zero (S8); unused in S16. */
static inline int32_t *cpu_zeros_of(const ops_tensor *t)
{
    return (int32_t *)(void *)(t->scale + t->rows);
}

/* Where t's second codes lie: behind the first ones, their scales and zero points likewise. Tensors
 * of a row for each token or for each sequence have them. */
cpu_fine cpu_fine_of(const ops_context *ctx, const ops_tensor *t);

/* A finish job that writes t's forms; src, residual, sum and norm are the caller's. */
cpu_finish cpu_finish_into(const ops_context *ctx, const ops_tensor *t);

/* Where attention leaves its contexts, head by head. Takes scratch when the tensor keeps only an
 * int8 operand: that one needs the scale of all heads together, which cpu_context_finish makes. */
typedef struct cpu_context {
    ops_tensor *out;
    float *value; /* [rows, value_ld] f32, NULL: none */
    size_t value_ld;
    uint16_t *half; /* [rows, half_ld] bf16, NULL: none */
    size_t half_ld;
    float *row; /* scratch rows, one a worker */
} cpu_context;

cpu_context cpu_context_open(ops_context *ctx, ops_tensor *out);
/* Columns [column, column + n) of rows [row, row + rows) become zero: sequences without keys. */
void cpu_context_zero(const cpu_context *c, size_t row, int32_t rows, size_t column, int32_t n);
void cpu_context_finish(ops_context *ctx, const cpu_context *c);

/* Whether t has an f32 value (in f32 it serves as the operand too). */
static inline bool cpu_has_value(const ops_context *ctx, const ops_tensor *t)
{
    return ctx->dtype == OPS_F32 || (t->uses & OPS_USE_VALUE) != 0;
}

void cpu_tensor(ops_context *ctx, ops_tensor *t);
void cpu_read_f32(ops_context *ctx, float *rows, const ops_tensor *x);
void cpu_embed_norm(ops_context *, ops_tensor *, const ops_embedding *);
void cpu_linear(ops_context *, ops_tensor *, const ops_tensor *, const ops_linear *,
                ops_activation);
void cpu_linear_residual_norm(ops_context *, ops_tensor *, ops_tensor *, const ops_tensor *,
                              const ops_linear *, const ops_tensor *, const ops_norm *);
void cpu_norm(ops_context *, ops_tensor *, const ops_tensor *, const ops_norm *);
void cpu_attention(ops_context *, ops_tensor *, const ops_tensor *, const ops_attention *);
void cpu_attention_rows(ops_context *, ops_tensor *, const ops_tensor *, const ops_tensor *,
                        const ops_attention *);
void cpu_attention_rows_folded(ops_context *, ops_tensor *, const ops_tensor *, const ops_tensor *,
                               const ops_fold *, const ops_attention *);
void cpu_add_norm(ops_context *, ops_tensor *, const ops_tensor *, const ops_tensor *,
                  const ops_norm *);
void cpu_gather_first(ops_context *, ops_tensor *, const ops_tensor *);
void cpu_gather_around(ops_context *, ops_tensor *, const ops_tensor *);
void cpu_pool(ops_context *, ops_tensor *, const ops_tensor *, ops_pool_kind);
void cpu_broadcast(ops_context *, ops_tensor *, const float *);
void cpu_head(ops_context *, float *, const ops_tensor *, const ops_head *);
void cpu_vectors(ops_context *, float *, const ops_tensor *, bool);

#endif
