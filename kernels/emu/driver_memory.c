/* Device and pinned memory, copies, fills. */
#include <string.h>

#include "kernels/emu/driver.h"

static device *memory(void)
{
    return &emu_driver.memory;
}

/* ---- allocation -------------------------------------------------------------------------------
 */

static int injected_failure(void)
{
    int64_t *left = &emu_driver.allocs_until_failure;
    return *left >= 0 && (*left)-- == 0;
}

CALL(cuMemAlloc_v2, abi_deviceptr *pointer, size_t bytes)
{
    ENTER(NEED_CONTEXT);
    if (pointer == NULL || bytes == 0)
        return driver_leave(
            driver_refuse(ABI_ERROR_INVALID_VALUE, "cuMemAlloc of %zu bytes", bytes));
    abi_result result = capture_forbids("cuMemAlloc");
    uint64_t address;
    if (result == ABI_SUCCESS &&
        (injected_failure() ||
         window_alloc(memory(), bytes, ALLOCATION_DEVICE, &address) != CRANK_OK))
        result = ABI_ERROR_OUT_OF_MEMORY;
    if (result == ABI_SUCCESS) *pointer = address;
    return driver_leave(result);
}

CALL(cuMemFree_v2, abi_deviceptr pointer)
{
    abi_result sticky, result = driver_enter_release(&sticky);
    if (result != ABI_SUCCESS) return result;
    if (pointer == 0) return driver_leave(sticky);
    result = capture_forbids("cuMemFree");
    if (result != ABI_SUCCESS) return driver_leave(result);
    const allocation *a = window_find(memory(), pointer);
    if (a == NULL || a->base != pointer || a->kind != ALLOCATION_DEVICE)
        return driver_leave(driver_refuse(ABI_ERROR_INVALID_VALUE,
                                          "cuMemFree of 0x%llx, which is no allocation", pointer));
    /* Work in flight may still use it: the driver waits. */
    if (sticky == ABI_SUCCESS) result = stream_drain_all();
    window_free(memory(), pointer);
    return driver_leave(sticky != ABI_SUCCESS ? sticky : result);
}

CALL(cuMemGetInfo_v2, size_t *free_bytes, size_t *total)
{
    ENTER(NEED_CONTEXT);
    if (free_bytes == NULL || total == NULL) return driver_leave(ABI_ERROR_INVALID_VALUE);
    *total = (size_t)memory()->limit_bytes;
    *free_bytes = (size_t)(memory()->limit_bytes - memory()->used_bytes);
    return driver_leave(ABI_SUCCESS);
}

CALL(cuMemHostAlloc, void **pointer, size_t bytes, unsigned int flags)
{
    ENTER(NEED_CONTEXT);
    if (pointer == NULL || bytes == 0 ||
        (flags & ~(unsigned)(ABI_HOSTALLOC_PORTABLE | ABI_HOSTALLOC_DEVICEMAP |
                             ABI_HOSTALLOC_WRITECOMBINED)))
        return driver_leave(driver_refuse(ABI_ERROR_INVALID_VALUE, "cuMemHostAlloc"));
    abi_result result = capture_forbids("cuMemHostAlloc");
    uint64_t address;
    if (result == ABI_SUCCESS &&
        (injected_failure() ||
         window_alloc(memory(), bytes, ALLOCATION_HOST, &address) != CRANK_OK))
        result = ABI_ERROR_OUT_OF_MEMORY;
    if (result == ABI_SUCCESS) {
        *pointer = window_bytes(memory(), address);
        emu_driver.n_host_allocations++;
    }
    return driver_leave(result);
}

CALL(cuMemAllocHost_v2, void **pointer, size_t bytes)
{
    return cuMemHostAlloc(pointer, bytes, ABI_HOSTALLOC_DEVICEMAP);
}

