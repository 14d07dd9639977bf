/* One PTX statement -> instructions. Most mnemonics are rows of the tables in exec_*.c, found by
 * their whole name, so what is not there is refused. Their signature says how operands bind:
 *     destinations ':' sources, one letter each
 *     h w d     a 16, 32, 64-bit row; H and W: sign-extended when the register is wider
 *     f g       f32, f64 (decides what a literal means)
 *     p         predicate; P: the optional second destination behind '|'
 *     i         an immediate, kept in insn.aux
 *     C         no operand: the instruction writes the carry flag (insn.aux = 1)
 * Families with many modifiers (ld, st, atom, bar, cp.async, ...) are taken apart here, each
 * modifier checked.
 *
 * PTX lets cvt, ld and st use registers wider than their type: a hidden move narrows the source or
 * widens the destination, and is not counted. */
#include <string.h>

#include "kernels/emu/ops.h"
#include "kernels/emu/ptx_build.h"

static int unsupported(builder *b, const statement *s)
{
    return build_fail(b, CRANK_UNSUPPORTED, s->line, "instruction %s is not interpreted",
                      s->mnemonic);
}

static int bad_operands(builder *b, const statement *s)
{
    return build_fail(b, CRANK_UNSUPPORTED, s->line,
                      "%s: operands of this form are not interpreted", s->mnemonic);
}

/* ---- rows -------------------------------------------------------------------------------------
 */

static uint32_t hash_name(const char *name)
{
    uint32_t h = 2166136261u;
    for (; *name; name++) h = (h ^ (uint8_t)*name) * 16777619u;
    return h;
}

static const op_row *row_at(const op_table *const *tables, uint32_t code)
{
    return &tables[code >> 12]->rows[code & 0xfff];
}

/* The builder's index is filled on first use: code + 1 of a row, 0 = free. */
static const op_row *find_row(builder *b, const char *name)
{
    const op_table *const *tables = ops_tables();
    if (!b->rows_indexed) {
        for (uint32_t t = 0; t < N_OP_TABLES; t++)
            for (uint32_t i = 0; i < tables[t]->n; i++) {
                uint32_t h = hash_name(tables[t]->rows[i].name) % ROW_INDEX;
                while (b->row_index[h]) h = (h + 1) % ROW_INDEX;
                b->row_index[h] = (uint16_t)((t << 12 | i) + 1);
            }
        b->rows_indexed = 1;
    }
    for (uint32_t h = hash_name(name) % ROW_INDEX; b->row_index[h]; h = (h + 1) % ROW_INDEX) {
        const op_row *row = row_at(tables, b->row_index[h] - 1u);
        if (strcmp(row->name, name) == 0) return row;
    }
    return NULL;
}

/* A hidden instruction with one destination and up to one source. */
static int emit_hidden(builder *b, const statement *s, const char *name, uint32_t to, uint32_t from)
{
    const op_row *row = find_row(b, name);
    b->next_is_hidden = 1;
    insn *in = build_insn(b, s);
    b->next_is_hidden = 0;
    if (row == NULL || in == NULL) return build_fail(b, CRANK_INTERNAL, s->line, "no row %s", name);
    in->fn = row->fn;
    in->r[0] = to;
    in->r[1] = from;
    return 1;
}

static const char *move_name(uint32_t from, uint32_t to, int is_signed)
{
    switch (from * 16 + to) {
    case 0x42: return "{narrow.32.16}";
    case 0x82: return "{narrow.64.16}";
    case 0x84: return "{narrow.64.32}";
    case 0x24: return is_signed ? "{widen.s16.32}" : "{widen.u16.32}";
    case 0x28: return is_signed ? "{widen.s16.64}" : "{widen.u16.64}";
    case 0x48: return is_signed ? "{widen.s32.64}" : "{widen.u32.64}";
    default: return NULL;
    }
}

static uint32_t letter_width(char letter)
{
    switch (letter) {
    case 'h':
    case 'H': return 2;
    case 'w':
    case 'W':
    case 'f': return 4;
    case 'd':
    case 'g': return 8;
    default: return 0;
    }
}

