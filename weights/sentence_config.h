/* What sentence-transformers adds to a Hugging Face folder: the activation over the logits, the
 * list of modules, pooling, prompts, length. Read as sentence-transformers 6.2.0 reads it; older
 * styles are accepted. All of it is optional: a plain folder gives the defaults. Files:
 * config_sentence_transformers.json, modules.json, sentence_bert_config.json,
 * N_Pooling/config.json, and two places in config.json.
 *
 * The activation is the first of: activation_fn in config_sentence_transformers.json;
 * sentence_transformers.activation_fn in config.json (which ends the search where it stands there
 * as null); sbert_ce_default_activation_function in config.json; the default. A class outside torch
 * is not trusted: in the first place the search goes on, in the others it ends with the default,
 * either way with a warning. One difference: sentence-transformers opens
 * config_sentence_transformers.json only where there is a modules.json; here a model that lost that
 * list keeps its declared activation, with a warning. */
#ifndef CRANK_SENTENCE_CONFIG_H
#define CRANK_SENTENCE_CONFIG_H

#include <stdint.h>

#include "weights/config.h"

typedef enum sentence_activation {
    SENTENCE_ACTIVATION_DEFAULT, /* none named: sigmoid for one label, else identity */
    SENTENCE_ACTIVATION_IDENTITY,
    SENTENCE_ACTIVATION_SIGMOID,
    SENTENCE_ACTIVATION_OTHER, /* a torch class that crank does not have: see activation_name */
} sentence_activation;

typedef enum sentence_module_type {
    SENTENCE_TRANSFORMER,
    SENTENCE_POOLING,
    SENTENCE_DENSE,
    SENTENCE_LAYER_NORM,
    SENTENCE_NORMALIZE,
    SENTENCE_LOGIT_SCORE,
} sentence_module_type;

typedef struct sentence_module {
    sentence_module_type type;
    int gives_scores;        /* Dense: its output is named "scores": the head of a cross-encoder */
    const char *name, *path; /* path: relative to the folder, checked to be a plain one; "" = it */
} sentence_module;

typedef enum sentence_pooling {
    SENTENCE_POOL_NONE, /* no Pooling module */
    SENTENCE_POOL_CLS,
    SENTENCE_POOL_MEAN,
    SENTENCE_POOL_MAX,
    SENTENCE_POOL_MEAN_SQRT_LEN,
    SENTENCE_POOL_WEIGHTED_MEAN,
    SENTENCE_POOL_LAST,
} sentence_pooling;

#define SENTENCE_MAX_MODULES 16

typedef struct sentence_config {
    sentence_activation activation;
    const char *activation_name; /* as written, e.g. "torch.nn.modules.linear.Identity", or NULL */
    const char *activation_source; /* "config.json: sbert_ce_default_activation_function", or
                                    * "default" */
    char warning[256];             /* e.g. an activation that is not torch's was ignored; "" */

    int n_modules; /* 0: no modules.json */
    sentence_module modules[SENTENCE_MAX_MODULES];
    sentence_pooling pooling;
    int32_t pooling_width; /* word_embedding_dimension; 0: not said */
    int normalize;         /* a Normalize module ends the list */
    int without_prompt;    /* Pooling leaves the prompt's tokens out (include_prompt false) */

    int is_cross_encoder;   /* config_sentence_transformers.json: model_type "CrossEncoder" */
    int32_t max_seq_length; /* sentence_bert_config.json; 0: not said */
    int do_lower_case;      /* the same; the Transformer module lowers the text before tokenising */
    const char *default_prompt_name, *default_prompt; /* NULL: none */

    config *settings, *module_list; /* own the strings above */
} sentence_config;

/* main: the folder's parsed config.json (borrowed for the call; strings from it are copied by
 * reference: keep it open as long as *out). Fails: as config_open; MODEL (wrong types, a path out
 * of the folder), UNSUPPORTED (an unknown module type or pooling, by name). Zero or fill *out;
 * release with sentence_config_free also after a failure. */
crank_status sentence_config_read(sentence_config *out, const config_source *source,
                                  const config *main, crank_error *error);
void sentence_config_free(sentence_config *s);
/* prompts[name]; NULL when there is none. */
const char *sentence_prompt(const sentence_config *s, const char *name);

/* Copies into a converted file's metadata every small file of `source` that readers of configs use
 * (config.json, modules.json, Stanford ColBERT's artifact.metadata, ... and each module's own
 * config.json), so that a config_source of that file answers as `source` does. s: as read from
 * `source`. */
crank_status sentence_config_copy(st_writer *writer, const config_source *source,
                                  const sentence_config *s, crank_error *error);

#endif
