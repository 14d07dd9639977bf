#include "kernels/cuda/matmul.h"

#include <stdio.h>
#include <string.h>

#include "kernels/cuda/context.h"
#include "memory.h"
#include "weights/dtype.h"

/* ---- rows --------------------------------------------------------------------------------------
 */

/* cuBLASLt is told the number of rows by the host and computes all of them: a whole bucket would be
 * up to half as much again as there are. Finer steps cost graphs (one for each number). */
int32_t matmul_rows(int32_t rows)
{
    if (rows <= MATMUL_FROM_ROWS) return cuda_bucket(rows);
    return (rows + MATMUL_STEP - 1) / MATMUL_STEP * MATMUL_STEP;
}

int32_t matmul_piece(int32_t all, int32_t left)
{
    if (all <= MATMUL_MOST_ROWS) return left;
    int32_t calls = (all + MATMUL_MOST_ROWS - 1) / MATMUL_MOST_ROWS;
    int32_t steps = (all / MATMUL_STEP + calls - 1) / calls;
    int32_t piece = steps * MATMUL_STEP;
    return piece < left ? piece : left;
}

/* ---- the library -------------------------------------------------------------------------------
 */

matmul_policy matmul_policy_of(const char *forced)
{
    if (forced == NULL || forced[0] == 0) return MATMUL_AUTO;
    return strcmp(forced, "cublaslt") == 0 ? MATMUL_CUBLASLT : MATMUL_OWN;
}

static bool present(matmul_plan *m)
{
    if (!m->opened) {
        crank_error why = {0};
        m->opened = 1;
        if (cublaslt_open(&m->lt, m->path[0] != 0 ? m->path : NULL, &why) != CRANK_OK)
            snprintf(m->missing, sizeof m->missing, "%.*s", (int)sizeof m->missing - 1,
                     why.message);
    }
    return m->lt.handle != NULL;
}

bool cuda_matmul_present(cuda_device *d)
{
    if (cuda_enter(d, NULL) != CRANK_OK) return false;
    pthread_mutex_lock(&d->matmul.lock);
    bool there = present(&d->matmul);
    pthread_mutex_unlock(&d->matmul.lock);
    return there;
}

void cuda_matmul_open(cuda_device *d, const char *forced, const char *path)
{
    matmul_plan *m = &d->matmul;
    m->policy = matmul_policy_of(forced);
    if (path != NULL) snprintf(m->path, sizeof m->path, "%s", path);
    if (m->policy == MATMUL_CUBLASLT) present(m);
}

void cuda_matmul_close(cuda_device *d)
{
    matmul_plan *m = &d->matmul;
    if (m->lt.handle != NULL && cuda_enter(d, NULL) == CRANK_OK) cublaslt_close(&m->lt);
    for (size_t i = 0; i < m->bias_slots; i++)
        cuda_give(d, m->biases[i].address, m->biases[i].bytes);
    mem_free(m->biases);
    m->biases = NULL;
}

/* ---- biases ------------------------------------------------------------------------------------
 */

/* A bias that was forgotten: its slot is passed over until the table is made anew. */
static const char dead;

static matmul_bias *bias_slot(const matmul_plan *m, const void *blob)
{
    size_t at = ((uintptr_t)blob >> 6) * UINT64_C(0x9e3779b97f4a7c15) >> 20;
    while (m->biases[at & (m->bias_slots - 1)].blob != NULL &&
           m->biases[at & (m->bias_slots - 1)].blob != blob)
        at++;
    return &m->biases[at & (m->bias_slots - 1)];
}

/* A table with room for one more; forgotten ones are left behind. */
static crank_status bias_room(matmul_plan *m, crank_error *error)
{
    if (2 * (m->n_biases + 1) <= m->bias_slots) return CRANK_OK;
    matmul_bias *old = m->biases;
    size_t n = m->bias_slots, live = 0, slots = 64;
    for (size_t i = 0; i < n; i++) live += old[i].blob != NULL && old[i].blob != &dead;
    while (slots < 4 * (live + 1)) slots *= 2;
    matmul_bias *table = mem_zero(slots, sizeof *table);
    CRANK_CHECK(table != NULL, OUT_OF_MEMORY, error, "no memory for biases");
    m->biases = table;
    m->bias_slots = slots;
    m->n_biases = live;
    for (size_t i = 0; i < n; i++)
        if (old[i].blob != NULL && old[i].blob != &dead) *bias_slot(m, old[i].blob) = old[i];
    mem_free(old);
    return CRANK_OK;
}

