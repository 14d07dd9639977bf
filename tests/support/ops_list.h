/* The list of op cases that every backend, dtype and instruction set runs: shapes with tails,
 * options and their combinations. A new case is one row here. */
#ifndef CRANK_TESTS_OPS_LIST_H
#define CRANK_TESTS_OPS_LIST_H

#include "support/ops_cases.h"
#include "support/ops_programs.h"

typedef struct ops_case_list {
    ops_case cases[OPS_CASES_MAX];
    int n;
} ops_case_list;

/* Appends all cases, in an order that stays: a case's number seeds its inputs. */
void ops_list_cases(ops_case_list *list);
/* "linear B=1 T=7 ...": what tells it from the others. */
void ops_case_name(char *out, size_t bytes, const ops_case *c, const material *m);

#endif
