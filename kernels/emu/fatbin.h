/* Finds the PTX in what cuModuleLoadData is given: PTX text, a fatbin, or the wrapper around one
 * (struct __fatBinC_Wrapper_t). The layout is undocumented; this is what nvcc 11 to 13 write. */
#ifndef CRANK_EMU_FATBIN_H
#define CRANK_EMU_FATBIN_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

/* Sets *text and *bytes to the PTX (inside image) with the highest target that a device of this
 * compute capability can take. bytes of image: 0 when unknown, as for cuModuleLoadData, which
 * trusts the caller. Fails: FORMAT (neither form), UNSUPPORTED (no such PTX, or compressed; the
 * message says how to build it). */
crank_status fatbin_find_ptx(const void *image, size_t image_bytes, uint32_t capability,
                             const char **text, size_t *bytes, crank_error *error);

#endif
