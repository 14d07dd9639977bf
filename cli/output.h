/* Where results go: stdout, or a file that appears whole or not at all (a temporary name beside it,
 * synced and renamed by output_commit). JSON is written here too: short, in a fixed key order,
 * always valid UTF-8. */
#ifndef CRANK_CLI_OUTPUT_H
#define CRANK_CLI_OUTPUT_H

#include <stdio.h>

#include "cli/cli.h"

typedef struct output output;

/* path NULL or "-": stdout. A path that is no regular file (/dev/null, a pipe) is written directly.
 */
cli_exit output_open(output **out, const char *path);
FILE *output_stream(output *out);
/* Flushes, renames and frees; on failure the file is not there. NULL out is fine. */
cli_exit output_commit(output *out);
/* Removes what was written and frees. */
void output_discard(output *out);
/* The same for outputs that are still open when the program ends. */
void output_discard_all(void);
/* CLI_OK, or CLI_USAGE when something could not be written: for long work that should stop early.
 */
cli_exit output_check(output *out);

/* "text" in quotes; what is not UTF-8 becomes U+FFFD. */
void json_put_text(FILE *to, const char *data, size_t bytes);
void json_put_string(FILE *to, const char *text); /* NULL: null */
/* 9 significant digits: every float comes back as itself. Not finite: null. */
void json_put_float(FILE *to, float value);
/* The text on one line for people: control characters and what is not UTF-8 become a space or
 * U+FFFD, so that a hostile document cannot steer a terminal or forge a column. */
void put_plain(FILE *to, const char *data, size_t bytes);

#endif
