/* Stream capture and graphs. A captured node keeps a copy of its operation, so kernel arguments are
 * frozen; an executable graph runs its nodes in a random order that the captured edges allow. */
#include <string.h>

#include "kernels/emu/driver.h"
#include "memory.h"

/* ---- capture ----------------------------------------------------------------------------------
 */

abi_result capture_forbids(const char *call)
{
    driver *d = &emu_driver;
    if (d->n_captures == 0) return ABI_SUCCESS;
    for (link *l = d->streams.next; l != &d->streams; l = l->next) {
        stream_object *s = LINK_ITEM(stream_object, l);
        capture *c = s->capture;
        if (c == NULL || c->origin != s || c->mode == ABI_CAPTURE_RELAXED) continue;
        if (c->mode == ABI_CAPTURE_THREAD_LOCAL && !pthread_equal(c->thread, pthread_self()))
            continue;
        c->invalid = 1;
        return driver_refuse(ABI_ERROR_STREAM_CAPTURE_UNSUPPORTED, "%s during a stream capture",
                             call);
    }
    return ABI_SUCCESS;
}

static int set_tail(uint32_t **tail, uint32_t *n, const uint32_t *from, uint32_t n_from)
{
    uint32_t *copy = mem_array(n_from ? n_from : 1, sizeof *copy);
    if (copy == NULL) return 0;
    if (n_from) memcpy(copy, from, n_from * sizeof *copy);
    mem_free(*tail);
    *tail = copy;
    *n = n_from;
    return 1;
}

static int add_node(graph_object *g, const op *work, const uint32_t *after, uint32_t n_after)
{
    if (g->n_nodes == g->capacity) {
        uint32_t capacity = g->capacity ? g->capacity * 2 : 32;
        graph_node *bigger = mem_resize(g->nodes, capacity, sizeof *bigger);
        if (bigger == NULL) return 0;
        g->nodes = bigger;
        g->capacity = capacity;
    }
    graph_node *node = &g->nodes[g->n_nodes];
    memset(node, 0, sizeof *node);
    node->op = *work;
    if (!set_tail(&node->after, &node->n_after, after, n_after)) return 0;
    g->n_nodes++;
    return 1;
}

abi_result capture_add(stream_object *s, const op *work)
{
    capture *c = s->capture;
    op mine = *work;
    if (c->invalid) {
        op_free(&mine);
        return driver_refuse(ABI_ERROR_STREAM_CAPTURE_INVALIDATED,
                             "work after a capture has failed");
    }
    if (work->kind == OP_GRAPH_BEGIN) {
        op_free(&mine);
        c->invalid = 1;
        return driver_refuse(ABI_ERROR_NOT_SUPPORTED, "a graph launched during a capture");
    }
    if (!add_node(c->graph, &mine, s->tail, s->n_tail)) {
        op_free(&mine);
        c->invalid = 1;
        return ABI_ERROR_OUT_OF_MEMORY;
    }
    uint32_t last = c->graph->n_nodes - 1;
    return set_tail(&s->tail, &s->n_tail, &last, 1) ? ABI_SUCCESS : ABI_ERROR_OUT_OF_MEMORY;
}

abi_result capture_record(stream_object *s, event_object *e)
{
    e->capture = s->capture;
    return set_tail(&e->capture_nodes, &e->n_capture_nodes, s->tail, s->n_tail)
               ? ABI_SUCCESS
               : ABI_ERROR_OUT_OF_MEMORY;
}

