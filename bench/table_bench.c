/* crank bench table: the latency table of the field. For each model shape, device and dtype: 100
 * documents against one query (ms, pairs/s), one pair alone (p50, p99), size and memory.
 *
 * Shapes have seeded random weights (crank synth): speed does not depend on what the weights are.
 * Pairs are token ids, so that their lengths are exact: --tokens for all, or whole requests drawn
 * from a file of real length statistics. A case is first compared with the reference backend on two
 * short pairs; one that is wrong is reported and not timed. The share of the peak counts the
 * multiply-adds that the model needs with only the head's row in the last layer (see useful_flops),
 * against register-only loops measured in the same run. */
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/peaks.h"
#include "bench/samples.h"
#include "cli/bench.h"
#include "cli/input.h"
#include "cli/model.h"
#include "cli/options.h"
#include "cli/output.h"
#include "clock.h"

enum { MAX_RUNS = 101, CHECK_PAIRS = 2, CHECK_TOKENS = 24 };

/* Published MRR@10 on MS MARCO passage dev of the models that have these shapes; source: the table
 * on their model cards (sbert.net, "MS MARCO Cross-Encoders"; nboost's rows for BERT). */
static const struct {
    const char *shape, *published;
    double mrr;
} published[] = {
    {"tinybert-l2", "ms-marco-TinyBERT-L2-v2", 0.3256},
    {"tinybert-l4", "ms-marco-TinyBERT-L4", 0.3450},
    {"minilm-l6", "ms-marco-MiniLM-L6-v2", 0.3901},
    {"minilm-l12", "ms-marco-MiniLM-L12-v2", 0.3902},
    {"electra-base", "ms-marco-electra-base", 0.3641},
    {"bert-base", "nboost/pt-bert-base-uncased-msmarco", 0.3475},
    {"bert-large", "nboost/pt-bert-large-msmarco", 0.3648},
};
#define N_PUBLISHED (sizeof published / sizeof published[0])

typedef struct table_job {
    const char *model, *shape, *lengths_path, *lengths_set, *models_dir, *dtypes, *markdown_path;
    cli_device device;
    size_t pairs, tokens, threads, runs;
    int json, with_ref;
    output *markdown;
    int n_wrong;
    int32_t *lengths; /* [pairs] */
    size_t total_tokens;
    peaks peak;
} table_job;

typedef struct measured {
    double ms_per_100, pairs_per_s, p50_us, p99_us, share;
    double load_ms;
    long resident_kb;
} measured;

/* ---- inputs ---- */

/* What a count of tokens may be; anything else in the file is taken for the nearest. */
static json_int_t length_at(const json_t *array, size_t i)
{
    json_int_t n = json_integer_value(json_array_get(array, i));
    return n < 0 ? 0 : n > 512 ? 512 : n;
}

/* Requests of a set of lengths.json, one after the other, until there are enough pairs: [CLS] query
 * [SEP] document [SEP], cut at 512. */
static cli_exit read_lengths(table_job *job)
{
    job->lengths = cli_alloc(job->pairs, sizeof *job->lengths);
    if (job->lengths_path == NULL) {
        for (size_t i = 0; i < job->pairs; i++) job->lengths[i] = (int32_t)job->tokens;
        job->total_tokens = job->pairs * job->tokens;
        return CLI_OK;
    }
    json_t *root;
    static const jsontext_limits limits = {JSONTEXT_OBJECT, 8, 1000000};
    cli_exit code = input_json(&root, job->lengths_path, &limits, SIZE_MAX);
    if (code != CLI_OK) return code;
    json_t *set = json_object_get(json_object_get(root, "sets"), job->lengths_set);
    json_t *requests = json_object_get(set, "requests");
    size_t n = 0;
    for (size_t r = 0; r < json_array_size(requests); r++) {
        json_t *request = json_array_get(requests, r);
        json_int_t query = length_at(request, 0);
        json_t *documents = json_array_get(request, 1);
        for (size_t d = 0; d < json_array_size(documents) && n < job->pairs; d++) {
            json_int_t length = query + length_at(documents, d) + 3;
            job->lengths[n] = (int32_t)(length < 8 ? 8 : length > 512 ? 512 : length);
            job->total_tokens += (size_t)job->lengths[n++];
        }
    }
    json_decref(root);
    if (n < job->pairs)
        return cli_fail(CLI_USAGE, "%s: expected %zu pairs in sets.%s.requests, found %zu",
                        job->lengths_path, job->pairs, job->lengths_set, n);
    return CLI_OK;
}

