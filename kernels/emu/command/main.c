#include <stdarg.h>
#include <string.h>

#include "kernels/emu/command/command.h"
#include "memory.h"

#define MOST_ARGUMENTS 64

command_exit command_fail(command_exit code, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f) *p = '?';
    fprintf(stderr, "crank-emu: %s\n", text);
    return code;
}

static void print_help(void)
{
    fputs("usage: crank-emu [OPTION..] FILE KERNEL [ARGUMENT..]\n"
          "       crank-emu --list FILE\n"
          "\n"
          "Runs one kernel on a CPU, checks what a GPU does not check, and counts. FILE is PTX "
          "text or\n"
          "a fatbin with PTX in it, as nvcc makes it with\n"
          "  -fatbin -gencode arch=compute_80,code=compute_80 --compress-mode=none -lineinfo\n"
          "\n"
          "One ARGUMENT for each parameter of KERNEL:\n"
          "  TYPE:VALUE           u8 i8 f16 bf16 u32 i32 f32 u64 i64 f64\n"
          "  raw:HEX              the bytes of a structure passed by value\n"
          "  null                 a null pointer\n"
          "  buf:SIZE[,WORD..]    device memory; SIZE is BYTES (k, m, g) or COUNTxTYPE\n"
          "  file:PATH[,WORD..]   device memory with a file's bytes\n"
          "WORDs of a buffer, which holds nothing until it is filled (reading it is a finding):\n"
          "  zero  byte=N  value=X  iota  random[=SEED]  file=PATH\n"
          "                       random: floats in [-1, 1), integers in 0..99\n"
          "  as=TYPE              the type of its elements, where SIZE does not say\n"
          "  show[=N]             print the first N (8) elements afterwards\n"
          "  out=PATH             write all of it to a file afterwards\n"
          "\n"
          "  --list               print the kernels of FILE and the sizes of their arguments\n"
          "  --grid X[,Y[,Z]]     blocks (1)\n"
          "  --block X[,Y[,Z]]    threads of a block (32)\n"
          "  --shared BYTES       dynamic shared memory (0)\n"
          "  --checks LIST        all (default), none, or names; -NAME leaves one out\n"
          "  --order ORDER        forward (default), reverse, random: of blocks and warps\n"
          "  --orders             run in all three and compare the buffers\n"
          "  --seed N             of the random order (1)\n"
          "  --capability N       80 (default), 86, 89, 90\n"
          "  --threads N          CPU threads for independent blocks (1)\n"
          "  --steps N            warp instructions that a block may take (2^33)\n"
          "  --lines N            print the N busiest source lines\n"
          "  --json               one JSON object\n"
          "  --help               this text\n"
          "\n"
          "Checks:\n",
          stdout);
#define CHECK_HELP(name, bit, word, meaning) printf("  %-20s %s\n", word, meaning);
    EMU_CHECK_LIST(CHECK_HELP)
#undef CHECK_HELP
    fputs(
        "\n"
        "Exit: 0 nothing found; 1 a check found something, the kernel trapped, or orders differ;\n"
        "2 bad usage, or a file or launch that is refused; 5 out of memory.\n"
        "\n"
        "example: y[i] = a * x[i] + y[i] over 1000 floats\n"
        "  crank-emu --grid 4 --block 256 saxpy.fatbin saxpy f32:2 buf:1000xf32,iota \\\n"
        "      buf:1000xf32,value=1,show=4 i32:1000\n",
        stdout);
}

/* ---- options -----------------------------------------------------------------------------------
 */

static command_exit parse_extents(const char *option, const char *text, uint32_t *out)
{
    out[0] = out[1] = out[2] = 1;
    for (int i = 0; i < 3; i++) {
        char number[24];
        size_t length = strcspn(text, ",");
        uint64_t n;
        if (length >= sizeof number) break;
        memcpy(number, text, length);
        number[length] = 0;
        if (!command_size(number, &n) || n > UINT32_MAX) break;
        out[i] = (uint32_t)n;
        if (text[length] == 0) return COMMAND_OK;
        text += length + 1;
    }
    return command_fail(COMMAND_USAGE, "%s wants X, X,Y or X,Y,Z", option);
}

