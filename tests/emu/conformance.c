/* gpu-conformance: runs every primitive of conformance.cu alone and compares with what the PTX
 * manual says it computes. A plain program on the CUDA driver API: run it on a GPU before anything
 * else (libcuda.so.1 is the default), and on the emulator in the tests, so that both are held to
 * one table.
 *
 *     gpu-conformance [--library libcuda.so.1] [--kernels conformance.fatbin] [NAME...]
 *
 * The expectations are written from the manual, matrix by matrix: fragments are described here in
 * its own terms (groupID, threadID_in_group, element index i), not taken from the emulator. Matrix
 * inputs are small integers, so that results are exact on any hardware; approximate functions have
 * the manual's error bounds. Exit: 0 all equal, 1 differences, 2 usage or no driver. */
#include <fenv.h>
#include <float.h>
#include <limits.h>
#include <math.h>

#include "tests/emu/gpu.h"

#define COUNT 4096
#define MAX_IN (3 * COUNT)

typedef struct run {
    uint32_t in[MAX_IN];
    uint32_t out[COUNT], expected[COUNT];
    uint32_t n_in, n_out, n_threads;
} run;

static uint64_t random_state = 1;
static uint32_t next_random(void)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(random_state >> 32);
}

static float as_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
static uint32_t as_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

/* ---- 16-bit floats, the slow and obvious way --------------------------------------------------
 */

/* value of a binary format with 5 or 8 exponent bits */
static double small_value(uint32_t bits, int exponent_bits, int fraction_bits)
{
    int bias = (1 << (exponent_bits - 1)) - 1;
    uint32_t exponent = bits >> fraction_bits & ((1u << exponent_bits) - 1);
    uint32_t fraction = bits & ((1u << fraction_bits) - 1);
    double sign = bits >> 15 & 1 ? -1 : 1;
    if (exponent == (1u << exponent_bits) - 1)
        return fraction ? (double)NAN : sign * (double)INFINITY;
    if (exponent == 0) return sign * ldexp(fraction, 1 - bias - fraction_bits);
    return sign *
           ldexp((double)(fraction | 1u << fraction_bits), (int)exponent - bias - fraction_bits);
}
/* mode: 0 nearest even, 1 towards zero. Works on the exact (long double) value. */
static uint32_t small_round(long double value, int exponent_bits, int fraction_bits, int mode)
{
    int bias = (1 << (exponent_bits - 1)) - 1, lowest = 1 - bias - fraction_bits, exponent;
    uint32_t sign = signbit(value) ? 0x8000u : 0;
    if (isnan(value)) return 0x7fff;
    value = fabsl(value);
    uint32_t infinity = ((1u << exponent_bits) - 1) << fraction_bits;
    if (isinf(value)) return sign | infinity;
    if (value == 0) return sign;
    frexpl(value, &exponent);
    int unit = exponent - 1 - fraction_bits;
    if (unit < lowest) unit = lowest;
    long double steps = ldexpl(value, -unit);
    long double whole = mode ? truncl(steps) : rintl(steps);
    /* Steps of the smallest unit run on through the exponent, as the encoding does. */
    long double code = whole + ldexpl((long double)(unit - lowest), fraction_bits);
    if (code >= (long double)infinity) return sign | (mode ? infinity - 1 : infinity);
    return sign | (uint32_t)code;
}
static double f16_value(uint32_t bits)
{
    return small_value(bits & 0xffff, 5, 10);
}
static double bf16_value(uint32_t bits)
{
    return small_value(bits & 0xffff, 8, 7);
}
static uint32_t f16_round(long double value)
{
    return small_round(value, 5, 10, 0);
}
static uint32_t bf16_round(long double value)
{
    return small_round(value, 8, 7, 0);
}

/* ---- mma --------------------------------------------------------------------------------------
 */

typedef enum element { F16, BF16, TF32, S8, U8 } element;

typedef struct mma_case {
    const char *name;
    int k;
    element a, b;
    int accumulates_f16, saturates;
} mma_case;

static int element_bits(element e)
{
    return e == TF32 ? 32 : e == S8 || e == U8 ? 8 : 16;
}

/* The manual's fragment of A (16 x k): element number i of a lane's fragment. */
static void a_place(int k, int bits, int lane, int i, int *row, int *column)
{
    int group = lane >> 2, thread = lane % 4;
    if (bits == 16 && k == 16) { /* .m16n8k16: rows for 0<=i<2 || 4<=i<6 */
        *row = (i < 2 || (i >= 4 && i < 6)) ? group : group + 8;
        *column = thread * 2 + (i & 1) + (i < 4 ? 0 : 8);
    } else if (bits == 16) { /* .m16n8k8 */
        *row = i < 2 ? group : group + 8;
        *column = thread * 2 + (i & 1);
    } else if (bits == 8 && k == 32) { /* .m16n8k32 */
        *row = (i < 4 || (i >= 8 && i < 12)) ? group : group + 8;
        *column = thread * 4 + (i & 3) + (i < 8 ? 0 : 16);
    } else if (bits == 8) { /* .m16n8k16 */
        *row = i < 4 ? group : group + 8;
        *column = thread * 4 + (i & 3);
    } else if (k == 8) { /* tf32 .m16n8k8 */
        *row = (i == 0 || i == 2) ? group : group + 8;
        *column = thread + (i < 2 ? 0 : 4);
    } else { /* tf32 .m16n8k4 */
        *row = i == 0 ? group : group + 8;
        *column = thread;
    }
}

static void b_place(int k, int bits, int lane, int i, int *row, int *column)
{
    int group = lane >> 2, thread = lane % 4;
    *column = group;
    if (bits == 16)
        *row = thread * 2 + (i & 1) + (i < 2 ? 0 : 8);
    else if (bits == 8)
        *row = thread * 4 + (i & 3) + (i < 4 ? 0 : 16);
    else
        *row = thread + (i == 0 ? 0 : 4);
    (void)k;
}

