/* Modules, functions, launches. */
#include <string.h>

#include "clock.h"
#include "kernels/emu/driver.h"
#include "kernels/emu/fatbin.h"
#include "memory.h"

#define STATIC_LIMIT (48u * 1024u)

/* ---- modules ----------------------------------------------------------------------------------
 */

void module_free(module_object *m)
{
    link_remove(&m->link);
    if (m->functions != NULL)
        for (uint32_t i = 0; i < m->ptx->n_functions; i++) mem_free(m->functions[i].counts);
    mem_free(m->functions);
    if (m->image) window_free(&emu_driver.memory, m->image);
    ptx_free(m->ptx);
    mem_free(m);
}

/* The module's variables: one allocation, initialised, with addresses filled in. */
static abi_result place_image(module_object *m)
{
    ptx_module *ptx = m->ptx;
    device *d = &emu_driver.memory;
    if (ptx->image_bytes == 0) return ABI_SUCCESS;
    if (window_alloc(d, ptx->image_bytes, ALLOCATION_MODULE, &m->image) != CRANK_OK)
        return ABI_ERROR_OUT_OF_MEMORY;
    uint8_t *bytes = window_bytes(d, m->image), *shadow = window_shadow(d, m->image);
    memset(shadow, SHADOW_FENCED, ptx->image_bytes); /* the gaps between the variables */
    for (uint32_t i = 0; i < ptx->n_variables; i++) {
        const ptx_variable *v = ptx->variables[i];
        if (v->space != SPACE_GLOBAL && v->space != SPACE_CONST) continue;
        memset(bytes + v->offset, 0, v->bytes); /* the ABI zeroes what has no initialiser */
        if (v->initial) memcpy(bytes + v->offset, v->initial, v->bytes);
        memset(shadow + v->offset, SHADOW_WRITTEN, v->bytes);
    }
    for (uint32_t i = 0; i < ptx->n_relocations; i++) {
        uint64_t address = m->image + ptx->relocations[i].target;
        memcpy(bytes + ptx->relocations[i].at, &address, 8);
    }
    ptx_relocate(ptx, m->image);
    return ABI_SUCCESS;
}

static abi_result load_module(abi_module *out, const void *image, crank_error *error)
{
    driver *d = &emu_driver;
    const char *text;
    size_t bytes;
    crank_status status = fatbin_find_ptx(image, 0, d->options.capability, &text, &bytes, error);
    if (status != CRANK_OK) {
        driver_message("cuModuleLoadData: %s", error->message);
        return status == CRANK_UNSUPPORTED ? ABI_ERROR_NO_BINARY_FOR_GPU : ABI_ERROR_INVALID_IMAGE;
    }
    module_object *m = mem_zero(1, sizeof *m);
    if (m == NULL) return ABI_ERROR_OUT_OF_MEMORY;
    link_add(&d->modules, &m->link);
    status = ptx_parse(&m->ptx, text, bytes, error);
    if (status != CRANK_OK) {
        link_remove(&m->link);
        mem_free(m);
        driver_message("cuModuleLoadData: %s", error->message);
        return status == CRANK_OUT_OF_MEMORY ? ABI_ERROR_OUT_OF_MEMORY : ABI_ERROR_INVALID_PTX;
    }
    abi_result result = ABI_SUCCESS;
    m->functions = mem_zero(m->ptx->n_functions ? m->ptx->n_functions : 1, sizeof *m->functions);
    if (m->functions == NULL) result = ABI_ERROR_OUT_OF_MEMORY;
    for (uint32_t i = 0; result == ABI_SUCCESS && i < m->ptx->n_functions; i++) {
        function_object *f = &m->functions[i];
        f->module = m;
        f->ptx = m->ptx->functions[i];
        f->dynamic_limit =
            f->ptx->static_shared < STATIC_LIMIT ? STATIC_LIMIT - f->ptx->static_shared : 0;
        f->carveout = -1;
        f->counts = mem_zero(f->ptx->n_code, sizeof *f->counts);
        if (f->counts == NULL) result = ABI_ERROR_OUT_OF_MEMORY;
        if (f->ptx->static_shared > STATIC_LIMIT) {
            driver_message("cuModuleLoadData: %s uses %u bytes of static shared memory, more than "
                           "48 KB",
                           f->ptx->name, f->ptx->static_shared);
            result = ABI_ERROR_INVALID_PTX;
        }
    }
    if (result == ABI_SUCCESS) result = place_image(m);
    if (result != ABI_SUCCESS) {
        module_free(m);
        return result;
    }
    *out = (abi_module)m;
    return ABI_SUCCESS;
}

