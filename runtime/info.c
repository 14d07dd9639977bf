/* What this machine and this build have: devices and kernel variants, synthetic shapes. */
#include <string.h>

#include "kernels/maxsim.h"
#include "runtime/devices.h"
#include "runtime/reader.h"
#include "weights/synth.h"

/* MaxSim has a table of its own (kernels/maxsim.h): it runs on the host for every device. */
static void visit_maxsim(const ops_backend *backend, const char *isa,
                         void (*visit)(void *user, const crank_variant *variant), void *user)
{
    bool ref = backend == &ops_backend_ref;
    const maxsim_kernel *chosen =
        ref ? maxsim_kernel_for("ref")
            : maxsim_kernel_for_level(backend == &ops_backend_cpu ? isa : NULL);
    for (int type = 0; type < MAXSIM_N_TYPES; type++) {
        for (size_t i = 0; i < maxsim_n_kernels; i++) {
            const maxsim_kernel *k = &maxsim_kernels[i];
            crank_variant v = {
                "maxsim",   type == MAXSIM_F32 ? "f32" : "int8",
                k->isa,     strcmp(k->isa, "ref") == 0 ? "specification" : "lanes of query vectors",
                "any",      k->available(),
                k == chosen};
            visit(user, &v);
        }
    }
}

crank_status crank_variants(const crank_model_options *options,
                            void (*visit)(void *user, const crank_variant *variant), void *user,
                            crank_error *error)
{
    CRANK_CHECK(visit != NULL, INVALID_ARGUMENT, error, "crank_variants: visit must not be NULL");
    crank_model_options settings;
    CRANK_TRY(options_read(&settings, sizeof settings, options, "crank_model_options", error));
    const ops_backend *backend;
    void *device;
    CRANK_TRY(device_open(&settings, &backend, &device, error));
    size_t n;
    const ops_variant *variants = backend->variants(device, &n);
    for (size_t i = 0; i < n; i++) {
        crank_variant v = {variants[i].op,      variants[i].dtype, variants[i].isa,
                           variants[i].name,    variants[i].shape, variants[i].available,
                           variants[i].selected};
        visit(user, &v);
    }
    backend->close(device);
    visit_maxsim(backend, settings.isa, visit, user);
    return CRANK_OK;
}

crank_status crank_devices(const crank_model_options *options,
                           void (*visit)(void *user, const crank_device_info *device), void *user,
                           crank_error *error)
{
    CRANK_CHECK(visit != NULL, INVALID_ARGUMENT, error, "crank_devices: visit must not be NULL");
    crank_model_options settings;
    CRANK_TRY(options_read(&settings, sizeof settings, options, "crank_model_options", error));
    for (const device_row *row = device_rows; row->backend != NULL; row++) {
        const ops_backend *backend;
        void *device;
        crank_error reason = {0};
        settings.device = row->device;
        crank_status status = device_open(&settings, &backend, &device, &reason);
        CRANK_CHECK(status != CRANK_OUT_OF_MEMORY, OUT_OF_MEMORY, error, "%s", reason.message);
        crank_device_info info = {.name = row->backend->name, .description = reason.message};
        if (status == CRANK_OK) {
            info.available = 1;
            info.description = backend->describe(device);
            info.default_dtype = ops_dtypes[backend->best_dtype(device)].name;
        }
        visit(user, &info);
        if (status == CRANK_OK) backend->close(device);
    }
    return CRANK_OK;
}

crank_status crank_synth(const char *shape, const char *directory, uint64_t seed,
                         crank_error *error)
{
    CRANK_CHECK(shape != NULL && directory != NULL, INVALID_ARGUMENT, error,
                "crank_synth: shape and directory must not be NULL");
    const synth_shape *found = synth_find(shape);
    CRANK_CHECK(found != NULL, INVALID_ARGUMENT, error,
                "no such shape: %s (expected one of those that crank_synth_shapes lists)", shape);
    return synth_write(directory, found, DTYPE_F32, seed, error);
}

const char *const *crank_synth_shapes(void)
{
    static const char *const names[] = {"minilm-l6",    "minilm-l12", "tinybert-l2", "tinybert-l4",
                                        "electra-base", "bert-base",  "bert-large",  NULL};
    return names;
}
