#include "kernels/ref/maxsim.h"

#include <math.h>

#include "kernels/ref/steps.h"

float ref_maxsim_f32(const maxsim_query *q, const maxsim_document *d)
{
    const float *vectors = d->vectors;
    float score = 0.0f;
    for (int32_t i = 0; i < q->n; i++) {
        float largest = d->n > 0 ? -INFINITY : MAXSIM_EMPTY;
        for (int32_t j = 0; j < d->n; j++) {
            float dot = ref_dot(q->rows + (size_t)i * (size_t)q->dim,
                                vectors + (size_t)j * (size_t)q->dim, q->dim);
            if (dot > largest) largest = dot;
        }
        score += largest;
    }
    return score;
}

float ref_maxsim_int8(const maxsim_query *q, const maxsim_document *d)
{
    const int8_t *vectors = d->vectors;
    float score = 0.0f;
    for (int32_t i = 0; i < q->n; i++) {
        const int8_t *a = q->codes + (size_t)i * (size_t)q->dim;
        float largest = -INFINITY;
        for (int32_t j = 0; j < d->n; j++) {
            const int8_t *b = vectors + (size_t)j * (size_t)q->dim;
            int32_t sum = 0;
            for (int32_t k = 0; k < q->dim; k++) sum += a[k] * b[k];
            float dot = (float)sum * d->scales[j];
            if (dot > largest) largest = dot;
        }
        score += d->n > 0 ? largest * q->scales[i] : MAXSIM_EMPTY;
    }
    return score;
}
