// Every primitive that the kernels of crank rest on, alone: one kernel each, inline assembly as the
// PTX manual writes it. conformance.c knows what must come out. One block; in[i] of a matrix
// primitive is register i / 32 of lane i % 32.
#include <stdint.h>

typedef uint32_t u32;
#define LANE (threadIdx.x & 31)
#define ONE_WARP extern "C" __global__ void __launch_bounds__(32)

// ---- mma: in = A registers, then B, then C -----------------------------------------------------
#define IN(i) in[(i)*32 + LANE]
#define OUT(i, value) out[(i)*32 + LANE] = value

#define MMA_A4_B2_C4(name, text)                                                                   \
    ONE_WARP name(const u32 *in, u32 *out)                                                         \
    {                                                                                              \
        u32 d0, d1, d2, d3;                                                                        \
        asm volatile(text " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"             \
                     : "=r"(d0), "=r"(d1), "=r"(d2), "=r"(d3)                                      \
                     : "r"(IN(0)), "r"(IN(1)), "r"(IN(2)), "r"(IN(3)), "r"(IN(4)), "r"(IN(5)),     \
                       "r"(IN(6)), "r"(IN(7)), "r"(IN(8)), "r"(IN(9)));                            \
        OUT(0, d0);                                                                                \
        OUT(1, d1);                                                                                \
        OUT(2, d2);                                                                                \
        OUT(3, d3);                                                                                \
    }
#define MMA_A4_B2_C4_FLOAT(name, text)                                                             \
    ONE_WARP name(const u32 *in, u32 *out)                                                         \
    {                                                                                              \
        float d0, d1, d2, d3;                                                                      \
        asm volatile(text " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"             \
                     : "=f"(d0), "=f"(d1), "=f"(d2), "=f"(d3)                                      \
                     : "r"(IN(0)), "r"(IN(1)), "r"(IN(2)), "r"(IN(3)), "r"(IN(4)), "r"(IN(5)),     \
                       "f"(__uint_as_float(IN(6))), "f"(__uint_as_float(IN(7))),                   \
                       "f"(__uint_as_float(IN(8))), "f"(__uint_as_float(IN(9))));                  \
        OUT(0, __float_as_uint(d0));                                                               \
        OUT(1, __float_as_uint(d1));                                                               \
        OUT(2, __float_as_uint(d2));                                                               \
        OUT(3, __float_as_uint(d3));                                                               \
    }
#define MMA_A2_B1_C4(name, text)                                                                   \
    ONE_WARP name(const u32 *in, u32 *out)                                                         \
    {                                                                                              \
        u32 d0, d1, d2, d3;                                                                        \
        asm volatile(text " {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%8,%9,%10};"                         \
                     : "=r"(d0), "=r"(d1), "=r"(d2), "=r"(d3)                                      \
                     : "r"(IN(0)), "r"(IN(1)), "r"(IN(2)), "r"(IN(3)), "r"(IN(4)), "r"(IN(5)),     \
                       "r"(IN(6)));                                                                \
        OUT(0, d0);                                                                                \
        OUT(1, d1);                                                                                \
        OUT(2, d2);                                                                                \
        OUT(3, d3);                                                                                \
    }
#define MMA_A2_B1_C4_FLOAT(name, text)                                                             \
    ONE_WARP name(const u32 *in, u32 *out)                                                         \
    {                                                                                              \
        float d0, d1, d2, d3;                                                                      \
        asm volatile(text " {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%8,%9,%10};"                         \
                     : "=f"(d0), "=f"(d1), "=f"(d2), "=f"(d3)                                      \
                     : "r"(IN(0)), "r"(IN(1)), "r"(IN(2)), "f"(__uint_as_float(IN(3))),            \
                       "f"(__uint_as_float(IN(4))), "f"(__uint_as_float(IN(5))),                   \
                       "f"(__uint_as_float(IN(6))));                                               \
        OUT(0, __float_as_uint(d0));                                                               \
        OUT(1, __float_as_uint(d1));                                                               \
        OUT(2, __float_as_uint(d2));                                                               \
        OUT(3, __float_as_uint(d3));                                                               \
    }
