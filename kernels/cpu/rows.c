/* Ops that go row by row: forms of tensors, embeddings, norms, gathers, pooling, the head. */
#include <string.h>

#include "kernels/cpu/cpu.h"

/* ---- tensors ----------------------------------------------------------------------------------
 */

static int32_t fine_rows(const ops_context *ctx, const ops_tensor *t)
{
    const ops_batch *batch = &ctx->batch;
    bool whole = t->rows == batch->n_tokens || t->rows == batch->n_sequences;
    return ctx->dtype == OPS_INT8 && whole ? batch->n_sequences : 0;
}

static size_t int8_stride(const ops_context *ctx, const ops_tensor *t)
{
    return cpu_stride(t->cols, cpu_level_of(ctx)->int8_form == CPU_INT8_S16 ? 2 : 1);
}

cpu_fine cpu_fine_of(const ops_context *ctx, const ops_tensor *t)
{
    cpu_fine f = {.n = fine_rows(ctx, t)};
    if (f.n == 0) return f;
    size_t rows = (size_t)t->rows;
    if (t->rows != ctx->batch.n_sequences) f.rows = ctx->batch.starts;
    f.operand = (uint8_t *)t->operand + rows * int8_stride(ctx, t);
    f.scale = t->scale + 2 * rows;
    f.zero = (int32_t *)(void *)(f.scale + f.n);
    return f;
}

/* f32: one form, value and operand alike. bf16 and int8: the value stays f32 (residual stream,
 * norms, softmax), the operand is what the tile reads. The 64 bytes past the end let attention read
 * a whole vector at the last head of the last row. */
void cpu_tensor(ops_context *ctx, ops_tensor *t)
{
    size_t rows = (size_t)t->rows;
    bool want_operand = (t->uses & OPS_USE_OPERAND) != 0;
    t->value = t->operand = NULL;
    t->scale = NULL;
    if (cpu_has_value(ctx, t)) {
        t->value = ops_take(ctx, rows * cpu_stride(t->cols, sizeof(float)) + 64);
    }
    if (ctx->dtype == OPS_F32) {
        if (want_operand) t->operand = t->value;
        return;
    }
    if (!want_operand) return;
    if (ctx->dtype == OPS_BF16) {
        t->operand = ops_take(ctx, rows * cpu_stride(t->cols, sizeof(uint16_t)) + 64);
        return;
    }
    rows += (size_t)fine_rows(ctx, t);
    t->operand = ops_take(ctx, rows * int8_stride(ctx, t) + 64);
    t->scale = ops_take(ctx, rows * (sizeof(float) + sizeof(int32_t)));
}

cpu_finish cpu_finish_into(const ops_context *ctx, const ops_tensor *t)
{
    const cpu_level *level = cpu_level_of(ctx);
    cpu_finish f = {
        .value = t->value,
        .value_ld = cpu_stride_floats(t->cols),
        .cols = t->cols,
        .int8_form = level->int8_form,
        .scale = t->scale,
    };
    if (ctx->dtype == OPS_F32 || t->operand == NULL) return f;
    f.operand = t->operand;
    f.operand_dtype = ctx->dtype;
    f.operand_stride = cpu_stride(t->cols, sizeof(uint16_t));
    if (ctx->dtype == OPS_INT8) {
        f.operand_stride = int8_stride(ctx, t);
        f.zero = cpu_zeros_of(t);
        f.fine = cpu_fine_of(ctx, t);
    }
    return f;
}

void cpu_read_f32(ops_context *ctx, float *rows, const ops_tensor *x)
{
    (void)ctx;
    size_t cols = (size_t)x->cols, ld = cpu_stride_floats(x->cols);
    for (size_t r = 0; r < (size_t)x->rows; r++) {
        memcpy(rows + r * cols, (const float *)x->value + r * ld, cols * sizeof *rows);
    }
}

/* ---- rows through finish ----------------------------------------------------------------------
 */

#define SCRATCH_ROWS (1 + CPU_FINISH_ROWS) /* a row being made, and those of finish */

