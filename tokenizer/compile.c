/* tokenizer.json, parsed, becomes an image: steps flattened into lists, the model's tables, added
 * tokens (the normalized ones pass through the compiled normaliser), template. The truncation and
 * padding blocks are run-time state of whoever wrote the file and are not read. */
#include <stdio.h>
#include <string.h>

#include "memory.h"
#include "tokenizer/inside.h"
#include "tokenizer/json.h"
#include "tokenizer/scratch.h"

enum { MAX_NESTING = 16, MAX_ADDED = 1 << 20 };

/* ---- lists of steps
 * ------------------------------------------------------------------------------ */

/* Walks a step or a Sequence of steps in order, without recursion. */
typedef struct step_walk {
    const json_t *list[MAX_NESTING];
    size_t next[MAX_NESTING];
    int depth;
    const json_t *single; /* the root when it is no Sequence */
    const char *where, *list_key;
} step_walk;

static crank_status step_type(const json_t *step, const char *where, const char **type,
                              crank_error *error)
{
    size_t bytes;
    CRANK_CHECK(json_is_object(step), FORMAT, error, "%s: expected an object", where);
    CRANK_TRY(tok_json_string(step, where, "type", type, &bytes, error));
    CRANK_CHECK(*type != NULL, FORMAT, error, "%s.type: missing", where);
    return CRANK_OK;
}

/* Sets *step to the next one that is no Sequence, NULL at the end. */
static crank_status next_step(step_walk *w, const json_t **step, const char **type,
                              crank_error *error)
{
    for (;;) {
        const json_t *at;
        if (w->single != NULL) {
            at = w->single;
            w->single = NULL;
        } else {
            while (w->depth > 0 && w->next[w->depth - 1] == json_array_size(w->list[w->depth - 1]))
                w->depth--;
            if (w->depth == 0) {
                *step = NULL;
                return CRANK_OK;
            }
            at = json_array_get(w->list[w->depth - 1], w->next[w->depth - 1]++);
        }
        CRANK_TRY(step_type(at, w->where, type, error));
        if (strcmp(*type, "Sequence") != 0) {
            *step = at;
            return CRANK_OK;
        }
        CRANK_CHECK(w->depth < MAX_NESTING, LIMIT, error, "%s: Sequences nested more than %d deep",
                    w->where, MAX_NESTING);
        CRANK_TRY(tok_json_array(at, w->where, w->list_key, true, &w->list[w->depth], error));
        w->next[w->depth++] = 0;
    }
}

/* The head of a step: its kind; its payload's size is patched in afterwards. */
static size_t begin_step(image_builder *b, uint32_t kind)
{
    size_t head = image_put_u32(b, kind);
    image_put_u32(b, 0);
    return head;
}

static crank_status end_step(image_builder *b, size_t head, crank_error *error)
{
    size_t bytes = image_put(b, NULL, 0) - head - 8;
    CRANK_CHECK(bytes <= UINT32_MAX, LIMIT, error, "a step of %zu bytes", bytes);
    uint32_t *patch = image_at(b, head);
    if (patch != NULL) patch[1] = (uint32_t)bytes;
    image_align(b, 8);
    return CRANK_OK;
}

static crank_status begin_list(image_builder *b, tok_section_kind kind, crank_error *error)
{
    CRANK_TRY(image_open_section(b, kind, error));
    image_put(b, NULL, 8);
    return CRANK_OK;
}

static crank_status end_list(image_builder *b, uint32_t count, crank_error *error)
{
    uint32_t *patch = image_at(b, 0);
    if (patch != NULL) patch[0] = count;
    return image_close_section(b, error);
}

static crank_status compile_normalizers(const json_t *root, image_builder *b, crank_error *error)
{
    const json_t *step;
    const char *type;
    uint32_t count = 0;
    step_walk w = {.where = "normalizer", .list_key = "normalizers"};
    CRANK_TRY(tok_json_object(root, "tokenizer.json", "normalizer", false, &w.single, error));
    CRANK_TRY(begin_list(b, TOK_SECTION_NORMALIZER, error));
    for (;;) {
        CRANK_TRY(next_step(&w, &step, &type, error));
        if (step == NULL) break;
        const tok_normalizer *row = tok_normalizer_find(type);
        CRANK_CHECK(row != NULL, UNSUPPORTED, error,
                    "normalizer: \"%.60s\" is not one that this build knows", type);
        CRANK_CHECK(count++ < TOK_MAX_STEPS, LIMIT, error, "normalizer: more than %d steps",
                    TOK_MAX_STEPS);
        size_t head = begin_step(b, row->kind);
        CRANK_TRY(row->compile(step, b, error));
        CRANK_TRY(end_step(b, head, error));
    }
    return end_list(b, count, error);
}

