/* A character map from outside, and a text through it. Input: one byte that says whether the map is
 * a file's (checked while compiling) or an image's payload (checked when opened), two bytes with
 * the text's length, the text, the map. */
#include <stdlib.h>
#include <string.h>

#include "tokenizer/charsmap.h"
#include "tokenizer/steps.h"

static void apply(tok_section map, const uint8_t *text, size_t bytes)
{
    tok_text in = {.limit = 1 << 20}, out = {.limit = 1 << 20, .want_spans = bytes % 2 == 0};
    tok_span none = {0, 0};
    in.want_spans = out.want_spans;
    for (size_t i = 0; i < bytes;) { /* steps see valid UTF-8 only */
        uint32_t c;
        int width = utf8_decode(text + i, bytes - i, &c);
        tok_text_push_char(&in, c, none);
        i += (size_t)(width < 0 ? -width : width);
    }
    tok_normalizer_charsmap.apply(map, &in, &out);
    if (out.failed == CRANK_OK && utf8_valid_prefix(out.bytes, out.n) != out.n) abort();
    tok_text_free(&in);
    tok_text_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3) return 0;
    size_t n = ((size_t)data[1] | (size_t)data[2] << 8) % (size - 2);
    const uint8_t *text = data + 3, *map = text + n;
    size_t map_bytes = size - 3 - n;
    crank_error error;
    image_builder b;
    memset(&b, 0, sizeof b);
    if (image_builder_open(&b, &error) != CRANK_OK ||
        image_open_section(&b, TOK_SECTION_NORMALIZER, &error) != CRANK_OK)
        return 0;
    if (data[0] % 2 == 0) {
        if (charsmap_put(&b, map, map_bytes, "map", &error) != CRANK_OK) map_bytes = 0;
        /* What a compile wrote, the check must take. */
        tok_section payload = {image_at(&b, 0), image_put(&b, NULL, 0)};
        if (map_bytes > 0 && tok_normalizer_charsmap.check(payload, &error) != CRANK_OK) abort();
        if (map_bytes > 0) apply(payload, text, n);
    } else {
        image_put(&b, map, map_bytes);
        tok_section payload = {image_at(&b, 0), map_bytes};
        if (tok_normalizer_charsmap.check(payload, &error) == CRANK_OK) apply(payload, text, n);
    }
    image_builder_close(&b);
    return 0;
}
