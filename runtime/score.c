/* From texts to scores:
 *
 *   encode texts (each query once, documents side by side on the team)
 *   -> units: one model input each (a pair; a window of a document; a text of a bi-encoder)
 *   -> fold equal units, ask the cache -> session_run (plan, pack, forward)
 *   -> outputs of units -> logits of pairs -> activation -> order.
 *
 * Units keep pointers into the workers' id pools, so nothing is copied before pack_fill. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "clock.h"
#include "runtime/cache.h"
#include "runtime/call.h"
#include "runtime/late.h"

/* ---- units ---- */

static crank_status reserve_units(call *c, size_t n, crank_error *error)
{
    CRANK_CHECK(n < UINT32_MAX / 4, LIMIT, error, "%zu model inputs in one call, expected fewer",
                n);
    CRANK_TRY(growable_reserve(&c->s->units, n, sizeof(unit), error));
    CRANK_TRY(growable_reserve(&c->s->sequences, n, sizeof(pack_sequence), error));
    c->units = c->s->units.data;
    c->sequences = c->s->sequences.data;
    return CRANK_OK;
}

static void add_unit(call *c, size_t pair, uint32_t window_first, pack_sequence sequence)
{
    sequence.label = (uint32_t)pair;
    c->units[c->n_units] =
        (unit){.pair = pair, .same_as = c->n_units, .window_first = window_first};
    c->sequences[c->n_units++] = sequence;
    c->usage.tokens += (size_t)sequence.length;
}

/* How a document is cut in windows: the query keeps at most half of the room. */
typedef struct windows {
    size_t query, share, step; /* kept query ids; ids of a window; distance of neighbours */
} windows;

static crank_status plan_windows(const call *c, size_t n_query, windows *w, crank_error *error)
{
    size_t added = (size_t)tokenizer_info(c->s->model->tok)->n_added_pair;
    CRANK_CHECK(c->max_length >= added + 2, INVALID_ARGUMENT, error,
                "max_length: windows need at least %zu, found %zu", added + 2, c->max_length);
    size_t room = c->max_length - added;
    w->query = n_query < room / 2 ? n_query : room / 2;
    w->share = room - w->query;
    size_t overlap = c->options.window_overlap != 0 ? c->options.window_overlap : w->share / 4;
    CRANK_CHECK(overlap < w->share, INVALID_ARGUMENT, error,
                "window_overlap: expected less than a window of %zu tokens, found %zu", w->share,
                overlap);
    w->step = w->share - overlap;
    return CRANK_OK;
}

static size_t count_windows(const windows *w, size_t n)
{
    return n <= w->share ? 1 : 1 + (n - w->share + w->step - 1) / w->step;
}

static crank_status window_units(call *c, crank_error *error)
{
    size_t total = 0;
    windows w;
    for (size_t i = 0; i < c->n; i++) {
        CRANK_TRY(plan_windows(c, c->texts[c->query_of[i]].n, &w, error));
        total += count_windows(&w, c->texts[c->n_queries + i].n);
    }
    CRANK_TRY(reserve_units(c, total, error));
    int32_t added = tokenizer_info(c->s->model->tok)->n_added_pair;
    for (size_t i = 0; i < c->n; i++) {
        const encoded *query = &c->texts[c->query_of[i]], *document = &c->texts[c->n_queries + i];
        CRANK_TRY(plan_windows(c, query->n, &w, error));
        for (size_t k = 0; k < count_windows(&w, document->n); k++) {
            size_t first = k * w.step;
            size_t rest = document->n - first;
            size_t take = rest < w.share ? rest : w.share;
            pack_sequence sequence = {.ids1 = call_ids(c, query),
                                      .n1 = (int32_t)w.query,
                                      .ids2 = call_ids(c, document) + first,
                                      .n2 = (int32_t)take,
                                      .length = (int32_t)(w.query + take) + added};
            add_unit(c, i, (uint32_t)first, sequence);
        }
    }
    return CRANK_OK;
}

