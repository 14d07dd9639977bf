#include "runtime/late.h"

#include <string.h>

#include "clock.h"

/* Texts become sequences in the session's memory: [CLS] marker ids [SEP], a query then filled with
 * [MASK] (queries in attention, no keys, unless the checkpoint says otherwise). Types are 0. */
pack_sequence late_compose(const call *c, const encoded *text, bool is_query, int32_t *ids)
{
    const late_interaction *late = &c->s->model->late;
    const tokenizer *tok = c->s->model->tok;
    int32_t marker = is_query ? late->query_marker : late->document_marker;
    size_t length = (size_t)(is_query ? late->query_length : late->document_length);
    size_t fixed = (size_t)tokenizer_info(tok)->n_added_single + (marker >= 0);
    size_t keep = text->n < length - fixed ? text->n : length - fixed;
    int32_t *types = ids + length; /* written by the template, not used */
    int32_t n = (int32_t)tok_pair_fill(tok, call_ids(c, text), keep, NULL, 0, ids, types);
    if (marker >= 0) {
        memmove(ids + 2, ids + 1, (size_t)(n - 1) * sizeof *ids);
        ids[1] = marker;
        n++;
    }
    pack_sequence sequence = {.ids1 = ids, .n1 = n, .length = n, .n_keys = n, .ready = 1};
    if (is_query && late->expand) {
        for (; n < (int32_t)length; n++) ids[n] = late->mask_id;
        sequence.n1 = sequence.length = n;
        if (late->attend_expansion) sequence.n_keys = n;
    }
    return sequence;
}

static bool skipped(const late_interaction *late, int32_t id)
{
    for (int32_t i = 0; i < late->n_skip; i++) {
        if (late->skip[i] == id) return true;
    }
    return false;
}

int32_t late_kept(const late_interaction *late, const pack_sequence *sequence)
{
    int32_t n = 0;
    for (int32_t i = 0; i < sequence->length; i++) n += !skipped(late, sequence->ids1[i]);
    return n;
}

int32_t late_compact(const late_interaction *late, float *vectors, const pack_sequence *sequence,
                     int32_t dim, uint8_t *keep)
{
    for (int32_t i = 0; i < sequence->length; i++) keep[i] = !skipped(late, sequence->ids1[i]);
    return maxsim_compact(vectors, keep, sequence->length, dim);
}

crank_status late_vectors(call *c, const encoded *texts, size_t n_queries, size_t n,
                          float **vectors, size_t **rows, crank_error *error)
{
    crank_session *s = c->s;
    const late_interaction *late = &s->model->late;
    size_t longest = (size_t)(late->query_length > late->document_length ? late->query_length
                                                                         : late->document_length);
    CRANK_TRY(growable_reserve(&s->prompted, n, 2 * longest * sizeof(int32_t), error));
    CRANK_TRY(growable_reserve(&s->sequences, n, sizeof(pack_sequence) + sizeof(size_t), error));
    c->sequences = s->sequences.data;
    *rows = (size_t *)(void *)(c->sequences + n);
    size_t total = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t *ids = (int32_t *)s->prompted.data + 2 * longest * i;
        c->sequences[i] = late_compose(c, &texts[i], i < n_queries, ids);
        c->sequences[i].label = (uint32_t)(i < n_queries ? 0 : i - n_queries);
        (*rows)[i] = total;
        total += (size_t)c->sequences[i].length;
    }
    c->usage.tokens += total;
    c->usage.computed_tokens = c->usage.tokens;
    size_t dim = (size_t)s->model->readout.width;
    CRANK_TRY(growable_reserve(&s->outputs, total, dim * sizeof(float), error));
    *vectors = s->outputs.data;
    return session_run(s, c->sequences, n, *vectors, c->options.progress, c->options.progress_user,
                       error);
}

crank_status late_max_sim(crank_session *s, float *scores, const float *query, int32_t query_rows,
                          const maxsim_document *documents, size_t n, maxsim_type type,
                          crank_error *error)
{
    const late_interaction *late = &s->model->late;
    int32_t dim = s->model->readout.width;
    size_t bytes = maxsim_query_bytes(query_rows, dim);
    CRANK_TRY(growable_reserve(&s->table, bytes, 1, error));
    maxsim_query packed;
    maxsim_query_pack(&packed, s->table.data, query, query_rows, dim);
    maxsim_scores(late->kernel, scores, &packed, documents, (int32_t)n, type, s->threads);
    if (!late->l2) return CRANK_OK;
    for (size_t i = 0; i < n; i++) scores[i] = 2.0f * (scores[i] - (float)query_rows);
    return CRANK_OK;
}

crank_status late_score(call *c, crank_error *error)
{
    crank_session *s = c->s;
    const crank_model *m = s->model;
    CRANK_CHECK(c->options.truncation != CRANK_WINDOW, INVALID_ARGUMENT, error,
                "windows are for cross-encoders; late interaction reads up to %d document tokens",
                m->late.document_length);
    CRANK_TRY(call_encode_pairs(c, true, error));
    c->usage.tokenize_us = clock_us() - c->started_us;
    int64_t start = clock_us();
    float *vectors;
    size_t *rows, n = c->n, dim = (size_t)m->readout.width;
    c->usage.computed_pairs = n;
    CRANK_TRY(late_vectors(c, c->texts, c->n_queries, c->n_queries + n, &vectors, &rows, error));
    size_t each = sizeof(maxsim_document) + sizeof(float);
    size_t longest = (size_t)m->late.document_length;
    CRANK_TRY(growable_reserve(&s->units, n * each + longest, 1, error));
    maxsim_document *documents = s->units.data;
    c->outputs = (float *)(void *)(documents + n);
    uint8_t *keep = (uint8_t *)(c->outputs + n);
    for (size_t i = 0; i < n; i++) {
        size_t k = c->n_queries + i;
        float *at = vectors + rows[k] * dim;
        documents[i] = (maxsim_document){
            .vectors = at, .n = late_compact(&m->late, at, &c->sequences[k], (int32_t)dim, keep)};
    }
    for (size_t first = 0; first < n;) {
        size_t query = c->query_of[first], end = first + 1;
        while (end < n && c->query_of[end] == query) end++;
        /* Pairs of one query stand together: one packed query for all its documents. */
        CRANK_TRY(late_max_sim(s, c->outputs + first, vectors + rows[query] * dim,
                               c->sequences[query].length, documents + first, end - first,
                               MAXSIM_F32, error));
        first = end;
    }
    c->usage.compute_us = clock_us() - start;
    return CRANK_OK;
}
