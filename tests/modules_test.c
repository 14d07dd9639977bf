/* Folders as sentence-transformers and PyLate lay them out, from texts to scores: heads of modules
 * (the ettin re-rankers), Dense and LayerNorm between a pooling and the cosine, PyLate's and
 * Stanford's ColBERT. The scores are sentence-transformers'
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

static void check_path(const char *dir, const char *name, double tolerance)
{
    char file[600];
    scored s;
    float plain[MOST_PAIRS], converted[MOST_PAIRS];
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

static void check_folder(const char *name, double tolerance)
{
    char dir[512];
    cr_assert(golden_find(dir, name), "%s", name);
    check_path(dir, name, tolerance);
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

/* ---- folders made of others ---- */

/* Copies FILE of `from` to `to`, with its folder; nothing where it is not there. */
static void copy_one(const char *from, const char *to, const char *file)
{
    char source[1024], target[1024];
    snprintf(source, sizeof source, "%s/%s", from, file);
    snprintf(target, sizeof target, "%s/%s", to, file);
    if (access(source, R_OK) != 0) return;
    char *slash = strrchr(target, '/');
    *slash = '\0';
    char command[1100];
    snprintf(command, sizeof command, "mkdir -p '%s'", target);
    cr_assert_eq(system(command), 0);
    *slash = '/';
    tiny_copy(source, target);
}

static void copy_modules(const char *from, const char *to)
{
    static const char *const files[] = {"modules.json",
                                        "1_Pooling/config.json",
                                        "2_Dense/config.json",
                                        "2_Dense/model.safetensors",
                                        "3_LayerNorm/config.json",
                                        "3_LayerNorm/model.safetensors",
                                        "4_Dense/config.json",
                                        "4_Dense/model.safetensors",
                                        "scores.json"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) copy_one(from, to, files[i]);
}

static void copy_encoder(const char *from, const char *to)
{
    static const char *const files[] = {"config.json", "model.safetensors", "tokenizer.json",
                                        "tokenizer_config.json"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) copy_one(from, to, files[i]);
}

/* modules-dense holds what stands after the encoder of modules-pylate. */
static void make_dense_folder(char *folder)
{
    char encoder[512], modules[512];
    cr_assert(golden_find(encoder, "modules-pylate"));
    cr_assert(golden_find(modules, "modules-dense"));
    process_make_folder(folder);
    copy_encoder(encoder, folder);
    copy_modules(modules, folder);
}

Test(modules, dense_before_normalize)
{
    char folder[512];
    make_dense_folder(folder);
    check_path(folder, "modules-dense", 2e-5);
    process_result info = commands_run(NULL, "info", folder, "--device", "ref", "--json", NULL);
    commands_expect_code(&info, 0);
    cr_expect(strstr(info.out, "\"pooling\":\"sum over root of length\"") != NULL, "%s", info.out);
    process_free(&info);
    process_remove_folder(folder);
}

/* ---- what cannot be run is said ---- */

static void expect_refusal(const char *folder, const char *file, const char *text, const char *says)
{
    tiny_write(folder, file, text, strlen(text));
    process_result result = commands_run(NULL, "info", folder, "--device", "ref", NULL);
    cr_expect_eq(result.exit_code, 3, "%s: %s", text, result.err);
    cr_expect(strstr(result.err, says) != NULL, "%s: %s", text, result.err);
    process_free(&result);
}

Test(modules, what_stops_a_list_of_modules_is_named)
{
#define LIST(second, third)                                                                        \
    "[{\"idx\": 0, \"name\": \"0\", \"path\": \"\", \"type\": "                                    \
    "\"sentence_transformers.models.Transformer\"}, {\"idx\": 1, \"name\": \"1\", \"path\": "      \
    "\"1_Pooling\", \"type\": \"sentence_transformers.models.Pooling\"}, {\"idx\": 2, \"name\": "  \
    "\"2\", \"path\": \"2_Dense\", \"type\": \"sentence_transformers.models." second               \
    "\"}, {\"idx\": 3, \"name\": \"3\", \"path\": \"4_Dense\", \"type\": "                         \
    "\"sentence_transformers.models." third "\"}]"
    static const struct {
        const char *file, *text, *says;
    } cases[] = {
        {"modules.json", LIST("Normalize", "Dense"), "module 2 (2_Dense) cannot stand here"},
        {"modules.json", LIST("Dense", "Pooling"), "module 3 (4_Dense) cannot stand here"},
        {"modules.json", LIST("Dense", "Dense"),
         "4_Dense/model.safetensors: linear.weight: dimension 0"},
        {"2_Dense/config.json", "{\"in_features\": 12}", "2_Dense/config.json: out_features"},
        {"2_Dense/config.json", "{\"out_features\": 9}", "linear.weight: dimension 0 is 10"},
        {"1_Pooling/config.json", "{\"pooling_mode\": [\"cls\", \"mean\"]}", "lists 2 modes"},
        {"2_Dense/config.json", "{\"out_features\": 10, \"use_residual\": true}",
         "2_Dense/model.safetensors: tensor residual.weight is missing"},
    };
    char folder[512];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        make_dense_folder(folder);
        if (i == 2) { /* a width that does not follow from the one before it */
            const char *wide = "{\"in_features\": 10, \"out_features\": 7}";
            tiny_write(folder, "4_Dense/config.json", wide, strlen(wide));
        }
        expect_refusal(folder, cases[i].file, cases[i].text, cases[i].says);
        process_remove_folder(folder);
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
        {"1_Pooling/config.json", "{\"pooling_mode\": \"median\"}", "1_Pooling/config.json"},
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
        copy_encoder(golden_dir, folder);
        copy_modules(golden_dir, folder);
        copy_one(golden_dir, folder, "config_sentence_transformers.json");
        expect_refusal(folder, cases[i].file, cases[i].text, cases[i].says);
        process_remove_folder(folder);
    }
}
