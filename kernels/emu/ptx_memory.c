/* The families that touch memory, taken apart modifier by modifier: ld, st, atom, red, cp.async,
 * ldmatrix, stmatrix. What is not known is refused. */
#include <string.h>

#include "kernels/emu/ops.h"
#include "kernels/emu/ptx_decode.h"

/* ---- modifiers --------------------------------------------------------------------------------
 */

static int has(const char *word, const char *const *list)
{
    for (; *list != NULL; list++)
        if (strcmp(word, *list) == 0) return 1;
    return 0;
}

static const char *const memory_orders[] = {"weak",    "relaxed", "acquire", "release",
                                            "acq_rel", "mmio",    NULL};
static const char *const scopes[] = {"cta", "cluster", "gpu", "sys", NULL};
static const char *const cache_hints[] = {"ca",
                                          "cg",
                                          "cs",
                                          "lu",
                                          "cv",
                                          "wb",
                                          "wt",
                                          "unified",
                                          "L1::evict_normal",
                                          "L1::evict_unchanged",
                                          "L1::evict_first",
                                          "L1::evict_last",
                                          "L1::no_allocate",
                                          "L2::evict_normal",
                                          "L2::evict_first",
                                          "L2::evict_last",
                                          "L2::64B",
                                          "L2::128B",
                                          "L2::256B",
                                          NULL};

/* Type word -> bytes and signedness; 0 when it is none that moves through memory. */
uint32_t decode_memory_type(const char *word, int *is_signed)
{
    static const struct {
        const char *name;
        uint32_t bytes;
        int is_signed;
    } types[] = {{"b8", 1, 0},  {"u8", 1, 0},  {"s8", 1, 1},    {"b16", 2, 0},    {"u16", 2, 0},
                 {"s16", 2, 1}, {"f16", 2, 0}, {"bf16", 2, 0},  {"b32", 4, 0},    {"u32", 4, 0},
                 {"s32", 4, 1}, {"f32", 4, 0}, {"f16x2", 4, 0}, {"bf16x2", 4, 0}, {"b64", 8, 0},
                 {"u64", 8, 0}, {"s64", 8, 1}, {"f64", 8, 0}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(word, types[i].name) == 0) {
            *is_signed = types[i].is_signed;
            return types[i].bytes;
        }
    return 0;
}

static int memory_space(const char *word, ptx_space *space)
{
    static const struct {
        const char *name;
        ptx_space space;
    } spaces[] = {{"global", SPACE_GLOBAL},      {"shared", SPACE_SHARED},
                  {"shared::cta", SPACE_SHARED}, {"local", SPACE_LOCAL},
                  {"const", SPACE_CONST},        {"param", SPACE_PARAM},
                  {"param::entry", SPACE_PARAM}};
    for (size_t i = 0; i < sizeof spaces / sizeof spaces[0]; i++)
        if (strcmp(word, spaces[i].name) == 0) {
            *space = spaces[i].space;
            return 1;
        }
    return 0;
}

/* An address operand -> row, constant offset, flags. */
static int bind_address(builder *b, const statement *s, const operand *o, ptx_space space,
                        uint32_t *place, int64_t *offset, uint8_t *flags)
{
    if (!o->in_brackets || o->negated) return bind_bad_operands(b, s);
    *offset = 0;
    switch (o->kind) {
    case OPERAND_REGISTER:
        *place = o->place;
        *offset = (int64_t)o->bits;
        if (o->width == 4)
            *flags |= INSN_ADDRESS32;
        else if (o->width != 8)
            return bind_bad_operands(b, s);
        /* 32-bit addresses reach shared, local and parameter memory only. */
        if (o->width == 4 &&
            (space == SPACE_GLOBAL || space == SPACE_GENERIC || space == SPACE_CONST))
            return bind_bad_operands(b, s);
        return 1;
    case OPERAND_VARIABLE: {
        ptx_space own = o->variable->is_argument ? SPACE_PARAM : o->variable->space;
        if (own != space && space != SPACE_GENERIC) return bind_bad_operands(b, s);
        *place = build_address(b, o->variable, o->bits, 8);
        if (*place != UINT32_MAX && space == SPACE_GENERIC && own == SPACE_SHARED)
            *offset = (int64_t)GENERIC_SHARED;
        if (*place != UINT32_MAX && space == SPACE_GENERIC && own == SPACE_LOCAL)
            *offset = (int64_t)GENERIC_LOCAL;
        return *place != UINT32_MAX;
    }
    case OPERAND_IMMEDIATE: *place = build_constant(b, 8, o->bits, 0); return *place != UINT32_MAX;
    case OPERAND_PARAMETER:
        if (space != SPACE_PARAM) return bind_bad_operands(b, s);
        *place = build_constant(b, 8, b->function->parameters[o->parameter].offset + o->bits, 0);
        return *place != UINT32_MAX;
    default: return bind_bad_operands(b, s);
    }
}

