/* safetensors, writing: round trips, alignment, misuse, and nothing left behind after a failure. */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory.h"
#include "support/scratch.h"
#include "weights/checksum.h"
#include "weights/file.h"
#include "weights/safetensors.h"

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

#define MAX_TENSORS 24

typedef struct sample {
    int n, rank[MAX_TENSORS];
    dtype type[MAX_TENSORS];
    int64_t shape[MAX_TENSORS][ST_MAX_RANK];
    size_t bytes[MAX_TENSORS], total;
    uint8_t data[1 << 16];
} sample;

/* Any dtype, rank and size, zero sizes included; names of every awkward kind. */
static void make_sample(sample *s, uint32_t seed)
{
    uint32_t random = seed;
    *s = (sample){.n = (int)(next_random(&random) % MAX_TENSORS)};
    for (int i = 0; i < s->n; i++) {
        s->type[i] = (dtype)(next_random(&random) % DTYPE_COUNT);
        s->rank[i] = (int)(next_random(&random) % 4);
        s->bytes[i] = dtype_bytes(s->type[i]);
        for (int d = 0; d < s->rank[i]; d++) {
            s->shape[i][d] = next_random(&random) % 6;
            s->bytes[i] *= (size_t)s->shape[i][d];
        }
        s->total += s->bytes[i];
    }
    for (size_t i = 0; i < s->total; i++) s->data[i] = (uint8_t)next_random(&random);
}

static void name_of(char name[64], int i)
{
    static const char *const odd[] = {"plain.%d", "quote\"%d",          "back\\slash%d", "line\n%d",
                                      "\x01%d",   "\xF0\x9F\x98\x80%d", "a b/c:%d"};
    snprintf(name, 64, odd[i % 7], i);
}

static crank_status write_sample(const char *path, const sample *s, unsigned flags, uint32_t seed,
                                 crank_error *error)
{
    crank_status status = CRANK_OK;
    st_writer *w = NULL;
    CRANK_TRY_GOTO(st_writer_open(&w, path, flags, error));
    CRANK_TRY_GOTO(st_writer_metadata(w, "format", "pt", error));
    CRANK_TRY_GOTO(st_writer_metadata(w, "odd\t\"key\\", "{\"a\": \"\n\x7F\xC3\xA9\"}", error));
    for (int i = 0; i < s->n; i++) {
        char name[64];
        name_of(name, i);
        CRANK_TRY_GOTO(st_writer_tensor(w, name, s->type[i], s->rank[i], s->shape[i], error));
    }
    for (size_t done = 0; done < s->total;) { /* pieces that respect nothing */
        size_t piece = 1 + next_random(&seed) % 700;
        if (piece > s->total - done) piece = s->total - done;
        CRANK_TRY_GOTO(st_writer_write(w, s->data + done, piece, error));
        done += piece;
    }
    CRANK_TRY_GOTO(st_writer_commit(w, error));
out:
    st_writer_close(w);
    return status;
}

Test(st_writer, what_is_written_is_read_back)
{
    char dir[SCRATCH_BYTES];
    sample *s = malloc(sizeof *s);
    scratch_open(dir);
    for (uint32_t seed = 1; seed <= 200; seed++) {
        crank_error error = {0};
        safetensors *st;
        unsigned flags = seed & 1 ? ST_WRITER_ALIGNED : ST_WRITER_PLAIN;
        make_sample(s, seed);
        const char *path = scratch_path(dir, "x.safetensors");
        cr_assert_eq(write_sample(path, s, flags, seed, &error), CRANK_OK, "%s", error.message);
        cr_assert_eq(safetensors_open(&st, path, &error), CRANK_OK, "%s", error.message);
        cr_assert_str_eq(safetensors_metadata(st, "format"), "pt");
        cr_assert_str_eq(safetensors_metadata(st, "odd\t\"key\\"), "{\"a\": \"\n\x7F\xC3\xA9\"}");
        cr_assert_eq(safetensors_metadata_count(st), 2);
        cr_assert_eq(safetensors_data_start(st, 0) % 64, 0);
        size_t offset = 0, pads = 0;
        for (int i = 0; i < s->n; i++) {
            char name[64];
            uint8_t data[1 << 12];
            name_of(name, i);
            const st_tensor *t = safetensors_find(st, name);
            cr_assert_not_null(t);
            cr_assert(t->type == s->type[i] && t->rank == s->rank[i] && t->bytes == s->bytes[i]);
            cr_assert_eq(memcmp(t->shape, s->shape[i], sizeof(int64_t) * (size_t)t->rank), 0);
            cr_assert_eq(safetensors_read(st, t, data, &error), CRANK_OK, "%s", error.message);
            cr_assert_eq(memcmp(data, s->data + offset, t->bytes), 0);
            if (flags) cr_assert_eq(t->offset % 64, 0);
            offset += s->bytes[i];
        }
        for (size_t i = 0; i < safetensors_count(st); i++) {
            pads += strncmp(safetensors_at(st, i)->name, ST_PAD_PREFIX, strlen(ST_PAD_PREFIX)) == 0;
        }
        cr_assert_eq(safetensors_count(st), (size_t)s->n + pads);
        cr_assert(flags || pads == 0);
        safetensors_close(st);
        cr_assert_eq(scratch_count(dir), 1);
    }
    free(s);
    scratch_close(dir);
    leak_check();
}

