/* crank verify: this machine's numbers against recorded ones. */
#include "cli/model.h"
#include "cli/output.h"

typedef struct verify_report {
    int json;
    size_t n, n_failed;
} verify_report;

static void put_check(void *user, const crank_check *check)
{
    verify_report *report = user;
    report->n++;
    report->n_failed += !check->passed;
    if (report->json) {
        fputs("{\"name\":", stdout);
        json_put_string(stdout, check->name);
        printf(",\"values\":%lld,\"max_abs_error\":", (long long)check->n_values);
        json_put_float(stdout, (float)check->max_abs_error);
        printf(",\"tolerance\":%.9g,\"passed\":%s}\n", check->tolerance,
               check->passed ? "true" : "false");
        return;
    }
    printf("%s%-4s%s  %-36s %10lld values  max error %-11.4g tolerance %.4g\n",
           terminal_style_of(stdout, check->passed ? STYLE_GREEN : STYLE_RED),
           check->passed ? "ok" : "FAIL", terminal_style_of(stdout, STYLE_PLAIN), check->name,
           (long long)check->n_values, check->max_abs_error, check->tolerance);
}

static cli_exit run(const cli_command *self, int argc, char **argv)
{
    model_flags model = {0};
    verify_report report = {0};
    const cli_option options[] = {
        DEVICE_OPTIONS(&model),
        DTYPE_OPTION(&model),
        THREADS_OPTION(&model),
        {"bi-encoder", 0, OPTION_FLAG, &model.bi_encoder, NULL, "check pooled vectors and cosines",
         0, 0, NULL},
        {"json", 0, OPTION_FLAG, &report.json, NULL, "JSON Lines, one check a line", 0, 0, NULL},
        VERBOSE_OPTION(&model),
    };
    cli_arguments paths;
    cli_exit code =
        options_parse(self, options, sizeof options / sizeof *options, argc, argv, 2, 2, &paths);
    if (code != CLI_PARSED) return code;
    model.path = paths.at[0];
    opened_model opened = {0};
    code = model_open(&opened, &model, 0);
    if (code != CLI_OK) return code;
    int passed = 0;
    char first_stray[64] = "";
    crank_error error = {0};
    crank_status status =
        crank_verify(opened.model, paths.at[1], put_check, &report, &passed, first_stray, &error);
    model_close(&opened);
    if (status != CRANK_OK) return cli_fail_status(&error, 0);
    if (passed) {
        if (!report.json) printf("%zu checks held\n", report.n);
        return CLI_OK;
    }
    if (*first_stray)
        return cli_fail(CLI_ERRORS, "%zu of %zu checks failed; the first layer that strays is %s",
                        report.n_failed, report.n, first_stray);
    return cli_fail(CLI_ERRORS, "%zu of %zu checks failed", report.n_failed, report.n);
}

const cli_command verify_command = {
    .name = "verify",
    .summary = "Compares scores, and hidden states layer by layer, with golden data.",
    .synopsis = "MODEL GOLDEN_DIR",
    .details = "GOLDEN_DIR holds golden.safetensors: what transformers computes for this model. "
               "Exit code\n"
               "1 when a value is past its tolerance; the first layer that strays is named.",
    .example = "  crank verify model/ golden/\n"
               "  crank verify model/ golden/ --device cpu --dtype int8 --json",
    .run = run,
};
