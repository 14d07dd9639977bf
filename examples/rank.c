/* The library in one page: ranks the documents of the command line.
 *
 *     cc rank.c $(pkg-config --cflags --libs crank) -o rank
 *     ./rank path/to/model "how do tides work" "Tides are ..." "Bread is ..." */
#include <crank.h>
#include <stdio.h>
#include <string.h>

enum { MOST_DOCUMENTS = 64 };

int main(int argc, char **argv)
{
    if (argc < 4) return fprintf(stderr, "usage: rank MODEL QUERY DOCUMENT...\n"), 2;
    crank_model *model = NULL;     /* immutable: share it between threads */
    crank_session *session = NULL; /* one for each thread */
    crank_error error;
    crank_text query = {argv[2], strlen(argv[2])}, docs[MOST_DOCUMENTS];
    crank_result results[MOST_DOCUMENTS];
    size_t n = 0, n_results = 0;
    for (; n < MOST_DOCUMENTS && argv[3 + n]; n++)
        docs[n] = (crank_text){argv[3 + n], strlen(argv[3 + n])};

    crank_status status = crank_model_open(&model, argv[1], NULL, &error);
    if (status == CRANK_OK) status = crank_session_open(&session, model, NULL, &error);
    if (status == CRANK_OK)
        status = crank_rank(session, query, docs, n, NULL, results, &n_results, NULL, &error);
    if (status != CRANK_OK) fprintf(stderr, "%s\n", error.message);
    for (size_t i = 0; i < n_results; i++)
        printf("%.4f  %s\n", (double)results[i].score, docs[results[i].index].data);
    crank_session_close(session);
    crank_model_close(model);
    return status == CRANK_OK ? 0 : 1;
}
