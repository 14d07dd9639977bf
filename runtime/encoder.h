/* The transformer encoder that every family shares: a struct of data and one forward pass over the
 * ops table. Families differ in their tables, not in their code: where the norms stand, what the
 * attention adds to its scores, whether the FFN is gated, which rows the head reads.
 *
 * Post-norm (BERT):  a = norm_attn(x + O attn(QKV x));  x = norm_ffn(a + F2 act(F1 a))
 * Pre-norm (ModernBERT, T5): x += O attn(QKV norm_attn(x));  x += F2 act(F1 norm_ffn(x)); the last
 * x is normed by final_norm. Each residual add and the norm that follows it are one op, whichever
 * side of the layer boundary the norm belongs to.
 *
 * Rows: when the head reads the first token only, the last layer computes that row alone, and where
 * attention allows it K and V are folded into the query and the output (ops_fold). */
#ifndef CRANK_RUNTIME_ENCODER_H
#define CRANK_RUNTIME_ENCODER_H

#include <stdbool.h>

#include "kernels/ops.h"

typedef struct encoder_layer {
    ops_linear qkv;   /* [3*H*K, D]; blob NULL in a last layer of first rows */
    ops_linear query; /* [H*K, D]: that last layer's query */
    ops_linear kv;    /* [2*H*K, D]: its keys and values when they cannot be folded */
    ops_fold fold;    /* key NULL: not folded */
    ops_linear out;   /* [D, H*K] */
    ops_norm attn_norm;
    ops_linear ffn_in;  /* [F, D], or [2F, D] gated */
    ops_linear ffn_out; /* [D, F] */
    ops_norm ffn_norm;
    ops_attention attention;
} encoder_layer;

/* DeBERTa's convolution (deberta-v2-xlarge): after the first layer,
 * x = norm(x + act(conv(x0))), x0 the embeddings, rows outside of the sequence zeros. */
typedef struct encoder_convolution {
    ops_linear weights; /* [D, kernel * D]; n 0: none */
    int32_t kernel;     /* rows that it sees, odd */
    ops_activation activation;
    ops_norm norm;
} encoder_convolution;

typedef struct encoder {
    int32_t n_layers, width, heads, head_width, ffn_width; /* L, D, H, K, F */
    ops_embedding embedding;
    ops_linear project;              /* embeddings_project [D, E]; n 0: none */
    ops_norm project_norm;           /* after it; kind NONE: none */
    encoder_layer *layers;           /* [L], owned by the model */
    encoder_convolution convolution; /* post-norm models; not with first_row_only in one layer */
    bool pre_norm;
    bool first_row_only;      /* the head reads each sequence's first token alone */
    bool trace_projection;    /* golden traces of "attention" are O attn(..) without the residual */
    const char *trace_prefix; /* "encoder." in golden traces of encoder-decoders; NULL: none */
    ops_activation activation;
    ops_norm final_norm; /* pre-norm models; kind NONE: none */
} encoder;

/* Runs ctx->batch through the encoder. The result has VALUE: [B, D] when first_row_only (each
 * sequence's first row), else [T, D]. Traces "embeddings", "layer.N.attention", "layer.N",
 * "final_norm" as golden/README.md names them. */
ops_tensor encoder_forward(const encoder *e, ops_context *ctx);

#endif
