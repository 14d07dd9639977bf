/* Files that the tokenizer's tests read: fixtures (gzip), golden folders, the BERT vocabulary that
 * only set-up brings. */
#ifndef CRANK_TESTS_TOKENIZER_FILES_H
#define CRANK_TESTS_TOKENIZER_FILES_H

#include <jansson.h>
#include <stddef.h>

/* The whole of a plain or gzip file, NUL-terminated; NULL when it cannot be read. Free with free.
 */
char *test_read_file(const char *path, size_t *bytes);
/* Writes a file of a test's own; aborts on failure. */
void test_write_file(const char *path, const char *text, size_t bytes);
/* A fresh directory under the build folder; its name is the caller's to free. */
char *test_make_folder(void);
/* Removes the folder and the files in it. */
void test_remove_folder(char *folder);

/* tests/fixtures/tokenizer/NAME, in a buffer that the next call reuses. */
const char *test_tokenizer_fixture(const char *name);
/* The folder with the uncased BERT vocabulary (vocab.txt, tokenizer.json, tokenizer_config.json):
 * .cache/minilm after ./run setup, else ../shared/golden/tokenizer/wordpiece; NULL: neither. */
const char *test_bert_folder(void);

/* Rows of a JSON-lines fixture: calls row for each, with its number. */
void test_each_row(const char *fixture,
                   void (*row)(const json_t *row, size_t number, void *context), void *context);
/* The text under `key`, or what `key`_hex spells when the row has it. Free with free. */
char *test_row_text(const json_t *row, const char *key, size_t *bytes);

#endif
