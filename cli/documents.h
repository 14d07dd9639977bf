/* Documents of one query, or of an embeddings file: all in memory, with the ids that their lines
 * carried. */
#ifndef CRANK_CLI_DOCUMENTS_H
#define CRANK_CLI_DOCUMENTS_H

#include "cli/records.h"

typedef struct document {
    crank_text text;
    const char *id; /* NULL: the line carried none */
} document;

/* Zeroed is empty. */
typedef struct documents {
    document *at;
    size_t n, capacity;
    store keep;
} documents;

/* All records: a text a line, or JSON Lines {"id"?, "text"}. */
cli_exit documents_read(documents *d, records *from);
/* Numbers of the documents of an embeddings file that records name: an id a line, or JSON Lines
 * {"id"}; where the file has no ids, numbers from 0. *numbers: free() it, also after a failure. */
cli_exit documents_read_candidates(size_t **numbers, size_t *n, records *from,
                                   const crank_embeddings *embeddings, size_t n_embeddings);
/* The ids of an embeddings file, with no texts. */
void documents_of_embeddings(documents *d, const crank_embeddings *embeddings, size_t n);
void documents_free(documents *d);

#endif
