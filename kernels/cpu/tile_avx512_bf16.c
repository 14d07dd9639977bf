/* bf16 on AVX-512 BF16: VDPBF16PS adds the odd product, then the even one, each rounded to f32. */
#if defined(__AVX512BF16__)
#include "kernels/cpu/tiles.h"

#include <immintrin.h>
#include <string.h>

#define TILE_NAME cpu_tile_bf16_avx512_bf16
#define TILE_ACC __m512
#define TILE_START(t, r, p)                                                                        \
    ((t)->bias != NULL ? _mm512_loadu_ps((t)->bias + 16 * (p)) : _mm512_setzero_ps())
#define TILE_DOT(acc, w, a) _mm512_dpbf16_ps(acc, (__m512bh)(w), (__m512bh)(a))
#define TILE_FINISH(t, row, panel, n_panels)
#define TILE_FINISH_ROW(r)
#define TILE_RESULT(p, acc) acc

#include "kernels/cpu/tile_avx512_body.h"
#else
typedef int cpu_not_this_machine;
#endif
