#include "weights/safetensors_header.h"

#include <string.h>

#include "jsontext.h"
#include "memory.h"

#define HEADER_OFFSET ((size_t)8) /* of the text in its file */
/* The shortest tensor: "":{"dtype":"U8","shape":[],"data_offsets":[0,0]} */
#define SHORTEST_ENTRY_BYTES 49

#define FAIL(r, ...) jsontext_fail((r), (r)->at, __VA_ARGS__)

static int has_nul(const char *text, size_t bytes)
{
    return memchr(text, '\0', bytes) != NULL;
}

/* ---- one tensor
 * ----------------------------------------------------------------------------------*/

static crank_status read_shape(jsontext_reader *r, st_tensor *tensor)
{
    CRANK_TRY(jsontext_expect(r, '['));
    if (jsontext_peek(r) == ']') {
        r->at++;
        return CRANK_OK;
    }
    for (;;) {
        uint64_t size;
        if (tensor->rank == ST_MAX_RANK) {
            return FAIL(r, "tensor %s: more than %d dimensions", tensor->name, ST_MAX_RANK);
        }
        CRANK_TRY(jsontext_unsigned_at(r, "shape", &size));
        if (size > INT64_MAX)
            return FAIL(r, "tensor %s: a dimension of 2^63 or more", tensor->name);
        tensor->shape[tensor->rank++] = (int64_t)size;
        if (jsontext_peek(r) != ',') return jsontext_expect(r, ']');
        r->at++;
    }
}

static crank_status read_offsets(jsontext_reader *r, uint64_t *first, uint64_t *end)
{
    CRANK_TRY(jsontext_expect(r, '['));
    CRANK_TRY(jsontext_unsigned_at(r, "data_offsets", first));
    CRANK_TRY(jsontext_expect(r, ','));
    CRANK_TRY(jsontext_unsigned_at(r, "data_offsets", end));
    return jsontext_expect(r, ']');
}

static crank_status read_dtype(jsontext_reader *r, st_tensor *tensor)
{
    char *name;
    size_t bytes;
    jsontext_peek(r);
    const char *at = r->at;
    CRANK_TRY(jsontext_string_at(r, 1, &name, &bytes));
    tensor->type = dtype_parse(name, bytes);
    if (tensor->type < DTYPE_COUNT) return CRANK_OK;
    static const char *const sub_byte[] = {"F4", "F6_E2M3", "F6_E3M2"};
    for (size_t i = 0; i < sizeof sub_byte / sizeof sub_byte[0]; i++) {
        CRANK_CHECK(strcmp(name, sub_byte[i]) != 0, UNSUPPORTED, r->error,
                    "%s: tensor %s: dtype %s is not supported", r->label, tensor->name, name);
    }
    return jsontext_fail(r, at, "tensor %s: unknown dtype \"%s\"", tensor->name, name);
}

