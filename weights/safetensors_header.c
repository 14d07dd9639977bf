#include "weights/safetensors_header.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "memory.h"
#include "utf8.h"

#define MAX_DEPTH 127             /* the reference's limit (serde_json) */
#define HEADER_OFFSET ((size_t)8) /* of the text in its file */
/* The shortest tensor: "":{"dtype":"U8","shape":[],"data_offsets":[0,0]} */
#define SHORTEST_ENTRY_BYTES 49

typedef struct reader {
    char *begin, *at, *end;
    const char *path;
    crank_error *error;
} reader;

#define FAIL(r, ...) fail_at((r), (r)->at, __VA_ARGS__)

__attribute__((format(printf, 3, 4))) static crank_status fail_at(const reader *r, const char *at,
                                                                  const char *format, ...)
{
    char reason[CRANK_ERROR_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    return status_fail(r->error, CRANK_FORMAT, "%s: header, byte %zu: %s", r->path,
                       HEADER_OFFSET + (size_t)(at - r->begin), reason);
}

static void skip_blanks(reader *r)
{
    while (r->at < r->end &&
           (*r->at == ' ' || *r->at == '\n' || *r->at == '\t' || *r->at == '\r')) {
        r->at++;
    }
}

/* The next character that is not blank; NUL at the end (a NUL in the text is an error anyway). */
static char peek(reader *r)
{
    skip_blanks(r);
    return r->at < r->end ? *r->at : '\0';
}

static crank_status expect(reader *r, char wanted)
{
    if (peek(r) != wanted) {
        return r->at == r->end ? FAIL(r, "the header ends where '%c' is expected", wanted)
                               : FAIL(r, "'%c' is expected, '%c' found", wanted, *r->at);
    }
    r->at++;
    return CRANK_OK;
}

/* ---- strings ------------------------------------------------------------------------------------
 */

static int hex_digits(const char *at, const char *end, uint32_t *value)
{
    *value = 0;
    if (end - at < 4) return 0;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        uint32_t digit;
        if (c >= '0' && c <= '9') {
            digit = (uint32_t)(c - '0');
        } else if ((c | 32) >= 'a' && (c | 32) <= 'f') {
            digit = (uint32_t)((c | 32) - 'a' + 10);
        } else {
            return 0;
        }
        *value = *value << 4 | digit;
    }
    return 1;
}

/* r->at is behind "\u". Reads one escape, or a pair of surrogates. */
static crank_status unicode_escape(reader *r, uint32_t *code_point)
{
    uint32_t low;
    if (!hex_digits(r->at, r->end, code_point)) return FAIL(r, "\\u needs four hexadecimal digits");
    r->at += 4;
    if (*code_point < 0xD800 || *code_point > 0xDFFF) return CRANK_OK;
    int pair = *code_point < 0xDC00 && r->end - r->at >= 6 && r->at[0] == '\\' && r->at[1] == 'u' &&
               hex_digits(r->at + 2, r->end, &low) && low >= 0xDC00 && low <= 0xDFFF;
    if (!pair) return FAIL(r, "half a surrogate pair");
    *code_point = 0x10000 + ((*code_point - 0xD800) << 10) + (low - 0xDC00);
    r->at += 6;
    return CRANK_OK;
}

/* Reads the string that begins at the next '"'. keep: unescapes it in place, ends it with a NUL
 * (over its closing quote at the latest) and sets *text and *bytes; otherwise the text stays as it
 * is and only *bytes (unescaped) is set. */
