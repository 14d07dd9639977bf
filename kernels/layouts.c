#include "kernels/layouts.h"

#include <stddef.h>

#include "kernels/ref/ref.h"

const ops_layout *const ops_layouts[] = {
    &ref_layout_f32,
    NULL,
};
