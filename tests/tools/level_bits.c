/* Prints, for every level of this CPU and every dtype, whether the small op cases agree with the
 * reference and a hash of all their bits: what neon_under_qemu.sh compares across architectures. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "support/ops_cases.h"

static int run(const char *isa, ops_dtype dtype)
{
    static ops_report report;
    ops_subject subject = {.backend = &ops_backend_cpu,
                           .options.isa = isa,
                           .dtype = dtype,
                           .expected = &ops_backend_ref,
                           .max_mflop = 2};
    crank_error error = {0};
    crank_status status = ops_cases_run(&subject, &report, &error);
    uint64_t hash = 1469598103934665603u; /* FNV-1a over the digests */
    for (int i = 0; i < report.n_cases; i++) hash = (hash ^ report.digests[i]) * 1099511628211u;
    printf("%s %s %016" PRIx64 " %d cases, %d failed\n", isa, ops_dtypes[dtype].name, hash,
           report.n_cases, report.n_failed);
    if (status != CRANK_OK || report.n_failed > 0) {
        fprintf(stderr, "%s\n%s", error.message, report.failures);
    }
    return status != CRANK_OK || report.n_failed > 0;
}

int main(void)
{
    void *device;
    size_t n;
    if (ops_backend_cpu.open(&device, NULL, NULL) != CRANK_OK) return 1;
    const ops_variant *variants = ops_backend_cpu.variants(device, &n);
    static const ops_dtype dtypes[] = {OPS_F32, OPS_BF16, OPS_INT8};
    const char *last = "";
    int failures = 0;
    for (size_t i = 0; i < n; i++) {
        if (!variants[i].available || strcmp(variants[i].isa, last) == 0) continue;
        last = variants[i].isa;
        for (int d = 0; d < 3; d++) failures += run(last, dtypes[d]);
    }
    ops_backend_cpu.close(device);
    return failures > 0;
}