typedef struct rows_job {
    const ops_context *ctx;
    const cpu_rows *kernels;
    cpu_finish finish;
    int32_t rows;
    const ops_embedding *embedding;
    const ops_tensor *x, *y;
    const float *constant;
    ops_pool_kind pool;
    float *scratch; /* SCRATCH_ROWS padded rows a worker */
} rows_job;

typedef void (*rows_work)(const rows_job *job, const cpu_finish *finish, float *row, int32_t r);

/* The row that finish reads is `row` (scratch) for every r: leading dimension 0. */
static void finish_row_from(const rows_job *job, const cpu_finish *finish, const float *row,
                            int32_t r)
{
    cpu_finish f = *finish;
    f.src = row;
    f.src_ld = 0;
    job->kernels->finish(&f, r, r + 1);
}

static void split_rows(const rows_job *job, rows_work work, int worker, int n_workers)
{
    size_t ld = cpu_stride_floats(job->finish.cols);
    float *row = job->scratch + (size_t)worker * SCRATCH_ROWS * ld;
    cpu_finish finish = job->finish;
    finish.row = row + ld;
    int32_t end = cpu_share(job->rows, worker + 1, n_workers);
    for (int32_t r = cpu_share(job->rows, worker, n_workers); r < end; r++) {
        work(job, &finish, row, r);
    }
}

static rows_job rows_job_of(ops_context *ctx, const ops_tensor *out)
{
    rows_job job = {
        .ctx = ctx,
        .kernels = cpu_level_of(ctx)->rows,
        .finish = cpu_finish_into(ctx, out),
        .rows = out->rows,
    };
    job.scratch = ops_take(ctx, (size_t)team_size(ctx->team) * SCRATCH_ROWS *
                                    cpu_stride(out->cols, sizeof(float)));
    return job;
}

static void run_rows(ops_context *ctx, rows_job *job, team_work work, size_t mark)
{
    if (!ctx->dry && ctx->failure == CRANK_OK && job->rows > 0) team_run(ctx->team, work, job);
    ops_release(ctx, mark);
}

static void embed_row(const rows_job *job, const cpu_finish *finish, float *row, int32_t r)
{
    const ops_embedding *e = job->embedding;
    const ops_batch *batch = &job->ctx->batch;
    job->kernels->lookup(row, &e->word, batch->ids[r], false);
    if (e->type.data != NULL) job->kernels->lookup(row, &e->type, batch->types[r], true);
    if (e->position.data != NULL) {
        job->kernels->lookup(row, &e->position, batch->positions[r], true);
    }
    finish_row_from(job, finish, row, r);
}

static void embed_work(void *job, int worker, int n_workers)
{
    split_rows(job, embed_row, worker, n_workers);
}

void cpu_embed_norm(ops_context *ctx, ops_tensor *out, const ops_embedding *e)
{
    size_t mark = ops_mark(ctx);
    rows_job job = rows_job_of(ctx, out);
    job.embedding = e;
    job.finish.norm = &e->norm;
    run_rows(ctx, &job, embed_work, mark);
}

static const float *value_row(const ops_tensor *x, int32_t row)
{
    return (const float *)x->value + (size_t)row * cpu_stride_floats(x->cols);
}

static void norm_work(void *context, int worker, int n_workers)
{
    const rows_job *job = context;
    size_t ld = cpu_stride_floats(job->finish.cols);
    cpu_finish f = job->finish;
    f.src = job->x->value;
    f.src_ld = ld;
    if (job->y != NULL) {
        f.residual = job->y->value;
        f.residual_ld = ld;
    }
    f.row = job->scratch + (size_t)worker * SCRATCH_ROWS * ld;
    job->kernels->finish(&f, cpu_share(job->rows, worker, n_workers),
                         cpu_share(job->rows, worker + 1, n_workers));
}

void cpu_norm(ops_context *ctx, ops_tensor *out, const ops_tensor *x, const ops_norm *norm)
{
    cpu_add_norm(ctx, out, x, NULL, norm);
}

