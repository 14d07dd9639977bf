#define _POSIX_C_SOURCE 200809L
/* Times the tokenizer alone, one thread.
 *
 *     tokenizer_bench MODEL_FOLDER TEXTS            five rounds of each kind, medians
 *     tokenizer_bench MODEL_FOLDER TEXTS --serve    one round per line of stdin, for
 * tokenizer_peers.py
 *
 * TEXTS: one text per line, the first is the query of the pairs. Kinds: "texts" encodes every text
 * to ids; "pairs" encodes the query once and every other text, truncates to 512 and fills ids and
 * types; "open" opens the tokenizer from its image. In --serve a line is a kind or "ids", which
 * prints every text's ids so that a peer can refuse to time a different result. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "tokenizer/tokenizer.h"

enum { ROUNDS = 5, MAX_LENGTH = 512 };

typedef struct bench {
    tokenizer *tok;
    tok_scratch *scratch;
    char *file;
    const char **texts;
    size_t *bytes, n, total_bytes;
    tok_ids query, ids;
    int32_t out_ids[MAX_LENGTH], out_types[MAX_LENGTH];
    size_t tokens;
} bench;

static void die(const char *what, const crank_error *error)
{
    fprintf(stderr, "%s: %s\n", what, error != NULL ? error->message : "cannot read");
    exit(1);
}

static void read_texts(bench *b, const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) die(path, NULL);
    long size = ftell(file);
    rewind(file);
    b->file = malloc((size_t)size + 1);
    if (b->file == NULL || fread(b->file, 1, (size_t)size, file) != (size_t)size) die(path, NULL);
    fclose(file);
    for (char *at = b->file, *end = b->file + size; at < end;) {
        char *line_end = memchr(at, '\n', (size_t)(end - at));
        if (line_end == NULL) line_end = end;
        b->texts = realloc(b->texts, (b->n + 1) * sizeof *b->texts);
        b->bytes = realloc(b->bytes, (b->n + 1) * sizeof *b->bytes);
        if (b->texts == NULL || b->bytes == NULL) die(path, NULL);
        b->texts[b->n] = at;
        b->bytes[b->n++] = (size_t)(line_end - at);
        b->total_bytes += (size_t)(line_end - at);
        at = line_end + 1;
    }
    if (b->n < 2) die("fewer than two texts", NULL);
}

static void encode(bench *b, size_t i, size_t max_ids, tok_ids *out)
{
    crank_error error;
    out->n = 0;
    if (tok_encode(b->tok, b->scratch, b->texts[i], b->bytes[i], TOK_DEFAULT, max_ids, out,
                   &error) != CRANK_OK)
        die("encode", &error);
}

static void round_texts(bench *b)
{
    b->tokens = 0;
    for (size_t i = 0; i < b->n; i++) {
        encode(b, i, SIZE_MAX, &b->ids);
        b->tokens += b->ids.n;
    }
}

static void round_pairs(bench *b)
{
    b->tokens = 0;
    encode(b, 0, SIZE_MAX, &b->query);
    size_t useful = tok_max_useful(b->tok, b->query.n, MAX_LENGTH, TOK_LONGEST_FIRST);
    for (size_t i = 1; i < b->n; i++) {
        crank_error error;
        size_t keep1, keep2;
        encode(b, i, useful, &b->ids);
        if (tok_pair_lengths(b->tok, b->query.n, b->ids.n, MAX_LENGTH, TOK_LONGEST_FIRST, &keep1,
                             &keep2, &error) != CRANK_OK)
            die("pair", &error);
        b->tokens +=
            tok_pair_fill(b->tok, b->query.ids, keep1, b->ids.ids, keep2, b->out_ids, b->out_types);
    }
}

static void round_open(bench *b)
{
    crank_error error;
    size_t bytes;
    const void *image = tokenizer_image(b->tok, &bytes);
    tokenizer *again;
    if (tokenizer_from_image(&again, image, bytes, &error) != CRANK_OK) die("open", &error);
    tokenizer_close(again);
    b->tokens = 0;
}

static const struct {
    const char *name;
    void (*round)(bench *b);
} kinds[] = {{"texts", round_texts}, {"pairs", round_pairs}, {"open", round_open}};

enum { N_KINDS = sizeof kinds / sizeof *kinds };

static double seconds(bench *b, int kind)
{
    int64_t start = clock_ns();
    kinds[kind].round(b);
    return (double)(clock_ns() - start) * 1e-9;
}

static void print_ids(bench *b)
{
    for (size_t i = 0; i < b->n; i++) {
        encode(b, i, SIZE_MAX, &b->ids);
        for (size_t k = 0; k < b->ids.n; k++) printf("%s%d", k > 0 ? " " : "", b->ids.ids[k]);
        putchar('\n');
    }
    fflush(stdout);
}

static void serve(bench *b)
{
    char line[64];
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = 0;
        if (strcmp(line, "ids") == 0) print_ids(b);
        for (int kind = 0; kind < N_KINDS; kind++) {
            if (strcmp(line, kinds[kind].name) != 0) continue;
            printf("%.9f\n", seconds(b, kind));
            fflush(stdout);
        }
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(bench *b)
{
    for (int kind = 0; kind < N_KINDS; kind++) {
        double times[ROUNDS];
        seconds(b, kind);
        for (int i = 0; i < ROUNDS; i++) times[i] = seconds(b, kind);
        qsort(times, ROUNDS, sizeof *times, by_value);
        double median = times[ROUNDS / 2];
        printf("%-6s %10.3f ms  (best %.3f)", kinds[kind].name, median * 1e3, times[0] * 1e3);
        if (b->tokens > 0)
            printf("  %8.1f MB/s  %10.0f texts/s  %6.2f M tokens/s",
                   (double)b->total_bytes / median * 1e-6, (double)b->n / median,
                   (double)b->tokens / median * 1e-6);
        printf("\n");
    }
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: tokenizer_bench MODEL_FOLDER TEXTS [--serve]\n");
        return 2;
    }
    static bench b;
    crank_error error;
    if (tokenizer_open(&b.tok, argv[1], &error) != CRANK_OK ||
        tok_scratch_open(&b.scratch, &error) != CRANK_OK)
        die("tokenizer", &error);
    read_texts(&b, argv[2]);
    if (argc > 3 && strcmp(argv[3], "--serve") == 0)
        serve(&b);
    else
        report(&b);
    tok_ids_free(&b.query);
    tok_ids_free(&b.ids);
    tok_scratch_close(b.scratch);
    tokenizer_close(b.tok);
    free(b.texts);
    free(b.bytes);
    free(b.file);
    return 0;
}
