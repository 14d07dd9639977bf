/* PTX text -> ptx_module: directives, scopes, symbols, labels. Statements go to ptx_decode.c.
 *
 * Braces are scopes: inline assembly arrives as "{ .reg .b32 t; ... }", often on one line, and two
 * copies of it may declare the same names. A register family (%r<512>) gets a row only for the
 * members that are used. Nesting is counted, not recursed into. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/emu/ptx_build.h"
#include "memory.h"

#define MAX_PTX_BYTES ((size_t)1 << 30)
#define MAX_FAMILY (1u << 20)
#define MAX_VARIABLE_BYTES (UINT64_C(1) << 32)

int build_fail(builder *b, crank_status status, uint32_t line, const char *format, ...)
{
    if (b->status != CRANK_OK) return 0;
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    b->status = status;
    if (b->function != NULL)
        status_fail(b->error, status, "PTX line %u, in %s: %s", line, b->function->name, text);
    else
        status_fail(b->error, status, "PTX line %u: %s", line, text);
    return 0;
}

int build_no_memory(builder *b)
{
    return build_fail(b, CRANK_OUT_OF_MEMORY, b->lex.now.line, "out of memory");
}

static int malformed(builder *b, const char *expected)
{
    const token *t = &b->lex.now;
    if (t->kind == TOKEN_END)
        return build_fail(b, CRANK_FORMAT, t->line, "expected %s, found the end", expected);
    return build_fail(b, CRANK_FORMAT, t->line, "expected %s, found '%.*s'", expected,
                      (int)(t->bytes < 60 ? t->bytes : 60), t->text);
}

static int expect_mark(builder *b, char mark)
{
    if (!lex_is_mark(&b->lex, mark)) {
        char text[4] = {'\'', mark, '\'', 0};
        return malformed(b, text);
    }
    lex_next(&b->lex);
    return 1;
}

/* ---- symbols ----------------------------------------------------------------------------------
 */

static uint32_t hash_text(const char *text, uint32_t bytes)
{
    uint32_t h = 2166136261u;
    for (uint32_t i = 0; i < bytes; i++) h = (h ^ (uint8_t)text[i]) * 16777619u;
    return h % SYMBOL_BUCKETS;
}

static symbol *symbol_find(builder *b, const char *name, uint32_t bytes)
{
    for (symbol *s = b->buckets[hash_text(name, bytes)]; s != NULL; s = s->shadowed)
        if (s->name_bytes == bytes && memcmp(s->name, name, bytes) == 0) return s;
    return NULL;
}

static symbol *symbol_add(builder *b, const char *name, uint32_t bytes, symbol_kind kind)
{
    symbol *s = pool_take(&b->module->memory, 1, sizeof *s);
    if (s == NULL) {
        build_no_memory(b);
        return NULL;
    }
    s->name = pool_text(&b->module->memory, name, bytes);
    if (s->name == NULL) {
        build_no_memory(b);
        return NULL;
    }
    s->name_bytes = bytes;
    s->kind = kind;
    s->scope = b->scope;
    uint32_t h = hash_text(name, bytes);
    s->shadowed = b->buckets[h];
    b->buckets[h] = s;
    s->next_in_scope = b->scope_symbols[b->depth];
    b->scope_symbols[b->depth] = s;
    return s;
}

#define MAX_DEPTH 256

static int scope_open(builder *b)
{
    if (b->depth + 1 >= MAX_DEPTH)
        return build_fail(b, CRANK_LIMIT, b->lex.now.line, "more than %d open braces", MAX_DEPTH);
    if (!pool_grow(&b->module->memory, (void **)&b->scope_parents, &b->parent_capacity, b->n_scopes,
                   sizeof *b->scope_parents))
        return build_no_memory(b);
    b->scope_parents[b->n_scopes] = b->scope;
    b->scope = b->n_scopes++;
    b->scope_symbols[++b->depth] = NULL;
    return 1;
}

static void scope_close(builder *b)
{
    /* Newest first, so each one is the head of its bucket when its turn comes. */
    for (symbol *s = b->scope_symbols[b->depth]; s != NULL; s = s->next_in_scope)
        b->buckets[hash_text(s->name, s->name_bytes)] = s->shadowed;
    b->depth--;
    b->scope = b->scope_parents[b->scope];
}

/* ---- rows -------------------------------------------------------------------------------------
 */

