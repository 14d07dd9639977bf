#include "weights/bind.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "memory.h"

#define NAME_BYTES 640

/* ---- what is wrong
 * -------------------------------------------------------------------------------*/

typedef enum problem_kind { MISSING, MISSHAPEN, MISTYPED, UNEXPECTED, N_KINDS } problem_kind;

enum { KEPT = 12, MESSAGE_BYTES = 600, PATH_BYTES = 120 };

typedef struct problems {
    size_t count[N_KINDS];
    char kept[N_KINDS][KEPT][200]; /* the first of each kind */
} problems;

__attribute__((format(printf, 3, 4))) static void note(problems *p, problem_kind kind,
                                                       const char *format, ...)
{
    size_t n = p->count[kind]++;
    if (n >= KEPT) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(p->kept[kind][n], sizeof p->kept[kind][n], format, arguments);
    va_end(arguments);
}

/* One kind's part: "2 tensors are missing: a, b". At least one name, then as many as fit. */
static size_t write_kind(char *text, size_t room, const problems *p, problem_kind kind)
{
    static const char *const verbs[N_KINDS][2] = {
        {"is missing", "are missing"},
        {"has the wrong shape", "have the wrong shape"},
        {"has the wrong dtype", "have the wrong dtype"},
        {"is unexpected", "are unexpected"},
    };
    size_t n = p->count[kind], shown = 0;
    size_t used = (size_t)snprintf(text, room, "%zu %s %s: ", n, n == 1 ? "tensor" : "tensors",
                                   verbs[kind][n != 1]);
    while (shown < n && shown < KEPT) {
        const char *name = p->kept[kind][shown];
        size_t more = strlen(name) + 2, last = n - shown > 1 ? 24 : 0; /* "and 1234567 more" */
        if (shown > 0 && used + more + last >= room) break;
        used += (size_t)snprintf(text + used, room - used, "%s%s", shown > 0 ? ", " : "", name);
        shown++;
        if (used >= room) return room - 1;
    }
    if (shown < n) {
        used += (size_t)snprintf(text + used, room - used, " and %zu more", n - shown);
    }
    return used < room ? used : room - 1;
}

static crank_status report(const problems *p, const safetensors *file, crank_error *error)
{
    char text[MESSAGE_BYTES];
    size_t used = 0, kinds = 0;
    for (int kind = 0; kind < N_KINDS; kind++) kinds += p->count[kind] > 0;
    if (kinds == 0) return CRANK_OK;
    for (int kind = 0; kind < N_KINDS; kind++) {
        if (p->count[kind] == 0) continue;
        if (used > 0) used += (size_t)snprintf(text + used, sizeof text - used, "; ");
        /* What one kind does not need is there for the next. */
        size_t share = (sizeof text - used) / kinds;
        kinds--;
        used += write_kind(text + used, share, p, (problem_kind)kind);
    }
    const char *path = safetensors_file_path(file, 0);
    size_t path_bytes = strlen(path);
    int cut = path_bytes > PATH_BYTES;
    return status_fail(error, CRANK_MODEL, "%s%s: %s", cut ? "..." : "",
                       cut ? path + path_bytes - PATH_BYTES : path, text);
}

/* ---- names
 * ---------------------------------------------------------------------------------------*/

/* '*' stands for any bytes. Goes back to the last star only: linear stack, quadratic time at worst.
 */
static int matches_one(const char *pattern, size_t bytes, const char *name)
{
    const char *end = pattern + bytes, *star = NULL, *resume = NULL;
    while (*name != '\0') {
        if (pattern < end && *pattern == '*') {
            star = ++pattern;
            resume = name;
        } else if (pattern < end && *pattern == *name) {
            pattern++;
            name++;
        } else if (star != NULL) {
            pattern = star;
            name = ++resume;
        } else {
            return 0;
        }
    }
    while (pattern < end && *pattern == '*') pattern++;
    return pattern == end;
}

static int matches(const char *patterns, const char *name)
{
    while (patterns != NULL) {
        size_t n = strcspn(patterns, "|");
        if (matches_one(patterns, n, name)) return 1;
        if (patterns[n] == '\0') break;
        patterns += n + 1;
    }
    return 0;
}

/* One alternative of a row, written out: '@' the prefix, "%d" the layer, "%g" and "%j" its group
 * and its place in it. */
