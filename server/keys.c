#include "server/keys.h"

#include <errno.h>
#include <nettle/memops.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "server/alloc.h"

#define MAX_KEYS 10000

struct keys {
    size_t n;
    uint8_t (*digests)[SHA256_DIGEST_SIZE];
};

static void digest_of(uint8_t digest[SHA256_DIGEST_SIZE], const char *key, size_t bytes)
{
    struct sha256_ctx sha;
    sha256_init(&sha);
    sha256_update(&sha, bytes, (const uint8_t *)key);
    sha256_digest(&sha, SHA256_DIGEST_SIZE, digest);
}

static crank_status fail(crank_error *error, crank_status status, const char *path, const char *why)
{
    if (error == NULL) return status;
    error->status = status;
    snprintf(error->message, sizeof error->message, "%s: %s", path, why);
    return status;
}

static crank_status read_keys(keys *k, FILE *file, const char *path, crank_error *error)
{
    char *line = NULL;
    size_t capacity = 0;
    crank_status status = CRANK_OK;
    for (ssize_t n; status == CRANK_OK && (n = getline(&line, &capacity, file)) >= 0;) {
        while (n > 0 && strchr(" \t\r\n", line[n - 1]) != NULL) n--;
        if (n == 0 || line[0] == '#') continue;
        void *grown =
            k->n < MAX_KEYS ? server_grow(k->digests, k->n + 1, sizeof *k->digests) : NULL;
        if (grown == NULL) {
            status = fail(error, CRANK_LIMIT, path, "too many keys");
            continue;
        }
        k->digests = grown;
        digest_of(k->digests[k->n++], line, (size_t)n);
    }
    if (line != NULL) memset(line, 0, capacity);
    free(line);
    if (status == CRANK_OK && k->n == 0) status = fail(error, CRANK_FORMAT, path, "holds no key");
    return status;
}

crank_status keys_open(keys **out, const char *path, crank_error *error)
{
    *out = NULL;
    FILE *file = fopen(path, "re");
    if (file == NULL) return fail(error, CRANK_IO, path, strerror(errno));
    keys *k = server_zero(1, sizeof *k);
    crank_status status = k != NULL
                              ? read_keys(k, file, path, error)
                              : fail(error, CRANK_OUT_OF_MEMORY, path, "no memory for the keys");
    fclose(file);
    if (status != CRANK_OK) {
        keys_close(k);
        return status;
    }
    *out = k;
    return CRANK_OK;
}

void keys_close(keys *k)
{
    if (k == NULL) return;
    server_free(k->digests);
    server_free(k);
}

int keys_allow(const keys *k, const char *authorization)
{
    if (authorization == NULL) return 0;
    if (strncasecmp(authorization, "bearer ", 7) == 0) authorization += 7;
    while (*authorization == ' ') authorization++;
    uint8_t digest[SHA256_DIGEST_SIZE];
    digest_of(digest, authorization, strlen(authorization));
    int allowed = 0;
    for (size_t i = 0; i < k->n; i++) allowed |= memeql_sec(k->digests[i], digest, sizeof digest);
    return allowed;
}
