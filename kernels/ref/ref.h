/* The reference backend: plain C, fp32, the specification that every other backend is tested
 * against. Layout "row-f32" ([n, k] transposed to [k, n] so that a row of outputs is built by axpy:
 * obvious, in a documented order, and not silly). */
#ifndef CRANK_KERNELS_REF_H
#define CRANK_KERNELS_REF_H

#include "kernels/ops.h"

extern const ops_layout ref_layout_f32;

#endif
