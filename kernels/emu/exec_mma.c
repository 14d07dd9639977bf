/* mma.sync: a warp gathers its fragments into small matrices, multiplies them, and scatters the
 * result. Fragment layouts: PTX ISA 9.0, section 9.7.15.5, checked against CUTLASS' SM80 traits
 * (lane = 4 g + t):
 *     16-bit A 16 x 16: register i holds row g + 8 (i & 1), columns 2 t + 8 (i >> 1) and the next
 *     16-bit B 16 x 8:  register i holds rows (k) 2 t + 8 i and the next, column g
 *     8-bit A 16 x 32:  register i holds row g + 8 (i & 1), columns 4 t + 16 (i >> 1) .. + 3
 *     8-bit B 32 x 8:   register i holds rows (k) 4 t + 16 i .. + 3, column g
 *     C and D 16 x 8:   element i is row g + 8 (i >> 1), column 2 t + (i & 1)
 * Sums: the products of 8 k's are added in double (exact for these inputs but in rare cases), then
 * to the accumulator, which is rounded to f32 once per 8. The hardware truncates instead: allow
 * 2^-21 of the largest term per step when comparing with a GPU. */
#include "kernels/emu/exec_lanes.h"
#include "kernels/emu/half.h"

typedef enum mma_input { INPUT_F16, INPUT_BF16, INPUT_TF32 } mma_input;

/* Element e (0 or 1) of 32-bit rows that hold pairs of 16-bit numbers. */
static inline void unpack_pairs(const uint32_t *row, mma_input type, float low[WARP_LANES],
                                float high[WARP_LANES])
{
    uint16_t part[2][WARP_LANES];
    LANE_LOOP part[0][l] = (uint16_t)row[l];
    LANE_LOOP part[1][l] = (uint16_t)(row[l] >> 16);
    if (type == INPUT_BF16) {
        bf16s_to_floats(low, part[0]);
        bf16s_to_floats(high, part[1]);
    } else {
        halves_to_floats(low, part[0]);
        halves_to_floats(high, part[1]);
    }
}

/* a[16][n_k], b[n_k][8] -> c[16][8], in steps of 8 k. */
static inline void multiply(const double (*restrict a)[16], const double (*restrict b)[8],
                            float (*restrict c)[8], int n_k)
{
    for (int row = 0; row < 16; row++)
        for (int k0 = 0; k0 < n_k; k0 += 8) {
            double sum[8] = {0};
            for (int k = k0; k < k0 + 8 && k < n_k; k++)
                for (int column = 0; column < 8; column++) sum[column] += a[row][k] * b[k][column];
            for (int column = 0; column < 8; column++)
                c[row][column] = (float)((double)c[row][column] + sum[column]);
        }
}

static inline void gather_16bit(const warp *w, const uint32_t *a_places, const uint32_t *b_places,
                                mma_input type, int n_k, double a[16][16], double b[16][8])
{
    float low[WARP_LANES], high[WARP_LANES];
    for (int i = 0; i < n_k / 4; i++) {
        unpack_pairs(ROW(uint32_t, a_places[i]), type, low, high);
        for (int l = 0; l < WARP_LANES; l++) {
            int row = (l >> 2) + 8 * (i & 1), k = 2 * (l & 3) + 8 * (i >> 1);
            a[row][k] = (double)low[l];
            a[row][k + 1] = (double)high[l];
        }
    }
    for (int i = 0; i < n_k / 8; i++) {
        unpack_pairs(ROW(uint32_t, b_places[i]), type, low, high);
        for (int l = 0; l < WARP_LANES; l++) {
            int k = 2 * (l & 3) + 8 * i;
            b[k][l >> 2] = (double)low[l];
            b[k + 1][l >> 2] = (double)high[l];
        }
    }
}

static inline float canonical(float x)
{
    return x != x ? float_from_bits(0x7fffffffu) : x;
}

