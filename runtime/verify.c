/* crank_verify: a model's outputs against golden data made by the library that its authors used.
 *
 * golden.safetensors holds padded inputs (input_ids, attention_mask, token_type_ids: [R, C] I32)
 * and outputs (logits or embeddings: [R, W] F32), and hidden states of one row alone (trace.NAME).
 * The golden traces have all rows of a layer; where this engine computes the head's row only, that
 * row is compared. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/reader.h"
#include "runtime/session.h"
#include "weights/config.h"

typedef struct golden_tensor {
    const st_tensor *tensor;
    int32_t *ints; /* I32 tensors */
    float *floats;
    int64_t rows, cols;
} golden_tensor;

typedef struct verification {
    const crank_model *model;
    safetensors *file;
    crank_check_fn report;
    void *user;
    int32_t true_id, false_id; /* of golden.json; -1: none */
    int all_passed;
    char first_stray[64];
    crank_status status; /* of the trace callback */
    crank_error error;
    crank_session *session;
} verification;

static void close_tensor(golden_tensor *t)
{
    mem_free(t->ints);
    mem_free(t->floats);
    *t = (golden_tensor){0};
}

/* Absent: t->tensor NULL and OK. */
static crank_status read_tensor(golden_tensor *t, const safetensors *file, const char *name,
                                crank_error *error)
{
    *t = (golden_tensor){.tensor = safetensors_find(file, name)};
    if (t->tensor == NULL) return CRANK_OK;
    const st_tensor *tensor = t->tensor;
    t->rows = tensor->shape[0];
    t->cols = t->rows > 0 ? tensor->elements / t->rows : 0;
    size_t n = (size_t)tensor->elements;
    if (tensor->type == DTYPE_I32) {
        t->ints = mem_array(n, sizeof *t->ints);
        CRANK_CHECK(t->ints != NULL, OUT_OF_MEMORY, error, "no memory for %s", name);
        return safetensors_read(file, tensor, t->ints, error);
    }
    t->floats = mem_array(n, sizeof *t->floats);
    CRANK_CHECK(t->floats != NULL, OUT_OF_MEMORY, error, "no memory for %s", name);
    return safetensors_read_f32(file, tensor, t->floats, error);
}

static void check(verification *v, const char *name, const float *got, const float *expected,
                  int64_t n, double tolerance)
{
    double worst = 0;
    for (int64_t i = 0; i < n; i++) {
        double difference = fabs((double)got[i] - (double)expected[i]);
        if (!(difference <= worst)) worst = difference; /* a NaN is the worst */
    }
    int passed = worst <= tolerance;
    if (!passed) v->all_passed = 0;
    if (!passed && v->first_stray[0] == '\0' && strncmp(name, "trace.", 6) == 0) {
        snprintf(v->first_stray, sizeof v->first_stray, "%s", name);
    }
    crank_check c = {name, n, worst, tolerance, passed};
    if (v->report != NULL) v->report(v->user, &c);
}

/* What float32 errs by is measured against 2e-5 as it stands for logits; 16- and 8-bit numbers err
 * in proportion to what they hold, and so does every dtype in hidden values: a pre-norm model's
 * residual stream grows from layer to layer. */
static double tolerance_for(const verification *v, bool hidden, const float *expected, int64_t n)
{
    double largest = 1;
    bool relative = hidden || v->model->dtype != OPS_F32;
    if (hidden && v->model->dtype != OPS_F32) largest = 2; /* a projection before its residual */
    for (int64_t i = 0; relative && i < n; i++) largest = fmax(largest, fabs((double)expected[i]));
    return ops_dtypes[v->model->dtype].logit_tolerance * largest;
}

