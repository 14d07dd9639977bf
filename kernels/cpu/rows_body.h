/* The row kernels of a level, written once in the vocabulary of v16_*.h and compiled for each
 * instruction set (rows_avx512.c and its neighbours include this file and nothing else). What each
 * kernel computes stands at its field in cpu_rows (cpu.h); sums keep the order given there.
 *
 * exp, erf and tanh are own minimax polynomials (Remez on a Chebyshev grid), so that every level
 * and every machine computes the same bits; errors are given where they stand. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

/* ---- functions --------------------------------------------------------------------------------
 */

/* 2^y, y clamped to -126 below and at most 126; relative error below 1.7e-7. n = round(y) by adding
 * 1.5 * 2^23, then a polynomial of degree 5 on [-1/2, 1/2] with value 1 at 0. */
static inline v16 v_exp2_to_126(v16 y)
{
    v16 magic = v_set(0x1.8p23f);
    y = v_max(y, v_set(-126.0f));
    v16 t = v_add(y, magic);
    v16 f = v_sub(y, v_sub(t, magic));
    v16 p = v_set(0.001326464f);
    p = v_fma(p, f, v_set(0.00967151113f));
    p = v_fma(p, f, v_set(0.0555073395f));
    p = v_fma(p, f, v_set(0.240222424f));
    p = v_fma(p, f, v_set(0.693147004f));
    p = v_fma(p, f, v_set(1.0f));
    return v_scale_exponent(p, t);
}

static inline v16 v_exp2(v16 y)
{
    return v_exp2_to_126(v_min(y, v_set(126.0f)));
}

#define LOG2_E 1.44269504f

/* x Phi(x) = x (1/2 + x P(x^2)) with x clamped to +-limit inside; P in the shifted variable
 * 2 x^2 / limit^2 - 1, which lies in [-1, 1] (in x^2 itself the terms would cancel). */
static inline __attribute__((always_inline)) v16 v_gelu_by(v16 x, const float *c, int degree,
                                                           float limit, float shift)
{
    v16 near = v_max(v_min(x, v_set(limit)), v_set(-limit));
    v16 u = v_fma(v_mul(near, near), v_set(shift), v_set(-1.0f));
    v16 p = v_set(c[degree]);
#pragma GCC unroll 14
    for (int i = degree - 1; i >= 0; i--) p = v_fma(p, u, v_set(c[i]));
    return v_mul(x, v_fma(near, p, v_set(0.5f)));
}

/* Error below 1.6e-7 max(1, |x|). */
static inline v16 v_gelu(v16 x)
{
    static const float c[15] = {0.12855193f,    -0.0641724542f, 0.0477369465f,  -0.038788002f,
                                0.0320828445f,  -0.0261051469f, 0.020278465f,   -0.0147020668f,
                                0.0105055617f,  -0.0076130908f, 0.00416566851f, -0.00128789002f,
                                0.00108897651f, -0.0013477098f, 0.000515054795f};
    return v_gelu_by(x, c, 14, 5.5f, 0x1.0ecf56p-4f);
}

/* Error below 2.9e-5 max(1, |x|): for results that are rounded to bf16 or int8 next. */
static inline v16 v_gelu_coarse(v16 x)
{
    static const float c[9] = {0.175949156f,   -0.0843112394f,  0.055957552f,
                               -0.0370299369f, 0.0224021394f,   -0.0118063642f,
                               0.00634766649f, -0.00381006999f, 0.0012940357f};
    return v_gelu_by(x, c, 8, 4.0f, 0x1p-3f);
}

static inline v16 v_sigmoid(v16 x)
{
    v16 e = v_exp2(v_mul(x, v_set(-LOG2_E)));
    return v_div(v_set(1.0f), v_add(v_set(1.0f), e));
}

/* 0.5 x (1 + tanh(u)) = x sigmoid(2u) */
static inline v16 v_gelu_tanh(v16 x)
{
    v16 inner = v_fma(v_mul(v_mul(x, x), x), v_set(0.044715f), x);
    return v_mul(x, v_sigmoid(v_mul(inner, v_set(1.59576912f)))); /* 2 sqrt(2/pi) */
}

/* Below 5/8 an odd polynomial (x + x^3 P(x^2), relative error 5e-9 before rounding), above it
 * 1 - 2 / (1 + e^2|x|). */
