/* Files as this library meets them: read with pread into own memory (never mapped: a mapped file
 * that shrinks is a SIGBUS), written aside and renamed into place.
 *
 * A file_input remembers the size, times and inode that it had when it was opened; file_unchanged
 * compares. A file_output writes `PATH.tmp.PID`; only file_commit gives it the name PATH, and any
 * failure before that removes it, so that no partial file ever stands under the final name. */
#ifndef CRANK_WEIGHTS_FILE_H
#define CRANK_WEIGHTS_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "status.h"

typedef struct file_input {
    int fd;     /* -1: closed */
    char *path; /* owned */
    uint64_t bytes;
    struct timespec modified;
    dev_t device;
    ino_t inode;
} file_input;

/* Regular files only (a FIFO or a device in a model folder is refused, not waited for).
 * Fails: IO, OUT_OF_MEMORY. On failure *file is closed. */
crank_status file_open(file_input *file, const char *path, crank_error *error);
/* Exactly `bytes` bytes from `offset`, or an IO error that says where the file ended. Threads may
 * call it together on one file. */
crank_status file_read(const file_input *file, void *dst, uint64_t offset, size_t bytes,
                       crank_error *error);
/* IO error when size, modification time or inode differ from those at file_open. by_path: also
 * when another file stands under the path now. */
crank_status file_unchanged(const file_input *file, int by_path, crank_error *error);
/* {0} is not a closed file (fd 0): close only what file_open has filled. Twice is fine. */
void file_close(file_input *file);

/* A whole small file as one NUL-terminated block (the NUL is not counted); free with mem_free.
 * Fails: IO, LIMIT (larger than max_bytes), OUT_OF_MEMORY. */
crank_status file_slurp(char **text, size_t *bytes, const char *path, size_t max_bytes,
                        crank_error *error);
/* 0 only when there is surely nothing of that name; anything else is for file_open to explain. */
int file_exists(const char *path);
/* DIR/NAME in new memory; NULL when memory is out. */
char *file_join(const char *dir, const char *name);
/* True for a relative path of ordinary components: no "", ".", "..", no leading '/'. */
int file_is_plain(const char *name);
/* Fails (MODEL) unless `name` is plain and, symbolic links followed, a file or folder inside `dir`.
 * One exception, because it is how the Hugging Face cache stores models: in .../snapshots/REV a
 * link may lead to .../blobs. For names that a file out of the folder told us. */
crank_status file_check_inside(const char *dir, const char *name, crank_error *error);

typedef struct file_output file_output;

/* Creates PATH.tmp.PID in path's folder. PATH may be there as a regular file, not as a folder,
 * device or pipe. Fails: IO, OUT_OF_MEMORY. */
crank_status file_create(file_output **out, const char *path, crank_error *error);
/* Appends, through a buffer. */
crank_status file_write(file_output *file, const void *data, size_t bytes, crank_error *error);
/* Flush, fsync, rename to PATH, fsync of the folder. On failure nothing is left behind and an old
 * PATH is untouched, but where only the last step failed: then the new file stands, whole. Either
 * way the file is closed; free it with file_discard. */
crank_status file_commit(file_output *file, crank_error *error);
/* Closes and frees; removes the temporary file unless it was committed. NULL is fine. */
void file_discard(file_output *file);

/* Tests: as mem_fail_nth, for the system calls made here (open, fstat, pread, write, fsync,
 * rename): number n from now fails with EIO, only that one; negative switches it off. Returns the
 * number of calls since the last time. */
long file_fail_nth(long n);

#endif
