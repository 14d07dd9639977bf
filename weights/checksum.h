/* SHA-256 of files, streamed (nettle). Source: FIPS 180-4. */
#ifndef CRANK_CHECKSUM_H
#define CRANK_CHECKSUM_H

#include <stddef.h>

#include "status.h"
#include "weights/safetensors.h"

#define CHECKSUM_TEXT_BYTES 65 /* 64 hexadecimal digits and a NUL */

void checksum_bytes(char text[CHECKSUM_TEXT_BYTES], const void *data, size_t bytes);
/* Fails: IO (also when the file changed meanwhile), OUT_OF_MEMORY. */
crank_status checksum_file(char text[CHECKSUM_TEXT_BYTES], const char *path, crank_error *error);
/* One number for a model's weights: the file's own sha256 when there is one file; for shards, the
 * sha256 over the lines "SHA256  NAME\n" of the files in name order (as sha256sum prints them). */
crank_status checksum_weights(char text[CHECKSUM_TEXT_BYTES], const safetensors *st,
                              crank_error *error);

#endif
