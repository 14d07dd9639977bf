#define _DEFAULT_SOURCE
/* Dependencies point down only: base <- tokenizer, weights <- kernels <- runtime <- cli, server. The
 * program reaches the engine through crank.h alone; base (the JSON reader, clocks) is for everyone.
 * Read from the #include lines of every source file. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/process.h"

typedef struct layer {
    const char *folder;
    const char *may_use[12]; /* path prefixes in quotes; NULL ends */
    int base_headers;        /* "status.h" and the like */
} layer;

static const layer layers[] = {
    {"base", {NULL}, 1},
    {"tokenizer", {"tokenizer/", NULL}, 1},
    {"weights", {"weights/", NULL}, 1},
    {"kernels", {"kernels/", "weights/", NULL}, 1},
    {"runtime", {"runtime/", "kernels/", "weights/", "tokenizer/", "crank.h", NULL}, 1},
    {"cli", {"cli/", "crank.h", "crank_status.h", NULL}, 1},
    {"server", {"server/", "cli/", "crank.h", "crank_status.h", NULL}, 1},
    {"examples", {"crank.h", "crank_status.h", NULL}, 0},
};

static int n_files;

static int starts(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static int ends(const char *text, const char *suffix)
{
    size_t n = strlen(text), m = strlen(suffix);
    return n >= m && strcmp(text + n - m, suffix) == 0;
}

static int is_base_header(const char *name)
{
    char path[600];
    snprintf(path, sizeof path, "%s/base/%s", CRANK_SOURCE_DIR, name);
    FILE *file = strchr(name, '/') ? NULL : fopen(path, "r");
    if (file) fclose(file);
    return file != NULL;
}

static void check_include(const layer *rule, const char *path, const char *name)
{
    for (const char *const *prefix = rule->may_use; *prefix; prefix++)
        if (starts(name, *prefix)) return;
    if (rule->base_headers && is_base_header(name)) return;
    cr_expect_fail("%s includes \"%s\", which its layer must not know", path, name);
}

/* A CUDA header in angle brackets, outside the two folders that may have them. */
static void check_system_include(const char *path, const char *name)
{
    if (strstr(path, "/kernels/cuda/") || strstr(path, "/kernels/emu/")) return;
    if (starts(name, "cuda") || starts(name, "cublas") || starts(name, "nv"))
        cr_expect_fail("%s includes <%s>: CUDA headers belong to kernels/cuda alone", path, name);
}

static void check_file(const layer *rule, const char *path)
{
    char *text = process_read_file(path, NULL);
    cr_assert_not_null(text, "%s", path);
    n_files++;
    char *next = text;
    for (char *line = strsep(&next, "\n"); line; line = strsep(&next, "\n")) {
        char name[256];
        if (sscanf(line, " # include \"%255[^\"]\"", name) == 1) check_include(rule, path, name);
        if (sscanf(line, " # include <%255[^>]>", name) == 1) check_system_include(path, name);
    }
    free(text);
}

/* Folders are two or three deep; a bound keeps a link to a parent from looping. */
static void check_folder(const layer *rule, const char *folder, int depth)
{
    DIR *entries = opendir(folder);
    if (!entries || depth > 6) {
        if (entries) closedir(entries);
        return;
    }
    for (struct dirent *entry = readdir(entries); entry; entry = readdir(entries)) {
        char path[2048];
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (ends(path, ".c") || ends(path, ".h") || ends(path, ".cc") || ends(path, ".cu") ||
            ends(path, ".cuh"))
            check_file(rule, path);
        else if (!strchr(entry->d_name, '.'))
            check_folder(rule, path, depth + 1);
    }
    closedir(entries);
}

Test(layers, includes_point_down)
{
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {
        char folder[600];
        snprintf(folder, sizeof folder, "%s/%s", CRANK_SOURCE_DIR, layers[i].folder);
        check_folder(&layers[i], folder, 0);
    }
    cr_assert_gt(n_files, 30);
}
