/* A model: weights in one block, the encoder and head that point into it, and what is known of the
 * folder it came from. Immutable after load; threads share it.
 *
 * One row of `architectures` (runtime/arch/architectures.c) per family: how to read its config, the
 * names of its tensors, and how to declare its weights. The forward pass of every family is
 * encoder_forward followed by the model's readout, unless the family brings its own. */
#ifndef CRANK_RUNTIME_MODEL_H
#define CRANK_RUNTIME_MODEL_H

#include <stdbool.h>

#include "crank.h"
#include "kernels/maxsim.h"
#include "kernels/ops.h"
#include "runtime/encoder.h"
#include "runtime/prompt.h"
#include "runtime/store.h"
#include "tokenizer/tokenizer.h"
#include "weights/config.h"
#include "weights/sentence_config.h"

/* What happens to the encoder's rows. */
typedef enum readout_kind {
    READOUT_HEAD,   /* pool, then logits: a cross-encoder */
    READOUT_VECTOR, /* pool, then (normalised) vectors: a bi-encoder */
    READOUT_TOKENS, /* a vector for every token: late interaction */
} readout_kind;

/* A Dense module, a LayerNorm module or one after the other: x = norm(act(linear(x)) [+ x, or
 * residual(x) where the widths differ]). */
typedef struct readout_step {
    ops_linear linear; /* n 0: none */
    ops_linear residual;
    bool adds;
    ops_activation activation;
    ops_norm norm; /* kind NONE: none */
} readout_step;

typedef struct readout {
    readout_kind kind;
    ops_pool_kind pool;
    ops_head head; /* READOUT_HEAD */
    readout_step
        steps[SENTENCE_MAX_MODULES]; /* READOUT_VECTOR, after the pooling; READOUT_TOKENS */
    int n_steps;
    bool normalize; /* READOUT_VECTOR, READOUT_TOKENS */
    int32_t width;  /* outputs per row: labels, or vector width */
    char text[96];  /* "dense tanh, classifier": for info */
} readout;

/* T5 rankers: what is asked, and how the answers become a score. */
typedef struct ranker {
    bool present;
    prompt prompt; /* compiled once the tokenizer is there */
    int32_t answers[PROMPT_MAX_ANSWERS];
    int n_answers; /* 0: nobody said; outputs are the logits of the whole vocabulary */
    prompt_reduction reduction;
    bool head; /* an encoder alone: the answer is its head's output, not a token's logit */
} ranker;

/* 128 bits in hexadecimal: the same for a folder and for what was converted from it, in any dtype.
 */
#define READER_FINGERPRINT_BYTES 33

/* ColBERT: how texts become sequences, and which vectors take part. */
#define LATE_MAX_SKIP 64
typedef struct late_interaction {
    bool present;
    int32_t query_length, document_length; /* template and marker included */
    int32_t query_marker, document_marker; /* ids after the first token; -1: none */
    int32_t mask_id;
    bool expand;                                /* queries are filled with [MASK] to query_length */
    bool attend_expansion;                      /* those [MASK]s are keys, too */
    bool l2;                                    /* sum of max of -|q - d|^2 instead of q . d */
    int32_t skip[LATE_MAX_SKIP], n_skip;        /* document tokens left out of the maximum */
    const maxsim_kernel *kernel;                /* of the device's instruction set */
    char fingerprint[READER_FINGERPRINT_BYTES]; /* of the source's weights; "": not known */
} late_interaction;

/* How ids become positions and types. */
typedef struct token_rules {
    int32_t vocab_size;
    int32_t n_types;        /* 0: no table; 1: type 0 always */
    int32_t first_position; /* RoBERTa: pad id + 1; MPNet: 2 */
    int32_t pad_id;         /* RoBERTa: sits on its own row and does not advance; -1: no rule */
    int32_t max_tokens;     /* of a sequence: usable rows of the position table */
} token_rules;

typedef struct architecture architecture;

struct crank_model {
    const architecture *arch;
    const ops_backend *backend;
    void *device;
    void *block;                /* weight memory */
    uint64_t weights_digest[2]; /* XXH3 of the packed weights: what caches know them by */
    ops_dtype dtype;
    const ops_layout *layout;