static void c_place(int lane, int i, int *row, int *column)
{
    *row = i < 2 ? lane >> 2 : (lane >> 2) + 8;
    *column = lane % 4 * 2 + (i & 1);
}

static uint32_t encode(element e, int value)
{
    switch (e) {
    case F16: return f16_round(value);
    case BF16: return bf16_round(value);
    case TF32: return as_bits((float)value);
    default: return (uint32_t)value & 0xff;
    }
}

/* Small integers; round `variant` 0 is one-hot in A, 1 one-hot in B, later ones random. */
static void fill_mma(const mma_case *m, run *r, int variant)
{
    int a[16][32] = {{0}}, b[32][8] = {{0}}, c[16][8];
    int low_a = m->a == U8 ? 0 : -7, low_b = m->b == U8 ? 0 : -7;
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < m->k; k++) a[i][k] = low_a + (int)(next_random() % 15);
    for (int k = 0; k < m->k; k++)
        for (int j = 0; j < 8; j++) b[k][j] = low_b + (int)(next_random() % 15);
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 8; j++) c[i][j] = variant < 2 ? 0 : (int)(next_random() % 201) - 100;
    if (variant == 0) {
        memset(a, 0, sizeof a);
        a[next_random() % 16][next_random() % (uint32_t)m->k] = 3;
    }
    if (variant == 1) {
        memset(b, 0, sizeof b);
        b[next_random() % (uint32_t)m->k][next_random() % 8] = 5;
    }
    if (m->saturates)
        for (int i = 0; i < 16; i++)
            for (int j = 0; j < 8; j++)
                c[i][j] = next_random() & 1 ? INT_MAX - (int)(next_random() % 50)
                                            : INT_MIN + (int)(next_random() % 50);
    int bits = element_bits(m->a), per_register = 32 / bits;
    int a_registers = 16 * m->k / 32 / per_register, b_registers = m->k * 8 / 32 / per_register;
    int c_registers = m->accumulates_f16 ? 2 : 4;
    memset(r->in, 0, sizeof r->in);
    for (int lane = 0; lane < 32; lane++) {
        for (int i = 0; i < a_registers * per_register; i++) {
            int row, column;
            a_place(m->k, bits, lane, i, &row, &column);
            r->in[i / per_register * 32 + lane] |= encode(m->a, a[row][column])
                                                   << (i % per_register * bits % 32);
        }
        for (int i = 0; i < b_registers * per_register; i++) {
            int row, column;
            b_place(m->k, bits, lane, i, &row, &column);
            r->in[(a_registers + i / per_register) * 32 + lane] |=
                encode(m->b, b[row][column]) << (i % per_register * bits % 32);
        }
        for (int i = 0; i < 4; i++) {
            int row, column;
            c_place(lane, i, &row, &column);
            uint32_t *in = r->in + (a_registers + b_registers) * 32;
            int64_t sum = c[row][column];
            for (int k = 0; k < m->k; k++) sum += a[row][k] * b[k][column];
            if (m->accumulates_f16) {
                in[i / 2 * 32 + lane] |= f16_round(c[row][column]) << (i % 2 * 16);
                if (i % 2 == 0) r->expected[i / 2 * 32 + lane] = 0;
                r->expected[i / 2 * 32 + lane] |= f16_round(sum) << (i % 2 * 16);
            } else if (bits == 8) {
                in[i * 32 + lane] = (uint32_t)c[row][column];
                if (m->saturates) sum = sum > INT_MAX ? INT_MAX : sum < INT_MIN ? INT_MIN : sum;
                r->expected[i * 32 + lane] = (uint32_t)sum;
            } else {
                in[i * 32 + lane] = as_bits((float)c[row][column]);
                r->expected[i * 32 + lane] = as_bits((float)sum);
            }
        }
    }
    r->n_in = (uint32_t)(a_registers + b_registers + c_registers) * 32;
    r->n_out = (uint32_t)c_registers * 32;
    r->n_threads = 32;
}

static const mma_case mma_cases[] = {
    {"mma_m16n8k16_f16_f32", 16, F16, F16, 0, 0},
    {"mma_m16n8k16_bf16_f32", 16, BF16, BF16, 0, 0},
    {"mma_m16n8k16_f16_f16", 16, F16, F16, 1, 0},
    {"mma_m16n8k8_f16_f32", 8, F16, F16, 0, 0},
    {"mma_m16n8k8_bf16_f32", 8, BF16, BF16, 0, 0},
    {"mma_m16n8k8_f16_f16", 8, F16, F16, 1, 0},
    {"mma_m16n8k8_tf32_f32", 8, TF32, TF32, 0, 0},
    {"mma_m16n8k4_tf32_f32", 4, TF32, TF32, 0, 0},
    {"mma_m16n8k32_s8_s8", 32, S8, S8, 0, 0},
    {"mma_m16n8k32_u8_s8", 32, U8, S8, 0, 0},
    {"mma_m16n8k32_s8_u8", 32, S8, U8, 0, 0},
    {"mma_m16n8k32_u8_u8", 32, U8, U8, 0, 0},
    {"mma_m16n8k32_s8_s8_satfinite", 32, S8, S8, 0, 1},
    {"mma_m16n8k16_s8_s8", 16, S8, S8, 0, 0},
    {"mma_m16n8k16_u8_s8", 16, U8, S8, 0, 0},
};

/* ---- matrices in shared memory ----------------------------------------------------------------
 */

typedef struct matrix_case {
    const char *name;
    int n, trans;
} matrix_case;

