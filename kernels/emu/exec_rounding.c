/* Arithmetic rounded towards zero, down or up. nvcc uses it inside its own expansions (expf:
 * fma.rm) and for __fadd_rz and the like. The host's rounding mode is switched around a plain loop;
 * this file is compiled with -frounding-math so that nothing moves across the switch. */
#include <fenv.h>

#include "kernels/emu/exec_lanes.h"

static inline float canonical(float x)
{
    return x != x ? float_from_bits(0x7fffffffu) : x;
}
static inline float flush(float x)
{
    uint32_t bits = bits_from_float(x);
    return (bits & 0x7f800000u) ? x : float_from_bits(bits & 0x80000000u);
}

#define ROUNDED(name, T, mode, load, expression)                                                   \
    static void name(warp *w, const insn *in, uint32_t mask)                                       \
    {                                                                                              \
        const T *a = ROW(T, in->r[1]), *b = ROW(T, in->r[2]), *c = ROW(T, in->r[3]);               \
        T *d = ROW(T, in->r[0]);                                                                   \
        int old = fegetround();                                                                    \
        fesetround(mode);                                                                          \
        for (int l = 0; l < WARP_LANES; l++) {                                                     \
            if (!LANE_ON(mask, l)) continue;                                                       \
            T x = load(a[l]), y = load(b[l]), z = load(c[l]);                                      \
            (void)x, (void)y, (void)z;                                                             \
            d[l] = expression;                                                                     \
        }                                                                                          \
        fesetround(old);                                                                           \
    }
