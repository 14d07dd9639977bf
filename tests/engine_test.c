/* The whole path, texts to ordered scores, on a tiny model: the same bits however pairs are
 * batched, defined results at the edges, converted files, windows, cache, and failing allocations.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crank.h"
#include "memory.h"
#include "support/golden.h"
#include "support/tiny_model.h"

static crank_model *open_with(const char *path, crank_device device, crank_dtype type)
{
    crank_error error = {0};
    crank_model_options options = {
        .size = sizeof options, .device = device, .dtype = type, .load_threads = 1};
    crank_model *model = NULL;
    crank_status status = crank_model_open(&model, path, &options, &error);
    cr_assert_eq(status, CRANK_OK, "%s: %s", path, error.message);
    return model;
}

static crank_session *open_session(const crank_model *model, int threads, size_t batch_tokens,
                                   crank_cache *cache)
{
    crank_error error = {0};
    crank_session_options options = {
        .size = sizeof options, .n_threads = threads, .batch_tokens = batch_tokens, .cache = cache};
    crank_session *session = NULL;
    crank_status status = crank_session_open(&session, model, &options, &error);
    cr_assert_eq(status, CRANK_OK, "%s", error.message);
    return session;
}

static crank_text text_of(const char *s)
{
    return (crank_text){s, strlen(s)};
}

/* A document of n words that differ by seed. */
static char *make_text(int n, unsigned seed)
{
    char *text = malloc((size_t)n * 6 + 1);
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        used += (size_t)sprintf(text + used, "w%u ", 80 + (seed >> 16) % 220);
    }
    return text;
}

#define N_DOCS 57
static char *documents[N_DOCS];
static crank_text texts[N_DOCS];

static void make_documents(void)
{
    for (int i = 0; i < N_DOCS; i++) {
        documents[i] = make_text(1 + i * 7 % 41, (unsigned)i / 2); /* some equal lengths */
        texts[i] = text_of(documents[i]);
    }
}

static void free_documents(void)
{
    for (int i = 0; i < N_DOCS; i++) free(documents[i]);
}

static const struct {
    crank_device device;
    crank_dtype type;
} paths[] = {{CRANK_DEVICE_REF, CRANK_DTYPE_F32},
             {CRANK_DEVICE_CPU, CRANK_DTYPE_F32},
             {CRANK_DEVICE_CPU, CRANK_DTYPE_BF16},
             {CRANK_DEVICE_CPU, CRANK_DTYPE_INT8}};
#define N_PATHS (sizeof paths / sizeof paths[0])

/* bf16 needs hardware: a machine without it says so, and the row is skipped aloud. */
static crank_model *open_path(const char *dir, size_t p)
{
    crank_error error = {0};
    crank_model_options options = {
        .size = sizeof options, .device = paths[p].device, .dtype = paths[p].type};
    crank_model *model = NULL;
    crank_status status = crank_model_open(&model, dir, &options, &error);
    if (status == CRANK_UNSUPPORTED) {
        fprintf(stderr, "SKIPPED: path %zu on this machine: %s\n", p, error.message);
        return NULL;
    }
    cr_assert_eq(status, CRANK_OK, "%s", error.message);
    return model;
}

Test(engine, a_pair_has_the_same_bits_in_any_batch)
{
    char dir[512];
    cr_assert(tiny_model_make(dir, "bits"));
    make_documents();
    crank_text query = text_of("w100 w200 what w90");
    for (size_t p = 0; p < N_PATHS; p++) {
        crank_model *model = open_path(dir, p);
        if (model == NULL) continue;
        float alone[N_DOCS];
        crank_session *one = open_session(model, 1, 0, NULL);
        for (int i = 0; i < N_DOCS; i++) {
            crank_pair pair = {query, texts[i]};
            cr_assert_eq(crank_score(one, &pair, 1, NULL, &alone[i], NULL, NULL, NULL), CRANK_OK);
            cr_assert(isfinite(alone[i]));
        }
        crank_session_close(one);
        static const size_t budgets[] = {0, 16, 48, 300, 4096};
        for (int round = 0; round < 10; round++) {
            crank_session *s = open_session(model, 1 + round % 2, budgets[round % 5], NULL);
            crank_pair pairs[N_DOCS];
            int from[N_DOCS];
            float logits[N_DOCS];
            int n = 1 + round * 37 % N_DOCS;
            for (int i = 0; i < n; i++) {
                from[i] = (i * 31 + round * 17) % N_DOCS;
                pairs[i] = (crank_pair){query, texts[from[i]]};
            }
            cr_assert_eq(crank_score(s, pairs, (size_t)n, NULL, logits, NULL, NULL, NULL),
                         CRANK_OK);
            for (int i = 0; i < n; i++) {
                cr_expect(memcmp(&logits[i], &alone[from[i]], sizeof(float)) == 0,
                          "path %zu round %d pair %d: %.9g alone, %.9g in a batch", p, round, i,
                          alone[from[i]], logits[i]);
            }
            crank_session_close(s);
        }
        crank_model_close(model);
    }
    free_documents();
}

