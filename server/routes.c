/* Everything that is not re-ranking: the table of routes, health, metrics, info, models,
 * the OpenAPI document and the page. */
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* ---- embedded files ---------------------------------------------------------------------------
 */

static int embedded(request *r, const char *type, const unsigned char *data, size_t bytes)
{
    text body = {0};
    text_put(&body, (const char *)data, bytes);
    return server_answer(r, 200, type, &body);
}

/* The document says that a key is optional; a server that has keys wants one. */
static int openapi(request *r)
{
    static const char optional[] = "[{}, {\"key\"", needed[] = "[{\"key\"";
    const char *all = (const char *)embedded_openapi;
    const char *at = memmem(all, embedded_openapi_bytes, optional, sizeof optional - 1);
    text body = {0};
    if (r->s->keys == NULL || at == NULL)
        return embedded(r, "application/json", embedded_openapi, embedded_openapi_bytes);
    text_put(&body, all, (size_t)(at - all));
    text_puts(&body, needed);
    at += sizeof optional - 1;
    text_put(&body, at, embedded_openapi_bytes - (size_t)(at - all));
    return server_answer(r, 200, "application/json", &body);
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
    {"/tokenize", "POST", 0, tokenize_begin},
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
