/* A PTX module as the interpreter wants it: text goes in once, at module load, and comes out as
 * arrays of fixed-size instructions whose operands are byte offsets into a warp's register file.
 *
 * Data structure: a register is one row of 32 lanes, as wide as its declared type (predicates are
 * one 32-bit mask). Immediates and special registers are rows too, filled before a block starts,
 * so an instruction never asks what kind of operand it has. An instruction carries the function
 * that runs it; only control flow, barriers and warp-synchronous instructions carry a `kind` that
 * the scheduler has to know.
 *
 * Invariants: every register offset is a multiple of its lane width and lies below
 * ptx_function.register_bytes; a branch target is an index below n_code; code ends in KIND_EXIT.
 *
 * Source: PTX ISA 9.0 (NVIDIA). An instruction or modifier that is not in the tables is refused
 * when the module is loaded, never guessed. */
#ifndef CRANK_EMU_PTX_H
#define CRANK_EMU_PTX_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/emu/pool.h"
#include "status.h"

#define PTX_MAX_OPERANDS 16
#define WARP_LANES 32
#define FULL_WARP 0xffffffffu

struct warp;
struct insn;
/* Runs one instruction for the lanes in mask (never empty). */
typedef void (*exec_function)(struct warp *w, const struct insn *in, uint32_t mask);

typedef enum insn_kind {
    KIND_PLAIN,     /* lanes are independent of each other */
    KIND_BRANCH,    /* to target */
    KIND_INDEXED,   /* brx.idx: table of targets */
    KIND_EXIT,      /* ret of a kernel, exit */
    KIND_BARRIER,   /* bar / barrier: r[0] id, r[1] thread count when aux has BARRIER_COUNTED */
    KIND_SYNC_MASK, /* lanes named in r[aux] must be here */
    KIND_SYNC_ALL,  /* .aligned: all 32 lanes must be here */
    KIND_TRAP
} insn_kind;

/* Classes for the counters; emu.h repeats them for the public. */
typedef enum insn_class {
    CLASS_OTHER,
    CLASS_INTEGER,
    CLASS_FLOAT,
    CLASS_SFU,
    CLASS_CONVERT,
    CLASS_MOVE,
    CLASS_CONTROL,
    CLASS_BARRIER,
    CLASS_SHUFFLE,
    CLASS_MMA,
    CLASS_LDMATRIX,
    CLASS_CP_ASYNC,
    CLASS_LD_GLOBAL,
    CLASS_ST_GLOBAL,
    CLASS_LD_SHARED,
    CLASS_ST_SHARED,
    CLASS_ATOMIC,
    CLASS_LOCAL,
    CLASS_PARAM,
    N_CLASSES
} insn_class;

typedef enum ptx_space {
    SPACE_GENERIC,
    SPACE_GLOBAL,
    SPACE_SHARED,
    SPACE_LOCAL,
    SPACE_PARAM,
    SPACE_CONST
} ptx_space;

typedef struct insn {
    exec_function fn;
    uint32_t r[PTX_MAX_OPERANDS]; /* register offsets, destinations first */
    int64_t imm;                  /* address offset, or as the instruction says */
    uint32_t guard;               /* predicate's offset */
    uint32_t target;              /* branch target; index into function.tables for brx */
    uint32_t aux;                 /* as the instruction says */
    uint32_t line;                /* of the PTX text */
    uint32_t loc;                 /* index into function.locs, 0 = none */
    uint32_t flops;               /* floating or integer multiply-adds x2 a warp (mma) or lane */
    uint8_t guarded;              /* 1: @p, 2: @!p */
    uint8_t kind;
    uint8_t class;
    uint8_t space;
    uint8_t size;  /* bytes of one element in memory */
    uint8_t count; /* elements */
    uint8_t width; /* lane bytes of the data registers */
    uint8_t flags;
} insn;

#define INSN_SIGNED 1u     /* loads sign-extend */
#define INSN_HIDDEN 2u     /* made by the decoder: not counted */
#define INSN_TRANS 4u      /* ldmatrix.trans */
#define INSN_ZERO_FILL 8u  /* cp.async with a source size in r[2] */
#define INSN_ADDRESS32 16u /* the address register is 32 bits wide */
#define BARRIER_COUNTED 1u
#define BARRIER_ARRIVE 2u
#define BARRIER_REDUCE 4u

/* A source position, innermost first; the call it was inlined into is locs[outer]. */
typedef struct ptx_loc {
    uint32_t file, line, column;
    uint32_t at_file, at_line, at_column; /* of `inlined_at`, 0 when it was not inlined */
    uint32_t outer;
} ptx_loc;

typedef struct ptx_constant {
    uint32_t offset;
    uint32_t width; /* lane bytes: 0 predicate mask, 2, 4, 8 */
    uint64_t bits;
    uint32_t relocate; /* an offset in the module's image until ptx_relocate */
} ptx_constant;

