/* From an expression's text to a program: recursive descent, at most REGEX_MAX_DEPTH groups deep,
 * emitting code as it reads. Jumps are relative, so that a repeated block is copied and an
 * alternative is pushed aside by moving memory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "tokenizer/words_regex_program.h"
#include "utf8.h"

#define REGEX_MAX_DEPTH 16
#define REGEX_MAX_REPEAT 256

typedef struct parser {
    const uint8_t *text;
    size_t bytes, at;
    const char *where;
    crank_error *error;
    size_t n_code, n_sets, n_ranges;
    regex_code code[REGEX_MAX_CODE];
    regex_set sets[REGEX_MAX_SETS];
    regex_range ranges[REGEX_MAX_RANGES];
} parser;

static crank_status parse_alternatives(parser *p, int depth, bool ignore_case);

static crank_status fail(parser *p, crank_status status, const char *what)
{
    return status_fail(p->error, status, "%s: %s at byte %zu of \"%.*s\"", p->where, what, p->at,
                       (int)(p->bytes < 200 ? p->bytes : 200), (const char *)p->text);
}

/* The same for the construct from byte `start` to where the parser stands. */
static crank_status fail_at(parser *p, size_t start, const char *what)
{
    char text[120];
    size_t n = p->at - start;
    snprintf(text, sizeof text, "%s \"%.*s\"", what, (int)(n < 40 ? n : 40),
             (const char *)p->text + start);
    p->at = start;
    return fail(p, CRANK_UNSUPPORTED, text);
}

static crank_status too_large(parser *p)
{
    return fail(p, CRANK_UNSUPPORTED, "the expression gets too large");
}

static bool peek(const parser *p, char c)
{
    return p->at < p->bytes && p->text[p->at] == (uint8_t)c;
}

static bool accept(parser *p, char c)
{
    if (!peek(p, c)) return false;
    p->at++;
    return true;
}

static bool accept_text(parser *p, const char *text)
{
    size_t n = strlen(text);
    if (p->bytes - p->at < n || memcmp(p->text + p->at, text, n) != 0) return false;
    p->at += n;
    return true;
}

static crank_status emit(parser *p, enum regex_op op, unsigned set, int first, int second)
{
    if (p->n_code == REGEX_MAX_CODE) return too_large(p);
    regex_code code = {(uint16_t)op, (uint16_t)set, (int16_t)first, (int16_t)second};
    p->code[p->n_code++] = code;
    return CRANK_OK;
}

/* ---- sets ------------------------------------------------------------------------------------*/

typedef struct set_draft {
    uint64_t values;
    bool negated;
    size_t first_range;
} set_draft;

static crank_status add_range(parser *p, uint32_t first, uint32_t last)
{
    if (p->n_ranges == REGEX_MAX_RANGES) return too_large(p);
    p->ranges[p->n_ranges].first = first;
    p->ranges[p->n_ranges++].last = last;
    return CRANK_OK;
}

/* One character; without case also its other case and the character outside ASCII that folds to it.
 * Oniguruma folds whole strings ("ss" is U+00DF, and a class without case may match two
 * characters), which is not done here: such expressions are refused in parse_single and
 * parse_sequence. */
static crank_status add_char(parser *p, uint32_t c, bool ignore_case)
{
    CRANK_TRY(add_range(p, c, c));
    if (!ignore_case || words_class_of(c) != WORDS_LETTER) return CRANK_OK;
    if (c >= 0x80) return fail(p, CRANK_UNSUPPORTED, "a letter outside ASCII without case");
    CRANK_TRY(add_range(p, c ^ 0x20, c ^ 0x20));
    if ((c | 0x20) == 'k') CRANK_TRY(add_range(p, 0x212A, 0x212A));
    if ((c | 0x20) == 's') CRANK_TRY(add_range(p, 0x17F, 0x17F));
    return CRANK_OK;
}

