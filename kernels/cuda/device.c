#include "kernels/cuda/device.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "kernels/cuda/image.h"
#include "kernels/cuda/nvtx.h"
#include "memory.h"

/* ---- results -----------------------------------------------------------------------------------
 */

/* Faults after which the CUDA context of this process is of no use any more. */
static bool is_sticky(cu_result result)
{
    switch (result) {
    case CU_ECC_UNCORRECTABLE:
    case CU_NVLINK_UNCORRECTABLE:
    case CU_ILLEGAL_ADDRESS:
    case CU_LAUNCH_TIMEOUT:
    case CU_CONTEXT_IS_DESTROYED:
    case CU_ASSERT:
    case CU_HARDWARE_STACK_ERROR:
    case CU_ILLEGAL_INSTRUCTION:
    case CU_MISALIGNED_ADDRESS:
    case CU_INVALID_ADDRESS_SPACE:
    case CU_INVALID_PC:
    case CU_LAUNCH_FAILED: return true;
    default: return false;
    }
}

crank_status cuda_check(cuda_device *d, cu_result result, const char *doing, crank_error *error)
{
    if (result == CU_SUCCESS) return CRANK_OK;
    char text[160];
    cuda_result_text(&d->api, result, text);
    if (is_sticky(result)) {
        int none = 0;
        atomic_compare_exchange_strong(&d->lost, &none, result);
        return status_fail(error, CRANK_DEVICE,
                           "cuda:%d: %s: %s; the GPU cannot be used by this process any more: "
                           "restart it",
                           d->ordinal, doing, text);
    }
    crank_status status = result == CU_OUT_OF_MEMORY ? CRANK_OUT_OF_MEMORY : CRANK_DEVICE;
    return status_fail(error, status, "cuda:%d: %s: %s", d->ordinal, doing, text);
}

crank_status cuda_enter(cuda_device *d, crank_error *error)
{
    int lost = atomic_load(&d->lost);
    if (lost != 0) return cuda_check(d, lost, "an earlier call failed", error);
    CUDA_TRY(d, context_set(d->primary), "making the context current", error);
    return CRANK_OK;
}

/* ---- opening -----------------------------------------------------------------------------------
 */

static crank_status find_device(cuda_device *d, int ordinal, crank_error *error)
{
    int count = 0, major = 0, minor = 0;
    CUDA_TRY(d, device_count(&count), "counting devices", error);
    CRANK_CHECK(count > 0, DEVICE, error,
                "cuda: the driver sees no GPU (nvidia-smi, CUDA_VISIBLE_DEVICES): choose --device "
                "cpu");
    CRANK_CHECK(ordinal >= 0 && ordinal < count, DEVICE, error,
                "cuda:%d: there are %d GPUs, numbered from 0", ordinal, count);
    d->ordinal = ordinal;
    CUDA_TRY(d, device_get(&d->handle, ordinal), "finding the device", error);
    const struct {
        int attribute;
        int *value;
    } wanted[] = {
        {CU_DEVICE_COMPUTE_CAPABILITY_MAJOR, &major},
        {CU_DEVICE_COMPUTE_CAPABILITY_MINOR, &minor},
        {CU_DEVICE_MULTIPROCESSOR_COUNT, &d->n_sms},
        {CU_DEVICE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, &d->shared_bytes},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        CUDA_TRY(d, device_attribute(wanted[i].value, wanted[i].attribute, d->handle),
                 "reading a device attribute", error);
    }
    char name[96] = "";
    CUDA_TRY(d, device_name(name, sizeof name, d->handle), "reading the device name", error);
    d->sm = major * 10 + minor;
    snprintf(d->description, sizeof d->description, "%s (sm_%d, CUDA %d.%d)", name, d->sm,
             d->api.version / 1000, d->api.version % 1000 / 10);
    CRANK_CHECK(d->sm >= 80, DEVICE, error,
                "cuda:%d: %s has compute capability %d.%d, the kernels need 8.0 (Ampere) or later: "
                "choose --device cpu",
                ordinal, name, major, minor);
    return CRANK_OK;
}

