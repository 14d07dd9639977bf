/* The AVX-512 matrix tiles, 9 rows x 48 outputs at a time: 27 accumulators, 3 registers of weights
 * and one broadcast of an activation fill the 32 registers, and 27 independent sums hide the
 * latency of the dot product. A step is 4 bytes of k whatever the dtype, so the loop is the same
 * for f32, bf16 and int8; the including file defines
 *     TILE_NAME          the function
 *     TILE_ACC           __m512 or __m512i
 *     TILE_START(t, r, p)  the accumulator of row r, panel p before the first step
 *     TILE_DOT(acc, w, a)  one step: acc + dot(w, a) in every lane
 *     TILE_FINISH(t, row, panel, n_panels)  declares what the results need
 *     TILE_FINISH_ROW(r)                    and what those of a row need
 *     TILE_RESULT(p, acc)                   the f32 result
 *     TILE_ROWS          7 where a step needs more registers than one broadcast; else 9
 * Order of a sum: steps ascending, one accumulator; the same for every tile shape. */
#include "kernels/cpu/cpu.h"

#ifndef TILE_ROWS
#define TILE_ROWS 9
#endif
#define TILE_PANELS 3

static inline __attribute__((always_inline)) void
tile_block(const cpu_tile *t, int32_t row, int32_t panel, const int n_rows, const int n_panels)
{
    const char *a[3]; /* rows 0, 3 and 6; the others are one or two strides on */
    const size_t stride = t->a_stride;
    a[0] = (const char *)t->a + (size_t)row * stride;
    a[1] = a[0] + 3 * stride;
    a[2] = a[1] + 3 * stride;
    const char *w[TILE_PANELS];
    w[0] = (const char *)t->w + (size_t)panel * t->w_panel;
    w[1] = w[0] + t->w_panel;
    w[2] = w[1] + t->w_panel;
    TILE_ACC acc[TILE_ROWS][TILE_PANELS];
#pragma GCC unroll 9
    for (int r = 0; r < n_rows; r++) {
#pragma GCC unroll 3
        for (int p = 0; p < n_panels; p++) acc[r][p] = TILE_START(t, row + r, panel + p);
    }
    for (int32_t s = 0; s < t->steps; s++) {
        __m512i b[TILE_PANELS];
#pragma GCC unroll 3
        for (int p = 0; p < n_panels; p++) {
            b[p] = _mm512_loadu_si512(w[p]);
            w[p] += t->w_step;
        }
#pragma GCC unroll 9
        for (int r = 0; r < n_rows; r++) {
            int32_t bits;
            memcpy(&bits, a[r / 3] + (size_t)(r % 3) * stride + 4 * (size_t)s, sizeof bits);
            __m512i x = _mm512_set1_epi32(bits);
#pragma GCC unroll 3
            for (int p = 0; p < n_panels; p++) acc[r][p] = TILE_DOT(acc[r][p], b[p], x);
        }
    }
    /* Copies of t's fields: stores to c might change them for all the compiler knows, and would
     * make it read them again for each of 27 registers (5 % of an int8 tile of K 384). */
    float *c = t->c + (size_t)row * t->ldc + 16 * (size_t)panel;
    const size_t ldc = t->ldc;
    TILE_FINISH(t, row, panel, n_panels)
#pragma GCC unroll 9
    for (int r = 0; r < n_rows; r++) {
        TILE_FINISH_ROW(r)
#pragma GCC unroll 3
        for (int p = 0; p < n_panels; p++) {
            _mm512_storeu_ps(c + (size_t)r * ldc + 16 * p, TILE_RESULT(p, acc[r][p]));
        }
    }
}

static void tile_rows(const cpu_tile *t, int32_t row, int32_t panel, int n_rows, int n_panels)
{
    switch (n_rows * 4 + n_panels) {
#define CASE(rows)                                                                                 \
    case (rows)*4 + 1: tile_block(t, row, panel, rows, 1); break;                                  \
    case (rows)*4 + 2: tile_block(t, row, panel, rows, 2); break;                                  \
    case (rows)*4 + 3: tile_block(t, row, panel, rows, 3); break;
        CASE(1)
        CASE(2)
        CASE(3)
        CASE(4)
        CASE(5)
        CASE(6)
        CASE(7)
#if TILE_ROWS > 7
        CASE(8)
        CASE(9)
#endif
#undef CASE
    default: break;
    }
}

/* Rows are dealt evenly (128 = 8 tiles of 9 and 7 of 8), so that no tile is too thin to keep the
 * multipliers busy; likewise 4 panels are 2 + 2. */
void TILE_NAME(const cpu_tile *t)
{
    int32_t n_tiles = (t->rows + TILE_ROWS - 1) / TILE_ROWS;
    for (int32_t p = 0; p < t->panels;) {
        int32_t left = t->panels - p;
        int n_panels = left == 4 || left == 2 ? 2 : left >= 3 ? 3 : 1;
        for (int32_t i = 0; i < n_tiles; i++) {
            int32_t row = t->rows * i / n_tiles, end = t->rows * (i + 1) / n_tiles;
            tile_rows(t, row, p, end - row, n_panels);
        }
        p += n_panels;
    }
}
