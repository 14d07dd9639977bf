/* Races of the server: the black-box tests that mix threads, over the program of this build, which
 * under ThreadSanitizer reports what it sees and dies. A plain program that becomes python3. */
#define _DEFAULT_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(void)
{
#ifdef CRANK_HAVE_SERVER
    setenv("CRANK", CRANK_BINARY_DIR "/crank", 1);
    setenv("CRANK_SLOW", "1", 1);
    setenv("TSAN_OPTIONS", "halt_on_error=1", 0);
    execlp("python3", "python3", CRANK_SOURCE_DIR "/tests/server/requests_test.py", "Load",
           "Stopping.test_term_under_load_loses_nothing", "Redis",
           "Requests.test_scores_are_those_of_crank_rank_bit_for_bit",
           "Time.test_slow_body_is_408", "Requests.test_body_over_the_limit_in_chunks", NULL);
    printf("SKIPPED: python3 is not installed\n");
#endif
    return 0;
}
