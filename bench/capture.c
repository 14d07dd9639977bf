#include "bench/capture.h"

#include <jansson.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "cli/input.h"
#include "cli/output.h"

#define VERSION 1
#define MAX_BYTES ((size_t)16 << 20)
#define MAX_SEQUENCES 65536
#define MAX_TOKENS (1 << 20)
#define MAX_COUNT (1 << 20)
#define MAX_OPS 4096
/* Numbers in any one array of an op: 1 GB of f32. */
#define MAX_NUMBERS ((int64_t)1 << 28)

/* ---- the fields of an op -----------------------------------------------------------------------
 */

static const char *const norm_names[] = {"none", "layer", "rms"};
static const char *const pool_names[OPS_N_POOL_KINDS] = {"first", "mean",      "max",
                                                         "last",  "mean_sqrt", "weighted"};

typedef struct field {
    const char *key;
    size_t offset;
    bool flag;                /* bool, written as true; else 32 bits */
    const char *const *names; /* of the numbers 0 .. high; NULL: written as numbers */
    int32_t high;
} field;

#define FIELD(name, most)                                                                          \
    {                                                                                              \
#name, offsetof(bench_case, name), false, NULL, most                                       \
    }
#define FLAG(name)                                                                                 \
    {                                                                                              \
#name, offsetof(bench_case, name), true, NULL, 1                                           \
    }
#define NAMED(name, key, list, n)                                                                  \
    {                                                                                              \
        key, offsetof(bench_case, name), false, list, (n)-1                                        \
    }
static const field fields[] = {
    FIELD(n, 1 << 17),
    FIELD(k, 1 << 17),
    FIELD(heads, 1024),
    FIELD(d, 1 << 17),
    NAMED(act, "activation", ops_activation_names, OPS_N_ACTIVATIONS),
    NAMED(norm, "norm", norm_names, 3),
    NAMED(pool, "pool", pool_names, OPS_N_POOL_KINDS),
    FIELD(uses, OPS_USE_VALUE | OPS_USE_OPERAND),
    FLAG(gated),
    FLAG(first_rows),
    FLAG(keeps_sum),
    FLAG(plain_head),
    FLAG(plain_vectors),
    FIELD(table_rows, MAX_TOKENS),
    FIELD(tables, BENCH_WORDS | BENCH_TYPES | BENCH_POSITIONS),
    FIELD(window, MAX_TOKENS),
    FIELD(distance_span, MAX_TOKENS),
    FIELD(positions, MAX_TOKENS),
    FIELD(relative_span, MAX_TOKENS),
    FIELD(relative_buckets, MAX_TOKENS),
    FIELD(relative_terms, BENCH_RELATIVE_KEY | BENCH_RELATIVE_QUERY),
};
enum { N_FIELDS = sizeof fields / sizeof fields[0] };
_Static_assert(sizeof(ops_activation) == sizeof(int32_t) && sizeof(ops_norm_kind) == 4 &&
                   sizeof(ops_pool_kind) == 4,
               "fields are read and written as 32 bits");

