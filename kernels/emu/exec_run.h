/* Runs a grid. */
#ifndef CRANK_EMU_EXEC_RUN_H
#define CRANK_EMU_EXEC_RUN_H

#include "kernels/emu/exec.h"
#include "team.h"

typedef enum run_end {
    RUN_DONE,
    RUN_TRAP, /* trap, or an indexed branch out of its table */
    RUN_ASSERT,
    RUN_STEPS, /* a block took more than step_limit instructions */
    RUN_NO_MEMORY
} run_end;

typedef struct executor executor;

crank_status executor_open(executor **out, crank_error *error);
void executor_close(executor *e);

/* Runs every block of the grid on up to n_threads CPU threads (one when the kernel's atomics need
 * an order, or the schedule is random) and adds to counts[0 .. function->n_code). */
run_end executor_run(executor *e, const launch *l, int n_threads, insn_count *counts);

#endif
