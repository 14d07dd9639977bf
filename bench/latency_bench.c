/* crank bench latency: what one request waits, from texts to scores in order, on a model that is
 * loaded; and what a process waits from its start to its first score.
 *
 * Every request has new texts, so that nothing is answered from a cache; each pair is cut to the
 * same number of tokens, whatever the model's tokenizer makes of a word. A request whose scores are
 * not those of its pairs scored alone, bit by bit, is reported and not timed. */
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/samples.h"
#include "cli/bench.h"
#include "cli/model.h"
#include "clock.h"

extern char **environ;

enum {
    MAX_SIZES = 8,
    MAX_DOCUMENTS = 10000,
    MAX_RUNS = 10000,
    MAX_TOKENS = 8192, /* a pair of that many words fits a pipe */
    QUERY_WORDS = 6,
    STARTS = 7
};

typedef struct latency_job {
    model_flags model;
    const char *sizes;
    size_t n_tokens, runs;
    int json;
} latency_job;

typedef struct request {
    crank_text query;
    crank_text *docs;
    crank_result *results;
    char *memory;
    size_t n;
} request;

/* n_tokens words make at least as many tokens; the library cuts the rest. */
static request make_request(size_t n, size_t n_tokens)
{
    request r = {.n = n};
    r.docs = cli_alloc(n, sizeof *r.docs);
    r.results = cli_alloc(n, sizeof *r.results);
    r.memory = cli_alloc(QUERY_WORDS + n * n_tokens, SAMPLES_WORD_BYTES);
    return r;
}

static void free_request(request *r)
{
    free(r->docs);
    free(r->results);
    free(r->memory);
}

static void fill_request(request *r, size_t n_tokens, uint64_t seed)
{
    uint64_t state = seed;
    char *at = r->memory;
    r->query = (crank_text){at, samples_words(at, QUERY_WORDS, &state)};
    at += r->query.bytes;
    for (size_t i = 0; i < r->n; i++) {
        r->docs[i] = (crank_text){at, samples_words(at, n_tokens, &state)};
        at += r->docs[i].bytes;
    }
}

/* CLI_ERRORS when a score in the request is not that of its pair alone, or when the tokenizer makes
 * one text of several, which would be computed once. Warms up, too. */
static cli_exit check_request(const opened_model *opened, const crank_score_options *options,
                              request *r)
{
    crank_error error = {0};
    crank_usage usage = {0};
    size_t n_results = 0;
    if (crank_rank(opened->session, r->query, r->docs, r->n, options, r->results, &n_results,
                   &usage, &error) != CRANK_OK)
        return cli_fail_status(&error, 0);
    if (usage.computed_pairs != r->n)
        return cli_fail(CLI_ERRORS, "not timed: the tokenizer tells only %zu of %zu texts apart",
                        usage.computed_pairs, r->n);
    for (size_t i = 0; i < n_results && i < 16; i++) {
        crank_pair pair = {r->query, r->docs[r->results[i].index]};
        float score;
        if (crank_score(opened->session, &pair, 1, options, NULL, &score, NULL, &error) != CRANK_OK)
            return cli_fail_status(&error, 0);
        if (memcmp(&score, &r->results[i].score, sizeof score) != 0)
            return cli_fail(
                CLI_ERRORS,
                "not timed: document %zu scores %.9g in a request of %zu and %.9g alone",
                r->results[i].index, (double)r->results[i].score, r->n, (double)score);
    }
    return CLI_OK;
}

/* ---- a process from its start ---- */