CALL(cuModuleLoadDataEx, abi_module *module, const void *image, unsigned int n_options,
     int *options, void **values)
{
    ENTER(NEED_CONTEXT);
    if (module == NULL || image == NULL || (n_options && (options == NULL || values == NULL)))
        return driver_leave(ABI_ERROR_INVALID_VALUE);
    crank_error error;
    memset(&error, 0, sizeof error);
    abi_result result = capture_forbids("cuModuleLoadData");
    if (result == ABI_SUCCESS) result = load_module(module, image, &error);
    char *log = NULL;
    size_t log_bytes = 0;
    for (unsigned int i = 0; i < n_options; i++) {
        if (options[i] == ABI_JIT_ERROR_LOG) log = values[i];
        if (options[i] == ABI_JIT_ERROR_BYTES) log_bytes = (size_t)(uintptr_t)values[i];
        if (options[i] == ABI_JIT_INFO_BYTES) values[i] = NULL;
    }
    if (log != NULL && log_bytes > 0) {
        size_t n = strlen(error.message);
        if (n >= log_bytes) n = log_bytes - 1;
        memcpy(log, error.message, n);
        log[n] = '\0';
        for (unsigned int i = 0; i < n_options; i++)
            if (options[i] == ABI_JIT_ERROR_BYTES) values[i] = (void *)(uintptr_t)n;
    }
    return driver_leave(result);
}

CALL(cuModuleLoadData, abi_module *module, const void *image)
{
    return cuModuleLoadDataEx(module, image, 0, NULL, NULL);
}

CALL(cuModuleLoadFatBinary, abi_module *module, const void *image)
{
    return cuModuleLoadDataEx(module, image, 0, NULL, NULL);
}

static module_object *module_of(abi_module module)
{
    return link_holds(&emu_driver.modules, module) ? (module_object *)module : NULL;
}

CALL(cuModuleUnload, abi_module module)
{
    abi_result sticky, result = driver_enter_release(&sticky);
    if (result != ABI_SUCCESS) return result;
    module_object *m = module_of(module);
    if (m == NULL)
        return driver_leave(
            driver_refuse(ABI_ERROR_INVALID_HANDLE, "cuModuleUnload: no such module"));
    if (sticky == ABI_SUCCESS) result = stream_drain_all(); /* queued launches use its code */
    module_free(m);
    return driver_leave(sticky != ABI_SUCCESS ? sticky : result);
}

CALL(cuModuleGetFunction, abi_function *function, abi_module module, const char *name)
{
    ENTER(NEED_CONTEXT);
    module_object *m = module_of(module);
    if (m == NULL)
        return driver_leave(
            driver_refuse(ABI_ERROR_INVALID_HANDLE, "cuModuleGetFunction: no such module"));
    if (function == NULL || name == NULL) return driver_leave(ABI_ERROR_INVALID_VALUE);
    for (uint32_t i = 0; i < m->ptx->n_functions; i++)
        if (strcmp(m->ptx->functions[i]->name, name) == 0) {
            *function = (abi_function)&m->functions[i];
            return driver_leave(ABI_SUCCESS);
        }
    driver_message("cuModuleGetFunction: no kernel %s", name);
    return driver_leave(ABI_ERROR_NOT_FOUND);
}

CALL(cuModuleGetFunctionCount, unsigned int *count, abi_module module)
{
    ENTER(NEED_CONTEXT);
    module_object *m = module_of(module);
    if (m == NULL || count == NULL) return driver_leave(ABI_ERROR_INVALID_VALUE);
    *count = m->ptx->n_functions;
    return driver_leave(ABI_SUCCESS);
}

CALL(cuModuleEnumerateFunctions, abi_function *functions, unsigned int n, abi_module module)
{
    ENTER(NEED_CONTEXT);
    module_object *m = module_of(module);
    if (m == NULL || functions == NULL) return driver_leave(ABI_ERROR_INVALID_VALUE);
    for (unsigned int i = 0; i < n && i < m->ptx->n_functions; i++)
        functions[i] = (abi_function)&m->functions[i];
    return driver_leave(ABI_SUCCESS);
}

