/* Normaliser Replace, pre-tokenisers Split and ByteLevel: the steps that look for words or patterns
 * by expression. Based on Hugging Face tokenizers' normalizers and pre_tokenizers. */
#include "tokenizer/words_regex_steps.h"

#include "tokenizer/json.h"
#include "tokenizer/pretokenize.h"
#include "tokenizer/words_regex.h"

/* {"String": "..."} or {"Regex": "..."} (a bare string is a plain one). Appends the program and
 * gives its size. */
static crank_status put_pattern(const json_t *step, const char *where, image_builder *b,
                                uint32_t *program_bytes, crank_error *error)
{
    const json_t *pattern = json_object_get(step, "pattern");
    const json_t *text = json_is_string(pattern) ? pattern : json_object_get(pattern, "String");
    bool literal = text != NULL;
    if (!literal) text = json_object_get(pattern, "Regex");
    CRANK_CHECK(json_is_string(text), FORMAT, error,
                "%s.pattern: expected {\"String\": ...} or {\"Regex\": ...}", where);
    size_t before = image_put(b, NULL, 0);
    CRANK_TRY(words_regex_put(b, json_string_value(text), json_string_length(text), literal, where,
                              error));
    *program_bytes = (uint32_t)(image_put(b, NULL, 0) - before);
    return CRANK_OK;
}

/* Both payloads begin so; the program follows. */
typedef struct pattern_header {
    uint32_t program_bytes;
    uint32_t option;        /* Split: tok_behavior, and the bit SPLIT_INVERT */
    uint32_t content_bytes; /* Replace: what follows the program */
    uint32_t unused;
} pattern_header;

enum { SPLIT_INVERT = 1 << 8 };

static tok_section program_of(tok_section payload)
{
    const pattern_header *h = (const pattern_header *)payload.at;
    tok_section program = {payload.at + sizeof *h, h->program_bytes};
    return program;
}

static crank_status check_pattern(tok_section payload, crank_error *error)
{
    CRANK_CHECK(payload.bytes >= sizeof(pattern_header), FORMAT, error,
                "tokenizer image: a pattern step of %zu bytes", payload.bytes);
    const pattern_header *h = (const pattern_header *)payload.at;
    CRANK_CHECK(sizeof *h + (uint64_t)h->program_bytes + h->content_bytes == payload.bytes, FORMAT,
                error, "tokenizer image: a pattern step of %zu bytes with %u and %u inside",
                payload.bytes, h->program_bytes, h->content_bytes);
    return words_regex_check(program_of(payload), error);
}

/* The next match, with work that ran out turned into the text's failure. */
static bool next_match(tok_section program, const uint8_t *text, size_t bytes, size_t from,
                       size_t *start, size_t *end, size_t *work, tok_text *out)
{
    if (words_regex_next(program, text, bytes, from, start, end, work)) return true;
    if (*work == SIZE_MAX && out->failed == CRANK_OK) out->failed = CRANK_LIMIT;
    return false;
}

/* ---- Replace ---------------------------------------------------------------------------------*/

static crank_status replace_compile(const json_t *step, image_builder *b, crank_error *error)
{
    static const char where[] = "normalizer Replace";
    const char *content;
    size_t content_bytes;
    CRANK_TRY(tok_json_string(step, where, "content", &content, &content_bytes, error));
    CRANK_CHECK(content != NULL, FORMAT, error, "%s.content: missing", where);
    CRANK_CHECK(content_bytes <= 1024, LIMIT, error, "%s.content: %zu bytes, limit 1024", where,
                content_bytes);
    pattern_header header = {0, 0, (uint32_t)content_bytes, 0};
    size_t at = image_put(b, &header, sizeof header);
    CRANK_TRY(put_pattern(step, where, b, &header.program_bytes, error));
    pattern_header *patch = image_at(b, at);
    if (patch != NULL) *patch = header;
    image_put(b, content, content_bytes);
    return CRANK_OK;
}

static crank_status replace_check(tok_section payload, crank_error *error)
{
    CRANK_TRY(check_pattern(payload, error));
    const pattern_header *h = (const pattern_header *)payload.at;
    const uint8_t *content = payload.at + sizeof *h + h->program_bytes;
    CRANK_CHECK(utf8_valid_prefix(content, h->content_bytes) == h->content_bytes, FORMAT, error,
                "tokenizer image: a replacement is not UTF-8");
    return CRANK_OK;
}

static void replace_apply(tok_section payload, const tok_text *in, tok_text *out)
{
    const pattern_header *h = (const pattern_header *)payload.at;
    tok_section program = program_of(payload);
    const uint8_t *content = program.at + program.bytes;
    size_t at = 0, start, end, work = 0;
    while (at < in->n && next_match(program, in->bytes, in->n, at, &start, &end, &work, out)) {
        tok_text_copy(out, in, at, start);
        /* As in Hugging Face, the new text stands where the match's last character stood. */
        size_t last = end - 1;
        while (last > start && (in->bytes[last] & 0xC0) == 0x80) last--;
        tok_text_push(out, content, h->content_bytes, tok_text_span(in, last, end));
        at = end;
    }
    tok_text_copy(out, in, at, in->n);
}

const tok_normalizer tok_normalizer_replace = {"Replace", 11, replace_compile, replace_check,
                                               replace_apply};

/* ---- Split -----------------------------------------------------------------------------------*/

