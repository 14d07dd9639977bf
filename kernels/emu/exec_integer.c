/* Integer, logic, comparison and move instructions. Source: PTX ISA 9.0, sections 9.7.1 (integer),
 * 9.7.6 (comparison), 9.7.8 (logic and shift), 9.7.9 (data movement within registers). */
#include "kernels/emu/exec_lanes.h"

/* ---- arithmetic -------------------------------------------------------------------------------
 */

#define WRAP_OPS(T, U, suffix)                                                                     \
    DEFINE_BINARY(add_##suffix, U, U, U, a[l] + b[l])                                              \
    DEFINE_BINARY(sub_##suffix, U, U, U, a[l] - b[l])                                              \
    DEFINE_BINARY(mul_##suffix, U, U, U, (U)((uint64_t)a[l] * (uint64_t)b[l]))                     \
    DEFINE_TERNARY(mad_##suffix, U, U, U, U, (U)((uint64_t)a[l] * (uint64_t)b[l] + c[l]))          \
    DEFINE_UNARY(neg_##suffix, U, U, (U)0 - a[l])                                                  \
    DEFINE_UNARY(not_##suffix, U, U, (U)~a[l])                                                     \
    DEFINE_UNARY(cnot_##suffix, U, U, a[l] == 0)                                                   \
    DEFINE_BINARY(and_##suffix, U, U, U, a[l] & b[l])                                              \
    DEFINE_BINARY(or_##suffix, U, U, U, a[l] | b[l])                                               \
    DEFINE_BINARY(xor_##suffix, U, U, U, a[l] ^ b[l])                                              \
    DEFINE_BINARY(shl_##suffix, U, U, uint32_t,                                                    \
                  b[l] >= sizeof(U) * 8 ? 0 : (uint64_t)a[l] << (b[l] & 63))                       \
    DEFINE_BINARY(shr_u_##suffix, U, U, uint32_t,                                                  \
                  b[l] >= sizeof(U) * 8 ? 0 : (uint64_t)a[l] >> (b[l] & 63))                       \
    DEFINE_BINARY(shr_s_##suffix, T, T, uint32_t,                                                  \
                  a[l] >> (b[l] >= sizeof(U) * 8 ? sizeof(U) * 8 - 1 : b[l]))                      \
    DEFINE_BINARY(min_u_##suffix, U, U, U, a[l] < b[l] ? a[l] : b[l])                              \
    DEFINE_BINARY(max_u_##suffix, U, U, U, a[l] > b[l] ? a[l] : b[l])                              \
    DEFINE_BINARY(min_s_##suffix, T, T, T, a[l] < b[l] ? a[l] : b[l])                              \
    DEFINE_BINARY(max_s_##suffix, T, T, T, a[l] > b[l] ? a[l] : b[l])                              \
    DEFINE_BINARY(div_u_##suffix, U, U, U, b[l] ? a[l] / b[l] : (U) ~(U)0)                         \
    DEFINE_BINARY(rem_u_##suffix, U, U, U, b[l] ? a[l] % b[l] : a[l])                              \
    DEFINE_BINARY(div_s_##suffix, T, T, T, divide_##suffix(a[l], b[l]))                            \
    DEFINE_BINARY(rem_s_##suffix, T, T, T, remainder_##suffix(a[l], b[l]))                         \
    DEFINE_UNARY(abs_##suffix, U, T, a[l] < 0 ? (U)0 - (U)a[l] : (U)a[l])                          \
    DEFINE_UNARY(mov_##suffix, U, U, a[l])

/* Division by zero is unspecified; the hardware gives all ones. The one overflow wraps. */
#define SIGNED_DIVISION(T, U, suffix)                                                              \
    static inline T divide_##suffix(T a, T b)                                                      \
    {                                                                                              \
        if (b == 0) return (T)-1;                                                                  \
        return b == -1 ? (T)((U)0 - (U)a) : (T)(a / b);                                            \
    }                                                                                              \
    static inline T remainder_##suffix(T a, T b)                                                   \
    {                                                                                              \
        if (b == 0) return a;                                                                      \
        return b == -1 ? 0 : (T)(a % b);                                                           \
    }
SIGNED_DIVISION(int16_t, uint16_t, 16)
SIGNED_DIVISION(int32_t, uint32_t, 32)
SIGNED_DIVISION(int64_t, uint64_t, 64)

WRAP_OPS(int16_t, uint16_t, 16)
WRAP_OPS(int32_t, uint32_t, 32)
WRAP_OPS(int64_t, uint64_t, 64)

__extension__ typedef unsigned __int128 wide_unsigned;
__extension__ typedef __int128 wide_signed;

DEFINE_BINARY(mulhi_u16, uint16_t, uint16_t, uint16_t, (uint32_t)a[l] * b[l] >> 16)
DEFINE_BINARY(mulhi_s16, uint16_t, int16_t, int16_t, (int32_t)a[l] * b[l] >> 16)
DEFINE_BINARY(mulhi_u32, uint32_t, uint32_t, uint32_t, (uint64_t)a[l] * b[l] >> 32)
DEFINE_BINARY(mulhi_s32, uint32_t, int32_t, int32_t, (int64_t)a[l] * b[l] >> 32)
DEFINE_BINARY(mulhi_u64, uint64_t, uint64_t, uint64_t, (wide_unsigned)a[l] * b[l] >> 64)
DEFINE_BINARY(mulhi_s64, uint64_t, int64_t, int64_t, (wide_signed)a[l] * b[l] >> 64)
DEFINE_BINARY(mulwide_u16, uint32_t, uint16_t, uint16_t, (uint32_t)a[l] * b[l])
DEFINE_BINARY(mulwide_s16, uint32_t, int16_t, int16_t, (int32_t)a[l] * b[l])
DEFINE_BINARY(mulwide_u32, uint64_t, uint32_t, uint32_t, (uint64_t)a[l] * b[l])
DEFINE_BINARY(mulwide_s32, uint64_t, int32_t, int32_t, (int64_t)a[l] * b[l])
DEFINE_TERNARY(madhi_u32, uint32_t, uint32_t, uint32_t, uint32_t,
               ((uint64_t)a[l] * b[l] >> 32) + c[l])
DEFINE_TERNARY(madhi_s32, uint32_t, int32_t, int32_t, uint32_t,
               (uint32_t)((int64_t)a[l] * b[l] >> 32) + c[l])
DEFINE_TERNARY(madhi_u64, uint64_t, uint64_t, uint64_t, uint64_t,
               (uint64_t)((wide_unsigned)a[l] * b[l] >> 64) + c[l])
DEFINE_TERNARY(madhi_s64, uint64_t, int64_t, int64_t, uint64_t,
               (uint64_t)((wide_signed)a[l] * b[l] >> 64) + c[l])
DEFINE_TERNARY(madwide_u16, uint32_t, uint16_t, uint16_t, uint32_t, (uint32_t)a[l] * b[l] + c[l])
DEFINE_TERNARY(madwide_s16, uint32_t, int16_t, int16_t, uint32_t,
               (uint32_t)((int32_t)a[l] * b[l]) + c[l])
DEFINE_TERNARY(madwide_u32, uint64_t, uint32_t, uint32_t, uint64_t, (uint64_t)a[l] * b[l] + c[l])
DEFINE_TERNARY(madwide_s32, uint64_t, int32_t, int32_t, uint64_t,
               (uint64_t)((int64_t)a[l] * b[l]) + c[l])

static inline int32_t low24(uint32_t x)
{
    return (int32_t)(x << 8) >> 8;
}
DEFINE_BINARY(mul24_u32, uint32_t, uint32_t, uint32_t, (a[l] & 0xffffffu) * (b[l] & 0xffffffu))
DEFINE_BINARY(mul24_s32, uint32_t, uint32_t, uint32_t,
              (uint32_t)low24(a[l]) * (uint32_t)low24(b[l]))
DEFINE_TERNARY(mad24_u32, uint32_t, uint32_t, uint32_t, uint32_t,
               (a[l] & 0xffffffu) * (b[l] & 0xffffffu) + c[l])
DEFINE_TERNARY(mad24_s32, uint32_t, uint32_t, uint32_t, uint32_t,
               (uint32_t)low24(a[l]) * (uint32_t)low24(b[l]) + c[l])

static inline int32_t clamp32(int64_t x)
{
    return x > INT32_MAX ? INT32_MAX : x < INT32_MIN ? INT32_MIN : (int32_t)x;
}
DEFINE_BINARY(addsat_s32, int32_t, int32_t, int32_t, clamp32((int64_t)a[l] + b[l]))
DEFINE_BINARY(subsat_s32, int32_t, int32_t, int32_t, clamp32((int64_t)a[l] - b[l]))
DEFINE_TERNARY(sad_u32, uint32_t, uint32_t, uint32_t, uint32_t,
               (a[l] > b[l] ? a[l] - b[l] : b[l] - a[l]) + c[l])
DEFINE_TERNARY(sad_s32, uint32_t, int32_t, int32_t, uint32_t,
               (a[l] > b[l] ? (uint32_t)a[l] - (uint32_t)b[l] : (uint32_t)b[l] - (uint32_t)a[l]) +
                   c[l])
DEFINE_BINARY(minrelu_s32, int32_t, int32_t, int32_t,
              (a[l] < b[l] ? a[l] : b[l]) < 0 ? 0 : (a[l] < b[l] ? a[l] : b[l]))
DEFINE_BINARY(maxrelu_s32, int32_t, int32_t, int32_t,
              (a[l] > b[l] ? a[l] : b[l]) < 0 ? 0 : (a[l] > b[l] ? a[l] : b[l]))

/* Two 16-bit lanes in a register. */
#define PAIR16(T, op)                                                                              \
    ((uint32_t)(uint16_t)op((T)a[l], (T)b[l]) |                                                    \
     (uint32_t)(uint16_t)op((T)(a[l] >> 16), (T)(b[l] >> 16)) << 16)
#define PICK_MIN(x, y) ((x) < (y) ? (x) : (y))
#define PICK_MAX(x, y) ((x) > (y) ? (x) : (y))
#define PICK_SUM(x, y) ((x) + (y))
DEFINE_BINARY(add_x2, uint32_t, uint32_t, uint32_t, PAIR16(uint16_t, PICK_SUM))
DEFINE_BINARY(min_u16x2, uint32_t, uint32_t, uint32_t, PAIR16(uint16_t, PICK_MIN))
DEFINE_BINARY(max_u16x2, uint32_t, uint32_t, uint32_t, PAIR16(uint16_t, PICK_MAX))
DEFINE_BINARY(min_s16x2, uint32_t, uint32_t, uint32_t, PAIR16(int16_t, PICK_MIN))
DEFINE_BINARY(max_s16x2, uint32_t, uint32_t, uint32_t, PAIR16(int16_t, PICK_MAX))

/* ---- carries ----------------------------------------------------------------------------------
 */

#define CARRY_OP(name, U, initial, step)                                                           \
    static void name(warp *w, const insn *in, uint32_t mask)                                       \
    {                                                                                              \
        U *d = ROW(U, in->r[0]);                                                                   \
        SRC(U, a, 1);                                                                              \
        SRC(U, b, 2);                                                                              \
        uint32_t out = w->carry;                                                                   \
        for (int l = 0; l < WARP_LANES; l++) {                                                     \
            if (!LANE_ON(mask, l)) continue;                                                       \
            wide_unsigned carry = initial ? LANE_ON(w->carry, l) : 0;                              \
            wide_unsigned sum = step;                                                              \
            d[l] = (U)sum;                                                                         \
            out = (out & ~(1u << l)) | (uint32_t)((sum >> (sizeof(U) * 8)) & 1) << l;              \
        }                                                                                          \
        if (in->aux) w->carry = out;                                                               \
    }
CARRY_OP(addc_32, uint32_t, 1, (wide_unsigned)a[l] + b[l] + carry)
CARRY_OP(addc_64, uint64_t, 1, (wide_unsigned)a[l] + b[l] + carry)
CARRY_OP(addcc_32, uint32_t, 0, (wide_unsigned)a[l] + b[l] + carry)
CARRY_OP(addcc_64, uint64_t, 0, (wide_unsigned)a[l] + b[l] + carry)
/* The flag of a subtraction is a borrow. */
CARRY_OP(subc_32, uint32_t, 1, (wide_unsigned)a[l] - b[l] - carry)
CARRY_OP(subc_64, uint64_t, 1, (wide_unsigned)a[l] - b[l] - carry)
CARRY_OP(subcc_32, uint32_t, 0, (wide_unsigned)a[l] - b[l] - carry)
CARRY_OP(subcc_64, uint64_t, 0, (wide_unsigned)a[l] - b[l] - carry)

#define CARRY_MAD(name, U, initial, product)                                                       \
    static void name(warp *w, const insn *in, uint32_t mask)                                       \
    {                                                                                              \
        U *d = ROW(U, in->r[0]);                                                                   \
        SRC(U, a, 1);                                                                              \
        SRC(U, b, 2);                                                                              \
        SRC(U, c, 3);                                                                              \
        uint32_t out = w->carry;                                                                   \
        for (int l = 0; l < WARP_LANES; l++) {                                                     \
            if (!LANE_ON(mask, l)) continue;                                                       \
            wide_unsigned sum = (wide_unsigned)(U)(product) + c[l];                                \
            if (initial) sum += LANE_ON(w->carry, l);                                              \
            d[l] = (U)sum;                                                                         \
            out = (out & ~(1u << l)) | (uint32_t)((sum >> (sizeof(U) * 8)) & 1) << l;              \
        }                                                                                          \
        if (in->aux) w->carry = out;                                                               \
    }
CARRY_MAD(madlocc_32, uint32_t, 0, (uint64_t)a[l] * b[l])
CARRY_MAD(madhicc_u32, uint32_t, 0, (uint64_t)a[l] * b[l] >> 32)
CARRY_MAD(madloc_32, uint32_t, 1, (uint64_t)a[l] * b[l])
CARRY_MAD(madhic_u32, uint32_t, 1, (uint64_t)a[l] * b[l] >> 32)
CARRY_MAD(madlocc_64, uint64_t, 0, (wide_unsigned)a[l] * b[l])
CARRY_MAD(madhicc_u64, uint64_t, 0, (wide_unsigned)a[l] * b[l] >> 64)
CARRY_MAD(madloc_64, uint64_t, 1, (wide_unsigned)a[l] * b[l])
CARRY_MAD(madhic_u64, uint64_t, 1, (wide_unsigned)a[l] * b[l] >> 64)

/* ---- bits -------------------------------------------------------------------------------------
 */

static inline uint32_t reverse32(uint32_t x)
{
    x = (x >> 1 & 0x55555555u) | (x & 0x55555555u) << 1;
    x = (x >> 2 & 0x33333333u) | (x & 0x33333333u) << 2;
    x = (x >> 4 & 0x0f0f0f0fu) | (x & 0x0f0f0f0fu) << 4;
    return __builtin_bswap32(x);
}
DEFINE_UNARY(popc_32, uint32_t, uint32_t, (uint32_t)__builtin_popcount(a[l]))
DEFINE_UNARY(popc_64, uint32_t, uint64_t, (uint32_t)__builtin_popcountll(a[l]))
DEFINE_UNARY(clz_32, uint32_t, uint32_t, a[l] ? (uint32_t)__builtin_clz(a[l]) : 32)
DEFINE_UNARY(clz_64, uint32_t, uint64_t, a[l] ? (uint32_t)__builtin_clzll(a[l]) : 64)
DEFINE_UNARY(brev_32, uint32_t, uint32_t, reverse32(a[l]))
DEFINE_UNARY(brev_64, uint64_t, uint64_t,
             (uint64_t)reverse32((uint32_t)a[l]) << 32 | reverse32((uint32_t)(a[l] >> 32)))
DEFINE_UNARY(bfind_u32, uint32_t, uint32_t, a[l] ? 31u - (uint32_t)__builtin_clz(a[l]) : ~0u)
DEFINE_UNARY(bfind_u64, uint32_t, uint64_t, a[l] ? 63u - (uint32_t)__builtin_clzll(a[l]) : ~0u)
DEFINE_UNARY(bfind_s32, uint32_t, int32_t,
             (a[l] ^ a[l] >> 31) ? 31u - (uint32_t)__builtin_clz((uint32_t)(a[l] ^ a[l] >> 31))
                                 : ~0u)
DEFINE_UNARY(bfindshift_u32, uint32_t, uint32_t, a[l] ? (uint32_t)__builtin_clz(a[l]) : ~0u)

static inline uint64_t extract(uint64_t x, uint32_t position, uint32_t length, uint32_t bits,
                               int is_signed)
{
    position &= 0xff;
    length &= 0xff;
    if (length == 0) return 0;
    uint64_t field = position >= bits ? 0 : x >> position;
    if (!is_signed) return length >= 64 ? field : field & ((UINT64_C(1) << length) - 1);
    /* The sign is the field's top bit, or x's own where the field reaches past it. */
    uint32_t top = position + length - 1;
    uint64_t sign = (x >> (top >= bits ? bits - 1 : top)) & 1;
    uint32_t valid = position >= bits ? 0 : bits - position;
    if (length < valid) valid = length;
    uint64_t kept = valid >= 64 ? field : field & ((UINT64_C(1) << valid) - 1);
    uint64_t fill = valid >= 64 ? 0 : ~UINT64_C(0) << valid;
    return sign ? kept | fill : kept;
}
DEFINE_TERNARY(bfe_u32, uint32_t, uint32_t, uint32_t, uint32_t, extract(a[l], b[l], c[l], 32, 0))
DEFINE_TERNARY(bfe_s32, uint32_t, uint32_t, uint32_t, uint32_t, extract(a[l], b[l], c[l], 32, 1))
DEFINE_TERNARY(bfe_u64, uint64_t, uint64_t, uint32_t, uint32_t, extract(a[l], b[l], c[l], 64, 0))
DEFINE_TERNARY(bfe_s64, uint64_t, uint64_t, uint32_t, uint32_t, extract(a[l], b[l], c[l], 64, 1))

static inline uint64_t insert(uint64_t field, uint64_t into, uint32_t position, uint32_t length,
                              uint32_t bits)
{
    position &= 0xff;
    length &= 0xff;
    if (position >= bits || length == 0) return into;
    uint64_t ones = length >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << length) - 1;
    return (into & ~(ones << position)) | (field & ones) << position;
}
#define DEFINE_BFI(name, U, bits)                                                                  \
    static void name(warp *w, const insn *in, uint32_t mask)                                       \
    {                                                                                              \
        SRC(U, a, 1);                                                                              \
        SRC(U, b, 2);                                                                              \
        SRC(uint32_t, c, 3);                                                                       \
        SRC(uint32_t, e, 4);                                                                       \
        LANE_STORE(U, insert(a[l], b[l], c[l], e[l], bits));                                       \
    }
DEFINE_BFI(bfi_32, uint32_t, 32)
DEFINE_BFI(bfi_64, uint64_t, 64)

static inline uint32_t bit_mask(uint32_t position, uint32_t length, int clamp)
{
    if (!clamp) {
        position &= 31;
        length &= 31;
    }
    if (position >= 32 || length == 0) return 0;
    uint32_t ones = length >= 32 ? ~0u : (1u << length) - 1;
    return ones << position;
}
DEFINE_BINARY(bmsk_clamp, uint32_t, uint32_t, uint32_t, bit_mask(a[l], b[l], 1))
DEFINE_BINARY(bmsk_wrap, uint32_t, uint32_t, uint32_t, bit_mask(a[l], b[l], 0))

static inline uint32_t extend(uint32_t x, uint32_t bits, int is_signed, int clamp)
{
    if (!clamp) bits &= 31;
    if (bits >= 32) return x;
    if (bits == 0) return 0;
    uint32_t kept = x & ((1u << bits) - 1);
    return is_signed && (kept >> (bits - 1)) ? kept | ~0u << bits : kept;
}
DEFINE_BINARY(szext_clamp_u32, uint32_t, uint32_t, uint32_t, extend(a[l], b[l], 0, 1))
DEFINE_BINARY(szext_clamp_s32, uint32_t, uint32_t, uint32_t, extend(a[l], b[l], 1, 1))
DEFINE_BINARY(szext_wrap_u32, uint32_t, uint32_t, uint32_t, extend(a[l], b[l], 0, 0))
DEFINE_BINARY(szext_wrap_s32, uint32_t, uint32_t, uint32_t, extend(a[l], b[l], 1, 0))

/* shf: the 64-bit value {b,a} shifted by c. */
#define CLAMPED(c) ((c) > 32 ? 32u : (c))
DEFINE_TERNARY(shf_l_clamp, uint32_t, uint32_t, uint32_t, uint32_t,
               (((uint64_t)b[l] << 32 | a[l]) << CLAMPED(c[l])) >> 32)
DEFINE_TERNARY(shf_l_wrap, uint32_t, uint32_t, uint32_t, uint32_t,
               (((uint64_t)b[l] << 32 | a[l]) << (c[l] & 31)) >> 32)
DEFINE_TERNARY(shf_r_clamp, uint32_t, uint32_t, uint32_t, uint32_t,
               ((uint64_t)b[l] << 32 | a[l]) >> CLAMPED(c[l]))
DEFINE_TERNARY(shf_r_wrap, uint32_t, uint32_t, uint32_t, uint32_t,
               ((uint64_t)b[l] << 32 | a[l]) >> (c[l] & 31))

static void lop3(warp *w, const insn *in, uint32_t mask)
{
    SRC(uint32_t, a, 1);
    SRC(uint32_t, b, 2);
    SRC(uint32_t, c, 3);
    const uint32_t table = in->aux;
    /* One all-ones or all-zeros word a row of the truth table, so that the loop stays straight. */
    uint32_t on[8];
    for (int i = 0; i < 8; i++) on[i] = (table >> i) & 1 ? ~0u : 0;
    LANE_STORE(uint32_t, (on[0] & ~a[l] & ~b[l] & ~c[l]) | (on[1] & ~a[l] & ~b[l] & c[l]) |
                             (on[2] & ~a[l] & b[l] & ~c[l]) | (on[3] & ~a[l] & b[l] & c[l]) |
                             (on[4] & a[l] & ~b[l] & ~c[l]) | (on[5] & a[l] & ~b[l] & c[l]) |
                             (on[6] & a[l] & b[l] & ~c[l]) | (on[7] & a[l] & b[l] & c[l]));
}

static inline uint32_t permute(uint32_t a, uint32_t b, uint32_t selector)
{
    uint64_t bytes = (uint64_t)b << 32 | a;
    uint32_t out = 0;
    for (int i = 0; i < 4; i++) {
        uint32_t s = selector >> (4 * i) & 0xf;
        uint32_t byte = (uint32_t)(bytes >> (8 * (s & 7))) & 0xff;
        if (s & 8) byte = byte & 0x80 ? 0xff : 0;
        out |= byte << (8 * i);
    }
    return out;
}
DEFINE_TERNARY(prmt, uint32_t, uint32_t, uint32_t, uint32_t, permute(a[l], b[l], c[l]))
/* The modes that take a two-bit shift instead of a selector. */
static inline uint32_t mode_selector(const char *table, uint32_t c)
{
    uint32_t s = 0;
    for (int i = 0; i < 4; i++) s |= (uint32_t)(table[(c & 3) * 4 + (uint32_t)i] - '0') << (4 * i);
    return s;
}
#define PRMT_MODE(name, table)                                                                     \
    DEFINE_TERNARY(prmt_##name, uint32_t, uint32_t, uint32_t, uint32_t,                            \
                   permute(a[l], b[l], mode_selector(table, c[l])))
PRMT_MODE(f4e, "0123123423453456")
PRMT_MODE(b4e, "0765107621073210")
PRMT_MODE(rc8, "0000111122223333")
PRMT_MODE(ecl, "0123112322233333")
PRMT_MODE(ecr, "0000011101220123")
PRMT_MODE(rc16, "0101232301012323")

/* ---- dot products -----------------------------------------------------------------------------
 */

static inline int32_t byte_of(uint32_t x, int i, int is_signed)
{
    uint32_t byte = x >> (8 * i) & 0xff;
    return is_signed ? (int32_t)(int8_t)byte : (int32_t)byte;
}
static inline int32_t half_of(uint32_t x, int i, int is_signed)
{
    uint32_t half = x >> (16 * i) & 0xffff;
    return is_signed ? (int32_t)(int16_t)half : (int32_t)half;
}
static inline uint32_t dot4(uint32_t a, uint32_t b, uint32_t c, int sa, int sb)
{
    for (int i = 0; i < 4; i++) c += (uint32_t)(byte_of(a, i, sa) * byte_of(b, i, sb));
    return c;
}
static inline uint32_t dot2(uint32_t a, uint32_t b, uint32_t c, int sa, int sb, int high)
{
    for (int i = 0; i < 2; i++)
        c += (uint32_t)half_of(a, i, sa) * (uint32_t)byte_of(b, i + 2 * high, sb);
    return c;
}
#define DOT_OPS(ta, tb, sa, sb)                                                                    \
    DEFINE_TERNARY(dp4a_##ta##_##tb, uint32_t, uint32_t, uint32_t, uint32_t,                       \
                   dot4(a[l], b[l], c[l], sa, sb))                                                 \
    DEFINE_TERNARY(dp2alo_##ta##_##tb, uint32_t, uint32_t, uint32_t, uint32_t,                     \
                   dot2(a[l], b[l], c[l], sa, sb, 0))                                              \
    DEFINE_TERNARY(dp2ahi_##ta##_##tb, uint32_t, uint32_t, uint32_t, uint32_t,                     \
                   dot2(a[l], b[l], c[l], sa, sb, 1))
DOT_OPS(u32, u32, 0, 0)
DOT_OPS(u32, s32, 0, 1)
DOT_OPS(s32, u32, 1, 0)
DOT_OPS(s32, s32, 1, 1)

/* ---- predicates -------------------------------------------------------------------------------
 */

#define PRED_BINARY(name, expression)                                                              \
    static void name(warp *w, const insn *in, uint32_t mask)                                       \
    {                                                                                              \
        uint32_t a = predicate(w, in->r[1]), b = predicate(w, in->r[2]);                           \
        set_predicate(w, in->r[0], mask, expression);                                              \
    }
PRED_BINARY(and_pred, a &b)
PRED_BINARY(or_pred, a | b)
PRED_BINARY(xor_pred, a ^ b)
static void not_pred(warp *w, const insn *in, uint32_t mask)
{
    set_predicate(w, in->r[0], mask, ~predicate(w, in->r[1]));
}
static void mov_pred(warp *w, const insn *in, uint32_t mask)
{
    set_predicate(w, in->r[0], mask, predicate(w, in->r[1]));
}

#define SELECT_OP(name, U)                                                                         \
    static void name(warp *w, const insn *in, uint32_t mask)                                       \
    {                                                                                              \
        SRC(U, a, 1);                                                                              \
        SRC(U, b, 2);                                                                              \
        uint32_t c = predicate(w, in->r[3]);                                                       \
        LANE_STORE(U, LANE_ON(c, l) ? a[l] : b[l]);                                                \
    }
SELECT_OP(selp_16, uint16_t)
SELECT_OP(selp_32, uint32_t)
SELECT_OP(selp_64, uint64_t)

DEFINE_TERNARY(slct_32_s32, uint32_t, uint32_t, uint32_t, int32_t, c[l] >= 0 ? a[l] : b[l])
DEFINE_TERNARY(slct_64_s32, uint64_t, uint64_t, uint64_t, int32_t, c[l] >= 0 ? a[l] : b[l])
DEFINE_TERNARY(slct_32_f32, uint32_t, uint32_t, uint32_t, float, c[l] >= 0 ? a[l] : b[l])

/* setp: r[0] = combined, r[1] = combined complement, r[2], r[3] compared, r[4] the third predicate.
 * aux: 0 none, 1 and, 2 or, 3 xor. */
static inline void store_comparison(warp *w, const insn *in, uint32_t mask, uint32_t bits)
{
    uint32_t no = ~bits;
    if (in->aux) {
        uint32_t c = predicate(w, in->r[4]);
        bits = in->aux == 1 ? bits & c : in->aux == 2 ? bits | c : bits ^ c;
        no = in->aux == 1 ? no & c : in->aux == 2 ? no | c : no ^ c;
    }
    set_predicate(w, in->r[1], mask, no);
    set_predicate(w, in->r[0], mask, bits);
}
#define COMPARE(name, T, expression)                                                               \
    static void name(warp *w, const insn *in, uint32_t mask)                                       \
    {                                                                                              \
        SRC(T, a, 2);                                                                              \
        SRC(T, b, 3);                                                                              \
        uint32_t bits = 0;                                                                         \
        LANE_LOOP bits |= (uint32_t)(expression) << l;                                             \
        store_comparison(w, in, mask, bits);                                                       \
    }
#define COMPARE_ORDER(suffix, T)                                                                   \
    COMPARE(lt_##suffix, T, a[l] < b[l])                                                           \
    COMPARE(le_##suffix, T, a[l] <= b[l])                                                          \
    COMPARE(gt_##suffix, T, a[l] > b[l])                                                           \
    COMPARE(ge_##suffix, T, a[l] >= b[l])
#define COMPARE_EQUAL(suffix, T)                                                                   \
    COMPARE(eq_##suffix, T, a[l] == b[l])                                                          \
    COMPARE(ne_##suffix, T, a[l] != b[l])
COMPARE_EQUAL(b16, uint16_t)
COMPARE_EQUAL(b32, uint32_t)
COMPARE_EQUAL(b64, uint64_t)
COMPARE_ORDER(u16, uint16_t)
COMPARE_ORDER(s16, int16_t)
COMPARE_ORDER(u32, uint32_t)
COMPARE_ORDER(s32, int32_t)
COMPARE_ORDER(u64, uint64_t)
COMPARE_ORDER(s64, int64_t)
#define COMPARE_FLOAT(suffix, T)                                                                   \
    COMPARE_EQUAL(suffix##_raw, T)                                                                 \
    COMPARE_ORDER(suffix, T)                                                                       \
    COMPARE(eq_##suffix, T, a[l] == b[l])                                                          \
    COMPARE(ne_##suffix, T, (a[l] < b[l]) | (a[l] > b[l]))                                         \
    COMPARE(equ_##suffix, T, !((a[l] < b[l]) | (a[l] > b[l])))                                     \
    COMPARE(neu_##suffix, T, !(a[l] == b[l]))                                                      \
    COMPARE(ltu_##suffix, T, !(a[l] >= b[l]))                                                      \
    COMPARE(leu_##suffix, T, !(a[l] > b[l]))                                                       \
    COMPARE(gtu_##suffix, T, !(a[l] <= b[l]))                                                      \
    COMPARE(geu_##suffix, T, !(a[l] < b[l]))                                                       \
    COMPARE(num_##suffix, T, (a[l] == a[l]) & (b[l] == b[l]))                                      \
    COMPARE(nan_##suffix, T, (a[l] != a[l]) | (b[l] != b[l]))
#undef COMPARE_EQUAL
#define COMPARE_EQUAL(suffix, T)
COMPARE_FLOAT(f32, float)
COMPARE_FLOAT(f64, double)

/* ---- moves between widths ---------------------------------------------------------------------
 */

DEFINE_BINARY(pack_32_16, uint32_t, uint16_t, uint16_t, a[l] | (uint32_t)b[l] << 16)
DEFINE_BINARY(pack_64_32, uint64_t, uint32_t, uint32_t, a[l] | (uint64_t)b[l] << 32)
static void pack_64_16(warp *w, const insn *in, uint32_t mask)
{
    SRC(uint16_t, a, 1);
    SRC(uint16_t, b, 2);
    SRC(uint16_t, c, 3);
    SRC(uint16_t, e, 4);
    LANE_STORE(uint64_t, a[l] | (uint64_t)b[l] << 16 | (uint64_t)c[l] << 32 | (uint64_t)e[l] << 48);
}
/* Unpacking reads the whole source before it writes: a destination may be the source's row. */
#define UNPACK(name, D, S, n)                                                                      \
    static void name(warp *w, const insn *in, uint32_t mask)                                       \
    {                                                                                              \
        S whole[WARP_LANES];                                                                       \
        memcpy(whole, ROW(S, in->r[n]), sizeof whole);                                             \
        for (int i = 0; i < n; i++) {                                                              \
            D *d = ROW(D, in->r[i]);                                                               \
            LANE_LOOP d[l] =                                                                       \
                LANE_ON(mask, l) ? (D)(whole[l] >> (sizeof(D) * 8 * (unsigned)i)) : d[l];          \
        }                                                                                          \
    }
UNPACK(unpack_32_16, uint16_t, uint32_t, 2)
UNPACK(unpack_64_32, uint32_t, uint64_t, 2)
UNPACK(unpack_64_16, uint16_t, uint64_t, 4)

DEFINE_UNARY(narrow_32_16, uint16_t, uint32_t, a[l])
DEFINE_UNARY(narrow_64_16, uint16_t, uint64_t, a[l])
DEFINE_UNARY(narrow_64_32, uint32_t, uint64_t, a[l])
DEFINE_UNARY(widen_u16_32, uint32_t, uint16_t, a[l])
DEFINE_UNARY(widen_u16_64, uint64_t, uint16_t, a[l])
DEFINE_UNARY(widen_u32_64, uint64_t, uint32_t, a[l])
DEFINE_UNARY(widen_s16_32, int32_t, int16_t, a[l])
DEFINE_UNARY(widen_s16_64, int64_t, int16_t, a[l])
DEFINE_UNARY(widen_s32_64, int64_t, int32_t, a[l])

DEFINE_UNARY(to_shared, uint64_t, uint64_t, a[l] - GENERIC_SHARED)
DEFINE_UNARY(from_shared, uint64_t, uint64_t, a[l] + GENERIC_SHARED)
DEFINE_UNARY(to_local, uint64_t, uint64_t, a[l] - GENERIC_LOCAL)
DEFINE_UNARY(from_local, uint64_t, uint64_t, a[l] + GENERIC_LOCAL)
DEFINE_UNARY(to_param, uint64_t, uint64_t, a[l] - GENERIC_PARAM)
DEFINE_UNARY(from_param, uint64_t, uint64_t, a[l] + GENERIC_PARAM)

#define IN_WINDOW(name, window)                                                                    \
    static void name(warp *w, const insn *in, uint32_t mask)                                       \
    {                                                                                              \
        SRC(uint64_t, a, 1);                                                                       \
        uint32_t bits = 0;                                                                         \
        LANE_LOOP bits |= (uint32_t)(a[l] - (window) < GENERIC_WINDOW) << l;                       \
        set_predicate(w, in->r[0], mask, bits);                                                    \
    }
IN_WINDOW(is_shared, GENERIC_SHARED)
IN_WINDOW(is_local, GENERIC_LOCAL)
IN_WINDOW(is_param, GENERIC_PARAM)
static void is_global(warp *w, const insn *in, uint32_t mask)
{
    SRC(uint64_t, a, 1);
    uint32_t bits = 0;
    LANE_LOOP bits |= (uint32_t)(a[l] - GENERIC_SHARED >= 4 * GENERIC_SHARED) << l;
    set_predicate(w, in->r[0], mask, bits);
}

static void read_clock(warp *w, const insn *in, uint32_t mask)
{
    const uint32_t steps = (uint32_t)w->block->steps;
    LANE_STORE(uint32_t, steps);
}
static void read_clock64(warp *w, const insn *in, uint32_t mask)
{
    const uint64_t steps = w->block->steps;
    LANE_STORE(uint64_t, steps);
}

static void nothing(warp *w, const insn *in, uint32_t mask)
{
    (void)w;
    (void)in;
    (void)mask;
}

/* ---- the table --------------------------------------------------------------------------------
 */

#define INT(name, signature, function) {name, signature, function, KIND_PLAIN, CLASS_INTEGER, 0},
#define MOVE(name, signature, function) {name, signature, function, KIND_PLAIN, CLASS_MOVE, 0},
#define OTHER(name, signature, function) {name, signature, function, KIND_PLAIN, CLASS_OTHER, 0},

#define SIGN_BOTH(op, signature, stem, bits)                                                       \
    INT(op ".u" #bits, signature, stem##_##bits) INT(op ".s" #bits, signature, stem##_##bits)
#define SIGN_EACH(op, signature, stem, bits)                                                       \
    INT(op ".u" #bits, signature, stem##_u_##bits) INT(op ".s" #bits, signature, stem##_s_##bits)
#define WIDTH_ROWS(bits, c)                                                                        \
    SIGN_BOTH("add", c ":" c c, add, bits)                                                         \
    SIGN_BOTH("sub", c ":" c c, sub, bits)                                                         \
    SIGN_BOTH("mul.lo", c ":" c c, mul, bits)                                                      \
    SIGN_BOTH("mad.lo", c ":" c c c, mad, bits)                                                    \
    SIGN_EACH("min", c ":" c c, min, bits)                                                         \
    SIGN_EACH("max", c ":" c c, max, bits)                                                         \
    SIGN_EACH("div", c ":" c c, div, bits)                                                         \
    SIGN_EACH("rem", c ":" c c, rem, bits)                                                         \
    SIGN_EACH("shr", c ":" c "w", shr, bits)                                                       \
    INT("shr.b" #bits, c ":" c "w", shr_u_##bits)                                                  \
    INT("shl.b" #bits, c ":" c "w", shl_##bits)                                                    \
    INT("neg.s" #bits, c ":" c, neg_##bits)                                                        \
    INT("abs.s" #bits, c ":" c, abs_##bits)                                                        \
    INT("not.b" #bits, c ":" c, not_##bits)                                                        \
    INT("cnot.b" #bits, c ":" c, cnot_##bits)                                                      \
    INT("and.b" #bits, c ":" c c, and_##bits)                                                      \
    INT("or.b" #bits, c ":" c c, or_##bits)                                                        \
    INT("xor.b" #bits, c ":" c c, xor_##bits)                                                      \
    MOVE("mov.b" #bits, c ":" c, mov_##bits)                                                       \
    MOVE("mov.u" #bits, c ":" c, mov_##bits)                                                       \
    MOVE("mov.s" #bits, c ":" c, mov_##bits)                                                       \
    MOVE("selp.b" #bits, c ":" c c "p", selp_##bits)                                               \
    MOVE("selp.u" #bits, c ":" c c "p", selp_##bits)                                               \
    MOVE("selp.s" #bits, c ":" c c "p", selp_##bits)
#define COMPARE_ROW(op, type, c, function) INT("setp." op "." type, "pP:" c c, function)
#define COMPARE_ROWS(bits, c)                                                                      \
    COMPARE_ROW("eq", "b" #bits, c, eq_b##bits)                                                    \
    COMPARE_ROW("ne", "b" #bits, c, ne_b##bits)                                                    \
    COMPARE_ROW("eq", "u" #bits, c, eq_b##bits)                                                    \
    COMPARE_ROW("ne", "u" #bits, c, ne_b##bits)                                                    \
    COMPARE_ROW("eq", "s" #bits, c, eq_b##bits)                                                    \
    COMPARE_ROW("ne", "s" #bits, c, ne_b##bits)                                                    \
    COMPARE_ROW("lt", "u" #bits, c, lt_u##bits)                                                    \
    COMPARE_ROW("le", "u" #bits, c, le_u##bits)                                                    \
    COMPARE_ROW("gt", "u" #bits, c, gt_u##bits)                                                    \
    COMPARE_ROW("ge", "u" #bits, c, ge_u##bits)                                                    \
    COMPARE_ROW("lo", "u" #bits, c, lt_u##bits)                                                    \
    COMPARE_ROW("ls", "u" #bits, c, le_u##bits)                                                    \
    COMPARE_ROW("hi", "u" #bits, c, gt_u##bits)                                                    \
    COMPARE_ROW("hs", "u" #bits, c, ge_u##bits)                                                    \
    COMPARE_ROW("lt", "s" #bits, c, lt_s##bits)                                                    \
    COMPARE_ROW("le", "s" #bits, c, le_s##bits)                                                    \
    COMPARE_ROW("gt", "s" #bits, c, gt_s##bits)                                                    \
    COMPARE_ROW("ge", "s" #bits, c, ge_s##bits)
#define FLOAT_COMPARE_ROWS(type, c)                                                                \
    COMPARE_ROW("eq", #type, c, eq_##type)                                                         \
    COMPARE_ROW("ne", #type, c, ne_##type)                                                         \
    COMPARE_ROW("lt", #type, c, lt_##type)                                                         \
    COMPARE_ROW("le", #type, c, le_##type)                                                         \
    COMPARE_ROW("gt", #type, c, gt_##type)                                                         \
    COMPARE_ROW("ge", #type, c, ge_##type)                                                         \
    COMPARE_ROW("equ", #type, c, equ_##type)                                                       \
    COMPARE_ROW("neu", #type, c, neu_##type)                                                       \
    COMPARE_ROW("ltu", #type, c, ltu_##type)                                                       \
    COMPARE_ROW("leu", #type, c, leu_##type)                                                       \
    COMPARE_ROW("gtu", #type, c, gtu_##type)                                                       \
    COMPARE_ROW("geu", #type, c, geu_##type)                                                       \
    COMPARE_ROW("num", #type, c, num_##type)                                                       \
    COMPARE_ROW("nan", #type, c, nan_##type)
#define DOT_ROWS(ta, tb)                                                                           \
    INT("dp4a." #ta "." #tb, "w:www", dp4a_##ta##_##tb)                                            \
    INT("dp2a.lo." #ta "." #tb, "w:www", dp2alo_##ta##_##tb)                                       \
    INT("dp2a.hi." #ta "." #tb, "w:www", dp2ahi_##ta##_##tb)
#define CARRY_ROWS(op, stem, bits, c)                                                              \
    INT(op "c.u" #bits, c ":" c c, stem##c_##bits)                                                 \
    INT(op "c.s" #bits, c ":" c c, stem##c_##bits)                                                 \
    INT(op "c.cc.u" #bits, c ":" c c "C", stem##c_##bits)                                          \
    INT(op "c.cc.s" #bits, c ":" c c "C", stem##c_##bits)                                          \
    INT(op ".cc.u" #bits, c ":" c c "C", stem##cc_##bits)                                          \
    INT(op ".cc.s" #bits, c ":" c c "C", stem##cc_##bits)

/* clang-format off */
static const op_row rows[] = {
    WIDTH_ROWS(16, "h")
    WIDTH_ROWS(32, "w")
    WIDTH_ROWS(64, "d")
    COMPARE_ROWS(16, "h")
    COMPARE_ROWS( 32, "w")
    COMPARE_ROWS(64, "d")
    FLOAT_COMPARE_ROWS(f32, "f")
    FLOAT_COMPARE_ROWS(f64, "g")
    INT("mul.hi.u16", "h:hh", mulhi_u16)
    INT("mul.hi.s16", "h:hh", mulhi_s16)
    INT( "mul.hi.u32", "w:ww", mulhi_u32)
    INT("mul.hi.s32", "w:ww", mulhi_s32)
    INT("mul.hi.u64", "d:dd", mulhi_u64)
    INT("mul.hi.s64", "d:dd", mulhi_s64)
    INT("mul.wide.u16", "w:hh", mulwide_u16)
    INT( "mul.wide.s16", "w:hh", mulwide_s16)
    INT("mul.wide.u32", "d:ww", mulwide_u32)
    INT("mul.wide.s32", "d:ww", mulwide_s32)
    INT("mad.hi.u32", "w:www", madhi_u32)
    INT("mad.hi.s32", "w:www", madhi_s32)
    INT("mad.hi.u64", "d:ddd", madhi_u64)
    INT( "mad.hi.s64", "d:ddd", madhi_s64)
    INT("mad.wide.u16", "w:hhw", madwide_u16)
    INT("mad.wide.s16", "w:hhw", madwide_s16)
    INT("mad.wide.u32", "d:wwd", madwide_u32)
    INT("mad.wide.s32", "d:wwd", madwide_s32)
    INT("mul24.lo.u32", "w:ww", mul24_u32)
    INT("mul24.lo.s32", "w:ww", mul24_s32)
    INT("mad24.lo.u32", "w:www", mad24_u32)
    INT("mad24.lo.s32", "w:www", mad24_s32)
    INT("add.sat.s32", "w:ww", addsat_s32)
    INT("sub.sat.s32", "w:ww", subsat_s32)
    INT("sad.u32", "w:www", sad_u32)
    INT("sad.s32", "w:www", sad_s32)
    INT("min.relu.s32", "w:ww", minrelu_s32)
    INT("max.relu.s32", "w:ww", maxrelu_s32)
    INT("add.u16x2", "w:ww", add_x2)
    INT("add.s16x2", "w:ww", add_x2)
    INT( "min.u16x2", "w:ww", min_u16x2)
    INT("max.u16x2", "w:ww", max_u16x2)
    INT("min.s16x2", "w:ww", min_s16x2)
    INT( "max.s16x2", "w:ww", max_s16x2)
    CARRY_ROWS("add", add, 32, "w")
    CARRY_ROWS("add", add, 64, "d")
    CARRY_ROWS("sub", sub, 32, "w")
    CARRY_ROWS("sub", sub, 64, "d")
    INT( "mad.lo.cc.u32", "w:wwwC", madlocc_32)
    INT("mad.lo.cc.s32", "w:wwwC", madlocc_32)
    INT("mad.hi.cc.u32", "w:wwwC", madhicc_u32)
    INT("madc.lo.u32", "w:www", madloc_32)
    INT("madc.lo.s32", "w:www", madloc_32)
    INT("madc.hi.u32", "w:www", madhic_u32)
    INT("madc.lo.cc.u32", "w:wwwC", madloc_32)
    INT("madc.hi.cc.u32", "w:wwwC", madhic_u32)
    INT("mad.lo.cc.u64", "d:dddC", madlocc_64)
    INT("mad.hi.cc.u64", "d:dddC", madhicc_u64)
    INT("madc.lo.u64", "d:ddd", madloc_64)
    INT("madc.hi.u64", "d:ddd", madhic_u64)
    INT("madc.lo.cc.u64", "d:dddC", madloc_64)
    INT("madc.hi.cc.u64", "d:dddC", madhic_u64)
    INT("popc.b32", "w:w", popc_32)
    INT("popc.b64", "w:d", popc_64)
    INT("clz.b32", "w:w", clz_32)
    INT("clz.b64", "w:d", clz_64)
    INT("brev.b32", "w:w", brev_32)
    INT("brev.b64", "d:d", brev_64)
    INT("bfind.u32", "w:w", bfind_u32)
    INT("bfind.u64", "w:d", bfind_u64)
    INT("bfind.s32", "w:w", bfind_s32)
    INT("bfind.shiftamt.u32", "w:w", bfindshift_u32)
    INT("bfe.u32", "w:www", bfe_u32)
    INT("bfe.s32", "w:www", bfe_s32)
    INT("bfe.u64", "d:dww", bfe_u64)
    INT("bfe.s64", "d:dww", bfe_s64)
    INT("bfi.b32", "w:wwww", bfi_32)
    INT("bfi.b64", "d:ddww", bfi_64)
    INT("bmsk.clamp.b32", "w:ww", bmsk_clamp)
    INT("bmsk.wrap.b32", "w:ww", bmsk_wrap)
    INT("szext.clamp.u32", "w:ww", szext_clamp_u32)
    INT("szext.clamp.s32", "w:ww", szext_clamp_s32)
    INT("szext.wrap.u32", "w:ww", szext_wrap_u32)
    INT("szext.wrap.s32", "w:ww", szext_wrap_s32)
    INT("shf.l.clamp.b32", "w:www", shf_l_clamp)
    INT("shf.l.wrap.b32", "w:www", shf_l_wrap)
    INT("shf.r.clamp.b32", "w:www", shf_r_clamp)
    INT("shf.r.wrap.b32", "w:www", shf_r_wrap)
    INT("lop3.b32", "w:wwwi", lop3)
    INT("prmt.b32", "w:www", prmt)
    INT("prmt.b32.f4e", "w:www", prmt_f4e)
    INT("prmt.b32.b4e", "w:www", prmt_b4e)
    INT("prmt.b32.rc8", "w:www", prmt_rc8)
    INT("prmt.b32.ecl", "w:www", prmt_ecl)
    INT("prmt.b32.ecr", "w:www", prmt_ecr)
    INT("prmt.b32.rc16", "w:www", prmt_rc16)
    DOT_ROWS(u32, u32)
    DOT_ROWS(u32, s32)
    DOT_ROWS(s32, u32)
    DOT_ROWS(s32, s32)
    INT("and.pred", "p:pp", and_pred)
    INT("or.pred", "p:pp", or_pred)
    INT("xor.pred", "p:pp", xor_pred)
    INT("not.pred", "p:p", not_pred)
    MOVE("mov.pred", "p:p", mov_pred)
    MOVE("mov.f16", "h:h", mov_16)
    MOVE("mov.bf16", "h:h", mov_16)
    MOVE("mov.f16x2", "w:w", mov_32)
    MOVE("mov.bf16x2", "w:w", mov_32)
    MOVE("mov.f32", "f:f", mov_32)
    MOVE("mov.f64", "g:g", mov_64)
    MOVE("selp.f16", "h:hhp", selp_16)
    MOVE("selp.bf16", "h:hhp", selp_16)
    MOVE("selp.f32", "f:ffp", selp_32)
    MOVE("selp.f64", "g:ggp", selp_64)
    MOVE("slct.b32.s32", "w:www", slct_32_s32)
    MOVE("slct.u32.s32", "w:www", slct_32_s32)
    MOVE("slct.s32.s32", "w:www", slct_32_s32)
    MOVE("slct.f32.s32", "f:ffw", slct_32_s32)
    MOVE("slct.b64.s32", "d:ddw", slct_64_s32)
    MOVE("slct.b32.f32", "w:wwf", slct_32_f32)
    MOVE("slct.f32.f32", "f:fff", slct_32_f32)
    MOVE("{pack.b32.b16}", "w:hh", pack_32_16)
    MOVE("{pack.b64.b32}", "d:ww", pack_64_32)
    MOVE("{pack.b64.b16}", "d:hhhh", pack_64_16)
    MOVE("{unpack.b32.b16}", "hh:w", unpack_32_16)
    MOVE("{unpack.b64.b32}", "ww:d", unpack_64_32)
    MOVE("{unpack.b64.b16}", "hhhh:d", unpack_64_16)
    MOVE("{narrow.32.16}", "h:w", narrow_32_16)
    MOVE("{narrow.64.16}", "h:d", narrow_64_16)
    MOVE("{narrow.64.32}", "w:d", narrow_64_32)
    MOVE("{widen.u16.32}", "w:h", widen_u16_32)
    MOVE("{widen.u16.64}", "d:h", widen_u16_64)
    MOVE("{widen.u32.64}", "d:w", widen_u32_64)
    MOVE("{widen.s16.32}", "w:h", widen_s16_32)
    MOVE("{widen.s16.64}", "d:h", widen_s16_64)
    MOVE("{widen.s32.64}", "d:w", widen_s32_64)
    MOVE("{clock.32}", "w:", read_clock)
    MOVE("{clock.64}", "d:", read_clock64)
    MOVE("cvta.to.global.u64", "d:d", mov_64)
    MOVE("cvta.global.u64", "d:d", mov_64)
    MOVE("cvta.to.const.u64", "d:d", mov_64)
    MOVE("cvta.const.u64", "d:d", mov_64)
    MOVE("cvta.to.shared.u64", "d:d", to_shared)
    MOVE("cvta.shared.u64", "d:d", from_shared)
    MOVE("cvta.to.local.u64", "d:d", to_local)
    MOVE("cvta.local.u64", "d:d", from_local)
    MOVE("cvta.to.param.u64", "d:d", to_param)
    MOVE("cvta.param.u64", "d:d", from_param)
    MOVE("isspacep.global", "p:d", is_global)
    MOVE("isspacep."  "shared", "p:d", is_shared)
    MOVE("isspacep.shared::cta", "p:d", is_shared)
    MOVE("isspacep.local", "p:d", is_local)
    MOVE("isspacep.param", "p:d", is_param)
    OTHER( "griddepc"  "ontrol."  "wait", ":", nothing)
    OTHER("griddepcontrol.launch_dependents", ":", nothing)
    OTHER( "nanosl"  "eep."  "u32", ":w", nothing)
    OTHER("pmevent", ":w", nothing)
    OTHER("membar.cta", ":", nothing)
    OTHER( "me"  "mb"  "ar" ".g"  "l", ":", nothing)
    OTHER("membar.sys", ":", nothing)
    OTHER("fence.sc.cta", ":", nothing)
    OTHER( "fence.sc.gpu", ":", nothing)
    OTHER("fence.sc.sys", ":", nothing)
    OTHER( "fence.acq_rel.cta", ":", nothing)
    OTHER( "fence.acq_rel.gpu", ":", nothing)
    OTHER( "fence.acq_rel.sys", ":", nothing)
};
/* clang-format on */

extern const op_table EMU_ISA_NAME(emu_integer_ops);
const op_table EMU_ISA_NAME(emu_integer_ops) = {rows, sizeof rows / sizeof rows[0]};
