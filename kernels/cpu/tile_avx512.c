/* f32 on AVX-512: one FMA per step. */
#if defined(__AVX512F__)
#include "kernels/cpu/tiles.h"

#include <immintrin.h>
#include <string.h>

#define TILE_NAME cpu_tile_f32_avx512
#define TILE_ACC __m512
#define TILE_START(t, r, p)                                                                        \
    ((t)->bias != NULL ? _mm512_loadu_ps((t)->bias + 16 * (p)) : _mm512_setzero_ps())
#define TILE_DOT(acc, w, a) _mm512_fmadd_ps(_mm512_castsi512_ps(w), _mm512_castsi512_ps(a), acc)
#define TILE_FINISH(t, row, panel, n_panels)
#define TILE_FINISH_ROW(r)
#define TILE_RESULT(p, acc) acc

#include "kernels/cpu/tile_avx512_body.h"
#else
typedef int cpu_not_this_machine;
#endif