/* Rankers: every unit is a filled template, made in the session's memory. Duo rankers ask about
 * every ordered pair of documents: unit i * (n - 1) + k is document i against the k-th other one.
 */
static crank_status prompt_units(call *c, crank_error *error)
{
    const prompt *p = &c->s->model->ranker.prompt;
    CRANK_CHECK(c->max_length >= (size_t)p->n_fixed + 2, INVALID_ARGUMENT, error,
                "max_length: this prompt needs at least %d, found %zu", p->n_fixed + 2,
                c->max_length);
    CRANK_CHECK(c->options.truncation != CRANK_WINDOW, INVALID_ARGUMENT, error,
                "windows are for cross-encoders with a pair template, not for prompts");
    CRANK_CHECK(!p->duo || c->n <= MAX_DUO_DOCUMENTS, LIMIT, error,
                "a duo ranker takes at most %d documents (it asks about every pair), found %zu",
                MAX_DUO_DOCUMENTS, c->n);
    size_t others = p->duo ? c->n - 1 : 1, n = c->n * others;
    CRANK_TRY(reserve_units(c, n, error));
    CRANK_TRY(growable_reserve(&c->s->prompted, n, c->max_length * sizeof(int32_t), error));
    int32_t *ids = c->s->prompted.data;
    for (size_t i = 0; i < c->n; i++) {
        const encoded *query = &c->texts[c->query_of[i]], *document = &c->texts[c->n_queries + i];
        for (size_t k = 0; k < others; k++) {
            const encoded *second = &c->texts[c->n_queries + (k < i ? k : k + 1)];
            const int32_t *second_ids = p->duo ? call_ids(c, second) : NULL;
            size_t used =
                prompt_fill(p, ids, c->max_length, call_ids(c, query), query->n,
                            call_ids(c, document), document->n, second_ids, p->duo ? second->n : 0);
            pack_sequence sequence = {
                .ids1 = ids, .n1 = (int32_t)used, .length = (int32_t)used, .ready = 1};
            add_unit(c, i, 0, sequence);
            ids += used;
        }
    }
    return CRANK_OK;
}

static crank_status pair_units(call *c, crank_error *error)
{
    if (c->s->model->ranker.present) return prompt_units(c, error);
    if (c->options.truncation == CRANK_WINDOW) return window_units(c, error);
    const tokenizer *tok = c->s->model->tok;
    int32_t added = tokenizer_info(tok)->n_added_pair;
    CRANK_TRY(reserve_units(c, c->n, error));
    for (size_t i = 0; i < c->n; i++) {
        const encoded *query = &c->texts[c->query_of[i]], *document = &c->texts[c->n_queries + i];
        size_t keep1, keep2;
        crank_status status = tok_pair_lengths(tok, query->n, document->n, c->max_length,
                                               call_truncation(c), &keep1, &keep2, error);
        if (status != CRANK_OK) return status_prefix(error, status, "pair %zu", i);
        pack_sequence sequence = {.ids1 = call_ids(c, query),
                                  .n1 = (int32_t)keep1,
                                  .ids2 = call_ids(c, document),
                                  .n2 = (int32_t)keep2,
                                  .length = (int32_t)(keep1 + keep2) + added};
        add_unit(c, i, 0, sequence);
    }
    return CRANK_OK;
}

/* Bi-encoders: every text is a unit, queries first. */
static crank_status text_units(call *c, size_t n, crank_error *error)
{
    const tokenizer *tok = c->s->model->tok;
    int32_t added = tokenizer_info(tok)->n_added_single;
    CRANK_TRY(reserve_units(c, n, error));
    for (size_t i = 0; i < n; i++) {
        size_t keep, none;
        crank_status status = tok_pair_lengths(tok, c->texts[i].n, SIZE_MAX, c->max_length,
                                               TOK_LONGEST_FIRST, &keep, &none, error);
        if (status != CRANK_OK) return status_prefix(error, status, "text %zu", i);
        pack_sequence sequence = {.ids1 = call_ids(c, &c->texts[i]),
                                  .n1 = (int32_t)keep,
                                  .length = (int32_t)keep + added};
        add_unit(c, i, 0, sequence);
    }
    return CRANK_OK;
}

