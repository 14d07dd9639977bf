/* The commands that score, tokenize, convert and describe, as a user's scripts see them. */
#define _DEFAULT_SOURCE
#include <criterion/criterion.h>
#include <glob.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "support/commands.h"
#include "support/golden.h"

static json_t *parse(const char *text)
{
    json_error_t error;
    json_t *value = json_loads(text, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    cr_assert_not_null(value, "%s in %s", error.text, text);
    return value;
}

/* Exactly these keys, in this order. */
static void expect_keys(const json_t *object, const char *keys)
{
    char found[1024] = "";
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(size_t)object, key, value)
    {
        strcat(found, *found ? " " : "");
        strcat(found, key);
    }
    cr_expect_str_eq(found, keys);
}

static void write_gz(const char *path, const char *text)
{
    gzFile file = gzopen(path, "wb");
    gzwrite(file, text, (unsigned)strlen(text));
    gzclose(file);
}

static void expect_no_leftovers(const char *folder)
{
    char pattern[600];
    glob_t found;
    snprintf(pattern, sizeof pattern, "%s/*tmp*", folder);
    cr_expect_eq(glob(pattern, 0, NULL, &found), GLOB_NOMATCH);
    globfree(&found);
}

/* ---- rank ---- */

Test(rank, json_has_stable_keys_and_caller_texts)
{
    char model[512];
    commands_make_model(model, 1);
    const char *docs = "{\"id\": \"a\", \"text\": \"waaaa wbaaa\"}\n"
                       "{\"text\": \"caf\\u00e9 \\\"q\\\" \\u0000 \\n end\", \"more\": 1}\n"
                       "{\"id\": 7, \"text\": \"waaaa wbaaa\"}\n";
    process_result result =
        commands_run(docs, "rank", "-m", model, "-q", "wcaaa \"x\"", "--json", NULL);
    commands_expect_code(&result, 0);
    cr_expect_eq(commands_count_lines(result.out), 1);
    json_t *root = parse(result.out);
    expect_keys(root, "model query results usage timing_us");
    cr_expect_str_eq(json_string_value(json_object_get(root, "query")), "wcaaa \"x\"");
    cr_expect_str_eq(json_string_value(json_object_get(root, "model")), strrchr(model, '/') + 1);
    json_t *results = json_object_get(root, "results");
    cr_assert_eq(json_array_size(results), 3);
    double last = INFINITY, scores[3];
    for (size_t i = 0; i < 3; i++) {
        json_t *item = json_array_get(results, i);
        json_int_t index = json_integer_value(json_object_get(item, "index"));
        expect_keys(item, index == 1 ? "index score logit text" : "index id score logit text");
        double score = json_real_value(json_object_get(item, "score"));
        double logit = json_real_value(json_object_get(item, "logit"));
        cr_expect_float_eq(score, 1 / (1 + exp(-logit)), 1e-6);
        cr_expect_leq(score, last);
        scores[index] = last = score;
        json_t *text = json_object_get(item, "text");
        if (index == 1) {
            cr_expect_eq(json_string_length(text), 17);
            cr_expect_eq(memcmp(json_string_value(text), "caf\xC3\xA9 \"q\" \0 \n end", 17), 0);
        }
        if (index == 2) cr_expect_str_eq(json_string_value(json_object_get(item, "id")), "7");
    }
    cr_expect_eq(scores[0], scores[2], "equal texts, equal scores");
    json_t *usage = json_object_get(root, "usage"), *timing = json_object_get(root, "timing_us");
    expect_keys(usage, "pairs tokens");
    expect_keys(timing, "load tokenize compute total");
    cr_expect_eq(json_integer_value(json_object_get(usage, "pairs")), 3);
    cr_expect_geq(json_integer_value(json_object_get(timing, "total")),
                  json_integer_value(json_object_get(timing, "compute")));
    json_decref(root);
    process_free(&result);

    result = commands_run(docs, "rank", "-m", model, "-q", "wcaaa", "--json", "--no-text",
                          "--top-k=1", NULL);
    root = parse(result.out);
    results = json_object_get(root, "results");
    cr_assert_eq(json_array_size(results), 1);
    cr_expect_null(json_object_get(json_array_get(results, 0), "text"));
    json_decref(root);
    process_free(&result);
    process_remove_folder(model);
}