static void compare_trace(void *user, const char *name, const float *rows, int32_t n_rows,
                          int32_t n_cols)
{
    verification *v = user;
    char full[112];
    snprintf(full, sizeof full, "trace.%s", name);
    golden_tensor golden;
    crank_status status = read_tensor(&golden, v->file, full, &v->error);
    if (status != CRANK_OK && v->status == CRANK_OK) v->status = status;
    if (status == CRANK_OK && golden.floats != NULL && golden.cols == n_cols &&
        (golden.rows == n_rows || n_rows == 1)) {
        int64_t n = (int64_t)n_rows * n_cols;
        check(v, full, rows, golden.floats, n, tolerance_for(v, true, golden.floats, n));
    }
    close_tensor(&golden);
}

static int64_t row_length(const golden_tensor *mask, int64_t row)
{
    int64_t n = 0;
    for (int64_t i = 0; i < mask->cols; i++) n += mask->ints[row * mask->cols + i] != 0;
    return n;
}

typedef struct inputs {
    golden_tensor ids, mask, types;
    int32_t *flat_ids, *flat_types;
    size_t *starts;
} inputs;

static void close_inputs(inputs *in)
{
    close_tensor(&in->ids);
    close_tensor(&in->mask);
    close_tensor(&in->types);
    mem_free(in->flat_ids);
    mem_free(in->flat_types);
    mem_free(in->starts);
}

static crank_status read_inputs(inputs *in, const safetensors *file, crank_error *error)
{
    CRANK_TRY(read_tensor(&in->ids, file, "input_ids", error));
    CRANK_TRY(read_tensor(&in->mask, file, "attention_mask", error));
    CRANK_TRY(read_tensor(&in->types, file, "token_type_ids", error));
    CRANK_CHECK(in->ids.ints != NULL && in->mask.ints != NULL, MODEL, error,
                "golden.safetensors: expected input_ids and attention_mask as I32, found neither "
                "or one");
    CRANK_CHECK(in->ids.rows == in->mask.rows && in->ids.cols == in->mask.cols, MODEL, error,
                "golden.safetensors: input_ids is [%lld, %lld], attention_mask [%lld, %lld]",
                (long long)in->ids.rows, (long long)in->ids.cols, (long long)in->mask.rows,
                (long long)in->mask.cols);
    size_t n = (size_t)in->ids.tensor->elements;
    in->flat_ids = mem_zero(n, sizeof *in->flat_ids);
    in->flat_types = mem_zero(n, sizeof *in->flat_types);
    in->starts = mem_zero((size_t)in->ids.rows + 1, sizeof *in->starts);
    CRANK_CHECK(in->flat_ids && in->flat_types && in->starts, OUT_OF_MEMORY, error,
                "no memory for %zu golden tokens", n);
    bool types = in->types.ints != NULL && in->types.tensor->elements == in->ids.tensor->elements;
    size_t at = 0;
    for (int64_t row = 0; row < in->ids.rows; row++) {
        for (int64_t i = 0; i < row_length(&in->mask, row); i++) {
            in->flat_ids[at] = in->ids.ints[row * in->ids.cols + i];
            if (types) in->flat_types[at] = in->types.ints[row * in->ids.cols + i];
            at++;
        }
        in->starts[row + 1] = at;
    }
    return CRANK_OK;
}

/* A ranker computes its answers' columns of the vocabulary's logits. */
static void keep_answers(const verification *v, golden_tensor *golden)
{
    const ranker *k = &v->model->ranker;
    if (golden->cols != v->model->tokens.vocab_size) return;
    float *to = golden->floats;
    for (int64_t row = 0; row < golden->rows; row++) {
        float kept[PROMPT_MAX_ANSWERS];
        for (int i = 0; i < k->n_answers; i++) {
            kept[i] = golden->floats[row * golden->cols + k->answers[i]];
        }
        for (int i = 0; i < k->n_answers; i++) *to++ = kept[i];
    }
    golden->cols = k->n_answers;
}

