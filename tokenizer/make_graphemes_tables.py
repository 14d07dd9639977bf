#!/usr/bin/env python3
"""Writes graphemes_tables.h: the extended-grapheme-cluster class of every code point, as the segmenter inside
Hugging Face `tokenizers` sees it.

    pip install tokenizers==0.23.3 && python3 make_graphemes_tables.py [--check N] OUT

Nothing is read from a Unicode file: every class is measured. The oracle is a Precompiled normaliser whose charsmap turns
each code point into "P"; since it replaces a cluster of fewer than 6 bytes as a whole and a longer one character by
character, the number of P says where clusters end. --check N compares the rules of graphemes.c, written again below,
with the oracle on N random strings. OUT ending in .h: the table; ending in .tsv: N random strings with their P counts,
for the tests.
"""
import argparse
import random
import struct

from tokenizers import __version__, normalizers

CLASSES = ["OTHER", "EXTEND", "LINKER", "ZWJ", "NON_JOINER", "SPACING", "PREPEND", "CONTROL", "PICTOGRAPH", "CONSONANT",
           "HANGUL_L", "HANGUL_V", "HANGUL_T", "HANGUL_LV", "HANGUL_LVT"]
ATTACH = {"EXTEND", "LINKER", "ZWJ", "NON_JOINER", "SPACING"}
MARK, KA, VIRAMA, ZWJ, COPYRIGHT, GA, JUNG, JONG = "\u0300", "\u0915", "\u094d", "\u200d", "\u00a9", "\uac00", "\u1161", "\u11a8"


def code_points():
    return (c for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000)


def map_everything():
    """A charsmap in which every code point has the replacement "P": a darts-clone trie with one block of 256 units for
    each distinct node."""
    root = {}
    for c in code_points():
        node = root
        *head, last = chr(c).encode()
        for b in head:
            node = node.setdefault(b, {})
        node[last] = None
    units, blocks = [0] * 256, {}

    def block(items):
        if items not in blocks:
            base = blocks[items] = len(units)
            units.extend([0] * 256)
            for label, target in items:
                offset = (base ^ label) ^ (leaf if target is None else target)
                code = offset << 10 if offset < 1 << 21 else offset << 2 | 0x200
                units[base ^ label] = code | label | (0x100 if target is None else 0)
        return blocks[items]

    def place(node):
        return block(tuple((label, child if child is None else place(child)) for label, child in sorted(node.items())))

    leaf = block(())  # a leaf's value stands where its unit points: index 0 of the replacements
    units[leaf] = 0x80000000
    units[0] = place(root) << 10
    return struct.pack(f"<I{len(units)}I", 4 * len(units), *units) + b"P\0"


normalize = normalizers.Precompiled(map_everything()).normalize_str


def pieces(*parts):
    out = normalize("".join(x if isinstance(x, str) else chr(x) for x in parts))
    assert set(out) <= {"P"}, out
    return len(out)


def classify(c):
    """A base with U+0300 is short, hence one P, unless what stands before has made the cluster long."""
    if pieces(c, MARK, MARK) == 2:
        return "CONTROL"
    if pieces("A", c) == 1:
        if chr(c) == ZWJ:
            return "ZWJ"
        if pieces(KA, c, KA, MARK) == 4:
            return "LINKER"
        if pieces(KA, VIRAMA, c, KA, MARK) == 5:
            return "EXTEND"
        return "NON_JOINER" if pieces(COPYRIGHT, c, ZWJ, COPYRIGHT, MARK) == 5 else "SPACING"
    if pieces(c, "A") == 1:
        return "PREPEND"
    if pieces(COPYRIGHT, ZWJ, c) == 3:
        return "PICTOGRAPH"
    if pieces(c, VIRAMA, KA, MARK) == 4:
        return "CONSONANT"
    if pieces(c, GA, MARK) == 3:
        return "HANGUL_L"
    if pieces(c, JUNG, MARK) == 3:
        return "HANGUL_V" if pieces(GA, c, MARK) == 3 else "HANGUL_LV"
    if pieces(c, JONG, MARK) == 3:
        return "HANGUL_T" if pieces(GA, c, MARK) == 3 else "HANGUL_LVT"
    return "OTHER"


HANGUL_AFTER = {"HANGUL_L": {"HANGUL_L", "HANGUL_V", "HANGUL_LV", "HANGUL_LVT"}, "HANGUL_V": {"HANGUL_V", "HANGUL_T"},
                "HANGUL_LV": {"HANGUL_V", "HANGUL_T"}, "HANGUL_T": {"HANGUL_T"}, "HANGUL_LVT": {"HANGUL_T"}}


