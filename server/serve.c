/* crank serve: options -> models and schedulers -> the server -> signals -> drain. The only file of
 * server/ that knows the command line. */
#define _GNU_SOURCE
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "cli/model.h"
#include "server/alloc.h"
#include "server/clock.h"
#include "server/digest.h"
#include "server/server.h"
#include "server/settings.h"

#define DRAIN_LIMIT_MS 29000

static const char *const long_names[] = {"truncate", "window", NULL};
static const char *const log_names[] = {"json", "text", "none", NULL};
static const char *const score_names[] = {"dialect", "model", "identity", "sigmoid", NULL};

typedef struct serve_plan {
    model_flags model; /* what all models share; path is not used */
    const char *models[SERVER_MAX_MODELS];
    size_t n_models;
    const char *host, *dialect, *keys_path, *tls_cert, *tls_key, *config, *redis;
    int long_mode, log_form, scores, cpu_retry;
    size_t port, workers, http_threads, cache_mb;
    size_t batch_ms, queue_ms, queue_pairs, queue_tokens, queue_mb, redis_ms;
    server_settings limits;
    server server;
    pthread_mutex_t spare_lock;
    struct spare_source {
        struct serve_plan *plan;
        served_model *model;
        const char *path;
    } spares[SERVER_MAX_MODELS];
} serve_plan;

/* ---- options ----------------------------------------------------------------------------------
 */

static int is_model_option(const char *argument, const char **value)
{
    *value = NULL;
    if (strcmp(argument, "-m") == 0 || strcmp(argument, "--model") == 0) return 1;
    if (strncmp(argument, "--model=", 8) != 0) return 0;
    *value = argument + 8;
    return 1;
}

/* -m may be given often, which the table of options does not know: the last stays in the list for
 * it, all are remembered here. Models of the command line replace those of file and environment. */
static cli_exit collect_models(serve_plan *plan, const cli_command *self, argument_list *list)
{
    int own = 0, kept = 1;
    const char *value;
    for (int i = list->n_weak; i < list->n && strcmp(list->at[i], "--") != 0; i++)
        own |= is_model_option(list->at[i], &value);
    for (int i = 1; i < list->n; i++) {
        char *argument = list->at[i];
        if (!is_model_option(argument, &value)) {
            list->at[kept++] = argument;
            continue;
        }
        int weak = i < list->n_weak;
        if (value == NULL && i + 1 < list->n) value = list->at[++i];
        if (value == NULL) return options_misuse(self, "%s takes a value", argument);
        if (weak && own) continue;
        if (plan->n_models == SERVER_MAX_MODELS)
            return options_misuse(self, "more than %d models", SERVER_MAX_MODELS);
        plan->models[plan->n_models++] = value;
    }
    list->n = kept;
    list->at[kept] = NULL;
    return CLI_PARSED;
}

/* ---- models -----------------------------------------------------------------------------------
 */

static void on_lost(void *user)
{
    server *s = user;
    text line;
    atomic_store(&s->lost, 1);
    log_begin(&s->log, &line, "error", "the device is lost");
    log_end(&s->log, &line);
    kill(getpid(), SIGTERM); /* main drains and ends with 70 */
}

/* What changes a logit: the model as loaded, and the settings. */
static crank_status make_seed(score_key *seed, const serve_plan *plan, const served_model *m,
                              const char *path, crank_error *error)
{
    score_key digest;
    crank_status status = digest_model(&digest, &m->info, path, error);
    if (status != CRANK_OK) return status;
    char settings[1024];
    snprintf(settings, sizeof settings, "%016llx%016llx|%s|%s|%s|%s|%d|%zu|%zu|%d|%d|%s|%s|%s",
             (unsigned long long)digest.high, (unsigned long long)digest.low, crank_version(),
             m->info.device, m->info.dtype, m->info.layout, plan->model.truncation,
             plan->model.max_length, plan->model.window_overlap, plan->model.specials_as_text,
             plan->model.bi_encoder, plan->model.prompt ? plan->model.prompt : "",
             plan->model.answer ? plan->model.answer : "",
             plan->model.reduce ? plan->model.reduce : "");
    XXH128_hash_t hash = XXH3_128bits(settings, strlen(settings));
    *seed = (score_key){hash.high64, hash.low64};
    return CRANK_OK;
}

