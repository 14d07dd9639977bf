/* MaxSim: the reference against double precision, every kernel against the reference bit for bit,
 * quantisation, compaction, threads, and ColBERT's golden scores. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/maxsim.h"
#include "memory.h"
#include "support/golden.h"

static uint64_t random_state = 1;

static float random_float(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (float)(random_state >> 40) / 8388608.0f - 1.0f;
}

static float *random_vectors(int32_t n, int32_t dim)
{
    size_t values = (size_t)n * (size_t)dim;
    float *x = malloc(values * sizeof *x + 1); /* no slack: a sanitizer sees an over-read */
    for (size_t i = 0; i < values; i++) x[i] = random_float();
    return x;
}

/* One query and one document in both types. */
typedef struct pair {
    int32_t n_query, n_document, dim;
    float *query, *document, *scales;
    int8_t *codes;
    void *memory;
    maxsim_query q;
    maxsim_document typed[MAXSIM_N_TYPES];
} pair;

static pair pair_make(int32_t n_query, int32_t n_document, int32_t dim)
{
    pair p = {.n_query = n_query, .n_document = n_document, .dim = dim};
    p.query = random_vectors(n_query, dim);
    p.document = random_vectors(n_document, dim);
    p.codes = malloc((size_t)n_document * (size_t)dim + 1);
    p.scales = malloc((size_t)n_document * sizeof(float) + 1);
    maxsim_quantize(p.codes, p.scales, p.document, n_document, dim);
    p.memory = mem_alloc_aligned(maxsim_query_bytes(n_query, dim));
    maxsim_query_pack(&p.q, p.memory, p.query, n_query, dim);
    p.typed[MAXSIM_F32] = (maxsim_document){p.document, NULL, n_document};
    p.typed[MAXSIM_INT8] = (maxsim_document){p.codes, p.scales, n_document};
    return p;
}

static void pair_free(pair *p)
{
    free(p->query);
    free(p->document);
    free(p->codes);
    free(p->scales);
    mem_free_aligned(p->memory);
}

static const int32_t query_sizes[] = {0, 1, 5, 16, 17, 32, 33, 48};
static const int32_t document_sizes[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 17, 64, 129};
static const int32_t dims[] = {1, 2, 3, 4, 5, 31, 32, 64, 66, 96, 128, 131};
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* From the equation, in double. */
static double expected_score(const pair *p, maxsim_type type)
{
    double score = 0;
    for (int32_t i = 0; i < p->n_query; i++) {
        double largest = p->n_document > 0 ? -INFINITY : -9999;
        for (int32_t j = 0; j < p->n_document; j++) {
            double dot = 0;
            for (int32_t k = 0; k < p->dim; k++) {
                int32_t a = i * p->dim + k, b = j * p->dim + k;
                dot += type == MAXSIM_F32 ? (double)p->query[a] * (double)p->document[b]
                                          : (double)p->q.codes[a] * (double)p->q.scales[i] *
                                                (double)p->codes[b] * (double)p->scales[j];
            }
            largest = fmax(largest, dot);
        }
        score += largest;
    }
    return score;
}

Test(maxsim, reference_equals_the_equation)
{
    const maxsim_kernel *ref = maxsim_kernel_for("ref");
    for (size_t a = 0; a < COUNT(query_sizes); a++) {
        for (size_t b = 0; b < COUNT(document_sizes); b++) {
            pair p = pair_make(query_sizes[a], document_sizes[b], dims[(a * 5 + b) % COUNT(dims)]);
            for (int type = 0; type < MAXSIM_N_TYPES; type++) {
                double expected = expected_score(&p, (maxsim_type)type);
                double found = (double)ref->score[type](&p.q, &p.typed[type]);
                cr_assert_float_eq(found, expected, 2e-6 * (1 + fabs(expected)),
                                   "type %d, %d x %d vectors of %d: expected %.9g, found %.9g",
                                   type, p.n_query, p.n_document, p.dim, expected, found);
            }
            pair_free(&p);
        }
    }
}

Test(maxsim, every_kernel_has_the_bits_of_the_reference)
{
    const maxsim_kernel *ref = maxsim_kernel_for("ref");
    for (size_t i = 0; i < maxsim_n_kernels; i++) {
        const maxsim_kernel *kernel = &maxsim_kernels[i];
        if (!kernel->available()) {
            printf("skipped: MaxSim on %s: this CPU has none\n", kernel->isa);
            continue;
        }
        for (size_t s = 0; s < COUNT(query_sizes) * COUNT(document_sizes) * COUNT(dims); s++) {
            pair p = pair_make(query_sizes[s % COUNT(query_sizes)],
                               document_sizes[s / COUNT(query_sizes) % COUNT(document_sizes)],
                               dims[s / COUNT(query_sizes) / COUNT(document_sizes)]);
            for (int type = 0; type < MAXSIM_N_TYPES; type++) {
                float expected = ref->score[type](&p.q, &p.typed[type]);
                float found = kernel->score[type](&p.q, &p.typed[type]);
                cr_assert_eq(memcmp(&found, &expected, sizeof found), 0,
                             "%s type %d, %d x %d vectors of %d: expected %.9g, found %.9g",
                             kernel->isa, type, p.n_query, p.n_document, p.dim, (double)expected,
                             (double)found);
            }
            pair_free(&p);
        }
    }
}