static void fill_matrix(const matrix_case *m, run *r)
{
    for (int i = 0; i < 128; i++) r->in[i] = next_random();
    /* Matrix i is rows 8 i .. 8 i + 7 of 16 bytes; lane l gets elements 2 (l % 4) and the next of
     * row l / 4, or, transposed, those of column l / 4. */
    const uint8_t *bytes = (const uint8_t *)r->in;
    for (int i = 0; i < m->n; i++)
        for (int lane = 0; lane < 32; lane++) {
            uint16_t pair[2];
            for (int e = 0; e < 2; e++) {
                int row = m->trans ? lane % 4 * 2 + e : lane / 4;
                int column = m->trans ? lane / 4 : lane % 4 * 2 + e;
                memcpy(&pair[e], bytes + (8 * i + row) * 16 + column * 2, 2);
            }
            r->expected[i * 32 + lane] = pair[0] | (uint32_t)pair[1] << 16;
        }
    r->n_in = 128;
    r->n_out = (uint32_t)m->n * 32;
    r->n_threads = 32;
}

static const matrix_case matrix_cases[] = {
    {"ldmatrix_x1", 1, 0},       {"ldmatrix_x2", 2, 0},       {"ldmatrix_x4", 4, 0},
    {"ldmatrix_x1_trans", 1, 1}, {"ldmatrix_x2_trans", 2, 1}, {"ldmatrix_x4_trans", 4, 1},
};

static void fill_movmatrix(run *r)
{
    uint16_t matrix[8][8];
    for (int lane = 0; lane < 32; lane++) {
        r->in[lane] = next_random();
        matrix[lane / 4][lane % 4 * 2] = (uint16_t)r->in[lane];
        matrix[lane / 4][lane % 4 * 2 + 1] = (uint16_t)(r->in[lane] >> 16);
    }
    for (int lane = 0; lane < 32; lane++)
        r->expected[lane] =
            matrix[lane % 4 * 2][lane / 4] | (uint32_t)matrix[lane % 4 * 2 + 1][lane / 4] << 16;
    r->n_in = r->n_out = r->n_threads = 32;
}

typedef struct async_case {
    const char *name;
    uint32_t bytes;
    int zero_fills;
} async_case;

static void fill_async(const async_case *c, run *r)
{
    for (int i = 0; i < 128; i++) r->in[i] = next_random();
    for (int i = 0; i < 32; i++) r->in[128 + i] = next_random() % (c->bytes + 1);
    r->in[128] = 0;
    r->in[129] = c->bytes;
    for (int i = 0; i < 128; i++) r->expected[i] = 0xeeeeeeee;
    uint8_t *to = (uint8_t *)r->expected;
    for (uint32_t lane = 0; lane < 32; lane++) {
        uint32_t n = c->zero_fills ? r->in[128 + lane] : c->bytes;
        memset(to + lane * c->bytes, 0, c->bytes);
        memcpy(to + lane * c->bytes, (const uint8_t *)r->in + lane * c->bytes, n);
    }
    r->n_in = 160;
    r->n_out = 128;
    r->n_threads = 32;
}

static const async_case async_cases[] = {
    {"cp_async_ca_4", 4, 0},   {"cp_async_ca_8", 8, 0},       {"cp_async_ca_16", 16, 0},
    {"cp_async_cg_16", 16, 0}, {"cp_async_ca_4_zfill", 4, 1}, {"cp_async_cg_16_zfill", 16, 1},
};

/* ---- warps ------------------------------------------------------------------------------------
 */

/* For each lane the lane it reads, or -1: its own value, predicate false. Written out by hand from
 * the manual's definitions of segments and clamps. */
static int shuffle_from(const char *name, int l)
{
    if (strcmp(name, "shfl_up_3") == 0) return l >= 3 ? l - 3 : -1;
    if (strcmp(name, "shfl_up_1_of_8") == 0) return l % 8 ? l - 1 : -1;
    if (strcmp(name, "shfl_down_5") == 0) return l + 5 < 32 ? l + 5 : -1;
    if (strcmp(name, "shfl_down_2_of_16") == 0) return l % 16 + 2 < 16 ? l + 2 : -1;
    if (strcmp(name, "shfl_bfly_9") == 0) return l ^ 9;
    if (strcmp(name, "shfl_bfly_6_of_4") == 0) /* mask 0x1c: segments of 4, 6 crosses them */
        return (l ^ 6) <= (l | 3) ? (l ^ 6) : -1;
    if (strcmp(name, "shfl_idx_7") == 0) return 7;
    if (strcmp(name, "shfl_idx_5_of_8") == 0) return l / 8 * 8 + 5;
    return -1; /* shfl_idx_20_clamp_10: 20 > 10 */
}

static const char *const shuffle_names[] = {
    "shfl_up_3",        "shfl_up_1_of_8", "shfl_down_5",     "shfl_down_2_of_16",   "shfl_bfly_9",
    "shfl_bfly_6_of_4", "shfl_idx_7",     "shfl_idx_5_of_8", "shfl_idx_20_clamp_10"};

static void fill_shuffle(const char *name, run *r)
{
    for (int l = 0; l < 32; l++) r->in[l] = next_random();
    for (int l = 0; l < 32; l++) {
        int from = shuffle_from(name, l);
        r->expected[l] = r->in[from < 0 ? l : from];
        r->expected[32 + l] = from >= 0;
    }
    r->n_in = 32;
    r->n_out = 64;
    r->n_threads = 32;
}

static void fill_warp(const char *name, run *r, int variant)
{
    uint32_t all = 0, any = 0, ballot = 0, exclusive = 0, highest = 0, sum = 0;
    int32_t lowest = INT_MAX;
    for (int l = 0; l < 32; l++) {
        r->in[l] = variant == 0 ? 4 : next_random() % 5 - 2;
        r->in[32 + l] = variant < 2 ? 1 : next_random() % 4;
        int32_t a = (int32_t)r->in[l], b = (int32_t)r->in[32 + l];
        ballot |= (uint32_t)(a > b) << l;
        exclusive ^= r->in[l];
        if (r->in[l] > highest) highest = r->in[l];
        if (a < lowest) lowest = a;
        sum += r->in[l];
    }
    all = ballot == 0xffffffffu;
    any = ballot != 0;
    for (int l = 0; l < 32; l++) {
        uint32_t same = 0;
        for (int k = 0; k < 32; k++) same |= (uint32_t)(r->in[k] == r->in[l]) << k;
        uint32_t e = strcmp(name, "vote_all") == 0        ? all
                     : strcmp(name, "vote_any") == 0      ? any
                     : strcmp(name, "vote_uni") == 0      ? all || !any
                     : strcmp(name, "vote_ballot") == 0   ? ballot
                     : strcmp(name, "match_any") == 0     ? same
                     : strcmp(name, "match_all") == 0     ? (same == 0xffffffffu ? same : 0)
                     : strcmp(name, "redux_add_s32") == 0 ? sum
                     : strcmp(name, "redux_min_s32") == 0 ? (uint32_t)lowest
                     : strcmp(name, "redux_max_u32") == 0 ? highest
                                                          : exclusive;
        r->expected[l] = e;
    }
    r->n_in = 64;
    r->n_out = r->n_threads = 32;
}