uint32_t build_register(builder *b, uint32_t width)
{
    ptx_function *f = b->function;
    uint32_t bytes = width ? width * WARP_LANES : 4;
    uint32_t align = width ? 64 : 4;
    uint32_t offset = (f->register_bytes + align - 1) & ~(align - 1);
    if (offset > (1u << 28)) {
        build_fail(b, CRANK_LIMIT, b->lex.now.line, "too many registers");
        return UINT32_MAX;
    }
    f->register_bytes = offset + bytes;
    return offset;
}

uint32_t build_constant(builder *b, uint32_t width, uint64_t bits, int relocate)
{
    ptx_function *f = b->function;
    if (width && width < 8) bits &= (UINT64_C(1) << (8 * width)) - 1;
    for (uint32_t i = f->n_constants; i-- > 0 && f->n_constants - i < 256;) {
        const ptx_constant *c = &f->constants[i];
        if (c->width == width && c->bits == bits && c->relocate == (uint32_t)relocate)
            return c->offset;
    }
    uint32_t offset = build_register(b, width);
    if (offset == UINT32_MAX) return offset;
    if (!pool_grow(&b->module->memory, (void **)&f->constants, &b->constant_capacity,
                   f->n_constants, sizeof *f->constants)) {
        build_no_memory(b);
        return UINT32_MAX;
    }
    f->constants[f->n_constants++] =
        (ptx_constant){.offset = offset, .width = width, .bits = bits, .relocate = relocate != 0};
    return offset;
}

uint32_t build_special(builder *b, special_register which)
{
    ptx_function *f = b->function;
    for (uint32_t i = 0; i < f->n_specials; i++)
        if (f->specials[i].which == (uint32_t)which) return f->specials[i].offset;
    uint32_t offset = build_register(b, 4);
    if (offset == UINT32_MAX) return offset;
    if (!pool_grow(&b->module->memory, (void **)&f->specials, &b->special_capacity, f->n_specials,
                   sizeof *f->specials)) {
        build_no_memory(b);
        return UINT32_MAX;
    }
    f->specials[f->n_specials++] = (ptx_special){.offset = offset, .which = (uint32_t)which};
    return offset;
}

insn *build_insn(builder *b, const statement *s)
{
    ptx_function *f = b->function;
    if (!pool_grow(&b->module->memory, (void **)&f->code, &b->code_capacity, f->n_code,
                   sizeof *f->code)) {
        build_no_memory(b);
        return NULL;
    }
    insn *in = &f->code[f->n_code++];
    memset(in, 0, sizeof *in);
    in->line = s->line;
    in->loc = b->loc;
    in->guarded = (uint8_t)s->guarded;
    in->guard = s->guard;
    if (b->next_is_hidden) in->flags |= INSN_HIDDEN;
    return in;
}

uint32_t build_address(builder *b, ptx_variable *v, uint64_t offset, uint32_t width)
{
    ptx_function *f = b->function;
    if (v->space == SPACE_GLOBAL || v->space == SPACE_CONST)
        return build_constant(b, width, v->offset + offset, 1);
    if (v->space == SPACE_SHARED && v->is_dynamic) {
        if (f->dynamic_align < v->align) f->dynamic_align = v->align;
        if (f->dynamic_align == 0) f->dynamic_align = 1;
        return build_constant(b, width, SHARED_DYNAMIC_BASE + offset, 0);
    }
    if (v->space == SPACE_SHARED) {
        uint32_t found = 0;
        while (found < f->n_shared_used && f->shared_used[found].variable != v) found++;
        if (found == f->n_shared_used) {
            if (!pool_grow(&b->module->memory, (void **)&f->shared_used, &b->shared_capacity,
                           f->n_shared_used, sizeof *f->shared_used)) {
                build_no_memory(b);
                return UINT32_MAX;
            }
            uint32_t align = v->align > SHARED_GAP ? v->align : SHARED_GAP;
            uint32_t at = (b->shared_next + align - 1) & ~(align - 1);
            if (v->bytes > SHARED_WINDOW_BYTES - SHARED_STATIC_BASE ||
                at + v->bytes + SHARED_GAP > SHARED_WINDOW_BYTES) {
                build_fail(b, CRANK_LIMIT, b->lex.now.line, "static shared memory: %s does not fit",
                           v->name);
                return UINT32_MAX;
            }
            f->shared_used[f->n_shared_used++] = (ptx_shared){.variable = v, .offset = at};
            b->shared_next = at + (uint32_t)v->bytes + SHARED_GAP;
            uint32_t a = v->align ? v->align : 1;
            f->static_shared = ((f->static_shared + a - 1) / a) * a + (uint32_t)v->bytes;
        }
        return build_constant(b, width, f->shared_used[found].offset + offset, 0);
    }
    return build_constant(b, width, v->offset + offset, 0); /* local */
}

