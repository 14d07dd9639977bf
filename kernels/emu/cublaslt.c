/* The cuBLASLt calls that crank's engine makes, in the driver's library because they must see a
 * stream's capture and run late like any other work.
 *
 * D = epilogue(alpha op(A) op(B) + beta C + bias), column-major, f16 or bf16 in, f32 sums;
 * epilogues DEFAULT, BIAS, GELU_BIAS (the tanh form, as cuBLASLt has it). Everything else is
 * NOT_SUPPORTED. The heuristic offers a plain algorithm and a split-K one whose sums have another
 * order, so that a caller who needs one order must choose. Pointers are held to the alignments that
 * the preference promised. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "kernels/emu/cublaslt_abi.h"
#include "kernels/emu/driver.h"
#include "kernels/emu/exec_dot.h"
#include "kernels/emu/half.h"
#include "memory.h"

/* Every object starts with its link, so that a leak is counted and a handle can be checked. */
typedef enum lt_kind { LT_HANDLE, LT_DESC, LT_LAYOUT, LT_PREFERENCE } lt_kind;

typedef struct lt_object {
    link link;
    lt_kind kind;
} lt_object;

typedef struct lt_desc {
    lt_object object;
    int32_t compute, scale, pointer_mode, transpose_a, transpose_b, bias_type;
    uint32_t epilogue;
    uint64_t bias;
    int64_t bias_stride;
} lt_desc;

typedef struct lt_layout {
    lt_object object;
    uint32_t type;
    int32_t order, batch;
    uint64_t rows, columns;
    int64_t ld, stride;
} lt_layout;

typedef struct lt_preference {
    lt_object object;
    uint64_t workspace;
    uint32_t alignment[4]; /* A, B, C, D */
} lt_preference;

struct matmul_op {
    uint64_t a, b, c, d, bias;
    uint32_t type, type_c, type_d;
    int transpose_a, transpose_b;
    uint64_t m, n, k;
    int64_t lda, ldb, ldc, ldd, stride_a, stride_b, stride_c, stride_d, bias_stride;
    int32_t batch, split;
    uint32_t kind; /* EMU_LT_... */
    uint32_t epilogue;
    float alpha, beta;
};

/* lt_algorithm.data as the emulator fills it. */
#define ALGORITHM_MAGIC UINT64_C(0x6b6e617263746c65)
enum {
    DATA_MAGIC,
    DATA_ID,
    DATA_TILE_STAGES,
    DATA_SPLIT_REDUCTION,
    DATA_SWIZZLE_CUSTOM,
    DATA_SHAPES,
    DATA_ALIGNMENT
};

#define LT_CALL(name, ...)                                                                         \
    EMU_API int name(__VA_ARGS__);                                                                 \
    EMU_API int name(__VA_ARGS__)

static int lt_enter(void)
{
    return driver_enter(NEED_NOTHING) == ABI_SUCCESS ? LT_SUCCESS : LT_NOT_INITIALIZED;
}

static int lt_leave(int status)
{
    driver_leave(ABI_SUCCESS);
    return status;
}

static int lt_refuse(int status, const char *call, const char *why)
{
    driver_refuse(status, "%s: %s", call, why);
    return status;
}

static void *lt_new(size_t bytes, lt_kind kind)
{
    lt_object *o = mem_zero(1, bytes);
    if (o == NULL) return NULL;
    o->kind = kind;
    link_add(&emu_driver.lt_handles, &o->link);
    return o;
}

static void *lt_find(const void *handle, lt_kind kind)
{
    for (link *l = emu_driver.lt_handles.next; l != &emu_driver.lt_handles; l = l->next)
        if ((const void *)l == handle && LINK_ITEM(lt_object, l)->kind == kind) return l;
    return NULL;
}

static int lt_delete(void *handle, lt_kind kind, const char *call)
{
    if (lt_enter() != LT_SUCCESS) return LT_NOT_INITIALIZED;
    lt_object *o = lt_find(handle, kind);
    if (o == NULL) return lt_leave(lt_refuse(LT_INVALID_VALUE, call, "no such object"));
    link_remove(&o->link);
    mem_free(o);
    return lt_leave(LT_SUCCESS);
}

void lt_free_all(void)
{
    driver *d = &emu_driver;
    while (d->lt_handles.next != &d->lt_handles) {
        link *l = d->lt_handles.next;
        link_remove(l);
        mem_free(l);
    }
}

/* ---- objects ----------------------------------------------------------------------------------
 */

