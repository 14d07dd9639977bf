/* Lines out of a growing buffer: [start, used) is read and not yet handed out. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "cli/input.h"

enum { FIRST_BUFFER = 256 * 1024, STORE_BLOCK = 1024 * 1024 };
/* The longest text that a tokenizer takes: what has no end of line by then is no text file (a .gz
 * of zeros would fill the memory). */
#define LONGEST_LINE ((size_t)1 << 30)

struct input {
    char *name;
    int fd;
    gzFile gz; /* NULL: plain */
    off_t file_bytes, read_bytes;
    char *buffer;
    size_t capacity, start, used;
    size_t line_number;
    int at_end;
};

int input_has_suffix(const char *path, const char *suffix)
{
    size_t n = strlen(path), m = strlen(suffix);
    if (n >= 3 && strcmp(path + n - 3, ".gz") == 0) n -= 3;
    return n > m && strncmp(path + n - m, suffix, m) == 0;
}

cli_exit input_open(input **out, const char *path)
{
    *out = NULL;
    int is_stdin = strcmp(path, "-") == 0;
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return cli_fail(CLI_USAGE, "%s: %s", path, strerror(errno));
    struct stat about;
    if (fstat(fd, &about) == 0 && S_ISDIR(about.st_mode)) {
        if (!is_stdin) close(fd);
        return cli_fail(CLI_USAGE, "%s: is a folder, not a file", path);
    }
    input *in = cli_alloc(1, sizeof *in);
    memset(in, 0, sizeof *in);
    const char *name = is_stdin ? "stdin" : path;
    in->name = cli_copy(name, strlen(name));
    in->fd = fd;
    in->file_bytes = S_ISREG(about.st_mode) ? about.st_size : 0;
    size_t n = strlen(path);
    if (!is_stdin && n > 3 && strcmp(path + n - 3, ".gz") == 0) {
        in->gz = gzdopen(fd, "rb");
        if (!in->gz) {
            input_close(in);
            return cli_fail(CLI_MEMORY, "out of memory");
        }
        gzbuffer(in->gz, 128 * 1024);
    }
    in->capacity = FIRST_BUFFER;
    in->buffer = cli_alloc(in->capacity, 1);
    *out = in;
    return CLI_OK;
}

void input_close(input *in)
{
    if (!in) return;
    if (in->gz)
        gzclose_r(in->gz);
    else if (in->fd != STDIN_FILENO)
        close(in->fd);
    free(in->buffer);
    free(in->name);
    free(in);
}

static cli_exit read_failed(const input *in)
{
    if (cli_stopped()) return CLI_ERRORS;
    if (in->gz) {
        int code;
        const char *reason = gzerror(in->gz, &code);
        return cli_fail(CLI_USAGE, "%s: %s", in->name, code == Z_ERRNO ? strerror(errno) : reason);
    }
    return cli_fail(CLI_USAGE, "%s: %s", in->name, strerror(errno));
}

/* Reads once behind `used`; sets at_end when nothing is left. */
static cli_exit fill(input *in)
{
    if (in->start > 0) {
        memmove(in->buffer, in->buffer + in->start, in->used - in->start);
        in->used -= in->start;
        in->start = 0;
    }
    if (in->used == in->capacity) {
        in->capacity *= 2;
        in->buffer = cli_grow(in->buffer, in->capacity, 1);
    }
    size_t room = in->capacity - in->used;
    if (room > 1u << 30) room = 1u << 30; /* gzread counts in int */
    ssize_t got = in->gz ? gzread(in->gz, in->buffer + in->used, (unsigned)room)
                         : read(in->fd, in->buffer + in->used, room);
    if (got < 0) return read_failed(in);
    if (got == 0) {
        int code = Z_OK;
        /* A .gz that was cut off ends with no error but this one. */
        if (in->gz && (gzerror(in->gz, &code), code == Z_BUF_ERROR))
            return cli_fail(CLI_USAGE, "%s: the compressed file ends too early", in->name);
        in->at_end = 1;
    }
    in->used += (size_t)got;
    in->read_bytes = in->gz ? gzoffset(in->gz) : in->read_bytes + got;
    return CLI_OK;
}

