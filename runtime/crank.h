/* crank: scores (query, document) pairs with cross-encoder re-rankers and puts documents in order.
 *
 *     crank_model *model = NULL;            immutable, shared by threads
 *     crank_session *session = NULL;        one thread at a time: arena, threads, scratch
 *     crank_error error;
 *     if (crank_model_open(&model, "ms-marco-MiniLM-L-6-v2", NULL, &error) != CRANK_OK) ...
 *     if (crank_session_open(&session, model, NULL, &error) != CRANK_OK) ...
 *     crank_text query = {"how do tides work", 17};
 *     crank_text docs[2] = {{"Tides are ...", 13}, {"Bread is ...", 12}};
 *     crank_result results[2];
 *     size_t n_results;
 *     crank_rank(session, query, docs, 2, NULL, results, &n_results, NULL, &error);
 *     // results[0].index is the best document, .score what its author's own code would say
 *     crank_session_close(session);
 *     crank_model_close(model);
 *
 * Texts are UTF-8 with a length; NUL is allowed, each maximal invalid part is read as U+FFFD. They
 * are borrowed for the call. Outputs are the caller's memory. Every function that can fail returns
 * a crank_status and, if `error` is not NULL, says why in one line. Closing NULL is fine.
 *
 * The library never prints, exits or reads the environment; it keeps no global state. Option
 * structs begin with their size (sizeof the struct, so that older callers stay right when fields
 * are added at the end); a zero field, or a NULL pointer to the struct, means the default.
 *
 * The same bits every time: a pair's score does not depend on what shares its batch, on the order,
 * on batch size or on the number of threads. It does depend on device, dtype and instruction set
 * (int8: not on the instruction set). */
#ifndef CRANK_H
#define CRANK_H

#include <stddef.h>
#include <stdint.h>

#include "crank_status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CRANK_VERSION "0.1.0"

/* The library's own version, equal to the header's CRANK_VERSION when they belong together. */
CRANK_API const char *crank_version(void);

typedef struct crank_text {
    const char *data; /* may be NULL when bytes is 0 */
    size_t bytes;
} crank_text;

/* ---- models ---- */

typedef struct crank_model crank_model;

typedef enum crank_device {
    CRANK_DEVICE_AUTO = 0, /* the fastest that is there */
    CRANK_DEVICE_REF,      /* the specification: plain C, fp32, slow */
    CRANK_DEVICE_CPU,
    CRANK_DEVICE_CUDA,
} crank_device;

typedef enum crank_dtype {
    CRANK_DTYPE_AUTO = 0, /* what a converted file holds; else f32 on ref, the fastest faithful one
                             elsewhere */
    CRANK_DTYPE_F32,
    CRANK_DTYPE_BF16,
    CRANK_DTYPE_F16,
    CRANK_DTYPE_INT8,
} crank_dtype;

typedef enum crank_activation {
    CRANK_ACTIVATION_MODEL = 0, /* as sentence-transformers would choose it for this folder */
    CRANK_ACTIVATION_IDENTITY,
    CRANK_ACTIVATION_SIGMOID,
    CRANK_ACTIVATION_TANH,
    CRANK_ACTIVATION_SOFTMAX, /* over the labels of one pair */
} crank_activation;

typedef struct crank_model_options {
    size_t size;
    crank_device device;
    int device_ordinal; /* cuda:N */
    crank_dtype dtype;
    const char
        *isa; /* CPU: force an instruction set by name (see crank_variants); NULL: best.
                 GPU: "cublaslt" or "own": which GEMM, else kernels by a part of their name */
    const char *cuda_library;   /* another libcuda.so.1, e.g. the emulator; NULL: the system's */
    size_t device_memory_bytes; /* budget on a GPU; 0: what is free */
    int bi_encoder;   /* run an encoder as a bi-encoder (pooled vectors, cosine) although the folder
                         does not say so */
    int load_threads; /* packing of plain folders; 0: all cores */
    const char *prompt;        /* T5 rankers: template with {q} and {d}; NULL: the folder's or the
                                  known checkpoint's */
    const char *answer_tokens; /* T5 rankers: vocabulary spellings or #ids, comma-separated; a
                                  converted file has those that it was converted with */
    const char *reduction;     /* T5 rankers: logit, diff, log_softmax, probability, expectation */
    const char *cublaslt_library; /* another libcublasLt; NULL: cuda_library when that is given,
                                     else the system's, if it is wanted */
    const char *nvtx_library; /* GPU: ranges named as the ops for the profiler that this library is:
                                 pass on the environment's NVTX_INJECTION64_PATH; NULL: none */
} crank_model_options;

