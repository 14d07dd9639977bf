/* Tokens of PTX text. Words keep their dots and double colons ("ld.global.nc.v4.u32", "%tid.x",
 * ".shared::cta"); braces, brackets and the rest are single characters. */
#ifndef CRANK_EMU_PTX_LEX_H
#define CRANK_EMU_PTX_LEX_H

#include <stddef.h>
#include <stdint.h>

typedef enum token_kind {
    TOKEN_END,
    TOKEN_WORD,
    TOKEN_NUMBER,
    TOKEN_STRING,
    TOKEN_MARK
} token_kind;

typedef struct token {
    token_kind kind;
    const char *text; /* of a string: between its quotes */
    uint32_t bytes;
    uint32_t line;
    char mark;
} token;

typedef struct lexer {
    const char *at, *end;
    uint32_t line;
    token now; /* the current token */
} lexer;

void lex_open(lexer *x, const char *text, size_t bytes);
void lex_next(lexer *x);
int lex_is_word(const lexer *x, const char *word);
int lex_is_mark(const lexer *x, char mark);
int token_equals(const token *t, const char *word);

#endif
