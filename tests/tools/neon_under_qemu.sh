#!/usr/bin/env bash
# The AArch64 kernels, built by a cross-compiler and run by qemu-user: the op cases against the
# reference, and bf16 and int8 bits equal to this machine's. Optional: needs gcc-aarch64-linux-gnu,
# libc6-dev-arm64-cross and qemu-user; without them it says so and is a skip (exit code 77).
set -euo pipefail
cd "$(dirname "$0")/../.."
for tool in aarch64-linux-gnu-gcc qemu-aarch64; do
    command -v "$tool" >/dev/null || { echo "skipped: no $tool"; exit 77; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# xxhash is used header-only, so that no AArch64 library is needed
mkdir "$work/include"
cp "$(pkg-config --variable=includedir libxxhash)/xxhash.h" "$work/include/"
sources=(base/memory.c base/status.c base/team.c base/utf8.c kernels/ops.c kernels/layouts.c kernels/ref/*.c
    kernels/cpu/*.c kernels/cuda/layout.c weights/dtype.c tests/support/ops_cases.c tests/support/ops_list.c
    tests/support/ops_programs.c tests/tools/level_bits.c)
flags=(-std=c11 -O2 -ffp-contract=off -fno-math-errno -Wall -Wextra -Wno-unused-function
    -DXXH_INLINE_ALL -I. -Ibase -Iruntime -Itests -I"$work/include")
aarch64-linux-gnu-gcc "${flags[@]}" -static -o "$work/neon" "${sources[@]}" -lm -lpthread
cc "${flags[@]}" -o "$work/host" tests/tools/level_bits.c tests/support/ops_cases.c \
    tests/support/ops_list.c tests/support/ops_programs.c "${1:-build/release}/libcrank.a" \
    $(pkg-config --libs jansson nettle libxxhash zlib) -lm -lpthread -ldl
qemu-aarch64 -cpu max "$work/neon" | tee "$work/neon.txt"
"$work/host" | tee "$work/host.txt"
for dtype in bf16 int8; do
    bits=$(awk -v d=$dtype '$2 == d { print $3 }' "$work/neon.txt" "$work/host.txt" | sort -u | wc -l)
    [[ $bits == 1 ]] || { echo "FAIL: $dtype has $bits different results"; exit 1; }
    echo "$dtype: the same bits on every level of both architectures"
done
