/* What the decoder's files share: ptx_bind.c (operands to rows), ptx_memory.c (ld, st, atomics,
 * copies), ptx_decode.c (the rest). A row's signature says how operands bind:
 *     destinations ':' sources, one letter each
 *     h w d     a 16, 32, 64-bit row; H and W: sign-extended when the register is wider
 *     f g       f32, f64 (decides what a literal means)
 *     p         predicate; P: the optional second destination behind '|'
 *     i         an immediate, kept in insn.aux
 *     C         no operand: the instruction writes the carry flag (insn.aux = 1)
 * Functions that return int return 0 after build_fail. */
#ifndef CRANK_EMU_PTX_DECODE_H
#define CRANK_EMU_PTX_DECODE_H

#include "kernels/emu/exec.h"
#include "kernels/emu/ptx_build.h"

/* ptx_bind.c. The first two record that the statement is refused and return 0. */
int bind_unsupported(builder *b, const statement *s);
int bind_bad_operands(builder *b, const statement *s);
/* The row of a whole mnemonic, NULL when there is none. */
const op_row *bind_find_row(builder *b, const char *name);
/* A hidden instruction with one destination and up to one source. */
int bind_hidden(builder *b, const statement *s, const char *name, uint32_t to, uint32_t from);
/* The row that holds source o as the signature letter wants it. */
int bind_source(builder *b, const statement *s, const operand *o, char letter, uint32_t *place);
/* The row that a destination is written to; widen is set when a hidden move must follow. */
int bind_destination(builder *b, const statement *s, const operand *o, char letter, uint32_t *place,
                     int *widen);
/* Binds all operands to the row's signature and appends the instruction (and its moves). NULL after
 * a failure. */
insn *bind_row(builder *b, const statement *s, const op_row *row);

/* ptx_memory.c */
/* Type word -> bytes and signedness; 0 when it is none that moves through memory. */
uint32_t decode_memory_type(const char *word, int *is_signed);
int decode_load(builder *b, statement *s);
int decode_store(builder *b, statement *s);
int decode_atomic(builder *b, statement *s);
int decode_cp_async(builder *b, statement *s);
int decode_matrix(builder *b, statement *s);

#endif
