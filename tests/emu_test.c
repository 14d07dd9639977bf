/* The emulated driver: what it refuses, when work runs, capture, injected failures, leaks; and what
 * the PTX reader refuses. Kernels are PTX text here, so this runs without nvcc. */
#define _DEFAULT_SOURCE /* fork */
#include <criterion/criterion.h>
#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/emu/emu_api.h"

#define PTX_HEAD ".version 8.0\n.target sm_80\n.address_size 64\n"
/* p[i] += n over the grid; out[i] = in[i] + n; out[i] = tile[i] through dynamic shared memory. */
#define INDEX                                                                                      \
    "mov.u32 %r2, %tid.x; mov.u32 %r3, %ctaid.x; mov.u32 %r4, %ntid.x;\n"                          \
    "mad.lo.s32 %r2, %r3, %r4, %r2; mul.wide.u32 %rd2, %r2, 4;\n"
#define REGISTERS ".reg .b32 %r<10>; .reg .b64 %rd<10>; .reg .pred %p<4>;\n"
static const char kernels[] = PTX_HEAD
    ".visible .global .align 4 .u32 counter[4] = {7, 8, 9};\n"
    ".visible .const .align 4 .f32 half = 0f3f000000;\n"
    ".global .align 8 .u64 where[2] = {counter, generic(counter)+4};\n"
    ".extern .shared .align 16 .b8 dynamic[];\n"
    ".visible .entry bump(.param .u64 p, .param .u32 n)\n{\n" REGISTERS
    "ld.param.u64 %rd1, [p]; ld.param.u32 %r1, [n];\n" INDEX
    "add.s64 %rd3, %rd1, %rd2; ld.global.u32 %r5, [%rd3]; add.s32 %r5, %r5, %r1;\n"
    "st.global.u32 [%rd3], %r5; ret;\n}\n"
    ".visible .entry add(.param .u64 from, .param .u64 to, .param .u32 n)\n{\n" REGISTERS
    "ld.param.u64 %rd1, [from]; ld.param.u64 %rd4, [to]; ld.param.u32 %r1, [n];\n" INDEX
    "add.s64 %rd3, %rd1, %rd2; add.s64 %rd5, %rd4, %rd2; ld.global.u32 %r5, [%rd3];\n"
    "add.s32 %r5, %r5, %r1; st.global.u32 [%rd5], %r5; ret;\n}\n"
    ".visible .entry bounded(.param .u64 to)\n.maxntid 64, 1, 1\n{\n" REGISTERS
    "ld.param.u64 %rd1, [to]; mov.u32 %r1, 1; st.global.u32 [%rd1], %r1; ret;\n}\n"
    ".visible .entry shared(.param .u64 to, .param .u32 n)\n{\n" REGISTERS
    "ld.param.u64 %rd1, [to]; ld.param.u32 %r1, [n]; mov.u32 %r2, dynamic;\n"
    "add.u32 %r2, %r2, %r1; mov.u32 %r3, 5; st.shared.u32 [%r2+-4], %r3;\n"
    "ld.shared.u32 %r4, [%r2+-4]; st.global.u32 [%rd1], %r4; ret;\n}\n"
    ".visible .entry spin(.param .u64 to)\n{\n" REGISTERS "again: bra again;\n}\n"
    ".visible .entry trapped(.param .u64 to)\n{\n" REGISTERS "trap; ret;\n}\n"
    ".visible .entry variables(.param .u64 to)\n{\n" REGISTERS
    "ld.param.u64 %rd1, [to]; ld.global.u32 %r1, [counter+4]; st.global.u32 [%rd1], %r1;\n"
    "ld.global.u64 %rd2, [where+8]; ld.global.u32 %r2, [%rd2]; st.global.u32 [%rd1+4], %r2;\n"
    "ld.const.u32 %r3, [half]; st.global.u32 [%rd1+8], %r3; mov.u64 %rd4, counter;\n"
    "ld.global.u32 %r4, [%rd4+12]; st.global.u32 [%rd1+12], %r4; ret;\n}\n";

static emulator e;

static void start(const emu_options *options)
{
    cr_assert_eq(emulator_open(&e, options), 0);
    int result = e.g.cuModuleLoadData(&e.module, kernels);
    char why[512] = "";
    e.emu_last_message(why, sizeof why);
    cr_assert_eq(result, 0, "%s", why);
}

static emu_options defaults(void)
{
    emu_options options;
    emulator once;
    cr_assert_eq(gpu_open(&once.g, EMU_LIBRARY), 0);
    gpu_symbol(once.g.library, "emu_defaults", &once.emu_defaults);
    once.emu_defaults(&options);
    return options;
}

static gpu_address device_words(size_t n)
{
    gpu_address address = 0;
    cr_assert_eq(e.g.cuMemAlloc_v2(&address, n * 4), 0);
    cr_assert_eq(e.g.cuMemsetD32_v2(address, 0, n), 0);
    return address;
}

