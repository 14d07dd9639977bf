/* Arithmetic, a word at a time: conversions, floats, packed halves, bits, integers. */
#include <fenv.h>
#include <float.h>
#include <limits.h>
#include <math.h>

#include "tests/emu/conformance.h"

typedef uint32_t (*word_function)(uint32_t a, uint32_t b, uint32_t c);

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
    uint32_t any = conformance_random();
    switch (kind) {
    case FLOATS:
        if (any % 8 == 0) return edges[conformance_random() % (sizeof edges / sizeof edges[0])];
        if (any % 8 < 5) /* magnitudes that meet */
            return (any & 0x80000000u) | ((120 + conformance_random() % 16) << 23) |
                   (conformance_random() >> 9);
        return any;
    case SMALL_FLOATS:
        return as_bits(((float)(conformance_random() >> 8) / 16777216.0f - 0.5f) *
                       (any % 8 ? 20.0f : 290.0f));
    case HALVES:
    case BF16S: {
        uint32_t out = 0;
        for (int i = 0; i < 2; i++) {
            uint32_t h = conformance_random() % 8 == 0
                             ? halves[conformance_random() % (sizeof halves / sizeof halves[0])]
                             : conformance_random() & 0xffff;
            if (conformance_random() % 2 && kind == HALVES)
                h = (h & 0x83ff) | ((10 + conformance_random() % 10) << 10);
            if (conformance_random() % 2 && kind == BF16S)
                h = (h & 0x807f) | ((120 + conformance_random() % 12) << 7);
            out |= h << 16 * i;
        }
        return out;
    }
    case INTEGERS: return conformance_random() % 601 - 300;
    case SHIFTS: return word == 2 ? conformance_random() % 70 : any;
    default:
        return any % 16 == 0 ? edges[conformance_random() % (sizeof edges / sizeof edges[0])] : any;
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

void conformance_words(conformance *c)
{
    for (size_t i = 0; i < LENGTH(word_cases); i++)
        if (conformance_begins(c, word_cases[i].name)) {
            fill_words(&word_cases[i], c->run);
            conformance_run(c, word_cases[i].name, word_cases[i].tolerance);
        }
}
