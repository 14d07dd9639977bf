/* What Hugging Face's normalisers and pre-tokenisers know about a code point: classes, lowercase,
 * decompositions, combining classes, composition. Static const tables in unicode_tables.c, written
 * by make_unicode_tables.py; no locale, no library (three Unicode versions at once: see
 * make_unicode_data.py).
 *
 * Two stages: block of 128 code points -> row of 128 record numbers -> record. Every function takes
 * any uint32_t; values above U+10FFFF have no properties. */
#ifndef CRANK_TOKENIZER_UNICODE_H
#define CRANK_TOKENIZER_UNICODE_H

#include <stdint.h>

enum {
    UNI_DROP = 1 << 0,        /* BERT clean_text removes it */
    UNI_CLEAN_SPACE = 1 << 1, /* BERT clean_text turns it into U+0020 */
    UNI_CJK = 1 << 2,         /* BERT puts spaces around it */
    UNI_MN = 1 << 3,          /* BERT strip_accents removes it */
    UNI_PUNCT = 1 << 4,       /* a word of its own for BERT and Punctuation */
    UNI_SPACE = 1 << 5,       /* White_Space, also \s */
    UNI_MARK = 1 << 6,        /* StripAccents removes it */
    UNI_WORD = 1 << 7,        /* \w */
    UNI_NFD = 1 << 8,         /* has a canonical decomposition, Hangul included */
    UNI_NFKD = 1 << 9,        /* its compatibility decomposition is another one */
    UNI_LOWER = 1 << 10,      /* is not its own lowercase */
    UNI_SECOND = 1 << 11,     /* may join the character before it in NFC */
    UNI_NUMERIC = 1 << 12,    /* a digit for Digits */
};

typedef struct uni_record {
    uint16_t flags;
    uint8_t ccc;   /* canonical combining class */
    uint8_t lower; /* number in uni_lower_delta */
} uni_record;

extern const uint8_t uni_stage1[0x110000 >> 7];
extern const uint8_t uni_stage2[][128];
extern const uni_record uni_records[];
extern const int32_t uni_lower_delta[];

static inline const uni_record *uni_lookup(uint32_t c)
{
    return &uni_records[c < 0x110000 ? uni_stage2[uni_stage1[c >> 7]][c & 127] : 0];
}

static inline unsigned uni_flags(uint32_t c)
{
    return uni_lookup(c)->flags;
}

/* Lowercase without context; out: [2]; returns 1, or 2 for U+0130 alone. */
static inline int uni_lower(uint32_t c, const uni_record *r, uint32_t *out)
{
    out[0] = c + (uint32_t)uni_lower_delta[r->lower];
    if (c != 0x130) return 1;
    out[1] = 0x307;
    return 2;
}

/* The full decomposition, in canonical order by itself; out: [UNI_MAX_DECOMPOSITION]; returns its
 * length, 1 (c itself) when there is none. */
#define UNI_MAX_DECOMPOSITION 18
int uni_nfd(uint32_t c, uint32_t *out);
int uni_nfkd(uint32_t c, uint32_t *out);

/* The primary composite of two characters, Hangul included; 0: there is none. */
uint32_t uni_compose(uint32_t first, uint32_t second);

#endif