/* ---- numbers ----------------------------------------------------------------------------------
 */

static int parse_number(builder *b, uint64_t *bits, uint8_t *is_float)
{
    *is_float = 0;
    *bits = 0;
    const token *t = &b->lex.now;
    char text[80];
    if (t->kind != TOKEN_NUMBER || t->bytes >= sizeof text) return malformed(b, "a number");
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
    if (*end != '\0') return malformed(b, "a number");
    lex_next(&b->lex);
    return 1;
}

static int parse_unsigned(builder *b, uint64_t *value)
{
    uint8_t is_float = 0;
    if (!parse_number(b, value, &is_float)) return 0;
    return is_float ? build_fail(b, CRANK_FORMAT, b->lex.now.line, "expected an integer") : 1;
}

/* ---- types ------------------------------------------------------------------------------------
 */

/* Bytes of ".u32" and the like; 0 for .pred, -1 when it is no type. */
static int type_bytes(const token *t)
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

static int parse_array_size(builder *b, uint64_t element, uint64_t *bytes, int *open_ended)
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
        if (!parse_unsigned(b, &n) || !expect_mark(b, ']')) return 0;
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
            if (depth-- == 0) return malformed(b, "an initialiser");
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
                if (!expect_mark(b, '(')) return 0;
            }
            symbol *s = symbol_find(b, x->now.text, x->now.bytes);
            if (s == NULL || s->kind != SYMBOL_VARIABLE || element != 8 ||
                (s->variable->space != SPACE_GLOBAL && s->variable->space != SPACE_CONST))
                return malformed(b, "the address of a global variable");
            lex_next(x);
            if (generic && !expect_mark(b, ')')) return 0;
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
static int parse_variables(builder *b, ptx_space space, int external)
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
            if (element <= 0) return malformed(b, "a type");
        }
        lex_next(x);
    }
    if (element <= 0) return malformed(b, "a type");
    for (;;) {
        if (x->now.kind != TOKEN_WORD) return malformed(b, "a variable's name");
        ptx_module *m = b->module;
        if (!pool_grow(&m->memory, (void **)&m->variables, &b->variable_capacity, m->n_variables,
                       sizeof *m->variables))
            return build_no_memory(b);
        ptx_variable *v = pool_take(&m->memory, 1, sizeof *v);
        if (v == NULL) return build_no_memory(b);
        v->name = pool_text(&m->memory, x->now.text, x->now.bytes);
        if (v->name == NULL) return build_no_memory(b);
        v->space = space;
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
        } else if (space == SPACE_LOCAL) {
            ptx_function *f = b->function;
            if (f == NULL) return malformed(b, "a local variable inside a function");
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
                return malformed(b, "no initialiser here");
            if (!parse_initialiser(b, v, (uint32_t)element)) return 0;
        }
        if (!lex_is_mark(x, ',')) break;
        lex_next(x);
    }
    return expect_mark(b, ';');
}

