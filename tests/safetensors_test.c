/* safetensors, reading: what the reference wrote, every kind of malformed file, files that change
 * under the reader, shards, failing memory. */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory.h"
#include "support/golden.h"
#include "support/scratch.h"
#include "weights/file.h"
#include "weights/safetensors.h"

/* ---- files made here ------------------------------------------------------------------------ */

/* A file of a header and `data_bytes` bytes 0, 1, 2, ... */
static const char *write_file(const char *dir, const char *name, const char *header,
                              size_t header_bytes, size_t data_bytes)
{
    size_t bytes = 8 + header_bytes + data_bytes;
    uint8_t *file = malloc(bytes);
    for (int i = 0; i < 8; i++) file[i] = (uint8_t)((uint64_t)header_bytes >> 8 * i);
    memcpy(file + 8, header, header_bytes);
    for (size_t i = 0; i < data_bytes; i++) file[8 + header_bytes + i] = (uint8_t)i;
    const char *path = scratch_write(dir, name, file, bytes);
    free(file);
    return path;
}

static const char *write_header(const char *dir, const char *header, size_t data_bytes)
{
    return write_file(dir, "model.safetensors", header, strlen(header), data_bytes);
}

/* The message without the path in front of it: "PATH: rest" -> "rest". */
static const char *after_path(const char *message, const char *path)
{
    size_t n = strlen(path);
    return strncmp(message, path, n) == 0 && strncmp(message + n, ": ", 2) == 0 ? message + n + 2
                                                                                : message;
}

typedef struct bad_header {
    const char *header;
    size_t data_bytes;
    const char *message;
} bad_header;

