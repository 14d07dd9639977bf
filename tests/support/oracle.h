/* A backend for tests: every op of kernels/ops.h straight from its equation, in double precision,
 * with nothing shared with the library's kernels. The reference is tested against it. */
#ifndef CRANK_TESTS_ORACLE_H
#define CRANK_TESTS_ORACLE_H

#include "kernels/ops.h"

extern const ops_backend oracle_backend;

#endif
