/* The part of the CUDA driver's binary interface that the emulator exports, declared here so that
 * it builds where no NVIDIA header is. tests/emu_test.c compares it with cuda.h where there is one.
 * Source: CUDA 13.0 driver API; structure layouts and numbers are part of its stable ABI. */
#ifndef CRANK_EMU_CUDA_ABI_H
#define CRANK_EMU_CUDA_ABI_H

#include <stddef.h>
#include <stdint.h>

typedef int abi_result;
typedef int abi_device;
typedef unsigned long long abi_deviceptr;
typedef struct context_object *abi_context;
typedef struct module_object *abi_module;
typedef struct function_object *abi_function;
typedef struct stream_object *abi_stream;
typedef struct event_object *abi_event;
typedef struct graph_object *abi_graph;
typedef struct executable_object *abi_graph_exec;
typedef struct node_object *abi_graph_node;

/* X(name as in cuda.h without CUDA_, number) */
#define ABI_RESULT_LIST(X)                                                                         \
    X(SUCCESS, 0)                                                                                  \
    X(ERROR_INVALID_VALUE, 1)                                                                      \
    X(ERROR_OUT_OF_MEMORY, 2)                                                                      \
    X(ERROR_NOT_INITIALIZED, 3)                                                                    \
    X(ERROR_DEINITIALIZED, 4)                                                                      \
    X(ERROR_NO_DEVICE, 100)                                                                        \
    X(ERROR_INVALID_DEVICE, 101)                                                                   \
    X(ERROR_INVALID_IMAGE, 200)                                                                    \
    X(ERROR_INVALID_CONTEXT, 201)                                                                  \
    X(ERROR_NO_BINARY_FOR_GPU, 209)                                                                \
    X(ERROR_INVALID_PTX, 218)                                                                      \
    X(ERROR_INVALID_SOURCE, 300)                                                                   \
    X(ERROR_INVALID_HANDLE, 400)                                                                   \
    X(ERROR_NOT_FOUND, 500)                                                                        \
    X(ERROR_NOT_READY, 600)                                                                        \
    X(ERROR_ILLEGAL_ADDRESS, 700)                                                                  \
    X(ERROR_LAUNCH_OUT_OF_RESOURCES, 701)                                                          \
    X(ERROR_LAUNCH_TIMEOUT, 702)                                                                   \
    X(ERROR_CONTEXT_IS_DESTROYED, 709)                                                             \
    X(ERROR_ASSERT, 710)                                                                           \
    X(ERROR_MISALIGNED_ADDRESS, 716)                                                               \
    X(ERROR_LAUNCH_FAILED, 719)                                                                    \
    X(ERROR_NOT_PERMITTED, 800)                                                                    \
    X(ERROR_NOT_SUPPORTED, 801)                                                                    \
    X(ERROR_STREAM_CAPTURE_UNSUPPORTED, 900)                                                       \
    X(ERROR_STREAM_CAPTURE_INVALIDATED, 901)                                                       \
    X(ERROR_STREAM_CAPTURE_MERGE, 902)                                                             \
    X(ERROR_STREAM_CAPTURE_UNMATCHED, 903)                                                         \
    X(ERROR_STREAM_CAPTURE_UNJOINED, 904)                                                          \
    X(ERROR_STREAM_CAPTURE_ISOLATION, 905)                                                         \
    X(ERROR_STREAM_CAPTURE_IMPLICIT, 906)                                                          \
    X(ERROR_CAPTURED_EVENT, 907)                                                                   \
    X(ERROR_STREAM_CAPTURE_WRONG_THREAD, 908)                                                      \
    X(ERROR_UNKNOWN, 999)
#define ABI_RESULT_ENUM(name, number) ABI_##name = (number),
enum { ABI_RESULT_LIST(ABI_RESULT_ENUM) };
#undef ABI_RESULT_ENUM