#define T(dtype, shape, offsets)                                                                   \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static const bad_header bad_headers[] = {
    /* JSON */
    {"", 0, "header, byte 8: the header does not begin with '{'"},
    {" {}", 0, "header, byte 8: the header does not begin with '{'"},
    {"[]", 0, "header, byte 8: the header does not begin with '{'"},
    {"{", 0, "header, byte 9: the text ends where '\"' is expected"},
    {"{}x", 0, "header, byte 10: something follows the header's object"},
    {"{\"a\"", 0, "header, byte 12: the text ends where ':' is expected"},
    {"{\"a\":", 0, "header, byte 13: a value is expected"},
    {"{\"a\":" T("U8", "[1]", "[0,1]") ",}", 1, "header, byte 61: a value is expected after ','"},
    {"{\"a\":" T("U8", "[1]", "[0,1]") "]", 1, "header, byte 60: ',' or '}' is expected"},
    {"{\"a:1}", 0, "header, byte 9: a string without an end"},
    {"{\"a\\q\":1}", 0, "header, byte 12: an unknown escape in a string"},
    {"{\"\\ud800\":1}", 0, "header, byte 16: half a surrogate pair"},
    {"{\"\\udc00\":1}", 0, "header, byte 16: half a surrogate pair"},
    {"{\"\\u12g4\":1}", 0, "header, byte 12: \\u needs four hexadecimal digits"},
    {"{\"a\n\":1}", 0, "header, byte 11: a control character in a string"},
    {"{\"a\xff\":1}", 0, "header, byte 11: a string is not valid UTF-8"},
    {"{\"a\xed\xa0\x80\":1}", 0, "header, byte 11: a string is not valid UTF-8"},
    /* members */
    {"{\"a\":7}", 0, "header, byte 13: '{' is expected, '7' found"},
    {"{\"a\":null}", 0, "header, byte 13: '{' is expected, 'n' found"},
    {"{\"a\":[\"U8\",[1],[0,1]]}", 1, "header, byte 13: '{' is expected, '[' found"},
    {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "header, byte 13: tensor a: no dtype"},
    {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "header, byte 13: tensor a: no shape"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "header, byte 13: tensor a: no data_offsets"},
    {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
     "header, byte 27: tensor a: dtype stands there twice"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"sh\\u0061pe\":[1],\"data_offsets\":[0,1]}}", 1,
     "header, byte 39: tensor a: shape stands there twice"},
    {"{\"a\":" T("U8", "[1]", "[0,1]") ",\"a\":" T("U8", "[1]", "[1,2]") "}", 2,
     "tensor a stands there twice"},
    {"{\"a\":" T("U8", "[1]", "[0,1]") ",\"\\u0061\":" T("U8", "[1]", "[1,2]") "}", 2,
     "tensor a stands there twice"},
    {"{\"a\\u0000b\":" T("U8", "[1]", "[0,1]") "}", 1, "header, byte 9: a NUL in the name a"},
    /* dtypes */
    {"{\"a\":" T("Q8", "[1]", "[0,1]") "}", 1, "header, byte 22: tensor a: unknown dtype \"Q8\""},
    {"{\"a\":" T("f32", "[1]", "[0,4]") "}", 4, "header, byte 22: tensor a: unknown dtype \"f32\""},
    {"{\"a\":{\"dtype\":8,\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
     "header, byte 22: '\"' is expected, '8' found"},
    /* numbers */
    {"{\"a\":" T("U8", "[-1]", "[0,1]") "}", 1,
     "header, byte 36: shape: a non-negative integer is expected"},
    {"{\"a\":" T("U8", "[1.0]", "[0,1]") "}", 1,
     "header, byte 36: shape: an integer is expected, not a fraction"},
    {"{\"a\":" T("U8", "[1e0]", "[0,1]") "}", 1,
     "header, byte 36: shape: an integer is expected, not a fraction"},
    {"{\"a\":" T("U8", "[01]", "[0,1]") "}", 1, "header, byte 37: ',' or ']' is expected"},
    {"{\"a\":" T("U8", "[18446744073709551616]", "[0,1]") "}", 1,
     "header, byte 36: shape: an integer of 2^64 or more"},
    {"{\"a\":" T("U8", "[9223372036854775808]", "[0,1]") "}", 1,
     "header, byte 55: tensor a: a dimension of 2^63 or more"},
    {"{\"a\":" T("U8", "[null]", "[0,1]") "}", 1,
     "header, byte 36: shape: a non-negative integer is expected"},
    {"{\"a\":" T("U8", "3", "[0,3]") "}", 3, "header, byte 35: '[' is expected, '3' found"},
    {"{\"a\":" T("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]") "}", 1,
     "header, byte 52: tensor a: more than 8 dimensions"},
    {"{\"a\":" T("U8", "[1]", "[0]") "}", 1, "header, byte 56: ',' is expected, ']' found"},
    {"{\"a\":" T("U8", "[1]", "[0,1,2]") "}", 1, "header, byte 58: ']' is expected, ',' found"},
    {"{\"a\":" T("U8", "[1]", "[\"0\",1]") "}", 1,
     "header, byte 55: data_offsets: a non-negative integer is expected"},
    {"{\"a\":" T("U8", "[1]", "[0,1]") ",\"b\":{\"x\":2e308}}", 1,
     "header, byte 70: a number out of range"},
    {"{\"a\":{\"x\":-}}", 0, "header, byte 19: a number without digits"},
    {"{\"a\":{\"x\":1.}}", 0, "header, byte 20: a number without digits after its point"},
    {"{\"a\":{\"x\":1e+}}", 0, "header, byte 21: a number without digits in its exponent"},
    /* sizes */
    {"{\"a\":" T("F32", "[4294967296,4294967296]", "[0,4]") "}", 4,
     "header, byte 13: tensor a: shape [4294967296, 4294967296] of F32 overflows"},
    {"{\"a\":" T("F32", "[0,4294967296,4294967296]", "[0,0]") "}", 0,
     "header, byte 13: tensor a: shape [0, 4294967296, 4294967296] of F32 overflows"},
    {"{\"a\":" T("F32", "[2]", "[0,4]") "}", 4,
     "header, byte 13: tensor a: shape [2] of F32 takes 8 bytes, its data_offsets give 4"},
    {"{\"a\":" T("U8", "[]", "[0,0]") "}", 0,
     "header, byte 13: tensor a: shape [] of U8 takes 1 bytes, its data_offsets give 0"},
    {"{\"a\":" T("U8", "[1]", "[1,0]") "}", 1,
     "header, byte 13: tensor a: data_offsets [1, 0] do not lie in the 1 bytes of data"},
    {"{\"a\":" T("U8", "[2]", "[0,2]") "}", 1,
     "header, byte 13: tensor a: data_offsets [0, 2] do not lie in the 1 bytes of data"},
    {"{\"a\":" T("U8", "[1]", "[18446744073709551615,18446744073709551615]") "}", 1,
     "header, byte 13: tensor a: data_offsets [18446744073709551615, 18446744073709551615] do not "
     "lie in the 1 bytes of data"},
    /* cover */
    {"{\"a\":" T("U8", "[2]", "[0,2]") ",\"b\":" T("U8", "[2]", "[1,3]") "}", 3,
     "tensor b begins at byte 1 of the data, the one before it ends at 2: overlap"},
    {"{\"a\":" T("U8", "[2]", "[0,2]") ",\"b\":" T("U8", "[2]", "[0,2]") "}", 2,
     "tensor b begins at byte 0 of the data, the one before it ends at 2: overlap"},
    {"{\"a\":" T("U8", "[1]", "[0,1]") ",\"b\":" T("U8", "[1]", "[2,3]") "}", 3,
     "tensor b begins at byte 2 of the data, the one before it ends at 1: hole"},
    {"{\"a\":" T("U8", "[1]", "[1,2]") "}", 2,
     "tensor a begins at byte 1 of the data, the one before it ends at 0: hole"},
    {"{\"a\":" T("U8", "[1]", "[0,1]") "}", 2,
     "the tensors end at byte 1 of the data, which has 2 bytes"},
    {"{}", 1, "the tensors end at byte 0 of the data, which has 1 bytes"},
    /* metadata */
    {"{\"__metadata__\":7}", 0, "header, byte 24: __metadata__: an object is expected"},
    {"{\"__metadata__\":{\"a\":7}}", 0, "header, byte 29: __metadata__: a: a string is expected"},
    {"{\"__metadata__\":{\"a\":\"x\\u0000\"}}", 0,
     "header, byte 29: __metadata__: a: a NUL in a string"},
    {"{\"__metadata__\":{\"a\":\"x\",\"a\":\"y\"}}", 0, "__metadata__: a stands there twice"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0,
     "header, byte 27: __metadata__ stands there twice"},
};