typedef enum special_register {
    SPECIAL_TID_X,
    SPECIAL_TID_Y,
    SPECIAL_TID_Z,
    SPECIAL_NTID_X,
    SPECIAL_NTID_Y,
    SPECIAL_NTID_Z,
    SPECIAL_CTAID_X,
    SPECIAL_CTAID_Y,
    SPECIAL_CTAID_Z,
    SPECIAL_NCTAID_X,
    SPECIAL_NCTAID_Y,
    SPECIAL_NCTAID_Z,
    SPECIAL_LANEID,
    SPECIAL_WARPID,
    SPECIAL_NWARPID,
    SPECIAL_SMID,
    SPECIAL_NSMID,
    SPECIAL_GRIDID,
    SPECIAL_LANEMASK_EQ,
    SPECIAL_LANEMASK_LT,
    SPECIAL_LANEMASK_LE,
    SPECIAL_LANEMASK_GT,
    SPECIAL_LANEMASK_GE,
    SPECIAL_DYNAMIC_SMEM,
    SPECIAL_TOTAL_SMEM,
    SPECIAL_ZERO, /* cluster ids: a cluster is one block here */
    SPECIAL_ONE,
    SPECIAL_CLOCK, /* clock and clock64 and globaltimer are read by an instruction */
    SPECIAL_CLOCK64,
    SPECIAL_NONE
} special_register;

typedef struct ptx_special {
    uint32_t offset; /* u32 row */
    uint32_t which;
} ptx_special;

typedef struct ptx_variable {
    const char *name;
    ptx_space space;
    uint32_t align;
    uint64_t bytes;
    uint64_t offset;  /* in its space; for global and const: from the module's image */
    uint8_t *initial; /* bytes, or NULL for zeros */
    int is_dynamic;   /* extern .shared x[] */
    int is_argument;  /* a .param of a call, kept in local memory */
} ptx_variable;

/* A pointer-sized hole of an initialised variable that holds another variable's address. */
typedef struct ptx_relocation {
    uint64_t at;     /* offset in the module's image */
    uint64_t target; /* offset in the module's image */
} ptx_relocation;

typedef struct ptx_parameter {
    const char *name;
    uint32_t offset, bytes;
} ptx_parameter;

typedef struct ptx_table {
    const char *name;
    uint32_t name_bytes, scope;
    uint32_t n;
    uint32_t *targets;
    struct fixup *names; /* while it is being parsed */
} ptx_table;

/* A shared variable has one address in every kernel that uses it, but not across kernels. */
typedef struct ptx_shared {
    ptx_variable *variable;
    uint32_t offset; /* in the shared window */
} ptx_shared;

typedef struct ptx_function {
    const char *name;
    ptx_parameter *parameters;
    uint32_t n_parameters, parameter_bytes;
    insn *code;
    uint32_t n_code;
    uint32_t register_bytes;
    ptx_constant *constants;
    uint32_t n_constants;
    ptx_special *specials;
    uint32_t n_specials;
    ptx_table *tables;
    uint32_t n_tables;
    ptx_loc *locs; /* locs[0] is "unknown" */
    uint32_t n_locs;
    uint32_t dynamic_align; /* of the dynamic shared array it uses, 0 = none */
    uint32_t static_shared; /* bytes of the shared variables it uses, as the hardware packs them */
    ptx_shared *shared_used;
    uint32_t n_shared_used;
    uint32_t local_bytes;      /* a thread */
    uint32_t max_threads[3];   /* .maxntid, 0 = not given */
    uint32_t exact_threads[3]; /* .reqntid */
    uint32_t live_registers;   /* 32-bit registers alive at once, at most */
    int needs_order; /* atomics whose result or rounding depends on the order of the blocks */
    uint32_t index;  /* in the module */
} ptx_function;

typedef struct ptx_module {
    pool memory;
    ptx_function **functions;
    uint32_t n_functions;
    ptx_variable **variables;
    uint32_t n_variables;
    uint64_t image_bytes; /* of the global and const variables together */
    ptx_relocation *relocations;
    uint32_t n_relocations;
    const char **files; /* by .file number, NULL when absent */
    uint32_t n_files;
    uint32_t version;   /* 90 for .version 9.0 */
    uint32_t target;    /* 80 for sm_80 */
    char target_suffix; /* 'a' for sm_90a, 'f', or 0 */
} ptx_module;

/* Static shared variables live at fixed addresses of the shared window, far above any dynamic
 * array, each with unowned bytes around it: an index that leaves its array is an error then. */
#define SHARED_DYNAMIC_BASE 1024u
#define SHARED_STATIC_BASE (256u * 1024u)
#define SHARED_WINDOW_BYTES (512u * 1024u)
#define SHARED_GAP 128u

/* Windows of the generic address space, where no host mapping lies. */
#define GENERIC_SHARED (UINT64_C(1) << 40)
#define GENERIC_LOCAL (UINT64_C(2) << 40)
#define GENERIC_PARAM (UINT64_C(3) << 40)
#define GENERIC_WINDOW (UINT64_C(1) << 32)

/* Parses text[0..bytes), which is not needed afterwards. Fails: FORMAT (malformed), UNSUPPORTED (an
 * instruction or modifier that is not in the tables; the message names it and its line), LIMIT,
 * OUT_OF_MEMORY. */
crank_status ptx_parse(ptx_module **out, const char *text, size_t bytes, crank_error *error);
void ptx_free(ptx_module *module);

/* Addresses of global variables are constants of the code: adds base to each of them, once. */
void ptx_relocate(ptx_module *module, uint64_t base);

/* "gelu.cu:12 <- kernels.cu:40" of an instruction; "" without -lineinfo. */
void ptx_describe_loc(const ptx_module *module, const ptx_function *function, uint32_t loc,
                      char *out, size_t bytes);

#endif
