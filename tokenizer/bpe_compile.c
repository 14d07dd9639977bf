/* See bpe_compile.h. The tables are built in plain memory, used at once to find out which entries
 * of the vocabulary their own merges put together, and then appended to the section.
 *
 * Byte level: Hugging Face spells bytes as printable characters (OpenAI's GPT-2 table: 0x21-7E,
 * A1-AC and AE-FF are themselves, the other 68 follow from U+0100 on). The spelling is undone here,
 * once, so that encoding deals with raw bytes. */
#include "tokenizer/bpe_compile.h"

#include <string.h>

#include "memory.h"
#include "tokenizer/json.h"
#include "tokenizer/vocab.h"
#include "utf8.h"

typedef struct compiler {
    bpe_header header;
    bpe_merge *merges;
    bpe_word *words;
    bpe_char *chars;
    uint8_t *bytes; /* of the words, one after the other */
    size_t n_bytes;
    bpe_symbol *symbols; /* room to merge the longest entry */
    void *work;
    char *joined; /* room for two entries */
    image_builder *b;
} compiler;

static void compiler_close(compiler *c)
{
    mem_free(c->merges);
    mem_free(c->words);
    mem_free(c->chars);
    mem_free(c->bytes);
    mem_free(c->symbols);
    mem_free(c->work);
    mem_free(c->joined);
}

/* The smallest table that n entries fill by half at most. */
static uint32_t table_bits(size_t n)
{
    uint32_t bits = 3;
    while (((size_t)1 << bits) < 2 * n) bits++;
    return bits;
}

static void *new_table(uint32_t bits, size_t size)
{
    void *table = mem_array((size_t)1 << bits, size);
    if (table != NULL) memset(table, 0xFF, size << bits); /* BPE_NONE: every place empty */
    return table;
}

/* The byte that a character of the byte-level alphabet stands for, or -1. */
static int byte_of(uint32_t c)
{
    if ((c >= 0x21 && c <= 0x7E) || (c >= 0xA1 && c <= 0xAC) || (c >= 0xAE && c <= 0xFF))
        return (int)c;
    if (c >= 0x100 && c <= 0x120) return (int)(c - 0x100);        /* 00-20 */
    if (c >= 0x121 && c <= 0x142) return (int)(c - 0x121 + 0x7F); /* 7F-A0 */
    return c == 0x143 ? 0xAD : -1;
}

/* Writes the bytes that an entry stands for; false: it has a character outside the alphabet, so no
 * text can lead to it. out may be text. */
static bool entry_bytes(const compiler *c, const char *text, size_t n, uint8_t *out, size_t *n_out)
{
    if ((c->header.flags & BPE_BYTE_LEVEL) == 0) {
        memmove(out, text, n);
        *n_out = n;
        return true;
    }
    *n_out = 0;
    for (size_t i = 0; i < n;) {
        uint32_t code_point;
        int width = utf8_decode((const uint8_t *)text + i, n - i, &code_point);
        int byte = width > 0 ? byte_of(code_point) : -1;
        if (byte < 0) return false;
        out[(*n_out)++] = (uint8_t)byte;
        i += (size_t)width;
    }
    return true;
}

/* ---- options and vocabulary ------------------------------------------------------------------*/

static crank_status refuse_affix(const json_t *model, const char *key, crank_error *error)
{
    const char *text;
    size_t bytes;
    CRANK_TRY(tok_json_string(model, "model", key, &text, &bytes, error));
    CRANK_CHECK(bytes == 0, UNSUPPORTED, error, "model.%s \"%.40s\" is not supported", key, text);
    return CRANK_OK;
}

