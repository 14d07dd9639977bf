/* Opening a checked tokenizer from an image, and what it says about itself. */
#include "tokenizer/tokenizer.h"

#include <string.h>

#include "memory.h"
#include "tokenizer/bert_fast.h"
#include "tokenizer/inside.h"
#include "tokenizer/normalize.h"
#include "tokenizer/pretokenize.h"

/* Walks the list of a section: calls back with each step's kind and payload. */
static crank_status next_in_list(tok_section s, size_t *at, uint32_t *kind, tok_section *payload,
                                 crank_error *error)
{
    uint32_t head[2];
    CRANK_CHECK(s.bytes - *at >= sizeof head, FORMAT, error, "tokenizer image: steps cut short");
    memcpy(head, s.at + *at, sizeof head);
    *at += sizeof head;
    uint64_t padded = ((uint64_t)head[1] + 7) & ~7ull;
    CRANK_CHECK(padded <= s.bytes - *at, FORMAT, error,
                "tokenizer image: a step of %u bytes lies outside its section", head[1]);
    *kind = head[0];
    payload->at = s.at + *at;
    payload->bytes = head[1];
    *at += padded;
    return CRANK_OK;
}

static crank_status list_length(tok_section s, uint32_t *count, crank_error *error)
{
    uint32_t head[2];
    CRANK_CHECK(s.bytes >= sizeof head, FORMAT, error, "tokenizer image: steps cut short");
    memcpy(head, s.at, sizeof head);
    CRANK_CHECK(head[0] <= TOK_MAX_STEPS && head[1] == 0, FORMAT, error,
                "tokenizer image: %u steps, limit %d", head[0], TOK_MAX_STEPS);
    *count = head[0];
    return CRANK_OK;
}

static crank_status check_payload(crank_status (*check)(tok_section, crank_error *),
                                  tok_section payload, const char *type, crank_error *error)
{
    if (check != NULL) return check(payload, error);
    CRANK_CHECK(payload.bytes == 0, FORMAT, error, "tokenizer image: %s with %zu bytes of data",
                type, payload.bytes);
    return CRANK_OK;
}

crank_status normalizers_check(tok_section s, normalizer_step *out, int *n, crank_error *error)
{
    uint32_t count = 0, kind = 0;
    CRANK_TRY(list_length(s, &count, error));
    size_t at = 8;
    for (uint32_t i = 0; i < count; i++) {
        CRANK_TRY(next_in_list(s, &at, &kind, &out[i].payload, error));
        out[i].row = tok_normalizer_kind(kind);
        CRANK_CHECK(out[i].row != NULL, UNSUPPORTED, error,
                    "tokenizer image: normalizer step %u is not one that this build knows", kind);
        CRANK_TRY(check_payload(out[i].row->check, out[i].payload, out[i].row->type, error));
    }
    *n = (int)count;
    return CRANK_OK;
}

crank_status pretokenizers_check(tok_section s, pretokenizer_step *out, int *n, crank_error *error)
{
    uint32_t count = 0, kind = 0;
    CRANK_TRY(list_length(s, &count, error));
    size_t at = 8;
    for (uint32_t i = 0; i < count; i++) {
        CRANK_TRY(next_in_list(s, &at, &kind, &out[i].payload, error));
        out[i].row = tok_pretokenizer_kind(kind);
        CRANK_CHECK(out[i].row != NULL, UNSUPPORTED, error,
                    "tokenizer image: pre_tokenizer step %u is not one that this build knows",
                    kind);
        CRANK_TRY(check_payload(out[i].row->check, out[i].payload, out[i].row->type, error));
    }
    *n = (int)count;
    return CRANK_OK;
}

static crank_status check_config(tokenizer *tok, crank_error *error)
{
    tok_section s = tok->image.section[TOK_SECTION_CONFIG];
    tok_config *c = &tok->config;
    CRANK_CHECK(s.bytes == sizeof *c, FORMAT, error, "tokenizer image: config of %zu bytes",
                s.bytes);
    memcpy(c, s.at, sizeof *c);
    int32_t n = vocab_size(&tok->image);
    const int32_t ids[] = {c->unk_id, c->pad_id, c->cls_id, c->sep_id, c->mask_id, c->eos_id};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        CRANK_CHECK(ids[i] >= -1 && ids[i] < n, FORMAT, error,
                    "tokenizer image: config names id %d of %d", ids[i], n);
    CRANK_CHECK(memchr(c->model, 0, sizeof c->model) != NULL &&
                    memchr(c->warning, 0, sizeof c->warning) != NULL && c->byte_level <= 1 &&
                    c->model_max_length >= 0,
                FORMAT, error, "tokenizer image: config is damaged");
    for (int i = 0; tok_model_at(i) != NULL; i++)
        if (strcmp(tok_model_at(i)->name, c->model) == 0) tok->model = tok_model_at(i);
    CRANK_CHECK(tok->model != NULL, UNSUPPORTED, error,
                "tokenizer image: model \"%s\" is not one that this build knows", c->model);
    tok->image.byte_level = c->byte_level != 0;
    CRANK_CHECK(!tok->image.byte_level || tok->model->takes_bytes, FORMAT, error,
                "tokenizer image: model \"%s\" takes no bytes", c->model);
    return CRANK_OK;
}

