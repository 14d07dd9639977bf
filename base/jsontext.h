/* JSON text by RFC 8259, strictly: a reader that walks a text without recursion, and a builder that
 * makes jansson values of it. Everything that parses JSON from files goes through here.
 *
 * jansson's own parser is not used: in 2.14 it ignores that its token buffer could not grow and
 * then reads past the end of it (a failed allocation becomes a heap overflow), skips a raw NUL
 * behind a number, and fails a whole file for one integer beyond 64 bits. Its values are sound.
 *
 * Refused: invalid UTF-8, control characters and lone surrogates in strings, numbers that a double
 * cannot hold, anything before or behind the value, duplicate keys (builder). */
#ifndef CRANK_BASE_JSONTEXT_H
#define CRANK_BASE_JSONTEXT_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

/* The deepest nesting that a reader accepts (serde_json's limit, which safetensors inherits). */
#define JSONTEXT_MAX_DEPTH 127

/* A place in a text. Errors are FORMAT, "LABEL: PLACE: reason". */
typedef struct jsontext_reader {
    char *begin, *at, *end;
    const char *label;
    const char *lines; /* the text as it was, for "line 3, column 7 (byte 40)"; NULL: places are
                        * "header, byte 48", counted from `offset` */
    size_t offset;
    crank_error *error;
} jsontext_reader;

crank_status jsontext_fail(const jsontext_reader *r, const char *at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The next character that is not blank, not taken; NUL at the end. */
char jsontext_peek(jsontext_reader *r);
/* Takes the next character that is not blank, which must be `wanted`. */
crank_status jsontext_expect(jsontext_reader *r, char wanted);
/* Takes a string. keep: unescapes it in place, ends it with a NUL (over its closing quote at the
 * latest) and sets *text; otherwise the text stays as it is. *bytes: unescaped; it may hold NULs.
 */
crank_status jsontext_string_at(jsontext_reader *r, int keep, char **text, size_t *bytes);
/* Takes a non-negative integer below 2^64 and nothing that looks like one. what: for the message.
 */
crank_status jsontext_unsigned_at(jsontext_reader *r, const char *what, uint64_t *value);
/* Takes a number by JSON's grammar, refused where a double cannot hold it. *integer: no fraction,
 * no exponent.
 */
crank_status jsontext_number_at(jsontext_reader *r, int *integer);
/* Takes any value; it stands `depth` levels deep. *members: of an object or array, not counting
 * those of its members. */
crank_status jsontext_skip(jsontext_reader *r, int depth, size_t *members);

struct json_t;

enum {
    JSONTEXT_OBJECT = 1, /* the top must be an object */
    JSONTEXT_LIST = 2,   /* the top must be an array */
    JSONTEXT_NUL = 4,    /* strings may hold NUL (jansson keeps their lengths) */
    /* Reals as Rust's serde_json reads them by default, which may be an ulp from the nearest
     * double: the scores that Hugging Face `tokenizers` computes with. */
    JSONTEXT_SERDE_REALS = 8,
};

typedef struct jsontext_limits {
    unsigned flags;
    int depth;     /* at most JSONTEXT_MAX_DEPTH; 0: that */
    size_t values; /* 0: any number; one takes up to about 130 bytes of memory */
} jsontext_limits;

/* text: `bytes` long, needs no NUL. An integer beyond 64 bits becomes a real.
 * Fails: FORMAT (label, line, column, byte, reason), LIMIT (values), OUT_OF_MEMORY. json_decref. */
crank_status jsontext_tree(struct json_t **out, const char *label, const char *text, size_t bytes,
                           const jsontext_limits *limits, crank_error *error);

#endif