/* path: a Hugging Face folder (config.json, tokenizer.json or vocab.txt, model.safetensors or
 * shards with an index) or a file made by crank_convert. A folder from outside is untrusted input.
 * Fails: IO, FORMAT, UNSUPPORTED (names the field that stopped it), MODEL, NUMERIC, DEVICE,
 * OUT_OF_MEMORY. */
CRANK_API crank_status crank_model_open(crank_model **model, const char *path,
                                        const crank_model_options *options, crank_error *error);
CRANK_API void crank_model_close(crank_model *model);

typedef enum crank_model_kind {
    CRANK_CROSS_ENCODER = 0, /* pairs -> logits */
    CRANK_BI_ENCODER,        /* texts -> vectors; a pair's score is the cosine */
    CRANK_LATE_INTERACTION,  /* ColBERT: texts -> token vectors; MaxSim */
} crank_model_kind;

/* What is known of a model. Strings live as long as the model. */
typedef struct crank_model_info {
    size_t size; /* set by the caller before the call */
    crank_model_kind kind;
    const char *architecture; /* "bert", "electra", ... */
    const char *name;         /* last component of the path, or the name a converted file keeps */
    const char *path;
    const char *device; /* "ref", "cpu", "cuda" */
    const char *device_description;
    const char *dtype;
    const char *layout;        /* of the packed linears */
    const char *source_dtypes; /* of the source's tensors: "F32", "BF16", "F16,F32" */
    int64_t n_parameters;
    size_t weight_bytes; /* resident, as packed */
    int32_t layers, width, heads, head_width, ffn_width, vocab_size, max_positions, labels;
    const char *hidden_activation;
    const char *pooling;         /* "first token", "mean" */
    const char *head;            /* "dense tanh, classifier" */
    crank_activation activation; /* what CRANK_ACTIVATION_MODEL means here */
    const char *activation_name;
    const char *activation_source; /* "config.json sbert_ce_default_activation_function", ... */
    const char *tokenizer_model, *tokenizer_source, *tokenizer_warning; /* warning may be NULL */
    int32_t max_length; /* default truncation, template tokens included */
    const char *max_length_source;
    const char *prompt;        /* T5 rankers, else NULL */
    const char *source_sha256; /* converted files: of the source weights, hex; else NULL */
    const char *converted_by;  /* converted files: crank's version; else NULL */
    uint64_t digest[2]; /* of the weights as packed, layout, device and tokenizer: for caches */
} crank_model_info;
CRANK_API crank_status crank_model_describe(const crank_model *model, crank_model_info *info,
                                            crank_error *error);

/* What the device has decided since the model was opened, in words: on a GPU which linears go
 * through cuBLASLt and why others do not, known once a session is open. "" when there is nothing to
 * say. Writes at most bytes with the terminator. Any thread. */
CRANK_API void crank_model_notes(const crank_model *model, char *text, size_t bytes);

/* ---- sessions ---- */

/* Threads that sessions share, so that many sessions on one machine do not oversubscribe it. */
typedef struct crank_team crank_team;
/* n_threads 0: one per core this process may use. pin: bind each to a core. */
CRANK_API crank_status crank_team_open(crank_team **team, int n_threads, int pin,
                                       crank_error *error);
CRANK_API void crank_team_close(crank_team *team);

/* Scores of pairs seen before, shared by sessions and threads. Keyed by 128-bit hashes of (model
 * and settings, query ids, document ids); bounded; a damaged entry is a miss. */
typedef struct crank_cache crank_cache;
CRANK_API crank_status crank_cache_open(crank_cache **cache, size_t capacity_bytes,
                                        crank_error *error);
CRANK_API void crank_cache_close(crank_cache *cache);
typedef struct crank_cache_counts {
    uint64_t hits, misses, insertions, evictions, damaged;
    size_t entries, bytes, capacity_bytes;
} crank_cache_counts;
CRANK_API void crank_cache_count(const crank_cache *cache, crank_cache_counts *counts);

typedef struct crank_session crank_session;

