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

/* A 16-bit fragment register, read in memory order (lane by lane, low half first), is an 8 x 8
 * block: of A by rows, of B by columns. A 32-bit one is 8 x 4. So gathering is converting 64
 * numbers, and only B is turned around, to have its columns side by side. */
typedef double row8 __attribute__((vector_size(64)));

typedef struct fragments {
    float a[2][2][64]; /* [k block of 8][rows 0-7, 8-15][8 x 8] */
    row8 b[2][8];      /* [k block][k]: 8 columns */
    float c[2][64];    /* rows 0-7, 8-15 */
} fragments;

static inline void read_block(const warp *w, uint32_t place, mma_input type, float out[64])
{
    const uint16_t *halves = ROW(uint16_t, place);
    if (type == INPUT_BF16) {
        bf16s_to_floats(out, halves);
        bf16s_to_floats(out + 32, halves + 32);
    } else {
        halves_to_floats(out, halves);
        halves_to_floats(out + 32, halves + 32);
    }
}

static inline void read_columns(const warp *w, uint32_t place, mma_input type, row8 out[8])
{
    float numbers[64];
    read_block(w, place, type, numbers);
    for (int k = 0; k < 8; k++)
        for (int column = 0; column < 8; column++) out[k][column] = (double)numbers[column * 8 + k];
}

/* n_k / 4 registers of A, then n_k / 8 of B. */
static inline void gather_16bit(const warp *w, const uint32_t *places, mma_input type, int n_k,
                                fragments *f)
{
    for (int i = 0; i < n_k / 4; i++) read_block(w, places[i], type, f->a[i >> 1][i & 1]);
    for (int i = 0; i < n_k / 8; i++) read_columns(w, places[n_k / 4 + i], type, f->b[i]);
}

/* c += a b, a block of 8 k at a time; n_k 4, 8 or 16. This file is compiled with contraction on:
 * the products of two 11-bit numbers are exact in a double, so fused or not the bits are the same.
 */
static inline void multiply(fragments *f, int n_k)
{
    for (int step = 0; step < (n_k + 7) / 8; step++)
        for (int part = 0; part < 2; part++) {
            const float *a = f->a[step][part];
            float *c = f->c[part];
            for (int row = 0; row < 8; row += 4) {
                row8 sum0 = {0}, sum1 = {0}, sum2 = {0}, sum3 = {0};
                for (int k = 0; k < (n_k < 8 ? n_k : 8); k++) {
                    row8 b = f->b[step][k];
                    sum0 += (double)a[row * 8 + k] * b;
                    sum1 += (double)a[row * 8 + 8 + k] * b;
                    sum2 += (double)a[row * 8 + 16 + k] * b;
                    sum3 += (double)a[row * 8 + 24 + k] * b;
                }
                for (int j = 0; j < 8; j++) {
                    c[row * 8 + j] = (float)((double)c[row * 8 + j] + sum0[j]);
                    c[row * 8 + 8 + j] = (float)((double)c[row * 8 + 8 + j] + sum1[j]);
                    c[row * 8 + 16 + j] = (float)((double)c[row * 8 + 16 + j] + sum2[j]);
                    c[row * 8 + 24 + j] = (float)((double)c[row * 8 + 24 + j] + sum3[j]);
                }
            }
        }
}

static inline float canonical(float x)
{
    return x != x ? float_from_bits(0x7fffffffu) : x;
}

/* C and D: registers 0 and 1 are the even and odd columns of rows 0-7, 2 and 3 of rows 8-15. */
static inline void read_sums(const warp *w, const uint32_t *places, fragments *f)
{
    for (int part = 0; part < 2; part++) {
        const float *even = ROW(float, places[2 * part]), *odd = ROW(float, places[2 * part + 1]);
        LANE_LOOP
        {
            f->c[part][2 * l] = even[l];
            f->c[part][2 * l + 1] = odd[l];
        }
    }
}

static inline void write_sums(warp *w, const insn *in, const fragments *f)
{
    for (int part = 0; part < 2; part++) {
        float *even = ROW(float, in->r[2 * part]), *odd = ROW(float, in->r[2 * part + 1]);
        LANE_LOOP
        {
            even[l] = canonical(f->c[part][2 * l]);
            odd[l] = canonical(f->c[part][2 * l + 1]);
        }
    }
}

/* Accumulators in f32: 4 registers in, 4 out. n_k: 8 or 16. */
static inline void mma_16bit_f32(warp *w, const insn *in, mma_input type, int n_k)
{
    fragments f;
    gather_16bit(w, in->r + 4, type, n_k, &f);
    read_sums(w, in->r + 4 + n_k / 4 + n_k / 8, &f);
    multiply(&f, n_k);
    write_sums(w, in, &f);
}

