/* dtype: the table, and the conversions of every 16-bit value. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "weights/dtype.h"

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* From the definition, not from the code: IEEE 754 fields of widths e and m. */
static double decode(uint32_t bits, int exponent_bits, int mantissa_bits)
{
    int bias = (1 << (exponent_bits - 1)) - 1;
    int exponent = (int)(bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
    double mantissa = bits & ((1u << mantissa_bits) - 1u);
    double sign = bits >> (exponent_bits + mantissa_bits) & 1 ? -1 : 1;
    if (exponent == (1 << exponent_bits) - 1) return mantissa != 0 ? NAN : sign * INFINITY;
    if (exponent == 0) return sign * ldexp(mantissa, 1 - bias - mantissa_bits);
    return sign * ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
}

Test(dtype, names_and_bytes_are_safetensors_own)
{
    static const struct {
        const char *name;
        size_t bytes;
    } known[] = {{"F64", 8},  {"F32", 4}, {"F16", 2},     {"BF16", 2},    {"I64", 8},    {"I32", 4},
                 {"I16", 2},  {"I8", 1},  {"U64", 8},     {"U32", 4},     {"U16", 2},    {"U8", 1},
                 {"BOOL", 1}, {"C64", 8}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        dtype type = dtype_parse(known[i].name, strlen(known[i].name));
        cr_assert_lt(type, DTYPE_COUNT, "%s", known[i].name);
        cr_assert_str_eq(dtype_name(type), known[i].name);
        cr_assert_eq(dtype_bytes(type), known[i].bytes);
    }
    cr_assert_eq(dtype_parse("F3", 2), DTYPE_COUNT);
    cr_assert_eq(dtype_parse("F322", 4), DTYPE_COUNT);
    cr_assert_eq(dtype_parse("f32", 3), DTYPE_COUNT);
    cr_assert_eq(dtype_bytes(DTYPE_COUNT), 0);
    cr_assert_str_eq(dtype_name((dtype)-1), "?");
}

Test(dtype, every_f16_and_bf16_widens_exactly_and_comes_back)
{
    for (uint32_t bits = 0; bits <= 0xFFFF; bits++) {
        double half = decode(bits, 5, 10), brain = decode(bits, 8, 7);
        float from_half = dtype_f32_from_f16((uint16_t)bits);
        float from_brain = dtype_f32_from_bf16((uint16_t)bits);
        if (isnan(half)) {
            cr_assert(isnan(from_half));
            cr_assert_eq(bits_of(from_half) >> 31, bits >> 15, "the sign of a NaN stays");
            cr_assert_eq(dtype_f16_from_f32(from_half), bits | 0x200, "quiet, payload kept");
        } else {
            cr_assert_eq((double)from_half, half);
            cr_assert_eq(signbit(from_half) != 0, bits >> 15);
            cr_assert_eq(dtype_f16_from_f32(from_half), bits);
        }
        if (isnan(brain)) {
            cr_assert(isnan(from_brain));
            cr_assert_eq(dtype_bf16_from_f32(from_brain), bits | 0x40);
        } else {
            cr_assert_eq((double)from_brain, brain);
            cr_assert_eq(dtype_bf16_from_f32(from_brain), bits);
        }
    }
}

/* Between two neighbours a < b the decision lies at their middle m: below it a, above it b, on it
 * the even one. The middles are exact in fp32. Every boundary of both formats is tried. */
static void check_boundaries(uint16_t (*narrow)(float), int exponent_bits, int mantissa_bits)
{
    uint32_t infinity = ((1u << exponent_bits) - 1u) << mantissa_bits;
    for (uint32_t bits = 0; bits < infinity; bits++) {
        double a = decode(bits, exponent_bits, mantissa_bits);
        double b = bits + 1 < infinity
                       ? decode(bits + 1, exponent_bits, mantissa_bits)
                       : ldexp(1, (1 << (exponent_bits - 1))); /* where infinity would be finite */
        double middle = a + (b - a) / 2;
        float m = (float)middle;
        cr_assert_eq((double)m, middle);
        uint32_t even = bits & 1 ? bits + 1 : bits;
        cr_assert_eq(narrow(m), even, "%a", middle);
        cr_assert_eq(narrow(nextafterf(m, 0)), bits, "below %a", middle);
        cr_assert_eq(narrow(nextafterf(m, INFINITY)), bits + 1, "above %a", middle);
        cr_assert_eq(narrow(-m), even | 0x8000u);
    }
}

Test(dtype, narrowing_rounds_to_nearest_even_at_every_boundary)
{
    check_boundaries(dtype_f16_from_f32, 5, 10);
    check_boundaries(dtype_bf16_from_f32, 8, 7);
    cr_assert_eq(dtype_f16_from_f32(65519.99f), 0x7BFF);
    cr_assert_eq(dtype_f16_from_f32(65520), 0x7C00);
    cr_assert_eq(dtype_f16_from_f32(-INFINITY), 0xFC00);
    cr_assert_eq(dtype_bf16_from_f32(3.4e38f), 0x7F80);
    cr_assert_eq(dtype_f16_from_f32(float_of(0x7F800001)), 0x7E00);
    cr_assert_eq(dtype_bf16_from_f32(float_of(0xFF800001)), 0xFFC0);
}

/* The fast paths must agree with the scalar definitions bit for bit, tails and misalignment too. */
Test(dtype, bulk_conversions_equal_the_scalar_ones)
{
    enum { N = 65536 + 13 };
    uint8_t *block = malloc(2 * N + 1), *back = malloc(2 * N + 1);
    float *wide = malloc(N * sizeof *wide);
    static const dtype types[] = {DTYPE_F16, DTYPE_BF16};
    for (int t = 0; t < 2; t++) {
        for (int shift = 0; shift < 2; shift++) {
            for (uint32_t i = 0; i < N; i++) {
                uint16_t bits = (uint16_t)i;
                memcpy(block + shift + 2 * i, &bits, 2);
            }
            cr_assert_eq(dtype_to_f32(wide, block + shift, types[t], N, NULL), CRANK_OK);
            cr_assert_eq(dtype_from_f32(back + shift, types[t], wide, N, NULL), CRANK_OK);
            for (uint32_t i = 0; i < N; i++) {
                float want =
                    t == 0 ? dtype_f32_from_f16((uint16_t)i) : dtype_f32_from_bf16((uint16_t)i);
                uint16_t narrow = t == 0 ? dtype_f16_from_f32(want) : dtype_bf16_from_f32(want),
                         got;
                memcpy(&got, back + shift + 2 * i, 2);
                cr_assert_eq(bits_of(wide[i]), bits_of(want), "%u", i);
                cr_assert_eq(got, narrow, "%u", i);
            }
        }
        uint32_t bits = 12345; /* floats all over the range, NaNs included */
        for (uint32_t i = 0; i < N; i++, bits += 0x9E3779B9u) wide[i] = float_of(bits);
        cr_assert_eq(dtype_from_f32(back, types[t], wide, N, NULL), CRANK_OK);
        for (uint32_t i = 0; i < N; i++) {
            uint16_t got,
                want = t == 0 ? dtype_f16_from_f32(wide[i]) : dtype_bf16_from_f32(wide[i]);
            memcpy(&got, back + 2 * i, 2);
            cr_assert_eq(got, want, "%a", (double)wide[i]);
        }
    }
    free(block);
    free(back);
    free(wide);
}

Test(dtype, f64_rounds_and_integers_are_refused)
{
    double values[2] = {1.0 + 0x1p-25, -1e300};
    float out[2];
    double back[2];
    crank_error error;
    cr_assert_eq(dtype_to_f32(out, values, DTYPE_F64, 2, &error), CRANK_OK);
    cr_assert(out[0] == 1.0f && out[1] == -INFINITY);
    cr_assert_eq(dtype_from_f32(back, DTYPE_F64, (float[]){0.1f, 2}, 2, &error), CRANK_OK);
    cr_assert(back[0] == (double)0.1f && back[1] == 2);
    cr_assert_eq(dtype_to_f32(out, values, DTYPE_I32, 2, &error), CRANK_UNSUPPORTED);
    cr_assert_not_null(strstr(error.message, "I32"));
    cr_assert_eq(dtype_from_f32(values, DTYPE_U8, out, 2, &error), CRANK_UNSUPPORTED);
    cr_assert(dtype_is_float(DTYPE_F64) && !dtype_is_float(DTYPE_F8_E4M3));
}

Test(dtype, finite_prefix_finds_the_first_bad_number)
{
    enum { N = 10000 };
    float *values = calloc(N, sizeof *values);
    values[0] = 3e38f;
    cr_assert_eq(dtype_finite_prefix(values, N), N);
    for (size_t at = 0; at < N; at += 997) {
        float old = values[at];
        values[at] = at % 2 ? NAN : -INFINITY;
        cr_assert_eq(dtype_finite_prefix(values, N), at);
        cr_assert_eq(dtype_finite_prefix(values, at), at);
        values[at] = old;
    }
    cr_assert_eq(dtype_finite_prefix(values, 0), 0);
    free(values);
}