#define MMA "mma.sync.aligned."
MMA_A4_B2_C4_FLOAT(mma_m16n8k16_f16_f32, MMA "m16n8k16.row.col.f32.f16.f16.f32")
MMA_A4_B2_C4_FLOAT(mma_m16n8k16_bf16_f32, MMA "m16n8k16.row.col.f32.bf16.bf16.f32")
MMA_A4_B2_C4_FLOAT(mma_m16n8k8_tf32_f32, MMA "m16n8k8.row.col.f32.tf32.tf32.f32")
MMA_A2_B1_C4_FLOAT(mma_m16n8k8_f16_f32, MMA "m16n8k8.row.col.f32.f16.f16.f32")
MMA_A2_B1_C4_FLOAT(mma_m16n8k8_bf16_f32, MMA "m16n8k8.row.col.f32.bf16.bf16.f32")
MMA_A2_B1_C4_FLOAT(mma_m16n8k4_tf32_f32, MMA "m16n8k4.row.col.f32.tf32.tf32.f32")
MMA_A4_B2_C4(mma_m16n8k32_s8_s8, MMA "m16n8k32.row.col.s32.s8.s8.s32")
MMA_A4_B2_C4(mma_m16n8k32_u8_s8, MMA "m16n8k32.row.col.s32.u8.s8.s32")
MMA_A4_B2_C4(mma_m16n8k32_s8_u8, MMA "m16n8k32.row.col.s32.s8.u8.s32")
MMA_A4_B2_C4(mma_m16n8k32_u8_u8, MMA "m16n8k32.row.col.s32.u8.u8.s32")
MMA_A4_B2_C4(mma_m16n8k32_s8_s8_satfinite, MMA "m16n8k32.row.col.satfinite.s32.s8.s8.s32")
MMA_A4_B2_C4(mma_m16n8k32_u8_s8_satfinite, MMA "m16n8k32.row.col.satfinite.s32.u8.s8.s32")
MMA_A4_B2_C4(mma_m16n8k32_s8_u8_satfinite, MMA "m16n8k32.row.col.satfinite.s32.s8.u8.s32")
MMA_A4_B2_C4(mma_m16n8k32_u8_u8_satfinite, MMA "m16n8k32.row.col.satfinite.s32.u8.u8.s32")
MMA_A2_B1_C4(mma_m16n8k16_s8_s8, MMA "m16n8k16.row.col.s32.s8.s8.s32")
MMA_A2_B1_C4(mma_m16n8k16_u8_s8, MMA "m16n8k16.row.col.s32.u8.s8.s32")
MMA_A2_B1_C4(mma_m16n8k16_s8_u8, MMA "m16n8k16.row.col.s32.s8.u8.s32")
MMA_A2_B1_C4(mma_m16n8k16_u8_u8, MMA "m16n8k16.row.col.s32.u8.u8.s32")
MMA_A2_B1_C4(mma_m16n8k16_s8_s8_satfinite, MMA "m16n8k16.row.col.satfinite.s32.s8.s8.s32")
MMA_A2_B1_C4(mma_m16n8k16_u8_s8_satfinite, MMA "m16n8k16.row.col.satfinite.s32.u8.s8.s32")
MMA_A2_B1_C4(mma_m16n8k16_s8_u8_satfinite, MMA "m16n8k16.row.col.satfinite.s32.s8.u8.s32")
MMA_A2_B1_C4(mma_m16n8k16_u8_u8_satfinite, MMA "m16n8k16.row.col.satfinite.s32.u8.u8.s32")

ONE_WARP mma_m16n8k16_f16_f16(const u32 *in, u32 *out)
{
    u32 d0, d1;
    asm volatile(MMA "m16n8k16.row.col.f16.f16.f16.f16 {%0,%1}, {%2,%3,%4,%5}, {%6,%7}, {%8,%9};"
                 : "=r"(d0), "=r"(d1)
                 : "r"(IN(0)), "r"(IN(1)), "r"(IN(2)), "r"(IN(3)), "r"(IN(4)), "r"(IN(5)),
                   "r"(IN(6)), "r"(IN(7)));
    OUT(0, d0);
    OUT(1, d1);
}
ONE_WARP mma_m16n8k8_f16_f16(const u32 *in, u32 *out)
{
    u32 d0, d1;
    asm volatile(MMA "m16n8k8.row.col.f16.f16.f16.f16 {%0,%1}, {%2,%3}, {%4}, {%5,%6};"
                 : "=r"(d0), "=r"(d1)
                 : "r"(IN(0)), "r"(IN(1)), "r"(IN(2)), "r"(IN(3)), "r"(IN(4)));
    OUT(0, d0);
    OUT(1, d1);
}

