/* See unigram_compile.h. */
#include "tokenizer/unigram_compile.h"

#include <math.h>
#include <string.h>

#include "memory.h"
#include "tokenizer/json.h"
#include "tokenizer/unigram_trie.h"
#include "tokenizer/vocab.h"

#define UNKNOWN_PENALTY 10.0

typedef struct compiler {
    unigram_header header;
    double *scores;
    unigram_unit *units;
    unigram_key *keys;
    size_t n_keys;
    unigram_node *nodes; /* room for the best cut of the longest piece */
} compiler;

static crank_status read_vocabulary(compiler *c, const json_t *model, image_builder *b,
                                    crank_error *error)
{
    const json_t *vocab;
    CRANK_TRY(tok_json_array(model, "model", "vocab", true, &vocab, error));
    size_t n = json_array_size(vocab);
    CRANK_CHECK(n > 0, FORMAT, error, "model.vocab is empty");
    CRANK_CHECK(n <= TOK_MAX_VOCABULARY, LIMIT, error, "model.vocab: %zu pieces, %d at most", n,
                TOK_MAX_VOCABULARY);
    c->header.n_ids = (uint32_t)n;
    c->scores = mem_array(n, sizeof *c->scores);
    c->keys = mem_array(n, sizeof *c->keys);
    CRANK_CHECK(c->scores != NULL && c->keys != NULL, OUT_OF_MEMORY, error,
                "model.vocab: no memory for %zu pieces", n);
    double lowest = INFINITY;
    for (size_t i = 0; i < n; i++) {
        const json_t *entry = json_array_get(vocab, i);
        const json_t *piece = json_array_get(entry, 0), *score = json_array_get(entry, 1);
        CRANK_CHECK(json_array_size(entry) == 2 && json_is_string(piece) && json_is_number(score),
                    FORMAT, error, "model.vocab[%zu]: expected [\"piece\", score]", i);
        c->scores[i] = json_number_value(score);
        CRANK_CHECK(isfinite(c->scores[i]), FORMAT, error,
                    "model.vocab[%zu]: the score is not finite", i);
        if (c->scores[i] < lowest) lowest = c->scores[i];
        crank_status status = vocab_put(b->vocabulary, json_string_value(piece),
                                        json_string_length(piece), (int64_t)i, error);
        if (status != CRANK_OK) return status_prefix(error, status, "model.vocab[%zu]", i);
    }
    c->header.unk_score = lowest - UNKNOWN_PENALTY;
    CRANK_CHECK(isfinite(c->header.unk_score), FORMAT, error, "model.vocab: the lowest score is %g",
                lowest);

    /* Only now is it known which places the pieces keep. */
    for (size_t i = 0; i < n; i++) {
        const json_t *piece = json_array_get(json_array_get(vocab, i), 0);
        size_t bytes = json_string_length(piece);
        if (bytes == 0 ||
            vocab_builder_id(b->vocabulary, json_string_value(piece), bytes) != (int)i)
            continue;
        unigram_key key = {(const uint8_t *)json_string_value(piece), (uint32_t)bytes, (uint32_t)i};
        c->keys[c->n_keys++] = key;
        if (bytes > c->header.longest) c->header.longest = (uint32_t)bytes;
    }
    return CRANK_OK;
}

static crank_status read_options(compiler *c, const json_t *model, image_builder *b,
                                 crank_error *error)
{
    int64_t unk;
    bool fallback;
    CRANK_TRY(tok_json_int(model, "model", "unk_id", -1, &unk, error));
    CRANK_CHECK(unk != -1, UNSUPPORTED, error,
                "model.unk_id is missing: unknown characters would have no token");
    CRANK_CHECK(unk >= 0 && unk < c->header.n_ids, FORMAT, error,
                "model.unk_id is %lld, the vocabulary has %u pieces", (long long)unk,
                c->header.n_ids);
    c->header.unk = (uint32_t)unk;
    CRANK_TRY(tok_json_bool(model, "model", "byte_fallback", false, &fallback, error));
    c->header.byte_fallback = fallback;
    for (int i = 0; i < 256; i++) {
        char name[8] = "<0x00>";
        name[3] = "0123456789ABCDEF"[i >> 4];
        name[4] = "0123456789ABCDEF"[i & 15];
        int32_t id = vocab_builder_id(b->vocabulary, name, 6);
        c->header.byte_id[i] = id >= 0 ? (uint32_t)id : UNIGRAM_NONE;
    }
    return CRANK_OK;
}

/* Marks the pieces whose best cut is the piece itself. The unknown token stays unmarked: a word
 * that spells it is joined with nothing, but goes the long way like any unknown. */
static crank_status mark_whole(compiler *c, crank_error *error)
{
    unigram_view v = {&c->header, c->scores, c->units};
    unigram_hidden nothing = {NULL, NULL};
    c->nodes = mem_array((size_t)c->header.longest + 1, sizeof *c->nodes);
    CRANK_CHECK(c->nodes != NULL, OUT_OF_MEMORY, error, "model.vocab: no memory");
    for (size_t i = 0; i < c->n_keys; i++) {
        const unigram_key *key = &c->keys[i];
        unigram_best_cut(&v, key->text, key->bytes, nothing, c->nodes);
        const unigram_node *last = &c->nodes[key->bytes];
        if (last->start != 0 || last->id != key->id || key->id == c->header.unk) continue;
        uint32_t base = c->header.root;
        unigram_unit *unit = NULL;
        for (uint32_t k = 0; k < key->bytes; k++) {
            unit = &c->units[base ^ key->text[k]];
            base = unit->link >> 8;
        }
        unit->piece |= UNIGRAM_WHOLE;
    }
    return CRANK_OK;
}

static crank_status compile(compiler *c, const json_t *model, image_builder *b, crank_error *error)
{
    CRANK_TRY(read_vocabulary(c, model, b, error));
    CRANK_TRY(read_options(c, model, b, error));
    CRANK_TRY(unigram_trie_build(c->keys, c->n_keys, &c->units, &c->header.n_units, &c->header.root,
                                 error));
    CRANK_TRY(mark_whole(c, error));
    CRANK_TRY(image_open_section(b, TOK_SECTION_MODEL, error));
    image_put(b, &c->header, sizeof c->header);
    image_put(b, c->scores, c->header.n_ids * sizeof *c->scores);
    image_put(b, c->units, c->header.n_units * sizeof *c->units);
    return image_close_section(b, error);
}

crank_status unigram_compile(const json_t *model, image_builder *b, crank_error *error)
{
    compiler c = {.header = {0}};
    crank_status status = compile(&c, model, b, error);
    mem_free(c.scores);
    mem_free(c.units);
    mem_free(c.keys);
    mem_free(c.nodes);
    return status;
}
