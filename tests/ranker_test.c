/* T5 rankers from texts to scores: monoT5, RankT5 (with its decoder, and the encoder alone) and
 * duoT5 with its four aggregations, against the formulas of their papers over transformers' logits
 * (tests/fixtures/make_ranker_goldens.py); what a conversion keeps; a cascade. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crank.h"
#include "support/commands.h"
#include "support/golden.h"
#include "support/tiny_model.h"
#include "weights/safetensors.h"

#define N_DOCS 7

typedef struct fixture {
    char folder[512], dir[1024]; /* dir: the model under a name of its own, below folder */
    json_t *root;
    crank_text query, docs[N_DOCS];
} fixture;

/* What a model asks and answers is found by its name: "x-duot5". config_key: NULL, or a text member
 * that joins the config. */
static void open_fixture(fixture *f, const char *source, const char *name, const char *config_key,
                         const char *config_value)
{
    static const char *const files[] = {"config.json", "model.safetensors", "tokenizer.json",
                                        "tokenizer_config.json", "scores.json"};
    char golden_dir[512], from[1600], to[1600];
    cr_assert(golden_find(golden_dir, source), "%s", source);
    process_make_folder(f->folder);
    snprintf(f->dir, sizeof f->dir, "%s/%s", f->folder, name);
    snprintf(from, sizeof from, "mkdir -p '%s'", f->dir);
    cr_assert_eq(system(from), 0);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(from, sizeof from, "%s/%s", golden_dir, files[i]);
        snprintf(to, sizeof to, "%s/%s", f->dir, files[i]);
        tiny_copy(from, to);
    }
    if (config_key != NULL) {
        snprintf(to, sizeof to, "%s/config.json", f->dir);
        json_t *config = json_load_file(to, 0, NULL);
        json_object_set_new(config, config_key, json_string(config_value));
        cr_assert_eq(json_dump_file(config, to, 0), 0);
        json_decref(config);
    }
    snprintf(to, sizeof to, "%s/scores.json", f->dir);
    f->root = json_load_file(to, 0, NULL);
    cr_assert_not_null(f->root);
    const json_t *query = json_object_get(f->root, "query");
    f->query = (crank_text){json_string_value(query), json_string_length(query)};
    for (size_t i = 0; i < N_DOCS; i++) {
        const json_t *doc = json_array_get(json_object_get(f->root, "docs"), i);
        f->docs[i] = (crank_text){json_string_value(doc), json_string_length(doc)};
    }
}

static void close_fixture(fixture *f)
{
    json_decref(f->root);
    process_remove_folder(f->folder);
}

static const json_t *duo_scores(const fixture *f, const char *how)
{
    return json_object_get(json_object_get(f->root, "duot5"), how);
}

static crank_model_options model_options(crank_device device)
{
    return (crank_model_options){
        .size = sizeof(crank_model_options), .device = device, .dtype = CRANK_DTYPE_F32};
}

/* Scores by document's number. */
static void rank(const fixture *f, const char *path, const crank_model_options *options,
                 crank_aggregation aggregation, float scores[N_DOCS])
{
    crank_error error = {0};
    crank_model *model = NULL;
    crank_session *session = NULL;
    crank_result results[N_DOCS];
    size_t n;
    crank_score_options how = {.size = sizeof how, .aggregation = aggregation};
    cr_assert_eq(crank_model_open(&model, path, options, &error), CRANK_OK, "%s", error.message);
    cr_assert_eq(crank_session_open(&session, model, NULL, &error), CRANK_OK, "%s", error.message);
    cr_assert_eq(crank_rank(session, f->query, f->docs, N_DOCS, &how, results, &n, NULL, &error),
                 CRANK_OK, "%s", error.message);
    cr_assert_eq(n, N_DOCS);
    for (size_t i = 0; i < n; i++) {
        scores[results[i].index] = results[i].score;
        if (i > 0) cr_expect_geq(results[i - 1].score, results[i].score);
    }
    crank_session_close(session);
    crank_model_close(model);
}

static void expect_scores(const float *scores, const json_t *expected, const char *what)
{
    cr_assert_eq(json_array_size(expected), N_DOCS, "%s", what);
    for (size_t i = 0; i < N_DOCS; i++) {
        double wanted = json_number_value(json_array_get(expected, i));
        cr_expect_float_eq((double)scores[i], wanted, 2e-5, "%s, document %zu: %.7f for %.7f", what,
                           i, (double)scores[i], wanted);
    }
}