static crank_status compile_pretokenizers(const json_t *root, const tok_model *model,
                                          image_builder *b, crank_error *error)
{
    const json_t *step;
    const char *type;
    uint32_t count = 0;
    step_walk w = {.where = "pre_tokenizer", .list_key = "pretokenizers"};
    CRANK_TRY(tok_json_object(root, "tokenizer.json", "pre_tokenizer", false, &w.single, error));
    /* Does it end in ByteLevel? Only then words can stay raw bytes all the way to the model. */
    step_walk ahead = w;
    const char *last = "";
    for (;;) {
        CRANK_TRY(next_step(&ahead, &step, &type, error));
        if (step == NULL) break;
        last = type;
    }
    b->byte_level = strcmp(last, "ByteLevel") == 0 && model->takes_bytes;
    CRANK_TRY(begin_list(b, TOK_SECTION_PRETOKENIZER, error));
    for (;;) {
        CRANK_TRY(next_step(&w, &step, &type, error));
        if (step == NULL) break;
        const tok_pretokenizer *row = tok_pretokenizer_find(type);
        CRANK_CHECK(row != NULL, UNSUPPORTED, error,
                    "pre_tokenizer: \"%.60s\" is not one that this build knows", type);
        CRANK_CHECK(count++ < TOK_MAX_STEPS, LIMIT, error, "pre_tokenizer: more than %d steps",
                    TOK_MAX_STEPS);
        size_t head = begin_step(b, row->kind);
        CRANK_TRY(row->compile(step, b, error));
        CRANK_TRY(end_step(b, head, error));
    }
    return end_list(b, count, error);
}

/* ---- added tokens
 * -------------------------------------------------------------------------------- */

static crank_status read_added(const json_t *list, vocab_builder *v, added_source *tokens,
                               size_t *n_out, crank_error *error)
{
    size_t n = 0;
    const char *where = "added_tokens";
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        added_source t = {0};
        int64_t id;
        bool special, lstrip, rstrip, single_word;
        CRANK_CHECK(json_is_object(item), FORMAT, error, "%s[%zu]: expected an object", where, i);
        CRANK_TRY(tok_json_string(item, where, "content", &t.text, &t.bytes, error));
        CRANK_CHECK(t.text != NULL, FORMAT, error, "%s[%zu].content: missing", where, i);
        CRANK_TRY(tok_json_int(item, where, "id", -1, &id, error));
        CRANK_CHECK(id >= 0 && id <= TOK_MAX_ID, FORMAT, error, "%s[%zu].id: %lld is outside 0..%d",
                    where, i, (long long)id, TOK_MAX_ID);
        CRANK_CHECK(t.bytes <= ADDED_MAX_BYTES, LIMIT, error,
                    "%s[%zu].content: %zu bytes, limit %d", where, i, t.bytes, ADDED_MAX_BYTES);
        CRANK_TRY(tok_json_bool(item, where, "special", false, &special, error));
        CRANK_TRY(tok_json_bool(item, where, "normalized", !special, &t.normalized, error));
        CRANK_TRY(tok_json_bool(item, where, "lstrip", false, &lstrip, error));
        CRANK_TRY(tok_json_bool(item, where, "rstrip", false, &rstrip, error));
        CRANK_TRY(tok_json_bool(item, where, "single_word", false, &single_word, error));
        int32_t known = vocab_builder_id(v, t.text, t.bytes);
        CRANK_CHECK(known < 0 || known == id, FORMAT, error,
                    "%s[%zu]: \"%.60s\" has id %lld here and %d in the vocabulary", where, i,
                    t.text, (long long)id, known);
        CRANK_TRY(vocab_put(v, t.text, t.bytes, id, error));
        if (special) vocab_set_special(v, (int32_t)id);
        if (t.bytes == 0) continue; /* in the vocabulary, but never found in a text */
        t.id = (int32_t)id;
        t.flags = (special ? ADDED_SPECIAL : 0u) | (lstrip ? ADDED_LSTRIP : 0u) |
                  (rstrip ? ADDED_RSTRIP : 0u) | (single_word ? ADDED_SINGLE_WORD : 0u);
        tokens[n++] = t;
    }
    *n_out = n;
    return CRANK_OK;
}

