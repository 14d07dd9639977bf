/* Document embeddings of late interaction models: encoded once into a safetensors file (crank.h
 * describes it), checked when opened, ranked by MaxSim against a query.
 *
 * How many vectors a document keeps follows from its ids alone, so the file's header is known
 * before anything is encoded, and the vectors are streamed to it a few hundred documents at a time.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "clock.h"
#include "memory.h"
#include "runtime/late.h"
#include "runtime/reader.h"
#include "weights/safetensors.h"

#define FORMAT_VERSION "1"
#define DOCUMENTS_PER_PART 256
#define RULES_BYTES 64

/* Everything that decides a document's vectors besides the weights. */
static void rules_text(const late_interaction *late, char text[RULES_BYTES])
{
    uint64_t skip = XXH3_64bits(late->skip, (size_t)late->n_skip * sizeof *late->skip);
    snprintf(text, RULES_BYTES, "length %d marker %d skip %d %016llx", late->document_length,
             late->document_marker, late->n_skip, (unsigned long long)skip);
}

static crank_status check_late(const crank_session *s, const char *function, crank_error *error)
{
    const crank_model *m = s->model;
    CRANK_CHECK(m->late.present, INVALID_ARGUMENT, error,
                "%s needs a late interaction model (ColBERT); %s is none", function, m->name);
    CRANK_CHECK(
        m->late.fingerprint[0] != '\0', MODEL, error,
        "%s: converted by a crank that kept no fingerprint of the weights: convert it again",
        m->path);
    return CRANK_OK;
}

/* ---- writing ---- */

typedef struct encode_job {
    call c;
    const crank_encode_options *options;
    st_writer *writer;
    int32_t *counts; /* [n] vectors that each document keeps */
    float *scales;   /* [n_vectors], int8 only */
    size_t n, n_vectors, id_bytes;
    size_t done, scales_done;
} encode_job;

static int part_progress(void *user, size_t done, size_t total)
{
    (void)total;
    const encode_job *job = user;
    return job->options->progress(job->options->progress_user, job->done + done, job->n);
}

static crank_status count_vectors(encode_job *job, crank_error *error)
{
    crank_session *s = job->c.s;
    const late_interaction *late = &s->model->late;
    size_t longest = (size_t)(late->query_length > late->document_length ? late->query_length
                                                                         : late->document_length);
    CRANK_TRY(growable_reserve(&s->prompted, 2 * longest, sizeof(int32_t), error));
    for (size_t i = 0; i < job->n; i++) {
        pack_sequence sequence = late_compose(&job->c, &job->c.texts[i], false, s->prompted.data);
        job->counts[i] = late_kept(late, &sequence);
        job->n_vectors += (size_t)job->counts[i];
    }
    return CRANK_OK;
}

static crank_status declare_file(encode_job *job, crank_error *error)
{
    const crank_model *m = job->c.s->model;
    bool quantised = job->options->dtype == CRANK_DTYPE_INT8;
    char rules[RULES_BYTES], made_by[64];
    rules_text(&m->late, rules);
    snprintf(made_by, sizeof made_by, "%s on %s", m->info.dtype, m->info.device);
    const struct {
        const char *key, *value;
    } pairs[] = {
        {"crank.embeddings", FORMAT_VERSION},
        {"crank.version", CRANK_VERSION},
        {"crank.model", m->name},
        {"crank.fingerprint", m->late.fingerprint},
        {"crank.document_rules", rules},
        {"crank.encoder", made_by},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        CRANK_TRY(st_writer_metadata(job->writer, pairs[i].key, pairs[i].value, error));
    }
    int64_t n = (int64_t)job->n, total = (int64_t)job->n_vectors;
    CRANK_TRY(st_writer_tensor(job->writer, "counts", DTYPE_I32, 1, &n, error));
    if (job->options->ids != NULL) {
        int64_t bytes = (int64_t)job->id_bytes;
        CRANK_TRY(st_writer_tensor(job->writer, "ids", DTYPE_U8, 1, &bytes, error));
    }
    int64_t shape[2] = {total, m->readout.width};
    CRANK_TRY(st_writer_tensor(job->writer, "vectors", quantised ? DTYPE_I8 : DTYPE_F32, 2, shape,
                               error));
    if (quantised) CRANK_TRY(st_writer_tensor(job->writer, "scales", DTYPE_F32, 1, &total, error));
    CRANK_TRY(st_writer_write(job->writer, job->counts, job->n * sizeof *job->counts, error));
    for (size_t i = 0; job->options->ids != NULL && i < job->n; i++) {
        const char *id = job->options->ids[i];
        CRANK_TRY(st_writer_write(job->writer, id, strlen(id) + 1, error));
    }
    return CRANK_OK;
}