Test(rank, reads_lines_json_gz_stdin_and_windows_files_alike)
{
    char model[512], folder[512];
    commands_make_model(model, 1);
    process_make_folder(folder);
    const char *lines = "waaaa wbaaa\nwcaaa\n\nwdaaa weaaa wfaaa";
    const char *windows = "\xEF\xBB\xBFwaaaa wbaaa\r\nwcaaa\r\n\r\nwdaaa weaaa wfaaa\r\n";
    const char *json = "{\"text\":\"waaaa wbaaa\"}\n{\"text\":\"wcaaa\"}\n{\"text\":\"\"}\n"
                       "{\"text\":\"wdaaa weaaa wfaaa\"}\n\n";
    const char *paths[] = {commands_path(folder, "a.txt"), commands_path(folder, "b.txt"),
                           commands_path(folder, "c.jsonl"), commands_path(folder, "d.txt.gz"),
                           commands_path(folder, "e.jsonl.gz")};
    commands_write(paths[0], lines);
    commands_write(paths[1], windows);
    commands_write(paths[2], json);
    write_gz(paths[3], lines);
    write_gz(paths[4], json);
    process_result first = commands_run(NULL, "rank", "-m", model, "-q", "waaaa", paths[0], NULL);
    commands_expect_code(&first, 0);
    cr_expect_eq(commands_count_lines(first.out), 4);
    for (size_t i = 1; i < 5; i++) {
        process_result other =
            commands_run(NULL, "rank", "-m", model, "-q", "waaaa", paths[i], NULL);
        cr_expect_str_eq(other.out, first.out, "%s: %s", paths[i], other.err);
        process_free(&other);
    }
    const char *const by_stdin[] = {lines, json};
    for (size_t i = 0; i < 2; i++) {
        process_result other =
            commands_run(by_stdin[i], "rank", "-m", model, "-q", "waaaa", i ? "-" : NULL, NULL);
        cr_expect_str_eq(other.out, first.out, "stdin: %s", other.err);
        process_free(&other);
    }
    /* A text that begins with a brace, said to be a text. */
    process_result brace = commands_run("{waaaa}\nwbaaa\n", "rank", "-m", model, "-q", "waaaa",
                                        "--format", "lines", NULL);
    commands_expect_code(&brace, 0);
    process_free(&brace);
    /* No documents, no results. */
    process_result none = commands_run("", "rank", "-m", model, "-q", "waaaa", NULL);
    commands_expect_code(&none, 0);
    cr_expect_str_empty(none.out);
    process_free(&none);
    process_free(&first);
    process_remove_folder(folder);
    process_remove_folder(model);
}

Test(rank, bad_lines_name_file_line_and_reason_and_write_nothing)
{
    static const struct {
        const char *docs, *message;
    } cases[] = {
        {"{\"text\":\"a\"}\n{\"text\":\"b\"\n", "docs.jsonl:2: not JSON"},
        {"{\"text\":\"a\"}\n\n[1]\n", "docs.jsonl:2: a blank line among JSON lines"},
        {"[\"a\"]\n", "docs.jsonl:1: not a JSON object"},
        {"{\"id\":\"x\"}\n", "docs.jsonl:1: no \"text\""},
        {"{\"text\":3}\n", "docs.jsonl:1: \"text\" is not a string"},
        {"{\"text\":\"a\",\"id\":[]}\n", "docs.jsonl:1: \"id\" is neither a string nor"},
        {"{\"text\":\"a\",\"text\":\"b\"}\n", "docs.jsonl:1: not JSON"},
        {"{\"text\":\"\xFF\"}\n", "docs.jsonl:1: not JSON"},
        {"{\"text\":\"\\ud800\"}\n", "docs.jsonl:1: not JSON"},
        {"{\"text\":\"a\"} x\n", "docs.jsonl:1: not JSON"},
    };
    char model[512], folder[512];
    commands_make_model(model, 1);
    process_make_folder(folder);
    const char *docs = commands_path(folder, "docs.jsonl"), *out = commands_path(folder, "out");
    commands_write(out, "what was there before");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        commands_write(docs, cases[i].docs);
        process_result result =
            commands_run(NULL, "rank", "-m", model, "-q", "x", docs, "-o", out, NULL);
        cr_expect_eq(result.exit_code, 2, "case %zu", i);
        cr_expect_not_null(strstr(result.err, cases[i].message), "case %zu: %s", i, result.err);
        cr_expect_eq(commands_count_lines(result.err), 1, "case %zu: %s", i, result.err);
        process_free(&result);
    }
    char *kept = process_read_file(out, NULL);
    cr_expect_str_eq(kept, "what was there before");
    free(kept);
    expect_no_leftovers(folder);
    /* A .gz that was cut off. */
    const char *gz = commands_path(folder, "docs.txt.gz");
    write_gz(gz, "some text that is long enough to be cut\n");
    size_t bytes;
    char *data = process_read_file(gz, &bytes);
    process_write_file(gz, data, bytes - 9);
    free(data);
    process_result result = commands_run(NULL, "rank", "-m", model, "-q", "x", gz, NULL);
    commands_expect_code(&result, 2);
    cr_expect_not_null(strstr(result.err, "docs.txt.gz: "), "%s", result.err);
    process_free(&result);
    process_remove_folder(folder);
    process_remove_folder(model);
}

