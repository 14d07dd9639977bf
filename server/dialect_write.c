/* Answers and errors, dialect by dialect. Every writer walks the results in their order; a window's
 * span is added where the client asked for it ("return_window", ours). */
#include "server/dialect_write.h"

#include <string.h>

static void put_string(text *out, const char *s)
{
    text_json(out, s, strlen(s));
}

static const crank_text *document_of(const dialect_answer *a, const dialect_scored *r)
{
    return &a->request->pairs[r->index].document;
}

static void put_window(text *out, const dialect_answer *a, const dialect_scored *r)
{
    if (a->request->return_window)
        text_printf(out, ",\"window\":{\"start\":%u,\"bytes\":%u}", r->window_start,
                    r->window_bytes);
}

/* {"index":I,"NAME":score */
static void open_result(text *out, size_t i, const dialect_scored *r, const char *name)
{
    text_puts(out, i > 0 ? ",{\"index\":" : "{\"index\":");
    text_unsigned(out, r->index);
    text_puts(out, ",\"");
    text_puts(out, name);
    text_puts(out, "\":");
    text_float(out, r->score);
}

/* wrapped: {"text": ...}, else the bare string. */
static void put_document(text *out, const dialect_answer *a, const dialect_scored *r, int wrapped)
{
    const crank_text *doc = document_of(a, r);
    text_puts(out, wrapped ? ",\"document\":{\"text\":" : ",\"document\":");
    text_json(out, doc->data, doc->bytes);
    if (wrapped) text_puts(out, "}");
}

static void put_results(text *out, const dialect_answer *a, int wrapped)
{
    text_puts(out, "[");
    for (size_t i = 0; i < a->n; i++) {
        open_result(out, i, &a->results[i], "relevance_score");
        if (a->request->return_documents) put_document(out, a, &a->results[i], wrapped);
        put_window(out, a, &a->results[i]);
        text_puts(out, "}");
    }
    text_puts(out, "]");
}

static void put_usage(text *out, const dialect_answer *a)
{
    text_printf(out, "\"usage\":{\"prompt_tokens\":%zu,\"total_tokens\":%zu}", a->tokens,
                a->tokens);
}

static void put_named(text *out, const char *name, const char *value)
{
    text_printf(out, "\"%s\":", name);
    put_string(out, value);
}

void write_tei(text *out, const dialect_answer *a)
{
    text_puts(out, "[");
    for (size_t i = 0; i < a->n; i++) {
        const dialect_scored *r = &a->results[i];
        open_result(out, i, r, "score");
        if (a->request->return_documents) {
            text_puts(out, ",\"text\":");
            text_json(out, document_of(a, r)->data, document_of(a, r)->bytes);
        }
        put_window(out, a, r);
        text_puts(out, "}");
    }
    text_puts(out, "]");
}

void write_infinity(text *out, const dialect_answer *a)
{
    text_puts(out, "{\"object\":\"rerank\",\"results\":[");
    for (size_t i = 0; i < a->n; i++) {
        open_result(out, i, &a->results[i], "relevance_score");
        if (a->request->return_documents)
            put_document(out, a, &a->results[i], 0);
        else
            text_puts(out, ",\"document\":null");
        put_window(out, a, &a->results[i]);
        text_puts(out, "}");
    }
    text_puts(out, "],");
    put_named(out, "model", a->model);
    text_puts(out, ",");
    put_usage(out, a);
    text_printf(out, ",\"id\":\"infinity-%s\",\"created\":%lld}", a->id, (long long)a->created);
}

void write_voyage(text *out, const dialect_answer *a)
{
    text_puts(out, "{\"object\":\"list\",\"data\":");
    put_results(out, a, 0);
    text_puts(out, ",");
    put_named(out, "model", a->model);
    text_printf(out, ",\"usage\":{\"total_tokens\":%zu}}", a->tokens);
}

