#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kernels/emu/command/command.h"
#include "kernels/emu/half.h"
#include "memory.h"

#define MOST_BYTES (UINT64_C(1) << 31)

const char *const element_names[N_ELEMENTS] = {
#define ELEMENT_NAME(name, bytes) #name,
    ELEMENT_LIST(ELEMENT_NAME)
#undef ELEMENT_NAME
};

static const uint32_t element_bytes[N_ELEMENTS] = {
#define ELEMENT_BYTES(name, bytes) bytes,
    ELEMENT_LIST(ELEMENT_BYTES)
#undef ELEMENT_BYTES
};

/* ---- files and numbers -------------------------------------------------------------------------
 */

command_exit command_read_file(const char *path, uint8_t **bytes, size_t *n_bytes)
{
    *bytes = NULL;
    FILE *file = fopen(path, "rb");
    if (file == NULL) return command_fail(COMMAND_USAGE, "%s: %s", path, strerror(errno));
    size_t used = 0, room = 64 * 1024;
    uint8_t *text = mem_alloc(room + 1);
    while (text != NULL) {
        used += fread(text + used, 1, room - used, file);
        if (used < room || used >= MOST_BYTES) break;
        room *= 2;
        uint8_t *bigger = mem_resize(text, room + 1, 1);
        if (bigger == NULL) mem_free(text);
        text = bigger;
    }
    int failed = ferror(file);
    fclose(file);
    if (text == NULL) return command_fail(COMMAND_MEMORY, "%s: no memory for it", path);
    if (failed || used >= MOST_BYTES) {
        mem_free(text);
        return command_fail(COMMAND_USAGE, "%s: %s", path,
                            failed ? "cannot be read" : "2 GiB or larger");
    }
    text[used] = 0;
    *bytes = text;
    *n_bytes = used;
    return COMMAND_OK;
}

command_exit command_write_file(const char *path, const uint8_t *bytes, size_t n_bytes)
{
    size_t length = strlen(path);
    char *part = mem_alloc(length + 6);
    if (part == NULL) return command_fail(COMMAND_MEMORY, "%s: no memory", path);
    struct stat about;
    bool in_place = stat(path, &about) == 0 && !S_ISREG(about.st_mode); /* a device, a pipe */
    memcpy(part, path, length);
    memcpy(part + length, in_place ? "" : ".part", in_place ? 1 : 6);
    FILE *file = fopen(part, "wb");
    int failed = file == NULL || fwrite(bytes, 1, n_bytes, file) != n_bytes;
    if (file != NULL) failed |= fclose(file) != 0;
    if (!failed && !in_place) failed = rename(part, path) != 0;
    int reason = errno;
    if (failed && file != NULL && !in_place) remove(part);
    mem_free(part);
    if (failed) return command_fail(COMMAND_USAGE, "%s: %s", path, strerror(reason));
    return COMMAND_OK;
}

bool command_size(const char *text, uint64_t *out)
{
    char *end;
    if (*text < '0' || *text > '9') return false;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 0);
    int shift = *end == 'k' ? 10 : *end == 'm' ? 20 : *end == 'g' ? 30 : 0;
    end += shift != 0;
    *out = (uint64_t)n << shift;
    return *end == 0 && errno == 0 && n <= UINT64_MAX >> shift;
}

static bool find_element(const char *name, size_t length, element *type)
{
    for (int i = 0; i < N_ELEMENTS; i++)
        if (strlen(element_names[i]) == length && memcmp(element_names[i], name, length) == 0) {
            *type = (element)i;
            return true;
        }
    return false;
}

/* Element `index` of bytes gets x, rounded to its type. */
static void put(uint8_t *bytes, element type, size_t index, double x)
{
    uint8_t *at = bytes + index * element_bytes[type];
    float single = (float)x;
    uint16_t half;
    int64_t whole = (int64_t)x;
    switch (type) {
    case ELEMENT_f16:
        half = float_to_half(single);
        memcpy(at, &half, 2);
        break;
    case ELEMENT_bf16:
        half = float_to_bf16(single);
        memcpy(at, &half, 2);
        break;
    case ELEMENT_f32: memcpy(at, &single, 4); break;
    case ELEMENT_f64: memcpy(at, &x, 8); break;
    default: memcpy(at, &whole, element_bytes[type]); break; /* two's complement, low bytes first */
    }
}

static void print_float(char *out, size_t room, int digits, double x)
{
    if (isnan(x)) /* printf would show its sign, which means nothing */
        snprintf(out, room, "nan");
    else
        snprintf(out, room, "%.*g", digits, x);
}

