/* What people see on a terminal, and only there: colour, score bars, a progress bar, text cut to
 * the window. NO_COLOR and TERM=dumb are respected; without a UTF-8 locale the bars are ASCII. */
#ifndef CRANK_CLI_TERMINAL_H
#define CRANK_CLI_TERMINAL_H

#include <stdint.h>
#include <stdio.h>

#include "cli/cli.h"

/* Reads the locale and the environment; main calls it once. */
void terminal_start(void);
int terminal_is(FILE *stream);      /* a terminal that can place text, so not TERM=dumb */
int terminal_columns(FILE *stream); /* of the window; 80 when that is unknown */

/* SGR sequences, or "" where colour does not belong. */
typedef enum terminal_style {
    STYLE_PLAIN,
    STYLE_BOLD,
    STYLE_DIM,
    STYLE_GREEN,
    STYLE_RED
} terminal_style;
const char *terminal_style_of(FILE *stream, terminal_style style);

#define UTF8_BAD UINT32_MAX
/* The character at data (bytes >= 1): its width in bytes; code_point UTF8_BAD for an ill-formed
 * part. */
size_t utf8_next(const char *data, size_t bytes, uint32_t *code_point);
/* Columns that a character takes: 0 combining, 1, 2 wide; -1 for control and format characters. */
int terminal_width_of(uint32_t code_point);

/* Columns that a text takes when printed by terminal_put. */
int terminal_text_width(const char *data, size_t bytes);
/* Prints as much of the text as fits into `columns` on one line, "..." at the cut; returns the
 * columns taken. */
int terminal_put(FILE *to, const char *data, size_t bytes, int columns);
/* A bar of `columns` columns, filled to fraction 0..1 in eighths; padded with spaces. */
void terminal_bar(FILE *to, double fraction, int columns);

/* ---- progress: one line on stderr, shown when work has lasted a second ---- */

typedef enum progress_mode { PROGRESS_AUTO, PROGRESS_ALWAYS, PROGRESS_NEVER } progress_mode;

typedef struct progress {
    const char *unit; /* "pairs" */
    progress_mode mode;
    size_t before;   /* done in earlier calls of the library */
    size_t total;    /* of the whole work; 0: what the library's call says, or unknown */
    double fraction; /* when total is unknown: share of the input read; negative: unknown */
    int total_unknown;
    int64_t start_us, shown_us;
} progress;

void progress_start(progress *p, const char *unit, progress_mode mode);
/* A crank_progress: user is a progress. Non-zero when a signal asked to stop. */
int progress_report(void *user, size_t done, size_t total);
/* Wipes the line; the next report draws it again. */
void progress_hide(void);

int64_t now_us(void); /* monotonic */

#endif
