/* Post-processors: TemplateProcessing, BertProcessing, RobertaProcessing, ByteLevel (no effect on
 * ids), and a Sequence of them with at most one that adds tokens. */
#include "tokenizer/template.h"

#include <string.h>

#include "tokenizer/json.h"

typedef struct items {
    tok_item at[2 * TOK_MAX_TEMPLATE];
    uint32_t n[2]; /* of single, of pair */
} items;

static crank_status put(items *t, int which, tok_item_kind kind, int64_t id, int64_t type,
                        const vocab_builder *v, crank_error *error)
{
    CRANK_CHECK(t->n[which] < TOK_MAX_TEMPLATE, LIMIT, error,
                "post_processor: a template of more than %d items", TOK_MAX_TEMPLATE);
    CRANK_CHECK(type >= 0 && type <= 255, FORMAT, error, "post_processor: type_id %lld",
                (long long)type);
    size_t bytes;
    CRANK_CHECK(kind != TOK_ITEM_TOKEN || (id >= 0 && id <= TOK_MAX_ID &&
                                           vocab_builder_text(v, (int32_t)id, &bytes) != NULL),
                FORMAT, error, "post_processor: id %lld is not in the vocabulary", (long long)id);
    t->at[which * TOK_MAX_TEMPLATE + t->n[which]++] =
        (tok_item){(uint32_t)kind, kind == TOK_ITEM_TOKEN ? (int32_t)id : -1, (int32_t)type};
    return CRANK_OK;
}

static crank_status template_token(const json_t *specials, const json_t *token, int which, items *t,
                                   const vocab_builder *v, crank_error *error)
{
    const char *name;
    size_t bytes;
    int64_t type;
    const json_t *entry, *ids;
    CRANK_TRY(tok_json_string(token, "post_processor.SpecialToken", "id", &name, &bytes, error));
    CRANK_CHECK(name != NULL, FORMAT, error, "post_processor.SpecialToken.id: missing");
    CRANK_TRY(tok_json_int(token, "post_processor.SpecialToken", "type_id", 0, &type, error));
    entry = json_object_get(specials, name);
    CRANK_CHECK(json_is_object(entry), FORMAT, error,
                "post_processor.special_tokens: \"%.60s\" is missing", name);
    CRANK_TRY(tok_json_array(entry, "post_processor.special_tokens", "ids", true, &ids, error));
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);
        CRANK_CHECK(json_is_integer(id), FORMAT, error,
                    "post_processor.special_tokens.\"%.60s\".ids: expected integers", name);
        CRANK_TRY(put(t, which, TOK_ITEM_TOKEN, json_integer_value(id), type, v, error));
    }
    return CRANK_OK;
}

static crank_status template_processing(const json_t *p, items *t, const vocab_builder *v,
                                        crank_error *error)
{
    static const char *const keys[2] = {"single", "pair"};
    const json_t *specials;
    CRANK_TRY(tok_json_object(p, "post_processor", "special_tokens", false, &specials, error));
    for (int which = 0; which < 2; which++) {
        const json_t *list;
        CRANK_TRY(tok_json_array(p, "post_processor", keys[which], true, &list, error));
        for (size_t i = 0; i < json_array_size(list); i++) {
            const json_t *item = json_array_get(list, i);
            const json_t *token = json_object_get(item, "SpecialToken");
            const json_t *sequence = json_object_get(item, "Sequence");
            if (token != NULL) {
                CRANK_TRY(template_token(specials, token, which, t, v, error));
                continue;
            }
            const char *name;
            size_t bytes;
            int64_t type;
            CRANK_CHECK(sequence != NULL, FORMAT, error,
                        "post_processor.%s[%zu]: neither Sequence nor SpecialToken", keys[which],
                        i);
            CRANK_TRY(
                tok_json_string(sequence, "post_processor.Sequence", "id", &name, &bytes, error));
            CRANK_TRY(
                tok_json_int(sequence, "post_processor.Sequence", "type_id", 0, &type, error));
            CRANK_CHECK(name != NULL && (strcmp(name, "A") == 0 || strcmp(name, "B") == 0), FORMAT,
                        error, "post_processor.%s[%zu]: Sequence is neither A nor B", keys[which],
                        i);
            CRANK_TRY(put(t, which, name[0] == 'A' ? TOK_ITEM_A : TOK_ITEM_B, 0, type, v, error));
        }
    }
    return CRANK_OK;
}

/* "sep": ["[SEP]", 102]. The id is the file's; the vocabulary must have it. */
static crank_status token_pair(const json_t *p, const char *key, int64_t *id, crank_error *error)
{
    const json_t *list;
    CRANK_TRY(tok_json_array(p, "post_processor", key, true, &list, error));
    const json_t *number = json_array_get(list, 1);
    CRANK_CHECK(json_array_size(list) == 2 && json_is_integer(number), FORMAT, error,
                "post_processor.%s: expected [token, id]", key);
    *id = json_integer_value(number);
    return CRANK_OK;
}

/* BERT: [CLS] A [SEP] and [CLS] A [SEP] B [SEP], B of type 1. RoBERTa: <s> A </s> and
 * <s> A </s> </s> B </s>, all of type 0. */
