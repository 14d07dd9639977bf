/* Activations of sums that are about to be rounded to 16 bits, in the epilogue of the own GEMM and
 * behind one of cuBLASLt; the accurate ones are in head.cu. */
#ifndef CRANK_CUDA_ACTIVATIONS_CUH
#define CRANK_CUDA_ACTIVATIONS_CUH

#include "kernels/cuda/ptx.cuh"

namespace crank
{

/* GELU is x Phi(x), Phi the normal distribution (erf form, as the models define it). Phi(x) =
 * 1 / (1 + 2^(-x p(x^2))) with p a polynomial fitted to its log-odds / x on |x| <= 5.5 (weighted
 * least squares, reweighted towards the minimax): the result is within 2.2e-6 of the exact one for
 * |x| <= 5.5 and 2e-8 |x| beyond, a thirtieth of an f16 rounding step. erff would cost twice as
 * much, which shows at K = 384, where a tile's mathematics is short. Two elements share a
 * reciprocal. */
__device__ __forceinline__ float2 logistic2(float a, float b)
{
    /* 1 / (1 + 2^-a), the same of b; |a|, |b| <= 60 keeps the product finite. */
    const float p = 1.0f + exp2_fast(-a), q = 1.0f + exp2_fast(-b);
    const float inverse = reciprocal_fast(p * q);
    return make_float2(inverse * q, inverse * p);
}

__device__ __forceinline__ float gelu_log2_odds(float x)
{
    const float c = fminf(fmaxf(x, -5.5f), 5.5f), u = c * c;
    float p = 3.8520538e-09f;
    p = fmaf(p, u, -3.093804e-07f);
    p = fmaf(p, u, 9.8819673e-06f);
    p = fmaf(p, u, -1.4415226e-04f);
    p = fmaf(p, u, -1.6619961e-04f);
    p = fmaf(p, u, 1.049787e-01f);
    p = fmaf(p, u, 2.3021243f);
    return c * p;
}

__device__ __forceinline__ float2 gelu(float2 x)
{
    const float2 phi = logistic2(gelu_log2_odds(x.x), gelu_log2_odds(x.y));
    return make_float2(x.x * phi.x, x.y * phi.y);
}

__device__ __forceinline__ float clamp60(float x)
{
    return fminf(fmaxf(x, -60.0f), 60.0f);
}

/* 0.5 x (1 + tanh t) = x / (1 + e^-2t), t = sqrt(2/pi) (x + 0.044715 x^3); in powers of 2. */
__device__ __forceinline__ float gelu_tanh_log2_odds(float x)
{
    return clamp60(2.3022082f * x * fmaf(0.044715f * x, x, 1.0f));
}

/* Two elements, so that the choice is made once. */
__device__ __forceinline__ float2 activate(float2 x, int activation)
{
    float2 gate;
    switch (activation) { /* ops_activation */
    case 1: return gelu(x);
    case 2: gate = logistic2(gelu_tanh_log2_odds(x.x), gelu_tanh_log2_odds(x.y)); break;
    case 3: return make_float2(fmaxf(x.x, 0.0f), fmaxf(x.y, 0.0f));
    case 4: return make_float2(tanhf(x.x), tanhf(x.y));
    case 5: gate = logistic2(clamp60(1.4426950f * x.x), clamp60(1.4426950f * x.y)); break;
    default: return x;
    }
    return make_float2(x.x * gate.x, x.y * gate.y);
}

} // namespace crank

#endif