/* Documents [job->done, + n) to the file. */
static crank_status encode_part(encode_job *job, size_t n, crank_error *error)
{
    crank_session *s = job->c.s;
    const late_interaction *late = &s->model->late;
    int32_t dim = s->model->readout.width;
    float *vectors;
    size_t *rows, kept = 0;
    CRANK_TRY(late_vectors(&job->c, job->c.texts + job->done, 0, n, &vectors, &rows, error));
    CRANK_TRY(growable_reserve(&s->units, (size_t)late->document_length, 1, error));
    for (size_t i = 0; i < n; i++) {
        float *at = vectors + rows[i] * (size_t)dim;
        int32_t count = late_compact(late, at, &job->c.sequences[i], dim, s->units.data);
        memmove(vectors + kept * (size_t)dim, at, (size_t)count * (size_t)dim * sizeof *vectors);
        kept += (size_t)count;
    }
    size_t values = kept * (size_t)dim;
    job->done += n;
    if (job->options->dtype != CRANK_DTYPE_INT8) {
        return st_writer_write(job->writer, vectors, values * sizeof *vectors, error);
    }
    CRANK_TRY(growable_reserve(&s->results, values, 1, error));
    int8_t *codes = s->results.data;
    maxsim_quantize(codes, job->scales + job->scales_done, vectors, (int32_t)kept, dim);
    job->scales_done += kept;
    return st_writer_write(job->writer, codes, values, error);
}

static crank_status write_embeddings(encode_job *job, const crank_text *documents,
                                     const char *destination, crank_error *error)
{
    call *c = &job->c;
    crank_status status;
    job->counts = mem_array(job->n > 0 ? job->n : 1, sizeof *job->counts);
    CRANK_CHECK_GOTO(job->counts != NULL, OUT_OF_MEMORY, error, "no memory for %zu documents",
                     job->n);
    text_list list = {documents, sizeof *documents};
    if (job->n > 0) CRANK_TRY_GOTO(call_encode_texts(c, list, job->n, error));
    CRANK_TRY_GOTO(count_vectors(job, error));
    c->usage.tokenize_us = clock_us() - c->started_us;
    if (job->options->dtype == CRANK_DTYPE_INT8) {
        job->scales = mem_array(job->n_vectors + 1, sizeof *job->scales);
        CRANK_CHECK_GOTO(job->scales != NULL, OUT_OF_MEMORY, error, "no memory for %zu scales",
                         job->n_vectors);
    }
    CRANK_TRY_GOTO(st_writer_open(&job->writer, destination, ST_WRITER_ALIGNED, error));
    CRANK_TRY_GOTO(declare_file(job, error));
    int64_t start = clock_us();
    while (job->done < job->n) {
        size_t left = job->n - job->done;
        CRANK_TRY_GOTO(
            encode_part(job, left < DOCUMENTS_PER_PART ? left : DOCUMENTS_PER_PART, error));
    }
    c->usage.compute_us = clock_us() - start;
    if (job->scales != NULL) {
        CRANK_TRY_GOTO(
            st_writer_write(job->writer, job->scales, job->n_vectors * sizeof *job->scales, error));
    }
    CRANK_TRY_GOTO(st_writer_commit(job->writer, error));
out:
    st_writer_close(job->writer);
    mem_free(job->scales);
    mem_free(job->counts);
    return status;
}