static int32_t field_get(const bench_case *c, const field *f)
{
    const char *at = (const char *)c + f->offset;
    if (f->flag) return *(const bool *)(const void *)at;
    int32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static void field_set(bench_case *c, const field *f, int32_t value)
{
    char *at = (char *)c + f->offset;
    if (f->flag)
        *(bool *)(void *)at = value != 0;
    else
        memcpy(at, &value, sizeof value);
}

bool capture_same_op(const bench_case *a, const bench_case *b)
{
    for (size_t i = 0; i < N_FIELDS; i++) {
        if (field_get(a, &fields[i]) != field_get(b, &fields[i])) return false;
    }
    return a->op == b->op;
}

bool capture_takes_first_rows(ops_kind op)
{
    return op == OPS_KIND_LINEAR || op == OPS_KIND_LINEAR_RESIDUAL_NORM || op == OPS_KIND_NORM ||
           op == OPS_KIND_ADD_NORM || op == OPS_KIND_BROADCAST || op == OPS_KIND_HEAD ||
           op == OPS_KIND_VECTORS;
}

void capture_free(capture *c)
{
    free(c->model);
    free(c->architecture);
    free(c->device);
    free(c->lengths);
    free(c->key_counts);
    free(c->ops);
    *c = (capture){0};
}

/* ---- to a file ---------------------------------------------------------------------------------
 */

static void put_numbers(FILE *to, const char *key, const int32_t *values, int32_t n)
{
    fprintf(to, ",\n \"%s\":[", key);
    for (int32_t i = 0; i < n; i++) fprintf(to, "%s%d", i > 0 ? "," : "", values[i]);
    putc(']', to);
}

void capture_write(FILE *to, const capture *c)
{
    fprintf(to, "{\"crank_capture\":%d,\"model\":", VERSION);
    json_put_string(to, c->model);
    fputs(",\"architecture\":", to);
    json_put_string(to, c->architecture);
    fputs(",\"device\":", to);
    json_put_string(to, c->device);
    fprintf(to, ",\"dtype\":\"%s\",\"batch\":%d,\"batches\":%d", ops_dtypes[c->dtype].name,
            c->batch, c->n_batches);
    put_numbers(to, "lengths", c->lengths, c->n_sequences);
    if (c->key_counts != NULL) put_numbers(to, "key_counts", c->key_counts, c->n_sequences);
    fputs(",\n \"ops\":[", to);
    for (size_t i = 0; i < c->n_ops; i++) {
        const capture_op *o = &c->ops[i];
        fprintf(to, "%s\n  {\"op\":\"%s\",\"count\":%d", i > 0 ? "," : "", ops_kind_names[o->c.op],
                o->count);
        for (size_t f = 0; f < N_FIELDS; f++) {
            int32_t value = field_get(&o->c, &fields[f]);
            if (value == 0) continue;
            fprintf(to, ",\"%s\":", fields[f].key);
            if (fields[f].flag)
                fputs("true", to);
            else if (fields[f].names != NULL)
                fprintf(to, "\"%s\"", fields[f].names[value]);
            else
                fprintf(to, "%d", value);
        }
        putc('}', to);
    }
    fputs("\n]}\n", to);
}

/* ---- from a file -------------------------------------------------------------------------------
 */

/* What messages name: the file, and the op within it. */
typedef struct reader {
    const char *path;
    size_t op; /* from 1; 0: the top */
} reader;

static cli_exit bad(const reader *r, const char *key, const char *expected)
{
    if (r->op == 0) return cli_fail(CLI_USAGE, "%s: %s: expected %s", r->path, key, expected);
    return cli_fail(CLI_USAGE, "%s: ops[%zu].%s: expected %s", r->path, r->op - 1, key, expected);
}

static cli_exit read_integer(const reader *r, const json_t *value, const char *key, int32_t low,
                             int32_t high, int32_t *out)
{
    json_int_t n = json_integer_value(value);
    if (!json_is_integer(value) || n < low || n > high) {
        char expected[64];
        snprintf(expected, sizeof expected, "a number from %d to %d", low, high);
        return bad(r, key, expected);
    }
    *out = (int32_t)n;
    return CLI_OK;
}

static cli_exit read_name(const reader *r, const json_t *value, const char *key,
                          const char *const *names, int32_t n, int32_t *out)
{
    const char *text = json_string_value(value);
    for (int32_t i = 0; text != NULL && i < n; i++) {
        if (strcmp(names[i], text) != 0) continue;
        *out = i;
        return CLI_OK;
    }
    return bad(r, key, "a name that crank writes");
}

static cli_exit read_text(const reader *r, const json_t *root, const char *key, char **out)
{
    const char *text = json_string_value(json_object_get(root, key));
    if (text == NULL) return bad(r, key, "a text");
    *out = cli_copy(text, strlen(text));
    return CLI_OK;
}

static cli_exit read_lengths(const reader *r, capture *c, const json_t *root)
{
    const json_t *lengths = json_object_get(root, "lengths");
    const json_t *keys = json_object_get(root, "key_counts");
    size_t n = json_array_size(lengths);
    if (n == 0 || n > MAX_SEQUENCES) return bad(r, "lengths", "1 to 65536 numbers");
    c->n_sequences = (int32_t)n;
    c->lengths = cli_alloc(n, sizeof *c->lengths);
    for (size_t b = 0; b < n; b++) {
        cli_exit code =
            read_integer(r, json_array_get(lengths, b), "lengths", 1, MAX_TOKENS, &c->lengths[b]);
        if (code != CLI_OK) return code;
        c->n_tokens += c->lengths[b];
        if (c->n_tokens > MAX_TOKENS) return bad(r, "lengths", "1048576 tokens at most");
        if (c->lengths[b] > c->longest) c->longest = c->lengths[b];
    }
    if (keys == NULL) return CLI_OK;
    if (json_array_size(keys) != n) return bad(r, "key_counts", "as many as lengths");
    c->key_counts = cli_alloc(n, sizeof *c->key_counts);
    for (size_t b = 0; b < n; b++) {
        cli_exit code = read_integer(r, json_array_get(keys, b), "key_counts", 1, c->lengths[b],
                                     &c->key_counts[b]);
        if (code != CLI_OK) return code;
    }
    return CLI_OK;
}

/* The op as a whole: what it needs is there, its arrays have a bound. Sizes are at most 2^20, so no
 * product of three leaves 64 bits. */
static cli_exit check_op(const reader *r, const capture *c, const bench_case *o)
{
    bool matrix = o->op == OPS_KIND_LINEAR || o->op == OPS_KIND_LINEAR_RESIDUAL_NORM;
    bool attends = o->op == OPS_KIND_ATTENTION || o->op == OPS_KIND_ATTENTION_ROWS ||
                   o->op == OPS_KIND_ATTENTION_ROWS_FOLDED;
    bool folded = o->op == OPS_KIND_ATTENTION_ROWS_FOLDED, head = o->op == OPS_KIND_HEAD;
    if (o->k < 1 || (attends && o->k > 1024))
        return bad(r, "k", "1 or more; 1024 at most for heads");
    if (attends != (o->heads > 0)) return bad(r, "heads", "1 or more for attention, else none");
    bool around = o->op == OPS_KIND_GATHER_AROUND;
    if ((matrix || head || around) != (o->n > 0))
        return bad(r, "n", "1 or more for linears, heads and gather_around, else none");
    if (around && o->n % 2 == 0) return bad(r, "n", "an odd number of rows to gather");
    if (o->gated && (!matrix || o->n % 2 != 0 || o->op != OPS_KIND_LINEAR))
        return bad(r, "gated", "a linear with an even n");
    if (o->d > 0 && !folded && !head) return bad(r, "d", "none here");
    if (o->first_rows && !capture_takes_first_rows(o->op)) return bad(r, "first_rows", "none here");
    if (o->op == OPS_KIND_POOL && o->uses != 0 && !(o->uses & OPS_USE_VALUE))
        return bad(r, "uses", "the value");
    if (o->tables != 0 && !(o->tables & BENCH_WORDS)) return bad(r, "tables", "words among them");
    bool plain =
        o->distance_span == 0 && o->positions == 0 && o->relative_span == 0 && o->window == 0;
    if (!attends && !plain) return bad(r, "window", "distances, windows, positions of attention");
    if (folded && (o->positions > 0 || o->relative_span > 0))
        return bad(r, "positions", "no rotary or relative positions in folded attention");
    if ((o->distance_span > 0 && o->distance_span < c->longest) ||
        (o->positions > 0 && (o->positions < c->longest || o->k % 2 != 0)) ||
        (o->relative_span > 0 && o->relative_span < c->longest))
        return bad(r, "distance_span", "tables that reach over the longest sequence");
    if (o->relative_span > 0 && (o->relative_buckets == 0 || o->relative_terms == 0))
        return bad(r, "relative_buckets", "buckets and terms");
    int64_t width = attends ? (int64_t)o->heads * o->k : o->k, inner = o->d > 0 ? o->d : width;
    int64_t widest = 3 * width;
    if (o->n > widest) widest = o->n;
    if (around) widest = o->n * width;
    if (inner > widest) widest = inner;
    int64_t tables = o->table_rows > 0 ? o->table_rows : BENCH_TABLE_ROWS;
    int64_t square = folded || head ? inner * width : 0;
    const int64_t sizes[] = {(int64_t)c->n_tokens * widest,
                             tables * widest,
                             (int64_t)o->n * (o->k > inner ? o->k : inner),
                             square,
                             (int64_t)o->heads * 2 * o->distance_span,
                             (int64_t)o->positions * o->k,
                             (int64_t)o->relative_buckets * width};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (sizes[i] > MAX_NUMBERS) return bad(r, "k", "arrays of at most 2^28 numbers");
    }
    return CLI_OK;
}

