/* crank encode: documents of a late interaction model, once and for all, into an embeddings file
 * that crank rank --embeddings reads. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/documents.h"
#include "cli/model.h"

typedef struct encode_command_job {
    model_flags model;
    const char *out_path;
    int store, format;
    records in;
    documents docs;
} encode_command_job;

/* Ids are stored when every line carries one. */
static cli_exit collect_ids(const encode_command_job *job, const char ***ids)
{
    size_t with = 0;
    *ids = NULL;
    for (size_t i = 0; i < job->docs.n; i++) with += job->docs.at[i].id != NULL;
    if (with == 0) return CLI_OK;
    if (with != job->docs.n)
        return cli_fail(CLI_USAGE, "%zu of %zu documents have no \"id\": all or none",
                        job->docs.n - with, job->docs.n);
    *ids = cli_alloc(job->docs.n, sizeof **ids);
    for (size_t i = 0; i < job->docs.n; i++) (*ids)[i] = job->docs.at[i].id;
    return CLI_OK;
}

static cli_exit encode(encode_command_job *job, opened_model *opened)
{
    const char **ids;
    cli_exit code = collect_ids(job, &ids);
    if (code != CLI_OK) return code;
    crank_text *texts = cli_alloc(job->docs.n + 1, sizeof *texts);
    for (size_t i = 0; i < job->docs.n; i++) texts[i] = job->docs.at[i].text;
    progress bar;
    progress_start(&bar, "documents", (progress_mode)job->model.progress);
    const crank_encode_options options = {
        .size = sizeof options,
        .dtype = job->store ? CRANK_DTYPE_INT8 : CRANK_DTYPE_F32,
        .ids = ids,
        .specials_as_text = job->model.specials_as_text,
        .progress = progress_report,
        .progress_user = &bar,
    };
    crank_error error = {0};
    crank_usage usage = {0};
    crank_status status =
        crank_encode(opened->session, texts, job->docs.n, &options, job->out_path, &usage, &error);
    progress_hide();
    free(texts);
    free(ids);
    if (status != CRANK_OK) return cli_fail_status(&error, 0);
    report_usage(opened, &job->model, &usage);
    struct stat about;
    if ((job->model.verbose || terminal_is(stderr)) && stat(job->out_path, &about) == 0)
        cli_say("%s: %zu documents, %.1f MB", job->out_path, job->docs.n,
                (double)about.st_size / 1e6);
    return CLI_OK;
}

static cli_exit run(const cli_command *self, int argc, char **argv)
{
    static const char *const stores[] = {"f32", "int8", NULL};
    encode_command_job job = {0};
    const cli_option options[] = {
        {"output", 'o', OPTION_TEXT, &job.out_path, "FILE",
         "the file to write, whole or not at all (required)", 0, 0, NULL},
        {"store", 0, OPTION_CHOICE, &job.store, NULL,
         "of the vectors; f32 ranks with the bits of the documents' texts, int8 is a quarter", 0, 0,
         stores},
        {"format", 0, OPTION_CHOICE, &job.format, NULL,
         "of FILE; auto: jsonl when the name or the first line says so", 0, 0, record_format_names},
        MODEL_OPTION(&job.model),
        DEVICE_OPTIONS(&job.model),
        DTYPE_OPTION(&job.model),
        THREADS_OPTION(&job.model),
        {"batch-tokens", 0, OPTION_COUNT, &job.model.batch_tokens, "N",
         "tokens of a micro-batch; the planner's choice", 16, 1 << 20, NULL},
        {"specials-as-text", 0, OPTION_FLAG, &job.model.specials_as_text, NULL,
         "\"[SEP]\" in a text is text", 0, 0, NULL},
        PROGRESS_OPTION(&job.model),
        VERBOSE_OPTION(&job.model),
    };
    cli_arguments files;
    cli_exit code =
        options_parse(self, options, sizeof options / sizeof *options, argc, argv, 0, 1, &files);
    if (code != CLI_PARSED) return code;
    if (!job.model.path) return options_misuse(self, "no model: -m MODEL");
    if (!job.out_path) return options_misuse(self, "no output: -o FILE");

    opened_model opened = {0};
    code = records_open(&job.in, files.n ? files.at[0] : "-", (record_format)job.format);
    if (code == CLI_OK) code = model_open(&opened, &job.model, 1);
    if (code == CLI_OK && opened.info.kind != CRANK_LATE_INTERACTION)
        code = cli_fail(CLI_USAGE,
                        "%s is no late interaction model (ColBERT): its documents have no vectors "
                        "of their own",
                        opened.info.name);
    if (code == CLI_OK) code = documents_read(&job.docs, &job.in);
    if (code == CLI_OK) code = encode(&job, &opened);
    model_close(&opened);
    records_close(&job.in);
    documents_free(&job.docs);
    return code;
}

const cli_command encode_command = {
    .name = "encode",
    .summary = "Encodes documents of a ColBERT model into a file, so that ranking costs the query.",
    .synopsis = "-m MODEL [FILE|-] -o EMBEDDINGS",
    .details =
        "FILE holds one document a line, or JSON Lines {\"id\"?, \"text\"} (ids on all lines or\n"
        "on none). The file is safetensors: vectors, counts, ids, and what made it.",
    .example =
        "  crank encode -m colbertv2.0 docs.jsonl -o docs.emb --store int8\n"
        "  crank rank -m colbertv2.0 --embeddings docs.emb -q 'how do tides work' --top-k 10",
    .run = run,
};
