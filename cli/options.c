/* The option parser. The nearest name is found by optimal string alignment distance (Damerau 1964,
 * restricted form), which counts a swap of neighbours, the commonest slip, as one edit. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/options.h"

#define NAME_LIMIT 40
#define MAX_NAMES 64

static int smallest(int a, int b)
{
    return a < b ? a : b;
}

static int edits(const char *a, const char *b)
{
    int n = (int)strlen(a), m = (int)strlen(b);
    if (n > NAME_LIMIT || m > NAME_LIMIT) return NAME_LIMIT;
    int d[NAME_LIMIT + 1][NAME_LIMIT + 1];
    for (int i = 0; i <= n; i++) d[i][0] = i;
    for (int j = 0; j <= m; j++) d[0][j] = j;
    for (int i = 1; i <= n; i++) {
        for (int j = 1; j <= m; j++) {
            int best = smallest(d[i - 1][j] + 1, d[i][j - 1] + 1);
            best = smallest(best, d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = smallest(best, d[i - 2][j - 2] + 1);
            d[i][j] = best;
        }
    }
    return d[n][m];
}

const char *options_nearest(const char *word, const char *const *names, size_t n)
{
    const char *nearest = NULL;
    int least = 3;
    for (size_t i = 0; i < n; i++) {
        int distance = edits(word, names[i]);
        if (distance < least && distance < (int)strlen(names[i])) {
            least = distance;
            nearest = names[i];
        }
    }
    return nearest;
}

cli_exit options_misuse(const cli_command *self, const char *format, ...)
{
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return cli_fail(CLI_USAGE, "%s (crank %s --help shows how)", message, self->name);
}

static void print_value(const cli_option *option, char *out, size_t bytes)
{
    size_t used = 0;
    if (option->type == OPTION_CHOICE) {
        for (const char *const *choice = option->choices; *choice && used < bytes; choice++)
            used += (size_t)snprintf(out + used, bytes - used, "%s%s", used ? "|" : "", *choice);
        return;
    }
    snprintf(out, bytes, "%s", option->value ? option->value : "");
}

/* Help in two columns; `text` is wrapped at 100 columns under the second. */
static void print_row(const char *left, const char *text)
{
    enum { COLUMN = 28, WIDTH = 100 };
    int at = printf("  %s", left);
    if (at > COLUMN - 2) {
        putchar('\n');
        at = 0;
    }
    at += printf("%*s", COLUMN - at, "");
    while (*text) {
        size_t word = strcspn(text, " ");
        if (at + (int)word > WIDTH && at > COLUMN) {
            printf("\n%*s", COLUMN, "");
            at = COLUMN;
        }
        at += printf("%.*s", (int)word, text);
        text += word;
        if (*text == ' ') {
            text++;
            if (at + 1 + (int)strcspn(text, " ") <= WIDTH) at += printf(" ");
        }
    }
    putchar('\n');
}

static void print_help(const cli_command *self, const cli_option *options, size_t n)
{
    printf("usage: crank %s %s\n\n%s\n", self->name, self->synopsis, self->summary);
    if (self->details) printf("\n%s\n", self->details);
    printf("\noptions:\n");
    for (size_t i = 0; i < n; i++) {
        char value[256] = "", left[320];
        print_value(&options[i], value, sizeof value);
        char shorter[8] = "";
        if (options[i].short_name)
            snprintf(shorter, sizeof shorter, "-%c, ", options[i].short_name);
        snprintf(left, sizeof left, "%s--%s%s%s", shorter, options[i].name, *value ? " " : "",
                 value);
        print_row(left, options[i].help);
    }
    print_row("--help", "this text");
    printf("\nexample:\n%s\n", self->example);
}

static cli_exit parse_count(const cli_command *self, const cli_option *option, const char *text,
                            uint64_t low, uint64_t high, uint64_t *number)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end)
        return options_misuse(self, "--%s takes a whole number, not '%s'", option->name, text);
    if (errno) return options_misuse(self, "--%s: %s is too large", option->name, text);
    if (value < low || value > high) {
        if (high == UINT64_MAX)
            return options_misuse(self, "--%s must be at least %llu, not %s", option->name,
                                  (unsigned long long)low, text);
        return options_misuse(self, "--%s must be between %llu and %llu, not %s", option->name,
                              (unsigned long long)low, (unsigned long long)high, text);
    }
    *number = value;
    return CLI_PARSED;
}

static size_t count_names(const char *const *names)
{
    size_t n = 0;
    while (names[n]) n++;
    return n;
}

static cli_exit parse_choice(const cli_command *self, const cli_option *option, const char *text)
{
    size_t n = count_names(option->choices);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(option->choices[i], text) == 0) {
            *(int *)option->target = (int)i;
            return CLI_PARSED;
        }
    }
    char list[256];
    print_value(option, list, sizeof list);
    const char *nearest = options_nearest(text, option->choices, n);
    if (nearest)
        return options_misuse(self, "--%s takes %s, not '%s'; did you mean %s?", option->name, list,
                              text, nearest);
    return options_misuse(self, "--%s takes %s, not '%s'", option->name, list, text);
}