LT_CALL(cublasLtCreate, void **handle)
{
    if (lt_enter() != LT_SUCCESS) return LT_NOT_INITIALIZED;
    if (handle == NULL) return lt_leave(LT_INVALID_VALUE);
    if (emu_driver.context_references == 0)
        return lt_leave(lt_refuse(LT_NOT_INITIALIZED, "cublasLtCreate", "no primary context"));
    *handle = lt_new(sizeof(lt_object), LT_HANDLE);
    return lt_leave(*handle ? LT_SUCCESS : LT_ALLOC_FAILED);
}

LT_CALL(cublasLtDestroy, void *handle)
{
    return lt_delete(handle, LT_HANDLE, "cublasLtDestroy");
}

EMU_API size_t cublasLtGetVersion(void);
EMU_API size_t cublasLtGetVersion(void)
{
    return 130000;
}

EMU_API const char *cublasLtGetStatusString(int status);
EMU_API const char *cublasLtGetStatusString(int status)
{
    switch (status) {
    case LT_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case LT_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case LT_ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
    case LT_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case LT_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case LT_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    default: return "unknown cuBLAS status";
    }
}

EMU_API const char *cublasLtGetStatusName(int status);
EMU_API const char *cublasLtGetStatusName(int status)
{
    return cublasLtGetStatusString(status);
}

LT_CALL(cublasLtMatmulDescCreate, void **out, int compute, int scale)
{
    if (lt_enter() != LT_SUCCESS) return LT_NOT_INITIALIZED;
    lt_desc *desc = out ? lt_new(sizeof *desc, LT_DESC) : NULL;
    if (desc == NULL) return lt_leave(out ? LT_ALLOC_FAILED : LT_INVALID_VALUE);
    desc->compute = compute;
    desc->scale = scale;
    desc->epilogue = LT_EPILOGUE_DEFAULT;
    desc->bias_type = -1;
    *out = desc;
    return lt_leave(LT_SUCCESS);
}

LT_CALL(cublasLtMatmulDescDestroy, void *desc)
{
    return lt_delete(desc, LT_DESC, "cublasLtMatmulDescDestroy");
}

LT_CALL(cublasLtMatrixLayoutCreate, void **out, int type, uint64_t rows, uint64_t columns,
        int64_t ld)
{
    if (lt_enter() != LT_SUCCESS) return LT_NOT_INITIALIZED;
    lt_layout *layout = out ? lt_new(sizeof *layout, LT_LAYOUT) : NULL;
    if (layout == NULL) return lt_leave(out ? LT_ALLOC_FAILED : LT_INVALID_VALUE);
    layout->type = (uint32_t)type;
    layout->rows = rows;
    layout->columns = columns;
    layout->ld = ld;
    layout->batch = 1;
    *out = layout;
    return lt_leave(LT_SUCCESS);
}

LT_CALL(cublasLtMatrixLayoutDestroy, void *layout)
{
    return lt_delete(layout, LT_LAYOUT, "cublasLtMatrixLayoutDestroy");
}

LT_CALL(cublasLtMatmulPreferenceCreate, void **out)
{
    if (lt_enter() != LT_SUCCESS) return LT_NOT_INITIALIZED;
    lt_preference *p = out ? lt_new(sizeof *p, LT_PREFERENCE) : NULL;
    if (p == NULL) return lt_leave(out ? LT_ALLOC_FAILED : LT_INVALID_VALUE);
    for (int i = 0; i < 4; i++) p->alignment[i] = 256; /* cuBLASLt's default promise */
    *out = p;
    return lt_leave(LT_SUCCESS);
}

LT_CALL(cublasLtMatmulPreferenceDestroy, void *preference)
{
    return lt_delete(preference, LT_PREFERENCE, "cublasLtMatmulPreferenceDestroy");
}

/* ---- attributes -------------------------------------------------------------------------------
 */

typedef struct lt_field {
    int attribute;
    size_t offset, bytes;
} lt_field;

static int set_field(void *object, const lt_field *fields, size_t n, int attribute,
                     const void *value, size_t bytes, const char *call)
{
    for (size_t i = 0; i < n; i++) {
        if (fields[i].attribute != attribute) continue;
        if (value == NULL || bytes != fields[i].bytes)
            return lt_refuse(LT_INVALID_VALUE, call, "size of the value");
        memcpy((char *)object + fields[i].offset, value, bytes);
        return LT_SUCCESS;
    }
    return lt_refuse(LT_NOT_SUPPORTED, call, "attribute is not emulated");
}

#define FIELD(attribute, type, member)                                                             \
    {                                                                                              \
        attribute, offsetof(type, member), sizeof(((type *)0)->member)                             \
    }

