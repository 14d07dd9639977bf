/* The gate over any method, URI and headers: "METHOD URI\nname:value\n...". What it lets through
 * keeps the promises that the rest of the server relies on. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#ifdef CRANK_HAVE_SERVER
#include "server/gate.h"

static void promise(int holds)
{
    if (!holds) abort();
}

static void check_passed(const gate_verdict *v, const gate_header *headers, size_t n,
                         const gate_limits *limits)
{
    int lengths = 0, encodings = 0, hosts = 0;
    for (size_t i = 0; i < n; i++) {
        lengths += gate_is(&headers[i], "content-length");
        encodings += gate_is(&headers[i], "transfer-encoding");
        hosts += gate_is(&headers[i], "host");
        promise(memchr(headers[i].name, ' ', headers[i].name_bytes) == NULL);
        promise(memchr(headers[i].value, '\0', headers[i].value_bytes) == NULL);
    }
    promise(lengths + encodings <= 1 && hosts <= 1);
    promise(v->length <= limits->body_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { MOST = 64 };
    gate_header headers[MOST] = {{NULL, NULL, 0, 0}};
    gate_limits limits = {2000, 300, 5000, MOST};
    gate_verdict verdict;
    char method[32] = "", *copy = malloc(size + 1);
    if (copy == NULL) return 0;
    memcpy(copy, data, size);
    copy[size] = '\0';
    char *end = memchr(copy, '\n', size), *last = copy + size;
    if (end == NULL) end = last;
    char *blank = memchr(copy, ' ', (size_t)(end - copy));
    char *uri = blank != NULL ? blank + 1 : end;
    size_t method_bytes = (size_t)((blank != NULL ? blank : end) - copy);
    if (method_bytes >= sizeof method) method_bytes = sizeof method - 1;
    memcpy(method, copy, method_bytes);
    size_t n = 0;
    for (char *at = end < last ? end + 1 : last; at < last && n < MOST;) {
        char *stop = memchr(at, '\n', (size_t)(last - at));
        if (stop == NULL) stop = last;
        char *colon = memchr(at, ':', (size_t)(stop - at));
        char *value = colon != NULL ? colon + 1 : stop;
        headers[n++] = (gate_header){at, value, (size_t)((colon != NULL ? colon : stop) - at),
                                     (size_t)(stop - value)};
        at = stop < last ? stop + 1 : last;
    }
    gate_check(&verdict, method, uri, (size_t)(end - uri), headers, n, &limits);
    if (verdict.status == 0) check_passed(&verdict, headers, n, &limits);
    if (verdict.status != 0 && verdict.reason == NULL) abort();
    gate_plain_id(copy, size);
    free(copy);
    return 0;
}
#else
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    (void)data, (void)size;
    return 0;
}
#endif
