/* The weights of one model: declared by its architecture, then loaded into one block (or written to
 * one file) in the layout of a backend.
 *
 * An architecture declares every weight once, by the field numbers of its bind table and a name of
 * crank's own. Where the bytes come from is not its business:
 *   - a Hugging Face folder: source tensors are read, joined, widened to f32 and packed;
 *   - a converted file in the wanted layout: the data section is read in one go and pointed into;
 *   - a converted file in another layout: blobs are unpacked and packed again.
 * Destinations (ops_linear etc. inside the architecture's structs) are filled by store_load. */
#ifndef CRANK_RUNTIME_STORE_H
#define CRANK_RUNTIME_STORE_H

#include <stdbool.h>

#include "kernels/ops.h"
#include "status.h"
#include "weights/bind.h"
#include "weights/safetensors.h"

typedef enum store_kind {
    STORE_LINEAR, /* a blob in the store's layout */
    STORE_LOOKUP, /* rows in the layout's table dtype */
    STORE_FLOATS, /* f32, as it stands, transposed, or computed */
    STORE_INTS,   /* i32, computed */
} store_kind;

#define STORE_MAX_PARTS 3
#define STORE_NAME_BYTES 64

/* Fills n values (of a linear: its weight); argument is what was declared with it and lives until
 * store_load returns. */
typedef crank_status (*store_compute)(void *argument, void *values, size_t n, crank_error *error);

typedef struct store_item {
    store_kind kind;
    char name[STORE_NAME_BYTES]; /* "layer.3.qkv": the tensor's name in a converted file */
    int32_t rows, cols;
    bool gated, swap_halves, transpose;
    bool sliced; /* rows first_row .. of the tensor, which may have more */
    int32_t first_row;
    int n_parts; /* linears: parts are stacked by rows */
    const st_tensor *weight[STORE_MAX_PARTS], *bias[STORE_MAX_PARTS]; /* NULL bias: zeros */
    const safetensors *file; /* of its tensors, where that is not the store's */
    store_compute compute;   /* instead of tensors */
    void *argument;
    void *target;         /* ops_linear *, ops_lookup *, const float **, const int32_t ** */
    size_t offset, bytes; /* inside the block */
    uint64_t digest[2];   /* of the bytes, once loaded */
} store_item;

typedef struct store {
    const bindings *source;        /* NULL: loading a converted file */
    const safetensors *file;       /* folder or converted file */
    const ops_layout *layout;      /* wanted */
    const ops_layout *file_layout; /* of the converted file; NULL for folders */
    int source_layer; /* >= 0: the bind table's layer for what is declared next, whatever its own
                         (weights that layers share on disk) */
    store_item *items;
    int n_items, capacity;
    size_t bytes; /* of all items */
    int64_t n_parameters;
    uint64_t digest[2]; /* XXH3 of everything loaded */
    crank_status
        failure; /* first failure of a declaration (out of memory): checked by store_load */
} store;

void store_open(store *s, const bindings *source, const safetensors *file, const ops_layout *layout,
                const ops_layout *file_layout);
void store_close(store *s);

/* name: in a converted file the weight stands as "name", or "layer.LAYER.name" when layer >= 0.
 * target->n, k, gated are filled now, blob and layout by store_load. weights and biases: fields of
 * the bind table, n_parts of them, stacked by rows; a bias field of -1, or one that is not in the
 * file, is zeros. rows: of all parts together. */
typedef struct store_linear_spec {
    const char *name;
    int layer; /* also the layer of the bind table's rows; -1: none */
    int32_t rows, cols;
    int n_parts;
    int weights[STORE_MAX_PARTS], biases[STORE_MAX_PARTS];
    /* Rows first_row .. of the (single) source tensor only, when source_rows > rows: the q rows of
     * a fused qkv. */
    int32_t first_row, source_rows;
    bool gated, swap_halves; /* swap_halves: the file has the gate rows first */
} store_linear_spec;
void store_linear(store *s, ops_linear *target, const store_linear_spec *spec);

void store_lookup(store *s, ops_lookup *target, const char *name, int field, int32_t rows,
                  int32_t cols);
/* *target: [rows, cols] f32 ([cols, rows] when transpose), read from the field's tensor starting at
 * source row first_row. NULL target value when the field is optional and absent (or field < 0). */
void store_floats(store *s, const float **target, const char *name, int layer, int field,
                  int32_t first_row, int32_t rows, int32_t cols, bool transpose);
/* The same from a tensor of another file (a module's). file NULL: a converted file is read, which
 * has it under its name; tensor NULL then or for an optional tensor that is absent. */
void store_tensor_floats(store *s, const float **target, const char *name, const safetensors *file,
                         const st_tensor *tensor, int32_t rows, int32_t cols);
void store_tensor_linear(store *s, ops_linear *target, const char *name, const safetensors *file,
                         const st_tensor *weight, const st_tensor *bias, int32_t rows,
                         int32_t cols);
void store_computed_floats(store *s, const float **target, const char *name, int layer, size_t n,
                           store_compute compute, void *argument);
/* Weight [rows, cols] computed, bias a field. */
void store_computed_linear(store *s, ops_linear *target, const char *name, int32_t rows,
                           int32_t cols, int bias, store_compute compute, void *argument);
void store_computed_ints(store *s, const int32_t **target, const char *name, int layer, size_t n,
                         store_compute compute, void *argument);

/* Fills *block (memory of the backend; freed with backend->memory_close) and every target. threads:
 * a team for packing, or NULL. host_data: for converted files read in one go, the block itself, so
 * that other tensors (the tokenizer's image) can be found in it; else NULL. Fails: IO, FORMAT,
 * MODEL (a converted file lacks an item), NUMERIC, OUT_OF_MEMORY, DEVICE. */
crank_status store_load(store *s, const ops_backend *backend, void *device, team *threads,
                        void **block, const uint8_t **host_data, crank_error *error);

/* Declares every item in `writer` (before any data), then writes them: two calls, so that the
 * caller can declare tensors of its own in between. done is called after each item; non-zero
 * cancels. */
crank_status store_declare_file(const store *s, st_writer *writer, crank_error *error);
crank_status store_write_file(const store *s, st_writer *writer,
                              int (*done)(void *user, size_t items_done, size_t items), void *user,
                              crank_error *error);

#endif
