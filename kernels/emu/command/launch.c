#include <string.h>

#include "kernels/emu/command/command.h"
#include "kernels/emu/fatbin.h"
#include "memory.h"

static const char *const order_names[] = {"forward", "reverse", "random"};

/* The driver's word for a failed call: its own message where there is one. */
static command_exit refused(abi_result result, const char *doing)
{
    char why[512] = "";
    const char *name = NULL;
    emu_last_message(why, sizeof why);
    cuGetErrorName(result, &name);
    command_exit code = result == ABI_ERROR_OUT_OF_MEMORY ? COMMAND_MEMORY : COMMAND_USAGE;
    return command_fail(code, "%s: %s%s%s", doing, why, why[0] ? ", " : "",
                        name != NULL ? name : "unknown error");
}

/* The PTX in the file, NUL-terminated: the file is not trusted to say its own size. */
static command_exit read_ptx(const command *c, char **text)
{
    uint8_t *image;
    size_t n_image, n_ptx;
    const char *ptx;
    command_exit code = command_read_file(c->file, &image, &n_image);
    if (code != COMMAND_OK) return code;
    crank_error error = {0};
    crank_status status = CRANK_FORMAT;
    if (n_image == 0)
        status_fail(&error, status, "an empty file");
    else
        status = fatbin_find_ptx(image, n_image, c->options.capability, &ptx, &n_ptx, &error);
    *text = status == CRANK_OK ? mem_strndup(ptx, n_ptx) : NULL;
    if (status != CRANK_OK)
        code = command_fail(COMMAND_USAGE, "%s: %s", c->file, error.message);
    else if (*text == NULL)
        code = command_fail(COMMAND_MEMORY, "no memory for the PTX of %s", c->file);
    mem_free(image);
    return code;
}

static command_exit open_module(const command *c, uint32_t order, const char *ptx,
                                abi_module *module)
{
    emu_options options = c->options;
    options.schedule = order;
    emu_reset();
    if (emu_configure(&options) != 0)
        return command_fail(COMMAND_USAGE, "the emulator does not take these options");
    abi_context context;
    abi_result result = cuInit(0);
    if (result == 0) result = cuDevicePrimaryCtxRetain(&context, 0);
    if (result == 0) result = cuCtxSetCurrent(context);
    if (result != 0) return refused(result, "opening the emulator");
    result = cuModuleLoadData(module, ptx);
    return result == 0 ? COMMAND_OK : refused(result, c->file);
}

static command_exit check_arguments(const command *c, abi_function function)
{
    size_t n = 0, offset, bytes;
    for (; cuFuncGetParamInfo(function, n, &offset, &bytes) == 0; n++) {
        if (n >= c->n_arguments) continue;
        const argument *a = &c->arguments[n];
        size_t given = a->is_buffer ? 8 : a->n_bytes;
        if (given != bytes)
            return command_fail(COMMAND_USAGE, "argument %zu of %s has %zu bytes, \"%s\" gives %zu",
                                n + 1, c->kernel, bytes, a->text, given);
    }
    if (n != c->n_arguments)
        return command_fail(COMMAND_USAGE, "%s takes %zu arguments, %zu are given", c->kernel, n,
                            c->n_arguments);
    return COMMAND_OK;
}

/* More shared memory than a launch may have unasked is asked for, as a host program would. */
static command_exit allow_shared(const command *c, abi_function function)
{
    int limit = 0;
    abi_result result =
        cuFuncGetAttribute(&limit, ABI_FUNC_MAX_DYNAMIC_SHARED_SIZE_BYTES, function);
    if (result == 0 && c->shared_bytes > (uint32_t)limit)
        result = cuFuncSetAttribute(function, ABI_FUNC_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                    (int)c->shared_bytes);
    return result == 0 ? COMMAND_OK : refused(result, c->kernel);
}

static command_exit make_buffers(command *c)
{
    for (size_t i = 0; i < c->n_arguments; i++) {
        argument *a = &c->arguments[i];
        if (!a->is_buffer) continue;
        abi_deviceptr address = 0;
        abi_result result = cuMemAlloc_v2(&address, a->n_bytes);
        a->address = address;
        if (result == 0 && a->bytes != NULL)
            result = cuMemcpyHtoD_v2(address, a->bytes, a->n_bytes);
        if (result != 0) return refused(result, a->text);
    }
    return COMMAND_OK;
}

/* What the buffers hold now: kept after the first launch, compared after the others. */
static command_exit read_buffers(command *c, uint32_t order)
{
    for (size_t i = 0; i < c->n_arguments; i++) {
        argument *a = &c->arguments[i];
        if (!a->is_buffer) continue;
        uint8_t *now = mem_alloc(a->n_bytes);
        if (now == NULL) return command_fail(COMMAND_MEMORY, "no memory for %zu bytes", a->n_bytes);
        abi_result result = cuMemcpyDtoH_v2(now, a->address, a->n_bytes);
        if (result != 0) {
            mem_free(now);
            return refused(result, a->text);
        }
        if (a->result == NULL) {
            a->result = now;
            continue;
        }
        size_t at = 0;
        while (at < a->n_bytes && now[at] == a->result[at]) at++;
        if (at < a->n_bytes && !c->differ) {
            c->differ = true;
            snprintf(c->difference, sizeof c->difference,
                     "argument %zu, byte %zu: 0x%02x in order %s, 0x%02x in order %s", i + 1, at,
                     a->result[at], order_names[c->options.schedule], now[at], order_names[order]);
        }
        mem_free(now);
    }
    return COMMAND_OK;
}

