/* crank tokenize: the ids that a model would read, for comparing tokenizers and counting tokens. */
#include <string.h>

#include "cli/model.h"
#include "cli/output.h"
#include "cli/records.h"

typedef struct tokenize_job {
    model_flags model; /* its path and truncation flags */
    const char *out_path;
    int format;
    records in;
    size_t n_failed;
} tokenize_job;

/* A line's own "max_length" (null: none) and "truncation" go before the options. */
static cli_exit line_options(const tokenize_job *job, crank_tokenize_options *options)
{
    const json_t *length = json_object_get(job->in.object, "max_length");
    if (json_is_null(length)) {
        options->max_length = 0;
    } else if (length) {
        if (!json_is_integer(length) || json_integer_value(length) < 1)
            return input_bad(job->in.in, "\"max_length\" is not a positive integer or null");
        options->max_length = (size_t)json_integer_value(length);
    }
    crank_text name;
    cli_exit code = record_text(&job->in, "truncation", 0, &name);
    if (code != CLI_OK || !name.data) return code;
    for (int i = 0; truncation_names[i]; i++) {
        if (i != CRANK_WINDOW && strlen(truncation_names[i]) == name.bytes &&
            memcmp(truncation_names[i], name.data, name.bytes) == 0) {
            options->truncation = (crank_truncation)i;
            return CLI_OK;
        }
    }
    return input_bad(job->in.in, "\"truncation\" is neither longest_first nor only_second");
}

static void put_ids(FILE *to, const char *key, const int32_t *ids, size_t n)
{
    fprintf(to, "\"%s\":[", key);
    for (size_t i = 0; i < n; i++) fprintf(to, i ? ",%d" : "%d", ids[i]);
    putc(']', to);
}

static cli_exit tokenize_line(tokenize_job *job, const crank_tokenizer *tokenizer, crank_text line,
                              FILE *to)
{
    crank_tokenize_options options = {
        .size = sizeof options,
        .max_length = job->model.max_length,
        .truncation = (crank_truncation)job->model.truncation,
        .specials_as_text = job->model.specials_as_text,
    };
    crank_text text = line, document = {NULL, 0};
    cli_exit code = CLI_OK;
    if (job->in.object) {
        int is_pair = json_object_get(job->in.object, "query") != NULL;
        code = line_options(job, &options);
        if (code == CLI_OK) code = record_text(&job->in, is_pair ? "query" : "text", 1, &text);
        if (code == CLI_OK && is_pair) code = record_text(&job->in, "document", 1, &document);
        if (code != CLI_OK) return code;
    }
    crank_encoding encoding = {0};
    crank_error error = {0};
    crank_status status = crank_tokenize(tokenizer, text, document.data ? &document : NULL,
                                         &options, &encoding, &error);
    if (status == CRANK_OK) {
        putc('{', to);
        put_ids(to, "ids", encoding.ids, encoding.n);
        putc(',', to);
        put_ids(to, "type_ids", encoding.types, encoding.n);
        fputs("}\n", to);
    } else if (status == CRANK_INVALID_ARGUMENT || status == CRANK_LIMIT) {
        fputs("{\"error\":", to);
        json_put_string(to, error.message);
        fputs("}\n", to);
        job->n_failed++;
    } else {
        return cli_fail_status(&error, 0);
    }
    crank_encoding_free(&encoding);
    return CLI_OK;
}

static cli_exit tokenize_all(tokenize_job *job, const crank_tokenizer *tokenizer)
{
    output *out;
    cli_exit code = output_open(&out, job->out_path);
    if (code != CLI_OK) return code;
    for (;;) {
        crank_text line;
        code = records_next(&job->in, &line);
        if (code != CLI_OK || !line.data) break;
        code = tokenize_line(job, tokenizer, line, output_stream(out));
        if (code == CLI_OK) code = output_check(out);
        if (code != CLI_OK) break;
    }
    if (code != CLI_OK) {
        output_discard(out);
        return code;
    }
    code = output_commit(out);
    if (code == CLI_OK && job->n_failed)
        return cli_fail(CLI_ERRORS, "%zu lines could not be truncated as asked", job->n_failed);
    return code;
}

static cli_exit run(const cli_command *self, int argc, char **argv)
{
    tokenize_job job = {0};
    const cli_option options[] = {
        MODEL_OPTION(&job.model),
        {"max-length", 0, OPTION_COUNT, &job.model.max_length, "N",
         "cut to N tokens, template tokens included; no truncation", 1, 1 << 24, NULL},
        {"truncation", 0, OPTION_CHOICE, &job.model.truncation, NULL, "longest_first", 0, 0,
         truncation_names},
        {"specials-as-text", 0, OPTION_FLAG, &job.model.specials_as_text, NULL,
         "\"[SEP]\" in a text is text", 0, 0, NULL},
        {"format", 0, OPTION_CHOICE, &job.format, NULL,
         "of FILE; auto: jsonl when the name or the first line says so", 0, 0, record_format_names},
        {"output", 'o', OPTION_TEXT, &job.out_path, "FILE",
         "instead of stdout, whole or not at all", 0, 0, NULL},
    };
    cli_arguments files;
    cli_exit code =
        options_parse(self, options, sizeof options / sizeof *options, argc, argv, 0, 1, &files);
    if (code != CLI_PARSED) return code;
    if (!job.model.path) return options_misuse(self, "no model: -m MODEL");
    if (job.model.truncation == CRANK_WINDOW)
        return options_misuse(self, "--truncation window is for scoring, not for this");

    crank_tokenizer *tokenizer = NULL;
    crank_error error = {0};
    code = records_open(&job.in, files.n ? files.at[0] : "-", (record_format)job.format);
    if (code == CLI_OK && crank_tokenizer_open(&tokenizer, job.model.path, &error) != CRANK_OK)
        code = cli_fail_status(&error, 1);
    if (code == CLI_OK) code = tokenize_all(&job, tokenizer);
    crank_tokenizer_close(tokenizer);
    records_close(&job.in);
    return code;
}

const cli_command tokenize_command = {
    .name = "tokenize",
    .summary = "Token ids and types of texts and pairs; needs a model's tokenizer files alone.",
    .synopsis = "-m MODEL [FILE|-]",
    .details =
        "FILE holds JSON Lines {\"text\"} or {\"query\",\"document\"}, or a text a line. A JSON "
        "line may\n"
        "carry its own \"max_length\" (null: none) and \"truncation\". Prints "
        "{\"ids\",\"type_ids\"} a line;\n"
        "a pair that cannot be truncated as asked gives {\"error\"} and exit code 1 at the end.",
    .example = "  echo '{\"query\":\"tides\",\"document\":\"the moon pulls\",\"max_length\":8}' |\n"
               "      crank tokenize -m MODEL",
    .run = run,
};
