/* crank bench ops --capture and --replay: what a plan holds, that every op of every family replays
 * right on every device, and that a damaged file is refused with its place. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/capture.h"
#include "support/commands.h"
#include "support/cuda_library.h"
#include "support/golden.h"

static json_t *parse(const char *text)
{
    json_error_t why;
    json_t *value = json_loads(text, JSON_REJECT_DUPLICATES, &why);
    cr_assert_not_null(value, "%s in %s", why.text, text);
    return value;
}

static json_t *parse_file(const char *path)
{
    char *text = process_read_file(path, NULL);
    cr_assert_not_null(text, "%s", path);
    json_t *value = parse(text);
    free(text);
    return value;
}

static json_int_t number(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

/* ---- capture ---- */

Test(bench_capture, holds_the_largest_batch_and_no_text)
{
    char model[512];
    commands_make_model(model, 1);
    /* 3 + 1 + words tokens each: 15, 25 and twice 8. */
    const char *pairs = "waaaa\twbaaa wbaaa wbaaa wbaaa wbaaa wbaaa wbaaa wbaaa wbaaa wbaaa wbaaa\n"
                        "waaaa\twbaaa wbaaa wbaaa wbaaa wbaaa wbaaa wbaaa wbaaa wbaaa wbaaa wbaaa "
                        "wcaaa wcaaa wcaaa wcaaa wcaaa wcaaa wcaaa wcaaa wcaaa wcaaa\n"
                        "waaaa\twdaaa wdaaa wdaaa wdaaa\nwaaaa\tweaaa weaaa weaaa weaaa\n";
    const char *path = commands_path(model, "batch.json");
    process_result result =
        commands_run(pairs, "bench", "ops", "--capture", path, "--model", model, "--device", "cpu",
                     "--dtype", "int8", "--batch-tokens", "40", NULL);
    commands_expect_code(&result, 0);
    cr_expect_not_null(strstr(result.out, "batch 1 of 2: 40 tokens in 2 sequences of 15 to 25"),
                       "%s", result.out);
    process_free(&result);
    json_t *root = parse_file(path);
    cr_expect_eq(number(root, "crank_capture"), 1);
    cr_expect_str_eq(json_string_value(json_object_get(root, "dtype")), "int8");
    cr_expect_str_eq(json_string_value(json_object_get(root, "device")), "cpu");
    const json_t *lengths = json_object_get(root, "lengths");
    cr_assert_eq(json_array_size(lengths), 2);
    cr_expect_eq(json_integer_value(json_array_get(lengths, 0)), 25);
    cr_expect_eq(json_integer_value(json_array_get(lengths, 1)), 15);
    /* Two layers, the last of which makes the head's row alone. */
    size_t i;
    const json_t *op;
    int attentions = 0, folded = 0, heads = 0;
    json_array_foreach(json_object_get(root, "ops"), i, op)
    {
        const char *name = json_string_value(json_object_get(op, "op"));
        if (strcmp(name, "attention") == 0) attentions += (int)number(op, "count");
        if (strcmp(name, "attention_rows_folded") == 0) folded += (int)number(op, "count");
        if (strcmp(name, "head") == 0) heads += (int)number(op, "count");
    }
    cr_expect(attentions == 1 && folded == 1 && heads == 1, "%d %d %d", attentions, folded, heads);
    json_decref(root);
    char *text = process_read_file(path, NULL);
    cr_expect_null(strstr(text, "waaaa"));
    free(text);

    /* Where it came from is the default of a replay. */
    result = commands_run(NULL, "bench", "ops", "--replay", path, "--time", "1", "--json", NULL);
    commands_expect_code(&result, 0);
    char *last = strstr(result.out, "{\"capture\"");
    cr_assert_not_null(last, "%s", result.out);
    json_t *total = parse(last);
    cr_expect_str_eq(json_string_value(json_object_get(total, "device")), "cpu");
    cr_expect_str_eq(json_string_value(json_object_get(total, "how")), "measured");
    cr_expect_eq(number(total, "tokens"), 40);
    *last = '\0';
    double sum = 0, shares = 0;
    for (char *next, *line = strtok_r(result.out, "\n", &next); line != NULL;
         line = strtok_r(NULL, "\n", &next)) {
        json_t *row = parse(line);
        cr_expect(json_is_true(json_object_get(row, "correct")), "%s", line);
        sum += json_number_value(json_object_get(row, "total_us"));
        shares += json_number_value(json_object_get(row, "share"));
        json_decref(row);
    }
    cr_expect(sum > 0 && shares > 0.99 && shares < 1.01, "%g %g", sum, shares);
    json_decref(total);
    process_free(&result);
    process_remove_folder(model);
}