// ---- ldmatrix, movmatrix: in = 32 rows of 16 bytes ---------------------------------------------
__device__ __forceinline__ u32 shared_address(const void *p)
{
    return (u32)__cvta_generic_to_shared(p);
}
#define LDMATRIX(name, n, text, ...)                                                               \
    ONE_WARP name(const u32 *in, u32 *out)                                                         \
    {                                                                                              \
        __shared__ __align__(16) u32 tile[128];                                                    \
        for (int i = LANE; i < 128; i += 32) tile[i] = in[i];                                      \
        __syncthreads();                                                                           \
        u32 r[4];                                                                                  \
        u32 from = shared_address(tile + 4 * (LANE % (8 * n)));                                    \
        asm volatile(text:__VA_ARGS__ : "r"(from) : "memory");                                     \
        for (int i = 0; i < n; i++) OUT(i, r[i]);                                                  \
    }
#define LDM "ldmatrix.sync.aligned.m8n8."
LDMATRIX(ldmatrix_x1, 1, LDM "x1.shared.b16 {%0}, [%1];", "=r"(r[0]))
LDMATRIX(ldmatrix_x2, 2, LDM "x2.shared.b16 {%0,%1}, [%2];", "=r"(r[0]), "=r"(r[1]))
LDMATRIX(ldmatrix_x4, 4, LDM "x4.shared.b16 {%0,%1,%2,%3}, [%4];", "=r"(r[0]), "=r"(r[1]),
         "=r"(r[2]), "=r"(r[3]))
LDMATRIX(ldmatrix_x1_trans, 1, LDM "x1.trans.shared.b16 {%0}, [%1];", "=r"(r[0]))
LDMATRIX(ldmatrix_x2_trans, 2, LDM "x2.trans.shared.b16 {%0,%1}, [%2];", "=r"(r[0]), "=r"(r[1]))
LDMATRIX(ldmatrix_x4_trans, 4, LDM "x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];", "=r"(r[0]),
         "=r"(r[1]), "=r"(r[2]), "=r"(r[3]))
ONE_WARP movmatrix_trans(const u32 *in, u32 *out)
{
    u32 d;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(d) : "r"(IN(0)));
    OUT(0, d);
}

// ---- cp.async: in = 128 words of data, then 32 source sizes ------------------------------------
#define CP_ASYNC(name, bytes, text, ...)                                                           \
    ONE_WARP name(const u32 *in, u32 *out)                                                         \
    {                                                                                              \
        __shared__ __align__(16) u32 tile[128];                                                    \
        for (int i = LANE; i < 128; i += 32) tile[i] = 0xeeeeeeee;                                 \
        __syncthreads();                                                                           \
        u32 to = shared_address(tile) + LANE * bytes;                                              \
        const char *from = (const char *)in + LANE * bytes;                                        \
        asm volatile(text ::"r"(to), "l"(from), ##__VA_ARGS__ : "memory");                         \
        asm volatile("cp.async.commit_group;\n\tcp.async.wait_group 0;" ::: "memory");             \
        __syncthreads();                                                                           \
        for (int i = LANE; i < 128; i += 32) out[i] = tile[i];                                     \
    }
CP_ASYNC(cp_async_ca_4, 4, "cp.async.ca.shared.global [%0], [%1], 4;")
CP_ASYNC(cp_async_ca_8, 8, "cp.async.ca.shared.global [%0], [%1], 8;")
CP_ASYNC(cp_async_ca_16, 16, "cp.async.ca.shared.global [%0], [%1], 16;")
CP_ASYNC(cp_async_cg_16, 16, "cp.async.cg.shared.global [%0], [%1], 16;")
CP_ASYNC(cp_async_ca_4_zfill, 4, "cp.async.ca.shared.global [%0], [%1], 4, %2;",
         "r"(in[128 + LANE]))
CP_ASYNC(cp_async_cg_16_zfill, 16, "cp.async.cg.shared.global [%0], [%1], 16, %2;",
         "r"(in[128 + LANE]))
CP_ASYNC(cp_async_ca_8_zfill, 8, "cp.async.ca.shared.global [%0], [%1], 8, %2;",
         "r"(in[128 + LANE]))
CP_ASYNC(cp_async_ca_16_zfill, 16, "cp.async.ca.shared.global [%0], [%1], 16, %2;",
         "r"(in[128 + LANE]))
// Four groups in flight; after wait_group 1 the first three have arrived.
ONE_WARP cp_async_groups(const u32 *in, u32 *out)
{
    __shared__ __align__(16) u32 tile[128];
    for (int g = 0; g < 4; g++) {
        u32 to = shared_address(tile) + g * 128 + LANE * 4;
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(in + g * 32 + LANE)
                     : "memory");
        asm volatile("cp.async.commit_group;" ::: "memory");
    }
    asm volatile("cp.async.wait_group 1;" ::: "memory");
    for (int g = 0; g < 3; g++) out[g * 32 + LANE] = tile[g * 32 + LANE];
    asm volatile("cp.async.wait_all;" ::: "memory");
    out[96 + LANE] = tile[96 + LANE];
}

