/* cvt. Source: PTX ISA 9.0, section 9.7.9.21. 8-bit types live in 16-bit rows. Conversions of a
 * float to an integer clamp to the integer's range; NaN gives 0 (the top bit alone in 64 bits). */
#include "kernels/emu/exec_lanes.h"
#include "kernels/emu/half.h"

/* ---- integer to integer -----------------------------------------------------------------------
 */

/* The value as the type holds it, from the row that carries it. */
#define LOAD_u8(x) ((uint8_t)(x))
#define LOAD_s8(x) ((int8_t)(x))
#define LOAD_u16(x) ((uint16_t)(x))
#define LOAD_s16(x) ((int16_t)(x))
#define LOAD_u32(x) ((uint32_t)(x))
#define LOAD_s32(x) ((int32_t)(x))
#define LOAD_u64(x) ((uint64_t)(x))
#define LOAD_s64(x) ((int64_t)(x))
#define ROW_u8 uint16_t
#define ROW_s8 int16_t
#define ROW_u16 uint16_t
#define ROW_s16 int16_t
#define ROW_u32 uint32_t
#define ROW_s32 int32_t
#define ROW_u64 uint64_t
#define ROW_s64 int64_t

static inline uint64_t clamp_unsigned(int64_t value, int negative_source, uint64_t top)
{
    if (negative_source && value < 0) return 0;
    return (uint64_t)value > top ? top : (uint64_t)value;
}
static inline int64_t clamp_signed(int64_t value, int is_signed, int64_t bottom, int64_t top)
{
    if (!is_signed) return (uint64_t)value > (uint64_t)top ? top : value;
    return value < bottom ? bottom : value > top ? top : value;
}
#define SIGNED_u8 0
#define SIGNED_u16 0
#define SIGNED_u32 0
#define SIGNED_u64 0
#define SIGNED_s8 1
#define SIGNED_s16 1
#define SIGNED_s32 1
#define SIGNED_s64 1
#define CLAMP_u8(v, s) clamp_unsigned((int64_t)(v), s, UINT8_MAX)
#define CLAMP_u16(v, s) clamp_unsigned((int64_t)(v), s, UINT16_MAX)
#define CLAMP_u32(v, s) clamp_unsigned((int64_t)(v), s, UINT32_MAX)
#define CLAMP_u64(v, s) clamp_unsigned((int64_t)(v), s, UINT64_MAX)
#define CLAMP_s8(v, s) clamp_signed((int64_t)(v), s, INT8_MIN, INT8_MAX)
#define CLAMP_s16(v, s) clamp_signed((int64_t)(v), s, INT16_MIN, INT16_MAX)
#define CLAMP_s32(v, s) clamp_signed((int64_t)(v), s, INT32_MIN, INT32_MAX)
#define CLAMP_s64(v, s) clamp_signed((int64_t)(v), s, INT64_MIN, INT64_MAX)

