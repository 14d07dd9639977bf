/* cuInit, devices, the primary context. */
#include <stdio.h>
#include <string.h>

#include "kernels/emu/driver.h"
#include "memory.h"

/* The only context there is: the primary one. */
struct context_object {
    int alive;
};
static struct context_object primary;

/* The contexts of this thread; the top is current. A context that went away leaves its entries, so
 * each remembers the number of resets. */
#define MAX_CONTEXTS 32
static _Thread_local struct {
    abi_context stack[MAX_CONTEXTS];
    uint32_t depth;
    uint32_t generation;
} current;
static atomic_uint generation;

static void forget_stale(void)
{
    if (current.generation != atomic_load(&generation)) {
        current.depth = 0;
        current.generation = atomic_load(&generation);
    }
}

int driver_has_context(void)
{
    forget_stale();
    return current.depth > 0 && current.stack[current.depth - 1] == &primary &&
           emu_driver.context_references > 0;
}

void driver_context_gone(void)
{
    atomic_fetch_add(&generation, 1);
    primary.alive = 0;
}

CALL(cuInit, unsigned int flags)
{
    ENTER(NEED_NOTHING);
    if (flags != 0) return driver_leave(driver_refuse(ABI_ERROR_INVALID_VALUE, "cuInit: flags"));
    emu_driver.cu_init = 1;
    return driver_leave(ABI_SUCCESS);
}

CALL(cuDriverGetVersion, int *version)
{
    if (version == NULL) return ABI_ERROR_INVALID_VALUE;
    *version = 13000;
    return ABI_SUCCESS;
}

static const struct {
    abi_result number;
    const char *name;
} results[] = {
#define RESULT_ROW(name, number) {number, "CUDA_" #name},
    ABI_RESULT_LIST(RESULT_ROW)
#undef RESULT_ROW
};

static const char *result_name(abi_result result)
{
    for (size_t i = 0; i < sizeof results / sizeof results[0]; i++)
        if (results[i].number == result) return results[i].name;
    return NULL;
}

CALL(cuGetErrorName, abi_result result, const char **text)
{
    if (text == NULL) return ABI_ERROR_INVALID_VALUE;
    *text = result_name(result);
    return *text ? ABI_SUCCESS : ABI_ERROR_INVALID_VALUE;
}

CALL(cuGetErrorString, abi_result result, const char **text)
{
    return cuGetErrorName(result, text);
}

CALL(cuDeviceGetCount, int *count)
{
    ENTER(NEED_INIT);
    if (count == NULL) return driver_leave(ABI_ERROR_INVALID_VALUE);
    *count = 1;
    return driver_leave(ABI_SUCCESS);
}

CALL(cuDeviceGet, abi_device *out, int ordinal)
{
    ENTER(NEED_INIT);
    if (out == NULL) return driver_leave(ABI_ERROR_INVALID_VALUE);
    if (ordinal != 0) return driver_leave(ABI_ERROR_INVALID_DEVICE);
    *out = 0;
    return driver_leave(ABI_SUCCESS);
}

CALL(cuDeviceGetName, char *name, int bytes, abi_device ordinal)
{
    ENTER(NEED_INIT);
    if (name == NULL || bytes <= 0) return driver_leave(ABI_ERROR_INVALID_VALUE);
    if (ordinal != 0) return driver_leave(ABI_ERROR_INVALID_DEVICE);
    snprintf(name, (size_t)bytes, "crank emulator sm_%u", emu_driver.options.capability);
    return driver_leave(ABI_SUCCESS);
}

CALL(cuDeviceGetUuid_v2, void *uuid, abi_device ordinal)
{
    ENTER(NEED_INIT);
    if (uuid == NULL) return driver_leave(ABI_ERROR_INVALID_VALUE);
    if (ordinal != 0) return driver_leave(ABI_ERROR_INVALID_DEVICE);
    memcpy(uuid, "crank--emulator", 16);
    return driver_leave(ABI_SUCCESS);
}

