#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "memory.h"
#include "utf8.h"
#include "weights/file.h"
#include "weights/safetensors_header.h"

#define DATA_ALIGNMENT 64

struct st_writer {
    file_output *file;
    char *path;
    unsigned flags;
    int begun;           /* the header is written */
    crank_status broken; /* what an earlier call failed with: nothing can be committed any more */

    st_tensor
        *tensors; /* in order of declaration, pads included; names owned; offsets in the data */
    size_t n_tensors, tensor_capacity;
    char **metadata; /* key, value, key, value ..., owned */
    size_t n_metadata, metadata_capacity;
    uint64_t data_bytes; /* declared so far */

    size_t turn;         /* the tensor that the next byte belongs to */
    uint64_t turn_bytes; /* of it, written */
};

crank_status st_writer_open(st_writer **out, const char *path, unsigned flags, crank_error *error)
{
    crank_status status = CRANK_OK;
    *out = NULL;
    st_writer *w = mem_zero(1, sizeof *w);
    CRANK_CHECK(w != NULL, OUT_OF_MEMORY, error, "%s: no memory to write it", path);
    w->flags = flags;
    w->path = mem_strdup(path);
    CRANK_CHECK_GOTO(w->path != NULL, OUT_OF_MEMORY, error, "%s: no memory to write it", path);
    CRANK_TRY_GOTO(file_create(&w->file, path, error));
    *out = w;
    return CRANK_OK;
out:
    st_writer_close(w);
    return status;
}

void st_writer_close(st_writer *w)
{
    if (w == NULL) return;
    file_discard(w->file);
    for (size_t i = 0; i < w->n_tensors; i++) mem_free((char *)w->tensors[i].name);
    for (size_t i = 0; i < 2 * w->n_metadata; i++) mem_free(w->metadata[i]);
    mem_free(w->tensors);
    mem_free(w->metadata);
    mem_free(w->path);
    mem_free(w);
}

/* ---- declarations
 * --------------------------------------------------------------------------------*/

static crank_status check_open_for(const st_writer *w, const char *what, crank_error *error)
{
    CRANK_CHECK(!w->begun, INVALID_ARGUMENT, error, "%s: %s comes after the first data", w->path,
                what);
    return CRANK_OK;
}

static int is_pad_name(const char *name)
{
    return strncmp(name, ST_PAD_PREFIX, strlen(ST_PAD_PREFIX)) == 0;
}

static int is_utf8(const char *text)
{
    size_t bytes = strlen(text);
    return utf8_valid_prefix((const uint8_t *)text, bytes) == bytes;
}

/* Room for one more item of `size` bytes. */
static crank_status reserve(void **items, size_t n, size_t *capacity, size_t size, const char *path,
                            crank_error *error)
{
    if (n < *capacity) return CRANK_OK;
    size_t grown = *capacity != 0 ? 2 * *capacity : 64;
    void *more = mem_resize(*items, grown, size);
    CRANK_CHECK(more != NULL, OUT_OF_MEMORY, error, "%s: no memory to declare more", path);
    *items = more;
    *capacity = grown;
    return CRANK_OK;
}

crank_status st_writer_metadata(st_writer *w, const char *key, const char *value,
                                crank_error *error)
{
    CRANK_TRY(check_open_for(w, key, error));
    CRANK_CHECK(is_utf8(key) && is_utf8(value), INVALID_ARGUMENT, error,
                "%s: metadata %s is not valid UTF-8", w->path, key);
    for (size_t i = 0; i < w->n_metadata; i++) {
        CRANK_CHECK(strcmp(w->metadata[2 * i], key) != 0, INVALID_ARGUMENT, error,
                    "%s: metadata %s is given twice", w->path, key);
    }
    void *items = w->metadata;
    CRANK_TRY(reserve(&items, w->n_metadata, &w->metadata_capacity, 2 * sizeof *w->metadata,
                      w->path, error));
    w->metadata = items;
    char *copies[2] = {mem_strdup(key), mem_strdup(value)};
    if (copies[0] == NULL || copies[1] == NULL) {
        mem_free(copies[0]);
        mem_free(copies[1]);
        return status_fail(error, CRANK_OUT_OF_MEMORY, "%s: no memory for metadata", w->path);
    }
    memcpy(w->metadata + 2 * w->n_metadata, copies, sizeof copies);
    w->n_metadata++;
    return CRANK_OK;
}