typedef struct sequences {
    int32_t *ids, *types;
    size_t *starts, n;
} sequences;

static sequences make_sequences(const int32_t *lengths, size_t n, int32_t vocab)
{
    size_t total = 0, at = 0;
    for (size_t i = 0; i < n; i++) total += (size_t)lengths[i];
    sequences s = {cli_alloc(total, sizeof(int32_t)), cli_alloc(total, sizeof(int32_t)),
                   cli_alloc(n + 1, sizeof(size_t)), n};
    uint64_t state = 7;
    for (size_t i = 0; i < n; i++) {
        s.starts[i] = at;
        for (int32_t k = 0; k < lengths[i]; k++, at++) {
            s.ids[at] = 5 + (int32_t)(samples_random(&state) % (uint64_t)(vocab - 5));
            s.types[at] = k > 9;
        }
    }
    s.starts[n] = at;
    return s;
}

static void free_sequences(sequences *s)
{
    free(s->ids);
    free(s->types);
    free(s->starts);
}

/* ---- one case ---- */

/* Multiply-adds, twice, of all pairs: full layers, and a last layer of which only the head's row is
 * made (K and V folded). */
static double useful_flops(const table_job *job, const crank_model_info *m)
{
    double d = m->width, f = m->ffn_width, inner = (double)m->heads * m->head_width, total = 0;
    for (size_t i = 0; i < job->pairs; i++) {
        double s = job->lengths[i];
        double layer = s * (8 * d * inner + 4 * d * f) + 4 * s * s * inner;
        double last = 4 * s * d * m->heads + 8 * d * inner + 4 * d * f;
        total += (m->layers - 1) * layer + last;
    }
    return total;
}

static long resident_kb(void)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    long kb = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "VmRSS: %ld", &kb) == 1) break;
    }
    if (file != NULL) fclose(file);
    return kb;
}

static cli_exit open_session(const table_job *job, const char *path, cli_device device,
                             crank_dtype type, crank_model **model, crank_session **session)
{
    crank_error error = {0};
    char emu_path[PATH_MAX];
    crank_model_options options;
    model_flags flags = {.device = device, .dtype = (int)type};
    model_options_of(&options, &flags, emu_path);
    crank_session_options session_options = {.size = sizeof session_options,
                                             .n_threads = (int)job->threads};
    if (crank_model_open(model, path, &options, &error) != CRANK_OK)
        return cli_fail_status(&error, 1);
    if (crank_session_open(session, *model, &session_options, &error) != CRANK_OK)
        return cli_fail_status(&error, 0);
    return CLI_OK;
}

static cli_exit check_logits(const table_job *job, const char *path, cli_device device,
                             crank_dtype type, float *logits)
{
    static const int32_t lengths[CHECK_PAIRS] = {CHECK_TOKENS, CHECK_TOKENS / 2};
    crank_model *model = NULL;
    crank_session *session = NULL;
    cli_exit code = open_session(job, path, device, type, &model, &session);
    if (code == CLI_OK) {
        crank_model_info info = {.size = sizeof info};
        crank_model_describe(model, &info, NULL);
        sequences s = make_sequences(lengths, CHECK_PAIRS, info.vocab_size);
        crank_error error = {0};
        if (crank_score_tokens(session, s.ids, s.types, s.starts, CHECK_PAIRS, logits, NULL,
                               &error) != CRANK_OK)
            code = cli_fail_status(&error, 0);
        free_sequences(&s);
    }
    crank_session_close(session);
    crank_model_close(model);
    return code;
}

static void put_row(table_job *job, const char *name, const crank_model_info *info,
                    const measured *m);