// ---- words and vectors of shared memory: each lane reads what the opposite one wrote
// -------------
#define SHARED_WORDS(name, n, store, load, loaded)                                                 \
    ONE_WARP name(const u32 *in, u32 *out)                                                         \
    {                                                                                              \
        __shared__ __align__(16) u32 tile[32 * n];                                                 \
        u32 v[4] = {0, 0, 0, 0};                                                                   \
        for (int i = 0; i < n; i++) v[i] = in[LANE * n + i];                                       \
        u32 to = shared_address(tile + LANE * n), from = shared_address(tile + (31 - LANE) * n);   \
        asm volatile(store ::"r"(to), "r"(v[0]), "r"(v[1]), "r"(v[2]), "r"(v[3]) : "memory");      \
        __syncthreads();                                                                           \
        asm volatile(load:loaded : "r"(from) : "memory");                                          \
        for (int i = 0; i < n; i++) out[LANE * n + i] = v[i];                                      \
    }
#define LOADED_1 "=r"(v[0])
#define LOADED_2 "=r"(v[0]), "=r"(v[1])
#define LOADED_4 "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
SHARED_WORDS(shared_b32, 1, "st.shared.b32 [%0], %1;", "ld.shared.b32 %0, [%1];", LOADED_1)
SHARED_WORDS(shared_v2, 2, "st.shared.v2.b32 [%0], {%1,%2};", "ld.shared.v2.b32 {%0,%1}, [%2];",
             LOADED_2)
SHARED_WORDS(shared_v4, 4, "st.shared.v4.b32 [%0], {%1,%2,%3,%4};",
             "ld.shared.v4.b32 {%0,%1,%2,%3}, [%4];", LOADED_4)

// ---- warp-wide: in = 32 values, then 32 of a second kind ---------------------------------------
#define SHUFFLE(name, mode, b, c)                                                                  \
    ONE_WARP name(const u32 *in, u32 *out)                                                         \
    {                                                                                              \
        u32 d, p;                                                                                  \
        asm volatile("{.reg .pred q; shfl.sync." mode ".b32 %0|q, %2, " b ", " c                   \
                     ", 0xffffffff; selp.u32 %1, 1, 0, q;}"                                        \
                     : "=r"(d), "=r"(p)                                                            \
                     : "r"(IN(0)));                                                                \
        OUT(0, d);                                                                                 \
        OUT(1, p);                                                                                 \
    }
SHUFFLE(shfl_up_3, "up", "3", "0")
SHUFFLE(shfl_up_1_of_8, "up", "1", "0x1800")
SHUFFLE(shfl_down_5, "down", "5", "31")
SHUFFLE(shfl_down_2_of_16, "down", "2", "0x101f")
SHUFFLE(shfl_bfly_9, "bfly", "9", "31")
SHUFFLE(shfl_bfly_6_of_4, "bfly", "6", "0x1c1f")
SHUFFLE(shfl_idx_7, "idx", "7", "31")
SHUFFLE(shfl_idx_5_of_8, "idx", "5", "0x181f")
SHUFFLE(shfl_idx_20_clamp_10, "idx", "20", "10")
#define WARP_OP(name, text)                                                                        \
    ONE_WARP name(const u32 *in, u32 *out)                                                         \
    {                                                                                              \
        u32 d;                                                                                     \
        asm volatile(text : "=r"(d) : "r"(IN(0)), "r"(IN(1)));                                     \
        OUT(0, d);                                                                                 \
    }
