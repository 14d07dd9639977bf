/* Streams, events, and the queues that run late. */
#include <string.h>

#include "clock.h"
#include "kernels/emu/driver.h"
#include "memory.h"

/* ---- operations -------------------------------------------------------------------------------
 */

static void event_release(event_object *e)
{
    e->pending--;
    if (e->destroyed && e->pending == 0) {
        link_remove(&e->link);
        mem_free(e->capture_nodes);
        mem_free(e);
    }
}

void op_free(op *work)
{
    switch (work->kind) {
    case OP_LAUNCH: mem_free(work->launch.arguments); break;
    case OP_RECORD:
    case OP_WAIT: event_release(work->event.event); break;
    case OP_GRAPH_BEGIN: executable_release(work->graph.executable); break;
    case OP_MATMUL: matmul_free(work->matmul); break;
    default: break;
    }
}

int op_copy(op *to, const op *from)
{
    *to = *from;
    to->next = NULL;
    switch (from->kind) {
    case OP_LAUNCH: {
        uint32_t bytes = from->launch.function->ptx->parameter_bytes;
        to->launch.arguments = mem_alloc(bytes ? bytes : 1);
        if (to->launch.arguments == NULL) return 0;
        memcpy(to->launch.arguments, from->launch.arguments, bytes);
        return 1;
    }
    case OP_RECORD:
    case OP_WAIT: from->event.event->pending++; return 1;
    case OP_MATMUL: to->matmul = matmul_copy(from->matmul); return to->matmul != NULL;
    default: return 1;
    }
}

abi_result op_run(op *work)
{
    switch (work->kind) {
    case OP_LAUNCH: return launch_run(&work->launch);
    case OP_COPY: return copy_run(&work->copy);
    case OP_SET: return set_run(&work->set);
    case OP_RECORD:
        work->event.event->done = work->event.ticket;
        work->event.event->time_ns = clock_ns();
        return ABI_SUCCESS;
    case OP_WAIT: return ABI_SUCCESS;
    case OP_GRAPH_BEGIN: return executable_run(work->graph.executable);
    case OP_MATMUL: return matmul_run(work->matmul);
    default: work->host.call(work->host.data); return ABI_SUCCESS;
    }
}

/* ---- queues -----------------------------------------------------------------------------------
 */

stream_object *stream_of(abi_stream handle)
{
    driver *d = &emu_driver;
    if (handle == NULL || handle == ABI_STREAM_LEGACY || handle == ABI_STREAM_PER_THREAD)
        return &d->legacy;
    return link_holds(&d->streams, handle) ? (stream_object *)handle : NULL;
}

static int is_ready(const stream_object *s)
{
    const op *head = s->first;
    return head != NULL && !(head->kind == OP_WAIT && head->event.event->done < head->event.ticket);
}

/* Runs the first operation of a stream. A failure sticks and empties every queue. */
static abi_result run_head(stream_object *s)
{
    driver *d = &emu_driver;
    op *work = s->first;
    s->first = work->next;
    if (s->first == NULL) s->last = NULL;
    abi_result result = op_run(work);
    op_free(work);
    mem_free(work);
    if (result != ABI_SUCCESS) {
        if (d->sticky == ABI_SUCCESS) d->sticky = result;
        for (link *l = d->streams.next; l != &d->streams; l = l->next)
            stream_discard(LINK_ITEM(stream_object, l));
    }
    return result;
}

/* One step of any stream; 0 when there is nothing that could run. */
static int run_any(abi_result *result)
{
    driver *d = &emu_driver;
    uint64_t n = 0;
    stream_object *picked = NULL;
    for (link *l = d->streams.next; l != &d->streams; l = l->next) {
        stream_object *s = LINK_ITEM(stream_object, l);
        if (is_ready(s) && driver_random() % ++n == 0) picked = s;
    }
    if (picked == NULL) return 0;
    *result = run_head(picked);
    return 1;
}

void stream_discard(stream_object *s)
{
    while (s->first != NULL) {
        op *work = s->first;
        s->first = work->next;
        op_free(work);
        mem_free(work);
    }
    s->last = NULL;
}

