/* weights: binding, writing, checksums. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/golden.h"
#include "weights/bind.h"
#include "weights/config.h"

enum { WORD, POSITION, TYPE, NORM_W, NORM_B, Q_W, Q_B, POOL_W, HEAD_W, N_FIELDS };

/* Part of BERT: enough to see every rule of the binder at work. */
static const bind_row rows[] = {
    {WORD, "@embeddings.word_embeddings.weight", "V,D", 0, 0},
    {POSITION, "@embeddings.position_embeddings.weight", "P,D", 0, 0},
    {TYPE, "@embeddings.token_type_embeddings.weight", "2,D", BIND_OPTIONAL, 0},
    {NORM_W, "@embeddings.LayerNorm.weight", "D", 0, 0},
    {NORM_B, "@embeddings.LayerNorm.bias", "D", 0, 0},
    {Q_W, "@encoder.layer.%d.attention.self.query.weight", "D,D", 0, 0},
    {Q_B, "@encoder.layer.%d.attention.self.query.bias", "D", 0, 0},
    {POOL_W, "@pooler.dense.weight", "D,D", 0, 0},
    {HEAD_W, "classifier.weight|score.weight", "N,D", 0, 1},
};
static const bind_table table = {rows, sizeof rows / sizeof rows[0], N_FIELDS, "bert.|",
                                 "*.bias|*key.*|*value.*|*output.*|*intermediate.*"};

static safetensors *open_golden(const char *name)
{
    char dir[512];
    crank_error error;
    safetensors *st;
    cr_assert(golden_find(dir, name));
    cr_assert_eq(safetensors_open_model(&st, dir, &error), CRANK_OK, "%s", error.message);
    return st;
}

Test(bind, finds_every_golden_s_spelling)
{
    static const struct {
        const char *name;
        int width, layers;
        unsigned conditions;
    } cases[] = {{"bert-h64", 64, 2, 1},
                 {"bert-legacy-names", 32, 1, 1},
                 {"bert-sharded", 48, 2, 1},
                 {"biencoder", 48, 2, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        crank_error error;
        bindings b;
        bind_dims dims = {.size = {['D'] = cases[i].width}};
        safetensors *st = open_golden(cases[i].name);
        cr_assert_eq(bind_open(&b, st, &table, &dims, cases[i].layers, cases[i].conditions, &error),
                     CRANK_OK, "%s", error.message);
        cr_assert_eq(dims.size['V'], 300);
        cr_assert_eq(dims.size['P'], 48);
        cr_assert_not_null(bind_get(&b, NORM_W, 0));
        cr_assert_not_null(bind_get(&b, Q_W, cases[i].layers - 1));
        cr_assert_eq(bind_get(&b, HEAD_W, 0) != NULL, (int)cases[i].conditions);
        bind_close(&b);
        safetensors_close(st);
    }
}
