#define _GNU_SOURCE /* RTLD_NODELETE */
#include "kernels/cuda/cublaslt.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* ---- opening -----------------------------------------------------------------------------------
 */

static crank_status load_symbols(cublaslt *b, const char *path, crank_error *error)
{
    static const struct {
        const char *symbol;
        size_t offset;
    } calls[] = {
#define CALL_ROW(field, symbol, parameters) {symbol, offsetof(cublaslt, field)},
        LT_CALL_LIST(CALL_ROW)
#undef CALL_ROW
            {"cublasLtGetStatusString", offsetof(cublaslt, status_text)},
        {"cublasLtGetVersion", offsetof(cublaslt, get_version)},
    };
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        void *address = dlsym(b->library, calls[i].symbol);
        CRANK_CHECK(address != NULL, DEVICE, error, "%s has no %s", path, calls[i].symbol);
        memcpy((char *)b + calls[i].offset, &address, sizeof address);
    }
    return CRANK_OK;
}

static crank_status lt_check(const cublaslt *b, int status, const char *call, crank_error *error)
{
    if (status == LT_SUCCESS) return CRANK_OK;
    const char *text = b->status_text(status);
    return status_fail(error, CRANK_DEVICE, "%s: %s", call,
                       text != NULL ? text : "an unknown status");
}

#define LT_TRY(b, call, symbol, error) CRANK_TRY(lt_check((b), (b)->call, (symbol), (error)))

crank_status cublaslt_open(cublaslt *b, const char *path, crank_error *error)
{
    static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12", NULL};
    *b = (cublaslt){0};
    for (int i = 0; b->library == NULL && (path != NULL ? i == 0 : names[i] != NULL); i++) {
        const char *name = path != NULL ? path : names[i];
        /* It registers kernels with a runtime of its own, which does not live through unloading. */
        b->library = dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
        if (b->library != NULL) path = name;
    }
    if (b->library == NULL) {
        if (path != NULL) return status_fail(error, CRANK_DEVICE, "cannot open %s", path);
        return status_fail(error, CRANK_DEVICE, "cannot open %s or %s (LD_LIBRARY_PATH)", names[0],
                           names[1]);
    }
    crank_status status = load_symbols(b, path, error);
    if (status == CRANK_OK) {
        /* 12.x: 120501 is 12.5.1; 13.0: 130000. */
        size_t version = b->get_version();
        b->major = (int)(version / 10000);
        b->minor = (int)(version / 100 % 100);
        status = lt_check(b, b->create(&b->handle), "cublasLtCreate", error);
        if (status != CRANK_OK) b->handle = NULL;
    }
    if (status != CRANK_OK) cublaslt_close(b);
    return status;
}

void cublaslt_close(cublaslt *b)
{
    if (b->handle != NULL) b->destroy(b->handle);
    if (b->library != NULL) dlclose(b->library);
    *b = (cublaslt){0};
}

/* ---- one GEMM ----------------------------------------------------------------------------------
 */

/* cuBLASLt's view is column-major: out^T [n, rows] = W x^T, W stored as [k, n] and transposed. */
typedef struct objects {
    void *desc, *w, *x, *out;
} objects;

static void objects_close(const cublaslt *b, objects *o)
{
    if (o->desc != NULL) b->desc_destroy(o->desc);
    if (o->w != NULL) b->layout_destroy(o->w);
    if (o->x != NULL) b->layout_destroy(o->x);
    if (o->out != NULL) b->layout_destroy(o->out);
    *o = (objects){0};
}

static crank_status layout_make(const cublaslt *b, void **layout, int type, int32_t rows,
                                int32_t columns, int32_t ld, crank_error *error)
{
    LT_TRY(b, layout_create(layout, type, (uint64_t)rows, (uint64_t)columns, ld),
           "cublasLtMatrixLayoutCreate", error);
    return CRANK_OK;
}

static crank_status objects_make(const cublaslt *b, const matmul_call *c, objects *o,
                                 crank_error *error)
{
    static const uint32_t epilogues[MATMUL_N_KINDS] = {
        [MATMUL_BIAS] = LT_EPILOGUE_BIAS,
        [MATMUL_RESIDUAL] = LT_EPILOGUE_BIAS,
        [MATMUL_GELU_TANH] = LT_EPILOGUE_GELU_TANH_BIAS,
        [MATMUL_PLAIN] = LT_EPILOGUE_NONE,
    };
    const matmul_problem *p = &c->problem;
    const int type = p->dtype == OPS_BF16 ? LT_TYPE_BF16 : LT_TYPE_F16;
    const int32_t transpose = LT_TRANSPOSE;
    const uint32_t epilogue = epilogues[p->kind];
    LT_TRY(b, desc_create(&o->desc, LT_COMPUTE_F32, LT_TYPE_F32), "cublasLtMatmulDescCreate",
           error);
    LT_TRY(b, desc_set(o->desc, LT_DESC_TRANSA, &transpose, sizeof transpose), "cuBLASLt's op of A",
           error);
    LT_TRY(b, desc_set(o->desc, LT_DESC_EPILOGUE, &epilogue, sizeof epilogue),
           "cuBLASLt's epilogue", error);
    if (p->kind != MATMUL_PLAIN)
        LT_TRY(b, desc_set(o->desc, LT_DESC_BIAS_POINTER, &c->bias, sizeof c->bias),
               "cuBLASLt's bias", error);
    CRANK_TRY(layout_make(b, &o->w, type, p->k, p->n, p->w_ld, error));
    CRANK_TRY(layout_make(b, &o->x, type, p->k, p->rows, p->x_ld, error));
    return layout_make(b, &o->out, p->kind == MATMUL_PLAIN ? LT_TYPE_F32 : type, p->n, p->rows,
                       p->out_ld, error);
}

