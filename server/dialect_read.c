/* From a body's fields to pairs. One reader serves all dialects: they differ in which key holds the
 * documents and in a few options, and an option that a dialect does not know is still checked for
 * its type where it appears. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "server/alloc.h"
#include "server/dialects.h"
#include "server/gate.h"

#define MAX_KEYS 64
#define MAX_RANK_FIELDS 16
#define MAX_PRIORITY 1000

static const char *const key_names[N_DIALECT_KEYS] = {
#define DIALECT_KEY_NAME(name, key) key,
    DIALECT_KEYS(DIALECT_KEY_NAME)
#undef DIALECT_KEY_NAME
};

static int refuse(dialect_problem *p, dialect_fault fault, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int refuse(dialect_problem *p, dialect_fault fault, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(p->message, sizeof p->message, format, arguments);
    va_end(arguments);
    p->fault = fault;
    return 0;
}

typedef struct splitting {
    dialect_fields *fields;
    struct {
        const char *at;
        size_t bytes;
    } seen[MAX_KEYS];
    size_t n;
} splitting;

static int split(void *user, const char *key, size_t bytes, body_value value)
{
    splitting *s = user;
    if (s->n == MAX_KEYS) return 2;
    for (size_t i = 0; i < s->n; i++)
        if (s->seen[i].bytes == bytes && memcmp(s->seen[i].at, key, bytes) == 0) return 1;
    s->seen[s->n].at = key;
    s->seen[s->n++].bytes = bytes;
    for (size_t i = 0; i < N_DIALECT_KEYS; i++) {
        if (strlen(key_names[i]) != bytes || memcmp(key_names[i], key, bytes) != 0) continue;
        if (body_kind_of(value) == BODY_NULL) break;
        s->fields->present |= UINT32_C(1) << i;
        s->fields->value[i] = value;
    }
    return 0;
}

int dialect_fields_read(dialect_fields *fields, body_value root, dialect_problem *problem)
{
    fields->present = 0;
    if (body_kind_of(root) != BODY_OBJECT)
        return refuse(problem, FAULT_SHAPE, "the body must be a JSON object");
    splitting s = {.fields = fields, .n = 0};
    switch (body_object_each(root, split, &s)) {
    case 0: return 1;
    case 1: return refuse(problem, FAULT_SYNTAX, "duplicate key");
    default: return refuse(problem, FAULT_SYNTAX, "more than %d keys", MAX_KEYS);
    }
}

/* ---- typed fields ---- */

typedef struct reading {
    const dialect_fields *fields;
    dialect_problem *problem;
} reading;

static int has(const reading *r, dialect_key key)
{
    return (r->fields->present >> key & 1) != 0;
}

static int read_bool(const reading *r, dialect_key key, int *out)
{
    if (!has(r, key)) return 1;
    if (body_kind_of(r->fields->value[key]) != BODY_BOOL)
        return refuse(r->problem, FAULT_SHAPE, "%s must be true or false", key_names[key]);
    *out = body_bool(r->fields->value[key]);
    return 1;
}

static int read_count(const reading *r, dialect_key key, int64_t low, int64_t *out)
{
    if (!has(r, key)) return 1;
    body_value value = r->fields->value[key];
    int64_t number = body_kind_of(value) == BODY_INTEGER ? body_integer(value) : low - 1;
    if (number < low)
        return refuse(r->problem, FAULT_SHAPE, "%s must be a whole number of at least %lld",
                      key_names[key], (long long)low);
    *out = number;
    return 1;
}

static int read_string(const reading *r, dialect_key key, const char **out, size_t *bytes)
{
    if (!has(r, key)) return 1;
    if (body_kind_of(r->fields->value[key]) != BODY_STRING)
        return refuse(r->problem, FAULT_SHAPE, "%s must be a string", key_names[key]);
    *out = body_string(r->fields->value[key], bytes);
    return 1;
}

static int string_is(const char *s, size_t bytes, const char *word)
{
    return bytes == strlen(word) && memcmp(s, word, bytes) == 0;
}

/* ---- texts ---- */

typedef struct text_search {
    body_value text;
    int found;
} text_search;

static int find_text(void *user, const char *key, size_t bytes, body_value value)
{
    text_search *search = user;
    if (string_is(key, bytes, "text")) {
        search->text = value;
        search->found = 1;
    }
    return 0;
}

/* A string, or an object with a string "text". */
static int read_text(body_value value, crank_text *out)
{
    body_kind kind = body_kind_of(value);
    if (kind == BODY_OBJECT) {
        text_search search = {.found = 0};
        body_object_each(value, find_text, &search);
        if (!search.found) return 0;
        value = search.text;
        kind = body_kind_of(value);
    }
    if (kind != BODY_STRING) return 0;
    out->data = body_string(value, &out->bytes);
    return 1;
}

