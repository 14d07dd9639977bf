/* The tables of instructions, for the best instruction set of this host. */
#ifndef CRANK_EMU_OPS_H
#define CRANK_EMU_OPS_H

#include "kernels/emu/exec.h"

#define N_OP_TABLES 6

/* N_OP_TABLES tables. A row's name in braces is the decoder's own. */
const op_table *const *ops_tables(void);
shadow_access_function ops_shadow_access(void);
/* Patterns of the families that the decoder takes apart itself; NULL-terminated. */
extern const char *const ops_family_names[];

#endif
