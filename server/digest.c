/* Weights, device, tokenizer: the engine's own digest, made while it loads. Configuration: the
 * files of a folder that say how to compute, or a converted file's header. */
#include "server/digest.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "server/alloc.h"
#include "status.h"

#define MAX_CONFIG_BYTES (16 << 20)

static const char *const config_names[] = {
    "config.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "modules.json",
    "generation_config.json",
    "tokenizer_config.json",
    "1_Pooling/config.json",
};

static void mix(score_key *digest, const void *data, size_t bytes)
{
    XXH128_hash_t own = XXH3_128bits(data, bytes);
    uint64_t parts[5] = {digest->high, digest->low, own.high64, own.low64, bytes};
    XXH128_hash_t all = XXH3_128bits(parts, sizeof parts);
    *digest = (score_key){all.high64, all.low64};
}

/* The first `most` bytes of a file; a file that is not there counts as one of its own. */
static crank_status mix_file(score_key *digest, const char *path, size_t most, crank_error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat at;
    if (fd < 0 || fstat(fd, &at) != 0) {
        if (fd >= 0) close(fd);
        mix(digest, "absent", 6);
        return CRANK_OK;
    }
    size_t bytes = at.st_size < (off_t)most ? (size_t)at.st_size : most, n = 0;
    char *data = server_alloc(bytes + 1, 1);
    if (data == NULL) {
        close(fd);
        return status_fail(error, CRANK_OUT_OF_MEMORY, "%s: no memory to read it", path);
    }
    while (n < bytes) {
        ssize_t got = read(fd, data + n, bytes - n);
        if (got <= 0) break;
        n += (size_t)got;
    }
    mix(digest, data, n);
    server_free(data);
    close(fd);
    return CRANK_OK;
}

/* A safetensors file says in its first 8 bytes how long its header is. */
static crank_status header_bytes(const char *path, size_t *bytes, crank_error *error)
{
    unsigned char length[8] = {0};
    uint64_t value = 0;
    FILE *file = fopen(path, "rbe");
    int whole = file != NULL && fread(length, 1, sizeof length, file) == sizeof length;
    if (file != NULL) fclose(file);
    CRANK_CHECK(whole, IO, error, "%s: cannot be read", path);
    for (int i = 7; i >= 0; i--) value = value << 8 | length[i];
    *bytes = value < (1 << 30) ? 8 + (size_t)value : 8;
    return CRANK_OK;
}

static crank_status mix_config(score_key *digest, const char *path, crank_error *error)
{
    struct stat at;
    CRANK_CHECK(stat(path, &at) == 0, IO, error, "%s: no such folder or file", path);
    if (!S_ISDIR(at.st_mode)) {
        size_t bytes = 0;
        CRANK_TRY(header_bytes(path, &bytes, error));
        return mix_file(digest, path, bytes, error);
    }
    for (size_t i = 0; i < sizeof config_names / sizeof config_names[0]; i++) {
        char name[4096 + 64];
        int n = snprintf(name, sizeof name, "%s/%s", path, config_names[i]);
        CRANK_CHECK(n > 0 && (size_t)n < sizeof name, IO, error, "%s: the path is too long", path);
        CRANK_TRY(mix_file(digest, name, MAX_CONFIG_BYTES, error));
    }
    return CRANK_OK;
}

crank_status digest_model(score_key *digest, const crank_model_info *info, const char *path,
                          crank_error *error)
{
    *digest = (score_key){0, 0};
    mix(digest, info->digest, sizeof info->digest);
    return mix_config(digest, path, error);
}
