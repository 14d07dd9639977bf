/* The op tests: one list of cases, run on any backend and compared with another one.
 *
 * A case is a small forward pass over random weights and inputs: one op at one shape with one set
 * of options, or a whole layer. It is built once and run on the subject and on the backend that is
 * taken as right (ref for the fast backends, the double-precision oracle for ref). The expected
 * side computes with the subject's own weights, unpacked, and with the subject's own inputs, read
 * back: what is compared is the arithmetic of the op alone.
 *
 * Every run starts from a workspace filled with NaN, keeps guard bands around every tensor and
 * behind the workspace, and must take exactly the scratch that its dry run took. The subject then
 * runs the case again with two threads, with the sequences reversed, thinned out and doubled, and
 * each of a few sequences alone: all rows must have the same bits.
 *
 * A new backend, dtype or instruction set is one ops_subject; a new case is one row in
 * ops_list.c. Plain C without Criterion, so that race tests can run the same cases. */
#ifndef CRANK_TESTS_OPS_CASES_H
#define CRANK_TESTS_OPS_CASES_H

#include "kernels/ops.h"

typedef struct ops_subject {
    const ops_backend *backend;
    ops_device_options options;
    ops_dtype dtype;
    const ops_backend *expected; /* computes in f32; opened with no options */
    double max_mflop;            /* cases that cost more are skipped (emulator); 0: no limit */
    const char *only;            /* run the cases whose name contains this; NULL: all */
    /* Dtypes (1 << OPS_F32 | ...) in which this promises the bits of every other row of the table
     * that has the same backend and makes the same promise. */
    unsigned same_bits;
} ops_subject;

/* What the op tests and the race test run, in every dtype: one row per backend and instruction set
 * (ops_table.c). */
extern const ops_subject ops_table[];
extern const size_t n_ops_table;

#define OPS_CASES_MAX 1024

typedef struct ops_report {
    int n_cases, n_skipped, n_failed;
    char failures[16384]; /* one line each, as many as fit */
    char worst[2048];     /* per kind of case: the largest error as a share of its tolerance */
    /* A hash of each case's output bits, 0 when it was skipped or failed: the same cases on two
     * instruction sets that promise the same bits can be compared. */
    uint64_t digests[OPS_CASES_MAX];
    char names[OPS_CASES_MAX][96];
} ops_report;

/* Fails only where the subject cannot be opened (*error says why); everything else is in the
 * report. UNSUPPORTED: the backend has no such instruction set or dtype here: a skip. */
crank_status ops_cases_run(const ops_subject *subject, ops_report *report, crank_error *error);

/* One more failure, with its line. */
void ops_report_fail(ops_report *report, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Packs and unpacks weights of several shapes in every layout row of kernels/layouts.c: sizes,
 * determinism, writes inside the blob only, the round trip within the dtype's rounding. */
void ops_cases_layouts(ops_report *report);

#endif
