/* The two files of the trade: judgements "qid 0 docid grade" and runs "qid Q0 docid rank score
 * tag". Fields are separated by blanks or tabs; .gz and stdin as everywhere. As trec_eval reads
 * them: the rank column is ignored, a run is ordered by score (a float) falling, equal scores by
 * docid falling. A (qid, docid) pair that comes twice is refused, as trec_eval refuses it. */
#ifndef CRANK_CLI_TREC_H
#define CRANK_CLI_TREC_H

#include "cli/names.h"

typedef struct judgement {
    size_t doc; /* number in docs */
    long grade;
} judgement;

typedef struct retrieved {
    size_t doc;
    float score;
    size_t line; /* of the run's file */
} retrieved;

typedef struct trec_topic {
    judgement *judged; /* sorted by doc */
    size_t n_judged, judged_capacity;
    retrieved *found; /* in the run's file order until trec_order */
    size_t n_found, found_capacity;
} trec_topic;

typedef struct trec {
    names qids, docs;
    trec_topic *topics; /* [qids.n], in order of first appearance */
    size_t capacity;
} trec;

cli_exit trec_read_qrels(trec *t, const char *path);
cli_exit trec_read_run(trec *t, const char *path);
/* Orders every topic's found documents as trec_eval does. */
void trec_order(trec *t);
void trec_clear(trec *t); /* zeroed is empty */

/* 1 when a name can stand in a run's line: not empty, no blanks, no control characters. */
int trec_name_is_plain(const char *name);

#endif
