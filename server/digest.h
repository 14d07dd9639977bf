/* What a model is, whatever its path: servers that share a cache tier share the scores of equal
 * models, and a folder whose files were replaced never answers from the old ones' scores. */
#ifndef CRANK_SERVER_DIGEST_H
#define CRANK_SERVER_DIGEST_H

#include "crank.h"
#include "server/scores.h"

/* Of weights as packed, device, tokenizer (info->digest) and configuration. Fails: IO,
 * OUT_OF_MEMORY. */
crank_status digest_model(score_key *digest, const crank_model_info *info, const char *path,
                          crank_error *error);

#endif
