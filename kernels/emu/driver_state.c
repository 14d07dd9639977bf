#include "kernels/emu/driver.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "memory.h"

driver emu_driver = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- lists ------------------------------------------------------------------------------------
 */

void link_init(link *list)
{
    list->next = list->previous = list;
}

void link_add(link *list, link *item)
{
    item->previous = list->previous;
    item->next = list;
    list->previous->next = item;
    list->previous = item;
}

void link_remove(link *item)
{
    item->previous->next = item->next;
    item->next->previous = item->previous;
    item->next = item->previous = item;
}

int link_holds(const link *list, const void *item)
{
    for (const link *l = list->next; l != list; l = l->next)
        if ((const void *)l == item) return 1;
    return 0;
}

/* ---- state ------------------------------------------------------------------------------------
 */

static void prepare(void)
{
    driver *d = &emu_driver;
    if (d->initialised) return;
    link *lists[] = {&d->streams, &d->events,      &d->modules,
                     &d->graphs,  &d->executables, &d->lt_handles};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) link_init(lists[i]);
    reporter_open(&d->reports);
    if (d->options.size == 0) emu_defaults(&d->options);
    d->allocs_until_failure = d->options.fail_alloc;
    d->launches_until_failure = d->options.fail_launch;
    d->reports.verbose = d->options.verbose;
    d->random = d->options.seed;
    d->initialised = 1;
}