/* Times the case and prints its row. */
static cli_exit time_case(table_job *job, const char *name, const char *path, crank_dtype type)
{
    measured measured_case = {0}, *m = &measured_case;
    crank_model_info description = {.size = sizeof description}, *info = &description;
    crank_model *model = NULL;
    crank_session *session = NULL;
    crank_error error = {0};
    long before = resident_kb();
    int64_t start = clock_ns();
    cli_exit code = open_session(job, path, job->device, type, &model, &session);
    m->load_ms = (double)(clock_ns() - start) / 1e6;
    if (code != CLI_OK) goto out;
    crank_model_describe(model, info, NULL);
    sequences s = make_sequences(job->lengths, job->pairs, info->vocab_size);
    float *logits = cli_alloc(job->pairs * (size_t)info->labels, sizeof *logits);
    int64_t times[MAX_RUNS];
    size_t runs = strcmp(info->device, "ref") == 0 ? 1 : job->runs;
    for (size_t run = 0; run <= runs && code == CLI_OK; run++) { /* the first is a warm-up */
        start = clock_ns();
        if (crank_score_tokens(session, s.ids, s.types, s.starts, job->pairs, logits, NULL,
                               &error) != CRANK_OK)
            code = cli_fail_status(&error, 0);
        if (run > 0) times[run - 1] = clock_ns() - start;
        if (cli_stopped()) code = CLI_ERRORS;
    }
    if (code == CLI_OK) {
        qsort(times, runs, sizeof times[0], samples_by_time);
        double seconds = (double)times[runs / 2] / 1e9;
        m->pairs_per_s = (double)job->pairs / seconds;
        m->ms_per_100 = 1e5 / m->pairs_per_s;
        double peak = job->peak.gflops[type == CRANK_DTYPE_BF16   ? OPS_BF16
                                       : type == CRANK_DTYPE_INT8 ? OPS_INT8
                                       : type == CRANK_DTYPE_F16  ? OPS_F16
                                                                  : OPS_F32];
        double threads =
            job->threads != 0 ? (double)job->threads : (double)sysconf(_SC_NPROCESSORS_ONLN);
        if (job->device.device == CRANK_DEVICE_CUDA) threads = 1; /* the peak is the whole GPU's */
        m->share = peak > 0 ? useful_flops(job, info) / seconds / (peak * threads * 1e9) : 0;
        m->resident_kb = resident_kb() - before;
    }
    size_t singles = strcmp(info->device, "ref") == 0 ? 3 : MAX_RUNS;
    /* The first three are not counted: on a GPU the second of a kind records a graph. */
    for (size_t run = 0; run < singles + 3 && code == CLI_OK; run++) {
        start = clock_ns();
        if (crank_score_tokens(session, s.ids, s.types, s.starts, 1, logits, NULL, &error) !=
            CRANK_OK)
            code = cli_fail_status(&error, 0);
        if (run >= 3) times[run - 3] = clock_ns() - start;
    }
    if (code == CLI_OK) {
        qsort(times, singles, sizeof times[0], samples_by_time);
        m->p50_us = (double)times[singles / 2] / 1e3;
        m->p99_us = (double)times[singles * 99 / 100] / 1e3;
        put_row(job, name, info, m); /* its texts live as long as the model */
    }
    free(logits);
    free_sequences(&s);
out:
    crank_session_close(session);
    crank_model_close(model);
    return code;
}