/* What was in flight when a GPU was lost is answered by the CPU, whose copy of the model is loaded
 * only now. */
static crank_status open_spare(void *user, crank_session **session, crank_error *error)
{
    struct spare_source *source = user;
    serve_plan *plan = source->plan;
    served_model *m = source->model;
    crank_status status = CRANK_OK;
    pthread_mutex_lock(&plan->spare_lock);
    if (m->spare == NULL) {
        char emu_path[PATH_MAX];
        crank_model_options options;
        model_options_of(&options, &plan->model, emu_path);
        options.device = CRANK_DEVICE_CPU;
        options.dtype = CRANK_DTYPE_AUTO;
        options.cuda_library = NULL;
        status = crank_model_open(&m->spare, source->path, &options, error);
    }
    pthread_mutex_unlock(&plan->spare_lock);
    if (status != CRANK_OK) return status;
    crank_session_options options = {.size = sizeof options, .team = plan->server.team};
    return crank_session_open(session, m->spare, &options, error);
}

static cli_exit open_one(serve_plan *plan, const char *spec)
{
    server *s = &plan->server;
    served_model *m = &s->models[s->n_models];
    const char *equals = strchr(spec, '='), *slash = strchr(spec, '/');
    int named = equals != NULL && equals > spec && (slash == NULL || slash > equals);
    model_flags flags = plan->model;
    flags.path = named ? equals + 1 : spec;
    char emu_path[PATH_MAX];
    crank_model_options options;
    model_options_of(&options, &flags, emu_path);
    crank_error error = {0};
    if (crank_model_open(&m->model, flags.path, &options, &error) != CRANK_OK)
        return cli_fail_status(&error, 1);
    s->n_models++;
    m->info.size = sizeof m->info;
    if (crank_model_describe(m->model, &m->info, &error) != CRANK_OK)
        return cli_fail_status(&error, 1);
    m->name = named ? cli_copy(spec, (size_t)(equals - spec))
                    : cli_copy(m->info.name, strlen(m->info.name));
    for (size_t i = 0; i + 1 < s->n_models; i++)
        if (strcmp(s->models[i].name, m->name) == 0)
            return cli_fail(CLI_USAGE, "two models are named '%s': -m NAME=PATH names one",
                            m->name);
    m->max_length = flags.max_length != 0 ? flags.max_length : (size_t)m->info.max_length;
    m->windows = flags.truncation == CRANK_WINDOW;
    m->window_overlap = flags.window_overlap;
    m->specials_as_text = flags.specials_as_text;
    if (make_seed(&m->seed, plan, m, flags.path, &error) != CRANK_OK)
        return cli_fail_status(&error, 1);
    scheduler_options queue = {
        .team = s->team,
        .cache = s->cache,
        .metrics = &s->metrics,
        .score = score_options_of(&flags),
        .batch_tokens = plan->model.batch_tokens,
        .batch_us = (int64_t)plan->batch_ms * 1000,
        .queue_tokens = plan->queue_tokens,
        .queue_bytes = plan->queue_mb << 20,
        .queue_pairs = plan->queue_pairs,
        .queue_us = (int64_t)plan->queue_ms * 1000,
        .workers = (int)plan->workers,
        .failed = on_lost,
        .failed_user = s,
    };
    if (plan->cpu_retry && strcmp(m->info.device, "cpu") != 0) {
        struct spare_source *source = &plan->spares[s->n_models - 1];
        *source = (struct spare_source){plan, m, flags.path};
        queue.spare = open_spare;
        queue.spare_user = source;
    }
    if (scheduler_open(&m->queue, m->model, &queue, &error) != CRANK_OK)
        return cli_fail_status(&error, 1);
    scheduler_state state;
    scheduler_describe(m->queue, &state);
    m->per_pair = state.per_pair;
    return CLI_OK;
}

