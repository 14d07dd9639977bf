/* Which backends this build has, and how a device option becomes one of them. One row per backend,
 * fastest first: `auto` takes the first that opens. */
#ifndef CRANK_RUNTIME_DEVICES_H
#define CRANK_RUNTIME_DEVICES_H

#include "crank.h"
#include "kernels/ops.h"

typedef struct device_row {
    crank_device device;
    const ops_backend *backend;
    const char *layout_prefix; /* of the layouts it prefers: "panel16", for converting without it */
} device_row;

extern const device_row device_rows[]; /* backend NULL ends */

/* Opens what the options ask for. Fails: DEVICE (names the device and why), UNSUPPORTED. */
crank_status device_open(const crank_model_options *options, const ops_backend **backend,
                         void **device, crank_error *error);

/* The backend of an explicit device, without opening it; CRANK_DEVICE_AUTO means the CPU's best. */
const device_row *device_find(crank_device device);

/* The layout that a device would use for a dtype ("panel16-int8"), without opening it; NULL: none.
 */
const ops_layout *device_layout(crank_device device, ops_dtype dtype);

ops_dtype device_dtype(crank_dtype dtype); /* not for AUTO */

#endif
