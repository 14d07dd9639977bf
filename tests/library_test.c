/* The library as others get it: its symbols, its silence, the example, the installed packages. */
#define _DEFAULT_SOURCE
#include <criterion/criterion.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/process.h"

static const char *const library = CRANK_BINARY_DIR "/libcrank.so";

static process_result shell(const char *command)
{
    const char *argv[] = {"/bin/sh", "-c", command, NULL};
    return process_run(argv, NULL, 0);
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The function names that `header` marks with CRANK_API: the last word before the parenthesis. */
static size_t api_names(const char *header, char **names, size_t capacity, size_t n)
{
    char *text = process_read_file(header, NULL);
    cr_assert_not_null(text, "%s", header);
    for (char *at = strstr(text, "\nCRANK_API "); at; at = strstr(at + 1, "\nCRANK_API ")) {
        char *end = strchr(at, '(');
        while (end > at && !isalnum((unsigned char)end[-1])) end--;
        char *start = end;
        while (isalnum((unsigned char)start[-1]) || start[-1] == '_') start--;
        cr_assert_lt(n, capacity);
        names[n++] = strndup(start, (size_t)(end - start));
    }
    free(text);
    return n;
}

Test(library, exports_what_the_header_declares)
{
    char *declared[256], *exported[256];
    size_t n_declared = api_names(CRANK_SOURCE_DIR "/runtime/crank.h", declared, 256, 0), n = 0;
    n_declared = api_names(CRANK_SOURCE_DIR "/base/crank_status.h", declared, 256, n_declared);
    cr_assert_gt(n_declared, 25);
    char command[600];
    snprintf(command, sizeof command, "nm -D --defined-only %s", library);
    process_result result = shell(command);
    cr_assert_eq(result.exit_code, 0, "%s", result.err);
    char *rest = result.out;
    for (char *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n")) {
        char *name = strrchr(line, ' ');
        /* The toolchain's own (_init, sanitizers' __...) begin with an underscore. */
        if (!name || name[1] == '_') continue;
        cr_assert_lt(n, 256);
        exported[n++] = name + 1;
    }
    qsort(declared, n_declared, sizeof *declared, compare);
    qsort(exported, n, sizeof *exported, compare);
    for (size_t i = 0, j = 0; i < n_declared || j < n;) {
        int order = i == n_declared ? 1 : j == n ? -1 : strcmp(declared[i], exported[j]);
        if (order < 0) cr_expect_fail("%s is declared but not exported", declared[i]);
        if (order > 0) cr_expect_fail("%s is exported but not declared", exported[j]);
        i += order <= 0;
        j += order >= 0;
    }
    for (size_t i = 0; i < n_declared; i++) free(declared[i]);
    process_free(&result);
}

/* The library prints nothing, ends nothing and reads no environment: it does not even link what
 * could. (assert is for bugs and is compiled out of a release.) */
Test(library, links_nothing_that_prints_exits_or_reads_the_environment)
{
    static const char *const forbidden[] = {
        "printf",        "vprintf", "puts",      "putchar", "perror",       "stdout",
        "stderr",        "exit",    "_exit",     "abort",   "quick_exit",   "getenv",
        "setenv",        "putenv",  "setlocale", "signal",  "system",       "popen",
        "secure_getenv", "rand",    "srand",     "strtok",  "__printf_chk",
    };
    char command[600];
    snprintf(command, sizeof command, "nm -D --undefined-only %s", library);
    process_result result = shell(command);
    cr_assert_eq(result.exit_code, 0, "%s", result.err);
    char *rest = result.out;
    for (char *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n")) {
        char *name = strrchr(line, ' ');
        if (!name++) continue;
        name[strcspn(name, "@")] = '\0';
        for (size_t i = 0; i < sizeof forbidden / sizeof forbidden[0]; i++)
            cr_expect_str_neq(name, forbidden[i]);
    }
    process_free(&result);
}

static void make_model(char folder[512], char model[600])
{
    process_make_folder(folder);
    snprintf(model, 600, "%s/model", folder);
    const char *argv[] = {process_crank(), "synth", "tinybert-l2", "-o", model, NULL};
    process_result result = process_run(argv, NULL, 0);
    cr_assert_eq(result.exit_code, 0, "%s", result.err);
    process_free(&result);
}

static void check_example(const char *program, const char *model)
{
    const char *argv[] = {program,          model, "how do tides work", "Tides follow the moon.",
                          "Bread is baked", NULL};
    process_result result = process_run(argv, NULL, 0);
    cr_expect_eq(result.exit_code, 0, "%s: %s", program, result.err);
    double first = 0, second = 0;
    char text[2][64];
    cr_assert_eq(
        sscanf(result.out, "%lf  %63[^\n]\n%lf  %63[^\n]", &first, text[0], &second, text[1]), 4,
        "%s", result.out);
    cr_expect_geq(first, second);
    cr_expect_str_neq(text[0], text[1]);
    process_free(&result);
}

Test(library, example_ranks_documents)
{
    char folder[512], model[600];
    make_model(folder, model);
    check_example(CRANK_BINARY_DIR "/examples/rank", model);
    const char *argv[] = {CRANK_BINARY_DIR "/examples/rank", "/nowhere", "q", "d", NULL};
    process_result result = process_run(argv, NULL, 0);
    cr_expect_eq(result.exit_code, 1);
    cr_expect_not_null(strstr(result.err, "/nowhere"), "%s", result.err);
    process_free(&result);
    process_remove_folder(folder);
}

/* A program built against a sanitized library would need the sanitizer too. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
static void run_shell(const char *folder, const char *command)
{
    char full[4096];
    snprintf(full, sizeof full, "set -e; cd %s; %s", folder, command);
    process_result result = shell(full);
    cr_assert_eq(result.exit_code, 0, "%s\n%s%s", command, result.out, result.err);
    process_free(&result);
}

Test(library, installs_for_pkg_config_and_cmake)
{
    char folder[512], model[600], program[600];
    make_model(folder, model);
    run_shell(folder, "cmake --install " CRANK_BINARY_DIR " --prefix first >/dev/null; "
                      /* relocatable: a package unpacked elsewhere still works */
                      "mv first prefix");
    run_shell(folder,
              "export PKG_CONFIG_PATH=$(dirname $(find prefix -name crank.pc)); "
              "cc -std=c11 -Wall -Wextra -Werror " CRANK_SOURCE_DIR "/examples/rank.c -o shared "
              "$(pkg-config --cflags --libs crank) "
              "-Wl,-rpath,$PWD/$(dirname $(find prefix -name libcrank.so)); "
              "mkdir static-only; cp $(find prefix -name libcrank.a) static-only; "
              "cc -std=c11 " CRANK_SOURCE_DIR "/examples/rank.c -o static "
              "$(pkg-config --cflags crank) -Lstatic-only "
              "$(pkg-config --static --libs crank | sed 's,-L[^ ]*prefix[^ ]*,,')");
    snprintf(program, sizeof program, "%s/shared", folder);
    check_example(program, model);
    snprintf(program, sizeof program, "%s/static", folder);
    check_example(program, model);

    const char *project = "cmake_minimum_required(VERSION 3.25)\nproject(consumer C)\n"
                          "find_package(crank 0.1 REQUIRED)\n"
                          "add_executable(by_shared " CRANK_SOURCE_DIR "/examples/rank.c)\n"
                          "target_link_libraries(by_shared crank::crank)\n"
                          "add_executable(by_static " CRANK_SOURCE_DIR "/examples/rank.c)\n"
                          "target_link_libraries(by_static crank::crank_static)\n";
    snprintf(program, sizeof program, "%s/CMakeLists.txt", folder);
    process_write_file(program, project, strlen(project));
    run_shell(folder,
              "cmake -G Ninja -B consumer -DCMAKE_PREFIX_PATH=$PWD/prefix . >log 2>&1 || "
              "{ cat log; exit 1; }; cmake --build consumer >log 2>&1 || { cat log; exit 1; }");
    snprintf(program, sizeof program, "%s/consumer/by_shared", folder);
    check_example(program, model);
    snprintf(program, sizeof program, "%s/consumer/by_static", folder);
    check_example(program, model);
    process_remove_folder(folder);
}
#endif

/* The example in the README is the file that is compiled above. */
Test(library, readme_shows_the_example)
{
    char *readme = process_read_file(CRANK_SOURCE_DIR "/README.md", NULL);
    char *example = process_read_file(CRANK_SOURCE_DIR "/examples/rank.c", NULL);
    cr_assert(readme && example);
    char *code = strstr(example, "#include");
    cr_assert_not_null(code);
    cr_expect_not_null(strstr(readme, code), "README.md does not show examples/rank.c");
    free(readme);
    free(example);
}
