/* simdjson behind body.h and our own fault finder must agree on what is JSON. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#ifdef CRANK_HAVE_SERVER
#include "server/body.h"

static size_t touched;

static int walk(void *user, const char *key, size_t bytes, body_value value);

static int walk_item(void *user, size_t i, body_value value)
{
    (void)i;
    return walk(user, "", 0, value);
}

static int walk(void *user, const char *key, size_t bytes, body_value value)
{
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++) touched += (unsigned char)key[i];
    switch (body_kind_of(value)) {
    case BODY_STRING: {
        const char *s = body_string(value, &n);
        for (size_t i = 0; i < n; i++) touched += (unsigned char)s[i];
        break;
    }
    case BODY_ARRAY: body_array_each(value, walk_item, user); break; /* depth is bounded: 64 */
    case BODY_OBJECT: body_object_each(value, walk, user); break;
    case BODY_BOOL: touched += (size_t)body_bool(value); break;
    case BODY_INTEGER: touched += (size_t)body_integer(value); break;
    case BODY_NULL:
    case BODY_REAL: break;
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static body_parser *parser;
    if (parser == NULL) parser = body_parser_open();
    char *padded = calloc(size + BODY_PADDING, 1);
    if (padded == NULL || parser == NULL) {
        free(padded);
        return 0;
    }
    if (size > 0) memcpy(padded, data, size);
    body_document *document;
    body_value root;
    body_outcome outcome = body_parse(parser, padded, size, &document, &root);
    const char *reason;
    size_t at = body_fault(padded, size, &reason);
    int duplicate = reason != NULL && strcmp(reason, "duplicate key") == 0;
    if (outcome == BODY_OK && at != SIZE_MAX && !duplicate) abort();
    if (outcome == BODY_FAULT && at == SIZE_MAX) abort();
    if (at != SIZE_MAX && at > size) abort();
    if (outcome == BODY_OK) walk(NULL, "", 0, root);
    body_document_close(document);
    free(padded);
    return 0;
}
#else
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    (void)data, (void)size;
    return 0;
}
#endif