abi_result capture_wait(stream_object *s, event_object *e)
{
    if (e->capture == NULL) {
        s->capture->invalid = 1;
        return driver_refuse(ABI_ERROR_STREAM_CAPTURE_ISOLATION,
                             "a capturing stream waits for an event outside of the capture");
    }
    if (s == &emu_driver.legacy)
        return driver_refuse(ABI_ERROR_STREAM_CAPTURE_IMPLICIT,
                             "the default stream cannot join a capture");
    if (s->capture != NULL && s->capture != e->capture) {
        s->capture->invalid = e->capture->invalid = 1;
        return driver_refuse(ABI_ERROR_STREAM_CAPTURE_MERGE, "an event of another capture");
    }
    if (s->capture == NULL) {
        s->capture = e->capture;
        s->capture->n_streams++;
        return set_tail(&s->tail, &s->n_tail, e->capture_nodes, e->n_capture_nodes)
                   ? ABI_SUCCESS
                   : ABI_ERROR_OUT_OF_MEMORY;
    }
    uint32_t n = s->n_tail;
    uint32_t *joined = mem_array(s->n_tail + e->n_capture_nodes + 1, sizeof *joined);
    if (joined == NULL) return ABI_ERROR_OUT_OF_MEMORY;
    if (n) memcpy(joined, s->tail, n * sizeof *joined);
    for (uint32_t i = 0; i < e->n_capture_nodes; i++) {
        uint32_t k = 0;
        while (k < n && joined[k] != e->capture_nodes[i]) k++;
        if (k == n) joined[n++] = e->capture_nodes[i];
    }
    mem_free(s->tail);
    s->tail = joined;
    s->n_tail = n;
    return ABI_SUCCESS;
}

static void clear_nodes(graph_object *g)
{
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        op_free(&g->nodes[i].op);
        mem_free(g->nodes[i].after);
    }
    mem_free(g->nodes);
    g->nodes = NULL;
    g->n_nodes = g->capacity = 0;
}

/* Takes every stream and event out of the capture. */
static void close_capture(capture *c)
{
    driver *d = &emu_driver;
    for (link *l = d->streams.next; l != &d->streams; l = l->next) {
        stream_object *s = LINK_ITEM(stream_object, l);
        if (s->capture != c) continue;
        s->capture = NULL;
        mem_free(s->tail);
        s->tail = NULL;
        s->n_tail = 0;
    }
    for (link *l = d->events.next; l != &d->events; l = l->next) {
        event_object *e = LINK_ITEM(event_object, l);
        if (e->capture == c) e->capture = NULL;
    }
    d->n_captures--;
    mem_free(c);
}

void capture_abandon(stream_object *s)
{
    capture *c = s->capture;
    if (c == NULL) return;
    clear_nodes(c->graph);
    mem_free(c->graph);
    close_capture(c);
}

CALL(cuStreamBeginCapture_v2, abi_stream stream, int mode)
{
    ENTER(NEED_CONTEXT);
    stream_object *s = stream_of(stream);
    if (s == NULL)
        return driver_leave(
            driver_refuse(ABI_ERROR_INVALID_HANDLE, "cuStreamBeginCapture: no such stream"));
    if (s == &emu_driver.legacy)
        return driver_leave(driver_refuse(ABI_ERROR_STREAM_CAPTURE_UNSUPPORTED,
                                          "cuStreamBeginCapture of the default stream"));
    if (mode < ABI_CAPTURE_GLOBAL || mode > ABI_CAPTURE_RELAXED)
        return driver_leave(ABI_ERROR_INVALID_VALUE);
    if (s->capture)
        return driver_leave(
            driver_refuse(ABI_ERROR_INVALID_VALUE, "cuStreamBeginCapture: it captures already"));
    capture *c = mem_zero(1, sizeof *c);
    graph_object *g = mem_zero(1, sizeof *g);
    if (c == NULL || g == NULL) {
        mem_free(c);
        mem_free(g);
        return driver_leave(ABI_ERROR_OUT_OF_MEMORY);
    }
    c->origin = s;
    c->graph = g;
    c->mode = mode;
    c->n_streams = 1;
    c->thread = pthread_self();
    s->capture = c;
    s->n_tail = 0;
    emu_driver.n_captures++;
    return driver_leave(ABI_SUCCESS);
}