static int bump(gpu_address p, uint32_t n, gpu_handle stream)
{
    void *arguments[] = {&p, &n};
    return emulator_launch(&e, "bump", 1, 32, 0, stream, arguments);
}

static int add(gpu_address from, gpu_address to, uint32_t n, gpu_handle stream)
{
    void *arguments[] = {&from, &to, &n};
    return emulator_launch(&e, "add", 1, 32, 0, stream, arguments);
}

static uint32_t first_word(gpu_address p)
{
    uint32_t word = 0xdeadbeef;
    cr_assert_eq(e.g.cuMemcpyDtoH_v2(&word, p, 4), 0);
    return word;
}

static uint32_t host_findings(void)
{
    uint32_t n = 0;
    emu_report report;
    for (size_t i = 0; e.emu_report_get(i, &report) == 0; i++) n += report.check == EMU_CHECK_HOST;
    return n;
}

/* ---- calls ------------------------------------------------------------------------------------
 */

Test(emu, calls_need_init_and_a_context)
{
    cr_assert_eq(gpu_open(&e.g, EMU_LIBRARY), 0);
    gpu_symbol(e.g.library, "emu_reset", &e.emu_reset);
    e.emu_reset();
    int n;
    gpu_address p;
    cr_expect_eq(e.g.cuDeviceGetCount(&n), 3);
    cr_expect_eq(e.g.cuInit(0), 0);
    cr_expect_eq(e.g.cuDeviceGetCount(&n), 0);
    cr_expect_eq(n, 1);
    cr_expect_eq(e.g.cuMemAlloc_v2(&p, 4), 201);
    cr_expect_eq(gpu_start(&e.g), 0);
    cr_expect_eq(e.g.cuMemAlloc_v2(&p, 4), 0);
    cr_expect_eq(e.g.cuMemFree_v2(p), 0);
    gpu_handle current = NULL;
    cr_expect_eq(e.g.cuCtxPopCurrent_v2(&current), 0);
    cr_expect_eq(current, e.g.context);
    cr_expect_eq(e.g.cuMemAlloc_v2(&p, 4), 201);
    cr_expect_eq(e.g.cuCtxPushCurrent_v2(e.g.context), 0);
    cr_expect_eq(e.g.cuMemAlloc_v2(&p, 4), 0);
    cr_expect_eq(e.g.cuDevicePrimaryCtxRelease_v2(0), 0);
    cr_expect_eq(e.g.cuMemAlloc_v2(&p, 4), 201, "the context is gone");
}

Test(emu, names_and_attributes_are_those_of_the_capability)
{
    emu_options options = defaults();
    const struct {
        uint32_t capability;
        int optin;
    } rows[] = {{80, 163 * 1024}, {86, 99 * 1024}, {89, 99 * 1024}, {90, 227 * 1024}};
    for (size_t i = 0; i < 4; i++) {
        options.capability = rows[i].capability;
        start(&options);
        int value = 0;
        cr_expect_eq(e.g.cuDeviceGetAttribute(&value, 75, 0), 0);
        cr_expect_eq(value, (int)rows[i].capability / 10);
        cr_expect_eq(e.g.cuDeviceGetAttribute(&value, 97, 0), 0);
        cr_expect_eq(value, rows[i].optin);
        cr_expect_eq(e.g.cuDeviceGetAttribute(&value, 9999, 0), 1);
        emulator_close(&e);
    }
    const char *name = NULL;
    cr_expect_eq(e.g.cuGetErrorName(719, &name), 0);
    cr_expect_str_eq(name, "CUDA_ERROR_LAUNCH_FAILED");
}

Test(emu, launches_that_a_gpu_would_refuse_are_refused)
{
    start(NULL);
    gpu_handle f;
    gpu_address p = device_words(1024);
    uint32_t n = 1;
    void *arguments[] = {&p, &n}, *missing[] = {&p, NULL};
    cr_assert_eq(e.g.cuModuleGetFunction(&f, e.module, "bump"), 0);
    cr_expect_eq(e.g.cuModuleGetFunction(&f, e.module, "nobody"), 500);
    cr_assert_eq(e.g.cuModuleGetFunction(&f, e.module, "bump"), 0);
    const unsigned shapes[][6] = {
        {0, 1, 1, 32, 1, 1},     {1, 0, 1, 32, 1, 1},     {1, 1, 1, 0, 1, 1},
        {1, 65536, 1, 32, 1, 1}, {1, 1, 65536, 32, 1, 1}, {1, 1, 1, 1025, 1, 1},
        {1, 1, 1, 32, 33, 1},    {1, 1, 1, 1, 1, 65},     {2147483648u, 1, 1, 1, 1, 1}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const unsigned *s = shapes[i];
        cr_expect_eq(
            e.g.cuLaunchKernel(f, s[0], s[1], s[2], s[3], s[4], s[5], 0, NULL, arguments, NULL), 1,
            "shape %zu", i);
    }
    cr_expect_eq(host_findings(), sizeof shapes / sizeof shapes[0]);
    cr_expect_eq(e.g.cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 0, NULL, missing, NULL), 1);
    cr_expect_eq(e.g.cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 0, NULL, NULL, NULL), 1);
    cr_expect_eq(e.g.cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 0, (gpu_handle)&n, arguments, NULL), 400);
    /* A parameter buffer must have the size of the kernel's parameters: 8 + 4 bytes. */
    struct {
        gpu_address p;
        uint32_t n, spare;
    } buffer = {p, 5, 0};
    size_t bytes = 12;
    void *extra[] = {(void *)1, &buffer, (void *)2, &bytes, NULL};
    cr_expect_eq(e.g.cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 0, NULL, NULL, extra), 0);
    bytes = 16;
    cr_expect_eq(e.g.cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 0, NULL, NULL, extra), 1);
    cr_expect_eq(first_word(p), 5);
    cr_assert_eq(e.g.cuModuleGetFunction(&f, e.module, "bounded"), 0);
    cr_expect_eq(e.g.cuLaunchKernel(f, 1, 1, 1, 64, 1, 1, 0, NULL, arguments, NULL), 0);
    cr_expect_eq(e.g.cuLaunchKernel(f, 1, 1, 1, 65, 1, 1, 0, NULL, arguments, NULL), 1);
}