static crank_status split_compile(const json_t *step, image_builder *b, crank_error *error)
{
    static const char where[] = "pre_tokenizer Split";
    tok_behavior behavior;
    bool invert;
    CRANK_TRY(tok_behavior_parse(step, where, "behavior", TOK_REMOVED, &behavior, error));
    CRANK_TRY(tok_json_bool(step, where, "invert", false, &invert, error));
    pattern_header header = {0, (uint32_t)behavior | (invert ? SPLIT_INVERT : 0u), 0, 0};
    size_t at = image_put(b, &header, sizeof header);
    CRANK_TRY(put_pattern(step, where, b, &header.program_bytes, error));
    pattern_header *patch = image_at(b, at);
    if (patch != NULL) *patch = header;
    return CRANK_OK;
}

static crank_status split_check(tok_section payload, crank_error *error)
{
    CRANK_TRY(check_pattern(payload, error));
    const pattern_header *h = (const pattern_header *)payload.at;
    CRANK_CHECK((h->option & ~(uint32_t)SPLIT_INVERT) <= TOK_CONTIGUOUS && h->content_bytes == 0,
                FORMAT, error, "tokenizer image: Split's option is %u", h->option);
    return CRANK_OK;
}

static void split_apply(tok_section payload, const tok_words *in, tok_words *out)
{
    const pattern_header *h = (const pattern_header *)payload.at;
    tok_section program = program_of(payload);
    bool matched = (h->option & SPLIT_INVERT) == 0;
    for (size_t w = 0; w < in->n; w++) {
        const tok_word *word = &in->words[w];
        const uint8_t *text = in->text.bytes + word->start;
        size_t bytes = word->end - word->start, at = 0, start, end, work = 0;
        tok_splitter s;
        tok_split_begin(&s, in, out, (tok_behavior)(h->option & ~(uint32_t)SPLIT_INVERT));
        while (at < bytes &&
               next_match(program, text, bytes, at, &start, &end, &work, &out->text)) {
            tok_split_part(&s, word->start + at, word->start + start, !matched);
            tok_split_part(&s, word->start + start, word->start + end, matched);
            at = end;
        }
        tok_split_part(&s, word->start + at, word->end, !matched);
        tok_split_finish(&s);
    }
}

const tok_pretokenizer tok_pretokenizer_split = {"Split", 7, split_compile, split_check,
                                                 split_apply};

/* ---- ByteLevel -------------------------------------------------------------------------------
 * Words stay raw bytes when the model takes them (the flag RAW is known while compiling); otherwise
 * each byte becomes its printable character. */

enum { BYTE_LEVEL_PREFIX = 1, BYTE_LEVEL_REGEX = 2, BYTE_LEVEL_RAW = 4 };

static crank_status byte_level_compile(const json_t *step, image_builder *b, crank_error *error)
{
    static const char where[] = "pre_tokenizer ByteLevel";
    bool prefix, regex;
    CRANK_TRY(tok_json_bool(step, where, "add_prefix_space", true, &prefix, error));
    CRANK_TRY(tok_json_bool(step, where, "use_regex", true, &regex, error));
    image_put_u32(b, (prefix ? BYTE_LEVEL_PREFIX : 0u) | (regex ? BYTE_LEVEL_REGEX : 0u) |
                         (b->byte_level ? BYTE_LEVEL_RAW : 0u));
    return CRANK_OK;
}

static crank_status byte_level_check(tok_section payload, crank_error *error)
{
    CRANK_CHECK(payload.bytes == 4, FORMAT, error,
                "tokenizer image: ByteLevel's payload has %zu bytes", payload.bytes);
    return CRANK_OK;
}

/* GPT-2's table: the printable bytes of Latin-1 are themselves, the others follow from U+0100. */
static uint32_t char_of(uint8_t byte)
{
    if (byte <= 0x20) return 0x100u + byte;
    if (byte >= 0x7F && byte <= 0xA0) return 0x121u + byte - 0x7F;
    return byte == 0xAD ? 0x143 : byte;
}

/* One word: the prefix if any, then in[start, end). */
static void push_word(const tok_words *in, size_t start, size_t end, bool prefix, bool raw,
                      tok_words *out)
{
    size_t begin = out->text.n;
    if (prefix) {
        tok_span before = tok_text_span(&in->text, start, start + 1);
        before.end = before.start;
        tok_text_push_char(&out->text, raw ? ' ' : char_of(' '), before);
    }
    if (raw)
        tok_text_copy(&out->text, &in->text, start, end);
    else
        for (size_t i = start; i < end; i++)
            tok_text_push_char(&out->text, char_of(in->text.bytes[i]),
                               tok_text_span(&in->text, i, i + 1));
    tok_words_push(out, begin);
}

static void byte_level_apply(tok_section payload, const tok_words *in, tok_words *out)
{
    uint32_t flags;
    memcpy(&flags, payload.at, sizeof flags);
    bool raw = (flags & BYTE_LEVEL_RAW) != 0;
    for (size_t w = 0; w < in->n; w++) {
        const tok_word *word = &in->words[w];
        const uint8_t *text = in->text.bytes;
        bool prefix = (flags & BYTE_LEVEL_PREFIX) != 0 && text[word->start] != ' ';
        if ((flags & BYTE_LEVEL_REGEX) == 0) {
            push_word(in, word->start, word->end, prefix, raw, out);
            continue;
        }
        size_t at = word->start;
        if (prefix) {
            at += words_gpt2_first(text + at, word->end - at);
            push_word(in, word->start, at, true, raw, out);
        }
        while (at < word->end) {
            size_t end = at + words_gpt2_next(text + at, word->end - at);
            push_word(in, at, end, false, raw, out);
            at = end;
        }
    }
}

const tok_pretokenizer tok_pretokenizer_byte_level = {"ByteLevel", 6, byte_level_compile,
                                                      byte_level_check, byte_level_apply};