Test(maxsim, the_longest_vectors_of_extreme_codes_do_not_overflow)
{
    const int32_t dim = MAXSIM_MAX_DIM, n = 9;
    float *query = malloc((size_t)dim * sizeof *query);
    int8_t *codes = malloc((size_t)n * (size_t)dim);
    float scales[9];
    void *memory = mem_alloc_aligned(maxsim_query_bytes(1, dim));
    for (int sign = -1; sign <= 1; sign += 2) {
        for (int32_t k = 0; k < dim; k++) query[k] = 127.0f;
        memset(codes, sign > 0 ? 127 : -127, (size_t)n * (size_t)dim);
        for (int32_t j = 0; j < n; j++) scales[j] = 1.0f;
        maxsim_query q;
        maxsim_query_pack(&q, memory, query, 1, dim);
        const maxsim_document d = {codes, scales, n};
        for (size_t i = 0; i < maxsim_n_kernels; i++) {
            if (!maxsim_kernels[i].available()) continue;
            float found = maxsim_kernels[i].score[MAXSIM_INT8](&q, &d);
            cr_expect_eq(found, (float)(sign * 127 * 127) * (float)dim, "%s: %g",
                         maxsim_kernels[i].isa, (double)found);
        }
    }
    free(query);
    free(codes);
    mem_free_aligned(memory);
}

Test(maxsim, scores_are_the_same_bits_whatever_the_threads_and_the_order)
{
    enum { N = 57, DIM = 48 };
    const int32_t none = 0;
    float *vectors[N];
    maxsim_document documents[N], reversed[N];
    float *query = random_vectors(20, DIM), one[N], two[N], back[N];
    maxsim_query q;
    void *memory = mem_alloc_aligned(maxsim_query_bytes(20, DIM));
    maxsim_query_pack(&q, memory, query, 20, DIM);
    for (int i = 0; i < N; i++) {
        int32_t n = i % 9 == 4 ? none : i * 7 % 41;
        vectors[i] = random_vectors(n, DIM);
        documents[i] = reversed[N - 1 - i] = (maxsim_document){vectors[i], NULL, n};
    }
    const maxsim_kernel *kernel = maxsim_kernel_for(NULL);
    team *workers;
    cr_assert_eq(team_open(&workers, 3, 0, NULL), CRANK_OK);
    memset(one, 0xFF, sizeof one);
    memset(two, 0xFF, sizeof two);
    memset(back, 0xFF, sizeof back);
    maxsim_scores(kernel, one, &q, documents, N, MAXSIM_F32, NULL);
    maxsim_scores(kernel, two, &q, documents, N, MAXSIM_F32, workers);
    maxsim_scores(kernel, back, &q, reversed, N, MAXSIM_F32, workers);
    maxsim_scores(kernel, back, &q, reversed, 0, MAXSIM_F32, workers);
    cr_assert_eq(memcmp(one, two, sizeof one), 0);
    for (int i = 0; i < N; i++) {
        cr_assert_eq(memcmp(&one[i], &back[N - 1 - i], sizeof one[i]), 0, "document %d", i);
        if (documents[i].n == 0) cr_assert_eq(one[i], 20 * MAXSIM_EMPTY);
        free(vectors[i]);
    }
    team_close(workers);
    free(query);
    mem_free_aligned(memory);
}

Test(maxsim, quantised_vectors_are_within_half_a_step)
{
    enum { N = 40, DIM = 37 };
    float *x = random_vectors(N, DIM), scales[N];
    int8_t codes[N * DIM];
    for (int j = 0; j < DIM; j++) {
        x[j] = 0.0f;                           /* vector 0: zeros */
        x[DIM + j] *= 1e-44f;                  /* vector 1: subnormal, scale included */
        x[2 * DIM + j] *= 3e38f;               /* vector 2: huge */
        x[3 * DIM + j] = j % 2 ? 1.0f : -1.0f; /* vector 3: the extreme codes only */
        x[4 * DIM + j] = (float)(2 * j) - 36.0f;
    }
    x[4 * DIM] = 127.0f; /* vector 4: scale 1, integers */
    x[4 * DIM + 1] = 2.5f;
    x[4 * DIM + 2] = -3.5f; /* ties go to even */
    maxsim_quantize(codes, scales, x, N, DIM);
    for (int i = 0; i < N; i++) {
        int most = 0;
        for (int j = 0; j < DIM; j++) {
            int code = codes[i * DIM + j];
            double error = fabs((double)x[i * DIM + j] - (double)scales[i] * code);
            cr_assert(code >= -127 && code <= 127);
            if (i != 1) cr_assert_leq(error, 0.5001 * (double)scales[i], "vector %d", i);
            if (abs(code) > most) most = abs(code);
        }
        cr_assert(i <= 1 || most == 127, "vector %d: largest code %d", i, most);
    }
    cr_assert(scales[0] == 0.0f && codes[5] == 0);
    cr_assert(codes[3 * DIM] == -127 && codes[3 * DIM + 1] == 127);
    cr_assert(codes[4 * DIM + 1] == 2 && codes[4 * DIM + 2] == -4 && codes[4 * DIM + 3] == -30);
    free(x);
}

