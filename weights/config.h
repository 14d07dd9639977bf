/* A model's small JSON files: strict parsing, and typed readers whose errors name the file, the
 * key, what was expected and what was found.
 *
 * A config_source is where they come from: a model folder, or a converted file that carries their
 * texts in its metadata; every reader above works on both alike. Untrusted: a file is at most
 * CONFIG_MAX_BYTES, CONFIG_MAX_VALUES values and CONFIG_MAX_DEPTH levels, so that its tree stays
 * below 30 MB, valid UTF-8 without NUL, one object without duplicate keys. An integer beyond 64
 * bits (tokenizers write 10^30 for "no limit") does not spoil the rest of a file: the key that
 * holds one is out of range when somebody asks for it. */
#ifndef CRANK_CONFIG_H
#define CRANK_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"
#include "weights/safetensors.h"

#define CONFIG_MAX_BYTES ((size_t)4 << 20)
#define CONFIG_MAX_VALUES 200000
#define CONFIG_MAX_DEPTH 64

struct json_t;

/* Exactly one of the two is set. Borrowed. */
typedef struct config_source {
    const char *dir;
    const safetensors *file;
} config_source;

typedef struct config config;

/* name: "config.json", "1_Pooling/config.json". Fails: MODEL (absent), IO, FORMAT (file, line,
 * column, reason), LIMIT, OUT_OF_MEMORY. */
crank_status config_open(config **out, const config_source *source, const char *name,
                         crank_error *error);
/* As config_open, but *out = NULL and OK when there is no such file. All getters below take NULL
 * for an empty object, so that callers need not care. */
crank_status config_open_optional(config **out, const config_source *source, const char *name,
                                  crank_error *error);
/* The same for a file whose top is an array (modules.json): config_root is the array. */
crank_status config_open_list_optional(config **out, const config_source *source, const char *name,
                                       crank_error *error);
/* label: how messages name the text. An array at the top is refused like any other non-object. */
crank_status config_parse(config **out, const char *label, const char *text, size_t bytes,
                          crank_error *error);
void config_close(config *c);                      /* NULL is fine */
const struct json_t *config_root(const config *c); /* NULL for NULL; jansson's type */
const char *config_name(const config *c);          /* the label, for messages */

/* The raw text of a small file from either source; NULL and OK when absent. mem_free. */
crank_status config_text(char **text, size_t *bytes, const config_source *source, const char *name,
                         crank_error *error);

/* Keys: "hidden_size"; "hidden_size|dim" tries in turn; "rope_parameters.rope_theta" goes into an
 * object. An explicit null is the same as absent. A required key that is absent is a MODEL error,
 * a wrong type or an out-of-range value too. The _or forms take `fallback` when absent (it is not
 * checked against the range). */
int config_has(const config *c, const char *keys);
crank_status config_int(const config *c, const char *keys, int64_t lowest, int64_t highest,
                        int32_t *out, crank_error *error);
crank_status config_int_or(const config *c, const char *keys, int64_t lowest, int64_t highest,
                           int32_t fallback, int32_t *out, crank_error *error);
crank_status config_int64_or(const config *c, const char *keys, int64_t lowest, int64_t highest,
                             int64_t fallback, int64_t *out, crank_error *error);
/* Integers are fine as numbers. */
crank_status config_number(const config *c, const char *keys, double lowest, double highest,
                           double *out, crank_error *error);
crank_status config_number_or(const config *c, const char *keys, double lowest, double highest,
                              double fallback, double *out, crank_error *error);
crank_status config_bool_or(const config *c, const char *keys, int fallback, int *out,
                            crank_error *error);
/* Strings live as long as c. */
crank_status config_string(const config *c, const char *keys, const char **out, crank_error *error);
crank_status config_string_or(const config *c, const char *keys, const char *fallback,
                              const char **out, crank_error *error);
/* One of a list of n words; *out is its index. For hidden_act and the like:
 * "config.json: hidden_act is "swish", expected one of gelu, relu". */
crank_status config_choice(const config *c, const char *keys, const char *const *words, int n,
                           int *out, crank_error *error);

/* The number of labels that id2label declares; 0 when the key is absent (transformers then takes
 * 2; the rows of the classifier decide). Its keys must be "0".."n-1". */
crank_status config_label_count(const config *c, int32_t *n, crank_error *error);
/* The name of a label; NULL when there is none. */
const char *config_label(const config *c, int32_t label);

/* The metadata key under which a converted file carries a small file: "crank.file." + name. */
#define CONFIG_METADATA_PREFIX "crank.file."

#endif