Test(safetensors, malformed_headers_are_refused_with_their_reason)
{
    char dir[SCRATCH_BYTES];
    scratch_open(dir);
    for (size_t i = 0; i < sizeof bad_headers / sizeof bad_headers[0]; i++) {
        const bad_header *bad = &bad_headers[i];
        crank_error error = {0};
        safetensors *st;
        const char *path = write_header(dir, bad->header, bad->data_bytes);
        cr_expect_eq(safetensors_open(&st, path, &error), CRANK_FORMAT, "%s", bad->header);
        cr_expect_null(st);
        cr_expect_str_eq(after_path(error.message, path), bad->message, "%s\n  said: %s",
                         bad->header, error.message);
    }
    scratch_close(dir);
    leak_check();
}

Test(safetensors, malformed_files_are_refused_with_their_reason)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *message;
    } cases[] = {
        {"", 0, "has 0 bytes, a safetensors file begins with 8 bytes of header length"},
        {"\2\0\0\0\0\0\0", 7,
         "has 7 bytes, a safetensors file begins with 8 bytes of header length"},
        {"\3\0\0\0\0\0\0\0{}", 10, "byte 0: a header of 3 bytes, the file has 2 after its first 8"},
        {"\1\xE1\xF5\5\0\0\0\0{}", 10,
         "byte 0: a header of 100000001 bytes, at most 100000000 are accepted (is it a safetensors "
         "file?)"},
        {"\0\xE1\xF5\5\0\0\0\0{}", 10,
         "byte 0: a header of 100000000 bytes, the file has 2 after its first 8"},
        {"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF{}", 10,
         "byte 0: a header of 18446744073709551615 bytes, at most 100000000 are accepted (is it a "
         "safetensors file?)"},
        {"\4\0\0\0\0\0\0\0{}\0\0", 12, "header, byte 10: something follows the header's object"},
        {"\0\0\0\0\0\0\0\0", 8, "header, byte 8: the header does not begin with '{'"},
        {"PK\3\4\0\0\0\0zip!", 12,
         "byte 0: a header of 67324752 bytes, the file has 4 after its first 8"},
    };
    char dir[SCRATCH_BYTES];
    scratch_open(dir);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        crank_error error = {0};
        safetensors *st;
        const char *path = scratch_write(dir, "x.safetensors", cases[i].bytes, cases[i].n);
        cr_expect_eq(safetensors_open(&st, path, &error), CRANK_FORMAT, "case %zu", i);
        cr_expect_str_eq(after_path(error.message, path), cases[i].message, "case %zu: %s", i,
                         error.message);
    }
    scratch_close(dir);
}

Test(safetensors, hostile_sizes_are_refused)
{
    char dir[SCRATCH_BYTES], long_name[700];
    crank_error error = {0};
    safetensors *st;
    scratch_open(dir);
    memset(long_name, 'n', sizeof long_name);
    char *header = malloc(4096);
    sprintf(header, "{\"%.513s\":" T("U8", "[1]", "[0,1]") "}", long_name);
    cr_expect_eq(safetensors_open(&st, write_header(dir, header, 1), &error), CRANK_FORMAT);
    cr_expect_not_null(strstr(error.message, "a name of 513 bytes, at most 512 are accepted"));
    sprintf(header, "{\"%.512s\":" T("U8", "[1]", "[0,1]") "}", long_name);
    cr_expect_eq(safetensors_open(&st, write_header(dir, header, 1), &error), CRANK_OK);
    safetensors_close(st);

    /* Depth: 127 levels are the reference's limit, and no recursion counts on it. */
    for (int levels = 100; levels <= 200000; levels *= 2) {
        char *deep = malloc(2 * (size_t)levels + 200);
        size_t used = (size_t)sprintf(deep, "{\"a\":{\"x\":");
        memset(deep + used, '[', (size_t)levels);
        memset(deep + used + levels, ']', (size_t)levels);
        used += 2 * (size_t)levels;
        sprintf(deep + used, ",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}");
        crank_status status = safetensors_open(&st, write_header(dir, deep, 1), &error);
        cr_expect_eq(status, levels + 2 <= 127 ? CRANK_OK : CRANK_FORMAT, "%d levels", levels);
        if (status != CRANK_OK) {
            cr_expect_not_null(strstr(error.message, "nested deeper than 127 levels"));
        }
        safetensors_close(st);
        free(deep);
    }

    /* Members that are no tensors must not make the table large: 400 KB of them. */
    char *many = malloc(600000);
    size_t used = (size_t)sprintf(many, "{");
    for (int i = 0; i < 66000; i++) used += (size_t)sprintf(many + used, "\"a\":0,");
    sprintf(many + used - 1, "}");
    cr_expect_eq(safetensors_open(&st, write_header(dir, many, 0), &error), CRANK_FORMAT);
    free(many);

    for (int i = 0; i < 3; i++) {
        static const char *const types[] = {"F4", "F6_E2M3", "F6_E3M2"};
        sprintf(header, "{\"a\":{\"dtype\":\"%s\",\"shape\":[2],\"data_offsets\":[0,1]}}",
                types[i]);
        cr_expect_eq(safetensors_open(&st, write_header(dir, header, 1), &error),
                     CRANK_UNSUPPORTED);
        cr_expect_not_null(strstr(error.message, types[i]));
    }
    free(header);
    scratch_close(dir);
    leak_check();
}

