/* The one status type of crank: 0 is success, every failure a negative code whose number is pinned.
 * Installed beside crank.h; it knows nobody.
 *
 * A function that can fail returns crank_status and writes its results through pointers. Where a
 * caller may want the reason, it passes a crank_error, which is filled on failure only and may be
 * NULL. Messages name the file, the tensor or key, what was expected and what was found. */
#ifndef CRANK_STATUS_H
#define CRANK_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define CRANK_API __attribute__((visibility("default")))
#else
#define CRANK_API
#endif

/* X(name, number, meaning). Numbers are never reused. */
#define CRANK_STATUS_LIST(X)                                                                       \
    X(OK, 0, "done")                                                                               \
    X(INVALID_ARGUMENT, -1, "an argument is out of its documented range")                          \
    X(OUT_OF_MEMORY, -2, "memory could not be had")                                                \
    X(IO, -3, "a file could not be read or written")                                               \
    X(FORMAT, -4, "a file or a text is malformed")                                                 \
    X(UNSUPPORTED, -5, "well-formed, but not something this build can run")                        \
    X(MODEL, -6, "a model folder or file is incomplete or inconsistent")                           \
    X(DEVICE, -7, "the device is absent or failed")                                                \
    X(NUMERIC, -8, "a weight or a score is not finite")                                            \
    X(LIMIT, -9, "a documented limit was exceeded")                                                \
    X(CANCELLED, -10, "the caller asked to stop")                                                  \
    X(INTERNAL, -70, "a bug in crank")

typedef enum crank_status {
#define CRANK_STATUS_ENUM(name, number, meaning) CRANK_##name = (number),
    CRANK_STATUS_LIST(CRANK_STATUS_ENUM)
#undef CRANK_STATUS_ENUM
} crank_status;

#define CRANK_ERROR_MESSAGE_BYTES 768

/* Why a call failed. Plain memory: the caller owns it, zeroing it is a valid start. */
typedef struct crank_error {
    crank_status status;
    char message[CRANK_ERROR_MESSAGE_BYTES]; /* UTF-8, NUL-terminated, one line */
} crank_error;

/* "OUT_OF_MEMORY" for CRANK_OUT_OF_MEMORY; "UNKNOWN" for a number that is not in the list. */
CRANK_API const char *crank_status_name(crank_status status);
/* The meaning in one phrase, as in the list above. */
CRANK_API const char *crank_status_text(crank_status status);

#ifdef __cplusplus
}
#endif
#endif
