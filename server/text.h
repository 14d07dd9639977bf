/* A text that grows while an answer is written. A failed allocation is remembered and everything
 * after it ignored, so that writers need no checks: look at `failed` once, at the end. */
#ifndef CRANK_SERVER_TEXT_H
#define CRANK_SERVER_TEXT_H

#include <stddef.h>
#include <stdint.h>

typedef struct text {
    char *data;
    size_t n, capacity;
    int failed;
} text;

void text_put(text *t, const char *data, size_t bytes);
void text_puts(text *t, const char *string);
void text_printf(text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_unsigned(text *t, uint64_t value);
/* As a JSON string with its quotes. data: any bytes; what is not UTF-8 becomes U+FFFD. */
void text_json(text *t, const char *data, size_t bytes);
/* 9 significant digits: reading it gives the same float. value must be finite. */
void text_float(text *t, float value);
void text_free(text *t);

#endif