abi_result stream_drain(stream_object *s)
{
    abi_result result = ABI_SUCCESS;
    while (s->first != NULL && result == ABI_SUCCESS)
        if (!run_any(&result))
            return driver_refuse(ABI_ERROR_UNKNOWN, "streams wait for each other");
    return emu_driver.sticky != ABI_SUCCESS ? emu_driver.sticky : result;
}

abi_result stream_drain_all(void)
{
    abi_result result = ABI_SUCCESS;
    while (result == ABI_SUCCESS && run_any(&result)) continue;
    return emu_driver.sticky != ABI_SUCCESS ? emu_driver.sticky : result;
}

/* The default stream waits for the streams that do not opt out, and then runs at once. */
static abi_result run_on_legacy(op *work)
{
    driver *d = &emu_driver;
    abi_result result = ABI_SUCCESS;
    for (link *l = d->streams.next; l != &d->streams && result == ABI_SUCCESS; l = l->next) {
        stream_object *s = LINK_ITEM(stream_object, l);
        if (s->flags & ABI_STREAM_NON_BLOCKING) continue;
        if (s->capture)
            return driver_refuse(ABI_ERROR_STREAM_CAPTURE_IMPLICIT,
                                 "work on the default stream while a blocking stream captures");
        result = stream_drain(s);
        l = &s->link; /* draining may have freed events, never streams */
    }
    if (result == ABI_SUCCESS && work->kind == OP_WAIT)
        while (work->event.event->done < work->event.ticket && result == ABI_SUCCESS)
            if (!run_any(&result)) break;
    if (result == ABI_SUCCESS) result = op_run(work);
    if (result != ABI_SUCCESS && d->sticky == ABI_SUCCESS) d->sticky = result;
    return result;
}

abi_result stream_enqueue(stream_object *s, const op *work)
{
    op copy = *work;
    copy.next = NULL;
    if (s->capture) return capture_add(s, &copy);
    if (s == &emu_driver.legacy) {
        abi_result result = run_on_legacy(&copy);
        op_free(&copy);
        return result;
    }
    op *item = mem_alloc(sizeof *item);
    if (item == NULL) {
        op_free(&copy);
        return ABI_ERROR_OUT_OF_MEMORY;
    }
    *item = copy;
    if (s->last)
        s->last->next = item;
    else
        s->first = item;
    s->last = item;
    return emu_driver.options.eager ? stream_drain(s) : ABI_SUCCESS;
}

/* ---- streams ----------------------------------------------------------------------------------
 */

CALL(cuStreamCreateWithPriority, abi_stream *stream, unsigned int flags, int priority)
{
    ENTER(NEED_CONTEXT);
    if (stream == NULL || (flags & ~(unsigned)ABI_STREAM_NON_BLOCKING))
        return driver_leave(driver_refuse(ABI_ERROR_INVALID_VALUE, "cuStreamCreate"));
    stream_object *s = mem_zero(1, sizeof *s);
    if (s == NULL) return driver_leave(ABI_ERROR_OUT_OF_MEMORY);
    s->flags = flags;
    s->priority = priority;
    link_add(&emu_driver.streams, &s->link);
    *stream = (abi_stream)s;
    return driver_leave(ABI_SUCCESS);
}

CALL(cuStreamCreate, abi_stream *stream, unsigned int flags)
{
    return cuStreamCreateWithPriority(stream, flags, 0);
}

static abi_result bad_stream(const char *call)
{
    return driver_refuse(ABI_ERROR_INVALID_HANDLE, "%s: no such stream", call);
}

CALL(cuStreamDestroy_v2, abi_stream stream)
{
    abi_result sticky, result = driver_enter_release(&sticky);
    if (result != ABI_SUCCESS) return result;
    stream_object *s = stream_of(stream);
    if (s == NULL || s == &emu_driver.legacy) return driver_leave(bad_stream("cuStreamDestroy"));
    if (s->capture)
        result = driver_refuse(ABI_ERROR_STREAM_CAPTURE_INVALIDATED,
                               "cuStreamDestroy of a stream that captures");
    capture_abandon(s);
    /* The call returns at once on a GPU and the work still runs. */
    if (sticky == ABI_SUCCESS && result == ABI_SUCCESS) result = stream_drain(s);
    stream_discard(s);
    link_remove(&s->link);
    mem_free(s);
    return driver_leave(sticky != ABI_SUCCESS ? sticky : result);
}

