#include "support/cuda_library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cuda/image.h"

const char *cuda_library(void)
{
    static char path[512];
    const char *given = getenv("CRANK_TEST_CUDA");
    if (given != NULL && given[0] != 0) return given;
    snprintf(path, sizeof path, "%s/libcrank_emu.so", CRANK_BINARY_DIR);
    return access(path, R_OK) == 0 ? path : NULL;
}

bool cuda_skipped(const char *test)
{
    if (cuda_image_version != 0 && cuda_library() != NULL) return false;
    fprintf(stderr, "SKIPPED: %s: %s\n", test,
            cuda_image_version == 0 ? "this build has no GPU kernels (no nvcc)"
                                    : "no emulator library and no GPU");
    return true;
}

const emulator *cuda_emulator(void)
{
    static emulator found;
    static bool looked;
    if (looked) return found.configure != NULL ? &found : NULL;
    looked = true;
    void *library = cuda_library() != NULL ? dlopen(cuda_library(), RTLD_NOW | RTLD_LOCAL) : NULL;
    if (library == NULL) return NULL;
    static const struct {
        const char *name;
        size_t offset;
    } symbols[] = {
        {"emu_defaults", offsetof(emulator, defaults)},
        {"emu_configure", offsetof(emulator, configure)},
        {"emu_reset", offsetof(emulator, reset)},
        {"emu_report_count", offsetof(emulator, report_count)},
        {"emu_report_get", offsetof(emulator, report_get)},
        {"emu_counter_count", offsetof(emulator, counter_count)},
        {"emu_counter_get", offsetof(emulator, counter_get)},
        {"emu_counter_clear", offsetof(emulator, counter_clear)},
    };
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
        void *address = dlsym(library, symbols[i].name);
        if (address == NULL) {
            found = (emulator){0};
            return NULL;
        }
        memcpy((char *)&found + symbols[i].offset, &address, sizeof address);
    }
    return &found;
}

size_t cuda_reports(void)
{
    const emulator *e = cuda_emulator();
    if (e == NULL) return 0;
    size_t n = e->report_count();
    for (size_t i = 0; i < n; i++) {
        emu_report r;
        if (e->report_get(i, &r) == 0) printf("emulator: %s (%u times)\n", r.text, r.count);
    }
    return n;
}
