/* A folder for a test's files, and the leak check that Criterion's way of ending a test skips. */
#ifndef CRANK_TESTS_SCRATCH_H
#define CRANK_TESTS_SCRATCH_H

#include <stddef.h>

#define SCRATCH_BYTES 64

/* Makes an empty folder under /tmp; aborts the test when it cannot. */
void scratch_open(char dir[SCRATCH_BYTES]);
/* Removes it and everything below. */
void scratch_close(const char *dir);
/* Writes DIR/NAME (folders in NAME are made); returns its path, valid until the next call. */
const char *scratch_write(const char *dir, const char *name, const void *data, size_t bytes);
const char *scratch_text(const char *dir, const char *name, const char *text);
const char *scratch_path(const char *dir, const char *name);
/* The number of entries in the folder itself. */
int scratch_count(const char *dir);

/* From now on in this process jansson allocates through base/memory.h, and so counts and fails. */
void scratch_count_jansson(void);

/* The last line of a test that is about leaks: fails it under AddressSanitizer when something
 * leaked, does nothing otherwise. */
void leak_check(void);

#endif
