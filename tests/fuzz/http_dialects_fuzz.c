/* A body on every path: read in the dialect that it chooses, answered with made-up scores; the
 * answer, or the error, must be JSON again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#ifdef CRANK_HAVE_SERVER
#include "server/dialects.h"

static void expect_json(text *out)
{
    const char *reason;
    if (out->failed) return;
    if (body_fault(out->data, out->n, &reason) != SIZE_MAX) abort();
    text_free(out);
}

static void answer(const dialect *d, const dialect_request *request)
{
    dialect_scored *results = calloc(request->n, sizeof *results);
    if (results == NULL) return;
    for (size_t i = 0; i < request->n; i++)
        results[i] =
            (dialect_scored){.index = i, .score = (float)(i * 7919 % 13) / 13, .tokens = 3};
    dialect_answer a = {.model = "m", .id = "1", .request = request, .results = results};
    a.n = dialect_order(results, request->n, d, request);
    text out = {0};
    d->write(&out, &a);
    expect_json(&out);
    free(results);
}

static void speak(const char *path, const dialect *fixed, const dialect_fields *fields,
                  const char *client)
{
    dialect_limits limits = {100};
    dialect_problem problem = {0};
    dialect_request request;
    const dialect *d = dialect_choose(path, fixed, fields, client);
    if (d == NULL) abort();
    if (dialect_read(&request, d, fields, &limits, &problem)) {
        if (request.n == 0 || request.n > 100) abort();
        answer(d, &request);
    } else {
        text out = {0};
        if (dialect_status(d, problem.fault) < 400) abort();
        dialect_write_error(&out, d, problem.fault, problem.message);
        expect_json(&out);
    }
    dialect_request_free(&request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const paths[] = {"/rerank",    "/reranking",  "/v1/rerank",
                                        "/v2/rerank", "/v1/ranking", "/score"};
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
    dialect_fields fields;
    dialect_problem problem = {0};
    if (body_parse(parser, padded, size, &document, &root) == BODY_OK &&
        dialect_fields_read(&fields, root, &problem)) {
        for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
            speak(paths[i], NULL, &fields, NULL);
            speak(paths[i], NULL, &fields, "cohere-python");
            speak(paths[i], &dialects[size % n_dialects], &fields, NULL);
        }
    }
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