static const char *const warp_names[] = {
    "vote_all",  "vote_any",      "vote_uni",      "vote_ballot",   "match_any",
    "match_all", "redux_add_s32", "redux_min_s32", "redux_max_u32", "redux_xor_b32"};

/* ---- words ------------------------------------------------------------------------------------
 */

typedef uint32_t (*word_function)(uint32_t a, uint32_t b, uint32_t c);

/* How far a result may be from the expected one. */
typedef enum tolerance {
    EXACT,
    EXACT_OR_NAN, /* any NaN for a NaN */
    ULP_2,        /* ex2.approx: 2 ulp; rcp.approx 1; rsqrt 2^-22.9 */
    ULP_2_FLUSH,  /* the same, subnormal results may be 0 */
    LG2,          /* 2^-22 absolute near 1 */
    TANH          /* 2^-10.987 relative */
} tolerance;

/* What the three input words are. */
typedef enum input { ANY_BITS, FLOATS, SMALL_FLOATS, HALVES, BF16S, INTEGERS, SHIFTS } input;

typedef struct word_case {
    const char *name;
    word_function expected;
    input input;
    tolerance tolerance;
} word_case;

#define WORD(name, expression)                                                                     \
    static uint32_t want_##name(uint32_t a, uint32_t b, uint32_t c)                                \
    {                                                                                              \
        (void)a, (void)b, (void)c;                                                                 \
        return (uint32_t)(expression);                                                             \
    }
#define FA as_float(a)
#define FB as_float(b)
#define FC as_float(c)
#define TWICE(h) ((h) | (h) << 16)

static uint32_t clamp_int(double value, double low, double high)
{
    if (isnan(value)) return 0;
    value = value < low ? low : value > high ? high : value;
    return value < 0 ? (uint32_t)(int64_t)value : (uint32_t)value;
}
static uint32_t rounded_down_fma(float x, float y, float z)
{
    volatile float a = x, b = y, c = z;
    int old = fegetround();
    fesetround(FE_DOWNWARD);
    volatile float d = fmaf(a, b, c);
    fesetround(old);
    return as_bits(d);
}
static uint32_t truncated_float(uint32_t value)
{
    if (value == 0) return 0;
    int top = 31 - __builtin_clz(value);
    if (top > 23) value = value >> (top - 23) << (top - 23);
    return as_bits((float)value);
}
static float flushed(float x)
{
    return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x;
}
/* x y + z, moved by one unit of the long double towards the exact value when it is not exact, so
 * that a later rounding sees on which side of a tie it lies. */
static long double exact_fma(long double x, long double y, long double z)
{
    long double product = x * y, sum = product + z, part = sum - product;
    long double error = (product - (sum - part)) + (z - part);
    int exponent;
    if (isnan(sum) || isinf(sum) || error == 0) return sum;
    if (fmodl(ldexpl(frexpl(sum, &exponent), LDBL_MANT_DIG), 2) != 0) return sum;
    return nextafterl(sum, error < 0 ? -(long double)INFINITY : (long double)INFINITY);
}
static uint32_t pair16(uint32_t a, uint32_t b, uint32_t c, char op, int bf16)
{
    uint32_t out = 0;
    for (int i = 0; i < 2; i++) {
        double x = bf16 ? bf16_value(a >> 16 * i) : f16_value(a >> 16 * i);
        double y = bf16 ? bf16_value(b >> 16 * i) : f16_value(b >> 16 * i);
        double z = bf16 ? bf16_value(c >> 16 * i) : f16_value(c >> 16 * i);
        long double exact = op == '+'   ? (long double)x + y
                            : op == '*' ? (long double)x * y
                            : op == 'f' ? exact_fma(x, y, z)
                            : op == 'n' ? (isnan(x) || isnan(y) ? (long double)NAN : fmax(x, y))
                                        : fmax(x, y);
        if ((op == 'm' || op == 'n') && x == 0 && y == 0)
            exact = signbit(x) && signbit(y) ? -0.0L : 0.0L;
        out |= (bf16 ? bf16_round(exact) : f16_round(exact)) << 16 * i;
    }
    return out;
}
static uint32_t maximum(float x, float y, int nan_wins)
{
    if (isnan(x) || isnan(y)) {
        if (nan_wins || (isnan(x) && isnan(y))) return 0x7fffffff;
        return as_bits(isnan(x) ? y : x);
    }
    if (x == 0 && y == 0) return as_bits(signbit(x) ? y : x);
    return as_bits(x > y ? x : y);
}
static uint32_t minimum(float x, float y)
{
    if (isnan(x) && isnan(y)) return 0x7fffffff;
    if (isnan(x) || isnan(y)) return as_bits(isnan(x) ? y : x);
    if (x == 0 && y == 0) return as_bits(signbit(x) ? x : y);
    return as_bits(x < y ? x : y);
}
static uint32_t permuted(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t out = 0;
    for (int i = 0; i < 4; i++) {
        uint32_t selector = c >> 4 * i & 15, n = selector & 7;
        uint32_t byte = (n < 4 ? a >> 8 * n : b >> 8 * (n - 4)) & 0xff;
        if (selector & 8) byte = byte & 0x80 ? 0xff : 0;
        out |= byte << 8 * i;
    }
    return out;
}
static uint32_t four_from(uint32_t a, uint32_t b, uint32_t c)
{
    uint8_t bytes[8];
    memcpy(bytes, &a, 4);
    memcpy(bytes + 4, &b, 4);
    uint32_t out;
    memcpy(&out, bytes + (c & 3), 4);
    return out;
}
static uint32_t by_table(uint32_t a, uint32_t b, uint32_t c, uint32_t table)
{
    uint32_t out = 0;
    for (int i = 0; i < 32; i++) {
        uint32_t index = (a >> i & 1) * 4 + (b >> i & 1) * 2 + (c >> i & 1);
        out |= (table >> index & 1) << i;
    }
    return out;
}
static uint32_t extracted(uint32_t a, uint32_t position, uint32_t length, int is_signed)
{
    position &= 0xff;
    uint32_t top = position + length - 1;
    uint32_t sign = is_signed ? a >> (top > 31 ? 31 : top) & 1 : 0, out = 0;
    for (uint32_t i = 0; i < 32; i++) {
        uint32_t bit = i < length && position + i < 32 ? a >> (position + i) & 1 : sign;
        out |= bit << i;
    }
    return out;
}
static uint32_t inserted(uint32_t a, uint32_t b, uint32_t position, uint32_t length)
{
    position &= 0xff;
    for (uint32_t i = 0; i < length && position + i < 32; i++) {
        b &= ~(1u << (position + i));
        b |= (a >> i & 1) << (position + i);
    }
    return b;
}
static uint32_t dot_bytes(uint32_t a, uint32_t b, uint32_t c, int a_signed)
{
    for (int i = 0; i < 4; i++) {
        int32_t x = a_signed ? (int8_t)(a >> 8 * i) : (uint8_t)(a >> 8 * i);
        c += (uint32_t)(x * (int8_t)(b >> 8 * i));
    }
    return c;
}

