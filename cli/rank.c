/* crank rank: documents of one query, best first. All documents are read before the first is
 * scored, because the order needs them all. With --stages, each model orders what the one before it
 * kept: a cascade in one call. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/documents.h"
#include "cli/model.h"
#include "cli/output.h"

#define MOST_STAGES 8

typedef struct stage {
    char *path;
    char name[128];
    size_t n_docs; /* that it was given */
    int64_t load_us;
    crank_usage usage;
} stage;

typedef struct rank_job {
    model_flags model;
    const char *query, *out_path, *stage_list, *embeddings_path;
    size_t depth;
    int json, no_text, format, aggregate;
    stage stages[MOST_STAGES];
    int n_stages;
    size_t *kept; /* [n_kept]: documents that the next stage gets, in the order of the last */
    size_t n_kept;
    records in;
    documents docs;
    crank_embeddings *embeddings; /* with --embeddings: instead of texts */
    size_t *candidates;           /* [n_kept]; NULL: all of them */
    crank_result *results;
    size_t n_results;
    crank_usage usage;
    int64_t total_us;
} rank_job;

/* Orders the kept documents; results are theirs, best first, index as in docs. */
static cli_exit rank_documents(rank_job *job, opened_model *opened, size_t top_k)
{
    progress bar;
    progress_start(&bar, "pairs", (progress_mode)job->model.progress);
    crank_score_options options = score_options_of(&job->model);
    options.progress = progress_report;
    options.progress_user = &bar;
    options.top_k = top_k;
    options.aggregation = (crank_aggregation)job->aggregate;
    crank_text query = {job->query, strlen(job->query)};
    crank_text *texts = cli_alloc(job->n_kept, sizeof *texts);
    for (size_t i = 0; i < job->n_kept; i++) texts[i] = job->docs.at[job->kept[i]].text;
    crank_error error = {0};
    crank_status status = crank_rank(opened->session, query, texts, job->n_kept, &options,
                                     job->results, &job->n_results, &job->usage, &error);
    progress_hide();
    free(texts);
    if (status != CRANK_OK) return cli_fail_status(&error, 0);
    for (size_t i = 0; i < job->n_results; i++)
        job->results[i].index = job->kept[job->results[i].index];
    return CLI_OK;
}

/* Opens a stage's model, ranks, and leaves what it keeps for the next. The last stage's model stays
 * open: its name and device are in the output. */
static cli_exit run_stage(rank_job *job, int number, opened_model *opened)
{
    stage *s = &job->stages[number];
    int last = number == job->n_stages - 1;
    job->model.path = s->path;
    cli_exit code = model_open(opened, &job->model, 1);
    if (code != CLI_OK) return code;
    snprintf(s->name, sizeof s->name, "%s", opened->info.name);
    s->n_docs = job->n_kept;
    s->load_us = opened->load_us;
    code = rank_documents(job, opened, last ? job->model.top_k : job->depth);
    s->usage = job->usage;
    if (code != CLI_OK || last) return code;
    report_usage(opened, &job->model, &job->usage);
    model_close(opened);
    job->n_kept = job->n_results;
    for (size_t i = 0; i < job->n_kept; i++) job->kept[i] = job->results[i].index;
    return CLI_OK;
}

static cli_exit run_stages(rank_job *job, opened_model *opened)
{
    job->kept = cli_alloc(job->docs.n, sizeof *job->kept);
    job->results = cli_alloc(job->docs.n, sizeof *job->results);
    job->n_kept = job->docs.n;
    for (size_t i = 0; i < job->docs.n; i++) job->kept[i] = i;
    for (int i = 0; i < job->n_stages; i++) {
        cli_exit code = run_stage(job, i, opened);
        if (code != CLI_OK) return code;
    }
    return CLI_OK;
}

/* ---- embeddings ---- */