/* ---- folding, cache, running ---- */

static bool equal_sequences(const pack_sequence *a, const pack_sequence *b)
{
    return a->n1 == b->n1 && a->n2 == b->n2 && (a->ids2 == NULL) == (b->ids2 == NULL) &&
           memcmp(a->ids1, b->ids1, (size_t)a->n1 * sizeof *a->ids1) == 0 &&
           (a->n2 == 0 || memcmp(a->ids2, b->ids2, (size_t)a->n2 * sizeof *a->ids2) == 0);
}

/* Each input is known by its ids on both sides; prompts are one side. */
static cache_key key_of(const crank_session *s, const pack_sequence *q)
{
    /* Each side by itself, so that ids cannot move from one to the other unnoticed. */
    XXH128_hash_t parts[3] = {
        {s->cache_seed[0], s->cache_seed[1]},
        XXH3_128bits(q->ids1, (size_t)q->n1 * sizeof *q->ids1),
        XXH3_128bits(q->n2 > 0 ? q->ids2 : q->ids1, (size_t)q->n2 * sizeof *q->ids2),
    };
    XXH128_hash_t all = XXH3_128bits(parts, sizeof parts);
    return (cache_key){all.high64, all.low64};
}

/* Marks every unit that equals an earlier one; open addressing over hashes of the ids. */
static crank_status fold_equal(call *c, cache_key *keys, crank_error *error)
{
    size_t slots = 16;
    while (slots < 2 * c->n_units) slots *= 2;
    CRANK_TRY(growable_reserve(&c->s->table, slots, sizeof(uint32_t), error));
    uint32_t *table = c->s->table.data; /* unit + 1; 0 empty */
    memset(table, 0, slots * sizeof *table);
    for (size_t i = 0; i < c->n_units; i++) {
        keys[i] = key_of(c->s, &c->sequences[i]);
        size_t at = keys[i].low & (slots - 1);
        while (table[at] != 0 && !equal_sequences(&c->sequences[table[at] - 1], &c->sequences[i])) {
            at = (at + 1) & (slots - 1);
        }
        if (table[at] == 0) table[at] = (uint32_t)i + 1;
        c->units[i].same_as = table[at] - 1;
    }
    return CRANK_OK;
}

/* Runs what is neither a repetition nor in the cache, and leaves every unit's outputs in
 * c->outputs. */
static crank_status run_units(call *c, crank_error *error)
{
    crank_session *s = c->s;
    size_t width = (size_t)s->model->readout.width, n = c->n_units;
    c->usage.tokenize_us = clock_us() - c->started_us;
    int64_t start = clock_us();
    bool cached = s->cache != NULL && width <= CACHE_MAX_VALUES;
    size_t row_bytes = width * sizeof(float);
    CRANK_TRY(growable_reserve(&s->outputs, n, 2 * row_bytes + sizeof(cache_key), error));
    cache_key *keys = s->outputs.data;
    c->outputs = (float *)(void *)(keys + n);
    float *computed = c->outputs + n * width; /* dense: only what runs */
    CRANK_TRY(fold_equal(c, keys, error));
    size_t n_run = 0;
    CRANK_TRY(growable_reserve(&s->results, n, sizeof(pack_sequence) + sizeof(size_t), error));
    pack_sequence *to_run = s->results.data;
    size_t *runs_unit = (size_t *)(void *)(to_run + n);
    for (size_t i = 0; i < n; i++) {
        unit *u = &c->units[i];
        if (u->same_as != i) continue;
        if (cached && cache_get(s->cache, keys[i], c->outputs + i * width, (int)width)) {
            u->cached = true;
            c->usage.cache_hits++;
            continue;
        }
        runs_unit[n_run] = i;
        to_run[n_run++] = c->sequences[i];
        c->usage.computed_tokens += (size_t)c->sequences[i].length;
    }
    crank_status status = session_run(s, to_run, n_run, computed, c->options.progress,
                                      c->options.progress_user, error);
    if (status != CRANK_OK) return status;
    c->usage.computed_pairs = n_run;
    for (size_t k = 0; k < n_run; k++) {
        size_t i = runs_unit[k];
        memcpy(c->outputs + i * width, computed + k * width, row_bytes);
        if (cached) cache_put(s->cache, keys[i], computed + k * width, (int)width);
    }
    for (size_t i = 0; i < n; i++) {
        size_t same = c->units[i].same_as;
        if (same != i) {
            memcpy(c->outputs + i * width, c->outputs + same * width, row_bytes);
        }
    }
    c->usage.compute_us = clock_us() - start;
    return CRANK_OK;
}

