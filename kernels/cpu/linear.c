/* Linears: weight panels outside, rows inside, so that a micro-batch streams the weights once and
 * a stripe of 96 outputs is finished (activation, gate, bf16) while it is in the cache. What needs
 * a whole row (LayerNorm, the int8 scale) follows when its last stripe is done.
 *
 * Threads split the rows; when rows are few (one query row in the last layer) they split the
 * stripes instead and the row work follows in a second region. The order inside a sum is the
 * tile's either way. */
#include "kernels/cpu/cpu.h"

/* Rows that go through all stripes before the next ones come: a tile's activations, a stripe of
 * weights and the finished rows fit the second-level cache. */
#define BLOCK_ROWS 144
#define MIN_ROWS_PER_WORKER 18 /* two tiles; below, threads split the stripes */

typedef struct linear_job {
    const cpu_level *level;
    ops_dtype dtype;
    const ops_tensor *x;
    const ops_linear *linear;
    cpu_weight w; /* opened when it runs */
    ops_activation act;
    bool gated;
    int32_t rows, cols; /* of the output */
    size_t x_stride;
    cpu_fine fine; /* of x */
    /* destinations of the stripes */
    float *wide; /* [rows of a block, all outputs] f32: the value itself, or scratch */
    size_t wide_ld, wide_rows;
    bool wide_is_value; /* indexed by the row itself, not by the row within the worker's block */
    float *stripe;      /* [BLOCK_ROWS, 96] a worker, when a stripe is not finished in place */
    size_t stripe_ld;
    uint16_t *half; /* bf16 operand */
    size_t half_ld;
    bool finish_rows;  /* row work follows: norm or int8 */
    cpu_finish finish; /* src is set per block */
    float *row;        /* scratch rows, one a worker */
    bool by_stripes;
} linear_job;

static float *wide_rows_of(const linear_job *job, int worker, int32_t row)
{
    if (job->wide == NULL) return NULL;
    if (job->wide_is_value) return job->wide + (size_t)row * job->wide_ld;
    return job->wide + (size_t)worker * job->wide_rows * job->wide_ld;
}

/* Adds what the second codes of rows [row, row + n) give to what the first ones gave: each such row
 * is its own bias. */
static void add_fine_rows(const linear_job *job, const cpu_tile *tile, int32_t row)
{
    const cpu_fine *fine = &job->fine;
    for (int32_t i = cpu_fine_from(fine, row); i < fine->n; i = cpu_fine_next(fine, i)) {
        int32_t at = cpu_fine_row(fine, i) - row;
        if (at >= tile->rows) break;
        cpu_tile one = *tile;
        one.c = tile->c + (size_t)at * tile->ldc;
        one.bias = one.c;
        one.a = fine->operand + (size_t)i * job->x_stride;
        one.a_scale = fine->scale + i;
        one.a_zero = fine->zero + i;
        one.rows = 1;
        job->level->tile[job->dtype].run(&one);
    }
}

