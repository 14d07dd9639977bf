/* Element types: one table of name, bytes and enum, the only place that lists them, and the exact
 * conversions between fp32 and the two 16-bit floats.
 *
 * 16 -> 32 bits is exact. 32 -> 16 rounds to nearest, ties to even; too large becomes infinity; a
 * NaN stays a NaN of the same sign, made quiet, with the upper bits of its payload (what x86's F16C
 * does, so that the portable path and the fast path agree bit for bit). Source: IEEE 754-2019,
 * 3.4, 4.3.1, 5.4.2. */
#ifndef CRANK_DTYPE_H
#define CRANK_DTYPE_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

/* X(name as safetensors spells it, bytes). Only the first four are read as weights; the others may
 * stand in a file (buffers, quantised tensors, crank's own blobs) and are moved as bytes.
 * safetensors' sub-byte types (F4, F6_*) are absent: a file with one is refused by name. */
#define DTYPE_LIST(X)                                                                              \
    X(F32, 4)                                                                                      \
    X(F16, 2)                                                                                      \
    X(BF16, 2)                                                                                     \
    X(F64, 8)                                                                                      \
    X(I8, 1)                                                                                       \
    X(U8, 1)                                                                                       \
    X(I16, 2)                                                                                      \
    X(U16, 2)                                                                                      \
    X(I32, 4)                                                                                      \
    X(U32, 4)                                                                                      \
    X(I64, 8)                                                                                      \
    X(U64, 8)                                                                                      \
    X(BOOL, 1)                                                                                     \
    X(C64, 8)                                                                                      \
    X(F8_E4M3, 1)                                                                                  \
    X(F8_E5M2, 1)                                                                                  \
    X(F8_E8M0, 1)                                                                                  \
    X(F8_E4M3FNUZ, 1)                                                                              \
    X(F8_E5M2FNUZ, 1)

typedef enum dtype {
#define DTYPE_ENUM(name, bytes) DTYPE_##name,
    DTYPE_LIST(DTYPE_ENUM)
#undef DTYPE_ENUM
        DTYPE_COUNT
} dtype;

const char *dtype_name(dtype type); /* "BF16"; "?" outside the list */
size_t dtype_bytes(dtype type);     /* 2; 0 outside the list */
/* By exact name, given with its length. DTYPE_COUNT when there is no such type. */
dtype dtype_parse(const char *name, size_t name_bytes);
/* True for the types that dtype_to_f32 reads: F32, F16, BF16, F64. */
int dtype_is_float(dtype type);

float dtype_f32_from_f16(uint16_t bits);
float dtype_f32_from_bf16(uint16_t bits);
uint16_t dtype_f16_from_f32(float value);
uint16_t dtype_bf16_from_f32(float value);

/* dst[i] = src[i], i < n. src: n elements of a float type, any alignment; dst must not overlap it
 * (F32 may be converted in place: dst == src). F64 is rounded to nearest even.
 * Fails: UNSUPPORTED (names the type). */
crank_status dtype_to_f32(float *dst, const void *src, dtype type, size_t n, crank_error *error);
/* The way back, to F32, F16, BF16 or F64. dst: any alignment. */
crank_status dtype_from_f32(void *dst, dtype type, const float *src, size_t n, crank_error *error);

/* The number of elements before the first infinity or NaN; n when all are finite. */
size_t dtype_finite_prefix(const float *values, size_t n);

#endif
