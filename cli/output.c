/* Output files by temporary name and rename; JSON texts. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/output.h"
#include "cli/terminal.h"

struct output {
    output *next; /* open outputs, so that a stop by signal can remove them */
    FILE *stream;
    char *path, *temporary; /* NULL: stdout, or written directly */
};

static output *open_outputs;

cli_exit output_open(output **result, const char *path)
{
    *result = NULL;
    output *out = cli_alloc(1, sizeof *out);
    memset(out, 0, sizeof *out);
    struct stat about;
    if (!path || strcmp(path, "-") == 0) {
        out->stream = stdout;
    } else if (stat(path, &about) == 0 && !S_ISREG(about.st_mode)) {
        if (S_ISDIR(about.st_mode)) errno = EISDIR;
        out->stream = S_ISDIR(about.st_mode) ? NULL : fopen(path, "w");
    } else {
        size_t bytes = strlen(path) + 32;
        out->temporary = cli_alloc(bytes, 1);
        snprintf(out->temporary, bytes, "%s.tmp.%ld", path, (long)getpid());
        /* Not O_EXCL: in a container a process that died left the same PID's file behind. */
        int flags = O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC;
        int fd = open(out->temporary, flags, 0666);
        out->stream = fd < 0 ? NULL : fdopen(fd, "w");
    }
    if (!out->stream) {
        cli_exit code = cli_fail(CLI_USAGE, "%s: cannot be written: %s", path, strerror(errno));
        free(out->temporary);
        free(out);
        return code;
    }
    out->path = path ? cli_copy(path, strlen(path)) : cli_copy("stdout", 6);
    if (out->stream != stdout) setvbuf(out->stream, NULL, _IOFBF, 256 * 1024);
    out->next = open_outputs;
    open_outputs = out;
    *result = out;
    return CLI_OK;
}

FILE *output_stream(output *out)
{
    return out->stream;
}

cli_exit output_check(output *out)
{
    if (!ferror(out->stream)) return CLI_OK;
    return cli_fail(CLI_USAGE, "%s: cannot be written: %s", out->path, strerror(errno));
}

static void forget(output *out)
{
    output **link = &open_outputs;
    while (*link != out) link = &(*link)->next;
    *link = out->next;
    free(out->temporary);
    free(out->path);
    free(out);
}

/* The rename itself must survive a crash too: the folder is synced. */
static void sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? cli_copy(path, (size_t)(slash - path) + 1) : cli_copy(".", 1);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(folder);
}

cli_exit output_commit(output *out)
{
    if (!out) return CLI_OK;
    int failed = fflush(out->stream) != 0 || ferror(out->stream);
    if (!failed && out->temporary) failed = fsync(fileno(out->stream)) != 0;
    int why = errno;
    if (out->stream != stdout && fclose(out->stream) != 0 && !failed) {
        failed = 1;
        why = errno;
    }
    if (!failed && out->temporary && rename(out->temporary, out->path) != 0) {
        failed = 1;
        why = errno;
    }
    cli_exit code = CLI_OK;
    if (failed) {
        code = cli_fail(CLI_USAGE, "%s: cannot be written: %s", out->path, strerror(why));
        if (out->temporary) unlink(out->temporary);
    } else if (out->temporary) {
        sync_folder(out->path);
    }
    forget(out);
    return code;
}

void output_discard(output *out)
{
    if (!out) return;
    if (out->stream == stdout)
        fflush(stdout);
    else
        fclose(out->stream);
    if (out->temporary) unlink(out->temporary);
    forget(out);
}

void output_discard_all(void)
{
    while (open_outputs) output_discard(open_outputs);
}

void json_put_text(FILE *to, const char *data, size_t bytes)
{
    putc('"', to);
    for (size_t i = 0; i < bytes;) {
        unsigned char c = (unsigned char)data[i];
        if (c == '"' || c == '\\') {
            putc('\\', to);
            putc(c, to);
            i++;
        } else if (c < 0x20 || c == 0x7F) {
            if (c == '\n')
                fputs("\\n", to);
            else if (c == '\t')
                fputs("\\t", to);
            else
                fprintf(to, "\\u%04x", c);
            i++;
        } else {
            uint32_t code_point;
            size_t width = utf8_next(data + i, bytes - i, &code_point);
            if (code_point == UTF8_BAD)
                fputs("\xEF\xBF\xBD", to);
            else
                fwrite(data + i, 1, width, to);
            i += width;
        }
    }
    putc('"', to);
}

void json_put_string(FILE *to, const char *text)
{
    if (text)
        json_put_text(to, text, strlen(text));
    else
        fputs("null", to);
}

void json_put_float(FILE *to, float value)
{
    if (isfinite(value))
        fprintf(to, "%.9g", (double)value);
    else
        fputs("null", to);
}

void put_plain(FILE *to, const char *data, size_t bytes)
{
    for (size_t i = 0; i < bytes;) {
        uint32_t code_point;
        size_t width = utf8_next(data + i, bytes - i, &code_point);
        if (code_point == UTF8_BAD)
            fputs("\xEF\xBF\xBD", to);
        else if (terminal_width_of(code_point) < 0)
            putc(' ', to);
        else
            fwrite(data + i, 1, width, to);
        i += width;
    }
}
