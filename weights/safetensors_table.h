/* What a safetensors table is made of. Private to safetensors*.c. */
#ifndef CRANK_SAFETENSORS_TABLE_H
#define CRANK_SAFETENSORS_TABLE_H

#include "weights/file.h"
#include "weights/safetensors_header.h"

typedef struct st_file {
    file_input input;
    st_header header; /* its tensors have moved to the table */
    uint64_t data_start;
} st_file;

struct safetensors {
    st_file *files;
    size_t n_files;     /* 1 or more */
    st_tensor *tensors; /* of all files, by name */
    size_t n_tensors;
};

/* Header read and checked, offsets from the beginning of the file, tensors still in the header.
 * On failure *file is closed. */
crank_status st_file_open(st_file *file, const char *path, crank_error *error);
void st_file_close(st_file *file);

#endif