/* scores_monot5 of golden.json's true_id against false_id, from the logits of all tokens. */
static crank_status check_monot5(verification *v, const inputs *in, float *outputs,
                                 crank_error *error)
{
    int32_t width = v->model->readout.width;
    if (v->true_id < 0 || v->false_id < 0 || v->true_id >= width || v->false_id >= width) {
        return CRANK_OK;
    }
    golden_tensor golden;
    crank_status status = read_tensor(&golden, v->file, "scores_monot5", error);
    if (status == CRANK_OK && golden.floats != NULL && golden.rows == in->ids.rows) {
        for (int64_t row = 0; row < golden.rows; row++) {
            const float *logits = outputs + row * width;
            float pair[2] = {logits[v->true_id], logits[v->false_id]};
            outputs[row] = prompt_reduce(PROMPT_LOG_SOFTMAX, pair, 2);
        }
        check(v, "scores_monot5", outputs, golden.floats, golden.rows,
              tolerance_for(v, false, golden.floats, golden.rows));
    }
    close_tensor(&golden);
    return status;
}

static crank_status check_outputs(verification *v, const inputs *in, crank_error *error)
{
    static const char *const names[] = {"logits", "embeddings"};
    int32_t width = v->model->readout.width;
    size_t rows = (size_t)in->ids.rows;
    float *outputs = mem_array(rows * (size_t)width, sizeof *outputs);
    golden_tensor golden = {0};
    crank_status status;
    CRANK_CHECK_GOTO(outputs != NULL, OUT_OF_MEMORY, error, "no memory for %zu outputs", rows);
    const char *name = names[v->model->readout.kind == READOUT_HEAD ? 0 : 1];
    CRANK_TRY_GOTO(read_tensor(&golden, v->file, name, error));
    if (golden.floats != NULL && v->model->ranker.n_answers > 0) keep_answers(v, &golden);
    CRANK_CHECK_GOTO(golden.floats != NULL && golden.rows == in->ids.rows && golden.cols == width,
                     MODEL, error, "golden.safetensors: expected %s as F32 [%lld, %d], found %s",
                     name, (long long)in->ids.rows, width,
                     golden.tensor == NULL ? "none" : "another shape");
    CRANK_TRY_GOTO(crank_score_tokens(v->session, in->flat_ids, in->flat_types, in->starts, rows,
                                      outputs, NULL, error));
    int64_t n = (int64_t)rows * width;
    check(v, name, outputs, golden.floats, n, tolerance_for(v, false, golden.floats, n));
    status = check_monot5(v, in, outputs, error);
out:
    close_tensor(&golden);
    mem_free(outputs);
    return status;
}

/* The traced row alone, through a context with a tracer. */
static crank_status check_traces(verification *v, const inputs *in, int64_t row, crank_error *error)
{
    size_t n = in->starts[row + 1] - in->starts[row];
    int32_t widest = v->model->encoder.width;
    int32_t inner = v->model->encoder.heads * v->model->encoder.head_width;
    if (inner > widest) widest = inner;
    size_t capacity = n * (size_t)widest;
    float *rows = mem_array(capacity, sizeof *rows);
    float *output = mem_array(n * (size_t)v->model->readout.width, sizeof *output);
    crank_status status = CRANK_OK;
    CRANK_CHECK_GOTO(rows != NULL && output != NULL, OUT_OF_MEMORY, error, "no memory for traces");
    ops_tracer tracer = {compare_trace, v, rows, capacity};
    CRANK_TRY_GOTO(session_reserve(v->session, (int32_t)n, &tracer, error));
    pack_sequence sequence = {.ids1 = in->flat_ids + in->starts[row],
                              .types = in->flat_types + in->starts[row],
                              .length = (int32_t)n,
                              .ready = 1};
    v->session->workers[0].context.tracer = &tracer;
    status = session_run(v->session, &sequence, 1, output, NULL, NULL, error);
    v->session->workers[0].context.tracer = NULL;
    if (status == CRANK_OK && v->status != CRANK_OK) {
        if (error != NULL) *error = v->error;
        status = v->status;
    }
out:
    mem_free(rows);
    mem_free(output);
    return status;
}

