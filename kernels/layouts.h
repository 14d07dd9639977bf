/* Every weight layout that a converted file may name, NULL-terminated: one row per layout. */
#ifndef CRANK_KERNELS_LAYOUTS_H
#define CRANK_KERNELS_LAYOUTS_H

#include "kernels/ops.h"

extern const ops_layout *const ops_layouts[];

#endif