static bool splits_k(const cublaslt *b, const lt_algorithm *algorithm)
{
    int32_t parts = 1;
    uint32_t scheme = 0;
    size_t written;
    /* An algorithm that cannot be asked has no such setting. */
    if (b->algorithm_get(algorithm, LT_ALGORITHM_SPLITK, &parts, sizeof parts, &written) !=
        LT_SUCCESS)
        parts = 1;
    if (b->algorithm_get(algorithm, LT_ALGORITHM_REDUCTION, &scheme, sizeof scheme, &written) !=
        LT_SUCCESS)
        scheme = 0;
    return parts > 1 || scheme != 0;
}

crank_status cublaslt_choose(const cublaslt *b, const matmul_call *c, size_t workspace_bytes,
                             lt_algorithm *algorithm, crank_error *error)
{
    enum { WANTED = 16 };
    const uint64_t workspace = workspace_bytes;
    const uint32_t alignment = 64;
    lt_heuristic results[WANTED];
    objects o = {0};
    void *preference = NULL;
    int n = 0, chosen = -1;
    crank_status status = CRANK_OK;
    CRANK_TRY_GOTO(objects_make(b, c, &o, error));
    CRANK_TRY_GOTO(
        lt_check(b, b->preference_create(&preference), "cublasLtMatmulPreferenceCreate", error));
    CRANK_TRY_GOTO(lt_check(
        b,
        b->preference_set(preference, LT_PREFERENCE_WORKSPACE_BYTES, &workspace, sizeof workspace),
        "cuBLASLt's workspace", error));
    for (int a = LT_PREFERENCE_ALIGNMENT_A; a <= LT_PREFERENCE_ALIGNMENT_D; a++)
        CRANK_TRY_GOTO(lt_check(b, b->preference_set(preference, a, &alignment, sizeof alignment),
                                "cuBLASLt's alignment", error));
    CRANK_TRY_GOTO(lt_check(
        b, b->heuristic(b->handle, o.desc, o.w, o.x, o.out, o.out, preference, WANTED, results, &n),
        "cublasLtMatmulAlgoGetHeuristic", error));
    for (int i = 0; i < n && chosen < 0; i++) {
        if (results[i].state == LT_SUCCESS && results[i].workspace_bytes <= workspace_bytes &&
            !splits_k(b, &results[i].algorithm))
            chosen = i;
    }
    CRANK_CHECK_GOTO(chosen >= 0, DEVICE, error, "none of its %d algorithms keeps k in one piece",
                     n);
    *algorithm = results[chosen].algorithm;
out:
    if (preference != NULL) b->preference_destroy(preference);
    objects_close(b, &o);
    return status;
}

crank_status cublaslt_workspace(const cublaslt *b, const matmul_call *c, size_t *bytes,
                                crank_error *error)
{
    lt_heuristic result = {.state = LT_SUCCESS};
    objects o = {0};
    crank_status status = objects_make(b, c, &o, error);
    if (status == CRANK_OK)
        status = lt_check(
            b,
            b->algorithm_check(b->handle, o.desc, o.w, o.x, o.out, o.out, &c->algorithm, &result),
            "cublasLtMatmulAlgoCheck", error);
    objects_close(b, &o);
    *bytes = result.workspace_bytes;
    return status;
}

crank_status cublaslt_run(const cublaslt *b, const matmul_call *c, cu_stream stream,
                          crank_error *error)
{
    const float one = 1.0f, beta = c->problem.kind == MATMUL_RESIDUAL ? 1.0f : 0.0f;
    const void *residual = c->residual != NULL ? c->residual : c->out;
    objects o = {0};
    crank_status status = objects_make(b, c, &o, error);
    if (status == CRANK_OK)
        status = lt_check(b,
                          b->matmul(b->handle, o.desc, &one, c->w, o.w, c->x, o.x, &beta, residual,
                                    o.out, c->out, o.out, &c->algorithm, c->workspace,
                                    c->workspace_bytes, stream),
                          "cublasLtMatmul", error);
    objects_close(b, &o);
    return status;
}
