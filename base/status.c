#include "status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "utf8.h"

const char *crank_status_name(crank_status status)
{
    switch (status) {
#define CASE(name, number, meaning)                                                                \
    case CRANK_##name: return #name;
        CRANK_STATUS_LIST(CASE)
#undef CASE
    }
    return "UNKNOWN";
}

const char *crank_status_text(crank_status status)
{
    switch (status) {
#define CASE(name, number, meaning)                                                                \
    case CRANK_##name: return meaning;
        CRANK_STATUS_LIST(CASE)
#undef CASE
    }
    return "unknown status";
}

/* Names from hostile files end up in messages, and messages in terminals and logs. */
static void make_printable(char *text)
{
    size_t bytes = strlen(text);
    size_t at = 0;
    while (at < bytes) {
        uint32_t code_point;
        int width = utf8_decode((const uint8_t *)text + at, bytes - at, &code_point);
        if (width <= 0 && at + 4 > CRANK_ERROR_MESSAGE_BYTES - 1) { /* cut inside a character */
            text[at] = '\0';
            return;
        }
        if (width <= 0) {
            text[at++] = '?';
        } else {
            if (code_point < 0x20 || (code_point >= 0x7F && code_point < 0xA0)) {
                memset(text + at, '?', (size_t)width);
            }
            at += (size_t)width;
        }
    }
}

crank_status status_fail(crank_error *error, crank_status status, const char *format, ...)
{
    if (error != NULL) {
        va_list arguments;
        va_start(arguments, format);
        error->status = status;
        vsnprintf(error->message, sizeof error->message, format, arguments);
        va_end(arguments);
        make_printable(error->message);
    }
    return status;
}

crank_status status_prefix(crank_error *error, crank_status status, const char *format, ...)
{
    if (error == NULL) return status;
    char old[CRANK_ERROR_MESSAGE_BYTES];
    memcpy(old, error->message, sizeof old);
    va_list arguments;
    va_start(arguments, format);
    int used = vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    if (used >= 0 && (size_t)used < sizeof error->message) {
        size_t room = sizeof error->message - (size_t)used; /* what does not fit is cut */
        if (snprintf(error->message + used, room, ": %s", old) < 0) error->message[used] = '\0';
    }
    error->status = status;
    make_printable(error->message);
    return status;
}
