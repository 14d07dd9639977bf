#include "support/ops_cases.h"

#include "support/oracle.h"

const ops_subject ops_table[] = {
    {.backend = &ops_backend_ref, .expected = &oracle_backend},
    {.backend = &ops_backend_ref, .expected = &ops_backend_ref},
    {.backend = &ops_backend_cpu, .expected = &ops_backend_ref},
    {.backend = &ops_backend_cpu, .options.isa = "avx512-vnni", .expected = &ops_backend_ref},
    {.backend = &ops_backend_cpu, .options.isa = "avx512", .expected = &ops_backend_ref},
    {.backend = &ops_backend_cpu, .options.isa = "avx2-vnni", .expected = &ops_backend_ref},
    {.backend = &ops_backend_cpu, .options.isa = "avx2", .expected = &ops_backend_ref},
    {.backend = &ops_backend_cpu, .options.isa = "neon", .expected = &ops_backend_ref},
    {.backend = &ops_backend_cpu, .options.isa = "portable", .expected = &ops_backend_ref},
};
const size_t n_ops_table = sizeof ops_table / sizeof ops_table[0];
