#include "cli/documents.h"

#include <stdlib.h>
#include <string.h>

cli_exit documents_read(documents *d, records *from)
{
    for (;;) {
        crank_text line;
        document doc = {{NULL, 0}, NULL};
        cli_exit code = records_next(from, &line);
        if (code != CLI_OK || !line.data) return code;
        if (from->object) {
            code = record_id_in(from, from->object, "", "id", 0, &d->keep, &doc.id);
            if (code == CLI_OK) code = record_text(from, "text", 1, &line);
            if (code != CLI_OK) return code;
        }
        doc.text = store_text(&d->keep, line.data, line.bytes);
        d->at = cli_append(d->at, d->n, &d->capacity, sizeof *d->at);
        d->at[d->n++] = doc;
    }
}

/* ---- candidates ---- */

typedef struct known_id {
    const char *id;
    size_t number;
} known_id;

static int by_id(const void *left, const void *right)
{
    const known_id *a = left, *b = right;
    int order = strcmp(a->id, b->id);
    return order ? order : a->number < b->number ? -1 : a->number > b->number;
}

static int by_id_alone(const void *key, const void *row)
{
    return strcmp(key, ((const known_id *)row)->id);
}

/* A file without ids: the text is a number below n. */
static int parse_number(const char *text, size_t n, size_t *number)
{
    char *end;
    if (*text < '0' || *text > '9') return 0;
    unsigned long long value = strtoull(text, &end, 10);
    *number = (size_t)value;
    return *end == '\0' && value < n;
}

static int find_number(const known_id *known, size_t n, const char *text, size_t *number)
{
    if (!known) return parse_number(text, n, number);
    const known_id *row = bsearch(text, known, n, sizeof *known, by_id_alone);
    if (row) *number = row->number;
    return row != NULL;
}

static cli_exit read_numbers(size_t **numbers, size_t *n, records *from, const known_id *known,
                             size_t n_known, store *keep)
{
    size_t capacity = 0;
    for (;;) {
        crank_text line;
        const char *id = NULL;
        cli_exit code = records_next(from, &line);
        if (code != CLI_OK || !line.data) return code;
        store_clear(keep);
        if (from->object)
            code = record_id_in(from, from->object, "", "id", 1, keep, &id);
        else
            id = store_string(keep, line.data, line.bytes);
        if (code != CLI_OK) return code;
        *numbers = cli_append(*numbers, *n, &capacity, sizeof **numbers);
        if (!find_number(known, n_known, id, &(*numbers)[*n]))
            return input_bad(from->in, "document \"%.80s\" is not in the embeddings file", id);
        ++*n;
    }
}

cli_exit documents_read_candidates(size_t **numbers, size_t *n, records *from,
                                   const crank_embeddings *embeddings, size_t n_embeddings)
{
    known_id *known = NULL;
    store keep = {0};
    *n = 0;
    *numbers = NULL;
    if (n_embeddings > 0 && crank_embeddings_id(embeddings, 0)) {
        known = cli_alloc(n_embeddings, sizeof *known);
        for (size_t i = 0; i < n_embeddings; i++)
            known[i] = (known_id){crank_embeddings_id(embeddings, i), i};
        qsort(known, n_embeddings, sizeof *known, by_id);
    }
    cli_exit code = read_numbers(numbers, n, from, known, n_embeddings, &keep);
    if (code == CLI_OK && !*numbers) /* an empty list is not "all of them" */
        *numbers = cli_alloc(1, sizeof **numbers);
    store_clear(&keep);
    free(known);
    return code;
}

void documents_of_embeddings(documents *d, const crank_embeddings *embeddings, size_t n)
{
    d->at = cli_grow(d->at, n > 0 ? n : 1, sizeof *d->at);
    d->n = d->capacity = n;
    for (size_t i = 0; i < n; i++)
        d->at[i] = (document){{"", 0}, crank_embeddings_id(embeddings, i)};
}

void documents_free(documents *d)
{
    free(d->at);
    store_clear(&d->keep);
    d->at = NULL;
    d->n = d->capacity = 0;
}