LT_CALL(cublasLtMatmulDescSetAttribute, void *handle, int attribute, const void *value,
        size_t bytes)
{
    static const lt_field fields[] = {
        FIELD(LT_DESC_COMPUTE_TYPE, lt_desc, compute),
        FIELD(LT_DESC_SCALE_TYPE, lt_desc, scale),
        FIELD(LT_DESC_POINTER_MODE, lt_desc, pointer_mode),
        FIELD(LT_DESC_TRANSA, lt_desc, transpose_a),
        FIELD(LT_DESC_TRANSB, lt_desc, transpose_b),
        FIELD(LT_DESC_EPILOGUE, lt_desc, epilogue),
        FIELD(LT_DESC_BIAS_POINTER, lt_desc, bias),
        FIELD(LT_DESC_BIAS_BATCH_STRIDE, lt_desc, bias_stride),
        FIELD(LT_DESC_BIAS_DATA_TYPE, lt_desc, bias_type),
    };
    static const char call[] = "cublasLtMatmulDescSetAttribute";
    if (lt_enter() != LT_SUCCESS) return LT_NOT_INITIALIZED;
    void *desc = lt_find(handle, LT_DESC);
    if (desc == NULL) return lt_leave(lt_refuse(LT_INVALID_VALUE, call, "no such descriptor"));
    if (attribute == LT_DESC_SM_COUNT_TARGET && bytes == 4) return lt_leave(LT_SUCCESS);
    return lt_leave(
        set_field(desc, fields, sizeof fields / sizeof fields[0], attribute, value, bytes, call));
}

LT_CALL(cublasLtMatrixLayoutSetAttribute, void *handle, int attribute, const void *value,
        size_t bytes)
{
    static const lt_field fields[] = {
        FIELD(LT_LAYOUT_TYPE, lt_layout, type),
        FIELD(LT_LAYOUT_ORDER, lt_layout, order),
        FIELD(LT_LAYOUT_ROWS, lt_layout, rows),
        FIELD(LT_LAYOUT_COLS, lt_layout, columns),
        FIELD(LT_LAYOUT_LD, lt_layout, ld),
        FIELD(LT_LAYOUT_BATCH_COUNT, lt_layout, batch),
        FIELD(LT_LAYOUT_STRIDED_BATCH_OFFSET, lt_layout, stride),
    };
    static const char call[] = "cublasLtMatrixLayoutSetAttribute";
    if (lt_enter() != LT_SUCCESS) return LT_NOT_INITIALIZED;
    void *layout = lt_find(handle, LT_LAYOUT);
    if (layout == NULL) return lt_leave(lt_refuse(LT_INVALID_VALUE, call, "no such layout"));
    return lt_leave(
        set_field(layout, fields, sizeof fields / sizeof fields[0], attribute, value, bytes, call));
}

LT_CALL(cublasLtMatmulPreferenceSetAttribute, void *handle, int attribute, const void *value,
        size_t bytes)
{
    static const lt_field fields[] = {
        FIELD(LT_PREF_MAX_WORKSPACE_BYTES, lt_preference, workspace),
        FIELD(LT_PREF_MIN_ALIGNMENT_A_BYTES, lt_preference, alignment[0]),
        FIELD(LT_PREF_MIN_ALIGNMENT_B_BYTES, lt_preference, alignment[1]),
        FIELD(LT_PREF_MIN_ALIGNMENT_C_BYTES, lt_preference, alignment[2]),
        FIELD(LT_PREF_MIN_ALIGNMENT_D_BYTES, lt_preference, alignment[3]),
    };
    static const char call[] = "cublasLtMatmulPreferenceSetAttribute";
    if (lt_enter() != LT_SUCCESS) return LT_NOT_INITIALIZED;
    void *preference = lt_find(handle, LT_PREFERENCE);
    if (preference == NULL)
        return lt_leave(lt_refuse(LT_INVALID_VALUE, call, "no such preference"));
    if (attribute == LT_PREF_SEARCH_MODE || attribute == LT_PREF_REDUCTION_SCHEME_MASK ||
        attribute == LT_PREF_MAX_WAVES_COUNT || attribute == LT_PREF_IMPL_MASK)
        return lt_leave(LT_SUCCESS);
    return lt_leave(set_field(preference, fields, sizeof fields / sizeof fields[0], attribute,
                              value, bytes, call));
}

/* ---- problems ---------------------------------------------------------------------------------
 */

static uint64_t type_bytes_of(uint32_t type)
{
    return type == LT_R_32F ? 4 : type == LT_R_16F || type == LT_R_16BF ? 2 : 0;
}

