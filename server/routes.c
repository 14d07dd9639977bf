/* Everything that is not re-ranking: the table of routes, health, metrics, info, tokenize, models,
 * the OpenAPI document and the page. */
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/alloc.h"
#include "server/body.h"
#include "server/embedded.h"
#include "server/server.h"

int route_healthy(const server *s)
{
    return !atomic_load(&((server *)(uintptr_t)s)->draining) &&
           !atomic_load(&((server *)(uintptr_t)s)->lost);
}

static int live(request *r)
{
    text body = {0};
    text_puts(&body, "{\"status\":\"live\"}");
    return server_answer(r, 200, "application/json", &body);
}

static int health(request *r)
{
    int good = route_healthy(r->s);
    text body = {0};
    if (!good) {
        text_puts(&body, "{\"error\":\"the server is stopping\",\"error_type\":\"Unhealthy\"}");
        return server_answer(r, 503, "application/json", &body);
    }
    text_puts(&body, "{\"status\":\"ok\"}");
    return server_answer(r, 200, "application/json", &body);
}

static int metrics_page(request *r)
{
    server *s = r->s;
    metrics_gauges g = {.ready = route_healthy(s)};
    for (size_t i = 0; i < s->n_models; i++) {
        scheduler_state state;
        scheduler_describe(s->models[i].queue, &state);
        g.queue_pairs += state.pairs;
        g.queue_tokens += state.tokens;
        g.queue_bytes += state.bytes;
        g.queue_requests += state.jobs;
        g.backlog_seconds += state.backlog_us / 1e6;
        if (i == 0) g.us_per_token = state.us_per_token;
    }
    if (s->cache != NULL) crank_cache_count(s->cache, &g.cache);
    if (s->scores != NULL) {
        scores_counts counts;
        scores_count(s->scores, &counts);
        g.text_entries = counts.entries;
        g.text_evictions = counts.evictions;
        g.text_damaged = counts.damaged;
    }
    pthread_mutex_lock(&s->lock);
    g.connections = s->n_connections;
    pthread_mutex_unlock(&s->lock);
    text body = {0};
    metrics_write(&body, &s->metrics, &g);
    return server_answer(r, 200, "text/plain; version=0.0.4; charset=utf-8", &body);
}

static void put_named(text *out, const char *name, const char *value)
{
    text_printf(out, "\"%s\":", name);
    if (value == NULL)
        text_puts(out, "null");
    else
        text_json(out, value, strlen(value));
}

/* TEI's /info, with what crank knows besides. */
static int info(request *r)
{
    const server *s = r->s;
    const served_model *m = &s->models[0];
    text out = {0};
    text_puts(&out, "{");
    put_named(&out, "model_id", m->name);
    text_puts(&out, ",\"model_sha\":null,");
    put_named(&out, "model_dtype", m->info.dtype);
    text_puts(&out, ",\"model_type\":{\"reranker\":{\"id2label\":{\"0\":\"LABEL_0\"},\"label2id\":"
                    "{\"LABEL_0\":0}}}");
    text_printf(&out,
                ",\"max_concurrent_requests\":%zu,\"max_input_length\":%zu,\"max_batch_tokens\":0,"
                "\"max_batch_requests\":null,\"max_client_batch_size\":%zu,\"auto_truncate\":true,"
                "\"tokenization_workers\":1,\"version\":\"%s\",\"sha\":null,\"docker_label\":null,",
                s->settings.max_connections, m->max_length, s->settings.max_documents,
                crank_version());
    put_named(&out, "device", m->info.device);
    text_puts(&out, ",");
    put_named(&out, "architecture", m->info.architecture);
    text_puts(&out, ",\"models\":[");
    for (size_t i = 0; i < s->n_models; i++) {
        if (i > 0) text_puts(&out, ",");
        text_json(&out, s->models[i].name, strlen(s->models[i].name));
    }
    text_puts(&out, "]}");
    return server_answer(r, 200, "application/json", &out);
}

/* OpenAI's list, which vLLM, llama.cpp and Infinity have. */
static int models(request *r)
{
    const server *s = r->s;
    text out = {0};
    text_puts(&out, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < s->n_models; i++) {
        text_puts(&out, i > 0 ? ",{" : "{");
        put_named(&out, "id", s->models[i].name);
        text_puts(&out, ",\"object\":\"model\",\"created\":0,\"owned_by\":\"crank\"}");
    }
    text_puts(&out, "]}");
    return server_answer(r, 200, "application/json", &out);
}

/* ---- /tokenize --------------------------------------------------------------------------------
 */

typedef struct tokenizing {
    request *r;
    text *out;
    const crank_tokenizer *tokenizer;
    crank_error error;
    int plain; /* without template tokens */
    int bad;
} tokenizing;

static int tokenize_one(void *user, size_t i, body_value value)
{
    tokenizing *t = user;
    crank_encoding encoding = {0};
    crank_text input;
    if (body_kind_of(value) != BODY_STRING) return t->bad = 1;
    input.data = body_string(value, &input.bytes);
    crank_tokenize_options options = {.size = sizeof options, .no_template = t->plain};
    if (crank_tokenize(t->tokenizer, input, NULL, &options, &encoding, &t->error) != CRANK_OK)
        return t->bad = 2;
    text_puts(t->out, i > 0 ? ",[" : "[");
    for (size_t k = 0; k < encoding.n; k++)
        text_printf(t->out, "%s{\"id\":%d}", k > 0 ? "," : "", encoding.ids[k]);
    text_puts(t->out, "]");
    crank_encoding_free(&encoding);
    return 0;
}