/* CUdevice_attribute: X(name, number, value on sm_80, value on sm_90) */
#define ABI_ATTRIBUTE_LIST(X)                                                                      \
    X(MAX_THREADS_PER_BLOCK, 1, 1024, 1024)                                                        \
    X(MAX_BLOCK_DIM_X, 2, 1024, 1024)                                                              \
    X(MAX_BLOCK_DIM_Y, 3, 1024, 1024)                                                              \
    X(MAX_BLOCK_DIM_Z, 4, 64, 64)                                                                  \
    X(MAX_GRID_DIM_X, 5, 2147483647, 2147483647)                                                   \
    X(MAX_GRID_DIM_Y, 6, 65535, 65535)                                                             \
    X(MAX_GRID_DIM_Z, 7, 65535, 65535)                                                             \
    X(MAX_SHARED_MEMORY_PER_BLOCK, 8, 49152, 49152)                                                \
    X(TOTAL_CONSTANT_MEMORY, 9, 65536, 65536)                                                      \
    X(WARP_SIZE, 10, 32, 32)                                                                       \
    X(MAX_REGISTERS_PER_BLOCK, 12, 65536, 65536)                                                   \
    X(CLOCK_RATE, 13, 1410000, 1980000)                                                            \
    X(TEXTURE_ALIGNMENT, 14, 512, 512)                                                             \
    X(GPU_OVERLAP, 15, 1, 1)                                                                       \
    X(MULTIPROCESSOR_COUNT, 16, 108, 132)                                                          \
    X(KERNEL_EXEC_TIMEOUT, 17, 0, 0)                                                               \
    X(INTEGRATED, 18, 0, 0)                                                                        \
    X(CAN_MAP_HOST_MEMORY, 19, 1, 1)                                                               \
    X(COMPUTE_MODE, 20, 0, 0)                                                                      \
    X(CONCURRENT_KERNELS, 31, 1, 1)                                                                \
    X(ECC_ENABLED, 32, 1, 1)                                                                       \
    X(PCI_BUS_ID, 33, 0, 0)                                                                        \
    X(PCI_DEVICE_ID, 34, 0, 0)                                                                     \
    X(TCC_DRIVER, 35, 0, 0)                                                                        \
    X(MEMORY_CLOCK_RATE, 36, 1215000, 2619000)                                                     \
    X(GLOBAL_MEMORY_BUS_WIDTH, 37, 5120, 5120)                                                     \
    X(L2_CACHE_SIZE, 38, 41943040, 52428800)                                                       \
    X(MAX_THREADS_PER_MULTIPROCESSOR, 39, 2048, 2048)                                              \
    X(ASYNC_ENGINE_COUNT, 40, 3, 3)                                                                \
    X(UNIFIED_ADDRESSING, 41, 1, 1)                                                                \
    X(PCI_DOMAIN_ID, 50, 0, 0)                                                                     \
    X(COMPUTE_CAPABILITY_MAJOR, 75, 8, 9)                                                          \
    X(COMPUTE_CAPABILITY_MINOR, 76, 0, 0)                                                          \
    X(STREAM_PRIORITIES_SUPPORTED, 78, 1, 1)                                                       \
    X(GLOBAL_L1_CACHE_SUPPORTED, 79, 1, 1)                                                         \
    X(LOCAL_L1_CACHE_SUPPORTED, 80, 1, 1)                                                          \
    X(MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, 81, 167936, 233472)                                    \
    X(MAX_REGISTERS_PER_MULTIPROCESSOR, 82, 65536, 65536)                                          \
    X(MANAGED_MEMORY, 83, 0, 0)                                                                    \
    X(MULTI_GPU_BOARD, 84, 0, 0)                                                                   \
    X(HOST_NATIVE_ATOMIC_SUPPORTED, 86, 0, 0)                                                      \
    X(SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO, 87, 2, 2)                                             \
    X(PAGEABLE_MEMORY_ACCESS, 88, 0, 0)                                                            \
    X(CONCURRENT_MANAGED_ACCESS, 89, 0, 0)                                                         \
    X(COMPUTE_PREEMPTION_SUPPORTED, 90, 1, 1)                                                      \
    X(CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM, 91, 1, 1)                                           \
    X(COOPERATIVE_LAUNCH, 95, 0, 0)                                                                \
    X(MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 97, 166912, 232448)                                       \
    X(MAX_BLOCKS_PER_MULTIPROCESSOR, 106, 32, 32)                                                  \
    X(MAX_PERSISTING_L2_CACHE_SIZE, 108, 31457280, 32768000)                                       \
    X(MAX_ACCESS_POLICY_WINDOW_SIZE, 109, 134213632, 134213632)                                    \
    X(RESERVED_SHARED_MEMORY_PER_BLOCK, 111, 1024, 1024)                                           \
    X(MEMORY_POOLS_SUPPORTED, 115, 0, 0)                                                           \
    X(CLUSTER_LAUNCH, 120, 0, 0)

