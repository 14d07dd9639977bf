/* The tables of steps: a new one is a row here and a definition anywhere. */
#include "tokenizer/steps.h"

#include "tokenizer/normalize.h"
#include "tokenizer/pretokenize.h"
#include "tokenizer/words_regex_steps.h"

static const tok_normalizer *const normalizers[] = {
    &tok_normalizer_bert,          &tok_normalizer_nfc,     &tok_normalizer_nfd,
    &tok_normalizer_nfkc,          &tok_normalizer_nfkd,    &tok_normalizer_lowercase,
    &tok_normalizer_strip_accents, &tok_normalizer_strip,   &tok_normalizer_prepend,
    &tok_normalizer_charsmap,      &tok_normalizer_replace, &tok_normalizer_nmt,
};

static const tok_pretokenizer *const pretokenizers[] = {
    &tok_pretokenizer_bert,       &tok_pretokenizer_whitespace_split,
    &tok_pretokenizer_whitespace, &tok_pretokenizer_punctuation,
    &tok_pretokenizer_metaspace,  &tok_pretokenizer_char_delimiter,
    &tok_pretokenizer_byte_level, &tok_pretokenizer_split,
    &tok_pretokenizer_digits,
};

#define COUNT(table) (sizeof(table) / sizeof *(table))

const tok_normalizer *tok_normalizer_find(const char *type)
{
    for (size_t i = 0; i < COUNT(normalizers); i++)
        if (strcmp(normalizers[i]->type, type) == 0) return normalizers[i];
    return NULL;
}

const tok_normalizer *tok_normalizer_kind(uint32_t kind)
{
    for (size_t i = 0; i < COUNT(normalizers); i++)
        if (normalizers[i]->kind == kind) return normalizers[i];
    return NULL;
}

const tok_pretokenizer *tok_pretokenizer_find(const char *type)
{
    for (size_t i = 0; i < COUNT(pretokenizers); i++)
        if (strcmp(pretokenizers[i]->type, type) == 0) return pretokenizers[i];
    return NULL;
}

const tok_pretokenizer *tok_pretokenizer_kind(uint32_t kind)
{
    for (size_t i = 0; i < COUNT(pretokenizers); i++)
        if (pretokenizers[i]->kind == kind) return pretokenizers[i];
    return NULL;
}
