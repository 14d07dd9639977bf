/* The one place where the contract of ops.h is checked: every op passes through here on its way
 * from a forward pass to a backend. A broken contract is a bug in crank and becomes INTERNAL. */
#include "kernels/ops.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kernels/layouts.h"

const ops_dtype_row ops_dtypes[OPS_N_DTYPES] = {
#define ROW(id, text, bytes, tolerance) [id] = {text, bytes, tolerance},
    OPS_DTYPE_LIST(ROW)
#undef ROW
};

const char *const ops_activation_names[OPS_N_ACTIVATIONS] = {
    [OPS_IDENTITY] = "identity", [OPS_GELU] = "gelu", [OPS_GELU_TANH] = "gelu_tanh",
    [OPS_RELU] = "relu",         [OPS_TANH] = "tanh", [OPS_SILU] = "silu",
};

const char *const ops_kind_names[OPS_N_KINDS] = {
#define ROW(id, text) [id] = text,
    OPS_KIND_LIST(ROW)
#undef ROW
};

const char *const ops_pool_names[OPS_N_POOL_KINDS] = {
    [OPS_POOL_FIRST] = "first token",
    [OPS_POOL_MEAN] = "mean",
    [OPS_POOL_MAX] = "maximum",
    [OPS_POOL_LAST] = "last token",
    [OPS_POOL_MEAN_SQRT] = "sum over root of length",
    [OPS_POOL_WEIGHTED] = "position-weighted mean",
};

const ops_layout *ops_layout_by_name(const char *name)
{
    for (size_t i = 0; ops_layouts[i] != NULL; i++) {
        if (strcmp(ops_layouts[i]->name, name) == 0) return ops_layouts[i];
    }
    return NULL;
}

