/* The compiled form of an expression: what words_regex_compile.c writes and words_regex_match.c
 * runs. A header, instructions, sets, ranges, one after the other, all in 8-byte units.
 *
 * Invariants (words_regex_check): counts and bytes agree; jumps stay inside the code; every set an
 * instruction names exists, every range a set names exists; control cannot run past the last
 * instruction, which is MATCH. */
#ifndef CRANK_TOKENIZER_WORDS_REGEX_PROGRAM_H
#define CRANK_TOKENIZER_WORDS_REGEX_PROGRAM_H

#include "tokenizer/words_regex.h"

#define REGEX_FORM 1 /* of the structures below; 0 knew letters, numbers and spaces only */
#define REGEX_MAX_CODE 512
#define REGEX_MAX_SETS 128
#define REGEX_MAX_RANGES 1024

enum regex_op {
    REGEX_CHAR,      /* one character of the set, then the next instruction */
    REGEX_SPLIT,     /* first here + first, then here + second */
    REGEX_JUMP,      /* here + first */
    REGEX_AHEAD,     /* the next character is there and in the set */
    REGEX_NOT_AHEAD, /* there is no next character, or it is not in the set */
    REGEX_MATCH,
    REGEX_OPS
};

typedef struct regex_code {
    uint16_t op, set;
    int16_t first, second; /* relative, so that a block can be copied and moved */
} regex_code;

/* c is in the set when its value's bit or a range has it, unless negated. */
typedef struct regex_set {
    uint64_t ascii[2]; /* the answer for c < 128, negation included */
    uint64_t values;   /* 1 << words_value_of(c) */
    uint16_t negated;
    uint16_t first_range, n_ranges, unused;
} regex_set;

typedef struct regex_range {
    uint32_t first, last; /* inclusive */
} regex_range;

typedef struct regex_header {
    uint32_t n_code, n_sets, n_ranges, form; /* form: REGEX_FORM */
    uint64_t start[2];                       /* the ASCII characters with which a match can begin */
} regex_header;

typedef struct regex_program {
    const regex_header *header;
    const regex_code *code;
    const regex_set *sets;
    const regex_range *ranges;
} regex_program;

static inline regex_program regex_view(const void *at)
{
    const regex_header *header = at;
    const regex_code *code = (const regex_code *)(header + 1);
    const regex_set *sets = (const regex_set *)(code + header->n_code);
    regex_program p = {header, code, sets, (const regex_range *)(sets + header->n_sets)};
    return p;
}

static inline bool regex_set_has(const regex_set *set, const regex_range *ranges, uint32_t c)
{
    bool in = (set->values >> words_value_of(c) & 1) != 0;
    for (unsigned i = 0; i < set->n_ranges && !in; i++)
        in = c >= ranges[set->first_range + i].first && c <= ranges[set->first_range + i].last;
    return in != (set->negated != 0);
}

/* Can MATCH be reached without eating a character? (Look-ahead is taken to hold.) Such a program
 * would give its callers endless empty matches. */
bool regex_matches_empty(const regex_program *p);

#endif