typedef struct text_items {
    crank_pair *pairs;
    int queries; /* fill the query, else the document */
} text_items;

static int read_item(void *user, size_t i, body_value value)
{
    text_items *items = user;
    crank_text *out = items->queries ? &items->pairs[i].query : &items->pairs[i].document;
    return read_text(value, out) ? 0 : (int)(i < INT32_MAX ? i + 1 : INT32_MAX);
}

static int read_items(const reading *r, dialect_key key, crank_pair *pairs, int queries)
{
    text_items items = {pairs, queries};
    int bad = body_array_each(r->fields->value[key], read_item, &items);
    if (bad == 0) return 1;
    return refuse(r->problem, FAULT_SHAPE, "%s[%d] must be a string or an object with a text",
                  key_names[key], bad - 1);
}

static int count_items(const reading *r, dialect_key key, const dialect_limits *limits, size_t *n)
{
    if (!has(r, key)) return refuse(r->problem, FAULT_SHAPE, "%s is missing", key_names[key]);
    if (body_kind_of(r->fields->value[key]) != BODY_ARRAY)
        return refuse(r->problem, FAULT_SHAPE, "%s must be a list", key_names[key]);
    *n = body_array_size(r->fields->value[key]);
    if (*n == 0) return refuse(r->problem, FAULT_EMPTY, "%s must not be empty", key_names[key]);
    if (*n > limits->max_documents)
        return refuse(r->problem, FAULT_TOO_MANY, "%s holds %zu texts, the limit is %zu",
                      key_names[key], *n, limits->max_documents);
    return 1;
}

static int take_pairs(const reading *r, dialect_request *request, size_t n)
{
    request->pairs = server_zero(n, sizeof *request->pairs);
    if (request->pairs == NULL) return refuse(r->problem, FAULT_MEMORY, "out of memory");
    request->n = n;
    return 1;
}

static int read_query(const reading *r, dialect_key key, crank_text *query)
{
    if (!has(r, key)) return refuse(r->problem, FAULT_SHAPE, "%s is missing", key_names[key]);
    if (read_text(r->fields->value[key], query)) return 1;
    return refuse(r->problem, FAULT_SHAPE, "%s must be a string", key_names[key]);
}

/* ---- rank_fields: documents are objects, and these of their fields are the text ---- */

typedef struct ranking_fields {
    crank_text names[MAX_RANK_FIELDS], values[MAX_RANK_FIELDS];
    size_t n;
    crank_pair *pairs;
    text joined;
} ranking_fields;

static int take_name(void *user, size_t i, body_value value)
{
    ranking_fields *fields = user;
    if (i == MAX_RANK_FIELDS || body_kind_of(value) != BODY_STRING) return 1;
    fields->names[i].data = body_string(value, &fields->names[i].bytes);
    fields->n = i + 1;
    return 0;
}

static int take_field(void *user, const char *key, size_t bytes, body_value value)
{
    ranking_fields *fields = user;
    for (size_t k = 0; k < fields->n; k++) {
        if (fields->names[k].bytes != bytes || memcmp(fields->names[k].data, key, bytes) != 0)
            continue;
        if (body_kind_of(value) != BODY_STRING) continue;
        fields->values[k].data = body_string(value, &fields->values[k].bytes);
    }
    return 0;
}

/* A document of one field is borrowed; one of several stands in `joined`, its data still NULL. One
 * without any of them is its "text": a field that some documents lack must not fail all. */
static int join_document(void *user, size_t i, body_value value)
{
    ranking_fields *fields = user;
    crank_text *out = &fields->pairs[i].document;
    int failed = (int)(i < INT32_MAX ? i + 1 : INT32_MAX);
    if (body_kind_of(value) != BODY_OBJECT) return read_text(value, out) ? 0 : failed;
    memset(fields->values, 0, sizeof fields->values);
    body_object_each(value, take_field, fields);
    size_t before = fields->joined.n, found = 0, last = 0;
    for (size_t k = 0; k < fields->n; k++) {
        if (fields->values[k].data == NULL) continue;
        found++;
        last = k;
    }
    if (found == 0) return read_text(value, out) ? 0 : failed;
    if (found == 1) {
        *out = fields->values[last];
        return 0;
    }
    for (size_t k = 0, put = 0; k < fields->n; k++) {
        if (fields->values[k].data == NULL) continue;
        if (put++ > 0) text_put(&fields->joined, "\n", 1);
        text_put(&fields->joined, fields->values[k].data, fields->values[k].bytes);
    }
    *out = (crank_text){NULL, fields->joined.n - before};
    return 0;
}

