/* A golden folder's rows without their padding, and their scores in any order and batch. */
#ifndef CRANK_TESTS_GOLDEN_ROWS_H
#define CRANK_TESTS_GOLDEN_ROWS_H

#include <stdbool.h>

#include "crank.h"
#include "support/golden.h"

typedef struct golden_rows {
    golden g;
    int64_t n, width, labels;
    int32_t *ids, *types;
    float *logits;
    int32_t *flat_ids, *flat_types;
    size_t *starts;
} golden_rows;

/* False: golden_open has said that the folder is nowhere. */
bool golden_rows_open(golden_rows *r, const char *name);
void golden_rows_close(golden_rows *r);

enum { GOLDEN_ROWS_MOST = 256 }; /* rows of one call below */

/* Scores rows order[0 .. n-1] in one call; logits: [n, labels]. */
crank_status golden_rows_try(crank_session *s, const golden_rows *r, const int *order, int n,
                             float *logits, crank_error *error);
/* The same; a failure aborts the test. */
void golden_rows_score(crank_session *s, const golden_rows *r, const int *order, int n,
                       float *logits);

#endif