#define VOTE(mode)                                                                                 \
    "{.reg .pred p, q; setp.gt.s32 p, %1, %2; vote.sync." mode                                     \
    ".pred q, p, 0xffffffff; selp.u32 %0, 1, 0, q;}"
WARP_OP(vote_all, VOTE("all"))
WARP_OP(vote_any, VOTE("any"))
WARP_OP(vote_uni, VOTE("uni"))
WARP_OP(vote_ballot,
        "{.reg .pred p; setp.gt.s32 p, %1, %2; vote.sync.ballot.b32 %0, p, 0xffffffff;}")
WARP_OP(match_any, "match.any.sync.b32 %0, %1, 0xffffffff;")
WARP_OP(match_all, "match.all.sync.b32 %0, %1, 0xffffffff;")
WARP_OP(redux_add_s32, "redux.sync.add.s32 %0, %1, 0xffffffff;")
WARP_OP(redux_min_s32, "redux.sync.min.s32 %0, %1, 0xffffffff;")
WARP_OP(redux_max_u32, "redux.sync.max.u32 %0, %1, 0xffffffff;")
WARP_OP(redux_xor_b32, "redux.sync.xor.b32 %0, %1, 0xffffffff;")

// ---- one result from up to three words: 256 lanes of in[3 n] -----------------------------------
#define COUNT 4096
#define WORD_OP(name, text)                                                                        \
    extern "C" __global__ void __launch_bounds__(256) name(const u32 *in, u32 *out)                \
    {                                                                                              \
        for (u32 i = threadIdx.x; i < COUNT; i += 256) {                                           \
            u32 d;                                                                                 \
            asm volatile(text : "=r"(d) : "r"(in[i]), "r"(in[COUNT + i]), "r"(in[2 * COUNT + i])); \
            out[i] = d;                                                                            \
        }                                                                                          \
    }
#define FLOAT_OP(name, text)                                                                       \
    extern "C" __global__ void __launch_bounds__(256) name(const u32 *in, u32 *out)                \
    {                                                                                              \
        for (u32 i = threadIdx.x; i < COUNT; i += 256) {                                           \
            float d;                                                                               \
            asm volatile(text                                                                      \
                         : "=f"(d)                                                                 \
                         : "f"(__uint_as_float(in[i])), "f"(__uint_as_float(in[COUNT + i])),       \
                           "f"(__uint_as_float(in[2 * COUNT + i])));                               \
            out[i] = __float_as_uint(d);                                                           \
        }                                                                                          \
    }
#define TO_WORD_OP(name, text)                                                                     \
    extern "C" __global__ void __launch_bounds__(256) name(const u32 *in, u32 *out)                \
    {                                                                                              \
        for (u32 i = threadIdx.x; i < COUNT; i += 256) {                                           \
            u32 d;                                                                                 \
            asm volatile(text                                                                      \
                         : "=r"(d)                                                                 \
                         : "f"(__uint_as_float(in[i])), "f"(__uint_as_float(in[COUNT + i])));      \
            out[i] = d;                                                                            \
        }                                                                                          \
    }
#define FROM_WORD_OP(name, text)                                                                   \
    extern "C" __global__ void __launch_bounds__(256) name(const u32 *in, u32 *out)                \
    {                                                                                              \
        for (u32 i = threadIdx.x; i < COUNT; i += 256) {                                           \
            float d;                                                                               \
            asm volatile(text : "=f"(d) : "r"(in[i]));                                             \
            out[i] = __float_as_uint(d);                                                           \
        }                                                                                          \
    }