/* PTX text, NUL-terminated, for the driver to compile. */
static crank_status unpack_ptx(char **text, const cuda_image *image, crank_error *error)
{
    size_t packed = (size_t)(image->ptx_end - image->ptx);
    /* gzip keeps the size of what it packed, modulo 2^32, in its last four bytes. */
    const unsigned char *last = image->ptx_end - 4;
    size_t bytes =
        (size_t)last[0] | (size_t)last[1] << 8 | (size_t)last[2] << 16 | (size_t)last[3] << 24;
    *text = mem_alloc(bytes + 1);
    CRANK_CHECK(*text != NULL, OUT_OF_MEMORY, error, "no memory for %zu bytes of PTX", bytes);
    z_stream z = {.next_in = (Bytef *)(uintptr_t)image->ptx,
                  .avail_in = (uInt)packed,
                  .next_out = (Bytef *)*text,
                  .avail_out = (uInt)bytes};
    bool right = inflateInit2(&z, 15 + 16) == Z_OK;
    if (right) {
        right = inflate(&z, Z_FINISH) == Z_STREAM_END && z.avail_out == 0;
        inflateEnd(&z);
    }
    (*text)[bytes] = 0;
    if (right) return CRANK_OK;
    mem_free(*text);
    *text = NULL;
    return status_fail(error, CRANK_INTERNAL, "cuda: the embedded PTX of %s is damaged",
                       image->name);
}

/* The code made for this GPU when the build has it; otherwise the driver compiles the PTX. */
static crank_status load_image(cuda_device *d, cu_module *module, const cuda_image *image,
                               crank_error *error)
{
    if (image->cubins != NULL) {
        cu_result result = d->api.module_load(module, image->cubins);
        if (result == CU_SUCCESS) return CRANK_OK;
        if (result != CU_NO_BINARY_FOR_GPU && result != CU_INVALID_IMAGE)
            return cuda_check(d, result, "loading the kernels", error);
    }
    char *text;
    CRANK_TRY(unpack_ptx(&text, image, error));
    cu_result result = d->api.module_load(module, text);
    mem_free(text);
    return cuda_check(d, result, "compiling the kernels for this GPU", error);
}

/* Finds kernel i in the modules loaded so far, beginning with the latest. */
static crank_status find_function(cuda_device *d, int i, crank_error *error)
{
    for (int m = d->n_modules - 1; m >= 0; m--) {
        cu_result result =
            d->api.module_function(&d->functions[i], d->modules[m], cuda_kernels[i].symbol);
        if (result == CU_SUCCESS) return CRANK_OK;
        if (result != CU_NOT_FOUND) return cuda_check(d, result, cuda_kernels[i].symbol, error);
    }
    return status_fail(error, CRANK_INTERNAL, "cuda: no kernel %s in this build",
                       cuda_kernels[i].symbol);
}

static crank_status load_kernels(cuda_device *d, crank_error *error)
{
    for (const cuda_image *image = cuda_images; image->name != NULL; image++) {
        CRANK_CHECK(d->n_modules < CUDA_MODULES_MAX, INTERNAL, error, "cuda: too many images");
        CRANK_TRY(load_image(d, &d->modules[d->n_modules], image, error));
        d->n_modules++;
    }
    for (int i = 0; i < cuda_n_kernels; i++) {
        CRANK_TRY(find_function(d, i, error));
        const char *symbol = cuda_kernels[i].symbol;
        int room = cuda_kernels[i].shared_bytes;
        if (room > d->shared_bytes) continue; /* never launched here */
        if (room == 0) { /* sized by the model and the batch: allow all there is */
            CUDA_TRY(d,
                     function_get(&d->shared_static[i], CU_FUNC_SHARED_SIZE_BYTES, d->functions[i]),
                     symbol, error);
            room = d->shared_bytes - d->shared_static[i];
        }
        CUDA_TRY(d, function_set(d->functions[i], CU_FUNC_MAX_DYNAMIC_SHARED_SIZE_BYTES, room),
                 symbol, error);
    }
    int ptx = 0;
    CUDA_TRY(d, function_get(&ptx, CU_FUNC_PTX_VERSION, d->functions[0]), "reading the target",
             error);
    d->overlap = ptx >= 90 && d->sm >= 90;
    return CRANK_OK;
}

static void list_variants(cuda_device *d)
{
    for (int i = 0; i < cuda_n_kernels; i++) {
        const cuda_kernel *k = &cuda_kernels[i];
        char *shape = d->shapes[i];
        size_t room = sizeof d->shapes[i];
        if (k->tile_m > 0)
            snprintf(shape, room, "by predicted time, tile %dx%d", k->tile_m, k->tile_n);
        else if (k->kind == KERNEL_ATTENTION || k->kind == KERNEL_ATTENTION_GENERAL)
            snprintf(shape, room, "head width <= %d%s", k->limit,
                     k->kind == KERNEL_ATTENTION_GENERAL ? ", with options" : "");
        else if (k->kind == KERNEL_FOLD_ATTEND)
            snprintf(shape, room, "%d heads a block", k->limit);
        else if (k->limit > 0)
            snprintf(shape, room, "width <= %d", k->limit);
        d->variants[i] =
            (ops_variant){.op = cuda_kind_op(k->kind),
                          .dtype = k->dtype == OPS_F32 ? "any" : ops_dtypes[k->dtype].name,
                          .isa = "sm_80",
                          .name = k->symbol,
                          .shape = shape,
                          .available = k->shared_bytes <= d->shared_bytes,
                          .selected = k->shared_bytes <= d->shared_bytes};
    }
}

