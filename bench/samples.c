#include "bench/samples.h"

uint64_t samples_random(uint64_t *state)
{
    uint64_t x = *state += 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

size_t samples_words(char *to, size_t n, uint64_t *state)
{
    char *at = to;
    for (size_t i = 0; i < n; i++) {
        uint64_t word = samples_random(state) % 30000;
        if (i > 0) *at++ = ' ';
        *at++ = 'w';
        for (int k = 0; k < 4; k++, word /= 26) *at++ = (char)('a' + word % 26);
    }
    return (size_t)(at - to);
}

int samples_by_time(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

int samples_by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
