#include "jsontext.h"

#include <jansson.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "utf8.h"

/* ---- places
 * --------------------------------------------------------------------------------------*/

crank_status jsontext_fail(const jsontext_reader *r, const char *at, const char *format, ...)
{
    char reason[CRANK_ERROR_MESSAGE_BYTES];
    size_t byte = (size_t)(at - r->begin);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    if (r->lines == NULL) {
        return status_fail(r->error, CRANK_FORMAT, "%s: header, byte %zu: %s", r->label,
                           r->offset + byte, reason);
    }
    size_t line = 1, start = 0;
    for (size_t i = 0; i < byte; i++) {
        if (r->lines[i] != '\n') continue;
        line++;
        start = i + 1;
    }
    return status_fail(r->error, CRANK_FORMAT, "%s: line %zu, column %zu (byte %zu): %s", r->label,
                       line, byte - start + 1, byte, reason);
}

char jsontext_peek(jsontext_reader *r)
{
    while (r->at < r->end &&
           (*r->at == ' ' || *r->at == '\n' || *r->at == '\t' || *r->at == '\r')) {
        r->at++;
    }
    return r->at < r->end ? *r->at : '\0';
}

crank_status jsontext_expect(jsontext_reader *r, char wanted)
{
    if (jsontext_peek(r) != wanted) {
        return r->at == r->end
                   ? jsontext_fail(r, r->at, "the text ends where '%c' is expected", wanted)
                   : jsontext_fail(r, r->at, "'%c' is expected, '%c' found", wanted, *r->at);
    }
    r->at++;
    return CRANK_OK;
}

/* ---- strings
 * -------------------------------------------------------------------------------------*/

static int hex_digits(const char *at, const char *end, uint32_t *value)
{
    *value = 0;
    if (end - at < 4) return 0;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        uint32_t digit;
        if (c >= '0' && c <= '9') {
            digit = (uint32_t)(c - '0');
        } else if ((c | 32) >= 'a' && (c | 32) <= 'f') {
            digit = (uint32_t)((c | 32) - 'a' + 10);
        } else {
            return 0;
        }
        *value = *value << 4 | digit;
    }
    return 1;
}

/* r->at is behind "\u". Reads one escape, or a pair of surrogates. */
static crank_status unicode_escape(jsontext_reader *r, uint32_t *code_point)
{
    uint32_t low;
    if (!hex_digits(r->at, r->end, code_point)) {
        return jsontext_fail(r, r->at, "\\u needs four hexadecimal digits");
    }
    r->at += 4;
    if (*code_point < 0xD800 || *code_point > 0xDFFF) return CRANK_OK;
    int pair = *code_point < 0xDC00 && r->end - r->at >= 6 && r->at[0] == '\\' && r->at[1] == 'u' &&
               hex_digits(r->at + 2, r->end, &low) && low >= 0xDC00 && low <= 0xDFFF;
    if (!pair) return jsontext_fail(r, r->at, "half a surrogate pair");
    *code_point = 0x10000 + ((*code_point - 0xD800) << 10) + (low - 0xDC00);
    r->at += 6;
    return CRANK_OK;
}

