#include "runtime/session.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/cache.h"
#include "runtime/reader.h"

/* Budgets when the caller names none. A CPU thread carries one long sequence or a few short ones
 * through all layers, small enough for its activations to stay in L2; a GPU wants thousands of
 * tokens, few enough for a layer's activations to stay in its L2. */
#define CPU_BATCH_TOKENS 128
#define GPU_BATCH_TOKENS 5120
#define MIN_BATCH_TOKENS 16
#define MAX_BATCH_TOKENS (1 << 20)
/* Sequences of a micro-batch: bounds what head rows and row starts need. */
#define CPU_MAX_SEQUENCES 32
#define GPU_MAX_SEQUENCES 1024
/* What a session is ready for before it has seen a text; longer ones make it grow once. */
#define RESERVED_LONGEST 512

crank_status growable_reserve(growable *g, size_t count, size_t size, crank_error *error)
{
    size_t bytes;
    bool overflow = __builtin_mul_overflow(count, size, &bytes);
    if (!overflow && bytes <= g->bytes) return CRANK_OK;
    size_t grown = bytes + bytes / 2;
    void *data = overflow || grown < bytes ? NULL : mem_alloc_aligned(grown);
    CRANK_CHECK(data != NULL, OUT_OF_MEMORY, error, "no memory for %zu items of %zu bytes", count,
                size);
    mem_free_aligned(g->data);
    g->data = data;
    g->bytes = grown;
    return CRANK_OK;
}

static void growable_free(growable *g)
{
    mem_free_aligned(g->data);
    *g = (growable){0};
}

/* ---- teams ---- */

crank_status crank_team_open(crank_team **out, int n_threads, int pin, crank_error *error)
{
    CRANK_CHECK(out != NULL, INVALID_ARGUMENT, error, "crank_team_open: team must not be NULL");
    *out = NULL;
    crank_team *t = mem_zero(1, sizeof *t);
    CRANK_CHECK(t != NULL, OUT_OF_MEMORY, error, "no memory for a team of threads");
    crank_status status = team_open(&t->threads, n_threads, pin, error);
    if (status != CRANK_OK) {
        mem_free(t);
        return status;
    }
    *out = t;
    return CRANK_OK;
}

void crank_team_close(crank_team *t)
{
    if (t == NULL) return;
    team_close(t->threads);
    mem_free(t);
}

/* ---- workspaces ---- */

static int32_t max_sequences(const crank_session *s)
{
    return s->model->backend->splits_batches ? CPU_MAX_SEQUENCES : GPU_MAX_SEQUENCES;
}

crank_status session_run_dry(const crank_session *s, ops_context *ctx, const ops_batch *batch,
                             crank_error *error)
{
    ctx->backend = s->model->backend;
    ctx->device = s->model->device;
    ctx->dtype = s->model->dtype;
    ctx->dry = true;
    ops_begin(ctx, batch);
    model_forward(s->model, ctx, NULL);
    return ops_end(ctx, error);
}

/* The forward pass itself, run dry, says what it needs: the largest micro-batch is one sequence of
 * `longest` tokens, or the budget's worth of tokens in the most sequences allowed. */
static crank_status measure(const crank_session *s, int32_t n_tokens, int32_t longest,
                            const ops_tracer *tracer, team *threads, int32_t *starts, size_t *bytes,
                            crank_error *error)
{
    int32_t n = max_sequences(s);
    if (n > n_tokens) n = n_tokens;
    starts[0] = 0;
    for (int32_t b = 1; b <= n; b++) {
        int32_t end = longest + b - 1;
        starts[b] = b == n || end > n_tokens ? n_tokens : end;
    }
    ops_context dry = {.team = threads, .tracer = tracer};
    ops_batch batch = {
        .n_sequences = n, .n_tokens = n_tokens, .max_tokens = longest, .starts = starts};
    CRANK_TRY(session_run_dry(s, &dry, &batch, error));
    *bytes = dry.workspace.peak;
    return CRANK_OK;
}

static void close_context(worker *w)
{
    if (w->context.backend != NULL) w->context.backend->context_close(&w->context);
    w->context = (ops_context){0};
}

