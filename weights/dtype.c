#include "weights/dtype.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define HAVE_F16C_PATH 1
#else
#define HAVE_F16C_PATH 0
#endif

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "tensors are little-endian in files and are read as they stand"
#endif

static const struct {
    const char *name;
    size_t bytes;
} types[DTYPE_COUNT] = {
#define DTYPE_ROW(name, bytes) {#name, bytes},
    DTYPE_LIST(DTYPE_ROW)
#undef DTYPE_ROW
};

const char *dtype_name(dtype type)
{
    return (unsigned)type < DTYPE_COUNT ? types[type].name : "?";
}

size_t dtype_bytes(dtype type)
{
    return (unsigned)type < DTYPE_COUNT ? types[type].bytes : 0;
}

dtype dtype_parse(const char *name, size_t name_bytes)
{
    int type = 0;
    while (type < DTYPE_COUNT && (strlen(types[type].name) != name_bytes ||
                                  memcmp(types[type].name, name, name_bytes) != 0)) {
        type++;
    }
    return (dtype)type;
}

int dtype_is_float(dtype type)
{
    return type == DTYPE_F32 || type == DTYPE_F16 || type == DTYPE_BF16 || type == DTYPE_F64;
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

float dtype_f32_from_f16(uint16_t bits)
{
    uint32_t sign = (uint32_t)(bits & 0x8000u) << 16;
    uint32_t magnitude = bits & 0x7FFFu;
    if (magnitude > 0x7C00u) return float_of(sign | 0x7FC00000u | magnitude << 13); /* made quiet */
    if (magnitude == 0x7C00u) return float_of(sign | 0x7F800000u);
    if (magnitude >= 0x0400u) return float_of(sign | ((magnitude << 13) + (112u << 23)));
    /* Subnormal: magnitude * 2^-24, a product of two numbers that fp32 holds exactly. */
    return float_of(sign | bits_of((float)magnitude * 0x1p-24f));
}

uint16_t dtype_f16_from_f32(float value)
{
    uint32_t bits = bits_of(value);
    uint32_t sign = bits >> 16 & 0x8000u;
    uint32_t magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u) return (uint16_t)(sign | 0x7E00u | (magnitude >> 13 & 0x3FFu));
    if (magnitude >= 0x477FF000u) return (uint16_t)(sign | 0x7C00u); /* 65520 and above */
    if (magnitude >= 0x38800000u) {                                  /* 2^-14: normal in f16 */
        magnitude += 0xFFFu + (magnitude >> 13 & 1u);
        return (uint16_t)(sign | (magnitude - (112u << 23)) >> 13);
    }
    if (magnitude <= 0x33000000u) return (uint16_t)sign; /* up to 2^-25, the tie included */
    uint32_t shift = 126u - (magnitude >> 23);
    uint32_t mantissa = (magnitude & 0x7FFFFFu) | 0x800000u;
    uint32_t rounded = mantissa >> shift;
    uint32_t rest = mantissa & ((1u << shift) - 1u), half = 1u << (shift - 1u);
    rounded += rest > half || (rest == half && (rounded & 1u));
    return (uint16_t)(sign | rounded);
}

float dtype_f32_from_bf16(uint16_t bits)
{
    return float_of((uint32_t)bits << 16);
}

uint16_t dtype_bf16_from_f32(float value)
{
    uint32_t bits = bits_of(value);
    uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
    uint32_t quiet = bits >> 16 | 0x40u;
    return (uint16_t)((bits & 0x7FFFFFFFu) > 0x7F800000u ? quiet : rounded);
}

/* Elements are fetched and stored with memcpy: tensors in a file may be misaligned. */
static void widen_bf16(float *dst, const uint8_t *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t bits;
        memcpy(&bits, src + 2 * i, sizeof bits);
        dst[i] = dtype_f32_from_bf16(bits);
    }
}

static void narrow_bf16(uint8_t *dst, const float *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t bits = dtype_bf16_from_f32(src[i]);
        memcpy(dst + 2 * i, &bits, sizeof bits);
    }
}