/* Whether work of a forked stream is not among what the origin's tail comes after. */
static int is_unjoined(const capture *c)
{
    const graph_object *g = c->graph;
    if (g->n_nodes == 0) return c->n_streams > 1;
    uint8_t *reached = mem_zero(g->n_nodes, 1);
    if (reached == NULL) return 1;
    for (uint32_t i = 0; i < c->origin->n_tail; i++) reached[c->origin->tail[i]] = 1;
    /* Edges go from lower to higher numbers. */
    for (uint32_t i = g->n_nodes; i-- > 0;)
        if (reached[i])
            for (uint32_t k = 0; k < g->nodes[i].n_after; k++) reached[g->nodes[i].after[k]] = 1;
    int missing = 0;
    for (uint32_t i = 0; i < g->n_nodes; i++) missing |= !reached[i];
    mem_free(reached);
    return missing;
}

CALL(cuStreamEndCapture, abi_stream stream, abi_graph *graph)
{
    ENTER(NEED_CONTEXT);
    stream_object *s = stream_of(stream);
    if (s == NULL)
        return driver_leave(
            driver_refuse(ABI_ERROR_INVALID_HANDLE, "cuStreamEndCapture: no such stream"));
    capture *c = s->capture;
    if (graph == NULL || c == NULL)
        return driver_leave(driver_refuse(ABI_ERROR_INVALID_VALUE,
                                          "cuStreamEndCapture: the stream does not capture"));
    if (c->origin != s)
        return driver_leave(driver_refuse(ABI_ERROR_STREAM_CAPTURE_UNMATCHED,
                                          "cuStreamEndCapture: the capture began elsewhere"));
    if (c->mode != ABI_CAPTURE_RELAXED && !pthread_equal(c->thread, pthread_self()))
        return driver_leave(
            driver_refuse(ABI_ERROR_STREAM_CAPTURE_WRONG_THREAD,
                          "cuStreamEndCapture: the capture began in another thread"));
    abi_result result = ABI_SUCCESS;
    if (c->invalid)
        result = driver_refuse(ABI_ERROR_STREAM_CAPTURE_INVALIDATED,
                               "cuStreamEndCapture: the capture has failed");
    else if (is_unjoined(c))
        result = driver_refuse(ABI_ERROR_STREAM_CAPTURE_UNJOINED,
                               "cuStreamEndCapture: a forked stream was not joined");
    graph_object *g = c->graph;
    close_capture(c);
    if (result != ABI_SUCCESS) {
        clear_nodes(g);
        mem_free(g);
        *graph = NULL;
        return driver_leave(result);
    }
    link_add(&emu_driver.graphs, &g->link);
    *graph = (abi_graph)g;
    return driver_leave(ABI_SUCCESS);
}

CALL(cuStreamIsCapturing, abi_stream stream, int *status)
{
    ENTER(NEED_CONTEXT);
    stream_object *s = stream_of(stream);
    if (s == NULL || status == NULL) return driver_leave(ABI_ERROR_INVALID_VALUE);
    *status = s->capture == NULL    ? ABI_CAPTURE_NONE
              : s->capture->invalid ? ABI_CAPTURE_INVALIDATED
                                    : ABI_CAPTURE_ACTIVE;
    return driver_leave(ABI_SUCCESS);
}

/* ---- graphs -----------------------------------------------------------------------------------
 */

static abi_result bad_graph(const char *call)
{
    return driver_refuse(ABI_ERROR_INVALID_VALUE, "%s: no such graph", call);
}

CALL(cuGraphDestroy, abi_graph graph)
{
    abi_result sticky, result = driver_enter_release(&sticky);
    if (result != ABI_SUCCESS) return result;
    if (!link_holds(&emu_driver.graphs, graph)) return driver_leave(bad_graph("cuGraphDestroy"));
    graph_object *g = (graph_object *)graph;
    link_remove(&g->link);
    clear_nodes(g);
    mem_free(g);
    return driver_leave(sticky);
}