Test(rank, takes_any_text)
{
    char model[512], folder[512];
    commands_make_model(model, 1);
    process_make_folder(folder);
    /* A megabyte in one line, invalid UTF-8, a NUL, an empty line, duplicates. */
    const char *path = commands_path(folder, "docs.txt");
    size_t big = 1 << 20, n = 0;
    char *docs = malloc(big + 64);
    for (; n + 6 <= big; n += 6) memcpy(docs + n, "waaaa ", 6);
    memcpy(docs + n, "\n\xFF\xC3(\n\nwa\0aa\nwaaaa\nwaaaa\n", 24);
    process_write_file(path, docs, n + 24);
    free(docs);
    process_result result =
        commands_run(NULL, "rank", "-m", model, "-q", "", path, "--json", "--no-text", NULL);
    commands_expect_code(&result, 0);
    json_t *root = parse(result.out), *results = json_object_get(root, "results");
    cr_assert_eq(json_array_size(results), 6);
    double scores[6];
    for (size_t i = 0; i < 6; i++) {
        json_t *item = json_array_get(results, i);
        scores[json_integer_value(json_object_get(item, "index"))] =
            json_real_value(json_object_get(item, "score"));
    }
    cr_expect_eq(scores[4], scores[5]);
    json_decref(root);
    process_free(&result);
    process_remove_folder(folder);
    process_remove_folder(model);
}

Test(rank, ten_thousand_documents)
{
    char model[512];
    commands_make_model(model, 1);
    char *docs = malloc(10000 * 12), *at = docs;
    for (int i = 0; i < 10000; i++)
        at += sprintf(at, "wa%c%c%c\n", 'a' + i % 7, 'a' + i % 11, 'a' + i % 13);
    process_result result = commands_run(docs, "rank", "-m", model, "-q", "waaaa", "--top-k",
                                         "9999", "--no-text", NULL);
    commands_expect_code(&result, 0);
    cr_expect_eq(commands_count_lines(result.out), 9999);
    double last = INFINITY;
    size_t last_index = 0;
    for (char *line = result.out; *line; line += strcspn(line, "\n") + 1) {
        size_t rank, index;
        double score;
        cr_assert_eq(sscanf(line, "%zu\t%lf\t%zu", &rank, &score, &index), 3);
        cr_assert(score < last || (score == last && index > last_index), "ties by index");
        last = score;
        last_index = index;
    }
    process_free(&result);
    free(docs);
    process_remove_folder(model);
}

Test(rank, window_truncation_names_the_winning_span)
{
    char model[512], docs[6000] = "{\"text\":\"", *at = docs + strlen(docs);
    commands_make_model(model, 1);
    for (int i = 0; i < 100; i++) at += sprintf(at, "w%c%caa ", 'a' + i % 26, 'a' + i / 26);
    strcpy(at, "\"}\n");
    process_result result = commands_run(docs, "rank", "-m", model, "-q", "waaaa", "--json",
                                         "--truncation", "window", "--max-length", "24", NULL);
    commands_expect_code(&result, 0);
    json_t *root = parse(result.out);
    json_t *item = json_array_get(json_object_get(root, "results"), 0);
    expect_keys(item, "index score logit window text");
    json_t *window = json_object_get(item, "window");
    expect_keys(window, "start bytes");
    cr_expect_leq(json_integer_value(json_object_get(window, "bytes")), 24 * 6);
    json_decref(root);
    process_free(&result);
    process_remove_folder(model);
}

Test(rank, what_belongs_to_rankers_with_a_prompt_is_refused_elsewhere)
{
    char model[512];
    commands_make_model(model, 1);
    static const char *const cases[][3] = {
        {"--prompt", "Query: {q} Document: {d}", "prompt: expected a T5 ranker, this is bert"},
        {"--answer", "true", "answers: expected a ranker with a decoder, this is bert"},
        {"--reduce", "diff", "reduction: expected a ranker with a decoder, this is bert"}};
    for (size_t i = 0; i < 3; i++) {
        process_result result = commands_run("waaaa\n", "rank", "-m", model, "-q", "wbaaa",
                                             cases[i][0], cases[i][1], NULL);
        commands_expect_code(&result, 2);
        cr_expect_not_null(strstr(result.err, cases[i][2]), "%s", result.err);
        cr_expect_str_empty(result.out);
        process_free(&result);
    }
    process_remove_folder(model);
}

Test(rank, stages_order_what_the_one_before_kept)
{
    char model[512], stages[1100], docs[2048], *at = docs;
    commands_make_model(model, 1);
    for (int i = 0; i < 20; i++) at += sprintf(at, "waaaa w%c%caa\n", 'a' + i, 'a' + i / 2);
    snprintf(stages, sizeof stages, "%s,%s", model, model);
    process_result one =
        commands_run(docs, "rank", "-m", model, "-q", "wcaaa", "--top-k", "5", NULL);
    process_result two =
        commands_run(docs, "rank", "--stages", stages, "--depth", "5", "-q", "wcaaa", NULL);
    commands_expect_code(&two, 0);
    cr_expect_str_eq(two.out, one.out);
    process_free(&one);
    process_free(&two);
    process_result json = commands_run(docs, "rank", "--stages", stages, "--depth", "5", "-q",
                                       "wcaaa", "--json", NULL);
    json_t *root = parse(json.out);
    expect_keys(root, "model query results usage timing_us stages");
    json_t *list = json_object_get(root, "stages");
    cr_assert_eq(json_array_size(list), 2);
    static const int given[] = {20, 5};
    for (size_t i = 0; i < 2; i++) {
        json_t *item = json_array_get(list, i);
        expect_keys(item, "model documents tokens timing_us");
        cr_expect_eq(json_integer_value(json_object_get(item, "documents")), given[i]);
    }
    json_decref(root);
    process_free(&json);
    process_remove_folder(model);
}

