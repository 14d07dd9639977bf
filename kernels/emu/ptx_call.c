/* Calls. nvcc inlines nearly everything; what is left (__noinline__ functions, pow of doubles,
 * printf, assert) is expanded where it is called: the callee's text is read again inside a new
 * scope in which its parameters are other names of the caller's .param variables, and "ret" is a
 * branch to the end. So the interpreter needs no stack, and recursion is refused. */
#include <string.h>

#include "kernels/emu/exec.h"
#include "kernels/emu/ptx_build.h"

#define MAX_CALLS 24
#define MAX_ARGUMENTS 32

typedef struct device_function {
    struct device_function *next;
    token name;
    lexer signature; /* at what follows ".func" */
    int has_body;
} device_function;

static const char return_label[] = "{return}";

static int step_over(builder *b, char open, char close)
{
    lexer *x = &b->lex;
    uint32_t depth = 0;
    for (;; lex_next(x)) {
        if (x->now.kind == TOKEN_END) return build_malformed(b, "a closing bracket");
        if (lex_is_mark(x, open)) depth++;
        if (lex_is_mark(x, close) && --depth == 0) break;
    }
    lex_next(x);
    return 1;
}

/* Words like .noreturn or .align 16 before a name. */
static void skip_attributes(lexer *x)
{
    while (x->now.kind == TOKEN_WORD && x->now.text[0] == '.') {
        lex_next(x);
        while (x->now.kind == TOKEN_NUMBER || lex_is_mark(x, ',')) lex_next(x);
    }
}

static int function_remember(builder *b)
{
    lexer *x = &b->lex;
    lexer signature = *x;
    skip_attributes(x);
    if (lex_is_mark(x, '(') && !step_over(b, '(', ')')) return 0;
    if (x->now.kind != TOKEN_WORD) return build_malformed(b, "a function's name");
    device_function *f = pool_take(&b->module->memory, 1, sizeof *f);
    if (f == NULL) return build_no_memory(b);
    f->name = x->now;
    f->signature = signature;
    f->next = b->device_functions;
    lex_next(x);
    if (lex_is_mark(x, '(') && !step_over(b, '(', ')')) return 0;
    skip_attributes(x);
    f->has_body = lex_is_mark(x, '{');
    b->device_functions = f;
    return f->has_body ? step_over(b, '{', '}') : build_expect(b, ';');
}

int functions_find(builder *b)
{
    const lexer start = b->lex;
    lexer *x = &b->lex;
    while (x->now.kind != TOKEN_END) {
        if (lex_is_mark(x, '{')) {
            if (!step_over(b, '{', '}')) return 0;
        } else if (lex_is_word(x, ".func")) {
            lex_next(x);
            if (!function_remember(b)) return 0;
        } else {
            lex_next(x);
        }
    }
    b->lex = start;
    return 1;
}

static const device_function *find(const builder *b, const token *name)
{
    const device_function *declared = NULL;
    for (const device_function *f = b->device_functions; f != NULL; f = f->next) {
        if (f->name.bytes != name->bytes || memcmp(f->name.text, name->text, name->bytes) != 0)
            continue;
        if (f->has_body) return f;
        declared = f;
    }
    return declared;
}

/* ( name, name, ... ): .param variables of the caller. */
static int parse_arguments(builder *b, ptx_variable **out, uint32_t *n)
{
    lexer *x = &b->lex;
    *n = 0;
    if (!build_expect(b, '(')) return 0;
    while (!lex_is_mark(x, ')')) {
        symbol *s = x->now.kind == TOKEN_WORD ? symbol_find(b, x->now.text, x->now.bytes) : NULL;
        if (s == NULL || s->kind != SYMBOL_VARIABLE || !s->variable->is_argument ||
            *n == MAX_ARGUMENTS)
            return build_fail(b, CRANK_UNSUPPORTED, x->now.line,
                              "a call whose arguments are not .param variables");
        out[(*n)++] = s->variable;
        lex_next(x);
        if (lex_is_mark(x, ',')) lex_next(x);
    }
    return build_expect(b, ')');
}

/* ( .param .b32 name, ... ) of the callee: each is another name of an argument. */
static int bind_parameters(builder *b, ptx_variable *const *arguments, uint32_t n)
{
    lexer *x = &b->lex;
    uint32_t i = 0;
    if (!build_expect(b, '(')) return 0;
    while (!lex_is_mark(x, ')')) {
        skip_attributes(x);
        if (x->now.kind != TOKEN_WORD || i == n)
            return build_malformed(b, "as many parameters as the call has arguments");
        symbol *s = symbol_add(b, x->now.text, x->now.bytes, SYMBOL_VARIABLE);
        if (s == NULL) return 0;
        s->variable = arguments[i++];
        lex_next(x);
        while (lex_is_mark(x, '[') && step_over(b, '[', ']')) continue;
        if (lex_is_mark(x, ',')) lex_next(x);
    }
    if (i != n) return build_malformed(b, "as many parameters as the call has arguments");
    return build_expect(b, ')');
}

/* vprintf(format, arguments) and __assertfail(message, file, line, function, size): one instruction
 * that reads its arguments from local memory. */