Test(engine, fast_paths_stay_within_the_tolerance_of_their_dtype)
{
    static const double tolerance[N_PATHS] = {0, 2e-5, 4e-2, 1e-1};
    char dir[512];
    cr_assert(tiny_model_make(dir, "near"));
    make_documents();
    float expected[N_DOCS], logits[N_DOCS];
    crank_pair pairs[N_DOCS];
    for (int i = 0; i < N_DOCS; i++) pairs[i] = (crank_pair){text_of("w80 w81 w82"), texts[i]};
    for (size_t p = 0; p < N_PATHS; p++) {
        crank_model *model = open_path(dir, p);
        if (model == NULL) continue;
        crank_session *s = open_session(model, 2, 0, NULL);
        cr_assert_eq(
            crank_score(s, pairs, N_DOCS, NULL, p == 0 ? expected : logits, NULL, NULL, NULL),
            CRANK_OK);
        for (int i = 0; p > 0 && i < N_DOCS; i++) {
            cr_expect_leq(fabs((double)logits[i] - (double)expected[i]), tolerance[p],
                          "path %zu pair %d: %g for %g", p, i, logits[i], expected[i]);
        }
        crank_session_close(s);
        crank_model_close(model);
    }
    free_documents();
}

Test(engine, edges_are_defined)
{
    char dir[512];
    cr_assert(tiny_model_make(dir, "edges"));
    crank_model *model = open_with(dir, CRANK_DEVICE_CPU, CRANK_DTYPE_F32);
    crank_session *s = open_session(model, 2, 0, NULL);
    crank_result results[8];
    size_t n = 99;
    crank_usage usage;
    crank_text query = text_of("w100");

    cr_assert_eq(crank_rank(s, query, NULL, 0, NULL, results, &n, &usage, NULL), CRANK_OK);
    cr_assert_eq(n, 0);
    cr_assert_eq(usage.pairs, 0);

    /* Empty, blank and NUL texts are the same three template tokens, so the same bits; equal texts
     * are computed once. */
    crank_text docs[6] = {{NULL, 0}, {"", 0}, {"  ", 2}, {"\0", 1}, {"w90", 3}, {"w90", 3}};
    cr_assert_eq(crank_rank(s, (crank_text){NULL, 0}, docs, 6, NULL, results, &n, &usage, NULL),
                 CRANK_OK);
    cr_assert_eq(n, 6);
    cr_assert_eq(usage.pairs, 6);
    cr_assert_eq(usage.computed_pairs, 2);
    float blank = NAN, word = NAN;
    for (size_t i = 0; i < n; i++) {
        float *known = results[i].index < 4 ? &blank : &word;
        if (isnan(*known)) *known = results[i].score;
        cr_assert_eq(results[i].score, *known);
        if (i > 0) {
            cr_assert(results[i - 1].score > results[i].score ||
                      (results[i - 1].score == results[i].score &&
                       results[i - 1].index < results[i].index));
        }
    }

    /* Invalid UTF-8 is U+FFFD, which BERT's normaliser drops. */
    crank_text broken[2] = {{"w\xFF"
                             "90 w1\xE2\x82"
                             "00",
                             11},
                            {"w90 w100", 8}};
    cr_assert_eq(crank_rank(s, query, broken, 2, NULL, results, &n, NULL, NULL), CRANK_OK);
    cr_assert_eq(results[0].score, results[1].score);

    /* A NULL text with bytes is a caller's mistake. */
    crank_error error = {0};
    crank_text bad = {NULL, 3};
    cr_assert_eq(crank_rank(s, query, &bad, 1, NULL, results, &n, NULL, &error),
                 CRANK_INVALID_ARGUMENT);
    cr_assert(strstr(error.message, "NULL") != NULL, "%s", error.message);

    /* top_k, and a session that goes on after an error. */
    crank_score_options options = {.size = sizeof options, .top_k = 2};
    cr_assert_eq(crank_rank(s, query, docs, 6, &options, results, &n, NULL, NULL), CRANK_OK);
    cr_assert_eq(n, 2);

    options = (crank_score_options){.size = sizeof options, .max_length = 2};
    cr_assert_eq(crank_rank(s, query, docs, 6, &options, results, &n, NULL, &error),
                 CRANK_INVALID_ARGUMENT);
    options.max_length = 49;
    cr_assert_eq(crank_rank(s, query, docs, 6, &options, results, &n, NULL, &error),
                 CRANK_INVALID_ARGUMENT);
    cr_assert(strstr(error.message, "48") != NULL, "%s", error.message);
    options = (crank_score_options){.size = 4};
    cr_assert_eq(crank_rank(s, query, docs, 6, &options, results, &n, NULL, &error),
                 CRANK_INVALID_ARGUMENT);
    crank_session_close(s);
    crank_model_close(model);
}

