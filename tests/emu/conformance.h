/* gpu-conformance: what its files share. conformance.c is the program; the others hold the table,
 * by kind: conformance_matrix.c (mma, ldmatrix, cp.async), conformance_warp.c (shuffles, votes,
 * barriers), conformance_word.c (arithmetic, a word at a time). */
#ifndef CRANK_TESTS_EMU_CONFORMANCE_H
#define CRANK_TESTS_EMU_CONFORMANCE_H

#include "tests/emu/gpu.h"

#define COUNT 4096
#define MAX_IN (3 * COUNT)
#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* One launch of one primitive: what it reads and what must come out. */
typedef struct run {
    uint32_t in[MAX_IN];
    uint32_t out[COUNT], expected[COUNT];
    uint32_t n_in, n_out, n_threads;
} run;

/* How far a result may be from the expected one. */
typedef enum tolerance {
    EXACT,
    EXACT_OR_NAN, /* any NaN for a NaN */
    ULP_2,        /* ex2.approx: 2 ulp; rcp.approx 1; rsqrt 2^-22.9 */
    ULP_2_FLUSH,  /* the same, subnormal results may be 0 */
    LG2,          /* 2^-22 absolute near 1 */
    TANH          /* 2^-10.987 relative */
} tolerance;

typedef struct conformance {
    gpu g;
    gpu_handle module;
    gpu_address in, out;
    run *run;
    int n_primitives, n_runs, n_failed;
    char **only;
    int n_only;
} conformance;

/* Whether this primitive was asked for; counts it when it was. */
int conformance_begins(conformance *c, const char *name);
/* Runs the kernel of this name on c->run; 0 when the result is not the expected one, which is then
 * printed and counted. */
int conformance_run(conformance *c, const char *name, tolerance t);

void conformance_matrices(conformance *c);
void conformance_warps(conformance *c);
void conformance_words(conformance *c);

/* Names the mma forms that an emulator accepts and the table has not; returns their number. 0 on a
 * GPU, which has no such list. */
int conformance_missing_products(const conformance *c);

/* ---- numbers ----------------------------------------------------------------------------------
 */

uint32_t conformance_random(void);

static inline float as_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
static inline uint32_t as_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

/* 16-bit floats, the slow and obvious way. mode: 0 nearest even, 1 towards zero. Works on the exact
 * (long double) value. */
uint32_t small_round(long double value, int exponent_bits, int fraction_bits, int mode);
double f16_value(uint32_t bits);
double bf16_value(uint32_t bits);
uint32_t f16_round(long double value);
uint32_t bf16_round(long double value);

#endif