WORD(cvt_rn_f16_f32, TWICE(f16_round(FA)))
WORD(cvt_rn_bf16_f32, TWICE(bf16_round(FA)))
WORD(cvt_rz_f16_f32, TWICE(isinf(FA) ? f16_round(FA) : small_round(FA, 5, 10, 1)))
WORD(cvt_rn_f16x2_f32, f16_round(FA) << 16 | f16_round(FB))
WORD(cvt_rn_bf16x2_f32, bf16_round(FA) << 16 | bf16_round(FB))
WORD(cvt_rn_relu_f16x2_f32,
     f16_round(FA > 0 || isnan(FA) ? FA : 0) << 16 | f16_round(FB > 0 || isnan(FB) ? FB : 0))
WORD(cvt_f32_f16, as_bits((float)f16_value(a)))
WORD(cvt_rni_s32_f32, clamp_int(rint((double)FA), INT_MIN, INT_MAX))
WORD(cvt_rzi_s32_f32, clamp_int(trunc((double)FA), INT_MIN, INT_MAX))
WORD(cvt_rmi_s32_f32, clamp_int(floor((double)FA), INT_MIN, INT_MAX))
WORD(cvt_rzi_u32_f32, clamp_int(trunc((double)FA), 0, UINT_MAX))
WORD(cvt_rni_sat_s8_f32, clamp_int(rint((double)FA), -128, 127))
WORD(cvt_rn_f32_s32, as_bits((float)(int32_t)a))
WORD(cvt_rz_f32_u32, truncated_float(a))
WORD(cvt_pack_s8, c << 16 | (clamp_int((int32_t)a, -128, 127) & 0xff) << 8 |
                      (clamp_int((int32_t)b, -128, 127) & 0xff))
WORD(cvt_s32_s8, (int32_t)(int8_t)a)
WORD(add_f32, as_bits(FA + FB))
WORD(fma_f32, as_bits(fmaf(FA, FB, FC)))
WORD(fma_rm_f32, rounded_down_fma(FA, FB, FC))
WORD(mul_ftz_f32, as_bits(flushed(flushed(FA) * flushed(FB))))
WORD(min_f32, minimum(FA, FB))
WORD(max_f32, maximum(FA, FB, 0))
WORD(max_nan_f32, maximum(FA, FB, 1))
WORD(div_rn_f32, as_bits(FA / FB))
WORD(sqrt_rn_f32, as_bits(sqrtf(FA)))
WORD(ex2_approx_f32, as_bits(exp2f(FA)))
WORD(ex2_approx_ftz_f32, as_bits(flushed(exp2f(FA))))
WORD(lg2_approx_f32, as_bits(log2f(FA)))
WORD(rcp_approx_ftz_f32, as_bits(flushed(1.0f / flushed(FA))))
WORD(rsqrt_approx_f32, as_bits((float)(1.0 / sqrt((double)FA))))
WORD(tanh_approx_f32, as_bits(tanhf(FA)))
WORD(setp_ltu_f32, !(FA >= FB))
WORD(setp_neu_f32, !(FA == FB))
WORD(setp_gt_f32, FA > FB)
WORD(fma_f16x2, pair16(a, b, c, 'f', 0))
WORD(add_f16x2, pair16(a, b, c, '+', 0))
WORD(mul_f16x2, pair16(a, b, c, '*', 0))
WORD(max_f16x2, pair16(a, b, c, 'm', 0))
WORD(fma_bf16x2, pair16(a, b, c, 'f', 1))
WORD(max_nan_bf16x2, pair16(a, b, c, 'n', 1))
WORD(prmt, permuted(a, b, c))
WORD(prmt_f4e, four_from(a, b, c))
WORD(lop3_e8, by_table(a, b, c, 0xe8))
WORD(lop3_1b, by_table(a, b, c, 0x1b))
WORD(shf_l_wrap, (c & 31) ? b << (c & 31) | a >> (32 - (c & 31)) : b)
WORD(shf_r_clamp, c >= 32 ? b : c ? a >> c | b << (32 - c) : a)
WORD(shl_b32, c > 31 ? 0 : a << c)
WORD(shr_s32, (int32_t)a >> (c > 31 ? 31 : c))
WORD(bfe_u32, extracted(a, c, 7, 0))
WORD(bfe_s32, extracted(a, c, 7, 1))
WORD(bfi_b32, inserted(a, b, c, 9))
WORD(dp4a_s32_s32, dot_bytes(a, b, c, 1))
WORD(dp4a_u32_s32, dot_bytes(a, b, c, 0))
WORD(dp2a_lo_s32_u32, c + (uint32_t)((int16_t)a * (int32_t)(b & 0xff)) +
                          (uint32_t)((int16_t)(a >> 16) * (int32_t)(b >> 8 & 0xff)))