CALL(cuDeviceTotalMem_v2, size_t *bytes, abi_device ordinal)
{
    ENTER(NEED_INIT);
    if (bytes == NULL) return driver_leave(ABI_ERROR_INVALID_VALUE);
    if (ordinal != 0) return driver_leave(ABI_ERROR_INVALID_DEVICE);
    *bytes = (size_t)emu_driver.options.memory_bytes;
    return driver_leave(ABI_SUCCESS);
}

/* Opt-in shared memory a block and shared memory a multiprocessor, by compute capability. */
static void shared_limits(uint32_t capability, int *block_bytes, int *sm_bytes)
{
    int kilobytes = capability == 80                       ? 164
                    : capability == 86 || capability == 89 ? 100
                    : capability >= 120                    ? 100
                                                           : 228;
    *sm_bytes = kilobytes * 1024;
    *block_bytes = (kilobytes - 1) * 1024;
}

static abi_result attribute(int *value, int which)
{
    uint32_t capability = emu_driver.options.capability;
    int hopper = capability >= 90, block_bytes, sm_bytes;
    shared_limits(capability, &block_bytes, &sm_bytes);
    switch (which) {
    case 75: *value = (int)(capability / 10); return ABI_SUCCESS;
    case 76: *value = (int)(capability % 10); return ABI_SUCCESS;
    case 81: *value = sm_bytes; return ABI_SUCCESS;
    case 97: *value = block_bytes; return ABI_SUCCESS;
    case 39:
        *value = capability == 86 || capability == 89 || capability >= 120 ? 1536 : 2048;
        return ABI_SUCCESS;
    case 106:
        *value = capability == 86 ? 16 : capability == 89 || capability >= 120 ? 24 : 32;
        return ABI_SUCCESS;
    default: break;
    }
    switch (which) {
#define ATTRIBUTE_CASE(name, number, on_sm80, on_sm90)                                             \
    case number: *value = hopper ? on_sm90 : on_sm80; return ABI_SUCCESS;
        ABI_ATTRIBUTE_LIST(ATTRIBUTE_CASE)
#undef ATTRIBUTE_CASE
    default:
        return driver_refuse(ABI_ERROR_INVALID_VALUE, "cuDeviceGetAttribute: attribute %d", which);
    }
}

CALL(cuDeviceGetAttribute, int *value, int which, abi_device ordinal)
{
    ENTER(NEED_INIT);
    if (value == NULL) return driver_leave(ABI_ERROR_INVALID_VALUE);
    if (ordinal != 0) return driver_leave(ABI_ERROR_INVALID_DEVICE);
    return driver_leave(attribute(value, which));
}

CALL(cuDeviceGetPCIBusId, char *id, int bytes, abi_device ordinal)
{
    ENTER(NEED_INIT);
    if (id == NULL || bytes <= 0) return driver_leave(ABI_ERROR_INVALID_VALUE);
    if (ordinal != 0) return driver_leave(ABI_ERROR_INVALID_DEVICE);
    snprintf(id, (size_t)bytes, "0000:00:00.0");
    return driver_leave(ABI_SUCCESS);
}

/* ---- contexts ---------------------------------------------------------------------------------
 */

CALL(cuDevicePrimaryCtxRetain, abi_context *context, abi_device ordinal)
{
    ENTER(NEED_INIT);
    if (context == NULL) return driver_leave(ABI_ERROR_INVALID_VALUE);
    if (ordinal != 0) return driver_leave(ABI_ERROR_INVALID_DEVICE);
    abi_result result = driver_open_state();
    if (result != ABI_SUCCESS) return driver_leave(result);
    emu_driver.context_references++;
    primary.alive = 1;
    *context = &primary;
    return driver_leave(ABI_SUCCESS);
}

