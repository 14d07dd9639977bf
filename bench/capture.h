/* A batch of real work as a file: what `crank bench ops --capture` writes and `--replay` runs.
 *
 * A capture is the plan of one micro-batch (the lengths of its sequences, in their order) and the
 * ops that the model's forward pass makes of it, equal ones once with their number. It holds no
 * text and no token: what an op costs depends on shapes and lengths alone, but for the few rows of
 * the embedding tables, for which a replay draws ids. One JSON object:
 *
 *     {"crank_capture": 1,                       the version; others are refused
 *      "model": "minilm-l6", "architecture": "bert", "device": "cpu", "dtype": "int8",
 *      "batch": 1, "batches": 7,                 which of the plan's; the one with most tokens
 *      "lengths": [512, 498, ...],
 *      "key_counts": [32, 32, ...],              late interaction alone
 *      "ops": [{"op": "linear", "count": 6, "n": 1152, "k": 384, "uses": 1}, ...]}
 *
 * The keys of an op are the fields of bench_case (ops_side.h); those that are zero are left out. A
 * file is untrusted: every number has a range, and so have the memory and the sums of numbers that
 * an op would take. */
#ifndef CRANK_BENCH_CAPTURE_H
#define CRANK_BENCH_CAPTURE_H

#include <stdio.h>

#include "bench/ops_side.h"
#include "cli/cli.h"

typedef struct capture_op {
    bench_case c; /* its lengths and key counts are the capture's */
    int32_t count;
} capture_op;

typedef struct capture {
    char *model, *architecture, *device;
    ops_dtype dtype;
    int32_t batch, n_batches;               /* batch counts from 1 */
    int32_t n_sequences, n_tokens, longest; /* sums over lengths */
    int32_t *lengths, *key_counts;          /* [n_sequences]; key_counts may be NULL */
    capture_op *ops;
    size_t n_ops, ops_capacity;
    int32_t stray_rows; /* not 0: an op had so many rows, neither tokens nor sequences */
} capture;

/* Between start and stop the session runs nothing: what it plans is looked at, and the batch with
 * the most tokens is taken. c is zeroed; watch and c outlive stop. Fails: UNSUPPORTED, or as a dry
 * run of the forward pass. */
typedef struct capture_watch {
    capture *c;
    crank_session *session;
    struct session_observer *observer;
    crank_status status;
    crank_error error;
} capture_watch;
void capture_start(capture_watch *watch, capture *c, crank_session *session);
crank_status capture_stop(capture_watch *watch, crank_error *error);
/* Equal but for lengths, key counts and the name of the model. */
bool capture_same_op(const bench_case *a, const bench_case *b);
/* Ops that take one row a token or one a sequence; the others' rows are what the op says. */
bool capture_takes_first_rows(ops_kind op);
void capture_write(FILE *to, const capture *c);
cli_exit capture_read(capture *c, const char *path);
void capture_free(capture *c);

#endif
