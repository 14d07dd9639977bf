/* The inner product of the emulated cuBLASLt: 16 partial sums over k, added pairwise at the end, so
 * the bits depend neither on the host's instruction set nor on the matrix around the row. */
#include "kernels/emu/exec_dot.h"
#include "kernels/emu/exec_lanes.h"

#define PARTS 16

static inline float sum_parts(float *part)
{
    for (int step = PARTS / 2; step > 0; step /= 2)
        for (int i = 0; i < step; i++) part[i] += part[i + step];
    return part[0];
}

/* out[j] = a . b[j] for 4 rows of b; n is a multiple of PARTS. */
static void dot_rows(float *out, const float *a, const float *b, size_t stride, size_t n)
{
    float p0[PARTS] = {0}, p1[PARTS] = {0}, p2[PARTS] = {0}, p3[PARTS] = {0};
    for (size_t k = 0; k < n; k += PARTS)
        for (int i = 0; i < PARTS; i++) {
            p0[i] += a[k + (size_t)i] * b[k + (size_t)i];
            p1[i] += a[k + (size_t)i] * b[stride + k + (size_t)i];
            p2[i] += a[k + (size_t)i] * b[2 * stride + k + (size_t)i];
            p3[i] += a[k + (size_t)i] * b[3 * stride + k + (size_t)i];
        }
    out[0] = sum_parts(p0);
    out[1] = sum_parts(p1);
    out[2] = sum_parts(p2);
    out[3] = sum_parts(p3);
}

extern const dot_function EMU_ISA_NAME(emu_dot);
const dot_function EMU_ISA_NAME(emu_dot) = dot_rows;