Test(emu, more_than_48_kb_of_shared_memory_must_be_asked_for)
{
    start(NULL);
    gpu_handle f;
    gpu_address p = device_words(1);
    uint32_t n = 100 * 1024;
    void *arguments[] = {&p, &n};
    cr_assert_eq(e.g.cuModuleGetFunction(&f, e.module, "shared"), 0);
    cr_expect_eq(e.g.cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, n, NULL, arguments, NULL), 1);
    cr_expect_eq(e.g.cuFuncSetAttribute(f, 8, 163 * 1024 + 1), 1, "more than an sm_80 block has");
    cr_expect_eq(e.g.cuFuncSetAttribute(f, 8, (int)n), 0);
    cr_expect_eq(e.g.cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, n + 1, NULL, arguments, NULL), 1);
    cr_expect_eq(e.g.cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, n, NULL, arguments, NULL), 0);
    cr_expect_eq(first_word(p), 5);
    int value;
    cr_expect_eq(e.g.cuFuncGetAttribute(&value, 8, f), 0);
    cr_expect_eq(value, (int)n);
}

Test(emu, launch_attributes_follow_the_capability)
{
    /* CUlaunchConfig with programmatic stream serialization (6), as kernels/cuda passes it. */
    struct attribute {
        int id, pad;
        union {
            char bytes[64];
            int value;
        } value;
    } attribute = {.id = 6, .value = {.value = 1}};
    struct {
        unsigned grid[3], block[3], shared;
        gpu_handle stream;
        struct attribute *attributes;
        unsigned n;
    } config = {{1, 1, 1}, {32, 1, 1}, 0, NULL, &attribute, 1};
    for (uint32_t capability = 80; capability <= 90; capability += 10) {
        emu_options options = defaults();
        options.capability = capability;
        start(&options);
        gpu_handle f;
        gpu_address p = device_words(32);
        uint32_t n = 3;
        void *arguments[] = {&p, &n};
        cr_assert_eq(e.g.cuModuleGetFunction(&f, e.module, "bump"), 0);
        cr_expect_eq(e.g.cuLaunchKernelEx(&config, f, arguments, NULL), capability == 90 ? 0 : 801);
        cr_expect_eq(first_word(p), capability == 90 ? 3 : 0);
        emulator_close(&e);
    }
}

/* ---- memory -----------------------------------------------------------------------------------
 */

