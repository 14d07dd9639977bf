/* The small op cases as a plain program, for ThreadSanitizer: every op split over two threads. How
 * work is split does not depend on the instruction set: one per backend is enough. */
#include <stdio.h>

#include "support/ops_cases.h"

int main(void)
{
    static ops_report report;
    int failures = 0;
    for (size_t i = 0; i < n_ops_table; i++) {
        for (int dtype = 0; dtype < OPS_N_DTYPES; dtype++) {
            ops_subject subject = ops_table[i];
            if (subject.options.isa != NULL) continue;
            crank_error error = {0};
            subject.dtype = (ops_dtype)dtype;
            subject.max_mflop = 2;
            crank_status status = ops_cases_run(&subject, &report, &error);
            if (status == CRANK_UNSUPPORTED) continue;
            printf("%s %s: %d cases, %d skipped, %d failed\n%s", subject.backend->name,
                   ops_dtypes[dtype].name, report.n_cases, report.n_skipped, report.n_failed,
                   status != CRANK_OK ? error.message : report.failures);
            failures += status != CRANK_OK || report.n_failed > 0;
        }
    }
    return failures > 0;
}
