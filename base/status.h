/* Check-and-forward macros around crank_status: the only way in which errors travel inside crank.
 *
 *     CRANK_TRY(safetensors_open(path, &file, error));                        forward a failure
 *     CRANK_CHECK(rows > 0, MODEL, error, "%s: %d rows", name, rows);         make one
 *
 * Functions with something to release use the GOTO forms, which store the status in a local
 * variable `status` and jump to the label `out`. */
#ifndef CRANK_BASE_STATUS_H
#define CRANK_BASE_STATUS_H

#include "crank_status.h"

/* Fills *error (may be NULL) and returns status, so that a function can end in
 * `return status_fail(...)`. The message is cut at CRANK_ERROR_MESSAGE_BYTES on a UTF-8 boundary;
 * control characters and invalid UTF-8 in it (they come from hostile files) become '?'. */
crank_status status_fail(crank_error *error, crank_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before a message that is already there: callers add the file name that a deeper
 * layer did not know. Returns error's status (INTERNAL when error is NULL). */
crank_status status_prefix(crank_error *error, crank_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define CRANK_TRY(call)                                                                            \
    do {                                                                                           \
        crank_status crank_try_status_ = (call);                                                   \
        if (crank_try_status_ != CRANK_OK) return crank_try_status_;                               \
    } while (0)

#define CRANK_TRY_GOTO(call)                                                                       \
    do {                                                                                           \
        status = (call);                                                                           \
        if (status != CRANK_OK) goto out;                                                          \
    } while (0)

#define CRANK_CHECK(condition, code, error, ...)                                                   \
    do {                                                                                           \
        if (!(condition)) return status_fail((error), CRANK_##code, __VA_ARGS__);                  \
    } while (0)

#define CRANK_CHECK_GOTO(condition, code, error, ...)                                              \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            status = status_fail((error), CRANK_##code, __VA_ARGS__);                              \
            goto out;                                                                              \
        }                                                                                          \
    } while (0)

#endif
