/* Numbers, operands and statements: text -> struct statement. */
#include <stdlib.h>
#include <string.h>

#include "kernels/emu/ptx_build.h"

/* ---- numbers ----------------------------------------------------------------------------------
 */

int parse_number(builder *b, uint64_t *bits, uint8_t *is_float)
{
    *is_float = 0;
    *bits = 0;
    const token *t = &b->lex.now;
    char text[80];
    if (t->kind != TOKEN_NUMBER || t->bytes >= sizeof text) return build_malformed(b, "a number");
    memcpy(text, t->text, t->bytes);
    text[t->bytes] = '\0';
    char *end = NULL;
    if (text[0] == '0' && (text[1] == 'f' || text[1] == 'F')) {
        *bits = strtoull(text + 2, &end, 16);
        *is_float = 1;
    } else if (text[0] == '0' && (text[1] == 'd' || text[1] == 'D')) {
        *bits = strtoull(text + 2, &end, 16);
        *is_float = 2;
    } else if (strchr(text, '.') != NULL ||
               (strpbrk(text, "eE") != NULL && text[1] != 'x' && text[1] != 'X')) {
        double value = strtod(text, &end);
        memcpy(bits, &value, 8);
        *is_float = 2;
    } else if (text[0] == '0' && (text[1] == 'b' || text[1] == 'B')) {
        *bits = strtoull(text + 2, &end, 2);
    } else {
        *bits = strtoull(text, &end, 0);
    }
    if (*end == 'U' && !*is_float) end++;
    if (*end != '\0') return build_malformed(b, "a number");
    lex_next(&b->lex);
    return 1;
}

int parse_unsigned(builder *b, uint64_t *value)
{
    uint8_t is_float = 0;
    if (!parse_number(b, value, &is_float)) return 0;
    return is_float ? build_fail(b, CRANK_FORMAT, b->lex.now.line, "expected an integer") : 1;
}

/* ---- operands ---------------------------------------------------------------------------------
 */

static const struct {
    const char *name;
    special_register which;
} specials[] = {
    {"%tid.x", SPECIAL_TID_X},
    {"%tid.y", SPECIAL_TID_Y},
    {"%tid.z", SPECIAL_TID_Z},
    {"%ntid.x", SPECIAL_NTID_X},
    {"%ntid.y", SPECIAL_NTID_Y},
    {"%ntid.z", SPECIAL_NTID_Z},
    {"%ctaid.x", SPECIAL_CTAID_X},
    {"%ctaid.y", SPECIAL_CTAID_Y},
    {"%ctaid.z", SPECIAL_CTAID_Z},
    {"%nctaid.x", SPECIAL_NCTAID_X},
    {"%nctaid.y", SPECIAL_NCTAID_Y},
    {"%nctaid.z", SPECIAL_NCTAID_Z},
    {"%laneid", SPECIAL_LANEID},
    {"%warpid", SPECIAL_WARPID},
    {"%nwarpid", SPECIAL_NWARPID},
    {"%smid", SPECIAL_SMID},
    {"%nsmid", SPECIAL_NSMID},
    {"%gridid", SPECIAL_GRIDID},
    {"%lanemask_eq", SPECIAL_LANEMASK_EQ},
    {"%lanemask_lt", SPECIAL_LANEMASK_LT},
    {"%lanemask_le", SPECIAL_LANEMASK_LE},
    {"%lanemask_gt", SPECIAL_LANEMASK_GT},
    {"%lanemask_ge", SPECIAL_LANEMASK_GE},
    {"%dynamic_smem_size", SPECIAL_DYNAMIC_SMEM},
    {"%total_smem_size", SPECIAL_TOTAL_SMEM},
    {"%cluster_ctaid.x", SPECIAL_ZERO},
    {"%cluster_ctaid.y", SPECIAL_ZERO},
    {"%cluster_ctaid.z", SPECIAL_ZERO},
    {"%cluster_ctarank", SPECIAL_ZERO},
    {"%cluster_nctaid.x", SPECIAL_ONE},
    {"%cluster_nctaid.y", SPECIAL_ONE},
    {"%cluster_nctaid.z", SPECIAL_ONE},
    {"%cluster_nctarank", SPECIAL_ONE},
    {"%clusterid.x", SPECIAL_CTAID_X},
    {"%clusterid.y", SPECIAL_CTAID_Y},
    {"%clusterid.z", SPECIAL_CTAID_Z},
    {"%nclusterid.x", SPECIAL_NCTAID_X},
    {"%nclusterid.y", SPECIAL_NCTAID_Y},
    {"%nclusterid.z", SPECIAL_NCTAID_Z},
    {"%clock", SPECIAL_CLOCK},
    {"%clock64", SPECIAL_CLOCK64},
    {"%globaltimer", SPECIAL_CLOCK64},
};

