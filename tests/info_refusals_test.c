/* crank info on folders that crank cannot run: exit code 3, and a message that names the file and
 * the field that stopped it. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/commands.h"
#include "support/golden.h"
#include "support/tiny_model.h"

typedef struct odd_config {
    const char *golden; /* whose config is changed */
    const char *change; /* members that replace or join its own; null removes one */
    const char *says;   /* beside the file's name */
} odd_config;

static const odd_config cases[] = {
    {"tiny-gelu-new", "{\"model_type\": null}", "model_type"},
    {"tiny-gelu-new", "{\"model_type\": \"qwen2\"}", "model_type is \"qwen2\", expected one of"},
    {"tiny-gelu-new", "{\"model_type\": 3}", "model_type"},
    {"tiny-gelu-new", "{\"hidden_act\": \"quick_gelu\"}", "hidden_act is \"quick_gelu\""},
    {"tiny-gelu-new", "{\"hidden_size\": null}", "hidden_size"},
    {"tiny-gelu-new", "{\"hidden_size\": \"16\"}", "hidden_size"},
    {"tiny-gelu-new", "{\"num_attention_heads\": 3}", "num_attention_heads"},
    {"tiny-gelu-new", "{\"num_hidden_layers\": 0}", "num_hidden_layers"},
    {"tiny-gelu-new", "{\"layer_norm_eps\": -1}", "layer_norm_eps"},
    {"tiny-gelu-new", "{\"position_embedding_type\": \"relative_key\"}", "position_embedding_type"},
    {"tiny-gelu-new", "{\"id2label\": {\"0\": \"a\", \"1\": \"b\", \"2\": \"c\"}}", "id2label"},
    {"tiny-gelu-new", "{\"is_decoder\": true}", "is_decoder"},
    {"tiny-gelu-new", "{\"pruned_heads\": {\"0\": [1]}}", "pruned_heads"},
    {"tiny-gelu-new", "{\"quantization_config\": {\"bits\": 4}}", "quantization_config"},
    {"tiny-modernbert-cls", "{\"classifier_pooling\": \"max\"}", "classifier_pooling"},
    {"tiny-modernbert-cls", "{\"layer_types\": [\"chunked_attention\"]}", "layer_types"},
    {"tiny-modernbert-cls",
     "{\"rope_parameters\": {\"full_attention\": {\"rope_type\": \"yarn\", \"rope_theta\": "
     "10000}}}",
     "rope_parameters.full_attention.rope_type is \"yarn\""},
    {"tiny-deberta", "{\"conv_kernel_size\": 4}", "conv_kernel_size is 4, expected an odd number"},
    {"odd-deberta-v1", "{\"conv_groups\": 3}", "conv_groups"},
    {"odd-deberta-v1", "{\"conv_act\": \"mish\"}", "conv_act"},
    {"tiny-deberta", "{\"position_buckets\": 2}", "position_buckets"},
    {"tiny-deberta", "{\"max_relative_positions\": 4}", "max_relative_positions"},
    {"tiny-deberta", "{\"attention_head_size\": 5}", "attention_head_size"},
    {"tiny-deberta", "{\"pooler_hidden_act\": \"mish\"}", "pooler_hidden_act"},
    {"tiny-albert", "{\"inner_group_num\": 256, \"num_hidden_layers\": 16}", "inner_group_num"},
    {"tiny-albert", "{\"num_hidden_groups\": 9}", "num_hidden_groups"},
    {"tiny-mpnet", "{\"relative_attention_num_buckets\": 16}", "relative_attention_num_buckets"},
    {"tiny-t5-v10", "{\"feed_forward_proj\": \"gated-mish\"}", "feed_forward_proj"},
    {"tiny-t5-v10", "{\"relative_attention_max_distance\": 3}", "relative_attention_max_distance"},
    {"odd-gte-plain", "{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2}}", "rope_scaling"},
    {"odd-gte-plain", "{\"layer_norm_type\": \"rms_norm\"}", "layer_norm_type"},
    {"odd-gte-plain", "{\"logn_attention_scale\": true}", "logn_attention_scale"},
    {"odd-gte-plain", "{\"position_embedding_type\": \"absolute\"}", "position_embedding_type"},
    {"odd-gte-plain", "{\"pack_qkv\": false}", "pack_qkv"},
};

static void write_config(const char *folder, const char *golden_dir, const char *change)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/config.json", golden_dir);
    json_t *config = json_load_file(path, 0, NULL), *changes = json_loads(change, 0, NULL);
    cr_assert_not_null(config);
    cr_assert_not_null(changes, "%s", change);
    json_object_update(config, changes);
    const char *key;
    json_t *value;
    json_object_foreach(changes, key, value)
    {
        if (json_is_null(value)) json_object_del(config, key);
    }
    char *text = json_dumps(config, 0);
    tiny_write(folder, "config.json", text, strlen(text));
    free(text);
    json_decref(config);
    json_decref(changes);
}

Test(info, names_the_field_that_stopped_it)
{
    char folder[512];
    process_make_folder(folder);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char golden_dir[512], from[1024], to[1024];
        cr_assert(golden_find(golden_dir, cases[i].golden), "%s", cases[i].golden);
        snprintf(from, sizeof from, "%s/model.safetensors", golden_dir);
        snprintf(to, sizeof to, "%s/model.safetensors", folder);
        tiny_copy(from, to);
        write_config(folder, golden_dir, cases[i].change);
        process_result result = commands_run(NULL, "info", folder, "--device", "ref", NULL);
        cr_expect_eq(result.exit_code, 3, "%s %s: exit code %d: %s", cases[i].golden,
                     cases[i].change, result.exit_code, result.err);
        cr_expect(strstr(result.err, cases[i].says) != NULL &&
                      strstr(result.err, "config.json") != NULL,
                  "%s %s: %s", cases[i].golden, cases[i].change, result.err);
        cr_expect_eq(commands_count_lines(result.err), 1);
        process_free(&result);
    }
    process_remove_folder(folder);
}

/* The same folders, unchanged, are told of: the cases above fail for their reason alone. */
Test(info, tells_of_the_folders_themselves)
{
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char dir[512];
        cr_assert(golden_find(dir, cases[i].golden));
        process_result result = commands_run(NULL, "info", dir, "--device", "ref", NULL);
        commands_expect_code(&result, 0);
        process_free(&result);
    }
}