static cli_exit rank_embeddings(rank_job *job, opened_model *opened, size_t n)
{
    crank_error error = {0};
    crank_score_options options = score_options_of(&job->model);
    crank_text query = {job->query, strlen(job->query)};
    size_t most = job->candidates ? job->n_kept : n;
    job->results = cli_alloc(most > 0 ? most : 1, sizeof *job->results);
    crank_status status =
        crank_rank_embeddings(opened->session, query, job->embeddings, job->candidates, job->n_kept,
                              &options, job->results, &job->n_results, &job->usage, &error);
    return status == CRANK_OK ? CLI_OK : cli_fail_status(&error, 0);
}

/* The documents' vectors come from a file; FILE, where there is one, names candidates. */
static cli_exit run_embeddings(rank_job *job, opened_model *opened, const char *candidates)
{
    crank_error error = {0};
    crank_embeddings_info info = {.size = sizeof info};
    cli_exit code = CLI_OK;
    if (crank_embeddings_open(&job->embeddings, job->embeddings_path, &error) != CRANK_OK ||
        crank_embeddings_describe(job->embeddings, &info, &error) != CRANK_OK)
        return cli_fail_status(&error, 0);
    documents_of_embeddings(&job->docs, job->embeddings, info.documents);
    if (candidates) code = records_open(&job->in, candidates, (record_format)job->format);
    if (code == CLI_OK && candidates)
        code = documents_read_candidates(&job->candidates, &job->n_kept, &job->in, job->embeddings,
                                         info.documents);
    job->model.path = job->stages[0].path;
    job->no_text = 1;
    if (code == CLI_OK) code = model_open(opened, &job->model, 1);
    if (code == CLI_OK) code = rank_embeddings(job, opened, info.documents);
    return code;
}

/* A model that is not there is said before documents are read from a pipe. */
static cli_exit check_models(const rank_job *job)
{
    for (int i = 0; i < job->n_stages; i++) {
        if (access(job->stages[i].path, R_OK) == 0) continue;
        crank_error error = {0};
        crank_model *model = NULL;
        crank_model_open(&model, job->stages[i].path, NULL, &error);
        crank_model_close(model);
        return cli_fail_status(&error, 1);
    }
    return CLI_OK;
}

/* "a,b" or the one model of -m. */
static cli_exit split_stages(const cli_command *self, rank_job *job)
{
    if (!job->stage_list && !job->model.path)
        return options_misuse(self, "no model: -m MODEL, or --stages MODEL,MODEL");
    if (job->stage_list && job->model.path)
        return options_misuse(self, "-m and --stages exclude each other");
    const char *at = job->stage_list ? job->stage_list : job->model.path;
    if (!*at) return options_misuse(self, "the model's name is empty");
    while (*at) {
        const char *comma = job->stage_list ? strchr(at, ',') : NULL;
        size_t bytes = comma ? (size_t)(comma - at) : strlen(at);
        if (bytes == 0 || job->n_stages == MOST_STAGES)
            return options_misuse(self, "--stages: 1 to 8 models with commas between");
        char *path = cli_alloc(bytes + 1, 1);
        memcpy(path, at, bytes);
        path[bytes] = '\0';
        job->stages[job->n_stages++].path = path;
        at += comma ? bytes + 1 : bytes;
    }
    return CLI_OK;
}

