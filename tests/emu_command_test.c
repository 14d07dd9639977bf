/* crank-emu as its user sees it: what it prints, what it writes, its exit codes. Kernels are PTX
 * text, so this runs without nvcc; bugs.fatbin is used where there is one. */
#define _POSIX_C_SOURCE 200809L
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROGRAM CRANK_BINARY_DIR "/crank-emu"

/* out[i] = a * in[i]; out[1000] = 1 when n is not 0; a block adds to out[0]; a trap; an endless
 * loop.
 */
static const char kernels[] =
    ".version 8.0\n.target sm_80\n.address_size 64\n"
    ".visible .entry scale(.param .u64 from, .param .u64 to, .param .f32 a)\n{\n"
    ".reg .b32 %r<4>; .reg .f32 %f<4>; .reg .b64 %rd<6>;\n"
    "ld.param.u64 %rd1, [from]; ld.param.u64 %rd2, [to]; ld.param.f32 %f1, [a];\n"
    "mov.u32 %r1, %tid.x; mul.wide.u32 %rd3, %r1, 4; add.s64 %rd4, %rd1, %rd3;\n"
    "add.s64 %rd5, %rd2, %rd3; ld.global.f32 %f2, [%rd4]; mul.f32 %f3, %f1, %f2;\n"
    "st.global.f32 [%rd5], %f3; ret;\n}\n"
    ".visible .entry last_block(.param .u64 to)\n{\n"
    ".reg .b32 %r<4>; .reg .b64 %rd<6>;\n"
    "ld.param.u64 %rd1, [to]; mov.u32 %r1, %ctaid.x; st.global.u32 [%rd1], %r1; ret;\n}\n"
    ".visible .entry trapped(.param .u64 to)\n{\n trap; ret;\n}\n"
    ".visible .entry spin(.param .u64 to)\n{\n again: bra again;\n}\n";

static char folder[64], file[128];

static void setup(void)
{
    snprintf(folder, sizeof folder, "/tmp/crank-emu-XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/k.ptx", folder);
    FILE *f = fopen(file, "w");
    cr_assert_not_null(f);
    fputs(kernels, f);
    fclose(f);
}

static void clean(void)
{
    char line[128];
    snprintf(line, sizeof line, "rm -rf %s", folder);
    if (system(line) != 0) fprintf(stderr, "%s stays\n", folder);
}

TestSuite(emu_command, .init = setup, .fini = clean);

/* Runs the program; its stdout, then its stderr, and its exit code. */
static int run(char *out, size_t room, const char *words)
{
    char line[2048];
    snprintf(line, sizeof line, "cd %s && %s %s 2>errors; code=$?; cat errors; exit $code", folder,
             PROGRAM, words);
    FILE *f = popen(line, "r");
    cr_assert_not_null(f);
    size_t n = fread(out, 1, room - 1, f);
    out[n] = 0;
    int status = pclose(f);
    cr_assert(WIFEXITED(status), "%s: %s", words, out);
    return WEXITSTATUS(status);
}

static void expect(const char *words, int code, const char *text)
{
    char out[32768];
    int got = run(out, sizeof out, words);
    cr_expect_eq(got, code, "%s: exit %d, expected %d: %s", words, got, code, out);
    cr_expect_not_null(strstr(out, text), "%s: no \"%s\" in %s", words, text, out);
}

Test(emu_command, help_answers_with_an_example_and_every_check)
{
    expect("--help", 0, "\nexample:");
    expect("--help", 0, "\n  shared-race ");
    expect("scale --help", 0, "usage: crank-emu");
}

Test(emu_command, kernels_are_listed_with_their_arguments)
{
    expect("--list k.ptx", 0,
           "scale: at most 1024 threads, 0 bytes of static shared memory, arguments of 8, 8, 4 "
           "bytes\n");
    expect("--list k.ptx scale", 2, "--list takes one file");
}

