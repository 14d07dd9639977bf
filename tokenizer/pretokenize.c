/* The pre-tokeniser steps: how a normalised piece falls into words. Based on Hugging Face
 * tokenizers' pre_tokenizers and NormalizedString::split. */
#include "tokenizer/pretokenize.h"

#include "tokenizer/json.h"
#include "tokenizer/unicode.h"

/* ---- splitting ---------------------------------------------------------------------------------
 */

static const char *const behavior_names[] = {"Removed", "Isolated", "MergedWithPrevious",
                                             "MergedWithNext", "Contiguous"};

crank_status tok_behavior_parse(const json_t *step, const char *where, const char *key,
                                tok_behavior absent, tok_behavior *out, crank_error *error)
{
    const char *name;
    size_t bytes;
    CRANK_TRY(tok_json_string(step, where, key, &name, &bytes, error));
    *out = absent;
    if (name == NULL) return CRANK_OK;
    for (unsigned i = 0; i < sizeof behavior_names / sizeof *behavior_names; i++) {
        if (strcmp(name, behavior_names[i]) == 0) {
            *out = (tok_behavior)i;
            return CRANK_OK;
        }
    }
    return status_fail(error, CRANK_UNSUPPORTED, "%s.%s: \"%s\" is not a behavior of this build",
                       where, key, name);
}

void tok_split_begin(tok_splitter *s, const tok_words *in, tok_words *out, tok_behavior behavior)
{
    *s = (tok_splitter){.in = in, .out = out, .behavior = behavior};
}

static void emit(tok_splitter *s, size_t start, size_t end)
{
    size_t at = s->out->text.n;
    tok_text_copy(&s->out->text, &s->in->text, start, end);
    tok_words_push(s->out, at);
}

static void flush(tok_splitter *s)
{
    if (s->pending) emit(s, s->start, s->end);
    s->pending = false;
}

static void hold(tok_splitter *s, size_t start, size_t end)
{
    flush(s);
    s->pending = true;
    s->start = start;
    s->end = end;
}

void tok_split_part(tok_splitter *s, size_t start, size_t end, bool matched)
{
    if (start == end) return;
    bool joins = false;
    switch (s->behavior) {
    case TOK_REMOVED:
        if (!matched) emit(s, start, end);
        return;
    case TOK_ISOLATED: emit(s, start, end); return;
    case TOK_MERGED_WITH_PREVIOUS: joins = matched && !s->last_matched; break;
    case TOK_MERGED_WITH_NEXT: joins = !matched && s->last_matched; break;
    case TOK_CONTIGUOUS: joins = matched == s->last_matched; break;
    }
    if (s->pending && joins)
        s->end = end;
    else
        hold(s, start, end);
    s->last_matched = matched;
}

void tok_split_finish(tok_splitter *s)
{
    flush(s);
}

/* Splits every word at single characters with one of these flags. */
static void split_at_flags(const tok_words *in, tok_words *out, unsigned flags,
                           tok_behavior behavior)
{
    for (size_t w = 0; w < in->n; w++) {
        const tok_word *word = &in->words[w];
        tok_splitter s;
        tok_split_begin(&s, in, out, behavior);
        size_t part = word->start;
        for (size_t i = word->start, width; i < word->end; i += width) {
            uint32_t c;
            width = (size_t)utf8_decode(in->text.bytes + i, word->end - i, &c);
            if ((uni_flags(c) & flags) == 0) continue;
            tok_split_part(&s, part, i, false);
            tok_split_part(&s, i, i + width, true);
            part = i + width;
        }
        tok_split_part(&s, part, word->end, false);
        tok_split_finish(&s);
    }
}

static crank_status compile_nothing(const json_t *step, image_builder *b, crank_error *error)
{
    (void)step, (void)b, (void)error;
    return CRANK_OK;
}

/* ---- BertPreTokenizer, WhitespaceSplit, Whitespace, Punctuation ---------------------------------
 */

static void apply_bert(tok_section payload, const tok_words *in, tok_words *out)
{
    (void)payload;
    for (size_t w = 0; w < in->n; w++) {
        const tok_word *word = &in->words[w];
        tok_splitter s;
        tok_split_begin(&s, in, out, TOK_ISOLATED);
        size_t part = word->start;
        for (size_t i = word->start, width; i < word->end; i += width) {
            uint32_t c;
            width = (size_t)utf8_decode(in->text.bytes + i, word->end - i, &c);
            unsigned flags = uni_flags(c);
            if ((flags & (UNI_SPACE | UNI_PUNCT)) == 0) continue;
            tok_split_part(&s, part, i, false);
            if ((flags & UNI_PUNCT) != 0) tok_split_part(&s, i, i + width, true);
            part = i + width;
        }
        tok_split_part(&s, part, word->end, false);
        tok_split_finish(&s);
    }
}

static void apply_whitespace_split(tok_section payload, const tok_words *in, tok_words *out)
{
    (void)payload;
    split_at_flags(in, out, UNI_SPACE, TOK_REMOVED);
}

