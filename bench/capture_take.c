/* From texts to a capture: the session plans them as it would score them, the largest batch of the
 * plan is kept, and the forward pass, run dry over it, says what ops it is made of. */
#include <stdlib.h>
#include <string.h>

#include "bench/capture.h"
#include "runtime/session.h"

static void take_attention(bench_case *o, const ops_attention *a)
{
    o->heads = a->n_heads;
    o->k = a->head_width;
    o->window = a->window;
    if (a->distance_bias != NULL) o->distance_span = a->distance_span;
    if (a->rope.cos != NULL) o->positions = a->rope.positions;
    if (a->relative.index == NULL) return;
    o->relative_span = a->relative.span;
    o->relative_buckets = a->relative.n_buckets;
    if (a->relative.key != NULL) o->relative_terms |= BENCH_RELATIVE_KEY;
    if (a->relative.query != NULL) o->relative_terms |= BENCH_RELATIVE_QUERY;
}

static bench_case case_of(const capture *c, const ops_call *call)
{
    bench_case o = {.op = call->kind};
    if (call->out != NULL) {
        o.k = call->out->cols;
        o.uses = call->out->uses;
    } else {
        o.k = call->x->cols;
    }
    if (call->norm != NULL) o.norm = call->norm->kind;
    if (call->kind == OPS_KIND_GATHER_AROUND) {
        o.k = call->x->cols;
        o.n = call->out->cols / o.k;
    }
    if (call->linear != NULL) {
        o.n = call->linear->n;
        o.k = call->linear->k;
        o.gated = call->linear->gated;
    }
    o.act = call->activation;
    o.keeps_sum = call->keeps_sum;
    o.pool = call->pool;
    o.plain_vectors = call->kind == OPS_KIND_VECTORS && !call->normalize;
    if (call->attention != NULL) take_attention(&o, call->attention);
    if (call->fold != NULL) o.d = call->fold->d;
    if (call->embedding != NULL) {
        const ops_embedding *e = call->embedding;
        /* A batch touches no more rows than it has tokens. */
        int32_t most = c->n_tokens > BENCH_TABLE_ROWS ? c->n_tokens : BENCH_TABLE_ROWS;
        o.table_rows = e->word.rows < most ? e->word.rows : most;
        o.tables = BENCH_WORDS | (e->type.data != NULL ? BENCH_TYPES : 0) |
                   (e->position.data != NULL ? BENCH_POSITIONS : 0);
        o.norm = e->norm.kind;
    }
    if (call->head != NULL) {
        o.n = call->head->labels;
        o.act = call->head->activation;
        o.norm = call->head->norm.kind;
        o.plain_head = call->head->dense == NULL;
        if (!o.plain_head) o.d = call->head->d_dense;
    }
    return o;
}

static void record(void *user, const ops_call *call)
{
    capture *c = user;
    bench_case o = case_of(c, call);
    if (capture_takes_first_rows(call->kind)) {
        int32_t rows = call->out != NULL ? call->out->rows : call->x->rows;
        o.first_rows = rows != c->n_tokens;
        if (o.first_rows && rows != c->n_sequences) c->stray_rows = rows;
    }
    for (size_t i = 0; i < c->n_ops; i++) {
        if (!capture_same_op(&c->ops[i].c, &o)) continue;
        c->ops[i].count++;
        return;
    }
    c->ops = cli_append(c->ops, c->n_ops, &c->ops_capacity, sizeof *c->ops);
    c->ops[c->n_ops++] = (capture_op){o, 1};
}

static crank_status take_ops(capture *c, const crank_session *s, crank_error *error)
{
    int32_t *starts = cli_alloc((size_t)c->n_sequences + 1, sizeof *starts);
    starts[0] = 0;
    for (int32_t b = 0; b < c->n_sequences; b++) starts[b + 1] = starts[b] + c->lengths[b];
    ops_batch batch = {.n_sequences = c->n_sequences,
                       .n_tokens = c->n_tokens,
                       .max_tokens = c->longest,
                       .starts = starts,
                       .key_counts = c->key_counts};
    ops_recorder recorder = {record, c};
    ops_context dry = {.recorder = &recorder};
    c->n_ops = 0;
    c->stray_rows = 0;
    crank_status status = session_run_dry(s, &dry, &batch, error);
    free(starts);
    CRANK_TRY(status);
    CRANK_CHECK(c->stray_rows == 0, UNSUPPORTED, error,
                "an op has %d rows, neither one a token nor one a sequence", c->stray_rows);
    return CRANK_OK;
}

/* The largest batch of a plan, if it is larger than what c has: its lengths and its ops. */
static crank_status take_plan(capture *c, const crank_session *s, const session_plan *plan,
                              crank_error *error)
{
    const pack_batch *largest = NULL;
    for (size_t i = 0; i < plan->n_batches; i++) {
        const pack_batch *b = &plan->batches[i];
        if (b->n_tokens > (largest != NULL ? largest->n_tokens : c->n_tokens)) {
            largest = b;
            c->batch = c->n_batches + (int32_t)i + 1;
        }
    }
    c->n_batches += (int32_t)plan->n_batches;
    if (largest == NULL) return CRANK_OK;
    const crank_model *m = s->model;
    crank_model_info info = {.size = sizeof info};
    CRANK_TRY(crank_model_describe(m, &info, error));
    size_t n = (size_t)largest->n_sequences;
    c->n_sequences = largest->n_sequences;
    c->n_tokens = largest->n_tokens;
    c->longest = largest->max_tokens;
    c->dtype = m->dtype;
    c->lengths = cli_grow(c->lengths, n, sizeof *c->lengths);
    if (m->late.present) c->key_counts = cli_grow(c->key_counts, n, sizeof *c->key_counts);
    for (size_t b = 0; b < n; b++) {
        const pack_sequence *sequence = &plan->sequences[plan->order[largest->first + b]];
        c->lengths[b] = sequence->length;
        if (c->key_counts != NULL)
            c->key_counts[b] = sequence->n_keys > 0 ? sequence->n_keys : sequence->length;
    }
    if (c->model == NULL) {
        c->model = cli_copy(info.name, strlen(info.name));
        c->architecture = cli_copy(info.architecture, strlen(info.architecture));
        c->device = cli_copy(info.device, strlen(info.device));
    }
    return take_ops(c, s, error);
}

static void planned(void *user, const crank_session *s, const session_plan *plan)
{
    capture_watch *w = user;
    if (w->status == CRANK_OK) w->status = take_plan(w->c, s, plan, &w->error);
}

void capture_start(capture_watch *watch, capture *c, crank_session *session)
{
    *watch = (capture_watch){.c = c, .session = session};
    watch->observer = cli_alloc(1, sizeof *watch->observer);
    *watch->observer = (session_observer){planned, watch};
    session->observer = watch->observer;
}

crank_status capture_stop(capture_watch *watch, crank_error *error)
{
    watch->session->observer = NULL;
    free(watch->observer);
    if (watch->status != CRANK_OK && error != NULL) *error = watch->error;
    return watch->status;
}