typedef struct crank_session_options {
    size_t size;
    int n_threads; /* 0: all cores; ignored when team is given */
    int pin;
    crank_team *team;    /* shared; outlives the session */
    crank_cache *cache;  /* shared; outlives the session; NULL: none */
    size_t batch_tokens; /* tokens of a micro-batch; 0: the planner's choice */
} crank_session_options;

CRANK_API crank_status crank_session_open(crank_session **session, const crank_model *model,
                                          const crank_session_options *options, crank_error *error);
CRANK_API void crank_session_close(crank_session *session);

typedef enum crank_truncation {
    CRANK_LONGEST_FIRST = 0,
    CRANK_ONLY_SECOND,
    CRANK_WINDOW, /* the document in overlapping windows; its score is the maximum */
} crank_truncation;

/* Duo rankers (two documents a prompt): p_ij is the model's "i before j". Pradeep et al. 2021. */
typedef enum crank_aggregation {
    CRANK_SYM_SUM = 0, /* s_i = sum_j p_ij + (1 - p_ji) */
    CRANK_SUM,         /* s_i = sum_j p_ij */
    CRANK_SYM_SUM_LOG, /* the logs of the same terms */
    CRANK_SUM_LOG,
} crank_aggregation;

/* Called between micro-batches from the calling thread; non-zero cancels (CANCELLED). */
typedef int (*crank_progress)(void *user, size_t pairs_done, size_t pairs_total);

typedef struct crank_score_options {
    size_t size;
    size_t max_length; /* 0: the model's; template tokens included */
    crank_truncation truncation;
    crank_activation activation;
    int specials_as_text;  /* "[SEP]" in a text is text; default: the token, as Hugging Face has it
                            */
    size_t window_overlap; /* CRANK_WINDOW: tokens shared by neighbours; 0: a quarter of a window */
    size_t top_k;          /* crank_rank: how many results; 0: all */
    crank_progress progress;
    void *progress_user;
    crank_aggregation aggregation; /* duo rankers */
    uint32_t *pair_tokens;         /* out, [n] by the caller's order: tokens of each pair after
                                      truncation; NULL: not wanted */
} crank_score_options;

typedef struct crank_usage {
    size_t pairs;          /* asked for */
    size_t computed_pairs; /* run through the model (equal pairs fold, the cache answers) */
    size_t tokens;         /* of all pairs asked for, after truncation */
    size_t computed_tokens;
    size_t cache_hits;
    int64_t tokenize_us, compute_us, total_us;
} crank_usage;

typedef struct crank_pair {
    crank_text query, document;
} crank_pair;

/* Scores pairs in the caller's order. logits, scores: [n, labels] f32, either may be NULL; scores
 * are activation(logits), computed in f32. n may be 0. usage may be NULL. On failure outputs are
 * unspecified. Fails: INVALID_ARGUMENT, LIMIT, CANCELLED, NUMERIC (a score is not finite: names the
 * pair), DEVICE, OUT_OF_MEMORY. */
CRANK_API crank_status crank_score(crank_session *session, const crank_pair *pairs, size_t n,
                                   const crank_score_options *options, float *logits, float *scores,
                                   crank_usage *usage, crank_error *error);

typedef struct crank_result {
    size_t index; /* of the document, in the caller's order */
    float score, logit;
    uint32_t window_start, window_bytes; /* CRANK_WINDOW: the winning span of the document in bytes;
                                            else 0 and the document's length */
} crank_result;

/* Orders documents by score, best first, ties by index. results: room for min(n, top_k or n).
 * Needs one label (a model with several fails with INVALID_ARGUMENT). */
CRANK_API crank_status crank_rank(crank_session *session, crank_text query, const crank_text *docs,
                                  size_t n, const crank_score_options *options,
                                  crank_result *results, size_t *n_results, crank_usage *usage,
                                  crank_error *error);

/* Token ids instead of texts, template tokens included: sequence i is ids[starts[i]] ..
 * ids[starts[i+1]-1]; types may be NULL (zeros). logits: [n, labels]. A bi-encoder writes its
 * vectors [n, width] here instead. Ids are range-checked. */
CRANK_API crank_status crank_score_tokens(crank_session *session, const int32_t *ids,
                                          const int32_t *types, const size_t *starts, size_t n,
                                          float *logits, crank_usage *usage, crank_error *error);

