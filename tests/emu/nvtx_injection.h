/* What tests/emu/nvtx_injection.c writes down. */
#ifndef CRANK_TESTS_NVTX_INJECTION_H
#define CRANK_TESTS_NVTX_INJECTION_H

#include <stddef.h>

#define NVTX_EVENTS 4096

typedef struct nvtx_event {
    char name[40]; /* of a range that begins; "": the innermost one ends */
} nvtx_event;

typedef const nvtx_event *(*nvtx_injection_events_fn)(size_t *n);

#endif