/* ---- logits ---- */

/* Cosine of two normalised vectors, summed in order. */
static float dot(const float *a, const float *b, size_t n)
{
    float sum = 0.0f;
    for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* A unit's one number: the logit, or what a ranker makes of its answers' logits. */
static float unit_logit(const call *c, size_t u)
{
    const crank_model *m = c->s->model;
    const float *outputs = c->outputs + u * (size_t)m->readout.width;
    if (!m->ranker.present) return outputs[0];
    return prompt_reduce(m->ranker.reduction, outputs, m->readout.width);
}

/* Which unit's outputs stand for pair `pair` (the best window), starting the search at *at. */
static size_t best_unit(const call *c, size_t pair, size_t *at)
{
    size_t best = *at;
    for (; *at < c->n_units && c->units[*at].pair == pair; ++*at) {
        if (*at != best && unit_logit(c, *at) > unit_logit(c, best)) best = *at;
    }
    return best;
}

/* Duo rankers: how often document i wins, over all ordered pairs. */
static float aggregate(const call *c, size_t i)
{
    size_t n = c->n;
    crank_aggregation how = c->options.aggregation;
    bool both = how == CRANK_SYM_SUM || how == CRANK_SYM_SUM_LOG;
    bool logs = how == CRANK_SYM_SUM_LOG || how == CRANK_SUM_LOG;
    float sum = 0.0f;
    for (size_t j = 0; j < n; j++) {
        if (j == i) continue;
        float wins = unit_logit(c, i * (n - 1) + (j < i ? j : j - 1));
        float loses = unit_logit(c, j * (n - 1) + (i < j ? i : i - 1));
        sum += logs ? logf(wins) : wins;
        if (both) sum += logs ? logf(1.0f - loses) : 1.0f - loses;
    }
    return sum;
}

static crank_status score_all(call *c, crank_error *error)
{
    c->usage.pairs = c->n;
    if (c->n == 0) return CRANK_OK;
    bool alone = c->s->model->readout.kind != READOUT_HEAD;
    if (c->s->model->late.present) return late_score(c, error);
    CRANK_TRY(call_encode_pairs(c, alone, error));
    if (alone) {
        CRANK_TRY(text_units(c, c->n_queries + c->n, error));
    } else {
        CRANK_TRY(pair_units(c, error));
    }
    return run_units(c, error);
}

crank_activation call_activation(const call *c)
{
    return c->options.activation != CRANK_ACTIVATION_MODEL ? c->options.activation
                                                           : c->s->model->activation;
}

float crank_activate(crank_activation activation, float logit)
{
    switch (activation) {
    case CRANK_ACTIVATION_SIGMOID: return 1.0f / (1.0f + expf(-logit));
    case CRANK_ACTIVATION_TANH: return tanhf(logit);
    case CRANK_ACTIVATION_SOFTMAX: /* of one label: 1; of several: softmax_rows */
    case CRANK_ACTIVATION_MODEL:
    case CRANK_ACTIVATION_IDENTITY: break;
    }
    return activation == CRANK_ACTIVATION_SOFTMAX ? 1.0f : logit;
}

static void activate_row(crank_activation activation, float *scores, const float *logits,
                         size_t width)
{
    if (activation != CRANK_ACTIVATION_SOFTMAX) {
        for (size_t i = 0; i < width; i++) scores[i] = crank_activate(activation, logits[i]);
        return;
    }
    float most = logits[0], sum = 0.0f;
    for (size_t i = 1; i < width; i++) most = logits[i] > most ? logits[i] : most;
    for (size_t i = 0; i < width; i++) sum += scores[i] = expf(logits[i] - most);
    for (size_t i = 0; i < width; i++) scores[i] /= sum;
}

/* logits of pair i into row [width] (bi-encoders: the cosine, width 1); returns the unit. */
static size_t pair_logits(const call *c, size_t i, size_t *at, float *row)
{
    size_t width = (size_t)c->s->model->readout.width;
    if (c->s->model->late.present) {
        row[0] = c->outputs[i];
        return 0;
    }
    if (c->s->model->readout.kind == READOUT_VECTOR) {
        row[0] = dot(c->outputs + c->query_of[i] * width, c->outputs + (c->n_queries + i) * width,
                     width);
        return c->n_queries + i;
    }
    const crank_model *m = c->s->model;
    if (m->ranker.prompt.duo) {
        row[0] = aggregate(c, i);
        return 0;
    }
    size_t best = best_unit(c, i, at);
    row[0] = unit_logit(c, best);
    if (model_labels(m) > 1) memcpy(row, c->outputs + best * width, width * sizeof *row);
    return best;
}

static size_t label_count(const crank_model *m)
{
    return (size_t)model_labels(m);
}

static void fill_pair_tokens(const call *c)
{
    uint32_t *tokens = c->options.pair_tokens;
    if (tokens == NULL || c->n == 0) return;
    memset(tokens, 0, c->n * sizeof *tokens);
    if (c->s->model->readout.kind != READOUT_HEAD) { /* sequences are texts, queries first */
        for (size_t i = 0; i < c->n; i++) {
            tokens[i] = (uint32_t)(c->sequences[c->query_of[i]].length +
                                   c->sequences[c->n_queries + i].length);
        }
        return;
    }
    for (size_t u = 0; u < c->n_units; u++) {
        tokens[c->units[u].pair] += (uint32_t)c->sequences[u].length;
    }
}

crank_status crank_score(crank_session *s, const crank_pair *pairs, size_t n,
                         const crank_score_options *options, float *logits, float *scores,
                         crank_usage *usage, crank_error *error)
{
    CRANK_CHECK(s != NULL && (pairs != NULL || n == 0), INVALID_ARGUMENT, error,
                "crank_score: session and pairs must not be NULL");
    call c;
    CRANK_TRY(call_open(&c, s, options, error));
    size_t labels = label_count(s->model);
    CRANK_CHECK(!s->model->ranker.prompt.duo, INVALID_ARGUMENT, error,
                "a duo ranker compares documents with each other: use crank_rank");
    CRANK_CHECK(c.options.truncation != CRANK_WINDOW || labels == 1, INVALID_ARGUMENT, error,
                "windows need a model with one label, this one has %zu", labels);
    c.n = n;
    if (n > 0) {
        c.queries = (text_list){&pairs->query, sizeof *pairs};
        c.documents = (text_list){&pairs->document, sizeof *pairs};
    }
    CRANK_TRY(score_all(&c, error));
    crank_activation activation = call_activation(&c);
    CRANK_TRY(growable_reserve(&s->results, labels, 2 * sizeof(float), error));
    float *row = s->results.data, *activated = row + labels;
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        pair_logits(&c, i, &at, row);
        activate_row(activation, activated, row, labels);
        if (logits != NULL) memcpy(logits + i * labels, row, labels * sizeof *row);
        if (scores != NULL) memcpy(scores + i * labels, activated, labels * sizeof *row);
    }
    fill_pair_tokens(&c);
    call_finish(&c, usage);
    return CRANK_OK;
}