static bool find_check(const char *name, size_t length, uint32_t *check)
{
#define CHECK_MATCH(id, bit, word, meaning)                                                        \
    if (strlen(word) == length && memcmp(word, name, length) == 0) {                               \
        *check = 1u << (bit);                                                                      \
        return true;                                                                               \
    }
    EMU_CHECK_LIST(CHECK_MATCH)
#undef CHECK_MATCH
    return false;
}

static command_exit parse_checks(const char *text, uint32_t *checks)
{
    *checks = *text == '-' ? EMU_CHECK_ALL : 0;
    for (;; text++) {
        size_t length = strcspn(text, ",");
        bool off = *text == '-';
        uint32_t check = 0;
        if (length == 3 && memcmp(text, "all", 3) == 0)
            *checks = EMU_CHECK_ALL;
        else if (length == 4 && memcmp(text, "none", 4) == 0)
            *checks = 0;
        else if (find_check(text + off, length - off, &check))
            *checks = off ? *checks & ~check : *checks | check;
        else
            return command_fail(COMMAND_USAGE,
                                "--checks: there is no check \"%.*s\"; --help lists them",
                                (int)length, text);
        text += length;
        if (*text == 0) return COMMAND_OK;
    }
}

static command_exit parse_order(const char *text, uint32_t *order)
{
    static const char *const names[] = {"forward", "reverse", "random"};
    for (uint32_t i = 0; i < 3; i++)
        if (strcmp(text, names[i]) == 0) {
            *order = i;
            return COMMAND_OK;
        }
    return command_fail(COMMAND_USAGE, "--order wants forward, reverse or random, not \"%s\"",
                        text);
}

static command_exit parse_number(const char *option, const char *text, uint64_t low, uint64_t high,
                                 uint64_t *out)
{
    if (command_size(text, out) && *out >= low && *out <= high) return COMMAND_OK;
    return command_fail(COMMAND_USAGE, "%s wants a number from %llu to %llu, not \"%s\"", option,
                        (unsigned long long)low, (unsigned long long)high, text);
}

static bool takes_value(const char *name)
{
    static const char *const names[] = {"--grid",   "--block", "--checks",     "--order",
                                        "--shared", "--seed",  "--capability", "--threads",
                                        "--steps",  "--lines"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0) return true;
    return false;
}

static command_exit set_option(command *c, const char *name, const char *value)
{
    uint64_t n = 0;
    command_exit code;
    if (strcmp(name, "--grid") == 0) return parse_extents(name, value, c->grid);
    if (strcmp(name, "--block") == 0) return parse_extents(name, value, c->block);
    if (strcmp(name, "--checks") == 0) return parse_checks(value, &c->options.checks);
    if (strcmp(name, "--order") == 0) return parse_order(value, &c->options.schedule);
    if (strcmp(name, "--shared") == 0) {
        code = parse_number(name, value, 0, 1 << 20, &n);
        c->shared_bytes = (uint32_t)n;
    } else if (strcmp(name, "--seed") == 0) {
        code = parse_number(name, value, 0, UINT64_MAX, &c->options.seed);
    } else if (strcmp(name, "--capability") == 0) {
        code = parse_number(name, value, 80, 129, &n);
        c->options.capability = (uint32_t)n;
    } else if (strcmp(name, "--threads") == 0) {
        code = parse_number(name, value, 1, 256, &n);
        c->options.threads = (uint32_t)n;
    } else if (strcmp(name, "--steps") == 0) {
        code = parse_number(name, value, 1, UINT64_MAX, &c->options.step_limit);
    } else {
        code = parse_number(name, value, 1, 1000, &n);
        c->n_lines = (uint32_t)n;
    }
    return code;
}

