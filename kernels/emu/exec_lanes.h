/* Loops over the 32 lanes of a warp, for the files that run arithmetic. Those files are compiled
 * once per host instruction set (EMU_ISA names the copy); the compiler vectorises the loops. All
 * copies give the same bits: contraction is off and every helper rounds explicitly. */
#ifndef CRANK_EMU_EXEC_LANES_H
#define CRANK_EMU_EXEC_LANES_H

#include <math.h>
#include <string.h>

#include "kernels/emu/exec.h"

#ifndef EMU_ISA
#define EMU_ISA base
#endif
#define EMU_JOIN2(a, b) a##_##b
#define EMU_JOIN(a, b) EMU_JOIN2(a, b)
#define EMU_ISA_NAME(name) EMU_JOIN(name, EMU_ISA)

#if defined(__clang__)
#define LANE_LOOP                                                                                  \
    _Pragma("clang loop vectorize(assume_safety)") for (int l = 0; l < WARP_LANES; l++)
#else
/* Rows never overlap in part: a destination is either the same row as a source or another one. */
#define LANE_LOOP _Pragma("GCC ivdep") for (int l = 0; l < WARP_LANES; l++)
#endif

#define LANE_ON(mask, l) (((mask) >> (l)) & 1u)

#define DST(T, i) T *restrict d##i = ROW(T, in->r[i])
#define SRC(T, name, i) const T *name = ROW(T, in->r[i])

/* d[l] = expression, lane by lane, where the mask says so. */
#define LANE_STORE(T, expression)                                                                  \
    do {                                                                                           \
        T *d = ROW(T, in->r[0]);                                                                   \
        if (mask == FULL_WARP) {                                                                   \
            LANE_LOOP d[l] = (T)(expression);                                                      \
        } else {                                                                                   \
            LANE_LOOP d[l] = LANE_ON(mask, l) ? (T)(expression) : d[l];                            \
        }                                                                                          \
    } while (0)

#define DEFINE_UNARY(name, D, A, expression)                                                       \
    static void name(warp *w, const insn *in, uint32_t mask)                                       \
    {                                                                                              \
        SRC(A, a, 1);                                                                              \
        LANE_STORE(D, expression);                                                                 \
    }
#define DEFINE_BINARY(name, D, A, B, expression)                                                   \
    static void name(warp *w, const insn *in, uint32_t mask)                                       \
    {                                                                                              \
        SRC(A, a, 1);                                                                              \
        SRC(B, b, 2);                                                                              \
        LANE_STORE(D, expression);                                                                 \
    }
#define DEFINE_TERNARY(name, D, A, B, C, expression)                                               \
    static void name(warp *w, const insn *in, uint32_t mask)                                       \
    {                                                                                              \
        SRC(A, a, 1);                                                                              \
        SRC(B, b, 2);                                                                              \
        SRC(C, c, 3);                                                                              \
        LANE_STORE(D, expression);                                                                 \
    }

/* A predicate row is one mask. */
static inline void set_predicate(warp *w, uint32_t place, uint32_t mask, uint32_t bits)
{
    uint32_t *p = ROW(uint32_t, place);
    *p = (*p & ~mask) | (bits & mask);
}

static inline uint32_t predicate(const warp *w, uint32_t place)
{
    return *(const uint32_t *)(const void *)(w->regs + place);
}

static inline float float_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static inline uint32_t bits_from_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

static inline double double_from_bits(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, 8);
    return value;
}

static inline uint64_t bits_from_double(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, 8);
    return bits;
}

#endif
