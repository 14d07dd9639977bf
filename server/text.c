#include "server/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "server/alloc.h"

static int reserve(text *t, size_t more)
{
    if (t->failed) return 0;
    if (more <= t->capacity - t->n) return 1;
    size_t capacity = t->capacity > 0 ? t->capacity : 512;
    while (capacity - t->n < more && capacity <= SIZE_MAX / 2) capacity *= 2;
    char *data = server_grow(t->data, capacity, 1);
    if (data == NULL || capacity - t->n < more) {
        if (data != NULL) t->data = data;
        t->failed = 1;
        return 0;
    }
    t->data = data;
    t->capacity = capacity;
    return 1;
}

void text_put(text *t, const char *data, size_t bytes)
{
    if (bytes == 0 || !reserve(t, bytes)) return;
    memcpy(t->data + t->n, data, bytes);
    t->n += bytes;
}

void text_puts(text *t, const char *string)
{
    text_put(t, string, strlen(string));
}

void text_printf(text *t, const char *format, ...)
{
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (n > 0) text_put(t, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
}

void text_unsigned(text *t, uint64_t value)
{
    char digits[24];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    text_put(t, digits + at, sizeof digits - at);
}

/* The width of a well-formed UTF-8 sequence at data (RFC 3629), or 0. */
static size_t utf8_width(const unsigned char *s, size_t bytes)
{
    if (s[0] < 0x80) return 1;
    size_t width = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    if (s[0] < 0xC2 || s[0] > 0xF4 || bytes < width) return 0;
    for (size_t i = 1; i < width; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    if (s[0] == 0xE0 && s[1] < 0xA0) return 0;
    if (s[0] == 0xED && s[1] > 0x9F) return 0;
    if (s[0] == 0xF0 && s[1] < 0x90) return 0;
    if (s[0] == 0xF4 && s[1] > 0x8F) return 0;
    return width;
}

void text_json(text *t, const char *data, size_t bytes)
{
    const unsigned char *s = (const unsigned char *)data;
    text_put(t, "\"", 1);
    size_t plain = 0; /* start of what needs no change */
    for (size_t i = 0; i < bytes;) {
        if (s[i] >= 0x20 && s[i] < 0x7F && s[i] != '"' && s[i] != '\\') {
            i++;
            continue;
        }
        size_t width = utf8_width(s + i, bytes - i);
        if (width > 1) {
            i += width;
            continue;
        }
        text_put(t, data + plain, i - plain);
        if (width == 0) {
            text_puts(t, "\xEF\xBF\xBD");
        } else if (s[i] == '"' || s[i] == '\\') {
            char escaped[2] = {'\\', data[i]};
            text_put(t, escaped, 2);
        } else if (s[i] == '\n') {
            text_put(t, "\\n", 2);
        } else {
            text_printf(t, "\\u%04x", s[i]);
        }
        plain = ++i;
    }
    text_put(t, data + plain, bytes - plain);
    text_put(t, "\"", 1);
}

void text_float(text *t, float value)
{
    text_printf(t, "%.9g", (double)value);
}

void text_free(text *t)
{
    server_free(t->data);
    *t = (text){0};
}