/* Stripes [first, end) of rows [row, row + n) into wide rows (those of `row` first) and half. */
static void run_stripes(const linear_job *job, int worker, int32_t row, int32_t n, int32_t first,
                        int32_t end, float *wide)
{
    const cpu_weight *w = &job->w;
    int32_t per_output = job->gated ? 2 : 1;
    for (int32_t s = first; s < end; s++) {
        int32_t panel = s * CPU_STRIPE_PANELS;
        int32_t panels = w->n_panels - panel;
        if (panels > CPU_STRIPE_PANELS) panels = CPU_STRIPE_PANELS;
        int32_t column = panel / per_output * CPU_PANEL;
        bool in_place = wide != NULL && !job->gated;
        float *c =
            in_place ? wide + column : job->stripe + (size_t)worker * BLOCK_ROWS * job->stripe_ld;
        size_t ldc = in_place ? job->wide_ld : job->stripe_ld;
        cpu_tile tile = {
            .c = c,
            .ldc = ldc,
            .a = (const uint8_t *)job->x->operand + (size_t)row * job->x_stride,
            .a_stride = job->x_stride,
            .w = w->panels + (size_t)panel * w->panel_bytes,
            .w_panel = w->panel_bytes,
            .w_step = CPU_PANEL * CPU_STEP_BYTES,
            .steps = w->steps,
            .rows = n,
            .panels = panels,
            .bias = w->bias + (size_t)panel * CPU_PANEL,
        };
        if (job->dtype == OPS_INT8) {
            tile.a_scale = job->x->scale + row;
            tile.w_scale = w->scale + (size_t)panel * CPU_PANEL;
            tile.w_sums = w->sums + (size_t)panel * CPU_PANEL * 2;
            tile.a_zero = cpu_zeros_of(job->x) + row;
        }
        job->level->tile[job->dtype].run(&tile);
        add_fine_rows(job, &tile, row);
        if (in_place && job->act == OPS_IDENTITY && job->half == NULL) continue;
        cpu_activate finish = {
            .src = c,
            .src_ld = ldc,
            .value = wide != NULL ? wide + column : NULL,
            .value_ld = job->wide_ld,
            .half = job->half != NULL ? job->half + (size_t)row * job->half_ld + column : NULL,
            .half_ld = job->half_ld,
            .rows = n,
            .panels = panels / per_output,
            .act = job->act,
            .gated = job->gated,
            .coarse = job->dtype != OPS_F32,
        };
        job->level->rows->activate(&finish);
    }
}

static void finish_rows(const linear_job *job, int worker, int32_t row, int32_t n,
                        const float *wide)
{
    cpu_finish finish = job->finish;
    finish.src = wide;
    finish.src_row0 = row;
    finish.src_ld = job->wide_ld;
    finish.row = job->row + (size_t)worker * CPU_FINISH_ROWS * cpu_stride_floats(job->cols);
    job->level->rows->finish(&finish, row, row + n);
}

static int32_t stripe_count(const linear_job *job)
{
    return (job->w.n_panels + CPU_STRIPE_PANELS - 1) / CPU_STRIPE_PANELS;
}

static void work_by_rows(void *context, int worker, int n_workers)
{
    const linear_job *job = context;
    int32_t end = cpu_share(job->rows, worker + 1, n_workers);
    for (int32_t row = cpu_share(job->rows, worker, n_workers); row < end;) {
        /* blocks of even size, so that none is thin */
        int32_t left = end - row, blocks = (left + BLOCK_ROWS - 1) / BLOCK_ROWS;
        int32_t n = (left + blocks - 1) / blocks;
        float *wide = wide_rows_of(job, worker, row);
        run_stripes(job, worker, row, n, 0, stripe_count(job), wide);
        if (job->finish_rows) finish_rows(job, worker, row, n, wide);
        row += n;
    }
}

static void work_stripes(void *context, int worker, int n_workers)
{
    const linear_job *job = context;
    int32_t count = stripe_count(job);
    run_stripes(job, worker, 0, job->rows, cpu_share(count, worker, n_workers),
                cpu_share(count, worker + 1, n_workers), job->wide);
}

static void work_finish(void *context, int worker, int n_workers)
{
    const linear_job *job = context;
    int32_t first = cpu_share(job->rows, worker, n_workers);
    int32_t n = cpu_share(job->rows, worker + 1, n_workers) - first;
    if (n > 0) finish_rows(job, worker, first, n, job->wide + (size_t)first * job->wide_ld);
}

/* Takes scratch and runs. value is out's when stripes may be written there. Shapes and flags alone
 * decide what is taken: in a dry run pointers mean nothing, and weights may not be there yet. */