#define HALF(body) "{.reg .b16 h, g; " body "}"
TO_WORD_OP(cvt_rn_f16_f32, HALF("cvt.rn.f16.f32 h, %1; mov.b32 %0, {h, h};"))
TO_WORD_OP(cvt_rn_bf16_f32, HALF("cvt.rn.bf16.f32 h, %1; mov.b32 %0, {h, h};"))
TO_WORD_OP(cvt_rz_f16_f32, HALF("cvt.rz.f16.f32 h, %1; mov.b32 %0, {h, h};"))
TO_WORD_OP(cvt_rn_f16x2_f32, "cvt.rn.f16x2.f32 %0, %1, %2;")
TO_WORD_OP(cvt_rn_bf16x2_f32, "cvt.rn.bf16x2.f32 %0, %1, %2;")
TO_WORD_OP(cvt_rn_relu_f16x2_f32, "cvt.rn.relu.f16x2.f32 %0, %1, %2;")
FROM_WORD_OP(cvt_f32_f16, HALF("mov.b32 {h, g}, %1; cvt.f32.f16 %0, h;"))
TO_WORD_OP(cvt_rni_s32_f32, "cvt.rni.s32.f32 %0, %1;")
TO_WORD_OP(cvt_rzi_s32_f32, "cvt.rzi.s32.f32 %0, %1;")
TO_WORD_OP(cvt_rmi_s32_f32, "cvt.rmi.s32.f32 %0, %1;")
TO_WORD_OP(cvt_rzi_u32_f32, "cvt.rzi.u32.f32 %0, %1;")
TO_WORD_OP(cvt_rni_sat_s8_f32, "cvt.rni.sat.s8.f32 %0, %1;")
FROM_WORD_OP(cvt_rn_f32_s32, "cvt.rn.f32.s32 %0, %1;")
FROM_WORD_OP(cvt_rz_f32_u32, "cvt.rz.f32.u32 %0, %1;")
WORD_OP(cvt_pack_s8, "cvt.pack.sat.s8.s32.b32 %0, %1, %2, %3;")
WORD_OP(cvt_s32_s8, "{.reg .b16 h, g; mov.b32 {h, g}, %1; cvt.s32.s8 %0, h;}")
FLOAT_OP(add_f32, "add.rn.f32 %0, %1, %2;")
FLOAT_OP(fma_f32, "fma.rn.f32 %0, %1, %2, %3;")
FLOAT_OP(fma_rm_f32, "fma.rm.f32 %0, %1, %2, %3;")
FLOAT_OP(mul_ftz_f32, "mul.ftz.f32 %0, %1, %2;")
FLOAT_OP(min_f32, "min.f32 %0, %1, %2;")
FLOAT_OP(max_f32, "max.f32 %0, %1, %2;")
FLOAT_OP(max_nan_f32, "max.NaN.f32 %0, %1, %2;")
FLOAT_OP(div_rn_f32, "div.rn.f32 %0, %1, %2;")
FLOAT_OP(sqrt_rn_f32, "sqrt.rn.f32 %0, %1;")
FLOAT_OP(ex2_approx_f32, "ex2.approx.f32 %0, %1;")
FLOAT_OP(ex2_approx_ftz_f32, "ex2.approx.ftz.f32 %0, %1;")
FLOAT_OP(lg2_approx_f32, "lg2.approx.f32 %0, %1;")
FLOAT_OP(rcp_approx_ftz_f32, "rcp.approx.ftz.f32 %0, %1;")
FLOAT_OP(rsqrt_approx_f32, "rsqrt.approx.f32 %0, %1;")
FLOAT_OP(tanh_approx_f32, "tanh.approx.f32 %0, %1;")
TO_WORD_OP(setp_ltu_f32, "{.reg .pred p; setp.ltu.f32 p, %1, %2; selp.u32 %0, 1, 0, p;}")
TO_WORD_OP(setp_neu_f32, "{.reg .pred p; setp.neu.f32 p, %1, %2; selp.u32 %0, 1, 0, p;}")
TO_WORD_OP(setp_gt_f32, "{.reg .pred p; setp.gt.f32 p, %1, %2; selp.u32 %0, 1, 0, p;}")
WORD_OP(fma_f16x2, "fma.rn.f16x2 %0, %1, %2, %3;")
WORD_OP(add_f16x2, "add.rn.f16x2 %0, %1, %2;")
WORD_OP(mul_f16x2, "mul.rn.f16x2 %0, %1, %2;")
WORD_OP(max_f16x2, "max.f16x2 %0, %1, %2;")
WORD_OP(fma_bf16x2, "fma.rn.bf16x2 %0, %1, %2, %3;")
WORD_OP(max_nan_bf16x2, "max.NaN.bf16x2 %0, %1, %2;")
WORD_OP(prmt, "prmt.b32 %0, %1, %2, %3;")
WORD_OP(prmt_f4e, "prmt.b32.f4e %0, %1, %2, %3;")
WORD_OP(lop3_e8, "lop3.b32 %0, %1, %2, %3, 0xe8;")
WORD_OP(lop3_1b, "lop3.b32 %0, %1, %2, %3, 0x1b;")
WORD_OP(shf_l_wrap, "shf.l.wrap.b32 %0, %1, %2, %3;")
WORD_OP(shf_r_clamp, "shf.r.clamp.b32 %0, %1, %2, %3;")
WORD_OP(shl_b32, "shl.b32 %0, %1, %3;")
WORD_OP(shr_s32, "shr.s32 %0, %1, %3;")
WORD_OP(bfe_u32, "bfe.u32 %0, %1, %3, 7;")
WORD_OP(bfe_s32, "bfe.s32 %0, %1, %3, 7;")
WORD_OP(bfi_b32, "bfi.b32 %0, %1, %2, %3, 9;")
WORD_OP(dp4a_s32_s32, "dp4a.s32.s32 %0, %1, %2, %3;")
WORD_OP(dp4a_u32_s32, "dp4a.u32.s32 %0, %1, %2, %3;")
WORD_OP(dp2a_lo_s32_u32, "dp2a.lo.s32.u32 %0, %1, %2, %3;")
WORD_OP(mad_lo_s32, "mad.lo.s32 %0, %1, %2, %3;")
WORD_OP(mul_hi_s32, "mul.hi.s32 %0, %1, %2;")
WORD_OP(mul_hi_u32, "mul.hi.u32 %0, %1, %2;")
WORD_OP(mul_wide_s16, HALF("mov.b32 {h, g}, %1; mul.wide.s16 %0, h, g;"))
WORD_OP(popc, "popc.b32 %0, %1;")
WORD_OP(clz, "clz.b32 %0, %1;")
WORD_OP(brev, "brev.b32 %0, %1;")
WORD_OP(bfind_s32, "bfind.s32 %0, %1;")
WORD_OP(sad_s32, "sad.s32 %0, %1, %2, %3;")
WORD_OP(div_s32, "{.reg .b32 t; or.b32 t, %2, 1; div.s32 %0, %1, t;}")
WORD_OP(rem_u32, "{.reg .b32 t; or.b32 t, %2, 1; rem.u32 %0, %1, t;}")
WORD_OP(addc_u32, "{.reg .b32 t; add.cc.u32 t, %1, %2; addc.u32 %0, %3, 0;}")