Test(maxsim, compaction_keeps_order)
{
    float x[5][2] = {{0, 1}, {2, 3}, {4, 5}, {6, 7}, {8, 9}};
    const uint8_t keep[5] = {0, 1, 0, 1, 1}, all[5] = {1, 1, 1, 1, 1}, nothing[5] = {0};
    cr_assert_eq(maxsim_compact(x[0], all, 5, 2), 5);
    cr_assert(x[0][0] == 0.0f && x[4][1] == 9.0f);
    cr_assert_eq(maxsim_compact(x[0], keep, 5, 2), 3);
    cr_assert(x[0][0] == 2.0f && x[0][1] == 3.0f && x[1][0] == 6.0f && x[2][1] == 9.0f);
    cr_assert_eq(maxsim_compact(x[0], nothing, 5, 2), 0);
    cr_assert_eq(maxsim_compact(NULL, keep, 0, 2), 0);
}

Test(maxsim, sizes_out_of_range_are_refused)
{
    cr_assert_eq(maxsim_query_bytes(-1, 128), 0);
    cr_assert_eq(maxsim_query_bytes(32, 0), 0);
    cr_assert_eq(maxsim_query_bytes(32, MAXSIM_MAX_DIM + 1), 0);
    cr_assert_gt(maxsim_query_bytes(INT32_MAX, MAXSIM_MAX_DIM), (size_t)INT32_MAX * MAXSIM_MAX_DIM);
    cr_assert_null(maxsim_kernel_for("avx9"));
    cr_assert_not_null(maxsim_kernel_for(NULL));
    cr_assert_str_eq(maxsim_kernel_for("portable")->isa, "portable");
}

/* The golden's embeddings, ColBERT's keep mask, and its scores: f32 to 1e-5, int8 to its rounding.
 */
Test(maxsim, golden_scores)
{
    golden g;
    if (!golden_open(&g, "colbert")) return;
    int64_t n_queries, query_values, n_documents, document_values;
    float *queries = golden_f32(&g, "query_embeddings", &n_queries, &query_values);
    float *vectors = golden_f32(&g, "doc_embeddings", &n_documents, &document_values);
    float *scores = golden_f32(&g, "scores", NULL, NULL);
    int64_t length;
    int32_t *keep = golden_i32(&g, "doc_keep", NULL, &length);
    int32_t dim = (int32_t)(document_values / length), n_query = (int32_t)(query_values / dim);
    const maxsim_kernel *kernel = maxsim_kernel_for(NULL);
    void *memory = mem_alloc_aligned(maxsim_query_bytes(n_query, dim));
    uint8_t *mask = malloc((size_t)length);
    int8_t *codes = malloc((size_t)document_values);
    float *scales = malloc((size_t)length * sizeof *scales);
    for (int64_t d = 0; d < n_documents; d++) {
        float *document = vectors + d * document_values;
        for (int64_t i = 0; i < length; i++) mask[i] = keep[d * length + i] != 0;
        int32_t n = maxsim_compact(document, mask, (int32_t)length, dim);
        maxsim_quantize(codes, scales, document, n, dim);
        const maxsim_document typed[] = {{document, NULL, n}, {codes, scales, n}};
        for (int64_t i = 0; i < n_queries; i++) {
            maxsim_query q;
            maxsim_query_pack(&q, memory, queries + i * query_values, n_query, dim);
            double expected = (double)scores[i * n_documents + d];
            for (int type = 0; type < MAXSIM_N_TYPES; type++) {
                float found;
                maxsim_scores(kernel, &found, &q, &typed[type], 1, (maxsim_type)type, NULL);
                cr_expect_float_eq((double)found, expected, type == MAXSIM_F32 ? 1e-5 : 3e-2,
                                   "query %d document %d: expected %.6f, found %.6f", (int)i,
                                   (int)d, expected, (double)found);
            }
        }
    }
    mem_free_aligned(memory);
    free(mask);
    free(codes);
    free(scales);
    free(queries);
    free(vectors);
    free(scores);
    free(keep);
    golden_close(&g);
}
