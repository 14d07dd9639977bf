#include "support/ops_cases.h"

#include "support/oracle.h"

/* What kernels/cpu/cpu.h promises: the same bits on every level, in f32 on all but the portable one
 * (which has no FMA). */
#define SIXTEEN_AND_EIGHT (1u << OPS_BF16 | 1u << OPS_INT8)
#define EVERY_DTYPE (1u << OPS_F32 | SIXTEEN_AND_EIGHT)

#define CPU(level, same)                                                                           \
    {                                                                                              \
        .backend = &ops_backend_cpu, .options.isa = (level), .expected = &ops_backend_ref,         \
        .same_bits = (same)                                                                        \
    }

const ops_subject ops_table[] = {
    {.backend = &ops_backend_ref, .expected = &oracle_backend},
    {.backend = &ops_backend_ref, .expected = &ops_backend_ref},
    CPU(NULL, EVERY_DTYPE),
    CPU("avx512-vnni", EVERY_DTYPE),
    CPU("avx512", EVERY_DTYPE),
    CPU("avx2-vnni", EVERY_DTYPE),
    CPU("avx2", EVERY_DTYPE),
    CPU("neon-dotprod", EVERY_DTYPE),
    CPU("neon", EVERY_DTYPE),
    CPU("portable", SIXTEEN_AND_EIGHT),
};
const size_t n_ops_table = sizeof ops_table / sizeof ops_table[0];
