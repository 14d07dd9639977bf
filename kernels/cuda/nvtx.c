#include "kernels/cuda/nvtx.h"

#ifdef CRANK_NVTX
#include <nvtx3/nvToolsExt.h>

const bool cuda_range_built = true;

void cuda_range_push(const char *name)
{
    nvtxRangePushA(name);
}

void cuda_range_pop(void)
{
    nvtxRangePop();
}

#else

const bool cuda_range_built = false;

void cuda_range_push(const char *name)
{
    (void)name;
}

void cuda_range_pop(void) {}

#endif