static crank_status read_facts(verification *v, const char *directory, int32_t *row,
                               crank_error *error)
{
    config *c = NULL;
    config_source source = {.dir = directory};
    CRANK_TRY(config_open_optional(&c, &source, "golden.json", error));
    crank_status status = config_int_or(c, "trace_row", 0, 1 << 20, -1, row, error);
    if (status == CRANK_OK) {
        status = config_int_or(c, "true_id", 0, 1 << 24, -1, &v->true_id, error);
    }
    if (status == CRANK_OK) {
        status = config_int_or(c, "false_id", 0, 1 << 24, -1, &v->false_id, error);
    }
    config_close(c);
    return status;
}

/* ---- late interaction ---- */

/* Vectors of ids [rows, cols] under mask into vectors [rows, cols, dim], zeros where nothing is. */
static crank_status token_vectors(verification *v, const golden_tensor *ids,
                                  const golden_tensor *mask, bool expanded, float *vectors,
                                  crank_error *error)
{
    int32_t dim = v->model->readout.width;
    for (int64_t row = 0; row < ids->rows; row++) {
        int64_t real = row_length(mask, row);
        pack_sequence sequence = {.ids1 = ids->ints + row * ids->cols,
                                  .length = (int32_t)(expanded ? ids->cols : real),
                                  .n_keys = (int32_t)real,
                                  .ready = 1,
                                  .label = (uint32_t)row};
        CRANK_TRY(session_run(v->session, &sequence, 1, vectors + row * ids->cols * dim, NULL, NULL,
                              error));
    }
    return CRANK_OK;
}

static void score_documents(const verification *v, const golden_tensor *query_ids,
                            const float *queries, const golden_tensor *keep, float *documents,
                            float *scores)
{
    int32_t dim = v->model->readout.width;
    for (int64_t q = 0; q < query_ids->rows; q++) {
        for (int64_t d = 0; d < keep->rows; d++) {
            float sum = 0.0f;
            for (int64_t i = 0; i < query_ids->cols; i++) {
                const float *a = queries + (q * query_ids->cols + i) * dim;
                float most = -9999.0f;
                for (int64_t j = 0; j < keep->cols; j++) {
                    const float *b = documents + (d * keep->cols + j) * dim;
                    if (!keep->ints[d * keep->cols + j]) continue;
                    float dot = 0.0f;
                    for (int32_t k = 0; k < dim; k++) dot += a[k] * b[k];
                    most = dot > most ? dot : most;
                }
                sum += most;
            }
            scores[q * keep->rows + d] = sum;
        }
    }
}

/* query_ids, query_mask, doc_ids, doc_mask, doc_keep -> query_embeddings, doc_embeddings, scores.
 */
