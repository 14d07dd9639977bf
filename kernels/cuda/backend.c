/* The CUDA backend: plain C on the driver API, kernels in one embedded fatbin.
 *
 * The path of a batch: begin() writes its integers to mapped memory; every op appends launches to a
 * list (op_rows.c, op_linear.c, op_attention.c; kernels chosen in variants.c); end() launches the
 * list, or the graph made from an equal one, waits once, and hands out logits (context.c).
 *
 * Values are f16 or bf16; sums, statistics, softmax and the head are f32. int8: operands of linears
 * only (x with a zero point per row, W symmetric per output), values f16. Batch invariance: kernels
 * may be chosen by size, but every candidate sums in the same order (see the headers of the .cuh
 * files). */
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/layout.h"

static const ops_layout *layout(const void *device, ops_dtype dtype)
{
    (void)device;
    switch (dtype) {
    case OPS_F16: return &cuda_layout_f16;
    case OPS_BF16: return &cuda_layout_bf16;
    case OPS_INT8: return &cuda_layout_int8;
    default: return NULL;
    }
}

/* f16 has eight times bf16's precision at the same speed. */
static ops_dtype best_dtype(const void *device)
{
    (void)device;
    return OPS_F16;
}

const ops_backend ops_backend_cuda = {
    .name = "cuda",
    .host_memory = false,
    .splits_batches = false,
    .open = cuda_open,
    .close = cuda_close,
    .describe = cuda_describe,
    .notes = cuda_notes,
    .layout = layout,
    .best_dtype = best_dtype,
    .variants = cuda_variants,
    .memory_open = cuda_memory_open,
    .memory_write = cuda_memory_write,
    .memory_close = cuda_memory_close,
    .context_open = cuda_context_open,
    .context_close = cuda_context_close,
    .begin = cuda_begin,
    .end = cuda_end,
    .tensor = cuda_tensor,
    .read_f32 = cuda_read_f32,
    .embed_norm = cuda_embed_norm,
    .linear = cuda_linear,
    .linear_residual_norm = cuda_linear_residual_norm,
    .norm = cuda_norm,
    .attention = cuda_attention,
    .attention_rows = cuda_attention_rows,
    .attention_rows_folded = cuda_attention_rows_folded,
    .add_norm = cuda_add_norm,
    .gather_first = cuda_gather_first,
    .gather_around = cuda_gather_around,
    .pool = cuda_pool,
    .broadcast = cuda_broadcast,
    .head = cuda_head,
    .vectors = cuda_write_vectors,
};
