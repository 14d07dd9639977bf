#include "kernels/cuda/driver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define DEFAULT_LIBRARY "libcuda.so.1"

const char *cuda_result_text(const cuda_driver *d, cu_result result, char buffer[160])
{
    const char *name = NULL, *text = NULL;
    if (d->error_name == NULL || d->error_name(result, &name) != CU_SUCCESS) name = NULL;
    if (d->error_string == NULL || d->error_string(result, &text) != CU_SUCCESS) text = NULL;
    if (name == NULL)
        snprintf(buffer, 160, "CUDA error %d", result);
    else
        snprintf(buffer, 160, "%s (%s)", name, text != NULL ? text : "no description");
    return buffer;
}

static crank_status load_symbols(cuda_driver *d, crank_error *error)
{
    static const struct {
        const char *symbol;
        size_t offset;
    } calls[] = {
#define CALL_ROW(field, symbol, parameters) {symbol, offsetof(cuda_driver, field)},
        CU_CALL_LIST(CALL_ROW)
#undef CALL_ROW
    };
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        void *address = dlsym(d->library, calls[i].symbol);
        CRANK_CHECK(address != NULL, DEVICE, error,
                    "cuda: %s has no %s: it is older than CUDA 12 or not a CUDA driver; update the "
                    "NVIDIA driver, or choose --device cpu",
                    d->path, calls[i].symbol);
        /* A data pointer becomes a function pointer as POSIX dlsym has it. */
        memcpy((char *)d + calls[i].offset, &address, sizeof address);
    }
    return CRANK_OK;
}

static crank_status initialise(cuda_driver *d, int needed_version, crank_error *error)
{
    CRANK_TRY(load_symbols(d, error));
    char text[160];
    cu_result result = d->init(0);
    CRANK_CHECK(result == CU_SUCCESS, DEVICE, error,
                "cuda: %s is there, but cuInit fails with %s: %s, or choose --device cpu", d->path,
                cuda_result_text(d, result, text),
                result == CU_NO_DEVICE ? "no GPU is visible (see nvidia-smi, CUDA_VISIBLE_DEVICES)"
                : result == CU_STUB_LIBRARY ? "this is the toolkit's stub, not a driver"
                                            : "see nvidia-smi");
    result = d->driver_version(&d->version);
    CRANK_CHECK(result == CU_SUCCESS, DEVICE, error, "cuda: %s: no driver version: %s", d->path,
                cuda_result_text(d, result, text));
    CRANK_CHECK(d->version >= needed_version, DEVICE, error,
                "cuda: %s supports CUDA %d.%d, these kernels need %d.%d: update the NVIDIA driver, "
                "or choose --device cpu",
                d->path, d->version / 1000, d->version % 1000 / 10, needed_version / 1000,
                needed_version % 1000 / 10);
    return CRANK_OK;
}

crank_status cuda_driver_open(cuda_driver *d, const char *path, int needed_version,
                              crank_error *error)
{
    *d = (cuda_driver){.path = path != NULL ? path : DEFAULT_LIBRARY};
    d->library = dlopen(d->path, RTLD_NOW | RTLD_LOCAL);
    if (d->library == NULL) {
        const char *reason = dlerror();
        crank_status status = status_fail(
            error, CRANK_DEVICE,
            "cuda: cannot open %s (%s): install the NVIDIA driver (CUDA %d.%d or later), or choose "
            "--device cpu",
            d->path, reason != NULL ? reason : "no reason given", needed_version / 1000,
            needed_version % 1000 / 10);
        *d = (cuda_driver){0};
        return status;
    }
    crank_status status = initialise(d, needed_version, error);
    if (status != CRANK_OK)
        cuda_driver_close(d);
    else
        d->path = NULL; /* the caller's string need not outlive this call */
    return status;
}

void cuda_driver_close(cuda_driver *d)
{
    if (d->library != NULL) dlclose(d->library);
    *d = (cuda_driver){0};
}
