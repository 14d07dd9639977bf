/* Compares driver_abi.h with <cuda.h> at compile time, and cublaslt_abi.h with <cublasLt.h> where
 * that is installed (nvcc from PyPI comes without it): types by size and offset, numbers by value.
 * It defines no kernel. */
#include <cuda.h>
#include <stddef.h>

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>
#endif

#include "kernels/cuda/cublaslt_abi.h"
#include "kernels/cuda/driver_abi.h"

#define CHECK_RESULT(name, number) static_assert(number == CUDA_ERROR_##name, #name);
#define CUDA_ERROR_SUCCESS CUDA_SUCCESS
CU_RESULT_LIST(CHECK_RESULT)

#define CHECK_DEVICE(name, number) static_assert(number == CU_DEVICE_ATTRIBUTE_##name, #name);
CU_DEVICE_ATTRIBUTE_LIST(CHECK_DEVICE)

#define CHECK_FUNC(name, number) static_assert(number == CU_FUNC_ATTRIBUTE_##name, #name);
CU_FUNC_ATTRIBUTE_LIST(CHECK_FUNC)

static_assert(CU_FLAG_STREAM_NON_BLOCKING == CU_STREAM_NON_BLOCKING, "stream flag");
static_assert(CU_FLAG_CAPTURE_THREAD_LOCAL == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL, "capture mode");
static_assert(CU_FLAG_HOST_PORTABLE == CU_MEMHOSTALLOC_PORTABLE, "host memory flag");
static_assert(CU_FLAG_HOST_MAPPED == CU_MEMHOSTALLOC_DEVICEMAP, "host memory flag");
static_assert(CU_ATTRIBUTE_OVERLAP == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
              "launch attribute");

static_assert(sizeof(cu_address) == sizeof(CUdeviceptr), "device addresses");
static_assert(sizeof(cu_result) == sizeof(CUresult) && sizeof(cu_device) == sizeof(CUdevice),
              "int");
static_assert(sizeof(cu_launch_attribute) == sizeof(CUlaunchAttribute), "launch attribute");
static_assert(offsetof(cu_launch_attribute, value) == offsetof(CUlaunchAttribute, value),
              "launch attribute");
static_assert(sizeof(cu_launch_config) == sizeof(CUlaunchConfig), "launch configuration");
static_assert(offsetof(cu_launch_config, block) == offsetof(CUlaunchConfig, blockDimX), "block");
static_assert(offsetof(cu_launch_config, shared_bytes) == offsetof(CUlaunchConfig, sharedMemBytes),
              "shared bytes");
static_assert(offsetof(cu_launch_config, stream) == offsetof(CUlaunchConfig, hStream), "stream");
static_assert(offsetof(cu_launch_config, attributes) == offsetof(CUlaunchConfig, attrs), "attrs");
static_assert(offsetof(cu_launch_config, n_attributes) == offsetof(CUlaunchConfig, numAttrs),
              "number of attributes");

#ifdef CUBLAS_VERSION
#define CHECK_LT(name, theirs, number) static_assert(static_cast<int>(theirs) == number, #theirs);
LT_NUMBER_LIST(CHECK_LT)

static_assert(sizeof(lt_algorithm) == sizeof(cublasLtMatmulAlgo_t), "algorithm");
static_assert(sizeof(lt_heuristic) == sizeof(cublasLtMatmulHeuristicResult_t), "heuristic");
static_assert(offsetof(lt_heuristic, workspace_bytes) ==
                  offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize),
              "workspace");
static_assert(offsetof(lt_heuristic, state) == offsetof(cublasLtMatmulHeuristicResult_t, state),
              "state");
#endif