CALL(cuModuleGetGlobal_v2, abi_deviceptr *address, size_t *bytes, abi_module module,
     const char *name)
{
    ENTER(NEED_CONTEXT);
    module_object *m = module_of(module);
    if (m == NULL)
        return driver_leave(
            driver_refuse(ABI_ERROR_INVALID_HANDLE, "cuModuleGetGlobal: no such module"));
    if (name == NULL) return driver_leave(ABI_ERROR_INVALID_VALUE);
    for (uint32_t i = 0; i < m->ptx->n_variables; i++) {
        const ptx_variable *v = m->ptx->variables[i];
        if ((v->space != SPACE_GLOBAL && v->space != SPACE_CONST) || strcmp(v->name, name) != 0)
            continue;
        if (address != NULL) *address = m->image + v->offset;
        if (bytes != NULL) *bytes = (size_t)v->bytes;
        return driver_leave(ABI_SUCCESS);
    }
    return driver_leave(ABI_ERROR_NOT_FOUND);
}

/* ---- functions --------------------------------------------------------------------------------
 */

static function_object *function_of(abi_function function)
{
    for (link *l = emu_driver.modules.next; l != &emu_driver.modules; l = l->next) {
        module_object *m = LINK_ITEM(module_object, l);
        function_object *f = (function_object *)function;
        if (f >= m->functions && f < m->functions + m->ptx->n_functions) return f;
    }
    return NULL;
}

static abi_result bad_function(const char *call)
{
    return driver_refuse(ABI_ERROR_INVALID_HANDLE, "%s: no such function", call);
}

static uint32_t most_threads(const ptx_function *f)
{
    const uint32_t *given = f->exact_threads[0] ? f->exact_threads : f->max_threads;
    if (given[0] == 0) return 1024;
    uint64_t product = (uint64_t)given[0] * given[1] * given[2];
    return product > 1024 ? 1024 : (uint32_t)product;
}

static uint32_t shared_optin(void)
{
    uint32_t capability = emu_driver.options.capability;
    int kilobytes = capability == 80                                            ? 163
                    : capability == 86 || capability == 89 || capability >= 120 ? 99
                                                                                : 227;
    return (uint32_t)kilobytes * 1024u;
}

CALL(cuFuncGetAttribute, int *value, int which, abi_function function)
{
    ENTER(NEED_CONTEXT);
    function_object *f = function_of(function);
    if (f == NULL) return driver_leave(bad_function("cuFuncGetAttribute"));
    if (value == NULL) return driver_leave(ABI_ERROR_INVALID_VALUE);
    switch (which) {
    case ABI_FUNC_MAX_THREADS_PER_BLOCK: *value = (int)most_threads(f->ptx); break;
    case ABI_FUNC_SHARED_SIZE_BYTES: *value = (int)f->ptx->static_shared; break;
    case ABI_FUNC_CONST_SIZE_BYTES:
    case ABI_FUNC_CACHE_MODE_CA: *value = 0; break;
    case ABI_FUNC_LOCAL_SIZE_BYTES: *value = (int)f->ptx->local_bytes; break;
    case ABI_FUNC_NUM_REGS: /* ptxas decides; here it is the rows that are alive at once */
        *value = f->ptx->live_registers < 255 ? (int)f->ptx->live_registers : 255;
        break;
    case ABI_FUNC_PTX_VERSION:
    case ABI_FUNC_BINARY_VERSION: *value = (int)f->module->ptx->target; break;
    case ABI_FUNC_MAX_DYNAMIC_SHARED_SIZE_BYTES: *value = (int)f->dynamic_limit; break;
    case ABI_FUNC_PREFERRED_SHARED_MEMORY_CARVEOUT: *value = f->carveout; break;
    default:
        return driver_leave(
            driver_refuse(ABI_ERROR_INVALID_VALUE, "cuFuncGetAttribute: attribute %d", which));
    }
    return driver_leave(ABI_SUCCESS);
}

CALL(cuFuncSetAttribute, abi_function function, int which, int value)
{
    ENTER(NEED_CONTEXT);
    function_object *f = function_of(function);
    if (f == NULL) return driver_leave(bad_function("cuFuncSetAttribute"));
    if (which == ABI_FUNC_MAX_DYNAMIC_SHARED_SIZE_BYTES) {
        if (value < 0 || (uint32_t)value + f->ptx->static_shared > shared_optin())
            return driver_leave(driver_refuse(ABI_ERROR_INVALID_VALUE,
                                              "cuFuncSetAttribute: %d bytes of dynamic shared "
                                              "memory for %s; with %u static bytes "
                                              "the limit of sm_%u is %u",
                                              value, f->ptx->name, f->ptx->static_shared,
                                              emu_driver.options.capability, shared_optin()));
        f->dynamic_limit = (uint32_t)value;
    } else if (which == ABI_FUNC_PREFERRED_SHARED_MEMORY_CARVEOUT) {
        if (value < -1 || value > 100) return driver_leave(ABI_ERROR_INVALID_VALUE);
        f->carveout = value;
    } else {
        return driver_leave(
            driver_refuse(ABI_ERROR_INVALID_VALUE, "cuFuncSetAttribute: attribute %d", which));
    }
    return driver_leave(ABI_SUCCESS);
}

