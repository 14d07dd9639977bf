/* Terminal output. Widths follow Unicode 15's East_Asian_Width W and F and general categories Mn,
 * Me, Cf in ranges coarse enough to be read: a wrong column costs alignment, never content. */
#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cli/terminal.h"

static int has_utf8, has_colour, is_dumb;
static int progress_is_shown;

void terminal_start(void)
{
    setlocale(LC_CTYPE, "");
    has_utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    const char *term = getenv("TERM"), *no_colour = getenv("NO_COLOR");
    is_dumb = !term || !*term || strcmp(term, "dumb") == 0;
    has_colour = !is_dumb && (!no_colour || !*no_colour);
    setlocale(LC_CTYPE, "C"); /* only the question was wanted */
}

int terminal_is(FILE *stream)
{
    return !is_dumb && isatty(fileno(stream));
}

int terminal_columns(FILE *stream)
{
    struct winsize size;
    if (ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col >= 20) return size.ws_col;
    return 80;
}

const char *terminal_style_of(FILE *stream, terminal_style style)
{
    static const char *const sequences[] = {"\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[32m",
                                            "\x1b[31m"};
    return has_colour && isatty(fileno(stream)) ? sequences[style] : "";
}

size_t utf8_next(const char *data, size_t bytes, uint32_t *code_point)
{
    const unsigned char *s = (const unsigned char *)data;
    *code_point = UTF8_BAD;
    if (s[0] < 0x80) {
        *code_point = s[0];
        return 1;
    }
    size_t width = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    if (s[0] < 0xC2 || s[0] > 0xF4) return 1;
    uint32_t value = s[0] & (0x7Fu >> width);
    for (size_t i = 1; i < width; i++) {
        if (i >= bytes || (s[i] & 0xC0) != 0x80) return i;
        /* The second byte decides overlongs, surrogates and the end of Unicode. */
        if (i == 1 && ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) ||
                       (s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F)))
            return 1;
        value = value << 6 | (s[i] & 0x3F);
    }
    *code_point = value;
    return width;
}

typedef struct span {
    uint32_t first, last;
} span;

static int in_spans(const span *spans, size_t n, uint32_t c)
{
    for (size_t i = 0; i < n; i++)
        if (c >= spans[i].first && c <= spans[i].last) return 1;
    return 0;
}

int terminal_width_of(uint32_t c)
{
    static const span unprintable[] = {
        {0x00, 0x1F},     {0x7F, 0x9F},     {0xAD, 0xAD},     {0x61C, 0x61C},   {0x200B, 0x200F},
        {0x2028, 0x202E}, {0x2060, 0x206F}, {0xFEFF, 0xFEFF}, {0xFFF9, 0xFFFB}, {0xE0000, 0xE0FFF},
    };
    static const span combining[] = {
        {0x300, 0x36F},   {0x483, 0x489},   {0x591, 0x5BD},   {0x610, 0x61A},   {0x64B, 0x65F},
        {0x6D6, 0x6DC},   {0x900, 0x902},   {0x93C, 0x93C},   {0x941, 0x948},   {0x94D, 0x94D},
        {0xE31, 0xE31},   {0xE34, 0xE3A},   {0xE47, 0xE4E},   {0x1AB0, 0x1ACE}, {0x1DC0, 0x1DFF},
        {0x20D0, 0x20F0}, {0x3099, 0x309A}, {0xFE00, 0xFE0F}, {0xFE20, 0xFE2F}, {0x1F3FB, 0x1F3FF},
    };
    static const span wide[] = {
        {0x1100, 0x115F},   {0x231A, 0x231B},   {0x23E9, 0x23EC},   {0x2614, 0x2615},
        {0x26A1, 0x26A1},   {0x2705, 0x2705},   {0x274C, 0x274C},   {0x2E80, 0x303E},
        {0x3041, 0x33FF},   {0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xA000, 0xA4CF},
        {0xA960, 0xA97F},   {0xAC00, 0xD7A3},   {0xF900, 0xFAFF},   {0xFE30, 0xFE6F},
        {0xFF00, 0xFF60},   {0xFFE0, 0xFFE6},   {0x16FE0, 0x18CFF}, {0x1B000, 0x1B2FF},
        {0x1F004, 0x1F004}, {0x1F0CF, 0x1F0CF}, {0x1F18E, 0x1F19A}, {0x1F200, 0x1F320},
        {0x1F32D, 0x1F64F}, {0x1F680, 0x1F6FC}, {0x1F7E0, 0x1F7EB}, {0x1F90C, 0x1F9FF},
        {0x1FA70, 0x1FAFF}, {0x20000, 0x3FFFD},
    };
    if (c >= 0x20 && c < 0x7F) return 1;
    if (in_spans(unprintable, sizeof unprintable / sizeof *unprintable, c)) return -1;
    if (in_spans(combining, sizeof combining / sizeof *combining, c)) return 0;
    return in_spans(wide, sizeof wide / sizeof *wide, c) ? 2 : 1;
}

