/* gpu-conformance: runs every primitive of conformance.cu alone and compares with what the PTX
 * manual says it computes. A plain program on the CUDA driver API: run it on a GPU before anything
 * else (libcuda.so.1 is the default), and on the emulator in the tests, so that both are held to
 * one table.
 *
 *     gpu-conformance [--library libcuda.so.1] [--kernels conformance.fatbin] [NAME...]
 *
 * The expectations are written from the manual, matrix by matrix: fragments are described here in
 * its own terms (groupID, threadID_in_group, element index i), not taken from the emulator. Matrix
 * inputs are small integers, so that results are exact on any hardware; approximate functions have
 * the manual's error bounds. Exit: 0 all equal, 1 differences, 2 usage or no driver. */
#include <math.h>

#include "tests/emu/conformance.h"

static int64_t ordered(uint32_t bits)
{
    return bits & 0x80000000u ? -(int64_t)(bits & 0x7fffffffu) : (int64_t)bits;
}

static int is_close(uint32_t got, uint32_t want, tolerance t)
{
    if (got == want) return 1;
    if (t == EXACT) return 0;
    float x = as_float(got), y = as_float(want);
    if (isnan(y)) return isnan(x);
    if (t == EXACT_OR_NAN) return 0;
    if (t == ULP_2_FLUSH && fabsf(y) < 0x1.8p-126f && x == 0) return 1;
    if (t == LG2 && fabs((double)x - y) <= 0x1p-21) return 1;
    if (t == TANH) return fabs((double)x - y) <= 0x1p-10 * fabs((double)y) + 1e-7;
    int64_t apart = ordered(got) - ordered(want);
    return apart >= -4 && apart <= 4; /* the reference itself may be off by one */
}

int conformance_begins(conformance *c, const char *name)
{
    int wanted = c->n_only == 0;
    for (int i = 0; i < c->n_only; i++) wanted |= strcmp(c->only[i], name) == 0;
    c->n_primitives += wanted;
    return wanted;
}

static int fail_call(conformance *c, const char *name, int result)
{
    const char *text = "?";
    c->g.cuGetErrorName(result, &text);
    printf("FAIL %s: %s (%d)\n", name, text ? text : "?", result);
    c->n_failed++;
    return 0;
}

int conformance_run(conformance *c, const char *name, tolerance t)
{
    gpu_handle function;
    gpu *g = &c->g;
    run *r = c->run;
    c->n_runs++;
    memset(r->out, 0xcc, sizeof r->out);
    int result = g->cuModuleGetFunction(&function, c->module, name);
    if (result == 0) result = g->cuMemcpyHtoD_v2(c->in, r->in, sizeof r->in);
    if (result == 0) result = g->cuMemcpyHtoD_v2(c->out, r->out, sizeof r->out);
    void *arguments[] = {&c->in, &c->out};
    if (result == 0)
        result = g->cuLaunchKernel(function, 1, 1, 1, r->n_threads, 1, 1, 0, NULL, arguments, NULL);
    if (result == 0) result = g->cuCtxSynchronize();
    if (result == 0) result = g->cuMemcpyDtoH_v2(r->out, c->out, r->n_out * sizeof r->out[0]);
    if (result != 0) return fail_call(c, name, result);
    for (uint32_t i = 0; i < r->n_out; i++) {
        if (is_close(r->out[i], r->expected[i], t)) continue;
        printf("FAIL %s: word %u is 0x%08x, expected 0x%08x", name, i, r->out[i], r->expected[i]);
        if (r->n_in == 3 * COUNT)
            printf(" from 0x%08x 0x%08x 0x%08x", r->in[i], r->in[COUNT + i], r->in[2 * COUNT + i]);
        printf("\n");
        c->n_failed++;
        return 0;
    }
    return 1;
}

static int usage(FILE *to)
{
    fprintf(
        to,
        "usage: gpu-conformance [--library PATH] [--kernels FATBIN] [NAME...]\n"
        "Runs every GPU primitive that crank uses alone and compares with the PTX manual.\n"
        "example, on a GPU:       gpu-conformance --kernels build/release/emu/conformance.fatbin\n"
        "example, on the emulator: gpu-conformance --library build/release/libcrank_emu.so\n"
        "                          --kernels build/release/emu/conformance.fatbin\n");
    return to == stderr ? 2 : 0;
}

/* Loads the kernels and makes room; 0, or the driver's error. */
static int start(conformance *c, const char *library, const char *image, char *device, int bytes)
{
    if (gpu_open(&c->g, library)) return -1;
    int result = gpu_start(&c->g);
    if (result == 0) result = c->g.cuDeviceGetName(device, bytes, 0);
    if (result == 0) result = c->g.cuModuleLoadData(&c->module, image);
    if (result == 0) result = c->g.cuMemAlloc_v2(&c->in, sizeof c->run->in);
    if (result == 0) result = c->g.cuMemAlloc_v2(&c->out, sizeof c->run->out);
    return result;
}

int main(int argc, char **argv)
{
    const char *library = "libcuda.so.1", *kernels = "conformance.fatbin";
    static run space;
    conformance c = {.run = &space};
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "--help") == 0) return usage(stdout);
        if (i + 1 == argc) return usage(stderr);
        if (strcmp(argv[i], "--library") == 0)
            library = argv[++i];
        else if (strcmp(argv[i], "--kernels") == 0)
            kernels = argv[++i];
        else
            return usage(stderr);
    }
    c.only = argv + i;
    c.n_only = argc - i;
    char *image = gpu_read_file(kernels), device[128] = "";
    if (image == NULL) {
        fprintf(stderr, "%s cannot be read\n", kernels);
        return 2;
    }
    int result = start(&c, library, image, device, sizeof device);
    free(image);
    if (result != 0) {
        fprintf(stderr, "%s: error %d before the first kernel\n", library, result);
        return 2;
    }
    conformance_matrices(&c);
    conformance_warps(&c);
    conformance_words(&c);
    if (c.n_only == 0) {
        int missing = conformance_missing_products(&c);
        c.n_primitives += missing;
        c.n_failed += missing;
    }
    if (c.n_primitives == 0) {
        fprintf(stderr, "no primitive of that name\n");
        return 2;
    }
    printf("%s: %d runs\n%d passed, %d failed, 0 skipped\n", device, c.n_runs,
           c.n_primitives - c.n_failed, c.n_failed);
    c.g.cuMemFree_v2(c.in);
    c.g.cuMemFree_v2(c.out);
    c.g.cuModuleUnload(c.module);
    c.g.cuDevicePrimaryCtxRelease_v2(0);
    return c.n_failed ? 1 : 0;
}
