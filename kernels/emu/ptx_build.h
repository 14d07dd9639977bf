/* The parser's working state, shared by ptx_parse.c (text, scopes, symbols), ptx_bind.c,
 * ptx_memory.c and ptx_decode.c (one statement -> instructions; ptx_decode.h), and ptx_call.c
 * (calls expanded in place). */
#ifndef CRANK_EMU_PTX_BUILD_H
#define CRANK_EMU_PTX_BUILD_H

#include "kernels/emu/ptx.h"
#include "kernels/emu/ptx_lex.h"

typedef enum symbol_kind {
    SYMBOL_REGISTER, /* %p, or the family %r<512> when count > 0 */
    SYMBOL_VARIABLE,
    SYMBOL_PARAMETER /* of the kernel */
} symbol_kind;

typedef struct symbol {
    struct symbol *shadowed; /* next in its bucket */
    const char *name;
    uint32_t name_bytes;
    symbol_kind kind;
    uint32_t scope;
    uint32_t width;   /* lane bytes of a register; 0 = predicate */
    uint32_t count;   /* of a family */
    uint32_t *places; /* register offset + 1 of each member, 0 = not used yet */
    ptx_variable *variable;
    uint32_t parameter;
    struct symbol *next_in_scope;
} symbol;

typedef enum operand_kind {
    OPERAND_REGISTER,
    OPERAND_IMMEDIATE,
    OPERAND_VARIABLE, /* address of a variable + offset */
    OPERAND_PARAMETER,
    OPERAND_SPECIAL,
    OPERAND_LABEL,
    OPERAND_SINK
} operand_kind;

/* One operand. Vectors are flattened into the statement's list: n_in_vector on their first. */
typedef struct operand {
    operand_kind kind;
    uint8_t width;       /* of a register: lane bytes, 0 = predicate */
    uint8_t in_brackets; /* an address */
    uint8_t negated;     /* !%p */
    uint8_t piped;       /* the second of a|b */
    uint8_t is_float;    /* immediate: 1 = bits are an f32, 2 = an f64 */
    uint8_t vector;      /* elements of the vector that starts here, 0 = scalar */
    uint32_t place;      /* register offset */
    uint64_t bits;       /* immediate, or the offset added to a variable or a register address */
    ptx_variable *variable;
    uint32_t parameter;
    special_register special;
    token text;
} operand;

#define MAX_OPERANDS 32
#define MAX_MODIFIERS 16

typedef struct statement {
    char mnemonic[96]; /* the whole of it: "mad.lo.s32" */
    char words[96];    /* the same, cut at the dots */
    const char *modifier[MAX_MODIFIERS];
    int n_modifiers; /* modifier[0] is the base: "mad" */
    operand operands[MAX_OPERANDS];
    int n_operands;
    uint32_t line;
    uint32_t guard;
    int guarded;
} statement;

typedef struct label {
    struct label *next;
    token name;
    uint32_t scope;
    uint32_t pc;
} label;

typedef struct fixup {
    struct fixup *next;
    token name;
    uint32_t scope;
    uint32_t *where;
} fixup;

/* A branch remembers its instruction's number: the code array moves while it grows. */
typedef struct branch_fixup {
    struct branch_fixup *next;
    token name;
    uint32_t scope;
    uint32_t insn;
} branch_fixup;

#define SYMBOL_BUCKETS 1024
#define ROW_INDEX 8192

typedef struct builder {
    ptx_module *module;
    crank_error *error;
    crank_status status; /* the first failure */
    lexer lex;
    symbol *buckets[SYMBOL_BUCKETS];
    size_t variable_capacity, function_capacity, relocation_capacity, file_capacity;
    /* the function being built */
    ptx_function *function;
    size_t code_capacity, constant_capacity, special_capacity, table_capacity, loc_capacity;
    size_t shared_capacity, parent_capacity;
    uint32_t *scope_parents; /* by scope number */
    symbol **scope_symbols;  /* the symbols of each open scope */
    uint32_t n_scopes, scope, depth;
    label *labels;
    fixup *fixups;
    branch_fixup *branches;
    uint32_t shared_next;
    uint32_t loc; /* current */
    struct device_function *device_functions;
    uint32_t call_depth; /* calls being expanded */
    uint32_t call_loc;   /* the position of the innermost one */
    int next_is_hidden;
    int rows_indexed;
    uint16_t row_index[ROW_INDEX]; /* hash of names -> table and row */
} builder;

/* Records the first failure. Always returns 0, so that callers can `return build_fail(...)`. */
int build_fail(builder *b, crank_status status, uint32_t line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
int build_no_memory(builder *b);

/* A fresh register row; its offset, or UINT32_MAX when memory is out. width 0: predicate. */
uint32_t build_register(builder *b, uint32_t width);
/* A row that holds bits in every lane (width 0: a mask). relocate: add the image's base. */
uint32_t build_constant(builder *b, uint32_t width, uint64_t bits, int relocate);
uint32_t build_special(builder *b, special_register which);
/* Appends an instruction; NULL when memory is out. Valid until the next call. */
insn *build_insn(builder *b, const statement *s);
/* The address of a variable in its own space, as a constant row (width 4 or 8). */
uint32_t build_address(builder *b, ptx_variable *v, uint64_t offset, uint32_t width);

#define MAX_DEPTH 256 /* open braces */

int build_malformed(builder *b, const char *expected); /* "expected ..., found ..." */
int build_expect(builder *b, char mark);               /* steps over it */
symbol *symbol_find(builder *b, const char *name, uint32_t bytes);
symbol *symbol_add(builder *b, const char *name, uint32_t bytes, symbol_kind kind);
int scope_open(builder *b);
void scope_close(builder *b);
int label_add(builder *b, const token *name);
int labels_resolve(builder *b);
int parse_branch_targets(builder *b, const token *name); /* at ".branchtargets" */

/* ptx_operand.c */
int parse_number(builder *b, uint64_t *bits, uint8_t *is_float); /* is_float as in operand */
int parse_unsigned(builder *b, uint64_t *value);
int parse_statement(builder *b);

/* ptx_variable.c */
/* Bytes of ".u32" and the like; 0 for .pred, -1 when it is no type. */
int type_bytes(const token *t);
int parse_array_size(builder *b, uint64_t element, uint64_t *bytes, int *open_ended);
/* What follows the space word, to the semicolon. */
int parse_variables(builder *b, ptx_space space, int external);
int parse_registers(builder *b);

/* ptx_parse.c */
int parse_body(builder *b); /* at '{', to its '}' */

/* ptx_call.c */
/* Looks through the whole text for ".func"s, whose bodies may stand behind the kernels that call
 * them; leaves the lexer where it was. */
int functions_find(builder *b);
/* After the mnemonic of a call: expands the function's body here. */
int parse_call(builder *b, statement *s);
/* "ret" inside such a body: a branch to its end. */
int decode_return(builder *b, statement *s);

/* ptx_decode.c */
int decode_statement(builder *b, statement *s);
int decode_branch_table(builder *b, const token *name, uint32_t *index);

#endif