static void put_json(FILE *to, const rank_job *job, const opened_model *opened)
{
    fputs("{\"model\":", to);
    json_put_string(to, opened->info.name);
    fputs(",\"query\":", to);
    json_put_string(to, job->query);
    fputs(",\"results\":[", to);
    for (size_t i = 0; i < job->n_results; i++) {
        const crank_result *result = &job->results[i];
        const document *doc = &job->docs.at[result->index];
        fprintf(to, "%s{\"index\":%zu", i ? "," : "", result->index);
        if (doc->id) {
            fputs(",\"id\":", to);
            json_put_string(to, doc->id);
        }
        fputs(",\"score\":", to);
        json_put_float(to, result->score);
        fputs(",\"logit\":", to);
        json_put_float(to, result->logit);
        if (job->model.truncation == CRANK_WINDOW)
            fprintf(to, ",\"window\":{\"start\":%u,\"bytes\":%u}", result->window_start,
                    result->window_bytes);
        if (!job->no_text) {
            fputs(",\"text\":", to);
            json_put_text(to, doc->text.data, doc->text.bytes);
        }
        putc('}', to);
    }
    fprintf(to, "],\"usage\":{\"pairs\":%zu,\"tokens\":%zu}", job->usage.pairs, job->usage.tokens);
    fprintf(to, ",\"timing_us\":{\"load\":%lld,\"tokenize\":%lld,\"compute\":%lld,\"total\":%lld}",
            (long long)opened->load_us, (long long)job->usage.tokenize_us,
            (long long)job->usage.compute_us, (long long)job->total_us);
    for (int i = 0; job->stage_list && i < job->n_stages; i++) {
        const stage *s = &job->stages[i];
        fputs(i ? "," : ",\"stages\":[", to);
        fputs("{\"model\":", to);
        json_put_string(to, s->name);
        fprintf(to,
                ",\"documents\":%zu,\"tokens\":%zu,\"timing_us\":{\"load\":%lld,\"tokenize\":%lld,"
                "\"compute\":%lld}}",
                s->n_docs, s->usage.tokens, (long long)s->load_us, (long long)s->usage.tokenize_us,
                (long long)s->usage.compute_us);
    }
    fputs(job->stage_list ? "]}\n" : "}\n", to);
}

/* Columns for scripts: rank, score, id (or index), text; one line each, tabs between. */
static void put_columns(FILE *to, const rank_job *job)
{
    for (size_t i = 0; i < job->n_results; i++) {
        const document *doc = &job->docs.at[job->results[i].index];
        fprintf(to, "%zu\t%.9g\t", i + 1, (double)job->results[i].score);
        if (doc->id)
            put_plain(to, doc->id, strlen(doc->id));
        else
            fprintf(to, "%zu", job->results[i].index);
        if (!job->no_text) {
            putc('\t', to);
            put_plain(to, doc->text.data, doc->text.bytes);
        }
        putc('\n', to);
    }
}

/* Scores that are probabilities fill a bar of their own size; others share the range. */
static double bar_share(const rank_job *job, float score)
{
    float best = job->results[0].score, worst = job->results[job->n_results - 1].score;
    if (worst >= 0 && best <= 1) return (double)score;
    return best > worst ? (double)((score - worst) / (best - worst)) : 1;
}

static void put_table(FILE *to, const rank_job *job)
{
    enum { BAR = 12, MOST_ID = 28 };
    int id_columns = 5, rank_columns = 2;
    for (size_t i = 0; i < job->n_results; i++) {
        const char *id = job->docs.at[job->results[i].index].id;
        int columns = id ? terminal_text_width(id, strlen(id)) : 5;
        if (columns > id_columns) id_columns = columns < MOST_ID ? columns : MOST_ID;
    }
    for (size_t n = job->n_results; n >= 100; n /= 10) rank_columns++;
    int text_columns = terminal_columns(to) - rank_columns - BAR - id_columns - 18;
    fprintf(to, "%s%*s  %-*s%10s  %-*s  ", terminal_style_of(to, STYLE_DIM), rank_columns, "#", BAR,
            "", "score", id_columns, "id");
    if (!job->no_text) terminal_put(to, "document", strlen("document"), text_columns);
    fprintf(to, "%s\n", terminal_style_of(to, STYLE_PLAIN));
    for (size_t i = 0; i < job->n_results; i++) {
        const document *doc = &job->docs.at[job->results[i].index];
        fprintf(to, "%*zu  %s", rank_columns, i + 1, terminal_style_of(to, STYLE_GREEN));
        terminal_bar(to, bar_share(job, job->results[i].score), BAR);
        fprintf(to, "%s%10.4f  ", terminal_style_of(to, STYLE_PLAIN),
                (double)job->results[i].score);
        char number[24];
        snprintf(number, sizeof number, "%zu", job->results[i].index);
        const char *id = doc->id ? doc->id : number;
        int taken = terminal_put(to, id, strlen(id), id_columns);
        fprintf(to, "%*s  ", id_columns - taken, "");
        if (!job->no_text) terminal_put(to, doc->text.data, doc->text.bytes, text_columns);
        putc('\n', to);
    }
}

