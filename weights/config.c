#include "weights/config.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "jsontext.h"
#include "memory.h"
#include "weights/file.h"

struct config {
    char *name;
    json_t *root;
};

/* ---- from text to a tree
 * -------------------------------------------------------------------------*/

static crank_status parse(config **out, const char *label, const char *text, size_t bytes,
                          unsigned top, crank_error *error)
{
    crank_status status = CRANK_OK;
    jsontext_limits limits = {top, CONFIG_MAX_DEPTH, CONFIG_MAX_VALUES};
    *out = NULL;
    CRANK_CHECK(bytes <= CONFIG_MAX_BYTES, LIMIT, error, "%s: has %zu bytes, at most %zu are read",
                label, bytes, CONFIG_MAX_BYTES);
    config *c = mem_zero(1, sizeof *c);
    CRANK_CHECK(c != NULL, OUT_OF_MEMORY, error, "%s: no memory to read it", label);
    c->name = mem_strdup(label);
    CRANK_CHECK_GOTO(c->name != NULL, OUT_OF_MEMORY, error, "%s: no memory to read it", label);
    CRANK_TRY_GOTO(jsontext_tree(&c->root, label, text, bytes, &limits, error));
    *out = c;
    c = NULL;
out:
    config_close(c);
    return status;
}

crank_status config_parse(config **out, const char *label, const char *text, size_t bytes,
                          crank_error *error)
{
    return parse(out, label, text, bytes, JSONTEXT_OBJECT, error);
}

void config_close(config *c)
{
    if (c == NULL) return;
    json_decref(c->root);
    mem_free(c->name);
    mem_free(c);
}

const json_t *config_root(const config *c)
{
    return c != NULL ? c->root : NULL;
}

const char *config_name(const config *c)
{
    return c != NULL ? c->name : "";
}

/* ---- from a source to text
 * -----------------------------------------------------------------------*/

crank_status config_text(char **text, size_t *bytes, const config_source *source, const char *name,
                         crank_error *error)
{
    *text = NULL;
    *bytes = 0;
    if (source->file == NULL) {
        char *path = file_join(source->dir, name);
        CRANK_CHECK(path != NULL, OUT_OF_MEMORY, error, "%s: no memory for its path", name);
        crank_status status = CRANK_OK;
        if (file_exists(path)) status = file_slurp(text, bytes, path, CONFIG_MAX_BYTES, error);
        mem_free(path);
        return status;
    }
    char key[512];
    int used = snprintf(key, sizeof key, CONFIG_METADATA_PREFIX "%s", name);
    const char *value = NULL;
    if (used > 0 && (size_t)used < sizeof key) value = safetensors_metadata(source->file, key);
    if (value == NULL) return CRANK_OK;
    *text = mem_strdup(value);
    CRANK_CHECK(*text != NULL, OUT_OF_MEMORY, error, "%s: no memory to read it", name);
    *bytes = strlen(value);
    return CRANK_OK;
}

/* "DIR/config.json", or "model.crank: config.json". Cut rather than allocated: it is for messages.
 */
static void make_label(char label[512], const config_source *source, const char *name)
{
    if (source->file == NULL) {
        const char *slash =
            source->dir[0] != '\0' && source->dir[strlen(source->dir) - 1] == '/' ? "" : "/";
        snprintf(label, 512, "%s%s%s", source->dir, slash, name);
    } else {
        snprintf(label, 512, "%s: %s", safetensors_file_path(source->file, 0), name);
    }
}

static crank_status open_optional(config **out, const config_source *source, const char *name,
                                  unsigned top, crank_error *error)
{
    char label[512], *text;
    size_t bytes;
    *out = NULL;
    CRANK_TRY(config_text(&text, &bytes, source, name, error));
    if (text == NULL) return CRANK_OK;
    make_label(label, source, name);
    crank_status status = parse(out, label, text, bytes, top, error);
    mem_free(text);
    return status;
}

crank_status config_open_optional(config **out, const config_source *source, const char *name,
                                  crank_error *error)
{
    return open_optional(out, source, name, JSONTEXT_OBJECT, error);
}

