/* Command lines: a command describes its options in a table and gets them parsed, range-checked and
 * documented from the same rows.
 *
 *     const cli_option options[] = {
 *         {"top-k", 0, OPTION_COUNT, &top_k, "N", "how many results", .low = 1},
 *     };
 *     code = options_parse(self, options, 1, argc, argv, &files);
 *     if (code != CLI_PARSED) return code;
 *
 * "--name value", "--name=value" and "-n value" are accepted, options and positional arguments in
 * any order; "--" ends the options; "-" is a positional argument. --help prints the table. */
#ifndef CRANK_CLI_OPTIONS_H
#define CRANK_CLI_OPTIONS_H

#include <stdint.h>

#include "cli/cli.h"

typedef enum option_type {
    OPTION_FLAG,   /* int *: 1 when given */
    OPTION_TEXT,   /* const char **: borrowed from argv */
    OPTION_COUNT,  /* size_t *: low..high (high 0: no limit) */
    OPTION_SEED,   /* uint64_t *: any */
    OPTION_CHOICE, /* int *: index into choices */
    OPTION_DEVICE, /* cli_device *: a device's name, cuda:N */
} option_type;

typedef struct cli_option {
    const char *name;
    char short_name; /* 0: none */
    option_type type;
    void *target;
    const char *value; /* how the help names the value; NULL for flags and choices */
    const char *help;
    size_t low, high;
    const char *const *choices; /* NULL-terminated */
} cli_option;

typedef struct cli_device {
    crank_device device;
    int ordinal;
    int emulated; /* the CUDA engine on the emulator's libcuda */
} cli_device;

typedef struct cli_arguments {
    char **at; /* the positional arguments, in order; points into argv, which is reordered */
    int n;
} cli_arguments;

/* Returns CLI_PARSED to go on, CLI_OK after --help, CLI_USAGE after a mistake that has been named.
 * The number of positional arguments is checked against low..high. */
cli_exit options_parse(const cli_command *self, const cli_option *options, size_t n, int argc,
                       char **argv, int low, int high, cli_arguments *arguments);

/* CLI_USAGE: "message", with the line that shows --help. */
cli_exit options_misuse(const cli_command *self, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The nearest of the names within two edits (Damerau-Levenshtein), or NULL. */
const char *options_nearest(const char *word, const char *const *names, size_t n);

#endif