// ---- blocks ------------------------------------------------------------------------------------
extern "C" __global__ void __launch_bounds__(256) bar_red_popc(const u32 *in, u32 *out)
{
    u32 t = threadIdx.x, d;
    asm volatile("{.reg .pred p; setp.ne.u32 p, %1, 0; bar.red.popc.u32 %0, 0, p;}"
                 : "=r"(d)
                 : "r"(in[t] & 1)
                 : "memory");
    out[t] = d;
}
extern "C" __global__ void __launch_bounds__(256) atom_shared_add(const u32 *in, u32 *out)
{
    __shared__ u32 bins[16];
    u32 t = threadIdx.x;
    if (t < 16) bins[t] = 0;
    __syncthreads();
    atomicAdd(&bins[in[t] & 15], in[t] >> 8);
    __syncthreads();
    if (t < 16) out[t] = bins[t];
}
extern "C" __global__ void __launch_bounds__(256) bar_named(const u32 *in, u32 *out)
{
    // Warps 0-3 hand a value over to warps 4-7 through barrier 1, one arriving, the other waiting.
    __shared__ u32 box[128];
    u32 t = threadIdx.x;
    if (t < 128) {
        box[t] = in[t];
        asm volatile("bar.arrive 1, 256;" ::: "memory");
        out[t] = 1;
    } else {
        asm volatile("bar.sync 1, 256;" ::: "memory");
        out[t] = box[t - 128];
    }
}