static crank_status read_string(reader *r, int keep, char **text, size_t *bytes)
{
    CRANK_TRY(expect(r, '"'));
    char *start = r->at, *out = r->at;
    while (r->at < r->end && *r->at != '"') {
        unsigned char c = (unsigned char)*r->at;
        uint32_t code_point = c;
        uint8_t utf8[4] = {c};
        int width = 1;
        if (c == '\\') {
            r->at++;
            char escape = r->at < r->end ? *r->at : '\0';
            static const char escapes[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
            const char *found = escape != '\0' ? strchr(escapes, escape) : NULL;
            if (escape == 'u') {
                r->at++;
                CRANK_TRY(unicode_escape(r, &code_point));
                width = utf8_encode(code_point, utf8);
            } else if (found != NULL) {
                r->at++;
                utf8[0] = (uint8_t)meanings[found - escapes];
            } else {
                return FAIL(r, "an unknown escape in a string");
            }
        } else if (c < 0x20) {
            return FAIL(r, "a control character in a string");
        } else if (c >= 0x80) {
            width = utf8_decode((const uint8_t *)r->at, (size_t)(r->end - r->at), &code_point);
            if (width <= 0) return FAIL(r, "a string is not valid UTF-8");
            memcpy(utf8, r->at, (size_t)width);
            r->at += width;
        } else {
            r->at++;
        }
        if (keep) memcpy(out, utf8, (size_t)width); /* never longer than what it was read from */
        out += width;
    }
    if (r->at == r->end) return fail_at(r, start - 1, "a string without an end");
    r->at++;
    *bytes = (size_t)(out - start);
    if (keep) {
        *out = '\0';
        *text = start;
    }
    return CRANK_OK;
}

static int has_nul(const char *text, size_t bytes)
{
    return memchr(text, '\0', bytes) != NULL;
}

/* ---- numbers and values that nobody asked for
 * ----------------------------------------------------*/

static int is_digit(const reader *r)
{
    return r->at < r->end && *r->at >= '0' && *r->at <= '9';
}

/* JSON's grammar; numbers that a double cannot hold (10^308 and above here) are refused, as the
 * reference does. */
static crank_status skip_number(reader *r)
{
    const char *start = r->at;
    long exponent = 0, whole = 0;
    int negative = 0, zero = 1;
    if (*r->at == '-') r->at++;
    if (!is_digit(r)) return FAIL(r, "a number without digits");
    if (*r->at == '0') {
        r->at++;
    } else {
        zero = 0;
        for (; is_digit(r); r->at++) whole++;
    }
    if (r->at < r->end && *r->at == '.') {
        r->at++;
        if (!is_digit(r)) return FAIL(r, "a number without digits after its point");
        for (; is_digit(r); r->at++) zero &= *r->at == '0';
    }
    if (r->at < r->end && (*r->at | 32) == 'e') {
        r->at++;
        if (r->at < r->end && (*r->at == '+' || *r->at == '-')) negative = *r->at++ == '-';
        if (!is_digit(r)) return FAIL(r, "a number without digits in its exponent");
        for (; is_digit(r); r->at++) {
            if (exponent < 1000000000) exponent = exponent * 10 + (*r->at - '0');
        }
    }
    long power = whole + (negative ? -exponent : exponent);
    if (!zero && power > 308) return fail_at(r, start, "a number out of range");
    return CRANK_OK;
}

static crank_status skip_word(reader *r, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(r->end - r->at) < n || memcmp(r->at, word, n) != 0) {
        return FAIL(r, "a value is expected");
    }
    r->at += n;
    return CRANK_OK;
}

/* Any value, nested at most MAX_DEPTH - depth deep. *members: of an object or array at its top. */
static crank_status skip_value(reader *r, int depth, size_t *members)
{
    char closers[MAX_DEPTH + 1];
    int level = 0, want_value = 1;
    *members = 0;
    for (;;) {
        char c = peek(r);
        if (level > 0 && c == closers[level - 1]) { /* "{}" and "[]", or the end after a value */
            r->at++;
            level--;
            want_value = 0;
        } else if (!want_value) {
            if (c != ',') return FAIL(r, "',' or '%c' is expected", closers[level - 1]);
            r->at++;
            want_value = 1;
            if (peek(r) == closers[level - 1]) return FAIL(r, "a value is expected after ','");
            continue;
        } else {
            char *text;
            size_t bytes;
            if (level > 0 && closers[level - 1] == '}') {
                CRANK_TRY(read_string(r, 0, &text, &bytes));
                CRANK_TRY(expect(r, ':'));
                c = peek(r);
            }
            if (level == 1) ++*members;
            if (c == '{' || c == '[') {
                if (depth + level + 1 > MAX_DEPTH) {
                    return FAIL(r, "nested deeper than %d levels", MAX_DEPTH);
                }
                closers[level++] = c == '{' ? '}' : ']';
                r->at++;
                continue;
            }
            if (c == '"') {
                CRANK_TRY(read_string(r, 0, &text, &bytes));
            } else if (c == '-' || (c >= '0' && c <= '9')) {
                CRANK_TRY(skip_number(r));
            } else {
                CRANK_TRY(skip_word(r, c == 't' ? "true" : c == 'f' ? "false" : "null"));
            }
            want_value = 0;
        }
        if (level == 0) return CRANK_OK;
    }
}