static crank_status open_context(crank_session *s, worker *w, size_t bytes, int32_t n_tokens,
                                 crank_error *error)
{
    close_context(w);
    const crank_model *m = s->model;
    w->context = (ops_context){.backend = m->backend, .device = m->device, .dtype = m->dtype};
    crank_status status = m->backend->context_open(&w->context, bytes, error);
    if (status != CRANK_OK) {
        w->context = (ops_context){0};
        return status;
    }
    size_t n = (size_t)n_tokens;
    CRANK_TRY(growable_reserve(&w->array_memory, 5 * n + 1, sizeof(int32_t), error));
    int32_t *at = w->array_memory.data;
    w->arrays = (pack_arrays){at, at + n, at + 2 * n, at + 3 * n, at + 4 * n + 1};
    return CRANK_OK;
}

crank_status session_reserve(crank_session *s, int32_t longest, const ops_tracer *tracer,
                             crank_error *error)
{
    int32_t most = s->model->tokens.max_tokens;
    if (longest > most) longest = most;
    if (longest <= s->reserved_longest && tracer == NULL) return CRANK_OK;
    if (longest < s->reserved_longest) longest = s->reserved_longest;
    int32_t n_tokens = longest > s->batch_tokens ? longest : s->batch_tokens;
    int32_t *starts = mem_array((size_t)max_sequences(s) + 1, sizeof *starts);
    CRANK_CHECK(starts != NULL, OUT_OF_MEMORY, error, "no memory");
    size_t alone = 0, split = 0;
    crank_status status = measure(s, n_tokens, longest, tracer, NULL, starts, &alone, error);
    if (status == CRANK_OK) {
        status = measure(s, n_tokens, longest, tracer, s->threads, starts, &split, error);
    }
    mem_free(starts);
    CRANK_TRY(status);
    for (int i = 0; i < s->n_contexts; i++) {
        /* Only the caller's context ever splits its rows over the team. */
        size_t bytes = i == 0 && split > alone ? split : alone;
        s->reserved_longest = 0;
        CRANK_TRY(open_context(s, &s->workers[i], bytes, n_tokens, error));
    }
    s->reserved_longest = longest;
    s->reserved_tokens = n_tokens;
    return CRANK_OK;
}

/* ---- running ---- */

typedef struct run {
    crank_session *s;
    const pack_sequence *sequences;
    const uint32_t *order;
    const pack_batch *batches;
    size_t n_batches, n_sequences;
    float *outputs;
    const size_t *token_rows; /* READOUT_TOKENS: where each sequence's rows start; else NULL */
    crank_progress progress;
    void *progress_user;
    atomic_size_t next, sequences_done;
    atomic_int stop;
    pthread_mutex_t lock; /* guards status and error */
    crank_status status;
    crank_error error;
} run;

static void stop_run(run *r, crank_status status, const crank_error *error)
{
    pthread_mutex_lock(&r->lock);
    if (r->status == CRANK_OK) {
        r->status = status;
        if (error != NULL) r->error = *error;
    }
    pthread_mutex_unlock(&r->lock);
    atomic_store(&r->stop, 1);
}

/* Rows go back to the caller's order; a score that is not finite names its sequence. */
static crank_status scatter(run *r, const pack_batch *batch, const float *rows, crank_error *error)
{
    int32_t width = r->s->model->readout.width;
    for (int32_t b = 0; b < batch->n_sequences; b++) {
        size_t sequence = r->order[batch->first + (uint32_t)b];
        size_t n_rows = 1, to = sequence;
        if (r->token_rows != NULL) {
            n_rows = (size_t)r->sequences[sequence].length;
            to = r->token_rows[sequence];
        }
        size_t values = n_rows * (size_t)width;
        size_t finite = dtype_finite_prefix(rows, values);
        CRANK_CHECK(finite == values, NUMERIC, error, "pair %u: the model's output is not finite",
                    r->sequences[sequence].label);
        memcpy(r->outputs + to * (size_t)width, rows, values * sizeof *rows);
        rows += values;
    }
    return CRANK_OK;
}

static void run_batch(run *r, worker *w, const pack_batch *batch)
{
    crank_session *s = r->s;
    const crank_model *m = s->model;
    crank_error error = {0};
    pack_fill(&w->arrays, batch, r->order, r->sequences, m->tok, &m->tokens);
    ops_batch packed = {.n_sequences = batch->n_sequences,
                        .n_tokens = batch->n_tokens,
                        .max_tokens = batch->max_tokens,
                        .ids = w->arrays.ids,
                        .types = w->arrays.types,
                        .positions = w->arrays.positions,
                        .starts = w->arrays.starts};
    if (m->late.present) packed.key_counts = w->arrays.key_counts;
    ops_begin(&w->context, &packed);
    model_forward(m, &w->context, w->rows.data);
    crank_status status = ops_end(&w->context, &error);
    if (status == CRANK_OK) status = scatter(r, batch, w->rows.data, &error);
    if (status != CRANK_OK) stop_run(r, status, &error);
    atomic_fetch_add(&r->sequences_done, (size_t)batch->n_sequences);
}