#if !defined(__SANITIZE_ADDRESS__)
/* The highest resident size since the last call; -1 where the kernel does not tell. */
static long peak_kilobytes(void)
{
    char line[256];
    long peak = -1;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        sscanf(line, "VmHWM: %ld", &peak);
    }
    if (file != NULL) fclose(file);
    file = fopen("/proc/self/clear_refs", "w"); /* 5: sets the peak to the present size */
    if (file == NULL) return -1;
    fputs("5", file);
    return fclose(file) == 0 ? peak : -1;
}

/* Below 4 times the header, whatever it holds: small tensors, metadata, members that are neither.
 */
Test(safetensors, memory_is_bounded_by_the_header)
{
    static const struct {
        const char *begin, *member, *end;
        int numbered;
        crank_status status;
    } cases[] = {
        {"{", "\"%x\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},", "}", 1, CRANK_OK},
        {"{\"__metadata__\":{", "\"%x\":\"\",", "}}", 1, CRANK_OK},
        {"{", "\"\":0,", "}", 0, CRANK_FORMAT},
        {"{\"a\":{\"x\":[", "[],", "]}}", 0, CRANK_FORMAT},
    };
    enum { HEADER = 12 << 20 };
    char dir[SCRATCH_BYTES], *header = malloc(HEADER + 200);
    scratch_open(dir);
    for (int i = 0; i < 4; i++) {
        crank_error error;
        safetensors *st;
        int used = sprintf(header, "%s", cases[i].begin);
        for (unsigned n = 0; used < HEADER; n++) {
            used += cases[i].numbered ? sprintf(header + used, cases[i].member, n)
                                      : sprintf(header + used, "%s", cases[i].member);
        }
        used += sprintf(header + used - 1, "%s", cases[i].end) - 1;
        const char *path = write_file(dir, "x.safetensors", header, (size_t)used, 0);
        peak_kilobytes();
        long before = peak_kilobytes();
        cr_expect_eq(safetensors_open(&st, path, &error), cases[i].status, "case %d", i);
        long grown = peak_kilobytes() - before;
        cr_expect_leq(grown, 4L * HEADER / 1024 + 1024, "case %d: %ld KiB", i, grown);
        safetensors_close(st);
    }
    free(header);
    scratch_close(dir);
}
#endif

Test(safetensors, what_is_not_a_regular_file_is_refused_at_once)
{
    char dir[SCRATCH_BYTES];
    crank_error error;
    safetensors *st;
    scratch_open(dir);
    cr_assert_eq(safetensors_open(&st, scratch_path(dir, "absent"), &error), CRANK_IO);
    cr_assert_not_null(strstr(error.message, "absent: cannot open: No such file"));
    cr_assert_eq(safetensors_open(&st, dir, &error), CRANK_IO);
    cr_assert_not_null(strstr(error.message, "is a folder, expected a regular file"));
    cr_assert_eq(mkfifo(scratch_path(dir, "pipe"), 0600), 0);
    cr_assert_eq(safetensors_open(&st, scratch_path(dir, "pipe"), &error), CRANK_IO);
    cr_assert_not_null(strstr(error.message, "is not a file"));
    scratch_close(dir);
}

/* ---- what must be accepted ------------------------------------------------------------------ */

Test(safetensors, odd_but_legal_headers_are_accepted)
{
    static const bad_header cases[] = {
        {"{}", 0, "0"},
        {"{} \n\t\r  ", 0, "0"},
        {"{\"__metadata__\":null}", 0, "0"},
        {"{\"__metadata__\":{}}", 0, "0"},
        {"{\"b\":" T("F32", "[1]", "[1,5]") ",\"a\":" T("U8", "[1]", "[0,1]") "}", 5, "2"},
        {"{ \"a\" : { \"data_offsets\" : [ 0 , 2 ] , \"extra\" : { \"x\" : [ 1.5e3 , \"\\u00e9\" , "
         "true ] } "
         ", \"shape\" : [ 2 ] , \"dtype\" : \"U8\" } }",
         2, "1"},
        {"{\"z\":" T("F32", "[0]", "[0,0]") ",\"a\":" T("F32", "[1]", "[0,4]") "}", 4, "2"},
        {"{\"a\":" T("F32", "[1]", "[0,4]") ",\"z\":" T("F32", "[3,0]", "[4,4]") "}", 4, "2"},
        {"{\"a\":" T("F64", "[]", "[0,8]") "}", 8, "1"},
        {"{\"\":" T("BOOL", "[1,1,1,1,1,1,1,1]", "[0,1]") "}", 1, "1"},
        {"{\"a\":{\"dt\\u0079pe\":\"\\u0055\\u0038\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
         "1"},
        {"{\"\\ud83d\\ude00\":" T("U8", "[1]", "[0,1]") "}", 1, "1"},
    };
    char dir[SCRATCH_BYTES];
    scratch_open(dir);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        crank_error error = {0};
        safetensors *st;
        const char *path = write_header(dir, cases[i].header, cases[i].data_bytes);
        cr_assert_eq(safetensors_open(&st, path, &error), CRANK_OK, "%s: %s", cases[i].header,
                     error.message);
        cr_expect_eq(safetensors_count(st), (size_t)atoi(cases[i].message), "case %zu", i);
        safetensors_close(st);
    }
    scratch_close(dir);
}

