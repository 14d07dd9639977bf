/* libcrank_emu.so: a second libcuda. It exports the CUDA driver calls (and the cuBLASLt calls) that
 * crank's engine makes, runs the PTX that nvcc made on CPU threads, and checks what a GPU does not.
 *
 * A program needs nothing of this header to run on the emulator: it opens libcrank_emu.so where it
 * would open libcuda.so.1. Tests that want to choose checks, inject failures or read counters find
 * the functions below with dlsym. All of them may be called from any thread; emu_configure and
 * emu_reset expect that no other call is under way.
 *
 * Kernels must be in the module as PTX text: a fatbin made with `nvcc -fatbin -gencode
 * arch=compute_80,code=compute_80 --compress-mode=none -lineinfo`, or the .ptx itself. -lineinfo
 * gives reports their source lines.
 *
 * What it does not show: time, occupancy, caches, ptxas' choices, weak memory order between blocks
 * (blocks run one after another: run a grid forward and in reverse and compare), the tensor cores'
 * truncation inside an mma (here: exact sums of 8 products, rounded to nearest), the last bits of
 * the approximate functions. */
#ifndef CRANK_EMU_H
#define CRANK_EMU_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EMU_API __attribute__((visibility("default")))

/* X(name, bit, word in reports, what it finds) */
#define EMU_CHECK_LIST(X)                                                                          \
    X(GLOBAL_BOUNDS, 0, "global-bounds", "access outside every device allocation")                 \
    X(GLOBAL_ALIGN, 1, "global-align", "address not a multiple of the access size")                \
    X(GLOBAL_INIT, 2, "global-init", "read of device memory that nothing has written")             \
    X(SHARED_BOUNDS, 3, "shared-bounds", "access outside the block's shared arrays")               \
    X(SHARED_ALIGN, 4, "shared-align", "shared address not a multiple of the access size")         \
    X(SHARED_INIT, 5, "shared-init", "read of shared memory that nothing has written")             \
    X(SHARED_RACE, 6, "shared-race", "two threads, one of them writing, no barrier between")       \
    X(BARRIER, 7, "barrier", "barrier that not every thread reaches, or at two places")            \
    X(ASYNC, 8, "cp-async", "shared memory used while a cp.async to it may be in flight")          \
    X(ASYNC_EXIT, 9, "cp-async-exit", "thread exits with copies in flight")                        \
    X(WARP_SYNC, 10, "warp-sync", "shuffle, vote or mma that a named lane does not reach")         \
    X(LOCAL, 11, "local", "access outside the thread's local memory or parameters")                \
    X(LEAK, 12, "leak", "memory, streams, modules or graphs alive when the context goes")          \
    X(HOST, 13, "host", "a driver call that a GPU would refuse or that is undefined")

#define EMU_CHECK_ENUM(name, bit, word, meaning) EMU_CHECK_##name = 1u << (bit),
enum { EMU_CHECK_LIST(EMU_CHECK_ENUM) EMU_CHECK_ALL = 0x3fff };
#undef EMU_CHECK_ENUM

/* The order in which the warps of a block, and the blocks of a grid, take their turns. RANDOM also
 * switches warps between instructions. */
enum { EMU_FORWARD, EMU_REVERSE, EMU_RANDOM };

/* What the emulated cuBLASLt is like: sound (each element's sum in one order, which is not that of
 * an mma), or with one property that a caller must be able to live with or to find out. */
enum {
    EMU_LT_SOUND,
    EMU_LT_ROW_DEPENDENT,  /* every other group of 64 columns of D is summed in another order */
    EMU_LT_SIZE_DEPENDENT, /* sums have another order from 1024 columns of D on */
    EMU_LT_LIKE_MMA,       /* sums as a chain of mma instructions has them */
    EMU_LT_NO_ALGORITHM,   /* the heuristic finds none */
    EMU_LT_SPLIT_ONLY,     /* the heuristic offers split-K alone */
    EMU_LT_WANTS_MORE,     /* a matmul asks for more workspace than its algorithm said */
    EMU_LT_N_KINDS
};

/* Zeroed fields other than `checks` mean the default; emu_defaults fills them all in. */
typedef struct emu_options {
    uint32_t size;       /* sizeof(emu_options) */
    uint32_t checks;     /* EMU_CHECK_... ; default all, 0 = as fast as it goes */
    uint32_t schedule;   /* EMU_FORWARD ... */
    uint32_t threads;    /* CPU threads for blocks that are independent; default 1, results do not
                            depend on it */
    uint64_t seed;       /* of random order */
    uint32_t capability; /* 80 (default), 86, 89, 90 */
    uint32_t eager;      /* 1: work runs when it is enqueued, as a GPU may; default 0: at the last
                            moment, streams in random order */
    uint32_t tolerant;   /* 1: reports do not make the launch fail; default 0: a launch with reports
                            ends in the error a GPU gives for it, and that error sticks */
    uint32_t no_counters;  /* 1: do not count sectors and wavefronts */
    int64_t fail_alloc;    /* the n-th cuMemAlloc or cuMemHostAlloc from now fails with
                              OUT_OF_MEMORY; default -1 = none, 0 = the next */
    int64_t fail_launch;   /* the n-th kernel to run from now fails with 719, which sticks */
    uint64_t memory_bytes; /* of the device; default 4 GiB */
    uint64_t step_limit;   /* warp instructions a block may take; default 2^33 */
    uint32_t verbose;      /* 1: each report also goes to stderr */
    uint32_t cublaslt;     /* EMU_LT_... */
} emu_options;