void ops_fail(ops_context *ctx, crank_status status, const char *format, ...)
{
    if (ctx->failure != CRANK_OK) return;
    char message[CRANK_ERROR_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    ctx->failure = status_fail(&ctx->error, status, "%s", message);
}

#define WORKSPACE_ALIGNMENT 64u

void *ops_take(ops_context *ctx, size_t bytes)
{
    ops_workspace *w = &ctx->workspace;
    size_t rounded = (bytes + WORKSPACE_ALIGNMENT - 1) / WORKSPACE_ALIGNMENT * WORKSPACE_ALIGNMENT;
    if (rounded < bytes || (!ctx->dry && rounded > w->capacity - w->used)) {
        ops_fail(ctx, CRANK_INTERNAL, "workspace of %zu bytes is too small: %zu used, %zu wanted",
                 w->capacity, w->used, bytes);
        return NULL;
    }
    void *taken = (void *)((uintptr_t)w->base + w->used);
    w->used += rounded;
    if (w->used > w->peak) w->peak = w->used;
    return taken;
}

size_t ops_mark(const ops_context *ctx)
{
    return ctx->workspace.used;
}

void ops_release(ops_context *ctx, size_t mark)
{
    ctx->workspace.used = mark;
}

static bool kept(ops_context *ctx, bool contract, const char *op)
{
    if (ctx->failure != CRANK_OK) return false;
    if (!contract) ops_fail(ctx, CRANK_INTERNAL, "%s: shapes or uses break the contract", op);
    ctx->op = op;
    ctx->n_ops++;
    return contract;
}

/* True when the op should go on: no earlier failure, contract kept. */
static bool proceed(ops_context *ctx, bool contract, const ops_call *call)
{
    if (!kept(ctx, contract, ops_kind_names[call->kind])) return false;
    if (ctx->recorder != NULL) ctx->recorder->record(ctx->recorder->user, call);
    return true;
}

static bool has(const ops_tensor *t, int32_t rows, int32_t cols, unsigned uses)
{
    return t->rows == rows && t->cols == cols && (t->uses & uses) == uses;
}

/* The tables that an attention indexes by distance or position reach over the longest sequence. */
static bool spans(const ops_context *ctx, const ops_attention *a)
{
    int32_t longest = ctx->batch.max_tokens;
    return (a->distance_bias == NULL || longest <= a->distance_span) &&
           (a->rope.cos == NULL || longest <= a->rope.positions) &&
           (a->relative.index == NULL || longest <= a->relative.span);
}

ops_tensor ops_new(ops_context *ctx, int32_t rows, int32_t cols, unsigned uses)
{
    ops_tensor t = {.rows = rows, .cols = cols, .uses = uses};
    if (kept(ctx, rows >= 0 && cols > 0 && uses != 0, "tensor")) ctx->backend->tensor(ctx, &t);
    return t;
}

void ops_embed_norm(ops_context *ctx, ops_tensor *out, const ops_embedding *e)
{
    bool contract = out->rows == ctx->batch.n_tokens && out->cols == e->word.cols;
    ops_call call = {OPS_KIND_EMBED_NORM, .out = out, .embedding = e};
    if (proceed(ctx, contract, &call)) ctx->backend->embed_norm(ctx, out, e);
}

void ops_linear_act(ops_context *ctx, ops_tensor *out, const ops_tensor *x, const ops_linear *w,
                    ops_activation act)
{
    int32_t columns = w->gated ? w->n / 2 : w->n;
    bool contract = has(x, out->rows, w->k, OPS_USE_OPERAND) && out->cols == columns;
    ops_call call = {OPS_KIND_LINEAR, .out = out, .x = x, .linear = w, .activation = act};
    if (proceed(ctx, contract, &call)) ctx->backend->linear(ctx, out, x, w, act);
}

void ops_linear_residual_norm(ops_context *ctx, ops_tensor *out, ops_tensor *sum,
                              const ops_tensor *x, const ops_linear *w, const ops_tensor *residual,
                              const ops_norm *norm)
{
    bool contract = has(x, out->rows, w->k, OPS_USE_OPERAND) && out->cols == w->n && !w->gated &&
                    has(residual, out->rows, w->n, OPS_USE_VALUE) &&
                    (sum == NULL || has(sum, out->rows, w->n, OPS_USE_VALUE)) &&
                    (norm->kind == OPS_NORM_NONE || norm->width == w->n);
    ops_call call = {OPS_KIND_LINEAR_RESIDUAL_NORM, .out = out, .x = x, .linear = w, .norm = norm,
                     .keeps_sum = sum != NULL};
    if (proceed(ctx, contract, &call))
        ctx->backend->linear_residual_norm(ctx, out, sum, x, w, residual, norm);
}

void ops_norm_rows(ops_context *ctx, ops_tensor *out, const ops_tensor *x, const ops_norm *norm)
{
    bool contract = has(x, out->rows, out->cols, OPS_USE_VALUE) &&
                    (norm->kind == OPS_NORM_NONE || norm->width == x->cols);
    ops_call call = {OPS_KIND_NORM, .out = out, .x = x, .norm = norm};
    if (proceed(ctx, contract, &call)) ctx->backend->norm(ctx, out, x, norm);
}

void ops_attention_full(ops_context *ctx, ops_tensor *out, const ops_tensor *qkv,
                        const ops_attention *a)
{
    int32_t width = a->n_heads * a->head_width;
    bool contract = out->rows == ctx->batch.n_tokens && out->cols == width &&
                    has(qkv, out->rows, 3 * width, OPS_USE_VALUE) && spans(ctx, a);
    ops_call call = {OPS_KIND_ATTENTION, .out = out, .x = qkv, .attention = a};
    if (proceed(ctx, contract, &call)) ctx->backend->attention(ctx, out, qkv, a);
}

void ops_attention_rows(ops_context *ctx, ops_tensor *out, const ops_tensor *q,
                        const ops_tensor *kv, const ops_attention *a)
{
    int32_t width = a->n_heads * a->head_width;
    bool contract = has(q, ctx->batch.n_sequences, width, OPS_USE_VALUE) &&
                    has(kv, ctx->batch.n_tokens, 2 * width, OPS_USE_VALUE) &&
                    out->rows == q->rows && out->cols == width && spans(ctx, a);
    ops_call call = {OPS_KIND_ATTENTION_ROWS, .out = out, .x = kv, .attention = a};
    if (proceed(ctx, contract, &call)) ctx->backend->attention_rows(ctx, out, q, kv, a);
}

void ops_attention_rows_folded(ops_context *ctx, ops_tensor *out, const ops_tensor *q,
                               const ops_tensor *x, const ops_fold *fold, const ops_attention *a)
{
    int32_t width = a->n_heads * a->head_width;
    bool contract = has(q, ctx->batch.n_sequences, width, OPS_USE_VALUE) &&
                    has(x, ctx->batch.n_tokens, fold->d, OPS_USE_VALUE) && fold->n == width &&
                    out->rows == q->rows && out->cols == width && a->rope.cos == NULL &&
                    a->relative.index == NULL && spans(ctx, a);
    ops_call call = {OPS_KIND_ATTENTION_ROWS_FOLDED, .out = out, .x = x, .attention = a,
                     .fold = fold};
    if (proceed(ctx, contract, &call)) ctx->backend->attention_rows_folded(ctx, out, q, x, fold, a);
}

void ops_add_norm(ops_context *ctx, ops_tensor *out, const ops_tensor *x, const ops_tensor *y,
                  const ops_norm *norm)
{
    bool contract = has(x, out->rows, out->cols, OPS_USE_VALUE) &&
                    has(y, out->rows, out->cols, OPS_USE_VALUE) &&
                    (norm->kind == OPS_NORM_NONE || norm->width == x->cols);
    ops_call call = {OPS_KIND_ADD_NORM, .out = out, .x = x, .norm = norm};
    if (proceed(ctx, contract, &call)) ctx->backend->add_norm(ctx, out, x, y, norm);
}

void ops_gather_around(ops_context *ctx, ops_tensor *out, const ops_tensor *x)
{
    bool contract = has(x, ctx->batch.n_tokens, x->cols, OPS_USE_VALUE) && out->rows == x->rows &&
                    out->cols % x->cols == 0 && out->cols / x->cols % 2 == 1;
    ops_call call = {OPS_KIND_GATHER_AROUND, .out = out, .x = x};
    if (proceed(ctx, contract, &call)) ctx->backend->gather_around(ctx, out, x);
}

void ops_gather_first(ops_context *ctx, ops_tensor *out, const ops_tensor *x)
{
    bool contract = has(x, ctx->batch.n_tokens, out->cols, OPS_USE_VALUE) &&
                    out->rows == ctx->batch.n_sequences;
    ops_call call = {OPS_KIND_GATHER_FIRST, .out = out, .x = x};
    if (proceed(ctx, contract, &call)) ctx->backend->gather_first(ctx, out, x);
}

void ops_pool(ops_context *ctx, ops_tensor *out, const ops_tensor *x, ops_pool_kind kind)
{
    bool contract = has(x, ctx->batch.n_tokens, out->cols, OPS_USE_VALUE) &&
                    has(out, ctx->batch.n_sequences, out->cols, OPS_USE_VALUE);
    ops_call call = {OPS_KIND_POOL, .out = out, .x = x, .pool = kind};
    if (proceed(ctx, contract, &call)) ctx->backend->pool(ctx, out, x, kind);
}

void ops_broadcast(ops_context *ctx, ops_tensor *out, const float *row)
{
    ops_call call = {OPS_KIND_BROADCAST, .out = out};
    if (proceed(ctx, true, &call)) ctx->backend->broadcast(ctx, out, row);
}

void ops_head_logits(ops_context *ctx, float *logits, const ops_tensor *x, const ops_head *head)
{
    int32_t inner = head->dense != NULL ? head->d_dense : head->d_in;
    bool contract = has(x, x->rows, head->d_in, OPS_USE_VALUE) && head->labels > 0 &&
                    (head->norm.kind == OPS_NORM_NONE || head->norm.width == inner);
    ops_call call = {OPS_KIND_HEAD, .x = x, .head = head};
    if (proceed(ctx, contract, &call)) ctx->backend->head(ctx, logits, x, head);
}

void ops_vectors(ops_context *ctx, float *vectors, const ops_tensor *x, bool normalize)
{
    ops_call call = {OPS_KIND_VECTORS, .x = x, .normalize = normalize};
    if (proceed(ctx, (x->uses & OPS_USE_VALUE) != 0, &call))
        ctx->backend->vectors(ctx, vectors, x, normalize);
}

void ops_trace(ops_context *ctx, const ops_tensor *x, const char *name, ...)
{
    const ops_tracer *tracer = ctx->tracer;
    if (tracer == NULL || ctx->dry || ctx->failure != CRANK_OK) return;
    if ((size_t)x->rows * (size_t)x->cols > tracer->capacity || !(x->uses & OPS_USE_VALUE)) return;
    char text[96];
    va_list arguments;
    va_start(arguments, name);
    vsnprintf(text, sizeof text, name, arguments);
    va_end(arguments);
    ctx->backend->read_f32(ctx, tracer->rows, x);
    tracer->call(tracer->user, text, tracer->rows, x->rows, x->cols);
}

void ops_begin(ops_context *ctx, const ops_batch *host)
{
    ctx->failure = CRANK_OK;
    ctx->error = (crank_error){0};
    ctx->workspace.used = 0;
    ctx->op = "begin";
    ctx->n_ops = 0;
    ctx->batch = *host;
    if (ctx->dry) return;
    crank_error error = {0};
    crank_status status = ctx->backend->begin(ctx, host, &error);
    if (status != CRANK_OK) ops_fail(ctx, status, "%s", error.message);
}

crank_status ops_end(ops_context *ctx, crank_error *error)
{
    if (!ctx->dry) {
        crank_error end_error = {0};
        crank_status status = ctx->backend->end(ctx, &end_error);
        if (status != CRANK_OK) ops_fail(ctx, status, "%s", end_error.message);
    }
    if (ctx->failure != CRANK_OK && error != NULL) *error = ctx->error;
    return ctx->failure;
}