/* ---- ld, st -----------------------------------------------------------------------------------
 */

/* A .param of a call: it lies in the thread's local memory. */
static int is_argument(const operand *o)
{
    return o->kind == OPERAND_VARIABLE && o->variable->is_argument;
}

typedef struct memory_form {
    ptx_space space;
    uint32_t bytes, count;
    int is_signed, has_policy, is_shared_with_others;
} memory_form;

static int parse_memory_form(builder *b, const statement *s, memory_form *form)
{
    memset(form, 0, sizeof *form);
    form->space = SPACE_GENERIC;
    form->count = 1;
    for (int i = 1; i < s->n_modifiers; i++) {
        const char *word = s->modifier[i];
        int last = i == s->n_modifiers - 1;
        if (last) {
            form->bytes = decode_memory_type(word, &form->is_signed);
            if (form->bytes == 0) return bind_unsupported(b, s);
        } else if (strcmp(word, "v2") == 0) {
            form->count = 2;
        } else if (strcmp(word, "v4") == 0) {
            form->count = 4;
        } else if (strcmp(word, "L2::cache_hint") == 0) {
            form->has_policy = 1;
        } else if (strcmp(word, "volatile") == 0 || has(word, memory_orders)) {
            form->is_shared_with_others |= strcmp(word, "weak") != 0;
        } else if (strcmp(word, "nc") != 0 && !memory_space(word, &form->space) &&
                   !has(word, scopes) && !has(word, cache_hints)) {
            return bind_unsupported(b, s);
        }
    }
    if (form->bytes == 0 || form->bytes * form->count > 32) return bind_unsupported(b, s);
    return 1;
}

static insn_class load_class(ptx_space space, int is_store)
{
    switch (space) {
    case SPACE_SHARED: return is_store ? CLASS_ST_SHARED : CLASS_LD_SHARED;
    case SPACE_LOCAL: return CLASS_LOCAL;
    case SPACE_PARAM: return CLASS_PARAM;
    default: return is_store ? CLASS_ST_GLOBAL : CLASS_LD_GLOBAL;
    }
}

int decode_load(builder *b, statement *s)
{
    memory_form form;
    if (!parse_memory_form(b, s, &form)) return 0;
    int n = (int)form.count;
    if (s->n_operands != n + 1 + form.has_policy) return bind_bad_operands(b, s);
    uint32_t r[PTX_MAX_OPERANDS] = {0}, width = 0;
    for (int i = 0; i < n; i++) {
        const operand *o = &s->operands[i];
        if (o->kind == OPERAND_SINK) continue;
        if (o->kind != OPERAND_REGISTER || o->width < form.bytes || (width && width != o->width))
            return bind_bad_operands(b, s);
        width = o->width;
        r[i] = o->place;
    }
    if (width == 0) width = form.bytes < 2 ? 2 : form.bytes;
    for (int i = 0; i < n; i++)
        if (s->operands[i].kind == OPERAND_SINK && (r[i] = build_register(b, width)) == UINT32_MAX)
            return 0;
    const operand *address = &s->operands[n];
    int64_t offset;
    uint8_t flags = 0;
    memory_function function = MEMORY_LOAD;
    ptx_space space = form.space == SPACE_CONST ? SPACE_CONST : form.space;
    if (space == SPACE_PARAM && address->kind == OPERAND_PARAMETER && address->in_brackets) {
        const ptx_parameter *p = &b->function->parameters[address->parameter];
        if (address->bits > p->bytes || form.bytes * form.count > p->bytes - address->bits)
            return build_fail(b, CRANK_FORMAT, s->line, "%s reads past parameter %s", s->mnemonic,
                              p->name);
        offset = (int64_t)(p->offset + address->bits);
        function = MEMORY_LOAD_PARAMETER;
    } else if (!bind_address(b, s, address, space, &r[n], &offset, &flags)) {
        return 0;
    }
    insn *in = build_insn(b, s);
    if (in == NULL) return 0;
    memcpy(in->r, r, sizeof r);
    in->fn = exec_memory_functions[function];
    in->imm = offset;
    in->class = (uint8_t)load_class(space, 0);
    in->space = (uint8_t)(space == SPACE_CONST                           ? SPACE_GLOBAL
                          : space == SPACE_PARAM && is_argument(address) ? SPACE_LOCAL
                                                                         : space);
    in->size = (uint8_t)form.bytes;
    in->count = (uint8_t)form.count;
    in->width = (uint8_t)width;
    in->flags |= (uint8_t)(flags | (form.is_signed ? INSN_SIGNED : 0));
    if (form.is_shared_with_others && in->space == SPACE_GLOBAL) b->function->needs_order = 1;
    return 1;
}