CALL(cuGraphGetNodes, abi_graph graph, abi_graph_node *nodes, size_t *n)
{
    ENTER(NEED_CONTEXT);
    if (!link_holds(&emu_driver.graphs, graph) || n == NULL)
        return driver_leave(bad_graph("cuGraphGetNodes"));
    if (nodes != NULL) return driver_leave(ABI_ERROR_NOT_SUPPORTED);
    *n = ((graph_object *)graph)->n_nodes;
    return driver_leave(ABI_SUCCESS);
}

static int copy_graph(graph_object *to, const graph_object *from)
{
    for (uint32_t i = 0; i < from->n_nodes; i++) {
        op work;
        if (!op_copy(&work, &from->nodes[i].op)) return 0;
        if (!add_node(to, &work, from->nodes[i].after, from->nodes[i].n_after)) {
            op_free(&work);
            return 0;
        }
    }
    return 1;
}

CALL(cuGraphInstantiateWithFlags, abi_graph_exec *executable, abi_graph graph,
     unsigned long long flags)
{
    ENTER(NEED_CONTEXT);
    if (!link_holds(&emu_driver.graphs, graph) || executable == NULL)
        return driver_leave(bad_graph("cuGraphInstantiate"));
    if (flags & ~UINT64_C(0xf)) return driver_leave(ABI_ERROR_INVALID_VALUE);
    executable_object *x = mem_zero(1, sizeof *x);
    if (x == NULL || !copy_graph(&x->graph, (graph_object *)graph)) {
        if (x != NULL) clear_nodes(&x->graph);
        mem_free(x);
        return driver_leave(ABI_ERROR_OUT_OF_MEMORY);
    }
    link_add(&emu_driver.executables, &x->link);
    *executable = (abi_graph_exec)x;
    return driver_leave(ABI_SUCCESS);
}

static executable_object *executable_of(abi_graph_exec executable)
{
    executable_object *x =
        link_holds(&emu_driver.executables, executable) ? (executable_object *)executable : NULL;
    return x != NULL && !x->destroyed ? x : NULL;
}

void executable_release(executable_object *x)
{
    x->pending--;
    if (!x->destroyed || x->pending != 0) return;
    link_remove(&x->link);
    clear_nodes(&x->graph);
    mem_free(x);
}

CALL(cuGraphExecDestroy, abi_graph_exec executable)
{
    abi_result sticky, result = driver_enter_release(&sticky);
    if (result != ABI_SUCCESS) return result;
    executable_object *x = executable_of(executable);
    if (x == NULL) return driver_leave(bad_graph("cuGraphExecDestroy"));
    x->destroyed = 1;
    x->pending++;
    executable_release(x);
    return driver_leave(sticky);
}

CALL(cuGraphUpload, abi_graph_exec executable, abi_stream stream)
{
    ENTER(NEED_CONTEXT);
    if (executable_of(executable) == NULL || stream_of(stream) == NULL)
        return driver_leave(bad_graph("cuGraphUpload"));
    return driver_leave(ABI_SUCCESS);
}

CALL(cuGraphLaunch, abi_graph_exec executable, abi_stream stream)
{
    ENTER(NEED_CONTEXT);
    executable_object *x = executable_of(executable);
    stream_object *s = stream_of(stream);
    if (x == NULL) return driver_leave(bad_graph("cuGraphLaunch"));
    if (s == NULL)
        return driver_leave(
            driver_refuse(ABI_ERROR_INVALID_HANDLE, "cuGraphLaunch: no such stream"));
    if (!s->capture)
        for (uint32_t i = 0; i < x->graph.n_nodes; i++)
            if (x->graph.nodes[i].op.kind == OP_COPY) copy_poison(&x->graph.nodes[i].op.copy);
    x->pending++;
    op work = {.kind = OP_GRAPH_BEGIN, .graph = {.executable = x}};
    return driver_leave(stream_enqueue(s, &work));
}

