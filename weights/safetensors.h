/* safetensors: the table of tensors of one file, or of a folder's shards, and a streaming writer.
 *
 * A file is 8 bytes of little-endian header length, a JSON object, and the data. The header is
 * untrusted: it is parsed here by a non-recursive reader (weights/safetensors_header.c) that checks
 * everything the reference implementation (safetensors 0.8.0) checks, and more: duplicate names,
 * rank above 8, names with a NUL or above 512 bytes, sizes that overflow before a zero dimension
 * hides it, a header that does not start with '{'. Misaligned data, unknown fields and any order of
 * keys are accepted. Working memory is below 4 times the header.
 *
 * Invariants of an open table: names are unique, sorted by strcmp and free of NUL; bytes = elements
 * * dtype_bytes; [offset, offset + bytes) lies inside the file; tensors of one file neither overlap
 * nor leave holes. Nothing is mapped; data comes by pread into the caller's memory.
 * Source: github.com/huggingface/safetensors README "Format". */
#ifndef CRANK_SAFETENSORS_H
#define CRANK_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"
#include "weights/dtype.h"

#define ST_MAX_RANK 8
#define ST_MAX_NAME_BYTES 512
#define ST_MAX_HEADER_BYTES 100000000u

typedef struct st_tensor {
    const char *name; /* lives as long as the table */
    dtype type;
    int32_t rank;
    int64_t shape[ST_MAX_RANK]; /* beyond rank: 1 */
    int64_t elements;           /* 1 for rank 0 */
    uint64_t bytes;
    uint64_t offset; /* of the first byte, from the beginning of its file */
    int32_t file;    /* which of the table's files */
} st_tensor;

/* Immutable after open; threads may share it, reads included. */
typedef struct safetensors safetensors;

/* One file. Fails: IO (cannot read), FORMAT (malformed: file, tensor, byte offset in the file,
 * reason), UNSUPPORTED (a dtype that is not in the table), OUT_OF_MEMORY. */
crank_status safetensors_open(safetensors **out, const char *path, crank_error *error);
/* A model folder: model.safetensors, or else the shards of model.safetensors.index.json (plain file
 * names in the folder only; every tensor of the index must stand in the shard that it names, and
 * the other way round). Fails also: MODEL (neither is there: says so, and that a pytorch_model.bin
 * must be converted by its owner; index and shards disagree). */
crank_status safetensors_open_model(safetensors **out, const char *dir, crank_error *error);
void safetensors_close(safetensors *st); /* NULL is fine */

size_t safetensors_count(const safetensors *st);
const st_tensor *safetensors_at(const safetensors *st, size_t index);       /* in name order */
const st_tensor *safetensors_find(const safetensors *st, const char *name); /* NULL: absent */

/* "[384, 1536]" into text; returns text. 8 dimensions of 19 digits always fit. */
#define ST_SHAPE_TEXT_BYTES 176
const char *st_shape_text(char text[ST_SHAPE_TEXT_BYTES], const int64_t *shape, int rank);

/* __metadata__ of the first file, by key; values are NUL-terminated UTF-8. */
size_t safetensors_metadata_count(const safetensors *st);
void safetensors_metadata_at(const safetensors *st, size_t index, const char **key,
                             const char **value);
const char *safetensors_metadata(const safetensors *st, const char *key); /* NULL: absent */

/* The files behind the table: what to checksum, what to name in messages. */
size_t safetensors_file_count(const safetensors *st);
const char *safetensors_file_path(const safetensors *st, size_t file);
uint64_t safetensors_file_bytes(const safetensors *st, size_t file);
/* Where the data of a file begins: offset of its first tensor. */
uint64_t safetensors_data_start(const safetensors *st, size_t file);

/* All tensor->bytes bytes into dst, as they stand (little-endian). A file that changed since it was
 * opened, or ends early, is an IO error that names the tensor. */
crank_status safetensors_read(const safetensors *st, const st_tensor *tensor, void *dst,
                              crank_error *error);
/* [first, first + bytes) of the tensor's bytes. Fails also: INVALID_ARGUMENT (out of range). */
crank_status safetensors_read_range(const safetensors *st, const st_tensor *tensor, uint64_t first,
                                    size_t bytes, void *dst, crank_error *error);
/* tensor->elements floats, widened from F32, F16, BF16 or rounded from F64, all finite.
 * Fails also: UNSUPPORTED (other dtype), NUMERIC (names the tensor and the index). */
crank_status safetensors_read_f32(const safetensors *st, const st_tensor *tensor, float *dst,
                                  crank_error *error);
/* The whole data section of a file ([data_start, file_bytes)) in one go: for converted files, whose
 * tensors are 64-byte aligned relative to data_start. dst: file_bytes - data_start bytes. */
crank_status safetensors_read_data(const safetensors *st, size_t file, void *dst,
                                   crank_error *error);
/* To be called once everything is read: IO error when a file changed or was replaced meanwhile. */
crank_status safetensors_unchanged(const safetensors *st, crank_error *error);

/* Writer. Declare metadata and tensors, then write the data of all tensors in the order of their
 * declaration, in pieces of any size; commit. The file appears under its name only then.
 *
 *     st_writer *w = NULL;
 *     CRANK_TRY_GOTO(st_writer_open(&w, path, ST_WRITER_ALIGNED, error));
 *     CRANK_TRY_GOTO(st_writer_metadata(w, "format", "pt", error));
 *     CRANK_TRY_GOTO(st_writer_tensor(w, "a.weight", DTYPE_F32, 2, (int64_t[]){R, C}, error));
 *     CRANK_TRY_GOTO(st_writer_write(w, data, R * C * 4, error));
 *     CRANK_TRY_GOTO(st_writer_commit(w, error));
 *     out: st_writer_close(w);
 *
 * The data section always begins on a multiple of 64 (spaces end the header, as the format allows).
 * The format forbids holes between tensors, so with ST_WRITER_ALIGNED every tensor whose
 * predecessor does not end on a multiple of 64 is preceded by a U8 tensor of zeros named
 * "crank.pad.N": any reader can load the file, and each tensor starts on a multiple of 64. */
typedef struct st_writer st_writer;

enum { ST_WRITER_PLAIN = 0, ST_WRITER_ALIGNED = 1 };
#define ST_PAD_PREFIX "crank.pad."

crank_status st_writer_open(st_writer **out, const char *path, unsigned flags, crank_error *error);
/* key and value: UTF-8. Fails: INVALID_ARGUMENT (not UTF-8, a key twice, data already begun). */
crank_status st_writer_metadata(st_writer *w, const char *key, const char *value,
                                crank_error *error);
/* Fails: INVALID_ARGUMENT (name twice, too long or not UTF-8; rank; negative or overflowing sizes;
 * data already begun). */
crank_status st_writer_tensor(st_writer *w, const char *name, dtype type, int rank,
                              const int64_t *shape, crank_error *error);
/* Fails: IO; INVALID_ARGUMENT (more bytes than were declared). */
crank_status st_writer_write(st_writer *w, const void *data, size_t bytes, crank_error *error);
/* The same from floats, converted to the dtype of the tensor whose turn it is. n may span tensors
 * of one dtype. */
crank_status st_writer_write_f32(st_writer *w, const float *values, size_t n, crank_error *error);
/* Fails: IO; INVALID_ARGUMENT (fewer bytes than were declared). On failure nothing is left. */
crank_status st_writer_commit(st_writer *w, crank_error *error);
void st_writer_close(st_writer *w); /* removes the file unless it was committed; NULL is fine */

#endif
