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

enum { WITH_HEAD = BIND_WITH_HEAD, WITH_PROJECTION = 2, WITH_TYPES = 4 }; /* bind conditions */

#define N_ROWS(rows) ((int)(sizeof(rows) / sizeof((rows)[0])))

/* ---- rows that several families list: names as BERT's files have them ---- */

/* clang-format off */
/* A matrix [rows, cols] with its bias, fields F_W and F_B; a norm, fields F_G and F_B. */
#define LINEAR_WHEN(field, name, rows, cols, when) \
    {field##_W, name ".weight", rows "," cols, 0, when}, {field##_B, name ".bias", rows, 0, when}
#define LINEAR(field, name, rows, cols) LINEAR_WHEN(field, name, rows, cols, 0)
#define NORM(field, name, width) \
    {field##_G, name ".weight", width, 0, 0}, {field##_B, name ".bias", width, 0, 0}

#define EMBEDDINGS(width) \
    {WORD, "@embeddings.word_embeddings.weight", "V," width, 0, 0}, \
    {POSITION, "@embeddings.position_embeddings.weight", "P," width, 0, 0}, \
    NORM(EMBEDDING, "@embeddings.LayerNorm", width)
#define TOKEN_TYPES(width) {TYPE, "@embeddings.token_type_embeddings.weight", "T," width, 0, 0}

#define BERT_SELF "@encoder.layer.%d.attention.self."
#define BERT_QKV \
    LINEAR(Q, BERT_SELF "query", "D", "D"), \
    LINEAR(K, BERT_SELF "key", "D", "D"), \
    LINEAR(V, BERT_SELF "value", "D", "D")
#define BERT_ATTENTION_OUT \
    LINEAR(O, "@encoder.layer.%d.attention.output.dense", "D", "D"), \
    NORM(ATTN, "@encoder.layer.%d.attention.output.LayerNorm", "D")
#define BERT_FFN \
    LINEAR(FFN_IN, "@encoder.layer.%d.intermediate.dense", "F", "D"), \
    LINEAR(FFN_OUT, "@encoder.layer.%d.output.dense", "D", "F"), \
    NORM(FFN, "@encoder.layer.%d.output.LayerNorm", "D")

/* The head: BERT's pooler and classifier, or RoBERTa's dense and out_proj. */
#define POOLER_HEAD(pooler) \
    LINEAR_WHEN(DENSE, pooler, "D", "D", WITH_HEAD), \
    LINEAR_WHEN(OUT, "classifier", "N", "D", WITH_HEAD)
#define DENSE_HEAD \
    LINEAR_WHEN(DENSE, "classifier.dense", "D", "D", WITH_HEAD), \
    LINEAR_WHEN(OUT, "classifier.out_proj", "N", "D", WITH_HEAD)
/* What bi-encoders and ColBERT's files may keep of it (linear.weight: Stanford's projection, which
 * runtime/modules.c reads). */
#define UNUSED_HEAD "*pooler.*|classifier.*|linear.weight"
/* clang-format on */

/* WITH_HEAD for cross-encoders; WITH_PROJECTION when dims E and D differ; WITH_TYPES when the model
 * has token types (rows that are always there do not ask). */
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
/* The same where positions are rotations (GTE, NomicBERT): layers of `fields`. The model's family
 * begins with the rope_table, which bert_like_share_rope hands to them all once it is loaded. */
void bert_like_rotary_layers(model_reader *r, const layer_fields *fields, float epsilon);
void bert_like_share_rope(crank_model *m);
/* The head of cross-encoders, on the first token; nothing for vectors. */
void bert_like_head(model_reader *r, ops_activation activation);
/* All of it for a family that differs from BERT in names and the head's activation alone. */
crank_status bert_like_declare(model_reader *r, ops_activation head, crank_error *error);

#endif
