/* Text files a line at a time: plain or .gz, "-" is stdin. A line may have any length and any bytes
 * but '\n'; a '\r' before it and a byte order mark at the start are dropped. Errors name the file
 * and the line. */
#ifndef CRANK_CLI_INPUT_H
#define CRANK_CLI_INPUT_H

#include "cli/cli.h"
#include "jsontext.h"

typedef struct input input;

cli_exit input_open(input **in, const char *path);
void input_close(input *in); /* NULL is fine */

/* The next line, without its end: valid until the next call. At the end of the file line->data is
 * NULL. Fails when the file cannot be read or is a damaged .gz; a stop by signal returns
 * CLI_ERRORS. */
cli_exit input_line(input *in, crank_text *line);

const char *input_name(const input *in);   /* as the messages have it; "stdin" for "-" */
size_t input_line_number(const input *in); /* of the last line, from 1 */
/* How much of a regular file has been read, 0..1; negative when the size is not known. */
double input_fraction(const input *in);

/* CLI_USAGE: "crank NAME: file:line: reason". */
cli_exit input_bad(const input *in, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Whether path ends in `suffix`, or in `suffix` and ".gz". */
int input_has_suffix(const char *path, const char *suffix);

/* A whole file of JSON, of at most max_bytes; *root is the caller's. */
cli_exit input_json(struct json_t **root, const char *path, const jsontext_limits *limits,
                    size_t max_bytes);

/* Texts that outlive the line they came from: copies at addresses that never move. Zeroed is empty.
 */
typedef struct store_block store_block;
typedef struct store {
    store_block *blocks;
    size_t bytes; /* of the texts held */
} store;
crank_text store_text(store *s, const char *data, size_t bytes);
char *store_string(store *s, const char *data, size_t bytes); /* adds a NUL */
void store_clear(store *s);

#endif