static crank_status check_all(tokenizer *tok, const void *image, size_t bytes, crank_error *error)
{
    CRANK_TRY(image_view(&tok->image, image, bytes, error));
    CRANK_TRY(vocab_check(&tok->image, error));
    CRANK_TRY(check_config(tok, error));
    int32_t n = vocab_size(&tok->image);
    CRANK_TRY(normalizers_check(tok->image.section[TOK_SECTION_NORMALIZER], tok->normalizers,
                                &tok->n_normalizers, error));
    CRANK_TRY(pretokenizers_check(tok->image.section[TOK_SECTION_PRETOKENIZER], tok->pretokenizers,
                                  &tok->n_pretokenizers, error));
    for (int i = 0; i < tok->n_pretokenizers; i++)
        if (tok->pretokenizers[i].row == &tok_pretokenizer_metaspace)
            tok->asks_start |= tok_metaspace_asks_start(tok->pretokenizers[i].payload);
    CRANK_TRY(added_check(&tok->image, n, &tok->added, error));
    CRANK_TRY(template_check(&tok->image, n, &tok->around, error));
    CRANK_TRY(tok->model->check(&tok->image, error));
    const tok_config *c = &tok->config;
    tok->info = (tok_info){.model = tok->model->name,
                           .source = "converted file",
                           .vocab_size = n,
                           .unk_id = c->unk_id,
                           .pad_id = c->pad_id,
                           .cls_id = c->cls_id,
                           .sep_id = c->sep_id,
                           .mask_id = c->mask_id,
                           .eos_id = c->eos_id,
                           .n_added_single = (int32_t)tok->around.n_single - 1,
                           .n_added_pair = (int32_t)tok->around.n_pair - 2,
                           .model_max_length = c->model_max_length,
                           .warning = c->warning[0] != 0 ? c->warning : NULL};
    return CRANK_OK;
}

/* The BERT pipeline, and nothing else, runs fused. */
static crank_status open_bert(tokenizer *tok, crank_error *error)
{
    if (tok->n_normalizers != 1 || tok->normalizers[0].row != &tok_normalizer_bert ||
        tok->n_pretokenizers != 1 || tok->pretokenizers[0].row != &tok_pretokenizer_bert ||
        tok->model != &tok_model_wordpiece || tok->added.normalized.n != 0)
        return CRANK_OK;
    uint32_t flags;
    memcpy(&flags, tok->normalizers[0].payload.at, sizeof flags);
    tok->bert = mem_alloc(sizeof *tok->bert);
    CRANK_CHECK(tok->bert != NULL, OUT_OF_MEMORY, error, "tokenizer: out of memory");
    bert_fast_open(tok->bert, &tok->image, flags);
    return CRANK_OK;
}

crank_status tokenizer_from_image(tokenizer **out, const void *image, size_t bytes,
                                  crank_error *error)
{
    *out = NULL;
    tokenizer *tok = mem_zero(1, sizeof *tok);
    CRANK_CHECK(tok != NULL, OUT_OF_MEMORY, error, "tokenizer: out of memory");
    crank_status status = check_all(tok, image, bytes, error);
    if (status == CRANK_OK) status = open_bert(tok, error);
    if (status != CRANK_OK) {
        mem_free(tok);
        return status;
    }
    *out = tok;
    return CRANK_OK;
}

const void *tokenizer_image(const tokenizer *tok, size_t *bytes)
{
    *bytes = tok->image.bytes;
    return tok->image.base;
}

void tokenizer_close(tokenizer *tok)
{
    if (tok == NULL) return;
    mem_free_aligned(tok->owned);
    mem_free(tok->bert);
    mem_free(tok);
}

const tok_info *tokenizer_info(const tokenizer *tok)
{
    return &tok->info;
}

int32_t tokenizer_token_id(const tokenizer *tok, const char *token, size_t bytes)
{
    return vocab_id(&tok->image, token, bytes);
}

const char *tokenizer_token_text(const tokenizer *tok, int32_t id, size_t *bytes)
{
    return vocab_text(&tok->image, id, bytes);
}