WORD(mad_lo_s32, a *b + c)
WORD(mul_hi_s32, (uint64_t)((int64_t)(int32_t)a *(int32_t)b) >> 32)
WORD(mul_hi_u32, (uint64_t)a *b >> 32)
WORD(mul_wide_s16, (int16_t)a *(int16_t)(a >> 16))
WORD(popc, __builtin_popcount(a))
WORD(clz, a ? __builtin_clz(a) : 32)
static uint32_t want_brev(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t out = 0;
    (void)b, (void)c;
    for (int i = 0; i < 32; i++) out |= (a >> i & 1) << (31 - i);
    return out;
}
static uint32_t want_bfind_s32(uint32_t a, uint32_t b, uint32_t c)
{
    (void)b, (void)c;
    if ((int32_t)a < 0) a = ~a;
    for (int i = 31; i >= 0; i--)
        if (a >> i & 1) return (uint32_t)i;
    return 0xffffffffu;
}
WORD(sad_s32, c + (uint32_t)llabs((int64_t)(int32_t)a - (int32_t)b))
WORD(div_s32, (int64_t)(int32_t)a / (int32_t)(b | 1))
WORD(rem_u32, a % (b | 1))
WORD(addc_u32, c + (a + b < a))

#define W(name, input, tolerance)                                                                  \
    {                                                                                              \
#name, want_##name, input, tolerance                                                       \
    }
static const word_case word_cases[] = {
    W(cvt_rn_f16_f32, FLOATS, EXACT),
    W(cvt_rn_bf16_f32, FLOATS, EXACT),
    W(cvt_rz_f16_f32, FLOATS, EXACT),
    W(cvt_rn_f16x2_f32, FLOATS, EXACT),
    W(cvt_rn_bf16x2_f32, FLOATS, EXACT),
    W(cvt_rn_relu_f16x2_f32, FLOATS, EXACT),
    W(cvt_f32_f16, HALVES, EXACT_OR_NAN),
    W(cvt_rni_s32_f32, FLOATS, EXACT),
    W(cvt_rzi_s32_f32, FLOATS, EXACT),
    W(cvt_rmi_s32_f32, FLOATS, EXACT),
    W(cvt_rzi_u32_f32, FLOATS, EXACT),
    W(cvt_rni_sat_s8_f32, FLOATS, EXACT),
    W(cvt_rn_f32_s32, ANY_BITS, EXACT),
    W(cvt_rz_f32_u32, ANY_BITS, EXACT),
    W(cvt_pack_s8, INTEGERS, EXACT),
    W(cvt_s32_s8, ANY_BITS, EXACT),
    W(add_f32, FLOATS, EXACT_OR_NAN),
    W(fma_f32, FLOATS, EXACT_OR_NAN),
    W(fma_rm_f32, FLOATS, EXACT_OR_NAN),
    W(mul_ftz_f32, FLOATS, EXACT_OR_NAN),
    W(min_f32, FLOATS, EXACT_OR_NAN),
    W(max_f32, FLOATS, EXACT_OR_NAN),
    W(max_nan_f32, FLOATS, EXACT_OR_NAN),
    W(div_rn_f32, FLOATS, EXACT_OR_NAN),
    W(sqrt_rn_f32, FLOATS, EXACT_OR_NAN),
    W(ex2_approx_f32, SMALL_FLOATS, ULP_2),
    W(ex2_approx_ftz_f32, SMALL_FLOATS, ULP_2_FLUSH),
    W(lg2_approx_f32, FLOATS, LG2),
    W(rcp_approx_ftz_f32, FLOATS, ULP_2_FLUSH),
    W(rsqrt_approx_f32, FLOATS, ULP_2),
    W(tanh_approx_f32, SMALL_FLOATS, TANH),
    W(setp_ltu_f32, FLOATS, EXACT),
    W(setp_neu_f32, FLOATS, EXACT),
    W(setp_gt_f32, FLOATS, EXACT),
    W(fma_f16x2, HALVES, EXACT),
    W(add_f16x2, HALVES, EXACT),
    W(mul_f16x2, HALVES, EXACT),
    W(max_f16x2, HALVES, EXACT),
    W(fma_bf16x2, BF16S, EXACT),
    W(max_nan_bf16x2, BF16S, EXACT),
    W(prmt, ANY_BITS, EXACT),
    W(prmt_f4e, ANY_BITS, EXACT),
    W(lop3_e8, ANY_BITS, EXACT),
    W(lop3_1b, ANY_BITS, EXACT),
    W(shf_l_wrap, SHIFTS, EXACT),
    W(shf_r_clamp, SHIFTS, EXACT),
    W(shl_b32, SHIFTS, EXACT),
    W(shr_s32, SHIFTS, EXACT),
    W(bfe_u32, SHIFTS, EXACT),
    W(bfe_s32, SHIFTS, EXACT),
    W(bfi_b32, SHIFTS, EXACT),
    W(dp4a_s32_s32, ANY_BITS, EXACT),
    W(dp4a_u32_s32, ANY_BITS, EXACT),
    W(dp2a_lo_s32_u32, ANY_BITS, EXACT),
    W(mad_lo_s32, ANY_BITS, EXACT),
    W(mul_hi_s32, ANY_BITS, EXACT),
    W(mul_hi_u32, ANY_BITS, EXACT),
    W(mul_wide_s16, ANY_BITS, EXACT),
    W(popc, ANY_BITS, EXACT),
    W(clz, ANY_BITS, EXACT),
    W(brev, ANY_BITS, EXACT),
    W(bfind_s32, ANY_BITS, EXACT),
    W(sad_s32, ANY_BITS, EXACT),
    W(div_s32, ANY_BITS, EXACT),
    W(rem_u32, ANY_BITS, EXACT),
    W(addc_u32, ANY_BITS, EXACT),
};

