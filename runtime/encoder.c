#include "runtime/encoder.h"

#define BOTH (OPS_USE_VALUE | OPS_USE_OPERAND)

static bool first_rows_only(const encoder *e, int l)
{
    return e->first_row_only && l == e->n_layers - 1;
}

/* The context rows are read by a linear alone, unless somebody traces them. */
static unsigned context_uses(const ops_context *ctx)
{
    return ctx->tracer != NULL ? BOTH : OPS_USE_OPERAND;
}

/* "layer.3.attention" (layer -1: part alone), with the half of an encoder-decoder before it. */
static void trace(const encoder *e, ops_context *ctx, const ops_tensor *x, int layer,
                  const char *part)
{
    const char *prefix = e->trace_prefix != NULL ? e->trace_prefix : "";
    if (layer < 0) {
        ops_trace(ctx, x, "%s%s", prefix, part);
    } else {
        ops_trace(ctx, x, "%slayer.%d%s", prefix, layer, part);
    }
}

static ops_tensor embed(const encoder *e, ops_context *ctx, unsigned uses)
{
    int32_t n_tokens = ctx->batch.n_tokens;
    if (e->project.n == 0) {
        ops_tensor x = ops_new(ctx, n_tokens, e->width, uses);
        ops_embed_norm(ctx, &x, &e->embedding);
        trace(e, ctx, &x, -1, "embeddings");
        return x;
    }
    ops_tensor x = ops_new(ctx, n_tokens, e->width, uses);
    size_t mark = ops_mark(ctx);
    ops_tensor narrow = ops_new(ctx, n_tokens, e->embedding.word.cols, BOTH);
    ops_embed_norm(ctx, &narrow, &e->embedding);
    if (e->project_norm.kind == OPS_NORM_NONE) {
        trace(e, ctx, &narrow, -1, "embeddings");
        ops_linear_act(ctx, &x, &narrow, &e->project, OPS_IDENTITY);
        trace(e, ctx, &x, -1, "embeddings_project");
    } else {
        ops_tensor wide = ops_new(ctx, n_tokens, e->width, OPS_USE_VALUE);
        ops_linear_act(ctx, &wide, &narrow, &e->project, OPS_IDENTITY);
        ops_norm_rows(ctx, &x, &wide, &e->project_norm);
        trace(e, ctx, &x, -1, "embeddings");
    }
    ops_release(ctx, mark);
    return x;
}

/* Golden traces of some families show the output projection before the residual. */
static void trace_attention(const encoder *e, ops_context *ctx, const ops_tensor *context,
                            const ops_tensor *after, int l)
{
    if (ctx->tracer == NULL) return;
    if (l == 0) trace(e, ctx, context, 0, ".attention_context");
    if (!e->trace_projection) {
        trace(e, ctx, after, l, ".attention");
        return;
    }
    size_t mark = ops_mark(ctx);
    ops_tensor projected = ops_new(ctx, context->rows, e->width, OPS_USE_VALUE);
    ops_linear_act(ctx, &projected, context, &e->layers[l].out, OPS_IDENTITY);
    trace(e, ctx, &projected, l, ".attention");
    ops_release(ctx, mark);
}

/* out = softmax(..) V for every row of x ([T, D] OPERAND), or for the first row of each sequence
 * (first: [B, D] OPERAND, the same rows of x; x then needs VALUE where keys are folded). */
static void attend_all(ops_context *ctx, ops_tensor *out, const ops_tensor *x,
                       const encoder_layer *layer)
{
    size_t mark = ops_mark(ctx);
    ops_tensor qkv = ops_new(ctx, x->rows, layer->qkv.n, OPS_USE_VALUE);
    ops_linear_act(ctx, &qkv, x, &layer->qkv, OPS_IDENTITY);
    ops_attention_full(ctx, out, &qkv, &layer->attention);
    ops_release(ctx, mark);
}

static void attend_first(ops_context *ctx, ops_tensor *out, const ops_tensor *first,
                         const ops_tensor *x, const encoder_layer *layer)
{
    size_t mark = ops_mark(ctx);
    ops_tensor q = ops_new(ctx, first->rows, layer->query.n, OPS_USE_VALUE);
    ops_linear_act(ctx, &q, first, &layer->query, OPS_IDENTITY);
    if (layer->fold.key != NULL) {
        ops_attention_rows_folded(ctx, out, &q, x, &layer->fold, &layer->attention);
    } else {
        ops_tensor kv = ops_new(ctx, x->rows, layer->kv.n, OPS_USE_VALUE);
        ops_linear_act(ctx, &kv, x, &layer->kv, OPS_IDENTITY);
        ops_attention_rows(ctx, out, &q, &kv, &layer->attention);
    }
    ops_release(ctx, mark);
}

