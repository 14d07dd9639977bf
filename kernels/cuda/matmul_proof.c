/* The load-time proof that an algorithm of cuBLASLt keeps a row's bits.
 *
 * 16 base rows are spread over as many rows as the largest call has, in an order that brings each
 * to every place of a tile; for each number of rows that the engine uses, every row of the result
 * must have the bits that its base row has alone (in 16 rows), from cuBLASLt itself or from the own
 * GEMM. Kernels choose nothing by values, so numbers may be chosen that show any other order of a
 * sum: a quarter of the products are large and cancel in pairs whose places are random, so that
 * what is rounded away on the way, and thus the order, decides the leading bits of the result, and
 * biases and residuals cancel likewise. With ordinary numbers two orders differ by less than the
 * rounding to 16 bits and mostly look equal. */
#include <stdio.h>
#include <string.h>

#include "kernels/cuda/context.h"
#include "kernels/cuda/kernels.h"
#include "memory.h"
#include "weights/dtype.h"

#define CHOICE_ROWS 4096 /* what the heuristic is asked for, whatever a session's batches are */
#define MAX_SIZES 40

/* What the test has in device memory; offsets in bytes, 256-byte aligned. */
typedef struct proof {
    cuda_device *d;
    matmul_shape *s;
    cu_stream stream;
    cu_address memory;
    size_t bytes, w, base, bias32, bias16, residual_base; /* uploaded as one piece */
    size_t uploaded, x, residual, reference, out, counts, workspace;
    int32_t sizes[MAX_SIZES];
    int n_sizes;
} proof;

static size_t place(size_t *at, size_t bytes)
{
    size_t here = *at;
    *at += (bytes + 255) / 256 * 256;
    return here;
}

static int32_t w_ld(const matmul_shape *s)
{
    return (s->k + 63) / 64 * 64; /* layout.h: rows of 128 bytes */
}

/* Bytes of an element of the result. */
static size_t out_element(const matmul_shape *s)
{
    return s->kind == MATMUL_PLAIN ? sizeof(float) : 2;
}

static void lay_out(proof *p, bool against_own)
{
    size_t n = (size_t)p->s->n, k = (size_t)p->s->k, most = MATMUL_MOST_ROWS, at = 0;
    p->w = place(&at, n * (size_t)w_ld(p->s) * 2);
    p->base = place(&at, ROW_CHECK_ROWS * k * 2);
    p->bias32 = place(&at, n * sizeof(float));
    p->bias16 = place(&at, n * 2);
    p->residual_base = place(&at, ROW_CHECK_ROWS * n * 2);
    p->uploaded = at;
    p->x = place(&at, most * k * 2);
    p->residual = place(&at, most * n * 2);
    p->reference = place(&at, ROW_CHECK_ROWS * n * out_element(p->s));
    p->out = place(&at, most * n * out_element(p->s));
    p->counts = place(&at, MAX_SIZES * sizeof(uint32_t));
    p->workspace = place(&at, MATMUL_WORKSPACE_BYTES);
    p->bytes = at;
    for (int32_t rows = 16; rows <= MATMUL_MOST_ROWS; rows = matmul_rows(rows + 1))
        if (!against_own || rows >= MATMUL_FROM_ROWS) p->sizes[p->n_sizes++] = rows;
}

/* ---- numbers -----------------------------------------------------------------------------------
 */