/* Finishes the set, or finds an equal one, and gives its number. */
static crank_status close_set(parser *p, const set_draft *draft, unsigned *number)
{
    regex_set set = {{0, 0},
                     draft->values,
                     draft->negated,
                     (uint16_t)draft->first_range,
                     (uint16_t)(p->n_ranges - draft->first_range),
                     0};
    for (uint32_t c = 0; c < 128; c++)
        if (regex_set_has(&set, p->ranges, c)) set.ascii[c >> 6] |= (uint64_t)1 << (c & 63);
    for (size_t i = 0; i < p->n_sets; i++) {
        const regex_set *old = &p->sets[i];
        if (old->values == set.values && old->negated == set.negated &&
            old->n_ranges == set.n_ranges &&
            memcmp(p->ranges + old->first_range, p->ranges + set.first_range,
                   set.n_ranges * sizeof p->ranges[0]) == 0) {
            p->n_ranges = draft->first_range;
            *number = (unsigned)i;
            return CRANK_OK;
        }
    }
    if (p->n_sets == REGEX_MAX_SETS) return too_large(p);
    *number = (unsigned)p->n_sets;
    p->sets[p->n_sets++] = set;
    return CRANK_OK;
}

static crank_status parse_hex(parser *p, int digits, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < digits; i++) {
        int c = p->at < p->bytes ? p->text[p->at] : 0;
        int value = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (value < 0) return fail(p, CRANK_FORMAT, "a hexadecimal digit is missing");
        *out = *out << 4 | (uint32_t)value;
        p->at++;
    }
    return CRANK_OK;
}

/* Values with these categories, in \w or not. */
#define VALUES(bits) ((bits) | (bits) << WORDS_IN_WORD)
#define BIT(category) ((uint64_t)1 << (category))
/* From one category to another, in the order of enum words_category. */
#define SPAN(first, last) (BIT((last) + 1) - BIT(first))

#define LETTERS SPAN(WORDS_LU, WORDS_LO)
#define MARKS SPAN(WORDS_MN, WORDS_ME)
#define NUMBERS SPAN(WORDS_ND, WORDS_NO)
#define PUNCTUATION SPAN(WORDS_PC, WORDS_PO)
#define SYMBOLS SPAN(WORDS_SM, WORDS_SO)
#define SEPARATORS SPAN(WORDS_ZS, WORDS_ZP)
#define CONTROLS (BIT(WORDS_CC) | BIT(WORDS_CW))
#define OTHERS SPAN(WORDS_CC, WORDS_CW)
#define SPACES (SEPARATORS | BIT(WORDS_CW))
#define WORD_VALUES (~(uint64_t)0 << WORDS_IN_WORD)

/* Names as Oniguruma compares them: without case, blanks, '-' and '_'. */
static const struct {
    const char *name, *longer;
    uint64_t categories;
} categories[] = {
    {"l", "letter", LETTERS},
    {"lc", "casedletter", SPAN(WORDS_LU, WORDS_LT)},
    {"lu", "uppercaseletter", BIT(WORDS_LU)},
    {"ll", "lowercaseletter", BIT(WORDS_LL)},
    {"lt", "titlecaseletter", BIT(WORDS_LT)},
    {"lm", "modifierletter", BIT(WORDS_LM)},
    {"lo", "otherletter", BIT(WORDS_LO)},
    {"m", "mark", MARKS},
    {"mn", "nonspacingmark", BIT(WORDS_MN)},
    {"mc", "spacingmark", BIT(WORDS_MC)},
    {"me", "enclosingmark", BIT(WORDS_ME)},
    {"n", "number", NUMBERS},
    {"nd", "decimalnumber", BIT(WORDS_ND)},
    {"nl", "letternumber", BIT(WORDS_NL)},
    {"no", "othernumber", BIT(WORDS_NO)},
    {"p", "punctuation", PUNCTUATION},
    {"pc", "connectorpunctuation", BIT(WORDS_PC)},
    {"pd", "dashpunctuation", BIT(WORDS_PD)},
    {"ps", "openpunctuation", BIT(WORDS_PS)},
    {"pe", "closepunctuation", BIT(WORDS_PE)},
    {"pi", "initialpunctuation", BIT(WORDS_PI)},
    {"pf", "finalpunctuation", BIT(WORDS_PF)},
    {"po", "otherpunctuation", BIT(WORDS_PO)},
    {"s", "symbol", SYMBOLS},
    {"sm", "mathsymbol", BIT(WORDS_SM)},
    {"sc", "currencysymbol", BIT(WORDS_SC)},
    {"sk", "modifiersymbol", BIT(WORDS_SK)},
    {"so", "othersymbol", BIT(WORDS_SO)},
    {"z", "separator", SEPARATORS},
    {"zs", "spaceseparator", BIT(WORDS_ZS)},
    {"zl", "lineseparator", BIT(WORDS_ZL)},
    {"zp", "paragraphseparator", BIT(WORDS_ZP)},
    {"c", "other", OTHERS},
    {"cc", "control", CONTROLS},
    {"cf", "format", BIT(WORDS_CF)},
    {"co", "privateuse", BIT(WORDS_CO)},
    {"cn", "unassigned", BIT(WORDS_CN)},
    {"any", "any", SPAN(WORDS_LU, WORDS_CW)},
};