    encoder encoder;
    readout readout;
    token_rules tokens;
    ranker ranker;
    late_interaction late;
    int32_t
        cpu_batch_tokens; /* of a micro-batch, where a family knows better than the session; 0 */
    void *family; /* what the architecture keeps besides; freed by the model, NULL: nothing */

    crank_tokenizer *text_tokenizer; /* NULL: the folder has none; only token ids can be scored */
    const tokenizer *tok;            /* inside it */
    char *tok_missing;               /* then: why, for the error message */
    crank_activation activation;
    size_t max_length; /* default truncation */
    char *prompt;      /* prepended to the first text, or the template of a ranker; NULL: none */

    crank_model_info info; /* strings owned below */
    char *path, *name, *tokenizer_warning, *source_sha256, *converted_by;
    char source_dtypes[64], max_length_source[96], activation_name[96], activation_source[96];
};

/* A model while it is read: everything an architecture may look at. */
typedef struct model_reader {
    crank_model *model;
    const crank_model_options *options;
    config_source source;
    config *config; /* config.json */
    sentence_config sentence;
    config
        *settings; /* config_sentence_transformers.json, or Stanford's artifact.metadata; or NULL */
    safetensors *module_files[SENTENCE_MAX_MODULES]; /* of modules that have weights; or NULL */
    safetensors *file;
    bool converted;                /* file was made by crank_convert: no bindings */
    const ops_layout *file_layout; /* then: of its blobs; else NULL */
    bool bi_encoder;               /* asked for, now or when it was converted */
    char *name;                    /* the path's last component */
    bindings bound;
    int32_t n_bound_layers; /* layers of the bind table, where that is not encoder.n_layers */
    bind_dims dims;
    store store;
    crank_tokenizer *text_tokenizer; /* of a folder, until the model takes it; NULL: none */
    char *tokenizer_missing;         /* then: why */
} model_reader;

struct architecture {
    const char *const *model_types; /* config.json model_type, NULL-terminated */
    /* Fills model->encoder's sizes, activation, token rules and reader->dims from the config.
     * layers may be allocated here through model_add_layers. */
    crank_status (*configure)(model_reader *r, crank_error *error);
    const bind_table *names; /* of its tensors */
    /* Which of them count: bits of names' rows; asked after configure. */
    unsigned (*conditions)(const model_reader *r);
    /* Declares every weight to r->store and fills the readout. */
    crank_status (*declare)(model_reader *r, crank_error *error);
    /* After the weights are loaded: pointers that several layers share. NULL: none. */
    void (*share)(crank_model *m);
    /* NULL: encoder_forward and the readout. out: as crank_score_tokens describes. */
    void (*forward)(const crank_model *m, ops_context *ctx, float *out);
    void (*close)(crank_model *m); /* what family holds, not family itself; NULL: nothing */
};

extern const architecture *const architectures[]; /* NULL-terminated */

/* Runs one packed batch. out: [B, readout.width] f32 ([T, width] for READOUT_TOKENS). */
void model_forward(const crank_model *m, ops_context *ctx, float *out);
/* The same for a family with a pass of its own whose model is an encoder alone. */
void model_forward_encoder(const crank_model *m, ops_context *ctx, float *out);

/* Numbers per pair: 1 for bi-encoders and rankers with answers. */
int32_t model_labels(const crank_model *m);

/* ---- helpers for architectures ---- */

/* The sizes that every encoder's config has, under the names that families give them: L, D, H, F,
 * V, positions (P; 0 when the family has none), token types (T). Checks them against each other,
 * allocates the layers, fills encoder, token rules (no position offset, no pad rule) and dims. */
crank_status model_sizes(model_reader *r, crank_error *error);
/* Another number of layers than the config's. */
crank_status model_add_layers(crank_model *m, int32_t n_layers, crank_error *error);
/* RoBERTa's rule: position rows begin at pad_id + 1, a pad id inside a text stays on its own row.
 */
crank_status model_positions_after_pad(model_reader *r, int32_t pad_id, crank_error *error);
/* hidden_act and friends, by the names that transformers gives them. */
crank_status model_activation(const config *c, const char *keys, const char *fallback,
                              ops_activation *activation, crank_error *error);

/* Heads must have an even width, and the kind of rotary frequencies under these keys must be the
 * default one: other kinds are computed otherwise. */
crank_status model_plain_rope(const model_reader *r, const char *keys, crank_error *error);
/* One of those names; false: another one. */
bool model_activation_named(const char *name, ops_activation *activation);