Test(emu, the_host_cannot_touch_device_memory)
{
    start(NULL);
    gpu_address p = device_words(1);
    pid_t child = fork();
    if (child == 0) {
        fclose(stderr);
        *(volatile int *)(uintptr_t)p = 1;
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    cr_expect(!WIFEXITED(status) || WEXITSTATUS(status) != 0, "the store went through");
}

Test(emu, memory_has_an_end_and_double_frees_are_named)
{
    emu_options options = defaults();
    options.memory_bytes = 1 << 20;
    start(&options);
    gpu_address p, q;
    size_t free_bytes, total;
    cr_expect_eq(e.g.cuMemGetInfo_v2(&free_bytes, &total), 0);
    cr_expect_eq(total, 1 << 20);
    cr_expect_eq(e.g.cuMemAlloc_v2(&p, (1 << 20) + 1), 2);
    cr_expect_eq(e.g.cuMemAlloc_v2(&p, 0), 1);
    cr_expect_eq(e.g.cuMemAlloc_v2(&p, 1 << 19), 0);
    cr_expect_eq(e.g.cuMemAlloc_v2(&q, 1 << 20), 2);
    cr_expect_eq(p % 256, 0);
    cr_expect_eq(e.g.cuMemFree_v2(p), 0);
    cr_expect_eq(e.g.cuMemFree_v2(p), 1);
    cr_expect_eq(e.g.cuMemFree_v2(p + 4), 1);
    cr_expect_eq(e.g.cuMemAlloc_v2(&q, 1 << 19), 0);
    cr_expect_neq(q, p, "freed addresses are not used again at once");
    uint32_t word = 0;
    cr_expect_eq(e.g.cuMemcpyHtoD_v2(q + (1 << 19) - 2, &word, 4), 1, "past the end");
    cr_expect_eq(e.g.cuMemcpyHtoD_v2(q, (void *)(uintptr_t)q, 4), 1, "from a device pointer");
    cr_expect_eq(e.g.cuMemcpyDtoH_v2(&word, p, 4), 1, "freed");
}

Test(emu, a_stale_pointer_in_a_kernel_is_an_error_that_sticks)
{
    start(NULL);
    gpu_address p = device_words(32), q = device_words(32);
    cr_assert_eq(e.g.cuMemFree_v2(p), 0);
    gpu_handle stream;
    cr_assert_eq(e.g.cuStreamCreate(&stream, 1), 0);
    cr_expect_eq(bump(p, 1, stream), 0, "nothing has run yet");
    cr_expect_eq(e.g.cuStreamSynchronize(stream), 700);
    cr_expect_eq(emulator_found(&e) & EMU_CHECK_GLOBAL_BOUNDS, EMU_CHECK_GLOBAL_BOUNDS);
    cr_expect_eq(bump(q, 1, stream), 700);
    cr_expect_eq(e.g.cuMemAlloc_v2(&p, 4), 700);
    cr_expect_eq(e.g.cuMemFree_v2(q), 700, "frees, and says so");
    emu_objects alive;
    e.emu_live_objects(&alive);
    cr_expect_eq(alive.allocations, 0);
    e.emu_reset();
    start(NULL);
    cr_expect_eq(first_word(device_words(1)), 0);
}

Test(emu, pinned_memory_is_seen_by_both_sides)
{
    start(NULL);
    uint32_t *host = NULL;
    gpu_address p;
    cr_assert_eq(e.g.cuMemHostAlloc((void **)&host, 128, 2), 0);
    cr_assert_eq(e.g.cuMemHostGetDevicePointer_v2(&p, host, 0), 0);
    for (int i = 0; i < 32; i++) host[i] = (uint32_t)i;
    cr_expect_eq(bump(p, 10, NULL), 0);
    cr_expect_eq(host[31], 41);
    cr_expect_eq(bump((gpu_address)(uintptr_t)host, 10, NULL), 0, "unified addressing");
    cr_expect_eq(host[31], 51);
    int local;
    cr_expect_eq(e.g.cuMemHostGetDevicePointer_v2(&p, &local, 0), 1);
    cr_expect_eq(e.g.cuMemFreeHost(&local), 1);
    cr_expect_eq(e.g.cuMemFreeHost(host), 0);
}

Test(emu, arenas_can_be_fenced_and_forgotten)
{
    emu_options options = defaults();
    options.tolerant = 1;
    start(&options);
    gpu_address p = device_words(64);
    cr_expect_eq(e.emu_fence(p + 128, 4), 0);
    cr_expect_eq(bump(p, 1, NULL), 0);
    cr_expect_eq(emulator_found(&e), 0);
    cr_expect_eq(bump(p + 4, 1, NULL), 0);
    cr_expect_eq(emulator_found(&e), EMU_CHECK_GLOBAL_BOUNDS);
    e.emu_report_clear();
    cr_expect_eq(e.emu_forget(p, 4), 0);
    cr_expect_eq(bump(p, 1, NULL), 0);
    cr_expect_eq(emulator_found(&e), EMU_CHECK_GLOBAL_INIT);
    cr_expect_eq(e.emu_forget(p, 1 << 20), 1);
}

Test(emu, module_variables_are_initialised_and_addressed)
{
    start(NULL);
    gpu_address p = device_words(4), counter, half;
    size_t bytes = 0;
    void *arguments[] = {&p};
    cr_assert_eq(emulator_launch(&e, "variables", 1, 1, 0, NULL, arguments), 0);
    uint32_t words[4];
    cr_assert_eq(e.g.cuMemcpyDtoH_v2(words, p, 16), 0);
    cr_expect_eq(words[0], 8);
    cr_expect_eq(words[1], 8);
    cr_expect_eq(words[2], 0x3f000000);
    cr_expect_eq(words[3], 0);
    cr_assert_eq(e.g.cuModuleGetGlobal_v2(&counter, &bytes, e.module, "counter"), 0);
    cr_expect_eq(bytes, 16);
    cr_expect_eq(first_word(counter), 7);
    cr_assert_eq(e.g.cuModuleGetGlobal_v2(&half, &bytes, e.module, "half"), 0);
    float one = 1;
    cr_assert_eq(e.g.cuMemcpyHtoD_v2(half, &one, 4), 0);
    cr_assert_eq(emulator_launch(&e, "variables", 1, 1, 0, NULL, arguments), 0);
    cr_expect_eq(first_word(p + 8), 0x3f800000);
    cr_expect_eq(e.g.cuModuleGetGlobal_v2(&half, &bytes, e.module, "nobody"), 500);
}

/* ---- when work runs ---------------------------------------------------------------------------
 */

Test(emu, work_runs_late_and_copies_are_not_done_before_the_synchronisation)
{
    start(NULL);
    gpu_handle stream;
    gpu_address p = device_words(32);
    cr_assert_eq(e.g.cuStreamCreate(&stream, 1), 0);
    uint32_t in[32] = {1}, out[32] = {0};
    cr_expect_eq(e.g.cuMemcpyHtoDAsync_v2(p, in, sizeof in, stream), 0);
    in[0] = 100; /* too early: the copy has not run */
    cr_expect_eq(bump(p, 5, stream), 0);
    cr_expect_eq(e.g.cuMemcpyDtoHAsync_v2(out, p, sizeof out, stream), 0);
    cr_expect_eq(out[0], 0xffffffff, "read before the synchronisation");
    cr_expect_eq(e.g.cuStreamQuery(stream), 600);
    cr_expect_eq(e.g.cuStreamSynchronize(stream), 0);
    cr_expect_eq(out[0], 105);
    cr_expect_eq(e.g.cuStreamQuery(stream), 0);
}

/* stream a writes, stream b reads; with or without an event between them. The number of seeds with
 * which b sees the old value. */
static int races(int waits)
{
    int wrong = 0;
    for (uint64_t seed = 1; seed <= 24; seed++) {
        emu_options options = defaults();
        options.seed = seed;
        start(&options);
        gpu_handle a, b, event;
        gpu_address p = device_words(32), q = device_words(32);
        cr_assert_eq(e.g.cuStreamCreate(&a, 1), 0);
        cr_assert_eq(e.g.cuStreamCreate(&b, 1), 0);
        cr_assert_eq(e.g.cuEventCreate(&event, 0), 0);
        cr_assert_eq(bump(p, 7, a), 0);
        cr_assert_eq(e.g.cuEventRecord(event, a), 0);
        if (waits) cr_assert_eq(e.g.cuStreamWaitEvent(b, event, 0), 0);
        cr_assert_eq(add(p, q, 0, b), 0);
        cr_assert_eq(e.g.cuEventDestroy_v2(event), 0, "still pending, and that is fine");
        cr_assert_eq(e.g.cuStreamSynchronize(b), 0);
        cr_assert_eq(e.g.cuCtxSynchronize(), 0);
        wrong += first_word(q) != 7;
        e.g.cuStreamDestroy_v2(a);
        e.g.cuStreamDestroy_v2(b);
    }
    return wrong;
}

Test(emu, a_missing_event_wait_is_met_and_a_present_one_holds)
{
    cr_expect_gt(races(0), 2);
    cr_expect_lt(races(0), 22);
    cr_expect_eq(races(1), 0);
}

Test(emu, events_tell_what_has_run)
{
    start(NULL);
    gpu_handle stream, before, after;
    gpu_address p = device_words(32);
    float milliseconds = -1;
    cr_assert_eq(e.g.cuStreamCreate(&stream, 1), 0);
    cr_assert_eq(e.g.cuEventCreate(&before, 0), 0);
    cr_assert_eq(e.g.cuEventCreate(&after, 0), 0);
    cr_expect_eq(e.g.cuEventQuery(before), 0, "never recorded");
    cr_expect_eq(e.g.cuEventElapsedTime(&milliseconds, before, after), 400);
    cr_assert_eq(e.g.cuEventRecord(before, stream), 0);
    cr_assert_eq(bump(p, 1, stream), 0);
    cr_assert_eq(e.g.cuEventRecord(after, stream), 0);
    cr_expect_eq(e.g.cuEventQuery(after), 600);
    cr_expect_eq(e.g.cuEventSynchronize(after), 0);
    cr_expect_eq(e.g.cuEventQuery(after), 0);
    cr_expect_eq(e.g.cuEventElapsedTime(&milliseconds, before, after), 0);
    cr_expect_geq(milliseconds, 0);
    cr_expect_eq(e.g.cuEventDestroy_v2(before), 0);
    cr_expect_eq(e.g.cuEventDestroy_v2(before), 400);
}

Test(emu, the_default_stream_waits_for_blocking_streams_only)
{
    start(NULL);
    gpu_handle blocking, free_running;
    gpu_address p = device_words(32), q = device_words(32);
    cr_assert_eq(e.g.cuStreamCreate(&blocking, 0), 0);
    cr_assert_eq(e.g.cuStreamCreate(&free_running, 1), 0);
    cr_assert_eq(bump(p, 1, blocking), 0);
    cr_assert_eq(bump(q, 1, free_running), 0);
    cr_expect_eq(first_word(p), 1);
    int is_late = e.g.cuStreamQuery(free_running) == 600;
    cr_expect(is_late || first_word(q) == 1);
    cr_expect_eq(e.g.cuCtxSynchronize(), 0);
    cr_expect_eq(first_word(q), 1);
}

/* ---- graphs -----------------------------------------------------------------------------------
 */

Test(emu, a_graph_keeps_the_arguments_of_its_capture)
{
    start(NULL);
    gpu_handle stream, graph, executable;
    gpu_address p = device_words(32), other = device_words(32);
    uint32_t n = 3, out[32];
    cr_assert_eq(e.g.cuStreamCreate(&stream, 1), 0);
    cr_assert_eq(e.g.cuStreamBeginCapture_v2(stream, 0), 0);
    int status = -1;
    cr_expect_eq(e.g.cuStreamIsCapturing(stream, &status), 0);
    cr_expect_eq(status, 1);
    gpu_address target = p;
    void *arguments[] = {&target, &n};
    cr_assert_eq(emulator_launch(&e, "bump", 1, 32, 0, stream, arguments), 0);
    cr_assert_eq(e.g.cuMemcpyDtoHAsync_v2(out, p, sizeof out, stream), 0);
    cr_assert_eq(e.g.cuStreamEndCapture(stream, &graph), 0);
    target = other;
    n = 1000;
    cr_expect_eq(first_word(p), 0, "capture runs nothing");
    cr_assert_eq(e.g.cuGraphInstantiateWithFlags(&executable, graph, 0), 0);
    cr_expect_eq(e.g.cuGraphDestroy(graph), 0);
    for (uint32_t round = 1; round <= 3; round++) {
        out[0] = 1;
        cr_expect_eq(e.g.cuGraphLaunch(executable, stream), 0);
        cr_expect_eq(out[0], 0xffffffff);
        cr_expect_eq(e.g.cuStreamSynchronize(stream), 0);
        cr_expect_eq(out[0], 3 * round);
    }
    cr_expect_eq(first_word(other), 0);
    cr_expect_eq(e.g.cuGraphExecDestroy(executable), 0);
    cr_expect_eq(e.g.cuGraphLaunch(executable, stream), 1);
}

Test(emu, what_a_capture_forbids_fails_and_ends_it)
{
    start(NULL);
    gpu_handle stream, graph;
    gpu_address p = device_words(32), q;
    cr_assert_eq(e.g.cuStreamCreate(&stream, 1), 0);
    cr_assert_eq(e.g.cuStreamBeginCapture_v2(stream, 0), 0);
    cr_expect_eq(bump(p, 1, stream), 0);
    cr_expect_eq(e.g.cuMemAlloc_v2(&q, 16), 900);
    cr_expect_eq(bump(p, 1, stream), 901);
    cr_expect_eq(e.g.cuStreamEndCapture(stream, &graph), 901);
    cr_assert_eq(e.g.cuStreamBeginCapture_v2(stream, 0), 0);
    cr_expect_eq(e.g.cuStreamSynchronize(stream), 900);
    cr_expect_eq(e.g.cuStreamEndCapture(stream, &graph), 901);
    cr_assert_eq(e.g.cuStreamBeginCapture_v2(stream, 0), 0);
    uint32_t word;
    cr_expect_eq(e.g.cuMemcpyDtoH_v2(&word, p, 4), 900);
    cr_expect_eq(e.g.cuStreamEndCapture(stream, &graph), 901);
    cr_assert_eq(e.g.cuStreamBeginCapture_v2(stream, 2), 0, "relaxed");
    cr_expect_eq(e.g.cuMemAlloc_v2(&q, 16), 0);
    cr_expect_eq(e.g.cuStreamEndCapture(stream, &graph), 0);
    cr_expect_eq(e.g.cuStreamEndCapture(stream, &graph), 1, "not capturing");
    cr_expect_eq(e.g.cuStreamBeginCapture_v2(NULL, 0), 900, "the default stream");
    gpu_handle blocking;
    cr_assert_eq(e.g.cuStreamCreate(&blocking, 0), 0);
    cr_assert_eq(e.g.cuStreamBeginCapture_v2(blocking, 2), 0);
    cr_expect_eq(bump(p, 1, NULL), 906);
}

Test(emu, forks_must_be_joined_and_edges_hold)
{
    for (uint64_t seed = 1; seed <= 12; seed++) {
        emu_options options = defaults();
        options.seed = seed;
        start(&options);
        gpu_handle a, b, fork_event, join_event, graph, executable;
        gpu_address p = device_words(32), q = device_words(32);
        cr_assert_eq(e.g.cuStreamCreate(&a, 1), 0);
        cr_assert_eq(e.g.cuStreamCreate(&b, 1), 0);
        cr_assert_eq(e.g.cuEventCreate(&fork_event, 2), 0);
        cr_assert_eq(e.g.cuEventCreate(&join_event, 2), 0);
        for (int joins = 0; joins < 2; joins++) {
            cr_assert_eq(e.g.cuStreamBeginCapture_v2(a, 0), 0);
            cr_expect_eq(bump(p, 1, a), 0);
            cr_expect_eq(e.g.cuEventRecord(fork_event, a), 0);
            cr_expect_eq(e.g.cuStreamWaitEvent(b, fork_event, 0), 0);
            cr_expect_eq(add(p, q, 0, b), 0);
            cr_expect_eq(bump(q, 100, b), 0);
            cr_expect_eq(e.g.cuEventRecord(join_event, b), 0);
            if (joins) cr_expect_eq(e.g.cuStreamWaitEvent(a, join_event, 0), 0);
            cr_expect_eq(bump(q, 10, a), 0);
            cr_expect_eq(e.g.cuStreamEndCapture(a, &graph), joins ? 0 : 904);
        }
        cr_assert_eq(e.g.cuGraphInstantiateWithFlags(&executable, graph, 0), 0);
        cr_expect_eq(e.g.cuGraphLaunch(executable, a), 0);
        cr_expect_eq(e.g.cuStreamSynchronize(a), 0);
        cr_expect_eq(first_word(q), 111, "seed %d", (int)seed);
    }
}

/* ---- failures and leaks -----------------------------------------------------------------------
 */

Test(emu, the_nth_allocation_and_the_nth_launch_fail)
{
    emu_options options = defaults();
    options.fail_alloc = 1;
    options.fail_launch = 2;
    start(&options);
    gpu_address p, q;
    cr_expect_eq(e.g.cuMemAlloc_v2(&p, 128), 0);
    cr_expect_eq(e.g.cuMemAlloc_v2(&q, 128), 2);
    cr_expect_eq(e.g.cuMemAlloc_v2(&q, 128), 0, "only that one, and it does not stick");
    cr_assert_eq(e.g.cuMemsetD8_v2(p, 0, 128), 0);
    cr_expect_eq(bump(p, 1, NULL), 0);
    cr_expect_eq(bump(p, 1, NULL), 0);
    cr_expect_eq(bump(p, 1, NULL), 719);
    cr_expect_eq(bump(p, 1, NULL), 719);
    cr_expect_eq(e.g.cuMemAlloc_v2(&q, 128), 719);
}

Test(emu, traps_and_endless_kernels_end)
{
    emu_options options = defaults();
    options.step_limit = 100000;
    gpu_address p;
    void *arguments[] = {&p};
    start(&options);
    p = device_words(1);
    cr_expect_eq(emulator_launch(&e, "spin", 1, 64, 0, NULL, arguments), 702);
    start(&options);
    p = device_words(1);
    cr_expect_eq(emulator_launch(&e, "trapped", 1, 64, 0, NULL, arguments), 719);
}

Test(emu, leaks_are_reported_when_the_context_goes)
{
    start(NULL);
    gpu_handle stream, event, graph, executable;
    gpu_address p = device_words(100);
    void *host;
    cr_assert_eq(e.g.cuStreamCreate(&stream, 1), 0);
    cr_assert_eq(e.g.cuEventCreate(&event, 0), 0);
    cr_assert_eq(e.g.cuMemHostAlloc(&host, 64, 0), 0);
    cr_assert_eq(e.g.cuStreamBeginCapture_v2(stream, 0), 0);
    cr_assert_eq(bump(p, 1, stream), 0);
    cr_assert_eq(e.g.cuStreamEndCapture(stream, &graph), 0);
    cr_assert_eq(e.g.cuGraphInstantiateWithFlags(&executable, graph, 0), 0);
    cr_assert_eq(e.g.cuDevicePrimaryCtxRelease_v2(0), 0);
    char all[4096] = "";
    emu_report report;
    for (size_t i = 0; e.emu_report_get(i, &report) == 0; i++) {
        cr_expect_eq(report.check, EMU_CHECK_LEAK);
        strncat(all, report.text, sizeof all - strlen(all) - 1);
    }
    const char *words[] = {"1 device allocations (400 bytes)",
                           "1 pinned",
                           "1 streams",
                           "1 events",
                           "1 modules",
                           "1 graphs",
                           "1 executable graphs"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        cr_expect(strstr(all, words[i]), "%s: not in %s", words[i], all);
    emu_options options = defaults();
    options.checks = EMU_CHECK_ALL & ~EMU_CHECK_LEAK;
    start(&options);
    device_words(100);
    cr_assert_eq(e.g.cuDevicePrimaryCtxRelease_v2(0), 0);
    cr_expect_eq(e.emu_report_count(), 0);
}

/* ---- PTX --------------------------------------------------------------------------------------
 */

static int load(const char *text, char *why, size_t bytes)
{
    gpu_handle module;
    int result = e.g.cuModuleLoadData(&module, text);
    e.emu_last_message(why, bytes);
    if (result == 0) e.g.cuModuleUnload(module);
    return result;
}

Test(emu, what_the_interpreter_does_not_know_is_refused_by_name_and_line)
{
    start(NULL);
    const struct {
        const char *body;
        const char *words[2];
    } cases[] = {
        {"frobnicate.b32 %r1, %r2;", {"frobnicate.b32", "line 5"}},
        {"add.rz.s32 %r1, %r2, %r3;", {"add.rz.s32", "line 5"}},
        {"ld.global.L3::maybe.u32 %r1, [%rd1];", {"ld.global.L3::maybe.u32", "line 5"}},
        {"mma.sync.aligned.m16n8k16.col.row.f32.f16.f16.f32 {%r1,%r1,%r1,%r1}, "
         "{%r1,%r1,%r1,%r1}, {%r1,%r1}, {%r1,%r1,%r1,%r1};",
         {"m16n8k16.col.row", "line 5"}},
        {"add.s32 %r1, %r2;", {"add.s32: operands", "line 5"}},
        {"add.s32 %r1, %r2, %rd1, %r3;", {"add.s32: operands", "line 5"}},
        {"add.s64 %rd1, %rd2, %r1;", {"add.s64: operands", "line 5"}},
        {"mov.u32 %r1, %envreg7;", {"%envreg7", "line 5"}},
        {"mov.u32 %r99, 1;", {"%r99", "line 5"}},
        {"bra nowhere;", {"nowhere", "line 5"}},
        {"cp.async.cg.shared.global [%rd1], [%rd2], 8;", {"of 8 bytes", "line 5"}},
        {"st.param.u32 [p], %r1;", {"st.param.u32", "line 5"}},
        {"ld.param.u64 %rd1, [p+4];", {"reads past parameter p", "line 5"}},
        {"call.uni elsewhere;", {"elsewhere", "line 5"}},
        {"{ add.s32 %r1, %r2, %r3;", {"expected", "found the end"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[1024], why[512];
        snprintf(text, sizeof text, "%s%s\nret; }\n",
                 PTX_HEAD ".visible .entry k(.param .u64 p) {" REGISTERS, cases[i].body);
        cr_expect_eq(load(text, why, sizeof why), 218, "%s", cases[i].body);
        for (int w = 0; w < 2; w++)
            cr_expect(strstr(why, cases[i].words[w]), "%s: %s", cases[i].body, why);
    }
    char why[512];
    cr_expect_eq(load("", why, sizeof why), 200);
    cr_expect_eq(load("nonsense", why, sizeof why), 200);
    cr_expect_eq(load(".version 8.0\n.target sm_90a\n.address_size 64\n", why, sizeof why), 209);
    cr_expect_eq(load("\177ELF", why, sizeof why), 209);
    cr_expect(strstr(why, "compute_80"), "%s", why);
}

Test(emu, damaged_text_is_refused_and_never_crashes)
{
    start(NULL);
    char why[512], text[sizeof kernels];
    /* Every prefix, and single bytes changed: either loads or is refused. */
    for (size_t n = 60; n < sizeof kernels; n += 7) {
        memcpy(text, kernels, n);
        text[n] = '\0';
        load(text, why, sizeof why);
    }
    uint32_t random = 12345;
    for (int i = 0; i < 3000; i++) {
        memcpy(text, kernels, sizeof kernels);
        for (int k = 0; k < 3; k++) {
            random = random * 1664525u + 1013904223u;
            size_t at = 50 + (random >> 8) % (sizeof kernels - 51);
            text[at] = "{}[](),;.%@+-:<>09az\" "[(random >> 3) % 22];
        }
        load(text, why, sizeof why);
    }
    cr_expect_eq(load(kernels, why, sizeof why), 0, "%s", why);
}

Test(emu, braces_are_scopes_and_families_end)
{
    start(NULL);
    char why[512];
    const char text[] = PTX_HEAD
        ".visible .entry k(.param .u64 p) {" REGISTERS "ld.param.u64 %rd1, [p]; mov.u32 %r1, 1;\n"
        "{ .reg .b32 t; .reg .pred q; add.u32 t, %r1, 1; setp.eq.u32 q, t, 2; @q bra L; mov.u32 t, "
        "9;"
        " L: mov.u32 %r2, t; }\n"
        "{ .reg.b32 t; .reg .b32 %r<3>; mov.u32 %r1, 50; add.u32 t, %r1, 7; bra L; mov.u32 t, 1;\n"
        "L: st.global.u32 [%rd1+4], t;}\n"
        "add.u32 %r1, %r1, %r2; st.global.u32 [%rd1], %r1; ret; }\n";
    gpu_address p = device_words(2);
    void *arguments[] = {&p};
    cr_assert_eq(e.g.cuModuleLoadData(&e.module, text), 0);
    cr_assert_eq(emulator_launch(&e, "k", 1, 1, 0, NULL, arguments), 0);
    cr_expect_eq(first_word(p), 3);
    cr_expect_eq(first_word(p + 4), 57);
    (void)why;
}

Test(emu, supported_instructions_are_listed)
{
    start(NULL);
    size_t n = 0;
    int has_mma = 0;
    for (const char *name; (name = e.emu_instruction_name(n)) != NULL; n++)
        has_mma |= strcmp(name, "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32") == 0;
    cr_expect_gt(n, 900);
    cr_expect(has_mma);
}
