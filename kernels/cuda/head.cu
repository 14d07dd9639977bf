/* logits = out(norm(act(dense(x)))) in one launch: pooler and classifier.
 *
 * Weights and sums are f32. The dense part is spread over the machine; the block that finishes last
 * for a group of 4 rows (a ticket counter says so) runs the rest for them. Tickets are zero before
 * and after.
 * Grid: (ceil(d_dense / 32) or 1 without dense, ceil(rows / 4)), block: 8 warps, a warp 4 dense
 * outputs of 4 rows. Shared: x [4][d_in]. Order: each lane over columns lane, lane + 32, ... then a
 * butterfly. Limit: L2 latency; the dense matrix is read once per 4 rows. */
#include "kernels/cuda/rows.cuh"

namespace crank
{

enum { HEAD_ROWS = 4, HEAD_OUTPUTS = 4, HEAD_WARPS = 8 };

/* In f32 to the last bits: these values decide the score, and there are few of them. */
__device__ __forceinline__ float activate(float x, int activation)
{
    switch (activation) { /* ops_activation */
    case 1: return 0.5f * x * (1.0f + erff(x * 0.70710678118654752440f));
    case 2: return 0.5f * x * (1.0f + tanhf(0.79788456080286535588f * (x + 0.044715f * x * x * x)));
    case 3: return fmaxf(x, 0.0f);
    case 4: return tanhf(x);
    case 5: return x / (1.0f + expf(-x));
    default: return x;
    }
}

template <class T> __device__ __forceinline__ void head_logits(const head_args &a)
{
    extern __shared__ __align__(16) unsigned char head_shared[];
    __shared__ int last;
    float *x = reinterpret_cast<float *>(head_shared);
    begin_after();
    const int rows = count_of(a.n_rows), b0 = blockIdx.y * HEAD_ROWS;
    if (b0 >= rows) return;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int inner = a.dense != nullptr ? a.d_dense : a.d_in;

    for (int i = threadIdx.x; i < HEAD_ROWS * a.d_in; i += HEAD_WARPS * 32) {
        const int r = i / a.d_in, c = i % a.d_in;
        x[i] = b0 + r < rows ? load16<T>(static_cast<const uint16_t *>(a.x) +
                                         static_cast<size_t>(b0 + r) * a.x_ld + c)
                             : 0.0f;
    }
    __syncthreads();

    const int n0 = (blockIdx.x * HEAD_WARPS + warp) * HEAD_OUTPUTS;
    for (int n = n0; n < n0 + HEAD_OUTPUTS && n < inner; n++) {
        if (a.dense == nullptr) break;
        float sum[HEAD_ROWS] = {0.0f, 0.0f, 0.0f, 0.0f};
        const float *w = a.dense + static_cast<size_t>(n) * a.d_in;
        for (int c = lane; c < a.d_in; c += 32) {
            const float v = __ldg(w + c);
#pragma unroll
            for (int r = 0; r < HEAD_ROWS; r++) sum[r] += v * x[r * a.d_in + c];
        }
        const float bias = a.dense_bias != nullptr ? __ldg(a.dense_bias + n) : 0.0f;
#pragma unroll
        for (int r = 0; r < HEAD_ROWS; r++) {
            const float v = activate(warp_sum(sum[r]) + bias, a.activation);
            if (lane == 0 && b0 + r < rows)
                __stcg(a.hidden + static_cast<size_t>(b0 + r) * inner + n, v);
        }
    }

    if (a.dense != nullptr) {
        __threadfence();
        __syncthreads();
        if (threadIdx.x == 0) last = atomicAdd(a.tickets + blockIdx.y, 1u) == gridDim.x - 1;
        __syncthreads();
        if (!last) return;
        __threadfence();
        if (threadIdx.x == 0) a.tickets[blockIdx.y] = 0;
    }

    const int b = b0 + warp;
    if (warp >= HEAD_ROWS || b >= rows) return;
    const float *hidden = a.hidden + static_cast<size_t>(b) * inner;
    auto element = [&](int c) {
        return a.dense != nullptr ? __ldcg(hidden + c)
                                  : activate(x[warp * a.d_in + c], a.activation);
    };
    float mean = 0.0f, scale = 1.0f;
    if (a.norm.kind != NORM_NONE) {
        float sum = 0.0f;
        if (a.norm.kind == NORM_LAYER) {
            for (int c = lane; c < inner; c += 32) sum += element(c);
            mean = warp_sum(sum) / static_cast<float>(inner);
        }
        sum = 0.0f;
        for (int c = lane; c < inner; c += 32) {
            const float d = element(c) - mean;
            sum += d * d;
        }
        scale = 1.0f / sqrtf(warp_sum(sum) / static_cast<float>(inner) + a.norm.epsilon);
    }
    for (int l = 0; l < a.labels; l++) {
        const float *w = a.out + static_cast<size_t>(l) * inner;
        float sum = 0.0f;
        for (int c = lane; c < inner; c += 32) {
            float v = element(c);
            if (a.norm.kind != NORM_NONE) {
                v = (v - mean) * scale * __ldg(a.norm.gamma + c);
                if (a.norm.beta != nullptr) v += __ldg(a.norm.beta + c);
            }
            sum += v * __ldg(w + c);
        }
        sum = warp_sum(sum);
        if (lane == 0)
            a.logits[static_cast<size_t>(b) * a.labels + l] =
                sum + (a.out_bias != nullptr ? __ldg(a.out_bias + l) : 0.0f);
    }
}

} // namespace crank

extern "C" __global__ void __launch_bounds__(256)
    head_logits_f16(const __grid_constant__ head_args a)
{
    crank::head_logits<crank::f16>(a);
}

extern "C" __global__ void __launch_bounds__(256)
    head_logits_bf16(const __grid_constant__ head_args a)
{
    crank::head_logits<crank::bf16>(a);
}
