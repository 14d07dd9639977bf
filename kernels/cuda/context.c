#include "kernels/cuda/context.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/nvtx.h"
#include "memory.h"
#include "weights/dtype.h"

int32_t cuda_bucket(int32_t n)
{
    int32_t size = 16;
    while (size < n) {
        int32_t middle = size + size / 2;
        if (middle % 16 == 0 && n <= middle) return middle;
        if (size > INT32_MAX / 2) return INT32_MAX;
        size *= 2;
    }
    return size;
}

row_count cuda_rows(const ops_context *ctx, int32_t rows)
{
    const int32_t *header = (const int32_t *)(uintptr_t)cuda_stream_of(ctx)->in_device;
    if (rows == ctx->batch.n_tokens) return (row_count){.device = header + BATCH_TOKENS};
    if (rows == ctx->batch.n_sequences) return (row_count){.device = header + BATCH_SEQUENCES};
    return (row_count){.value = rows};
}

int32_t cuda_grid_rows(const ops_context *ctx, int32_t rows)
{
    return rows == ctx->batch.n_tokens || rows == ctx->batch.n_sequences ? cuda_bucket(rows) : rows;
}

/* Ranges for profilers (nvtx.h); name NULL: none. */
static void range_push(const cuda_device *d, const char *name)
{
    if (d->ranges && name != NULL) cuda_range_push(name);
}

static void range_pop(const cuda_device *d, const char *name)
{
    if (d->ranges && name != NULL) cuda_range_pop();
}

/* ---- the list of launches ----------------------------------------------------------------------
 */

/* A record is this and then the arguments: a kernel's structure, or a matmul_call. */
enum { RECORD_MATMUL = -2 };

typedef struct launch {
    const char *op; /* ops_context.op when it was recorded */
    int32_t n_op;
    int32_t kernel; /* or RECORD_MATMUL */
    uint32_t grid[3], threads, shared_bytes, args_bytes, record_bytes, unused;
} launch;

#define ARGS_MOST 512

crank_status cuda_issue_kernel(cuda_device *d, cu_stream stream, int kernel, uint32_t grid_x,
                               uint32_t grid_y, uint32_t grid_z, uint32_t threads,
                               uint32_t shared_bytes, const void *args, size_t args_bytes,
                               crank_error *error)
{
    cu_launch_attribute overlap = {.id = CU_ATTRIBUTE_OVERLAP};
    overlap.value.programmatic_serialization_allowed = 1;
    /* One structure by value is the kernel's only parameter. */
    union {
        uint64_t align;
        uint8_t bytes[ARGS_MOST];
    } copy;
    memcpy(copy.bytes, args, args_bytes);
    void *parameters[] = {copy.bytes};
    cu_launch_config config = {.grid = {grid_x, grid_y, grid_z},
                               .block = {threads, 1, 1},
                               .shared_bytes = shared_bytes,
                               .stream = stream,
                               .attributes = &overlap,
                               .n_attributes = d->overlap ? 1 : 0};
    return cuda_check(d, d->api.launch(&config, d->functions[kernel], parameters, NULL),
                      cuda_kernels[kernel].symbol, error);
}

static crank_status issue_matmul(cuda_device *d, cuda_stream *s, const uint8_t *args,
                                 crank_error *error)
{
    matmul_call c;
    crank_error why = {0};
    memcpy(&c, args, sizeof c);
    crank_status status = cublaslt_run(&d->matmul.lt, &c, s->stream, &why);
    if (status != CRANK_OK)
        status_fail(error, status, "cuda:%d: cuBLASLt: %s", d->ordinal, why.message);
    return status;
}

crank_status cuda_issue(cuda_device *d, cuda_stream *s, const uint8_t *list, size_t bytes,
                        crank_error *error)
{
    crank_status status = CRANK_OK;
    int32_t n_op = -1;
    for (size_t at = 0; at < bytes && status == CRANK_OK;) {
        launch l;
        memcpy(&l, list + at, sizeof l);
        if (d->ranges && l.n_op != n_op) {
            if (n_op >= 0) cuda_range_pop();
            cuda_range_push(l.op);
            n_op = l.n_op;
        }
        const uint8_t *args = list + at + sizeof l;
        if (l.kernel == RECORD_MATMUL)
            status = issue_matmul(d, s, args, error);
        else
            status = cuda_issue_kernel(d, s->stream, l.kernel, l.grid[0], l.grid[1], l.grid[2],
                                       l.threads, l.shared_bytes, args, l.args_bytes, error);
        at += l.record_bytes;
    }
    if (n_op >= 0) cuda_range_pop();
    return status;
}

