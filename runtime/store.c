#include "runtime/store.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "memory.h"

#define ITEM_ALIGNMENT 64u

static size_t align_up(size_t bytes)
{
    return (bytes + ITEM_ALIGNMENT - 1) / ITEM_ALIGNMENT * ITEM_ALIGNMENT;
}

void store_open(store *s, const bindings *source, const safetensors *file, const ops_layout *layout,
                const ops_layout *file_layout)
{
    *s = (store){.source = source,
                 .file = file,
                 .layout = layout,
                 .file_layout = file_layout,
                 .source_layer = -1};
}

void store_close(store *s)
{
    mem_free(s->items);
    *s = (store){0};
}

static store_item *add_item(store *s, store_kind kind, const char *name, int layer)
{
    if (s->n_items == s->capacity) {
        int capacity = s->capacity != 0 ? 2 * s->capacity : 64;
        store_item *grown = mem_resize(s->items, (size_t)capacity, sizeof *grown);
        if (grown == NULL) {
            s->failure = CRANK_OUT_OF_MEMORY;
            return NULL;
        }
        s->items = grown;
        s->capacity = capacity;
    }
    store_item *item = &s->items[s->n_items++];
    *item = (store_item){.kind = kind};
    if (layer < 0) {
        snprintf(item->name, sizeof item->name, "%s", name);
    } else {
        snprintf(item->name, sizeof item->name, "layer.%d.%s", layer, name);
    }
    return item;
}

static void place(store *s, store_item *item, size_t bytes)
{
    item->bytes = bytes;
    item->offset = s->bytes;
    s->bytes += align_up(bytes);
}

static const st_tensor *source_tensor(const store *s, int field, int layer)
{
    if (s->source == NULL || field < 0) return NULL;
    if (layer >= 0 && s->source_layer >= 0) layer = s->source_layer;
    return bind_get(s->source, field, layer < 0 ? 0 : layer);
}

void store_linear(store *s, ops_linear *target, const store_linear_spec *spec)
{
    *target = (ops_linear){.n = spec->rows, .k = spec->cols, .gated = spec->gated};
    s->n_parameters += (int64_t)spec->rows * spec->cols;
    store_item *item = add_item(s, STORE_LINEAR, spec->name, spec->layer);
    if (item == NULL) return;
    item->rows = spec->rows;
    item->cols = spec->cols;
    item->gated = spec->gated;
    item->swap_halves = spec->swap_halves;
    item->n_parts = spec->n_parts;
    item->first_row = spec->source_rows > 0 ? spec->first_row : 0;
    item->sliced = spec->source_rows > 0;
    for (int part = 0; part < spec->n_parts; part++) {
        item->weight[part] = source_tensor(s, spec->weights[part], spec->layer);
        item->bias[part] = source_tensor(s, spec->biases[part], spec->layer);
        if (item->bias[part] != NULL) s->n_parameters += spec->rows / spec->n_parts;
    }
    item->target = target;
    place(s, item, s->layout->linear_bytes(spec->rows, spec->cols));
}

void store_lookup(store *s, ops_lookup *target, const char *name, int field, int32_t rows,
                  int32_t cols)
{
    ops_dtype type = s->layout->table_dtype;
    *target = (ops_lookup){.rows = rows, .cols = cols, .dtype = type};
    s->n_parameters += (int64_t)rows * cols;
    store_item *item = add_item(s, STORE_LOOKUP, name, -1);
    if (item == NULL) return;
    item->rows = rows;
    item->cols = cols;
    item->n_parts = 1;
    item->weight[0] = source_tensor(s, field, -1);
    item->target = target;
    place(s, item, (size_t)rows * (size_t)cols * (size_t)ops_dtypes[type].bytes);
}