static inline v16 v_tanh(v16 x)
{
    v16 size = v_abs(x), z = v_mul(x, x);
    v16 p = v_set(-0.00571647845f);
    p = v_fma(p, z, v_set(0.0206499714f));
    p = v_fma(p, z, v_set(-0.0537432618f));
    p = v_fma(p, z, v_set(0.133314878f));
    p = v_fma(p, z, v_set(-0.333332837f));
    v16 small = v_fma(v_mul(p, z), x, x);
    v16 e = v_exp2(v_mul(size, v_set(2 * LOG2_E)));
    v16 large = v_sub(v_set(1.0f), v_div(v_set(2.0f), v_add(v_set(1.0f), e)));
    return v_where_less(size, v_set(0.625f), small, v_copysign(large, x));
}

static inline v16 v_activate(v16 x, ops_activation act, bool coarse)
{
    switch (act) {
    case OPS_GELU: return coarse ? v_gelu_coarse(x) : v_gelu(x);
    case OPS_GELU_TANH: return v_gelu_tanh(x);
    case OPS_RELU: return v_max(x, v_zero());
    case OPS_TANH: return v_tanh(x);
    case OPS_SILU: return v_mul(x, v_sigmoid(x));
    default: return x;
    }
}

/* ---- activation -------------------------------------------------------------------------------
 */

static inline __attribute__((always_inline)) void
activate_all(const cpu_activate *job, ops_activation act, bool gated, bool coarse)
{
    for (int32_t r = 0; r < job->rows; r++) {
        const float *src = job->src + (size_t)r * job->src_ld;
        float *value = job->value != NULL ? job->value + (size_t)r * job->value_ld : NULL;
        uint16_t *half = job->half != NULL ? job->half + (size_t)r * job->half_ld : NULL;
        for (int32_t p = 0; p < job->panels; p++) {
            const float *from = src + (gated ? 32 : 16) * p;
            v16 y = v_activate(v_load(from), act, coarse);
            if (gated) y = v_mul(y, v_load(from + 16));
            if (value != NULL) v_store(value + 16 * p, y);
            if (half != NULL) v_store_bf16(half + 16 * p, y);
        }
    }
}

/* The loops are made for each combination, so that none of them branches inside. */
static void activate(const cpu_activate *job)
{
    switch (job->act) {
#define CASE(act, coarse)                                                                          \
    if (job->gated) {                                                                              \
        activate_all(job, act, true, coarse);                                                      \
    } else {                                                                                       \
        activate_all(job, act, false, coarse);                                                     \
    }
    case OPS_GELU:
        if (job->coarse) {
            CASE(OPS_GELU, true)
        } else {
            CASE(OPS_GELU, false)
        }
        break;
    case OPS_GELU_TANH: CASE(OPS_GELU_TANH, false) break;
    case OPS_RELU: CASE(OPS_RELU, false) break;
    case OPS_TANH: CASE(OPS_TANH, false) break;
    case OPS_SILU: CASE(OPS_SILU, false) break;
    default: CASE(OPS_IDENTITY, false) break;
#undef CASE
    }
}

/* ---- residual, norm, operand forms ------------------------------------------------------------
 */

static inline v16 load_padded(const float *p, int32_t at, int32_t n)
{
    return n - at >= 16 ? v_load(p + at) : v_load_n(p + at, n - at);
}

/* A row on its way through finish. */
typedef struct row_state {
    float *s; /* where the row waits: scratch, since `value` may be the residual */
    float mean, factor;
    float low, high; /* int8: the range of z, which includes 0 */
} row_state;

static void begin_row(const cpu_finish *job, int32_t r, row_state *row, ops_norm_kind kind)
{
    const float *src = job->src + (size_t)(r - job->src_row0) * job->src_ld;
    const float *residual =
        job->residual != NULL ? job->residual + (size_t)r * job->residual_ld : NULL;
    float *sum = job->sum != NULL ? job->sum + (size_t)r * job->sum_ld : NULL;
    v16 total = v_zero();
    for (int32_t c = 0; c < job->cols; c += 16) {
        v16 x = v_load(src + c);
        if (residual != NULL) x = v_add(x, v_load(residual + c));
        if (sum != NULL) v_store(sum + c, x);
        v_store(row->s + c, x);
        total = v_add(total, x);
    }
    row->mean = kind == OPS_NORM_LAYER ? v_sum(total) / (float)job->cols : 0.0f;
}

