/* Reading tokenizer files with jansson: every getter says which key is wrong and how. A NULL
 * object, an absent key and a JSON null all mean "absent". */
#ifndef CRANK_TOKENIZER_JSON_H
#define CRANK_TOKENIZER_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "status.h"

/* `where` names the object for messages: "model", "normalizer". */
crank_status tok_json_bool(const json_t *object, const char *where, const char *key, bool absent,
                           bool *out, crank_error *error);
crank_status tok_json_int(const json_t *object, const char *where, const char *key, int64_t absent,
                          int64_t *out, crank_error *error);
/* UTF-8 by length, NUL allowed, borrowed from the object; absent: *out NULL, *bytes 0. */
crank_status tok_json_string(const json_t *object, const char *where, const char *key,
                             const char **out, size_t *bytes, crank_error *error);
/* Arrays and objects; absent: *out NULL unless required, then FORMAT. */
crank_status tok_json_array(const json_t *object, const char *where, const char *key, bool required,
                            const json_t **out, crank_error *error);
crank_status tok_json_object(const json_t *object, const char *where, const char *key,
                             bool required, const json_t **out, crank_error *error);

/* Parses a whole file's bytes: duplicate keys, bad UTF-8 and nesting are FORMAT with line, column
 * and byte offset; strings may hold NUL. Free with json_decref. */
crank_status tok_json_parse(json_t **out, const char *name, const char *text, size_t bytes,
                            crank_error *error);

#endif
