/* Opening and reading. The header's parser is safetensors_header.c, a folder's index
 * safetensors_model.c, the writer safetensors_writer.c. */
#include "weights/safetensors.h"

#include <stdio.h>
#include <string.h>

#include "memory.h"
#include "weights/safetensors_table.h"

static uint64_t little_endian_64(const uint8_t bytes[8])
{
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--) value = value << 8 | bytes[i];
    return value;
}

static crank_status read_header(st_file *file, crank_error *error)
{
    uint8_t length[8];
    const char *path = file->input.path;
    CRANK_CHECK(file->input.bytes >= sizeof length, FORMAT, error,
                "%s: has %llu bytes, a safetensors file begins with 8 bytes of header length", path,
                (unsigned long long)file->input.bytes);
    CRANK_TRY(file_read(&file->input, length, 0, sizeof length, error));
    uint64_t bytes = little_endian_64(length), rest = file->input.bytes - sizeof length;
    CRANK_CHECK(bytes <= ST_MAX_HEADER_BYTES, FORMAT, error,
                "%s: byte 0: a header of %llu bytes, at most %u are accepted (is it a safetensors "
                "file?)",
                path, (unsigned long long)bytes, ST_MAX_HEADER_BYTES);
    CRANK_CHECK(bytes <= rest, FORMAT, error,
                "%s: byte 0: a header of %llu bytes, the file has %llu after its first 8", path,
                (unsigned long long)bytes, (unsigned long long)rest);
    char *text = mem_alloc((size_t)bytes + 1);
    CRANK_CHECK(text != NULL, OUT_OF_MEMORY, error, "%s: no memory for a header of %llu bytes",
                path, (unsigned long long)bytes);
    crank_status status = file_read(&file->input, text, sizeof length, (size_t)bytes, error);
    if (status != CRANK_OK) {
        mem_free(text);
        return status;
    }
    text[bytes] = '\0';
    CRANK_TRY(st_header_parse(&file->header, text, (size_t)bytes, rest - bytes, path, error));
    file->data_start = sizeof length + bytes;
    for (size_t i = 0; i < file->header.n_tensors; i++) {
        file->header.tensors[i].offset += file->data_start;
    }
    return CRANK_OK;
}

crank_status st_file_open(st_file *file, const char *path, crank_error *error)
{
    *file = (st_file){0};
    CRANK_TRY(file_open(&file->input, path, error));
    crank_status status = read_header(file, error);
    if (status != CRANK_OK) st_file_close(file);
    return status;
}

void st_file_close(st_file *file)
{
    st_header_free(&file->header);
    file_close(&file->input);
}

crank_status safetensors_open(safetensors **out, const char *path, crank_error *error)
{
    *out = NULL;
    safetensors *st = mem_zero(1, sizeof *st);
    st_file *file = mem_zero(1, sizeof *file);
    crank_status status = CRANK_OK;
    CRANK_CHECK_GOTO(st != NULL && file != NULL, OUT_OF_MEMORY, error, "%s: no memory to open it",
                     path);
    CRANK_TRY_GOTO(st_file_open(file, path, error));
    st->files = file;
    st->n_files = 1;
    st->tensors = file->header.tensors;
    st->n_tensors = file->header.n_tensors;
    file->header.tensors = NULL;
    *out = st;
    return CRANK_OK;
out:
    mem_free(file);
    mem_free(st);
    return status;
}

void safetensors_close(safetensors *st)
{
    if (st == NULL) return;
    for (size_t i = 0; i < st->n_files; i++) st_file_close(&st->files[i]);
    mem_free(st->files);
    mem_free(st->tensors);
    mem_free(st);
}

size_t safetensors_count(const safetensors *st)
{
    return st->n_tensors;
}

const st_tensor *safetensors_at(const safetensors *st, size_t index)
{
    return index < st->n_tensors ? &st->tensors[index] : NULL;
}

const st_tensor *safetensors_find(const safetensors *st, const char *name)
{
    size_t low = 0, high = st->n_tensors;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, st->tensors[middle].name);
        if (order == 0) return &st->tensors[middle];
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return NULL;
}

