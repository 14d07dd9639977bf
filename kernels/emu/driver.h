/* The driver behind the exported calls: one state, one lock, work queues that run late.
 *
 * Data structure: streams hold queues of operations (op). Nothing runs when it is enqueued; a call
 * that waits (stream, event, context, a blocking copy) runs ready operations, choosing among the
 * streams at random, until what it waits for is done. A missing dependency between streams so meets
 * the order that breaks it. Event waits name a ticket, the number of one cuEventRecord.
 *
 * Invariants: every public call holds the lock from driver_enter to driver_leave; a handle is valid
 * when it is in its list; after a sticky error every call returns it.
 *
 * Sources: CUDA 13.0 driver API reference; the strictness follows its text where a GPU is lenient.
 */
#ifndef CRANK_EMU_DRIVER_H
#define CRANK_EMU_DRIVER_H

#include <pthread.h>
#include <stdatomic.h>

#include "kernels/emu/check.h"
#include "kernels/emu/cuda_abi.h"
#include "kernels/emu/device.h"
#include "kernels/emu/exec_run.h"
#include "kernels/emu/ptx.h"

typedef struct link {
    struct link *next, *previous;
} link;

typedef struct module_object {
    link link;
    ptx_module *ptx;
    uint64_t image; /* device address of its variables, 0 = none */
    struct function_object *functions;
} module_object;

typedef struct function_object {
    module_object *module;
    const ptx_function *ptx;
    uint32_t dynamic_limit; /* MAX_DYNAMIC_SHARED_SIZE_BYTES; 48 KB less static until asked for */
    int carveout;
    insn_count *counts; /* by pc, all launches since the counters were cleared */
} function_object;

typedef enum op_kind {
    OP_LAUNCH,
    OP_COPY,
    OP_SET,
    OP_RECORD,
    OP_WAIT,
    OP_GRAPH_BEGIN, /* an executable graph's nodes, in a random order that its edges allow */
    OP_MATMUL,
    OP_HOST
} op_kind;

typedef struct launch_op {
    function_object *function;
    uint32_t grid[3], threads[3], dynamic_shared;
    uint8_t *arguments; /* a copy */
} launch_op;

typedef enum copy_kind { COPY_TO_DEVICE, COPY_TO_HOST, COPY_ON_DEVICE, COPY_ON_HOST } copy_kind;

typedef struct copy_op {
    copy_kind kind;
    uint64_t to, from; /* device or host addresses */
    size_t bytes;
} copy_op;

typedef struct set_op {
    uint64_t to;
    uint32_t value, width; /* width 1, 2, 4 */
    size_t count;
} set_op;

typedef struct event_object {
    link link;
    uint32_t flags;
    uint64_t issued; /* ticket of the newest record */
    uint64_t done;   /* newest ticket that has run */
    int64_t time_ns;
    uint32_t pending; /* operations that point here */
    int destroyed;
    struct capture *capture; /* recorded inside one: */
    uint32_t *capture_nodes; /* what a waiting stream must come after */
    uint32_t n_capture_nodes;
} event_object;

typedef struct event_op {
    event_object *event;
    uint64_t ticket;
} event_op;

struct matmul_op;

typedef struct op {
    struct op *next;
    op_kind kind;
    union {
        launch_op launch;
        copy_op copy;
        set_op set;
        event_op event;
        struct {
            struct executable_object *executable;
        } graph;
        struct matmul_op *matmul;
        struct {
            void (*call)(void *);
            void *data;
        } host;
    };
} op;

typedef struct stream_object {
    link link;
    uint32_t flags;
    int priority;
    op *first, *last;
    struct capture *capture; /* NULL: not capturing */
    uint32_t *tail;          /* while capturing: the nodes that the next one comes after */
    uint32_t n_tail;
} stream_object;

typedef struct graph_node {
    op op;
    uint32_t *after; /* indices of nodes that must be done */
    uint32_t n_after;
} graph_node;

typedef struct graph_object {
    link link;
    graph_node *nodes;
    uint32_t n_nodes, capacity;
} graph_object;

typedef struct executable_object {
    link link;
    graph_object graph; /* a copy; its link is unused */
    uint32_t pending;   /* launches in queues */
    int destroyed;
} executable_object;

typedef struct capture {
    stream_object *origin;
    graph_object *graph;
    int mode;
    int invalid;
    uint32_t n_streams;
    pthread_t thread;
} capture;