/* Accumulators in f32: 4 registers in, 4 out. n_k: 8 or 16. */
static inline void mma_16bit_f32(warp *w, const insn *in, mma_input type, int n_k)
{
    double a[16][16], b[16][8];
    float c[16][8];
    const uint32_t *places = in->r + 4;
    gather_16bit(w, places, places + n_k / 4, type, n_k, a, b);
    const uint32_t *c_places = places + n_k / 4 + n_k / 8;
    for (int i = 0; i < 4; i++) {
        const float *row = ROW(float, c_places[i]);
        for (int l = 0; l < WARP_LANES; l++)
            c[(l >> 2) + 8 * (i >> 1)][2 * (l & 3) + (i & 1)] = row[l];
    }
    multiply((const double(*)[16])a, (const double(*)[8])b, c, n_k);
    for (int i = 0; i < 4; i++) {
        float *row = ROW(float, in->r[i]);
        for (int l = 0; l < WARP_LANES; l++)
            row[l] = canonical(c[(l >> 2) + 8 * (i >> 1)][2 * (l & 3) + (i & 1)]);
    }
}

/* Accumulators in f16: 2 registers in, 2 out; the sum is rounded to f16 at the end. */
static inline void mma_f16_f16(warp *w, const insn *in, int n_k)
{
    double a[16][16], b[16][8];
    float c[16][8], low[WARP_LANES], high[WARP_LANES];
    const uint32_t *places = in->r + 2;
    gather_16bit(w, places, places + n_k / 4, INPUT_F16, n_k, a, b);
    const uint32_t *c_places = places + n_k / 4 + n_k / 8;
    for (int i = 0; i < 2; i++) {
        unpack_pairs(ROW(uint32_t, c_places[i]), INPUT_F16, low, high);
        for (int l = 0; l < WARP_LANES; l++) {
            c[(l >> 2) + 8 * i][2 * (l & 3)] = low[l];
            c[(l >> 2) + 8 * i][2 * (l & 3) + 1] = high[l];
        }
    }
    multiply((const double(*)[16])a, (const double(*)[8])b, c, n_k);
    for (int i = 0; i < 2; i++) {
        uint32_t *row = ROW(uint32_t, in->r[i]);
        for (int l = 0; l < WARP_LANES; l++)
            row[l] = float_to_half(c[(l >> 2) + 8 * i][2 * (l & 3)]) |
                     (uint32_t)float_to_half(c[(l >> 2) + 8 * i][2 * (l & 3) + 1]) << 16;
    }
}

static void mma_f16_k16(warp *w, const insn *in, uint32_t mask)
{
    (void)mask;
    mma_16bit_f32(w, in, INPUT_F16, 16);
}
static void mma_f16_k8(warp *w, const insn *in, uint32_t mask)
{
    (void)mask;
    mma_16bit_f32(w, in, INPUT_F16, 8);
}
static void mma_bf16_k16(warp *w, const insn *in, uint32_t mask)
{
    (void)mask;
    mma_16bit_f32(w, in, INPUT_BF16, 16);
}
static void mma_bf16_k8(warp *w, const insn *in, uint32_t mask)
{
    (void)mask;
    mma_16bit_f32(w, in, INPUT_BF16, 8);
}
static void mma_f16_f16_k16(warp *w, const insn *in, uint32_t mask)
{
    (void)mask;
    mma_f16_f16(w, in, 16);
}
static void mma_f16_f16_k8(warp *w, const insn *in, uint32_t mask)
{
    (void)mask;
    mma_f16_f16(w, in, 8);
}

/* tf32: A 16 x 8 register i: row g + 8 (i & 1), column t + 4 (i >> 1); B 8 x 8 register i: row (k)
 * t + 4 i, column g. m16n8k4 has the first half of each. The low 13 bits are ignored. */