Test(engine, ten_thousand_documents_and_a_megabyte)
{
    char dir[512];
    cr_assert(tiny_model_make(dir, "many"));
    crank_model *model = open_with(dir, CRANK_DEVICE_CPU, CRANK_DTYPE_F32);
    crank_session *s = open_session(model, 2, 0, NULL);
    enum { MANY = 10000 };
    char(*words)[24] = malloc(MANY * sizeof *words);
    crank_text *docs = malloc(MANY * sizeof *docs);
    crank_result *results = malloc(MANY * sizeof *results);
    for (int i = 0; i < MANY; i++) {
        docs[i].bytes =
            (size_t)sprintf(words[i], "w%d w%d w%d", 80 + i % 220, 80 + i / 220 % 220, 80 + i % 7);
        docs[i].data = words[i];
    }
    size_t n;
    crank_usage usage;
    cr_assert_eq(crank_rank(s, text_of("w99"), docs, MANY, NULL, results, &n, &usage, NULL),
                 CRANK_OK);
    cr_assert_eq(n, MANY);
    char *seen = calloc(MANY, 1);
    for (size_t i = 0; i < n; i++) {
        cr_assert_lt(results[i].index, MANY);
        cr_assert_not(seen[results[i].index]);
        seen[results[i].index] = 1;
        if (i > 0) cr_assert_geq(results[i - 1].score, results[i].score);
    }
    char *long_text = make_text(200000, 5);
    crank_text big = text_of(long_text);
    cr_assert_gt(big.bytes, 900000);
    cr_assert_eq(crank_rank(s, text_of("w99"), &big, 1, NULL, results, &n, &usage, NULL), CRANK_OK);
    cr_assert_eq(usage.tokens, 48);
    free(long_text);
    free(seen);
    free(results);
    free(docs);
    free(words);
    crank_session_close(s);
    crank_model_close(model);
}

Test(engine, windows_take_the_best_part_and_say_where)
{
    char dir[512];
    cr_assert(tiny_model_make(dir, "windows"));
    crank_model *model = open_with(dir, CRANK_DEVICE_CPU, CRANK_DTYPE_F32);
    crank_session *s = open_session(model, 2, 0, NULL);
    char *document = make_text(150, 3);
    crank_text text = text_of(document), query = text_of("w100 w101");
    crank_score_options options = {.size = sizeof options, .truncation = CRANK_WINDOW};
    crank_result result;
    size_t n;
    crank_usage usage;
    cr_assert_eq(crank_rank(s, query, &text, 1, &options, &result, &n, &usage, NULL), CRANK_OK);
    /* room 48 - 3 - 2 = 43 ids a window, step 43 - 10 = 33: 1 + ceil(107 / 33) = 5 windows. */
    cr_assert_eq(usage.computed_pairs, 5);
    cr_assert_gt(result.window_bytes, 0);
    cr_assert_leq(result.window_start + result.window_bytes, text.bytes);
    /* The winning span alone scores the same. */
    crank_text span = {text.data + result.window_start, result.window_bytes};
    crank_pair pair = {query, span};
    float logit;
    cr_assert_eq(crank_score(s, &pair, 1, NULL, &logit, NULL, NULL, NULL), CRANK_OK);
    cr_assert_eq(logit, result.logit);
    /* A short document is one window, whole. */
    crank_text small = text_of("w90 w91");
    cr_assert_eq(crank_rank(s, query, &small, 1, &options, &result, &n, &usage, NULL), CRANK_OK);
    cr_assert_eq(usage.computed_pairs, 1);
    cr_assert_eq(result.window_start, 0);
    cr_assert_eq(result.window_bytes, small.bytes);
    options.window_overlap = 43;
    cr_assert_eq(crank_rank(s, query, &text, 1, &options, &result, &n, &usage, NULL),
                 CRANK_INVALID_ARGUMENT);
    free(document);
    crank_session_close(s);
    crank_model_close(model);
}

