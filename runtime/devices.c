#include "runtime/devices.h"

#include <stdio.h>
#include <string.h>

const device_row device_rows[] = {
    {CRANK_DEVICE_CUDA, &ops_backend_cuda, "row"},
    {CRANK_DEVICE_CPU, &ops_backend_cpu, "panel16"},
    {CRANK_DEVICE_REF, &ops_backend_ref, "row"},
    {CRANK_DEVICE_AUTO, NULL, NULL},
};

const device_row *device_find(crank_device device)
{
    for (const device_row *row = device_rows; row->backend != NULL; row++) {
        if (row->device == device) return row;
    }
    return NULL;
}

ops_dtype device_dtype(crank_dtype dtype)
{
    switch (dtype) {
    case CRANK_DTYPE_BF16: return OPS_BF16;
    case CRANK_DTYPE_F16: return OPS_F16;
    case CRANK_DTYPE_INT8: return OPS_INT8;
    case CRANK_DTYPE_AUTO:
    case CRANK_DTYPE_F32: break;
    }
    return OPS_F32;
}

const ops_layout *device_layout(crank_device device, ops_dtype dtype)
{
    const device_row *row = device_find(device);
    if (row == NULL) return NULL;
    char name[32];
    snprintf(name, sizeof name, "%s-%s", row->layout_prefix, ops_dtypes[dtype].name);
    return ops_layout_by_name(name);
}

static crank_status open_row(const device_row *row, const crank_model_options *options,
                             const ops_backend **backend, void **device, crank_error *error)
{
    ops_device_options device_options = {
        .ordinal = options->device_ordinal,
        .library_path = options->cuda_library,
        .isa = options->isa,
        .cublaslt_path = options->cublaslt_library,
        .nvtx_path = options->nvtx_library,
        .memory_budget_bytes = options->device_memory_bytes,
    };
    CRANK_TRY(row->backend->open(device, &device_options, error));
    *backend = row->backend;
    return CRANK_OK;
}

crank_status device_open(const crank_model_options *options, const ops_backend **backend,
                         void **device, crank_error *error)
{
    *backend = NULL;
    *device = NULL;
    if (options->device != CRANK_DEVICE_AUTO) {
        const device_row *row = device_find(options->device);
        CRANK_CHECK(row != NULL, DEVICE, error,
                    "this build of crank has no such device (number %d)", (int)options->device);
        return open_row(row, options, backend, device, error);
    }
    crank_status status = CRANK_DEVICE;
    for (const device_row *row = device_rows; row->backend != NULL; row++) {
        /* An instruction set names a CPU, not "whatever is there". */
        if (options->isa != NULL && row->device == CRANK_DEVICE_CUDA) continue;
        status = open_row(row, options, backend, device, error);
        if (status == CRANK_OK || status == CRANK_OUT_OF_MEMORY) break;
        if (options->isa != NULL && row->device == CRANK_DEVICE_CPU) break;
    }
    return status;
}