Test(safetensors, misaligned_tensors_are_read_right)
{
    char dir[SCRATCH_BYTES];
    crank_error error;
    safetensors *st;
    scratch_open(dir);
    const char *path =
        write_header(dir,
                     "{\"__metadata__\":{\"k\\n\":\"v\\\"\\u00e9\"},\"b\":" T(
                         "I32", "[2,1]", "[1,9]") ",\"a\":" T("U8", "[1]", "[0,1]") "}",
                     9);
    cr_assert_eq(safetensors_open(&st, path, &error), CRANK_OK, "%s", error.message);
    cr_assert_str_eq(safetensors_at(st, 0)->name, "a");
    cr_assert_str_eq(safetensors_metadata(st, "k\n"), "v\"\xC3\xA9");
    cr_assert_null(safetensors_metadata(st, "k"));
    const st_tensor *b = safetensors_find(st, "b");
    cr_assert(b->rank == 2 && b->shape[0] == 2 && b->shape[1] == 1 && b->shape[7] == 1);
    cr_assert(b->elements == 2 && b->bytes == 8);
    uint8_t bytes[8];
    cr_assert_eq(safetensors_read(st, b, bytes, &error), CRANK_OK);
    for (int i = 0; i < 8; i++) cr_assert_eq(bytes[i], i + 1);
    cr_assert_eq(safetensors_read_range(st, b, 3, 2, bytes, &error), CRANK_OK);
    cr_assert(bytes[0] == 4 && bytes[1] == 5);
    cr_assert_eq(safetensors_read_range(st, b, 7, 2, bytes, &error), CRANK_INVALID_ARGUMENT);
    cr_assert_eq(safetensors_read_range(st, b, UINT64_MAX, 2, bytes, &error),
                 CRANK_INVALID_ARGUMENT);
    cr_assert_null(safetensors_find(st, "c"));
    cr_assert_null(safetensors_at(st, 2));
    safetensors_close(st);
    scratch_close(dir);
}

Test(safetensors, many_unsorted_tensors_are_found)
{
    enum { N = 5000 };
    char dir[SCRATCH_BYTES], *header = malloc(N * 80);
    crank_error error;
    safetensors *st;
    size_t used = (size_t)sprintf(header, "{");
    for (int i = 0; i < N; i++) { /* names and places in two different scattered orders */
        used += (size_t)sprintf(header + used, "\"t%d\":" T("U8", "[1]", "[%d,%d]") ",", i * 7 % N,
                                i * 13 % N, i * 13 % N + 1);
    }
    sprintf(header + used - 1, "}");
    scratch_open(dir);
    cr_assert_eq(safetensors_open(&st, write_header(dir, header, N), &error), CRANK_OK, "%s",
                 error.message);
    for (int i = 0; i < N; i++) {
        char name[16];
        uint8_t byte;
        sprintf(name, "t%d", i * 7 % N);
        const st_tensor *tensor = safetensors_find(st, name);
        cr_assert_eq(safetensors_read(st, tensor, &byte, &error), CRANK_OK);
        cr_assert_eq(byte, (uint8_t)(i * 13 % N));
        if (i > 0)
            cr_assert_lt(strcmp(safetensors_at(st, (size_t)i - 1)->name,
                                safetensors_at(st, (size_t)i)->name),
                         0);
    }
    safetensors_close(st);
    free(header);
    scratch_close(dir);
}

/* ---- numbers -------------------------------------------------------------------------------- */

Test(safetensors, floats_are_widened_and_must_be_finite)
{
    static const struct {
        dtype type;
        const char *name;
    } types[] = {{DTYPE_F32, "F32"}, {DTYPE_F16, "F16"}, {DTYPE_BF16, "BF16"}, {DTYPE_F64, "F64"}};
    enum { N = 20000 };
    char dir[SCRATCH_BYTES];
    float *values = malloc(N * sizeof *values), *back = malloc(N * sizeof *back);
    scratch_open(dir);
    for (int i = 0; i < N; i++) values[i] = (float)(i % 255 - 127) / 64; /* exact in all four */
    for (int t = 0; t < 4; t++) {
        for (int bad = 0; bad < 2; bad++) {
            crank_error error = {0};
            safetensors *st;
            st_writer *w;
            values[17777] = bad ? NAN : 1;
            const char *path = scratch_path(dir, "x.safetensors");
            cr_assert_eq(st_writer_open(&w, path, 0, &error), CRANK_OK);
            cr_assert_eq(st_writer_tensor(w, "w", types[t].type, 1, (int64_t[]){N}, &error),
                         CRANK_OK);
            cr_assert_eq(st_writer_write_f32(w, values, N, &error), CRANK_OK);
            cr_assert_eq(st_writer_commit(w, &error), CRANK_OK);
            st_writer_close(w);
            cr_assert_eq(safetensors_open(&st, path, &error), CRANK_OK);
            crank_status status = safetensors_read_f32(st, safetensors_at(st, 0), back, &error);
            if (bad) {
                cr_assert_eq(status, CRANK_NUMERIC);
                cr_assert_str_eq(after_path(error.message, path),
                                 "tensor w: element 17777 is not finite");
            } else {
                cr_assert_eq(status, CRANK_OK, "%s", error.message);
                cr_assert_eq(memcmp(values, back, N * sizeof *values), 0, "%s", types[t].name);
            }
            safetensors_close(st);
        }
    }
    crank_error error;
    safetensors *st;
    const char *path = write_header(dir, "{\"a\":" T("I64", "[1]", "[0,8]") "}", 8);
    cr_assert_eq(safetensors_open(&st, path, &error), CRANK_OK);
    cr_assert_eq(safetensors_read_f32(st, safetensors_at(st, 0), back, &error), CRANK_UNSUPPORTED);
    cr_assert_str_eq(after_path(error.message, path),
                     "tensor a: dtype I64, expected F32, F16, BF16 or F64");
    safetensors_close(st);
    free(values);
    free(back);
    scratch_close(dir);
}