/* Vectors of texts: [n, width] f32. Bi-encoders only. */
CRANK_API crank_status crank_embed(crank_session *session, const crank_text *texts, size_t n,
                                   const crank_score_options *options, float *vectors,
                                   crank_usage *usage, crank_error *error);

/* ---- document embeddings ---- */

/* Late interaction (ColBERT) encodes a document without its query, so its vectors can be kept:
 * re-ranking then costs the query's encoding and MaxSim. An embeddings file is safetensors:
 *
 *     vectors  [N, dim] F32 or I8     the vectors that take part in the maximum, document after
 *                                     document
 *     scales   [N] F32                only with I8: vector = codes * scale
 *     counts   [n] I32                vectors of each document; their sum is N
 *     ids      [bytes] U8             optional: n NUL-terminated UTF-8 strings
 *
 * and in its metadata crank.embeddings ("1", the format), crank.version, crank.model (its name),
 * crank.fingerprint (of the source's weights: a folder and what was converted from it agree),
 * crank.document_rules (length, marker, skip list) and crank.encoder (device and dtype that made
 * it). F32 scores have the bits of crank_rank on the same device and dtype; I8 is a quarter of the
 * size, and a score differs by at most sqrt(dim) / 127 per query vector, in practice by a tenth of
 * that. */
typedef struct crank_embeddings crank_embeddings;

typedef struct crank_encode_options {
    size_t size;
    crank_dtype dtype;      /* of the stored vectors: F32 (AUTO) or INT8 */
    const char *const *ids; /* [n], none NULL; NULL: none are stored */
    int specials_as_text;
    crank_progress progress; /* in documents */
    void *progress_user;
} crank_encode_options;

/* Encodes documents into an embeddings file, written aside, synced and renamed; nothing is left
 * behind on failure. Memory: ids of all texts and a part of the vectors. Late interaction only.
 * Fails: INVALID_ARGUMENT, IO, CANCELLED, NUMERIC, DEVICE, OUT_OF_MEMORY. */
CRANK_API crank_status crank_encode(crank_session *session, const crank_text *documents, size_t n,
                                    const crank_encode_options *options, const char *destination,
                                    crank_usage *usage, crank_error *error);

/* Reads a file whole and checks all of it: sizes that agree, finite numbers. Immutable afterwards;
 * sessions and threads may share it. Fails: IO, FORMAT, OUT_OF_MEMORY. */
CRANK_API crank_status crank_embeddings_open(crank_embeddings **embeddings, const char *path,
                                             crank_error *error);
CRANK_API void crank_embeddings_close(crank_embeddings *embeddings);

typedef struct crank_embeddings_info {
    size_t size; /* set by the caller before the call */
    size_t documents, vectors, bytes;
    int32_t dim;
    const char *dtype;         /* "f32", "int8" */
    const char *model;         /* name of the model that made it */
    const char *encoder;       /* "f32 on cpu" */
    const char *crank_version; /* that wrote it */
    int has_ids;
} crank_embeddings_info;
CRANK_API crank_status crank_embeddings_describe(const crank_embeddings *embeddings,
                                                 crank_embeddings_info *info, crank_error *error);
/* The id of a document; NULL: the file has none, or index is out of range. */
CRANK_API const char *crank_embeddings_id(const crank_embeddings *embeddings, size_t index);

/* crank_rank for documents of an embeddings file: candidates [n] are their numbers in it
 * (candidates NULL: all of them, n is not read). A result's index is that number. results: room for
 * as many as candidates, or top_k. Fails as crank_rank; MODEL when another model, or this one with
 * other document settings, made the file. */
CRANK_API crank_status crank_rank_embeddings(crank_session *session, crank_text query,
                                             const crank_embeddings *embeddings,
                                             const size_t *candidates, size_t n,
                                             const crank_score_options *options,
                                             crank_result *results, size_t *n_results,
                                             crank_usage *usage, crank_error *error);

/* activation(logit) in f32, as scores are made. */
CRANK_API float crank_activate(crank_activation activation, float logit);

/* ---- tokenizers ---- */

/* Needs the tokenizer files of a folder alone, or a converted file. */
typedef struct crank_tokenizer crank_tokenizer;
CRANK_API crank_status crank_tokenizer_open(crank_tokenizer **tokenizer, const char *path,
                                            crank_error *error);
CRANK_API void crank_tokenizer_close(crank_tokenizer *tokenizer);
/* The model's own; lives as long as the model. */
CRANK_API const crank_tokenizer *crank_model_tokenizer(const crank_model *model);

