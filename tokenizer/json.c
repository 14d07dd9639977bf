#include "tokenizer/json.h"

#include <string.h>

#include "jsontext.h"
#include "status.h"

static const json_t *get(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    return value == NULL || json_is_null(value) ? NULL : value;
}

static const char *type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER:
    case JSON_REAL: return "a number";
    case JSON_TRUE:
    case JSON_FALSE: return "a boolean";
    default: return "null";
    }
}

static crank_status wrong(const json_t *value, const char *where, const char *key,
                          const char *expected, crank_error *error)
{
    return status_fail(error, CRANK_FORMAT, "%s.%s: expected %s, found %s", where, key, expected,
                       type_name(value));
}

crank_status tok_json_bool(const json_t *object, const char *where, const char *key, bool absent,
                           bool *out, crank_error *error)
{
    const json_t *value = get(object, key);
    *out = absent;
    if (value == NULL) return CRANK_OK;
    if (!json_is_boolean(value)) return wrong(value, where, key, "a boolean", error);
    *out = json_is_true(value);
    return CRANK_OK;
}

crank_status tok_json_int(const json_t *object, const char *where, const char *key, int64_t absent,
                          int64_t *out, crank_error *error)
{
    const json_t *value = get(object, key);
    *out = absent;
    if (value == NULL) return CRANK_OK;
    if (json_is_integer(value)) {
        *out = json_integer_value(value);
        return CRANK_OK;
    }
    /* A number beyond 64 bits was read as a real. */
    if (json_is_real(value)) {
        double real = json_real_value(value);
        if (real >= -9007199254740992.0 && real <= 9007199254740992.0 &&
            real == (double)(int64_t)real) {
            *out = (int64_t)real;
            return CRANK_OK;
        }
        if (real > 9007199254740992.0) {
            *out = INT64_MAX;
            return CRANK_OK;
        }
    }
    return wrong(value, where, key, "an integer", error);
}

crank_status tok_json_string(const json_t *object, const char *where, const char *key,
                             const char **out, size_t *bytes, crank_error *error)
{
    const json_t *value = get(object, key);
    *out = NULL;
    *bytes = 0;
    if (value == NULL) return CRANK_OK;
    if (!json_is_string(value)) return wrong(value, where, key, "a string", error);
    *out = json_string_value(value);
    *bytes = json_string_length(value);
    return CRANK_OK;
}

crank_status tok_json_array(const json_t *object, const char *where, const char *key, bool required,
                            const json_t **out, crank_error *error)
{
    const json_t *value = get(object, key);
    *out = value;
    CRANK_CHECK(value != NULL || !required, FORMAT, error, "%s.%s: missing", where, key);
    if (value != NULL && !json_is_array(value)) return wrong(value, where, key, "an array", error);
    return CRANK_OK;
}

crank_status tok_json_object(const json_t *object, const char *where, const char *key,
                             bool required, const json_t **out, crank_error *error)
{
    const json_t *value = get(object, key);
    *out = value;
    CRANK_CHECK(value != NULL || !required, FORMAT, error, "%s.%s: missing", where, key);
    if (value != NULL && !json_is_object(value))
        return wrong(value, where, key, "an object", error);
    return CRANK_OK;
}

crank_status tok_json_parse(json_t **out, const char *name, const char *text, size_t bytes,
                            crank_error *error)
{
    /* "no limit" is often written as 10^30: such a number becomes a real. */
    static const jsontext_limits limits = {.flags = JSONTEXT_NUL | JSONTEXT_SERDE_REALS};
    return jsontext_tree(out, name, text, bytes, &limits, error);
}
