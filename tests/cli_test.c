/* The program's manners: help, usage, exit codes, files that appear whole, signals, terminals. */
#define _DEFAULT_SOURCE
#include <criterion/criterion.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/commands.h"

static const char *const commands[] = {"rank",   "score", "rerank", "eval",  "tokenize", "convert",
                                       "verify", "info",  "synth",  "bench", "encode",   "serve"};

/* Commands of this build: all, but for serve where its libraries are not installed. */
static size_t count_commands(void)
{
    process_result result = commands_run(NULL, "--help", NULL);
    int has_server = strstr(result.out, "\n  serve ") != NULL;
    process_free(&result);
    return sizeof commands / sizeof commands[0] - !has_server;
}

Test(cli, every_command_has_help_with_an_example)
{
    for (size_t i = 0; i < count_commands(); i++) {
        process_result result = commands_run(NULL, commands[i], "--help", NULL);
        process_result other = commands_run(NULL, "help", commands[i], NULL);
        char usage[64];
        snprintf(usage, sizeof usage, "usage: crank %s", commands[i]);
        commands_expect_code(&result, 0);
        cr_expect_str_eq(result.out, other.out);
        cr_expect_eq(strncmp(result.out, usage, strlen(usage)), 0);
        const char *example = strstr(result.out, "\nexample:\n  crank ");
        cr_expect(example != NULL || strstr(result.out, "\nexample:\n  echo "), "%s", commands[i]);
        cr_expect_str_empty(result.err);
        for (const char *line = result.out; line && *line;) {
            size_t bytes = strcspn(line, "\n");
            cr_expect_leq(bytes, 102, "%s: %.*s", commands[i], (int)bytes, line);
            line += bytes + (line[bytes] == '\n');
        }
        process_free(&result);
        process_free(&other);
    }
}

Test(cli, help_lists_every_command)
{
    process_result result = commands_run(NULL, "--help", NULL);
    commands_expect_code(&result, 0);
    for (size_t i = 0; i < count_commands(); i++) {
        char row[32];
        snprintf(row, sizeof row, "\n  %s ", commands[i]);
        cr_expect_not_null(strstr(result.out, row), "%s", commands[i]);
    }
    process_free(&result);
    result = commands_run(NULL, "--version", NULL);
    commands_expect_code(&result, 0);
    cr_expect_str_eq(result.out, "crank 0.1.0\n");
    process_free(&result);
}

