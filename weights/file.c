#define _GNU_SOURCE
#include "weights/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory.h"

/* ---- system calls, each of which a test can make fail ------------------------------------------
 */

static atomic_long call_count;
static atomic_long fail_countdown = -1;
static atomic_long count_at_arming;

static int allowed(void)
{
    atomic_fetch_add_explicit(&call_count, 1, memory_order_relaxed);
    if (atomic_load_explicit(&fail_countdown, memory_order_relaxed) < 0) return 1;
    if (atomic_fetch_sub_explicit(&fail_countdown, 1, memory_order_relaxed) != 0) return 1;
    errno = EIO;
    return 0;
}

long file_fail_nth(long n)
{
    long now = atomic_load(&call_count);
    long since = now - atomic_exchange(&count_at_arming, now);
    atomic_store(&fail_countdown, n);
    return since;
}

static int call_open(const char *path, int flags)
{
    int fd;
    if (!allowed()) return -1;
    do fd = open(path, flags | O_CLOEXEC, 0666);
    while (fd < 0 && errno == EINTR);
    return fd;
}

static int call_fstat(int fd, struct stat *info)
{
    return allowed() ? fstat(fd, info) : -1;
}

static int call_fsync(int fd)
{
    return allowed() ? fsync(fd) : -1;
}

/* ---- reading ------------------------------------------------------------------------------------
 */

crank_status file_open(file_input *file, const char *path, crank_error *error)
{
    crank_status status = CRANK_OK;
    struct stat info;
    *file = (file_input){.fd = -1};
    file->path = mem_strdup(path);
    CRANK_CHECK(file->path != NULL, OUT_OF_MEMORY, error, "%s: no memory for its name", path);
    file->fd = call_open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY); /* a FIFO must not block here */
    CRANK_CHECK_GOTO(file->fd >= 0, IO, error, "%s: cannot open: %s", path, strerror(errno));
    CRANK_CHECK_GOTO(call_fstat(file->fd, &info) == 0, IO, error, "%s: cannot stat: %s", path,
                     strerror(errno));
    CRANK_CHECK_GOTO(S_ISREG(info.st_mode), IO, error, "%s: %s, expected a regular file", path,
                     S_ISDIR(info.st_mode) ? "is a folder" : "is not a file");
    file->bytes = (uint64_t)info.st_size;
    file->modified = info.st_mtim;
    file->device = info.st_dev;
    file->inode = info.st_ino;
out:
    if (status != CRANK_OK) file_close(file);
    return status;
}

crank_status file_read(const file_input *file, void *dst, uint64_t offset, size_t bytes,
                       crank_error *error)
{
    size_t done = 0;
    CRANK_CHECK(offset <= INT64_MAX && bytes <= INT64_MAX - offset, INVALID_ARGUMENT, error,
                "%s: byte %llu is out of range", file->path, (unsigned long long)offset);
    while (done < bytes) {
        size_t piece = bytes - done < ((size_t)1 << 30) ? bytes - done : (size_t)1 << 30;
        ssize_t got = -1;
        if (allowed()) got = pread(file->fd, (uint8_t *)dst + done, piece, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) continue;
        CRANK_CHECK(got >= 0, IO, error, "%s: cannot read %zu bytes at byte %llu: %s", file->path,
                    piece, (unsigned long long)(offset + done), strerror(errno));
        CRANK_CHECK(got > 0, IO, error,
                    "%s: the file ends at byte %llu, %llu bytes were expected (it was cut since "
                    "it was opened)",
                    file->path, (unsigned long long)(offset + done),
                    (unsigned long long)(offset + bytes));
        done += (size_t)got;
    }
    return CRANK_OK;
}

crank_status file_unchanged(const file_input *file, int by_path, crank_error *error)
{
    struct stat info;
    CRANK_CHECK(call_fstat(file->fd, &info) == 0, IO, error, "%s: cannot stat: %s", file->path,
                strerror(errno));
    CRANK_CHECK((uint64_t)info.st_size == file->bytes, IO, error,
                "%s: changed while it was read: %llu bytes became %llu", file->path,
                (unsigned long long)file->bytes, (unsigned long long)info.st_size);
    CRANK_CHECK(info.st_mtim.tv_sec == file->modified.tv_sec &&
                    info.st_mtim.tv_nsec == file->modified.tv_nsec,
                IO, error, "%s: changed while it was read: its modification time is another",
                file->path);
    if (!by_path) return CRANK_OK;
    CRANK_CHECK(stat(file->path, &info) == 0, IO, error, "%s: vanished while it was read: %s",
                file->path, strerror(errno));
    CRANK_CHECK(info.st_dev == file->device && info.st_ino == file->inode, IO, error,
                "%s: changed while it was read: another file has taken its place", file->path);
    return CRANK_OK;
}

