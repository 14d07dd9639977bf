/* Where a JSON text is wrong: one pass without recursion, run only when simdjson has refused a body
 * (or a key stands twice). It accepts exactly what body_parse accepts; a fuzzer compares the two.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/body.h"

#define MAX_KEYS 64

typedef struct scan {
    const unsigned char *at, *begin, *end;
    const char *reason;
} scan;

static int fail(scan *s, const char *reason)
{
    s->reason = reason;
    return 0;
}

static void blanks(scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r'))
        s->at++;
}

static int hex4(scan *s, unsigned *value)
{
    *value = 0;
    for (int i = 0; i < 4; i++) {
        if (s->at >= s->end) return fail(s, "the text ends inside a string");
        unsigned c = *s->at;
        unsigned digit = c >= '0' && c <= '9'   ? c - '0'
                         : c >= 'a' && c <= 'f' ? c - 'a' + 10
                         : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                : 16;
        if (digit == 16) return fail(s, "\\u needs four hexadecimal digits");
        *value = *value * 16 + digit;
        s->at++;
    }
    return 1;
}

static int escape(scan *s)
{
    const unsigned char *start = s->at - 1;
    if (s->at >= s->end) return fail(s, "the text ends inside a string");
    unsigned char c = *s->at++;
    if (c != 'u') {
        if (strchr("\"\\/bfnrt", c) != NULL && c != '\0') return 1;
        s->at--;
        return fail(s, "unknown escape in a string");
    }
    unsigned high, low;
    if (!hex4(s, &high)) return 0;
    if (high < 0xD800 || high > 0xDFFF) return 1;
    int paired = high < 0xDC00 && s->end - s->at >= 2 && s->at[0] == '\\' && s->at[1] == 'u';
    if (paired) {
        s->at += 2;
        if (!hex4(s, &low)) return 0;
        paired = low >= 0xDC00 && low <= 0xDFFF;
    }
    if (paired) return 1;
    s->at = start;
    return fail(s, "lone surrogate in a string");
}

static int utf8(scan *s)
{
    const unsigned char *c = s->at;
    size_t left = (size_t)(s->end - c), width = c[0] >= 0xF0 ? 4 : c[0] >= 0xE0 ? 3 : 2;
    int good = c[0] >= 0xC2 && c[0] <= 0xF4 && left >= width;
    for (size_t i = 1; good && i < width; i++) good = (c[i] & 0xC0) == 0x80;
    if (good && width == 3) good = !(c[0] == 0xE0 && c[1] < 0xA0) && !(c[0] == 0xED && c[1] > 0x9F);
    if (good && width == 4) good = !(c[0] == 0xF0 && c[1] < 0x90) && !(c[0] == 0xF4 && c[1] > 0x8F);
    if (!good) return fail(s, "invalid UTF-8");
    s->at += width;
    return 1;
}

static int string(scan *s)
{
    s->at++; /* the quote */
    while (s->at < s->end) {
        unsigned char c = *s->at;
        if (c == '"') {
            s->at++;
            return 1;
        }
        if (c < 0x20) return fail(s, "control character in a string (escape it)");
        if (c >= 0x80) {
            if (!utf8(s)) return 0;
        } else {
            s->at++;
            if (c == '\\' && !escape(s)) return 0;
        }
    }
    return fail(s, "the text ends inside a string");
}

static int digits(scan *s)
{
    const unsigned char *start = s->at;
    while (s->at < s->end && *s->at >= '0' && *s->at <= '9') s->at++;
    return s->at > start;
}

static int number(scan *s)
{
    const unsigned char *start = s->at;
    if (*s->at == '-') s->at++;
    if (s->at < s->end && *s->at == '0') {
        s->at++;
    } else if (!digits(s)) {
        return fail(s, "a number needs a digit here");
    }
    int real = 0;
    if (s->at < s->end && *s->at == '.') {
        real = 1;
        s->at++;
        if (!digits(s)) return fail(s, "a number needs a digit here");
    }
    if (s->at < s->end && (*s->at | 0x20) == 'e') {
        real = 1;
        s->at++;
        if (s->at < s->end && (*s->at == '+' || *s->at == '-')) s->at++;
        if (!digits(s)) return fail(s, "a number needs a digit here");
    }
    const unsigned char *end = s->at;
    if (end < s->end && strchr(" \t\r\n,]}", *end) == NULL)
        return fail(s, "unexpected character behind a number");
    /* The value matters only for its size: too large for a double. Whole numbers of any length are
     * read as reals (body_whole_to_real), which are looked at here once they are. */
    size_t bytes = (size_t)(end - start);
    if (real) {
        char stack[64], *copy = bytes < sizeof stack ? stack : malloc(bytes + 1);
        if (copy == NULL) return 1;
        memcpy(copy, start, bytes);
        copy[bytes] = '\0';
        int finite = isfinite(strtod(copy, NULL));
        if (copy != stack) free(copy);
        s->at = start;
        if (!finite) return fail(s, "the number is too large");
        s->at = end;
        return 1;
    }
    return 1;
}

static int word(scan *s, const char *expected)
{
    size_t n = strlen(expected);
    if ((size_t)(s->end - s->at) < n || memcmp(s->at, expected, n) != 0)
        return fail(s, "expected a value");
    s->at += n;
    if (s->at < s->end && strchr(" \t\r\n,]}", *s->at) == NULL)
        return fail(s, "unexpected character behind a value");
    return 1;
}