/* Fills the shape; LT_NOT_SUPPORTED or LT_INVALID_VALUE with a message when it cannot be done. */
static int read_problem(const void *desc_handle, const void *a_handle, const void *b_handle,
                        const void *c_handle, const void *d_handle, struct matmul_op *w,
                        const char *call)
{
    const lt_desc *desc = lt_find(desc_handle, LT_DESC);
    const lt_layout *a = lt_find(a_handle, LT_LAYOUT), *b = lt_find(b_handle, LT_LAYOUT),
                    *c = lt_find(c_handle, LT_LAYOUT), *d = lt_find(d_handle, LT_LAYOUT);
    memset(w, 0, sizeof *w);
    if (!desc || !a || !b || !c || !d) return lt_refuse(LT_INVALID_VALUE, call, "no such object");
    if (desc->compute != LT_COMPUTE_32F || desc->scale != LT_R_32F ||
        desc->pointer_mode != LT_POINTER_MODE_HOST)
        return lt_refuse(LT_NOT_SUPPORTED, call, "compute type, scale type or pointer mode");
    if ((a->type != LT_R_16F && a->type != LT_R_16BF) || a->type != b->type ||
        (d->type != a->type && d->type != LT_R_32F) || c->type != d->type)
        return lt_refuse(LT_NOT_SUPPORTED, call, "combination of types");
    if (desc->epilogue != LT_EPILOGUE_DEFAULT && desc->epilogue != LT_EPILOGUE_BIAS &&
        desc->epilogue != LT_EPILOGUE_GELU_BIAS)
        return lt_refuse(LT_NOT_SUPPORTED, call, "epilogue");
    if (desc->bias_type != -1 && (uint32_t)desc->bias_type != d->type)
        return lt_refuse(LT_NOT_SUPPORTED, call, "bias type other than D's");
    if (a->order != LT_ORDER_COL || b->order != LT_ORDER_COL || c->order != LT_ORDER_COL ||
        d->order != LT_ORDER_COL)
        return lt_refuse(LT_NOT_SUPPORTED, call, "order other than column-major");
    if (desc->transpose_a > LT_OP_T || desc->transpose_b > LT_OP_T || desc->transpose_a < 0 ||
        desc->transpose_b < 0)
        return lt_refuse(LT_NOT_SUPPORTED, call, "operation other than N or T");
    w->transpose_a = desc->transpose_a;
    w->transpose_b = desc->transpose_b;
    w->m = w->transpose_a ? a->columns : a->rows;
    w->k = w->transpose_a ? a->rows : a->columns;
    w->n = w->transpose_b ? b->rows : b->columns;
    if ((w->transpose_b ? b->columns : b->rows) != w->k || d->rows != w->m || d->columns != w->n ||
        c->rows != w->m || c->columns != w->n || w->m == 0 || w->n == 0 || w->k == 0 ||
        (w->m | w->n | w->k) > UINT32_MAX)
        return lt_refuse(LT_INVALID_VALUE, call, "shapes do not fit");
    if (a->ld < (int64_t)a->rows || b->ld < (int64_t)b->rows || c->ld < (int64_t)w->m ||
        d->ld < (int64_t)w->m || a->ld > INT32_MAX || b->ld > INT32_MAX || c->ld > INT32_MAX ||
        d->ld > INT32_MAX)
        return lt_refuse(LT_INVALID_VALUE, call, "leading dimension");
    if (a->batch < 1 || a->batch != b->batch || a->batch != c->batch || a->batch != d->batch)
        return lt_refuse(LT_INVALID_VALUE, call, "batch counts");
    w->type = a->type;
    w->type_c = c->type;
    w->type_d = d->type;
    w->lda = a->ld;
    w->ldb = b->ld;
    w->ldc = c->ld;
    w->ldd = d->ld;
    w->stride_a = a->stride;
    w->stride_b = b->stride;
    w->stride_c = c->stride;
    w->stride_d = d->stride;
    w->batch = a->batch;
    w->epilogue = desc->epilogue;
    w->bias = desc->bias;
    w->bias_stride = desc->bias_stride;
    w->split = 1;
    w->kind = emu_driver.options.cublaslt;
    return LT_SUCCESS;
}

