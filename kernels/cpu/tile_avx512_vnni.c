/* int8 on AVX-512 VNNI: VPDPBUSD takes activations as u8 and weights as s8; the sum starts at
 * minus the activations' zero point times the weights' sum, so that it ends exact. */
#if defined(__AVX512VNNI__)
#include "kernels/cpu/tiles.h"

#include <immintrin.h>
#include <string.h>

/* As _mm512_dpbusd_epi32, for which gcc 12 copies the accumulator twice at every step (44 % of the
 * peak instead of 97 %). */
static inline __attribute__((always_inline)) __m512i dot(__m512i acc, __m512i w, __m512i a)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(w));
    return acc;
}

/* -zero * (low + 128 high), exact: |-128 zero| and |high| fit 16 bits. */
#define TILE_START(t, r, p)                                                                        \
    _mm512_madd_epi16(_mm512_loadu_si512((t)->w_sums + 32 * (p)), _mm512_set1_epi32((t)->a_zero[r]))
#define TILE_NAME cpu_tile_int8_avx512_vnni
#define TILE_ACC __m512i
#define TILE_DOT(acc, w, a) dot(acc, w, a)
#define TILE_FINISH(t, row, panel, n_panels)                                                       \
    const float *a_scale = (t)->a_scale + (row);                                                   \
    __m512 scale[TILE_PANELS], bias[TILE_PANELS];                                                  \
    _Pragma("GCC unroll 3") for (int p = 0; p < (n_panels); p++)                                   \
    {                                                                                              \
        scale[p] = _mm512_loadu_ps((t)->w_scale + 16 * ((panel) + p));                             \
        bias[p] = _mm512_loadu_ps((t)->bias + 16 * ((panel) + p));                                 \
    }
#define TILE_FINISH_ROW(r) const __m512 row_scale = _mm512_set1_ps(a_scale[r]);
#define TILE_RESULT(p, acc)                                                                        \
    _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(acc), scale[p]), row_scale, bias[p])

#include "kernels/cpu/tile_avx512_body.h"
#else
typedef int cpu_not_this_machine;
#endif