void argument_number(char *out, size_t room, element type, const uint8_t *bytes, size_t index)
{
    const uint8_t *at = bytes + index * element_bytes[type];
    uint16_t half;
    float single;
    double x;
    int64_t whole = 0;
    memcpy(&whole, at, element_bytes[type]);
    switch (type) {
    case ELEMENT_f16:
        memcpy(&half, at, 2);
        print_float(out, room, 5, (double)half_to_float(half));
        break;
    case ELEMENT_bf16:
        memcpy(&half, at, 2);
        print_float(out, room, 4, (double)bf16_to_float(half));
        break;
    case ELEMENT_f32:
        memcpy(&single, at, 4);
        print_float(out, room, 9, (double)single);
        break;
    case ELEMENT_f64:
        memcpy(&x, at, 8);
        print_float(out, room, 17, x);
        break;
    case ELEMENT_i8: snprintf(out, room, "%d", (int)(int8_t)whole); break;
    case ELEMENT_i32: snprintf(out, room, "%d", (int)(int32_t)whole); break;
    case ELEMENT_u64: snprintf(out, room, "%llu", (unsigned long long)whole); break;
    default: snprintf(out, room, "%lld", (long long)whole); break;
    }
}

/* ---- values ------------------------------------------------------------------------------------
 */

static command_exit bad(const argument *a, const char *why)
{
    return command_fail(COMMAND_USAGE, "argument \"%s\": %s", a->text, why);
}

static command_exit parse_value(argument *a, element type, const char *text)
{
    char *end;
    a->n_bytes = element_bytes[type];
    a->bytes = mem_zero(a->n_bytes, 1);
    if (a->bytes == NULL) return command_fail(COMMAND_MEMORY, "no memory");
    errno = 0;
    if (type == ELEMENT_f16 || type == ELEMENT_bf16 || type == ELEMENT_f32 || type == ELEMENT_f64) {
        double x = strtod(text, &end);
        put(a->bytes, type, 0, x);
    } else {
        uint64_t whole = *text == '-' ? (uint64_t)strtoll(text, &end, 0) : strtoull(text, &end, 0);
        int bits = 8 * (int)element_bytes[type];
        bool is_signed = type == ELEMENT_i8 || type == ELEMENT_i32 || type == ELEMENT_i64;
        if (!is_signed && *text == '-') return bad(a, "an unsigned type has no minus");
        /* What is cut off must be the sign of what is left. */
        uint64_t high = bits == 64 ? 0 : whole >> (is_signed ? bits - 1 : bits);
        uint64_t ones = UINT64_MAX >> (is_signed ? bits - 1 : bits == 64 ? 0 : bits);
        if (bits < 64 && high != 0 && !(is_signed && *text == '-' && high == ones))
            return bad(a, "the number does not fit its type");
        memcpy(a->bytes, &whole, a->n_bytes);
    }
    if (end == text || *end != 0 || errno == ERANGE) return bad(a, "not a number of its type");
    return COMMAND_OK;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static command_exit parse_raw(argument *a, const char *text)
{
    size_t digits = strlen(text);
    if (digits == 0 || digits % 2 != 0) return bad(a, "raw: wants pairs of hexadecimal digits");
    a->n_bytes = digits / 2;
    a->bytes = mem_zero(a->n_bytes, 1);
    if (a->bytes == NULL) return command_fail(COMMAND_MEMORY, "no memory");
    for (size_t i = 0; i < digits; i++) {
        int digit = hex_digit(text[i]);
        if (digit < 0) return bad(a, "raw: wants pairs of hexadecimal digits");
        a->bytes[i / 2] = (uint8_t)(a->bytes[i / 2] << 4 | digit);
    }
    return COMMAND_OK;
}

/* ---- buffers -----------------------------------------------------------------------------------
 */

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15)); /* splitmix64 */
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

typedef enum fill { FILL_NONE, FILL_BYTE, FILL_VALUE, FILL_COUNT, FILL_RANDOM, FILL_FILE } fill;

static command_exit fill_bytes(argument *a, fill how, double value, uint64_t seed)
{
    if (how == FILL_NONE) return COMMAND_OK;
    a->bytes = mem_zero(a->n_bytes ? a->n_bytes : 1, 1);
    if (a->bytes == NULL)
        return command_fail(COMMAND_MEMORY, "no memory for %zu bytes", a->n_bytes);
    if (how == FILL_BYTE) memset(a->bytes, (int)value, a->n_bytes);
    bool whole = a->type != ELEMENT_f16 && a->type != ELEMENT_bf16 && a->type != ELEMENT_f32 &&
                 a->type != ELEMENT_f64;
    for (size_t i = 0; how != FILL_BYTE && i < a->n_bytes / element_bytes[a->type]; i++) {
        if (how == FILL_RANDOM) {
            uint64_t bits = next_random(&seed);
            value = whole ? (double)(bits % 100) : (double)(int64_t)bits * 0x1p-63;
        }
        put(a->bytes, a->type, i, how == FILL_COUNT ? (double)i : value);
    }
    return COMMAND_OK;
}

static command_exit take_file(argument *a, const char *path, bool sized)
{
    uint8_t *bytes;
    size_t n_bytes;
    command_exit code = command_read_file(path, &bytes, &n_bytes);
    if (code != COMMAND_OK) return code;
    a->bytes = bytes;
    if (sized && n_bytes != a->n_bytes) {
        return command_fail(COMMAND_USAGE, "argument \"%s\": %s has %zu bytes, the buffer %zu",
                            a->text, path, n_bytes, a->n_bytes);
    }
    a->n_bytes = n_bytes;
    return COMMAND_OK;
}

