/* crank rerank: many requests to a TREC run. Two sources of requests: JSON Lines that carry the
 * texts, of which one group is in memory at a time; or a first-stage run with its queries and its
 * corpus, of which only the documents that the run names are kept. With --embeddings documents are
 * vectors of a file, and requests name them by their ids alone. */
#include <stdlib.h>
#include <string.h>

#include "cli/model.h"
#include "cli/output.h"
#include "cli/records.h"
#include "cli/trec.h"

/* Requests are scored in groups, so that many short ones still fill the machine's batches. */
enum { GROUP_PAIRS = 2048, GROUP_BYTES = 32 << 20 };

typedef struct request {
    const char *qid;
    size_t first, n; /* its candidates among the group's */
} request;

typedef struct candidate {
    const char *docid;
    float score;
    size_t index;  /* in its request */
    size_t number; /* in the embeddings file */
} candidate;

/* The documents of an embeddings file by their ids. */
typedef struct embedded {
    crank_embeddings *file; /* NULL: documents are texts */
    names ids;
    size_t *numbers; /* [ids.n]: of the document with that id */
    size_t *place;   /* [documents]: of a document in the request that is ranked */
    size_t *wanted;  /* [wanted_capacity] */
    crank_result *results;
    size_t wanted_capacity;
} embedded;

typedef struct rerank_job {
    model_flags model;
    const char *out_path, *tag;
    const char *run_path, *queries_path, *corpus_path, *embeddings_path;
    embedded embedded;
    size_t depth;
    crank_usage usage;
    progress bar;

    /* the group; texts and names live elsewhere */
    request *requests;
    size_t n_requests, requests_capacity;
    candidate *candidates; /* [n] */
    crank_pair *pairs;     /* [n] */
    size_t n, candidates_capacity, pairs_capacity;
    float *scores;
    size_t scores_capacity;
} rerank_job;

static void begin_request(rerank_job *job, const char *qid)
{
    job->requests =
        cli_append(job->requests, job->n_requests, &job->requests_capacity, sizeof *job->requests);
    job->requests[job->n_requests++] = (request){qid, job->n, 0};
}

/* Adds a candidate to the request begun last: a text, or a document of the embeddings file. */
static void add_candidate(rerank_job *job, const char *docid, crank_text query, crank_text document,
                          size_t number)
{
    request *r = &job->requests[job->n_requests - 1];
    job->candidates =
        cli_append(job->candidates, job->n, &job->candidates_capacity, sizeof *job->candidates);
    job->pairs = cli_append(job->pairs, job->n, &job->pairs_capacity, sizeof *job->pairs);
    job->candidates[job->n] = (candidate){docid, 0, r->n++, number};
    job->pairs[job->n++] = (crank_pair){query, document};
}

