/* What all MaxSim kernels share: the packed query, quantisation, the table, the split over threads.
 */
#include "kernels/maxsim.h"

#include <math.h>
#include <string.h>

#include "kernels/cpu/maxsim.h"
#include "kernels/ref/maxsim.h"

/* ---- packing -----------------------------------------------------------------------------------
 */

/* Offsets of the query's arrays in its memory. */
typedef struct query_plan {
    size_t rows, codes, scales, panels, quads, pairs, offsets, end;
} query_plan;

static size_t rounded(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

/* n and dim are below 2^31 and 2^17: products of the three sizes below fit 64 bits. */
static query_plan plan(int32_t n, int32_t dim)
{
    size_t lanes = ((size_t)n + MAXSIM_LANES - 1) / MAXSIM_LANES * MAXSIM_LANES;
    size_t steps = ((size_t)dim + 3) / 4, values = (size_t)n * (size_t)dim;
    query_plan p = {0};
    p.codes = p.rows + rounded(values * sizeof(float));
    p.scales = p.codes + rounded(values);
    p.panels = p.scales + rounded(lanes * sizeof(float));
    p.quads = p.panels + rounded(lanes * (size_t)dim * sizeof(float));
    p.pairs = p.quads + rounded(lanes * steps * 4);
    p.offsets = p.pairs + rounded(lanes * steps * 4 * sizeof(int16_t));
    p.end = p.offsets + rounded(lanes * sizeof(int32_t));
    return p;
}

size_t maxsim_query_bytes(int32_t n, int32_t dim)
{
    if (n < 0 || dim < 1 || dim > MAXSIM_MAX_DIM) return 0;
    return plan(n, dim).end;
}

/* x to the nearest integer, ties to even, for |x| below 2^22: the sum has no bits left below 1. */
static float nearest(float x)
{
    return (x + 0x1.8p23f) - 0x1.8p23f;
}

void maxsim_quantize(int8_t *codes, float *scales, const float *vectors, int32_t n, int32_t dim)
{
    for (int32_t i = 0; i < n; i++) {
        const float *x = vectors + (size_t)i * (size_t)dim;
        int8_t *code = codes + (size_t)i * (size_t)dim;
        float largest = 0.0f;
        for (int32_t j = 0; j < dim; j++) {
            float size = fabsf(x[j]);
            largest = size > largest ? size : largest;
        }
        float scale = largest / 127.0f;
        scales[i] = scale;
        float divisor = scale > 0.0f ? scale : INFINITY; /* zeros stay zeros */
        for (int32_t j = 0; j < dim; j++) {
            /* A subnormal scale may be off by half of itself: clamp before the rounding trick. */
            float c = x[j] / divisor;
            c = c > 127.0f ? 127.0f : c < -127.0f ? -127.0f : c;
            code[j] = (int8_t)nearest(c);
        }
    }
}

void maxsim_query_pack(maxsim_query *q, void *memory, const float *vectors, int32_t n, int32_t dim)
{
    query_plan p = plan(n, dim);
    uint8_t *base = memory;
    float *rows = (float *)(base + p.rows), *scales = (float *)(base + p.scales);
    float *panels = (float *)(base + p.panels);
    int8_t *codes = (int8_t *)(base + p.codes), *quads = (int8_t *)(base + p.quads);
    int16_t *pairs = (int16_t *)(base + p.pairs);
    int32_t *offsets = (int32_t *)(base + p.offsets);
    memset(base, 0, p.end);
    *q = (maxsim_query){.n = n,
                        .dim = dim,
                        .n_panels = (int32_t)(((int64_t)n + MAXSIM_LANES - 1) / MAXSIM_LANES),
                        .steps = (dim + 3) / 4,
                        .rows = rows,
                        .codes = codes,
                        .scales = scales,
                        .panels = panels,
                        .quads = quads,
                        .pairs = pairs,
                        .offsets = offsets};
    memcpy(rows, vectors, (size_t)n * (size_t)dim * sizeof *rows);
    maxsim_quantize(codes, scales, vectors, n, dim);
    for (int32_t i = 0; i < n; i++) {
        size_t panel = (size_t)(i / MAXSIM_LANES), lane = (size_t)(i % MAXSIM_LANES);
        size_t first_quad = panel * (size_t)q->steps, first_k = panel * (size_t)dim;
        for (int32_t j = 0; j < dim; j++) {
            size_t k = (size_t)j, at = (size_t)i * (size_t)dim + k;
            panels[(first_k + k) * MAXSIM_LANES + lane] = rows[at];
            quads[((first_quad + k / 4) * MAXSIM_LANES + lane) * 4 + k % 4] = codes[at];
            pairs[((2 * first_quad + k / 2) * MAXSIM_LANES + lane) * 2 + k % 2] = codes[at];
            offsets[i] -= 128 * codes[at];
        }
    }
}

int32_t maxsim_compact(float *vectors, const uint8_t *keep, int32_t n, int32_t dim)
{
    int32_t kept = 0;
    for (int32_t i = 0; i < n; i++) {
        if (!keep[i]) continue;
        if (kept != i) {
            memcpy(vectors + (size_t)kept * (size_t)dim, vectors + (size_t)i * (size_t)dim,
                   (size_t)dim * sizeof *vectors);
        }
        kept++;
    }
    return kept;
}

/* ---- kernels -----------------------------------------------------------------------------------
 */

static bool always(void)
{
    return true;
}

#if defined(__x86_64__)
static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2");
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f");
}

