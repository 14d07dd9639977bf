/* Device-side printf and assert. nvcc packs printf's arguments into a local buffer, each aligned to
 * its size; floats arrive as doubles. Text goes to stdout (printf) and stderr (assert), as the CUDA
 * runtime does it. */
#include <stdio.h>
#include <string.h>

#include "kernels/emu/exec.h"

typedef struct print_context {
    const warp *w;
    uint32_t thread;
} print_context;

static const uint8_t *local_bytes(const print_context *c, uint64_t offset, uint32_t bytes)
{
    uint32_t room = c->w->block->launch->function->local_bytes;
    if (bytes > room || offset > room - bytes) return NULL;
    return c->w->block->local + (uint64_t)room * c->thread + offset;
}

/* A byte behind a generic pointer: module constants and local arrays, which is where texts are. */
static int read_byte(const print_context *c, uint64_t address, uint8_t *out)
{
    const device *memory = c->w->block->launch->memory;
    const uint8_t *from;
    if (address - GENERIC_LOCAL < GENERIC_WINDOW) {
        from = local_bytes(c, address - GENERIC_LOCAL, 1);
    } else {
        address = window_canonical(memory, address);
        from = window_holds(memory, address, 1) ? window_bytes(memory, address) : NULL;
    }
    if (from == NULL) return 0;
    *out = *from;
    return 1;
}

static void read_text(const print_context *c, uint64_t address, char *out, size_t bytes)
{
    size_t n = 0;
    uint8_t byte;
    while (n + 1 < bytes && read_byte(c, address + n, &byte) && byte != 0) out[n++] = (char)byte;
    out[n] = '\0';
}

static uint64_t read_value(const print_context *c, uint64_t address, uint32_t bytes)
{
    uint64_t value = 0;
    uint8_t *to = (uint8_t *)&value;
    for (uint32_t i = 0; i < bytes; i++)
        if (!read_byte(c, address + i, &to[i])) to[i] = 0;
    return value;
}

static uint64_t argument(const print_context *c, uint32_t offset, uint32_t bytes)
{
    uint64_t value = 0;
    const uint8_t *from = local_bytes(c, offset, bytes);
    if (from != NULL) memcpy(&value, from, bytes);
    return value;
}

/* One conversion: its letters go through snprintf with the argument's own type. */
static void print_conversion(const print_context *c, const char *conversion, uint64_t *at)
{
    char letter = conversion[strlen(conversion) - 1], text[512];
    int is_long = strchr(conversion, 'l') != NULL;
    int is_double = strchr("eEfFgGaA", letter) != NULL, is_pointer = letter == 's' || letter == 'p';
    uint32_t bytes = is_long || is_double || is_pointer ? 8 : 4;
    *at = (*at + bytes - 1) / bytes * bytes;
    uint64_t value = read_value(c, *at, bytes);
    *at += bytes;
    char format[40];
    if (letter == 's') {
        read_text(c, value, text, sizeof text);
        fputs(text, stdout);
        return;
    }
    /* The length letters are put back to match uint64_t. */
    size_t n = 0;
    for (const char *p = conversion; *p && n + 4 < sizeof format; p++)
        if (strchr("hlqjzt", *p) == NULL) format[n++] = *p;
    format[n] = '\0';
    if (is_double) {
        double number;
        memcpy(&number, &value, 8);
        snprintf(text, sizeof text, format, number);
    } else if (letter == 'p') {
        snprintf(text, sizeof text, "0x%llx", (unsigned long long)value);
    } else if (letter == 'c') {
        snprintf(text, sizeof text, format, (int)value);
    } else {
        int is_signed = letter == 'd' || letter == 'i';
        long long number = is_signed && bytes == 4 ? (long long)(int32_t)value : (long long)value;
        format[n - 1] = 'l';
        format[n] = 'l';
        format[n + 1] = letter;
        format[n + 2] = '\0';
        snprintf(text, sizeof text, format, number);
    }
    fputs(text, stdout);
}

void exec_print(warp *w, const insn *in, uint32_t mask)
{
    flockfile(stdout);
    for (uint32_t m = mask; m; m &= m - 1) {
        int lane = __builtin_ctz(m);
        print_context c = {.w = w, .thread = warp_thread(w, lane)};
        char format[1024];
        read_text(&c, argument(&c, in->r[0], 8), format, sizeof format);
        uint64_t at = argument(&c, in->r[1], 8);
        for (const char *p = format; *p; p++) {
            if (*p != '%') {
                fputc(*p, stdout);
                continue;
            }
            if (p[1] == '%') {
                fputc('%', stdout);
                p++;
                continue;
            }
            size_t n = 1 + strspn(p + 1, "-+ #0123456789.hlqjzt");
            char conversion[32];
            if (p[n] == '\0' || n + 1 >= sizeof conversion) break;
            memcpy(conversion, p, n + 1);
            conversion[n + 1] = '\0';
            print_conversion(&c, conversion, &at);
            p += n;
        }
        if (in->aux != UINT32_MAX) {
            uint32_t one = 1, room = w->block->launch->function->local_bytes;
            if (in->aux + 4 <= room)
                memcpy(w->block->local + (uint64_t)room * c.thread + in->aux, &one, 4);
        }
    }
    funlockfile(stdout);
}

void exec_assert(warp *w, const insn *in, uint32_t mask)
{
    int lane = __builtin_ctz(mask);
    print_context c = {.w = w, .thread = warp_thread(w, lane)};
    const block *b = w->block;
    char message[256], file[256];
    read_text(&c, argument(&c, in->r[0], 8), message, sizeof message);
    read_text(&c, argument(&c, in->r[1], 8), file, sizeof file);
    fprintf(stderr, "%s:%u: block: [%u,%u,%u], thread: %u: assertion `%s` failed\n", file,
            in->r[2] != UINT32_MAX ? (uint32_t)argument(&c, in->r[2], 4) : 0, b->id[0], b->id[1],
            b->id[2], c.thread, message);
    w->block->trapped = TRAPPED_BY_ASSERT;
}