static int register_place(builder *b, symbol *s, uint32_t index, operand *o)
{
    if (s->places[index] == 0) {
        uint32_t offset = build_register(b, s->width);
        if (offset == UINT32_MAX) return 0;
        s->places[index] = offset + 1;
    }
    o->kind = OPERAND_REGISTER;
    o->width = (uint8_t)s->width;
    o->place = s->places[index] - 1;
    return 1;
}

static int operand_resolve(builder *b, operand *o)
{
    const token t = b->lex.now;
    o->text = t;
    symbol *s = symbol_find(b, t.text, t.bytes);
    if (s == NULL) { /* a member of a family: %r12 */
        uint32_t digits = 0;
        while (digits < t.bytes && t.text[t.bytes - 1 - digits] >= '0' &&
               t.text[t.bytes - 1 - digits] <= '9')
            digits++;
        if (digits > 0 && digits < 8) {
            s = symbol_find(b, t.text, t.bytes - digits);
            if (s != NULL && s->kind == SYMBOL_REGISTER && s->count > 0) {
                uint32_t index = 0;
                for (uint32_t i = t.bytes - digits; i < t.bytes; i++)
                    index = index * 10 + (uint32_t)(t.text[i] - '0');
                if (index >= s->count)
                    return build_fail(b, CRANK_FORMAT, t.line, "%.*s is beyond its family",
                                      (int)t.bytes, t.text);
                return register_place(b, s, index, o);
            }
            s = NULL;
        }
    }
    if (s == NULL) {
        if (token_equals(&t, "_")) {
            o->kind = OPERAND_SINK;
            return 1;
        }
        if (token_equals(&t, "WARP_SZ")) {
            o->kind = OPERAND_IMMEDIATE;
            o->bits = WARP_LANES;
            return 1;
        }
        for (size_t i = 0; i < sizeof specials / sizeof specials[0]; i++)
            if (token_equals(&t, specials[i].name)) {
                o->kind = OPERAND_SPECIAL;
                o->special = specials[i].which;
                o->width = 4;
                return 1;
            }
        if (t.text[0] == '%')
            return build_fail(b, CRANK_UNSUPPORTED, t.line, "register %.*s is not known",
                              (int)(t.bytes < 60 ? t.bytes : 60), t.text);
        o->kind = OPERAND_LABEL;
        return 1;
    }
    if (s->kind == SYMBOL_REGISTER) {
        if (s->count > 0)
            return build_fail(b, CRANK_FORMAT, t.line, "%.*s names a register family", (int)t.bytes,
                              t.text);
        return register_place(b, s, 0, o);
    }
    if (s->kind == SYMBOL_PARAMETER) {
        o->kind = OPERAND_PARAMETER;
        o->parameter = s->parameter;
        return 1;
    }
    o->kind = OPERAND_VARIABLE;
    o->variable = s->variable;
    return 1;
}

static operand *operand_add(builder *b, statement *s)
{
    if (s->n_operands == MAX_OPERANDS) {
        build_fail(b, CRANK_UNSUPPORTED, s->line, "%s: more than %d operands", s->mnemonic,
                   MAX_OPERANDS);
        return NULL;
    }
    operand *o = &s->operands[s->n_operands++];
    memset(o, 0, sizeof *o);
    return o;
}

