/* Reading qrels and runs. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/trec.h"

enum { MAX_FIELDS = 8 };

int trec_name_is_plain(const char *name)
{
    if (!*name) return 0;
    for (; *name; name++)
        if ((unsigned char)*name <= ' ' || *name == 0x7F) return 0;
    return 1;
}

/* Splits at blanks; returns the number of fields, MAX_FIELDS for that many or more. */
static int split(crank_text line, crank_text fields[MAX_FIELDS])
{
    int n = 0;
    size_t i = 0;
    while (n < MAX_FIELDS) {
        while (i < line.bytes && strchr(" \t\v\f\r", line.data[i]) && line.data[i]) i++;
        if (i == line.bytes) break;
        size_t start = i;
        while (i < line.bytes && !(strchr(" \t\v\f\r", line.data[i]) && line.data[i])) i++;
        fields[n++] = (crank_text){line.data + start, i - start};
    }
    return n;
}

static trec_topic *topic_of(trec *t, crank_text qid)
{
    int is_new;
    size_t number = names_add(&t->qids, qid.data, qid.bytes, &is_new);
    if (is_new) {
        t->topics = cli_append(t->topics, number, &t->capacity, sizeof *t->topics);
        memset(&t->topics[number], 0, sizeof t->topics[number]);
    }
    return &t->topics[number];
}

/* A field as a NUL-terminated string in buffer; 0 when it does not fit. */
static int field_string(crank_text field, char buffer[64])
{
    if (field.bytes >= 64) return 0;
    memcpy(buffer, field.data, field.bytes);
    buffer[field.bytes] = '\0';
    return strlen(buffer) == field.bytes;
}

static cli_exit read_judgement(trec *t, const input *in, crank_text line)
{
    crank_text fields[MAX_FIELDS];
    int n = split(line, fields);
    if (n == 0) return CLI_OK;
    if (n != 4) return input_bad(in, "%d fields where \"qid 0 docid grade\" has 4", n);
    char number[64], *end = number;
    errno = 0;
    long grade = field_string(fields[3], number) ? strtol(number, &end, 10) : 0;
    if (end == number || *end || errno || grade > 1000000 || grade < -1000000)
        return input_bad(in, "the grade is not a whole number: %.*s",
                         (int)(fields[3].bytes < 60 ? fields[3].bytes : 60), fields[3].data);
    trec_topic *topic = topic_of(t, fields[0]);
    size_t doc = names_add(&t->docs, fields[2].data, fields[2].bytes, NULL);
    topic->judged =
        cli_append(topic->judged, topic->n_judged, &topic->judged_capacity, sizeof *topic->judged);
    topic->judged[topic->n_judged++] = (judgement){doc, grade};
    return CLI_OK;
}

static cli_exit read_retrieved(trec *t, const input *in, crank_text line)
{
    crank_text fields[MAX_FIELDS];
    int n = split(line, fields);
    if (n == 0) return CLI_OK;
    if (n < 5 || n > 6)
        return input_bad(in, "%d fields where \"qid Q0 docid rank score tag\" has 6", n);
    char number[64], *end = number;
    double score = field_string(fields[4], number) ? strtod(number, &end) : 0;
    if (end == number || *end || isnan(score))
        return input_bad(in, "the score is not a number: %.*s",
                         (int)(fields[4].bytes < 60 ? fields[4].bytes : 60), fields[4].data);
    trec_topic *topic = topic_of(t, fields[0]);
    size_t doc = names_add(&t->docs, fields[2].data, fields[2].bytes, NULL);
    topic->found =
        cli_append(topic->found, topic->n_found, &topic->found_capacity, sizeof *topic->found);
    topic->found[topic->n_found++] = (retrieved){doc, (float)score, input_line_number(in)};
    return CLI_OK;
}

static int by_doc(const void *a, const void *b)
{
    const judgement *x = a, *y = b;
    return x->doc < y->doc ? -1 : x->doc > y->doc;
}