LT_CALL(cublasLtMatmulAlgoGetHeuristic, void *handle, void *desc, void *a, void *b, void *c,
        void *d, void *preference_handle, int requested, lt_heuristic *results, int *returned)
{
    static const char call[] = "cublasLtMatmulAlgoGetHeuristic";
    if (lt_enter() != LT_SUCCESS) return LT_NOT_INITIALIZED;
    const lt_preference *preference = lt_find(preference_handle, LT_PREFERENCE);
    if (lt_find(handle, LT_HANDLE) == NULL || preference == NULL || results == NULL ||
        returned == NULL || requested < 1)
        return lt_leave(lt_refuse(LT_INVALID_VALUE, call, "arguments"));
    *returned = 0;
    struct matmul_op w;
    int status = read_problem(desc, a, b, c, d, &w, call);
    if (status != LT_SUCCESS) return lt_leave(status);
    if (w.kind == EMU_LT_NO_ALGORITHM) return lt_leave(LT_NOT_SUPPORTED);
    uint64_t alignment = 0;
    for (int i = 0; i < 4; i++)
        alignment |= (uint64_t)(preference->alignment[i] & 0xffff) << (16 * i);
    uint64_t first = w.kind == EMU_LT_SPLIT_ONLY;
    for (uint64_t id = first; id < 2 && *returned < requested; id++) {
        uint64_t split = id == 0 ? 1 : 4, workspace = id == 0 ? 0 : w.m * w.n * 4 * split;
        if ((split > 1 && w.k < 256) || workspace > preference->workspace) continue;
        lt_heuristic *h = &results[(*returned)++];
        memset(h, 0, sizeof *h);
        h->algorithm.data[DATA_MAGIC] = ALGORITHM_MAGIC;
        h->algorithm.data[DATA_ID] = id;
        h->algorithm.data[DATA_TILE_STAGES] = (w.n > 64 ? 20 : 15) | UINT64_C(11) << 32;
        h->algorithm.data[DATA_SPLIT_REDUCTION] = split | (uint64_t)(split > 1 ? 2 : 0) << 32;
        h->algorithm.data[DATA_ALIGNMENT] = alignment;
        h->workspace_bytes = (size_t)workspace;
        h->state = LT_SUCCESS;
        h->waves = (float)((w.m + 127) / 128 * ((w.n + 127) / 128)) / 108.0f;
    }
    return lt_leave(*returned ? LT_SUCCESS : LT_NOT_SUPPORTED);
}

/* A 32-bit half of lt_algorithm.data: index * 2 + (1 for the upper half); -1: no such attribute. */
static int config_slot(int attribute)
{
    switch (attribute) {
    case LT_CONFIG_ID: return DATA_ID * 2;
    case LT_CONFIG_TILE_ID: return DATA_TILE_STAGES * 2;
    case LT_CONFIG_STAGES_ID: return DATA_TILE_STAGES * 2 + 1;
    case LT_CONFIG_SPLITK_NUM: return DATA_SPLIT_REDUCTION * 2;
    case LT_CONFIG_REDUCTION_SCHEME: return DATA_SPLIT_REDUCTION * 2 + 1;
    case LT_CONFIG_CTA_SWIZZLING: return DATA_SWIZZLE_CUSTOM * 2;
    case LT_CONFIG_CUSTOM_OPTION: return DATA_SWIZZLE_CUSTOM * 2 + 1;
    default: return -1;
    }
}

LT_CALL(cublasLtMatmulAlgoConfigGetAttribute, const lt_algorithm *algorithm, int attribute,
        void *value, size_t bytes, size_t *written)
{
    int is_shape = attribute == LT_CONFIG_INNER_SHAPE_ID || attribute == LT_CONFIG_CLUSTER_SHAPE_ID;
    int slot = config_slot(attribute);
    size_t size = is_shape ? 2 : 4;
    if (algorithm == NULL || (slot < 0 && !is_shape)) return LT_INVALID_VALUE;
    if (written != NULL) *written = size;
    if (bytes == 0) return written ? LT_SUCCESS : LT_INVALID_VALUE;
    if (value == NULL || bytes != size) return LT_INVALID_VALUE;
    uint32_t out = is_shape ? (uint32_t)(algorithm->data[DATA_SHAPES] >>
                                         (attribute == LT_CONFIG_CLUSTER_SHAPE_ID ? 16 : 0))
                            : (uint32_t)(algorithm->data[slot / 2] >> (32 * (slot & 1)));
    memcpy(value, &out, size);
    return LT_SUCCESS;
}

LT_CALL(cublasLtMatmulAlgoConfigSetAttribute, lt_algorithm *algorithm, int attribute,
        const void *value, size_t bytes)
{
    int slot = config_slot(attribute);
    if (algorithm == NULL || value == NULL || slot < 0 || attribute == LT_CONFIG_ID || bytes != 4)
        return LT_INVALID_VALUE;
    uint32_t in;
    memcpy(&in, value, 4);
    uint64_t *word = &algorithm->data[slot / 2];
    *word = slot & 1 ? (*word & 0xffffffffu) | (uint64_t)in << 32
                     : (*word & ~UINT64_C(0xffffffff)) | in;
    return LT_SUCCESS;
}

