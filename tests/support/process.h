/* Runs a program as a shell would and keeps what it printed: the black-box tests of commands. */
#ifndef CRANK_TESTS_PROCESS_H
#define CRANK_TESTS_PROCESS_H

#include <stddef.h>

typedef struct process_result {
    char *out, *err; /* stdout and stderr, NUL-terminated, malloc'ed */
    size_t out_bytes, err_bytes;
    int exit_code; /* -1 when a signal ended it */
    int signal;    /* 0, or the signal */
} process_result;

/* argv: NULL-terminated, argv[0] the program. input: its stdin, may be NULL. A program that cannot
 * be started, or runs over two minutes, aborts the test. */
process_result process_run(const char *const *argv, const char *input, size_t input_bytes);
void process_free(process_result *result);

/* The path of the program crank of this build. */
const char *process_crank(void);

/* A fresh folder under the build tree, removed with all in it by process_remove_folder. The path is
 * written to path[512]. */
void process_make_folder(char path[512]);
void process_remove_folder(const char *path);

/* Whole files, as strings. */
void process_write_file(const char *path, const void *data, size_t bytes);
char *process_read_file(const char *path, size_t *bytes); /* NULL when it is not there; free() it */

#endif
