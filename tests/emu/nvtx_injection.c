/* A profiler of the smallest kind: what NVTX loads when NVTX_INJECTION64_PATH names it. It writes
 * down the ranges of the process, in order, for tests/cuda_nvtx_test.c to read. One thread. */
#include <nvtx3/nvToolsExt.h>
#include <stdint.h>
#include <stdio.h>

#include "nvtx_injection.h"

static nvtx_event events[NVTX_EVENTS];
static size_t n_events;

__attribute__((visibility("default"))) const nvtx_event *nvtx_injection_events(size_t *n);
__attribute__((visibility("default"))) int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get);

const nvtx_event *nvtx_injection_events(size_t *n)
{
    *n = n_events;
    return events;
}

static int push(const char *name)
{
    if (n_events < NVTX_EVENTS) {
        nvtx_event *e = &events[n_events++];
        snprintf(e->name, sizeof e->name, "%s", name);
    }
    return 0;
}

static int pop(void)
{
    if (n_events < NVTX_EVENTS) events[n_events++].name[0] = 0;
    return 0;
}

int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get)
{
    const NvtxExportTableCallbacks *callbacks =
        (const NvtxExportTableCallbacks *)get(NVTX_ETID_CALLBACKS);
    NvtxFunctionTable table;
    unsigned size;
    if (callbacks == NULL ||
        !callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE, &table, &size) ||
        size <= NVTX_CBID_CORE_RangePop)
        return 0;
    *table[NVTX_CBID_CORE_RangePushA] = (NvtxFunctionPointer)push;
    *table[NVTX_CBID_CORE_RangePop] = (NvtxFunctionPointer)pop;
    return 1;
}
