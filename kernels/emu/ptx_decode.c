/* One PTX statement -> instructions. Most mnemonics are rows of the tables in exec_*.c, found by
 * their whole name, so what is not there is refused. Families with many modifiers (ld, st, atom,
 * bar, cp.async, ...) are taken apart, each modifier checked: those of memory in ptx_memory.c, the
 * others here. */
#include <string.h>

#include "kernels/emu/ops.h"
#include "kernels/emu/ptx_decode.h"

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
            return bind_unsupported(b, s);
    } else if (strcmp(word, "sync") != 0) {
        return bind_unsupported(b, s);
    }
    if (i < s->n_modifiers && strcmp(s->modifier[i], "aligned") == 0) i++;
    if (i != s->n_modifiers) return bind_unsupported(b, s);
    int widen;
    if (aux & BARRIER_REDUCE) {
        if (s->n_operands < 3 ||
            !bind_destination(b, s, &s->operands[next++], reduction ? 'p' : 'w', &r[2], &widen))
            return bind_bad_operands(b, s);
        if (widen) return bind_bad_operands(b, s);
    }
    int last = s->n_operands - ((aux & BARRIER_REDUCE) ? 1 : 0);
    if (next >= last || !bind_source(b, s, &s->operands[next++], 'w', &r[0]))
        return bind_bad_operands(b, s);
    if (next < last) {
        if (!bind_source(b, s, &s->operands[next++], 'w', &r[1])) return 0;
        aux |= BARRIER_COUNTED;
    }
    if ((aux & BARRIER_REDUCE) && !bind_source(b, s, &s->operands[next++], 'p', &r[3])) return 0;
    if (next != s->n_operands || ((aux & BARRIER_ARRIVE) && !(aux & BARRIER_COUNTED)))
        return bind_bad_operands(b, s);
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
        return bind_unsupported(b, s);
    if (s->n_operands != 1 || s->operands[0].kind != OPERAND_LABEL) return bind_bad_operands(b, s);
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
    if (s->n_operands != 2 || s->operands[1].kind != OPERAND_LABEL) return bind_bad_operands(b, s);
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
    if (s->n_operands != 0) return bind_bad_operands(b, s);
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
        const op_row *row = bind_find_row(b, s->mnemonic);
        return row ? bind_row(b, s, row) != NULL : bind_unsupported(b, s);
    }
    /* mov.b64 {%r1, %r2}, %rd3 and the reverse. */
    int parts = to > 1 ? to : from, is_signed;
    uint32_t whole = s->n_modifiers == 2 ? decode_memory_type(s->modifier[1], &is_signed) : 0;
    const char *name = NULL;
    if (whole == 4 && parts == 2) name = to > 1 ? "{unpack.b32.b16}" : "{pack.b32.b16}";
    if (whole == 8 && parts == 2) name = to > 1 ? "{unpack.b64.b32}" : "{pack.b64.b32}";
    if (whole == 8 && parts == 4) name = to > 1 ? "{unpack.b64.b16}" : "{pack.b64.b16}";
    if (name == NULL) return bind_unsupported(b, s);
    return bind_row(b, s, bind_find_row(b, name)) != NULL;
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
    const op_row *row = bind_find_row(b, name);
    const char *type = s->modifier[s->n_modifiers - 1];
    if (row == NULL || (combine && strstr(type, "f16") != NULL) ||
        (ftz && strcmp(type, "f32") != 0))
        return bind_unsupported(b, s);
    if (ftz) { /* compare flushed copies */
        int first = s->n_operands > 1 && s->operands[1].piped ? 2 : 1;
        for (int i = first; i < first + 2 && i < s->n_operands; i++) {
            uint32_t place, flushed = build_register(b, 4);
            if (flushed == UINT32_MAX || !bind_source(b, s, &s->operands[i], 'f', &place) ||
                !bind_hidden(b, s, "cvt.ftz.f32.f32", flushed, place))
                return 0;
            s->operands[i] = (operand){.kind = OPERAND_REGISTER, .width = 4, .place = flushed};
        }
    }
    uint32_t third = 0;
    if (combine) {
        if (s->n_operands < 4 || !bind_source(b, s, &s->operands[s->n_operands - 1], 'p', &third))
            return bind_bad_operands(b, s);
        s->n_operands--;
    }
    insn *in = bind_row(b, s, row);
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
    if (!is_float && strcmp(to, "u32") != 0 && strcmp(to, "s32") != 0)
        return bind_unsupported(b, s);
    statement compare = *s;
    compare.modifier[s->n_modifiers - 2] = s->modifier[s->n_modifiers - 1];
    compare.n_modifiers--;
    uint32_t truth = build_register(b, 0);
    if (truth == UINT32_MAX || s->n_operands < 3) return bind_bad_operands(b, s);
    compare.operands[0] = (operand){.kind = OPERAND_REGISTER, .place = truth};
    if (!decode_compare(b, &compare)) return 0;
    s->operands[1] = (operand){.kind = OPERAND_IMMEDIATE, .bits = is_float ? 0x3f800000u : ~0u};
    s->operands[2] = (operand){.kind = OPERAND_IMMEDIATE};
    s->operands[3] = compare.operands[0];
    s->n_operands = 4;
    b->next_is_hidden = 1;
    int ok = bind_row(b, s, bind_find_row(b, "selp.b32")) != NULL;
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
    const op_row *row = bind_find_row(b, s->mnemonic);
    if (row == NULL && strcmp(base, "set") == 0 && s->n_modifiers >= 4) return decode_set(b, s);
    if (row == NULL || row->name[0] == '{') return bind_unsupported(b, s);
    insn *in = bind_row(b, s, row);
    if (in == NULL) return 0;
    if (row->class == CLASS_MMA)
        in->size = strstr(row->name, ".bf16.")                              ? MMA_BF16
                   : strstr(row->name, ".f16.")                             ? MMA_F16
                   : strstr(row->name, ".s8.") || strstr(row->name, ".u8.") ? MMA_INT8
                                                                            : MMA_OTHER;
    return 1;
}
