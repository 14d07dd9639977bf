#!/usr/bin/env bash
# What count_tests.awk makes of a log: passes, skips, failures, and sanitizer reports of tests that "pass".
set -euo pipefail
cd "$(dirname "$0")"
printed=$(awk -f count_tests.awk <<'LOG'
1: [RUN ] a::clean
1: [PASS] a::clean: (0.01s)
1: SKIPPED: no such model
1: [PASS] a::skipped: (0.00s)
1/4 Test  #1: a ................   Passed    0.02 sec
2: [RUN ] b::leaks
2: [PASS] b::leaks: (0.01s)
2: ==77==ERROR: LeakSanitizer: detected memory leaks
2/4 Test  #2: b ................   Passed    0.02 sec
3: src/file.c:5:7: runtime error: null pointer passed as argument 1
3: [PASS] c::undefined: (0.01s)
3/4 Test  #3: c ................   Passed    0.02 sec
4: 3 passed, 0 failed, 1 skipped
4/4 Test  #4: d ................   Passed    0.02 sec
LOG
)
counts=$(tail -n 1 <<<"$printed")
[[ $printed == *"skipped: no such model"* ]] || { echo "the reason of a skip is not printed: $printed" >&2; exit 1; }
[[ $counts == "COUNTS 6 2 2" ]] || { echo "expected COUNTS 6 2 2, found $counts" >&2; exit 1; }
