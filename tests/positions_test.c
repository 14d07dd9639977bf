/* Positions as tables: relative buckets equal transformers' for every distance, where float
 * rounding decides; rotary angles; which row of the position table a token gets. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model.h"
#include "runtime/pack.h"
#include "runtime/positions.h"
#include "support/golden.h"

static int32_t *table(const golden *g, const char *name, int64_t *n)
{
    return golden_i32(g, name, n, NULL);
}

Test(positions, buckets_are_transformers)
{
    golden g;
    cr_assert(golden_open(&g, "position-tables"));
    int64_t n, n_tiny, rows;
    int32_t *distance = table(&g, "distance", &n),
            *tiny = table(&g, "deberta_tiny_distance", &n_tiny);
    int32_t *deberta = table(&g, "deberta_256_512", &rows);
    cr_assert_eq(rows, n);
    int32_t *deberta_tiny = table(&g, "deberta_8_48", &rows);
    cr_assert_eq(rows, n_tiny);
    int32_t *t5_encoder = table(&g, "t5_encoder_32_128", &rows);
    cr_assert_eq(rows, n);
    int32_t *t5_decoder = table(&g, "t5_decoder_32_128", &rows);
    cr_assert_eq(rows, n);
    for (int64_t i = 0; i < n; i++) {
        cr_expect_eq(positions_deberta_bucket(distance[i], 256, 512), deberta[i], "%d",
                     distance[i]);
        /* MPNet's are T5's encoder's. */
        cr_expect_eq(positions_t5_bucket(distance[i], true, 32, 128), t5_encoder[i], "%d",
                     distance[i]);
        cr_expect_eq(positions_t5_bucket(distance[i], false, 32, 128), t5_decoder[i], "%d",
                     distance[i]);
    }
    for (int64_t i = 0; i < n_tiny; i++) {
        cr_expect_eq(positions_deberta_bucket(tiny[i], 8, 48), deberta_tiny[i], "%d", tiny[i]);
    }
    int32_t *all[] = {distance, tiny, deberta, deberta_tiny, t5_encoder, t5_decoder};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) free(all[i]);
    golden_close(&g);
}

/* Every bucket stays inside its table, whatever a config asks for. */
Test(positions, buckets_stay_in_their_tables)
{
    static const int32_t sizes[][2] = {{4, 8}, {8, 20}, {16, 32}, {32, 128}, {32, 18}, {256, 512}};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        int32_t n = sizes[s][0], most = sizes[s][1], last = INT32_MIN;
        for (int32_t d = -2000; d <= 2000; d++) {
            int32_t both = positions_t5_bucket(d, true, n, most);
            int32_t causal = positions_t5_bucket(d, false, n, most);
            cr_assert(both >= 0 && both < n && causal >= 0 && causal < n, "%d of %d", d, n);
            int32_t signed_bucket = positions_deberta_bucket(d, n, most);
            cr_assert_eq(signed_bucket, -positions_deberta_bucket(-d, n, most));
            if (d >= -most && d <= most) {
                cr_assert_geq(signed_bucket, last, "buckets of %d grow with the distance: %d", n,
                              d);
                last = signed_bucket;
            }
        }
    }
}

/* Against the equation in double: the table is made in float, as torch makes it. */
Test(positions, rotary_angles)
{
    enum { POSITIONS = 600, WIDTH = 26, HALF = WIDTH / 2 };
    static float cosines[POSITIONS * HALF], sines[POSITIONS * HALF];
    static const double thetas[] = {10000, 160000, 500};
    for (size_t t = 0; t < sizeof thetas / sizeof thetas[0]; t++) {
        for (int scaled = 0; scaled < 2; scaled++) {
            double divisor = scaled ? pow(8, 2.0 / WIDTH) : 1;
            positions_rope(cosines, false, POSITIONS, WIDTH, thetas[t], divisor);
            positions_rope(sines, true, POSITIONS, WIDTH, thetas[t], divisor);
            for (int p = 0; p < POSITIONS; p++) {
                for (int j = 0; j < HALF; j++) {
                    double angle = p / (pow(thetas[t], 2.0 * j / WIDTH) * divisor);
                    /* half a unit in the last place of the frequency, times the position */
                    double allowed = 1e-6 + angle * 3e-7;
                    cr_expect_float_eq((double)cosines[p * HALF + j], cos(angle), allowed);
                    cr_expect_float_eq((double)sines[p * HALF + j], sin(angle), allowed);
                }
            }
            for (int j = 0; j < HALF; j++) {
                cr_expect_eq(cosines[j], 1.0f);
                cr_expect_eq(sines[j], 0.0f);
            }
        }
    }
}

/* Which position rows the tokens of one ready sequence get. */
static void expect_rows(const token_rules *rules, const int32_t *ids, int32_t n,
                        const int32_t *expected)
{
    int32_t memory[5 * 16 + 1], lengths[1] = {n};
    uint32_t order[1], counts[32];
    pack_batch batch[1];
    pack_sequence sequence = {.ids1 = ids, .length = n, .ready = 1};
    cr_assert_eq(pack_plan(order, batch, counts, lengths, 1, 64, 4), 1);
    pack_arrays arrays = {memory, memory + 16, memory + 32, memory + 48, memory + 65};
    pack_fill(&arrays, batch, order, &sequence, NULL, rules);
    for (int32_t i = 0; i < n; i++) cr_expect_eq(arrays.positions[i], expected[i], "token %d", i);
}

Test(positions, offsets_of_the_families)
{
    static const int32_t ids[6] = {0, 7, 1, 9, 1, 2};
    token_rules bert = {.vocab_size = 10, .pad_id = -1};
    expect_rows(&bert, ids, 6, (int32_t[]){0, 1, 2, 3, 4, 5});
    /* RoBERTa and MPNet: after the pad id; a pad id inside the text stays on its own row and does
     * not advance (create_position_ids_from_input_ids). */
    token_rules roberta = {.vocab_size = 10, .pad_id = 1, .first_position = 2};
    expect_rows(&roberta, ids, 6, (int32_t[]){2, 3, 1, 4, 1, 5});
    token_rules pad_zero = {.vocab_size = 10, .pad_id = 0, .first_position = 1};
    expect_rows(&pad_zero, ids, 6, (int32_t[]){0, 1, 2, 3, 4, 5});
}