static cli_exit open_parts(serve_plan *plan)
{
    server *s = &plan->server;
    crank_error error = {0};
    if (plan->keys_path != NULL && keys_open(&s->keys, plan->keys_path, &error) != CRANK_OK)
        return cli_fail(CLI_USAGE, "%s", error.message);
    if (plan->tls_cert != NULL) {
        plan->limits.tls_cert = settings_read_file(plan->tls_cert, &error);
        if (plan->limits.tls_cert != NULL)
            plan->limits.tls_key = settings_read_file(plan->tls_key, &error);
        if (plan->limits.tls_key == NULL) return cli_fail(CLI_USAGE, "%s", error.message);
    }
    if (crank_team_open(&s->team, (int)plan->model.threads, plan->model.pin, &error) != CRANK_OK)
        return cli_fail_status(&error, 0);
    if (plan->cache_mb > 0) { /* half for texts, half for ids */
        size_t half = plan->cache_mb << 19;
        s->scores = scores_open(half);
        if (s->scores == NULL) return cli_fail(CLI_MEMORY, "no memory for the cache");
        if (crank_cache_open(&s->cache, half, &error) != CRANK_OK)
            return cli_fail_status(&error, 0);
    }
    if (plan->redis != NULL &&
        redis_open(&s->redis, plan->redis, plan->redis_ms, &s->metrics, &error) != CRANK_OK)
        return cli_fail(CLI_USAGE, "%s", error.message);
    for (size_t i = 0; i < plan->n_models; i++) {
        cli_exit code = open_one(plan, plan->models[i]);
        if (code != CLI_OK) return code;
    }
    return CLI_OK;
}

static void close_parts(serve_plan *plan)
{
    server *s = &plan->server;
    for (size_t i = 0; i < s->n_models; i++) {
        scheduler_close(s->models[i].queue);
        crank_model_close(s->models[i].model);
        crank_model_close(s->models[i].spare);
        free(s->models[i].name);
    }
    redis_close(s->redis);
    scores_close(s->scores);
    crank_cache_close(s->cache);
    crank_team_close(s->team);
    keys_close(s->keys);
    server_free((void *)(uintptr_t)plan->limits.tls_cert);
    server_free((void *)(uintptr_t)plan->limits.tls_key);
}

/* ---- serving ----------------------------------------------------------------------------------
 */

/* A connection is a descriptor: as many as the system allows, up to what was asked for. */
static void raise_descriptors(server_settings *limits)
{
    struct rlimit now;
    rlim_t wanted = limits->max_connections + 64;
    if (getrlimit(RLIMIT_NOFILE, &now) != 0) return;
    if (now.rlim_cur < wanted) {
        now.rlim_cur = wanted < now.rlim_max ? wanted : now.rlim_max;
        setrlimit(RLIMIT_NOFILE, &now);
        getrlimit(RLIMIT_NOFILE, &now);
    }
    if (now.rlim_cur > 128 && now.rlim_cur < wanted) limits->max_connections = now.rlim_cur - 64;
}

static void log_started(const server *s, unsigned port)
{
    text line;
    char address[320];
    int six = strchr(s->settings.host, ':') != NULL;
    snprintf(address, sizeof address, "%s://%s%s%s:%u", s->settings.tls_cert ? "https" : "http",
             six ? "[" : "", s->settings.host, six ? "]" : "", port);
    log_begin(&s->log, &line, "info", "listening");
    log_string(&s->log, &line, "address", address);
    for (size_t i = 0; i < s->n_models; i++) {
        log_string(&s->log, &line, "model", s->models[i].name);
        log_string(&s->log, &line, "device", s->models[i].info.device);
        log_string(&s->log, &line, "dtype", s->models[i].info.dtype);
    }
    log_end(&s->log, &line);
}