crank_status crank_encode(crank_session *s, const crank_text *documents, size_t n,
                          const crank_encode_options *options, const char *destination,
                          crank_usage *usage, crank_error *error)
{
    CRANK_CHECK(s != NULL && destination != NULL && (n == 0 || documents != NULL), INVALID_ARGUMENT,
                error, "crank_encode: session, documents and destination must not be NULL");
    crank_encode_options settings;
    CRANK_TRY(options_read(&settings, sizeof settings, options, "crank_encode_options", error));
    CRANK_TRY(check_late(s, "crank_encode", error));
    CRANK_CHECK(settings.dtype == CRANK_DTYPE_AUTO || settings.dtype == CRANK_DTYPE_F32 ||
                    settings.dtype == CRANK_DTYPE_INT8,
                INVALID_ARGUMENT, error, "embeddings: expected dtype f32 or int8");
    CRANK_CHECK(n < UINT32_MAX / 4, LIMIT, error, "%zu documents in one call, expected fewer", n);
    encode_job job = {.options = &settings, .n = n};
    crank_score_options scoring = {.size = sizeof scoring,
                                   .specials_as_text = settings.specials_as_text,
                                   .progress = settings.progress != NULL ? part_progress : NULL,
                                   .progress_user = &job};
    CRANK_TRY(call_open(&job.c, s, &scoring, error));
    for (size_t i = 0; settings.ids != NULL && i < n; i++) {
        CRANK_CHECK(settings.ids[i] != NULL, INVALID_ARGUMENT, error, "embeddings: id %zu is NULL",
                    i);
        job.id_bytes += strlen(settings.ids[i]) + 1;
    }
    job.c.usage.pairs = job.c.usage.computed_pairs = n;
    CRANK_TRY(write_embeddings(&job, documents, destination, error));
    call_finish(&job.c, usage);
    return CRANK_OK;
}

/* ---- reading ---- */

struct crank_embeddings {
    crank_embeddings_info info;
    char *path, *model, *encoder, *version, *fingerprint, *rules;
    void *vectors;
    float *scales;              /* NULL: f32 */
    maxsim_document *documents; /* [info.documents] */
    char *id_bytes;
    const char **ids; /* [info.documents]; NULL: none */
};

static crank_status bad_file(const crank_embeddings *e, const char *what, crank_error *error)
{
    return status_fail(error, CRANK_FORMAT, "%s: not an embeddings file that can be used: %s",
                       e->path, what);
}

/* A tensor of this type and rank, read whole into fresh memory. */
static crank_status read_tensor(const crank_embeddings *e, const safetensors *file,
                                const char *name, dtype type, int rank, const st_tensor **tensor,
                                void **data, crank_error *error)
{
    char what[96];
    const st_tensor *t = safetensors_find(file, name);
    if (t == NULL || t->type != type || t->rank != rank) {
        snprintf(what, sizeof what, "expected tensor %s, %s of rank %d", name, dtype_name(type),
                 rank);
        return bad_file(e, what, error);
    }
    *data = mem_alloc_aligned(t->bytes > 0 ? (size_t)t->bytes : 1);
    CRANK_CHECK(*data != NULL, OUT_OF_MEMORY, error, "no memory for %llu bytes of %s",
                (unsigned long long)t->bytes, e->path);
    *tensor = t;
    return safetensors_read(file, t, *data, error);
}

static crank_status copy_metadata(const crank_embeddings *e, const safetensors *file,
                                  const char *key, char **out, crank_error *error)
{
    const char *value = safetensors_metadata(file, key);
    if (value == NULL) {
        char what[96];
        snprintf(what, sizeof what, "metadata %s is missing", key);
        return bad_file(e, what, error);
    }
    *out = mem_strdup(value);
    CRANK_CHECK(*out != NULL, OUT_OF_MEMORY, error, "no memory");
    return CRANK_OK;
}

