#include "server/log.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

void log_begin(const log_writer *log, text *line, const char *level, const char *event)
{
    *line = (text){0};
    if (log->form == LOG_NONE) return;
    struct timespec now;
    struct tm utc;
    char stamp[32];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
    if (log->form == LOG_JSON)
        text_printf(line, "{\"time\":\"%s.%06ldZ\",\"level\":\"%s\",\"event\":\"%s\"", stamp,
                    now.tv_nsec / 1000, level, event);
    else
        text_printf(line, "%s.%03ldZ %s %s", stamp, now.tv_nsec / 1000000, level, event);
}

void log_string(const log_writer *log, text *line, const char *name, const char *value)
{
    if (log->form == LOG_NONE) return;
    text_printf(line, log->form == LOG_JSON ? ",\"%s\":" : " %s=", name);
    text_json(line, value, strlen(value));
}

void log_number(const log_writer *log, text *line, const char *name, int64_t value)
{
    if (log->form == LOG_NONE) return;
    text_printf(line, log->form == LOG_JSON ? ",\"%s\":%lld" : " %s=%lld", name, (long long)value);
}

void log_end(const log_writer *log, text *line)
{
    if (log->form != LOG_NONE) {
        text_puts(line, log->form == LOG_JSON ? "}\n" : "\n");
        /* A log that cannot be written must not stop an answer. */
        if (!line->failed && write(log->fd, line->data, line->n) < 0) line->failed = 1;
    }
    text_free(line);
}
