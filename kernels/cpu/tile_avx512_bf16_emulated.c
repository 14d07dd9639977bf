/* bf16 on AVX-512 without its BF16 extension: the pair's odd product, then the even one, as FMAs.
 * Products of bf16 are exact in f32, so these are VDPBF16PS's bits. */
#if defined(__AVX512F__)
#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/tiles.h"

static inline __attribute__((always_inline)) __m512 odd(__m512i pairs)
{
    return _mm512_castsi512_ps(_mm512_and_epi32(pairs, _mm512_set1_epi32((int)0xffff0000u)));
}

static inline __attribute__((always_inline)) __m512 even(__m512i pairs)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
}

#define TILE_NAME cpu_tile_bf16_avx512
#define TILE_ROWS 7
#define TILE_ACC __m512
#define TILE_START(t, r, p)                                                                        \
    ((t)->bias != NULL ? _mm512_loadu_ps((t)->bias + 16 * (p)) : _mm512_setzero_ps())
#define TILE_DOT(acc, w, a) _mm512_fmadd_ps(even(w), even(a), _mm512_fmadd_ps(odd(w), odd(a), acc))
#define TILE_FINISH(t, row, panel, n_panels)
#define TILE_FINISH_ROW(r)
#define TILE_RESULT(p, acc) acc

#include "kernels/cpu/tile_avx512_body.h"
#else
typedef int cpu_not_this_machine;
#endif