static void measure_row(const cpu_finish *job, row_state *row)
{
    int32_t cols = job->cols, last = (cols - 1) / 16 * 16;
    v16 centre = v_set(row->mean), squares = v_zero();
    for (int32_t c = 0; c < last; c += 16) {
        v16 d = v_sub(v_load(row->s + c), centre);
        squares = v_fma(d, d, squares);
    }
    v16 d = v_keep(v_sub(v_load(row->s + last), centre), 0, cols - last, v_zero());
    squares = v_fma(d, d, squares);
    row->factor = 1.0f / sqrtf(v_sum(squares) / (float)cols + job->norm->epsilon);
}

static inline void keep_range(row_state *row, v16 least, v16 most)
{
    row->low = -v_largest(v_sub(v_zero(), least));
    row->high = v_largest(most);
}

static void write_row(const cpu_finish *job, int32_t r, row_state *row, ops_norm_kind kind,
                      bool quantised)
{
    int32_t cols = job->cols;
    float *s = row->s, *value = job->value != NULL ? job->value + (size_t)r * job->value_ld : NULL;
    uint16_t *half = NULL;
    if (job->operand != NULL && job->operand_dtype == OPS_BF16) {
        half = (uint16_t *)((uint8_t *)job->operand + (size_t)r * job->operand_stride);
    }
    v16 centre = v_set(row->mean), by = v_set(row->factor), least = v_zero(), most = v_zero();
    for (int32_t c = 0; c < cols; c += 16) {
        v16 z = v_load(s + c);
        if (kind != OPS_NORM_NONE) {
            v16 gamma = load_padded(job->norm->gamma, c, cols);
            v16 beta = v_zero();
            if (job->norm->beta != NULL) beta = load_padded(job->norm->beta, c, cols);
            z = v_fma(v_mul(v_sub(z, centre), by), gamma, beta);
        }
        if (value != NULL) v_store(value + c, z);
        if (half != NULL) v_store_bf16(half + c, z);
        if (quantised) {
            v_store(s + c, z);
            least = v_min(least, z);
            most = v_max(most, z);
        }
    }
    if (quantised) keep_range(row, least, most);
}

/* A row's int8 code: q = z * inverse + point, rounded to 0..255. */
typedef struct row_code {
    float scale, inverse;
    int32_t point;
} row_code;

static row_code code_of(float range, float least)
{
    row_code code = {.inverse = range > 0.0f ? 255.0f / range : 0.0f};
    if (!(code.inverse <= 0x1p127f)) code.inverse = 0.0f; /* a row of 1e-37: as good as zeros */
    code.scale = code.inverse > 0.0f ? range / 255.0f : 0.0f;
    /* -least * inverse is in 0..255: adding 1.5 * 2^23 rounds it to nearest even */
    float zero = (-least * code.inverse + 0x1.8p23f) - 0x1.8p23f;
    code.point = zero == zero ? (int32_t)zero : 0;
    return code;
}

static inline v16 v_encode(const row_code *code, v16 z)
{
    v16 q = v_fma(z, v_set(code->inverse), v_set((float)code->point));
    return v_min(v_max(q, v_zero()), v_set(255.0f));
}

static void write_codes(const cpu_finish *job, uint8_t *out, float *scale, int32_t *zero,
                        const row_code *code, const float *z)
{
    const row_code fixed = *code;
    *scale = fixed.scale;
    switch (job->int8_form) {
    case CPU_INT8_U8:
        *zero = (int32_t)((uint32_t)(-128 * fixed.point) << 16 | (uint16_t)-fixed.point);
        for (int32_t c = 0; c < job->cols; c += 16) {
            v_store_u8(out + c, v_encode(&fixed, v_load(z + c)));
        }
        break;
    case CPU_INT8_S8:
        *zero = 128 - fixed.point;
        for (int32_t c = 0; c < job->cols; c += 16) {
            v_store_s8((int8_t *)out + c, v_encode(&fixed, v_load(z + c)));
        }
        break;
    case CPU_INT8_S16:
        for (int32_t c = 0; c < job->cols; c += 16) {
            v_store_s16((int16_t *)out + c, v_encode(&fixed, v_load(z + c)), fixed.point);
        }
        break;
    }
}

/* z -> operand in int8: [low, high] on 256 codes. */
static row_code quantise_row(const cpu_finish *job, int32_t r, const row_state *row, const float *z)
{
    row_code code = code_of(row->high - row->low, row->low);
    write_codes(job, (uint8_t *)job->operand + (size_t)r * job->operand_stride, &job->scale[r],
                &job->zero[r], &code, z);
    return code;
}

