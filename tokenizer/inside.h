/* struct tokenizer: an image and what was learnt by checking it. Private to tokenizer/. */
#ifndef CRANK_TOKENIZER_INSIDE_H
#define CRANK_TOKENIZER_INSIDE_H

#include "tokenizer/added.h"
#include "tokenizer/model.h"
#include "tokenizer/steps.h"
#include "tokenizer/template.h"

/* Section CONFIG. */
typedef struct tok_config {
    int64_t model_max_length;
    int32_t unk_id, pad_id, cls_id, sep_id, mask_id, eos_id;
    char model[16]; /* tok_model.name, NUL-terminated */
    uint32_t byte_level;
    uint32_t zero;
    char warning[256]; /* NUL-terminated, empty: none */
} tok_config;

/* What the files beside tokenizer.json say. Roles in the order of tok_config's ids. */
enum { TOK_UNK, TOK_PAD, TOK_CLS, TOK_SEP, TOK_MASK, TOK_EOS, TOK_ROLES };

typedef struct tok_settings {
    const char *role[TOK_ROLES]; /* a token's text, NULL: not named */
    size_t role_bytes[TOK_ROLES];
    int64_t model_max_length;
    const char *warning; /* NULL: none */
} tok_settings;

/* One step of a checked image. */
typedef struct normalizer_step {
    const tok_normalizer *row;
    tok_section payload;
} normalizer_step;

typedef struct pretokenizer_step {
    const tok_pretokenizer *row;
    tok_section payload;
} pretokenizer_step;

struct tokenizer {
    tok_image image;
    void *owned; /* the image's bytes when this tokenizer compiled them */
    tok_info info;
    tok_config config;
    const tok_model *model;
    normalizer_step normalizers[TOK_MAX_STEPS];
    pretokenizer_step pretokenizers[TOK_MAX_STEPS];
    int n_normalizers, n_pretokenizers;
    added_tokens added;
    tok_template around;
    bool asks_start;        /* a step depends on where in the original text a word begins */
    struct bert_fast *bert; /* the fused path, NULL when the pipeline is another one */
};

/* Runs the steps over *text (one of two), the other being *spare; they change places as needed and
 * *text holds the result. Look at (*text)->failed. */
void normalizers_run(const normalizer_step *steps, int n, tok_text **text, tok_text **spare);

/* Reads the list of steps of a section; kinds unknown to this build are UNSUPPORTED. */
crank_status normalizers_check(tok_section s, normalizer_step *out, int *n, crank_error *error);
crank_status pretokenizers_check(tok_section s, pretokenizer_step *out, int *n, crank_error *error);

/* Compiles a parsed tokenizer.json (see compile.c) into an image; *out: free with
 * mem_free_aligned. */
crank_status tokenizer_compile(const json_t *root, const tok_settings *settings, void **out,
                               size_t *bytes, crank_error *error);

#endif