void cuda_matmul_forget(cuda_device *d, const void *block, size_t bytes)
{
    matmul_plan *m = &d->matmul;
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->bias_slots; i++) {
        matmul_bias *b = &m->biases[i];
        if (b->blob == NULL || (uintptr_t)b->blob - (uintptr_t)block >= bytes) continue;
        cuda_give(d, b->address, b->bytes);
        *b = (matmul_bias){.blob = &dead, .exact = 1};
    }
    pthread_mutex_unlock(&m->lock);
}

/* Rounds one bias to 16 bits; the lock is held. */
static crank_status bias_make(cuda_device *d, const matmul_linear *l, crank_error *error)
{
    matmul_plan *m = &d->matmul;
    size_t n = (size_t)l->n;
    if (m->bias_slots > 0 && bias_slot(m, l->blob)->blob != NULL) return CRANK_OK;
    CRANK_TRY(bias_room(m, error));
    matmul_bias made = {.blob = l->blob, .bytes = n * sizeof(uint16_t), .exact = 1};
    float *values = mem_array(n, sizeof *values);
    uint16_t *bits = mem_array(n, sizeof *bits);
    crank_status status = CRANK_OK;
    CRANK_CHECK_GOTO(values != NULL && bits != NULL, OUT_OF_MEMORY, error, "no memory for a bias");
    CRANK_TRY_GOTO(cuda_check(
        d, d->api.copy_to_host(values, (cu_address)(uintptr_t)l->bias, n * sizeof *values),
        "reading a bias", error));
    for (size_t i = 0; i < n; i++) {
        bool bf16 = l->dtype == OPS_BF16;
        bits[i] = bf16 ? dtype_bf16_from_f32(values[i]) : dtype_f16_from_f32(values[i]);
        float back = bf16 ? dtype_f32_from_bf16(bits[i]) : dtype_f32_from_f16(bits[i]);
        if (back != values[i]) made.exact = 0;
    }
    CRANK_TRY_GOTO(cuda_take(d, &made.address, made.bytes, "a bias for cuBLASLt", error));
    status = cuda_check(d, d->api.copy_to_device(made.address, bits, made.bytes),
                        "uploading a bias", error);
    if (status == CRANK_OK)
        status = cuda_check(d, d->api.stream_synchronize(NULL), "uploading a bias", error);
    if (status == CRANK_OK) {
        *bias_slot(m, l->blob) = made;
        m->n_biases++;
    } else {
        cuda_give(d, made.address, made.bytes);
    }
out:
    mem_free(values);
    mem_free(bits);
    return status;
}

/* ---- decisions ---------------------------------------------------------------------------------
 */

/* What AUTO would give to cuBLASLt. An activation behind a GEMM moves 8 bytes more an element than
 * one in its epilogue, which is what the faster GEMM gains at K = 768 and less (predicted); and the
 * tanh of cuBLASLt's own epilogue is not the own one's. */
static bool could_win(matmul_kind kind)
{
    return kind == MATMUL_BIAS || kind == MATMUL_RESIDUAL;
}

static bool considers(const cuda_device *d, const matmul_linear *l, int32_t rows)
{
    switch (d->matmul.policy) {
    case MATMUL_OWN: return false;
    case MATMUL_CUBLASLT: return true;
    case MATMUL_AUTO: break;
    }
    return d->sm >= 90 && could_win(l->kind) && matmul_rows(rows) >= MATMUL_FROM_ROWS;
}

static matmul_shape *shape_find(matmul_plan *m, const matmul_linear *l)
{
    int n = atomic_load_explicit(&m->n_shapes, memory_order_acquire);
    for (int i = 0; i < n; i++) {
        matmul_shape *s = &m->shapes[i];
        if (s->kind == (int32_t)l->kind && s->dtype == (int32_t)l->dtype && s->n == l->n &&
            s->k == l->k)
            return s;
    }
    return NULL;
}

