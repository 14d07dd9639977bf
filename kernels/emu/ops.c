#include "kernels/emu/ops.h"

#include <stddef.h>

#include "kernels/emu/emu.h"
#include "kernels/emu/exec_dot.h"

#define DECLARE_TABLES(isa)                                                                        \
    extern const op_table emu_integer_ops_##isa, emu_float_ops_##isa, emu_convert_ops_##isa,       \
        emu_mma_ops_##isa;                                                                         \
    extern const dot_function emu_dot_##isa;                                                       \
    extern const shadow_access_function emu_shadow_access_##isa;
extern const op_table emu_warp_ops, emu_rounding_ops;
DECLARE_TABLES(base)
#define TABLE_LIST(isa)                                                                            \
    {                                                                                              \
        &emu_integer_ops_##isa, &emu_float_ops_##isa, &emu_convert_ops_##isa, &emu_mma_ops_##isa,  \
            &emu_warp_ops, &emu_rounding_ops                                                       \
    }
static const op_table *const base_tables[N_OP_TABLES] = TABLE_LIST(base);
#ifdef EMU_X86
DECLARE_TABLES(avx2)
DECLARE_TABLES(avx512)
static const op_table *const avx2_tables[N_OP_TABLES] = TABLE_LIST(avx2);
static const op_table *const avx512_tables[N_OP_TABLES] = TABLE_LIST(avx512);

/* 0 any, 1 AVX2, 2 AVX-512. */
static int host_level(void)
{
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return 2;
    /* Every processor with AVX2 and FMA also has F16C, BMI and BMI2. */
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif

const op_table *const *ops_tables(void)
{
#ifdef EMU_X86
    if (host_level() == 2) return avx512_tables;
    if (host_level() == 1) return avx2_tables;
#endif
    return base_tables;
}

dot_function ops_dot(void)
{
#ifdef EMU_X86
    if (host_level() == 2) return emu_dot_avx512;
    if (host_level() == 1) return emu_dot_avx2;
#endif
    return emu_dot_base;
}

const char *emu_instruction_name(size_t index)
{
    const op_table *const *tables = ops_tables();
    for (int t = 0; t < N_OP_TABLES; t++)
        for (uint32_t i = 0; i < tables[t]->n; i++) {
            if (tables[t]->rows[i].name[0] == '{') continue;
            if (index-- == 0) return tables[t]->rows[i].name;
        }
    for (size_t i = 0; ops_family_names[i] != NULL; i++)
        if (index-- == 0) return ops_family_names[i];
    return NULL;
}

shadow_access_function ops_shadow_access(void)
{
#ifdef EMU_X86
    if (host_level() == 2) return emu_shadow_access_avx512;
    if (host_level() == 1) return emu_shadow_access_avx2;
#endif
    return emu_shadow_access_base;
}