/* "1024", "64k", "1024xf32" */
static command_exit parse_extent(argument *a, char *text)
{
    char *times = strchr(text, 'x');
    uint64_t n;
    if (times != NULL && !(text[0] == '0' && times == text + 1)) {
        if (!find_element(times + 1, strlen(times + 1), &a->type))
            return bad(a, "the size is BYTES or COUNTxTYPE");
        *times = 0;
    }
    if (!command_size(text, &n)) return bad(a, "the size is BYTES or COUNTxTYPE");
    if (n > MOST_BYTES / element_bytes[a->type]) return bad(a, "a buffer has at most 2 GiB");
    a->n_bytes = (size_t)n * element_bytes[a->type];
    return COMMAND_OK;
}

/* The words behind the first comma. */
static command_exit parse_words(argument *a, char *words, const char *path, bool sized)
{
    fill how = path != NULL ? FILL_FILE : FILL_NONE;
    double value = 0;
    uint64_t seed = 1, n;
    for (char *word = words, *next; word != NULL; word = next) {
        next = strchr(word, ',');
        if (next != NULL) *next++ = 0;
        char *equals = strchr(word, '='), *end = NULL;
        const char *given = equals != NULL ? equals + 1 : "";
        if (equals != NULL) *equals = 0;
        bool filled = how != FILL_NONE;
        if (strcmp(word, "out") == 0 && *given) {
            a->out_path = given;
        } else if (strcmp(word, "show") == 0) {
            n = 8;
            if (equals != NULL && (!command_size(given, &n) || n > 1000000))
                return bad(a, "show=N, at most 1000000");
            a->n_shown = (uint32_t)n;
        } else if (strcmp(word, "as") == 0) {
            if (!find_element(given, strlen(given), &a->type))
                return bad(a, "as=TYPE: no such type");
        } else if (filled) {
            return bad(a, "it is filled twice");
        } else if (strcmp(word, "zero") == 0 && equals == NULL) {
            how = FILL_BYTE;
        } else if (strcmp(word, "byte") == 0 && command_size(given, &n) && n < 256) {
            how = FILL_BYTE;
            value = (double)n;
        } else if (strcmp(word, "value") == 0 && *given) {
            how = FILL_VALUE;
            value = strtod(given, &end);
            if (*end != 0 || fabs(value) > 0x1p62) return bad(a, "value=X: not a number");
        } else if (strcmp(word, "iota") == 0 && equals == NULL) {
            how = FILL_COUNT;
        } else if (strcmp(word, "random") == 0) {
            how = FILL_RANDOM;
            if (equals != NULL && !command_size(given, &seed)) return bad(a, "random=SEED");
        } else if (strcmp(word, "file") == 0 && *given) {
            how = FILL_FILE;
            path = given;
        } else {
            return bad(a, "words are zero, byte=N, value=X, iota, random[=SEED], file=PATH, "
                          "as=TYPE, show[=N], out=PATH");
        }
    }
    if (how == FILL_FILE) return take_file(a, path, sized);
    return fill_bytes(a, how, value, seed);
}

command_exit argument_parse(argument *a, const char *text)
{
    *a = (argument){.text = text};
    const char *colon = strchr(text, ':');
    if (strcmp(text, "null") == 0) return parse_value(a, ELEMENT_u64, "0");
    if (colon == NULL)
        return bad(a, "it is TYPE:VALUE, raw:HEX, buf:SIZE[,...], file:PATH or null");
    if (find_element(text, (size_t)(colon - text), &a->type))
        return parse_value(a, a->type, colon + 1);
    if (strncmp(text, "raw:", 4) == 0) return parse_raw(a, text + 4);
    bool is_file = strncmp(text, "file:", 5) == 0;
    if (!is_file && strncmp(text, "buf:", 4) != 0)
        return bad(a, "it is TYPE:VALUE, raw:HEX, buf:SIZE[,...], file:PATH or null");
    a->is_buffer = true;
    a->type = ELEMENT_u8;
    a->copy = mem_strdup(colon + 1);
    if (a->copy == NULL) return command_fail(COMMAND_MEMORY, "no memory");
    char *words = strchr(a->copy, ',');
    if (words != NULL) *words++ = 0;
    if (!is_file) {
        command_exit code = parse_extent(a, a->copy);
        if (code != COMMAND_OK) return code;
    }
    command_exit code = parse_words(a, words, is_file ? a->copy : NULL, !is_file);
    if (code == COMMAND_OK && a->n_bytes == 0) return bad(a, "an empty buffer; null is a pointer");
    return code;
}

void argument_close(argument *a)
{
    mem_free(a->bytes);
    mem_free(a->copy);
    mem_free(a->result);
    *a = (argument){0};
}