/* A non-negative integer below 2^64 and nothing that looks like one. */
static crank_status read_unsigned(reader *r, const char *what, uint64_t *value)
{
    peek(r);
    const char *start = r->at;
    *value = 0;
    if (!is_digit(r)) return FAIL(r, "%s: a non-negative integer is expected", what);
    for (; is_digit(r); r->at++) {
        if (r->at > start && *start == '0') return fail_at(r, start, "%s: a leading zero", what);
        if (__builtin_mul_overflow(*value, (uint64_t)10, value) ||
            __builtin_add_overflow(*value, (uint64_t)(*r->at - '0'), value)) {
            return fail_at(r, start, "%s: an integer of 2^64 or more", what);
        }
    }
    if (r->at < r->end && (*r->at == '.' || (*r->at | 32) == 'e')) {
        return fail_at(r, start, "%s: an integer is expected, not a fraction", what);
    }
    return CRANK_OK;
}

/* ---- one tensor
 * ----------------------------------------------------------------------------------*/

static crank_status read_shape(reader *r, st_tensor *tensor)
{
    CRANK_TRY(expect(r, '['));
    if (peek(r) == ']') {
        r->at++;
        return CRANK_OK;
    }
    for (;;) {
        uint64_t size;
        if (tensor->rank == ST_MAX_RANK) {
            return FAIL(r, "tensor %s: more than %d dimensions", tensor->name, ST_MAX_RANK);
        }
        CRANK_TRY(read_unsigned(r, "shape", &size));
        if (size > INT64_MAX)
            return FAIL(r, "tensor %s: a dimension of 2^63 or more", tensor->name);
        tensor->shape[tensor->rank++] = (int64_t)size;
        if (peek(r) != ',') return expect(r, ']');
        r->at++;
    }
}

static crank_status read_offsets(reader *r, uint64_t *first, uint64_t *end)
{
    CRANK_TRY(expect(r, '['));
    CRANK_TRY(read_unsigned(r, "data_offsets", first));
    CRANK_TRY(expect(r, ','));
    CRANK_TRY(read_unsigned(r, "data_offsets", end));
    return expect(r, ']');
}

static crank_status read_dtype(reader *r, st_tensor *tensor)
{
    char *name;
    size_t bytes;
    peek(r);
    const char *at = r->at;
    CRANK_TRY(read_string(r, 1, &name, &bytes));
    tensor->type = dtype_parse(name, bytes);
    if (tensor->type < DTYPE_COUNT) return CRANK_OK;
    static const char *const sub_byte[] = {"F4", "F6_E2M3", "F6_E3M2"};
    for (size_t i = 0; i < sizeof sub_byte / sizeof sub_byte[0]; i++) {
        CRANK_CHECK(strcmp(name, sub_byte[i]) != 0, UNSUPPORTED, r->error,
                    "%s: tensor %s: dtype %s is not supported", r->path, tensor->name, name);
    }
    return fail_at(r, at, "tensor %s: unknown dtype \"%s\"", tensor->name, name);
}

