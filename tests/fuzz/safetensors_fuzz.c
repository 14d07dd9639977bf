/* safetensors files and indexes from hostile bytes. The first byte chooses: 'f' the rest is a whole
 * file; 'h' two bytes of data length and then a header, which the parser sees alone; 'i' an
 * index beside two good shards. What opens must keep every invariant of safetensors.h. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memory.h"
#include "weights/safetensors_header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static void check_table(const safetensors *st)
{
    static uint8_t bytes[1 << 17];
    static float floats[1 << 17];
    uint64_t sum = 0;
    for (size_t i = 0; i < safetensors_count(st); i++) {
        const st_tensor *t = safetensors_at(st, i);
        int64_t elements = 1;
        char text[ST_SHAPE_TEXT_BYTES];
        crank_error error = {0};
        REQUIRE(i == 0 || strcmp(safetensors_at(st, i - 1)->name, t->name) < 0);
        REQUIRE(strlen(t->name) <= ST_MAX_NAME_BYTES);
        REQUIRE(safetensors_find(st, t->name) == t);
        REQUIRE(t->rank >= 0 && t->rank <= ST_MAX_RANK && t->type < DTYPE_COUNT);
        for (int d = 0; d < ST_MAX_RANK; d++) {
            REQUIRE(t->shape[d] >= 0 && (d < t->rank || t->shape[d] == 1));
            elements *= t->shape[d];
        }
        REQUIRE(t->elements == elements);
        REQUIRE(t->bytes == (uint64_t)elements * dtype_bytes(t->type));
        REQUIRE(t->offset >= safetensors_data_start(st, (size_t)t->file));
        REQUIRE(t->bytes <= safetensors_file_bytes(st, (size_t)t->file) - t->offset);
        REQUIRE(st_shape_text(text, t->shape, t->rank)[0] == '[');
        sum += t->bytes;
        if (t->bytes > sizeof bytes || t->elements > (int64_t)(sizeof floats / sizeof *floats)) {
            continue;
        }
        REQUIRE(safetensors_read(st, t, bytes, &error) == CRANK_OK);
        crank_status status = safetensors_read_f32(st, t, floats, &error);
        REQUIRE(status == CRANK_OK || status == CRANK_UNSUPPORTED || status == CRANK_NUMERIC);
    }
    for (size_t f = 0; f < safetensors_file_count(st); f++) {
        sum -= safetensors_file_bytes(st, f) - safetensors_data_start(st, f);
    }
    REQUIRE(sum == 0); /* no byte of the data is left over */
    for (size_t i = 0; i < safetensors_metadata_count(st); i++) {
        const char *key, *value;
        safetensors_metadata_at(st, i, &key, &value);
        REQUIRE(safetensors_metadata(st, key) == value);
    }
}

static void open_file(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("fuzz", MFD_CLOEXEC);
        REQUIRE(fd >= 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    REQUIRE(ftruncate(fd, 0) == 0);
    REQUIRE(pwrite(fd, data, size, 0) == (ssize_t)size);
    crank_error error = {0};
    safetensors *st;
    crank_status status = safetensors_open(&st, path, &error);
    REQUIRE((status == CRANK_OK) == (st != NULL) && (st != NULL) == (error.message[0] == '\0'));
    if (st != NULL) check_table(st);
    safetensors_close(st);
}

/* Without a file: the parser alone, at full speed. */
static void parse_header(const uint8_t *data, size_t size)
{
    if (size < 2) return;
    uint64_t tail = (uint64_t)data[0] | (uint64_t)data[1] << 8, sum = 0;
    crank_error error = {0};
    st_header header;
    char *text = mem_strndup((const char *)data + 2, size - 2);
    REQUIRE(text != NULL);
    crank_status status = st_header_parse(&header, text, size - 2, tail, "fuzz", &error);
    REQUIRE((status == CRANK_OK) == (error.message[0] == '\0'));
    REQUIRE(status == CRANK_OK || (header.text == NULL && header.n_tensors == 0));
    for (size_t i = 0; i < header.n_tensors; i++) {
        const st_tensor *t = &header.tensors[i];
        REQUIRE(i == 0 || strcmp(t[-1].name, t->name) < 0);
        REQUIRE(t->rank >= 0 && t->rank <= ST_MAX_RANK && t->type < DTYPE_COUNT);
        REQUIRE(t->bytes == (uint64_t)t->elements * dtype_bytes(t->type));
        REQUIRE(t->offset <= tail && t->bytes <= tail - t->offset);
        sum += t->bytes;
    }
    REQUIRE(status != CRANK_OK || sum == tail);
    st_header_free(&header);
}

/* ---- indexes ---------------------------------------------------------------------------------*/

static char folder[64];

static void write_file(const char *name, const void *data, size_t size)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    close(fd);
}

static void write_shard(const char *name, const char *tensor)
{
    char file[256] = {0};
    int n = snprintf(file + 8, sizeof file - 8,
                     "{\"%s\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", tensor);
    file[0] = (char)n;
    write_file(name, file, 8 + (size_t)n + 1);
}

static void remove_folder(void)
{
    static const char *const names[] = {"a.safetensors", "b.safetensors",
                                        "model.safetensors.index.json"};
    char path[128];
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

static void open_index(const uint8_t *data, size_t size)
{
    if (folder[0] == '\0') {
        snprintf(folder, sizeof folder, "/tmp/crank-fuzz-XXXXXX");
        REQUIRE(mkdtemp(folder) != NULL);
        write_shard("a.safetensors", "x");
        write_shard("b.safetensors", "y");
        atexit(remove_folder);
    }
    write_file("model.safetensors.index.json", data, size);
    crank_error error = {0};
    safetensors *st;
    crank_status status = safetensors_open_model(&st, folder, &error);
    REQUIRE((status == CRANK_OK) == (st != NULL) && (st != NULL) == (error.message[0] == '\0'));
    if (st != NULL) check_table(st);
    safetensors_close(st);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    switch (data[0]) {
    case 'f': open_file(data + 1, size - 1); break;
    case 'h': parse_header(data + 1, size - 1); break;
    case 'i': open_index(data + 1, size - 1); break;
    }
    return 0;
}
