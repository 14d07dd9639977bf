/* One opened GPU: driver table, context, kernels, and what is known about the machine.
 *
 * Immutable after cuda_open except for the memory accounts, the lost mark and the forced variant;
 * shared by all contexts. A device that has reported a fault which poisons its CUDA context stays
 * lost: every later call fails with the first fault's text (facts: such a context never recovers).
 */
#ifndef CRANK_CUDA_DEVICE_H
#define CRANK_CUDA_DEVICE_H

#include <pthread.h>
#include <stdatomic.h>

#include "kernels/cuda/driver.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/variants.h"
#include "kernels/ops.h"

#define CUDA_MODULES_MAX 24
#define CUDA_VARIANTS_MAX (CUDA_KERNELS_MAX + 2 * MATMUL_N_KINDS)

/* Weight memory: users hold the address, the device remembers the size. */
typedef struct cuda_block {
    struct cuda_block *next;
    cu_address address;
    size_t bytes;
} cuda_block;

typedef struct cuda_device {
    cuda_driver api;
    cu_device handle;
    cu_context primary;
    cu_module modules[CUDA_MODULES_MAX]; /* one per .cu file */
    int n_modules;
    int ordinal, sm; /* 90 = compute capability 9.0 */
    int n_sms;
    int shared_bytes; /* most that a block may have */
    bool overlap;     /* the loaded kernels know programmatic dependent launch */
    size_t budget_bytes;
    _Atomic size_t used_bytes;
    _Atomic int lost;     /* the first sticky result, 0: none */
    pthread_mutex_t lock; /* of blocks */
    cuda_block *blocks;
    char description[192];
    cu_function functions[CUDA_KERNELS_MAX];
    int shared_static[CUDA_KERNELS_MAX];
    ops_variant variants[CUDA_VARIANTS_MAX];
    char shapes[CUDA_KERNELS_MAX][48]; /* texts that variants point into */
    /* options.isa: a GEMM variant whose name contains it is taken where there is one; query16 and
     * query64 fix attention's tiles. Empty: chosen by shape. Bits do not depend on it, but for
     * "cublaslt" (matmul.h). */
    char forced[64];
    matmul_plan matmul; /* which GEMMs cuBLASLt does */
    bool ranges;        /* ops are named for profilers (nvtx.h) */
} cuda_device;

/* The backend's functions that need no context (ops.h). */
crank_status cuda_open(void **device, const ops_device_options *options, crank_error *error);
void cuda_close(void *device);
const char *cuda_describe(const void *device);
const ops_variant *cuda_variants(const void *device, size_t *n);
void cuda_notes(void *device, char *text, size_t bytes);
crank_status cuda_memory_open(void *device, void **block, size_t bytes, crank_error *error);
crank_status cuda_memory_write(void *device, void *block, const void *source, size_t bytes,
                               crank_error *error);
void cuda_memory_close(void *device, void *block);

/* Device memory within the budget. what: for the message ("the model's weights"). */
crank_status cuda_take(cuda_device *d, cu_address *address, size_t bytes, const char *what,
                       crank_error *error);
void cuda_give(cuda_device *d, cu_address address, size_t bytes);

/* Turns a driver's result into a status; remembers sticky ones. doing: "launching a kernel". */
crank_status cuda_check(cuda_device *d, cu_result result, const char *doing, crank_error *error);
/* Makes the device's context current in this thread; DEVICE when the device is lost. */
crank_status cuda_enter(cuda_device *d, crank_error *error);

#define CUDA_TRY(device, call, doing, error)                                                       \
    CRANK_TRY(cuda_check((device), (device)->api.call, (doing), (error)))

#endif
