/* The server's parts that need no connection. */
#ifdef CRANK_HAVE_SERVER
#define _DEFAULT_SOURCE
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "server/alloc.h"
#include "server/cost.h"
#include "server/dialects.h"
#include "server/keys.h"
#include "server/scores.h"
#include "support/scratch.h"

Test(cost, line_is_learned_from_batches)
{
    cost_model c = {0};
    cr_expect_eq(cost_of(&c, 100), 0);
    for (int i = 0; i < 200; i++) {
        double tokens = 100 + i * 37 % 900;
        cost_learn(&c, tokens, 500 + 3 * tokens);
    }
    cr_expect_float_eq(c.slope, 3, 1e-6);
    cr_expect_float_eq(cost_of(&c, 1000), 3500, 1e-3);
}

Test(cost, equal_batches_give_a_line_through_the_origin)
{
    cost_model c = {0};
    for (int i = 0; i < 50; i++) cost_learn(&c, 100, 250);
    cr_expect_float_eq(cost_of(&c, 200), 500, 1e-6);
}

Test(scores, keys_depend_on_every_part)
{
    score_key seed = {1, 2}, other = {1, 3};
    crank_text ab = {"ab", 2}, a = {"a", 1}, b = {"b", 1}, none = {NULL, 0};
    score_key k[5] = {scores_pair_key(scores_query_key(seed, ab), none),
                      scores_pair_key(scores_query_key(seed, a), b),
                      scores_pair_key(scores_query_key(seed, none), ab),
                      scores_pair_key(scores_query_key(other, a), b),
                      scores_pair_key(scores_query_key(seed, b), a)};
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < i; j++) cr_expect(k[i].high != k[j].high && k[i].low != k[j].low);
}

Test(scores, bounded_and_least_recently_used_goes_first)
{
    scores *s = scores_open(65536);
    cr_assert_not_null(s);
    score_value value = {0.5f, 7, 0, 3}, got;
    for (uint64_t i = 0; i < 10000; i++) {
        value.tokens = (uint32_t)i;
        scores_put(s, (score_key){i, i * 0x9E3779B97F4A7C15u}, &value);
        cr_assert(scores_get(s, (score_key){i, i * 0x9E3779B97F4A7C15u}, &got));
        cr_expect_eq(got.tokens, i);
    }
    scores_counts counts;
    scores_count(s, &counts);
    cr_expect_leq(counts.entries, 65536 / 48);
    cr_expect_eq(counts.entries + counts.evictions, 10000);
    cr_expect_not(scores_get(s, (score_key){0, 0}, &got));
    scores_close(s);
    leak_check();
}