/* A second signal during the drain: now. */
static int hurry(void *user)
{
    const sigset_t *signals = user;
    struct timespec none = {0, 0};
    if (sigtimedwait(signals, NULL, &none) > 0) _exit(1);
    return 0;
}

static cli_exit serve(serve_plan *plan)
{
    server *s = &plan->server;
    crank_error error = {0};
    unsigned port = 0;
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* threads inherit it */
    signal(SIGPIPE, SIG_IGN);
    server_heap_begin();
    cli_exit code = open_parts(plan);
    if (code != CLI_OK) return code;
    raise_descriptors(&plan->limits);
    s->settings = plan->limits;
    if (server_start(s, &port, &error) != CRANK_OK) {
        server_stop(s);
        return cli_fail(CLI_USAGE, "%s", error.message);
    }
    server_heap_reserve();
    log_started(s, port);
    int number = 0;
    while (sigwait(&signals, &number) != 0) {
    }
    text line;
    log_begin(&s->log, &line, "info", "draining");
    log_end(&s->log, &line);
    long left = server_drain(s, DRAIN_LIMIT_MS, hurry, &signals);
    server_stop(s);
    log_begin(&s->log, &line, left > 0 ? "warn" : "info", "stopped");
    log_number(&s->log, &line, "unanswered", left);
    log_end(&s->log, &line);
    return atomic_load(&s->lost) ? CLI_INTERNAL : CLI_OK;
}

static cli_exit finish_options(serve_plan *plan, const cli_command *self)
{
    if (plan->n_models == 0) return options_misuse(self, "no model: -m MODEL");
    if ((plan->tls_cert == NULL) != (plan->tls_key == NULL))
        return options_misuse(self, "--tls-cert and --tls-key go together");
    if (plan->dialect != NULL && strcmp(plan->dialect, "auto") != 0) {
        plan->limits.dialect = dialect_named(plan->dialect);
        if (plan->limits.dialect == NULL || plan->limits.dialect->keeps_order) {
            char list[256] = "auto";
            for (size_t i = 0; i < n_dialects; i++) {
                if (dialects[i].keeps_order) continue;
                size_t at = strlen(list);
                snprintf(list + at, sizeof list - at, ", %s", dialects[i].name);
            }
            return options_misuse(self, "--dialect is one of %s, not '%s'", list, plan->dialect);
        }
    }
    if (plan->long_mode == 1) plan->model.truncation = CRANK_WINDOW;
    plan->limits.activation_fixed = plan->scores > 0;
    plan->limits.activation = (dialect_activation)(plan->scores - 1);
    plan->limits.host = plan->host;
    plan->limits.port = plan->port;
    plan->limits.http_threads = plan->http_threads;
    plan->server.log = (log_writer){(log_form)plan->log_form, STDERR_FILENO};
    return CLI_PARSED;
}

static void set_defaults(serve_plan *plan)
{
    plan->host = "127.0.0.1";
    plan->port = 8080;
    plan->workers = 1;
    plan->http_threads = 2;
    plan->cache_mb = 64;
    plan->model.batch_tokens = 16384;
    plan->batch_ms = 50;
    plan->queue_ms = 2000;
    plan->queue_pairs = 100000;
    plan->queue_tokens = 16000000;
    plan->queue_mb = 256;
    plan->redis_ms = 5;
    plan->limits = (server_settings){.max_documents = 10000,
                                     .max_body = 16 << 20,
                                     .max_header = 32768,
                                     .max_uri = 8192,
                                     .max_connections = 4096,
                                     .deadline_ms = 30000,
                                     .drain_ms = 500,
                                     .header_ms = 5000,
                                     .body_ms = 30000,
                                     .idle_ms = 60000};
}

