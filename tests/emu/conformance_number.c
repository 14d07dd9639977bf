/* The numbers of gpu-conformance: random words, and 16-bit floats by their definition. */
#include <math.h>

#include "tests/emu/conformance.h"

static uint64_t random_state = 1;

uint32_t conformance_random(void)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(random_state >> 32);
}

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
uint32_t small_round(long double value, int exponent_bits, int fraction_bits, int mode)
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
double f16_value(uint32_t bits)
{
    return small_value(bits & 0xffff, 5, 10);
}
double bf16_value(uint32_t bits)
{
    return small_value(bits & 0xffff, 8, 7);
}
uint32_t f16_round(long double value)
{
    return small_round(value, 5, 10, 0);
}
uint32_t bf16_round(long double value)
{
    return small_round(value, 8, 7, 0);
}