const char *st_shape_text(char text[ST_SHAPE_TEXT_BYTES], const int64_t *shape, int rank)
{
    size_t used = (size_t)snprintf(text, ST_SHAPE_TEXT_BYTES, "[");
    for (int i = 0; i < rank; i++) {
        used += (size_t)snprintf(text + used, ST_SHAPE_TEXT_BYTES - used, "%s%lld",
                                 i > 0 ? ", " : "", (long long)shape[i]);
    }
    snprintf(text + used, ST_SHAPE_TEXT_BYTES - used, "]");
    return text;
}

size_t safetensors_metadata_count(const safetensors *st)
{
    return st->files[0].header.n_metadata;
}

void safetensors_metadata_at(const safetensors *st, size_t index, const char **key,
                             const char **value)
{
    const st_pair *pair = &st->files[0].header.metadata[index];
    *key = pair->key;
    *value = pair->value;
}

const char *safetensors_metadata(const safetensors *st, const char *key)
{
    const st_header *header = &st->files[0].header;
    for (size_t i = 0; i < header->n_metadata; i++) {
        if (strcmp(header->metadata[i].key, key) == 0) return header->metadata[i].value;
    }
    return NULL;
}

size_t safetensors_file_count(const safetensors *st)
{
    return st->n_files;
}

const char *safetensors_file_path(const safetensors *st, size_t file)
{
    return st->files[file].input.path;
}

uint64_t safetensors_file_bytes(const safetensors *st, size_t file)
{
    return st->files[file].input.bytes;
}

uint64_t safetensors_data_start(const safetensors *st, size_t file)
{
    return st->files[file].data_start;
}

crank_status safetensors_read_range(const safetensors *st, const st_tensor *tensor, uint64_t first,
                                    size_t bytes, void *dst, crank_error *error)
{
    const file_input *input = &st->files[tensor->file].input;
    CRANK_CHECK(first <= tensor->bytes && bytes <= tensor->bytes - first, INVALID_ARGUMENT, error,
                "%s: tensor %s: bytes %llu to %llu are out of its %llu", input->path, tensor->name,
                (unsigned long long)first, (unsigned long long)first + bytes,
                (unsigned long long)tensor->bytes);
    crank_status status = file_read(input, dst, tensor->offset + first, bytes, error);
    if (status == CRANK_OK) status = file_unchanged(input, 0, error);
    if (status != CRANK_OK) return status_prefix(error, status, "tensor %s", tensor->name);
    return CRANK_OK;
}

crank_status safetensors_read(const safetensors *st, const st_tensor *tensor, void *dst,
                              crank_error *error)
{
    return safetensors_read_range(st, tensor, 0, (size_t)tensor->bytes, dst, error);
}

crank_status safetensors_read_f32(const safetensors *st, const st_tensor *tensor, float *dst,
                                  crank_error *error)
{
    enum { PIECE = 16384 }; /* bytes on the stack, a multiple of every element size */
    const char *path = st->files[tensor->file].input.path;
    size_t n = (size_t)tensor->elements, size = dtype_bytes(tensor->type);
    CRANK_CHECK(dtype_is_float(tensor->type), UNSUPPORTED, error,
                "%s: tensor %s: dtype %s, expected F32, F16, BF16 or F64", path, tensor->name,
                dtype_name(tensor->type));
    if (tensor->type == DTYPE_F32) {
        CRANK_TRY(safetensors_read(st, tensor, dst, error));
    } else {
        uint8_t piece[PIECE];
        for (size_t done = 0; done < n;) {
            size_t count = n - done < PIECE / size ? n - done : PIECE / size;
            CRANK_TRY(safetensors_read_range(st, tensor, done * size, count * size, piece, error));
            CRANK_TRY(dtype_to_f32(dst + done, piece, tensor->type, count, error));
            done += count;
        }
    }
    size_t finite = dtype_finite_prefix(dst, n);
    CRANK_CHECK(finite == n, NUMERIC, error, "%s: tensor %s: element %zu is not finite", path,
                tensor->name, finite);
    return CRANK_OK;
}

crank_status safetensors_read_data(const safetensors *st, size_t file, void *dst,
                                   crank_error *error)
{
    const st_file *f = &st->files[file];
    CRANK_TRY(
        file_read(&f->input, dst, f->data_start, (size_t)(f->input.bytes - f->data_start), error));
    return file_unchanged(&f->input, 0, error);
}

crank_status safetensors_unchanged(const safetensors *st, crank_error *error)
{
    for (size_t i = 0; i < st->n_files; i++) {
        CRANK_TRY(file_unchanged(&st->files[i].input, 1, error));
    }
    return CRANK_OK;
}
