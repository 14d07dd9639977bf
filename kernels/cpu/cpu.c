/* The CPU backend: opens a level, owns weight memory and workspaces, and names the ops' drivers. */
#include "kernels/cpu/cpu.h"

#include <stdio.h>
#include <string.h>

#include "memory.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* The processor's own name, without the padding that some have. */
static void processor_name(char *text, size_t bytes)
{
    unsigned words[12], highest = 0, unused;
    __get_cpuid(0x80000000u, &highest, &unused, &unused, &unused);
    snprintf(text, bytes, "x86-64");
    if (highest < 0x80000004u) return;
    for (unsigned i = 0; i < 3; i++) {
        __get_cpuid(0x80000002u + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2],
                    &words[4 * i + 3]);
    }
    char name[sizeof words + 1];
    memcpy(name, words, sizeof words);
    name[sizeof words] = '\0';
    const char *start = name + strspn(name, " ");
    size_t length = strlen(start);
    while (length > 0 && start[length - 1] == ' ') length--;
    if (length > 0) snprintf(text, bytes, "%.*s", (int)length, start);
}
#elif defined(__aarch64__)
static void processor_name(char *text, size_t bytes)
{
    snprintf(text, bytes, "aarch64");
}
#else
static void processor_name(char *text, size_t bytes)
{
    snprintf(text, bytes, "CPU");
}
#endif

/* "avx2, portable": the levels that this CPU has. */
static void available_names(char *text, size_t bytes)
{
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; cpu_levels[i] != NULL; i++) {
        if (!cpu_levels[i]->available() || used >= bytes) continue;
        int n =
            snprintf(text + used, bytes - used, "%s%s", used > 0 ? ", " : "", cpu_levels[i]->name);
        used += (size_t)n;
    }
}

static const cpu_level *find_level(const char *name)
{
    for (size_t i = 0; cpu_levels[i] != NULL; i++) {
        bool wanted = name == NULL || strcmp(cpu_levels[i]->name, name) == 0;
        if (wanted && cpu_levels[i]->available()) return cpu_levels[i];
    }
    return NULL;
}

static void cpu_close(void *opened)
{
    cpu_device *device = opened;
    if (device == NULL) return;
    mem_free(device->variants);
    mem_free(device);
}

static crank_status cpu_open(void **out, const ops_device_options *options, crank_error *error)
{
    *out = NULL;
    const char *isa = options != NULL ? options->isa : NULL;
    const cpu_level *level = find_level(isa);
    char names[160];
    available_names(names, sizeof names);
    CRANK_CHECK(level != NULL, UNSUPPORTED, error,
                "instruction set \"%s\" is not one of this CPU's: %s", isa, names);
    cpu_device *device = mem_zero(1, sizeof *device);
    CRANK_CHECK(device != NULL, OUT_OF_MEMORY, error, "no memory for the CPU backend");
    device->level = level;
    crank_status status = cpu_variants_open(device, error);
    if (status != CRANK_OK) {
        cpu_close(device);
        return status;
    }
    char processor[64];
    processor_name(processor, sizeof processor);
    snprintf(device->text, sizeof device->text, "%s (%s)", processor, level->name);
    *out = device;
    return CRANK_OK;
}

static const char *cpu_describe(const void *device)
{
    return ((const cpu_device *)device)->text;
}

/* Every level computes in every dtype but F16: without a wider sum it has nothing over bf16, and
 * no CPU here multiplies it. */
static const ops_layout *cpu_layout(const void *device, ops_dtype dtype)
{
    (void)device;
    switch (dtype) {
    case OPS_F32: return &cpu_layout_f32;
    case OPS_BF16: return &cpu_layout_bf16;
    case OPS_INT8: return &cpu_layout_int8;
    default: return NULL;
    }
}

/* bf16 keeps the order of documents (Kendall tau against f32 above 0.98) at twice the speed where
 * the CPU multiplies it; elsewhere it would only cost time. int8 is for those who ask. */
static ops_dtype cpu_best_dtype(const void *device)
{
    return ((const cpu_device *)device)->level->fast_bf16 ? OPS_BF16 : OPS_F32;
}

static const ops_variant *cpu_variants(const void *device, size_t *n)
{
    const cpu_device *d = device;
    *n = d->n_variants;
    return d->variants;
}

static crank_status cpu_memory_open(void *device, void **block, size_t bytes, crank_error *error)
{
    (void)device;
    *block = mem_alloc_aligned(bytes);
    CRANK_CHECK(*block != NULL, OUT_OF_MEMORY, error, "no memory for %zu bytes of weights", bytes);
    return CRANK_OK;
}

static crank_status cpu_memory_write(void *device, void *block, const void *source, size_t bytes,
                                     crank_error *error)
{
    (void)device;
    (void)error;
    if (block != source && bytes > 0) memcpy(block, source, bytes);
    return CRANK_OK;
}

static void cpu_memory_close(void *device, void *block)
{
    (void)device;
    mem_free_aligned(block);
}

static crank_status cpu_context_start(ops_context *ctx, size_t workspace_bytes, crank_error *error)
{
    ctx->workspace = (ops_workspace){0};
    ctx->workspace.base = mem_alloc_aligned(workspace_bytes);
    CRANK_CHECK(ctx->workspace.base != NULL, OUT_OF_MEMORY, error,
                "no memory for a workspace of %zu bytes", workspace_bytes);
    ctx->workspace.capacity = workspace_bytes;
    return CRANK_OK;
}

static void cpu_context_close(ops_context *ctx)
{
    mem_free_aligned(ctx->workspace.base);
    ctx->workspace = (ops_workspace){0};
}

static crank_status cpu_begin(ops_context *ctx, const ops_batch *host, crank_error *error)
{
    (void)ctx; /* kernels read the host's arrays in place */
    (void)host;
    (void)error;
    return CRANK_OK;
}

static crank_status cpu_end(ops_context *ctx, crank_error *error)
{
    (void)ctx;
    (void)error;
    return CRANK_OK;
}

const ops_backend ops_backend_cpu = {
    .name = "cpu",
    .host_memory = true,
    .splits_batches = true,
    .open = cpu_open,
    .close = cpu_close,
    .describe = cpu_describe,
    .layout = cpu_layout,
    .best_dtype = cpu_best_dtype,
    .variants = cpu_variants,
    .memory_open = cpu_memory_open,
    .memory_write = cpu_memory_write,
    .memory_close = cpu_memory_close,
    .context_open = cpu_context_start,
    .context_close = cpu_context_close,
    .begin = cpu_begin,
    .end = cpu_end,
    .tensor = cpu_tensor,
    .read_f32 = cpu_read_f32,
    .embed_norm = cpu_embed_norm,
    .linear = cpu_linear,
    .linear_residual_norm = cpu_linear_residual_norm,
    .norm = cpu_norm,
    .attention = cpu_attention,
    .attention_rows = cpu_attention_rows,
    .attention_rows_folded = cpu_attention_rows_folded,
    .add_norm = cpu_add_norm,
    .gather_first = cpu_gather_first,
    .gather_around = cpu_gather_around,
    .pool = cpu_pool,
    .broadcast = cpu_broadcast,
    .head = cpu_head,
    .vectors = cpu_vectors,
};