def model(cls, s):
    """How many P the rules of graphemes.c give."""
    total = i = 0
    while i < len(s):
        j, k = i + 1, cls[ord(s[i])]
        if k == "CONTROL":
            j += s[i:i + 2] == "\r\n"
        else:
            while k == "PREPEND" and j < len(s) and cls[ord(s[j])] != "CONTROL":
                k = cls[ord(s[j])]
                j += 1
            picture, linked, conjunct = k == "PICTOGRAPH", False, k == "CONSONANT"
            while j < len(s) and k != "PREPEND":
                n = cls[ord(s[j])]
                if n in ATTACH:
                    picture = picture and k != "ZWJ" and n != "SPACING"
                    conjunct = conjunct and n in ("EXTEND", "LINKER", "ZWJ")
                    linked = conjunct and (linked or n == "LINKER")
                elif n == "PICTOGRAPH" and picture and k == "ZWJ" or n == "CONSONANT" and linked:
                    picture, linked, conjunct = n == "PICTOGRAPH", False, n == "CONSONANT"
                elif n not in HANGUL_AFTER.get(k, ()):
                    break
                k = n
                j += 1
        total += 1 if len(s[i:j].encode()) < 6 else j - i
        i = j
    return total


def samples(cls, n, seed):
    r = random.Random(seed)
    groups = [[c for c in cls if cls[c] == k] for k in CLASSES if k != "OTHER"]
    groups = [g for g in groups if g] + [[c for c in g if c < 0x800] for g in groups if any(c < 0x800 for c in g)]
    groups += [[0x41], [0xE9], [0x4E00], [10], [13], [0x300], [0x1F1E6], [0x200D], [0x94D], [0xA9], [0xAE], list(range(1, 0x180))]
    for _ in range(n):
        yield "".join(chr(r.choice(r.choice(groups))) for _ in range(r.randint(2, 7)))


def write_header(cls, path):
    pages, index = {}, []
    for first in range(0, 0x110000, 128):
        page = tuple(CLASSES.index(cls.get(c, "CONTROL" if c == 0 else "OTHER")) for c in range(first, first + 128))
        index.append(pages.setdefault(page, len(pages)))
    assert len(pages) < 256
    with open(path, "w") as f:
        f.write("/* Generated by make_graphemes_tables.py from tokenizers " + __version__ + "; do not edit.\n"
                " * Two stages: page of 128 code points, then two 4-bit classes a byte. */\n"
                "#ifndef CRANK_TOKENIZER_GRAPHEMES_TABLES_H\n#define CRANK_TOKENIZER_GRAPHEMES_TABLES_H\n\n#include <stdint.h>\n\n"
                "/* clang-format off */\nenum grapheme_class {\n")
        f.writelines(f"    GRAPHEME_{k} = {i},\n" for i, k in enumerate(CLASSES))
        f.write("};\n\nstatic const uint8_t grapheme_page[0x110000 / 128] = {\n")
        write_bytes(f, index)
        f.write(f"}};\n\nstatic const uint8_t grapheme_pages[{len(pages)}][64] = {{\n")
        for page in pages:
            f.write("    {\n")
            write_bytes(f, [page[i] | page[i + 1] << 4 for i in range(0, 128, 2)])
            f.write("    },\n")
        f.write("};\n/* clang-format on */\n\n#endif\n")
    print(f"{path}: {len(pages)} pages")


def write_bytes(f, values):
    for i in range(0, len(values), 24):
        f.write("    " + ",".join(map(str, values[i:i + 24])) + ",\n")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--check", type=int, default=0)
    ap.add_argument("out")
    a = ap.parse_args()
    cls = {c: classify(c) for c in code_points()}
    print({k: sum(v == k for v in cls.values()) for k in CLASSES})
    wrong = [s for s in samples(cls, a.check, 1) if model(cls, s) != pieces(s)]
    print(f"{a.check} random strings, {len(wrong)} differ", [[f"{ord(c):04X} {cls[ord(c)]}" for c in s] for s in wrong[:5]])
    if a.out.endswith(".h"):
        write_header(cls, a.out)
    else:
        with open(a.out, "w") as f:
            f.write("# clusters\ttext (hex UTF-8): what a charsmap that maps every character to one makes of a text\n")
            f.writelines(f"{pieces(s)}\t{s.encode().hex()}\n" for s in samples(cls, a.check, 2))
    assert not wrong


if __name__ == "__main__":
    main()
