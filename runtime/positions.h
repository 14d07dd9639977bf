/* Position tables that depend on a config alone: relative-position buckets and rotary angles. Where
 * float rounding decides a bucket, the arithmetic is torch's, in float32, step by step. */
#ifndef CRANK_RUNTIME_POSITIONS_H
#define CRANK_RUNTIME_POSITIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* T5 and MPNet (Raffel et al. 2020, section 2.1; transformers _relative_position_bucket): the
 * bucket of relative position k - q; max_distance is above the distances with buckets of their own
 * (a quarter of them, or half). bidirectional: half the buckets per side; otherwise k > q is
 * 0. */
int32_t positions_t5_bucket(int32_t relative, bool bidirectional, int32_t n_buckets,
                            int32_t max_distance);

/* DeBERTa-v2 (make_log_bucket_position): the bucket of q - k; buckets are signed, |bucket| below
 * n_buckets; max_position is max_relative_positions, or max_position_embeddings where that is < 1;
 * above n_buckets / 2 + 1. */
int32_t positions_deberta_bucket(int32_t relative, int32_t n_buckets, int32_t max_position);

/* values: [n_positions, width / 2]: cos (or sin) of position * theta^(-2 j / width) / divisor. */
void positions_rope(float *values, bool sine, int32_t n_positions, int32_t width, double theta,
                    double divisor);

#endif