static cli_exit put_results(const rank_job *job, const opened_model *opened)
{
    output *out;
    cli_exit code = output_open(&out, job->out_path);
    if (code != CLI_OK) return code;
    FILE *to = output_stream(out);
    if (job->json)
        put_json(to, job, opened);
    else if (terminal_is(to))
        put_table(to, job);
    else
        put_columns(to, job);
    return output_commit(out);
}

static cli_exit run(const cli_command *self, int argc, char **argv)
{
    int64_t start = now_us();
    static const char *const aggregations[] = {"sym-sum", "sum", "sym-sum-log", "sum-log", NULL};
    rank_job job = {.depth = 50};
    const cli_option options[] = {
        {"query", 'q', OPTION_TEXT, &job.query, "TEXT", "what to rank for (required)", 0, 0, NULL},
        {"top-k", 0, OPTION_COUNT, &job.model.top_k, "N", "print the best N; all", 1, 0, NULL},
        {"stages", 0, OPTION_TEXT, &job.stage_list, "A,B",
         "instead of -m: each model orders what the one before it kept", 0, 0, NULL},
        {"depth", 0, OPTION_COUNT, &job.depth, "N", "documents that a stage keeps; 50", 1, 0, NULL},
        {"aggregate", 0, OPTION_CHOICE, &job.aggregate, NULL,
         "duo rankers: how wins over all pairs add up", 0, 0, aggregations},
        {"embeddings", 0, OPTION_TEXT, &job.embeddings_path, "EMB",
         "documents as crank encode wrote them; FILE then holds ids of candidates, one a line", 0,
         0, NULL},
        {"json", 0, OPTION_FLAG, &job.json, NULL, "one JSON object", 0, 0, NULL},
        {"no-text", 0, OPTION_FLAG, &job.no_text, NULL, "leave the documents' text out", 0, 0,
         NULL},
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
    if (!job.query) return options_misuse(self, "no query: -q QUERY");

    if (job.embeddings_path && job.stage_list)
        return options_misuse(self, "--embeddings and --stages exclude each other");

    code = split_stages(self, &job);

    opened_model opened = {0};
    /* A file that is not there is said before a model is loaded, a bad model before stdin is read.
     */
    if (job.embeddings_path) {
        if (code == CLI_OK) code = run_embeddings(&job, &opened, files.n ? files.at[0] : NULL);
    } else {
        if (code == CLI_OK)
            code = records_open(&job.in, files.n ? files.at[0] : "-", (record_format)job.format);
        if (code == CLI_OK) code = check_models(&job);
        if (code == CLI_OK) code = documents_read(&job.docs, &job.in);
        if (code == CLI_OK) code = run_stages(&job, &opened);
    }
    job.total_us = now_us() - start;
    if (code == CLI_OK) code = put_results(&job, &opened);
    if (code == CLI_OK) report_usage(&opened, &job.model, &job.usage);
    model_close(&opened);
    records_close(&job.in);
    for (int i = 0; i < job.n_stages; i++) free(job.stages[i].path);
    free(job.kept);
    free(job.candidates);
    free(job.results);
    crank_embeddings_close(job.embeddings);
    documents_free(&job.docs);
    return code;
}

const cli_command rank_command = {
    .name = "rank",
    .summary = "Orders documents by how well they answer a query.",
    .synopsis = "-m MODEL -q QUERY [FILE|-]",
    .details = "FILE holds one document a line, or JSON Lines {\"id\"?, \"text\"}; a .gz name is\n"
               "decompressed, - or no FILE is stdin. On a terminal: a table with score bars;\n"
               "in a pipe: rank, score, id (or line index from 0) and text with tabs between.\n"
               "--stages runs a cascade, e.g. a small model and then a large or a duo one.\n"
               "--embeddings takes ColBERT documents from a file: only the query is encoded.",
    .example =
        "  crank rank -m ms-marco-MiniLM-L-6-v2 -q 'how do tides work' docs.txt\n"
        "  crank rank --stages mono.crank,duo.crank --depth 50 -q 'how do tides work' docs.txt\n"
        "  apt-cache search . | crank rank -m MODEL -q 'edit photos' --top-k 5",
    .run = run,
};