static int check_algorithm(const lt_algorithm *algorithm, struct matmul_op *w, const char *call)
{
    if (algorithm->data[DATA_MAGIC] != ALGORITHM_MAGIC)
        return lt_refuse(LT_INVALID_VALUE, call, "an algorithm that no heuristic gave");
    uint32_t split = (uint32_t)algorithm->data[DATA_SPLIT_REDUCTION];
    if (split < 1 || split > 32) return lt_refuse(LT_NOT_SUPPORTED, call, "split-K number");
    w->split = (int32_t)split;
    return LT_SUCCESS;
}

LT_CALL(cublasLtMatmulAlgoCheck, void *handle, void *desc, void *a, void *b, void *c, void *d,
        const lt_algorithm *algorithm, lt_heuristic *result)
{
    static const char call[] = "cublasLtMatmulAlgoCheck";
    if (lt_enter() != LT_SUCCESS) return LT_NOT_INITIALIZED;
    struct matmul_op w;
    if (lt_find(handle, LT_HANDLE) == NULL || algorithm == NULL || result == NULL)
        return lt_leave(lt_refuse(LT_INVALID_VALUE, call, "arguments"));
    int status = read_problem(desc, a, b, c, d, &w, call);
    if (status == LT_SUCCESS) status = check_algorithm(algorithm, &w, call);
    if (status == LT_SUCCESS) {
        memset(result, 0, sizeof *result);
        result->algorithm = *algorithm;
        result->workspace_bytes = w.split > 1 ? (size_t)(w.m * w.n * 4 * (uint64_t)w.split) : 0;
        result->waves = 1.0f;
    }
    return lt_leave(status);
}

/* The elements from the first to the last of a column-major matrix, all batches. */
static uint64_t extent(uint64_t rows, uint64_t columns, int64_t ld, int64_t stride, int32_t batch)
{
    return (uint64_t)(batch - 1) * (uint64_t)(stride < 0 ? 0 : stride) +
           (columns - 1) * (uint64_t)ld + rows;
}

LT_CALL(cublasLtMatmul, void *handle, void *desc, const void *alpha, const void *a, void *a_layout,
        const void *b, void *b_layout, const void *beta, const void *c, void *c_layout, void *d,
        void *d_layout, const lt_algorithm *algorithm, void *workspace, size_t workspace_bytes,
        abi_stream stream)
{
    static const char call[] = "cublasLtMatmul";
    if (driver_enter(NEED_CONTEXT) != ABI_SUCCESS) return LT_EXECUTION_FAILED;
    struct matmul_op w;
    stream_object *s = stream_of(stream);
    if (lt_find(handle, LT_HANDLE) == NULL || alpha == NULL || beta == NULL || s == NULL)
        return lt_leave(lt_refuse(LT_INVALID_VALUE, call, "arguments"));
    int status = read_problem(desc, a_layout, b_layout, c_layout, d_layout, &w, call);
    uint32_t alignment[4] = {16, 16, 16, 16};
    if (status == LT_SUCCESS && algorithm != NULL) {
        status = check_algorithm(algorithm, &w, call);
        for (int i = 0; i < 4; i++)
            alignment[i] = (uint32_t)(algorithm->data[DATA_ALIGNMENT] >> (16 * i)) & 0xffff;
    }
    if (status != LT_SUCCESS) return lt_leave(status);
    memcpy(&w.alpha, alpha, 4);
    memcpy(&w.beta, beta, 4);
    w.a = (uint64_t)(uintptr_t)a;
    w.b = (uint64_t)(uintptr_t)b;
    w.c = (uint64_t)(uintptr_t)c;
    w.d = (uint64_t)(uintptr_t)d;
    const device *memory = &emu_driver.memory;
    const uint64_t pointers[4] = {w.a, w.b, w.beta != 0 ? w.c : w.d, w.d};
    const uint64_t bytes[4] = {
        type_bytes_of(w.type) * extent(w.transpose_a ? w.k : w.m, w.transpose_a ? w.m : w.k, w.lda,
                                       w.stride_a, w.batch),
        type_bytes_of(w.type) * extent(w.transpose_b ? w.n : w.k, w.transpose_b ? w.k : w.n, w.ldb,
                                       w.stride_b, w.batch),
        type_bytes_of(w.type_c) * extent(w.m, w.n, w.ldc, w.stride_c, w.batch),
        type_bytes_of(w.type_d) * extent(w.m, w.n, w.ldd, w.stride_d, w.batch)};
    for (int i = 0; i < 4; i++) {
        if (i == 2 && w.beta == 0) continue;
        if (!window_holds(memory, pointers[i], bytes[i]))
            return lt_leave(lt_refuse(LT_INVALID_VALUE, call, "a matrix is not in device memory"));
        if (alignment[i] && pointers[i] % alignment[i] != 0)
            return lt_leave(lt_refuse(LT_INVALID_VALUE, call,
                                      "a pointer is less aligned than the preference promised"));
    }
    if (w.epilogue != LT_EPILOGUE_DEFAULT &&
        (w.bias % type_bytes_of(w.type_d) != 0 ||
         !window_holds(memory, w.bias, w.m * type_bytes_of(w.type_d))))
        return lt_leave(lt_refuse(LT_INVALID_VALUE, call, "the bias is not in device memory"));
    uint64_t needed = w.split > 1 ? w.m * w.n * 4 * (uint64_t)w.split : 0;
    if (w.kind == EMU_LT_WANTS_MORE) needed += 1024;
    if (workspace_bytes < needed ||
        (needed && !window_holds(memory, (uint64_t)(uintptr_t)workspace, needed)))
        return lt_leave(lt_refuse(LT_INVALID_VALUE, call, "the workspace is too small"));
    op work = {.kind = OP_MATMUL, .matmul = matmul_copy(&w)};
    if (work.matmul == NULL) return lt_leave(LT_ALLOC_FAILED);
    return lt_leave(stream_enqueue(s, &work) == ABI_SUCCESS ? LT_SUCCESS : LT_EXECUTION_FAILED);
}

