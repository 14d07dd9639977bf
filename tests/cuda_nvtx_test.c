#define _DEFAULT_SOURCE
/* NVTX ranges: a library of ours comes in as a profiler's would (tests/emu/nvtx_injection.c) and
 * tells which ranges there were. Each test is a process of its own, and NVTX looks for its
 * library once a process. */
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crank.h"
#include "emu/nvtx_injection.h"
#include "kernels/cuda/nvtx.h"
#include "support/cuda_library.h"
#include "support/golden_rows.h"

#define INJECTION CRANK_BINARY_DIR "/emu/libnvtx_injection.so"

static const int in_order[] = {0, 1, 2, 3, 4, 5, 6, 7};

/* Scores the golden rows `times` times on a device with ranges or without. */
static void run(const golden_rows *r, const char *library, int times, char *notes, size_t bytes)
{
    crank_model_options options = {.size = sizeof options,
                                   .device = CRANK_DEVICE_CUDA,
                                   .dtype = CRANK_DTYPE_F16,
                                   .cuda_library = cuda_library(),
                                   .nvtx_library = library,
                                   .load_threads = 1};
    crank_session_options session_options = {.size = sizeof session_options, .n_threads = 1};
    crank_model *model;
    crank_session *session;
    crank_error error = {0};
    float logits[8];
    cr_assert_eq(crank_model_open(&model, r->g.dir, &options, &error), CRANK_OK, "%s",
                 error.message);
    cr_assert_eq(crank_session_open(&session, model, &session_options, &error), CRANK_OK, "%s",
                 error.message);
    for (int i = 0; i < times; i++) golden_rows_score(session, r, in_order, 8, logits);
    crank_model_notes(model, notes, bytes);
    crank_session_close(session);
    crank_model_close(model);
}

/* The ranges as one line: "forward(launch(begin embed_norm ...) wait) ...". */
static void text_of(const nvtx_event *events, size_t n, char *text, size_t bytes, int *depth)
{
    size_t used = 0;
    *depth = 0;
    text[0] = 0;
    for (size_t i = 0; i < n && used < bytes; i++) {
        bool begins = events[i].name[0] != 0, inner = begins && i + 1 < n && events[i + 1].name[0];
        *depth += begins ? 1 : -1;
        cr_assert_geq(*depth, 0, "a range ends that never began: %s", text);
        if (begins)
            used += (size_t)snprintf(text + used, bytes - used, "%s%s", events[i].name,
                                     inner ? "(" : "");
        else if (i > 0 && events[i - 1].name[0] == 0)
            used += (size_t)snprintf(text + used, bytes - used, ")");
        if (!begins && i + 1 < n && events[i + 1].name[0])
            used += (size_t)snprintf(text + used, bytes - used, " ");
    }
    cr_assert_lt(used, bytes);
}

static const nvtx_event *injected(size_t *n)
{
    void *library = dlopen(INJECTION, RTLD_NOW | RTLD_NOLOAD);
    if (library == NULL) return NULL; /* nobody loaded it */
    void *found = dlsym(library, "nvtx_injection_events");
    nvtx_injection_events_fn events;
    cr_assert_not_null(found);
    memcpy(&events, &found, sizeof events);
    return events(n);
}

static bool ready(golden_rows *r, const char *test)
{
    if (cuda_skipped(test)) return false;
    if (!cuda_range_built) {
        fprintf(stderr, "SKIPPED: %s: built without the NVTX header\n", test);
        return false;
    }
    setenv("NVTX_INJECTION64_PATH", INJECTION, 1);
    return golden_rows_open(r, "bert-h64");
}

Test(cuda_nvtx, ranges_are_named_nested_and_balanced)
{
    /* Two layers; of the last one the head's row alone is computed. */
#define OPS                                                                                        \
    "begin embed_norm linear attention linear_residual_norm linear linear_residual_norm "          \
    "gather_first linear attention_rows_folded linear_residual_norm linear "                       \
    "linear_residual_norm head"
    static const char expected[] = "forward(launch(" OPS ") wait) "
                                   "forward(capture(" OPS ") graph wait) "
                                   "forward(graph wait)";
    static char text[8192], notes[512];
    golden_rows r;
    size_t n;
    int depth;
    if (!ready(&r, "ranges_are_named_nested_and_balanced")) return;
    run(&r, INJECTION, 3, notes, sizeof notes);
    const nvtx_event *events = injected(&n);
    cr_assert_not_null(events, "NVTX has not loaded %s", INJECTION);
    cr_assert_lt(n, NVTX_EVENTS);
    text_of(events, n, text, sizeof text, &depth);
    cr_expect_eq(depth, 0, "%d ranges never end", depth);
    cr_expect_str_eq(text, expected);
    cr_expect_str_empty(notes);
    golden_rows_close(&r);
    cr_assert_eq(cuda_reports(), 0);
}

/* Not asked for: the environment's library is not even loaded. */
Test(cuda_nvtx, nothing_is_loaded_unless_asked_for)
{
    char notes[512];
    golden_rows r;
    size_t n;
    if (!ready(&r, "nothing_is_loaded_unless_asked_for")) return;
    run(&r, NULL, 3, notes, sizeof notes);
    cr_expect_null(injected(&n));
    golden_rows_close(&r);
}

Test(cuda_nvtx, a_build_without_the_header_says_so)
{
    char notes[512];
    golden_rows r;
    if (cuda_skipped("a_build_without_the_header_says_so") || !golden_rows_open(&r, "bert-h64"))
        return;
    run(&r, INJECTION, 1, notes, sizeof notes);
    cr_expect_eq(strstr(notes, "no header") == NULL, cuda_range_built, "%s", notes);
    golden_rows_close(&r);
}