static uint64_t immediate_bits(const operand *o, char letter)
{
    uint64_t bits = o->bits;
    if (o->is_float == 2 && letter != 'g' && letter != 'd') {
        double wide;
        float narrow;
        uint32_t narrow_bits;
        memcpy(&wide, &bits, 8);
        narrow = (float)wide;
        memcpy(&narrow_bits, &narrow, 4);
        return narrow_bits;
    }
    if (o->is_float == 1 && letter == 'g') {
        uint32_t narrow_bits = (uint32_t)bits;
        float narrow;
        memcpy(&narrow, &narrow_bits, 4);
        double wide = (double)narrow;
        memcpy(&bits, &wide, 8);
    }
    return bits;
}

/* The row that holds source o as the signature letter wants it. */
static int bind_source(builder *b, const statement *s, const operand *o, char letter,
                       uint32_t *place)
{
    uint32_t width = letter_width(letter);
    if (o->in_brackets) return bad_operands(b, s);
    if (letter == 'p') {
        if (o->kind == OPERAND_IMMEDIATE) {
            *place = build_constant(b, 0, o->bits ? FULL_WARP : 0, 0);
            return *place != UINT32_MAX;
        }
        if (o->kind != OPERAND_REGISTER || o->width != 0) return bad_operands(b, s);
        *place = o->place;
        if (o->negated) {
            uint32_t inverse = build_register(b, 0);
            if (inverse == UINT32_MAX) return 0;
            statement always = *s;
            always.guarded = 0;
            if (!emit_hidden(b, &always, "not.pred", inverse, o->place)) return 0;
            *place = inverse;
        }
        return 1;
    }
    if (width == 0 || o->negated) return bad_operands(b, s);
    uint32_t from = 0, from_width = 0;
    switch (o->kind) {
    case OPERAND_REGISTER:
        if (o->bits != 0) return bad_operands(b, s);
        from = o->place;
        from_width = o->width;
        break;
    case OPERAND_IMMEDIATE:
        *place = build_constant(b, width, immediate_bits(o, letter), 0);
        return *place != UINT32_MAX;
    case OPERAND_VARIABLE:
        if (width < 4) return bad_operands(b, s);
        *place = build_address(b, o->variable, o->bits, width);
        return *place != UINT32_MAX;
    case OPERAND_PARAMETER:
        if (width < 4) return bad_operands(b, s);
        *place =
            build_constant(b, width, b->function->parameters[o->parameter].offset + o->bits, 0);
        return *place != UINT32_MAX;
    case OPERAND_SPECIAL:
        if (o->special == SPECIAL_CLOCK || o->special == SPECIAL_CLOCK64) {
            from_width = o->special == SPECIAL_CLOCK ? 4 : 8;
            from = build_register(b, from_width);
            if (from == UINT32_MAX) return 0;
            if (!emit_hidden(b, s, from_width == 4 ? "{clock.32}" : "{clock.64}", from, 0))
                return 0;
        } else {
            from = build_special(b, o->special);
            from_width = 4;
            if (from == UINT32_MAX) return 0;
        }
        break;
    default:
        return build_fail(b, CRANK_FORMAT, s->line, "%s: unknown name %.*s", s->mnemonic,
                          (int)(o->text.bytes < 60 ? o->text.bytes : 60), o->text.text);
    }
    if (from_width == width) {
        *place = from;
        return 1;
    }
    if (from_width == 0 || (from_width < width && o->kind != OPERAND_SPECIAL))
        return bad_operands(b, s);
    *place = build_register(b, width);
    if (*place == UINT32_MAX) return 0;
    return emit_hidden(b, s, move_name(from_width, width, 0), *place, from);
}

/* The row that a destination is written to; widen is set when a hidden move must follow. */
static int bind_destination(builder *b, const statement *s, const operand *o, char letter,
                            uint32_t *place, int *widen)
{
    uint32_t width = letter_width(letter);
    *widen = 0;
    if (o->kind == OPERAND_SINK) {
        *place = build_register(b, letter == 'p' || letter == 'P' ? 0 : width);
        return *place != UINT32_MAX;
    }
    if (o->kind != OPERAND_REGISTER || o->in_brackets || o->negated || o->bits)
        return bad_operands(b, s);
    if (o->width == width || ((letter == 'p' || letter == 'P') && o->width == 0)) {
        *place = o->place;
        return 1;
    }
    if (o->width < width || width == 0) return bad_operands(b, s);
    *widen = 1;
    *place = build_register(b, width);
    return *place != UINT32_MAX;
}

