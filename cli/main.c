/* crank: finds the command's row and runs it. A new command is one file and one row here. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/options.h"
#include "cli/terminal.h"

static const cli_command *const commands[] = {
    &rank_command,     &score_command,   &rerank_command, &eval_command,
#ifdef CRANK_SERVER
    &serve_command,
#endif
    &tokenize_command, &convert_command, &verify_command, &info_command,
    &synth_command,    &bench_command,   &encode_command,
};

enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static void put_usage(FILE *to)
{
    fprintf(to,
            "usage: crank COMMAND [options]\n\n"
            "Scores (query, document) pairs with cross-encoder re-rankers and puts documents in "
            "order.\n\ncommands:\n");
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(to, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(to, "\ncrank COMMAND --help says more, with an example; crank --version.\n\n"
                "example:\n"
                "  crank rank -m ms-marco-MiniLM-L-6-v2 -q 'how do tides work' docs.txt\n");
}

static const cli_command *find(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(commands[i]->name, name) == 0) return commands[i];
    return NULL;
}

static cli_exit unknown_command(const char *name)
{
    const char *names[N_COMMANDS];
    for (size_t i = 0; i < N_COMMANDS; i++) names[i] = commands[i]->name;
    const char *nearest = options_nearest(name, names, N_COMMANDS);
    return cli_fail(CLI_USAGE, "no command '%s'%s%s%s (crank --help lists them)", name,
                    nearest ? "; did you mean " : "", nearest ? nearest : "", nearest ? "?" : "");
}

static cli_exit run(int argc, char **argv)
{
    if (argc < 2) {
        put_usage(stderr);
        return CLI_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        printf("crank %s\n", crank_version());
        return CLI_OK;
    }
    int is_help =
        strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0;
    if (is_help && argc == 2) {
        put_usage(stdout);
        return CLI_OK;
    }
    if (is_help) name = argv[2];
    const cli_command *command = find(name);
    if (!command) return unknown_command(name);
    cli_set_name(command->name);
    if (is_help) {
        char help[] = "--help", *arguments[] = {argv[2], help, NULL};
        return command->run(command, 2, arguments);
    }
    return command->run(command, argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
    terminal_start();
    cli_watch_signals();
    cli_exit code = run(argc, argv);
    if ((fflush(stdout) != 0 || ferror(stdout)) && code == CLI_OK) {
        code = cli_fail(CLI_USAGE, "stdout cannot be written");
    }
    return (int)cli_finish(code);
}