static crank_status read_vectors(crank_embeddings *e, const safetensors *file, crank_error *error)
{
    const st_tensor *t = safetensors_find(file, "vectors");
    bool quantised = t != NULL && t->type == DTYPE_I8;
    CRANK_TRY(read_tensor(e, file, "vectors", quantised ? DTYPE_I8 : DTYPE_F32, 2, &t, &e->vectors,
                          error));
    if (t->shape[1] < 1 || t->shape[1] > MAXSIM_MAX_DIM) {
        return bad_file(e, "the width of its vectors is out of range", error);
    }
    e->info.vectors = (size_t)t->shape[0];
    e->info.dim = (int32_t)t->shape[1];
    e->info.bytes = (size_t)t->bytes;
    e->info.dtype = quantised ? "int8" : "f32";
    size_t values = (size_t)t->elements;
    if (!quantised && dtype_finite_prefix(e->vectors, values) != values) {
        return bad_file(e, "a vector is not finite", error);
    }
    if (!quantised) return CRANK_OK;
    void *scales = NULL;
    crank_status status = read_tensor(e, file, "scales", DTYPE_F32, 1, &t, &scales, error);
    e->scales = scales;
    CRANK_TRY(status);
    if ((size_t)t->shape[0] != e->info.vectors) {
        return bad_file(e, "scales and vectors differ in number", error);
    }
    for (size_t i = 0; i < e->info.vectors; i++) {
        if (!isfinite(e->scales[i]) || e->scales[i] < 0.0f) {
            return bad_file(e, "a scale is negative or not finite", error);
        }
    }
    return CRANK_OK;
}

static crank_status share_vectors(crank_embeddings *e, const int32_t *counts, size_t n,
                                  crank_error *error)
{
    e->info.documents = n;
    e->documents = mem_array(n + 1, sizeof *e->documents);
    CRANK_CHECK(e->documents != NULL, OUT_OF_MEMORY, error, "no memory for %zu documents", n);
    size_t first = 0, row_bytes = (size_t)e->info.dim * (e->scales != NULL ? 1 : sizeof(float));
    for (size_t i = 0; i < n; i++) {
        if (counts[i] < 0 || (size_t)counts[i] > e->info.vectors - first) {
            return bad_file(e, "its counts do not add up to its vectors", error);
        }
        e->documents[i] = (maxsim_document){.vectors = (const char *)e->vectors + first * row_bytes,
                                            .scales = e->scales != NULL ? e->scales + first : NULL,
                                            .n = counts[i]};
        first += (size_t)counts[i];
    }
    if (first != e->info.vectors) {
        return bad_file(e, "its counts do not add up to its vectors", error);
    }
    return CRANK_OK;
}

static crank_status read_ids(crank_embeddings *e, const safetensors *file, crank_error *error)
{
    if (safetensors_find(file, "ids") == NULL) return CRANK_OK;
    const st_tensor *t;
    void *bytes = NULL;
    crank_status status = read_tensor(e, file, "ids", DTYPE_U8, 1, &t, &bytes, error);
    e->id_bytes = bytes;
    CRANK_TRY(status);
    size_t n = e->info.documents, found = 0;
    e->ids = mem_array(n + 1, sizeof *e->ids);
    CRANK_CHECK(e->ids != NULL, OUT_OF_MEMORY, error, "no memory for %zu ids", n);
    const char *at = e->id_bytes, *end = e->id_bytes + t->bytes;
    while (at < end && found < n) {
        const char *stop = memchr(at, '\0', (size_t)(end - at));
        if (stop == NULL) break;
        e->ids[found++] = at;
        at = stop + 1;
    }
    if (found != n || at != end) return bad_file(e, "ids and documents differ in number", error);
    e->info.has_ids = 1;
    return CRANK_OK;
}

