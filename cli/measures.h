/* Retrieval measures as trec_eval 9 computes them (ndcg_cut, recip_rank, map, recall), for a ranked
 * list of grades. Grades below `level` are not relevant to MRR, MAP and recall; nDCG gains are the
 * grades themselves (linear gain, negative as 0) whatever the level. A document
 * that was not judged has the grade LONG_MIN. Sources: trec_eval m_ndcg_cut.c, m_map.c, m_recall.c,
 * m_recip_rank.c; Jarvelin and Kekalainen 2002. */
#ifndef CRANK_CLI_MEASURES_H
#define CRANK_CLI_MEASURES_H

#include <stddef.h>

typedef enum measure {
    NDCG_10,
    MRR_10,
    MAP,
    RECALL_10,
    RECALL_100,
    N_MEASURES,
} measure;

extern const char *const measure_names[N_MEASURES]; /* "nDCG@10", ... */

/* ranked: [n_ranked] grades of the retrieved documents, best first (LONG_MIN where unjudged).
 * judged: [n_judged] all grades of the query, sorted falling. */
void measures_of_query(double values[N_MEASURES], const long *ranked, size_t n_ranked,
                       const long *judged, size_t n_judged, long level);

#endif