crank_status config_open_list_optional(config **out, const config_source *source, const char *name,
                                       crank_error *error)
{
    return open_optional(out, source, name, JSONTEXT_LIST, error);
}

crank_status config_open(config **out, const config_source *source, const char *name,
                         crank_error *error)
{
    char label[512];
    CRANK_TRY(config_open_optional(out, source, name, error));
    make_label(label, source, name);
    CRANK_CHECK(*out != NULL, MODEL, error, "%s: is not there", label);
    return CRANK_OK;
}

/* ---- values
 * --------------------------------------------------------------------------------------*/

/* Follows "a.b" from `root`; NULL when a part is absent or null. */
static json_t *follow(json_t *root, const char *path, size_t bytes)
{
    json_t *at = root;
    while (at != NULL) {
        const char *dot = memchr(path, '.', bytes);
        size_t part = dot != NULL ? (size_t)(dot - path) : bytes;
        at = json_object_getn(at, path, part); /* NULL for anything but an object */
        if (dot == NULL) break;
        path = dot + 1;
        bytes -= part + 1;
    }
    return json_is_null(at) ? NULL : at;
}

/* The first of the alternatives that is there. Its own spelling goes into key. */
static const json_t *find(const config *c, const char *keys, char key[128])
{
    for (const char *at = keys; c != NULL;) {
        size_t n = strcspn(at, "|");
        const json_t *value = follow(c->root, at, n);
        if (value != NULL) {
            snprintf(key, 128, "%.*s", (int)n, at);
            return value;
        }
        if (at[n] == '\0') break;
        at += n + 1;
    }
    return NULL;
}

/* What was found, for a message: short, whatever the file holds. */
static const char *describe(char text[96], const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_TRUE: return "true";
    case JSON_FALSE: return "false";
    case JSON_NULL: return "null";
    case JSON_INTEGER:
        snprintf(text, 96, "%lld", (long long)json_integer_value(value));
        return text;
    case JSON_REAL: snprintf(text, 96, "%.15g", json_real_value(value)); return text;
    case JSON_STRING: break;
    }
    const char *string = json_string_value(value);
    snprintf(text, 96, "\"%.60s\"%s", string, strlen(string) > 60 ? "..." : "");
    return text;
}

static crank_status wrong(const config *c, const char *key, const json_t *value,
                          const char *expected, crank_error *error)
{
    char found[96];
    return status_fail(error, CRANK_MODEL, "%s: %s is %s, expected %s", c->name, key,
                       describe(found, value), expected);
}

static crank_status missing(const config *c, const char *keys, crank_error *error)
{
    char names[160];
    size_t used = 0;
    for (const char *at = keys; *at != '\0' && used + 8 < sizeof names; at++) {
        if (*at == '|') {
            memcpy(names + used, " or ", 4);
            used += 4;
        } else {
            names[used++] = *at;
        }
    }
    names[used] = '\0';
    return status_fail(error, CRANK_MODEL, "%s: %s is missing", c != NULL ? c->name : "config.json",
                       names);
}

int config_has(const config *c, const char *keys)
{
    char key[128];
    return find(c, keys, key) != NULL;
}

static crank_status read_int(const config *c, const char *key, const json_t *value, int64_t lowest,
                             int64_t highest, int64_t *out, crank_error *error)
{
    char expected[96];
    if (json_is_integer(value)) {
        *out = json_integer_value(value);
        if (*out >= lowest && *out <= highest) return CRANK_OK;
    }
    snprintf(expected, sizeof expected, "an integer from %lld to %lld", (long long)lowest,
             (long long)highest);
    return wrong(c, key, value, expected, error);
}

crank_status config_int64_or(const config *c, const char *keys, int64_t lowest, int64_t highest,
                             int64_t fallback, int64_t *out, crank_error *error)
{
    char key[128];
    const json_t *value = find(c, keys, key);
    *out = fallback;
    return value != NULL ? read_int(c, key, value, lowest, highest, out, error) : CRANK_OK;
}