static cli_exit read_op(const reader *r, capture *c, const json_t *object)
{
    int32_t kind = 0;
    capture_op o = {.count = 0};
    if (!json_is_object(object)) return bad(r, "op", "an object");
    cli_exit code =
        read_name(r, json_object_get(object, "op"), "op", ops_kind_names, OPS_N_KINDS, &kind);
    if (code == CLI_OK)
        code = read_integer(r, json_object_get(object, "count"), "count", 1, MAX_COUNT, &o.count);
    o.c.op = (ops_kind)kind;
    size_t known = 2;
    for (size_t i = 0; code == CLI_OK && i < N_FIELDS; i++) {
        const field *f = &fields[i];
        const json_t *value = json_object_get(object, f->key);
        int32_t number = 1;
        if (value == NULL) continue;
        known++;
        if (f->flag) {
            if (!json_is_true(value)) code = bad(r, f->key, "true");
        } else if (f->names != NULL) {
            code = read_name(r, value, f->key, f->names, f->high + 1, &number);
        } else {
            code = read_integer(r, value, f->key, 0, f->high, &number);
        }
        if (code == CLI_OK) field_set(&o.c, f, number);
    }
    if (code == CLI_OK && known != json_object_size(object))
        code = bad(r, "op", "no keys but those that crank writes");
    if (code == CLI_OK) code = check_op(r, c, &o.c);
    if (code != CLI_OK) return code;
    o.c.b = c->n_sequences;
    o.c.s = c->longest;
    o.c.lengths = c->lengths;
    o.c.key_counts = c->key_counts;
    o.c.model = c->model;
    c->ops = cli_append(c->ops, c->n_ops, &c->ops_capacity, sizeof *c->ops);
    c->ops[c->n_ops++] = o;
    return CLI_OK;
}

