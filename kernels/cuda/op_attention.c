#include <stddef.h>
#include <string.h>

#include "kernels/cuda/kernels.h"

static int32_t round_up(int32_t n, int32_t to)
{
    return (n + to - 1) / to * to;
}

static bool supported(ops_context *ctx, const ops_attention *a)
{
    if (a->head_width > 128)
        ops_fail(ctx, CRANK_UNSUPPORTED,
                 "cuda: attention heads of width %d have no GPU kernel (at most 128): use --device "
                 "cpu",
                 a->head_width);
    return ctx->failure == CRANK_OK;
}

/* Index of the query tile (cuda_tile_rows): large tiles read K and V less often, small ones fill
 * the machine; bits are the same. Decided by size buckets, so that graphs repeat. */
static int tile_index(const ops_context *ctx, int32_t n_heads)
{
    const cuda_device *d = ctx->device;
    if (strcmp(d->forced, "query16") == 0) return 0;
    if (strcmp(d->forced, "query64") == 0) return 1;
    int32_t tokens = cuda_bucket(ctx->batch.n_tokens), longest = cuda_bucket(ctx->batch.max_tokens);
    return longest > 16 && tokens / 64 * n_heads >= d->n_sms;
}

/* Everything but query tiles that attention keeps in shared memory: stages of K and V. Two stages
 * when there is more than one block and room for it. */
static void stages(const cuda_device *d, attention_args *args, int32_t longest, int32_t tile_rows,
                   int32_t columns)
{
    int32_t row_bytes = columns * 2;
    args->stage_rows = longest > 128 ? 128 : round_up(longest, 16);
    args->n_stages = 1;
    if (longest > 128 && (tile_rows + 4 * args->stage_rows) * row_bytes <= d->shared_bytes)
        args->n_stages = 2;
}

/* Tables of relative terms are made for a group of heads at a time, so that both together stay
 * below this, or are one head's. */
#define RELATIVE_BYTES ((size_t)64 << 20)

/* Heads whose terms fit; *bytes: of one table, growing with rows (the dry run's largest batch must
 * need the most). */
static int32_t relative_group(const ops_attention *a, int32_t rows, size_t *bytes)
{
    *bytes = 0;
    if (a->relative.index == NULL) return a->n_heads;
    size_t head_bytes =
        (size_t)cuda_bucket(rows) * (size_t)ARGS_LD(a->relative.n_buckets) * sizeof(uint16_t);
    size_t heads = RELATIVE_BYTES / 2 / head_bytes;
    if (heads >= (size_t)a->n_heads) {
        *bytes = (size_t)a->n_heads * head_bytes;
        return a->n_heads;
    }
    *bytes = heads > 0 ? RELATIVE_BYTES / 2 : head_bytes;
    return heads > 0 ? (int32_t)heads : 1;
}

static void relative_terms(ops_context *ctx, const attention_args *args, const ops_attention *a,
                           int32_t rows, int32_t group)
{
    relative_args terms = {.n_rows = cuda_rows(ctx, rows),
                           .qkv = args->qkv,
                           .qkv_ld = args->qkv_ld,
                           .n_heads = a->n_heads,
                           .head_width = a->head_width,
                           .first_head = args->first_head,
                           .group = group,
                           .n_buckets = a->relative.n_buckets,
                           .ld = args->relative_ld,
                           .key = a->relative.key,
                           .query = a->relative.query,
                           .q_terms = (void *)(uintptr_t)args->relative_q,
                           .k_terms = (void *)(uintptr_t)args->relative_k};
    terms.vectors =
        args->vectors && (uintptr_t)terms.key % 16 == 0 && (uintptr_t)terms.query % 16 == 0;
    cuda_launch(ctx, cuda_find(KERNEL_RELATIVE_TERMS, cuda_value_dtype(ctx), a->head_width),
                (uint32_t)(args->relative_ld + 63) / 64,
                (uint32_t)(cuda_grid_rows(ctx, rows) + 63) / 64, (uint32_t)group * 2, 128, 0,
                &terms, sizeof terms);
}

