/* crank-emu: one kernel of a fatbin or a PTX file on the emulator, with buffers from files or
 * patterns; what the checks found and what the counters say, as text or JSON.
 *
 * The path: main.c reads the options -> argument.c makes the buffers and values -> launch.c runs
 * the kernel through the driver calls that any program would make, once per order -> report.c
 * prints. The program links libcrank_emu.so and nothing of crank but base/. */
#ifndef CRANK_EMU_COMMAND_H
#define CRANK_EMU_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "kernels/emu/cuda_abi.h"
#include "kernels/emu/emu.h"

/* The program's exit codes, as those of crank. */
typedef enum command_exit {
    COMMAND_OK = 0,
    COMMAND_FINDINGS = 1, /* a check found something, the kernel trapped, or orders differ */
    COMMAND_USAGE = 2,    /* bad usage, a file or a launch that the emulator refuses */
    COMMAND_MEMORY = 5,
    COMMAND_INTERNAL = 70
} command_exit;

/* "crank-emu: message" on stderr; control characters in it become '?'. Returns code. */
command_exit command_fail(command_exit code, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* ---- arguments (argument.c) --------------------------------------------------------------------
 */

/* X(name, bytes) */
#define ELEMENT_LIST(X)                                                                            \
    X(u8, 1)                                                                                       \
    X(i8, 1)                                                                                       \
    X(f16, 2)                                                                                      \
    X(bf16, 2)                                                                                     \
    X(u32, 4)                                                                                      \
    X(i32, 4)                                                                                      \
    X(f32, 4)                                                                                      \
    X(u64, 8)                                                                                      \
    X(i64, 8)                                                                                      \
    X(f64, 8)

#define ELEMENT_ENUM(name, bytes) ELEMENT_##name,
typedef enum element { ELEMENT_LIST(ELEMENT_ENUM) N_ELEMENTS } element;
#undef ELEMENT_ENUM

/* One argument of the kernel. A value's bytes are what the parameter gets; a buffer's are what it
 * holds before the launch (NULL: nothing, reading it is a finding), and the parameter its address.
 */
typedef struct argument {
    const char *text; /* as given */
    bool is_buffer;
    element type;
    uint8_t *bytes;
    size_t n_bytes;
    const char *out_path; /* inside text's copy; NULL: none */
    uint32_t n_shown;
    char *copy;
    uint64_t address;
    uint8_t *result; /* a buffer's bytes after the first launch */
} argument;

/* Reads "i32:5", "raw:0102", "buf:1024xf32,random,show", "file:in.bin,out=out.bin". */
command_exit argument_parse(argument *a, const char *text);
void argument_close(argument *a);
/* Element `index` of bytes as a number in text. */
void argument_number(char *out, size_t room, element type, const uint8_t *bytes, size_t index);
extern const char *const element_names[N_ELEMENTS];

/* A whole file with a zero behind it, at most 2^31 bytes. */
command_exit command_read_file(const char *path, uint8_t **bytes, size_t *n_bytes);
/* All of it or nothing: under a temporary name first. */
command_exit command_write_file(const char *path, const uint8_t *bytes, size_t n_bytes);
/* A number with an optional k, m or g (powers of 1024) behind it; false when it is none. */
bool command_size(const char *text, uint64_t *out);

/* ---- the launch (launch.c) ---------------------------------------------------------------------
 */

typedef struct command {
    const char *file, *kernel;
    uint32_t grid[3], block[3], shared_bytes;
    emu_options options;
    bool json, list, orders;
    uint32_t n_lines;
    argument *arguments;
    size_t n_arguments;

    /* what came of it */
    int result;        /* the driver's, of the first launch that failed, else 0 */
    char message[512]; /* why */
    emu_report *findings;
    size_t n_findings;
    bool differ; /* with orders: some buffer's bytes depend on the order */
    char difference[160];
    emu_counters counters;
    char *lines;
} command;

/* Runs the kernel in one order, or in all three. COMMAND_OK also when something was found. */
command_exit command_run(command *c);
/* Prints the file's kernels with their parameters. */
command_exit command_list(command *c);

/* ---- output (report.c) -------------------------------------------------------------------------
 */

command_exit command_print(const command *c);

/* ---- the driver, as cuda.h declares it ---------------------------------------------------------
 */

abi_result cuInit(unsigned int flags);
abi_result cuGetErrorName(abi_result result, const char **text);
abi_result cuDevicePrimaryCtxRetain(abi_context *context, abi_device device);
abi_result cuDevicePrimaryCtxRelease_v2(abi_device device);
abi_result cuCtxSetCurrent(abi_context context);
abi_result cuCtxSynchronize(void);
abi_result cuMemAlloc_v2(abi_deviceptr *address, size_t bytes);
abi_result cuMemFree_v2(abi_deviceptr address);
abi_result cuMemcpyHtoD_v2(abi_deviceptr to, const void *from, size_t bytes);
abi_result cuMemcpyDtoH_v2(void *to, abi_deviceptr from, size_t bytes);
abi_result cuModuleLoadData(abi_module *module, const void *image);
abi_result cuModuleUnload(abi_module module);
abi_result cuModuleGetFunction(abi_function *function, abi_module module, const char *name);
abi_result cuModuleGetFunctionCount(unsigned int *count, abi_module module);
abi_result cuModuleEnumerateFunctions(abi_function *functions, unsigned int n, abi_module module);
abi_result cuFuncGetName(const char **name, abi_function function);
abi_result cuFuncGetParamInfo(abi_function function, size_t index, size_t *offset, size_t *bytes);
abi_result cuFuncGetAttribute(int *value, int which, abi_function function);
abi_result cuFuncSetAttribute(abi_function function, int which, int value);
abi_result cuLaunchKernel(abi_function function, unsigned int grid_x, unsigned int grid_y,
                          unsigned int grid_z, unsigned int block_x, unsigned int block_y,
                          unsigned int block_z, unsigned int shared_bytes, abi_stream stream,
                          void **pointers, void **extra);

#endif