static int read_fields(const reading *r, dialect_key key, dialect_request *request)
{
    ranking_fields fields = {.pairs = request->pairs};
    if (body_kind_of(r->fields->value[KEY_RANK_FIELDS]) != BODY_ARRAY ||
        body_array_each(r->fields->value[KEY_RANK_FIELDS], take_name, &fields) != 0)
        return refuse(r->problem, FAULT_SHAPE, "rank_fields must be a list of at most %d strings",
                      MAX_RANK_FIELDS);
    if (fields.n == 0) return read_items(r, key, request->pairs, 0);
    int bad = body_array_each(r->fields->value[key], join_document, &fields);
    if (bad != 0 || fields.joined.failed) {
        text_free(&fields.joined);
        if (bad == 0) return refuse(r->problem, FAULT_MEMORY, "out of memory");
        return refuse(r->problem, FAULT_SHAPE,
                      "%s[%d] must be a string, or an object with a string in one of rank_fields "
                      "or in text",
                      key_names[key], bad - 1);
    }
    request->joined = fields.joined.data;
    const char *at = request->joined;
    for (size_t i = 0; i < request->n; i++) {
        crank_text *document = &request->pairs[i].document;
        if (document->data != NULL || document->bytes == 0) continue;
        document->data = at;
        at += document->bytes;
    }
    return 1;
}

static int read_documents(const reading *r, dialect_key key, dialect_request *request,
                          const dialect_limits *limits)
{
    crank_text query;
    size_t n;
    if (!read_query(r, KEY_QUERY, &query) || !count_items(r, key, limits, &n) ||
        !take_pairs(r, request, n))
        return 0;
    for (size_t i = 0; i < n; i++) request->pairs[i].query = query;
    if (has(r, KEY_RANK_FIELDS)) return read_fields(r, key, request);
    return read_items(r, key, request->pairs, 0);
}

/* /score: one text against one or many, or two lists of the same length side by side. */
static int read_scored(const reading *r, dialect_request *request, const dialect_limits *limits)
{
    dialect_key left = has(r, KEY_QUERIES) ? KEY_QUERIES
                       : has(r, KEY_QUERY) ? KEY_QUERY
                                           : KEY_TEXT_1;
    dialect_key right = has(r, KEY_DOCUMENTS) ? KEY_DOCUMENTS : KEY_TEXT_2;
    if (!has(r, left)) return refuse(r->problem, FAULT_SHAPE, "%s is missing", key_names[left]);
    if (!has(r, right)) return refuse(r->problem, FAULT_SHAPE, "%s is missing", key_names[right]);
    int lists = body_kind_of(r->fields->value[left]) == BODY_ARRAY;
    int many = body_kind_of(r->fields->value[right]) == BODY_ARRAY;
    size_t n_left = 1, n = 1;
    crank_text one = {NULL, 0}, document = {NULL, 0};
    if (lists && !count_items(r, left, limits, &n_left)) return 0;
    if (!lists && !read_query(r, left, &one)) return 0;
    if (many && !count_items(r, right, limits, &n)) return 0;
    if (!many && !read_query(r, right, &document)) return 0;
    if (lists && n_left != n && n_left != 1)
        return refuse(r->problem, FAULT_SHAPE,
                      "%s holds %zu texts and %s %zu: expected the same "
                      "number, or one on the left",
                      key_names[left], n_left, key_names[right], n);
    if (!take_pairs(r, request, n)) return 0;
    for (size_t i = 0; i < n; i++) request->pairs[i] = (crank_pair){one, document};
    if (many && !read_items(r, right, request->pairs, 0)) return 0;
    if (!lists) return 1;
    if (n_left == n) return read_items(r, left, request->pairs, 1);
    if (!read_items(r, left, request->pairs, 1)) return 0;
    for (size_t i = 1; i < n; i++) request->pairs[i].query = request->pairs[0].query;
    return 1;
}

/* ---- options ---- */

/* truncate: TEI's flag, NIM's word. */
static int read_truncate(const reading *r, dialect_request *request)
{
    if (!has(r, KEY_TRUNCATE)) return 1;
    body_value value = r->fields->value[KEY_TRUNCATE];
    if (body_kind_of(value) == BODY_BOOL) {
        request->refuse_long = !body_bool(value);
        return 1;
    }
    size_t bytes = 0;
    const char *word = body_kind_of(value) == BODY_STRING ? body_string(value, &bytes) : "";
    if (!string_is(word, bytes, "NONE") && !string_is(word, bytes, "END"))
        return refuse(r->problem, FAULT_SHAPE, "truncate must be true, false, \"NONE\" or \"END\"");
    request->refuse_long = string_is(word, bytes, "NONE");
    return 1;
}