static cli_exit parse_device(const cli_command *self, const cli_option *option, const char *text)
{
    static const struct {
        const char *name;
        cli_device device;
    } devices[] = {
        {"auto", {CRANK_DEVICE_AUTO, 0, 0}}, {"ref", {CRANK_DEVICE_REF, 0, 0}},
        {"cpu", {CRANK_DEVICE_CPU, 0, 0}},   {"cuda", {CRANK_DEVICE_CUDA, 0, 0}},
        {"emu", {CRANK_DEVICE_CUDA, 0, 1}},
    };
    const char *names[sizeof devices / sizeof devices[0]];
    size_t n = sizeof devices / sizeof devices[0];
    for (size_t i = 0; i < n; i++) {
        names[i] = devices[i].name;
        if (strcmp(text, devices[i].name) == 0) {
            *(cli_device *)option->target = devices[i].device;
            return CLI_PARSED;
        }
    }
    if (strncmp(text, "cuda:", 5) == 0) {
        uint64_t ordinal;
        cli_exit code = parse_count(self, option, text + 5, 0, 255, &ordinal);
        *(cli_device *)option->target = (cli_device){CRANK_DEVICE_CUDA, (int)ordinal, 0};
        return code;
    }
    const char *nearest = options_nearest(text, names, n);
    return options_misuse(self, "--%s takes auto, ref, cpu, cuda, cuda:N or emu, not '%s'%s%s%s",
                          option->name, text, nearest ? "; did you mean " : "",
                          nearest ? nearest : "", nearest ? "?" : "");
}

static cli_exit set_option(const cli_command *self, const cli_option *option, const char *text)
{
    cli_exit code = CLI_PARSED;
    uint64_t number = 0;
    switch (option->type) {
    case OPTION_FLAG: *(int *)option->target = 1; break;
    case OPTION_TEXT: *(const char **)option->target = text; break;
    case OPTION_COUNT:
        code = parse_count(self, option, text, option->low, option->high ? option->high : SIZE_MAX,
                           &number);
        if (code == CLI_PARSED) *(size_t *)option->target = (size_t)number;
        break;
    case OPTION_SEED:
        code = parse_count(self, option, text, 0, UINT64_MAX, (uint64_t *)option->target);
        break;
    case OPTION_CHOICE: code = parse_choice(self, option, text); break;
    case OPTION_DEVICE: code = parse_device(self, option, text); break;
    }
    return code;
}

static cli_exit unknown_option(const cli_command *self, const cli_option *options, size_t n,
                               const char *word)
{
    const char *names[MAX_NAMES];
    size_t n_names = 0;
    for (size_t i = 0; i < n && n_names < MAX_NAMES - 1; i++) names[n_names++] = options[i].name;
    names[n_names++] = "help";
    char name[NAME_LIMIT + 2];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(word, "="), word);
    const char *nearest =
        word[0] == '-' && word[1] == '-' ? NULL : options_nearest(name, names, n_names);
    return options_misuse(self, "no option --%s%s%s%s", name, nearest ? "; did you mean --" : "",
                          nearest ? nearest : "", nearest ? "?" : "");
}

cli_exit options_parse(const cli_command *self, const cli_option *options, size_t n, int argc,
                       char **argv, int low, int high, cli_arguments *arguments)
{
    int n_positional = 0, options_ended = 0;
    for (int i = 1; i < argc; i++) {
        char *word = argv[i];
        if (options_ended || word[0] != '-' || word[1] == '\0') {
            argv[n_positional++] = word; /* never ahead of i: nothing unread is lost */
            continue;
        }
        if (strcmp(word, "--") == 0) {
            options_ended = 1;
            continue;
        }
        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            print_help(self, options, n);
            return CLI_OK;
        }
        const cli_option *found = NULL;
        const char *value = NULL;
        if (word[1] == '-') {
            size_t length = strcspn(word + 2, "=");
            for (size_t k = 0; k < n && !found; k++)
                if (strlen(options[k].name) == length &&
                    memcmp(options[k].name, word + 2, length) == 0)
                    found = &options[k];
            if (!found) return unknown_option(self, options, n, word + 2);
            if (word[2 + length] == '=') value = word + 2 + length + 1;
        } else {
            for (size_t k = 0; k < n && !found; k++)
                if (options[k].short_name == word[1]) found = &options[k];
            if (!found) return options_misuse(self, "no option -%c", word[1]);
            if (word[2]) value = word + 2; /* -mMODEL */
        }
        if (found->type == OPTION_FLAG) {
            if (value) return options_misuse(self, "--%s takes no value", found->name);
        } else if (!value) {
            if (i + 1 == argc) return options_misuse(self, "--%s needs a value", found->name);
            value = argv[++i];
        }
        cli_exit code = set_option(self, found, value);
        if (code != CLI_PARSED) return code;
    }
    if (n_positional > high) return options_misuse(self, "one argument too many: '%s'", argv[high]);
    if (n_positional < low)
        return options_misuse(self, "usage: crank %s %s", self->name, self->synopsis);
    *arguments = (cli_arguments){argv, n_positional};
    return CLI_PARSED;
}
