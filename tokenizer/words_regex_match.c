/* Running an expression: Pike's virtual machine. All ways through the program are followed at once,
 * one character at a time, in order of preference; a way that meets an instruction already taken at
 * this position by a better way dies. So a search costs at most code length times characters, and
 * finds what a backtracking engine would find first.
 *
 * A search may look far beyond the match it returns, and the next search again: that would be
 * quadratic for some expressions, so the instructions visited are counted across searches.
 * Source: Thompson 1968; Pike's sam; R. Cox, "Regular Expression Matching: the Virtual Machine
 * Approach". */
#include <string.h>

#include "tokenizer/words_regex_program.h"
#include "utf8.h"

#define END_OF_TEXT UINT32_MAX

typedef struct way {
    uint16_t at;
    size_t start;
} way;

typedef struct machine {
    regex_program p;
    size_t *work;
    uint32_t mark[REGEX_MAX_CODE]; /* the step at which an instruction was last taken */
    uint32_t step;
    way ways[2][REGEX_MAX_CODE];
    size_t n[2];
} machine;

static inline bool set_has(const machine *m, unsigned set, uint32_t c)
{
    const regex_set *s = &m->p.sets[set];
    if (c < 128) return (s->ascii[c >> 6] >> (c & 63) & 1) != 0;
    return c != END_OF_TEXT && regex_set_has(s, m->p.ranges, c);
}

/* Adds to list `side` every CHAR and MATCH that instruction `at` leads to without eating anything,
 * best first; next is the character ahead. */
static void follow(machine *m, int side, unsigned at, size_t start, uint32_t next)
{
    uint16_t stack[REGEX_MAX_CODE + 1];
    size_t depth = 0;
    stack[depth++] = (uint16_t)at;
    while (depth > 0) {
        unsigned here = stack[--depth];
        if (m->mark[here] == m->step) continue;
        m->mark[here] = m->step;
        (*m->work)++;
        const regex_code *code = &m->p.code[here];
        switch (code->op) {
        case REGEX_SPLIT:
            /* Each instruction is expanded once per step and pushes one net entry, hence the size
             * of the stack. */
            stack[depth++] = (uint16_t)((int)here + code->second);
            stack[depth++] = (uint16_t)((int)here + code->first);
            break;
        case REGEX_JUMP: stack[depth++] = (uint16_t)((int)here + code->first); break;
        case REGEX_AHEAD:
            if (set_has(m, code->set, next)) stack[depth++] = (uint16_t)(here + 1);
            break;
        case REGEX_NOT_AHEAD:
            if (!set_has(m, code->set, next)) stack[depth++] = (uint16_t)(here + 1);
            break;
        default:
            m->ways[side][m->n[side]].at = (uint16_t)here;
            m->ways[side][m->n[side]].start = start;
            m->n[side]++;
        }
    }
}

static inline uint32_t read_char(const uint8_t *text, size_t bytes, size_t at, size_t *width)
{
    uint32_t c = END_OF_TEXT;
    int n = at < bytes ? utf8_decode(text + at, bytes - at, &c) : 0;
    *width = (size_t)(n < 0 ? -n : n);
    return c;
}

bool words_regex_next(tok_section program, const uint8_t *text, size_t bytes, size_t from,
                      size_t *start, size_t *end, size_t *work)
{
    machine m;
    m.p = regex_view(program.at);
    m.work = work;
    m.step = 1;
    m.n[0] = m.n[1] = 0;
    memset(m.mark, 0, m.p.header->n_code * sizeof m.mark[0]);
    size_t limit =
        bytes < SIZE_MAX / (2 * WORDS_REGEX_WORK) ? (bytes + 64) * WORDS_REGEX_WORK : SIZE_MAX - 1;
    const uint64_t *begins = m.p.header->start;
    bool found = false;
    size_t at = from, width;
    int now = 0;
    uint32_t c = read_char(text, bytes, at, &width);
    for (;;) {
        if (m.n[now] == 0) {
            if (found) return true;
            m.step++;
            while (at < bytes && text[at] < 0x80 &&
                   (begins[text[at] >> 6] >> (text[at] & 63) & 1) == 0)
                at++;
            c = read_char(text, bytes, at, &width);
        }
        if (!found) follow(&m, now, 0, at, c);
        if (c == END_OF_TEXT && m.n[now] == 0) return found;
        if (*work > limit) {
            *work = SIZE_MAX;
            return false;
        }
        size_t next_width;
        uint32_t next = read_char(text, bytes, at + width, &next_width);
        m.step++;
        m.n[1 - now] = 0;
        for (size_t i = 0; i < m.n[now]; i++) {
            way w = m.ways[now][i];
            const regex_code *code = &m.p.code[w.at];
            if (code->op == REGEX_MATCH) {
                *start = w.start;
                *end = at;
                found = true;
                break; /* every way after this one is less wanted */
            }
            if (set_has(&m, code->set, c)) follow(&m, 1 - now, w.at + 1u, w.start, next);
        }
        if (c == END_OF_TEXT) return found;
        now = 1 - now;
        at += width;
        width = next_width;
        c = next;
    }
}

