/* Ranges for profilers (Nsight Systems and others that take NVTX), on a device opened with an
 * nvtx_path:
 *
 *   forward                 one batch, from its last op recorded to its results
 *     launch                kernel by kernel: a batch whose like was not seen before
 *       embed_norm, linear, attention, ...   the ops' names in kernels/ops.h; "begin" the copy in
 *     capture               the second batch of its like: the same ops, recorded into a graph
 *       embed_norm, linear, attention, ...
 *     graph                 the graph's launch: from then on one range, as the driver sees one
 * call; a profiler's graph node trace shows the kernels, whose names tell ops wait
 *
 * Ops only append to a list when they are called, so ranges are around what the driver is asked,
 * not around the calls of ops.h.
 *
 * NVTX is a header whose first call loads the library that the environment variable
 * NVTX_INJECTION64_PATH names: that is how a profiler comes in. The engine reads no environment, so
 * its caller passes that path on (`crank --nvtx` does), and a device without it makes no NVTX call.
 * Built without the header, cuda_range_built is false and nothing is ever called. */
#ifndef CRANK_CUDA_NVTX_H
#define CRANK_CUDA_NVTX_H

#include <stdbool.h>

extern const bool cuda_range_built;

/* Before the first range. NVTX loads one library a process: the first path given counts. */
void cuda_range_open(const char *path);
/* Balanced within one thread; name lives until the pop. */
void cuda_range_push(const char *name);
void cuda_range_pop(void);

#endif
