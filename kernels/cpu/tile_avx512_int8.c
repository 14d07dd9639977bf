/* int8 on AVX-512 without VNNI: weights widen to 16 bits on the way in, activations are kept so
 * (CPU_INT8_S16), and VPMADDWD adds pairs of exact products. A panel's 16 outputs are two registers
 * of [8 outputs][2 halves of a step]; the halves meet at the end. Tile 12x16. */
#if defined(__AVX512BW__)
#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/tiles.h"

#define TILE_ROWS 12

static inline __attribute__((always_inline)) void tile_block(const cpu_tile *t, int32_t row,
                                                             int32_t panel, const int n_rows)
{
    const char *a = (const char *)t->a + (size_t)row * t->a_stride;
    const char *w = (const char *)t->w + (size_t)panel * t->w_panel;
    __m512i acc[TILE_ROWS][2];
#pragma GCC unroll 12
    for (int r = 0; r < n_rows; r++) acc[r][0] = acc[r][1] = _mm512_setzero_si512();
    for (int32_t s = 0; s < t->steps; s++, w += t->w_step, a += 8) {
        __m512i low = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)w));
        __m512i high = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(w + 32)));
#pragma GCC unroll 12
        for (int r = 0; r < n_rows; r++) {
            int64_t four;
            memcpy(&four, a + (size_t)r * t->a_stride, sizeof four);
            __m512i x = _mm512_set1_epi64(four);
            acc[r][0] = _mm512_add_epi32(acc[r][0], _mm512_madd_epi16(low, x));
            acc[r][1] = _mm512_add_epi32(acc[r][1], _mm512_madd_epi16(high, x));
        }
    }
    const __m512i evens =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odds = _mm512_add_epi32(evens, _mm512_set1_epi32(1));
    __m512 scale = _mm512_loadu_ps(t->w_scale + 16 * panel);
    __m512 bias = _mm512_loadu_ps(t->bias + 16 * panel);
#pragma GCC unroll 12
    for (int r = 0; r < n_rows; r++) {
        __m512i sum = _mm512_add_epi32(_mm512_permutex2var_epi32(acc[r][0], evens, acc[r][1]),
                                       _mm512_permutex2var_epi32(acc[r][0], odds, acc[r][1]));
        __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale);
        y = _mm512_fmadd_ps(y, _mm512_set1_ps(t->a_scale[row + r]), bias);
        _mm512_storeu_ps(t->c + (size_t)(row + r) * t->ldc + 16 * (size_t)panel, y);
    }
}

void cpu_tile_int8_avx512(const cpu_tile *t)
{
    for (int32_t p = 0; p < t->panels; p++) {
        int32_t row = 0;
        for (; row + TILE_ROWS <= t->rows; row += TILE_ROWS) tile_block(t, row, p, TILE_ROWS);
        for (; row + 4 <= t->rows; row += 4) tile_block(t, row, p, 4);
        for (; row < t->rows; row++) tile_block(t, row, p, 1);
    }
}
#else
typedef int cpu_not_this_machine;
#endif
