/* Input lines as records: plain lines, query<TAB>document, or JSON Lines. The form of a file is
 * decided once, from its name or its first line, and --format says it outright. */
#ifndef CRANK_CLI_RECORDS_H
#define CRANK_CLI_RECORDS_H

#include <jansson.h>

#include "cli/input.h"

typedef enum record_format {
    FORMAT_AUTO = 0, /* JSON Lines when the name says so or the first line starts with '{' */
    FORMAT_LINES,    /* a text a line, or query<TAB>document where pairs are read */
    FORMAT_JSONL,
} record_format;
extern const char *const record_format_names[]; /* for OPTION_CHOICE */

typedef struct records {
    input *in;
    record_format format;
    size_t blank_line; /* a blank line that only more blank lines may follow; 0: none */
    json_t *object;    /* of the current line */
} records;

cli_exit records_open(records *r, const char *path, record_format format);
void records_close(records *r);

/* The next record. plain: line holds it, object is NULL. JSON Lines: r->object holds it, valid
 * until the next call, and line is the source text. At the end line->data is NULL. Blank lines of
 * JSON Lines are skipped at the end of the file and refused before it, because output lines would
 * no longer match input lines. */
cli_exit records_next(records *r, crank_text *line);

/* Members of r->object; what is wrong is said with file, line and key. Texts are borrowed from the
 * object. An absent or null optional text has data NULL. */
cli_exit record_text(const records *r, const char *key, int required, crank_text *text);
/* The same of another object of this line ("docs[3].text" in messages: where is "docs[3]."). */
cli_exit record_text_in(const records *r, const json_t *object, const char *where, const char *key,
                        int required, crank_text *text);
/* A text or an integer, for ids: copied into the store as a string. Absent: NULL if not required.
 */
cli_exit record_id_in(const records *r, const json_t *object, const char *where, const char *key,
                      int required, store *keep, const char **id);

/* The next record as a pair: query<TAB>document, or {"query","document"}. At the end query->data is
 * NULL. Borrowed until the next call. */
cli_exit records_next_pair(records *r, crank_text *query, crank_text *document);

/* Splits at the first tab. */
cli_exit record_split(const records *r, crank_text line, crank_text *query, crank_text *document);

#endif
