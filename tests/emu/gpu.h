/* The CUDA driver for tests: a library opened by path, its calls by name, and a few steps that
 * every test takes. Works with libcuda.so.1 and with libcrank_emu.so alike. */
#ifndef CRANK_TESTS_EMU_GPU_H
#define CRANK_TESTS_EMU_GPU_H

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int gpu_result;
typedef unsigned long long gpu_address;
typedef void *gpu_handle;

/* X(name, parameters) */
#define GPU_CALL_LIST(X)                                                                           \
    X(cuInit, unsigned int)                                                                        \
    X(cuDriverGetVersion, int *)                                                                   \
    X(cuGetErrorName, int, const char **)                                                          \
    X(cuDeviceGet, int *, int)                                                                     \
    X(cuDeviceGetCount, int *)                                                                     \
    X(cuDeviceGetName, char *, int, int)                                                           \
    X(cuDeviceGetAttribute, int *, int, int)                                                       \
    X(cuDeviceTotalMem_v2, size_t *, int)                                                          \
    X(cuDevicePrimaryCtxRetain, gpu_handle *, int)                                                 \
    X(cuDevicePrimaryCtxRelease_v2, int)                                                           \
    X(cuCtxSetCurrent, gpu_handle)                                                                 \
    X(cuCtxGetCurrent, gpu_handle *)                                                               \
    X(cuCtxPushCurrent_v2, gpu_handle)                                                             \
    X(cuCtxPopCurrent_v2, gpu_handle *)                                                            \
    X(cuCtxSynchronize, void)                                                                      \
    X(cuMemAlloc_v2, gpu_address *, size_t)                                                        \
    X(cuMemFree_v2, gpu_address)                                                                   \
    X(cuMemGetInfo_v2, size_t *, size_t *)                                                         \
    X(cuMemHostAlloc, void **, size_t, unsigned int)                                               \
    X(cuMemFreeHost, void *)                                                                       \
    X(cuMemHostGetDevicePointer_v2, gpu_address *, void *, unsigned int)                           \
    X(cuMemcpyHtoD_v2, gpu_address, const void *, size_t)                                          \
    X(cuMemcpyDtoH_v2, void *, gpu_address, size_t)                                                \
    X(cuMemcpyHtoDAsync_v2, gpu_address, const void *, size_t, gpu_handle)                         \
    X(cuMemcpyDtoHAsync_v2, void *, gpu_address, size_t, gpu_handle)                               \
    X(cuMemcpyDtoDAsync_v2, gpu_address, gpu_address, size_t, gpu_handle)                          \
    X(cuMemsetD8_v2, gpu_address, unsigned char, size_t)                                           \
    X(cuMemsetD32_v2, gpu_address, unsigned int, size_t)                                           \
    X(cuMemsetD8Async, gpu_address, unsigned char, size_t, gpu_handle)                             \
    X(cuMemsetD32Async, gpu_address, unsigned int, size_t, gpu_handle)                             \
    X(cuStreamCreate, gpu_handle *, unsigned int)                                                  \
    X(cuStreamDestroy_v2, gpu_handle)                                                              \
    X(cuStreamSynchronize, gpu_handle)                                                             \
    X(cuStreamQuery, gpu_handle)                                                                   \
    X(cuStreamWaitEvent, gpu_handle, gpu_handle, unsigned int)                                     \
    X(cuStreamBeginCapture_v2, gpu_handle, int)                                                    \
    X(cuStreamEndCapture, gpu_handle, gpu_handle *)                                                \
    X(cuStreamIsCapturing, gpu_handle, int *)                                                      \
    X(cuEventCreate, gpu_handle *, unsigned int)                                                   \
    X(cuEventDestroy_v2, gpu_handle)                                                               \
    X(cuEventRecord, gpu_handle, gpu_handle)                                                       \
    X(cuEventQuery, gpu_handle)                                                                    \
    X(cuEventSynchronize, gpu_handle)                                                              \
    X(cuEventElapsedTime, float *, gpu_handle, gpu_handle)                                         \
    X(cuGraphInstantiateWithFlags, gpu_handle *, gpu_handle, unsigned long long)                   \
    X(cuGraphLaunch, gpu_handle, gpu_handle)                                                       \
    X(cuGraphDestroy, gpu_handle)                                                                  \
    X(cuGraphExecDestroy, gpu_handle)                                                              \
    X(cuModuleLoadData, gpu_handle *, const void *)                                                \
    X(cuModuleUnload, gpu_handle)                                                                  \
    X(cuModuleGetFunction, gpu_handle *, gpu_handle, const char *)                                 \
    X(cuModuleGetGlobal_v2, gpu_address *, size_t *, gpu_handle, const char *)                     \
    X(cuFuncGetAttribute, int *, int, gpu_handle)                                                  \
    X(cuFuncSetAttribute, gpu_handle, int, int)                                                    \
    X(cuLaunchKernel, gpu_handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,      \
      unsigned, gpu_handle, void **, void **)                                                      \
    X(cuLaunchKernelEx, const void *, gpu_handle, void **, void **)

typedef struct gpu {
    void *library;
#define GPU_MEMBER(name, ...) gpu_result (*name)(__VA_ARGS__);
    GPU_CALL_LIST(GPU_MEMBER)
#undef GPU_MEMBER
    gpu_handle context;
} gpu;

/* A function pointer by name; ISO C has no cast from void * to one. */
static inline void gpu_symbol(void *library, const char *name, void *function)
{
    void *found = dlsym(library, name);
    memcpy(function, &found, sizeof found);
}

/* 0, or prints what is missing. */
static inline int gpu_open(gpu *g, const char *path)
{
    memset(g, 0, sizeof *g);
    g->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (g->library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
#define GPU_LOAD(name, ...)                                                                        \
    gpu_symbol(g->library, #name, &g->name);                                                       \
    if (g->name == NULL) {                                                                         \
        fprintf(stderr, "%s has no %s\n", path, #name);                                            \
        return 1;                                                                                  \
    }
    GPU_CALL_LIST(GPU_LOAD)
#undef GPU_LOAD
    return 0;
}

static inline int gpu_start(gpu *g)
{
    int result = g->cuInit(0);
    if (result == 0) result = g->cuDevicePrimaryCtxRetain(&g->context, 0);
    if (result == 0) result = g->cuCtxSetCurrent(g->context);
    return result;
}

/* A whole file with a zero behind it; NULL when it cannot be read. The caller frees it. */
static inline char *gpu_read_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    char *text = NULL;
    long bytes;
    if (f == NULL) return NULL;
    if (fseek(f, 0, SEEK_END) == 0 && (bytes = ftell(f)) >= 0 && fseek(f, 0, SEEK_SET) == 0) {
        text = malloc((size_t)bytes + 1);
        if (text != NULL && fread(text, 1, (size_t)bytes, f) == (size_t)bytes)
            text[bytes] = '\0';
        else {
            free(text);
            text = NULL;
        }
    }
    fclose(f);
    return text;
}

#endif