static crank_status open_device(cuda_device *d, const ops_device_options *options,
                                crank_error *error)
{
    CRANK_TRY(cuda_driver_open(&d->api, options->library_path, cuda_image_version, error));
    CRANK_TRY(find_device(d, options->ordinal, error));
    CUDA_TRY(d, context_retain(&d->primary, d->handle), "creating the context", error);
    CRANK_TRY(cuda_enter(d, error));
    d->budget_bytes = options->memory_budget_bytes;
    if (options->isa != NULL) snprintf(d->forced, sizeof d->forced, "%s", options->isa);
    d->ranges = options->nvtx_path != NULL;
    if (d->ranges) cuda_range_open(options->nvtx_path);
    CRANK_TRY(load_kernels(d, error));
    /* The emulator brings its own cuBLASLt: NVIDIA's would look for a GPU. */
    cuda_matmul_open(d, d->forced,
                     options->cublaslt_path != NULL ? options->cublaslt_path
                                                    : options->library_path);
    if (d->matmul.policy == MATMUL_CUBLASLT && d->matmul.lt.handle != NULL) {
        /* Other bits than the own GEMM's: score caches tell devices apart by this text. */
        size_t used = strlen(d->description);
        snprintf(d->description + used, sizeof d->description - used, ", cuBLASLt %d.%d",
                 d->matmul.lt.major, d->matmul.lt.minor);
    }
    list_variants(d);
    return CRANK_OK;
}

crank_status cuda_open(void **device, const ops_device_options *options, crank_error *error)
{
    *device = NULL;
    CRANK_CHECK(cuda_image_version != 0, DEVICE, error,
                "cuda: this build of crank has no GPU kernels: build it where nvcc is installed, "
                "or choose --device cpu");
    cuda_device *d = mem_zero(1, sizeof *d);
    CRANK_CHECK(d != NULL, OUT_OF_MEMORY, error, "no memory for a device");
    pthread_mutex_init(&d->lock, NULL);
    pthread_mutex_init(&d->matmul.lock, NULL);
    crank_status status = open_device(d, options, error);
    if (status != CRANK_OK)
        cuda_close(d);
    else
        *device = d;
    return status;
}

void cuda_close(void *device)
{
    cuda_device *d = device;
    if (d == NULL) return;
    cuda_matmul_close(d);
    if (d->n_modules > 0 && cuda_enter(d, NULL) == CRANK_OK) {
        for (int i = 0; i < d->n_modules; i++) d->api.module_unload(d->modules[i]);
    }
    if (d->primary != NULL) d->api.context_release(d->handle);
    cuda_driver_close(&d->api);
    pthread_mutex_destroy(&d->matmul.lock);
    pthread_mutex_destroy(&d->lock);
    mem_free(d);
}

const char *cuda_describe(const void *device)
{
    return ((const cuda_device *)device)->description;
}

/* After the kernels come cuBLASLt's GEMMs. */
const ops_variant *cuda_variants(const void *device, size_t *n)
{
    static const struct {
        const char *op, *dtype, *name;
    } others[] = {
        {"linear", "f16", "cublaslt_f16_bias"},
        {"linear", "f16", "cublaslt_f16_gelu_tanh"},
        {"linear", "f16", "cublaslt_f16+bias_act"},
        {"linear_residual_norm", "f16", "cublaslt_f16_residual"},
        {"linear", "bf16", "cublaslt_bf16_bias"},
        {"linear", "bf16", "cublaslt_bf16_gelu_tanh"},
        {"linear", "bf16", "cublaslt_bf16+bias_act"},
        {"linear_residual_norm", "bf16", "cublaslt_bf16_residual"},
    };
    cuda_device *d =
        (cuda_device *)(uintptr_t)device; /* the library is opened when first asked for */
    size_t n_others = sizeof others / sizeof others[0];
    bool there = cuda_matmul_present(d), forced = d->matmul.policy == MATMUL_CUBLASLT;
    for (size_t i = 0; i < n_others; i++) {
        d->variants[(size_t)cuda_n_kernels + i] =
            (ops_variant){.op = others[i].op,
                          .dtype = others[i].dtype,
                          .isa = "cublaslt",
                          .name = others[i].name,
                          .shape = i % 4 % 3 != 0 ? "with --isa cublaslt"
                                                  : "sm_90, rows >= 2048, where bits are equal",
                          .available = there,
                          .selected = there && forced};
    }
    *n = (size_t)cuda_n_kernels + n_others;
    return d->variants;
}

