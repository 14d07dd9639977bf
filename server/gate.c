/* RFC 9110 and 9112: field names are tokens (5.6.2), framing is by exactly one of Content-Length
 * and Transfer-Encoding: chunked (9112, 6.3), one Host (9112, 3.2). */
#include "server/gate.h"

#include <string.h>
#include <strings.h>

int gate_is(const gate_header *header, const char *name)
{
    return header->name_bytes == strlen(name) &&
           strncasecmp(header->name, name, header->name_bytes) == 0;
}

int gate_plain_id(const char *value, size_t bytes)
{
    if (bytes < 1 || bytes > 128) return 0;
    for (size_t i = 0; i < bytes; i++)
        if (value[i] <= 0x20 || value[i] >= 0x7F || value[i] == '"' || value[i] == '\\') return 0;
    return 1;
}

static int is_token(const char *text, size_t bytes)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < bytes; i++) {
        char c = text[i];
        int letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && (c == '\0' || strchr(others, c) == NULL)) return 0;
    }
    return bytes > 0;
}

static int value_is(const gate_header *header, const char *text)
{
    return header->value_bytes == strlen(text) &&
           strncasecmp(header->value, text, header->value_bytes) == 0;
}

static void refuse(gate_verdict *v, int status, const char *reason)
{
    if (v->status != 0) return;
    v->status = status;
    v->reason = reason;
}

static void read_length(gate_verdict *v, const gate_header *h)
{
    if (v->has_length) refuse(v, 400, "more than one Content-Length");
    v->has_length = 1;
    if (h->value_bytes == 0) refuse(v, 400, "Content-Length must be decimal digits");
    for (size_t i = 0; i < h->value_bytes; i++) {
        unsigned digit = (unsigned)(h->value[i] - '0');
        if (h->value[i] < '0' || digit > 9) {
            refuse(v, 400, "Content-Length must be decimal digits");
            return;
        }
        if (v->length > (UINT64_MAX - digit) / 10) {
            refuse(v, 413, "the body is larger than the limit");
            return;
        }
        v->length = v->length * 10 + digit;
    }
}

static void check_header(gate_verdict *v, const gate_header *h, int *hosts)
{
    if (!is_token(h->name, h->name_bytes)) refuse(v, 400, "a header name holds a blank or control");
    for (size_t i = 0; i < h->value_bytes; i++) {
        unsigned char c = (unsigned char)h->value[i];
        if ((c < 0x20 && c != '\t') || c == 0x7F)
            refuse(v, 400, "a header value holds a control character");
    }
    if (gate_is(h, "host") && ++*hosts > 1) refuse(v, 400, "more than one Host");
    if (gate_is(h, "content-length")) read_length(v, h);
    if (gate_is(h, "transfer-encoding")) {
        if (v->chunked || !value_is(h, "chunked"))
            refuse(v, 400, "Transfer-Encoding must be chunked, once");
        v->chunked = 1;
    }
    if (gate_is(h, "content-encoding") && !value_is(h, "identity") && h->value_bytes > 0)
        refuse(v, 415, "bodies with a Content-Encoding are not read");
}

void gate_check(gate_verdict *v, const char *method, const char *uri, size_t uri_bytes,
                const gate_header *headers, size_t n, const gate_limits *limits)
{
    *v = (gate_verdict){0};
    if (!is_token(method, strlen(method))) refuse(v, 400, "the method is not a token");
    if (uri_bytes > limits->uri_bytes) refuse(v, 414, "the URI is too long");
    if (uri_bytes == 0 || uri[0] != '/') refuse(v, 400, "the URI must be a path");
    for (size_t i = 0; i < uri_bytes; i++)
        if ((unsigned char)uri[i] <= 0x20 || uri[i] == 0x7F)
            refuse(v, 400, "the URI holds a blank or control character");
    if (n > limits->headers) refuse(v, 431, "too many headers");
    size_t total = 0;
    int hosts = 0;
    for (size_t i = 0; i < n; i++) {
        total += headers[i].name_bytes + headers[i].value_bytes + 4;
        check_header(v, &headers[i], &hosts);
    }
    if (total > limits->header_bytes) refuse(v, 431, "the headers are too large");
    if (v->chunked && v->has_length)
        refuse(v, 400, "Content-Length and Transfer-Encoding together");
    int has_body = strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0;
    if (has_body && !v->chunked && !v->has_length)
        refuse(v, 411, "a body needs Content-Length or Transfer-Encoding: chunked");
    if (v->length > limits->body_bytes) refuse(v, 413, "the body is larger than the limit");
}