static bool present(const store *s, const char *name, int layer, int field)
{
    if (field < 0) return false;
    if (s->source != NULL) return source_tensor(s, field, layer) != NULL;
    char full[STORE_NAME_BYTES];
    if (layer < 0) {
        snprintf(full, sizeof full, "%s", name);
    } else {
        snprintf(full, sizeof full, "layer.%d.%s", layer, name);
    }
    return safetensors_find(s->file, full) != NULL;
}

void store_floats(store *s, const float **target, const char *name, int layer, int field,
                  int32_t first_row, int32_t rows, int32_t cols, bool transpose)
{
    *target = NULL;
    if (!present(s, name, layer, field)) return;
    s->n_parameters += (int64_t)rows * cols;
    store_item *item = add_item(s, STORE_FLOATS, name, layer);
    if (item == NULL) return;
    item->rows = rows;
    item->cols = cols;
    item->first_row = first_row;
    item->sliced = true;
    item->transpose = transpose;
    item->n_parts = 1;
    item->weight[0] = source_tensor(s, field, layer);
    item->target = (void *)target;
    place(s, item, (size_t)rows * (size_t)cols * sizeof(float));
}

void store_tensor_floats(store *s, const float **target, const char *name, const safetensors *file,
                         const st_tensor *tensor, int32_t rows, int32_t cols)
{
    *target = NULL;
    if (tensor == NULL && (file != NULL || safetensors_find(s->file, name) == NULL)) return;
    s->n_parameters += (int64_t)rows * cols;
    store_item *item = add_item(s, STORE_FLOATS, name, -1);
    if (item == NULL) return;
    item->rows = rows;
    item->cols = cols;
    item->n_parts = 1;
    item->weight[0] = tensor;
    item->file = file;
    item->target = (void *)target;
    place(s, item, (size_t)rows * (size_t)cols * sizeof(float));
}

void store_tensor_linear(store *s, ops_linear *target, const char *name, const safetensors *file,
                         const st_tensor *weight, const st_tensor *bias, int32_t rows, int32_t cols)
{
    *target = (ops_linear){.n = rows, .k = cols};
    s->n_parameters += (int64_t)rows * cols;
    store_item *item = add_item(s, STORE_LINEAR, name, -1);
    if (item == NULL) return;
    item->rows = rows;
    item->cols = cols;
    item->n_parts = 1;
    item->weight[0] = weight;
    item->bias[0] = bias;
    if (bias != NULL) s->n_parameters += rows;
    item->file = file;
    item->target = target;
    place(s, item, s->layout->linear_bytes(rows, cols));
}

static void declare_computed(store *s, store_kind kind, void *target, const char *name, int layer,
                             size_t n, store_compute compute, void *argument)
{
    store_item *item = add_item(s, kind, name, layer);
    if (item == NULL) return;
    item->rows = 1;
    item->cols = (int32_t)n;
    item->compute = compute;
    item->argument = argument;
    item->target = target;
    place(s, item, n * 4);
}

void store_computed_floats(store *s, const float **target, const char *name, int layer, size_t n,
                           store_compute compute, void *argument)
{
    *target = NULL;
    declare_computed(s, STORE_FLOATS, (void *)target, name, layer, n, compute, argument);
}

void store_computed_linear(store *s, ops_linear *target, const char *name, int32_t rows,
                           int32_t cols, int bias, store_compute compute, void *argument)
{
    store_linear_spec spec = {.name = name, .layer = -1, .rows = rows, .cols = cols};
    store_linear(s, target, &spec);
    if (s->failure != CRANK_OK) return;
    store_item *item = &s->items[s->n_items - 1];
    item->bias[0] = source_tensor(s, bias, -1);
    if (item->bias[0] != NULL) s->n_parameters += rows;
    item->compute = compute;
    item->argument = argument;
}

void store_computed_ints(store *s, const int32_t **target, const char *name, int layer, size_t n,
                         store_compute compute, void *argument)
{
    *target = NULL;
    declare_computed(s, STORE_INTS, (void *)target, name, layer, n, compute, argument);
}

