/* A tiny model folder with a tokenizer, for tests of the whole path: the golden bert-h64 weights
 * and a WordPiece vocabulary of 300 entries ("w5" ..., letters and "##" letters, so that any ASCII
 * text has tokens). Made in a fresh folder under the build folder,
 * which goes when the test's process ends. */
#ifndef CRANK_TESTS_TINY_MODEL_H
#define CRANK_TESTS_TINY_MODEL_H

#include <stddef.h>

/* Writes the folder; 0 when the golden is nowhere. dir: [512]. */
int tiny_model_make(char dir[512], const char *test_name);
/* Copies one file; aborts the test when it cannot. */
void tiny_copy(const char *from, const char *to);
/* Writes text to dir/name. */
void tiny_write(const char *dir, const char *name, const void *data, size_t bytes);

#endif