static crank_status read_file(crank_embeddings *e, const safetensors *file, crank_error *error)
{
    const char *format = safetensors_metadata(file, "crank.embeddings");
    if (format == NULL) return bad_file(e, "metadata crank.embeddings is missing", error);
    if (strcmp(format, FORMAT_VERSION) != 0) {
        return bad_file(e, "it is of another format than " FORMAT_VERSION, error);
    }
    CRANK_TRY(copy_metadata(e, file, "crank.model", &e->model, error));
    CRANK_TRY(copy_metadata(e, file, "crank.encoder", &e->encoder, error));
    CRANK_TRY(copy_metadata(e, file, "crank.version", &e->version, error));
    CRANK_TRY(copy_metadata(e, file, "crank.fingerprint", &e->fingerprint, error));
    CRANK_TRY(copy_metadata(e, file, "crank.document_rules", &e->rules, error));
    CRANK_TRY(read_vectors(e, file, error));
    const st_tensor *t;
    void *counts = NULL;
    crank_status status = read_tensor(e, file, "counts", DTYPE_I32, 1, &t, &counts, error);
    if (status == CRANK_OK) status = share_vectors(e, counts, (size_t)t->shape[0], error);
    mem_free_aligned(counts);
    CRANK_TRY(status);
    CRANK_TRY(read_ids(e, file, error));
    return safetensors_unchanged(file, error);
}

crank_status crank_embeddings_open(crank_embeddings **embeddings, const char *path,
                                   crank_error *error)
{
    CRANK_CHECK(embeddings != NULL && path != NULL, INVALID_ARGUMENT, error,
                "crank_embeddings_open: embeddings and path must not be NULL");
    *embeddings = NULL;
    safetensors *file = NULL;
    crank_status status;
    crank_embeddings *e = mem_zero(1, sizeof *e);
    CRANK_CHECK(e != NULL, OUT_OF_MEMORY, error, "no memory for embeddings");
    e->path = mem_strdup(path);
    CRANK_CHECK_GOTO(e->path != NULL, OUT_OF_MEMORY, error, "no memory");
    CRANK_TRY_GOTO(safetensors_open(&file, path, error));
    CRANK_TRY_GOTO(read_file(e, file, error));
    e->info.size = sizeof e->info;
    e->info.model = e->model;
    e->info.encoder = e->encoder;
    e->info.crank_version = e->version;
    *embeddings = e;
    e = NULL;
out:
    safetensors_close(file);
    crank_embeddings_close(e);
    return status;
}

void crank_embeddings_close(crank_embeddings *e)
{
    if (e == NULL) return;
    mem_free_aligned(e->vectors);
    mem_free_aligned(e->scales);
    mem_free_aligned(e->id_bytes);
    mem_free(e->ids);
    mem_free(e->documents);
    char *texts[] = {e->path, e->model, e->encoder, e->version, e->fingerprint, e->rules};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) mem_free(texts[i]);
    mem_free(e);
}

crank_status crank_embeddings_describe(const crank_embeddings *e, crank_embeddings_info *info,
                                       crank_error *error)
{
    CRANK_CHECK(e != NULL && info != NULL, INVALID_ARGUMENT, error,
                "crank_embeddings_describe: embeddings and info must not be NULL");
    size_t size = info->size;
    CRANK_CHECK(size >= sizeof(size_t) && size <= sizeof *info, INVALID_ARGUMENT, error,
                "crank_embeddings_info.size: expected at most %zu, found %zu", sizeof *info, size);
    memcpy(info, &e->info, size);
    info->size = size;
    return CRANK_OK;
}

const char *crank_embeddings_id(const crank_embeddings *e, size_t index)
{
    return e != NULL && e->ids != NULL && index < e->info.documents ? e->ids[index] : NULL;
}

/* ---- ranking ---- */

static crank_status check_made_by(const crank_embeddings *e, const crank_model *m,
                                  crank_error *error)
{
    char rules[RULES_BYTES];
    CRANK_CHECK(strcmp(e->fingerprint, m->late.fingerprint) == 0 && e->info.dim == m->readout.width,
                MODEL, error, "%s: made by another model (%s) than %s: encode the documents again",
                e->path, e->model, m->name);
    rules_text(&m->late, rules);
    CRANK_CHECK(strcmp(e->rules, rules) == 0, MODEL, error,
                "%s: made with other document settings (\"%s\") than %s has now (\"%s\")", e->path,
                e->rules, m->name, rules);
    return CRANK_OK;
}