Test(engine, the_cache_answers_with_the_same_bits)
{
    char dir[512];
    cr_assert(tiny_model_make(dir, "cache"));
    make_documents();
    crank_model *model = open_with(dir, CRANK_DEVICE_CPU, CRANK_DTYPE_F32);
    crank_cache *cache;
    cr_assert_eq(crank_cache_open(&cache, 1 << 20, NULL), CRANK_OK);
    crank_session *s = open_session(model, 2, 0, cache);
    crank_result first[N_DOCS], again[N_DOCS];
    size_t n;
    crank_usage usage;
    cr_assert_eq(crank_rank(s, text_of("w77"), texts, N_DOCS, NULL, first, &n, &usage, NULL), 0);
    cr_assert_eq(usage.cache_hits, 0);
    size_t computed = usage.computed_pairs;
    cr_assert_eq(crank_rank(s, text_of("w77"), texts, N_DOCS, NULL, again, &n, &usage, NULL), 0);
    cr_assert_eq(usage.cache_hits, computed);
    cr_assert_eq(usage.computed_pairs, 0);
    cr_assert(memcmp(first, again, sizeof first) == 0);
    crank_cache_counts counts;
    crank_cache_count(cache, &counts);
    cr_assert_eq(counts.insertions, computed);
    cr_assert_eq(counts.entries, computed);
    /* Another model with the same ids does not hit. */
    crank_model *other = open_with(dir, CRANK_DEVICE_CPU, CRANK_DTYPE_INT8);
    crank_session *t = open_session(other, 1, 0, cache);
    cr_assert_eq(crank_rank(t, text_of("w77"), texts, N_DOCS, NULL, again, &n, &usage, NULL), 0);
    cr_assert_eq(usage.cache_hits, 0);
    crank_session_close(t);
    crank_model_close(other);
    crank_session_close(s);
    crank_cache_close(cache);
    crank_model_close(model);
    free_documents();
}

Test(engine, converted_files_score_the_same_bits)
{
    char dir[512], file[600];
    cr_assert(tiny_model_make(dir, "convert"));
    make_documents();
    for (size_t p = 0; p < N_PATHS; p++) {
        crank_model *folder = open_path(dir, p);
        if (folder == NULL) continue;
        snprintf(file, sizeof file, "%s/model.%zu.crank", dir, p);
        crank_convert_options options = {
            .size = sizeof options, .dtype = paths[p].type, .device = paths[p].device};
        crank_error error = {0};
        crank_status status = crank_convert(dir, file, &options, &error);
        cr_assert_eq(status, CRANK_OK, "%s", error.message);
        crank_model *converted = open_with(file, paths[p].device, CRANK_DTYPE_AUTO);
        crank_session *a = open_session(folder, 1, 0, NULL);
        crank_session *b = open_session(converted, 2, 0, NULL);
        crank_result left[N_DOCS], right[N_DOCS];
        size_t n;
        cr_assert_eq(crank_rank(a, text_of("w7"), texts, N_DOCS, NULL, left, &n, NULL, NULL), 0);
        cr_assert_eq(crank_rank(b, text_of("w7"), texts, N_DOCS, NULL, right, &n, NULL, NULL), 0);
        cr_assert(memcmp(left, right, sizeof left) == 0, "path %zu", p);
        crank_model_info info = {.size = sizeof info};
        cr_assert_eq(crank_model_describe(converted, &info, NULL), CRANK_OK);
        cr_assert_str_eq(info.converted_by, CRANK_VERSION);
        cr_assert_eq(strlen(info.source_sha256), 64);
        crank_session_close(a);
        crank_session_close(b);
        crank_model_close(folder);
        crank_model_close(converted);
    }
    /* A file packed for the CPU opens on the reference too: unpacked again. */
    snprintf(file, sizeof file, "%s/model.1.crank", dir);
    crank_model *ref = open_with(file, CRANK_DEVICE_REF, CRANK_DTYPE_AUTO);
    crank_model *cpu = open_with(dir, CRANK_DEVICE_REF, CRANK_DTYPE_AUTO);
    crank_session *a = open_session(ref, 1, 0, NULL), *b = open_session(cpu, 1, 0, NULL);
    crank_result left[N_DOCS], right[N_DOCS];
    size_t n;
    cr_assert_eq(crank_rank(a, text_of("w7"), texts, N_DOCS, NULL, left, &n, NULL, NULL), 0);
    cr_assert_eq(crank_rank(b, text_of("w7"), texts, N_DOCS, NULL, right, &n, NULL, NULL), 0);
    cr_assert(memcmp(left, right, sizeof left) == 0);
    crank_session_close(a);
    crank_session_close(b);
    crank_model_close(ref);
    crank_model_close(cpu);
    free_documents();
}

