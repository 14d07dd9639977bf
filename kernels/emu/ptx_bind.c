/* Binds operands to the rows of the tables in exec_*.c: signature letters, hidden moves.
 *
 * PTX lets cvt, ld and st use registers wider than their type: a hidden move narrows the source or
 * widens the destination, and is not counted. */
#include <string.h>

#include "kernels/emu/ops.h"
#include "kernels/emu/ptx_decode.h"

int bind_unsupported(builder *b, const statement *s)
{
    return build_fail(b, CRANK_UNSUPPORTED, s->line, "instruction %s is not interpreted",
                      s->mnemonic);
}

int bind_bad_operands(builder *b, const statement *s)
{
    return build_fail(b, CRANK_UNSUPPORTED, s->line,
                      "%s: operands of this form are not interpreted", s->mnemonic);
}

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
const op_row *bind_find_row(builder *b, const char *name)
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
int bind_hidden(builder *b, const statement *s, const char *name, uint32_t to, uint32_t from)
{
    const op_row *row = bind_find_row(b, name);
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
int bind_source(builder *b, const statement *s, const operand *o, char letter, uint32_t *place)
{
    uint32_t width = letter_width(letter);
    if (o->in_brackets) return bind_bad_operands(b, s);
    if (letter == 'p') {
        if (o->kind == OPERAND_IMMEDIATE) {
            *place = build_constant(b, 0, o->bits ? FULL_WARP : 0, 0);
            return *place != UINT32_MAX;
        }
        if (o->kind != OPERAND_REGISTER || o->width != 0) return bind_bad_operands(b, s);
        *place = o->place;
        if (o->negated) {
            uint32_t inverse = build_register(b, 0);
            if (inverse == UINT32_MAX) return 0;
            statement always = *s;
            always.guarded = 0;
            if (!bind_hidden(b, &always, "not.pred", inverse, o->place)) return 0;
            *place = inverse;
        }
        return 1;
    }
    if (width == 0 || o->negated) return bind_bad_operands(b, s);
    uint32_t from = 0, from_width = 0;
    switch (o->kind) {
    case OPERAND_REGISTER:
        if (o->bits != 0) return bind_bad_operands(b, s);
        from = o->place;
        from_width = o->width;
        break;
    case OPERAND_IMMEDIATE:
        *place = build_constant(b, width, immediate_bits(o, letter), 0);
        return *place != UINT32_MAX;
    case OPERAND_VARIABLE:
        if (width < 4) return bind_bad_operands(b, s);
        *place = build_address(b, o->variable, o->bits, width);
        return *place != UINT32_MAX;
    case OPERAND_PARAMETER:
        if (width < 4) return bind_bad_operands(b, s);
        *place =
            build_constant(b, width, b->function->parameters[o->parameter].offset + o->bits, 0);
        return *place != UINT32_MAX;
    case OPERAND_SPECIAL:
        if (o->special == SPECIAL_CLOCK || o->special == SPECIAL_CLOCK64) {
            from_width = o->special == SPECIAL_CLOCK ? 4 : 8;
            from = build_register(b, from_width);
            if (from == UINT32_MAX) return 0;
            if (!bind_hidden(b, s, from_width == 4 ? "{clock.32}" : "{clock.64}", from, 0))
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
        return bind_bad_operands(b, s);
    *place = build_register(b, width);
    if (*place == UINT32_MAX) return 0;
    return bind_hidden(b, s, move_name(from_width, width, 0), *place, from);
}

/* The row that a destination is written to; widen is set when a hidden move must follow. */
int bind_destination(builder *b, const statement *s, const operand *o, char letter, uint32_t *place,
                     int *widen)
{
    uint32_t width = letter_width(letter);
    *widen = 0;
    if (o->kind == OPERAND_SINK) {
        *place = build_register(b, letter == 'p' || letter == 'P' ? 0 : width);
        return *place != UINT32_MAX;
    }
    if (o->kind != OPERAND_REGISTER || o->in_brackets || o->negated || o->bits)
        return bind_bad_operands(b, s);
    if (o->width == width || ((letter == 'p' || letter == 'P') && o->width == 0)) {
        *place = o->place;
        return 1;
    }
    if (o->width < width || width == 0) return bind_bad_operands(b, s);
    *widen = 1;
    *place = build_register(b, width);
    return *place != UINT32_MAX;
}

insn *bind_row(builder *b, const statement *s, const op_row *row)
{
    uint32_t r[PTX_MAX_OPERANDS] = {0}, aux = 0;
    int n = 0, next = 0;
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
                bind_bad_operands(b, s);
                return NULL;
            }
            const operand *o = &s->operands[next++];
            if (!bind_destination(b, s, o, *letter, &r[n], &widen)) return NULL;
            if (widen) {
                if (n_wide == 8) {
                    bind_bad_operands(b, s);
                    return NULL;
                }
                wide_to[n_wide] = o;
                wide_from[n_wide] = r[n];
                wide_letter[n_wide++] = *letter;
            }
        }
        n++;
    }
    for (letter++; *letter; letter++) {
        if (*letter == 'C') {
            aux = 1;
            continue;
        }
        if (next >= s->n_operands || s->operands[next].piped) {
            bind_bad_operands(b, s);
            return NULL;
        }
        const operand *o = &s->operands[next++];
        if (*letter == 'i') {
            if (o->kind != OPERAND_IMMEDIATE || o->in_brackets) {
                bind_bad_operands(b, s);
                return NULL;
            }
            aux = (uint32_t)o->bits;
            continue;
        }
        if (!bind_source(b, s, o, *letter, &r[n])) return NULL;
        n++;
    }
    if (next != s->n_operands) {
        bind_bad_operands(b, s);
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
        if (!bind_hidden(b, s, name, wide_to[i]->place, wide_from[i])) return NULL;
    }
    return &b->function->code[index];
}
