/* Names to fields: an architecture is a table of rows {field, name, shape}, and binding it against
 * a file's tensors gives each field its tensor, or one message with every missing, extra, misshapen
 * and mistyped tensor.
 *
 *     enum { WORD, NORM_G, NORM_B, Q_W, Q_B, HEAD_W, N_FIELDS };
 *     static const bind_row rows[] = {
 *         {WORD,   "@embeddings.word_embeddings.weight", "V,D"},
 *         {NORM_G, "@embeddings.LayerNorm.weight", "D"},
 *         {NORM_B, "@embeddings.LayerNorm.bias", "D"},
 *         {Q_W,    "@encoder.layer.%d.attention.self.query.weight", "D,D"},
 *         {Q_B,    "@encoder.layer.%d.attention.self.query.bias", "D"},
 *         {HEAD_W, "classifier.weight", "N,D"},
 *     };
 *     static const bind_table table = {
 *         rows, sizeof rows / sizeof rows[0], N_FIELDS, "bert.|", "cls.*", NULL};
 *
 *     bind_dims dims = {.size = {['V'] = 30522, ['D'] = 384}};       N unknown: read from the file
 *     bindings b = {0};
 *     CRANK_TRY_GOTO(bind_open(&b, file, &table, &dims, n_layers, 0, error));
 *     ... bind_get(&b, Q_W, layer) ... dims.size['N'] ...
 *     out: bind_close(&b);
 *
 * Names: '@' is the prefix, which is one of table->prefixes for the whole file, the one under which
 * most rows are found. '%d' is the layer (one row then stands for n_layers tensors); where layers
 * stand in groups of dims 'J' (ALBERT), "%g" is the layer's group and "%j" its place in it. '|'
 * separates alternative names, the usual one first. A name that ends in "LayerNorm.weight" or
 * "LayerNorm.bias" is also found as ".gamma" or ".beta" (files older than 2019).
 * Shapes: comma-separated sizes; each is a letter of dims, a number, or a number times a letter
 * ("3D,D"); "" is a scalar. A letter whose size is 0 takes it from the first row that holds it
 * alone. */
#ifndef CRANK_BIND_H
#define CRANK_BIND_H

#include <stdint.h>

#include "status.h"
#include "weights/safetensors.h"

enum {
    BIND_REQUIRED = 0,
    BIND_OPTIONAL = 1,        /* absent: bind_get gives NULL */
    BIND_NOT_FIRST_LAYER = 2, /* layer 0 has none (ModernBERT's attn_norm); extra if it is there */
    BIND_ANY_DTYPE = 4,       /* else F32, F16, BF16 or F64 */
    BIND_SECOND_STACK = 8,    /* '%d' runs over dims 'L' layers (a decoder's), not n_layers */
};

typedef struct bind_row {
    int field; /* 0 .. n_fields - 1, each in one row per condition */
    const char *name;
    const char *shape;
    unsigned flags;
    unsigned when; /* bits: the row counts only where all of them are set in `conditions` */
} bind_row;

typedef struct bind_table {
    const bind_row *rows;
    int n_rows, n_fields;
    const char *prefixes; /* "bert.|": with "bert." or with none; NULL: none */
    const char *ignore; /* names that may stand in the file unused, '|'-separated, '*' is anything;
                         * beside BIND_IGNORE_ALWAYS */
    const char *head;   /* the same, unless BIND_WITH_HEAD is among the conditions */
} bind_table;

/* The bit of `when` and `conditions` that has one meaning for all tables. */
enum { BIND_WITH_HEAD = 1 };

/* Buffers that hold no weights, and our own padding. */
#define BIND_IGNORE_ALWAYS "*position_ids|*token_type_ids|*attn.masked_bias|*inv_freq|crank.*"

typedef struct bind_dims {
    int64_t size[128]; /* by letter; 0: unknown */
} bind_dims;

typedef struct bindings {
    const st_tensor **fields; /* [n_layers, n_fields]; rows without %d stand at layer 0 */
    int n_fields, n_layers;
    const char *prefix; /* the one found, NUL- or '|'-terminated: for messages */
} bindings;

/* dims: in and out. conditions: see bind_row.when. Fails: MODEL with all problems in one message
 * (cut after about 600 bytes with "and N more"), OUT_OF_MEMORY. On failure *out is closed. */
crank_status bind_open(bindings *out, const safetensors *file, const bind_table *table,
                       bind_dims *dims, int n_layers, unsigned conditions, crank_error *error);
void bind_close(bindings *b);
/* NULL: an optional row that is absent, or one whose condition does not hold. */
const st_tensor *bind_get(const bindings *b, int field, int layer);

#endif