/* Sizes are multiplied without their zeros, so that no zero hides an overflow. */
static crank_status check_sizes(const reader *r, const char *at, st_tensor *tensor, uint64_t first,
                                uint64_t end, uint64_t data_bytes)
{
    int64_t bytes = (int64_t)dtype_bytes(tensor->type), elements = 1;
    char text[ST_SHAPE_TEXT_BYTES];
    st_shape_text(text, tensor->shape, tensor->rank);
    for (int i = 0; i < tensor->rank; i++) {
        int64_t size = tensor->shape[i];
        if (size != 0 && __builtin_mul_overflow(bytes, size, &bytes)) {
            return fail_at(r, at, "tensor %s: shape %s of %s overflows", tensor->name, text,
                           dtype_name(tensor->type));
        }
        elements = size != 0 && elements != 0 ? elements * size : 0;
    }
    if (elements == 0) bytes = 0;
    if (first > end || end > data_bytes) {
        return fail_at(r, at,
                       "tensor %s: data_offsets [%llu, %llu] do not lie in the %llu bytes of "
                       "data",
                       tensor->name, (unsigned long long)first, (unsigned long long)end,
                       (unsigned long long)data_bytes);
    }
    if (end - first != (uint64_t)bytes) {
        return fail_at(r, at,
                       "tensor %s: shape %s of %s takes %lld bytes, its data_offsets give "
                       "%llu",
                       tensor->name, text, dtype_name(tensor->type), (long long)bytes,
                       (unsigned long long)(end - first));
    }
    tensor->elements = elements;
    tensor->bytes = (uint64_t)bytes;
    return CRANK_OK;
}

/* The object that describes tensor->name. Its data offsets are from the beginning of the data. */
static crank_status read_tensor(reader *r, st_tensor *tensor, uint64_t data_bytes)
{
    static const char *const fields[] = {"dtype", "shape", "data_offsets"};
    enum { N_FIELDS = 3 };
    int seen[N_FIELDS] = {0};
    uint64_t first = 0, end = 0;
    peek(r);
    const char *start = r->at;
    CRANK_TRY(expect(r, '{'));
    for (int n = 0; peek(r) != '}'; n++) {
        char *key;
        size_t key_bytes, members;
        if (n > 0) CRANK_TRY(expect(r, ','));
        peek(r);
        const char *key_at = r->at;
        CRANK_TRY(read_string(r, 1, &key, &key_bytes));
        CRANK_TRY(expect(r, ':'));
        int field = 0;
        while (field < N_FIELDS &&
               (strlen(fields[field]) != key_bytes || memcmp(fields[field], key, key_bytes) != 0)) {
            field++;
        }
        if (field < N_FIELDS && seen[field]++) {
            return fail_at(r, key_at, "tensor %s: %s stands there twice", tensor->name,
                           fields[field]);
        }
        switch (field) {
        case 0: CRANK_TRY(read_dtype(r, tensor)); break;
        case 1: CRANK_TRY(read_shape(r, tensor)); break;
        case 2: CRANK_TRY(read_offsets(r, &first, &end)); break;
        default: CRANK_TRY(skip_value(r, 2, &members)); break;
        }
    }
    r->at++;
    for (int i = 0; i < N_FIELDS; i++) {
        if (!seen[i]) return fail_at(r, start, "tensor %s: no %s", tensor->name, fields[i]);
    }
    for (int i = tensor->rank; i < ST_MAX_RANK; i++) tensor->shape[i] = 1;
    tensor->offset = first;
    return check_sizes(r, start, tensor, first, end, data_bytes);
}

/* ---- metadata
 * ------------------------------------------------------------------------------------*/

static crank_status read_metadata(reader *r, st_header *header)
{
    reader ahead = *r;
    size_t n;
    if (peek(r) == 'n') return skip_word(r, "null");
    if (*r->at != '{') return FAIL(r, "__metadata__: an object is expected");
    CRANK_TRY(skip_value(&ahead, 1, &n));
    header->metadata = mem_array(n, sizeof *header->metadata);
    CRANK_CHECK(header->metadata != NULL, OUT_OF_MEMORY, r->error,
                "%s: no memory for %zu entries of metadata", r->path, n);
    CRANK_TRY(expect(r, '{'));
    for (size_t i = 0; i < n; i++) {
        char *key, *value;
        size_t key_bytes, value_bytes;
        if (i > 0) CRANK_TRY(expect(r, ','));
        CRANK_TRY(read_string(r, 1, &key, &key_bytes));
        CRANK_TRY(expect(r, ':'));
        if (peek(r) != '"') return FAIL(r, "__metadata__: %s: a string is expected", key);
        const char *at = r->at;
        CRANK_TRY(read_string(r, 1, &value, &value_bytes));
        if (has_nul(key, key_bytes) || has_nul(value, value_bytes)) {
            return fail_at(r, at, "__metadata__: %s: a NUL in a string", key);
        }
        header->metadata[i] = (st_pair){key, value};
    }
    header->n_metadata = n;
    return expect(r, '}');
}