const char *cuda_list_next(const cuda_stream *s, size_t *at)
{
    static const char *const names[2][MATMUL_N_KINDS] = {
        {"cublaslt_f16_bias", "cublaslt_f16_residual", "cublaslt_f16_gelu_tanh", "cublaslt_f16"},
        {"cublaslt_bf16_bias", "cublaslt_bf16_residual", "cublaslt_bf16_gelu_tanh",
         "cublaslt_bf16"}};
    launch l;
    memcpy(&l, s->list + *at, sizeof l);
    const uint8_t *args = s->list + *at + sizeof l;
    *at += l.record_bytes;
    if (l.kernel != RECORD_MATMUL) return cuda_kernels[l.kernel].symbol;
    matmul_call c;
    memcpy(&c, args, sizeof c);
    return names[c.problem.dtype == OPS_BF16][c.problem.kind];
}

/* Launches what is on the list, waits, and hands out finished outputs. */
static crank_status finish(ops_context *ctx, crank_error *error)
{
    cuda_device *d = ctx->device;
    cuda_stream *s = ctx->stream;
    size_t bytes = s->list_used;
    s->list_used = 0;
    s->issued = s->issued || bytes > 0;
    range_push(d, bytes > 0 ? "launch" : NULL);
    crank_status status = cuda_issue(d, s, s->list, bytes, error);
    range_pop(d, bytes > 0 ? "launch" : NULL);
    CRANK_TRY(status);
    range_push(d, "wait");
    cu_result waited = d->api.stream_synchronize(s->stream);
    range_pop(d, "wait");
    CRANK_TRY(cuda_check(d, waited, "waiting for the GPU", error));
    for (int i = 0; i < s->n_outputs; i++) {
        const cuda_output *o = &s->outputs[i];
        memcpy(o->target, s->out + o->offset, o->count * sizeof(float));
    }
    s->n_outputs = 0;
    s->out_used = 0;
    return CRANK_OK;
}

static bool finish_now(ops_context *ctx)
{
    crank_error error = {0};
    crank_status status = finish(ctx, &error);
    if (status != CRANK_OK) ops_fail(ctx, status, "%s", error.message);
    return status == CRANK_OK;
}

static void append(ops_context *ctx, launch *l, const void *args, size_t args_bytes)
{
    cuda_stream *s = ctx->stream;
    l->op = ctx->op;
    l->n_op = ctx->n_ops;
    l->args_bytes = (uint32_t)args_bytes;
    l->record_bytes = (uint32_t)((sizeof *l + args_bytes + 7) / 8 * 8);
    if (l->record_bytes > CUDA_LIST_BYTES - s->list_used && !finish_now(ctx)) return;
    uint8_t *at = s->list + s->list_used;
    memset(at, 0, l->record_bytes);
    memcpy(at, l, sizeof *l);
    memcpy(at + sizeof *l, args, args_bytes);
    s->list_used += l->record_bytes;
}

void cuda_launch(ops_context *ctx, int kernel, uint32_t grid_x, uint32_t grid_y, uint32_t grid_z,
                 uint32_t threads, uint32_t shared_bytes, const void *args, size_t args_bytes)
{
    if (ctx->dry || ctx->failure != CRANK_OK) return;
    const cuda_device *d = ctx->device;
    if (kernel < 0) {
        ops_fail(ctx, CRANK_INTERNAL, "cuda: no kernel for this op");
        return;
    }
    if (shared_bytes > (uint32_t)(d->shared_bytes - d->shared_static[kernel])) {
        ops_fail(ctx, CRANK_UNSUPPORTED,
                 "cuda:%d: %s needs %u bytes of shared memory for this batch, a block may have %d: "
                 "shorter texts (--max-length) or another device",
                 d->ordinal, cuda_kernels[kernel].symbol, shared_bytes,
                 d->shared_bytes - d->shared_static[kernel]);
        return;
    }
    launch l = {.kernel = kernel,
                .grid = {grid_x, grid_y, grid_z},
                .threads = threads,
                .shared_bytes = shared_bytes};
    append(ctx, &l, args, args_bytes);
}