/* \w+|[^\w\s]+ : runs of one kind, spaces dropped. */
static void apply_whitespace(tok_section payload, const tok_words *in, tok_words *out)
{
    (void)payload;
    for (size_t w = 0; w < in->n; w++) {
        const tok_word *word = &in->words[w];
        tok_splitter s;
        tok_split_begin(&s, in, out, TOK_ISOLATED);
        size_t part = word->start;
        unsigned kind = UNI_SPACE;
        for (size_t i = word->start, width; i < word->end; i += width) {
            uint32_t c;
            width = (size_t)utf8_decode(in->text.bytes + i, word->end - i, &c);
            unsigned flags = uni_flags(c);
            unsigned now = (flags & UNI_WORD) != 0 ? UNI_WORD : flags & UNI_SPACE;
            if (now == kind && now != UNI_SPACE) continue;
            if (kind != UNI_SPACE) tok_split_part(&s, part, i, true);
            part = i;
            kind = now;
        }
        if (kind != UNI_SPACE) tok_split_part(&s, part, word->end, true);
        tok_split_finish(&s);
    }
}

static crank_status compile_punctuation(const json_t *step, image_builder *b, crank_error *error)
{
    tok_behavior behavior;
    CRANK_TRY(tok_behavior_parse(step, "pre_tokenizer Punctuation", "behavior", TOK_ISOLATED,
                                 &behavior, error));
    image_put_u32(b, (uint32_t)behavior);
    return CRANK_OK;
}

static crank_status check_behavior(tok_section payload, crank_error *error)
{
    CRANK_CHECK(payload.bytes == 4 && payload.at[0] <= TOK_CONTIGUOUS, FORMAT, error,
                "tokenizer image: bad behavior of a pre_tokenizer step");
    return CRANK_OK;
}

static void apply_punctuation(tok_section payload, const tok_words *in, tok_words *out)
{
    split_at_flags(in, out, UNI_PUNCT, (tok_behavior)payload.at[0]);
}

static crank_status compile_digits(const json_t *step, image_builder *b, crank_error *error)
{
    bool individual;
    CRANK_TRY(tok_json_bool(step, "pre_tokenizer Digits", "individual_digits", false, &individual,
                            error));
    image_put_u32(b, individual ? TOK_ISOLATED : TOK_CONTIGUOUS);
    return CRANK_OK;
}

static void apply_digits(tok_section payload, const tok_words *in, tok_words *out)
{
    split_at_flags(in, out, UNI_NUMERIC, (tok_behavior)payload.at[0]);
}

const tok_pretokenizer tok_pretokenizer_bert = {"BertPreTokenizer", 1, compile_nothing, NULL,
                                                apply_bert};
const tok_pretokenizer tok_pretokenizer_whitespace_split = {"WhitespaceSplit", 2, compile_nothing,
                                                            NULL, apply_whitespace_split};
const tok_pretokenizer tok_pretokenizer_whitespace = {"Whitespace", 3, compile_nothing, NULL,
                                                      apply_whitespace};
const tok_pretokenizer tok_pretokenizer_punctuation = {"Punctuation", 4, compile_punctuation,
                                                       check_behavior, apply_punctuation};
const tok_pretokenizer tok_pretokenizer_digits = {"Digits", 8, compile_digits, check_behavior,
                                                  apply_digits};

/* ---- Metaspace, CharDelimiterSplit --------------------------------------------------------------
 * Payload: u32 scheme, u32 split, u32 bytes of the character, the character in UTF-8 [4]. */

enum { PREPEND_NEVER = 0, PREPEND_ALWAYS = 1, PREPEND_FIRST = 2 };

typedef struct metaspace {
    uint32_t scheme, split, bytes;
    uint8_t utf8[4];
} metaspace;

static crank_status one_character(const json_t *step, const char *where, const char *key,
                                  const char *absent, metaspace *out, crank_error *error)
{
    const char *text;
    size_t bytes;
    CRANK_TRY(tok_json_string(step, where, key, &text, &bytes, error));
    if (text == NULL && absent != NULL) {
        text = absent;
        bytes = strlen(absent);
    }
    uint32_t c;
    CRANK_CHECK(text != NULL && bytes >= 1 && bytes <= 4 &&
                    utf8_decode((const uint8_t *)text, bytes, &c) == (int)bytes,
                FORMAT, error, "%s.%s: must be one character", where, key);
    memcpy(out->utf8, text, bytes);
    out->bytes = (uint32_t)bytes;
    return CRANK_OK;
}