/* ---- score ---- */

Test(score, tsv_and_json_lines_give_the_same_numbers_in_input_order)
{
    char model[512];
    commands_make_model(model, 1);
    process_result tsv = commands_run("waaaa\twbaaa\nwaaaa\twcaaa wdaaa\tweaaa\nwfaaa\t\n", "score",
                                      "-m", model, NULL);
    process_result json =
        commands_run("{\"query\":\"waaaa\",\"document\":\"wbaaa\"}\n"
                     "{\"document\":\"wcaaa wdaaa\\tweaaa\",\"query\":\"waaaa\"}\n"
                     "{\"query\":\"wfaaa\",\"document\":\"\"}\n",
                     "score", "-m", model, "--json", NULL);
    commands_expect_code(&tsv, 0);
    commands_expect_code(&json, 0);
    cr_expect_eq(commands_count_lines(tsv.out), 3);
    char *number = tsv.out, *line = json.out;
    for (int i = 0; i < 3; i++) {
        char *end = line + strcspn(line, "\n");
        *end = '\0';
        json_t *item = parse(line);
        expect_keys(item, "score logit");
        float score = strtof(number, &number);
        cr_expect_eq(score, (float)json_real_value(json_object_get(item, "score")));
        json_decref(item);
        line = end + 1;
    }
    /* One pair alone has the bits that it has among others, whatever the batch and the threads. */
    process_result alone = commands_run("waaaa\twcaaa wdaaa\tweaaa\n", "score", "-m", model,
                                        "--threads", "1", "--batch-tokens", "1", NULL);
    char *second = strchr(tsv.out, '\n') + 1;
    cr_expect_eq(strncmp(alone.out, second, strlen(alone.out)), 0, "%s", alone.out);
    process_free(&alone);
    process_free(&tsv);
    process_free(&json);
    /* No lines, no scores. */
    process_result none = commands_run("", "score", "-m", model, NULL);
    commands_expect_code(&none, 0);
    cr_expect_str_empty(none.out);
    process_free(&none);
    process_remove_folder(model);
}

Test(score, several_labels)
{
    char model[512];
    commands_make_model(model, 3);
    process_result json = commands_run("waaaa\twbaaa\n", "score", "-m", model, "--json",
                                       "--activation", "sigmoid", NULL);
    commands_expect_code(&json, 0);
    json_t *item = parse(json.out);
    expect_keys(item, "scores logits");
    cr_expect_eq(json_array_size(json_object_get(item, "scores")), 3);
    for (size_t i = 0; i < 3; i++) {
        double logit = json_real_value(json_array_get(json_object_get(item, "logits"), i));
        double score = json_real_value(json_array_get(json_object_get(item, "scores"), i));
        cr_expect_float_eq(score, 1 / (1 + exp(-logit)), 1e-6);
    }
    json_decref(item);
    process_free(&json);
    process_result text = commands_run("waaaa\twbaaa\n", "score", "-m", model, NULL);
    float a, b, c;
    cr_expect_eq(sscanf(text.out, "%f\t%f\t%f\n", &a, &b, &c), 3, "%s", text.out);
    process_free(&text);
    /* Such a model cannot order documents. */
    process_result rank = commands_run("wbaaa\n", "rank", "-m", model, "-q", "waaaa", NULL);
    commands_expect_code(&rank, 2);
    process_free(&rank);
    process_remove_folder(model);
}

Test(score, a_line_without_a_tab_is_refused)
{
    char model[512], folder[512];
    commands_make_model(model, 1);
    process_make_folder(folder);
    const char *out = commands_path(folder, "scores");
    process_result result =
        commands_run("waaaa\twbaaa\nwaaaa\n", "score", "-m", model, "-o", out, NULL);
    commands_expect_code(&result, 2);
    cr_expect_not_null(strstr(result.err, "stdin:2: no tab between query and document"), "%s",
                       result.err);
    cr_expect_null(process_read_file(out, NULL));
    expect_no_leftovers(folder);
    process_free(&result);
    result = commands_run("waaaa\twbaaa\n", "score", "-m", model, "-o", out, NULL);
    commands_expect_code(&result, 0);
    cr_expect_str_empty(result.out);
    char *text = process_read_file(out, NULL);
    cr_assert_not_null(text);
    cr_expect_eq(commands_count_lines(text), 1);
    free(text);
    process_free(&result);
    process_remove_folder(folder);
    process_remove_folder(model);
}

/* ---- rerank ---- */

static const char *const requests =
    "{\"qid\":\"q1\",\"query\":\"waaaa\",\"docs\":[{\"docid\":\"d1\",\"text\":\"wbaaa wcaaa\"},"
    "{\"docid\":\"d2\",\"text\":\"wdaaa\",\"grade\":1},{\"docid\":\"d3\",\"text\":\"wbaaa "
    "wcaaa\"}]}\n"
    "{\"qid\":2,\"query\":\"weaaa\",\"docs\":[{\"docid\":\"d2\",\"text\":\"wdaaa\"}]}\n"
    "{\"qid\":\"empty\",\"query\":\"weaaa\",\"docs\":[]}\n";