enum {
    ABI_FUNC_MAX_THREADS_PER_BLOCK = 0,
    ABI_FUNC_SHARED_SIZE_BYTES = 1,
    ABI_FUNC_CONST_SIZE_BYTES = 2,
    ABI_FUNC_LOCAL_SIZE_BYTES = 3,
    ABI_FUNC_NUM_REGS = 4,
    ABI_FUNC_PTX_VERSION = 5,
    ABI_FUNC_BINARY_VERSION = 6,
    ABI_FUNC_CACHE_MODE_CA = 7,
    ABI_FUNC_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8,
    ABI_FUNC_PREFERRED_SHARED_MEMORY_CARVEOUT = 9
};

enum { ABI_STREAM_NON_BLOCKING = 1 };
enum { ABI_EVENT_BLOCKING_SYNC = 1, ABI_EVENT_DISABLE_TIMING = 2, ABI_EVENT_INTERPROCESS = 4 };
enum { ABI_HOSTALLOC_PORTABLE = 1, ABI_HOSTALLOC_DEVICEMAP = 2, ABI_HOSTALLOC_WRITECOMBINED = 4 };
enum { ABI_CAPTURE_GLOBAL = 0, ABI_CAPTURE_THREAD_LOCAL = 1, ABI_CAPTURE_RELAXED = 2 };
enum { ABI_CAPTURE_NONE = 0, ABI_CAPTURE_ACTIVE = 1, ABI_CAPTURE_INVALIDATED = 2 };
enum {
    ABI_JIT_INFO_LOG = 3,
    ABI_JIT_INFO_BYTES = 4,
    ABI_JIT_ERROR_LOG = 5,
    ABI_JIT_ERROR_BYTES = 6
};

/* Special stream handles. */
#define ABI_STREAM_LEGACY ((abi_stream)(uintptr_t)1)
#define ABI_STREAM_PER_THREAD ((abi_stream)(uintptr_t)2)

/* cuLaunchKernel's `extra`. */
#define ABI_LAUNCH_PARAM_END ((void *)(uintptr_t)0)
#define ABI_LAUNCH_PARAM_BUFFER_POINTER ((void *)(uintptr_t)1)
#define ABI_LAUNCH_PARAM_BUFFER_SIZE ((void *)(uintptr_t)2)

typedef struct abi_launch_attribute {
    int id;
    char pad[8 - sizeof(int)];
    union {
        char bytes[64];
        struct {
            unsigned int x, y, z;
        } cluster;
        int value;
    } value;
} abi_launch_attribute;

typedef struct abi_launch_config {
    unsigned int grid[3], block[3], shared_bytes;
    abi_stream stream;
    abi_launch_attribute *attributes;
    unsigned int n_attributes;
} abi_launch_config;

enum {
    ABI_LAUNCH_IGNORE = 0,
    ABI_LAUNCH_ACCESS_POLICY_WINDOW = 1,
    ABI_LAUNCH_COOPERATIVE = 2,
    ABI_LAUNCH_SYNCHRONIZATION_POLICY = 3,
    ABI_LAUNCH_CLUSTER_DIMENSION = 4,
    ABI_LAUNCH_PROGRAMMATIC_STREAM_SERIALIZATION = 6,
    ABI_LAUNCH_PRIORITY = 8,
    ABI_LAUNCH_PREFERRED_SHARED_MEMORY_CARVEOUT = 14
};

#endif
