/* A folder's weights as one table: model.safetensors, or the shards that an index names. */
#include <jansson.h>
#include <string.h>

#include "memory.h"
#include "weights/config.h"
#include "weights/safetensors_table.h"

#define SINGLE_FILE "model.safetensors"
#define INDEX_FILE "model.safetensors.index.json"
#define MAX_SHARDS 512 /* each is an open file */

/* The index's distinct shard names, sorted. Strings belong to the index. */
typedef struct shard_list {
    const char *names[MAX_SHARDS];
    size_t n;
} shard_list;

static crank_status add_shard(shard_list *shards, const char *name, const char *index_name,
                              crank_error *error)
{
    size_t low = 0, high = shards->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, shards->names[middle]);
        if (order == 0) return CRANK_OK;
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    CRANK_CHECK(shards->n < MAX_SHARDS, LIMIT, error, "%s: names more than %d files", index_name,
                MAX_SHARDS);
    memmove(shards->names + low + 1, shards->names + low,
            (shards->n - low) * sizeof shards->names[0]);
    shards->names[low] = name;
    shards->n++;
    return CRANK_OK;
}

static crank_status list_shards(shard_list *shards, const config *index, json_t *map,
                                const char *dir, crank_error *error)
{
    const char *tensor;
    json_t *shard;
    json_object_foreach(map, tensor, shard)
    {
        CRANK_CHECK(json_is_string(shard), MODEL, error,
                    "%s: weight_map: the file of %s is not a string", config_name(index), tensor);
        CRANK_TRY(add_shard(shards, json_string_value(shard), config_name(index), error));
    }
    CRANK_CHECK(shards->n > 0, MODEL, error, "%s: weight_map names no tensor", config_name(index));
    for (size_t i = 0; i < shards->n; i++) {
        const char *name = shards->names[i];
        CRANK_CHECK(file_is_plain(name) && strchr(name, '/') == NULL, MODEL, error,
                    "%s: names the file \"%s\", which is not a plain name in the folder",
                    config_name(index), name);
        crank_status status = file_check_inside(dir, name, error);
        if (status != CRANK_OK) return status_prefix(error, status, INDEX_FILE);
    }
    return CRANK_OK;
}

static crank_status append_shard(safetensors *st, const char *dir, const char *name,
                                 crank_error *error)
{
    crank_status status = CRANK_OK;
    st_file *file = &st->files[st->n_files];
    char *path = file_join(dir, name);
    CRANK_CHECK(path != NULL, OUT_OF_MEMORY, error, "%s: no memory for its path", name);
    status = st_file_open(file, path, error);
    mem_free(path);
    if (status != CRANK_OK) return status;
    int32_t number = (int32_t)st->n_files++;
    size_t n = file->header.n_tensors, before = st->n_tensors;
    for (size_t i = 0; i < n; i++) file->header.tensors[i].file = number;
    if (before == 0) { /* the largest memory there is: not copied where it need not be */
        mem_free(st->tensors);
        st->tensors = file->header.tensors;
    } else {
        st_tensor *more = mem_resize(st->tensors, before + n, sizeof *more);
        CRANK_CHECK(more != NULL, OUT_OF_MEMORY, error, "%s: no memory for %zu tensors", name,
                    before + n);
        if (n > 0) memcpy(more + before, file->header.tensors, n * sizeof *more);
        st->tensors = more;
        mem_free(file->header.tensors);
    }
    file->header.tensors = NULL;
    st->n_tensors = before + n;
    return CRANK_OK;
}

static crank_status check_map(const safetensors *st, const shard_list *shards, const config *index,
                              json_t *map, crank_error *error)
{
    const char *name;
    json_t *shard;
    json_object_foreach(map, name, shard)
    {
        const st_tensor *tensor = safetensors_find(st, name);
        const char *wanted = json_string_value(shard);
        CRANK_CHECK(tensor != NULL && strcmp(shards->names[tensor->file], wanted) == 0, MODEL,
                    error, "%s: tensor %s is not in %s", config_name(index), name, wanted);
    }
    return CRANK_OK;
}

static crank_status open_shards(safetensors *st, const config *index, const char *dir,
                                crank_error *error)
{
    shard_list shards = {.n = 0};
    json_t *map = json_object_get(config_root(index), "weight_map");
    CRANK_CHECK(json_is_object(map), MODEL, error, "%s: weight_map is %s", config_name(index),
                map == NULL ? "missing" : "not an object");
    CRANK_TRY(list_shards(&shards, index, map, dir, error));
    st->files = mem_zero(shards.n, sizeof *st->files);
    CRANK_CHECK(st->files != NULL, OUT_OF_MEMORY, error, "%s: no memory for %zu files", dir,
                shards.n);
    for (size_t i = 0; i < shards.n; i++) {
        CRANK_TRY(append_shard(st, dir, shards.names[i], error));
    }
    CRANK_TRY(st_sort_by_name(st->tensors, st->n_tensors, config_name(index), error));
    return check_map(st, &shards, index, map, error);
}

static crank_status open_index(safetensors **out, const config *index, const char *dir,
                               crank_error *error)
{
    safetensors *st = mem_zero(1, sizeof *st);
    CRANK_CHECK(st != NULL, OUT_OF_MEMORY, error, "%s: no memory to open it", dir);
    crank_status status = open_shards(st, index, dir, error);
    if (status == CRANK_OK) {
        *out = st;
    } else {
        safetensors_close(st);
    }
    return status;
}

crank_status safetensors_open_model(safetensors **out, const char *dir, crank_error *error)
{
    crank_status status = CRANK_OK;
    config *index = NULL;
    config_source source = {.dir = dir};
    *out = NULL;
    char *single = file_join(dir, SINGLE_FILE), *pickled = file_join(dir, "pytorch_model.bin");
    CRANK_CHECK_GOTO(single != NULL && pickled != NULL, OUT_OF_MEMORY, error,
                     "%s: no memory for its paths", dir);
    if (file_exists(single)) {
        status = safetensors_open(out, single, error);
        goto out;
    }
    CRANK_TRY_GOTO(config_open_optional(&index, &source, INDEX_FILE, error));
    CRANK_CHECK_GOTO(index != NULL, MODEL, error,
                     "%s: has neither " SINGLE_FILE " nor " INDEX_FILE "%s", dir,
                     file_exists(pickled) ? " (its pytorch_model.bin can run code when it is read: "
                                            "save the model as safetensors)"
                                          : "");
    status = open_index(out, index, dir, error);
out:
    config_close(index);
    mem_free(single);
    mem_free(pickled);
    return status;
}