void cuda_matmul_call(ops_context *ctx, const matmul_call *c)
{
    if (ctx->dry || ctx->failure != CRANK_OK) return;
    launch l = {.kernel = RECORD_MATMUL};
    append(ctx, &l, c, sizeof *c);
}

/* ---- graphs ------------------------------------------------------------------------------------
 */

static void graph_drop(cuda_device *d, cuda_graph *g)
{
    if (g->exec != NULL && cuda_enter(d, NULL) == CRANK_OK) d->api.graph_exec_destroy(g->exec);
    mem_free(g->list);
    *g = (cuda_graph){0};
}

/* The slot of this list; a new slot (the longest unused one) when it was never seen. */
static cuda_graph *graph_slot(cuda_device *d, cuda_stream *s, uint64_t hash)
{
    cuda_graph *oldest = &s->graphs[0];
    for (int i = 0; i < CUDA_GRAPHS; i++) {
        cuda_graph *g = &s->graphs[i];
        if (g->hash == hash) return g;
        if (g->last_used < oldest->last_used) oldest = g;
    }
    graph_drop(d, oldest);
    oldest->hash = hash;
    return oldest;
}

/* Captures the list into g. Whatever fails here (but a lost device) leaves plain launches. */
static crank_status graph_make(cuda_device *d, cuda_stream *s, cuda_graph *g, crank_error *error)
{
    cu_graph graph = NULL;
    CUDA_TRY(d, capture_begin(s->stream, CU_FLAG_CAPTURE_THREAD_LOCAL), "capturing", error);
    range_push(d, "capture");
    crank_status status = cuda_issue(d, s, s->list, s->list_used, error);
    range_pop(d, "capture");
    cu_result ended = d->api.capture_end(s->stream, &graph);
    if (status == CRANK_OK) status = cuda_check(d, ended, "ending a capture", error);
    if (status == CRANK_OK)
        status = cuda_check(d, d->api.graph_instantiate(&g->exec, graph, 0),
                            "instantiating a graph", error);
    if (graph != NULL) d->api.graph_destroy(graph);
    if (status != CRANK_OK) g->exec = NULL;
    return status;
}

/* True when the list was given to the GPU as a graph. */
static crank_status launch_graph(ops_context *ctx, bool *launched, crank_error *error)
{
    cuda_device *d = ctx->device;
    cuda_stream *s = ctx->stream;
    *launched = false;
    if (s->list_used == 0 || s->issued) return CRANK_OK;
    uint64_t hash = XXH3_64bits(s->list, s->list_used) | 1;
    cuda_graph *g = graph_slot(d, s, hash);
    bool seen = g->last_used != 0;
    g->last_used = s->n_batches;
    if (!seen) return CRANK_OK;
    if (g->exec == NULL && g->list == NULL) {
        g->list = mem_alloc(s->list_used);
        if (g->list == NULL) return CRANK_OK;
        memcpy(g->list, s->list, s->list_used);
        g->list_bytes = s->list_used;
        crank_error reason = {0};
        if (graph_make(d, s, g, &reason) != CRANK_OK && atomic_load(&d->lost) != 0) {
            if (error != NULL) *error = reason;
            return reason.status;
        }
    }
    if (g->exec == NULL || g->list_bytes != s->list_used ||
        memcmp(g->list, s->list, s->list_used) != 0)
        return CRANK_OK;
    range_push(d, "graph");
    cu_result result = d->api.graph_launch(g->exec, s->stream);
    range_pop(d, "graph");
    CRANK_TRY(cuda_check(d, result, "launching a graph", error));
    s->list_used = 0;
    s->n_graph_batches++;
    *launched = true;
    return CRANK_OK;
}

/* ---- batches -----------------------------------------------------------------------------------
 */

const int32_t cuda_tile_rows[2] = {16, 64};