static int scalar(scan *s)
{
    switch (*s->at) {
    case '"': return string(s);
    case 't': return word(s, "true");
    case 'f': return word(s, "false");
    case 'n': return word(s, "null");
    default: break;
    }
    if (*s->at == '-' || (*s->at >= '0' && *s->at <= '9')) return number(s);
    return fail(s, "expected a value");
}

typedef struct keys {
    const unsigned char *at[MAX_KEYS];
    size_t bytes[MAX_KEYS], n;
} keys;

static int key(scan *s, keys *seen, int outermost)
{
    blanks(s);
    if (s->at >= s->end) return fail(s, "the text ends inside an object");
    if (*s->at != '"') return fail(s, "expected a key in quotes");
    const unsigned char *start = s->at;
    if (!string(s)) return 0;
    size_t bytes = (size_t)(s->at - start);
    for (size_t i = 0; outermost && i < seen->n; i++) {
        if (seen->bytes[i] != bytes || memcmp(seen->at[i], start, bytes) != 0) continue;
        s->at = start;
        return fail(s, "duplicate key");
    }
    if (outermost && seen->n < MAX_KEYS) {
        seen->at[seen->n] = start;
        seen->bytes[seen->n++] = bytes;
    }
    blanks(s);
    if (s->at >= s->end || *s->at != ':') return fail(s, "expected ':' behind a key");
    s->at++;
    return 1;
}

static int value_tree(scan *s)
{
    char open[BODY_MAX_DEPTH]; /* '[' or '{' of each level */
    int depth = 0;
    keys seen = {.n = 0};
    for (;;) {
        /* A value is due. */
        blanks(s);
        if (s->at >= s->end)
            return fail(s, s->begin == s->end ? "empty" : "the text ends too early");
        unsigned char c = *s->at;
        if (c == '[' || c == '{') {
            if (depth == BODY_MAX_DEPTH) return fail(s, "nested too deeply");
            open[depth++] = (char)c;
            s->at++;
            blanks(s);
            int empty = s->at < s->end && *s->at == (c == '[' ? ']' : '}');
            if (!empty) {
                if (c == '{' && !key(s, &seen, depth == 1)) return 0;
                continue;
            }
        } else if (!scalar(s)) {
            return 0;
        }
        /* Behind a value: close levels, or go to the next member. */
        for (;;) {
            if (depth == 0) {
                blanks(s);
                return s->at == s->end ? 1 : fail(s, "unexpected text behind the value");
            }
            blanks(s);
            if (s->at >= s->end) return fail(s, "the text ends too early");
            c = *s->at;
            if (c == (open[depth - 1] == '[' ? ']' : '}')) {
                depth--;
                s->at++;
                continue;
            }
            if (c != ',') return fail(s, "expected ',' or the end of the list or object");
            s->at++;
            if (open[depth - 1] == '{' && !key(s, &seen, depth == 1)) return 0;
            break;
        }
    }
}

size_t body_fault(const char *data, size_t bytes, const char **reason)
{
    scan s = {.at = (const unsigned char *)data,
              .begin = (const unsigned char *)data,
              .end = (const unsigned char *)data + bytes};
    *reason = NULL;
    if (value_tree(&s)) return SIZE_MAX;
    *reason = s.reason;
    return (size_t)(s.at - s.begin);
}

/* ---- whole numbers beyond 64 bits ---- */

static int fits_64_bits(const char *digits, size_t n, int negative)
{
    const char *most = negative ? "9223372036854775808" : "18446744073709551615";
    size_t width = strlen(most);
    return n < width || (n == width && memcmp(digits, most, n) <= 0);
}

/* 123...789 [n] becomes 1.23...7e28 in as many bytes. */
static void write_real(char *digits, size_t n)
{
    char exponent[24];
    size_t width = (size_t)snprintf(exponent, sizeof exponent, "e%zu", n - 1);
    memmove(digits + 2, digits + 1, n - 2 - width);
    digits[1] = '.';
    memcpy(digits + n - width, exponent, width);
}

/* Where the string that begins at i ends: behind its quote. */
static size_t skip_string(const char *data, size_t bytes, size_t i)
{
    for (i++; i < bytes && data[i] != '"'; i++)
        if (data[i] == '\\') i++;
    return i + 1;
}

size_t body_whole_to_real(char *data, size_t bytes)
{
    size_t changed = 0;
    for (size_t i = 0; i < bytes;) {
        if (data[i] == '"') {
            i = skip_string(data, bytes, i);
            continue;
        }
        size_t n = 0;
        while (i + n < bytes && data[i + n] >= '0' && data[i + n] <= '9') n++;
        if (n == 0) {
            i++;
            continue;
        }
        int negative = i > 0 && data[i - 1] == '-';
        /* Digits of a fraction or an exponent are not a whole number's, nor is what begins with 0.
         */
        char before = i > (size_t)negative ? data[i - 1 - (size_t)negative] : ' ';
        char behind = i + n < bytes ? data[i + n] : ' ';
        if (strchr(" \t\r\n,:[", before) != NULL && strchr(".eE", behind) == NULL &&
            data[i] != '0' && !fits_64_bits(data + i, n, negative)) {
            write_real(data + i, n);
            changed++;
        }
        i += n;
    }
    return changed;
}
