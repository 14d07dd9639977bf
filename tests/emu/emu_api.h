/* The emulator's own functions, found by name as emu.h says, and steps that its tests share. */
#ifndef CRANK_TESTS_EMU_API_H
#define CRANK_TESTS_EMU_API_H

#include "kernels/emu/emu.h"
#include "tests/emu/gpu.h"

#define EMU_LIBRARY CRANK_BINARY_DIR "/libcrank_emu.so"
#define EMU_KERNELS(name) CRANK_BINARY_DIR "/emu/" name ".fatbin"

#define EMU_CALL_LIST(X)                                                                           \
    X(void, emu_defaults, emu_options *)                                                           \
    X(int, emu_configure, const emu_options *)                                                     \
    X(void, emu_reset, void)                                                                       \
    X(size_t, emu_report_count, void)                                                              \
    X(int, emu_report_get, size_t, emu_report *)                                                   \
    X(void, emu_report_clear, void)                                                                \
    X(size_t, emu_last_message, char *, size_t)                                                    \
    X(size_t, emu_counter_count, void)                                                             \
    X(int, emu_counter_get, size_t, emu_counters *)                                                \
    X(int, emu_counter_find, const char *, emu_counters *)                                         \
    X(int, emu_counter_last, emu_counters *)                                                       \
    X(void, emu_counter_clear, void)                                                               \
    X(size_t, emu_hot_lines, const char *, size_t, char *, size_t)                                 \
    X(int, emu_forget, uint64_t, size_t)                                                           \
    X(int, emu_fence, uint64_t, size_t)                                                            \
    X(const char *, emu_instruction_name, size_t)                                                  \
    X(void, emu_live_objects, emu_objects *)

typedef struct emulator {
    gpu g;
#define EMU_MEMBER(type, name, ...) type (*name)(__VA_ARGS__);
    EMU_CALL_LIST(EMU_MEMBER)
#undef EMU_MEMBER
    gpu_handle module;
} emulator;

/* Opens the library with these options (NULL: the defaults); 0, or prints why not. */
static inline int emulator_open(emulator *e, const emu_options *options)
{
    memset(e, 0, sizeof *e);
    if (gpu_open(&e->g, EMU_LIBRARY)) return 1;
#define EMU_LOAD(type, name, ...)                                                                  \
    gpu_symbol(e->g.library, #name, &e->name);                                                     \
    if (e->name == NULL) return 1;
    EMU_CALL_LIST(EMU_LOAD)
#undef EMU_LOAD
    e->emu_reset();
    emu_options defaults;
    e->emu_defaults(&defaults);
    return e->emu_configure(options ? options : &defaults) || gpu_start(&e->g);
}

/* Loads a fatbin of tests/emu; 0, 1 when it failed, -1 when there is none (built without nvcc). */
static inline int emulator_load(emulator *e, const char *path)
{
    char *image = gpu_read_file(path);
    if (image == NULL) return -1;
    int result = e->g.cuModuleLoadData(&e->module, image);
    free(image);
    if (result != 0) {
        char why[512];
        e->emu_last_message(why, sizeof why);
        fprintf(stderr, "%s: %s\n", path, why);
    }
    return result != 0;
}

static inline void emulator_close(emulator *e)
{
    if (e->module != NULL) e->g.cuModuleUnload(e->module);
    e->g.cuDevicePrimaryCtxRelease_v2(0);
}

/* All checks that have reported something. */
static inline uint32_t emulator_found(emulator *e)
{
    uint32_t found = 0;
    emu_report report;
    for (size_t i = 0; e->emu_report_get(i, &report) == 0; i++) found |= report.check;
    return found;
}

static inline void emulator_print_reports(emulator *e)
{
    emu_report report;
    for (size_t i = 0; e->emu_report_get(i, &report) == 0; i++)
        fprintf(stderr, "  %ux %s [%s]\n", report.count, report.text, report.where);
}

static inline int emulator_launch(emulator *e, const char *kernel, unsigned grid, unsigned threads,
                                  unsigned shared_bytes, gpu_handle stream, void **arguments)
{
    gpu_handle function;
    int result = e->g.cuModuleGetFunction(&function, e->module, kernel);
    if (result != 0) return result;
    return e->g.cuLaunchKernel(function, grid, 1, 1, threads, 1, 1, shared_bytes, stream, arguments,
                               NULL);
}

#endif