static crank_status declare(st_writer *w, const char *name, dtype type, int rank,
                            const int64_t *shape, crank_error *error)
{
    st_tensor tensor = {.type = type, .rank = rank, .elements = 1, .offset = w->data_bytes};
    int64_t nonzero_bytes = (int64_t)dtype_bytes(type);
    for (int i = 0; i < ST_MAX_RANK; i++) tensor.shape[i] = i < rank ? shape[i] : 1;
    for (int i = 0; i < rank; i++) {
        CRANK_CHECK(
            shape[i] >= 0 &&
                (shape[i] == 0 || !__builtin_mul_overflow(nonzero_bytes, shape[i], &nonzero_bytes)),
            INVALID_ARGUMENT, error, "%s: tensor %s: its shape is negative or overflows", w->path,
            name);
        tensor.elements = shape[i] != 0 ? tensor.elements * shape[i] : 0;
    }
    tensor.bytes = tensor.elements != 0 ? (uint64_t)nonzero_bytes : 0;
    CRANK_CHECK(tensor.bytes <= (uint64_t)INT64_MAX / 2 - w->data_bytes, INVALID_ARGUMENT, error,
                "%s: tensor %s: the file's size overflows", w->path, name);
    void *items = w->tensors;
    CRANK_TRY(reserve(&items, w->n_tensors, &w->tensor_capacity, sizeof tensor, w->path, error));
    w->tensors = items;
    tensor.name = mem_strdup(name);
    CRANK_CHECK(tensor.name != NULL, OUT_OF_MEMORY, error, "%s: no memory for tensor %s", w->path,
                name);
    w->tensors[w->n_tensors++] = tensor;
    w->data_bytes += tensor.bytes;
    return CRANK_OK;
}

crank_status st_writer_tensor(st_writer *w, const char *name, dtype type, int rank,
                              const int64_t *shape, crank_error *error)
{
    CRANK_TRY(check_open_for(w, name, error));
    CRANK_CHECK(strlen(name) <= ST_MAX_NAME_BYTES && is_utf8(name) &&
                    strcmp(name, "__metadata__") != 0 && !is_pad_name(name),
                INVALID_ARGUMENT, error, "%s: \"%.80s\" cannot be a tensor's name", w->path, name);
    CRANK_CHECK(dtype_bytes(type) != 0 && rank >= 0 && rank <= ST_MAX_RANK, INVALID_ARGUMENT, error,
                "%s: tensor %s: dtype %s, %d dimensions", w->path, name, dtype_name(type), rank);
    int64_t pad = (int64_t)(-w->data_bytes % DATA_ALIGNMENT);
    if ((w->flags & ST_WRITER_ALIGNED) && pad != 0) {
        char pad_name[48];
        snprintf(pad_name, sizeof pad_name, ST_PAD_PREFIX "%zu", w->n_tensors);
        CRANK_TRY(declare(w, pad_name, DTYPE_U8, 1, &pad, error));
    }
    return declare(w, name, type, rank, shape, error);
}

/* ---- the header
 * ----------------------------------------------------------------------------------*/

typedef struct builder {
    char *text;
    size_t used, capacity;
    int failed;
} builder;

static void append(builder *b, const char *text, size_t bytes)
{
    if (bytes == 0) return; /* an empty value may come as NULL, and nothing be allocated yet */
    if (bytes > b->capacity - b->used) {
        size_t grown = 2 * b->capacity + bytes + 4096;
        char *more = b->failed ? NULL : mem_resize(b->text, grown, 1);
        if (more == NULL) {
            b->failed = 1;
            return;
        }
        b->text = more;
        b->capacity = grown;
    }
    if (bytes > 0) memcpy(b->text + b->used, text, bytes);
    b->used += bytes;
}

__attribute__((format(printf, 2, 3))) static void append_format(builder *b, const char *format, ...)
{
    char text[64];
    va_list arguments;
    va_start(arguments, format);
    int bytes = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    append(b, text, (size_t)bytes);
}