static void expand(char name[NAME_BYTES], const char *pattern, size_t bytes, const char *prefix,
                   int layer, int64_t inner)
{
    int in_group = inner > 1 ? (int)inner : 1;
    size_t used = 0;
    for (size_t i = 0; i < bytes && used < NAME_BYTES - 1; i++) {
        size_t room = NAME_BYTES - used;
        if (pattern[i] == '@') {
            int n = (int)strcspn(prefix, "|");
            used += (size_t)snprintf(name + used, room, "%.*s", n, prefix);
        } else if (pattern[i] == '%' && i + 1 < bytes && pattern[i + 1] == 'd') {
            used += (size_t)snprintf(name + used, room, "%d", layer);
            i++;
        } else if (pattern[i] == '%' && i + 1 < bytes && pattern[i + 1] == 'g') {
            used += (size_t)snprintf(name + used, room, "%d", layer / in_group);
            i++;
        } else if (pattern[i] == '%' && i + 1 < bytes && pattern[i + 1] == 'j') {
            used += (size_t)snprintf(name + used, room, "%d", layer % in_group);
            i++;
        } else {
            name[used++] = pattern[i];
        }
    }
    name[used < NAME_BYTES ? used : NAME_BYTES - 1] = '\0';
}

/* "...LayerNorm.weight" -> "...LayerNorm.gamma", ".bias" -> ".beta"; 0 for other names. */
static int to_old_norm_name(char name[NAME_BYTES])
{
    static const char *const pairs[][2] = {{"LayerNorm.weight", "LayerNorm.gamma"},
                                           {"LayerNorm.bias", "LayerNorm.beta"}};
    size_t bytes = strlen(name);
    for (int i = 0; i < 2; i++) {
        size_t n = strlen(pairs[i][0]);
        if (bytes >= n && strcmp(name + bytes - n, pairs[i][0]) == 0) {
            memcpy(name + bytes - n, pairs[i][1], strlen(pairs[i][1]) + 1); /* never longer */
            return 1;
        }
    }
    return 0;
}

static const st_tensor *find(const safetensors *file, const bind_row *row, const char *prefix,
                             int layer, int64_t inner)
{
    char name[NAME_BYTES];
    for (const char *at = row->name;;) {
        size_t n = strcspn(at, "|");
        expand(name, at, n, prefix, layer, inner);
        const st_tensor *tensor = safetensors_find(file, name);
        if (tensor == NULL && to_old_norm_name(name)) tensor = safetensors_find(file, name);
        if (tensor != NULL || at[n] == '\0') return tensor;
        at += n + 1;
    }
}

static int holds(const bind_row *row, unsigned conditions)
{
    return (row->when & conditions) == row->when;
}

/* The prefix under which most rows stand; the first of equals. */
static const char *choose_prefix(const safetensors *file, const bind_table *table,
                                 unsigned conditions)
{
    const char *best = table->prefixes != NULL ? table->prefixes : "";
    int most = -1;
    for (const char *prefix = best;;) {
        int found = 0;
        for (int i = 0; i < table->n_rows; i++) {
            const bind_row *row = &table->rows[i];
            if (row->name[0] == '@' && holds(row, conditions)) {
                found += find(file, row, prefix, 0, 1) != NULL;
            }
        }
        if (found > most) {
            most = found;
            best = prefix;
        }
        size_t n = strcspn(prefix, "|");
        if (prefix[n] == '\0') return best;
        prefix += n + 1;
    }
}

/* ---- shapes
 * --------------------------------------------------------------------------------------*/

typedef struct size_term {
    int64_t factor;
    unsigned char letter; /* 0: a plain number */
} size_term;

/* "3D,D" -> {3, D}, {1, D}. Returns the rank. Tables are ours, not input: well-formed. */
static int parse_shape(size_term terms[ST_MAX_RANK], const char *shape)
{
    int rank = 0;
    while (*shape != '\0' && rank < ST_MAX_RANK) {
        size_term *term = &terms[rank++];
        int digits = 0;
        *term = (size_term){0};
        for (; *shape >= '0' && *shape <= '9'; shape++, digits++) {
            term->factor = term->factor * 10 + (*shape - '0');
        }
        if (digits == 0) term->factor = 1;
        if (*shape != ',' && *shape != '\0') term->letter = (unsigned char)*shape++ & 127;
        if (*shape == ',') shape++;
    }
    return rank;
}

/* The size that a term asks for; 0 while its letter is unknown. */
static int64_t term_size(const size_term *term, const bind_dims *dims)
{
    int64_t size = term->factor;
    if (term->letter == 0) return size;
    if (__builtin_mul_overflow(size, dims->size[term->letter], &size)) return -1;
    return size;
}

static int shape_fits(const st_tensor *tensor, const size_term *terms, int rank, bind_dims *dims)
{
    if (tensor->rank != rank) return 0;
    for (int i = 0; i < rank; i++) {
        int64_t wanted = term_size(&terms[i], dims), found = tensor->shape[i];
        int unknown = terms[i].letter != 0 && dims->size[terms[i].letter] == 0;
        if (unknown && found > 0 && found % terms[i].factor == 0) {
            dims->size[terms[i].letter] = found / terms[i].factor;
        } else if (wanted != found) {
            return 0;
        }
    }
    return 1;
}

