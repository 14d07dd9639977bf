/* f32, f64, f16 and bf16 arithmetic and the approximate functions. Source: PTX ISA 9.0, sections
 * 9.7.3 (f32, f64), 9.7.4 (half precision). NaN results are canonical (0x7fffffff), as the hardware
 * writes them. The approximate functions are more exact than a GPU's: they are computed in double
 * and rounded once, except lg2, sin and cos, which are the C library's. */
#include "kernels/emu/exec_lanes.h"
#include "kernels/emu/half.h"

static inline float canonical(float x)
{
    return x != x ? float_from_bits(0x7fffffffu) : x;
}
static inline float flush(float x)
{
    uint32_t bits = bits_from_float(x);
    return (bits & 0x7f800000u) ? x : float_from_bits(bits & 0x80000000u);
}
static inline float saturate(float x)
{
    return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f; /* NaN gives 0 */
}

/* ---- f32, f64 ---------------------------------------------------------------------------------
 */

/* Four forms of an f32 operation: plain, .ftz, .sat, .ftz.sat. */
#define F32_FORMS_2(name, expression)                                                              \
    static inline float name##_of(float x, float y)                                                \
    {                                                                                              \
        return expression;                                                                         \
    }                                                                                              \
    DEFINE_BINARY(name##_f32, float, float, float, canonical(name##_of(a[l], b[l])))               \
    DEFINE_BINARY(name##_ftz, float, float, float,                                                 \
                  canonical(flush(name##_of(flush(a[l]), flush(b[l])))))                           \
    DEFINE_BINARY(name##_sat, float, float, float, saturate(name##_of(a[l], b[l])))                \
    DEFINE_BINARY(name##_ftz_sat, float, float, float,                                             \
                  saturate(flush(name##_of(flush(a[l]), flush(b[l])))))
F32_FORMS_2(add, x + y)
F32_FORMS_2(sub, x - y)
F32_FORMS_2(mul, x *y)

DEFINE_TERNARY(fma_f32, float, float, float, float, canonical(fmaf(a[l], b[l], c[l])))
DEFINE_TERNARY(fma_ftz, float, float, float, float,
               canonical(flush(fmaf(flush(a[l]), flush(b[l]), flush(c[l])))))
DEFINE_TERNARY(fma_sat, float, float, float, float, saturate(fmaf(a[l], b[l], c[l])))
DEFINE_TERNARY(fma_ftz_sat, float, float, float, float,
               saturate(flush(fmaf(flush(a[l]), flush(b[l]), flush(c[l])))))

#define F32_FORMS_1(name, expression)                                                              \
    static inline float name##_of(float x)                                                         \
    {                                                                                              \
        return expression;                                                                         \
    }                                                                                              \
    DEFINE_UNARY(name##_f32, float, float, canonical(name##_of(a[l])))                             \
    DEFINE_UNARY(name##_ftz, float, float, canonical(flush(name##_of(flush(a[l])))))
static inline float divide_of(float x, float y)
{
    return x / y;
}
DEFINE_BINARY(divide_f32, float, float, float, canonical(divide_of(a[l], b[l])))
DEFINE_BINARY(divide_ftz, float, float, float,
              canonical(flush(divide_of(flush(a[l]), flush(b[l])))))
F32_FORMS_1(rcp, 1.0f / x)
F32_FORMS_1(square_root, sqrtf(x))
F32_FORMS_1(rsqrt, (float)(1.0 / sqrt((double)x)))
F32_FORMS_1(lg2, log2f(x))
F32_FORMS_1(sine, sinf(x))
F32_FORMS_1(cosine, cosf(x))

static inline double exp2_double(double x)
{
    /* 2^x = 2^n * e^(f ln 2), |f| <= 1/2; the Taylor series to f^9 is exact to 2^-34. */
    double n = (x + 0x1.8p52) - 0x1.8p52, y = (x - n) * 0.69314718055994530942;
    double p = 1.0 / 362880;
    p = p * y + 1.0 / 40320;
    p = p * y + 1.0 / 5040;
    p = p * y + 1.0 / 720;
    p = p * y + 1.0 / 120;
    p = p * y + 1.0 / 24;
    p = p * y + 1.0 / 6;
    p = p * y + 0.5;
    p = p * y + 1.0;
    p = p * y + 1.0;
    return p * double_from_bits((uint64_t)((int64_t)n + 1023) << 52);
}
static inline float exp2_of(float x)
{
    /* Outside of this the result is 0 or infinity; inside, 2^n stays normal in a double. */
    double within = x < -200.0f ? -200.0 : x > 200.0f ? 200.0 : (double)x;
    float y = (float)exp2_double(x == x ? within : 0.0);
    return x == x ? y : x;
}
DEFINE_UNARY(ex2_f32, float, float, canonical(exp2_of(a[l])))
DEFINE_UNARY(ex2_ftz, float, float, canonical(flush(exp2_of(flush(a[l])))))

static inline float tanh_of(float x)
{
    double within = x < -20.0f ? -20.0 : x > 20.0f ? 20.0 : (double)x;
    double e = exp2_double((x == x ? within : 0.0) * 2.88539008177792681472); /* e^2x */
    double series = within - within * within * within / 3;
    double y = within > -1e-3 && within < 1e-3 ? series : 1.0 - 2.0 / (e + 1.0);
    return x == x ? (float)y : x;
}
DEFINE_UNARY(tanh_f32, float, float, canonical(tanh_of(a[l])))

static inline float min_of(float x, float y)
{
    if (x != x) return y;
    if (y != y) return x;
    if (x == y) return bits_from_float(x) >> 31 ? x : y; /* -0 is less than +0 */
    return x < y ? x : y;
}
static inline float max_of(float x, float y)
{
    if (x != x) return y;
    if (y != y) return x;
    if (x == y) return bits_from_float(x) >> 31 ? y : x;
    return x > y ? x : y;
}
static inline float nan_or(float x, float y, float picked)
{
    return x != x || y != y ? float_from_bits(0x7fffffffu) : picked;
}
DEFINE_BINARY(min_f32, float, float, float, canonical(min_of(a[l], b[l])))
DEFINE_BINARY(max_f32, float, float, float, canonical(max_of(a[l], b[l])))
DEFINE_BINARY(min_ftz, float, float, float, canonical(min_of(flush(a[l]), flush(b[l]))))
DEFINE_BINARY(max_ftz, float, float, float, canonical(max_of(flush(a[l]), flush(b[l]))))
DEFINE_BINARY(min_nan, float, float, float, nan_or(a[l], b[l], min_of(a[l], b[l])))
DEFINE_BINARY(max_nan, float, float, float, nan_or(a[l], b[l], max_of(a[l], b[l])))
DEFINE_UNARY(neg_f32, uint32_t, uint32_t, a[l] ^ 0x80000000u)
DEFINE_UNARY(abs_f32, uint32_t, uint32_t, a[l] & 0x7fffffffu)
DEFINE_UNARY(neg_ftz, float, float, -flush(a[l]))
DEFINE_UNARY(abs_ftz, float, float, fabsf(flush(a[l])))
/* copysign.f32 d, a, b: the magnitude of b with the sign of a. */
DEFINE_BINARY(copysign_f32, uint32_t, uint32_t, uint32_t,
              (a[l] & 0x80000000u) | (b[l] & 0x7fffffffu))

DEFINE_BINARY(add_f64, double, double, double, a[l] + b[l])
DEFINE_BINARY(sub_f64, double, double, double, a[l] - b[l])
DEFINE_BINARY(mul_f64, double, double, double, a[l] * b[l])
DEFINE_BINARY(div_f64, double, double, double, a[l] / b[l])
DEFINE_TERNARY(fma_f64, double, double, double, double, fma(a[l], b[l], c[l]))
DEFINE_UNARY(sqrt_f64, double, double, sqrt(a[l]))
DEFINE_UNARY(rcp_f64, double, double, 1.0 / a[l])
DEFINE_UNARY(rsqrt_f64, double, double, 1.0 / sqrt(a[l]))
DEFINE_BINARY(min_f64, double, double, double, fmin(a[l], b[l]))
DEFINE_BINARY(max_f64, double, double, double, fmax(a[l], b[l]))
DEFINE_UNARY(neg_f64, uint64_t, uint64_t, a[l] ^ UINT64_C(1) << 63)
DEFINE_UNARY(abs_f64, uint64_t, uint64_t, a[l] & ~(UINT64_C(1) << 63))
DEFINE_BINARY(copysign_f64, uint64_t, uint64_t, uint64_t,
              (a[l] & UINT64_C(1) << 63) | (b[l] & ~(UINT64_C(1) << 63)))

#define TEST_PROPERTY(name, U, expression)                                                         \
    static void name(warp *w, const insn *in, uint32_t mask)                                       \
    {                                                                                              \
        SRC(U, a, 1);                                                                              \
        uint32_t bits = 0;                                                                         \
        LANE_LOOP bits |= (uint32_t)(expression) << l;                                             \
        set_predicate(w, in->r[0], mask, bits);                                                    \
    }
#define TEST_ROWS_OF(type, U, exponent, fraction)                                                  \
    TEST_PROPERTY(finite_##type, U, (a[l] & (exponent)) != (exponent))                             \
    TEST_PROPERTY(infinite_##type, U, (a[l] & ((exponent) | (fraction))) == (exponent))            \
    TEST_PROPERTY(notanumber_##type, U, (a[l] & ((exponent) | (fraction))) > (exponent))           \
    TEST_PROPERTY(number_##type, U, (a[l] & ((exponent) | (fraction))) <= (exponent))              \
    TEST_PROPERTY(normal_##type, U, (a[l] & (exponent)) != (exponent) && (a[l] & (exponent)) != 0) \
    TEST_PROPERTY(subnormal_##type, U, (a[l] & (exponent)) == 0 && (a[l] & (fraction)) != 0)
TEST_ROWS_OF(f32, uint32_t, 0x7f800000u, 0x007fffffu)
TEST_ROWS_OF(f64, uint64_t, UINT64_C(0x7ff) << 52, (UINT64_C(1) << 52) - 1)

/* ---- f16, bf16 --------------------------------------------------------------------------------
 */

/* The two halves of a register as floats. in->flags & INSN_TRANS is not used here; `aux` bits:
 * 1 bf16, 2 two elements, 4 saturate, 8 relu, 16 NaN wins (min, max). */
enum { HALF_BF16 = 1, HALF_PAIR = 2, HALF_SAT = 4, HALF_RELU = 8, HALF_NAN = 16 };

typedef struct half_rows {
    float x[2][WARP_LANES];
} half_rows;

static inline void half_read(const warp *w, uint32_t place, unsigned form, half_rows *out)
{
    uint16_t part[2][WARP_LANES];
    if (form & HALF_PAIR) {
        const uint32_t *row = ROW(uint32_t, place);
        LANE_LOOP part[0][l] = (uint16_t)row[l];
        LANE_LOOP part[1][l] = (uint16_t)(row[l] >> 16);
    } else {
        memcpy(part[0], ROW(uint16_t, place), sizeof part[0]);
    }
    for (int i = 0; i < ((form & HALF_PAIR) ? 2 : 1); i++) {
        if (form & HALF_BF16)
            bf16s_to_floats(out->x[i], part[i]);
        else
            halves_to_floats(out->x[i], part[i]);
    }
}

static inline void half_write(warp *w, const insn *in, uint32_t mask, unsigned form, half_rows *x)
{
    uint16_t part[2][WARP_LANES];
    int n = (form & HALF_PAIR) ? 2 : 1;
    for (int i = 0; i < n; i++) {
        float *v = x->x[i];
        if (form & HALF_SAT) LANE_LOOP v[l] = saturate(v[l]);
        if (form & HALF_RELU) LANE_LOOP v[l] = v[l] < 0 ? 0.0f : v[l];
        if (form & HALF_BF16)
            floats_to_bf16s(part[i], v);
        else
            floats_to_halves(part[i], v);
    }
    if (form & HALF_PAIR)
        LANE_STORE(uint32_t, part[0][l] | (uint32_t)part[1][l] << 16);
    else
        LANE_STORE(uint16_t, part[0][l]);
}

#define HALF_UNARY_BODY(name, expression)                                                          \
    static inline void name##_half(warp *w, const insn *in, uint32_t mask, unsigned form)          \
    {                                                                                              \
        half_rows a;                                                                               \
        half_read(w, in->r[1], form, &a);                                                          \
        for (int i = 0; i < ((form & HALF_PAIR) ? 2 : 1); i++) LANE_LOOP                           \
            {                                                                                      \
                float x = a.x[i][l];                                                               \
                a.x[i][l] = (expression);                                                          \
            }                                                                                      \
        half_write(w, in, mask, form, &a);                                                         \
    }
#define HALF_BINARY_BODY(name, expression)                                                         \
    static inline void name##_half(warp *w, const insn *in, uint32_t mask, unsigned form)          \
    {                                                                                              \
        half_rows a, b;                                                                            \
        half_read(w, in->r[1], form, &a);                                                          \
        half_read(w, in->r[2], form, &b);                                                          \
        for (int i = 0; i < ((form & HALF_PAIR) ? 2 : 1); i++) LANE_LOOP                           \
            {                                                                                      \
                float x = a.x[i][l], y = b.x[i][l];                                                \
                a.x[i][l] = (expression);                                                          \
            }                                                                                      \
        half_write(w, in, mask, form, &a);                                                         \
    }
/* 24 bits are enough to round sums and products of 11-bit numbers twice without harm. */
HALF_BINARY_BODY(add, x + y)
HALF_BINARY_BODY(sub, x - y)
HALF_BINARY_BODY(mul, x *y)
HALF_BINARY_BODY(min, (form & HALF_NAN) ? nan_or(x, y, min_of(x, y)) : min_of(x, y))
HALF_BINARY_BODY(max, (form & HALF_NAN) ? nan_or(x, y, max_of(x, y)) : max_of(x, y))
HALF_UNARY_BODY(ex2, exp2_of(x))
HALF_UNARY_BODY(tanh, tanh_of(x))

static inline void fma_half(warp *w, const insn *in, uint32_t mask, unsigned form)
{
    half_rows a, b, c;
    half_read(w, in->r[1], form, &a);
    half_read(w, in->r[2], form, &b);
    half_read(w, in->r[3], form, &c);
    for (int i = 0; i < ((form & HALF_PAIR) ? 2 : 1); i++)
        LANE_LOOP a.x[i][l] = double_to_float_odd(
            half_fma_odd((double)a.x[i][l], (double)b.x[i][l], (double)c.x[i][l]));
    half_write(w, in, mask, form, &a);
}

#define HALF_FORM(name, suffix, form)                                                              \
    static void name##_##suffix(warp *w, const insn *in, uint32_t mask)                            \
    {                                                                                              \
        name##_half(w, in, mask, form);                                                            \
    }
#define HALF_TYPES(name, tag, extra)                                                               \
    HALF_FORM(name, f16##tag, extra)                                                               \
    HALF_FORM(name, f16x2##tag, HALF_PAIR | extra)                                                 \
    HALF_FORM(name, bf16##tag, HALF_BF16 | extra)                                                  \
    HALF_FORM(name, bf16x2##tag, HALF_BF16 | HALF_PAIR | extra)
HALF_TYPES(add, , 0)
HALF_TYPES(sub, , 0)
HALF_TYPES(mul, , 0)
HALF_TYPES(fma, , 0)
HALF_TYPES(min, , 0)
HALF_TYPES(max, , 0)
HALF_TYPES(ex2, , 0)
HALF_TYPES(tanh, , 0)
HALF_TYPES(fma, _relu, HALF_RELU)
HALF_TYPES(min, _nan, HALF_NAN)
HALF_TYPES(max, _nan, HALF_NAN)
HALF_FORM(add, f16_sat, HALF_SAT)
HALF_FORM(add, f16x2_sat, HALF_PAIR | HALF_SAT)
HALF_FORM(sub, f16_sat, HALF_SAT)
HALF_FORM(sub, f16x2_sat, HALF_PAIR | HALF_SAT)
HALF_FORM(mul, f16_sat, HALF_SAT)
HALF_FORM(mul, f16x2_sat, HALF_PAIR | HALF_SAT)
HALF_FORM(fma, f16_sat, HALF_SAT)
HALF_FORM(fma, f16x2_sat, HALF_PAIR | HALF_SAT)

DEFINE_UNARY(neg_h, uint16_t, uint16_t, a[l] ^ 0x8000u)
DEFINE_UNARY(neg_h2, uint32_t, uint32_t, a[l] ^ 0x80008000u)
DEFINE_UNARY(abs_h, uint16_t, uint16_t, a[l] & 0x7fffu)
DEFINE_UNARY(abs_h2, uint32_t, uint32_t, a[l] & 0x7fff7fffu)

/* setp on halves: r[0], r[1] predicates (of pairs: low and high element), r[2], r[3] compared. */
typedef enum half_relation {
    R_EQ,
    R_NE,
    R_LT,
    R_LE,
    R_GT,
    R_GE,
    R_EQU,
    R_NEU,
    R_LTU,
    R_LEU,
    R_GTU,
    R_GEU,
    R_NUM,
    R_NAN
} half_relation;
static inline uint32_t half_compare(const float *x, const float *y, half_relation r)
{
    uint32_t less = 0, equal = 0, greater = 0;
    LANE_LOOP less |= (uint32_t)(x[l] < y[l]) << l;
    LANE_LOOP equal |= (uint32_t)(x[l] == y[l]) << l;
    LANE_LOOP greater |= (uint32_t)(x[l] > y[l]) << l;
    uint32_t nan = ~(less | equal | greater);
    switch (r) {
    case R_EQ: return equal;
    case R_NE: return less | greater;
    case R_LT: return less;
    case R_LE: return less | equal;
    case R_GT: return greater;
    case R_GE: return greater | equal;
    case R_EQU: return equal | nan;
    case R_NEU: return less | greater | nan;
    case R_LTU: return less | nan;
    case R_LEU: return less | equal | nan;
    case R_GTU: return greater | nan;
    case R_GEU: return greater | equal | nan;
    case R_NUM: return ~nan;
    default: return nan;
    }
}
static inline void setp_half(warp *w, const insn *in, uint32_t mask, unsigned form, half_relation r)
{
    half_rows a, b;
    half_read(w, in->r[2], form, &a);
    half_read(w, in->r[3], form, &b);
    uint32_t low = half_compare(a.x[0], b.x[0], r);
    uint32_t high = (form & HALF_PAIR) ? half_compare(a.x[1], b.x[1], r) : ~low;
    set_predicate(w, in->r[0], mask, low);
    set_predicate(w, in->r[1], mask, high);
}
/* set: 1.0 or all ones (as in->aux says) where the relation holds. */
static inline void set_half(warp *w, const insn *in, uint32_t mask, unsigned form, half_relation r)
{
    half_rows a, b;
    half_read(w, in->r[1], form, &a);
    half_read(w, in->r[2], form, &b);
    uint32_t low = half_compare(a.x[0], b.x[0], r);
    uint32_t one = (form & HALF_BF16) ? 0x3f80u : 0x3c00u;
    if (form & HALF_PAIR) {
        uint32_t high = half_compare(a.x[1], b.x[1], r);
        LANE_STORE(uint32_t, (LANE_ON(low, l) ? one : 0) | (LANE_ON(high, l) ? one << 16 : 0));
    } else {
        LANE_STORE(uint16_t, LANE_ON(low, l) ? one : 0);
    }
}
/* ... and masks: ones in 16 bits of each element of a pair, in all 32 of a scalar. */
static inline void mask_half(warp *w, const insn *in, uint32_t mask, unsigned form, half_relation r)
{
    half_rows a, b;
    half_read(w, in->r[1], form, &a);
    half_read(w, in->r[2], form, &b);
    uint32_t low = half_compare(a.x[0], b.x[0], r);
    uint32_t high = (form & HALF_PAIR) ? half_compare(a.x[1], b.x[1], r) : low;
    LANE_STORE(uint32_t, (LANE_ON(low, l) ? 0xffffu : 0) | (LANE_ON(high, l) ? 0xffff0000u : 0));
}
#define HALF_RELATION(op, r, suffix, form)                                                         \
    static void setp_##op##_##suffix(warp *w, const insn *in, uint32_t mask)                       \
    {                                                                                              \
        setp_half(w, in, mask, form, r);                                                           \
    }                                                                                              \
    static void set_##op##_##suffix(warp *w, const insn *in, uint32_t mask)                        \
    {                                                                                              \
        set_half(w, in, mask, form, r);                                                            \
    }                                                                                              \
    static void mask_##op##_##suffix(warp *w, const insn *in, uint32_t mask)                       \
    {                                                                                              \
        mask_half(w, in, mask, form, r);                                                           \
    }
#define HALF_RELATIONS(suffix, form)                                                               \
    HALF_RELATION(eq, R_EQ, suffix, form)                                                          \
    HALF_RELATION(ne, R_NE, suffix, form)                                                          \
    HALF_RELATION(lt, R_LT, suffix, form)                                                          \
    HALF_RELATION(le, R_LE, suffix, form)                                                          \
    HALF_RELATION(gt, R_GT, suffix, form)                                                          \
    HALF_RELATION(ge, R_GE, suffix, form)                                                          \
    HALF_RELATION(equ, R_EQU, suffix, form)                                                        \
    HALF_RELATION(neu, R_NEU, suffix, form)                                                        \
    HALF_RELATION(ltu, R_LTU, suffix, form)                                                        \
    HALF_RELATION(leu, R_LEU, suffix, form)                                                        \
    HALF_RELATION(gtu, R_GTU, suffix, form)                                                        \
    HALF_RELATION(geu, R_GEU, suffix, form)                                                        \
    HALF_RELATION(num, R_NUM, suffix, form)                                                        \
    HALF_RELATION(nan, R_NAN, suffix, form)
HALF_RELATIONS(f16, 0)
HALF_RELATIONS(f16x2, HALF_PAIR)
HALF_RELATIONS(bf16, HALF_BF16)
HALF_RELATIONS(bf16x2, HALF_BF16 | HALF_PAIR)

/* ---- the table --------------------------------------------------------------------------------
 */

#define FLOAT(name, signature, function, flops)                                                    \
    {name, signature, function, KIND_PLAIN, CLASS_FLOAT, flops},
#define SFU(name, signature, function) {name, signature, function, KIND_PLAIN, CLASS_SFU, 1},

#define F32_ROWS(op, signature, stem, flops)                                                       \
    FLOAT(op ".f32", signature, stem##_f32, flops)                                                 \
    FLOAT(op ".rn.f32", signature, stem##_f32, flops)                                              \
    FLOAT(op ".ftz.f32", signature, stem##_ftz, flops)                                             \
    FLOAT(op ".rn.ftz.f32", signature, stem##_ftz, flops)                                          \
    FLOAT(op ".sat.f32", signature, stem##_sat, flops)                                             \
    FLOAT(op ".rn.sat.f32", signature, stem##_sat, flops)                                          \
    FLOAT(op ".ftz.sat.f32", signature, stem##_ftz_sat, flops)                                     \
    FLOAT(op ".rn.ftz.sat.f32", signature, stem##_ftz_sat, flops)
#define HALF_ROWS(op, tail, scalar, pair, stem, flops)                                             \
    FLOAT(op tail ".f16", scalar, stem##_f16, flops)                                               \
    FLOAT(op tail ".f16x2", pair, stem##_f16x2, 2 * (flops))                                       \
    FLOAT(op tail ".bf16", scalar, stem##_bf16, flops)                                             \
    FLOAT(op tail ".bf16x2", pair, stem##_bf16x2, 2 * (flops))
#define HALF_ROUND_ROWS(op, scalar, pair, stem, flops)                                             \
    HALF_ROWS(op, "", scalar, pair, stem, flops)                                                   \
    HALF_ROWS(op, ".rn", scalar, pair, stem, flops)                                                \
    FLOAT(op ".sat.f16", scalar, stem##_f16_sat, flops)                                            \
    FLOAT(op ".sat.f16x2", pair, stem##_f16x2_sat, 2 * (flops))                                    \
    FLOAT(op ".rn.sat.f16", scalar, stem##_f16_sat, flops)                                         \
    FLOAT(op ".rn.sat.f16x2", pair, stem##_f16x2_sat, 2 * (flops))
#define TEST_ROWS(type, c)                                                                         \
    FLOAT("testp.finite." #type, "p:" c, finite_##type, 0)                                         \
    FLOAT("testp.infinite." #type, "p:" c, infinite_##type, 0)                                     \
    FLOAT("testp.notanumber." #type, "p:" c, notanumber_##type, 0)                                 \
    FLOAT("testp.number." #type, "p:" c, number_##type, 0)                                         \
    FLOAT("testp.normal." #type, "p:" c, normal_##type, 0)                                         \
    FLOAT("testp.subnormal." #type, "p:" c, subnormal_##type, 0)
#define SETP_ROW(op, type, c)                                                                      \
    FLOAT("setp." #op "." #type, "pP:" c c, setp_##op##_##type, 0)                                 \
    FLOAT("set." #op "." #type "." #type, c ":" c c, set_##op##_##type, 0)                         \
    FLOAT("set." #op ".u32." #type, "w:" c c, mask_##op##_##type, 0)                               \
    FLOAT("set." #op ".s32." #type, "w:" c c, mask_##op##_##type, 0)
#define SETP_ROWS(type, c)                                                                         \
    SETP_ROW(eq, type, c)                                                                          \
    SETP_ROW(ne, type, c)                                                                          \
    SETP_ROW(lt, type, c)                                                                          \
    SETP_ROW(le, type, c)                                                                          \
    SETP_ROW(gt, type, c)                                                                          \
    SETP_ROW(ge, type, c)                                                                          \
    SETP_ROW(equ, type, c)                                                                         \
    SETP_ROW(neu, type, c)                                                                         \
    SETP_ROW(ltu, type, c)                                                                         \
    SETP_ROW(leu, type, c)                                                                         \
    SETP_ROW(gtu, type, c) SETP_ROW(geu, type, c) SETP_ROW(num, type, c) SETP_ROW(nan, type, c)

/* clang-format off */
static const op_row rows[] = {
    F32_ROWS("add", "f:ff", add, 1)
    F32_ROWS("sub", "f:ff", sub, 1)
    F32_ROWS("mul", "f:ff", mul, 1)
    FLOAT("fma.rn.f32", "f:fff", fma_f32, 2)
    FLOAT("fma.rn.ftz.f32", "f:fff", fma_ftz, 2)
    FLOAT( "fma.rn.sat.f32", "f:fff", fma_sat, 2)
    FLOAT("fma.rn.ftz.sat.f32", "f:fff", fma_ftz_sat, 2)
    FLOAT("mad.rn.f32", "f:fff", fma_f32, 2)
    FLOAT("mad.rn.ftz.f32", "f:fff", fma_ftz, 2)
    FLOAT("div.rn.f32", "f:ff", divide_f32, 1)
    FLOAT("div.rn.ftz.f32", "f:ff", divide_ftz, 1)
    SFU("div.approx.f32", "f:ff", divide_f32)
    SFU("div.approx.ftz.f32", "f:ff", divide_ftz)
    SFU("div.full.f32", "f:ff", divide_f32)
    SFU("div.full.ftz.f32", "f:ff", divide_ftz)
    FLOAT("rcp.rn.f32", "f:f", rcp_f32, 1)
    FLOAT("rcp.rn.ftz.f32", "f:f", rcp_ftz, 1)
    SFU("rcp.approx.f32", "f:f", rcp_f32)
    SFU("rcp.approx.ftz.f32", "f:f", rcp_ftz)
    FLOAT("sqrt.rn.f32", "f:f", square_root_f32, 1)
    FLOAT("sqrt.rn.ftz.f32", "f:f", square_root_ftz, 1)
    SFU("sqrt.approx.f32", "f:f", square_root_f32)
    SFU("sqrt.approx.ftz.f32", "f:f", square_root_ftz)
    SFU("rsqrt.approx.f32", "f:f", rsqrt_f32)
    SFU("rsqrt.approx.ftz.f32", "f:f", rsqrt_ftz)
    SFU("lg2.approx.f32", "f:f", lg2_f32)
    SFU("lg2.approx.ftz.f32", "f:f", lg2_ftz)
    SFU("ex2.approx.f32", "f:f", ex2_f32)
    SFU("ex2.approx.ftz.f32", "f:f", ex2_ftz)
    SFU("sin.approx.f32", "f:f", sine_f32)
    SFU("sin.approx.ftz.f32", "f:f", sine_ftz)
    SFU("cos.approx.f32", "f:f", cosine_f32)
    SFU("cos.approx.ftz.f32", "f:f", cosine_ftz)
    SFU("tanh.approx.f32", "f:f", tanh_f32)
    FLOAT("min.f32", "f:ff", min_f32, 1)
    FLOAT("max.f32", "f:ff", max_f32, 1)
    FLOAT("min.ftz.f32", "f:ff", min_ftz, 1)
    FLOAT("max.ftz.f32", "f:ff", max_ftz, 1)
    FLOAT("min.NaN.f32", "f:ff", min_nan, 1)
    FLOAT("max.NaN.f32", "f:ff", max_nan, 1)
    FLOAT("neg.f32", "f:f", neg_f32, 0)
    FLOAT("abs.f32", "f:f", abs_f32, 0)
    FLOAT("neg.ftz.f32", "f:f", neg_ftz, 0)
    FLOAT("abs.ftz.f32", "f:f", abs_ftz, 0)
    FLOAT("copysign.f32", "f:ff", copysign_f32, 0)
    FLOAT("add.f64", "g:gg", add_f64, 1)
    FLOAT("add.rn.f64", "g:gg", add_f64, 1)
    FLOAT("sub.f64", "g:gg", sub_f64, 1)
    FLOAT("sub.rn.f64", "g:gg", sub_f64, 1)
    FLOAT("mul.f64", "g:gg", mul_f64, 1)
    FLOAT("mul.rn.f64", "g:gg", mul_f64, 1)
    FLOAT("fma.rn.f64", "g:ggg", fma_f64, 2)
    FLOAT("mad.rn.f64", "g:ggg", fma_f64, 2)
    FLOAT("div.rn.f64", "g:gg", div_f64, 1)
    FLOAT("sqrt.rn.f64", "g:g", sqrt_f64, 1)
    FLOAT("rcp.rn.f64", "g:g", rcp_f64, 1)
    SFU("rcp.approx.ftz.f64", "g:g", rcp_f64)
    SFU("rsqrt.approx.f64", "g:g", rsqrt_f64)
    SFU("rsqrt.approx.ftz.f64", "g:g", rsqrt_f64)
    FLOAT("min.f64", "g:gg", min_f64, 1)
    FLOAT("max.f64", "g:gg", max_f64, 1)
    FLOAT("neg.f64", "g:g", neg_f64, 0)
    FLOAT("abs.f64", "g:g", abs_f64, 0)
    FLOAT("copysign.f64", "g:gg", copysign_f64, 0)
    TEST_ROWS(f32, "f")
    TEST_ROWS(f64, "g")
    HALF_ROUND_ROWS("add", "h:hh", "w:ww", add, 1)
    HALF_ROUND_ROWS("sub", "h:hh", "w:ww", sub, 1)
    HALF_ROUND_ROWS("mul", "h:hh", "w:ww", mul, 1)
    HALF_ROWS("fma", ".rn", "h:hhh", "w:www", fma, 2)
    FLOAT("fma.rn.relu.f16", "h:hhh", fma_f16_relu, 2)
    FLOAT("fma.rn.relu.f16x2", "w:www", fma_f16x2_relu, 4)
    FLOAT("fma.rn.relu.bf16", "h:hhh", fma_bf16_relu, 2)
    FLOAT( "fma.rn.relu.bf16x2", "w:www", fma_bf16x2_relu, 4)
    FLOAT("fma.rn.sat.f16", "h:hhh", fma_f16_sat, 2)
    FLOAT("fma.rn.sat.f16x2", "w:www", fma_f16x2_sat, 4)
    HALF_ROWS("min", "", "h:hh", "w:ww", min, 1)
    HALF_ROWS( "max", "", "h:hh", "w:ww", max, 1)
    FLOAT("min.NaN.f16", "h:hh", min_f16_nan, 1)
    FLOAT("min.NaN.f16x2", "w:ww", min_f16x2_nan, 2)
    FLOAT( "min.NaN.bf16", "h:hh", min_bf16_nan, 1)
    FLOAT("min.NaN.bf16x2", "w:ww", min_bf16x2_nan, 2)
    FLOAT("max.NaN.f16", "h:hh", max_f16_nan, 1)
    FLOAT( "max.NaN.f16x2", "w:ww", max_f16x2_nan, 2)
    FLOAT("max.NaN.bf16", "h:hh", max_bf16_nan, 1)
    FLOAT("max.NaN.bf16x2", "w:ww", max_bf16x2_nan, 2)
    FLOAT( "neg.f16", "h:h", neg_h, 0)
    FLOAT("neg.f16x2", "w:w", neg_h2, 0)
    FLOAT("neg.bf16", "h:h", neg_h, 0)
    FLOAT( "neg.bf16x2", "w:w", neg_h2, 0)
    FLOAT("abs.f16", "h:h", abs_h, 0)
    FLOAT("abs.f16x2", "w:w", abs_h2, 0)
    FLOAT( "abs.bf16", "h:h", abs_h, 0)
    FLOAT("abs."  "bf16x2", "w:w", abs_h2, 0)
    SFU("ex2.approx."  "f16", "h:h", ex2_f16)
    SFU("e"  "x" "2" "."  "a"  "p"  "p"  "r"  "o"  "x" "."  "f" "1" "6"  "x" "2", "w" ":"  "w", ex2_f16x2)
    SFU("ex2."  "approx."  "ftz."  "bf16", "h:h", ex2_bf16)
    SFU("ex2.approx.ftz."  "bf16x2", "w:w", ex2_bf16x2)
    SFU("ta"  "nh" ".a"  "pp"  "ro"  "x."  "f1" "6", "h:"  "h", tanh_f16)
    SFU("tanh.approx."  "f16x2", "w:w", tanh_f16x2)
    SFU("ta"  "nh" "."  "ap"  "pr"  "ox" "."  "bf" "1" "6", "h:"  "h", tanh_bf16)
    SFU("tanh."  "approx" ".bf16x" "2", "w:w", tanh_bf16x2)
    SETP_ROWS(f16, "h")
    SETP_ROWS( f16x2, "w")
    SETP_ROWS( bf16, "h")
    SETP_ROWS( bf16x2, "w")
};
/* clang-format on */

extern const op_table EMU_ISA_NAME(emu_float_ops);
const op_table EMU_ISA_NAME(emu_float_ops) = {rows, sizeof rows / sizeof rows[0]};