/* Milliseconds from starting this program on the model to its score on the pipe; < 0: it failed. */
static double start_once(const latency_job *job, char *pair, size_t bytes)
{
    int in[2], out[2];
    if (pipe(in) != 0) return -1;
    if (pipe(out) != 0) {
        close(in[0]);
        close(in[1]);
        return -1;
    }
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    posix_spawn_file_actions_addclose(&actions, in[1]);
    posix_spawn_file_actions_addclose(&actions, out[0]);
    const model_flags *flags = &job->model;
    char threads[24], tokens[24];
    snprintf(threads, sizeof threads, "%zu",
             flags->threads != 0 ? flags->threads : (size_t)sysconf(_SC_NPROCESSORS_ONLN));
    snprintf(tokens, sizeof tokens, "%zu", job->n_tokens);
    char *arguments[] = {"crank",
                         "score",
                         "-m",
                         (char *)flags->path,
                         "--device",
                         "cpu",
                         "--threads",
                         threads,
                         "--max-length",
                         tokens,
                         "--progress",
                         "never",
                         "--dtype",
                         (char *)dtype_names[flags->dtype],
                         flags->isa != NULL ? "--isa" : NULL,
                         (char *)flags->isa,
                         NULL};
    int64_t start = clock_ns();
    pid_t child;
    int status = -1;
    double ms = -1;
    int failed = posix_spawn(&child, "/proc/self/exe", &actions, NULL, arguments, environ);
    close(in[0]);
    close(out[1]);
    if (failed == 0) {
        char line[64];
        ssize_t written = write(in[1], pair, bytes); /* fits a pipe */
        close(in[1]);
        in[1] = -1;
        ssize_t n = read(out[0], line, sizeof line);
        if (written == (ssize_t)bytes && n > 0) ms = (double)(clock_ns() - start) / 1e6;
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    }
    posix_spawn_file_actions_destroy(&actions);
    if (in[1] >= 0) close(in[1]);
    close(out[0]);
    return status == 0 ? ms : -1;
}

static cli_exit time_starts(const latency_job *job, double *median)
{
    double ms[STARTS];
    char *pair = cli_alloc(QUERY_WORDS + 1 + job->n_tokens, SAMPLES_WORD_BYTES);
    uint64_t state = 3;
    size_t bytes = samples_words(pair, QUERY_WORDS, &state);
    pair[bytes++] = '\t';
    bytes += samples_words(pair + bytes, job->n_tokens, &state);
    pair[bytes++] = '\n';
    cli_exit code = CLI_OK;
    for (int i = 0; i < STARTS && code == CLI_OK; i++) {
        ms[i] = start_once(job, pair, bytes);
        if (ms[i] < 0)
            code = cli_fail(CLI_INTERNAL, "a process started on %s gave no score", job->model.path);
    }
    free(pair);
    if (code != CLI_OK) return code;
    qsort(ms, STARTS, sizeof ms[0], samples_by_value);
    *median = ms[STARTS / 2];
    return CLI_OK;
}

/* ---- requests ---- */

static void put_row(const latency_job *job, const opened_model *opened, size_t n, int64_t *times,
                    const crank_usage *usage)
{
    qsort(times, job->runs, sizeof times[0], samples_by_time);
    size_t last = job->runs - 1;
    double p50 = (double)times[job->runs / 2] / 1e3, p90 = (double)times[last * 9 / 10] / 1e3;
    double p99 = (double)times[last * 99 / 100] / 1e3, most = (double)times[last] / 1e3;
    double runs = (double)job->runs;
    double tokens = (double)usage->tokens / runs / (double)n;
    double tokenize = (double)usage->tokenize_us / runs;
    if (job->json) {
        printf("{\"model\":\"%s\",\"device\":\"%s\",\"dtype\":\"%s\",\"documents\":%zu,"
               "\"tokens_per_pair\":%.1f,\"runs\":%zu,\"p50_us\":%.1f,\"p90_us\":%.1f,"
               "\"p99_us\":%.1f,\"max_us\":%.1f,\"tokenize_us\":%.1f}\n",
               opened->info.name, opened->info.device, opened->info.dtype, n, tokens, job->runs,
               p50, p90, p99, most, tokenize);
    } else {
        printf("%9zu %8.1f %10.2f %10.2f %10.2f %10.2f %12.3f\n", n, tokens, p50 / 1e3, p90 / 1e3,
               p99 / 1e3, most / 1e3, tokenize / 1e3);
    }
    fflush(stdout);
}

static cli_exit time_size(const latency_job *job, const opened_model *opened, size_t n)
{
    request r = make_request(n, job->n_tokens);
    int64_t *times = cli_alloc(job->runs, sizeof *times);
    crank_usage sum = {0};
    crank_score_options options = {.size = sizeof options, .max_length = job->n_tokens};
    fill_request(&r, job->n_tokens, 1);
    cli_exit code = check_request(opened, &options, &r);
    for (size_t run = 0; run < job->runs && code == CLI_OK; run++) {
        crank_error error = {0};
        crank_usage usage = {0};
        size_t n_results = 0;
        fill_request(&r, job->n_tokens, 1000 + run);
        int64_t start = clock_ns();
        if (crank_rank(opened->session, r.query, r.docs, n, &options, r.results, &n_results, &usage,
                       &error) != CRANK_OK)
            code = cli_fail_status(&error, 0);
        times[run] = clock_ns() - start;
        add_usage(&sum, &usage);
        if (cli_stopped()) code = CLI_ERRORS;
    }
    if (code == CLI_OK) put_row(job, opened, n, times, &sum);
    free(times);
    free_request(&r);
    return code;
}