/* Columns of the character at data as terminal_put prints it, and its bytes. */
static int step(const char *data, size_t bytes, size_t *width)
{
    uint32_t code_point;
    *width = utf8_next(data, bytes, &code_point);
    if (code_point == UTF8_BAD) return 1;
    int columns = terminal_width_of(code_point);
    return columns < 0 ? 1 : columns;
}

int terminal_text_width(const char *data, size_t bytes)
{
    int columns = 0;
    size_t width;
    for (size_t i = 0; i < bytes && columns < 1 << 20; i += width)
        columns += step(data + i, bytes - i, &width);
    return columns;
}

int terminal_put(FILE *to, const char *data, size_t bytes, int columns)
{
    if (columns <= 0) return 0;
    int room = columns, taken = 0;
    size_t width, i, fits = 0;
    int fits_columns = 0;
    const char *mark = has_utf8 ? "\xE2\x80\xA6" : "...";
    int mark_columns = has_utf8 ? 1 : 3;
    for (i = 0; i < bytes; i += width) {
        int next = step(data + i, bytes - i, &width);
        if (taken + next > room) break;
        taken += next;
        if (taken <= room - mark_columns) {
            fits = i + width;
            fits_columns = taken;
        }
    }
    if (i >= bytes) {
        fits = bytes;
        fits_columns = taken;
        mark_columns = 0;
    }
    for (i = 0; i < fits; i += width) {
        uint32_t code_point;
        width = utf8_next(data + i, fits - i, &code_point);
        if (code_point == UTF8_BAD)
            fputs(has_utf8 ? "\xEF\xBF\xBD" : "?", to);
        else if (terminal_width_of(code_point) < 0)
            putc(' ', to);
        else
            fwrite(data + i, 1, width, to);
    }
    if (mark_columns > 0 && mark_columns <= columns) fputs(mark, to);
    return fits_columns + (mark_columns <= columns ? mark_columns : 0);
}

void terminal_bar(FILE *to, double fraction, int columns)
{
    static const char *const eighths[] = {"",
                                          "\xE2\x96\x8F",
                                          "\xE2\x96\x8E",
                                          "\xE2\x96\x8D",
                                          "\xE2\x96\x8C",
                                          "\xE2\x96\x8B",
                                          "\xE2\x96\x8A",
                                          "\xE2\x96\x89"};
    fraction = fraction > 0 ? (fraction < 1 ? fraction : 1) : 0;
    int steps = (int)(fraction * columns * 8 + 0.5), at = 0;
    if (!has_utf8) {
        for (; at < (steps + 4) / 8; at++) putc('#', to);
    } else {
        for (; at < steps / 8; at++) fputs("\xE2\x96\x88", to);
        if (steps % 8) {
            fputs(eighths[steps % 8], to);
            at++;
        }
    }
    for (; at < columns; at++) putc(' ', to);
}

int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void progress_start(progress *p, const char *unit, progress_mode mode)
{
    *p = (progress){.unit = unit, .mode = mode, .fraction = -1};
    p->start_us = p->shown_us = now_us();
}

static void put_count(FILE *to, size_t n)
{
    if (n >= 1000) {
        put_count(to, n / 1000);
        fprintf(to, ",%03zu", n % 1000);
    } else {
        fprintf(to, "%zu", n);
    }
}

int progress_report(void *user, size_t done, size_t total)
{
    progress *p = user;
    if (cli_stopped()) return 1;
    int live = terminal_is(stderr);
    if (p->mode == PROGRESS_NEVER || (p->mode == PROGRESS_AUTO && !live)) return 0;
    int64_t now = now_us(), elapsed = now - p->start_us;
    int64_t wait = live ? 100000 : 1000000;
    if (elapsed < 1000000 || now - p->shown_us < wait) return 0;
    p->shown_us = now;
    done += p->before;
    if (p->total) total = p->total;
    double fraction = p->total_unknown ? p->fraction : total ? (double)done / (double)total : -1;
    if (live) {
        fprintf(stderr, "\r\x1b[K");
        if (fraction >= 0) {
            int width = terminal_columns(stderr) - 60;
            if (width >= 10) {
                putc('[', stderr);
                terminal_bar(stderr, fraction, width < 30 ? width : 30);
                fputs("] ", stderr);
            }
        }
        progress_is_shown = 1;
    }
    if (fraction >= 0) fprintf(stderr, "%3.0f%%  ", 100 * fraction);
    put_count(stderr, done);
    if (!p->total_unknown && total) {
        putc('/', stderr);
        put_count(stderr, total);
    }
    double seconds = (double)elapsed / 1e6;
    fprintf(stderr, " %s  %.0f %s/s", p->unit, (double)done / seconds, p->unit);
    if (fraction > 0.02) fprintf(stderr, "  %.0f s left", seconds * (1 - fraction) / fraction);
    if (!live) putc('\n', stderr);
    fflush(stderr);
    return 0;
}

void progress_hide(void)
{
    if (progress_is_shown) fputs("\r\x1b[K", stderr);
    progress_is_shown = 0;
}