static void run_linear(ops_context *ctx, linear_job *job, bool has_value, float *value,
                       size_t value_ld)
{
    size_t mark = ops_mark(ctx);
    int n_workers = team_size(ctx->team);
    job->by_stripes =
        n_workers > 1 && job->rows < MIN_ROWS_PER_WORKER * n_workers && job->rows <= BLOCK_ROWS;
    bool scratch_wide = !has_value && job->finish_rows;
    job->wide = has_value ? value : NULL;
    job->wide_ld = value_ld;
    job->wide_is_value = true;
    if (scratch_wide) {
        job->wide_ld = cpu_stride_floats(job->cols);
        job->wide_is_value = job->by_stripes; /* one block that all workers fill */
        int32_t share = job->by_stripes ? job->rows : (job->rows + n_workers - 1) / n_workers;
        job->wide_rows = (size_t)(share < BLOCK_ROWS ? share : BLOCK_ROWS);
        size_t copies = job->by_stripes ? 1 : (size_t)n_workers;
        job->wide = ops_take(ctx, copies * job->wide_rows * job->wide_ld * sizeof(float));
    }
    if ((!has_value && !scratch_wide) || job->gated) {
        job->stripe_ld = cpu_stride_floats(CPU_STRIPE_PANELS * CPU_PANEL);
        job->stripe = ops_take(ctx, (size_t)n_workers * BLOCK_ROWS * job->stripe_ld * 4);
    }
    job->row =
        ops_take(ctx, (size_t)n_workers * CPU_FINISH_ROWS * cpu_stride(job->cols, sizeof(float)));
    if (!ctx->dry && ctx->failure == CRANK_OK && job->rows > 0) {
        job->w = cpu_weight_open(job->linear);
        if (job->by_stripes) {
            team_run(ctx->team, work_stripes, job);
            if (job->finish_rows) team_run(ctx->team, work_finish, job);
        } else {
            team_run(ctx->team, work_by_rows, job);
        }
    }
    ops_release(ctx, mark);
}

static linear_job job_of(const ops_context *ctx, const ops_tensor *x, const ops_linear *w,
                         const ops_tensor *out)
{
    const cpu_level *level = cpu_level_of(ctx);
    ops_dtype dtype = w->layout->dtype;
    size_t element = (size_t)ops_dtypes[dtype].bytes;
    if (dtype == OPS_INT8 && level->int8_form == CPU_INT8_S16) element = 2;
    linear_job job = {
        .fine = cpu_fine_of(ctx, x),
        .level = level,
        .dtype = dtype,
        .x = x,
        .linear = w,
        .gated = w->gated,
        .rows = out->rows,
        .cols = out->cols,
        .x_stride = cpu_stride(x->cols, element),
    };
    return job;
}

void cpu_linear(ops_context *ctx, ops_tensor *out, const ops_tensor *x, const ops_linear *w,
                ops_activation act)
{
    linear_job job = job_of(ctx, x, w, out);
    job.act = act;
    job.finish = cpu_finish_into(ctx, out);
    job.finish.value = NULL; /* stripes are written there */
    bool half = ctx->dtype == OPS_BF16 && (out->uses & OPS_USE_OPERAND) != 0;
    job.finish_rows = ctx->dtype == OPS_INT8 && (out->uses & OPS_USE_OPERAND) != 0;
    if (half) {
        job.half = out->operand;
        job.half_ld = cpu_stride(out->cols, sizeof(uint16_t)) / sizeof(uint16_t);
    }
    run_linear(ctx, &job, cpu_has_value(ctx, out), out->value, cpu_stride_floats(out->cols));
}

void cpu_linear_residual_norm(ops_context *ctx, ops_tensor *out, ops_tensor *sum,
                              const ops_tensor *x, const ops_linear *w, const ops_tensor *residual,
                              const ops_norm *norm)
{
    linear_job job = job_of(ctx, x, w, out);
    job.finish = cpu_finish_into(ctx, out);
    job.finish.residual = residual->value;
    job.finish.residual_ld = cpu_stride_floats(residual->cols);
    job.finish.norm = norm;
    if (sum != NULL) {
        job.finish.sum = sum->value;
        job.finish.sum_ld = cpu_stride_floats(sum->cols);
    }
    job.finish_rows = true;
    run_linear(ctx, &job, false, NULL, 0);
}