static int found_by_doc(const void *a, const void *b)
{
    const retrieved *x = a, *y = b;
    if (x->doc != y->doc) return x->doc < y->doc ? -1 : 1;
    return x->line < y->line ? -1 : x->line > y->line;
}

static cli_exit check_judgements(trec *t, const char *path)
{
    for (size_t q = 0; q < t->qids.n; q++) {
        trec_topic *topic = &t->topics[q];
        if (topic->n_judged) qsort(topic->judged, topic->n_judged, sizeof *topic->judged, by_doc);
        for (size_t i = 1; i < topic->n_judged; i++)
            if (topic->judged[i].doc == topic->judged[i - 1].doc)
                return cli_fail(CLI_USAGE, "%s: query %s judges document %s twice", path,
                                t->qids.texts[q], t->docs.texts[topic->judged[i].doc]);
    }
    return CLI_OK;
}

static cli_exit check_run(trec *t, const char *path)
{
    for (size_t q = 0; q < t->qids.n; q++) {
        trec_topic *topic = &t->topics[q];
        if (topic->n_found < 2) continue;
        retrieved *sorted = cli_alloc(topic->n_found, sizeof *sorted);
        memcpy(sorted, topic->found, topic->n_found * sizeof *sorted);
        qsort(sorted, topic->n_found, sizeof *sorted, found_by_doc);
        cli_exit code = CLI_OK;
        for (size_t i = 1; i < topic->n_found && code == CLI_OK; i++)
            if (sorted[i].doc == sorted[i - 1].doc)
                code = cli_fail(CLI_USAGE, "%s:%zu: document %s comes twice for query %s", path,
                                sorted[i].line, t->docs.texts[sorted[i].doc], t->qids.texts[q]);
        free(sorted);
        if (code != CLI_OK) return code;
    }
    return CLI_OK;
}

static cli_exit read_lines(trec *t, const char *path,
                           cli_exit (*read_line)(trec *, const input *, crank_text))
{
    input *in;
    cli_exit code = input_open(&in, path);
    while (code == CLI_OK) {
        crank_text line;
        code = input_line(in, &line);
        if (code != CLI_OK || !line.data) break;
        if (memchr(line.data, '\0', line.bytes))
            code = input_bad(in, "a NUL byte");
        else
            code = read_line(t, in, line);
    }
    input_close(in);
    return code;
}

cli_exit trec_read_qrels(trec *t, const char *path)
{
    cli_exit code = read_lines(t, path, read_judgement);
    return code == CLI_OK ? check_judgements(t, path) : code;
}

cli_exit trec_read_run(trec *t, const char *path)
{
    cli_exit code = read_lines(t, path, read_retrieved);
    return code == CLI_OK ? check_run(t, path) : code;
}

/* qsort has no argument for the names: the text goes along. */
typedef struct ordered {
    retrieved item;
    const char *docid;
} ordered;

static int by_score_then_docid(const void *a, const void *b)
{
    const ordered *x = a, *y = b;
    if (x->item.score != y->item.score) return x->item.score > y->item.score ? -1 : 1;
    return strcmp(y->docid, x->docid);
}

void trec_order(trec *t)
{
    for (size_t q = 0; q < t->qids.n; q++) {
        trec_topic *topic = &t->topics[q];
        ordered *list = cli_alloc(topic->n_found, sizeof *list);
        for (size_t i = 0; i < topic->n_found; i++)
            list[i] = (ordered){topic->found[i], t->docs.texts[topic->found[i].doc]};
        qsort(list, topic->n_found, sizeof *list, by_score_then_docid);
        for (size_t i = 0; i < topic->n_found; i++) topic->found[i] = list[i].item;
        free(list);
    }
}

void trec_clear(trec *t)
{
    for (size_t q = 0; q < t->qids.n; q++) {
        free(t->topics[q].judged);
        free(t->topics[q].found);
    }
    free(t->topics);
    names_clear(&t->qids);
    names_clear(&t->docs);
    memset(t, 0, sizeof *t);
}
