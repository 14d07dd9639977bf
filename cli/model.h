/* The options that every command with a model takes, and the model and session that they ask for.
 */
#ifndef CRANK_CLI_MODEL_H
#define CRANK_CLI_MODEL_H

#include "cli/options.h"
#include "cli/terminal.h"

typedef struct model_flags {
    const char *path;
    cli_device device;
    int dtype, activation, truncation, progress; /* indices into the choices below */
    size_t threads, max_length, window_overlap, batch_tokens, top_k, device_memory_mb;
    int pin, specials_as_text, bi_encoder, verbose, nvtx;
    const char *isa, *prompt, *answer, *reduce;
} model_flags;

extern const char *const dtype_names[];      /* in the order of crank_dtype */
extern const char *const activation_names[]; /* model, identity, sigmoid */
extern const char *const truncation_names[]; /* in the order of crank_truncation */
extern const char *const progress_names[];   /* in the order of progress_mode */

/* Rows for a table of options. */
#define MODEL_OPTION(m)                                                                            \
    {                                                                                              \
        "model", 'm', OPTION_TEXT, &(m)->path, "MODEL",                                            \
            "a Hugging Face folder or a file made by crank convert (required)", 0, 0, NULL         \
    }
#define DEVICE_OPTIONS(m)                                                                          \
    {"device",                                                                                     \
     0,                                                                                            \
     OPTION_DEVICE,                                                                                \
     &(m)->device,                                                                                 \
     "DEVICE",                                                                                     \
     "auto, ref, cpu, cuda, cuda:N or emu; auto: the fastest that is there",                       \
     0,                                                                                            \
     0,                                                                                            \
     NULL},                                                                                        \
        {"isa",                                                                                    \
         0,                                                                                        \
         OPTION_TEXT,                                                                              \
         &(m)->isa,                                                                                \
         "NAME",                                                                                   \
         "a CPU instruction set that info --kernels lists; cuda: cublaslt or own, which GEMM",     \
         0,                                                                                        \
         0,                                                                                        \
         NULL},                                                                                    \
        {"nvtx",                                                                                   \
         0,                                                                                        \
         OPTION_FLAG,                                                                              \
         &(m)->nvtx,                                                                               \
         NULL,                                                                                     \
         "cuda: name ops for the profiler that NVTX_INJECTION64_PATH names, as it sets it",        \
         0,                                                                                        \
         0,                                                                                        \
         NULL},                                                                                    \
    {                                                                                              \
        "device-memory", 0, OPTION_COUNT, &(m)->device_memory_mb, "MB",                            \
            "budget on a GPU; what is free", 1, SIZE_MAX >> 20, NULL                               \
    }
#define DTYPE_OPTION(m)                                                                            \
    {                                                                                              \
        "dtype", 0, OPTION_CHOICE, &(m)->dtype, NULL,                                              \
            "auto: what a converted file holds; else f32 on ref, the fastest faithful one "        \
            "elsewhere",                                                                           \
            0, 0, dtype_names                                                                      \
    }
#define THREADS_OPTION(m)                                                                          \
    {                                                                                              \
        "threads", 0, OPTION_COUNT, &(m)->threads, "N", "all cores", 1, 1024, NULL                 \
    }
#define PROGRESS_OPTION(m)                                                                         \
    {                                                                                              \
        "progress", 0, OPTION_CHOICE, &(m)->progress, NULL,                                        \
            "auto: on a terminal, when work takes over a second", 0, 0, progress_names             \
    }
#define VERBOSE_OPTION(m)                                                                          \
    {                                                                                              \
        "verbose", 'v', OPTION_FLAG, &(m)->verbose, NULL,                                          \
            "say on stderr what was chosen, and timings", 0, 0, NULL                               \
    }