void cuda_attention(ops_context *ctx, ops_tensor *out, const ops_tensor *qkv,
                    const ops_attention *a)
{
    if (!supported(ctx, a)) return;
    size_t mark = ops_mark(ctx), table_bytes;
    void *rows = cuda_row_target(ctx, out), *q_terms = NULL, *k_terms = NULL;
    int32_t group = relative_group(a, out->rows, &table_bytes);
    bool relative = a->relative.index != NULL;
    if (relative && a->relative.key != NULL) q_terms = ops_take(ctx, table_bytes);
    if (relative && a->relative.query != NULL) k_terms = ops_take(ctx, table_bytes);
    bool general = a->window > 0 || a->distance_bias != NULL || a->rope.cos != NULL || relative;
    if (!ctx->dry && ctx->failure == CRANK_OK && out->rows > 0) {
        const cuda_stream *s = cuda_stream_of(ctx);
        int kernel = cuda_find(general ? KERNEL_ATTENTION_GENERAL : KERNEL_ATTENTION,
                               cuda_value_dtype(ctx), a->head_width);
        int tile = tile_index(ctx, a->n_heads);
        int32_t tile_rows = cuda_tile_rows[tile];
        int32_t width = a->n_heads * a->head_width;
        int32_t longest = cuda_bucket(ctx->batch.max_tokens), columns = cuda_kernels[kernel].limit;
        const int32_t *in = (const int32_t *)(uintptr_t)s->in_device;
        attention_args args = {.starts = ctx->batch.starts,
                               .key_counts = ctx->batch.key_counts,
                               .tiles = in + s->tiles[tile],
                               .n_tiles = in + BATCH_TILES + tile,
                               .qkv = qkv->value,
                               .out = rows,
                               .qkv_ld = ARGS_LD(3 * width),
                               .out_ld = ARGS_LD(width),
                               .n_heads = a->n_heads,
                               .head_width = a->head_width,
                               .vectors = a->head_width % 8 == 0,
                               .scale = a->scale,
                               .window = a->window,
                               .distance_bias = a->distance_bias,
                               .distance_span = a->distance_span,
                               .cos = a->rope.cos,
                               .sin = a->rope.sin,
                               .relative_index = a->relative.index,
                               .relative_span = a->relative.span,
                               .relative_q = q_terms,
                               .relative_k = k_terms,
                               .relative_ld = ARGS_LD(a->relative.n_buckets)};
        stages(ctx->device, &args, longest, tile_rows, columns);
        int32_t shared = (tile_rows + 2 * args.n_stages * args.stage_rows) * columns * 2;
        for (int32_t head = 0; head < a->n_heads; head += group) {
            int32_t heads = head + group > a->n_heads ? a->n_heads - head : group;
            args.first_head = head;
            if (relative) relative_terms(ctx, &args, a, out->rows, heads);
            cuda_launch(ctx, kernel, (uint32_t)s->max_tiles[tile], (uint32_t)heads, 1,
                        (uint32_t)tile_rows * 2, (uint32_t)shared, &args, sizeof args);
        }
        cuda_quantise(ctx, out, rows);
    }
    ops_release(ctx, mark);
}