Test(cli, misuse_is_named_and_ends_with_2)
{
    static const struct {
        const char *arguments[8];
        const char *message;
    } cases[] = {
        {{NULL}, "usage: crank COMMAND"},
        {{"rnak"}, "no command 'rnak'; did you mean rank?"},
        {{"xyzzy"}, "no command 'xyzzy' (crank --help"},
        {{"rank", "-q", "x"}, "no model: -m MODEL"},
        {{"rank", "-m", "x"}, "no query: -q QUERY"},
        {{"rank", "-m"}, "--model needs a value"},
        {{"rank", "-q", "x", "-m", ""}, "the model's name is empty"},
        {{"rank", "-q", "x", "--stages", "a,,b"}, "--stages: 1 to 8 models with commas between"},
        {{"rank", "-q", "x", "--stages", "a", "-m", "b"}, "-m and --stages exclude each other"},
        {{"rank", "--top-k", "0"}, "--top-k must be at least 1, not 0"},
        {{"rank", "--top-k", "-3"}, "--top-k takes a whole number, not '-3'"},
        {{"rank", "--top-k", "99999999999999999999"}, "--top-k: 99999999999999999999 is too large"},
        {{"rank", "--tpo-k", "3"}, "no option --tpo-k; did you mean --top-k?"},
        {{"rank", "-z"}, "no option -z"},
        {{"rank", "--json=yes"}, "--json takes no value"},
        {{"rank", "--device", "gpu"}, "--device takes auto, ref, cpu, cuda, cuda:N or emu"},
        {{"rank", "--device", "cuda:x"}, "takes a whole number, not 'x'"},
        {{"rank", "--dtype", "f23"}, "did you mean f32?"},
        {{"rank", "--truncation", "none"}, "--truncation takes longest_first|only_second|window"},
        {{"rank", "--threads", "5000"}, "--threads must be between 1 and 1024"},
        {{"rank", "-m", "x", "-q", "x", "a", "b"}, "one argument too many: 'b'"},
        {{"score", "--json"}, "no model: -m MODEL"},
        {{"rerank", "-m", "x", "--run", "r"},
         "--run, --queries and --corpus (or --embeddings) go together"},
        {{"rerank", "-m", "x", "--tag", "a b"}, "--tag is one word"},
        {{"eval", "x"}, "usage: crank eval QRELS RUN"},
        {{"eval", "-", "-"}, "stdin cannot be both files"},
        {{"tokenize", "-m", "x", "--truncation", "window"}, "window is for scoring"},
        {{"convert", "x"}, "no output: -o FILE"},
        {{"verify", "x"}, "usage: crank verify MODEL GOLDEN_DIR"},
        {{"info"}, "one of MODEL, --kernels and --devices"},
        {{"synth", "minilm-l6"}, "no output: -o DIR"},
        {{"synth", "minilm-16", "-o", "x"}, "did you mean minilm-l6?"},
        {{"bench"}, "usage: crank bench"},
        {{"bench", "everything"}, "no benchmark 'everything'"},
        {{"bench", "latency"}, "expected --model MODEL"},
        {{"bench", "latency", "-m", "x", "--documents", "1,0"}, "--documents: expected up to 8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *argv[12] = {process_crank()};
        for (size_t k = 0; k < 8 && cases[i].arguments[k]; k++) argv[k + 1] = cases[i].arguments[k];
        process_result result = process_run(argv, NULL, 0);
        cr_expect_eq(result.exit_code, 2, "case %zu: %d", i, result.exit_code);
        cr_expect_not_null(strstr(result.err, cases[i].message), "case %zu: %s", i, result.err);
        cr_expect_str_empty(result.out, "case %zu", i);
        process_free(&result);
    }
}

Test(cli, exit_codes_say_what_failed)
{
    char model[512], folder[512];
    commands_make_model(model, 1);
    process_make_folder(folder);
    /* a file that is not there: 2, before the model is looked at */
    process_result result =
        commands_run(NULL, "rank", "-m", model, "-q", "x", "/nowhere/docs.txt", NULL);
    commands_expect_code(&result, 2);
    cr_expect_not_null(strstr(result.err, "/nowhere/docs.txt: No such file"), "%s", result.err);
    process_free(&result);
    result = commands_run(NULL, "score", "-m", model, folder, NULL);
    commands_expect_code(&result, 2);
    cr_expect_not_null(strstr(result.err, "is a folder"), "%s", result.err);
    process_free(&result);
    /* a model that is not there, or is broken: 3, in every command that takes one */
    commands_write(commands_path(folder, "config.json"), "{\"model_type\": \"bert\",");
    const char *const bad_models[] = {"/nowhere/model", folder};
    for (size_t i = 0; i < 2; i++) {
        const char *argv[][8] = {{process_crank(), "rank", "-m", bad_models[i], "-q", "x", NULL},
                                 {process_crank(), "score", "-m", bad_models[i], NULL},
                                 {process_crank(), "rerank", "-m", bad_models[i], NULL},
                                 {process_crank(), "tokenize", "-m", bad_models[i], NULL},
                                 {process_crank(), "info", bad_models[i], NULL},
                                 {process_crank(), "verify", bad_models[i], folder, NULL},
                                 {process_crank(), "convert", bad_models[i], "-o", "x", NULL}};
        for (size_t k = 0; k < sizeof argv / sizeof argv[0]; k++) {
            result = process_run(argv[k], "", 0);
            cr_expect_eq(result.exit_code, 3, "%s: %d %s", argv[k][1], result.exit_code,
                         result.err);
            cr_expect_eq(commands_count_lines(result.err), 1, "%s", result.err);
            cr_expect_not_null(strstr(result.err, bad_models[i]), "%s", result.err);
            process_free(&result);
        }
    }
    /* a device that is not there: 4 */
    result = commands_run("d\n", "rank", "-m", model, "-q", "x", "--device", "cuda:250", NULL);
    commands_expect_code(&result, 4);
    cr_expect_eq(commands_count_lines(result.err), 1, "%s", result.err);
    process_free(&result);
    /* an output that cannot be written: 2 */
    result = commands_run("d\n", "rank", "-m", model, "-q", "x", "-o", "/nowhere/out", NULL);
    commands_expect_code(&result, 2);
    process_free(&result);
    process_remove_folder(folder);
    process_remove_folder(model);
}

/* The address sanitizer needs the address space that this test takes away. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
Test(cli, out_of_memory_ends_with_5)
{
    char model[512], command[2048];
    commands_make_model(model, 1);
    snprintf(command, sizeof command,
             "ulimit -v 200000; head -c 400000000 /dev/zero | tr '\\0' a | "
             "%s rank -m %s -q x --threads 1 --device cpu",
             process_crank(), model);
    const char *argv[] = {"/bin/sh", "-c", command, NULL};
    process_result result = process_run(argv, NULL, 0);
    commands_expect_code(&result, 5);
    cr_expect_not_null(strstr(result.err, "out of memory"), "%s", result.err);
    process_free(&result);
    process_remove_folder(model);
}
#endif

static process_result shell(const char *format, const char *model, const char *folder)
{
    char command[4096];
    snprintf(command, sizeof command, format, process_crank(), model, folder);
    /* Without the locale that the tests were started in: bash warns of one that is not installed.
     */
    const char *argv[] = {"/usr/bin/env", "LC_ALL=C", "/bin/bash", "-c", command, NULL};
    return process_run(argv, NULL, 0);
}