/* ---- order
 * ---------------------------------------------------------------------------------------*/

/* Heap sort: in place and n log n on any input; libc's qsort may allocate behind our back. Files
 * come sorted as a rule, and are then only looked at. */
typedef struct sortable {
    void *items;
    const st_tensor *tensors; /* what items refer to, where they are an index */
    int (*order)(const struct sortable *s, size_t a, size_t b);
    void (*swap)(const struct sortable *s, size_t a, size_t b);
} sortable;

static void sift_down(const sortable *s, size_t root, size_t n)
{
    for (;;) {
        size_t child = 2 * root + 1;
        if (child >= n) return;
        if (child + 1 < n && s->order(s, child, child + 1) < 0) child++;
        if (s->order(s, root, child) >= 0) return;
        s->swap(s, root, child);
        root = child;
    }
}

static void sort_items(const sortable *s, size_t n)
{
    size_t sorted = 1;
    while (sorted < n && s->order(s, sorted - 1, sorted) <= 0) sorted++;
    if (sorted >= n) return;
    for (size_t root = n / 2; root-- > 0;) sift_down(s, root, n);
    for (size_t last = n; last-- > 1;) {
        s->swap(s, 0, last);
        sift_down(s, 0, last);
    }
}

static int tensor_order(const sortable *s, size_t a, size_t b)
{
    const st_tensor *tensors = s->items;
    return strcmp(tensors[a].name, tensors[b].name);
}

static void tensor_swap(const sortable *s, size_t a, size_t b)
{
    st_tensor *tensors = s->items, old = tensors[a];
    tensors[a] = tensors[b];
    tensors[b] = old;
}

static int pair_order(const sortable *s, size_t a, size_t b)
{
    const st_pair *pairs = s->items;
    return strcmp(pairs[a].key, pairs[b].key);
}

static void pair_swap(const sortable *s, size_t a, size_t b)
{
    st_pair *pairs = s->items, old = pairs[a];
    pairs[a] = pairs[b];
    pairs[b] = old;
}

