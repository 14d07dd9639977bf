/* Declarations: .global, .const, .shared, .local variables with their initial values, .reg. */
#include <string.h>

#include "kernels/emu/ptx_build.h"

#define MAX_FAMILY (1u << 20)
#define MAX_VARIABLE_BYTES (UINT64_C(1) << 32)

/* ---- types ------------------------------------------------------------------------------------
 */

/* Bytes of ".u32" and the like; 0 for .pred, -1 when it is no type. */
int type_bytes(const token *t)
{
    static const struct {
        const char *name;
        int bytes;
    } types[] = {{".pred", 0}, {".b8", 1},  {".u8", 1},  {".s8", 1},    {".b16", 2},
                 {".u16", 2},  {".s16", 2}, {".f16", 2}, {".bf16", 2},  {".b32", 4},
                 {".u32", 4},  {".s32", 4}, {".f32", 4}, {".f16x2", 4}, {".bf16x2", 4},
                 {".b64", 8},  {".u64", 8}, {".s64", 8}, {".f64", 8}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (token_equals(t, types[i].name)) return types[i].bytes;
    return -1;
}

/* ---- variables --------------------------------------------------------------------------------
 */

int parse_array_size(builder *b, uint64_t element, uint64_t *bytes, int *open_ended)
{
    *bytes = element;
    *open_ended = 0;
    while (lex_is_mark(&b->lex, '[')) {
        lex_next(&b->lex);
        if (lex_is_mark(&b->lex, ']')) {
            *open_ended = 1;
            lex_next(&b->lex);
            continue;
        }
        uint64_t n;
        if (!parse_unsigned(b, &n) || !build_expect(b, ']')) return 0;
        if (n > MAX_VARIABLE_BYTES || *bytes * n > MAX_VARIABLE_BYTES)
            return build_fail(b, CRANK_LIMIT, b->lex.now.line, "an array of more than 4 GiB");
        *bytes *= n;
    }
    return 1;
}

static int parse_initialiser(builder *b, ptx_variable *v, uint32_t element)
{
    v->initial = pool_take(&b->module->memory, v->bytes, 1);
    if (v->initial == NULL) return build_no_memory(b);
    uint64_t at = 0;
    uint32_t depth = 0;
    for (;;) {
        lexer *x = &b->lex;
        if (lex_is_mark(x, '{')) {
            depth++;
            lex_next(x);
            continue;
        }
        if (lex_is_mark(x, '}')) {
            if (depth-- == 0) return build_malformed(b, "an initialiser");
            lex_next(x);
            if (depth == 0) return 1;
            continue;
        }
        if (lex_is_mark(x, ',')) {
            lex_next(x);
            continue;
        }
        int minus = 0;
        if (lex_is_mark(x, '-')) {
            minus = 1;
            lex_next(x);
        }
        uint64_t bits = 0;
        if (x->now.kind == TOKEN_WORD) {
            int generic = token_equals(&x->now, "generic");
            if (generic) {
                lex_next(x);
                if (!build_expect(b, '(')) return 0;
            }
            symbol *s = symbol_find(b, x->now.text, x->now.bytes);
            if (s == NULL || s->kind != SYMBOL_VARIABLE || element != 8 ||
                (s->variable->space != SPACE_GLOBAL && s->variable->space != SPACE_CONST))
                return build_malformed(b, "the address of a global variable");
            lex_next(x);
            if (generic && !build_expect(b, ')')) return 0;
            bits = s->variable->offset;
            if (lex_is_mark(x, '+')) {
                uint64_t more;
                lex_next(x);
                if (!parse_unsigned(b, &more)) return 0;
                bits += more;
            }
            ptx_module *m = b->module;
            if (!pool_grow(&m->memory, (void **)&m->relocations, &b->relocation_capacity,
                           m->n_relocations, sizeof *m->relocations))
                return build_no_memory(b);
            m->relocations[m->n_relocations++] =
                (ptx_relocation){.at = v->offset + at, .target = bits};
            bits = 0;
        } else {
            uint8_t is_float;
            if (!parse_number(b, &bits, &is_float)) return 0;
            if (is_float == 2 && element == 4) {
                double wide;
                memcpy(&wide, &bits, 8);
                float narrow = (float)wide;
                bits = 0;
                memcpy(&bits, &narrow, 4);
            }
            if (minus) bits = is_float ? bits ^ (UINT64_C(1) << (8 * element - 1)) : 0 - bits;
        }
        if (at + element > v->bytes)
            return build_fail(b, CRANK_FORMAT, x->now.line, "%s: too many initial values", v->name);
        memcpy(v->initial + at, &bits, element);
        at += element;
        if (depth == 0) return 1;
    }
}

/* After the space word: [.align N] [.v2|.v4] .type name[sizes] [= initial] {, name...} ; */
int parse_variables(builder *b, ptx_space space, int external)
{
    uint32_t align = 0, vector = 1;
    int element = -1;
    lexer *x = &b->lex;
    while (x->now.kind == TOKEN_WORD && x->now.text[0] == '.') {
        if (token_equals(&x->now, ".align")) {
            uint64_t n;
            lex_next(x);
            if (!parse_unsigned(b, &n)) return 0;
            if (n == 0 || n > 4096 || (n & (n - 1)))
                return build_fail(b, CRANK_FORMAT, x->now.line, "alignment %llu",
                                  (unsigned long long)n);
            align = (uint32_t)n;
            continue;
        }
        if (token_equals(&x->now, ".v2")) {
            vector = 2;
        } else if (token_equals(&x->now, ".v4")) {
            vector = 4;
        } else if (token_equals(&x->now, ".attribute")) {
            lex_next(x);
            while (x->now.kind != TOKEN_END && !lex_is_mark(x, ')')) lex_next(x);
        } else {
            element = type_bytes(&x->now);
            if (element <= 0) return build_malformed(b, "a type");
        }
        lex_next(x);
    }
    if (element <= 0) return build_malformed(b, "a type");
    for (;;) {
        if (x->now.kind != TOKEN_WORD) return build_malformed(b, "a variable's name");
        ptx_module *m = b->module;
        if (!pool_grow(&m->memory, (void **)&m->variables, &b->variable_capacity, m->n_variables,
                       sizeof *m->variables))
            return build_no_memory(b);
        ptx_variable *v = pool_take(&m->memory, 1, sizeof *v);
        if (v == NULL) return build_no_memory(b);
        v->name = pool_text(&m->memory, x->now.text, x->now.bytes);
        if (v->name == NULL) return build_no_memory(b);
        v->is_argument = space == SPACE_PARAM;
        v->space = v->is_argument ? SPACE_LOCAL : space;
        v->align = align ? align : (uint32_t)element * vector;
        symbol *s = symbol_add(b, x->now.text, x->now.bytes, SYMBOL_VARIABLE);
        if (s == NULL) return 0;
        s->variable = v;
        lex_next(x);
        int open_ended;
        if (!parse_array_size(b, (uint64_t)element * vector, &v->bytes, &open_ended)) return 0;
        v->is_dynamic = space == SPACE_SHARED && external;
        if (open_ended && !v->is_dynamic)
            return build_fail(b, CRANK_UNSUPPORTED, x->now.line, "%s has no size", v->name);
        if (external && !v->is_dynamic)
            return build_fail(b, CRANK_UNSUPPORTED, x->now.line, "%s is defined in another module",
                              v->name);
        if (space == SPACE_GLOBAL || space == SPACE_CONST) {
            uint64_t a = v->align > 256 ? v->align : 256;
            v->offset = (m->image_bytes + a - 1) & ~(a - 1);
            m->image_bytes = v->offset + v->bytes;
        } else if (v->space == SPACE_LOCAL) {
            ptx_function *f = b->function;
            if (f == NULL) return build_malformed(b, "a local variable inside a function");
            uint32_t a = v->align;
            v->offset = (f->local_bytes + a - 1) & ~(a - 1);
            if (v->bytes > (1u << 24))
                return build_fail(b, CRANK_LIMIT, x->now.line, "%s: local memory", v->name);
            f->local_bytes = (uint32_t)(v->offset + v->bytes);
        }
        m->variables[m->n_variables++] = v;
        if (lex_is_mark(x, '=')) {
            lex_next(x);
            if (space != SPACE_GLOBAL && space != SPACE_CONST)
                return build_malformed(b, "no initialiser here");
            if (!parse_initialiser(b, v, (uint32_t)element)) return 0;
        }
        if (!lex_is_mark(x, ',')) break;
        lex_next(x);
    }
    return build_expect(b, ';');
}

/* After ".reg": .type name[<count>] {, name...} ; */
int parse_registers(builder *b)
{
    lexer *x = &b->lex;
    int bytes = x->now.kind == TOKEN_WORD ? type_bytes(&x->now) : -1;
    if (bytes < 0) return build_malformed(b, "a register type");
    if (bytes == 1) bytes = 2; /* kept in a 16-bit row */
    lex_next(x);
    for (;;) {
        if (x->now.kind != TOKEN_WORD) return build_malformed(b, "a register's name");
        symbol *s = symbol_add(b, x->now.text, x->now.bytes, SYMBOL_REGISTER);
        if (s == NULL) return 0;
        s->width = (uint32_t)bytes;
        lex_next(x);
        uint64_t count = 1;
        if (lex_is_mark(x, '<')) {
            lex_next(x);
            if (!parse_unsigned(b, &count) || !build_expect(b, '>')) return 0;
            if (count == 0 || count > MAX_FAMILY)
                return build_fail(b, CRANK_LIMIT, x->now.line, "a family of %llu registers",
                                  (unsigned long long)count);
            s->count = (uint32_t)count;
        }
        s->places = pool_take(&b->module->memory, (size_t)count, sizeof *s->places);
        if (s->places == NULL) return build_no_memory(b);
        if (!lex_is_mark(x, ',')) break;
        lex_next(x);
    }
    return build_expect(b, ';');
}
