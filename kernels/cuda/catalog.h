/* Every kernel of the fatbin, listed once for nvcc (which defines them) and for the host (which
 * finds them by name and chooses among them): the variant table's source.
 *
 * Names: op, idea, type, size. A new variant is one line here; the op tests, `info --kernels` and
 * `bench ops` walk the table that variants.c builds from these lists. */
#ifndef CRANK_CUDA_CATALOG_H
#define CRANK_CUDA_CATALOG_H

/* Widths (columns a warp can hold) of the row kernels. */
#define ROW_WIDTHS(X, ...)                                                                         \
    X(512, __VA_ARGS__)                                                                            \
    X(768, __VA_ARGS__)                                                                            \
    X(1024, __VA_ARGS__)                                                                           \
    X(2048, __VA_ARGS__)

/* GEMM tiles, rows x columns: small ones fill the machine when there are few rows and hide latency
 * with a deep ring, large ones read less. X(BM, BN, warps along m, warps along n, stages) */
#define GEMM_TILES(X)                                                                              \
    X(16, 32, 1, 2, 6)                                                                             \
    X(16, 64, 1, 4, 5)                                                                             \
    X(32, 64, 2, 2, 5)                                                                             \
    X(64, 64, 2, 2, 4)                                                                             \
    X(128, 64, 2, 2, 3)                                                                            \
    X(128, 128, 2, 4, 3)                                                                           \
    X(16, 384, 1, 4, 3)                                                                            \
    X(32, 384, 2, 4, 3)

/* Which epilogue exists in which tile: the ones that run over all tokens of common models in every
 * tile, the rarer ones where a small, a middle and a large tile are enough. */
#define GEMM_KERNELS(X, ...)                                                                       \
    X(16, 32, bias, __VA_ARGS__)                                                                   \
    X(16, 64, bias, __VA_ARGS__)                                                                   \
    X(32, 64, bias, __VA_ARGS__)                                                                   \
    X(64, 64, bias, __VA_ARGS__)                                                                   \
    X(128, 64, bias, __VA_ARGS__)                                                                  \
    X(128, 128, bias, __VA_ARGS__)                                                                 \
    X(16, 32, gelu, __VA_ARGS__)                                                                   \
    X(16, 64, gelu, __VA_ARGS__)                                                                   \
    X(32, 64, gelu, __VA_ARGS__)                                                                   \
    X(64, 64, gelu, __VA_ARGS__)                                                                   \
    X(128, 64, gelu, __VA_ARGS__)                                                                  \
    X(128, 128, gelu, __VA_ARGS__)                                                                 \
    X(16, 32, residual, __VA_ARGS__)                                                               \
    X(16, 64, residual, __VA_ARGS__)                                                               \
    X(32, 64, residual, __VA_ARGS__)                                                               \
    X(64, 64, residual, __VA_ARGS__)                                                               \
    X(128, 64, residual, __VA_ARGS__)                                                              \
    X(128, 128, residual, __VA_ARGS__)                                                             \
    X(16, 64, gated, __VA_ARGS__)                                                                  \
    X(64, 64, gated, __VA_ARGS__)                                                                  \
    X(128, 128, gated, __VA_ARGS__)                                                                \
    X(32, 64, act, __VA_ARGS__)                                                                    \
    X(128, 64, act, __VA_ARGS__)

/* Tiles that span a whole row of up to 384 columns, so that its norm follows in the same kernel. */
#define GEMM_NORM_COLUMNS 384
#define GEMM_NORM_KERNELS(X, ...)                                                                  \
    X(16, 384, norm, __VA_ARGS__)                                                                  \
    X(32, 384, norm, __VA_ARGS__)

/* Attention: head widths up to this one, padded inside the tile. */
#define ATTENTION_WIDTHS(X, ...)                                                                   \
    X(32, __VA_ARGS__)                                                                             \
    X(64, __VA_ARGS__)                                                                             \
    X(128, __VA_ARGS__)

#endif
