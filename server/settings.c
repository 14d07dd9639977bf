#include "server/settings.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jsontext.h"
#include "server/alloc.h"

#define MAX_FILE_BYTES (1 << 20)

/* text-embeddings-inference's names of the same things. */
static const struct {
    const char *tei, *own;
} translations[] = {
    {"model-id", "model"},
    {"hostname", "host"},
    {"max-batch-tokens", "batch-tokens"},
    {"max-client-batch-size", "max-documents"},
    {"payload-limit", "max-body"},
    {"tokenization-workers", "http-threads"},
};

static crank_status fail(crank_error *error, crank_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static crank_status fail(crank_error *error, crank_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    error->status = status;
    return status;
}

static crank_status append(argument_list *list, char *text, crank_error *error)
{
    char **grown = text != NULL ? server_grow(list->at, (size_t)list->n + 2, sizeof *grown) : NULL;
    if (grown == NULL) {
        free(text);
        return fail(error, CRANK_OUT_OF_MEMORY, "no memory for the options");
    }
    list->at = grown;
    list->at[list->n++] = text;
    list->at[list->n] = NULL;
    return CRANK_OK;
}

static char *format_text(const char *format, ...) __attribute__((format(printf, 1, 2)));

static char *format_text(const char *format, ...)
{
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0) text = NULL;
    va_end(arguments);
    return text;
}

char *settings_read_file(const char *path, crank_error *error)
{
    FILE *file = fopen(path, "re");
    char *data = file != NULL ? server_alloc(MAX_FILE_BYTES + 1, 1) : NULL;
    if (data == NULL) {
        fail(error, file != NULL ? CRANK_OUT_OF_MEMORY : CRANK_IO, "%s: %s", path, strerror(errno));
        if (file != NULL) fclose(file);
        return NULL;
    }
    size_t n = fread(data, 1, MAX_FILE_BYTES + 1, file);
    int bad = ferror(file) || n > MAX_FILE_BYTES;
    fclose(file);
    if (bad) {
        fail(error, CRANK_IO, "%s: cannot be read, or is larger than 1 MiB", path);
        server_free(data);
        return NULL;
    }
    data[n] = '\0';
    return data;
}

/* {"port": 8080, "model": ["a=DIR", "b=DIR"], "pin": true}; false and null: as if absent. */
static crank_status add_value(argument_list *list, const char *path, const char *key,
                              const json_t *value, crank_error *error)
{
    char *name = format_text("--%s", key);
    if (name == NULL) return fail(error, CRANK_OUT_OF_MEMORY, "no memory for the options");
    for (char *at = name + 2; *at; at++)
        if (*at == '_') *at = '-';
    crank_status status = CRANK_OK;
    if (json_is_true(value)) return append(list, name, error);
    if (json_is_string(value))
        status = append(list, format_text("%s=%s", name, json_string_value(value)), error);
    else if (json_is_integer(value))
        status =
            append(list, format_text("%s=%lld", name, (long long)json_integer_value(value)), error);
    else if (!json_is_false(value) && !json_is_null(value))
        status = fail(error, CRANK_FORMAT,
                      "%s: %s: expected a string, a whole number, true or false", path, key);
    free(name);
    return status;
}

static crank_status add_file(argument_list *list, const char *path, crank_error *error)
{
    static const jsontext_limits limits = {JSONTEXT_OBJECT, 8, 10000};
    char *data = settings_read_file(path, error);
    if (data == NULL) return error->status;
    json_t *root = NULL;
    crank_status status = jsontext_tree(&root, path, data, strlen(data), &limits, error);
    server_free(data);
    if (status != CRANK_OK) return status;
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value)
    {
        if (status != CRANK_OK) break;
        if (!json_is_array(value)) {
            status = add_value(list, path, key, value, error);
            continue;
        }
        for (size_t i = 0; i < json_array_size(value) && status == CRANK_OK; i++)
            status = add_value(list, path, key, json_array_get(value, i), error);
    }
    json_decref(root);
    return status;
}

static crank_status add_environment(argument_list *list, const option_name *names, size_t n,
                                    crank_error *error)
{
    for (size_t i = 0; i < n; i++) {
        char variable[80] = "CRANK_";
        size_t at = 6;
        for (const char *c = names[i].name; *c && at < sizeof variable - 1; c++)
            variable[at++] = *c == '-' ? '_' : (char)(*c >= 'a' && *c <= 'z' ? *c - 32 : *c);
        const char *value = getenv(variable);
        if (value == NULL || *value == '\0') continue;
        if (names[i].flag && (strcmp(value, "0") == 0 || strcmp(value, "false") == 0)) continue;
        char *text = names[i].flag ? format_text("--%s", names[i].name)
                                   : format_text("--%s=%s", names[i].name, value);
        crank_status status = append(list, text, error);
        if (status != CRANK_OK) return status;
    }
    return CRANK_OK;
}

static char *translate(const char *argument)
{
    if (strncmp(argument, "--", 2) != 0) return strdup(argument);
    size_t bytes = strcspn(argument + 2, "=");
    for (size_t i = 0; i < sizeof translations / sizeof translations[0]; i++)
        if (strlen(translations[i].tei) == bytes &&
            memcmp(translations[i].tei, argument + 2, bytes) == 0)
            return format_text("--%s%s", translations[i].own, argument + 2 + bytes);
    return strdup(argument);
}

static const char *config_path(int argc, char **argv)
{
    const char *path = getenv("CRANK_CONFIG");
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strncmp(argv[i], "--config=", 9) == 0) path = argv[i] + 9;
        if (strcmp(argv[i], "--config") == 0 && i + 1 < argc) path = argv[i + 1];
    }
    return path != NULL && *path ? path : NULL;
}

crank_status settings_gather(argument_list *list, int argc, char **argv, const option_name *names,
                             size_t n_names, crank_error *error)
{
    *list = (argument_list){0};
    crank_status status = append(list, strdup(argv[0]), error);
    const char *path = config_path(argc, argv);
    if (status == CRANK_OK && path != NULL) status = add_file(list, path, error);
    if (status == CRANK_OK) status = add_environment(list, names, n_names, error);
    list->n_weak = list->n;
    for (int i = 1; i < argc && status == CRANK_OK; i++)
        status = append(list, translate(argv[i]), error);
    if (status != CRANK_OK) settings_free(list);
    return status;
}

void settings_free(argument_list *list)
{
    for (int i = 0; i < list->n; i++) free(list->at[i]);
    server_free(list->at);
    *list = (argument_list){0};
}
