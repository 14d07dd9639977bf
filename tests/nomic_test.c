/* NomicBERT is GTE's arithmetic under other names: the golden odd-gte-plain, its tensors renamed
 * and its up_gate_proj cut in two, must keep its logits under both styles of config. That crank
 * computes what transformers' NomicBert does is checked by tests/fixtures/make_odd_goldens.py. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/commands.h"
#include "support/golden.h"
#include "support/tiny_model.h"
#include "weights/safetensors.h"

/* A tensor of the golden, or rows first .. first + rows of it, under the name that nomic gives. */
typedef struct renamed {
    char name[160];
    const st_tensor *from;
    int64_t first, rows;
} renamed;

static void replace(char *text, const char *from, const char *to)
{
    char *at = strstr(text, from);
    if (at == NULL) return;
    char rest[160];
    snprintf(rest, sizeof rest, "%s", at + strlen(from));
    strcpy(at, to);
    strcat(text, rest);
}

static size_t rename_all(const safetensors *file, renamed *list)
{
    static const char *const names[][2] = {
        {"new.", "nomic_bert."},
        {"embeddings.LayerNorm", "emb_ln"},
        {"encoder.layer.", "encoder.layers."},
        {"attention.qkv_proj", "attn.Wqkv"},
        {"attention.o_proj", "attn.out_proj"},
        {"attn_ln", "norm1"},
        {"mlp_ln", "norm2"},
        {"down_proj", "fc2"},
    };
    size_t n = 0;
    for (size_t i = 0; i < safetensors_count(file); i++) {
        const st_tensor *t = safetensors_at(file, i);
        renamed *r = &list[n++];
        *r = (renamed){.from = t, .rows = t->shape[0]};
        snprintf(r->name, sizeof r->name, "%s", t->name);
        for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
            replace(r->name, names[k][0], names[k][1]);
        }
        if (strstr(r->name, "up_gate_proj") == NULL) continue;
        list[n] = *r; /* rows = [up | gate]; the gate is activated */
        replace(r->name, "up_gate_proj", "fc11");
        replace(list[n].name, "up_gate_proj", "fc12");
        r->rows = list[n].rows = list[n].first = t->shape[0] / 2;
        n++;
    }
    return n;
}

static void write_weights(const char *golden_dir, const char *folder)
{
    char path[1024];
    crank_error error = {0};
    safetensors *file = NULL;
    st_writer *writer = NULL;
    static renamed list[64];
    snprintf(path, sizeof path, "%s/model.safetensors", golden_dir);
    cr_assert_eq(safetensors_open(&file, path, &error), CRANK_OK, "%s", error.message);
    cr_assert_leq(safetensors_count(file), 60);
    size_t n = rename_all(file, list);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    cr_assert_eq(st_writer_open(&writer, path, ST_WRITER_PLAIN, &error), CRANK_OK);
    for (size_t i = 0; i < n; i++) {
        int64_t shape[ST_MAX_RANK];
        memcpy(shape, list[i].from->shape, sizeof shape);
        shape[0] = list[i].rows;
        cr_assert_eq(st_writer_tensor(writer, list[i].name, list[i].from->type, list[i].from->rank,
                                      shape, &error),
                     CRANK_OK, "%s", error.message);
    }
    for (size_t i = 0; i < n; i++) {
        const st_tensor *t = list[i].from;
        size_t row = t->bytes / (size_t)t->shape[0];
        uint8_t *data = malloc(t->bytes);
        cr_assert_eq(safetensors_read(file, t, data, &error), CRANK_OK);
        cr_assert_eq(st_writer_write(writer, data + (size_t)list[i].first * row,
                                     (size_t)list[i].rows * row, &error),
                     CRANK_OK);
        free(data);
    }
    cr_assert_eq(st_writer_commit(writer, &error), CRANK_OK, "%s", error.message);
    st_writer_close(writer);
    safetensors_close(file);
}

#define COMMON "\"model_type\": \"nomic_bert\", \"vocab_size\": 50, \"type_vocab_size\": 0, "
#define PUBLISHED(more)                                                                            \
    "{" COMMON "\"n_embd\": 10, \"n_layer\": 2, \"n_head\": 1, \"n_inner\": 12, \"n_positions\": " \
    "64, \"activation_function\": \"geglu\", \"rotary_emb_base\": 160000, "                        \
    "\"rotary_scaling_factor\": null, \"id2label\": {\"0\": \"x\"}" more "}"
#define LIBRARY                                                                                    \
    "{" COMMON "\"hidden_size\": 10, \"num_hidden_layers\": 2, \"num_attention_heads\": 1, "       \
    "\"intermediate_size\": 12, \"max_position_embeddings\": 64, \"hidden_act\": \"gelu\", "       \
    "\"id2label\": {\"0\": \"x\"}, \"rope_parameters\": {\"rope_type\": \"default\", "             \
    "\"rope_theta\": 160000.0}}"

static void make_folder(char *folder)
{
    static const char *const files[] = {"golden.json", "golden.safetensors"};
    char golden_dir[512], from[1024], to[1024];
    cr_assert(golden_find(golden_dir, "odd-gte-plain"));
    process_make_folder(folder);
    for (size_t i = 0; i < 2; i++) {
        snprintf(from, sizeof from, "%s/%s", golden_dir, files[i]);
        snprintf(to, sizeof to, "%s/%s", folder, files[i]);
        tiny_copy(from, to);
    }
    write_weights(golden_dir, folder);
}

Test(nomic, keeps_the_logits_of_the_same_arithmetic)
{
    static const char *const configs[] = {PUBLISHED(""), LIBRARY};
    static const char *const devices[] = {"ref", "cpu"};
    char folder[512];
    make_folder(folder);
    for (size_t i = 0; i < 2; i++) {
        tiny_write(folder, "config.json", configs[i], strlen(configs[i]));
        for (size_t d = 0; d < 2; d++) {
            process_result r = commands_run(NULL, "verify", folder, folder, "--device", devices[d],
                                            "--dtype", "f32", NULL);
            cr_expect_eq(r.exit_code, 0, "config %zu on %s: %s%s", i, devices[d], r.out, r.err);
            process_free(&r);
        }
    }
    process_remove_folder(folder);
}

Test(nomic, what_it_does_not_do_is_named)
{
    static const char *const cases[][2] = {
        {PUBLISHED(", \"prenorm\": true"), "prenorm is true"},
        {PUBLISHED(", \"causal\": true"), "causal is true"},
        {PUBLISHED(", \"rotary_emb_fraction\": 0.5"), "rotary_emb_fraction is 0.5"},
        {PUBLISHED(", \"rotary_emb_interleaved\": true"), "rotary_emb_interleaved is true"},
        {PUBLISHED(", \"mlp_fc1_bias\": true"), "mlp_fc1_bias is true"},
        {PUBLISHED(", \"rotary_emb_scale_base\": 512"), "rotary_emb_scale_base is 512"},
    };
    char folder[512];
    make_folder(folder);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tiny_write(folder, "config.json", cases[i][0], strlen(cases[i][0]));
        process_result r = commands_run(NULL, "info", folder, "--device", "ref", NULL);
        cr_expect_eq(r.exit_code, 3);
        cr_expect(strstr(r.err, cases[i][1]) != NULL, "%s: %s", cases[i][1], r.err);
        process_free(&r);
    }
    process_remove_folder(folder);
}