CALL(cuDevicePrimaryCtxRelease_v2, abi_device ordinal)
{
    ENTER(NEED_INIT);
    if (ordinal != 0) return driver_leave(ABI_ERROR_INVALID_DEVICE);
    if (emu_driver.context_references == 0)
        return driver_leave(
            driver_refuse(ABI_ERROR_INVALID_CONTEXT, "cuDevicePrimaryCtxRelease: not retained"));
    if (--emu_driver.context_references == 0) {
        if (emu_driver.sticky == ABI_SUCCESS) {
            /* Work that is still queued runs before the context goes. */
            abi_result result = stream_drain_all();
            if (result != ABI_SUCCESS) emu_driver.sticky = result;
        }
        driver_close_state();
        driver_context_gone();
    }
    return driver_leave(ABI_SUCCESS);
}

CALL(cuDevicePrimaryCtxSetFlags_v2, abi_device ordinal, unsigned int flags)
{
    ENTER(NEED_INIT);
    if (ordinal != 0) return driver_leave(ABI_ERROR_INVALID_DEVICE);
    if (flags & ~0xffu) return driver_leave(ABI_ERROR_INVALID_VALUE);
    return driver_leave(ABI_SUCCESS);
}

CALL(cuDevicePrimaryCtxGetState, abi_device ordinal, unsigned int *flags, int *active)
{
    ENTER(NEED_INIT);
    if (ordinal != 0) return driver_leave(ABI_ERROR_INVALID_DEVICE);
    if (flags == NULL || active == NULL) return driver_leave(ABI_ERROR_INVALID_VALUE);
    *flags = 0;
    *active = emu_driver.context_references > 0;
    return driver_leave(ABI_SUCCESS);
}

static int is_context(abi_context context)
{
    return context == &primary && emu_driver.context_references > 0;
}

CALL(cuCtxSetCurrent, abi_context context)
{
    ENTER(NEED_INIT);
    forget_stale();
    if (context != NULL && !is_context(context))
        return driver_leave(driver_refuse(ABI_ERROR_INVALID_CONTEXT, "cuCtxSetCurrent"));
    if (current.depth == 0) current.depth = 1;
    current.stack[current.depth - 1] = context;
    if (context == NULL) current.depth--;
    return driver_leave(ABI_SUCCESS);
}

CALL(cuCtxGetCurrent, abi_context *context)
{
    ENTER(NEED_INIT);
    if (context == NULL) return driver_leave(ABI_ERROR_INVALID_VALUE);
    forget_stale();
    *context = current.depth ? current.stack[current.depth - 1] : NULL;
    return driver_leave(ABI_SUCCESS);
}

CALL(cuCtxPushCurrent_v2, abi_context context)
{
    ENTER(NEED_INIT);
    forget_stale();
    if (!is_context(context) || current.depth == MAX_CONTEXTS)
        return driver_leave(driver_refuse(ABI_ERROR_INVALID_CONTEXT, "cuCtxPushCurrent"));
    current.stack[current.depth++] = context;
    return driver_leave(ABI_SUCCESS);
}

CALL(cuCtxPopCurrent_v2, abi_context *context)
{
    ENTER(NEED_INIT);
    forget_stale();
    if (current.depth == 0)
        return driver_leave(driver_refuse(ABI_ERROR_INVALID_CONTEXT, "cuCtxPopCurrent"));
    abi_context top = current.stack[--current.depth];
    if (context != NULL) *context = top;
    return driver_leave(ABI_SUCCESS);
}

CALL(cuCtxGetDevice, abi_device *out)
{
    ENTER(NEED_CONTEXT);
    if (out == NULL) return driver_leave(ABI_ERROR_INVALID_VALUE);
    *out = 0;
    return driver_leave(ABI_SUCCESS);
}

CALL(cuCtxSynchronize, void)
{
    ENTER(NEED_CONTEXT);
    abi_result result = capture_forbids("cuCtxSynchronize");
    if (result == ABI_SUCCESS) result = stream_drain_all();
    return driver_leave(result);
}

CALL(cuCtxGetStreamPriorityRange, int *least, int *greatest)
{
    ENTER(NEED_CONTEXT);
    if (least != NULL) *least = 0;
    if (greatest != NULL) *greatest = -5;
    return driver_leave(ABI_SUCCESS);
}
