/* The generated tables behind unicode.h. Included by unicode.c and unicode_tables.c alone. */
#ifndef CRANK_TOKENIZER_UNICODE_TABLES_H
#define CRANK_TOKENIZER_UNICODE_TABLES_H

#include "tokenizer/unicode.h"

/* Decompositions: code point -> place in uni_pool (0: none); there, a count and UTF-16 units. */
extern const uint8_t uni_nfd_stage1[0x110000 >> 7], uni_nfkd_stage1[0x110000 >> 7];
extern const uint16_t uni_nfd_stage2[][128], uni_nfkd_stage2[][128];
extern const uint16_t uni_pool[];

/* Primary composites, sorted by (first, second). */
typedef struct uni_pair {
    uint32_t first, second, composite;
} uni_pair;
extern const int uni_n_pairs;
extern const uni_pair uni_pairs[];

#endif