static inline void mma_tf32(warp *w, const insn *in, int n_k)
{
    double a[16][16], b[16][8];
    float c[16][8];
    const uint32_t *places = in->r + 4;
    for (int i = 0; i < n_k / 2; i++) {
        const uint32_t *row = ROW(uint32_t, places[i]);
        for (int l = 0; l < WARP_LANES; l++)
            a[(l >> 2) + 8 * (i & 1)][(l & 3) + 4 * (i >> 1)] =
                (double)float_from_bits(row[l] & ~0x1fffu);
    }
    places += n_k / 2;
    for (int i = 0; i < n_k / 4; i++) {
        const uint32_t *row = ROW(uint32_t, places[i]);
        for (int l = 0; l < WARP_LANES; l++)
            b[(l & 3) + 4 * i][l >> 2] = (double)float_from_bits(row[l] & ~0x1fffu);
    }
    places += n_k / 4;
    for (int i = 0; i < 4; i++) {
        const float *row = ROW(float, places[i]);
        for (int l = 0; l < WARP_LANES; l++)
            c[(l >> 2) + 8 * (i >> 1)][2 * (l & 3) + (i & 1)] = row[l];
    }
    multiply((const double(*)[16])a, (const double(*)[8])b, c, n_k);
    for (int i = 0; i < 4; i++) {
        float *row = ROW(float, in->r[i]);
        for (int l = 0; l < WARP_LANES; l++)
            row[l] = canonical(c[(l >> 2) + 8 * (i >> 1)][2 * (l & 3) + (i & 1)]);
    }
}
static void mma_tf32_k8(warp *w, const insn *in, uint32_t mask)
{
    (void)mask;
    mma_tf32(w, in, 8);
}
static void mma_tf32_k4(warp *w, const insn *in, uint32_t mask)
{
    (void)mask;
    mma_tf32(w, in, 4);
}

/* 8-bit integers: n_k 16 or 32. Sums wrap, or clamp with .satfinite. */
static inline void mma_int8(warp *w, const insn *in, int n_k, int a_signed, int b_signed, int clamp)
{
    int16_t a[16][32], b[8][32]; /* b by column: the dot products run along k */
    const uint32_t *places = in->r + 4;
    for (int i = 0; i < n_k / 8; i++) {
        const uint32_t *row = ROW(uint32_t, places[i]);
        for (int l = 0; l < WARP_LANES; l++)
            for (int e = 0; e < 4; e++) {
                uint32_t byte = row[l] >> (8 * e) & 0xff;
                a[(l >> 2) + 8 * (i & 1)][4 * (l & 3) + 16 * (i >> 1) + e] =
                    a_signed ? (int8_t)byte : (int16_t)byte;
            }
    }
    places += n_k / 8;
    for (int i = 0; i < n_k / 16; i++) {
        const uint32_t *row = ROW(uint32_t, places[i]);
        for (int l = 0; l < WARP_LANES; l++)
            for (int e = 0; e < 4; e++) {
                uint32_t byte = row[l] >> (8 * e) & 0xff;
                b[l >> 2][4 * (l & 3) + 16 * i + e] = b_signed ? (int8_t)byte : (int16_t)byte;
            }
    }
    places += n_k / 16;
    int32_t product[16][8];
    for (int row = 0; row < 16; row++)
        for (int column = 0; column < 8; column++) {
            int32_t sum = 0;
            for (int k = 0; k < n_k; k++) sum += a[row][k] * b[column][k];
            product[row][column] = sum;
        }
    for (int i = 0; i < 4; i++) {
        uint32_t sums[WARP_LANES];
        const uint32_t *c = ROW(uint32_t, places[i]);
        for (int l = 0; l < WARP_LANES; l++) {
            int32_t p = product[(l >> 2) + 8 * (i >> 1)][2 * (l & 3) + (i & 1)];
            if (clamp) {
                int64_t sum = (int64_t)(int32_t)c[l] + p;
                sums[l] = (uint32_t)(sum > INT32_MAX   ? INT32_MAX
                                     : sum < INT32_MIN ? INT32_MIN
                                                       : (int32_t)sum);
            } else {
                sums[l] = c[l] + (uint32_t)p;
            }
        }
        memcpy(ROW(uint32_t, in->r[i]), sums, sizeof sums);
    }
}
#define INT8_FORM(name, n_k, a_signed, b_signed, clamp)                                            \
    static void name(warp *w, const insn *in, uint32_t mask)                                       \
    {                                                                                              \
        (void)mask;                                                                                \
        mma_int8(w, in, n_k, a_signed, b_signed, clamp);                                           \
    }