static uint32_t draw(input kind, int word)
{
    static const uint32_t edges[] = {0,          1,          0x80000000, 0xffffffff, 0x7fffffff,
                                     0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000,
                                     0x00800000, 0x007fffff, 0x477fe000, 0x477ff000, 0x33000000,
                                     0x33000001, 0x387fc000, 0x4f000000, 0xcf000000, 0x4f800000};
    static const uint16_t halves[] = {0,      0x8000, 1,      0x3ff,  0x400,
                                      0x3c00, 0xbc00, 0x7bff, 0xfbff, 0x7c00,
                                      0xfc00, 0x7e00, 0x3c01, 0x0001, 0x83ff};
    uint32_t any = next_random();
    switch (kind) {
    case FLOATS:
        if (any % 8 == 0) return edges[next_random() % (sizeof edges / sizeof edges[0])];
        if (any % 8 < 5) /* magnitudes that meet */
            return (any & 0x80000000u) | ((120 + next_random() % 16) << 23) | (next_random() >> 9);
        return any;
    case SMALL_FLOATS:
        return as_bits(((float)(next_random() >> 8) / 16777216.0f - 0.5f) *
                       (any % 8 ? 20.0f : 290.0f));
    case HALVES:
    case BF16S: {
        uint32_t out = 0;
        for (int i = 0; i < 2; i++) {
            uint32_t h = next_random() % 8 == 0
                             ? halves[next_random() % (sizeof halves / sizeof halves[0])]
                             : next_random() & 0xffff;
            if (next_random() % 2 && kind == HALVES)
                h = (h & 0x83ff) | ((10 + next_random() % 10) << 10);
            if (next_random() % 2 && kind == BF16S)
                h = (h & 0x807f) | ((120 + next_random() % 12) << 7);
            out |= h << 16 * i;
        }
        return out;
    }
    case INTEGERS: return next_random() % 601 - 300;
    case SHIFTS: return word == 2 ? next_random() % 70 : any;
    default: return any % 16 == 0 ? edges[next_random() % (sizeof edges / sizeof edges[0])] : any;
    }
}

static void fill_words(const word_case *c, run *r)
{
    for (int word = 0; word < 3; word++)
        for (int i = 0; i < COUNT; i++) r->in[word * COUNT + i] = draw(c->input, word);
    for (int i = 0; i < COUNT; i++)
        r->expected[i] = c->expected(r->in[i], r->in[COUNT + i], r->in[2 * COUNT + i]);
    r->n_in = 3 * COUNT;
    r->n_out = COUNT;
    r->n_threads = 256;
}

static int64_t ordered(uint32_t bits)
{
    return bits & 0x80000000u ? -(int64_t)(bits & 0x7fffffffu) : (int64_t)bits;
}

static int is_close(uint32_t got, uint32_t want, tolerance t)
{
    if (got == want) return 1;
    if (t == EXACT) return 0;
    float x = as_float(got), y = as_float(want);
    if (isnan(y)) return isnan(x);
    if (t == EXACT_OR_NAN) return 0;
    if (t == ULP_2_FLUSH && fabsf(y) < 0x1.8p-126f && x == 0) return 1;
    if (t == LG2 && fabs((double)x - y) <= 0x1p-21) return 1;
    if (t == TANH) return fabs((double)x - y) <= 0x1p-10 * fabs((double)y) + 1e-7;
    int64_t apart = ordered(got) - ordered(want);
    return apart >= -4 && apart <= 4; /* the reference itself may be off by one */
}

/* ---- blocks -----------------------------------------------------------------------------------
 */

static const char *const block_names[] = {"bar_red_popc", "atom_shared_add", "bar_named",
                                          "cp_async_groups", "movmatrix_trans"};

static void fill_block(const char *name, run *r)
{
    uint32_t odd = 0, bins[16] = {0};
    for (int i = 0; i < 256; i++) {
        r->in[i] = next_random();
        odd += r->in[i] & 1;
        bins[r->in[i] & 15] += r->in[i] >> 8;
    }
    r->n_in = r->n_out = r->n_threads = 256;
    if (strcmp(name, "bar_red_popc") == 0) {
        for (int i = 0; i < 256; i++) r->expected[i] = odd;
    } else if (strcmp(name, "atom_shared_add") == 0) {
        memcpy(r->expected, bins, sizeof bins);
        r->n_out = 16;
    } else if (strcmp(name, "bar_named") == 0) {
        for (int i = 0; i < 256; i++) r->expected[i] = i < 128 ? 1 : r->in[i - 128];
    } else if (strcmp(name, "cp_async_groups") == 0) {
        memcpy(r->expected, r->in, 128 * sizeof r->in[0]);
        r->n_in = r->n_out = 128;
        r->n_threads = 32;
    } else {
        fill_movmatrix(r);
    }
}

/* ---- the program ------------------------------------------------------------------------------
 */

typedef struct bench {
    gpu g;
    gpu_handle module;
    gpu_address in, out;
    int n_run, n_failed;
    char **only;
    int n_only;
} bench;

static int is_wanted(const bench *b, const char *name)
{
    for (int i = 0; i < b->n_only; i++)
        if (strcmp(b->only[i], name) == 0) return 1;
    return b->n_only == 0;
}