/* By place in the data. A tensor without data comes before the one that begins at the same byte. */
static int data_order(const sortable *s, size_t a, size_t b)
{
    const uint32_t *index = s->items;
    const st_tensor *x = &s->tensors[index[a]], *y = &s->tensors[index[b]];
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static void index_swap(const sortable *s, size_t a, size_t b)
{
    uint32_t *index = s->items, old = index[a];
    index[a] = index[b];
    index[b] = old;
}

crank_status st_sort_by_name(st_tensor *tensors, size_t n, const char *path, crank_error *error)
{
    sortable s = {tensors, NULL, tensor_order, tensor_swap};
    sort_items(&s, n);
    for (size_t i = 1; i < n; i++) {
        CRANK_CHECK(strcmp(tensors[i - 1].name, tensors[i].name) != 0, FORMAT, error,
                    "%s: tensor %s stands there twice", path, tensors[i].name);
    }
    return CRANK_OK;
}

static crank_status sort_metadata(st_header *header, const char *path, crank_error *error)
{
    sortable s = {header->metadata, NULL, pair_order, pair_swap};
    sort_items(&s, header->n_metadata);
    for (size_t i = 1; i < header->n_metadata; i++) {
        CRANK_CHECK(strcmp(header->metadata[i - 1].key, header->metadata[i].key) != 0, FORMAT,
                    error, "%s: __metadata__: %s stands there twice", path,
                    header->metadata[i].key);
    }
    return CRANK_OK;
}

/* Every byte of the data belongs to exactly one tensor. */
static crank_status check_cover(const st_header *header, uint64_t data_bytes, const char *path,
                                crank_error *error)
{
    crank_status status = CRANK_OK;
    size_t n = header->n_tensors;
    uint64_t reached = 0;
    uint32_t *index = mem_array(n, sizeof *index);
    CRANK_CHECK(index != NULL, OUT_OF_MEMORY, error, "%s: no memory to sort %zu tensors", path, n);
    for (size_t i = 0; i < n; i++) index[i] = (uint32_t)i;
    sortable s = {index, header->tensors, data_order, index_swap};
    sort_items(&s, n);
    for (size_t i = 0; i < n; i++) {
        const st_tensor *tensor = &header->tensors[index[i]];
        CRANK_CHECK_GOTO(tensor->offset == reached, FORMAT, error,
                         "%s: tensor %s begins at byte %llu of the data, the one before it ends at "
                         "%llu: %s",
                         path, tensor->name, (unsigned long long)tensor->offset,
                         (unsigned long long)reached,
                         tensor->offset < reached ? "overlap" : "hole");
        reached += tensor->bytes;
    }
    CRANK_CHECK_GOTO(reached == data_bytes, FORMAT, error,
                     "%s: the tensors end at byte %llu of the data, which has %llu bytes", path,
                     (unsigned long long)reached, (unsigned long long)data_bytes);
out:
    mem_free(index);
    return status;
}

/* ---- the header
 * ----------------------------------------------------------------------------------*/

static crank_status read_members(reader *r, st_header *header, size_t members, size_t capacity,
                                 uint64_t data_bytes)
{
    int metadata_seen = 0;
    CRANK_TRY(expect(r, '{'));
    for (size_t i = 0; i < members; i++) {
        char *name;
        size_t name_bytes;
        if (i > 0) CRANK_TRY(expect(r, ','));
        peek(r);
        const char *at = r->at;
        CRANK_TRY(read_string(r, 1, &name, &name_bytes));
        if (has_nul(name, name_bytes)) return fail_at(r, at, "a NUL in the name %s", name);
        if (name_bytes > ST_MAX_NAME_BYTES) {
            return fail_at(r, at, "a name of %zu bytes, at most %d are accepted", name_bytes,
                           ST_MAX_NAME_BYTES);
        }
        CRANK_TRY(expect(r, ':'));
        if (strcmp(name, "__metadata__") == 0) {
            if (metadata_seen++) return fail_at(r, at, "__metadata__ stands there twice");
            CRANK_TRY(read_metadata(r, header));
        } else {
            if (header->n_tensors == capacity) return fail_at(r, at, "an entry that is too short");
            st_tensor *tensor = &header->tensors[header->n_tensors];
            *tensor = (st_tensor){.name = name};
            CRANK_TRY(read_tensor(r, tensor, data_bytes));
            header->n_tensors++;
        }
    }
    return expect(r, '}');
}

crank_status st_header_parse(st_header *out, char *text, size_t bytes, uint64_t data_bytes,
                             const char *path, crank_error *error)
{
    crank_status status = CRANK_OK;
    st_header header = {.text = text};
    reader r = {text, text, text + bytes, path, error};
    size_t members;
    *out = (st_header){0};
    if (bytes == 0 || text[0] != '{') {
        status = FAIL(&r, "the header does not begin with '{'");
        goto out;
    }
    CRANK_TRY_GOTO(skip_value(&r, 0, &members));
    skip_blanks(&r);
    if (r.at != r.end) {
        status = FAIL(&r, "something follows the header's object");
        goto out;
    }
    /* Members that are too short to be tensors cannot make the table large. */
    size_t capacity = bytes / SHORTEST_ENTRY_BYTES + 1;
    if (capacity > members) capacity = members;
    header.tensors = mem_array(capacity, sizeof *header.tensors);
    CRANK_CHECK_GOTO(header.tensors != NULL, OUT_OF_MEMORY, error,
                     "%s: no memory for a table of %zu tensors", path, capacity);
    r.at = text;
    CRANK_TRY_GOTO(read_members(&r, &header, members, capacity, data_bytes));
    CRANK_TRY_GOTO(sort_metadata(&header, path, error));
    CRANK_TRY_GOTO(st_sort_by_name(header.tensors, header.n_tensors, path, error));
    CRANK_TRY_GOTO(check_cover(&header, data_bytes, path, error));
    *out = header;
    header = (st_header){0};
out:
    st_header_free(&header);
    return status;
}

void st_header_free(st_header *header)
{
    mem_free(header->tensors);
    mem_free(header->metadata);
    mem_free(header->text);
    *header = (st_header){0};
}
