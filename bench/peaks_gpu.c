#include "bench/peaks.h"
#include "kernels/cuda/lab.h"

crank_status peaks_measure_gpu(peaks *p, int ordinal, const char *library, crank_error *error)
{
    ops_context ctx = {.backend = &ops_backend_cuda};
    const ops_device_options options = {.ordinal = ordinal, .library_path = library};
    cuda_lab_peaks found = {0};
    *p = (peaks){0};
    CRANK_TRY(ctx.backend->open(&ctx.device, &options, error));
    crank_status status = ctx.backend->context_open(&ctx, 64, error);
    if (status == CRANK_OK) {
        status = cuda_lab_measure_peaks(&ctx, false, &found, error);
        ctx.backend->context_close(&ctx);
    }
    ctx.backend->close(ctx.device);
    if (status != CRANK_OK) return status;
    for (int i = 0; i < OPS_N_DTYPES; i++) p->gflops[i] = found.gflops[i];
    p->gbps = found.gbps;
    return CRANK_OK;
}