static int fail_call(bench *b, const char *name, int result)
{
    const char *text = "?";
    b->g.cuGetErrorName(result, &text);
    printf("FAIL %s: %s (%d)\n", name, text ? text : "?", result);
    b->n_failed++;
    return 0;
}

static int execute(bench *b, const char *name, run *r, tolerance t)
{
    gpu_handle function;
    gpu *g = &b->g;
    b->n_run++;
    memset(r->out, 0xcc, sizeof r->out);
    int result = g->cuModuleGetFunction(&function, b->module, name);
    if (result == 0) result = g->cuMemcpyHtoD_v2(b->in, r->in, sizeof r->in);
    if (result == 0) result = g->cuMemcpyHtoD_v2(b->out, r->out, sizeof r->out);
    void *arguments[] = {&b->in, &b->out};
    if (result == 0)
        result = g->cuLaunchKernel(function, 1, 1, 1, r->n_threads, 1, 1, 0, NULL, arguments, NULL);
    if (result == 0) result = g->cuCtxSynchronize();
    if (result == 0) result = g->cuMemcpyDtoH_v2(r->out, b->out, r->n_out * sizeof r->out[0]);
    if (result != 0) return fail_call(b, name, result);
    for (uint32_t i = 0; i < r->n_out; i++) {
        if (is_close(r->out[i], r->expected[i], t)) continue;
        printf("FAIL %s: word %u is 0x%08x, expected 0x%08x", name, i, r->out[i], r->expected[i]);
        if (r->n_in == 3 * COUNT)
            printf(" from 0x%08x 0x%08x 0x%08x", r->in[i], r->in[COUNT + i], r->in[2 * COUNT + i]);
        printf("\n");
        b->n_failed++;
        return 0;
    }
    return 1;
}

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static void run_all(bench *b, run *r)
{
    for (size_t i = 0; i < LENGTH(mma_cases); i++)
        for (int variant = 0; variant < 40 && is_wanted(b, mma_cases[i].name); variant++) {
            fill_mma(&mma_cases[i], r, variant < 16 ? 0 : variant < 32 ? 1 : 2);
            if (!execute(b, mma_cases[i].name, r, EXACT)) break;
        }
    for (size_t i = 0; i < LENGTH(matrix_cases); i++)
        if (is_wanted(b, matrix_cases[i].name)) {
            fill_matrix(&matrix_cases[i], r);
            execute(b, matrix_cases[i].name, r, EXACT);
        }
    for (size_t i = 0; i < LENGTH(async_cases); i++)
        if (is_wanted(b, async_cases[i].name)) {
            fill_async(&async_cases[i], r);
            execute(b, async_cases[i].name, r, EXACT);
        }
    for (size_t i = 0; i < LENGTH(shuffle_names); i++)
        if (is_wanted(b, shuffle_names[i])) {
            fill_shuffle(shuffle_names[i], r);
            execute(b, shuffle_names[i], r, EXACT);
        }
    for (size_t i = 0; i < LENGTH(warp_names); i++)
        for (int variant = 0; variant < 4 && is_wanted(b, warp_names[i]); variant++) {
            fill_warp(warp_names[i], r, variant);
            if (!execute(b, warp_names[i], r, EXACT)) break;
        }
    for (size_t i = 0; i < LENGTH(word_cases); i++)
        if (is_wanted(b, word_cases[i].name)) {
            fill_words(&word_cases[i], r);
            execute(b, word_cases[i].name, r, word_cases[i].tolerance);
        }
    for (size_t i = 0; i < LENGTH(block_names); i++)
        if (is_wanted(b, block_names[i])) {
            fill_block(block_names[i], r);
            execute(b, block_names[i], r, EXACT);
        }
}

static int usage(FILE *to)
{
    fprintf(
        to,
        "usage: gpu-conformance [--library PATH] [--kernels FATBIN] [NAME...]\n"
        "Runs every GPU primitive that crank uses alone and compares with the PTX manual.\n"
        "example, on a GPU:       gpu-conformance --kernels build/release/emu/conformance.fatbin\n"
        "example, on the emulator: gpu-conformance --library build/release/libcrank_emu.so\n"
        "                          --kernels build/release/emu/conformance.fatbin\n");
    return to == stderr ? 2 : 0;
}

int main(int argc, char **argv)
{
    const char *library = "libcuda.so.1", *kernels = "conformance.fatbin";
    static bench b;
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "--help") == 0) return usage(stdout);
        if (i + 1 == argc) return usage(stderr);
        if (strcmp(argv[i], "--library") == 0)
            library = argv[++i];
        else if (strcmp(argv[i], "--kernels") == 0)
            kernels = argv[++i];
        else
            return usage(stderr);
    }
    b.only = argv + i;
    b.n_only = argc - i;
    char *image = gpu_read_file(kernels);
    run *r = calloc(1, sizeof *r);
    if (image == NULL || r == NULL) {
        fprintf(stderr, "%s cannot be read\n", kernels);
        free(image);
        free(r);
        return 2;
    }
    char device[128] = "";
    int result = gpu_open(&b.g, library) ? -1 : gpu_start(&b.g);
    if (result == 0) result = b.g.cuDeviceGetName(device, sizeof device, 0);
    if (result == 0) result = b.g.cuModuleLoadData(&b.module, image);
    if (result == 0) result = b.g.cuMemAlloc_v2(&b.in, sizeof r->in);
    if (result == 0) result = b.g.cuMemAlloc_v2(&b.out, sizeof r->out);
    if (result != 0) {
        fprintf(stderr, "%s: error %d before the first kernel\n", library, result);
    } else {
        run_all(&b, r);
        printf("%s: %d primitive runs, %d failed\n", device, b.n_run, b.n_failed);
        b.g.cuMemFree_v2(b.in);
        b.g.cuMemFree_v2(b.out);
        b.g.cuModuleUnload(b.module);
        b.g.cuDevicePrimaryCtxRelease_v2(0);
    }
    free(image);
    free(r);
    return result != 0 ? 2 : b.n_failed ? 1 : 0;
}