/* Adds the findings of this launch that no earlier one had. */
static command_exit take_findings(command *c)
{
    emu_report found;
    for (size_t i = 0; emu_report_get(i, &found) == 0; i++) {
        bool known = false;
        for (size_t k = 0; k < c->n_findings; k++)
            known |= c->findings[k].check == found.check &&
                     c->findings[k].ptx_line == found.ptx_line &&
                     (found.ptx_line != 0 || strcmp(c->findings[k].text, found.text) == 0);
        if (known) continue;
        emu_report *bigger = mem_resize(c->findings, c->n_findings + 1, sizeof *bigger);
        if (bigger == NULL) return command_fail(COMMAND_MEMORY, "no memory for the findings");
        c->findings = bigger;
        c->findings[c->n_findings++] = found;
    }
    return COMMAND_OK;
}

static command_exit take_lines(command *c)
{
    size_t room = (size_t)c->n_lines * 320 + 1;
    c->lines = mem_zero(room, 1);
    if (c->lines == NULL) return command_fail(COMMAND_MEMORY, "no memory for the busiest lines");
    emu_hot_lines(c->kernel, c->n_lines, c->lines, room);
    return COMMAND_OK;
}

static command_exit launch(command *c, abi_module module, uint32_t order)
{
    abi_function function;
    void *pointers[64] = {NULL};
    abi_result result = cuModuleGetFunction(&function, module, c->kernel);
    if (result != 0) return refused(result, c->file);
    command_exit code = check_arguments(c, function);
    if (code == COMMAND_OK) code = allow_shared(c, function);
    if (code == COMMAND_OK) code = make_buffers(c);
    if (code != COMMAND_OK) return code;
    for (size_t i = 0; i < c->n_arguments; i++) {
        argument *a = &c->arguments[i];
        pointers[i] = a->is_buffer ? (void *)&a->address : a->bytes;
    }
    result = cuLaunchKernel(function, c->grid[0], c->grid[1], c->grid[2], c->block[0], c->block[1],
                            c->block[2], c->shared_bytes, NULL, pointers, NULL);
    if (result != 0 && result < ABI_ERROR_ILLEGAL_ADDRESS) return refused(result, c->kernel);
    if (result == 0) result = cuCtxSynchronize();
    if (result != 0 && c->result == 0) {
        c->result = result;
        emu_last_message(c->message, sizeof c->message);
    }
    if (order == c->options.schedule) {
        emu_counter_last(&c->counters);
        if (c->n_lines > 0) code = take_lines(c);
    }
    if (code == COMMAND_OK && result == 0) code = read_buffers(c, order);
    return code;
}

static void release(command *c)
{
    for (size_t i = 0; i < c->n_arguments; i++) {
        if (c->arguments[i].address != 0) cuMemFree_v2(c->arguments[i].address);
        c->arguments[i].address = 0;
    }
    emu_reset();
}

command_exit command_run(command *c)
{
    char *ptx;
    command_exit code = read_ptx(c, &ptx);
    if (code != COMMAND_OK) return code;
    uint32_t first = c->options.schedule;
    for (uint32_t i = 0; i < (c->orders ? 3u : 1u) && code == COMMAND_OK; i++) {
        uint32_t order = (first + i) % 3;
        abi_module module;
        code = open_module(c, order, ptx, &module);
        if (code == COMMAND_OK) code = launch(c, module, order);
        if (code == COMMAND_OK) code = take_findings(c);
        release(c);
    }
    mem_free(ptx);
    return code;
}

static void print_kernel(abi_function function)
{
    const char *name = "?";
    int threads = 0, shared = 0;
    size_t offset, bytes;
    cuFuncGetName(&name, function);
    cuFuncGetAttribute(&threads, ABI_FUNC_MAX_THREADS_PER_BLOCK, function);
    cuFuncGetAttribute(&shared, ABI_FUNC_SHARED_SIZE_BYTES, function);
    printf("%s: at most %d threads, %d bytes of static shared memory, arguments of", name, threads,
           shared);
    size_t i = 0;
    for (; cuFuncGetParamInfo(function, i, &offset, &bytes) == 0; i++)
        printf("%s %zu", i ? "," : "", bytes);
    printf("%s bytes\n", i ? "" : " 0");
}

command_exit command_list(command *c)
{
    char *ptx;
    command_exit code = read_ptx(c, &ptx);
    if (code != COMMAND_OK) return code;
    abi_module module;
    code = open_module(c, EMU_FORWARD, ptx, &module);
    mem_free(ptx);
    unsigned int n = 0;
    if (code == COMMAND_OK) cuModuleGetFunctionCount(&n, module);
    abi_function *functions = mem_zero(n + 1, sizeof(abi_function));
    if (functions == NULL) return command_fail(COMMAND_MEMORY, "no memory");
    if (n > 0) cuModuleEnumerateFunctions(functions, n, module);
    for (unsigned int i = 0; i < n; i++) print_kernel(functions[i]);
    mem_free(functions);
    release(c);
    return code;
}