typedef struct crank_encoding {
    int32_t *ids, *types; /* [n], free with crank_encoding_free */
    size_t n;
} crank_encoding;

typedef struct crank_tokenize_options {
    size_t size;
    size_t max_length;           /* 0: no truncation */
    crank_truncation truncation; /* CRANK_WINDOW is not for this */
    int specials_as_text;
    int no_template; /* single texts: the ids of the text alone */
} crank_tokenize_options;

/* document NULL: a single text. Fails: INVALID_ARGUMENT (no room), OUT_OF_MEMORY. */
CRANK_API crank_status crank_tokenize(const crank_tokenizer *tokenizer, crank_text text,
                                      const crank_text *document,
                                      const crank_tokenize_options *options,
                                      crank_encoding *encoding, crank_error *error);
CRANK_API void crank_encoding_free(crank_encoding *encoding);
/* How many bytes of a text its first max_tokens (at least 1) tokens cover, template tokens not
 * counted; all of them when it has no more. Reads about as much of the text as that takes. Fails:
 * INVALID_ARGUMENT, LIMIT, OUT_OF_MEMORY. */
CRANK_API crank_status crank_cut(const crank_tokenizer *tokenizer, crank_text text,
                                 size_t max_tokens, int specials_as_text, size_t *bytes,
                                 crank_error *error);

/* ---- files ---- */

typedef struct crank_convert_options {
    size_t size;
    crank_dtype dtype;       /* AUTO: int8 for cross-encoders whose ops have it, else f32 */
    crank_device device;     /* whose layout: CPU by default, CUDA, REF */
    crank_progress progress; /* in tensors */
    void *progress_user;
    int bi_encoder;
    const char *prompt; /* T5 rankers: these three are kept in the file, as crank_model_options has
                           them; the file holds the answers' rows of the vocabulary alone */
    const char *answer_tokens;
    const char *reduction;
} crank_convert_options;

/* One self-contained safetensors file: weights in kernel layout and dtype, config, tokenizer, the
 * source's sha256 and crank's version. Written aside, synced and renamed; nothing is left behind on
 * failure.
 * source: a folder, or a converted file whose dtype is no narrower (INVALID_ARGUMENT). */
CRANK_API crank_status crank_convert(const char *source, const char *destination,
                                     const crank_convert_options *options, crank_error *error);

/* A Hugging Face folder with seeded random weights in a real shape: "minilm-l6", "minilm-l12",
 * "tinybert-l2", "tinybert-l4", "electra-base", "bert-base", "bert-large". */
CRANK_API crank_status crank_synth(const char *shape, const char *directory, uint64_t seed,
                                   crank_error *error);
/* NULL-terminated list of the shapes. */
CRANK_API const char *const *crank_synth_shapes(void);

/* Compares with golden data (golden.safetensors as golden/README describes): logits, scores, and
 * the traces layer by layer. */
typedef struct crank_check {
    const char *name; /* "logits", "trace.layer.0", valid during the callback */
    int64_t n_values;
    double max_abs_error, tolerance;
    int passed;
} crank_check;
typedef void (*crank_check_fn)(void *user, const crank_check *check);
/* *passed: all checks held. first_stray: [64] bytes, name of the first trace past its tolerance in
 * forward order, "" if none; may be NULL. Fails when the comparison cannot be made. */
CRANK_API crank_status crank_verify(const crank_model *model, const char *golden_directory,
                                    crank_check_fn report, void *user, int *passed,
                                    char *first_stray, crank_error *error);

/* ---- devices and kernels ---- */

typedef struct crank_variant {
    const char *op, *dtype, *isa, *name, *shape;
    int available, selected;
} crank_variant;
/* Calls visit for every kernel variant of a device; the strings live as long as the call. */
CRANK_API crank_status crank_variants(const crank_model_options *device,
                                      void (*visit)(void *user, const crank_variant *variant),
                                      void *user, crank_error *error);

typedef struct crank_device_info {
    const char *name, *description; /* description: what it is, or why it is not there */
    int available;
    const char *default_dtype;
} crank_device_info;
CRANK_API crank_status crank_devices(const crank_model_options *options,
                                     void (*visit)(void *user, const crank_device_info *device),
                                     void *user, crank_error *error);

#ifdef __cplusplus
}
#endif
#endif