int decode_store(builder *b, statement *s)
{
    memory_form form;
    if (!parse_memory_form(b, s, &form)) return 0;
    int n = (int)form.count;
    if (s->n_operands != n + 1 + form.has_policy || form.space == SPACE_CONST ||
        (form.space == SPACE_PARAM && !is_argument(&s->operands[0])))
        return bind_bad_operands(b, s);
    uint32_t r[PTX_MAX_OPERANDS] = {0}, width = 0;
    for (int i = 1; i <= n; i++) {
        const operand *o = &s->operands[i];
        if (o->kind != OPERAND_REGISTER) continue;
        if (o->width < form.bytes || (width && width != o->width)) return bind_bad_operands(b, s);
        width = o->width;
        r[i] = o->place;
    }
    if (width == 0) width = form.bytes < 2 ? 2 : form.bytes;
    char letter = width == 2 ? 'h' : width == 4 ? 'w' : 'd';
    for (int i = 1; i <= n; i++)
        if (s->operands[i].kind != OPERAND_REGISTER &&
            !bind_source(b, s, &s->operands[i], letter, &r[i]))
            return 0;
    int64_t offset;
    uint8_t flags = 0;
    if (!bind_address(b, s, &s->operands[0], form.space, &r[0], &offset, &flags)) return 0;
    insn *in = build_insn(b, s);
    if (in == NULL) return 0;
    memcpy(in->r, r, sizeof r);
    in->fn = exec_memory_functions[MEMORY_STORE];
    in->imm = offset;
    in->class = (uint8_t)load_class(form.space, 1);
    in->space = (uint8_t)(form.space == SPACE_PARAM ? SPACE_LOCAL : form.space);
    in->size = (uint8_t)form.bytes;
    in->count = (uint8_t)form.count;
    in->width = (uint8_t)width;
    in->flags |= flags;
    return 1;
}

/* ---- atomics ----------------------------------------------------------------------------------
 */

static int atomic_operation_of(const char *op, const char *type, atomic_operation *out)
{
    static const struct {
        const char *op, *types;
        atomic_operation operation;
    } table[] = {
        {"add", " u32 s32 u64 s64 ", ATOMIC_ADD},
        {"add", " f32 ", ATOMIC_ADD_F32},
        {"add", " f64 ", ATOMIC_ADD_F64},
        {"add", " f16 ", ATOMIC_ADD_F16},
        {"add", " bf16 ", ATOMIC_ADD_BF16},
        {"add", " f16x2 ", ATOMIC_ADD_F16X2},
        {"add", " bf16x2 ", ATOMIC_ADD_BF16X2},
        {"min", " u32 u64 ", ATOMIC_MIN_U},
        {"max", " u32 u64 ", ATOMIC_MAX_U},
        {"min", " s32 ", ATOMIC_MIN_S32},
        {"max", " s32 ", ATOMIC_MAX_S32},
        {"min", " s64 ", ATOMIC_MIN_S64},
        {"max", " s64 ", ATOMIC_MAX_S64},
        {"and", " b32 b64 ", ATOMIC_AND},
        {"or", " b32 b64 ", ATOMIC_OR},
        {"xor", " b32 b64 ", ATOMIC_XOR},
        {"exch", " b32 b64 ", ATOMIC_EXCH},
        {"cas", " b16 b32 b64 ", ATOMIC_CAS},
        {"inc", " u32 ", ATOMIC_INC},
        {"dec", " u32 ", ATOMIC_DEC},
    };
    char word[16] = " ";
    if (strlen(type) > sizeof word - 3) return 0;
    strcat(word, type);
    strcat(word, " ");
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (strcmp(op, table[i].op) == 0 && strstr(table[i].types, word) != NULL) {
            *out = table[i].operation;
            return 1;
        }
    return 0;
}

