/* An expression from outside on a text. Input: one byte with the expression's length, the
 * expression, the text. With length 0 the rest is a compiled program and the text is fixed. */
#include <stdlib.h>
#include <string.h>

#include "tokenizer/words_regex.h"
#include "utf8.h"

static void search(tok_section program, const uint8_t *text, size_t bytes)
{
    size_t at = 0, start, end, work = 0;
    while (at < bytes && words_regex_next(program, text, bytes, at, &start, &end, &work)) {
        if (start < at || end <= start || end > bytes) abort();
        at = end;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t fixed[] = "It's 12  o'clock,\n caf\xC3\xA9 \xE4\xB8\xAD aaab";
    if (size < 1) return 0;
    size_t n = data[0] < size ? data[0] : size - 1;
    crank_error error;
    image_builder b;
    memset(&b, 0, sizeof b);
    if (image_builder_open(&b, &error) != CRANK_OK ||
        image_open_section(&b, TOK_SECTION_NORMALIZER, &error) != CRANK_OK)
        return 0;
    if (n == 0) {
        image_put(&b, data + 1, size - 1);
        tok_section program = {image_at(&b, 0), size - 1};
        if (program.at != NULL && words_regex_check(program, &error) == CRANK_OK)
            search(program, fixed, sizeof fixed - 1);
    } else if (words_regex_put(&b, (const char *)data + 1, n, false, "fuzz", &error) == CRANK_OK) {
        tok_section program = {image_at(&b, 0), image_put(&b, NULL, 0)};
        if (words_regex_check(program, &error) != CRANK_OK) abort();
        const uint8_t *text = data + 1 + n;
        size_t bytes = utf8_valid_prefix(text, size - 1 - n);
        search(program, text, bytes);
    }
    image_builder_close(&b);
    return 0;
}
