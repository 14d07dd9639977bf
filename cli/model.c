/* From flags to an open session. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/model.h"

const char *const dtype_names[] = {"auto", "f32", "bf16", "f16", "int8", NULL};
const char *const activation_names[] = {"model", "identity", "sigmoid", NULL};
const char *const truncation_names[] = {"longest_first", "only_second", "window", NULL};
const char *const progress_names[] = {"auto", "always", "never", NULL};

/* The emulator's library lies beside the program in a build, in ../lib when installed;
 * CRANK_EMU_LIBRARY names another. */
static void find_emulator(char *path)
{
    static const char *const places[] = {"", "../lib/", "../lib64/"};
    const char *named = getenv("CRANK_EMU_LIBRARY");
    if (named && *named) {
        snprintf(path, PATH_MAX, "%s", named);
        return;
    }
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(self, '/');
    if (slash) slash[1] = '\0';
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        int bytes = snprintf(path, PATH_MAX, "%s%slibcrank_emu.so", self, places[i]);
        if (bytes < PATH_MAX && access(path, R_OK) == 0) return;
    }
    snprintf(path, PATH_MAX, "libcrank_emu.so"); /* as the loader finds it, or its message */
}

void model_options_of(crank_model_options *options, const model_flags *flags, char *emu_path)
{
    *options = (crank_model_options){
        .size = sizeof *options,
        .device = flags->device.device,
        .device_ordinal = flags->device.ordinal,
        .dtype = (crank_dtype)flags->dtype,
        .isa = flags->isa,
        .nvtx_library = flags->nvtx ? getenv("NVTX_INJECTION64_PATH") : NULL,
        .device_memory_bytes = flags->device_memory_mb << 20,
        .bi_encoder = flags->bi_encoder,
        .load_threads = (int)flags->threads,
        .prompt = flags->prompt,
        .answer_tokens = flags->answer,
        .reduction = flags->reduce,
    };
    if (flags->device.emulated) {
        find_emulator(emu_path);
        options->cuda_library = emu_path;
    }
}

crank_score_options score_options_of(const model_flags *flags)
{
    return (crank_score_options){
        .size = sizeof(crank_score_options),
        .max_length = flags->max_length,
        .truncation = (crank_truncation)flags->truncation,
        .activation = (crank_activation)flags->activation,
        .specials_as_text = flags->specials_as_text,
        .window_overlap = flags->window_overlap,
        .top_k = flags->top_k,
    };
}

cli_exit model_open(opened_model *opened, const model_flags *flags, int with_session)
{
    memset(opened, 0, sizeof *opened);
    int64_t start = now_us();
    char emu_path[PATH_MAX];
    crank_model_options options;
    model_options_of(&options, flags, emu_path);
    crank_error error = {0};
    if (crank_model_open(&opened->model, flags->path, &options, &error) != CRANK_OK)
        return cli_fail_status(&error, 1);
    opened->info.size = sizeof opened->info;
    crank_session_options session = {
        .size = sizeof session,
        .n_threads = (int)flags->threads,
        .pin = flags->pin,
        .batch_tokens = flags->batch_tokens,
    };
    if (crank_model_describe(opened->model, &opened->info, &error) != CRANK_OK ||
        (with_session &&
         crank_session_open(&opened->session, opened->model, &session, &error) != CRANK_OK)) {
        model_close(opened);
        return cli_fail_status(&error, 0);
    }
    opened->load_us = now_us() - start;
    const crank_model_info *info = &opened->info;
    if (flags->verbose)
        cli_say("%s (%s), %s, %s on %s: %s; loaded in %.1f ms", info->name, info->architecture,
                info->dtype, info->layout, info->device, info->device_description,
                (double)opened->load_us / 1e3);
    crank_model_notes(opened->model, opened->notes, sizeof opened->notes);
    if (flags->verbose && opened->notes[0]) cli_say("%s", opened->notes);
    if (flags->verbose && info->tokenizer_warning) cli_say("%s", info->tokenizer_warning);
    return CLI_OK;
}

void model_close(opened_model *opened)
{
    crank_session_close(opened->session);
    crank_model_close(opened->model);
    memset(opened, 0, sizeof *opened);
}

void add_usage(crank_usage *sum, const crank_usage *usage)
{
    sum->pairs += usage->pairs;
    sum->computed_pairs += usage->computed_pairs;
    sum->tokens += usage->tokens;
    sum->computed_tokens += usage->computed_tokens;
    sum->cache_hits += usage->cache_hits;
    sum->tokenize_us += usage->tokenize_us;
    sum->compute_us += usage->compute_us;
    sum->total_us += usage->total_us;
}

void report_usage(const opened_model *opened, const model_flags *flags, const crank_usage *usage)
{
    if (!flags->verbose && !terminal_is(stderr)) return;
    progress_hide();
    double seconds = (double)(usage->total_us > 0 ? usage->total_us : 1) / 1e6;
    fprintf(stderr, "%s", terminal_style_of(stderr, STYLE_DIM));
    fprintf(stderr,
            "%zu pairs, %zu tokens; load %.1f ms, tokenize %.1f ms, compute %.1f ms; %.0f pairs/s, "
            "%.0f tokens/s on %s, %s",
            usage->pairs, usage->tokens, (double)opened->load_us / 1e3,
            (double)usage->tokenize_us / 1e3, (double)usage->compute_us / 1e3,
            (double)usage->pairs / seconds, (double)usage->tokens / seconds, opened->info.device,
            opened->info.dtype);
    fprintf(stderr, "%s\n", terminal_style_of(stderr, STYLE_PLAIN));
}