static void put_row(table_job *job, const char *name, const crank_model_info *info,
                    const measured *m)
{
    const char *isa = strchr(info->device_description, '(');
    char level[64] = "";
    if (isa != NULL) snprintf(level, sizeof level, "%.*s", (int)strcspn(isa + 1, ")"), isa + 1);
    size_t threads = job->threads != 0 ? job->threads : (size_t)sysconf(_SC_NPROCESSORS_ONLN);
    double mrr = 0;
    for (size_t i = 0; i < N_PUBLISHED; i++) {
        if (strcmp(published[i].shape, name) == 0) mrr = published[i].mrr;
    }
    if (job->json) {
        printf(
            "{\"model\":\"%s\",\"device\":\"%s\",\"dtype\":\"%s\",\"isa\":\"%s\",\"threads\":%zu,"
            "\"pairs\":%zu,\"tokens\":%zu,\"pairs_per_s\":%.2f,\"ms_per_100\":%.3f,\"p50_us\":"
            "%.1f,\"p99_us\":%.1f,\"peak_share\":%.4f,\"load_ms\":%.1f,\"weight_bytes\":%zu,"
            "\"resident_kb\":%ld,\"parameters\":%lld,\"mrr10\":%.4f}\n",
            name, info->device, info->dtype, level, threads, job->pairs, job->total_tokens,
            m->pairs_per_s, m->ms_per_100, m->p50_us, m->p99_us, m->share, m->load_ms,
            info->weight_bytes, m->resident_kb, (long long)info->n_parameters, mrr);
    } else {
        printf("%-14s %-5s %-5s %10.1f %10.1f %9.2f %9.2f %6.0f %% %8.1f %8.1f  %s\n", name,
               info->device, info->dtype, m->ms_per_100, m->pairs_per_s, m->p50_us / 1e3,
               m->p99_us / 1e3, 100 * m->share, (double)info->weight_bytes / 1e6,
               (double)m->resident_kb / 1e3, level);
    }
    fflush(stdout);
    if (job->markdown == NULL) return;
    fprintf(output_stream(job->markdown),
            "| %s | %s | %s | %.0f | %.1f | %.2f | %.2f | %.0f %% | %.0f | %s |\n", name,
            info->device, info->dtype, m->ms_per_100, m->pairs_per_s, m->p50_us / 1e3,
            m->p99_us / 1e3, 100 * m->share, (double)info->weight_bytes / 1e6,
            mrr > 0 ? (char[]){'0', '.', (char)('0' + (int)(mrr * 10) % 10),
                               (char)('0' + (int)(mrr * 100) % 10),
                               (char)('0' + (int)(mrr * 1000) % 10), '\0'}
                    : "");
}

/* ---- models ---- */

static cli_exit ensure_shape(const table_job *job, const char *shape, char *path, size_t bytes)
{
    struct stat at;
    crank_error error = {0};
    snprintf(path, bytes, "%s/%s", job->models_dir, shape);
    char config[1100];
    snprintf(config, sizeof config, "%s/config.json", path);
    if (stat(config, &at) == 0) return CLI_OK;
    mkdir(job->models_dir, 0777);
    cli_say("making %s", path);
    if (crank_synth(shape, path, 1, &error) != CRANK_OK) return cli_fail_status(&error, 0);
    return CLI_OK;
}

/* The converted file of a folder in a dtype, beside it: opening is one read. */
static cli_exit ensure_converted(const table_job *job, const char *folder, const char *type_name,
                                 crank_dtype type, char *path, size_t bytes)
{
    struct stat at;
    crank_error error = {0};
    snprintf(path, bytes, "%s", folder);
    if (stat(folder, &at) != 0 || !S_ISDIR(at.st_mode) || job->shape == NULL) return CLI_OK;
    if (job->device.device == CRANK_DEVICE_REF) return CLI_OK;
    snprintf(path, bytes, "%s.%s.crank", folder, type_name);
    if (stat(path, &at) == 0) return CLI_OK;
    crank_convert_options options = {
        .size = sizeof options, .dtype = type, .device = job->device.device};
    if (crank_convert(folder, path, &options, &error) != CRANK_OK)
        return cli_fail_status(&error, 0);
    return CLI_OK;
}

static cli_exit run_dtype(table_job *job, const char *name, const char *folder,
                          const char *type_name, const float *expected)
{
    static const struct {
        const char *name;
        crank_dtype type;
        double tolerance; /* of two logits of about 1 */
    } types[] = {{"f32", CRANK_DTYPE_F32, 1e-4},
                 {"bf16", CRANK_DTYPE_BF16, 5e-2},
                 {"f16", CRANK_DTYPE_F16, 1e-2},
                 {"int8", CRANK_DTYPE_INT8, 2e-1}};
    size_t t = 0;
    while (t < 4 && strcmp(types[t].name, type_name) != 0) t++;
    if (t == 4) return cli_fail(CLI_USAGE, "no dtype '%s': f32, bf16, f16 or int8", type_name);
    char path[1200];
    cli_exit code = ensure_converted(job, folder, type_name, types[t].type, path, sizeof path);
    if (code != CLI_OK) return code;
    float logits[CHECK_PAIRS * 16] = {0};
    code = check_logits(job, path, job->device, types[t].type, logits);
    if (code != CLI_OK) return code;
    for (int i = 0; expected != NULL && i < CHECK_PAIRS; i++) {
        double error = fabs((double)logits[i] - (double)expected[i]);
        if (error <= types[t].tolerance * fmax(1, fabs((double)expected[i]))) continue;
        job->n_wrong++;
        cli_say("%s %s: not timed: logit %d is %g, the reference's %g", name, type_name, i,
                (double)logits[i], (double)expected[i]);
        return CLI_OK;
    }
    return time_case(job, name, path, types[t].type);
}