/* Replaces the texts of normalized tokens by their normal forms, which *pool receives. */
static crank_status normalize_added(added_source *tokens, size_t n, image_builder *b, char **pool,
                                    crank_error *error)
{
    tok_section s = {b->bytes + b->offset[TOK_SECTION_NORMALIZER],
                     b->length[TOK_SECTION_NORMALIZER]};
    normalizer_step steps[TOK_MAX_STEPS];
    int n_steps;
    CRANK_TRY(normalizers_check(s, steps, &n_steps, error));
    if (n_steps == 0) return CRANK_OK;
    crank_status status = CRANK_OK;
    tok_text text[2] = {{0}, {0}};
    size_t used = 0, capacity = 0, kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (!tokens[i].normalized) continue;
        tok_text *in = &text[0], *spare = &text[1];
        tok_text_begin(in, false, 65536);
        tok_text_begin(spare, false, 65536);
        tok_span none = {0, 0};
        tok_text_push(in, tokens[i].text, tokens[i].bytes, none);
        normalizers_run(steps, n_steps, &in, &spare);
        CRANK_CHECK_GOTO(in->failed != CRANK_OUT_OF_MEMORY, OUT_OF_MEMORY, error,
                         "added_tokens: out of memory");
        CRANK_CHECK_GOTO(in->failed == CRANK_OK && in->n <= ADDED_MAX_BYTES, LIMIT, error,
                         "added_tokens: \"%.60s\" normalises to more than %d bytes", tokens[i].text,
                         ADDED_MAX_BYTES);
        if (capacity - used < in->n) {
            capacity = capacity * 2 + in->n + 1024;
            char *grown = mem_resize(*pool, capacity, 1);
            CRANK_CHECK_GOTO(grown != NULL, OUT_OF_MEMORY, error, "added_tokens: out of memory");
            *pool = grown;
        }
        if (in->n > 0) memcpy(*pool + used, in->bytes, in->n);
        tokens[i].bytes = in->n;
        used += in->n;
    }
    /* The pool stands still now: point into it. A token that normalises to nothing is not searched.
     */
    used = 0;
    for (size_t i = 0; i < n; i++) {
        if (tokens[i].normalized) {
            tokens[i].text = *pool + used;
            used += tokens[i].bytes;
            if (tokens[i].bytes == 0) continue;
        }
        tokens[kept++] = tokens[i];
    }
    for (size_t i = kept; i < n; i++) tokens[i].bytes = 0;
out:
    tok_text_free(&text[0]);
    tok_text_free(&text[1]);
    return status;
}

static crank_status compile_added(const json_t *root, image_builder *b, crank_error *error)
{
    const json_t *list;
    CRANK_TRY(tok_json_array(root, "tokenizer.json", "added_tokens", false, &list, error));
    size_t count = json_array_size(list), n = 0;
    CRANK_CHECK(count <= MAX_ADDED, LIMIT, error, "added_tokens: %zu, limit %d", count, MAX_ADDED);
    added_source *tokens = mem_zero(count, sizeof *tokens);
    CRANK_CHECK(tokens != NULL, OUT_OF_MEMORY, error, "added_tokens: out of memory");
    char *pool = NULL;
    crank_status status = read_added(list, b->vocabulary, tokens, &n, error);
    if (status == CRANK_OK) status = normalize_added(tokens, n, b, &pool, error);
    while (n > 0 && tokens[n - 1].bytes == 0) n--;
    if (status == CRANK_OK) status = added_write(tokens, n, b, error);
    mem_free(pool);
    mem_free(tokens);
    return status;
}

/* ---- the whole
 * ------------------------------------------------------------------------------------ */

static crank_status find_model(const json_t *root, const json_t **object, const tok_model **model,
                               crank_error *error)
{
    const char *type;
    size_t bytes;
    CRANK_TRY(tok_json_object(root, "tokenizer.json", "model", true, object, error));
    CRANK_TRY(tok_json_string(*object, "model", "type", &type, &bytes, error));
    /* Old files name no type; the fields tell. */
    if (type == NULL) {
        if (json_is_array(json_object_get(*object, "vocab")))
            type = "Unigram";
        else
            type = json_object_get(*object, "merges") != NULL ? "BPE" : "WordPiece";
    }
    *model = tok_model_find(type);
    CRANK_CHECK(*model != NULL, UNSUPPORTED, error,
                "model.type: \"%.60s\" is not one that this build knows", type);
    return CRANK_OK;
}

