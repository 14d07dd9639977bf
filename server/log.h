/* One line on stderr for every request and event: JSON for machines, plain for people. A line is
 * one write(2), so that lines of several threads do not mix. */
#ifndef CRANK_SERVER_LOG_H
#define CRANK_SERVER_LOG_H

#include <stdint.h>

#include "server/text.h"

typedef enum log_form { LOG_JSON, LOG_TEXT, LOG_NONE } log_form;

typedef struct log_writer {
    log_form form;
    int fd;
} log_writer;

/* Opens a line: time, level, event. Then fields, then log_end. */
void log_begin(const log_writer *log, text *line, const char *level, const char *event);
void log_string(const log_writer *log, text *line, const char *name, const char *value);
void log_number(const log_writer *log, text *line, const char *name, int64_t value);
void log_end(const log_writer *log, text *line);

#endif