cli_exit input_line(input *in, crank_text *line)
{
    *line = (crank_text){NULL, 0};
    size_t looked = 0; /* bytes after start known to hold no end */
    char *end = NULL;
    for (;;) {
        end = memchr(in->buffer + in->start + looked, '\n', in->used - in->start - looked);
        if (end || in->at_end) break;
        looked = in->used - in->start;
        if (looked > LONGEST_LINE) {
            in->line_number++;
            return input_bad(in, "a line of more than 2^30 bytes");
        }
        cli_exit code = fill(in);
        if (code != CLI_OK) return code;
    }
    if (cli_stopped()) return CLI_ERRORS;
    if (!end && in->start == in->used) return CLI_OK;
    char *from = in->buffer + in->start;
    size_t bytes = end ? (size_t)(end - from) : in->used - in->start;
    in->start += bytes + (end ? 1 : 0);
    if (in->line_number++ == 0 && bytes >= 3 && memcmp(from, "\xEF\xBB\xBF", 3) == 0) {
        from += 3;
        bytes -= 3;
    }
    if (bytes > 0 && from[bytes - 1] == '\r') bytes--;
    *line = (crank_text){from, bytes};
    return CLI_OK;
}

const char *input_name(const input *in)
{
    return in->name;
}

size_t input_line_number(const input *in)
{
    return in->line_number;
}

double input_fraction(const input *in)
{
    return in->file_bytes > 0 ? (double)in->read_bytes / (double)in->file_bytes : -1;
}

cli_exit input_bad(const input *in, const char *format, ...)
{
    char reason[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    return cli_fail(CLI_USAGE, "%s:%zu: %s", in->name, in->line_number, reason);
}

cli_exit input_json(struct json_t **root, const char *path, const jsontext_limits *limits,
                    size_t max_bytes)
{
    *root = NULL;
    input *in = NULL;
    cli_exit code = input_open(&in, path);
    char *text = NULL;
    size_t bytes = 0;
    while (code == CLI_OK) {
        crank_text line;
        code = input_line(in, &line);
        if (code != CLI_OK || line.data == NULL) break;
        if (line.bytes >= max_bytes - bytes) {
            code = cli_fail(CLI_USAGE, "%s: larger than %zu bytes", path, max_bytes);
            break;
        }
        text = cli_grow(text, bytes + line.bytes + 1, 1);
        memcpy(text + bytes, line.data, line.bytes);
        bytes += line.bytes;
        text[bytes++] = '\n';
    }
    input_close(in);
    crank_error error = {0};
    if (code == CLI_OK &&
        jsontext_tree(root, path, text != NULL ? text : "", bytes, limits, &error) != CRANK_OK)
        code = cli_fail(CLI_USAGE, "%s", error.message);
    free(text);
    return code;
}

struct store_block {
    store_block *next;
    size_t capacity, used;
    char data[];
};

char *store_string(store *s, const char *data, size_t bytes)
{
    store_block *block = s->blocks;
    if (!block || block->capacity - block->used < bytes + 1) {
        size_t capacity = bytes + 1 > STORE_BLOCK ? bytes + 1 : STORE_BLOCK;
        block = cli_alloc(1, sizeof *block + capacity);
        *block = (store_block){s->blocks, capacity, 0};
        s->blocks = block;
    }
    char *copy = block->data + block->used;
    memcpy(copy, data, bytes);
    copy[bytes] = '\0';
    block->used += bytes + 1;
    s->bytes += bytes;
    return copy;
}

crank_text store_text(store *s, const char *data, size_t bytes)
{
    return (crank_text){store_string(s, data, bytes), bytes};
}

void store_clear(store *s)
{
    while (s->blocks) {
        store_block *next = s->blocks->next;
        free(s->blocks);
        s->blocks = next;
    }
    s->bytes = 0;
}
