/* synth: real shapes, reproducible numbers, nothing left after a failure. */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "memory.h"
#include "support/scratch.h"
#include "weights/checksum.h"
#include "weights/config.h"
#include "weights/file.h"
#include "weights/safetensors.h"
#include "weights/synth.h"

static const synth_shape tiny = {.name = "tiny",
                                 .model_type = "bert",
                                 .layers = 2,
                                 .width = 8,
                                 .heads = 2,
                                 .ffn = 12,
                                 .embedding_width = 8,
                                 .positions = 16,
                                 .types = 2,
                                 .labels = 3,
                                 .norm_epsilon = 1e-12,
                                 .like = ""};
static const synth_shape tiny_electra = {.name = "tiny",
                                         .model_type = "electra",
                                         .layers = 1,
                                         .width = 8,
                                         .heads = 2,
                                         .ffn = 12,
                                         .embedding_width = 4,
                                         .positions = 16,
                                         .types = 2,
                                         .labels = 1,
                                         .norm_epsilon = 1e-12,
                                         .like = ""};

static safetensors *write_and_open(const char *dir, const synth_shape *shape, dtype type,
                                   uint64_t seed)
{
    crank_error error = {0};
    safetensors *st;
    cr_assert_eq(synth_write(dir, shape, type, seed, &error), CRANK_OK, "%s", error.message);
    cr_assert_eq(safetensors_open_model(&st, dir, &error), CRANK_OK, "%s", error.message);
    return st;
}

static float *read_floats(const safetensors *st, const char *name, size_t *n)
{
    crank_error error = {0};
    const st_tensor *tensor = safetensors_find(st, name);
    cr_assert_not_null(tensor, "%s", name);
    float *values = malloc((size_t)tensor->elements * sizeof *values);
    cr_assert_eq(safetensors_read_f32(st, tensor, values, &error), CRANK_OK, "%s", error.message);
    *n = (size_t)tensor->elements;
    return values;
}

Test(synth, shapes_have_the_published_numbers_of_parameters)
{
    static const struct {
        const char *name;
        int64_t parameters; /* the encoder's published number plus its head's */
    } known[] = {{"minilm-l6", 22713601},   {"minilm-l12", 33360385},    {"tinybert-l2", 4386049},
                 {"tinybert-l4", 14350561}, {"electra-base", 109483009}, {"bert-base", 109483009},
                 {"bert-large", 335142913}};
    size_t n;
    const synth_shape *shapes = synth_shapes(&n);
    cr_assert_eq(n, sizeof known / sizeof known[0]);
    for (size_t i = 0; i < n; i++) {
        const synth_shape *shape = synth_find(known[i].name);
        cr_assert_not_null(shape);
        cr_assert_eq(shape, &shapes[i]);
        cr_assert_eq(synth_parameters(shape), known[i].parameters, "%s: %lld", known[i].name,
                     (long long)synth_parameters(shape));
        cr_assert_eq(shape->width % shape->heads, 0);
    }
    cr_assert_null(synth_find("minilm"));
}

Test(synth, a_folder_is_what_the_hub_would_have)
{
    char dir[SCRATCH_BYTES];
    crank_error error = {0};
    config *c;
    int32_t n;
    scratch_open(dir);
    safetensors *st = write_and_open(dir, &tiny, DTYPE_F32, 1);
    cr_assert_eq(safetensors_count(st), 5 + 2 * 16 + 2 + 2);
    cr_assert_str_eq(safetensors_metadata(st, "format"), "pt");
    cr_assert_not_null(
        safetensors_find(st, "bert.encoder.layer.1.attention.output.LayerNorm.bias"));
    cr_assert_null(safetensors_find(st, "bert.encoder.layer.2.attention.output.LayerNorm.bias"));
    const st_tensor *head = safetensors_find(st, "classifier.weight");
    cr_assert(head->shape[0] == 3 && head->shape[1] == 8);
    int64_t elements = 0;
    for (size_t i = 0; i < safetensors_count(st); i++) elements += safetensors_at(st, i)->elements;
    cr_assert_eq(elements, synth_parameters(&tiny));
    safetensors_close(st);
    config_source source = {.dir = dir};
    cr_assert_eq(config_open(&c, &source, "config.json", &error), CRANK_OK, "%s", error.message);
    cr_assert_eq(config_int(c, "hidden_size", 8, 8, &n, &error), CRANK_OK);
    cr_assert_eq(config_label_count(c, &n, &error), CRANK_OK);
    cr_assert_eq(n, 3);
    config_close(c);
    cr_assert_eq(config_open(&c, &source, "tokenizer_config.json", &error), CRANK_OK, "%s",
                 error.message);
    config_close(c);
    cr_assert_eq(config_open(&c, &source, "special_tokens_map.json", &error), CRANK_OK);
    config_close(c);
    cr_assert_eq(scratch_count(dir), 5);
    scratch_close(dir);

    scratch_open(dir);
    st = write_and_open(dir, &tiny_electra, DTYPE_BF16, 1);
    cr_assert_eq(safetensors_find(st, "electra.embeddings_project.weight")->shape[1], 4);
    cr_assert_eq(safetensors_find(st, "classifier.out_proj.weight")->type, DTYPE_BF16);
    cr_assert_null(safetensors_find(st, "electra.pooler.dense.weight"));
    safetensors_close(st);
    scratch_close(dir);
    leak_check();
}

