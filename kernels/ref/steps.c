#include "kernels/ref/steps.h"

#include <math.h>
#include <string.h>

void ref_zero(float *out, int32_t n)
{
    memset(out, 0, (size_t)n * sizeof *out);
}

void ref_copy(float *out, const float *x, int32_t n)
{
    memmove(out, x, (size_t)n * sizeof *out);
}

void ref_add(float *out, const float *x, int32_t n)
{
    for (int32_t j = 0; j < n; j++) out[j] += x[j];
}

void ref_axpy(float *restrict out, float a, const float *restrict x, int32_t n)
{
    for (int32_t j = 0; j < n; j++) out[j] += a * x[j];
}

float ref_dot(const float *a, const float *b, int32_t n)
{
    float sum = 0.0f;
    for (int32_t j = 0; j < n; j++) sum += a[j] * b[j];
    return sum;
}

static float gelu(float x)
{
    return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
}

static float gelu_tanh(float x)
{
    return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
}

static float relu(float x)
{
    return x > 0.0f ? x : 0.0f;
}

static float silu(float x)
{
    return x / (1.0f + expf(-x));
}

void ref_activate(float *x, int32_t n, ops_activation act)
{
    static float (*const functions[OPS_N_ACTIVATIONS])(float) = {
        [OPS_GELU] = gelu,  [OPS_GELU_TANH] = gelu_tanh, [OPS_RELU] = relu,
        [OPS_TANH] = tanhf, [OPS_SILU] = silu,
    };
    if (act == OPS_IDENTITY) return;
    for (int32_t j = 0; j < n; j++) x[j] = functions[act](x[j]);
}

void ref_norm_row(float *out, const float *x, int32_t n, const ops_norm *norm)
{
    if (norm->kind == OPS_NORM_NONE) {
        if (out != x) ref_copy(out, x, n);
        return;
    }
    float mean = 0.0f;
    if (norm->kind == OPS_NORM_LAYER) {
        for (int32_t j = 0; j < n; j++) mean += x[j];
        mean /= (float)n;
    }
    float squares = 0.0f;
    for (int32_t j = 0; j < n; j++) squares += (x[j] - mean) * (x[j] - mean);
    float inverse = 1.0f / sqrtf(squares / (float)n + norm->epsilon);
    for (int32_t j = 0; j < n; j++) {
        float shift = norm->kind == OPS_NORM_LAYER && norm->beta != NULL ? norm->beta[j] : 0.0f;
        out[j] = (x[j] - mean) * inverse * norm->gamma[j] + shift;
    }
}

void ref_softmax(float *x, int32_t n)
{
    float largest = -INFINITY;
    for (int32_t j = 0; j < n; j++) largest = x[j] > largest ? x[j] : largest;
    float sum = 0.0f;
    for (int32_t j = 0; j < n; j++) {
        x[j] = expf(x[j] - largest);
        sum += x[j];
    }
    for (int32_t j = 0; j < n; j++) x[j] /= sum;
}

typedef struct split {
    ref_work work;
    const void *job;
    int32_t n;
} split;

static void split_worker(void *context, int worker, int n_workers)
{
    const split *s = context;
    int32_t begin = (int32_t)((int64_t)s->n * worker / n_workers);
    int32_t end = (int32_t)((int64_t)s->n * (worker + 1) / n_workers);
    if (begin < end) s->work(s->job, worker, begin, end);
}

void ref_split(ops_context *ctx, int32_t n, ref_work work, const void *job)
{
    split s = {work, job, n};
    if (n > 1) {
        team_run(ctx->team, split_worker, &s);
    } else {
        split_worker(&s, 0, 1);
    }
}