Test(emu_command, a_clean_kernel_gives_its_result)
{
    expect("k.ptx scale buf:32xf32,iota buf:32xf32,show=5 f32:0.5", 0, "nothing found\n");
    expect("k.ptx scale buf:32xf32,iota buf:32xf32,show=5 f32:0.5", 0,
           "argument 2, f32: 0 0.5 1 1.5 2\n");
    expect("k.ptx scale buf:128,as=f32,value=-3 buf:128,show,as=i32 f32:-1", 0,
           "argument 2, i32: 1077936128 ");
    expect("k.ptx scale buf:32xf32,random buf:32xf32 f32:2 --orders", 0,
           "nothing found in three orders\n");
}

Test(emu_command, buffers_come_from_files_and_go_to_files)
{
    expect("k.ptx scale buf:32xf32,iota buf:32xf32,out=one f32:3", 0, "nothing found");
    expect("k.ptx scale file:one buf:32xf32,show=3,out=two f32:2", 0, "f32: 0 6 12\n");
    expect("k.ptx scale buf:128,file=two buf:128,as=f32,show=3 f32:0.5", 0, "f32: 0 3 6\n");
    expect("k.ptx scale buf:64,file=two buf:128 f32:1", 2, "two has 128 bytes, the buffer 64");
    expect("k.ptx scale file:none buf:128 f32:1", 2, "none: No such file");
    expect("k.ptx scale file:one buf:32xf32,out=/nowhere/x f32:1", 2, "/nowhere/x: No such file");
}

Test(emu_command, findings_end_with_1_and_name_what_they_are)
{
    expect("k.ptx scale buf:32xf32 buf:32xf32 f32:1", 1, "\n1 finding\n  global-init: ");
    expect("k.ptx scale buf:32xf32 buf:32xf32 f32:1 --checks -global-init", 0, "nothing found");
    expect("k.ptx scale buf:32xf32 buf:32xf32 f32:1 --checks none", 0, "nothing found");
    expect("k.ptx scale buf:32xf32 buf:32xf32 f32:1 --checks=leak,global-init", 1, "global-init");
    expect("k.ptx scale buf:32xf32,zero buf:31xf32 f32:1", 1, "global-bounds: write of 4 bytes");
    expect("k.ptx last_block buf:4,as=u32,show --grid 3 --block 1 --orders", 1,
           "the result depends on the order of blocks and warps: argument 1, byte 0: 0x02 in "
           "order forward, 0x00 in order reverse");
    expect("k.ptx trapped null", 1,
           "the launch failed: CUDA_ERROR_LAUNCH_FAILED: launch of "
           "trapped: trap");
    expect("k.ptx spin null --steps 100", 1, "CUDA_ERROR_LAUNCH_TIMEOUT");
}