/* The pinned allocation around a host pointer; NULL when there is none. */
static const allocation *pinned(const void *pointer)
{
    uint64_t address = window_canonical(memory(), (uint64_t)(uintptr_t)pointer);
    if (address == (uint64_t)(uintptr_t)pointer) return NULL;
    const allocation *a = window_find(memory(), address);
    return a != NULL && a->kind == ALLOCATION_HOST ? a : NULL;
}

CALL(cuMemFreeHost, void *pointer)
{
    abi_result sticky, result = driver_enter_release(&sticky);
    if (result != ABI_SUCCESS) return result;
    result = capture_forbids("cuMemFreeHost");
    if (result != ABI_SUCCESS) return driver_leave(result);
    const allocation *a = pinned(pointer);
    if (a == NULL || window_bytes(memory(), a->base) != pointer)
        return driver_leave(driver_refuse(ABI_ERROR_INVALID_VALUE,
                                          "cuMemFreeHost of %p, which is not pinned", pointer));
    if (sticky == ABI_SUCCESS) result = stream_drain_all();
    window_free(memory(), a->base);
    emu_driver.n_host_allocations--;
    return driver_leave(sticky != ABI_SUCCESS ? sticky : result);
}

CALL(cuMemHostGetDevicePointer_v2, abi_deviceptr *address, void *pointer, unsigned int flags)
{
    ENTER(NEED_CONTEXT);
    const allocation *a = pinned(pointer);
    if (address == NULL || flags != 0 || a == NULL)
        return driver_leave(driver_refuse(ABI_ERROR_INVALID_VALUE,
                                          "cuMemHostGetDevicePointer of %p, which is not pinned",
                                          pointer));
    *address = window_canonical(memory(), (uint64_t)(uintptr_t)pointer);
    return driver_leave(ABI_SUCCESS);
}

CALL(cuMemGetAddressRange_v2, abi_deviceptr *base, size_t *bytes, abi_deviceptr pointer)
{
    ENTER(NEED_CONTEXT);
    const allocation *a = window_find(memory(), pointer);
    if (a == NULL) return driver_leave(ABI_ERROR_NOT_FOUND);
    if (base != NULL) *base = a->base;
    if (bytes != NULL) *bytes = (size_t)a->bytes;
    return driver_leave(ABI_SUCCESS);
}

/* ---- copies -----------------------------------------------------------------------------------
 */

void copy_poison(const copy_op *c)
{
    if (c->kind == COPY_TO_HOST) memset((void *)(uintptr_t)c->to, 0xff, c->bytes);
}

abi_result copy_run(const copy_op *c)
{
    device *d = memory();
    const void *from = (const void *)(uintptr_t)c->from;
    void *to = (void *)(uintptr_t)c->to;
    /* What was checked when the copy was enqueued may have been freed since. */
    if ((c->kind != COPY_TO_DEVICE && c->kind != COPY_ON_HOST &&
         !window_holds(d, c->from, c->bytes)) ||
        ((c->kind == COPY_TO_DEVICE || c->kind == COPY_ON_DEVICE) &&
         !window_holds(d, c->to, c->bytes)))
        return driver_refuse(ABI_ERROR_ILLEGAL_ADDRESS,
                             "a copy of %zu bytes whose memory was freed before it ran", c->bytes);
    if (c->kind != COPY_TO_DEVICE && c->kind != COPY_ON_HOST) from = window_bytes(d, c->from);
    if (c->kind == COPY_TO_DEVICE || c->kind == COPY_ON_DEVICE) to = window_bytes(d, c->to);
    memmove(to, from, c->bytes);
    if (c->kind == COPY_TO_DEVICE) memset(window_shadow(d, c->to), SHADOW_WRITTEN, c->bytes);
    if (c->kind == COPY_ON_DEVICE)
        memmove(window_shadow(d, c->to), window_shadow(d, c->from), c->bytes);
    return ABI_SUCCESS;
}

