/* crank info: what a model is and where each fact came from; what this machine can run. */
#include <limits.h>
#include <string.h>

#include "cli/model.h"
#include "cli/output.h"

typedef struct info_job {
    model_flags model;
    int json, kernels, devices;
    size_t n; /* rows printed */
} info_job;

static void put_field(const info_job *job, int *first, const char *key, const char *label,
                      const char *text)
{
    if (job->json) {
        printf("%s\"%s\":", *first ? "" : ",", key);
        json_put_string(stdout, text);
    } else if (text) {
        printf("%s%-20s%s ", terminal_style_of(stdout, STYLE_DIM), label,
               terminal_style_of(stdout, STYLE_PLAIN));
        put_plain(stdout, text, strlen(text));
        putchar('\n');
    }
    *first = 0;
}

static void put_number(const info_job *job, int *first, const char *key, const char *label,
                       long long number)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", number);
    if (job->json)
        printf("%s\"%s\":%s", *first ? "" : ",", key, text);
    else
        put_field(job, first, key, label, text);
    *first = 0;
}

/* Text with its source in brackets for people; two keys for machines. */
static void put_sourced(const info_job *job, int *first, const char *key, const char *label,
                        const char *text, const char *source)
{
    char both[1024], source_key[64];
    if (job->json) {
        put_field(job, first, key, label, text);
        snprintf(source_key, sizeof source_key, "%s_source", key);
        put_field(job, first, source_key, "", source);
    } else if (text) {
        snprintf(both, sizeof both, "%s (%s)", text, source ? source : "default");
        put_field(job, first, key, label, both);
    }
}

static void put_model(const info_job *job, const opened_model *opened)
{
    const crank_model_info *info = &opened->info;
    static const char *const kinds[] = {"cross-encoder", "bi-encoder", "late interaction"};
    int first = 1;
    char text[128];
    if (job->json) putchar('{');
    put_field(job, &first, "name", "name", info->name);
    put_field(job, &first, "path", "path", info->path);
    put_field(job, &first, "kind", "kind", kinds[info->kind]);
    put_field(job, &first, "architecture", "architecture", info->architecture);
    if (job->json) {
        put_number(job, &first, "layers", "", info->layers);
        put_number(job, &first, "width", "", info->width);
        put_number(job, &first, "heads", "", info->heads);
        put_number(job, &first, "head_width", "", info->head_width);
        put_number(job, &first, "ffn_width", "", info->ffn_width);
    } else {
        snprintf(text, sizeof text, "%d layers, width %d, %d heads of %d, FFN %d", info->layers,
                 info->width, info->heads, info->head_width, info->ffn_width);
        put_field(job, &first, "", "shape", text);
    }
    put_number(job, &first, "vocab_size", "vocabulary", info->vocab_size);
    put_number(job, &first, "max_positions", "positions", info->max_positions);
    put_number(job, &first, "labels", "labels", info->labels);
    put_field(job, &first, "hidden_activation", "inner activation", info->hidden_activation);
    put_field(job, &first, "pooling", "pooling", info->pooling);
    put_field(job, &first, "head", "head", info->head);
    put_field(job, &first, "prompt", "prompt", info->prompt);
    put_sourced(job, &first, "activation", "score activation", info->activation_name,
                info->activation_source);
    put_sourced(job, &first, "tokenizer", "tokenizer", info->tokenizer_model,
                info->tokenizer_source);
    if (info->tokenizer_warning || job->json)
        put_field(job, &first, "tokenizer_warning", "", info->tokenizer_warning);
    if (job->json) {
        put_number(job, &first, "max_length", "", info->max_length);
        put_field(job, &first, "max_length_source", "", info->max_length_source);
        put_number(job, &first, "parameters", "", info->n_parameters);
        put_number(job, &first, "weight_bytes", "", (long long)info->weight_bytes);
    } else {
        snprintf(text, sizeof text, "%d", info->max_length);
        put_sourced(job, &first, "", "longest input", text, info->max_length_source);
        snprintf(text, sizeof text, "%.1f M", (double)info->n_parameters / 1e6);
        put_field(job, &first, "", "parameters", text);
        snprintf(text, sizeof text, "%.1f MB resident", (double)info->weight_bytes / 1e6);
        put_field(job, &first, "", "weights", text);
    }
    put_field(job, &first, "source_dtypes", "stored as", info->source_dtypes);
    put_field(job, &first, "dtype", "runs as", info->dtype);
    put_field(job, &first, "layout", "layout", info->layout);
    put_field(job, &first, "device", "device", info->device);
    put_field(job, &first, "device_description", "", info->device_description);
    if (opened->notes[0] || job->json)
        put_field(job, &first, "device_notes", "", opened->notes[0] ? opened->notes : NULL);
    put_field(job, &first, "source_sha256", "source sha256", info->source_sha256);
    put_field(job, &first, "converted_by", "converted by", info->converted_by);
    if (job->json) puts("}");
}