void cuda_attention_rows(ops_context *ctx, ops_tensor *out, const ops_tensor *q,
                         const ops_tensor *kv, const ops_attention *a)
{
    if (!supported(ctx, a)) return;
    size_t mark = ops_mark(ctx);
    void *rows = cuda_row_target(ctx, out);
    if (!ctx->dry && ctx->failure == CRANK_OK && out->rows > 0) {
        int32_t width = a->n_heads * a->head_width;
        attention_rows_args args = {.n_rows = cuda_rows(ctx, out->rows),
                                    .starts = ctx->batch.starts,
                                    .key_counts = ctx->batch.key_counts,
                                    .q = q->value,
                                    .kv = kv->value,
                                    .out = rows,
                                    .q_ld = ARGS_LD(width),
                                    .kv_ld = ARGS_LD(2 * width),
                                    .out_ld = ARGS_LD(width),
                                    .n_heads = a->n_heads,
                                    .head_width = a->head_width,
                                    .max_keys = cuda_bucket(ctx->batch.max_tokens),
                                    .scale = a->scale,
                                    .window = a->window,
                                    .distance_bias = a->distance_bias,
                                    .distance_span = a->distance_span,
                                    .cos = a->rope.cos,
                                    .sin = a->rope.sin,
                                    .relative_index = a->relative.index,
                                    .relative_key = a->relative.key,
                                    .relative_query = a->relative.query,
                                    .relative_span = a->relative.span};
        uint32_t shared = (uint32_t)(128 + args.max_keys + 256 + 4) * sizeof(float);
        cuda_launch(ctx, cuda_find(KERNEL_ATTENTION_ROWS, cuda_value_dtype(ctx), a->head_width),
                    (uint32_t)a->n_heads, (uint32_t)cuda_grid_rows(ctx, out->rows), 1, 128, shared,
                    &args, sizeof args);
        cuda_quantise(ctx, out, rows);
    }
    ops_release(ctx, mark);
}

void cuda_attention_rows_folded(ops_context *ctx, ops_tensor *out, const ops_tensor *q,
                                const ops_tensor *x, const ops_fold *fold, const ops_attention *a)
{
    if (!supported(ctx, a)) return;
    size_t mark = ops_mark(ctx);
    void *rows = cuda_row_target(ctx, out);
    size_t floats = (size_t)cuda_bucket(out->rows) * (size_t)a->n_heads * (size_t)fold->d;
    float *u = ops_take(ctx, floats * sizeof *u), *c = ops_take(ctx, floats * sizeof *c);
    if (!ctx->dry && ctx->failure == CRANK_OK && out->rows > 0) {
        ops_dtype dtype = cuda_value_dtype(ctx);
        int32_t width = a->n_heads * a->head_width, d = fold->d;
        uint32_t grid_rows = (uint32_t)cuda_grid_rows(ctx, out->rows);
        fold_args args = {.n_rows = cuda_rows(ctx, out->rows),
                          .starts = ctx->batch.starts,
                          .key_counts = ctx->batch.key_counts,
                          .q = q->value,
                          .x = x->value,
                          .out = rows,
                          .u = u,
                          .c = c,
                          .key = fold->key,
                          .value = fold->value,
                          .value_bias = fold->value_bias,
                          .q_ld = ARGS_LD(width),
                          .x_ld = ARGS_LD(d),
                          .out_ld = ARGS_LD(width),
                          .n_heads = a->n_heads,
                          .head_width = a->head_width,
                          .d = d,
                          .max_keys = cuda_bucket(ctx->batch.max_tokens),
                          .scale = a->scale,
                          .window = a->window,
                          .distance_bias = a->distance_bias,
                          .distance_span = a->distance_span};
        cuda_launch(ctx, cuda_find(KERNEL_FOLD_QUERY, dtype, a->head_width),
                    (uint32_t)(d + 255) / 256, (uint32_t)a->n_heads, (grid_rows + 3) / 4, 256, 0,
                    &args, sizeof args);
        /* Four heads share a read of x; one at a time when the scores of long texts fill up shared
         * memory. */
        int32_t heads = 4;
        uint32_t per_head = (uint32_t)(d + args.max_keys + 1) * sizeof(float);
        if (4 * per_head > (uint32_t)((const cuda_device *)ctx->device)->shared_bytes) heads = 1;
        cuda_launch(ctx, cuda_find(KERNEL_FOLD_ATTEND, dtype, heads),
                    (uint32_t)((a->n_heads + heads - 1) / heads), grid_rows, 1, 256,
                    (uint32_t)heads * per_head, &args, sizeof args);
        cuda_launch(ctx, cuda_find(KERNEL_FOLD_VALUE, dtype, 0), (uint32_t)(args.out_ld + 31) / 32,
                    (grid_rows + 3) / 4, 1, 256, 0, &args, sizeof args);
        cuda_quantise(ctx, out, rows);
    }
    ops_release(ctx, mark);
}
