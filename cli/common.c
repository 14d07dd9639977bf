/* Messages, memory, signals: what every command stands on. */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/output.h"
#include "cli/terminal.h"

static const char *command_name = "";
static volatile sig_atomic_t stop_signal;

void cli_set_name(const char *command)
{
    command_name = command;
}

static void say(const char *format, va_list arguments)
{
    char line[2048];
    vsnprintf(line, sizeof line, format, arguments);
    for (char *at = line; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7F) *at = '?';
    progress_hide();
    fprintf(stderr, "crank%s%s: %s\n", *command_name ? " " : "", command_name, line);
}

void cli_say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say(format, arguments);
    va_end(arguments);
}

cli_exit cli_fail(cli_exit code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say(format, arguments);
    va_end(arguments);
    return code;
}

cli_exit cli_code(crank_status status, int loading)
{
    switch (status) {
    case CRANK_OK: return CLI_OK;
    case CRANK_OUT_OF_MEMORY: return CLI_MEMORY;
    case CRANK_DEVICE: return CLI_DEVICE;
    case CRANK_INTERNAL: return CLI_INTERNAL;
    case CRANK_IO:
    case CRANK_FORMAT:
    case CRANK_UNSUPPORTED:
    case CRANK_MODEL: return loading ? CLI_MODEL : CLI_USAGE;
    case CRANK_NUMERIC: return loading ? CLI_MODEL : CLI_ERRORS;
    case CRANK_INVALID_ARGUMENT:
    case CRANK_LIMIT: return CLI_USAGE;
    case CRANK_CANCELLED: return CLI_ERRORS;
    }
    return CLI_INTERNAL;
}

cli_exit cli_fail_status(const crank_error *error, int loading)
{
    if (error->status == CRANK_CANCELLED) return CLI_ERRORS; /* cli_finish ends by the signal */
    return cli_fail(cli_code(error->status, loading), "%s", error->message);
}

static void out_of_memory(void)
{
    output_discard_all();
    fputs("crank: out of memory\n", stderr);
    exit(CLI_MEMORY);
}

void *cli_alloc(size_t n, size_t size)
{
    void *memory = n <= SIZE_MAX / size ? malloc(n > 0 ? n * size : 1) : NULL;
    if (!memory) out_of_memory();
    return memory;
}

void *cli_grow(void *old, size_t n, size_t size)
{
    void *memory = n <= SIZE_MAX / size ? realloc(old, n > 0 ? n * size : 1) : NULL;
    if (!memory) out_of_memory();
    return memory;
}

char *cli_copy(const char *text, size_t bytes)
{
    char *copy = cli_alloc(bytes + 1, 1);
    memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    return copy;
}

void *cli_append(void *array, size_t n, size_t *capacity, size_t size)
{
    if (n < *capacity) return array;
    *capacity = *capacity < 16 ? 16 : *capacity + *capacity / 2;
    return cli_grow(array, *capacity, size);
}

static void on_signal(int number)
{
    stop_signal = number;
}

void cli_watch_signals(void)
{
    /* No SA_RESTART: a read from a terminal or a pipe must return, so that the stop is seen.
     * SA_RESETHAND: the second signal has its usual effect. */
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = (int)SA_RESETHAND;
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct sigaction before;
        sigaction(numbers[i], NULL, &before);
        if (before.sa_handler != SIG_IGN) sigaction(numbers[i], &action, NULL); /* nohup */
    }
    signal(SIGPIPE, SIG_DFL); /* a reader that left ends us quietly, whatever our parent ignored */
}

int cli_stopped(void)
{
    return stop_signal != 0;
}

cli_exit cli_finish(cli_exit code)
{
    output_discard_all();
    if (stop_signal) {
        signal((int)stop_signal, SIG_DFL);
        raise((int)stop_signal);
    }
    return code;
}
