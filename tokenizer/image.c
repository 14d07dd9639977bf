/* Layout: header {magic, version, endian mark, n_sections, total bytes}, then one entry per section
 * in order of kind, then the sections. */
#include "tokenizer/image.h"

#include <string.h>

#include "memory.h"

#define IMAGE_MAGIC "crankTOK"
#define IMAGE_VERSION 1u
#define IMAGE_ENDIAN 0x01020304u

typedef struct image_header {
    char magic[8];
    uint32_t version, endian;
    uint32_t n_sections, zero;
    uint64_t bytes;
} image_header;

typedef struct image_entry {
    uint32_t kind, zero;
    uint64_t offset, bytes;
} image_entry;

enum { N_SECTIONS = TOK_SECTION_END - 1 };
#define IMAGE_PREFIX (sizeof(image_header) + N_SECTIONS * sizeof(image_entry))

static const char *const section_name[TOK_SECTION_END] = {
#define TOK_SECTION_NAME(name, number) [number] = #name,
    TOK_SECTION_LIST(TOK_SECTION_NAME)
#undef TOK_SECTION_NAME
};

crank_status image_builder_open(image_builder *b, crank_error *error)
{
    memset(b, 0, sizeof *b);
    image_put(b, NULL, IMAGE_PREFIX);
    CRANK_CHECK(!b->out_of_memory, OUT_OF_MEMORY, error, "tokenizer image: out of memory");
    return CRANK_OK;
}

void image_builder_close(image_builder *b)
{
    mem_free_aligned(b->bytes);
    memset(b, 0, sizeof *b);
}

size_t image_put(image_builder *b, const void *data, size_t bytes)
{
    size_t at = b->n - b->section_start;
    if (b->out_of_memory) return at;
    if (b->capacity - b->n < bytes) {
        size_t want;
        if (__builtin_add_overflow(b->n, bytes, &want) || want > SIZE_MAX / 2) {
            b->out_of_memory = true;
            return at;
        }
        size_t capacity = b->capacity + b->capacity / 2;
        if (capacity < want) capacity = want + 4096;
        uint8_t *grown = mem_alloc_aligned(capacity);
        if (grown == NULL) {
            b->out_of_memory = true;
            return at;
        }
        if (b->n > 0) memcpy(grown, b->bytes, b->n);
        mem_free_aligned(b->bytes);
        b->bytes = grown;
        b->capacity = capacity;
    }
    if (bytes > 0) {
        if (data != NULL)
            memcpy(b->bytes + b->n, data, bytes);
        else
            memset(b->bytes + b->n, 0, bytes);
    }
    b->n += bytes;
    return at;
}

size_t image_put_u32(image_builder *b, uint32_t value)
{
    return image_put(b, &value, sizeof value);
}

void image_align(image_builder *b, size_t alignment)
{
    image_put(b, NULL, -(b->n - b->section_start) & (alignment - 1));
}

void *image_at(image_builder *b, size_t offset)
{
    return b->out_of_memory ? NULL : b->bytes + b->section_start + offset;
}

crank_status image_open_section(image_builder *b, tok_section_kind kind, crank_error *error)
{
    CRANK_CHECK(b->open == 0 && b->offset[kind] == 0, INTERNAL, error,
                "tokenizer image: section %s opened twice", section_name[kind]);
    b->section_start = 0;
    image_align(b, 8);
    b->section_start = b->n;
    b->open = kind;
    return CRANK_OK;
}

crank_status image_close_section(image_builder *b, crank_error *error)
{
    CRANK_CHECK(!b->out_of_memory, OUT_OF_MEMORY, error, "tokenizer image: out of memory");
    b->offset[b->open] = b->section_start;
    b->length[b->open] = b->n - b->section_start;
    b->open = 0;
    return CRANK_OK;
}

crank_status image_finish(image_builder *b, void **out, size_t *bytes, crank_error *error)
{
    CRANK_CHECK(!b->out_of_memory, OUT_OF_MEMORY, error, "tokenizer image: out of memory");
    image_header header = {
        .version = IMAGE_VERSION, .endian = IMAGE_ENDIAN, .n_sections = N_SECTIONS, .bytes = b->n};
    memcpy(header.magic, IMAGE_MAGIC, sizeof header.magic);
    memcpy(b->bytes, &header, sizeof header);
    for (uint32_t kind = 1; kind < TOK_SECTION_END; kind++) {
        image_entry entry = {.kind = kind, .offset = b->offset[kind], .bytes = b->length[kind]};
        memcpy(b->bytes + sizeof header + (kind - 1) * sizeof entry, &entry, sizeof entry);
    }
    *out = b->bytes;
    *bytes = b->n;
    b->bytes = NULL;
    b->n = b->capacity = 0;
    return CRANK_OK;
}

crank_status image_view(tok_image *out, const void *bytes, size_t n, crank_error *error)
{
    memset(out, 0, sizeof *out);
    CRANK_CHECK((uintptr_t)bytes % 8 == 0, INVALID_ARGUMENT, error,
                "tokenizer image: not aligned to 8 bytes");
    CRANK_CHECK(n >= IMAGE_PREFIX, FORMAT, error,
                "tokenizer image: %zu bytes, its header alone needs %zu", n, IMAGE_PREFIX);
    image_header header;
    memcpy(&header, bytes, sizeof header);
    CRANK_CHECK(memcmp(header.magic, IMAGE_MAGIC, sizeof header.magic) == 0, FORMAT, error,
                "tokenizer image: does not begin with \"%s\"", IMAGE_MAGIC);
    CRANK_CHECK(header.endian == IMAGE_ENDIAN, UNSUPPORTED, error,
                "tokenizer image: written in another byte order");
    CRANK_CHECK(header.version == IMAGE_VERSION, UNSUPPORTED, error,
                "tokenizer image: version %u, this build reads %u: convert the model again",
                header.version, IMAGE_VERSION);
    CRANK_CHECK(header.n_sections == N_SECTIONS && header.zero == 0, FORMAT, error,
                "tokenizer image: %u sections, expected %d", header.n_sections, N_SECTIONS);
    CRANK_CHECK(header.bytes == n, FORMAT, error,
                "tokenizer image: %zu bytes, its header says %llu", n,
                (unsigned long long)header.bytes);
    out->base = bytes;
    out->bytes = n;
    for (uint32_t kind = 1; kind < TOK_SECTION_END; kind++) {
        image_entry entry;
        memcpy(&entry, out->base + sizeof header + (kind - 1) * sizeof entry, sizeof entry);
        CRANK_CHECK(entry.kind == kind && entry.zero == 0, FORMAT, error,
                    "tokenizer image: entry %u is of kind %u", kind, entry.kind);
        CRANK_CHECK(entry.offset % 8 == 0 && entry.offset >= IMAGE_PREFIX && entry.offset <= n &&
                        entry.bytes <= n - entry.offset,
                    FORMAT, error,
                    "tokenizer image: section %s at %llu + %llu lies outside %zu bytes",
                    section_name[kind], (unsigned long long)entry.offset,
                    (unsigned long long)entry.bytes, n);
        out->section[kind].at = out->base + entry.offset;
        out->section[kind].bytes = entry.bytes;
    }
    return CRANK_OK;
}

const void *section_array(tok_section section, uint64_t offset, uint64_t count, size_t size,
                          size_t alignment)
{
    if (section.at == NULL || offset > section.bytes || offset % alignment != 0) return NULL;
    if (count > (section.bytes - offset) / size) return NULL;
    return section.at + offset;
}