static crank_status cls_sep_processing(const json_t *p, bool roberta, items *t,
                                       const vocab_builder *v, crank_error *error)
{
    int64_t cls, sep;
    CRANK_TRY(token_pair(p, "cls", &cls, error));
    CRANK_TRY(token_pair(p, "sep", &sep, error));
    for (int which = 0; which < 2; which++) {
        CRANK_TRY(put(t, which, TOK_ITEM_TOKEN, cls, 0, v, error));
        CRANK_TRY(put(t, which, TOK_ITEM_A, 0, 0, v, error));
        CRANK_TRY(put(t, which, TOK_ITEM_TOKEN, sep, 0, v, error));
    }
    if (roberta) CRANK_TRY(put(t, 1, TOK_ITEM_TOKEN, sep, 0, v, error));
    CRANK_TRY(put(t, 1, TOK_ITEM_B, 0, roberta ? 0 : 1, v, error));
    return put(t, 1, TOK_ITEM_TOKEN, sep, roberta ? 0 : 1, v, error);
}

static crank_status one_processor(const json_t *p, items *t, const vocab_builder *v,
                                  crank_error *error)
{
    const char *type;
    size_t bytes;
    CRANK_TRY(tok_json_string(p, "post_processor", "type", &type, &bytes, error));
    CRANK_CHECK(type != NULL, FORMAT, error, "post_processor.type: missing");
    if (strcmp(type, "ByteLevel") == 0) return CRANK_OK;
    CRANK_CHECK(t->n[0] == 0, UNSUPPORTED, error,
                "post_processor: a Sequence with two processors that add tokens");
    if (strcmp(type, "TemplateProcessing") == 0) return template_processing(p, t, v, error);
    if (strcmp(type, "BertProcessing") == 0) return cls_sep_processing(p, false, t, v, error);
    if (strcmp(type, "RobertaProcessing") == 0) return cls_sep_processing(p, true, t, v, error);
    return status_fail(error, CRANK_UNSUPPORTED,
                       "post_processor: \"%.60s\" is not one that this build knows", type);
}

static crank_status occurs_once(const tok_item *item, uint32_t n, bool pair, crank_error *error)
{
    int a = 0, b = 0;
    for (uint32_t i = 0; i < n; i++) {
        a += item[i].kind == TOK_ITEM_A;
        b += item[i].kind == TOK_ITEM_B;
    }
    CRANK_CHECK(a == 1 && b == pair, FORMAT, error, "post_processor: the %s template must hold %s",
                pair ? "pair" : "single", pair ? "A and B once each" : "A once and no B");
    return CRANK_OK;
}

crank_status template_compile(const json_t *post_processor, image_builder *b, crank_error *error)
{
    items t;
    memset(&t, 0, sizeof t);
    const vocab_builder *v = b->vocabulary;
    if (post_processor != NULL && !json_is_null(post_processor)) {
        const char *type;
        size_t bytes;
        CRANK_TRY(tok_json_string(post_processor, "post_processor", "type", &type, &bytes, error));
        if (type != NULL && strcmp(type, "Sequence") == 0) {
            const json_t *list;
            CRANK_TRY(
                tok_json_array(post_processor, "post_processor", "processors", true, &list, error));
            for (size_t i = 0; i < json_array_size(list); i++)
                CRANK_TRY(one_processor(json_array_get(list, i), &t, v, error));
        } else {
            CRANK_TRY(one_processor(post_processor, &t, v, error));
        }
    }
    if (t.n[0] == 0 && t.n[1] == 0) {
        CRANK_TRY(put(&t, 0, TOK_ITEM_A, 0, 0, v, error));
        CRANK_TRY(put(&t, 1, TOK_ITEM_A, 0, 0, v, error));
        CRANK_TRY(put(&t, 1, TOK_ITEM_B, 0, 1, v, error));
    }
    CRANK_TRY(occurs_once(t.at, t.n[0], false, error));
    CRANK_TRY(occurs_once(t.at + TOK_MAX_TEMPLATE, t.n[1], true, error));
    CRANK_TRY(image_open_section(b, TOK_SECTION_TEMPLATE, error));
    image_put(b, t.n, sizeof t.n);
    image_put(b, t.at, t.n[0] * sizeof *t.at);
    image_put(b, t.at + TOK_MAX_TEMPLATE, t.n[1] * sizeof *t.at);
    return image_close_section(b, error);
}

crank_status template_check(const tok_image *image, int32_t n_ids, tok_template *out,
                            crank_error *error)
{
    tok_section s = image->section[TOK_SECTION_TEMPLATE];
    uint32_t n[2];
    CRANK_CHECK(s.bytes >= sizeof n, FORMAT, error, "tokenizer image: template cut short");
    memcpy(n, s.at, sizeof n);
    CRANK_CHECK(n[0] <= TOK_MAX_TEMPLATE && n[1] <= TOK_MAX_TEMPLATE &&
                    s.bytes == sizeof n + (n[0] + n[1]) * sizeof(tok_item),
                FORMAT, error, "tokenizer image: template of %zu bytes", s.bytes);
    out->single = (const tok_item *)(s.at + sizeof n);
    out->pair = out->single + n[0];
    out->n_single = n[0];
    out->n_pair = n[1];
    for (uint32_t i = 0; i < n[0] + n[1]; i++) {
        const tok_item *item = &out->single[i];
        CRANK_CHECK(item->kind <= TOK_ITEM_B && item->type >= 0 && item->type <= 255 &&
                        (item->kind != TOK_ITEM_TOKEN || (item->id >= 0 && item->id < n_ids)),
                    FORMAT, error, "tokenizer image: template item %u is damaged", i);
    }
    CRANK_TRY(occurs_once(out->single, n[0], false, error));
    return occurs_once(out->pair, n[1], true, error);
}
