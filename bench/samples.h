/* What several benchmarks need: texts that differ in their tokens, and the order of measurements.
 */
#ifndef CRANK_BENCH_SAMPLES_H
#define CRANK_BENCH_SAMPLES_H

#include <stddef.h>
#include <stdint.h>

/* splitmix64 (Steele, Lea and Flood 2014). */
uint64_t samples_random(uint64_t *state);

/* Bytes that samples_words writes at most for a word, the space before it included. */
enum { SAMPLES_WORD_BYTES = 6 };

/* n words of crank synth's vocabulary (a token each there, a few in other models), so that texts
 * differ in their tokens and nothing is folded. Returns the bytes written; no NUL. */
size_t samples_words(char *to, size_t n, uint64_t *state);

/* For qsort: int64_t, double. */
int samples_by_time(const void *a, const void *b);
int samples_by_value(const void *a, const void *b);

#endif