/* a = norm_attn(x + O attn(x)), for all rows, or for first rows (a: [B, D]). */
static void post_norm_attention(const encoder *e, ops_context *ctx, ops_tensor *a,
                                const ops_tensor *x, int l)
{
    const encoder_layer *layer = &e->layers[l];
    size_t mark = ops_mark(ctx);
    ops_tensor context = ops_new(ctx, a->rows, e->heads * e->head_width, context_uses(ctx));
    if (first_rows_only(e, l)) {
        ops_tensor first = ops_new(ctx, a->rows, e->width, BOTH);
        ops_gather_first(ctx, &first, x);
        attend_first(ctx, &context, &first, x, layer);
        ops_linear_residual_norm(ctx, a, NULL, &context, &layer->out, &first, &layer->attn_norm);
    } else {
        attend_all(ctx, &context, x, layer);
        ops_linear_residual_norm(ctx, a, NULL, &context, &layer->out, x, &layer->attn_norm);
    }
    trace_attention(e, ctx, &context, a, l);
    ops_release(ctx, mark);
}

/* act(conv(x)) for every row. */
static ops_tensor convolve(const encoder *e, ops_context *ctx, const ops_tensor *x)
{
    const encoder_convolution *c = &e->convolution;
    ops_tensor out = ops_new(ctx, x->rows, e->width, OPS_USE_VALUE);
    size_t mark = ops_mark(ctx);
    ops_tensor around = ops_new(ctx, x->rows, c->kernel * e->width, OPS_USE_OPERAND);
    ops_gather_around(ctx, &around, x);
    ops_linear_act(ctx, &out, &around, &c->weights, c->activation);
    ops_release(ctx, mark);
    return out;
}

static ops_tensor forward_post_norm(const encoder *e, ops_context *ctx)
{
    ops_tensor x = embed(e, ctx, BOTH);
    ops_tensor a = ops_new(ctx, x.rows, e->width, BOTH), convolved = {0};
    if (e->convolution.weights.n != 0) convolved = convolve(e, ctx, &x);
    for (int l = 0; l < e->n_layers; l++) {
        const encoder_layer *layer = &e->layers[l];
        if (first_rows_only(e, l)) a = ops_new(ctx, ctx->batch.n_sequences, e->width, BOTH);
        post_norm_attention(e, ctx, &a, &x, l);
        if (first_rows_only(e, l)) x = ops_new(ctx, a.rows, e->width, BOTH);
        size_t mark = ops_mark(ctx);
        ops_tensor inner = ops_new(ctx, a.rows, e->ffn_width, OPS_USE_OPERAND);
        ops_linear_act(ctx, &inner, &a, &layer->ffn_in, e->activation);
        ops_linear_residual_norm(ctx, &x, NULL, &inner, &layer->ffn_out, &a, &layer->ffn_norm);
        ops_release(ctx, mark);
        trace(e, ctx, &x, l, "");
        if (l == 0 && convolved.rows > 0) {
            ops_add_norm(ctx, &x, &x, &convolved, &e->convolution.norm);
            trace(e, ctx, &x, -1, "convolution");
        }
    }
    return x;
}

/* x is the residual stream, h = norm(x) what the next linear reads. */
static ops_tensor forward_pre_norm(const encoder *e, ops_context *ctx)
{
    int32_t inner_width = e->heads * e->head_width;
    ops_tensor x = embed(e, ctx, OPS_USE_VALUE);
    ops_tensor h = ops_new(ctx, x.rows, e->width, BOTH);
    ops_tensor context = ops_new(ctx, x.rows, inner_width, context_uses(ctx));
    ops_norm_rows(ctx, &h, &x, &e->layers[0].attn_norm);
    for (int l = 0; l < e->n_layers; l++) {
        const encoder_layer *layer = &e->layers[l];
        if (first_rows_only(e, l)) {
            int32_t rows = ctx->batch.n_sequences;
            ops_tensor first_h = ops_new(ctx, rows, e->width, BOTH);
            ops_tensor first_x = ops_new(ctx, rows, e->width, OPS_USE_VALUE);
            context = ops_new(ctx, rows, inner_width, context_uses(ctx));
            ops_gather_first(ctx, &first_h, &h);
            ops_gather_first(ctx, &first_x, &x);
            attend_first(ctx, &context, &first_h, &h, layer);
            h = first_h;
            x = first_x;
        } else {
            attend_all(ctx, &context, &h, layer);
        }
        ops_linear_residual_norm(ctx, &h, &x, &context, &layer->out, &x, &layer->ffn_norm);
        trace_attention(e, ctx, &context, &x, l);
        size_t mark = ops_mark(ctx);
        ops_tensor inner = ops_new(ctx, x.rows, e->ffn_width, OPS_USE_OPERAND);
        ops_linear_act(ctx, &inner, &h, &layer->ffn_in, e->activation);
        const ops_norm *next = l + 1 < e->n_layers ? &e->layers[l + 1].attn_norm : &e->final_norm;
        ops_linear_residual_norm(ctx, &h, &x, &inner, &layer->ffn_out, &x, next);
        ops_release(ctx, mark);
        trace(e, ctx, &x, l, "");
    }
    trace(e, ctx, &h, -1, "final_norm");
    return h;
}

ops_tensor encoder_forward(const encoder *e, ops_context *ctx)
{
    return e->pre_norm ? forward_pre_norm(e, ctx) : forward_post_norm(e, ctx);
}