Test(st_writer, floats_go_to_each_tensor_s_own_dtype)
{
    char dir[SCRATCH_BYTES];
    crank_error error;
    st_writer *w;
    safetensors *st;
    scratch_open(dir);
    const char *path = scratch_path(dir, "x.safetensors");
    enum { N = 5000 };
    float *values = malloc(3 * N * sizeof *values), *back = malloc(N * sizeof *back);
    for (int i = 0; i < 3 * N; i++) values[i] = (float)(i % 128);
    cr_assert_eq(st_writer_open(&w, path, ST_WRITER_ALIGNED, &error), CRANK_OK);
    cr_assert_eq(st_writer_tensor(w, "a", DTYPE_BF16, 1, (int64_t[]){N}, &error), CRANK_OK);
    cr_assert_eq(st_writer_tensor(w, "b", DTYPE_F32, 2, (int64_t[]){N / 2, 2}, &error), CRANK_OK);
    cr_assert_eq(st_writer_tensor(w, "c", DTYPE_F16, 1, (int64_t[]){N}, &error), CRANK_OK);
    cr_assert_eq(st_writer_write_f32(w, values, 7, &error), CRANK_OK);
    cr_assert_eq(st_writer_write_f32(w, values + 7, 3 * N - 7, &error), CRANK_OK);
    cr_assert_eq(st_writer_commit(w, &error), CRANK_OK);
    st_writer_close(w);
    cr_assert_eq(safetensors_open(&st, path, &error), CRANK_OK, "%s", error.message);
    for (int i = 0; i < 3; i++) {
        const st_tensor *t = safetensors_find(st, (const char *[]){"a", "b", "c"}[i]);
        cr_assert_eq(safetensors_read_f32(st, t, back, &error), CRANK_OK);
        cr_assert_eq(memcmp(back, values + i * N, N * sizeof *back), 0, "%d", i);
    }
    safetensors_close(st);
    free(values);
    free(back);
    scratch_close(dir);
}