Test(text, json_strings_are_always_utf8)
{
    static const struct {
        const char *in;
        size_t bytes;
        const char *out;
    } cases[] = {
        {"a\"b\\", 4, "\"a\\\"b\\\\\""},
        {"\n\t\x01", 3, "\"\\n\\u0009\\u0001\""},
        {"\0", 1, "\"\\u0000\""},
        {"\xC3\xA9", 2, "\"\xC3\xA9\""},
        {"\xC3", 1, "\"\xEF\xBF\xBD\""},
        {"\xED\xA0\x80", 3, NULL},
        {"\xF0\x9F\x98\x80", 4, "\"\xF0\x9F\x98\x80\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        text t = {0};
        const char *reason;
        text_json(&t, cases[i].in, cases[i].bytes);
        cr_expect_eq(body_fault(t.data, t.n, &reason), SIZE_MAX, "case %zu: %s", i, reason);
        if (cases[i].out != NULL)
            cr_expect(t.n == strlen(cases[i].out) && memcmp(t.data, cases[i].out, t.n) == 0);
        text_free(&t);
    }
}

Test(text, floats_come_back_bit_for_bit)
{
    for (int i = 1; i < 20000; i++) {
        float value = (float)(sin(i) * pow(10, i % 30 - 15));
        text t = {0};
        text_float(&t, value);
        text_put(&t, "", 1);
        cr_expect_eq(strtof(t.data, NULL), value);
        text_free(&t);
    }
}

static body_document *parse(const char *json, dialect_fields *fields)
{
    body_parser *parser = body_parser_open();
    char padded[4096] = "";
    body_document *document = NULL;
    body_value root;
    dialect_problem problem;
    memcpy(padded, json, strlen(json));
    cr_assert_eq(body_parse(parser, padded, strlen(json), &document, &root), BODY_OK);
    cr_assert(dialect_fields_read(fields, root, &problem));
    body_parser_close(parser);
    return document;
}

Test(dialects, the_body_decides_where_paths_collide)
{
    static const struct {
        const char *path, *body, *client, *name;
    } cases[] = {
        {"/rerank", "{\"texts\":[]}", NULL, "tei"},
        {"/rerank", "{\"documents\":[]}", NULL, "vllm"},
        {"/rerank", "{\"documents\":[],\"return_documents\":true}", NULL, "infinity"},
        {"/reranking", "{\"documents\":[]}", NULL, "llama.cpp"},
        {"/reranking", "{\"texts\":[]}", NULL, "tei"},
        {"/v1/rerank", "{\"documents\":[]}", NULL, "jina"},
        {"/v1/rerank", "{\"documents\":[]}", "lang:python; Cohere", "cohere-v1"},
        {"/v1/rerank", "{\"documents\":[],\"rank_fields\":[]}", NULL, "cohere-v1"},
        {"/v1/rerank", "{\"documents\":[],\"top_k\":1}", NULL, "voyage"},
        {"/v1/rerank", "{\"documents\":[],\"truncation\":false}", NULL, "voyage"},
        {"/v1/rerank", "{\"documents\":[],\"truncation\":false,\"top_n\":1}", NULL, "jina"},
        {"/v1/rerank", "{\"documents\":[],\"use_activation\":true}", NULL, "vllm"},
        {"/v2/rerank", "{\"documents\":[]}", NULL, "cohere-v2"},
        {"/v2/rerank", "{\"documents\":[],\"truncate_prompt_tokens\":1}", NULL, "vllm"},
        {"/v1/ranking", "{\"passages\":[]}", NULL, "nim"},
        {"/score", "{}", NULL, "vllm-score"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dialect_fields fields;
        body_document *document = parse(cases[i].body, &fields);
        const dialect *d = dialect_choose(cases[i].path, NULL, &fields, cases[i].client);
        cr_expect_str_eq(d->name, cases[i].name, "%s %s", cases[i].path, cases[i].body);
        cr_expect_str_eq(dialect_choose("/rerank", dialect_named("nim"), &fields, NULL)->name,
                         "nim");
        body_document_close(document);
    }
}

Test(dialects, no_memory_is_said)
{
    dialect_fields fields;
    body_document *document = parse("{\"query\":\"q\",\"texts\":[\"a\"]}", &fields);
    dialect_limits limits = {10};
    dialect_problem problem;
    dialect_request request;
    server_fail_nth(0);
    cr_expect_not(dialect_read(&request, dialect_named("tei"), &fields, &limits, &problem));
    cr_expect_eq(problem.fault, FAULT_MEMORY);
    server_fail_nth(-1);
    text t = {0};
    server_fail_nth(0);
    text_puts(&t, "x");
    text_puts(&t, "y");
    cr_expect(t.failed);
    server_fail_nth(-1);
    text_free(&t);
    body_document_close(document);
    leak_check();
}

Test(keys, only_whole_keys_are_allowed)
{
    char dir[SCRATCH_BYTES];
    scratch_open(dir);
    keys *k;
    crank_error error = {0};
    cr_assert_eq(keys_open(&k, scratch_text(dir, "keys", "# c\n\none \r\ntwo"), &error), CRANK_OK);
    cr_expect(keys_allow(k, "Bearer one"));
    cr_expect(keys_allow(k, "bearer two"));
    cr_expect(keys_allow(k, "two"));
    cr_expect_not(keys_allow(k, "Bearer tw"));
    cr_expect_not(keys_allow(k, ""));
    cr_expect_not(keys_allow(k, NULL));
    keys_close(k);
    cr_expect_eq(keys_open(&k, scratch_text(dir, "none", "# c\n"), &error), CRANK_FORMAT);
    cr_expect_eq(keys_open(&k, "/nonexistent/keys", &error), CRANK_IO);
    scratch_close(dir);
    leak_check();
}
#endif