#define AS_IS(x) (x)
#define ROUNDED_MODES(op, T, type, load, expression)                                               \
    ROUNDED(op##_rz_##type, T, FE_TOWARDZERO, load, expression)                                    \
    ROUNDED(op##_rm_##type, T, FE_DOWNWARD, load, expression)                                      \
    ROUNDED(op##_rp_##type, T, FE_UPWARD, load, expression)
ROUNDED_MODES(add, float, f32, AS_IS, canonical(x + y))
ROUNDED_MODES(sub, float, f32, AS_IS, canonical(x - y))
ROUNDED_MODES(mul, float, f32, AS_IS, canonical(x *y))
ROUNDED_MODES(fma, float, f32, AS_IS, canonical(fmaf(x, y, z)))
ROUNDED_MODES(div, float, f32, AS_IS, canonical(x / y))
ROUNDED_MODES(rcp, float, f32, AS_IS, canonical(1.0f / x))
ROUNDED_MODES(sqrt, float, f32, AS_IS, canonical(sqrtf(x)))
ROUNDED_MODES(add, float, ftz, flush, canonical(flush(x + y)))
ROUNDED_MODES(sub, float, ftz, flush, canonical(flush(x - y)))
ROUNDED_MODES(mul, float, ftz, flush, canonical(flush(x *y)))
ROUNDED_MODES(fma, float, ftz, flush, canonical(flush(fmaf(x, y, z))))
ROUNDED_MODES(div, float, ftz, flush, canonical(flush(x / y)))
ROUNDED_MODES(rcp, float, ftz, flush, canonical(flush(1.0f / x)))
ROUNDED_MODES(sqrt, float, ftz, flush, canonical(flush(sqrtf(x))))
ROUNDED_MODES(add, double, f64, AS_IS, x + y)
ROUNDED_MODES(sub, double, f64, AS_IS, x - y)
ROUNDED_MODES(mul, double, f64, AS_IS, x *y)
ROUNDED_MODES(fma, double, f64, AS_IS, fma(x, y, z))
ROUNDED_MODES(div, double, f64, AS_IS, x / y)
ROUNDED_MODES(rcp, double, f64, AS_IS, 1.0 / x)
ROUNDED_MODES(sqrt, double, f64, AS_IS, sqrt(x))

#define CONVERTED(name, D, S, mode)                                                                \
    static void name(warp *w, const insn *in, uint32_t mask)                                       \
    {                                                                                              \
        const S *a = ROW(S, in->r[1]);                                                             \
        D *d = ROW(D, in->r[0]);                                                                   \
        int old = fegetround();                                                                    \
        fesetround(mode);                                                                          \
        for (int l = 0; l < WARP_LANES; l++)                                                       \
            if (LANE_ON(mask, l)) d[l] = (D)a[l];                                                  \
        fesetround(old);                                                                           \
    }
#define CONVERTED_MODES(D, S, dtype, stype)                                                        \
    CONVERTED(cvt_rz_##dtype##_##stype, D, S, FE_TOWARDZERO)                                       \
    CONVERTED(cvt_rm_##dtype##_##stype, D, S, FE_DOWNWARD)                                         \
    CONVERTED(cvt_rp_##dtype##_##stype, D, S, FE_UPWARD)
CONVERTED_MODES(float, int32_t, f32, s32)
CONVERTED_MODES(float, uint32_t, f32, u32)
CONVERTED_MODES(float, int64_t, f32, s64)
CONVERTED_MODES(float, uint64_t, f32, u64)
CONVERTED_MODES(float, double, f32, f64)
CONVERTED_MODES(double, int64_t, f64, s64)
CONVERTED_MODES(double, uint64_t, f64, u64)

#define FLOAT(name, signature, function, flops)                                                    \
    {name, signature, function, KIND_PLAIN, CLASS_FLOAT, flops},
#define MODE_ROWS(op, tail, signature, stem, suffix, flops)                                        \
    FLOAT(op ".rz" tail, signature, stem##_rz_##suffix, flops)                                     \
    FLOAT(op ".rm" tail, signature, stem##_rm_##suffix, flops)                                     \
    FLOAT(op ".rp" tail, signature, stem##_rp_##suffix, flops)
#define OP_ROWS(op, stem, f, g, flops)                                                             \
    MODE_ROWS(op, ".f32", f, stem, f32, flops)                                                     \
    MODE_ROWS(op, ".ftz.f32", f, stem, ftz, flops)                                                 \
    MODE_ROWS(op, ".f64", g, stem, f64, flops)
#define CVT_ROWS(dtype, stype, signature)                                                          \
    {"cvt.rz." #dtype "." #stype,                                                                  \
     signature,                                                                                    \
     cvt_rz_##dtype##_##stype,                                                                     \
     KIND_PLAIN,                                                                                   \
     CLASS_CONVERT,                                                                                \
     0},                                                                                           \
        {"cvt.rm." #dtype "." #stype,                                                              \
         signature,                                                                                \
         cvt_rm_##dtype##_##stype,                                                                 \
         KIND_PLAIN,                                                                               \
         CLASS_CONVERT,                                                                            \
         0},                                                                                       \
        {"cvt.rp." #dtype "." #stype,                                                              \
         signature,                                                                                \
         cvt_rp_##dtype##_##stype,                                                                 \
         KIND_PLAIN,                                                                               \
         CLASS_CONVERT,                                                                            \
         0},

/* clang-format off */
static const op_row rows[] = {
    OP_ROWS("add", add, "f:ff", "g:gg", 1)
    OP_ROWS("sub", sub, "f:ff", "g:gg", 1)
    OP_ROWS("mul", mul, "f:ff", "g:gg", 1)
    OP_ROWS("fma", fma, "f:fff", "g:ggg", 2)
    OP_ROWS("mad", fma, "f:fff", "g:ggg", 2)
    OP_ROWS("div", div, "f:ff", "g:gg", 1)
    OP_ROWS("rcp", rcp, "f:f", "g:g", 1)
    OP_ROWS("sqrt", sqrt, "f:f", "g:g", 1)
    CVT_ROWS(f32, s32, "f:w")
    CVT_ROWS(f32, u32, "f:w")
    CVT_ROWS(f32, s64, "f:d")
    CVT_ROWS(f32, u64, "f:d")
    CVT_ROWS(f32, f64, "f:g")
    CVT_ROWS(f64, s64, "g:d")
    CVT_ROWS(f64, u64, "g:d")
};
/* clang-format on */

extern const op_table emu_rounding_ops;
const op_table emu_rounding_ops = {rows, sizeof rows / sizeof rows[0]};