/* After \p or \P: "{Lu}" or "{^Lu}". 0: not a name that is known; the parser stands behind it. */
static uint64_t parse_property(parser *p, bool negated)
{
    char name[32];
    size_t n = 0;
    if (!accept(p, '{')) return 0;
    if (accept(p, '^')) negated = !negated;
    bool closed = false;
    while (p->at < p->bytes && !(closed = accept(p, '}'))) {
        uint8_t c = p->text[p->at++];
        if (c == ' ' || c == '-' || c == '_') continue;
        if (n < sizeof name - 1) name[n++] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
    }
    name[closed ? n : 0] = '\0';
    for (size_t i = 0; i < sizeof categories / sizeof categories[0]; i++) {
        if (strcmp(name, categories[i].name) != 0 && strcmp(name, categories[i].longer) != 0)
            continue;
        uint64_t values = VALUES(categories[i].categories);
        return negated ? ~values : values;
    }
    return 0;
}

/* After a backslash: a class (*values != 0) or one character. */
static crank_status parse_escape(parser *p, uint64_t *values, uint32_t *c)
{
    static const struct {
        char letter;
        uint32_t means;
    } plain[] = {{'n', '\n'}, {'r', '\r'}, {'t', '\t'}, {'f', '\f'}, {'v', '\v'}};
    static const struct {
        char letter;
        uint64_t values;
    } classes[] = {{'s', VALUES(SPACES)}, {'d', VALUES(BIT(WORDS_ND))}, {'w', WORD_VALUES}};
    size_t start = p->at - 1;
    *values = 0;
    if (p->at == p->bytes) return fail(p, CRANK_FORMAT, "a backslash ends the expression");
    uint8_t letter = p->text[p->at++];
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        if (letter == plain[i].letter) {
            *c = plain[i].means;
            return CRANK_OK;
        }
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++)
        if ((letter | 0x20) == classes[i].letter) {
            *values = letter == classes[i].letter ? classes[i].values : ~classes[i].values;
            return CRANK_OK;
        }
    switch (letter) {
    case 'p':
    case 'P':
        *values = parse_property(p, letter == 'P');
        return *values != 0 ? CRANK_OK : fail_at(p, start, "an unknown class");
    case 'x':
        if (peek(p, '{')) break;
        CRANK_TRY(parse_hex(p, 2, c));
        if (*c < 0x80) return CRANK_OK;
        break; /* beyond ASCII it is a byte of UTF-8 */
    case 'u':
        CRANK_TRY(parse_hex(p, 4, c));
        if (*c < 0xD800 || *c > 0xDFFF) return CRANK_OK;
        break;
    default:
        if (letter > 0x20 && letter < 0x7F && !(letter >= '0' && letter <= '9') &&
            !((letter | 0x20) >= 'a' && (letter | 0x20) <= 'z')) {
            *c = letter;
            return CRANK_OK;
        }
    }
    return fail_at(p, start, "an unknown escape");
}

static crank_status read_literal(parser *p, uint32_t *c)
{
    int n = utf8_decode(p->text + p->at, p->bytes - p->at, c);
    if (n < 0) return fail(p, CRANK_FORMAT, "invalid UTF-8");
    p->at += (size_t)n;
    return CRANK_OK;
}

