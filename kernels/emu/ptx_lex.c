#include "kernels/emu/ptx_lex.h"

#include <string.h>

static int is_word_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '$' || c == '%' ||
           c == '.';
}

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

void lex_open(lexer *x, const char *text, size_t bytes)
{
    x->at = text;
    x->end = text + bytes;
    x->line = 1;
    lex_next(x);
}

static void skip_blanks(lexer *x)
{
    while (x->at < x->end) {
        char c = *x->at;
        if (c == '\n') {
            x->line++;
            x->at++;
        } else if (c == ' ' || c == '\t' || c == '\r' || c == '\0') {
            x->at++;
        } else if (c == '/' && x->end - x->at >= 2 && x->at[1] == '/') {
            while (x->at < x->end && *x->at != '\n') x->at++;
        } else if (c == '/' && x->end - x->at >= 2 && x->at[1] == '*') {
            x->at += 2;
            while (x->at < x->end && !(*x->at == '*' && x->end - x->at >= 2 && x->at[1] == '/')) {
                if (*x->at == '\n') x->line++;
                x->at++;
            }
            x->at = x->end - x->at >= 2 ? x->at + 2 : x->end;
        } else {
            return;
        }
    }
}

void lex_next(lexer *x)
{
    skip_blanks(x);
    token *t = &x->now;
    t->text = x->at;
    t->bytes = 0;
    t->line = x->line;
    t->mark = 0;
    if (x->at >= x->end) {
        t->kind = TOKEN_END;
        return;
    }
    const char *p = x->at;
    if (is_word_start(*p)) {
        t->kind = TOKEN_WORD;
        int directive = *p == '.'; /* ".reg.b32 x" is two words */
        for (p++; p < x->end; p++) {
            if (directive && *p == '.') break;
            if (is_word_start(*p) || is_digit(*p)) continue;
            if (*p == ':' && x->end - p >= 2 && p[1] == ':') {
                p++;
                continue;
            }
            break;
        }
    } else if (is_digit(*p)) {
        t->kind = TOKEN_NUMBER;
        int hex = *p == '0' && x->end - p >= 2 && (p[1] == 'x' || p[1] == 'X');
        for (p++; p < x->end; p++) {
            if (is_word_start(*p) && *p != '%' && *p != '$') continue;
            if (is_digit(*p)) continue;
            if (!hex && (*p == '+' || *p == '-') && (p[-1] == 'e' || p[-1] == 'E') &&
                memchr(t->text, '.', (size_t)(p - t->text)) != NULL)
                continue;
            break;
        }
    } else if (*p == '"') {
        t->kind = TOKEN_STRING;
        t->text = ++p;
        while (p < x->end && *p != '"' && *p != '\n') p += *p == '\\' && x->end - p >= 2 ? 2 : 1;
        if (p > x->end) p = x->end;
        t->bytes = (uint32_t)(p - t->text);
        x->at = p < x->end ? p + 1 : p;
        return;
    } else {
        t->kind = TOKEN_MARK;
        t->mark = *p++;
    }
    t->bytes = (uint32_t)(p - t->text);
    x->at = p;
}

int token_equals(const token *t, const char *word)
{
    size_t bytes = strlen(word);
    return t->bytes == bytes && memcmp(t->text, word, bytes) == 0;
}

int lex_is_word(const lexer *x, const char *word)
{
    return x->now.kind == TOKEN_WORD && token_equals(&x->now, word);
}

int lex_is_mark(const lexer *x, char mark)
{
    return x->now.kind == TOKEN_MARK && x->now.mark == mark;
}
