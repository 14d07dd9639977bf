/* MaxSim with the query's vectors in the lanes: the packed query stays in the first-level cache, a
 * document's rows are read once, as they lie, one broadcast element (or pair, or quad) at a time,
 * and the maxima over the document never leave the registers' lanes.
 *
 * A kernel works on a group of one or two panels (16 or 32 query vectors) and on tiles of several
 * document rows, whose sums are independent chains. Where the rows do not fill the last tile, it
 * starts early and covers some rows twice: a maximum does not mind. Sums run over k in ascending
 * order, one accumulator each, product and addition rounded apart (int8: exact), so every tile
 * shape and every instruction set gives the reference's bits.
 *
 * Limits: f32, one multiplication and one addition per lane and element of k; int8 with VNNI, one
 * VPDPBUSD per lane and four elements, or the memory that the documents come from. */
#include "kernels/cpu/maxsim.h"

#include <math.h>
#include <string.h>

/* A group's maxima to its part of the score, in the order of the query's vectors. */
static float add_maxima(float score, const float *best, const float *scales, int32_t n)
{
    for (int32_t i = 0; i < n; i++) score += scales != NULL ? best[i] * scales[i] : best[i];
    return score;
}

/* Maxima of one group over all rows: best[16 * panels]. */
typedef void (*group_f32)(float *best, const float *panels, int32_t n_panels, const float *rows,
                          int32_t n_rows, int32_t dim);

static float empty_score(const maxsim_query *q)
{
    float score = 0.0f;
    for (int32_t i = 0; i < q->n; i++) score += MAXSIM_EMPTY;
    return score;
}

/* Walks groups of at most `width` panels (1 or 2). */
static float score_f32(const maxsim_query *q, const maxsim_document *d, int32_t width,
                       group_f32 group)
{
    float score = 0.0f, best[2 * MAXSIM_LANES];
    if (d->n <= 0) return empty_score(q);
    for (int32_t p = 0; p < q->n_panels; p += width) {
        int32_t n_panels = q->n_panels - p < width ? q->n_panels - p : width;
        int32_t left = q->n - p * MAXSIM_LANES, lanes = n_panels * MAXSIM_LANES;
        group(best, q->panels + (size_t)p * (size_t)q->dim * MAXSIM_LANES, n_panels, d->vectors,
              d->n, q->dim);
        score = add_maxima(score, best, NULL, left < lanes ? left : lanes);
    }
    return score;
}

/* ---- portable ----------------------------------------------------------------------------------
 * Vectors of four, which every machine that matters has (and the compiler takes apart elsewhere);
 * tiles of 2 rows: 8 sums. In int8 the compiler makes of the reference's plain dot product what
 * this file could write down: the table takes that. */

typedef float four __attribute__((vector_size(16)));

static four four_load(const float *x)
{
    four out;
    memcpy(&out, x, sizeof out);
    return out;
}

static void group_f32_portable(float *best, const float *panels, int32_t n_panels,
                               const float *rows, int32_t n_rows, int32_t dim)
{
    (void)n_panels;
    for (int l = 0; l < MAXSIM_LANES; l++) best[l] = -INFINITY;
    for (int32_t r = 0; r < n_rows; r += 2) {
        const float *row = rows + (size_t)r * (size_t)dim;
        const float *next = r + 1 < n_rows ? row + dim : row;
        four a0 = {0}, a1 = {0}, a2 = {0}, a3 = {0}, b0 = {0}, b1 = {0}, b2 = {0}, b3 = {0};
        for (int32_t k = 0; k < dim; k++) {
            const float *w = panels + (size_t)k * MAXSIM_LANES;
            four w0 = four_load(w), w1 = four_load(w + 4), w2 = four_load(w + 8);
            four w3 = four_load(w + 12);
            float x = row[k], y = next[k];
            a0 += x * w0;
            a1 += x * w1;
            a2 += x * w2;
            a3 += x * w3;
            b0 += y * w0;
            b1 += y * w1;
            b2 += y * w2;
            b3 += y * w3;
        }
        const four sums[8] = {a0, a1, a2, a3, b0, b1, b2, b3};
        for (int i = 0; i < 8; i++) {
            for (int l = 0; l < 4; l++) {
                float *most = &best[i % 4 * 4 + l];
                *most = sums[i][l] > *most ? sums[i][l] : *most;
            }
        }
    }
}

