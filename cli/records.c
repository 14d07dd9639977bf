/* Records out of lines, JSON through base/jsontext: strict (no duplicate keys, no invalid UTF-8,
 * nothing after the object), NUL allowed because texts have lengths. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/records.h"
#include "jsontext.h"

const char *const record_format_names[] = {"auto", "lines", "jsonl", NULL};

cli_exit records_open(records *r, const char *path, record_format format)
{
    memset(r, 0, sizeof *r);
    if (format == FORMAT_AUTO) {
        if (input_has_suffix(path, ".jsonl") || input_has_suffix(path, ".ndjson"))
            format = FORMAT_JSONL;
        else if (input_has_suffix(path, ".tsv") || input_has_suffix(path, ".txt"))
            format = FORMAT_LINES;
    }
    r->format = format;
    if (strcmp(path, "-") == 0 && isatty(STDIN_FILENO) && isatty(STDERR_FILENO))
        cli_say("reading from the terminal; Ctrl-D on an empty line ends");
    return input_open(&r->in, path);
}

void records_close(records *r)
{
    json_decref(r->object);
    r->object = NULL;
    input_close(r->in);
    r->in = NULL;
}

static int is_blank(crank_text line)
{
    for (size_t i = 0; i < line.bytes; i++)
        if (line.data[i] != ' ' && line.data[i] != '\t') return 0;
    return 1;
}

static cli_exit parse(records *r, crank_text line)
{
    static const jsontext_limits limits = {JSONTEXT_NUL, 0, 0};
    crank_error error = {0};
    crank_status status =
        jsontext_tree(&r->object, "not JSON", line.data, line.bytes, &limits, &error);
    if (status == CRANK_OK && json_is_object(r->object)) return CLI_OK;
    if (status == CRANK_OK) return input_bad(r->in, "not a JSON object");
    r->object = NULL;
    if (status == CRANK_OUT_OF_MEMORY) return cli_fail(CLI_MEMORY, "%s", error.message);
    return input_bad(r->in, "%s", error.message);
}

cli_exit records_next(records *r, crank_text *line)
{
    json_decref(r->object);
    r->object = NULL;
    for (;;) {
        cli_exit code = input_line(r->in, line);
        if (code != CLI_OK || !line->data) return code;
        if (r->format == FORMAT_AUTO) {
            crank_text first = *line;
            while (first.bytes > 0 && (*first.data == ' ' || *first.data == '\t')) {
                first.data++;
                first.bytes--;
            }
            r->format = first.bytes > 0 && *first.data == '{' ? FORMAT_JSONL : FORMAT_LINES;
        }
        if (r->format == FORMAT_LINES) return CLI_OK;
        if (!is_blank(*line)) break;
        if (!r->blank_line) r->blank_line = input_line_number(r->in);
    }
    if (r->blank_line)
        return cli_fail(CLI_USAGE, "%s:%zu: a blank line among JSON lines", input_name(r->in),
                        r->blank_line);
    return parse(r, *line);
}

cli_exit record_text(const records *r, const char *key, int required, crank_text *text)
{
    return record_text_in(r, r->object, "", key, required, text);
}

cli_exit record_text_in(const records *r, const json_t *object, const char *where, const char *key,
                        int required, crank_text *text)
{
    *text = (crank_text){NULL, 0};
    const json_t *value = json_object_get(object, key);
    if (json_is_string(value)) {
        *text = (crank_text){json_string_value(value), json_string_length(value)};
        return CLI_OK;
    }
    if (value && !json_is_null(value))
        return input_bad(r->in, "\"%s%s\" is not a string", where, key);
    if (required) return input_bad(r->in, "no \"%s%s\"", where, key);
    return CLI_OK;
}

cli_exit record_id_in(const records *r, const json_t *object, const char *where, const char *key,
                      int required, store *keep, const char **id)
{
    *id = NULL;
    const json_t *value = json_object_get(object, key);
    if (json_is_integer(value)) {
        char number[32];
        int bytes =
            snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        *id = store_string(keep, number, (size_t)bytes);
        return CLI_OK;
    }
    if (value && !json_is_null(value) && !json_is_string(value))
        return input_bad(r->in, "\"%s%s\" is neither a string nor an integer", where, key);
    crank_text text;
    cli_exit code = record_text_in(r, object, where, key, required, &text);
    if (code != CLI_OK) return code;
    if (text.data && memchr(text.data, '\0', text.bytes))
        return input_bad(r->in, "\"%s%s\" holds a NUL", where, key);
    if (text.data) *id = store_string(keep, text.data, text.bytes);
    return CLI_OK;
}

cli_exit record_split(const records *r, crank_text line, crank_text *query, crank_text *document)
{
    const char *tab = memchr(line.data, '\t', line.bytes);
    if (!tab) return input_bad(r->in, "no tab between query and document");
    *query = (crank_text){line.data, (size_t)(tab - line.data)};
    *document = (crank_text){tab + 1, line.bytes - query->bytes - 1};
    return CLI_OK;
}

cli_exit records_next_pair(records *r, crank_text *query, crank_text *document)
{
    crank_text line;
    *query = *document = (crank_text){NULL, 0};
    cli_exit code = records_next(r, &line);
    if (code != CLI_OK || line.data == NULL) return code;
    if (r->object == NULL) return record_split(r, line, query, document);
    code = record_text(r, "query", 1, query);
    return code == CLI_OK ? record_text(r, "document", 1, document) : code;
}