/* atom{.sem}{.scope}{.space}.op{.noftz}.type d, [a], b{, c} and red without d. */
int decode_atomic(builder *b, statement *s)
{
    int is_red = strcmp(s->modifier[0], "red") == 0;
    ptx_space space = SPACE_GENERIC;
    const char *op = NULL;
    for (int i = 1; i < s->n_modifiers - 1; i++) {
        const char *word = s->modifier[i];
        if (has(word, memory_orders) || has(word, scopes) || memory_space(word, &space)) continue;
        if (strcmp(word, "noftz") == 0 && op != NULL) continue;
        if (op != NULL) return bind_unsupported(b, s);
        op = word;
    }
    if (s->n_modifiers < 3 || op == NULL) return bind_unsupported(b, s);
    const char *type = s->modifier[s->n_modifiers - 1];
    int is_signed;
    uint32_t bytes = decode_memory_type(type, &is_signed);
    atomic_operation operation;
    if (bytes == 0 || !atomic_operation_of(op, type, &operation)) return bind_unsupported(b, s);
    int at = is_red ? 0 : 1;
    int n_operands = at + 2 + (operation == ATOMIC_CAS);
    if (s->n_operands != n_operands) return bind_bad_operands(b, s);
    char letter = bytes == 2 ? 'h' : bytes == 4 ? 'w' : 'd';
    uint32_t r[PTX_MAX_OPERANDS] = {0};
    int widen = 0;
    if (is_red) {
        if ((r[0] = build_register(b, bytes)) == UINT32_MAX) return 0;
    } else {
        if (!bind_destination(b, s, &s->operands[0], letter, &r[0], &widen)) return 0;
        if (widen) return bind_bad_operands(b, s);
    }
    int64_t offset;
    uint8_t flags = 0;
    if (!bind_address(b, s, &s->operands[at], space, &r[1], &offset, &flags)) return 0;
    if (!bind_source(b, s, &s->operands[at + 1], letter, &r[2])) return 0;
    if (operation == ATOMIC_CAS && !bind_source(b, s, &s->operands[at + 2], letter, &r[3]))
        return 0;
    insn *in = build_insn(b, s);
    if (in == NULL) return 0;
    memcpy(in->r, r, sizeof r);
    in->fn = exec_memory_functions[MEMORY_ATOMIC];
    in->imm = offset;
    in->class = CLASS_ATOMIC;
    in->space = (uint8_t)space;
    in->size = (uint8_t)bytes;
    in->width = (uint8_t)bytes;
    in->count = 1;
    in->aux = (uint32_t)operation;
    in->flags |= flags;
    if (space != SPACE_SHARED) b->function->needs_order = 1;
    return 1;
}

/* ---- cp.async, ldmatrix -----------------------------------------------------------------------
 */

int decode_cp_async(builder *b, statement *s)
{
    if (s->n_modifiers == 3 && strcmp(s->modifier[2], "commit_group") == 0) {
        insn *in = s->n_operands == 0 ? build_insn(b, s) : NULL;
        if (in == NULL) return bind_bad_operands(b, s);
        in->fn = exec_memory_functions[MEMORY_COMMIT_GROUP];
        in->class = CLASS_CP_ASYNC;
        return 1;
    }
    if (s->n_modifiers == 3 && strcmp(s->modifier[2], "wait_all") == 0) {
        insn *in = s->n_operands == 0 ? build_insn(b, s) : NULL;
        if (in == NULL) return bind_bad_operands(b, s);
        in->fn = exec_memory_functions[MEMORY_WAIT_ALL];
        in->class = CLASS_CP_ASYNC;
        return 1;
    }
    if (s->n_modifiers == 3 && strcmp(s->modifier[2], "wait_group") == 0) {
        if (s->n_operands != 1 || s->operands[0].kind != OPERAND_IMMEDIATE)
            return bind_bad_operands(b, s);
        insn *in = build_insn(b, s);
        if (in == NULL) return 0;
        in->fn = exec_memory_functions[MEMORY_WAIT_GROUP];
        in->class = CLASS_CP_ASYNC;
        in->aux = (uint32_t)s->operands[0].bits;
        return 1;
    }
    /* cp.async.{ca,cg}.shared{::cta}.global{.L2::...} [d], [s], size{, bytes}{, policy} */
    ptx_space to;
    int is_cg = s->n_modifiers > 2 && strcmp(s->modifier[2], "cg") == 0;
    if (s->n_modifiers < 5 || (!is_cg && strcmp(s->modifier[2], "ca") != 0) ||
        !memory_space(s->modifier[3], &to) || to != SPACE_SHARED ||
        strcmp(s->modifier[4], "global") != 0)
        return bind_unsupported(b, s);
    int has_policy = 0;
    for (int i = 5; i < s->n_modifiers; i++) {
        if (strcmp(s->modifier[i], "L2::cache_hint") == 0)
            has_policy = 1;
        else if (!has(s->modifier[i], cache_hints))
            return bind_unsupported(b, s);
    }
    int n = s->n_operands - has_policy;
    if (n != 3 && n != 4) return bind_bad_operands(b, s);
    const operand *size = &s->operands[2];
    if (size->kind != OPERAND_IMMEDIATE) return bind_bad_operands(b, s);
    if (!(size->bits == 16 || (!is_cg && (size->bits == 4 || size->bits == 8))))
        return build_fail(b, CRANK_FORMAT, s->line, "%s of %llu bytes", s->mnemonic,
                          (unsigned long long)size->bits);
    uint32_t r[PTX_MAX_OPERANDS] = {0};
    int64_t offset, source_offset;
    uint8_t flags = 0, source_flags = 0;
    if (!bind_address(b, s, &s->operands[0], SPACE_SHARED, &r[0], &offset, &flags) ||
        !bind_address(b, s, &s->operands[1], SPACE_GLOBAL, &r[1], &source_offset, &source_flags))
        return 0;
    if (source_offset != (int32_t)source_offset) return bind_bad_operands(b, s);
    if (n == 4) {
        if (s->operands[3].kind == OPERAND_REGISTER && s->operands[3].width == 0)
            return bind_bad_operands(b, s); /* ignore-src */
        if (!bind_source(b, s, &s->operands[3], 'w', &r[2])) return 0;
        flags |= INSN_ZERO_FILL;
    }
    insn *in = build_insn(b, s);
    if (in == NULL) return 0;
    memcpy(in->r, r, sizeof r);
    in->fn = exec_memory_functions[MEMORY_CP_ASYNC];
    in->class = CLASS_CP_ASYNC;
    in->imm = offset;
    in->aux = (uint32_t)(int32_t)source_offset;
    in->size = (uint8_t)size->bits;
    in->space = SPACE_SHARED;
    in->flags |= flags;
    return 1;
}

