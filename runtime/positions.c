#include "runtime/positions.h"

#include <math.h>
#include <stdlib.h>

int32_t positions_t5_bucket(int32_t relative, bool bidirectional, int32_t n_buckets,
                            int32_t max_distance)
{
    int32_t bucket = 0, distance;
    if (bidirectional) {
        n_buckets /= 2;
        if (relative > 0) bucket = n_buckets;
        distance = abs(relative);
    } else {
        distance = relative < 0 ? -relative : 0;
    }
    int32_t exact = n_buckets / 2;
    if (distance < exact) return bucket + distance;
    float scale = (float)log((double)max_distance / (double)exact);
    float steps = logf((float)distance / (float)exact) / scale * (float)(n_buckets - exact);
    int32_t large = exact + (int32_t)steps;
    return bucket + (large < n_buckets - 1 ? large : n_buckets - 1);
}

int32_t positions_deberta_bucket(int32_t relative, int32_t n_buckets, int32_t max_position)
{
    int32_t middle = n_buckets / 2, distance = abs(relative);
    if (distance <= middle) return relative;
    float scale = logf((float)((double)(max_position - 1) / (double)middle));
    float steps = ceilf(logf((float)distance / (float)middle) / scale * (float)(middle - 1));
    int32_t bucket = (int32_t)steps + middle;
    return relative < 0 ? -bucket : bucket;
}

void positions_rope(float *values, bool sine, int32_t n_positions, int32_t width, double theta,
                    double divisor)
{
    int32_t half = width / 2;
    for (int32_t j = 0; j < half; j++) {
        float inverse = 1.0f / powf((float)theta, (float)(2 * j) / (float)width);
        if (divisor != 1.0) inverse /= (float)divisor;
        for (int32_t p = 0; p < n_positions; p++) {
            float angle = (float)p * inverse;
            values[(size_t)p * (size_t)half + (size_t)j] = sine ? sinf(angle) : cosf(angle);
        }
    }
}
