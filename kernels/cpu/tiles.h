/* Every matrix tile by instruction set. A tile runs only where its level says it is available. */
#ifndef CRANK_KERNELS_CPU_TILES_H
#define CRANK_KERNELS_CPU_TILES_H

#include "kernels/cpu/cpu.h"

void cpu_tile_f32_avx512(const cpu_tile *t);
void cpu_tile_bf16_avx512_bf16(const cpu_tile *t);
void cpu_tile_bf16_avx512(const cpu_tile *t);
void cpu_tile_int8_avx512_vnni(const cpu_tile *t);
void cpu_tile_int8_avx512(const cpu_tile *t);

void cpu_tile_f32_avx2(const cpu_tile *t);
void cpu_tile_bf16_avx2(const cpu_tile *t);
void cpu_tile_int8_avx2(const cpu_tile *t);
void cpu_tile_int8_avx2_vnni(const cpu_tile *t);      /* AVX-VNNI (VEX) */
void cpu_tile_int8_avx512_vnni256(const cpu_tile *t); /* the same source, EVEX */

void cpu_tile_f32_neon(const cpu_tile *t);
void cpu_tile_bf16_neon(const cpu_tile *t);
void cpu_tile_int8_neon(const cpu_tile *t);
void cpu_tile_int8_neon_dotprod(const cpu_tile *t);

void cpu_tile_f32_portable(const cpu_tile *t);
void cpu_tile_bf16_portable(const cpu_tile *t);
void cpu_tile_int8_portable(const cpu_tile *t);

extern const cpu_rows cpu_rows_avx512_bf16, cpu_rows_avx512, cpu_rows_avx2, cpu_rows_neon,
    cpu_rows_portable;

#endif
