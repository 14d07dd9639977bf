/* Monotonic time (CLOCK_MONOTONIC). */
#ifndef CRANK_BASE_CLOCK_H
#define CRANK_BASE_CLOCK_H

#include <stdint.h>

int64_t clock_ns(void);
int64_t clock_us(void);

#endif
