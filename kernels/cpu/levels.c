/* The table of instruction sets: which exist on this CPU, and which kernels each takes. A level is
 * one row; `crank info --kernels`, --isa, the op tests and the op benchmark walk this table. */
#include "kernels/cpu/tiles.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#ifndef HWCAP_ASIMDDP
#define HWCAP_ASIMDDP (1 << 20)
#endif
#endif

#include "memory.h"

#if defined(__x86_64__)
static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi2"); /* F16C is older than AVX2 on every such CPU */
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

static bool has_vnni(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512vnni");
}

static bool has_bf16(void)
{
    return has_vnni() && __builtin_cpu_supports("avx512bf16");
}

static bool has_avx_vnni(void)
{
    unsigned a = 0, b, c, d;
    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1) != 0;
}
#endif

#if defined(__aarch64__)
static bool has_dotprod(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
}
#endif

static bool always(void)
{
    return true;
}

#if defined(__x86_64__)
static const cpu_level avx512_bf16 = {
    .name = "avx512-bf16",
    .available = has_bf16,
    .rows = &cpu_rows_avx512_bf16,
    .rows_name = "16 lanes of AVX-512",
    .tile = {[OPS_F32] = {cpu_tile_f32_avx512, "FMA, tile 9x48"},
             [OPS_BF16] = {cpu_tile_bf16_avx512_bf16, "VDPBF16PS, tile 9x48"},
             [OPS_INT8] = {cpu_tile_int8_avx512_vnni, "VPDPBUSD, tile 9x48"}},
    .int8_form = CPU_INT8_U8,
    .fast_bf16 = true,
};

static const cpu_level avx512_vnni = {
    .name = "avx512-vnni",
    .available = has_vnni,
    .rows = &cpu_rows_avx512,
    .rows_name = "16 lanes of AVX-512",
    .tile = {[OPS_F32] = {cpu_tile_f32_avx512, "FMA, tile 9x48"},
             [OPS_BF16] = {cpu_tile_bf16_avx512, "two FMA, tile 7x48"},
             [OPS_INT8] = {cpu_tile_int8_avx512_vnni, "VPDPBUSD, tile 9x48"}},
    .int8_form = CPU_INT8_U8,
};

static const cpu_level avx512 = {
    .name = "avx512",
    .available = has_avx512,
    .rows = &cpu_rows_avx512,
    .rows_name = "16 lanes of AVX-512",
    .tile = {[OPS_F32] = {cpu_tile_f32_avx512, "FMA, tile 9x48"},
             [OPS_BF16] = {cpu_tile_bf16_avx512, "two FMA, tile 7x48"},
             [OPS_INT8] = {cpu_tile_int8_avx512, "VPMADDWD, tile 12x16"}},
    .int8_form = CPU_INT8_S16,
};

static const cpu_level avx2_vnni = {
    .name = "avx2-vnni",
    .available = has_avx_vnni,
    .rows = &cpu_rows_avx2,
    .rows_name = "2x8 lanes of AVX2",
    .tile = {[OPS_F32] = {cpu_tile_f32_avx2, "FMA, tile 6x16"},
             [OPS_BF16] = {cpu_tile_bf16_avx2, "two FMA, tile 4x16"},
             [OPS_INT8] = {cpu_tile_int8_avx2_vnni, "VPDPBUSD (VEX), tile 6x16"}},
    .int8_form = CPU_INT8_U8,
};

/* The same level on a CPU that has the instruction in AVX-512's encoding only: so that it can be
 * tested there, and for those who force it. */
static const cpu_level avx2_vnni_evex = {
    .name = "avx2-vnni",
    .available = has_vnni,
    .rows = &cpu_rows_avx2,
    .rows_name = "2x8 lanes of AVX2",
    .tile = {[OPS_F32] = {cpu_tile_f32_avx2, "FMA, tile 6x16"},
             [OPS_BF16] = {cpu_tile_bf16_avx2, "two FMA, tile 4x16"},
             [OPS_INT8] = {cpu_tile_int8_avx512_vnni256, "VPDPBUSD (EVEX), tile 6x16"}},
    .int8_form = CPU_INT8_U8,
};