Test(synth, the_vocabulary_is_specials_and_one_token_words)
{
    char dir[SCRATCH_BYTES], word[6], *text;
    crank_error error;
    size_t bytes, lines = 0;
    scratch_open(dir);
    safetensors_close(write_and_open(dir, &tiny, DTYPE_F32, 1));
    cr_assert_eq(file_slurp(&text, &bytes, scratch_path(dir, "vocab.txt"), 1 << 20, &error),
                 CRANK_OK);
    for (size_t i = 0; i < bytes; i++) lines += text[i] == '\n';
    cr_assert_eq(lines, SYNTH_VOCAB);
    cr_assert_eq(strncmp(text, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nwaaaa\nwbaaa\n", 43), 0);
    synth_word(word, 27);
    cr_assert_str_eq(word, "wbbaa");
    synth_word(word, SYNTH_VOCAB - SYNTH_SPECIALS - 1);
    cr_assert_eq(strncmp(text + bytes - 6, word, 5), 0);
    mem_free(text);
    scratch_close(dir);
}

Test(synth, numbers_are_pinned_and_bell_shaped)
{
    char a[SCRATCH_BYTES], b[SCRATCH_BYTES], sum_a[CHECKSUM_TEXT_BYTES], sum_b[CHECKSUM_TEXT_BYTES];
    crank_error error;
    size_t n;
    scratch_open(a);
    scratch_open(b);
    safetensors *st = write_and_open(a, &tiny, DTYPE_F32, 7);
    cr_assert_eq(checksum_weights(sum_a, st, &error), CRANK_OK);
    /* Benchmarks everywhere run on these bits. */
    cr_assert_str_eq(sum_a, "e1f3f49c600ffd06e6e3de7d4443a1d5d1853c0e7857cb86a180fc20785dc5ca");
    float *words = read_floats(st, "bert.embeddings.word_embeddings.weight", &n);
    double mean = 0, square = 0, fourth = 0;
    for (size_t i = 0; i < n; i++) mean += words[i];
    mean /= (double)n;
    for (size_t i = 0; i < n; i++) {
        double d = (words[i] - mean) * (words[i] - mean);
        square += d;
        fourth += d * d;
    }
    double deviation = sqrt(square / (double)n);
    cr_assert_float_eq(mean, 0, 2e-4);
    cr_assert_float_eq(deviation, 0.02, 2e-4);
    cr_assert_float_eq(fourth / (double)n / pow(deviation, 4), 2.85, 0.05); /* 3 - 6/(5*8) */
    free(words);
    float *gamma = read_floats(st, "bert.embeddings.LayerNorm.weight", &n);
    for (size_t i = 0; i < n; i++) cr_assert_eq(gamma[i], 1.0f);
    free(gamma);
    float *beta = read_floats(st, "bert.embeddings.LayerNorm.bias", &n);
    for (size_t i = 0; i < n; i++) cr_assert_eq(beta[i], 0.0f);
    free(beta);
    safetensors_close(st);
    st = write_and_open(b, &tiny, DTYPE_F32, 8);
    cr_assert_eq(checksum_weights(sum_b, st, &error), CRANK_OK);
    cr_assert_str_neq(sum_a, sum_b);
    safetensors_close(st);
    scratch_close(a);
    scratch_close(b);
}

Test(synth, failures_leave_nothing)
{
    char dir[SCRATCH_BYTES];
    scratch_open(dir);
    char *target = strdup(scratch_path(dir, "new"));
    synth_shape shape = tiny_electra;
    for (int memory = 0; memory < 2; memory++) {
        for (long n = 0;; n++) {
            crank_error error = {0};
            memory ? mem_fail_nth(n) : file_fail_nth(n);
            crank_status status = synth_write(target, &shape, DTYPE_F16, 1, &error);
            memory ? mem_fail_nth(-1) : file_fail_nth(-1);
            if (status == CRANK_OK) {
                cr_assert_geq(n, memory ? 30 : 20);
                scratch_close(target);
                break;
            }
            cr_assert_eq(status, memory ? CRANK_OUT_OF_MEMORY : CRANK_IO, "%ld: %s", n,
                         error.message);
            cr_assert_eq(scratch_count(dir), 0, "%ld", n);
        }
    }
    crank_error error;
    cr_assert_eq(synth_write(target, &shape, DTYPE_I32, 1, &error), CRANK_INVALID_ARGUMENT);
    cr_assert_eq(synth_write(scratch_path(dir, "a/b"), &shape, DTYPE_F32, 1, &error), CRANK_IO);
    scratch_text(dir, "file", "x");
    cr_assert_eq(synth_write(scratch_path(dir, "file"), &shape, DTYPE_F32, 1, &error), CRANK_IO);
    free(target);
    scratch_close(dir);
    leak_check();
}