/* A host range must not be device addresses. */
static int is_host(uint64_t address, size_t bytes)
{
    uint64_t alias = (uint64_t)(uintptr_t)memory()->alias;
    return address != 0 && (address + bytes <= alias || address >= alias + DEVICE_WINDOW);
}

static abi_result copy(copy_kind kind, uint64_t to, uint64_t from, size_t bytes, abi_stream stream,
                       int blocks, const char *call)
{
    ENTER(NEED_CONTEXT);
    stream_object *s = stream_of(stream);
    if (s == NULL) return driver_leave(driver_refuse(ABI_ERROR_INVALID_HANDLE, "%s: stream", call));
    if (bytes == 0) return driver_leave(ABI_SUCCESS);
    int to_ok = kind == COPY_TO_HOST || kind == COPY_ON_HOST ? is_host(to, bytes)
                                                             : window_holds(memory(), to, bytes);
    int from_ok = kind == COPY_TO_DEVICE || kind == COPY_ON_HOST
                      ? is_host(from, bytes)
                      : window_holds(memory(), from, bytes);
    if (!to_ok || !from_ok)
        return driver_leave(driver_refuse(
            ABI_ERROR_INVALID_VALUE, "%s: %zu bytes %s 0x%llx are not %s memory", call, bytes,
            to_ok ? "from" : "to", (unsigned long long)(to_ok ? from : to),
            (to_ok ? kind == COPY_TO_DEVICE : kind == COPY_TO_HOST) ? "host" : "allocated device"));
    op work = {.kind = OP_COPY, .copy = {.kind = kind, .to = to, .from = from, .bytes = bytes}};
    abi_result result = ABI_SUCCESS;
    if (blocks) {
        result = capture_forbids(call);
        if (result != ABI_SUCCESS) return driver_leave(result);
    }
    if (!s->capture && !blocks) copy_poison(&work.copy);
    result = stream_enqueue(s, &work);
    if (result == ABI_SUCCESS && blocks) result = stream_drain(s);
    return driver_leave(result);
}

#define HOST_ADDRESS(pointer) ((uint64_t)(uintptr_t)(pointer))

CALL(cuMemcpyHtoD_v2, abi_deviceptr to, const void *from, size_t bytes)
{
    return copy(COPY_TO_DEVICE, to, HOST_ADDRESS(from), bytes, NULL, 1, "cuMemcpyHtoD");
}

CALL(cuMemcpyDtoH_v2, void *to, abi_deviceptr from, size_t bytes)
{
    return copy(COPY_TO_HOST, HOST_ADDRESS(to), from, bytes, NULL, 1, "cuMemcpyDtoH");
}

CALL(cuMemcpyDtoD_v2, abi_deviceptr to, abi_deviceptr from, size_t bytes)
{
    return copy(COPY_ON_DEVICE, to, from, bytes, NULL, 1, "cuMemcpyDtoD");
}

CALL(cuMemcpyHtoDAsync_v2, abi_deviceptr to, const void *from, size_t bytes, abi_stream stream)
{
    return copy(COPY_TO_DEVICE, to, HOST_ADDRESS(from), bytes, stream, 0, "cuMemcpyHtoDAsync");
}

CALL(cuMemcpyDtoHAsync_v2, void *to, abi_deviceptr from, size_t bytes, abi_stream stream)
{
    return copy(COPY_TO_HOST, HOST_ADDRESS(to), from, bytes, stream, 0, "cuMemcpyDtoHAsync");
}

CALL(cuMemcpyDtoDAsync_v2, abi_deviceptr to, abi_deviceptr from, size_t bytes, abi_stream stream)
{
    return copy(COPY_ON_DEVICE, to, from, bytes, stream, 0, "cuMemcpyDtoDAsync");
}