bool regex_matches_empty(const regex_program *p)
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
        if (code->op == REGEX_MATCH) return true;
        if (code->op == REGEX_SPLIT) stack[depth++] = (uint16_t)((int)here + code->second);
        if (code->op == REGEX_SPLIT || code->op == REGEX_JUMP)
            stack[depth++] = (uint16_t)((int)here + code->first);
        if (code->op == REGEX_AHEAD || code->op == REGEX_NOT_AHEAD)
            stack[depth++] = (uint16_t)(here + 1);
    }
    return false;
}

crank_status words_regex_check(tok_section program, crank_error *error)
{
    static const char what[] = "tokenizer image: regular expression";
    CRANK_CHECK(program.bytes >= sizeof(regex_header), FORMAT, error, "%s of %zu bytes", what,
                program.bytes);
    const regex_header *h = (const regex_header *)program.at;
    CRANK_CHECK(h->form == REGEX_FORM, UNSUPPORTED, error,
                "%s of form %u, this build reads %u: convert the model again", what, h->form,
                REGEX_FORM);
    CRANK_CHECK(h->n_code > 0 && h->n_code <= REGEX_MAX_CODE && h->n_sets <= REGEX_MAX_SETS &&
                    h->n_ranges <= REGEX_MAX_RANGES,
                FORMAT, error, "%s with %u instructions, %u sets, %u ranges", what, h->n_code,
                h->n_sets, h->n_ranges);
    size_t expected = sizeof *h + h->n_code * sizeof(regex_code) + h->n_sets * sizeof(regex_set) +
                      h->n_ranges * sizeof(regex_range);
    CRANK_CHECK(program.bytes == expected, FORMAT, error, "%s: %zu bytes where %zu are expected",
                what, program.bytes, expected);
    regex_program p = regex_view(program.at);
    for (uint32_t i = 0; i < h->n_code; i++) {
        const regex_code *code = &p.code[i];
        int64_t first = (int64_t)i + code->first, second = (int64_t)i + code->second;
        bool jumps = code->op == REGEX_SPLIT || code->op == REGEX_JUMP;
        bool reads =
            code->op == REGEX_CHAR || code->op == REGEX_AHEAD || code->op == REGEX_NOT_AHEAD;
        CRANK_CHECK(jumps || reads || code->op == REGEX_MATCH, FORMAT, error,
                    "%s: instruction %u is number %u", what, i, code->op);
        CRANK_CHECK(!jumps || (first >= 0 && first < h->n_code), FORMAT, error,
                    "%s: instruction %u jumps to %lld of %u", what, i, (long long)first, h->n_code);
        CRANK_CHECK(code->op != REGEX_SPLIT || (second >= 0 && second < h->n_code), FORMAT, error,
                    "%s: instruction %u jumps to %lld of %u", what, i, (long long)second,
                    h->n_code);
        CRANK_CHECK(!reads || code->set < h->n_sets, FORMAT, error,
                    "%s: instruction %u names set %u of %u", what, i, code->set, h->n_sets);
    }
    CRANK_CHECK(p.code[h->n_code - 1].op == REGEX_MATCH, FORMAT, error, "%s without an end", what);
    for (uint32_t i = 0; i < h->n_sets; i++)
        CRANK_CHECK((uint32_t)p.sets[i].first_range + p.sets[i].n_ranges <= h->n_ranges, FORMAT,
                    error, "%s: set %u names ranges %u to %u of %u", what, i, p.sets[i].first_range,
                    p.sets[i].first_range + p.sets[i].n_ranges, h->n_ranges);
    CRANK_CHECK(!regex_matches_empty(&p), FORMAT, error, "%s matches the empty text", what);
    return CRANK_OK;
}
