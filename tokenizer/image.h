/* The tokenizer's flat image: how it is built, checked and looked at.
 *
 * An image is a header, a table of sections (kind, offset, bytes) and the sections, each 8-byte
 * aligned, all in the machine's byte order (little-endian; the header says so and is checked). It
 * holds offsets, never pointers, so that it can be written to a file, read back anywhere and used
 * in place. A step or a model owns the bytes of its section alone and gives them the layout it
 * likes best: ready to use, no work at load but one linear check.
 *
 * The path: tokenizer.json -> image_builder (compile.c calls each step's and the model's compile)
 * -> bytes -> tok_image (views, after every check) -> encode.
 *
 * Invariants: nothing outside a section is reachable through that section; whatever a compile
 * writes, the matching check must verify before anything follows it, because the bytes come back
 * from untrusted files. */
#ifndef CRANK_TOKENIZER_IMAGE_H
#define CRANK_TOKENIZER_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "status.h"

/* X(name, number): numbers are stored in files and never reused. */
#define TOK_SECTION_LIST(X)                                                                        \
    X(CONFIG, 1)     /* tok_config */                                                              \
    X(NORMALIZER, 2) /* steps, see steps.h */                                                      \
    X(PRETOKENIZER, 3)                                                                             \
    X(VOCABULARY, 4) /* spelling of every id and a hash from spelling to id, see vocab.h */        \
    X(MODEL, 5)      /* the model's own */                                                         \
    X(ADDED, 6)      /* added tokens and how to find them, see added.h */                          \
    X(TEMPLATE, 7)   /* what stands around one text and around a pair */

typedef enum tok_section_kind {
#define TOK_SECTION_ENUM(name, number) TOK_SECTION_##name = (number),
    TOK_SECTION_LIST(TOK_SECTION_ENUM)
#undef TOK_SECTION_ENUM
        TOK_SECTION_END
} tok_section_kind;

/* Limits of every tokenizer; beyond them compile and check say LIMIT or FORMAT. */
#define TOK_MAX_VOCABULARY (4 << 20)
#define TOK_MAX_ID ((1 << 24) - 1)
#define TOK_MAX_TOKEN_BYTES 65535
#define TOK_MAX_STEPS 32

typedef struct tok_section {
    const uint8_t *at; /* 8-byte aligned; NULL when the image has no such section */
    size_t bytes;
} tok_section;

/* Views into a checked image. Immutable. */
typedef struct tok_image {
    const uint8_t *base;
    size_t bytes;
    tok_section section[TOK_SECTION_END];
    bool byte_level; /* words are raw bytes: the pre-tokeniser ends in ByteLevel, see model.h */
} tok_image;

/* ---- building ---------------------------------------------------------------------------------
 * Bytes are appended to the open section. Running out of memory is sticky: image_put and its kin
 * become no-ops and image_close_section reports it, so that a compile checks once. */
typedef struct image_builder {
    uint8_t *bytes;
    size_t n, capacity;
    size_t section_start;  /* where the open section begins */
    tok_section_kind open; /* 0: none */
    uint64_t offset[TOK_SECTION_END], length[TOK_SECTION_END];
    bool out_of_memory;
    bool byte_level;                  /* known before the model compiles */
    struct vocab_builder *vocabulary; /* see vocab.h */
} image_builder;

crank_status image_builder_open(image_builder *b, crank_error *error);
void image_builder_close(image_builder *b); /* zeroed is fine; the bytes are freed */

crank_status image_open_section(image_builder *b, tok_section_kind kind, crank_error *error);
/* Fails: OUT_OF_MEMORY, now or at any earlier image_put. */
crank_status image_close_section(image_builder *b, crank_error *error);

/* Appends; data NULL appends zeros. Returns the offset within the open section at which the bytes
 * lie (meaningless once out_of_memory). */
size_t image_put(image_builder *b, const void *data, size_t bytes);
size_t image_put_u32(image_builder *b, uint32_t value);
/* Zeros up to a multiple of `alignment` (a power of two, at most 8) within the section. */
void image_align(image_builder *b, size_t alignment);
/* The bytes at `offset` of the open section, to fill in or to patch; valid until the next put. NULL
 * when memory ran out. */
void *image_at(image_builder *b, size_t offset);

/* Closes the image: header, table, checksum of nothing (a container's job). Gives the bytes to the
 * caller (mem_free_aligned). */
crank_status image_finish(image_builder *b, void **out, size_t *bytes, crank_error *error);

/* ---- reading ----------------------------------------------------------------------------------
 * Checks header and table only; the sections are checked by their owners. */
crank_status image_view(tok_image *out, const void *bytes, size_t n, crank_error *error);

/* An array of `count` items of `size` bytes at `offset` of the section, or NULL when it does not
 * lie inside or is not aligned to `alignment`. The one way to follow an offset from an image. */
const void *section_array(tok_section section, uint64_t offset, uint64_t count, size_t size,
                          size_t alignment);

#endif