static cli_exit run_model(table_job *job, const char *name, const char *folder)
{
    float expected[CHECK_PAIRS * 16] = {0};
    cli_device ref = {.device = CRANK_DEVICE_REF};
    cli_exit code = check_logits(job, folder, ref, CRANK_DTYPE_F32, expected);
    if (code != CLI_OK) return code;
    if (job->with_ref) {
        cli_device device = job->device;
        job->device = ref;
        code = run_dtype(job, name, folder, "f32", NULL);
        job->device = device;
    }
    char list[64];
    snprintf(list, sizeof list, "%s", job->dtypes);
    for (char *at = strtok(list, ","); at != NULL && code == CLI_OK; at = strtok(NULL, ","))
        code = run_dtype(job, name, folder, at, expected);
    return code;
}

static cli_exit run_shapes(table_job *job)
{
    static const char *const all[] = {"tinybert-l2",  "minilm-l6", "minilm-l12",
                                      "electra-base", "bert-base", "bert-large"};
    size_t n = strcmp(job->shape, "all") == 0 ? sizeof all / sizeof all[0] : 1;
    cli_exit code = CLI_OK;
    for (size_t i = 0; i < n && code == CLI_OK; i++) {
        const char *shape = n > 1 ? all[i] : job->shape;
        char folder[1024];
        code = ensure_shape(job, shape, folder, sizeof folder);
        if (code == CLI_OK) code = run_model(job, shape, folder);
    }
    return code;
}

/* The level that the CPU backend takes here, and what its instructions do in registers. */
static void keep_selected(void *user, const crank_variant *variant)
{
    char *level = user;
    if (variant->selected && strcmp(variant->op, "linear") == 0)
        snprintf(level, 64, "%s", variant->isa);
}

static cli_exit measure_peaks(table_job *job)
{
    if (job->device.device == CRANK_DEVICE_CUDA) {
        crank_error error = {0};
        if (job->device.emulated) return CLI_OK; /* no share of anything */
        if (peaks_measure_gpu(&job->peak, job->device.ordinal, NULL, &error) != CRANK_OK)
            return cli_fail_status(&error, 0);
        return CLI_OK;
    }
    crank_model_options options = {.size = sizeof options, .device = CRANK_DEVICE_CPU};
    char level[64] = "portable";
    crank_variants(&options, keep_selected, level, NULL);
    for (int i = 0; i < 3; i++) peaks_measure(&job->peak, level);
    return CLI_OK;
}