/* ---- making an item's bytes ---- */

/* f32 room for the largest item's rows, a second for what a transposition or swap reads from, and
 * packed bytes for what cannot be packed in place. One per loading thread. */
typedef struct scratch {
    float *values, *raw, *bias;
    uint8_t *packed;
} scratch;

static size_t item_values(const store_item *item)
{
    return (size_t)item->rows * (size_t)item->cols;
}

static crank_status scratch_open(scratch *w, const store *s, bool packed, crank_error *error)
{
    size_t values = 0, rows = 0, bytes = 0;
    for (int i = 0; i < s->n_items; i++) {
        const store_item *item = &s->items[i];
        if (item_values(item) > values) values = item_values(item);
        if ((size_t)item->rows > rows) rows = (size_t)item->rows;
        if (align_up(item->bytes) > bytes) bytes = align_up(item->bytes);
    }
    *w = (scratch){0};
    w->values = mem_alloc_aligned(values * sizeof(float));
    w->raw = mem_alloc_aligned(values * sizeof(float));
    w->bias = mem_alloc_aligned(rows * sizeof(float));
    if (packed) w->packed = mem_alloc_aligned(bytes);
    bool complete = w->values && w->raw && w->bias && (!packed || w->packed);
    CRANK_CHECK(complete, OUT_OF_MEMORY, error, "no memory to pack a weight of %zu values", values);
    return CRANK_OK;
}

static void scratch_close(scratch *w)
{
    mem_free_aligned(w->values);
    mem_free_aligned(w->raw);
    mem_free_aligned(w->bias);
    mem_free_aligned(w->packed);
    *w = (scratch){0};
}

/* Rows of a tensor as finite f32. */
static crank_status read_rows(const safetensors *file, const st_tensor *tensor, bool sliced,
                              int32_t first_row, int32_t rows, int32_t cols, float *values,
                              float *raw, crank_error *error)
{
    size_t n = (size_t)rows * (size_t)cols;
    if (!sliced || (int64_t)n == tensor->elements) {
        return safetensors_read_f32(file, tensor, values, error);
    }
    size_t element = dtype_bytes(tensor->type);
    CRANK_TRY(safetensors_read_range(file, tensor, (uint64_t)first_row * (uint64_t)cols * element,
                                     n * element, raw, error));
    CRANK_TRY(dtype_to_f32(values, raw, tensor->type, n, error));
    size_t finite = dtype_finite_prefix(values, n);
    CRANK_CHECK(finite == n, NUMERIC, error, "tensor %s: value %zu is not finite", tensor->name,
                finite);
    return CRANK_OK;
}

