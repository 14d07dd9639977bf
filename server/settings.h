/* Where a server's options come from, weakest first: the file of --config (JSON), CRANK_*
 * variables, the command line. All three become one command line, so that they share names, checks
 * and messages: "max-documents" is CRANK_MAX_DOCUMENTS and {"max-documents": 100} (or
 * max_documents). */
#ifndef CRANK_SERVER_SETTINGS_H
#define CRANK_SERVER_SETTINGS_H

#include <stddef.h>

#include "crank_status.h"

typedef struct argument_list {
    char **at; /* [n], NULL behind the last; the strings are owned */
    int n;
    int n_weak; /* entries before those of the command line itself */
} argument_list;

typedef struct option_name {
    const char *name;
    int flag; /* takes no value */
} option_name;

/* Fills list with argv[0], the file's options, the environment's, then argv's own. TEI's names of
 * options are translated. Fails: IO, FORMAT (the file), OUT_OF_MEMORY. */
crank_status settings_gather(argument_list *list, int argc, char **argv, const option_name *names,
                             size_t n_names, crank_error *error);
void settings_free(argument_list *list);

/* A whole file as a text with a NUL behind it; NULL and *error otherwise. */
char *settings_read_file(const char *path, crank_error *error);

#endif