/* ---- ranking ---- */

static int by_score(const void *left, const void *right)
{
    const crank_result *a = left, *b = right;
    if (a->score != b->score) return a->score < b->score ? 1 : -1;
    return a->index < b->index ? -1 : a->index > b->index;
}

/* In place, no allocation (qsort may allocate): heap sort over unique keys. */
static void sift_down(crank_result *r, size_t root, size_t n)
{
    for (size_t child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && by_score(&r[child], &r[child + 1]) < 0) child++;
        if (by_score(&r[root], &r[child]) >= 0) return;
        crank_result moved = r[root];
        r[root] = r[child];
        r[child] = moved;
    }
}

void call_sort(crank_result *r, size_t n)
{
    for (size_t i = n / 2; i-- > 0;) sift_down(r, i, n);
    for (size_t end = n; end-- > 1;) {
        crank_result moved = r[0];
        r[0] = r[end];
        r[end] = moved;
        sift_down(r, 0, end);
    }
}

/* Bytes of the winning window: the document is encoded once more, with offsets. */
static crank_status locate_window(const call *c, crank_result *result, const unit *u,
                                  const pack_sequence *sequence, crank_error *error)
{
    const crank_text *text = text_at(c->documents, result->index);
    if (sequence->n2 == 0) return CRANK_OK; /* the whole, empty document */
    if (c->texts[c->n_queries + result->index].n == (size_t)sequence->n2) return CRANK_OK;
    tok_ids ids = {0}, offsets = {0};
    crank_status status = tok_encode_offsets(c->s->model->tok, c->s->workers[0].scratch, text->data,
                                             text->bytes, c->tok_flags, &ids, &offsets, error);
    size_t last = (size_t)u->window_first + (size_t)sequence->n2 - 1;
    if (status == CRANK_OK && 2 * last + 1 < offsets.n) {
        uint32_t start = (uint32_t)offsets.ids[2 * (size_t)u->window_first];
        result->window_start = start;
        result->window_bytes = (uint32_t)offsets.ids[2 * last + 1] - start;
    }
    tok_ids_free(&ids);
    tok_ids_free(&offsets);
    return status;
}

