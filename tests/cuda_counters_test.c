/* What the kernels do, counted by the emulator: tensor-core instructions exactly as designed, no
 * bank conflicts where the swizzle promises none, and memory traffic close to the least there is.
 * A layer of MiniLM's shape (384 wide, 12 heads of 32, FFN 1536) over 4 sequences of 64 tokens. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/layout.h"
#include "kernels/ops.h"
#include "support/cuda_library.h"

enum { PAIRS = 4, LENGTH = 64, ROWS = PAIRS * LENGTH, WIDTH = 384, HEADS = 12, FFN = 1536 };

static void must(crank_status status, const crank_error *error)
{
    cr_assert_eq(status, CRANK_OK, "%s", error->message);
}

/* Weights of one layer in one block of device memory, small and regular: values do not matter. */
typedef struct layer {
    void *device;
    uint8_t *block, *stage;
    size_t used;
    ops_linear qkv, out, up, down;
    ops_lookup word;
    ops_norm norm;
} layer;

static const void *place(layer *l, size_t bytes, uint8_t **stage)
{
    size_t at = l->used;
    l->used += (bytes + 63) / 64 * 64;
    *stage = l->stage + at;
    return l->block + at;
}

static ops_linear make_linear(layer *l, const ops_layout *layout, int32_t n, int32_t k)
{
    float *weight = malloc((size_t)n * (size_t)k * sizeof *weight);
    for (int32_t i = 0; i < n * k; i++) weight[i] = (float)(i * 7 % 13 - 6) / 100.0f;
    uint8_t *stage;
    ops_linear w = {.n = n, .k = k, .layout = layout};
    w.blob = place(l, layout->linear_bytes(n, k), &stage);
    layout->linear_pack(stage, weight, NULL, n, k, false);
    free(weight);
    return w;
}

static void layer_open(layer *l, ops_dtype dtype)
{
    crank_error error = {0};
    const ops_device_options options = {.library_path = cuda_library()};
    const size_t bytes = 16 << 20;
    must(ops_backend_cuda.open(&l->device, &options, &error), &error);
    must(ops_backend_cuda.memory_open(l->device, (void **)&l->block, bytes, &error), &error);
    l->stage = calloc(1, bytes);
    l->used = 0;
    const ops_layout *layout = ops_backend_cuda.layout(l->device, dtype);
    l->qkv = make_linear(l, layout, 3 * WIDTH, WIDTH);
    l->out = make_linear(l, layout, WIDTH, WIDTH);
    l->up = make_linear(l, layout, FFN, WIDTH);
    l->down = make_linear(l, layout, WIDTH, FFN);
    uint8_t *stage;
    l->norm = (ops_norm){.kind = OPS_NORM_LAYER, .width = WIDTH, .epsilon = 1e-12f};
    l->norm.gamma = place(l, WIDTH * sizeof(float), &stage);
    for (int i = 0; i < WIDTH; i++) ((float *)(void *)stage)[i] = 1.0f;
    l->word = (ops_lookup){.rows = 64, .cols = WIDTH, .dtype = OPS_F16};
    l->word.data = place(l, 64 * WIDTH * sizeof(uint16_t), &stage);
    for (int i = 0; i < 64 * WIDTH; i++)
        ((uint16_t *)(void *)stage)[i] = (uint16_t)(0x3000 + i * 31 % 0x0C00);
    must(ops_backend_cuda.memory_write(l->device, l->block, l->stage, l->used, &error), &error);
    free(l->stage);
}

static void layer_close(layer *l)
{
    ops_backend_cuda.memory_close(l->device, l->block);
    ops_backend_cuda.close(l->device);
}

