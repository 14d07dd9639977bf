/* The builder's own parts: failures, symbols and scopes, register rows, instructions, labels. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kernels/emu/ptx_build.h"

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

int build_malformed(builder *b, const char *expected)
{
    const token *t = &b->lex.now;
    if (t->kind == TOKEN_END)
        return build_fail(b, CRANK_FORMAT, t->line, "expected %s, found the end", expected);
    return build_fail(b, CRANK_FORMAT, t->line, "expected %s, found '%.*s'", expected,
                      (int)(t->bytes < 60 ? t->bytes : 60), t->text);
}

int build_expect(builder *b, char mark)
{
    if (!lex_is_mark(&b->lex, mark)) {
        char text[4] = {'\'', mark, '\'', 0};
        return build_malformed(b, text);
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

symbol *symbol_find(builder *b, const char *name, uint32_t bytes)
{
    for (symbol *s = b->buckets[hash_text(name, bytes)]; s != NULL; s = s->shadowed)
        if (s->name_bytes == bytes && memcmp(s->name, name, bytes) == 0) return s;
    return NULL;
}

symbol *symbol_add(builder *b, const char *name, uint32_t bytes, symbol_kind kind)
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

int scope_open(builder *b)
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

void scope_close(builder *b)
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

/* ---- labels -----------------------------------------------------------------------------------
 */

int label_add(builder *b, const token *name)
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

int labels_resolve(builder *b)
{
    for (const branch_fixup *f = b->branches; f != NULL; f = f->next)
        if (!find_label(b, &f->name, f->scope, &b->function->code[f->insn].target)) return 0;
    for (const fixup *f = b->fixups; f != NULL; f = f->next)
        if (!find_label(b, &f->name, f->scope, f->where)) return 0;
    return 1;
}

int parse_branch_targets(builder *b, const token *name)
{
    lexer *x = &b->lex;
    uint32_t index;
    if (name->bytes == 0) return build_malformed(b, "a label before .branchtargets");
    if (!decode_branch_table(b, name, &index)) return 0;
    ptx_table *table = &b->function->tables[index];
    size_t capacity = 0;
    for (;;) {
        lex_next(x);
        if (x->now.kind != TOKEN_WORD) return build_malformed(b, "a label");
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
    return build_expect(b, ';');
}