/* The item's f32 values (and bias) from a folder's tensors, as the architecture declared them. */
static crank_status gather_source(const store *s, const store_item *item, scratch *w,
                                  crank_error *error)
{
    bool rearranged = item->transpose || item->swap_halves;
    float *values = rearranged ? w->raw : w->values;
    float *free_room = rearranged ? w->values : w->raw;
    const safetensors *file = item->file != NULL ? item->file : s->file;
    size_t half = item_values(item) / 2;
    int32_t done = 0;
    memset(w->bias, 0, (size_t)item->rows * sizeof(float));
    if (item->compute != NULL) {
        CRANK_TRY(item->compute(item->argument, w->values, item_values(item), error));
        if (item->bias[0] == NULL) return CRANK_OK;
        return read_rows(file, item->bias[0], false, 0, item->rows, 1, w->bias, w->raw, error);
    }
    for (int part = 0; part < item->n_parts; part++) {
        const st_tensor *tensor = item->weight[part];
        int32_t rows = item->sliced ? item->rows : (int32_t)(tensor->elements / item->cols);
        CRANK_CHECK(rows <= item->rows - done, INTERNAL, error, "%s: its parts do not fit",
                    item->name);
        CRANK_TRY(read_rows(file, tensor, item->sliced, item->first_row, rows, item->cols,
                            values + (size_t)done * (size_t)item->cols, free_room, error));
        if (item->bias[part] != NULL) {
            CRANK_TRY(read_rows(file, item->bias[part], item->sliced, item->first_row, rows, 1,
                                w->bias + done, free_room, error));
        }
        done += rows;
    }
    CRANK_CHECK(done == item->rows, INTERNAL, error, "%s: its parts leave rows empty", item->name);
    if (item->transpose) {
        for (int32_t r = 0; r < item->rows; r++) {
            for (int32_t c = 0; c < item->cols; c++) {
                w->values[(size_t)c * (size_t)item->rows + (size_t)r] =
                    w->raw[(size_t)r * (size_t)item->cols + (size_t)c];
            }
        }
    }
    if (item->swap_halves) {
        memcpy(w->values, w->raw + half, half * sizeof(float));
        memcpy(w->values + half, w->raw, half * sizeof(float));
        for (int32_t r = 0; r < item->rows / 2; r++) {
            float first = w->bias[r];
            w->bias[r] = w->bias[r + item->rows / 2];
            w->bias[r + item->rows / 2] = first;
        }
    }
    return CRANK_OK;
}

static dtype table_type(ops_dtype type)
{
    return type == OPS_BF16 ? DTYPE_BF16 : type == OPS_F16 ? DTYPE_F16 : DTYPE_F32;
}

static const st_tensor *converted_tensor(const store *s, const store_item *item, size_t bytes,
                                         crank_status *status, crank_error *error)
{
    const st_tensor *tensor = safetensors_find(s->file, item->name);
    if (tensor == NULL || tensor->bytes != bytes) {
        *status = status_fail(error, CRANK_MODEL,
                              "converted file: tensor %s: expected %zu bytes, found %s%llu",
                              item->name, bytes, tensor == NULL ? "none, " : "",
                              tensor == NULL ? 0ull : (unsigned long long)tensor->bytes);
        return NULL;
    }
    return tensor;
}

/* The same values out of a converted file in another layout. */
static crank_status gather_converted(const store *s, const store_item *item, scratch *w,
                                     crank_error *error)
{
    crank_status status = CRANK_OK;
    size_t bytes = item->bytes;
    dtype type = DTYPE_F32;
    if (item->kind == STORE_LINEAR) {
        bytes = s->file_layout->linear_bytes(item->rows, item->cols);
    } else if (item->kind == STORE_LOOKUP) {
        type = table_type(s->file_layout->table_dtype);
        bytes = item_values(item) * dtype_bytes(type);
    }
    const st_tensor *tensor = converted_tensor(s, item, bytes, &status, error);
    if (tensor == NULL) return status;
    if (item->kind == STORE_LOOKUP) {
        return safetensors_read_f32(s->file, tensor, w->values, error);
    }
    if (item->kind != STORE_LINEAR) return safetensors_read(s->file, tensor, w->values, error);
    uint8_t *blob = mem_alloc_aligned(bytes);
    CRANK_CHECK(blob != NULL, OUT_OF_MEMORY, error, "no memory to unpack %s", item->name);
    status = safetensors_read(s->file, tensor, blob, error);
    if (status == CRANK_OK) {
        s->file_layout->linear_unpack(w->values, w->bias, blob, item->rows, item->cols,
                                      item->gated);
    }
    mem_free_aligned(blob);
    return status;
}