#define INT_TO_INT(D, S)                                                                           \
    DEFINE_UNARY(cvt_##D##_##S, ROW_##D, ROW_##S, LOAD_##D(LOAD_##S(a[l])))                        \
    DEFINE_UNARY(sat_##D##_##S, ROW_##D, ROW_##S, CLAMP_##D(LOAD_##S(a[l]), SIGNED_##S))
#define EACH_SOURCE(M, D)                                                                          \
    M(D, u8) M(D, s8) M(D, u16) M(D, s16) M(D, u32) M(D, s32) M(D, u64) M(D, s64)
#define EACH_PAIR(M)                                                                               \
    EACH_SOURCE(M, u8)                                                                             \
    EACH_SOURCE(M, s8)                                                                             \
    EACH_SOURCE(M, u16)                                                                            \
    EACH_SOURCE(M, s16)                                                                            \
    EACH_SOURCE(M, u32) EACH_SOURCE(M, s32) EACH_SOURCE(M, u64) EACH_SOURCE(M, s64)
EACH_PAIR(INT_TO_INT)

/* ---- floats and integers ----------------------------------------------------------------------
 */

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
    return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f;
}

/* value is integral already. */
#define DEFINE_CLAMP(T, bottom_f, past_f, bottom, top, nan)                                        \
    static inline T##_t to_##T(double value)                                                       \
    {                                                                                              \
        if (value != value) return (T##_t)(nan);                                                   \
        if (value < (bottom_f)) return bottom;                                                     \
        return value >= (past_f) ? top : (T##_t)value;                                             \
    }
DEFINE_CLAMP(int8, -128.0, 128.0, INT8_MIN, INT8_MAX, 0)
DEFINE_CLAMP(int16, -32768.0, 32768.0, INT16_MIN, INT16_MAX, 0)
DEFINE_CLAMP(int32, -0x1p31, 0x1p31, INT32_MIN, INT32_MAX, 0)
DEFINE_CLAMP(int64, -0x1p63, 0x1p63, INT64_MIN, INT64_MAX, INT64_MIN)
DEFINE_CLAMP(uint8, 0.0, 256.0, 0, UINT8_MAX, 0)
DEFINE_CLAMP(uint16, 0.0, 65536.0, 0, UINT16_MAX, 0)
DEFINE_CLAMP(uint32, 0.0, 0x1p32, 0, UINT32_MAX, 0)
DEFINE_CLAMP(uint64, 0.0, 0x1p64, 0, UINT64_MAX, UINT64_C(1) << 63)
#define TO_u8 to_uint8
#define TO_s8 to_int8
#define TO_u16 to_uint16
#define TO_s16 to_int16
#define TO_u32 to_uint32
#define TO_s32 to_int32
#define TO_u64 to_uint64
#define TO_s64 to_int64

#define FLOAT_TO_INT(D)                                                                            \
    DEFINE_UNARY(rni_##D##_f32, ROW_##D, float, TO_##D(rint((double)a[l])))                        \
    DEFINE_UNARY(rzi_##D##_f32, ROW_##D, float, TO_##D(trunc((double)a[l])))                       \
    DEFINE_UNARY(rmi_##D##_f32, ROW_##D, float, TO_##D(floor((double)a[l])))                       \
    DEFINE_UNARY(rpi_##D##_f32, ROW_##D, float, TO_##D(ceil((double)a[l])))                        \
    DEFINE_UNARY(rni_##D##_f64, ROW_##D, double, TO_##D(rint(a[l])))                               \
    DEFINE_UNARY(rzi_##D##_f64, ROW_##D, double, TO_##D(trunc(a[l])))                              \
    DEFINE_UNARY(rmi_##D##_f64, ROW_##D, double, TO_##D(floor(a[l])))                              \
    DEFINE_UNARY(rpi_##D##_f64, ROW_##D, double, TO_##D(ceil(a[l])))                               \
    DEFINE_UNARY(rni_##D##_f16, ROW_##D, uint16_t, TO_##D(rint((double)half_to_float(a[l]))))      \
    DEFINE_UNARY(rzi_##D##_f16, ROW_##D, uint16_t, TO_##D(trunc((double)half_to_float(a[l]))))     \
    DEFINE_UNARY(rmi_##D##_f16, ROW_##D, uint16_t, TO_##D(floor((double)half_to_float(a[l]))))     \
    DEFINE_UNARY(rpi_##D##_f16, ROW_##D, uint16_t, TO_##D(ceil((double)half_to_float(a[l]))))
#define EACH_TYPE(M) M(u8) M(s8) M(u16) M(s16) M(u32) M(s32) M(u64) M(s64)
EACH_TYPE(FLOAT_TO_INT)

/* Through an odd float: 64-bit integers to f16 round once. */
#define INT_TO_FLOAT(S)                                                                            \
    DEFINE_UNARY(rn_f32_##S, float, ROW_##S, (float)LOAD_##S(a[l]))                                \
    DEFINE_UNARY(rn_f64_##S, double, ROW_##S, (double)LOAD_##S(a[l]))                              \
    DEFINE_UNARY(rn_f16_##S, uint16_t, ROW_##S,                                                    \
                 float_to_half(double_to_float_odd((double)LOAD_##S(a[l]))))                       \
    DEFINE_UNARY(rn_bf16_##S, uint16_t, ROW_##S,                                                   \
                 float_to_bf16(double_to_float_odd((double)LOAD_##S(a[l]))))
EACH_TYPE(INT_TO_FLOAT)
/* ---- floats -----------------------------------------------------------------------------------
 */

static void f32_from_f16(warp *w, const insn *in, uint32_t mask)
{
    float wide[WARP_LANES];
    halves_to_floats(wide, ROW(uint16_t, in->r[1]));
    LANE_STORE(float, canonical(wide[l]));
}
static void f16_from_f32(warp *w, const insn *in, uint32_t mask)
{
    uint16_t narrow[WARP_LANES];
    floats_to_halves(narrow, ROW(float, in->r[1]));
    LANE_STORE(uint16_t, narrow[l]);
}
DEFINE_UNARY(f32_from_bf16, float, uint16_t, canonical(bf16_to_float(a[l])))
DEFINE_UNARY(bf16_from_f32, uint16_t, float, float_to_bf16(a[l]))
static inline float relu(float x)
{
    return x > 0 ? x : x != x ? x : 0.0f;
}
static inline uint16_t half_towards_zero(float x)
{
    uint16_t h = float_to_half(x);
    float back = half_to_float(h);
    if (x == x && fabsf(back) > fabsf(x)) h--;
    return h;
}
/* The neighbour that lies below (or above) x when the nearest lies on the other side. */
static inline uint16_t half_step(uint16_t h, int up)
{
    if (h == 0 || h == 0x8000) return up ? 0x0001 : 0x8001;
    return (uint16_t)((h & 0x8000) ? (up ? h - 1 : h + 1) : (up ? h + 1 : h - 1));
}
static inline uint16_t half_down(float x)
{
    uint16_t h = float_to_half(x);
    return half_to_float(h) > x ? half_step(h, 0) : h;
}
static inline uint16_t half_up(float x)
{
    uint16_t h = float_to_half(x);
    return half_to_float(h) < x ? half_step(h, 1) : h;
}
static inline uint16_t bf16_down(float x)
{
    uint16_t h = float_to_bf16(x);
    return bf16_to_float(h) > x ? half_step(h, 0) : h;
}
static inline uint16_t bf16_up(float x)
{
    uint16_t h = float_to_bf16(x);
    return bf16_to_float(h) < x ? half_step(h, 1) : h;
}
static inline uint16_t bf16_towards_zero(float x)
{
    return x != x ? 0x7fff : (uint16_t)(bits_from_float(x) >> 16);
}
DEFINE_UNARY(f16_relu_from_f32, uint16_t, float, float_to_half(relu(a[l])))
DEFINE_UNARY(bf16_relu_from_f32, uint16_t, float, float_to_bf16(relu(a[l])))
DEFINE_UNARY(f16_sat_from_f32, uint16_t, float, float_to_half(saturate(a[l])))
DEFINE_UNARY(f16_rz_from_f32, uint16_t, float, half_towards_zero(a[l]))
DEFINE_UNARY(f16_rm_from_f32, uint16_t, float, half_down(a[l]))
DEFINE_UNARY(f16_rp_from_f32, uint16_t, float, half_up(a[l]))
DEFINE_UNARY(bf16_rm_from_f32, uint16_t, float, bf16_down(a[l]))
DEFINE_UNARY(bf16_rp_from_f32, uint16_t, float, bf16_up(a[l]))
DEFINE_UNARY(bf16_rz_from_f32, uint16_t, float, bf16_towards_zero(a[l]))
/* cvt.rn.f16x2.f32 d, a, b: a goes to the upper half. */
static void f16x2_from_f32(warp *w, const insn *in, uint32_t mask)
{
    uint16_t high[WARP_LANES], low[WARP_LANES];
    floats_to_halves(high, ROW(float, in->r[1]));
    floats_to_halves(low, ROW(float, in->r[2]));
    LANE_STORE(uint32_t, (uint32_t)high[l] << 16 | low[l]);
}
DEFINE_BINARY(f16x2_relu_from_f32, uint32_t, float, float,
              (uint32_t)float_to_half(relu(a[l])) << 16 | float_to_half(relu(b[l])))
DEFINE_BINARY(f16x2_rz_from_f32, uint32_t, float, float,
              (uint32_t)half_towards_zero(a[l]) << 16 | half_towards_zero(b[l]))
DEFINE_BINARY(bf16x2_from_f32, uint32_t, float, float,
              (uint32_t)float_to_bf16(a[l]) << 16 | float_to_bf16(b[l]))
DEFINE_BINARY(bf16x2_relu_from_f32, uint32_t, float, float,
              (uint32_t)float_to_bf16(relu(a[l])) << 16 | float_to_bf16(relu(b[l])))
DEFINE_BINARY(bf16x2_rz_from_f32, uint32_t, float, float,
              (uint32_t)bf16_towards_zero(a[l]) << 16 | bf16_towards_zero(b[l]))
DEFINE_UNARY(f16_from_f64, uint16_t, double, float_to_half(double_to_float_odd(a[l])))
DEFINE_UNARY(bf16_from_f64, uint16_t, double, float_to_bf16(double_to_float_odd(a[l])))
DEFINE_UNARY(f64_from_f16, double, uint16_t, (double)half_to_float(a[l]))
DEFINE_UNARY(f64_from_f32, double, float, (double)a[l])
DEFINE_UNARY(f32_from_f64, float, double, canonical((float)a[l]))
DEFINE_UNARY(f16_same, uint16_t, uint16_t, a[l])
DEFINE_UNARY(round_rni, float, float, canonical(rintf(a[l])))
DEFINE_UNARY(round_rzi, float, float, canonical(truncf(a[l])))
DEFINE_UNARY(round_rmi, float, float, canonical(floorf(a[l])))
DEFINE_UNARY(round_rpi, float, float, canonical(ceilf(a[l])))
DEFINE_UNARY(round_rni_f16, uint16_t, uint16_t, float_to_half(rintf(half_to_float(a[l]))))
DEFINE_UNARY(round_rzi_f16, uint16_t, uint16_t, float_to_half(truncf(half_to_float(a[l]))))
DEFINE_UNARY(round_rmi_f16, uint16_t, uint16_t, float_to_half(floorf(half_to_float(a[l]))))
DEFINE_UNARY(round_rpi_f16, uint16_t, uint16_t, float_to_half(ceilf(half_to_float(a[l]))))
DEFINE_UNARY(round_rni_f64, double, double, rint(a[l]))
DEFINE_UNARY(round_rzi_f64, double, double, trunc(a[l]))
DEFINE_UNARY(round_rmi_f64, double, double, floor(a[l]))
DEFINE_UNARY(round_rpi_f64, double, double, ceil(a[l]))
DEFINE_UNARY(f32_sat, float, float, saturate(a[l]))
DEFINE_UNARY(f32_flush, float, float, canonical(flush(a[l])))
DEFINE_UNARY(f32_same, float, float, canonical(a[l]))
/* cvt.pack.sat: two clamped integers, below the third operand's bytes for 8-bit results. */
#define PACK8(T)                                                                                   \
    (c[l] << 16 | (uint32_t)(uint8_t)to_##T((double)a[l]) << 8 | (uint8_t)to_##T((double)b[l]))
DEFINE_TERNARY(pack_s8, uint32_t, int32_t, int32_t, uint32_t, PACK8(int8))
DEFINE_TERNARY(pack_u8, uint32_t, int32_t, int32_t, uint32_t, PACK8(uint8))
DEFINE_BINARY(pack_s16, uint32_t, int32_t, int32_t,
              (uint32_t)(uint16_t)to_int16((double)a[l]) << 16 | (uint16_t)to_int16((double)b[l]))
DEFINE_BINARY(pack_u16, uint32_t, int32_t, int32_t,
              (uint32_t)to_uint16((double)a[l]) << 16 | to_uint16((double)b[l]))
/* tf32: 10 fraction bits, nearest, ties away from zero (rna) or to even (rn). */
DEFINE_UNARY(tf32_rna, uint32_t, uint32_t,
             (a[l] & 0x7f800000u) == 0x7f800000u ? a[l] : (a[l] + 0x1000u) & ~0x1fffu)
DEFINE_UNARY(tf32_rn, uint32_t, uint32_t,
             (a[l] & 0x7f800000u) == 0x7f800000u ? a[l]
                                                 : (a[l] + 0xfffu + (a[l] >> 13 & 1)) & ~0x1fffu)

/* ---- the table --------------------------------------------------------------------------------
 */

#define CVT(name, signature, function)                                                             \
    {"cvt." name, signature, function, KIND_PLAIN, CLASS_CONVERT, 0},
#define C_u8 "h"
#define C_s8 "h"
#define C_u16 "h"
#define C_s16 "h"
#define C_u32 "w"
#define C_s32 "w"
#define C_u64 "d"
#define C_s64 "d"
/* A narrow result in a wider register is extended by its sign. */
#define CD_u8 "h"
#define CD_s8 "H"
#define CD_u16 "h"
#define CD_s16 "H"
#define CD_u32 "w"
#define CD_s32 "W"
#define CD_u64 "d"
#define CD_s64 "d"
#define INT_ROWS(D, S)                                                                             \
    CVT(#D "." #S, CD_##D ":" C_##S, cvt_##D##_##S)                                                \
    CVT("sat." #D "." #S, CD_##D ":" C_##S, sat_##D##_##S)
#define TO_INT_ROWS(D)                                                                             \
    CVT("rni." #D ".f32", CD_##D ":f", rni_##D##_f32)                                              \
    CVT("rzi." #D ".f32", CD_##D ":f", rzi_##D##_f32)                                              \
    CVT("rmi." #D ".f32", CD_##D ":f", rmi_##D##_f32)                                              \
    CVT("rpi." #D ".f32", CD_##D ":f", rpi_##D##_f32)                                              \
    CVT("rni.ftz." #D ".f32", CD_##D ":f", rni_##D##_f32)                                          \
    CVT("rzi.ftz." #D ".f32", CD_##D ":f", rzi_##D##_f32)                                          \
    CVT("rni.sat." #D ".f32", CD_##D ":f", rni_##D##_f32)                                          \
    CVT("rzi.sat." #D ".f32", CD_##D ":f", rzi_##D##_f32)                                          \
    CVT("rmi.sat." #D ".f32", CD_##D ":f", rmi_##D##_f32)                                          \
    CVT("rpi.sat." #D ".f32", CD_##D ":f", rpi_##D##_f32)                                          \
    CVT("rni." #D ".f64", CD_##D ":g", rni_##D##_f64)                                              \
    CVT("rzi." #D ".f64", CD_##D ":g", rzi_##D##_f64)                                              \
    CVT("rmi." #D ".f64", CD_##D ":g", rmi_##D##_f64)                                              \
    CVT("rpi." #D ".f64", CD_##D ":g", rpi_##D##_f64)                                              \
    CVT("rni." #D ".f16", CD_##D ":h", rni_##D##_f16)                                              \
    CVT("rzi." #D ".f16", CD_##D ":h", rzi_##D##_f16)                                              \
    CVT("rmi." #D ".f16", CD_##D ":h", rmi_##D##_f16)                                              \
    CVT("rpi." #D ".f16", CD_##D ":h", rpi_##D##_f16)
#define FROM_INT_ROWS(S)                                                                           \
    CVT("rn.f32." #S, "f:" C_##S, rn_f32_##S)                                                      \
    CVT("rn.f64." #S, "g:" C_##S, rn_f64_##S)                                                      \
    CVT("rn.f16." #S, "h:" C_##S, rn_f16_##S)                                                      \
    CVT("rn.bf16." #S, "h:" C_##S, rn_bf16_##S)

/* clang-format off */
static const op_row rows[] = {
    EACH_PAIR(INT_ROWS)
    EACH_TYPE(TO_INT_ROWS)
    EACH_TYPE(FROM_INT_ROWS)
    CVT("f32.f16", "f:h", f32_from_f16)
    CVT("f32.bf16", "f:h", f32_from_bf16)
    CVT("ftz.f32.f16", "f:h", f32_from_f16)
    CVT("rn.f16.f32", "h:f", f16_from_f32)
    CVT("rn.ftz.f16.f32", "h:f", f16_from_f32)
    CVT("rz.f16.f32", "h:f", f16_rz_from_f32)
    CVT("rn.relu.f16.f32", "h:f", f16_relu_from_f32)
    CVT("rn.sat.f16.f32", "h:f", f16_sat_from_f32)
    CVT("rn.bf16.f32", "h:f", bf16_from_f32)
    CVT("rm.f16.f32", "h:f", f16_rm_from_f32)
    CVT("rp.f16.f32", "h:f", f16_rp_from_f32)
    CVT("rm.bf16.f32", "h:f", bf16_rm_from_f32)
    CVT("rp.bf16.f32", "h:f", bf16_rp_from_f32)
    CVT("rz.bf16.f32", "h:f", bf16_rz_from_f32)
    CVT("rn.relu.bf16.f32", "h:f", bf16_relu_from_f32)
    CVT("rn.f16x2.f32", "w:ff", f16x2_from_f32)
    CVT("rz.f16x2.f32", "w:ff", f16x2_rz_from_f32)
    CVT("rn.relu.f16x2.f32", "w:ff", f16x2_relu_from_f32)
    CVT("rn.bf16x2.f32", "w:ff", bf16x2_from_f32)
    CVT("rz.bf16x2.f32", "w:ff", bf16x2_rz_from_f32)
    CVT("rn.relu.bf16x2.f32", "w:ff", bf16x2_relu_from_f32)
    CVT("rn.f16.f64", "h:g", f16_from_f64)
    CVT("rn.bf16.f64", "h:g", bf16_from_f64)
    CVT("f64.f16", "g:h", f64_from_f16)
    CVT("f64.f32", "g:f", f64_from_f32)
    CVT("ftz.f64.f32", "g:f", f64_from_f32)
    CVT("rn.f32.f64", "f:g", f32_from_f64)
    CVT("rn.ftz.f32.f64", "f:g", f32_from_f64)
    CVT("f16.f16", "h:h", f16_same)
    CVT("f32.f32", "f:f", f32_same)
    CVT("sat.f32.f32", "f:f", f32_sat)
    CVT("ftz.sat.f32.f32", "f:f", f32_sat)
    CVT("ftz.f32.f32", "f:f", f32_flush)
    CVT("rni.f32.f32", "f:f", round_rni)
    CVT("rzi.f32.f32", "f:f", round_rzi)
    CVT("rmi.f32.f32", "f:f", round_rmi)
    CVT("rpi.f32.f32", "f:f", round_rpi)
    CVT("rni.ftz.f32.f32", "f:f", round_rni)
    CVT("rzi.ftz.f32.f32", "f:f", round_rzi)
    CVT("rmi.ftz.f32.f32", "f:f", round_rmi)
    CVT("rpi.ftz.f32.f32", "f:f", round_rpi)
    CVT("rni.f64.f64", "g:g", round_rni_f64)
    CVT("rzi.f64.f64", "g:g", round_rzi_f64)
    CVT("rmi.f64.f64", "g:g", round_rmi_f64)
    CVT("rpi.f64.f64", "g:g", round_rpi_f64)
    CVT("rni.f16.f16", "h:h", round_rni_f16)
    CVT("rzi.f16.f16", "h:h", round_rzi_f16)
    CVT("rmi.f16.f16", "h:h", round_rmi_f16)
    CVT("rpi.f16.f16", "h:h", round_rpi_f16)
    CVT("pack.sat.s8.s32.b32", "w:www", pack_s8)
    CVT("pack.sat.u8.s32.b32", "w:www", pack_u8)
    CVT("pack.sat.s16.s32", "w:ww", pack_s16)
    CVT("pack.sat.u16.s32", "w:ww", pack_u16)
    CVT("rna.tf32.f32", "w:w", tf32_rna)
    CVT("rn.tf32."  "f32", "w:w", tf32_rn)
};
/* clang-format on */

extern const op_table EMU_ISA_NAME(emu_convert_ops);
const op_table EMU_ISA_NAME(emu_convert_ops) = {rows, sizeof rows / sizeof rows[0]};