CALL(cuFuncSetCacheConfig, abi_function function, int config)
{
    ENTER(NEED_CONTEXT);
    (void)config;
    return driver_leave(function_of(function) ? ABI_SUCCESS : bad_function("cuFuncSetCacheConfig"));
}

CALL(cuFuncGetName, const char **name, abi_function function)
{
    ENTER(NEED_CONTEXT);
    function_object *f = function_of(function);
    if (f == NULL || name == NULL) return driver_leave(bad_function("cuFuncGetName"));
    *name = f->ptx->name;
    return driver_leave(ABI_SUCCESS);
}

CALL(cuFuncGetParamInfo, abi_function function, size_t index, size_t *offset, size_t *bytes)
{
    ENTER(NEED_CONTEXT);
    function_object *f = function_of(function);
    if (f == NULL) return driver_leave(bad_function("cuFuncGetParamInfo"));
    if (index >= f->ptx->n_parameters || offset == NULL)
        return driver_leave(ABI_ERROR_INVALID_VALUE);
    *offset = f->ptx->parameters[index].offset;
    if (bytes != NULL) *bytes = f->ptx->parameters[index].bytes;
    return driver_leave(ABI_SUCCESS);
}

/* Blocks a multiprocessor by threads, blocks and shared memory; registers are ptxas' choice, which
 * the emulator does not know. */
CALL(cuOccupancyMaxActiveBlocksPerMultiprocessor, int *blocks, abi_function function, int threads,
     size_t dynamic_shared)
{
    ENTER(NEED_CONTEXT);
    function_object *f = function_of(function);
    if (f == NULL) return driver_leave(bad_function("cuOccupancyMaxActiveBlocksPerMultiprocessor"));
    if (blocks == NULL || threads <= 0 || threads > 1024)
        return driver_leave(ABI_ERROR_INVALID_VALUE);
    uint32_t warps = ((uint32_t)threads + 31) / 32, n = 32;
    if (64 / warps < n) n = 64 / warps;
    uint64_t shared = (dynamic_shared + f->ptx->static_shared + 127) / 128 * 128 + 1024;
    uint64_t by_shared = (shared_optin() + 1024u) / shared;
    if (by_shared < n) n = (uint32_t)by_shared;
    *blocks = (int)n;
    return driver_leave(ABI_SUCCESS);
}

/* ---- launches ---------------------------------------------------------------------------------
 */

static abi_result check_shape(const function_object *f, const uint32_t *grid,
                              const uint32_t *threads, uint32_t dynamic_shared)
{
    const ptx_function *ptx = f->ptx;
    if (grid[0] == 0 || grid[1] == 0 || grid[2] == 0 || grid[0] > 2147483647u || grid[1] > 65535 ||
        grid[2] > 65535)
        return driver_refuse(ABI_ERROR_INVALID_VALUE, "launch of %s: grid (%u,%u,%u)", ptx->name,
                             grid[0], grid[1], grid[2]);
    uint64_t n = (uint64_t)threads[0] * threads[1] * threads[2];
    if (n == 0 || threads[0] > 1024 || threads[1] > 1024 || threads[2] > 64 || n > 1024)
        return driver_refuse(ABI_ERROR_INVALID_VALUE, "launch of %s: block (%u,%u,%u)", ptx->name,
                             threads[0], threads[1], threads[2]);
    if (n > most_threads(ptx) || (ptx->exact_threads[0] && memcmp(threads, ptx->exact_threads,
                                                                  sizeof ptx->exact_threads) != 0))
        return driver_refuse(ABI_ERROR_INVALID_VALUE,
                             "launch of %s: %llu threads, its __launch_bounds__ say %u", ptx->name,
                             (unsigned long long)n, most_threads(ptx));
    if (dynamic_shared > f->dynamic_limit)
        return driver_refuse(ABI_ERROR_INVALID_VALUE,
                             "launch of %s: %u bytes of dynamic shared memory, allowed are %u "
                             "(cuFuncSetAttribute raises it)",
                             ptx->name, dynamic_shared, f->dynamic_limit);
    return ABI_SUCCESS;
}

