/* What BERT and its descendants share: the same post-norm block, bound by the same fields under
 * other names. A family lists names for these fields (and its head's), and says what differs. */
#ifndef CRANK_RUNTIME_BERT_LIKE_H
#define CRANK_RUNTIME_BERT_LIKE_H

#include "runtime/model.h"

/* clang-format off */
enum {
    WORD, POSITION, TYPE, EMBEDDING_G, EMBEDDING_B, PROJECT_W, PROJECT_B,
    Q_W, Q_B, K_W, K_B, V_W, V_B, O_W, O_B, ATTN_G, ATTN_B,
    FFN_IN_W, FFN_IN_B, FFN_OUT_W, FFN_OUT_B, FFN_G, FFN_B,
    DENSE_W, DENSE_B, OUT_W, OUT_B, /* the head: dense, activation, out */
    EXTRA, EXTRA_2, EXTRA_3, /* a family's own */
    BERT_LIKE_FIELDS
};
/* clang-format on */

enum { WITH_HEAD = 1, WITH_PROJECTION = 2, WITH_MORE = 4 }; /* bind conditions */

#define N_ROWS(rows) ((int)(sizeof(rows) / sizeof((rows)[0])))

/* WITH_HEAD for cross-encoders; WITH_PROJECTION when dims E and D differ. */
unsigned bert_like_conditions(const model_reader *r);

/* Where embeddings of width E (of dims) become rows of width D. */
typedef enum bert_like_projection {
    PROJECT_NARROW,      /* after their norm, where E and D differ (ELECTRA) */
    PROJECT_ALWAYS,      /* the same, also between equal widths (ALBERT) */
    PROJECT_BEFORE_NORM, /* where E and D differ; the norm is D wide (DeBERTa) */
} bert_like_projection;

/* Reads layer_norm_eps, chooses the readout's rows, declares embeddings (width E where dims has it)
 * and their projection. *epsilon is for the layers. */
crank_status bert_like_begin(model_reader *r, double default_epsilon, bert_like_projection kind,
                             float *epsilon, crank_error *error);
/* Declares layer l; its attention options must be set (model_plain_attention and what a family
 * adds). */
void bert_like_layer(model_reader *r, int l, float epsilon);
/* All layers with plain attention. */
void bert_like_layers(model_reader *r, float epsilon);
/* The head of cross-encoders, on the first token; nothing for vectors. */
void bert_like_head(model_reader *r, ops_activation activation);

#endif
