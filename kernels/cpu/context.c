/* What every attention does with its result: contexts of the heads become a row in its forms. */
#include <string.h>

#include "kernels/cpu/cpu.h"

cpu_context cpu_context_open(ops_context *ctx, ops_tensor *out)
{
    bool operand = (out->uses & OPS_USE_OPERAND) != 0;
    cpu_context c = {.out = out, .value_ld = cpu_stride_floats(out->cols)};
    if (cpu_has_value(ctx, out)) {
        c.value = out->value;
    } else if (ctx->dtype == OPS_INT8) {
        c.value = ops_take(ctx, (size_t)out->rows * c.value_ld * sizeof(float));
    }
    if (ctx->dtype == OPS_BF16 && operand) {
        c.half = out->operand;
        c.half_ld = cpu_stride(out->cols, sizeof(uint16_t)) / sizeof(uint16_t);
    }
    if (ctx->dtype == OPS_INT8 && operand) {
        size_t row_bytes = CPU_FINISH_ROWS * cpu_stride(out->cols, sizeof(float));
        c.row = ops_take(ctx, (size_t)team_size(ctx->team) * row_bytes);
    }
    return c;
}

void cpu_context_zero(const cpu_context *c, size_t row, int32_t rows, size_t column, int32_t n)
{
    for (size_t r = row; r < row + (size_t)rows; r++) {
        size_t count = (size_t)n;
        if (c->value != NULL) memset(c->value + r * c->value_ld + column, 0, count * sizeof(float));
        if (c->half != NULL) memset(c->half + r * c->half_ld + column, 0, count * sizeof(uint16_t));
    }
}

typedef struct quantise_job {
    const cpu_rows *kernels;
    cpu_finish finish;
    int32_t rows;
    float *row;
} quantise_job;

static void quantise_work(void *context, int worker, int n_workers)
{
    const quantise_job *job = context;
    cpu_finish f = job->finish;
    f.row = job->row + (size_t)worker * CPU_FINISH_ROWS * cpu_stride_floats(f.cols);
    job->kernels->finish(&f, cpu_share(job->rows, worker, n_workers),
                         cpu_share(job->rows, worker + 1, n_workers));
}

void cpu_context_finish(ops_context *ctx, const cpu_context *c)
{
    /* heads write whole heads only; the lanes past the last one are zero by contract */
    int32_t cols = c->out->cols;
    cpu_context_zero(c, 0, c->out->rows, (size_t)cols, cpu_round_up(cols, CPU_PANEL) - cols);
    if (ctx->dtype != OPS_INT8 || (c->out->uses & OPS_USE_OPERAND) == 0) return;
    quantise_job job = {
        .kernels = cpu_level_of(ctx)->rows,
        .finish = cpu_finish_into(ctx, c->out),
        .rows = c->out->rows,
        .row = c->row,
    };
    job.finish.src = c->value;
    job.finish.src_ld = c->value_ld;
    job.finish.value = NULL;
    team_run(ctx->team, quantise_work, &job);
}