static const char *expected_text(char text[ST_SHAPE_TEXT_BYTES], const size_term *terms, int rank,
                                 const bind_dims *dims)
{
    size_t used = (size_t)snprintf(text, ST_SHAPE_TEXT_BYTES, "[");
    for (int i = 0; i < rank; i++) {
        size_t room = ST_SHAPE_TEXT_BYTES - used;
        const char *comma = i > 0 ? ", " : "";
        int64_t size = term_size(&terms[i], dims);
        used += (size_t)(terms[i].letter != 0 && size == 0
                             ? snprintf(text + used, room, "%s%c", comma, terms[i].letter)
                             : snprintf(text + used, room, "%s%lld", comma, (long long)size));
    }
    snprintf(text + used, ST_SHAPE_TEXT_BYTES - used, "]");
    return text;
}

/* ---- binding
 * -------------------------------------------------------------------------------------*/

typedef struct binder {
    const safetensors *file;
    const bind_table *table;
    bind_dims *dims;
    bindings *out;
    uint8_t *used; /* [tensors in the file] */
    problems *problems;
} binder;

static void bind_one(const binder *b, const bind_row *row, int layer)
{
    const st_tensor *tensor = find(b->file, row, b->out->prefix, layer, b->dims->size['J']);
    size_term terms[ST_MAX_RANK];
    char found[ST_SHAPE_TEXT_BYTES], expected[ST_SHAPE_TEXT_BYTES];
    if (tensor == NULL) {
        char name[NAME_BYTES];
        expand(name, row->name, strcspn(row->name, "|"), b->out->prefix, layer, b->dims->size['J']);
        if (!(row->flags & BIND_OPTIONAL)) note(b->problems, MISSING, "%s", name);
        return;
    }
    b->used[tensor - safetensors_at(b->file, 0)] = 1;
    b->out->fields[(size_t)layer * (size_t)b->out->n_fields + (size_t)row->field] = tensor;
    int rank = parse_shape(terms, row->shape);
    if (!shape_fits(tensor, terms, rank, b->dims)) {
        note(b->problems, MISSHAPEN, "%.120s is %s, expected %s", tensor->name,
             st_shape_text(found, tensor->shape, tensor->rank),
             expected_text(expected, terms, rank, b->dims));
    }
    if (!(row->flags & BIND_ANY_DTYPE) && !dtype_is_float(tensor->type)) {
        note(b->problems, MISTYPED, "%.120s is %s, expected F32, F16, BF16 or F64", tensor->name,
             dtype_name(tensor->type));
    }
}

static void bind_rows(const binder *b, unsigned conditions)
{
    for (int i = 0; i < b->table->n_rows; i++) {
        const bind_row *row = &b->table->rows[i];
        if (!holds(row, conditions)) continue;
        bool layered = strstr(row->name, "%d") != NULL || strstr(row->name, "%g") != NULL;
        int layers = !layered                         ? 1
                     : row->flags & BIND_SECOND_STACK ? (int)b->dims->size['L']
                                                      : b->out->n_layers;
        for (int layer = row->flags & BIND_NOT_FIRST_LAYER ? 1 : 0; layer < layers; layer++) {
            bind_one(b, row, layer);
        }
    }
    for (size_t i = 0; i < safetensors_count(b->file); i++) {
        const char *name = safetensors_at(b->file, i)->name;
        bool known = matches(b->table->ignore, name) || matches(BIND_IGNORE_ALWAYS, name) ||
                     (!(conditions & BIND_WITH_HEAD) && matches(b->table->head, name));
        if (!b->used[i] && !known) {
            note(b->problems, UNEXPECTED, "%.160s", name);
        }
    }
}

crank_status bind_open(bindings *out, const safetensors *file, const bind_table *table,
                       bind_dims *dims, int n_layers, unsigned conditions, crank_error *error)
{
    crank_status status = CRANK_OK;
    size_t rows = n_layers > 0 ? (size_t)n_layers : 1;
    if (dims->size['L'] > (int64_t)rows) rows = (size_t)dims->size['L'];
    *out = (bindings){.n_fields = table->n_fields, .n_layers = n_layers};
    binder b = {file, table, dims, out, NULL, NULL};
    out->fields = mem_zero(rows * (size_t)table->n_fields, sizeof *out->fields);
    b.used = mem_zero(safetensors_count(file), 1);
    b.problems = mem_zero(1, sizeof *b.problems);
    CRANK_CHECK_GOTO(out->fields != NULL && b.used != NULL && b.problems != NULL, OUT_OF_MEMORY,
                     error, "%s: no memory to bind its tensors", safetensors_file_path(file, 0));
    out->prefix = choose_prefix(file, table, conditions);
    bind_rows(&b, conditions);
    status = report(b.problems, file, error);
out:
    mem_free(b.used);
    mem_free(b.problems);
    if (status != CRANK_OK) bind_close(out);
    return status;
}

void bind_close(bindings *b)
{
    mem_free(b->fields);
    *b = (bindings){0};
}

const st_tensor *bind_get(const bindings *b, int field, int layer)
{
    return b->fields[(size_t)layer * (size_t)b->n_fields + (size_t)field];
}