/* The item's final bytes into destination (host memory, item->bytes, 64-byte aligned). */
static crank_status make_item(const store *s, const store_item *item, scratch *w, void *destination,
                              crank_error *error)
{
    bool in_place = item->compute != NULL && item->kind != STORE_LINEAR;
    if (in_place && s->file_layout == NULL) {
        return item->compute(item->argument, destination, item->bytes / 4, error);
    }
    if (s->file_layout != NULL) {
        CRANK_TRY(gather_converted(s, item, w, error));
    } else {
        CRANK_TRY(gather_source(s, item, w, error));
    }
    switch (item->kind) {
    case STORE_LINEAR:
        s->layout->linear_pack(destination, w->values, w->bias, item->rows, item->cols,
                               item->gated);
        return CRANK_OK;
    case STORE_LOOKUP:
        return dtype_from_f32(destination, table_type(s->layout->table_dtype), w->values,
                              item_values(item), error);
    case STORE_FLOATS:
    case STORE_INTS: memcpy(destination, w->values, item->bytes); return CRANK_OK;
    }
    return CRANK_INTERNAL;
}

/* ---- loading ---- */

static void set_target(const store *s, const store_item *item, const uint8_t *at)
{
    switch (item->kind) {
    case STORE_LINEAR: {
        ops_linear *linear = item->target;
        linear->blob = at;
        linear->layout = s->layout;
        break;
    }
    case STORE_LOOKUP: ((ops_lookup *)item->target)->data = at; break;
    case STORE_FLOATS: *(const float **)item->target = (const float *)(const void *)at; break;
    case STORE_INTS: *(const int32_t **)item->target = (const int32_t *)(const void *)at; break;
    }
}

typedef struct loading {
    const store *s;
    const ops_backend *backend;
    void *device;
    uint8_t *block;
    atomic_int next;
    atomic_int failed;
    pthread_mutex_t lock; /* guards status, error, and uploads */
    crank_status status;
    crank_error error;
} loading;

static void keep_first_failure(loading *l, crank_status status, const crank_error *error)
{
    pthread_mutex_lock(&l->lock);
    if (l->status == CRANK_OK) {
        l->status = status;
        l->error = *error;
    }
    pthread_mutex_unlock(&l->lock);
    atomic_store(&l->failed, 1);
}

static void keep_digest(uint64_t digest[2], const void *data, size_t bytes)
{
    XXH128_hash_t hash = XXH3_128bits(data, bytes);
    digest[0] = hash.high64;
    digest[1] = hash.low64;
}

static void load_items(void *context, int worker, int n_workers)
{
    (void)worker;
    (void)n_workers;
    loading *l = context;
    const store *s = l->s;
    bool direct = l->backend->host_memory;
    crank_error error = {0};
    scratch w;
    crank_status status = scratch_open(&w, s, !direct, &error);
    while (status == CRANK_OK && !atomic_load(&l->failed)) {
        int i = atomic_fetch_add(&l->next, 1);
        if (i >= s->n_items) break;
        store_item *item = &s->items[i]; /* this worker's alone */
        uint8_t *at = (uint8_t *)((uintptr_t)l->block + item->offset);
        uint8_t *made = direct ? at : w.packed;
        status = make_item(s, item, &w, made, &error);
        if (status == CRANK_OK) keep_digest(item->digest, made, item->bytes);
        if (status == CRANK_OK && !direct) {
            pthread_mutex_lock(&l->lock);
            status = l->backend->memory_write(l->device, at, w.packed, item->bytes, &error);
            pthread_mutex_unlock(&l->lock);
        }
    }
    if (status != CRANK_OK) keep_first_failure(l, status, &error);
    scratch_close(&w);
}

/* A converted file in the wanted layout: its data section is the block. */
static crank_status load_whole_file(store *s, const ops_backend *backend, void *device,
                                    void **block, const uint8_t **host_data, crank_error *error)
{
    uint64_t start = safetensors_data_start(s->file, 0);
    size_t bytes = (size_t)(safetensors_file_bytes(s->file, 0) - start);
    CRANK_TRY(backend->memory_open(device, block, bytes, error));
    CRANK_TRY(safetensors_read_data(s->file, 0, *block, error));
    *host_data = *block;
    keep_digest(s->digest, *block, bytes);
    for (int i = 0; i < s->n_items; i++) {
        const store_item *item = &s->items[i];
        crank_status status = CRANK_OK;
        const st_tensor *tensor = converted_tensor(s, item, item->bytes, &status, error);
        if (tensor == NULL) return status;
        CRANK_CHECK((tensor->offset - start) % ITEM_ALIGNMENT == 0, MODEL, error,
                    "converted file: tensor %s is not aligned to %u bytes", item->name,
                    ITEM_ALIGNMENT);
        set_target(s, item, (uint8_t *)*block + (tensor->offset - start));
    }
    return CRANK_OK;
}