/* Places of the arrays, from the size buckets alone. */
static void lay_out(cuda_stream *s, const ops_batch *b)
{
    size_t tokens = (size_t)cuda_bucket(b->n_tokens), pairs = (size_t)cuda_bucket(b->n_sequences);
    s->ids = BATCH_HEADER;
    s->types = s->ids + tokens;
    s->positions = s->types + tokens;
    s->starts = s->positions + tokens;
    s->key_counts = s->starts + pairs + 16;
    size_t at = s->key_counts + pairs;
    for (int i = 0; i < 2; i++) {
        s->max_tiles[i] = (int32_t)(tokens / (size_t)cuda_tile_rows[i] + pairs);
        s->tiles[i] = at;
        at += (2 * (size_t)s->max_tiles[i] + 3) / 4 * 4;
    }
    s->in_used = at;
}

static void copy_ints(int32_t *to, const int32_t *from, int32_t n)
{
    if (from != NULL)
        memcpy(to, from, (size_t)n * sizeof *to);
    else
        memset(to, 0, (size_t)n * sizeof *to);
}

static void fill_input(cuda_stream *s, const ops_batch *b)
{
    int32_t *in = s->in;
    memset(in, 0, BATCH_HEADER * sizeof *in);
    in[BATCH_TOKENS] = b->n_tokens;
    in[BATCH_SEQUENCES] = b->n_sequences;
    copy_ints(in + s->ids, b->ids, b->n_tokens);
    copy_ints(in + s->types, b->types, b->n_tokens);
    copy_ints(in + s->positions, b->positions, b->n_tokens);
    copy_ints(in + s->starts, b->starts, b->n_sequences + 1);
    if (b->key_counts != NULL) copy_ints(in + s->key_counts, b->key_counts, b->n_sequences);
    for (int i = 0; i < 2; i++) {
        int32_t *tile = in + s->tiles[i], n = 0;
        for (int32_t sequence = 0; sequence < b->n_sequences; sequence++) {
            int32_t length = b->starts[sequence + 1] - b->starts[sequence];
            for (int32_t row = 0; row < length; row += cuda_tile_rows[i], n++) {
                tile[2 * n] = sequence;
                tile[2 * n + 1] = row;
            }
        }
        in[BATCH_TILES + i] = n;
    }
}

static crank_status pinned(cuda_device *d, void **host, cu_address *mapped, size_t bytes,
                           crank_error *error)
{
    *host = NULL;
    CUDA_TRY(d, host_alloc(host, bytes, CU_FLAG_HOST_PORTABLE | CU_FLAG_HOST_MAPPED),
             "allocating pinned memory", error);
    crank_status status =
        cuda_check(d, d->api.host_address(mapped, *host, 0), "mapping pinned memory", error);
    if (status == CRANK_OK) {
        memset(*host, 0, bytes);
    } else {
        d->api.host_free(*host);
        *host = NULL;
    }
    return status;
}

/* Half as much again as needed, so that growing batches do not reallocate every time. */
static size_t with_room(size_t n)
{
    return n + n / 2;
}

static crank_status grow_input(cuda_device *d, cuda_stream *s, crank_error *error)
{
    if (s->in_used <= s->in_capacity) return CRANK_OK;
    size_t capacity = with_room(s->in_used);
    void *in;
    cu_address mapped, on_device;
    CRANK_TRY(pinned(d, &in, &mapped, capacity * sizeof(int32_t), error));
    crank_status status =
        cuda_take(d, &on_device, capacity * sizeof(int32_t), "a batch's integers", error);
    if (status != CRANK_OK) {
        d->api.host_free(in);
        return status;
    }
    if (s->in != NULL) d->api.host_free(s->in);
    cuda_give(d, s->in_device, s->in_capacity * sizeof(int32_t));
    s->in = in;
    s->in_mapped = mapped;
    s->in_device = on_device;
    s->in_capacity = capacity;
    return CRANK_OK;
}

static crank_status grow_output(cuda_device *d, cuda_stream *s, size_t capacity, crank_error *error)
{
    void *out;
    cu_address mapped;
    CRANK_TRY(pinned(d, &out, &mapped, capacity * sizeof(float), error));
    if (s->out != NULL) d->api.host_free(s->out);
    s->out = out;
    s->out_mapped = mapped;
    s->out_capacity = capacity;
    return CRANK_OK;
}

static void *in_device(const cuda_stream *s, size_t offset)
{
    return (void *)(uintptr_t)(s->in_device + offset * sizeof(int32_t));
}