/* What the code leaves of z, at most half its scale to either side, on 256 codes of its own; rest
 * may be z. */
static void refine_row(const cpu_finish *job, int32_t i, const row_code *code, const float *z,
                       float *rest)
{
    v16 magic = v_set(0x1.8p23f), point = v_set((float)code->point), by = v_set(-code->scale);
    for (int32_t c = 0; c < job->cols; c += 16) {
        v16 whole = v_sub(v_add(v_encode(code, v_load(z + c)), magic), magic);
        v_store(rest + c, v_fma(v_sub(whole, point), by, v_load(z + c)));
    }
    row_code second = code_of(code->scale, -0.5f * code->scale);
    write_codes(job, job->fine.operand + (size_t)i * job->operand_stride, &job->fine.scale[i],
                &job->fine.zero[i], &second, rest);
}

/* z in one code, or in two where r is the next row that has them; rest as in refine_row. */
static void encode_row(const cpu_finish *job, int32_t r, const row_state *row, const float *z,
                       float *rest, int32_t *fine)
{
    row_code code = quantise_row(job, r, row, z);
    if (*fine == job->fine.n || cpu_fine_row(&job->fine, *fine) != r) return;
    refine_row(job, *fine, &code, z, rest);
    *fine = cpu_fine_next(&job->fine, *fine);
}

/* Rows go through each step in fours: a step ends in a sum, a root or a quotient that the next one
 * waits for, and the other rows' work fills the wait. */
static void finish_rows(const cpu_finish *job, int32_t r, int n, int32_t *fine)
{
    row_state rows[CPU_FINISH_ROWS];
    size_t ld = cpu_stride_floats(job->cols);
    ops_norm_kind kind = job->norm != NULL ? job->norm->kind : OPS_NORM_NONE;
    bool quantised = job->operand != NULL && job->operand_dtype == OPS_INT8;
    for (int i = 0; i < n; i++) {
        rows[i] = (row_state){.s = job->row + (size_t)i * ld, .factor = 1.0f};
        begin_row(job, r + i, &rows[i], kind);
    }
    for (int i = 0; i < n && kind != OPS_NORM_NONE; i++) measure_row(job, &rows[i]);
    for (int i = 0; i < n; i++) write_row(job, r + i, &rows[i], kind, quantised);
    for (int i = 0; i < n && quantised; i++) {
        encode_row(job, r + i, &rows[i], rows[i].s, rows[i].s, fine);
    }
}

/* The same where src itself is quantised and nothing else is asked for. */
static void quantise_rows(const cpu_finish *job, int32_t r, int n, int32_t *fine)
{
    row_state rows[CPU_FINISH_ROWS];
    const float *src = job->src + (size_t)(r - job->src_row0) * job->src_ld;
    for (int i = 0; i < n; i++) {
        const float *z = src + (size_t)i * job->src_ld;
        v16 least = v_zero(), most = v_zero();
        for (int32_t c = 0; c < job->cols; c += 16) {
            least = v_min(least, v_load(z + c));
            most = v_max(most, v_load(z + c));
        }
        keep_range(&rows[i], least, most);
    }
    for (int i = 0; i < n; i++) {
        encode_row(job, r + i, &rows[i], src + (size_t)i * job->src_ld, job->row, fine);
    }
}

static void finish(const cpu_finish *job, int32_t row0, int32_t row1)
{
    bool plain = (job->norm == NULL || job->norm->kind == OPS_NORM_NONE) && job->residual == NULL &&
                 job->sum == NULL && job->value == NULL && job->operand != NULL &&
                 job->operand_dtype == OPS_INT8;
    int32_t fine = cpu_fine_from(&job->fine, row0);
    for (int32_t r = row0; r < row1; r += CPU_FINISH_ROWS) {
        int n = row1 - r < CPU_FINISH_ROWS ? row1 - r : CPU_FINISH_ROWS;
        if (plain) {
            quantise_rows(job, r, n, &fine);
        } else {
            finish_rows(job, r, n, &fine);
        }
    }
}

static inline __attribute__((always_inline)) void add_table(float *row, const ops_lookup *table,
                                                            int32_t id, ops_dtype dtype, bool add)
{
    size_t at = (size_t)id * (size_t)table->cols;
    const float *f32 = (const float *)table->data + at;
    const uint16_t *half = (const uint16_t *)table->data + at;
    for (int32_t c = 0; c < table->cols; c += 16) {
        int32_t n = table->cols - c < 16 ? table->cols - c : 16;
        v16 x = dtype == OPS_F32    ? v_load_n(f32 + c, n)
                : dtype == OPS_BF16 ? v_load_bf16_n(half + c, n)
                                    : v_load_f16_n(half + c, n);
        v_store(row + c, add ? v_add(v_load(row + c), x) : x);
    }
}

