/* What only AVX-512 has instructions for: gathers and the transpose of 16 rows, lane by lane.
 * Included at the end of a v16_*.h, which defines v16 and v_load. */

/* Lane l: base[l * stride + index[-l]] for l < n, else 0. */
static inline v16 v_gather_back_rows(const float *base, int32_t stride, const int32_t *index,
                                     int32_t n)
{
    float lanes[16] = {0};
    for (int32_t l = 0; l < n; l++) lanes[l] = base[(int64_t)l * stride + index[-l]];
    return v_load(lanes);
}

static inline v16 v_gather_back(const float *base, const int32_t *index, int32_t n)
{
    return v_gather_back_rows(base, 0, index, n);
}

/* out [n_cols, 16] words of in [n_rows <= 16, n_cols], rows `stride` bytes apart; missing rows are
 * zeros. */
static inline void v_transpose(void *out, const void *in, size_t stride, int32_t n_rows,
                               int32_t n_cols)
{
    uint32_t *to = out;
    for (int32_t c = 0; c < n_cols; c++) {
        for (int32_t r = 0; r < 16; r++) {
            uint32_t x = 0;
            if (r < n_rows) {
                memcpy(&x, (const char *)in + (size_t)r * stride + (size_t)c * 4, sizeof x);
            }
            to[c * 16 + r] = x;
        }
    }
}