crank_status cuda_begin(ops_context *ctx, const ops_batch *host, crank_error *error)
{
    cuda_device *d = ctx->device;
    cuda_stream *s = ctx->stream;
    CRANK_TRY(cuda_enter(d, error));
    s->list_used = 0;
    s->issued = false;
    s->n_outputs = 0;
    s->out_used = 0;
    s->n_batches++;
    lay_out(s, host);
    CRANK_TRY(grow_input(d, s, error));
    fill_input(s, host);
    ops_batch *b = &ctx->batch;
    b->ids = in_device(s, s->ids);
    b->types = in_device(s, s->types);
    b->positions = in_device(s, s->positions);
    b->starts = in_device(s, s->starts);
    if (host->key_counts != NULL) b->key_counts = in_device(s, s->key_counts);
    copy_args args = {.source = (const void *)(uintptr_t)s->in_mapped,
                      .target = in_device(s, 0),
                      .n_vectors = (int32_t)(s->in_used / 4)};
    cuda_launch(ctx, cuda_find(KERNEL_BATCH_COPY, OPS_F32, 0),
                (uint32_t)((args.n_vectors + 255) / 256), 1, 1, 256, 0, &args, sizeof args);
    return CRANK_OK;
}

crank_status cuda_end(ops_context *ctx, crank_error *error)
{
    cuda_device *d = ctx->device;
    cuda_stream *s = ctx->stream;
    if (ctx->failure != CRANK_OK) { /* leave nothing in flight */
        s->list_used = 0;
        s->n_outputs = 0;
        if (atomic_load(&d->lost) == 0) d->api.stream_synchronize(s->stream);
        return CRANK_OK;
    }
    bool launched;
    range_push(d, "forward");
    crank_status status = launch_graph(ctx, &launched, error);
    if (status == CRANK_OK) status = finish(ctx, error);
    range_pop(d, "forward");
    return status;
}

/* ---- memory ------------------------------------------------------------------------------------
 */

float *cuda_output_floats(ops_context *ctx, float *target, size_t count)
{
    cuda_device *d = ctx->device;
    cuda_stream *s = ctx->stream;
    if (s->n_outputs == CUDA_OUTPUTS || count > s->out_capacity - s->out_used) {
        if (!finish_now(ctx)) return NULL;
    }
    if (count > s->out_capacity) {
        crank_error error = {0};
        crank_status status = grow_output(d, s, with_room(count), &error);
        if (status != CRANK_OK) {
            ops_fail(ctx, status, "%s", error.message);
            return NULL;
        }
    }
    size_t offset = s->out_used;
    s->outputs[s->n_outputs++] = (cuda_output){target, offset, count};
    s->out_used += (count + 3) / 4 * 4;
    if (s->out_used > s->out_capacity) s->out_used = s->out_capacity;
    return (float *)(uintptr_t)(s->out_mapped + offset * sizeof(float));
}

void cuda_tensor(ops_context *ctx, ops_tensor *t)
{
    /* Rows are rounded up to the bucket, so that addresses depend on buckets alone. */
    size_t rows = (size_t)cuda_bucket(t->rows), ld = (size_t)ARGS_LD(t->cols);
    bool int8 = ctx->dtype == OPS_INT8;
    if ((t->uses & OPS_USE_VALUE) != 0 || !int8) t->value = ops_take(ctx, rows * ld * 2);
    if ((t->uses & OPS_USE_OPERAND) == 0) return;
    if (int8) {
        t->operand = ops_take(ctx, rows * ld);
        t->scale = ops_take(ctx, rows * (sizeof(float) + sizeof(int32_t))); /* and cuda_zeros */
    } else {
        t->operand = t->value;
    }
}