static cli_exit read_sizes(const char *text, size_t *sizes, size_t *n)
{
    for (*n = 0; *n < MAX_SIZES; text++) {
        char *end;
        errno = 0;
        long value = strtol(text, &end, 10);
        if (end == text || errno != 0 || value < 1 || value > MAX_DOCUMENTS) break;
        sizes[(*n)++] = (size_t)value;
        if (*end == '\0') return CLI_OK;
        if (*end != ',') break;
        text = end;
    }
    return cli_fail(CLI_USAGE,
                    "--documents: expected up to %d counts of 1 to %d with commas between",
                    MAX_SIZES, MAX_DOCUMENTS);
}

static cli_exit bench_latency(const cli_command *self, int argc, char **argv)
{
    latency_job job = {.sizes = "1,10,100", .n_tokens = 128, .runs = 50};
    const cli_option options[] = {
        MODEL_OPTION(&job.model),
        DEVICE_OPTIONS(&job.model),
        DTYPE_OPTION(&job.model),
        THREADS_OPTION(&job.model),
        {.name = "documents",
         .type = OPTION_TEXT,
         .target = &job.sizes,
         .value = "A,B",
         .help = "documents of a request; 1,10,100"},
        {.name = "tokens",
         .type = OPTION_COUNT,
         .target = &job.n_tokens,
         .value = "N",
         .help = "tokens of every pair; 128",
         .low = 16,
         .high = MAX_TOKENS},
        {.name = "runs",
         .type = OPTION_COUNT,
         .target = &job.runs,
         .value = "N",
         .help = "requests of each size; 50",
         .low = 1,
         .high = MAX_RUNS},
        {.name = "json", .type = OPTION_FLAG, .target = &job.json, .help = "JSON Lines"},
    };
    cli_arguments arguments;
    cli_exit code = options_parse(self, options, sizeof options / sizeof options[0], argc, argv, 0,
                                  0, &arguments);
    if (code != CLI_PARSED) return code;
    if (job.model.path == NULL) return options_misuse(self, "expected --model MODEL");
    size_t sizes[MAX_SIZES], n;
    code = read_sizes(job.sizes, sizes, &n);
    if (code != CLI_OK) return code;
    opened_model opened = {0};
    code = model_open(&opened, &job.model, 1);
    if (code != CLI_OK) return code;
    if (opened.info.labels != 1 || opened.info.kind != CRANK_CROSS_ENCODER)
        code = cli_fail(CLI_USAGE, "%s: expected a cross-encoder with one label", job.model.path);
    if (code == CLI_OK && !job.json)
        printf("%9s %8s %10s %10s %10s %10s %12s\n", "documents", "tokens", "p50 ms", "p90 ms",
               "p99 ms", "max ms", "tokenize ms");
    for (size_t i = 0; i < n && code == CLI_OK; i++) code = time_size(&job, &opened, sizes[i]);
    int on_cpu = code == CLI_OK && strcmp(opened.info.device, "cpu") == 0;
    model_close(&opened);
    if (code == CLI_OK && on_cpu) {
        double ms = 0;
        code = time_starts(&job, &ms);
        if (code == CLI_OK && job.json) printf("{\"first_score_ms\":%.1f}\n", ms);
        if (code == CLI_OK && !job.json)
            printf("first score of a new process: %.1f ms (median of %d)\n", ms, STARTS);
    }
    return code;
}

const cli_command bench_latency_command = {
    .name = "bench latency",
    .summary = "One request from texts to scores: p50 to p99 for 1, 10 and 100 documents.",
    .synopsis = "-m MODEL [options]",
    .details =
        "Every request has new texts. On a CPU the last line is a new process: its start, opening "
        "the model, reading\nand scoring one pair. A converted file opens in one read.",
    .example = "  crank convert ms-marco-MiniLM-L6-v2 -o l6.crank --dtype int8\n"
               "  crank bench latency -m l6.crank",
    .run = bench_latency,
};