#define TRUNCATION_OPTIONS(m)                                                                      \
    {"max-length",                                                                                 \
     0,                                                                                            \
     OPTION_COUNT,                                                                                 \
     &(m)->max_length,                                                                             \
     "N",                                                                                          \
     "tokens of a pair, template tokens included; the model's",                                    \
     1,                                                                                            \
     1 << 24,                                                                                      \
     NULL},                                                                                        \
        {"truncation",                                                                             \
         0,                                                                                        \
         OPTION_CHOICE,                                                                            \
         &(m)->truncation,                                                                         \
         NULL,                                                                                     \
         "longest_first; window: the document in overlapping windows, the best one counts",        \
         0,                                                                                        \
         0,                                                                                        \
         truncation_names},                                                                        \
        {"window-overlap",                                                                         \
         0,                                                                                        \
         OPTION_COUNT,                                                                             \
         &(m)->window_overlap,                                                                     \
         "N",                                                                                      \
         "tokens that neighbouring windows share; a quarter of a window",                          \
         1,                                                                                        \
         1 << 24,                                                                                  \
         NULL},                                                                                    \
    {                                                                                              \
        "specials-as-text", 0, OPTION_FLAG, &(m)->specials_as_text, NULL,                          \
            "\"[SEP]\" in a text is text; without this it is the token, as Hugging Face has it",   \
            0, 0, NULL                                                                             \
    }
/* What a T5 ranker is asked. */
#define RANKER_OPTIONS(m)                                                                          \
    {"prompt", 0, OPTION_TEXT, &(m)->prompt, "TEXT", "T5 rankers: template with {q} and {d}",      \
     0,        0, NULL},                                                                           \
        {"answer",    0,                                                                           \
         OPTION_TEXT, &(m)->answer,                                                                \
         "TOKENS",    "T5 rankers: answer tokens, comma-separated",                                \
         0,           0,                                                                           \
         NULL},                                                                                    \
    {                                                                                              \
        "reduce", 0, OPTION_TEXT, &(m)->reduce, "HOW",                                             \
            "T5 rankers: logit, diff, log_softmax, probability, expectation", 0, 0, NULL           \
    }
/* Everything that scoring takes but --top-k. */
#define SCORING_OPTIONS(m)                                                                         \
    MODEL_OPTION(m), DEVICE_OPTIONS(m), DTYPE_OPTION(m), THREADS_OPTION(m),                        \
        {"pin", 0, OPTION_FLAG, &(m)->pin, NULL, "bind each thread to a core", 0, 0, NULL},        \
        TRUNCATION_OPTIONS(m),                                                                     \
        {"activation",                                                                             \
         0,                                                                                        \
         OPTION_CHOICE,                                                                            \
         &(m)->activation,                                                                         \
         NULL,                                                                                     \
         "over the logit; model: as the model's folder says",                                      \
         0,                                                                                        \
         0,                                                                                        \
         activation_names},                                                                        \
        {"batch-tokens",                                                                           \
         0,                                                                                        \
         OPTION_COUNT,                                                                             \
         &(m)->batch_tokens,                                                                       \
         "N",                                                                                      \
         "tokens of a micro-batch; the planner's choice",                                          \
         1,                                                                                        \
         1 << 30,                                                                                  \
         NULL},                                                                                    \
        {"bi-encoder",                                                                             \
         0,                                                                                        \
         OPTION_FLAG,                                                                              \
         &(m)->bi_encoder,                                                                         \
         NULL,                                                                                     \
         "an encoder's pooled vectors and their cosine, although the folder does not say so",      \
         0,                                                                                        \
         0,                                                                                        \
         NULL},                                                                                    \
        RANKER_OPTIONS(m), PROGRESS_OPTION(m), VERBOSE_OPTION(m)

typedef struct opened_model {
    crank_model *model;
    crank_session *session;
    crank_model_info info;
    int64_t load_us;
    char notes[512]; /* crank_model_notes, once opened */
} opened_model;

/* Opens the model alone, or with a session. -v says device, dtype and threads. */
cli_exit model_open(opened_model *opened, const model_flags *flags, int with_session);
void model_close(opened_model *opened);

/* The library's options as the flags say them. emu_path: room for the emulator's path, PATH_MAX. */
void model_options_of(crank_model_options *options, const model_flags *flags, char *emu_path);
crank_score_options score_options_of(const model_flags *flags);

/* sum += usage, for work in several calls. */
void add_usage(crank_usage *sum, const crank_usage *usage);
/* One line for people after scoring: pairs, tokens, times, rates. On a terminal or with -v. */
void report_usage(const opened_model *opened, const model_flags *flags, const crank_usage *usage);

#endif