void cuda_read_f32(ops_context *ctx, float *rows, const ops_tensor *x)
{
    if (ctx->failure != CRANK_OK || x->rows == 0 || !finish_now(ctx)) return;
    cuda_device *d = ctx->device;
    size_t cols = (size_t)x->cols, ld = (size_t)ARGS_LD(x->cols), n = (size_t)x->rows;
    uint16_t *bits = mem_array(n * ld, sizeof *bits);
    if (bits == NULL) {
        ops_fail(ctx, CRANK_OUT_OF_MEMORY, "no memory for a trace");
        return;
    }
    crank_error error = {0};
    /* The last row's padding may lie behind what a caller made up (tests read single rows). */
    crank_status status = cuda_check(
        d, d->api.copy_to_host(bits, (cu_address)(uintptr_t)x->value, ((n - 1) * ld + cols) * 2),
        "reading a tensor", &error);
    if (status != CRANK_OK) ops_fail(ctx, status, "%s", error.message);
    for (size_t r = 0; r < n && status == CRANK_OK; r++) {
        for (size_t c = 0; c < cols; c++) {
            uint16_t v = bits[r * ld + c];
            rows[r * cols + c] =
                ctx->dtype == OPS_BF16 ? dtype_f32_from_bf16(v) : dtype_f32_from_f16(v);
        }
    }
    mem_free(bits);
}

crank_status cuda_context_open(ops_context *ctx, size_t workspace_bytes, crank_error *error)
{
    cuda_device *d = ctx->device;
    CRANK_TRY(cuda_enter(d, error));
    cuda_stream *s = mem_zero(1, sizeof *s);
    CRANK_CHECK(s != NULL, OUT_OF_MEMORY, error, "no memory for a context");
    ctx->stream = s;
    crank_status status = CRANK_OK;
    s->list = mem_alloc(CUDA_LIST_BYTES);
    CRANK_CHECK_GOTO(s->list != NULL, OUT_OF_MEMORY, error, "no memory for a context");
    CRANK_TRY_GOTO(cuda_check(d, d->api.stream_create(&s->stream, CU_FLAG_STREAM_NON_BLOCKING),
                              "creating a stream", error));
    CRANK_TRY_GOTO(cuda_take(d, &s->arena, workspace_bytes, "a batch's activations", error));
    s->arena_bytes = workspace_bytes;
    /* cuBLASLt computes whole buckets: rows past a batch's last are read, though nobody reads what
     * comes of them. */
    if (atomic_load(&d->matmul.n_shapes) > 0)
        CRANK_TRY_GOTO(cuda_check(d, d->api.set_bytes(s->arena, 0, workspace_bytes),
                                  "clearing memory", error));
    CRANK_TRY_GOTO(
        cuda_take(d, &s->tickets, CUDA_TICKETS * sizeof(uint32_t), "the head's tickets", error));
    CRANK_TRY_GOTO(cuda_check(d, d->api.set_bytes(s->tickets, 0, CUDA_TICKETS * sizeof(uint32_t)),
                              "clearing memory", error));
    CRANK_TRY_GOTO(cuda_check(d, d->api.stream_synchronize(NULL), "clearing memory", error));
    CRANK_TRY_GOTO(grow_output(d, s, CUDA_OUTPUT_FLOATS, error));
    /* The session's largest batch, which the dry run left here, sizes the input buffers. */
    if (ctx->batch.n_tokens > 0) {
        lay_out(s, &ctx->batch);
        CRANK_TRY_GOTO(grow_input(d, s, error));
    }
    ctx->workspace =
        (ops_workspace){.base = (uint8_t *)(uintptr_t)s->arena, .capacity = workspace_bytes};
    return CRANK_OK;
out:
    cuda_context_close(ctx);
    return status;
}

void cuda_context_close(ops_context *ctx)
{
    cuda_device *d = ctx->device;
    cuda_stream *s = ctx->stream;
    if (s == NULL) return;
    bool usable = cuda_enter(d, NULL) == CRANK_OK;
    for (int i = 0; i < CUDA_GRAPHS; i++) graph_drop(d, &s->graphs[i]);
    if (usable) {
        if (s->stream != NULL) d->api.stream_destroy(s->stream);
        if (s->in != NULL) d->api.host_free(s->in);
        if (s->out != NULL) d->api.host_free(s->out);
    }
    cuda_give(d, s->in_device, s->in_capacity * sizeof(int32_t));
    cuda_give(d, s->tickets, CUDA_TICKETS * sizeof(uint32_t));
    cuda_give(d, s->arena, s->arena_bytes);
    mem_free(s->list);
    mem_free(s);
    ctx->stream = NULL;
    ctx->workspace = (ops_workspace){0};
}
