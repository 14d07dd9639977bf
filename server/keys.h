/* API keys: only their SHA-256 digests stay in memory, and a presented key is compared with every
 * one of them in constant time. */
#ifndef CRANK_SERVER_KEYS_H
#define CRANK_SERVER_KEYS_H

#include <stddef.h>

#include "crank_status.h"

typedef struct keys keys;

/* A file with one key a line; blank lines and lines that begin with # are skipped. */
crank_status keys_open(keys **out, const char *path, crank_error *error);
void keys_close(keys *k);
/* authorization: the header's value ("Bearer KEY"), or a bare key. NULL: refused. */
int keys_allow(const keys *k, const char *authorization);

#endif