/* Options may stand anywhere; what is none goes to words. */
static command_exit parse_options(command *c, int argc, char **argv, const char **words,
                                  size_t *n_words)
{
    bool only_words = false;
    for (int i = 1; i < argc; i++) {
        char name[24];
        const char *given = argv[i], *equals = strchr(given, '=');
        if (only_words || given[0] != '-' || given[1] == 0) {
            if (*n_words == MOST_ARGUMENTS + 2)
                return command_fail(COMMAND_USAGE, "more than %d arguments", MOST_ARGUMENTS);
            words[(*n_words)++] = given;
            continue;
        }
        bool *flag = strcmp(given, "--json") == 0     ? &c->json
                     : strcmp(given, "--list") == 0   ? &c->list
                     : strcmp(given, "--orders") == 0 ? &c->orders
                     : strcmp(given, "--") == 0       ? &only_words
                                                      : NULL;
        if (flag != NULL) {
            *flag = true;
            continue;
        }
        size_t length = equals != NULL ? (size_t)(equals - given) : strlen(given);
        if (length >= sizeof name)
            return command_fail(COMMAND_USAGE, "no option %s; --help lists them", given);
        memcpy(name, given, length);
        name[length] = 0;
        if (!takes_value(name))
            return command_fail(COMMAND_USAGE, "no option %s; --help lists them", name);
        const char *value = equals != NULL ? equals + 1 : i + 1 < argc ? argv[++i] : NULL;
        if (value == NULL) return command_fail(COMMAND_USAGE, "%s wants a value", name);
        command_exit code = set_option(c, name, value);
        if (code != COMMAND_OK) return code;
    }
    return COMMAND_OK;
}

static command_exit write_buffers(const command *c)
{
    for (size_t i = 0; i < c->n_arguments; i++) {
        const argument *a = &c->arguments[i];
        if (a->out_path == NULL || a->result == NULL) continue;
        command_exit code = command_write_file(a->out_path, a->result, a->n_bytes);
        if (code != COMMAND_OK) return code;
    }
    return COMMAND_OK;
}

static command_exit run_kernel(command *c, const char *const *words, size_t n_words)
{
    if (n_words < 2) return command_fail(COMMAND_USAGE, "FILE and KERNEL are missing; see --help");
    c->kernel = words[1];
    c->n_arguments = n_words - 2;
    command_exit code = COMMAND_OK;
    for (size_t i = 0; i < c->n_arguments && code == COMMAND_OK; i++)
        code = argument_parse(&c->arguments[i], words[i + 2]);
    if (code == COMMAND_OK) code = command_run(c);
    if (code == COMMAND_OK) code = write_buffers(c);
    if (code == COMMAND_OK) code = command_print(c);
    return code;
}

int main(int argc, char **argv)
{
    static argument arguments[MOST_ARGUMENTS];
    command c = {.grid = {1, 1, 1}, .block = {32, 1, 1}, .arguments = arguments};
    const char *words[MOST_ARGUMENTS + 2];
    size_t n_words = 0;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help();
            return COMMAND_OK;
        }
    emu_defaults(&c.options);
    c.options.tolerant = 1; /* a finding must not hide what comes after it */
    command_exit code = parse_options(&c, argc, argv, words, &n_words);
    if (code == COMMAND_OK && n_words == 0)
        code = command_fail(COMMAND_USAGE, "FILE is missing; see --help");
    if (code == COMMAND_OK) c.file = words[0];
    if (code == COMMAND_OK && c.list)
        code = n_words == 1 ? command_list(&c)
                            : command_fail(COMMAND_USAGE, "--list takes one file and nothing else");
    else if (code == COMMAND_OK)
        code = run_kernel(&c, words, n_words);
    for (size_t i = 0; i < MOST_ARGUMENTS; i++) argument_close(&arguments[i]);
    mem_free(c.findings);
    mem_free(c.lines);
    if (fflush(stdout) != 0 && code < COMMAND_USAGE)
        code = command_fail(COMMAND_USAGE, "stdout cannot be written");
    return (int)code;
}
