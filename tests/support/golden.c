#include "support/golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void fail(const char *dir, const char *tensor, const char *reason)
{
    fprintf(stderr, "golden %s: %s: %s\n", dir, tensor, reason);
    abort();
}

int golden_find(char dir[512], const char *name)
{
    static const char *const roots[] = {"tests/fixtures/golden", "../shared/golden"};
    /* A checkout that has moved since it was built says where it is now. */
    const char *moved = getenv("CRANK_TEST_ROOT");
    const char *root = moved != NULL && moved[0] != 0 ? moved : CRANK_SOURCE_DIR;
    for (size_t i = 0; i < sizeof roots / sizeof roots[0]; i++) {
        snprintf(dir, 512, "%s/%s/%s", root, roots[i], name);
        if (access(dir, R_OK) == 0) return 1;
    }
    return 0;
}

int golden_open(golden *g, const char *name)
{
    crank_error error;
    char path[600];
    *g = (golden){0};
    if (!golden_find(g->dir, name)) {
        fprintf(stderr,
                "SKIPPED: golden %s: neither in tests/fixtures/golden nor in "
                "../shared/golden\n",
                name);
        return 0;
    }
    snprintf(path, sizeof path, "%s/golden.safetensors", g->dir);
    if (safetensors_open(&g->file, path, &error) != CRANK_OK) fail(g->dir, path, error.message);
    return 1;
}

void golden_close(golden *g)
{
    safetensors_close(g->file);
    *g = (golden){0};
}

int golden_has(const golden *g, const char *tensor)
{
    return safetensors_find(g->file, tensor) != NULL;
}

static void *fetch(const golden *g, const char *name, dtype type, int64_t *rows, int64_t *cols)
{
    crank_error error;
    const st_tensor *tensor = safetensors_find(g->file, name);
    if (tensor == NULL) fail(g->dir, name, "no such tensor");
    if (tensor->type != type) fail(g->dir, name, dtype_name(tensor->type));
    void *data = malloc(tensor->bytes + 1);
    if (data == NULL) fail(g->dir, name, "no memory");
    if (safetensors_read(g->file, tensor, data, &error) != CRANK_OK) {
        fail(g->dir, name, error.message);
    }
    int64_t first = tensor->rank > 0 ? tensor->shape[0] : 1;
    if (rows != NULL) *rows = first;
    if (cols != NULL) *cols = first != 0 ? tensor->elements / first : 0;
    return data;
}

float *golden_f32(const golden *g, const char *tensor, int64_t *rows, int64_t *cols)
{
    return fetch(g, tensor, DTYPE_F32, rows, cols);
}

double *golden_f64(const golden *g, const char *tensor, int64_t *rows, int64_t *cols)
{
    return fetch(g, tensor, DTYPE_F64, rows, cols);
}

int32_t *golden_i32(const golden *g, const char *tensor, int64_t *rows, int64_t *cols)
{
    return fetch(g, tensor, DTYPE_I32, rows, cols);
}

double golden_max_difference(const float *a, const float *b, int64_t n)
{
    double largest = 0;
    for (int64_t i = 0; i < n; i++) {
        double difference = fabs((double)a[i] - (double)b[i]);
        if (isnan(difference)) return NAN;
        if (difference > largest) largest = difference;
    }
    return largest;
}