static crank_status check_late(verification *v, crank_error *error)
{
    enum { QUERY_IDS, QUERY_MASK, DOC_IDS, DOC_MASK, DOC_KEEP, SCORES, QUERIES, DOCS, N };
    static const char *const names[N] = {"query_ids",        "query_mask",    "doc_ids",
                                         "doc_mask",         "doc_keep",      "scores",
                                         "query_embeddings", "doc_embeddings"};
    golden_tensor g[N] = {{0}};
    float *queries = NULL, *documents = NULL, *scores = NULL;
    crank_status status = CRANK_OK;
    for (int i = 0; i < N && status == CRANK_OK; i++) {
        status = read_tensor(&g[i], v->file, names[i], error);
        CRANK_CHECK_GOTO(status != CRANK_OK || g[i].tensor != NULL, MODEL, error,
                         "golden.safetensors: tensor %s is missing", names[i]);
    }
    if (status != CRANK_OK) goto out;
    size_t dim = (size_t)v->model->readout.width;
    size_t n_queries = (size_t)g[QUERY_IDS].tensor->elements * dim;
    size_t n_documents = (size_t)g[DOC_IDS].tensor->elements * dim;
    size_t n_scores = (size_t)(g[QUERY_IDS].rows * g[DOC_IDS].rows);
    bool fits = g[DOC_KEEP].tensor->elements == g[DOC_IDS].tensor->elements &&
                g[DOC_MASK].tensor->elements == g[DOC_IDS].tensor->elements &&
                g[QUERY_MASK].tensor->elements == g[QUERY_IDS].tensor->elements &&
                (size_t)g[SCORES].tensor->elements == n_scores &&
                (size_t)g[DOCS].tensor->elements == n_documents &&
                (size_t)g[QUERIES].tensor->elements == n_queries;
    CRANK_CHECK_GOTO(fits, MODEL, error,
                     "golden.safetensors: its late-interaction tensors do not "
                     "fit each other or a width of %zu",
                     dim);
    queries = mem_zero(n_queries, sizeof *queries);
    documents = mem_zero(n_documents, sizeof *documents);
    scores = mem_zero(n_scores, sizeof *scores);
    CRANK_CHECK_GOTO(queries && documents && scores, OUT_OF_MEMORY, error,
                     "no memory for token vectors");
    CRANK_TRY_GOTO(token_vectors(v, &g[QUERY_IDS], &g[QUERY_MASK], true, queries, error));
    CRANK_TRY_GOTO(token_vectors(v, &g[DOC_IDS], &g[DOC_MASK], false, documents, error));
    for (size_t i = 0; i < (size_t)g[DOC_KEEP].tensor->elements; i++) {
        if (!g[DOC_KEEP].ints[i]) memset(documents + i * dim, 0, dim * sizeof *documents);
    }
    double tolerance = ops_dtypes[v->model->dtype].logit_tolerance;
    check(v, "query_embeddings", queries, g[QUERIES].floats, (int64_t)n_queries, tolerance);
    check(v, "doc_embeddings", documents, g[DOCS].floats, (int64_t)n_documents, tolerance);
    score_documents(v, &g[QUERY_IDS], queries, &g[DOC_KEEP], documents, scores);
    check(v, "scores", scores, g[SCORES].floats, (int64_t)n_scores,
          tolerance * 5); /* a sum over the query's tokens */
out:
    for (int i = 0; i < N; i++) close_tensor(&g[i]);
    mem_free(queries);
    mem_free(documents);
    mem_free(scores);
    return status;
}

static bool has_traces(const safetensors *file)
{
    for (size_t i = 0; i < safetensors_count(file); i++) {
        if (strncmp(safetensors_at(file, i)->name, "trace.", 6) == 0) return true;
    }
    return false;
}

crank_status crank_verify(const crank_model *model, const char *directory, crank_check_fn report,
                          void *user, int *passed, char *first_stray, crank_error *error)
{
    CRANK_CHECK(model != NULL && directory != NULL && passed != NULL, INVALID_ARGUMENT, error,
                "crank_verify: model, golden_directory and passed must not be NULL");
    *passed = 0;
    verification v = {.model = model, .report = report, .user = user, .all_passed = 1};
    inputs in = {0};
    char path[4096];
    int32_t row = -1;
    crank_status status;
    int n = snprintf(path, sizeof path, "%s/golden.safetensors", directory);
    CRANK_CHECK(n > 0 && (size_t)n < sizeof path, INVALID_ARGUMENT, error, "path too long");
    CRANK_TRY_GOTO(safetensors_open(&v.file, path, error));
    if (model->late.present) {
        CRANK_TRY_GOTO(crank_session_open(&v.session, model, NULL, error));
        CRANK_TRY_GOTO(check_late(&v, error));
        *passed = v.all_passed;
        if (first_stray != NULL) first_stray[0] = '\0';
        goto out;
    }
    CRANK_TRY_GOTO(read_inputs(&in, v.file, error));
    CRANK_TRY_GOTO(read_facts(&v, directory, &row, error));
    CRANK_TRY_GOTO(crank_session_open(&v.session, model, NULL, error));
    CRANK_TRY_GOTO(check_outputs(&v, &in, error));
    if (row >= 0 && row < in.ids.rows && has_traces(v.file)) {
        CRANK_TRY_GOTO(check_traces(&v, &in, row, error));
    }
    *passed = v.all_passed;
    if (first_stray != NULL) snprintf(first_stray, sizeof v.first_stray, "%s", v.first_stray);
out:
    crank_session_close(v.session);
    close_inputs(&in);
    safetensors_close(v.file);
    return status;
}
