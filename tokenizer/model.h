/* What a tokenizer model (wordpiece, bpe, unigram) is: how one word becomes ids. A new model is one
 * file that defines one tok_model and one row in the table of model.c.
 *
 *     const tok_model tok_model_unigram = {"Unigram", "unigram", false, unigram_compile,
 *                                          unigram_check, unigram_encode_word};
 *
 * compile reads the "model" object of tokenizer.json, gives every entry to b->vocabulary
 * (vocab_put), and writes section MODEL: image_open_section(b, TOK_SECTION_MODEL), image_put...,
 * image_close_section. check verifies that section against hostile bytes in time linear in its
 * size, so that encode_word can follow it without a test; when it runs, section VOCABULARY is
 * checked already. encode_word finds its tables at the start of image->section[TOK_SECTION_MODEL].
 *
 * Words: non-empty, valid UTF-8 (invalid input has become U+FFFD long before), NUL allowed. There
 * is no bound on a word's length (Metaspace without split makes a whole text one word), so work
 * must be linear, or n log n, in bytes. A model with takes_bytes gets raw bytes of the text when
 * the pre-tokeniser ends in ByteLevel (b->byte_level while compiling, image->byte_level after): no
 * "\u0120" characters are made, and compile maps the vocabulary's byte-level characters back to
 * bytes once. Without takes_bytes it gets the byte-level characters as UTF-8, as Hugging Face
 * does. */
#ifndef CRANK_TOKENIZER_MODEL_H
#define CRANK_TOKENIZER_MODEL_H

#include <jansson.h>

#include "tokenizer/image.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/vocab.h"

typedef struct tok_model {
    const char *type; /* as tokenizer.json's model.type spells it: "WordPiece", "BPE", "Unigram" */
    const char *name; /* as tok_info.model spells it */
    bool takes_bytes;

    /* Fails: FORMAT (key and reason), UNSUPPORTED (names the field), LIMIT, OUT_OF_MEMORY. */
    crank_status (*compile)(const json_t *model, image_builder *b, crank_error *error);
    crank_status (*check)(const tok_image *image, crank_error *error);

    /* Appends the ids of one word to out. flags: tok_flags. spans: NULL, or for each id appended
     * its start and end as byte offsets into word, two numbers per id (an unknown word: 0 and
     * bytes; ids of byte fallback: each the whole unknown run that they come from).
     * max_ids: may stop once out holds more than max_ids ids (SIZE_MAX: never).
     * Fails: OUT_OF_MEMORY. */
    crank_status (*encode_word)(const tok_image *image, tok_scratch *scratch, const uint8_t *word,
                                size_t bytes, unsigned flags, size_t max_ids, tok_ids *out,
                                tok_ids *spans, crank_error *error);
} tok_model;

extern const tok_model tok_model_wordpiece, tok_model_bpe, tok_model_unigram;

/* The row with that type, or NULL. */
const tok_model *tok_model_find(const char *type);
/* Row i of the table, NULL past the end. */
const tok_model *tok_model_at(int i);

/* Working memory of encode_word: at least `bytes` bytes, 16-byte aligned, one block per slot. A
 * slot keeps its contents until it is asked for more than ever before, when they are lost; it is
 * shared by all tokenizers that use this scratch, so nothing may be expected in it at the start of
 * a call. NULL: out of memory. */
#define TOK_SCRATCH_SLOTS 4
void *tok_scratch_take(tok_scratch *scratch, int slot, size_t bytes);

/* Appends one id (and its span when spans is not NULL). */
crank_status tok_ids_push(tok_ids *out, tok_ids *spans, int32_t id, size_t start, size_t end,
                          crank_error *error);

#endif
