/* MaxSim, ColBERT's late interaction (Khattab and Zaharia 2020, eq. 3):
 *
 *     score(Q, D) = sum over query vectors q of  max over document vectors d of  q . d
 *
 * It runs on the host, after ops_vectors gave the vectors (each of length 1), or after they were
 * read from a file of document embeddings. Not an op of a forward pass: nothing of it is packed in
 * batches or kept on a device.
 *
 * Which vectors take part is the caller's affair: query expansion means that [MASK] tokens stand
 * among the query's vectors, and a document's skipped tokens (punctuation) are left out
 * (maxsim_compact). Checkpoints with similarity "l2" (sum of max of -|q - d|^2, on vectors of
 * length 1) need nothing else either: that score is 2 * (score - number of query vectors).
 *
 * Data structures:
 *   maxsim_query     a query's vectors, packed once for all documents, lanes = query vectors.
 *   maxsim_document  where a document's vectors lie: row-major, as they were made or read; nothing
 *                    is copied or packed per document.
 *   maxsim_kernel    one implementation per instruction set, a row of maxsim_kernels.
 *
 * Numbers, the same bits from every kernel:
 *   f32   q . d starts at +0 and takes k in ascending order, products rounded before they are added
 *         (no FMA: machines without one give the same bits).
 *   int8  codes symmetric per vector on both sides; the sum over k is exact in int32 (dim at most
 *         MAXSIM_MAX_DIM), then float(sum) * document scale; the maximum times the query scale.
 *   Both  the maxima are added to +0 in the order of the query vectors. A document without vectors
 *         has MAXSIM_EMPTY for each maximum (what ColBERT's and PyLate's padding has). */
#ifndef CRANK_KERNELS_MAXSIM_H
#define CRANK_KERNELS_MAXSIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "team.h"

#define MAXSIM_LANES 16
#define MAXSIM_MAX_DIM 65536 /* 128 * 127 * dim stays below 2^31 */
#define MAXSIM_EMPTY (-9999.0f)

typedef struct maxsim_query {
    int32_t n, dim;
    int32_t n_panels;       /* ceil(n / 16): lane l of panel p is vector 16p + l, zeros past n */
    int32_t steps;          /* ceil(dim / 4), zeros past dim */
    const float *rows;      /* [n, dim] */
    const int8_t *codes;    /* [n, dim] */
    const float *scales;    /* [16 n_panels]: row = code * scale */
    const float *panels;    /* [n_panels][dim][16] f32 */
    const int8_t *quads;    /* [n_panels][steps][16][4] codes, four of k together */
    const int16_t *pairs;   /* [n_panels][2 steps][16][2] codes widened, two of k together */
    const int32_t *offsets; /* [16 n_panels] -128 * (sum of the vector's codes) */
} maxsim_query;

typedef struct maxsim_document {
    const void *vectors; /* [n, dim] f32 or int8, any alignment of their type */
    const float *scales; /* [n] for int8, ignored for f32 */
    int32_t n;
} maxsim_document;

typedef enum maxsim_type { MAXSIM_F32, MAXSIM_INT8, MAXSIM_N_TYPES } maxsim_type;

typedef float (*maxsim_fn)(const maxsim_query *q, const maxsim_document *d);

typedef struct maxsim_kernel {
    const char *isa; /* "avx512-vnni", ..., "portable", "ref" */
    bool (*available)(void);
    maxsim_fn score[MAXSIM_N_TYPES];
} maxsim_kernel;

/* Best first; "portable" and then "ref" (the specification, kernels/ref/maxsim.c) end it and are
 * always available. */
extern const maxsim_kernel maxsim_kernels[];
extern const size_t maxsim_n_kernels;

/* The kernel of this name, or for NULL the first that this CPU can run. NULL: no such name, or not
 * available here. */
const maxsim_kernel *maxsim_kernel_for(const char *isa);
/* The kernel that goes with an instruction set of kernels/cpu/levels.c: its own, or the best that
 * needs no more than it has. NULL: the first that this CPU can run. Never NULL. */
const maxsim_kernel *maxsim_kernel_for_level(const char *level);

/* Bytes that maxsim_query_pack needs for n vectors of `dim`; 0 when n < 0 or dim is outside
 * 1..MAXSIM_MAX_DIM or the size overflows. */
size_t maxsim_query_bytes(int32_t n, int32_t dim);
/* Packs vectors [n, dim] (finite; not needed afterwards) into memory, 64-byte aligned, that must
 * live as long as q. */
void maxsim_query_pack(maxsim_query *q, void *memory, const float *vectors, int32_t n, int32_t dim);

/* codes[i, j] = round to nearest even(x[i, j] / scales[i]), scales[i] = max |x[i, :]| / 127; zeros
 * for a vector of zeros. vectors: [n, dim], finite. */
void maxsim_quantize(int8_t *codes, float *scales, const float *vectors, int32_t n, int32_t dim);

/* Moves the vectors with keep[i] != 0 to the front, in order; returns how many. */
int32_t maxsim_compact(float *vectors, const uint8_t *keep, int32_t n, int32_t dim);

/* scores[i] = score(q, documents[i]), i < n_documents; all documents of the one type. Documents are
 * split over the team (NULL: the calling thread) by their number of vectors. */
void maxsim_scores(const maxsim_kernel *kernel, float *scores, const maxsim_query *q,
                   const maxsim_document *documents, int32_t n_documents, maxsim_type type,
                   team *workers);

#endif