static const crank_device devices[] = {CRANK_DEVICE_REF, CRANK_DEVICE_CPU};

Test(ranker, monot5_and_rankt5_by_name_and_by_option)
{
    fixture mono, by_name;
    float scores[N_DOCS];
    open_fixture(&mono, "ranker-t5", "some-mono", NULL, NULL);
    open_fixture(&by_name, "ranker-t5", "Soyoung97-RankT5-tiny", NULL, NULL);
    for (size_t d = 0; d < 2; d++) {
        crank_model_options options = model_options(devices[d]);
        rank(&mono, mono.dir, &options, CRANK_SYM_SUM, scores);
        expect_scores(scores, json_object_get(mono.root, "monot5"), "monoT5");
        rank(&by_name, by_name.dir, &options, CRANK_SYM_SUM, scores);
        expect_scores(scores, json_object_get(mono.root, "rankt5"), "RankT5 by its name");
        options.prompt = "Query: {q} Document: {d}";
        options.answer_tokens = "<extra_id_10>";
        options.reduction = "logit";
        rank(&mono, mono.dir, &options, CRANK_SYM_SUM, scores);
        expect_scores(scores, json_object_get(mono.root, "rankt5"), "RankT5 by options");
        options.prompt = "Query: {q} Document: {d} Relevant:";
        options.answer_tokens = "#3,#4"; /* true and false by number */
        options.reduction = "probability";
        rank(&mono, mono.dir, &options, CRANK_SYM_SUM, scores);
        for (size_t i = 0; i < N_DOCS; i++) scores[i] = logf(scores[i]);
        expect_scores(scores, json_object_get(mono.root, "monot5"), "probability");
    }
    close_fixture(&mono);
    close_fixture(&by_name);
}

Test(ranker, duot5_with_every_aggregation)
{
    static const char *const names[] = {"sym-sum", "sum", "sym-sum-log", "sum-log"};
    fixture f;
    float scores[N_DOCS];
    open_fixture(&f, "ranker-t5", "castorini-duot5-tiny", NULL, NULL);
    for (size_t d = 0; d < 2; d++) {
        crank_model_options options = model_options(devices[d]);
        for (int how = CRANK_SYM_SUM; how <= CRANK_SUM_LOG; how++) {
            rank(&f, f.dir, &options, (crank_aggregation)how, scores);
            expect_scores(scores, duo_scores(&f, names[how]), names[how]);
        }
    }
    close_fixture(&f);
}

Test(ranker, an_encoder_with_a_head)
{
    fixture first, mean;
    float scores[N_DOCS];
    open_fixture(&first, "ranker-t5-encoder", "rankt5-enc", NULL, NULL);
    open_fixture(&mean, "ranker-t5-encoder", "rankt5-enc", "classifier_pooling", "mean");
    for (size_t d = 0; d < 2; d++) {
        crank_model_options options = model_options(devices[d]);
        rank(&first, first.dir, &options, CRANK_SYM_SUM, scores);
        expect_scores(scores, json_object_get(first.root, "rankt5"), "first state");
        rank(&mean, mean.dir, &options, CRANK_SYM_SUM, scores);
        expect_scores(scores, json_object_get(first.root, "rankt5-mean"), "mean of states");
    }
    /* Another name and no prompt: a pair by the tokenizer's template, and nothing is "asked". */
    fixture pair;
    open_fixture(&pair, "ranker-t5-encoder", "plain", NULL, NULL);
    process_result info = commands_run(NULL, "info", pair.dir, "--json", NULL);
    commands_expect_code(&info, 0);
    cr_expect(strstr(info.out, "\"prompt\":null") != NULL, "%s", info.out);
    process_free(&info);
    close_fixture(&first);
    close_fixture(&mean);
    close_fixture(&pair);
}

