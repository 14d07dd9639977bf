/* config: strict parsing, typed getters and their messages. */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory.h"
#include "support/golden.h"
#include "support/scratch.h"
#include "weights/config.h"
#include "weights/file.h"

static config *parse(const char *text)
{
    crank_error error = {0};
    config *c;
    cr_assert_eq(config_parse(&c, "config.json", text, strlen(text), &error), CRANK_OK, "%s: %s",
                 text, error.message);
    return c;
}

/* ---- texts that are refused ----------------------------------------------------------------- */

Test(config, malformed_texts_are_refused_with_their_place)
{
    static const struct {
        const char *text;
        size_t bytes; /* 0: strlen */
        const char *message;
    } cases[] = {
        {"", 0, "line 1, column 1 (byte 0): an object is expected at the top"},
        {"   ", 0, "line 1, column 4 (byte 3): an object is expected at the top"},
        {"7", 0, "line 1, column 1 (byte 0): an object is expected at the top"},
        {"[]", 0, "line 1, column 1 (byte 0): an object is expected at the top"},
        {"{", 0, "line 1, column 2 (byte 1): the text ends where '\"' is expected"},
        {"{\"a\": 1", 0, "line 1, column 8 (byte 7): ',' or '}' is expected"},
        {"{\"a\": 1}}", 0, "line 1, column 9 (byte 8): something follows the value"},
        {"{\"a\": 1} x", 0, "line 1, column 10 (byte 9): something follows the value"},
        {"{\"a\": 1,}", 0, "line 1, column 9 (byte 8): a value is expected after ','"},
        {"{\"a\": [1 2]}", 0, "line 1, column 10 (byte 9): ',' or ']' is expected"},
        {"{\"a\": [1}", 0, "line 1, column 9 (byte 8): ',' or ']' is expected"},
        {"{\"a\": [,]}", 0, "line 1, column 8 (byte 7): a value is expected"},
        {"{\"a\": }", 0, "line 1, column 7 (byte 6): a value is expected"},
        {"{\"a\" 1}", 0, "line 1, column 6 (byte 5): ':' is expected, '1' found"},
        {"{a: 1}", 0, "line 1, column 2 (byte 1): '\"' is expected, 'a' found"},
        {"{\"a\": 01}", 0, "line 1, column 8 (byte 7): ',' or '}' is expected"},
        {"{\"a\": +1}", 0, "line 1, column 7 (byte 6): a value is expected"},
        {"{\"a\": .5}", 0, "line 1, column 7 (byte 6): a value is expected"},
        {"{\"a\": NaN}", 0, "line 1, column 7 (byte 6): a value is expected"},
        {"{\"a\": Infinity}", 0, "line 1, column 7 (byte 6): a value is expected"},
        {"{\"a\": truely}", 0, "line 1, column 11 (byte 10): ',' or '}' is expected"},
        {"{\"a\": 1e999}", 0, "line 1, column 7 (byte 6): a number out of range"},
        {"{\"a\": 1,\n \"b\": {},\n  \"a\": 2}", 0,
         "line 3, column 3 (byte 21): the key \"a\" stands there twice"},
        {"{\"a\": {\"b\": null, \"\\u0062\": 2}}", 0,
         "line 1, column 19 (byte 18): the key \"b\" stands there twice"},
        {"{\"a\": \"x\\u0000y\"}", 0, "line 1, column 7 (byte 6): a NUL in a string"},
        {"{\"x\\u0000y\": 1}", 0, "line 1, column 2 (byte 1): a NUL in a string"},
        {"{\"a\": \"\\ud800\"}", 0, "line 1, column 14 (byte 13): half a surrogate pair"},
        {"{\"a\": \"\\x41\"}", 0, "line 1, column 9 (byte 8): an unknown escape in a string"},
        {"{\"a\": \"\xff\"}", 0, "line 1, column 8 (byte 7): a string is not valid UTF-8"},
        {"{\"a\": \"\xed\xa0\x80\"}", 0, "line 1, column 8 (byte 7): a string is not valid UTF-8"},
        {"{\"a\": \"x\ny\"}", 0, "line 1, column 9 (byte 8): a control character in a string"},
        {"{\"a\": \"x\0y\"}", 12, "line 1, column 9 (byte 8): a control character in a string"},
        {"{\"a\": 1\0}", 9, "line 1, column 8 (byte 7): ',' or '}' is expected"},
        {"{\"a\": 1}\0", 9, "line 1, column 9 (byte 8): something follows the value"},
        {"{\"a\": \"x", 0, "line 1, column 7 (byte 6): a string without an end"},
        {"\xEF\xBB\xBF{}", 0, "line 1, column 1 (byte 0): an object is expected at the top"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        crank_error error = {0};
        config *c;
        size_t bytes = cases[i].bytes != 0 ? cases[i].bytes : strlen(cases[i].text);
        cr_expect_eq(config_parse(&c, "config.json", cases[i].text, bytes, &error), CRANK_FORMAT,
                     "case %zu", i);
        cr_expect_null(c);
        cr_expect(strncmp(error.message, "config.json: ", 13) == 0);
        cr_expect_str_eq(error.message + 13, cases[i].message, "case %zu: %s", i, error.message);
    }
    leak_check();
}

Test(config, size_depth_and_number_of_values_are_bounded)
{
    crank_error error = {0};
    config *c;
    size_t bytes = CONFIG_MAX_BYTES + 1;
    char *text = malloc(bytes + 1);
    memset(text, ' ', bytes);
    cr_assert_eq(config_parse(&c, "x.json", text, bytes, &error), CRANK_LIMIT);
    cr_assert_str_eq(error.message, "x.json: has 4194305 bytes, at most 4194304 are read");

    for (int levels = CONFIG_MAX_DEPTH - 1; levels < 2000000; levels = levels * 3 + 1) {
        size_t used = (size_t)sprintf(text, "{\"a\":");
        int fits = levels + 1 <= CONFIG_MAX_DEPTH;
        memset(text + used, '[', (size_t)levels);
        memset(text + used + levels, ']', (size_t)levels);
        text[used + 2 * (size_t)levels] = '}';
        used += 2 * (size_t)levels + 1;
        cr_assert_eq(config_parse(&c, "x.json", text, used, &error),
                     fits ? CRANK_OK : CRANK_FORMAT);
        if (!fits) cr_assert_not_null(strstr(error.message, "nested deeper than 64 levels"));
        config_close(c);
    }

    size_t used = (size_t)sprintf(text, "{\"a\":[0");
    for (int i = 0; i < CONFIG_MAX_VALUES; i++) used += (size_t)sprintf(text + used, ",0");
    used += (size_t)sprintf(text + used, "]}");
    cr_assert_eq(config_parse(&c, "x.json", text, used, &error), CRANK_LIMIT);
    cr_assert_str_eq(error.message, "x.json: more than 200000 values");

    /* Brackets and commas inside strings do not count, escaped quotes do not end them. */
    used = (size_t)sprintf(text, "{\"a\":\"\\\"");
    memset(text + used, '[', 300000);
    sprintf(text + used + 300000, "\"}");
    cr_assert_eq(config_parse(&c, "x.json", text, used + 300002, &error), CRANK_OK);
    config_close(c);
    free(text);
}

/* ---- getters -------------------------------------------------------------------------------- */

static const char sample[] =
    "{\"n\": 384, \"zero\": 0, \"negative\": -1, \"big\": 9223372036854775807, \"real\": 1e-12,"
    " \"whole\": 4.0, \"yes\": true, \"no\": false, \"none\": null, \"word\": \"gelu\","
    " \"list\": [1], \"inner\": {\"theta\": 10000.5, \"deep\": {\"x\": 7}, \"none\": null},"
    " \"dim\": 48, \"line\": \"a\\nb\"}";

Test(config, getters_read_what_is_there)
{
    crank_error error;
    config *c = parse(sample);
    int32_t n;
    int64_t wide;
    double number;
    int flag;
    const char *word;
    cr_assert_eq(config_int(c, "n", 1, 4096, &n, &error), CRANK_OK);
    cr_assert_eq(n, 384);
    cr_assert_eq(config_int(c, "hidden_size|dim", 1, 4096, &n, &error), CRANK_OK);
    cr_assert_eq(n, 48);
    cr_assert_eq(config_int(c, "none|n", 1, 4096, &n, &error), CRANK_OK, "null is absent");
    cr_assert_eq(n, 384);
    cr_assert_eq(config_int(c, "inner.deep.x", 0, 10, &n, &error), CRANK_OK);
    cr_assert_eq(n, 7);
    cr_assert_eq(config_int_or(c, "inner.deep.y", 0, 10, -5, &n, &error), CRANK_OK);
    cr_assert_eq(n, -5, "the fallback need not be in range");
    cr_assert_eq(config_int_or(c, "word.x|n.x", 0, 10, 3, &n, &error), CRANK_OK);
    cr_assert_eq(n, 3, "there is nothing inside a string or a number");
    cr_assert_eq(config_int64_or(c, "big", 0, INT64_MAX, 0, &wide, &error), CRANK_OK);
    cr_assert_eq(wide, INT64_MAX);
    cr_assert_eq(config_number(c, "real", 0, 1, &number, &error), CRANK_OK);
    cr_assert_eq(number, 1e-12);
    cr_assert_eq(config_number(c, "n", 0, 1000, &number, &error), CRANK_OK);
    cr_assert_eq(number, 384.0);
    cr_assert_eq(config_number_or(c, "inner.none", 0, 1, 2.5, &number, &error), CRANK_OK);
    cr_assert_eq(number, 2.5);
    cr_assert_eq(config_bool_or(c, "yes", 0, &flag, &error), CRANK_OK);
    cr_assert_eq(flag, 1);
    cr_assert_eq(config_bool_or(c, "no", 1, &flag, &error), CRANK_OK);
    cr_assert_eq(flag, 0);
    cr_assert_eq(config_bool_or(c, "none", 1, &flag, &error), CRANK_OK);
    cr_assert_eq(flag, 1);
    cr_assert_eq(config_string(c, "word", &word, &error), CRANK_OK);
    cr_assert_str_eq(word, "gelu");
    cr_assert_eq(config_string_or(c, "none", "x", &word, &error), CRANK_OK);
    cr_assert_str_eq(word, "x");
    int which;
    cr_assert_eq(config_choice(c, "word", (const char *const[]){"relu", "gelu"}, 2, &which, &error),
                 CRANK_OK);
    cr_assert_eq(which, 1);
    cr_assert(config_has(c, "n") && !config_has(c, "none") && !config_has(c, "inner.none"));
    config_close(c);
    /* No object at all is an empty one. */
    cr_assert_eq(config_int_or(NULL, "n", 0, 1, 5, &n, &error), CRANK_OK);
    cr_assert_eq(n, 5);
    cr_assert_eq(config_int(NULL, "n", 0, 1, &n, &error), CRANK_MODEL);
    cr_assert_null(config_root(NULL));
    config_close(NULL);
}

typedef enum getter { INT, NUMBER, BOOL, STRING, CHOICE, LABELS } getter;

Test(config, wrong_values_are_named_with_what_was_expected)
{
    static const struct {
        const char *text;
        getter getter;
        const char *keys;
        double lowest, highest;
        const char *message;
    } cases[] = {
        {"{}", INT, "n", 1, 9, "config.json: n is missing"},
        {"{\"n\": null}", INT, "n", 1, 9, "config.json: n is missing"},
        {"{}", INT, "hidden_size|dim|d_model", 1, 9,
         "config.json: hidden_size or dim or d_model is missing"},
        {"{\"n\": 0}", INT, "n", 1, 9, "config.json: n is 0, expected an integer from 1 to 9"},
        {"{\"n\": -3}", INT, "n", 1, 9, "config.json: n is -3, expected an integer from 1 to 9"},
        {"{\"n\": 10}", INT, "m|n", 1, 9, "config.json: n is 10, expected an integer from 1 to 9"},
        {"{\"n\": 4294967297}", INT, "n", 1, 1e18,
         "config.json: n is 4294967297, expected an integer from 1 to 2147483647"},
        {"{\"n\": 1e30, \"m\": 1}", INT, "n", 1, 9,
         "config.json: n is 1e+30, expected an integer from 1 to 9"},
        {"{\"n\": 1000000000000000019884624838656}", INT, "n", 1, 9,
         "config.json: n is 1e+30, expected an integer from 1 to 9"},
        {"{\"n\": 5.0}", INT, "n", 1, 9, "config.json: n is 5, expected an integer from 1 to 9"},
        {"{\"n\": 5.5}", INT, "n", 1, 9, "config.json: n is 5.5, expected an integer from 1 to 9"},
        {"{\"n\": \"5\"}", INT, "n", 1, 9,
         "config.json: n is \"5\", expected an integer from 1 to 9"},
        {"{\"n\": true}", INT, "n", 1, 9,
         "config.json: n is true, expected an integer from 1 to 9"},
        {"{\"n\": [5]}", INT, "n", 1, 9,
         "config.json: n is an array, expected an integer from 1 to 9"},
        {"{\"n\": {\"x\": 5}}", INT, "n", 1, 9,
         "config.json: n is an object, expected an integer from 1 to 9"},
        {"{\"a\": {\"b\": 7.5}}", INT, "a.b", 0, 1,
         "config.json: a.b is 7.5, expected an integer from 0 to 1"},
        {"{\"e\": 1}", NUMBER, "e", 0, 0.5, "config.json: e is 1, expected a number from 0 to 0.5"},
        {"{\"e\": \"1e-12\"}", NUMBER, "e", 0, 1,
         "config.json: e is \"1e-12\", expected a number from 0 to 1"},
        {"{}", NUMBER, "e", 0, 1, "config.json: e is missing"},
        {"{\"b\": 1}", BOOL, "b", 0, 0, "config.json: b is 1, expected true or false"},
        {"{\"b\": \"true\"}", BOOL, "b", 0, 0,
         "config.json: b is \"true\", expected true or false"},
        {"{\"s\": 7}", STRING, "s", 0, 0, "config.json: s is 7, expected a string"},
        {"{}", STRING, "s", 0, 0, "config.json: s is missing"},
        {"{\"s\": \"swish\"}", CHOICE, "s", 0, 0,
         "config.json: s is \"swish\", expected one of gelu, relu"},
        {"{\"s\": \"0123456789012345678901234567890123456789012345678901234567890123456789\"}",
         CHOICE, "s", 0, 0,
         "config.json: s is \"012345678901234567890123456789012345678901234567890123456789\"..., "
         "expected one of gelu, relu"},
        {"{\"s\": \"a\\nb\\u001b[31m\"}", CHOICE, "s", 0, 0,
         "config.json: s is \"a?b?[31m\", expected one of gelu, relu"},
        {"{\"s\": 1}", CHOICE, "s", 0, 0, "config.json: s is 1, expected one of gelu, relu"},
        {"{\"id2label\": []}", LABELS, "", 0, 0,
         "config.json: id2label is an array, expected an object"},
        {"{\"id2label\": {\"1\": \"x\"}}", LABELS, "", 0, 0,
         "config.json: id2label has 1 labels but none for 0"},
        {"{\"id2label\": {\"0\": \"x\", \"2\": \"y\"}}", LABELS, "", 0, 0,
         "config.json: id2label has 2 labels but none for 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        config *c = parse(cases[i].text);
        crank_error error = {0};
        crank_status status = CRANK_OK;
        int32_t n;
        double number;
        int which;
        const char *word;
        static const char *const words[] = {"gelu", "relu"};
        switch (cases[i].getter) {
        case INT:
            status = config_int(c, cases[i].keys, (int64_t)cases[i].lowest,
                                (int64_t)cases[i].highest, &n, &error);
            break;
        case NUMBER:
            status =
                config_number(c, cases[i].keys, cases[i].lowest, cases[i].highest, &number, &error);
            break;
        case BOOL: status = config_bool_or(c, cases[i].keys, 0, &which, &error); break;
        case STRING: status = config_string(c, cases[i].keys, &word, &error); break;
        case CHOICE: status = config_choice(c, cases[i].keys, words, 2, &which, &error); break;
        case LABELS: status = config_label_count(c, &n, &error); break;
        }
        cr_expect_eq(status, CRANK_MODEL, "%s", cases[i].text);
        cr_expect_str_eq(error.message, cases[i].message, "%s: %s", cases[i].text, error.message);
        config_close(c);
    }
    leak_check();
}

Test(config, one_integer_beyond_64_bits_does_not_spoil_the_others)
{
    crank_error error;
    int32_t n;
    int64_t wide;
    config *c =
        parse("{\"model_max_length\": 1000000000000000019884624838656, \"hidden_size\": 384,"
              " \"half\": 0.5}");
    cr_assert_eq(config_int(c, "hidden_size", 1, 4096, &n, &error), CRANK_OK);
    cr_assert_eq(n, 384);
    cr_assert_eq(config_int(c, "half", 0, 1, &n, &error), CRANK_MODEL);
    cr_assert_eq(config_int64_or(c, "model_max_length", 1, INT64_MAX, 0, &wide, &error),
                 CRANK_MODEL);
    config_close(c);
    char digits[500] = "{\"a\": 1";
    memset(digits + 7, '0', 400);
    strcpy(digits + 407, "}");
    cr_assert_eq(config_parse(&c, "x", digits, strlen(digits), &error), CRANK_FORMAT);
}

Test(config, labels_are_counted_and_named)
{
    crank_error error;
    int32_t n;
    config *c = parse("{\"id2label\": {\"2\": \"neutral\", \"0\": \"contradiction\", \"1\": 7}}");
    cr_assert_eq(config_label_count(c, &n, &error), CRANK_OK);
    cr_assert_eq(n, 3);
    cr_assert_str_eq(config_label(c, 2), "neutral");
    cr_assert_null(config_label(c, 1));
    cr_assert_null(config_label(c, 3));
    config_close(c);
    c = parse("{}");
    cr_assert_eq(config_label_count(c, &n, &error), CRANK_OK);
    cr_assert_eq(n, 0);
    cr_assert_null(config_label(c, 0));
    config_close(c);
}

/* ---- files ---------------------------------------------------------------------------------- */

Test(config, files_are_found_absent_or_refused)
{
    char dir[SCRATCH_BYTES], expected[256];
    crank_error error;
    config *c;
    scratch_open(dir);
    config_source source = {.dir = dir};
    cr_assert_eq(config_open(&c, &source, "config.json", &error), CRANK_MODEL);
    snprintf(expected, sizeof expected, "%s/config.json: is not there", dir);
    cr_assert_str_eq(error.message, expected);
    cr_assert_eq(config_open_optional(&c, &source, "config.json", &error), CRANK_OK);
    cr_assert_null(c);
    scratch_text(dir, "config.json", "{\"n\": x}");
    cr_assert_eq(config_open_optional(&c, &source, "config.json", &error), CRANK_FORMAT);
    cr_assert_not_null(strstr(error.message, "/config.json: line 1, column 7 (byte 6): "), "%s",
                       error.message);
    cr_assert_eq(mkdir(scratch_path(dir, "modules.json"), 0700), 0);
    cr_assert_eq(config_open_optional(&c, &source, "modules.json", &error), CRANK_IO);
    cr_assert_eq(symlink("loop.json", scratch_path(dir, "loop.json")), 0);
    cr_assert_eq(config_open_optional(&c, &source, "loop.json", &error), CRANK_IO);
    char *large = calloc(1, CONFIG_MAX_BYTES + 1);
    scratch_write(dir, "large.json", large, CONFIG_MAX_BYTES + 1);
    cr_assert_eq(config_open_optional(&c, &source, "large.json", &error), CRANK_LIMIT);
    free(large);
    scratch_text(dir, "list.json", "[1, 2]");
    cr_assert_eq(config_open_list_optional(&c, &source, "list.json", &error), CRANK_OK);
    cr_assert_not_null(config_root(c));
    config_close(c);
    cr_assert_eq(config_open_optional(&c, &source, "list.json", &error), CRANK_FORMAT);
    scratch_text(dir, "object.json", "{}");
    cr_assert_eq(config_open_list_optional(&c, &source, "object.json", &error), CRANK_FORMAT);
    cr_assert_not_null(strstr(error.message, "an array is expected at the top"));
    scratch_close(dir);
    leak_check();
}

Test(config, goldens_in_both_styles_say_the_same)
{
    static const char *const names[] = {"bert-h64", "electra", "distilbert", "bert-sharded"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char dir[512];
        crank_error error;
        int32_t width[2], layers[2], labels[2];
        cr_assert(golden_find(dir, names[i]));
        config_source source = {.dir = dir};
        for (int style = 0; style < 2; style++) {
            config *c;
            cr_assert_eq(config_open(&c, &source, style ? "config.v5.json" : "config.json", &error),
                         CRANK_OK, "%s", error.message);
            cr_assert_eq(config_int(c, "hidden_size|dim", 1, 65536, &width[style], &error),
                         CRANK_OK, "%s", error.message);
            cr_assert_eq(
                config_int(c, "num_hidden_layers|n_layers", 1, 256, &layers[style], &error),
                CRANK_OK);
            cr_assert_eq(config_label_count(c, &labels[style], &error), CRANK_OK);
            config_close(c);
        }
        cr_assert(width[0] == width[1] && layers[0] == layers[1] && labels[0] == 1 &&
                  labels[1] == 1);
    }
}

/* ---- failures ------------------------------------------------------------------------------- */

Test(config, every_allocation_and_system_call_may_fail)
{
    char dir[SCRATCH_BYTES];
    scratch_open(dir);
    scratch_count_jansson();
    scratch_text(dir, "config.json",
                 "{\"a long key that makes the token buffer grow\": \"and a value that is longer "
                 "than any buffer was at the beginning of this\", \"n\": 12345, \"list\": [1, 2.5, "
                 "true, null, {\"x\": [\"y\"]}]}");
    config_source source = {.dir = dir};
    for (int memory = 0; memory < 2; memory++) {
        for (long n = 0;; n++) {
            crank_error error = {0};
            config *c;
            memory ? mem_fail_nth(n) : file_fail_nth(n);
            crank_status status = config_open(&c, &source, "config.json", &error);
            memory ? mem_fail_nth(-1) : file_fail_nth(-1);
            if (status == CRANK_OK) {
                const char *text;
                cr_assert_geq(n, memory ? 15 : 4);
                cr_assert_eq(
                    config_string(c, "a long key that makes the token buffer grow", &text, &error),
                    CRANK_OK);
                cr_assert_str_eq(text, "and a value that is longer than any buffer was at the "
                                       "beginning of this");
                config_close(c);
                break;
            }
            cr_assert_eq(status, memory ? CRANK_OUT_OF_MEMORY : CRANK_IO, "%ld: %s", n,
                         error.message);
        }
    }
    scratch_close(dir);
    leak_check();
}