Test(rerank, writes_a_trec_run)
{
    char model[512], folder[512];
    commands_make_model(model, 1);
    process_make_folder(folder);
    const char *out = commands_path(folder, "run");
    process_result result = commands_run(requests, "rerank", "-m", model, "-o", out, NULL);
    commands_expect_code(&result, 0);
    cr_expect_str_empty(result.out);
    char *run = process_read_file(out, NULL);
    cr_assert_not_null(run);
    cr_expect_eq(commands_count_lines(run), 4);
    float scores[3];
    char ids[3][8];
    cr_assert_eq(sscanf(run,
                        "q1 Q0 %7s 1 %f crank\nq1 Q0 %7s 2 %f crank\nq1 Q0 %7s 3 %f crank\n"
                        "2 Q0 d2 1 ",
                        ids[0], &scores[0], ids[1], &scores[1], ids[2], &scores[2]),
                 6, "%s", run);
    cr_expect(scores[0] >= scores[1] && scores[1] >= scores[2]);
    cr_expect_not_null(strstr(run, "\n2 Q0 d2 1 "), "%s", run);
    /* Equal texts: the earlier candidate first. */
    cr_expect_lt(strstr(run, "d1"), strstr(run, "d3"));
    process_free(&result);

    /* The same from files of the trade, packed or not. */
    const char *first = commands_path(folder, "first"), *queries = commands_path(folder, "q.tsv"),
               *corpus = commands_path(folder, "corpus.jsonl.gz");
    commands_write(first, "q1 Q0 d1 1 3 bm25\nq1 Q0 d2 2 2 bm25\nq1 Q0 d3 3 1 bm25\n"
                          "2 Q0 d2 1 1 bm25\n");
    commands_write(queries, "other\tnot asked\nq1\twaaaa\n2\tweaaa\n");
    write_gz(corpus,
             "{\"docid\":\"d3\",\"text\":\"wbaaa wcaaa\"}\n{\"docid\":\"d9\",\"text\":\"-\"}\n"
             "{\"_id\":\"d1\",\"title\":\"wbaaa\",\"text\":\"wcaaa\"}\n"
             "{\"id\":\"d2\",\"text\":\"wdaaa\"}\n");
    result = commands_run(NULL, "rerank", "-m", model, "--run", first, "--queries", queries,
                          "--corpus", corpus, "-o", "-", NULL);
    commands_expect_code(&result, 0);
    cr_expect_str_eq(result.out, run);
    process_free(&result);
    result = commands_run(NULL, "rerank", "-m", model, "--run", first, "--queries", queries,
                          "--corpus", corpus, "--depth", "2", "--top-k", "1", NULL);
    commands_expect_code(&result, 0);
    cr_expect_eq(commands_count_lines(result.out), 2, "%s", result.out);
    process_free(&result);
    free(run);
    expect_no_leftovers(folder);
    process_remove_folder(folder);
    process_remove_folder(model);
}

Test(rerank, bad_requests_are_named_and_nothing_is_written)
{
#define HEAD "{\"qid\":\"q\",\"query\":\"x\",\"docs\":[{\"docid\":\"d\",\"text\":\"t\"}]}\n"
    static const struct {
        const char *input, *message;
    } cases[] = {
        {HEAD "{\"query\":\"x\",\"docs\":[]}\n", "stdin:2: no \"qid\""},
        {HEAD "{\"qid\":\"r\",\"docs\":[]}\n", "stdin:2: no \"query\""},
        {HEAD "{\"qid\":\"r\",\"query\":\"x\"}\n", "stdin:2: no array \"docs\""},
        {HEAD "{\"qid\":\"r\",\"query\":\"x\",\"docs\":[7]}\n",
         "stdin:2: docs[0] is not an object"},
        {HEAD "{\"qid\":\"r\",\"query\":\"x\",\"docs\":[{\"docid\":\"d\"}]}\n",
         "stdin:2: no \"docs[0].text\""},
        {HEAD "{\"qid\":\"r\",\"query\":\"x\",\"docs\":[{\"docid\":\"d 1\",\"text\":\"t\"}]}\n",
         "stdin:2: \"docs[0].docid\" is empty or has blanks"},
        {HEAD "{\"qid\":\"r\",\"query\":\"x\",\"docs\":[{\"docid\":\"d\",\"text\":\"t\"},"
              "{\"docid\":\"d\",\"text\":\"u\"}]}\n",
         "stdin:2: \"docs[1].docid\" d came before"},
        {HEAD HEAD, "stdin:2: \"qid\" q came before"},
        {HEAD "{\"qid\":\"\",\"query\":\"x\",\"docs\":[]}\n", "stdin:2: \"qid\" is empty"},
        {HEAD "plain text\n", "stdin:2: not JSON"},
    };
#undef HEAD
    char model[512], folder[512];
    commands_make_model(model, 1);
    process_make_folder(folder);
    const char *out = commands_path(folder, "run");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        process_result result =
            commands_run(cases[i].input, "rerank", "-m", model, "-o", out, NULL);
        cr_expect_eq(result.exit_code, 2, "case %zu", i);
        cr_expect_not_null(strstr(result.err, cases[i].message), "case %zu: %s", i, result.err);
        cr_expect_null(process_read_file(out, NULL), "case %zu", i);
        process_free(&result);
    }
    const char *first = commands_path(folder, "first"), *queries = commands_path(folder, "q.tsv"),
               *corpus = commands_path(folder, "c.jsonl");
    commands_write(queries, "q\tx\n");
    commands_write(corpus, "{\"docid\":\"d\",\"text\":\"t\"}\n");
    commands_write(first, "q Q0 d 1 1 x\nq Q0 e 2 0 x\n");
    process_result result = commands_run(NULL, "rerank", "-m", model, "--run", first, "--queries",
                                         queries, "--corpus", corpus, "-o", out, NULL);
    commands_expect_code(&result, 2);
    cr_expect_not_null(strstr(result.err, "first:2: document e is not in"), "%s", result.err);
    process_free(&result);
    commands_write(first, "q Q0 d 1 1 x\nr Q0 d 1 1 x\n");
    result = commands_run(NULL, "rerank", "-m", model, "--run", first, "--queries", queries,
                          "--corpus", corpus, "-o", out, NULL);
    commands_expect_code(&result, 2);
    cr_expect_not_null(strstr(result.err, "first:2: query r is not in"), "%s", result.err);
    process_free(&result);
    expect_no_leftovers(folder);
    process_remove_folder(folder);
    process_remove_folder(model);
}