static void lookup(float *row, const ops_lookup *table, int32_t id, bool add)
{
    switch (table->dtype) {
    case OPS_BF16: add_table(row, table, id, OPS_BF16, add); break;
    case OPS_F16: add_table(row, table, id, OPS_F16, add); break;
    default: add_table(row, table, id, OPS_F32, add); break;
    }
}

/* ---- attention --------------------------------------------------------------------------------
 */

/* Columns of row r that count, relative to first_key: [*low, *high). */
static inline void visible(const cpu_softmax *job, int32_t r, int32_t *low, int32_t *high)
{
    int32_t q = job->first_query + r, from = job->first_key, to = job->n_keys;
    if (job->window > 0) {
        if (q - job->window > from) from = q - job->window;
        if (q + job->window + 1 < to) to = q + job->window + 1;
    }
    if (to > job->end_key) to = job->end_key;
    *low = from - job->first_key;
    *high = to - job->first_key;
}

/* Whether scores become terms (scaled, with a bias) in the first pass; else the exponent's multiply
 * takes the scale along. */
static inline bool softmax_has_terms(const cpu_softmax *job)
{
    return job->bias != NULL || !(job->scale > 0.0f);
}

static inline float softmax_slope(const cpu_softmax *job)
{
    return softmax_has_terms(job) ? LOG2_E : job->scale * LOG2_E;
}

/* The row's largest term, times log2 e. Scores with a bias are replaced by their terms. */
static float softmax_top(const cpu_softmax *job, int32_t r)
{
    float *x = job->scores + (size_t)r * job->ld;
    int32_t low, high;
    visible(job, r, &low, &high);
    int32_t first = low / 16 * 16, last = high > first ? (high - 1) / 16 * 16 : first;
    const v16 none = v_set(-INFINITY);
    v16 most = none;
    if (!softmax_has_terms(job)) {
        for (int32_t c = first; c <= last; c += 16) {
            v16 z = v_load(x + c);
            if (c < low || c + 16 > high) z = v_keep(z, low - c, high - c, none);
            most = v_max(most, z);
        }
        return v_largest(most) * softmax_slope(job);
    }
    const float *bias = NULL;
    if (job->bias != NULL) bias = job->bias + (job->first_key - job->first_query - r);
    for (int32_t c = first; c <= last; c += 16) {
        int32_t from = c < low ? low - c : 0, n = high - c < 16 ? high - c : 16;
        float lanes[16] = {0}; /* the table does not reach past the visible keys */
        for (int32_t l = from; l < n && bias != NULL; l++) lanes[l] = bias[c + l];
        v16 z = v_fma(v_load(x + c), v_set(job->scale), v_load(lanes));
        z = v_keep(z, from, n, none);
        v_store(x + c, z);
        most = v_max(most, z);
    }
    return v_largest(most) * softmax_slope(job);
}

static void softmax_row(const cpu_softmax *job, int32_t r, float largest)
{
    float *x = job->scores + (size_t)r * job->ld;
    uint16_t *half = job->half != NULL ? job->half + (size_t)r * job->half_ld : NULL;
    int32_t low, high, end = job->end_key - job->first_key;
    visible(job, r, &low, &high);
    int32_t first = low / 16 * 16, last = high > first ? (high - 1) / 16 * 16 : first;
    v16 by = v_set(softmax_slope(job)), top = v_set(-largest), total = v_zero();
    for (int32_t c = 0; c < end; c += 16) {
        v16 p = v_zero();
        if (c >= first && c <= last) {
            p = v_exp2_to_126(v_fma(v_load(x + c), by, top));
            if (c < low || c + 16 > high) p = v_keep(p, low - c, high - c, v_zero());
            total = v_add(total, p);
        }
        if (half != NULL) {
            v_store_bf16(half + c, p);
        } else {
            v_store(x + c, p);
        }
    }
    float sum = v_sum(total);
    job->inverse[r] = sum > 0.0f ? 1.0f / sum : 0.0f; /* no key in sight: zeros */
}

static void softmax(const cpu_softmax *job)
{
    /* in two passes, so that no row waits for its own maximum */
    for (int32_t r = 0; r < job->rows; r++) job->inverse[r] = softmax_top(job, r);
    for (int32_t r = 0; r < job->rows; r++) softmax_row(job, r, job->inverse[r]);
}

