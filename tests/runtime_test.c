/* The whole engine on the reference path: goldens of every family within the tolerance table, the
 * same bits in any batch, converted files, folding, defined behaviour at the edges. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crank.h"
#include "support/golden.h"

static crank_model *open_model(const char *path, crank_device device, crank_dtype type)
{
    crank_error error = {0};
    crank_model_options options = {.size = sizeof options, .device = device, .dtype = type};
    crank_model *model = NULL;
    crank_status status = crank_model_open(&model, path, &options, &error);
    cr_assert_eq(status, CRANK_OK, "%s: %s", path, error.message);
    return model;
}

static void print_check(void *user, const crank_check *check)
{
    int *n = user;
    ++*n;
    cr_expect(check->passed, "%s: max abs error %g, allowed %g", check->name, check->max_abs_error,
              check->tolerance);
}

static void verify_folder(const char *name, int least_checks)
{
    char dir[512];
    if (!golden_find(dir, name)) {
        fprintf(stderr, "SKIPPED: golden folder %s is neither in tests/fixtures nor in ../shared\n",
                name);
        return;
    }
    crank_model *model = open_model(dir, CRANK_DEVICE_REF, CRANK_DTYPE_AUTO);
    crank_error error = {0};
    int passed = 0, n_checks = 0;
    char stray[64];
    crank_status status = crank_verify(model, dir, print_check, &n_checks, &passed, stray, &error);
    cr_assert_eq(status, CRANK_OK, "%s: %s", name, error.message);
    cr_assert(passed, "%s: first stray trace: %s", name, stray);
    cr_assert_geq(n_checks, least_checks, "%s: %d checks", name, n_checks);
    crank_model_close(model);
}

/* logits, embeddings, then attention and layer of each layer, and the first context. */
Test(golden, bert)
{
    verify_folder("bert-h64", 1 + 1 + 1 + 4);
}
Test(golden, bert_three_labels)
{
    verify_folder("bert-h96-3labels", 1 + 1 + 1 + 6);
}
Test(golden, bert_legacy_names)
{
    verify_folder("bert-legacy-names", 1);
}
Test(golden, bert_sharded)
{
    verify_folder("bert-sharded", 1);
}
Test(golden, bert_bf16_file)
{
    verify_folder("bert-bf16", 1);
}
Test(golden, bert_fp16_file)
{
    verify_folder("bert-fp16", 1);
}
Test(golden, electra)
{
    verify_folder("electra", 1 + 2 + 1 + 4);
}
Test(golden, distilbert)
{
    verify_folder("distilbert", 1 + 1 + 4);
}
Test(golden, biencoder)
{
    verify_folder("biencoder", 1 + 1 + 1 + 4);
}
Test(golden, roberta)
{
    verify_folder("roberta", 1 + 1 + 1 + 4);
}
Test(golden, xlm_roberta)
{
    verify_folder("xlm-roberta", 1 + 1 + 1 + 4);
}
Test(golden, modernbert_cls)
{
    verify_folder("modernbert-cls", 1 + 1 + 8 + 1);
}
Test(golden, modernbert_mean)
{
    verify_folder("modernbert-mean", 1 + 1 + 8 + 1);
}
Test(golden, deberta)
{
    verify_folder("deberta-v2", 1 + 1 + 1 + 4);
}
Test(golden, t5_v10)
{
    verify_folder("t5-v10", 1 + 1 + 1 + 4 + 1 + 6 + 1);
}
Test(golden, t5_v11)
{
    verify_folder("t5-v11", 1 + 1 + 1 + 4 + 1 + 6 + 1);
}
Test(golden, colbert)
{
    verify_folder("colbert", 3);
}

/* Families and shapes that every clone has (tests/fixtures/make_tiny_goldens.py and
 * make_odd_goldens.py), on every path. */
static const char *const tiny[] = {
    "tiny-k13-5labels", "tiny-gelu-new",       "tiny-roberta",         "tiny-albert",
    "tiny-mpnet",       "tiny-modernbert-cls", "tiny-modernbert-mean", "tiny-deberta",
    "tiny-deberta-c2p", "tiny-t5-v10",         "tiny-t5-v11",          "odd-albert-inner",
    "odd-deberta-v1",   "odd-gte-ntk",         "odd-gte-plain",        "odd-modernbert-biases",
    "odd-umt5",
};

static void verify_tiny(crank_device device, crank_dtype type)
{
    for (size_t i = 0; i < sizeof tiny / sizeof tiny[0]; i++) {
        char dir[512];
        cr_assert(golden_find(dir, tiny[i]), "%s is missing", tiny[i]);
        crank_error error = {0};
        crank_model_options options = {.size = sizeof options, .device = device, .dtype = type};
        crank_model *model = NULL;
        crank_status status = crank_model_open(&model, dir, &options, &error);
        if (status == CRANK_UNSUPPORTED) {
            fprintf(stderr, "SKIPPED: %s: %s\n", tiny[i], error.message);
            continue;
        }
        cr_assert_eq(status, CRANK_OK, "%s: %s", tiny[i], error.message);
        int passed = 0, n_checks = 0;
        status = crank_verify(model, dir, print_check, &n_checks, &passed, NULL, &error);
        cr_assert_eq(status, CRANK_OK, "%s: %s", tiny[i], error.message);
        cr_assert(passed, "%s", tiny[i]);
        crank_model_close(model);
    }
}

Test(tiny, reference)
{
    verify_tiny(CRANK_DEVICE_REF, CRANK_DTYPE_F32);
}
Test(tiny, cpu_f32)
{
    verify_tiny(CRANK_DEVICE_CPU, CRANK_DTYPE_F32);
}
Test(tiny, cpu_bf16)
{
    verify_tiny(CRANK_DEVICE_CPU, CRANK_DTYPE_BF16);
}
Test(tiny, cpu_int8)
{
    verify_tiny(CRANK_DEVICE_CPU, CRANK_DTYPE_INT8);
}

/* A conversion loses nothing of any family: same bits from the file. */
Test(tiny, converted)
{
    for (size_t i = 0; i < sizeof tiny / sizeof tiny[0]; i++) {
        char dir[512], file[512];
        cr_assert(golden_find(dir, tiny[i]));
        snprintf(file, sizeof file, CRANK_BINARY_DIR "/%s.%ld.crank", tiny[i], (long)getpid());
        crank_error error = {0};
        crank_convert_options options = {.size = sizeof options, .dtype = CRANK_DTYPE_F32};
        crank_status status = crank_convert(dir, file, &options, &error);
        cr_assert_eq(status, CRANK_OK, "%s: %s", tiny[i], error.message);
        crank_model *model = open_model(file, CRANK_DEVICE_CPU, CRANK_DTYPE_AUTO);
        int passed = 0, n_checks = 0;
        status = crank_verify(model, dir, print_check, &n_checks, &passed, NULL, &error);
        cr_assert_eq(status, CRANK_OK, "%s: %s", tiny[i], error.message);
        cr_assert(passed, "%s", tiny[i]);
        crank_model_close(model);
        remove(file);
    }
}