static void append_string(builder *b, const char *text)
{
    append(b, "\"", 1);
    for (const char *at = text; *at != '\0';) {
        size_t plain = 0;
        while ((unsigned char)at[plain] >= 0x20 && at[plain] != '"' && at[plain] != '\\') plain++;
        append(b, at, plain);
        at += plain;
        if (*at == '"' || *at == '\\') {
            append_format(b, "\\%c", *at++);
        } else if (*at != '\0') {
            append_format(b, "\\u%04x", (unsigned)(unsigned char)*at++);
        }
    }
    append(b, "\"", 1);
}

static void build_header(builder *b, const st_writer *w)
{
    append(b, "{", 1);
    if (w->n_metadata > 0) append(b, "\"__metadata__\":{", 16);
    for (size_t i = 0; i < w->n_metadata; i++) {
        if (i > 0) append(b, ",", 1);
        append_string(b, w->metadata[2 * i]);
        append(b, ":", 1);
        append_string(b, w->metadata[2 * i + 1]);
    }
    if (w->n_metadata > 0) append(b, w->n_tensors > 0 ? "}," : "}", w->n_tensors > 0 ? 2 : 1);
    for (size_t i = 0; i < w->n_tensors; i++) {
        const st_tensor *tensor = &w->tensors[i];
        if (i > 0) append(b, ",", 1);
        append_string(b, tensor->name);
        append_format(b, ":{\"dtype\":\"%s\",\"shape\":[", dtype_name(tensor->type));
        for (int d = 0; d < tensor->rank; d++) {
            append_format(b, "%s%lld", d > 0 ? "," : "", (long long)tensor->shape[d]);
        }
        append_format(b, "],\"data_offsets\":[%llu,", (unsigned long long)tensor->offset);
        append_format(b, "%llu]}", (unsigned long long)(tensor->offset + tensor->bytes));
    }
    append(b, "}", 1);
    while ((8 + b->used) % DATA_ALIGNMENT != 0 && !b->failed) append(b, " ", 1);
}

/* Two tensors of one name are found where they are cheap to find: on a sorted copy. */
static crank_status check_names(const st_writer *w, crank_error *error)
{
    st_tensor *copy = mem_array(w->n_tensors, sizeof *copy);
    CRANK_CHECK(copy != NULL, OUT_OF_MEMORY, error, "%s: no memory to sort %zu names", w->path,
                w->n_tensors);
    if (w->n_tensors > 0) memcpy(copy, w->tensors, w->n_tensors * sizeof *copy);
    crank_status status = st_sort_by_name(copy, w->n_tensors, w->path, error);
    mem_free(copy);
    if (status != CRANK_OK && error != NULL) error->status = CRANK_INVALID_ARGUMENT;
    return status != CRANK_OK ? CRANK_INVALID_ARGUMENT : CRANK_OK;
}

static crank_status begin(st_writer *w, crank_error *error)
{
    crank_status status = CRANK_OK;
    builder b = {0};
    uint8_t length[8];
    CRANK_TRY(check_names(w, error));
    build_header(&b, w);
    CRANK_CHECK_GOTO(!b.failed, OUT_OF_MEMORY, error, "%s: no memory for its header", w->path);
    CRANK_CHECK_GOTO(b.used <= ST_MAX_HEADER_BYTES, LIMIT, error,
                     "%s: its header takes %zu bytes, readers accept %u", w->path, b.used,
                     ST_MAX_HEADER_BYTES);
    for (int i = 0; i < 8; i++) length[i] = (uint8_t)((uint64_t)b.used >> 8 * i);
    CRANK_TRY_GOTO(file_write(w->file, length, sizeof length, error));
    CRANK_TRY_GOTO(file_write(w->file, b.text, b.used, error));
    w->begun = 1;
out:
    mem_free(b.text);
    return status;
}

/* ---- data
 * ----------------------------------------------------------------------------------------*/