float maxsim_f32_portable(const maxsim_query *q, const maxsim_document *d)
{
    return score_f32(q, d, 1, group_f32_portable);
}

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f")))
#define VNNI __attribute__((target("avx512f,avx512vnni")))
#define ALWAYS_INLINE inline __attribute__((always_inline))

/* As group_f32, over the query's panels `panel` and, when n_panels is 2, the next one. */
typedef void (*group_int8)(float *best, const maxsim_query *q, int32_t panel, int32_t n_panels,
                           const maxsim_document *d);

static float score_int8(const maxsim_query *q, const maxsim_document *d, int32_t width,
                        group_int8 group)
{
    float score = 0.0f, best[2 * MAXSIM_LANES];
    if (d->n <= 0) return empty_score(q);
    for (int32_t p = 0; p < q->n_panels; p += width) {
        int32_t n_panels = q->n_panels - p < width ? q->n_panels - p : width;
        int32_t left = q->n - p * MAXSIM_LANES, lanes = n_panels * MAXSIM_LANES;
        group(best, q, p, n_panels, d);
        score = add_maxima(score, best, q->scales + p * MAXSIM_LANES, left < lanes ? left : lanes);
    }
    return score;
}

/* Where the next tile of `tile` rows starts: at row, or so that it ends with the last row. */
static inline int32_t tile_start(int32_t row, int32_t n_rows, int32_t tile)
{
    return row + tile <= n_rows ? row : n_rows - tile;
}

/* Tile bodies are inlined with a constant number of rows and panels, their loops over those two
 * unrolled, so that the sums are registers. */

/* ---- AVX2 --------------------------------------------------------------------------------------
 * One panel is two registers; tiles of 4 rows: 8 sums of the 16 registers. */

AVX2 static ALWAYS_INLINE void tile_f32_avx2(__m256 best[2], const float *panel, const float *row,
                                             int32_t dim, const int n_rows)
{
    __m256 sum[4][2];
    for (int r = 0; r < n_rows; r++) sum[r][0] = sum[r][1] = _mm256_setzero_ps();
    for (int32_t k = 0; k < dim; k++) {
        __m256 w0 = _mm256_load_ps(panel + k * MAXSIM_LANES);
        __m256 w1 = _mm256_load_ps(panel + k * MAXSIM_LANES + 8);
#pragma GCC unroll 4
        for (int r = 0; r < n_rows; r++) {
            __m256 x = _mm256_broadcast_ss(row + (size_t)r * (size_t)dim + (size_t)k);
            sum[r][0] = _mm256_add_ps(sum[r][0], _mm256_mul_ps(x, w0));
            sum[r][1] = _mm256_add_ps(sum[r][1], _mm256_mul_ps(x, w1));
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < n_rows; r++) {
        best[0] = _mm256_max_ps(best[0], sum[r][0]);
        best[1] = _mm256_max_ps(best[1], sum[r][1]);
    }
}

AVX2 static void group_f32_avx2(float *best, const float *panels, int32_t n_panels,
                                const float *rows, int32_t n_rows, int32_t dim)
{
    (void)n_panels;
    __m256 most[2] = {_mm256_set1_ps(-INFINITY), _mm256_set1_ps(-INFINITY)};
    if (n_rows >= 4) {
        for (int32_t r = 0; r < n_rows; r += 4) {
            const float *row = rows + (size_t)tile_start(r, n_rows, 4) * (size_t)dim;
            tile_f32_avx2(most, panels, row, dim, 4);
        }
    } else {
        for (int32_t r = 0; r < n_rows; r++)
            tile_f32_avx2(most, panels, rows + (size_t)r * (size_t)dim, dim, 1);
    }
    _mm256_storeu_ps(best, most[0]);
    _mm256_storeu_ps(best + 8, most[1]);
}

float maxsim_f32_avx2(const maxsim_query *q, const maxsim_document *d)
{
    return score_f32(q, d, 1, group_f32_avx2);
}

#define CHUNK 64 /* of k, widened to 16 bits at a time */

/* Widens row[0 .. n) to 16 bits, zeros up to a whole quad (which is where the query's end). */
AVX2 static ALWAYS_INLINE void widen(int16_t *out, const int8_t *row, int32_t n)
{
    int32_t k = 0;
    for (; k + 16 <= n; k += 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)(row + k));
        _mm256_store_si256((__m256i *)(out + k), _mm256_cvtepi8_epi16(x));
    }
    for (; k < n; k++) out[k] = row[k];
    for (; k % 4 != 0; k++) out[k] = 0;
}

