#include "support/commands.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weights/synth.h"

void commands_make_model(char model[512], int labels)
{
    const synth_shape shape = {.name = "tiny",
                               .model_type = "bert",
                               .layers = 2,
                               .width = 32,
                               .heads = 2,
                               .ffn = 64,
                               .embedding_width = 32,
                               .positions = 512,
                               .types = 2,
                               .labels = labels,
                               .norm_epsilon = 1e-12,
                               .like = "none"};
    crank_error error;
    process_make_folder(model);
    if (synth_write(model, &shape, DTYPE_F32, 7, &error) != CRANK_OK) {
        fprintf(stderr, "commands: %s\n", error.message);
        abort();
    }
}

process_result commands_run(const char *input, ...)
{
    const char *argv[64] = {process_crank()};
    size_t n = 1;
    va_list arguments;
    va_start(arguments, input);
    while ((argv[n] = va_arg(arguments, const char *)) != NULL && n < 63) n++;
    va_end(arguments);
    return process_run(argv, input, input ? strlen(input) : 0);
}

void commands_expect_code(const process_result *result, int code)
{
    if (result->exit_code == code) return;
    fprintf(stderr, "expected exit code %d, got %d (signal %d)\nstdout: %.2000s\nstderr: %.2000s\n",
            code, result->exit_code, result->signal, result->out, result->err);
    abort();
}

size_t commands_count_lines(const char *text)
{
    size_t n = 0;
    for (; *text; text++) n += *text == '\n';
    return n;
}

const char *commands_path(const char *folder, const char *name)
{
    static char paths[8][600];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, 600, "%s/%s", folder, name);
    return path;
}

void commands_write(const char *path, const char *text)
{
    process_write_file(path, text, strlen(text));
}