/* Binds operands[first..] to the row's signature and appends the instruction (and its moves). */
static insn *bind_row(builder *b, const statement *s, const op_row *row, int *used)
{
    uint32_t r[PTX_MAX_OPERANDS] = {0}, aux = 0;
    int n = 0, next = 0, n_destinations = 0;
    const char *letter = row->signature;
    const operand *wide_to[8];
    uint32_t wide_from[8];
    char wide_letter[8];
    int n_wide = 0;
    for (; *letter != ':'; letter++) {
        int widen = 0;
        if (*letter == 'P') {
            if (next < s->n_operands && s->operands[next].piped) {
                if (!bind_destination(b, s, &s->operands[next++], 'P', &r[n], &widen)) return NULL;
            } else if ((r[n] = build_register(b, 0)) == UINT32_MAX) {
                return NULL;
            }
        } else {
            if (next >= s->n_operands || s->operands[next].piped) {
                bad_operands(b, s);
                return NULL;
            }
            const operand *o = &s->operands[next++];
            if (!bind_destination(b, s, o, *letter, &r[n], &widen)) return NULL;
            if (widen) {
                if (n_wide == 8) {
                    bad_operands(b, s);
                    return NULL;
                }
                wide_to[n_wide] = o;
                wide_from[n_wide] = r[n];
                wide_letter[n_wide++] = *letter;
            }
        }
        n++;
    }
    n_destinations = n;
    for (letter++; *letter; letter++) {
        if (*letter == 'C') {
            aux = 1;
            continue;
        }
        if (next >= s->n_operands || s->operands[next].piped) {
            bad_operands(b, s);
            return NULL;
        }
        const operand *o = &s->operands[next++];
        if (*letter == 'i') {
            if (o->kind != OPERAND_IMMEDIATE || o->in_brackets) {
                bad_operands(b, s);
                return NULL;
            }
            aux = (uint32_t)o->bits;
            continue;
        }
        if (!bind_source(b, s, o, *letter, &r[n])) return NULL;
        n++;
    }
    (void)n_destinations;
    if (used != NULL) {
        *used = next;
    } else if (next != s->n_operands) {
        bad_operands(b, s);
        return NULL;
    }
    insn *in = build_insn(b, s);
    if (in == NULL) return NULL;
    uint32_t index = b->function->n_code - 1;
    in->fn = row->fn;
    in->kind = row->kind;
    in->class = row->class;
    in->flops = row->flops;
    in->aux = row->kind == KIND_SYNC_MASK ? r[n - 1] : aux;
    memcpy(in->r, r, sizeof r);
    for (int i = 0; i < n_wide; i++) {
        int is_signed = wide_letter[i] == 'H' || wide_letter[i] == 'W';
        const char *name = move_name(letter_width(wide_letter[i]), wide_to[i]->width, is_signed);
        if (!emit_hidden(b, s, name, wide_to[i]->place, wide_from[i])) return NULL;
    }
    return &b->function->code[index];
}

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
static uint32_t memory_type(const char *word, int *is_signed)
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
    if (!o->in_brackets || o->negated) return bad_operands(b, s);
    *offset = 0;
    switch (o->kind) {
    case OPERAND_REGISTER:
        *place = o->place;
        *offset = (int64_t)o->bits;
        if (o->width == 4)
            *flags |= INSN_ADDRESS32;
        else if (o->width != 8)
            return bad_operands(b, s);
        /* 32-bit addresses reach shared, local and parameter memory only. */
        if (o->width == 4 &&
            (space == SPACE_GLOBAL || space == SPACE_GENERIC || space == SPACE_CONST))
            return bad_operands(b, s);
        return 1;
    case OPERAND_VARIABLE: {
        ptx_space own = o->variable->is_argument ? SPACE_PARAM : o->variable->space;
        if (own != space && space != SPACE_GENERIC) return bad_operands(b, s);
        *place = build_address(b, o->variable, o->bits, 8);
        if (*place != UINT32_MAX && space == SPACE_GENERIC && own == SPACE_SHARED)
            *offset = (int64_t)GENERIC_SHARED;
        if (*place != UINT32_MAX && space == SPACE_GENERIC && own == SPACE_LOCAL)
            *offset = (int64_t)GENERIC_LOCAL;
        return *place != UINT32_MAX;
    }
    case OPERAND_IMMEDIATE: *place = build_constant(b, 8, o->bits, 0); return *place != UINT32_MAX;
    case OPERAND_PARAMETER:
        if (space != SPACE_PARAM) return bad_operands(b, s);
        *place = build_constant(b, 8, b->function->parameters[o->parameter].offset + o->bits, 0);
        return *place != UINT32_MAX;
    default: return bad_operands(b, s);
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
            form->bytes = memory_type(word, &form->is_signed);
            if (form->bytes == 0) return unsupported(b, s);
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
            return unsupported(b, s);
        }
    }
    if (form->bytes == 0 || form->bytes * form->count > 32) return unsupported(b, s);
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