/* After '['. Without case only letters and other characters of ASCII may stand in it: what folds
 * to several characters, or a class, is matched by Oniguruma in ways of its own. */
static crank_status parse_bracket(parser *p, bool ignore_case, unsigned *number)
{
    set_draft draft = {0, accept(p, '^'), p->n_ranges};
    bool empty = true;
    if (ignore_case && draft.negated)
        return fail(p, CRANK_UNSUPPORTED, "a negated bracket without case");
    while (!accept(p, ']') || empty) {
        if (p->at >= p->bytes) return fail(p, CRANK_FORMAT, "a bracket is not closed");
        if (empty && p->text[p->at - 1] == ']')
            return fail(p, CRANK_UNSUPPORTED, "an empty bracket");
        if (peek(p, '[') || accept_text(p, "&&"))
            return fail(p, CRANK_UNSUPPORTED, "a bracket in a bracket or an intersection");
        uint64_t values = 0;
        uint32_t first = 0, last;
        if (accept(p, '\\'))
            CRANK_TRY(parse_escape(p, &values, &first));
        else
            CRANK_TRY(read_literal(p, &first));
        empty = false;
        if (values != 0) {
            if (ignore_case) return fail(p, CRANK_UNSUPPORTED, "a class without case");
            draft.values |= values;
            continue;
        }
        last = first;
        if (peek(p, '-') && p->at + 1 < p->bytes && p->text[p->at + 1] != ']') {
            p->at++;
            if (accept(p, '\\'))
                CRANK_TRY(parse_escape(p, &values, &last));
            else
                CRANK_TRY(read_literal(p, &last));
            if (values != 0 || last < first) return fail(p, CRANK_FORMAT, "a range is no range");
        }
        if (ignore_case) {
            if (last >= 0x80) return fail(p, CRANK_UNSUPPORTED, "a character outside ASCII");
            for (uint32_t c = first; c <= last; c++) CRANK_TRY(add_char(p, c, true));
        } else {
            CRANK_TRY(add_range(p, first, last));
        }
    }
    return close_set(p, &draft, number);
}

static crank_status set_of_char(parser *p, uint32_t c, bool ignore_case, unsigned *number)
{
    set_draft draft = {0, false, p->n_ranges};
    CRANK_TRY(add_char(p, c, ignore_case));
    return close_set(p, &draft, number);
}

/* One character's worth of expression, as a set. */
static crank_status parse_single(parser *p, bool ignore_case, unsigned *number)
{
    set_draft draft = {0, false, p->n_ranges};
    uint32_t c = 0;
    if (ignore_case && peek(p, '.')) return fail(p, CRANK_UNSUPPORTED, "a class without case");
    if (accept(p, '[')) return parse_bracket(p, ignore_case, number);
    if (accept(p, '.')) { /* all but the line feed */
        draft.negated = true;
        CRANK_TRY(add_range(p, '\n', '\n'));
        return close_set(p, &draft, number);
    }
    if (accept(p, '\\')) {
        CRANK_TRY(parse_escape(p, &draft.values, &c));
        if (ignore_case && draft.values != 0)
            return fail(p, CRANK_UNSUPPORTED, "a class without case");
        return draft.values != 0 ? close_set(p, &draft, number)
                                 : set_of_char(p, c, ignore_case, number);
    }
    if (strchr("^$*+?{}", p->text[p->at]) != NULL && p->text[p->at] != 0)
        return fail(p, CRANK_UNSUPPORTED, "an anchor or a stray quantifier");
    CRANK_TRY(read_literal(p, &c));
    return set_of_char(p, c, ignore_case, number);
}

/* ---- structure -------------------------------------------------------------------------------*/

