#include "kernels/layouts.h"

#include <stddef.h>

#include "kernels/cpu/layout.h"
#include "kernels/ref/ref.h"

const ops_layout *const ops_layouts[] = {
    &ref_layout_f32, &cpu_layout_f32, &cpu_layout_bf16, &cpu_layout_int8, NULL,
};
