/* The measures; sums run in rank order in double, as trec_eval's do. */
#include <math.h>

#include "cli/measures.h"

const char *const measure_names[N_MEASURES] = {"nDCG@10", "MRR@10", "MAP", "R@10", "R@100"};

static double dcg(const long *grades, size_t n, size_t cut)
{
    double sum = 0;
    for (size_t i = 0; i < n && i < cut; i++)
        if (grades[i] > 0) sum += (double)grades[i] / log2((double)(i + 2));
    return sum;
}

static size_t count_relevant(const long *grades, size_t n, long level)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += grades[i] >= level;
    return count;
}

void measures_of_query(double values[N_MEASURES], const long *ranked, size_t n_ranked,
                       const long *judged, size_t n_judged, long level)
{
    for (int m = 0; m < N_MEASURES; m++) values[m] = 0;
    double ideal = dcg(judged, n_judged, 10);
    if (ideal > 0) values[NDCG_10] = dcg(ranked, n_ranked, 10) / ideal;

    size_t n_relevant = count_relevant(judged, n_judged, level);
    if (n_relevant == 0) return;
    size_t found = 0;
    double precisions = 0;
    for (size_t i = 0; i < n_ranked; i++) {
        if (ranked[i] < level) continue;
        found++;
        precisions += (double)found / (double)(i + 1);
        if (found == 1 && i < 10) values[MRR_10] = 1 / (double)(i + 1);
    }
    values[MAP] = precisions / (double)n_relevant;
    values[RECALL_10] =
        (double)count_relevant(ranked, n_ranked < 10 ? n_ranked : 10, level) / (double)n_relevant;
    values[RECALL_100] =
        (double)count_relevant(ranked, n_ranked < 100 ? n_ranked : 100, level) / (double)n_relevant;
}