/* After ".reg": .type name[<count>] {, name...} ; */
static int parse_registers(builder *b)
{
    lexer *x = &b->lex;
    int bytes = x->now.kind == TOKEN_WORD ? type_bytes(&x->now) : -1;
    if (bytes < 0) return malformed(b, "a register type");
    if (bytes == 1) bytes = 2; /* kept in a 16-bit row */
    lex_next(x);
    for (;;) {
        if (x->now.kind != TOKEN_WORD) return malformed(b, "a register's name");
        symbol *s = symbol_add(b, x->now.text, x->now.bytes, SYMBOL_REGISTER);
        if (s == NULL) return 0;
        s->width = (uint32_t)bytes;
        lex_next(x);
        uint64_t count = 1;
        if (lex_is_mark(x, '<')) {
            lex_next(x);
            if (!parse_unsigned(b, &count) || !expect_mark(b, '>')) return 0;
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
    return expect_mark(b, ';');
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

static int resolve_word(builder *b, operand *o)
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
    if (x->now.kind != TOKEN_WORD || minus) return malformed(b, "an operand");
    if (!resolve_word(b, o)) return 0;
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
        return expect_mark(b, '}');
    }
    if ((o = operand_add(b, s)) == NULL) return 0;
    if (lex_is_mark(x, '[')) {
        lex_next(x);
        if (!parse_simple(b, s, o)) return 0;
        o->in_brackets = 1;
        return expect_mark(b, ']');
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

static int parse_statement(builder *b)
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
        if (p.kind != OPERAND_REGISTER || p.width != 0) return malformed(b, "a predicate");
        s.guarded = p.negated ? 2 : 1;
        s.guard = p.place;
    }
    if (x->now.kind != TOKEN_WORD) return malformed(b, "an instruction");
    const token name = x->now;
    if (!split_mnemonic(b, &s, &name)) return 0;
    lex_next(x);
    if (strcmp(s.modifier[0], "call") == 0)
        return build_fail(b, CRANK_UNSUPPORTED, s.line,
                          "%s: calls are not interpreted; inline the function", s.mnemonic);
    if (!lex_is_mark(x, ';')) {
        for (;;) {
            if (!parse_operand(b, &s)) return 0;
            if (!lex_is_mark(x, ',')) break;
            lex_next(x);
        }
    }
    if (!expect_mark(b, ';')) return 0;
    return decode_statement(b, &s);
}

/* ---- labels -----------------------------------------------------------------------------------
 */

static int add_label(builder *b, const token *name)
{
    for (const label *l = b->labels; l != NULL; l = l->next)
        if (l->scope == b->scope && l->name.bytes == name->bytes &&
            memcmp(l->name.text, name->text, name->bytes) == 0)
            return build_fail(b, CRANK_FORMAT, name->line, "label %.*s stands twice",
                              (int)(name->bytes < 60 ? name->bytes : 60), name->text);
    label *l = pool_take(&b->module->memory, 1, sizeof *l);
    if (l == NULL) return build_no_memory(b);
    *l = (label){.next = b->labels, .name = *name, .scope = b->scope, .pc = b->function->n_code};
    b->labels = l;
    return 1;
}

static int find_label(builder *b, const token *name, uint32_t scope, uint32_t *pc)
{
    for (;;) {
        for (const label *l = b->labels; l != NULL; l = l->next)
            if (l->scope == scope && l->name.bytes == name->bytes &&
                memcmp(l->name.text, name->text, name->bytes) == 0) {
                *pc = l->pc;
                return 1;
            }
        if (scope == 0) break;
        scope = b->scope_parents[scope];
    }
    return build_fail(b, CRANK_FORMAT, name->line, "label %.*s is not in the function",
                      (int)(name->bytes < 60 ? name->bytes : 60), name->text);
}

static int resolve_labels(builder *b)
{
    for (const branch_fixup *f = b->branches; f != NULL; f = f->next)
        if (!find_label(b, &f->name, f->scope, &b->function->code[f->insn].target)) return 0;
    for (const fixup *f = b->fixups; f != NULL; f = f->next)
        if (!find_label(b, &f->name, f->scope, f->where)) return 0;
    return 1;
}

static int parse_branch_targets(builder *b, const token *name)
{
    lexer *x = &b->lex;
    uint32_t index;
    if (name->bytes == 0) return malformed(b, "a label before .branchtargets");
    if (!decode_branch_table(b, name, &index)) return 0;
    ptx_table *table = &b->function->tables[index];
    size_t capacity = 0;
    for (;;) {
        lex_next(x);
        if (x->now.kind != TOKEN_WORD) return malformed(b, "a label");
        if (!pool_grow(&b->module->memory, (void **)&table->targets, &capacity, table->n,
                       sizeof *table->targets))
            return build_no_memory(b);
        /* The name is resolved at the end; until then the slot holds the token in a fixup. */
        table->n++;
        fixup *f = pool_take(&b->module->memory, 1, sizeof *f);
        if (f == NULL) return build_no_memory(b);
        f->name = x->now;
        f->scope = b->scope;
        f->next = table->names;
        table->names = f;
        lex_next(x);
        if (!lex_is_mark(x, ',')) break;
    }
    /* Newest first in the list: hand out the slots from the end. */
    uint32_t slot = table->n;
    for (fixup *f = table->names, *next; f != NULL; f = next) {
        next = f->next;
        f->where = &table->targets[--slot];
        f->next = b->fixups;
        b->fixups = f;
    }
    table->names = NULL;
    return expect_mark(b, ';');
}

/* ---- directives -------------------------------------------------------------------------------
 */

/* .loc file line column[, function_name label[+n], inlined_at file line column] */
static int parse_loc(builder *b)
{
    lexer *x = &b->lex;
    uint64_t n[6] = {0};
    lex_next(x);
    for (int i = 0; i < 3; i++)
        if (!parse_unsigned(b, &n[i])) return 0;
    while (lex_is_mark(x, ',')) {
        lex_next(x);
        if (lex_is_word(x, "function_name")) {
            lex_next(x);
            lex_next(x);
            if (lex_is_mark(x, '+')) {
                lex_next(x);
                lex_next(x);
            }
        } else if (lex_is_word(x, "inlined_at")) {
            lex_next(x);
            for (int i = 3; i < 6; i++)
                if (!parse_unsigned(b, &n[i])) return 0;
        } else {
            return malformed(b, "function_name or inlined_at");
        }
    }
    ptx_function *f = b->function;
    if (f == NULL) return 1;
    ptx_loc loc = {.file = (uint32_t)n[0],
                   .line = (uint32_t)n[1],
                   .column = (uint32_t)n[2],
                   .at_file = (uint32_t)n[3],
                   .at_line = (uint32_t)n[4],
                   .at_column = (uint32_t)n[5]};
    /* The newest position with those coordinates is the call: nvcc writes the outer ones first. */
    if (loc.at_line)
        for (uint32_t i = f->n_locs; i-- > 1;)
            if (f->locs[i].line == loc.at_line && f->locs[i].file == loc.at_file &&
                f->locs[i].column == loc.at_column) {
                loc.outer = i;
                break;
            }
    for (uint32_t i = f->n_locs; i-- > 1 && f->n_locs - i < 64;)
        if (memcmp(&f->locs[i], &loc, sizeof loc) == 0) {
            b->loc = i;
            return 1;
        }
    if (!pool_grow(&b->module->memory, (void **)&f->locs, &b->loc_capacity, f->n_locs,
                   sizeof *f->locs))
        return build_no_memory(b);
    b->loc = f->n_locs;
    f->locs[f->n_locs++] = loc;
    return 1;
}

static int parse_file(builder *b)
{
    lexer *x = &b->lex;
    uint64_t number;
    lex_next(x);
    if (!parse_unsigned(b, &number)) return 0;
    if (x->now.kind != TOKEN_STRING) return malformed(b, "a file name");
    if (number > 65535) return build_fail(b, CRANK_LIMIT, x->now.line, "file number");
    ptx_module *m = b->module;
    while (m->n_files <= number) {
        if (!pool_grow(&m->memory, (void **)&m->files, &b->file_capacity, m->n_files,
                       sizeof *m->files))
            return build_no_memory(b);
        m->files[m->n_files++] = NULL;
    }
    m->files[number] = pool_text(&m->memory, x->now.text, x->now.bytes);
    if (m->files[number] == NULL) return build_no_memory(b);
    lex_next(x);
    while (lex_is_mark(x, ',')) { /* time stamp and size */
        lex_next(x);
        lex_next(x);
    }
    return 1;
}

static int skip_braces(builder *b)
{
    lexer *x = &b->lex;
    uint32_t depth = 0;
    for (;; lex_next(x)) {
        if (x->now.kind == TOKEN_END) return malformed(b, "'}'");
        if (lex_is_mark(x, '{')) depth++;
        if (lex_is_mark(x, '}') && --depth == 0) break;
    }
    lex_next(x);
    return 1;
}

static int skip_past(builder *b, char mark)
{
    lexer *x = &b->lex;
    while (x->now.kind != TOKEN_END && !lex_is_mark(x, mark)) lex_next(x);
    return expect_mark(b, mark);
}

/* ---- functions --------------------------------------------------------------------------------
 */

/* ( .param .type name[n], ... ) at natural alignment, as the driver lays the arguments out. */
static int parse_parameters(builder *b)
{
    lexer *x = &b->lex;
    ptx_function *f = b->function;
    size_t capacity = 0;
    if (!expect_mark(b, '(')) return 0;
    while (!lex_is_mark(x, ')')) {
        uint32_t align = 0;
        int element = -1;
        while (x->now.kind == TOKEN_WORD && x->now.text[0] == '.') {
            if (token_equals(&x->now, ".align")) {
                uint64_t n;
                lex_next(x);
                if (!parse_unsigned(b, &n)) return 0;
                /* ".ptr .align n" speaks of the memory behind the pointer. */
                if (align == 0 && element < 0) align = n && n <= 128 ? (uint32_t)n : 1;
                continue;
            }
            int bytes = type_bytes(&x->now);
            if (bytes > 0 && element < 0) element = bytes;
            lex_next(x);
        }
        if (x->now.kind != TOKEN_WORD || element <= 0) return malformed(b, "a parameter");
        symbol *s = symbol_add(b, x->now.text, x->now.bytes, SYMBOL_PARAMETER);
        if (s == NULL) return 0;
        lex_next(x);
        uint64_t bytes;
        int open_ended;
        if (!parse_array_size(b, (uint64_t)element, &bytes, &open_ended)) return 0;
        if (align == 0) align = (uint32_t)element;
        uint64_t offset = (f->parameter_bytes + (uint64_t)align - 1) / align * align;
        if (open_ended || offset + bytes > 32764)
            return build_fail(b, CRANK_LIMIT, x->now.line, "more than 32,764 bytes of parameters");
        if (!pool_grow(&b->module->memory, (void **)&f->parameters, &capacity, f->n_parameters,
                       sizeof *f->parameters))
            return build_no_memory(b);
        s->parameter = f->n_parameters;
        f->parameters[f->n_parameters++] =
            (ptx_parameter){.name = s->name, .offset = (uint32_t)offset, .bytes = (uint32_t)bytes};
        f->parameter_bytes = (uint32_t)(offset + bytes);
        if (lex_is_mark(x, ',')) lex_next(x);
    }
    return expect_mark(b, ')');
}

static int parse_thread_limits(builder *b, uint32_t *out)
{
    lexer *x = &b->lex;
    uint64_t n;
    lex_next(x);
    out[0] = out[1] = out[2] = 1;
    for (int i = 0; i < 3; i++) {
        if (!parse_unsigned(b, &n)) return 0;
        out[i] = n > 65535 ? 65535 : (uint32_t)n;
        if (!lex_is_mark(x, ',')) break;
        lex_next(x);
    }
    return 1;
}

static int parse_body(builder *b)
{
    lexer *x = &b->lex;
    uint32_t outermost = b->depth;
    token last_label = {0};
    do {
        if (lex_is_mark(x, '{')) {
            if (!scope_open(b)) return 0;
            lex_next(x);
        } else if (lex_is_mark(x, '}')) {
            scope_close(b);
            lex_next(x);
        } else if (lex_is_mark(x, ';')) {
            lex_next(x);
        } else if (x->now.kind == TOKEN_WORD && x->now.text[0] == '.') {
            const token t = x->now;
            if (token_equals(&t, ".loc")) {
                if (!parse_loc(b)) return 0;
            } else if (token_equals(&t, ".reg")) {
                lex_next(x);
                if (!parse_registers(b)) return 0;
            } else if (token_equals(&t, ".pragma")) {
                if (!skip_past(b, ';')) return 0;
            } else if (token_equals(&t, ".branchtargets")) {
                if (!parse_branch_targets(b, &last_label)) return 0;
            } else if (token_equals(&t, ".shared") || token_equals(&t, ".local")) {
                ptx_space space = token_equals(&t, ".shared") ? SPACE_SHARED : SPACE_LOCAL;
                lex_next(x);
                if (!parse_variables(b, space, 0)) return 0;
            } else {
                return build_fail(b, CRANK_UNSUPPORTED, t.line, "directive %.*s",
                                  (int)(t.bytes < 60 ? t.bytes : 60), t.text);
            }
        } else if (x->now.kind == TOKEN_WORD) {
            const lexer before = *x;
            const token name = x->now;
            lex_next(x);
            if (lex_is_mark(x, ':')) {
                lex_next(x);
                if (lex_is_word(x, ".branchtargets")) {
                    last_label = name;
                    continue;
                }
                if (!add_label(b, &name)) return 0;
            } else {
                *x = before;
                if (!parse_statement(b)) return 0;
            }
        } else if (lex_is_mark(x, '@')) {
            if (!parse_statement(b)) return 0;
        } else {
            return malformed(b, "a statement");
        }
    } while (b->depth > outermost);
    return 1;
}

static int parse_function(builder *b, int is_entry)
{
    lexer *x = &b->lex;
    ptx_module *m = b->module;
    lex_next(x);
    if (!is_entry) { /* device functions are inlined by nvcc; a call to one is refused */
        while (x->now.kind != TOKEN_END && !lex_is_mark(x, '{') && !lex_is_mark(x, ';'))
            lex_next(x);
        return lex_is_mark(x, '{') ? skip_braces(b) : expect_mark(b, ';');
    }
    if (x->now.kind != TOKEN_WORD) return malformed(b, "a kernel's name");
    ptx_function *f = pool_take(&m->memory, 1, sizeof *f);
    if (f == NULL || !pool_grow(&m->memory, (void **)&m->functions, &b->function_capacity,
                                m->n_functions, sizeof *m->functions))
        return build_no_memory(b);
    f->name = pool_text(&m->memory, x->now.text, x->now.bytes);
    if (f->name == NULL) return build_no_memory(b);
    b->function = f;
    b->code_capacity = b->constant_capacity = b->special_capacity = b->table_capacity = 0;
    b->loc_capacity = b->shared_capacity = 0;
    b->labels = NULL;
    b->fixups = NULL;
    b->branches = NULL;
    b->shared_next = SHARED_STATIC_BASE;
    b->loc = 0;
    if (!pool_grow(&m->memory, (void **)&f->locs, &b->loc_capacity, 0, sizeof *f->locs))
        return build_no_memory(b);
    f->n_locs = 1;
    lex_next(x);
    if (!scope_open(b)) return 0;
    if (lex_is_mark(x, '(') && !parse_parameters(b)) return 0;
    while (x->now.kind == TOKEN_WORD && x->now.text[0] == '.') {
        if (token_equals(&x->now, ".maxntid")) {
            if (!parse_thread_limits(b, f->max_threads)) return 0;
        } else if (token_equals(&x->now, ".reqntid")) {
            if (!parse_thread_limits(b, f->exact_threads)) return 0;
        } else if (token_equals(&x->now, ".minnctapersm") || token_equals(&x->now, ".maxnreg")) {
            lex_next(x);
            lex_next(x);
        } else if (token_equals(&x->now, ".pragma")) {
            if (!skip_past(b, ';')) return 0;
        } else {
            return build_fail(b, CRANK_UNSUPPORTED, x->now.line, "kernel directive %.*s",
                              (int)(x->now.bytes < 60 ? x->now.bytes : 60), x->now.text);
        }
    }
    if (lex_is_mark(x, ';')) { /* a declaration */
        scope_close(b);
        b->function = NULL;
        lex_next(x);
        return 1;
    }
    if (!lex_is_mark(x, '{')) return malformed(b, "'{'");
    if (!parse_body(b)) return 0;
    statement end = {
        .line = x->now.line, .mnemonic = "exit", .modifier = {"exit"}, .n_modifiers = 1};
    if (!decode_statement(b, &end) || !resolve_labels(b)) return 0;
    scope_close(b);
    f->index = m->n_functions;
    m->functions[m->n_functions++] = f;
    b->function = NULL;
    return 1;
}

static int parse_version(builder *b)
{
    lexer *x = &b->lex;
    lex_next(x);
    unsigned major = 0, minor = 0;
    char text[32];
    if (x->now.kind != TOKEN_NUMBER || x->now.bytes >= sizeof text)
        return malformed(b, "a version");
    memcpy(text, x->now.text, x->now.bytes);
    text[x->now.bytes] = '\0';
    if (sscanf(text, "%u.%u", &major, &minor) != 2 || major > 99 || minor > 9)
        return malformed(b, "a version");
    b->module->version = major * 10 + minor;
    lex_next(x);
    return 1;
}

static int parse_target(builder *b)
{
    lexer *x = &b->lex;
    do {
        lex_next(x);
        if (x->now.kind != TOKEN_WORD) return malformed(b, "a target");
        if (x->now.bytes > 3 && memcmp(x->now.text, "sm_", 3) == 0) {
            uint32_t sm = 0, i = 3;
            for (; i < x->now.bytes && i < 7; i++) {
                if (x->now.text[i] < '0' || x->now.text[i] > '9') break;
                sm = sm * 10 + (uint32_t)(x->now.text[i] - '0');
            }
            b->module->target = sm;
            b->module->target_suffix = i < x->now.bytes ? x->now.text[i] : 0;
        }
        lex_next(x);
    } while (lex_is_mark(x, ','));
    return 1;
}

static int parse_module(builder *b)
{
    lexer *x = &b->lex;
    int external = 0;
    while (x->now.kind != TOKEN_END) {
        if (x->now.kind != TOKEN_WORD) return malformed(b, "a directive");
        const token t = x->now;
        if (token_equals(&t, ".version")) {
            if (!parse_version(b)) return 0;
        } else if (token_equals(&t, ".target")) {
            if (!parse_target(b)) return 0;
        } else if (token_equals(&t, ".address_size")) {
            uint64_t bits;
            lex_next(x);
            if (!parse_unsigned(b, &bits)) return 0;
            if (bits != 64)
                return build_fail(b, CRANK_UNSUPPORTED, t.line, "addresses of %llu bits",
                                  (unsigned long long)bits);
        } else if (token_equals(&t, ".file")) {
            if (!parse_file(b)) return 0;
        } else if (token_equals(&t, ".section")) {
            while (x->now.kind != TOKEN_END && !lex_is_mark(x, '{')) lex_next(x);
            if (!skip_braces(b)) return 0;
        } else if (token_equals(&t, ".extern")) {
            external = 1;
            lex_next(x);
            continue;
        } else if (token_equals(&t, ".visible") || token_equals(&t, ".weak") ||
                   token_equals(&t, ".common")) {
            lex_next(x);
            continue;
        } else if (token_equals(&t, ".entry") || token_equals(&t, ".func")) {
            if (!parse_function(b, token_equals(&t, ".entry"))) return 0;
        } else if (token_equals(&t, ".global") || token_equals(&t, ".const") ||
                   token_equals(&t, ".shared")) {
            ptx_space space = token_equals(&t, ".global")  ? SPACE_GLOBAL
                              : token_equals(&t, ".const") ? SPACE_CONST
                                                           : SPACE_SHARED;
            lex_next(x);
            if (!parse_variables(b, space, external)) return 0;
        } else if (token_equals(&t, ".pragma") || token_equals(&t, ".alias")) {
            if (!skip_past(b, ';')) return 0;
        } else if (token_equals(&t, ".loc")) {
            if (!parse_loc(b)) return 0;
        } else {
            return build_fail(b, CRANK_UNSUPPORTED, t.line, "directive %.*s",
                              (int)(t.bytes < 60 ? t.bytes : 60), t.text);
        }
        external = 0;
    }
    if (b->module->version == 0 || b->module->target == 0)
        return build_fail(b, CRANK_FORMAT, x->now.line, "no .version or .target: not PTX");
    return 1;
}

crank_status ptx_parse(ptx_module **out, const char *text, size_t bytes, crank_error *error)
{
    *out = NULL;
    CRANK_CHECK(bytes <= MAX_PTX_BYTES, LIMIT, error, "PTX of more than 1 GiB");
    ptx_module *m = mem_zero(1, sizeof *m);
    builder *b = mem_zero(1, sizeof *b);
    symbol **scopes = mem_zero(MAX_DEPTH, sizeof *scopes);
    crank_status status = CRANK_OUT_OF_MEMORY;
    if (m != NULL && b != NULL && scopes != NULL) {
        b->module = m;
        b->error = error;
        b->scope_symbols = scopes;
        lex_open(&b->lex, text, bytes);
        if (pool_grow(&m->memory, (void **)&b->scope_parents, &b->parent_capacity, 0,
                      sizeof *b->scope_parents)) {
            b->n_scopes = 1; /* the module */
            parse_module(b);
            status = b->status;
        }
    }
    if (status == CRANK_OUT_OF_MEMORY) status_fail(error, status, "PTX: out of memory");
    mem_free(scopes);
    mem_free(b);
    if (status != CRANK_OK) {
        ptx_free(m);
        return status;
    }
    *out = m;
    return CRANK_OK;
}

void ptx_free(ptx_module *m)
{
    if (m == NULL) return;
    pool_free(&m->memory);
    mem_free(m);
}

void ptx_relocate(ptx_module *m, uint64_t base)
{
    for (uint32_t i = 0; i < m->n_functions; i++) {
        ptx_function *f = m->functions[i];
        for (uint32_t c = 0; c < f->n_constants; c++)
            if (f->constants[c].relocate) f->constants[c].bits += base;
    }
}

void ptx_describe_loc(const ptx_module *m, const ptx_function *f, uint32_t loc, char *out,
                      size_t bytes)
{
    if (bytes == 0) return;
    out[0] = '\0';
    size_t used = 0;
    /* `outer` always points to an earlier entry, so the chain ends. */
    while (loc != 0 && used < bytes) {
        const ptx_loc *l = &f->locs[loc];
        const char *file = l->file < m->n_files && m->files[l->file] ? m->files[l->file] : "?";
        const char *slash = strrchr(file, '/');
        int n = snprintf(out + used, bytes - used, "%s%s:%u", used ? " <- " : "",
                         slash ? slash + 1 : file, l->line);
        if (n < 0) return;
        used += (size_t)n;
        if (l->outer == 0 && l->at_line != 0 && used < bytes) {
            file = l->at_file < m->n_files && m->files[l->at_file] ? m->files[l->at_file] : "?";
            slash = strrchr(file, '/');
            snprintf(out + used, bytes - used, " <- %s:%u", slash ? slash + 1 : file, l->at_line);
            return;
        }
        loc = l->outer;
    }
}