/* The usual spellings, for roles that no file names. */
static const char *const usual[TOK_ROLES][2] = {
    [TOK_UNK] = {"[UNK]", "<unk>"}, [TOK_PAD] = {"[PAD]", "<pad>"},    [TOK_CLS] = {"[CLS]", "<s>"},
    [TOK_SEP] = {"[SEP]", "</s>"},  [TOK_MASK] = {"[MASK]", "<mask>"}, [TOK_EOS] = {"</s>", NULL},
};

static int32_t role_id(const vocab_builder *v, const tok_settings *settings, int role)
{
    if (settings->role[role] != NULL)
        return vocab_builder_id(v, settings->role[role], settings->role_bytes[role]);
    int32_t id = -1;
    for (int i = 0; i < 2 && id < 0 && usual[role][i] != NULL; i++)
        id = vocab_builder_id(v, usual[role][i], strlen(usual[role][i]));
    return id;
}

/* The unknown token is what the model says, whatever the other files call it. */
static crank_status unk_of_model(const json_t *model, const vocab_builder *v, int32_t *out,
                                 crank_error *error)
{
    const char *text;
    size_t bytes;
    int64_t id;
    CRANK_TRY(tok_json_string(model, "model", "unk_token", &text, &bytes, error));
    CRANK_TRY(tok_json_int(model, "model", "unk_id", -1, &id, error));
    if (text != NULL && vocab_builder_id(v, text, bytes) >= 0)
        *out = vocab_builder_id(v, text, bytes);
    else if (id >= 0 && id < vocab_builder_size(v))
        *out = (int32_t)id;
    return CRANK_OK;
}

static crank_status compile_config(const json_t *model_object, const tok_model *model,
                                   const tok_settings *settings, image_builder *b,
                                   crank_error *error)
{
    const vocab_builder *v = b->vocabulary;
    tok_config config;
    memset(&config, 0, sizeof config);
    config.unk_id = role_id(v, settings, TOK_UNK);
    CRANK_TRY(unk_of_model(model_object, v, &config.unk_id, error));
    config.pad_id = role_id(v, settings, TOK_PAD);
    config.cls_id = role_id(v, settings, TOK_CLS);
    config.sep_id = role_id(v, settings, TOK_SEP);
    config.mask_id = role_id(v, settings, TOK_MASK);
    config.eos_id = role_id(v, settings, TOK_EOS);
    config.model_max_length = settings->model_max_length;
    config.byte_level = b->byte_level;
    snprintf(config.model, sizeof config.model, "%s", model->name);
    if (settings->warning != NULL)
        snprintf(config.warning, sizeof config.warning, "%s", settings->warning);
    CRANK_TRY(image_open_section(b, TOK_SECTION_CONFIG, error));
    image_put(b, &config, sizeof config);
    return image_close_section(b, error);
}

crank_status tokenizer_compile(const json_t *root, const tok_settings *settings, void **out,
                               size_t *bytes, crank_error *error)
{
    CRANK_CHECK(json_is_object(root), FORMAT, error, "expected a JSON object");
    const json_t *model_object, *post;
    const tok_model *model;
    CRANK_TRY(find_model(root, &model_object, &model, error));
    CRANK_TRY(tok_json_object(root, "tokenizer.json", "post_processor", false, &post, error));

    image_builder b;
    memset(&b, 0, sizeof b);
    vocab_builder *vocabulary = NULL;
    crank_status status = CRANK_OK;
    CRANK_TRY_GOTO(vocab_builder_open(&vocabulary, error));
    CRANK_TRY_GOTO(image_builder_open(&b, error));
    b.vocabulary = vocabulary;
    CRANK_TRY_GOTO(compile_normalizers(root, &b, error));
    CRANK_TRY_GOTO(compile_pretokenizers(root, model, &b, error));
    CRANK_TRY_GOTO(model->compile(model_object, &b, error));
    CRANK_TRY_GOTO(compile_added(root, &b, error));
    CRANK_TRY_GOTO(template_compile(post, &b, error));
    CRANK_TRY_GOTO(compile_config(model_object, model, settings, &b, error));
    CRANK_TRY_GOTO(vocab_write(vocabulary, &b, error));
    CRANK_TRY_GOTO(image_finish(&b, out, bytes, error));
out:
    image_builder_close(&b);
    vocab_builder_close(vocabulary);
    return status;
}
