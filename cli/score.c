/* crank score: a score for every pair, in input order. Pairs are scored in chunks, so that a file
 * of any length runs in bounded memory; a chunk is large enough to be packed well. */
#include <stdlib.h>
#include <string.h>

#include "cli/model.h"
#include "cli/output.h"
#include "cli/records.h"

enum { CHUNK_PAIRS = 8192, CHUNK_BYTES = 64 << 20 };

typedef struct score_job {
    model_flags model;
    const char *out_path;
    int json, format;
    records in;
    store keep;
    crank_pair *pairs;
    size_t n, capacity;
    float *logits, *scores;
    size_t n_floats;
    crank_usage usage;
    progress bar;
} score_job;

/* Fills job->pairs with the next chunk; n 0 at the end of the input. */
static cli_exit read_chunk(score_job *job)
{
    store_clear(&job->keep);
    job->n = 0;
    crank_text last_query = {NULL, 0};
    while (job->n < CHUNK_PAIRS && job->keep.bytes < CHUNK_BYTES) {
        crank_text query, document;
        cli_exit code = records_next_pair(&job->in, &query, &document);
        if (code != CLI_OK) return code;
        if (!query.data) break;
        /* A run of pairs with one query keeps one copy of it. */
        if (!last_query.data || last_query.bytes != query.bytes ||
            memcmp(last_query.data, query.data, query.bytes) != 0)
            last_query = store_text(&job->keep, query.data, query.bytes);
        document = store_text(&job->keep, document.data, document.bytes);
        job->pairs = cli_append(job->pairs, job->n, &job->capacity, sizeof *job->pairs);
        job->pairs[job->n++] = (crank_pair){last_query, document};
    }
    return CLI_OK;
}

static void put_values(FILE *to, const float *values, size_t n, const char *between)
{
    for (size_t i = 0; i < n; i++) {
        if (i) fputs(between, to);
        json_put_float(to, values[i]);
    }
}

static void put_chunk(FILE *to, const score_job *job, size_t labels)
{
    for (size_t i = 0; i < job->n; i++) {
        const float *scores = job->scores + i * labels, *logits = job->logits + i * labels;
        if (!job->json) {
            put_values(to, scores, labels, "\t");
            putc('\n', to);
            continue;
        }
        fputs(labels > 1 ? "{\"scores\":[" : "{\"score\":", to);
        put_values(to, scores, labels, ",");
        fputs(labels > 1 ? "],\"logits\":[" : ",\"logit\":", to);
        put_values(to, logits, labels, ",");
        fputs(labels > 1 ? "]}\n" : "}\n", to);
    }
}

static cli_exit score_chunk(score_job *job, opened_model *opened, FILE *to)
{
    size_t labels = opened->info.labels > 1 ? (size_t)opened->info.labels : 1;
    if (job->n * labels > job->n_floats) {
        job->n_floats = job->n * labels;
        job->logits = cli_grow(job->logits, job->n_floats, sizeof(float));
        job->scores = cli_grow(job->scores, job->n_floats, sizeof(float));
    }
    crank_score_options options = score_options_of(&job->model);
    options.progress = progress_report;
    options.progress_user = &job->bar;
    crank_usage usage = {0};
    crank_error error = {0};
    if (crank_score(opened->session, job->pairs, job->n, &options, job->logits, job->scores, &usage,
                    &error) != CRANK_OK)
        return cli_fail_status(&error, 0);
    put_chunk(to, job, labels);
    job->bar.before += job->n;
    add_usage(&job->usage, &usage);
    return CLI_OK;
}

static cli_exit score_all(score_job *job, opened_model *opened)
{
    output *out;
    cli_exit code = output_open(&out, job->out_path);
    if (code != CLI_OK) return code;
    progress_start(&job->bar, "pairs", (progress_mode)job->model.progress);
    for (;;) {
        code = read_chunk(job);
        /* A file that fits in one chunk, as most do, shows how many pairs there are. */
        job->bar.total_unknown = job->bar.before > 0 || job->n == CHUNK_PAIRS;
        job->bar.fraction = input_fraction(job->in.in);
        if (code != CLI_OK || job->n == 0) break;
        code = score_chunk(job, opened, output_stream(out));
        if (code == CLI_OK) code = output_check(out);
        if (code != CLI_OK) break;
    }
    progress_hide();
    if (code != CLI_OK) {
        output_discard(out);
        return code;
    }
    return output_commit(out);
}

static cli_exit run(const cli_command *self, int argc, char **argv)
{
    score_job job = {0};
    const cli_option options[] = {
        {"json", 0, OPTION_FLAG, &job.json, NULL,
         "JSON Lines {\"score\",\"logit\"}; several labels: {\"scores\",\"logits\"}", 0, 0, NULL},
        {"format", 0, OPTION_CHOICE, &job.format, NULL,
         "of FILE; auto: jsonl when the name or the first line says so", 0, 0, record_format_names},
        {"output", 'o', OPTION_TEXT, &job.out_path, "FILE",
         "instead of stdout, whole or not at all", 0, 0, NULL},
        SCORING_OPTIONS(&job.model),
    };
    cli_arguments files;
    cli_exit code =
        options_parse(self, options, sizeof options / sizeof *options, argc, argv, 0, 1, &files);
    if (code != CLI_PARSED) return code;
    if (!job.model.path) return options_misuse(self, "no model: -m MODEL");

    opened_model opened = {0};
    code = records_open(&job.in, files.n ? files.at[0] : "-", (record_format)job.format);
    if (code == CLI_OK) code = model_open(&opened, &job.model, 1);
    if (code == CLI_OK) code = score_all(&job, &opened);
    if (code == CLI_OK && job.model.verbose) report_usage(&opened, &job.model, &job.usage);
    model_close(&opened);
    records_close(&job.in);
    store_clear(&job.keep);
    free(job.pairs);
    free(job.logits);
    free(job.scores);
    return code;
}

const cli_command score_command = {
    .name = "score",
    .summary = "Scores (query, document) pairs, in input order.",
    .synopsis = "-m MODEL [FILE|-]",
    .details =
        "FILE holds query<TAB>document lines, or JSON Lines {\"query\",\"document\"}. Prints one\n"
        "number a line, 9 significant digits (several labels: with tabs between).",
    .example = "  crank score -m MODEL pairs.tsv > scores.txt\n"
               "  printf 'best pie\\tApple pie recipe\\n' | crank score -m MODEL --json",
    .run = run,
};
