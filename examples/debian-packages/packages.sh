#!/usr/bin/env bash
# Debian package descriptions as documents.
#
#     packages.sh CACHE_DIR > packages.tsv
#
# One line a package: its text in lower case, words apart by single blanks (what candidates.awk looks
# at), a tab, and {"id","text"} (what crank rank reads). The packages are those of the machine's apt
# lists. Where these lack the long descriptions, as in containers, they are fetched into CACHE_DIR,
# with apt settings of their own, so that the machine's lists stay as they are; without a network the
# one-line descriptions serve.
set -euo pipefail
cache=$1
here=$(dirname "$0")
lists=/var/lib/apt/lists

if ! compgen -G "$lists/*Translation-en*" >/dev/null; then
    mkdir -p "$cache/lists/partial" "$cache/archives/partial"
    cp -p "$lists"/*_InRelease "$lists"/*_Packages* "$cache/lists/" 2>/dev/null || true
    if apt-get update -q -o Acquire::Languages=en -o Dir::State::lists="$cache/lists" \
        -o Dir::Cache="$cache" -o APT::Sandbox::User=root >"$cache/update.log" 2>&1 &&
        compgen -G "$cache/lists/*Translation-en*" >/dev/null; then
        lists=$cache/lists
    fi
fi

shopt -s nullglob
files=("$lists"/*Translation-en*)
[[ ${#files[@]} -gt 0 ]] || files=("$lists"/*_Packages*)
for file in "${files[@]}"; do
    /usr/lib/apt/apt-helper cat-file "$file"
    echo
done | LC_ALL=C awk -f "$here/packages.awk"
