/* The header of one safetensors file: untrusted JSON into a checked table. Private to
 * safetensors.c and the fuzzer.
 *
 * The reader is iterative and walks the text twice: the first walk validates the JSON and counts
 * tensors, the second fills the table, so that memory is the text itself plus exactly what the
 * table needs (an entry of 49 bytes or more becomes an st_tensor of 112 and 4 bytes of sort index;
 * one of metadata, 6 or more, becomes 16): below 4 times the header, whatever it holds. Strings are
 * unescaped in place and names point into the text. */
#ifndef CRANK_SAFETENSORS_HEADER_H
#define CRANK_SAFETENSORS_HEADER_H

#include "weights/safetensors.h"

typedef struct st_pair {
    const char *key, *value;
} st_pair;

typedef struct st_header {
    char *text;         /* owned; everything below points into it */
    st_tensor *tensors; /* by name */
    size_t n_tensors;
    st_pair *metadata; /* by key */
    size_t n_metadata;
} st_header;

/* text: mem_alloc'ed, `bytes` long with a NUL after it; it becomes the header's, also on failure.
 * data_bytes: what follows the header in the file. path: for messages. On failure *out is freed. */
crank_status st_header_parse(st_header *out, char *text, size_t bytes, uint64_t data_bytes,
                             const char *path, crank_error *error);
void st_header_free(st_header *header);

/* Puts tensors into strcmp order of their names. Fails: FORMAT (two of one name). */
crank_status st_sort_by_name(st_tensor *tensors, size_t n, const char *path, crank_error *error);

#endif