static int best_first(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* ---- documents of an embeddings file ---- */

static cli_exit open_embedded(embedded *e, const char *path)
{
    crank_error error = {0};
    crank_embeddings_info info = {.size = sizeof info};
    if (crank_embeddings_open(&e->file, path, &error) != CRANK_OK ||
        crank_embeddings_describe(e->file, &info, &error) != CRANK_OK)
        return cli_fail_status(&error, 0);
    if (info.documents > 0 && !info.has_ids)
        return cli_fail(CLI_USAGE, "%s: its documents have no ids, which requests could name",
                        path);
    e->numbers = cli_alloc(info.documents + 1, sizeof *e->numbers);
    e->place = cli_alloc(info.documents + 1, sizeof *e->place);
    for (size_t i = 0; i < info.documents; i++) {
        const char *id = crank_embeddings_id(e->file, i);
        int is_new;
        size_t name = names_add(&e->ids, id, strlen(id), &is_new);
        if (!is_new) return cli_fail(CLI_USAGE, "%s: document %s comes twice", path, id);
        e->numbers[name] = i;
    }
    return CLI_OK;
}

static void close_embedded(embedded *e)
{
    crank_embeddings_close(e->file);
    names_clear(&e->ids);
    free(e->numbers);
    free(e->place);
    free(e->wanted);
    free(e->results);
}

/* NAME_NONE: the file has no such document. */
static size_t embedded_number(const embedded *e, const char *docid)
{
    size_t name = names_find(&e->ids, docid, strlen(docid));
    return name == NAME_NONE ? NAME_NONE : e->numbers[name];
}

static cli_exit score_embedded(rerank_job *job, opened_model *opened, const request *r,
                               const crank_score_options *options)
{
    embedded *e = &job->embedded;
    candidate *list = job->candidates + r->first;
    if (r->n == 0) return CLI_OK;
    if (r->n > e->wanted_capacity) {
        e->wanted_capacity = r->n;
        e->wanted = cli_grow(e->wanted, r->n, sizeof *e->wanted);
        e->results = cli_grow(e->results, r->n, sizeof *e->results);
    }
    for (size_t i = 0; i < r->n; i++) {
        e->wanted[i] = list[i].number;
        e->place[list[i].number] = i;
    }
    size_t n_results;
    crank_usage usage = {0};
    crank_error error = {0};
    if (crank_rank_embeddings(opened->session, job->pairs[r->first].query, e->file, e->wanted, r->n,
                              options, e->results, &n_results, &usage, &error) != CRANK_OK)
        return cli_fail_status(&error, 0);
    for (size_t i = 0; i < n_results; i++)
        list[e->place[e->results[i].index]].score = e->results[i].score;
    add_usage(&job->usage, &usage);
    return CLI_OK;
}

/* ---- the group ---- */

static cli_exit score_texts(rerank_job *job, opened_model *opened,
                            const crank_score_options *options)
{
    if (job->n > job->scores_capacity) {
        job->scores_capacity = job->n;
        job->scores = cli_grow(job->scores, job->n, sizeof *job->scores);
    }
    crank_usage usage = {0};
    crank_error error = {0};
    if (crank_score(opened->session, job->pairs, job->n, options, NULL, job->scores, &usage,
                    &error) != CRANK_OK)
        return cli_fail_status(&error, 0);
    for (size_t i = 0; i < job->n; i++) job->candidates[i].score = job->scores[i];
    add_usage(&job->usage, &usage);
    return CLI_OK;
}

/* Scores the group, writes its lines and empties it. */
static cli_exit flush_group(rerank_job *job, opened_model *opened, output *out)
{
    crank_score_options options = score_options_of(&job->model);
    options.progress = progress_report;
    options.progress_user = &job->bar;
    options.top_k = 0; /* cut where lines are written */
    cli_exit code = CLI_OK;
    if (!job->embedded.file) code = score_texts(job, opened, &options);
    for (size_t q = 0; job->embedded.file && q < job->n_requests && code == CLI_OK; q++)
        code = score_embedded(job, opened, &job->requests[q], &options);
    if (code != CLI_OK) return code;
    FILE *to = output_stream(out);
    for (size_t q = 0; q < job->n_requests; q++) {
        const request *r = &job->requests[q];
        candidate *list = job->candidates + r->first;
        size_t n = job->model.top_k && job->model.top_k < r->n ? job->model.top_k : r->n;
        if (r->n) qsort(list, r->n, sizeof *list, best_first);
        for (size_t i = 0; i < n; i++)
            fprintf(to, "%s Q0 %s %zu %.9g %s\n", r->qid, list[i].docid, i + 1,
                    (double)list[i].score, job->tag);
    }
    job->bar.before += job->n;
    job->n = job->n_requests = 0;
    return output_check(out);
}

/* ---- requests from JSON Lines ---- */

static cli_exit read_docs(rerank_job *job, const records *r, crank_text query, store *keep)
{
    const json_t *docs = json_object_get(r->object, "docs");
    if (!json_is_array(docs)) return input_bad(r->in, "no array \"docs\"");
    names seen = {0};
    cli_exit code = CLI_OK;
    size_t n = json_array_size(docs);
    for (size_t i = 0; i < n && code == CLI_OK; i++) {
        const json_t *doc = json_array_get(docs, i);
        char where[40];
        snprintf(where, sizeof where, "docs[%zu].", i);
        if (!json_is_object(doc)) {
            code = input_bad(r->in, "docs[%zu] is not an object", i);
            break;
        }
        crank_text text;
        const char *docid;
        size_t number = NAME_NONE;
        int with_text = job->embedded.file == NULL;
        code = record_id_in(r, doc, where, "docid", 1, keep, &docid);
        if (code == CLI_OK) code = record_text_in(r, doc, where, "text", with_text, &text);
        if (code != CLI_OK) break;
        if (!with_text) {
            text = (crank_text){"", 0};
            number = embedded_number(&job->embedded, docid);
        }
        int is_new;
        names_add(&seen, docid, strlen(docid), &is_new);
        if (!trec_name_is_plain(docid))
            code = input_bad(r->in, "\"%sdocid\" is empty or has blanks, which a run cannot hold",
                             where);
        else if (!is_new)
            code = input_bad(r->in, "\"%sdocid\" %s came before in this request", where, docid);
        else if (!with_text && number == NAME_NONE)
            code =
                input_bad(r->in, "\"%sdocid\" %s is not in %s", where, docid, job->embeddings_path);
        if (code == CLI_OK && (job->depth == 0 || i < job->depth))
            add_candidate(job, docid, query, store_text(keep, text.data, text.bytes), number);
    }
    names_clear(&seen);
    return code;
}

static cli_exit read_request(rerank_job *job, const records *r, store *keep, names *qids)
{
    const char *qid;
    crank_text query;
    cli_exit code = record_id_in(r, r->object, "", "qid", 1, keep, &qid);
    if (code == CLI_OK) code = record_text(r, "query", 1, &query);
    if (code != CLI_OK) return code;
    int is_new;
    names_add(qids, qid, strlen(qid), &is_new);
    if (!trec_name_is_plain(qid))
        return input_bad(r->in, "\"qid\" is empty or has blanks, which a run cannot hold");
    if (!is_new) return input_bad(r->in, "\"qid\" %s came before", qid);
    begin_request(job, qid);
    return read_docs(job, r, store_text(keep, query.data, query.bytes), keep);
}

static cli_exit rerank_lines(rerank_job *job, opened_model *opened, records *r, output *out)
{
    store keep = {0};
    names qids = {0};
    cli_exit code;
    progress_start(&job->bar, "pairs", (progress_mode)job->model.progress);
    job->bar.total_unknown = 1;
    for (;;) {
        crank_text line;
        code = records_next(r, &line);
        if (code != CLI_OK) break;
        job->bar.fraction = input_fraction(r->in);
        if (line.data) code = read_request(job, r, &keep, &qids);
        if (code != CLI_OK) break;
        if (line.data && job->n < GROUP_PAIRS && keep.bytes < GROUP_BYTES) continue;
        code = flush_group(job, opened, out);
        store_clear(&keep);
        if (code != CLI_OK || !line.data) break;
    }
    store_clear(&keep);
    names_clear(&qids);
    return code;
}

/* ---- requests from a run, its queries and its corpus ---- */

typedef struct collection {
    trec run;
    store keep;
    crank_text *queries; /* [run.qids.n], data NULL where not found yet */
    crank_text *docs;    /* [run.docs.n] */
} collection;

static cli_exit read_queries(collection *c, const char *path)
{
    records r;
    cli_exit code = records_open(&r, path, FORMAT_AUTO);
    while (code == CLI_OK) {
        crank_text line, text;
        code = records_next(&r, &line);
        if (code != CLI_OK || !line.data) break;
        crank_text qid = line;
        if (r.object) {
            const char *id;
            code = record_id_in(&r, r.object, "", json_object_get(r.object, "_id") ? "_id" : "qid",
                                1, &c->keep, &id);
            if (code == CLI_OK)
                code =
                    record_text(&r, json_object_get(r.object, "text") ? "text" : "query", 1, &text);
            if (code == CLI_OK) qid = (crank_text){id, strlen(id)};
        } else if (line.bytes > 0) {
            const char *tab = memchr(line.data, '\t', line.bytes);
            if (!tab) {
                code = input_bad(r.in, "no tab between qid and query");
                break;
            }
            qid.bytes = (size_t)(tab - line.data);
            text = (crank_text){tab + 1, line.bytes - qid.bytes - 1};
        }
        if (code != CLI_OK || line.bytes == 0) continue;
        size_t number = names_find(&c->run.qids, qid.data, qid.bytes);
        if (number == NAME_NONE) continue;
        if (c->queries[number].data)
            code = input_bad(r.in, "query %.*s comes twice", (int)qid.bytes, qid.data);
        else
            c->queries[number] = store_text(&c->keep, text.data, text.bytes);
    }
    records_close(&r);
    return code;
}

/* {"docid","text"}, or BEIR's {"_id","title","text"}, whose title goes before the text as BEIR's
 * own re-ranking does it. */
static cli_exit read_document(collection *c, records *r)
{
    static const char *const keys[] = {"docid", "_id", "id"};
    const char *key = keys[0];
    for (size_t i = 0; i < 3; i++) {
        if (json_object_get(r->object, keys[i])) {
            key = keys[i];
            break;
        }
    }
    store scratch = {0};
    const char *docid;
    crank_text text, title;
    cli_exit code = record_id_in(r, r->object, "", key, 1, &scratch, &docid);
    if (code == CLI_OK) code = record_text(r, "text", 1, &text);
    if (code == CLI_OK) code = record_text(r, "title", 0, &title);
    if (code == CLI_OK) {
        size_t number = names_find(&c->run.docs, docid, strlen(docid));
        if (number == NAME_NONE) {
            /* not among the candidates */
        } else if (c->docs[number].data) {
            code = input_bad(r->in, "document %s comes twice", docid);
        } else if (title.bytes > 0) {
            char *joined = cli_alloc(title.bytes + 1 + text.bytes, 1);
            memcpy(joined, title.data, title.bytes);
            joined[title.bytes] = ' ';
            memcpy(joined + title.bytes + 1, text.data, text.bytes);
            c->docs[number] = store_text(&c->keep, joined, title.bytes + 1 + text.bytes);
            free(joined);
        } else {
            c->docs[number] = store_text(&c->keep, text.data, text.bytes);
        }
    }
    store_clear(&scratch);
    return code;
}

static cli_exit read_corpus(rerank_job *job, collection *c)
{
    records r;
    cli_exit code = records_open(&r, job->corpus_path, FORMAT_AUTO);
    progress_start(&job->bar, "documents read", (progress_mode)job->model.progress);
    job->bar.total_unknown = 1;
    for (size_t n = 0; code == CLI_OK; n++) {
        crank_text line;
        code = records_next(&r, &line);
        if (code != CLI_OK || !line.data) break;
        if (r.object) {
            code = read_document(c, &r);
        } else { /* MS MARCO's collection.tsv: docid<TAB>text */
            crank_text docid, text;
            code = record_split(&r, line, &docid, &text);
            size_t number =
                code == CLI_OK ? names_find(&c->run.docs, docid.data, docid.bytes) : NAME_NONE;
            if (number != NAME_NONE) c->docs[number] = store_text(&c->keep, text.data, text.bytes);
        }
        job->bar.fraction = input_fraction(r.in);
        if (n % 1024 == 0 && progress_report(&job->bar, n, 0)) code = CLI_ERRORS;
    }
    progress_hide();
    records_close(&r);
    return code;
}

static cli_exit read_collection(rerank_job *job, collection *c)
{
    cli_exit code = trec_read_run(&c->run, job->run_path);
    if (code != CLI_OK) return code;
    trec_order(&c->run);
    c->queries = cli_alloc(c->run.qids.n, sizeof *c->queries);
    c->docs = cli_alloc(c->run.docs.n, sizeof *c->docs);
    memset(c->queries, 0, c->run.qids.n * sizeof *c->queries);
    memset(c->docs, 0, c->run.docs.n * sizeof *c->docs);
    code = read_queries(c, job->queries_path);
    if (code == CLI_OK && job->corpus_path) code = read_corpus(job, c);
    return code;
}

/* Everything that the run names must be there before the first score is computed. */
static cli_exit check_collection(const rerank_job *job, const collection *c)
{
    for (size_t q = 0; q < c->run.qids.n; q++) {
        const trec_topic *topic = &c->run.topics[q];
        if (topic->n_found && !c->queries[q].data)
            return cli_fail(CLI_USAGE, "%s:%zu: query %s is not in %s", job->run_path,
                            topic->found[0].line, c->run.qids.texts[q], job->queries_path);
        for (size_t i = 0; i < topic->n_found; i++) {
            const retrieved *item = &topic->found[i];
            const char *docid = c->run.docs.texts[item->doc];
            int there = job->embedded.file ? embedded_number(&job->embedded, docid) != NAME_NONE
                                           : c->docs[item->doc].data != NULL;
            if (!there)
                return cli_fail(CLI_USAGE, "%s:%zu: document %s is not in %s", job->run_path,
                                item->line, docid,
                                job->embedded.file ? job->embeddings_path : job->corpus_path);
        }
    }
    return CLI_OK;
}

static cli_exit rerank_collection(rerank_job *job, opened_model *opened, const collection *c,
                                  output *out)
{
    size_t depth = job->depth ? job->depth : SIZE_MAX;
    progress_start(&job->bar, "pairs", (progress_mode)job->model.progress);
    for (size_t q = 0; q < c->run.qids.n; q++) {
        size_t n = c->run.topics[q].n_found;
        job->bar.total += n < depth ? n : depth;
    }
    cli_exit code = CLI_OK;
    for (size_t q = 0; q < c->run.qids.n && code == CLI_OK; q++) {
        const trec_topic *topic = &c->run.topics[q];
        begin_request(job, c->run.qids.texts[q]);
        for (size_t i = 0; i < topic->n_found && i < depth; i++) {
            size_t doc = topic->found[i].doc;
            const char *docid = c->run.docs.texts[doc];
            size_t number = job->embedded.file ? embedded_number(&job->embedded, docid) : NAME_NONE;
            add_candidate(job, docid, c->queries[q], c->docs[doc], number);
        }
        if (job->n >= GROUP_PAIRS || q + 1 == c->run.qids.n) code = flush_group(job, opened, out);
    }
    return code;
}

static void clear_collection(collection *c)
{
    trec_clear(&c->run);
    store_clear(&c->keep);
    free(c->queries);
    free(c->docs);
}

static cli_exit check_usage(const cli_command *self, const rerank_job *job, int n_files)
{
    int n_given = (job->run_path != NULL) + (job->queries_path != NULL);
    int has_texts = job->corpus_path != NULL, has_vectors = job->embeddings_path != NULL;
    if (!job->model.path) return options_misuse(self, "no model: -m MODEL");
    if (has_texts && has_vectors)
        return options_misuse(self, "--corpus and --embeddings exclude each other");
    if (n_given == 1 || (n_given == 2 && !has_texts && !has_vectors) || (n_given == 0 && has_texts))
        return options_misuse(self, "--run, --queries and --corpus (or --embeddings) go together");
    if (n_given && n_files)
        return options_misuse(self, "requests from a FILE or from --run, not both");
    if (!trec_name_is_plain(job->tag)) return options_misuse(self, "--tag is one word");
    return CLI_OK;
}

static cli_exit run(const cli_command *self, int argc, char **argv)
{
    rerank_job job = {.tag = "crank"};
    const cli_option options[] = {
        {"output", 'o', OPTION_TEXT, &job.out_path, "RUN",
         "the TREC run, written whole or not at all; stdout", 0, 0, NULL},
        {"run", 0, OPTION_TEXT, &job.run_path, "R", "a first-stage TREC run to re-rank", 0, 0,
         NULL},
        {"queries", 0, OPTION_TEXT, &job.queries_path, "TSV", "its queries, qid<TAB>query", 0, 0,
         NULL},
        {"corpus", 0, OPTION_TEXT, &job.corpus_path, "JSONL",
         "its documents, {\"docid\",\"text\"} a line; also BEIR's corpus.jsonl and docid<TAB>text",
         0, 0, NULL},
        {"embeddings", 0, OPTION_TEXT, &job.embeddings_path, "EMB",
         "ColBERT documents as crank encode wrote them, by their ids: no texts are read", 0, 0,
         NULL},
        {"depth", 0, OPTION_COUNT, &job.depth, "N", "the first N candidates of each query; all", 1,
         0, NULL},
        {"top-k", 0, OPTION_COUNT, &job.model.top_k, "N", "write the best N of each query; all", 1,
         0, NULL},
        {"tag", 0, OPTION_TEXT, &job.tag, "WORD", "last column of the run; crank", 0, 0, NULL},
        SCORING_OPTIONS(&job.model),
    };
    cli_arguments files;
    cli_exit code =
        options_parse(self, options, sizeof options / sizeof *options, argc, argv, 0, 1, &files);
    if (code != CLI_PARSED) return code;
    code = check_usage(self, &job, files.n);
    if (code != CLI_OK) return code;

    opened_model opened = {0};
    records lines = {0};
    collection texts = {0};
    output *out = NULL;
    if (job.embeddings_path) code = open_embedded(&job.embedded, job.embeddings_path);
    if (code == CLI_OK && job.run_path)
        code = read_collection(&job, &texts);
    else if (code == CLI_OK)
        code = records_open(&lines, files.n ? files.at[0] : "-", FORMAT_JSONL);
    if (code == CLI_OK && job.run_path) code = check_collection(&job, &texts);
    if (code == CLI_OK) code = model_open(&opened, &job.model, 1);
    if (code == CLI_OK && opened.info.labels > 1)
        code = cli_fail(CLI_USAGE, "%s: has %d labels; an order needs one", job.model.path,
                        opened.info.labels);
    if (code == CLI_OK) code = output_open(&out, job.out_path);
    if (code == CLI_OK)
        code = job.run_path ? rerank_collection(&job, &opened, &texts, out)
                            : rerank_lines(&job, &opened, &lines, out);
    progress_hide();
    if (code == CLI_OK)
        code = output_commit(out);
    else
        output_discard(out);
    if (code == CLI_OK) report_usage(&opened, &job.model, &job.usage);
    model_close(&opened);
    records_close(&lines);
    clear_collection(&texts);
    close_embedded(&job.embedded);
    free(job.requests);
    free(job.candidates);
    free(job.pairs);
    free(job.scores);
    return code;
}

const cli_command rerank_command = {
    .name = "rerank",
    .summary = "Re-ranks the candidates of many queries and writes a TREC run.",
    .synopsis = "-m MODEL [FILE|-] -o RUN",
    .details =
        "FILE holds JSON Lines {\"qid\",\"query\",\"docs\":[{\"docid\",\"text\"}]}. Or, from files "
        "of the\n"
        "trade: --run R --queries TSV --corpus JSONL, each of which may be .gz. Scores have 9\n"
        "significant digits; equal scores keep the candidates' order (trec_eval and crank eval\n"
        "order them by docid, falling). With --embeddings documents are named by their docid "
        "alone\n"
        "(no \"text\", no --corpus), and only queries are encoded.",
    .example = "  crank rerank -m MODEL requests.jsonl -o minilm.run\n"
               "  crank rerank -m MODEL --run bm25.run.gz --queries queries.tsv \\\n"
               "      --corpus corpus.jsonl.gz --depth 100 -o minilm.run\n"
               "  crank rerank -m colbertv2.0 --run bm25.run --queries q.tsv --embeddings docs.emb "
               "-o c.run",
    .run = run,
};
