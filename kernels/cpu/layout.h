/* The CPU's weight layouts (layout.c). */
#ifndef CRANK_KERNELS_CPU_LAYOUT_H
#define CRANK_KERNELS_CPU_LAYOUT_H

#include "kernels/ops.h"

extern const ops_layout cpu_layout_f32, cpu_layout_bf16, cpu_layout_int8;

#endif
