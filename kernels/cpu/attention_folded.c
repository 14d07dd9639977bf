/* One query row per sequence with the key and value projections folded away (ops.h, ops_fold).
 * Per sequence, for a range of heads at once: u = q Wk, scores = u . x, softmax, c = p x,
 * out = c Wv + bv; all f32, whatever the dtype of the linears. Threads share (sequence, head). */
#include "kernels/cpu/cpu.h"

typedef struct folded_job {
    const ops_context *ctx;
    const cpu_rows *kernels;
    const ops_attention *a;
    const ops_fold *fold;
    const float *q, *x;
    size_t q_ld, x_ld, d_ld, s_ld;
    cpu_context out;
    float *scratch;
    size_t scratch_floats; /* of one worker: u [H, d_ld], c [H, d_ld], scores [H, s_ld] */
    size_t row_floats;     /* context of one sequence, before bf16 */
} folded_job;

static void fold_heads(const folded_job *job, float *scratch, int32_t sequence, int32_t first,
                       int32_t end)
{
    const cpu_rows *kernels = job->kernels;
    const ops_attention *a = job->a;
    const ops_batch *batch = &job->ctx->batch;
    int32_t start = batch->starts[sequence];
    int32_t n_keys = batch->starts[sequence + 1] - start, n = end - first;
    if (batch->key_counts != NULL) n_keys = batch->key_counts[sequence];
    int32_t width = a->head_width, d = job->fold->d;
    float *u = scratch, *c = u + (size_t)a->n_heads * job->d_ld;
    float *scores = c + (size_t)a->n_heads * job->d_ld;
    float *row = scores + (size_t)a->n_heads * job->s_ld;
    const float *x = job->x + (size_t)start * job->x_ld;
    size_t column = (size_t)first * (size_t)width;
    if (n_keys <= 0) {
        cpu_context_zero(&job->out, (size_t)sequence, 1, column, n * width);
        return;
    }
    const float *q = job->q + (size_t)sequence * job->q_ld + column;
    for (int32_t h = 0; h < n; h++) {
        kernels->combine(u + (size_t)h * job->d_ld, job->d_ld, q + (size_t)h * (size_t)width, 0, 1,
                         job->fold->key + (column + (size_t)h * (size_t)width) * (size_t)d,
                         (size_t)d, width, d, NULL);
    }
    kernels->dots(scores, job->s_ld, u, job->d_ld, n, x, job->x_ld, n_keys, d, NULL);
    for (int32_t h = 0; h < n; h++) {
        float inverse;
        cpu_softmax softmax = {
            .scores = scores + (size_t)h * job->s_ld,
            .ld = job->s_ld,
            .inverse = &inverse,
            .rows = 1,
            .end_key = cpu_round_up(n_keys, CPU_PANEL),
            .n_keys = n_keys,
            .window = a->window,
            .scale = a->scale,
        };
        if (a->distance_bias != NULL) {
            size_t reach = 2 * (size_t)a->distance_span - 1;
            softmax.bias = a->distance_bias + (size_t)(first + h) * reach + (a->distance_span - 1);
        }
        kernels->softmax(&softmax);
        kernels->scale_rows(softmax.scores, 0, NULL, 0, softmax.scores, 0, &inverse, 1, n_keys);
    }
    kernels->combine(c, job->d_ld, scores, job->s_ld, n, x, job->x_ld, n_keys, d, NULL);
    const cpu_context *out = &job->out;
    if (out->value != NULL) row = out->value + (size_t)sequence * out->value_ld + column;
    for (int32_t h = 0; h < n; h++) {
        size_t at = column + (size_t)h * (size_t)width;
        const float *bias = job->fold->value_bias;
        kernels->combine(row + (size_t)h * (size_t)width, 0, c + (size_t)h * job->d_ld, 0, 1,
                         job->fold->value + at, (size_t)job->fold->n, d, width,
                         bias != NULL ? bias + at : NULL);
    }
    if (out->half != NULL) {
        const float one = 1.0f;
        kernels->scale_rows(NULL, 0, out->half + (size_t)sequence * out->half_ld + column, 0, row,
                            0, &one, 1, n * width);
    }
}

static void folded_work(void *context, int worker, int n_workers)
{
    const folded_job *job = context;
    float *scratch = job->scratch + (size_t)worker * job->scratch_floats;
    int32_t heads = job->a->n_heads, items = job->ctx->batch.n_sequences * heads;
    int32_t last = cpu_share(items, worker + 1, n_workers);
    for (int32_t item = cpu_share(items, worker, n_workers); item < last;) {
        int32_t sequence = item / heads, first = item % heads;
        int32_t end = first + (last - item) < heads ? first + (last - item) : heads;
        fold_heads(job, scratch, sequence, first, end);
        item += end - first;
    }
}

void cpu_attention_rows_folded(ops_context *ctx, ops_tensor *out, const ops_tensor *q,
                               const ops_tensor *x, const ops_fold *fold, const ops_attention *a)
{
    size_t mark = ops_mark(ctx);
    int n_workers = team_size(ctx->team);
    folded_job job = {
        .ctx = ctx,
        .kernels = cpu_level_of(ctx)->rows,
        .a = a,
        .fold = fold,
        .q = q->value,
        .x = x->value,
        .q_ld = cpu_stride_floats(q->cols),
        .x_ld = cpu_stride_floats(x->cols),
        .d_ld = cpu_stride_floats(fold->d),
        .s_ld = cpu_stride_floats(ctx->batch.max_tokens),
        .out = cpu_context_open(ctx, out),
    };
    size_t heads = (size_t)a->n_heads;
    job.row_floats = cpu_stride_floats(out->cols);
    job.scratch_floats = heads * (2 * job.d_ld + job.s_ld) + job.row_floats;
    job.scratch = ops_take(ctx, (size_t)n_workers * job.scratch_floats * sizeof(float));
    if (!ctx->dry && ctx->failure == CRANK_OK && out->rows > 0) {
        team_run(ctx->team, folded_work, &job);
        cpu_context_finish(ctx, &job.out);
    }
    ops_release(ctx, mark);
}