static abi_result gather_arguments(const function_object *f, void **pointers, void **extra,
                                   uint8_t *to)
{
    const ptx_function *ptx = f->ptx;
    if (extra != NULL) {
        const void *buffer = NULL;
        const size_t *bytes = NULL;
        for (uint32_t i = 0; i < 8 && extra[i] != ABI_LAUNCH_PARAM_END; i += 2) {
            if (extra[i] == ABI_LAUNCH_PARAM_BUFFER_POINTER) buffer = extra[i + 1];
            if (extra[i] == ABI_LAUNCH_PARAM_BUFFER_SIZE) bytes = extra[i + 1];
        }
        if (pointers != NULL || buffer == NULL || bytes == NULL || *bytes != ptx->parameter_bytes)
            return driver_refuse(ABI_ERROR_INVALID_VALUE,
                                 "launch of %s: its parameters take %u bytes", ptx->name,
                                 ptx->parameter_bytes);
        memcpy(to, buffer, ptx->parameter_bytes);
        return ABI_SUCCESS;
    }
    if (ptx->n_parameters && pointers == NULL)
        return driver_refuse(ABI_ERROR_INVALID_VALUE, "launch of %s: no parameters given",
                             ptx->name);
    for (uint32_t i = 0; i < ptx->n_parameters; i++) {
        if (pointers[i] == NULL)
            return driver_refuse(ABI_ERROR_INVALID_VALUE, "launch of %s: parameter %u is NULL",
                                 ptx->name, i);
        memcpy(to + ptx->parameters[i].offset, pointers[i], ptx->parameters[i].bytes);
    }
    return ABI_SUCCESS;
}

static abi_result enqueue_launch(abi_function function, const uint32_t *grid,
                                 const uint32_t *threads, uint32_t dynamic_shared,
                                 abi_stream stream, void **pointers, void **extra)
{
    function_object *f = function_of(function);
    stream_object *s = stream_of(stream);
    if (f == NULL) return bad_function("cuLaunchKernel");
    if (s == NULL) return driver_refuse(ABI_ERROR_INVALID_HANDLE, "cuLaunchKernel: no such stream");
    abi_result result = check_shape(f, grid, threads, dynamic_shared);
    if (result != ABI_SUCCESS) return result;
    op work = {.kind = OP_LAUNCH, .launch = {.function = f, .dynamic_shared = dynamic_shared}};
    memcpy(work.launch.grid, grid, sizeof work.launch.grid);
    memcpy(work.launch.threads, threads, sizeof work.launch.threads);
    work.launch.arguments = mem_zero(f->ptx->parameter_bytes + 16u, 1);
    if (work.launch.arguments == NULL) return ABI_ERROR_OUT_OF_MEMORY;
    result = gather_arguments(f, pointers, extra, work.launch.arguments);
    if (result != ABI_SUCCESS) {
        mem_free(work.launch.arguments);
        return result;
    }
    return stream_enqueue(s, &work);
}

CALL(cuLaunchKernel, abi_function function, unsigned int grid_x, unsigned int grid_y,
     unsigned int grid_z, unsigned int block_x, unsigned int block_y, unsigned int block_z,
     unsigned int shared_bytes, abi_stream stream, void **pointers, void **extra)
{
    ENTER(NEED_CONTEXT);
    const uint32_t grid[3] = {grid_x, grid_y, grid_z}, threads[3] = {block_x, block_y, block_z};
    return driver_leave(
        enqueue_launch(function, grid, threads, shared_bytes, stream, pointers, extra));
}