void cuda_notes(void *device, char *text, size_t bytes)
{
    cuda_device *d = device;
    cuda_matmul_notes(d, text, bytes);
    size_t used = strlen(text);
    if (d->ranges && !cuda_range_built && used < bytes)
        snprintf(text + used, bytes - used, "%sNVTX: this build has no header for it",
                 used > 0 ? "; " : "");
}

/* ---- memory ------------------------------------------------------------------------------------
 */

crank_status cuda_take(cuda_device *d, cu_address *address, size_t bytes, const char *what,
                       crank_error *error)
{
    *address = 0;
    size_t used = atomic_fetch_add(&d->used_bytes, bytes), free_bytes = 0, total_bytes = 0;
    cu_result result = CU_OUT_OF_MEMORY;
    if (d->budget_bytes == 0 || (bytes <= d->budget_bytes && used <= d->budget_bytes - bytes))
        result = d->api.memory_alloc(address, bytes > 0 ? bytes : 1);
    if (result == CU_SUCCESS) return CRANK_OK;
    atomic_fetch_sub(&d->used_bytes, bytes);
    if (result != CU_OUT_OF_MEMORY) return cuda_check(d, result, what, error);
    if (d->api.memory_info(&free_bytes, &total_bytes) != CU_SUCCESS) free_bytes = total_bytes = 0;
    const double mib = 1048576.0;
    if (d->budget_bytes != 0)
        return status_fail(error, CRANK_OUT_OF_MEMORY,
                           "cuda:%d: %s: %.1f MiB do not fit: %.1f MiB of the budget of %.1f MiB "
                           "are taken, %.1f MiB are free on the GPU: raise the budget, use a "
                           "smaller dtype or fewer tokens a batch",
                           d->ordinal, what, (double)bytes / mib, (double)used / mib,
                           (double)d->budget_bytes / mib, (double)free_bytes / mib);
    return status_fail(
        error, CRANK_OUT_OF_MEMORY,
        "cuda:%d: %s: %.1f MiB do not fit: %.1f of %.1f MiB are free on the GPU: use "
        "a smaller dtype, fewer tokens a batch, or --device cpu",
        d->ordinal, what, (double)bytes / mib, (double)free_bytes / mib, (double)total_bytes / mib);
}

void cuda_give(cuda_device *d, cu_address address, size_t bytes)
{
    if (address == 0) return;
    if (cuda_enter(d, NULL) == CRANK_OK) d->api.memory_free(address);
    atomic_fetch_sub(&d->used_bytes, bytes);
}

crank_status cuda_memory_open(void *device, void **block, size_t bytes, crank_error *error)
{
    cuda_device *d = device;
    *block = NULL;
    CRANK_TRY(cuda_enter(d, error));
    cuda_block *b = mem_zero(1, sizeof *b);
    CRANK_CHECK(b != NULL, OUT_OF_MEMORY, error, "no memory for a block");
    crank_status status = cuda_take(d, &b->address, bytes, "the model's weights", error);
    if (status != CRANK_OK) {
        mem_free(b);
        return status;
    }
    b->bytes = bytes;
    pthread_mutex_lock(&d->lock);
    b->next = d->blocks;
    d->blocks = b;
    pthread_mutex_unlock(&d->lock);
    *block = (void *)(uintptr_t)b->address;
    return CRANK_OK;
}

crank_status cuda_memory_write(void *device, void *block, const void *source, size_t bytes,
                               crank_error *error)
{
    cuda_device *d = device;
    CRANK_TRY(cuda_enter(d, error));
    if (bytes == 0) return CRANK_OK;
    CUDA_TRY(d, copy_to_device((cu_address)(uintptr_t)block, source, bytes), "uploading weights",
             error);
    /* A copy from pageable memory may return before the data has arrived, and the streams that
     * compute do not wait for the default stream. */
    CUDA_TRY(d, stream_synchronize(NULL), "uploading weights", error);
    return CRANK_OK;
}

void cuda_memory_close(void *device, void *block)
{
    cuda_device *d = device;
    if (block == NULL) return;
    pthread_mutex_lock(&d->lock);
    cuda_block **link = &d->blocks;
    while (*link != NULL && (*link)->address != (cu_address)(uintptr_t)block) link = &(*link)->next;
    cuda_block *b = *link;
    if (b != NULL) *link = b->next;
    pthread_mutex_unlock(&d->lock);
    if (b == NULL) return;
    cuda_matmul_forget(d, block, b->bytes);
    cuda_give(d, b->address, b->bytes);
    mem_free(b);
}