static crank_status parse_atom(parser *p, int depth, bool ignore_case)
{
    unsigned set;
    if (!accept(p, '(')) {
        CRANK_TRY(parse_single(p, ignore_case, &set));
        return emit(p, REGEX_CHAR, set, 0, 0);
    }
    bool ahead = accept_text(p, "?=");
    if (ahead || accept_text(p, "?!")) {
        if (p->at == p->bytes) return fail(p, CRANK_FORMAT, "a group is not closed");
        CRANK_TRY(parse_single(p, ignore_case, &set));
        if (!accept(p, ')')) return fail(p, CRANK_UNSUPPORTED, "look-ahead beyond one character");
        return emit(p, ahead ? REGEX_AHEAD : REGEX_NOT_AHEAD, set, 0, 0);
    }
    if (accept_text(p, "?i:"))
        ignore_case = true;
    else if (!accept_text(p, "?:") && peek(p, '?'))
        return fail(p, CRANK_UNSUPPORTED, "a special group");
    if (depth == REGEX_MAX_DEPTH) return fail(p, CRANK_UNSUPPORTED, "groups nested too deeply");
    CRANK_TRY(parse_alternatives(p, depth + 1, ignore_case));
    return accept(p, ')') ? CRANK_OK : fail(p, CRANK_FORMAT, "a group is not closed");
}

static crank_status parse_number(parser *p, int absent, int *out)
{
    *out = absent;
    for (bool first = true; p->at < p->bytes && p->text[p->at] >= '0' && p->text[p->at] <= '9';
         first = false) {
        *out = (first ? 0 : *out * 10) + (p->text[p->at++] - '0');
        if (*out > REGEX_MAX_REPEAT) return fail(p, CRANK_UNSUPPORTED, "a large repeat count");
    }
    return CRANK_OK;
}

/* least -1: no quantifier here; most -1: no upper end. */
typedef struct quantifier {
    int least, most;
    bool lazy, possessive;
} quantifier;

static crank_status parse_quantifier(parser *p, quantifier *q)
{
    int *least = &q->least, *most = &q->most;
    *q = (quantifier){.least = -1, .most = -1};
    bool counted = false;
    if (accept(p, '*')) {
        *least = 0;
    } else if (accept(p, '+')) {
        *least = 1;
    } else if (accept(p, '?')) {
        *least = 0;
        *most = 1;
    } else if (accept(p, '{')) {
        counted = true;
        CRANK_TRY(parse_number(p, -1, least));
        *most = *least;
        if (accept(p, ',')) {
            CRANK_TRY(parse_number(p, -1, most));
            if (*least < 0 && *most < 0) return fail(p, CRANK_FORMAT, "a repeat without a count");
            if (*least < 0) *least = 0;
        }
        if (*least < 0 || !accept(p, '}')) return fail(p, CRANK_FORMAT, "a malformed repeat");
        if (*most >= 0 && *most < *least)
            return fail(p, CRANK_UNSUPPORTED, "a repeat {n,m}, m < n");
    } else {
        return CRANK_OK;
    }
    /* In Oniguruma {n}? does not mean lazy and {n}+ repeats again: neither is worth having. */
    if (counted && (peek(p, '+') || peek(p, '?')))
        return fail(p, CRANK_UNSUPPORTED, "a quantifier after a count");
    q->lazy = accept(p, '?');
    q->possessive = !q->lazy && accept(p, '+');
    if (peek(p, '*') || peek(p, '+') || peek(p, '?') || peek(p, '{'))
        return fail(p, CRANK_UNSUPPORTED, "a repeated quantifier");
    return CRANK_OK;
}

static crank_status emit_split(parser *p, int wanted, int other, bool lazy)
{
    return emit(p, REGEX_SPLIT, 0, lazy ? other : wanted, lazy ? wanted : other);
}

static crank_status emit_copy(parser *p, const regex_code *block, size_t n)
{
    if (n > REGEX_MAX_CODE - p->n_code) return too_large(p);
    memcpy(p->code + p->n_code, block, n * sizeof *block);
    p->n_code += n;
    return CRANK_OK;
}

/* Can one get through the block without eating a character? (Look-ahead is taken to hold.) A
 * backtracking engine leaves a loop over such a block in ways that are its own. */