CALL(cuLaunchKernelEx, const abi_launch_config *config, abi_function function, void **pointers,
     void **extra)
{
    ENTER(NEED_CONTEXT);
    if (config == NULL || (config->n_attributes && config->attributes == NULL))
        return driver_leave(ABI_ERROR_INVALID_VALUE);
    for (unsigned int i = 0; i < config->n_attributes; i++) {
        const abi_launch_attribute *a = &config->attributes[i];
        switch (a->id) {
        case ABI_LAUNCH_IGNORE:
        case ABI_LAUNCH_ACCESS_POLICY_WINDOW:
        case ABI_LAUNCH_SYNCHRONIZATION_POLICY:
        case ABI_LAUNCH_PRIORITY:
        case ABI_LAUNCH_PREFERRED_SHARED_MEMORY_CARVEOUT: break;
        case ABI_LAUNCH_PROGRAMMATIC_STREAM_SERIALIZATION:
            if (emu_driver.options.capability < 90)
                return driver_leave(driver_refuse(
                    ABI_ERROR_NOT_SUPPORTED,
                    "cuLaunchKernelEx: programmatic launch needs compute capability 9.0"));
            break;
        case ABI_LAUNCH_CLUSTER_DIMENSION:
            if (a->value.cluster.x <= 1 && a->value.cluster.y <= 1 && a->value.cluster.z <= 1)
                break;
            return driver_leave(driver_refuse(ABI_ERROR_NOT_SUPPORTED,
                                              "cuLaunchKernelEx: clusters are not emulated"));
        default:
            return driver_leave(driver_refuse(
                ABI_ERROR_NOT_SUPPORTED, "cuLaunchKernelEx: attribute %d is not emulated", a->id));
        }
    }
    return driver_leave(enqueue_launch(function, config->grid, config->block, config->shared_bytes,
                                       config->stream, pointers, extra));
}

static abi_result result_of(uint32_t checks)
{
    if (checks & (EMU_CHECK_GLOBAL_BOUNDS | EMU_CHECK_SHARED_BOUNDS | EMU_CHECK_LOCAL))
        return ABI_ERROR_ILLEGAL_ADDRESS;
    if (checks & (EMU_CHECK_GLOBAL_ALIGN | EMU_CHECK_SHARED_ALIGN))
        return ABI_ERROR_MISALIGNED_ADDRESS;
    return checks ? ABI_ERROR_LAUNCH_FAILED : ABI_SUCCESS;
}

abi_result launch_run(launch_op *work)
{
    driver *d = &emu_driver;
    function_object *f = work->function;
    if (d->launches_until_failure >= 0 && d->launches_until_failure-- == 0) {
        driver_message("launch of %s: failed as emu_options.fail_launch asks", f->ptx->name);
        return ABI_ERROR_LAUNCH_FAILED;
    }
    insn_count *counts = mem_zero(f->ptx->n_code, sizeof *counts);
    if (counts == NULL) return ABI_ERROR_OUT_OF_MEMORY;
    struct launch l = {.module = f->module->ptx,
                       .function = f->ptx,
                       .memory = &d->memory,
                       .reports = &d->reports,
                       .arguments = work->arguments,
                       .dynamic_shared = work->dynamic_shared,
                       .checks = d->options.checks,
                       .count_memory = !d->options.no_counters,
                       .schedule = (int)d->options.schedule,
                       .seed = driver_random(),
                       .step_limit = d->options.step_limit,
                       .grid_id = ++d->grid_id};
    memcpy(l.grid, work->grid, sizeof l.grid);
    memcpy(l.threads, work->threads, sizeof l.threads);
    l.n_threads = l.threads[0] * l.threads[1] * l.threads[2];
    l.n_warps = (l.n_threads + WARP_LANES - 1) / WARP_LANES;
    atomic_store(&d->reports.found, 0);
    int64_t start = clock_ns();
    run_end end = executor_run(d->executor, &l, (int)d->options.threads, counts);
    counters_add(f, counts, (uint64_t)l.grid[0] * l.grid[1] * l.grid[2], clock_ns() - start);
    for (uint32_t pc = 0; pc < f->ptx->n_code; pc++) {
        f->counts[pc].warps += counts[pc].warps;
        f->counts[pc].lanes += counts[pc].lanes;
        f->counts[pc].amount += counts[pc].amount;
        f->counts[pc].extra += counts[pc].extra;
        f->counts[pc].bytes += counts[pc].bytes;
    }
    mem_free(counts);
    switch (end) {
    case RUN_TRAP:
        driver_message("launch of %s: trap", f->ptx->name);
        return ABI_ERROR_LAUNCH_FAILED;
    case RUN_ASSERT:
        driver_message("launch of %s: a device-side assertion failed", f->ptx->name);
        return ABI_ERROR_ASSERT;
    case RUN_STEPS:
        driver_message("launch of %s: a block took more than %llu instructions", f->ptx->name,
                       (unsigned long long)d->options.step_limit);
        return ABI_ERROR_LAUNCH_TIMEOUT;
    case RUN_NO_MEMORY: return ABI_ERROR_OUT_OF_MEMORY;
    default: break;
    }
    uint32_t found = atomic_load(&d->reports.found);
    if (found) driver_message("launch of %s: see the reports", f->ptx->name);
    return d->options.tolerant ? ABI_SUCCESS : result_of(found);
}
