/* POST /tokenize, TEI's: {"inputs": text or [texts]} -> for each text its tokens (their ids; TEI
 * also has texts and offsets). Like scores, tokens are made by the model's worker: a job whose
 * pairs hold the inputs as documents and are not scored. */
#include <stdio.h>
#include <string.h>

#include "server/alloc.h"
#include "server/body.h"
#include "server/server.h"

static crank_status tokenize_one(request *r, size_t i, crank_error *error)
{
    crank_encoding encoding = {0};
    crank_tokenize_options options = {.size = sizeof options,
                                      .specials_as_text = r->model->specials_as_text,
                                      .no_template = r->plain};
    crank_status status = crank_tokenize(crank_model_tokenizer(r->model->model),
                                         r->pairs[i].document, NULL, &options, &encoding, error);
    if (status != CRANK_OK) return status;
    text *out = &r->pieces[i];
    text_puts(out, "[");
    for (size_t k = 0; k < encoding.n; k++) {
        text_puts(out, k > 0 ? ",{\"id\":" : "{\"id\":");
        text_unsigned(out, (uint64_t)encoding.ids[k]);
        text_puts(out, "}");
    }
    text_puts(out, "]");
    crank_encoding_free(&encoding);
    if (!out->failed) return CRANK_OK;
    snprintf(error->message, sizeof error->message, "out of memory");
    return error->status = CRANK_OUT_OF_MEMORY;
}

static crank_status tokenize_part(job *j, size_t first, size_t n, crank_error *error)
{
    crank_status status = CRANK_OK;
    for (size_t i = first; i < first + n && status == CRANK_OK; i++)
        status = tokenize_one(j->user, i, error);
    return status;
}

static int finish(request *r)
{
    if (r->work.outcome != JOB_DONE) return rerank_failed(r);
    text out = {0};
    for (size_t i = 0; i < r->n_pieces; i++) {
        text_puts(&out, i > 0 ? "," : "[");
        text_put(&out, r->pieces[i].data, r->pieces[i].n);
        text_free(&r->pieces[i]);
    }
    text_puts(&out, "]");
    return server_answer(r, 200, "application/json", &out);
}

static int take_input(void *user, size_t i, body_value value)
{
    request *r = user;
    crank_text *out = &r->pairs[i].document;
    if (body_kind_of(value) != BODY_STRING) return 1;
    out->data = body_string(value, &out->bytes);
    return 0;
}

static int refuse(dialect_problem *problem, dialect_fault fault, const char *message)
{
    problem->fault = fault;
    snprintf(problem->message, sizeof problem->message, "%s", message);
    return 0;
}

static int read_inputs(request *r, const dialect_fields *fields, dialect_problem *problem)
{
    static const char expected[] = "inputs must be a string or a list of them";
    if (!(fields->present & HAS(INPUTS))) return refuse(problem, FAULT_SHAPE, expected);
    body_value inputs = fields->value[KEY_INPUTS];
    int list = body_kind_of(inputs) == BODY_ARRAY;
    r->n_pieces = list ? body_array_size(inputs) : 1;
    if (r->n_pieces == 0) return refuse(problem, FAULT_EMPTY, "inputs must not be empty");
    if (r->n_pieces > r->s->settings.max_documents)
        return refuse(problem, FAULT_TOO_MANY, "too many inputs");
    r->pairs = server_zero(r->n_pieces, sizeof *r->pairs);
    r->pieces = server_zero(r->n_pieces, sizeof *r->pieces);
    if (r->pairs == NULL || r->pieces == NULL)
        return refuse(problem, FAULT_MEMORY, "out of memory");
    int bad = list ? body_array_each(inputs, take_input, r) : take_input(r, 0, inputs);
    return bad == 0 || refuse(problem, FAULT_SHAPE, expected);
}

static int read_options(request *r, const dialect_fields *fields, dialect_problem *problem)
{
    const char *name = NULL;
    size_t bytes = 0;
    if (fields->present & HAS(ADD_SPECIAL_TOKENS)) {
        if (body_kind_of(fields->value[KEY_ADD_SPECIAL_TOKENS]) != BODY_BOOL)
            return refuse(problem, FAULT_SHAPE, "add_special_tokens must be true or false");
        r->plain = !body_bool(fields->value[KEY_ADD_SPECIAL_TOKENS]);
    }
    if (fields->present & HAS(MODEL)) {
        if (body_kind_of(fields->value[KEY_MODEL]) != BODY_STRING)
            return refuse(problem, FAULT_SHAPE, "model must be a string");
        name = body_string(fields->value[KEY_MODEL], &bytes);
    }
    r->model = rerank_find_model(r->s, name, bytes);
    return r->model != NULL || refuse(problem, FAULT_MODEL, "no such model is served here");
}

int tokenize_begin(request *r)
{
    dialect_problem problem = {FAULT_SYNTAX, "malformed"};
    dialect_fields fields;
    body_value root;
    body_parser *parser = rerank_parser(r->s);
    r->dialect = dialect_named("tei");
    body_outcome outcome = parser == NULL
                               ? BODY_NO_MEMORY
                               : body_parse(parser, r->body, r->bytes, &r->document, &root);
    if (outcome == BODY_NO_MEMORY) return server_refuse(r, FAULT_MEMORY, "out of memory", 0);
    if (outcome == BODY_FAULT || !dialect_fields_read(&fields, root, &problem) ||
        !read_options(r, &fields, &problem) || !read_inputs(r, &fields, &problem)) {
        if (problem.fault == FAULT_SYNTAX) return rerank_refuse_syntax(r, problem.message);
        return server_refuse(r, problem.fault, problem.message, 0);
    }
    if (!rerank_read_deadline(r)) return server_refuse(r, FAULT_SHAPE, RERANK_BAD_DEADLINE, 0);
    job work = {.pairs = r->pairs, .n = r->n_pieces, .prepare = tokenize_part, .unscored = 1};
    return rerank_submit(r, &work, finish);
}

void tokenize_free(request *r)
{
    for (size_t i = 0; r->pieces != NULL && i < r->n_pieces; i++) text_free(&r->pieces[i]);
    server_free(r->pieces);
}