Test(bench_capture, says_what_is_missing)
{
    static const struct {
        const char *argv[8];
        const char *says;
    } cases[] = {
        {{"--capture", "x"}, "--capture needs --model MODEL"},
        {{"--capture", "x", "--replay", "y"}, "not both"},
        {{"--replay", "/nowhere.json"}, "/nowhere.json"},
        {{"--replay", "x", "--pairs", "3"}, "takes no --model and no --pairs"},
        {{"pairs.tsv"}, "are for --capture"},
        {{"--max-length", "8"}, "are for --capture"},
        {{"--device", "ref"}, "--device takes cpu"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *const *a = cases[i].argv;
        process_result result =
            commands_run("", "bench", "ops", a[0], a[1], a[2], a[3], a[4], NULL);
        commands_expect_code(&result, 2);
        cr_expect_not_null(strstr(result.err, cases[i].says), "%zu: %s", i, result.err);
        process_free(&result);
    }
}

/* ---- every family ---- */

/* Three sequences through a session that only plans: the capture goes to path. */
static void capture_golden(const char *folder, const char *path)
{
    crank_error error = {0};
    crank_model_options options = {
        .size = sizeof options, .device = CRANK_DEVICE_CPU, .dtype = CRANK_DTYPE_F32};
    crank_model *model;
    crank_session *session;
    crank_model_info info = {.size = sizeof info};
    cr_assert_eq(crank_model_open(&model, folder, &options, &error), CRANK_OK, "%s", error.message);
    cr_assert_eq(crank_model_describe(model, &info, &error), CRANK_OK);
    crank_session_options threads = {.size = sizeof threads, .n_threads = 1};
    cr_assert_eq(crank_session_open(&session, model, &threads, &error), CRANK_OK);
    int32_t ids[27];
    for (int i = 0; i < 27; i++) ids[i] = 1 + i % 20;
    static const size_t starts[] = {0, 7, 19, 27};
    static float rows[3 * 4096];
    capture c = {0};
    capture_watch watch;
    capture_start(&watch, &c, session);
    crank_status status = crank_score_tokens(session, ids, NULL, starts, 3, rows, NULL, &error);
    cr_assert_eq(status, CRANK_OK, "%s: %s", folder, error.message);
    cr_assert_eq(capture_stop(&watch, &error), CRANK_OK, "%s: %s", folder, error.message);
    FILE *to = fopen(path, "w");
    cr_assert_not_null(to);
    capture_write(to, &c);
    fclose(to);
    cr_expect_eq(c.n_tokens, 27);
    cr_expect_gt(c.n_ops, 4);
    capture_free(&c);
    crank_session_close(session);
    crank_model_close(model);
}

static void replay(const char *path, const char *device, const char *type)
{
    process_result result = commands_run(NULL, "bench", "ops", "--replay", path, "--device", device,
                                         "--dtype", type, "--check", NULL);
    cr_expect_eq(result.exit_code, 0, "%s on %s in %s: %s%s", path, device, type, result.out,
                 result.err);
    process_free(&result);
}

static const char *const families[] = {"bert-h64",         "tiny-albert",         "tiny-deberta",
                                       "tiny-mpnet",       "tiny-modernbert-cls", "ranker-t5",
                                       "distilbert",       "odd-gte-ntk",         "biencoder",
                                       "tiny-deberta-c2p", "odd-deberta-v1"};
enum { N_FAMILIES = sizeof families / sizeof families[0] };

Test(bench_replay, every_family_on_the_reference_and_the_cpu, .timeout = 300)
{
    char folder[512], dir[512];
    process_make_folder(folder);
    const char *path = commands_path(folder, "batch.json");
    for (size_t i = 0; i < N_FAMILIES; i++) {
        cr_assert(golden_find(dir, families[i]), "%s", families[i]);
        capture_golden(dir, path);
        replay(path, "ref", "f32");
        replay(path, "cpu", "f32");
        replay(path, "cpu", "int8");
    }
    process_remove_folder(folder);
}

Test(bench_replay, every_family_on_the_emulator, .timeout = 300)
{
    char folder[512], dir[512];
    if (cuda_skipped("every_family_on_the_emulator")) return;
    if (cuda_emulator() == NULL) {
        printf("[SKIP] every_family_on_the_emulator: needs the emulator\n");
        return;
    }
    process_make_folder(folder);
    const char *path = commands_path(folder, "batch.json");
    for (size_t i = 0; i < N_FAMILIES; i++) {
        cr_assert(golden_find(dir, families[i]), "%s", families[i]);
        capture_golden(dir, path);
        replay(path, "emu", i % 2 ? "int8" : "f16");
    }
    process_result result =
        commands_run(NULL, "bench", "ops", "--replay", path, "--device", "emu", "--json", NULL);
    commands_expect_code(&result, 2); /* captured in f32 */
    cr_expect_not_null(strstr(result.err, "does not compute in f32"), "%s", result.err);
    process_free(&result);
    result = commands_run(NULL, "bench", "ops", "--replay", path, "--device", "emu", "--dtype",
                          "bf16", "--json", NULL);
    commands_expect_code(&result, 0);
    cr_expect_not_null(strstr(result.out, "\"predicted_us\""));
    cr_expect_not_null(strstr(result.out, "\"how\":\"predicted\""));
    process_free(&result);
    process_remove_folder(folder);
}

/* ---- damaged files ---- */

/* A capture with these parts in the place of sound ones. */
static void put_capture(const char *path, const char *version, const char *lengths, const char *op)
{
    char text[2048];
    snprintf(text, sizeof text,
             "{\"crank_capture\":%s,\"model\":\"m\",\"architecture\":\"bert\",\"device\":\"cpu\","
             "\"dtype\":\"f32\",\"batch\":1,\"batches\":1,\"lengths\":%s,\"ops\":[%s]}",
             version, lengths, op);
    commands_write(path, text);
}

Test(bench_replay, damaged_files_are_refused_with_their_place)
{
#define NORM "{\"op\":\"norm\",\"count\":1,\"k\":8}"
    static const struct {
        const char *version, *lengths, *op, *says;
    } cases[] = {
        {"2", "[4]", NORM, "crank_capture: expected a number from 1 to 1"},
        {"\"1\"", "[4]", NORM, "crank_capture"},
        {"1", "[]", NORM, "lengths: expected 1 to 65536"},
        {"1", "{}", NORM, "lengths"},
        {"1", "[0]", NORM, "lengths: expected a number from 1"},
        {"1", "[-1]", NORM, "lengths"},
        {"1", "[1.5]", NORM, "lengths"},
        {"1", "[99999999999]", NORM, "lengths"},
        {"1", "[1048576,1]", NORM, "1048576 tokens at most"},
        {"1", "[4]", "", "ops: expected 1 to 4096 ops"},
        {"1", "[4]", "3", "ops[0].op: expected an object"},
        {"1", "[4]", NORM ",{\"op\":\"norm\"}", "ops[1].count"},
        {"1", "[4]", "{\"op\":\"nomr\",\"count\":1,\"k\":8}", "ops[0].op"},
        {"1", "[4]", "{\"op\":\"norm\",\"count\":0,\"k\":8}", "ops[0].count"},
        {"1", "[4]", "{\"op\":\"norm\",\"count\":1}", "ops[0].k"},
        {"1", "[4]", "{\"op\":\"norm\",\"count\":1,\"k\":8,\"x\":1}", "no keys but those"},
        {"1", "[4]", "{\"op\":\"norm\",\"count\":1,\"k\":131073}", "ops[0].k: expected a number"},
        {"1", "[1048576]", "{\"op\":\"norm\",\"count\":1,\"k\":131072}", "at most 2^28 numbers"},
        {"1", "[4]", "{\"op\":\"norm\",\"count\":1,\"k\":8,\"norm\":\"l2\"}", "ops[0].norm"},
        {"1", "[4]", "{\"op\":\"norm\",\"count\":1,\"k\":8,\"gated\":1}", "ops[0].gated"},
        {"1", "[4]", "{\"op\":\"norm\",\"count\":1,\"k\":8,\"gated\":true}", "ops[0].gated"},
        {"1", "[4]", "{\"op\":\"norm\",\"count\":1,\"k\":8,\"window\":3}", "ops[0].window"},
        {"1", "[4]", "{\"op\":\"linear\",\"count\":1,\"k\":8}", "ops[0].n"},
        {"1", "[4]", "{\"op\":\"linear\",\"count\":1,\"k\":8,\"n\":3,\"gated\":true}", "even n"},
        {"1", "[4]", "{\"op\":\"linear\",\"count\":1,\"k\":131072,\"n\":131072}", "2^28"},
        {"1", "[4]", "{\"op\":\"attention\",\"count\":1,\"k\":8}", "ops[0].heads"},
        {"1", "[4]", "{\"op\":\"attention\",\"count\":1,\"k\":1025,\"heads\":1}", "1024 at most"},
        {"1", "[4]", "{\"op\":\"attention\",\"count\":1,\"k\":8,\"heads\":1,\"positions\":3}",
         "reach over the longest"},
        {"1", "[4]", "{\"op\":\"attention\",\"count\":1,\"k\":8,\"heads\":1,\"relative_span\":9}",
         "buckets and terms"},
        {"1", "[4]", "{\"op\":\"attention\",\"count\":1,\"k\":8,\"heads\":1,\"first_rows\":true}",
         "ops[0].first_rows"},
        {"1", "[4]", "{\"op\":\"gather_around\",\"count\":1,\"k\":8,\"n\":2}", "an odd number"},
        {"1", "[4]", "{\"op\":\"pool\",\"count\":1,\"k\":8,\"uses\":2}", "ops[0].uses"},
        {"1", "[4],\"key_counts\":[5]", NORM, "key_counts: expected a number from 1 to 4"},
        {"1", "[4],\"key_counts\":[1,1]", NORM, "as many as lengths"},
        {"1", "[4]", "[", "batch.json:"},
    };
    char folder[512];
    process_make_folder(folder);
    const char *path = commands_path(folder, "batch.json");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        put_capture(path, cases[i].version, cases[i].lengths, cases[i].op);
        process_result result = commands_run(NULL, "bench", "ops", "--replay", path, NULL);
        cr_expect_eq(result.exit_code, 2, "%zu: %d %s%s", i, result.exit_code, result.out,
                     result.err);
        cr_expect_not_null(strstr(result.err, cases[i].says), "%zu: %s", i, result.err);
        process_free(&result);
    }
    put_capture(path, "1", "[4,2]", NORM);
    process_result sound =
        commands_run(NULL, "bench", "ops", "--replay", path, "--time", "1", NULL);
    commands_expect_code(&sound, 0);
    process_free(&sound);
    process_remove_folder(folder);
}