Test(cli, a_signal_leaves_no_output_behind)
{
    char model[512], folder[512];
    commands_make_model(model, 1);
    process_make_folder(folder);
    /* Pairs arrive for ever; the signal comes while the program waits or scores. */
    process_result result = shell(
        "CRANK=%s MODEL=%s; cd %s; mkfifo pipe; "
        "while printf 'waaaa\\twbaaa wcaaa\\n' && sleep 0.01; do :; done >pipe 2>/dev/null & "
        "$CRANK score -m $MODEL -o scores pipe & pid=$!; "
        "for i in $(seq 2400); do ls scores.tmp.* >/dev/null 2>&1 && break; sleep 0.05; done; "
        "ls scores.tmp.* >/dev/null && echo begun; kill -TERM $pid; wait $pid; echo code $?; "
        "rm pipe; ls",
        model, folder);
    cr_expect_str_eq(result.out, "begun\ncode 143\n", "%s%s", result.out, result.err);
    process_free(&result);
    process_remove_folder(folder);
    process_remove_folder(model);
}

Test(cli, a_closed_pipe_ends_quietly)
{
    char model[512], folder[512];
    commands_make_model(model, 1);
    process_make_folder(folder);
    process_result result =
        shell("CRANK=%s MODEL=%s; cd %s; yes \"$(printf 'waaaa\\twbaaa')\" | head -n 40000 >pairs; "
              "$CRANK score --json -m $MODEL pairs | head -n 1; echo ${PIPESTATUS[0]}",
              model, folder);
    cr_expect_eq(commands_count_lines(result.out), 2, "%s", result.out);
    cr_expect_not_null(strstr(result.out, "\n141\n"), "%s", result.out);
    cr_expect_str_empty(result.err);
    process_free(&result);
    result = shell("CRANK=%s MODEL=%s; cd %s; head -n 9 pairs | $CRANK score -m $MODEL >/dev/full",
                   model, folder);
    commands_expect_code(&result, 2);
    cr_expect_not_null(strstr(result.err, "cannot be written: No space left"), "%s", result.err);
    process_free(&result);
    process_remove_folder(folder);
    process_remove_folder(model);
}

/* ---- on a terminal ---- */

