/* Reading a model's description, whether it lies in a folder or in a converted file: config,
 * family, names, declared weights. Opening and converting both stand on it. */
#ifndef CRANK_RUNTIME_READER_H
#define CRANK_RUNTIME_READER_H

#include "runtime/model.h"

#define READER_TOKENIZER_TENSOR "crank.tokenizer"
#define READER_FORMAT "2" /* of converted files; others are refused */

/* Opens path and reads config.json and what sentence-transformers adds; r->model and r->options are
 * set by the caller. Release with reader_close also after a failure. */
crank_status reader_open(model_reader *r, const char *path, crank_error *error);
/* Finds the architecture, binds names and declares every weight in `layout`. */
crank_status reader_declare(model_reader *r, const ops_layout *layout, crank_error *error);
void reader_close(model_reader *r);

/* The folder's last component, or the name that a converted file keeps. */
const char *reader_name(const model_reader *r);
/* A converted file's metadata; NULL for folders. */
const char *reader_metadata(const model_reader *r, const char *key);
/* "F32", "F16,F32": of the source's float tensors. */
void reader_dtypes(const model_reader *r, char *text, size_t bytes);
/* The sizes that only the weights tell ("N=1 ..."), for a converted file's metadata. */
void reader_dims_text(const model_reader *r, char *text, size_t bytes);

/* What embeddings of a model are known by: XXH3 over name, type, shape and both ends of every
 * source tensor, the modules' included. A converted file keeps its source's; "" where it does not.
 */
crank_status reader_fingerprint(const model_reader *r, char text[READER_FINGERPRINT_BYTES],
                                crank_error *error);

/* Option structs begin with their size: copies what the caller has, zeroes the rest. options NULL:
 * all zero. Fails: INVALID_ARGUMENT (a size that no version of the struct had). */
crank_status options_read(void *out, size_t out_bytes, const void *options, const char *name,
                          crank_error *error);

#endif