static void run_batches(void *context, int number, int n_workers)
{
    (void)n_workers;
    run *r = context;
    while (!atomic_load(&r->stop)) {
        size_t i = atomic_fetch_add(&r->next, 1);
        if (i >= r->n_batches) break;
        run_batch(r, &r->s->workers[number], &r->batches[i]);
        if (number == 0 && r->progress != NULL &&
            r->progress(r->progress_user, atomic_load(&r->sequences_done), r->n_sequences)) {
            crank_error error;
            status_fail(&error, CRANK_CANCELLED, "cancelled after %zu of %zu pairs",
                        atomic_load(&r->sequences_done), r->n_sequences);
            stop_run(r, CRANK_CANCELLED, &error);
        }
    }
}

static crank_status reserve_run(crank_session *s, const pack_sequence *sequences, size_t n,
                                int32_t *longest, crank_error *error)
{
    CRANK_CHECK(n < UINT32_MAX / 2, LIMIT, error, "%zu sequences in one call, expected fewer", n);
    CRANK_TRY(growable_reserve(&s->lengths, n, sizeof(int32_t), error));
    CRANK_TRY(growable_reserve(&s->order, n, sizeof(uint32_t), error));
    CRANK_TRY(growable_reserve(&s->batches, n, sizeof(pack_batch), error));
    int32_t *lengths = s->lengths.data;
    *longest = 0;
    for (size_t i = 0; i < n; i++) {
        lengths[i] = sequences[i].length;
        if (lengths[i] > *longest) *longest = lengths[i];
    }
    CRANK_TRY(growable_reserve(&s->counts, (size_t)*longest + 2, sizeof(uint32_t), error));
    CRANK_TRY(session_reserve(s, *longest, NULL, error));
    bool tokens = s->model->readout.kind == READOUT_TOKENS;
    size_t rows = (size_t)(tokens ? s->reserved_tokens : max_sequences(s));
    for (int i = 0; i < s->n_contexts; i++) {
        CRANK_TRY(growable_reserve(&s->workers[i].rows, rows,
                                   sizeof(float) * (size_t)s->model->readout.width, error));
    }
    if (!tokens) return CRANK_OK;
    CRANK_TRY(growable_reserve(&s->token_rows, n, sizeof(size_t), error));
    size_t *at = s->token_rows.data, total = 0;
    for (size_t i = 0; i < n; i++) {
        at[i] = total;
        total += (size_t)lengths[i];
    }
    return CRANK_OK;
}

crank_status session_run(crank_session *s, const pack_sequence *sequences, size_t n, float *outputs,
                         crank_progress progress, void *progress_user, crank_error *error)
{
    if (n == 0) return CRANK_OK;
    int32_t longest;
    CRANK_TRY(reserve_run(s, sequences, n, &longest, error));
    run r = {.s = s,
             .sequences = sequences,
             .order = s->order.data,
             .batches = s->batches.data,
             .n_sequences = n,
             .outputs = outputs,
             .progress = progress,
             .progress_user = progress_user};
    if (s->model->readout.kind == READOUT_TOKENS) r.token_rows = s->token_rows.data;
    r.n_batches = pack_plan(s->order.data, s->batches.data, s->counts.data, s->lengths.data, n,
                            s->batch_tokens, max_sequences(s));
    if (s->observer != NULL) {
        session_plan plan = {sequences, r.order, r.batches, r.n_batches};
        s->observer->planned(s->observer->user, s, &plan);
        size_t rows = 0;
        for (size_t i = 0; i < n; i++)
            rows += r.token_rows != NULL ? (size_t)sequences[i].length : 1;
        memset(outputs, 0, rows * (size_t)s->model->readout.width * sizeof *outputs);
        return CRANK_OK;
    }
    pthread_mutex_init(&r.lock, NULL);
    ops_context *first = &s->workers[0].context;
    size_t n_batches = r.n_batches;
    r.n_batches = pack_side_by_side(s->batches.data, n_batches, s->loads, s->n_contexts);
    first->team = NULL;
    if (s->n_contexts > 1 && r.n_batches > 0) {
        team_run(s->threads, run_batches, &r);
        atomic_store(&r.next, r.n_batches); /* each worker looked once past the end */
    }
    /* The last ones, or all when there are too few to go round: one at a time, split by rows over
     * the team. The bits are the same either way. */
    r.n_batches = n_batches;
    if (s->model->backend->splits_batches) first->team = s->threads;
    run_batches(&r, 0, 1);
    pthread_mutex_destroy(&r.lock);
    if (r.status != CRANK_OK && error != NULL) *error = r.error;
    return r.status;
}

