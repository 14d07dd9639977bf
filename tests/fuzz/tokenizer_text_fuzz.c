/* Any bytes as a text for several tokenizers: the first byte picks one and its flags. The fused and
 * the general path agree, an early stop gives a prefix, ids are ids, offsets lie in the text. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "../support/small_tokenizer.h"
#include "tokenizer/inside.h"
#include "tokenizer/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { N_TOKENIZERS = 8 };

/* Compiled once from JSON by way of the inner interface: no file is needed. */
static tokenizer *compile(const char *json)
{
    crank_error error;
    json_error_t reason;
    json_t *root = json_loads(json, 0, &reason);
    tok_settings settings = {.warning = NULL};
    void *image;
    size_t bytes;
    tokenizer *tok;
    if (root == NULL || tokenizer_compile(root, &settings, &image, &bytes, &error) != CRANK_OK)
        abort();
    json_decref(root);
    if (tokenizer_from_image(&tok, image, bytes, &error) != CRANK_OK) abort();
    tok->owned = image;
    return tok;
}

static tokenizer *fixture(const char *name)
{
    static char text[1 << 21];
    char path[512] = CRANK_SOURCE_DIR "/tests/fixtures/tokenizer/";
    strcat(path, name);
    gzFile file = gzopen(path, "rb");
    int n = file != NULL ? gzread(file, text, sizeof text - 1) : -1;
    if (n <= 0) abort();
    gzclose(file);
    text[n] = 0;
    return compile(text);
}

static const tokenizer *pick(unsigned i)
{
    static tokenizer *tok[N_TOKENIZERS];
    if (tok[0] == NULL) {
        tok[0] = compile(SMALL_TOKENIZER);
        tok[1] =
            compile(SMALL_JSON(SMALL_ADDED, "{\"type\":\"BertNormalizer\",\"clean_text\":false}",
                               SMALL_PRETOKENIZER, "null", SMALL_MODEL));
        tok[2] = compile(SMALL_JSON(
            "[{\"id\":5,\"content\":\"a\",\"normalized\":true,\"single_word\":true,\"rstrip\":true}"
            ","
            "{\"id\":90,\"content\":\" \",\"normalized\":false,\"lstrip\":true}]",
            "{\"type\":\"NFKC\"}", "{\"type\":\"Metaspace\",\"prepend_scheme\":\"first\"}", "null",
            SMALL_MODEL));
        tok[3] = fixture("unigram/xlmr.json.gz");
        tok[4] = fixture("unigram/deberta.json.gz");
        tok[5] = fixture("unigram/bytefallback.json.gz");
        tok[6] = fixture("bpe/roberta.json.gz");
        tok[7] = fixture("bpe/modernbert.json.gz");
    }
    return tok[i % N_TOKENIZERS];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static tok_scratch *scratch;
    static tok_ids all, part, general, offsets;
    crank_error error;
    if (size < 2) return 0;
    const tokenizer *tok = pick(data[0]);
    unsigned flags = data[0] & 0x80 ? TOK_SPECIALS_AS_TEXT : TOK_DEFAULT;
    size_t max_ids = data[1];
    const char *text = (const char *)data + 2;
    size -= 2;
    if (scratch == NULL && tok_scratch_open(&scratch, &error) != CRANK_OK) abort();
    all.n = part.n = general.n = offsets.n = 0;
    if (tok_encode(tok, scratch, text, size, flags, SIZE_MAX, &all, &error) != CRANK_OK ||
        tok_encode(tok, scratch, text, size, flags, max_ids, &part, &error) != CRANK_OK ||
        tok_encode_offsets(tok, scratch, text, size, flags, &general, &offsets, &error) != CRANK_OK)
        abort();
    if (all.n != general.n || offsets.n != 2 * all.n) abort();
    if (part.n > all.n || (part.n < all.n && part.n <= max_ids)) abort();
    for (size_t i = 0; i < all.n; i++) {
        if (all.ids[i] < 0 || all.ids[i] >= tokenizer_info(tok)->vocab_size) abort();
        if (all.ids[i] != general.ids[i] || (i < part.n && all.ids[i] != part.ids[i])) abort();
        if (offsets.ids[2 * i] < 0 || (size_t)offsets.ids[2 * i] > size ||
            (size_t)offsets.ids[2 * i + 1] > size)
            abort();
    }
    return 0;
}
