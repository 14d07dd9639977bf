/* crank synth: seeded random weights in a real model's shape, for speed and size. */
#include <stdio.h>
#include <string.h>

#include "cli/options.h"

static cli_exit run(const cli_command *self, int argc, char **argv)
{
    const char *out_path = NULL;
    uint64_t seed = 1;
    const cli_option options[] = {
        {"output", 'o', OPTION_TEXT, &out_path, "DIR", "the folder to make (required)", 0, 0, NULL},
        {"seed", 0, OPTION_SEED, &seed, "N", "of the random numbers; 1", 0, 0, NULL},
    };
    cli_arguments arguments;
    cli_exit code = options_parse(self, options, sizeof options / sizeof *options, argc, argv, 1, 1,
                                  &arguments);
    if (code != CLI_PARSED) return code;
    if (!out_path) return options_misuse(self, "no output: -o DIR");
    const char *shape = arguments.at[0];
    const char *const *shapes = crank_synth_shapes();
    char list[512] = "";
    size_t n = 0, used = 0;
    int known = 0;
    for (; shapes[n]; n++) {
        known |= strcmp(shapes[n], shape) == 0;
        if (used < sizeof list)
            used +=
                (size_t)snprintf(list + used, sizeof list - used, "%s%s", n ? ", " : "", shapes[n]);
    }
    if (!known) {
        const char *nearest = options_nearest(shape, shapes, n);
        return options_misuse(self, "no shape '%s'; there are %s%s%s%s", shape, list,
                              nearest ? "; did you mean " : "", nearest ? nearest : "",
                              nearest ? "?" : "");
    }
    crank_error error = {0};
    if (crank_synth(shape, out_path, seed, &error) != CRANK_OK) return cli_fail_status(&error, 0);
    return CLI_OK;
}

const cli_command synth_command = {
    .name = "synth",
    .summary = "Makes a Hugging Face folder with seeded random weights in a real shape.",
    .synopsis = "SHAPE -o DIR",
    .details = "Shapes: minilm-l6, minilm-l12, tinybert-l2, tinybert-l4, electra-base, bert-base,\n"
               "bert-large. The scores mean nothing; speed, memory and formats are the real ones.",
    .example = "  crank synth minilm-l6 -o /tmp/minilm-l6\n"
               "  crank rank -m /tmp/minilm-l6 -q 'any query' docs.txt",
    .run = run,
};