EMU_API void emu_defaults(emu_options *options);
/* 0, or 1 when a field is out of range (nothing changes then). Device capability and memory change
 * only while no context is alive. */
EMU_API int emu_configure(const emu_options *options);
/* Forgets everything: contexts, memory, modules, reports, counters, a sticky error. The options
 * stay. */
EMU_API void emu_reset(void);

/* Equal findings (check, kernel, instruction) are one report with a count. */
typedef struct emu_report {
    uint32_t check; /* one EMU_CHECK_ bit */
    uint32_t count;
    char kernel[128];
    uint32_t block[3], thread[3];
    uint32_t other_thread; /* of a race, linear; UINT32_MAX = none */
    uint64_t address;      /* in its space */
    uint32_t ptx_line;
    char where[256]; /* "attention.cu:40 <- kernels.cu:12"; empty without -lineinfo */
    char text[320];  /* the finding in one line */
} emu_report;

EMU_API size_t emu_report_count(void); /* distinct ones; at most 1000 are kept */
EMU_API int emu_report_get(size_t index, emu_report *out); /* 0, or 1 when there is none */
EMU_API void emu_report_clear(void);
EMU_API const char *emu_check_name(uint32_t check);

/* Why the last refused driver call was refused, in words (an unknown instruction and its line, a
 * grid that is too large, ...). Writes at most bytes; returns the length of the whole text. */
EMU_API size_t emu_last_message(char *out, size_t bytes);

/* X(name): classes of instructions. */
#define EMU_CLASS_LIST(X)                                                                          \
    X(other)                                                                                       \
    X(integer)                                                                                     \
    X(floating)                                                                                    \
    X(special) /* ex2, rcp, rsqrt, sqrt, sin, cos, lg2, tanh, div.full */                          \
    X(convert)                                                                                     \
    X(move)                                                                                        \
    X(control)                                                                                     \
    X(barrier)                                                                                     \
    X(shuffle) /* shfl, vote, match, redux */                                                      \
    X(mma)                                                                                         \
    X(ldmatrix)                                                                                    \
    X(cp_async)                                                                                    \
    X(ld_global)                                                                                   \
    X(st_global)                                                                                   \
    X(ld_shared)                                                                                   \
    X(st_shared)                                                                                   \
    X(atomic)                                                                                      \
    X(local)                                                                                       \
    X(param)

#define EMU_CLASS_ENUM(name) EMU_CLASS_##name,
enum { EMU_CLASS_LIST(EMU_CLASS_ENUM) EMU_N_CLASSES };
#undef EMU_CLASS_ENUM

/* Sums over the launches of one kernel name (or of one launch). */
typedef struct emu_counters {
    char kernel[128];
    uint64_t launches, blocks;
    uint64_t thread_instructions[EMU_N_CLASSES]; /* an mma counts 32 */
    uint64_t warp_instructions[EMU_N_CLASSES];
    uint64_t total_thread_instructions, total_warp_instructions;
    uint64_t mma_f16, mma_bf16, mma_s8, mma_other; /* warp instructions by input type */
    uint64_t flops;                                /* adds and multiplies, an fma is two */
    uint64_t global_requests;                      /* warp-wide loads, stores, atomics, cp.async */
    uint64_t global_sectors;                       /* 32-byte pieces they touch */
    uint64_t global_read_bytes, global_written_bytes; /* asked for by lanes */
    uint64_t shared_requests;
    uint64_t shared_extra_wavefronts; /* 0 = no bank conflicts */
    uint64_t shared_read_bytes, shared_written_bytes;
    uint64_t nanoseconds; /* of the host; says nothing about a GPU */
} emu_counters;

EMU_API size_t emu_counter_count(void); /* kernel names seen since the last clear */
EMU_API int emu_counter_get(size_t index, emu_counters *out);
/* By name; 1 when the kernel has not run. */
EMU_API int emu_counter_find(const char *kernel, emu_counters *out);
EMU_API int emu_counter_last(emu_counters *out); /* the last launch alone */
EMU_API void emu_counter_clear(void);
EMU_API const char *emu_class_name(uint32_t class_index);

/* The n busiest source lines of a kernel name since the last clear, as text lines
 * "share thread-instructions sectors extra-wavefronts where". Returns the bytes written. */
EMU_API size_t emu_hot_lines(const char *kernel, size_t n, char *out, size_t bytes);

/* An arena is one allocation to the checks; these draw lines inside it. Both take device
 * addresses and return 0, or 1 when the range is not in one allocation. emu_forget: the bytes count
 * as unwritten again. emu_fence: touching them is out of bounds until they are forgotten. */
EMU_API int emu_forget(uint64_t address, size_t bytes);
EMU_API int emu_fence(uint64_t address, size_t bytes);

/* Every mnemonic the interpreter accepts; NULL past the end. Families (ld, st, mma, cp.async, ...)
 * are listed by pattern. */
EMU_API const char *emu_instruction_name(size_t index);

/* Objects alive in the context. */
typedef struct emu_objects {
    uint64_t allocations, allocated_bytes, host_allocations, streams, events, modules, graphs,
        graph_executables, lt_handles;
} emu_objects;
EMU_API void emu_live_objects(emu_objects *out);

#ifdef __cplusplus
}
#endif
#endif