crank_status crank_rank(crank_session *s, crank_text query, const crank_text *docs, size_t n,
                        const crank_score_options *options, crank_result *results,
                        size_t *n_results, crank_usage *usage, crank_error *error)
{
    CRANK_CHECK(s != NULL && n_results != NULL && (n == 0 || (docs != NULL && results != NULL)),
                INVALID_ARGUMENT, error,
                "crank_rank: session, docs, results and n_results must not be NULL");
    *n_results = 0;
    call c;
    CRANK_TRY(call_open(&c, s, options, error));
    CRANK_CHECK(label_count(s->model) == 1, INVALID_ARGUMENT, error,
                "ranking needs a model with one label, this one has %zu: use crank_score",
                label_count(s->model));
    c.n = n;
    c.queries = (text_list){&query, 0};
    c.documents = (text_list){docs, sizeof *docs};
    CRANK_TRY(score_all(&c, error));
    if (n == 0) {
        call_finish(&c, usage);
        return CRANK_OK;
    }
    /* results may hold top_k rows only: sort all of them in the session's memory. */
    CRANK_TRY(growable_reserve(&s->results, n, sizeof(crank_result) + sizeof(size_t), error));
    crank_result *all = s->results.data;
    size_t *unit_of = (size_t *)(void *)(all + n);
    crank_activation activation = call_activation(&c);
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        float logit;
        unit_of[i] = pair_logits(&c, i, &at, &logit);
        all[i] =
            (crank_result){.index = i, .logit = logit, .window_bytes = (uint32_t)docs[i].bytes};
        activate_row(activation, &all[i].score, &logit, 1);
    }
    call_sort(all, n);
    size_t top = c.options.top_k != 0 && c.options.top_k < n ? c.options.top_k : n;
    for (size_t i = 0; i < top; i++) {
        if (c.options.truncation == CRANK_WINDOW) {
            size_t u = unit_of[all[i].index];
            CRANK_TRY(locate_window(&c, &all[i], &c.units[u], &c.sequences[u], error));
        }
        results[i] = all[i];
    }
    *n_results = top;
    fill_pair_tokens(&c);
    call_finish(&c, usage);
    return CRANK_OK;
}