static crank_status compile_metaspace(const json_t *step, image_builder *b, crank_error *error)
{
    const char *where = "pre_tokenizer Metaspace";
    metaspace m = {.scheme = PREPEND_ALWAYS};
    CRANK_TRY(one_character(step, where, "replacement", "\u2581", &m, error));
    bool split, prefix;
    CRANK_TRY(tok_json_bool(step, where, "split", true, &split, error));
    CRANK_TRY(tok_json_bool(step, where, "add_prefix_space", true, &prefix, error));
    m.split = split;
    const char *scheme;
    size_t bytes;
    CRANK_TRY(tok_json_string(step, where, "prepend_scheme", &scheme, &bytes, error));
    if (scheme == NULL)
        m.scheme = prefix ? PREPEND_ALWAYS : PREPEND_NEVER; /* files older than prepend_scheme */
    else if (strcmp(scheme, "always") == 0)
        m.scheme = PREPEND_ALWAYS;
    else if (strcmp(scheme, "first") == 0)
        m.scheme = PREPEND_FIRST;
    else if (strcmp(scheme, "never") == 0)
        m.scheme = PREPEND_NEVER;
    else
        return status_fail(error, CRANK_UNSUPPORTED, "%s.prepend_scheme: \"%s\"", where, scheme);
    CRANK_CHECK(prefix || m.scheme == PREPEND_NEVER, FORMAT, error,
                "%s: add_prefix_space is false, but prepend_scheme is \"%s\"", where, scheme);
    image_put(b, &m, sizeof m);
    return CRANK_OK;
}

static crank_status check_metaspace(tok_section payload, crank_error *error)
{
    metaspace m;
    uint32_t c;
    CRANK_CHECK(payload.bytes == sizeof m, FORMAT, error, "tokenizer image: Metaspace of %zu bytes",
                payload.bytes);
    memcpy(&m, payload.at, sizeof m);
    CRANK_CHECK(m.scheme <= PREPEND_FIRST && m.split <= 1 && m.bytes >= 1 && m.bytes <= 4 &&
                    utf8_decode(m.utf8, m.bytes, &c) == (int)m.bytes,
                FORMAT, error, "tokenizer image: bad Metaspace step");
    return CRANK_OK;
}

bool tok_metaspace_asks_start(tok_section payload)
{
    metaspace m;
    memcpy(&m, payload.at, sizeof m);
    return m.scheme == PREPEND_FIRST;
}

static void apply_metaspace(tok_section payload, const tok_words *in, tok_words *out)
{
    metaspace m;
    memcpy(&m, payload.at, sizeof m);
    const uint8_t *text = in->text.bytes;
    for (size_t w = 0; w < in->n; w++) {
        size_t at = in->words[w].start, end = in->words[w].end, start = out->text.n;
        /* The original place counts: a space that was stripped still stands before this word. */
        bool at_start = in->text.want_spans && in->text.spans[at].start == 0;
        bool led =
            text[at] == ' ' || (end - at >= m.bytes && memcmp(text + at, m.utf8, m.bytes) == 0);
        /* A prepended mark stands for nothing: it shares the first character's span in offsets. */
        if (!led && (m.scheme == PREPEND_ALWAYS || (m.scheme == PREPEND_FIRST && at_start))) {
            size_t width = 1;
            while (at + width < end && (text[at + width] & 0xC0) == 0x80) width++;
            tok_text_push(&out->text, m.utf8, m.bytes, tok_text_span(&in->text, at, at + width));
        }
        size_t word = start;
        while (at < end) {
            size_t width;
            bool mark = true;
            if (text[at] == ' ')
                width = 1;
            else if (end - at >= m.bytes && memcmp(text + at, m.utf8, m.bytes) == 0)
                width = m.bytes;
            else {
                mark = false;
                width = 1;
                while (at + width < end && text[at + width] != ' ' && text[at + width] != m.utf8[0])
                    width++;
            }
            if (mark && m.split && out->text.n > word) {
                tok_words_push(out, word);
                word = out->text.n;
            }
            if (mark)
                tok_text_push(&out->text, m.utf8, m.bytes,
                              tok_text_span(&in->text, at, at + width));
            else
                tok_text_copy(&out->text, &in->text, at, at + width);
            at += width;
        }
        tok_words_push(out, word);
    }
}

const tok_pretokenizer tok_pretokenizer_metaspace = {"Metaspace", 5, compile_metaspace,
                                                     check_metaspace, apply_metaspace};

static crank_status compile_char_delimiter(const json_t *step, image_builder *b, crank_error *error)
{
    metaspace m = {0};
    CRANK_TRY(
        one_character(step, "pre_tokenizer CharDelimiterSplit", "delimiter", NULL, &m, error));
    image_put(b, &m, sizeof m);
    return CRANK_OK;
}

static void apply_char_delimiter(tok_section payload, const tok_words *in, tok_words *out)
{
    metaspace m;
    memcpy(&m, payload.at, sizeof m);
    for (size_t w = 0; w < in->n; w++) {
        const tok_word *word = &in->words[w];
        tok_splitter s;
        tok_split_begin(&s, in, out, TOK_REMOVED);
        size_t part = word->start;
        for (size_t i = word->start; i + m.bytes <= word->end;) {
            if (memcmp(in->text.bytes + i, m.utf8, m.bytes) != 0) {
                i++;
                continue;
            }
            tok_split_part(&s, part, i, false);
            part = i += m.bytes;
        }
        tok_split_part(&s, part, word->end, false);
        tok_split_finish(&s);
    }
}

const tok_pretokenizer tok_pretokenizer_char_delimiter = {
    "CharDelimiterSplit", 9, compile_char_delimiter, check_metaspace, apply_char_delimiter};
