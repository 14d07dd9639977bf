/* JSON bodies of requests: simdjson behind a C interface (body.cc is the only C++ file of crank).
 *
 * simdjson takes 16 us for 100 documents of 1 KB and is strict (RFC 8259: no bad UTF-8, lone
 * surrogates, raw controls, trailing text), but says nothing about where a fault is; body_fault
 * finds the place afterwards, for 400 answers only.
 *
 * A parser belongs to one thread; a document owns the strings of one body and outlives the parse.
 */
#ifndef CRANK_SERVER_BODY_H
#define CRANK_SERVER_BODY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes that a body's buffer must have behind its end (simdjson reads whole vectors). */
#define BODY_PADDING 64
#define BODY_MAX_DEPTH 64

typedef struct body_parser body_parser;
typedef struct body_document body_document;

typedef struct body_value { /* a place in a document */
    uint64_t opaque[2];
} body_value;

typedef enum body_kind {
    BODY_NULL,
    BODY_BOOL,
    BODY_INTEGER, /* fits int64_t */
    BODY_REAL,    /* any other number */
    BODY_STRING,
    BODY_ARRAY,
    BODY_OBJECT,
} body_kind;

typedef enum body_outcome { BODY_OK, BODY_FAULT, BODY_NO_MEMORY } body_outcome;

body_parser *body_parser_open(void); /* NULL: no memory */
void body_parser_close(body_parser *parser);

/* data: [bytes + BODY_PADDING]. *document: close it when its strings are no longer needed. Whole
 * numbers beyond 64 bits, which JSON has and simdjson has not, become reals in data. */
body_outcome body_parse(body_parser *parser, char *data, size_t bytes, body_document **document,
                        body_value *root);
void body_document_close(body_document *document);

body_kind body_kind_of(body_value value);
int body_bool(body_value value);
int64_t body_integer(body_value value);
/* UTF-8, may hold NUL; lives as long as the document. */
const char *body_string(body_value value, size_t *bytes);

/* Calls visit for each member in order; non-zero ends the walk and is returned. */
typedef int (*body_visit)(void *user, const char *key, size_t key_bytes, body_value value);
int body_object_each(body_value object, body_visit visit, void *user);
typedef int (*body_visit_item)(void *user, size_t index, body_value value);
int body_array_each(body_value array, body_visit_item visit, void *user);
size_t body_array_size(body_value array);

/* Where and why `data` is no JSON text by the rules above: the byte offset, and the reason;
 * SIZE_MAX when it is one. Also finds a key of the outermost object that was there before (as
 * written). */
size_t body_fault(const char *data, size_t bytes, const char **reason);
/* Writes the whole numbers outside strings that do not fit 64 bits as reals, each in its own bytes;
 * returns how many there were. What is no JSON does not become JSON. */
size_t body_whole_to_real(char *data, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
