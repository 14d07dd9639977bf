/* The reference backend's table, its device (nothing but a name), memory and contexts. */
#include "kernels/ref/ref.h"

#include <string.h>

#include "kernels/ref/steps.h"
#include "memory.h"

#define VARIANT(op, idea)                                                                          \
    {                                                                                              \
        (op), "f32", "portable", (idea), "always", true, true                                      \
    }
static const ops_variant variants[] = {
    VARIANT("embed_norm", "row by row"),
    VARIANT("linear", "axpy over k, 16 rows x 256 columns"),
    VARIANT("linear_residual_norm", "axpy over k, 16 rows x 256 columns"),
    VARIANT("norm", "row by row"),
    VARIANT("attention", "one head at a time, keys transposed"),
    VARIANT("attention_rows", "one head at a time, keys transposed"),
    VARIANT("attention_rows_folded", "one head at a time"),
    VARIANT("add_norm", "row by row"),
    VARIANT("gather_first", "row by row"),
    VARIANT("gather_around", "row by row"),
    VARIANT("pool", "row by row"),
    VARIANT("broadcast", "row by row"),
    VARIANT("head", "dot products"),
    VARIANT("vectors", "row by row"),
};

static crank_status device_open(void **device, const ops_device_options *options,
                                crank_error *error)
{
    static const char name[] = "plain C, fp32";
    *device = NULL;
    CRANK_CHECK(options == NULL || options->isa == NULL || strcmp(options->isa, "portable") == 0,
                UNSUPPORTED, error,
                "the reference runs plain C only: expected isa \"portable\", found \"%s\"",
                options->isa);
    *device = (void *)(uintptr_t)name; /* never written through */
    return CRANK_OK;
}

static void device_close(void *device)
{
    (void)device;
}

static const char *device_describe(const void *device)
{
    return device;
}

static const ops_layout *device_layout(const void *device, ops_dtype dtype)
{
    (void)device;
    return dtype == OPS_F32 ? &ref_layout_f32 : NULL;
}

static ops_dtype device_best_dtype(const void *device)
{
    (void)device;
    return OPS_F32;
}

static const ops_variant *device_variants(const void *device, size_t *n)
{
    (void)device;
    *n = sizeof variants / sizeof variants[0];
    return variants;
}

static crank_status memory_open(void *device, void **block, size_t bytes, crank_error *error)
{
    (void)device;
    *block = mem_alloc_aligned(bytes);
    CRANK_CHECK(*block != NULL, OUT_OF_MEMORY, error, "no memory for %zu bytes of weights", bytes);
    return CRANK_OK;
}

static crank_status memory_write(void *device, void *block, const void *source, size_t bytes,
                                 crank_error *error)
{
    (void)device;
    (void)error;
    if (bytes != 0) memcpy(block, source, bytes);
    return CRANK_OK;
}

static void memory_close(void *device, void *block)
{
    (void)device;
    mem_free_aligned(block);
}

static crank_status context_open(ops_context *ctx, size_t workspace_bytes, crank_error *error)
{
    ctx->workspace = (ops_workspace){0};
    ctx->workspace.base = mem_alloc_aligned(workspace_bytes);
    CRANK_CHECK(ctx->workspace.base != NULL, OUT_OF_MEMORY, error,
                "no memory for a workspace of %zu bytes", workspace_bytes);
    ctx->workspace.capacity = workspace_bytes;
    return CRANK_OK;
}

static void context_close(ops_context *ctx)
{
    mem_free_aligned(ctx->workspace.base);
    ctx->workspace = (ops_workspace){0};
}

/* Kernels read the host's arrays as they are and work synchronously. */
static crank_status begin(ops_context *ctx, const ops_batch *host, crank_error *error)
{
    (void)error;
    ctx->batch = *host;
    return CRANK_OK;
}

static crank_status end(ops_context *ctx, crank_error *error)
{
    (void)ctx;
    (void)error;
    return CRANK_OK;
}

/* One f32 matrix serves every use. */
static void tensor(ops_context *ctx, ops_tensor *t)
{
    float *rows = ops_take(ctx, (size_t)t->rows * (size_t)t->cols * sizeof *rows);
    t->value = (t->uses & OPS_USE_VALUE) != 0 ? rows : NULL;
    t->operand = (t->uses & OPS_USE_OPERAND) != 0 ? rows : NULL;
    t->scale = NULL;
}

static void read_f32(ops_context *ctx, float *rows, const ops_tensor *x)
{
    (void)ctx;
    for (int32_t t = 0; t < x->rows; t++) {
        ref_copy(rows + (size_t)t * (size_t)x->cols, ref_row(x, t), x->cols);
    }
}

const ops_backend ops_backend_ref = {
    .name = "ref",
    .host_memory = true,
    .splits_batches = true,
    .open = device_open,
    .close = device_close,
    .describe = device_describe,
    .layout = device_layout,
    .best_dtype = device_best_dtype,
    .variants = device_variants,
    .memory_open = memory_open,
    .memory_write = memory_write,
    .memory_close = memory_close,
    .context_open = context_open,
    .context_close = context_close,
    .begin = begin,
    .end = end,
    .tensor = tensor,
    .read_f32 = read_f32,
    .embed_norm = ref_embed_norm,
    .linear = ref_linear,
    .linear_residual_norm = ref_linear_residual_norm,
    .norm = ref_norm,
    .attention = ref_attention,
    .attention_rows = ref_attention_rows,
    .attention_rows_folded = ref_attention_rows_folded,
    .add_norm = ref_add_norm,
    .gather_first = ref_gather_first,
    .gather_around = ref_gather_around,
    .pool = ref_pool,
    .broadcast = ref_broadcast,
    .head = ref_head,
    .vectors = ref_vectors,
};