CALL(cuStreamSynchronize, abi_stream stream)
{
    ENTER(NEED_CONTEXT);
    stream_object *s = stream_of(stream);
    if (s == NULL) return driver_leave(bad_stream("cuStreamSynchronize"));
    if (s->capture) {
        s->capture->invalid = 1;
        return driver_leave(driver_refuse(ABI_ERROR_STREAM_CAPTURE_UNSUPPORTED,
                                          "cuStreamSynchronize of a stream that captures"));
    }
    abi_result result = capture_forbids("cuStreamSynchronize");
    if (result == ABI_SUCCESS) result = stream_drain(s);
    return driver_leave(result);
}

CALL(cuStreamQuery, abi_stream stream)
{
    ENTER(NEED_CONTEXT);
    stream_object *s = stream_of(stream);
    if (s == NULL) return driver_leave(bad_stream("cuStreamQuery"));
    if (s->capture) {
        s->capture->invalid = 1;
        return driver_leave(driver_refuse(ABI_ERROR_STREAM_CAPTURE_UNSUPPORTED,
                                          "cuStreamQuery of a stream that captures"));
    }
    if (s->first == NULL) return driver_leave(ABI_SUCCESS);
    abi_result result = ABI_SUCCESS; /* time passes with every question */
    run_any(&result);
    return driver_leave(result != ABI_SUCCESS ? result : ABI_ERROR_NOT_READY);
}

CALL(cuStreamGetFlags, abi_stream stream, unsigned int *flags)
{
    ENTER(NEED_CONTEXT);
    stream_object *s = stream_of(stream);
    if (s == NULL) return driver_leave(bad_stream("cuStreamGetFlags"));
    if (flags == NULL) return driver_leave(ABI_ERROR_INVALID_VALUE);
    *flags = s->flags;
    return driver_leave(ABI_SUCCESS);
}

CALL(cuStreamWaitEvent, abi_stream stream, abi_event event, unsigned int flags)
{
    ENTER(NEED_CONTEXT);
    stream_object *s = stream_of(stream);
    event_object *e = link_holds(&emu_driver.events, event) ? (event_object *)event : NULL;
    if (s == NULL || e == NULL || e->destroyed)
        return driver_leave(bad_stream("cuStreamWaitEvent"));
    if (flags > 1) return driver_leave(ABI_ERROR_INVALID_VALUE);
    if (e->capture != NULL || s->capture != NULL) return driver_leave(capture_wait(s, e));
    if (e->issued == 0) return driver_leave(ABI_SUCCESS);
    e->pending++;
    op work = {.kind = OP_WAIT, .event = {.event = e, .ticket = e->issued}};
    return driver_leave(stream_enqueue(s, &work));
}

CALL(cuLaunchHostFunc, abi_stream stream, void (*call)(void *), void *data)
{
    ENTER(NEED_CONTEXT);
    stream_object *s = stream_of(stream);
    if (s == NULL) return driver_leave(bad_stream("cuLaunchHostFunc"));
    if (call == NULL) return driver_leave(ABI_ERROR_INVALID_VALUE);
    op work = {.kind = OP_HOST, .host = {.call = call, .data = data}};
    return driver_leave(stream_enqueue(s, &work));
}

/* ---- events -----------------------------------------------------------------------------------
 */

static event_object *event_of(abi_event event)
{
    event_object *e = link_holds(&emu_driver.events, event) ? (event_object *)event : NULL;
    return e != NULL && !e->destroyed ? e : NULL;
}

static abi_result bad_event(const char *call)
{
    return driver_refuse(ABI_ERROR_INVALID_HANDLE, "%s: no such event", call);
}