static void widen_f16(float *dst, const uint8_t *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t bits;
        memcpy(&bits, src + 2 * i, sizeof bits);
        dst[i] = dtype_f32_from_f16(bits);
    }
}

static void narrow_f16(uint8_t *dst, const float *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t bits = dtype_f16_from_f32(src[i]);
        memcpy(dst + 2 * i, &bits, sizeof bits);
    }
}

#if HAVE_F16C_PATH
__attribute__((target("avx,f16c"))) static void widen_f16_f16c(float *dst, const uint8_t *src,
                                                               size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m128i bits = _mm_loadu_si128((const __m128i *)(const void *)(src + 2 * i));
        _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(bits));
    }
    widen_f16(dst + i, src + 2 * i, n - i);
}

__attribute__((target("avx,f16c"))) static void narrow_f16_f16c(uint8_t *dst, const float *src,
                                                                size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m128i bits = _mm256_cvtps_ph(_mm256_loadu_ps(src + i), _MM_FROUND_TO_NEAREST_INT);
        _mm_storeu_si128((__m128i *)(void *)(dst + 2 * i), bits);
    }
    narrow_f16(dst + 2 * i, src + i, n - i);
}
#endif

static int have_f16c(void)
{
#if HAVE_F16C_PATH
    return __builtin_cpu_supports("avx2"); /* clang 14 cannot ask for f16c; no AVX2 lacks it */
#else
    return 0;
#endif
}

crank_status dtype_to_f32(float *dst, const void *src, dtype type, size_t n, crank_error *error)
{
    switch ((int)type) {
    case DTYPE_F32: memmove(dst, src, n * sizeof *dst); return CRANK_OK;
    case DTYPE_BF16: widen_bf16(dst, src, n); return CRANK_OK;
    case DTYPE_F16:
#if HAVE_F16C_PATH
        if (have_f16c()) {
            widen_f16_f16c(dst, src, n);
            return CRANK_OK;
        }
#endif
        widen_f16(dst, src, n);
        return CRANK_OK;
    case DTYPE_F64:
        for (size_t i = 0; i < n; i++) {
            double value;
            memcpy(&value, (const uint8_t *)src + 8 * i, sizeof value);
            dst[i] = (float)value;
        }
        return CRANK_OK;
    }
    return status_fail(error, CRANK_UNSUPPORTED,
                       "dtype %s cannot be read as numbers (F32, F16, "
                       "BF16 and F64 can)",
                       dtype_name(type));
}

crank_status dtype_from_f32(void *dst, dtype type, const float *src, size_t n, crank_error *error)
{
    switch ((int)type) {
    case DTYPE_F32: memmove(dst, src, n * sizeof *src); return CRANK_OK;
    case DTYPE_BF16: narrow_bf16(dst, src, n); return CRANK_OK;
    case DTYPE_F16:
#if HAVE_F16C_PATH
        if (have_f16c()) {
            narrow_f16_f16c(dst, src, n);
            return CRANK_OK;
        }
#endif
        narrow_f16(dst, src, n);
        return CRANK_OK;
    case DTYPE_F64:
        for (size_t i = 0; i < n; i++) {
            double value = src[i];
            memcpy((uint8_t *)dst + 8 * i, &value, sizeof value);
        }
        return CRANK_OK;
    }
    return status_fail(error, CRANK_UNSUPPORTED,
                       "dtype %s cannot be written from numbers (F32, "
                       "F16, BF16 and F64 can)",
                       dtype_name(type));
}

size_t dtype_finite_prefix(const float *values, size_t n)
{
    enum { BLOCK = 4096 }; /* whole blocks without a branch in them: the usual case is "all" */
    size_t done = 0;
    while (done < n) {
        size_t block = n - done < BLOCK ? n - done : BLOCK;
        uint32_t any = 0;
        for (size_t i = 0; i < block; i++) {
            any |= (bits_of(values[done + i]) & 0x7F800000u) == 0x7F800000u;
        }
        if (any) break;
        done += block;
    }
    while (done < n && (bits_of(values[done]) & 0x7F800000u) != 0x7F800000u) done++;
    return done;
}
