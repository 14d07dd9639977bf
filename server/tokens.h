/* Texts by tokens, where the public interface has no word for it: cut behind the n-th token, ids
 * without the template, how many tokens so many windows hold. */
#ifndef CRANK_SERVER_TOKENS_H
#define CRANK_SERVER_TOKENS_H

#include "crank.h"

/* Cuts *text behind its token number `most` (>= 1, template tokens not counted); *cut says whether
 * anything went. Reads only about as much of the text as that takes. */
crank_status tokens_cut(const crank_tokenizer *tokenizer, crank_text *text, size_t most,
                        int specials_as_text, int *cut, crank_error *error);

/* Calls visit for each id of a text without template tokens. */
crank_status tokens_plain(const crank_tokenizer *tokenizer, crank_text text,
                          void (*visit)(void *user, size_t i, int32_t id), void *user,
                          crank_error *error);

/* Tokens of a document that `n` windows beside this query cover (CRANK_WINDOW's layout).
 * overlap 0: a quarter of a window. */
crank_status tokens_of_windows(const crank_tokenizer *tokenizer, crank_text query,
                               size_t max_length, size_t overlap, size_t n, size_t *tokens,
                               crank_error *error);

#endif