crank_status store_load(store *s, const ops_backend *backend, void *device, team *threads,
                        void **block, const uint8_t **host_data, crank_error *error)
{
    *block = NULL;
    *host_data = NULL;
    CRANK_CHECK(s->failure == CRANK_OK, OUT_OF_MEMORY, error, "no memory to list the weights");
    if (s->file_layout == s->layout && backend->host_memory) {
        return load_whole_file(s, backend, device, block, host_data, error);
    }
    CRANK_TRY(backend->memory_open(device, block, s->bytes, error));
    loading l = {.s = s, .backend = backend, .device = device, .block = *block};
    pthread_mutex_init(&l.lock, NULL);
    team_run(threads, load_items, &l);
    pthread_mutex_destroy(&l.lock);
    if (l.status != CRANK_OK) {
        if (error != NULL) *error = l.error;
        return l.status;
    }
    for (int i = 0; i < s->n_items; i++) {
        const store_item *item = &s->items[i];
        set_target(s, item, (uint8_t *)((uintptr_t)*block + item->offset));
        XXH128_hash_t both = XXH3_128bits_withSeed(item->digest, sizeof item->digest, s->digest[1]);
        s->digest[0] ^= both.high64;
        s->digest[1] = both.low64;
    }
    return safetensors_unchanged(s->file, error);
}

/* ---- writing ---- */

crank_status store_declare_file(const store *s, st_writer *writer, crank_error *error)
{
    CRANK_CHECK(s->failure == CRANK_OK, OUT_OF_MEMORY, error, "no memory to list the weights");
    for (int i = 0; i < s->n_items; i++) {
        const store_item *item = &s->items[i];
        dtype type = DTYPE_F32;
        int64_t shape[2] = {item->rows, item->cols};
        int rank = 2;
        if (item->kind == STORE_LINEAR) {
            type = DTYPE_U8;
            rank = 1;
            shape[0] = (int64_t)item->bytes;
        } else if (item->kind == STORE_LOOKUP) {
            type = table_type(s->layout->table_dtype);
        } else if (item->kind == STORE_INTS) {
            type = DTYPE_I32;
        } else if (item->transpose) {
            shape[0] = item->cols;
            shape[1] = item->rows;
        }
        CRANK_TRY(st_writer_tensor(writer, item->name, type, rank, shape, error));
    }
    return CRANK_OK;
}

crank_status store_write_file(const store *s, st_writer *writer,
                              int (*done)(void *user, size_t items_done, size_t items), void *user,
                              crank_error *error)
{
    scratch w;
    crank_status status;
    CRANK_TRY_GOTO(scratch_open(&w, s, true, error));
    for (int i = 0; i < s->n_items; i++) {
        const store_item *item = &s->items[i];
        CRANK_TRY_GOTO(make_item(s, item, &w, w.packed, error));
        CRANK_TRY_GOTO(st_writer_write(writer, w.packed, item->bytes, error));
        int stop = done != NULL && done(user, (size_t)i + 1, (size_t)s->n_items);
        CRANK_CHECK_GOTO(!stop, CANCELLED, error, "cancelled after %d of %d weights", i + 1,
                         s->n_items);
    }
    CRANK_TRY_GOTO(safetensors_unchanged(s->file, error));
out:
    scratch_close(&w);
    return status;
}
