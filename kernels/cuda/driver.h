/* libcuda.so.1, opened with dlopen: the one door to a GPU. A build of crank links no NVIDIA
 * library; a machine without a driver gets one clear line, and tests open another library (the
 * emulator) by its path. */
#ifndef CRANK_CUDA_DRIVER_H
#define CRANK_CUDA_DRIVER_H

#include "kernels/cuda/driver_abi.h"
#include "status.h"

typedef struct cuda_driver {
    void *library;    /* dlopen's handle */
    const char *path; /* of the library, while cuda_driver_open runs (for its messages) */
    int version;      /* 13000 = CUDA 13.0 */
#define CU_CALL_FIELD(field, symbol, parameters) cu_result(*field) parameters;
    CU_CALL_LIST(CU_CALL_FIELD)
#undef CU_CALL_FIELD
} cuda_driver;

/* Opens the library (NULL: libcuda.so.1), fills the table and initialises the driver. Needs a
 * driver that supports CUDA needed_version (13000 = 13.0), which is what the kernels were compiled
 * with. On failure *d is as closed. Fails: DEVICE (the message says which library, which version
 * and what to do). */
crank_status cuda_driver_open(cuda_driver *d, const char *path, int needed_version,
                              crank_error *error);
void cuda_driver_close(cuda_driver *d); /* zeroed or closed drivers are fine */

/* "CUDA_ERROR_OUT_OF_MEMORY (out of memory)"; buffer is what is returned. */
const char *cuda_result_text(const cuda_driver *d, cu_result result, char buffer[160]);

#endif
