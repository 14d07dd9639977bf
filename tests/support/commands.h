/* What the black-box tests of the program share: a small model with a tokenizer, one-line runs. */
#ifndef CRANK_TESTS_COMMANDS_H
#define CRANK_TESTS_COMMANDS_H

#include "support/process.h"

/* Writes a seeded BERT of 2 layers, 32 wide, with `labels` labels and the synthetic vocabulary into
 * a fresh folder; its path goes to model. Remove it with process_remove_folder. */
void commands_make_model(char model[512], int labels);

/* Runs crank with the arguments up to NULL; input is stdin's text, or NULL. */
process_result commands_run(const char *input, ...) __attribute__((sentinel));

/* Aborts the test, with what the program said, unless it ended with `code`. */
void commands_expect_code(const process_result *result, int code);

/* The number of lines in a text. */
size_t commands_count_lines(const char *text);

/* "FOLDER/NAME" in a buffer that lives until eight more calls. */
const char *commands_path(const char *folder, const char *name);
void commands_write(const char *path, const char *text);

#endif