/* Runs crank with stdout and stderr on a terminal of 64 columns; what it wrote, malloc'ed. */
static char *on_terminal(const char *const *argv, const char *const *environment)
{
    int master;
    struct winsize size = {.ws_row = 24, .ws_col = 64};
    fflush(NULL);
    pid_t pid = forkpty(&master, NULL, NULL, &size);
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        clearenv();
        for (; *environment; environment += 2) setenv(environment[0], environment[1], 1);
        execv(argv[0], (char *const *)(size_t)argv);
        _exit(127);
    }
    char *text = NULL;
    size_t used = 0, capacity = 0;
    for (;;) {
        if (capacity - used < 4096) text = realloc(text, capacity += 65536);
        ssize_t n = read(master, text + used, capacity - used - 1);
        if (n <= 0) break; /* EIO when the child is gone */
        used += (size_t)n;
    }
    text[used] = '\0';
    close(master);
    int status;
    waitpid(pid, &status, 0);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s", text);
    return text;
}

Test(cli, a_terminal_gets_bars_and_colour_and_lines_that_fit)
{
    char model[512], folder[512];
    commands_make_model(model, 1);
    process_make_folder(folder);
    const char *docs = commands_path(folder, "docs.jsonl");
    commands_write(docs,
                   "{\"id\":\"first\",\"text\":\"waaaa \\u001b[31m red \\u65e5\\u672c\\u8a9e "
                   "\\u65e5\\u672c\\u8a9e\\u65e5\\u672c\\u8a9e\\u65e5\\u672c\\u8a9e\"}\n"
                   "{\"id\":\"a-very-long-identifier-of-a-document\",\"text\":\"wbaaa\\nwcaaa\"}\n"
                   "{\"text\":\"\"}\n");
    /* Without the line of progress, which a terminal gets when a run takes longer than a second. */
    const char *argv[] = {process_crank(), "rank", "-m",         model,   "-q",
                          "waaaa",         docs,   "--progress", "never", NULL};
    const char *colour[] = {"TERM", "xterm", "LC_ALL", "C.UTF-8", NULL};
    char *text = on_terminal(argv, colour);
    cr_expect_not_null(strstr(text, "\x1b[32m\xE2\x96\x88"), "%s", text); /* a bar */
    cr_expect_null(strstr(text, "\x1b[31m"), "a document steers the terminal: %s", text);
    cr_expect_not_null(strstr(text, "3 pairs"), "%s", text);
    size_t n_lines = 0;
    for (char *line = text; *line;) {
        size_t columns = 0;
        char *end = line + strcspn(line, "\r\n");
        for (char *at = line; at < end; at++) {
            if (*at == '\x1b')
                at += strcspn(at, "mK");
            else if (((unsigned char)*at & 0xC0) != 0x80)
                columns += (unsigned char)*at >= 0xE3 ? 2 : 1; /* the Japanese of this test */
        }
        if (n_lines++ < 4)
            cr_expect_leq(columns, 64, "%zu: %.*s", columns, (int)(end - line), line);
        line = end + strspn(end, "\r\n");
    }
    free(text);

    const char *no_colour[] = {"TERM", "xterm", "LC_ALL", "C.UTF-8", "NO_COLOR", "1", NULL};
    text = on_terminal(argv, no_colour);
    cr_expect_null(strchr(text, '\x1b'), "%s", text);
    cr_expect_not_null(strstr(text, "\xE2\x96\x88"), "%s", text);
    free(text);

    const char *ascii[] = {"TERM", "xterm", "LC_ALL", "C", NULL};
    text = on_terminal(argv, ascii);
    cr_expect_null(strstr(text, "\xE2\x96\x88"), "%s", text);
    cr_expect_not_null(strstr(text, "##"), "%s", text);
    free(text);

    const char *dumb[] = {"TERM", "dumb", NULL};
    text = on_terminal(argv, dumb);
    cr_expect_null(strchr(text, '\x1b'), "%s", text);
    cr_expect_not_null(strstr(text, "\tfirst\t"), "%s", text); /* plain columns */
    free(text);
    process_remove_folder(folder);
    process_remove_folder(model);
}

Test(cli, a_pipe_gets_neither_colour_nor_progress)
{
    char model[512];
    commands_make_model(model, 1);
    process_result result =
        commands_run("waaaa\nwbaaa\n", "rank", "-m", model, "-q", "wcaaa", NULL);
    commands_expect_code(&result, 0);
    cr_expect_null(strchr(result.out, '\x1b'));
    cr_expect_str_empty(result.err);
    process_free(&result);
    process_remove_folder(model);
}