static int read_direction(const reading *r, dialect_key key)
{
    const char *side = "right";
    size_t bytes = 5;
    if (!read_string(r, key, &side, &bytes)) return 0;
    if (bytes == 5 && (side[0] | 0x20) == 'r' && memcmp(side + 1, "ight", 4) == 0) return 1;
    return refuse(r->problem, FAULT_SHAPE, "%s: only Right is supported", key_names[key]);
}

/* Limits of the texts in tokens, and what the queue and the log look at. */
static int read_limits(const reading *r, dialect_request *request)
{
    int64_t positions = 0, query = 0, document = 0, chunks = 0, priority = 0;
    if (!read_count(r, KEY_TRUNCATE_PROMPT_TOKENS, -1, &positions) ||
        !read_count(r, KEY_MAX_TOKENS_PER_DOC, 0, &document) ||
        !read_count(r, KEY_MAX_TOKENS_PER_QUERY, 0, &query) ||
        !read_count(r, KEY_MAX_CHUNKS_PER_DOC, 1, &chunks) ||
        !read_count(r, KEY_PRIORITY, -MAX_PRIORITY, &priority) ||
        !read_string(r, KEY_USER, &request->user, &request->user_bytes) ||
        !read_string(r, KEY_REQUEST_ID, &request->id, &request->id_bytes))
        return 0;
    if (priority > MAX_PRIORITY)
        return refuse(r->problem, FAULT_SHAPE, "priority must be at most %d", MAX_PRIORITY);
    if (request->id != NULL && !gate_plain_id(request->id, request->id_bytes))
        return refuse(r->problem, FAULT_SHAPE,
                      "request_id must be 1 to 128 visible ASCII characters without \" and \\");
    request->max_length = positions > 0 ? (size_t)positions : 0;
    request->max_query_tokens = (size_t)query;
    request->max_document_tokens = (size_t)document;
    request->max_windows = (size_t)chunks;
    request->priority = (int)priority;
    return 1;
}

static int read_options(const reading *r, const dialect *d, dialect_request *request)
{
    int64_t top = 0;
    int raw = 0, activate = -1, truncation = 1, specials = 1;
    request->return_documents = d->defaults_to_documents;
    if (!read_count(r, KEY_TOP_N, 0, &top) || !read_count(r, KEY_TOP_K, 1, &top) ||
        !read_bool(r, KEY_RETURN_DOCUMENTS, &request->return_documents) ||
        !read_bool(r, KEY_RETURN_TEXT, &request->return_documents) ||
        !read_bool(r, KEY_RETURN_WINDOW, &request->return_window) ||
        !read_bool(r, KEY_RAW_SCORES, &raw) || !read_bool(r, KEY_USE_ACTIVATION, &activate) ||
        !read_bool(r, KEY_TRUNCATION, &truncation) ||
        !read_bool(r, KEY_ADD_SPECIAL_TOKENS, &specials) ||
        !read_string(r, KEY_MODEL, &request->model, &request->model_bytes) ||
        !read_truncate(r, request) || !read_direction(r, KEY_TRUNCATION_DIRECTION) ||
        !read_direction(r, KEY_TRUNCATION_SIDE) || !read_limits(r, request))
        return 0;
    if (!specials)
        return refuse(r->problem, FAULT_SHAPE, "add_special_tokens: pairs need them, only true");
    if (strcmp(d->name, "cohere-v2") == 0) request->return_documents = 0; /* v2 never does */
    request->top_n = (size_t)top;
    request->refuse_long |= !truncation;
    request->activation = raw || activate == 0 ? AS_IDENTITY : d->activation;
    return 1;
}

int dialect_read(dialect_request *request, const dialect *d, const dialect_fields *fields,
                 const dialect_limits *limits, dialect_problem *problem)
{
    *request = (dialect_request){0};
    reading r = {fields, problem};
    if (!read_options(&r, d, request)) return 0;
    if (d->keeps_order) return read_scored(&r, request, limits);
    dialect_key key = d->documents_key & HAS(TEXTS)      ? KEY_TEXTS
                      : d->documents_key & HAS(PASSAGES) ? KEY_PASSAGES
                                                         : KEY_DOCUMENTS;
    /* A dialect fixed by --dialect still takes the other spelling of the list. */
    if (!has(&r, key) && has(&r, KEY_TEXTS)) key = KEY_TEXTS;
    if (!has(&r, key) && has(&r, KEY_DOCUMENTS)) key = KEY_DOCUMENTS;
    return read_documents(&r, key, request, limits);
}

void dialect_request_free(dialect_request *request)
{
    server_free(request->pairs);
    server_free(request->joined);
    *request = (dialect_request){0};
}