/* Sizes are multiplied without their zeros, so that no zero hides an overflow. */
static crank_status check_sizes(const jsontext_reader *r, const char *at, st_tensor *tensor,
                                uint64_t first, uint64_t end, uint64_t data_bytes)
{
    int64_t bytes = (int64_t)dtype_bytes(tensor->type), elements = 1;
    char text[ST_SHAPE_TEXT_BYTES];
    st_shape_text(text, tensor->shape, tensor->rank);
    for (int i = 0; i < tensor->rank; i++) {
        int64_t size = tensor->shape[i];
        if (size != 0 && __builtin_mul_overflow(bytes, size, &bytes)) {
            return jsontext_fail(r, at, "tensor %s: shape %s of %s overflows", tensor->name, text,
                                 dtype_name(tensor->type));
        }
        elements = size != 0 && elements != 0 ? elements * size : 0;
    }
    if (elements == 0) bytes = 0;
    if (first > end || end > data_bytes) {
        return jsontext_fail(r, at,
                             "tensor %s: data_offsets [%llu, %llu] do not lie in the %llu bytes of "
                             "data",
                             tensor->name, (unsigned long long)first, (unsigned long long)end,
                             (unsigned long long)data_bytes);
    }
    if (end - first != (uint64_t)bytes) {
        return jsontext_fail(r, at,
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
static crank_status read_tensor(jsontext_reader *r, st_tensor *tensor, uint64_t data_bytes)
{
    static const char *const fields[] = {"dtype", "shape", "data_offsets"};
    enum { N_FIELDS = 3 };
    int seen[N_FIELDS] = {0};
    uint64_t first = 0, end = 0;
    jsontext_peek(r);
    const char *start = r->at;
    CRANK_TRY(jsontext_expect(r, '{'));
    for (int n = 0; jsontext_peek(r) != '}'; n++) {
        char *key;
        size_t key_bytes, members;
        if (n > 0) CRANK_TRY(jsontext_expect(r, ','));
        jsontext_peek(r);
        const char *key_at = r->at;
        CRANK_TRY(jsontext_string_at(r, 1, &key, &key_bytes));
        CRANK_TRY(jsontext_expect(r, ':'));
        int field = 0;
        while (field < N_FIELDS &&
               (strlen(fields[field]) != key_bytes || memcmp(fields[field], key, key_bytes) != 0)) {
            field++;
        }
        if (field < N_FIELDS && seen[field]++) {
            return jsontext_fail(r, key_at, "tensor %s: %s stands there twice", tensor->name,
                                 fields[field]);
        }
        switch (field) {
        case 0: CRANK_TRY(read_dtype(r, tensor)); break;
        case 1: CRANK_TRY(read_shape(r, tensor)); break;
        case 2: CRANK_TRY(read_offsets(r, &first, &end)); break;
        default: CRANK_TRY(jsontext_skip(r, 2, &members)); break;
        }
    }
    r->at++;
    for (int i = 0; i < N_FIELDS; i++) {
        if (!seen[i]) return jsontext_fail(r, start, "tensor %s: no %s", tensor->name, fields[i]);
    }
    for (int i = tensor->rank; i < ST_MAX_RANK; i++) tensor->shape[i] = 1;
    tensor->offset = first;
    return check_sizes(r, start, tensor, first, end, data_bytes);
}

/* ---- metadata
 * ------------------------------------------------------------------------------------*/

static crank_status read_metadata(jsontext_reader *r, st_header *header)
{
    jsontext_reader ahead = *r;
    size_t n;
    if (jsontext_peek(r) == 'n') return jsontext_skip(r, 1, &n);
    if (*r->at != '{') return FAIL(r, "__metadata__: an object is expected");
    CRANK_TRY(jsontext_skip(&ahead, 1, &n));
    header->metadata = mem_array(n, sizeof *header->metadata);
    CRANK_CHECK(header->metadata != NULL, OUT_OF_MEMORY, r->error,
                "%s: no memory for %zu entries of metadata", r->label, n);
    CRANK_TRY(jsontext_expect(r, '{'));
    for (size_t i = 0; i < n; i++) {
        char *key, *value;
        size_t key_bytes, value_bytes;
        if (i > 0) CRANK_TRY(jsontext_expect(r, ','));
        CRANK_TRY(jsontext_string_at(r, 1, &key, &key_bytes));
        CRANK_TRY(jsontext_expect(r, ':'));
        if (jsontext_peek(r) != '"') return FAIL(r, "__metadata__: %s: a string is expected", key);
        const char *at = r->at;
        CRANK_TRY(jsontext_string_at(r, 1, &value, &value_bytes));
        if (has_nul(key, key_bytes) || has_nul(value, value_bytes)) {
            return jsontext_fail(r, at, "__metadata__: %s: a NUL in a string", key);
        }
        header->metadata[i] = (st_pair){key, value};
    }
    header->n_metadata = n;
    return jsontext_expect(r, '}');
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

static crank_status read_members(jsontext_reader *r, st_header *header, size_t members,
                                 size_t capacity, uint64_t data_bytes)
{
    int metadata_seen = 0;
    CRANK_TRY(jsontext_expect(r, '{'));
    for (size_t i = 0; i < members; i++) {
        char *name;
        size_t name_bytes;
        if (i > 0) CRANK_TRY(jsontext_expect(r, ','));
        jsontext_peek(r);
        const char *at = r->at;
        CRANK_TRY(jsontext_string_at(r, 1, &name, &name_bytes));
        if (has_nul(name, name_bytes)) return jsontext_fail(r, at, "a NUL in the name %s", name);
        if (name_bytes > ST_MAX_NAME_BYTES) {
            return jsontext_fail(r, at, "a name of %zu bytes, at most %d are accepted", name_bytes,
                                 ST_MAX_NAME_BYTES);
        }
        CRANK_TRY(jsontext_expect(r, ':'));
        if (strcmp(name, "__metadata__") == 0) {
            if (metadata_seen++) return jsontext_fail(r, at, "__metadata__ stands there twice");
            CRANK_TRY(read_metadata(r, header));
        } else {
            if (header->n_tensors == capacity)
                return jsontext_fail(r, at, "an entry that is too short");
            st_tensor *tensor = &header->tensors[header->n_tensors];
            *tensor = (st_tensor){.name = name};
            CRANK_TRY(read_tensor(r, tensor, data_bytes));
            header->n_tensors++;
        }
    }
    return jsontext_expect(r, '}');
}

crank_status st_header_parse(st_header *out, char *text, size_t bytes, uint64_t data_bytes,
                             const char *path, crank_error *error)
{
    crank_status status = CRANK_OK;
    st_header header = {.text = text};
    jsontext_reader r = {text, text, text + bytes, path, NULL, HEADER_OFFSET, error};
    size_t members;
    *out = (st_header){0};
    if (bytes == 0 || text[0] != '{') {
        status = FAIL(&r, "the header does not begin with '{'");
        goto out;
    }
    CRANK_TRY_GOTO(jsontext_skip(&r, 0, &members));
    jsontext_peek(&r);
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