static uint32_t draw(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* 1 .. 2 in steps of 1/64, either sign: exact in f16 and bf16. */
static float number(uint32_t *state)
{
    uint32_t bits = draw(state);
    float value = (float)(64 + bits % 64) / 64.0f;
    return bits & 64 ? -value : value;
}

static uint16_t stored(const matmul_shape *s, float value)
{
    return s->dtype == OPS_BF16 ? dtype_bf16_from_f32(value) : dtype_f16_from_f32(value);
}

/* Columns of x: small numbers, and pairs (places[2i], places[2i+1]) of large ones. */
static void fill(const proof *p, uint8_t *to, int32_t *places)
{
    const matmul_shape *s = p->s;
    size_t n = (size_t)s->n, k = (size_t)s->k, ld = (size_t)w_ld(s), n_pairs = k / 8;
    const float small = 0x1p-4f, large = s->dtype == OPS_BF16 ? 0x1p16f : 0x1p12f;
    const float cancelling = 0x1p11f;
    uint32_t state = 7;
    uint16_t *w = (uint16_t *)(void *)(to + p->w), *base = (uint16_t *)(void *)(to + p->base);
    uint16_t *residual = (uint16_t *)(void *)(to + p->residual_base);
    uint16_t *bias16 = (uint16_t *)(void *)(to + p->bias16);
    float *bias32 = (float *)(void *)(to + p->bias32);
    for (size_t i = 0; i < k; i++) places[i] = (int32_t)i;
    for (size_t i = k - 1; i > 0; i--) {
        size_t other = draw(&state) % (i + 1);
        int32_t swapped = places[i];
        places[i] = places[other];
        places[other] = swapped;
    }
    for (size_t j = 0; j < n; j++) {
        for (size_t i = 0; i < k; i++) w[j * ld + i] = stored(s, number(&state));
        for (size_t i = 0; i < n_pairs; i++)
            w[j * ld + (size_t)places[2 * i + 1]] = w[j * ld + (size_t)places[2 * i]];
        bool cancels = s->kind == MATMUL_RESIDUAL && j % 2 == 1;
        bias32[j] = cancels ? cancelling : number(&state);
        bias16[j] = stored(s, bias32[j]);
    }
    for (size_t r = 0; r < ROW_CHECK_ROWS; r++) {
        for (size_t i = 0; i < k; i++) base[r * k + i] = stored(s, small * number(&state));
        for (size_t i = 0; i < n_pairs; i++) {
            float v = large * number(&state);
            base[r * k + (size_t)places[2 * i]] = stored(s, v);
            base[r * k + (size_t)places[2 * i + 1]] = stored(s, -v);
        }
        for (size_t j = 0; j < n; j++)
            residual[r * n + j] = stored(s, j % 2 == 1 ? -cancelling : number(&state));
    }
}

static crank_status upload(const proof *p, crank_error *error)
{
    cuda_device *d = p->d;
    uint8_t *numbers = mem_zero(1, p->uploaded);
    int32_t *places = mem_array((size_t)p->s->k, sizeof *places);
    crank_status status = CRANK_OK;
    CRANK_CHECK_GOTO(numbers != NULL && places != NULL, OUT_OF_MEMORY, error,
                     "no memory for the check of cuBLASLt");
    fill(p, numbers, places);
    CRANK_TRY_GOTO(cuda_check(d, d->api.copy_to_device(p->memory, numbers, p->uploaded),
                              "checking cuBLASLt", error));
    CRANK_TRY_GOTO(
        cuda_check(d, d->api.set_bytes(p->memory + p->counts, 0, MAX_SIZES * sizeof(uint32_t)),
                   "checking cuBLASLt", error));
    CRANK_TRY_GOTO(cuda_check(d, d->api.stream_synchronize(NULL), "checking cuBLASLt", error));
out:
    mem_free(numbers);
    mem_free(places);
    return status;
}

/* ---- launches ----------------------------------------------------------------------------------
 */

static void *at(const proof *p, size_t offset)
{
    return (void *)(uintptr_t)(p->memory + offset);
}

static crank_status rows_kernel(const proof *p, cuda_kernel_kind kind, size_t base, size_t rows,
                                int32_t n_rows, size_t row_bytes, int count, crank_error *error)
{
    row_check_args args = {.n_rows = n_rows,
                           .vectors = (int32_t)(row_bytes / 16),
                           .base = at(p, base),
                           .rows = at(p, rows),
                           .n_different = (uint32_t *)at(p, p->counts) + count};
    return cuda_issue_kernel(p->d, p->stream, cuda_find(kind, OPS_F32, 0), (uint32_t)n_rows, 1, 1,
                             128, 0, &args, sizeof args, error);
}

static crank_status own_gemm(const proof *p, crank_error *error)
{
    const cuda_device *d = p->d;
    const matmul_shape *s = p->s;
    cuda_kernel_kind kind = s->kind == MATMUL_BIAS ? KERNEL_GEMM_BIAS : KERNEL_GEMM_RESIDUAL;
    gemm_args args = {.n_rows = {.value = ROW_CHECK_ROWS},
                      .n = s->n,
                      .k_tiles = w_ld(s) / 64,
                      .x_bytes = s->k * 2,
                      .w_bytes = w_ld(s) * 2,
                      .out_ld = s->n,
                      .x = at(p, p->base),
                      .w = at(p, p->w),
                      .bias = at(p, p->bias32),
                      .residual = at(p, p->residual_base),
                      .out = at(p, p->reference)};
    int kernel = cuda_find_gemm(kind, (ops_dtype)s->dtype, ROW_CHECK_ROWS, s->n, args.k_tiles,
                                d->n_sms, d->sm, "");
    const cuda_kernel *k = &cuda_kernels[kernel];
    return cuda_issue_kernel(
        p->d, p->stream, kernel, (uint32_t)((s->n + k->tile_n - 1) / k->tile_n),
        (uint32_t)((ROW_CHECK_ROWS + k->tile_m - 1) / k->tile_m), 1, (uint32_t)k->threads,
        (uint32_t)k->shared_bytes, &args, sizeof args, error);
}

static matmul_call call_of(const proof *p, int32_t rows)
{
    const matmul_shape *s = p->s;
    return (matmul_call){
        .problem = {.kind = s->kind,
                    .dtype = s->dtype,
                    .rows = rows,
                    .n = s->n,
                    .k = s->k,
                    .x_ld = s->k,
                    .w_ld = w_ld(s),
                    .out_ld = s->n},
        .algorithm = s->algorithm,
        .workspace_bytes = s->workspace_bytes,
        .x = at(p, p->x),
        .w = at(p, p->w),
        .bias = at(p, p->bias16),
        .residual = s->kind == MATMUL_RESIDUAL ? at(p, p->residual) : NULL,
        .out = at(p, p->out),
        .workspace = at(p, p->workspace),
    };
}

/* ---- the proof ---------------------------------------------------------------------------------
 */

#define REFUSE(s, ...) snprintf((s)->refused, sizeof(s)->refused, __VA_ARGS__)

/* True when cuBLASLt did it; its failures are refusals. */
static bool lt_did(const proof *p, crank_status status, const crank_error *why)
{
    if (status == CRANK_OK) return true;
    REFUSE(p->s, "%.*s", (int)sizeof p->s->refused - 1, why->message);
    return false;
}

static bool choose(const proof *p)
{
    crank_error why = {0};
    matmul_shape *s = p->s;
    const cublaslt *lt = &p->d->matmul.lt;
    matmul_call c = call_of(p, CHOICE_ROWS);
    if (!lt_did(p, cublaslt_choose(lt, &c, MATMUL_WORKSPACE_BYTES, &s->algorithm, &why), &why))
        return false;
    for (int i = 0; i < p->n_sizes; i++) {
        size_t bytes;
        c = call_of(p, p->sizes[i]);
        if (!lt_did(p, cublaslt_workspace(lt, &c, &bytes, &why), &why)) return false;
        if (bytes > s->workspace_bytes) s->workspace_bytes = bytes;
    }
    if (s->workspace_bytes <= MATMUL_WORKSPACE_BYTES) return true;
    REFUSE(s, "needs %zu bytes of workspace", s->workspace_bytes);
    return false;
}

/* Everything on the stream; false: cuBLASLt refused a call (and *status may say a lost GPU). */
static bool enqueue(const proof *p, bool against_own, crank_status *status, crank_error *error)
{
    const matmul_shape *s = p->s;
    const cublaslt *lt = &p->d->matmul.lt;
    crank_error why = {0};
    *status = rows_kernel(p, KERNEL_ROWS_SPREAD, p->base, p->x, MATMUL_MOST_ROWS, 2 * (size_t)s->k,
                          0, error);
    if (*status == CRANK_OK)
        *status = rows_kernel(p, KERNEL_ROWS_SPREAD, p->residual_base, p->residual,
                              MATMUL_MOST_ROWS, 2 * (size_t)s->n, 0, error);
    if (*status == CRANK_OK && against_own) *status = own_gemm(p, error);
    if (*status != CRANK_OK) return false;
    if (!against_own) {
        matmul_call alone = call_of(p, ROW_CHECK_ROWS);
        alone.x = at(p, p->base);
        if (s->kind == MATMUL_RESIDUAL) alone.residual = at(p, p->residual_base);
        alone.out = at(p, p->reference);
        if (!lt_did(p, cublaslt_run(lt, &alone, p->stream, &why), &why)) return false;
    }
    for (int i = 0; i < p->n_sizes; i++) {
        matmul_call c = call_of(p, p->sizes[i]);
        if (!lt_did(p, cublaslt_run(lt, &c, p->stream, &why), &why)) return false;
        *status = rows_kernel(p, KERNEL_ROWS_COMPARE, p->reference, p->out, p->sizes[i],
                              (size_t)s->n * out_element(s), i, error);
        if (*status != CRANK_OK) return false;
    }
    return true;
}

static crank_status run(const proof *p, bool against_own, crank_error *error)
{
    cuda_device *d = p->d;
    matmul_shape *s = p->s;
    uint32_t counts[MAX_SIZES] = {0};
    crank_status status = CRANK_OK;
    if (!choose(p)) return CRANK_OK;
    bool enqueued = enqueue(p, against_own, &status, error);
    cu_result finished = d->api.stream_synchronize(p->stream);
    CRANK_TRY(status);
    CRANK_TRY(cuda_check(d, finished, "checking cuBLASLt", error));
    if (!enqueued) return CRANK_OK;
    CUDA_TRY(d, copy_to_host(counts, p->memory + p->counts, sizeof counts), "checking cuBLASLt",
             error);
    for (int i = 0; i < p->n_sizes; i++) {
        if (counts[i] == 0) continue;
        if (against_own)
            REFUSE(s, "its bits are not those of the own GEMM (%d rows)", p->sizes[i]);
        else
            REFUSE(s, "a row's bits depend on its place or on the number of rows (%d)",
                   p->sizes[i]);
        break;
    }
    return CRANK_OK;
}

crank_status matmul_prove(cuda_device *d, matmul_shape *s, bool against_own, crank_error *error)
{
    proof p = {.d = d, .s = s};
    lay_out(&p, against_own);
    CRANK_TRY(cuda_take(d, &p.memory, p.bytes, "checking cuBLASLt", error));
    crank_status status = cuda_check(
        d, d->api.stream_create(&p.stream, CU_FLAG_STREAM_NON_BLOCKING), "a stream", error);
    if (status == CRANK_OK) {
        status = upload(&p, error);
        if (status == CRANK_OK) status = run(&p, against_own, error);
        if (cuda_enter(d, NULL) == CRANK_OK) d->api.stream_destroy(p.stream);
    }
    cuda_give(d, p.memory, p.bytes);
    return status;
}