/* Unified addressing: where an address lies says what kind of copy it is. */
static copy_kind kind_of(abi_deviceptr to, abi_deviceptr from)
{
    uint64_t alias = (uint64_t)(uintptr_t)emu_driver.memory.alias;
    int to_device = to - alias < DEVICE_WINDOW, from_device = from - alias < DEVICE_WINDOW;
    return to_device ? (from_device ? COPY_ON_DEVICE : COPY_TO_DEVICE)
                     : (from_device ? COPY_TO_HOST : COPY_ON_HOST);
}

CALL(cuMemcpy, abi_deviceptr to, abi_deviceptr from, size_t bytes)
{
    return copy(kind_of(to, from), to, from, bytes, NULL, 1, "cuMemcpy");
}

CALL(cuMemcpyAsync, abi_deviceptr to, abi_deviceptr from, size_t bytes, abi_stream stream)
{
    return copy(kind_of(to, from), to, from, bytes, stream, 0, "cuMemcpyAsync");
}

/* ---- fills ------------------------------------------------------------------------------------
 */

abi_result set_run(const set_op *s)
{
    device *d = memory();
    size_t bytes = s->count * s->width;
    if (!window_holds(d, s->to, bytes))
        return driver_refuse(ABI_ERROR_ILLEGAL_ADDRESS,
                             "a fill of %zu bytes whose memory was freed before it ran", bytes);
    uint8_t *to = window_bytes(d, s->to);
    if (s->width == 1)
        memset(to, (int)(s->value & 0xff), bytes);
    else
        for (size_t i = 0; i < s->count; i++) memcpy(to + i * s->width, &s->value, s->width);
    memset(window_shadow(d, s->to), SHADOW_WRITTEN, bytes);
    return ABI_SUCCESS;
}

static abi_result fill(uint64_t to, uint32_t value, uint32_t width, size_t count, abi_stream stream,
                       int blocks, const char *call)
{
    ENTER(NEED_CONTEXT);
    stream_object *s = stream_of(stream);
    if (s == NULL) return driver_leave(driver_refuse(ABI_ERROR_INVALID_HANDLE, "%s: stream", call));
    if (count == 0) return driver_leave(ABI_SUCCESS);
    if (count > SIZE_MAX / 4 || to % width != 0 || !window_holds(memory(), to, count * width))
        return driver_leave(driver_refuse(ABI_ERROR_INVALID_VALUE,
                                          "%s: %zu elements of %u bytes at 0x%llx", call, count,
                                          width, (unsigned long long)to));
    if (blocks) {
        abi_result forbidden = capture_forbids(call);
        if (forbidden != ABI_SUCCESS) return driver_leave(forbidden);
    }
    op work = {.kind = OP_SET, .set = {.to = to, .value = value, .width = width, .count = count}};
    return driver_leave(stream_enqueue(s, &work));
}

CALL(cuMemsetD8_v2, abi_deviceptr to, unsigned char value, size_t count)
{
    return fill(to, value, 1, count, NULL, 1, "cuMemsetD8");
}

CALL(cuMemsetD16_v2, abi_deviceptr to, unsigned short value, size_t count)
{
    return fill(to, value, 2, count, NULL, 1, "cuMemsetD16");
}

CALL(cuMemsetD32_v2, abi_deviceptr to, unsigned int value, size_t count)
{
    return fill(to, value, 4, count, NULL, 1, "cuMemsetD32");
}

CALL(cuMemsetD8Async, abi_deviceptr to, unsigned char value, size_t count, abi_stream stream)
{
    return fill(to, value, 1, count, stream, 0, "cuMemsetD8Async");
}

CALL(cuMemsetD16Async, abi_deviceptr to, unsigned short value, size_t count, abi_stream stream)
{
    return fill(to, value, 2, count, stream, 0, "cuMemsetD16Async");
}

CALL(cuMemsetD32Async, abi_deviceptr to, unsigned int value, size_t count, abi_stream stream)
{
    return fill(to, value, 4, count, stream, 0, "cuMemsetD32Async");
}