static cli_exit bench_table(const cli_command *self, int argc, char **argv)
{
    table_job job = {.pairs = 100,
                     .tokens = 128,
                     .runs = 5,
                     .dtypes = "f32,bf16,int8",
                     .lengths_set = "dl19",
                     .device = {.device = CRANK_DEVICE_CPU}};
    char default_dir[512];
    const char *temporary = getenv("TMPDIR");
    snprintf(default_dir, sizeof default_dir, "%s/crank-bench",
             temporary != NULL && *temporary ? temporary : "/tmp");
    job.models_dir = default_dir;
    const cli_option options[] = {
        {.name = "model",
         .short_name = 'm',
         .type = OPTION_TEXT,
         .target = &job.model,
         .value = "MODEL",
         .help = "a folder or converted file instead of shapes"},
        {.name = "shape",
         .type = OPTION_TEXT,
         .target = &job.shape,
         .value = "NAME",
         .help = "one of crank synth's shapes, or all (the default)"},
        {.name = "models",
         .type = OPTION_TEXT,
         .target = &job.models_dir,
         .value = "DIR",
         .help = "where shapes are made and kept; $TMPDIR/crank-bench"},
        {.name = "device",
         .type = OPTION_DEVICE,
         .target = &job.device,
         .value = "DEVICE",
         .help = "cpu, cuda, cuda:N; cpu"},
        {.name = "dtype",
         .type = OPTION_TEXT,
         .target = &job.dtypes,
         .value = "A,B",
         .help = "dtypes with commas between; f32,bf16,int8"},
        {.name = "pairs",
         .type = OPTION_COUNT,
         .target = &job.pairs,
         .value = "N",
         .help = "documents of a request; 100",
         .low = 1,
         .high = 100000},
        {.name = "tokens",
         .type = OPTION_COUNT,
         .target = &job.tokens,
         .value = "N",
         .help = "tokens of every pair; 128",
         .low = 4,
         .high = 8192},
        {.name = "lengths",
         .type = OPTION_TEXT,
         .target = &job.lengths_path,
         .value = "FILE",
         .help = "lengths.json: whole requests of real lengths instead of --tokens"},
        {.name = "set",
         .type = OPTION_TEXT,
         .target = &job.lengths_set,
         .value = "NAME",
         .help = "of lengths.json; dl19"},
        {.name = "threads",
         .type = OPTION_COUNT,
         .target = &job.threads,
         .value = "N",
         .help = "all cores",
         .low = 1,
         .high = 1024},
        {.name = "runs",
         .type = OPTION_COUNT,
         .target = &job.runs,
         .value = "N",
         .help = "timed runs, the median counts; 5",
         .low = 1,
         .high = MAX_RUNS},
        {.name = "ref",
         .type = OPTION_FLAG,
         .target = &job.with_ref,
         .help = "time the reference backend, too (seconds to minutes)"},
        {.name = "markdown",
         .type = OPTION_TEXT,
         .target = &job.markdown_path,
         .value = "FILE",
         .help = "write the table there as well"},
        {.name = "json", .type = OPTION_FLAG, .target = &job.json, .help = "JSON Lines"},
    };
    cli_arguments arguments;
    cli_exit code = options_parse(self, options, sizeof options / sizeof options[0], argc, argv, 0,
                                  0, &arguments);
    if (code != CLI_PARSED) return code;
    if (job.model != NULL && job.shape != NULL)
        return options_misuse(self, "--model and --shape exclude each other");
    if (job.model == NULL && job.shape == NULL) job.shape = "all";
    code = read_lengths(&job);
    if (code == CLI_OK && job.markdown_path != NULL)
        code = output_open(&job.markdown, job.markdown_path);
    if (code == CLI_OK) code = measure_peaks(&job);
    if (code != CLI_OK) return code;
    if (!job.json)
        printf("%-14s %-5s %-5s %10s %10s %9s %9s %8s %8s %8s\n", "model", "on", "dtype", "ms/100",
               "pairs/s", "p50 ms", "p99 ms", "of peak", "MB", "RSS MB");
    if (job.markdown != NULL)
        fputs(
            "| model | device | dtype | ms per 100 | pairs/s | one pair p50 ms | p99 ms | of peak "
            "| weights MB | MRR@10 |\n|---|---|---|---|---|---|---|---|---|---|\n",
            output_stream(job.markdown));
    code = job.model != NULL ? run_model(&job, job.model, job.model) : run_shapes(&job);
    free(job.lengths);
    if (code != CLI_OK) {
        output_discard(job.markdown);
        return code;
    }
    code = output_commit(job.markdown);
    if (code == CLI_OK && job.n_wrong > 0)
        code = cli_fail(CLI_ERRORS, "%d cases differ from the reference", job.n_wrong);
    return code;
}

const cli_command bench_table_command = {
    .name = "bench table",
    .summary = "The latency table: 100 documents per model, device and dtype; one pair alone.",
    .synopsis = "[options]",
    .details =
        "Models are made in real shapes with random weights, which does not change the "
        "speed. Results are\ncompared with the reference first; a case that is wrong is not "
        "timed and makes the exit code 1.\nThe share of the peak counts only arithmetic that "
        "the scores need.",
    .example = "  crank bench table --shape minilm-l6 --tokens 128 --json\n"
               "  crank bench table --lengths lengths.json --set dl19 --dtype int8",
    .run = bench_table,
};