void file_close(file_input *file)
{
    if (file->fd >= 0) close(file->fd);
    mem_free(file->path);
    *file = (file_input){.fd = -1};
}

crank_status file_slurp(char **text, size_t *bytes, const char *path, size_t max_bytes,
                        crank_error *error)
{
    crank_status status = CRANK_OK;
    file_input file;
    char *block = NULL;
    *text = NULL;
    *bytes = 0;
    CRANK_TRY(file_open(&file, path, error));
    CRANK_CHECK_GOTO(file.bytes <= max_bytes, LIMIT, error,
                     "%s: has %llu bytes, at most %zu are read of such a file", path,
                     (unsigned long long)file.bytes, max_bytes);
    block = mem_alloc((size_t)file.bytes + 1);
    CRANK_CHECK_GOTO(block != NULL, OUT_OF_MEMORY, error, "%s: no memory for %llu bytes", path,
                     (unsigned long long)file.bytes);
    CRANK_TRY_GOTO(file_read(&file, block, 0, (size_t)file.bytes, error));
    CRANK_TRY_GOTO(file_unchanged(&file, 0, error));
    block[file.bytes] = '\0';
    *bytes = (size_t)file.bytes;
    *text = block;
    block = NULL;
out:
    mem_free(block);
    file_close(&file);
    return status;
}

int file_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

char *file_join(const char *dir, const char *name)
{
    size_t dir_bytes = strlen(dir), name_bytes = strlen(name);
    char *path = mem_alloc(dir_bytes + name_bytes + 2);
    if (path == NULL) return NULL;
    memcpy(path, dir, dir_bytes);
    if (dir_bytes > 0 && path[dir_bytes - 1] != '/') path[dir_bytes++] = '/';
    memcpy(path + dir_bytes, name, name_bytes + 1);
    return path;
}

/* True when `path` is `folder` or something below it; both resolved. */
static int below(const char *path, const char *folder)
{
    size_t n = strlen(folder);
    return strncmp(path, folder, n) == 0 && (path[n] == '\0' || path[n] == '/' || n == 1);
}

int file_is_plain(const char *name)
{
    for (const char *part = name;;) {
        size_t n = strcspn(part, "/");
        if (n <= 2 && strspn(part, ".") >= n) return 0; /* "", ".", ".." */
        if (part[n] == '\0') return 1;
        part += n + 1;
    }
}

crank_status file_check_inside(const char *dir, const char *name, crank_error *error)
{
    char root[PATH_MAX], target[PATH_MAX];
    CRANK_CHECK(file_is_plain(name), MODEL, error,
                "%s: names \"%s\", which is not a plain path in the folder", dir, name);
    char *path = file_join(dir, name);
    CRANK_CHECK(path != NULL, OUT_OF_MEMORY, error, "%s: no memory for a path", dir);
    int found = realpath(dir, root) != NULL && realpath(path, target) != NULL;
    mem_free(path);
    CRANK_CHECK(found, MODEL, error, "%s: names \"%s\", which cannot be opened: %s", dir, name,
                strerror(errno));
    if (below(target, root)) return CRANK_OK;
    char *last = strrchr(root, '/'); /* .../snapshots/REV -> .../blobs */
    if (last != NULL) *last = '\0';
    last = strrchr(root, '/');
    if (last != NULL && strcmp(last, "/snapshots") == 0) {
        memcpy(last, "/blobs", sizeof "/blobs");
        if (below(target, root)) return CRANK_OK;
    }
    return status_fail(error, CRANK_MODEL, "%s: names \"%s\", which is a link out of the folder",
                       dir, name);
}

/* ---- writing ------------------------------------------------------------------------------------
 */

#define OUTPUT_BUFFER_BYTES ((size_t)256 << 10)

struct file_output {
    int fd;
    char *path, *temporary, *folder;
    uint8_t *buffer;
    size_t used;
    int exists; /* the temporary file is there, under that name */
};

void file_discard(file_output *file)
{
    if (file == NULL) return;
    if (file->fd >= 0) close(file->fd);
    if (file->exists) unlink(file->temporary);
    mem_free(file->path);
    mem_free(file->temporary);
    mem_free(file->folder);
    mem_free(file->buffer);
    mem_free(file);
}