static void relative(const cpu_relative *job)
{
    for (int32_t r = 0; r < job->rows; r++) {
        float *x = job->scores + (size_t)r * job->ld;
        int32_t q = job->first_query + r;
        for (int32_t k = job->first_key; k < job->end_key; k += 16) {
            int32_t n = job->end_key - k < 16 ? job->end_key - k : 16;
            const int32_t *index = job->index + (q - k);
            v16 add = v_zero();
            if (job->query_table != NULL) {
                add = v_gather_back(job->query_table + (size_t)r * job->table_ld, index, n);
            }
            if (job->key_table != NULL) {
                const float *rows = job->key_table + (size_t)k * job->table_ld;
                add = v_add(add, v_gather_back_rows(rows, (int32_t)job->table_ld, index, n));
            }
            v_store(x + (k - job->first_key), v_add(v_load(x + (k - job->first_key)), add));
        }
    }
}

static void scale_rows(float *value, size_t value_ld, uint16_t *half, size_t half_ld,
                       const float *src, size_t src_ld, const float *factor, int32_t rows,
                       int32_t cols)
{
    for (int32_t r = 0; r < rows; r++) {
        v16 by = v_set(factor[r]);
        for (int32_t c = 0; c < cols; c += 16) {
            int32_t n = cols - c < 16 ? cols - c : 16;
            /* No lane past the row: its neighbour may be a head that another thread writes. */
            v16 y = v_mul(v_load_n(src + (size_t)r * src_ld + c, n), by);
            if (value != NULL) v_store_n(value + (size_t)r * value_ld + c, y, n);
            if (half != NULL) v_store_bf16_n(half + (size_t)r * half_ld + c, y, n);
        }
    }
}

static void rotate(float *out, size_t out_ld, const float *x, size_t x_ld, int32_t rows,
                   int32_t first, int32_t width, const ops_rope *rope)
{
    int32_t half = width / 2;
    for (int32_t r = 0; r < rows; r++) {
        const float *from = x + (size_t)r * x_ld;
        float *to = out + (size_t)r * out_ld;
        const float *cosines = rope->cos + (size_t)(first + r) * (size_t)half;
        const float *sines = rope->sin + (size_t)(first + r) * (size_t)half;
        for (int32_t c = 0; c < half; c += 16) {
            int32_t n = half - c < 16 ? half - c : 16;
            v16 a = v_load_n(from + c, n), b = v_load_n(from + half + c, n);
            v16 co = v_load_n(cosines + c, n), si = v_load_n(sines + c, n);
            v_store_n(to + c, v_sub(v_mul(a, co), v_mul(b, si)), n);
            v_store_n(to + half + c, v_fma(b, co, v_mul(a, si)), n);
        }
    }
}

static void to_half(uint16_t *half, size_t half_ld, const float *x, size_t x_ld, int32_t rows,
                    int32_t width)
{
    for (int32_t r = 0; r < rows; r++) {
        const float *from = x + (size_t)r * x_ld;
        uint16_t *to = half + (size_t)r * half_ld;
        for (int32_t c = 0; c < width; c += 16) {
            int32_t n = width - c < 16 ? width - c : 16;
            int32_t even = n + (n & 1);
            v_store_bf16_n(to + c, v_load_n(from + c, n), even);
        }
    }
}

static void pack_keys(void *panels, const float *keys, size_t ld, int32_t n, int32_t width,
                      bool half)
{
    int32_t steps = half ? (width + 1) / 2 : width;
    for (int32_t j = 0; j < n; j += 16) {
        uint8_t *panel = (uint8_t *)panels + (size_t)(j / 16) * (size_t)steps * 64;
        int32_t rows = n - j < 16 ? n - j : 16;
        const float *from = keys + (size_t)j * ld;
        for (int32_t s = 0; s < steps; s += 16) {
            int32_t count = steps - s < 16 ? steps - s : 16;
            if (half) {
                uint16_t pairs[16][32];
                int32_t w = width - 2 * s < 32 ? width - 2 * s : 32;
                to_half(&pairs[0][0], 32, from + 2 * s, ld, rows, w);
                v_transpose(panel + (size_t)s * 64, pairs, sizeof pairs[0], rows, count);
            } else {
                v_transpose(panel + (size_t)s * 64, from + s, ld * sizeof(float), rows, count);
            }
        }
    }
}

