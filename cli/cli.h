/* The program `crank`: a table of commands on top of the public header.
 *
 * The path of a command: main.c finds its row -> the command's file declares its options as a table
 * (options.h) -> input.h reads texts -> model.h opens model and session -> the library works, with
 * progress on a terminal (terminal.h) -> output.h prints, or writes a whole file or none.
 *
 * One convention: every function that can fail returns cli_exit, the program's exit code, and has
 * said why on stderr before it returns. CLI_OK is success. Memory that cannot be had ends the
 * program at once (cli_alloc), after temporary files are removed: it is a program, not the library.
 */
#ifndef CRANK_CLI_H
#define CRANK_CLI_H

#include <stddef.h>

#include "crank.h"

typedef enum cli_exit {
    CLI_PARSED = -1, /* only from options_parse: nothing to report, go on */
    CLI_OK = 0,
    CLI_ERRORS = 1,   /* done with errors on some lines, or a check failed */
    CLI_USAGE = 2,    /* bad usage or a bad input file; also an output that cannot be written */
    CLI_MODEL = 3,    /* the model cannot be loaded */
    CLI_DEVICE = 4,   /* the device is not there */
    CLI_MEMORY = 5,   /* out of memory */
    CLI_INTERNAL = 70 /* a bug in crank */
} cli_exit;

typedef struct cli_command cli_command;
struct cli_command {
    const char *name;
    const char *summary;  /* one line for the list of commands */
    const char *synopsis; /* what follows "crank NAME" in the usage line */
    const char *details;  /* paragraphs of --help after the summary; may be NULL */
    const char *example;  /* lines of --help; every command has one */
    cli_exit (*run)(const cli_command *self, int argc, char **argv); /* argv[0]: the name */
};

extern const cli_command rank_command, score_command, rerank_command, eval_command,
    tokenize_command, convert_command, verify_command, info_command, synth_command, bench_command,
    serve_command, encode_command;

/* One line on stderr: "crank NAME: message". Control characters in it become '?', for names and
 * texts of untrusted files may be in it. */
void cli_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* As cli_say; returns `code`, so that a function can end in `return cli_fail(...)`. */
cli_exit cli_fail(cli_exit code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The name that cli_say prints; set by main. */
void cli_set_name(const char *command);

/* What a status of the library means for a command. While a model is being opened (loading), a
 * missing or malformed file is CLI_MODEL; elsewhere CLI_USAGE. */
cli_exit cli_code(crank_status status, int loading);
/* Says error->message and returns cli_code. */
cli_exit cli_fail_status(const crank_error *error, int loading);

/* As malloc, realloc and strdup for n elements; never return NULL. */
void *cli_alloc(size_t n, size_t size);
void *cli_grow(void *old, size_t n, size_t size);
char *cli_copy(const char *text, size_t bytes); /* adds a NUL */
/* For an array that is about to take element number n: grows by half when n reaches *capacity. */
void *cli_append(void *array, size_t n, size_t *capacity, size_t size);

/* SIGINT, SIGTERM and SIGHUP ask for a stop: long work looks at cli_stopped between steps and
 * unwinds, so that no temporary file stays; the second signal kills. cli_finish then ends the
 * process by the same signal, as shells expect, or returns code when there was none. */
void cli_watch_signals(void);
int cli_stopped(void);
cli_exit cli_finish(cli_exit code);

#endif
