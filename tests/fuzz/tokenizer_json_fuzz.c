/* Any bytes as tokenizer.json (or, after a first byte of 1, as vocab.txt): a clear error, or a
 * tokenizer whose image opens again and encodes the same. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tokenizer/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_file(const char *folder, const char *name, const uint8_t *data, size_t size)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
    close(fd);
}

/* One folder per process, in memory where there is such a place. */
static const char *folder(void)
{
    static char path[64];
    if (path[0] == 0) {
        strcpy(path,
               access("/dev/shm", W_OK) == 0 ? "/dev/shm/tok-fuzz-XXXXXX" : "/tmp/tok-fuzz-XXXXXX");
        if (mkdtemp(path) == NULL) abort();
    }
    return path;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] =
        "Hello, w\xc3\xb6rld [SEP] <s>abc</s> \xe4\xb8\xad\xff retrieval  \xe2\x96\x81x";
    bool vocab = size > 0 && data[0] == 1;
    const char *name = vocab ? "vocab.txt" : "tokenizer.json";
    write_file(folder(), name, data + vocab, size - vocab);
    tokenizer *tok = NULL, *again = NULL;
    crank_error error = {0};
    crank_status status = tokenizer_open(&tok, folder(), &error);
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder(), name);
    unlink(path);
    if (status != CRANK_OK) {
        if (error.message[0] == 0) abort();
        return 0;
    }
    size_t bytes;
    const void *image = tokenizer_image(tok, &bytes);
    if (tokenizer_from_image(&again, image, bytes, &error) != CRANK_OK) abort();
    tok_scratch *scratch;
    if (tok_scratch_open(&scratch, &error) != CRANK_OK) abort();
    tok_ids a = {0}, b = {0}, offsets = {0};
    status = tok_encode(tok, scratch, text, sizeof text - 1, TOK_DEFAULT, SIZE_MAX, &a, &error);
    if (status == CRANK_OK) {
        if (tok_encode_offsets(again, scratch, text, sizeof text - 1, TOK_DEFAULT, &b, &offsets,
                               &error) != CRANK_OK)
            abort();
        if (a.n != b.n || (a.n > 0 && memcmp(a.ids, b.ids, a.n * sizeof *a.ids) != 0)) abort();
        for (size_t i = 0; i < offsets.n; i++)
            if (offsets.ids[i] < 0 || (size_t)offsets.ids[i] > sizeof text - 1) abort();
    }
    tok_ids_free(&a);
    tok_ids_free(&b);
    tok_ids_free(&offsets);
    tok_scratch_close(scratch);
    tokenizer_close(again);
    tokenizer_close(tok);
    return 0;
}