/* Moves on to a tensor that wants bytes from the caller; pads are written on the way. */
static crank_status settle(st_writer *w, crank_error *error)
{
    static const uint8_t zeros[DATA_ALIGNMENT];
    while (w->turn < w->n_tensors) {
        const st_tensor *tensor = &w->tensors[w->turn];
        if (is_pad_name(tensor->name) && (w->flags & ST_WRITER_ALIGNED)) {
            CRANK_TRY(file_write(w->file, zeros, (size_t)tensor->bytes, error));
        } else if (w->turn_bytes < tensor->bytes) {
            return CRANK_OK;
        }
        w->turn++;
        w->turn_bytes = 0;
    }
    return CRANK_OK;
}

static crank_status write_piece(st_writer *w, const uint8_t *data, size_t bytes, crank_error *error)
{
    if (!w->begun) CRANK_TRY(begin(w, error));
    while (bytes > 0) {
        CRANK_TRY(settle(w, error));
        CRANK_CHECK(w->turn < w->n_tensors, INVALID_ARGUMENT, error,
                    "%s: %zu bytes more than were declared", w->path, bytes);
        uint64_t wanted = w->tensors[w->turn].bytes - w->turn_bytes;
        size_t piece = bytes < wanted ? bytes : (size_t)wanted;
        CRANK_TRY(file_write(w->file, data, piece, error));
        w->turn_bytes += piece;
        data += piece;
        bytes -= piece;
    }
    return CRANK_OK;
}

crank_status st_writer_write(st_writer *w, const void *data, size_t bytes, crank_error *error)
{
    CRANK_CHECK(w->broken == CRANK_OK, INVALID_ARGUMENT, error, "%s: an earlier write failed",
                w->path);
    w->broken = write_piece(w, data, bytes, error);
    return w->broken;
}

static crank_status write_floats(st_writer *w, const float *values, size_t n, crank_error *error)
{
    enum { PIECE = 2048 };
    uint8_t piece[PIECE * sizeof(double)];
    if (!w->begun) CRANK_TRY(begin(w, error));
    while (n > 0) {
        CRANK_TRY(settle(w, error));
        CRANK_CHECK(w->turn < w->n_tensors, INVALID_ARGUMENT, error,
                    "%s: %zu numbers more than were declared", w->path, n);
        const st_tensor *tensor = &w->tensors[w->turn];
        size_t size = dtype_bytes(tensor->type), count = n < PIECE ? n : PIECE;
        uint64_t left = tensor->bytes - w->turn_bytes;
        CRANK_CHECK(w->turn_bytes % size == 0, INVALID_ARGUMENT, error,
                    "%s: tensor %s: numbers follow half a number", w->path, tensor->name);
        if (count > left / size) count = (size_t)(left / size);
        CRANK_TRY(dtype_from_f32(piece, tensor->type, values, count, error));
        CRANK_TRY(write_piece(w, piece, count * size, error));
        values += count;
        n -= count;
    }
    return CRANK_OK;
}

crank_status st_writer_write_f32(st_writer *w, const float *values, size_t n, crank_error *error)
{
    CRANK_CHECK(w->broken == CRANK_OK, INVALID_ARGUMENT, error, "%s: an earlier write failed",
                w->path);
    w->broken = write_floats(w, values, n, error);
    return w->broken;
}

static crank_status finish(st_writer *w, crank_error *error)
{
    if (!w->begun) CRANK_TRY(begin(w, error));
    CRANK_TRY(settle(w, error));
    CRANK_CHECK(w->turn == w->n_tensors, INVALID_ARGUMENT, error,
                "%s: tensor %s: %llu of its %llu bytes were written", w->path,
                w->tensors[w->turn].name, (unsigned long long)w->turn_bytes,
                (unsigned long long)w->tensors[w->turn].bytes);
    return file_commit(w->file, error);
}

crank_status st_writer_commit(st_writer *w, crank_error *error)
{
    CRANK_CHECK(w->broken == CRANK_OK, INVALID_ARGUMENT, error,
                "%s: an earlier write failed, or it was committed before", w->path);
    crank_status status = finish(w, error);
    w->broken = CRANK_INVALID_ARGUMENT; /* once only */
    if (status != CRANK_OK) {
        file_discard(w->file);
        w->file = NULL;
    }
    return status;
}
