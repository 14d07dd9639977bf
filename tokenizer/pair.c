/* Truncation and template of a pair. Rule of tokenizers 0.23.3 (0.23.1 and 0.23.2 break ties the
 * other way): longest_first lets the shorter side have up to half of the room, floor(m / 2); when
 * both are longer than that, each gets half and the odd token goes to the second, unless the first
 * is the longer one. */
#include "tokenizer/inside.h"

static size_t n_added(const tokenizer *tok, bool pair)
{
    return (size_t)(pair ? tok->info.n_added_pair : tok->info.n_added_single);
}

crank_status tok_pair_lengths(const tokenizer *tok, size_t n1, size_t n2, size_t max_length,
                              tok_truncation truncation, size_t *keep1, size_t *keep2,
                              crank_error *error)
{
    bool pair = n2 != SIZE_MAX;
    size_t added = n_added(tok, pair);
    *keep1 = n1;
    *keep2 = pair ? n2 : 0;
    if (max_length == 0) return CRANK_OK;
    CRANK_CHECK(max_length >= added, INVALID_ARGUMENT, error,
                "max_length %zu is smaller than the %zu tokens that the template adds", max_length,
                added);
    size_t m = max_length - added;
    if (!pair) {
        CRANK_CHECK(truncation != TOK_ONLY_SECOND || n1 <= m, INVALID_ARGUMENT, error,
                    "truncation only_second: there is no second text");
        if (n1 > m) *keep1 = m;
        return CRANK_OK;
    }
    if (n1 <= m && n2 <= m - n1) return CRANK_OK;
    if (m == 0) {
        *keep1 = *keep2 = 0;
        return CRANK_OK;
    }
    switch (truncation) {
    case TOK_ONLY_SECOND:
        CRANK_CHECK(n1 < m, INVALID_ARGUMENT, error,
                    "truncation only_second: the first text's %zu tokens leave no room for the "
                    "second text in max_length %zu",
                    n1, max_length);
        *keep2 = m - n1;
        return CRANK_OK;
    case TOK_ONLY_FIRST:
        CRANK_CHECK(n2 < m, INVALID_ARGUMENT, error,
                    "truncation only_first: the second text's %zu tokens leave no room for the "
                    "first text in max_length %zu",
                    n2, max_length);
        *keep1 = m - n2;
        return CRANK_OK;
    case TOK_LONGEST_FIRST: break;
    default:
        return status_fail(error, CRANK_INVALID_ARGUMENT, "truncation %d is not one that is known",
                           (int)truncation);
    }
    size_t half = m / 2;
    if (n1 <= n2) {
        *keep1 = n1 <= half ? n1 : half;
        *keep2 = m - *keep1;
    } else {
        *keep2 = n2 <= half ? n2 : half;
        *keep1 = m - *keep2;
    }
    return CRANK_OK;
}

size_t tok_max_useful(const tokenizer *tok, size_t known_n1, size_t max_length,
                      tok_truncation truncation)
{
    size_t added = n_added(tok, true);
    if (max_length == 0 || max_length < added) return SIZE_MAX;
    size_t m = max_length - added;
    if (truncation == TOK_ONLY_FIRST) return m;
    if (truncation == TOK_ONLY_SECOND) {
        if (known_n1 == SIZE_MAX) return m;
        return known_n1 < m ? m - known_n1 : 0;
    }
    /* longest_first. With m even only "more than m / 2 or not" and, below that, the exact length
     * matter; with m odd and both sides long, which side is the longer one decides who gets the odd
     * token, so the second must be counted up to the first, and the first to its end. */
    if (known_n1 == SIZE_MAX) return m % 2 == 0 ? m : SIZE_MAX;
    if (known_n1 <= m / 2) return m - known_n1;
    return m % 2 == 0 ? m / 2 : known_n1 - 1;
}

size_t tok_pair_fill(const tokenizer *tok, const int32_t *ids1, size_t keep1, const int32_t *ids2,
                     size_t keep2, int32_t *out_ids, int32_t *out_types)
{
    const tok_item *item = ids2 != NULL ? tok->around.pair : tok->around.single;
    uint32_t n_items = ids2 != NULL ? tok->around.n_pair : tok->around.n_single;
    size_t n = 0;
    for (uint32_t i = 0; i < n_items; i++) {
        const int32_t *from = item[i].kind == TOK_ITEM_TOKEN ? &item[i].id
                              : item[i].kind == TOK_ITEM_A   ? ids1
                                                             : ids2;
        size_t count = item[i].kind == TOK_ITEM_TOKEN ? 1
                       : item[i].kind == TOK_ITEM_A   ? keep1
                                                      : keep2;
        for (size_t k = 0; k < count; k++) {
            out_ids[n] = from[k];
            out_types[n++] = item[i].type;
        }
    }
    return n;
}