/* TEI: {"inputs": text or [texts]} -> for each text its tokens (their ids; TEI also has texts and
 * offsets). */
static int tokenize_body(request *r, body_value root, text *out, dialect_problem *problem)
{
    dialect_fields fields;
    if (!dialect_fields_read(&fields, root, problem)) return 0;
    tokenizing t = {.r = r, .out = out, .tokenizer = crank_model_tokenizer(r->s->models[0].model)};
    problem->fault = FAULT_SHAPE;
    snprintf(problem->message, sizeof problem->message,
             "inputs must be a string or a list of them");
    if (!(fields.present & HAS(INPUTS))) return 0;
    if ((fields.present & HAS(ADD_SPECIAL_TOKENS)) &&
        body_kind_of(fields.value[KEY_ADD_SPECIAL_TOKENS]) != BODY_BOOL) {
        snprintf(problem->message, sizeof problem->message,
                 "add_special_tokens must be true or false");
        return 0;
    }
    t.plain = (fields.present & HAS(ADD_SPECIAL_TOKENS)) &&
              !body_bool(fields.value[KEY_ADD_SPECIAL_TOKENS]);
    body_value inputs = fields.value[KEY_INPUTS];
    text_puts(out, "[");
    if (body_kind_of(inputs) == BODY_ARRAY) {
        if (body_array_size(inputs) > r->s->settings.max_documents) {
            problem->fault = FAULT_TOO_MANY;
            snprintf(problem->message, sizeof problem->message, "too many inputs");
            return 0;
        }
        if (body_array_size(inputs) == 0) {
            problem->fault = FAULT_EMPTY;
            snprintf(problem->message, sizeof problem->message, "inputs must not be empty");
            return 0;
        }
        body_array_each(inputs, tokenize_one, &t);
    } else {
        tokenize_one(&t, 0, inputs);
    }
    text_puts(out, "]");
    if (t.bad == 2) {
        problem->fault = FAULT_BACKEND;
        snprintf(problem->message, sizeof problem->message, "%.200s", t.error.message);
    }
    return t.bad == 0;
}

static int tokenize(request *r)
{
    body_parser *parser = body_parser_open();
    body_document *document = NULL;
    body_value root;
    dialect_problem problem = {FAULT_MEMORY, "out of memory"};
    text out = {0};
    r->dialect = dialect_named("tei");
    body_outcome outcome =
        parser != NULL ? body_parse(parser, r->body, r->bytes, &document, &root) : BODY_NO_MEMORY;
    int good = 0;
    if (outcome == BODY_FAULT) {
        const char *reason;
        size_t at = body_fault(r->body, r->bytes, &reason);
        problem.fault = FAULT_SYNTAX;
        snprintf(problem.message, sizeof problem.message, "the body is not JSON: byte %zu: %s",
                 at != SIZE_MAX ? at : 0, reason != NULL ? reason : "malformed");
    } else if (outcome == BODY_OK) {
        good = tokenize_body(r, root, &out, &problem);
    }
    body_document_close(document);
    body_parser_close(parser);
    if (good) return server_answer(r, 200, "application/json", &out);
    text_free(&out);
    return server_refuse(r, problem.fault, problem.message, 0);
}

/* ---- embedded files ---------------------------------------------------------------------------
 */

static int embedded(request *r, const char *type, const unsigned char *data, size_t bytes)
{
    text body = {0};
    text_put(&body, (const char *)data, bytes);
    return server_answer(r, 200, type, &body);
}

static int openapi(request *r)
{
    return embedded(r, "application/json", embedded_openapi, embedded_openapi_bytes);
}

static int page(request *r)
{
    return embedded(r, "text/html; charset=utf-8", embedded_page, embedded_page_bytes);
}

static int style(request *r)
{
    return embedded(r, "text/css; charset=utf-8", embedded_style, embedded_style_bytes);
}

static int script(request *r)
{
    return embedded(r, "text/javascript; charset=utf-8", embedded_script, embedded_script_bytes);
}

/* ---- the table --------------------------------------------------------------------------------
 */

static const route routes[] = {
    {"/rerank", "POST", 0, rerank_begin},
    {"/reranking", "POST", 0, rerank_begin},
    {"/v1/rerank", "POST", 0, rerank_begin},
    {"/v2/rerank", "POST", 0, rerank_begin},
    {"/v1/ranking", "POST", 0, rerank_begin},
    {"/score", "POST", 0, rerank_begin},
    {"/v1/score", "POST", 0, rerank_begin},
    {"/tokenize", "POST", 0, tokenize},
    {"/health", "GET", 1, health},
    {"/health/live", "GET", 1, live},
    {"/health/ready", "GET", 1, health},
    {"/v1/health/live", "GET", 1, live},
    {"/v1/health/ready", "GET", 1, health},
    {"/metrics", "GET", 0, metrics_page},
    {"/info", "GET", 0, info},
    {"/v1/models", "GET", 0, models},
    {"/models", "GET", 0, models},
    {"/openapi.json", "GET", 1, openapi},
    {"/", "GET", 1, page},
    {"/page.css", "GET", 1, style},
    {"/page.js", "GET", 1, script},
};

const route *route_find(const char *path, const char *method, const char **other_method)
{
    if (strcmp(method, "HEAD") == 0) method = "GET"; /* libmicrohttpd leaves the body out */
    *other_method = NULL;
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        if (strcmp(routes[i].path, path) != 0) continue;
        if (strcmp(routes[i].method, method) == 0) return &routes[i];
        *other_method = routes[i].method;
    }
    return NULL;
}
