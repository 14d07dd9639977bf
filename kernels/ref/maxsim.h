/* MaxSim from its equation, in the order of accumulation that kernels/maxsim.h fixes. */
#ifndef CRANK_KERNELS_REF_MAXSIM_H
#define CRANK_KERNELS_REF_MAXSIM_H

#include "kernels/maxsim.h"

float ref_maxsim_f32(const maxsim_query *q, const maxsim_document *d);
float ref_maxsim_int8(const maxsim_query *q, const maxsim_document *d);

#endif
