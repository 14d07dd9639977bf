/* sentence_config: what sentence-transformers adds to a folder. */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memory.h"
#include "support/golden.h"
#include "support/scratch.h"
#include "weights/file.h"
#include "weights/sentence_config.h"

static crank_status read_folder(const char *dir, sentence_config *s, config **main,
                                crank_error *error)
{
    config_source source = {.dir = dir};
    CRANK_TRY(config_open(main, &source, "config.json", error));
    return sentence_config_read(s, &source, *main, error);
}

#define SIGMOID "torch.nn.modules.activation.Sigmoid"
#define IDENTITY "torch.nn.modules.linear.Identity"
#define MODULES                                                                                    \
    "[{\"idx\":0,\"name\":\"0\",\"path\":\"\",\"type\":\"st.base.modules.Transformer\"}]"

Test(sentence, the_activation_is_the_first_that_is_declared)
{
    static const struct {
        const char *config, *settings, *modules;
        sentence_activation activation;
        const char *source, *warning;
    } cases[] = {
        {"{}", NULL, NULL, SENTENCE_ACTIVATION_DEFAULT, "default", ""},
        {"{}", "{}", MODULES, SENTENCE_ACTIVATION_DEFAULT, "default", ""},
        {"{\"sbert_ce_default_activation_function\":\"" IDENTITY "\"}", NULL, NULL,
         SENTENCE_ACTIVATION_IDENTITY, "config.json: sbert_ce_default_activation_function", ""},
        {"{\"sbert_ce_default_activation_function\":null}", NULL, NULL, SENTENCE_ACTIVATION_DEFAULT,
         "default", ""},
        {"{\"sbert_ce_default_activation_function\":\"" IDENTITY "\","
         "\"sentence_transformers\":{\"activation_fn\":\"" SIGMOID "\"}}",
         NULL, NULL, SENTENCE_ACTIVATION_SIGMOID,
         "config.json: sentence_transformers.activation_fn", ""},
        {"{\"sbert_ce_default_activation_function\":\"" IDENTITY "\","
         "\"sentence_transformers\":{\"version\":\"4.1.0\"}}",
         NULL, NULL, SENTENCE_ACTIVATION_IDENTITY,
         "config.json: sbert_ce_default_activation_function", ""},
        {"{\"sbert_ce_default_activation_function\":\"" IDENTITY "\","
         "\"sentence_transformers\":{\"activation_fn\":null}}",
         NULL, NULL, SENTENCE_ACTIVATION_DEFAULT, "default", ""},
        {"{\"sbert_ce_default_activation_function\":\"" IDENTITY "\","
         "\"sentence_transformers\":null}",
         NULL, NULL, SENTENCE_ACTIVATION_IDENTITY,
         "config.json: sbert_ce_default_activation_function", ""},
        {"{\"sbert_ce_default_activation_function\":\"" SIGMOID "\","
         "\"sentence_transformers\":{\"activation_fn\":\"" SIGMOID "\"}}",
         "{\"activation_fn\":\"torch.nn.Identity\"}", MODULES, SENTENCE_ACTIVATION_IDENTITY,
         "config_sentence_transformers.json: activation_fn", ""},
        {"{}", "{\"activation_fn\":\"" IDENTITY "\"}", NULL, SENTENCE_ACTIVATION_IDENTITY,
         "config_sentence_transformers.json: activation_fn", "reads it only beside a modules.json"},
        {"{}", "{\"activation_fn\":null}", MODULES, SENTENCE_ACTIVATION_DEFAULT, "default", ""},
        /* Not torch's: the search goes on behind the settings file, and ends elsewhere. */
        {"{\"sbert_ce_default_activation_function\":\"" IDENTITY "\"}",
         "{\"activation_fn\":\"evil.module.Sigmoid\"}", MODULES, SENTENCE_ACTIVATION_IDENTITY,
         "config.json: sbert_ce_default_activation_function", "\"evil.module.Sigmoid\""},
        {"{\"sbert_ce_default_activation_function\":\"" IDENTITY "\","
         "\"sentence_transformers\":{\"activation_fn\":\"torchvision.Identity\"}}",
         NULL, NULL, SENTENCE_ACTIVATION_DEFAULT, "default", "\"torchvision.Identity\""},
        {"{\"sbert_ce_default_activation_function\":\"os.system\"}", NULL, NULL,
         SENTENCE_ACTIVATION_DEFAULT, "default", "\"os.system\""},
        {"{\"sbert_ce_default_activation_function\":\"torch.nn.modules.activation.Tanh\"}", NULL,
         NULL, SENTENCE_ACTIVATION_OTHER, "config.json: sbert_ce_default_activation_function", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char dir[SCRATCH_BYTES];
        crank_error error = {0};
        sentence_config s;
        config *main;
        scratch_open(dir);
        scratch_text(dir, "config.json", cases[i].config);
        if (cases[i].settings != NULL) {
            scratch_text(dir, "config_sentence_transformers.json", cases[i].settings);
        }
        if (cases[i].modules != NULL) scratch_text(dir, "modules.json", cases[i].modules);
        cr_assert_eq(read_folder(dir, &s, &main, &error), CRANK_OK, "case %zu: %s", i,
                     error.message);
        cr_expect_eq(s.activation, cases[i].activation, "case %zu", i);
        cr_expect_str_eq(s.activation_source, cases[i].source, "case %zu", i);
        cr_expect_not_null(strstr(s.warning, cases[i].warning), "case %zu: %s", i, s.warning);
        if (cases[i].warning[0] == '\0') cr_expect_str_eq(s.warning, "", "case %zu", i);
        if (s.activation == SENTENCE_ACTIVATION_OTHER) {
            cr_expect_str_eq(s.activation_name, "torch.nn.modules.activation.Tanh");
        }
        sentence_config_free(&s);
        config_close(main);
        scratch_close(dir);
    }
    leak_check();
}

Test(sentence, the_bi_encoder_golden_is_mean_pooling_and_normalise)
{
    char dir[512];
    crank_error error;
    sentence_config s;
    config *main;
    cr_assert(golden_find(dir, "biencoder"));
    cr_assert_eq(read_folder(dir, &s, &main, &error), CRANK_OK, "%s", error.message);
    cr_assert_eq(s.n_modules, 3);
    cr_assert_eq(s.modules[0].type, SENTENCE_TRANSFORMER);
    cr_assert_eq(s.modules[1].type, SENTENCE_POOLING);
    cr_assert_str_eq(s.modules[1].path, "1_Pooling");
    cr_assert_eq(s.modules[2].type, SENTENCE_NORMALIZE);
    cr_assert(s.pooling == SENTENCE_POOL_MEAN && s.pooling_width == 48 && s.normalize);
    cr_assert(!s.is_cross_encoder && s.max_seq_length == 0 && !s.do_lower_case);
    sentence_config_free(&s);
    config_close(main);
}

/* A folder with a Pooling module whose config.json is `pooling`. */
static void write_pooling(const char *dir, const char *pooling)
{
    scratch_text(dir, "config.json", "{}");
    scratch_text(dir, "modules.json",
                 "[{\"idx\":0,\"name\":\"0\",\"path\":\"\",\"type\":\"x.Transformer\"},"
                 "{\"idx\":1,\"name\":\"1\",\"path\":\"1_P\",\"type\":\"x.Pooling\"}]");
    scratch_text(dir, "1_P/config.json", pooling);
}

Test(sentence, pooling_is_read_in_both_styles)
{
    static const struct {
        const char *text;
        crank_status status;
        sentence_pooling pooling;
        const char *message;
    } cases[] = {
        {"{\"embedding_dimension\":48,\"pooling_mode\":\"cls\",\"include_prompt\":true}", 0,
         SENTENCE_POOL_CLS, ""},
        {"{\"pooling_mode\":[\"lasttoken\"]}", 0, SENTENCE_POOL_LAST, ""},
        {"{\"pooling_mode\":\"mean\",\"pooling_mode_cls_token\":true}", 0, SENTENCE_POOL_MEAN, ""},
        {"{\"pooling_mode\":\"weightedmean\"}", 0, SENTENCE_POOL_WEIGHTED_MEAN, ""},
        {"{}", 0, SENTENCE_POOL_MEAN, ""},
        {"{\"pooling_mode_cls_token\":true,\"pooling_mode_mean_tokens\":false}", 0,
         SENTENCE_POOL_CLS, ""},
        {"{\"pooling_mode_max_tokens\":true}", 0, SENTENCE_POOL_MAX, ""},
        {"{\"pooling_mode_mean_sqrt_len_tokens\":true}", 0, SENTENCE_POOL_MEAN_SQRT_LEN, ""},
        {"{\"pooling_mode_cls_token\":true,\"pooling_mode_mean_tokens\":true}", CRANK_UNSUPPORTED,
         0, "more than one pooling_mode is set, one is supported"},
        {"{\"pooling_mode\":[\"cls\",\"mean\"]}", CRANK_UNSUPPORTED, 0,
         "pooling_mode lists 2 modes, one is supported"},
        {"{\"pooling_mode\":\"median\"}", CRANK_UNSUPPORTED, 0,
         "pooling_mode \"median\" is not supported"},
        {"{\"pooling_mode\":7}", CRANK_MODEL, 0,
         "pooling_mode is neither a string nor a list of one"},
        {"{\"pooling_mode_cls_token\":1}", CRANK_MODEL, 0,
         "pooling_mode_cls_token is 1, expected true or false"},
        {"{\"word_embedding_dimension\":0}", CRANK_MODEL, 0,
         "word_embedding_dimension is 0, expected an integer from 1 to 1048576"},
        {"{", CRANK_FORMAT, 0, "1_P/config.json: line 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char dir[SCRATCH_BYTES];
        crank_error error = {0};
        sentence_config s;
        config *main;
        scratch_open(dir);
        write_pooling(dir, cases[i].text);
        cr_expect_eq(read_folder(dir, &s, &main, &error), cases[i].status, "case %zu: %s", i,
                     error.message);
        cr_expect_not_null(strstr(error.message, cases[i].message), "case %zu: %s", i,
                           error.message);
        if (cases[i].status == CRANK_OK) cr_expect_eq(s.pooling, cases[i].pooling, "case %zu", i);
        sentence_config_free(&s);
        config_close(main);
        scratch_close(dir);
    }
    leak_check();
}

Test(sentence, hostile_module_lists_are_refused_with_their_reason)
{
    static const struct {
        const char *modules;
        crank_status status;
        const char *message;
    } cases[] = {
        {"{}", CRANK_FORMAT, "an array is expected at the top"},
        {"[7]", CRANK_MODEL, "module 0: type is missing"},
        {"[{\"name\":\"0\",\"path\":\"\",\"type\":7}]", CRANK_MODEL,
         "module 0: type is not a string"},
        {"[{\"path\":\"\",\"type\":\"x.Transformer\"}]", CRANK_MODEL, "module 0: name is missing"},
        {"[{\"name\":\"0\",\"type\":\"x.Transformer\"}]", CRANK_MODEL, "module 0: path is missing"},
        {"[{\"name\":\"0\",\"path\":\"\",\"type\":\"x.Transformer\"},"
         "{\"name\":\"1\",\"path\":\"1_CNN\",\"type\":\"sentence_transformers.models.CNN\"}]",
         CRANK_UNSUPPORTED, "module 1: type \"sentence_transformers.models.CNN\" is not supported"},
        {"[{\"name\":\"0\",\"path\":\"../x\",\"type\":\"x.Pooling\"}]", CRANK_MODEL,
         "module 0: path \"../x\" is not a plain path in the folder"},
        {"[{\"name\":\"0\",\"path\":\"/etc\",\"type\":\"x.Pooling\"}]", CRANK_MODEL,
         "module 0: path \"/etc\" is not a plain path in the folder"},
        {"[{\"name\":\"0\",\"path\":\"a//b\",\"type\":\"x.Pooling\"}]", CRANK_MODEL, "not a plain"},
        {"[{\"name\":\"0\",\"path\":\"link\",\"type\":\"x.Pooling\"}]", CRANK_MODEL,
         "names \"link\", which is a link out of the folder"},
        {"[{\"name\":\"0\",\"path\":\"1_P\",\"type\":\"x.Pooling\"}]", CRANK_MODEL,
         "1_P/config.json: is not there"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char dir[SCRATCH_BYTES];
        crank_error error = {0};
        sentence_config s;
        config *main;
        scratch_open(dir);
        cr_assert_eq(symlink("/etc", scratch_path(dir, "link")), 0);
        scratch_text(dir, "config.json", "{}");
        scratch_text(dir, "modules.json", cases[i].modules);
        cr_expect_eq(read_folder(dir, &s, &main, &error), cases[i].status, "case %zu: %s", i,
                     error.message);
        cr_expect_not_null(strstr(error.message, cases[i].message), "case %zu: %s", i,
                           error.message);
        sentence_config_free(&s);
        config_close(main);
        scratch_close(dir);
    }
    leak_check();
}

Test(sentence, prompts_length_and_case_are_read)
{
    char dir[SCRATCH_BYTES];
    crank_error error = {0};
    sentence_config s;
    config *main;
    scratch_open(dir);
    scratch_text(dir, "config.json", "{}");
    scratch_text(dir, "config_sentence_transformers.json",
                 "{\"model_type\":\"CrossEncoder\",\"__version__\":{\"x\":\"1\"},\"prompts\":"
                 "{\"query\":\"Query: \",\"empty\":\"\"},\"default_prompt_name\":\"query\"}");
    scratch_text(dir, "modules.json", MODULES);
    scratch_text(dir, "sentence_roberta_config.json",
                 "{\"max_seq_length\":128,\"do_lower_case\":true}");
    cr_assert_eq(read_folder(dir, &s, &main, &error), CRANK_OK, "%s", error.message);
    cr_assert(s.is_cross_encoder && s.max_seq_length == 128 && s.do_lower_case);
    cr_assert_str_eq(s.default_prompt, "Query: ");
    cr_assert_str_eq(sentence_prompt(&s, "empty"), "");
    cr_assert_null(sentence_prompt(&s, "none"));
    sentence_config_free(&s);
    config_close(main);
    scratch_text(dir, "sentence_bert_config.json", "{\"max_seq_length\":null}");
    scratch_text(dir, "config_sentence_transformers.json", "{\"default_prompt_name\":\"gone\"}");
    cr_assert_eq(read_folder(dir, &s, &main, &error), CRANK_MODEL);
    cr_assert_not_null(strstr(error.message, "is \"gone\", which prompts does not have"));
    sentence_config_free(&s);
    config_close(main);
    scratch_text(dir, "config_sentence_transformers.json", "{\"prompts\":[]}");
    cr_assert_eq(read_folder(dir, &s, &main, &error), CRANK_MODEL);
    cr_assert_not_null(strstr(error.message, "prompts is not an object"));
    sentence_config_free(&s);
    config_close(main);
    scratch_close(dir);
}

/* The folder's files inside a converted file answer as the folder does. */
Test(sentence, a_converted_file_answers_as_its_folder)
{
    char dir[512], scratch[SCRATCH_BYTES];
    crank_error error = {0};
    sentence_config a, b;
    config *main_a, *main_b;
    st_writer *w;
    safetensors *st;
    int32_t width;
    scratch_open(scratch);
    cr_assert(golden_find(dir, "biencoder"));
    config_source folder = {.dir = dir};
    cr_assert_eq(read_folder(dir, &a, &main_a, &error), CRANK_OK);
    const char *path = scratch_path(scratch, "model.crank");
    cr_assert_eq(st_writer_open(&w, path, ST_WRITER_ALIGNED, &error), CRANK_OK);
    cr_assert_eq(sentence_config_copy(w, &folder, &a, &error), CRANK_OK, "%s", error.message);
    cr_assert_eq(st_writer_commit(w, &error), CRANK_OK);
    st_writer_close(w);
    cr_assert_eq(safetensors_open(&st, path, &error), CRANK_OK, "%s", error.message);
    cr_assert_eq(safetensors_metadata_count(st), 3);
    config_source file = {.file = st};
    cr_assert_eq(config_open(&main_b, &file, "config.json", &error), CRANK_OK, "%s", error.message);
    cr_assert_eq(sentence_config_read(&b, &file, main_b, &error), CRANK_OK, "%s", error.message);
    cr_assert(b.pooling == a.pooling && b.n_modules == a.n_modules && b.normalize == a.normalize);
    cr_assert_eq(config_int(main_b, "hidden_size", 1, 4096, &width, &error), CRANK_OK);
    cr_assert_eq(width, 48);
    cr_assert_eq(config_int(main_b, "absent", 1, 4096, &width, &error), CRANK_MODEL);
    cr_assert_not_null(strstr(error.message, "model.crank: config.json: absent is missing"));
    config *none;
    cr_assert_eq(config_open(&none, &file, "x.json", &error), CRANK_MODEL);
    sentence_config_free(&a);
    sentence_config_free(&b);
    config_close(main_a);
    config_close(main_b);
    safetensors_close(st);
    scratch_close(scratch);
    leak_check();
}

Test(sentence, every_allocation_and_system_call_may_fail)
{
    char dir[SCRATCH_BYTES];
    scratch_open(dir);
    scratch_count_jansson();
    write_pooling(dir, "{\"pooling_mode\":\"cls\"}");
    scratch_text(dir, "config_sentence_transformers.json",
                 "{\"prompts\":{\"q\":\"Q: \"},\"default_prompt_name\":\"q\"}");
    scratch_text(dir, "sentence_bert_config.json", "{\"max_seq_length\":128}");
    for (int memory = 0; memory < 2; memory++) {
        for (long n = 0;; n++) {
            crank_error error = {0};
            sentence_config s = {0};
            config *main;
            memory ? mem_fail_nth(n) : file_fail_nth(n);
            crank_status status = read_folder(dir, &s, &main, &error);
            memory ? mem_fail_nth(-1) : file_fail_nth(-1);
            sentence_config_free(&s);
            config_close(main);
            if (status == CRANK_OK) {
                cr_assert_geq(n, memory ? 30 : 16);
                break;
            }
            cr_assert_eq(status, memory ? CRANK_OUT_OF_MEMORY : CRANK_IO, "%ld: %s", n,
                         error.message);
        }
    }
    scratch_close(dir);
    leak_check();
}