/* ---- tokenize ---- */

Test(tokenize, lines_carry_their_own_limits)
{
    char model[512], folder[512];
    commands_make_model(model, 1);
    /* The tokenizer's files alone are enough. */
    process_make_folder(folder);
    const char *const files[] = {"vocab.txt", "tokenizer_config.json", "special_tokens_map.json"};
    for (size_t i = 0; i < 3; i++) {
        size_t bytes;
        char *data = process_read_file(commands_path(model, files[i]), &bytes);
        cr_assert_not_null(data);
        process_write_file(commands_path(folder, files[i]), data, bytes);
        free(data);
    }
    process_result result =
        commands_run("{\"text\":\"waaaa wbaaa\"}\n"
                     "{\"query\":\"waaaa\",\"document\":\"wbaaa wcaaa\"}\n"
                     "{\"query\":\"waaaa\",\"document\":\"wbaaa wcaaa wdaaa\",\"max_length\":6}\n"
                     "{\"query\":\"waaaa wbaaa wcaaa\",\"document\":\"wdaaa\",\"max_length\":6}\n"
                     "{\"query\":\"waaaa\",\"document\":\"wbaaa\",\"max_length\":null}\n",
                     "tokenize", "-m", folder, "--max-length", "7", NULL);
    commands_expect_code(&result, 0);
    cr_expect_str_eq(result.out,
                     "{\"ids\":[2,5,6,3],\"type_ids\":[0,0,0,0]}\n"
                     "{\"ids\":[2,5,3,6,7,3],\"type_ids\":[0,0,0,1,1,1]}\n"
                     "{\"ids\":[2,5,3,6,7,3],\"type_ids\":[0,0,0,1,1,1]}\n"
                     "{\"ids\":[2,5,6,3,8,3],\"type_ids\":[0,0,0,0,1,1]}\n"
                     "{\"ids\":[2,5,3,6,3],\"type_ids\":[0,0,0,1,1]}\n",
                     "%s%s", result.out, result.err);
    process_free(&result);
    /* A query that leaves no room for what only_second may cut: said on its line, 1 at the end. */
    result = commands_run("{\"text\":\"waaaa\"}\n"
                          "{\"query\":\"waaaa wbaaa wcaaa wdaaa\",\"document\":\"weaaa\","
                          "\"max_length\":5,\"truncation\":\"only_second\"}\n"
                          "{\"text\":\"wbaaa\"}\n",
                          "tokenize", "-m", folder, NULL);
    commands_expect_code(&result, 1);
    cr_expect_eq(commands_count_lines(result.out), 3);
    char *second = strchr(result.out, '\n') + 1;
    cr_expect_eq(strncmp(second, "{\"error\":\"", 10), 0, "%s", second);
    process_free(&result);
    result = commands_run("{\"text\":\"a\",\"max_length\":0}\n", "tokenize", "-m", folder, NULL);
    commands_expect_code(&result, 2);
    cr_expect_not_null(strstr(result.err, "stdin:1: \"max_length\" is not a positive"), "%s",
                       result.err);
    process_free(&result);
    result =
        commands_run("{\"text\":\"a\",\"truncation\":\"left\"}\n", "tokenize", "-m", folder, NULL);
    commands_expect_code(&result, 2);
    process_free(&result);
    process_remove_folder(folder);
    process_remove_folder(model);
}

