/* Child processes with poll on three pipes, so that neither side can block the other. */
#define _DEFAULT_SOURCE
#define _XOPEN_SOURCE 700
#include "support/process.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LIMIT_SECONDS = 900 }; /* ends what hangs; nothing here is timed */

static void fail(const char *what)
{
    fprintf(stderr, "process: %s: %s\n", what, strerror(errno));
    abort();
}

static time_t seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static void add(char **text, size_t *bytes, const char *data, size_t n)
{
    *text = realloc(*text, *bytes + n + 1);
    if (!*text) fail("memory");
    memcpy(*text + *bytes, data, n);
    *bytes += n;
    (*text)[*bytes] = '\0';
}

static void child(const char *const *argv, int in[2], int out[2], int err[2])
{
    dup2(in[0], 0);
    dup2(out[1], 1);
    dup2(err[1], 2);
    for (int fd = 3; fd < 256; fd++) close(fd);
    signal(SIGPIPE, SIG_DFL);
    execv(argv[0], (char *const *)(size_t)argv);
    fprintf(stderr, "cannot run %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

process_result process_run(const char *const *argv, const char *input, size_t input_bytes)
{
    process_result result = {0};
    int in[2], out[2], err[2];
    if (pipe(in) || pipe(out) || pipe(err)) fail("pipe");
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) fail("fork");
    if (pid == 0) child(argv, in, out, err);
    close(in[0]);
    close(out[1]);
    close(err[1]);
    void (*before)(int) = signal(SIGPIPE, SIG_IGN);
    fcntl(in[1], F_SETFL, O_NONBLOCK);
    add(&result.out, &result.out_bytes, "", 0);
    add(&result.err, &result.err_bytes, "", 0);
    struct pollfd files[3] = {{in[1], POLLOUT, 0}, {out[0], POLLIN, 0}, {err[0], POLLIN, 0}};
    size_t written = 0;
    time_t start = seconds();
    while (files[1].fd >= 0 || files[2].fd >= 0) {
        if (files[0].fd >= 0 && (!input || written == input_bytes)) {
            close(files[0].fd);
            files[0].fd = -1;
        }
        int ready = poll(files, 3, 1000);
        if (ready < 0 && errno != EINTR) fail("poll");
        if (seconds() - start > LIMIT_SECONDS) {
            kill(pid, SIGKILL);
            fprintf(stderr, "process: %s ran over %d s\n", argv[0], LIMIT_SECONDS);
            abort();
        }
        if (files[0].fd >= 0 && files[0].revents) {
            ssize_t n = write(files[0].fd, input + written, input_bytes - written);
            if (n > 0) written += (size_t)n;
            if (n < 0 && errno != EAGAIN) written = input_bytes; /* it stopped reading */
        }
        for (int i = 1; i < 3; i++) {
            if (files[i].fd < 0 || !files[i].revents) continue;
            char buffer[65536];
            ssize_t n = read(files[i].fd, buffer, sizeof buffer);
            if (n > 0) {
                if (i == 1)
                    add(&result.out, &result.out_bytes, buffer, (size_t)n);
                else
                    add(&result.err, &result.err_bytes, buffer, (size_t)n);
            } else {
                close(files[i].fd);
                files[i].fd = -1;
            }
        }
    }
    if (files[0].fd >= 0) close(files[0].fd);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    signal(SIGPIPE, before);
    result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    result.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    return result;
}

void process_free(process_result *result)
{
    free(result->out);
    free(result->err);
    memset(result, 0, sizeof *result);
}

const char *process_crank(void)
{
    return CRANK_BINARY_DIR "/crank";
}

void process_make_folder(char path[512])
{
    snprintf(path, 512, "%s/tests/try.XXXXXX", CRANK_BINARY_DIR);
    if (!mkdtemp(path)) fail(path);
}

static int remove_one(const char *path, const struct stat *about, int type, struct FTW *where)
{
    (void)about;
    (void)type;
    (void)where;
    return remove(path);
}

void process_remove_folder(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void process_write_file(const char *path, const void *data, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    if (!file || (bytes && fwrite(data, 1, bytes, file) != bytes) || fclose(file)) fail(path);
}

char *process_read_file(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    char *text = NULL, buffer[65536];
    size_t total = 0, n;
    add(&text, &total, "", 0);
    while ((n = fread(buffer, 1, sizeof buffer, file)) > 0) add(&text, &total, buffer, n);
    fclose(file);
    if (bytes) *bytes = total;
    return text;
}