/* ---- open and close ---- */

crank_status crank_session_open(crank_session **session, const crank_model *model,
                                const crank_session_options *options, crank_error *error)
{
    CRANK_CHECK(session != NULL && model != NULL, INVALID_ARGUMENT, error,
                "crank_session_open: session and model must not be NULL");
    *session = NULL;
    crank_session_options settings;
    CRANK_TRY(options_read(&settings, sizeof settings, options, "crank_session_options", error));
    CRANK_CHECK(settings.batch_tokens == 0 || (settings.batch_tokens >= MIN_BATCH_TOKENS &&
                                               settings.batch_tokens <= MAX_BATCH_TOKENS),
                INVALID_ARGUMENT, error, "batch_tokens: expected 0 or %d to %d, found %zu",
                MIN_BATCH_TOKENS, MAX_BATCH_TOKENS, settings.batch_tokens);
    crank_session *s = mem_zero(1, sizeof *s);
    CRANK_CHECK(s != NULL, OUT_OF_MEMORY, error, "no memory for a session");
    crank_status status;
    s->model = model;
    s->batch_tokens = model->backend->splits_batches ? CPU_BATCH_TOKENS : GPU_BATCH_TOKENS;
    if (model->backend->splits_batches && model->cpu_batch_tokens > 0) {
        s->batch_tokens = model->cpu_batch_tokens;
    }
    if (settings.batch_tokens != 0) s->batch_tokens = (int32_t)settings.batch_tokens;
    if (settings.team != NULL) {
        s->threads = settings.team->threads;
    } else {
        CRANK_TRY_GOTO(team_open(&s->owned_threads, settings.n_threads, settings.pin, error));
        s->threads = s->owned_threads;
    }
    s->n_workers = team_size(s->threads);
    s->n_contexts = model->backend->splits_batches ? s->n_workers : 1;
    s->workers = mem_zero((size_t)s->n_workers, sizeof *s->workers);
    CRANK_CHECK_GOTO(s->workers != NULL, OUT_OF_MEMORY, error, "no memory for %d workers",
                     s->n_workers);
    s->loads = mem_array((size_t)s->n_contexts, sizeof *s->loads);
    CRANK_CHECK_GOTO(s->loads != NULL, OUT_OF_MEMORY, error, "no memory for %d workers",
                     s->n_contexts);
    for (int i = 0; i < s->n_workers; i++) {
        CRANK_TRY_GOTO(tok_scratch_open(&s->workers[i].scratch, error));
    }
    int32_t longest = RESERVED_LONGEST;
    if (model->max_length < (size_t)longest) longest = (int32_t)model->max_length;
    CRANK_TRY_GOTO(session_reserve(s, longest, NULL, error));
    s->cache = settings.cache;
    if (s->cache != NULL) cache_model_digest(model, s->cache_seed);
    *session = s;
    s = NULL;
out:
    crank_session_close(s);
    return status;
}

void crank_session_close(crank_session *s)
{
    if (s == NULL) return;
    for (int i = 0; s->workers != NULL && i < s->n_workers; i++) {
        worker *w = &s->workers[i];
        close_context(w);
        tok_scratch_close(w->scratch);
        tok_ids_free(&w->ids);
        growable_free(&w->array_memory);
        growable_free(&w->rows);
    }
    mem_free(s->workers);
    mem_free(s->loads);
    team_close(s->owned_threads);
    growable *arrays[] = {&s->texts,   &s->units,      &s->sequences, &s->lengths,
                          &s->order,   &s->batches,    &s->counts,    &s->table,
                          &s->outputs, &s->token_rows, &s->prompted,  &s->results};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) growable_free(arrays[i]);
    mem_free(s);
}