uint64_t driver_random(void)
{
    uint64_t z = (emu_driver.random += UINT64_C(0x9e3779b97f4a7c15)); /* splitmix64 */
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

abi_result driver_open_state(void)
{
    driver *d = &emu_driver;
    if (d->memory.alias == NULL &&
        window_open(&d->memory, d->options.memory_bytes, NULL) != CRANK_OK)
        return ABI_ERROR_OUT_OF_MEMORY;
    if (d->executor == NULL && executor_open(&d->executor, NULL) != CRANK_OK)
        return ABI_ERROR_OUT_OF_MEMORY;
    return ABI_SUCCESS;
}

static void report_leaks(void)
{
    driver *d = &emu_driver;
    if (!(d->options.checks & EMU_CHECK_LEAK) || d->sticky != ABI_SUCCESS) return;
    emu_objects alive;
    uint64_t bytes = 0, n_device = 0;
    for (size_t i = 0; i < d->memory.n_allocations; i++)
        if (d->memory.allocations[i].kind == ALLOCATION_DEVICE) {
            n_device++;
            bytes += d->memory.allocations[i].bytes;
        }
    memset(&alive, 0, sizeof alive);
    for (const link *l = d->streams.next; l != &d->streams; l = l->next) alive.streams++;
    for (const link *l = d->events.next; l != &d->events; l = l->next)
        alive.events += !((const event_object *)(const void *)l)->destroyed;
    for (const link *l = d->modules.next; l != &d->modules; l = l->next) alive.modules++;
    for (const link *l = d->graphs.next; l != &d->graphs; l = l->next) alive.graphs++;
    for (const link *l = d->executables.next; l != &d->executables; l = l->next)
        alive.graph_executables += !((const executable_object *)(const void *)l)->destroyed;
    for (const link *l = d->lt_handles.next; l != &d->lt_handles; l = l->next) alive.lt_handles++;
    const struct {
        uint64_t n;
        const char *what;
    } kinds[] = {{d->n_host_allocations, "pinned host allocations"},
                 {alive.streams, "streams"},
                 {alive.events, "events"},
                 {alive.modules, "modules"},
                 {alive.graphs, "graphs"},
                 {alive.graph_executables, "executable graphs"},
                 {alive.lt_handles, "cuBLASLt handles"}};
    if (n_device)
        reporter_host(&d->reports, EMU_CHECK_LEAK,
                      "%llu device allocations (%llu bytes) alive at the context's end",
                      (unsigned long long)n_device, (unsigned long long)bytes);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (kinds[i].n)
            reporter_host(&d->reports, EMU_CHECK_LEAK, "%llu %s alive at the context's end",
                          (unsigned long long)kinds[i].n, kinds[i].what);
}

/* Everything a context owns goes with it. */
static void free_context(void)
{
    driver *d = &emu_driver;
    for (link *l = d->streams.next; l != &d->streams; l = l->next)
        capture_abandon(LINK_ITEM(stream_object, l));
    capture_abandon(&d->legacy);
    while (d->streams.next != &d->streams) {
        stream_object *s = LINK_ITEM(stream_object, d->streams.next);
        stream_discard(s);
        link_remove(&s->link);
        mem_free(s);
    }
    stream_discard(&d->legacy);
    graphs_free_all();
    lt_free_all();
    while (d->events.next != &d->events) {
        event_object *e = LINK_ITEM(event_object, d->events.next);
        link_remove(&e->link);
        mem_free(e->capture_nodes);
        mem_free(e);
    }
    while (d->modules.next != &d->modules) module_free(LINK_ITEM(module_object, d->modules.next));
    d->n_host_allocations = 0;
    window_close(&d->memory);
    executor_close(d->executor);
    d->executor = NULL;
}

void driver_close_state(void)
{
    report_leaks();
    free_context();
}

abi_result driver_refuse(abi_result result, const char *format, ...)
{
    driver *d = &emu_driver;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(d->message, sizeof d->message, format, arguments);
    va_end(arguments);
    if (d->options.checks & EMU_CHECK_HOST)
        reporter_host(&d->reports, EMU_CHECK_HOST, "%s (%d)", d->message, result);
    return result;
}

void driver_message(const char *format, ...)
{
    driver *d = &emu_driver;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(d->message, sizeof d->message, format, arguments);
    va_end(arguments);
}

abi_result driver_enter(driver_need need)
{
    driver *d = &emu_driver;
    pthread_mutex_lock(&d->lock);
    prepare();
    abi_result result = ABI_SUCCESS;
    if (need != NEED_NOTHING && !d->cu_init)
        result = driver_refuse(ABI_ERROR_NOT_INITIALIZED, "cuInit has not been called");
    else if (need == NEED_CONTEXT && !driver_has_context())
        result = driver_refuse(ABI_ERROR_INVALID_CONTEXT, "no context is current in this thread");
    else if (need == NEED_CONTEXT)
        result = d->sticky;
    if (result != ABI_SUCCESS) pthread_mutex_unlock(&d->lock);
    return result;
}

abi_result driver_enter_release(abi_result *sticky)
{
    driver *d = &emu_driver;
    pthread_mutex_lock(&d->lock);
    prepare();
    abi_result result = ABI_SUCCESS;
    if (!d->cu_init)
        result = driver_refuse(ABI_ERROR_NOT_INITIALIZED, "cuInit has not been called");
    else if (!driver_has_context())
        result = driver_refuse(ABI_ERROR_INVALID_CONTEXT, "no context is current in this thread");
    *sticky = d->sticky;
    if (result != ABI_SUCCESS) pthread_mutex_unlock(&d->lock);
    return result;
}

abi_result driver_leave(abi_result result)
{
    pthread_mutex_unlock(&emu_driver.lock);
    return result;
}

/* ---- emu.h ------------------------------------------------------------------------------------
 */

void emu_defaults(emu_options *o)
{
    memset(o, 0, sizeof *o);
    o->size = sizeof *o;
    o->checks = EMU_CHECK_ALL;
    o->schedule = EMU_FORWARD;
    o->threads = 1;
    o->seed = 1;
    o->capability = 80;
    o->fail_alloc = -1;
    o->fail_launch = -1;
    o->memory_bytes = UINT64_C(4) << 30;
    o->step_limit = UINT64_C(1) << 33;
}

int emu_configure(const emu_options *options)
{
    emu_options o = *options;
    if (o.size != sizeof o || (o.checks & ~(uint32_t)EMU_CHECK_ALL) || o.schedule > EMU_RANDOM ||
        o.cublaslt >= EMU_LT_N_KINDS ||
        o.threads > 256)
        return 1;
    emu_options defaults;
    emu_defaults(&defaults);
    if (o.threads == 0) o.threads = defaults.threads;
    if (o.capability == 0) o.capability = defaults.capability;
    if (o.memory_bytes == 0) o.memory_bytes = defaults.memory_bytes;
    if (o.step_limit == 0) o.step_limit = defaults.step_limit;
    if (o.capability < 80 || o.capability > 129 || o.memory_bytes > DEVICE_WINDOW / 2) return 1;
    driver *d = &emu_driver;
    pthread_mutex_lock(&d->lock);
    prepare();
    if (d->context_references) {
        o.capability = d->options.capability;
        o.memory_bytes = d->options.memory_bytes;
    }
    d->options = o;
    d->allocs_until_failure = o.fail_alloc;
    d->launches_until_failure = o.fail_launch;
    d->reports.verbose = o.verbose;
    d->random = o.seed;
    pthread_mutex_unlock(&d->lock);
    return 0;
}

/* Everything but the options; the next call begins anew. */
static void forget_all(void)
{
    driver *d = &emu_driver;
    free_context();
    counters_clear();
    mem_free(d->counters);
    d->counters = NULL;
    d->counter_capacity = 0;
    reporter_close(&d->reports);
    d->sticky = ABI_SUCCESS;
    d->context_references = 0;
    d->cu_init = 0;
    d->message[0] = '\0';
    driver_context_gone();
    d->initialised = 0;
}

void emu_reset(void)
{
    driver *d = &emu_driver;
    pthread_mutex_lock(&d->lock);
    prepare();
    forget_all();
    prepare();
    pthread_mutex_unlock(&d->lock);
}

/* A program that closes the library gets back what counters and reports take, and a context that it
 * never released. A call that another thread is in keeps what it uses. */
static __attribute__((destructor)) void unload(void)
{
    driver *d = &emu_driver;
    if (pthread_mutex_trylock(&d->lock) != 0) return;
    if (d->initialised) forget_all();
    pthread_mutex_unlock(&d->lock);
}

size_t emu_report_count(void)
{
    pthread_mutex_lock(&emu_driver.lock);
    prepare();
    size_t n = emu_driver.reports.n_reports;
    pthread_mutex_unlock(&emu_driver.lock);
    return n;
}

int emu_report_get(size_t index, emu_report *out)
{
    pthread_mutex_lock(&emu_driver.lock);
    prepare();
    int missing = index >= emu_driver.reports.n_reports;
    if (!missing) *out = emu_driver.reports.reports[index];
    pthread_mutex_unlock(&emu_driver.lock);
    return missing;
}

void emu_report_clear(void)
{
    pthread_mutex_lock(&emu_driver.lock);
    prepare();
    reporter_clear(&emu_driver.reports);
    pthread_mutex_unlock(&emu_driver.lock);
}

size_t emu_last_message(char *out, size_t bytes)
{
    pthread_mutex_lock(&emu_driver.lock);
    size_t n = strlen(emu_driver.message);
    if (bytes) snprintf(out, bytes, "%s", emu_driver.message);
    pthread_mutex_unlock(&emu_driver.lock);
    return n;
}

void emu_live_objects(emu_objects *out)
{
    driver *d = &emu_driver;
    memset(out, 0, sizeof *out);
    pthread_mutex_lock(&d->lock);
    prepare();
    for (size_t i = 0; i < d->memory.n_allocations; i++)
        if (d->memory.allocations[i].kind == ALLOCATION_DEVICE) {
            out->allocations++;
            out->allocated_bytes += d->memory.allocations[i].bytes;
        }
    out->host_allocations = d->n_host_allocations;
    for (const link *l = d->streams.next; l != &d->streams; l = l->next) out->streams++;
    for (const link *l = d->events.next; l != &d->events; l = l->next)
        out->events += !((const event_object *)(const void *)l)->destroyed;
    for (const link *l = d->modules.next; l != &d->modules; l = l->next) out->modules++;
    for (const link *l = d->graphs.next; l != &d->graphs; l = l->next) out->graphs++;
    for (const link *l = d->executables.next; l != &d->executables; l = l->next)
        out->graph_executables += !((const executable_object *)(const void *)l)->destroyed;
    for (const link *l = d->lt_handles.next; l != &d->lt_handles; l = l->next) out->lt_handles++;
    pthread_mutex_unlock(&d->lock);
}

static int mark(uint64_t address, size_t bytes, uint8_t state)
{
    driver *d = &emu_driver;
    pthread_mutex_lock(&d->lock);
    prepare();
    int missing = d->memory.alias == NULL || !window_holds(&d->memory, address, bytes);
    if (!missing) {
        if (state == SHADOW_UNWRITTEN) memset(window_bytes(&d->memory, address), 0xff, bytes);
        memset(window_shadow(&d->memory, address), state, bytes);
    }
    pthread_mutex_unlock(&d->lock);
    return missing;
}

int emu_forget(uint64_t address, size_t bytes)
{
    return mark(address, bytes, SHADOW_UNWRITTEN);
}

int emu_fence(uint64_t address, size_t bytes)
{
    return mark(address, bytes, SHADOW_FENCED);
}