/* ---- the work ---------------------------------------------------------------------------------
 */

struct matmul_op *matmul_copy(const struct matmul_op *from)
{
    struct matmul_op *copy = mem_alloc(sizeof *copy);
    if (copy != NULL) *copy = *from;
    return copy;
}

void matmul_free(struct matmul_op *work)
{
    mem_free(work);
}

static float read_element(const uint8_t *at, uint32_t type)
{
    if (type == LT_R_32F) {
        float value;
        memcpy(&value, at, 4);
        return value;
    }
    uint16_t bits;
    memcpy(&bits, at, 2);
    return type == LT_R_16F ? half_to_float(bits) : bf16_to_float(bits);
}

static void write_element(uint8_t *at, uint32_t type, float value)
{
    if (type == LT_R_32F) {
        memcpy(at, &value, 4);
        return;
    }
    uint16_t bits = type == LT_R_16F ? float_to_half(value) : float_to_bf16(value);
    memcpy(at, &bits, 2);
}

static int all_written(const device *d, uint64_t address, uint64_t bytes)
{
    const uint8_t *state = window_shadow(d, address);
    for (uint64_t i = 0; i < bytes; i++)
        if (state[i] != SHADOW_WRITTEN) return 0;
    return 1;
}

/* Row r of the packed operand: its k elements as floats; reports when some are unwritten. */
static int pack_row(const struct matmul_op *w, float *out, uint64_t base, int contiguous,
                    int64_t ld, uint64_t r)
{
    const device *d = &emu_driver.memory;
    int written = 1;
    if (contiguous) {
        uint64_t at = base + 2 * r * (uint64_t)ld;
        written = all_written(d, at, 2 * w->k);
        const uint8_t *from = window_bytes(d, at);
        for (uint64_t k = 0; k < w->k; k++) out[k] = read_element(from + 2 * k, w->type);
    } else {
        for (uint64_t k = 0; k < w->k; k++) {
            uint64_t at = base + 2 * (r + k * (uint64_t)ld);
            written &= all_written(d, at, 2);
            out[k] = read_element(window_bytes(d, at), w->type);
        }
    }
    return written;
}