/* A word or number, with "+ n" behind it: everything but braces and brackets. */
static int parse_simple(builder *b, statement *s, operand *o)
{
    lexer *x = &b->lex;
    if (lex_is_mark(x, '!')) {
        o->negated = 1;
        lex_next(x);
    }
    int minus = 0;
    if (lex_is_mark(x, '-')) {
        minus = 1;
        lex_next(x);
    }
    if (x->now.kind == TOKEN_NUMBER) {
        o->kind = OPERAND_IMMEDIATE;
        if (!parse_number(b, &o->bits, &o->is_float)) return 0;
        if (minus)
            o->bits = o->is_float == 0   ? 0 - o->bits
                      : o->is_float == 1 ? o->bits ^ 0x80000000u
                                         : o->bits ^ (UINT64_C(1) << 63);
        return 1;
    }
    if (x->now.kind != TOKEN_WORD || minus) return build_malformed(b, "an operand");
    if (!operand_resolve(b, o)) return 0;
    lex_next(x);
    if (lex_is_mark(x, '+') || lex_is_mark(x, '-')) {
        int sign = lex_is_mark(x, '-');
        lex_next(x);
        if (lex_is_mark(x, '-')) {
            sign = !sign;
            lex_next(x);
        }
        uint64_t more;
        if (!parse_unsigned(b, &more)) return 0;
        o->bits = sign ? 0 - more : more;
    }
    (void)s;
    return 1;
}

static int parse_operand(builder *b, statement *s)
{
    lexer *x = &b->lex;
    operand *o;
    if (lex_is_mark(x, '{')) {
        int first = s->n_operands;
        do {
            lex_next(x);
            if ((o = operand_add(b, s)) == NULL || !parse_simple(b, s, o)) return 0;
        } while (lex_is_mark(x, ','));
        s->operands[first].vector = (uint8_t)(s->n_operands - first);
        return build_expect(b, '}');
    }
    if ((o = operand_add(b, s)) == NULL) return 0;
    if (lex_is_mark(x, '[')) {
        lex_next(x);
        if (!parse_simple(b, s, o)) return 0;
        o->in_brackets = 1;
        return build_expect(b, ']');
    }
    if (!parse_simple(b, s, o)) return 0;
    if (lex_is_mark(x, '|')) {
        lex_next(x);
        if ((o = operand_add(b, s)) == NULL || !parse_simple(b, s, o)) return 0;
        o->piped = 1;
    }
    return 1;
}

static int split_mnemonic(builder *b, statement *s, const token *t)
{
    if (t->bytes >= sizeof s->mnemonic)
        return build_fail(b, CRANK_UNSUPPORTED, t->line, "instruction %.60s...", t->text);
    memcpy(s->mnemonic, t->text, t->bytes);
    s->mnemonic[t->bytes] = '\0';
    memcpy(s->words, s->mnemonic, t->bytes + 1);
    s->n_modifiers = 0;
    char *p = s->words;
    while (p != NULL) {
        if (s->n_modifiers == MAX_MODIFIERS)
            return build_fail(b, CRANK_UNSUPPORTED, t->line, "instruction %s", s->mnemonic);
        s->modifier[s->n_modifiers++] = p;
        p = strchr(p, '.');
        if (p != NULL) *p++ = '\0';
    }
    return 1;
}

int parse_statement(builder *b)
{
    lexer *x = &b->lex;
    statement s;
    memset(&s, 0, offsetof(statement, operands));
    s.n_operands = 0;
    s.line = x->now.line;
    s.guarded = 0;
    s.guard = 0;
    if (lex_is_mark(x, '@')) {
        lex_next(x);
        operand p = {0};
        if (!parse_simple(b, &s, &p)) return 0;
        if (p.kind != OPERAND_REGISTER || p.width != 0) return build_malformed(b, "a predicate");
        s.guarded = p.negated ? 2 : 1;
        s.guard = p.place;
    }
    if (x->now.kind != TOKEN_WORD) return build_malformed(b, "an instruction");
    const token name = x->now;
    if (!split_mnemonic(b, &s, &name)) return 0;
    lex_next(x);
    if (strcmp(s.modifier[0], "call") == 0) return parse_call(b, &s);
    if (!lex_is_mark(x, ';')) {
        for (;;) {
            if (!parse_operand(b, &s)) return 0;
            if (!lex_is_mark(x, ',')) break;
            lex_next(x);
        }
    }
    if (!build_expect(b, ';')) return 0;
    return decode_statement(b, &s);
}
