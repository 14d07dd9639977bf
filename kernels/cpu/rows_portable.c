/* The row kernels in plain C. */
#include "kernels/cpu/v16_portable.h"

#include "kernels/cpu/rows_body.h"
