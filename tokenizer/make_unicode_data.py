#!/usr/bin/env python3
"""Writes tests/fixtures/tokenizer/unicode.tsv.gz, the data behind unicode_tables.c.

    pip install tokenizers==0.23.3
    make_unicode_data.py STEPS_TSV OUT.tsv.gz

STEPS_TSV is what Hugging Face's BertNormalizer and BertPreTokenizer do to every code point, step by step (clean, CJK,
NFD, combining class, Mn, lowercase, space, punctuation). This script asks the same library about the steps that
other tokenizers use and appends them as more properties:

    nfkd       compatibility decomposition, where it differs from nfd
    nocompose  code points with a canonical decomposition that NFC does not put together again
    mark       removed by StripAccents (all of M*, where BERT removes Mn only)
    numeric    what Digits takes for a digit
    word       \\w of the regular expressions (Whitespace pre-tokeniser, single_word added tokens)

No Unicode library can stand in for this: Hugging Face uses three versions of Unicode at once.
"""
import gzip
import os
import sys

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
from tokenizers import normalizers, pre_tokenizers  # noqa: E402


def ranges(name, points):
    points = sorted(points)
    i = 0
    while i < len(points):
        j = i
        while j + 1 < len(points) and points[j + 1] == points[j] + 1:
            j += 1
        yield f"{name}\t{points[i]:04X}\t{points[j]:04X}\t"
        i = j + 1


def main(steps, out):
    nfkd, nfd, nfc = normalizers.NFKD(), normalizers.NFD(), normalizers.NFC()
    strip, words = normalizers.StripAccents(), pre_tokenizers.Whitespace()
    digits = pre_tokenizers.Digits(individual_digits=False)
    compat, nocompose, mark, word, numeric = [], [], [], [], []
    for c in range(0x110000):
        if 0xD800 <= c < 0xE000:
            continue
        s = chr(c)
        d, k = nfd.normalize_str(s), nfkd.normalize_str(s)
        if k != d:
            compat.append(f"nfkd\t{c:04X}\t{c:04X}\t" + " ".join(f"{ord(x):04X}" for x in k))
        if d != s and nfc.normalize_str(d) != s:
            nocompose.append(c)
        if strip.normalize_str(s) == "":
            mark.append(c)
        if len(words.pre_tokenize_str("a" + s + "a")) == 1:
            word.append(c)
        if len(digits.pre_tokenize_str("a" + s + "a")) == 3:
            numeric.append(c)
    lines = open(steps, encoding="ascii").read().splitlines() + compat
    for name, points in (("nocompose", nocompose), ("mark", mark), ("word", word), ("numeric", numeric)):
        lines += ranges(name, points)
    with open(out, "wb") as f, gzip.GzipFile("", "wb", 9, f, mtime=0) as z:
        z.write(("\n".join(lines) + "\n").encode("ascii"))


if __name__ == "__main__":
    main(*sys.argv[1:])