static cli_exit read_root(reader *r, capture *c, const json_t *root)
{
    static const char *dtypes[OPS_N_DTYPES];
    for (int i = 0; i < OPS_N_DTYPES; i++) dtypes[i] = ops_dtypes[i].name;
    int32_t version, dtype = 0;
    cli_exit code = read_integer(r, json_object_get(root, "crank_capture"), "crank_capture",
                                 VERSION, VERSION, &version);
    if (code == CLI_OK) code = read_text(r, root, "model", &c->model);
    if (code == CLI_OK) code = read_text(r, root, "architecture", &c->architecture);
    if (code == CLI_OK) code = read_text(r, root, "device", &c->device);
    if (code == CLI_OK)
        code = read_name(r, json_object_get(root, "dtype"), "dtype", dtypes, OPS_N_DTYPES, &dtype);
    c->dtype = (ops_dtype)dtype;
    if (code == CLI_OK)
        code = read_integer(r, json_object_get(root, "batch"), "batch", 1, INT32_MAX, &c->batch);
    if (code == CLI_OK)
        code = read_integer(r, json_object_get(root, "batches"), "batches", c->batch, INT32_MAX,
                            &c->n_batches);
    if (code == CLI_OK) code = read_lengths(r, c, root);
    const json_t *ops = json_object_get(root, "ops");
    if (code == CLI_OK && (json_array_size(ops) == 0 || json_array_size(ops) > MAX_OPS))
        code = bad(r, "ops", "1 to 4096 ops");
    for (size_t i = 0; code == CLI_OK && i < json_array_size(ops); i++) {
        r->op = i + 1;
        code = read_op(r, c, json_array_get(ops, i));
    }
    return code;
}

cli_exit capture_read(capture *c, const char *path)
{
    static const jsontext_limits limits = {JSONTEXT_OBJECT, 4, 200000};
    json_t *root;
    *c = (capture){0};
    cli_exit code = input_json(&root, path, &limits, MAX_BYTES);
    if (code != CLI_OK) return code;
    reader r = {path, 0};
    code = read_root(&r, c, root);
    json_decref(root);
    if (code != CLI_OK) capture_free(c);
    return code;
}