/* ldmatrix.sync.aligned.m8n8.xN{.trans}.shared{::cta}.b16 and stmatrix likewise. */
int decode_matrix(builder *b, statement *s)
{
    int is_load = strcmp(s->modifier[0], "ldmatrix") == 0;
    int i = 1, trans = 0;
    uint32_t count;
    ptx_space space;
    if (s->n_modifiers < 7 || strcmp(s->modifier[i++], "sync") != 0 ||
        strcmp(s->modifier[i++], "aligned") != 0 || strcmp(s->modifier[i++], "m8n8") != 0)
        return bind_unsupported(b, s);
    const char *x = s->modifier[i++];
    count = x[0] == 'x' && x[1] >= '1' && x[1] <= '4' && x[2] == '\0' ? (uint32_t)(x[1] - '0') : 0;
    if (count == 0 || count == 3) return bind_unsupported(b, s);
    if (strcmp(s->modifier[i], "trans") == 0) {
        trans = 1;
        i++;
    }
    if (i + 2 != s->n_modifiers || !memory_space(s->modifier[i], &space) || space != SPACE_SHARED ||
        strcmp(s->modifier[i + 1], "b16") != 0)
        return bind_unsupported(b, s);
    if (s->n_operands != (int)count + 1) return bind_bad_operands(b, s);
    uint32_t r[PTX_MAX_OPERANDS] = {0};
    int first = is_load ? 0 : 1, at = is_load ? (int)count : 0;
    for (uint32_t e = 0; e < count; e++) {
        const operand *o = &s->operands[(uint32_t)first + e];
        if (o->kind != OPERAND_REGISTER || o->width != 4) return bind_bad_operands(b, s);
        r[(uint32_t)first + e] = o->place;
    }
    int64_t offset;
    uint8_t flags = 0;
    if (!bind_address(b, s, &s->operands[at], SPACE_SHARED, &r[at], &offset, &flags)) return 0;
    insn *in = build_insn(b, s);
    if (in == NULL) return 0;
    memcpy(in->r, r, sizeof r);
    in->fn = exec_memory_functions[is_load ? MEMORY_LDMATRIX : MEMORY_STMATRIX];
    in->kind = KIND_SYNC_ALL;
    in->class = is_load ? CLASS_LDMATRIX : CLASS_ST_SHARED;
    in->imm = offset;
    in->space = SPACE_SHARED;
    in->count = (uint8_t)count;
    in->size = 16;
    in->flags |= (uint8_t)(flags | (trans ? INSN_TRANS : 0));
    return 1;
}