void cpu_add_norm(ops_context *ctx, ops_tensor *out, const ops_tensor *x, const ops_tensor *y,
                  const ops_norm *norm)
{
    size_t mark = ops_mark(ctx);
    rows_job job = rows_job_of(ctx, out);
    job.x = x;
    job.y = y;
    job.finish.norm = norm;
    run_rows(ctx, &job, norm_work, mark);
}

static void first_row(const rows_job *job, const cpu_finish *finish, float *row, int32_t r)
{
    (void)row;
    finish_row_from(job, finish, value_row(job->x, job->ctx->batch.starts[r]), r);
}

static void gather_work(void *job, int worker, int n_workers)
{
    split_rows(job, first_row, worker, n_workers);
}

void cpu_gather_first(ops_context *ctx, ops_tensor *out, const ops_tensor *x)
{
    size_t mark = ops_mark(ctx);
    rows_job job = rows_job_of(ctx, out);
    job.x = x;
    run_rows(ctx, &job, gather_work, mark);
}

/* The sequence that token t is of: the last one that starts at or before it (empty ones before). */
static int32_t sequence_of(const ops_batch *batch, int32_t t)
{
    int32_t low = 0, high = batch->n_sequences;
    while (high - low > 1) {
        int32_t middle = low + (high - low) / 2;
        if (batch->starts[middle] <= t) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

static void around_row(const rows_job *job, const cpu_finish *finish, float *row, int32_t r)
{
    const ops_batch *batch = &job->ctx->batch;
    int32_t b = sequence_of(batch, r), first = batch->starts[b], end = batch->starts[b + 1];
    int32_t width = job->x->cols, n = finish->cols / width;
    memset(row, 0, cpu_stride(finish->cols, sizeof *row));
    for (int32_t i = 0; i < n; i++) {
        int32_t from = r + i - n / 2;
        if (from < first || from >= end) continue;
        memcpy(row + (size_t)i * (size_t)width, value_row(job->x, from),
               (size_t)width * sizeof *row);
    }
    finish_row_from(job, finish, row, r);
}

static void around_work(void *job, int worker, int n_workers)
{
    split_rows(job, around_row, worker, n_workers);
}

void cpu_gather_around(ops_context *ctx, ops_tensor *out, const ops_tensor *x)
{
    size_t mark = ops_mark(ctx);
    rows_job job = rows_job_of(ctx, out);
    job.x = x;
    run_rows(ctx, &job, around_work, mark);
}

static void pool_row(const rows_job *job, const cpu_finish *finish, float *row, int32_t r)
{
    const int32_t *starts = job->ctx->batch.starts;
    job->kernels->pool(row, value_row(job->x, starts[r]), cpu_stride_floats(job->x->cols),
                       starts[r + 1] - starts[r], job->x->cols, job->pool);
    finish_row_from(job, finish, row, r);
}

static void pool_work(void *job, int worker, int n_workers)
{
    split_rows(job, pool_row, worker, n_workers);
}

void cpu_pool(ops_context *ctx, ops_tensor *out, const ops_tensor *x, ops_pool_kind kind)
{
    size_t mark = ops_mark(ctx);
    rows_job job = rows_job_of(ctx, out);
    job.x = x;
    job.pool = kind;
    run_rows(ctx, &job, pool_work, mark);
}

static void constant_row(const rows_job *job, const cpu_finish *finish, float *row, int32_t r)
{
    size_t bytes = (size_t)finish->cols * sizeof *row;
    memset(row, 0, cpu_stride(finish->cols, sizeof *row));
    memcpy(row, job->constant, bytes);
    finish_row_from(job, finish, row, r);
}

static void broadcast_work(void *job, int worker, int n_workers)
{
    split_rows(job, constant_row, worker, n_workers);
}

void cpu_broadcast(ops_context *ctx, ops_tensor *out, const float *row)
{
    size_t mark = ops_mark(ctx);
    rows_job job = rows_job_of(ctx, out);
    job.constant = row;
    run_rows(ctx, &job, broadcast_work, mark);
}

/* ---- head -------------------------------------------------------------------------------------
 */

typedef struct head_job {
    const cpu_rows *kernels;
    const ops_head *head;
    const float *x;
    size_t x_ld;
    int32_t rows, inner;
    float *hidden; /* [rows, inner] padded */
    size_t hidden_ld;
    float *row;
    float *logits;
} head_job;

/* Workers share the outputs of the dense layer: its weights are most of what is read. */
static void dense_work(void *context, int worker, int n_workers)
{
    const head_job *job = context;
    const ops_head *h = job->head;
    int32_t first = cpu_share(h->d_dense, worker, n_workers);
    int32_t n = cpu_share(h->d_dense, worker + 1, n_workers) - first;
    if (n <= 0) return;
    job->kernels->dots(job->hidden + first, job->hidden_ld, job->x, job->x_ld, job->rows,
                       h->dense + (size_t)first * (size_t)h->d_in, (size_t)h->d_in, n, h->d_in,
                       h->dense_bias != NULL ? h->dense_bias + first : NULL);
}

static void head_rest(const head_job *job)
{
    const ops_head *h = job->head;
    const float *in = h->dense != NULL ? job->hidden : job->x;
    size_t in_ld = h->dense != NULL ? job->hidden_ld : job->x_ld;
    cpu_activate activate = {
        .src = in,
        .src_ld = in_ld,
        .value = job->hidden,
        .value_ld = job->hidden_ld,
        .rows = job->rows,
        .panels = cpu_round_up(job->inner, CPU_PANEL) / CPU_PANEL,
        .act = h->activation,
    };
    job->kernels->activate(&activate);
    cpu_finish finish = {
        .src = job->hidden,
        .src_ld = job->hidden_ld,
        .value = job->hidden,
        .value_ld = job->hidden_ld,
        .norm = &h->norm,
        .row = job->row,
        .cols = job->inner,
    };
    if (h->norm.kind != OPS_NORM_NONE) job->kernels->finish(&finish, 0, job->rows);
    job->kernels->dots(job->logits, (size_t)h->labels, job->hidden, job->hidden_ld, job->rows,
                       h->out, (size_t)job->inner, h->labels, job->inner, h->out_bias);
}

void cpu_head(ops_context *ctx, float *logits, const ops_tensor *x, const ops_head *head)
{
    size_t mark = ops_mark(ctx);
    head_job job = {
        .kernels = cpu_level_of(ctx)->rows,
        .head = head,
        .x = x->value,
        .x_ld = cpu_stride_floats(x->cols),
        .rows = x->rows,
        .inner = head->dense != NULL ? head->d_dense : head->d_in,
        .logits = logits,
    };
    job.hidden_ld = cpu_stride_floats(job.inner);
    job.hidden = ops_take(ctx, (size_t)job.rows * job.hidden_ld * sizeof(float));
    job.row = ops_take(ctx, CPU_FINISH_ROWS * job.hidden_ld * sizeof(float));
    if (!ctx->dry && ctx->failure == CRANK_OK && job.rows > 0) {
        if (head->dense != NULL) {
            /* the last vector's lanes past `inner` are read by the activation and the norm */
            for (int32_t r = 0; r < job.rows; r++) {
                float *row = job.hidden + (size_t)r * job.hidden_ld;
                memset(row + job.inner, 0, (job.hidden_ld - (size_t)job.inner) * sizeof *row);
            }
            team_run(ctx->team, dense_work, &job);
        }
        head_rest(&job);
    }
    ops_release(ctx, mark);
}

void cpu_vectors(ops_context *ctx, float *vectors, const ops_tensor *x, bool normalize)
{
    if (ctx->dry) return;
    const cpu_rows *kernels = cpu_level_of(ctx)->rows;
    size_t cols = (size_t)x->cols;
    for (int32_t r = 0; r < x->rows; r++) {
        float *out = vectors + (size_t)r * cols;
        if (normalize) {
            kernels->normalize(out, value_row(x, r), x->cols);
        } else {
            memcpy(out, value_row(x, r), cols * sizeof *out);
        }
    }
}
