/* What may pass to the HTTP library's body reader and to the routes: a check of method, URI and
 * headers that is stricter than libmicrohttpd, which lets through what proxies in front may read
 * differently (request smuggling). Pure: no connection, no clock; fuzzed as it is. */
#ifndef CRANK_SERVER_GATE_H
#define CRANK_SERVER_GATE_H

#include <stddef.h>
#include <stdint.h>

typedef struct gate_header {
    const char *name, *value;
    size_t name_bytes, value_bytes;
} gate_header;

typedef struct gate_limits {
    size_t header_bytes, uri_bytes, body_bytes, headers;
} gate_limits;

typedef struct gate_verdict {
    int status; /* 0: let it through; else 400, 411, 413, 414, 415, 431 */
    const char *reason;
    int has_length, chunked;
    uint64_t length;
} gate_verdict;

void gate_check(gate_verdict *verdict, const char *method, const char *uri, size_t uri_bytes,
                const gate_header *headers, size_t n, const gate_limits *limits);

/* Names of headers compare without case. */
int gate_is(const gate_header *header, const char *name);
/* An id that a client sent is echoed in headers and logs only if it is 1 to 128 printable ASCII
 * characters without quotes and backslashes. */
int gate_plain_id(const char *value, size_t bytes);

#endif
