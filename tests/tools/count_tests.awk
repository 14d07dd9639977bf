# Reads the log of `ctest -V` with CRITERION_JOBS=1 CRITERION_VERBOSITY_LEVEL=1: prints one line a
# program, the output of those that failed, and at the end "COUNTS passed failed skipped".
#
# A Criterion program counts its tests; a test that printed "SKIPPED: reason" (or used cr_skip)
# counts as skipped, for Criterion itself counts it as passing or not at all. A sanitizer's report is
# a failure: Criterion runs each test in a process of its own and does not look at how that ends. A
# program with a last line "N passed, N failed, N skipped" counts by that. Any other program is one
# test.

function clean(s) { gsub(/\033\[[0-9;]*m/, "", s); return s }

# "12: text" is output of test number 12.
match($0, /^[0-9]+: /) {
    id = substr($0, 1, RLENGTH - 2)
    line = clean(substr($0, RLENGTH + 1))
    if (lines[id]++ < 20000) output[id] = output[id] line "\n"
    if (line ~ /SKIPPED:|^\[SKIP\]/) {
        pending[id] = 1
        reason = line
        sub(/^.*SKIPPED: */, "", reason)
        sub(/^\[SKIP\] */, "", reason)
        if (!(reason in reasons)) reasons[reason] = ++n_reasons
        times[reason]++
    }
    if (line ~ /==[0-9]+==(ERROR|WARNING): [A-Za-z]*Sanitizer/ || line ~ /:[0-9]+:[0-9]+: runtime error: /) report[id]++
    if (line ~ /^\[(PASS|FAIL|SKIP|ERR *|CRASH|----)\]/ || line ~ /^\[RUN *\]/) criterion[id] = 1
    if (line ~ /^\[PASS\]/) {
        if (pending[id]) skip[id]++; else pass[id]++
        pending[id] = 0
    } else if (line ~ /^\[SKIP\]/) {
        skip[id]++
        pending[id] = 0
    } else if (line ~ /^\[FAIL\]/) {
        pending[id] = 0
    } else if (line ~ /^\[====\] Synthesis:/) {
        n = split(line, part, /[|:]/)
        for (i = 1; i < n; i++) if (part[i] ~ /Failing|Crashing/) fail[id] += part[i + 1]
    } else if (line ~ /^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/) {
        split(line, part, /[ ,]+/)
        own[id] = 1
        own_pass[id] = part[1]; own_fail[id] = part[3]; own_skip[id] = part[5]
    }
    next
}

# " 3/12 Test  #3: base ............   Passed    0.02 sec"
/^ *[0-9]+\/[0-9]+ Test +#[0-9]+: / {
    id = $0
    sub(/^.*Test +#/, "", id)
    sub(/:.*$/, "", id)
    name = $0
    sub(/^[^:]*: /, "", name)
    sub(/ .*$/, "", name)
    good = ($0 ~ / Passed /)
    p = 0 + pass[id]; f = 0 + fail[id]; s = 0 + skip[id]
    if (own[id]) { p = own_pass[id]; f = own_fail[id]; s = own_skip[id] }
    else if (!criterion[id]) { p = (good && !pending[id]); s = (good && pending[id]); f = !good }
    if (report[id]) good = 0
    if (!good && f == 0) f = 1
    passed += p; failed += f; skipped += s
    seconds = $0
    sub(/^.* ([A-Za-z]|\*)+ +/, "", seconds)
    printf "    %-28s %4d passed%s%s   %s\n", name, p, f ? ", " f " FAILED" : "", s ? ", " s " skipped" : "", seconds
    if (!good) printf "%s", output[id]
    delete output[id]
}

END {
    for (reason in reasons) printf "    skipped: %s%s\n", reason, (times[reason] > 1 ? " (" times[reason] " times)" : "")
    printf "COUNTS %d %d %d\n", passed, failed, skipped
}
