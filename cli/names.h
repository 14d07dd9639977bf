/* Names to numbers: each distinct string gets the next number from 0. Open addressing, FNV-1a; the
 * strings are kept. Lookups of hostile names stay linear at worst, as the tables are those of one
 * user's files. */
#ifndef CRANK_CLI_NAMES_H
#define CRANK_CLI_NAMES_H

#include "cli/input.h"

#define NAME_NONE SIZE_MAX

typedef struct names {
    store keep;
    const char **texts; /* [n], by number */
    uint64_t *hashes;   /* [n] */
    size_t n, capacity;
    size_t *slots; /* number + 1; 0: empty */
    size_t n_slots;
} names;

/* The number of a name, a new one when it was not there (*is_new may be NULL). */
size_t names_add(names *map, const char *text, size_t bytes, int *is_new);
size_t names_find(const names *map, const char *text, size_t bytes); /* or NAME_NONE */
void names_clear(names *map);                                        /* zeroed is empty */

#endif