static void pack_values(uint16_t *panels, const float *values, size_t ld, int32_t n, int32_t width)
{
    int32_t pairs = (n + 1) / 2;
    for (int32_t c = 0; c < width; c += 16) {
        int32_t w = width - c < 16 ? width - c : 16;
        uint16_t *out = panels + (size_t)(c / 16) * (size_t)pairs * 32;
        for (int32_t i = 0; i < pairs; i++) {
            const float *even = values + (size_t)(2 * i) * ld + c;
            v16 odd = 2 * i + 1 < n ? v_load_n(even + ld, w) : v_zero();
            v_store_pairs(out + (size_t)i * 32, v_load_n(even, w), odd);
        }
    }
}

/* ---- products of a few rows -------------------------------------------------------------------
 */

/* Rows of x that share one pass over w: enough to hide the latency of an FMA. */
#define DOT_ROWS 4

static inline __attribute__((always_inline)) void dot_block(float *out, size_t out_ld,
                                                            const float *x, size_t x_ld, int n_x,
                                                            const float *w, size_t w_ld, int n_w,
                                                            int32_t k)
{
    v16 acc[DOT_ROWS][2];
    for (int i = 0; i < n_x; i++) {
        for (int j = 0; j < n_w; j++) acc[i][j] = v_zero();
    }
    for (int32_t c = 0; c < k; c += 16) {
        v16 b[2];
        for (int j = 0; j < n_w; j++) b[j] = load_padded(w + (size_t)j * w_ld, c, k);
        for (int i = 0; i < n_x; i++) {
            v16 a = load_padded(x + (size_t)i * x_ld, c, k);
            for (int j = 0; j < n_w; j++) acc[i][j] = v_fma(a, b[j], acc[i][j]);
        }
    }
    for (int i = 0; i < n_x; i++) {
        for (int j = 0; j < n_w; j++) out[(size_t)i * out_ld + (size_t)j] = v_sum(acc[i][j]);
    }
}

static void dots(float *out, size_t out_ld, const float *x, size_t x_ld, int32_t n_x,
                 const float *w, size_t w_ld, int32_t n_w, int32_t k, const float *bias)
{
    for (int32_t j = 0; j < n_w; j += 2) {
        int n = n_w - j < 2 ? 1 : 2;
        const float *wj = w + (size_t)j * w_ld;
        for (int32_t i = 0; i < n_x; i += DOT_ROWS) {
            float *o = out + (size_t)i * out_ld + j;
            const float *xi = x + (size_t)i * x_ld;
            int m = n_x - i < DOT_ROWS ? n_x - i : DOT_ROWS;
            if (m == DOT_ROWS && n == 2) {
                dot_block(o, out_ld, xi, x_ld, DOT_ROWS, wj, w_ld, 2, k);
            } else {
                for (int a = 0; a < m; a++) {
                    for (int b = 0; b < n; b++) {
                        dot_block(o + (size_t)a * out_ld + b, out_ld, xi + (size_t)a * x_ld, x_ld,
                                  1, wj + (size_t)b * w_ld, w_ld, 1, k);
                    }
                }
            }
        }
        for (int32_t i = 0; bias != NULL && i < n_x; i++) {
            for (int b = 0; b < n; b++) out[(size_t)i * out_ld + (size_t)(j + b)] += bias[j + b];
        }
    }
}

#define COMBINE_ROWS 4

static inline __attribute__((always_inline)) void
combine_block(float *out, size_t out_ld, const float *coef, size_t coef_ld, int n_out,
              const float *w, size_t w_ld, int32_t n_w, int n_vectors, int32_t last_n,
              const float *bias)
{
    v16 acc[COMBINE_ROWS][4];
    for (int v = 0; v < n_vectors; v++) {
        int32_t n = v == n_vectors - 1 ? last_n : 16;
        v16 start = bias != NULL ? v_load_n(bias + 16 * v, n) : v_zero();
        for (int i = 0; i < n_out; i++) acc[i][v] = start;
    }
    for (int32_t j = 0; j < n_w; j++) {
        const float *row = w + (size_t)j * w_ld;
        v16 b[4];
        for (int v = 0; v < n_vectors - 1; v++) b[v] = v_load(row + 16 * v);
        b[n_vectors - 1] = last_n == 16 ? v_load(row + 16 * (n_vectors - 1))
                                        : v_load_n(row + 16 * (n_vectors - 1), last_n);
        for (int i = 0; i < n_out; i++) {
            v16 a = v_set(coef[(size_t)i * coef_ld + (size_t)j]);
            for (int v = 0; v < n_vectors; v++) acc[i][v] = v_fma(a, b[v], acc[i][v]);
        }
    }
    for (int i = 0; i < n_out; i++) {
        for (int v = 0; v < n_vectors; v++) {
            v_store_n(out + (size_t)i * out_ld + 16 * v, acc[i][v],
                      v == n_vectors - 1 ? last_n : 16);
        }
    }
}

