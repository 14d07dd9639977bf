/* GPT-2's word expression as a hand-written scanner. Alternatives in the order of the expression,
 * all runs greedy; \s+(?!\S) followed by \s+ means: a run of white space gives up its last
 * character to what follows, unless it is one character long or ends the text. */
#include "tokenizer/words_regex.h"

#include "tokenizer/words_regex_tables.h"
#include "utf8.h"

unsigned words_value_of(uint32_t c)
{
    return c < 0x110000 ? words_pages[words_page[c >> 8]][c & 255] : (unsigned)WORDS_CN;
}

enum words_class words_class_of(uint32_t c)
{
    static const uint8_t classes[WORDS_IN_WORD] = {
        [WORDS_LU] = WORDS_LETTER, [WORDS_LL] = WORDS_LETTER, [WORDS_LT] = WORDS_LETTER,
        [WORDS_LM] = WORDS_LETTER, [WORDS_LO] = WORDS_LETTER, [WORDS_ND] = WORDS_NUMBER,
        [WORDS_NL] = WORDS_NUMBER, [WORDS_NO] = WORDS_NUMBER, [WORDS_ZS] = WORDS_SPACE,
        [WORDS_ZL] = WORDS_SPACE,  [WORDS_ZP] = WORDS_SPACE,  [WORDS_CW] = WORDS_SPACE,
    };
    return (enum words_class)classes[words_value_of(c) & (WORDS_IN_WORD - 1)];
}

static inline enum words_class class_at(const uint8_t *text, size_t bytes, size_t *width)
{
    if (text[0] < 0x80) {
        *width = 1;
        return (enum words_class)words_ascii[text[0]];
    }
    uint32_t c;
    int n = utf8_decode(text, bytes, &c);
    *width = (size_t)(n < 0 ? -n : n);
    return words_class_of(c);
}

/* Where the run of class `wanted` that includes text[at..] ends; *last: where its last character
 * begins. */
static inline size_t run_end(const uint8_t *text, size_t bytes, size_t at, enum words_class wanted,
                             size_t *last)
{
    size_t width;
    while (at < bytes && class_at(text + at, bytes - at, &width) == wanted) {
        *last = at;
        at += width;
    }
    return at;
}

static inline size_t contraction(const uint8_t *text, size_t bytes)
{
    if (bytes < 2) return 0;
    uint8_t a = text[1], b = bytes > 2 ? text[2] : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return 3;
    return 0;
}

size_t words_gpt2_next(const uint8_t *text, size_t bytes)
{
    size_t width, last = 0;
    if (text[0] == '\'') {
        size_t n = contraction(text, bytes);
        if (n > 0) return n;
    }
    size_t at = text[0] == ' ' ? 1 : 0;
    if (at < bytes) {
        enum words_class first = class_at(text + at, bytes - at, &width);
        if (first != WORDS_SPACE) return run_end(text, bytes, at + width, first, &last);
    }
    size_t end = run_end(text, bytes, 0, WORDS_SPACE, &last);
    return end < bytes && last > 0 ? last : end;
}

size_t words_gpt2_first(const uint8_t *text, size_t bytes)
{
    size_t width, last = 0;
    enum words_class first = class_at(text, bytes, &width);
    size_t end = run_end(text, bytes, 0, first, &last);
    return first == WORDS_SPACE && end < bytes ? last : end;
}