#define COUNT(name, target, value, help, low, high)                                                \
    {                                                                                              \
        name, 0, OPTION_COUNT, target, value, help, low, high, NULL                                \
    }
#define TEXT(name, target, value, help)                                                            \
    {                                                                                              \
        name, 0, OPTION_TEXT, target, value, help, 0, 0, NULL                                      \
    }

static cli_exit run(const cli_command *self, int argc, char **argv)
{
    serve_plan *plan = cli_alloc(1, sizeof *plan);
    memset(plan, 0, sizeof *plan);
    set_defaults(plan);
    pthread_mutex_init(&plan->spare_lock, NULL);
    server_settings *l = &plan->limits;
    const cli_option options[] = {
        {"model", 'm', OPTION_TEXT, &plan->model.path, "[NAME=]MODEL",
         "a Hugging Face folder or a file made by crank convert (required); again for more, which "
         "requests choose by \"model\"",
         0, 0, NULL},
        TEXT("host", &plan->host, "ADDRESS", "127.0.0.1; 0.0.0.0 or :: for all"),
        COUNT("port", &plan->port, "N", "8080; 0: any that is free (the log says which)", 0, 65535),
        TEXT("dialect", &plan->dialect, "NAME",
             "answer every re-ranking path in one dialect; auto: path and body decide"),
        {"scores", 0, OPTION_CHOICE, &plan->scores, NULL,
         "activation of the answers' scores; dialect: as each dialect's clients expect", 0, 0,
         score_names},
        {"long", 0, OPTION_CHOICE, &plan->long_mode, NULL,
         "long documents are cut, or scored in overlapping windows of which the best counts", 0, 0,
         long_names},
        DEVICE_OPTIONS(&plan->model),
        DTYPE_OPTION(&plan->model),
        THREADS_OPTION(&plan->model),
        {"pin", 0, OPTION_FLAG, &plan->model.pin, NULL, "bind each thread to a core", 0, 0, NULL},
        TRUNCATION_OPTIONS(&plan->model),
        TEXT("prompt", &plan->model.prompt, "TEXT", "T5 rankers: template with {q} and {d}"),
        TEXT("answer", &plan->model.answer, "TOKENS", "T5 rankers: answer tokens, comma-separated"),
        TEXT("reduce", &plan->model.reduce, "HOW",
             "T5 rankers: logit, diff, log_softmax, probability, expectation"),
        {"bi-encoder", 0, OPTION_FLAG, &plan->model.bi_encoder, NULL,
         "an encoder's pooled vectors and their cosine, although the folder does not say so", 0, 0,
         NULL},
        {"cpu-retry", 0, OPTION_FLAG, &plan->cpu_retry, NULL,
         "when a GPU is lost, what is in flight is answered by the CPU before the server ends", 0,
         0, NULL},
        COUNT("workers", &plan->workers, "N", "1; sessions of each model, which share the threads",
              1, 64),
        COUNT("http-threads", &plan->http_threads, "N", "2", 1, 64),
        COUNT("batch-tokens", &plan->model.batch_tokens, "N", "16384; most tokens of a batch", 1,
              1 << 30),
        COUNT("batch-ms", &plan->batch_ms, "N", "50; about the longest time of a batch", 1, 60000),
        COUNT("queue-ms", &plan->queue_ms, "N",
              "2000; predicted waiting time that is too long (429)", 1, 3600000),
        COUNT("queue-pairs", &plan->queue_pairs, "N", "100000; pairs waiting at most", 1, 1 << 30),
        COUNT("queue-tokens", &plan->queue_tokens, "N", "16000000; tokens waiting at most", 1,
              (size_t)1 << 40),
        COUNT("queue-mb", &plan->queue_mb, "MB", "256; bytes of texts waiting at most", 1, 1 << 20),
        COUNT("deadline-ms", &l->deadline_ms, "N",
              "30000; of requests without x-request-timeout-ms (504); 0: none", 0, 3600000),
        COUNT("max-documents", &l->max_documents, "N", "10000; of a request", 1, 1 << 24),
        COUNT("max-body", &l->max_body, "BYTES", "16777216; of a request", 1, (size_t)1 << 31),
        COUNT("max-connections", &l->max_connections, "N", "4096", 1, 1 << 20),
        COUNT("header-timeout-ms", &l->header_ms, "N", "5000; until the headers are there", 1,
              3600000),
        COUNT("body-timeout-ms", &l->body_ms, "N", "30000; until the body is there (408)", 1,
              3600000),
        COUNT("idle-timeout-ms", &l->idle_ms, "N", "60000; between requests", 1, 3600000),
        COUNT("drain-ms", &l->drain_ms, "N",
              "500; /health says 503 so long before the listener closes", 0, 20000),
        COUNT("cache-mb", &plan->cache_mb, "MB", "64; scores of pairs seen before; 0: none", 0,
              1 << 20),
        TEXT("redis", &plan->redis, "HOST:PORT",
             "a second tier of the cache that servers share; may vanish at any time"),
        COUNT("redis-timeout-ms", &plan->redis_ms, "N",
              "5; of a call, after which that tier counts as away for a second", 1, 60000),
        TEXT("api-keys", &plan->keys_path, "FILE", "one key a line; # begins a comment"),
        TEXT("tls-cert", &plan->tls_cert, "FILE", "PEM; HTTPS instead of HTTP"),
        TEXT("tls-key", &plan->tls_key, "FILE", "PEM"),
        {"log", 0, OPTION_CHOICE, &plan->log_form, NULL, "a line for each request, on stderr", 0, 0,
         log_names},
        TEXT("config", &plan->config, "FILE",
             "options as a JSON object; CRANK_NAME variables and the command line go first"),
    };
    enum { N = sizeof options / sizeof options[0] };
    option_name names[N];
    for (size_t i = 0; i < N; i++)
        names[i] = (option_name){options[i].name, options[i].type == OPTION_FLAG};
    argument_list list;
    cli_arguments rest;
    crank_error error = {0};
    cli_exit code;
    if (settings_gather(&list, argc, argv, names, N, &error) != CRANK_OK) {
        free(plan);
        return cli_fail(error.status == CRANK_OUT_OF_MEMORY ? CLI_MEMORY : CLI_USAGE, "%s",
                        error.message);
    }
    int n_all = list.n;
    char **all = cli_alloc((size_t)n_all + 1, sizeof *all);
    memcpy(all, list.at, ((size_t)n_all + 1) * sizeof *all);
    code = collect_models(plan, self, &list);
    if (code == CLI_PARSED) code = options_parse(self, options, N, list.n, list.at, 0, 0, &rest);
    if (code == CLI_PARSED) code = finish_options(plan, self);
    if (code == CLI_PARSED) {
        code = serve(plan);
        close_parts(plan);
    }
    for (int i = 0; i < n_all; i++) free(all[i]);
    free(all);
    server_free(list.at);
    free(plan);
    return code;
}

const cli_command serve_command = {
    .name = "serve",
    .summary = "Answers re-ranking requests over HTTP, in the dialects that clients speak.",
    .synopsis = "-m MODEL [options]",
    .details =
        "Dialects: TEI and Infinity /rerank, Cohere /v1/rerank and /v2/rerank, Jina and Voyage\n"
        "/v1/rerank, vLLM /rerank /v1/rerank /v2/rerank /score, llama.cpp /reranking, NIM\n"
        "/v1/ranking. A page to try it is at /, metrics at /metrics, the API at /openapi.json.\n"
        "SIGTERM drains: /health says 503, requests in flight are answered, exit code 0.",
    .example = "  crank serve -m ms-marco-MiniLM-L-6-v2 --port 8080\n"
               "  curl -s localhost:8080/rerank -d '{\"query\": \"how do tides work\", \"texts\": "
               "[\"...\"]}'",
    .run = run,
};