crank_status file_create(file_output **out, const char *path, crank_error *error)
{
    crank_status status = CRANK_OK;
    *out = NULL;
    size_t name_bytes = strlen(path) + 32;
    struct stat about;
    const char *slash = strrchr(path, '/');
    file_output *file = mem_zero(1, sizeof *file);
    CRANK_CHECK(file != NULL, OUT_OF_MEMORY, error, "%s: no memory to write it", path);
    file->fd = -1;
    file->path = mem_strdup(path);
    file->temporary = mem_alloc(name_bytes);
    file->folder = slash == NULL ? mem_strdup(".") : mem_strndup(path, (size_t)(slash - path) + 1);
    file->buffer = mem_alloc(OUTPUT_BUFFER_BYTES);
    CRANK_CHECK_GOTO(file->path != NULL && file->temporary != NULL && file->folder != NULL &&
                         file->buffer != NULL,
                     OUT_OF_MEMORY, error, "%s: no memory to write it", path);
    /* The rename would put a file in a device's place. */
    CRANK_CHECK_GOTO(stat(path, &about) != 0 || S_ISREG(about.st_mode), IO, error,
                     "%s: expected a regular file or a new name, found %s", path,
                     S_ISDIR(about.st_mode) ? "a folder" : "a device, pipe or socket");
    snprintf(file->temporary, name_bytes, "%s.tmp.%ld", path, (long)getpid());
    /* Not O_EXCL: in a container a process that died left the same PID's file behind. */
    file->fd = call_open(file->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW);
    CRANK_CHECK_GOTO(file->fd >= 0, IO, error, "%s: cannot create: %s", file->temporary,
                     strerror(errno));
    file->exists = 1;
    *out = file;
    file = NULL;
out:
    file_discard(file);
    return status;
}

static crank_status write_all(file_output *file, const uint8_t *data, size_t bytes,
                              crank_error *error)
{
    while (bytes > 0) {
        size_t piece = bytes < ((size_t)1 << 30) ? bytes : (size_t)1 << 30;
        ssize_t put = allowed() ? write(file->fd, data, piece) : -1;
        if (put < 0 && errno == EINTR) continue;
        CRANK_CHECK(put > 0, IO, error, "%s: cannot write: %s", file->temporary,
                    put == 0 ? "nothing was written" : strerror(errno));
        data += put;
        bytes -= (size_t)put;
    }
    return CRANK_OK;
}

static crank_status flush(file_output *file, crank_error *error)
{
    size_t bytes = file->used;
    file->used = 0;
    return write_all(file, file->buffer, bytes, error);
}

crank_status file_write(file_output *file, const void *data, size_t bytes, crank_error *error)
{
    if (bytes >= OUTPUT_BUFFER_BYTES) {
        CRANK_TRY(flush(file, error));
        return write_all(file, data, bytes, error);
    }
    if (bytes > OUTPUT_BUFFER_BYTES - file->used) CRANK_TRY(flush(file, error));
    memcpy(file->buffer + file->used, data, bytes);
    file->used += bytes;
    return CRANK_OK;
}

/* The folder's entry must reach the disk too. Some file systems cannot sync a folder: EINVAL. */
static crank_status sync_folder(const char *path, int fd, crank_error *error)
{
    int done = call_fsync(fd) == 0 || errno == EINVAL || errno == ENOTSUP;
    CRANK_CHECK(done, IO, error,
                "%s: is whole, but a crash may lose it: cannot sync its folder: %s", path,
                strerror(errno));
    return CRANK_OK;
}

crank_status file_commit(file_output *file, crank_error *error)
{
    crank_status status = CRANK_OK;
    int folder = -1;
    CRANK_CHECK(file->fd >= 0, INVALID_ARGUMENT, error, "%s: was committed before", file->path);
    CRANK_TRY_GOTO(flush(file, error));
    CRANK_CHECK_GOTO(call_fsync(file->fd) == 0, IO, error, "%s: cannot sync: %s", file->temporary,
                     strerror(errno));
    folder = call_open(file->folder, O_RDONLY | O_DIRECTORY);
    CRANK_CHECK_GOTO(folder >= 0, IO, error, "%s: cannot open its folder: %s", file->path,
                     strerror(errno));
    int renamed = allowed() && rename(file->temporary, file->path) == 0;
    CRANK_CHECK_GOTO(renamed, IO, error, "%s: cannot be renamed to %s: %s", file->temporary,
                     file->path, strerror(errno));
    file->exists = 0;
    CRANK_TRY_GOTO(sync_folder(file->path, folder, error));
out:
    if (folder >= 0) close(folder);
    if (file->exists) unlink(file->temporary);
    file->exists = 0;
    close(file->fd);
    file->fd = -1;
    return status;
}
