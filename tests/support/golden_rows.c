#include "support/golden_rows.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

bool golden_rows_open(golden_rows *r, const char *name)
{
    *r = (golden_rows){0};
    if (!golden_open(&r->g, name)) return false;
    r->ids = golden_i32(&r->g, "input_ids", &r->n, &r->width);
    int32_t *mask = golden_i32(&r->g, "attention_mask", NULL, NULL);
    if (golden_has(&r->g, "token_type_ids"))
        r->types = golden_i32(&r->g, "token_type_ids", NULL, NULL);
    int64_t n;
    r->logits = golden_f32(&r->g, "logits", &n, &r->labels);
    size_t cells = (size_t)(r->n * r->width);
    r->flat_ids = malloc(cells * sizeof(int32_t));
    r->flat_types = calloc(cells, sizeof(int32_t));
    r->starts = calloc((size_t)r->n + 1, sizeof(size_t));
    size_t at = 0;
    for (int64_t i = 0; i < r->n; i++) {
        for (int64_t j = 0; j < r->width && mask[i * r->width + j] != 0; j++, at++) {
            r->flat_ids[at] = r->ids[i * r->width + j];
            if (r->types != NULL) r->flat_types[at] = r->types[i * r->width + j];
        }
        r->starts[i + 1] = at;
    }
    free(mask);
    return true;
}

void golden_rows_close(golden_rows *r)
{
    free(r->ids);
    free(r->types);
    free(r->logits);
    free(r->flat_ids);
    free(r->flat_types);
    free(r->starts);
    golden_close(&r->g);
}

crank_status golden_rows_try(crank_session *s, const golden_rows *r, const int *order, int n,
                             float *logits, crank_error *error)
{
    size_t starts[GOLDEN_ROWS_MOST + 1] = {0}, width = (size_t)r->width;
    cr_assert(n >= 0 && n <= GOLDEN_ROWS_MOST);
    int32_t *ids = malloc(((size_t)n * width + 1) * sizeof *ids);
    int32_t *types = malloc(((size_t)n * width + 1) * sizeof *types);
    for (int i = 0; i < n; i++) {
        size_t from = r->starts[order[i]], count = r->starts[order[i] + 1] - from;
        memcpy(ids + starts[i], r->flat_ids + from, count * sizeof(int32_t));
        memcpy(types + starts[i], r->flat_types + from, count * sizeof(int32_t));
        starts[i + 1] = starts[i] + count;
    }
    crank_status status = crank_score_tokens(s, ids, types, starts, (size_t)n, logits, NULL, error);
    free(ids);
    free(types);
    return status;
}

void golden_rows_score(crank_session *s, const golden_rows *r, const int *order, int n,
                       float *logits)
{
    crank_error error = {0};
    crank_status status = golden_rows_try(s, r, order, n, logits, &error);
    cr_assert_eq(status, CRANK_OK, "%s", error.message);
}