/* Declares gamma and beta (field -1: none) as a norm of `width`. */
void model_norm(model_reader *r, ops_norm *norm, ops_norm_kind kind, const char *name, int layer,
                int gamma, int beta, int32_t width, float epsilon);
/* Word, position and type tables (field -1: none) and the norm over their sum. */
typedef struct embedding_fields {
    int word, position, type, gamma, beta;
} embedding_fields;
void model_embeddings(model_reader *r, const embedding_fields *fields, int32_t width,
                      ops_norm_kind norm, float epsilon);

/* One encoder layer's tensors; -1: none. q, k and v are three tensors, or the rows of one fused
 * tensor, q, with k and v unused. */
typedef struct layer_fields {
    int q, q_bias, k, k_bias, v, v_bias, out, out_bias;
    int attn_gamma, attn_beta;
    int ffn_in, ffn_in_bias; /* gated: see gate */
    int ffn_out, ffn_out_bias;
    int ffn_gamma, ffn_beta;
    bool fused_qkv;
    bool gated;      /* ffn_in is [2F, D]: activated half, gate half */
    bool gate_first; /* the other way round on disk */
    int gate;        /* the gate half is a tensor of its own; -1: inside ffn_in */
} layer_fields;
/* Declares layer l. Its attention options (layer->attention) must be set before: head rows fold K
 * and V only where neither rotary nor relative terms stand in the way. */
void model_layer(model_reader *r, int l, const layer_fields *fields, ops_norm_kind norm,
                 float epsilon);
/* softmax(Q K^T / sqrt(K)) V for layer l, with no other terms. */
void model_plain_attention(model_reader *r, int l);

/* Rotary tables that layers share: made at load, copied into layers by architecture.share. */
typedef struct rope_table {
    const float *cosines, *sines; /* [positions, K/2] */
    struct rope_request {
        int32_t positions, width;
        double theta, divisor; /* angle = p / (theta^(2j/K) * divisor) */
        bool sine;
    } requests[2];
} rope_table;
void model_rope(model_reader *r, rope_table *rope, const char *name, double theta, double divisor);

/* T5's and MPNet's bias: table [n_buckets, H] of field -> [H, 2*span - 1] by distance k - q. The
 * request lives until the weights are loaded. layer -1: one for all. */
typedef struct distance_bias_request {
    const st_tensor *table;
    const safetensors *file;
    int32_t n_buckets, max_distance, heads, span;
} distance_bias_request;
void model_distance_bias(model_reader *r, const float **bias, const char *name, int layer,
                         int field, distance_bias_request *request);

/* Fills model->ranker and its template: from the options, a converted file's metadata, or the table
 * of known schemes. Without a tokenizer and without answers, n_answers stays 0. */
crank_status model_ranker(model_reader *r, crank_error *error);

/* The same for an encoder with a head: a template alone, where the options, a converted file or the
 * name (RankT5) give one. */
crank_status model_encoder_ranker(model_reader *r, crank_error *error);

/* The usual readouts, chosen from the folder: a pooling of the vectors (bi-encoder), or a head.
 * dense, dense_bias, out, out_bias: fields; dense -1: straight to out. */
typedef struct head_fields {
    int dense, dense_bias, norm, norm_bias, out, out_bias;
    ops_activation activation;
    float norm_epsilon;
} head_fields;
void model_head(model_reader *r, const head_fields *fields, int32_t d_dense, int32_t labels);
/* What stands after the encoder: the checkpoint's own head, or what the folder's modules (or the
 * caller) say. */
typedef enum readout_source {
    SOURCE_HEAD,    /* *ForSequenceClassification */
    SOURCE_POOLING, /* a bi-encoder */
    SOURCE_MODULES, /* a head of Dense and LayerNorm modules */
    SOURCE_TOKENS,  /* ColBERT */
} readout_source;
readout_source model_readout_source(const model_reader *r);
/* True when the checkpoint is a bare encoder: anything but SOURCE_HEAD. */
bool model_wants_vectors(const model_reader *r);
/* Declares what follows a bare encoder. */
crank_status model_vector_readout(model_reader *r, crank_error *error);
/* Late interaction: markers, mask and skip list, once the tokenizer is open. */
crank_status model_late_tokens(model_reader *r, const tokenizer *tok, crank_error *error);

#endif