/* The candidates as documents, in the session's memory. */
static crank_status gather(crank_session *s, const crank_embeddings *e, const size_t *candidates,
                           size_t n, const maxsim_document **documents, crank_error *error)
{
    *documents = e->documents;
    if (candidates == NULL) return CRANK_OK;
    CRANK_TRY(growable_reserve(&s->units, n, sizeof **documents, error));
    maxsim_document *gathered = s->units.data;
    for (size_t i = 0; i < n; i++) {
        CRANK_CHECK(candidates[i] < e->info.documents, INVALID_ARGUMENT, error,
                    "candidate %zu: expected a document below %zu, found %zu", i, e->info.documents,
                    candidates[i]);
        gathered[i] = e->documents[candidates[i]];
    }
    *documents = gathered;
    return CRANK_OK;
}

static crank_status score_candidates(call *c, const crank_embeddings *e, const size_t *candidates,
                                     size_t n, crank_result *all, float *scores, crank_error *error)
{
    crank_session *s = c->s;
    const maxsim_document *documents;
    float *vectors;
    size_t *rows;
    int64_t start = clock_us();
    CRANK_TRY(late_vectors(c, c->texts, 1, 1, &vectors, &rows, error));
    CRANK_TRY(gather(s, e, candidates, n, &documents, error));
    CRANK_TRY(late_max_sim(s, scores, vectors, c->sequences[0].length, documents, n,
                           e->scales != NULL ? MAXSIM_INT8 : MAXSIM_F32, error));
    for (size_t i = 0; i < n; i++) {
        size_t number = candidates != NULL ? candidates[i] : i;
        CRANK_CHECK(isfinite(scores[i]), NUMERIC, error,
                    "%s: document %zu: the score is not finite", e->path, number);
        all[i] = (crank_result){.index = number,
                                .logit = scores[i],
                                .score = crank_activate(call_activation(c), scores[i])};
    }
    c->usage.compute_us = clock_us() - start;
    return CRANK_OK;
}

crank_status crank_rank_embeddings(crank_session *s, crank_text query, const crank_embeddings *e,
                                   const size_t *candidates, size_t n,
                                   const crank_score_options *options, crank_result *results,
                                   size_t *n_results, crank_usage *usage, crank_error *error)
{
    CRANK_CHECK(s != NULL && e != NULL && n_results != NULL && results != NULL, INVALID_ARGUMENT,
                error,
                "crank_rank_embeddings: session, embeddings, results and n_results must not be "
                "NULL");
    *n_results = 0;
    if (candidates == NULL) n = e->info.documents;
    CRANK_CHECK(n < UINT32_MAX / 4, LIMIT, error, "%zu candidates in one call, expected fewer", n);
    call c;
    CRANK_TRY(check_late(s, "crank_rank_embeddings", error));
    CRANK_TRY(check_made_by(e, s->model, error));
    CRANK_TRY(call_open(&c, s, options, error));
    CRANK_CHECK(c.options.truncation != CRANK_WINDOW, INVALID_ARGUMENT, error,
                "windows are for cross-encoders; embeddings hold whole documents");
    c.usage.pairs = n;
    CRANK_TRY(call_encode_query(&c, query, error));
    c.usage.tokenize_us = clock_us() - c.started_us;
    CRANK_TRY(growable_reserve(&s->results, n + 1, sizeof(crank_result) + sizeof(float), error));
    crank_result *all = s->results.data;
    float *scores = (float *)(void *)(all + n);
    CRANK_TRY(score_candidates(&c, e, candidates, n, all, scores, error));
    call_sort(all, n);
    size_t top = c.options.top_k != 0 && c.options.top_k < n ? c.options.top_k : n;
    memcpy(results, all, top * sizeof *results);
    *n_results = top;
    for (size_t i = 0; c.options.pair_tokens != NULL && i < n; i++) {
        c.options.pair_tokens[i] = (uint32_t)c.sequences[0].length;
    }
    call_finish(&c, usage);
    return CRANK_OK;
}