static int cancel_at_once(void *user, size_t done, size_t total)
{
    (void)done;
    (void)total;
    ++*(int *)user;
    return 1;
}

Test(engine, progress_can_cancel)
{
    char dir[512];
    cr_assert(tiny_model_make(dir, "cancel"));
    make_documents();
    crank_model *model = open_with(dir, CRANK_DEVICE_REF, CRANK_DTYPE_F32);
    crank_session *s = open_session(model, 1, 16, NULL);
    int calls = 0;
    crank_score_options options = {
        .size = sizeof options, .progress = cancel_at_once, .progress_user = &calls};
    crank_result results[N_DOCS];
    size_t n;
    crank_error error = {0};
    cr_assert_eq(crank_rank(s, text_of("w7"), texts, N_DOCS, &options, results, &n, NULL, &error),
                 CRANK_CANCELLED);
    cr_assert_eq(calls, 1);
    cr_assert_eq(n, 0);
    crank_session_close(s);
    crank_model_close(model);
    free_documents();
}

Test(engine, a_warm_session_allocates_nothing)
{
    char dir[512];
    cr_assert(tiny_model_make(dir, "warm"));
    make_documents();
    for (size_t p = 0; p < N_PATHS; p++) {
        crank_model *model = open_path(dir, p);
        if (model == NULL) continue;
        crank_session *s = open_session(model, 2, 0, NULL);
        crank_result results[N_DOCS];
        size_t n;
        crank_text query = text_of("w7 w8 w9");
        /* One call warms it: who encodes what does not depend on who is fast. */
        cr_assert_eq(crank_rank(s, query, texts, N_DOCS, NULL, results, &n, NULL, NULL), 0);
        long before = mem_allocation_count();
        for (int i = 0; i < 20; i++) {
            cr_assert_eq(crank_rank(s, query, texts, N_DOCS, NULL, results, &n, NULL, NULL), 0);
        }
        cr_assert_eq(crank_rank(s, query, texts, 1, NULL, results, &n, NULL, NULL), 0);
        cr_assert_eq(mem_allocation_count() - before, 0, "path %zu", p);
        crank_session_close(s);
        crank_model_close(model);
    }
    free_documents();
}

/* Load, convert and score with the n-th allocation failing, for every n until none is left. */
static crank_status everything(const char *dir, const char *file, crank_error *error)
{
    crank_model *model = NULL;
    crank_session *s = NULL;
    crank_cache *cache = NULL;
    crank_model_options options = {.size = sizeof options,
                                   .device = CRANK_DEVICE_CPU,
                                   .dtype = CRANK_DTYPE_INT8,
                                   .load_threads = 1};
    crank_status status = crank_model_open(&model, dir, &options, error);
    if (status == CRANK_OK) status = crank_cache_open(&cache, 1 << 16, error);
    crank_session_options session_options = {
        .size = sizeof session_options, .n_threads = 2, .cache = cache};
    if (status == CRANK_OK) status = crank_session_open(&s, model, &session_options, error);
    crank_result results[3];
    size_t n;
    crank_text docs[3] = {{"w90 w91", 7}, {"w92", 3}, {"w90 w91", 7}};
    if (status == CRANK_OK) {
        status = crank_rank(s, (crank_text){"w100", 4}, docs, 3, NULL, results, &n, NULL, error);
    }
    crank_session_close(s);
    crank_cache_close(cache);
    crank_model_close(model);
    if (status == CRANK_OK) {
        crank_convert_options convert = {.size = sizeof convert, .dtype = CRANK_DTYPE_F32};
        status = crank_convert(dir, file, &convert, error);
    }
    return status;
}

Test(engine, every_failing_allocation_is_an_error_and_nothing_more)
{
    char dir[512], file[600];
    cr_assert(tiny_model_make(dir, "oom"));
    snprintf(file, sizeof file, "%s/out.crank", dir);
    crank_error error = {0};
    long n = 0;
    for (;; n++) {
        unlink(file);
        mem_fail_nth(n);
        crank_status status = everything(dir, file, &error);
        long made = mem_fail_nth(-1);
        if (made <= n) {
            cr_assert_eq(status, CRANK_OK, "%s", error.message);
            break;
        }
        if (status == CRANK_OK) continue; /* an optional structure did without */
        cr_assert_eq(status, CRANK_OUT_OF_MEMORY, "allocation %ld: %s: %s", n,
                     crank_status_name(status), error.message);
        cr_assert_neq(error.message[0], '\0');
        cr_assert_neq(access(file, F_OK), 0, "allocation %ld left a file behind", n);
    }
    cr_assert_gt(n, 60);
}