CALL(cuEventCreate, abi_event *event, unsigned int flags)
{
    ENTER(NEED_CONTEXT);
    if (event == NULL || (flags & ~3u))
        return driver_leave(driver_refuse(ABI_ERROR_INVALID_VALUE, "cuEventCreate"));
    event_object *e = mem_zero(1, sizeof *e);
    if (e == NULL) return driver_leave(ABI_ERROR_OUT_OF_MEMORY);
    e->flags = flags;
    link_add(&emu_driver.events, &e->link);
    *event = (abi_event)e;
    return driver_leave(ABI_SUCCESS);
}

CALL(cuEventDestroy_v2, abi_event event)
{
    abi_result sticky, result = driver_enter_release(&sticky);
    if (result != ABI_SUCCESS) return result;
    event_object *e = event_of(event);
    if (e == NULL) return driver_leave(bad_event("cuEventDestroy"));
    e->destroyed = 1;
    e->pending++;
    event_release(e);
    return driver_leave(sticky);
}

CALL(cuEventRecord, abi_event event, abi_stream stream)
{
    ENTER(NEED_CONTEXT);
    stream_object *s = stream_of(stream);
    event_object *e = event_of(event);
    if (s == NULL || e == NULL) return driver_leave(bad_event("cuEventRecord"));
    if (s->capture) return driver_leave(capture_record(s, e));
    e->capture = NULL;
    e->issued = ++emu_driver.ticket;
    e->pending++;
    op work = {.kind = OP_RECORD, .event = {.event = e, .ticket = e->issued}};
    return driver_leave(stream_enqueue(s, &work));
}

CALL(cuEventRecordWithFlags, abi_event event, abi_stream stream, unsigned int flags)
{
    return flags == 0 ? cuEventRecord(event, stream) : ABI_ERROR_NOT_SUPPORTED;
}

CALL(cuEventQuery, abi_event event)
{
    ENTER(NEED_CONTEXT);
    event_object *e = event_of(event);
    if (e == NULL) return driver_leave(bad_event("cuEventQuery"));
    if (e->capture)
        return driver_leave(
            driver_refuse(ABI_ERROR_CAPTURED_EVENT, "cuEventQuery: captured event"));
    if (e->done >= e->issued) return driver_leave(ABI_SUCCESS);
    abi_result result = ABI_SUCCESS;
    run_any(&result);
    return driver_leave(result != ABI_SUCCESS ? result : ABI_ERROR_NOT_READY);
}

CALL(cuEventSynchronize, abi_event event)
{
    ENTER(NEED_CONTEXT);
    event_object *e = event_of(event);
    if (e == NULL) return driver_leave(bad_event("cuEventSynchronize"));
    if (e->capture)
        return driver_leave(
            driver_refuse(ABI_ERROR_CAPTURED_EVENT, "cuEventSynchronize: captured event"));
    abi_result result = capture_forbids("cuEventSynchronize");
    while (result == ABI_SUCCESS && e->done < e->issued)
        if (!run_any(&result)) break;
    return driver_leave(emu_driver.sticky != ABI_SUCCESS ? emu_driver.sticky : result);
}

CALL(cuEventElapsedTime, float *milliseconds, abi_event start, abi_event end)
{
    ENTER(NEED_CONTEXT);
    event_object *a = event_of(start), *b = event_of(end);
    if (a == NULL || b == NULL || a->issued == 0 || b->issued == 0 ||
        ((a->flags | b->flags) & ABI_EVENT_DISABLE_TIMING))
        return driver_leave(bad_event("cuEventElapsedTime"));
    if (milliseconds == NULL) return driver_leave(ABI_ERROR_INVALID_VALUE);
    if (a->done < a->issued || b->done < b->issued) return driver_leave(ABI_ERROR_NOT_READY);
    *milliseconds = (float)((double)(b->time_ns - a->time_ns) / 1e6);
    return driver_leave(ABI_SUCCESS);
}

CALL(cuEventElapsedTime_v2, float *milliseconds, abi_event start, abi_event end)
{
    return cuEventElapsedTime(milliseconds, start, end);
}
