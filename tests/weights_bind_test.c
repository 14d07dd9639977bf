/* bind: names to fields, and every problem in one message. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "support/golden.h"
#include "support/scratch.h"
#include "weights/bind.h"

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
static const bind_table table = {rows,
                                 sizeof rows / sizeof rows[0],
                                 N_FIELDS,
                                 "bert.|",
                                 "*.bias|*key.*|*value.*|*output.*|*intermediate.*",
                                 NULL};

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

/* ---- tensors made here ---------------------------------------------------------------------- */

typedef struct made {
    const char *name;
    dtype type;
    int rank;
    int64_t shape[4];
} made;

static safetensors *make(const char *dir, const made *tensors, int n)
{
    crank_error error = {0};
    st_writer *w;
    safetensors *st;
    const char *path = scratch_path(dir, "m.safetensors");
    uint8_t zeros[4096] = {0};
    cr_assert_eq(st_writer_open(&w, path, 0, &error), CRANK_OK);
    size_t bytes = 0;
    for (int i = 0; i < n; i++) {
        size_t size = dtype_bytes(tensors[i].type);
        cr_assert_eq(st_writer_tensor(w, tensors[i].name, tensors[i].type, tensors[i].rank,
                                      tensors[i].shape, &error),
                     CRANK_OK, "%s", error.message);
        for (int d = 0; d < tensors[i].rank; d++) size *= (size_t)tensors[i].shape[d];
        bytes += size;
    }
    for (; bytes > 0; bytes -= bytes < sizeof zeros ? bytes : sizeof zeros) {
        cr_assert_eq(st_writer_write(w, zeros, bytes < sizeof zeros ? bytes : sizeof zeros, &error),
                     CRANK_OK);
    }
    cr_assert_eq(st_writer_commit(w, &error), CRANK_OK, "%s", error.message);
    st_writer_close(w);
    cr_assert_eq(safetensors_open(&st, path, &error), CRANK_OK, "%s", error.message);
    return st;
}

enum { A, B, C, E, SCALAR, N_SMALL };
static const bind_row small_rows[] = {
    {A, "@a.weight", "V,D", 0, 0},
    {B, "@layer.%d.b|@layers.%d.bb", "3D,D", BIND_NOT_FIRST_LAYER, 0},
    {C, "c.LayerNorm.weight", "D", 0, 0},
    {E, "@extra", "2,D", BIND_OPTIONAL | BIND_ANY_DTYPE, 0},
    {SCALAR, "scalar", "", 0, 2},
};
static const bind_table small = {
    small_rows, sizeof small_rows / sizeof small_rows[0], N_SMALL, "m.|", "junk.*|*.old", "top.*"};

Test(bind, rules_of_names_and_shapes)
{
    static const made tensors[] = {
        {"m.a.weight", DTYPE_F16, 2, {10, 4}},    {"m.layer.1.b", DTYPE_BF16, 2, {12, 4}},
        {"m.layers.2.bb", DTYPE_F32, 2, {12, 4}}, {"c.LayerNorm.gamma", DTYPE_F64, 1, {4}},
        {"m.extra", DTYPE_I64, 2, {2, 4}},        {"junk.x", DTYPE_F32, 0, {0}},
        {"very.old", DTYPE_F32, 0, {0}},          {"m.embeddings.position_ids", DTYPE_I64, 1, {9}},
        {"crank.pads", DTYPE_U8, 1, {3}},
    };
    char dir[SCRATCH_BYTES];
    crank_error error = {0};
    bindings b;
    bind_dims dims = {.size = {['D'] = 4}};
    scratch_open(dir);
    safetensors *st = make(dir, tensors, sizeof tensors / sizeof tensors[0]);
    cr_assert_eq(bind_open(&b, st, &small, &dims, 3, 0, &error), CRANK_OK, "%s", error.message);
    cr_assert_eq(dims.size['V'], 10);
    cr_assert_null(bind_get(&b, B, 0));
    cr_assert_str_eq(bind_get(&b, B, 1)->name, "m.layer.1.b");
    cr_assert_str_eq(bind_get(&b, B, 2)->name, "m.layers.2.bb");
    cr_assert_str_eq(bind_get(&b, C, 0)->name, "c.LayerNorm.gamma");
    cr_assert_str_eq(bind_get(&b, E, 0)->name, "m.extra");
    cr_assert_null(bind_get(&b, SCALAR, 0));
    bind_close(&b);
    bind_close(&b);
    safetensors_close(st);
    scratch_close(dir);
    leak_check();
}

Test(bind, a_head_may_stand_unused_only_where_none_is_wanted)
{
    static const made tensors[] = {
        {"a.weight", DTYPE_F32, 2, {10, 4}},
        {"c.LayerNorm.weight", DTYPE_F32, 1, {4}},
        {"top.weight", DTYPE_F32, 2, {1, 4}},
    };
    char dir[SCRATCH_BYTES];
    crank_error error = {0};
    bindings b;
    bind_dims dims = {.size = {['D'] = 4}};
    scratch_open(dir);
    safetensors *st = make(dir, tensors, sizeof tensors / sizeof tensors[0]);
    cr_assert_eq(bind_open(&b, st, &small, &dims, 1, 0, &error), CRANK_OK, "%s", error.message);
    bind_close(&b);
    cr_assert_eq(bind_open(&b, st, &small, &dims, 1, BIND_WITH_HEAD, &error), CRANK_MODEL);
    cr_assert(strstr(error.message, "1 tensor is unexpected: top.weight") != NULL, "%s",
              error.message);
    safetensors_close(st);
    scratch_close(dir);
    leak_check();
}