AVX2 static ALWAYS_INLINE void tile_int8_avx2(__m256 best[2], const int16_t *pairs,
                                              const int8_t *row, const float *scales, int32_t dim,
                                              const int n_rows)
{
    _Alignas(32) int16_t wide[4][CHUNK];
    __m256i sum[4][2];
    for (int r = 0; r < n_rows; r++) sum[r][0] = sum[r][1] = _mm256_setzero_si256();
    for (int32_t first = 0; first < dim; first += CHUNK) {
        int32_t n = dim - first < CHUNK ? dim - first : CHUNK;
        for (int r = 0; r < n_rows; r++) {
            widen(wide[r], row + (size_t)r * (size_t)dim + (size_t)first, n);
        }
        for (int32_t k = 0; k < n; k += 2) {
            const int16_t *w = pairs + (size_t)(first + k) * MAXSIM_LANES;
            __m256i w0 = _mm256_load_si256((const __m256i *)w);
            __m256i w1 = _mm256_load_si256((const __m256i *)(w + MAXSIM_LANES));
#pragma GCC unroll 4
            for (int r = 0; r < n_rows; r++) {
                int32_t both;
                memcpy(&both, &wide[r][k], sizeof both);
                __m256i x = _mm256_set1_epi32(both);
                sum[r][0] = _mm256_add_epi32(sum[r][0], _mm256_madd_epi16(x, w0));
                sum[r][1] = _mm256_add_epi32(sum[r][1], _mm256_madd_epi16(x, w1));
            }
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < n_rows; r++) {
        __m256 scale = _mm256_set1_ps(scales[r]);
        best[0] = _mm256_max_ps(best[0], _mm256_mul_ps(_mm256_cvtepi32_ps(sum[r][0]), scale));
        best[1] = _mm256_max_ps(best[1], _mm256_mul_ps(_mm256_cvtepi32_ps(sum[r][1]), scale));
    }
}

AVX2 static void group_int8_avx2(float *best, const maxsim_query *q, int32_t panel,
                                 int32_t n_panels, const maxsim_document *d)
{
    (void)n_panels;
    const int8_t *rows = d->vectors;
    const int16_t *pairs = q->pairs + (size_t)panel * (size_t)q->steps * 4 * MAXSIM_LANES;
    __m256 most[2] = {_mm256_set1_ps(-INFINITY), _mm256_set1_ps(-INFINITY)};
    if (d->n >= 4) {
        for (int32_t r = 0; r < d->n; r += 4) {
            size_t start = (size_t)tile_start(r, d->n, 4);
            tile_int8_avx2(most, pairs, rows + start * (size_t)q->dim, d->scales + start, q->dim,
                           4);
        }
    } else {
        for (int32_t r = 0; r < d->n; r++) {
            tile_int8_avx2(most, pairs, rows + (size_t)r * (size_t)q->dim, d->scales + r, q->dim,
                           1);
        }
    }
    _mm256_storeu_ps(best, most[0]);
    _mm256_storeu_ps(best + 8, most[1]);
}

float maxsim_int8_avx2(const maxsim_query *q, const maxsim_document *d)
{
    return score_int8(q, d, 1, group_int8_avx2);
}

/* ---- AVX-512 -----------------------------------------------------------------------------------
 * A group is two panels, one register each; tiles of 8 rows: 16 sums of the 32 registers. */

AVX512 static ALWAYS_INLINE void tile_f32_avx512(__m512 best[2], const float *panels,
                                                 const float *row, int32_t dim, const int n_rows,
                                                 const int n_panels)
{
    size_t panel = (size_t)dim * MAXSIM_LANES;
    __m512 sum[8][2];
    for (int r = 0; r < n_rows; r++) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
    for (int32_t k = 0; k < dim; k++) {
        __m512 w0 = _mm512_load_ps(panels + (size_t)k * MAXSIM_LANES), w1 = w0;
        if (n_panels > 1) w1 = _mm512_load_ps(panels + panel + (size_t)k * MAXSIM_LANES);
#pragma GCC unroll 8
        for (int r = 0; r < n_rows; r++) {
            __m512 x = _mm512_set1_ps(row[(size_t)r * (size_t)dim + (size_t)k]);
            sum[r][0] = _mm512_add_ps(sum[r][0], _mm512_mul_ps(x, w0));
            if (n_panels > 1) sum[r][1] = _mm512_add_ps(sum[r][1], _mm512_mul_ps(x, w1));
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < n_rows; r++) {
        best[0] = _mm512_max_ps(best[0], sum[r][0]);
        best[1] = _mm512_max_ps(best[1], sum[r][1]);
    }
}

AVX512 static ALWAYS_INLINE void rows_f32_avx512(float *best, const float *panels,
                                                 const float *rows, int32_t n_rows, int32_t dim,
                                                 const int n_panels)
{
    __m512 most[2] = {_mm512_set1_ps(-INFINITY), _mm512_set1_ps(-INFINITY)};
    if (n_rows >= 8) {
        for (int32_t r = 0; r < n_rows; r += 8) {
            const float *row = rows + (size_t)tile_start(r, n_rows, 8) * (size_t)dim;
            tile_f32_avx512(most, panels, row, dim, 8, n_panels);
        }
    } else {
        for (int32_t r = 0; r < n_rows; r++)
            tile_f32_avx512(most, panels, rows + (size_t)r * (size_t)dim, dim, 1, n_panels);
    }
    _mm512_storeu_ps(best, most[0]);
    _mm512_storeu_ps(best + MAXSIM_LANES, most[1]);
}

AVX512 static void group_f32_avx512(float *best, const float *panels, int32_t n_panels,
                                    const float *rows, int32_t n_rows, int32_t dim)
{
    if (n_panels > 1) {
        rows_f32_avx512(best, panels, rows, n_rows, dim, 2);
    } else {
        rows_f32_avx512(best, panels, rows, n_rows, dim, 1);
    }
}

float maxsim_f32_avx512(const maxsim_query *q, const maxsim_document *d)
{
    return score_f32(q, d, 2, group_f32_avx512);
}

/* One quad of k for all rows of a tile; `bytes` of it are there (4 but at a row's end, where the
 * query's codes are zero). */
VNNI static ALWAYS_INLINE void step_int8_vnni(__m512i sum[8][2], const int8_t *w,
                                              size_t panel_bytes, const int8_t *row, size_t dim,
                                              size_t k, const int n_rows, const int n_panels,
                                              const size_t bytes)
{
    const __m512i to_unsigned = _mm512_set1_epi8((char)0x80);
    __m512i w0 = _mm512_load_si512(w + k * MAXSIM_LANES), w1 = w0;
    if (n_panels > 1) w1 = _mm512_load_si512(w + panel_bytes + k * MAXSIM_LANES);
#pragma GCC unroll 8
    for (int r = 0; r < n_rows; r++) {
        int32_t quad = 0;
        memcpy(&quad, row + (size_t)r * dim + k, bytes);
        __m512i x = _mm512_xor_si512(_mm512_set1_epi32(quad), to_unsigned);
        sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], x, w0);
        if (n_panels > 1) sum[r][1] = _mm512_dpbusd_epi32(sum[r][1], x, w1);
    }
}