/* ---- files that change ---------------------------------------------------------------------- */

Test(safetensors, a_file_that_changes_is_an_error)
{
    char dir[SCRATCH_BYTES];
    crank_error error;
    safetensors *st;
    uint8_t bytes[100];
    scratch_open(dir);
    const char *header = "{\"w\":" T("U8", "[100]", "[0,100]") "}";
    char *path = strdup(write_header(dir, header, 100));

    cr_assert_eq(safetensors_open(&st, path, &error), CRANK_OK);
    cr_assert_eq(truncate(path, (off_t)(8 + strlen(header) + 50)), 0);
    cr_assert_eq(safetensors_read(st, safetensors_at(st, 0), bytes, &error), CRANK_IO);
    cr_assert_not_null(strstr(error.message, "tensor w: "), "%s", error.message);
    cr_assert_not_null(strstr(error.message, "the file ends at byte"), "%s", error.message);
    /* The part that is still there is not trusted either. */
    cr_assert_eq(safetensors_read_range(st, safetensors_at(st, 0), 0, 10, bytes, &error), CRANK_IO);
    cr_assert_not_null(strstr(error.message, "changed while it was read: "), "%s", error.message);
    safetensors_close(st);

    write_header(dir, header, 100);
    cr_assert_eq(safetensors_open(&st, path, &error), CRANK_OK);
    struct timespec times[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    cr_assert_eq(utimensat(AT_FDCWD, path, times, 0), 0);
    cr_assert_eq(safetensors_read(st, safetensors_at(st, 0), bytes, &error), CRANK_IO);
    cr_assert_not_null(strstr(error.message, "modification time"), "%s", error.message);
    safetensors_close(st);

    write_header(dir, header, 100);
    cr_assert_eq(safetensors_open(&st, path, &error), CRANK_OK);
    cr_assert_eq(safetensors_unchanged(st, &error), CRANK_OK);
    cr_assert_eq(rename(path, scratch_path(dir, "old")), 0);
    write_header(dir, header, 100);
    cr_assert_eq(safetensors_read(st, safetensors_at(st, 0), bytes, &error), CRANK_OK,
                 "the open file is still whole");
    cr_assert_eq(safetensors_unchanged(st, &error), CRANK_IO);
    cr_assert_not_null(strstr(error.message, "another file has taken its place"));
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(safetensors_unchanged(st, &error), CRANK_IO);
    cr_assert_not_null(strstr(error.message, "vanished"));
    safetensors_close(st);
    free(path);
    scratch_close(dir);
}

/* ---- shards --------------------------------------------------------------------------------- */

static void write_shards(const char *dir, const char *index)
{
    const char *one = "{\"a\":" T("U8", "[1]", "[0,1]") ",\"c\":" T("U8", "[2]", "[1,3]") "}";
    const char *two = "{\"b\":" T("U8", "[2]", "[0,2]") "}";
    write_file(dir, "one.safetensors", one, strlen(one), 3);
    write_file(dir, "two.safetensors", two, strlen(two), 2);
    scratch_text(dir, "model.safetensors.index.json", index);
}

Test(safetensors, shards_are_one_table)
{
    char dir[SCRATCH_BYTES];
    crank_error error;
    safetensors *st;
    scratch_open(dir);
    write_shards(dir, "{\"metadata\":{\"total_size\":5},\"weight_map\":{\"c\":\"one.safetensors\","
                      "\"b\":\"two.safetensors\",\"a\":\"one.safetensors\"}}");
    cr_assert_eq(safetensors_open_model(&st, dir, &error), CRANK_OK, "%s", error.message);
    cr_assert_eq(safetensors_count(st), 3);
    cr_assert_eq(safetensors_file_count(st), 2);
    cr_assert_not_null(strstr(safetensors_file_path(st, 1), "two.safetensors"));
    uint8_t bytes[2];
    for (int i = 0; i < 3; i++) cr_assert_eq(safetensors_at(st, (size_t)i)->name[0], 'a' + i);
    cr_assert_eq(safetensors_read(st, safetensors_find(st, "b"), bytes, &error), CRANK_OK);
    cr_assert(bytes[0] == 0 && bytes[1] == 1);
    cr_assert_eq(safetensors_read(st, safetensors_find(st, "c"), bytes, &error), CRANK_OK);
    cr_assert(bytes[0] == 1 && bytes[1] == 2);
    safetensors_close(st);
    /* The single file wins, as in transformers. */
    write_header(dir, "{\"only\":" T("U8", "[1]", "[0,1]") "}", 1);
    cr_assert_eq(safetensors_open_model(&st, dir, &error), CRANK_OK);
    cr_assert_eq(safetensors_count(st), 1);
    safetensors_close(st);
    scratch_close(dir);
    leak_check();
}

Test(safetensors, malformed_indexes_are_refused_with_their_reason)
{
    static const struct {
        const char *index;
        crank_status status;
        const char *message;
    } cases[] = {
        {"{\"weight_map\":{\"a\":\"one.safetensors\"", CRANK_FORMAT,
         "line 1, column 37 (byte 36): ',' or '}' is expected"},
        {"[]", CRANK_FORMAT, "an object is expected at the top"},
        {"{}", CRANK_MODEL, "weight_map is missing"},
        {"{\"weight_map\":[]}", CRANK_MODEL, "weight_map is not an object"},
        {"{\"weight_map\":{}}", CRANK_MODEL, "weight_map names no tensor"},
        {"{\"weight_map\":{\"a\":7}}", CRANK_MODEL, "weight_map: the file of a is not a string"},
        {"{\"weight_map\":{\"a\":\"one.safetensors\",\"a\":\"two.safetensors\"}}", CRANK_FORMAT,
         "the key \"a\" stands there twice"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", CRANK_MODEL,
         "names the file \"/etc/passwd\", which is not a plain name in the folder"},
        {"{\"weight_map\":{\"a\":\"../x.safetensors\"}}", CRANK_MODEL,
         "names the file \"../x.safetensors\", which is not a plain name in the folder"},
        {"{\"weight_map\":{\"a\":\"sub/one.safetensors\"}}", CRANK_MODEL, "not a plain name"},
        {"{\"weight_map\":{\"a\":\"..\"}}", CRANK_MODEL, "not a plain name"},
        {"{\"weight_map\":{\"a\":\"\"}}", CRANK_MODEL, "not a plain name"},
        {"{\"weight_map\":{\"a\":\"one.safetensors\\u0000\"}}", CRANK_FORMAT, "a NUL in a string"},
        {"{\"weight_map\":{\"a\":\"link.safetensors\"}}", CRANK_MODEL,
         "\"link.safetensors\", which is a link out of the folder"},
        {"{\"weight_map\":{\"a\":\"absent.safetensors\"}}", CRANK_MODEL,
         "\"absent.safetensors\", which cannot be opened: No such file or directory"},
        {"{\"weight_map\":{\"a\":\"two.safetensors\"}}", CRANK_MODEL,
         "tensor a is not in two.safetensors"},
        {"{\"weight_map\":{\"x\":\"one.safetensors\"}}", CRANK_MODEL,
         "tensor x is not in one.safetensors"},
        {"{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\",\"z\":\"dup."
         "safetensors\"}}",
         CRANK_FORMAT, "tensor b stands there twice"},
        {"{\"weight_map\":{\"a\":\"broken.safetensors\"}}", CRANK_FORMAT,
         "broken.safetensors: header, byte 8: the header does not begin with '{'"},
    };
    char dir[SCRATCH_BYTES];
    scratch_open(dir);
    cr_assert_eq(symlink("/etc/passwd", scratch_path(dir, "link.safetensors")), 0);
    const char *dup = "{\"b\":" T("U8", "[2]", "[0,2]") "}";
    write_file(dir, "dup.safetensors", dup, strlen(dup), 2);
    write_file(dir, "broken.safetensors", "x", 1, 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        crank_error error = {0};
        safetensors *st;
        write_shards(dir, cases[i].index);
        cr_expect_eq(safetensors_open_model(&st, dir, &error), cases[i].status, "case %zu: %s", i,
                     error.message);
        cr_expect_not_null(strstr(error.message, cases[i].message), "case %zu: %s", i,
                           error.message);
        cr_expect_null(st);
    }
    scratch_close(dir);
    leak_check();
}

Test(safetensors, a_folder_without_weights_says_what_was_looked_for)
{
    char dir[SCRATCH_BYTES];
    crank_error error;
    safetensors *st;
    scratch_open(dir);
    cr_assert_eq(safetensors_open_model(&st, dir, &error), CRANK_MODEL);
    cr_assert_str_eq(after_path(error.message, dir),
                     "has neither model.safetensors nor model.safetensors.index.json");
    scratch_text(dir, "pytorch_model.bin", "PK");
    cr_assert_eq(safetensors_open_model(&st, dir, &error), CRANK_MODEL);
    cr_assert_not_null(strstr(error.message, "save the model as safetensors"));
    scratch_close(dir);
}

Test(safetensors, links_of_the_hub_cache_are_followed)
{
    char dir[SCRATCH_BYTES], snapshot[128];
    crank_error error;
    safetensors *st;
    scratch_open(dir);
    const char *one = "{\"a\":" T("U8", "[1]", "[0,1]") "}";
    write_file(dir, "blobs/abc", one, strlen(one), 1);
    write_file(dir, "elsewhere/abc", one, strlen(one), 1);
    snprintf(snapshot, sizeof snapshot, "%s/snapshots/rev", dir);
    scratch_text(dir, "snapshots/rev/model.safetensors.index.json",
                 "{\"weight_map\":{\"a\":\"m.safetensors\"}}");
    const char *link = scratch_path(dir, "snapshots/rev/m.safetensors");
    cr_assert_eq(symlink("../../blobs/abc", link), 0);
    cr_assert_eq(safetensors_open_model(&st, snapshot, &error), CRANK_OK, "%s", error.message);
    safetensors_close(st);
    cr_assert_eq(unlink(link), 0);
    cr_assert_eq(symlink("../../elsewhere/abc", link), 0);
    cr_assert_eq(safetensors_open_model(&st, snapshot, &error), CRANK_MODEL);
    scratch_close(dir);
}

/* ---- what the reference wrote --------------------------------------------------------------- */

Test(safetensors, reads_what_the_reference_wrote)
{
    char dir[512];
    crank_error error;
    safetensors *st;
    cr_assert(golden_find(dir, "bert-legacy-names"));
    cr_assert_eq(safetensors_open_model(&st, dir, &error), CRANK_OK, "%s", error.message);
    cr_assert_eq(safetensors_count(st), 26);
    cr_assert_str_eq(safetensors_metadata(st, "format"), "pt");
    const st_tensor *ids = safetensors_find(st, "bert.embeddings.position_ids");
    cr_assert_not_null(ids);
    cr_assert_eq(ids->type, DTYPE_I64);
    cr_assert(ids->rank == 2 && ids->shape[0] == 1 && ids->shape[1] == 48);
    int64_t positions[48];
    cr_assert_eq(safetensors_read(st, ids, positions, &error), CRANK_OK, "%s", error.message);
    for (int i = 0; i < 48; i++) cr_assert_eq(positions[i], i);
    uint64_t start = safetensors_data_start(st, 0), bytes = safetensors_file_bytes(st, 0) - start;
    uint8_t *data = malloc(bytes);
    cr_assert_eq(safetensors_read_data(st, 0, data, &error), CRANK_OK);
    cr_assert_eq(memcmp(data + (ids->offset - start), positions, sizeof positions), 0);
    free(data);
    safetensors_close(st);
}

Test(golden, tensors_come_with_their_shapes)
{
    golden g;
    int64_t rows, cols;
    cr_assert(golden_open(&g, "bert-h64"));
    int32_t *ids = golden_i32(&g, "input_ids", &rows, &cols);
    cr_assert(rows == 8 && cols == 48);
    free(ids);
    float *logits = golden_f32(&g, "logits", &rows, &cols);
    double *exact = golden_f64(&g, "logits_f64", NULL, NULL);
    cr_assert(rows == 8 && cols == 1);
    for (int i = 0; i < 8; i++) cr_assert_float_eq(logits[i], exact[i], 1e-6);
    free(logits);
    free(exact);
    golden_close(&g);
}

/* ---- failures ------------------------------------------------------------------------------- */

/* Opens and reads everything; used with memory or system calls failing one at a time. */
static char last_message[CRANK_ERROR_MESSAGE_BYTES];

static crank_status open_and_read(const char *dir)
{
    safetensors *st;
    crank_error error = {0};
    crank_status status = safetensors_open_model(&st, dir, &error);
    for (size_t i = 0; status == CRANK_OK && i < safetensors_count(st); i++) {
        uint8_t bytes[16];
        status = safetensors_read(st, safetensors_at(st, i), bytes, &error);
    }
    if (status == CRANK_OK) status = safetensors_unchanged(st, &error);
    cr_assert_eq(status != CRANK_OK, error.message[0] != '\0');
    safetensors_close(st);
    strcpy(last_message, error.message);
    return status;
}

Test(safetensors, every_allocation_may_fail)
{
    char dir[SCRATCH_BYTES];
    scratch_open(dir);
    scratch_count_jansson();
    write_shards(dir, "{\"weight_map\":{\"c\":\"one.safetensors\",\"b\":\"two.safetensors\",\"a\":"
                      "\"one.safetensors\"}}");
    long n = 0;
    for (;; n++) {
        mem_fail_nth(n);
        crank_status status = open_and_read(dir);
        mem_fail_nth(-1);
        if (status == CRANK_OK) break;
        cr_assert_eq(status, CRANK_OUT_OF_MEMORY, "allocation %ld gave %d: %s", n, status,
                     last_message);
    }
    cr_assert_geq(n, 20);
    scratch_close(dir);
    leak_check();
}

Test(safetensors, every_system_call_may_fail)
{
    char dir[SCRATCH_BYTES];
    scratch_open(dir);
    write_shards(dir, "{\"weight_map\":{\"c\":\"one.safetensors\",\"b\":\"two.safetensors\",\"a\":"
                      "\"one.safetensors\"}}");
    long n = 0;
    for (;; n++) {
        file_fail_nth(n);
        crank_status status = open_and_read(dir);
        file_fail_nth(-1);
        if (status == CRANK_OK) break;
        cr_assert_eq(status, CRANK_IO, "call %ld gave %d", n, status);
    }
    cr_assert_geq(n, 15);
    scratch_close(dir);
    leak_check();
}
