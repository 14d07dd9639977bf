/* crank eval: a run against judgements. Every judged query counts: one that the run lacks is 0 (as
 * trec_eval -c has it); queries of the run without judgements are left out. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "cli/measures.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/trec.h"

/* Below every level: as in trec_eval, --level 0 does not make an unjudged document relevant. */
#define UNJUDGED LONG_MIN

typedef struct eval_job {
    int json, per_query;
    size_t level;
    trec data;
    size_t n_queries, n_missing, n_unjudged;
    double sums[N_MEASURES];
} eval_job;

static int falling(const void *a, const void *b)
{
    long x = *(const long *)a, y = *(const long *)b;
    return x > y ? -1 : x < y;
}

static long grade_of(const trec_topic *topic, size_t doc)
{
    size_t low = 0, high = topic->n_judged;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (topic->judged[middle].doc < doc)
            low = middle + 1;
        else
            high = middle;
    }
    return low < topic->n_judged && topic->judged[low].doc == doc ? topic->judged[low].grade
                                                                  : UNJUDGED;
}

static void evaluate_topic(const eval_job *job, const trec_topic *topic, double values[N_MEASURES])
{
    long *ranked = cli_alloc(topic->n_found, sizeof *ranked);
    long *judged = cli_alloc(topic->n_judged, sizeof *judged);
    for (size_t i = 0; i < topic->n_found; i++) ranked[i] = grade_of(topic, topic->found[i].doc);
    for (size_t i = 0; i < topic->n_judged; i++) judged[i] = topic->judged[i].grade;
    qsort(judged, topic->n_judged, sizeof *judged, falling);
    measures_of_query(values, ranked, topic->n_found, judged, topic->n_judged, (long)job->level);
    free(ranked);
    free(judged);
}

static void put_measures(const eval_job *job, const char *qid, const double values[N_MEASURES])
{
    if (job->json) {
        fputs("{\"query\":", stdout);
        json_put_string(stdout, qid);
        for (int m = 0; m < N_MEASURES; m++) printf(",\"%s\":%.9g", measure_names[m], values[m]);
        puts("}");
        return;
    }
    for (int m = 0; m < N_MEASURES; m++) printf("%s\t%s\t%.4f\n", measure_names[m], qid, values[m]);
}

static void evaluate(eval_job *job)
{
    for (size_t q = 0; q < job->data.qids.n; q++) {
        const trec_topic *topic = &job->data.topics[q];
        if (topic->n_judged == 0) {
            job->n_unjudged++;
            continue;
        }
        double values[N_MEASURES];
        evaluate_topic(job, topic, values);
        for (int m = 0; m < N_MEASURES; m++) job->sums[m] += values[m];
        job->n_queries++;
        job->n_missing += topic->n_found == 0;
        if (job->per_query) put_measures(job, job->data.qids.texts[q], values);
    }
}

static void put_means(const eval_job *job)
{
    double n = job->n_queries ? (double)job->n_queries : 1;
    if (job->json) {
        printf("{\"queries\":%zu,\"missing\":%zu,\"unjudged\":%zu,\"level\":%zu", job->n_queries,
               job->n_missing, job->n_unjudged, job->level);
        for (int m = 0; m < N_MEASURES; m++)
            printf(",\"%s\":%.9g", measure_names[m], job->sums[m] / n);
        puts("}");
        return;
    }
    for (int m = 0; m < N_MEASURES; m++)
        printf("%s\t%s%.4f\n", measure_names[m], job->per_query ? "all\t" : "", job->sums[m] / n);
}

static cli_exit run(const cli_command *self, int argc, char **argv)
{
    eval_job job = {.level = 1};
    const cli_option options[] = {
        {"level", 'l', OPTION_COUNT, &job.level, "L",
         "grades from L on are relevant to MRR, MAP and recall; 1", 0, 1000000, NULL},
        {"per-query", 0, OPTION_FLAG, &job.per_query, NULL, "also each query's own figures", 0, 0,
         NULL},
        {"json", 0, OPTION_FLAG, &job.json, NULL, "JSON, 9 significant digits", 0, 0, NULL},
    };
    cli_arguments files;
    cli_exit code =
        options_parse(self, options, sizeof options / sizeof *options, argc, argv, 2, 2, &files);
    if (code != CLI_PARSED) return code;
    if (strcmp(files.at[0], "-") == 0 && strcmp(files.at[1], "-") == 0)
        return options_misuse(self, "stdin cannot be both files");
    code = trec_read_qrels(&job.data, files.at[0]);
    if (code == CLI_OK) code = trec_read_run(&job.data, files.at[1]);
    if (code == CLI_OK) {
        trec_order(&job.data);
        evaluate(&job);
        if (job.n_queries == 0) {
            code = cli_fail(CLI_USAGE, "%s: no judgements", files.at[0]);
        } else {
            put_means(&job);
            if (job.n_missing)
                cli_say("%zu of %zu judged queries are not in the run and count as 0",
                        job.n_missing, job.n_queries);
        }
    }
    trec_clear(&job.data);
    return code;
}

const cli_command eval_command = {
    .name = "eval",
    .summary = "nDCG@10, MRR@10, MAP, R@10 and R@100 of a run, as trec_eval computes them.",
    .synopsis = "QRELS RUN",
    .details =
        "QRELS: \"qid 0 docid grade\" lines; RUN: \"qid Q0 docid rank score tag\" lines; .gz is\n"
        "decompressed. The run's order is by score, equal scores by docid falling; the rank\n"
        "column is not read. A judged query that the run lacks counts as 0 (trec_eval -c).\n"
        "nDCG uses the grades as gains; --level does not change it.",
    .example = "  crank eval qrels.test.txt minilm.run\n"
               "  crank eval --level 2 --json qrels.dl19.txt minilm.run.gz",
    .run = run,
};