/* VPDPBUSD multiplies unsigned by signed: the document's codes are read as code + 128, and
 * offsets[] takes the 128 * (sum of the query's codes) away again. */
VNNI static ALWAYS_INLINE void tile_int8_vnni(__m512 best[2], const maxsim_query *q, int32_t panel,
                                              const int8_t *row, const float *scales,
                                              const int n_rows, const int n_panels)
{
    size_t dim = (size_t)q->dim, panel_bytes = (size_t)q->steps * MAXSIM_LANES * 4, k = 0;
    const int8_t *w = q->quads + (size_t)panel * panel_bytes;
    const int32_t *offsets = q->offsets + panel * MAXSIM_LANES;
    __m512i sum[8][2];
    for (int r = 0; r < n_rows; r++) {
        sum[r][0] = sum[r][1] = _mm512_load_si512(offsets);
        if (n_panels > 1) sum[r][1] = _mm512_load_si512(offsets + MAXSIM_LANES);
    }
    for (; k + 4 <= dim; k += 4) {
        step_int8_vnni(sum, w, panel_bytes, row, dim, k, n_rows, n_panels, 4);
    }
    switch (dim - k) {
    case 1: step_int8_vnni(sum, w, panel_bytes, row, dim, k, n_rows, n_panels, 1); break;
    case 2: step_int8_vnni(sum, w, panel_bytes, row, dim, k, n_rows, n_panels, 2); break;
    case 3: step_int8_vnni(sum, w, panel_bytes, row, dim, k, n_rows, n_panels, 3); break;
    default: break;
    }
#pragma GCC unroll 8
    for (int r = 0; r < n_rows; r++) {
        __m512 scale = _mm512_set1_ps(scales[r]);
        best[0] = _mm512_max_ps(best[0], _mm512_mul_ps(_mm512_cvtepi32_ps(sum[r][0]), scale));
        best[1] = _mm512_max_ps(best[1], _mm512_mul_ps(_mm512_cvtepi32_ps(sum[r][1]), scale));
    }
}