static int decode_load(builder *b, statement *s)
{
    memory_form form;
    if (!parse_memory_form(b, s, &form)) return 0;
    int n = (int)form.count;
    if (s->n_operands != n + 1 + form.has_policy) return bad_operands(b, s);
    uint32_t r[PTX_MAX_OPERANDS] = {0}, width = 0;
    for (int i = 0; i < n; i++) {
        const operand *o = &s->operands[i];
        if (o->kind == OPERAND_SINK) continue;
        if (o->kind != OPERAND_REGISTER || o->width < form.bytes || (width && width != o->width))
            return bad_operands(b, s);
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

static int decode_store(builder *b, statement *s)
{
    memory_form form;
    if (!parse_memory_form(b, s, &form)) return 0;
    int n = (int)form.count;
    if (s->n_operands != n + 1 + form.has_policy || form.space == SPACE_CONST ||
        (form.space == SPACE_PARAM && !is_argument(&s->operands[0])))
        return bad_operands(b, s);
    uint32_t r[PTX_MAX_OPERANDS] = {0}, width = 0;
    for (int i = 1; i <= n; i++) {
        const operand *o = &s->operands[i];
        if (o->kind != OPERAND_REGISTER) continue;
        if (o->width < form.bytes || (width && width != o->width)) return bad_operands(b, s);
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
static int decode_atomic(builder *b, statement *s)
{
    int is_red = strcmp(s->modifier[0], "red") == 0;
    ptx_space space = SPACE_GENERIC;
    const char *op = NULL;
    for (int i = 1; i < s->n_modifiers - 1; i++) {
        const char *word = s->modifier[i];
        if (has(word, memory_orders) || has(word, scopes) || memory_space(word, &space)) continue;
        if (strcmp(word, "noftz") == 0 && op != NULL) continue;
        if (op != NULL) return unsupported(b, s);
        op = word;
    }
    if (s->n_modifiers < 3 || op == NULL) return unsupported(b, s);
    const char *type = s->modifier[s->n_modifiers - 1];
    int is_signed;
    uint32_t bytes = memory_type(type, &is_signed);
    atomic_operation operation;
    if (bytes == 0 || !atomic_operation_of(op, type, &operation)) return unsupported(b, s);
    int at = is_red ? 0 : 1;
    int n_operands = at + 2 + (operation == ATOMIC_CAS);
    if (s->n_operands != n_operands) return bad_operands(b, s);
    char letter = bytes == 2 ? 'h' : bytes == 4 ? 'w' : 'd';
    uint32_t r[PTX_MAX_OPERANDS] = {0};
    int widen = 0;
    if (is_red) {
        if ((r[0] = build_register(b, bytes)) == UINT32_MAX) return 0;
    } else {
        if (!bind_destination(b, s, &s->operands[0], letter, &r[0], &widen)) return 0;
        if (widen) return bad_operands(b, s);
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

static int decode_cp_async(builder *b, statement *s)
{
    if (s->n_modifiers == 3 && strcmp(s->modifier[2], "commit_group") == 0) {
        insn *in = s->n_operands == 0 ? build_insn(b, s) : NULL;
        if (in == NULL) return bad_operands(b, s);
        in->fn = exec_memory_functions[MEMORY_COMMIT_GROUP];
        in->class = CLASS_CP_ASYNC;
        return 1;
    }
    if (s->n_modifiers == 3 && strcmp(s->modifier[2], "wait_all") == 0) {
        insn *in = s->n_operands == 0 ? build_insn(b, s) : NULL;
        if (in == NULL) return bad_operands(b, s);
        in->fn = exec_memory_functions[MEMORY_WAIT_ALL];
        in->class = CLASS_CP_ASYNC;
        return 1;
    }
    if (s->n_modifiers == 3 && strcmp(s->modifier[2], "wait_group") == 0) {
        if (s->n_operands != 1 || s->operands[0].kind != OPERAND_IMMEDIATE)
            return bad_operands(b, s);
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
        return unsupported(b, s);
    int has_policy = 0;
    for (int i = 5; i < s->n_modifiers; i++) {
        if (strcmp(s->modifier[i], "L2::cache_hint") == 0)
            has_policy = 1;
        else if (!has(s->modifier[i], cache_hints))
            return unsupported(b, s);
    }
    int n = s->n_operands - has_policy;
    if (n != 3 && n != 4) return bad_operands(b, s);
    const operand *size = &s->operands[2];
    if (size->kind != OPERAND_IMMEDIATE) return bad_operands(b, s);
    if (!(size->bits == 16 || (!is_cg && (size->bits == 4 || size->bits == 8))))
        return build_fail(b, CRANK_FORMAT, s->line, "%s of %llu bytes", s->mnemonic,
                          (unsigned long long)size->bits);
    uint32_t r[PTX_MAX_OPERANDS] = {0};
    int64_t offset, source_offset;
    uint8_t flags = 0, source_flags = 0;
    if (!bind_address(b, s, &s->operands[0], SPACE_SHARED, &r[0], &offset, &flags) ||
        !bind_address(b, s, &s->operands[1], SPACE_GLOBAL, &r[1], &source_offset, &source_flags))
        return 0;
    if (source_offset != (int32_t)source_offset) return bad_operands(b, s);
    if (n == 4) {
        if (s->operands[3].kind == OPERAND_REGISTER && s->operands[3].width == 0)
            return bad_operands(b, s); /* ignore-src */
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
static int decode_matrix(builder *b, statement *s)
{
    int is_load = strcmp(s->modifier[0], "ldmatrix") == 0;
    int i = 1, trans = 0;
    uint32_t count;
    ptx_space space;
    if (s->n_modifiers < 7 || strcmp(s->modifier[i++], "sync") != 0 ||
        strcmp(s->modifier[i++], "aligned") != 0 || strcmp(s->modifier[i++], "m8n8") != 0)
        return unsupported(b, s);
    const char *x = s->modifier[i++];
    count = x[0] == 'x' && x[1] >= '1' && x[1] <= '4' && x[2] == '\0' ? (uint32_t)(x[1] - '0') : 0;
    if (count == 0 || count == 3) return unsupported(b, s);
    if (strcmp(s->modifier[i], "trans") == 0) {
        trans = 1;
        i++;
    }
    if (i + 2 != s->n_modifiers || !memory_space(s->modifier[i], &space) || space != SPACE_SHARED ||
        strcmp(s->modifier[i + 1], "b16") != 0)
        return unsupported(b, s);
    if (s->n_operands != (int)count + 1) return bad_operands(b, s);
    uint32_t r[PTX_MAX_OPERANDS] = {0};
    int first = is_load ? 0 : 1, at = is_load ? (int)count : 0;
    for (uint32_t e = 0; e < count; e++) {
        const operand *o = &s->operands[(uint32_t)first + e];
        if (o->kind != OPERAND_REGISTER || o->width != 4) return bad_operands(b, s);
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

/* ---- barriers and control ---------------------------------------------------------------------
 */

/* bar{.cta}.{sync,arrive,red.op.type} and barrier{.cta}.*{.aligned} */
static int decode_barrier(builder *b, statement *s)
{
    int i = 1, next = 0;
    uint32_t r[PTX_MAX_OPERANDS] = {0}, aux = 0;
    uint8_t reduction = 0;
    if (i < s->n_modifiers && strcmp(s->modifier[i], "cta") == 0) i++;
    const char *word = i < s->n_modifiers ? s->modifier[i++] : "";
    if (strcmp(word, "arrive") == 0) {
        aux = BARRIER_ARRIVE;
    } else if (strcmp(word, "red") == 0 && i + 2 <= s->n_modifiers) {
        const char *op = s->modifier[i++], *type = s->modifier[i++];
        aux = BARRIER_REDUCE;
        reduction = strcmp(op, "popc") == 0 ? 0 : strcmp(op, "and") == 0 ? 1 : 2;
        if ((reduction == 0) != (strcmp(type, "u32") == 0) ||
            (reduction == 2 && strcmp(op, "or") != 0) ||
            (reduction != 0 && strcmp(type, "pred") != 0))
            return unsupported(b, s);
    } else if (strcmp(word, "sync") != 0) {
        return unsupported(b, s);
    }
    if (i < s->n_modifiers && strcmp(s->modifier[i], "aligned") == 0) i++;
    if (i != s->n_modifiers) return unsupported(b, s);
    int widen;
    if (aux & BARRIER_REDUCE) {
        if (s->n_operands < 3 ||
            !bind_destination(b, s, &s->operands[next++], reduction ? 'p' : 'w', &r[2], &widen))
            return bad_operands(b, s);
        if (widen) return bad_operands(b, s);
    }
    int last = s->n_operands - ((aux & BARRIER_REDUCE) ? 1 : 0);
    if (next >= last || !bind_source(b, s, &s->operands[next++], 'w', &r[0]))
        return bad_operands(b, s);
    if (next < last) {
        if (!bind_source(b, s, &s->operands[next++], 'w', &r[1])) return 0;
        aux |= BARRIER_COUNTED;
    }
    if ((aux & BARRIER_REDUCE) && !bind_source(b, s, &s->operands[next++], 'p', &r[3])) return 0;
    if (next != s->n_operands || ((aux & BARRIER_ARRIVE) && !(aux & BARRIER_COUNTED)))
        return bad_operands(b, s);
    insn *in = build_insn(b, s);
    if (in == NULL) return 0;
    memcpy(in->r, r, sizeof r);
    in->kind = KIND_BARRIER;
    in->class = CLASS_BARRIER;
    in->aux = aux;
    in->count = reduction;
    return 1;
}

static int decode_branch(builder *b, statement *s)
{
    if (s->n_modifiers > 2 || (s->n_modifiers == 2 && strcmp(s->modifier[1], "uni") != 0))
        return unsupported(b, s);
    if (s->n_operands != 1 || s->operands[0].kind != OPERAND_LABEL) return bad_operands(b, s);
    branch_fixup *f = pool_take(&b->module->memory, 1, sizeof *f);
    insn *in = build_insn(b, s);
    if (f == NULL || in == NULL) return build_no_memory(b);
    in->kind = KIND_BRANCH;
    in->class = CLASS_CONTROL;
    *f = (branch_fixup){.next = b->branches,
                        .name = s->operands[0].text,
                        .scope = b->scope,
                        .insn = b->function->n_code - 1};
    b->branches = f;
    return 1;
}

/* Tables are named by their label; brx.idx may come before or after .branchtargets. */
int decode_branch_table(builder *b, const token *name, uint32_t *index)
{
    ptx_function *f = b->function;
    for (uint32_t i = 0; i < f->n_tables; i++)
        if (f->tables[i].name_bytes == name->bytes &&
            memcmp(f->tables[i].name, name->text, name->bytes) == 0) {
            *index = i;
            return 1;
        }
    if (!pool_grow(&b->module->memory, (void **)&f->tables, &b->table_capacity, f->n_tables,
                   sizeof *f->tables))
        return build_no_memory(b);
    ptx_table *t = &f->tables[f->n_tables];
    memset(t, 0, sizeof *t);
    t->name = pool_text(&b->module->memory, name->text, name->bytes);
    if (t->name == NULL) return build_no_memory(b);
    t->name_bytes = name->bytes;
    *index = f->n_tables++;
    return 1;
}

static int decode_indexed_branch(builder *b, statement *s)
{
    if (s->n_operands != 2 || s->operands[1].kind != OPERAND_LABEL) return bad_operands(b, s);
    uint32_t place, index;
    if (!bind_source(b, s, &s->operands[0], 'w', &place) ||
        !decode_branch_table(b, &s->operands[1].text, &index))
        return 0;
    insn *in = build_insn(b, s);
    if (in == NULL) return 0;
    in->kind = KIND_INDEXED;
    in->class = CLASS_CONTROL;
    in->r[0] = place;
    in->target = index;
    return 1;
}

static int decode_simple(builder *b, statement *s, insn_kind kind)
{
    if (s->n_operands != 0) return bad_operands(b, s);
    insn *in = build_insn(b, s);
    if (in == NULL) return 0;
    in->kind = (uint8_t)kind;
    in->class = CLASS_CONTROL;
    return 1;
}

/* ---- mov, setp --------------------------------------------------------------------------------
 */

static int decode_move(builder *b, statement *s)
{
    int to = s->n_operands ? s->operands[0].vector : 0;
    int from = s->n_operands > 1 && !to ? s->operands[1].vector : 0;
    if (to <= 1 && from <= 1) {
        const op_row *row = find_row(b, s->mnemonic);
        return row ? bind_row(b, s, row, NULL) != NULL : unsupported(b, s);
    }
    /* mov.b64 {%r1, %r2}, %rd3 and the reverse. */
    int parts = to > 1 ? to : from, is_signed;
    uint32_t whole = s->n_modifiers == 2 ? memory_type(s->modifier[1], &is_signed) : 0;
    const char *name = NULL;
    if (whole == 4 && parts == 2) name = to > 1 ? "{unpack.b32.b16}" : "{pack.b32.b16}";
    if (whole == 8 && parts == 2) name = to > 1 ? "{unpack.b64.b32}" : "{pack.b64.b32}";
    if (whole == 8 && parts == 4) name = to > 1 ? "{unpack.b64.b16}" : "{pack.b64.b16}";
    if (name == NULL) return unsupported(b, s);
    return bind_row(b, s, find_row(b, name), NULL) != NULL;
}

/* setp.cmp{.and|or|xor}{.ftz}.type p{|q}, a, b{, {!}c} */
static int decode_compare(builder *b, statement *s)
{
    char name[96] = "setp";
    uint32_t combine = 0;
    int ftz = 0;
    for (int i = 1; i < s->n_modifiers; i++) {
        const char *word = s->modifier[i];
        if (i > 1 && i < s->n_modifiers - 1) {
            if (strcmp(word, "ftz") == 0) {
                ftz = 1;
                continue;
            }
            uint32_t how = strcmp(word, "and") == 0   ? 1
                           : strcmp(word, "or") == 0  ? 2
                           : strcmp(word, "xor") == 0 ? 3
                                                      : 0;
            if (how != 0 && combine == 0) {
                combine = how;
                continue;
            }
        }
        strcat(name, ".");
        strcat(name, word);
    }
    const op_row *row = find_row(b, name);
    const char *type = s->modifier[s->n_modifiers - 1];
    if (row == NULL || (combine && strstr(type, "f16") != NULL) ||
        (ftz && strcmp(type, "f32") != 0))
        return unsupported(b, s);
    if (ftz) { /* compare flushed copies */
        int first = s->n_operands > 1 && s->operands[1].piped ? 2 : 1;
        for (int i = first; i < first + 2 && i < s->n_operands; i++) {
            uint32_t place, flushed = build_register(b, 4);
            if (flushed == UINT32_MAX || !bind_source(b, s, &s->operands[i], 'f', &place) ||
                !emit_hidden(b, s, "cvt.ftz.f32.f32", flushed, place))
                return 0;
            s->operands[i] = (operand){.kind = OPERAND_REGISTER, .width = 4, .place = flushed};
        }
    }
    uint32_t third = 0;
    if (combine) {
        if (s->n_operands < 4 || !bind_source(b, s, &s->operands[s->n_operands - 1], 'p', &third))
            return bad_operands(b, s);
        s->n_operands--;
    }
    insn *in = bind_row(b, s, row, NULL);
    if (in == NULL) return 0;
    in->aux = combine;
    in->r[4] = third;
    return 1;
}

/* set.cmp{.and|or|xor}{.ftz}.dtype.stype d, a, b{, c}: a hidden setp, then a selection. */
static int decode_set(builder *b, statement *s)
{
    const char *to = s->modifier[s->n_modifiers - 2];
    int is_float = strcmp(to, "f32") == 0;
    if (!is_float && strcmp(to, "u32") != 0 && strcmp(to, "s32") != 0) return unsupported(b, s);
    statement compare = *s;
    compare.modifier[s->n_modifiers - 2] = s->modifier[s->n_modifiers - 1];
    compare.n_modifiers--;
    uint32_t truth = build_register(b, 0);
    if (truth == UINT32_MAX || s->n_operands < 3) return bad_operands(b, s);
    compare.operands[0] = (operand){.kind = OPERAND_REGISTER, .place = truth};
    if (!decode_compare(b, &compare)) return 0;
    s->operands[1] = (operand){.kind = OPERAND_IMMEDIATE, .bits = is_float ? 0x3f800000u : ~0u};
    s->operands[2] = (operand){.kind = OPERAND_IMMEDIATE};
    s->operands[3] = compare.operands[0];
    s->n_operands = 4;
    b->next_is_hidden = 1;
    int ok = bind_row(b, s, find_row(b, "selp.b32"), NULL) != NULL;
    b->next_is_hidden = 0;
    return ok;
}

/* ---- everything -------------------------------------------------------------------------------
 */

const char *const ops_family_names[] = {
    "setp.CMP{.and|.or|.xor}{.ftz}.TYPE",
    "set.CMP{.and|.or|.xor}{.ftz}.u32|.s32|.f32.TYPE",
    "mov.b32|b64 {vector}",
    "ld{.weak|.volatile|.relaxed|.acquire}{.SCOPE}{.SPACE}{.CACHE}{.nc}{.v2|.v4}.TYPE",
    "st{.weak|.volatile|.relaxed|.release}{.SCOPE}{.SPACE}{.CACHE}{.v2|.v4}.TYPE",
    "atom{.SEM}{.SCOPE}{.SPACE}.add|min|max|and|or|xor|exch|cas|inc|dec{.noftz}.TYPE",
    "red{.SEM}{.SCOPE}{.SPACE}.OP{.noftz}.TYPE",
    "cp.async.ca|cg.shared{::cta}.global{.L2::...}",
    "cp.async.commit_group",
    "cp.async.wait_group",
    "cp.async.wait_all",
    "ldmatrix.sync.aligned.m8n8.x1|x2|x4{.trans}.shared{::cta}.b16",
    "stmatrix.sync.aligned.m8n8.x1|x2|x4{.trans}.shared{::cta}.b16",
    "bar|barrier{.cta}.sync|arrive|red{.aligned}",
    "bra{.uni}",
    "brx.idx{.uni}",
    "ret",
    "call{.uni} (of a function in the module, without recursion; vprintf; __assertfail)",
    "exit",
    "trap",
    "prefetch...",
    NULL};

int decode_statement(builder *b, statement *s)
{
    const char *base = s->modifier[0];
    if (strcmp(base, "ld") == 0 || strcmp(base, "ldu") == 0) return decode_load(b, s);
    if (strcmp(base, "st") == 0) return decode_store(b, s);
    if (strcmp(base, "mov") == 0) return decode_move(b, s);
    if (strcmp(base, "setp") == 0 && s->n_modifiers >= 3) return decode_compare(b, s);
    if (strcmp(base, "bra") == 0) return decode_branch(b, s);
    if (strcmp(base, "brx") == 0) return decode_indexed_branch(b, s);
    int returns = strcmp(s->mnemonic, "ret") == 0 || strcmp(s->mnemonic, "ret.uni") == 0;
    if (returns && b->call_depth) return decode_return(b, s);
    if (returns || strcmp(s->mnemonic, "exit") == 0) return decode_simple(b, s, KIND_EXIT);
    if (strcmp(base, "trap") == 0) return decode_simple(b, s, KIND_TRAP);
    if ((strcmp(base, "bar") == 0 || strcmp(base, "barrier") == 0) &&
        strcmp(s->mnemonic, "bar.warp.sync") != 0)
        return decode_barrier(b, s);
    if (strcmp(base, "atom") == 0 || strcmp(base, "red") == 0) return decode_atomic(b, s);
    if (strcmp(base, "cp") == 0 && s->n_modifiers > 2 && strcmp(s->modifier[1], "async") == 0)
        return decode_cp_async(b, s);
    if (strcmp(base, "ldmatrix") == 0 || strcmp(base, "stmatrix") == 0) return decode_matrix(b, s);
    if (strcmp(base, "prefetch") == 0 || strcmp(base, "prefetchu") == 0) return 1; /* no effect */
    const op_row *row = find_row(b, s->mnemonic);
    if (row == NULL && strcmp(base, "set") == 0 && s->n_modifiers >= 4) return decode_set(b, s);
    if (row == NULL || row->name[0] == '{') return unsupported(b, s);
    insn *in = bind_row(b, s, row, NULL);
    if (in == NULL) return 0;
    if (row->class == CLASS_MMA)
        in->size = strstr(row->name, ".bf16.")                              ? MMA_BF16
                   : strstr(row->name, ".f16.")                             ? MMA_F16
                   : strstr(row->name, ".s8.") || strstr(row->name, ".u8.") ? MMA_INT8
                                                                            : MMA_OTHER;
    return 1;
}