void write_vllm(text *out, const dialect_answer *a)
{
    text_printf(out, "{\"id\":\"rerank-%s\",", a->id);
    put_named(out, "model", a->model);
    text_puts(out, ",");
    put_usage(out, a);
    text_puts(out, ",\"results\":");
    put_results(out, a, 1);
    text_puts(out, "}");
}

void write_cohere(text *out, const dialect_answer *a)
{
    text_puts(out, "{");
    put_named(out, "id", a->id);
    text_puts(out, ",\"results\":");
    put_results(out, a, 1);
    text_printf(
        out,
        ",\"meta\":{\"api_version\":{\"version\":\"2\"},\"billed_units\":{\"search_units\":1},"
        "\"tokens\":{\"input_tokens\":%zu}}}",
        a->tokens);
}

void write_jina(text *out, const dialect_answer *a)
{
    text_puts(out, "{");
    put_named(out, "id", a->id);
    text_puts(out, ",");
    put_named(out, "model", a->model);
    text_puts(out, ",\"object\":\"list\",");
    put_usage(out, a);
    text_puts(out, ",\"results\":");
    put_results(out, a, 1);
    text_puts(out, "}");
}

void write_llama(text *out, const dialect_answer *a)
{
    text_puts(out, "{");
    put_named(out, "model", a->model);
    text_puts(out, ",\"object\":\"list\",");
    put_usage(out, a);
    text_puts(out, ",\"results\":");
    put_results(out, a, 1);
    text_puts(out, "}");
}

void write_nim(text *out, const dialect_answer *a)
{
    text_puts(out, "{\"rankings\":[");
    for (size_t i = 0; i < a->n; i++) {
        open_result(out, i, &a->results[i], "logit");
        put_window(out, a, &a->results[i]);
        text_puts(out, "}");
    }
    text_puts(out, "]}");
}

void write_score(text *out, const dialect_answer *a)
{
    text_printf(out, "{\"id\":\"score-%s\",\"object\":\"list\",\"created\":%lld,", a->id,
                (long long)a->created);
    put_named(out, "model", a->model);
    text_puts(out, ",\"data\":[");
    for (size_t i = 0; i < a->n; i++) {
        open_result(out, i, &a->results[i], "score");
        text_puts(out, ",\"object\":\"score\"");
        put_window(out, a, &a->results[i]);
        text_puts(out, "}");
    }
    text_puts(out, "],");
    put_usage(out, a);
    text_puts(out, "}");
}

/* ---- errors ---- */

void error_tei(text *out, int status, dialect_fault fault, const char *message)
{
    (void)status;
    text_puts(out, "{");
    put_named(out, "error", message);
    text_puts(out, ",");
    put_named(out, "error_type", dialect_tei_type(fault));
    text_puts(out, "}");
}

void error_openai(text *out, int status, dialect_fault fault, const char *message)
{
    text_puts(out, "{\"error\":{");
    put_named(out, "message", message);
    text_puts(out, ",");
    put_named(out, "type", dialect_openai_type(fault));
    text_printf(out, ",\"param\":null,\"code\":%d}}", status);
}

void error_llama(text *out, int status, dialect_fault fault, const char *message)
{
    text_printf(out, "{\"error\":{\"code\":%d,", status);
    put_named(out, "message", message);
    text_puts(out, ",");
    put_named(out, "type", dialect_openai_type(fault));
    text_puts(out, "}}");
}

void error_cohere(text *out, int status, dialect_fault fault, const char *message)
{
    (void)status, (void)fault;
    text_puts(out, "{");
    put_named(out, "message", message);
    text_puts(out, "}");
}

void error_detail(text *out, int status, dialect_fault fault, const char *message)
{
    (void)status, (void)fault;
    text_puts(out, "{");
    put_named(out, "detail", message);
    text_puts(out, "}");
}

void error_nim(text *out, int status, dialect_fault fault, const char *message)
{
    (void)status;
    text_puts(out, "{\"object\":\"error\",");
    put_named(out, "message", message);
    text_puts(out, ",\"detail\":{},");
    put_named(out, "type", dialect_openai_type(fault));
    text_puts(out, "}");
}