Test(st_writer, misuse_is_an_error_and_leaves_nothing)
{
    char dir[SCRATCH_BYTES], long_name[600];
    crank_error error;
    st_writer *w;
    scratch_open(dir);
    const char *path = scratch_path(dir, "x.safetensors");
    memset(long_name, 'x', sizeof long_name);
    long_name[513] = '\0';

    cr_assert_eq(st_writer_open(&w, path, ST_WRITER_ALIGNED, &error), CRANK_OK);
    cr_assert_eq(scratch_count(dir), 1);
    int64_t shape[9] = {2, 2, 1, 1, 1, 1, 1, 1, 1}, negative = -1;
    int64_t huge[3] = {(int64_t)1 << 40, (int64_t)1 << 40, 0}, large = (int64_t)1 << 62;
    static const crank_status bad = CRANK_INVALID_ARGUMENT;
    cr_expect_eq(st_writer_tensor(w, long_name, DTYPE_F32, 2, shape, &error), bad);
    cr_expect_eq(st_writer_tensor(w, "__metadata__", DTYPE_F32, 2, shape, &error), bad);
    cr_expect_eq(st_writer_tensor(w, "crank.pad.0", DTYPE_F32, 2, shape, &error), bad);
    cr_expect_eq(st_writer_tensor(w, "\xff", DTYPE_F32, 2, shape, &error), bad);
    cr_expect_eq(st_writer_tensor(w, "a", DTYPE_COUNT, 2, shape, &error), bad);
    cr_expect_eq(st_writer_tensor(w, "a", DTYPE_F32, 9, shape, &error), bad);
    cr_expect_eq(st_writer_tensor(w, "a", DTYPE_F32, -1, shape, &error), bad);
    cr_expect_eq(st_writer_tensor(w, "a", DTYPE_F32, 1, &negative, &error), bad);
    cr_expect_eq(st_writer_tensor(w, "a", DTYPE_F32, 3, huge, &error), bad);
    cr_expect_eq(st_writer_tensor(w, "a", DTYPE_U8, 1, &large, &error), bad);
    cr_expect_eq(st_writer_metadata(w, "k", "\xff", &error), bad);
    cr_expect_eq(st_writer_metadata(w, "k", "v", &error), CRANK_OK);
    cr_expect_eq(st_writer_metadata(w, "k", "w", &error), bad);
    cr_expect_eq(st_writer_tensor(w, "a", DTYPE_F32, 2, shape, &error), CRANK_OK);
    cr_expect_eq(st_writer_write(w, shape, 8, &error), CRANK_OK);
    cr_expect_eq(st_writer_tensor(w, "b", DTYPE_F32, 2, shape, &error), bad);
    cr_expect_not_null(strstr(error.message, "b comes after the first data"));
    cr_expect_eq(st_writer_metadata(w, "l", "v", &error), bad);
    cr_expect_eq(st_writer_commit(w, &error), bad);
    cr_expect_not_null(strstr(error.message, "tensor a: 8 of its 16 bytes were written"));
    cr_expect_eq(st_writer_commit(w, &error), bad);
    st_writer_close(w);
    cr_assert_eq(scratch_count(dir), 0);

    cr_assert_eq(st_writer_open(&w, path, 0, &error), CRANK_OK); /* one byte too many */
    cr_assert_eq(st_writer_tensor(w, "a", DTYPE_U8, 1, (int64_t[]){3}, &error), CRANK_OK);
    cr_expect_eq(st_writer_write(w, shape, 4, &error), bad);
    cr_expect_eq(st_writer_commit(w, &error), bad, "what failed once is not committed");
    st_writer_close(w);
    cr_assert_eq(scratch_count(dir), 0);

    cr_assert_eq(st_writer_open(&w, path, 0, &error), CRANK_OK); /* a name twice */
    cr_assert_eq(st_writer_tensor(w, "a", DTYPE_U8, 0, NULL, &error), CRANK_OK);
    cr_assert_eq(st_writer_tensor(w, "a", DTYPE_U8, 0, NULL, &error), CRANK_OK);
    cr_expect_eq(st_writer_write(w, shape, 1, &error), bad);
    cr_expect_not_null(strstr(error.message, "tensor a stands there twice"));
    st_writer_close(w);
    cr_assert_eq(scratch_count(dir), 0);

    cr_assert_eq(st_writer_open(&w, scratch_path(dir, "none/x"), 0, &error), CRANK_IO);
    cr_assert_not_null(strstr(error.message, "cannot create: No such file"));
    st_writer_close(w);
    st_writer_close(NULL);
    scratch_close(dir);
    leak_check();
}

Test(st_writer, an_abandoned_file_disappears_and_the_old_one_stays)
{
    char dir[SCRATCH_BYTES], before[CHECKSUM_TEXT_BYTES], after[CHECKSUM_TEXT_BYTES];
    crank_error error;
    st_writer *w;
    scratch_open(dir);
    char *path = strdup(scratch_text(dir, "x.safetensors", "old"));
    cr_assert_eq(checksum_file(before, path, &error), CRANK_OK);
    cr_assert_eq(st_writer_open(&w, path, 0, &error), CRANK_OK);
    cr_assert_eq(st_writer_tensor(w, "a", DTYPE_U8, 1, (int64_t[]){3}, &error), CRANK_OK);
    cr_assert_eq(st_writer_write(w, "xy", 2, &error), CRANK_OK);
    st_writer_close(w);
    cr_assert_eq(scratch_count(dir), 1);
    cr_assert_eq(checksum_file(after, path, &error), CRANK_OK);
    cr_assert_str_eq(before, after);
    free(path);
    scratch_close(dir);
}

/* A leftover of a process that was killed, with the PID that we happen to have. */
Test(st_writer, a_stale_temporary_file_is_no_obstacle)
{
    char dir[SCRATCH_BYTES], name[64];
    crank_error error;
    sample *s = malloc(sizeof *s);
    scratch_open(dir);
    make_sample(s, 5);
    snprintf(name, sizeof name, "x.safetensors.tmp.%ld", (long)getpid());
    scratch_text(dir, name, "stale and much longer than nothing");
    cr_assert_eq(write_sample(scratch_path(dir, "x.safetensors"), s, 0, 1, &error), CRANK_OK, "%s",
                 error.message);
    cr_assert_eq(scratch_count(dir), 1);
    /* A link planted under that name is not followed. */
    cr_assert_eq(symlink("/dev/null", scratch_path(dir, name)), 0);
    cr_assert_eq(write_sample(scratch_path(dir, "x.safetensors"), s, 0, 1, &error), CRANK_IO);
    free(s);
    scratch_close(dir);
}

