/* The part of the CUDA driver's binary interface that the engine uses, declared here so that the
 * host side compiles without any NVIDIA header. Types carry the prefix cu_; abi_check.cu compares
 * sizes, offsets and numbers with <cuda.h> wherever nvcc is there to compile the kernels.
 *
 * Source: CUDA Driver API reference manual, 13.0. */
#ifndef CRANK_CUDA_DRIVER_ABI_H
#define CRANK_CUDA_DRIVER_ABI_H

#include <stddef.h>

typedef int cu_result; /* 0 is success */
typedef int cu_device;
typedef unsigned long long cu_address; /* CUdeviceptr */
typedef struct CUctx_st *cu_context;
typedef struct CUmod_st *cu_module;
typedef struct CUfunc_st *cu_function;
typedef struct CUstream_st *cu_stream;
typedef struct CUevent_st *cu_event;
typedef struct CUgraph_st *cu_graph;
typedef struct CUgraphExec_st *cu_graph_exec;

/* X(name, number): results that the engine tells apart. */
#define CU_RESULT_LIST(X)                                                                          \
    X(SUCCESS, 0)                                                                                  \
    X(INVALID_VALUE, 1)                                                                            \
    X(OUT_OF_MEMORY, 2)                                                                            \
    X(STUB_LIBRARY, 34)                                                                            \
    X(NO_DEVICE, 100)                                                                              \
    X(INVALID_IMAGE, 200)                                                                          \
    X(NO_BINARY_FOR_GPU, 209)                                                                      \
    X(ECC_UNCORRECTABLE, 214)                                                                      \
    X(INVALID_PTX, 218)                                                                            \
    X(NVLINK_UNCORRECTABLE, 220)                                                                   \
    X(UNSUPPORTED_PTX_VERSION, 222)                                                                \
    X(NOT_FOUND, 500)                                                                              \
    X(ILLEGAL_ADDRESS, 700)                                                                        \
    X(LAUNCH_OUT_OF_RESOURCES, 701)                                                                \
    X(LAUNCH_TIMEOUT, 702)                                                                         \
    X(CONTEXT_IS_DESTROYED, 709)                                                                   \
    X(ASSERT, 710)                                                                                 \
    X(HARDWARE_STACK_ERROR, 714)                                                                   \
    X(ILLEGAL_INSTRUCTION, 715)                                                                    \
    X(MISALIGNED_ADDRESS, 716)                                                                     \
    X(INVALID_ADDRESS_SPACE, 717)                                                                  \
    X(INVALID_PC, 718)                                                                             \
    X(LAUNCH_FAILED, 719)

enum {
#define CU_RESULT_ENUM(name, number) CU_##name = (number),
    CU_RESULT_LIST(CU_RESULT_ENUM)
#undef CU_RESULT_ENUM
};

/* X(name, number): CUdevice_attribute */
#define CU_DEVICE_ATTRIBUTE_LIST(X)                                                                \
    X(MULTIPROCESSOR_COUNT, 16)                                                                    \
    X(COMPUTE_CAPABILITY_MAJOR, 75)                                                                \
    X(COMPUTE_CAPABILITY_MINOR, 76)                                                                \
    X(MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 97)

enum {
#define CU_DEVICE_ENUM(name, number) CU_DEVICE_##name = (number),
    CU_DEVICE_ATTRIBUTE_LIST(CU_DEVICE_ENUM)
#undef CU_DEVICE_ENUM
};

/* X(name, number): CUfunction_attribute */
#define CU_FUNC_ATTRIBUTE_LIST(X)                                                                  \
    X(SHARED_SIZE_BYTES, 1)                                                                        \
    X(LOCAL_SIZE_BYTES, 3)                                                                         \
    X(NUM_REGS, 4)                                                                                 \
    X(PTX_VERSION, 5)                                                                              \
    X(MAX_DYNAMIC_SHARED_SIZE_BYTES, 8)

enum {
#define CU_FUNC_ENUM(name, number) CU_FUNC_##name = (number),
    CU_FUNC_ATTRIBUTE_LIST(CU_FUNC_ENUM)
#undef CU_FUNC_ENUM
        CU_FLAG_STREAM_NON_BLOCKING = 1,
    CU_FLAG_CAPTURE_THREAD_LOCAL = 1,
    CU_FLAG_HOST_PORTABLE = 1,
    CU_FLAG_HOST_MAPPED = 2,
    CU_ATTRIBUTE_OVERLAP = 6,
};

typedef struct cu_launch_attribute {
    int id;
    char pad[4];
    union {
        char bytes[64];
        int programmatic_serialization_allowed;
    } value;
} cu_launch_attribute;

