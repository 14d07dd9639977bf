#include "kernels/cuda/lab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/context.h"

typedef struct stopwatch {
    cu_event begin, end;
} stopwatch;

static crank_status stopwatch_open(cuda_device *d, stopwatch *w, crank_error *error)
{
    *w = (stopwatch){0};
    CUDA_TRY(d, event_create(&w->begin, 0), "creating an event", error);
    return cuda_check(d, d->api.event_create(&w->end, 0), "creating an event", error);
}

static void stopwatch_close(cuda_device *d, stopwatch *w)
{
    if (w->begin != NULL) d->api.event_destroy(w->begin);
    if (w->end != NULL) d->api.event_destroy(w->end);
}

/* Microseconds between the two events, which have been recorded on s's stream. */
static crank_status elapsed(cuda_device *d, const stopwatch *w, double *us, crank_error *error)
{
    float ms = 0;
    CUDA_TRY(d, event_synchronize(w->end), "waiting for an event", error);
    CUDA_TRY(d, event_elapsed(&ms, w->begin, w->end), "reading an event", error);
    *us = (double)ms * 1e3;
    return CRANK_OK;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The graph of `repeats` times the list. */
static crank_status capture(cuda_device *d, cuda_stream *s, size_t bytes, int repeats,
                            cu_graph_exec *exec, crank_error *error)
{
    cu_graph graph = NULL;
    *exec = NULL;
    CUDA_TRY(d, capture_begin(s->stream, CU_FLAG_CAPTURE_THREAD_LOCAL), "capturing", error);
    crank_status status = CRANK_OK;
    for (int i = 0; i < repeats && status == CRANK_OK; i++)
        status = cuda_issue(d, s, s->list, bytes, error);
    cu_result ended = d->api.capture_end(s->stream, &graph);
    if (status == CRANK_OK) status = cuda_check(d, ended, "ending a capture", error);
    if (status == CRANK_OK)
        status =
            cuda_check(d, d->api.graph_instantiate(exec, graph, 0), "instantiating a graph", error);
    if (graph != NULL) d->api.graph_destroy(graph);
    return status;
}

crank_status cuda_lab_time(ops_context *ctx, int repeats, cuda_lab_times *times, crank_error *error)
{
    cuda_device *d = ctx->device;
    cuda_stream *s = ctx->stream;
    size_t bytes = s->list_used;
    double samples[CUDA_LAB_ROUNDS];
    stopwatch watch = {0};
    cu_graph_exec exec = NULL;
    crank_status status = CRANK_OK;
    *times = (cuda_lab_times){0};
    cuda_lab_drop(ctx);
    if (bytes == 0) return status_fail(error, CRANK_INTERNAL, "cuda: nothing to time");
    CRANK_TRY_GOTO(cuda_enter(d, error));
    CRANK_TRY_GOTO(stopwatch_open(d, &watch, error));
    CRANK_TRY_GOTO(capture(d, s, bytes, repeats, &exec, error));
    for (int round = -2; round < CUDA_LAB_ROUNDS; round++) { /* two to warm up */
        double us;
        CRANK_TRY_GOTO(cuda_check(d, d->api.event_record(watch.begin, s->stream), "timing", error));
        CRANK_TRY_GOTO(cuda_check(d, d->api.graph_launch(exec, s->stream), "timing", error));
        CRANK_TRY_GOTO(cuda_check(d, d->api.event_record(watch.end, s->stream), "timing", error));
        CRANK_TRY_GOTO(elapsed(d, &watch, &us, error));
        if (round >= 0) samples[round] = us / repeats;
    }
    qsort(samples, CUDA_LAB_ROUNDS, sizeof samples[0], compare_doubles);
    *times = (cuda_lab_times){samples[CUDA_LAB_ROUNDS / 2], samples[0], CUDA_LAB_ROUNDS * repeats};
out:
    if (exec != NULL) d->api.graph_exec_destroy(exec);
    stopwatch_close(d, &watch);
    return status;
}

void cuda_lab_drop(ops_context *ctx)
{
    cuda_stream *s = ctx->stream;
    s->list_used = 0;
    s->n_outputs = 0;
    s->out_used = 0;
}

void cuda_lab_kernels(const ops_context *ctx, char *text, size_t bytes)
{
    const cuda_stream *s = ctx->stream;
    size_t used = 0;
    text[0] = 0;
    for (size_t at = 0; at < s->list_used;) {
        const char *symbol = cuda_list_next(s, &at);
        if (strstr(text, symbol) != NULL) continue;
        int wrote = snprintf(text + used, bytes - used, "%s%s", used > 0 ? "+" : "", symbol);
        if (wrote < 0 || (size_t)wrote >= bytes - used) return;
        used += (size_t)wrote;
    }
}

crank_status cuda_lab_run(ops_context *ctx, crank_error *error)
{
    cuda_device *d = ctx->device;
    cuda_stream *s = ctx->stream;
    size_t bytes = s->list_used;
    cuda_lab_drop(ctx);
    CRANK_TRY(cuda_enter(d, error));
    CRANK_TRY(cuda_issue(d, s, s->list, bytes, error));
    return cuda_check(d, d->api.stream_synchronize(s->stream), "waiting for the GPU", error);
}

/* ---- peaks -------------------------------------------------------------------------------------
 */

#define PEAK_ITERATIONS 4096
#define PEAK_BYTES ((size_t)512 << 20) /* ten times the largest L2 cache */

static cu_function find(const cuda_device *d, const char *name)
{
    cu_function function = NULL;
    for (int m = 0; m < d->n_modules; m++)
        if (d->api.module_function(&function, d->modules[m], name) == CU_SUCCESS) return function;
    return NULL;
}

/* The best of five launches, in microseconds. */
static crank_status best_of(cuda_device *d, cuda_stream *s, const char *name, unsigned blocks,
                            peak_args *args, double *best_us, crank_error *error)
{
    stopwatch watch;
    void *parameters[] = {args};
    cu_function function = find(d, name);
    cu_launch_config config = {.grid = {blocks, 1, 1}, .block = {256, 1, 1}, .stream = s->stream};
    *best_us = 0;
    if (function == NULL) return status_fail(error, CRANK_INTERNAL, "cuda: no kernel %s", name);
    crank_status status = stopwatch_open(d, &watch, error);
    for (int round = -1; round < 5 && status == CRANK_OK; round++) {
        double us = 0;
        status = cuda_check(d, d->api.event_record(watch.begin, s->stream), name, error);
        if (status == CRANK_OK)
            status = cuda_check(d, d->api.launch(&config, function, parameters, NULL), name, error);
        if (status == CRANK_OK)
            status = cuda_check(d, d->api.event_record(watch.end, s->stream), name, error);
        if (status == CRANK_OK) status = elapsed(d, &watch, &us, error);
        if (round == 0 || (round > 0 && us < *best_us)) *best_us = us;
    }
    stopwatch_close(d, &watch);
    return status;
}

crank_status cuda_lab_measure_peaks(ops_context *ctx, bool quick, cuda_lab_peaks *peaks,
                                    crank_error *error)
{
    static const struct {
        ops_dtype dtype;
        const char *kernel;
        double flops; /* of one mma */
    } tensor[] = {{OPS_F16, "peak_mma_f16", 4096},
                  {OPS_BF16, "peak_mma_bf16", 4096},
                  {OPS_INT8, "peak_mma_int8", 8192}};
    cuda_device *d = ctx->device;
    cuda_stream *s = ctx->stream;
    cu_address memory;
    crank_status status = CRANK_OK;
    *peaks = (cuda_lab_peaks){0};
    CRANK_TRY(cuda_enter(d, error));
    size_t buffer = quick ? PEAK_BYTES >> 10 : PEAK_BYTES;
    CRANK_TRY(cuda_take(d, &memory, 2 * buffer, "measuring the memory's peak", error));
    peak_args args = {.source = (const void *)(uintptr_t)memory,
                      .target = (void *)(uintptr_t)(memory + buffer),
                      .n_vectors = (int32_t)(buffer / 16),
                      .iterations = quick ? PEAK_ITERATIONS >> 10 : PEAK_ITERATIONS};
    unsigned blocks = (unsigned)d->n_sms * 4;
    double us;
    CRANK_TRY_GOTO(cuda_check(d, d->api.set_bytes(memory, 0, 2 * buffer), "clearing", error));
    for (size_t i = 0; i < sizeof tensor / sizeof tensor[0]; i++) {
        CRANK_TRY_GOTO(best_of(d, s, tensor[i].kernel, blocks, &args, &us, error));
        peaks->gflops[tensor[i].dtype] =
            tensor[i].flops * 8 * args.iterations * 8 * blocks / us / 1e3;
    }
    CRANK_TRY_GOTO(best_of(d, s, "peak_copy", blocks * 4, &args, &us, error));
    peaks->gbps = 2.0 * (double)buffer / us / 1e3;
out:
    cuda_give(d, memory, 2 * buffer);
    return status;
}