/* CUgraphExecUpdateResultInfo: result, two nodes. The new graph replaces the old when it has the
 * same nodes in the same order. */
typedef struct abi_update_info {
    int result;
    abi_graph_node error_node, error_from_node;
} abi_update_info;

CALL(cuGraphExecUpdate_v2, abi_graph_exec executable, abi_graph graph, abi_update_info *info)
{
    enum { UPDATE_SUCCESS = 0, UPDATE_TOPOLOGY_CHANGED = 2, UPDATE_FAILURE = 910 };
    ENTER(NEED_CONTEXT);
    executable_object *x = executable_of(executable);
    if (x == NULL || !link_holds(&emu_driver.graphs, graph))
        return driver_leave(bad_graph("cuGraphExecUpdate"));
    const graph_object *from = (const graph_object *)graph;
    if (info != NULL) memset(info, 0, sizeof *info);
    int same = from->n_nodes == x->graph.n_nodes;
    for (uint32_t i = 0; same && i < from->n_nodes; i++) {
        const graph_node *a = &from->nodes[i], *b = &x->graph.nodes[i];
        same = a->op.kind == b->op.kind && a->n_after == b->n_after &&
               (a->op.kind != OP_LAUNCH || a->op.launch.function == b->op.launch.function) &&
               memcmp(a->after, b->after, a->n_after * sizeof *a->after) == 0;
    }
    if (!same) {
        if (info != NULL) info->result = UPDATE_TOPOLOGY_CHANGED;
        return driver_leave(UPDATE_FAILURE);
    }
    graph_object fresh = {0};
    if (!copy_graph(&fresh, from)) {
        clear_nodes(&fresh);
        return driver_leave(ABI_ERROR_OUT_OF_MEMORY);
    }
    abi_result result = x->pending ? stream_drain_all() : ABI_SUCCESS;
    clear_nodes(&x->graph);
    x->graph.nodes = fresh.nodes;
    x->graph.n_nodes = fresh.n_nodes;
    x->graph.capacity = fresh.capacity;
    return driver_leave(result);
}

abi_result executable_run(executable_object *x)
{
    graph_object *g = &x->graph;
    if (g->n_nodes == 0) return ABI_SUCCESS;
    uint8_t *done = mem_zero(g->n_nodes, 1);
    if (done == NULL) return ABI_ERROR_OUT_OF_MEMORY;
    abi_result result = ABI_SUCCESS;
    uint32_t first = 0; /* all before it are done */
    for (uint32_t left = g->n_nodes; left && result == ABI_SUCCESS; left--) {
        uint64_t n = 0;
        uint32_t picked = g->n_nodes, window = 0;
        while (first < g->n_nodes && done[first]) first++;
        /* A long chain has one candidate: looking at a bounded window keeps this linear. */
        for (uint32_t i = first; i < g->n_nodes && window < 256; i++, window++) {
            if (done[i]) continue;
            uint32_t k = 0;
            while (k < g->nodes[i].n_after && done[g->nodes[i].after[k]]) k++;
            if (k == g->nodes[i].n_after && driver_random() % ++n == 0) picked = i;
        }
        op work = g->nodes[picked].op; /* op_run changes nothing of it that is owned */
        result = op_run(&work);
        done[picked] = 1;
    }
    mem_free(done);
    return result;
}

void graphs_free_all(void)
{
    driver *d = &emu_driver;
    while (d->graphs.next != &d->graphs) {
        graph_object *g = LINK_ITEM(graph_object, d->graphs.next);
        link_remove(&g->link);
        clear_nodes(g);
        mem_free(g);
    }
    while (d->executables.next != &d->executables) {
        executable_object *x = LINK_ITEM(executable_object, d->executables.next);
        link_remove(&x->link);
        clear_nodes(&x->graph);
        mem_free(x);
    }
}
