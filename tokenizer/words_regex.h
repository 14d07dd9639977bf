/* Words by regular expression: GPT-2's expression by hand, others by a small engine, none by a
 * library. Both do work linear in the text.
 *
 * Categories, \w, \d and \s are those of Oniguruma with Unicode 16.0, which Hugging Face
 * `tokenizers` runs. */
#ifndef CRANK_TOKENIZER_WORDS_REGEX_H
#define CRANK_TOKENIZER_WORDS_REGEX_H

#include "tokenizer/image.h"

enum words_class { WORDS_OTHER, WORDS_LETTER, WORDS_NUMBER, WORDS_SPACE };

enum words_class words_class_of(uint32_t code_point);

/* clang-format off */
/* General categories; WORDS_CW are the controls that are white space. */
enum words_category {
    WORDS_LU, WORDS_LL, WORDS_LT, WORDS_LM, WORDS_LO, WORDS_MN, WORDS_MC, WORDS_ME,
    WORDS_ND, WORDS_NL, WORDS_NO, WORDS_PC, WORDS_PD, WORDS_PS, WORDS_PE, WORDS_PI,
    WORDS_PF, WORDS_PO, WORDS_SM, WORDS_SC, WORDS_SK, WORDS_SO, WORDS_ZS, WORDS_ZL,
    WORDS_ZP, WORDS_CC, WORDS_CF, WORDS_CS, WORDS_CO, WORDS_CN, WORDS_CW,
    WORDS_IN_WORD = 32 /* added where \w has the code point */
};
/* clang-format on */

/* The category, with WORDS_IN_WORD or without: below 64. */
unsigned words_value_of(uint32_t code_point);

/* The length in bytes of the word at text under
 *     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 * (ByteLevel with use_regex). Its matches cover any text without gaps, so a loop over it cuts the
 * text into words. bytes > 0, valid UTF-8, NUL allowed; what lies before text does not matter. */
size_t words_gpt2_next(const uint8_t *text, size_t bytes);

/* The same for the text with a space put before it (add_prefix_space): how many bytes of text are
 * in the first word beside that space; may be 0. text does not begin with a space. */
size_t words_gpt2_first(const uint8_t *text, size_t bytes);

/* ---- other expressions -------------------------------------------------------------------------
 * A subset of Oniguruma's syntax: literals, escapes \n \r \t \f \v \xHH \uHHHH and escaped
 * punctuation, `.`, \s \d \w and their negations, general categories by either name (\p{Lu},
 * \p{Uppercase_Letter}, \p{^Lu}, \P{Lu}), \p{Any}, bracket classes with ranges and ^, groups ( ),
 * (?: ), (?i: ) around ASCII literals and brackets of them, alternation, ? * + {m} {m,} {,n} {m,n}
 * greedy or lazy, ?+ *+ ++ after one character, and one-character look-ahead (?=c) (?!c). Leftmost match, first alternative
 * first, as a backtracking engine finds it. Anything else, an expression that matches the empty
 * text, or a program that gets too large is UNSUPPORTED, with the construct and its position. */

/* Compiles pattern into a program at the end of the open section (the caller keeps the place
 * 8-byte aligned); literal: the pattern is a plain string. `where` names it in messages.
 * Fails: FORMAT (malformed, empty), UNSUPPORTED, OUT_OF_MEMORY. */
crank_status words_regex_put(image_builder *b, const char *pattern, size_t bytes, bool literal,
                             const char *where, crank_error *error);
/* Verifies a program in an untrusted image, in linear time. */
crank_status words_regex_check(tok_section program, crank_error *error);

/* The first match at or after `from`: true, with its range. False: no more, or, when *work has
 * grown beyond what any reasonable expression needs (WORDS_REGEX_WORK characters looked at for each
 * byte of text), *work is SIZE_MAX and the caller fails with LIMIT. *work starts at 0 for a text
 * and is carried from match to match. */
#define WORDS_REGEX_WORK 64
bool words_regex_next(tok_section program, const uint8_t *text, size_t bytes, size_t from,
                      size_t *start, size_t *end, size_t *work);

#endif