static crank_status read_options(compiler *c, const json_t *model, crank_error *error)
{
    bool fuse, fallback;
    const json_t *dropout = json_object_get(model, "dropout");
    CRANK_CHECK(dropout == NULL || json_is_null(dropout) ||
                    (json_is_number(dropout) && json_number_value(dropout) == 0),
                UNSUPPORTED, error, "model.dropout is set: its ids would be random");
    CRANK_TRY(refuse_affix(model, "continuing_subword_prefix", error));
    CRANK_TRY(refuse_affix(model, "end_of_word_suffix", error));
    CRANK_TRY(tok_json_bool(model, "model", "fuse_unk", false, &fuse, error));
    CRANK_TRY(tok_json_bool(model, "model", "byte_fallback", false, &fallback, error));
    c->header.flags = (c->b->byte_level ? BPE_BYTE_LEVEL : 0) | (fuse ? BPE_FUSE_UNK : 0) |
                      (fallback && !c->b->byte_level ? BPE_BYTE_FALLBACK : 0);
    /* Byte fallback with byte level would spell the two bytes of a byte-level character: such a
     * file does not exist, and the ids would be nonsense. */
    CRANK_CHECK(!(fallback && c->b->byte_level), UNSUPPORTED, error,
                "model.byte_fallback together with the ByteLevel pre-tokeniser");
    return CRANK_OK;
}

static crank_status read_vocabulary(compiler *c, const json_t *model, crank_error *error)
{
    const json_t *vocab;
    CRANK_TRY(tok_json_object(model, "model", "vocab", true, &vocab, error));
    const char *key;
    size_t key_bytes;
    json_t *value;
    json_t *object = (json_t *)vocab; /* jansson's iterators take no const */
    size_t n_chars = 0;
    json_object_keylen_foreach(object, key, key_bytes, value)
    {
        CRANK_CHECK(json_is_integer(value), FORMAT, error,
                    "model.vocab[\"%.80s\"]: expected an id, found a JSON %s", key,
                    json_is_string(value) ? "string" : "value of another type");
        CRANK_TRY(vocab_put(c->b->vocabulary, key, key_bytes, json_integer_value(value), error));
        uint32_t code_point;
        n_chars += key_bytes > 0 && key_bytes <= 4 &&
                   utf8_decode((const uint8_t *)key, key_bytes, &code_point) == (int)key_bytes;
    }

    /* Characters, or bytes, that are symbols by themselves. */
    c->header.char_bits = (c->header.flags & BPE_BYTE_LEVEL) != 0 ? 0 : table_bits(n_chars + 1);
    c->chars = new_table(c->header.char_bits, sizeof *c->chars);
    CRANK_CHECK(c->chars != NULL, OUT_OF_MEMORY, error, "model.vocab: no memory");
    json_object_keylen_foreach(object, key, key_bytes, value)
    {
        uint32_t code_point, id = (uint32_t)json_integer_value(value);
        if (key_bytes == 0 ||
            utf8_decode((const uint8_t *)key, key_bytes, &code_point) != (int)key_bytes)
            continue;
        if ((c->header.flags & BPE_BYTE_LEVEL) != 0) {
            if (byte_of(code_point) >= 0) c->header.byte_id[byte_of(code_point)] = id;
            continue;
        }
        uint32_t mask = ((uint32_t)1 << c->header.char_bits) - 1;
        uint32_t i = bpe_pair_hash(0, code_point) & mask;
        while (c->chars[i].id != BPE_NONE) i = (i + 1) & mask;
        c->chars[i].code_point = code_point;
        c->chars[i].id = id;
    }
    for (int i = 0; i < 256 && (c->header.flags & BPE_BYTE_FALLBACK) != 0; i++) {
        char name[8] = "<0x00>";
        name[3] = "0123456789ABCDEF"[i >> 4];
        name[4] = "0123456789ABCDEF"[i & 15];
        int32_t id = vocab_builder_id(c->b->vocabulary, name, 6);
        c->header.byte_id[i] = id >= 0 ? (uint32_t)id : BPE_NONE;
    }

    const char *unk;
    size_t unk_bytes;
    CRANK_TRY(tok_json_string(model, "model", "unk_token", &unk, &unk_bytes, error));
    if (unk != NULL) {
        int32_t id = vocab_builder_id(c->b->vocabulary, unk, unk_bytes);
        CRANK_CHECK(id >= 0, FORMAT, error, "model.unk_token \"%.80s\" is not in the vocabulary",
                    unk);
        c->header.unk = (uint32_t)id;
    }
    return CRANK_OK;
}

