#define _GNU_SOURCE
#include "support/tokenizer_files.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

char *test_read_file(const char *path, size_t *bytes)
{
    gzFile file = gzopen(path, "rb");
    if (file == NULL) return NULL;
    size_t n = 0, capacity = 1 << 16;
    char *text = malloc(capacity + 1);
    for (;;) {
        int got = gzread(file, text + n, (unsigned)(capacity - n));
        if (got <= 0) break;
        n += (size_t)got;
        if (n == capacity) text = realloc(text, (capacity *= 2) + 1);
    }
    gzclose(file);
    text[n] = 0;
    *bytes = n;
    return text;
}

void test_write_file(const char *path, const char *text, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(text, 1, bytes, file) != bytes || fclose(file) != 0) {
        perror(path);
        abort();
    }
}

char *test_make_folder(void)
{
    char *folder = strdup(CRANK_BINARY_DIR "/test-XXXXXX");
    if (mkdtemp(folder) == NULL) {
        perror(folder);
        abort();
    }
    return folder;
}

void test_remove_folder(char *folder)
{
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;)
        if (entry->d_name[0] != '.') unlinkat(dirfd(dir), entry->d_name, 0);
    if (dir != NULL) closedir(dir);
    rmdir(folder);
    free(folder);
}

const char *test_tokenizer_fixture(const char *name)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/tests/fixtures/tokenizer/%s", CRANK_SOURCE_DIR, name);
    return path;
}

const char *test_bert_folder(void)
{
    static const char *const folders[] = {
        CRANK_SOURCE_DIR "/.cache/minilm",
        CRANK_SOURCE_DIR "/../shared/golden/tokenizer/wordpiece",
    };
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/vocab.txt", folders[i]);
        if (access(path, R_OK) == 0) return folders[i];
    }
    return NULL;
}

void test_each_row(const char *fixture,
                   void (*row)(const json_t *row, size_t number, void *context), void *context)
{
    size_t bytes, number = 0;
    char *text = test_read_file(test_tokenizer_fixture(fixture), &bytes);
    if (text == NULL) {
        fprintf(stderr, "%s: missing\n", fixture);
        abort();
    }
    for (char *at = text; at < text + bytes;) {
        char *end = memchr(at, '\n', (size_t)(text + bytes - at));
        size_t n = end != NULL ? (size_t)(end - at) : (size_t)(text + bytes - at);
        json_error_t error;
        json_t *object = json_loadb(at, n, JSON_ALLOW_NUL, &error);
        if (object == NULL) {
            fprintf(stderr, "%s, row %zu: %s\n", fixture, number, error.text);
            abort();
        }
        row(object, number++, context);
        json_decref(object);
        at += n + 1;
    }
    free(text);
}

char *test_row_text(const json_t *row, const char *key, size_t *bytes)
{
    char hex_key[64];
    snprintf(hex_key, sizeof hex_key, "%s_hex", key);
    const json_t *hex = json_object_get(row, hex_key), *text = json_object_get(row, key);
    if (hex != NULL) {
        *bytes = json_string_length(hex) / 2;
        char *out = malloc(*bytes + 1);
        for (size_t i = 0; i < *bytes; i++) {
            char two[3] = {json_string_value(hex)[2 * i], json_string_value(hex)[2 * i + 1], 0};
            out[i] = (char)strtol(two, NULL, 16);
        }
        return out;
    }
    *bytes = json_string_length(text);
    char *out = malloc(*bytes + 1);
    memcpy(out, json_string_value(text), *bytes);
    return out;
}