static bool block_is_empty(const regex_code *block, size_t n)
{
    bool taken[REGEX_MAX_CODE + 1] = {false};
    uint16_t stack[REGEX_MAX_CODE + 2];
    size_t depth = 0;
    stack[depth++] = 0;
    while (depth > 0) {
        size_t here = stack[--depth];
        if (here == n) return true;
        if (taken[here]) continue;
        taken[here] = true;
        const regex_code *code = &block[here];
        if (code->op == REGEX_CHAR) continue;
        if (code->op == REGEX_SPLIT) stack[depth++] = (uint16_t)((int)here + code->second);
        bool jumps = code->op == REGEX_SPLIT || code->op == REGEX_JUMP;
        stack[depth++] = (uint16_t)(jumps ? (int)here + code->first : (int)here + 1);
    }
    return false;
}

/* The block that begins at `start` is the atom; puts its repetition there instead. */
static crank_status repeat(parser *p, size_t start, int least, int most, bool lazy)
{
    regex_code block[REGEX_MAX_CODE];
    size_t n = p->n_code - start;
    memcpy(block, p->code + start, n * sizeof *block);
    if ((most < 0 || most > 1) && block_is_empty(block, n))
        return fail(p, CRANK_UNSUPPORTED, "a loop over what may be empty");
    p->n_code = start;
    for (int i = 0; i < least; i++) CRANK_TRY(emit_copy(p, block, n));
    if (most < 0 && least > 0) return emit_split(p, -(int)n, 1, lazy);
    if (most < 0) {
        CRANK_TRY(emit_split(p, 1, (int)n + 2, lazy));
        CRANK_TRY(emit_copy(p, block, n));
        return emit(p, REGEX_JUMP, 0, -(int)n - 1, 0);
    }
    /* (a(a(a)?)?)?: every split leaves for the end of all of them. */
    int left = (most - least) * ((int)n + 1);
    for (int i = least; i < most; i++, left -= (int)n + 1) {
        CRANK_TRY(emit_split(p, 1, left, lazy));
        CRANK_TRY(emit_copy(p, block, n));
    }
    return CRANK_OK;
}

/* X?+, X*+ and X++ of one character: once begun they take all there is and give nothing back, so
 * that no X stands behind them. */
static crank_status repeat_possessive(parser *p, size_t start, const quantifier *q)
{
    regex_code x = p->code[start];
    if (p->n_code != start + 1 || x.op != REGEX_CHAR)
        return fail(p, CRANK_UNSUPPORTED, "a possessive quantifier after a group");
    if (q->most < 0) {
        CRANK_TRY(repeat(p, start, q->least, q->most, false));
    } else { /* one X, or nothing where there is none */
        p->n_code = start;
        CRANK_TRY(emit_split(p, 1, 3, false));
        CRANK_TRY(emit_copy(p, &x, 1));
        CRANK_TRY(emit(p, REGEX_JUMP, 0, 2, 0));
    }
    return emit(p, REGEX_NOT_AHEAD, x.set, 0, 0);
}

/* Two letters in a row that together fold to one character (German sharp s and the ligatures). */
static bool folds_together(uint8_t a, uint8_t b)
{
    a |= 0x20;
    b |= 0x20;
    return (a == 's' && (b == 's' || b == 't')) || (a == 'f' && (b == 'f' || b == 'i' || b == 'l'));
}

static crank_status parse_sequence(parser *p, int depth, bool ignore_case)
{
    while (p->at < p->bytes && !peek(p, '|') && !peek(p, ')')) {
        size_t start = p->n_code;
        quantifier q;
        if (ignore_case && p->bytes - p->at > 1 &&
            folds_together(p->text[p->at], p->text[p->at + 1]))
            return fail(p, CRANK_UNSUPPORTED, "letters that fold together");
        CRANK_TRY(parse_atom(p, depth, ignore_case));
        CRANK_TRY(parse_quantifier(p, &q));
        if (q.possessive) {
            CRANK_TRY(repeat_possessive(p, start, &q));
        } else if (q.least >= 0) {
            CRANK_TRY(repeat(p, start, q.least, q.most, q.lazy));
        }
    }
    return CRANK_OK;
}