static const cpu_level avx2 = {
    .name = "avx2",
    .available = has_avx2,
    .rows = &cpu_rows_avx2,
    .rows_name = "2x8 lanes of AVX2",
    .tile = {[OPS_F32] = {cpu_tile_f32_avx2, "FMA, tile 6x16"},
             [OPS_BF16] = {cpu_tile_bf16_avx2, "two FMA, tile 4x16"},
             [OPS_INT8] = {cpu_tile_int8_avx2, "VPMADDWD, tile 2x16"}},
    .int8_form = CPU_INT8_S16,
};
#endif

#if defined(__aarch64__)
static const cpu_level neon_dotprod = {
    .name = "neon-dotprod",
    .available = has_dotprod,
    .rows = &cpu_rows_neon,
    .rows_name = "4x4 lanes of NEON",
    .tile = {[OPS_F32] = {cpu_tile_f32_neon, "FMLA, tile 5x16"},
             [OPS_BF16] = {cpu_tile_bf16_neon, "two FMLA, tile 4x16"},
             [OPS_INT8] = {cpu_tile_int8_neon_dotprod, "SDOT, tile 4x16"}},
    .int8_form = CPU_INT8_S8,
};

static const cpu_level neon = {
    .name = "neon",
    .available = always,
    .rows = &cpu_rows_neon,
    .rows_name = "4x4 lanes of NEON",
    .tile = {[OPS_F32] = {cpu_tile_f32_neon, "FMLA, tile 5x16"},
             [OPS_BF16] = {cpu_tile_bf16_neon, "two FMLA, tile 4x16"},
             [OPS_INT8] = {cpu_tile_int8_neon, "SMULL, tile 4x16"}},
    .int8_form = CPU_INT8_S8,
};
#endif

static const cpu_level portable = {
    .name = "portable",
    .available = always,
    .rows = &cpu_rows_portable,
    .rows_name = "16 lanes in C",
    .tile = {[OPS_F32] = {cpu_tile_f32_portable, "C, tile 2x16"},
             [OPS_BF16] = {cpu_tile_bf16_portable, "C, tile 2x16"},
             [OPS_INT8] = {cpu_tile_int8_portable, "C, tile 1x16"}},
    .int8_form = CPU_INT8_S16,
};

const cpu_level *const cpu_levels[] = {
#if defined(__x86_64__)
    &avx512_bf16, &avx512_vnni, &avx512, &avx2_vnni, &avx2_vnni_evex, &avx2,
#elif defined(__aarch64__)
    &neon_dotprod, &neon,
#endif
    &portable,    NULL,
};

/* ---- the same table as ops_variant rows -------------------------------------------------------
 */

static const char *const row_ops[] = {
    "embed_norm",   "norm",           "add_norm",
    "attention",    "attention_rows", "attention_rows_folded",
    "gather_first", "gather_around",  "pool",
    "broadcast",    "head",           "vectors",
};
#define N_ROW_OPS (sizeof row_ops / sizeof row_ops[0])
static const ops_dtype computed[] = {OPS_F32, OPS_BF16, OPS_INT8};
#define N_COMPUTED (sizeof computed / sizeof computed[0])

static ops_variant row_of(const cpu_device *device, const cpu_level *level, const char *op,
                          ops_dtype dtype, const char *name)
{
    return (ops_variant){
        .op = op,
        .dtype = ops_dtypes[dtype].name,
        .isa = level->name,
        .name = name,
        .shape = "",
        .available = level->available(),
        .selected = level == device->level,
    };
}

/* One row per op, dtype and level. */
crank_status cpu_variants_open(cpu_device *device, crank_error *error)
{
    size_t n_levels = 0;
    while (cpu_levels[n_levels] != NULL) n_levels++;
    size_t per_level = N_COMPUTED * (2 + N_ROW_OPS);
    device->variants = mem_array(n_levels * per_level, sizeof *device->variants);
    CRANK_CHECK(device->variants != NULL, OUT_OF_MEMORY, error, "no memory for the kernel table");
    ops_variant *out = device->variants;
    for (size_t i = 0; i < n_levels; i++) {
        const cpu_level *level = cpu_levels[i];
        for (size_t d = 0; d < N_COMPUTED; d++) {
            ops_dtype dtype = computed[d];
            *out++ = row_of(device, level, "linear", dtype, level->tile[dtype].name);
            *out++ = row_of(device, level, "linear_residual_norm", dtype, level->tile[dtype].name);
            for (size_t r = 0; r < N_ROW_OPS; r++) {
                *out++ = row_of(device, level, row_ops[r], dtype, level->rows_name);
            }
        }
    }
    device->n_variants = (size_t)(out - device->variants);
    return CRANK_OK;
}