Test(st_writer, a_pipe_or_a_folder_is_not_replaced)
{
    char dir[SCRATCH_BYTES];
    crank_error error = {0};
    st_writer *w = NULL;
    struct stat about;
    scratch_open(dir);
    cr_assert_eq(mkfifo(scratch_path(dir, "pipe"), 0600), 0);
    cr_assert_eq(st_writer_open(&w, scratch_path(dir, "pipe"), 0, &error), CRANK_IO);
    cr_assert_not_null(strstr(error.message, "pipe: expected a regular file or a new name, found a "
                                             "device, pipe or socket"),
                       "%s", error.message);
    cr_assert_eq(st_writer_open(&w, dir, 0, &error), CRANK_IO);
    cr_assert_not_null(strstr(error.message, "found a folder"), "%s", error.message);
    cr_assert(stat(scratch_path(dir, "pipe"), &about) == 0 && S_ISFIFO(about.st_mode));
    cr_assert_eq(scratch_count(dir), 1);
    unlink(scratch_path(dir, "pipe"));
    scratch_close(dir);
    leak_check();
}

Test(st_writer, every_system_call_and_allocation_may_fail)
{
    char dir[SCRATCH_BYTES];
    sample *s = malloc(sizeof *s);
    scratch_open(dir);
    make_sample(s, 10);
    cr_assert_gt(s->n, 3);
    for (int memory = 0; memory < 2; memory++) {
        for (long n = 0;; n++) {
            crank_error error = {0};
            memory ? mem_fail_nth(n) : file_fail_nth(n);
            crank_status status =
                write_sample(scratch_path(dir, "x.safetensors"), s, ST_WRITER_ALIGNED, 1, &error);
            memory ? mem_fail_nth(-1) : file_fail_nth(-1);
            if (status == CRANK_OK) {
                cr_assert_geq(n, memory ? 10 : 6);
                break;
            }
            cr_assert_eq(status, memory ? CRANK_OUT_OF_MEMORY : CRANK_IO, "%ld: %s", n,
                         error.message);
            bool renamed = strstr(error.message, "is whole, but a crash may lose it") != NULL;
            cr_assert_eq(scratch_count(dir), renamed ? 1 : 0, "call %ld: %s", n, error.message);
            if (renamed) {
                safetensors *whole;
                crank_status again =
                    safetensors_open(&whole, scratch_path(dir, "x.safetensors"), &error);
                cr_assert_eq(again, CRANK_OK, "%s", error.message);
                safetensors_close(whole);
                cr_assert_eq(unlink(scratch_path(dir, "x.safetensors")), 0);
            }
        }
        cr_assert_eq(unlink(scratch_path(dir, "x.safetensors")), 0);
    }
    free(s);
    scratch_close(dir);
    leak_check();
}

Test(st_writer, a_full_disk_leaves_nothing)
{
    char dir[SCRATCH_BYTES];
    crank_error error;
    st_writer *w;
    struct rlimit limit = {1 << 20, RLIM_INFINITY};
    scratch_open(dir);
    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    float *values = calloc(1 << 20, sizeof *values);
    cr_assert_eq(st_writer_open(&w, scratch_path(dir, "x.safetensors"), 0, &error), CRANK_OK);
    cr_assert_eq(st_writer_tensor(w, "a", DTYPE_F32, 1, (int64_t[]){1 << 20}, &error), CRANK_OK);
    cr_assert_eq(st_writer_write_f32(w, values, 1 << 20, &error), CRANK_IO);
    cr_assert_not_null(strstr(error.message, "cannot write: File too large"), "%s", error.message);
    cr_assert_eq(st_writer_commit(w, &error), CRANK_INVALID_ARGUMENT);
    st_writer_close(w);
    free(values);
    cr_assert_eq(scratch_count(dir), 0);
    scratch_close(dir);
}

Test(checksum, equals_the_published_vectors)
{
    char text[CHECKSUM_TEXT_BYTES], dir[SCRATCH_BYTES];
    crank_error error;
    checksum_bytes(text, "abc", 3); /* FIPS 180-4 examples */
    cr_assert_str_eq(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    checksum_bytes(text, "", 0);
    cr_assert_str_eq(text, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    scratch_open(dir);
    char *million = malloc(1000000);
    memset(million, 'a', 1000000);
    const char *path = scratch_write(dir, "million", million, 1000000);
    cr_assert_eq(checksum_file(text, path, &error), CRANK_OK);
    cr_assert_str_eq(text, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    cr_assert_eq(checksum_file(text, dir, &error), CRANK_IO);
    free(million);
    scratch_close(dir);
}