static crank_status parse_alternatives(parser *p, int depth, bool ignore_case)
{
    size_t leave[REGEX_MAX_CODE], n_leave = 0; /* jumps to the end of all alternatives */
    for (;;) {
        size_t start = p->n_code;
        CRANK_TRY(parse_sequence(p, depth, ignore_case));
        if (!accept(p, '|')) break;
        size_t n = p->n_code - start;
        CRANK_TRY(emit_split(p, 0, 0, false)); /* makes room; the block moves up by one */
        memmove(p->code + start + 1, p->code + start, n * sizeof p->code[0]);
        regex_code split = {REGEX_SPLIT, 0, 1, (int16_t)(n + 2)};
        p->code[start] = split;
        leave[n_leave++] = p->n_code;
        CRANK_TRY(emit(p, REGEX_JUMP, 0, 0, 0));
    }
    for (size_t i = 0; i < n_leave; i++) p->code[leave[i]].first = (int16_t)(p->n_code - leave[i]);
    return CRANK_OK;
}

static crank_status parse(parser *p, bool literal)
{
    if (literal) {
        while (p->at < p->bytes) {
            uint32_t c;
            unsigned set;
            CRANK_TRY(read_literal(p, &c));
            CRANK_TRY(set_of_char(p, c, false, &set));
            CRANK_TRY(emit(p, REGEX_CHAR, set, 0, 0));
        }
    } else {
        CRANK_TRY(parse_alternatives(p, 0, false));
        if (p->at < p->bytes) return fail(p, CRANK_FORMAT, "a parenthesis too many");
    }
    return emit(p, REGEX_MATCH, 0, 0, 0);
}

/* The ASCII characters that some first CHAR takes: one pass over what is reachable without eating,
 * done on the draft program. */
static void find_start(const regex_program *p, uint64_t start[2])
{
    uint8_t taken[REGEX_MAX_CODE] = {0};
    uint16_t stack[REGEX_MAX_CODE + 1];
    size_t depth = 0;
    stack[depth++] = 0;
    while (depth > 0) {
        unsigned here = stack[--depth];
        if (taken[here] != 0) continue;
        taken[here] = 1;
        const regex_code *code = &p->code[here];
        if (code->op == REGEX_CHAR) {
            start[0] |= p->sets[code->set].ascii[0];
            start[1] |= p->sets[code->set].ascii[1];
        } else if (code->op == REGEX_AHEAD || code->op == REGEX_NOT_AHEAD) {
            stack[depth++] = (uint16_t)(here + 1);
        } else if (code->op != REGEX_MATCH) {
            if (code->op == REGEX_SPLIT) stack[depth++] = (uint16_t)((int)here + code->second);
            stack[depth++] = (uint16_t)((int)here + code->first);
        }
    }
}

crank_status words_regex_put(image_builder *b, const char *pattern, size_t bytes, bool literal,
                             const char *where, crank_error *error)
{
    CRANK_CHECK(bytes > 0, FORMAT, error, "%s: an empty expression", where);
    parser *p = mem_zero(1, sizeof *p);
    CRANK_CHECK(p != NULL, OUT_OF_MEMORY, error, "%s: no memory", where);
    p->text = (const uint8_t *)pattern;
    p->bytes = bytes;
    p->where = where;
    p->error = error;
    crank_status status = parse(p, literal);
    if (status == CRANK_OK) {
        regex_header header = {
            (uint32_t)p->n_code, (uint32_t)p->n_sets, (uint32_t)p->n_ranges, REGEX_FORM, {0, 0}};
        regex_program program = {&header, p->code, p->sets, p->ranges};
        find_start(&program, header.start);
        if (regex_matches_empty(&program)) {
            status = status_fail(error, CRANK_UNSUPPORTED, "%s: \"%.*s\" matches the empty text",
                                 where, (int)(bytes < 200 ? bytes : 200), pattern);
        } else {
            image_put(b, &header, sizeof header);
            image_put(b, p->code, p->n_code * sizeof p->code[0]);
            image_put(b, p->sets, p->n_sets * sizeof p->sets[0]);
            image_put(b, p->ranges, p->n_ranges * sizeof p->ranges[0]);
        }
    }
    mem_free(p);
    return status;
}
