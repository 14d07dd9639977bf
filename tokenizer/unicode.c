/* Decomposition and composition over the generated tables. Hangul is arithmetic (Unicode 3.12). */
#include "tokenizer/unicode.h"

#include "tokenizer/unicode_tables.h"

enum {
    S_BASE = 0xAC00,
    L_BASE = 0x1100,
    V_BASE = 0x1161,
    T_BASE = 0x11A7,
    L_COUNT = 19,
    V_COUNT = 21,
    T_COUNT = 28,
    S_COUNT = L_COUNT * V_COUNT * T_COUNT,
};

static int from_pool(unsigned place, uint32_t *out)
{
    int n = 0;
    const uint16_t *unit = uni_pool + place + 1, *end = unit + uni_pool[place];
    while (unit < end) {
        uint32_t c = *unit++;
        if (c >= 0xD800 && c < 0xDC00) c = 0x10000 + ((c & 0x3FF) << 10) + (*unit++ & 0x3FFu);
        out[n++] = c;
    }
    return n;
}

int uni_nfd(uint32_t c, uint32_t *out)
{
    uint32_t s = c - S_BASE;
    if (s < S_COUNT) {
        out[0] = L_BASE + s / (V_COUNT * T_COUNT);
        out[1] = V_BASE + s % (V_COUNT * T_COUNT) / T_COUNT;
        out[2] = T_BASE + s % T_COUNT;
        return s % T_COUNT != 0 ? 3 : 2;
    }
    unsigned place = c < 0x110000 ? uni_nfd_stage2[uni_nfd_stage1[c >> 7]][c & 127] : 0;
    if (place != 0) return from_pool(place, out);
    out[0] = c;
    return 1;
}

int uni_nfkd(uint32_t c, uint32_t *out)
{
    unsigned place = c < 0x110000 ? uni_nfkd_stage2[uni_nfkd_stage1[c >> 7]][c & 127] : 0;
    return place != 0 ? from_pool(place, out) : uni_nfd(c, out);
}

uint32_t uni_compose(uint32_t first, uint32_t second)
{
    uint32_t l = first - L_BASE, v = second - V_BASE;
    if (l < L_COUNT && v < V_COUNT) return S_BASE + (l * V_COUNT + v) * T_COUNT;
    uint32_t s = first - S_BASE, t = second - T_BASE;
    if (s < S_COUNT && s % T_COUNT == 0 && t - 1 < T_COUNT - 1) return first + t;

    int low = 0, high = uni_n_pairs;
    while (low < high) {
        int middle = (low + high) / 2;
        const uni_pair *p = &uni_pairs[middle];
        if (p->first < first || (p->first == first && p->second < second))
            low = middle + 1;
        else
            high = middle;
    }
    if (low < uni_n_pairs && uni_pairs[low].first == first && uni_pairs[low].second == second)
        return uni_pairs[low].composite;
    return 0;
}
