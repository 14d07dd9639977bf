/* Where CUDA tests find a driver: the emulator of this build, or, on a machine with a GPU, the
 * library that the environment variable CRANK_TEST_CUDA names (./run gpu sets it). */
#ifndef CRANK_TESTS_CUDA_LIBRARY_H
#define CRANK_TESTS_CUDA_LIBRARY_H

#include <stdbool.h>

#include "kernels/emu/emu.h"

/* NULL: there is none. */
const char *cuda_library(void);
/* True, and says "SKIPPED: test ..." on stderr, when this build has no kernels or there is no
 * driver. */
bool cuda_skipped(const char *test);

/* The emulator's own functions, looked up once; NULL when the library is a real driver. */
typedef struct emulator {
    void (*defaults)(emu_options *options);
    int (*configure)(const emu_options *options);
    void (*reset)(void);
    size_t (*report_count)(void);
    int (*report_get)(size_t index, emu_report *out);
    size_t (*counter_count)(void);
    int (*counter_get)(size_t index, emu_counters *out);
    void (*counter_clear)(void);
} emulator;
const emulator *cuda_emulator(void);

/* Prints the emulator's reports and returns their number; 0 on a GPU. */
size_t cuda_reports(void);

#endif
