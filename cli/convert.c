/* crank convert: a model folder into one self-contained file. */
#include <string.h>
#include <sys/stat.h>

#include "cli/model.h"

static cli_exit run(const cli_command *self, int argc, char **argv)
{
    model_flags model = {0};
    const char *out_path = NULL;
    const cli_option options[] = {
        {"output", 'o', OPTION_TEXT, &out_path, "FILE",
         "the file to write, whole or not at all (required)", 0, 0, NULL},
        {"dtype", 0, OPTION_CHOICE, &model.dtype, NULL,
         "of the weights; auto: int8 where the model's ops have it, else f32", 0, 0, dtype_names},
        {"device", 0, OPTION_DEVICE, &model.device, "DEVICE",
         "whose layout the weights take: cpu, cuda or ref; auto: cpu where this build has it", 0, 0,
         NULL},
        {"bi-encoder", 0, OPTION_FLAG, &model.bi_encoder, NULL,
         "keep that this encoder is to be run as a bi-encoder", 0, 0, NULL},
        RANKER_OPTIONS(&model),
        PROGRESS_OPTION(&model),
        VERBOSE_OPTION(&model),
    };
    cli_arguments folder;
    cli_exit code =
        options_parse(self, options, sizeof options / sizeof *options, argc, argv, 1, 1, &folder);
    if (code != CLI_PARSED) return code;
    if (!out_path) return options_misuse(self, "no output: -o FILE");

    progress bar;
    progress_start(&bar, "tensors", (progress_mode)model.progress);
    const crank_convert_options convert = {
        .size = sizeof convert,
        .dtype = (crank_dtype)model.dtype,
        .device = model.device.device,
        .progress = progress_report,
        .progress_user = &bar,
        .bi_encoder = model.bi_encoder,
        .prompt = model.prompt,
        .answer_tokens = model.answer,
        .reduction = model.reduce,
    };
    crank_error error = {0};
    int64_t start = now_us();
    crank_status status = crank_convert(folder.at[0], out_path, &convert, &error);
    progress_hide();
    if (status != CRANK_OK) {
        /* A message begins with the path that it is about. */
        int is_output = strncmp(error.message, out_path, strlen(out_path)) == 0;
        return cli_fail_status(&error, !is_output);
    }
    struct stat about;
    if ((model.verbose || terminal_is(stderr)) && stat(out_path, &about) == 0)
        cli_say("%s: %.1f MB in %.2f s", out_path, (double)about.st_size / 1e6,
                (double)(now_us() - start) / 1e6);
    return CLI_OK;
}

const cli_command convert_command = {
    .name = "convert",
    .summary = "Writes one self-contained file: weights ready to run, config and tokenizer inside.",
    .synopsis = "DIR -o FILE --dtype T",
    .details = "The weights are stored in the dtype and the layout that the kernels read, so that "
               "opening\n"
               "the file is one read. The source's sha256 and crank's version go into it.",
    .example = "  crank convert ms-marco-MiniLM-L-6-v2 -o minilm.crank --dtype int8\n"
               "  crank rank -m minilm.crank -q 'how do tides work' docs.txt",
    .run = run,
};
