/* PTX text -> ptx_module: directives, scopes, symbols, labels. Statements go to ptx_decode.c.
 *
 * Braces are scopes: inline assembly arrives as "{ .reg .b32 t; ... }", often on one line, and two
 * copies of it may declare the same names. A register family (%r<512>) gets a row only for the
 * members that are used. Nesting is counted, not recursed into. */
#include <stdio.h>
#include <string.h>

#include "kernels/emu/ptx_build.h"
#include "memory.h"

#define MAX_PTX_BYTES ((size_t)1 << 30)

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
            return build_malformed(b, "function_name or inlined_at");
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
    if (loc.at_line == 0)
        loc.outer = b->call_loc;
    else
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
    if (x->now.kind != TOKEN_STRING) return build_malformed(b, "a file name");
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
        if (x->now.kind == TOKEN_END) return build_malformed(b, "'}'");
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
    return build_expect(b, mark);
}

/* ---- functions --------------------------------------------------------------------------------
 */

/* ( .param .type name[n], ... ) at natural alignment, as the driver lays the arguments out. */
static int parse_parameters(builder *b)
{
    lexer *x = &b->lex;
    ptx_function *f = b->function;
    size_t capacity = 0;
    if (!build_expect(b, '(')) return 0;
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
        if (x->now.kind != TOKEN_WORD || element <= 0) return build_malformed(b, "a parameter");
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
    return build_expect(b, ')');
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

int parse_body(builder *b)
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
            } else if (token_equals(&t, ".shared") || token_equals(&t, ".local") ||
                       token_equals(&t, ".param")) {
                ptx_space space = token_equals(&t, ".shared")  ? SPACE_SHARED
                                  : token_equals(&t, ".local") ? SPACE_LOCAL
                                                               : SPACE_PARAM;
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
                if (!label_add(b, &name)) return 0;
            } else {
                *x = before;
                if (!parse_statement(b)) return 0;
            }
        } else if (lex_is_mark(x, '@')) {
            if (!parse_statement(b)) return 0;
        } else {
            return build_malformed(b, "a statement");
        }
    } while (b->depth > outermost);
    return 1;
}

static int parse_function(builder *b, int is_entry)
{
    lexer *x = &b->lex;
    ptx_module *m = b->module;
    lex_next(x);
    if (!is_entry) { /* functions_find has seen it */
        while (x->now.kind != TOKEN_END && !lex_is_mark(x, '{') && !lex_is_mark(x, ';'))
            lex_next(x);
        return lex_is_mark(x, '{') ? skip_braces(b) : build_expect(b, ';');
    }
    if (x->now.kind != TOKEN_WORD) return build_malformed(b, "a kernel's name");
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
    if (!lex_is_mark(x, '{')) return build_malformed(b, "'{'");
    if (!parse_body(b)) return 0;
    statement end = {
        .line = x->now.line, .mnemonic = "exit", .modifier = {"exit"}, .n_modifiers = 1};
    if (!decode_statement(b, &end) || !labels_resolve(b)) return 0;
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
        return build_malformed(b, "a version");
    memcpy(text, x->now.text, x->now.bytes);
    text[x->now.bytes] = '\0';
    if (sscanf(text, "%u.%u", &major, &minor) != 2 || major > 99 || minor > 9)
        return build_malformed(b, "a version");
    b->module->version = major * 10 + minor;
    lex_next(x);
    return 1;
}

static int parse_target(builder *b)
{
    lexer *x = &b->lex;
    do {
        lex_next(x);
        if (x->now.kind != TOKEN_WORD) return build_malformed(b, "a target");
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
        if (x->now.kind != TOKEN_WORD) return build_malformed(b, "a directive");
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
            if (functions_find(b)) parse_module(b);
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
