/* See graphemes.h. One pass, one character of look-ahead; the state is the class of the character
 * before and three facts about the cluster so far. make_graphemes_tables.py holds the same rules in
 * Python and compares them with the oracle. */
#include "tokenizer/graphemes.h"

#include <stdbool.h>

#include "tokenizer/graphemes_tables.h"
#include "utf8.h"

static inline unsigned class_of(uint32_t c)
{
    unsigned pair = grapheme_pages[grapheme_page[c >> 7]][(c & 127) >> 1];
    return (c & 1) != 0 ? pair >> 4 : pair & 15;
}

static inline unsigned class_at(const uint8_t *text, size_t bytes, size_t *width)
{
    uint32_t c;
    int n = utf8_decode(text, bytes, &c);
    *width = (size_t)(n < 0 ? -n : n);
    return class_of(c);
}

/* GB6-GB8: may a syllable go on with `next` after `last`? */
static inline bool hangul_joins(unsigned last, unsigned next)
{
    switch (last) {
    case GRAPHEME_HANGUL_L:
        return next == GRAPHEME_HANGUL_L || next == GRAPHEME_HANGUL_V ||
               next == GRAPHEME_HANGUL_LV || next == GRAPHEME_HANGUL_LVT;
    case GRAPHEME_HANGUL_V:
    case GRAPHEME_HANGUL_LV: return next == GRAPHEME_HANGUL_V || next == GRAPHEME_HANGUL_T;
    case GRAPHEME_HANGUL_T:
    case GRAPHEME_HANGUL_LVT: return next == GRAPHEME_HANGUL_T;
    default: return false;
    }
}

size_t grapheme_next(const uint8_t *text, size_t bytes)
{
    size_t width;
    unsigned last = class_at(text, bytes, &width);
    size_t end = width;
    if (last == GRAPHEME_CONTROL) /* GB3, GB4 */
        return text[0] == '\r' && bytes > 1 && text[1] == '\n' ? 2 : end;
    while (last == GRAPHEME_PREPEND && end < bytes) { /* GB9b */
        unsigned next = class_at(text + end, bytes - end, &width);
        if (next == GRAPHEME_CONTROL) return end;
        end += width;
        last = next;
    }

    bool picture = last == GRAPHEME_PICTOGRAPH; /* only Extend since a pictograph */
    bool conjunct = last == GRAPHEME_CONSONANT; /* only InCB Extend and Linker since a consonant */
    bool linked = false;                        /* ... and a Linker among them */
    while (end < bytes && last != GRAPHEME_PREPEND) {
        /* ASCII joins nothing, and is what mostly follows. */
        if (text[end] < 0x80) break;
        unsigned next = class_at(text + end, bytes - end, &width);
        switch (next) {
        case GRAPHEME_EXTEND:
        case GRAPHEME_LINKER:
        case GRAPHEME_ZWJ:
        case GRAPHEME_NON_JOINER:
        case GRAPHEME_SPACING: /* GB9, GB9a */
            picture = picture && last != GRAPHEME_ZWJ && next != GRAPHEME_SPACING;
            conjunct = conjunct && next != GRAPHEME_NON_JOINER && next != GRAPHEME_SPACING;
            linked = conjunct && (linked || next == GRAPHEME_LINKER);
            break;
        case GRAPHEME_PICTOGRAPH: /* GB11 */
            if (!picture || last != GRAPHEME_ZWJ) return end;
            conjunct = linked = false;
            break;
        case GRAPHEME_CONSONANT: /* GB9c */
            if (!linked) return end;
            picture = linked = false;
            break;
        default:
            if (!hangul_joins(last, next)) return end;
            break;
        }
        last = next;
        end += width;
    }
    return end;
}
