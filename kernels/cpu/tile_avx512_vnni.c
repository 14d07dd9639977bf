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

static inline __attribute__((always_inline)) void store(const cpu_tile *t, int32_t r, int32_t p,
                                                        __m512i acc)
{
    __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), _mm512_loadu_ps(t->w_scale + 16 * p));
    y = _mm512_fmadd_ps(y, _mm512_set1_ps(t->a_scale[r]), _mm512_loadu_ps(t->bias + 16 * p));
    _mm512_storeu_ps(t->c + (size_t)r * t->ldc + 16 * (size_t)p, y);
}

#define TILE_NAME cpu_tile_int8_avx512_vnni
#define TILE_ACC __m512i
#define TILE_START(t, r, p)                                                                        \
    _mm512_mullo_epi32(_mm512_set1_epi32(-(t)->a_zero[r]),                                         \
                       _mm512_loadu_si512((t)->w_sums + 16 * (p)))
#define TILE_DOT(acc, w, a) dot(acc, w, a)
#define TILE_STORE(t, r, p, acc) store(t, r, p, acc)

#include "kernels/cpu/tile_avx512_body.h"
#else
typedef int cpu_not_this_machine;
#endif