crank_status config_int_or(const config *c, const char *keys, int64_t lowest, int64_t highest,
                           int32_t fallback, int32_t *out, crank_error *error)
{
    int64_t wide;
    if (lowest < INT32_MIN) lowest = INT32_MIN;
    if (highest > INT32_MAX) highest = INT32_MAX;
    CRANK_TRY(config_int64_or(c, keys, lowest, highest, fallback, &wide, error));
    *out = (int32_t)wide;
    return CRANK_OK;
}

crank_status config_int(const config *c, const char *keys, int64_t lowest, int64_t highest,
                        int32_t *out, crank_error *error)
{
    *out = 0;
    if (!config_has(c, keys)) return missing(c, keys, error);
    return config_int_or(c, keys, lowest, highest, 0, out, error);
}

crank_status config_number_or(const config *c, const char *keys, double lowest, double highest,
                              double fallback, double *out, crank_error *error)
{
    char key[128], expected[96];
    const json_t *value = find(c, keys, key);
    *out = fallback;
    if (value == NULL) return CRANK_OK;
    double number = json_number_value(value);
    if (json_is_number(value) && number >= lowest && number <= highest) {
        *out = number;
        return CRANK_OK;
    }
    snprintf(expected, sizeof expected, "a number from %.15g to %.15g", lowest, highest);
    return wrong(c, key, value, expected, error);
}

crank_status config_number(const config *c, const char *keys, double lowest, double highest,
                           double *out, crank_error *error)
{
    *out = 0;
    if (!config_has(c, keys)) return missing(c, keys, error);
    return config_number_or(c, keys, lowest, highest, 0, out, error);
}

crank_status config_bool_or(const config *c, const char *keys, int fallback, int *out,
                            crank_error *error)
{
    char key[128];
    const json_t *value = find(c, keys, key);
    *out = fallback;
    if (value == NULL) return CRANK_OK;
    if (!json_is_boolean(value)) return wrong(c, key, value, "true or false", error);
    *out = json_is_true(value);
    return CRANK_OK;
}

crank_status config_string_or(const config *c, const char *keys, const char *fallback,
                              const char **out, crank_error *error)
{
    char key[128];
    const json_t *value = find(c, keys, key);
    *out = fallback;
    if (value == NULL) return CRANK_OK;
    if (!json_is_string(value)) return wrong(c, key, value, "a string", error);
    *out = json_string_value(value);
    return CRANK_OK;
}

crank_status config_string(const config *c, const char *keys, const char **out, crank_error *error)
{
    *out = NULL;
    if (!config_has(c, keys)) return missing(c, keys, error);
    return config_string_or(c, keys, NULL, out, error);
}

crank_status config_choice(const config *c, const char *keys, const char *const *words, int n,
                           int *out, crank_error *error)
{
    char key[128], expected[320] = "one of ";
    const json_t *value = find(c, keys, key);
    *out = -1;
    if (value == NULL) return missing(c, keys, error);
    for (int i = 0; i < n && json_is_string(value); i++) {
        if (strcmp(json_string_value(value), words[i]) == 0) {
            *out = i;
            return CRANK_OK;
        }
    }
    for (int i = 0; i < n; i++) {
        size_t used = strlen(expected);
        snprintf(expected + used, sizeof expected - used, "%s%s", i > 0 ? ", " : "", words[i]);
    }
    return wrong(c, key, value, expected, error);
}

crank_status config_label_count(const config *c, int32_t *n, crank_error *error)
{
    char key[128], name[16];
    const json_t *labels = find(c, "id2label", key);
    *n = 0;
    if (labels == NULL) return CRANK_OK;
    if (!json_is_object(labels)) return wrong(c, key, labels, "an object", error);
    int32_t count = (int32_t)json_object_size(labels); /* CONFIG_MAX_VALUES at most */
    for (int32_t i = 0; i < count; i++) {
        snprintf(name, sizeof name, "%d", i);
        CRANK_CHECK(json_object_get(labels, name) != NULL, MODEL, error,
                    "%s: id2label has %d labels but none for %s", c->name, count, name);
    }
    *n = count;
    return CRANK_OK;
}

const char *config_label(const config *c, int32_t label)
{
    char key[128], name[16];
    const json_t *labels = find(c, "id2label", key);
    snprintf(name, sizeof name, "%d", label);
    return json_string_value(json_object_get(labels, name));
}