static int call_builtin(builder *b, statement *s, const token *name, ptx_variable *const *arguments,
                        uint32_t n_arguments, ptx_variable *const *results, uint32_t n_results)
{
    int is_print = token_equals(name, "vprintf");
    if (!is_print && !token_equals(name, "__assertfail"))
        return build_fail(b, CRANK_UNSUPPORTED, s->line, "call of %.*s, which has no body here",
                          (int)(name->bytes < 60 ? name->bytes : 60), name->text);
    if (n_arguments < 2) return build_malformed(b, "its arguments");
    insn *in = build_insn(b, s);
    if (in == NULL) return 0;
    in->fn = exec_memory_functions[is_print ? MEMORY_PRINT : MEMORY_ASSERT];
    in->class = CLASS_OTHER;
    in->r[0] = (uint32_t)arguments[0]->offset;
    in->r[1] = (uint32_t)arguments[1]->offset;
    in->r[2] = n_arguments > 2 ? (uint32_t)arguments[2]->offset : UINT32_MAX;
    in->aux = n_results ? (uint32_t)results[0]->offset : UINT32_MAX;
    return 1;
}

static int branch_to_return(builder *b, statement *s)
{
    statement jump = {.line = s->line, .guard = s->guard, .guarded = s->guarded, .n_modifiers = 1};
    jump.modifier[0] = "bra";
    jump.n_operands = 1;
    jump.operands[0].kind = OPERAND_LABEL;
    jump.operands[0].text =
        (token){.kind = TOKEN_WORD, .text = return_label, .bytes = sizeof return_label - 1};
    return decode_statement(b, &jump);
}

int decode_return(builder *b, statement *s)
{
    return branch_to_return(b, s);
}

static int expand(builder *b, const device_function *f, statement *s,
                  ptx_variable *const *arguments, uint32_t n_arguments,
                  ptx_variable *const *results, uint32_t n_results)
{
    if (b->call_depth == MAX_CALLS)
        return build_fail(b, CRANK_UNSUPPORTED, s->line,
                          "calls nested more than %d deep (recursion is not interpreted)",
                          MAX_CALLS);
    const lexer after = b->lex;
    const uint32_t loc = b->loc, call_loc = b->call_loc;
    lexer *x = &b->lex;
    b->lex = f->signature;
    b->call_loc = loc;
    b->call_depth++;
    if (!scope_open(b)) return 0;
    skip_attributes(x);
    if (lex_is_mark(x, '(')) {
        if (!bind_parameters(b, results, n_results)) return 0;
    } else if (n_results) {
        return build_malformed(b, "a result");
    }
    lex_next(x); /* its name */
    if (lex_is_mark(x, '(')) {
        if (!bind_parameters(b, arguments, n_arguments)) return 0;
    } else if (n_arguments) {
        return build_malformed(b, "parameters");
    }
    skip_attributes(x);
    if (s->guarded) { /* lanes that do not call skip the body */
        s->guarded = s->guarded == 1 ? 2 : 1;
        if (!branch_to_return(b, s)) return 0;
    }
    if (!lex_is_mark(x, '{')) return build_malformed(b, "'{'");
    if (!parse_body(b)) return 0;
    const token end = {.kind = TOKEN_WORD,
                       .text = return_label,
                       .bytes = sizeof return_label - 1,
                       .line = s->line};
    if (!label_add(b, &end)) return 0;
    scope_close(b);
    b->call_depth--;
    b->lex = after;
    b->loc = loc;
    b->call_loc = call_loc;
    return 1;
}

int parse_call(builder *b, statement *s)
{
    lexer *x = &b->lex;
    ptx_variable *results[MAX_ARGUMENTS], *arguments[MAX_ARGUMENTS];
    uint32_t n_results = 0, n_arguments = 0;
    if (s->n_modifiers > 2 || (s->n_modifiers == 2 && strcmp(s->modifier[1], "uni") != 0))
        return build_fail(b, CRANK_UNSUPPORTED, s->line, "instruction %s is not interpreted",
                          s->mnemonic);
    if (lex_is_mark(x, '(')) {
        if (!parse_arguments(b, results, &n_results) || !build_expect(b, ',')) return 0;
    }
    if (x->now.kind != TOKEN_WORD) return build_malformed(b, "a function's name");
    const token name = x->now;
    lex_next(x);
    if (lex_is_mark(x, ',')) {
        lex_next(x);
        if (!parse_arguments(b, arguments, &n_arguments)) return 0;
    }
    if (!lex_is_mark(x, ';'))
        return build_fail(b, CRANK_UNSUPPORTED, s->line, "a call through a pointer");
    lex_next(x);
    const device_function *f = find(b, &name);
    if (f == NULL)
        return build_fail(b, CRANK_UNSUPPORTED, s->line, "call of %.*s, which is not in the module",
                          (int)(name.bytes < 60 ? name.bytes : 60), name.text);
    return f->has_body ? expand(b, f, s, arguments, n_arguments, results, n_results)
                       : call_builtin(b, s, &name, arguments, n_arguments, results, n_results);
}