static float gelu_tanh(float x)
{
    return 0.5f * x * (1.0f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
}

static void report_unwritten(const char *which)
{
    emu_report found;
    memset(&found, 0, sizeof found);
    found.check = EMU_CHECK_GLOBAL_INIT;
    found.other_thread = UINT32_MAX;
    snprintf(found.kernel, sizeof found.kernel, "cublasLtMatmul");
    snprintf(found.text, sizeof found.text,
             "global-init: cublasLtMatmul reads elements of %s that nothing has written", which);
    reporter_add(&emu_driver.reports, &found);
}

/* The sums of column j .. j + 3 in the order that the planted kinds have. */
static void sum_otherwise(const struct matmul_op *w, float sums[4], const float *a, const float *b,
                          size_t stride, uint64_t j)
{
    for (uint64_t e = 0; e < 4; e++) {
        const float *column = b + (j + e) * stride;
        float sum = 0;
        if (w->kind == EMU_LT_LIKE_MMA) {
            for (size_t k = 0; k < stride; k += 8) {
                double eight = 0; /* exec_mma.c: exact, then rounded once */
                for (size_t i = k; i < k + 8; i++) eight += (double)a[i] * (double)column[i];
                sum = (float)((double)sum + eight);
            }
        } else {
            for (size_t k = stride; k-- > 0;) sum += a[k] * column[k];
        }
        sums[e] = sum;
    }
}

static int is_planted(const struct matmul_op *w, uint64_t j)
{
    return w->kind == EMU_LT_LIKE_MMA || (w->kind == EMU_LT_ROW_DEPENDENT && j / 64 % 2 == 1) ||
           (w->kind == EMU_LT_SIZE_DEPENDENT && w->n >= 1024);
}

/* One batch. a: [m][stride], b: [n4][stride] packed, n4 = n rounded up to 4. */
static void multiply(const struct matmul_op *w, const float *a, const float *b, size_t stride,
                     uint64_t c, uint64_t d, uint64_t bias)
{
    const device *memory = &emu_driver.memory;
    dot_function dot = ops_dot();
    size_t parts = (size_t)w->split,
           part = (stride / DOT_MULTIPLE + parts - 1) / parts * DOT_MULTIPLE;
    uint64_t bytes_c = type_bytes_of(w->type_c), bytes_d = type_bytes_of(w->type_d);
    for (uint64_t j = 0; j < w->n; j += 4)
        for (uint64_t i = 0; i < w->m; i++) {
            float sums[4] = {0};
            if (is_planted(w, j)) sum_otherwise(w, sums, a + i * stride, b, stride, j);
            for (size_t k = 0; k < stride && !is_planted(w, j); k += part) {
                float more[4];
                dot(more, a + i * stride + k, b + j * stride + k, stride,
                    stride - k < part ? stride - k : part);
                for (int e = 0; e < 4; e++) sums[e] += more[e];
            }
            for (uint64_t e = 0; e < 4 && j + e < w->n; e++) {
                float value = w->alpha * sums[e];
                if (w->beta != 0)
                    value +=
                        w->beta *
                        read_element(
                            window_bytes(memory, c + bytes_c * (i + (j + e) * (uint64_t)w->ldc)),
                            w->type_c);
                if (w->epilogue != LT_EPILOGUE_DEFAULT)
                    value += read_element(window_bytes(memory, bias + bytes_d * i), w->type_d);
                if (w->epilogue == LT_EPILOGUE_GELU_BIAS) value = gelu_tanh(value);
                uint64_t at = d + bytes_d * (i + (j + e) * (uint64_t)w->ldd);
                write_element(window_bytes(memory, at), w->type_d, value);
                memset(window_shadow(memory, at), SHADOW_WRITTEN, bytes_d);
            }
        }
}

abi_result matmul_run(const struct matmul_op *w)
{
    driver *state = &emu_driver;
    size_t stride = (w->k + DOT_MULTIPLE - 1) / DOT_MULTIPLE * DOT_MULTIPLE;
    uint64_t n4 = (w->n + 3) / 4 * 4;
    float *a = mem_zero(w->m * stride, sizeof *a), *b = mem_zero(n4 * stride, sizeof *b);
    abi_result result = ABI_SUCCESS;
    int64_t start = clock_ns();
    if (a == NULL || b == NULL) result = ABI_ERROR_OUT_OF_MEMORY;
    for (int32_t batch = 0; batch < w->batch && result == ABI_SUCCESS; batch++) {
        uint64_t at_a = w->a + 2 * (uint64_t)(batch * w->stride_a);
        uint64_t at_b = w->b + 2 * (uint64_t)(batch * w->stride_b);
        int a_written = 1, b_written = 1;
        for (uint64_t i = 0; i < w->m; i++)
            a_written &= pack_row(w, a + i * stride, at_a, w->transpose_a, w->lda, i);
        for (uint64_t j = 0; j < w->n; j++)
            b_written &= pack_row(w, b + j * stride, at_b, !w->transpose_b, w->ldb, j);
        if ((!a_written || !b_written) && (state->options.checks & EMU_CHECK_GLOBAL_INIT)) {
            report_unwritten(a_written ? "B" : "A");
            if (!state->options.tolerant) result = ABI_ERROR_LAUNCH_FAILED;
        }
        multiply(w, a, b, stride, w->c + type_bytes_of(w->type_c) * (uint64_t)(batch * w->stride_c),
                 w->d + type_bytes_of(w->type_d) * (uint64_t)(batch * w->stride_d),
                 w->bias + type_bytes_of(w->type_d) * (uint64_t)(batch * w->bias_stride));
    }
    mem_free(a);
    mem_free(b);
    counters_add_matmul(2 * w->m * w->n * w->k * (uint64_t)w->batch, clock_ns() - start);
    return result;
}