Test(emu_command, misuse_is_named_and_ends_with_2)
{
    static const char *const rows[][2] = {
        {"", "FILE is missing"},
        {"k.ptx", "FILE and KERNEL are missing"},
        {"none.ptx scale", "none.ptx: No such file"},
        {"errors scale", "errors: an empty file"},
        {"/bin/true scale", "a cubin alone"},
        {"k.ptx nobody", "no kernel nobody"},
        {"k.ptx scale null null", "scale takes 3 arguments, 2 are given"},
        {"k.ptx scale null null f32:1 f32:2", "scale takes 3 arguments, 4 are given"},
        {"k.ptx scale null i32:1 f32:1", "argument 2 of scale has 8 bytes, \"i32:1\" gives 4"},
        {"k.ptx scale null null f32:x", "not a number of its type"},
        {"k.ptx scale null null u8:256", "does not fit"},
        {"k.ptx scale null null i8:-129", "does not fit"},
        {"k.ptx scale null null u32:-1", "no minus"},
        {"k.ptx scale null null raw:123", "pairs of hexadecimal digits"},
        {"k.ptx scale buf:12x null f32:1", "BYTES or COUNTxTYPE"},
        {"k.ptx scale buf:3g null f32:1", "at most 2 GiB"},
        {"k.ptx scale buf:4,zero,iota null f32:1", "filled twice"},
        {"k.ptx scale buf:4,bogus null f32:1", "words are"},
        {"k.ptx scale null null f32:1 --grid 0", "grid (0,1,1)"},
        {"k.ptx scale null null f32:1 --block 1,2,3,4", "X,Y,Z"},
        {"k.ptx scale null null f32:1 --block 2048", "block (2048,1,1)"},
        {"k.ptx scale null null f32:1 --shared 200k", "limit of sm_80"},
        {"k.ptx scale null null f32:1 --checks rase", "no check \"rase\""},
        {"k.ptx scale null null f32:1 --order up", "--order wants"},
        {"k.ptx scale null null f32:1 --capability 70", "from 80 to 129"},
        {"k.ptx scale --bogus", "no option --bogus"},
        {"k.ptx scale --grid", "--grid wants a value"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) expect(rows[i][0], 2, rows[i][1]);
}

Test(emu_command, an_unknown_instruction_is_named)
{
    char path[128];
    snprintf(path, sizeof path, "%s/odd.ptx", folder);
    FILE *f = fopen(path, "w");
    fputs(".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k()\n{\nfrobnicate.b32;\n"
          "ret;\n}\n",
          f);
    fclose(f);
    expect("odd.ptx k", 2, "frobnicate");
}

Test(emu_command, json_is_one_object_with_findings_counters_and_buffers)
{
    char out[32768];
    int code = run(out, sizeof out,
                   "k.ptx scale buf:32xf32 buf:32xf32,show=2 f32:1 --json --lines 3 --orders");
    cr_assert_eq(code, 1, "%s", out);
    json_error_t error;
    json_t *root = json_loads(out, 0, &error);
    cr_assert_not_null(root, "%s: %s", error.text, out);
    json_t *finding = json_array_get(json_object_get(root, "findings"), 0);
    cr_expect_str_eq(json_string_value(json_object_get(finding, "check")), "global-init");
    cr_expect_eq(json_integer_value(json_object_get(finding, "count")), 32);
    json_t *counters = json_object_get(root, "counters");
    cr_expect_eq(json_integer_value(json_object_get(counters, "global_sectors")), 8);
    cr_expect_eq(json_integer_value(json_object_get(counters, "flops")), 32);
    cr_expect(json_is_true(json_object_get(root, "orders_agree")));
    json_t *buffer = json_array_get(json_object_get(root, "buffers"), 1);
    cr_expect_eq(json_array_size(json_object_get(buffer, "values")), 2);
    cr_expect_str_eq(json_string_value(json_array_get(json_object_get(buffer, "values"), 0)),
                     "nan");
    cr_expect_str_eq(json_string_value(json_object_get(root, "result")), "CUDA_SUCCESS");
    json_decref(root);
}

Test(emu_command, a_fatbin_runs_and_names_source_lines)
{
    if (access(CRANK_BINARY_DIR "/emu/bugs.fatbin", R_OK) != 0) {
        fprintf(stderr, "SKIPPED: built without nvcc, no tests/emu/*.cu kernels\n");
        return;
    }
    expect(CRANK_BINARY_DIR "/emu/bugs.fatbin shared_no_barrier_after_store --block 128 "
                            "buf:4096xf32,iota buf:128xf32 i32:1",
           1, "at bugs.cu:");
    expect(CRANK_BINARY_DIR "/emu/bugs.fatbin global_clean --block 128 buf:512xf32,iota "
                            "buf:128xf32,show=2 i32:1 --lines 2",
           0, "argument 2, f32: 7 23\n");
    expect(CRANK_BINARY_DIR "/emu/samples.fatbin block_mean --grid 2 --block 256 "
                            "buf:200xf32,iota buf:2xf32,show i32:100",
           0, "nothing found\n");
    expect(CRANK_BINARY_DIR "/emu/samples.fatbin block_mean --grid 2 --block 256 "
                            "buf:200xf32,iota buf:2xf32,show i32:100",
           0, "argument 2, f32: 49.5 149.5\n");
}