static void combine(float *out, size_t out_ld, const float *coef, size_t coef_ld, int32_t n_out,
                    const float *w, size_t w_ld, int32_t n_w, int32_t cols, const float *bias)
{
    for (int32_t c = 0; c < cols;) {
        int32_t left = cols - c, width = left >= 64 ? 64 : left < 16 ? left : 16;
        const float *b = bias != NULL ? bias + c : NULL;
        for (int32_t i = 0; i < n_out;) {
            float *o = out + (size_t)i * out_ld + c;
            const float *k = coef + (size_t)i * coef_ld;
            int rows = n_out - i >= COMBINE_ROWS ? COMBINE_ROWS : 1;
            if (rows == COMBINE_ROWS && width == 64) {
                combine_block(o, out_ld, k, coef_ld, COMBINE_ROWS, w + c, w_ld, n_w, 4, 16, b);
            } else if (rows == COMBINE_ROWS) {
                combine_block(o, out_ld, k, coef_ld, COMBINE_ROWS, w + c, w_ld, n_w, 1, width, b);
            } else if (width == 64) {
                combine_block(o, out_ld, k, coef_ld, 1, w + c, w_ld, n_w, 4, 16, b);
            } else {
                combine_block(o, out_ld, k, coef_ld, 1, w + c, w_ld, n_w, 1, width, b);
            }
            i += rows;
        }
        c += width;
    }
}

static void pool(float *out, const float *x, size_t x_ld, int32_t rows, int32_t cols,
                 ops_pool_kind kind)
{
    if (kind == OPS_POOL_LAST) x += (size_t)(rows - 1) * x_ld;
    if (kind == OPS_POOL_FIRST || kind == OPS_POOL_LAST) rows = 1;
    float by = (float)rows;
    if (kind == OPS_POOL_MEAN_SQRT) by = sqrtf(by);
    if (kind == OPS_POOL_WEIGHTED) by = by * (by + 1.0f) / 2.0f;
    bool divided = kind == OPS_POOL_MEAN || kind == OPS_POOL_MEAN_SQRT || kind == OPS_POOL_WEIGHTED;
    for (int32_t c = 0; c < cols; c += 16) {
        v16 acc = v_load(x + c);
        for (int32_t r = 1; r < rows; r++) {
            v16 y = v_load(x + (size_t)r * x_ld + c);
            acc = kind == OPS_POOL_MAX        ? v_max(acc, y)
                  : kind == OPS_POOL_WEIGHTED ? v_add(acc, v_mul(y, v_set((float)(r + 1))))
                                              : v_add(acc, y);
        }
        if (divided) acc = v_div(acc, v_set(by));
        v_store(out + c, acc);
    }
}

static void normalize(float *out, const float *x, int32_t cols)
{
    v16 squares = v_zero();
    for (int32_t c = 0; c < cols; c += 16) {
        v16 a = load_padded(x, c, cols);
        squares = v_fma(a, a, squares);
    }
    float length = sqrtf(v_sum(squares));
    v16 by = v_set(length > 1e-12f ? length : 1e-12f);
    for (int32_t c = 0; c < cols; c += 16) {
        int32_t n = cols - c < 16 ? cols - c : 16;
        v_store_n(out + c, v_div(v_load_n(x + c, n), by), n);
    }
}

#define ROWS_NAME2(isa) cpu_rows_##isa
#define ROWS_NAME(isa) ROWS_NAME2(isa)

extern const cpu_rows ROWS_NAME(V16_ISA);
const cpu_rows ROWS_NAME(V16_ISA) = {
    .activate = activate,
    .finish = finish,
    .lookup = lookup,
    .softmax = softmax,
    .relative = relative,
    .scale_rows = scale_rows,
    .dots = dots,
    .combine = combine,
    .rotate = rotate,
    .to_half = to_half,
    .pack_keys = pack_keys,
    .pack_values = pack_values,
    .pool = pool,
    .normalize = normalize,
};