#define INT8_FORMS(n_k)                                                                            \
    INT8_FORM(mma_s8_s8_k##n_k, n_k, 1, 1, 0)                                                      \
    INT8_FORM(mma_s8_u8_k##n_k, n_k, 1, 0, 0)                                                      \
    INT8_FORM(mma_u8_s8_k##n_k, n_k, 0, 1, 0)                                                      \
    INT8_FORM(mma_u8_u8_k##n_k, n_k, 0, 0, 0)                                                      \
    INT8_FORM(mma_s8_s8_k##n_k##_clamp, n_k, 1, 1, 1)                                              \
    INT8_FORM(mma_s8_u8_k##n_k##_clamp, n_k, 1, 0, 1)                                              \
    INT8_FORM(mma_u8_s8_k##n_k##_clamp, n_k, 0, 1, 1)                                              \
    INT8_FORM(mma_u8_u8_k##n_k##_clamp, n_k, 0, 0, 1)
INT8_FORMS(16)
INT8_FORMS(32)

#define MMA(name, signature, function, flops)                                                      \
    {"mma.sync.aligned." name, signature, function, KIND_SYNC_ALL, CLASS_MMA, flops},
#define INT8_ROWS(k, signature, flops)                                                             \
    MMA("m16n8k" #k ".row.col.s32.s8.s8.s32", signature, mma_s8_s8_k##k, flops)                    \
    MMA("m16n8k" #k ".row.col.s32.s8.u8.s32", signature, mma_s8_u8_k##k, flops)                    \
    MMA("m16n8k" #k ".row.col.s32.u8.s8.s32", signature, mma_u8_s8_k##k, flops)                    \
    MMA("m16n8k" #k ".row.col.s32.u8.u8.s32", signature, mma_u8_u8_k##k, flops)                    \
    MMA("m16n8k" #k ".row.col.satfinite.s32.s8.s8.s32", signature, mma_s8_s8_k##k##_clamp, flops)  \
    MMA("m16n8k" #k ".row.col.satfinite.s32.s8.u8.s32", signature, mma_s8_u8_k##k##_clamp, flops)  \
    MMA("m16n8k" #k ".row.col.satfinite.s32.u8.s8.s32", signature, mma_u8_s8_k##k##_clamp, flops)  \
    MMA("m16n8k" #k ".row.col.satfinite.s32.u8.u8.s32", signature, mma_u8_u8_k##k##_clamp, flops)

/* clang-format off */
static const op_row rows[] = {
    MMA("m16n8k16.row.col.f32.f16.f16.f32", "ffff:wwwwwwffff", mma_f16_k16, 4096)
    MMA("m16n8k16.row.col.f32.bf16.bf16.f32", "ffff:wwwwwwffff", mma_bf16_k16, 4096)
    MMA("m16n8k16.row.col.f16.f16.f16.f16", "ww:wwwwwwww", mma_f16_f16_k16, 4096)
    MMA("m16n8k8.row.col.f32.f16.f16.f32", "ffff:wwwffff", mma_f16_k8, 2048)
    MMA("m16n8k8.row.col.f32.bf16.bf16.f32", "ffff:wwwffff", mma_bf16_k8, 2048)
    MMA("m16n8k8.row.col.f16.f16.f16.f16", "ww:wwwww", mma_f16_f16_k8, 2048)
    MMA("m16n8k8.row.col.f32.tf32.tf32.f32", "ffff:wwwwwwffff", mma_tf32_k8, 2048)
    MMA("m16n8k4.row.col.f32.tf32.tf32.f32", "ffff:wwwffff", mma_tf32_k4, 1024)
    INT8_ROWS(16, "wwww:wwwwwww", 4096)
    INT8_ROWS(32, "wwww:wwwwwwwwww", 8192)
};
/* clang-format on */

extern const op_table EMU_ISA_NAME(emu_mma_ops);
const op_table EMU_ISA_NAME(emu_mma_ops) = {rows, sizeof rows / sizeof rows[0]};
