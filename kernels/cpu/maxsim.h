/* MaxSim by instruction set (kernels/maxsim.h is the contract and holds the table). A kernel runs
 * only where its row says that it is available. */
#ifndef CRANK_KERNELS_CPU_MAXSIM_H
#define CRANK_KERNELS_CPU_MAXSIM_H

#include "kernels/maxsim.h"

float maxsim_f32_avx512(const maxsim_query *q, const maxsim_document *d);
float maxsim_int8_avx512_vnni(const maxsim_query *q, const maxsim_document *d);
float maxsim_f32_avx2(const maxsim_query *q, const maxsim_document *d);
float maxsim_int8_avx2(const maxsim_query *q, const maxsim_document *d);
float maxsim_f32_portable(const maxsim_query *q, const maxsim_document *d);

#endif