/* Accumulators in f16: 2 registers in, 2 out; the sum is rounded to f16 at the end. */
static inline void mma_f16_f16(warp *w, const insn *in, int n_k)
{
    fragments f;
    gather_16bit(w, in->r + 2, INPUT_F16, n_k, &f);
    const uint32_t *places = in->r + 2 + n_k / 4 + n_k / 8;
    for (int part = 0; part < 2; part++) read_block(w, places[part], INPUT_F16, f.c[part]);
    multiply(&f, n_k);
    for (int part = 0; part < 2; part++) {
        uint16_t *row = ROW(uint16_t, in->r[part]);
        floats_to_halves(row, f.c[part]);
        floats_to_halves(row + 32, f.c[part] + 32);
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
    fragments f;
    const uint32_t *places = in->r + 4;
    for (int i = 0; i < n_k / 2; i++) {
        const uint32_t *row = ROW(uint32_t, places[i]);
        for (int l = 0; l < WARP_LANES; l++)
            f.a[0][i & 1][(l >> 2) * 8 + (l & 3) + 4 * (i >> 1)] =
                float_from_bits(row[l] & ~0x1fffu);
    }
    places += n_k / 2;
    for (int i = 0; i < n_k / 4; i++) {
        const uint32_t *row = ROW(uint32_t, places[i]);
        for (int l = 0; l < WARP_LANES; l++)
            f.b[0][(l & 3) + 4 * i][l >> 2] = (double)float_from_bits(row[l] & ~0x1fffu);
    }
    read_sums(w, places + n_k / 4, &f);
    multiply(&f, n_k);
    write_sums(w, in, &f);
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

/* 8-bit integers: n_k 16 or 32. Sums wrap, or clamp with .satfinite. A register in memory order is
 * 8 rows (of A) or columns (of B) of 16 k. */
static inline void widen_block(const warp *w, uint32_t place, int is_signed, int16_t out[128])
{
    const uint8_t *bytes = ROW(uint8_t, place);
    for (int i = 0; i < 128; i++)
        out[i] = is_signed ? (int16_t)(int8_t)bytes[i] : (int16_t)bytes[i];
}

/* sum[8 rows][8 columns] += a[8][16] b[8][16]^T */
static inline void dot_blocks(const int16_t *a, const int16_t *b, int32_t sum[64])
{
#if defined(__AVX2__)
    /* Pairs of k: the columns side by side, one pair of a row against all of them. */
    __m256i pairs[8];
    int32_t turned[8][8];
    for (int k = 0; k < 8; k++)
        for (int column = 0; column < 8; column++)
            memcpy(&turned[k][column], b + column * 16 + 2 * k, 4);
    for (int k = 0; k < 8; k++)
        pairs[k] = _mm256_loadu_si256((const __m256i *)(const void *)turned[k]);
    for (int row = 0; row < 8; row++) {
        __m256i total = _mm256_loadu_si256((const __m256i *)(const void *)(sum + 8 * row));
        for (int k = 0; k < 8; k++) {
            int32_t pair;
            memcpy(&pair, a + row * 16 + 2 * k, 4);
            total = _mm256_add_epi32(total, _mm256_madd_epi16(_mm256_set1_epi32(pair), pairs[k]));
        }
        _mm256_storeu_si256((__m256i *)(void *)(sum + 8 * row), total);
    }
#else
    for (int row = 0; row < 8; row++)
        for (int column = 0; column < 8; column++)
            for (int k = 0; k < 16; k++)
                sum[row * 8 + column] += a[row * 16 + k] * b[column * 16 + k];
#endif
}

static inline void mma_int8(warp *w, const insn *in, int n_k, int a_signed, int b_signed, int clamp)
{
    int16_t a[2][128], b[128];
    int32_t product[2][64] = {{0}};
    const uint32_t *b_places = in->r + 4 + n_k / 8, *c_places = b_places + n_k / 16;
    for (int step = 0; step < n_k / 16; step++) {
        widen_block(w, in->r[4 + 2 * step], a_signed, a[0]);
        widen_block(w, in->r[4 + 2 * step + 1], a_signed, a[1]);
        widen_block(w, b_places[step], b_signed, b);
        dot_blocks(a[0], b, product[0]);
        dot_blocks(a[1], b, product[1]);
    }
    for (int i = 0; i < 4; i++) {
        uint32_t sums[WARP_LANES];
        const uint32_t *c = ROW(uint32_t, c_places[i]);
        for (int l = 0; l < WARP_LANES; l++) {
            int32_t p = product[i >> 1][2 * l + (i & 1)];
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