Test(bind, all_problems_are_in_one_message)
{
    static const made tensors[] = {
        {"a.weight", DTYPE_F32, 2, {10, 5}},  {"layer.0.b", DTYPE_F32, 2, {12, 4}},
        {"layer.2.b", DTYPE_I32, 2, {12, 4}}, {"c.LayerNorm.weight", DTYPE_F32, 2, {4, 1}},
        {"new", DTYPE_F32, 0, {0}},           {"junk", DTYPE_F32, 0, {0}},
    };
    char dir[SCRATCH_BYTES], expected[CRANK_ERROR_MESSAGE_BYTES];
    crank_error error = {0};
    bindings b;
    bind_dims dims = {.size = {['D'] = 4}};
    scratch_open(dir);
    safetensors *st = make(dir, tensors, sizeof tensors / sizeof tensors[0]);
    cr_assert_eq(bind_open(&b, st, &small, &dims, 3, 2, &error), CRANK_MODEL);
    snprintf(expected, sizeof expected,
             "%s/m.safetensors: 2 tensors are missing: layer.1.b, scalar; "
             "2 tensors have the wrong shape: a.weight is [10, 5], expected [10, 4], "
             "c.LayerNorm.weight is [4, 1], expected [4]; "
             "1 tensor has the wrong dtype: layer.2.b is I32, expected F32, F16, BF16 or F64; "
             "3 tensors are unexpected: junk, layer.0.b, new",
             dir);
    cr_assert_str_eq(error.message, expected, "%s", error.message);
    cr_assert_null(b.fields);
    safetensors_close(st);
    scratch_close(dir);
    leak_check();
}

Test(bind, many_problems_are_counted_and_cut)
{
    static const made tensors[] = {{"x", DTYPE_F32, 0, {0}}};
    char dir[SCRATCH_BYTES];
    crank_error error = {0};
    bindings b;
    bind_dims dims = {.size = {['D'] = 4}};
    scratch_open(dir);
    safetensors *st = make(dir, tensors, 1);
    cr_assert_eq(bind_open(&b, st, &table, &dims, 100, 1, &error), CRANK_MODEL);
    /* 6 rows without layers (the optional one apart), 2 with 100 each. */
    cr_assert_not_null(strstr(error.message, ": 206 tensors are missing: "
                                             "bert.embeddings.word_embeddings.weight, "),
                       "%s", error.message);
    cr_assert_not_null(strstr(error.message, " more; 1 tensor is unexpected: x"), "%s",
                       error.message);
    cr_assert_lt(strlen(error.message), CRANK_ERROR_MESSAGE_BYTES - 1);
    safetensors_close(st);
    scratch_close(dir);
}

Test(bind, names_of_any_length_fit_the_message)
{
    made tensors[40];
    char dir[SCRATCH_BYTES], names[40][513];
    crank_error error = {0};
    bindings b;
    bind_dims dims = {.size = {['D'] = 4}};
    scratch_open(dir);
    for (int i = 0; i < 40; i++) {
        memset(names[i], 'n', 512);
        names[i][512] = '\0';
        names[i][0] = (char)('A' + i);
        tensors[i] = (made){names[i], DTYPE_U8, 1, {1}};
    }
    safetensors *st = make(dir, tensors, 40);
    cr_assert_eq(bind_open(&b, st, &small, &dims, 1, 0, &error), CRANK_MODEL);
    cr_assert_not_null(strstr(error.message, "40 tensors are unexpected: Annn"));
    cr_assert_not_null(strstr(error.message, " more"));
    safetensors_close(st);
    scratch_close(dir);
}

Test(bind, a_size_must_agree_wherever_its_letter_stands)
{
    static const bind_row rows2[] = {
        {0, "head.weight", "N,D", 0, 0}, {1, "head.bias", "N", 0, 0}, {2, "wide", "2N", 0, 0}};
    static const bind_table table2 = {rows2, 3, 3, NULL, NULL, NULL};
    static const made good[] = {{"head.weight", DTYPE_F32, 2, {3, 4}},
                                {"head.bias", DTYPE_F32, 1, {3}},
                                {"wide", DTYPE_F32, 1, {6}}};
    static const made bad[] = {{"head.weight", DTYPE_F32, 2, {3, 4}},
                               {"head.bias", DTYPE_F32, 1, {2}},
                               {"wide", DTYPE_F32, 1, {7}}};
    char dir[SCRATCH_BYTES];
    crank_error error = {0};
    bindings b;
    scratch_open(dir);
    bind_dims dims = {.size = {['D'] = 4}};
    safetensors *st = make(dir, good, 3);
    cr_assert_eq(bind_open(&b, st, &table2, &dims, 0, 0, &error), CRANK_OK, "%s", error.message);
    cr_assert_eq(dims.size['N'], 3);
    bind_close(&b);
    safetensors_close(st);
    dims = (bind_dims){.size = {['D'] = 4}};
    st = make(dir, bad, 3);
    cr_assert_eq(bind_open(&b, st, &table2, &dims, 0, 0, &error), CRANK_MODEL);
    cr_assert_not_null(strstr(error.message, "2 tensors have the wrong shape: head.bias is [2], "
                                             "expected [3], wide is [7], expected [6]"),
                       "%s", error.message);
    safetensors_close(st);
    scratch_close(dir);
}

Test(bind, every_allocation_may_fail)
{
    crank_error error;
    bindings b;
    safetensors *st = open_golden("bert-h64");
    for (long n = 0;; n++) {
        bind_dims dims = {.size = {['D'] = 64}};
        mem_fail_nth(n);
        crank_status status = bind_open(&b, st, &table, &dims, 2, 1, &error);
        mem_fail_nth(-1);
        bind_close(&b);
        if (status == CRANK_OK) break;
        cr_assert_eq(status, CRANK_OUT_OF_MEMORY);
    }
    safetensors_close(st);
    leak_check();
}