/* ---- merges ----------------------------------------------------------------------------------*/

static crank_status read_merge(const json_t *merge, size_t index, const char *part[2],
                               size_t bytes[2], crank_error *error)
{
    if (json_is_array(merge)) {
        CRANK_CHECK(json_array_size(merge) == 2 && json_is_string(json_array_get(merge, 0)) &&
                        json_is_string(json_array_get(merge, 1)),
                    FORMAT, error, "model.merges[%zu]: expected two tokens", index);
        for (size_t i = 0; i < 2; i++) {
            part[i] = json_string_value(json_array_get(merge, i));
            bytes[i] = json_string_length(json_array_get(merge, i));
        }
        return CRANK_OK;
    }
    CRANK_CHECK(json_is_string(merge), FORMAT, error,
                "model.merges[%zu]: expected \"a b\" or [\"a\", \"b\"]", index);
    const char *text = json_string_value(merge);
    size_t n = json_string_length(merge);
    const char *space = memchr(text, ' ', n);
    CRANK_CHECK(space != NULL && memchr(space + 1, ' ', n - (size_t)(space + 1 - text)) == NULL,
                FORMAT, error, "model.merges[%zu] \"%.80s\": expected two tokens and one space",
                index, text);
    part[0] = text;
    bytes[0] = (size_t)(space - text);
    part[1] = space + 1;
    bytes[1] = n - bytes[0] - 1;
    return CRANK_OK;
}

static crank_status put_merge(compiler *c, const json_t *merge, size_t index, uint32_t rank,
                              crank_error *error)
{
    const char *part[2];
    size_t bytes[2];
    uint32_t id[2];
    CRANK_TRY(read_merge(merge, index, part, bytes, error));
    for (int i = 0; i < 2; i++) {
        int32_t found = vocab_builder_id(c->b->vocabulary, part[i], bytes[i]);
        CRANK_CHECK(found >= 0, FORMAT, error,
                    "model.merges[%zu]: \"%.80s\" is not in the vocabulary", index, part[i]);
        id[i] = (uint32_t)found;
    }
    memcpy(c->joined, part[0], bytes[0]);
    memcpy(c->joined + bytes[0], part[1], bytes[1]);
    int32_t joined = vocab_builder_id(c->b->vocabulary, c->joined, bytes[0] + bytes[1]);
    CRANK_CHECK(joined >= 0, FORMAT, error, "model.merges[%zu]: \"%.*s\" is not in the vocabulary",
                index, (int)(bytes[0] + bytes[1] < 80 ? bytes[0] + bytes[1] : 80), c->joined);
    uint32_t mask = ((uint32_t)1 << c->header.merge_bits) - 1;
    uint32_t i = bpe_pair_hash(id[0], id[1]) & mask;
    while (c->merges[i].rank != BPE_NONE &&
           (c->merges[i].left != id[0] || c->merges[i].right != id[1]))
        i = (i + 1) & mask;
    /* A pair that comes again takes the later rank, as in Hugging Face's map. */
    bpe_merge entry = {id[0], id[1], rank, (uint32_t)joined};
    c->merges[i] = entry;
    return CRANK_OK;
}

static crank_status read_merges(compiler *c, const json_t *model, crank_error *error)
{
    const json_t *merges;
    CRANK_TRY(tok_json_array(model, "model", "merges", true, &merges, error));
    size_t n = json_array_size(merges);
    CRANK_CHECK(n <= TOK_MAX_VOCABULARY, LIMIT, error, "model.merges: %zu merges, %d at most", n,
                TOK_MAX_VOCABULARY);
    c->header.merge_bits = table_bits(n);
    c->merges = new_table(c->header.merge_bits, sizeof *c->merges);
    c->joined = mem_alloc(2 * TOK_MAX_TOKEN_BYTES);
    CRANK_CHECK(c->merges != NULL && c->joined != NULL, OUT_OF_MEMORY, error,
                "model.merges: no memory");
    uint32_t rank = 0;
    for (size_t i = 0; i < n; i++) {
        const json_t *merge = json_array_get(merges, i);
        /* The first line of a merges.txt sometimes travels along; it takes no rank. */
        const char *text = json_string_value(merge);
        if (text != NULL && strncmp(text, "#version", 8) == 0) continue;
        CRANK_TRY(put_merge(c, merge, i, rank++, error));
    }
    return CRANK_OK;
}

