/* Folders as sentence-transformers and PyLate lay them out, from texts to scores: heads of modules
 * (the ettin re-rankers), PyLate's and Stanford's ColBERT. The scores are sentence-transformers'
 * (tests/fixtures/make_module_goldens.py), and a conversion keeps them to the bit. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crank.h"
#include "support/commands.h"
#include "support/golden.h"
#include "support/tiny_model.h"

#define MOST_PAIRS 64

typedef struct scored {
    json_t *root;
    crank_pair pairs[MOST_PAIRS];
    double scores[MOST_PAIRS];
    size_t n;
} scored;

static crank_text text_of(const json_t *value)
{
    return (crank_text){json_string_value(value), json_string_length(value)};
}

static void read_scores(scored *s, const char *dir)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/scores.json", dir);
    s->root = json_load_file(path, 0, NULL);
    const json_t *pairs = json_object_get(s->root, "pairs");
    const json_t *scores = json_object_get(s->root, "scores");
    s->n = json_array_size(pairs);
    cr_assert(s->n > 0 && s->n <= MOST_PAIRS && json_array_size(scores) == s->n, "%s", path);
    for (size_t i = 0; i < s->n; i++) {
        const json_t *pair = json_array_get(pairs, i);
        s->pairs[i] =
            (crank_pair){text_of(json_array_get(pair, 0)), text_of(json_array_get(pair, 1))};
        s->scores[i] = json_number_value(json_array_get(scores, i));
    }
}

static void score(const char *path, crank_device device, const scored *s, float *scores)
{
    crank_error error = {0};
    crank_model_options options = {
        .size = sizeof options, .device = device, .dtype = CRANK_DTYPE_F32};
    crank_model *model = NULL;
    crank_session *session = NULL;
    cr_assert_eq(crank_model_open(&model, path, &options, &error), CRANK_OK, "%s", error.message);
    cr_assert_eq(crank_session_open(&session, model, NULL, &error), CRANK_OK, "%s", error.message);
    cr_assert_eq(crank_score(session, s->pairs, s->n, NULL, NULL, scores, NULL, &error), CRANK_OK,
                 "%s", error.message);
    crank_session_close(session);
    crank_model_close(model);
}

static void check_folder(const char *name, double tolerance)
{
    char dir[512], file[600];
    scored s;
    float plain[MOST_PAIRS], converted[MOST_PAIRS];
    cr_assert(golden_find(dir, name), "%s", name);
    read_scores(&s, dir);
    static const crank_device devices[] = {CRANK_DEVICE_REF, CRANK_DEVICE_CPU};
    for (size_t d = 0; d < 2; d++) {
        score(dir, devices[d], &s, plain);
        for (size_t i = 0; i < s.n; i++) {
            cr_expect_float_eq((double)plain[i], s.scores[i], tolerance,
                               "%s, pair %zu: %.7f for %.7f", name, i, (double)plain[i],
                               s.scores[i]);
        }
    }
    crank_error error = {0};
    crank_convert_options options = {.size = sizeof options, .dtype = CRANK_DTYPE_F32};
    snprintf(file, sizeof file, CRANK_BINARY_DIR "/%s.%ld.crank", name, (long)getpid());
    cr_assert_eq(crank_convert(dir, file, &options, &error), CRANK_OK, "%s", error.message);
    score(file, CRANK_DEVICE_CPU, &s, converted);
    cr_expect(memcmp(plain, converted, s.n * sizeof *plain) == 0, "%s", name);
    remove(file);
    json_decref(s.root);
}

Test(modules, ettin_head)
{
    check_folder("modules-ettin", 2e-5);
}

Test(modules, pylate_colbert)
{
    check_folder("modules-pylate", 1e-4);
}

Test(modules, stanford_colbert)
{
    check_folder("modules-stanford", 1e-4);
}

/* ---- what cannot be run is said ---- */

static void copy_folder(const char *from, const char *to)
{
    static const char *const files[] = {"config.json",
                                        "model.safetensors",
                                        "modules.json",
                                        "config_sentence_transformers.json",
                                        "1_Pooling/config.json",
                                        "2_Dense/config.json",
                                        "2_Dense/model.safetensors",
                                        "3_LayerNorm/config.json",
                                        "3_LayerNorm/model.safetensors",
                                        "4_Dense/config.json",
                                        "4_Dense/model.safetensors"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char source[1024], target[1024];
        snprintf(source, sizeof source, "%s/%s", from, files[i]);
        snprintf(target, sizeof target, "%s/%s", to, files[i]);
        char *slash = strrchr(target, '/');
        *slash = '\0';
        char command[1100];
        snprintf(command, sizeof command, "mkdir -p '%s'", target);
        cr_assert_eq(system(command), 0);
        *slash = '/';
        tiny_copy(source, target);
    }
}

Test(modules, what_stops_a_folder_is_named)
{
    static const struct {
        const char *file, *text, *says;
    } cases[] = {
        {"2_Dense/config.json", "{\"activation_function\": \"torch.nn.modules.activation.Mish\"}",
         "activation_function is \"torch.nn.modules.activation.Mish\""},
        {"2_Dense/config.json",
         "{\"activation_function\": \"torch.nn.modules.activation.GELU\", \"use_residual\": true}",
         "2_Dense/config.json: use_residual is true"},
        {"4_Dense/config.json", "{\"activation_function\": \"torch.nn.modules.activation.Tanh\"}",
         "last Dense module has activation tanh"},
        {"1_Pooling/config.json", "{\"pooling_mode\": \"weightedmean\"}", "1_Pooling/config.json"},
        {"modules.json",
         "[{\"idx\": 0, \"name\": \"0\", \"path\": \"\", \"type\": "
         "\"sentence_transformers.models.Transformer\"}, {\"idx\": 1, \"name\": \"1\", \"path\": "
         "\"1_CNN\", \"type\": \"sentence_transformers.models.CNN\"}]",
         "CNN"},
    };
    char golden_dir[512], folder[512];
    cr_assert(golden_find(golden_dir, "modules-ettin"));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        process_make_folder(folder);
        copy_folder(golden_dir, folder);
        tiny_write(folder, cases[i].file, cases[i].text, strlen(cases[i].text));
        process_result result = commands_run(NULL, "info", folder, "--device", "ref", NULL);
        cr_expect_eq(result.exit_code, 3, "%s: %s", cases[i].text, result.err);
        cr_expect(strstr(result.err, cases[i].says) != NULL, "%s: %s", cases[i].text, result.err);
        process_free(&result);
        process_remove_folder(folder);
    }
}