static crank_status plan(cuda_device *d, const matmul_linear *l, crank_error *error)
{
    matmul_plan *m = &d->matmul;
    if (!present(m)) return CRANK_OK;
    matmul_shape *s = shape_find(m, l);
    if (s == NULL) {
        int n = atomic_load(&m->n_shapes);
        if (n == MATMUL_SHAPES) return CRANK_OK; /* no model has as many; the own GEMM is right */
        s = &m->shapes[n];
        *s = (matmul_shape){
            .kind = (int32_t)l->kind, .dtype = (int32_t)l->dtype, .n = l->n, .k = l->k};
        CRANK_TRY(matmul_prove(d, s, m->policy == MATMUL_AUTO, error));
        atomic_store(&s->accepted, s->refused[0] == 0);
        atomic_store_explicit(&m->n_shapes, n + 1, memory_order_release);
    }
    if (!atomic_load(&s->accepted) || l->kind == MATMUL_PLAIN) return CRANK_OK;
    return bias_make(d, l, error);
}

crank_status cuda_matmul_plan(cuda_device *d, const matmul_linear *l, int32_t rows,
                              crank_error *error)
{
    if (!considers(d, l, rows)) return CRANK_OK;
    CRANK_TRY(cuda_enter(d, error));
    pthread_mutex_lock(&d->matmul.lock);
    crank_status status = plan(d, l, error);
    pthread_mutex_unlock(&d->matmul.lock);
    return status;
}

const matmul_shape *cuda_matmul_find(cuda_device *d, const matmul_linear *l, int32_t rows,
                                     cu_address *bias)
{
    matmul_plan *m = &d->matmul;
    *bias = 0;
    if (!considers(d, l, rows)) return NULL;
    const matmul_shape *s = shape_find(m, l);
    if (s == NULL || !atomic_load(&s->accepted)) return NULL;
    if (l->kind == MATMUL_PLAIN) return s;
    pthread_mutex_lock(&m->lock);
    const matmul_bias *b = m->bias_slots > 0 ? bias_slot(m, l->blob) : NULL;
    bool usable = b != NULL && b->blob != NULL && (b->exact || m->policy == MATMUL_CUBLASLT);
    if (usable) *bias = b->address;
    pthread_mutex_unlock(&m->lock);
    return usable ? s : NULL;
}

/* ---- what is said of it ------------------------------------------------------------------------
 */

static const char *const kind_names[MATMUL_N_KINDS] = {
    [MATMUL_BIAS] = "bias",
    [MATMUL_RESIDUAL] = "bias, residual",
    [MATMUL_GELU_TANH] = "bias, tanh-GELU",
    [MATMUL_PLAIN] = "activation",
};

void cuda_matmul_notes(cuda_device *d, char *text, size_t bytes)
{
    matmul_plan *m = &d->matmul;
    text[0] = 0;
    pthread_mutex_lock(&m->lock);
    const char *from = m->policy == MATMUL_AUTO ? " from 2048 rows on" : "";
    int n = atomic_load(&m->n_shapes), accepted = 0, inexact = 0, used = 0;
    const matmul_shape *refused = NULL;
    for (int i = 0; i < n; i++) {
        if (atomic_load(&m->shapes[i].accepted))
            accepted++;
        else if (refused == NULL)
            refused = &m->shapes[i];
    }
    for (size_t i = 0; i < m->bias_slots; i++) inexact += m->biases[i].blob && !m->biases[i].exact;
    if (m->opened && m->lt.handle == NULL)
        used = snprintf(text, bytes, "GEMM: own kernels; cuBLASLt: %s", m->missing);
    else if (n > 0 && accepted == 0)
        used = snprintf(text, bytes, "GEMM: own kernels; not cuBLASLt %d.%d", m->lt.major,
                        m->lt.minor);
    else if (n > 0)
        used = snprintf(text, bytes, "GEMM: cuBLASLt %d.%d for %d of %d shapes%s", m->lt.major,
                        m->lt.minor, accepted, n, from);
    if (used > 0 && (size_t)used < bytes && refused != NULL)
        used += snprintf(text + used, bytes - (size_t)used, "; (%s) %s n %d k %d: %s",
                         kind_names[refused->kind], ops_dtypes[refused->dtype].name, refused->n,
                         refused->k, refused->refused);
    if (used > 0 && (size_t)used < bytes && inexact > 0 && m->policy == MATMUL_AUTO)
        snprintf(text + used, bytes - (size_t)used,
                 "; %d linears have biases that change when rounded to 16 bits", inexact);
    pthread_mutex_unlock(&m->lock);
}
