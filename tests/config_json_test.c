/* jsontext: values, numbers and limits of the JSON that every file reader uses. Malformed texts are
 * config_test's. */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <jansson.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jsontext.h"
#include "memory.h"
#include "support/scratch.h"

static json_t *tree_of(const char *text, size_t bytes, unsigned flags)
{
    jsontext_limits limits = {.flags = flags};
    crank_error error = {0};
    json_t *root;
    cr_assert_eq(jsontext_tree(&root, "x", text, bytes, &limits, &error), CRANK_OK, "%s: %s", text,
                 error.message);
    return root;
}

static json_t *tree(const char *text)
{
    return tree_of(text, strlen(text), 0);
}

Test(jsontext, any_value_may_stand_at_the_top)
{
    json_t *values[] = {tree(" 7 "),  tree("-0.5"),    tree("\"a\""),
                        tree("true"), tree("false\n"), tree("null"),
                        tree("[]"),   tree("{}"),      tree("[[],[{}],{\"a\":[]}]")};
    cr_assert_eq(json_integer_value(values[0]), 7);
    cr_assert_eq(json_real_value(values[1]), -0.5);
    cr_assert_str_eq(json_string_value(values[2]), "a");
    cr_assert(json_is_true(values[3]) && json_is_false(values[4]) && json_is_null(values[5]));
    cr_assert_eq(json_array_size(values[6]), 0);
    cr_assert_eq(json_object_size(values[7]), 0);
    cr_assert_eq(json_array_size(values[8]), 3);
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) json_decref(values[i]);
    leak_check();
}

Test(jsontext, integers_are_exact_to_the_last_and_real_beyond)
{
    static const struct {
        const char *text;
        int64_t integer; /* 0: a real */
        double real;
    } cases[] = {
        {"9223372036854775807", INT64_MAX, 0},
        {"-9223372036854775808", INT64_MIN, 0},
        {"9223372036854775808", 0, 9223372036854775808.0},
        {"-9223372036854775809", 0, -9223372036854775808.0},
        {"1000000000000000019884624838656", 0, 1e30},
        {"123", 123, 0},
        {"-1", -1, 0},
        {"1.0", 0, 1.0},
        {"1e2", 0, 100.0},
        {"0.1", 0, 0.1},
        {"2.2250738585072011e-308", 0, 2.2250738585072011e-308},
        {"1.7976931348623157e308", 0, 1.7976931348623157e308},
        {"5e-324", 0, 5e-324},
        {"1e-400", 0, 0.0},
        {"123456789012345678901234567890.5e-10", 0, 123456789012345678901234567890.5e-10},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *value = tree(cases[i].text);
        if (cases[i].integer != 0) {
            cr_expect(json_is_integer(value), "%s", cases[i].text);
            cr_expect_eq(json_integer_value(value), cases[i].integer, "%s", cases[i].text);
        } else {
            cr_expect(json_is_real(value), "%s", cases[i].text);
            cr_expect_eq(json_real_value(value), cases[i].real, "%s", cases[i].text);
        }
        json_decref(value);
    }
}

/* A host program may have chosen a locale whose decimal point is a comma. */
Test(jsontext, the_locale_of_the_process_does_not_matter)
{
    static const char *const names[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "de_DE", "fr_FR"};
    int found = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && !found; i++) {
        found = setlocale(LC_NUMERIC, names[i]) != NULL;
    }
    if (!found) {
        fprintf(stderr, "SKIPPED: no locale with a decimal comma is installed\n");
        return;
    }
    json_t *value = tree("[0.5, 1.25e1]");
    cr_assert_eq(json_real_value(json_array_get(value, 0)), 0.5);
    cr_assert_eq(json_real_value(json_array_get(value, 1)), 12.5);
    json_decref(value);
}

Test(jsontext, strings_are_unescaped_and_keep_their_length)
{
    static const char text[] =
        "{\"a\\u0000b\": \"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00\\u0000z\"}";
    static const char expected[] = "\"\\/\b\f\n\r\t\xC3\xA9\xF0\x9F\x98\x80\0z";
    json_t *root = tree_of(text, sizeof text - 1, JSONTEXT_NUL);
    json_t *value = json_object_getn(root, "a\0b", 3);
    cr_assert_eq(json_string_length(value), sizeof expected - 1);
    cr_assert_eq(memcmp(json_string_value(value), expected, sizeof expected), 0);
    json_decref(root);
}

Test(jsontext, limits_hold)
{
    crank_error error = {0};
    json_t *root;
    jsontext_limits limits = {.values = 4, .depth = 2};
    cr_assert_eq(jsontext_tree(&root, "x", "[1,2,3]", 7, &limits, &error), CRANK_OK);
    json_decref(root);
    cr_assert_eq(jsontext_tree(&root, "x", "[1,2,3,4]", 9, &limits, &error), CRANK_LIMIT);
    cr_assert_str_eq(error.message, "x: more than 4 values");
    cr_assert_null(root);
    cr_assert_eq(jsontext_tree(&root, "x", "[[1]]", 5, &limits, &error), CRANK_OK);
    json_decref(root);
    cr_assert_eq(jsontext_tree(&root, "x", "[[[1]]]", 7, &limits, &error), CRANK_FORMAT);
    cr_assert_not_null(strstr(error.message, "nested deeper than 2 levels"));
    char digits[402];
    memset(digits, '1', sizeof digits);
    digits[1] = '.';
    limits = (jsontext_limits){0};
    cr_assert_eq(jsontext_tree(&root, "x", digits, sizeof digits, &limits, &error), CRANK_FORMAT);
    cr_assert_not_null(strstr(error.message, "a number of more than 400 characters"));
    leak_check();
}

/* Every text of a small grammar, up to 6 tokens: we and jansson must agree on all of them. */
Test(jsontext, agrees_with_jansson_on_every_short_text)
{
    static const char *const tokens[] = {"{", "}", "[", "]", ",", ":", "\"a\"", "1", "null", " "};
    enum { N = sizeof tokens / sizeof tokens[0], LENGTH = 6 };
    int index[LENGTH] = {0};
    long accepted = 0;
    static const jsontext_limits limits = {0};
    for (;;) {
        char text[64] = "";
        for (int i = 0; i < LENGTH; i++) strcat(text, tokens[index[i]]);
        json_t *ours, *theirs;
        crank_status status = jsontext_tree(&ours, "x", text, strlen(text), &limits, NULL);
        theirs = json_loads(text, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
        cr_assert_eq(status == CRANK_OK, theirs != NULL, "%s", text);
        cr_assert(ours == NULL || json_equal(ours, theirs), "%s", text);
        accepted += ours != NULL;
        json_decref(ours);
        json_decref(theirs);
        int i = 0;
        while (i < LENGTH && ++index[i] == N) index[i++] = 0;
        if (i == LENGTH) break;
    }
    cr_assert_gt(accepted, 100);
}