/* The folder's weights with a head of two labels: each of its rows twice. */
static void double_head(const char *dir)
{
    char path[1600], twice[1700];
    crank_error error = {0};
    safetensors *file = NULL;
    st_writer *writer = NULL;
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    snprintf(twice, sizeof twice, "%s.twice", path);
    cr_assert_eq(safetensors_open(&file, path, &error), CRANK_OK, "%s", error.message);
    cr_assert_eq(st_writer_open(&writer, twice, ST_WRITER_PLAIN, &error), CRANK_OK);
    size_t n = safetensors_count(file);
    for (int pass = 0; pass < 2; pass++) { /* declared, then written */
        for (size_t i = 0; i < n; i++) {
            const st_tensor *t = safetensors_at(file, i);
            bool head = strcmp(t->name, "dense.weight") == 0 || strcmp(t->name, "dense.bias") == 0;
            int64_t shape[ST_MAX_RANK];
            memcpy(shape, t->shape, sizeof shape);
            if (head) shape[0] *= 2;
            if (pass == 0) {
                cr_assert_eq(st_writer_tensor(writer, t->name, t->type, t->rank, shape, &error),
                             CRANK_OK);
                continue;
            }
            void *data = malloc(t->bytes);
            cr_assert_eq(safetensors_read(file, t, data, &error), CRANK_OK);
            for (int copy = 0; copy < (head ? 2 : 1); copy++)
                cr_assert_eq(st_writer_write(writer, data, t->bytes, &error), CRANK_OK);
            free(data);
        }
    }
    cr_assert_eq(st_writer_commit(writer, &error), CRANK_OK, "%s", error.message);
    st_writer_close(writer);
    safetensors_close(file);
    cr_assert_eq(rename(twice, path), 0);
}

/* A prompt asks one question: of several labels only the first would count, so they are refused,
 * by name or by option; without a prompt they are labels like any other's. */
Test(ranker, several_labels_have_no_prompt)
{
    static const char *const names[] = {"rankt5-enc", "plain"};
    fixture f;
    for (int i = 0; i < 2; i++) {
        open_fixture(&f, "ranker-t5-encoder", names[i], NULL, NULL);
        double_head(f.dir);
        process_result asked = commands_run(NULL, "info", f.dir, "--prompt",
                                            "Query: {q} Document: {d}", "--device", "ref", NULL);
        cr_expect_eq(asked.exit_code, 3);
        cr_expect(strstr(asked.err, "the classifier has 2 labels, expected 1 of a ranker") != NULL,
                  "%s", asked.err);
        process_free(&asked);
        process_result info = commands_run(NULL, "info", f.dir, "--device", "ref", "--json", NULL);
        cr_expect_eq(info.exit_code, i == 0 ? 3 : 0, "%s: %s", names[i], info.err);
        cr_expect(strstr(i == 0 ? info.err : info.out, i == 0 ? "2 labels" : "\"labels\":2") !=
                      NULL,
                  "%s %s", info.err, info.out);
        process_free(&info);
        close_fixture(&f);
    }
}

Test(ranker, a_conversion_keeps_what_is_asked)
{
    fixture f;
    float scores[N_DOCS];
    char file[1200];
    open_fixture(&f, "ranker-t5", "some-mono", NULL, NULL);
    snprintf(file, sizeof file, "%s/kept.crank", f.folder);
    process_result r = commands_run(NULL, "convert", f.dir, "-o", file, "--dtype", "f32",
                                    "--prompt", "Query: {q} Document: {d}", "--answer",
                                    "<extra_id_10>", "--reduce", "logit", NULL);
    commands_expect_code(&r, 0);
    process_free(&r);
    crank_model_options options = model_options(CRANK_DEVICE_CPU);
    rank(&f, file, &options, CRANK_SYM_SUM, scores);
    expect_scores(scores, json_object_get(f.root, "rankt5"), "converted");
    r = commands_run(NULL, "info", file, NULL);
    commands_expect_code(&r, 0);
    cr_expect(strstr(r.out, "Query: {q} Document: {d}\n") != NULL, "%s", r.out);
    cr_expect(strstr(r.out, "logit of 1 answer token") != NULL, "%s", r.out);
    process_free(&r);
    /* The other rows of the vocabulary are not in it. */
    crank_error error = {0};
    crank_model *model = NULL;
    options.answer_tokens = "#3,#4";
    cr_expect_eq(crank_model_open(&model, file, &options, &error), CRANK_INVALID_ARGUMENT);
    cr_expect(strstr(error.message, "its own answers") != NULL, "%s", error.message);
    close_fixture(&f);

    open_fixture(&f, "ranker-t5-encoder", "rankt5-enc", NULL, NULL);
    snprintf(file, sizeof file, "%s/other-name.crank", f.folder);
    r = commands_run(NULL, "convert", f.dir, "-o", file, "--dtype", "f32", NULL);
    commands_expect_code(&r, 0);
    process_free(&r);
    options = model_options(CRANK_DEVICE_CPU);
    rank(&f, file, &options, CRANK_SYM_SUM, scores);
    expect_scores(scores, json_object_get(f.root, "rankt5"), "converted encoder");
    close_fixture(&f);
}

