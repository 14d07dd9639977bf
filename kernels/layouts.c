#include "kernels/layouts.h"

#include <stddef.h>

#include "kernels/cpu/layout.h"
#include "kernels/cuda/layout.h"
#include "kernels/ref/ref.h"

const ops_layout *const ops_layouts[] = {
    &ref_layout_f32, /* kernels/ref */
    &cpu_layout_f32,
    &cpu_layout_bf16,
    &cpu_layout_int8, /* kernels/cpu */
    &cuda_layout_f16,
    &cuda_layout_bf16,
    &cuda_layout_int8, /* kernels/cuda */
    NULL,
};
