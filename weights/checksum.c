#include "weights/checksum.h"

#include <nettle/sha2.h>
#include <string.h>

#include "memory.h"
#include "weights/file.h"

#define PIECE_BYTES ((size_t)256 << 10)

static void finish(char text[CHECKSUM_TEXT_BYTES], struct sha256_ctx *context)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t digest[SHA256_DIGEST_SIZE];
    sha256_digest(context, sizeof digest, digest);
    for (size_t i = 0; i < sizeof digest; i++) {
        text[2 * i] = digits[digest[i] >> 4];
        text[2 * i + 1] = digits[digest[i] & 15];
    }
    text[2 * sizeof digest] = '\0';
}

void checksum_bytes(char text[CHECKSUM_TEXT_BYTES], const void *data, size_t bytes)
{
    struct sha256_ctx context;
    sha256_init(&context);
    sha256_update(&context, bytes, data);
    finish(text, &context);
}

crank_status checksum_file(char text[CHECKSUM_TEXT_BYTES], const char *path, crank_error *error)
{
    crank_status status = CRANK_OK;
    struct sha256_ctx context;
    file_input file;
    uint8_t *piece = NULL;
    text[0] = '\0';
    CRANK_TRY(file_open(&file, path, error));
    piece = mem_alloc(PIECE_BYTES);
    CRANK_CHECK_GOTO(piece != NULL, OUT_OF_MEMORY, error, "%s: no memory to read it", path);
    sha256_init(&context);
    for (uint64_t done = 0; done < file.bytes;) {
        size_t bytes = file.bytes - done < PIECE_BYTES ? (size_t)(file.bytes - done) : PIECE_BYTES;
        CRANK_TRY_GOTO(file_read(&file, piece, done, bytes, error));
        sha256_update(&context, bytes, piece);
        done += bytes;
    }
    CRANK_TRY_GOTO(file_unchanged(&file, 0, error));
    finish(text, &context);
out:
    mem_free(piece);
    file_close(&file);
    return status;
}

crank_status checksum_weights(char text[CHECKSUM_TEXT_BYTES], const safetensors *st,
                              crank_error *error)
{
    struct sha256_ctx context;
    size_t n = safetensors_file_count(st);
    if (n == 1) return checksum_file(text, safetensors_file_path(st, 0), error);
    sha256_init(&context);
    for (size_t i = 0; i < n; i++) {
        const char *path = safetensors_file_path(st, i);
        const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
        CRANK_TRY(checksum_file(text, path, error));
        sha256_update(&context, CHECKSUM_TEXT_BYTES - 1, (const uint8_t *)text);
        sha256_update(&context, 2, (const uint8_t *)"  ");
        sha256_update(&context, strlen(name), (const uint8_t *)name);
        sha256_update(&context, 1, (const uint8_t *)"\n");
    }
    finish(text, &context);
    return CRANK_OK;
}