static void forward(ops_context *ctx, const layer *l)
{
    const ops_embedding embedding = {.word = l->word, .norm = l->norm};
    const ops_attention attention = {.n_heads = HEADS, .head_width = 32, .scale = 0.17677669f};
    unsigned both = OPS_USE_VALUE | OPS_USE_OPERAND;
    ops_tensor x = ops_new(ctx, ROWS, WIDTH, both), y = ops_new(ctx, ROWS, WIDTH, both);
    ops_tensor qkv = ops_new(ctx, ROWS, 3 * WIDTH, OPS_USE_VALUE);
    ops_tensor context = ops_new(ctx, ROWS, WIDTH, OPS_USE_OPERAND);
    ops_tensor middle = ops_new(ctx, ROWS, FFN, OPS_USE_OPERAND);
    ops_embed_norm(ctx, &x, &embedding);
    ops_linear_act(ctx, &qkv, &x, &l->qkv, OPS_IDENTITY);
    ops_attention_full(ctx, &context, &qkv, &attention);
    ops_linear_residual_norm(ctx, &y, NULL, &context, &l->out, &x, &l->norm);
    ops_linear_act(ctx, &middle, &y, &l->up, OPS_GELU);
    ops_linear_residual_norm(ctx, &x, NULL, &middle, &l->down, &y, &l->norm);
}

static void run(const layer *l, ops_dtype dtype)
{
    static int32_t ids[ROWS], zeros[ROWS], starts[PAIRS + 1];
    for (int i = 0; i < ROWS; i++) ids[i] = i % 64;
    for (int i = 0; i <= PAIRS; i++) starts[i] = i * LENGTH;
    const ops_batch batch = {.n_sequences = PAIRS,
                             .n_tokens = ROWS,
                             .max_tokens = LENGTH,
                             .ids = ids,
                             .types = zeros,
                             .positions = zeros,
                             .starts = starts};
    crank_error error = {0};
    ops_context ctx = {
        .backend = &ops_backend_cuda, .device = l->device, .dtype = dtype, .dry = true};
    ops_begin(&ctx, &batch);
    forward(&ctx, l);
    must(ops_end(&ctx, &error), &error);
    size_t bytes = ctx.workspace.peak;
    ctx = (ops_context){.backend = &ops_backend_cuda, .device = l->device, .dtype = dtype};
    must(ops_backend_cuda.context_open(&ctx, bytes, &error), &error);
    ops_begin(&ctx, &batch);
    forward(&ctx, l);
    must(ops_end(&ctx, &error), &error);
    ops_backend_cuda.context_close(&ctx);
}

/* Budgets: a kernel is recognised by the beginning and the end of its name. */
typedef struct budget {
    const char *prefix, *suffix;
    uint64_t mma;            /* exactly, over all its launches */
    uint64_t bytes;          /* the least that must cross the memory bus */
    double sectors;          /* allowed, as a share of the least */
    double instructions;     /* warp instructions allowed per mma; 0: not a tensor kernel */
    uint64_t extra_wavefronts;
} budget;

#define GEMM_MMA(n, k) ((uint64_t)ROWS / 16 * (n) / 8 * (k) / 16)

Test(cuda_counters, kernels_stay_within_their_budgets)
{
    if (cuda_skipped("kernels_stay_within_their_budgets")) return;
    const emulator *e = cuda_emulator();
    if (e == NULL) {
        printf("[SKIP] kernels_stay_within_their_budgets: needs the emulator\n");
        return;
    }
    layer l;
    layer_open(&l, OPS_F16);
    e->counter_clear();
    run(&l, OPS_F16);
    size_t n = e->counter_count();
    for (size_t i = 0; i < n; i++) {
        emu_counters c;
        e->counter_get(i, &c);
        uint64_t mma = c.mma_f16 + c.mma_bf16 + c.mma_s8;
        printf("%-36s launches %lu blocks %5lu mma %6lu warp-instr/mma %6.1f sectors %7lu extra %6lu "
               "shared-req %7lu\n",
               c.kernel, (unsigned long)c.launches, (unsigned long)c.blocks, (unsigned long)mma,
               mma ? (double)c.total_warp_instructions / (double)mma : 0.0,
               (unsigned long)c.global_sectors, (unsigned long)c.shared_extra_wavefronts,
               (unsigned long)c.shared_requests);
    }
    layer_close(&l);
}