Test(tokenize, special_tokens_are_tokens_or_text)
{
    char model[512];
    commands_make_model(model, 1);
    process_result token = commands_run("waaaa [SEP]\n", "tokenize", "-m", model, NULL);
    process_result text =
        commands_run("waaaa [SEP]\n", "tokenize", "-m", model, "--specials-as-text", NULL);
    cr_expect_str_eq(token.out, "{\"ids\":[2,5,3,3],\"type_ids\":[0,0,0,0]}\n");
    cr_expect_str_neq(text.out, token.out);
    process_free(&token);
    process_free(&text);
    process_remove_folder(model);
}

/* ---- convert, info, verify, synth ---- */

Test(convert, a_converted_file_scores_as_its_folder)
{
    char model[512], folder[512];
    commands_make_model(model, 1);
    process_make_folder(folder);
    const char *pairs = "waaaa\twbaaa\nwcaaa\twdaaa weaaa\n";
    const char *file = commands_path(folder, "tiny.crank");
    process_result plain = commands_run(pairs, "score", "-m", model, "--dtype", "f32", NULL);
    process_result result =
        commands_run(NULL, "convert", model, "-o", file, "--dtype", "f32", NULL);
    commands_expect_code(&result, 0);
    cr_expect_str_empty(result.err);
    process_free(&result);
    expect_no_leftovers(folder);
    result = commands_run(pairs, "score", "-m", file, NULL);
    commands_expect_code(&result, 0);
    cr_expect_str_eq(result.out, plain.out);
    process_free(&result);
    process_free(&plain);

    result = commands_run(NULL, "info", file, "--json", NULL);
    commands_expect_code(&result, 0);
    json_t *info = parse(result.out);
    cr_expect_str_eq(json_string_value(json_object_get(info, "dtype")), "f32");
    cr_expect_eq(json_string_length(json_object_get(info, "source_sha256")), 64);
    cr_expect_str_eq(json_string_value(json_object_get(info, "converted_by")), "0.1.0");
    json_decref(info);
    process_free(&result);

    /* A file may become a narrower one, not a wider one: what was rounded away is gone. */
    const char *narrow = commands_path(folder, "tiny8.crank");
    result = commands_run(NULL, "convert", file, "-o", narrow, "--dtype", "int8", NULL);
    commands_expect_code(&result, 0);
    process_free(&result);
    result = commands_run(NULL, "convert", narrow, "-o", commands_path(folder, "wide.crank"),
                          "--dtype", "f32", NULL);
    cr_expect_neq(result.exit_code, 0);
    cr_expect_not_null(strstr(result.err, "converted file of rounded int8 weights"), "%s",
                       result.err);
    process_free(&result);
    expect_no_leftovers(folder);

    /* A folder that cannot be written to: nothing anywhere. */
    result = commands_run(NULL, "convert", model, "-o", "/proc/tiny.crank", "--dtype", "f32", NULL);
    commands_expect_code(&result, 2);
    process_free(&result);
    process_remove_folder(folder);
    process_remove_folder(model);
}

Test(info, describes_a_model_for_people_and_machines)
{
    char model[512];
    commands_make_model(model, 1);
    process_result text = commands_run(NULL, "info", model, NULL);
    commands_expect_code(&text, 0);
    cr_expect_not_null(strstr(text.out, "2 layers, width 32, 2 heads of 16, FFN 64"), "%s",
                       text.out);
    cr_expect_not_null(strstr(text.out, "sigmoid ("), "%s", text.out);
    process_free(&text);
    process_result json = commands_run(NULL, "info", model, "--json", NULL);
    json_t *info = parse(json.out);
    expect_keys(info,
                "name path kind architecture layers width heads head_width ffn_width vocab_size "
                "max_positions labels hidden_activation pooling head prompt activation "
                "activation_source tokenizer tokenizer_source tokenizer_warning max_length "
                "max_length_source parameters weight_bytes source_dtypes dtype layout device "
                "device_description device_notes source_sha256 converted_by");
    cr_expect_eq(json_integer_value(json_object_get(info, "layers")), 2);
    cr_expect_str_eq(json_string_value(json_object_get(info, "architecture")), "bert");
    json_decref(info);
    process_free(&json);
    process_remove_folder(model);
}

Test(info, lists_kernels_and_devices)
{
    process_result kernels =
        commands_run(NULL, "info", "--kernels", "--device", "ref", "--json", NULL);
    commands_expect_code(&kernels, 0);
    cr_assert_gt(commands_count_lines(kernels.out), 3);
    kernels.out[strcspn(kernels.out, "\n")] = '\0';
    json_t *row = parse(kernels.out);
    expect_keys(row, "op dtype isa name shape available selected");
    json_decref(row);
    process_free(&kernels);
    process_result devices = commands_run(NULL, "info", "--devices", NULL);
    commands_expect_code(&devices, 0);
    cr_expect_not_null(strstr(devices.out, "* ref "), "%s", devices.out);
    process_free(&devices);
}