/* r->at is behind '\'. Writes what the escape means to utf8; *width is its length. */
static crank_status escape_at(jsontext_reader *r, uint8_t utf8[4], int *width)
{
    static const char escapes[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    char escape = r->at < r->end ? *r->at : '\0';
    const char *found = escape != '\0' ? strchr(escapes, escape) : NULL;
    if (escape == 'u') {
        uint32_t code_point = 0;
        r->at++;
        CRANK_TRY(unicode_escape(r, &code_point));
        *width = utf8_encode(code_point, utf8);
    } else if (found != NULL) {
        r->at++;
        utf8[0] = (uint8_t)meanings[found - escapes];
        *width = 1;
    } else {
        return jsontext_fail(r, r->at, "an unknown escape in a string");
    }
    return CRANK_OK;
}

crank_status jsontext_string_at(jsontext_reader *r, int keep, char **text, size_t *bytes)
{
    CRANK_TRY(jsontext_expect(r, '"'));
    char *start = r->at, *out = r->at;
    while (r->at < r->end && *r->at != '"') {
        unsigned char c = (unsigned char)*r->at;
        uint8_t utf8[4];
        int width = 1;
        if (c >= 0x20 && c < 0x80 && c != '\\') {
            if (keep) *out = *r->at;
            r->at++;
            out++;
            continue;
        }
        if (c < 0x20) return jsontext_fail(r, r->at, "a control character in a string");
        if (c == '\\') {
            r->at++;
            CRANK_TRY(escape_at(r, utf8, &width));
        } else {
            uint32_t code_point;
            width = utf8_decode((const uint8_t *)r->at, (size_t)(r->end - r->at), &code_point);
            if (width <= 0) return jsontext_fail(r, r->at, "a string is not valid UTF-8");
            memcpy(utf8, r->at, (size_t)width);
            r->at += width;
        }
        if (keep) memcpy(out, utf8, (size_t)width); /* never longer than what it was read from */
        out += width;
    }
    if (r->at == r->end) return jsontext_fail(r, start - 1, "a string without an end");
    r->at++;
    *bytes = (size_t)(out - start);
    if (keep) {
        *out = '\0';
        *text = start;
    }
    return CRANK_OK;
}

/* ---- numbers
 * -------------------------------------------------------------------------------------*/

static int is_digit(const jsontext_reader *r)
{
    return r->at < r->end && *r->at >= '0' && *r->at <= '9';
}

/* The number from `start` to r->at. strtod is exact, but reads the
 * point of the process's locale, which is not ours to change. */
static crank_status value_of_number(const jsontext_reader *r, const char *start, double *value)
{
    enum { MAX_CHARACTERS = 400 };
    char text[MAX_CHARACTERS + 16];
    const char *point = localeconv()->decimal_point;
    size_t bytes = (size_t)(r->at - start), used = 0;
    if (bytes > MAX_CHARACTERS) {
        return jsontext_fail(r, start, "a number of more than %d characters", MAX_CHARACTERS);
    }
    for (size_t i = 0; i < bytes; i++) {
        if (start[i] == '.' && strlen(point) < 8) {
            memcpy(text + used, point, strlen(point));
            used += strlen(point);
        } else {
            text[used++] = start[i];
        }
    }
    text[used] = '\0';
    *value = strtod(text, NULL);
    if (isinf(*value)) return jsontext_fail(r, start, "a number out of range");
    return CRANK_OK;
}

crank_status jsontext_number_at(jsontext_reader *r, int *integer)
{
    const char *start = r->at;
    long exponent = 0, whole = 0;
    int negative = 0, zero = 1;
    *integer = 1;
    if (r->at < r->end && *r->at == '-') r->at++;
    if (!is_digit(r)) return jsontext_fail(r, r->at, "a number without digits");
    if (*r->at == '0') {
        r->at++;
    } else {
        zero = 0;
        for (; is_digit(r); r->at++) whole++;
    }
    if (r->at < r->end && *r->at == '.') {
        *integer = 0;
        r->at++;
        if (!is_digit(r)) return jsontext_fail(r, r->at, "a number without digits after its point");
        for (; is_digit(r); r->at++) zero &= *r->at == '0';
    }
    if (r->at < r->end && (*r->at | 32) == 'e') {
        *integer = 0;
        r->at++;
        if (r->at < r->end && (*r->at == '+' || *r->at == '-')) negative = *r->at++ == '-';
        if (!is_digit(r)) return jsontext_fail(r, r->at, "a number without digits in its exponent");
        for (; is_digit(r); r->at++) {
            if (exponent < 1000000000) exponent = exponent * 10 + (*r->at - '0');
        }
    }
    long power = whole + (negative ? -exponent : exponent);
    double value;
    return !zero && power > 308 ? value_of_number(r, start, &value) : CRANK_OK;
}

crank_status jsontext_unsigned_at(jsontext_reader *r, const char *what, uint64_t *value)
{
    jsontext_peek(r);
    const char *start = r->at;
    *value = 0;
    if (!is_digit(r))
        return jsontext_fail(r, r->at, "%s: a non-negative integer is expected", what);
    for (; is_digit(r); r->at++) {
        if (r->at > start && *start == '0')
            return jsontext_fail(r, start, "%s: a leading zero", what);
        if (__builtin_mul_overflow(*value, (uint64_t)10, value) ||
            __builtin_add_overflow(*value, (uint64_t)(*r->at - '0'), value)) {
            return jsontext_fail(r, start, "%s: an integer of 2^64 or more", what);
        }
    }
    if (r->at < r->end && (*r->at == '.' || (*r->at | 32) == 'e')) {
        return jsontext_fail(r, start, "%s: an integer is expected, not a fraction", what);
    }
    return CRANK_OK;
}

static bool push_digit(uint64_t *significand, char digit)
{
    uint64_t next;
    if (__builtin_mul_overflow(*significand, (uint64_t)10, &next) ||
        __builtin_add_overflow(next, (uint64_t)(digit - '0'), &next)) {
        return false;
    }
    *significand = next;
    return true;
}

static double power_of_ten(int exponent)
{
    static const double exact[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                   1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                   1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    char text[16];
    if (exponent < (int)(sizeof exact / sizeof *exact)) return exact[exponent];
    snprintf(text, sizeof text, "1e%d", exponent);
    return strtod(text, NULL);
}

/* The number from start to end as serde_json reads it without its float_roundtrip feature: the
 * digits that fit 64 bits, rounded to a double, times or divided by a power of ten. Up to an ulp
 * from the nearest double, and infinite where serde_json says out of range. */
static double serde_real(const char *start, const char *end)
{
    bool negative = *start == '-', full = false;
    const char *at = start + negative;
    uint64_t significand = 0;
    int exponent = 0, written = 0;
    for (; at < end && *at >= '0' && *at <= '9'; at++) {
        full = full || !push_digit(&significand, *at);
        exponent += full;
    }
    if (at < end && *at == '.') {
        full = false;
        for (at++; at < end && *at >= '0' && *at <= '9'; at++) {
            full = full || !push_digit(&significand, *at);
            exponent -= !full;
        }
    }
    if (at < end) { /* e or E */
        bool down = at[1] == '-';
        for (at += 1 + (at[1] == '-' || at[1] == '+'); at < end; at++)
            if (written < 100000) written = written * 10 + (*at - '0');
        exponent += down ? -written : written;
    }
    double value = (double)significand;
    for (; exponent < -308 && value != 0; exponent += 308) value /= 1e308;
    if (value != 0) {
        if (exponent > 308)
            value = HUGE_VAL;
        else
            value = exponent < 0 ? value / power_of_ten(-exponent) : value * power_of_ten(exponent);
    }
    return negative ? -value : value;
}

/* ---- values that nobody asked for
 * ----------------------------------------------------------------*/

static crank_status take_word(jsontext_reader *r, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(r->end - r->at) < n || memcmp(r->at, word, n) != 0) {
        return jsontext_fail(r, r->at, "a value is expected");
    }
    r->at += n;
    return CRANK_OK;
}

static const char *word_of(char first)
{
    return first == 't' ? "true" : first == 'f' ? "false" : "null";
}

/* Behind a value inside a container: takes ',' or, where it closes the container, `closer`. */
static crank_status take_separator(jsontext_reader *r, char closer, int *closed)
{
    char c = jsontext_peek(r);
    *closed = c == closer;
    if (*closed) {
        r->at++;
        return CRANK_OK;
    }
    if (c != ',') return jsontext_fail(r, r->at, "',' or '%c' is expected", closer);
    r->at++;
    if (jsontext_peek(r) == closer) return jsontext_fail(r, r->at, "a value is expected after ','");
    return CRANK_OK;
}

crank_status jsontext_skip(jsontext_reader *r, int depth, size_t *members)
{
    char closers[JSONTEXT_MAX_DEPTH + 1];
    int level = 0, fresh = 0; /* fresh: a container was opened just now and may be empty */
    *members = 0;
    for (;;) {
        char *text;
        size_t bytes;
        int integer, closed = 0;
        char c = jsontext_peek(r);
        if (fresh && c == closers[level - 1]) {
            r->at++;
            closed = 1;
        } else {
            if (level > 0 && closers[level - 1] == '}') {
                CRANK_TRY(jsontext_string_at(r, 0, &text, &bytes));
                CRANK_TRY(jsontext_expect(r, ':'));
                c = jsontext_peek(r);
            }
            *members += level == 1;
            fresh = c == '{' || c == '[';
            if (fresh) {
                if (depth + level + 1 > JSONTEXT_MAX_DEPTH) {
                    return jsontext_fail(r, r->at, "nested deeper than %d levels",
                                         JSONTEXT_MAX_DEPTH);
                }
                closers[level++] = c == '{' ? '}' : ']';
                r->at++;
                continue;
            }
            if (c == '"') {
                CRANK_TRY(jsontext_string_at(r, 0, &text, &bytes));
            } else if (c == '-' || (c >= '0' && c <= '9')) {
                CRANK_TRY(jsontext_number_at(r, &integer));
            } else {
                CRANK_TRY(take_word(r, word_of(c)));
            }
        }
        /* A value has ended; so have the containers that close here. */
        fresh = 0;
        if (closed) level--;
        do {
            if (level == 0) return CRANK_OK;
            CRANK_TRY(take_separator(r, closers[level - 1], &closed));
            if (closed) level--;
        } while (closed);
    }
}

/* ---- trees
 * ---------------------------------------------------------------------------------------*/

typedef struct builder {
    jsontext_reader r;
    const jsontext_limits *limits;
    json_t *root;
    json_t *open[JSONTEXT_MAX_DEPTH]; /* borrowed: the root owns them */
    int level;
    size_t values;
} builder;

static crank_status out_of_memory(const builder *b)
{
    return status_fail(b->r.error, CRANK_OUT_OF_MEMORY, "%s: no memory to read it", b->r.label);
}

static crank_status string_value(builder *b, json_t **value, char **text, size_t *bytes)
{
    jsontext_peek(&b->r);
    const char *at = b->r.at;
    CRANK_TRY(jsontext_string_at(&b->r, 1, text, bytes));
    if (!(b->limits->flags & JSONTEXT_NUL) && memchr(*text, '\0', *bytes) != NULL) {
        return jsontext_fail(&b->r, at, "a NUL in a string");
    }
    if (value == NULL) return CRANK_OK;
    *value = json_stringn_nocheck(*text, *bytes);
    return *value != NULL ? CRANK_OK : out_of_memory(b);
}

static crank_status number_value(builder *b, json_t **value)
{
    const char *start = b->r.at;
    int integer;
    CRANK_TRY(jsontext_number_at(&b->r, &integer));
    int64_t whole = 0;
    const char *digit = start + (*start == '-');
    for (; integer && digit < b->r.at; digit++) { /* downwards: -2^63 fits, 2^63 does not */
        if (__builtin_mul_overflow(whole, 10, &whole) ||
            __builtin_sub_overflow(whole, *digit - '0', &whole)) {
            integer = 0;
        }
    }
    if (integer && *start != '-' && __builtin_sub_overflow(0, whole, &whole)) integer = 0;
    if (integer) {
        *value = json_integer(whole);
    } else {
        double real = 0;
        if (b->limits->flags & JSONTEXT_SERDE_REALS)
            real = serde_real(start, b->r.at);
        else
            CRANK_TRY(value_of_number(&b->r, start, &real));
        if (!isfinite(real)) return jsontext_fail(&b->r, start, "a number beyond a double's range");
        *value = json_real(real);
    }
    return *value != NULL ? CRANK_OK : out_of_memory(b);
}

static crank_status open_container(builder *b, char c, json_t **value)
{
    int deepest = b->limits->depth != 0 ? b->limits->depth : JSONTEXT_MAX_DEPTH;
    if (b->level == deepest) {
        return jsontext_fail(&b->r, b->r.at, "nested deeper than %d levels", deepest);
    }
    b->r.at++;
    *value = c == '{' ? json_object() : json_array();
    return *value != NULL ? CRANK_OK : out_of_memory(b);
}

/* Puts value, which it takes over, where it belongs. */
static crank_status attach(builder *b, json_t *value, const char *key, size_t key_bytes)
{
    if (b->level == 0) {
        b->root = value;
        return CRANK_OK;
    }
    json_t *parent = b->open[b->level - 1];
    int failed = json_is_object(parent)
                     ? json_object_setn_new_nocheck(parent, key, key_bytes, value)
                     : json_array_append_new(parent, value);
    return failed ? out_of_memory(b) : CRANK_OK;
}

/* One value, or the opening of a container, with its key where it has one. */
static crank_status take_value(builder *b, int *opened)
{
    char *key = NULL, *text;
    size_t key_bytes = 0, bytes;
    json_t *value = NULL;
    if (b->level > 0 && json_is_object(b->open[b->level - 1])) {
        jsontext_peek(&b->r);
        const char *at = b->r.at;
        CRANK_TRY(string_value(b, NULL, &key, &key_bytes));
        if (json_object_getn(b->open[b->level - 1], key, key_bytes) != NULL) {
            return jsontext_fail(&b->r, at, "the key \"%.80s\" stands there twice", key);
        }
        CRANK_TRY(jsontext_expect(&b->r, ':'));
    }
    CRANK_CHECK(b->limits->values == 0 || b->values < b->limits->values, LIMIT, b->r.error,
                "%s: more than %zu values", b->r.label, b->limits->values);
    b->values++;
    char c = jsontext_peek(&b->r);
    *opened = c == '{' || c == '[';
    if (*opened) {
        CRANK_TRY(open_container(b, c, &value));
    } else if (c == '"') {
        CRANK_TRY(string_value(b, &value, &text, &bytes));
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        CRANK_TRY(number_value(b, &value));
    } else {
        CRANK_TRY(take_word(&b->r, word_of(c)));
        value = c == 't' ? json_true() : c == 'f' ? json_false() : json_null();
    }
    CRANK_TRY(attach(b, value, key, key_bytes));
    if (*opened) b->open[b->level++] = value;
    return CRANK_OK;
}

static crank_status build(builder *b)
{
    jsontext_reader *r = &b->r;
    char first = jsontext_peek(r);
    unsigned flags = b->limits->flags;
    if ((flags & JSONTEXT_OBJECT) && first != '{') {
        return jsontext_fail(r, r->at, "an object is expected at the top");
    }
    if ((flags & JSONTEXT_LIST) && first != '[') {
        return jsontext_fail(r, r->at, "an array is expected at the top");
    }
    int fresh = 0;
    do {
        char closer = b->level > 0 && json_is_object(b->open[b->level - 1]) ? '}' : ']';
        int closed = 0;
        if (fresh && jsontext_peek(r) == closer) {
            r->at++;
            closed = 1;
        } else {
            CRANK_TRY(take_value(b, &fresh));
            if (fresh) continue;
        }
        fresh = 0;
        if (closed) b->level--;
        while (b->level > 0) {
            closer = json_is_object(b->open[b->level - 1]) ? '}' : ']';
            CRANK_TRY(take_separator(r, closer, &closed));
            if (!closed) break;
            b->level--;
        }
    } while (b->level > 0);
    jsontext_peek(r);
    if (r->at != r->end) return jsontext_fail(r, r->at, "something follows the value");
    return CRANK_OK;
}

crank_status jsontext_tree(json_t **out, const char *label, const char *text, size_t bytes,
                           const jsontext_limits *limits, crank_error *error)
{
    *out = NULL;
    char *copy = mem_strndup(text, bytes);
    CRANK_CHECK(copy != NULL, OUT_OF_MEMORY, error, "%s: no memory to read it", label);
    builder b = {.r = {copy, copy, copy + bytes, label, text, 0, error}, .limits = limits};
    crank_status status = build(&b);
    mem_free(copy);
    if (status == CRANK_OK) {
        *out = b.root;
    } else {
        json_decref(b.root);
    }
    return status;
}