/* ---- whole words -----------------------------------------------------------------------------*/

static crank_status find_words(compiler *c, bool ignore_merges, crank_error *error)
{
    int32_t n_ids = vocab_builder_size(c->b->vocabulary);
    size_t total = 0, longest = 1, n, n_entries = 0;
    for (int32_t id = 0; id < n_ids; id++)
        if (vocab_builder_text(c->b->vocabulary, id, &n) != NULL) {
            total += n;
            n_entries++;
            if (n > longest) longest = n;
        }
    CRANK_CHECK(total <= UINT32_MAX, LIMIT, error, "model.vocab: %zu bytes of text", total);
    c->header.word_bits = table_bits(n_entries);
    c->words = new_table(c->header.word_bits, sizeof *c->words);
    c->bytes = mem_alloc(total);
    c->symbols = mem_array(longest, sizeof *c->symbols);
    c->work = mem_alloc(BPE_WORK_BYTES(longest));
    CRANK_CHECK(c->words != NULL && c->bytes != NULL && c->symbols != NULL && c->work != NULL,
                OUT_OF_MEMORY, error, "model.vocab: no memory");
    bpe_view v = {&c->header, c->merges, c->words, c->chars, c->bytes};
    uint32_t mask = ((uint32_t)1 << c->header.word_bits) - 1;
    for (int32_t id = 0; id < n_ids; id++) {
        const char *text = vocab_builder_text(c->b->vocabulary, id, &n);
        uint8_t *word = c->bytes + c->n_bytes;
        if (text == NULL || n == 0 || !entry_bytes(c, text, n, word, &n)) continue;
        if (!ignore_merges && (bpe_merge_word(&v, word, n, c->symbols, c->work) != 1 ||
                               c->symbols[0].id != (uint32_t)id))
            continue;
        bpe_word entry = {bpe_word_hash(word, n), (uint32_t)id, (uint32_t)c->n_bytes, (uint32_t)n};
        uint32_t i = entry.hash & mask;
        while (c->words[i].id != BPE_NONE) i = (i + 1) & mask;
        c->words[i] = entry;
        c->n_bytes += n;
        if (n > c->header.longest_word) c->header.longest_word = (uint32_t)n;
    }
    c->header.word_bytes = c->n_bytes;
    return CRANK_OK;
}

static crank_status compile(compiler *c, const json_t *model, crank_error *error)
{
    bool ignore_merges;
    CRANK_TRY(read_options(c, model, error));
    CRANK_TRY(tok_json_bool(model, "model", "ignore_merges", false, &ignore_merges, error));
    CRANK_TRY(read_vocabulary(c, model, error));
    CRANK_TRY(read_merges(c, model, error));
    CRANK_TRY(find_words(c, ignore_merges, error));
    CRANK_TRY(image_open_section(c->b, TOK_SECTION_MODEL, error));
    image_put(c->b, &c->header, sizeof c->header);
    image_put(c->b, c->merges, sizeof *c->merges << c->header.merge_bits);
    image_put(c->b, c->words, sizeof *c->words << c->header.word_bits);
    image_put(c->b, c->chars, sizeof *c->chars << c->header.char_bits);
    image_put(c->b, c->bytes, c->n_bytes);
    return image_close_section(c->b, error);
}

crank_status bpe_compile(const json_t *model, image_builder *b, crank_error *error)
{
    compiler c = {.b = b};
    c.header.unk = BPE_NONE;
    memset(c.header.byte_id, 0xFF, sizeof c.header.byte_id);
    crank_status status = compile(&c, model, error);
    compiler_close(&c);
    return status;
}