static void put_variant(void *user, const crank_variant *variant)
{
    info_job *job = user;
    if (job->json) {
        const char *const keys[] = {"op", "dtype", "isa", "name", "shape"};
        const char *const values[] = {variant->op, variant->dtype, variant->isa, variant->name,
                                      variant->shape};
        for (size_t i = 0; i < 5; i++) {
            printf("%s\"%s\":", i ? "," : "{", keys[i]);
            json_put_string(stdout, values[i]);
        }
        printf(",\"available\":%s,\"selected\":%s}\n", variant->available ? "true" : "false",
               variant->selected ? "true" : "false");
    } else {
        if (job->n == 0)
            printf("%s  %-22s %-6s %-14s %-36s %s%s\n", terminal_style_of(stdout, STYLE_DIM), "op",
                   "dtype", "isa", "variant", "shapes", terminal_style_of(stdout, STYLE_PLAIN));
        const char *style = terminal_style_of(stdout, variant->selected    ? STYLE_BOLD
                                                      : variant->available ? STYLE_PLAIN
                                                                           : STYLE_DIM);
        printf("%s%c %-22s %-6s %-14s %-36s %s%s\n", style,
               variant->selected    ? '*'
               : variant->available ? ' '
                                    : '-',
               variant->op, variant->dtype, variant->isa, variant->name,
               variant->shape ? variant->shape : "", terminal_style_of(stdout, STYLE_PLAIN));
    }
    job->n++;
}

static void put_device(void *user, const crank_device_info *device)
{
    info_job *job = user;
    if (job->json) {
        fputs("{\"device\":", stdout);
        json_put_string(stdout, device->name);
        fputs(",\"description\":", stdout);
        json_put_string(stdout, device->description);
        printf(",\"available\":%s,\"default_dtype\":", device->available ? "true" : "false");
        json_put_string(stdout, device->default_dtype);
        puts("}");
    } else {
        printf("%c %-8s %-6s %s\n", device->available ? '*' : '-', device->name,
               device->default_dtype ? device->default_dtype : "", device->description);
    }
    job->n++;
}

static cli_exit run(const cli_command *self, int argc, char **argv)
{
    info_job job = {0};
    const cli_option options[] = {
        {"kernels", 0, OPTION_FLAG, &job.kernels, NULL,
         "every kernel variant; * is taken here, - needs other hardware", 0, 0, NULL},
        {"devices", 0, OPTION_FLAG, &job.devices, NULL, "the devices and why one is not there", 0,
         0, NULL},
        {"json", 0, OPTION_FLAG, &job.json, NULL,
         "one object, or JSON Lines with --kernels, --devices", 0, 0, NULL},
        DEVICE_OPTIONS(&job.model),
        DTYPE_OPTION(&job.model),
        {"bi-encoder", 0, OPTION_FLAG, &job.model.bi_encoder, NULL, "an encoder as a bi-encoder", 0,
         0, NULL},
        RANKER_OPTIONS(&job.model),
    };
    cli_arguments paths;
    cli_exit code =
        options_parse(self, options, sizeof options / sizeof *options, argc, argv, 0, 1, &paths);
    if (code != CLI_PARSED) return code;
    if (paths.n + job.kernels + job.devices != 1)
        return options_misuse(self, "one of MODEL, --kernels and --devices");
    if (paths.n) {
        opened_model opened = {0};
        job.model.path = paths.at[0];
        /* On a GPU, what is decided when a session opens is worth knowing. */
        code = model_open(&opened, &job.model, job.model.device.device == CRANK_DEVICE_CUDA);
        if (code == CLI_OK) put_model(&job, &opened);
        model_close(&opened);
        return code;
    }
    char emu_path[PATH_MAX];
    crank_model_options model;
    model_options_of(&model, &job.model, emu_path);
    crank_error error = {0};
    crank_status status = job.kernels ? crank_variants(&model, put_variant, &job, &error)
                                      : crank_devices(&model, put_device, &job, &error);
    return status == CRANK_OK ? CLI_OK : cli_fail_status(&error, 0);
}

const cli_command info_command = {
    .name = "info",
    .summary = "What a model is, and where each fact came from; kernels and devices.",
    .synopsis = "MODEL | --kernels | --devices",
    .example = "  crank info ms-marco-MiniLM-L-6-v2\n"
               "  crank info --kernels --device cpu",
    .run = run,
};