/* ---- vectors and ready ids ---- */

crank_status crank_embed(crank_session *s, const crank_text *texts, size_t n,
                         const crank_score_options *options, float *vectors, crank_usage *usage,
                         crank_error *error)
{
    CRANK_CHECK(s != NULL && (n == 0 || (texts != NULL && vectors != NULL)), INVALID_ARGUMENT,
                error, "crank_embed: session, texts and vectors must not be NULL");
    CRANK_CHECK(s->model->readout.kind == READOUT_VECTOR, INVALID_ARGUMENT, error,
                "crank_embed needs a bi-encoder; %s is none", s->model->name);
    call c;
    CRANK_TRY(call_open(&c, s, options, error));
    c.n = n;
    c.usage.pairs = n;
    if (n > 0) {
        CRANK_TRY(call_encode_texts(&c, (text_list){texts, sizeof *texts}, n, error));
        CRANK_TRY(text_units(&c, n, error));
        CRANK_TRY(run_units(&c, error));
        memcpy(vectors, c.outputs, n * (size_t)s->model->readout.width * sizeof *vectors);
    }
    call_finish(&c, usage);
    return CRANK_OK;
}

static crank_status check_ids(const crank_model *m, const int32_t *ids, const int32_t *types,
                              size_t first, size_t end, size_t sequence, crank_error *error)
{
    const token_rules *rules = &m->tokens;
    CRANK_CHECK(end > first && end - first <= (size_t)rules->max_tokens, INVALID_ARGUMENT, error,
                "sequence %zu: expected 1 to %d tokens, found %zu", sequence, rules->max_tokens,
                end > first ? end - first : 0);
    int32_t n_types = rules->n_types > 1 ? rules->n_types : 1 << 30;
    for (size_t i = first; i < end; i++) {
        CRANK_CHECK(ids[i] >= 0 && ids[i] < rules->vocab_size, INVALID_ARGUMENT, error,
                    "sequence %zu, token %zu: expected an id below %d, found %d", sequence,
                    i - first, rules->vocab_size, ids[i]);
        CRANK_CHECK(types == NULL || (types[i] >= 0 && types[i] < n_types), INVALID_ARGUMENT, error,
                    "sequence %zu, token %zu: expected a type below %d, found %d", sequence,
                    i - first, n_types, types[i]);
    }
    return CRANK_OK;
}

crank_status crank_score_tokens(crank_session *s, const int32_t *ids, const int32_t *types,
                                const size_t *starts, size_t n, float *logits, crank_usage *usage,
                                crank_error *error)
{
    CRANK_CHECK(s != NULL && (n == 0 || (ids != NULL && starts != NULL && logits != NULL)),
                INVALID_ARGUMENT, error,
                "crank_score_tokens: session, ids, starts and logits must not be NULL");
    int64_t started = clock_us();
    crank_usage counted = {.pairs = n, .computed_pairs = n};
    CRANK_TRY(growable_reserve(&s->sequences, n, sizeof(pack_sequence), error));
    pack_sequence *sequences = s->sequences.data;
    for (size_t i = 0; i < n; i++) {
        CRANK_TRY(check_ids(s->model, ids, types, starts[i], starts[i + 1], i, error));
        sequences[i] = (pack_sequence){.ids1 = ids + starts[i],
                                       .types = types != NULL ? types + starts[i] : NULL,
                                       .length = (int32_t)(starts[i + 1] - starts[i]),
                                       .ready = 1,
                                       .label = (uint32_t)i};
        counted.tokens += starts[i + 1] - starts[i];
    }
    counted.computed_tokens = counted.tokens;
    CRANK_TRY(session_run(s, sequences, n, logits, NULL, NULL, error));
    counted.compute_us = counted.total_us = clock_us() - started;
    if (usage != NULL) *usage = counted;
    return CRANK_OK;
}
