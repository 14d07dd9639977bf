/* Hugging Face folders with seeded random weights in real shapes, for benchmarks and demonstrations
 * of speed: the arithmetic of a model does not depend on what its weights are.
 *
 * Weights: element i of the tensor whose name hashes to h is drawn by a counter-based generator
 * from (seed, h, i) alone, so that tensors can be made in any order and never depend on each other:
 * linear and embedding weights and biases from N(0, 0.02), LayerNorm weights 1 and biases 0. So
 * does transformers initialise BERT, but for the biases of linears, which it leaves at 0 and which
 * are drawn here so that a forgotten bias is seen. The bell curve is a sum of eight 16-bit uniform
 * integers (cut at 4.9 deviations), so that every machine makes the same bits without libm.
 * Streamed: memory is one buffer.
 *
 * Vocabulary: [PAD] [UNK] [CLS] [SEP] [MASK], then 30,517 words of five letters ("waaaa" ...): a
 * text of n of these words is exactly n tokens. */
#ifndef CRANK_SYNTH_H
#define CRANK_SYNTH_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"
#include "weights/dtype.h"

#define SYNTH_VOCAB 30522
#define SYNTH_SPECIALS 5

typedef struct synth_shape {
    const char *name;       /* "minilm-l6" */
    const char *model_type; /* "bert" or "electra" */
    int32_t layers, width, heads, ffn, embedding_width, positions, types, labels;
    double norm_epsilon;
    const char *like; /* the published model of this shape */
} synth_shape;

const synth_shape *synth_shapes(size_t *n);
const synth_shape *synth_find(const char *name); /* NULL: no such shape */
int64_t synth_parameters(const synth_shape *shape);

/* Writes config.json, vocab.txt, tokenizer_config.json, special_tokens_map.json and
 * model.safetensors into dir (made if absent); config.json comes last, so that an interrupted run
 * leaves no model. type: F32, F16 or BF16. On failure what was written is removed. */
crank_status synth_write(const char *dir, const synth_shape *shape, dtype type, uint64_t seed,
                         crank_error *error);

/* The i-th word of the vocabulary, 0 <= i < SYNTH_VOCAB - SYNTH_SPECIALS, into word. */
void synth_word(char word[6], int32_t i);

#endif