static bool has_vnni(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512vnni");
}
#endif

const maxsim_kernel maxsim_kernels[] = {
#if defined(__x86_64__)
    {"avx512-vnni", has_vnni, {maxsim_f32_avx512, maxsim_int8_avx512_vnni}},
    {"avx512", has_avx512, {maxsim_f32_avx512, maxsim_int8_avx2}},
    {"avx2", has_avx2, {maxsim_f32_avx2, maxsim_int8_avx2}},
#endif
    {"portable", always, {maxsim_f32_portable, ref_maxsim_int8}},
    {"ref", always, {ref_maxsim_f32, ref_maxsim_int8}},
};
const size_t maxsim_n_kernels = sizeof maxsim_kernels / sizeof maxsim_kernels[0];

const maxsim_kernel *maxsim_kernel_for(const char *isa)
{
    for (size_t i = 0; i < maxsim_n_kernels; i++) {
        const maxsim_kernel *kernel = &maxsim_kernels[i];
        if ((isa == NULL || strcmp(isa, kernel->isa) == 0) && kernel->available()) return kernel;
    }
    return NULL;
}

const maxsim_kernel *maxsim_kernel_for_level(const char *level)
{
    static const struct {
        const char *level, *isa;
    } others[] = {{"avx512-bf16", "avx512-vnni"}, {"avx2-vnni", "avx2"}};
    const char *isa = level;
    for (size_t i = 0; level != NULL && i < sizeof others / sizeof others[0]; i++) {
        if (strcmp(others[i].level, level) == 0) isa = others[i].isa;
    }
    const maxsim_kernel *kernel = maxsim_kernel_for(isa);
    return kernel != NULL ? kernel : maxsim_kernel_for("portable");
}

/* ---- all documents -----------------------------------------------------------------------------
 */

typedef struct scores_job {
    maxsim_fn score;
    float *scores;
    const maxsim_query *q;
    const maxsim_document *documents;
    int32_t n_documents;
    int64_t n_vectors;
} scores_job;

/* A document belongs to the worker in whose share its first vector lies. */
static void score_share(void *context, int worker, int n_workers)
{
    const scores_job *job = context;
    /* vectors before + documents before: empty documents are work too, and are spread */
    int64_t total = job->n_vectors + job->n_documents;
    int64_t begin = total * worker / n_workers, end = total * (worker + 1) / n_workers, at = 0;
    for (int32_t i = 0; i < job->n_documents && at < end; i++) {
        if (at >= begin) job->scores[i] = job->score(job->q, &job->documents[i]);
        at += 1 + (int64_t)job->documents[i].n;
    }
}

void maxsim_scores(const maxsim_kernel *kernel, float *scores, const maxsim_query *q,
                   const maxsim_document *documents, int32_t n_documents, maxsim_type type,
                   team *workers)
{
    scores_job job = {kernel->score[type], scores, q, documents, n_documents, 0};
    for (int32_t i = 0; i < n_documents; i++) job.n_vectors += documents[i].n;
    if (n_documents > 1) {
        team_run(workers, score_share, &job);
    } else {
        score_share(&job, 0, 1);
    }
}