/* mono orders seven documents, duo the best four of them: its scores are over those four alone. */
Test(ranker, a_cascade_of_mono_and_duo)
{
    fixture mono, duo;
    char stages[2200], lines[4096] = "";
    open_fixture(&mono, "ranker-t5", "some-mono", NULL, NULL);
    open_fixture(&duo, "ranker-t5", "some-duot5", NULL, NULL);
    for (size_t i = 0; i < N_DOCS; i++) {
        size_t used = strlen(lines);
        snprintf(lines + used, sizeof lines - used, "%.*s\n", (int)mono.docs[i].bytes,
                 mono.docs[i].data);
    }
    snprintf(stages, sizeof stages, "%s,%s", mono.dir, duo.dir);
    process_result r = commands_run(lines, "rank", "--stages", stages, "--depth", "4", "-q",
                                    mono.query.data, "--dtype", "f32", "--json", NULL);
    commands_expect_code(&r, 0);
    json_t *root = json_loads(r.out, 0, NULL);
    const json_t *list = json_object_get(root, "stages");
    cr_assert_eq(json_array_size(list), 2);
    static const json_int_t documents[2] = {7, 4};
    for (size_t i = 0; i < 2; i++) {
        const json_t *stage = json_array_get(list, i);
        const json_t *timing = json_object_get(stage, "timing_us");
        cr_expect_eq(json_integer_value(json_object_get(stage, "documents")), documents[i]);
        cr_expect_gt(json_integer_value(json_object_get(stage, "tokens")), 0);
        cr_expect_gt(json_integer_value(json_object_get(timing, "compute")), 0);
        cr_expect_gt(json_integer_value(json_object_get(timing, "load")), 0);
    }
    const json_t *results = json_object_get(root, "results");
    cr_assert_eq(json_array_size(results), 4);

    /* The same four by the library. */
    crank_model_options options = model_options(CRANK_DEVICE_CPU);
    crank_model *model = NULL;
    crank_session *session = NULL;
    crank_text kept[4];
    size_t numbers[4], n;
    double found[4];
    crank_result expected[4];
    for (size_t i = 0; i < 4; i++) {
        const json_t *result = json_array_get(results, i);
        numbers[i] = (size_t)json_integer_value(json_object_get(result, "index"));
        found[i] = json_number_value(json_object_get(result, "score"));
        kept[i] = mono.docs[numbers[i]];
    }
    cr_assert_eq(crank_model_open(&model, duo.dir, &options, NULL), CRANK_OK);
    cr_assert_eq(crank_session_open(&session, model, NULL, NULL), CRANK_OK);
    cr_assert_eq(crank_rank(session, mono.query, kept, 4, NULL, expected, &n, NULL, NULL),
                 CRANK_OK);
    for (size_t i = 0; i < 4; i++) {
        cr_expect_eq(expected[i].index, i, "the cascade's order is the duo model's");
        cr_expect_float_eq((double)expected[i].score, found[i], 1e-6);
    }
    crank_session_close(session);
    crank_model_close(model);
    /* They are the four that mono likes best. */
    const json_t *mono_scores = json_object_get(mono.root, "monot5");
    double worst = 0;
    for (size_t i = 0; i < 4; i++) {
        double s = json_number_value(json_array_get(mono_scores, numbers[i]));
        worst = s < worst ? s : worst;
    }
    size_t better = 0;
    for (size_t i = 0; i < N_DOCS; i++) {
        better += json_number_value(json_array_get(mono_scores, i)) >= worst;
    }
    cr_expect_eq(better, 4);
    json_decref(root);
    process_free(&r);
    close_fixture(&mono);
    close_fixture(&duo);
}
