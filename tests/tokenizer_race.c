/* One tokenizer shared by threads that each have a scratch: a plain program, for ThreadSanitizer.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/model_golden.h"
#include "support/small_tokenizer.h"
#include "team.h"
#include "tokenizer/tokenizer.h"

enum { N_THREADS = 4, N_ROUNDS = 50, N_TOKENIZERS = 4, N_IDS = 4096 };

static const char text[] =
    "Hello, w\xc3\xb6rld! retrieval [SEP] <s>abc</s> \xe4\xb8\xad\xff \xef\xac\x81 "
    "transformers aren't  \xe2\x96\x81x e\xcc\x81\xcc\xa3";

typedef struct shared {
    tokenizer *tok[N_TOKENIZERS];
    int32_t want[N_TOKENIZERS][N_IDS];
    size_t n[N_TOKENIZERS];
    int failures[N_THREADS];
} shared;

static void work(void *context, int worker, int n_workers)
{
    (void)n_workers;
    shared *s = context;
    tok_scratch *scratch;
    tok_ids ids = {0};
    if (tok_scratch_open(&scratch, NULL) != CRANK_OK) {
        s->failures[worker]++;
        return;
    }
    for (int i = 0; i < N_ROUNDS * N_TOKENIZERS; i++) {
        int t = (i + worker) % N_TOKENIZERS;
        ids.n = 0;
        if (tok_encode(s->tok[t], scratch, text, sizeof text - 1, TOK_DEFAULT, SIZE_MAX, &ids,
                       NULL) != CRANK_OK ||
            ids.n != s->n[t] || memcmp(ids.ids, s->want[t], ids.n * sizeof *ids.ids) != 0)
            s->failures[worker]++;
    }
    tok_ids_free(&ids);
    tok_scratch_close(scratch);
}

int main(void)
{
    static const char *const names[N_TOKENIZERS] = {NULL, "unigram/xlmr", "bpe/roberta",
                                                    "bpe/modernbert"};
    static shared s;
    team *threads;
    tok_scratch *scratch;
    tok_ids ids = {0};
    int failures = 0;
    crank_error error = {0};
    if (team_open(&threads, N_THREADS, 0, &error) != CRANK_OK ||
        tok_scratch_open(&scratch, &error) != CRANK_OK)
        return 1;
    for (int t = 0; t < N_TOKENIZERS; t++) {
        if (names[t] != NULL)
            s.tok[t] = test_open_tokenizer(names[t]);
        else if (test_open_tokenizer_text(&s.tok[t], SMALL_TOKENIZER, &error) != CRANK_OK)
            return 1;
        ids.n = 0;
        if (tok_encode(s.tok[t], scratch, text, sizeof text - 1, TOK_DEFAULT, SIZE_MAX, &ids,
                       &error) != CRANK_OK ||
            ids.n == 0 || ids.n > N_IDS)
            return 1;
        memcpy(s.want[t], ids.ids, ids.n * sizeof *ids.ids);
        s.n[t] = ids.n;
    }
    team_run(threads, work, &s);
    for (int i = 0; i < N_THREADS; i++) failures += s.failures[i];
    printf("%d passed, %d failed, 0 skipped\n", N_THREADS - (failures > 0), failures > 0);
    for (int t = 0; t < N_TOKENIZERS; t++) tokenizer_close(s.tok[t]);
    tok_ids_free(&ids);
    tok_scratch_close(scratch);
    team_close(threads);
    return failures > 0;
}
