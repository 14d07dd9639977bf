#include "kernels/cuda/variants.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "kernels/cuda/catalog.h"

#define TILE_SIZES(bm, bn, wm, wn, stages)                                                         \
    THREADS_##bm##x##bn = (wm) * (wn)*32, SHARED_##bm##x##bn = (stages) * ((bm) + (bn)) * 128,
enum { GEMM_TILES(TILE_SIZES) };

#define ROW_EMBED(width, type, id)                                                                 \
    {"embed_norm_warp_per_row_" #type "_" #width, KERNEL_EMBED, id, .limit = width},
#define ROW_NORM(width, type, id)                                                                  \
    {"norm_warp_per_row_" #type "_" #width, KERNEL_NORM, id, .limit = width},
#define ROW_ATTENTION(width, type, id)                                                             \
    {"attention_mma_" #type "_" #width, KERNEL_ATTENTION, id, .limit = width},                     \
        {"attention_mma_" #type "_" #width "_general", KERNEL_ATTENTION_GENERAL, id,               \
         .limit = width},
#define ROW_RELATIVE(width, type, id)                                                              \
    {"relative_terms_" #type "_" #width, KERNEL_RELATIVE_TERMS, id, .limit = width},
#define KIND_bias KERNEL_GEMM_BIAS
#define KIND_gelu KERNEL_GEMM_GELU
#define KIND_act KERNEL_GEMM_ACT
#define KIND_gated KERNEL_GEMM_GATED
#define KIND_residual KERNEL_GEMM_RESIDUAL
#define KIND_norm KERNEL_GEMM_NORM
#define ROW_GEMM(bm, bn, name, type, id)                                                           \
    {"gemm_" #type "_" #bm "x" #bn "_" #name,                                                      \
     KIND_##name,                                                                                  \
     id,                                                                                           \
     .tile_m = bm,                                                                                 \
     .tile_n = bn,                                                                                 \
     .threads = THREADS_##bm##x##bn,                                                               \
     .shared_bytes = SHARED_##bm##x##bn},
#define ROW_PLAIN(name, kind_id, id, most) {name, kind_id, id, .limit = most},
#define ROWS_VALUE(type, id)                                                                       \
    ROW_WIDTHS(ROW_EMBED, type, id)                                                                \
    ROW_EMBED(0, type, id)                                                                         \
    ROW_WIDTHS(ROW_NORM, type, id)                                                                 \
    ROW_NORM(0, type, id)                                                                          \
    ROW_PLAIN("quantise_warp_per_row_" #type, KERNEL_QUANTISE, id, 0)                              \
    ROW_PLAIN("bias_act_" #type, KERNEL_BIAS_ACT, id, 0)                                           \
    ROW_PLAIN("pool_thread_per_pair_" #type, KERNEL_POOL, id, 0)                                   \
    ROW_PLAIN("vectors_warp_per_row_" #type, KERNEL_VECTORS, id, 0)                                \
    ATTENTION_WIDTHS(ROW_ATTENTION, type, id)                                                      \
    ATTENTION_WIDTHS(ROW_RELATIVE, type, id)                                                       \
    ROW_PLAIN("attention_rows_" #type, KERNEL_ATTENTION_ROWS, id, 128)                             \
    ROW_PLAIN("fold_query_" #type, KERNEL_FOLD_QUERY, id, 128)                                     \
    ROW_PLAIN("fold_attend_" #type "_1", KERNEL_FOLD_ATTEND, id, 1)                                \
    ROW_PLAIN("fold_attend_" #type "_4", KERNEL_FOLD_ATTEND, id, 4)                                \
    ROW_PLAIN("fold_value_" #type, KERNEL_FOLD_VALUE, id, 0)                                       \
    ROW_PLAIN("head_logits_" #type, KERNEL_HEAD, id, 0)

/* clang-format off */
const cuda_kernel cuda_kernels[] = {
    ROW_PLAIN("batch_copy", KERNEL_BATCH_COPY, OPS_F32, 0)
    ROW_PLAIN("rows_spread", KERNEL_ROWS_SPREAD, OPS_F32, 0)
    ROW_PLAIN("rows_compare", KERNEL_ROWS_COMPARE, OPS_F32, 0)
    ROW_PLAIN("around_warp_per_row", KERNEL_AROUND, OPS_F32, 0)
    ROWS_VALUE(f16, OPS_F16)
    ROWS_VALUE(bf16, OPS_BF16)
    GEMM_KERNELS(ROW_GEMM, f16, OPS_F16)
    GEMM_KERNELS(ROW_GEMM, bf16, OPS_BF16)
    GEMM_KERNELS(ROW_GEMM, int8, OPS_INT8)
    GEMM_NORM_KERNELS(ROW_GEMM, f16, OPS_F16)
    GEMM_NORM_KERNELS(ROW_GEMM, bf16, OPS_BF16)
    GEMM_NORM_KERNELS(ROW_GEMM, int8, OPS_INT8)
};
/* clang-format on */
const int cuda_n_kernels = sizeof cuda_kernels / sizeof cuda_kernels[0];
_Static_assert(sizeof cuda_kernels / sizeof cuda_kernels[0] <= CUDA_KERNELS_MAX, "table too small");

const char *cuda_kind_op(cuda_kernel_kind kind)
{
    static const char *const ops[KERNEL_N_KINDS] = {
        [KERNEL_BATCH_COPY] = "begin",
        [KERNEL_EMBED] = "embed_norm",
        [KERNEL_NORM] = "norm",
        [KERNEL_QUANTISE] = "linear",
        [KERNEL_AROUND] = "gather_around",
        [KERNEL_POOL] = "pool",
        [KERNEL_VECTORS] = "vectors",
        [KERNEL_GEMM_BIAS] = "linear",
        [KERNEL_GEMM_GELU] = "linear",
        [KERNEL_GEMM_ACT] = "linear",
        [KERNEL_GEMM_GATED] = "linear",
        [KERNEL_GEMM_RESIDUAL] = "linear_residual_norm",
        [KERNEL_GEMM_NORM] = "linear_residual_norm",
        [KERNEL_BIAS_ACT] = "linear",
        [KERNEL_ROWS_SPREAD] = "load",
        [KERNEL_ROWS_COMPARE] = "load",
        [KERNEL_ATTENTION] = "attention",
        [KERNEL_ATTENTION_GENERAL] = "attention",
        [KERNEL_RELATIVE_TERMS] = "attention",
        [KERNEL_ATTENTION_ROWS] = "attention_rows",
        [KERNEL_FOLD_QUERY] = "attention_rows_folded",
        [KERNEL_FOLD_ATTEND] = "attention_rows_folded",
        [KERNEL_FOLD_VALUE] = "attention_rows_folded",
        [KERNEL_HEAD] = "head",
    };
    return ops[kind];
}

int cuda_find(cuda_kernel_kind kind, ops_dtype dtype, int32_t size)
{
    for (int i = 0; i < cuda_n_kernels; i++) {
        const cuda_kernel *k = &cuda_kernels[i];
        if (k->kind == kind && k->dtype == dtype && (k->limit == 0 || size <= k->limit)) return i;
    }
    return -1;
}

/* Predicted cycles of one launch: rounds of blocks, each a start, its steps and an end. A step is
 * bound by the chain barrier - ldmatrix - mma of one block, by the tensor cores, or by what the L2
 * cache delivers to one multiprocessor (its port, or a share of the cache when all read), the
 * latter two shared by the blocks that sit on it. The constants are plausible figures of an A100
 * and an H100 (mma.sync reaches ~60 % of the latter's tensor peak), not measurements: they order
 * tiles, they do not predict milliseconds. */
static double gemm_cycles(const cuda_kernel *k, int32_t rows, int32_t n, int32_t k_tiles, int n_sms,
                          int sm)
{
    const double chain = 160, start = 1200, flops_per_cycle = sm >= 90 ? 2400 : 1800,
                 all_bytes_per_cycle = sm >= 90 ? 24 : 30, port_bytes_per_cycle = 64;
    double blocks =
        (double)((rows + k->tile_m - 1) / k->tile_m) * (double)((n + k->tile_n - 1) / k->tile_n);
    double reading = blocks < n_sms ? blocks : n_sms;
    double bytes_per_cycle = all_bytes_per_cycle * n_sms / reading;
    if (bytes_per_cycle > port_bytes_per_cycle) bytes_per_cycle = port_bytes_per_cycle;
    double shared = sm >= 90 && sm < 120 ? 227e3 : sm == 80 ? 163e3 : 99e3;
    double resident = shared / (k->shared_bytes + 1024), by_threads = 65536.0 / 128 / k->threads;
    if (resident > by_threads) resident = by_threads;
    resident = resident < 1 ? 1 : (double)(int)resident;
    double rounds = (double)(int64_t)((blocks + n_sms * resident - 1) / (n_sms * resident));
    double sharing = blocks / n_sms;
    sharing = sharing < 1 ? 1 : sharing > resident ? resident : sharing;
    double math = sharing * k->tile_m * k->tile_n * 128.0 / flops_per_cycle;
    double load = sharing * (k->tile_m + k->tile_n) * 128.0 / bytes_per_cycle;
    double step = math > load ? math : load;
    if (step < chain) step = chain;
    return rounds * (start + k_tiles * step);
}

/* The fastest of this kind that fits, and its cycles. */
static int fastest(cuda_kernel_kind kind, ops_dtype dtype, int32_t rows, int32_t n, int32_t k_tiles,
                   int n_sms, int sm, int shared_bytes, const char *forced, double *best_cycles)
{
    int best = -1;
    for (int i = 0; i < cuda_n_kernels; i++) {
        const cuda_kernel *k = &cuda_kernels[i];
        if (k->kind != kind || k->dtype != dtype || k->shared_bytes > shared_bytes) continue;
        bool wanted = forced[0] != 0 && strstr(k->symbol, forced) != NULL;
        double cycles = wanted ? 0 : gemm_cycles(k, rows, n, k_tiles, n_sms, sm);
        if (best >= 0 && cycles >= *best_cycles) continue;
        best = i;
        *best_cycles = cycles;
    }
    return best;
}

int cuda_find_gemm(cuda_kernel_kind kind, ops_dtype dtype, int32_t rows, int32_t n, int32_t k_tiles,
                   int n_sms, int sm, const char *forced)
{
    double cycles;
    return fastest(kind, dtype, rows, n, k_tiles, n_sms, sm, INT32_MAX, forced, &cycles);
}

int cuda_find_gemm_norm(ops_dtype dtype, int32_t rows, int32_t n, int32_t k_tiles, int n_sms,
                        int sm, int shared_bytes, const char *forced)
{
    /* A node of a graph and its rows: 3.3 us at 1.755 GHz (bench/LOG.md, G3). */
    const double norm_kernel = 5800;
    double fused, apart;
    if (n > GEMM_NORM_COLUMNS) return -1;
    int kernel =
        fastest(KERNEL_GEMM_NORM, dtype, rows, n, k_tiles, n_sms, sm, shared_bytes, forced, &fused);
    int other = fastest(KERNEL_GEMM_RESIDUAL, dtype, rows, n, k_tiles, n_sms, sm, shared_bytes,
                        forced, &apart);
    if (kernel < 0 || (other >= 0 && apart == 0)) return -1;
    return fused < apart + norm_kernel ? kernel : -1;
}
