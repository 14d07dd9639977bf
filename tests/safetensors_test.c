/* safetensors: reading what others wrote. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/golden.h"
#include "weights/safetensors.h"

Test(safetensors, reads_what_the_reference_wrote)
{
    char dir[512], path[600];
    crank_error error;
    safetensors *st;
    cr_assert(golden_find(dir, "bert-legacy-names"));
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    cr_assert_eq(safetensors_open(&st, path, &error), CRANK_OK, "%s", error.message);
    cr_assert_eq(safetensors_count(st), 26);
    cr_assert_str_eq(safetensors_metadata(st, "format"), "pt");
    const st_tensor *ids = safetensors_find(st, "bert.embeddings.position_ids");
    cr_assert_not_null(ids);
    cr_assert_eq(ids->type, DTYPE_I64);
    cr_assert(ids->rank == 2 && ids->shape[0] == 1 && ids->shape[1] == 48);
    int64_t positions[48];
    cr_assert_eq(safetensors_read(st, ids, positions, &error), CRANK_OK, "%s", error.message);
    for (int i = 0; i < 48; i++) cr_assert_eq(positions[i], i);
    safetensors_close(st);
}

Test(golden, tensors_come_with_their_shapes)
{
    golden g;
    int64_t rows, cols;
    cr_assert(golden_open(&g, "bert-h64"));
    int32_t *ids = golden_i32(&g, "input_ids", &rows, &cols);
    cr_assert(rows == 8 && cols == 48);
    free(ids);
    float *logits = golden_f32(&g, "logits", &rows, &cols);
    double *exact = golden_f64(&g, "logits_f64", NULL, NULL);
    cr_assert(rows == 8 && cols == 1);
    for (int i = 0; i < 8; i++) cr_assert_float_eq(logits[i], exact[i], 1e-6);
    free(logits);
    free(exact);
    golden_close(&g);
}