VNNI static ALWAYS_INLINE void rows_int8_vnni(float *best, const maxsim_query *q, int32_t panel,
                                              const maxsim_document *d, const int n_panels)
{
    const int8_t *rows = d->vectors;
    __m512 most[2] = {_mm512_set1_ps(-INFINITY), _mm512_set1_ps(-INFINITY)};
    if (d->n >= 8) {
        for (int32_t r = 0; r < d->n; r += 8) {
            size_t start = (size_t)tile_start(r, d->n, 8);
            tile_int8_vnni(most, q, panel, rows + start * (size_t)q->dim, d->scales + start, 8,
                           n_panels);
        }
    } else {
        for (int32_t r = 0; r < d->n; r++) {
            tile_int8_vnni(most, q, panel, rows + (size_t)r * (size_t)q->dim, d->scales + r, 1,
                           n_panels);
        }
    }
    _mm512_storeu_ps(best, most[0]);
    _mm512_storeu_ps(best + MAXSIM_LANES, most[1]);
}

VNNI static void group_int8_vnni(float *best, const maxsim_query *q, int32_t panel,
                                 int32_t n_panels, const maxsim_document *d)
{
    if (n_panels > 1) {
        rows_int8_vnni(best, q, panel, d, 2);
    } else {
        rows_int8_vnni(best, q, panel, d, 1);
    }
}

float maxsim_int8_avx512_vnni(const maxsim_query *q, const maxsim_document *d)
{
    return score_int8(q, d, 2, group_int8_vnni);
}
#endif