typedef struct cu_launch_config {
    unsigned grid[3], block[3];
    unsigned shared_bytes; /* dynamic */
    cu_stream stream;
    cu_launch_attribute *attributes;
    unsigned n_attributes;
} cu_launch_config;

/* X(field, exported symbol, parameters). The symbols are the current ABI's: <cuda.h> hides the _v2
 * suffixes behind macros, and the bare names are old interfaces with other parameter types. */
#define CU_CALL_LIST(X)                                                                            \
    X(init, "cuInit", (unsigned flags))                                                            \
    X(driver_version, "cuDriverGetVersion", (int *version))                                        \
    X(error_name, "cuGetErrorName", (cu_result result, const char **text))                         \
    X(error_string, "cuGetErrorString", (cu_result result, const char **text))                     \
    X(device_count, "cuDeviceGetCount", (int *count))                                              \
    X(device_get, "cuDeviceGet", (cu_device * device, int ordinal))                                \
    X(device_name, "cuDeviceGetName", (char *name, int bytes, cu_device device))                   \
    X(device_attribute, "cuDeviceGetAttribute", (int *value, int attribute, cu_device device))     \
    X(context_retain, "cuDevicePrimaryCtxRetain", (cu_context * context, cu_device device))        \
    X(context_release, "cuDevicePrimaryCtxRelease_v2", (cu_device device))                         \
    X(context_set, "cuCtxSetCurrent", (cu_context context))                                        \
    X(memory_info, "cuMemGetInfo_v2", (size_t * free_bytes, size_t * total_bytes))                 \
    X(memory_alloc, "cuMemAlloc_v2", (cu_address * address, size_t bytes))                         \
    X(memory_free, "cuMemFree_v2", (cu_address address))                                           \
    X(host_alloc, "cuMemHostAlloc", (void **pointer, size_t bytes, unsigned flags))                \
    X(host_free, "cuMemFreeHost", (void *pointer))                                                 \
    X(host_address, "cuMemHostGetDevicePointer_v2",                                                \
      (cu_address * address, void *pointer, unsigned flags))                                       \
    X(copy_to_device, "cuMemcpyHtoD_v2", (cu_address to, const void *from, size_t bytes))          \
    X(copy_to_host, "cuMemcpyDtoH_v2", (void *to, cu_address from, size_t bytes))                  \
    X(set_bytes, "cuMemsetD8_v2", (cu_address to, unsigned char value, size_t bytes))              \
    X(stream_create, "cuStreamCreate", (cu_stream * stream, unsigned flags))                       \
    X(stream_destroy, "cuStreamDestroy_v2", (cu_stream stream))                                    \
    X(stream_synchronize, "cuStreamSynchronize", (cu_stream stream))                               \
    X(capture_begin, "cuStreamBeginCapture_v2", (cu_stream stream, int mode))                      \
    X(capture_end, "cuStreamEndCapture", (cu_stream stream, cu_graph * graph))                     \
    X(graph_instantiate, "cuGraphInstantiateWithFlags",                                            \
      (cu_graph_exec * exec, cu_graph graph, unsigned long long flags))                            \
    X(graph_launch, "cuGraphLaunch", (cu_graph_exec exec, cu_stream stream))                       \
    X(graph_destroy, "cuGraphDestroy", (cu_graph graph))                                           \
    X(graph_exec_destroy, "cuGraphExecDestroy", (cu_graph_exec exec))                              \
    X(event_create, "cuEventCreate", (cu_event * event, unsigned flags))                           \
    X(event_destroy, "cuEventDestroy_v2", (cu_event event))                                        \
    X(event_record, "cuEventRecord", (cu_event event, cu_stream stream))                           \
    X(event_synchronize, "cuEventSynchronize", (cu_event event))                                   \
    X(event_elapsed, "cuEventElapsedTime", (float *ms, cu_event from, cu_event to))                \
    X(module_load, "cuModuleLoadData", (cu_module * module, const void *image))                    \
    X(module_unload, "cuModuleUnload", (cu_module module))                                         \
    X(module_function, "cuModuleGetFunction",                                                      \
      (cu_function * function, cu_module module, const char *name))                                \
    X(function_get, "cuFuncGetAttribute", (int *value, int attribute, cu_function function))       \
    X(function_set, "cuFuncSetAttribute", (cu_function function, int attribute, int value))        \
    X(launch, "cuLaunchKernelEx",                                                                  \
      (const cu_launch_config *config, cu_function function, void **parameters, void **extra))

#endif
