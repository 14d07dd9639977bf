#define _GNU_SOURCE
#include "support/scratch.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory.h"

static void fail(const char *what)
{
    perror(what);
    abort();
}

void scratch_open(char dir[SCRATCH_BYTES])
{
    snprintf(dir, SCRATCH_BYTES, "/tmp/crank-test-XXXXXX");
    if (mkdtemp(dir) == NULL) fail(dir);
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
    (void)info;
    (void)kind;
    (void)walk;
    return remove(path);
}

void scratch_close(const char *dir)
{
    if (nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0) fail(dir);
}

const char *scratch_path(const char *dir, const char *name)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

const char *scratch_write(const char *dir, const char *name, const void *data, size_t bytes)
{
    char *path = (char *)scratch_path(dir, name);
    for (char *slash = path + strlen(dir) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        mkdir(path, 0777);
        *slash = '/';
    }
    FILE *file = fopen(path, "wb");
    if (file == NULL) fail(path);
    if (bytes > 0 && fwrite(data, 1, bytes, file) != bytes) fail(path);
    if (fclose(file) != 0) fail(path);
    return path;
}

const char *scratch_text(const char *dir, const char *name, const char *text)
{
    return scratch_write(dir, name, text, strlen(text));
}

int scratch_count(const char *dir)
{
    int n = 0;
    DIR *folder = opendir(dir);
    if (folder == NULL) fail(dir);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    }
    closedir(folder);
    return n;
}

/* As malloc does: callers of jansson tell a failed allocation by errno alone. */
static void *alloc_with_errno(size_t bytes)
{
    void *pointer = mem_alloc(bytes);
    if (pointer == NULL) errno = ENOMEM;
    return pointer;
}

void scratch_count_jansson(void)
{
    json_set_alloc_funcs(alloc_with_errno, mem_free);
}

#if defined(__SANITIZE_ADDRESS__)
int __lsan_do_recoverable_leak_check(void);
#endif

void leak_check(void)
{
#if defined(__SANITIZE_ADDRESS__)
    if (__lsan_do_recoverable_leak_check() != 0) abort();
#endif
}