typedef struct driver {
    pthread_mutex_t lock;
    int initialised; /* the state below is valid */
    int cu_init;     /* cuInit has been called */
    emu_options options;
    device memory;
    reporter reports;
    executor *executor;
    abi_result sticky;
    uint32_t context_references;
    link streams, events, modules, graphs, executables, lt_handles;
    stream_object legacy; /* the default stream */
    uint32_t n_captures;
    uint64_t random;
    uint64_t ticket;
    uint32_t grid_id;
    int64_t allocs_until_failure, launches_until_failure; /* negative: never */
    uint64_t n_host_allocations;
    char message[512];
    emu_counters *counters; /* by kernel name */
    size_t n_counters, counter_capacity;
    emu_counters last;
    int has_last;
} driver;

extern driver emu_driver;

/* Exported calls: a declaration for the warning that wants one, then the definition. */
#define CALL(name, ...)                                                                            \
    EMU_API abi_result name(__VA_ARGS__);                                                          \
    EMU_API abi_result name(__VA_ARGS__)

typedef enum driver_need { NEED_NOTHING, NEED_INIT, NEED_CONTEXT } driver_need;
/* Takes the lock. When it returns an error, the lock is free again and the call must return it. */
abi_result driver_enter(driver_need need);
abi_result driver_leave(abi_result result); /* gives the lock back, returns result */
#define ENTER(need)                                                                                \
    do {                                                                                           \
        abi_result enter_result_ = driver_enter(need);                                             \
        if (enter_result_ != ABI_SUCCESS) return enter_result_;                                    \
    } while (0)

/* For calls that release something: as driver_enter(NEED_CONTEXT), but goes on in spite of a sticky
 * error, which *sticky then holds. */
abi_result driver_enter_release(abi_result *sticky);

/* A HOST finding (when that check is on) and the text of emu_last_message; returns result. */
abi_result driver_refuse(abi_result result, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void driver_message(const char *format, ...) __attribute__((format(printf, 1, 2)));

abi_result driver_open_state(void); /* memory, executor; called with the lock held */
void driver_close_state(void);
uint64_t driver_random(void);
int driver_has_context(void);
void driver_context_gone(void); /* thread-local currents that point to it become void */

void link_init(link *list);
void link_add(link *list, link *item);
void link_remove(link *item);
int link_holds(const link *list, const void *item);
#define LINK_ITEM(type, pointer) ((type *)(void *)(pointer)) /* link is the first member */

/* driver_stream.c */
/* The stream of a handle, NULL when it is none. */
stream_object *stream_of(abi_stream handle);
/* Puts *work at the end of the stream's queue, or into the graph that it captures. Takes over what
 * the op owns, also on failure. */
abi_result stream_enqueue(stream_object *s, const op *work);
/* Runs work until the stream's queue, or every queue, is empty. */
abi_result stream_drain(stream_object *s);
abi_result stream_drain_all(void);
void stream_discard(stream_object *s);
/* A call that a capture forbids (allocation, synchronisation, ...): 900 while the calling thread
 * may not make it. */
abi_result capture_forbids(const char *call);
void op_free(op *work);
int op_copy(op *to, const op *from);
abi_result op_run(op *work);

/* driver_graph.c */
abi_result capture_add(stream_object *s, const op *work);
abi_result capture_record(stream_object *s, event_object *e);
abi_result capture_wait(stream_object *s, event_object *e);
void capture_abandon(stream_object *s);
abi_result executable_run(executable_object *x);
void executable_release(executable_object *x);
void graphs_free_all(void);

/* driver_module.c */
void module_free(module_object *m);
abi_result launch_run(launch_op *work);

/* driver_memory.c */
abi_result copy_run(const copy_op *work);
abi_result set_run(const set_op *work);
void copy_poison(const copy_op *work); /* what a host reads before the copy is done */

/* cublaslt.c */
struct matmul_op *matmul_copy(const struct matmul_op *from);
void matmul_free(struct matmul_op *work);
abi_result matmul_run(const struct matmul_op *work);
void lt_free_all(void);

/* counters.c */
void counters_add(const function_object *f, const insn_count *counts, uint64_t n_blocks,
                  int64_t nanoseconds);
void counters_add_matmul(uint64_t flops, int64_t nanoseconds); /* as kernel "cublasLtMatmul" */
void counters_clear(void);

#endif