Test(verify, ends_with_1_when_a_value_strays)
{
    char model[512], other[512];
    if (!golden_find(model, "bert-h64") || !golden_find(other, "bert-bf16")) {
        fprintf(stderr, "SKIPPED: no golden folders\n");
        return;
    }
    process_result result = commands_run(NULL, "verify", model, model, "--device", "ref", NULL);
    commands_expect_code(&result, 0);
    cr_expect_not_null(strstr(result.out, "ok    logits"), "%s", result.out);
    cr_expect_not_null(strstr(result.out, "trace.layer.1"), "%s", result.out);
    process_free(&result);
    result = commands_run(NULL, "verify", model, other, "--device", "ref", "--json", NULL);
    commands_expect_code(&result, 1);
    cr_expect_not_null(strstr(result.out, "\"passed\":false"), "%s", result.out);
    cr_expect_not_null(strstr(result.err, "checks failed"), "%s", result.err);
    process_free(&result);
    result = commands_run(NULL, "verify", model, "/nowhere", NULL);
    commands_expect_code(&result, 2);
    process_free(&result);
}

Test(synth, makes_a_folder_that_scores_and_repeats)
{
    char folder[512];
    process_make_folder(folder);
    const char *a = commands_path(folder, "a"), *b = commands_path(folder, "b");
    const char *const names[] = {a, b};
    process_result scores[2];
    for (int i = 0; i < 2; i++) {
        process_result result =
            commands_run(NULL, "synth", "tinybert-l4", "-o", names[i], "--seed", "5", NULL);
        commands_expect_code(&result, 0);
        process_free(&result);
        scores[i] = commands_run("waaaa\twbaaa wcaaa\n", "score", "-m", names[i], NULL);
        commands_expect_code(&scores[i], 0);
    }
    cr_expect_str_eq(scores[0].out, scores[1].out);
    for (int i = 0; i < 2; i++) process_free(&scores[i]);
    process_result result = commands_run(NULL, "synth", "tinybert-l4", "-o", "/proc/x", NULL);
    commands_expect_code(&result, 2);
    process_free(&result);
    process_remove_folder(folder);
}

Test(bench, decode_step_is_a_share_of_the_encoder)
{
    process_result result = commands_run(NULL, "bench", "ops", "--op", "decoder_step", "--dtype",
                                         "int8", "--time", "1", "--json", NULL);
    commands_expect_code(&result, 0);
    char *line = result.out;
    json_t *row = json_loads(strtok(line, "\n"), 0, NULL);
    expect_keys(row, "op dtype isa shape model threads correct error median_us encoder_us runs "
                     "share_of_encoder");
    cr_expect(json_is_true(json_object_get(row, "correct")));
    cr_expect_gt(json_number_value(json_object_get(row, "share_of_encoder")), 0);
    json_decref(row);
    process_free(&result);
}

Test(bench, latency_times_each_size_and_a_new_process)
{
    char model[512];
    commands_make_model(model, 1);
    process_result result = commands_run(NULL, "bench", "latency", "-m", model, "--tokens", "20",
                                         "--documents", "1,3", "--runs", "2", "--json", NULL);
    commands_expect_code(&result, 0);
    cr_assert_eq(commands_count_lines(result.out), 3, "%s", result.out);
    char *line = strtok(result.out, "\n");
    for (int i = 0; i < 2; i++, line = strtok(NULL, "\n")) {
        json_t *row = parse(line);
        expect_keys(row, "model device dtype documents tokens_per_pair runs p50_us p90_us p99_us "
                         "max_us tokenize_us");
        cr_expect_eq(json_integer_value(json_object_get(row, "documents")), i == 0 ? 1 : 3);
        cr_expect_gt(json_real_value(json_object_get(row, "p50_us")), 0.0);
        json_decref(row);
    }
    json_t *first = parse(line);
    cr_expect_gt(json_real_value(json_object_get(first, "first_score_ms")), 0.0);
    json_decref(first);
    process_free(&result);
    process_remove_folder(model);
}

Test(progress, is_shown_when_asked_for_and_never_otherwise)
{
    char model[512];
    commands_make_model(model, 1);
    size_t n = 60000;
    char *pairs = malloc(n * 24), *at = pairs;
    for (size_t i = 0; i < n; i++)
        at +=
            sprintf(at, "waaaa\twa%c%c%c waa%c%c\n", (int)('a' + i % 26), (int)('a' + i / 26 % 26),
                    (int)('a' + i / 676 % 26), (int)('a' + i / 17576 % 26), (int)('a' + i % 7));
    process_result never = commands_run(pairs, "score", "-m", model, "--progress", "never", NULL);
    commands_expect_code(&never, 0);
    cr_expect_str_empty(never.err);
    process_result always = commands_run(pairs, "score", "-m", model, "--progress", "always", NULL);
    commands_expect_code(&always, 0);
    cr_expect_str_eq(always.out, never.out);
    if (*always.err) cr_expect_not_null(strstr(always.err, "pairs/s"), "%s", always.err);
    cr_expect_null(strchr(always.err, '\x1b'));
    process_free(&never);
    process_free(&always);
    free(pairs);
    process_remove_folder(model);
}
